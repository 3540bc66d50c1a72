/* transpose.h - transposes bands of a matrix of 4-byte elements through registers. */
#ifndef GRDI_TRANSPOSE_H
#define GRDI_TRANSPOSE_H

#include "backend/cpu/kernels/isa.h"

#include <stdint.h>

/* Output rows done at a time: a cache line of the input, so that each line is read once. */
enum { GRDI_TRANSPOSE_BAND = 16 };

#if GRDI_LANES >= 8
enum { GRDI_TRANSPOSE_SIDE = 8 };
#define GRDI_TRANSPOSE_SQUARE grdi_transpose_8x8
typedef uint32_t grdi_tr __attribute__((vector_size(32)));
typedef uint32_t grdi_tr_any __attribute__((vector_size(32), aligned(4), may_alias));

/* to[r][c] = from[c][r] for r, c < 8; strides in elements. */
static inline void grdi_transpose_8x8(uint32_t *to, int64_t to_stride, const uint32_t *from, int64_t from_stride)
{
    grdi_tr a[8], b[8];
    for (int i = 0; i < 8; i++)
        a[i] = *(const grdi_tr_any *)(from + i * from_stride);
    for (int i = 0; i < 8; i += 2) { /* pairs of rows: (r0, r1) */
        b[i] = GRDI_SHUFFLE(grdi_tr, a[i], a[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
        b[i + 1] = GRDI_SHUFFLE(grdi_tr, a[i], a[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
    }
    for (int i = 0; i < 8; i += 4) {
        for (int j = 0; j < 2; j++) {
            a[i + 2 * j] = GRDI_SHUFFLE(grdi_tr, b[i + j], b[i + j + 2], 0, 1, 8, 9, 4, 5, 12, 13);
            a[i + 2 * j + 1] = GRDI_SHUFFLE(grdi_tr, b[i + j], b[i + j + 2], 2, 3, 10, 11, 6, 7, 14, 15);
        }
    }
    for (int i = 0; i < 4; i++) {
        *(grdi_tr_any *)(to + i * to_stride) = GRDI_SHUFFLE(grdi_tr, a[i], a[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
        *(grdi_tr_any *)(to + (i + 4) * to_stride) = GRDI_SHUFFLE(grdi_tr, a[i], a[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
    }
}
#else
enum { GRDI_TRANSPOSE_SIDE = 4 };
#define GRDI_TRANSPOSE_SQUARE grdi_transpose_4x4
typedef uint32_t grdi_tr __attribute__((vector_size(16)));
typedef uint32_t grdi_tr_any __attribute__((vector_size(16), aligned(4), may_alias));

/* to[r][c] = from[c][r] for r, c < 4; strides in elements. */
static inline void grdi_transpose_4x4(uint32_t *to, int64_t to_stride, const uint32_t *from, int64_t from_stride)
{
    grdi_tr a[4], b[4];
    for (int i = 0; i < 4; i++)
        a[i] = *(const grdi_tr_any *)(from + i * from_stride);
    for (int i = 0; i < 4; i += 2) {
        b[i] = GRDI_SHUFFLE(grdi_tr, a[i], a[i + 1], 0, 4, 1, 5);
        b[i + 1] = GRDI_SHUFFLE(grdi_tr, a[i], a[i + 1], 2, 6, 3, 7);
    }
    for (int i = 0; i < 2; i++) {
        *(grdi_tr_any *)(to + 2 * i * to_stride) = GRDI_SHUFFLE(grdi_tr, b[i], b[i + 2], 0, 1, 4, 5);
        *(grdi_tr_any *)(to + (2 * i + 1) * to_stride) = GRDI_SHUFFLE(grdi_tr, b[i], b[i + 2], 2, 3, 6, 7);
    }
}
#endif

/* to[r][c] = from[c][r] for r < rows <= GRDI_TRANSPOSE_BAND, c < columns. */
static inline void grdi_transpose_band(uint32_t *to, int64_t to_stride, const uint32_t *from, int64_t from_stride,
                                       int64_t rows, int64_t columns)
{
    int64_t side = GRDI_TRANSPOSE_SIDE, full_rows = rows / side * side, full_columns = columns / side * side;
    for (int64_t c = 0; c < full_columns; c += side)
        for (int64_t r = 0; r < full_rows; r += side)
            GRDI_TRANSPOSE_SQUARE(to + r * to_stride + c, to_stride, from + c * from_stride + r, from_stride);
    for (int64_t r = 0; r < full_rows; r++)
        for (int64_t c = full_columns; c < columns; c++)
            to[r * to_stride + c] = from[c * from_stride + r];
    for (int64_t r = full_rows; r < rows; r++)
        for (int64_t c = 0; c < columns; c++)
            to[r * to_stride + c] = from[c * from_stride + r];
}

#endif
