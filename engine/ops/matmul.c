/* matmul.c - matrix products: matmul and linear (x w^T + bias with an activation). */
#include <gradus/ops.h>
#include "ops/axis.h"
#include "ops/table.h"

#include <math.h>

/* Sums of K products in f32, in any order: each step is off by up to 3e-8 of the sum so far, and the steps add up as a
 * random walk, so 3e-8 sqrt(K) of a typical result; times 5 for the worst of a million elements, with K up to 4096. */
#define SUM_TOLERANCE 1e-5

/* ---- matmul ---- */

static grd_dims without_last_two(grd_dims dims)
{
    return grd_dims_make(dims.rank - 2, dims.dim);
}

static bool matmul_shape(grdi_infer *c)
{
    grd_dims a = c->in[0].dims, b = c->in[1].dims, out;
    char a_text[GRD_DIMS_TEXT_MAX], b_text[GRD_DIMS_TEXT_MAX];
    if (!grdi_infer_float(c, 0) || !grdi_infer_same_dtype(c, 0, 1)) return false;
    if (a.rank < 2 || b.rank < 2)
        return grdi_infer_fail(c, GRD_E_SHAPE,
                               "both operands need two dimensions or more: %s x %s (reshape a vector to [1,K])",
                               grd_dims_text(a, a_text), grd_dims_text(b, b_text));
    if (a.dim[a.rank - 1] != b.dim[b.rank - 2])
        return grdi_infer_fail(c, GRD_E_SHAPE, "inner sizes differ: %s x %s", grd_dims_text(a, a_text),
                               grd_dims_text(b, b_text));
    if (!grdi_infer_broadcast(c, without_last_two(a), without_last_two(b), &out)) return false;
    out.dim[out.rank++] = a.dim[a.rank - 2];
    out.dim[out.rank++] = b.dim[b.rank - 1];
    c->out[0] = (grdi_type){c->in[0].dtype, out};
    return true;
}

/* The leading dimensions folded into the rows: [...,M,K] -> [rows,K]. */
static grd_tensor as_matrix(grd_tensor x)
{
    return grd_tensor_dims(x).rank == 2 ? x : grd_reshape(x, grd_shape(-1, grd_dim(x, -1)));
}

static void matmul_gradient(grdi_gradient *g)
{
    grd_tensor a = g->in[0], b = g->in[1], arriving = grdi_grad_out(g, 0);
    if (g->need[0]) g->grad_in[0] = grdi_sum_to_like(grd_matmul(arriving, grd_transpose2(b)), a); /* g b^T */
    if (!g->need[1]) return;
    if (grd_tensor_dims(b).rank == 2) /* one b for all batches: one product over all rows, not a sum of products */
        g->grad_in[1] = grd_matmul(grd_transpose2(as_matrix(a)), as_matrix(arriving));
    else
        g->grad_in[1] = grdi_sum_to_like(grd_matmul(grd_transpose2(a), arriving), b); /* a^T g */
}

/* Where the matrix of batch `index` of `out` starts in an operand whose leading dimensions were broadcast. */
static int64_t batch_offset(grd_dims operand, grd_dims out, int64_t index)
{
    grd_dims batch = without_last_two(out), own = without_last_two(operand);
    int64_t coordinate[GRD_RANK_MAX], mine[GRD_RANK_MAX];
    grdi_unravel(batch, index, coordinate);
    for (int32_t i = 0; i < own.rank; i++)
        mine[i] = own.dim[i] == 1 ? 0 : coordinate[i + batch.rank - own.rank];
    return grdi_ravel(own, mine) * operand.dim[operand.rank - 2] * operand.dim[operand.rank - 1];
}

/* y[m][n] = sum over k of a[m][k] b[k][n], for each batch */
static void matmul_reference(const grdi_reference *r)
{
    grd_dims a_dims = r->in_type[0].dims, b_dims = r->in_type[1].dims, dims = r->out_type[0].dims;
    int64_t rows = dims.dim[dims.rank - 2], columns = dims.dim[dims.rank - 1], inner = a_dims.dim[a_dims.rank - 1];
    int64_t batches = grd_dims_count(without_last_two(dims));
    for (int64_t batch = 0; batch < batches; batch++) {
        const double *a = r->in[0] + batch_offset(a_dims, dims, batch);
        const double *b = r->in[1] + batch_offset(b_dims, dims, batch);
        double *y = r->out[0] + batch * rows * columns;
        for (int64_t m = 0; m < rows; m++) {
            for (int64_t n = 0; n < columns; n++) {
                double sum = 0;
                for (int64_t k = 0; k < inner; k++) sum += a[m * inner + k] * b[k * columns + n];
                y[m * columns + n] = sum;
            }
        }
    }
}

static double matmul_flops(const grdi_type *in, int32_t input_count, const grdi_type *out, const grd_attr *attrs)
{
    (void)input_count, (void)attrs;
    return 2.0 * (double)grd_dims_count(out[0].dims) * (double)in[0].dims.dim[in[0].dims.rank - 1];
}

static const grdi_sample matmul_samples[] = {
    {.in = {"f32[3,7]", "f32[7,13]"}},
    {.in = {"f32[1,1]", "f32[1,1]"}},
    {.in = {"f32[2,5,33]", "f32[33,7]"}}, /* one right operand for all batches */
    {.in = {"f32[2,3,4,5]", "f32[2,3,5,6]"}},
    {.in = {"f32[3,1,4,5]", "f32[2,5,7]"}}, /* leading dimensions broadcast both ways */
    {.in = {"f32[4,5]", "f32[3,5,2]"}},
    {.in = {"f32[70,65]", "f32[65,129]"}},
    {.in = {"f32[197,301]", "f32[301,265]"},
     .no_gradient = true}, /* more than one block of a kernel each way: for kernels */
    {.in = {"f32[3,67,130]", "f32[3,130,37]"}, .no_gradient = true},
    {.in = {"f32[3,7]", "f32[8,13]"}, .bad = "inner sizes differ: [3,7] x [8,13]"},
    {.in = {"f32[2,3,4]", "f32[3,4,5]"}, .bad = "[2]"},
    {.in = {"f32[3,7]", "f32[7]"}, .bad = "two dimensions"},
    {.in = {"f32[3,7]", "bf16[7,2]"}, .bad = "bf16"},
    {.in = {"i32[3,7]", "i32[7,2]"}, .bad = "i32"},
    {.in = {"f32[1024,768]", "f32[768,768]"}, .large = true},
    {.in = {"f32[8,12,256,64]", "f32[8,12,64,256]"}, .large = true},
    {.in = {NULL}}};

const grdi_op grdi_op_matmul = {
    .name = "matmul", .inputs = 2, .shape = matmul_shape, .gradient = matmul_gradient, .reference = matmul_reference,
    .flops = matmul_flops, .flags = GRDI_OP_MATMUL, .bf16_in = 3, .bf16_out = 1, .tolerance = SUM_TOLERANCE,
    .samples = matmul_samples};

grd_tensor grd_matmul(grd_tensor a, grd_tensor b)
{
    return GRDI_EMIT(&grdi_op_matmul, a, b);
}

/* ---- linear ---- */

/* By grd_activation; NULL where there is none. */
static const grdi_op *const activation_op[GRD_ACTIVATION_COUNT] = {
    [GRD_ACTIVATION_RELU] = &grdi_op_relu,
    [GRD_ACTIVATION_GELU] = &grdi_op_gelu,
    [GRD_ACTIVATION_GELU_TANH] = &grdi_op_gelu_tanh,
    [GRD_ACTIVATION_SILU] = &grdi_op_silu,
    [GRD_ACTIVATION_RELU_SQUARED] = &grdi_op_relu_squared,
    [GRD_ACTIVATION_TANH] = &grdi_op_tanh,
    [GRD_ACTIVATION_SIGMOID] = &grdi_op_sigmoid};

static bool linear_shape(grdi_infer *c)
{
    grd_dims x = c->in[0].dims, w = c->in[1].dims;
    char x_text[GRD_DIMS_TEXT_MAX], w_text[GRD_DIMS_TEXT_MAX];
    int64_t activation = grdi_attr_int(c->attrs, "activation");
    if (activation < 0 || activation >= GRD_ACTIVATION_COUNT)
        return grdi_infer_fail(c, GRD_E_ARGUMENT, "activation %lld does not exist (0 to %d)", (long long)activation,
                               GRD_ACTIVATION_COUNT - 1);
    if (!grdi_infer_float(c, 0) || !grdi_infer_same_dtype(c, 0, 1)) return false;
    if (x.rank < 1 || w.rank != 2)
        return grdi_infer_fail(c, GRD_E_SHAPE, "x [...,K] and a weight [N,K] are needed, not %s and %s",
                               grd_dims_text(x, x_text), grd_dims_text(w, w_text));
    if (x.dim[x.rank - 1] != w.dim[1])
        return grdi_infer_fail(c, GRD_E_SHAPE, "inner sizes differ: %s x %s transposed", grd_dims_text(x, x_text),
                               grd_dims_text(w, w_text));
    if (c->input_count == 3) {
        if (!grdi_infer_same_dtype(c, 0, 2)) return false;
        if (!grd_dims_equal(c->in[2].dims, grd_shape(w.dim[0])))
            return grdi_infer_fail(c, GRD_E_SHAPE, "bias %s does not fit the weight %s (one bias per row)",
                                   grd_dims_text(c->in[2].dims, x_text), grd_dims_text(w, w_text));
    }
    x.dim[x.rank - 1] = w.dim[0];
    c->out[0] = c->out[1] = (grdi_type){c->in[0].dtype, x};
    return true;
}

/* What a gradient arriving at y is at the value before the activation. Where y says enough, y is used, so that the
 * value before the activation need not be kept (or even computed). */
static grd_tensor through_activation(const grdi_gradient *g)
{
    grd_tensor arriving = g->grad_out[0], y = g->out[0], pre = g->out[1];
    switch ((grd_activation)grdi_attr_int(g->attrs, "activation")) {
    case GRD_ACTIVATION_RELU: return grd_relu_backward(arriving, y); /* y > 0 where pre > 0 */
    case GRD_ACTIVATION_GELU: return grd_gelu_backward(arriving, pre);
    case GRD_ACTIVATION_GELU_TANH: return grd_gelu_tanh_backward(arriving, pre);
    case GRD_ACTIVATION_SILU: return grd_silu_backward(arriving, pre);
    case GRD_ACTIVATION_RELU_SQUARED: return grd_relu_squared_backward(arriving, pre);
    case GRD_ACTIVATION_TANH: return grd_tanh_backward(arriving, y);
    case GRD_ACTIVATION_SIGMOID: return grd_sigmoid_backward(arriving, y);
    default: return arriving;
    }
}

/* With g the gradient before the activation, all leading dimensions folded into rows:
 * dx = g w, dw = g^T x, dbias = sum over rows of g. */
static void linear_gradient(grdi_gradient *g)
{
    grd_tensor x = g->in[0], w = g->in[1], arriving = g->grad_out[1];
    if (g->grad_out[0].node) {
        grd_tensor back = through_activation(g);
        arriving = arriving.node ? grd_add(arriving, back) : back;
    }
    grd_tensor rows = as_matrix(arriving); /* [rows,N] */
    if (g->need[0]) g->grad_in[0] = grd_reshape(grd_matmul(rows, w), grd_tensor_dims(x));
    if (g->need[1]) g->grad_in[1] = grd_matmul(grd_transpose2(rows), as_matrix(x));
    if (g->input_count == 3 && g->need[2]) g->grad_in[2] = grdi_sum_to_like(rows, g->in[2]);
}

static void linear_compose(grdi_compose *c)
{
    grd_tensor x = c->in[0], w = c->in[1];
    grd_dims dims = grd_tensor_dims(x);
    dims.dim[dims.rank - 1] = grd_dim(w, 0);
    grd_tensor pre = grd_reshape(grd_matmul(as_matrix(x), grd_transpose2(w)), dims);
    if (c->input_count == 3) pre = grd_add(pre, c->in[2]);
    const grdi_op *activation = activation_op[grdi_attr_int(c->attrs, "activation")];
    c->out[0] = activation ? GRDI_EMIT(activation, pre) : pre;
    c->out[1] = pre;
}

/* pre[r][n] = sum over k of x[r][k] w[n][k], plus bias[n]; y = activation(pre). Without an activation y says it all,
 * and pre is not given. */
static void linear_reference(const grdi_reference *r)
{
    const grdi_op *activation = activation_op[grdi_attr_int(r->attrs, "activation")];
    int64_t columns = r->in_type[1].dims.dim[0], inner = r->in_type[1].dims.dim[1];
    int64_t count = grd_dims_count(r->out_type[0].dims);
    for (int64_t i = 0; i < count; i++) {
        const double *x = r->in[0] + i / columns * inner, *w = r->in[1] + i % columns * inner;
        double pre = r->input_count == 3 ? r->in[2][i % columns] : 0;
        for (int64_t k = 0; k < inner; k++) pre += x[k] * w[k];
        if (r->out[0]) r->out[0][i] = activation ? activation->scalar(&pre, activation->attrs) : pre;
        if (r->out[1] && activation) r->out[1][i] = pre;
    }
}

static const grdi_sample linear_samples[] = {
    {.in = {"f32[5,7]", "f32[3,7]"}},
    {.in = {"f32[7]", "f32[3,7]", "f32[3]"}},
    {.in = {"f32[2,3,13]", "f32[5,13]", "f32[5]"}},
    {.in = {"f32[4,7]", "f32[3,7]", "f32[3]"}, "activation=1"},
    {.in = {"f32[4,7]", "f32[3,7]", "f32[3]"}, "activation=2"},
    {.in = {"f32[4,1,7]", "f32[3,7]"}, "activation=3"},
    {.in = {"f32[4,7]", "f32[3,7]", "f32[3]"}, "activation=4"},
    {.in = {"f32[4,7]", "f32[3,7]", "f32[3]"}, "activation=5"},
    {.in = {"f32[4,7]", "f32[3,7]", "f32[3]"}, "activation=6"},
    {.in = {"f32[4,7]", "f32[3,7]", "f32[3]"}, "activation=7"},
    {.in = {"f32[33,65]", "f32[70,65]", "f32[70]"}, "activation=3"},
    {.in = {"f32[2,97,301]", "f32[265,301]", "f32[265]"},
     "activation=3",
     .no_gradient = true}, /* for kernels' blocks */
    {.in = {"f32[130,257]", "f32[67,257]"}, .no_gradient = true},
    {.in = {"f32[5,7]", "f32[3,8]"}, .bad = "inner sizes differ: [5,7] x [3,8]"},
    {.in = {"f32[5,7]", "f32[3,7]", "f32[4]"}, .bad = "bias [4] does not fit"},
    {.in = {"f32[5,7]", "f32[7]"}, .bad = "[5,7] and [7]"},
    {.in = {"f32[5,7]", "f32[3,7]", "f64[3]"}, .bad = "f64"},
    {.in = {"f32[5,7]", "f32[3,7]"}, "activation=8", .bad = "activation 8"},
    {.in = {"f32[2048,384]", "f32[1536,384]", "f32[1536]"}, "activation=3", .large = true},
    {.in = {"f32[2048,1536]", "f32[384,1536]", "f32[384]"}, .large = true},
    {.in = {NULL}}};

const grdi_op grdi_op_linear = {
    .name = "linear", .inputs = 2, .inputs_max = 3, .outputs = 2, .attrs = {GRD_INT("activation", 0)},
    .shape = linear_shape, .gradient = linear_gradient, .compose = linear_compose, .reference = linear_reference,
    .flops = matmul_flops, .flags = GRDI_OP_MATMUL, .bf16_in = 3, .bf16_out = 3, .tolerance = SUM_TOLERANCE,
    .samples = linear_samples};

grd_tensor grd_affine_with(grd_tensor x, grd_tensor w, const grd_affine_options *options)
{
    options = options ? options : &(const grd_affine_options){.size = sizeof(grd_affine_options)};
    grd_tensor in[3] = {x, w, options->bias};
    return grdi_emit(NULL, &grdi_op_linear, in, options->bias.node ? 3 : 2,
                     GRDI_LIST(grd_attr, GRD_INT("activation", options->activation)), NULL);
}
