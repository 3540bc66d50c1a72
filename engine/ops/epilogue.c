/* epilogue.c - products that do in one call what would be a pass over memory of its own: an activation's slope on the
 * way out, or the sums of an operand's columns on the way in. No gradient rule emits them; passes/epilogue.c does, for
 * devices whose products can do it. */
#include "ops/table.h"

#include <gradus/ops.h>

/* As in matmul.c. */
#define SUM_TOLERANCE 1e-5

static bool two_dimensions(grdi_infer *c, int32_t input)
{
    char text[GRD_DIMS_TEXT_MAX];
    if (!grdi_infer_float(c, input) || !grdi_infer_same_dtype(c, input, 0)) return false;
    return c->in[input].dims.rank == 2 || grdi_infer_fail(c, GRD_E_SHAPE, "input %d must be a matrix, is %s", input,
                                                          grd_dims_text(c->in[input].dims, text));
}

/* ---- matmul_gelu_tanh_backward: g [R,N], w [N,K], x [R,K] -> (g w) gelu_tanh'(x) ---- */

static bool slope_shape(grdi_infer *c)
{
    char a[GRD_DIMS_TEXT_MAX], b[GRD_DIMS_TEXT_MAX], x[GRD_DIMS_TEXT_MAX];
    for (int32_t i = 0; i < 3; i++)
        if (!two_dimensions(c, i)) return false;
    grd_dims out = grd_shape(c->in[0].dims.dim[0], c->in[1].dims.dim[1]);
    if (c->in[0].dims.dim[1] != c->in[1].dims.dim[0] || !grd_dims_equal(c->in[2].dims, out))
        return grdi_infer_fail(c, GRD_E_SHAPE, "shapes do not fit: %s x %s, and the slope is taken at %s",
                               grd_dims_text(c->in[0].dims, a), grd_dims_text(c->in[1].dims, b),
                               grd_dims_text(c->in[2].dims, x));
    c->out[0] = (grdi_type){c->in[0].dtype, out};
    return true;
}

static void slope_compose(grdi_compose *c)
{
    c->out[0] = grd_gelu_tanh_backward(grd_matmul(c->in[0], c->in[1]), c->in[2]);
}

static void slope_reference(const grdi_reference *r)
{
    int64_t inner = r->in_type[1].dims.dim[0], columns = r->in_type[1].dims.dim[1];
    for (int64_t i = 0; i < grd_dims_count(r->out_type[0].dims); i++) {
        const double *g = r->in[0] + i / columns * inner, *w = r->in[1] + i % columns;
        double x[2] = {0, r->in[2][i]};
        for (int64_t n = 0; n < inner; n++) x[0] += g[n] * w[n * columns];
        r->out[0][i] = grdi_op_gelu_tanh_backward.scalar(x, NULL);
    }
}

static double product_flops(const grdi_type *in, int32_t input_count, const grdi_type *out, const grd_attr *attrs)
{
    (void)input_count, (void)attrs;
    return 2.0 * (double)grd_dims_count(out[0].dims) * (double)grd_dims_count(in[0].dims) /
           (double)(out[0].dims.dim[0]);
}

static const grdi_sample slope_samples[] = {
    {.in = {"f32[5,7]", "f32[7,3]", "f32[5,3]"}},
    {.in = {"f32[33,13]", "f32[13,72]", "f32[33,72]"}},
    {.in = {"f32[1,1]", "f32[1,1]", "f32[1,1]"}},
    {.in = {"f32[70,65]", "f32[65,64]", "f32[70,64]"}, .no_gradient = true},
    {.in = {"f32[5,7]", "f32[6,3]", "f32[5,3]"}, .bad = "shapes do not fit: [5,7] x [6,3]"},
    {.in = {"f32[5,7]", "f32[7,3]", "f32[3,5]"}, .bad = "slope is taken at [3,5]"},
    {.in = {"f32[5,7]", "f32[7]", "f32[5,3]"}, .bad = "input 1 must be a matrix, is [7]"},
    {.in = {NULL}},
};

const grdi_op grdi_op_matmul_gelu_tanh_backward = {
    .name = "matmul_gelu_tanh_backward",
    .inputs = 3,
    .flags = GRDI_OP_MATMUL,
    .bf16_in = 7, /* what the slope is taken at was stored so by the product that made it */
    .bf16_out = 1,
    .shape = slope_shape,
    .compose = slope_compose,
    .reference = slope_reference,
    .flops = product_flops,
    .tolerance = SUM_TOLERANCE,
    .samples = slope_samples,
};

/* ---- matmul_column_sums: g [R,N], x [R,K] -> g^T x [N,K], the sums of g's columns [N] ---- */

static bool sums_shape(grdi_infer *c)
{
    char a[GRD_DIMS_TEXT_MAX], b[GRD_DIMS_TEXT_MAX];
    if (!two_dimensions(c, 0) || !two_dimensions(c, 1)) return false;
    grd_dims g = c->in[0].dims, x = c->in[1].dims;
    if (g.dim[0] != x.dim[0])
        return grdi_infer_fail(c, GRD_E_SHAPE, "rows differ: %s transposed x %s", grd_dims_text(g, a),
                               grd_dims_text(x, b));
    c->out[0] = (grdi_type){c->in[0].dtype, grd_shape(g.dim[1], x.dim[1])};
    c->out[1] = (grdi_type){c->in[0].dtype, grd_shape(g.dim[1])};
    return true;
}

static void sums_compose(grdi_compose *c)
{
    c->out[0] = grd_matmul(grd_transpose2(c->in[0]), c->in[1]);
    c->out[1] = grd_sum_to(c->in[0], grd_shape(grd_dim(c->in[0], 1)));
}

static void sums_reference(const grdi_reference *r)
{
    int64_t rows = r->in_type[0].dims.dim[0], columns = r->in_type[0].dims.dim[1], width = r->in_type[1].dims.dim[1];
    for (int64_t n = 0; n < columns; n++) {
        double sum = 0;
        for (int64_t i = 0; i < rows; i++) sum += r->in[0][i * columns + n];
        if (r->out[1]) r->out[1][n] = sum;
        for (int64_t k = 0; r->out[0] && k < width; k++) {
            sum = 0;
            for (int64_t i = 0; i < rows; i++) sum += r->in[0][i * columns + n] * r->in[1][i * width + k];
            r->out[0][n * width + k] = sum;
        }
    }
}

static const grdi_sample sums_samples[] = {
    {.in = {"f32[5,7]", "f32[5,3]"}},
    {.in = {"f32[33,13]", "f32[33,72]"}},
    {.in = {"f32[1,1]", "f32[1,1]"}},
    {.in = {"f32[301,40]", "f32[301,24]"}, .no_gradient = true},
    {.in = {"f32[301,13]", "f32[301,8]"}, .no_gradient = true},
    {.in = {"f32[5,7]", "f32[4,3]"}, .bad = "rows differ: [5,7] transposed x [4,3]"},
    {.in = {"f32[5,7]", "f32[5]"}, .bad = "input 1 must be a matrix, is [5]"},
    {.in = {NULL}},
};

const grdi_op grdi_op_matmul_column_sums = {
    .name = "matmul_column_sums",
    .inputs = 2,
    .outputs = 2,
    .flags = GRDI_OP_MATMUL,
    .bf16_in = 3, /* gradients of weights stay in f32 */
    .shape = sums_shape,
    .compose = sums_compose,
    .reference = sums_reference,
    .flops = product_flops,
    .tolerance = SUM_TOLERANCE,
    .samples = sums_samples,
};
