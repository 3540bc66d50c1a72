/* gemm_pack.h - copies operands of matrix products to where tiles read them fastest: panels of `full` lanes (rows of A
 * or columns of B), panel[k * full + lane]; lanes beyond the matrix are zero. Sources are f32 or bf16; an element of a
 * panel is f32, or a pair of bf16 that are neighbours in k (the first one in the low half; f32 is rounded, a missing
 * second one is zero). */
#ifndef GRDI_GEMM_PACK_H
#define GRDI_GEMM_PACK_H

#include "backend/cpu/kernels/gemm_tile.h"
#include "base/convert.h"

typedef float grdi_v4 __attribute__((vector_size(16)));
typedef float grdi_v4_any __attribute__((vector_size(16), aligned(4), may_alias));
typedef uint32_t grdi_v4u __attribute__((vector_size(16)));
typedef uint16_t grdi_v4h_any __attribute__((vector_size(8), aligned(2), may_alias));

/* ---- elements of either type; `half`: bf16 ---- */

GEMM_INLINE const void *gemm_at(const void *from, int64_t index, const bool half)
{
    return half ? (const void *)((const uint16_t *)from + index) : (const void *)((const float *)from + index);
}
GEMM_INLINE grdi_vf gemm_load(const void *from, int64_t index, const bool half)
{
    const void *p = gemm_at(from, index, half);
    return half ? grdi_load_bf16(p) : grdi_load(p);
}
GEMM_INLINE grdi_v4 gemm_load4(const void *from, int64_t index, const bool half)
{
    const void *p = gemm_at(from, index, half);
    return half ? (grdi_v4)(__builtin_convertvector(*(const grdi_v4h_any *)p, grdi_v4u) << 16)
                : (grdi_v4) * (const grdi_v4_any *)p;
}
GEMM_INLINE float gemm_load1(const void *from, int64_t index, const bool half)
{
    const void *p = gemm_at(from, index, half);
    return half ? grdi_bf16_to_f32(*(const uint16_t *)p) : *(const float *)p;
}

/* ---- pairs ---- */

/* Rounded to bf16: in the upper halves. */
GEMM_INLINE grdi_v4u gemm_round4(grdi_v4 x)
{
    grdi_v4u bits = (grdi_v4u)x, rounded = bits + 0x7FFFu + (bits >> 16 & 1u), nan = (grdi_v4u)(x != x);
    return ((rounded & ~nan) | ((bits | 0x400000u) & nan)) & 0xFFFF0000u;
}

/* What the elements of a panel are made of. */
typedef struct gemm_source {
    bool half;  /* bf16 */
    bool pairs; /* and come in pairs */
} gemm_source;

GEMM_INLINE uint32_t gemm_bits1(const void *from, int64_t index, const bool half)
{
    return half ? ((const uint16_t *)from)[index] : grdi_f32_to_bf16(((const float *)from)[index]);
}
/* An element from those at `first` and, if it is there, `second`. */
GEMM_INLINE float gemm_element(const void *from, int64_t first, int64_t second, const bool both, const gemm_source s)
{
    if (!s.pairs) return gemm_load1(from, first, s.half);
    return grdi_bits_to_f32(gemm_bits1(from, first, s.half) | (both ? gemm_bits1(from, second, s.half) << 16 : 0));
}
/* GRDI_LANES elements whose sources lie one behind the other from `index` on. */
GEMM_INLINE grdi_vf gemm_elements(const void *from, int64_t index, const gemm_source s)
{
    if (!s.pairs) return gemm_load(from, index, s.half);
    grdi_vf pairs;
    if (s.half) {
        memcpy(&pairs, (const uint16_t *)from + index, sizeof pairs);
        return pairs;
    }
#if GRDI_PAIRS
    return (grdi_vf)_mm512_cvtne2ps_pbh((__m512)gemm_load(from, index + GRDI_LANES, false),
                                        (__m512)gemm_load(from, index, false));
#else
    uint16_t halves[2 * GRDI_LANES];
    grdi_store_bf16(halves, gemm_load(from, index, false));
    grdi_store_bf16(halves + GRDI_LANES, gemm_load(from, index + GRDI_LANES, false));
    memcpy(&pairs, halves, sizeof pairs);
    return pairs;
#endif
}

/* ---- lanes lie together ---- */

/* `at` and `next`: lanes of k and of the one behind it (of pairs, if there is one). */
GEMM_INLINE void gemm_copy_lanes(const void *from, int64_t at, int64_t next, const bool both, float *to,
                                 const int count, const gemm_source s)
{
    int j = 0;
    GEMM_UNROLL
    for (; j + GRDI_LANES <= count; j += GRDI_LANES) {
        grdi_vf x = gemm_load(from, at + j, s.half);
        if (s.pairs) {
            grdi_vf y = both ? gemm_load(from, next + j, s.half) : (grdi_vf){0};
            x = (grdi_vf)(s.half ? (grdi_vu)x >> 16 | (grdi_vu)y : grdi_bf16_bits(x) | grdi_bf16_bits(y) << 16);
        }
        grdi_store(to + j, x);
    }
#if defined(GRDI_ISA_avx512)
    if (j < count && !s.half && !s.pairs) {
        const __mmask16 rest = (__mmask16)((1u << (count - j)) - 1);
        _mm512_mask_storeu_ps(to + j, rest, _mm512_maskz_loadu_ps(rest, gemm_at(from, at + j, false)));
        return;
    }
#endif
    GEMM_UNROLL
    for (; j + 4 <= count; j += 4) {
        grdi_v4 x = gemm_load4(from, at + j, s.half);
        if (s.pairs) {
            grdi_v4 y = both ? gemm_load4(from, next + j, s.half) : (grdi_v4){0};
            x = (grdi_v4)(s.half ? (grdi_v4u)x >> 16 | (grdi_v4u)y : gemm_round4(x) >> 16 | gemm_round4(y));
        }
        *(grdi_v4_any *)(to + j) = x;
    }
    GEMM_UNROLL
    for (; j < count; j++) to[j] = gemm_element(from, at + j, next + j, both, s);
}

enum { GEMM_PACK_PANELS = 8 };

/* Rows of k, `count` panels of each. */
GEMM_INLINE void gemm_pack_lanes_of(const void *from, int64_t k_step, const int count, int64_t k, int64_t sources,
                                    float *to, const int full, const gemm_source s)
{
    const int bytes = count * full * (s.half ? 2 : 4);
    const int64_t row = k_step * (s.half ? 2 : 4);
    int64_t line = 0;
    for (int64_t p = 0; p < k; p++, line += s.pairs ? 2 * k_step : k_step) {
        const char *ahead = gemm_at(from, line + 8 * k_step, s.half);
        for (int byte = 0; byte < bytes; byte += 64) {
            __builtin_prefetch(ahead + byte);
            if (s.pairs) __builtin_prefetch(ahead + row + byte);
        }
        for (int t = 0; t < count; t++) {
            float *lanes = to + t * k * full + p * full;
            __builtin_prefetch(lanes + 8 * full, 1);
            gemm_copy_lanes(from, line + t * full, line + k_step + t * full, 2 * p + 1 < sources, lanes, full, s);
        }
    }
}

/* Each row of k is visited once for up to eight panels, so that a page is. `sources`: rows of k that are there. */
GEMM_INLINE void gemm_pack_lanes(const void *from, int64_t k_step, int64_t panels, int64_t k, int64_t sources,
                                 float *to, const int full, const gemm_source s)
{
    int64_t t = 0;
    for (; t + GEMM_PACK_PANELS <= panels; t += GEMM_PACK_PANELS)
        gemm_pack_lanes_of(gemm_at(from, t * full, s.half), k_step, GEMM_PACK_PANELS, k, sources, to + t * k * full,
                           full, s);
    if (t < panels)
        gemm_pack_lanes_of(gemm_at(from, t * full, s.half), k_step, (int)(panels - t), k, sources, to + t * k * full,
                           full, s);
}

/* ---- k lies together ---- */

#if GRDI_LANES == 16
#define GEMM_LANE_MASK(a, b, c, d)                                                                                     \
    a, b, c, d, (a) + 4, (b) + 4, (c) + 4, (d) + 4, (a) + 8, (b) + 8, (c) + 8, (d) + 8, (a) + 12, (b) + 12, (c) + 12,  \
        (d) + 12
#elif GRDI_LANES == 8
#define GEMM_LANE_MASK(a, b, c, d) a, b, c, d, (a) + 4, (b) + 4, (c) + 4, (d) + 4
#else
#define GEMM_LANE_MASK(a, b, c, d) a, b, c, d
#endif

/* Four rows of GRDI_LANES k become columns: piece q (of 4 floats) of r[t] then holds k = 4 q + t of all four. */
GEMM_INLINE void gemm_transpose4(grdi_vf r[4])
{
    enum { N = GRDI_LANES };
#define GEMM_TURN(x, y, ...) GRDI_SHUFFLE(grdi_vi, x, y, __VA_ARGS__)
    grdi_vf a = GEMM_TURN(r[0], r[1], GEMM_LANE_MASK(0, N, 1, N + 1));
    grdi_vf b = GEMM_TURN(r[0], r[1], GEMM_LANE_MASK(2, N + 2, 3, N + 3));
    grdi_vf c = GEMM_TURN(r[2], r[3], GEMM_LANE_MASK(0, N, 1, N + 1));
    grdi_vf d = GEMM_TURN(r[2], r[3], GEMM_LANE_MASK(2, N + 2, 3, N + 3));
    r[0] = GEMM_TURN(a, c, GEMM_LANE_MASK(0, 1, N, N + 1)), r[1] = GEMM_TURN(a, c, GEMM_LANE_MASK(2, 3, N + 2, N + 3));
    r[2] = GEMM_TURN(b, d, GEMM_LANE_MASK(0, 1, N, N + 1)), r[3] = GEMM_TURN(b, d, GEMM_LANE_MASK(2, 3, N + 2, N + 3));
#undef GEMM_TURN
}

/* Piece q, a literal, of a register. */
#if defined(GRDI_ISA_avx512)
#define GEMM_PIECE(v, q) (grdi_v4) _mm512_extractf32x4_ps((__m512)(v), q)
#elif defined(GRDI_ISA_avx2)
#define GEMM_PIECE(v, q) (grdi_v4) _mm256_extractf128_ps((__m256)(v), q)
#else
#define GEMM_PIECE(v, q) (grdi_v4)(v)
#endif

/* Four lanes over k from p to `end`, a multiple of GRDI_LANES further. What is read after them, `next` elements further
 * on, is fetched meanwhile. */
GEMM_INLINE void gemm_pack_k4(const void *from, int64_t lane_step, int64_t p, int64_t end, int64_t next, float *to,
                              const int full, const gemm_source s)
{
    const int64_t each = s.pairs ? 2 : 1;
    for (; p < end; p += GRDI_LANES) {
        grdi_vf r[4];
        GEMM_UNROLL
        for (int t = 0; t < 4; t++) {
            r[t] = gemm_elements(from, t * lane_step + p * each, s);
            __builtin_prefetch(gemm_at(from, t * lane_step + p * each + next, s.half));
            if (s.pairs && !s.half)
                __builtin_prefetch(gemm_at(from, t * lane_step + p * each + next + GRDI_LANES, s.half));
        }
        gemm_transpose4(r);
        GEMM_UNROLL
        for (int t = 0; t < 4; t++) {
#define GEMM_STORE_PIECE(q) *(grdi_v4_any *)(to + (p + 4 * (q) + t) * full) = GEMM_PIECE(r[t], q)
            GEMM_STORE_PIECE(0);
#if GRDI_LANES >= 8
            GEMM_STORE_PIECE(1);
#endif
#if GRDI_LANES >= 16
            GEMM_STORE_PIECE(2);
            GEMM_STORE_PIECE(3);
#endif
#undef GEMM_STORE_PIECE
        }
    }
}

enum { GEMM_PACK_RUN = 128 };

/* One panel, four lanes at a time along a run of k: lanes may lie a power of two apart, where few of their lines have
 * room in the first-level cache together. `sources`: elements of k that are there. */
GEMM_INLINE void gemm_pack_k(const void *from, int64_t lane_step, int64_t k, int64_t sources, float *to, const int full,
                             const gemm_source s)
{
    const int64_t each = s.pairs ? 2 : 1, whole = sources / each / GRDI_LANES * GRDI_LANES;
    const int fours = full / 4 * 4;
    for (int64_t p = 0; p < whole; p += GEMM_PACK_RUN) {
        const int64_t end = gemm_least(p + GEMM_PACK_RUN, whole);
        const int64_t ahead = end < whole ? GEMM_PACK_RUN * each - (fours - 4) * lane_step
                                          : (full - fours + 4) * lane_step - p * each;
        for (int j = 0; j < fours; j += 4)
            gemm_pack_k4(gemm_at(from, j * lane_step, s.half), lane_step, p, end, j + 4 < fours ? 4 * lane_step : ahead,
                         to + j, full, s);
        for (int j = fours; j < full; j++)
            for (int64_t i = p; i < end; i++) {
                int64_t at = j * lane_step + i * each;
                to[i * full + j] = gemm_element(from, at, at + 1, true, s);
            }
    }
    for (int64_t p = whole; p < k; p++)
        for (int j = 0; j < full; j++) {
            int64_t at = j * lane_step + p * each;
            to[p * full + j] = gemm_element(from, at, at + 1, p * each + 1 < sources, s);
        }
}

/* ---- any strides ---- */

/* One panel of `width` <= full lanes. */
GEMM_INLINE void gemm_pack_any(const void *from, int64_t lane_step, int64_t k_step, int64_t width, int64_t k,
                               int64_t sources, float *to, const int full, const gemm_source s)
{
    const int64_t each = s.pairs ? 2 : 1;
    for (int64_t p = 0; p < k; p++) {
        int j = 0;
        for (; j < width; j++) {
            int64_t at = j * lane_step + p * each * k_step;
            to[p * full + j] = gemm_element(from, at, at + k_step, p * each + 1 < sources, s);
        }
        for (; j < full; j++) to[p * full + j] = 0;
    }
}

/* Packs `width` lanes into panels of `full`, one behind the other. */
GEMM_INLINE void gemm_pack_source(const void *from, int64_t lane_step, int64_t k_step, int64_t width, int64_t sources,
                                  float *to, const int full, const gemm_source s)
{
    int64_t panels = width / full, k = s.pairs ? (sources + 1) / 2 : sources;
    if (lane_step == 1) {
        gemm_pack_lanes(from, k_step, panels, k, sources, to, full, s);
    } else {
        for (int64_t t = 0; t < panels; t++) {
            const void *panel = gemm_at(from, t * full * lane_step, s.half);
            if (k_step == 1) gemm_pack_k(panel, lane_step, k, sources, to + t * full * k, full, s);
            else gemm_pack_any(panel, lane_step, k_step, full, k, sources, to + t * full * k, full, s);
        }
    }
    if (width % full)
        gemm_pack_any(gemm_at(from, panels * full * lane_step, s.half), lane_step, k_step, width % full, k, sources,
                      to + panels * full * k, full, s);
}

/* k elements of the source, of each lane; in pairs or as f32. */
GEMM_INLINE void gemm_pack(const void *from, grd_dtype type, int64_t lane_step, int64_t k_step, int64_t width,
                           int64_t k, float *to, const int full, bool pairs)
{
#define GEMM_PACK_CASE(half, pairs)                                                                                    \
    gemm_pack_source(from, lane_step, k_step, width, k, to, full, (gemm_source){half, pairs})
    if (type == GRD_F32 && pairs) GEMM_PACK_CASE(false, true);
    else if (type == GRD_F32) GEMM_PACK_CASE(false, false);
    else if (pairs) GEMM_PACK_CASE(true, true);
    else GEMM_PACK_CASE(true, false);
#undef GEMM_PACK_CASE
}

#endif
