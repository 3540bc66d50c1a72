/* cached_attention.c - attention of new tokens over all tokens so far, whose keys and values are kept in a cache. */
#include "ops/nn.h"
#include "ops/table.h"

#include <gradus/ops_math.h>
#include <gradus/ops_nn.h>
#include <gradus/ops_shape.h>

#include <math.h>

/* q [B,T,H,D], k [B,T,Hkv,D], v [B,T,Hkv,Dv], caches [B,S,Hkv,D] and [B,S,Hkv,Dv]. */
enum { Q, K, V, K_CACHE, V_CACHE, POSITION };

typedef struct sizes {
    int64_t b, t, s, h, hkv, d, dv, window;
    double scale;
} sizes;

static sizes sizes_of(const grdi_type *in, const grd_attr *attrs)
{
    const int64_t *q = in[Q].dims.dim, *cache = in[K_CACHE].dims.dim;
    sizes z = {.b = q[0], .t = q[1], .h = q[2], .d = q[3], .s = cache[1], .hkv = cache[2]};
    z.dv = in[V_CACHE].dims.dim[3];
    z.window = grdi_attr_int(attrs, "window");
    z.scale = grdi_attr_float(attrs, "scale");
    if (z.scale == 0) z.scale = 1 / sqrt((double)z.d);
    return z;
}

/* ---- shape rule ---- */

/* The cache is as its rows are, but for its length. */
static bool check_cache(grdi_infer *c, int32_t rows, int32_t cache, const char *name)
{
    grd_dims wanted = c->in[rows].dims, dims = c->in[cache].dims;
    char a[GRD_DIMS_TEXT_MAX], b[GRD_DIMS_TEXT_MAX];
    if (dims.rank == 4) wanted.dim[1] = dims.dim[1];
    if (!grdi_infer_same_dtype(c, cache, Q)) return false;
    return grd_dims_equal(wanted, dims) ||
           grdi_infer_fail(c, GRD_E_SHAPE, "rows %s do not fit into the cache of %s, %s",
                           grd_dims_text(c->in[rows].dims, a), name, grd_dims_text(dims, b));
}

static bool cached_attention_shape(grdi_infer *c)
{
    grd_dims q = c->in[Q].dims, k = c->in[K].dims, v = c->in[V].dims;
    char a[GRD_DIMS_TEXT_MAX], b[GRD_DIMS_TEXT_MAX], e[GRD_DIMS_TEXT_MAX];
    if (!grdi_infer_float(c, Q) || !grdi_infer_same_dtype(c, K, Q) || !grdi_infer_same_dtype(c, V, Q)) return false;
    bool fits = q.rank == 4 && k.rank == 4 && v.rank == 4 && k.dim[0] == q.dim[0] && v.dim[0] == q.dim[0] &&
                k.dim[1] == q.dim[1] && v.dim[1] == q.dim[1] && k.dim[2] == v.dim[2] && k.dim[3] == q.dim[3];
    if (!fits)
        return grdi_infer_fail(c, GRD_E_SHAPE, "q, k, v must be [B,T,H,D], [B,T,Hkv,D], [B,T,Hkv,Dv], are %s, %s, %s",
                               grd_dims_text(q, a), grd_dims_text(k, b), grd_dims_text(v, e));
    if (k.dim[2] < 1 || q.dim[2] % k.dim[2])
        return grdi_infer_fail(c, GRD_E_SHAPE, "q has %lld heads, which is no multiple of the %lld of k",
                               (long long)q.dim[2], (long long)k.dim[2]);
    if (!check_cache(c, K, K_CACHE, "keys") || !check_cache(c, V, V_CACHE, "values")) return false;
    if (c->in[K_CACHE].dims.dim[1] != c->in[V_CACHE].dims.dim[1])
        return grdi_infer_fail(c, GRD_E_SHAPE, "the caches have different lengths: %s and %s",
                               grd_dims_text(c->in[K_CACHE].dims, a), grd_dims_text(c->in[V_CACHE].dims, b));
    if (c->in[POSITION].dtype != GRD_I32 || !grd_dims_equal(c->in[POSITION].dims, grd_shape(1)))
        return grdi_infer_fail(c, GRD_E_SHAPE, "position must be i32[1], is %s%s",
                               grd_dtype_name(c->in[POSITION].dtype), grd_dims_text(c->in[POSITION].dims, a));
    if (grdi_attr_int(c->attrs, "window") < 0)
        return grdi_infer_fail(c, GRD_E_ARGUMENT, "window is %lld (0 means no limit)",
                               (long long)grdi_attr_int(c->attrs, "window"));
    c->out[0] = (grdi_type){c->in[Q].dtype, grd_shape(q.dim[0], q.dim[1], q.dim[2], v.dim[3])};
    c->out[1] = c->in[K_CACHE];
    c->out[2] = c->in[V_CACHE];
    return true;
}

/* ---- reference ---- */

/* Element d of row j, head g, of the cache with the new rows in it. */
static double cached(const grdi_reference *r, const sizes *z, int32_t rows, int64_t b, int64_t j, int64_t g, int64_t d)
{
    int64_t width = rows == K ? z->d : z->dv, i = j - (int64_t)r->in[POSITION][0];
    if (i >= 0 && i < z->t) return r->in[rows][((b * z->t + i) * z->hkv + g) * width + d];
    return r->in[rows == K ? K_CACHE : V_CACHE][((b * z->s + j) * z->hkv + g) * width + d];
}

static double score(const grdi_reference *r, const sizes *z, int64_t b, int64_t h, int64_t i, int64_t j)
{
    int64_t at = (int64_t)r->in[POSITION][0] + i;
    if (j > at || (z->window > 0 && j <= at - z->window)) return -INFINITY;
    double sum = 0;
    for (int64_t d = 0; d < z->d; d++)
        sum += r->in[Q][((b * z->t + i) * z->h + h) * z->d + d] * cached(r, z, K, b, j, h / (z->h / z->hkv), d);
    return sum * z->scale;
}

/* One query: out = sum_j softmax_j(score) v_j; zeros where no key is visible. */
static void attend(const grdi_reference *r, const sizes *z, int64_t b, int64_t h, int64_t i)
{
    double *out = r->out[0] + ((b * z->t + i) * z->h + h) * z->dv, most = -INFINITY, sum = 0;
    for (int64_t j = 0; j < z->s; j++) most = fmax(most, score(r, z, b, h, i, j));
    for (int64_t d = 0; d < z->dv; d++) out[d] = 0;
    for (int64_t j = 0; j < z->s && most != -INFINITY; j++) {
        double p = exp(score(r, z, b, h, i, j) - most);
        sum += p;
        for (int64_t d = 0; d < z->dv; d++) out[d] += p * cached(r, z, V, b, j, h / (z->h / z->hkv), d);
    }
    for (int64_t d = 0; d < z->dv && sum > 0; d++) out[d] /= sum;
}

static void fill_cache(const grdi_reference *r, const sizes *z, int32_t rows, double *out)
{
    int64_t width = rows == K ? z->d : z->dv;
    for (int64_t b = 0; b < z->b && out; b++)
        for (int64_t j = 0; j < z->s; j++)
            for (int64_t g = 0; g < z->hkv; g++)
                for (int64_t d = 0; d < width; d++)
                    out[((b * z->s + j) * z->hkv + g) * width + d] = cached(r, z, rows, b, j, g, d);
}

static void cached_attention_reference(const grdi_reference *r)
{
    sizes z = sizes_of(r->in_type, r->attrs);
    for (int64_t b = 0; b < z.b && r->out[0]; b++)
        for (int64_t h = 0; h < z.h; h++)
            for (int64_t i = 0; i < z.t; i++) attend(r, &z, b, h, i);
    fill_cache(r, &z, K, r->out[1]);
    fill_cache(r, &z, V, r->out[2]);
}

/* ---- compose, which is the gradient too ---- */

/* cache [B,S,heads,width] with rows [B,T,heads,width] from position on: row j is new where 0 <= j - position < T. */
static grd_tensor with_rows(grd_tensor rows, grd_tensor cache, grd_tensor from_position)
{
    grd_graph *graph = grd_tensor_graph(rows);
    int64_t count = grd_dim(rows, 1), length = grd_dim(cache, 1);
    grd_tensor least = grd_full(graph, GRD_I32, grd_scalar(), 0);
    grd_tensor most = grd_full(graph, GRD_I32, grd_scalar(), (double)(count - 1));
    grd_tensor taken = grd_take(rows, grd_minimum(grd_maximum(from_position, least), most), 1); /* [B,S,heads,width] */
    grd_tensor is_new = grd_and(grd_ge(from_position, least), grd_le(from_position, most));
    return grd_where(grd_reshape(is_new, grd_shape(length, 1, 1)), taken, cache);
}

static void cached_attention_compose(grdi_compose *c)
{
    grd_tensor q = c->in[Q], position = c->in[POSITION];
    int64_t length = grd_dim(c->in[K_CACHE], 1), window = grdi_attr_int(c->attrs, "window");
    grd_dtype dtype = grd_tensor_dtype(q);
    grd_tensor row = grd_arange(c->graph, GRD_I32, length, 0, 1);
    grd_tensor from_position = grd_sub(row, position); /* [S] */
    c->out[1] = with_rows(c->in[K], c->in[K_CACHE], from_position);
    c->out[2] = with_rows(c->in[V], c->in[V_CACHE], from_position);
    grd_tensor query = grd_unsqueeze(grd_arange(c->graph, GRD_I32, grd_dim(q, 1), 0, 1), -1); /* [T,1] */
    grd_tensor seen = grd_le(from_position, query);                                           /* [T,S] */
    if (window > 0) {
        grd_tensor width = grd_full(c->graph, GRD_I32, grd_scalar(), (double)window);
        seen = grd_and(seen, grd_gt(grd_add(from_position, width), query));
    }
    grd_tensor zero = grd_full(c->graph, dtype, grd_scalar(), 0);
    grd_tensor hidden = grd_full(c->graph, dtype, grd_scalar(), -INFINITY);
    c->out[0] = grd_attention(q, c->out[1], c->out[2], .mask = grd_where(seen, zero, hidden),
                              .scale = grdi_attr_float(c->attrs, "scale"));
}

/* ---- cost: as if the cache were full ---- */

static double cached_attention_flops(const grdi_type *in, int32_t input_count, const grdi_type *out,
                                     const grd_attr *attrs)
{
    (void)input_count, (void)out;
    sizes z = sizes_of(in, attrs);
    int64_t seen = z.window > 0 && z.window < z.s ? z.window : z.s;
    return 2.0 * (double)(z.b * z.h * z.t) * (double)seen * (double)(z.d + z.dv);
}

/* The caches are read once and written where they lie. */
static double cached_attention_bytes(const grdi_type *in, int32_t input_count, const grdi_type *out,
                                     const grd_attr *attrs)
{
    (void)attrs;
    double elements = (double)grd_dims_count(out[0].dims);
    for (int32_t i = 0; i < input_count; i++) elements += (double)grd_dims_count(in[i].dims);
    return elements * (double)grd_dtype_size(in[Q].dtype);
}

static const grdi_sample cached_attention_samples[] = {
    {.in = {"f32[2,1,3,4]", "f32[2,1,3,4]", "f32[2,1,3,4]", "f32[2,7,3,4]", "f32[2,7,3,4]", "i32[1] =4"}},
    {.in = {"f32[1,3,4,5]", "f32[1,3,2,5]", "f32[1,3,2,3]", "f32[1,9,2,5]", "f32[1,9,2,3]", "i32[1] =0"}},
    {.in = {"f32[1,2,6,3]", "f32[1,2,2,3]", "f32[1,2,2,9]", "f32[1,6,2,3]", "f32[1,6,2,9]", "i32[1] =4"},
     .attrs = "scale=0.3"},
    {.in = {"f32[1,3,2,4]", "f32[1,3,1,4]", "f32[1,3,1,4]", "f32[1,11,1,4]", "f32[1,11,1,4]", "i32[1] =6"},
     .attrs = "window=3"},
    {.in = {"f32[1,4,1,4]", "f32[1,4,1,4]", "f32[1,4,1,4]", "f32[1,6,1,4]", "f32[1,6,1,4]", "i32[1] =4"}},
    {.in = {"f32[1,3,1,4]", "f32[1,3,1,4]", "f32[1,3,1,4]", "f32[1,5,1,4]", "f32[1,5,1,4]", "i32[1] =-2"}},
    {.in = {"f32[1,1,1,1]", "f32[1,1,1,1]", "f32[1,1,1,1]", "f32[1,1,1,1]", "f32[1,1,1,1]", "i32[1] =0"}},
    {.in = {"f32[1,5,2,33]", "f32[1,5,1,33]", "f32[1,5,1,17]", "f32[1,70,1,33]", "f32[1,70,1,17]", "i32[1] =60"}},
    {.in = {"f32[1,1,12,64]", "f32[1,1,12,64]", "f32[1,1,12,64]", "f32[1,1024,12,64]", "f32[1,1024,12,64]",
            "i32[1] =1000"},
     .large = true},
    {.in = {"f32[1,32,12,64]", "f32[1,32,4,64]", "f32[1,32,4,64]", "f32[1,1024,4,64]", "f32[1,1024,4,64]",
            "i32[1] =500"},
     .large = true},
    {.in = {"f32[1,2,2,4]", "f32[1,1,2,4]", "f32[1,1,2,4]", "f32[1,6,2,4]", "f32[1,6,2,4]", "i32[1] =0"},
     .bad = "q, k, v must be [B,T,H,D]"},
    {.in = {"f32[1,1,3,4]", "f32[1,1,2,4]", "f32[1,1,2,4]", "f32[1,6,2,4]", "f32[1,6,2,4]", "i32[1] =0"},
     .bad = "q has 3 heads, which is no multiple of the 2 of k"},
    {.in = {"f32[1,1,2,4]", "f32[1,1,2,4]", "f32[1,1,2,4]", "f32[1,6,2,5]", "f32[1,6,2,4]", "i32[1] =0"},
     .bad = "rows [1,1,2,4] do not fit into the cache of keys, [1,6,2,5]"},
    {.in = {"f32[1,1,2,4]", "f32[1,1,2,4]", "f32[1,1,2,4]", "f32[1,6,2,4]", "f32[1,7,2,4]", "i32[1] =0"},
     .bad = "the caches have different lengths"},
    {.in = {"f32[1,1,2,4]", "f32[1,1,2,4]", "f32[1,1,2,4]", "f32[1,6,2,4]", "f32[1,6,2,4]", "i32[2] =0"},
     .bad = "position must be i32[1], is i32[2]"},
    {.in = {"f32[1,1,2,4]", "f32[1,1,2,4]", "f32[1,1,2,4]", "f32[1,6,2,4]", "f32[1,6,2,4]", "i32[1] =0"},
     .attrs = "window=-1",
     .bad = "window is -1"},
    {.in = {NULL}},
};

const grdi_op grdi_op_cached_attention = {
    .name = "cached_attention",
    .inputs = 6,
    .outputs = 3,
    .attrs = {GRD_INT("window", 0), GRD_FLOAT("scale", 0)},
    .shape = cached_attention_shape,
    .compose = cached_attention_compose,
    .reference = cached_attention_reference,
    .flops = cached_attention_flops,
    .bytes = cached_attention_bytes,
    .inplace = {0, 1u << K_CACHE, 1u << V_CACHE},
    .tolerance = 2e-5, /* as attention: f32 sums over D, exponentials of them, sums over S */
    .samples = cached_attention_samples,
};

grd_tensor grd_cached_attention_with(grd_tensor q, grd_tensor k, grd_tensor v, grd_tensor *k_cache, grd_tensor *v_cache,
                                     grd_tensor position, const grd_cached_attention_options *options)
{
    options = options ? options : &(const grd_cached_attention_options){.size = sizeof(grd_cached_attention_options)};
    grd_tensor in[] = {q, k, v, *k_cache, *v_cache, position}, out[GRDI_OUTPUTS_MAX];
    const grd_attr attrs[] = {GRD_INT("window", options->window), GRD_FLOAT("scale", options->scale)};
    grdi_emit(NULL, &grdi_op_cached_attention, in, 6, attrs, 2, out);
    *k_cache = out[1];
    *v_cache = out[2];
    return out[0];
}
