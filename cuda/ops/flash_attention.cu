/* flash_attention.cu - attention on tensor cores, forward: a block has some queries of one head and goes over the keys
 * a tile at a time (Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018; Dao, "FlashAttention-2",
 * 2023). Maximum, sum and output of a query stay in registers in f32; probabilities are rounded to bf16 or f16. Sums
 * are made in the order of the keys, so that runs agree to the bit. */
#include "ops/flash.cuh"

namespace
{

/* The queries' running maxima (of scores that `factor` turns into powers of two) and the lane's part of their sums. */
template <class S> struct softmax_state {
    float most[S::BLOCKS][2], sum[S::BLOCKS][2];
};

/* Of the four lanes that share a row. */
__device__ __forceinline__ float row_max(float x)
{
    x = fmaxf(x, __shfl_xor_sync(0xFFFFFFFFu, x, 1));
    return fmaxf(x, __shfl_xor_sync(0xFFFFFFFFu, x, 2));
}
__device__ __forceinline__ float row_sum(float x)
{
    x += __shfl_xor_sync(0xFFFFFFFFu, x, 1);
    return x + __shfl_xor_sync(0xFFFFFFFFu, x, 2);
}

/* Scores become probabilities but for their sum; what was summed before is made less where the maximum grows. */
template <class S>
__device__ __forceinline__ void exponentiate(flash_sums<S::BLOCKS, S::COLUMNS> &s, softmax_state<S> &state,
                                             flash_sums<S::BLOCKS, S::WIDTH> &out, float factor)
{
#pragma unroll
    for (int m = 0; m < S::BLOCKS; m++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
            float most = state.most[m][h], total = 0;
#pragma unroll
            for (int n = 0; n < S::COLUMNS / 8; n++)
                most = fmaxf(most, fmaxf(s.at[m][n][2 * h], s.at[m][n][2 * h + 1]));
            most = row_max(most);
            float base = most == -INFINITY ? 0.0f : most * factor;
            float shrink = power_of_two(state.most[m][h] * factor - base);
#pragma unroll
            for (int n = 0; n < S::COLUMNS / 8; n++)
#pragma unroll
                for (int e = 2 * h; e < 2 * h + 2; e++) {
                    s.at[m][n][e] = power_of_two(s.at[m][n][e] * factor - base);
                    total += s.at[m][n][e];
                }
            state.sum[m][h] = state.sum[m][h] * shrink + total;
            state.most[m][h] = most;
#pragma unroll
            for (int n = 0; n < S::WIDTH / 8; n++) out.at[m][n][2 * h] *= shrink, out.at[m][n][2 * h + 1] *= shrink;
        }
}

template <class S>
__device__ inline void add_mask(flash_sums<S::BLOCKS, S::COLUMNS> &s, const attention_task &t, int batch, int head,
                                int first, int key)
{
#pragma unroll
    for (int m = 0; m < S::BLOCKS; m++)
#pragma unroll
        for (int n = 0; n < S::COLUMNS / 8; n++)
#pragma unroll
            for (int e = 0; e < 4; e++)
                s.at[m][n][e] =
                    masked(t, s.at[m][n][e], batch, head, first + row_of<S>(m, e / 2), key + column_of(n, e));
}

template <class S>
__global__ void __launch_bounds__(ATTENTION_THREADS, FLASH_BLOCKS) flash_kernel(const attention_task t)
{
    constexpr int TILE = S::COLUMNS * S::WIDTH;
    shared_memory shared;
    uint16_t *q = shared.take<uint16_t>(S::ROWS * S::WIDTH);
    uint16_t *k = shared.take<uint16_t>(2 * TILE), *v = shared.take<uint16_t>(2 * TILE);
    span *seen = shared.take<span>(S::ROWS);
    int batch = (int)blockIdx.y / t.h, head = (int)blockIdx.y % t.h, kv = head / (t.h / t.hkv);
    /* Later queries see more keys: they begin first. */
    int first = (int)(gridDim.x - 1 - blockIdx.x) * S::ROWS, end = first + S::ROWS < t.t ? first + S::ROWS : (int)t.t;
    int key = keys_of(t, first).first / S::COLUMNS * S::COLUMNS, last = keys_of(t, end - 1).end;
    float factor = S::MASKED ? 1.0f : t.scale * LOG2_E;
    flash_sums<S::BLOCKS, S::WIDTH> out;
    softmax_state<S> state;
    flash_sight<S> sight = {seen};
    out.clear();
    int mine = first + (int)threadIdx.x;
    if ((int)threadIdx.x < S::ROWS) seen[threadIdx.x] = keys_of(t, mine < end ? mine : end - 1);
#pragma unroll
    for (int m = 0; m < S::BLOCKS; m++)
#pragma unroll
        for (int h = 0; h < 2; h++) state.most[m][h] = -INFINITY, state.sum[m][h] = 0;
    copy_tile<S::WIDTH, S::ROWS>(q, t.q, batch, head, first, end, t.d);
    copy_keys<S>(t, k, v, batch, kv, key);
    for (int stage = 0; key < last; key += S::COLUMNS, stage ^= 1) {
        copies_wait<0>();
        __syncthreads(); /* this tile is there, the one before is done with */
        if (key + S::COLUMNS < last) {
            int next = (stage ^ 1) * TILE;
            copy_keys<S>(t, k + next, v + next, batch, kv, key + S::COLUMNS);
        }
        if (sight.none(key)) continue;
        flash_sums<S::BLOCKS, S::COLUMNS> s;
        s.clear();
        multiply_rows(s, flash_left<S, false>{q, {}}, k + stage * TILE);
        if constexpr (S::MASKED) add_mask<S>(s, t, batch, head, first, key);
        sight.hide(s, key);
        exponentiate<S>(s, state, out, factor);
        multiply_sums<S>(out, s, v + stage * TILE);
    }
    copies_wait<0>();
#pragma unroll
    for (int m = 0; m < S::BLOCKS; m++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
            float sum = row_sum(state.sum[m][h]), part = sum == 0 ? 0.0f : 1 / sum;
            int row = first + row_of<S>(m, h);
#pragma unroll
            for (int n = 0; n < S::WIDTH / 8; n++) out.at[m][n][2 * h] *= part, out.at[m][n][2 * h + 1] *= part;
            if (t.lse.data && row < end && lane_of_thread() % 4 == 0)
                put(t.lse, ((int64_t)batch * t.h + head) * t.t + row,
                    sum == 0 ? -INFINITY : state.most[m][h] * factor * LN_2 + logf(sum));
        }
    if (t.out.at.data) put_rows<S>(t.out, batch, head, first, end, t.d, out, 1.0f);
}

template <class S> grd_status launch(const grdi_call *call, const attention_task &t)
{
    size_t shared = (S::ROWS + 4 * S::COLUMNS) * S::ROW_BYTES + S::ROWS * sizeof(span);
    grd_status status = grdi_allow_shared(call, flash_kernel<S>, shared);
    if (status) return status;
    return grdi_launch(call, flash_kernel<S>, dim3(blocks_for(t.t, S::ROWS), (unsigned)(t.b * t.h)), ATTENTION_THREADS,
                       shared, t);
}

template <bool F16> grd_status forward_in(const grdi_call *call, const attention_task &t)
{
    if (t.mask.data && t.d <= 64) return launch<flash_shape<F16, 64, 1, 32, true>>(call, t);
    if (t.mask.data) return launch<flash_shape<F16, 128, 1, 32, true>>(call, t);
    if (t.d <= 32) return launch<flash_shape<F16, 32, 2, 64>>(call, t);
    if (t.d <= 64) return launch<flash_shape<F16, 64, 2, 64>>(call, t);
    if (t.d <= 96) return launch<flash_shape<F16, 96, 1, 64>>(call, t);
    return launch<flash_shape<F16, 128, 1, 32>>(call, t);
}

/* Rows that 16-byte loads can read, or pairs of elements that can be written. */
bool aligned(const heads_view &x)
{
    if (!x.at.data) return true;
    size_t element = x.at.dtype == GRD_F32 ? 4 : 2;
    bool whole = x.stride[3] == 1 && (uintptr_t)x.at.data % 16 == 0;
    for (int i = 0; i < 3; i++) whole &= x.stride[i] * element % 16 == 0;
    return whole;
}

} // namespace

bool grdi_flash_takes(const attention_task &t)
{
    int32_t dtype = t.q.at.dtype;
    bool narrow = (dtype == GRD_BF16 || dtype == GRD_F16) && t.k.at.dtype == dtype && t.v.at.dtype == dtype;
    bool fits =
        t.d == t.dv_size && t.d % 8 == 0 && t.d <= FLASH_WIDTH_MAX && t.scale > 0 && t.t < 1 << 30 && t.s < 1 << 30;
    const heads_view *all[] = {&t.q, &t.k, &t.v, &t.out, &t.g, &t.dq, &t.dk, &t.dv};
    for (const heads_view *x : all)
        fits = fits && aligned(*x) && (!x->at.data || x->at.dtype == dtype || x->at.dtype == GRD_F32);
    return narrow && fits && (!t.g.at.data || t.g.at.dtype == dtype);
}

grd_status grdi_flash_forward(const grdi_call *call, attention_task t)
{
    return t.q.at.dtype == GRD_F16 ? forward_in<true>(call, t) : forward_in<false>(call, t);
}
