/* moves.cu - values taken from one place to another: concat, gather, take, one_hot. */
#include "ops/copy.h"

#include "device/space.cuh"
#include "device/table.cuh"

#include <cstring>

namespace
{

enum { THREADS = 256 };

/* ---- concat: one copy an input ---- */

grd_status run_concat(grdi_call *call)
{
    int64_t axis = grdi_attr_int(call->attrs, "axis");
    axis += axis < 0 ? call->out[0].dims.rank : 0;
    grdi_view part = call->out[0];
    size_t element = grd_dtype_size(part.dtype);
    grd_status status = GRD_OK;
    for (int32_t i = 0; i < call->input_count && !status; i++) {
        part.dims = call->in[i].dims;
        status = grdi_cuda_copy(call, &part, &call->in[i], false);
        part.data = (char *)part.data + call->in[i].dims.dim[axis] * part.stride[axis] * (int64_t)element;
    }
    return status;
}

bool supports_concat(const grdi_call *call)
{
    for (int32_t i = 0; i < call->input_count; i++)
        if (!grdi_cuda_copies(call->in[i].dtype, call->out[0].dtype)) return false;
    return true;
}

/* ---- by ids: y[o, j, n] = x[o, id, n] ---- */

struct take_task {
    cells x, y;
    const int32_t *ids;
    int64_t count, size, taken, inner; /* size: of x along the axis; taken: of y */
    /* gather: where the outer coordinates of y lie in x; take: rank 0 */
    axes outer, inside;
    int64_t outer_stride[GRD_RANK_MAX], inside_stride[GRD_RANK_MAX];
    int64_t along; /* x's stride along the axis */
    bool each;     /* an id for each element (gather), not for each j */
};

__device__ __forceinline__ int64_t placed(const axes &a, const int64_t *stride, int64_t index)
{
    int64_t offset = 0;
    for (int32_t i = a.rank - 1; i >= 0; i--) {
        offset += index % a.dim[i] * stride[i];
        index /= a.dim[i];
    }
    return offset;
}

/* An id that does not exist gives NaN, in integers 0. */
__global__ void __launch_bounds__(THREADS) take_kernel(const take_task t)
{
    int64_t e = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (e >= t.count) return;
    int64_t n = e % t.inner, j = e / t.inner % t.taken, o = e / (t.inner * t.taken), id = t.ids[t.each ? e : j];
    bool exists = id >= 0 && id < t.size;
    int64_t from = placed(t.outer, t.outer_stride, o) + placed(t.inside, t.inside_stride, n) + id * t.along;
    if (t.x.dtype == GRD_I32) ((int32_t *)t.y.data)[e] = exists ? ((const int32_t *)t.x.data)[from] : 0;
    else put(t.y, e, exists ? get(t.x, from) : NAN);
}

grd_status run_take(grdi_call *call)
{
    const grdi_view *x = &call->in[0], *y = &call->out[0];
    int64_t axis = grdi_attr_int(call->attrs, "axis");
    axis += axis < 0 ? x->dims.rank : 0;
    take_task t = {.x = cells_of(*x),
                   .y = cells_of(*y),
                   .ids = (const int32_t *)call->in[1].data,
                   .count = grd_dims_count(y->dims),
                   .size = x->dims.dim[axis],
                   .taken = y->dims.dim[axis],
                   .inner = 1};
    for (int32_t i = 0; i < y->dims.rank; i++) {
        axes *a = i < axis ? &t.outer : &t.inside;
        if (i == axis) continue;
        (i < axis ? t.outer_stride : t.inside_stride)[a->rank] = x->stride[i];
        a->dim[a->rank++] = y->dims.dim[i];
        t.inner *= i > axis ? y->dims.dim[i] : 1;
    }
    t.along = x->stride[axis];
    t.each = strcmp(call->op->name, "gather") == 0;
    return grdi_launch(call, take_kernel, blocks_for(t.count, THREADS), THREADS, 0, t);
}

bool supports_take(const grdi_call *call)
{
    grd_dtype x = call->in[0].dtype, y = call->out[0].dtype;
    return call->in[1].dtype == GRD_I32 && ((is_value(x) && is_value(y)) || (x == GRD_I32 && y == GRD_I32));
}

/* ---- one_hot ---- */

struct one_hot_task {
    const int32_t *ids;
    cells out;
    int64_t count, depth;
};

__global__ void __launch_bounds__(THREADS) one_hot_kernel(const one_hot_task t)
{
    int64_t e = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (e >= t.count) return;
    bool hot = t.ids[e / t.depth] == e % t.depth;
    if (t.out.dtype == GRD_I32) ((int32_t *)t.out.data)[e] = hot;
    else put(t.out, e, hot ? 1.0f : 0.0f);
}

grd_status run_one_hot(grdi_call *call)
{
    one_hot_task t = {(const int32_t *)call->in[0].data, cells_of(call->out[0]), grd_dims_count(call->out[0].dims),
                      grdi_attr_int(call->attrs, "depth")};
    return grdi_launch(call, one_hot_kernel, blocks_for(t.count, THREADS), THREADS, 0, t);
}

bool supports_one_hot(const grdi_call *call)
{
    grd_dtype out = call->out[0].dtype;
    return call->in[0].dtype == GRD_I32 && (is_value(out) || out == GRD_I32 || out == GRD_BOOL);
}

const grdi_kernel kernel_concat = {.op = "concat",
                                   .strided_in = UINT32_MAX,
                                   .rows_in = UINT32_MAX,
                                   .strided_out = 1,
                                   .supports = supports_concat,
                                   .run = run_concat};
const grdi_kernel kernel_gather = {
    .op = "gather", .strided_in = 1, .rows_in = 1, .supports = supports_take, .run = run_take};
const grdi_kernel kernel_take = {
    .op = "take", .strided_in = 1, .rows_in = 1, .supports = supports_take, .run = run_take};
const grdi_kernel kernel_one_hot = {.op = "one_hot", .supports = supports_one_hot, .run = run_one_hot};

} // namespace

GRDI_CUDA_TABLE(moves, &kernel_concat, &kernel_gather, &kernel_take, &kernel_one_hot)
