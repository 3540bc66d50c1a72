/* binary.c - arithmetic of two inputs, element by element with broadcasting. */
#include "ops/map.h"
#include "ops/table.h"

#include <gradus/ops_math.h>
#include <math.h>

/* A scalar of x's dtype. */
static grd_tensor scalar_like(grd_tensor x, double value)
{
    if (grd_is_poison(x)) return x;
    return grd_full(grd_tensor_graph(x), grd_tensor_dtype(x), grd_scalar(), value);
}

/* Defines an op from its value as an expression of `a` and `b`, and its gradients by a and b as expressions of the
 * tensors g (the gradient arriving), a, b and y (the output), in the broadcast shape. */
#define BINARY(NAME, SHAPE, FLAGS, VALUE, RULE_A, RULE_B, ...)                                                         \
    static double NAME##_value(const double *x, const grd_attr *attrs)                                                 \
    {                                                                                                                  \
        const double a = x[0], b = x[1];                                                                               \
        (void)attrs;                                                                                                   \
        return VALUE;                                                                                                  \
    }                                                                                                                  \
    static void NAME##_gradient(grdi_gradient *c)                                                                      \
    {                                                                                                                  \
        const grd_tensor g = c->grad_out[0], a = c->in[0], b = c->in[1], y = c->out[0];                                \
        (void)y;                                                                                                       \
        if (c->need[0]) c->grad_in[0] = grdi_sum_to_like(RULE_A, a);                                                   \
        if (c->need[1]) c->grad_in[1] = grdi_sum_to_like(RULE_B, b);                                                   \
    }                                                                                                                  \
    static const grdi_sample NAME##_samples[] = {__VA_ARGS__, {.in = {NULL}}};                                         \
    const grdi_op grdi_op_##NAME = {                                                                                   \
        .name = #NAME,                                                                                                 \
        .inputs = 2,                                                                                                   \
        .flags = GRDI_OP_MAP | (FLAGS),                                                                                \
        .shape = SHAPE,                                                                                                \
        .gradient = NAME##_gradient,                                                                                   \
        .reference = grdi_map_reference,                                                                               \
        .scalar = NAME##_value,                                                                                        \
        .inplace = {3},                                                                                                \
        .samples = NAME##_samples,                                                                                     \
    };                                                                                                                 \
    grd_tensor grd_##NAME(grd_tensor a, grd_tensor b)                                                                  \
    {                                                                                                                  \
        return GRDI_EMIT(&grdi_op_##NAME, a, b);                                                                       \
    }

/* The same shape, a row, a scalar, both broadcast, and what does not fit. */
#define SAMPLES(A, B)                                                                                                  \
    {.in = {"f32[7,13] " A, "f32[7,13] " B}}, {.in = {"f32[2,7,33] " A, "f32[33] " B}},                                \
    {.in = {"f32[] " A, "f32[13] " B}}, {.in = {"f32[7,1] " A, "f32[3,1,13] " B}},                                     \
    {.in = {"f32[6,24] " A, "f32[6,24] " B}}, {.in = {"f32[2,6,24] " A, "f32[24] " B}},                                \
    {.in = {"f32[6,1] " A, "f32[2,6,24] " B}}, {.in = {"f32[2,6,24] " A, "f32[6,24] " B}},                             \
    {.in = {"f32[3,4]", "f32[3]"}, .bad = "shapes do not broadcast: [3,4] and [3]"},                                   \
    {.in = {"f32[3]", "i32[3]"}, .bad = "dtypes differ"},                                                              \
    {                                                                                                                  \
        .in = {"f32[1024,1024] " A, "f32[1024,1024] " B}, .large = true                                                \
    }
#define INTEGER_SAMPLES                                                                                                \
    {.in = {"i32[7,13] -9..9", "i32[13] -9..9"}}, {.in = {"bool[3]", "bool[3]"}, .bad = "number dtype"}

BINARY(add, grdi_map_shape_number, GRDI_OP_FOLLOWS, a + b, g, g, SAMPLES("-2..2", "-2..2"),
       INTEGER_SAMPLES)
BINARY(sub, grdi_map_shape_number, GRDI_OP_FOLLOWS, a - b, g, grd_neg(g), SAMPLES("-2..2", "-2..2"),
       INTEGER_SAMPLES)
BINARY(mul, grdi_map_shape_number, GRDI_OP_FOLLOWS, a * b, grd_mul(g, b), grd_mul(g, a),
       SAMPLES("-2..2", "-2..2"), INTEGER_SAMPLES)
BINARY(div, grdi_map_shape, GRDI_OP_FOLLOWS, a / b, grd_div(g, b), grd_neg(grd_div(grd_mul(g, y), b)),
       SAMPLES("-2..2", "0.3..3"),
       {.in = {"i32[3]", "i32[3]"}, .bad = "float dtype"})

/* b a^(b-1), 0 where b is 0; and a^b log(a), 0 where a is 0 (log is given a 1 there: its own gradient stays finite). */
static grd_tensor power_by_base(grd_tensor g, grd_tensor a, grd_tensor b)
{
    grd_tensor zero = scalar_like(a, 0.0);
    return grd_where(grd_eq(b, zero), zero, grd_mul(g, grd_mul(b, grd_pow(a, grd_add_scalar(b, -1.0)))));
}

static grd_tensor power_by_exponent(grd_tensor g, grd_tensor a, grd_tensor y)
{
    grd_tensor zero = scalar_like(a, 0.0), is_zero = grd_eq(a, zero);
    grd_tensor logarithm = grd_log(grd_where(is_zero, scalar_like(a, 1.0), a));
    return grd_where(is_zero, zero, grd_mul(g, grd_mul(y, logarithm)));
}

BINARY(pow, grdi_map_shape, 0, pow(a, b), power_by_base(g, a, b), power_by_exponent(g, a, y),
       SAMPLES("0.3..3", "-2..2"))

/* g where `one` wins, half of it at a tie. */
static grd_tensor winner(grd_tensor g, grd_tensor wins, grd_tensor a, grd_tensor b)
{
    grd_tensor half = grd_mul_scalar(g, 0.5);
    return grd_where(wins, g, grd_where(grd_eq(a, b), half, scalar_like(g, 0.0)));
}

static double greater(double a, double b)
{
    return a != a || a > b ? a : b; /* NaN if either is */
}

static double lesser(double a, double b)
{
    return a != a || a < b ? a : b;
}

BINARY(maximum, grdi_map_shape_number, GRDI_OP_FOLLOWS, greater(a, b), winner(g, grd_gt(a, b), a, b),
       winner(g, grd_lt(a, b), a, b), SAMPLES("-2..2", "-2..2"), INTEGER_SAMPLES)
BINARY(minimum, grdi_map_shape_number, GRDI_OP_FOLLOWS, lesser(a, b), winner(g, grd_lt(a, b), a, b),
       winner(g, grd_gt(a, b), a, b), SAMPLES("-2..2", "-2..2"), INTEGER_SAMPLES)

static grd_tensor by_radius(grd_tensor g, grd_tensor a, grd_tensor b, grd_tensor by)
{
    return grd_div(grd_mul(g, by), grd_add(grd_square(a), grd_square(b)));
}

BINARY(atan2, grdi_map_shape, GRDI_OP_FOLLOWS, atan2(a, b), by_radius(g, a, b, b), grd_neg(by_radius(g, a, b, a)),
       SAMPLES("-2..2", "0.3..3"))
/* trunc(a / b) is (a - y) / b; samples keep a / b away from whole numbers */
BINARY(fmod, grdi_map_shape, GRDI_OP_FOLLOWS, fmod(a, b), g, grd_mul(g, grd_div(grd_sub(y, a), b)),
       SAMPLES("4.2..5.8", "1.95..2.05"))
