/* gemm_kernel.c - one tile of C in registers: what all matrix products spend their time in. So it is compiled
 * without sanitizers, and what it will touch is looked at first. */
#include "backend/cpu/kernels/gemm_tile.h"
#include "backend/cpu/look.h"

#include <string.h>

/* sum + value * line, or that of pairs of bf16. */
GEMM_INLINE grdi_vf gemm_add_product(grdi_vf sum, grdi_vf value, grdi_vf line, const bool pairs)
{
#if GRDI_PAIRS
    if (pairs) return (grdi_vf)_mm512_dpbf16_ps((__m512)sum, (__m512bh)value, (__m512bh)line);
#endif
    (void)pairs;
    return sum + value * line;
}

/* A value of A; a pair of bf16 in its place may lie at any even address. */
GEMM_INLINE float gemm_value(const void *at)
{
    float value;
    memcpy(&value, at, sizeof value);
    return value;
}

/* Keeps the compiler from telling how one address follows from another. */
#define GEMM_OPAQUE(p) __asm__("" : "+r"(p))

enum { GEMM_THREES = (GEMM_ROWS + 2) / 3 };

/* sum[i][j] += sum over k of A(i, k) B(k, j); B(k, j) is at b[k * b_step + j]. Where A's rows lie apart, every third
 * has an address of its own, and the two behind it are found from that: an address for each row is more than there are
 * registers, and what the compiler then does takes a ninth of the time of eight rows. */
GEMM_INLINE void gemm_tile_sum(const int rows, const int vectors, const gemm_layout layout, const bool packs, int64_t k,
                               const float *a, int64_t a_step, const float *b, int64_t b_step, const gemm_end *end,
                               grdi_vf sum[GEMM_ROWS][GEMM_VECTORS])
{
    const bool by_k = layout == GEMM_BY_K || layout == GEMM_PAIRS_BY_K, pairs = layout >= GEMM_PAIRS_BY_K;
    float *packed = end->packed_b;
    const float *row[GEMM_THREES];
    gemm_ahead ahead[GEMM_STREAMS];
    GEMM_UNROLL
    for (int s = 0; s < GEMM_STREAMS; s++)
        ahead[s] = end->ahead[s].from ? end->ahead[s] : (gemm_ahead){(const char *)b, 0};
    GEMM_UNROLL
    for (int i = 0; 3 * i < rows; i++) {
        row[i] = a + 3 * i * a_step;
        if (by_k) GEMM_OPAQUE(row[i]);
    }
    if (by_k) GEMM_OPAQUE(a_step);
    for (int64_t p = 0; p < k; p++) {
        if (p % GEMM_AHEAD == 0) {
            GEMM_UNROLL
            for (int s = 0; s < GEMM_STREAMS; s++)
                __builtin_prefetch(ahead[s].from, 0, 2), ahead[s].from += ahead[s].step;
        }
        grdi_vf line[GEMM_VECTORS];
        GEMM_UNROLL
        for (int j = 0; j < vectors; j++) line[j] = grdi_load(b + j * GRDI_LANES);
        GEMM_UNROLL
        for (int j = 0; packs && j < vectors; j++) grdi_store(packed + j * GRDI_LANES, line[j]);
        if (packs) packed += GEMM_COLUMNS;
        GEMM_UNROLL
        for (int i = 0; i < rows; i++) {
            grdi_vf value = grdi_set(gemm_value(by_k ? row[i / 3] + i % 3 * a_step + p : a + i));
            GEMM_UNROLL
            for (int j = 0; j < vectors; j++) sum[i][j] = gemm_add_product(sum[i][j], value, line[j], pairs);
        }
        b += b_step;
        if (!by_k) a += a_step;
    }
}

GEMM_INLINE void gemm_tile_fixed(const int rows, const int vectors, const gemm_layout layout, const bool packs,
                                 int64_t k, const float *a, int64_t a_step, const float *b, int64_t b_step,
                                 const gemm_end *end)
{
    grdi_vf sum[GEMM_ROWS][GEMM_VECTORS];
    float *c = end->c;
    const int64_t c_row = end->c_row;
    GEMM_UNROLL
    for (int i = 0; i < rows; i++) {
        GEMM_UNROLL
        for (int j = 0; j < vectors; j++) {
            __builtin_prefetch(c + i * c_row + j * GRDI_LANES, 1);
            sum[i][j] = (grdi_vf){0};
        }
    }
    gemm_tile_sum(rows, vectors, layout, packs, k, a, a_step, b, b_step, end, sum);
    if (end->add) {
        GEMM_UNROLL
        for (int i = 0; i < rows; i++) {
            GEMM_UNROLL
            for (int j = 0; j < vectors; j++) sum[i][j] += grdi_load(c + i * c_row + j * GRDI_LANES);
        }
    }
    grdi_vf bias[GEMM_VECTORS];
    GEMM_UNROLL
    for (int j = 0; j < vectors; j++) bias[j] = end->bias ? grdi_load(end->bias + j * GRDI_LANES) : (grdi_vf){0};
    GEMM_UNROLL
    for (int i = 0; i < rows; i++) {
        GEMM_UNROLL
        for (int j = 0; j < vectors; j++) grdi_store(c + i * c_row + j * GRDI_LANES, sum[i][j] + bias[j]);
    }
}

static void look(int rows, int vectors, gemm_layout layout, int64_t k, const float *a, int64_t a_step, const float *b,
                 int64_t b_step, const gemm_end *end)
{
    const int64_t size = sizeof(float), line = vectors * GRDI_LANES * size;
    const bool by_k = layout == GEMM_BY_K || layout == GEMM_PAIRS_BY_K;
    if (by_k) grdi_look(a, rows, a_step * size, k * size);
    else if (a_step == GEMM_ROWS) grdi_look(a, 1, 0, k > 0 ? ((k - 1) * a_step + rows) * size : 0);
    else grdi_look(a, k, a_step * size, rows * size);
    grdi_look(b, k, b_step * size, line);
    grdi_look(end->c, rows, end->c_row * size, line);
    if (end->bias) grdi_look(end->bias, 1, 0, line);
    if (end->packed_b) grdi_look(end->packed_b, 1, 0, k * line);
}

void GRDI_ISA_NAME(grdi_gemm_tile)(int rows, int vectors, gemm_layout layout, int64_t k, const float *a, int64_t a_step,
                                   const float *b, int64_t b_step, const gemm_end *end)
{
#define GEMM_TILE_CASE(r, v, l)                                                                                        \
    case (r)*8 + ((v)-1) * 4 + (l):                                                                                    \
        gemm_tile_fixed(r, v, l, false, k, a, a_step, b, b_step, end);                                                 \
        return;
#define GEMM_TILE_LAYOUTS(r, by_k, by_row)                                                                             \
    GEMM_TILE_CASE(r, 1, by_k)                                                                                         \
    GEMM_TILE_CASE(r, 1, by_row)                                                                                       \
    GEMM_TILE_CASE(r, 2, by_k)                                                                                         \
    GEMM_TILE_CASE(r, 2, by_row)
#if GRDI_PAIRS
#define GEMM_TILE_ROWS(r)                                                                                              \
    GEMM_TILE_LAYOUTS(r, GEMM_BY_K, GEMM_BY_ROW)                                                                       \
    GEMM_TILE_LAYOUTS(r, GEMM_PAIRS_BY_K, GEMM_PAIRS_BY_ROW)
#else
#define GEMM_TILE_ROWS(r) GEMM_TILE_LAYOUTS(r, GEMM_BY_K, GEMM_BY_ROW)
#endif
    look(rows, vectors, layout, k, a, a_step, b, b_step, end);
    if (end->packed_b) {
        gemm_tile_fixed(GEMM_ROWS, GEMM_VECTORS, GEMM_BY_ROW, true, k, a, a_step, b, b_step, end);
        return;
    }
    switch (rows * 8 + (vectors - 1) * 4 + (int)layout) {
        GEMM_TILE_ROWS(1)
        GEMM_TILE_ROWS(2)
        GEMM_TILE_ROWS(3)
        GEMM_TILE_ROWS(4)
        GEMM_TILE_ROWS(5)
        GEMM_TILE_ROWS(6)
#if GEMM_ROWS > 6
        GEMM_TILE_ROWS(7)
        GEMM_TILE_ROWS(8)
        GEMM_TILE_ROWS(9)
        GEMM_TILE_ROWS(10)
        GEMM_TILE_ROWS(11)
        GEMM_TILE_ROWS(12)
#endif
    }
#undef GEMM_TILE_ROWS
#undef GEMM_TILE_LAYOUTS
#undef GEMM_TILE_CASE
}
