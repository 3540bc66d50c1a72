/* test_cudasim_unwritten.c - no kernel of a step uses what it has not been given: all memory that holds nothing (the
 * arena before a value is written and after it was last read, scratch, results about to be overwritten) is filled with
 * NaN, and with large numbers, and changes no bit of a loss, a gradient or a weight. */
#include "plan/plan.h"
#include "run/run.h"
#include "sim_library.h"
#include "small_nets.h"
#include "tiny.h"
#include "train/train.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RUNS = 4, WATCHED_MAX = 3, CLEAN = -1, NOWHERE = -1 };

/* A program whose launches go through spy(). */
typedef struct watched {
    grd_program *program;
    const grdi_kernel **real;
    grdi_kernel *spies;
    size_t next; /* a launch before it begins another run */
} watched;

static watched all[WATCHED_MAX];
static int watched_count;
static int filling;      /* the byte that memory is filled with, or CLEAN */
static int64_t planted;  /* the launch of the first program whose kernel has a mistake, or NOWHERE */
static int64_t filled;   /* bytes */
static int64_t launches; /* of that program */
static bool plant_taken; /* the launch writes f32 over nothing that it reads, so that the mistake is one */

/* ---- views ---- */

static size_t extent_of(const grdi_view *view)
{
    int64_t last = 0;
    for (int32_t d = 0; d < view->dims.rank; d++) last += (view->dims.dim[d] - 1) * view->stride[d];
    return (size_t)(last + 1) * grd_dtype_size(view->dtype);
}

static bool overlap(const void *a, size_t a_bytes, const void *b, size_t b_bytes)
{
    return a && b && (const char *)a < (const char *)b + b_bytes && (const char *)b < (const char *)a + a_bytes;
}

/* Whether the launch overwrites the output without having read what lies there. */
static bool is_new(const grdi_call *call, int32_t o)
{
    const grdi_view *out = &call->out[o];
    if (!out->data || call->accumulate[o]) return false;
    if (overlap(call->base, extent_of(out), out->data, extent_of(out))) return false;
    for (int32_t i = strcmp(call->op->name, "assign") == 0; i < call->input_count; i++) /* its target is not read */
        if (call->in[i].data && overlap(call->in[i].data, extent_of(&call->in[i]), out->data, extent_of(out)))
            return false;
    return true;
}

static char *element(const grdi_view *view, int64_t index)
{
    int64_t at = 0;
    for (int32_t d = view->dims.rank; d-- > 0; index /= view->dims.dim[d])
        at += index % view->dims.dim[d] * view->stride[d];
    return (char *)view->data + at * (int64_t)grd_dtype_size(view->dtype);
}

/* ---- around each launch ---- */

static void fill(void *memory, size_t size_bytes)
{
    if (filling == CLEAN) return;
    memset(memory, filling, size_bytes);
    filled += (int64_t)size_bytes;
}

/* What lies outside of the arena and is about to be overwritten. Some launches write parts of a buffer. */
static void fill_results(const grdi_launch *launch, const grdi_plan *plan)
{
    for (int32_t o = 0; o < launch->call.output_count; o++) {
        const grdi_view *out = &launch->call.out[o];
        if (launch->out[o].buffer < 0 || plan->buffers[launch->out[o].buffer].place == GRDI_IN_ARENA) continue;
        for (int64_t i = 0, n = grd_dims_count(out->dims); is_new(&launch->call, o) && i < n; i++)
            fill(element(out, i), grd_dtype_size(out->dtype));
    }
}

/* The arena's values that no later launch reads, scratch among them. */
static void fill_dead(const watched *w, size_t n)
{
    const grdi_plan *plan = w->program->plan;
    for (size_t b = 0; b < plan->buffer_count; b++) {
        const grdi_buffer *buffer = &plan->buffers[b];
        if (buffer->place != GRDI_IN_ARENA || buffer->last != (int32_t)n) continue;
        fill((char *)w->program->graph->model->arena.data + buffer->offset_bytes, buffer->size_bytes);
    }
}

/* Runs the kernel, which with the mistake adds 0 times what lay where it writes. */
static grd_status run_real(const watched *w, size_t n, grdi_call *call)
{
    const grdi_view *out = &call->out[0];
    bool wrong = w == all && (int64_t)n == planted && is_new(call, 0) && out->dtype == GRD_F32;
    int64_t count = wrong ? grd_dims_count(out->dims) : 0;
    float *before = malloc(sizeof(float) * (size_t)(count + 1));
    for (int64_t i = 0; i < count; i++) memcpy(&before[i], element(out, i), sizeof(float));
    grd_status status = w->real[n]->run(call);
    const grd_engine *engine = w->program->graph->model->engine;
    engine->backend->wait(engine->device);
    for (int64_t i = 0; i < count; i++) *(float *)(void *)element(out, i) += 0 * before[i];
    free(before);
    plant_taken |= wrong;
    return status;
}

static grd_status spy(grdi_call *call)
{
    grdi_launch *launch = (grdi_launch *)(void *)((char *)call - offsetof(grdi_launch, call));
    watched *w = all;
    while (launch < w->program->plan->launches || launch >= w->program->plan->launches + w->program->plan->launch_count)
        w++;
    const grdi_plan *plan = w->program->plan;
    size_t n = (size_t)(launch - plan->launches);
    const grdi_backend *backend = w->program->graph->model->engine->backend;
    backend->wait(w->program->graph->model->engine->device);
    if (n < w->next) fill(w->program->graph->model->arena.data, w->program->graph->model->arena.size_bytes);
    w->next = n + 1;
    fill_results(launch, plan);
    grd_status status = run_real(w, n, call);
    fill_dead(w, n);
    return status;
}

/* Profiled programs are run launch by launch each time. */
static void watch(grd_program *program)
{
    if (!program) return;
    size_t count = program->plan->launch_count;
    watched *w = &all[watched_count++];
    *w = (watched){program, calloc(count, sizeof(*w->real)), calloc(count, sizeof(*w->spies)), count + 1};
    for (size_t n = 0; n < count; n++) {
        grdi_launch *launch = &program->plan->launches[n];
        w->real[n] = launch->kernel;
        w->spies[n] = *launch->kernel;
        w->spies[n].run = spy;
        launch->kernel = &w->spies[n];
    }
    cr_assert(grdi_program_profile(program, true) == GRD_OK);
}

static void watch_step(grd_step *step)
{
    watched_count = 0;
    plant_taken = false;
    watch(step->micro);
    watch(step->update.program);
    watch(step->begin);
    launches = (int64_t)step->micro->plan->launch_count;
}

static void unwatch(void)
{
    for (int i = 0; i < watched_count; i++) {
        free(all[i].real);
        free(all[i].spies);
    }
}

/* ---- what comes of two steps ---- */

typedef struct outcome {
    grd_status status;
    double losses[RUNS], norms[RUNS];
    size_t size_bytes;
    char *variables; /* gradients and optimizer states among them */
} outcome;

static void read_variables(grd_model *model, outcome *o)
{
    grd_variable v;
    grd_error error = {GRD_OK, ""};
    for (int64_t i = 0, n = grd_model_variable_count(model); i < n; i++) {
        cr_assert(grd_model_variable_at(model, i, &v));
        o->variables = realloc(o->variables, o->size_bytes + v.size_bytes);
        cr_assert(grd_model_read(model, v.path, o->variables + o->size_bytes, &error) == GRD_OK, "%s", error.message);
        o->size_bytes += v.size_bytes;
    }
}

static bool same(const outcome *a, const outcome *b)
{
    return a->status == b->status && !memcmp(a->losses, b->losses, sizeof(a->losses)) &&
           !memcmp(a->norms, b->norms, sizeof(a->norms)) && a->size_bytes == b->size_bytes &&
           !memcmp(a->variables, b->variables, a->size_bytes);
}

/* Some networks, each in f32 and bf16. */
typedef enum network { GPT2, LLAMA, IMAGES, SERIES, NETWORKS } network;
static const char *const names[] = {"gpt2", "llama", "images", "series"};

static outcome run_transformer(bool modern, bool bf16)
{
    tiny t;
    outcome o = {.status = GRD_OK};
    tiny_build(&t, "cudasim", modern);
    grd_step *step = grd_step_new(t.loss, grd_adamw(1e-2), .clip_norm = 1, .sum_micro = true, .accumulate = 2,
                                  .program = {.size = sizeof(grd_program_options), .bf16 = bf16});
    cr_assert(step, "%s", grd_engine_error(t.engine)->message);
    watch_step(step);
    for (int i = 0; i < RUNS && !o.status; i++) {
        grd_metrics m = {0};
        tiny_new_batch(&t, i);
        tiny_feed(&t, step, 0.5f);
        o.status = grd_step_run(step, &m);
        o.losses[i] = m.loss, o.norms[i] = m.grad_norm;
    }
    read_variables(t.model, &o);
    tiny_close(&t);
    return o;
}

static outcome run_small_net(bool of_series, bool bf16)
{
    static float x[BATCH * 9 * 9 * 2];
    outcome o = {.status = GRD_OK};
    made m = make("cudasim", of_series ? grd_shape(BATCH, 4, 3) : grd_shape(BATCH, 9, 9, 2),
                  of_series ? series : images, bf16);
    watch_step(m.step);
    for (int i = 0; i < RUNS && !o.status; i++) {
        grd_metrics metrics = {0};
        const int32_t y[BATCH] = {i, 1, 4};
        for (int k = 0; k < BATCH * 9 * 9 * 2; k++) x[k] = sinf((float)(k * (i + 1)));
        cr_assert(!grd_step_feed(m.step, m.x, x) && !grd_step_feed(m.step, m.y, y));
        o.status = grd_step_run(m.step, &metrics);
        o.losses[i] = metrics.loss, o.norms[i] = metrics.grad_norm;
    }
    read_variables(m.step->model, &o);
    grd_engine_close(m.engine);
    return o;
}

static outcome run(network net, bool bf16, int byte, int64_t plant)
{
    filling = byte;
    planted = plant;
    outcome o = net <= LLAMA ? run_transformer(net == LLAMA, bf16) : run_small_net(net == SERIES, bf16);
    unwatch();
    return o;
}

/* NaN in every dtype, which maxima pass over; and 3e38, which they do not. */
static const int bytes[] = {0xFF, 0x7F};

static void check_all(void)
{
    for (int k = 0; k < 2 * NETWORKS; k++) {
        network net = (network)(k / 2);
        outcome clean = run(net, k % 2, CLEAN, NOWHERE);
        cr_assert(clean.status == GRD_OK && isfinite(clean.losses[RUNS - 1]) && clean.norms[RUNS - 1] > 0);
        for (int b = 0; b < 2; b++) {
            filled = 0;
            outcome o = run(net, k % 2, bytes[b], NOWHERE);
            printf("%s, %s: %lld bytes filled\n", names[net], k % 2 ? "bf16" : "f32", (long long)filled);
            cr_expect(filled > 10000);
            cr_expect(same(&clean, &o), "%s, %s, bytes of %02x: loss %g, not %g", names[net], k % 2 ? "bf16" : "f32",
                      (unsigned)bytes[b], o.losses[RUNS - 1], clean.losses[RUNS - 1]);
            free(o.variables);
        }
        free(clean.variables);
    }
    sim_is_content();
}

Test(cudasim_unwritten, changes_nothing)
{
    check_all();
}

Test(cudasim_unwritten, changes_nothing_without_cudnn)
{
    setenv("GRADUS_WITHOUT_CUDNN", "1", 1);
    check_all();
}

/* The mistake in one launch after the other: it is found in all of them. */
Test(cudasim_unwritten, planted_is_found)
{
    for (network net = GPT2; net <= IMAGES; net += IMAGES) {
        int tried = 0;
        outcome clean = run(net, false, CLEAN, NOWHERE);
        for (int64_t n = 0, count = launches; n < count; n++) {
            outcome o = run(net, false, 0xFF, n);
            tried += plant_taken;
            cr_expect(same(&clean, &o) != plant_taken, "%s: launch %lld", names[net], (long long)n);
            free(o.variables);
        }
        printf("%s: tried in %d of %lld launches\n", names[net], tried, (long long)launches);
        cr_expect(tried > launches / 2);
        free(clean.variables);
    }
}
