/* inspect_models.c - what describes or holds a model: configs, Hugging Face folders, checkpoints, run directories. */
#include "cli/inspect.h"

#include <stdlib.h>
#include <string.h>

enum { PATH_TEXT_MAX = 4096 };

/* ---- a model's shape ---- */

static json_t *model_json(const grd_gpt *g)
{
    static const char *const mlps[] = {"gelu", "gelu_tanh", "swiglu", "relu2"};
    return json_pack("{s:i, s:i, s:i, s:I, s:I, s:I, s:I, s:I, s:s, s:s, s:s, s:b, s:I}", "layers", (int)g->layers,
                     "heads", (int)g->heads, "kv_heads", (int)g->kv_heads, "width", (json_int_t)g->width, "head_dim",
                     (json_int_t)g->head_dim, "mlp_width", (json_int_t)g->mlp_width, "context", (json_int_t)g->context,
                     "vocab", (json_int_t)g->vocab, "mlp", mlps[g->mlp], "norm",
                     g->norm == GRD_NORM_LAYERNORM ? "layernorm" : "rmsnorm", "position",
                     g->position == GRD_POSITION_LEARNED ? "learned" : "rope", "tied", !g->untied, "parameters",
                     (json_int_t)(g->vocab > 0 ? grd_gpt_parameters(g) : 0));
}

static void show_model(const grd_gpt *g)
{
    static const char *const mlps[] = {"GELU", "GELU (tanh)", "SwiGLU", "squared ReLU"};
    printf("  model: %d layers, %lld wide, %d heads of %lld (%d for keys and values), MLP %lld wide with %s\n",
           g->layers, (long long)g->width, g->heads, (long long)g->head_dim, g->kv_heads, (long long)g->mlp_width,
           mlps[g->mlp]);
    printf("  %s, %s positions, %s, context %s", g->norm == GRD_NORM_LAYERNORM ? "LayerNorm" : "RMSNorm",
           g->position == GRD_POSITION_LEARNED ? "learned" : "rotary", g->untied ? "untied" : "tied embedding",
           cli_count(g->context));
    if (g->vocab > 0) printf(", vocabulary %s: %s parameters\n", cli_count(g->vocab), cli_count(grd_gpt_parameters(g)));
    else printf("; the tokenizer will say how large the vocabulary is\n");
}

static json_t *settings_json(const grd_settings *s)
{
    if (s->data.kind == GRD_DATA_SERIES)
        return json_pack("{s:s, s:i, s:I, s:I, s:I, s:I}", "kind", grd_model_kind_name(s->model.kind), "layers",
                         (int)s->model.gpt.layers, "width", (json_int_t)s->model.gpt.width, "context",
                         (json_int_t)s->model.gpt.context, "horizon", (json_int_t)s->data.horizon, "season",
                         (json_int_t)s->data.season);
    if (grd_settings_of_language(s)) return model_json(&s->model.gpt);
    if (s->data.kind == GRD_DATA_TABLE)
        return json_pack("{s:s, s:s?, s:I}", "kind", grd_model_kind_name(s->model.kind), "target", s->data.target,
                         "classes", (json_int_t)s->model.classes);
    return json_pack("{s:s, s:I, s:I}", "kind", grd_model_kind_name(s->model.kind), "width",
                     (json_int_t)s->model.gpt.width, "classes", (json_int_t)s->model.classes);
}

static void show_settings(const grd_settings *s)
{
    if (s->data.kind == GRD_DATA_SERIES)
        printf("  model: %s, %d layer%s, %lld wide; forecasts %s of %s from %lld steps, %lld ahead\n",
               grd_model_kind_name(s->model.kind), s->model.gpt.layers, s->model.gpt.layers == 1 ? "" : "s",
               (long long)s->model.gpt.width, s->data.target, s->data.path, (long long)s->model.gpt.context,
               (long long)s->data.horizon);
    else if (s->data.kind == GRD_DATA_TABLE)
        printf("  model: %s, predicts '%s'\n", grd_model_kind_name(s->model.kind), s->data.target);
    else if (grd_model_classifies(s->model.kind))
        printf("  model: %s, %lld wide, %lld classes\n", grd_model_kind_name(s->model.kind),
               (long long)s->model.gpt.width, (long long)s->model.classes);
    else show_model(&s->model.gpt);
}

/* ---- config files ---- */

/* The settings of a file, completed; a config that is not for training needs no number of steps. */
static grd_settings *load_settings(const char *path, grd_error *error)
{
    grd_settings *settings = grd_settings_new();
    grd_status status =
        settings ? grd_settings_load(settings, path, error) : grd_fail(error, GRD_E_MEMORY, "out of memory");
    if (!status && !settings->train.steps && settings->train.minutes <= 0) settings->train.steps = 1;
    if (!status) status = grd_settings_resolve(settings, error);
    if (!status) return settings;
    grd_settings_free(settings);
    return NULL;
}

int inspect_config(const inspection *a)
{
    grd_error error = {GRD_OK, ""};
    grd_settings *settings = load_settings(a->path, &error);
    if (!settings) return cli_fail(&a->common, &error, false);
    int code = CLI_DONE;
    if (a->common.json) {
        code = cli_print_json(&a->common, json_pack("{s:s, s:s, s:s, s:o}", "event", "inspect", "kind", "config",
                                                    "path", a->path, "model", settings_json(settings)));
    } else {
        printf("%s: a config\n", a->path);
        show_settings(settings);
    }
    grd_settings_free(settings);
    return code;
}

/* ---- Hugging Face folders ---- */

/* The folder's weights: how many tensors and bytes. False after an error. */
static bool count_weights(const inspection *a, json_int_t *tensors, json_int_t *bytes, int *code)
{
    grd_safetensors *file;
    grd_error error = {GRD_OK, ""};
    *tensors = *bytes = 0;
    if (!cli_has(a->path, "model.safetensors") && !cli_has(a->path, "model.safetensors.index.json")) return true;
    if (grd_safetensors_open(a->path, &file, &error)) {
        *code = cli_fail(&a->common, &error, false);
        return false;
    }
    *tensors = (json_int_t)grd_safetensors_count(file);
    for (json_int_t i = 0; i < *tensors; i++) *bytes += (json_int_t)grd_safetensors_at(file, (size_t)i)->size_bytes;
    grd_safetensors_close(file);
    return true;
}

int inspect_hf(const inspection *a)
{
    static const char *const kinds[] = {"none", "gpt2", "llama", "qwen2", "qwen3", "mistral"};
    grd_error error = {GRD_OK, ""};
    grd_gpt gpt;
    json_int_t tensors, bytes;
    int code;
    if (grd_hf_read_config(a->path, &gpt, &error)) return cli_fail(&a->common, &error, false);
    if (!count_weights(a, &tensors, &bytes, &code)) return code;
    const char *kind = kinds[grd_hf_kind_of(&gpt)];
    bool tokenizer = cli_has(a->path, "tokenizer.json");
    if (a->common.json)
        return cli_print_json(&a->common,
                              json_pack("{s:s, s:s, s:s, s:s, s:o, s:I, s:I, s:b}", "event", "inspect", "kind", "hf",
                                        "path", a->path, "architecture", kind, "model", model_json(&gpt), "tensors",
                                        tensors, "size_bytes", bytes, "tokenizer", tokenizer));
    printf("%s: a Hugging Face folder, architecture %s, %s tensors (%s), %s tokenizer.json\n", a->path, kind,
           cli_count(tensors), cli_bytes((double)bytes), tokenizer ? "with" : "without");
    show_model(&gpt);
    return CLI_DONE;
}

/* ---- checkpoints ---- */

static json_t *checkpoint_json(const char *path, const grd_checkpoint_info *info)
{
    return json_pack("{s:s, s:I, s:f, s:s, s:I, s:I, s:I}", "path", path, "step", (json_int_t)info->step,
                     "elapsed_seconds", info->elapsed_seconds, "device_kind", info->device_kind, "files",
                     (json_int_t)info->files, "tensors", (json_int_t)info->tensors, "size_bytes",
                     (json_int_t)info->size_bytes);
}

static void show_checkpoint(const char *path, const grd_checkpoint_info *info)
{
    printf("%s: step %s after %s of training, %s tensors (%s), all %lld checksums match; written on %s\n", path,
           cli_count(info->step), cli_clock(info->elapsed_seconds), cli_count(info->tensors),
           cli_bytes((double)info->size_bytes), (long long)info->files, info->device_kind);
}

int inspect_checkpoint(const inspection *a)
{
    grd_error error = {GRD_OK, ""};
    grd_checkpoint_info info;
    if (grd_checkpoint_about(a->path, &info, &error)) return cli_fail(&a->common, &error, false);
    if (!a->common.json) {
        show_checkpoint(a->path, &info);
        return CLI_DONE;
    }
    json_t *line = checkpoint_json(a->path, &info);
    json_object_set_new(line, "event", json_string("inspect"));
    json_object_set_new(line, "kind", json_string("checkpoint"));
    return cli_print_json(&a->common, line);
}

/* ---- run directories ---- */

/* The last step and the last evaluation that metrics.jsonl tells of; NULL where there is none. */
static void last_lines(const char *run, json_t **step, json_t **eval)
{
    char path[PATH_TEXT_MAX], line[16384];
    *step = *eval = NULL;
    if (snprintf(path, sizeof(path), "%s/metrics.jsonl", run) >= (int)sizeof(path)) return;
    FILE *file = fopen(path, "r");
    while (file && fgets(line, sizeof(line), file)) {
        json_t **kept = strncmp(line, "{\"event\":\"step\"", 15) == 0   ? step
                        : strncmp(line, "{\"event\":\"eval\"", 15) == 0 ? eval
                                                                        : NULL;
        /* a line that a crash cut short is none */
        json_t *parsed = kept ? grd_json_parse(line, strlen(line), path, NULL) : NULL;
        if (!parsed) continue;
        json_decref(*kept);
        *kept = parsed;
    }
    if (file) fclose(file);
}

/* All checkpoints, newest first, each verified. */
static json_t *checkpoints_json(const inspection *a, grd_error *error)
{
    json_t *list = json_array();
    for (size_t back = 0;; back++) {
        char path[PATH_TEXT_MAX];
        grd_checkpoint_info info;
        if (grd_checkpoint_path(a->path, back, path, sizeof(path), error) || !path[0]) return list;
        if (grd_checkpoint_about(path, &info, error)) return list;
        if (!a->common.json) show_checkpoint(path, &info);
        json_array_append_new(list, checkpoint_json(path, &info));
    }
}

static double number_in(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}

static void show_progress(const json_t *step, const json_t *eval)
{
    if (step) printf("  last step: %.0f, loss %.4f\n", number_in(step, "step"), number_in(step, "loss"));
    if (!eval) return;
    printf("  last validation: loss %.4f", number_in(eval, "loss"));
    if (json_object_get(eval, "accuracy")) printf(", accuracy %.2f%%", 100 * number_in(eval, "accuracy"));
    if (json_object_get(eval, "bits_per_byte")) printf(", %.4f bits per byte", number_in(eval, "bits_per_byte"));
    printf("\n");
}

/* ---- coefficients ---- */

static json_t *coefficient_json(const grd_coefficient *c)
{
    json_t *entry = json_pack("{s:s, s:f}", "column", c->column ? c->column : "(intercept)", "value", c->value);
    if (c->category) json_object_set_new(entry, "category", json_string(c->category));
    if (c->missing) json_object_set_new(entry, "missing", json_true());
    if (c->of_class) json_object_set_new(entry, "class", json_string(c->of_class));
    return entry;
}

static void show_coefficient(const grd_coefficient *c)
{
    char name[256];
    snprintf(name, sizeof(name), "%s%s%s%s", c->column ? c->column : "(intercept)", c->category ? "=" : "",
             c->category ? c->category : "", c->missing ? " (missing)" : "");
    printf("  %-32s %14.8g", name, c->value);
    printf(c->of_class ? "  for %s\n" : "\n", c->of_class);
}

/* Of a linear or logistic model of a table, which has a checkpoint; as an array, or printed (NULL). */
static json_t *coefficients_json(const inspection *a, const grd_settings *s, grd_error *error)
{
    bool linear = s->model.kind == GRD_MODEL_LINEAR || s->model.kind == GRD_MODEL_LOGISTIC;
    grd_coefficients *all;
    if (!linear || s->data.kind != GRD_DATA_TABLE || grd_coefficients_open(a->path, &all, error)) return NULL;
    json_t *list = a->common.json ? json_array() : NULL;
    for (int64_t i = 0; i < grd_coefficients_count(all); i++) {
        grd_coefficient c = grd_coefficients_at(all, i);
        if (list) json_array_append_new(list, coefficient_json(&c));
        else show_coefficient(&c);
    }
    grd_coefficients_free(all);
    return list;
}

static int show_run(const inspection *a, const grd_settings *settings)
{
    grd_error error = {GRD_OK, ""};
    json_t *step, *eval;
    int code = CLI_DONE;
    last_lines(a->path, &step, &eval);
    if (!a->common.json) {
        printf("%s: a run\n", a->path);
        show_settings(settings);
        show_progress(step, eval);
    }
    json_t *checkpoints = checkpoints_json(a, &error), *coefficients = NULL;
    if (!error.status && json_array_size(checkpoints)) coefficients = coefficients_json(a, settings, &error);
    if (a->common.json && !error.status)
        code = cli_print_json(&a->common, json_pack("{s:s, s:s, s:s, s:o, s:O, s:o?, s:o?, s:O*}", "event", "inspect",
                                                    "kind", "run", "path", a->path, "model", settings_json(settings),
                                                    "checkpoints", checkpoints, "step", json_incref(step), "eval",
                                                    json_incref(eval), "coefficients", coefficients));
    else if (!error.status && !json_array_size(checkpoints)) printf("  no checkpoint yet\n");
    json_decref(checkpoints);
    json_decref(coefficients);
    json_decref(step);
    json_decref(eval);
    return error.status ? cli_fail(&a->common, &error, false) : code;
}

int inspect_run(const inspection *a)
{
    char config[PATH_TEXT_MAX];
    grd_error error = {GRD_OK, ""};
    if (snprintf(config, sizeof(config), "%s/config.yaml", a->path) >= (int)sizeof(config))
        return cli_error(&a->common, CLI_USAGE, "%.100s...: the path is too long", a->path);
    grd_settings *settings = load_settings(config, &error);
    if (!settings) return cli_fail(&a->common, &error, false);
    int code = show_run(a, settings);
    grd_settings_free(settings);
    return code;
}
