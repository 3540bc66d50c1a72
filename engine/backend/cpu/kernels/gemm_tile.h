/* gemm_tile.h - the innermost loops of matrix products: one tile of C in registers, and the packing of operands
 * for it.
 *
 * A tile is up to GEMM_ROWS x GEMM_COLUMNS. Its inner loop takes one row vector of B (GEMM_VECTORS registers) and
 * one element of A for each row, as in Goto and van de Geijn, "Anatomy of high-performance matrix multiplication",
 * 2008. */
#ifndef GRDI_GEMM_TILE_H
#define GRDI_GEMM_TILE_H

#include "backend/cpu/kernels/vector.h"

#include <stdbool.h>

/* As many accumulators as leave registers for B and A: 12 of 16, 24 of 32. */
#if defined(GRDI_ISA_avx512)
#define GEMM_ROWS 12
#else
#define GEMM_ROWS 6
#endif
#define GEMM_VECTORS 2
#define GEMM_COLUMNS (GEMM_VECTORS * GRDI_LANES)

#define GEMM_INLINE static inline __attribute__((always_inline))
#define GEMM_UNROLL _Pragma("GCC unroll 16")

typedef float grdi_v4 __attribute__((vector_size(16)));
typedef int32_t grdi_v4i __attribute__((vector_size(16)));
typedef float grdi_v4_any __attribute__((vector_size(16), aligned(4), may_alias));

GEMM_INLINE int64_t gemm_least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}
GEMM_INLINE int64_t gemm_up(int64_t a, int64_t b)
{
    return (a + b - 1) / b * b;
}

/* How a tile reads A: element (i, k) is at a[i * step + k], or at a[k * step + i] as packed panels have it. */
typedef enum gemm_layout { GEMM_BY_K, GEMM_BY_ROW } gemm_layout;

/* What becomes of a tile's sums. */
typedef struct gemm_end {
    float *c;
    int64_t c_row;
    const float *bias; /* by column; NULL: none */
    bool add;          /* add to C, bias or not */
} gemm_end;

/* A tile of any number of rows up to GEMM_ROWS, `vectors` registers wide (in gemm.c). */
void GRDI_ISA_NAME(grdi_gemm_tile)(int rows, int vectors, gemm_layout layout, int64_t k, const float *a, int64_t a_step,
                                   const float *b, int64_t b_step, const gemm_end *end);

/* ---- packing: panels of `full` lanes (rows of A or columns of B), panel[k * full + lane]; lanes beyond the
 * matrix are zero ---- */

GEMM_INLINE void gemm_transpose4(grdi_v4 r[4])
{
    grdi_v4 a = GRDI_SHUFFLE(grdi_v4i, r[0], r[1], 0, 4, 1, 5),
            b = GRDI_SHUFFLE(grdi_v4i, r[0], r[1], 2, 6, 3, 7);
    grdi_v4 c = GRDI_SHUFFLE(grdi_v4i, r[2], r[3], 0, 4, 1, 5),
            d = GRDI_SHUFFLE(grdi_v4i, r[2], r[3], 2, 6, 3, 7);
    r[0] = GRDI_SHUFFLE(grdi_v4i, a, c, 0, 1, 4, 5), r[1] = GRDI_SHUFFLE(grdi_v4i, a, c, 2, 3, 6, 7);
    r[2] = GRDI_SHUFFLE(grdi_v4i, b, d, 0, 1, 4, 5), r[3] = GRDI_SHUFFLE(grdi_v4i, b, d, 2, 3, 6, 7);
}

GEMM_INLINE void gemm_copy_lanes(const float *from, float *to, const int count)
{
    int j = 0;
    GEMM_UNROLL
    for (; j + GRDI_LANES <= count; j += GRDI_LANES)
        grdi_store(to + j, grdi_load(from + j));
    GEMM_UNROLL
    for (; j + 4 <= count; j += 4)
        *(grdi_v4_any *)(to + j) = *(const grdi_v4_any *)(from + j);
    GEMM_UNROLL
    for (; j < count; j++)
        to[j] = from[j];
}

/* Lanes lie together: each row of k is visited once for up to eight panels, so that a page is. */
GEMM_INLINE void gemm_pack_lanes(const float *from, int64_t k_step, int64_t panels, int64_t k, float *to,
                                 const int full)
{
    for (int64_t first = 0; first < panels; first += 8) {
        int64_t count = gemm_least(8, panels - first);
        const float *line = from + first * full;
        for (int64_t p = 0; p < k; p++, line += k_step) {
            const float *ahead = line + 8 * k_step;
            for (int64_t byte = 0; byte < count * full * 4; byte += 64)
                __builtin_prefetch((const char *)ahead + byte);
            for (int64_t t = 0; t < count; t++)
                gemm_copy_lanes(line + t * full, to + (first + t) * k * full + p * full, full);
        }
    }
}

/* k lies together: one panel, transposed in blocks of 4 x 4, whole cache lines (16 of k) at a time. */
GEMM_INLINE void gemm_pack_k(const float *from, int64_t lane_step, int64_t k, float *to, const int full)
{
    int64_t p = 0;
    for (; p + 16 <= k; p += 16) {
        int j = 0;
        for (; j + 4 <= full; j += 4) {
            for (int u = 0; u < 16; u += 4) {
                grdi_v4 r[4];
                GEMM_UNROLL
                for (int t = 0; t < 4; t++)
                    r[t] = *(const grdi_v4_any *)(from + (j + t) * lane_step + p + u);
                gemm_transpose4(r);
                GEMM_UNROLL
                for (int t = 0; t < 4; t++)
                    *(grdi_v4_any *)(to + (p + u + t) * full + j) = r[t];
            }
        }
        for (; j < full; j++)
            for (int t = 0; t < 16; t++)
                to[(p + t) * full + j] = from[j * lane_step + p + t];
    }
    for (; p < k; p++)
        for (int j = 0; j < full; j++)
            to[p * full + j] = from[j * lane_step + p];
}

/* One panel of `width` <= full lanes, any strides. */
GEMM_INLINE void gemm_pack_any(const float *from, int64_t lane_step, int64_t k_step, int64_t width, int64_t k,
                               float *to, const int full)
{
    for (int64_t p = 0; p < k; p++) {
        int j = 0;
        for (; j < width; j++)
            to[p * full + j] = from[j * lane_step + p * k_step];
        for (; j < full; j++)
            to[p * full + j] = 0;
    }
}

GEMM_INLINE void gemm_pack_any_bf16(const uint16_t *from, int64_t lane_step, int64_t k_step, int64_t width, int64_t k,
                                    float *to, const int full)
{
    for (int64_t p = 0; p < k; p++) {
        int j = 0;
        for (; j < width; j++) {
            uint32_t bits = (uint32_t)from[j * lane_step + p * k_step] << 16;
            memcpy(&to[p * full + j], &bits, sizeof bits);
        }
        for (; j < full; j++)
            to[p * full + j] = 0;
    }
}

/* Packs `width` lanes into panels of `full`, one behind the other. */
GEMM_INLINE void gemm_pack_f32(const float *from, int64_t lane_step, int64_t k_step, int64_t width, int64_t k,
                               float *to, const int full)
{
    int64_t panels = width / full;
    if (lane_step == 1) {
        gemm_pack_lanes(from, k_step, panels, k, to, full);
    } else {
        for (int64_t t = 0; t < panels; t++) {
            if (k_step == 1)
                gemm_pack_k(from + t * full * lane_step, lane_step, k, to + t * full * k, full);
            else
                gemm_pack_any(from + t * full * lane_step, lane_step, k_step, full, k, to + t * full * k, full);
        }
    }
    if (width % full)
        gemm_pack_any(from + panels * full * lane_step, lane_step, k_step, width % full, k, to + panels * full * k,
                      full);
}

GEMM_INLINE void gemm_pack_bf16(const uint16_t *from, int64_t lane_step, int64_t k_step, int64_t width, int64_t k,
                                float *to, const int full)
{
    for (int64_t t = 0; t < width; t += full)
        gemm_pack_any_bf16(from + t * lane_step, lane_step, k_step, gemm_least(full, width - t), k, to + t * k, full);
}

#endif
