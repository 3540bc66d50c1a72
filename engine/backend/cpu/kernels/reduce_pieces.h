/* reduce_pieces.h - reductions of short runs of floats. Sums of a piece are made in 4 registers of floats, those of
 * pieces in double: for a million values the error stays near that of one rounding. */
#ifndef GRDI_REDUCE_PIECES_H
#define GRDI_REDUCE_PIECES_H

#include "backend/cpu/kernels/math.h"

/* Reduces x[0..n); `p` is what the op takes from each value first (a mean, a maximum). */
typedef double (*piece_fn)(const float *x, float p, int64_t n);
/* Reduces into part[j] the value x[j], for j < n; likewise with p[j]. */
typedef void (*column_fn)(float *part, const float *x, const float *p, int64_t n);
typedef double (*combine_fn)(double a, double b);

/* Four registers at a time, then one, then lane by lane with `rest`. v and m stand for the value and the running
 * result. */
#define PIECE(name, begin, step, join, rest, lanes)                                                                    \
    static inline double piece_##name(const float *x, float p, int64_t n)                                              \
    {                                                                                                                  \
        (void)p;                                                                                                       \
        grdi_vf sum[4] = {grdi_set(begin), grdi_set(begin), grdi_set(begin), grdi_set(begin)};                         \
        int64_t i = 0;                                                                                                 \
        for (; i + 4 * GRDI_LANES <= n; i += 4 * GRDI_LANES) {                                                         \
            for (int k = 0; k < 4; k++) {                                                                              \
                grdi_vf v = grdi_load(x + i + k * GRDI_LANES), m = sum[k];                                             \
                sum[k] = (step);                                                                                       \
            }                                                                                                          \
        }                                                                                                              \
        for (; i + GRDI_LANES <= n; i += GRDI_LANES) {                                                                 \
            grdi_vf v = grdi_load(x + i), m = sum[0];                                                                  \
            sum[0] = (step);                                                                                           \
        }                                                                                                              \
        for (int k = 1; k < 4; k++) {                                                                                  \
            grdi_vf v = sum[k], m = sum[0];                                                                            \
            sum[0] = (join);                                                                                           \
        }                                                                                                              \
        double m = lanes(sum[0]);                                                                                      \
        for (; i < n; i++) {                                                                                           \
            float v = x[i];                                                                                            \
            m = (rest);                                                                                                \
        }                                                                                                              \
        return m;                                                                                                      \
    }

#define COLUMN(name, step)                                                                                             \
    static inline void column_##name(float *part, const float *x, const float *p, int64_t n)                           \
    {                                                                                                                  \
        (void)p;                                                                                                       \
        int64_t i = 0;                                                                                                 \
        for (; i + GRDI_LANES <= n; i += GRDI_LANES) {                                                                 \
            grdi_vf v = grdi_load(x + i), m = grdi_load(part + i);                                                     \
            grdi_store(part + i, step(v, m, p ? grdi_load(p + i) : grdi_set(0.0f)));                                   \
        }                                                                                                              \
        if (i < n) {                                                                                                   \
            grdi_vf v = grdi_load_part(x + i, n - i), m = grdi_load_part(part + i, n - i);                             \
            grdi_store_part(part + i, step(v, m, p ? grdi_load_part(p + i, n - i) : grdi_set(0.0f)), n - i);           \
        }                                                                                                              \
    }

/* A NaN, once met, stays. */
static inline grdi_vf step_max(grdi_vf v, grdi_vf m, grdi_vf p)
{
    (void)p;
    return grdi_select(grdi_is_nan(v) | (v > m), v, m);
}

static inline grdi_vf step_min(grdi_vf v, grdi_vf m, grdi_vf p)
{
    (void)p;
    return grdi_select(grdi_is_nan(v) | (v < m), v, m);
}

static inline grdi_vf step_sum(grdi_vf v, grdi_vf m, grdi_vf p)
{
    (void)p;
    return m + v;
}

static inline grdi_vf step_squares(grdi_vf v, grdi_vf m, grdi_vf p) { return m + (v - p) * (v - p); }
static inline grdi_vf step_exp(grdi_vf v, grdi_vf m, grdi_vf p) { return m + grdi_exp_negative(v - p); }

static inline grdi_vf step_product(grdi_vf v, grdi_vf m, grdi_vf p)
{
    (void)p;
    return m * v;
}

static inline double combine_sum(double a, double b) { return a + b; }
static inline double combine_product(double a, double b) { return a * b; }
static inline double combine_max(double a, double b) { return b > a || b != b ? b : a; }
static inline double combine_min(double a, double b) { return b < a || b != b ? b : a; }

static inline double lanes_sum(grdi_vf v)
{
    double sum = 0;
    for (int i = 0; i < GRDI_LANES; i++)
        sum += v[i];
    return sum;
}

static inline double lanes_max(grdi_vf v)
{
    double most = v[0];
    for (int i = 1; i < GRDI_LANES; i++)
        most = combine_max(most, v[i]);
    return most;
}

static inline double lanes_min(grdi_vf v)
{
    double least = v[0];
    for (int i = 1; i < GRDI_LANES; i++)
        least = combine_min(least, v[i]);
    return least;
}

PIECE(sum, 0.0f, m + v, m + v, m + v, lanes_sum)
PIECE(squares, 0.0f, m + (v - p) * (v - p), m + v, m + (double)(v - p) * (v - p), lanes_sum)
PIECE(exp, 0.0f, m + grdi_exp_negative(v - p), m + v, m + (double)grdi_exp_negative(grdi_set(v - p))[0], lanes_sum)
PIECE(max, -INFINITY, step_max(v, m, v), step_max(v, m, v), combine_max(m, v), lanes_max)
PIECE(min, INFINITY, step_min(v, m, v), step_min(v, m, v), combine_min(m, v), lanes_min)

static inline double piece_product(const float *x, float p, int64_t n)
{
    (void)p;
    double product = 1;
    for (int64_t i = 0; i < n; i++)
        product *= x[i];
    return product;
}

COLUMN(sum, step_sum)
COLUMN(squares, step_squares)
COLUMN(exp, step_exp)
COLUMN(max, step_max)
COLUMN(min, step_min)
COLUMN(product, step_product)

#endif
