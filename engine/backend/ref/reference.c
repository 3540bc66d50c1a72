/* reference.c - an op's reference as a kernel: any strides and dtypes become row-major doubles, the op computes, the
 * results go back. */
#include "backend/backend.h"
#include "base/convert.h"

#include <math.h>
#include <string.h>

static double load_element(const void *data, grd_dtype dtype, int64_t i)
{
    switch (dtype) {
    case GRD_F32: return ((const float *)data)[i];
    case GRD_F64: return ((const double *)data)[i];
    case GRD_BF16: return grdi_bf16_to_f32(((const uint16_t *)data)[i]);
    case GRD_F16: return grdi_f16_to_f32(((const uint16_t *)data)[i]);
    case GRD_I32: return ((const int32_t *)data)[i];
    case GRD_I64: return (double)((const int64_t *)data)[i];
    case GRD_U8: return ((const uint8_t *)data)[i];
    case GRD_BOOL: return ((const uint8_t *)data)[i] != 0;
    case GRD_DTYPE_COUNT: break;
    }
    return NAN;
}

/* Towards zero; what does not fit becomes the nearest value that does, NaN becomes 0. */
static int64_t to_integer(double value, double low, double high)
{
    return isnan(value) ? 0 : value <= low ? (int64_t)low : value >= high ? (int64_t)high : (int64_t)value;
}

/* One rounding from double; through f32 there would be two, and a tie made by the first would go the wrong way in the
 * second. Rounding the first to odd prevents that: the last bit of the f32 then says that something was cut off. */
static float to_odd(double value)
{
    float nearest = (float)value;
    if ((double)nearest == value || isnan(value) || isinf(nearest))
        return nearest;
    uint32_t bits = grdi_f32_to_bits(nearest);
    if (fabs((double)nearest) > fabs(value))
        bits--;
    return grdi_bits_to_f32(bits | 1u);
}

static void store_element(void *data, grd_dtype dtype, int64_t i, double value)
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
    case GRD_BOOL: ((uint8_t *)data)[i] = value != 0; break;
    case GRD_DTYPE_COUNT: break;
    }
}

/* Steps a row-major index; the caller counts the elements. */
static int64_t step_offset(const grdi_view *view, int64_t *index, int64_t offset)
{
    for (int32_t axis = view->dims.rank - 1; axis >= 0; axis--) {
        offset += view->stride[axis];
        if (++index[axis] < view->dims.dim[axis])
            return offset;
        offset -= view->stride[axis] * view->dims.dim[axis];
        index[axis] = 0;
    }
    return offset;
}

static void load_view(double *to, const grdi_view *view)
{
    int64_t index[GRD_RANK_MAX] = {0}, offset = 0, count = grd_dims_count(view->dims);
    for (int64_t i = 0; i < count; i++) {
        to[i] = load_element(view->data, view->dtype, offset);
        if (view->rounded)
            to[i] = grdi_bf16_to_f32(grdi_f32_to_bf16((float)to[i]));
        offset = step_offset(view, index, offset);
    }
}

static void store_view(const grdi_view *view, const double *from, bool accumulate)
{
    int64_t index[GRD_RANK_MAX] = {0}, offset = 0, count = grd_dims_count(view->dims);
    for (int64_t i = 0; i < count; i++) {
        double old = accumulate ? load_element(view->data, view->dtype, offset) : 0;
        store_element(view->data, view->dtype, offset, accumulate ? old + from[i] : from[i]);
        offset = step_offset(view, index, offset);
    }
}

static bool supports(const grdi_call *call)
{
    return call->op->reference != NULL;
}

/* Scratch: the doubles of all inputs, then of all outputs. */
static grd_status prepare(grdi_call *call, grd_error *error)
{
    size_t total = 0;
    for (int32_t i = 0; i < call->input_count + call->output_count; i++) {
        const grdi_view *view = i < call->input_count ? &call->in[i] : &call->out[i - call->input_count];
        int64_t count = grd_dims_count(view->dims);
        if (count < 0 || (size_t)count > SIZE_MAX / 64)
            return grd_fail(error, GRD_E_MEMORY, "%s: a tensor too large for the reference", call->op->name);
        total += (size_t)count;
    }
    call->scratch_bytes = total * sizeof(double);
    return GRD_OK;
}

static grd_status run(grdi_call *call)
{
    grdi_type in_type[GRDI_INPUTS_MAX], out_type[GRDI_OUTPUTS_MAX];
    const double *in[GRDI_INPUTS_MAX];
    double *out[GRDI_OUTPUTS_MAX], *next = call->scratch;
    for (int32_t i = 0; i < call->input_count; i++) {
        const grdi_view *view = &call->in[i];
        in_type[i] = (grdi_type){view->dtype, view->dims};
        in[i] = view->data ? next : NULL;
        if (view->data)
            load_view(next, view);
        next += grd_dims_count(view->dims);
    }
    for (int32_t o = 0; o < call->output_count; o++) {
        const grdi_view *view = &call->out[o];
        out_type[o] = (grdi_type){view->dtype, view->dims};
        out[o] = view->data || (call->op->flags & GRDI_OP_WHOLE) ? next : NULL;
        next += grd_dims_count(view->dims);
    }
    const grdi_reference r = {.op = call->op,
                              .attrs = call->attrs,
                              .input_count = call->input_count,
                              .output_count = call->output_count,
                              .in_type = in_type,
                              .out_type = out_type,
                              .in = in,
                              .out = out,
                              .path_hash = call->path_hash,
                              .literal = call->literal};
    call->op->reference(&r);
    for (int32_t o = 0; o < call->output_count; o++)
        if (call->out[o].data)
            store_view(&call->out[o], out[o], call->accumulate[o]);
    return GRD_OK;
}

/* All inputs are read before the first output is written, so any output may lie over any input. */
const grdi_kernel grdi_reference_kernel = {
    .op = "*",
    .strided_in = UINT32_MAX,
    .rows_in = UINT32_MAX,
    .rounds_in = UINT32_MAX,
    .strided_out = UINT32_MAX,
    .accumulates = UINT32_MAX,
    .in_place = UINT32_MAX,
    .supports = supports,
    .prepare = prepare,
    .run = run,
};
