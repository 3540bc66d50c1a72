/* test_cudasim_nets.c - tiny networks of images and series trained on the simulated CUDA device follow the CPU. */
#include "chosen.h"
#include "sim_library.h"

#include "faults.h"

#include <gradus/gradus.h>

#include <math.h>

enum { STEPS = 20, BATCH = 3, CLASSES = 5 };

/* Convolutions are cuDNN's where the device has it, and the simulator has a stand-in. */
typedef struct net {
    const char *name;
    grd_dims x;
    grd_tensor (*logits)(grd_tensor x);
    double tolerance[2]; /* f32, bf16: of a loss, relative to the first */
    double sgd;          /* its rate; 0: AdamW, which divides by gradients of whatever size */
} net;

static grd_tensor lenet(grd_tensor x)
{
    return grd_lenet(x, CLASSES, 2);
}

static grd_tensor resnet(grd_tensor x)
{
    return grd_resnet_logits(x, &(grd_resnet){.classes = CLASSES, .width = 2, .training = true});
}

/* A maximum with overlapping windows, groups, and the mean of windows, which the others do not have. */
static grd_tensor convolutions(grd_tensor x)
{
    x = grd_relu(grd_conv(x, "a", 4, 3, .stride = 2));
    x = grd_max_pool(x, 3, .stride = 1, .padding = 1);
    x = grd_relu(grd_conv(x, "b", 4, 3, .groups = 4));
    return grd_linear(grd_flatten(grd_average_pool(x, 2), 1, -1), "head", CLASSES);
}

static grd_tensor lstm(grd_tensor x)
{
    grd_tensor last;
    grd_lstm(x, "cell", 8, .last_h = &last);
    return grd_linear(last, "head", CLASSES);
}

static grd_tensor gru(grd_tensor x)
{
    grd_tensor last;
    grd_gru(x, "cell", 8, .last_h = &last);
    return grd_linear(last, "head", CLASSES);
}

static grd_tensor rnn(grd_tensor x)
{
    grd_tensor last;
    grd_rnn(x, "cell", 6, .last_h = &last);
    return grd_linear(last, "head", CLASSES);
}

/* f32: sums in another order. bf16: roundings that fall the other way. Smaller images leave batch norm three values in
 * the last stage of the ResNet, and then the CPU's own convolution and oneDNN's differ by 1e-2, too;
 * bf16 by itself moves its first loss by 2e-2. */
static const net nets[] = {
    {"lenet", {4, {BATCH, 8, 8, 1}}, lenet, {1e-4, 2e-2}, 0},
    {"resnet18", {4, {BATCH, 16, 16, 3}}, resnet, {1e-4, 1e-1}, 0.02},
    {"convolutions", {4, {BATCH, 9, 9, 2}}, convolutions, {1e-4, 2e-2}, 0},
    {"lstm", {3, {BATCH, 4, 3}}, lstm, {1e-4, 2e-2}, 0},
    {"gru", {3, {BATCH, 4, 3}}, gru, {1e-4, 2e-2}, 0},
    {"rnn", {3, {BATCH, 4, 3}}, rnn, {1e-4, 2e-2}, 0},
};

/* The same few samples in each step, so that they can be learnt by heart. */
static void fill(float *x, int64_t count, int32_t *y)
{
    for (int64_t i = 0; i < count; i++) x[i] = (float)((uint32_t)(i + 1) * 2654435761u >> 8) / (float)(1 << 23) - 1.0f;
    for (int i = 0; i < BATCH; i++) y[i] = (i * 2 + 1) % CLASSES;
}

/* Algorithms are those in `chosen`, if any are, and then those that were chosen. */
static void losses_on(const char *device, const net *n, bool bf16, char **chosen, double *losses)
{
    static float images[BATCH * 16 * 16 * 3];
    int32_t labels[BATCH];
    grd_engine *engine = grd_engine_open(device, .threads = 1);
    cr_assert(grd_engine_error(engine)->status == GRD_OK, "%s", grd_engine_error(engine)->message);
    if (chosen) choose_as(engine, *chosen);
    grd_graph *graph = grd_graph_new(grd_model_new(engine, 7));
    grd_tensor x = grd_input(graph, "x", GRD_F32, n->x), y = grd_input(graph, "y", GRD_I32, grd_shape(BATCH));
    grd_optimizer optimizer = n->sgd > 0 ? grd_sgd(n->sgd) : grd_adamw(5e-3);
    grd_step *step = grd_step_new(grd_cross_entropy_mean(n->logits(x), y), optimizer, .clip_norm = 1,
                                  .program = {.size = sizeof(grd_program_options), .bf16 = bf16});
    cr_assert(step, "%s: %s", n->name, grd_engine_error(engine)->message);
    fill(images, grd_dims_count(n->x), labels);
    for (int i = 0; i < STEPS; i++) {
        grd_metrics m = {0};
        grd_step_feed(step, x, images);
        grd_step_feed(step, y, labels);
        cr_assert(grd_step_run(step, &m) == GRD_OK, "%s: %s", n->name, grd_step_error(step)->message);
        losses[i] = m.loss;
    }
    if (chosen) grdi_free(*chosen);
    if (chosen) *chosen = chosen_by(engine);
    grd_engine_close(engine);
}

static double furthest(const double *a, const double *b)
{
    double most = 0;
    for (int i = 0; i < STEPS; i++) most = fmax(most, isfinite(b[i]) ? fabs(a[i] - b[i]) / fabs(a[0]) : INFINITY);
    return most;
}

static void follows(bool bf16)
{
    for (size_t i = 0; i < sizeof(nets) / sizeof(nets[0]); i++) {
        const net *n = &nets[i];
        double cpu[STEPS], sim[STEPS], other[STEPS];
        char *chosen = NULL;
        losses_on("cpu", n, bf16, NULL, cpu);
        for (int run = 0; run < 2; run++) {
            be_another_run(run);
            losses_on(cuda_device(), n, bf16, &chosen, run ? other : sim);
        }
        grdi_free(chosen);
        sim_is_content();
        double off = furthest(cpu, sim);
        printf("%s, %s: within %.1e of cpu in %d steps, loss %.4f to %.4f\n", n->name, bf16 ? "bf16" : "f32", off,
               STEPS, sim[0], sim[STEPS - 1]);
        cr_expect(off < n->tolerance[bf16], "%s: %.3g off", n->name, off);
        cr_expect(sim[STEPS - 1] < sim[0], "%s: the loss does not fall", n->name);
        cr_expect(memcmp(sim, other, sizeof(sim)) == 0, "%s: another order of warps gives other bits", n->name);
    }
}

Test(cudasim_nets, f32_follows_cpu)
{
    follows(false);
}
/* Engines for convolutions of bf16 are timed first, on memory of their own (else the simulator is not content). */
Test(cudasim_nets, bf16_follows_cpu)
{
    follows(true);
    if (on_simulator()) cr_expect(SIM(grdi_sim_count)()->timed > 0, "no engine is timed");
}

/* Each of LeNet's convolutions and their gradients, two forward, one of data and two of weights, is a call of cuDNN's
 * stand-in, in replays of a captured step, too; nobody waits for the device and nothing is allocated. */
Test(cudasim_nets, convolutions_are_cudnns)
{
    static float images[BATCH * 8 * 8];
    int32_t labels[BATCH];
    if (!on_simulator()) return;
    faults_install();
    grd_engine *engine = grd_engine_open(cuda_device(), .threads = 1);
    grd_graph *graph = grd_graph_new(grd_model_new(engine, 7));
    grd_tensor x = grd_input(graph, "x", GRD_F32, nets[0].x), y = grd_input(graph, "y", GRD_I32, grd_shape(BATCH));
    grd_step *step = grd_step_new(grd_cross_entropy_mean(lenet(x), y), grd_adamw(5e-3));
    cr_assert(step, "%s", grd_engine_error(engine)->message);
    cr_assert(strstr(grd_engine_device_kind(engine), " cudnn="), "%s", grd_engine_device_kind(engine));
    fill(images, grd_dims_count(nets[0].x), labels);
    const grdi_sim_counts *counts = SIM(grdi_sim_count)();
    for (int i = 0; i < 5; i++) {
        grd_metrics m = {0};
        grdi_sim_counts before = *counts;
        const long allocations = faults_allocations();
        grd_step_feed(step, x, images);
        grd_step_feed(step, y, labels);
        cr_assert(grd_step_run(step, NULL) == GRD_OK && grd_step_result(step, false, &m) == GRD_OK, "%s",
                  grd_step_error(step)->message);
        cr_expect(counts->convolutions - before.convolutions == 5, "step %d: %lld convolutions", i,
                  (long long)(counts->convolutions - before.convolutions));
        if (i < 2) continue;
        cr_expect(counts->synchronisations == before.synchronisations, "step %d waits", i);
        cr_expect(counts->device_allocations == before.device_allocations, "step %d allocates on the device", i);
        cr_expect(counts->host_allocations == before.host_allocations, "step %d allocates pinned memory", i);
        cr_expect(faults_allocations() == allocations, "step %d allocates %ld times", i,
                  faults_allocations() - allocations);
    }
    sim_is_content();
    grd_engine_close(engine);
}

/* Where there is no cuDNN, convolutions are products of cuBLASLt with kernels of our own around them. */
Test(cudasim_nets, follow_cpu_without_cudnn)
{
    setenv("GRADUS_WITHOUT_CUDNN", "1", 1);
    for (int i = 0; i < 3; i += 2) { /* lenet, convolutions */
        double cpu[STEPS], sim[STEPS];
        losses_on("cpu", &nets[i], false, NULL, cpu);
        losses_on(cuda_device(), &nets[i], false, NULL, sim);
        cr_expect(furthest(cpu, sim) < nets[i].tolerance[0], "%s: %.3g off", nets[i].name, furthest(cpu, sim));
    }
    if (on_simulator()) cr_expect(SIM(grdi_sim_count)()->convolutions == 0, "cuDNN is there all the same");
    sim_is_content();
}
