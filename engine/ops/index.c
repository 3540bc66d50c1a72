/* index.c - reading and adding at places given as values: gather, take, scatter_add, one_hot, topk, embedding. */
#include <gradus/ops.h>
#include "ops/axis.h"
#include "ops/table.h"

#include <math.h>

static bool ids_are_i32(grdi_infer *c, int32_t input)
{
    return c->in[input].dtype == GRD_I32 ||
           grdi_infer_fail(c, GRD_E_DTYPE, "ids must be i32, not %s (grd_cast changes it)",
                           grd_dtype_name(c->in[input].dtype));
}

/* What reading at a place that does not exist gives. */
static double missing(const grdi_reference *r)
{
    return grd_dtype_is_float(r->out_type[0].dtype) ? NAN : 0;
}

/* One read and one write of what moves, and the ids. */
static double moved_bytes(const grdi_type *in, int32_t input_count, const grdi_type *out, const grd_attr *attrs)
{
    (void)input_count, (void)attrs;
    return 2.0 * (double)grd_dims_count(out[0].dims) * (double)grd_dtype_size(out[0].dtype) +
           4.0 * (double)grd_dims_count(in[1].dims);
}

/* ---- gather ---- */

/* ids must lie inside x along all axes but `axis`. */
static bool ids_fit(grdi_infer *c, int32_t axis)
{
    grd_dims x = c->in[0].dims, ids = c->in[1].dims;
    bool fits = x.rank == ids.rank;
    for (int32_t i = 0; fits && i < x.rank; i++) fits = i == axis || ids.dim[i] <= x.dim[i];
    char x_text[GRD_DIMS_TEXT_MAX], ids_text[GRD_DIMS_TEXT_MAX];
    return fits ||
           grdi_infer_fail(c, GRD_E_SHAPE, "ids %s do not fit %s along axis %d (same rank, no other axis longer)",
                           grd_dims_text(ids, ids_text), grd_dims_text(x, x_text), axis);
}

static bool gather_shape(grdi_infer *c)
{
    int32_t axis = grdi_infer_axis(c, grdi_attr_int(c->attrs, "axis"), c->in[0].dims.rank);
    c->out[0] = (grdi_type){c->in[0].dtype, c->in[1].dims};
    return axis >= 0 && ids_are_i32(c, 1) && ids_fit(c, axis);
}

static void gather_gradient(grdi_gradient *g)
{
    if (g->need[0])
        g->grad_in[0] = grd_scatter_add(grd_zeros_like(g->in[0]), g->in[1], grdi_grad_out(g, 0),
                                        (int32_t)grdi_attr_int(g->attrs, "axis"));
}

/* The element of `dims` at `at` with coordinate `axis` replaced by `id`; -1 where there is none. */
static int64_t place(grd_dims dims, const int64_t *at, int64_t axis, double id)
{
    int64_t moved[GRD_RANK_MAX];
    if (axis < 0) axis += dims.rank;
    if (!(id >= 0 && id < (double)dims.dim[axis])) return -1;
    for (int32_t i = 0; i < dims.rank; i++) moved[i] = i == axis ? (int64_t)id : at[i];
    return grdi_ravel(dims, moved);
}

static void gather_reference(const grdi_reference *r)
{
    grd_dims out = r->out_type[0].dims;
    int64_t count = grd_dims_count(out), at[GRD_RANK_MAX];
    for (int64_t i = 0; i < count; i++) {
        grdi_unravel(out, i, at);
        int64_t from = place(r->in_type[0].dims, at, grdi_attr_int(r->attrs, "axis"), r->in[1][i]);
        r->out[0][i] = from < 0 ? missing(r) : r->in[0][from];
    }
}

static const grdi_sample gather_samples[] = {
    {.in = {"f32[3,7]", "i32[3,5] 0..6"}},
    {.in = {"f32[7,3]", "i32[4,2] 0..6"}, "axis=0"},
    {.in = {"f32[2,13,3]", "i32[2,1,3] 0..12"}, "axis=1"},
    {.in = {"f32[33]", "i32[50] 0..32"}},
    {.in = {"i32[5] 0..9", "i32[2] 0..4"}},
    {.in = {"f32[3,7]", "i32[4,5] 0..6"}, .bad = "ids [4,5] do not fit [3,7] along axis 1"},
    {.in = {"f32[3,7]", "i32[3] 0..6"}, .bad = "ids [3] do not fit"},
    {.in = {"f32[3,7]", "f32[3,5]"}, .bad = "ids must be i32, not f"},
    {.in = {"f32[3,7]", "i32[3,5] 0..6"}, "axis=2", .bad = "axis 2"},
    {.in = {NULL}}};

const grdi_op grdi_op_gather = {
    .name = "gather", .inputs = 2, .flags = GRDI_OP_MOVES, .attrs = {GRD_INT("axis", -1)}, .shape = gather_shape,
    .gradient = gather_gradient, .reference = gather_reference, .bytes = moved_bytes, .samples = gather_samples};

grd_tensor grd_gather(grd_tensor x, grd_tensor ids, int32_t axis)
{
    return GRDI_EMIT_ATTRS(&grdi_op_gather, GRDI_LIST(grd_attr, GRD_INT("axis", axis)), x, ids);
}

/* ---- scatter_add ---- */

static bool scatter_add_shape(grdi_infer *c)
{
    int32_t axis = grdi_infer_axis(c, grdi_attr_int(c->attrs, "axis"), c->in[0].dims.rank);
    if (axis < 0 || !ids_are_i32(c, 1) || !grdi_infer_same_dtype(c, 0, 2) || !ids_fit(c, axis)) return false;
    char ids_text[GRD_DIMS_TEXT_MAX], source_text[GRD_DIMS_TEXT_MAX];
    if (c->in[0].dtype == GRD_BOOL)
        return grdi_infer_fail(c, GRD_E_DTYPE, "bool cannot be added (grd_cast changes it)");
    if (!grd_dims_equal(c->in[1].dims, c->in[2].dims))
        return grdi_infer_fail(c, GRD_E_SHAPE, "ids %s and what is to be added, %s, differ in shape",
                               grd_dims_text(c->in[1].dims, ids_text), grd_dims_text(c->in[2].dims, source_text));
    c->out[0] = c->in[0];
    return true;
}

static void scatter_add_gradient(grdi_gradient *g)
{
    grd_tensor arriving = grdi_grad_out(g, 0);
    if (g->need[0]) g->grad_in[0] = arriving;
    if (g->need[2]) g->grad_in[2] = grd_gather(arriving, g->in[1], (int32_t)grdi_attr_int(g->attrs, "axis"));
}

static void scatter_add_reference(const grdi_reference *r)
{
    grd_dims dims = r->out_type[0].dims, from = r->in_type[1].dims;
    int64_t total = grd_dims_count(dims), count = grd_dims_count(from), at[GRD_RANK_MAX];
    for (int64_t i = 0; i < total; i++) r->out[0][i] = r->in[0][i];
    for (int64_t i = 0; i < count; i++) {
        grdi_unravel(from, i, at);
        int64_t to = place(dims, at, grdi_attr_int(r->attrs, "axis"), r->in[1][i]);
        if (to >= 0) r->out[0][to] += r->in[2][i];
    }
}

static const grdi_sample scatter_add_samples[] = {
    {.in = {"f32[3,7]", "i32[3,13] 0..6", "f32[3,13]"}},
    {.in = {"f32[7,3]", "i32[4,2] 0..6", "f32[4,2]"}, "axis=0"},
    {.in = {"f32[2,5,3]", "i32[2,33,1] 0..4", "f32[2,33,1]"}, "axis=1"},
    {.in = {"i32[5] 0..9", "i32[2] 0..4", "i32[2] 0..9"}},
    {.in = {"f32[3,7]", "i32[3,5] 0..6", "f32[3,6]"}, .bad = "ids [3,5] and what is to be added, [3,6], differ"},
    {.in = {"f32[3,7]", "i32[4,5] 0..6", "f32[4,5]"}, .bad = "do not fit [3,7]"},
    {.in = {"f32[3,7]", "i32[3,5] 0..6", "bf16[3,5]"}, .bad = "bf16"},
    {.in = {"bool[3,7]", "i32[3,5] 0..6", "bool[3,5]"}, .bad = "bool cannot be added"},
    {.in = {NULL}}};

/* tolerance: sums of some dozen terms */
const grdi_op grdi_op_scatter_add = {
    .name = "scatter_add", .inputs = 3, .attrs = {GRD_INT("axis", -1)}, .shape = scatter_add_shape,
    .gradient = scatter_add_gradient, .reference = scatter_add_reference, .inplace = {1}, .tolerance = 2e-6,
    .samples = scatter_add_samples};

grd_tensor grd_scatter_add(grd_tensor base, grd_tensor ids, grd_tensor src, int32_t axis)
{
    return GRDI_EMIT_ATTRS(&grdi_op_scatter_add, GRDI_LIST(grd_attr, GRD_INT("axis", axis)), base, ids, src);
}

/* ---- take ---- */

static bool take_shape(grdi_infer *c)
{
    grd_dims dims = c->in[0].dims;
    int32_t axis = grdi_infer_axis(c, grdi_attr_int(c->attrs, "axis"), dims.rank);
    char text[GRD_DIMS_TEXT_MAX];
    if (axis < 0 || !ids_are_i32(c, 1)) return false;
    if (c->in[1].dims.rank != 1)
        return grdi_infer_fail(c, GRD_E_SHAPE, "ids must have one axis, not the shape %s",
                               grd_dims_text(c->in[1].dims, text));
    dims.dim[axis] = c->in[1].dims.dim[0];
    c->out[0] = (grdi_type){c->in[0].dtype, dims};
    return true;
}

static void take_gradient(grdi_gradient *g)
{
    grd_tensor arriving = grdi_grad_out(g, 0), ids = g->in[1];
    grd_dims dims = grd_tensor_dims(g->in[0]), along = {.rank = dims.rank};
    int64_t axis = grdi_attr_int(g->attrs, "axis");
    if (axis < 0) axis += dims.rank;
    if (!g->need[0]) return;
    if (axis == 0 && dims.rank == 2) {
        g->grad_in[0] = grd_embedding_backward(arriving, ids, dims.dim[0]);
        return;
    }
    for (int32_t i = 0; i < dims.rank; i++) along.dim[i] = i == axis ? -1 : 1;
    grd_tensor everywhere = grd_broadcast_to(grd_reshape(ids, along), grd_tensor_dims(arriving));
    g->grad_in[0] = grd_scatter_add(grd_zeros_like(g->in[0]), everywhere, arriving, (int32_t)axis);
}

/* y[.., j, ..] = x[.., ids[j], ..] */
static void take_reference(const grdi_reference *r)
{
    int64_t axis = grdi_attr_int(r->attrs, "axis");
    grdi_axis in = grdi_axis_of(r->in_type[0].dims, axis), out = grdi_axis_of(r->out_type[0].dims, axis);
    for (int64_t o = 0; o < out.outer; o++) {
        for (int64_t j = 0; j < out.size; j++) {
            double id = r->in[1][j];
            bool exists = id >= 0 && id < (double)in.size;
            for (int64_t n = 0; n < out.inner; n++)
                r->out[0][(o * out.size + j) * out.inner + n] =
                    exists ? r->in[0][(o * in.size + (int64_t)id) * in.inner + n] : missing(r);
        }
    }
}

static const grdi_sample take_samples[] = {
    {.in = {"f32[7,3]", "i32[13] 0..6"}},
    {.in = {"f32[3,7]", "i32[5] 0..6"}, "axis=-1"},
    {.in = {"f32[2,5,3]", "i32[1] 0..4"}, "axis=1"},
    {.in = {"f32[33]", "i32[7] 0..32"}},
    {.in = {"i32[5,2] 0..9", "i32[3] 0..4"}},
    {.in = {"f32[7,3]", "i32[2,2] 0..6"}, .bad = "not the shape [2,2]"},
    {.in = {"f32[7,3]", "f32[2]"}, .bad = "ids must be i32"},
    {.in = {"f32[7,3]", "i32[2] 0..6"}, "axis=2", .bad = "axis 2"},
    {.in = {NULL}}};

const grdi_op grdi_op_take = {
    .name = "take", .inputs = 2, .flags = GRDI_OP_MOVES, .attrs = {GRD_INT("axis", 0)}, .shape = take_shape,
    .gradient = take_gradient, .reference = take_reference, .bytes = moved_bytes, .samples = take_samples};

grd_tensor grd_take(grd_tensor x, grd_tensor ids, int32_t axis)
{
    return GRDI_EMIT_ATTRS(&grdi_op_take, GRDI_LIST(grd_attr, GRD_INT("axis", axis)), x, ids);
}

/* ---- one_hot ---- */

static bool one_hot_shape(grdi_infer *c)
{
    grd_dims dims = c->in[0].dims;
    int64_t depth = grdi_attr_int(c->attrs, "depth");
    char text[GRD_DIMS_TEXT_MAX];
    if (!ids_are_i32(c, 0)) return false;
    if (depth < 1) return grdi_infer_fail(c, GRD_E_ARGUMENT, "depth is %lld (must be 1 or more)", (long long)depth);
    if (dims.rank == GRD_RANK_MAX)
        return grdi_infer_fail(c, GRD_E_SHAPE, "no room for one more axis in %s", grd_dims_text(dims, text));
    dims.dim[dims.rank++] = depth;
    c->out[0] = (grdi_type){(grd_dtype)grdi_attr_int(c->attrs, "dtype"), dims};
    return true;
}

static void one_hot_reference(const grdi_reference *r)
{
    int64_t depth = grdi_attr_int(r->attrs, "depth"), count = grd_dims_count(r->out_type[0].dims);
    for (int64_t i = 0; i < count; i++) r->out[0][i] = r->in[0][i / depth] == (double)(i % depth);
}

static const grdi_sample one_hot_samples[] = {
    {.in = {"i32[7] 0..4"}, "depth=5"},
    {.in = {"i32[2,3] -1..7"}, "depth=7"},
    {.in = {"i32[] 0..2"}, "depth=3"},
    {.in = {"i32[5] 0..2"}, "depth=3 dtype=i32"},
    {.in = {"i32[5] 0..2"}, "depth=1 dtype=bool"},
    {.in = {"i32[5] 0..2"}, .bad = "depth is 0"},
    {.in = {"i32[1,1,1,1,1,1,1,1] 0..2"}, "depth=3", .bad = "no room for one more axis"},
    {.in = {"f32[5]"}, "depth=3", .bad = "ids must be i32"},
    {.in = {NULL}}};

const grdi_op grdi_op_one_hot = {.name = "one_hot",
                                 .inputs = 1,
                                 .flags = GRDI_OP_NO_GRADIENT,
                                 .attrs = {GRD_INT("depth", 0), GRD_TYPE("dtype", GRD_F32)},
                                 .shape = one_hot_shape,
                                 .reference = one_hot_reference,
                                 .samples = one_hot_samples};

grd_tensor grd_one_hot(grd_tensor ids, int64_t depth, grd_dtype dtype)
{
    return GRDI_EMIT_ATTRS(&grdi_op_one_hot, GRDI_LIST(grd_attr, GRD_INT("depth", depth), GRD_TYPE("dtype", dtype)),
                           ids);
}

/* ---- topk ---- */

static bool topk_shape(grdi_infer *c)
{
    grd_dims dims = c->in[0].dims;
    int32_t axis = grdi_infer_axis(c, grdi_attr_int(c->attrs, "axis"), dims.rank);
    int64_t k = grdi_attr_int(c->attrs, "k");
    char text[GRD_DIMS_TEXT_MAX];
    if (axis < 0) return false;
    if (k < 1 || k > dims.dim[axis])
        return grdi_infer_fail(c, GRD_E_ARGUMENT, "k is %lld, but axis %d of %s has %lld entries", (long long)k, axis,
                               grd_dims_text(dims, text), (long long)dims.dim[axis]);
    dims.dim[axis] = k;
    c->out[0] = (grdi_type){c->in[0].dtype, dims};
    c->out[1] = (grdi_type){GRD_I32, dims};
    return true;
}

static void topk_gradient(grdi_gradient *g)
{
    if (g->grad_out[0].node)
        g->grad_in[0] = grd_scatter_add(grd_zeros_like(g->in[0]), g->out[1], g->grad_out[0],
                                        (int32_t)grdi_attr_int(g->attrs, "axis"));
}

/* Whether entry i stands before entry j: NaN, then the larger, then the one of lower index. */
static bool stands_before(const double *x, int64_t i, int64_t j, int64_t inner)
{
    double a = x[i * inner], b = x[j * inner];
    if (isnan(a) != isnan(b)) return isnan(a);
    return a > b || (!(a < b) && i < j);
}

/* An entry's rank is the number of entries that stand before it. */
static void topk_reference(const grdi_reference *r)
{
    grdi_axis in = grdi_axis_of(r->in_type[0].dims, grdi_attr_int(r->attrs, "axis"));
    int64_t k = grdi_attr_int(r->attrs, "k");
    for (int64_t line = 0; line < in.outer * in.inner; line++) {
        int64_t o = line / in.inner, n = line % in.inner;
        const double *x = r->in[0] + o * in.size * in.inner + n;
        for (int64_t i = 0; i < in.size; i++) {
            int64_t rank = 0;
            for (int64_t j = 0; j < in.size; j++) rank += stands_before(x, j, i, in.inner);
            if (rank >= k) continue;
            int64_t to = (o * k + rank) * in.inner + n;
            if (r->out[0]) r->out[0][to] = x[i * in.inner];
            if (r->out[1]) r->out[1][to] = (double)i;
        }
    }
}

static const grdi_sample topk_samples[] = {
    {.in = {"f32[33]"}, "k=5"},
    {.in = {"f32[3,7,2]"}, "k=3 axis=1"},
    {.in = {"f32[3,1]"}, "k=1"},
    {.in = {"f32[7,13]"}, "k=7 axis=0"},
    {.in = {"i32[13] 0..3"}, "k=6"}, /* many equal entries */
    {.in = {"f32[3,7]"}, "k=8", .bad = "k is 8, but axis 1 of [3,7] has 7 entries"},
    {.in = {"f32[3,7]"}, .bad = "k is 0"},
    {.in = {"f32[3,7]"}, "k=1 axis=2", .bad = "axis 2"},
    {.in = {NULL}}};

const grdi_op grdi_op_topk = {
    .name = "topk", .inputs = 1, .outputs = 2, .attrs = {GRD_INT("k", 0), GRD_INT("axis", -1)}, .shape = topk_shape,
    .gradient = topk_gradient, .reference = topk_reference, .samples = topk_samples};

grd_tensor grd_topk(grd_tensor x, int64_t k, int32_t axis, grd_tensor *ids)
{
    grd_tensor out[GRDI_OUTPUTS_MAX];
    grdi_emit(NULL, &grdi_op_topk, &x, 1, GRDI_LIST(grd_attr, GRD_INT("k", k), GRD_INT("axis", axis)), out);
    if (ids) *ids = out[1];
    return out[0];
}

/* ---- embedding ---- */

static bool embedding_shape(grdi_infer *c)
{
    grd_dims table = c->in[0].dims, dims = c->in[1].dims;
    char table_text[GRD_DIMS_TEXT_MAX], ids_text[GRD_DIMS_TEXT_MAX];
    if (!ids_are_i32(c, 1)) return false;
    if (table.rank != 2 || dims.rank == GRD_RANK_MAX)
        return grdi_infer_fail(c, GRD_E_SHAPE, "a table [V,C] and ids of at most 7 axes are needed, not %s and %s",
                               grd_dims_text(table, table_text), grd_dims_text(dims, ids_text));
    dims.dim[dims.rank++] = table.dim[1];
    c->out[0] = (grdi_type){c->in[0].dtype, dims};
    return true;
}

static void embedding_gradient(grdi_gradient *g)
{
    if (g->need[0]) g->grad_in[0] = grd_embedding_backward(grdi_grad_out(g, 0), g->in[1], grd_dim(g->in[0], 0));
}

/* y[i][c] = table[ids[i]][c] */
static void embedding_reference(const grdi_reference *r)
{
    int64_t rows = r->in_type[0].dims.dim[0], width = r->in_type[0].dims.dim[1];
    int64_t count = grd_dims_count(r->in_type[1].dims);
    for (int64_t i = 0; i < count; i++) {
        double id = r->in[1][i];
        bool exists = id >= 0 && id < (double)rows;
        for (int64_t c = 0; c < width; c++)
            r->out[0][i * width + c] = exists ? r->in[0][(int64_t)id * width + c] : missing(r);
    }
}

static const grdi_sample embedding_samples[] = {
    {.in = {"f32[13,7]", "i32[5] 0..12"}},
    {.in = {"f32[5,1]", "i32[2,3] 0..4"}},
    {.in = {"f32[3,33]", "i32[] 0..2"}},
    {.in = {"f32[7,16]", "i32[3,1,40] 0..6"}},
    {.in = {"f32[13,7,2]", "i32[5] 0..12"}, .bad = "not [13,7,2] and [5]"},
    {.in = {"f32[13,7]", "f32[5]"}, .bad = "ids must be i32"},
    {.in = {"f32[50257,768]", "i32[8,1024] 0..50256"}, .large = true},
    {.in = {NULL}}};

const grdi_op grdi_op_embedding = {
    .name = "embedding", .inputs = 2, .shape = embedding_shape, .gradient = embedding_gradient,
    .reference = embedding_reference, .bytes = moved_bytes, .bf16_out = 1, .samples = embedding_samples};

grd_tensor grd_embedding(grd_tensor table, grd_tensor ids)
{
    return GRDI_EMIT(&grdi_op_embedding, table, ids);
}

/* ---- embedding_backward ---- */

static bool embedding_backward_shape(grdi_infer *c)
{
    grd_dims g = c->in[0].dims, ids = c->in[1].dims;
    int64_t vocab = grdi_attr_int(c->attrs, "vocab");
    char g_text[GRD_DIMS_TEXT_MAX], ids_text[GRD_DIMS_TEXT_MAX];
    if (!grdi_infer_float(c, 0) || !ids_are_i32(c, 1)) return false;
    if (vocab < 1) return grdi_infer_fail(c, GRD_E_ARGUMENT, "vocab is %lld (must be 1 or more)", (long long)vocab);
    if (g.rank != ids.rank + 1 || !grd_dims_equal(grd_dims_make(ids.rank, g.dim), ids))
        return grdi_infer_fail(c, GRD_E_SHAPE, "a gradient %s does not fit ids %s (it has one more axis)",
                               grd_dims_text(g, g_text), grd_dims_text(ids, ids_text));
    c->out[0] = (grdi_type){c->in[0].dtype, grd_shape(vocab, g.dim[g.rank - 1])};
    return true;
}

static void embedding_backward_gradient(grdi_gradient *g)
{
    if (g->need[0]) g->grad_in[0] = grd_embedding(grdi_grad_out(g, 0), g->in[1]);
}

/* table'[v][c] = sum over i with ids[i] = v of g[i][c] */
static void embedding_backward_reference(const grdi_reference *r)
{
    int64_t rows = r->out_type[0].dims.dim[0], width = r->out_type[0].dims.dim[1];
    int64_t count = grd_dims_count(r->in_type[1].dims);
    for (int64_t i = 0; i < rows * width; i++) r->out[0][i] = 0;
    for (int64_t i = 0; i < count; i++) {
        double id = r->in[1][i];
        if (!(id >= 0 && id < (double)rows)) continue;
        for (int64_t c = 0; c < width; c++) r->out[0][(int64_t)id * width + c] += r->in[0][i * width + c];
    }
}

static const grdi_sample embedding_backward_samples[] = {
    {.in = {"f32[5,7]", "i32[5] 0..12"}, "vocab=13"},
    {.in = {"f32[2,33,1]", "i32[2,33] 0..4"}, "vocab=5"},
    {.in = {"f32[3]", "i32[] 0..2"}, "vocab=3"},
    {.in = {"f32[3,40,16]", "i32[3,40] 0..6"}, "vocab=9"}, /* rows 7 and 8 stay zero */
    {.in = {"f32[5,7]", "i32[6] 0..12"}, "vocab=13", .bad = "gradient [5,7] does not fit ids [6]"},
    {.in = {"f32[5,7]", "i32[5] 0..12"}, .bad = "vocab is 0"},
    {.in = {"i32[5,7]", "i32[5] 0..12"}, "vocab=13", .bad = "i32"},
    {.in = {"f32[8,1024,768]", "i32[8,1024] 0..50256"}, "vocab=50257", .large = true},
    {.in = {NULL}}};

/* tolerance: sums of up to some hundred terms */
const grdi_op grdi_op_embedding_backward = {
    .name = "embedding_backward", .inputs = 2, .attrs = {GRD_INT("vocab", 0)}, .shape = embedding_backward_shape,
    .gradient = embedding_backward_gradient, .reference = embedding_backward_reference, .tolerance = 4e-6,
    .samples = embedding_backward_samples};

grd_tensor grd_embedding_backward(grd_tensor g, grd_tensor ids, int64_t vocab)
{
    return GRDI_EMIT_ATTRS(&grdi_op_embedding_backward, GRDI_LIST(grd_attr, GRD_INT("vocab", vocab)), g, ids);
}
