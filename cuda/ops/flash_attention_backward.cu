/* flash_attention_backward.cu - the gradients of attention on tensor cores. With p = exp(score - lse) and
 * e = p (g.v - delta), delta = g.out: dq = scale sum_j e k, dk = scale sum_i e q, dv = sum_i p g.
 *
 * A block has some queries, its rows, and makes dq, or some keys, and makes dk and dv over all queries of all heads
 * that share them. Scores are made twice (seven products of tiles instead of five); in return no two blocks add to one
 * place, memory is linear in length, and runs agree to the bit. Both kinds are blocks of one launch, those of a head
 * next to one another: what they read comes from memory once, and then from the cache (docs/cuda-bytes.md). */
#include "ops/flash.cuh"

namespace
{

/* lse in powers of two, so that p is 0 where a query sees nothing. */
__device__ __forceinline__ float power_of(float lse)
{
    return lse == -INFINITY ? INFINITY : lse * LOG2_E;
}

/* What p and e of an element are made of; `along`: g.v - delta. `lse` is in powers of two. */
struct slope {
    float p, e;
};

__device__ __forceinline__ slope slope_of(float score, float lse, float along)
{
    float p = power_of_two(score - lse);
    return slope{p, p * along};
}

/* dq of `block`, counted from the head's last. */
template <class S>
__device__ __forceinline__ void query_gradient(const attention_task &t, int batch, int head, int block)
{
    constexpr int TILE = S::COLUMNS * S::WIDTH;
    shared_memory shared;
    uint16_t *q = shared.take<uint16_t>(S::ROWS * S::WIDTH), *g = shared.take<uint16_t>(S::ROWS * S::WIDTH);
    uint16_t *k = shared.take<uint16_t>(2 * TILE), *v = shared.take<uint16_t>(2 * TILE);
    span *seen = shared.take<span>(S::ROWS);
    int kv = head / (t.h / t.hkv), blocks = ((int)t.t + S::ROWS - 1) / S::ROWS;
    /* Later queries see more keys: they begin first. */
    int first = (blocks - 1 - block) * S::ROWS, end = first + S::ROWS < t.t ? first + S::ROWS : (int)t.t;
    int key = keys_of(t, first).first / S::COLUMNS * S::COLUMNS, last = keys_of(t, end - 1).end;
    float factor = S::MASKED ? 1.0f : t.scale * LOG2_E;
    copy_tile<S::WIDTH, S::ROWS>(q, t.q, batch, head, first, end, t.d);
    copy_tile<S::WIDTH, S::ROWS>(g, t.g, batch, head, first, end, t.d);
    copy_keys<S>(t, k, v, batch, kv, key);
    float lse[S::BLOCKS][2], delta[S::BLOCKS][2];
    flash_sight<S> sight = {seen};
    flash_sums<S::BLOCKS, S::WIDTH> dq;
    dq.clear();
    int mine = first + (int)threadIdx.x;
    if ((int)threadIdx.x < S::ROWS) seen[threadIdx.x] = keys_of(t, mine < end ? mine : end - 1);
#pragma unroll
    for (int m = 0; m < S::BLOCKS; m++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
            int row = first + row_of<S>(m, h);
            int64_t at = ((int64_t)batch * t.h + head) * t.t + row;
            lse[m][h] = row < end ? power_of(get(t.lse, at)) : INFINITY;
            delta[m][h] = row < end ? t.delta[at] : 0.0f;
        }
    flash_left<S, (S::HELD > 0)> of_q = {q, {}};
    flash_left<S, (S::HELD > 1)> of_g = {g, {}};
    copies_wait<0>();
    __syncthreads();
    of_q.hold(), of_g.hold();
    for (int stage = 0; key < last; key += S::COLUMNS, stage ^= 1) {
        copies_wait<0>();
        __syncthreads();
        if (key + S::COLUMNS < last) {
            int next = (stage ^ 1) * TILE;
            copy_keys<S>(t, k + next, v + next, batch, kv, key + S::COLUMNS);
        }
        if (sight.none(key)) continue;
        flash_sums<S::BLOCKS, S::COLUMNS> s, along;
        s.clear();
        multiply_rows(s, of_q, k + stage * TILE);
        sight.hide(s, key); /* before the next product, so that powers are taken while that is made */
#pragma unroll
        for (int m = 0; m < S::BLOCKS; m++)
#pragma unroll
            for (int n = 0; n < S::COLUMNS / 8; n++)
#pragma unroll
                for (int e = 0; e < 4; e++) along.at[m][n][e] = -delta[m][e / 2];
        multiply_rows(along, of_g, v + stage * TILE);
#pragma unroll
        for (int m = 0; m < S::BLOCKS; m++)
#pragma unroll
            for (int n = 0; n < S::COLUMNS / 8; n++)
#pragma unroll
                for (int e = 0; e < 4; e++) {
                    float score = s.at[m][n][e] * factor;
                    if constexpr (S::MASKED)
                        score =
                            masked(t, s.at[m][n][e], batch, head, first + row_of<S>(m, e / 2), key + column_of(n, e));
                    s.at[m][n][e] = slope_of(score, lse[m][e / 2], along.at[m][n][e]).e;
                }
        multiply_sums<S>(dq, s, k + stage * TILE);
    }
    copies_wait<0>();
    if (t.dq.at.data) put_rows<S>(t.dq, batch, head, first, end, t.d, dq, t.scale);
}

/* Asks for a tile of queries and gradients; lse and delta of its queries are written at once. */
template <class S>
__device__ __forceinline__ void copy_queries(const attention_task &t, uint16_t *q, uint16_t *g, float *lse,
                                             float *delta, int batch, int head, int first)
{
    copy_tile<S::WIDTH, S::COLUMNS>(q, t.q, batch, head, first, (int)t.t, t.d);
    copy_tile<S::WIDTH, S::COLUMNS>(g, t.g, batch, head, first, (int)t.t, t.d);
    copies_commit();
    int i = (int)threadIdx.x;
    if (i >= S::COLUMNS) return;
    int64_t at = ((int64_t)batch * t.h + head) * t.t + first + i;
    lse[i] = first + i < t.t ? power_of(get(t.lse, at)) : INFINITY;
    delta[i] = first + i < t.t ? t.delta[at] : 0.0f;
}

/* dk and dv of `block`, counted from the first. */
template <class S> __device__ __forceinline__ void key_gradient(const attention_task &t, int batch, int kv, int block)
{
    constexpr int TILE = S::COLUMNS * S::WIDTH;
    shared_memory shared;
    uint16_t *k = shared.take<uint16_t>(S::ROWS * S::WIDTH), *v = shared.take<uint16_t>(S::ROWS * S::WIDTH);
    uint16_t *q = shared.take<uint16_t>(2 * TILE), *g = shared.take<uint16_t>(2 * TILE);
    float *lse = shared.take<float>(2 * S::COLUMNS), *delta = shared.take<float>(2 * S::COLUMNS);
    span *seen = shared.take<span>(S::ROWS);
    int group = t.h / t.hkv;
    int first = block * S::ROWS, end = first + S::ROWS < t.s ? first + S::ROWS : (int)t.s;
    int begin = queries_of(t, first).first / S::COLUMNS * S::COLUMNS, last = queries_of(t, end - 1).end;
    int head = kv * group;
    float factor = S::MASKED ? 1.0f : t.scale * LOG2_E;
    flash_sight<S> sight = {seen};
    flash_sums<S::BLOCKS, S::WIDTH> dk, dv;
    dk.clear();
    dv.clear();
    int mine = first + (int)threadIdx.x;
    if ((int)threadIdx.x < S::ROWS) seen[threadIdx.x] = queries_of(t, mine < end ? mine : end - 1);
    copy_tile<S::WIDTH, S::ROWS>(k, t.k, batch, kv, first, end, t.d);
    copy_tile<S::WIDTH, S::ROWS>(v, t.v, batch, kv, first, end, t.d);
    copy_queries<S>(t, q, g, lse, delta, batch, head, begin);
    flash_left<S, (S::HELD > 0)> of_k = {k, {}};
    flash_left<S, (S::HELD > 1)> of_v = {v, {}};
    copies_wait<0>();
    __syncthreads();
    of_k.hold(), of_v.hold();
    for (int stage = 0, query = begin; query < last; stage ^= 1) {
        int next = query + S::COLUMNS;
        int next_head = head;
        if (next >= last && head + 1 < (kv + 1) * group) next = begin, next_head = head + 1;
        copies_wait<0>();
        __syncthreads();
        if (next < last) {
            int other = stage ^ 1;
            copy_queries<S>(t, q + other * TILE, g + other * TILE, lse + other * S::COLUMNS, delta + other * S::COLUMNS,
                            batch, next_head, next);
        }
        if (!sight.none(query)) {
            const float *column_lse = lse + stage * S::COLUMNS, *column_delta = delta + stage * S::COLUMNS;
            flash_sums<S::BLOCKS, S::COLUMNS> p, e;
            p.clear();
            multiply_rows(p, of_k, q + stage * TILE);
            sight.hide(p, query);
#pragma unroll
            for (int m = 0; m < S::BLOCKS; m++)
#pragma unroll
                for (int n = 0; n < S::COLUMNS / 8; n++)
#pragma unroll
                    for (int c = 0; c < 4; c++) e.at[m][n][c] = -column_delta[column_of(n, c)];
            multiply_rows(e, of_v, g + stage * TILE);
#pragma unroll
            for (int m = 0; m < S::BLOCKS; m++)
#pragma unroll
                for (int n = 0; n < S::COLUMNS / 8; n++)
#pragma unroll
                    for (int c = 0; c < 4; c++) {
                        int column = column_of(n, c);
                        float score = p.at[m][n][c] * factor;
                        if constexpr (S::MASKED)
                            score = masked(t, p.at[m][n][c], batch, head, query + column, first + row_of<S>(m, c / 2));
                        slope made = slope_of(score, column_lse[column], e.at[m][n][c]);
                        p.at[m][n][c] = made.p, e.at[m][n][c] = made.e;
                    }
            multiply_sums<S>(dv, p, g + stage * TILE);
            multiply_sums<S>(dk, e, q + stage * TILE);
        }
        query = next, head = next_head;
    }
    copies_wait<0>();
    if (t.dk.at.data) put_rows<S>(t.dk, batch, kv, first, end, t.d, dk, t.scale);
    if (t.dv.at.data) put_rows<S>(t.dv, batch, kv, first, end, t.d, dv, 1.0f);
}

/* The shapes of the two kinds of blocks. */
template <class Q, class K> struct flash_shapes {
    using queries = Q;
    using keys = K;
};

/* Blocks of the grid's x: first those of the queries of all heads that share keys and values, then those of the keys.
 */
template <class S>
__global__ void __launch_bounds__(ATTENTION_THREADS, FLASH_BLOCKS) flash_gradient_kernel(const attention_task t)
{
    int batch = (int)blockIdx.y / t.hkv, kv = (int)blockIdx.y % t.hkv, group = t.h / t.hkv;
    int block = (int)blockIdx.x, each = t.query_blocks;
    if (block < each * group) query_gradient<typename S::queries>(t, batch, kv * group + block / each, block % each);
    else key_gradient<typename S::keys>(t, batch, kv, block - each * group);
}

template <class Q, class K> grd_status launch(const grdi_call *call, attention_task t)
{
    using shapes = flash_shapes<Q, K>;
    size_t for_queries = (2 * Q::ROWS + 4 * Q::COLUMNS) * Q::ROW_BYTES + Q::ROWS * sizeof(span);
    size_t for_keys = (2 * K::ROWS + 4 * K::COLUMNS) * K::ROW_BYTES + K::ROWS * sizeof(span) +
                      2 * shared_bytes_of(2 * K::COLUMNS, sizeof(float));
    size_t shared = for_queries > for_keys ? for_queries : for_keys;
    t.query_blocks = t.dq.at.data ? (int32_t)blocks_for(t.t, Q::ROWS) : 0;
    unsigned key_blocks = t.dk.at.data || t.dv.at.data ? blocks_for(t.s, K::ROWS) : 0;
    dim3 grid((unsigned)(t.query_blocks * (t.h / t.hkv)) + key_blocks, (unsigned)(t.b * t.hkv));
    if (grid.x == 0) return GRD_OK;
    grd_status status = grdi_allow_shared(call, flash_gradient_kernel<shapes>, shared);
    if (status) return status;
    return grdi_launch(call, flash_gradient_kernel<shapes>, grid, ATTENTION_THREADS, shared, t);
}

template <bool F16> grd_status backward_in(const grdi_call *call, const attention_task &t)
{
    using wide = flash_shape<F16, 128, 1, 16, true>;
    /* With a mask dq of narrow heads is made as that of wide ones: instances of their own spill (sm_80, sm_90a). */
    if (t.mask.data && t.d <= 64) return launch<wide, flash_shape<F16, 64, 1, 32, true>>(call, t);
    if (t.mask.data) return launch<wide, wide>(call, t);
    if (t.d <= 32) return launch<flash_shape<F16, 32, 2, 32, false, 2>, flash_shape<F16, 32, 2, 32, false, 2>>(call, t);
    if (t.d <= 64) return launch<flash_shape<F16, 64, 2, 32, false, 1>, flash_shape<F16, 64, 2, 32>>(call, t);
    if (t.d <= 96) return launch<flash_shape<F16, 96, 1, 32, false, 2>, flash_shape<F16, 96, 1, 32, false, 2>>(call, t);
    return launch<flash_shape<F16, 128, 1, 32, false, 1>, flash_shape<F16, 128, 1, 16, false, 1>>(call, t);
}

} // namespace

grd_status grdi_flash_backward(const grdi_call *call, attention_task t)
{
    grd_status status = grdi_attention_delta(call, t);
    if (status) return status;
    return t.q.at.dtype == GRD_F16 ? backward_in<true>(call, t) : backward_in<false>(call, t);
}
