/* finish.h - tiles of sums on their way to C: what was summed before, bias, activation, rounding. */
#ifndef GRDI_AMX_FINISH_H
#define GRDI_AMX_FINISH_H

#include "backend/cpu/amx/gemm_pack.h"
#include "backend/cpu/gemm.h"
#include "backend/cpu/kernels/gemm_finish.h"

/* A tile of C: rows x columns at (row, column), and its sums over a block of k. */
typedef struct tile {
    int64_t row, rows, column, columns;
    bool first, last; /* block of k */
    float *sums;
    float *kept; /* sums of the blocks before and with this one; NULL: there is one block */
    int64_t kept_row;
} tile;

/* ---- what follows the sums ---- */

typedef struct line {
    __m512 x[2]; /* 32 columns */
} line;

static inline line load_line(const void *from, const bool half, uint32_t mask)
{
    line l;
    for (int j = 0; j < 2; j++) {
        const __mmask16 lanes = (__mmask16)(mask >> 16 * j);
        if (half)
            l.x[j] = (__m512)_mm512_slli_epi32(
                _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(lanes, (const uint16_t *)from + 16 * j)), 16);
        else l.x[j] = _mm512_maskz_loadu_ps(lanes, (const float *)from + 16 * j);
    }
    return l;
}

static inline void store_line(void *to, const bool half, uint32_t mask, line l)
{
    if (half) {
        _mm512_mask_storeu_epi16(to, mask, amx_round(l.x[0], l.x[1]));
        return;
    }
    _mm512_mask_storeu_ps(to, (__mmask16)mask, l.x[0]);
    _mm512_mask_storeu_ps((float *)to + 16, (__mmask16)(mask >> 16), l.x[1]);
}

static inline line add_lines(line a, line b)
{
    return (line){{_mm512_add_ps(a.x[0], b.x[0]), _mm512_add_ps(a.x[1], b.x[1])}};
}

static char *element(void *c, const bool half, int64_t offset)
{
    return c ? (char *)c + offset * (half ? 2 : 4) : NULL;
}

/* Lines of C or y that finish() will write, some of them read before, rows `row` elements apart. Those beyond `fetched`
 * are asked for at once. */
static amx_ahead ahead_of_tile(void *c, const bool half, int64_t row, const tile *t, int64_t fetched)
{
    if (!c) return (amx_ahead){.rows = 0};
    amx_ahead next = {element(c, half, t->row * row + t->column), t->rows, row * (half ? 2 : 4), half ? 1 : 2, 0};
    for (int64_t late = next.rows * next.lines - fetched; late > 0; late--) amx_fetch(&next);
    return next;
}

GEMM_INLINE void finish_in(const grdi_gemm *g, const tile *t, const bool half, const grdi_activation activation)
{
    line bias = {{_mm512_setzero_ps(), _mm512_setzero_ps()}};
    const uint32_t mask = amx_mask(t->columns);
    const bool adds = t->last && g->add, from_kept = t->kept && !t->first;
    if (t->last && g->bias) {
        const bool narrow = g->bias_type == GRD_BF16;
        bias = load_line((const char *)g->bias + t->column * (narrow ? 2 : 4), narrow, mask);
    }
    const int64_t size = half ? 2 : 4, kept_row = t->kept ? t->kept_row : 0;
    const int64_t c_row = g->c ? g->c_row * size : 0, y_row = g->y ? g->y_row * size : 0;
    float *kept = t->kept;
    char *c = element(g->c, half, t->row * g->c_row + t->column);
    char *y = element(g->y, half, t->row * g->y_row + t->column);
    for (int64_t i = 0; i < t->rows; i++, kept += kept_row, c += c_row, y += y_row) {
        line l = load_line(t->sums + i * AMX_PANEL, false, UINT32_MAX);
        if (from_kept) l = add_lines(load_line(kept, false, mask), l);
        if (!t->last) {
            store_line(kept, false, mask, l);
            continue;
        }
        l = add_lines(l, bias);
        if (adds) l = add_lines(load_line(c, half, mask), l);
        if (g->c) store_line(c, half, mask, l);
        if (activation == GRDI_ACT_NONE) continue;
        GEMM_UNROLL
        for (int j = 0; j < 2; j++) l.x[j] = (__m512)gemm_activation(activation, (grdi_vf)l.x[j]);
        store_line(y, half, mask, l);
    }
}

static void finish(const grdi_gemm *g, const tile *t)
{
#define FINISH_CASE(which)                                                                                             \
    case which:                                                                                                        \
        if (g->c_type == GRD_BF16) finish_in(g, t, true, which);                                                       \
        else finish_in(g, t, false, which);                                                                            \
        return;
    switch (t->last ? g->activation : GRDI_ACT_NONE) {
        FINISH_CASE(GRDI_ACT_RELU)
        FINISH_CASE(GRDI_ACT_GELU)
        FINISH_CASE(GRDI_ACT_GELU_TANH)
        FINISH_CASE(GRDI_ACT_SILU)
        FINISH_CASE(GRDI_ACT_RELU_SQUARED)
        FINISH_CASE(GRDI_ACT_TANH)
        FINISH_CASE(GRDI_ACT_SIGMOID)
        FINISH_CASE(GRDI_ACT_NONE)
    default: return;
    }
#undef FINISH_CASE
}

#endif
