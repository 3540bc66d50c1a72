/* batch_norm.c - normalisation of each channel over a batch, with running statistics, and its backward op; and, made
 * of simpler ops, normalisation over groups of channels of each sample. */
#include "graph/graph.h"
#include "ops/nn.h"
#include "ops/table.h"

#include <gradus/ops.h>

#include <math.h>
#include <string.h>

static int64_t channels_of(grd_dims dims)
{
    return dims.dim[dims.rank - 1];
}

static int64_t rows_of(grd_dims dims)
{
    return grd_dims_count(dims) / channels_of(dims);
}

static bool check_x(grdi_infer *c, int32_t input)
{
    char text[GRD_DIMS_TEXT_MAX];
    grd_dims x = c->in[input].dims;
    if (!grdi_infer_float(c, input)) return false;
    if (x.rank < 2) return grdi_infer_fail(c, GRD_E_SHAPE, "x is %s, must be [N,S..,C]", grd_dims_text(x, text));
    if (rows_of(x) > 1) return true;
    return grdi_infer_fail(c, GRD_E_SHAPE, "x %s has one value a channel, statistics need two or more",
                           grd_dims_text(x, text));
}

/* Input `input` holds one value for each channel, of the dtype of statistics. */
static bool check_channels(grdi_infer *c, int32_t input, int32_t x, const char *what)
{
    grd_dtype dtype = grdi_wide_dtype(c->in[x].dtype);
    int64_t channels = channels_of(c->in[x].dims);
    char a[GRD_DIMS_TEXT_MAX], b[GRD_DIMS_TEXT_MAX];
    if (c->in[input].dtype != dtype)
        return grdi_infer_fail(c, GRD_E_DTYPE, "%s is %s, must be %s for x of %s", what,
                               grd_dtype_name(c->in[input].dtype), grd_dtype_name(dtype),
                               grd_dtype_name(c->in[x].dtype));
    if (grd_dims_equal(c->in[input].dims, grd_shape(channels))) return true;
    return grdi_infer_fail(c, GRD_E_SHAPE, "%s is %s, must be [%lld] for x of %s", what,
                           grd_dims_text(c->in[input].dims, a), (long long)channels, grd_dims_text(c->in[x].dims, b));
}

/* ---- batch_norm; a sixth input is added to what is normalised, and with `relu` y is 0 where it would be negative:
 * passes/epilogue.c makes both of what comes behind ---- */

static bool batch_norm_shape(grdi_infer *c)
{
    static const char *const names[] = {"gain", "bias", "running mean", "running variance"};
    double momentum = grdi_attr_float(c->attrs, "momentum");
    char a[GRD_DIMS_TEXT_MAX], b[GRD_DIMS_TEXT_MAX];
    if (!check_x(c, 0)) return false;
    if (!(momentum >= 0 && momentum <= 1))
        return grdi_infer_fail(c, GRD_E_ARGUMENT, "momentum is %g (0 to 1)", momentum);
    for (int32_t i = 0; i < 4; i++)
        if (!check_channels(c, 1 + i, 0, names[i])) return false;
    if (c->input_count > 5 && !grd_dims_equal(c->in[5].dims, c->in[0].dims))
        return grdi_infer_fail(c, GRD_E_SHAPE, "x and what is added differ: %s and %s",
                               grd_dims_text(c->in[0].dims, a), grd_dims_text(c->in[5].dims, b));
    if (c->input_count > 5 && !grdi_infer_same_dtype(c, 5, 0)) return false;
    c->out[0] = c->in[0];
    for (int32_t o = 1; o < 5; o++)
        c->out[o] = (grdi_type){grdi_wide_dtype(c->in[0].dtype), grd_shape(channels_of(c->in[0].dims))};
    return true;
}

static void batch_norm_reference(const grdi_reference *r)
{
    double eps = grdi_attr_float(r->attrs, "eps"), momentum = grdi_attr_float(r->attrs, "momentum");
    int64_t channels = channels_of(r->in_type[0].dims), rows = rows_of(r->in_type[0].dims);
    bool relu = grdi_attr_int(r->attrs, "relu");
    const double *x = r->in[0];
    for (int64_t c = 0; c < channels; c++) {
        double mean = 0, variance = 0, count = (double)rows;
        for (int64_t n = 0; n < rows; n++) mean += x[n * channels + c] / count;
        for (int64_t n = 0; n < rows; n++) variance += pow(x[n * channels + c] - mean, 2) / count;
        double rstd = 1 / sqrt(variance + eps), unbiased = variance * count / (count - 1);
        for (int64_t n = 0; r->out[0] && n < rows; n++) {
            double y = (x[n * channels + c] - mean) * rstd * r->in[1][c] + r->in[2][c];
            if (r->input_count > 5) y += r->in[5][n * channels + c];
            r->out[0][n * channels + c] = relu && y < 0 ? 0 : y;
        }
        if (r->out[1]) r->out[1][c] = mean;
        if (r->out[2]) r->out[2][c] = rstd;
        if (r->out[3]) r->out[3][c] = (1 - momentum) * r->in[3][c] + momentum * mean;
        if (r->out[4]) r->out[4][c] = (1 - momentum) * r->in[4][c] + momentum * unbiased;
    }
}

/* [N,S..,C] as [rows,C] */
static grd_tensor as_rows(grd_tensor x)
{
    grd_dims dims = grd_tensor_dims(x);
    return grd_reshape(x, grd_shape(rows_of(dims), channels_of(dims)));
}

static grd_tensor moved(grd_tensor running, grd_tensor now, double momentum)
{
    return grd_add(grd_mul_scalar(running, 1 - momentum), grd_mul_scalar(now, momentum));
}

static void batch_norm_compose(grdi_compose *c)
{
    grd_dtype dtype = grd_tensor_dtype(c->in[0]);
    double momentum = grdi_attr_float(c->attrs, "momentum");
    grd_tensor x = grd_cast(as_rows(c->in[0]), grdi_wide_dtype(dtype));
    double rows = (double)grd_dim(x, 0);
    grd_tensor mean = grd_mean_axis(x, 0, false), centred = grd_sub(x, mean);
    grd_tensor variance = grd_mean_axis(grd_square(centred), 0, false);
    grd_tensor rstd = grd_rsqrt(grd_add_scalar(variance, grdi_attr_float(c->attrs, "eps")));
    grd_tensor y = grd_add(grd_mul(grd_mul(centred, rstd), c->in[1]), c->in[2]);
    if (c->input_count > 5) y = grd_add(y, grd_cast(as_rows(c->in[5]), grdi_wide_dtype(dtype)));
    if (grdi_attr_int(c->attrs, "relu")) y = grd_relu(y);
    c->out[0] = grd_reshape(grd_cast(y, dtype), grd_tensor_dims(c->in[0]));
    c->out[1] = mean;
    c->out[2] = rstd;
    c->out[3] = moved(c->in[3], mean, momentum);
    c->out[4] = moved(c->in[4], grd_mul_scalar(variance, rows / (rows - 1)), momentum);
}

static void batch_norm_gradient(grdi_gradient *g)
{
    g->through_compose = g->input_count > 5;
    for (int32_t o = 1; o < 5; o++) /* second derivatives, or somebody differentiates the statistics */
        g->through_compose |= g->grad_out[o].node != NULL;
    if (g->through_compose) return;
    grd_tensor in[] = {g->grad_out[0], g->in[0], g->out[1], g->out[2], g->in[1], g->in[2]}, out[GRDI_OUTPUTS_MAX];
    grdi_emit(g->graph, &grdi_op_batch_norm_backward, in, grdi_attr_int(g->attrs, "relu") ? 6 : 5, NULL, 0, out);
    for (int32_t i = 0; i < 3; i++) g->grad_in[i] = out[i];
}

static double batch_norm_flops(const grdi_type *in, int32_t input_count, const grdi_type *out, const grd_attr *attrs)
{
    (void)input_count, (void)out, (void)attrs;
    return 7.0 * (double)grd_dims_count(in[0].dims); /* two sums, and scaling */
}

/* x is read twice: for the statistics and to be normalised. */
static double batch_norm_bytes(const grdi_type *in, int32_t input_count, const grdi_type *out, const grd_attr *attrs)
{
    (void)attrs;
    size_t each = 2 * grd_dtype_size(in[0].dtype) + grd_dtype_size(out[0].dtype);
    if (input_count > 5) each += grd_dtype_size(in[5].dtype);
    return (double)grd_dims_count(in[0].dims) * (double)each;
}

#define CHANNELS(c) "f32[" c "]", "f32[" c "]", "f32[" c "]", "f32[" c "] 0.5..2"

static const grdi_sample batch_norm_samples[] = {
    {.in = {"f32[6,3]", CHANNELS("3")}},
    {.in = {"f32[2,3,4,5]", CHANNELS("5")}, "momentum=0.3 eps=0.001"},
    {.in = {"f32[2,1]", CHANNELS("1")}},
    {.in = {"f32[3,7,37]", CHANNELS("37")}},
    {.in = {"f32[150,3,33]", CHANNELS("33")}, .no_gradient = true},    /* more rows than are summed at once */
    {.in = {"f32[40,5] 99..101", CHANNELS("5")}, .no_gradient = true}, /* E[x^2] - mean^2 would fail here */
    {.in = {"f32[2500,17] 1..2", CHANNELS("17")}, .no_gradient = true}, /* many parts, the last one short */
    {.in = {"f32[700,24] 1..2", CHANNELS("24")}, .no_gradient = true},   /* by eight channels */
    {.in = {"f32[1555,136] 3..5", CHANNELS("136")}, .no_gradient = true},
    {.in = {"f32[3,5,264] 1..2", CHANNELS("264")}, .no_gradient = true},
    {.in = {"f32[2,3,4,5]", CHANNELS("5")}, "relu=true"},
    {.in = {"f32[3,7,37]", CHANNELS("37")}, "relu=true", .no_gradient = true}, /* a kink */
    {.in = {"f32[700,24] 1..2", CHANNELS("24")}, "relu=true", .no_gradient = true},
    {.in = {"f32[2,3,4,5]", CHANNELS("5"), "f32[2,3,4,5]"}},
    {.in = {"f32[3,7,37]", CHANNELS("37"), "f32[3,7,37]"}, "relu=true", .no_gradient = true},
    {.in = {"f32[700,24] 1..2", CHANNELS("24"), "f32[700,24]"}, "relu=true", .no_gradient = true},
    {.in = {"f32[32,32,32,64]", CHANNELS("64")}, .large = true},
    {.in = {"f32[6,3]", CHANNELS("3"), "f32[3]"}, .bad = "what is added differ: [6,3] and [3]"},
    {.in = {"f32[6,3]", CHANNELS("4")}, .bad = "gain is [4], must be [3] for x of [6,3]"},
    {.in = {"f32[6,3]", "f32[3]", "f32[3]", "f32[3]", "f32[2]"}, .bad = "running variance is [2]"},
    {.in = {"f32[1,1,3]", CHANNELS("3")}, .bad = "one value a channel"},
    {.in = {"f32[3]", CHANNELS("3")}, .bad = "x is [3]"},
    {.in = {"f32[6,3]", "bf16[3]", "f32[3]", "f32[3]", "f32[3]"}, .bad = "gain is bf16, must be f32"},
    {.in = {"f32[6,3]", CHANNELS("3")}, "momentum=1.5", .bad = "momentum is 1.5"},
    {.in = {"i32[6,3]", CHANNELS("3")}, .bad = "float"},
    {.in = {NULL}}};

const grdi_op grdi_op_batch_norm = {
    .name = "batch_norm",
    .inputs = 5,
    .inputs_max = 6,
    .outputs = 5,
    .attrs = {GRD_FLOAT("eps", 1e-5), GRD_FLOAT("momentum", 0.1), GRD_FLAG("relu", false)},
    .shape = batch_norm_shape,
    .gradient = batch_norm_gradient,
    .compose = batch_norm_compose,
    .reference = batch_norm_reference,
    .flops = batch_norm_flops,
    .bytes = batch_norm_bytes,
    .inplace = {1 | 32, 0, 0, 8, 16},
    .bf16_out = 1,
    .tolerance = 1e-5, /* sums over the batch in f32; the difference from the mean loses bits where that is large */
    .samples = batch_norm_samples};

grd_tensor grd_batch_normalise(grd_tensor x, grd_tensor gain, grd_tensor bias, grd_tensor *running_mean,
                               grd_tensor *running_variance, double eps, double momentum)
{
    grd_tensor in[5] = {x, gain, bias, *running_mean, *running_variance}, out[GRDI_OUTPUTS_MAX] = {{NULL, 0}};
    grdi_emit(NULL, &grdi_op_batch_norm, in, 5,
              GRDI_LIST(grd_attr, GRD_FLOAT("eps", eps), GRD_FLOAT("momentum", momentum)), out);
    *running_mean = out[3], *running_variance = out[4];
    return out[0];
}

/* ---- batch_norm_backward: with n = (x - mean) rstd over M rows,
 * gbias = sum of g, ggain = sum of g n, gx = gain rstd (g - gbias / M - n ggain / M). With a bias g is that of the
 * relu's result, and counts where n gain + bias is positive: what was normalised tells, and is read anyway ---- */

static bool batch_norm_backward_shape(grdi_infer *c)
{
    static const char *const names[] = {"mean", "rstd", "gain", "bias"};
    char a[GRD_DIMS_TEXT_MAX], b[GRD_DIMS_TEXT_MAX];
    if (!check_x(c, 1) || !grdi_infer_same_dtype(c, 0, 1)) return false;
    if (!grd_dims_equal(c->in[0].dims, c->in[1].dims))
        return grdi_infer_fail(c, GRD_E_SHAPE, "gradient and x differ: %s and %s", grd_dims_text(c->in[0].dims, a),
                               grd_dims_text(c->in[1].dims, b));
    for (int32_t i = 2; i < c->input_count; i++)
        if (!check_channels(c, i, 1, names[i - 2])) return false;
    c->out[0] = c->in[1];
    c->out[1] = c->out[2] = c->in[2];
    return true;
}

/* What counts of element `i` of the gradient. */
static double slope_at(const grdi_reference *r, int64_t i, int64_t c)
{
    double y = r->input_count > 5 ? (r->in[1][i] - r->in[2][c]) * r->in[3][c] * r->in[4][c] + r->in[5][c] : 1;
    return y > 0 ? r->in[0][i] : 0;
}

static void batch_norm_backward_reference(const grdi_reference *r)
{
    int64_t channels = channels_of(r->in_type[1].dims), rows = rows_of(r->in_type[1].dims);
    const double *x = r->in[1];
    for (int64_t c = 0; c < channels; c++) {
        double mean = r->in[2][c], rstd = r->in[3][c], gain = r->in[4][c], sum = 0, along = 0, count = (double)rows;
        for (int64_t i = c; i < rows * channels; i += channels) {
            double g = slope_at(r, i, c);
            sum += g;
            along += g * (x[i] - mean) * rstd;
        }
        for (int64_t i = c; r->out[0] && i < rows * channels; i += channels)
            r->out[0][i] =
                gain * rstd * (slope_at(r, i, c) - sum / count - (x[i] - mean) * rstd * along / count);
        if (r->out[1]) r->out[1][c] = along;
        if (r->out[2]) r->out[2][c] = sum;
    }
}

static void batch_norm_backward_compose(grdi_compose *c)
{
    grd_dtype dtype = grd_tensor_dtype(c->in[1]), wide = grdi_wide_dtype(dtype);
    grd_tensor g = grd_cast(as_rows(c->in[0]), wide), x = grd_cast(as_rows(c->in[1]), wide);
    double part = 1 / (double)grd_dim(x, 0);
    grd_tensor normal = grd_mul(grd_sub(x, c->in[2]), c->in[3]);
    if (c->input_count > 5) g = grd_relu_backward(g, grd_add(grd_mul(normal, c->in[4]), c->in[5]));
    grd_tensor sum = grd_sum_axis(g, 0, false), along = grd_sum_axis(grd_mul(g, normal), 0, false);
    grd_tensor rest = grd_sub(grd_sub(g, grd_mul_scalar(sum, part)), grd_mul(normal, grd_mul_scalar(along, part)));
    grd_tensor gx = grd_mul(rest, grd_mul(c->in[4], c->in[3]));
    c->out[0] = grd_reshape(grd_cast(gx, dtype), grd_tensor_dims(c->in[1]));
    c->out[1] = along;
    c->out[2] = sum;
}

static double batch_norm_backward_flops(const grdi_type *in, int32_t input_count, const grdi_type *out,
                                        const grd_attr *attrs)
{
    (void)input_count, (void)out, (void)attrs;
    return 10.0 * (double)grd_dims_count(in[0].dims);
}

/* g and x are read twice: for the sums, and for gx. */
static double batch_norm_backward_bytes(const grdi_type *in, int32_t input_count, const grdi_type *out,
                                        const grd_attr *attrs)
{
    (void)input_count, (void)attrs;
    double size =
        (double)(2 * grd_dtype_size(in[0].dtype) + 2 * grd_dtype_size(in[1].dtype) + grd_dtype_size(out[0].dtype));
    return size * (double)grd_dims_count(in[0].dims);
}

static const grdi_sample batch_norm_backward_samples[] = {
    {.in = {"f32[6,3]", "f32[6,3]", "f32[3]", "f32[3] 0.5..2", "f32[3]"}},
    {.in = {"f32[2,3,4,5]", "f32[2,3,4,5]", "f32[5]", "f32[5] 0.5..2", "f32[5]"}},
    {.in = {"f32[3,7,37]", "f32[3,7,37]", "f32[37]", "f32[37] 0.5..2", "f32[37]"}},
    {.in = {"f32[150,3,33]", "f32[150,3,33]", "f32[33]", "f32[33] 0.5..2", "f32[33]"}, .no_gradient = true},
    {.in = {"f32[2500,17]", "f32[2500,17]", "f32[17]", "f32[17] 0.5..2", "f32[17]"}, .no_gradient = true},
    {.in = {"f32[700,24]", "f32[700,24]", "f32[24]", "f32[24] 0.5..2", "f32[24]"}, .no_gradient = true},
    {.in = {"f32[1555,136]", "f32[1555,136]", "f32[136]", "f32[136] 0.5..2", "f32[136]"}, .no_gradient = true},
    {.in = {"f32[2,3,4,5]", "f32[2,3,4,5]", "f32[5]", "f32[5] 0.5..2", "f32[5]", "f32[5]"}},
    {.in = {"f32[3,7,37]", "f32[3,7,37]", "f32[37]", "f32[37] 0.5..2", "f32[37]", "f32[37]"}, .no_gradient = true},
    {.in = {"f32[700,24]", "f32[700,24]", "f32[24]", "f32[24] 0.5..2", "f32[24]", "f32[24]"}, .no_gradient = true},
    {.in = {"f32[32,32,32,64]", "f32[32,32,32,64]", "f32[64]", "f32[64] 0.5..2", "f32[64]"}, .large = true},
    {.in = {"f32[6,3]", "f32[6,4]", "f32[4]", "f32[4]", "f32[4]"}, .bad = "gradient and x differ: [6,3] and [6,4]"},
    {.in = {"f32[6,3]", "f32[6,3]", "f32[3]", "f32[4]", "f32[3]"}, .bad = "rstd is [4]"},
    {.in = {NULL}}};

const grdi_op grdi_op_batch_norm_backward = {.name = "batch_norm_backward",
                                             .inputs = 5,
                                             .inputs_max = 6,
                                             .outputs = 3,
                                             .shape = batch_norm_backward_shape,
                                             .compose = batch_norm_backward_compose,
                                             .reference = batch_norm_backward_reference,
                                             .flops = batch_norm_backward_flops,
                                             .bytes = batch_norm_backward_bytes,
                                             .inplace = {3},
                                             .bf16_out = 1,
                                             .tolerance = 2e-5, /* sums over the batch in f32, of terms of both signs */
                                             .samples = batch_norm_backward_samples};

/* ---- group_norm ---- */

static grd_tensor refuse_groups(grd_tensor x, int64_t groups)
{
    char text[GRD_DIMS_TEXT_MAX];
    return grdi_graph_fail(grd_tensor_graph(x), GRD_E_SHAPE,
                           "group_norm: %lld groups do not divide the channels of x %s, [N,S..,C]", (long long)groups,
                           grd_dims_text(grd_tensor_dims(x), text));
}

grd_tensor grd_group_norm_with(grd_tensor x, int64_t groups, const grd_norm_options *options)
{
    options = options ? options : &(const grd_norm_options){.size = sizeof(grd_norm_options)};
    static const int64_t axes[] = {1, 3};
    grd_dims dims = grd_tensor_dims(x);
    grd_dtype dtype = grd_tensor_dtype(x);
    if (!x.node) return x;
    if (dims.rank < 2 || groups < 1 || channels_of(dims) % groups) return refuse_groups(x, groups);
    int64_t channels = channels_of(dims), each = channels / groups;
    grd_tensor parts = grd_reshape(x, grd_shape(dims.dim[0], rows_of(dims) / dims.dim[0], groups, each));
    parts = grd_cast(parts, grdi_wide_dtype(dtype));
    grd_tensor centred = grd_sub(parts, grd_mean_axes(parts, axes, 2, true));
    grd_tensor variance = grd_mean_axes(grd_square(centred), axes, 2, true);
    grd_tensor rstd = grd_rsqrt(grd_add_scalar(variance, options->eps != 0 ? options->eps : 1e-5));
    grd_tensor y = grd_reshape(grd_cast(grd_mul(centred, rstd), dtype), dims);
    if (options->gain.node) y = grd_mul(y, options->gain);
    return options->bias.node ? grd_add(y, options->bias) : y;
}
