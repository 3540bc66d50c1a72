/* gemm_pack.h - copies operands of matrix products to where tiles read them fastest: panels of `full` lanes (rows of A
 * or columns of B), panel[k * full + lane]; lanes beyond the matrix are zero. Sources are f32 or bf16, panels f32. */
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

/* ---- lanes lie together ---- */

GEMM_INLINE void gemm_copy_lanes(const void *from, int64_t at, float *to, const int count, const bool half)
{
    int j = 0;
    GEMM_UNROLL
    for (; j + GRDI_LANES <= count; j += GRDI_LANES)
        grdi_store(to + j, gemm_load(from, at + j, half));
    GEMM_UNROLL
    for (; j + 4 <= count; j += 4)
        *(grdi_v4_any *)(to + j) = gemm_load4(from, at + j, half);
    GEMM_UNROLL
    for (; j < count; j++)
        to[j] = gemm_load1(from, at + j, half);
}

/* Each row of k is visited once for up to eight panels, so that a page is. */
GEMM_INLINE void gemm_pack_lanes(const void *from, int64_t k_step, int64_t panels, int64_t k, float *to,
                                 const int full, const bool half)
{
    for (int64_t first = 0; first < panels; first += 8) {
        int64_t count = gemm_least(8, panels - first), line = first * full;
        for (int64_t p = 0; p < k; p++, line += k_step) {
            const char *ahead = gemm_at(from, line + 8 * k_step, half);
            for (int64_t byte = 0; byte < count * full * (half ? 2 : 4); byte += 64)
                __builtin_prefetch(ahead + byte);
            for (int64_t t = 0; t < count; t++)
                gemm_copy_lanes(from, line + t * full, to + (first + t) * k * full + p * full, full, half);
        }
    }
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

/* One panel. The lanes that the next one reads are fetched meanwhile: rows this short are over before the processor
 * sees a pattern in them. */
GEMM_INLINE void gemm_pack_k(const void *from, int64_t lane_step, int64_t k, float *to, const int full, const bool half)
{
    int64_t p = 0;
    for (; p + GRDI_LANES <= k; p += GRDI_LANES) {
        int j = 0;
        for (; j + 4 <= full; j += 4) {
            grdi_vf r[4];
            GEMM_UNROLL
            for (int t = 0; t < 4; t++) {
                r[t] = gemm_load(from, (j + t) * lane_step + p, half);
                __builtin_prefetch(gemm_at(from, (j + t + full) * lane_step + p, half));
            }
            gemm_transpose4(r);
            GEMM_UNROLL
            for (int t = 0; t < 4; t++) {
#define GEMM_STORE_PIECE(q) *(grdi_v4_any *)(to + (p + 4 * (q) + t) * full + j) = GEMM_PIECE(r[t], q)
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
        for (; j < full; j++)
            for (int t = 0; t < GRDI_LANES; t++)
                to[(p + t) * full + j] = gemm_load1(from, j * lane_step + p + t, half);
    }
    for (; p < k; p++)
        for (int j = 0; j < full; j++)
            to[p * full + j] = gemm_load1(from, j * lane_step + p, half);
}

/* ---- any strides ---- */

/* One panel of `width` <= full lanes. */
GEMM_INLINE void gemm_pack_any(const void *from, int64_t lane_step, int64_t k_step, int64_t width, int64_t k, float *to,
                               const int full, const bool half)
{
    for (int64_t p = 0; p < k; p++) {
        int j = 0;
        for (; j < width; j++)
            to[p * full + j] = gemm_load1(from, j * lane_step + p * k_step, half);
        for (; j < full; j++)
            to[p * full + j] = 0;
    }
}

/* Packs `width` lanes into panels of `full`, one behind the other. */
GEMM_INLINE void gemm_pack_type(const void *from, int64_t lane_step, int64_t k_step, int64_t width, int64_t k,
                                float *to, const int full, const bool half)
{
    int64_t panels = width / full;
    if (lane_step == 1) {
        gemm_pack_lanes(from, k_step, panels, k, to, full, half);
    } else {
        for (int64_t t = 0; t < panels; t++) {
            const void *panel = gemm_at(from, t * full * lane_step, half);
            if (k_step == 1)
                gemm_pack_k(panel, lane_step, k, to + t * full * k, full, half);
            else
                gemm_pack_any(panel, lane_step, k_step, full, k, to + t * full * k, full, half);
        }
    }
    if (width % full)
        gemm_pack_any(gemm_at(from, panels * full * lane_step, half), lane_step, k_step, width % full, k,
                      to + panels * full * k, full, half);
}

GEMM_INLINE void gemm_pack(const void *from, grd_dtype type, int64_t lane_step, int64_t k_step, int64_t width,
                           int64_t k, float *to, const int full)
{
    if (type == GRD_F32)
        gemm_pack_type(from, lane_step, k_step, width, k, to, full, false);
    else
        gemm_pack_type(from, lane_step, k_step, width, k, to, full, true);
}

#endif
