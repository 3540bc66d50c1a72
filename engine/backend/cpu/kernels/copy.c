/* copy.c - copies between any strides and dtypes: copy, cast, assign, and the views where a view will not do. */
#include "backend/cpu/kernels/run.h"
#include "backend/space.h"
#include "backend/cpu/kernels/transpose.h"
#include "backend/cpu/parallel.h"
#include "base/memory.h"

enum { FROM, TO }; /* operands of the space */

enum {
    GRAIN_BYTES = 64 << 10, /* written by a thread, at least */
    PIECE = 256             /* elements that go through doubles at a time */
};

typedef enum copy_way {
    COPY_BYTES,     /* one run of bytes */
    COPY_ROWS,      /* rows of bytes */
    COPY_TRANSPOSE, /* 4-byte elements, another axis is the input's innermost */
    COPY_FLOATS,    /* between f32, bf16, f16 and bool, or adding */
    COPY_ELEMENTS   /* one by one */
} copy_way;

typedef struct copy_state {
    grdi_space space;
    copy_way way;
    int32_t source;       /* which input is copied */
    int64_t input_offset; /* elements */
    int64_t row, rows;
    int64_t swapped, swapped_in, swapped_out; /* COPY_TRANSPOSE: the other axis: size, strides */
    bool add;
} copy_state;

/* ---- planning ---- */

/* The input as the output's shape sees it. */
static grd_status view_input(const grdi_call *call, copy_state *state, grdi_view *seen, grd_error *error)
{
    *seen = call->in[state->source];
    if (strcmp(call->op->name, "reshape") == 0 || !(call->op->flags & GRDI_OP_VIEW))
        return GRD_OK;
    grdi_type in = {seen->dtype, seen->dims}, out = {call->out[0].dtype, call->out[0].dims};
    grdi_strides from = {.offset = 0}, to;
    memcpy(from.stride, seen->stride, sizeof from.stride);
    if (!call->op->view(&in, &from, call->attrs, &out, &to))
        return grd_fail(error, GRD_E_UNSUPPORTED, "%s: no view of these strides", call->op->name);
    seen->dims = out.dims;
    memcpy(seen->stride, to.stride, sizeof seen->stride);
    state->input_offset = to.offset;
    return GRD_OK;
}

static bool runs_of(grd_dtype dtype) { return grdi_run_dtype(dtype) || dtype == GRD_F16; }

static copy_way choose_way(copy_state *state, const grdi_view *in, const grdi_view *out)
{
    grdi_space *space = &state->space;
    int32_t last = space->rank - 1;
    int64_t inner_in = space->stride[FROM][last], inner_out = space->stride[TO][last];
    if (in->dtype != out->dtype || state->add)
        return runs_of(in->dtype) && runs_of(out->dtype) ? COPY_FLOATS : COPY_ELEMENTS;
    if (inner_in == 1 && inner_out == 1)
        return space->rank == 1 ? COPY_BYTES : COPY_ROWS;
    if (grd_dtype_size(in->dtype) == 4 && inner_out == 1 && inner_in != 0)
        for (int32_t axis = 0; axis < last; axis++)
            if (space->stride[FROM][axis] == 1)
                return COPY_TRANSPOSE;
    return grdi_run_dtype(in->dtype) ? COPY_FLOATS : COPY_ELEMENTS;
}

/* Takes the input's innermost axis out of the space: the transpose runs over it and the last one. */
static void take_swapped_axis(copy_state *state)
{
    grdi_space *space = &state->space;
    int32_t axis = 0;
    while (space->stride[FROM][axis] != 1)
        axis++;
    state->swapped = space->dim[axis];
    state->swapped_in = 1;
    state->swapped_out = space->stride[TO][axis];
    for (space->rank--; axis < space->rank; axis++) {
        space->dim[axis] = space->dim[axis + 1];
        space->stride[FROM][axis] = space->stride[FROM][axis + 1];
        space->stride[TO][axis] = space->stride[TO][axis + 1];
    }
}

static grd_status prepare(grdi_call *call, grd_error *error)
{
    copy_state *state = grdi_alloc_zero(1, sizeof *state);
    if (!state)
        return grd_fail(error, GRD_E_MEMORY, "%s: out of memory", call->op->name);
    call->state = state;
    state->source = strcmp(call->op->name, "assign") == 0;
    state->add = call->may_accumulate[0];
    grdi_view in, out = call->out[0];
    grd_status status = view_input(call, state, &in, error);
    if (status != GRD_OK)
        return status;
    if (!grd_dims_equal(in.dims, out.dims)) { /* reshape: the output is contiguous, so it takes the input's shape */
        out.dims = in.dims;
        grdi_row_major(out.dims, out.stride);
    }
    grdi_space_start(&state->space, out.dims);
    grdi_space_add(&state->space, &in);
    grdi_space_add(&state->space, &out);
    grdi_space_merge(&state->space);
    if (state->space.rank == 0) {
        state->space.rank = 1;
        state->space.dim[0] = 1;
        state->space.stride[FROM][0] = state->space.stride[TO][0] = 1;
    }
    state->way = choose_way(state, &in, &out);
    if (state->way == COPY_TRANSPOSE)
        take_swapped_axis(state);
    state->row = state->space.dim[state->space.rank - 1];
    state->rows = grdi_space_count(&state->space, state->space.rank - 1);
    return GRD_OK;
}

static void release(grdi_call *call)
{
    grdi_free(call->state);
    call->state = NULL;
}

/* ---- running ---- */

static double get_element(const void *data, grd_dtype dtype, int64_t i)
{
    switch (dtype) {
    case GRD_F64: return ((const double *)data)[i];
    case GRD_F16: return grdi_f16_to_f32(((const uint16_t *)data)[i]);
    case GRD_I32: return ((const int32_t *)data)[i];
    case GRD_I64: return (double)((const int64_t *)data)[i];
    case GRD_U8: return ((const uint8_t *)data)[i];
    default: return grdi_run_get(data, dtype, i);
    }
}

/* Towards zero; what does not fit becomes the nearest value that does, NaN becomes 0. */
static int64_t to_integer(double value, double low, double high)
{
    return value != value ? 0 : value <= low ? (int64_t)low : value >= high ? (int64_t)high : (int64_t)value;
}

/* Rounds to odd, so that rounding again to a shorter format rounds as if from `value` itself. */
static float to_odd(double value)
{
    float nearest = (float)value;
    if ((double)nearest == value || value != value || isinf(nearest))
        return nearest;
    uint32_t bits = grdi_f32_to_bits(nearest);
    return grdi_bits_to_f32((fabs((double)nearest) > fabs(value) ? bits - 1 : bits) | 1u);
}

static void put_element(void *data, grd_dtype dtype, int64_t i, double value)
{
    switch (dtype) {
    case GRD_F32: ((float *)data)[i] = (float)value; break;
    case GRD_F64: ((double *)data)[i] = value; break;
    case GRD_BF16: ((uint16_t *)data)[i] = grdi_f32_to_bf16(to_odd(value)); break;
    case GRD_F16: ((uint16_t *)data)[i] = grdi_f32_to_f16(to_odd(value)); break;
    case GRD_I32: ((int32_t *)data)[i] = (int32_t)to_integer(value, INT32_MIN, INT32_MAX); break;
    case GRD_I64:
        ((int64_t *)data)[i] = value >= 0x1p63 ? INT64_MAX : to_integer(value, -0x1p63, 0x1.fffffffffffffp62);
        break;
    case GRD_U8: ((uint8_t *)data)[i] = (uint8_t)to_integer(value, 0, 255); break;
    default: ((uint8_t *)data)[i] = value != 0; break;
    }
}

static void copy_elements(void *to, grd_dtype to_dtype, int64_t to_stride, const void *from, grd_dtype dtype,
                          int64_t stride, int64_t count)
{
    if (dtype == GRD_I64 && to_dtype == GRD_I64) { /* doubles do not hold them all */
        for (int64_t i = 0; i < count; i++)
            ((int64_t *)to)[i * to_stride] = ((const int64_t *)from)[i * stride];
        return;
    }
    for (int64_t i = 0; i < count; i++)
        put_element(to, to_dtype, i * to_stride, get_element(from, dtype, i * stride));
}

static void copy_floats(void *to, grd_dtype to_dtype, int64_t to_stride, const void *from, grd_dtype dtype,
                        int64_t stride, int64_t count, bool add)
{
    if (dtype == GRD_F32 && stride == 1) {
        grdi_run_store(to, to_dtype, to_stride, from, count, add);
        return;
    }
    if (to_dtype == GRD_F32 && to_stride == 1 && !add) {
        grdi_run_load(to, from, dtype, stride, count);
        return;
    }
    float piece[PIECE];
    for (int64_t done = 0; done < count; done += PIECE) {
        int64_t n = count - done < PIECE ? count - done : PIECE;
        grdi_run_load(piece, grdi_run_at((void *)from, dtype, done * stride), dtype, stride, n);
        grdi_run_store(grdi_run_at(to, to_dtype, done * to_stride), to_dtype, to_stride, piece, n, add);
    }
}

static void copy_row(const grdi_call *call, const copy_state *state, char *to, const char *from, int64_t count)
{
    const grdi_view *in = &call->in[state->source], *out = &call->out[0];
    int32_t last = state->space.rank - 1;
    int64_t stride = state->space.stride[FROM][last], to_stride = state->space.stride[TO][last];
    switch (state->way) {
    case COPY_BYTES:
    case COPY_ROWS: memcpy(to, from, (size_t)count * grd_dtype_size(in->dtype)); break;
    case COPY_FLOATS:
        copy_floats(to, out->dtype, to_stride, from, in->dtype, stride, count, call->accumulate[0]);
        break;
    case COPY_TRANSPOSE:
    case COPY_ELEMENTS: copy_elements(to, out->dtype, to_stride, from, in->dtype, stride, count); break;
    }
}

static const char *source_data(const grdi_call *call, const copy_state *state)
{
    const grdi_view *in = &call->in[state->source];
    return (const char *)in->data + state->input_offset * (int64_t)grd_dtype_size(in->dtype);
}

/* One row cut into pieces: elements [begin, end). */
static void copy_run(int64_t begin, int64_t end, int32_t thread, void *context)
{
    (void)thread;
    const grdi_call *call = context;
    const copy_state *state = call->state;
    int64_t in_bytes = (int64_t)grd_dtype_size(call->in[state->source].dtype),
            out_bytes = (int64_t)grd_dtype_size(call->out[0].dtype);
    copy_row(call, state, (char *)call->out[0].data + begin * state->space.stride[TO][0] * out_bytes,
             source_data(call, state) + begin * state->space.stride[FROM][0] * in_bytes, end - begin);
}

/* Rows [begin, end). */
static void copy_rows(int64_t begin, int64_t end, int32_t thread, void *context)
{
    (void)thread;
    const grdi_call *call = context;
    const copy_state *state = call->state;
    int64_t in_bytes = (int64_t)grd_dtype_size(call->in[state->source].dtype),
            out_bytes = (int64_t)grd_dtype_size(call->out[0].dtype);
    char *to = call->out[0].data;
    const char *from = source_data(call, state);
    grdi_walk walk;
    grdi_walk_start(&walk, &state->space, state->space.rank - 1, begin);
    for (int64_t row = begin; row < end; row++, grdi_walk_next(&walk))
        copy_row(call, state, to + walk.offset[TO] * out_bytes, from + walk.offset[FROM] * in_bytes, state->row);
}

/* Bands of GRDI_TRANSPOSE_BAND output rows, those of all outer indices one after another. */
static void copy_transposed(int64_t begin, int64_t end, int32_t thread, void *context)
{
    (void)thread;
    const grdi_call *call = context;
    const copy_state *state = call->state;
    int32_t last = state->space.rank - 1;
    int64_t bands = (state->swapped + GRDI_TRANSPOSE_BAND - 1) / GRDI_TRANSPOSE_BAND;
    uint32_t *to = call->out[0].data;
    const uint32_t *from = (const uint32_t *)source_data(call, state);
    grdi_walk walk;
    grdi_walk_start(&walk, &state->space, last, begin / bands);
    for (int64_t unit = begin; unit < end; unit++) {
        int64_t first = unit % bands * GRDI_TRANSPOSE_BAND, rows = state->swapped - first;
        rows = rows < GRDI_TRANSPOSE_BAND ? rows : GRDI_TRANSPOSE_BAND;
        grdi_transpose_band(to + walk.offset[TO] + first * state->swapped_out, state->swapped_out,
                            from + walk.offset[FROM] + first, state->space.stride[FROM][last], rows, state->row);
        if (unit % bands == bands - 1)
            grdi_walk_next(&walk);
    }
}

static grd_status run(grdi_call *call)
{
    const copy_state *state = call->state;
    int64_t row_bytes = state->row * (int64_t)grd_dtype_size(call->out[0].dtype);
    if (call->out[0].data == source_data(call, state) && !call->accumulate[0] &&
        call->in[state->source].dtype == call->out[0].dtype)
        return GRD_OK; /* in place */
    if (state->way == COPY_TRANSPOSE) {
        int64_t bands = (state->swapped + GRDI_TRANSPOSE_BAND - 1) / GRDI_TRANSPOSE_BAND;
        grdi_parallel_for(call->threads, state->rows * bands, GRAIN_BYTES / 2 / (row_bytes * GRDI_TRANSPOSE_BAND) + 1,
                          copy_transposed, call);
    } else if (state->space.rank == 1) {
        grdi_parallel_for(call->threads, state->row, GRAIN_BYTES / (int64_t)grd_dtype_size(call->out[0].dtype),
                          copy_run, call);
    } else {
        grdi_parallel_for(call->threads, state->rows, GRAIN_BYTES / row_bytes + 1, copy_rows, call);
    }
    return GRD_OK;
}

/* Adding is for floats. */
static bool supports(const grdi_call *call)
{
    bool floats =
        runs_of(call->in[0].dtype) && runs_of(call->out[0].dtype) && call->out[0].dtype != GRD_BOOL;
    if (call->may_accumulate[0] && !floats)
        return false;
    return strcmp(call->op->name, "assign") != 0 || (grdi_attr_int(call->attrs, "mode") != 1);
}

#define COPY_KERNEL(name, strided_outputs, places)                                                                     \
    static const grdi_kernel kernel_##name = {.op = #name,                                                             \
                                              .strided_in = UINT32_MAX,                                                \
                                              .rows_in = UINT32_MAX,                                                   \
                                              .strided_out = (strided_outputs),                                        \
                                              .accumulates = 1,                                                        \
                                              .in_place = (places),                                                    \
                                              .supports = supports,                                                    \
                                              .prepare = prepare,                                                      \
                                              .run = run,                                                              \
                                              .release = release};
COPY_KERNEL(copy, 1, 1)
COPY_KERNEL(cast, 1, 0)
COPY_KERNEL(assign, 1, 1)
COPY_KERNEL(reshape, 0, 0)
COPY_KERNEL(transpose, 1, 0)
COPY_KERNEL(slice, 1, 0)
COPY_KERNEL(broadcast_to, 1, 0)
COPY_KERNEL(stop_gradient, 1, 0)

const grdi_kernel *const GRDI_ISA_TABLE(copy)[] = {&kernel_copy,         &kernel_cast,          &kernel_assign,
                                                   &kernel_reshape,      &kernel_transpose,     &kernel_slice,
                                                   &kernel_broadcast_to, &kernel_stop_gradient, NULL};
