/* check_runs.c - two runs of the same settings, one of them in two parts: same losses, same files. */
#include "train/check.h"

#include "base/memory.h"
#include "graph/model.h"

#include <stdio.h>
#include <string.h>

enum { STEPS = 4, HALF = 2 };

typedef struct recorder {
    const grdi_checker *c;
    double loss[STEPS + 1];
    int64_t until;
    volatile int stop;
} recorder;

static void record(void *context, const grd_event *event)
{
    recorder *r = context;
    if (event->kind == GRD_EVENT_STEP) {
        if (event->step <= STEPS) r->loss[event->step] = event->loss;
        if (event->step >= r->until) r->stop = 1;
    }
    if (grdi_check_stopped(r->c)) r->stop = 1;
}

/* Trains in `out` until so many steps are done. It ends as by Ctrl-C, so that nothing is evaluated. */
static grd_status train_until(grdi_checker *c, grd_settings *settings, const grdi_session *lender, const char *out,
                              int64_t until, bool resume, double *loss)
{
    recorder r = {.c = c, .until = until};
    grd_run_options run = {.size = sizeof(run),
                           .device = c->options->device,
                           .threads = c->options->threads,
                           .on_event = record,
                           .context = &r,
                           .stop = &r.stop,
                           .resume = resume};
    grdi_free(settings->out);
    settings->out = grdi_strdup(out);
    if (!settings->out) return grd_fail(c->error, GRD_E_MEMORY, "out of memory for a run");
    grd_error error = {GRD_OK, ""};
    grdi_session *s = grdi_session_new(settings, &run, &error);
    if (!s) return grd_fail(c->error, GRD_E_MEMORY, "out of memory for a run");
    s->lender = lender;
    grd_status status = grdi_session_run(s);
    if (s->engine) c->flops += s->engine->flops;
    grdi_session_free(s);
    for (int64_t i = 1; i <= until; i++)
        if (r.loss[i] != 0) loss[i] = r.loss[i];
    if (grdi_check_stopped(c)) return GRD_E_STOPPED;
    if (status == GRD_E_NUMERIC) return status;
    return status && status != GRD_E_STOPPED ? grd_fail(c->error, status, "%s", error.message) : GRD_OK;
}

/* Whether both files are there and hold the same bytes. */
static grd_status same_file(const char *a, const char *b, const char *name, bool *same, grd_error *error)
{
    grdi_mapping x = {NULL, 0}, y = {NULL, 0};
    char *first = grdi_path_join(a, name), *second = grdi_path_join(b, name);
    grd_status status =
        first && second ? grdi_file_map(first, &x, error) : grd_fail(error, GRD_E_MEMORY, "out of memory for a path");
    if (!status) status = grdi_file_map(second, &y, error);
    *same = !status && x.size_bytes == y.size_bytes && memcmp(x.data, y.data, x.size_bytes) == 0;
    if (x.data) grdi_file_unmap(&x);
    if (y.data) grdi_file_unmap(&y);
    grdi_free(first);
    grdi_free(second);
    return status;
}

static grd_status compare_files(grdi_checker *c, const char *whole, const char *parts, bool *same)
{
    static const char *const names[] = {"checkpoints/step-000004/model.safetensors",
                                        "checkpoints/step-000004/optimizer.safetensors"};
    *same = true;
    for (int i = 0; i < 2; i++) {
        bool one;
        grd_status status = same_file(whole, parts, names[i], &one, c->error);
        if (status) return status;
        *same = *same && one;
    }
    return GRD_OK;
}

void grdi_check_bits(grdi_checker *c, const double *one, const double *other, int count)
{
    int at = 0;
    while (at < count - 1 && memcmp(&one[at], &other[at], sizeof(double)) == 0) at++;
    grdi_check_result(c, "same_bits", memcmp(&one[at], &other[at], sizeof(double)) == 0,
                      "look for what depends on the time, on threads or on memory that was not set: ops of your own, "
                      "data that changed meanwhile",
                      "two runs with one seed: losses %.9g and %.9g at step %d", one[at], other[at], at + 1);
}

void grdi_check_resumed(grdi_checker *c, double whole, double parts, int count, bool same)
{
    grdi_check_result(c, "resume", same && memcmp(&whole, &parts, sizeof(double)) == 0,
                      "look for what a run keeps outside its variables",
                      "%d steps at once and in two parts: losses %.9g and %.9g, weights and moments %s", count, whole,
                      parts, same ? "the same to the bit" : "not the same");
}

grd_status grdi_check_runs(grdi_checker *c, grd_settings *settings, const grdi_session *lender, const char *folder)
{
    double whole[STEPS + 1] = {0}, parts[STEPS + 1] = {0};
    bool same = false;
    char *a = grdi_path_join(folder, "whole"), *b = grdi_path_join(folder, "parts");
    grd_status status = a && b ? GRD_OK : grd_fail(c->error, GRD_E_MEMORY, "out of memory for a run");
    settings->train.minutes = 0; /* the clock would set the rate */
    if (settings->train.steps <= STEPS) settings->train.steps = STEPS + 1;
    if (!status) status = train_until(c, settings, lender, a, STEPS, false, whole);
    if (!status) status = train_until(c, settings, lender, b, HALF, false, parts);
    if (!status) status = train_until(c, settings, lender, b, STEPS, true, parts);
    if (!status) status = compare_files(c, a, b, &same);
    if (!status) {
        grdi_check_bits(c, whole + 1, parts + 1, HALF);
        grdi_check_resumed(c, whole[STEPS], parts[STEPS], STEPS, same);
    }
    if (status == GRD_E_NUMERIC) {
        grdi_check_note(c, "same_bits, resume: not looked at, as the first steps are not finite");
        status = GRD_OK;
    }
    grdi_free(a);
    grdi_free(b);
    return status;
}
