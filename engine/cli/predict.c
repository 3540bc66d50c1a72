/* predict.c - gradus predict: what a trained model says of new data, as CSV or JSON lines. */
#include "cli/cli.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct predict_args {
    cli common;
    const char *run, *input;
    bool begun; /* something has been printed */
} predict_args;

static const struct argp_option options[] = {{0}};

static error_t parse(int key, char *text, struct argp_state *state)
{
    predict_args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = a; return 0;
    case ARGP_KEY_ARG:
        if (a->input) return cli_refuse(state, "'%s': a second input after %s (give one)", text, a->input);
        *(a->run ? &a->input : &a->run) = text;
        return 0;
    case ARGP_KEY_END:
        if (!a->run) return cli_refuse(state, "gradus predict: there is no model to predict with (RUN_DIR INPUT)");
        return a->input ? 0 : cli_refuse(state, "gradus predict: there is nothing to predict for (RUN_DIR INPUT)");
    default: return ARGP_ERR_UNKNOWN;
    }
}

/* A field of CSV (RFC 4180): in quotes where it must be. */
static void print_field(const char *text)
{
    if (!strpbrk(text, ",\"\r\n")) {
        fputs(text, stdout);
        return;
    }
    putchar('"');
    for (; *text; text++) printf(*text == '"' ? "\"\"" : "%c", *text);
    putchar('"');
}

static void print_csv(predict_args *a, const grd_prediction *p)
{
    if (!a->begun) printf("%s,prediction%s\n", p->of, isnan(p->probability) ? "" : ",probability");
    print_field(p->item);
    putchar(',');
    if (p->label) print_field(p->label);
    else printf("%.9g", p->value);
    if (!isnan(p->probability)) printf(",%.6g", p->probability);
    putchar('\n');
}

static bool is_whole(const char *text)
{
    return *text && strspn(text, "0123456789") == strlen(text) && strlen(text) < 18;
}

static void print_json(const predict_args *a, const grd_prediction *p)
{
    json_t *line = json_object();
    json_object_set_new(line, p->of,
                        is_whole(p->item) ? json_integer(atoll(p->item)) : cli_json_text(p->item, strlen(p->item)));
    bool whole = p->value == floor(p->value) && fabs(p->value) < 1e15;
    json_object_set_new(line, "prediction",
                        p->label ? cli_json_text(p->label, strlen(p->label))
                        : whole  ? json_integer((json_int_t)p->value)
                                 : json_real(p->value));
    if (!isnan(p->probability)) json_object_set_new(line, "probability", json_real(p->probability));
    cli_print_json(&a->common, line);
}

static void print(void *context, const grd_prediction *p)
{
    predict_args *a = context;
    if (a->common.json) print_json(a, p);
    else print_csv(a, p);
    a->begun = true;
}

/* Remarks must not stand among predictions. */
static void print_note(void *context, const grd_event *event)
{
    const predict_args *a = context;
    if (event->kind == GRD_EVENT_NOTE && !a->common.quiet) fprintf(stderr, "note: %s\n", event->text);
}

int cli_predict(int argc, char **argv)
{
    predict_args a = {.common = {.command = "gradus predict"}};
    int code;
    if (!cli_parse(
            &a, options, parse, "RUN_DIR INPUT",
            "Predicts with the newest checkpoint of a run, or with one checkpoint. INPUT is of the kind that the model "
            "was trained on: for images a file of them in IDX format, or a folder with such a file of test images; for "
            "a series a CSV file, whose next steps are forecast.\vPrints CSV with a header, or with --json a line for "
            "each prediction: {\"prediction\":..,\"probability\":..}.",
            argc, argv, &code))
        return code;
    const grd_run_options run = {.size = sizeof(run),
                                 .device = a.common.device,
                                 .threads = a.common.threads,
                                 .on_event = print_note,
                                 .context = &a};
    grd_error error = {GRD_OK, ""};
    if (grd_predict_run(a.run, a.input, &run, print, &a, &error)) return cli_fail(&a.common, &error, a.begun);
    return CLI_DONE;
}
