/* train.c - gradus train: from a text, a config file or a run directory to a trained model. */
#include "cli/show.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PATH_TEXT_MAX = 4096 };

typedef struct train_args {
    cli common;
    const char *data, *config, *resume, *model, *target, *time, *horizon;
    cli_sets sets;
    bool previous, profile;
    char profile_path[PATH_TEXT_MAX];
} train_args;

enum { KEY_DATA = 1, KEY_MODEL, KEY_SET, KEY_RESUME, KEY_PREVIOUS, KEY_PROFILE, KEY_TARGET, KEY_TIME, KEY_HORIZON };

static const struct argp_option options[] = {
    {"data", KEY_DATA, "PATH", 0,
     "a UTF-8 text file, a folder of them, a folder of IDX files (images), or a folder with a sub-folder of JPEG or "
     "PNG "
     "images for each class; all else is chosen to fit",
     1},
    {"model", KEY_MODEL, "KIND", 0,
     "with --data: fast (default), gpt2 or llama; for images lenet, resnet18, resnet34, resnet50, vit, mlp or "
     "logistic; "
     "for a series lstm (default), gru, tcn or linear",
     1},
    {"target", KEY_TARGET, "COLUMN", 0,
     "with --data TABLE.csv: the column that is to be predicted from the others (--model linear, logistic or mlp; "
     "default: by the column and the number of rows)",
     1},
    {"time", KEY_TIME, "COLUMN", 0,
     "with --data X.csv: the column of times, which makes the target a series to forecast", 1},
    {"horizon", KEY_HORIZON, "N", 0, "with --time: how many steps to forecast (default: 1)", 1},
    {"set", KEY_SET, "KEY=VALUE", 0, "one setting of a config, as in train.lr=6e-4 or out=runs/first; may be repeated",
     2},
    {"resume", KEY_RESUME, "RUN_DIR", 0, "go on from the newest checkpoint of a run, with its own config", 3},
    {"previous", KEY_PREVIOUS, NULL, 0, "with --resume: from the checkpoint before the newest", 3},
    {"profile", KEY_PROFILE, NULL, 0, "time by op to stderr, a timeline to profile.json in the run directory", 4},
    {0}};

/* --target, --time and --horizon. */
static error_t check_columns(const train_args *a, struct argp_state *state)
{
    const char *first = a->target ? "--target" : a->time ? "--time" : "--horizon";
    if (!a->target && !a->time && !a->horizon) return 0;
    if (!a->data) return cli_refuse(state, "%s: goes with --data X.csv (else set data%s)", first, first + 1);
    if (a->horizon && !a->time) return cli_refuse(state, "--horizon: goes with --time COLUMN");
    if (a->time && !a->target) return cli_refuse(state, "--time: goes with --target COLUMN, which is forecast");
    return 0;
}

static error_t parse(int key, char *text, struct argp_state *state)
{
    train_args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = a; return 0;
    case KEY_DATA:
        if (a->data)
            return cli_refuse(state, "--data %s: after --data %s (give one; a folder of texts, for many)", text,
                              a->data);
        a->data = cli_input(text);
        return 0;
    case KEY_MODEL: a->model = text; return 0;
    case KEY_RESUME: a->resume = text; return 0;
    case KEY_TARGET: a->target = text; return 0;
    case KEY_TIME: a->time = text; return 0;
    case KEY_HORIZON: a->horizon = text; return 0;
    case KEY_PREVIOUS: a->previous = true; return 0;
    case KEY_PROFILE: a->profile = true; return 0;
    case KEY_SET: return cli_add_set(state, &a->sets, text);
    case ARGP_KEY_ARG:
        if (a->config) return cli_refuse(state, "'%s': a second config file after %s (give one)", text, a->config);
        a->config = text;
        return 0;
    case ARGP_KEY_END: {
        int ways = (a->data != NULL) + (a->config != NULL) + (a->resume != NULL);
        if (ways != 1)
            return cli_refuse(state, "gradus train: %s (--data PATH, CONFIG.yaml or --resume RUN_DIR)",
                              ways ? "give only one thing to train from" : "there is nothing to train from");
        if (a->previous && !a->resume) return cli_refuse(state, "--previous: goes with --resume RUN_DIR");
        if (a->model && !a->data) return cli_refuse(state, "--model: goes with --data PATH (else set model.kind)");
        return check_columns(a, state);
    }
    default: return ARGP_ERR_UNKNOWN;
    }
}

/* ---- settings ---- */

static grd_status set_text(grd_settings *settings, const char *key, const char *value, grd_error *error)
{
    char assignment[PATH_TEXT_MAX];
    if (snprintf(assignment, sizeof(assignment), "%s=%s", key, value) >= (int)sizeof(assignment))
        return grd_fail(error, GRD_E_ARGUMENT, "%s: the path is too long", key);
    return grd_settings_set(settings, assignment, error);
}

/* Settings for a CSV file with --time: which columns; the rest is chosen when the series is known. */
static grd_status choose_for_series(const train_args *a, grd_settings *settings, grd_error *error)
{
    grd_status status = set_text(settings, "data.path", a->data, error);
    if (!status) status = set_text(settings, "data.time", a->time, error);
    if (!status) status = set_text(settings, "data.target", a->target, error);
    if (!status && a->horizon) status = set_text(settings, "data.horizon", a->horizon, error);
    return !status && a->model ? set_text(settings, "model.kind", a->model, error) : status;
}

static grd_status kind_named(const char *name, int *kind, grd_error *error)
{
    *kind = name ? grd_model_kind_from_name(name) : GRD_MODEL_FAST;
    if (*kind >= 0 && !grd_model_classifies(*kind)) return GRD_OK;
    return grd_fail(error, GRD_E_ARGUMENT, "--model: '%s' is not one of: fast, gpt2, llama", name);
}

static grd_status open_images(const train_args *a, grd_images **images, grd_error *error)
{
    const grd_image_folder_options options = {.size = sizeof(options),
                                              .threads = a->common.threads,
                                              .all = true,
                                              .skip_damaged = true, /* the run itself refuses them, if it is to */
                                              .only_looked_at = true};
    if (grd_idx_found(a->data)) return grd_idx_open(a->data, GRD_TRAIN, images, error);
    return grd_image_folder_open(a->data, GRD_TRAIN, &options, images, error);
}

/* Settings for --data with a folder of images. */
static grd_status choose_for_images(const train_args *a, grd_settings *settings, char *why, size_t why_bytes,
                                    grd_error *error)
{
    grd_images *images;
    int kind = a->model ? grd_model_kind_from_name(a->model) : -1;
    if (a->model && kind < 0)
        return grd_fail(error, GRD_E_ARGUMENT,
                        "--model: '%s' is not one of: lenet, resnet18, resnet34, resnet50, vit, mlp, logistic",
                        a->model);
    grd_status status = open_images(a, &images, error);
    if (status) return status;
    status = grd_settings_for_images(settings, kind, images, why, why_bytes, error);
    grd_images_free(images);
    return status ? status : set_text(settings, "data.path", a->data, error);
}

#define TABLE_VALIDATION_PART 0.2

/* Settings for --data with --target: what else there is to choose depends on the table, which the run reads. */
static grd_status choose_for_table(const train_args *a, grd_settings *settings, grd_error *error)
{
    grd_status status = set_text(settings, "data.path", a->data, error);
    if (!status) status = set_text(settings, "data.kind", "table", error);
    if (!status) status = set_text(settings, "data.target", a->target, error);
    if (!status && a->model) status = set_text(settings, "model.kind", a->model, error);
    settings->data.validation_part = TABLE_VALIDATION_PART;
    return status;
}

/* Settings for --data: from the size of the text. */
static grd_status choose(const train_args *a, grd_settings *settings, int64_t *bytes, char *why, size_t why_bytes,
                         grd_error *error)
{
    grd_corpus *corpus;
    const grd_corpus_options whole = {.size = sizeof(whole), .no_validation = true, .threads = a->common.threads};
    int kind;
    *bytes = 0;
    if (a->time) return choose_for_series(a, settings, error);
    if (a->target) return choose_for_table(a, settings, error);
    if (grd_idx_found(a->data) || grd_image_folder_found(a->data))
        return choose_for_images(a, settings, why, why_bytes, error);
    grd_status status = kind_named(a->model, &kind, error);
    if (!status) status = grd_corpus_open(a->data, &whole, &corpus, error);
    if (status) return status;
    *bytes = grd_corpus_about(corpus).size_bytes[GRD_TRAIN];
    grd_corpus_free(corpus);
    status = grd_settings_for_text(settings, kind, *bytes, why, why_bytes, error);
    return status ? status : set_text(settings, "data.path", a->data, error);
}

/* Says what was chosen. */
static void show_choice(const grd_settings *settings, int64_t bytes, const char *why, show *s)
{
    char note[512];
    snprintf(note, sizeof(note), "chosen for %s bytes of text: %d layers, %lld wide, windows of %lld tokens (%s)",
             cli_count(bytes), settings->model.gpt.layers, (long long)settings->model.gpt.width,
             (long long)settings->model.gpt.context, why);
    if (settings->data.kind == GRD_DATA_TABLE) return; /* the run says it, once it has seen the table */
    bool in_full = settings->init.from || grd_model_classifies(settings->model.kind);
    show_event(s, &(grd_event){.kind = GRD_EVENT_NOTE, .text = in_full ? why : note});
}

static grd_status load_run(const train_args *a, grd_settings *settings, grd_error *error)
{
    char config[PATH_TEXT_MAX];
    if (snprintf(config, sizeof(config), "%s/config.yaml", a->resume) >= (int)sizeof(config))
        return grd_fail(error, GRD_E_ARGUMENT, "--resume: the path is too long");
    if (access(config, R_OK) != 0)
        return grd_fail(error, GRD_E_IO, "--resume: %s is no run directory (%s: %s)", a->resume, config,
                        strerror(errno));
    grd_status status = grd_settings_load(settings, config, error);
    return status ? status : set_text(settings, "out", a->resume, error);
}

/* runs/<name of the data>-<first free number> */
static grd_status default_out(const train_args *a, grd_settings *settings, grd_error *error)
{
    const char *from = settings->data.path          ? settings->data.path
                       : settings->data.token_count ? settings->data.tokens[0]
                                                    : a->config;
    size_t length = strlen(from);
    while (length > 1 && from[length - 1] == '/') length--;
    size_t start = length;
    while (start > 0 && from[start - 1] != '/') start--;
    size_t name = length - start;
    for (size_t i = 1; i < name; i++)
        if (from[start + i] == '.') name = i; /* without its extensions */
    for (int n = 1;; n++) {
        char out[PATH_TEXT_MAX];
        snprintf(out, sizeof(out), "runs/%.*s-%d", (int)(name < 200 ? name : 200), from + start, n);
        if (access(out, F_OK) != 0) return set_text(settings, "out", out, error);
    }
}

static bool same_text(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

/* Why a resumed run cannot take what was set, or NULL. */
static const char *against_the_run(const grd_settings *run, const grd_settings *now)
{
    if (!same_text(run->out, now->out)) return "a run goes on in its own folder";
    if (!same_text(run->data.tokenizer, now->data.tokenizer) || run->data.vocab != now->data.vocab)
        return "a run goes on with its own tokenizer";
    if (run->data.order != now->data.order || run->data.validation_part != now->data.validation_part)
        return "it would mix two orders of the data";
    if (!same_text(run->data.time, now->data.time) || !same_text(run->data.target, now->data.target) ||
        run->data.horizon != now->data.horizon || run->data.season != now->data.season)
        return "a run goes on with the series that it learns";
    if (!same_text(run->init.from, now->init.from) || run->init.std != now->init.std)
        return "a run goes on with its own weights";
    return NULL;
}

/* The assignments of --set, on top of a run's config. */
static grd_status set_resumed(const train_args *a, grd_settings *settings, grd_error *error)
{
    char newest[PATH_TEXT_MAX] = "";
    const char *run = a->resume, *why = NULL;
    grd_settings *own = grd_settings_new();
    grd_status status = own ? load_run(a, own, error) : grd_fail(error, GRD_E_MEMORY, "%s: out of memory", run);
    for (int i = 0; i < a->sets.count && !status; i++) {
        status = grd_settings_set(settings, a->sets.text[i], error);
        if (status || !(why = against_the_run(own, settings))) continue;
        status = grd_checkpoint_path(run, 0, newest, sizeof(newest), error);
        if (!status)
            status = grd_fail(error, GRD_E_ARGUMENT,
                              "--set %s: %s (leave it out, or copy %s to go on elsewhere; for a new run from its "
                              "weights: gradus train %s/config.yaml --set init.from=%s --set out=...)",
                              a->sets.text[i], why, run, run, newest[0] ? newest : "CHECKPOINT");
    }
    grd_settings_free(own);
    return status;
}

static grd_status make_settings(const train_args *a, grd_settings *settings, show *s, grd_error *error)
{
    char why[PATH_TEXT_MAX + 256] = "";
    int64_t bytes = 0;
    grd_status status = a->data     ? choose(a, settings, &bytes, why, sizeof(why), error)
                        : a->resume ? load_run(a, settings, error)
                                    : grd_settings_load(settings, a->config, error);
    for (int i = 0; i < a->sets.count && !status && !a->resume; i++)
        status = grd_settings_set(settings, a->sets.text[i], error);
    if (!status && a->resume) status = set_resumed(a, settings, error);
    if (!status && a->data && settings->init.from && grd_settings_of_language(settings))
        status = grd_settings_for_tuning(settings, why, sizeof(why), error);
    if (!status && a->data && !a->time) show_choice(settings, bytes, why, s);
    if (!status && !settings->out) status = default_out(a, settings, error);
    return status;
}

/* ---- the command ---- */

/* What can be done with the run. */
static void show_next(const grd_settings *settings)
{
    if (settings->data.kind == GRD_DATA_SERIES)
        printf("the run is in %s; to forecast what follows a file: gradus predict %s FILE.csv\n", settings->out,
               settings->out);
    else
        printf("the run is in %s; to %s: gradus %s %s\n", settings->out,
               grd_settings_of_language(settings) ? "hear more" : "test it",
               grd_settings_of_language(settings) ? "sample" : "eval", settings->out);
}

static int train(train_args *a, grd_settings *settings)
{
    grd_error error = {GRD_OK, ""};
    show s;
    show_begin(&s, &a->common);
    grd_status status = make_settings(a, settings, &s, &error);
    if (status) return cli_fail(&a->common, &error, false);
    grd_run_options run = {.size = sizeof(run),
                           .device = a->common.device,
                           .threads = a->common.threads,
                           .on_event = show_event,
                           .context = &s,
                           .stop = &cli_stop,
                           .resume = a->resume != NULL,
                           .previous = a->previous};
    if (a->profile && snprintf(a->profile_path, sizeof(a->profile_path), "%s/profile.json", settings->out) > 0)
        run.profile = a->profile_path;
    cli_catch_signals();
    status = grd_train_text(settings, &run, &error);
    show_end(&s);
    if (s.deaf && (!status || status == GRD_E_STOPPED)) {
        char more[PATH_TEXT_MAX + 64];
        snprintf(more, sizeof(more), " (the run is saved; to go on: gradus train --resume %s)", settings->out);
        return cli_stdout_failed(&a->common, more);
    }
    if (status == GRD_E_STOPPED) {
        if (!a->common.json && !a->common.quiet) printf("stopped; to go on: gradus train --resume %s\n", settings->out);
        return CLI_STOPPED;
    }
    if (status) return cli_fail(&a->common, &error, s.planned);
    if (!a->common.json && !a->common.quiet) show_next(settings);
    return CLI_DONE;
}

int cli_train(int argc, char **argv)
{
    train_args a = {.common = {.command = "gradus train"}};
    int code;
    if (!cli_parse(
            &a, options, parse, "CONFIG.yaml\n--data=PATH\n--resume=RUN_DIR",
            "Trains a model of a text, of images, of a table or of a series: by a config file, on data for which all "
            "else is chosen, or on from where a run stopped. The run directory (out; default runs/NAME-1) gets "
            "checkpoints, metrics.jsonl, report.html and TensorBoard's events.\v"
            "Examples:\n"
            "  gradus train --data book.txt\n"
            "  gradus train config.yaml --set train.steps=1000 --set out=runs/a\n"
            "  gradus train --resume runs/a --set train.steps=2000\n\n"
            "docs/guide/command.md lists all settings. "
            "With --data and --set init.from=HF_DIR, the model of that folder is trained further, with AdamW and "
            "a small learning rate.\n"
            "Exit codes: 0 done, 1 failed while running, 2 wrong use or bad input, 3 stopped by Ctrl-C or "
            "SIGTERM after saving.",
            argc, argv, &code))
        return code;
    grd_settings *settings = grd_settings_new();
    if (!settings) return cli_error(&a.common, CLI_FAILED, "out of memory");
    code = train(&a, settings);
    grd_settings_free(settings);
    return code;
}
