/* eval.c - gradus eval: scores a text with a trained model. */
#include "cli/show.h"

#include <ctype.h>
#include <math.h>
#include <string.h>

typedef struct eval_args {
    cli common;
    const char *run;
    grd_evaluate_options evaluate;
} eval_args;

enum { KEY_DATA = 1, KEY_CONTEXT };

static const struct argp_option options[] = {
    {"data", KEY_DATA, "PATH", 0,
     "a UTF-8 text, a folder of them or a token shard (.bin), scored from end to end; for a classifier of images a "
     "folder of IDX files, or with a sub-folder for each class; - is standard input (default: the run's own)",
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

enum { MATRIX_MOST = 20, NAME_WIDTH = 20, TABLE_MOST = 100 };

/* Names are cut to a width, by characters of UTF-8. */
static void print_name(const grd_classification *c, int64_t number)
{
    char text[24];
    const char *name = grd_classification_name(c, number, text);
    int width = 0;
    for (; *name && width < NAME_WIDTH; name++) {
        putchar(iscntrl((unsigned char)*name) ? '?' : *name);
        width += ((unsigned char)name[1] & 0xC0) != 0x80;
    }
    printf("%*s", NAME_WIDTH - width, "");
}

static void print_classes(const grd_classification *c)
{
    printf("\n%-*s precision  recall  %s\n", NAME_WIDTH, "class", "samples");
    for (int64_t i = 0; i < c->classes && i < TABLE_MOST; i++) {
        grd_class_figures f = grd_classification_of(c, i);
        print_name(c, i);
        isnan(f.precision) ? printf(" %9s", "-") : printf(" %9.4f", f.precision);
        isnan(f.recall) ? printf("  %6s", "-") : printf("  %6.4f", f.recall);
        printf("  %7s\n", cli_count(f.samples));
    }
    if (c->classes > MATRIX_MOST) return;
    printf("\n%-*s taken for\n%*s", NAME_WIDTH, "class", NAME_WIDTH, "");
    for (int64_t k = 0; k < c->classes; k++) printf(" %5lld", (long long)k);
    printf("\n");
    for (int64_t i = 0; i < c->classes; i++) {
        print_name(c, i);
        for (int64_t k = 0; k < c->classes; k++) printf(" %5lld", (long long)c->counts[i * c->classes + k]);
        printf("\n");
    }
}

/* The line of an evaluation, and what is known by class. */
static json_t *with_classes(const char *line, const grd_classification *c)
{
    json_t *whole = json_loads(line, 0, NULL), *classes = json_array(), *matrix = json_array();
    for (int64_t i = 0; i < c->classes; i++) {
        char text[24];
        const char *name = grd_classification_name(c, i, text);
        grd_class_figures f = grd_classification_of(c, i);
        json_t *row = json_array();
        for (int64_t k = 0; k < c->classes; k++)
            json_array_append_new(row, json_integer(c->counts[i * c->classes + k]));
        json_array_append_new(matrix, row);
        json_array_append_new(classes, json_pack("{s:o, s:o, s:o, s:I}", "name", cli_json_text(name, strlen(name)),
                                                 "precision", isnan(f.precision) ? json_null() : json_real(f.precision),
                                                 "recall", isnan(f.recall) ? json_null() : json_real(f.recall),
                                                 "samples", (json_int_t)f.samples));
    }
    json_object_set_new(whole, "classes", classes);
    json_object_set_new(whole, "confusion", matrix);
    return whole;
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
    grd_classification classes = {.classes = 0};
    a.evaluate.classification = &classes;
    if (grd_evaluate_run(a.run, &a.evaluate, &run, &event, &error)) return cli_fail(&a.common, &error, false);
    char line[512];
    grd_event_json(&event, line, sizeof(line));
    if (a.common.json) {
        if (!classes.total) puts(line);
        code = classes.total ? cli_print_json(&a.common, with_classes(line, &classes)) : CLI_DONE;
        grd_classification_free(&classes);
        return code;
    }
    if (event.samples) {
        show_figures(&event);
        printf("\n");
        show_comparison(&event);
        if (classes.total && !a.common.quiet) print_classes(&classes);
        grd_classification_free(&classes);
        return CLI_DONE;
    }
    printf("loss %.4f nats per token", event.loss);
    if (isfinite(event.bits_per_byte)) printf(", %.4f bits per byte", event.bits_per_byte);
    printf(" (%s tokens)\n", cli_count(event.tokens));
    return CLI_DONE;
}
