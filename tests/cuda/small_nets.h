/* small_nets.h - networks of images and of series that have every kind of launch that is more than one call. */
#ifndef TESTS_SMALL_NETS_H
#define TESTS_SMALL_NETS_H

#include <gradus/gradus.h>

#include <criterion/criterion.h>

enum { BATCH = 3, CLASSES = 5, CHANNELS = 4 };

typedef struct made {
    grd_engine *engine;
    grd_step *step;
    grd_tensor x, y;
} made;

static inline grd_tensor images(grd_tensor x)
{
    x = grd_relu(grd_conv(x, "a", CHANNELS, 3, .padding = 1));
    x = grd_max_pool(x, 3, .stride = 1, .padding = 1);
    x = grd_batch_norm(x, "norm", true);
    return grd_linear(grd_flatten(grd_average_pool(x, 2), 1, -1), "head", CLASSES);
}

static inline grd_tensor series(grd_tensor x)
{
    grd_tensor last;
    x = grd_lstm(x, "lstm", 8);
    grd_gru(x, "gru", 6, .last_h = &last); /* no multiple of 4 in width: a launch a step */
    return grd_linear(last, "head", CLASSES);
}

static inline made make(const char *device, grd_dims dims, grd_tensor (*logits)(grd_tensor), bool bf16)
{
    made m = {.engine = grd_engine_open(device, .threads = 1)};
    cr_assert(grd_engine_error(m.engine)->status == GRD_OK, "%s", grd_engine_error(m.engine)->message);
    grd_graph *graph = grd_graph_new(grd_model_new(m.engine, 7));
    m.x = grd_input(graph, "x", GRD_F32, dims);
    m.y = grd_input(graph, "y", GRD_I32, grd_shape(BATCH));
    m.step = grd_step_new(grd_cross_entropy_mean(logits(m.x), m.y), grd_adamw(1e-3), .clip_norm = 1, .accumulate = 2,
                          .program = {.size = sizeof(grd_program_options), .bf16 = bf16});
    cr_assert(m.step, "%s", grd_engine_error(m.engine)->message);
    return m;
}

#endif
