/* report.c - what a step's plan needs, and where its time goes. */
#include "train/train.h"

#include "base/file.h"
#include "graph/custom.h"

#include <stdlib.h>
#include <string.h>

/* The largest scratch that one launch asks for. */
static size_t workspace(const grdi_plan *plan)
{
    size_t most = 0;
    for (size_t b = 0; b < plan->buffer_count; b++)
        if (plan->buffers[b].class == GRDI_CLASS_WORKSPACE && plan->buffers[b].size_bytes > most)
            most = plan->buffers[b].size_bytes;
    return most;
}

static int64_t device_calls(const grdi_plan *plan)
{
    int64_t calls = 0;
    for (size_t n = 0; n < plan->launch_count; n++) calls += plan->launches[n].device_calls;
    return calls;
}

/* Copies of weights that a program keeps. */
static size_t weight_copies(const grdi_plan *plan)
{
    size_t size = 0;
    for (size_t b = 0; b < plan->buffer_count; b++)
        if (plan->buffers[b].class == GRDI_CLASS_WEIGHTS && plan->buffers[b].place == GRDI_IN_KEPT)
            size += (plan->buffers[b].size_bytes + 63) / 64 * 64;
    return size;
}

static void add_up(grd_plan_report *report)
{
    report->activations_bytes =
        report->arena_bytes - (report->workspace_bytes < report->arena_bytes ? report->workspace_bytes : 0);
    report->peak_bytes = report->weights_bytes + report->gradients_bytes + report->optimizer_bytes +
                         report->state_bytes + report->arena_bytes + report->inputs_bytes;
}

void grdi_report_add_program(grd_plan_report *report, const grd_program *program)
{
    size_t copies = weight_copies(program->plan);
    report->weights_bytes += copies;
    report->inputs_bytes += program->plan->kept_bytes - copies;
    if (report->arena_bytes < program->plan->arena_bytes) report->arena_bytes = program->plan->arena_bytes;
    if (report->workspace_bytes < workspace(program->plan)) report->workspace_bytes = workspace(program->plan);
    add_up(report);
}

grd_status grd_step_report(grd_step *step, grd_plan_report *report)
{
    grd_status usable = grdi_step_usable(step);
    if (usable) return usable;
    if (!report) return grd_fail(&step->error, GRD_E_ARGUMENT, "step: no place for the report");
    const grd_engine *engine = step->model->engine;
    const grdi_plan *micro = step->micro->plan, *update = step->update.program ? step->update.program->plan : NULL;
    double runs = step->options.accumulate, rounds = step->search ? (double)grdi_search_evaluations(step) : 1;
    memset(report, 0, sizeof(*report));
    for (const grdi_variable *v = step->model->variables; v; v = v->next)
        if (v->kind == GRDI_VARIABLE_PARAMETER && !v->view) report->parameters += grd_dims_count(v->type.dims);
    report->weights_bytes = grdi_model_bytes(step->model, GRDI_VARIABLE_PARAMETER);
    report->gradients_bytes = grdi_model_bytes(step->model, GRDI_VARIABLE_GRADIENT);
    report->optimizer_bytes = grdi_model_bytes(step->model, GRDI_VARIABLE_MOMENT);
    report->state_bytes = grdi_model_bytes(step->model, GRDI_VARIABLE_STATE);
    if (step->search) report->optimizer_bytes += grdi_search_bytes(step);
    grdi_report_add_program(report, step->micro);
    if (update) grdi_report_add_program(report, step->update.program);
    if (step->measured.program) grdi_report_add_program(report, step->measured.program);
    report->flops_per_step = rounds * runs * micro->flops + (update ? update->flops : 0);
    report->bytes_per_step = rounds * grdi_plan_bytes(micro, runs) + (update ? grdi_plan_bytes(update, 1) : 0);
    report->launches = (int64_t)(micro->launch_count + (update ? update->launch_count : 0));
    report->device_calls = device_calls(micro) + (update ? device_calls(update) : 0);
    const grdi_backend *backend = engine->backend;
    report->device_bytes = backend->memory_bytes ? backend->memory_bytes(engine->device) : 0;
    report->kernels = backend == &grdi_backend_null ? grdi_backend_cpu.name : backend->name;
    grdi_rates rates;
    if (backend->rates && backend->rates(engine->device, &rates) == GRD_OK)
        report->predicted_step_ms = 1e3 * (rounds * grdi_plan_seconds(micro, &rates, runs) +
                                           (update ? grdi_plan_seconds(update, &rates, 1) : 0));
    return GRD_OK;
}

size_t grd_step_high_water(const grd_step *step)
{
    size_t most = 0;
    const grd_program *programs[] = {step ? step->micro : NULL, step ? step->update.program : NULL,
                                     step ? step->measured.program : NULL};
    for (int i = 0; i < 3; i++)
        if (programs[i] && programs[i]->high_water > most) most = programs[i]->high_water;
    return most;
}

grd_status grd_step_profile(grd_step *step, bool on)
{
    grd_status usable = grdi_step_usable(step);
    if (usable) return usable;
    grd_status status = grdi_program_profile(step->micro, on);
    return status || step->search ? status : grdi_program_profile(step->update.program, on);
}

/* ---- the profile: by kind of op, and as a timeline ---- */

typedef struct kind {
    const grdi_op *op;
    double seconds, flops, bytes;
    double arithmetic_s; /* that the FLOPs need at the device's rates */
    double predicted_s;
    int64_t launches;
} kind;

static int slower_first(const void *a, const void *b)
{
    double x = ((const kind *)a)->seconds, y = ((const kind *)b)->seconds;
    return x > y ? -1 : x < y;
}

static void add_kinds(const grd_program *program, const grdi_rates *rates, kind *kinds, int32_t *count)
{
    for (size_t n = 0; n < program->plan->launch_count && program->profiled_runs; n++) {
        const grdi_launch *launch = &program->plan->launches[n];
        int32_t k = 0;
        while (k < *count && kinds[k].op != launch->call.op) k++;
        if (k == *count) kinds[(*count)++] = (kind){.op = launch->call.op};
        kinds[k].seconds += program->launch_seconds[n];
        double rate = grdi_arithmetic_rate(launch, rates), flops = launch->flops * (double)program->profiled_runs;
        kinds[k].flops += flops;
        kinds[k].arithmetic_s += rate > 0 ? flops / rate : 0;
        kinds[k].predicted_s += grdi_launch_seconds(launch, rates) * (double)program->profiled_runs;
        kinds[k].bytes += launch->bytes * (double)program->profiled_runs;
        kinds[k].launches += program->profiled_runs;
    }
}

static void print_kinds(FILE *stream, kind *kinds, int32_t count, double steps, const grdi_rates *rates)
{
    double all = 0, predicted = 0;
    for (int32_t k = 0; k < count; k++) all += kinds[k].seconds, predicted += kinds[k].predicted_s;
    qsort(kinds, (size_t)count, sizeof(*kinds), slower_first);
    fprintf(stream, "%-28s %8s %9s %10s %6s %10s %8s %9s\n", "op", "launches", "ms/step", "predicted", "share",
            "GFLOP/s", "GB/s", "of limit");
    for (int32_t k = 0; k < count; k++) {
        const kind *o = &kinds[k];
        double traffic = rates->copy_bytes_per_s > 0 ? o->bytes / rates->copy_bytes_per_s : 0;
        double least = o->arithmetic_s > traffic ? o->arithmetic_s : traffic;
        fprintf(stream, "%-28s %8.0f %9.3f %10.3f %5.1f%% %10.1f %8.2f %8.0f%%\n", o->op->name,
                (double)o->launches / steps, 1e3 * o->seconds / steps, 1e3 * o->predicted_s / steps,
                100 * o->seconds / all, o->flops / o->seconds * 1e-9, o->bytes / o->seconds * 1e-9,
                100 * least / o->seconds);
    }
    fprintf(stream, "%-28s %8s %9.3f %10.3f\n", "all", "", 1e3 * all / steps, 1e3 * predicted / steps);
}

/* One run of each program, launch after launch, in the format of chrome://tracing and Perfetto. */
static double trace_program(grdi_writer *w, const grd_program *program, double at, bool first)
{
    for (size_t n = 0; n < program->plan->launch_count && program->profiled_runs; n++) {
        const grdi_launch *launch = &program->plan->launches[n];
        double us = 1e6 * program->launch_seconds[n] / (double)program->profiled_runs;
        char dims[GRD_DIMS_TEXT_MAX];
        grdi_writer_print(w,
                          "%s{\"name\":\"%s\",\"cat\":\"%s\",\"ph\":\"X\",\"pid\":1,\"tid\":1,\"ts\":%.3f,\"dur\":%.3f,"
                          "\"args\":{\"scope\":\"%s\",\"output\":\"%s\",\"flops\":%.0f,\"bytes\":%.0f}}",
                          first && n == 0 ? "" : ",\n", launch->call.op->name,
                          launch->node->phase == GRDI_BACKWARD ? "backward" : "forward", at, us, launch->node->scope,
                          grd_dims_text(launch->call.out[0].dims, dims), launch->flops, launch->bytes);
        at += us;
    }
    return at;
}

grd_status grd_step_profile_write(grd_step *step, FILE *stream, const char *trace_path)
{
    if (grdi_step_usable(step) || !step->micro->profiled_runs) return GRD_E_STATE;
    const grd_engine *engine = step->model->engine;
    grdi_rates rates = {0};
    if (engine->backend->rates) engine->backend->rates(engine->device, &rates);
    kind *kinds = grdi_alloc_zero((size_t)(grdi_op_total() + grdi_custom_count(engine)), sizeof(*kinds));
    if (!kinds) return grd_fail(&step->error, GRD_E_MEMORY, "out of memory for a profile");
    int32_t count = 0;
    add_kinds(step->micro, &rates, kinds, &count);
    if (step->update.program) add_kinds(step->update.program, &rates, kinds, &count);
    double steps = (double)step->micro->profiled_runs / step->options.accumulate;
    if (stream) print_kinds(stream, kinds, count, steps, &rates);
    grdi_free(kinds);
    if (!trace_path) return GRD_OK;
    grdi_writer w;
    if (grdi_writer_open(&w, trace_path)) return grdi_writer_commit(&w, &step->error);
    grdi_writer_print(&w, "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n");
    double at = trace_program(&w, step->micro, 0, true);
    if (step->update.program) trace_program(&w, step->update.program, at, false);
    grdi_writer_print(&w, "\n]}\n");
    return grdi_writer_commit(&w, &step->error);
}
