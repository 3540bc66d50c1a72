/* classifier.c - cross-entropy of class scores, by itself and joined with the product that makes the scores. */
#include "ops/axis.h"
#include "ops/nn.h"
#include "ops/table.h"

#include "graph/build.h"

#include <gradus/ops_math.h>
#include <gradus/ops_nn.h>
#include <gradus/ops_shape.h>

#include <math.h>

/* The attributes that all ops here have. */
typedef struct recipe {
    int64_t ignore;
    double smoothing, z, softcap;
} recipe;

static recipe recipe_of(const grd_attr *attrs)
{
    return (recipe){grdi_attr_int(attrs, "ignore_index"), grdi_attr_float(attrs, "label_smoothing"),
                    grdi_attr_float(attrs, "z_loss"), grdi_attr_float(attrs, "softcap")};
}

static bool check_recipe(grdi_infer *c)
{
    recipe a = recipe_of(c->attrs);
    if (!(a.smoothing >= 0 && a.smoothing <= 1))
        return grdi_infer_fail(c, GRD_E_ARGUMENT, "label_smoothing is %g, must be in 0..1", a.smoothing);
    if (!(a.z >= 0)) return grdi_infer_fail(c, GRD_E_ARGUMENT, "z_loss is %g, must be 0 or more", a.z);
    if (a.softcap >= 0) return true;
    return grdi_infer_fail(c, GRD_E_ARGUMENT, "softcap is %g, must be 0 (none) or more", a.softcap);
}

/* ---- references ---- */

/* The logits of one row: as they are (w NULL), or x w^T, capped. */
typedef struct row {
    const double *x, *w;
    int64_t channels, classes;
    double softcap;
} row;

static double logit(const row *r, int64_t v)
{
    if (!r->w) return r->x[v];
    double sum = 0;
    for (int64_t c = 0; c < r->channels; c++) sum += r->x[c] * r->w[v * r->channels + c];
    return r->softcap > 0 ? r->softcap * tanh(sum / r->softcap) : sum;
}

static double row_lse(const row *r)
{
    double most = -INFINITY, sum = 0;
    for (int64_t v = 0; v < r->classes; v++)
        if (logit(r, v) > most) most = logit(r, v);
    for (int64_t v = 0; v < r->classes; v++) sum += exp(logit(r, v) - most);
    return most + log(sum);
}

static bool out_of_range(const row *r, double target)
{
    return !(target >= 0 && target < (double)r->classes);
}

/* lse - (1-e) logit[target] - e mean(logit) + z lse^2 */
static double row_loss(const row *r, const recipe *a, double target, double lse)
{
    if (target == (double)a->ignore) return 0;
    if (out_of_range(r, target)) return NAN;
    double loss = lse - (1 - a->smoothing) * logit(r, (int64_t)target) + a->z * lse * lse;
    for (int64_t v = 0; a->smoothing > 0 && v < r->classes; v++)
        loss -= a->smoothing / (double)r->classes * logit(r, v);
    return loss;
}

/* The loss's derivative by logit v: p (1 + 2 z lse) - (1-e) [v = target] - e/V */
static double row_slope(const row *r, const recipe *a, double target, double lse, int64_t v)
{
    if (target == (double)a->ignore) return 0;
    if (out_of_range(r, target)) return NAN;
    double slope = exp(logit(r, v) - lse) * (1 + 2 * a->z * lse) - a->smoothing / (double)r->classes;
    return slope - (v == (int64_t)target ? 1 - a->smoothing : 0);
}

/* ---- cross_entropy ---- */

/* Targets are i32 of the logits' shape without the last axis. */
static bool check_targets(grdi_infer *c, int32_t logits, int32_t targets)
{
    if (!grdi_infer_float(c, logits)) return false;
    grd_dims have = c->in[targets].dims, of = c->in[logits].dims;
    char a[GRD_DIMS_TEXT_MAX], b[GRD_DIMS_TEXT_MAX];
    if (c->in[targets].dtype != GRD_I32)
        return grdi_infer_fail(c, GRD_E_DTYPE, "targets must be i32, are %s", grd_dtype_name(c->in[targets].dtype));
    grd_dims wanted = of;
    wanted.rank--;
    if (of.rank >= 1 && grd_dims_equal(have, wanted)) return true;
    return grdi_infer_fail(c, GRD_E_SHAPE, "targets are %s, must be the logits' shape %s without the last axis",
                           grd_dims_text(have, a), grd_dims_text(of, b));
}

static bool cross_entropy_shape(grdi_infer *c)
{
    if (!check_targets(c, 0, 1) || !check_recipe(c)) return false;
    c->out[0] = c->out[1] = (grdi_type){grdi_wide_dtype(c->in[0].dtype), c->in[1].dims};
    return true;
}

static void cross_entropy_reference(const grdi_reference *r)
{
    recipe a = recipe_of(r->attrs);
    grdi_axis rows = grdi_axis_of(r->in_type[0].dims, -1);
    for (int64_t n = 0; n < rows.outer; n++) {
        row x = {.x = r->in[0] + n * rows.size, .classes = rows.size};
        double lse = row_lse(&x);
        if (r->out[0]) r->out[0][n] = row_loss(&x, &a, r->in[1][n], lse);
        if (r->out[1]) r->out[1][n] = lse;
    }
}

/* True where a target counts, [...] bool. */
static grd_tensor counts(grd_tensor targets, int64_t ignore)
{
    return grd_ne(targets, grd_full(grd_tensor_graph(targets), GRD_I32, grd_scalar(), (double)ignore));
}

static void cross_entropy_compose(grdi_compose *c)
{
    recipe a = recipe_of(c->attrs);
    grd_tensor targets = c->in[1], x = grd_cast(c->in[0], grdi_wide_dtype(grd_tensor_dtype(c->in[0])));
    grd_tensor lse = grd_logsumexp_axis(x, -1, false);
    grd_tensor picked = grd_squeeze(grd_gather(x, grd_unsqueeze(targets, -1), -1), -1);
    grd_tensor losses = grd_sub(lse, grd_mul_scalar(picked, 1 - a.smoothing));
    if (a.smoothing > 0) losses = grd_sub(losses, grd_mul_scalar(grd_mean_axis(x, -1, false), a.smoothing));
    if (a.z > 0) losses = grd_add(losses, grd_mul_scalar(grd_square(lse), a.z));
    c->out[0] = grd_where(counts(targets, a.ignore), losses, grd_zeros_like(losses));
    c->out[1] = lse;
}

static grd_tensor cross_entropy_backward(grd_tensor g, grd_tensor logits, grd_tensor targets, grd_tensor lse, recipe a)
{
    return GRDI_EMIT_ATTRS(&grdi_op_cross_entropy_backward,
                           GRDI_LIST(grd_attr, GRD_INT("ignore_index", a.ignore),
                                     GRD_FLOAT("label_smoothing", a.smoothing), GRD_FLOAT("z_loss", a.z)),
                           g, logits, targets, lse);
}

static void cross_entropy_gradient(grdi_gradient *g)
{
    if (g->grad_out[1].node) { /* second derivatives */
        g->through_compose = true;
        return;
    }
    g->grad_in[0] = cross_entropy_backward(g->grad_out[0], g->in[0], g->in[1], g->out[1], recipe_of(g->attrs));
}

/* Maximum, difference, exponential, sum. */
static double cross_entropy_flops(const grdi_type *in, int32_t input_count, const grdi_type *out, const grd_attr *attrs)
{
    (void)input_count, (void)out, (void)attrs;
    return 4.0 * (double)grd_dims_count(in[0].dims);
}

#define CROSS_ENTROPY_ATTRS GRD_INT("ignore_index", -100), GRD_FLOAT("label_smoothing", 0), GRD_FLOAT("z_loss", 0)

static const grdi_sample cross_entropy_samples[] = {
    {.in = {"f32[5,7]", "i32[5] 0..6"}},
    {.in = {"f32[2,9,13]", "i32[2,9] -1..12"}, .attrs = "ignore_index=-1"},
    {.in = {"f32[11,33]", "i32[11] 0..32"}, .attrs = "label_smoothing=0.1 z_loss=0.01 ignore_index=3"},
    {.in = {"f32[2,3,2,5]", "i32[2,3,2] 0..4"}, .attrs = "z_loss=0.5"},
    {.in = {"f32[7]", "i32[] 0..6"}, .attrs = "label_smoothing=1"},
    {.in = {"f32[3,5]", "i32[3] -100..-100"}}, /* all ignored */
    {.in = {"f32[4,1]", "i32[4] 0..0"}},
    {.in = {"f32[7,65] -80..80", "i32[7] 0..64"}, .no_gradient = true}, /* too far apart for differences */
    {.in = {"f32[256,8192]", "i32[256] 0..8191"}, .large = true},
    {.in = {"f32[5,7]", "i32[4] 0..6"}, .bad = "targets are [4], must be the logits' shape [5,7] without"},
    {.in = {"f32[5,7]", "f32[5]"}, .bad = "targets must be i32, are f32"},
    {.in = {"f32[5,7]", "i32[5] 0..6"}, .attrs = "z_loss=-1", .bad = "z_loss is -1"},
    {.in = {"f32[5,7]", "i32[5] 0..6"}, .attrs = "label_smoothing=1.5", .bad = "label_smoothing is 1.5"},
    {.in = {NULL}},
};

const grdi_op grdi_op_cross_entropy = {
    .name = "cross_entropy",
    .inputs = 2,
    .outputs = 2,
    .attrs = {CROSS_ENTROPY_ATTRS},
    .shape = cross_entropy_shape,
    .gradient = cross_entropy_gradient,
    .compose = cross_entropy_compose,
    .reference = cross_entropy_reference,
    .flops = cross_entropy_flops,
    .tolerance = 1e-5, /* a sum of exponentials over V, and lse - logit cancels where the target is likely */
    .samples = cross_entropy_samples,
};

/* ---- cross_entropy_backward: inputs g [...], logits, targets, lse ---- */

static bool cross_entropy_backward_shape(grdi_infer *c)
{
    if (!check_targets(c, 1, 2) || !check_recipe(c)) return false;
    grd_dtype wide = grdi_wide_dtype(c->in[1].dtype);
    char a[GRD_DIMS_TEXT_MAX], b[GRD_DIMS_TEXT_MAX], d[GRD_DIMS_TEXT_MAX];
    if (c->in[0].dtype != wide || c->in[3].dtype != wide)
        return grdi_infer_fail(c, GRD_E_DTYPE, "gradient and lse must be %s, are %s and %s", grd_dtype_name(wide),
                               grd_dtype_name(c->in[0].dtype), grd_dtype_name(c->in[3].dtype));
    if (!grd_dims_equal(c->in[0].dims, c->in[2].dims) || !grd_dims_equal(c->in[3].dims, c->in[2].dims))
        return grdi_infer_fail(c, GRD_E_SHAPE, "gradient and lse must be of the targets' shape %s, are %s and %s",
                               grd_dims_text(c->in[2].dims, a), grd_dims_text(c->in[0].dims, b),
                               grd_dims_text(c->in[3].dims, d));
    c->out[0] = c->in[1];
    return true;
}

static void cross_entropy_backward_reference(const grdi_reference *r)
{
    recipe a = recipe_of(r->attrs);
    grdi_axis rows = grdi_axis_of(r->in_type[1].dims, -1);
    for (int64_t n = 0; n < rows.outer; n++) {
        row x = {.x = r->in[1] + n * rows.size, .classes = rows.size};
        for (int64_t v = 0; v < rows.size; v++)
            r->out[0][n * rows.size + v] = r->in[0][n] * row_slope(&x, &a, r->in[2][n], r->in[3][n], v);
    }
}

static void cross_entropy_backward_compose(grdi_compose *c)
{
    recipe a = recipe_of(c->attrs);
    grd_dtype dtype = grd_tensor_dtype(c->in[1]), wide = grdi_wide_dtype(dtype);
    grd_tensor g = grd_unsqueeze(c->in[0], -1), x = grd_cast(c->in[1], wide), targets = c->in[2];
    grd_tensor lse = grd_unsqueeze(c->in[3], -1);
    int64_t classes = grd_dim(x, -1);
    grd_tensor slope = grd_exp(grd_sub(x, lse)); /* [...,V] */
    if (a.z > 0) slope = grd_mul(slope, grd_add_scalar(grd_mul_scalar(lse, 2 * a.z), 1));
    slope = grd_sub(slope, grd_mul_scalar(grd_one_hot(targets, classes, wide), 1 - a.smoothing));
    if (a.smoothing > 0) slope = grd_add_scalar(slope, -a.smoothing / (double)classes);
    grd_tensor product = grd_mul(slope, g);
    grd_tensor kept = grd_where(grd_unsqueeze(counts(targets, a.ignore), -1), product, grd_zeros_like(product));
    c->out[0] = grd_cast(kept, dtype);
}

static double cross_entropy_backward_flops(const grdi_type *in, int32_t input_count, const grdi_type *out,
                                           const grd_attr *attrs)
{
    (void)input_count, (void)out, (void)attrs;
    return 4.0 * (double)grd_dims_count(in[1].dims);
}

static const grdi_sample cross_entropy_backward_samples[] = {
    {.in = {"f32[5]", "f32[5,7]", "i32[5] 0..6", "f32[5] 1..3"}},
    {.in = {"f32[2,9]", "f32[2,9,13]", "i32[2,9] -1..12", "@cross_entropy:1(1,2)"}, .attrs = "ignore_index=-1"},
    {.in = {"f32[11]", "f32[11,33]", "i32[11] 0..32", "f32[11] 3..5"},
     .attrs = "label_smoothing=0.1 z_loss=0.01 ignore_index=3"},
    {.in = {"f32[]", "f32[7]", "i32[] 0..6", "f32[] 1..3"}, .attrs = "label_smoothing=1 z_loss=0.5"},
    {.in = {"f32[256]", "f32[256,8192]", "i32[256] 0..8191", "@cross_entropy:1(1,2)"}, .large = true},
    {.in = {"f32[5]", "f32[5,7]", "i32[5] 0..6", "f32[7]"}, .bad = "must be of the targets' shape [5], are [5] and"},
    {.in = {"f32[5]", "f32[5,7]", "i32[7] 0..6", "f32[5]"}, .bad = "targets are [7]"},
    {.in = {"bf16[5]", "f32[5,7]", "i32[5] 0..6", "f32[5]"}, .bad = "gradient and lse must be f32, are bf16"},
    {.in = {NULL}},
};

const grdi_op grdi_op_cross_entropy_backward = {
    .name = "cross_entropy_backward",
    .inputs = 4,
    .flags = GRDI_OP_FOLLOWS,
    .attrs = {CROSS_ENTROPY_ATTRS},
    .shape = cross_entropy_backward_shape,
    .compose = cross_entropy_backward_compose,
    .reference = cross_entropy_backward_reference,
    .flops = cross_entropy_backward_flops,
    .inplace = {2},
    .tolerance = 5e-6, /* an exponential of a rounded difference; p - 1 cancels where the target is likely */
    .samples = cross_entropy_backward_samples,
};

/* ---- linear_cross_entropy: inputs x [N,C], w [V,C], targets [N], scale ---- */

static bool linear_cross_entropy_shape(grdi_infer *c)
{
    grd_dims x = c->in[0].dims, w = c->in[1].dims, targets = c->in[2].dims;
    char a[GRD_DIMS_TEXT_MAX], b[GRD_DIMS_TEXT_MAX];
    if (!grdi_infer_float(c, 0) || !grdi_infer_same_dtype(c, 1, 0) || !check_recipe(c)) return false;
    if (x.rank != 2 || w.rank != 2 || x.dim[1] != w.dim[1])
        return grdi_infer_fail(c, GRD_E_SHAPE, "x and w must be [N,C] and [V,C], are %s and %s", grd_dims_text(x, a),
                               grd_dims_text(w, b));
    if (c->in[2].dtype != GRD_I32)
        return grdi_infer_fail(c, GRD_E_DTYPE, "targets must be i32, are %s", grd_dtype_name(c->in[2].dtype));
    if (targets.rank != 1 || targets.dim[0] != x.dim[0])
        return grdi_infer_fail(c, GRD_E_SHAPE, "targets are %s, must be [%lld] for x of %s", grd_dims_text(targets, a),
                               (long long)x.dim[0], grd_dims_text(x, b));
    grd_dtype wide = grdi_wide_dtype(c->in[0].dtype);
    if (c->in[3].dtype != wide || c->in[3].dims.rank != 0)
        return grdi_infer_fail(c, GRD_E_SHAPE, "scale must be a scalar of %s, is %s%s", grd_dtype_name(wide),
                               grd_dtype_name(c->in[3].dtype), grd_dims_text(c->in[3].dims, a));
    c->out[0] = (grdi_type){wide, grd_scalar()};
    c->out[1] = (grdi_type){wide, targets};
    c->out[2] = c->in[0];
    c->out[3] = c->in[1];
    return true;
}

/* Adds scale times one row's gradient: dlogit = slope (1 - (logit/cap)^2), dx += dlogit w, dw += dlogit x. */
static void add_row_gradient(const grdi_reference *r, const row *x, const recipe *a, int64_t n, double lse)
{
    int64_t channels = x->channels;
    for (int64_t v = 0; v < x->classes; v++) {
        double d = r->in[3][0] * row_slope(x, a, r->in[2][n], lse, v);
        if (a->softcap > 0) d *= 1 - pow(logit(x, v) / a->softcap, 2);
        for (int64_t c = 0; c < channels; c++) {
            if (r->out[2]) r->out[2][n * channels + c] += d * x->w[v * channels + c];
            if (r->out[3]) r->out[3][v * channels + c] += d * x->x[c];
        }
    }
}

static void linear_cross_entropy_reference(const grdi_reference *r)
{
    recipe a = recipe_of(r->attrs);
    int64_t rows = r->in_type[0].dims.dim[0], channels = r->in_type[0].dims.dim[1];
    int64_t classes = r->in_type[1].dims.dim[0];
    double total = 0;
    for (int32_t o = 2; o < 4; o++)
        for (int64_t i = 0; r->out[o] && i < grd_dims_count(r->out_type[o].dims); i++) r->out[o][i] = 0;
    for (int64_t n = 0; n < rows; n++) {
        row x = {r->in[0] + n * channels, r->in[1], channels, classes, a.softcap};
        double lse = row_lse(&x), loss = row_loss(&x, &a, r->in[2][n], lse);
        total += loss;
        if (r->out[1]) r->out[1][n] = loss;
        if (r->out[2] || r->out[3]) add_row_gradient(r, &x, &a, n, lse);
    }
    if (r->out[0]) r->out[0][0] = r->in[3][0] * total;
}

static void linear_cross_entropy_compose(grdi_compose *c)
{
    recipe a = recipe_of(c->attrs);
    grd_tensor x = c->in[0], w = c->in[1], targets = c->in[2], scale = c->in[3], out[GRDI_OUTPUTS_MAX];
    grd_tensor logits = grd_matmul(x, grd_transpose2(w)), bent = {NULL, 0}; /* [N,V] */
    if (a.softcap > 0) {
        bent = grd_tanh(grd_mul_scalar(logits, 1 / a.softcap));
        logits = grd_mul_scalar(bent, a.softcap);
    }
    const grd_attr attrs[] = {GRD_INT("ignore_index", a.ignore), GRD_FLOAT("label_smoothing", a.smoothing),
                              GRD_FLOAT("z_loss", a.z)};
    grdi_emit(c->graph, &grdi_op_cross_entropy, (grd_tensor[]){logits, targets}, 2, attrs, 3, out);
    c->out[0] = grd_mul(scale, grd_sum(out[0]));
    c->out[1] = out[0];
    grd_tensor g = grd_broadcast_to(scale, grd_tensor_dims(targets));
    grd_tensor d = cross_entropy_backward(g, logits, targets, out[1], a);
    if (a.softcap > 0) d = grd_tanh_backward(d, bent);
    c->out[2] = grd_matmul(d, w);
    c->out[3] = grd_matmul(grd_transpose2(d), x);
}

/* The gradients of `loss` were made on the way forward. */
static void linear_cross_entropy_gradient(grdi_gradient *g)
{
    if (g->grad_out[1].node || g->grad_out[2].node || g->grad_out[3].node) {
        g->through_compose = true;
        return;
    }
    grd_tensor seed = g->grad_out[0];
    for (int32_t i = 0; i < 2; i++) {
        if (!g->need[i]) continue;
        grd_tensor made = g->out[2 + i];
        g->grad_in[i] = grdi_is_one(seed) ? made : grd_mul(made, grd_cast(seed, grd_tensor_dtype(made)));
    }
    if (g->need[3]) g->grad_in[3] = grd_mul(seed, grd_sum(g->out[1]));
}

/* Three products of N V C: the logits and both gradients. */
static double linear_cross_entropy_flops(const grdi_type *in, int32_t input_count, const grdi_type *out,
                                         const grd_attr *attrs)
{
    (void)input_count, (void)out, (void)attrs;
    double logits = (double)in[0].dims.dim[0] * (double)in[1].dims.dim[0];
    return logits * (6.0 * (double)in[0].dims.dim[1] + 8.0);
}

static const grdi_sample linear_cross_entropy_samples[] = {
    {.in = {"f32[5,3]", "f32[7,3]", "i32[5] 0..6", "f32[] 0.1..0.5"}},
    {.in = {"f32[9,7]", "f32[13,7]", "i32[9] -1..12", "f32[] 0.1..0.5"}, .attrs = "ignore_index=-1"},
    {.in = {"f32[7,5]", "f32[33,5]", "i32[7] 0..32", "f32[] 0.1..0.5"},
     .attrs = "label_smoothing=0.1 z_loss=0.01 softcap=5 ignore_index=3"},
    {.in = {"f32[1,1]", "f32[2,1]", "i32[1] 0..1", "f32[] 1..2"}, .attrs = "softcap=2"},
    {.in = {"f32[3,4]", "f32[5,4]", "i32[3] -100..-100", "f32[] 1..2"}}, /* all ignored */
    {.in = {"f32[512,256]", "f32[8192,256] -0.1..0.1", "i32[512] 0..8191", "f32[] 0.001..0.002"}, .large = true},
    {.in = {"f32[5,3]", "f32[7,4]", "i32[5] 0..6", "f32[]"}, .bad = "must be [N,C] and [V,C], are [5,3] and [7,4]"},
    {.in = {"f32[5,3]", "f32[7,3]", "i32[4] 0..6", "f32[]"}, .bad = "targets are [4], must be [5] for x of [5,3]"},
    {.in = {"f32[5,3]", "f32[7,3]", "i32[5] 0..6", "f32[1]"}, .bad = "scale must be a scalar of f32, is f32[1]"},
    {.in = {"f32[5,3]", "f32[7,3]", "f32[5]", "f32[]"}, .bad = "targets must be i32, are f32"},
    {.in = {"f32[5,3]", "f32[7,3]", "i32[5] 0..6", "f32[]"}, .attrs = "softcap=-1", .bad = "softcap is -1"},
    {.in = {NULL}},
};

const grdi_op grdi_op_linear_cross_entropy = {
    .name = "linear_cross_entropy",
    .inputs = 4,
    .outputs = 4,
    .bf16_in = 3,
    .bf16_out = 4, /* dx; dw is a gradient of weights */
    .f16_not = 4,
    .attrs = {CROSS_ENTROPY_ATTRS, GRD_FLOAT("softcap", 0)},
    .shape = linear_cross_entropy_shape,
    .gradient = linear_cross_entropy_gradient,
    .compose = linear_cross_entropy_compose,
    .reference = linear_cross_entropy_reference,
    .flops = linear_cross_entropy_flops,
    .flags = GRDI_OP_MATMUL,
    .tolerance = 5e-5,        /* f32 sums over C, V and N one after the other, of terms of both signs */
    .tolerance_bf16 = 0x1p-6, /* slopes are rounded: all off the same way where rows repeat each other */
    .samples = linear_cross_entropy_samples,
};

/* ---- typed calls ---- */

static int64_t ignored(const grd_cross_entropy_options *options)
{
    if (options->ignore_index != 0) return options->ignore_index;
    return options->ignore_zero ? 0 : -100;
}

grd_tensor grd_cross_entropy_with(grd_tensor logits, grd_tensor targets, const grd_cross_entropy_options *options)
{
    options = options ? options : &(const grd_cross_entropy_options){.size = sizeof(grd_cross_entropy_options)};
    if (logits.node && options->softcap != 0)
        return grdi_graph_fail(logits.node->graph, GRD_E_ARGUMENT,
                               "cross_entropy: takes no softcap (grd_linear_cross_entropy does)");
    return GRDI_EMIT_ATTRS(&grdi_op_cross_entropy,
                           GRDI_LIST(grd_attr, GRD_INT("ignore_index", ignored(options)),
                                     GRD_FLOAT("label_smoothing", options->label_smoothing),
                                     GRD_FLOAT("z_loss", options->z_loss)),
                           logits, targets);
}

grd_tensor grd_cross_entropy_mean_with(grd_tensor logits, grd_tensor targets, const grd_cross_entropy_options *options)
{
    options = options ? options : &(const grd_cross_entropy_options){.size = sizeof(grd_cross_entropy_options)};
    grd_tensor losses = grd_cross_entropy_with(logits, targets, options);
    if (!losses.node) return losses;
    grd_tensor count = grd_sum(grd_cast(counts(targets, ignored(options)), grd_tensor_dtype(losses)));
    return grd_div(grd_sum(losses), grd_maximum(count, grd_full_like(count, 1)));
}

grd_tensor grd_linear_cross_entropy_with(grd_tensor x, grd_tensor w, grd_tensor targets, grd_tensor scale,
                                         const grd_cross_entropy_options *options)
{
    options = options ? options : &(const grd_cross_entropy_options){.size = sizeof(grd_cross_entropy_options)};
    grd_tensor in[4] = {x, w, targets, scale}, out[GRDI_OUTPUTS_MAX];
    const grd_attr attrs[] = {GRD_INT("ignore_index", ignored(options)),
                              GRD_FLOAT("label_smoothing", options->label_smoothing),
                              GRD_FLOAT("z_loss", options->z_loss), GRD_FLOAT("softcap", options->softcap)};
    grdi_emit(NULL, &grdi_op_linear_cross_entropy, in, 4, attrs, 4, out);
    if (options->losses) *options->losses = out[1];
    return out[0];
}
