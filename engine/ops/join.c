/* join.c - joining, padding, reversing, cutting triangles out, running sums. */
#include <gradus/ops.h>
#include "graph/graph.h"
#include "ops/axis.h"
#include "ops/map.h"
#include "ops/table.h"

static bool axis_shape(grdi_infer *c)
{
    c->out[0] = c->in[0];
    return grdi_infer_axis(c, grdi_attr_int(c->attrs, "axis"), c->in[0].dims.rank) >= 0;
}

/* ---- concat ---- */

static bool concat_shape(grdi_infer *c)
{
    grd_dims first = c->in[0].dims, dims = first;
    int32_t axis = grdi_infer_axis(c, grdi_attr_int(c->attrs, "axis"), first.rank);
    if (axis < 0) return false;
    for (int32_t i = 1; i < c->input_count; i++) {
        if (!grdi_infer_same_dtype(c, 0, i)) return false;
        grd_dims other = c->in[i].dims, like = other;
        if (like.rank == first.rank) like.dim[axis] = first.dim[axis];
        if (!grd_dims_equal(like, first)) {
            char a[GRD_DIMS_TEXT_MAX], b[GRD_DIMS_TEXT_MAX];
            return grdi_infer_fail(c, GRD_E_SHAPE, "%s and %s differ in more than axis %d", grd_dims_text(first, a),
                                   grd_dims_text(other, b), axis);
        }
        dims.dim[axis] += other.dim[axis];
    }
    c->out[0] = (grdi_type){c->in[0].dtype, dims};
    return true;
}

static void concat_gradient(grdi_gradient *g)
{
    int32_t axis = (int32_t)grdi_attr_int(g->attrs, "axis");
    grd_tensor arriving = grdi_grad_out(g, 0);
    int64_t start = 0;
    for (int32_t i = 0; i < g->input_count; i++) {
        int64_t count = grd_dim(g->in[i], axis);
        if (g->need[i]) g->grad_in[i] = grd_slice(arriving, axis, start, count);
        start += count;
    }
}

static void concat_reference(const grdi_reference *r)
{
    int64_t axis = grdi_attr_int(r->attrs, "axis"), start = 0;
    grdi_axis out = grdi_axis_of(r->out_type[0].dims, axis);
    for (int32_t part = 0; part < r->input_count; part++) {
        grdi_axis in = grdi_axis_of(r->in_type[part].dims, axis);
        for (int64_t o = 0; o < in.outer; o++)
            for (int64_t i = 0; i < in.size; i++)
                for (int64_t n = 0; n < in.inner; n++)
                    r->out[0][(o * out.size + start + i) * out.inner + n] =
                        r->in[part][(o * in.size + i) * in.inner + n];
        start += in.size;
    }
}

static const grdi_sample concat_samples[] = {
    {.in = {"f32[3,7]", "f32[2,7]"}},
    {.in = {"f32[3,7]", "f32[3,1]", "f32[3,13]"}, "axis=-1"},
    {.in = {"f32[2,3,5]", "f32[2,4,5]"}, "axis=1"},
    {.in = {"f32[3,5]"}},
    {.in = {"i32[3]", "i32[4]"}},
    {.in = {"f32[3,7]", "f32[2,8]"}, .bad = "[3,7] and [2,8] differ in more than axis 0"},
    {.in = {"f32[3,7]", "f32[3]"}, .bad = "differ in more than axis 0"},
    {.in = {"f32[3,7]", "i32[3,7]"}, .bad = "i32"},
    {.in = {"f32[3,7]", "f32[3,7]"}, "axis=2", .bad = "axis 2"},
    {.in = {NULL}}};

const grdi_op grdi_op_concat = {
    .name = "concat", .inputs = 1, .inputs_max = GRDI_INPUTS_MAX, .flags = GRDI_OP_MOVES,
    .attrs = {GRD_INT("axis", 0)}, .shape = concat_shape, .gradient = concat_gradient,
    .reference = concat_reference, .samples = concat_samples};

grd_tensor grd_concat(const grd_tensor *parts, int32_t count, int32_t axis)
{
    grd_graph *graph = parts && count > 0 ? grd_tensor_graph(parts[0]) : NULL;
    if (count > GRDI_INPUTS_MAX)
        return grdi_graph_fail(graph, GRD_E_ARGUMENT, "concat: %d tensors, at most %d are possible", count,
                               GRDI_INPUTS_MAX);
    return grdi_emit(graph, &grdi_op_concat, parts, count, GRDI_LIST(grd_attr, GRD_INT("axis", axis)), NULL);
}

grd_tensor grd_stack(const grd_tensor *parts, int32_t count, int32_t axis)
{
    grd_tensor with_axis[GRDI_INPUTS_MAX];
    grd_graph *graph = parts && count > 0 ? grd_tensor_graph(parts[0]) : NULL;
    if (!graph) return (grd_tensor){NULL, 0};
    if (count > GRDI_INPUTS_MAX)
        return grdi_graph_fail(graph, GRD_E_ARGUMENT, "stack: %d tensors, at most %d are possible", count,
                               GRDI_INPUTS_MAX);
    for (int32_t i = 0; i < count; i++) {
        grd_dims first = grd_tensor_dims(parts[0]), other = grd_tensor_dims(parts[i]);
        if (parts[i].node && !grd_dims_equal(first, other)) {
            char a[GRD_DIMS_TEXT_MAX], b[GRD_DIMS_TEXT_MAX];
            return grdi_graph_fail(graph, GRD_E_SHAPE, "stack: shapes differ: %s and %s", grd_dims_text(first, a),
                                   grd_dims_text(other, b));
        }
        with_axis[i] = grd_unsqueeze(parts[i], axis);
    }
    return grd_concat(with_axis, count, axis);
}

/* ---- pad ---- */

static bool pad_shape(grdi_infer *c)
{
    grd_dims dims = c->in[0].dims;
    const grd_attr *before = grdi_attr_ints(c->attrs, "before"), *after = grdi_attr_ints(c->attrs, "after");
    char text[GRD_DIMS_TEXT_MAX];
    if (before->count != dims.rank || after->count != dims.rank)
        return grdi_infer_fail(c, GRD_E_ARGUMENT, "before has %d entries and after %d, but %s has %d axes",
                               before->count, after->count, grd_dims_text(dims, text), dims.rank);
    for (int32_t i = 0; i < dims.rank; i++) {
        if (before->ints[i] < 0 || after->ints[i] < 0)
            return grdi_infer_fail(c, GRD_E_ARGUMENT,
                                   "axis %d would be padded by %lld and %lld entries (must be 0 or more)", i,
                                   (long long)before->ints[i], (long long)after->ints[i]);
        dims.dim[i] += before->ints[i] + after->ints[i];
    }
    c->out[0] = (grdi_type){c->in[0].dtype, dims};
    return grdi_infer_holds(c, c->in[0].dtype, "value", grdi_attr_float(c->attrs, "value"));
}

static void pad_gradient(grdi_gradient *g)
{
    const grd_attr *before = grdi_attr_ints(g->attrs, "before"), *after = grdi_attr_ints(g->attrs, "after");
    grd_tensor cut = grdi_grad_out(g, 0);
    for (int32_t i = 0; i < before->count; i++)
        if (before->ints[i] || after->ints[i]) cut = grd_slice(cut, i, before->ints[i], grd_dim(g->in[0], i));
    g->grad_in[0] = cut;
}

static void pad_reference(const grdi_reference *r)
{
    const grd_attr *before = grdi_attr_ints(r->attrs, "before");
    grd_dims in = r->in_type[0].dims, out = r->out_type[0].dims;
    int64_t count = grd_dims_count(out), at[GRD_RANK_MAX];
    double value = grdi_attr_float(r->attrs, "value");
    for (int64_t i = 0; i < count; i++) {
        bool inside = true;
        grdi_unravel(out, i, at);
        for (int32_t axis = 0; axis < out.rank; axis++) {
            at[axis] -= before->ints[axis];
            inside = inside && at[axis] >= 0 && at[axis] < in.dim[axis];
        }
        r->out[0][i] = inside ? r->in[0][grdi_ravel(in, at)] : value;
    }
}

static const grdi_sample pad_samples[] = {
    {.in = {"f32[7]"}, "before=2 after=3"},
    {.in = {"f32[3,5]"}, "before=0,1 after=2,0 value=-1.5"},
    {.in = {"f32[2,3,1]"}, "before=1,0,2 after=0,0,2"},
    {.in = {"f32[3,5]"}, "before=0,0 after=0,0"},
    {.in = {"i32[3]"}, "before=1 after=1 value=7"},
    {.in = {"f32[3,5]"}, "before=1 after=1", .bad = "[3,5] has 2 axes"},
    {.in = {"i32[3]"}, "before=1 after=1 value=-3e9", .bad = "value is -3e+09, which i32 cannot hold"},
    {.in = {"f32[3,5]"}, "before=1,-1 after=0,0", .bad = "axis 1 would be padded by -1"},
    {.in = {NULL}}};

const grdi_op grdi_op_pad = {
    .name = "pad", .inputs = 1, .flags = GRDI_OP_FOLLOWS, /* no move: bf16 may not hold its value */
    .attrs = {GRD_INTS("before", NULL, 0), GRD_INTS("after", NULL, 0), GRD_FLOAT("value", 0)}, .shape = pad_shape,
    .gradient = pad_gradient, .reference = pad_reference, .samples = pad_samples};

grd_tensor grd_pad(grd_tensor x, grd_dims before, grd_dims after, double value)
{
    return GRDI_EMIT_ATTRS(&grdi_op_pad,
                           GRDI_LIST(grd_attr, GRD_INTS("before", before.dim, before.rank),
                                     GRD_INTS("after", after.dim, after.rank), GRD_FLOAT("value", value)), x);
}

/* ---- flip ---- */

static void flip_gradient(grdi_gradient *g)
{
    g->grad_in[0] = grd_flip(grdi_grad_out(g, 0), (int32_t)grdi_attr_int(g->attrs, "axis"));
}

static void flip_reference(const grdi_reference *r)
{
    grdi_axis a = grdi_axis_of(r->in_type[0].dims, grdi_attr_int(r->attrs, "axis"));
    for (int64_t o = 0; o < a.outer; o++)
        for (int64_t i = 0; i < a.size; i++)
            for (int64_t n = 0; n < a.inner; n++)
                r->out[0][(o * a.size + i) * a.inner + n] = r->in[0][(o * a.size + a.size - 1 - i) * a.inner + n];
}

static const grdi_sample flip_samples[] = {
    {.in = {"f32[7]"}},
    {.in = {"f32[3,1,5]"}, "axis=0"},
    {.in = {"f32[2,13,3]"}, "axis=1"},
    {.in = {"f32[3,5]"}, "axis=-3", .bad = "axis -3"},
    {.in = {NULL}}};

const grdi_op grdi_op_flip = {
    .name = "flip", .inputs = 1, .flags = GRDI_OP_MOVES, .attrs = {GRD_INT("axis", -1)}, .shape = axis_shape,
    .gradient = flip_gradient, .reference = flip_reference, .samples = flip_samples};

grd_tensor grd_flip(grd_tensor x, int32_t axis)
{
    return GRDI_EMIT_ATTRS(&grdi_op_flip, GRDI_LIST(grd_attr, GRD_INT("axis", axis)), x);
}

/* ---- padding with what is there ---- */

/* `count` entries to be put in front of (or behind) `axis`. */
static grd_tensor edge(grd_tensor x, int32_t axis, int64_t count, bool front, grd_padding_mode mode)
{
    grd_dims dims = grd_tensor_dims(x);
    int64_t size = dims.dim[axis];
    if (mode == GRD_PADDING_REFLECT) return grd_flip(grd_slice(x, axis, front ? 1 : size - 1 - count, count), axis);
    if (mode == GRD_PADDING_CIRCULAR) return grd_slice(x, axis, front ? size - count : 0, count);
    dims.dim[axis] = count;
    if (mode == GRD_PADDING_ZEROS) return grd_full(grd_tensor_graph(x), grd_tensor_dtype(x), dims, 0);
    return grd_broadcast_to(grd_slice(x, axis, front ? 0 : size - 1, 1), dims);
}

static bool check_edges(grd_tensor x, grd_dims before, grd_dims after, grd_padding_mode mode)
{
    static const char *const names[] = {"zeros", "reflect", "replicate", "circular"};
    char text[GRD_DIMS_TEXT_MAX];
    grd_dims dims = grd_tensor_dims(x);
    grd_graph *graph = grd_tensor_graph(x);
    if (mode < GRD_PADDING_ZEROS || mode > GRD_PADDING_CIRCULAR) {
        grdi_graph_fail(graph, GRD_E_ARGUMENT, "pad_edges: there is no mode %d", (int)mode);
        return false;
    }
    if (before.rank != dims.rank || after.rank != dims.rank) {
        grdi_graph_fail(graph, GRD_E_ARGUMENT, "pad_edges: before has %d entries and after %d, but %s has %d axes",
                        before.rank, after.rank, grd_dims_text(dims, text), dims.rank);
        return false;
    }
    for (int32_t i = 0; i < dims.rank; i++) {
        int64_t large = before.dim[i] > after.dim[i] ? before.dim[i] : after.dim[i], most = (int64_t)1 << 48;
        int64_t least = before.dim[i] < after.dim[i] ? before.dim[i] : after.dim[i];
        if (mode == GRD_PADDING_REFLECT) most = dims.dim[i] - 1;
        if (mode == GRD_PADDING_CIRCULAR) most = dims.dim[i];
        if (least >= 0 && large <= most) continue;
        grdi_graph_fail(graph, GRD_E_SHAPE,
                        "pad_edges: axis %d of %s takes 0 to %lld entries a side in mode %s, not %lld", i,
                        grd_dims_text(dims, text), (long long)most, names[mode],
                        (long long)(least < 0 ? least : large));
        return false;
    }
    return true;
}

grd_tensor grd_pad_edges(grd_tensor x, grd_dims before, grd_dims after, grd_padding_mode mode)
{
    const grd_tensor poison = {NULL, 0};
    if (!x.node || !check_edges(x, before, after, mode)) return poison;
    for (int32_t axis = 0; axis < before.rank; axis++) {
        grd_tensor parts[3];
        int32_t count = 0;
        if (before.dim[axis]) parts[count++] = edge(x, axis, before.dim[axis], true, mode);
        parts[count++] = x;
        if (after.dim[axis]) parts[count++] = edge(x, axis, after.dim[axis], false, mode);
        if (count > 1) x = grd_concat(parts, count, axis);
    }
    return x;
}

/* ---- tril, triu ---- */

static bool triangle_shape(grdi_infer *c)
{
    char text[GRD_DIMS_TEXT_MAX];
    c->out[0] = c->in[0];
    return c->in[0].dims.rank >= 2 || grdi_infer_fail(c, GRD_E_SHAPE, "a matrix or more is needed, not %s",
                                                      grd_dims_text(c->in[0].dims, text));
}

static void tril_gradient(grdi_gradient *g)
{
    g->grad_in[0] = grd_tril(grdi_grad_out(g, 0), grdi_attr_int(g->attrs, "diagonal"));
}

static void triu_gradient(grdi_gradient *g)
{
    g->grad_in[0] = grd_triu(grdi_grad_out(g, 0), grdi_attr_int(g->attrs, "diagonal"));
}

/* Keeps [...,row,column] where sign * (column - row) >= sign * diagonal. */
static void triangle(const grdi_reference *r, int64_t sign)
{
    grd_dims dims = r->out_type[0].dims;
    int64_t count = grd_dims_count(dims), diagonal = grdi_attr_int(r->attrs, "diagonal"), at[GRD_RANK_MAX];
    for (int64_t i = 0; i < count; i++) {
        grdi_unravel(dims, i, at);
        bool kept = sign * (at[dims.rank - 1] - at[dims.rank - 2]) >= sign * diagonal;
        r->out[0][i] = kept ? r->in[0][i] : 0;
    }
}

static void tril_reference(const grdi_reference *r)
{
    triangle(r, -1);
}

static void triu_reference(const grdi_reference *r)
{
    triangle(r, 1);
}

static const grdi_sample triangle_samples[] = {
    {.in = {"f32[7,7]"}},
    {.in = {"f32[5,3]"}, "diagonal=1"},
    {.in = {"f32[2,3,13]"}, "diagonal=-1"},
    {.in = {"f32[1,1]"}, "diagonal=-5"},
    {.in = {"f32[7]"}, .bad = "not [7]"},
    {.in = {NULL}}};

const grdi_op grdi_op_tril = {
    .name = "tril", .inputs = 1, .flags = GRDI_OP_MOVES, .attrs = {GRD_INT("diagonal", 0)}, .shape = triangle_shape,
    .gradient = tril_gradient, .reference = tril_reference, .inplace = {1}, .samples = triangle_samples};

const grdi_op grdi_op_triu = {
    .name = "triu", .inputs = 1, .flags = GRDI_OP_MOVES, .attrs = {GRD_INT("diagonal", 0)}, .shape = triangle_shape,
    .gradient = triu_gradient, .reference = triu_reference, .inplace = {1}, .samples = triangle_samples};

grd_tensor grd_tril(grd_tensor x, int64_t diagonal)
{
    return GRDI_EMIT_ATTRS(&grdi_op_tril, GRDI_LIST(grd_attr, GRD_INT("diagonal", diagonal)), x);
}

grd_tensor grd_triu(grd_tensor x, int64_t diagonal)
{
    return GRDI_EMIT_ATTRS(&grdi_op_triu, GRDI_LIST(grd_attr, GRD_INT("diagonal", diagonal)), x);
}

/* ---- cumsum ---- */

/* An element is in the sums from its own place on, so its gradient is the running sum from the other end. */
static void cumsum_gradient(grdi_gradient *g)
{
    g->grad_in[0] = grd_cumsum(grdi_grad_out(g, 0), (int32_t)grdi_attr_int(g->attrs, "axis"),
                               !grdi_attr_int(g->attrs, "reverse"), grdi_attr_int(g->attrs, "exclusive"));
}

static void cumsum_reference(const grdi_reference *r)
{
    grdi_axis a = grdi_axis_of(r->in_type[0].dims, grdi_attr_int(r->attrs, "axis"));
    bool reverse = grdi_attr_int(r->attrs, "reverse"), exclusive = grdi_attr_int(r->attrs, "exclusive");
    for (int64_t o = 0; o < a.outer; o++) {
        for (int64_t n = 0; n < a.inner; n++) {
            double sum = 0;
            for (int64_t i = 0; i < a.size; i++) {
                int64_t at = (o * a.size + (reverse ? a.size - 1 - i : i)) * a.inner + n;
                double x = r->in[0][at];
                r->out[0][at] = exclusive ? sum : sum + x;
                sum += x;
            }
        }
    }
}

static const grdi_sample cumsum_samples[] = {
    {.in = {"f32[13]"}},
    {.in = {"f32[3,7,2]"}, "axis=1 reverse=true"},
    {.in = {"f32[5,1]"}, "axis=0 exclusive=true"},
    {.in = {"f32[33]"}, "reverse=true exclusive=true"},
    {.in = {"i32[7] 0..6"}},
    {.in = {"f32[3,5]"}, "axis=2", .bad = "axis 2"},
    {.in = {"bool[5]"}, .bad = "bool"},
    {.in = {NULL}}};

static bool cumsum_shape(grdi_infer *c)
{
    if (c->in[0].dtype == GRD_BOOL)
        return grdi_infer_fail(c, GRD_E_DTYPE, "bool cannot be summed (grd_cast changes it)");
    return axis_shape(c);
}

/* tolerance: sums of up to some hundred terms, each addition off by at most 6e-8 of the sum so far */
const grdi_op grdi_op_cumsum = {
    .name = "cumsum", .inputs = 1,
    .attrs = {GRD_INT("axis", -1), GRD_FLAG("reverse", false), GRD_FLAG("exclusive", false)}, .shape = cumsum_shape,
    .gradient = cumsum_gradient, .reference = cumsum_reference, .tolerance = 4e-6, .samples = cumsum_samples};

grd_tensor grd_cumsum(grd_tensor x, int32_t axis, bool reverse, bool exclusive)
{
    return GRDI_EMIT_ATTRS(&grdi_op_cumsum,
                           GRDI_LIST(grd_attr, GRD_INT("axis", axis), GRD_FLAG("reverse", reverse),
                                     GRD_FLAG("exclusive", exclusive)), x);
}
