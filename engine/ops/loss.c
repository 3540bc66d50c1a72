/* loss.c - element-wise losses of a prediction and a target. */
#include "ops/map.h"
#include "ops/table.h"

#include "graph/build.h"

#include <gradus/ops_math.h>
#include <gradus/ops_nn.h>

#include <math.h>

/* Hands gradients of the broadcast shape to both inputs; the second may be poison where it is not wanted. */
static void give(grdi_gradient *g, grd_tensor to_first, grd_tensor to_second)
{
    if (g->need[0]) g->grad_in[0] = grdi_sum_to_like(to_first, g->in[0]);
    if (g->need[1]) g->grad_in[1] = grdi_sum_to_like(to_second, g->in[1]);
}

/* For losses of the difference of their inputs. */
static void give_difference(grdi_gradient *g, grd_tensor slope)
{
    grd_tensor to_first = grd_mul(g->grad_out[0], slope);
    give(g, to_first, g->need[1] ? grd_neg(to_first) : to_first);
}

/* ---- mse ---- */

static double mse_scalar(const double *x, const grd_attr *attrs)
{
    (void)attrs;
    return (x[0] - x[1]) * (x[0] - x[1]);
}

static void mse_gradient(grdi_gradient *g)
{
    give_difference(g, grd_mul_scalar(grd_sub(g->in[0], g->in[1]), 2));
}

static const grdi_sample mse_samples[] = {
    {.in = {"f32[4,7]", "f32[4,7]"}},
    {.in = {"f32[3,13,5]", "f32[13,1]"}},
    {.in = {"f32[7,1]", "f32[33]"}},
    {.in = {"f32[]", "f32[5]"}},
    {.in = {"f32[1024,1024]", "f32[1024,1024]"}, .large = true},
    {.in = {"f32[4,7]", "f32[4,6]"}, .bad = "[4,7] and [4,6]"},
    {.in = {"f32[4]", "i32[4] 0..1"}, .bad = "i32"},
    {.in = {NULL}},
};

const grdi_op grdi_op_mse = {
    .name = "mse",
    .inputs = 2,
    .flags = GRDI_OP_MAP,
    .shape = grdi_map_shape,
    .gradient = mse_gradient,
    .reference = grdi_map_reference,
    .scalar = mse_scalar,
    .inplace = {3},
    .samples = mse_samples,
};

/* ---- l1 ---- */

static double l1_scalar(const double *x, const grd_attr *attrs)
{
    (void)attrs;
    return fabs(x[0] - x[1]);
}

static void l1_gradient(grdi_gradient *g)
{
    give_difference(g, grd_sign(grd_sub(g->in[0], g->in[1])));
}

/* Ranges that do not meet, for there is a kink where the inputs are equal. */
static const grdi_sample l1_samples[] = {
    {.in = {"f32[4,7] 0.5..2", "f32[4,7] -2..0.25"}},
    {.in = {"f32[3,13,5] -3..-1", "f32[13,1] -0.5..4"}},
    {.in = {"f32[33]", "f32[33]"}, .no_gradient = true}, /* may come near the kink */
    {.in = {"f32[4,7]", "f32[4,6]"}, .bad = "[4,7] and [4,6]"},
    {.in = {NULL}},
};

const grdi_op grdi_op_l1 = {
    .name = "l1",
    .inputs = 2,
    .flags = GRDI_OP_MAP,
    .shape = grdi_map_shape,
    .gradient = l1_gradient,
    .reference = grdi_map_reference,
    .scalar = l1_scalar,
    .inplace = {3},
    .samples = l1_samples,
};

/* ---- huber ---- */

static bool huber_shape(grdi_infer *c)
{
    double delta = grdi_attr_float(c->attrs, "delta");
    if (!(delta > 0)) return grdi_infer_fail(c, GRD_E_ARGUMENT, "delta is %g, must be above 0", delta);
    return grdi_map_shape(c);
}

static double huber_scalar(const double *x, const grd_attr *attrs)
{
    double delta = grdi_attr_float(attrs, "delta"), d = x[0] - x[1];
    return fabs(d) <= delta ? 0.5 * d * d : delta * (fabs(d) - 0.5 * delta);
}

static void huber_gradient(grdi_gradient *g)
{
    double delta = grdi_attr_float(g->attrs, "delta");
    give_difference(g, grd_clamp(grd_sub(g->in[0], g->in[1]), -delta, delta));
}

/* The first derivative has kinks at |difference| = delta, so each sample keeps to one side. */
static const grdi_sample huber_samples[] = {
    {.in = {"f32[4,7] 0..0.4", "f32[4,7] -0.4..0"}},
    {.in = {"f32[3,13,5] 1..2", "f32[13,1] -2..-1"}, .attrs = "delta=0.5"},
    {.in = {"f32[7,1] -3..-2", "f32[33] 0..1"}, .attrs = "delta=1.5"},
    {.in = {"f32[65]", "f32[65]"}, .no_gradient = true}, /* may come near a kink */
    {.in = {"f32[4]", "f32[4]"}, .attrs = "delta=0", .bad = "delta is 0, must be above 0"},
    {.in = {"f32[4,7]", "f32[4,6]"}, .bad = "[4,7] and [4,6]"},
    {.in = {NULL}},
};

const grdi_op grdi_op_huber = {
    .name = "huber",
    .inputs = 2,
    .flags = GRDI_OP_MAP,
    .attrs = {GRD_FLOAT("delta", 1)},
    .shape = huber_shape,
    .gradient = huber_gradient,
    .reference = grdi_map_reference,
    .scalar = huber_scalar,
    .inplace = {3},
    .samples = huber_samples,
};

/* ---- bce_with_logits ---- */

static double bce_with_logits_scalar(const double *x, const grd_attr *attrs)
{
    (void)attrs;
    return (x[0] > 0 ? x[0] : 0) - x[0] * x[1] + log1p(exp(-fabs(x[0])));
}

/* dx = g (sigmoid(x) - target), dtarget = -g x */
static void bce_with_logits_gradient(grdi_gradient *g)
{
    grd_tensor grad = g->grad_out[0], none = {NULL, 0};
    give(g, g->need[0] ? grd_mul(grad, grd_sub(grd_sigmoid(g->in[0]), g->in[1])) : none,
         g->need[1] ? grd_neg(grd_mul(grad, g->in[0])) : none);
}

static const grdi_sample bce_with_logits_samples[] = {
    {.in = {"f32[4,7]", "f32[4,7] 0..1"}},
    {.in = {"f32[3,13,5] -6..6", "f32[13,1] 0..1"}},
    {.in = {"f32[33] -90..90", "f32[33] 0..1"}, .no_gradient = true}, /* too large for differences */
    {.in = {"f32[4,7]", "f32[4,6]"}, .bad = "[4,7] and [4,6]"},
    {.in = {NULL}},
};

const grdi_op grdi_op_bce_with_logits = {
    .name = "bce_with_logits",
    .inputs = 2,
    .flags = GRDI_OP_MAP,
    .shape = grdi_map_shape,
    .gradient = bce_with_logits_gradient,
    .reference = grdi_map_reference,
    .scalar = bce_with_logits_scalar,
    .inplace = {3},
    .tolerance = 2e-6, /* exponential, logarithm and two sums */
    .samples = bce_with_logits_samples,
};

/* ---- kl_div ---- */

static double kl_div_scalar(const double *x, const grd_attr *attrs)
{
    (void)attrs;
    return x[1] == 0 ? 0 : x[1] * (log(x[1]) - x[0]);
}

/* dlog_probability = -g target, dtarget = g (log(target) + 1 - log_probability) */
static void kl_div_gradient(grdi_gradient *g)
{
    grd_tensor grad = g->grad_out[0], none = {NULL, 0}, to_target = none;
    if (g->need[1]) to_target = grd_mul(grad, grd_sub(grd_add_scalar(grd_log(g->in[1]), 1), g->in[0]));
    give(g, g->need[0] ? grd_neg(grd_mul(grad, g->in[1])) : none, to_target);
}

static const grdi_sample kl_div_samples[] = {
    {.in = {"f32[4,7] -4..-0.1", "f32[4,7] 0.1..1"}},
    {.in = {"f32[3,13,5] -4..-0.1", "f32[13,1] 0.1..1"}},
    {.in = {"f32[33] -4..-0.1", "f32[33] 0..0"}, .no_gradient = true}, /* vertical at a target of 0 */
    {.in = {"f32[4,7]", "f32[4,6]"}, .bad = "[4,7] and [4,6]"},
    {.in = {NULL}},
};

const grdi_op grdi_op_kl_div = {
    .name = "kl_div",
    .inputs = 2,
    .flags = GRDI_OP_MAP,
    .shape = grdi_map_shape,
    .gradient = kl_div_gradient,
    .reference = grdi_map_reference,
    .scalar = kl_div_scalar,
    .inplace = {3},
    .tolerance = 2e-6, /* a logarithm, a difference that may cancel, a product */
    .samples = kl_div_samples,
};

/* ---- typed calls ---- */

grd_tensor grd_mse(grd_tensor prediction, grd_tensor target)
{
    return GRDI_EMIT(&grdi_op_mse, prediction, target);
}

grd_tensor grd_l1(grd_tensor prediction, grd_tensor target)
{
    return GRDI_EMIT(&grdi_op_l1, prediction, target);
}

grd_tensor grd_huber(grd_tensor prediction, grd_tensor target, double delta)
{
    return GRDI_EMIT_ATTRS(&grdi_op_huber, GRDI_LIST(grd_attr, GRD_FLOAT("delta", delta)), prediction, target);
}

grd_tensor grd_bce_with_logits(grd_tensor logits, grd_tensor target)
{
    return GRDI_EMIT(&grdi_op_bce_with_logits, logits, target);
}

grd_tensor grd_kl_div(grd_tensor log_probability, grd_tensor target)
{
    return GRDI_EMIT(&grdi_op_kl_div, log_probability, target);
}
