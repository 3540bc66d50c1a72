/* test_cudasim_launches.c - the launches of a GPT-2 step in bf16 on a CUDA device, from its plan: at most 24 a layer,
 * forward and backward, 12 for everything else of a micro-batch, 6 of the update. What is launched does not depend on
 * sizes, so that a small model tells. */
#include "plan/plan.h"
#include "run/run.h"
#include "train/train.h"

#include <gradus/gradus.h>

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

enum { LAYERS = 3, BATCH = 2, CONTEXT = 16, VOCAB = 64 };

static grd_step *make_step(grd_engine *engine)
{
    grd_gpt gpt = {.layers = LAYERS, .heads = 2, .width = 32, .vocab = VOCAB, .context = CONTEXT,
                   .mlp = GRD_MLP_GELU_TANH};
    grd_error error = {GRD_OK, ""};
    cr_assert(grd_gpt_resolve(&gpt, &error) == GRD_OK, "%s", error.message);
    grd_graph *g = grd_graph_new(grd_model_new(engine, 42));
    grd_tensor ids = grd_input(g, "ids", GRD_I32, grd_shape(BATCH, CONTEXT)), none = {0};
    grd_tensor targets = grd_input(g, "targets", GRD_I32, grd_shape(BATCH, CONTEXT));
    grd_tensor scale = grd_input(g, "scale", GRD_F32, grd_scalar());
    grd_tensor loss = grd_gpt_loss(grd_gpt_hidden(ids, &gpt, none), &gpt, targets, scale, NULL);
    return grd_step_new(loss, grd_adamw(1e-3), .clip_norm = 1, .sum_micro = true, .accumulate = 2,
                        .program = {.size = sizeof(grd_program_options), .bf16 = true});
}

/* Bytes of the kernels that are no products of the library. */
static double own_bytes(const grdi_launch *launch)
{
    return launch->call.op->flags & GRDI_OP_MATMUL && strstr(launch->call.op->name, "attention") == NULL ? 0
                                                                                                     : launch->bytes;
}

Test(cudasim_launches, of_a_gpt2_step)
{
    grd_engine *engine = grd_engine_open("cudasim");
    grd_step *step = make_step(engine);
    cr_assert(step, "%s", grd_engine_error(engine)->message);
    const grdi_plan *plan = step->micro->plan;
    int layer[LAYERS] = {0}, outside = 0, update = (int)step->update.program->plan->launch_count;
    double own = 0;
    for (size_t n = 0; n < plan->launch_count; n++) {
        const grdi_launch *launch = &plan->launches[n];
        int index = -1;
        bool inside = sscanf(launch->node->scope, "h%d", &index) == 1 && index >= 0 && index < LAYERS;
        if (inside && !launch->of_weights) layer[index]++;
        else outside++;
        own += index == 1 ? own_bytes(launch) : 0;
    }
    printf("launches: %d, %d, %d in the layers, %d outside, %d in the update\n", layer[0], layer[1], layer[2], outside,
           update);
    double value = (double)(BATCH * CONTEXT * 32 * 2); /* [B,T,C] in bf16 */
    printf("own kernels of a layer read and write %.1f times [B,T,C], by the plan\n", own / value);
    for (int i = 0; i < LAYERS; i++) cr_expect(layer[i] > 10 && layer[i] <= 24, "layer %d: %d launches", i, layer[i]);
    cr_expect(outside <= 12, "%d launches outside the layers", outside);
    cr_expect(update <= 6, "%d launches in the update", update);
    grd_engine_close(engine);
}
