/* test_recurrent.c - series of different lengths in recurrent layers: lengths that cannot be. */
#include <criterion/criterion.h>
#include <gradus/gradus.h>
#include <math.h>
#include <string.h>

enum { SERIES = 3, STEPS = 5, INPUTS = 2, SIZE = 4 };

typedef struct reader {
    grd_engine *engine;
    grd_graph *graph;
    grd_tensor x, lengths, y, last;
} reader;

static reader read_by(const char *kind, bool reverse)
{
    reader r = {.engine = grd_engine_open("cpu", .threads = 1)};
    r.graph = grd_graph_new(grd_model_new(r.engine, 3));
    r.x = grd_input(r.graph, "x", GRD_F32, grd_shape(SERIES, STEPS, INPUTS));
    r.lengths = grd_input(r.graph, "lengths", GRD_I32, grd_shape(SERIES));
    const grd_recurrent_options options = {
        .size = sizeof options, .lengths = r.lengths, .last_h = &r.last, .reverse = reverse};
    r.y = strcmp(kind, "lstm") == 0  ? grd_lstm_with(r.x, "cells", SIZE, &options)
          : strcmp(kind, "gru") == 0 ? grd_gru_with(r.x, "cells", SIZE, &options)
                                     : grd_rnn_with(r.x, "cells", SIZE, &options);
    return r;
}

static const float x_values[SERIES * STEPS * INPUTS] = {
    1, -1, 0.5f, 2, -0.3f, 0.7f, 1.5f, 0, -2, 1, 0.1f, 0.2f, 0.3f, 0.4f, 0.5f,
    1, 1,  1,    1, 1,     -1,   0,    2, 1,  3, 0.5f, 0.5f, -0.5f, 1, 2};

/* The second series has a length that cannot be: all of it is NaN, and its neighbours are as ever. */
static void look(const char *kind, bool reverse, int32_t wrong)
{
    reader r = read_by(kind, reverse);
    float y[2][SERIES][STEPS][SIZE], last[2][SERIES][SIZE];
    const int32_t lengths[2][SERIES] = {{3, 2, 5}, {3, wrong, 5}};
    const grd_tensor wanted[] = {r.y, r.last};
    grd_program *program = grd_program_new(wanted, 2);
    cr_assert(program, "%s", grd_graph_error(r.graph)->message);
    for (int k = 0; k < 2; k++) {
        cr_assert(!grd_program_feed(program, r.x, x_values) && !grd_program_feed(program, r.lengths, lengths[k]));
        cr_assert(!grd_program_run(program), "%s", grd_program_error(program)->message);
        cr_assert(!grd_program_read(program, r.y, y[k]) && !grd_program_read(program, r.last, last[k]));
    }
    for (int s = 0; s < SERIES; s += 2) {
        cr_assert(memcmp(y[0][s], y[1][s], sizeof y[0][s]) == 0, "%s, length %d: series %d changed", kind, wrong, s);
        cr_assert(memcmp(last[0][s], last[1][s], sizeof last[0][s]) == 0, "%s, length %d", kind, wrong);
    }
    for (int t = 0; t < STEPS; t++)
        for (int i = 0; i < SIZE; i++)
            cr_assert(isnan(y[1][1][t][i]) && isnan(last[1][1][i]), "%s, length %d, step %d: %g, last %g", kind, wrong,
                      t, (double)y[1][1][t][i], (double)last[1][1][i]);
    grd_engine_close(r.engine);
}

Test(recurrent, lengths_that_cannot_be_give_no_number)
{
    static const char *const kinds[] = {"lstm", "gru", "rnn"};
    static const int32_t wrong[] = {0, -1, STEPS + 1, 100, INT32_MAX, INT32_MIN};
    for (int k = 0; k < 3; k++)
        for (int w = 0; w < 6; w++) look(kinds[k], w % 2, wrong[w]), look(kinds[k], !(w % 2), wrong[w]);
}

Test(recurrent, a_step_names_the_lengths)
{
    reader r = read_by("gru", false);
    const int32_t lengths[SERIES] = {3, 6, 5};
    grd_step *step = grd_step_new(grd_mean(grd_square(r.last)), grd_sgd(0.1));
    cr_assert(step, "%s", grd_graph_error(r.graph)->message);
    cr_assert(!grd_step_feed(step, r.x, x_values) && !grd_step_feed(step, r.lengths, lengths));
    cr_assert(grd_step_run(step, NULL) == GRD_E_NUMERIC);
    cr_assert(strstr(grd_step_error(step)->message, "cells"), "%s", grd_step_error(step)->message);
    step = grd_step_new(grd_mean(grd_square(r.y)), grd_sgd(0.1));
    cr_assert(!grd_step_feed(step, r.x, x_values) && !grd_step_feed(step, r.lengths, lengths));
    cr_assert(grd_step_run(step, NULL) == GRD_E_NUMERIC);
    cr_assert(strstr(grd_step_error(step)->message, "cells/lengths"), "%s", grd_step_error(step)->message);
    grd_engine_close(r.engine);
}
