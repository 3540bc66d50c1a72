/* choose.c - from --data PATH to settings: what lies there, and what fits it. */
#include "cli/choose.h"

#include <string.h>

/* ---- options ---- */

error_t cli_take_data(int key, char *text, struct argp_state *state, cli_data *data)
{
    switch (key) {
    case CLI_KEY_DATA:
        if (data->path)
            return cli_refuse(state, "--data %s: after --data %s (give one; a folder of texts, for many)", text,
                              data->path);
        data->path = cli_input(text);
        return 0;
    case CLI_KEY_MODEL: data->model = text; return 0;
    case CLI_KEY_TARGET: data->target = text; return 0;
    case CLI_KEY_TIME: data->time = text; return 0;
    case CLI_KEY_HORIZON: data->horizon = text; return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

error_t cli_check_data(struct argp_state *state, const cli_data *data)
{
    const char *first = data->target ? "--target" : data->time ? "--time" : "--horizon";
    if (data->model && !data->path) return cli_refuse(state, "--model: goes with --data PATH (else set model.kind)");
    if (!data->target && !data->time && !data->horizon) return 0;
    if (!data->path) return cli_refuse(state, "%s: goes with --data X.csv (else set data.%s)", first, first + 2);
    if (data->horizon && !data->time) return cli_refuse(state, "--horizon: goes with --time COLUMN");
    if (data->time && !data->target) return cli_refuse(state, "--time: goes with --target COLUMN, which is forecast");
    return 0;
}

/* ---- by kind of data ---- */

typedef struct chooser {
    const cli *common;
    const cli_data *data;
    grd_settings *settings;
    char *why; /* [CLI_CHOICE_MAX] */
    grd_error *error;
} chooser;

grd_status cli_set_text(grd_settings *settings, const char *key, const char *value, grd_error *error)
{
    char assignment[CLI_CHOICE_MAX];
    if (snprintf(assignment, sizeof(assignment), "%s=%s", key, value) >= (int)sizeof(assignment))
        return grd_fail(error, GRD_E_ARGUMENT, "%s: the path is too long", key);
    return grd_settings_set(settings, assignment, error);
}

static grd_status set(const chooser *z, const char *key, const char *value)
{
    return cli_set_text(z->settings, key, value, z->error);
}

/* A CSV file with --time: which columns; the rest is chosen when the series is known. */
static grd_status choose_for_series(const chooser *z)
{
    const cli_data *d = z->data;
    grd_status status = set(z, "data.path", d->path);
    if (!status) status = set(z, "data.time", d->time);
    if (!status) status = set(z, "data.target", d->target);
    if (!status && d->horizon) status = set(z, "data.horizon", d->horizon);
    return !status && d->model ? set(z, "model.kind", d->model) : status;
}

#define TABLE_VALIDATION_PART 0.2

/* A CSV file with --target: what else there is to choose depends on the table, which the run reads. */
static grd_status choose_for_table(const chooser *z)
{
    grd_status status = set(z, "data.path", z->data->path);
    if (!status) status = set(z, "data.kind", "table");
    if (!status) status = set(z, "data.target", z->data->target);
    if (!status && z->data->model) status = set(z, "model.kind", z->data->model);
    z->settings->data.validation_part = TABLE_VALIDATION_PART;
    return status;
}

static grd_status open_images(const chooser *z, grd_images **images)
{
    const grd_image_folder_options options = {.size = sizeof(options),
                                              .threads = z->common->threads,
                                              .all = true,
                                              .skip_damaged = true, /* the run itself refuses them, if it is to */
                                              .only_looked_at = true};
    if (grd_idx_found(z->data->path)) return grd_idx_open(z->data->path, GRD_TRAIN, images, z->error);
    return grd_image_folder_open(z->data->path, GRD_TRAIN, &options, images, z->error);
}

static grd_status choose_for_images(const chooser *z)
{
    grd_images *images;
    const char *model = z->data->model;
    int kind = model ? grd_model_kind_from_name(model) : -1;
    if (model && kind < 0)
        return grd_fail(z->error, GRD_E_ARGUMENT,
                        "--model: '%s' is not one of: lenet, resnet18, resnet34, resnet50, vit, mlp, logistic", model);
    grd_status status = open_images(z, &images);
    if (status) return status;
    status = grd_settings_for_images(z->settings, kind, images, z->why, CLI_CHOICE_MAX, z->error);
    grd_images_free(images);
    return status ? status : set(z, "data.path", z->data->path);
}

static grd_status language_kind(const chooser *z, int *kind)
{
    const char *name = z->data->model;
    *kind = name ? grd_model_kind_from_name(name) : GRD_MODEL_FAST;
    if (*kind >= 0 && !grd_model_classifies(*kind)) return GRD_OK;
    return grd_fail(z->error, GRD_E_ARGUMENT, "--model: '%s' is not one of: fast, gpt2, llama", name);
}

/* A CSV file is hardly ever meant to be read as a text. */
static grd_status refuse_table(const chooser *z)
{
    char columns[512];
    if (!grd_table_found(z->data->path, columns, sizeof(columns))) return GRD_OK;
    return grd_fail(z->error, GRD_E_ARGUMENT,
                    "--data: %s is a table with the columns %s (give --target COLUMN to predict one from the others, "
                    "with --time COLUMN to forecast it; --set data.kind=text trains a language model on the file)",
                    z->data->path, columns);
}

static bool is_set(const cli_sets *sets, const char *key)
{
    for (int i = 0; i < sets->count; i++)
        if (strncmp(sets->text[i], key, strlen(key)) == 0 && sets->text[i][strlen(key)] == '=') return true;
    return false;
}

/* From the size of the text. */
static grd_status choose_for_text(const chooser *z, int64_t *bytes)
{
    grd_corpus *corpus;
    const grd_corpus_options whole = {.size = sizeof(whole), .no_validation = true, .threads = z->common->threads};
    int kind;
    grd_status status = language_kind(z, &kind);
    if (!status) status = grd_corpus_open(z->data->path, &whole, &corpus, z->error);
    if (status) return status;
    *bytes = grd_corpus_about(corpus).size_bytes[GRD_TRAIN];
    grd_corpus_free(corpus);
    status = grd_settings_for_text(z->settings, kind, *bytes, z->why, CLI_CHOICE_MAX, z->error);
    return status ? status : set(z, "data.path", z->data->path);
}

static void tell(const grd_settings *settings, int64_t bytes, const char *why, char choice[CLI_CHOICE_MAX])
{
    if (settings->init.from || grd_model_classifies(settings->model.kind)) snprintf(choice, CLI_CHOICE_MAX, "%s", why);
    else
        snprintf(choice, CLI_CHOICE_MAX,
                 "chosen for %s bytes of text: %d layers, %lld wide, windows of %lld tokens (%.512s)", cli_count(bytes),
                 settings->model.gpt.layers, (long long)settings->model.gpt.width,
                 (long long)settings->model.gpt.context, why);
}

static grd_status set_all(grd_settings *settings, const cli_sets *sets, grd_error *error)
{
    grd_status status = GRD_OK;
    for (int i = 0; i < sets->count && !status; i++) status = grd_settings_set(settings, sets->text[i], error);
    return status;
}

grd_status cli_choose(const cli *c, const cli_data *data, const cli_sets *sets, grd_settings *settings,
                      char choice[CLI_CHOICE_MAX], grd_error *error)
{
    char why[CLI_CHOICE_MAX] = "";
    const chooser z = {.common = c, .data = data, .settings = settings, .why = why, .error = error};
    bool images = !data->target && (grd_idx_found(data->path) || grd_image_folder_found(data->path));
    int64_t bytes = 0;
    grd_status status = set_all(settings, sets, error); /* what is chosen may depend on them */
    if (status) return status;
    bool refused = !data->target && !is_set(sets, "data.kind") && refuse_table(&z);
    status = refused        ? GRD_E_ARGUMENT
             : data->time   ? choose_for_series(&z)
             : data->target ? choose_for_table(&z)
             : images       ? choose_for_images(&z)
                            : choose_for_text(&z, &bytes);
    if (!status) status = set_all(settings, sets, error); /* over what was chosen */
    if (!status && settings->init.from && grd_settings_of_language(settings))
        status = grd_settings_for_tuning(settings, why, sizeof(why), error);
    choice[0] = '\0';
    if (!status && !data->target) tell(settings, bytes, why, choice);
    return status;
}
