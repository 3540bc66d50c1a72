/* test_step_faults.c - building, compiling and running training steps when an allocation fails: every one of them, one
 * at a time. What comes out is an error that says so, or the numbers of a run without the fault; nothing leaks. */
#include "faults.h"

#include <criterion/criterion.h>
#include <gradus/gradus.h>
#include <string.h>

enum { BATCH = 2, LENGTH = 4, VOCAB = 16, STEPS = 2 };

/* What a trial is made of; each field takes it through other code. */
typedef struct recipe {
    const char *device;
    bool modern, recompute, averaged, muon;
} recipe;

typedef struct result {
    grd_error error;
    double losses[STEPS];
    double weight; /* the sum of squares of one */
} result;

/* The first error there is, taken from where its caller would look for it. */
static bool failed(result *r, const grd_error *error)
{
    if (error->status) r->error = *error;
    return error->status != GRD_OK;
}

static grd_tensor build(const recipe *recipe, grd_graph *graph, grd_tensor in[3], result *r)
{
    grd_gpt gpt = {.layers = 1, .heads = 2, .width = 8, .vocab = VOCAB, .context = LENGTH};
    grd_tensor none = {0};
    if (recipe->modern) {
        gpt.kv_heads = 1;
        gpt.norm = GRD_NORM_RMSNORM;
        gpt.position = GRD_POSITION_ROPE;
        gpt.mlp = GRD_MLP_SWIGLU;
        gpt.no_bias = gpt.untied = gpt.qk_norm = true;
    }
    cr_assert(grd_gpt_resolve(&gpt, &r->error) == GRD_OK, "%s", r->error.message);
    in[0] = grd_input(graph, "ids", GRD_I32, grd_shape(BATCH, LENGTH));
    in[1] = grd_input(graph, "targets", GRD_I32, grd_shape(BATCH, LENGTH));
    in[2] = grd_input(graph, "scale", GRD_F32, grd_scalar());
    return grd_gpt_loss(grd_gpt_hidden(in[0], &gpt, none), &gpt, in[1], in[2], NULL);
}

static grd_step *compile(const recipe *recipe, grd_tensor loss)
{
    const grd_group matrices = {.match = "h0/mlp/*/weight", .optimizer = grd_muon(0.02)};
    return grd_step_new(loss, grd_adamw(1e-2), .clip_norm = 1, .sum_micro = true, .groups = &matrices,
                        .group_count = recipe->muon, .ema_decay = recipe->averaged ? 0.9 : 0,
                        .program = {.recompute = recipe->recompute});
}

static void run(const recipe *recipe, grd_model *model, grd_step *step, const grd_tensor in[3], result *r)
{
    int32_t ids[BATCH * LENGTH], targets[BATCH * LENGTH];
    float scale = 1.0f / (BATCH * LENGTH), weight[8 * 64];
    for (int i = 0; i < BATCH * LENGTH; i++) {
        ids[i] = i * 7 % VOCAB;
        targets[i] = i * 5 % VOCAB;
    }
    for (int i = 0; i < STEPS; i++) {
        grd_metrics metrics;
        if (grd_step_feed(step, in[0], ids) || grd_step_feed(step, in[1], targets) ||
            grd_step_feed(step, in[2], &scale) || grd_step_run(step, &metrics)) {
            failed(r, grd_step_error(step));
            return;
        }
        r->losses[i] = metrics.loss;
    }
    if (recipe->averaged && grd_step_swap_ema(step)) {
        failed(r, grd_step_error(step));
        return;
    }
    grd_variable v;
    if (!grd_model_variable_find(model, "h0/mlp/down/weight", &v)) return;
    cr_assert(v.size_bytes <= sizeof(weight), "%zu bytes", v.size_bytes);
    if (grd_model_read(model, v.path, weight, &r->error)) return;
    for (size_t k = 0; k < v.size_bytes / sizeof(float); k++) r->weight += (double)weight[k] * weight[k];
}

static result attempt(const recipe *recipe)
{
    result r = {{GRD_OK, ""}, {0}, 0};
    grd_tensor in[3];
    grd_engine *engine = grd_engine_open(recipe->device, .threads = 1);
    if (failed(&r, grd_engine_error(engine))) {
        grd_engine_close(engine);
        return r;
    }
    grd_model *model = grd_model_new(engine, 3);
    grd_tensor loss = build(recipe, grd_graph_new(model), in, &r);
    grd_step *step = r.error.status ? NULL : compile(recipe, loss);
    bool bad = failed(&r, grd_engine_error(engine)); /* whatever the graph says, the engine repeats */
    cr_expect(bad || step, "there is no step, and the engine says nothing");
    if (step && !bad) {
        bad = failed(&r, grd_step_error(step));
        cr_expect(!bad, "a step was made, but holds an error: %s", r.error.message);
    }
    if (!bad) run(recipe, model, step, in, &r);
    grd_engine_close(engine);
    return r;
}

static bool same(const result *a, const result *b)
{
    return memcmp(a->losses, b->losses, sizeof(a->losses)) == 0 && a->weight == b->weight;
}

static void sweep(const recipe *recipe)
{
    faults_install();
    result whole = attempt(recipe);
    cr_assert(whole.error.status == GRD_OK && whole.weight > 0, "without a fault: %s", whole.error.message);
    cr_assert(faults_held() == 0, "without a fault, %ld things leak", faults_held());
    long n = 1;
    for (bool hit = true; hit; n++) {
        faults_fail_at(n);
        result r = attempt(recipe);
        hit = faults_hit();
        faults_fail_at(0);
        cr_expect(r.error.status == GRD_OK || r.error.status == GRD_E_MEMORY, "fault %ld: status %d: %s", n,
                  r.error.status, r.error.message);
        cr_expect(!r.error.status == !r.error.message[0], "fault %ld: status %d without words", n, r.error.status);
        cr_expect(r.error.status || same(&r, &whole), "fault %ld: no error, but other numbers (%g, %g)", n,
                  r.losses[0], whole.losses[0]);
        cr_assert(faults_held() == 0, "fault %ld: %ld things leak (%s)", n, faults_held(), r.error.message);
    }
    printf("%s%s%s%s%s: %ld allocations\n", recipe->device, recipe->modern ? ", llama kind" : ", gpt-2 kind",
           recipe->recompute ? ", recompute" : "", recipe->averaged ? ", averaged" : "", recipe->muon ? ", muon" : "",
           n - 2);
    fflush(stdout);
    cr_assert(n > 50, "only %ld allocations", n);
}

/* Reads both parameters of a new model, the first time with allocation `n` failing (0: none). The values of the second
 * time, one after the other; whether the first one failed. */
static bool read_twice(long n, float *values)
{
    grd_engine *engine = grd_engine_open("cpu", .threads = 1);
    grd_model *model = grd_model_new(engine, 5);
    grd_graph *graph = grd_graph_new(model);
    grd_parameter(graph, "first", grd_shape(6, 8), .init = GRD_INIT_NORMAL, .scale = 1);
    grd_parameter(graph, "second", grd_shape(8, 6), .init = GRD_INIT_NORMAL, .scale = 1);
    grd_error error = {GRD_OK, ""}, none = {GRD_OK, ""};
    faults_fail_at(n);
    bool fails = grd_model_read(model, "second", values, &error) != GRD_OK;
    bool hit = faults_hit();
    faults_fail_at(0);
    cr_assert(fails == hit, "fault %ld: %s", n, error.message);
    cr_assert(!grd_model_read(model, "first", values, &none), "fault %ld: %s", n, none.message);
    cr_assert(!grd_model_read(model, "second", values + 48, &none), "fault %ld: %s", n, none.message);
    grd_engine_close(engine);
    cr_assert(faults_held() == 0, "fault %ld: %ld things leak", n, faults_held());
    return fails;
}

/* A caller who frees some memory and asks again must not get weights that were placed but never given a value. */
Test(step_faults, first_values_come_whole_or_not_at_all)
{
    faults_install();
    float wanted[96], got[96];
    cr_assert(!read_twice(0, wanted), "without a fault");
    long n = 1;
    for (; read_twice(n, got); n++)
        cr_assert(memcmp(wanted, got, sizeof(got)) == 0, "fault %ld: other first values", n);
    cr_assert(n > 5, "only %ld allocations", n - 1);
}

Test(step_faults, gpt2_on_the_cpu)
{
    sweep(&(recipe){.device = "cpu"});
}

Test(step_faults, llama_with_recompute_and_average_on_the_cpu)
{
    sweep(&(recipe){.device = "cpu", .modern = true, .recompute = true, .averaged = true});
}

Test(step_faults, muon_on_the_reference)
{
    sweep(&(recipe){.device = "ref", .muon = true});
}
