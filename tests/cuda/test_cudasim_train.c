/* test_cudasim_train.c - tiny models trained on the simulated CUDA device follow the CPU. */
#include "chosen.h"
#include "sim_library.h"

#include "faults.h"
#include "tiny.h"

#include <math.h>
#include <string.h>

enum { STEPS = 20 };

static void new_batch(tiny *t, int i)
{
    for (int k = 0; k < TINY_BATCH * TINY_LENGTH; k++) {
        uint32_t random = (uint32_t)(i * TINY_BATCH * TINY_LENGTH + k + 1) * 2654435761u >> 8;
        t->inputs[k] = (int32_t)(random % TINY_VOCAB);
        t->wanted[k] = (t->inputs[k] * 5 + 1) % TINY_VOCAB;
    }
}

/* As train.precision has them. */
typedef enum precision { F32, BF16, BF16_PURE, F16 } precision;
static const char *const precision_names[] = {"f32", "bf16", "bf16-pure", "f16"};

/* Algorithms are those in `chosen`, if any are, and then those that were chosen. */
static void losses_on(const char *device, bool modern, precision p, grd_optimizer optimizer, char **chosen,
                      double *losses)
{
    tiny t;
    tiny_build_kept(&t, device, modern, p == BF16_PURE ? GRD_BF16 : GRD_F32);
    if (chosen) choose_as(t.engine, *chosen);
    grd_step *step = grd_step_new(
        t.loss, optimizer, .clip_norm = 1, .sum_micro = true, .accumulate = 2,
        .program = {.size = sizeof(grd_program_options), .bf16 = p == BF16 || p == BF16_PURE, .f16 = p == F16});
    cr_assert(step != NULL, "%s", grd_engine_error(t.engine)->message);
    for (int i = 0; i < STEPS; i++) {
        grd_metrics m = {0};
        for (int k = 0; k < 2; k++) {
            new_batch(&t, 2 * i + k);
            tiny_feed(&t, step, 0.5f);
            cr_assert(grd_step_run(step, &m) == GRD_OK, "%s", grd_step_error(step)->message);
        }
        losses[i] = m.loss;
    }
    if (chosen) grdi_free(*chosen);
    if (chosen) *chosen = chosen_by(t.engine);
    tiny_close(&t);
}

static double furthest(const double *a, const double *b)
{
    double most = 0;
    for (int i = 0; i < STEPS; i++) most = fmax(most, isfinite(b[i]) ? fabs(a[i] - b[i]) / fabs(a[i]) : INFINITY);
    return most;
}

/* f32: sums in another order, which Adam makes more of (1e-5 seen); bf16: roundings that fall the other way; pure:
 * those of weights, too, which are drawn alike but seldom see the same value. */
static void follows(precision p, double tolerance)
{
    for (int modern = 0; modern < 2; modern++) {
        double cpu[STEPS], sim[STEPS], other[STEPS];
        char *chosen = NULL;
        losses_on("cpu", modern, p, grd_adamw(2e-3), NULL, cpu);
        for (int run = 0; run < 2; run++) {
            be_another_run(run);
            losses_on(cuda_device(), modern, p, grd_adamw(2e-3), &chosen, run ? other : sim);
            sim_is_content();
        }
        grdi_free(chosen);
        double off = furthest(cpu, sim);
        printf("%s, %s: within %.1e of cpu in %d steps, loss %.4f to %.4f\n", modern ? "llama kind" : "gpt-2 kind",
               precision_names[p], off, STEPS, sim[0], sim[STEPS - 1]);
        cr_expect(off < tolerance, "kind %d: %.3g off", modern, off);
        cr_expect(sim[STEPS - 1] < sim[0], "kind %d: the loss does not fall", modern);
        cr_expect(memcmp(sim, other, sizeof(sim)) == 0, "kind %d: another order of warps gives other bits", modern);
    }
}

Test(cudasim_train, f32_follows_cpu)
{
    follows(F32, 1e-4);
}
Test(cudasim_train, bf16_follows_cpu)
{
    follows(BF16, 5e-3);
}
Test(cudasim_train, bf16_pure_follows_cpu)
{
    follows(BF16_PURE, 1e-3);
}
Test(cudasim_train, f16_follows_cpu)
{
    follows(F16, 1e-3);
}

Test(cudasim_train, other_optimizers_follow_cpu)
{
    const grd_optimizer optimizers[] = {grd_sgd(0.1), grd_lion(1e-3)};
    for (int i = 0; i < 2; i++) {
        double cpu[STEPS], sim[STEPS];
        losses_on("cpu", false, F32, optimizers[i], NULL, cpu);
        losses_on(cuda_device(), false, F32, optimizers[i], NULL, sim);
        sim_is_content();
        double off = furthest(cpu, sim);
        cr_expect(off < 1e-3, "optimizer %d: %.3g off", i, off); /* Lion's sign of what is nearly zero */
    }
}

enum { ASKED = 8 };

/* Steps asked for without waiting, their results taken as they come. Counts what the host does in the later ones. */
static void run_ahead(tiny *t, grd_step *step, double *losses)
{
    grdi_sim_counts *counts = SIM(grdi_sim_count)(), before = *counts;
    int told = 0;
    grd_metrics m = {0};
    for (int i = 0; i < ASKED; i++) {
        new_batch(t, i);
        before = *counts;
        const long allocations = faults_allocations();
        tiny_feed(t, step, 1);
        cr_assert(grd_step_run(step, NULL) == GRD_OK, "%s", grd_step_error(step)->message);
        cr_assert(grd_step_result(step, false, &m) == GRD_OK, "%s", grd_step_error(step)->message);
        cr_expect(m.updated == (i > 0), "step %d: nothing has come back from the one before", i);
        if (m.updated) losses[told++] = m.loss;
        int64_t graphs = counts->graph_launches - before.graph_launches;
        cr_expect(graphs == (i < 1 ? 0 : 2), "step %d: %lld graphs", i, (long long)graphs);
        if (i < 2) continue;
        int64_t waits = counts->synchronisations - before.synchronisations;
        cr_expect(waits == 0, "step %d waits %lld times", i, (long long)waits);
        cr_expect(counts->device_allocations == before.device_allocations, "step %d allocates on the device", i);
        cr_expect(counts->host_allocations == before.host_allocations, "step %d allocates pinned memory", i);
        cr_expect(faults_allocations() == allocations, "step %d allocates %ld times", i,
                  faults_allocations() - allocations);
        cr_expect(counts->kernels > before.kernels && counts->matmuls > before.matmuls, "step %d does nothing", i);
    }
    cr_assert(grd_step_pending(step) == 1 && grd_step_result(step, true, &m) == GRD_OK && m.updated,
              "the last is lost");
    losses[told] = m.loss;
}

/* From the third step on a step is two graphs, and the host, which sees each loss a step later, neither allocates nor
 * waits; the losses are those of steps that are waited for. */
Test(cudasim_train, steps_are_graphs_that_neither_allocate_nor_wait)
{
    double ahead[ASKED], waited[ASKED];
    if (!on_simulator()) return; /* which alone counts */
    faults_install();
    for (int k = 0; k < 2; k++) {
        tiny t;
        tiny_build(&t, "cudasim", true);
        grd_step *step = grd_step_new(t.loss, grd_adamw(2e-3), .clip_norm = 1, .sum_micro = true);
        cr_assert(step != NULL, "%s", grd_engine_error(t.engine)->message);
        if (k == 0) run_ahead(&t, step, ahead);
        for (int i = 0; k == 1 && i < ASKED; i++) {
            grd_metrics m = {0};
            new_batch(&t, i);
            tiny_feed(&t, step, 1);
            cr_assert(grd_step_run(step, &m) == GRD_OK, "%s", grd_step_error(step)->message);
            waited[i] = m.loss;
        }
        sim_is_content();
        tiny_close(&t);
    }
    cr_expect(memcmp(ahead, waited, sizeof(ahead)) == 0, "waiting changes losses");
}

/* A batch whose loss is NaN is seen when `seen_after` steps at most have been asked for (0: it does not come), the
 * later ones with good batches. None of them touches weights, and the run goes on as if nothing had happened. */
static void stumble(const char *device, bool f16, int seen_after, char **chosen, double *sums)
{
    static const char *const paths[] = {"h0/mlp/up/weight", "exp_avg/h0/mlp/up/weight", "h1/attn/qkv/bias"};
    tiny t;
    tiny_build(&t, device, false);
    choose_as(t.engine, *chosen);
    grd_step *step = grd_step_new(t.loss, grd_adamw(1e-2), .clip_norm = 1, .sum_micro = true,
                                  .program = {.size = sizeof(grd_program_options), .f16 = f16});
    for (int i = 0; i < 5; i++) {
        double before = tiny_square_sum(t.model, paths[0]);
        if (i == 3 && seen_after) {
            grd_status status = GRD_OK;
            int asked = 0;
            grd_metrics m = {0};
            for (; !status && asked < seen_after; asked++) {
                new_batch(&t, 100 + asked);
                tiny_feed(&t, step, asked ? 1 : NAN);
                status = grd_step_run(step, NULL);
            }
            cr_assert(status == GRD_E_NUMERIC, "%s: not seen after %d steps", device, asked);
            while (grd_step_result(step, true, &m) == GRD_OK && m.updated) {
            }
            cr_assert(m.skipped && grd_step_count(step) == 3 && m.step == 3, "step %lld", (long long)m.step);
            cr_assert(tiny_square_sum(t.model, paths[0]) == before, "%s: a weight changed", device);
            if (f16) cr_assert(tiny_square_sum(t.model, "loss_scale/scale") == 0x1p32, "%s: the scale changed", device);
        }
        new_batch(&t, i);
        tiny_feed(&t, step, 1);
        cr_assert(grd_step_run(step, i % 2 ? &(grd_metrics){0} : NULL) == GRD_OK, "%s", grd_step_error(step)->message);
    }
    cr_assert(grd_step_count(step) == 5);
    for (int k = 0; k < 3; k++) sums[k] = tiny_square_sum(t.model, paths[k]);
    grdi_free(*chosen);
    *chosen = chosen_by(t.engine);
    tiny_close(&t);
}

/* The CPU sees it in the step itself; the simulator, whose work is done when it is asked for, in the next one; a GPU
 * some steps later, at the latest where the host has to wait, being GRD_STEPS_AHEAD steps ahead. */
Test(cudasim_train, a_step_that_is_not_finite_holds_back_later_ones)
{
    const int seen_after = on_simulator() ? 2 : GRD_STEPS_AHEAD + 1;
    for (int k = 0; k < 4; k++) {
        double straight[3], stumbling[3];
        const char *device = k & 1 ? cuda_device() : "cpu";
        char *chosen = NULL;
        stumble(device, k >= 2, 0, &chosen, straight);
        stumble(device, k >= 2, k & 1 ? seen_after : 1, &chosen, stumbling);
        grdi_free(chosen);
        cr_assert(memcmp(straight, stumbling, sizeof(straight)) == 0, "%s: other weights", device);
    }
    sim_is_content();
}

/* A batch with NaN in it moves no running statistics, whether the run goes on or not, and the norm is what is named. */
static void spoil(const char *device, bool skips)
{
    static float x[8 * 4], spoilt[8 * 4];
    float before[2][4], after[2][4];
    grd_error error = {GRD_OK, ""};
    grd_metrics m;
    grd_engine *engine = grd_engine_open(device);
    grd_model *model = grd_model_new(engine, 1);
    grd_graph *graph = grd_graph_new(model);
    grd_tensor in = grd_input(graph, "x", GRD_F32, grd_shape(8, 4));
    grd_tensor y = grd_linear(grd_batch_norm(in, "norm", true), "out", 3);
    grd_step *step = grd_step_new(grd_mean(grd_square(y)), grd_sgd(0.1), .skip_nonfinite = skips);
    cr_assert(step != NULL, "%s", grd_graph_error(graph)->message);
    for (int i = 0; i < 32; i++) x[i] = spoilt[i] = (float)(i * 7 % 11);
    spoilt[5] = NAN;
    for (int i = 0; i < 4; i++) {
        cr_assert(!grd_step_feed(step, in, i == 2 ? spoilt : x));
        grd_status status = grd_step_run(step, &m), wanted = i == 2 && !skips ? GRD_E_NUMERIC : GRD_OK;
        cr_assert(status == wanted && m.skipped == (i == 2), "%s, step %d: %s", device, i,
                  grd_step_error(step)->message);
        if (i == 2 && !skips)
            cr_assert(strstr(grd_step_error(step)->message, "norm/"), "%s", grd_step_error(step)->message);
        cr_assert(!grd_model_read(model, "norm/running_mean", after[0], &error));
        cr_assert(!grd_model_read(model, "norm/running_var", after[1], &error));
        bool moved = i == 0 || memcmp(before, after, sizeof(after)) != 0;
        cr_assert(moved == (i != 2), "%s, step %d: statistics have %smoved", device, i, moved ? "" : "not ");
        memcpy(before, after, sizeof(after));
    }
    grd_engine_close(engine);
}

Test(cudasim_train, a_step_that_is_not_finite_leaves_running_statistics)
{
    for (int k = 0; k < 4; k++) spoil(k & 1 ? cuda_device() : "cpu", k >= 2);
    sim_is_content();
}
