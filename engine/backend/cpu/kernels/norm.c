/* norm.c - layer_norm and rms_norm over the last axis, forward and backward. rms_norm is layer_norm with a mean of
 * zero, so each direction is one loop. Gradients of gain and bias are summed by each thread over its own rows (64 rows
 * in floats, those sums in double) and then over the threads in order. */
#include "backend/cpu/kernels/reduce_pieces.h"
#include "backend/cpu/kernels/rows.h"
#include "backend/cpu/parallel.h"
#include "base/memory.h"

enum {
    PARALLEL = 16384, /* elements that pay for another thread */
    SUM_ROWS = 64
};

typedef struct norm_state {
    grdi_rows rows;
    bool centred; /* layer_norm */
    double eps;
    int32_t gain, bias;    /* which input; -1: none */
    int32_t mean, rstd;    /* forward: which output; backward: which input; -1: none */
    int64_t room;          /* floats of a row buffer */
    float *gains, *biases; /* [C] in scratch */
    float *buffers;        /* 3 rows for each thread */
    float *parts;          /* backward: 2 rows for each thread: ggain and gbias over a few rows */
    double *sums;          /* 2 rows for each thread */
} norm_state;

static norm_state *new_state(grdi_call *call, grdi_view *like, grd_error *error)
{
    norm_state *state = grdi_alloc_zero(1, sizeof *state);
    if (!state) {
        grd_fail(error, GRD_E_MEMORY, "%s: out of memory", call->op->name);
        return NULL;
    }
    call->state = state;
    state->centred = strncmp(call->op->name, "layer", 5) == 0;
    grdi_rows_start(&state->rows, like->dims);
    state->room = grdi_row_room(state->rows.width);
    return state;
}

static void release(grdi_call *call)
{
    grdi_free(call->state);
    call->state = NULL;
}

/* A vector [C] as floats, or `preset` everywhere. */
static void read_vector(const grdi_call *call, int32_t input, float *to, int64_t count, float preset)
{
    if (input >= 0)
        grdi_run_load(to, call->in[input].data, call->in[input].dtype, 1, count);
    for (int64_t i = 0; input < 0 && i < count; i++)
        to[i] = preset;
}

/* ---- forward ---- */

/* The sum of x - p: around a value of the row, for where the mean is far from zero its digits would crowd out the
 * others'. */
PIECE(shifted, 0.0f, m + (v - p), m + v, m + (v - p), lanes_sum)

enum { FORWARD_X, FORWARD_Y, FORWARD_MEAN, FORWARD_RSTD };

static grd_status forward_prepare(grdi_call *call, grd_error *error)
{
    norm_state *state = new_state(call, &call->in[0], error);
    if (!state)
        return GRD_E_MEMORY;
    bool gain = grdi_attr_int(call->attrs, "has_gain"), bias = state->centred && grdi_attr_int(call->attrs, "has_bias");
    state->eps = grdi_attr_float(call->attrs, "eps");
    state->gain = gain ? 1 : -1;
    state->bias = bias ? 1 + gain : -1;
    state->mean = state->centred ? 1 : -1;
    state->rstd = state->centred ? 2 : 1;
    grdi_rows_add(&state->rows, &call->in[0], true);
    grdi_rows_add(&state->rows, &call->out[0], true);
    grdi_rows_add(&state->rows, &call->out[state->centred ? 1 : state->rstd], false);
    grdi_rows_add(&state->rows, &call->out[state->rstd], false);
    grdi_rows_finish(&state->rows);
    call->scratch_bytes = (size_t)(state->room * (2 + 2 * call->threads)) * sizeof(float);
    return GRD_OK;
}

/* y = (x - mean) rstd gain + bias; `rest` is what rounding took from the mean. */
static void normalise(float *y, const float *x, const norm_state *state, float mean, float rest, float rstd)
{
    float offset = -rest * rstd;
    int64_t i = 0, width = state->rows.width;
    const float *gain = state->gains, *bias = state->biases;
    for (; i + GRDI_LANES <= width; i += GRDI_LANES) {
        grdi_vf normal = (grdi_load(x + i) - mean) * rstd + offset;
        grdi_store(y + i, normal * grdi_load(gain + i) + grdi_load(bias + i));
    }
    for (; i < width; i++)
        y[i] = ((x[i] - mean) * rstd + offset) * gain[i] + bias[i];
}

static void forward_range(int64_t begin, int64_t end, int32_t thread, void *context)
{
    const grdi_call *call = context;
    const norm_state *state = call->state;
    int64_t width = state->rows.width;
    float *x_buffer = state->buffers + 2 * thread * state->room, *y_buffer = x_buffer + state->room;
    const grdi_view *out = call->out;
    grdi_walk walk;
    grdi_rows_walk(&walk, &state->rows, begin);
    for (int64_t row = begin; row < end; row++, grdi_walk_next(&walk)) {
        const float *x = grdi_row_read(&call->in[0], walk.offset[FORWARD_X], width, x_buffer);
        double mean = state->centred ? x[0] + piece_shifted(x, x[0], width) / (double)width : 0;
        double shift = mean - (double)(float)mean;
        double square = piece_squares(x, (float)mean, width) / (double)width - shift * shift;
        float rstd = (float)(1 / sqrt(square + state->eps));
        if (out[0].data) {
            float *y = grdi_row_write(&out[0], walk.offset[FORWARD_Y], y_buffer);
            normalise(y, x, state, (float)mean, (float)shift, rstd);
            grdi_row_written(&out[0], walk.offset[FORWARD_Y], width, y_buffer);
        }
        if (state->centred && out[state->mean].data)
            ((float *)out[state->mean].data)[walk.offset[FORWARD_MEAN]] = (float)mean;
        if (out[state->rstd].data)
            ((float *)out[state->rstd].data)[walk.offset[FORWARD_RSTD]] = rstd;
    }
}

static grd_status forward_run(grdi_call *call)
{
    norm_state *state = call->state;
    state->gains = call->scratch;
    state->biases = state->gains + state->room;
    state->buffers = state->biases + state->room;
    read_vector(call, state->gain, state->gains, state->rows.width, 1.0f);
    read_vector(call, state->bias, state->biases, state->rows.width, 0.0f);
    grdi_parallel_for(call->threads, state->rows.count, PARALLEL / state->rows.width + 1, forward_range, call);
    return GRD_OK;
}

static bool forward_supports(const grdi_call *call)
{
    bool fits = grdi_is_activation(call->out[0].dtype);
    for (int32_t i = 0; i < call->input_count; i++)
        fits &= grdi_is_activation(call->in[i].dtype);
    for (int32_t o = 1; o < call->output_count; o++)
        fits &= call->out[o].dtype == GRD_F32;
    return fits;
}

/* ---- backward: with n = (x - mean) rstd and h = g gain, gx = rstd (h - mean(h) - n mean(h n)), ggain = sum of g n,
 * gbias = sum of g; rms_norm has no mean(h) ---- */

enum { BACKWARD_G, BACKWARD_X, BACKWARD_GX, BACKWARD_RSTD, BACKWARD_MEAN };

static grd_status backward_prepare(grdi_call *call, grd_error *error)
{
    norm_state *state = new_state(call, &call->in[1], error);
    if (!state)
        return GRD_E_MEMORY;
    state->mean = state->centred ? 2 : -1;
    state->rstd = state->centred ? 3 : 2;
    state->gain = grdi_attr_int(call->attrs, "has_gain") ? state->rstd + 1 : -1;
    grdi_rows_add(&state->rows, &call->in[0], true);
    grdi_rows_add(&state->rows, &call->in[1], true);
    grdi_rows_add(&state->rows, &call->out[0], true);
    grdi_rows_add(&state->rows, &call->in[state->rstd], false);
    grdi_rows_add(&state->rows, &call->in[state->centred ? state->mean : state->rstd], false);
    grdi_rows_finish(&state->rows);
    size_t rows = (size_t)call->threads, room = (size_t)state->room;
    call->scratch_bytes = rows * room * 2 * sizeof(double) + (room + rows * room * 5) * sizeof(float);
    return GRD_OK;
}

/* Sums h and h n over the row and, unless `part` is NULL, adds g n and g to the vectors' sums. */
static void backward_sums(const float *g, const float *x, const norm_state *state, float mean, float rstd, float *part,
                          double *sum_h, double *sum_hn)
{
    int64_t i = 0, width = state->rows.width;
    const float *gain = state->gains;
    float *gain_part = part, *bias_part = part ? part + state->room : NULL;
    grdi_vf h_sum = grdi_set(0), hn_sum = grdi_set(0);
    for (; i + GRDI_LANES <= width; i += GRDI_LANES) {
        grdi_vf gv = grdi_load(g + i), normal = (grdi_load(x + i) - mean) * rstd, h = gv * grdi_load(gain + i);
        h_sum += h;
        hn_sum += h * normal;
        if (!part) continue;
        grdi_store(gain_part + i, grdi_load(gain_part + i) + gv * normal);
        grdi_store(bias_part + i, grdi_load(bias_part + i) + gv);
    }
    double total_h = lanes_sum(h_sum), total_hn = lanes_sum(hn_sum);
    for (; i < width; i++) {
        float normal = (x[i] - mean) * rstd, h = g[i] * gain[i];
        total_h += h;
        total_hn += h * normal;
        if (!part) continue;
        gain_part[i] += g[i] * normal;
        bias_part[i] += g[i];
    }
    *sum_h = total_h;
    *sum_hn = total_hn;
}

/* gx = rstd (h - mean_h - n mean_hn), added to what is there where `add` */
static void backward_row(float *gx, bool add, const float *g, const float *x, const norm_state *state, float mean,
                         float rstd, float mean_h, float mean_hn)
{
    int64_t i = 0, width = state->rows.width;
    const float *gain = state->gains;
    for (; i + GRDI_LANES <= width; i += GRDI_LANES) {
        grdi_vf normal = (grdi_load(x + i) - mean) * rstd, h = grdi_load(g + i) * grdi_load(gain + i);
        grdi_vf value = rstd * (h - mean_h - normal * mean_hn);
        grdi_store(gx + i, add ? value + grdi_load(gx + i) : value);
    }
    for (; i < width; i++)
        gx[i] = (add ? gx[i] : 0) + rstd * (g[i] * gain[i] - mean_h - (x[i] - mean) * rstd * mean_hn);
}

/* Moves the sums of a few rows into those of all. */
static void flush_parts(const norm_state *state, float *part, double *sum)
{
    for (int64_t i = 0; i < 2 * state->room; i++) {
        sum[i] += part[i];
        part[i] = 0;
    }
}

static void backward_range(int64_t begin, int64_t end, int32_t thread, void *context)
{
    const grdi_call *call = context;
    const norm_state *state = call->state;
    int64_t width = state->rows.width, room = state->room;
    float *g_buffer = state->buffers + 3 * thread * room, *x_buffer = g_buffer + room, *gx_buffer = x_buffer + room;
    bool vectors = call->out[1].data || (state->centred && call->out[2].data);
    float *part = vectors ? state->parts + 2 * thread * room : NULL;
    double *sum = state->sums + 2 * thread * room;
    grdi_walk walk;
    grdi_rows_walk(&walk, &state->rows, begin);
    for (int64_t row = begin; row < end; row++, grdi_walk_next(&walk)) {
        const float *g = grdi_row_read(&call->in[0], walk.offset[BACKWARD_G], width, g_buffer);
        const float *x = grdi_row_read(&call->in[1], walk.offset[BACKWARD_X], width, x_buffer);
        float rstd = ((const float *)call->in[state->rstd].data)[walk.offset[BACKWARD_RSTD]], mean = 0;
        if (state->centred)
            mean = ((const float *)call->in[state->mean].data)[walk.offset[BACKWARD_MEAN]];
        double sum_h, sum_hn;
        backward_sums(g, x, state, mean, rstd, part, &sum_h, &sum_hn);
        if (call->out[0].data) {
            float mean_h = state->centred ? (float)(sum_h / (double)width) : 0,
                  mean_hn = (float)(sum_hn / (double)width);
            const bool add = call->accumulate[0];
            if (add) grdi_row_read(&call->out[0], walk.offset[BACKWARD_GX], width, gx_buffer);
            float *gx = grdi_row_write(&call->out[0], walk.offset[BACKWARD_GX], gx_buffer);
            backward_row(gx, add, g, x, state, mean, rstd, mean_h, mean_hn);
            grdi_row_written(&call->out[0], walk.offset[BACKWARD_GX], width, gx_buffer);
        }
        if (vectors && (row - begin) % SUM_ROWS == SUM_ROWS - 1)
            flush_parts(state, part, sum);
    }
    if (vectors) flush_parts(state, part, sum);
}

/* Adds the threads' sums in order and stores them. */
static void store_vector(const grdi_call *call, int32_t output, const double *sums)
{
    const norm_state *state = call->state;
    const grdi_view *out = &call->out[output];
    for (int64_t i = 0; out->data && i < state->rows.width; i++) {
        double sum = call->accumulate[output] ? grdi_run_get(out->data, out->dtype, i) : 0;
        for (int32_t thread = 0; thread < call->threads; thread++)
            sum += sums[2 * thread * state->room + i];
        grdi_run_put(out->data, out->dtype, i, (float)sum);
    }
}

static grd_status backward_run(grdi_call *call)
{
    norm_state *state = call->state;
    size_t threads = (size_t)call->threads, room = (size_t)state->room;
    state->sums = call->scratch;
    state->parts = (float *)(state->sums + 2 * threads * room);
    state->gains = state->parts + 2 * threads * room;
    state->buffers = state->gains + room;
    memset(call->scratch, 0, 2 * threads * room * (sizeof(double) + sizeof(float)));
    read_vector(call, state->gain, state->gains, state->rows.width, 1.0f);
    grdi_parallel_for(call->threads, state->rows.count, PARALLEL / state->rows.width + 1, backward_range, call);
    store_vector(call, 1, state->sums);
    if (state->centred)
        store_vector(call, 2, state->sums + room);
    return GRD_OK;
}

static bool backward_supports(const grdi_call *call)
{
    int32_t statistics = strncmp(call->op->name, "layer", 5) == 0 ? 2 : 1;
    bool fits = grdi_is_activation(call->in[0].dtype);
    for (int32_t i = 1; i < call->input_count; i++)
        fits &= i >= 2 && i < 2 + statistics ? call->in[i].dtype == GRD_F32 : grdi_is_activation(call->in[i].dtype);
    for (int32_t o = 0; o < call->output_count; o++)
        fits &= grdi_is_activation(call->out[o].dtype);
    return fits;
}

#define FORWARD(name)                                                                                                  \
    static const grdi_kernel kernel_##name = {.op = #name,                                                             \
                                              .rows_in = 1,                                                            \
                                              .strided_out = 1,                                                        \
                                              .in_place = 1,                                                           \
                                              .rate_part = 0.5, /* sums across lanes, a few for each row */            \
                                              .supports = forward_supports,                                            \
                                              .prepare = forward_prepare,                                              \
                                              .run = forward_run,                                                      \
                                              .release = release};
#define BACKWARD(name)                                                                                                 \
    static const grdi_kernel kernel_##name = {.op = #name,                                                             \
                                              .rows_in = 3,                                                            \
                                              .strided_out = 1,                                                        \
                                              .accumulates = 7,                                                        \
                                              .in_place = 1,                                                           \
                                              .rate_part = 0.5, /* sums across lanes, a few for each row */            \
                                              .supports = backward_supports,                                           \
                                              .prepare = backward_prepare,                                             \
                                              .run = backward_run,                                                     \
                                              .release = release};
FORWARD(layer_norm)
FORWARD(rms_norm)
BACKWARD(layer_norm_backward)
BACKWARD(rms_norm_backward)

const grdi_kernel *const GRDI_ISA_TABLE(norm)[] = {&kernel_layer_norm, &kernel_layer_norm_backward, &kernel_rms_norm,
                                                   &kernel_rms_norm_backward, NULL};
