/* softmax.c - softmax and log_softmax along one axis. */
#include "ops/axis.h"
#include "ops/table.h"

#include <gradus/ops_math.h>
#include <gradus/ops_nn.h>

#include <math.h>

static bool softmax_shape(grdi_infer *c)
{
    if (!grdi_infer_float(c, 0)) return false;
    if (grdi_infer_axis(c, grdi_attr_int(c->attrs, "axis"), c->in[0].dims.rank) < 0) return false;
    c->out[0] = c->in[0];
    return true;
}

/* Both references: y_i = exp(x_i - max) / sum, or its logarithm x_i - max - log(sum). */
static void softmax_loops(const grdi_reference *r, bool logarithm)
{
    grdi_axis a = grdi_axis_of(r->in_type[0].dims, grdi_attr_int(r->attrs, "axis"));
    for (int64_t o = 0; o < a.outer; o++) {
        for (int64_t n = 0; n < a.inner; n++) {
            const double *x = r->in[0] + o * a.size * a.inner + n;
            double *y = r->out[0] + o * a.size * a.inner + n;
            double most = -INFINITY, sum = 0;
            for (int64_t i = 0; i < a.size; i++)
                if (x[i * a.inner] > most) most = x[i * a.inner];
            for (int64_t i = 0; i < a.size; i++) sum += exp(x[i * a.inner] - most);
            for (int64_t i = 0; i < a.size; i++) {
                double shifted = x[i * a.inner] - most;
                y[i * a.inner] = logarithm ? shifted - log(sum) : exp(shifted) / sum;
            }
        }
    }
}

static void softmax_reference(const grdi_reference *r)
{
    softmax_loops(r, false);
}

static void log_softmax_reference(const grdi_reference *r)
{
    softmax_loops(r, true);
}

static grd_tensor log_softmax_of(grd_tensor x, int64_t axis)
{
    return grd_sub(x, grd_logsumexp_axis(x, axis, true));
}

static void softmax_compose(grdi_compose *c)
{
    c->out[0] = grd_exp(log_softmax_of(c->in[0], grdi_attr_int(c->attrs, "axis")));
}

static void log_softmax_compose(grdi_compose *c)
{
    c->out[0] = log_softmax_of(c->in[0], grdi_attr_int(c->attrs, "axis"));
}

/* dx = y (g - sum(g y)) */
static void softmax_gradient(grdi_gradient *g)
{
    grd_tensor gy = grd_mul(g->grad_out[0], g->out[0]);
    grd_tensor sum = grd_sum_axis(gy, grdi_attr_int(g->attrs, "axis"), true);
    g->grad_in[0] = grd_sub(gy, grd_mul(g->out[0], sum));
}

/* dx = g - exp(y) sum(g) */
static void log_softmax_gradient(grdi_gradient *g)
{
    grd_tensor sum = grd_sum_axis(g->grad_out[0], grdi_attr_int(g->attrs, "axis"), true);
    g->grad_in[0] = grd_sub(g->grad_out[0], grd_mul(grd_exp(g->out[0]), sum));
}

/* Maximum, exponential and sum, division: five operations an element. */
static double softmax_flops(const grdi_type *in, int32_t input_count, const grdi_type *out, const grd_attr *attrs)
{
    (void)in, (void)input_count, (void)attrs;
    return 5.0 * (double)grd_dims_count(out[0].dims);
}

static const grdi_sample softmax_samples[] = {
    {.in = {"f32[4,7]"}},
    {.in = {"f32[3,33]"}, .attrs = "axis=1"},
    {.in = {"f32[2,13,5]"}, .attrs = "axis=-2"},
    {.in = {"f32[7,1]"}, .attrs = "axis=0"},
    {.in = {"f32[5,1]"}},
    {.in = {"f32[3,65] -60..60"}, .no_gradient = true}, /* values so far apart that differences are lost in rounding */
    {.in = {"f32[1024,257]"}, .large = true},
    {.in = {"f32[4,7]"}, .attrs = "axis=2", .bad = "axis 2 is outside a shape of 2 dimensions"},
    {.in = {"i32[4,7] 0..6"}, .bad = "must be of a float dtype"},
    {.in = {NULL}},
};

const grdi_op grdi_op_softmax = {
    .name = "softmax",
    .inputs = 1,
    .attrs = {GRD_INT("axis", -1)},
    .shape = softmax_shape,
    .gradient = softmax_gradient,
    .compose = softmax_compose,
    .reference = softmax_reference,
    .flops = softmax_flops,
    .inplace = {1},
    .tolerance = 4e-6, /* an exponential (2 ulp) of a rounded difference of up to 120, times a rounded sum */
    .samples = softmax_samples,
};

const grdi_op grdi_op_log_softmax = {
    .name = "log_softmax",
    .inputs = 1,
    .attrs = {GRD_INT("axis", -1)},
    .shape = softmax_shape,
    .gradient = log_softmax_gradient,
    .compose = log_softmax_compose,
    .reference = log_softmax_reference,
    .flops = softmax_flops,
    .inplace = {1},
    .tolerance = 4e-6, /* as for softmax */
    .samples = softmax_samples,
};

grd_tensor grd_softmax(grd_tensor x, int32_t axis)
{
    return GRDI_EMIT_ATTRS(&grdi_op_softmax, GRDI_LIST(grd_attr, GRD_INT("axis", axis)), x);
}

grd_tensor grd_log_softmax(grd_tensor x, int32_t axis)
{
    return GRDI_EMIT_ATTRS(&grdi_op_log_softmax, GRDI_LIST(grd_attr, GRD_INT("axis", axis)), x);
}
