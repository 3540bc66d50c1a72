/* column_sums.cu - sums over the rows of a matrix, where no epilogue of a product makes them. */
#include "ops/activation.h"

#include "device/table.cuh"
#include "device/values.cuh"

namespace
{

enum { WARPS = 8, THREADS = WARPS * WARP };

struct sums_task {
    cells g, out;
    int64_t rows, columns, ld;
    bool add;
};

/* A block has WARP columns; warps take rows in turn, and their sums are added in order: the same bits in every run. */
__global__ void __launch_bounds__(THREADS) column_sums_kernel(const sums_task t)
{
    shared_memory shared;
    float *sums = shared.take<float>(THREADS);
    int64_t column = (int64_t)blockIdx.x * WARP + lane_of_thread();
    float sum = 0.0f;
    for (int64_t row = warp_of_thread(); row < t.rows && column < t.columns; row += WARPS)
        sum += get(t.g, row * t.ld + column);
    sums[threadIdx.x] = sum;
    __syncthreads();
    if (warp_of_thread() > 0 || column >= t.columns) return;
    for (int w = 1; w < WARPS; w++) sum += sums[w * WARP + lane_of_thread()];
    put_or_add(t.out, column, sum, t.add);
}

} // namespace

extern "C" grd_status grdi_cuda_column_sums(const grdi_call *call, const grdi_view *to, const grdi_view *from, bool add)
{
    sums_task t = {cells_of(*from), cells_of(*to), from->dims.dim[0], from->dims.dim[1], from->stride[0], add};
    return grdi_launch(call, column_sums_kernel, blocks_for(t.columns, WARP), THREADS,
                       shared_bytes_of(THREADS, sizeof(float)), t);
}
