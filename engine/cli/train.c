/* train.c - gradus train: from a text, a config file or a run directory to a trained model. */
#include "cli/choose.h"
#include "cli/show.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PATH_TEXT_MAX = 4096 };

typedef struct train_args {
    cli common;
    cli_data data;
    const char *config, *resume;
    cli_sets sets;
    bool previous, profile;
    char profile_path[PATH_TEXT_MAX];
} train_args;

enum { KEY_SET = 1, KEY_RESUME, KEY_PREVIOUS, KEY_PROFILE };

static const struct argp_option options[] = {
    CLI_DATA_OPTIONS,
    {"set", KEY_SET, "KEY=VALUE", 0, "one setting of a config, as in train.lr=6e-4 or out=runs/first; may be repeated",
     2},
    {"resume", KEY_RESUME, "RUN_DIR", 0, "go on from the newest checkpoint of a run, with its own config", 3},
    {"previous", KEY_PREVIOUS, NULL, 0, "with --resume: from the checkpoint before the newest", 3},
    {"profile", KEY_PROFILE, NULL, 0, "time by op to stderr, a timeline to profile.json in the run directory", 4},
    {0}};

static error_t parse(int key, char *text, struct argp_state *state)
{
    train_args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = a; return 0;
    case KEY_RESUME: a->resume = text; return 0;
    case KEY_PREVIOUS: a->previous = true; return 0;
    case KEY_PROFILE: a->profile = true; return 0;
    case KEY_SET: return cli_add_set(state, &a->sets, text);
    case ARGP_KEY_ARG:
        if (a->config) return cli_refuse(state, "'%s': a second config file after %s (give one)", text, a->config);
        a->config = text;
        return 0;
    case ARGP_KEY_END: {
        int ways = (a->data.path != NULL) + (a->config != NULL) + (a->resume != NULL);
        if (ways != 1)
            return cli_refuse(state, "gradus train: %s (--data PATH, CONFIG.yaml or --resume RUN_DIR)",
                              ways ? "give only one thing to train from" : "there is nothing to train from");
        if (a->previous && !a->resume) return cli_refuse(state, "--previous: goes with --resume RUN_DIR");
        return cli_check_data(state, &a->data);
    }
    default: return cli_take_data(key, text, state, &a->data);
    }
}

/* ---- settings ---- */

static grd_status load_run(const train_args *a, grd_settings *settings, grd_error *error)
{
    char config[PATH_TEXT_MAX];
    if (snprintf(config, sizeof(config), "%s/config.yaml", a->resume) >= (int)sizeof(config))
        return grd_fail(error, GRD_E_ARGUMENT, "--resume: the path is too long");
    if (access(config, R_OK) != 0)
        return grd_fail(error, GRD_E_IO, "--resume: %s is no run directory (%s: %s)", a->resume, config,
                        strerror(errno));
    grd_status status = grd_settings_load(settings, config, error);
    return status ? status : cli_set_text(settings, "out", a->resume, error);
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
        if (access(out, F_OK) != 0) return cli_set_text(settings, "out", out, error);
    }
}

static bool same_text(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

static bool same_list(char *const *a, int count, char *const *b, int other_count)
{
    for (int i = 0; i < count && count == other_count; i++)
        if (!same_text(a[i], b[i])) return false;
    return count == other_count;
}

#define SAME_LIST(a, b, names, count) same_list((a)->data.names, (a)->data.count, (b)->data.names, (b)->data.count)

/* Whether both runs see their data alike: the same columns of a table, images of the same shape. */
static bool same_inputs(const grd_settings *a, const grd_settings *b)
{
    return SAME_LIST(a, b, inputs, input_count) && SAME_LIST(a, b, features, feature_count) &&
           SAME_LIST(a, b, ignore, ignore_count) && SAME_LIST(a, b, categories, category_count) &&
           a->data.height == b->data.height && a->data.width == b->data.width && a->data.channels == b->data.channels;
}

/* Why a resumed run cannot take what was set, or NULL. */
static const char *against_the_run(const grd_settings *run, const grd_settings *now)
{
    if (!same_text(run->out, now->out)) return "a run goes on in its own folder";
    if (!same_text(run->data.tokenizer, now->data.tokenizer) || run->data.vocab != now->data.vocab)
        return "a run goes on with its own tokenizer";
    if (run->data.order != now->data.order || run->data.validation_part != now->data.validation_part)
        return "it would mix two orders of the data";
    if (run->data.split != now->data.split || !same_text(run->data.group, now->data.group))
        return "what it has held out would be learnt from";
    if (!same_text(run->data.time, now->data.time) || !same_text(run->data.target, now->data.target) ||
        run->data.horizon != now->data.horizon || run->data.season != now->data.season)
        return "a run goes on with the series that it learns";
    if (!same_inputs(run, now)) return "a run goes on with inputs of the kind that its model has learnt to read";
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
    char choice[CLI_CHOICE_MAX] = "";
    grd_status status = a->data.path ? cli_choose(&a->common, &a->data, &a->sets, settings, choice, error)
                        : a->resume  ? load_run(a, settings, error)
                                     : cli_load_config(settings, a->config, &a->sets, error);
    if (!status && a->resume) status = set_resumed(a, settings, error);
    if (!status && choice[0]) show_event(s, &(grd_event){.kind = GRD_EVENT_NOTE, .text = choice});
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
    else if (grd_settings_of_language(settings))
        printf("the run is in %s; to hear more: gradus sample %s\n", settings->out, settings->out);
    else
        printf("the run is in %s; to test it: gradus eval %s; for other %s: gradus predict %s %s\n", settings->out,
               settings->out, settings->data.kind == GRD_DATA_TABLE ? "rows" : "images", settings->out,
               settings->data.kind == GRD_DATA_TABLE ? "FILE.csv" : "IMAGE_OR_FOLDER");
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
