/* plan.c - gradus plan: what a config's training step needs, without running it or having its memory. */
#include "cli/show.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

typedef struct plan_args {
    cli common;
    const char *config;
    cli_sets sets;
    int64_t memory; /* bytes that the step must fit in; 0: not asked */
} plan_args;

enum { KEY_SET = 1, KEY_MEMORY };

static const struct argp_option options[] = {
    {"set", KEY_SET, "KEY=VALUE", 0, "one setting, as in model.layers=24; may be repeated", 1},
    {"memory", KEY_MEMORY, "SIZE", 0,
     "whether the step fits in so much, as in 16GB or 24GiB; if not, by how much and which settings make it fit (exit "
     "code 2)",
     1},
    {0}};

/* "512MB", "16 GB", "24GiB" or bytes. */
static error_t parse_size(struct argp_state *state, const char *text, int64_t *bytes)
{
    static const struct {
        const char *name;
        double bytes;
    } units[] = {{"", 1},        {"B", 1},        {"kB", 1e3},          {"MB", 1e6},          {"GB", 1e9},
                 {"TB", 1e12},   {"KiB", 0x1p10}, {"MiB", 0x1p20},      {"GiB", 0x1p30},      {"TiB", 0x1p40}};
    char *end;
    double value = strtod(text, &end);
    while (end > text && *end == ' ') end++;
    for (size_t i = 0; end > text && i < sizeof(units) / sizeof(units[0]); i++) {
        if (strcasecmp(end, units[i].name) != 0 || !(value * units[i].bytes >= 1 && value * units[i].bytes < 1e18))
            continue;
        *bytes = (int64_t)(value * units[i].bytes);
        return 0;
    }
    return cli_refuse(state, "--memory: '%s' is no size (as in 512MB, 16GB or 24GiB)", text);
}

static error_t parse(int key, char *text, struct argp_state *state)
{
    plan_args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = a; return 0;
    case KEY_SET: return cli_add_set(state, &a->sets, text);
    case KEY_MEMORY: return parse_size(state, text, &a->memory);
    case ARGP_KEY_ARG:
        if (a->config) return cli_refuse(state, "'%s': a second config file after %s (give one)", text, a->config);
        a->config = text;
        return 0;
    case ARGP_KEY_END: return a->config ? 0 : cli_refuse(state, "gradus plan: there is nothing to plan (CONFIG.yaml)");
    default: return ARGP_ERR_UNKNOWN;
    }
}

/* Planning is for the null device: "cpu" means this processor without its memory, "x" the profile null:x. */
static const char *planned_device(const char *name, char *text, size_t size)
{
    bool here = !name || strcmp(name, "auto") == 0 || strcmp(name, "cpu") == 0;
    if (here) return "null:host";
    if (strncmp(name, "null:", 5) == 0) return name;
    snprintf(text, size, "null:%s", name);
    return text;
}

/* The config with its settings and up to three further ones. */
static grd_status load(const plan_args *a, const char *const more[3], grd_settings *settings, grd_error *error)
{
    if (!settings) return grd_fail(error, GRD_E_MEMORY, "out of memory");
    grd_status status = cli_load_config(settings, a->config, &a->sets, error);
    for (int i = 0; i < 3 && more[i] && !status; i++) status = grd_settings_set(settings, more[i], error);
    return status;
}

static const char *const nothing_more[3] = {NULL};

static grd_status plan_with(const plan_args *a, const grd_run_options *run, const char *const more[3],
                            grd_plan_report *plan, grd_error *error)
{
    grd_settings *settings = grd_settings_new();
    grd_status status = load(a, more, settings, error);
    if (!status) status = grd_plan_settings(settings, run, plan, error);
    grd_settings_free(settings);
    return status;
}

/* What makes the step fit: recomputing, then smaller micro-batches that make the same step. */
static void advise(const plan_args *a, const grd_run_options *run, int64_t batch, int64_t accumulate, char *text,
                   size_t size)
{
    char fewer[64] = "", oftener[64] = "";
    const char *const more[3] = {"train.recompute=true", fewer, oftener};
    grd_plan_report plan;
    for (int64_t parts = 1;; parts *= 2) {
        snprintf(fewer, sizeof(fewer), "train.batch=%lld", (long long)(batch / parts));
        snprintf(oftener, sizeof(oftener), "train.accumulate=%lld", (long long)(accumulate * parts));
        if (plan_with(a, run, more, &plan, NULL)) {
            snprintf(text, size, "a smaller model or batch");
            return;
        }
        bool fits = (int64_t)plan.peak_bytes <= a->memory;
        if (fits && parts == 1)
            snprintf(text, size, "--set %s needs %s", more[0], cli_bytes((double)plan.peak_bytes));
        else if (fits)
            snprintf(text, size, "--set %s --set %s --set %s needs %s and makes the same step", more[0], fewer, oftener,
                     cli_bytes((double)plan.peak_bytes));
        else
            snprintf(text, size, "even --set %s --set %s needs %s: a smaller model or context", more[0], fewer,
                     cli_bytes((double)plan.peak_bytes));
        if (fits || batch / parts % 2) return;
    }
}

static int check_memory(const plan_args *a, const grd_run_options *run, const grd_plan_report *plan)
{
    const int64_t needed = (int64_t)plan->peak_bytes;
    if (!a->memory) return CLI_DONE;
    if (needed <= a->memory) {
        cli_note(&a->common, "fits in %s, with %s to spare", cli_bytes((double)a->memory),
                 cli_bytes((double)(a->memory - needed)));
        return CLI_DONE;
    }
    char what[256];
    grd_error error = {GRD_OK, ""};
    grd_settings *settings = grd_settings_new();
    grd_status status = load(a, nothing_more, settings, &error);
    if (!status) status = grd_settings_resolve(settings, &error);
    int64_t batch = status ? 1 : settings->train.batch, accumulate = status ? 1 : settings->train.accumulate;
    grd_settings_free(settings);
    advise(a, run, batch, accumulate, what, sizeof(what));
    return cli_error(&a->common, CLI_USAGE, "--memory: the step needs %s, %s more than %s (%s)",
                     cli_bytes((double)needed), cli_bytes((double)(needed - a->memory)), cli_bytes((double)a->memory),
                     what);
}

int cli_plan(int argc, char **argv)
{
    plan_args a = {.common = {.command = "gradus plan"}};
    int code;
    if (!cli_parse(
            &a, options, parse, "CONFIG.yaml",
            "Shows what a training step of this config needs, without running it or having its memory: parameters, "
            "memory by what it is for, arithmetic, and the time that this processor is predicted to take.\v"
            "The data that the config names are not opened: where they alone tell the vocabulary, set model.vocab. "
            "--device null:PROFILE plans for "
            "another device; an unknown PROFILE is answered with the list.\n"
            "Example:\n  gradus plan config.yaml --set train.batch=32",
            argc, argv, &code))
        return code;
    char device[128];
    const grd_run_options run = {.size = sizeof(run),
                                 .threads = a.common.threads,
                                 .device = planned_device(a.common.device, device, sizeof(device))};
    grd_error error = {GRD_OK, ""};
    grd_event event = {.kind = GRD_EVENT_PLAN};
    if (plan_with(&a, &run, nothing_more, &event.plan, &error)) return cli_fail(&a.common, &error, false);
    char line[2048];
    grd_event_json(&event, line, sizeof(line));
    if (a.common.json) puts(line);
    else show_plan(&event.plan);
    return check_memory(&a, &run, &event.plan);
}
