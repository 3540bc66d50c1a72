/* bench.c - gradus bench: measures whole models or single ops. */
#include "cli/bench.h"

#include <stdio.h>
#include <string.h>

enum { KEY_BATCH = 1, KEY_CONTEXT, KEY_PRECISION, KEY_STEPS, KEY_SECONDS, KEY_PROFILE, KEY_RECOMPUTE, KEY_UNORDERED };

#define SECONDS 8.0

static const struct argp_option options[] = {
    {"batch", KEY_BATCH, "N", 0, "model: samples in a step (default: the model's own)", 1},
    {"context", KEY_CONTEXT, "T", 0, "model: tokens in a sample (language models only; default: the model's own)", 1},
    {"precision", KEY_PRECISION, "P", 0, "model: f32 (default) or another word of train.precision", 1},
    {"nondeterministic", KEY_UNORDERED, NULL, 0,
     "model: a GPU may add in an order that differs from run to run (train.deterministic: false)", 1},
    {"recompute", KEY_RECOMPUTE, NULL, 0, "model: keep fewer activations, compute them again in the backward pass", 1},
    {"steps", KEY_STEPS, "N", 0, "model: steps to time, with nothing in between, instead of --seconds", 1},
    {"seconds", KEY_SECONDS, "S", 0,
     "model: seconds for steps, at least five, and for measuring the machine after each second (default: 8)", 1},
    {"profile", KEY_PROFILE, "FILE", OPTION_ARG_OPTIONAL,
     "model: time by op to stderr, a timeline for chrome://tracing or Perfetto to FILE (default profile.json)", 1},
    {0}};

/* Of train.precision's words all but `auto`, which would leave open what a figure is of. */
static error_t take_precision(struct argp_state *state, const char *text, bench_args *a)
{
    char words[128] = "";
    a->precision = grd_precision_from_name(text);
    if (a->precision > GRD_PRECISION_AUTO) return 0;
    for (int i = GRD_PRECISION_AUTO + 1; grd_precision_name(i); i++) {
        size_t used = strlen(words);
        snprintf(words + used, sizeof(words) - used, "%s%s", used ? ", " : "", grd_precision_name(i));
    }
    return cli_refuse(state, "--precision: '%s' is not one of: %s", text, words);
}

static error_t parse(int key, char *text, struct argp_state *state)
{
    bench_args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = a; return 0;
    case KEY_BATCH: return cli_whole(state, "--batch", text, 1, 1 << 20, &a->batch);
    case KEY_CONTEXT: return cli_whole(state, "--context", text, 1, 1 << 20, &a->context);
    case KEY_STEPS: return cli_whole(state, "--steps", text, 1, BENCH_STEPS_MAX, &a->steps);
    case KEY_SECONDS: return cli_number(state, "--seconds", text, 0, 1e9, &a->seconds);
    case KEY_RECOMPUTE: a->recompute = true; return 0;
    case KEY_UNORDERED: a->nondeterministic = true; return 0;
    case KEY_PRECISION: return take_precision(state, text, a);
    case KEY_PROFILE:
        a->profile = true;
        a->profile_path = text ? text : "profile.json";
        return 0;
    case ARGP_KEY_ARG:
        if (state->arg_num > 1) return cli_refuse(state, "'%s': one word too many (gradus bench model NAME)", text);
        *(state->arg_num ? &a->name : &a->what) = text;
        return 0;
    case ARGP_KEY_END:
        if (!a->what || (strcmp(a->what, "model") && strcmp(a->what, "op") && strcmp(a->what, "images")))
            return cli_refuse(state,
                              "gradus bench: what is to be measured? (bench model NAME, bench op [NAME] or bench "
                              "images DIR)");
        if (a->steps && a->seconds >= 0) return cli_refuse(state, "--steps and --seconds: give one of them");
        if (a->seconds < 0) a->seconds = SECONDS;
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

int cli_bench(int argc, char **argv)
{
    bench_args a = {.common = {.command = "gradus bench"}, .precision = GRD_PRECISION_F32, .seconds = -1};
    int code;
    if (!cli_parse(
            &a, options, parse, "model NAME\nop [NAME]\nimages DIR",
            "`bench model NAME` times whole training steps of a model on random data. `bench op` times the ops of this "
            "build, each on samples of its own, or only the one that is named. Both show the limits of this machine "
            "beside them. `bench images` turns the image files of a folder into batches of 224x224 as training does, "
            "by --threads "
            "threads.\vModels: " BENCH_MODELS ".\nExamples:\n  gradus bench model gpt-small --batch 4\n"
            "  gradus bench op softmax",
            argc, argv, &code))
        return code;
    if (strcmp(a.what, "images") == 0) return bench_images(&a);
    return strcmp(a.what, "model") == 0 ? bench_model(&a) : bench_op(&a);
}
