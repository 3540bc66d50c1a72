/* split.h - operands of f32 products for AMX's tiles, which multiply bf16 alone: x = high + middle + low, each of them
 * the nearest bf16 of what the ones before leave, and the last one exact (24 = 3 x 8 bits). Of the nine products of
 * such parts the six largest are summed; the others are less than 2^-26 of |a b|, where rounding to f32 is 2^-25.
 * Henry, Tang and Heinecke, "Leveraging the bfloat16 artificial intelligence datatype for higher-precision
 * computations", 2019.
 *
 * Tiles take subnormal numbers for zero, so factors below 2^-110 and products below 2^-102 count with fewer bits, never
 * off by more than 2^-125; products within a hundredth of the largest f32 may be infinite. A factor that is not finite,
 * or rounds to infinity, has no such sum: packing says that there is some.
 *
 * Panels are those of gemm_pack.h, with six blocks for each 32 of k: high of 16 lanes and of the next 16, then middle,
 * then low. */
#ifndef GRDI_AMX_SPLIT_H
#define GRDI_AMX_SPLIT_H

#include "backend/cpu/amx/gemm_pack.h"

enum { AMX_PARTS = 3, AMX_PART_BYTES = 2 * AMX_BLOCK_BYTES, AMX_SPLIT_BYTES = AMX_PARTS * AMX_PART_BYTES };

/* The parts, in the upper halves. `odd`: lanes that have none. */
GEMM_INLINE void amx_split(__m512 x, __m512i part[AMX_PARTS], __mmask16 *odd)
{
    const __m512i half = _mm512_set1_epi32(0x8000), upper = _mm512_set1_epi32((int)0xffff0000u);
    enum { NAN_OR_INFINITE = 0x99 };
    part[0] = _mm512_and_si512(_mm512_add_epi32((__m512i)x, half), upper);
    *odd |= _mm512_fpclass_ps_mask((__m512)part[0], NAN_OR_INFINITE);
    const __m512 rest = _mm512_sub_ps(x, (__m512)part[0]);
    part[1] = _mm512_and_si512(_mm512_add_epi32((__m512i)rest, half), upper);
    part[2] = (__m512i)_mm512_sub_ps(rest, (__m512)part[1]);
}

/* A row of a block of each part: pairs of x and y, or (not `pairs`) x and then y. */
GEMM_INLINE void amx_split_row(__m512 x, __m512 y, const bool pairs, char *to, __mmask16 *odd)
{
    const __m512i order = pairs ? _mm512_set_epi16(63, 31, 61, 29, 59, 27, 57, 25, 55, 23, 53, 21, 51, 19, 49, 17, 47,
                                                   15, 45, 13, 43, 11, 41, 9, 39, 7, 37, 5, 35, 3, 33, 1)
                                : _mm512_set_epi16(63, 61, 59, 57, 55, 53, 51, 49, 47, 45, 43, 41, 39, 37, 35, 33, 31,
                                                   29, 27, 25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1);
    __m512i of_x[AMX_PARTS], of_y[AMX_PARTS];
    amx_split(x, of_x, odd);
    amx_split(y, of_y, odd);
    GEMM_UNROLL
    for (int s = 0; s < AMX_PARTS; s++)
        _mm512_store_si512(to + s * AMX_PART_BYTES, _mm512_permutex2var_epi16(of_x[s], order, of_y[s]));
}

/* Rows of 16 f32, `step` bytes apart, of which `rows` and in each of them `count` are there. */
GEMM_INLINE void amx_split_load(const char *from, int64_t step, int64_t rows, int64_t count, const bool whole,
                                __m512i r[AMX_SIDE])
{
    const __mmask16 mask = (__mmask16)amx_mask(count);
    GEMM_UNROLL
    for (int i = 0; i < AMX_SIDE; i++, from += step)
        r[i] = whole ? _mm512_loadu_si512(from) : _mm512_maskz_loadu_epi32(i < rows ? mask : 0, from);
}

/* One block of each part. What amx_pack_block() says of it holds here. */
GEMM_INLINE void amx_split_block(const char *from, int64_t step, int64_t lanes, int64_t count, char *to,
                                 const bool along, const bool by_pair, const bool whole, __mmask16 *odd)
{
    __m512i r[2][AMX_SIDE]; /* by lane, 16 of k each; by k, 16 lanes each */
    GEMM_UNROLL
    for (int h = 0; h < 2; h++) {
        const int64_t some = count - h * AMX_SIDE;
        if (along) amx_split_load(from + h * 64, step, lanes, some, whole, r[h]);
        else amx_split_load(from + h * AMX_SIDE * step, step, some, lanes, whole, r[h]);
        if (along == by_pair) amx_transpose(r[h]);
        GEMM_UNROLL
        for (int i = 0; by_pair && i < AMX_SIDE; i += 2)
            amx_split_row((__m512)r[h][i], (__m512)r[h][i + 1], true, to + (h * AMX_SIDE + i) / 2 * 64, odd);
    }
    GEMM_UNROLL
    for (int i = 0; !by_pair && i < AMX_SIDE; i++)
        amx_split_row((__m512)r[0][i], (__m512)r[1][i], false, to + i * 64, odd);
}

/* One block of each part from anywhere. */
static inline void amx_split_any(const amx_source *s, int64_t lane, int64_t k, int64_t lanes, int64_t count, char *to,
                                 bool by_pair, __mmask16 *odd)
{
    _Alignas(64) float block[AMX_SIDE][AMX_STEP] = {{0}};
    for (int64_t i = 0; i < lanes; i++)
        for (int64_t p = 0; p < count; p++) block[i][p] = *(const float *)amx_at(s, lane + i, k + p);
    const char *from = (const char *)block;
    if (by_pair) amx_split_block(from, sizeof block[0], AMX_SIDE, AMX_STEP, to, true, true, true, odd);
    else amx_split_block(from, sizeof block[0], AMX_SIDE, AMX_STEP, to, true, false, true, odd);
}

GEMM_INLINE bool amx_split_blocks(const amx_source *s, int64_t lanes, int64_t k, char *to, const bool along,
                                  const bool by_pair)
{
    const int64_t step = (along ? s->lane_step : s->k_step) * 4;
    __mmask16 odd = 0;
    for (int64_t p = 0; p < k; p += AMX_STEP, to += AMX_SPLIT_BYTES)
        for (int64_t lane = 0; lane < AMX_PANEL; lane += AMX_SIDE) {
            char *block = to + (lane ? AMX_BLOCK_BYTES : 0);
            const char *from = (const char *)s->from + (along ? lane * step + p * 4 : p * step + lane * 4);
            int64_t some = gemm_least(lanes - lane, AMX_SIDE), count = gemm_least(k - p, AMX_STEP);
            if (some == AMX_SIDE && count == AMX_STEP)
                amx_split_block(from, step, some, count, block, along, by_pair, true, &odd);
            else amx_split_block(from, step, some, count, block, along, by_pair, false, &odd);
        }
    return odd;
}

/* One panel of f32: up to 32 lanes, k elements of each. `by_pair`: as B has it. Returns whether anything is odd. */
static inline bool amx_split_panel(const amx_source *s, int64_t lanes, int64_t k, char *to, bool by_pair)
{
    if (s->k_step == 1)
        return by_pair ? amx_split_blocks(s, lanes, k, to, true, true) : amx_split_blocks(s, lanes, k, to, true, false);
    if (s->lane_step == 1)
        return by_pair ? amx_split_blocks(s, lanes, k, to, false, true)
                       : amx_split_blocks(s, lanes, k, to, false, false);
    __mmask16 odd = 0;
    for (int64_t p = 0; p < k; p += AMX_STEP, to += AMX_SPLIT_BYTES)
        for (int64_t lane = 0; lane < AMX_PANEL; lane += AMX_SIDE)
            amx_split_any(s, lane, p, gemm_least(lanes - lane, AMX_SIDE), gemm_least(k - p, AMX_STEP),
                          to + (lane ? AMX_BLOCK_BYTES : 0), by_pair, &odd);
    return odd;
}

enum { AMX_SPLIT_FETCH = 12 /* lines a step, of each stream */ };

/* Products of two parts, of 32 rows and columns or of 16, and what is fetched meanwhile. */
GEMM_INLINE void amx_multiply_parts(amx_ahead *next, const int streams, const bool rows, const bool columns)
{
    _tile_dpbf16ps(0, 4, 6);
    if (columns) _tile_dpbf16ps(1, 4, 7);
    if (rows) _tile_dpbf16ps(2, 5, 6);
    if (rows && columns) _tile_dpbf16ps(3, 5, 7);
    GEMM_UNROLL
    for (int f = 0; f < AMX_SPLIT_FETCH / 6 * streams; f++) amx_fetch(&next[f % streams]);
}

GEMM_INLINE void amx_load_a(const char *a, int part, const bool rows)
{
    _tile_loadd(4, a + part * AMX_PART_BYTES, 64);
    if (rows) _tile_loadd(5, a + part * AMX_PART_BYTES + AMX_BLOCK_BYTES, 64);
}

GEMM_INLINE void amx_load_b(const char *b, int part, const bool columns)
{
    _tile_loadd(6, b + part * AMX_PART_BYTES, 64);
    if (columns) _tile_loadd(7, b + part * AMX_PART_BYTES + AMX_BLOCK_BYTES, 64);
}

/* sums [32, 32] = A B over `steps` of 32 k. From one product of parts to the next only one operand changes. */
GEMM_INLINE void amx_multiply_split_part(const char *a, const char *b, int64_t steps, float *sums, amx_ahead *next,
                                         const int streams, const bool rows, const bool columns)
{
    enum { HIGH, MIDDLE, LOW, ROW_BYTES = AMX_PANEL * sizeof(float) };
    grdi_look(a, 1, 0, steps * AMX_SPLIT_BYTES), grdi_look(b, 1, 0, steps * AMX_SPLIT_BYTES);
    /* What was written before must be in memory: gcc's loads of tiles do not ask for it. */
    __asm__ volatile("" ::: "memory");
    amx_zero_sums(rows, columns);
    for (int64_t s = 0; s < steps; s++, a += AMX_SPLIT_BYTES, b += AMX_SPLIT_BYTES) {
        amx_load_a(a, LOW, rows), amx_load_b(b, HIGH, columns);
        amx_multiply_parts(next, streams, rows, columns);
        amx_load_a(a, MIDDLE, rows);
        amx_multiply_parts(next, streams, rows, columns);
        amx_load_b(b, MIDDLE, columns);
        amx_multiply_parts(next, streams, rows, columns);
        amx_load_a(a, HIGH, rows);
        amx_multiply_parts(next, streams, rows, columns);
        amx_load_b(b, LOW, columns);
        amx_multiply_parts(next, streams, rows, columns);
        amx_load_b(b, HIGH, columns);
        amx_multiply_parts(next, streams, rows, columns);
    }
    amx_store_sums(sums, ROW_BYTES, rows, columns);
}

/* The same of `rows` <= 32 rows and `columns` <= 32 columns. */
GEMM_INLINE void amx_multiply_split(const char *a, const char *b, int64_t steps, float *sums, amx_ahead *next,
                                    const int streams, int64_t rows, int64_t columns)
{
    const bool tall = rows > AMX_SIDE, wide = columns > AMX_SIDE;
    if (tall && wide) amx_multiply_split_part(a, b, steps, sums, next, streams, true, true);
    else if (tall) amx_multiply_split_part(a, b, steps, sums, next, streams, true, false);
    else if (wide) amx_multiply_split_part(a, b, steps, sums, next, streams, false, true);
    else amx_multiply_split_part(a, b, steps, sums, next, streams, false, false);
}

#endif
