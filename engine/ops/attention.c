/* attention.c - scaled dot-product attention with causal, window, grouped-query, mask and packed-document forms. */
#include "ops/nn.h"
#include "ops/table.h"

#include "graph/build.h"

#include <gradus/ops_math.h>
#include <gradus/ops_nn.h>
#include <gradus/ops_shape.h>

#include <math.h>

/* q [B,T,H,D], k [B,S,Hkv,D], v [B,S,Hkv,Dv]; the optional inputs' places, -1 where absent. */
typedef struct sizes {
    int64_t b, t, s, h, hkv, d, dv, window;
    double scale;
    bool causal;
    int32_t mask, segments;
} sizes;

/* `first` is where q stands among the inputs, `optional` where the optional inputs begin. */
static sizes sizes_of(const grdi_type *in, const grd_attr *attrs, int32_t first, int32_t optional)
{
    const int64_t *q = in[first].dims.dim, *k = in[first + 1].dims.dim, *v = in[first + 2].dims.dim;
    sizes z = {.b = q[0], .t = q[1], .h = q[2], .d = q[3], .s = k[1], .hkv = k[2], .dv = v[3]};
    z.window = grdi_attr_int(attrs, "window");
    z.causal = grdi_attr_int(attrs, "causal");
    z.scale = grdi_attr_float(attrs, "scale");
    if (z.scale == 0) z.scale = 1 / sqrt((double)z.d);
    bool has_mask = grdi_attr_int(attrs, "has_mask"), has_segments = grdi_attr_int(attrs, "has_segments");
    z.mask = has_mask ? optional : -1;
    z.segments = has_segments ? optional + has_mask : -1;
    return z;
}

/* ---- shape rules ---- */

static bool check_qkv(grdi_infer *c, int32_t first)
{
    char a[GRD_DIMS_TEXT_MAX], b[GRD_DIMS_TEXT_MAX], e[GRD_DIMS_TEXT_MAX];
    if (!grdi_infer_float(c, first)) return false;
    grd_dims q = c->in[first].dims, k = c->in[first + 1].dims, v = c->in[first + 2].dims;
    grd_dims_text(q, a), grd_dims_text(k, b), grd_dims_text(v, e);
    if (!grdi_infer_same_dtype(c, first + 1, first) || !grdi_infer_same_dtype(c, first + 2, first)) return false;
    if (q.rank != 4 || k.rank != 4 || v.rank != 4)
        return grdi_infer_fail(c, GRD_E_SHAPE, "q, k, v must be [B,T,H,D], [B,S,Hkv,D], [B,S,Hkv,Dv], are %s, %s, %s",
                               a, b, e);
    if (q.dim[3] != k.dim[3])
        return grdi_infer_fail(c, GRD_E_SHAPE, "head sizes of q and k differ: %s and %s", a, b);
    if (q.dim[0] != k.dim[0] || q.dim[0] != v.dim[0])
        return grdi_infer_fail(c, GRD_E_SHAPE, "batch sizes of q, k, v differ: %s, %s, %s", a, b, e);
    if (k.dim[1] != v.dim[1] || k.dim[2] != v.dim[2])
        return grdi_infer_fail(c, GRD_E_SHAPE, "lengths or heads of k and v differ: %s and %s", b, e);
    if (k.dim[2] < 1 || q.dim[2] % k.dim[2] != 0)
        return grdi_infer_fail(c, GRD_E_SHAPE, "q has %lld heads, which is no multiple of the %lld of k (%s, %s)",
                               (long long)q.dim[2], (long long)k.dim[2], a, b);
    return true;
}

static bool check_mask(grdi_infer *c, const sizes *z, int32_t q)
{
    if (!grdi_infer_same_dtype(c, z->mask, q)) return false;
    grd_dims mask = c->in[z->mask].dims, full = grd_shape(z->b, z->h, z->t, z->s);
    bool fits = mask.rank <= 4;
    for (int32_t i = 1; fits && i <= mask.rank; i++)
        fits = mask.dim[mask.rank - i] == 1 || mask.dim[mask.rank - i] == full.dim[4 - i];
    char a[GRD_DIMS_TEXT_MAX], b[GRD_DIMS_TEXT_MAX];
    return fits || grdi_infer_fail(c, GRD_E_SHAPE, "mask %s does not broadcast to [B,H,T,S] = %s",
                                   grd_dims_text(mask, a), grd_dims_text(full, b));
}

static bool check_segments(grdi_infer *c, const sizes *z)
{
    const grdi_type *segments = &c->in[z->segments];
    char a[GRD_DIMS_TEXT_MAX];
    if (segments->dtype != GRD_I32)
        return grdi_infer_fail(c, GRD_E_DTYPE, "segments must be i32, are %s", grd_dtype_name(segments->dtype));
    if (segments->dims.rank != 1)
        return grdi_infer_fail(c, GRD_E_SHAPE, "segments must be [n+1] offsets, are %s",
                               grd_dims_text(segments->dims, a));
    if (z->b != 1 || z->t != z->s)
        return grdi_infer_fail(c, GRD_E_SHAPE,
                               "segments need one batch row and as many keys as queries, got B=%lld, T=%lld, S=%lld",
                               (long long)z->b, (long long)z->t, (long long)z->s);
    return true;
}

/* What both shape rules ask of attributes, q, k, v, mask and segments. */
static bool check_attention(grdi_infer *c, int32_t first, int32_t optional, sizes *z)
{
    bool has_mask = grdi_attr_int(c->attrs, "has_mask"), has_segments = grdi_attr_int(c->attrs, "has_segments");
    int32_t wanted = optional + has_mask + has_segments;
    if (c->input_count != wanted)
        return grdi_infer_fail(c, GRD_E_ARGUMENT, "has_mask and has_segments ask for %d inputs, given are %d", wanted,
                               c->input_count);
    if (!check_qkv(c, first)) return false;
    *z = sizes_of(c->in, c->attrs, first, optional);
    if (z->window < 0)
        return grdi_infer_fail(c, GRD_E_ARGUMENT, "window is %lld (0 means no limit)", (long long)z->window);
    return (z->mask < 0 || check_mask(c, z, first)) && (z->segments < 0 || check_segments(c, z));
}

/* The log-sum-exp is kept in f32 where q is narrower. */
static grdi_type lse_type(const sizes *z, grd_dtype dtype)
{
    return (grdi_type){grdi_wide_dtype(dtype), grd_shape(z->b, z->h, z->t)};
}

static bool attention_shape(grdi_infer *c)
{
    sizes z;
    if (!check_attention(c, 0, 3, &z)) return false;
    c->out[0] = (grdi_type){c->in[0].dtype, grd_shape(z.b, z.t, z.h, z.dv)};
    c->out[1] = lse_type(&z, c->in[0].dtype);
    return true;
}

/* Inputs g, q, k, v, out, lse, then the optional ones. */
static bool attention_backward_shape(grdi_infer *c)
{
    sizes z;
    if (!check_attention(c, 1, 6, &z)) return false;
    grd_dims out = grd_shape(z.b, z.t, z.h, z.dv);
    grdi_type lse = lse_type(&z, c->in[1].dtype);
    char a[GRD_DIMS_TEXT_MAX], b[GRD_DIMS_TEXT_MAX], e[GRD_DIMS_TEXT_MAX];
    if (!grdi_infer_same_dtype(c, 0, 1) || !grdi_infer_same_dtype(c, 4, 1)) return false;
    if (!grd_dims_equal(c->in[0].dims, out) || !grd_dims_equal(c->in[4].dims, out))
        return grdi_infer_fail(c, GRD_E_SHAPE, "gradient or output is not %s: %s and %s", grd_dims_text(out, a),
                               grd_dims_text(c->in[0].dims, b), grd_dims_text(c->in[4].dims, e));
    if (c->in[5].dtype != lse.dtype || !grd_dims_equal(c->in[5].dims, lse.dims))
        return grdi_infer_fail(c, GRD_E_SHAPE, "lse must be %s%s, is %s%s", grd_dtype_name(lse.dtype),
                               grd_dims_text(lse.dims, a), grd_dtype_name(c->in[5].dtype),
                               grd_dims_text(c->in[5].dims, b));
    for (int32_t i = 0; i < 3; i++) c->out[i] = c->in[1 + i];
    c->out[3] = z.mask < 0 ? (grdi_type){c->in[1].dtype, grd_scalar()} : c->in[z.mask];
    return true;
}

/* ---- references ---- */

/* Element (b,h,i,j) of the mask, whose dimensions of 1 (or missing ones) repeat. */
static int64_t mask_index(grd_dims mask, const int64_t at[4])
{
    int64_t index = 0;
    for (int32_t a = 0; a < mask.rank; a++)
        index = index * mask.dim[a] + (mask.dim[a] == 1 ? 0 : at[4 - mask.rank + a]);
    return index;
}

/* The document of token `t`: the number of offsets not above it. */
static int64_t document(const grdi_reference *r, const sizes *z, int64_t t)
{
    int64_t count = 0, offsets = r->in_type[z->segments].dims.dim[0];
    for (int64_t n = 0; n < offsets; n++) count += r->in[z->segments][n] <= (double)t;
    return count;
}

/* scale q.k + mask for query i of head h and key j, -infinity where it is not visible. */
static double score(const grdi_reference *r, const sizes *z, int32_t first, int64_t b, int64_t h, int64_t i, int64_t j)
{
    int64_t last = i + (z->s - z->t);
    if (z->causal && j > last) return -INFINITY;
    if (z->window > 0 && j <= last - z->window) return -INFINITY;
    if (z->segments >= 0 && document(r, z, i) != document(r, z, j)) return -INFINITY;
    const double *q = r->in[first] + ((b * z->t + i) * z->h + h) * z->d;
    const double *k = r->in[first + 1] + ((b * z->s + j) * z->hkv + h / (z->h / z->hkv)) * z->d;
    double sum = 0;
    for (int64_t d = 0; d < z->d; d++) sum += q[d] * k[d];
    sum *= z->scale;
    if (z->mask >= 0) sum += r->in[z->mask][mask_index(r->in_type[z->mask].dims, (int64_t[]){b, h, i, j})];
    return sum;
}

/* One query: out = sum_j exp(score_j - lse) v_j. */
static void attend(const grdi_reference *r, const sizes *z, int64_t b, int64_t h, int64_t i)
{
    int64_t kv = h / (z->h / z->hkv);
    double most = -INFINITY, sum = 0;
    for (int64_t j = 0; j < z->s; j++) {
        double s = score(r, z, 0, b, h, i, j);
        if (s > most || isnan(s)) most = s;
    }
    for (int64_t j = 0; j < z->s && most != -INFINITY; j++) sum += exp(score(r, z, 0, b, h, i, j) - most);
    double lse = most != -INFINITY ? most + log(sum) : -INFINITY;
    if (r->out[1]) r->out[1][(b * z->h + h) * z->t + i] = lse;
    if (!r->out[0]) return;
    double *out = r->out[0] + ((b * z->t + i) * z->h + h) * z->dv;
    for (int64_t d = 0; d < z->dv; d++) out[d] = 0;
    for (int64_t j = 0; j < z->s && most != -INFINITY; j++) {
        double p = exp(score(r, z, 0, b, h, i, j) - lse);
        for (int64_t d = 0; d < z->dv; d++) out[d] += p * r->in[2][((b * z->s + j) * z->hkv + kv) * z->dv + d];
    }
}

static void attention_reference(const grdi_reference *r)
{
    sizes z = sizes_of(r->in_type, r->attrs, 0, 3);
    for (int64_t b = 0; b < z.b; b++)
        for (int64_t h = 0; h < z.h; h++)
            for (int64_t i = 0; i < z.t; i++) attend(r, &z, b, h, i);
}

/* One query and key: p = exp(score - lse), dscore = p (g.v - g.out). */
static void attend_backward(const grdi_reference *r, const sizes *z, int64_t b, int64_t h, int64_t i, int64_t j)
{
    int64_t row = (b * z->t + i) * z->h + h, column = (b * z->s + j) * z->hkv + h / (z->h / z->hkv);
    double lse = r->in[5][(b * z->h + h) * z->t + i], value = score(r, z, 1, b, h, i, j);
    if (value == -INFINITY || lse == -INFINITY) return;
    const double *g = r->in[0] + row * z->dv, *v = r->in[3] + column * z->dv, *out = r->in[4] + row * z->dv;
    double p = exp(value - lse), along = 0;
    for (int64_t d = 0; d < z->dv; d++) {
        along += g[d] * (v[d] - out[d]);
        if (r->out[2]) r->out[2][column * z->dv + d] += p * g[d];
    }
    double dscore = p * along;
    for (int64_t d = 0; d < z->d; d++) {
        if (r->out[0]) r->out[0][row * z->d + d] += z->scale * dscore * r->in[2][column * z->d + d];
        if (r->out[1]) r->out[1][column * z->d + d] += z->scale * dscore * r->in[1][row * z->d + d];
    }
    if (z->mask >= 0 && r->out[3])
        r->out[3][mask_index(r->in_type[z->mask].dims, (int64_t[]){b, h, i, j})] += dscore;
}

static void attention_backward_reference(const grdi_reference *r)
{
    sizes z = sizes_of(r->in_type, r->attrs, 1, 6);
    for (int32_t o = 0; o < 4; o++)
        for (int64_t i = 0; r->out[o] && i < grd_dims_count(r->out_type[o].dims); i++) r->out[o][i] = 0;
    for (int64_t b = 0; b < z.b; b++)
        for (int64_t h = 0; h < z.h; h++)
            for (int64_t i = 0; i < z.t; i++)
                for (int64_t j = 0; j < z.s; j++) attend_backward(r, &z, b, h, i, j);
}

/* ---- compose: queries of one group lie together, [B,Hkv,G,T,D] against [B,Hkv,1,S,D] with G = H / Hkv ---- */

static sizes sizes_of_tensors(const grd_tensor *in, const grd_attr *attrs, int32_t first, int32_t optional)
{
    grdi_type types[3] = {{GRD_F32, grd_tensor_dims(in[first])}, {GRD_F32, grd_tensor_dims(in[first + 1])},
                          {GRD_F32, grd_tensor_dims(in[first + 2])}};
    sizes z = sizes_of(types, attrs, 0, 0);
    if (z.mask >= 0) z.mask += optional;
    if (z.segments >= 0) z.segments += optional;
    return z;
}

/* [B,L,heads,D] -> [B,Hkv,heads/Hkv,L,D] */
static grd_tensor by_group(const sizes *z, grd_tensor x)
{
    grd_dims d = grd_tensor_dims(x);
    grd_tensor split = grd_reshape(x, grd_shape(d.dim[0], d.dim[1], z->hkv, d.dim[2] / z->hkv, d.dim[3]));
    return grd_transpose(split, grd_shape(0, 2, 3, 1, 4));
}

/* [B,Hkv,G,L,D] -> [B,L,Hkv*G,D], and with keys' gradients [B,Hkv,G,L,D] -> [B,L,Hkv,D] after a sum over G. */
static grd_tensor by_token(grd_tensor x, bool sum_group)
{
    if (sum_group) x = grd_sum_axis(x, 2, true);
    grd_dims d = grd_tensor_dims(x);
    grd_tensor moved = grd_transpose(x, grd_shape(0, 3, 1, 2, 4));
    return grd_reshape(moved, grd_shape(d.dim[0], d.dim[3], d.dim[1] * d.dim[2], d.dim[4]));
}

/* [B,H,T,S] <-> [B,Hkv,G,T,S]: the same elements */
static grd_tensor split_heads(const sizes *z, grd_tensor x)
{
    return grd_reshape(x, grd_shape(z->b, z->hkv, z->h / z->hkv, z->t, z->s));
}

/* The bool [T,S] of what causal, window and documents let a query see; poison where nothing limits it. */
static grd_tensor visible(const sizes *z, grd_graph *graph, const grd_tensor *in)
{
    grd_tensor seen = {NULL, 0};
    double shift = (double)(z->s - z->t);
    grd_tensor j = grd_arange(graph, GRD_I32, z->s, 0, 1);
    if (z->causal) seen = grd_le(j, grd_unsqueeze(grd_arange(graph, GRD_I32, z->t, shift, 1), -1));
    if (z->window > 0) {
        grd_tensor last_unseen = grd_arange(graph, GRD_I32, z->t, shift - (double)z->window, 1);
        grd_tensor near = grd_gt(j, grd_unsqueeze(last_unseen, -1));
        seen = seen.node ? grd_and(seen, near) : near;
    }
    if (z->segments >= 0) {
        grd_tensor begun = grd_le(grd_unsqueeze(in[z->segments], -1), j); /* [n+1,T] */
        grd_tensor number = grd_sum_axis(grd_cast(begun, GRD_I32), 0, false);
        grd_tensor same = grd_eq(grd_unsqueeze(number, -1), number);
        seen = seen.node ? grd_and(seen, same) : same;
    }
    return seen;
}

static grd_tensor minus_infinity(grd_tensor like)
{
    return grd_full(grd_tensor_graph(like), grd_tensor_dtype(like), grd_scalar(), -INFINITY);
}

/* Scores [B,H,T,S], -infinity where not visible. */
static grd_tensor scores(const sizes *z, grd_graph *graph, const grd_tensor *in, int32_t first)
{
    grd_tensor q = by_group(z, in[first]), k = by_group(z, in[first + 1]);
    grd_tensor s = grd_mul_scalar(grd_matmul(q, grd_transpose2(k)), z->scale);
    s = grd_reshape(s, grd_shape(z->b, z->h, z->t, z->s));
    if (z->mask >= 0) s = grd_add(s, in[z->mask]);
    if (!z->causal && z->window == 0 && z->segments < 0) return s;
    return grd_where(visible(z, graph, in), s, minus_infinity(s));
}

/* True for rows that see nothing. NaN is left to spread. */
static grd_tensor is_empty(grd_tensor x)
{
    return grd_eq(x, minus_infinity(x));
}

/* x, but 0 where it is -infinity: keeps -infinity - -infinity out of rows that see nothing. */
static grd_tensor bounded(grd_tensor x)
{
    return grd_where(is_empty(x), grd_zeros_like(x), x);
}

static void attention_compose(grdi_compose *c)
{
    sizes z = sizes_of_tensors(c->in, c->attrs, 0, 3);
    grd_tensor s = scores(&z, c->graph, c->in, 0);
    grd_tensor most = grd_stop_gradient(bounded(grd_max_axis(s, -1, true)));
    grd_tensor e = grd_exp(grd_sub(s, most)), sum = grd_sum_axis(e, -1, true); /* [B,H,T,S], [B,H,T,1] */
    grd_tensor none = grd_eq(sum, grd_zeros_like(sum));
    grd_tensor safe = grd_where(none, grd_ones_like(sum), sum);
    grd_tensor p = grd_div(e, safe);
    c->out[0] = by_token(grd_matmul(split_heads(&z, p), by_group(&z, c->in[2])), false);
    grd_tensor lse = grd_where(none, minus_infinity(sum), grd_add(grd_log(safe), most));
    c->out[1] = grd_cast(grd_squeeze(lse, -1), lse_type(&z, grd_tensor_dtype(c->in[0])).dtype);
}

static void attention_backward_compose(grdi_compose *c)
{
    sizes z = sizes_of_tensors(c->in, c->attrs, 1, 6);
    grd_dtype dtype = grd_tensor_dtype(c->in[1]);
    grd_tensor g = by_group(&z, c->in[0]), q = by_group(&z, c->in[1]), k = by_group(&z, c->in[2]);
    grd_tensor v = by_group(&z, c->in[3]), lse = grd_cast(grd_unsqueeze(c->in[5], -1), dtype);
    grd_tensor s = scores(&z, c->graph, c->in, 1);
    grd_tensor e = grd_exp(grd_sub(s, bounded(lse)));
    grd_tensor p = grd_where(is_empty(lse), grd_zeros_like(lse), e); /* [B,H,T,S] */
    grd_tensor dp = grd_reshape(grd_matmul(g, grd_transpose2(v)), grd_tensor_dims(p));
    grd_tensor g_out = grd_sum_axis(grd_mul(c->in[0], c->in[4]), -1, false); /* [B,T,H] */
    grd_tensor along = grd_unsqueeze(grd_swap(g_out, 1, 2), -1);             /* [B,H,T,1] */
    grd_tensor ds = grd_mul(p, grd_sub(dp, along));
    grd_tensor scaled = split_heads(&z, grd_mul_scalar(ds, z.scale));
    c->out[0] = by_token(grd_matmul(scaled, k), false);
    c->out[1] = by_token(grd_matmul(grd_transpose2(scaled), q), true);
    c->out[2] = by_token(grd_matmul(grd_transpose2(split_heads(&z, p)), g), true);
    c->out[3] = z.mask >= 0 ? grdi_sum_to_like(ds, c->in[z.mask]) : grd_full(c->graph, dtype, grd_scalar(), 0);
}

/* ---- gradient ---- */

static void attention_gradient(grdi_gradient *g)
{
    if (g->grad_out[1].node) { /* by the log-sum-exp, as second derivatives ask */
        g->through_compose = true;
        return;
    }
    grd_tensor in[8] = {g->grad_out[0], g->in[0], g->in[1], g->in[2], g->out[0], g->out[1]}, out[GRDI_OUTPUTS_MAX];
    int32_t count = 0;
    while (count < g->input_count - 3) {
        in[6 + count] = g->in[3 + count];
        count++;
    }
    const grd_attr attrs[] = {
        GRD_FLAG("causal", grdi_attr_int(g->attrs, "causal")), GRD_INT("window", grdi_attr_int(g->attrs, "window")),
        GRD_FLOAT("scale", grdi_attr_float(g->attrs, "scale")),
        GRD_FLAG("has_mask", grdi_attr_int(g->attrs, "has_mask")),
        GRD_FLAG("has_segments", grdi_attr_int(g->attrs, "has_segments"))};
    grdi_emit(g->graph, &grdi_op_attention_backward, in, 6 + count, attrs, 5, out);
    for (int32_t i = 0; i < 3; i++) g->grad_in[i] = out[i];
    if (grdi_attr_int(g->attrs, "has_mask")) g->grad_in[3] = out[3];
}

/* ---- cost: only visible pairs count (documents are not known before the run) ---- */

/* The sum of min(max(k, 0), most) over all whole k < n. */
static double clamped_below(double n, double most)
{
    if (n <= 0) return 0;
    return n <= most ? n * (n - 1) / 2 : most * (most - 1) / 2 + (n - most) * most;
}

/* How many keys stand before first, first + 1, ..., one place for each query. */
static double keys_before(const sizes *z, double first)
{
    return clamped_below(first + (double)z->t, (double)z->s) - clamped_below(first, (double)z->s);
}

/* Query i sees the keys up to i + S - T, which with a window are all but those before the last `window` of them. */
static double visible_pairs(const sizes *z)
{
    double shift = (double)(z->s - z->t), pairs = (double)z->t * (double)z->s;
    if (z->causal) pairs = keys_before(z, shift + 1);
    if (z->window > 0) pairs -= keys_before(z, shift + 1 - (double)z->window);
    return pairs * (double)(z->b * z->h);
}

static double attention_flops(const grdi_type *in, int32_t input_count, const grdi_type *out, const grd_attr *attrs)
{
    (void)input_count, (void)out;
    sizes z = sizes_of(in, attrs, 0, 3);
    return visible_pairs(&z) * 2.0 * (double)(z.d + z.dv);
}

static double attention_backward_flops(const grdi_type *in, int32_t input_count, const grdi_type *out,
                                       const grd_attr *attrs)
{
    (void)input_count, (void)out;
    sizes z = sizes_of(in, attrs, 1, 6);
    return visible_pairs(&z) * 2.0 * (double)(3 * z.d + 2 * z.dv);
}

/* ---- tables ---- */

#define ATTENTION_ATTRS                                                                                                \
    {                                                                                                                  \
        GRD_FLAG("causal", false), GRD_INT("window", 0), GRD_FLOAT("scale", 0), GRD_FLAG("has_mask", false),           \
            GRD_FLAG("has_segments", false)                                                                            \
    }

static const grdi_sample attention_samples[] = {
    {.in = {"f32[2,5,3,4]", "f32[2,5,3,4]", "f32[2,5,3,4]"}, .attrs = "causal=true"},
    {.in = {"f32[1,7,4,3]", "f32[1,7,2,3]", "f32[1,7,2,5]"}},
    {.in = {"f32[2,3,6,7]", "f32[2,7,2,7]", "f32[2,7,2,1]"}, .attrs = "causal=true scale=0.3"},
    {.in = {"f32[1,9,2,4]", "f32[1,9,1,4]", "f32[1,9,1,4]"}, .attrs = "causal=true window=3"},
    {.in = {"f32[1,5,1,4]", "f32[1,9,1,4]", "f32[1,9,1,4]"}, .attrs = "window=2"},
    {.in = {"f32[1,6,2,4]", "f32[1,3,2,4]", "f32[1,3,2,4]"}, .attrs = "causal=true"}, /* queries 0..2 see nothing */
    {.in = {"f32[2,4,4,3]", "f32[2,5,2,3]", "f32[2,5,2,3]", "f32[2,1,4,5]"}, .attrs = "has_mask=true"},
    {.in = {"f32[2,4,2,3]", "f32[2,5,2,3]", "f32[2,5,2,3]", "f32[2,1,5]"}, .attrs = "has_mask=true causal=true"},
    {.in = {"f32[1,2,2,3]", "f32[1,3,2,3]", "f32[1,3,2,3]", "f32[2,3] =0,-inf,0.5,-inf,-inf,-inf"},
     .attrs = "has_mask=true"}, /* query 1 sees nothing */
    {.in = {"f32[1,7,2,3]", "f32[1,7,1,3]", "f32[1,7,1,3]", "i32[3] =0,4,7"}, .attrs = "has_segments=true causal=true"},
    {.in = {"f32[1,7,2,3]", "f32[1,7,2,3]", "f32[1,7,2,3]", "f32[7,7]", "i32[5] =0,2,2,3,6"},
     .attrs = "has_segments=true has_mask=true"}, /* an empty document, and token 6 after the last offset */
    {.in = {"f32[1,13,2,4]", "f32[1,13,1,4]", "f32[1,13,1,4]", "i32[4] =0,5,12,13"},
     .attrs = "has_segments=true causal=true window=3"},
    {.in = {"f32[1,1,1,1]", "f32[1,1,1,1]", "f32[1,1,1,1]"}, .attrs = "causal=true"},
    {.in = {"f32[1,33,2,16]", "f32[1,65,2,16]", "f32[1,65,2,16]"}, .attrs = "causal=true window=17"},
    {.in = {"f32[2,256,8,64]", "f32[2,256,8,64]", "f32[2,256,8,64]"}, .attrs = "causal=true", .large = true},
    {.in = {"f32[2,256,8,64]", "f32[2,256,2,64]", "f32[2,256,2,64]"}, .attrs = "causal=true", .large = true},
    {.in = {"f32[1,70,2,48]", "f32[1,600,1,48]", "f32[1,600,1,40]"}, .attrs = "causal=true", .large = true},
    {.in = {"f32[1,5,3,4]", "f32[1,5,2,4]", "f32[1,5,2,4]"}, .bad = "q has 3 heads, which is no multiple of the 2"},
    {.in = {"f32[1,5,3,4]", "f32[1,5,3,8]", "f32[1,5,3,8]"}, .bad = "head sizes of q and k differ"},
    {.in = {"f32[5,3,4]", "f32[5,3,4]", "f32[5,3,4]"}, .bad = "must be [B,T,H,D]"},
    {.in = {"f32[2,5,1,4]", "f32[2,5,1,4]", "f32[2,5,1,4]", "f32[3,1,5,5]"}, .attrs = "has_mask=true",
     .bad = "mask [3,1,5,5] does not broadcast to [B,H,T,S] = [2,1,5,5]"},
    {.in = {"f32[2,5,1,4]", "f32[2,5,1,4]", "f32[2,5,1,4]", "i32[2] 0..5"}, .attrs = "has_segments=true",
     .bad = "segments need one batch row"},
    {.in = {"f32[1,5,1,4]", "f32[1,5,1,4]", "f32[1,5,1,4]"}, .attrs = "window=-1", .bad = "window is -1"},
    {.in = {"f32[2,5,1,4]", "f32[1,5,1,4]", "f32[2,5,1,4]"}, .bad = "batch sizes of q, k, v differ"},
    {.in = {"f32[2,5,1,4]", "f32[2,5,1,4]", "f32[1,5,1,4]"}, .bad = "batch sizes of q, k, v differ"},
    {.in = {"f32[2,5,1,4]", "f32[2,5,1,4]", "f32[2,6,1,4]"}, .bad = "lengths or heads of k and v differ"},
    {.in = {"f32[2,5,2,4]", "f32[2,5,2,4]", "f32[2,5,1,4]"}, .bad = "lengths or heads of k and v differ"},
    {.in = {"f32[1,5,1,4]", "f32[1,5,1,4]", "f32[1,5,1,4]", "f32[2]"}, .attrs = "has_segments=true",
     .bad = "segments must be i32, are f32"},
    {.in = {"f32[1,5,1,4]", "f32[1,5,1,4]", "f32[1,5,1,4]", "i32[1,2] 0..5"}, .attrs = "has_segments=true",
     .bad = "segments must be [n+1] offsets, are [1,2]"},
    {.in = {"f32[1,5,1,4]", "f32[1,5,1,4]", "f32[1,5,1,4]"}, .attrs = "has_mask=true",
     .bad = "ask for 4 inputs, given are 3"},
    {.in = {NULL}},
};

const grdi_op grdi_op_attention = {
    .name = "attention",
    .inputs = 3,
    .inputs_max = 5,
    .outputs = 2,
    .bf16_in = 7, /* q, k, v */
    .bf16_out = 1,
    .attrs = ATTENTION_ATTRS,
    .shape = attention_shape,
    .gradient = attention_gradient,
    .compose = attention_compose,
    .reference = attention_reference,
    .flops = attention_flops,
    .flags = GRDI_OP_MATMUL,
    .tolerance = 2e-5, /* f32 sums over D for the scores, exponentials of them, sums over S */
    .tolerance_bf16 = 0x1p-6, /* exponentials are rounded, and weigh values of both signs */
    .samples = attention_samples,
};

/* Most take out and lse from attention; where they are drawn at random, lse is large enough to keep exp(score - lse)
 * near 1. */
static const grdi_sample attention_backward_samples[] = {
    {.in = {"f32[2,5,3,4]", "f32[2,5,3,4]", "f32[2,5,3,4]", "f32[2,5,3,4]", "@attention:0(1,2,3) causal=true",
            "@attention:1(1,2,3) causal=true"},
     .attrs = "causal=true"},
    {.in = {"f32[1,7,4,5]", "f32[1,7,4,3]", "f32[1,7,2,3]", "f32[1,7,2,5]", "f32[1,7,4,5]", "f32[1,4,7] 2..4"}},
    {.in = {"f32[1,9,2,4]", "f32[1,9,2,4]", "f32[1,9,1,4]", "f32[1,9,1,4]", "f32[1,9,2,4]", "f32[1,2,9] 2..4"},
     .attrs = "causal=true window=3 scale=0.3"},
    {.in = {"f32[1,6,2,4]", "f32[1,6,2,4]", "f32[1,3,2,4]", "f32[1,3,2,4]", "@attention:0(1,2,3) causal=true",
            "@attention:1(1,2,3) causal=true"},
     .attrs = "causal=true"}, /* queries 0..2 see nothing: lse is -infinity */
    {.in = {"f32[2,4,4,3]", "f32[2,4,4,3]", "f32[2,5,2,3]", "f32[2,5,2,3]",
            "@attention:0(1,2,3,6) causal=true has_mask=true",
            "@attention:1(1,2,3,6) causal=true has_mask=true", "f32[4,1,5]"},
     .attrs = "has_mask=true causal=true"},
    {.in = {"f32[1,7,2,3]", "f32[1,7,2,3]", "f32[1,7,2,3]", "f32[1,7,2,3]", "f32[1,7,2,3]", "f32[1,2,7] 2..4",
            "f32[1,1,7,7]", "i32[3] =0,4,7"},
     .attrs = "has_mask=true has_segments=true"},
    {.in = {"f32[1,13,2,4]", "f32[1,13,2,4]", "f32[1,13,1,4]", "f32[1,13,1,4]",
            "@attention:0(1,2,3,6) causal=true window=3 has_segments=true",
            "@attention:1(1,2,3,6) causal=true window=3 has_segments=true", "i32[5] =0,5,5,12,13"},
     .attrs = "causal=true window=3 has_segments=true"},
    {.in = {"f32[1,9,4,8]", "f32[1,9,4,8]", "f32[1,18,2,8]", "f32[1,18,2,8]", "@attention:0(1,2,3) causal=true",
            "@attention:1(1,2,3) causal=true"},
     .attrs = "causal=true"},
    {.in = {"f32[2,256,8,64]", "f32[2,256,8,64]", "f32[2,256,8,64]", "f32[2,256,8,64]",
            "@attention:0(1,2,3) causal=true", "@attention:1(1,2,3) causal=true"},
     .attrs = "causal=true", .large = true},
    {.in = {"f32[1,70,2,40]", "f32[1,70,2,48]", "f32[1,600,1,48]", "f32[1,600,1,40]",
            "@attention:0(1,2,3) causal=true", "@attention:1(1,2,3) causal=true"},
     .attrs = "causal=true", .large = true},
    {.in = {"f32[2,5,3,4]", "f32[2,5,3,4]", "f32[2,5,3,4]", "f32[2,5,3,4]", "f32[2,5,3,4]", "f32[2,5,3]"},
     .bad = "lse must be f32[2,3,5], is f32[2,5,3]"},
    {.in = {"f32[2,5,3,1]", "f32[2,5,3,4]", "f32[2,5,3,4]", "f32[2,5,3,4]", "f32[2,5,3,4]", "f32[2,3,5]"},
     .bad = "gradient or output is not [2,5,3,4]: [2,5,3,1]"},
    {.in = {NULL}},
};

const grdi_op grdi_op_attention_backward = {
    .name = "attention_backward",
    .inputs = 6,
    .inputs_max = 8,
    .outputs = 4,
    .bf16_in = 31, /* g, q, k, v, out */
    .bf16_out = 7,
    .attrs = ATTENTION_ATTRS,
    .shape = attention_backward_shape,
    .compose = attention_backward_compose,
    .reference = attention_backward_reference,
    .flops = attention_backward_flops,
    .flags = GRDI_OP_MATMUL,
    .tolerance = 5e-5, /* as attention, then differences g.v - g.out and sums over T or S of terms of both signs */
    .tolerance_bf16 = 0x1p-5, /* p and ds are rounded, and then summed with both signs */
    .samples = attention_backward_samples,
};

grd_tensor grd_attention_with(grd_tensor q, grd_tensor k, grd_tensor v, const grd_attention_options *options)
{
    options = options ? options : &(const grd_attention_options){.size = sizeof(grd_attention_options)};
    grd_tensor in[5] = {q, k, v}, out[GRDI_OUTPUTS_MAX];
    int32_t count = 3;
    bool has_mask = options->mask.node != NULL, has_segments = options->segments.node != NULL;
    if (has_mask) in[count++] = options->mask;
    if (has_segments) in[count++] = options->segments;
    const grd_attr attrs[] = {GRD_FLAG("causal", options->causal), GRD_INT("window", options->window),
                              GRD_FLOAT("scale", options->scale), GRD_FLAG("has_mask", has_mask),
                              GRD_FLAG("has_segments", has_segments)};
    grdi_emit(NULL, &grdi_op_attention, in, count, attrs, 5, out);
    if (options->lse) *options->lse = out[1];
    return out[0];
}
