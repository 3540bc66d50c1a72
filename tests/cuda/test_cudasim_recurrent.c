/* test_cudasim_recurrent.c - which way recurrent layers run on a CUDA device: all steps in one launch where that can
 * be, else a product and a kernel for each. What they compute the op table checks (test_cudasim_kernels). */
#include "sim_library.h"

#include <gradus/gradus.h>

#include <math.h>

enum { B = 5, T = 4, WIDEST = 24 };

typedef struct layer {
    const char *name;
    int gates;
    int64_t h;
    bool one_launch;
} layer;

static const layer layers[] = {{"lstm", 4, 24, true},  {"gru", 3, 24, true},  {"rnn", 1, 24, true},
                               {"lstm", 4, 22, false}, {"gru", 3, 22, false}, {"rnn", 1, 22, false}};

static float *some(int64_t count, uint32_t seed)
{
    static float values[6][B * T * 4 * WIDEST + 4 * WIDEST * WIDEST];
    for (int64_t i = 0; i < count; i++)
        values[seed][i] = (float)((uint32_t)(i + 1 + 77 * seed) * 2654435761u >> 8) / (float)(1 << 24) - 0.5f;
    return values[seed];
}

/* The layer on inputs of its own, with the gradient of the sum of squares by its weight. */
typedef struct built {
    grd_engine *engine;
    grd_program *program;
    grd_tensor in[5], out[2];
} built;

static built build(const char *device, const layer *l, bool backward)
{
    built b = {.engine = grd_engine_open(device)};
    grd_graph *g = grd_graph_new(grd_model_new(b.engine, 1));
    int64_t h = l->h;
    b.in[0] = grd_input(g, "gates", GRD_F32, grd_shape(B, T, l->gates * h));
    b.in[1] = grd_input(g, "w", GRD_F32, grd_shape(l->gates * h, h));
    b.in[2] = grd_input(g, "h", GRD_F32, grd_shape(B, h));
    b.in[3] = grd_input(g, "c", GRD_F32, grd_shape(B, h));
    b.in[4] = grd_input(g, "bias", GRD_F32, grd_shape(l->gates * h));
    grd_tensor cells = {0};
    b.out[0] = l->gates == 4   ? grd_lstm_cells(b.in[0], b.in[1], b.in[2], b.in[3], &cells)
               : l->gates == 3 ? grd_gru_cells(b.in[0], b.in[1], b.in[4], b.in[2])
                               : grd_rnn_cells(b.in[0], b.in[1], b.in[2], false);
    if (backward) {
        grd_tensor loss = grd_sum(grd_mul(b.out[0], b.out[0]));
        b.out[1] = grd_grad(loss, b.in[1]);
    }
    b.program = grd_program_new(b.out, backward ? 2 : 1);
    cr_assert(b.program, "%s: %s %s", l->name, grd_engine_error(b.engine)->message, grd_graph_error(g)->message);
    return b;
}

static void run(built *b, const layer *l)
{
    const int64_t count[] = {B * T * l->gates * l->h, l->gates * l->h * l->h, B * l->h, B * l->h, l->gates * l->h};
    for (int i = 0; i < 5; i++)
        if (!(i == 3 && l->gates != 4) && !(i == 4 && l->gates != 3))
            cr_assert(grd_program_feed(b->program, b->in[i], some(count[i], (uint32_t)i)) == GRD_OK);
    cr_assert(grd_program_run(b->program) == GRD_OK, "%s", grd_engine_error(b->engine)->message);
}

static void compare(built *mine, built *theirs, const layer *l)
{
    static float a[4 * WIDEST * WIDEST], b[4 * WIDEST * WIDEST];
    const int64_t count[] = {B * T * l->h, l->gates * l->h * l->h};
    for (int o = 0; o < 2; o++) {
        grd_program_read(mine->program, mine->out[o], a);
        grd_program_read(theirs->program, theirs->out[o], b);
        for (int64_t i = 0; i < count[o]; i++)
            cr_assert(fabsf(a[i] - b[i]) <= 2e-5f, "%s %lld: output %d: %g, not %g", l->name, (long long)l->h, o,
                      (double)a[i], (double)b[i]);
    }
}

Test(cudasim_recurrent, forward_is_one_launch_where_it_can_be)
{
    if (!on_simulator()) return;
    const grdi_sim_counts *counts = SIM(grdi_sim_count)();
    for (size_t i = 0; i < sizeof(layers) / sizeof(layers[0]); i++) {
        const layer *l = &layers[i];
        built b = build(cuda_device(), l, false);
        int64_t kernels = counts->kernels, products = counts->matmuls;
        run(&b, l);
        kernels = counts->kernels - kernels, products = counts->matmuls - products;
        if (l->one_launch) cr_expect(kernels == 1 && products == 0, "%s: %lld kernels", l->name, (long long)kernels);
        else cr_expect(kernels >= T && products == T, "%s: %lld kernels", l->name, (long long)kernels);
        grd_engine_close(b.engine);
    }
    sim_is_content();
}

/* Three blocks and four have parts of it, in both orders. */
Test(cudasim_recurrent, both_ways_follow_the_cpu)
{
    const grdi_sim_counts *counts = on_simulator() ? SIM(grdi_sim_count)() : NULL;
    for (size_t i = 0; i < sizeof(layers) / sizeof(layers[0]); i++) {
        built theirs = build("cpu", &layers[i], true);
        run(&theirs, &layers[i]);
        for (int order = 0; order < 2; order++) {
            if (on_simulator()) SIM(grdi_sim_set_order)(order);
            built mine = build(cuda_device(), &layers[i], true);
            int64_t products = counts ? counts->matmuls : 0;
            run(&mine, &layers[i]);
            if (counts) /* the weight's gradient is one */
                cr_expect((counts->matmuls == products + 1) == layers[i].one_launch, "%s: products", layers[i].name);
            compare(&mine, &theirs, &layers[i]);
            grd_engine_close(mine.engine);
        }
        grd_engine_close(theirs.engine);
    }
    sim_is_content();
}

/* States that nobody reads afterwards have no place of their own, where each step lies over the one before. */
Test(cudasim_recurrent, states_that_are_not_kept)
{
    static float mine[B * T * WIDEST], theirs[B * T * WIDEST];
    const char *device[] = {cuda_device(), "cpu"};
    for (int d = 0; d < 2; d++) {
        grd_engine *engine = grd_engine_open(device[d]);
        grd_graph *g = grd_graph_new(grd_model_new(engine, 1));
        grd_tensor in[] = {grd_input(g, "gates", GRD_F32, grd_shape(B, T, 4 * WIDEST)),
                           grd_input(g, "w", GRD_F32, grd_shape(4 * WIDEST, WIDEST)),
                           grd_input(g, "h", GRD_F32, grd_shape(B, WIDEST)),
                           grd_input(g, "c", GRD_F32, grd_shape(B, WIDEST))};
        const int64_t count[] = {B * T * 4 * WIDEST, 4 * WIDEST * WIDEST, B * WIDEST, B * WIDEST};
        grd_tensor cells;
        grd_lstm_cells(in[0], in[1], in[2], in[3], &cells);
        grd_program *program = grd_program_new(&cells, 1);
        cr_assert(program);
        for (int i = 0; i < 4; i++) grd_program_feed(program, in[i], some(count[i], (uint32_t)i));
        int64_t products = on_simulator() ? SIM(grdi_sim_count)()->matmuls : 0;
        cr_assert(grd_program_run(program) == GRD_OK);
        if (on_simulator() && d == 0) cr_expect(SIM(grdi_sim_count)()->matmuls == products);
        grd_program_read(program, cells, d ? theirs : mine);
        grd_engine_close(engine);
    }
    for (int i = 0; i < B * T * WIDEST; i++)
        cr_assert(fabsf(mine[i] - theirs[i]) <= 1e-5f, "%d: %g, not %g", i, (double)mine[i], (double)theirs[i]);
    sim_is_content();
}
