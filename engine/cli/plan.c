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
     "whether the step fits in so much, as in 16GB or 24GiB (unless told, in the card's memory, where --device names a "
     "card); if not, by how much and which settings make it fit (exit code 2)",
     1},
    {0}};

/* "512MB", "16 GB", "24GiB" or bytes. */
static error_t parse_size(struct argp_state *state, const char *text, int64_t *bytes)
{
    static const struct {
        const char *name;
        double bytes;
    } units[] = {{"", 1},      {"B", 1},        {"kB", 1e3},     {"MB", 1e6},     {"GB", 1e9},
                 {"TB", 1e12}, {"KiB", 0x1p10}, {"MiB", 0x1p20}, {"GiB", 0x1p30}, {"TiB", 0x1p40}};
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

enum { MORE = 4 }; /* settings beside those of the command line */

/* The config with its settings and up to MORE further ones. */
static grd_status load(const plan_args *a, const char *const more[MORE], grd_settings *settings, grd_error *error)
{
    if (!settings) return grd_fail(error, GRD_E_MEMORY, "out of memory");
    grd_status status = cli_load_config(settings, a->config, &a->sets, error);
    for (int i = 0; i < MORE && more[i] && !status; i++) status = grd_settings_set(settings, more[i], error);
    return status;
}

static const char *const nothing_more[MORE] = {NULL};

static grd_status plan_with(const plan_args *a, const grd_run_options *run, const char *const more[MORE],
                            grd_plan_report *plan, grd_error *error)
{
    grd_settings *settings = grd_settings_new();
    grd_status status = load(a, more, settings, error);
    if (!status) status = grd_plan_settings(settings, run, plan, error);
    grd_settings_free(settings);
    return status;
}

/* What makes the step fit: recomputing, then smaller micro-batches that make the same step, then weights in bf16
 * alone. `precision`: the setting for that, or NULL. False where it fits or cannot be planned, and `text` says so. */
static bool advise_with(const plan_args *a, const grd_run_options *run, const grd_settings *asked,
                        const char *precision, char *text, size_t size)
{
    char fewer[64] = "", oftener[64] = "", first[96];
    const char *const more[MORE] = {"train.recompute=true", fewer, oftener, precision};
    int64_t batch = asked->train.batch, accumulate = asked->train.accumulate;
    grd_plan_report plan;
    snprintf(first, sizeof(first), "--set %s%s%s", more[0], precision ? " --set " : "", precision ? precision : "");
    for (int64_t parts = 1;; parts *= 2) {
        snprintf(fewer, sizeof(fewer), "train.batch=%lld", (long long)(batch / parts));
        snprintf(oftener, sizeof(oftener), "train.accumulate=%lld", (long long)(accumulate * parts));
        if (plan_with(a, run, more, &plan, NULL)) {
            snprintf(text, size, "a smaller model or batch");
            return false;
        }
        const char *needed = cli_bytes((double)plan.peak_bytes);
        bool fits = (int64_t)plan.peak_bytes <= a->memory;
        if (fits && parts == 1) snprintf(text, size, "%s needs %s", first, needed);
        else if (fits)
            snprintf(text, size, "%s --set %s --set %s needs %s and makes the same step", first, fewer, oftener,
                     needed);
        else snprintf(text, size, "even %s --set %s needs %s: a smaller model or context", first, fewer, needed);
        if (fits || batch / parts % 2) return !fits;
    }
}

static void advise(const plan_args *a, const grd_run_options *run, char *text, size_t size)
{
    grd_settings *settings = grd_settings_new();
    grd_status status = load(a, nothing_more, settings, NULL);
    if (!status) status = grd_settings_resolve(settings, NULL);
    snprintf(text, size, "a smaller model or batch");
    bool helpless = !status && advise_with(a, run, settings, NULL, text, size);
    if (helpless && settings->train.precision == GRD_PRECISION_BF16)
        advise_with(a, run, settings, "train.precision=bf16-pure", text, size);
    grd_settings_free(settings);
}

/* In the memory that was asked about, or else in the card's own. */
static int check_memory(plan_args *a, const grd_run_options *run, const grd_plan_report *plan)
{
    const int64_t needed = (int64_t)plan->peak_bytes;
    char place[128], what[384];
    bool asked = a->memory > 0;
    if (!asked) a->memory = (int64_t)plan->device_bytes;
    if (!a->memory) return CLI_DONE;
    if (needed <= a->memory) {
        cli_note(&a->common, "fits in %s, with %s to spare", cli_bytes((double)a->memory),
                 cli_bytes((double)(a->memory - needed)));
        return CLI_DONE;
    }
    if (asked) snprintf(place, sizeof(place), "--memory");
    else snprintf(place, sizeof(place), "device %.64s", a->common.device);
    advise(a, run, what, sizeof(what));
    return cli_error(&a->common, CLI_USAGE, "%s: the step needs %s, %s more than %s (%s)", place,
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
            "memory by what it is for, arithmetic, and the time that this processor, or the card that --device names, "
            "is predicted to take.\v"
            "The data that the config names are not opened: where they alone tell the vocabulary, set model.vocab. "
            "--device h100 plans for another device, which need not be there; an unknown one is answered with the "
            "list. What launches a GPU makes is known where the CUDA plugin is built; elsewhere they are taken to be "
            "this processor's.\n"
            "Example:\n  gradus plan config.yaml --set train.batch=32 --device h100",
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
    if (event.plan.device_bytes && strcmp(event.plan.kernels, "cpu") == 0)
        cli_note(&a.common,
                 "planned with this processor's kernels, as the CUDA plugin is not here: launches, workspace "
                 "and time of the card's own differ (build Gradus where nvcc is found)");
    return check_memory(&a, &run, &event.plan);
}
