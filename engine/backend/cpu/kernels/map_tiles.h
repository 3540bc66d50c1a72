/* map_tiles.h - the element-by-element ops, each as one vector loop over a tile of floats. Booleans are 0 and 1 here.
 */
#ifndef GRDI_MAP_TILES_H
#define GRDI_MAP_TILES_H

#include "backend/cpu/kernels/math.h"
#include "base/convert.h"

/* o[i] = f(x[0][i], x[1][i], ...; c) for i < n; c holds the op's attributes in its order. `o` may be one of the x. */
typedef void (*tile_fn)(float *o, const float *const *x, const float *c, int64_t n);

#define TILE1(name, ...)                                                                                               \
    static void tile_##name(float *o, const float *const *x, const float *c, int64_t n)                                \
    {                                                                                                                  \
        (void)c;                                                                                                       \
        const float *pa = x[0];                                                                                        \
        int64_t i = 0;                                                                                                 \
        for (; i + GRDI_LANES <= n; i += GRDI_LANES) {                                                                 \
            grdi_vf a = grdi_load(pa + i);                                                                             \
            grdi_store(o + i, __VA_ARGS__);                                                                            \
        }                                                                                                              \
        if (i < n) {                                                                                                   \
            grdi_vf a = grdi_load_part(pa + i, n - i);                                                                 \
            grdi_store_part(o + i, __VA_ARGS__, n - i);                                                                \
        }                                                                                                              \
    }

#define TILE2(name, ...)                                                                                               \
    static void tile_##name(float *o, const float *const *x, const float *c, int64_t n)                                \
    {                                                                                                                  \
        (void)c;                                                                                                       \
        const float *pa = x[0], *pb = x[1];                                                                            \
        int64_t i = 0;                                                                                                 \
        for (; i + GRDI_LANES <= n; i += GRDI_LANES) {                                                                 \
            grdi_vf a = grdi_load(pa + i), b = grdi_load(pb + i);                                                      \
            grdi_store(o + i, __VA_ARGS__);                                                                            \
        }                                                                                                              \
        if (i < n) {                                                                                                   \
            grdi_vf a = grdi_load_part(pa + i, n - i), b = grdi_load_part(pb + i, n - i);                              \
            grdi_store_part(o + i, __VA_ARGS__, n - i);                                                                \
        }                                                                                                              \
    }

/* Ops for which a vector form would not pay: the C library, element by element. */
#define TILE_SCALAR(name, ...)                                                                                         \
    static void tile_##name(float *o, const float *const *x, const float *c, int64_t n)                                \
    {                                                                                                                  \
        (void)c;                                                                                                       \
        for (int64_t i = 0; i < n; i++)                                                                                \
            o[i] = __VA_ARGS__;                                                                                        \
    }

static inline grdi_vf truth(grdi_vi mask) { return (grdi_vf)(mask & (grdi_vi)grdi_set(1.0f)); }

static inline grdi_vf positive_part(grdi_vf a) { return grdi_max(grdi_set(0.0f), a); } /* NaN stays */

static inline grdi_vf gelu(grdi_vf a)
{
    grdi_vf density;
    return a * grdi_normal_cdf(a, &density);
}

static inline grdi_vf gelu_slope(grdi_vf a)
{
    grdi_vf density, cdf = grdi_normal_cdf(a, &density);
    return cdf + a * density;
}

static inline grdi_vf gelu_tanh_slope(grdi_vf a)
{
    grdi_vf s = grdi_gelu_tanh_gate(a);
    return s + a * s * (1.0f - s) * (1.59576912f + 0.214064449f * (a * a));
}

static inline grdi_vf silu_slope(grdi_vf a)
{
    grdi_vf s = grdi_sigmoid_gate(a);
    return s * (1.0f + a * (1.0f - s));
}

/* log(1 + exp(-|x|)) */
static inline grdi_vf softplus_tail(grdi_vf a) { return grdi_log1p(grdi_exp((grdi_vf)((grdi_vi)a | INT32_MIN))); }

static inline grdi_vf larger(grdi_vf a, grdi_vf b) { return grdi_select(grdi_is_nan(a), a, grdi_max(a, b)); }
static inline grdi_vf smaller(grdi_vf a, grdi_vf b) { return grdi_select(grdi_is_nan(a), a, grdi_min(a, b)); }

static inline grdi_vf huber(grdi_vf d, float delta)
{
    grdi_vf size = grdi_abs(d);
    return grdi_select(size <= delta, 0.5f * d * d, delta * (size - 0.5f * delta));
}

static inline grdi_vf kl_term(grdi_vf log_probability, grdi_vf target)
{
    return grdi_select(target == 0.0f, target, target * (grdi_log(target) - log_probability));
}

static inline grdi_vf round_to_bf16(grdi_vf a) { return (grdi_vf)(grdi_bf16_bits(a) << 16); }

TILE1(copy, a)
TILE1(neg, -a)
TILE1(abs, grdi_abs(a))
TILE1(sign, grdi_select(grdi_is_nan(a), a, truth(a > 0.0f) - truth(a < 0.0f)))
TILE1(exp, grdi_exp(a))
TILE1(expm1, grdi_expm1(a))
TILE1(log, grdi_log(a))
TILE1(log1p, grdi_log1p(a))
TILE1(sqrt, grdi_sqrt(a))
TILE1(rsqrt, 1.0f / grdi_sqrt(a))
TILE1(reciprocal, 1.0f / a)
TILE1(square, a * a)
TILE1(cube, a * a * a)
TILE1(sin, grdi_sin(a))
TILE1(cos, grdi_cos(a))
TILE_SCALAR(tan, tanf(x[0][i]))
TILE1(tanh, grdi_tanh(a))
TILE1(sigmoid, grdi_sigmoid(a))
TILE1(erf, grdi_erf(a))
TILE1(relu, positive_part(a))
TILE1(relu_squared, positive_part(a) * positive_part(a))
TILE1(gelu, gelu(a))
TILE1(gelu_tanh, a * grdi_gelu_tanh_gate(a))
TILE1(silu, a * grdi_sigmoid_gate(a))
TILE1(softplus, positive_part(a) + softplus_tail(a))
TILE1(leaky_relu, grdi_select(a > 0.0f, a, a * c[0]))
TILE1(elu, grdi_select(a > 0.0f, a, c[0] * grdi_expm1(a)))
TILE1(add_scalar, a + c[0])
TILE1(mul_scalar, a * c[0])
TILE1(clamp, grdi_min(grdi_set(c[1]), grdi_max(grdi_set(c[0]), a)))
TILE1(not, truth(a == 0.0f))
TILE1(isfinite, truth(grdi_abs(a) < INFINITY))
TILE1(to_bool, truth(a != 0.0f))
TILE1(to_bf16, round_to_bf16(a))
TILE_SCALAR(floor, floorf(x[0][i]))
TILE_SCALAR(ceil, ceilf(x[0][i]))
TILE_SCALAR(round, rintf(x[0][i]))
TILE_SCALAR(pow_scalar, powf(x[0][i], c[0]))
TILE_SCALAR(pow, powf(x[0][i], x[1][i]))
TILE_SCALAR(atan2, atan2f(x[0][i], x[1][i]))
TILE_SCALAR(fmod, fmodf(x[0][i], x[1][i]))
TILE2(add, a + b)
TILE2(sub, a - b)
TILE2(mul, a * b)
TILE2(div, a / b)
TILE2(maximum, larger(a, b))
TILE2(minimum, smaller(a, b))
TILE2(and, truth((a != 0.0f) & (b != 0.0f)))
TILE2(or, truth((a != 0.0f) | (b != 0.0f)))
TILE2(eq, truth(a == b))
TILE2(ne, truth(a != b))
TILE2(lt, truth(a < b))
TILE2(le, truth(a <= b))
TILE2(gt, truth(a > b))
TILE2(ge, truth(a >= b))
TILE2(relu_backward, grdi_select(b > 0.0f, a, grdi_set(0.0f)))
TILE2(relu_squared_backward, 2.0f * a * positive_part(b))
TILE2(gelu_backward, a * gelu_slope(b))
TILE2(gelu_tanh_backward, a * gelu_tanh_slope(b))
TILE2(silu_backward, a * silu_slope(b))
TILE2(tanh_backward, a * (1.0f - b * b))
TILE2(sigmoid_backward, a * b * (1.0f - b))
TILE2(mse, (a - b) * (a - b))
TILE2(l1, grdi_abs(a - b))
TILE2(huber, huber(a - b, c[0]))
TILE2(bce_with_logits, positive_part(a) - a * b + softplus_tail(a))
TILE2(kl_div, kl_term(a, b))

static void tile_where(float *o, const float *const *x, const float *c, int64_t n)
{
    (void)c;
    int64_t i = 0;
    for (; i + GRDI_LANES <= n; i += GRDI_LANES)
        grdi_store(o + i, grdi_select(grdi_load(x[0] + i) != 0.0f, grdi_load(x[1] + i), grdi_load(x[2] + i)));
    for (; i < n; i++)
        o[i] = x[0][i] != 0.0f ? x[1][i] : x[2][i];
}

/* X(op, inputs, cost): `cost` in units of an addition. copy and cast stand in copy.c; inside chains they are made from
 * tiles above. */
#define MAP_OPS(X)                                                                                                     \
    X(neg, 1, 1)                                                                                                       \
    X(abs, 1, 1)                                                                                                       \
    X(sign, 1, 1)                                                                                                      \
    X(exp, 1, 5) X(expm1, 1, 6) X(log, 1, 7) X(log1p, 1, 12) X(sqrt, 1, 4) X(rsqrt, 1, 6) X(reciprocal, 1, 3)          \
        X(square, 1, 1) X(sin, 1, 8) X(cos, 1, 8) X(tan, 1, 60) X(tanh, 1, 10) X(sigmoid, 1, 8) X(erf, 1, 14)          \
            X(relu, 1, 1) X(relu_squared, 1, 1) X(gelu, 1, 13) X(gelu_tanh, 1, 10) X(silu, 1, 8) X(softplus, 1, 16)    \
                X(leaky_relu, 1, 1) X(elu, 1, 7) X(add_scalar, 1, 1) X(mul_scalar, 1, 1) X(pow_scalar, 1, 40)          \
                    X(clamp, 1, 1) X(not, 1, 1) X(isfinite, 1, 1) X(floor, 1, 4) X(ceil, 1, 4) X(round, 1, 4)          \
                        X(pow, 2, 40) X(atan2, 2, 60) X(fmod, 2, 60) X(add, 2, 1) X(sub, 2, 1) X(mul, 2, 1)            \
                            X(div, 2, 3) X(maximum, 2, 1) X(minimum, 2, 1) X(and, 2, 1) X(or, 2, 1) X(eq, 2, 1)        \
                                X(ne, 2, 1) X(lt, 2, 1) X(le, 2, 1) X(gt, 2, 1) X(ge, 2, 1) X(relu_backward, 2, 1)     \
                                    X(relu_squared_backward, 2, 1) X(gelu_backward, 2, 14)                             \
                                        X(gelu_tanh_backward, 2, 12) X(silu_backward, 2, 9) X(tanh_backward, 2, 1)     \
                                            X(sigmoid_backward, 2, 1) X(mse, 2, 1) X(l1, 2, 1) X(huber, 2, 2)          \
                                                X(bce_with_logits, 2, 17) X(kl_div, 2, 8) X(where, 3, 1)

typedef struct tile_op {
    const char *name;
    tile_fn fn;
    int32_t inputs, cost;
} tile_op;

#define TILE_OP(name, inputs, cost) {#name, tile_##name, inputs, cost},
static const tile_op tile_ops[] = {MAP_OPS(TILE_OP) TILE_OP(copy, 1, 1){"assign", tile_add, 2, 1}};
#undef TILE_OP

static const tile_op *tile_op_find(const char *name)
{
    for (size_t i = 0; i < sizeof tile_ops / sizeof *tile_ops; i++)
        if (strcmp(tile_ops[i].name, name) == 0)
            return &tile_ops[i];
    return NULL;
}

#endif
