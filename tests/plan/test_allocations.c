/* test_allocations.c - after compiling, a step allocates nothing on any thread. Runs under the preloaded counter
 * of tests/preload (LD_PRELOAD, which the build sets for ctest); oneDNN's allocations are counted apart and printed. */
#include "../preload/allocations.h"
#include "tiny.h"

#include <criterion/criterion.h>
#include <dlfcn.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

enum { WARM_UP = 2, STEPS = 100, FEW_STEPS = 3 };

static allocations_start_fn *counter_start;
static allocations_stop_fn *counter_stop;

static void find_counter(void)
{
    *(void **)&counter_start = dlsym(RTLD_DEFAULT, "allocations_start");
    *(void **)&counter_stop = dlsym(RTLD_DEFAULT, "allocations_stop");
    cr_assert(counter_start && counter_stop, "the counter is not preloaded (run by ctest, or set LD_PRELOAD to "
                                             "liballocations.so of the build folder)");
}

/* Where an allocation was called from, for people. */
static void print_callers(const allocation_counts *counts)
{
    for (int i = 0; i < ALLOCATION_CALLERS && counts->callers[i]; i++) {
        Dl_info info = {0};
        dladdr(counts->callers[i], &info);
        fprintf(stderr, "  allocation from %s, %s+%#tx\n", info.dli_fname ? info.dli_fname : "?",
                info.dli_sname ? info.dli_sname : "?",
                (char *)counts->callers[i] - (char *)(info.dli_sname ? info.dli_saddr : info.dli_fbase));
    }
}

typedef struct trial {
    grd_step *step;
    void (*feed)(void *context, grd_step *step);
    void *context;
} trial;

/* Our own allocations in so many steps, feeding included; fails the test when a step does. `all`, unless NULL, gets all
 * that was counted. */
static long count_steps_of(const char *what, trial t, int steps, allocation_counts *all)
{
    for (int i = 0; i < WARM_UP; i++) {
        t.feed(t.context, t.step);
        cr_assert(grd_step_run(t.step, NULL) == GRD_OK, "%s: %s", what, grd_step_error(t.step)->message);
    }
    grd_status status = GRD_OK;
    allocation_counts counts;
    counter_start();
    for (int i = 0; i < steps && !status; i++) {
        t.feed(t.context, t.step);
        status = grd_step_run(t.step, NULL);
    }
    counter_stop(&counts);
    cr_assert(status == GRD_OK, "%s: %s", what, grd_step_error(t.step)->message);
    long own = 0, library = 0;
    int used = 0;
    for (int k = 0; k < ALLOCATION_THREADS; k++) {
        own += counts.own[k];
        library += counts.library[k];
        used += counts.own[k] > 0;
    }
    printf("%-28s %d steps: %ld allocations of our own (on %d threads), %ld inside %ld oneDNN primitives\n", what,
           steps, own, used, library, counts.primitives);
    if (own) print_callers(&counts);
    if (all) *all = counts;
    return own;
}

static long count_steps(const char *what, trial t, allocation_counts *all)
{
    return count_steps_of(what, t, STEPS, all);
}

static void feed_tiny(void *context, grd_step *step)
{
    tiny_feed(context, step, 1);
}

Test(allocations, transformers_make_none)
{
    find_counter();
    for (int kind = 0; kind < 8; kind++) {
        bool modern = kind & 1, recompute = kind & 2, bf16 = kind & 4;
        tiny t;
        tiny_build(&t, "cpu", modern);
        grd_step *step = grd_step_new(t.loss, grd_adamw(1e-3), .clip_norm = 1, .sum_micro = true,
                                      .program = {.recompute = recompute, .bf16 = bf16});
        cr_assert(step != NULL, "%s", grd_engine_error(t.engine)->message);
        char what[64];
        snprintf(what, sizeof(what), "%s%s%s", modern ? "llama kind" : "gpt-2 kind", recompute ? ", recompute" : "",
                 bf16 ? ", bf16" : "");
        cr_expect(count_steps(what, (trial){step, feed_tiny, &t}, NULL) == 0, "%s allocates in a step", what);
        tiny_close(&t);
    }
}

/* ---- a multi-layer perceptron, wide enough for two threads and for oneDNN ---- */

enum { ROWS = 128, INPUTS = 96, CLASSES = 10 };

typedef struct perceptron {
    grd_engine *engine;
    grd_tensor x, y;
    float rows[ROWS * INPUTS];
    int32_t classes[ROWS];
} perceptron;

static void feed_perceptron(void *context, grd_step *step)
{
    perceptron *p = context;
    cr_assert(!grd_step_feed(step, p->x, p->rows) && !grd_step_feed(step, p->y, p->classes), "feed");
}

/* `extra`, if not NULL, is an op of one input that the hidden values go through. */
static grd_step *perceptron_step(perceptron *p, const grd_op_definition *extra, bool recompute, grd_optimizer optimizer)
{
    p->engine = grd_engine_open("cpu", .threads = 2);
    if (extra) cr_assert(grd_op_register(p->engine, extra) == GRD_OK, "%s", grd_engine_error(p->engine)->message);
    grd_graph *graph = grd_graph_new(grd_model_new(p->engine, 4));
    p->x = grd_input(graph, "x", GRD_F32, grd_shape(ROWS, INPUTS));
    p->y = grd_input(graph, "y", GRD_I32, grd_shape(ROWS));
    grd_segment_begin(graph);
    grd_tensor h = grd_relu(grd_linear(p->x, "fc1", 256));
    if (extra) h = grd_call(graph, extra->name, &h, 1, NULL, 0, NULL);
    h = grd_relu(grd_linear(h, "fc2", 128));
    grd_segment_end(graph);
    grd_tensor loss = grd_mean(grd_cross_entropy(grd_linear(h, "fc3", CLASSES), p->y));
    for (int i = 0; i < ROWS * INPUTS; i++) p->rows[i] = (float)(i * 37 % 101) / 101;
    for (int i = 0; i < ROWS; i++) p->classes[i] = i % CLASSES;
    grd_step *step = grd_step_new(loss, optimizer, .program = {.recompute = recompute});
    cr_assert(step != NULL, "%s", grd_engine_error(p->engine)->message);
    return step;
}

Test(allocations, perceptrons_make_none)
{
    find_counter();
    static const char *const names[] = {"mlp, adamw", "mlp, sgd, recompute"};
    for (int kind = 0; kind < 2; kind++) {
        static perceptron p;
        grd_step *step = perceptron_step(&p, NULL, kind == 1, kind ? grd_sgd(0.1) : grd_adamw(1e-3));
        cr_expect(count_steps(names[kind], (trial){step, feed_perceptron, &p}, NULL) == 0, "%s allocates", names[kind]);
        grd_engine_close(p.engine);
    }
}

/* f32 products are our own; asked for, oneDNN makes them, and what it allocates is not taken for ours. */
Test(allocations, those_of_onednn_are_told_apart)
{
    find_counter();
    static perceptron p;
    setenv("GRADUS_MATMUL", "onednn", 1);
    grd_step *step = perceptron_step(&p, NULL, false, grd_adamw(1e-3));
    bool present = strstr(grd_engine_device_kind(p.engine), "onednn") != NULL;
    allocation_counts counts;
    long own = count_steps("mlp through oneDNN", (trial){step, feed_perceptron, &p}, &counts);
    cr_expect(own == 0, "%ld allocations around oneDNN's", own);
    cr_expect(!present || counts.primitives >= STEPS, "oneDNN executed %ld primitives", counts.primitives);
    grd_engine_close(p.engine);
}

/* ---- the models of `gradus bench model` ---- */

/* Shapes as there, but fewer tokens a step, and the two large ones fewer steps, unless GRADUS_ALL_STEPS is set: what a
 * step allocates depends on neither. */
static const struct bench_model {
    const char *name;
    grd_gpt gpt;
    int64_t batch, context;
    bool large;
} bench_models[] = {
    {"gpt-small", {.layers = 4, .heads = 4, .width = 128, .context = 128, .vocab = 1024}, 16, 128, false},
    {"gpt-baby", {.layers = 6, .heads = 6, .width = 384, .context = 256, .vocab = 65, .no_bias = true}, 16, 256, true},
    {"gpt2-124m", {.layers = 12, .heads = 12, .width = 768, .context = 1024, .vocab = 50304}, 4, 64, true},
};

typedef struct gpt_batch {
    grd_tensor ids, targets, scale;
    int32_t *tokens;
    float scale_value;
} gpt_batch;

static void feed_gpt(void *context, grd_step *step)
{
    gpt_batch *b = context;
    cr_assert(!grd_step_feed(step, b->ids, b->tokens) && !grd_step_feed(step, b->targets, b->tokens) &&
                  !grd_step_feed(step, b->scale, &b->scale_value),
              "feed");
}

static void count_model(const struct bench_model *m, bool recompute)
{
    bool whole = getenv("GRADUS_ALL_STEPS") != NULL;
    int64_t batch = whole ? m->batch : 1, context = whole ? m->context : 16, count = batch * context;
    gpt_batch b = {.tokens = calloc((size_t)count, sizeof(int32_t)), .scale_value = 1.0f / (float)count};
    for (int64_t i = 0; i < count; i++) b.tokens[i] = (int32_t)(i * 7919 % m->gpt.vocab);
    grd_gpt gpt = m->gpt;
    grd_error error = {GRD_OK, ""};
    cr_assert(!grd_gpt_resolve(&gpt, &error), "%s", error.message);
    grd_engine *engine = grd_engine_open("cpu", .threads = 2);
    grd_graph *graph = grd_graph_new(grd_model_new(engine, 1));
    b.ids = grd_input(graph, "ids", GRD_I32, grd_shape(batch, context));
    b.targets = grd_input(graph, "targets", GRD_I32, grd_shape(batch, context));
    b.scale = grd_input(graph, "scale", GRD_F32, grd_scalar());
    grd_tensor none = {0}, loss = grd_gpt_loss(grd_gpt_hidden(b.ids, &gpt, none), &gpt, b.targets, b.scale, NULL);
    grd_step *step = grd_step_new(loss, grd_adamw(3e-4), .program = {.recompute = recompute});
    cr_assert(step != NULL, "%s", grd_engine_error(engine)->message);
    char what[64];
    snprintf(what, sizeof(what), "%s%s", m->name, recompute ? ", recompute" : "");
    long own = count_steps_of(what, (trial){step, feed_gpt, &b}, whole || !m->large ? STEPS : FEW_STEPS, NULL);
    cr_expect(own == 0, "%s: %ld allocations", what, own);
    grd_plan_report report;
    cr_assert(!grd_step_report(step, &report), "report");
    cr_expect(grd_step_high_water(step) == report.arena_bytes, "%s: planned %zu bytes of arena, used %zu", what,
              report.arena_bytes, grd_step_high_water(step));
    grd_engine_close(engine);
    free(b.tokens);
}

Test(allocations, bench_models_make_none)
{
    find_counter();
    for (size_t i = 0; i < sizeof(bench_models) / sizeof(bench_models[0]); i++) {
        count_model(&bench_models[i], false);
        count_model(&bench_models[i], true);
    }
}

/* ---- the counter sees what it is there to see ---- */

static void same_shape(grd_op_shape *c)
{
    c->out[0] = c->in[0];
}

static void pass_on(grd_op_gradient *g)
{
    g->grad_in[0] = g->grad_out[0];
}

static void not_run(const grd_op_reference *r)
{
    (void)r;
    cr_assert_fail("the reference ran although there is a kernel");
}

/* Copies, and allocates once on the second thread of the pool. */
static void leaky(const grd_op_kernel *k)
{
    int64_t count = grd_dims_count(k->in_type[0].dims);
    for (int64_t i = 0; i < count; i++) k->out[0][i] = k->in[0][i];
#pragma omp parallel num_threads(2)
    if (omp_get_thread_num() == omp_get_num_threads() - 1) {
        void *volatile planted = malloc(24);
        free(planted);
    }
}

Test(allocations, a_planted_one_is_found)
{
    find_counter();
    const grd_op_definition d = {.size = sizeof(d),
                                 .name = "leaky_copy",
                                 .inputs = 1,
                                 .shape = same_shape,
                                 .gradient = pass_on,
                                 .reference = not_run,
                                 .kernel_f32 = leaky};
    static perceptron p;
    grd_step *step = perceptron_step(&p, &d, false, grd_adamw(1e-3));
    long found = count_steps("mlp with a planted one", (trial){step, feed_perceptron, &p}, NULL);
    cr_assert(found == STEPS, "%d planted, %ld found", STEPS, found);
    grd_engine_close(p.engine);
}
