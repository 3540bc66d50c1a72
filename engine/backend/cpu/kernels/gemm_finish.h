/* gemm_finish.h - what follows the sums of a product while they are in cache: activation, and rounding to bf16. */
#ifndef GRDI_GEMM_FINISH_H
#define GRDI_GEMM_FINISH_H

#include "backend/cpu/gemm.h"
#include "backend/cpu/kernels/math.h"
#include "base/convert.h"

static inline float gemm_read(const void *from, grd_dtype type, int64_t index)
{
    return type == GRD_F32 ? ((const float *)from)[index] : grdi_bf16_to_f32(((const uint16_t *)from)[index]);
}

static inline grdi_vf gemm_activation(grdi_activation activation, grdi_vf x)
{
    grdi_vf unused, positive;
    switch (activation) {
    case GRDI_ACT_RELU: return grdi_max(grdi_set(0.0f), x); /* NaN stays NaN */
    case GRDI_ACT_GELU: return x * grdi_normal_cdf(x, &unused);
    case GRDI_ACT_GELU_TANH: return x * grdi_gelu_tanh_gate(x);
    case GRDI_ACT_SILU: return x * grdi_sigmoid_gate(x);
    case GRDI_ACT_RELU_SQUARED: positive = grdi_max(grdi_set(0.0f), x); return positive * positive;
    case GRDI_ACT_TANH: return grdi_tanh(x);
    case GRDI_ACT_SIGMOID: return grdi_sigmoid(x);
    default: return x;
    }
}

/* y = activation(x) over `count` values; y may be x. */
#define GEMM_ACTIVATION_LOOP(which)                                                                                    \
    case which: {                                                                                                      \
        int64_t i = 0;                                                                                                 \
        for (; i + GRDI_LANES <= count; i += GRDI_LANES) grdi_store(y + i, gemm_activation(which, grdi_load(x + i)));  \
        if (i < count) grdi_store_part(y + i, gemm_activation(which, grdi_load_part(x + i, count - i)), count - i);    \
        return;                                                                                                        \
    }
static inline void gemm_activate(grdi_activation activation, const float *x, float *y, int64_t count)
{
    switch (activation) {
        GEMM_ACTIVATION_LOOP(GRDI_ACT_RELU)
        GEMM_ACTIVATION_LOOP(GRDI_ACT_GELU)
        GEMM_ACTIVATION_LOOP(GRDI_ACT_GELU_TANH)
        GEMM_ACTIVATION_LOOP(GRDI_ACT_SILU)
        GEMM_ACTIVATION_LOOP(GRDI_ACT_RELU_SQUARED)
        GEMM_ACTIVATION_LOOP(GRDI_ACT_TANH)
        GEMM_ACTIVATION_LOOP(GRDI_ACT_SIGMOID)
    default:
        if (y != x) memcpy(y, x, (size_t)count * sizeof *y);
    }
}
#undef GEMM_ACTIVATION_LOOP

static inline void gemm_round_row(const float *x, uint16_t *to, bool add, int64_t count)
{
    int64_t i = 0;
    for (; i + GRDI_LANES <= count; i += GRDI_LANES) {
        grdi_vf v = grdi_load(x + i);
        grdi_store_bf16(to + i, add ? v + grdi_load_bf16(to + i) : v);
    }
    for (; i < count; i++) to[i] = grdi_f32_to_bf16(add ? x[i] + grdi_bf16_to_f32(to[i]) : x[i]);
}

/* One row, `count` columns from `column`. */
static inline void gemm_finish_row(const grdi_gemm *g, const float *sums, int64_t row, int64_t column, int64_t count)
{
    float part[256];
    if (g->c_type == GRD_F32) {
        float *c = g->c ? (float *)g->c + row * g->c_row + column : NULL;
        if (c && c != sums)
            for (int64_t i = 0; i < count; i++) c[i] = g->add ? c[i] + sums[i] : sums[i];
        if (g->activation != GRDI_ACT_NONE)
            gemm_activate(g->activation, sums, (float *)g->y + row * g->y_row + column, count);
        return;
    }
    if (g->c) gemm_round_row(sums, (uint16_t *)g->c + row * g->c_row + column, g->add, count);
    for (int64_t i = 0; g->activation != GRDI_ACT_NONE && i < count; i += 256) {
        int64_t some = count - i < 256 ? count - i : 256;
        gemm_activate(g->activation, sums + i, part, some);
        gemm_round_row(part, (uint16_t *)g->y + row * g->y_row + column + i, false, some);
    }
}

/* y = activation(C) for one row of C that is done; C is at y where c is NULL. */
static inline void gemm_activate_row(const grdi_gemm *g, int64_t row)
{
    float part[256];
    const void *c = g->c ? g->c : g->y;
    int64_t from = row * (g->c ? g->c_row : g->y_row), to = row * g->y_row;
    if (g->c_type == GRD_F32) {
        gemm_activate(g->activation, (const float *)c + from, (float *)g->y + to, g->n);
        return;
    }
    for (int64_t i = 0; i < g->n; i += 256) {
        int64_t some = g->n - i < 256 ? g->n - i : 256;
        for (int64_t j = 0; j < some; j++) part[j] = grdi_bf16_to_f32(((const uint16_t *)c)[from + i + j]);
        gemm_activate(g->activation, part, part, some);
        gemm_round_row(part, (uint16_t *)g->y + to + i, false, some);
    }
}

/* f32 sums of the part of g that begins at (row, column). */
static inline void gemm_finish_block(const grdi_gemm *g, const float *sums, int64_t sums_row, int64_t row, int64_t rows,
                                     int64_t column, int64_t columns)
{
    for (int64_t i = 0; i < rows; i++) gemm_finish_row(g, sums + i * sums_row, row + i, column, columns);
}

#endif
