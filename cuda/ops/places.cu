/* places.cu - values kept where they are, shifted or turned round, and a constant elsewhere: pad, tril, triu, flip. */
#include "ops/copy.h"

#include "device/space.cuh"
#include "device/table.cuh"

#include <cstring>

namespace
{

enum { THREADS = 256 };

struct place_task {
    cells x, y;
    axes space; /* of y, which is row-major */
    int64_t count;
    int64_t stride[GRD_RANK_MAX], before[GRD_RANK_MAX], dim[GRD_RANK_MAX]; /* of x; before: what is put in front */
    float value;
    int32_t integer; /* the value for i32, which f32 may not hold */
    /* triangles: kept where sign (column - row) >= sign diagonal; sign 0: everything */
    int64_t sign, diagonal;
};

__global__ void __launch_bounds__(THREADS) place_kernel(const place_task t)
{
    int64_t e = (int64_t)blockIdx.x * THREADS + threadIdx.x, left = e, from = 0, across = 0;
    if (e >= t.count) return;
    bool inside = true;
    for (int32_t axis = t.space.rank - 1; axis >= 0; axis--) {
        int64_t at = left % t.space.dim[axis];
        left /= t.space.dim[axis];
        if (axis == t.space.rank - 1) across += at;
        if (axis == t.space.rank - 2) across -= at;
        at -= t.before[axis];
        inside = inside && at >= 0 && at < t.dim[axis];
        from += at * t.stride[axis];
    }
    if (t.sign) inside = t.sign * across >= t.sign * t.diagonal;
    if (t.x.dtype == GRD_I32) ((int32_t *)t.y.data)[e] = inside ? ((const int32_t *)t.x.data)[from] : t.integer;
    else put(t.y, e, inside ? get(t.x, from) : t.value);
}

place_task task_of(const grdi_call *call)
{
    const grdi_view *x = &call->in[0], *y = &call->out[0];
    place_task t = {cells_of(*x), cells_of(*y)};
    t.space.rank = y->dims.rank;
    t.count = grd_dims_count(y->dims);
    for (int32_t i = 0; i < y->dims.rank; i++) {
        t.space.dim[i] = y->dims.dim[i];
        t.dim[i] = x->dims.dim[i];
        t.stride[i] = x->stride[i];
    }
    return t;
}

grd_status launch(const grdi_call *call, const place_task &t)
{
    return grdi_launch(call, place_kernel, blocks_for(t.count, THREADS), THREADS, 0, t);
}

grd_status run_pad(grdi_call *call)
{
    const grd_attr *before = grdi_attr_ints(call->attrs, "before");
    double value = grdi_attr_float(call->attrs, "value");
    place_task t = task_of(call);
    for (int32_t i = 0; i < before->count; i++) t.before[i] = before->ints[i];
    t.value = (float)value;
    if (t.x.dtype == GRD_I32) t.integer = (int32_t)value; /* the shape rule says that i32 holds it */
    return launch(call, t);
}

grd_status run_triangle(grdi_call *call)
{
    place_task t = task_of(call);
    t.sign = strcmp(call->op->name, "tril") == 0 ? -1 : 1;
    t.diagonal = grdi_attr_int(call->attrs, "diagonal");
    return launch(call, t);
}

/* A copy of x seen from the end of the axis. */
grd_status run_flip(grdi_call *call)
{
    grdi_view x = call->in[0];
    int64_t axis = grdi_attr_int(call->attrs, "axis");
    axis += axis < 0 ? x.dims.rank : 0;
    x.data = (char *)x.data + (x.dims.dim[axis] - 1) * x.stride[axis] * (int64_t)grd_dtype_size(x.dtype);
    x.stride[axis] = -x.stride[axis];
    return grdi_cuda_copy(call, &call->out[0], &x, false);
}

bool supports(const grdi_call *call)
{
    grd_dtype x = call->in[0].dtype, y = call->out[0].dtype;
    return (is_value(x) && is_value(y)) || (x == y && (x == GRD_I32 || x == GRD_BOOL));
}

bool supports_flip(const grdi_call *call)
{
    return grdi_cuda_copies(call->in[0].dtype, call->out[0].dtype);
}

const grdi_kernel kernel_pad = {.op = "pad", .strided_in = 1, .rows_in = 1, .supports = supports, .run = run_pad};
const grdi_kernel kernel_tril = {
    .op = "tril", .strided_in = 1, .rows_in = 1, .in_place = 1, .supports = supports, .run = run_triangle};
const grdi_kernel kernel_triu = {
    .op = "triu", .strided_in = 1, .rows_in = 1, .in_place = 1, .supports = supports, .run = run_triangle};
const grdi_kernel kernel_flip = {
    .op = "flip", .strided_in = 1, .rows_in = 1, .strided_out = 1, .supports = supports_flip, .run = run_flip};

} // namespace

GRDI_CUDA_TABLE(places, &kernel_pad, &kernel_tril, &kernel_triu, &kernel_flip)
