/* test_cudasim_launches.c - the launches of a GPT-2 step in bf16 on a CUDA device, from its plan: at most 24 a layer,
 * forward and backward, 12 for everything else of a micro-batch, 6 of the update. What is launched does not depend on
 * sizes, so that a small model tells. */
#include "plan/plan.h"
#include "run/run.h"
#include "sim_library.h"
#include "train/train.h"

#include <gradus/gradus.h>

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { LAYERS = 3, BATCH = 2, CONTEXT = 16, VOCAB = 64 };

typedef struct inputs {
    grd_tensor ids, targets, scale;
} inputs;

static grd_step *make_step(grd_engine *engine, bool bf16, const char *disable, inputs *in)
{
    grd_gpt gpt = {
        .layers = LAYERS, .heads = 2, .width = 32, .vocab = VOCAB, .context = CONTEXT, .mlp = GRD_MLP_GELU_TANH};
    grd_error error = {GRD_OK, ""};
    cr_assert(grd_gpt_resolve(&gpt, &error) == GRD_OK, "%s", error.message);
    grd_graph *g = grd_graph_new(grd_model_new(engine, 42));
    grd_tensor ids = grd_input(g, "ids", GRD_I32, grd_shape(BATCH, CONTEXT)), none = {0};
    grd_tensor targets = grd_input(g, "targets", GRD_I32, grd_shape(BATCH, CONTEXT));
    grd_tensor scale = grd_input(g, "scale", GRD_F32, grd_scalar());
    *in = (inputs){ids, targets, scale};
    grd_tensor loss = grd_gpt_loss(grd_gpt_hidden(ids, &gpt, none), &gpt, targets, scale, NULL);
    return grd_step_new(loss, grd_adamw(1e-3), .clip_norm = 1, .sum_micro = true, .accumulate = 2,
                        .program = {.size = sizeof(grd_program_options), .bf16 = bf16, .disable = disable});
}

/* Bytes of the kernels that are no products of the library. */
static double own_bytes(const grdi_launch *launch)
{
    return launch->call.op->flags & GRDI_OP_MATMUL && strstr(launch->call.op->name, "attention") == NULL
               ? 0
               : launch->bytes;
}

Test(cudasim_launches, of_a_gpt2_step)
{
    grd_engine *engine = grd_engine_open("cudasim");
    inputs in;
    grd_step *step = make_step(engine, true, NULL, &in);
    cr_assert(step, "%s", grd_engine_error(engine)->message);
    const grdi_plan *plan = step->micro->plan;
    int layer[LAYERS] = {0}, slopes = 0, sums = 0, outside = 0, update = (int)step->update.program->plan->launch_count;
    double own = 0;
    for (size_t n = 0; n < plan->launch_count; n++) {
        const grdi_launch *launch = &plan->launches[n];
        int index = -1;
        bool inside = sscanf(launch->node->scope, "h%d", &index) == 1 && index >= 0 && index < LAYERS;
        if (inside && !launch->of_weights) layer[index]++;
        else outside++;
        own += index == 1 ? own_bytes(launch) : 0;
        slopes += strcmp(launch->call.op->name, "matmul_gelu_tanh_backward") == 0;
        sums += strcmp(launch->call.op->name, "matmul_column_sums") == 0;
    }
    printf("launches: %d, %d, %d in the layers, %d outside, %d in the update\n", layer[0], layer[1], layer[2], outside,
           update);
    double value = (double)(BATCH * CONTEXT * 32 * 2); /* [B,T,C] in bf16 */
    printf("own kernels of a layer read and write %.1f times [B,T,C], by the plan\n", own / value);
    for (int i = 0; i < LAYERS; i++) cr_expect(layer[i] > 10 && layer[i] <= 20, "layer %d: %d launches", i, layer[i]);
    cr_expect(slopes == LAYERS && sums == 4 * LAYERS, "%d slopes and %d biases made by products", slopes, sums);
    cr_expect(outside <= 12, "%d launches outside the layers", outside);
    cr_expect(update <= 6, "%d launches in the update", update);
    grd_engine_close(engine);
}

enum { STEPS = 4 };

static void losses_on(const char *device, bool bf16, const char *disable, double *losses)
{
    int32_t ids[BATCH * CONTEXT], targets[BATCH * CONTEXT];
    const float scale = 1.0f / (2 * BATCH * CONTEXT);
    inputs in;
    grd_engine *engine = grd_engine_open(device, .threads = 2);
    grd_step *step = make_step(engine, bf16, disable, &in);
    cr_assert(step, "%s", grd_engine_error(engine)->message);
    for (int i = 0; i < 2 * STEPS; i++) {
        grd_metrics m = {0};
        for (int k = 0; k < BATCH * CONTEXT; k++)
            ids[k] = (k * 7 + 3 * i) % VOCAB, targets[k] = (ids[k] * 5 + 1) % VOCAB;
        cr_assert(!grd_step_feed(step, in.ids, ids) && !grd_step_feed(step, in.targets, targets) &&
                      !grd_step_feed(step, in.scale, &scale) && !grd_step_run(step, &m),
                  "%s", grd_step_error(step)->message);
        losses[i / 2] = m.loss;
    }
    grd_engine_close(engine);
}

/* Slopes and biases that products make, over two micro-batches, against those that kernels of their own make, on the
 * device and on the CPU: in f32 sums in another order, in bf16 roundings that are left out. */
Test(cudasim_launches, epilogues_follow_kernels)
{
    for (int bf16 = 0; bf16 < 2; bf16++) {
        double with[STEPS], without[STEPS], cpu[STEPS], most = 0;
        losses_on("cudasim", bf16, NULL, with);
        losses_on("cudasim", bf16, "epilogue", without);
        losses_on("cpu", bf16, NULL, cpu);
        for (int i = 0; i < STEPS; i++)
            most = fmax(most, fmax(fabs(with[i] / without[i] - 1), fabs(with[i] / cpu[i] - 1)));
        printf("%s: within %.1e, loss %.4f to %.4f\n", bf16 ? "bf16" : "f32", most, with[0], with[STEPS - 1]);
        cr_expect(most < (bf16 ? 1e-3 : 1e-5), "%s: %.3g off", bf16 ? "bf16" : "f32", most);
        cr_expect(with[STEPS - 1] < with[0], "the loss does not fall");
    }
}

/* ---- whose sums a product makes ---- */

enum { ROWS = 8, WIDTH = 24 };

/* A bias after some steps. It is added to what comes in, so that no product makes its gradient; the one for the layer's
 * weight, soon before it, has no bias of its own. */
static void lone_bias(const char *disable, float *bias)
{
    float x[ROWS * WIDTH];
    grd_error error = {GRD_OK, ""};
    grd_engine *engine = grd_engine_open("cudasim");
    grd_model *model = grd_model_new(engine, 7);
    grd_graph *graph = grd_graph_new(model);
    grd_tensor in = grd_input(graph, "x", GRD_F32, grd_shape(ROWS, WIDTH));
    grd_tensor h = grd_gelu_tanh(grd_add(in, grd_parameter(graph, "bias", grd_shape(WIDTH))));
    grd_tensor y = grd_linear(h, "layer", WIDTH, .no_bias = true);
    grd_step *step = grd_step_new(grd_mean(grd_square(grd_add_scalar(y, -1))), grd_sgd(1),
                                  .program = {.size = sizeof(grd_program_options), .disable = disable});
    cr_assert(step, "%s", grd_engine_error(engine)->message);
    for (int i = 0; i < ROWS * WIDTH; i++) x[i] = sinf((float)i);
    for (int i = 0; i < STEPS; i++)
        cr_assert(!grd_step_feed(step, in, x) && !grd_step_run(step, &(grd_metrics){0}), "%s",
                  grd_step_error(step)->message);
    cr_assert(grd_model_read(model, "bias", bias, &error) == GRD_OK, "%s", error.message);
    grd_engine_close(engine);
}

Test(cudasim_launches, sums_are_of_the_products_own_gradient)
{
    float with[WIDTH], without[WIDTH], most = 0;
    lone_bias(NULL, with);
    lone_bias("epilogue", without);
    for (int i = 0; i < WIDTH; i++) {
        cr_expect(fabsf(with[i] - without[i]) < 1e-5f, "bias %d: %g, not %g", i, (double)with[i], (double)without[i]);
        most = fmaxf(most, fabsf(without[i]));
    }
    cr_assert(most > 1e-2f, "nothing was learnt");
}

/* Algorithms are timed when programs are made, while the model's memory is in use: all that a trial writes, what
 * epilogues write beside products as well, is memory of its own. */
Test(cudasim_launches, trials_keep_to_memory_of_their_own)
{
    inputs in;
    const grdi_sim_counts *counts = SIM(grdi_sim_count)();
    SIM(grdi_sim_set_algorithms)(4, 2);
    for (int bf16 = 0; bf16 < 2; bf16++) {
        int64_t before = counts->timed;
        grd_engine *engine = grd_engine_open("cudasim");
        grd_step *step = make_step(engine, bf16, NULL, &in);
        cr_assert(step, "%s", grd_engine_error(engine)->message);
        printf("%s: %lld trials\n", bf16 ? "bf16" : "f32", (long long)(counts->timed - before));
        cr_expect(counts->timed - before >= 4 * 10, "%lld trials", (long long)(counts->timed - before));
        grd_engine_close(engine);
    }
    sim_is_content();
}
