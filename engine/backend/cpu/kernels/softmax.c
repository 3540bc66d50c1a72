/* softmax.c - softmax, log_softmax and cross_entropy: maximum, exponentials and their sum along one axis, row by row.
 */
#include "backend/cpu/kernels/reduce_pieces.h"
#include "backend/cpu/kernels/rows.h"
#include "backend/cpu/parallel.h"
#include "base/memory.h"

enum { PARALLEL = 4096 }; /* elements that pay for another thread: each has an exponential */

/* y = exp(x - most) over the row; returns the sum. */
static double exponentials(float *y, const float *x, float most, int64_t n)
{
    grdi_vf sum[2] = {grdi_set(0), grdi_set(0)};
    int64_t i = 0;
    for (; i + 2 * GRDI_LANES <= n; i += 2 * GRDI_LANES) {
        for (int k = 0; k < 2; k++) {
            grdi_vf e = grdi_exp_negative(grdi_load(x + i + k * GRDI_LANES) - most);
            grdi_store(y + i + k * GRDI_LANES, e);
            sum[k] += e;
        }
    }
    double total = lanes_sum(sum[0] + sum[1]);
    for (; i < n; i++) {
        y[i] = grdi_exp_negative(grdi_set(x[i] - most))[0];
        total += y[i];
    }
    return total;
}

static void scale_row(float *y, float factor, int64_t n)
{
    int64_t i = 0;
    for (; i + GRDI_LANES <= n; i += GRDI_LANES)
        grdi_store(y + i, grdi_load(y + i) * factor);
    for (; i < n; i++)
        y[i] *= factor;
}

static void shift_row(float *y, const float *x, float by, int64_t n)
{
    int64_t i = 0;
    for (; i + GRDI_LANES <= n; i += GRDI_LANES)
        grdi_store(y + i, grdi_load(x + i) - by);
    for (; i < n; i++)
        y[i] = x[i] - by;
}

/* ---- softmax, log_softmax: lines along any axis ---- */

enum { SOFTMAX_X, SOFTMAX_Y };

typedef struct softmax_state {
    grdi_space outer; /* all axes but the one summed over */
    int64_t size, stride, out_stride, room;
    bool logarithm;
} softmax_state;

static grd_status softmax_prepare(grdi_call *call, grd_error *error)
{
    softmax_state *state = grdi_alloc_zero(1, sizeof *state);
    if (!state)
        return grd_fail(error, GRD_E_MEMORY, "%s: out of memory", call->op->name);
    call->state = state;
    grdi_view in = call->in[0], out = call->out[0];
    int64_t axis = grdi_attr_int(call->attrs, "axis");
    axis += axis < 0 ? in.dims.rank : 0;
    state->size = in.dims.dim[axis];
    state->stride = in.stride[axis];
    state->out_stride = out.stride[axis];
    state->room = grdi_row_room(state->size);
    state->logarithm = strcmp(call->op->name, "log_softmax") == 0;
    in.dims.dim[axis] = out.dims.dim[axis] = 1;
    grdi_space_start(&state->outer, in.dims);
    grdi_space_add(&state->outer, &in);
    grdi_space_add(&state->outer, &out);
    grdi_space_merge(&state->outer);
    call->scratch_bytes = (size_t)(2 * call->threads * state->room) * sizeof(float);
    return GRD_OK;
}

static void release(grdi_call *call)
{
    grdi_free(call->state);
    call->state = NULL;
}

static void softmax_range(int64_t begin, int64_t end, int32_t thread, void *context)
{
    const grdi_call *call = context;
    const softmax_state *state = call->state;
    const grdi_view *in = &call->in[0], *out = &call->out[0];
    int64_t n = state->size;
    float *x_buffer = (float *)call->scratch + 2 * thread * state->room, *y_buffer = x_buffer + state->room;
    bool reads = in->dtype == GRD_F32 && state->stride == 1, writes = out->dtype == GRD_F32 && state->out_stride == 1;
    grdi_walk walk;
    grdi_walk_start(&walk, &state->outer, state->outer.rank, begin);
    for (int64_t line = begin; line < end; line++, grdi_walk_next(&walk)) {
        const void *from = grdi_run_at(in->data, in->dtype, walk.offset[SOFTMAX_X]);
        void *to = grdi_run_at(out->data, out->dtype, walk.offset[SOFTMAX_Y]);
        if (!reads)
            grdi_run_load(x_buffer, from, in->dtype, state->stride, n);
        const float *x = reads ? from : x_buffer;
        float *y = writes ? to : y_buffer, most = (float)piece_max(x, 0, n);
        if (state->logarithm)
            shift_row(y, x, (float)((double)most + log(piece_exp(x, most, n))), n);
        else
            scale_row(y, (float)(1 / exponentials(y, x, most, n)), n);
        if (!writes)
            grdi_run_store(to, out->dtype, state->out_stride, y, n, false);
    }
}

static grd_status softmax_run(grdi_call *call)
{
    const softmax_state *state = call->state;
    grdi_parallel_for(call->threads, grdi_space_count(&state->outer, state->outer.rank),
                      PARALLEL / (state->size + 8) + 1, softmax_range, call);
    return GRD_OK;
}

static bool softmax_supports(const grdi_call *call)
{
    return grdi_is_activation(call->in[0].dtype) && grdi_is_activation(call->out[0].dtype);
}

/* ---- cross_entropy ---- */

enum { LOSS_LOGITS, LOSS_TARGET, LOSS_LOSS, LOSS_LSE };
enum { SLOPE_G, SLOPE_LOGITS, SLOPE_TARGET, SLOPE_LSE, SLOPE_OUT };

typedef struct loss_state {
    grdi_rows rows;
    int64_t ignore, room;
    double smoothing, z;
} loss_state;

static loss_state *new_loss(grdi_call *call, const grdi_view *logits, grd_error *error)
{
    loss_state *state = grdi_alloc_zero(1, sizeof *state);
    if (!state) {
        grd_fail(error, GRD_E_MEMORY, "%s: out of memory", call->op->name);
        return NULL;
    }
    call->state = state;
    grdi_rows_start(&state->rows, logits->dims);
    state->ignore = grdi_attr_int(call->attrs, "ignore_index");
    state->smoothing = grdi_attr_float(call->attrs, "label_smoothing");
    state->z = grdi_attr_float(call->attrs, "z_loss");
    state->room = grdi_row_room(state->rows.width);
    call->scratch_bytes = (size_t)(2 * call->threads * state->room) * sizeof(float);
    return state;
}

static grd_status loss_prepare(grdi_call *call, grd_error *error)
{
    loss_state *state = new_loss(call, &call->in[0], error);
    if (!state)
        return GRD_E_MEMORY;
    grdi_rows_add(&state->rows, &call->in[0], true);
    grdi_rows_add(&state->rows, &call->in[1], false);
    grdi_rows_add(&state->rows, &call->out[0], false);
    grdi_rows_add(&state->rows, &call->out[1], false);
    grdi_rows_finish(&state->rows);
    return GRD_OK;
}

static void loss_range(int64_t begin, int64_t end, int32_t thread, void *context)
{
    const grdi_call *call = context;
    const loss_state *state = call->state;
    int64_t n = state->rows.width;
    float *buffer = (float *)call->scratch + 2 * thread * state->room;
    grdi_walk walk;
    grdi_rows_walk(&walk, &state->rows, begin);
    for (int64_t row = begin; row < end; row++, grdi_walk_next(&walk)) {
        const float *x = grdi_row_read(&call->in[0], walk.offset[LOSS_LOGITS], n, buffer);
        int64_t target = ((const int32_t *)call->in[1].data)[walk.offset[LOSS_TARGET]];
        float most = (float)piece_max(x, 0, n);
        double lse = (double)most + log(piece_exp(x, most, n)), loss = 0;
        if (target != state->ignore && (target < 0 || target >= n)) {
            loss = NAN;
        } else if (target != state->ignore) {
            loss = lse - (1 - state->smoothing) * x[target] + state->z * lse * lse;
            if (state->smoothing > 0)
                loss -= state->smoothing * piece_sum(x, 0, n) / (double)n;
        }
        if (call->out[0].data)
            ((float *)call->out[0].data)[walk.offset[LOSS_LOSS]] = (float)loss;
        if (call->out[1].data)
            ((float *)call->out[1].data)[walk.offset[LOSS_LSE]] = (float)lse;
    }
}

static grd_status loss_run(grdi_call *call)
{
    const loss_state *state = call->state;
    grdi_parallel_for(call->threads, state->rows.count, PARALLEL / (state->rows.width + 8) + 1, loss_range, call);
    return GRD_OK;
}

static bool loss_supports(const grdi_call *call)
{
    return grdi_is_activation(call->in[0].dtype) && call->out[0].dtype == GRD_F32 && call->out[1].dtype == GRD_F32;
}

/* dlogits = g (p (1 + 2 z lse) - (1-e) [v = target] - e/V), p = exp(x - lse) */
static grd_status slope_prepare(grdi_call *call, grd_error *error)
{
    loss_state *state = new_loss(call, &call->in[1], error);
    if (!state)
        return GRD_E_MEMORY;
    grdi_rows_add(&state->rows, &call->in[0], false);
    grdi_rows_add(&state->rows, &call->in[1], true);
    grdi_rows_add(&state->rows, &call->in[2], false);
    grdi_rows_add(&state->rows, &call->in[3], false);
    grdi_rows_add(&state->rows, &call->out[0], true);
    grdi_rows_finish(&state->rows);
    return GRD_OK;
}

/* d = factor exp(x - lse) - flat */
static void slope_row(float *d, const float *x, float lse, float factor, float flat, int64_t n)
{
    int64_t i = 0;
    for (; i + GRDI_LANES <= n; i += GRDI_LANES)
        grdi_store(d + i, factor * grdi_exp(grdi_load(x + i) - lse) - flat);
    for (; i < n; i++)
        d[i] = factor * grdi_exp(grdi_set(x[i] - lse))[0] - flat;
}

static void slope_range(int64_t begin, int64_t end, int32_t thread, void *context)
{
    const grdi_call *call = context;
    const loss_state *state = call->state;
    int64_t n = state->rows.width;
    float *buffer = (float *)call->scratch + 2 * thread * state->room;
    grdi_walk walk;
    grdi_rows_walk(&walk, &state->rows, begin);
    for (int64_t row = begin; row < end; row++, grdi_walk_next(&walk)) {
        const float *x = grdi_row_read(&call->in[1], walk.offset[SLOPE_LOGITS], n, buffer);
        float *d = grdi_row_write(&call->out[0], walk.offset[SLOPE_OUT], buffer + state->room);
        double g = grdi_run_get(call->in[0].data, call->in[0].dtype, walk.offset[SLOPE_G]);
        int64_t target = ((const int32_t *)call->in[2].data)[walk.offset[SLOPE_TARGET]];
        double lse = ((const float *)call->in[3].data)[walk.offset[SLOPE_LSE]];
        if (target == state->ignore || target < 0 || target >= n) {
            for (int64_t i = 0; i < n; i++)
                d[i] = target == state->ignore ? 0.0f : NAN;
        } else {
            slope_row(d, x, (float)lse, (float)(g * (1 + 2 * state->z * lse)),
                      (float)(g * state->smoothing / (double)n), n);
            d[target] -= (float)(g * (1 - state->smoothing));
        }
        grdi_row_written(&call->out[0], walk.offset[SLOPE_OUT], n, d);
    }
}

static grd_status slope_run(grdi_call *call)
{
    const loss_state *state = call->state;
    grdi_parallel_for(call->threads, state->rows.count, PARALLEL / (state->rows.width + 8) + 1, slope_range, call);
    return GRD_OK;
}

static bool slope_supports(const grdi_call *call)
{
    return grdi_is_activation(call->in[0].dtype) && grdi_is_activation(call->in[1].dtype) &&
           call->in[3].dtype == GRD_F32 && grdi_is_activation(call->out[0].dtype);
}

#define SOFTMAX(name)                                                                                                  \
    static const grdi_kernel kernel_##name = {.op = #name,                                                             \
                                              .strided_in = 1,                                                         \
                                              .rows_in = 1,                                                            \
                                              .strided_out = 1,                                                        \
                                              .in_place = 1,                                                           \
                                              .supports = softmax_supports,                                            \
                                              .prepare = softmax_prepare,                                              \
                                              .run = softmax_run,                                                      \
                                              .release = release};
SOFTMAX(softmax)
SOFTMAX(log_softmax)
static const grdi_kernel kernel_cross_entropy = {.op = "cross_entropy",
                                                 .strided_in = 2,
                                                 .rows_in = 3,
                                                 .strided_out = 3,
                                                 .supports = loss_supports,
                                                 .prepare = loss_prepare,
                                                 .run = loss_run,
                                                 .release = release};
static const grdi_kernel kernel_cross_entropy_backward = {.op = "cross_entropy_backward",
                                                          .strided_in = 13,
                                                          .rows_in = 15,
                                                          .strided_out = 1,
                                                          .in_place = 1,
                                                          .supports = slope_supports,
                                                          .prepare = slope_prepare,
                                                          .run = slope_run,
                                                          .release = release};

const grdi_kernel *const GRDI_ISA_TABLE(softmax)[] = {&kernel_softmax, &kernel_log_softmax, &kernel_cross_entropy,
                                                      &kernel_cross_entropy_backward, NULL};
