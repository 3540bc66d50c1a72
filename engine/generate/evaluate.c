/* evaluate.c - scores a text with a trained model. */
#include "base/memory.h"
#include "data/corpus.h"
#include "data/scores.h"
#include "generate/load.h"
#include "generate/image_sets.h"
#include "generate/series_model.h"
#include "generate/tabular.h"

#include <math.h>
#include <string.h>

enum { BATCH_TOKENS = 4096 };

typedef struct evaluator {
    const grd_evaluate_options *options;
    grdi_loaded from;
    grd_corpus *corpus;
    grd_tokens *shards[GRD_FILES_MAX];
    size_t shard_count;
    grdi_scores scores;
    grd_tensor ids, targets, losses;
    grd_program *program;
    int64_t batch, context;
    int32_t *inputs; /* [2][batch * context]: inputs and targets */
    float *values;   /* [batch * context] */
    grd_error *error;
} evaluator;

static grd_status out_of_memory(const evaluator *e)
{
    return grd_fail(e->error, GRD_E_MEMORY, "out of memory for evaluation");
}

/* ---- what is scored ---- */

static grd_status open_shards(evaluator *e, const char *const *paths, int count)
{
    for (int i = 0; i < count; i++) {
        grd_status status = grd_tokens_open(paths[i], GRD_TOKENS_AUTO, &e->shards[i], e->error);
        if (status) return status;
        e->shard_count++; /* from now on it is closed with the others */
        status = grd_tokens_check(e->shards[i], e->from.settings->model.gpt.vocab, e->error);
        if (status) return status;
    }
    return grdi_scores_of_shards(e->shards, e->shard_count, e->context, &e->scores, e->error);
}

static grd_status open_text(evaluator *e, const char *path, double validation_part, int32_t threads)
{
    const grd_corpus_options options = {.size = sizeof(options),
                                        .validation_part = validation_part,
                                        .no_validation = validation_part <= 0,
                                        .threads = threads,
                                        .pipes = true};
    if (!e->from.tokenizer)
        return grd_fail(e->error, GRD_E_ARGUMENT, "%s: the model has no tokenizer.json (give a token shard)", path);
    grd_status status = grd_corpus_open(path, &options, &e->corpus, e->error);
    grd_part part = validation_part > 0 ? GRD_VALIDATION : GRD_TRAIN;
    if (!status) status = grdi_corpus_encode_part(e->corpus, part, e->from.tokenizer, e->error);
    if (status) return status;
    return grdi_scores_of_corpus(e->corpus, part, e->from.tokenizer, e->context, &e->scores, e->error);
}

static bool is_shard(const char *path)
{
    size_t length = strlen(path);
    return length > 4 && strcmp(path + length - 4, ".bin") == 0;
}

static grd_status open_data(evaluator *e, const char *run, int32_t threads)
{
    const grd_settings *settings = e->from.settings;
    const char *data = e->options->data;
    if (data) return is_shard(data) ? open_shards(e, &data, 1) : open_text(e, data, 0, threads);
    if (settings->data.path && settings->data.validation_part > 0)
        return open_text(e, settings->data.path, settings->data.validation_part, threads);
    if (settings->data.validation_count)
        return open_shards(e, (const char *const *)settings->data.validation, settings->data.validation_count);
    return grd_fail(e->error, GRD_E_ARGUMENT, "%s: names no validation text (give one: --data PATH)", run);
}

/* ---- scoring ---- */

/* As many windows at once as training has in a batch, or as fit into some thousand tokens. */
static int64_t batch_of(const evaluator *e)
{
    int64_t batch = BATCH_TOKENS / e->context;
    if (!e->from.hf_folder) batch = e->from.settings->train.batch;
    if (batch > e->scores.windows) batch = e->scores.windows;
    return batch < 1 ? 1 : batch;
}

static grd_status build(evaluator *e)
{
    const grd_gpt *gpt = &e->from.settings->model.gpt;
    const float one = 1;
    grd_graph *graph = grd_graph_new(e->from.model);
    grd_dims dims = grd_shape(e->batch, e->context);
    e->ids = grd_input(graph, "ids", GRD_I32, dims);
    e->targets = grd_input(graph, "targets", GRD_I32, dims);
    grd_tensor scale = grd_constant(graph, GRD_F32, grd_scalar(), &one), none = {0}, outputs[2];
    const grd_cross_entropy_options each = {.size = sizeof each, .losses = &e->losses};
    outputs[0] = grd_gpt_loss(grd_gpt_hidden(e->ids, gpt, none), gpt, e->targets, scale, &each);
    outputs[1] = e->losses;
    e->program = grd_program_new(outputs, 2);
    const grd_error *problem = grd_engine_error(e->from.engine);
    if (problem->status) return grd_fail(e->error, problem->status, "%s", problem->message);
    size_t count = (size_t)grd_dims_count(dims);
    e->inputs = grdi_alloc(2 * count * sizeof(int32_t));
    e->values = grdi_alloc(count * sizeof(float));
    return e->program && e->inputs && e->values ? GRD_OK : out_of_memory(e);
}

/* Windows first, first + 1, ...; those past the last one score nothing. */
static grd_status score_batch(const evaluator *e, int64_t first, double *nats)
{
    int64_t count = e->batch * e->context;
    int32_t *targets = e->inputs + count;
    for (int64_t b = 0; b < e->batch; b++)
        grdi_scores_get(&e->scores, first + b, e->inputs + b * e->context, targets + b * e->context);
    grd_program_feed(e->program, e->ids, e->inputs);
    grd_program_feed(e->program, e->targets, targets);
    grd_status status = grd_program_run(e->program);
    if (!status) status = grd_program_read(e->program, e->losses, e->values);
    if (status) return grd_fail(e->error, status, "%s", grd_program_error(e->program)->message);
    for (int64_t i = 0; i < count; i++)
        if (targets[i] != GRD_IGNORE) *nats += e->values[i];
    return GRD_OK;
}

static grd_status score_all(const evaluator *e, grd_event *event)
{
    double nats = 0;
    for (int64_t first = 0; first < e->scores.windows; first += e->batch) {
        grd_status status = score_batch(e, first, &nats);
        if (status) return status;
    }
    *event = (grd_event){.kind = GRD_EVENT_EVAL, .step = e->from.step, .tokens = e->scores.tokens, .part = 1};
    event->loss = nats / (double)e->scores.tokens;
    event->bits_per_byte = e->scores.size_bytes ? nats / log(2.0) / (double)e->scores.size_bytes : NAN;
    return GRD_OK;
}

/* A window need not be longer than the text. */
static grd_status choose_context(evaluator *e)
{
    int64_t most = e->from.settings->model.gpt.context, wanted = e->options->context;
    e->context = wanted > 0 ? wanted : most;
    if (e->context <= most) return GRD_OK;
    return grd_fail(e->error, GRD_E_ARGUMENT, "--context: %lld is more than the model's %lld", (long long)wanted,
                    (long long)most);
}

/* The test images of the run's own data, or of what else is given. */
static grd_status open_images(const evaluator *e, const grdi_classifier_about *about, int32_t threads,
                              grd_images **images)
{
    const grd_settings *settings = e->from.settings;
    const char *data = e->options->data;
    if (!data) return grdi_image_set_open(settings, GRD_VALIDATION, about, threads, images, e->error);
    return grdi_image_set_open_tests(settings, data, about, threads, images, e->error);
}

/* A classifier of images. */
static grd_status evaluate_images(evaluator *e, int32_t threads, grd_event *event)
{
    const char *path = e->options->data ? e->options->data : e->from.settings->data.path;
    grdi_classifier_about about = {.height = 0};
    grdi_scorer scorer = {.batch = 0};
    grd_classification own = {.classes = 0}, *counts = e->options->classification;
    if (!counts) counts = &own;
    grd_images *images = NULL;
    grd_status status = grdi_classifier_read_about(e->from.weights, &about, e->error);
    if (!status) status = open_images(e, &about, threads, &images);
    grd_images_info info = {.count = 0};
    if (!status) info = grd_images_about(images);
    if (!status && info.classes > e->from.settings->model.classes)
        status = grd_fail(e->error, GRD_E_FORMAT, "%s: has a label %lld, the model knows %lld classes", path,
                          (long long)info.classes - 1, (long long)e->from.settings->model.classes);
    if (!status) status = grdi_scorer_open(&scorer, e->from.model, e->from.settings, &info, e->error);
    if (!status) status = grdi_load_weights(&e->from);
    if (!status)
        status = grd_classification_begin(counts, e->from.settings->model.classes, (const char *const *)about.names,
                                          e->error);
    if (!status) status = grdi_scorer_run(&scorer, images, 0, NULL, counts, event, e->error);
    event->step = e->from.step;
    grdi_scorer_close(&scorer);
    grd_images_free(images);
    grdi_classifier_free_about(&about);
    grd_classification_free(&own);
    return status;
}

/* A model of tables: all rows of `data`, or those that the run holds out. */
static grd_status score_table(evaluator *e, grdi_tabular *t, const grdi_target *target, grd_event *event)
{
    const grd_settings *settings = e->from.settings;
    grdi_split split = {.without = 0};
    double part = e->options->data ? 0 : settings->data.validation_part;
    grd_status status =
        grdi_tabular_split(t->table, target, settings, t->features->class_count, part, &split, e->error);
    int held = split.count[1] > 0;
    grdi_tabular_seen seen = {.worst_count = 0};
    if (!status)
        status = grdi_tabular_score(t, target, split.rows[held], split.count[held],
                                    e->options->classification ? &seen : NULL, NULL, event, e->error);
    if (!status && e->options->classification) {
        grd_classification_free(e->options->classification);
        *e->options->classification = seen.classes;
    } else {
        grd_classification_free(&seen.classes);
    }
    event->step = e->from.step;
    grdi_split_free(&split);
    return status;
}

static grd_status evaluate_table(evaluator *e, grd_event *event)
{
    const char *path = e->options->data ? e->options->data : e->from.settings->data.path;
    grdi_features features = {.width = 0};
    grdi_tabular t = {.batch = 0};
    grdi_target target = {.classes = NULL};
    grd_table *table = NULL;
    grd_status status = grdi_tabular_read_features(e->from.weights, &features, e->error);
    if (!status) status = grdi_features_open_table(&features, path, true, &table, e->error);
    if (!status) status = grdi_features_bind_target(&features, table, &target, e->error);
    if (!status) status = grdi_tabular_open(&t, e->from.model, e->from.settings, &features, table, e->error);
    if (!status) status = grdi_load_weights(&e->from);
    if (!status) status = score_table(e, &t, &target, event);
    grdi_target_free(&target);
    grdi_tabular_close(&t);
    grdi_features_free(&features);
    grd_table_free(table);
    return status;
}

/* A forecaster: the held-out part of its series, or all of another. */
static grd_status evaluate_series(evaluator *e, grd_event *event)
{
    const char *data = e->options->data;
    grdi_series_model model;
    grd_status status = grdi_series_model_open(&model, &e->from, data ? data : e->from.settings->data.path, e->error);
    int64_t least = grdi_framing_first(&model.framing) + 1, first = data ? least : model.split;
    if (!status && model.series->count - first < model.framing.horizon)
        status = grd_fail(e->error, GRD_E_ARGUMENT,
                          "%s: %lld steps leave none to score (a forecast needs the %lld steps before it)",
                          data ? data : e->from.settings->data.path, (long long)model.series->count, (long long)least);
    if (!status)
        status = grdi_forecaster_score(&model.forecaster, model.series, model.inputs, first, model.series->count, 0,
                                       NULL, event, e->error);
    event->step = e->from.step;
    grdi_series_model_close(&model);
    return status;
}

/* The only window is no longer than its text. */
static void fit_window(evaluator *e)
{
    if (e->scores.tokens < e->context) e->context = e->scores.tokens;
    e->scores.list[0].context = e->context;
}

static grd_status evaluate(evaluator *e, const char *run, const grd_run_options *run_options, grd_event *event)
{
    *event = (grd_event){.kind = GRD_EVENT_EVAL};
    grd_status status = grdi_load_open(&e->from, run, run_options);
    if (!status && e->from.settings->data.kind == GRD_DATA_TABLE) return evaluate_table(e, event);
    if (!status && e->from.settings->data.kind == GRD_DATA_SERIES) return evaluate_series(e, event);
    if (!status && grdi_settings_of_images(e->from.settings)) return evaluate_images(e, run_options->threads, event);
    if (!status) status = choose_context(e);
    if (!status) status = open_data(e, run, run_options->threads);
    if (status) return status;
    if (e->scores.windows == 1) fit_window(e);
    e->batch = batch_of(e);
    status = build(e);
    if (!status) status = grdi_load_weights(&e->from);
    return status ? status : score_all(e, event);
}

grd_status grd_evaluate_run(const char *run, const grd_evaluate_options *options, const grd_run_options *run_options,
                            grd_event *event, grd_error *error)
{
    grd_error own = {GRD_OK, ""};
    evaluator e = {.options = options, .error = error ? error : &own};
    e.from.error = e.error;
    grd_status status = evaluate(&e, run, run_options, event);
    grdi_load_close(&e.from);
    grd_corpus_free(e.corpus);
    for (size_t i = 0; i < e.shard_count; i++) grd_tokens_close(e.shards[i]);
    grdi_scores_free(&e.scores);
    grdi_free(e.inputs);
    grdi_free(e.values);
    return status;
}
