/* plan.c - gradus plan: what a config's training step needs, without running it or having its memory. */
#include "cli/show.h"

#include <string.h>

enum { SETS_MAX = 64 };

typedef struct plan_args {
    cli common;
    const char *config;
    const char *sets[SETS_MAX];
    int set_count;
} plan_args;

enum { KEY_SET = 1 };

static const struct argp_option options[] = {
    {"set", KEY_SET, "KEY=VALUE", 0, "one setting, as in model.layers=24; may be repeated", 1}, {0}};

static error_t parse(int key, char *text, struct argp_state *state)
{
    plan_args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = a; return 0;
    case KEY_SET:
        if (a->set_count == SETS_MAX) return cli_refuse(state, "--set: more than %d of them", SETS_MAX);
        a->sets[a->set_count++] = text;
        return 0;
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
    grd_settings *settings = grd_settings_new();
    if (!settings) return cli_error(&a.common, CLI_FAILED, "out of memory");
    grd_status status = grd_settings_load(settings, a.config, &error);
    for (int i = 0; i < a.set_count && !status; i++) status = grd_settings_set(settings, a.sets[i], &error);
    if (!status) status = grd_plan_settings(settings, &run, &event.plan, &error);
    grd_settings_free(settings);
    if (status) return cli_fail(&a.common, &error, false);
    char line[2048];
    grd_event_json(&event, line, sizeof(line));
    if (a.common.json) puts(line);
    else show_plan(&event.plan);
    return CLI_DONE;
}
