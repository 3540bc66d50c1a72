/* gemm_tile.h - the innermost loop of matrix products: one tile of C in registers.
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

GEMM_INLINE int64_t gemm_least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}
GEMM_INLINE int64_t gemm_up(int64_t a, int64_t b)
{
    return (a + b - 1) / b * b;
}

/* How a tile reads A: element (i, k) is at a[i * step + k], or at a[k * step + i] as packed panels have it. The same
 * with pairs: an element of A and of B holds two of bf16, neighbours in k, whose products are added at once. */
typedef enum gemm_layout { GEMM_BY_K, GEMM_BY_ROW, GEMM_PAIRS_BY_K, GEMM_PAIRS_BY_ROW } gemm_layout;

/* What a tile fetches while it computes: at each GEMM_AHEAD-th of its k a cache line, `step` bytes behind the last. */
typedef struct gemm_ahead {
    const char *from; /* NULL: nothing */
    int64_t step;
} gemm_ahead;

enum { GEMM_AHEAD = 8, GEMM_STREAMS = 2 };

/* What becomes of a tile's sums. */
typedef struct gemm_end {
    float *c;
    int64_t c_row;
    const float *bias; /* by column; NULL: none */
    bool add;          /* add to C, bias or not */
    gemm_ahead ahead[GEMM_STREAMS];
    float *packed_b; /* with a whole tile: where the lines of B that it read go, one behind the other; NULL: nowhere */
} gemm_end;

/* A tile of any number of rows up to GEMM_ROWS, `vectors` registers wide (in gemm.c). */
void GRDI_ISA_NAME(grdi_gemm_tile)(int rows, int vectors, gemm_layout layout, int64_t k, const float *a, int64_t a_step,
                                   const float *b, int64_t b_step, const gemm_end *end);

#endif
