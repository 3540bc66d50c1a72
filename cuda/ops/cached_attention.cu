/* cached_attention.cu - new tokens over all tokens so far: a block takes one query of one head and goes over the keys a
 * tile at a time with a running maximum and sum. The new rows go into the caches afterwards, where those are not read:
 * queries take them from k and v. The position is read on the device, so that a captured graph serves all of them. */
#include "ops/attention.cuh"

#include "device/rows.cuh"
#include "device/table.cuh"

#include <cmath>

namespace
{

enum { THREADS = 128, SUMS = 4 /* columns kept by a thread */ };
enum { Q, K, V, K_CACHE, V_CACHE, POSITION };

struct cached_task {
    heads_view q, k, v, k_cache, v_cache, out;
    const int32_t *position;
    int64_t b, t, s, h, hkv, d, dv, window;
    float scale;
};

/* Key or value j of the cache with the new rows in it. */
__device__ __forceinline__ float element(const heads_view &rows, const heads_view &cache, int64_t batch, int j,
                                         int64_t head, int64_t column, int position, int count)
{
    int i = j - position;
    if (i >= 0 && i < count) return get(rows.at, head_row(rows, batch, i, head) + column * rows.stride[3]);
    return get(cache.at, head_row(cache, batch, j, head) + column * cache.stride[3]);
}

__global__ void __launch_bounds__(THREADS, 4) cached_attention_kernel(const cached_task t)
{
    shared_memory shared;
    float *parts = shared.take<float>(ROW_WARPS_MAX), *score = shared.take<float>(THREADS);
    float *q = shared.take<float>((int)t.d);
    unsigned n = blockIdx.x, heads = (unsigned)t.h, tokens = (unsigned)t.t, shared_by = heads / (unsigned)t.hkv;
    int64_t head = n % heads, i = n / heads % tokens, batch = n / (heads * tokens), kv = (unsigned)head / shared_by;
    int position = *t.position, last = position + (int)i, end = last + 1 < t.s ? last + 1 : (int)t.s;
    int begin = t.window > 0 && last - t.window + 1 > 0 ? (int)(last - t.window + 1) : 0;
    float out[SUMS], most = -INFINITY, sum = 0;
#pragma unroll
    for (int m = 0; m < SUMS; m++) out[m] = 0;
    for (int64_t c = threadIdx.x; c < t.d; c += THREADS)
        q[c] = get(t.q.at, head_row(t.q, batch, i, head) + c * t.q.stride[3]);
    __syncthreads();
    for (int first = begin; first < end; first += THREADS) {
        int j = first + (int)threadIdx.x;
        float s = -INFINITY;
        if (j < end) {
            float along = 0;
            for (int64_t c = 0; c < t.d; c++)
                along += q[c] * element(t.k, t.k_cache, batch, j, kv, c, position, (int)tokens);
            s = along * t.scale;
        }
        float high = larger(most, block_max(s, parts)), shrink = most == -INFINITY ? 0.0f : expf(most - high);
        float p = j < end ? expf(s - high) : 0.0f;
        score[threadIdx.x] = p;
        sum = sum * shrink + block_sum(p, parts);
        most = high;
        __syncthreads();
        int keys = end - first < THREADS ? end - first : THREADS;
#pragma unroll
        for (int m = 0; m < SUMS; m++) {
            int64_t c = threadIdx.x + (int64_t)m * THREADS;
            if (c >= t.dv) continue;
            float o = out[m] * shrink;
            for (int k = 0; k < keys; k++)
                o += score[k] * element(t.v, t.v_cache, batch, first + k, kv, c, position, (int)tokens);
            out[m] = o;
        }
        __syncthreads(); /* the scores are done with */
    }
#pragma unroll
    for (int m = 0; m < SUMS; m++) {
        int64_t c = threadIdx.x + (int64_t)m * THREADS;
        if (c < t.dv)
            put(t.out.at, head_row(t.out, batch, i, head) + c * t.out.stride[3], end > begin ? out[m] / sum : 0.0f);
    }
}

struct fill_task {
    heads_view rows, cache, out;
    const int32_t *position;
    int64_t count, t, s, hkv, width;
    bool in_place; /* only the new rows are written */
};

__global__ void __launch_bounds__(THREADS) fill_cache_kernel(const fill_task f)
{
    int64_t e = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (e >= f.count) return;
    int64_t length = f.in_place ? f.t : f.s, c = e % f.width, head = e / f.width % f.hkv;
    int64_t row = e / (f.width * f.hkv) % length, batch = e / (f.width * f.hkv * length);
    int position = *f.position, j = f.in_place ? position + (int)row : (int)row;
    if (j < 0 || j >= f.s) return;
    put(f.out.at, head_row(f.out, batch, j, head) + c * f.out.stride[3],
        element(f.rows, f.cache, batch, j, head, c, position, (int)f.t));
}

grd_status fill(const grdi_call *call, int32_t rows, int32_t cache, int32_t output)
{
    const int64_t *in = call->in[rows].dims.dim, *kept = call->in[cache].dims.dim;
    fill_task f = {heads_of(call->in[rows]), heads_of(call->in[cache]), heads_of(call->out[output]),
                   (const int32_t *)call->in[POSITION].data};
    if (!call->out[output].data) return GRD_OK;
    f.t = in[1], f.s = kept[1], f.hkv = kept[2], f.width = kept[3];
    f.in_place = call->out[output].data == call->in[cache].data;
    f.count = in[0] * (f.in_place ? f.t : f.s) * f.hkv * f.width;
    return grdi_launch(call, fill_cache_kernel, blocks_for(f.count, THREADS), THREADS, 0, f);
}

grd_status run(grdi_call *call)
{
    const int64_t *q = call->in[Q].dims.dim, *cache = call->in[V_CACHE].dims.dim;
    cached_task t = {heads_of(call->in[Q]),       heads_of(call->in[K]),       heads_of(call->in[V]),
                     heads_of(call->in[K_CACHE]), heads_of(call->in[V_CACHE]), heads_of(call->out[0])};
    t.position = (const int32_t *)call->in[POSITION].data;
    t.b = q[0], t.t = q[1], t.h = q[2], t.d = q[3], t.s = cache[1], t.hkv = cache[2], t.dv = cache[3];
    t.window = grdi_attr_int(call->attrs, "window");
    double scale = grdi_attr_float(call->attrs, "scale");
    t.scale = (float)(scale == 0 ? 1 / sqrt((double)t.d) : scale);
    size_t shared =
        row_shared_bytes() + shared_bytes_of(THREADS, sizeof(float)) + shared_bytes_of((size_t)t.d, sizeof(float));
    grd_status status = GRD_OK;
    if (t.out.at.data)
        status = grdi_launch(call, cached_attention_kernel, (unsigned)(t.b * t.t * t.h), THREADS, shared, t);
    if (!status) status = fill(call, K, K_CACHE, 1);
    return status ? status : fill(call, V, V_CACHE, 2);
}

bool supports(const grdi_call *call)
{
    return takes_values(call, 0, POSITION) && call->in[POSITION].dtype == GRD_I32 && call->in[Q].dims.dim[3] <= 4096 &&
           call->in[V_CACHE].dims.dim[3] <= SUMS * THREADS;
}

const grdi_kernel kernel = {
    .op = "cached_attention", .rows_in = 31, .strided_out = 1, .in_place = 6, .supports = supports, .run = run};

} // namespace

GRDI_CUDA_TABLE(cached_attention, &kernel)
