/* check.c - gradus check: a preflight for silent mistakes. */
#include "cli/choose.h"

#include <string.h>

typedef struct check_args {
    cli common;
    cli_data data;
    const char *config;
    cli_sets sets;
    int found, looked_at;
} check_args;

enum { KEY_SET = 1 };

static const struct argp_option options[] = {
    CLI_DATA_OPTIONS, {"set", KEY_SET, "KEY=VALUE", 0, "one setting, as in train.lr=6e-4; may be repeated", 2}, {0}};

static error_t parse(int key, char *text, struct argp_state *state)
{
    check_args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = a; return 0;
    case KEY_SET: return cli_add_set(state, &a->sets, text);
    case ARGP_KEY_ARG:
        if (a->config) return cli_refuse(state, "'%s': a second config file after %s (give one)", text, a->config);
        a->config = text;
        return 0;
    case ARGP_KEY_END:
        if (!a->config == !a->data.path)
            return cli_refuse(state, "gradus check: %s (CONFIG.yaml or --data PATH)",
                              a->config ? "give only one thing to check" : "there is nothing to check");
        return cli_check_data(state, &a->data);
    default: return cli_take_data(key, text, state, &a->data);
    }
}

static void show_result(void *context, const grd_check_result *r)
{
    check_args *a = context;
    a->looked_at++;
    if (a->common.json) {
        json_t *line = json_pack("{s:s, s:s, s:b, s:o}", "event", "check", "name", r->name, "passed", r->passed,
                                 "evidence", cli_json_text(r->evidence, strlen(r->evidence)));
        if (line && !r->passed) json_object_set_new(line, "look_at", cli_json_text(r->look_at, strlen(r->look_at)));
        cli_print_json(&a->common, line);
        return;
    }
    if (a->common.quiet && r->passed) return;
    printf("%s  %-18s %s\n", r->passed ? "ok   " : "FOUND", r->name, r->evidence);
    if (!r->passed) printf("%26s%s\n", "", r->look_at);
    cli_flush();
}

static void show_note(void *context, const char *text)
{
    const check_args *a = context;
    cli_note(&a->common, "%s", text);
}

static int check(check_args *a, grd_settings *settings)
{
    const grd_check_options check = {.size = sizeof(check),
                                     .device = a->common.device,
                                     .threads = a->common.threads,
                                     .on_result = show_result,
                                     .on_note = show_note,
                                     .context = a,
                                     .stop = &cli_stop};
    grd_error error = {GRD_OK, ""};
    int32_t found = 0;
    char choice[CLI_CHOICE_MAX] = "";
    cli_catch_signals();
    grd_status status = a->config ? cli_load_config(settings, a->config, &a->sets, &error)
                                  : cli_choose(&a->common, &a->data, &a->sets, settings, choice, &error);
    if (!status) {
        if (choice[0]) cli_note(&a->common, "%s", choice);
        status = grd_check_settings(settings, &check, &found, &error);
    }
    if (status == GRD_E_STOPPED) return CLI_STOPPED;
    if (status) return cli_fail(&a->common, &error, false);
    if (!a->common.json && !a->common.quiet)
        printf(found ? "%d checks, %d found something to look at\n" : "%d checks, nothing found\n", a->looked_at,
               found);
    return found ? CLI_FOUND : CLI_DONE;
}

int cli_check(int argc, char **argv)
{
    check_args a = {.common = {.command = "gradus check"}};
    int code;
    if (!cli_parse(&a, options, parse, "CONFIG.yaml\n--data=PATH",
                   "Looks for silent mistakes before a run is trusted: in the data, in the model and in its first "
                   "steps. Each line says whether a check passed and by which figures; where it did not, what to look "
                   "at.\vNothing is written but to a temporary folder, which is removed.\n"
                   "Exit codes: 0 nothing found, 1 failed while running, 2 wrong use or bad input, 3 stopped, 4 "
                   "something found.\n"
                   "With --data, what is checked is the run that gradus train would make of it.\n"
                   "Examples:\n  gradus check config.yaml --set train.lr=1e-2\n"
                   "  gradus check --data houses.csv --target price",
                   argc, argv, &code))
        return code;
    grd_settings *settings = grd_settings_new();
    if (!settings) return cli_error(&a.common, CLI_FAILED, "out of memory");
    code = check(&a, settings);
    grd_settings_free(settings);
    return code;
}
