/* tiny.c - see tiny.h. */
#include "tiny.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

void tiny_build(tiny *t, const char *device, bool modern)
{
    tiny_build_kept(t, device, modern, GRD_F32);
}

void tiny_build_kept(tiny *t, const char *device, bool modern, grd_dtype weights)
{
    grd_gpt gpt = {.layers = 2, .heads = 2, .width = 16, .vocab = TINY_VOCAB, .context = TINY_LENGTH};
    grd_error error = {GRD_OK, ""};
    if (modern) {
        gpt.kv_heads = 1;
        gpt.norm = GRD_NORM_RMSNORM;
        gpt.position = GRD_POSITION_ROPE;
        gpt.mlp = GRD_MLP_SWIGLU;
        gpt.no_bias = gpt.untied = gpt.qk_norm = true;
    }
    cr_assert(grd_gpt_resolve(&gpt, &error) == GRD_OK, "%s", error.message);
    t->engine = grd_engine_open(device, .threads = 2);
    t->model = grd_model_new(t->engine, 42);
    grd_model_set_weight_dtype(t->model, weights);
    t->graph = grd_graph_new(t->model);
    t->ids = grd_input(t->graph, "ids", GRD_I32, grd_shape(TINY_BATCH, TINY_LENGTH));
    t->targets = grd_input(t->graph, "targets", GRD_I32, grd_shape(TINY_BATCH, TINY_LENGTH));
    t->scale = grd_input(t->graph, "scale", GRD_F32, grd_scalar());
    grd_tensor none = {0};
    t->loss = grd_gpt_loss(grd_gpt_hidden(t->ids, &gpt, none), &gpt, t->targets, t->scale, NULL);
    cr_assert(!grd_is_poison(t->loss), "%s", grd_engine_error(t->engine)->message);
    for (int i = 0; i < TINY_BATCH * TINY_LENGTH; i++) {
        t->inputs[i] = (i * 7 + 3) % TINY_VOCAB;
        t->wanted[i] = (i * 5 + 1) % TINY_VOCAB;
    }
}

void tiny_new_batch(tiny *t, int i)
{
    for (int k = 0; k < TINY_BATCH * TINY_LENGTH; k++) {
        uint32_t random = (uint32_t)(i * TINY_BATCH * TINY_LENGTH + k + 1) * 2654435761u >> 8;
        t->inputs[k] = (int32_t)(random % TINY_VOCAB);
        t->wanted[k] = random / TINY_VOCAB % 4 ? (t->inputs[k] * 5 + 1) % TINY_VOCAB
                                               : (int32_t)(random / (4 * TINY_VOCAB) % TINY_VOCAB);
    }
}

double tiny_furthest(const double *a, const double *b, int steps)
{
    double most = 0;
    for (int i = 0; i < steps; i++) most = fmax(most, fabs(a[i] - b[i]) / fabs(a[i]));
    return most;
}

void tiny_feed(tiny *t, grd_step *step, float part)
{
    float scale = part / (TINY_BATCH * TINY_LENGTH);
    cr_assert(grd_step_feed(step, t->ids, t->inputs) == GRD_OK, "%s", grd_step_error(step)->message);
    cr_assert(grd_step_feed(step, t->targets, t->wanted) == GRD_OK, "%s", grd_step_error(step)->message);
    cr_assert(grd_step_feed(step, t->scale, &scale) == GRD_OK, "%s", grd_step_error(step)->message);
}

void tiny_close(tiny *t)
{
    grd_engine_close(t->engine);
}

double tiny_square_sum(grd_model *model, const char *path)
{
    grd_variable v;
    grd_error error = {GRD_OK, ""};
    cr_assert(grd_model_variable_find(model, path, &v), "no variable %s", path);
    float *data = malloc(v.size_bytes);
    cr_assert(grd_model_read(model, path, data, &error) == GRD_OK, "%s", error.message);
    double sum = 0;
    for (int64_t i = 0; i < grd_dims_count(v.dims); i++) sum += (double)data[i] * data[i];
    free(data);
    return sum;
}
