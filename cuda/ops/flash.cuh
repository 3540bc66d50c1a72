/* flash.cuh - attention on tensor cores: tiles in shared memory, products of tiles, and which keys a query sees.
 *
 * A block of four warps has some rows of its own and goes over columns a tile at a time; rows are queries and columns
 * keys, or the other way round. A warp has 16 or 32 rows, whose sums stay in its registers. The tile to come is copied
 * while one is worked on. Rows lie in shared memory as 16-byte chunks whose places are exchanged so that eight rows of
 * a matrix lie in different banks. */
#ifndef GRDI_FLASH_CUH
#define GRDI_FLASH_CUH

#include "device/tensor.cuh"
#include "ops/attention.cuh"

enum { FLASH_WARPS = ATTENTION_THREADS / WARP, FLASH_WIDTH_MAX = 128 };
/* To a multiprocessor, at least: without it the compiler spills a few registers to make room for one more. */
enum { FLASH_BLOCKS = 2 };

constexpr float LOG2_E = 1.4426950408889634f, LN_2 = 0.6931471805599453f;

/* F16_: of f16 instead of bf16; WIDTH_: head size, rounded up; BLOCKS_: times 16 rows a warp; COLUMNS_: in a tile;
 * MASKED_: there is a mask to add; HELD_: how many of the two products that scores and their gradients are have their
 * left operand in registers. */
template <bool F16_, int WIDTH_, int BLOCKS_, int COLUMNS_, bool MASKED_ = false, int HELD_ = 0> struct flash_shape {
    static constexpr bool F16 = F16_;
    static constexpr int WIDTH = WIDTH_, BLOCKS = BLOCKS_, COLUMNS = COLUMNS_;
    static constexpr bool MASKED = MASKED_;
    static constexpr int HELD = HELD_;
    static constexpr int ROWS = FLASH_WARPS * 16 * BLOCKS;
    static constexpr size_t ROW_BYTES = WIDTH * sizeof(uint16_t);
};

/* Sums of a warp: [16-row block][8-column block][element of a lane]. */
template <int BLOCKS, int COLUMNS> struct flash_sums {
    float at[BLOCKS][COLUMNS / 8][4];
    __device__ __forceinline__ void clear()
    {
#pragma unroll
        for (int m = 0; m < BLOCKS; m++)
#pragma unroll
            for (int n = 0; n < COLUMNS / 8; n++)
#pragma unroll
                for (int e = 0; e < 4; e++) at[m][n][e] = 0;
    }
};

/* The warp's first row, counted from the block's; the row of a lane's elements in 16-row block m, upper or lower half;
 * the column of element e in 8-column block n. */
template <class S> __device__ __forceinline__ int row_of_warp()
{
    return warp_of_thread() * 16 * S::BLOCKS;
}
template <class S> __device__ __forceinline__ int row_of(int m, int half)
{
    return row_of_warp<S>() + 16 * m + 8 * half + lane_of_thread() / 4;
}
__device__ __forceinline__ int column_of(int n, int e)
{
    return 8 * n + lane_of_thread() % 4 * 2 + e % 2;
}

/* Where a chunk of 8 elements lies in a tile. */
template <int WIDTH> __device__ __forceinline__ int chunk_at(int row, int chunk)
{
    return row * WIDTH + (chunk ^ (WIDTH % 64 == 0 ? row & 7 : row >> 1 & 3)) * 8;
}

/* Asks for rows [first, first + ROWS) of a head; rows from `end` on and columns from `width` on become 0. */
template <int WIDTH, int ROWS>
__device__ __forceinline__ void copy_tile(uint16_t *tile, const heads_view &x, int batch, int head, int first, int end,
                                          int width)
{
    const uint16_t *from = (const uint16_t *)x.at.data + head_row(x, batch, 0, head);
#pragma unroll
    for (int e = 0; e < ROWS * WIDTH / 8 / ATTENTION_THREADS; e++) {
        int index = (int)threadIdx.x + e * ATTENTION_THREADS, row = index / (WIDTH / 8), chunk = index % (WIDTH / 8);
        bool there = first + row < end && chunk * 8 < width;
        copy_16(tile + chunk_at<WIDTH>(row, chunk), there ? from + (first + row) * x.stride[1] + chunk * 8 : from,
                there);
    }
}

/* Asks for a tile of keys and values, those from `key` on. */
template <class S>
__device__ __forceinline__ void copy_keys(const attention_task &t, uint16_t *k, uint16_t *v, int batch, int kv, int key)
{
    copy_tile<S::WIDTH, S::COLUMNS>(k, t.k, batch, kv, key, (int)t.s, t.d);
    copy_tile<S::WIDTH, S::COLUMNS>(v, t.v, batch, kv, key, (int)t.s, t.d);
    copies_commit();
}

/* The warp's rows of a tile, as a left operand: read again for each product, or held in registers. Reads of shared
 * memory, more than products, are what the kernels wait for. */
template <class S, bool HELD> struct flash_left {
    const uint16_t *tile;
    uint32_t at[HELD ? S::WIDTH / 16 : 1][S::BLOCKS][4];

    /* The block's tile must have been copied. */
    __device__ __forceinline__ void hold()
    {
#pragma unroll
        for (int k = 0; HELD && k < S::WIDTH / 16; k++) read(at[k], k);
    }
    __device__ __forceinline__ void take(uint32_t (&x)[S::BLOCKS][4], int k) const
    {
        if (!HELD) read(x, k);
#pragma unroll
        for (int m = 0; HELD && m < S::BLOCKS; m++)
#pragma unroll
            for (int r = 0; r < 4; r++) x[m][r] = at[k][m][r];
    }

  private:
    __device__ __forceinline__ void read(uint32_t (&x)[S::BLOCKS][4], int k) const
    {
        int lane = lane_of_thread(), row = row_of_warp<S>() + lane % 16;
#pragma unroll
        for (int m = 0; m < S::BLOCKS; m++)
            load_matrices(x[m], tile + chunk_at<S::WIDTH>(row + 16 * m, 2 * k + lane / 16));
    }
};

/* s += a b^T: the warp's rows of a with all rows of b. */
template <class S, bool HELD>
__device__ __forceinline__ void multiply_rows(flash_sums<S::BLOCKS, S::COLUMNS> &s, const flash_left<S, HELD> &a,
                                              const uint16_t *b)
{
    int lane = lane_of_thread();
#pragma unroll
    for (int k = 0; k < S::WIDTH / 16; k++) {
        uint32_t x[S::BLOCKS][4];
        a.take(x, k);
#pragma unroll
        for (int n = 0; n < S::COLUMNS / 16; n++) {
            uint32_t y[4];
            load_matrices(y, b + chunk_at<S::WIDTH>(16 * n + lane / 16 * 8 + lane % 8, 2 * k + lane / 8 % 2));
#pragma unroll
            for (int m = 0; m < S::BLOCKS; m++) {
                multiply<S::F16>(s.at[m][2 * n], x[m], y[0], y[1]);
                multiply<S::F16>(s.at[m][2 * n + 1], x[m], y[2], y[3]);
            }
        }
    }
}

/* out += p b: sums of a product, rounded, are the next one's left operand as they lie in registers. */
template <class S>
__device__ __forceinline__ void multiply_sums(flash_sums<S::BLOCKS, S::WIDTH> &out,
                                              const flash_sums<S::BLOCKS, S::COLUMNS> &p, const uint16_t *b)
{
    int lane = lane_of_thread();
#pragma unroll
    for (int k = 0; k < S::COLUMNS / 16; k++) {
        uint32_t x[S::BLOCKS][4];
#pragma unroll
        for (int m = 0; m < S::BLOCKS; m++)
#pragma unroll
            for (int r = 0; r < 4; r++) {
                const float *from = &p.at[m][2 * k + r / 2][r % 2 * 2];
                x[m][r] = rounded_pair<S::F16>(from[0], from[1]);
            }
#pragma unroll
        for (int n = 0; n < S::WIDTH / 16; n++) {
            uint32_t y[4];
            load_transposed(y, b + chunk_at<S::WIDTH>(16 * k + lane % 16, 2 * n + lane / 16));
#pragma unroll
            for (int m = 0; m < S::BLOCKS; m++) {
                multiply<S::F16>(out.at[m][2 * n], x[m], y[0], y[1]);
                multiply<S::F16>(out.at[m][2 * n + 1], x[m], y[2], y[3]);
            }
        }
    }
}

/* ---- what is seen ---- */

/* Tokens [first, end): what a query sees, but for the mask, and what sees a key, are such spans. Both ends grow with
 * the query or key, so that those of the first and last of a block bound what it has to look at. */
struct span {
    int first, end;
};

__device__ __forceinline__ int clamped(int64_t x, int64_t most)
{
    return x < 0 ? 0 : x > most ? (int)most : (int)x;
}

/* Narrows to the document of a token; offsets do not decrease. */
__device__ inline span within_document(const attention_task &t, int64_t token, span s)
{
    int64_t low = 0, high = t.offset_count; /* the first offset above the token */
    while (low < high) {
        int64_t middle = (low + high) / 2;
        if (t.offsets[middle] <= token) low = middle + 1;
        else high = middle;
    }
    int first = low > 0 ? clamped(t.offsets[low - 1], t.s) : 0;
    int end = low < t.offset_count ? clamped(t.offsets[low], t.s) : (int)t.s;
    return span{s.first > first ? s.first : first, s.end < end ? s.end : end};
}

__device__ inline span keys_of(const attention_task &t, int64_t query)
{
    int64_t last = query + (t.s - t.t);
    span s = {t.window > 0 ? clamped(last - t.window + 1, t.s) : 0, t.causal ? clamped(last + 1, t.s) : (int)t.s};
    return t.offsets ? within_document(t, query, s) : s;
}

__device__ inline span queries_of(const attention_task &t, int64_t key)
{
    int64_t same = key - (t.s - t.t);
    span s = {t.causal ? clamped(same, t.t) : 0, t.window > 0 ? clamped(same + t.window, t.t) : (int)t.t};
    return t.offsets ? within_document(t, key, s) : s;
}

/* What the block's rows see, in shared memory; those past its last row like that. */
template <class S> struct flash_sight {
    const span *of;

    __device__ __forceinline__ span upper() const
    {
        return of[row_of_warp<S>()];
    }
    __device__ __forceinline__ span lower() const
    {
        return of[row_of_warp<S>() + 16 * S::BLOCKS - 1];
    }
    /* Whether no row of the warp sees any of these columns. */
    __device__ __forceinline__ bool none(int first) const
    {
        return lower().end <= first || upper().first >= first + S::COLUMNS;
    }
    /* Scores of what is not seen become -infinity. */
    __device__ __forceinline__ void hide(flash_sums<S::BLOCKS, S::COLUMNS> &s, int first) const
    {
        if (lower().first <= first && upper().end >= first + S::COLUMNS) return;
#pragma unroll
        for (int m = 0; m < S::BLOCKS; m++)
#pragma unroll
            for (int h = 0; h < 2; h++) {
                span seen = of[row_of<S>(m, h)];
#pragma unroll
                for (int n = 0; n < S::COLUMNS / 8; n++)
#pragma unroll
                    for (int e = 2 * h; e < 2 * h + 2; e++) {
                        int column = first + column_of(n, e);
                        if (column < seen.first || column >= seen.end) s.at[m][n][e] = -INFINITY;
                    }
            }
    }
};

/* The score as a power of two, its mask added; rows and columns past the end have none. */
__device__ __forceinline__ float masked(const attention_task &t, float s, int batch, int head, int i, int j)
{
    float mask = i < t.t && j < t.s ? mask_at(t, batch, head, i, j) : 0.0f;
    return (s * t.scale + mask) * LOG2_E;
}

/* ---- results ---- */

/* The block's rows, times `scale`, to rows [first, end) of a head. */
template <class S>
__device__ __forceinline__ void put_rows(const heads_view &x, int batch, int head, int first, int end, int width,
                                         const flash_sums<S::BLOCKS, S::WIDTH> &sums, float scale)
{
#pragma unroll
    for (int m = 0; m < S::BLOCKS; m++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
            int row = first + row_of<S>(m, h);
            if (row >= end) continue;
            int64_t at = head_row(x, batch, row, head);
#pragma unroll
            for (int n = 0; n < S::WIDTH / 8; n++) {
                int column = column_of(n, 0);
                float low = scale * sums.at[m][n][2 * h], high = scale * sums.at[m][n][2 * h + 1];
                if (column >= width) continue;
                if (x.at.dtype != GRD_F32) {
                    *(uint32_t *)((uint16_t *)x.at.data + at + column) = rounded_pair<S::F16>(low, high);
                } else {
                    ((float *)x.at.data)[at + column] = low;
                    ((float *)x.at.data)[at + column + 1] = high;
                }
            }
        }
}

/* ---- on the host ---- */

/* Whether the tensor cores' kernels take the call: bf16 or f16 (results may be f32), heads of one size, a multiple of 8
 * up to 128, a positive scale, and rows that 16-byte loads can read. Everything else is for the plain kernels. */
bool grdi_flash_takes(const attention_task &t);

grd_status grdi_flash_forward(const grdi_call *call, attention_task t);
/* Makes delta, too. */
grd_status grdi_flash_backward(const grdi_call *call, attention_task t);

#endif
