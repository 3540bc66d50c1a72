/* gemm_pack.h - copies operands of bf16 products to where AMX's tiles read them: panels of 32 lanes (rows of A or
 * columns of B), for each 32 of k two blocks of 16 lanes, one behind the other. A block is 16 x 16 pairs of bf16 that
 * are neighbours in k, 1 KB: of A by lane, [lane][pair], of B by pair, [pair][lane]. What is beyond the matrix is zero.
 *
 * Either way of lying in memory gives rows of one of these two forms; the other one is its transpose. */
#ifndef GRDI_AMX_GEMM_PACK_H
#define GRDI_AMX_GEMM_PACK_H

#include "backend/cpu/amx/tiles.h"
#include "base/convert.h"

/* An operand: element (lane, k) is at lane * lane_step + k * k_step. */
typedef struct amx_source {
    const void *from;
    grd_dtype type;
    int64_t lane_step, k_step;
} amx_source;

GEMM_INLINE const void *amx_at(const amx_source *s, int64_t lane, int64_t k)
{
    return (const char *)s->from + (lane * s->lane_step + k * s->k_step) * (s->type == GRD_F32 ? 4 : 2);
}

/* The same operand from (lane, k) on. */
GEMM_INLINE amx_source amx_from(const amx_source *s, int64_t lane, int64_t k)
{
    return (amx_source){amx_at(s, lane, k), s->type, s->lane_step, s->k_step};
}

/* Equal parts of `count`, of at most `most`, multiples of `step`. */
GEMM_INLINE int64_t amx_part_of(int64_t count, int64_t most, int64_t step)
{
    int64_t parts = (count + most - 1) / most;
    return parts > 0 ? gemm_up((count + parts - 1) / parts, step) : step;
}

/* `lanes` lanes and `count` elements of each, to be packed later. */
static inline amx_ahead amx_ahead_of(const amx_source *s, int64_t lane, int64_t k, int64_t lanes, int64_t count)
{
    const int64_t size = s->type == GRD_F32 ? 4 : 2;
    if (lanes <= 0 || count <= 0) return (amx_ahead){.rows = 0};
    if (s->k_step == 1) return (amx_ahead){amx_at(s, lane, k), lanes, s->lane_step * size, (count * size + 63) / 64, 0};
    return (amx_ahead){amx_at(s, lane, k), count, s->k_step * size, (lanes * size + 63) / 64, 0};
}

GEMM_INLINE uint32_t amx_mask(int64_t count)
{
    return count <= 0 ? 0 : count >= 32 ? UINT32_MAX : (1u << count) - 1;
}

/* Two vectors of f32, rounded: `first` in the lower half. */
GEMM_INLINE __m512i amx_round(__m512 first, __m512 second)
{
    return (__m512i)_mm512_cvtne2ps_pbh(second, first);
}

/* `count` <= 32 elements one behind the other, as bf16. */
GEMM_INLINE __m512i amx_load(const void *from, const bool half, const bool whole, int64_t count)
{
    if (half) return whole ? _mm512_loadu_si512(from) : _mm512_maskz_loadu_epi16(amx_mask(count), from);
    if (whole) return amx_round(_mm512_loadu_ps(from), _mm512_loadu_ps((const float *)from + 16));
    return amx_round(_mm512_maskz_loadu_ps((__mmask16)amx_mask(count), from),
                     _mm512_maskz_loadu_ps((__mmask16)amx_mask(count - 16), (const float *)from + 16));
}

/* Pairs of the elements of two rows, 16 lanes of which `count` are there. */
GEMM_INLINE __m512i amx_zip(const void *first, const void *second, const bool half, const bool whole, int64_t count,
                            bool both)
{
    const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                                           21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    const __mmask16 lanes = (__mmask16)amx_mask(count), others = both ? lanes : 0;
    __m512i rows;
    if (half) {
        __m256i a = whole ? _mm256_loadu_si256(first) : _mm256_maskz_loadu_epi16(lanes, first);
        __m256i b = whole ? _mm256_loadu_si256(second) : _mm256_maskz_loadu_epi16(others, second);
        rows = _mm512_inserti64x4(_mm512_castsi256_si512(a), b, 1);
    } else {
        rows = whole ? amx_round(_mm512_loadu_ps(first), _mm512_loadu_ps(second))
                     : amx_round(_mm512_maskz_loadu_ps(lanes, first), _mm512_maskz_loadu_ps(others, second));
    }
    return _mm512_permutexvar_epi16(order, rows);
}

/* 16 x 16 elements of 32 bits. */
GEMM_INLINE void amx_transpose(__m512i r[AMX_SIDE])
{
    __m512i t[AMX_SIDE];
    GEMM_UNROLL
    for (int i = 0; i < 16; i += 2)
        t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]), t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    GEMM_UNROLL
    for (int i = 0; i < 16; i += 4) { /* r[i + c]: column c of each four, of rows i to i + 3 */
        r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]), r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]), r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    GEMM_UNROLL
    for (int c = 0; c < 4; c++) { /* rows 0 to 7 and 8 to 15, of fours 0 and 2, 1 and 3 */
        t[c] = _mm512_shuffle_i32x4(r[c], r[c + 4], 0x88), t[c + 4] = _mm512_shuffle_i32x4(r[c], r[c + 4], 0xdd);
        t[c + 8] = _mm512_shuffle_i32x4(r[c + 8], r[c + 12], 0x88);
        t[c + 12] = _mm512_shuffle_i32x4(r[c + 8], r[c + 12], 0xdd);
    }
    GEMM_UNROLL
    for (int c = 0; c < 4; c++) {
        r[c] = _mm512_shuffle_i32x4(t[c], t[c + 8], 0x88), r[c + 8] = _mm512_shuffle_i32x4(t[c], t[c + 8], 0xdd);
        r[c + 4] = _mm512_shuffle_i32x4(t[c + 4], t[c + 12], 0x88);
        r[c + 12] = _mm512_shuffle_i32x4(t[c + 4], t[c + 12], 0xdd);
    }
}

/* One block whose k lies together (`along`), lanes `step` bytes apart, or whose lanes do, with each k `step` bytes
 * behind the last. `whole`: all of its 16 lanes and 32 k are there. */
GEMM_INLINE void amx_pack_block(const char *from, int64_t step, int64_t lanes, int64_t count, char *to, const bool half,
                                const bool along, const bool by_pair, const bool whole)
{
    __m512i r[AMX_SIDE];
    GEMM_UNROLL
    for (int i = 0; i < AMX_SIDE; i++) {
        const bool there = whole || (along ? i < lanes : 2 * i < count);
        if (!there) r[i] = _mm512_setzero_si512();
        else if (along) r[i] = amx_load(from, half, whole, count);
        else r[i] = amx_zip(from, from + step, half, whole, lanes, 2 * i + 1 < count);
        from += along ? step : 2 * step;
    }
    if (along == by_pair) amx_transpose(r);
    GEMM_UNROLL
    for (int i = 0; i < AMX_SIDE; i++) _mm512_store_si512(to + i * 64, r[i]);
}

/* One block from anywhere. */
static inline void amx_pack_any(const amx_source *s, int64_t lane, int64_t k, int64_t lanes, int64_t count, char *to,
                                bool by_pair)
{
    uint16_t(*block)[AMX_STEP] = (uint16_t(*)[AMX_STEP])to;
    memset(to, 0, AMX_BLOCK_BYTES);
    for (int64_t i = 0; i < lanes; i++)
        for (int64_t p = 0; p < count; p++) {
            const void *at = amx_at(s, lane + i, k + p);
            uint16_t value = s->type == GRD_F32 ? grdi_f32_to_bf16(*(const float *)at) : *(const uint16_t *)at;
            if (by_pair) block[p / 2][2 * i + p % 2] = value;
            else block[i][p] = value;
        }
}

GEMM_INLINE void amx_pack_blocks(const amx_source *s, int64_t lanes, int64_t k, char *to, const bool half,
                                 const bool along, const bool by_pair)
{
    const int64_t size = half ? 2 : 4, step = (along ? s->lane_step : s->k_step) * size;
    for (int64_t p = 0; p < k; p += AMX_STEP)
        for (int64_t lane = 0; lane < AMX_PANEL; lane += AMX_SIDE, to += AMX_BLOCK_BYTES) {
            const char *from = (const char *)s->from + (along ? lane * step + p * size : p * step + lane * size);
            int64_t some = gemm_least(lanes - lane, AMX_SIDE), count = gemm_least(k - p, AMX_STEP);
            if (some == AMX_SIDE && count == AMX_STEP)
                amx_pack_block(from, step, some, count, to, half, along, by_pair, true);
            else amx_pack_block(from, step, some, count, to, half, along, by_pair, false);
        }
}

/* One panel: up to 32 lanes, k elements of each. `by_pair`: as B has it. */
static inline void amx_pack(const amx_source *s, int64_t lanes, int64_t k, char *to, bool by_pair)
{
    const bool half = s->type == GRD_BF16, along = s->k_step == 1;
#define AMX_PACK_CASE(h, a, p)                                                                                         \
    if (half == (h) && along == (a) && by_pair == (p) && (along || s->lane_step == 1)) {                               \
        amx_pack_blocks(s, lanes, k, to, h, a, p);                                                                     \
        return;                                                                                                        \
    }
    AMX_PACK_CASE(true, true, true)
    AMX_PACK_CASE(true, true, false)
    AMX_PACK_CASE(true, false, true)
    AMX_PACK_CASE(true, false, false)
    AMX_PACK_CASE(false, true, true)
    AMX_PACK_CASE(false, true, false)
    AMX_PACK_CASE(false, false, true)
    AMX_PACK_CASE(false, false, false)
#undef AMX_PACK_CASE
    for (int64_t p = 0; p < k; p += AMX_STEP)
        for (int64_t lane = 0; lane < AMX_PANEL; lane += AMX_SIDE, to += AMX_BLOCK_BYTES)
            amx_pack_any(s, lane, p, gemm_least(lanes - lane, AMX_SIDE), gemm_least(k - p, AMX_STEP), to, by_pair);
}

#endif
