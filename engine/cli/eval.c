/* eval.c - gradus eval: scores a text with a trained model. */
#include "cli/show.h"

#include <math.h>

typedef struct eval_args {
    cli common;
    const char *run;
    grd_evaluate_options evaluate;
} eval_args;

enum { KEY_DATA = 1, KEY_CONTEXT };

static const struct argp_option options[] = {
    {"data", KEY_DATA, "PATH", 0,
     "a UTF-8 text, a folder of them or a token shard (.bin), scored from end to end; for a classifier a folder of "
     "IDX files with test images; - is standard input (default: the run's own)",
     1},
    {"context", KEY_CONTEXT, "N", 0, "tokens in a window (default: the context of the model)", 1},
    {0}};

static error_t parse(int key, char *text, struct argp_state *state)
{
    eval_args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = a; return 0;
    case KEY_DATA: a->evaluate.data = cli_input(text); return 0;
    case KEY_CONTEXT: return cli_whole(state, "--context", text, 1, INT32_MAX, &a->evaluate.context);
    case ARGP_KEY_ARG:
        if (a->run) return cli_refuse(state, "'%s': a second model after %s (give one)", text, a->run);
        a->run = text;
        return 0;
    case ARGP_KEY_END:
        return a->run ? 0 : cli_refuse(state, "gradus eval: there is no model to score with (RUN_DIR or HF_DIR)");
    default: return ARGP_ERR_UNKNOWN;
    }
}

int cli_eval(int argc, char **argv)
{
    eval_args a = {.common = {.command = "gradus eval"}, .evaluate = {.size = sizeof(a.evaluate)}};
    int code;
    if (!cli_parse(
            &a, options, parse, "RUN_DIR\nHF_DIR",
            "Scores a text with the newest checkpoint of a run, with one checkpoint, or with a Hugging Face "
            "folder.\vThe windows overlap by half; each token is scored once, with at least half a window "
            "before it (fewer only at the start). Bits per byte is the sum of all tokens' bits over the bytes of "
            "the text.",
            argc, argv, &code))
        return code;
    const grd_run_options run = {.size = sizeof(run), .device = a.common.device, .threads = a.common.threads};
    grd_error error = {GRD_OK, ""};
    grd_event event;
    if (grd_evaluate_run(a.run, &a.evaluate, &run, &event, &error)) return cli_fail(&a.common, &error, false);
    char line[512];
    grd_event_json(&event, line, sizeof(line));
    if (a.common.json) {
        puts(line);
        return CLI_DONE;
    }
    if (event.samples) {
        show_figures(&event);
        printf("\n");
        return CLI_DONE;
    }
    printf("loss %.4f nats per token", event.loss);
    if (isfinite(event.bits_per_byte)) printf(", %.4f bits per byte", event.bits_per_byte);
    printf(" (%s tokens)\n", cli_count(event.tokens));
    return CLI_DONE;
}
