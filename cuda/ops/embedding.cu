/* embedding.cu - rows of a table by id, and their gradient without atomics: each block owns a range of the table's rows
 * and adds what belongs there in the order of the ids, so that sums are the same bits in every run. */
#include "device/table.cuh"
#include "device/values.cuh"

namespace
{

enum { THREADS = 128, OWNED = 64 };

struct embedding_task {
    cells table, out;
    const int32_t *ids;
    int64_t count, vocab, width;
};

/* One block an id. An id outside the table gives NaN. */
__global__ void __launch_bounds__(THREADS) embedding_kernel(const embedding_task t)
{
    int64_t n = blockIdx.x, id = t.ids[n];
    bool exists = id >= 0 && id < t.vocab;
    for (int64_t c = threadIdx.x; c < t.width; c += THREADS)
        put(t.out, n * t.width + c, exists ? get(t.table, id * t.width + c) : NAN);
}

grd_status run_embedding(grdi_call *call)
{
    embedding_task t = {cells_of(call->in[0]),
                        cells_of(call->out[0]),
                        (const int32_t *)call->in[1].data,
                        grd_dims_count(call->in[1].dims),
                        call->in[0].dims.dim[0],
                        call->in[0].dims.dim[1]};
    return grdi_launch(call, embedding_kernel, (unsigned)t.count, THREADS, 0, t);
}

struct gradient_task {
    cells g, out;
    const int32_t *ids;
    int64_t count, vocab, width;
    bool add;
};

/* Block (x, y): rows [x OWNED, +OWNED) of the table, columns [y THREADS, +THREADS). Ids are looked at THREADS at a
 * time; those of the block are listed in order, and each thread adds its column of each. */
__global__ void __launch_bounds__(THREADS) embedding_backward_kernel(const gradient_task t)
{
    shared_memory shared;
    int32_t *list = shared.take<int32_t>(THREADS);         /* places of the ids found */
    int32_t *found = shared.take<int32_t>(THREADS / WARP); /* by warp */
    int64_t first = (int64_t)blockIdx.x * OWNED, column = (int64_t)blockIdx.y * THREADS + threadIdx.x;
    int64_t end = first + OWNED < t.vocab ? first + OWNED : t.vocab;
    for (int64_t row = first; row < end && !t.add; row++)
        if (column < t.width) put(t.out, row * t.width + column, 0.0f);
    for (int64_t base = 0; base < t.count; base += THREADS) {
        int64_t n = base + threadIdx.x, id = n < t.count ? t.ids[n] : -1;
        bool mine = id >= first && id < end;
        unsigned votes = __ballot_sync(0xFFFFFFFFu, mine);
        if (lane_of_thread() == 0) found[warp_of_thread()] = __popc(votes);
        __syncthreads();
        int before = __popc(votes & ((1u << lane_of_thread()) - 1u)), total = 0;
        for (int w = 0; w < THREADS / WARP; w++) {
            before += w < warp_of_thread() ? found[w] : 0;
            total += found[w];
        }
        if (mine) list[before] = (int32_t)(n - base);
        __syncthreads();
        for (int k = 0; k < total && column < t.width; k++) {
            int64_t from = base + list[k], to = (int64_t)t.ids[from] * t.width + column;
            put(t.out, to, get(t.out, to) + get(t.g, from * t.width + column));
        }
        __syncthreads(); /* before the lists are written again */
    }
}

grd_status run_backward(grdi_call *call)
{
    gradient_task t = {cells_of(call->in[0]),
                       cells_of(call->out[0]),
                       (const int32_t *)call->in[1].data,
                       grd_dims_count(call->in[1].dims),
                       call->out[0].dims.dim[0],
                       call->out[0].dims.dim[1],
                       call->accumulate[0]};
    dim3 grid(blocks_for(t.vocab, OWNED), blocks_for(t.width, THREADS));
    size_t shared = shared_bytes_of(THREADS, sizeof(int32_t)) + shared_bytes_of(THREADS / WARP, sizeof(int32_t));
    return grdi_launch(call, embedding_backward_kernel, grid, THREADS, shared, t);
}

/* A row of the table for each id. */
double bytes(const grdi_call *call)
{
    double count = (double)grd_dims_count(call->out[0].dims);
    size_t element_bytes = grd_dtype_size(call->in[0].dtype) + grd_dtype_size(call->out[0].dtype);
    return count * (double)element_bytes + (double)grd_dims_count(call->in[1].dims) * sizeof(int32_t);
}

bool supports(const grdi_call *call)
{
    return is_value(call->in[0].dtype) && call->in[1].dtype == GRD_I32 && is_value(call->out[0].dtype);
}

/* Sums stay in f32: in bf16 a sum stops growing at 256 times a summand. */
bool supports_backward(const grdi_call *call)
{
    return is_value(call->in[0].dtype) && call->in[1].dtype == GRD_I32 && call->out[0].dtype == GRD_F32;
}

const grdi_kernel kernel_embedding = {.op = "embedding", .supports = supports, .run = run_embedding, .bytes_of = bytes};
const grdi_kernel kernel_backward = {.op = "embedding_backward",
                                     .accumulates = 1,
                                     .supports = supports_backward,
                                     .run = run_backward,
                                     .bytes_of = grdi_cuda_bytes};

} // namespace

GRDI_CUDA_TABLE(embedding, &kernel_embedding, &kernel_backward)
