/* test_cudasim_train.c - tiny models trained on the simulated CUDA device follow the CPU. */
#include "sim_library.h"

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

static void losses_on(const char *device, bool modern, bool bf16, grd_optimizer optimizer, double *losses)
{
    tiny t;
    tiny_build(&t, device, modern);
    grd_step *step = grd_step_new(t.loss, optimizer, .clip_norm = 1, .sum_micro = true, .accumulate = 2,
                                  .program = {.size = sizeof(grd_program_options), .bf16 = bf16});
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
    tiny_close(&t);
}

static double furthest(const double *a, const double *b)
{
    double most = 0;
    for (int i = 0; i < STEPS; i++) most = fmax(most, isfinite(b[i]) ? fabs(a[i] - b[i]) / fabs(a[i]) : INFINITY);
    return most;
}

/* f32: sums in another order, which Adam makes more of (1e-5 seen); bf16: roundings that fall the other way. */
static void follows(bool bf16, double tolerance)
{
    for (int modern = 0; modern < 2; modern++) {
        double cpu[STEPS], sim[STEPS], other[STEPS];
        losses_on("cpu", modern, bf16, grd_adamw(2e-3), cpu);
        for (int order = 0; order < 2; order++) {
            if (on_simulator()) SIM(grdi_sim_set_order)(order);
            losses_on(cuda_device(), modern, bf16, grd_adamw(2e-3), order ? other : sim);
            sim_is_content();
        }
        double off = furthest(cpu, sim);
        printf("%s, %s: within %.1e of cpu in %d steps, loss %.4f to %.4f\n", modern ? "llama kind" : "gpt-2 kind",
               bf16 ? "bf16" : "f32", off, STEPS, sim[0], sim[STEPS - 1]);
        cr_expect(off < tolerance, "kind %d: %.3g off", modern, off);
        cr_expect(sim[STEPS - 1] < sim[0], "kind %d: the loss does not fall", modern);
        cr_expect(memcmp(sim, other, sizeof(sim)) == 0, "kind %d: another order of warps gives other bits", modern);
    }
}

Test(cudasim_train, f32_follows_cpu) { follows(false, 1e-4); }
Test(cudasim_train, bf16_follows_cpu) { follows(true, 5e-3); }

Test(cudasim_train, other_optimizers_follow_cpu)
{
    const grd_optimizer optimizers[] = {grd_sgd(0.1), grd_lion(1e-3)};
    for (int i = 0; i < 2; i++) {
        double cpu[STEPS], sim[STEPS];
        losses_on("cpu", false, false, optimizers[i], cpu);
        losses_on(cuda_device(), false, false, optimizers[i], sim);
        sim_is_content();
        double off = furthest(cpu, sim);
        cr_expect(off < 1e-3, "optimizer %d: %.3g off", i, off); /* Lion's sign of what is nearly zero */
    }
}

/* From the third step on a step is two graphs; nothing is allocated, and the host waits only where it reads the
 * loss, the norm and the scale, after everything has been asked for. */
Test(cudasim_train, steps_are_graphs_that_allocate_nothing)
{
    tiny t;
    if (!on_simulator()) return; /* which alone counts */
    tiny_build(&t, "cudasim", true);
    grd_step *step = grd_step_new(t.loss, grd_adamw(2e-3), .clip_norm = 1, .sum_micro = true);
    cr_assert(step != NULL, "%s", grd_engine_error(t.engine)->message);
    grdi_sim_counts *counts = SIM(grdi_sim_count)(), before = *counts;
    for (int i = 0; i < 5; i++) {
        grd_metrics m = {0};
        tiny_feed(&t, step, 1);
        before = *counts;
        cr_assert(grd_step_run(step, &m) == GRD_OK, "%s", grd_step_error(step)->message);
        int64_t graphs = counts->graph_launches - before.graph_launches;
        cr_expect(graphs == (i < 1 ? 0 : 2), "step %d: %lld graphs", i, (long long)graphs);
        if (i < 2) continue;
        int64_t waits = counts->synchronisations - before.synchronisations;
        cr_expect(counts->device_allocations == before.device_allocations, "step %d allocates on the device", i);
        cr_expect(counts->host_allocations == before.host_allocations, "step %d allocates pinned memory", i);
        cr_expect(waits == 2 * 3, "step %d waits %lld times", i, (long long)waits); /* a copy and a stream, each read */
        cr_expect(counts->kernels > before.kernels && counts->matmuls > before.matmuls, "step %d does nothing", i);
    }
    sim_is_content();
    tiny_close(&t);
}
