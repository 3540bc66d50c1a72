/* column_sums.cu - sums over the rows of a matrix, where no epilogue of a product makes them. A first kernel sums parts
 * of the rows, a second adds the parts in their order: the same bits in every run. A thread stays with its columns
 * (eight, by loads of 16 bytes, where they lie so) and has several rows on their way at once. */
#include "ops/activation.h"

#include "device/table.cuh"
#include "device/values.cuh"

namespace
{

/* BLOCKS: as many as an H100 has at once, three on each of 132 multiprocessors. STEP_ROWS: of a thread; parts are
 * multiples of them. ANY: in place of a dtype, where threads read one column each. */
enum { THREADS = 256, BLOCKS = 396, STEP_ROWS = 4, SLOTS = 32, ANY = 63 };

struct sums_task {
    cells g, out;
    int64_t rows, columns, ld, part, parts;
    float *partial; /* [part][columns] */
    bool add;
};

/* N rows from element `at` on, `step` elements apart. */
template <int D, int N>
__device__ __forceinline__ void add_rows(const sums_task &t, int64_t at, int64_t step, float *sum)
{
    if constexpr (D == ANY) {
        uint32_t bits[N];
#pragma unroll
        for (int r = 0; r < N; r++) bits[r] = bits_of(t.g, at + r * step);
#pragma unroll
        for (int r = 0; r < N; r++) *sum += value_of(t.g, bits[r]);
    } else {
        const cells g = {t.g.data, D};
        wide_bits bits[N];
#pragma unroll
        for (int r = 0; r < N; r++) bits[r] = read_wide(g, at + r * step);
#pragma unroll
        for (int r = 0; r < N; r++) {
            float x[WIDE];
            spread(g, bits[r], x);
#pragma unroll
            for (int k = 0; k < WIDE; k++) sum[k] += x[k];
        }
    }
}

template <int D> __global__ void __launch_bounds__(THREADS, 3) column_sums_kernel(const sums_task t)
{
    constexpr int W = D == ANY ? 1 : WIDE, AT_ONCE = D == GRD_F32 ? STEP_ROWS / 2 : STEP_ROWS;
    shared_memory memory;
    int lanes = (int)blockDim.x, pitch = THREADS + lanes, thread = (int)threadIdx.y * lanes + (int)threadIdx.x;
    float *sums = memory.take<float>(W * pitch), sum[W] = {};
    int64_t from = (int64_t)blockIdx.y * t.part, column = ((int64_t)blockIdx.x * lanes + threadIdx.x) * W;
    int64_t end = from + t.part < t.rows ? from + t.part : t.rows, row = from + threadIdx.y;
    int64_t at = row * t.ld + column, step = blockDim.y * t.ld;
    int32_t count = row < end ? (int32_t)(end - row + blockDim.y - 1) / (int32_t)blockDim.y : 0;
    if (column >= t.columns) count = 0;
    for (; count >= AT_ONCE; count -= AT_ONCE, at += AT_ONCE * step) add_rows<D, AT_ONCE>(t, at, step, sum);
    for (; count > 0; count--, at += step) add_rows<D, 1>(t, at, step, sum);
#pragma unroll
    for (int k = 0; k < W; k++) sums[k * pitch + thread] = sum[k];
    __syncthreads();
    for (int c = thread; c < lanes * W; c += THREADS) {
        const float *mine = sums + c % W * pitch + c / W;
        float all = 0;
        for (int i = 0; i < THREADS; i += lanes) all += mine[i];
        column = (int64_t)blockIdx.x * lanes * W + c;
        if (column < t.columns) t.partial[blockIdx.y * t.columns + column] = all;
    }
}

/* A block has WARP columns; rows of its threads take parts in turn. */
__global__ void __launch_bounds__(SLOTS *WARP) column_parts_kernel(const sums_task t)
{
    shared_memory memory;
    float *sums = memory.take<float>(SLOTS * WARP), sum = 0;
    int64_t column = (int64_t)blockIdx.x * WARP + threadIdx.x;
#pragma unroll 4
    for (int64_t part = threadIdx.y; column < t.columns && part < t.parts; part += blockDim.y)
        sum += t.partial[part * t.columns + column];
    sums[threadIdx.y * WARP + threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y > 0 || column >= t.columns) return;
    for (int i = 1; i < (int)blockDim.y; i++) sum += sums[i * WARP + threadIdx.x];
    put_or_add(t.out, column, sum, t.add);
}

struct sums_plan {
    dim3 grid, block;
};

/* How rows and columns are cut, by the shape alone and by how wide threads read. */
sums_plan cut(const grdi_device *device, sums_task *t, int width)
{
    int64_t groups = blocks_for(t->columns, width);
    unsigned lanes = 1;
    while (lanes < WARP && lanes < groups) lanes *= 2;
    int64_t across = blocks_for(groups, lanes), blocks = device->small ? 40 : BLOCKS;
    int64_t step = (int64_t)(THREADS / lanes) * STEP_ROWS, steps = (t->rows + step - 1) / step;
    int64_t wanted = across < blocks ? blocks / across : 1;
    t->part = (steps + wanted - 1) / wanted * step;
    t->parts = (t->rows + t->part - 1) / t->part;
    return sums_plan{dim3((unsigned)across, (unsigned)t->parts), dim3(lanes, THREADS / lanes)};
}

template <int D> grd_status launch_parts(const grdi_call *call, sums_task *t)
{
    constexpr int W = D == ANY ? 1 : WIDE;
    sums_plan plan = cut(call->device, t, W);
    return grdi_launch(call, column_sums_kernel<D>, plan.grid, plan.block,
                       shared_bytes_of((size_t)W * (THREADS + plan.block.x), sizeof(float)), *t);
}

} // namespace

extern "C" size_t grdi_cuda_column_sums_bytes(const grdi_call *call, int64_t rows, int64_t columns)
{
    sums_task t = {};
    t.rows = rows, t.columns = columns;
    cut(call->device, &t, 1);
    int64_t parts = t.parts;
    cut(call->device, &t, WIDE);
    return (size_t)((parts > t.parts ? parts : t.parts) * columns) * sizeof(float);
}

extern "C" grd_status grdi_cuda_column_sums(const grdi_call *call, const grdi_view *to, const grdi_view *from,
                                            void *scratch, bool add)
{
    sums_task t = {};
    t.g = cells_of(*from), t.out = cells_of(*to), t.add = add;
    t.rows = from->dims.dim[0], t.columns = from->dims.dim[1], t.ld = from->stride[0];
    t.partial = (float *)scratch;
    bool wide = t.columns % WIDE == 0 && lies_wide(t.g, t.ld);
    grd_status status = !wide                   ? launch_parts<ANY>(call, &t)
                        : t.g.dtype == GRD_F32  ? launch_parts<GRD_F32>(call, &t)
                        : t.g.dtype == GRD_BF16 ? launch_parts<GRD_BF16>(call, &t)
                                                : launch_parts<GRD_F16>(call, &t);
    if (status) return status;
    dim3 slots(WARP, t.parts < SLOTS ? (unsigned)t.parts : (unsigned)SLOTS);
    return grdi_launch(call, column_parts_kernel, blocks_for(t.columns, WARP), slots,
                       shared_bytes_of(SLOTS * WARP, sizeof(float)), t);
}
