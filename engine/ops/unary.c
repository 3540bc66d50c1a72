/* unary.c - ops of one input, element by element, and the derivatives of activations. Tables hold value and gradient of
 * most of them. */
#include "base/convert.h"
#include "ops/map.h"
#include "ops/table.h"

#include <gradus/ops_math.h>
#include <math.h>

static const double pi = 3.14159265358979323846;

static double sigmoid_of(double x)
{
    return x >= 0.0 ? 1.0 / (1.0 + exp(-x)) : exp(x) / (1.0 + exp(x));
}

static grd_tensor scaled(grd_tensor x, double value)
{
    return grd_mul_scalar(x, value);
}

/* A scalar of x's dtype, to compare x with. */
static grd_tensor scalar_like(grd_tensor x, double value)
{
    if (grd_is_poison(x)) return x;
    return grd_full(grd_tensor_graph(x), grd_tensor_dtype(x), grd_scalar(), value);
}

/* UNARY_OP defines an op from its value as an expression of `x` and its gradient as one of the tensors g (the gradient
 * arriving), x and y (input and output). RANGE is where samples lie: where the function is smooth and defined. */
#define UNARY_OP(NAME, SHAPE, VALUE, FLAGS, GRADIENT, COMPOSE, ...)                                                    \
    static double NAME##_value(const double *in, const grd_attr *attrs)                                                \
    {                                                                                                                  \
        const double x = in[0];                                                                                        \
        (void)attrs;                                                                                                   \
        return VALUE;                                                                                                  \
    }                                                                                                                  \
    static const grdi_sample NAME##_samples[] = {__VA_ARGS__, {.in = {NULL}}};                                         \
    const grdi_op grdi_op_##NAME = {                                                                                   \
        .name = #NAME,                                                                                                 \
        .inputs = 1,                                                                                                   \
        .flags = GRDI_OP_MAP | (FLAGS),                                                                                \
        .shape = SHAPE,                                                                                                \
        .gradient = GRADIENT,                                                                                          \
        .compose = COMPOSE,                                                                                            \
        .reference = grdi_map_reference,                                                                               \
        .scalar = NAME##_value,                                                                                        \
        .inplace = {1},                                                                                                \
        .samples = NAME##_samples,                                                                                     \
    };                                                                                                                 \
    grd_tensor grd_##NAME(grd_tensor x)                                                                                \
    {                                                                                                                  \
        return GRDI_EMIT(&grdi_op_##NAME, x);                                                                          \
    }

#define GRADIENT_RULE(NAME, RULE)                                                                                      \
    static void NAME##_gradient(grdi_gradient *c)                                                                      \
    {                                                                                                                  \
        const grd_tensor g = c->grad_out[0], x = c->in[0], y = c->out[0];                                              \
        (void)g, (void)x, (void)y;                                                                                     \
        c->grad_in[0] = RULE;                                                                                          \
    }

#define FLOAT_SAMPLES(RANGE)                                                                                           \
    {.in = {"f32[7,13] " RANGE}}, {.in = {"f32[2,1,33] " RANGE}}, {.in = {"f32[6,24] " RANGE}},                        \
        {.in = {"i32[3] 0..5"}, .bad = "float dtype"},                                                                 \
    {                                                                                                                  \
        .in = {"f32[1024,1024] " RANGE}, .large = true                                                                 \
    }
#define NUMBER_SAMPLES(RANGE)                                                                                          \
    {.in = {"f32[7,13] " RANGE}}, {.in = {"f32[2,1,33] " RANGE}}, {.in = {"i32[3] 0..5"}},                             \
    {                                                                                                                  \
        .in = {"bool[3]"}, .bad = "number dtype"                                                                       \
    }

#define UNARY(NAME, VALUE, RULE, RANGE)                                                                                \
    GRADIENT_RULE(NAME, RULE)                                                                                          \
    UNARY_OP(NAME, grdi_map_shape, VALUE, GRDI_OP_FOLLOWS, NAME##_gradient, NULL, FLOAT_SAMPLES(RANGE))
/* Steep, or one step of a loss: bf16 precision leaves its results in f32. */
#define UNARY_F32(NAME, VALUE, RULE, RANGE)                                                                            \
    GRADIENT_RULE(NAME, RULE)                                                                                          \
    UNARY_OP(NAME, grdi_map_shape, VALUE, 0, NAME##_gradient, NULL, FLOAT_SAMPLES(RANGE))
#define UNARY_NUMBER(NAME, VALUE, RULE, RANGE)                                                                         \
    GRADIENT_RULE(NAME, RULE)                                                                                          \
    UNARY_OP(NAME, grdi_map_shape_number, VALUE, GRDI_OP_FOLLOWS, NAME##_gradient, NULL, NUMBER_SAMPLES(RANGE))
#define UNARY_FLAT(NAME, VALUE)                                                                                        \
    UNARY_OP(NAME, grdi_map_shape, VALUE, GRDI_OP_NO_GRADIENT | GRDI_OP_FOLLOWS, NULL, NULL, FLOAT_SAMPLES("-4..4"))

/*           name        value                       gradient                                                 samples */
UNARY_NUMBER(neg,        -x,                         grd_neg(g),                                               "-2..2")
UNARY_NUMBER(abs,        fabs(x),                    grd_mul(g, grd_sign(x)),                                  "-2..2")
UNARY_NUMBER(square,     x * x,                      scaled(grd_mul(g, x), 2.0),                               "-2..2")
UNARY_F32(exp,           exp(x),                     grd_mul(g, y),                                            "-3..3")
UNARY_F32(expm1,         expm1(x),                   grd_mul(g, grd_add_scalar(y, 1.0)),                       "-3..3")
UNARY_F32(log,           log(x),                     grd_div(g, x),                                            "0.1..3")
UNARY_F32(log1p,         log1p(x),                   grd_div(g, grd_add_scalar(x, 1.0)),                      "-0.5..3")
UNARY(sqrt,              sqrt(x),                    scaled(grd_div(g, y), 0.5),                               "0.1..3")
UNARY_F32(rsqrt,         1.0 / sqrt(x),              scaled(grd_mul(g, grd_mul(y, grd_square(y))), -0.5),      "0.2..3")
UNARY_F32(reciprocal,    1.0 / x,                    grd_neg(grd_mul(g, grd_square(y))),                       "0.3..3")
UNARY(sin,               sin(x),                     grd_mul(g, grd_cos(x)),                                   "-6..6")
UNARY(cos,               cos(x),                     grd_neg(grd_mul(g, grd_sin(x))),                          "-6..6")
UNARY_F32(tan,           tan(x),                     grd_mul(g, grd_add_scalar(grd_square(y), 1.0)),           "-1..1")
UNARY(tanh,              tanh(x),                    grd_tanh_backward(g, y),                                  "-4..4")
UNARY(sigmoid,           sigmoid_of(x),              grd_sigmoid_backward(g, y),                               "-6..6")
UNARY_F32(softplus,      log1p(exp(-fabs(x))) + fmax(x, 0.0), grd_mul(g, grd_sigmoid(x)),                      "-6..6")
UNARY(erf,               erf(x), scaled(grd_mul(g, grd_exp(grd_neg(grd_square(x)))), 2.0 / sqrt(pi)),          "-3..3")
UNARY(relu,              x < 0.0 ? 0.0 : x,          grd_relu_backward(g, y),                                  "-2..2")
UNARY_FLAT(floor,        floor(x))
UNARY_FLAT(ceil,         ceil(x))
UNARY_FLAT(round,        rint(x)) /* the rounding mode of the environment, which is to nearest, ties to even */

UNARY_OP(sign, grdi_map_shape_number, (x > 0.0) - (x < 0.0) + (x != x ? x : 0.0),
         GRDI_OP_NO_GRADIENT | GRDI_OP_FOLLOWS, NULL, NULL, NUMBER_SAMPLES("-2..2"))

GRADIENT_RULE(copy, g)
UNARY_OP(copy, grdi_map_shape_any, x, GRDI_OP_FOLLOWS, copy_gradient, NULL,
         {.in = {"f32[7,13]"}}, {.in = {"i32[2,1,33] -9..9"}}, {.in = {"i64[5,7] -9..9"}},
         {.in = {"bool[5]"}}, {.in = {"f32[3]", "f32[3]"}, .bad = "takes 1 to 1 inputs"},
         {.in = {"f32[1024,1024]"}, .large = true})

UNARY_OP(not, grdi_map_shape_logic, x == 0.0, GRDI_OP_NO_GRADIENT, NULL, NULL, {.in = {"bool[7,13]"}},
         {.in = {"bool[1]"}}, {.in = {"f32[3]"}, .bad = "must be bool"})

static bool isfinite_shape(grdi_infer *c)
{
    bool ok = grdi_map_shape(c);
    c->out[0].dtype = GRD_BOOL;
    return ok;
}
UNARY_OP(isfinite, isfinite_shape, isfinite(x) ? 1.0 : 0.0, GRDI_OP_NO_GRADIENT, NULL, NULL, FLOAT_SAMPLES("-2..2"))

/* ---- activations whose derivative is an op of its own, and what they consist of ---- */

static grd_tensor phi_integral(grd_tensor x) /* Phi(x), the standard normal distribution */
{
    return scaled(grd_add_scalar(grd_erf(scaled(x, sqrt(0.5))), 1.0), 0.5);
}

static grd_tensor gelu_tanh_inner(grd_tensor x) /* sqrt(2/pi) (x + 0.044715 x^3) */
{
    return scaled(grd_mul(x, grd_add_scalar(scaled(grd_square(x), 0.044715), 1.0)), sqrt(2.0 / pi));
}

#define COMPOSE_RULE(NAME, RULE)                                                                                       \
    static void NAME##_compose(grdi_compose *c)                                                                        \
    {                                                                                                                  \
        const grd_tensor x = c->in[0];                                                                                 \
        c->out[0] = RULE;                                                                                              \
    }
#define ACTIVATION(NAME, VALUE, RULE)                                                                                  \
    COMPOSE_RULE(NAME, RULE)                                                                                           \
    GRADIENT_RULE(NAME, grd_##NAME##_backward(g, x))                                                                   \
    UNARY_OP(NAME, grdi_map_shape, VALUE, GRDI_OP_FOLLOWS, NAME##_gradient, NAME##_compose, FLOAT_SAMPLES("-4..4"))

/*         name          value                                                     from simpler ops */
ACTIVATION(gelu,         x * 0.5 * (1.0 + erf(x * sqrt(0.5))),                     grd_mul(x, phi_integral(x)))
ACTIVATION(gelu_tanh,    x * 0.5 * (1.0 + tanh(sqrt(2.0 / pi) * (x + 0.044715 * x * x * x))),
           scaled(grd_mul(x, grd_add_scalar(grd_tanh(gelu_tanh_inner(x)), 1.0)), 0.5))
ACTIVATION(silu,         x * sigmoid_of(x),                                        grd_mul(x, grd_sigmoid(x)))
ACTIVATION(relu_squared, x < 0.0 ? 0.0 : x * x,                                    grd_square(grd_relu(x)))

/* ---- their derivatives times g ---- */

static bool backward_shape(grdi_infer *c)
{
    char g[GRD_DIMS_TEXT_MAX], x[GRD_DIMS_TEXT_MAX];
    if (!grdi_map_shape(c)) return false;
    if (grd_dims_equal(c->in[0].dims, c->in[1].dims)) return true;
    return grdi_infer_fail(c, GRD_E_SHAPE, "the gradient is %s, the value %s", grd_dims_text(c->in[0].dims, g),
                           grd_dims_text(c->in[1].dims, x));
}

#define BACKWARD_OP(NAME, VALUE, GRADIENT, COMPOSE)                                                                    \
    static double NAME##_value(const double *in, const grd_attr *attrs)                                                \
    {                                                                                                                  \
        const double g = in[0], x = in[1];                                                                             \
        (void)attrs;                                                                                                   \
        return VALUE;                                                                                                  \
    }                                                                                                                  \
    static const grdi_sample NAME##_samples[] = {                                                                      \
        {.in = {"f32[7,13]", "f32[7,13] -4..4"}},                                                                      \
        {.in = {"f32[2,1,33]", "f32[2,1,33] -2..2"}},                                                                  \
        {.in = {"f32[6,24]", "f32[6,24] -3..3"}},                                                                      \
        {.in = {"f32[3]", "f32[1]"}, .bad = "the gradient is [3], the value [1]"},                                     \
        {.in = {"f32[3]", "i32[3]"}, .bad = "dtypes differ"},                                                          \
        {.in = {"f32[1024,1024]", "f32[1024,1024] -4..4"}, .large = true},                                             \
        {.in = {NULL}},                                                                                                \
    };                                                                                                                 \
    const grdi_op grdi_op_##NAME = {                                                                                   \
        .name = #NAME,                                                                                                 \
        .inputs = 2,                                                                                                   \
        .flags = GRDI_OP_MAP | GRDI_OP_FOLLOWS,                                                                        \
        .shape = backward_shape,                                                                                       \
        .gradient = GRADIENT,                                                                                          \
        .compose = COMPOSE,                                                                                            \
        .reference = grdi_map_reference,                                                                               \
        .scalar = NAME##_value,                                                                                        \
        .inplace = {3},                                                                                                \
        .tolerance = 4e-6, /* a dozen roundings, in sums of terms of both signs */                                     \
        .samples = NAME##_samples,                                                                                     \
    };                                                                                                                 \
    grd_tensor grd_##NAME(grd_tensor g, grd_tensor x)                                                                  \
    {                                                                                                                  \
        return GRDI_EMIT(&grdi_op_##NAME, g, x);                                                                       \
    }

/* Differentiated through its compose: RULE, g f'(x) from simpler ops. */
#define BACKWARD(NAME, VALUE, RULE)                                                                                    \
    static void NAME##_compose(grdi_compose *c)                                                                        \
    {                                                                                                                  \
        const grd_tensor g = c->in[0], x = c->in[1];                                                                   \
        c->out[0] = RULE;                                                                                              \
    }                                                                                                                  \
    BACKWARD_OP(NAME, VALUE, NULL, NAME##_compose)

static double gelu_slope(double x)
{
    return 0.5 * (1.0 + erf(x * sqrt(0.5))) + x * exp(-0.5 * x * x) / sqrt(2.0 * pi);
}

static double gelu_tanh_slope(double x)
{
    double t = tanh(sqrt(2.0 / pi) * (x + 0.044715 * x * x * x));
    return 0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * sqrt(2.0 / pi) * (1.0 + 3.0 * 0.044715 * x * x);
}

static double silu_slope(double x)
{
    double s = sigmoid_of(x);
    return s * (1.0 + x * (1.0 - s));
}

static grd_tensor normal_density(grd_tensor x) /* exp(-x^2 / 2) / sqrt(2 pi) */
{
    return scaled(grd_exp(scaled(grd_square(x), -0.5)), 1.0 / sqrt(2.0 * pi));
}

static grd_tensor one_minus(grd_tensor x)
{
    return grd_add_scalar(grd_neg(x), 1.0);
}

static grd_tensor compose_gelu_tanh_slope(grd_tensor x)
{
    grd_tensor t = grd_tanh(gelu_tanh_inner(x));
    grd_tensor inner_slope = scaled(grd_add_scalar(scaled(grd_square(x), 3.0 * 0.044715), 1.0), sqrt(2.0 / pi));
    grd_tensor rest = grd_mul(grd_mul(x, one_minus(grd_square(t))), inner_slope);
    return scaled(grd_add(grd_add_scalar(t, 1.0), rest), 0.5);
}

static grd_tensor compose_silu_slope(grd_tensor x)
{
    grd_tensor s = grd_sigmoid(x);
    return grd_mul(s, grd_add_scalar(grd_mul(x, one_minus(s)), 1.0));
}

BACKWARD(gelu_backward, g * gelu_slope(x), grd_mul(g, grd_add(phi_integral(x), grd_mul(x, normal_density(x)))))
BACKWARD(gelu_tanh_backward, g * gelu_tanh_slope(x), grd_mul(g, compose_gelu_tanh_slope(x)))
BACKWARD(silu_backward, g * silu_slope(x), grd_mul(g, compose_silu_slope(x)))
BACKWARD(relu_squared_backward, x > 0.0 ? 2.0 * g * x : 0.0, scaled(grd_mul(g, grd_relu(x)), 2.0))
BACKWARD(tanh_backward, g * (1.0 - x * x), grd_mul(g, one_minus(grd_square(x))))
BACKWARD(sigmoid_backward, g * x * (1.0 - x), grd_mul(g, grd_mul(x, one_minus(x))))

/* Linear in g and flat in x. */
static void relu_backward_gradient(grdi_gradient *c)
{
    c->grad_in[0] = grd_relu_backward(c->grad_out[0], c->in[1]);
}
BACKWARD_OP(relu_backward, x > 0.0 ? g : 0.0, relu_backward_gradient, NULL)

/* ---- with a FLOAT attribute ---- */

/* As UNARY_OP, for an op with the attribute KEY, which is `k` in VALUE and RULE. */
#define UNARY_WITH(NAME, KEY, DEFAULT, SHAPE, FLAGS, VALUE, RULE, ...)                                                 \
    static double NAME##_value(const double *in, const grd_attr *attrs)                                                \
    {                                                                                                                  \
        const double x = in[0], k = grdi_attr_float(attrs, #KEY);                                                      \
        return VALUE;                                                                                                  \
    }                                                                                                                  \
    static void NAME##_gradient(grdi_gradient *c)                                                                      \
    {                                                                                                                  \
        const grd_tensor g = c->grad_out[0], x = c->in[0], y = c->out[0];                                              \
        const double k = grdi_attr_float(c->attrs, #KEY);                                                              \
        (void)g, (void)x, (void)y, (void)k;                                                                            \
        c->grad_in[0] = RULE;                                                                                          \
    }                                                                                                                  \
    static const grdi_sample NAME##_samples[] = {__VA_ARGS__, {.in = {NULL}}};                                         \
    const grdi_op grdi_op_##NAME = {                                                                                   \
        .name = #NAME,                                                                                                 \
        .inputs = 1,                                                                                                   \
        .flags = GRDI_OP_MAP | (FLAGS),                                                                                \
        .attrs = {GRD_FLOAT(#KEY, DEFAULT)},                                                                           \
        .shape = SHAPE,                                                                                                \
        .gradient = NAME##_gradient,                                                                                   \
        .reference = grdi_map_reference,                                                                               \
        .scalar = NAME##_value,                                                                                        \
        .inplace = {1},                                                                                                \
        .samples = NAME##_samples,                                                                                     \
    };                                                                                                                 \
    grd_tensor grd_##NAME(grd_tensor x, double KEY)                                                                    \
    {                                                                                                                  \
        return GRDI_EMIT_ATTRS(&grdi_op_##NAME, GRDI_LIST(grd_attr, GRD_FLOAT(#KEY, KEY)), x);                         \
    }

static grd_tensor positive(grd_tensor x)
{
    return grd_gt(x, scalar_like(x, 0.0));
}

/* k x^(k-1), without 0^-1 for k = 0 and with fewer nodes where k is 1 or 2. */
static grd_tensor power_gradient(grd_tensor g, grd_tensor x, double k)
{
    if (k == 0.0) return grd_zeros_like(x);
    if (k == 1.0) return g;
    return scaled(grd_mul(g, k == 2.0 ? x : grd_pow_scalar(x, k - 1.0)), k);
}

UNARY_WITH(add_scalar, value, 0.0, grdi_map_shape_number, GRDI_OP_FOLLOWS, x + k, g,
           {.in = {"f32[7,13]"}, .attrs = "value=0.75"},
           {.in = {"i32[2,1,33] -9..9"}, .attrs = "value=-3"}, {.in = {"bool[3]"}, .bad = "number dtype"})
UNARY_WITH(mul_scalar, value, 1.0, grdi_map_shape_number, GRDI_OP_FOLLOWS, x * k, scaled(g, k),
           {.in = {"f32[7,13]"}, .attrs = "value=-1.5"}, {.in = {"i32[2,1,33] -9..9"}, .attrs = "value=3"},
           {.in = {"bool[3]"}, .bad = "number dtype"})
UNARY_WITH(pow_scalar, value, 1.0, grdi_map_shape, 0, pow(x, k), power_gradient(g, x, k),
           {.in = {"f32[7,13] 0.2..3"}, .attrs = "value=1.7"}, {.in = {"f32[33] -2..2"}, .attrs = "value=3"},
           {.in = {"f32[5] 0.5..2"}, .attrs = "value=-0.5"}, {.in = {"f32[5] -2..2"}, .attrs = "value=2"},
           {.in = {"f32[5] -2..2"}, .attrs = "value=0"}, {.in = {"i32[3] 0..5"}, .bad = "float dtype"})
UNARY_WITH(leaky_relu, slope, 0.01, grdi_map_shape, GRDI_OP_FOLLOWS, x > 0.0 ? x : k * x,
           grd_where(positive(x), g, scaled(g, k)),
           FLOAT_SAMPLES("-2..2"), {.in = {"f32[5,3]"}, .attrs = "slope=0.3"})
UNARY_WITH(elu, alpha, 1.0, grdi_map_shape, GRDI_OP_FOLLOWS, x > 0.0 ? x : k * expm1(x),
           grd_where(positive(x), g, grd_mul(g, grd_add_scalar(y, k))), FLOAT_SAMPLES("-2..2"),
           {.in = {"f32[5,3]"}, .attrs = "alpha=0.7"})

/* ---- clamp ---- */

static bool clamp_shape(grdi_infer *c)
{
    double low = grdi_attr_float(c->attrs, "low"), high = grdi_attr_float(c->attrs, "high");
    if (!(low <= high)) return grdi_infer_fail(c, GRD_E_ARGUMENT, "low is %g, above high, %g", low, high);
    return grdi_map_shape_number(c);
}

static double clamp_value(const double *x, const grd_attr *attrs)
{
    double low = grdi_attr_float(attrs, "low"), high = grdi_attr_float(attrs, "high");
    return x[0] < low ? low : x[0] > high ? high : x[0];
}

static void clamp_gradient(grdi_gradient *c)
{
    const grd_tensor g = c->grad_out[0], x = c->in[0];
    grd_tensor low = scalar_like(x, grdi_attr_float(c->attrs, "low"));
    grd_tensor high = scalar_like(x, grdi_attr_float(c->attrs, "high"));
    c->grad_in[0] = grd_where(grd_and(grd_ge(x, low), grd_le(x, high)), g, scalar_like(g, 0.0));
}

static const grdi_sample clamp_samples[] = {
    {.in = {"f32[7,13]"}, .attrs = "low=-0.7 high=1.1"},
    {.in = {"i32[33] -9..9"}, .attrs = "low=-4 high=5"},
    {.in = {"f32[3]"}, .attrs = "low=2 high=1", .bad = "low is 2, above high, 1"},
    {.in = {NULL}},
};

const grdi_op grdi_op_clamp = {
    .name = "clamp",
    .inputs = 1,
    .flags = GRDI_OP_MAP | GRDI_OP_FOLLOWS,
    .attrs = {GRD_FLOAT("low", 0.0), GRD_FLOAT("high", 1.0)},
    .shape = clamp_shape,
    .gradient = clamp_gradient,
    .reference = grdi_map_reference,
    .scalar = clamp_value,
    .inplace = {1},
    .samples = clamp_samples,
};

grd_tensor grd_clamp(grd_tensor x, double low, double high)
{
    return GRDI_EMIT_ATTRS(&grdi_op_clamp, GRDI_LIST(grd_attr, GRD_FLOAT("low", low), GRD_FLOAT("high", high)), x);
}

/* ---- cast ---- */

static bool cast_shape(grdi_infer *c)
{
    int64_t dtype = grdi_attr_int(c->attrs, "dtype");
    if (dtype < 0 || dtype >= GRD_DTYPE_COUNT)
        return grdi_infer_fail(c, GRD_E_ARGUMENT, "%lld is no dtype", (long long)dtype);
    c->out[0] = (grdi_type){(grd_dtype)dtype, c->in[0].dims};
    return true;
}

static double truncated(double x, double low, double high)
{
    return x != x ? 0.0 : x < low ? low : x > high ? high : trunc(x);
}

/* f32 and f64 are left to whoever stores the value: in double-precision checks "f32" is f64. The upper bound of i64 is
 * the double nearest to it from below. */
static double cast_value(const double *x, const grd_attr *attrs)
{
    switch ((grd_dtype)grdi_attr_int(attrs, "dtype")) {
    case GRD_BF16: return grdi_bf16_to_f32(grdi_f32_to_bf16((float)x[0]));
    case GRD_F16: return grdi_f16_to_f32(grdi_f32_to_f16((float)x[0]));
    case GRD_I32: return truncated(x[0], INT32_MIN, INT32_MAX);
    case GRD_I64: return truncated(x[0], -9223372036854775808.0, 9223372036854774784.0);
    case GRD_U8: return truncated(x[0], 0.0, 255.0);
    case GRD_BOOL: return x[0] != 0.0;
    default: return x[0];
    }
}

static void cast_gradient(grdi_gradient *c)
{
    if (!grd_dtype_is_float(grd_tensor_dtype(c->out[0]))) return;
    c->grad_in[0] = grd_cast(c->grad_out[0], grd_tensor_dtype(c->in[0]));
}

static const grdi_sample cast_samples[] = {
    {.in = {"f32[7,13]"}, .attrs = "dtype=f64"},
    {.in = {"i32[5] -9..9"}, .attrs = "dtype=f32"},
    {.in = {"bool[2,1,33]"}, .attrs = "dtype=f32"},
    {.in = {"f32[33] -9..9"}, .attrs = "dtype=i32", .no_gradient = true}, /* constant between steps */
    {.in = {"f32[33]"}, .attrs = "dtype=bf16", .no_gradient = true},      /* rounding hides small differences */
    {.in = {"f32[33]"}, .attrs = "dtype=bool", .no_gradient = true},
    {.in = {"f32[5,24]"}, .attrs = "dtype=bf16", .no_gradient = true},
    {.in = {"bool[5,24]"}, .attrs = "dtype=f32"},
    {.in = {"f32[3]", "f32[3]"}, .bad = "takes 1 to 1 inputs"},
    {.in = {NULL}},
};

const grdi_op grdi_op_cast = {
    .name = "cast",
    .inputs = 1,
    .flags = GRDI_OP_MAP,
    .attrs = {GRD_TYPE("dtype", GRD_F32)},
    .shape = cast_shape,
    .gradient = cast_gradient,
    .reference = grdi_map_reference,
    .scalar = cast_value,
    .inplace = {1},
    .samples = cast_samples,
};

grd_tensor grd_cast(grd_tensor x, grd_dtype dtype)
{
    if (!grd_is_poison(x) && grd_tensor_dtype(x) == dtype) return x;
    return GRDI_EMIT_ATTRS(&grdi_op_cast, GRDI_LIST(grd_attr, GRD_TYPE("dtype", dtype)), x);
}
