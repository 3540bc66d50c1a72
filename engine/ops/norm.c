/* norm.c - layer_norm and rms_norm over the last axis, and their backward ops. */
#include "ops/axis.h"
#include "ops/nn.h"
#include "ops/table.h"

#include "graph/build.h"

#include <gradus/ops_math.h>
#include <gradus/ops_nn.h>
#include <gradus/ops_shape.h>

#include <math.h>

/* x [...,C] -> [...] */
static grd_dims row_dims(grd_dims dims)
{
    dims.rank--;
    return dims;
}

static bool check_rank(grdi_infer *c, int32_t input)
{
    if (c->in[input].dims.rank >= 1) return true;
    return grdi_infer_fail(c, GRD_E_SHAPE, "input %d is a scalar, needs a last axis to normalise over", input);
}

/* Input `input` is a vector of x's channels. */
static bool check_channels(grdi_infer *c, int32_t input, int32_t x, const char *what)
{
    if (!grdi_infer_same_dtype(c, input, x)) return false;
    grd_dims have = c->in[input].dims, like = c->in[x].dims;
    char a[GRD_DIMS_TEXT_MAX], b[GRD_DIMS_TEXT_MAX];
    if (have.rank == 1 && have.dim[0] == like.dim[like.rank - 1]) return true;
    return grdi_infer_fail(c, GRD_E_SHAPE, "%s is %s, must be [%lld] for x of %s", what, grd_dims_text(have, a),
                           (long long)like.dim[like.rank - 1], grd_dims_text(like, b));
}

/* Input `input` holds one statistic for each row of x. */
static bool check_statistic(grdi_infer *c, int32_t input, int32_t x, const char *what)
{
    grd_dtype dtype = grdi_wide_dtype(c->in[x].dtype);
    if (c->in[input].dtype != dtype)
        return grdi_infer_fail(c, GRD_E_DTYPE, "%s is %s, must be %s for x of %s", what,
                               grd_dtype_name(c->in[input].dtype), grd_dtype_name(dtype),
                               grd_dtype_name(c->in[x].dtype));
    char a[GRD_DIMS_TEXT_MAX], b[GRD_DIMS_TEXT_MAX];
    if (grd_dims_equal(c->in[input].dims, row_dims(c->in[x].dims))) return true;
    return grdi_infer_fail(c, GRD_E_SHAPE, "%s is %s, must be that of x without the last axis, %s", what,
                           grd_dims_text(c->in[input].dims, a), grd_dims_text(row_dims(c->in[x].dims), b));
}

/* g and x of a backward op: one shape, one dtype. */
static bool check_g(grdi_infer *c)
{
    if (!grdi_infer_float(c, 0) || !grdi_infer_same_dtype(c, 1, 0) || !check_rank(c, 1)) return false;
    char a[GRD_DIMS_TEXT_MAX], b[GRD_DIMS_TEXT_MAX];
    if (grd_dims_equal(c->in[0].dims, c->in[1].dims)) return true;
    return grdi_infer_fail(c, GRD_E_SHAPE, "gradient and x differ: %s and %s", grd_dims_text(c->in[0].dims, a),
                           grd_dims_text(c->in[1].dims, b));
}

static bool check_count(grdi_infer *c, int32_t wanted)
{
    if (c->input_count == wanted) return true;
    return grdi_infer_fail(c, GRD_E_ARGUMENT, "has_gain and has_bias ask for %d inputs, given are %d", wanted,
                           c->input_count);
}

/* Rows and channels of x [...,C]. */
static grdi_axis rows_of(grd_dims dims)
{
    return grdi_axis_of(dims, -1);
}

static double rows_flops(const grdi_type *in, double each)
{
    return each * (double)grd_dims_count(in[0].dims);
}

/* ---- layer_norm ---- */

static bool layer_norm_shape(grdi_infer *c)
{
    int32_t gain = grdi_attr_int(c->attrs, "has_gain") != 0, bias = grdi_attr_int(c->attrs, "has_bias") != 0;
    if (!check_count(c, 1 + gain + bias) || !grdi_infer_float(c, 0) || !check_rank(c, 0)) return false;
    if (gain && !check_channels(c, 1, 0, "gain")) return false;
    if (bias && !check_channels(c, 1 + gain, 0, "bias")) return false;
    c->out[0] = c->in[0];
    c->out[1] = c->out[2] = (grdi_type){grdi_wide_dtype(c->in[0].dtype), row_dims(c->in[0].dims)};
    return true;
}

static void layer_norm_reference(const grdi_reference *r)
{
    bool has_gain = grdi_attr_int(r->attrs, "has_gain"), has_bias = grdi_attr_int(r->attrs, "has_bias");
    const double *gain = has_gain ? r->in[1] : NULL, *bias = has_bias ? r->in[1 + has_gain] : NULL;
    double eps = grdi_attr_float(r->attrs, "eps");
    grdi_axis a = rows_of(r->in_type[0].dims);
    for (int64_t n = 0; n < a.outer; n++) {
        const double *x = r->in[0] + n * a.size;
        double mean = 0, variance = 0;
        for (int64_t i = 0; i < a.size; i++) mean += x[i];
        mean /= (double)a.size;
        for (int64_t i = 0; i < a.size; i++) variance += (x[i] - mean) * (x[i] - mean);
        variance /= (double)a.size;
        double rstd = 1 / sqrt(variance + eps);
        for (int64_t i = 0; r->out[0] && i < a.size; i++)
            r->out[0][n * a.size + i] = (x[i] - mean) * rstd * (gain ? gain[i] : 1) + (bias ? bias[i] : 0);
        if (r->out[1]) r->out[1][n] = mean;
        if (r->out[2]) r->out[2][n] = rstd;
    }
}

static void layer_norm_compose(grdi_compose *c)
{
    bool has_gain = grdi_attr_int(c->attrs, "has_gain"), has_bias = grdi_attr_int(c->attrs, "has_bias");
    grd_dtype dtype = grd_tensor_dtype(c->in[0]);
    grd_tensor x = grd_cast(c->in[0], grdi_wide_dtype(dtype));
    grd_tensor mean = grd_mean_axis(x, -1, true);
    grd_tensor centred = grd_sub(x, mean);
    grd_tensor variance = grd_mean_axis(grd_square(centred), -1, true);
    grd_tensor rstd = grd_rsqrt(grd_add_scalar(variance, grdi_attr_float(c->attrs, "eps")));
    grd_tensor y = grd_cast(grd_mul(centred, rstd), dtype);
    if (has_gain) y = grd_mul(y, c->in[1]);
    if (has_bias) y = grd_add(y, c->in[1 + has_gain]);
    c->out[0] = y;
    c->out[1] = grd_squeeze(mean, -1);
    c->out[2] = grd_squeeze(rstd, -1);
}

static void layer_norm_gradient(grdi_gradient *g)
{
    if (g->grad_out[1].node || g->grad_out[2].node) { /* second derivatives */
        g->through_compose = true;
        return;
    }
    bool has_gain = grdi_attr_int(g->attrs, "has_gain"), has_bias = grdi_attr_int(g->attrs, "has_bias");
    grd_tensor in[5] = {g->grad_out[0], g->in[0], g->out[1], g->out[2]}, out[GRDI_OUTPUTS_MAX];
    if (has_gain) in[4] = g->in[1];
    grdi_emit(g->graph, &grdi_op_layer_norm_backward, in, 4 + has_gain,
              GRDI_LIST(grd_attr, GRD_FLAG("has_gain", has_gain), GRD_FLAG("has_bias", has_bias)), out);
    g->grad_in[0] = out[0];
    if (has_gain) g->grad_in[1] = out[1];
    if (has_bias) g->grad_in[1 + has_gain] = out[2];
}

static double layer_norm_flops(const grdi_type *in, int32_t input_count, const grdi_type *out, const grd_attr *attrs)
{
    (void)out, (void)attrs;
    return rows_flops(in, 5.0 + input_count); /* sums for mean and variance, normalising, gain, bias */
}

static const grdi_sample layer_norm_samples[] = {
    {.in = {"f32[4,7]"}},
    {.in = {"f32[3,13]", "f32[13]", "f32[13]"}, .attrs = "has_gain=true has_bias=true"},
    {.in = {"f32[2,3,33]", "f32[33]"}, .attrs = "has_gain=true"},
    {.in = {"f32[5,2,7]", "f32[7]"}, .attrs = "has_bias=true eps=0.001"},
    {.in = {"f32[7]"}},
    {.in = {"f32[1,1]", "f32[1]", "f32[1]"}, .attrs = "has_gain=true has_bias=true"},
    {.in = {"f32[4,65] 99..101"}, .no_gradient = true}, /* a mean far from zero: E[x^2] - mean^2 would fail here */
    /* widths by which a device keeps rows in parts of a warp, in warps and in blocks, and not at all */
    {.in = {"f32[70,64]", "f32[64]", "f32[64]"}, .attrs = "has_gain=true has_bias=true", .no_gradient = true},
    {.in = {"f32[37,384]", "f32[384]", "f32[384]"}, .attrs = "has_gain=true has_bias=true", .no_gradient = true},
    {.in = {"f32[21,768]", "f32[768]", "f32[768]"}, .attrs = "has_gain=true has_bias=true", .no_gradient = true},
    {.in = {"f32[5,900]", "f32[900]", "f32[900]"}, .attrs = "has_gain=true has_bias=true", .no_gradient = true},
    {.in = {"f32[9,1024]", "f32[1024]", "f32[1024]"}, .attrs = "has_gain=true has_bias=true", .no_gradient = true},
    {.in = {"f32[5,1600]", "f32[1600]", "f32[1600]"}, .attrs = "has_gain=true has_bias=true", .no_gradient = true},
    {.in = {"f32[2,4104]", "f32[4104]", "f32[4104]"}, .attrs = "has_gain=true has_bias=true", .no_gradient = true},
    {.in = {"f32[2,8200]", "f32[8200]", "f32[8200]"}, .attrs = "has_gain=true has_bias=true", .no_gradient = true},
    {.in = {"f32[1024,768]", "f32[768]", "f32[768]"}, .attrs = "has_gain=true has_bias=true", .large = true},
    {.in = {"f32[4,7]", "f32[6]"}, .attrs = "has_gain=true", .bad = "gain is [6], must be [7] for x of [4,7]"},
    {.in = {"f32[4,7]", "f32[7]"}, .bad = "ask for 1 inputs, given are 2"},
    {.in = {"f32[]"}, .bad = "is a scalar"},
    {.in = {"i32[4,7] 0..3"}, .bad = "must be of a float dtype"},
    {.in = {NULL}},
};

const grdi_op grdi_op_layer_norm = {
    .name = "layer_norm",
    .inputs = 1,
    .inputs_max = 3,
    .outputs = 3,
    .bf16_out = 1,
    .attrs = {GRD_FLOAT("eps", 1e-5), GRD_FLAG("has_gain", false), GRD_FLAG("has_bias", false)},
    .shape = layer_norm_shape,
    .gradient = layer_norm_gradient,
    .compose = layer_norm_compose,
    .reference = layer_norm_reference,
    .flops = layer_norm_flops,
    .inplace = {1},
    .tolerance = 1e-5, /* sums of a row in f32; the difference from the mean loses bits where the mean is large */
    .samples = layer_norm_samples,
};

grd_tensor grd_layer_norm_with(grd_tensor x, const grd_norm_options *options)
{
    options = options ? options : &(const grd_norm_options){.size = sizeof(grd_norm_options)};
    grd_tensor in[3] = {x};
    int32_t count = 1;
    bool has_gain = options->gain.node != NULL, has_bias = options->bias.node != NULL;
    if (has_gain) in[count++] = options->gain;
    if (has_bias) in[count++] = options->bias;
    return grdi_emit(NULL, &grdi_op_layer_norm, in, count,
                     GRDI_LIST(grd_attr, GRD_FLOAT("eps", options->eps != 0 ? options->eps : 1e-5),
                               GRD_FLAG("has_gain", has_gain), GRD_FLAG("has_bias", has_bias)), NULL);
}

/* ---- layer_norm_backward: with h = g gain and n = (x - mean) rstd,
 * gx = rstd (h - mean(h) - n mean(h n)), ggain = sum over rows of g n, gbias = sum over rows of g ---- */

static bool layer_norm_backward_shape(grdi_infer *c)
{
    bool has_gain = grdi_attr_int(c->attrs, "has_gain");
    if (!check_count(c, 4 + has_gain) || !check_g(c)) return false;
    if (!check_statistic(c, 2, 1, "mean") || !check_statistic(c, 3, 1, "rstd")) return false;
    if (has_gain && !check_channels(c, 4, 1, "gain")) return false;
    c->out[0] = c->in[1];
    c->out[1] = c->out[2] = (grdi_type){c->in[1].dtype, grd_shape(rows_of(c->in[1].dims).size)};
    return true;
}

static void layer_norm_backward_reference(const grdi_reference *r)
{
    const double *gain = grdi_attr_int(r->attrs, "has_gain") ? r->in[4] : NULL;
    grdi_axis a = rows_of(r->in_type[1].dims);
    for (int32_t o = 1; o < 3; o++)
        for (int64_t i = 0; r->out[o] && i < a.size; i++) r->out[o][i] = 0;
    for (int64_t n = 0; n < a.outer; n++) {
        const double *g = r->in[0] + n * a.size, *x = r->in[1] + n * a.size;
        double mean = r->in[2][n], rstd = r->in[3][n], mean_h = 0, mean_hn = 0;
        for (int64_t i = 0; i < a.size; i++) {
            double h = g[i] * (gain ? gain[i] : 1), normal = (x[i] - mean) * rstd;
            mean_h += h / (double)a.size;
            mean_hn += h * normal / (double)a.size;
            if (r->out[1]) r->out[1][i] += g[i] * normal;
            if (r->out[2]) r->out[2][i] += g[i];
        }
        for (int64_t i = 0; r->out[0] && i < a.size; i++) {
            double h = g[i] * (gain ? gain[i] : 1), normal = (x[i] - mean) * rstd;
            r->out[0][n * a.size + i] = rstd * (h - mean_h - normal * mean_hn);
        }
    }
}

/* [...,C] -> [C] */
static grd_tensor sum_rows(grd_tensor x, grd_dtype dtype)
{
    return grd_cast(grd_sum_to(x, grd_shape(grd_dim(x, -1))), dtype);
}

static void layer_norm_backward_compose(grdi_compose *c)
{
    grd_dtype dtype = grd_tensor_dtype(c->in[1]), wide = grdi_wide_dtype(dtype);
    grd_tensor g = grd_cast(c->in[0], wide), x = grd_cast(c->in[1], wide);
    grd_tensor mean = grd_unsqueeze(c->in[2], -1), rstd = grd_unsqueeze(c->in[3], -1);
    grd_tensor normal = grd_mul(grd_sub(x, mean), rstd);
    grd_tensor h = grdi_attr_int(c->attrs, "has_gain") ? grd_mul(g, grd_cast(c->in[4], wide)) : g;
    grd_tensor along = grd_mul(normal, grd_mean_axis(grd_mul(h, normal), -1, true));
    grd_tensor rest = grd_sub(grd_sub(h, grd_mean_axis(h, -1, true)), along);
    c->out[0] = grd_cast(grd_mul(rstd, rest), dtype);
    c->out[1] = sum_rows(grd_mul(g, normal), dtype);
    c->out[2] = sum_rows(g, dtype);
}

static double layer_norm_backward_flops(const grdi_type *in, int32_t input_count, const grdi_type *out,
                                        const grd_attr *attrs)
{
    (void)input_count, (void)out, (void)attrs;
    return rows_flops(in, 14.0);
}

static const grdi_sample layer_norm_backward_samples[] = {
    {.in = {"f32[4,7]", "f32[4,7]", "f32[4]", "f32[4] 0.5..2"}},
    {.in = {"f32[3,13]", "f32[3,13]", "@layer_norm:1(1)", "@layer_norm:2(1)", "f32[13]"},
     .attrs = "has_gain=true has_bias=true"},
    {.in = {"f32[2,3,33]", "f32[2,3,33]", "f32[2,3]", "f32[2,3] 0.5..2", "f32[33]"}, .attrs = "has_gain=true"},
    {.in = {"f32[7]", "f32[7]", "f32[]", "f32[] 0.5..2"}, .attrs = "has_bias=true"},
    /* more rows and channels than a warp, a block, or either at once has a place for */
    {.in = {"f32[70,40]", "f32[70,40]", "@layer_norm:1(1)", "@layer_norm:2(1)", "f32[40]"},
     .attrs = "has_gain=true has_bias=true",
     .no_gradient = true},
    {.in = {"f32[40,300]", "f32[40,300]", "@layer_norm:1(1)", "@layer_norm:2(1)", "f32[300]"},
     .attrs = "has_gain=true has_bias=true",
     .no_gradient = true},
    {.in = {"f32[35,900]", "f32[35,900]", "@layer_norm:1(1)", "@layer_norm:2(1)", "f32[900]"},
     .attrs = "has_gain=true has_bias=true",
     .no_gradient = true},
    {.in = {"f32[35,1100]", "f32[35,1100]", "@layer_norm:1(1)", "@layer_norm:2(1)", "f32[1100]"},
     .attrs = "has_gain=true has_bias=true",
     .no_gradient = true},
    {.in = {"f32[37,384]", "f32[37,384]", "@layer_norm:1(1)", "@layer_norm:2(1)", "f32[384]"},
     .attrs = "has_gain=true has_bias=true",
     .no_gradient = true},
    {.in = {"f32[37,768]", "f32[37,768]", "@layer_norm:1(1)", "@layer_norm:2(1)", "f32[768]"},
     .attrs = "has_gain=true has_bias=true",
     .no_gradient = true},
    {.in = {"f32[18,1024]", "f32[18,1024]", "@layer_norm:1(1)", "@layer_norm:2(1)", "f32[1024]"},
     .attrs = "has_gain=true has_bias=true",
     .no_gradient = true},
    {.in = {"f32[3,1600]", "f32[3,1600]", "@layer_norm:1(1)", "@layer_norm:2(1)", "f32[1600]"},
     .attrs = "has_gain=true has_bias=true",
     .no_gradient = true},
    {.in = {"f32[2,4104]", "f32[2,4104]", "@layer_norm:1(1)", "@layer_norm:2(1)", "f32[4104]"},
     .attrs = "has_gain=true has_bias=true",
     .no_gradient = true},
    {.in = {"f32[2,8200]", "f32[2,8200]", "@layer_norm:1(1)", "@layer_norm:2(1)", "f32[8200]"},
     .attrs = "has_gain=true has_bias=true",
     .no_gradient = true},
    {.in = {"f32[1024,768]", "f32[1024,768]", "@layer_norm:1(1)", "@layer_norm:2(1)", "f32[768]"},
     .attrs = "has_gain=true has_bias=true", .large = true},
    {.in = {"f32[4,7]", "f32[4,8]", "f32[4]", "f32[4]"}, .bad = "gradient and x differ: [4,7] and [4,8]"},
    {.in = {"f32[4,7]", "f32[4,7]", "f32[4]", "f32[7]"}, .bad = "rstd is [7]"},
    {.in = {"f32[4,7]", "f32[4,7]", "f32[4]", "bf16[4]"}, .bad = "rstd is bf16, must be f32 for x"},
    {.in = {NULL}},
};

const grdi_op grdi_op_layer_norm_backward = {
    .name = "layer_norm_backward",
    .inputs = 4,
    .inputs_max = 5,
    .outputs = 3,
    .bf16_out = 1,
    .attrs = {GRD_FLAG("has_gain", false), GRD_FLAG("has_bias", false)},
    .shape = layer_norm_backward_shape,
    .compose = layer_norm_backward_compose,
    .reference = layer_norm_backward_reference,
    .flops = layer_norm_backward_flops,
    .inplace = {3},
    .tolerance = 2e-5, /* sums over rows and over columns in f32, of terms of both signs */
    .samples = layer_norm_backward_samples,
};

/* ---- rms_norm ---- */

static bool rms_norm_shape(grdi_infer *c)
{
    bool has_gain = grdi_attr_int(c->attrs, "has_gain");
    if (!check_count(c, 1 + has_gain) || !grdi_infer_float(c, 0) || !check_rank(c, 0)) return false;
    if (has_gain && !check_channels(c, 1, 0, "gain")) return false;
    c->out[0] = c->in[0];
    c->out[1] = (grdi_type){grdi_wide_dtype(c->in[0].dtype), row_dims(c->in[0].dims)};
    return true;
}

static void rms_norm_reference(const grdi_reference *r)
{
    const double *gain = grdi_attr_int(r->attrs, "has_gain") ? r->in[1] : NULL;
    double eps = grdi_attr_float(r->attrs, "eps");
    grdi_axis a = rows_of(r->in_type[0].dims);
    for (int64_t n = 0; n < a.outer; n++) {
        const double *x = r->in[0] + n * a.size;
        double mean_square = 0;
        for (int64_t i = 0; i < a.size; i++) mean_square += x[i] * x[i];
        mean_square /= (double)a.size;
        double rstd = 1 / sqrt(mean_square + eps);
        for (int64_t i = 0; r->out[0] && i < a.size; i++)
            r->out[0][n * a.size + i] = x[i] * rstd * (gain ? gain[i] : 1);
        if (r->out[1]) r->out[1][n] = rstd;
    }
}

static void rms_norm_compose(grdi_compose *c)
{
    grd_dtype dtype = grd_tensor_dtype(c->in[0]);
    grd_tensor x = grd_cast(c->in[0], grdi_wide_dtype(dtype));
    grd_tensor mean_square = grd_mean_axis(grd_square(x), -1, true);
    grd_tensor rstd = grd_rsqrt(grd_add_scalar(mean_square, grdi_attr_float(c->attrs, "eps")));
    grd_tensor y = grd_cast(grd_mul(x, rstd), dtype);
    c->out[0] = grdi_attr_int(c->attrs, "has_gain") ? grd_mul(y, c->in[1]) : y;
    c->out[1] = grd_squeeze(rstd, -1);
}

static void rms_norm_gradient(grdi_gradient *g)
{
    if (g->grad_out[1].node) { /* second derivatives */
        g->through_compose = true;
        return;
    }
    bool has_gain = grdi_attr_int(g->attrs, "has_gain");
    grd_tensor in[4] = {g->grad_out[0], g->in[0], g->out[1]}, out[GRDI_OUTPUTS_MAX];
    if (has_gain) in[3] = g->in[1];
    grdi_emit(g->graph, &grdi_op_rms_norm_backward, in, 3 + has_gain,
              GRDI_LIST(grd_attr, GRD_FLAG("has_gain", has_gain)), out);
    g->grad_in[0] = out[0];
    if (has_gain) g->grad_in[1] = out[1];
}

static double rms_norm_flops(const grdi_type *in, int32_t input_count, const grdi_type *out, const grd_attr *attrs)
{
    (void)out, (void)attrs;
    return rows_flops(in, 2.0 + input_count);
}

static const grdi_sample rms_norm_samples[] = {
    {.in = {"f32[4,7]"}},
    {.in = {"f32[3,13]", "f32[13]"}, .attrs = "has_gain=true"},
    {.in = {"f32[2,3,33]", "f32[33]"}, .attrs = "has_gain=true eps=0.01"},
    {.in = {"f32[7]"}},
    {.in = {"f32[5,1]", "f32[1]"}, .attrs = "has_gain=true eps=0.5"},
    {.in = {"f32[2,35,128]", "f32[128]"}, .attrs = "has_gain=true", .no_gradient = true},
    {.in = {"f32[9,896]", "f32[896]"}, .attrs = "has_gain=true", .no_gradient = true},
    {.in = {"f32[3,2048]", "f32[2048]"}, .attrs = "has_gain=true", .no_gradient = true},
    {.in = {"f32[1024,768]", "f32[768]"}, .attrs = "has_gain=true", .large = true},
    {.in = {"f32[4,7]", "f32[4]"}, .attrs = "has_gain=true", .bad = "gain is [4], must be [7] for x of [4,7]"},
    {.in = {"f32[]"}, .bad = "is a scalar"},
    {.in = {NULL}},
};

const grdi_op grdi_op_rms_norm = {
    .name = "rms_norm",
    .inputs = 1,
    .inputs_max = 2,
    .outputs = 2,
    .bf16_out = 1,
    .attrs = {GRD_FLOAT("eps", 1e-6), GRD_FLAG("has_gain", false)},
    .shape = rms_norm_shape,
    .gradient = rms_norm_gradient,
    .compose = rms_norm_compose,
    .reference = rms_norm_reference,
    .flops = rms_norm_flops,
    .inplace = {1},
    .tolerance = 5e-6, /* one sum of squares, all terms positive, and a handful of roundings */
    .samples = rms_norm_samples,
};

grd_tensor grd_rms_norm_with(grd_tensor x, const grd_norm_options *options)
{
    options = options ? options : &(const grd_norm_options){.size = sizeof(grd_norm_options)};
    if (options->bias.node)
        return grdi_graph_fail(options->bias.node->graph, GRD_E_ARGUMENT, "rms_norm: takes no bias (leave .bias out)");
    bool has_gain = options->gain.node != NULL;
    grd_tensor in[2] = {x, options->gain};
    return grdi_emit(NULL, &grdi_op_rms_norm, in, 1 + has_gain,
                     GRDI_LIST(grd_attr, GRD_FLOAT("eps", options->eps != 0 ? options->eps : 1e-6),
                               GRD_FLAG("has_gain", has_gain)), NULL);
}

/* ---- rms_norm_backward: with h = g gain and n = x rstd,
 * gx = rstd (h - n mean(h n)), ggain = sum over rows of g n ---- */

static bool rms_norm_backward_shape(grdi_infer *c)
{
    bool has_gain = grdi_attr_int(c->attrs, "has_gain");
    if (!check_count(c, 3 + has_gain) || !check_g(c) || !check_statistic(c, 2, 1, "rstd")) return false;
    if (has_gain && !check_channels(c, 3, 1, "gain")) return false;
    c->out[0] = c->in[1];
    c->out[1] = (grdi_type){c->in[1].dtype, grd_shape(rows_of(c->in[1].dims).size)};
    return true;
}

static void rms_norm_backward_reference(const grdi_reference *r)
{
    const double *gain = grdi_attr_int(r->attrs, "has_gain") ? r->in[3] : NULL;
    grdi_axis a = rows_of(r->in_type[1].dims);
    for (int64_t i = 0; r->out[1] && i < a.size; i++) r->out[1][i] = 0;
    for (int64_t n = 0; n < a.outer; n++) {
        const double *g = r->in[0] + n * a.size, *x = r->in[1] + n * a.size;
        double rstd = r->in[2][n], mean_hn = 0;
        for (int64_t i = 0; i < a.size; i++) {
            mean_hn += g[i] * (gain ? gain[i] : 1) * x[i] * rstd / (double)a.size;
            if (r->out[1]) r->out[1][i] += g[i] * x[i] * rstd;
        }
        for (int64_t i = 0; r->out[0] && i < a.size; i++)
            r->out[0][n * a.size + i] = rstd * (g[i] * (gain ? gain[i] : 1) - x[i] * rstd * mean_hn);
    }
}

static void rms_norm_backward_compose(grdi_compose *c)
{
    grd_dtype dtype = grd_tensor_dtype(c->in[1]), wide = grdi_wide_dtype(dtype);
    grd_tensor g = grd_cast(c->in[0], wide), x = grd_cast(c->in[1], wide), rstd = grd_unsqueeze(c->in[2], -1);
    grd_tensor normal = grd_mul(x, rstd);
    grd_tensor h = grdi_attr_int(c->attrs, "has_gain") ? grd_mul(g, grd_cast(c->in[3], wide)) : g;
    grd_tensor along = grd_mul(normal, grd_mean_axis(grd_mul(h, normal), -1, true));
    c->out[0] = grd_cast(grd_mul(rstd, grd_sub(h, along)), dtype);
    c->out[1] = sum_rows(grd_mul(g, normal), dtype);
}

static double rms_norm_backward_flops(const grdi_type *in, int32_t input_count, const grdi_type *out,
                                      const grd_attr *attrs)
{
    (void)input_count, (void)out, (void)attrs;
    return rows_flops(in, 10.0);
}

static const grdi_sample rms_norm_backward_samples[] = {
    {.in = {"f32[4,7]", "f32[4,7]", "f32[4] 0.5..2"}},
    {.in = {"f32[3,13]", "f32[3,13]", "@rms_norm:1(1)", "f32[13]"}, .attrs = "has_gain=true"},
    {.in = {"f32[2,3,33]", "f32[2,3,33]", "f32[2,3] 0.5..2", "f32[33]"}, .attrs = "has_gain=true"},
    {.in = {"f32[7]", "f32[7]", "f32[] 0.5..2"}},
    {.in = {"f32[40,300]", "f32[40,300]", "@rms_norm:1(1)", "f32[300]"},
     .attrs = "has_gain=true",
     .no_gradient = true}, /* a block has several rows, and several blocks have some */
    {.in = {"f32[70,128]", "f32[70,128]", "@rms_norm:1(1)", "f32[128]"}, .attrs = "has_gain=true", .no_gradient = true},
    {.in = {"f32[18,896]", "f32[18,896]", "@rms_norm:1(1)", "f32[896]"}, .attrs = "has_gain=true", .no_gradient = true},
    {.in = {"f32[1024,768]", "f32[1024,768]", "@rms_norm:1(1)", "f32[768]"}, .attrs = "has_gain=true", .large = true},
    {.in = {"f32[4,7]", "f32[4,7]", "f32[7]"}, .bad = "rstd is [7]"},
    {.in = {"f32[4,7]", "f32[4,7]", "f32[4]", "f32[4]"}, .attrs = "has_gain=true", .bad = "gain is [4]"},
    {.in = {NULL}},
};

const grdi_op grdi_op_rms_norm_backward = {
    .name = "rms_norm_backward",
    .inputs = 3,
    .inputs_max = 4,
    .outputs = 2,
    .bf16_out = 1,
    .attrs = {GRD_FLAG("has_gain", false)},
    .shape = rms_norm_backward_shape,
    .compose = rms_norm_backward_compose,
    .reference = rms_norm_backward_reference,
    .flops = rms_norm_backward_flops,
    .inplace = {3},
    .tolerance = 2e-5, /* sums over rows and over columns in f32, of terms of both signs */
    .samples = rms_norm_backward_samples,
};
