/* attention_backward.cu - the gradients of attention, of what neither cuDNN (attention_library.cu) nor the tensor cores
 * (flash_attention_backward.cu) take. With p = exp(score - lse) and e = p (g.v - g.out): dq = scale sum_j e k, dk =
 * scale sum_i e q, dv = sum_i p g. One kernel has a block for some queries and makes dq, the other a block for some
 * keys and makes dk and dv over all queries of all heads that share them: nothing is added by two blocks, memory is
 * linear in length, and runs agree to the bit. */
#include "ops/flash.cuh"

#include "device/table.cuh"

namespace
{

enum { G, Q, K, V, OUT, LSE, INPUTS };

enum { DELTA_ROWS = 4 }; /* of a team, all read before the first is added up */

/* delta = g . out of rows by WIDE elements: a team of LANES has a row at a time, the next team that which follows in
 * memory, [B,T,H]. */
template <int LANES> __global__ void __launch_bounds__(ATTENTION_THREADS) delta_kernel(const attention_task t)
{
    constexpr int TEAMS = ATTENTION_THREADS / LANES;
    int count = (int)(t.b * t.t * t.h), column = (int)threadIdx.x % LANES * WIDE;
    int first = (int)blockIdx.x * TEAMS * DELTA_ROWS + (int)threadIdx.x / LANES;
    bool has = column < t.dv_size;
    wide_bits g[DELTA_ROWS], out[DELTA_ROWS];
    int64_t to[DELTA_ROWS];
#pragma unroll
    for (int r = 0; r < DELTA_ROWS; r++) {
        int row = first + r * TEAMS < count ? first + r * TEAMS : count - 1;
        int token = row / t.h, head = row - token * t.h, batch = token / (int)t.t, i = token - batch * (int)t.t;
        to[r] = ((int64_t)batch * t.h + head) * t.t + i;
        if (!has) continue;
        g[r] = read_wide(t.g.at, head_row(t.g, batch, i, head) + column);
        out[r] = read_wide(t.out.at, head_row(t.out, batch, i, head) + column);
    }
#pragma unroll
    for (int r = 0; r < DELTA_ROWS; r++) {
        float a[WIDE], b[WIDE], sum = 0;
        spread(t.g.at, g[r], a);
        spread(t.out.at, out[r], b);
#pragma unroll
        for (int k = 0; k < WIDE; k++) sum += has ? a[k] * b[k] : 0.0f;
#pragma unroll
        for (int lanes = LANES / 2; lanes > 0; lanes /= 2) sum += __shfl_xor_sync(0xFFFFFFFFu, sum, lanes);
        if (column == 0 && first + r * TEAMS < count) t.delta[to[r]] = sum;
    }
}

/* The same of any rows, one warp a row. */
__global__ void __launch_bounds__(ATTENTION_THREADS) delta_rows_kernel(const attention_task t)
{
    int64_t row = (int64_t)blockIdx.x * (ATTENTION_THREADS / WARP) + warp_of_thread();
    if (row >= (int64_t)t.b * t.h * t.t) return;
    int64_t i = row % t.t, head = row / t.t % t.h, batch = row / t.t / t.h;
    int64_t g = head_row(t.g, batch, i, head), out = head_row(t.out, batch, i, head);
    float sum = 0;
    for (int c = lane_of_thread(); c < t.dv_size; c += WARP)
        sum += get(t.g.at, g + c * t.g.stride[3]) * get(t.out.at, out + c * t.out.stride[3]);
    sum = warp_sum(sum);
    if (lane_of_thread() == 0) t.delta[row] = sum;
}

/* The block's tiles. */
struct tiles {
    float *q, *k, *v, *g, *p, *e; /* p and e: [queries][keys + 1] */
    float *lse, *delta;
    int *q_document, *k_document;
};

__device__ inline tiles take_tiles(const attention_task &t)
{
    shared_memory shared;
    tiles x;
    x.q = shared.take<float>(t.queries * (t.d + 1));
    x.g = shared.take<float>(t.queries * (t.dv_size + 1));
    x.k = shared.take<float>(t.keys * (t.d + 1));
    x.v = shared.take<float>(t.keys * (t.dv_size + 1));
    x.p = shared.take<float>(t.queries * (t.keys + 1));
    x.e = shared.take<float>(t.queries * (t.keys + 1));
    x.lse = shared.take<float>(t.queries);
    x.delta = shared.take<float>(t.queries);
    x.q_document = shared.take<int>(t.queries);
    x.k_document = shared.take<int>(t.keys);
    return x;
}

size_t shared_bytes(const attention_task &t)
{
    size_t f = sizeof(float), queries = (size_t)t.queries, keys = (size_t)t.keys;
    return shared_bytes_of(queries * ((size_t)t.d + 1), f) + shared_bytes_of(queries * ((size_t)t.dv_size + 1), f) +
           shared_bytes_of(keys * ((size_t)t.d + 1), f) + shared_bytes_of(keys * ((size_t)t.dv_size + 1), f) +
           2 * shared_bytes_of(queries * (keys + 1), f) + 3 * shared_bytes_of(queries, f) + shared_bytes_of(keys, f);
}

__device__ inline void load_queries(const attention_task &t, const tiles &x, int64_t batch, int64_t head, int64_t first)
{
    load_rows(x.q, t.d + 1, t.q, batch, head, first, t.queries, t.t, t.d);
    load_rows(x.g, t.dv_size + 1, t.g, batch, head, first, t.queries, t.t, t.dv_size);
    for (int i = (int)threadIdx.x; i < t.queries; i += ATTENTION_THREADS) {
        int64_t row = (batch * t.h + head) * t.t + first + i;
        bool there = first + i < t.t;
        x.lse[i] = there ? get(t.lse, row) : -INFINITY;
        x.delta[i] = there ? t.delta[row] : 0.0f;
        x.q_document[i] = t.offsets ? document_of(t, first + i) : 0;
    }
}

__device__ inline void load_keys(const attention_task &t, const tiles &x, int64_t batch, int64_t kv, int64_t key)
{
    load_rows(x.k, t.d + 1, t.k, batch, kv, key, t.keys, t.s, t.d);
    load_rows(x.v, t.dv_size + 1, t.v, batch, kv, key, t.keys, t.s, t.dv_size);
    for (int j = (int)threadIdx.x; j < t.keys; j += ATTENTION_THREADS)
        x.k_document[j] = t.offsets ? document_of(t, key + j) : 0;
}

/* p and e of the tile; 0 where a query does not see a key. */
__device__ inline void make_slopes(const attention_task &t, const tiles &x, int64_t batch, int64_t head, int64_t first,
                                   int64_t key)
{
    for (int n = (int)threadIdx.x; n < t.queries * t.keys; n += ATTENTION_THREADS) {
        int i = n / t.keys, j = n - i * t.keys;
        float p = 0, e = 0;
        bool seen = first + i < t.t && key + j < t.s && x.lse[i] != -INFINITY &&
                    sees(t, first + i, key + j, x.q_document[i], x.k_document[j]);
        if (seen) {
            float s = t.scale * dot(x.q + i * (t.d + 1), x.k + j * (t.d + 1), t.d);
            if (t.mask.data) s += mask_at(t, batch, head, first + i, key + j);
            p = expf(s - x.lse[i]);
            e = p * (dot(x.g + i * (t.dv_size + 1), x.v + j * (t.dv_size + 1), t.dv_size) - x.delta[i]);
        }
        x.p[i * (t.keys + 1) + j] = p;
        x.e[i * (t.keys + 1) + j] = e;
    }
}

__global__ void __launch_bounds__(ATTENTION_THREADS, ATTENTION_BLOCKS) query_gradient_kernel(const attention_task t)
{
    tiles x = take_tiles(t);
    int64_t batch = blockIdx.y / (unsigned)t.h, head = blockIdx.y % (unsigned)t.h, kv = head / (t.h / t.hkv);
    int64_t first = (int64_t)blockIdx.x * t.queries, end = first + t.queries < t.t ? first + t.queries : t.t;
    int me = (int)threadIdx.x;
    float dq[ATTENTION_SUMS];
#pragma unroll
    for (int n = 0; n < ATTENTION_SUMS; n++) dq[n] = 0;
    load_queries(t, x, batch, head, first);
    for (int64_t key = first_key(t, first), last = end_key(t, end); key < last; key += t.keys) {
        __syncthreads();
        load_keys(t, x, batch, kv, key);
        __syncthreads();
        make_slopes(t, x, batch, head, first, key);
        __syncthreads();
#pragma unroll
        for (int n = 0; n < ATTENTION_SUMS; n++) {
            int e = me + n * ATTENTION_THREADS, i = e / t.d, c = e - i * t.d;
            for (int j = 0; i < t.queries && j < t.keys; j++)
                dq[n] += x.e[i * (t.keys + 1) + j] * x.k[j * (t.d + 1) + c];
        }
    }
#pragma unroll
    for (int n = 0; n < ATTENTION_SUMS; n++) {
        int e = me + n * ATTENTION_THREADS, i = e / t.d, c = e - i * t.d;
        if (i < t.queries && first + i < t.t)
            put(t.dq.at, head_row(t.dq, batch, first + i, head) + c * t.dq.stride[3], t.scale * dq[n]);
    }
}

/* The first tile of queries that can see key `key`, and the end of those that can see one before `end`. */
__device__ inline int64_t first_query(const attention_task &t, int64_t key)
{
    int64_t query = t.causal ? key - (t.s - t.t) : 0;
    return query < 0 ? 0 : query / t.queries * t.queries;
}

__device__ inline int64_t end_query(const attention_task &t, int64_t end)
{
    int64_t query = t.window > 0 ? end - 1 - (t.s - t.t) + t.window : t.t;
    return query < 0 ? 0 : query > t.t ? t.t : query;
}

__global__ void __launch_bounds__(ATTENTION_THREADS, ATTENTION_BLOCKS) key_gradient_kernel(const attention_task t)
{
    tiles x = take_tiles(t);
    int64_t batch = blockIdx.y / (unsigned)t.hkv, kv = blockIdx.y % (unsigned)t.hkv, group = t.h / t.hkv;
    int64_t key = (int64_t)blockIdx.x * t.keys, end = key + t.keys < t.s ? key + t.keys : t.s;
    int me = (int)threadIdx.x;
    float dk[ATTENTION_SUMS], dv[ATTENTION_SUMS];
#pragma unroll
    for (int n = 0; n < ATTENTION_SUMS; n++) dk[n] = dv[n] = 0;
    load_keys(t, x, batch, kv, key);
    for (int64_t head = kv * group; head < (kv + 1) * group; head++)
        for (int64_t first = first_query(t, key), last = end_query(t, end); first < last; first += t.queries) {
            __syncthreads();
            load_queries(t, x, batch, head, first);
            __syncthreads();
            make_slopes(t, x, batch, head, first, key);
            __syncthreads();
#pragma unroll
            for (int n = 0; n < ATTENTION_SUMS; n++) {
                int e = me + n * ATTENTION_THREADS, j = e / t.d, c = e - j * t.d;
                for (int i = 0; j < t.keys && i < t.queries; i++)
                    dk[n] += x.e[i * (t.keys + 1) + j] * x.q[i * (t.d + 1) + c];
                j = e / t.dv_size, c = e - j * t.dv_size;
                for (int i = 0; j < t.keys && i < t.queries; i++)
                    dv[n] += x.p[i * (t.keys + 1) + j] * x.g[i * (t.dv_size + 1) + c];
            }
        }
#pragma unroll
    for (int n = 0; n < ATTENTION_SUMS; n++) {
        int e = me + n * ATTENTION_THREADS, j = e / t.d, c = e - j * t.d;
        if (t.dk.at.data && j < t.keys && key + j < t.s)
            put(t.dk.at, head_row(t.dk, batch, key + j, kv) + c * t.dk.stride[3], t.scale * dk[n]);
        j = e / t.dv_size, c = e - j * t.dv_size;
        if (t.dv.at.data && j < t.keys && key + j < t.s)
            put(t.dv.at, head_row(t.dv, batch, key + j, kv) + c * t.dv.stride[3], dv[n]);
    }
}

/* One block an element of the mask: the sum of e over what it is repeated for. Masks that are trained are small. */
__global__ void __launch_bounds__(ATTENTION_THREADS) mask_gradient_kernel(const attention_task t)
{
    shared_memory shared;
    float *parts = shared.take<float>(ATTENTION_THREADS / WARP);
    int64_t at[4], full[4] = {t.b, t.h, t.t, t.s}, index = blockIdx.x, count = 1, times[4];
    for (int a = 3; a >= 0; a--) {
        at[a] = index % t.mask_dim[a];
        index /= t.mask_dim[a];
        times[a] = t.mask_dim[a] == 1 ? full[a] : 1;
        count *= times[a];
    }
    float sum = 0;
    for (int64_t n = threadIdx.x; n < count; n += ATTENTION_THREADS) {
        int64_t left = n, place[4];
        for (int a = 3; a >= 0; a--) {
            place[a] = at[a] + left % times[a];
            left /= times[a];
        }
        int64_t batch = place[0], head = place[1], i = place[2], j = place[3], kv = head / (t.h / t.hkv);
        int64_t row = (batch * t.h + head) * t.t + i;
        float lse = get(t.lse, row), s = 0, along = 0;
        bool same = !t.offsets || document_of(t, i) == document_of(t, j);
        if (lse == -INFINITY || !same || !sees(t, i, j, 0, 0)) continue;
        for (int c = 0; c < t.d; c++)
            s += get(t.q.at, head_row(t.q, batch, i, head) + c * t.q.stride[3]) *
                 get(t.k.at, head_row(t.k, batch, j, kv) + c * t.k.stride[3]);
        for (int c = 0; c < t.dv_size; c++)
            along += get(t.g.at, head_row(t.g, batch, i, head) + c * t.g.stride[3]) *
                     get(t.v.at, head_row(t.v, batch, j, kv) + c * t.v.stride[3]);
        sum += expf(t.scale * s + mask_at(t, batch, head, i, j) - lse) * (along - t.delta[row]);
    }
    sum = block_sum(sum, parts);
    if (threadIdx.x == 0) put(t.dmask, blockIdx.x, sum);
}

/* ---- on the host ---- */

/* Tiles of 16 or 8 rows both ways; 0 where none fit. */
void choose_tiles(attention_task *t)
{
    int32_t widest = t->d > t->dv_size ? t->d : t->dv_size;
    for (t->keys = 16; t->keys >= 4; t->keys /= 2) {
        t->queries = t->keys;
        if (t->keys * widest <= ATTENTION_SUMS * ATTENTION_THREADS && shared_bytes(*t) <= 48 * 1024) return;
    }
    t->keys = 0;
}

grd_status prepare(grdi_call *call, grd_error *error)
{
    return grdi_attention_prepare(call, error, true);
}

grd_status bind(grdi_call *call, grd_error *error)
{
    (void)error;
    return grdi_attention_bind(call, true);
}

/* delta, dq, dk and dv on plain cores. */
grd_status run_plain(const grdi_call *call, attention_task t)
{
    choose_tiles(&t);
    size_t shared = shared_bytes(t);
    grd_status status = grdi_attention_delta(call, t);
    if (!status && t.dq.at.data)
        status = grdi_launch(call, query_gradient_kernel, dim3(blocks_for(t.t, t.queries), (unsigned)(t.b * t.h)),
                             ATTENTION_THREADS, shared, t);
    if (!status && (t.dk.at.data || t.dv.at.data))
        status = grdi_launch(call, key_gradient_kernel, dim3(blocks_for(t.s, t.keys), (unsigned)(t.b * t.hkv)),
                             ATTENTION_THREADS, shared, t);
    return status;
}

grd_status run(grdi_call *call)
{
    attention_task t = grdi_attention_task(call, Q, INPUTS);
    t.g = heads_of(call->in[G]), t.out = heads_of(call->in[OUT]);
    t.lse = cells_of(call->in[LSE]);
    t.dq = heads_of(call->out[0]), t.dk = heads_of(call->out[1]), t.dv = heads_of(call->out[2]);
    t.dmask = cells_of(call->out[3]);
    t.delta = (float *)call->scratch;
    grd_status status =
        grdi_attention_by_library(call) ? grdi_attention_run_library(call) : grdi_attention_backward_own(call, t);
    if (!status && !t.mask.data && t.dmask.data) /* there is nothing that it could be the gradient of */
        status = grdi_cuda_clear(call, t.dmask.data, grd_dtype_size(call->out[3].dtype));
    if (!status && t.mask.data && t.dmask.data)
        status = grdi_launch(call, mask_gradient_kernel,
                             (unsigned)(t.mask_dim[0] * t.mask_dim[1] * t.mask_dim[2] * t.mask_dim[3]),
                             ATTENTION_THREADS, shared_bytes_of(ATTENTION_THREADS / WARP, sizeof(float)), t);
    return status;
}

bool supports(const grdi_call *call)
{
    for (int32_t i = 0; i < call->input_count; i++)
        if (!is_value(call->in[i].dtype) && !(i >= INPUTS && call->in[i].dtype == GRD_I32)) return false;
    for (int32_t o = 0; o < call->output_count; o++)
        if (!is_value(call->out[o].dtype)) return false;
    attention_task t = grdi_attention_task(call, Q, INPUTS);
    choose_tiles(&t);
    return t.keys > 0 && t.b * t.h <= 65535;
}

/* Of the plugin's own kernels: g is read for delta as well, which is written and read. */
double bytes(const grdi_call *call)
{
    double delta = (double)grd_dims_count(call->in[LSE].dims) * sizeof(float);
    double g = (double)grd_dims_count(call->in[G].dims) * (double)grd_dtype_size(call->in[G].dtype);
    return grdi_cuda_bytes(call) + g + 2 * delta;
}

const grdi_kernel kernel = {.op = "attention_backward",
                            .strided_in = 31,
                            .rows_in = 31,
                            .strided_out = 7,
                            .supports = supports,
                            .prepare = prepare,
                            .bind = bind,
                            .run = run,
                            .release = grdi_attention_release,
                            .rate_part_of = grdi_attention_part,
                            .bytes_of = bytes};

template <int LANES> grd_status launch_delta(const grdi_call *call, const attention_task &t, int64_t count)
{
    return grdi_launch(call, delta_kernel<LANES>, blocks_for(count, ATTENTION_THREADS / LANES * DELTA_ROWS),
                       ATTENTION_THREADS, 0, t);
}

bool has_wide_rows(const heads_view &x, int32_t width)
{
    if (x.stride[3] != 1 || width % WIDE) return false;
    for (int d = 0; d < 3; d++)
        if (!lies_wide(x.at, x.stride[d])) return false;
    return true;
}

} // namespace

grd_status grdi_attention_delta(const grdi_call *call, const attention_task &t)
{
    int64_t count = (int64_t)t.b * t.h * t.t;
    bool wide = has_wide_rows(t.g, t.dv_size) && has_wide_rows(t.out, t.dv_size) && t.dv_size <= WARP * WIDE;
    if (!wide || count > INT32_MAX / 2)
        return grdi_launch(call, delta_rows_kernel, blocks_for(count, ATTENTION_THREADS / WARP), ATTENTION_THREADS, 0,
                           t);
    return t.dv_size <= 8 * WIDE    ? launch_delta<8>(call, t, count)
           : t.dv_size <= 16 * WIDE ? launch_delta<16>(call, t, count)
                                    : launch_delta<WARP>(call, t, count);
}

grd_status grdi_attention_backward_own(const grdi_call *call, attention_task t)
{
    return grdi_flash_takes(t) ? grdi_flash_backward(call, t) : run_plain(call, t);
}

GRDI_CUDA_TABLE(attention_backward, &kernel)
