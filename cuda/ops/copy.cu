/* copy.cu - copies: between layouts, between dtypes, and into variables (assign). */
#include "ops/copy.h"

#include "device/groups.cuh"
#include "device/table.cuh"

#include <cstring>

namespace
{

enum { THREADS = 256, EACH = 4, GROUPS = 2, TILE = 32, TILE_ROWS = 8 };

struct copy_task {
    axes space;
    int64_t count;
    operand from, to;
    bool add;
};

/* Numbers of every dtype, exact up to 2^53. */
__device__ double get_wide(const cells &c, int64_t i)
{
    switch (c.dtype) {
    case GRD_F64: return ((const double *)c.data)[i];
    case GRD_I32: return ((const int32_t *)c.data)[i];
    case GRD_I64: return (double)((const int64_t *)c.data)[i];
    case GRD_U8: return ((const uint8_t *)c.data)[i];
    default: return get(c, i);
    }
}

__device__ double truncated(double x, double low, double high)
{
    return x != x ? 0.0 : x < low ? low : x > high ? high : trunc(x);
}

/* As the op cast: towards zero, values beyond the range become its ends, NaN becomes 0. */
__device__ void put_wide(const cells &c, int64_t i, double value)
{
    switch (c.dtype) {
    case GRD_F64: ((double *)c.data)[i] = value; break;
    case GRD_I32: ((int32_t *)c.data)[i] = (int32_t)truncated(value, -2147483648.0, 2147483647.0); break;
    case GRD_I64:
        ((int64_t *)c.data)[i] = (int64_t)truncated(value, -9223372036854775808.0, 9223372036854774784.0);
        break;
    case GRD_U8: ((uint8_t *)c.data)[i] = (uint8_t)truncated(value, 0.0, 255.0); break;
    case GRD_BOOL: ((uint8_t *)c.data)[i] = value != 0; break;
    default: put(c, i, (float)value);
    }
}

__global__ void __launch_bounds__(THREADS) convert_kernel(const copy_task task)
{
    int64_t first = (int64_t)blockIdx.x * (THREADS * EACH) + threadIdx.x;
    for (int i = 0; i < EACH; i++) {
        int64_t e = first + (int64_t)i * THREADS;
        if (e >= task.count) return;
        put_wide(task.to.at, offset_of(task.space, task.to, e),
                 get_wide(task.from.at, offset_of(task.space, task.from, e)));
    }
}

__global__ void __launch_bounds__(THREADS) float_kernel(const copy_task task)
{
    int64_t first = (int64_t)blockIdx.x * (THREADS * EACH) + threadIdx.x;
    float x[EACH];
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        int64_t e = first + (int64_t)i * THREADS;
        x[i] = e < task.count ? get(task.from.at, offset_of(task.space, task.from, e)) : 0.0f;
    }
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        int64_t e = first + (int64_t)i * THREADS;
        if (e < task.count) put_or_add(task.to.at, offset_of(task.space, task.to, e), x[i], task.add);
    }
}

/* The same where both sides lie in groups: GROUPS of them a thread. */
__global__ void __launch_bounds__(THREADS) groups_kernel(const copy_task task)
{
    const int64_t first = ((int64_t)blockIdx.x * (THREADS * GROUPS) + threadIdx.x) * WIDE;
    wide_bits bits[GROUPS];
#pragma unroll
    for (int g = 0; g < GROUPS; g++)
        if (first + g * (THREADS * WIDE) < task.count)
            bits[g] = read_group(task.space, task.from, first + g * (THREADS * WIDE));
#pragma unroll
    for (int g = 0; g < GROUPS; g++) {
        float x[WIDE];
        if (first + g * (THREADS * WIDE) >= task.count) return;
        spread_group(task.from.at, bits[g], x);
        write_group(task.space, task.to, first + g * (THREADS * WIDE), x, task.add);
    }
}

/* Words of one size as they are. */
template <class T> __global__ void __launch_bounds__(THREADS) same_kernel(const copy_task task)
{
    int64_t first = (int64_t)blockIdx.x * (THREADS * EACH) + threadIdx.x;
    T x[EACH] = {};
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        int64_t e = first + (int64_t)i * THREADS;
        if (e < task.count) x[i] = ((const T *)task.from.at.data)[offset_of(task.space, task.from, e)];
    }
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        int64_t e = first + (int64_t)i * THREADS;
        if (e < task.count) ((T *)task.to.at.data)[offset_of(task.space, task.to, e)] = x[i];
    }
}

struct transpose_task {
    cells from, to;
    int64_t rows, columns;  /* of the result */
    int64_t from_ld, to_ld; /* from[column][row], to[row][column] */
    int64_t from_batch, to_batch;
};

/* Through a tile in shared memory, so that both sides are read and written along their rows; a column of padding keeps
 * the tile's columns in different banks. */
__global__ void __launch_bounds__(TILE *TILE_ROWS) transpose_kernel(const transpose_task task)
{
    shared_memory shared;
    float *tile = shared.take<float>(TILE * (TILE + 1));
    int64_t batch = blockIdx.z;
    int x = (int)threadIdx.x, y = (int)threadIdx.y;
    int64_t row = (int64_t)blockIdx.y * TILE + x, column = (int64_t)blockIdx.x * TILE;
    for (int j = y; j < TILE; j += TILE_ROWS)
        if (row < task.rows && column + j < task.columns)
            tile[j * (TILE + 1) + x] = get(task.from, batch * task.from_batch + (column + j) * task.from_ld + row);
    __syncthreads();
    int64_t to_row = (int64_t)blockIdx.y * TILE, to_column = column + x;
    for (int j = y; j < TILE; j += TILE_ROWS)
        if (to_row + j < task.rows && to_column < task.columns)
            put(task.to, batch * task.to_batch + (to_row + j) * task.to_ld + to_column, tile[x * (TILE + 1) + j]);
}

bool is_float(int32_t dtype)
{
    return dtype == GRD_F32 || dtype == GRD_BF16 || dtype == GRD_F16;
}

/* Whether the two innermost axes change places, with at most one axis around them. */
bool transposes(const copy_task &t)
{
    int32_t r = t.space.rank;
    return (r == 2 || r == 3) && is_float(t.from.at.dtype) && is_float(t.to.at.dtype) && !t.add &&
           t.from.stride[r - 2] == 1 && t.from.stride[r - 1] > 1 && t.to.stride[r - 1] == 1 &&
           t.space.dim[r - 1] >= 8 && t.space.dim[r - 2] >= 8 && (r == 2 || t.space.dim[0] <= 65535) &&
           blocks_for(t.space.dim[r - 2], TILE) <= 65535;
}

grd_status run_transpose(const grdi_call *call, const copy_task &t)
{
    int32_t r = t.space.rank;
    transpose_task task = {t.from.at,
                           t.to.at,
                           t.space.dim[r - 2],
                           t.space.dim[r - 1],
                           t.from.stride[r - 1],
                           t.to.stride[r - 2],
                           r == 3 ? t.from.stride[0] : 0,
                           r == 3 ? t.to.stride[0] : 0};
    dim3 grid(blocks_for(task.columns, TILE), blocks_for(task.rows, TILE), r == 3 ? (unsigned)t.space.dim[0] : 1u);
    return grdi_launch(call, transpose_kernel, grid, dim3(TILE, TILE_ROWS),
                       shared_bytes_of(TILE * (TILE + 1), sizeof(float)), task);
}

grd_status run_floats(const grdi_call *call, const copy_task &t)
{
    if (in_groups(t.space, t.count) && t.count % WIDE == 0 && in_groups(t.space, t.from) && in_groups(t.space, t.to))
        return grdi_launch(call, groups_kernel, blocks_for(t.count, THREADS * WIDE * GROUPS), THREADS, 0, t);
    return grdi_launch(call, float_kernel, blocks_for(t.count, THREADS * EACH), THREADS, 0, t);
}

bool lies_in(const operand &o, int32_t rank, int64_t words_of, int64_t element_bytes)
{
    bool lies = rank > 0 && o.stride[rank - 1] == 1 && (intptr_t)o.at.data % (words_of * element_bytes) == 0;
    for (int32_t i = 0; i < rank - 1; i++) lies = lies && o.stride[i] % words_of == 0;
    return lies;
}

/* The same copy of larger words, up to 16 bytes, where rows on both sides are made of such; element_bytes is that of a
 * word from here on. */
copy_task widened(copy_task t, size_t &element_bytes)
{
    for (int64_t each = 16 / (int64_t)element_bytes; each > 1; each /= 2) {
        const int32_t last = t.space.rank - 1;
        if (!lies_in(t.from, last + 1, each, (int64_t)element_bytes) ||
            !lies_in(t.to, last + 1, each, (int64_t)element_bytes) || t.space.dim[last] % each)
            continue;
        t.space.dim[last] /= each;
        for (int32_t i = 0; i < last; i++) t.from.stride[i] /= each, t.to.stride[i] /= each;
        t.count /= each;
        element_bytes *= (size_t)each;
        return t;
    }
    return t;
}

grd_status run_same(const grdi_call *call, copy_task t, size_t element_bytes)
{
    t = widened(t, element_bytes);
    const unsigned blocks = blocks_for(t.count, THREADS * EACH);
    switch (element_bytes) {
    case 1: return grdi_launch(call, same_kernel<uint8_t>, blocks, THREADS, 0, t);
    case 2: return grdi_launch(call, same_kernel<uint16_t>, blocks, THREADS, 0, t);
    case 4: return grdi_launch(call, same_kernel<uint32_t>, blocks, THREADS, 0, t);
    case 8: return grdi_launch(call, same_kernel<uint64_t>, blocks, THREADS, 0, t);
    default: return grdi_launch(call, same_kernel<uint4>, blocks, THREADS, 0, t);
    }
}

} // namespace

bool grdi_cuda_copies(grd_dtype from, grd_dtype to)
{
    return from < GRD_DTYPE_COUNT && to < GRD_DTYPE_COUNT;
}

grd_status grdi_cuda_copy(const grdi_call *call, const grdi_view *to, const grdi_view *from, bool accumulate)
{
    grdi_space space;
    copy_task task;
    grdi_space_start(&space, to->dims);
    grdi_space_add(&space, from);
    grdi_space_add(&space, to);
    task.count = grdi_space_count(&space, space.rank);
    grdi_space_merge(&space);
    task.space = axes_of(space);
    task.from = operand_of(space, 0, *from);
    task.to = operand_of(space, 1, *to);
    task.add = accumulate;
    bool whole = task.from.lie == LIES_WHOLE && task.to.lie == LIES_WHOLE;
    if (to->data == from->data && to->dtype == from->dtype && whole && !accumulate) return GRD_OK; /* in place */
    if (transposes(task)) return run_transpose(call, task);
    if (accumulate || (to->dtype != from->dtype && is_float(to->dtype) && is_float(from->dtype)))
        return run_floats(call, task);
    if (to->dtype != from->dtype)
        return grdi_launch(call, convert_kernel, blocks_for(task.count, THREADS * EACH), THREADS, 0, task);
    size_t element_bytes = grd_dtype_size(to->dtype);
    if (whole && grdi_cuda_noted(call->device)) return GRD_OK;
    if (whole)
        return grdi_cuda_check(call->device,
                               cudaMemcpyAsync(to->data, from->data, (size_t)task.count * element_bytes,
                                               cudaMemcpyDeviceToDevice, grdi_cuda_stream(call)),
                               "cudaMemcpyAsync on the device");
    return run_same(call, task, element_bytes);
}

namespace
{

/* assign: inputs target and value; its mode is told by call.accumulate, but for a node that always adds. */
bool supports(const grdi_call *call)
{
    bool assign = strcmp(call->op->name, "assign") == 0;
    grd_dtype from = call->in[assign ? 1 : 0].dtype, to = call->out[0].dtype;
    if (assign && grdi_attr_int(call->attrs, "mode") == 1) return false;
    bool adds = is_float(from) && is_float(to);
    return grdi_cuda_copies(from, to) && (adds || !call->may_accumulate[0]);
}

grd_status run(grdi_call *call)
{
    bool assign = strcmp(call->op->name, "assign") == 0;
    return grdi_cuda_copy(call, &call->out[0], &call->in[assign ? 1 : 0], call->accumulate[0]);
}

/* assign's mode 1, as the op table knows it: the target plus the value. */
bool supports_adding(const grdi_call *call)
{
    return call->in[0].dtype == call->out[0].dtype && is_float(call->in[1].dtype) && is_float(call->out[0].dtype);
}

grd_status run_adding(grdi_call *call)
{
    grd_status status = grdi_cuda_copy(call, &call->out[0], &call->in[0], call->accumulate[0]);
    return status ? status : grdi_cuda_copy(call, &call->out[0], &call->in[1], true);
}

#define COPY_KERNEL(op_name, adds, places)                                                                             \
    {                                                                                                                  \
        .op = op_name, .strided_in = UINT32_MAX, .rows_in = UINT32_MAX, .strided_out = 1, .accumulates = adds,         \
        .in_place = places, .supports = supports, .run = run                                                           \
    }

const grdi_kernel kernel_copy = COPY_KERNEL("copy", 1, 1);
const grdi_kernel kernel_cast = COPY_KERNEL("cast", 0, 0);
const grdi_kernel kernel_assign = COPY_KERNEL("assign", 1, 1);
const grdi_kernel kernel_adding = {.op = "assign",
                                   .strided_in = UINT32_MAX,
                                   .rows_in = UINT32_MAX,
                                   .strided_out = 1,
                                   .supports = supports_adding,
                                   .run = run_adding};

} // namespace

GRDI_CUDA_TABLE(copy, &kernel_copy, &kernel_cast, &kernel_assign, &kernel_adding)
