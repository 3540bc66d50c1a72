/* classifier.c - networks that classify images. */
#include "generate/classifier.h"

#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "data/images.h"
#include "formats/safetensors.h"

#include <math.h>
#include <string.h>

enum { CLASSES_MAX = 1000000, CONFIG_BYTES_MAX = 1 << 28 };

/* ---- the graph ---- */

static grd_tensor normalised(grd_tensor x)
{
    grd_graph *graph = grd_tensor_graph(x);
    grd_dims channels = grd_shape(grd_dim(x, -1));
    grd_scope_push(graph, "input");
    grd_tensor mean = grd_state(graph, "mean", GRD_F32, channels);
    grd_tensor deviation = grd_state_of_ones(graph, "deviation", channels);
    grd_scope_pop(graph);
    return grd_div(grd_sub(x, mean), deviation);
}

static grd_tensor resnet(grd_tensor x, const grd_settings *settings, grd_resnet_depth depth, bool training,
                         const grd_drop *drop)
{
    grd_resnet net = {.depth = depth, .classes = settings->model.classes, .width = settings->model.gpt.width};
    net.imagenet_stem = grd_dim(x, 1) > 64 && grd_dim(x, 2) > 64;
    net.training = training;
    net.drop = *drop;
    return grd_resnet_logits(x, &net);
}

static grd_vit vit_of(const grd_settings *settings)
{
    const grd_gpt *g = &settings->model.gpt;
    return (grd_vit){.layers = g->layers,
                     .heads = g->heads,
                     .width = g->width,
                     .mlp_width = g->mlp_width,
                     .patch = settings->model.patch,
                     .classes = settings->model.classes,
                     .mean_pool = settings->model.pool == 1,
                     .dropout = g->dropout};
}

static grd_tensor vit(grd_tensor x, const grd_settings *settings, grd_tensor key)
{
    grd_vit net = vit_of(settings);
    grd_vit_resolve(&net, grd_dim(x, 1), grd_dim(x, 2), NULL); /* was asked before, see grdi_classifier_check */
    return grd_vit_logits(x, &net, key);
}

grd_status grdi_classifier_check(const grd_settings *settings, const grd_images_info *info, grd_error *error)
{
    grd_vit net = vit_of(settings);
    return settings->model.kind == GRD_MODEL_VIT ? grd_vit_resolve(&net, info->height, info->width, error) : GRD_OK;
}

grd_tensor grdi_mlp_values(const grd_settings *settings, grd_tensor x, int64_t outputs, const grd_drop *drop)
{
    int64_t widths[GRDI_HIDDEN_MAX + 1];
    int32_t hidden = settings->model.gpt.layers < GRDI_HIDDEN_MAX ? settings->model.gpt.layers : GRDI_HIDDEN_MAX;
    for (int32_t i = 0; i < hidden; i++) widths[i] = settings->model.gpt.width;
    widths[hidden] = outputs;
    return grd_mlp_with(x, widths, hidden + 1, drop);
}

grd_tensor grdi_classifier_logits(const grd_settings *settings, grd_tensor x, bool training, grd_tensor key)
{
    int64_t classes = settings->model.classes, width = settings->model.gpt.width;
    const grd_drop drop = {settings->model.gpt.dropout, key};
    x = normalised(x);
    switch (settings->model.kind) {
    case GRD_MODEL_RESNET18: return resnet(x, settings, GRD_RESNET18, training, &drop);
    case GRD_MODEL_RESNET34: return resnet(x, settings, GRD_RESNET34, training, &drop);
    case GRD_MODEL_RESNET50: return resnet(x, settings, GRD_RESNET50, training, &drop);
    case GRD_MODEL_VIT: return vit(x, settings, key);
    case GRD_MODEL_MLP: return grdi_mlp_values(settings, grd_flatten(x, 1, -1), classes, &drop);
    case GRD_MODEL_LOGISTIC: return grd_linear(grd_flatten(x, 1, -1), "head", classes, .zero_init = true);
    default: return grd_lenet_with(x, classes, width, &drop);
    }
}

/* ---- scoring ---- */

grd_status grdi_scorer_open(grdi_scorer *scorer, grd_model *model, const grd_settings *settings,
                            const grd_images_info *info, grd_error *error)
{
    grd_status fits = grdi_classifier_check(settings, info, error);
    if (fits) return fits;
    grd_graph *graph = grd_graph_new(model);
    scorer->batch = settings->train.batch;
    scorer->pixels = info->height * info->width * info->channels;
    scorer->classes = settings->model.classes;
    scorer->x = grd_input(graph, "x", GRD_F32, grd_shape(scorer->batch, info->height, info->width, info->channels));
    scorer->logits = grdi_classifier_logits(settings, scorer->x, false, (grd_tensor){NULL, 0});
    scorer->program = grd_program_new(&scorer->logits, 1);
    const grd_error *e = grd_graph_error(graph);
    if (!scorer->program) return grd_fail(error, e->status ? e->status : GRD_E_MEMORY, "%s", e->message);
    scorer->inputs = grdi_alloc_zero((size_t)(scorer->batch * scorer->pixels), sizeof(float));
    scorer->values = grdi_alloc((size_t)(scorer->batch * scorer->classes) * sizeof(float));
    scorer->labels = grdi_alloc((size_t)scorer->batch * sizeof(int32_t));
    if (scorer->inputs && scorer->values && scorer->labels) return GRD_OK;
    return grd_fail(error, GRD_E_MEMORY, "out of memory for evaluation");
}

static grd_status run_batch(grdi_scorer *z, grd_error *error)
{
    grd_program_feed(z->program, z->x, z->inputs);
    grd_status status = grd_program_run(z->program);
    if (!status) status = grd_program_read(z->program, z->logits, z->values);
    return status ? grd_fail(error, status, "%s", grd_program_error(z->program)->message) : GRD_OK;
}

/* Reads one image of a batch; what is damaged is marked where that is allowed. */
static grd_status read_image(const grdi_scorer *z, const grd_images *images, int64_t index, int64_t i, grd_error *error)
{
    float *to = z->inputs + i * z->pixels;
    z->labels[i] = grd_images_label(images, index);
    grd_status status = grd_images_get(images, index, to, error);
    if (status != GRD_E_FORMAT || !grdi_images_skip(images)) return status;
    memset(to, 0, (size_t)z->pixels * sizeof(float));
    z->labels[i] = GRDI_DAMAGED;
    return GRD_OK;
}

/* Logits of images chosen evenly: number first .. first + count of `total`. */
static grd_status run_chosen(grdi_scorer *z, const grd_images *images, int64_t first, int64_t count, int64_t total,
                             grd_error *error)
{
    int64_t all = grd_images_about(images).count, at = count;
    grd_error first_problem = {GRD_OK, ""};
#pragma omp parallel for schedule(dynamic, 4) if (grd_images_path(images, 0) != NULL)
    for (int64_t i = 0; i < count; i++) {
        grd_error problem = {GRD_OK, ""};
        if (!read_image(z, images, (first + i) * all / total, i, &problem)) continue;
#pragma omp critical(grdi_scorer_read)
        if (i < at) at = i, first_problem = problem;
    }
    return at < count ? grd_fail(error, first_problem.status, "%s", first_problem.message) : run_batch(z, error);
}

grd_status grdi_scorer_logits(grdi_scorer *z, const grd_images *images, int64_t first, int64_t count, grd_error *error)
{
    return run_chosen(z, images, first, count, grd_images_about(images).count, error);
}

/* What a batch has more is scored and not counted. */
static grd_status score_batch(grdi_scorer *z, const grd_images *images, int64_t first, int64_t count, int64_t total,
                              grd_classification *counts, grd_error *error)
{
    int64_t all = grd_images_about(images).count;
    grd_status status = run_chosen(z, images, first, count, total, error);
    for (int64_t i = 0; i < count && !status; i++)
        if (z->labels[i] >= 0)
            grd_classification_add(counts, (first + i) * all / total, z->labels[i], z->values + i * z->classes);
    return status;
}

static void describe(const grd_classification *counts, grd_event *event)
{
    double total = (double)counts->total;
    event->samples = counts->total;
    event->loss = counts->nats / total;
    event->accuracy = (double)counts->right / total;
    if (counts->classes <= GRD_TOP) return;
    event->figures[event->figure_count++] = (grd_figure){"top5", (double)counts->right_of_top / total};
}

grd_status grdi_scorer_run(grdi_scorer *scorer, const grd_images *images, int64_t most, const volatile int *stop,
                           grd_classification *counts, grd_event *event, grd_error *error)
{
    int64_t count = grd_images_about(images).count, total = most > 0 && most < count ? most : count;
    grd_status status = GRD_OK;
    event->kind = GRD_EVENT_EVAL;
    event->unit = "images";
    event->bits_per_byte = NAN;
    event->part = 0;
    for (int64_t first = 0; !status && first < total; first += scorer->batch) {
        int64_t left = total - first;
        if (stop && *stop) return GRD_OK;
        status = score_batch(scorer, images, first, left < scorer->batch ? left : scorer->batch, total, counts, error);
    }
    if (!status && counts->total == 0) status = grd_fail(error, GRD_E_FORMAT, "no test image can be read");
    event->part = (double)total / (double)count;
    if (!status) describe(counts, event);
    return status;
}

void grdi_scorer_close(grdi_scorer *scorer)
{
    grdi_free(scorer->inputs);
    grdi_free(scorer->values);
    grdi_free(scorer->labels);
}

/* ---- weights in files ---- */

static bool is_kept(const grd_variable *v)
{
    return v->kind == GRD_VARIABLE_PARAMETER || v->kind == GRD_VARIABLE_STATE;
}

/* The names of classes as Hugging Face's configs have them. */
static grd_status add_names(json_t *config, const grdi_classifier_about *about)
{
    json_t *names = json_object();
    for (int64_t c = 0; c < about->classes && names; c++) {
        char number[24];
        snprintf(number, sizeof(number), "%lld", (long long)c);
        if (json_object_set_new(names, number, json_string(about->names[c]))) {
            json_decref(names);
            names = NULL;
        }
    }
    return json_object_set_new(config, "id2label", names) ? GRD_E_MEMORY : GRD_OK;
}

static grd_status add_config(const grd_settings *settings, const grdi_classifier_about *about,
                             grdi_checkpoint_writer *w, grd_error *error)
{
    json_t *config =
        json_pack("{s:s, s:s, s:I, s:I, s:[I, I], s:I, s:s}", "model_type", "gradus", "gradus_kind",
                  grd_model_kind_name(settings->model.kind), "num_labels", (json_int_t)settings->model.classes, "width",
                  (json_int_t)settings->model.gpt.width, "image_size", (json_int_t)about->height,
                  (json_int_t)about->width, "num_channels", (json_int_t)about->channels, "note",
                  "weights by Gradus's own names: Hugging Face has no architecture for them");
    grd_status status = config && (!about->names || !add_names(config, about))
                            ? grdi_checkpoint_add_json(w, "config.json", config)
                            : grd_fail(error, GRD_E_MEMORY, "config.json: out of memory");
    json_decref(config);
    return status;
}

static grd_status read_names(const json_t *list, grdi_classifier_about *about, const char *path, grd_error *error)
{
    if (!list) return GRD_OK;
    about->names = grdi_alloc_zero((size_t)about->classes, sizeof(char *));
    if (!about->names) return grd_fail(error, GRD_E_MEMORY, "%s: out of memory", path);
    for (int64_t c = 0; c < about->classes; c++) {
        char number[24];
        snprintf(number, sizeof(number), "%lld", (long long)c);
        const char *name = json_string_value(json_object_get(list, number));
        if (!name) return grd_fail(error, GRD_E_FORMAT, "%s: id2label has no text for class %s", path, number);
        if (!(about->names[c] = grdi_strdup(name))) return grd_fail(error, GRD_E_MEMORY, "%s: out of memory", path);
    }
    return GRD_OK;
}

grd_status grdi_classifier_read_about(const char *folder, grdi_classifier_about *about, grd_error *error)
{
    char *path = grdi_path_join(folder, "config.json");
    if (!path) return grd_fail(error, GRD_E_MEMORY, "%s: out of memory", folder);
    json_t *config = grd_json_read(path, CONFIG_BYTES_MAX, error);
    grd_status status = config ? GRD_OK : error->status;
    const json_t *size = json_object_get(config, "image_size");
    about->height = json_integer_value(json_array_get(size, 0));
    about->width = json_integer_value(json_array_get(size, 1));
    about->channels = json_integer_value(json_object_get(config, "num_channels"));
    about->classes = json_integer_value(json_object_get(config, "num_labels"));
    if (!status && (about->classes < 1 || about->classes > CLASSES_MAX))
        status = grd_fail(error, GRD_E_FORMAT, "%s: num_labels is not a number of classes", path);
    if (!status) status = read_names(json_object_get(config, "id2label"), about, path, error);
    json_decref(config);
    grdi_free(path);
    return status;
}

void grdi_classifier_free_about(grdi_classifier_about *about)
{
    for (int64_t c = 0; about->names && c < about->classes; c++) grdi_free(about->names[c]);
    grdi_free(about->names);
    about->names = NULL;
}

grd_status grdi_classifier_add_weights(grd_model *model, const grd_settings *settings,
                                       const grdi_classifier_about *about, grdi_checkpoint_writer *w, grd_error *error)
{
    grd_status status =
        grdi_checkpoint_add_variables(w, "model.safetensors", model, grd_model_variable_count(model), is_kept);
    return status ? status : add_config(settings, about, w, error);
}

/* Weights of another float type than the model's: those of a run that kept them in bf16, or for one that does. */
static grd_status write_converted(grd_model *model, const grd_variable *v, const grd_file_tensor *t, grd_error *error)
{
    void *data = grdi_alloc(v->size_bytes + 1);
    if (!data) return grd_fail(error, GRD_E_MEMORY, "%s: out of memory", v->path);
    grdi_convert_floats(data, v->dtype, t->data, t->dtype, (size_t)grd_dims_count(v->dims));
    grd_status status = grd_model_write(model, v->path, data, error);
    grdi_free(data);
    return status;
}

static bool is_weight(const grd_variable *v, grd_dtype dtype)
{
    bool either = (v->dtype == GRD_F32 && dtype == GRD_BF16) || (v->dtype == GRD_BF16 && dtype == GRD_F32);
    return v->kind == GRD_VARIABLE_PARAMETER && either;
}

grd_status grdi_classifier_read_weights(grd_model *model, const grd_safetensors *file, grd_error *error)
{
    grd_variable v;
    char a[GRD_DIMS_TEXT_MAX], b[GRD_DIMS_TEXT_MAX];
    for (int64_t i = 0; grd_model_variable_at(model, i, &v); i++) {
        if (!is_kept(&v)) continue;
        const grd_file_tensor *t = grd_safetensors_find(file, v.path);
        if (!t && v.kind == GRD_VARIABLE_STATE) continue;
        if (!t) return grd_fail(error, GRD_E_FORMAT, "has no tensor '%s'", v.path);
        bool converts = is_weight(&v, t->dtype);
        if ((t->dtype != v.dtype && !converts) || !grd_dims_equal(t->dims, v.dims))
            return grd_fail(error, GRD_E_FORMAT, "'%s' is %s%s, the model's is %s%s", v.path, grd_dtype_name(t->dtype),
                            grd_dims_text(t->dims, a), grd_dtype_name(v.dtype), grd_dims_text(v.dims, b));
        grd_status status =
            converts ? write_converted(model, &v, t, error) : grd_model_write(model, v.path, t->data, error);
        if (status) return status;
    }
    return GRD_OK;
}
