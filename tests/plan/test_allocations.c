/* test_allocations.c - after compiling, a step allocates nothing on any thread. Runs under the preloaded counter
 * of tests/preload (LD_PRELOAD, which the build sets for ctest); oneDNN's allocations are counted apart and printed. */
#include "../preload/allocations.h"
#include "tiny.h"

#include <criterion/criterion.h>
#include <dlfcn.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

enum { WARM_UP = 2, STEPS = 100 };

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

/* Our own allocations in STEPS steps, feeding included; fails the test when a step does. `all`, unless NULL, gets all
 * that was counted. */
static long count_steps(const char *what, trial t, allocation_counts *all)
{
    for (int i = 0; i < WARM_UP; i++) {
        t.feed(t.context, t.step);
        cr_assert(grd_step_run(t.step, NULL) == GRD_OK, "%s: %s", what, grd_step_error(t.step)->message);
    }
    grd_status status = GRD_OK;
    allocation_counts counts;
    counter_start();
    for (int i = 0; i < STEPS && !status; i++) {
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
           STEPS, own, used, library, counts.primitives);
    if (own) print_callers(&counts);
    if (all) *all = counts;
    return own;
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
