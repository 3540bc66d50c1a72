/* views.c - ops whose result is their input seen with another shape and other strides. */
#include <gradus/ops.h>
#include "graph/graph.h"
#include "ops/axis.h"
#include "ops/table.h"

#include <string.h>

static int64_t positive_axis(int64_t axis, int32_t rank)
{
    return axis < 0 ? axis + rank : axis;
}

static void copy_reference(const grdi_reference *r)
{
    memcpy(r->out[0], r->in[0], sizeof(double) * (size_t)grd_dims_count(r->out_type[0].dims));
}

static bool same_view(const grdi_type *in, const grdi_strides *in_strides, const grd_attr *attrs, const grdi_type *out,
                      grdi_strides *out_strides)
{
    (void)in, (void)attrs, (void)out;
    *out_strides = *in_strides;
    return true;
}

/* ---- reshape ---- */

static bool reshape_shape(grdi_infer *c)
{
    const grd_attr *wanted = grdi_attr_ints(c->attrs, "dims");
    grd_dims dims = grd_dims_make(wanted->count, wanted->ints);
    char in_text[GRD_DIMS_TEXT_MAX], out_text[GRD_DIMS_TEXT_MAX];
    if (dims.rank > GRD_RANK_MAX)
        return grdi_infer_fail(c, GRD_E_SHAPE, "%d dimensions, at most %d are possible", dims.rank, GRD_RANK_MAX);
    grd_dims_text(c->in[0].dims, in_text);
    grd_dims_text(dims, out_text);
    int32_t open = -1;
    for (int32_t i = 0; i < dims.rank; i++) {
        if (dims.dim[i] >= 1) continue;
        if (dims.dim[i] != -1 || open >= 0)
            return grdi_infer_fail(c, GRD_E_SHAPE, "%s is no shape: one dimension may be -1, the others are 1 or more",
                                   out_text);
        open = i;
        dims.dim[i] = 1;
    }
    int64_t count = grd_dims_count(c->in[0].dims), known = grd_dims_count(dims);
    if (open >= 0 && known > 0 && count % known == 0) dims.dim[open] = count / known;
    if (grd_dims_count(dims) != count)
        return grdi_infer_fail(c, GRD_E_SHAPE, "%s has %lld elements and cannot become %s", in_text, (long long)count,
                               out_text);
    c->out[0] = (grdi_type){c->in[0].dtype, dims};
    return true;
}

static void reshape_gradient(grdi_gradient *g)
{
    g->grad_in[0] = grd_reshape(grdi_grad_out(g, 0), grd_tensor_dims(g->in[0]));
}

/* Takes both shapes apart from the right into runs of equal size: a run of input axes must be evenly spaced in memory,
 * and the output axes of the same run then divide its spacing among them. */
static bool reshape_view(const grdi_type *in, const grdi_strides *in_strides, const grd_attr *attrs,
                         const grdi_type *out, grdi_strides *out_strides)
{
    (void)attrs;
    grd_dims from = in->dims, to = out->dims;
    int64_t step = 1;
    int32_t o = to.rank - 1;
    out_strides->offset = in_strides->offset;
    for (int32_t i = from.rank - 1; i >= 0; i--) {
        if (from.dim[i] == 1) continue;
        step = in_strides->stride[i];
        int64_t run = from.dim[i];
        for (; i > 0 && (from.dim[i - 1] == 1 || in_strides->stride[i - 1] == step * run); i--) run *= from.dim[i - 1];
        int64_t covered = 1;
        for (; o >= 0 && covered < run; o--) {
            out_strides->stride[o] = step * covered;
            covered *= to.dim[o];
        }
        if (covered != run) return false;
    }
    for (; o >= 0; o--) out_strides->stride[o] = step; /* axes of size 1: any stride will do */
    return true;
}

static const grdi_sample reshape_samples[] = {
    {.in = {"f32[4,6]"}, "dims=3,8"},
    {.in = {"f32[7,13]"}, "dims=-1"},
    {.in = {"f32[2,3,4]"}, "dims=6,-1,2"},
    {.in = {"f32[1,5,1]"}, "dims=5"},
    {.in = {"f32[1]"}, "dims="},
    {.in = {"f32[]"}, "dims=1,1"},
    {.in = {"i32[6]"}, "dims=2,3"},
    {.in = {"f32[4,6]"}, "dims=5,5", .bad = "[4,6] has 24 elements and cannot become [5,5]"},
    {.in = {"f32[4,6]"}, "dims=-1,5", .bad = "cannot become [-1,5]"},
    {.in = {"f32[4,6]"}, "dims=-1,-1", .bad = "is no shape"},
    {.in = {"f32[1]"}, "dims=1,1,1,1,1,1,1,1,1", .bad = "at most 8"},
    {.in = {NULL}}};

const grdi_op grdi_op_reshape = {
    .name = "reshape", .inputs = 1, .flags = GRDI_OP_VIEW | GRDI_OP_MOVES, .attrs = {GRD_INTS("dims", NULL, 0)},
    .shape = reshape_shape,
    .gradient = reshape_gradient, .reference = copy_reference, .view = reshape_view, .samples = reshape_samples};

grd_tensor grd_reshape(grd_tensor x, grd_dims dims)
{
    return GRDI_EMIT_ATTRS(&grdi_op_reshape, GRDI_LIST(grd_attr, GRD_INTS("dims", dims.dim, dims.rank)), x);
}

/* Poison, after noting that `what` was given an axis that x does not have. */
static grd_tensor no_axis(grd_tensor x, const char *what, int32_t axis)
{
    char text[GRD_DIMS_TEXT_MAX];
    return grdi_graph_fail(grd_tensor_graph(x), GRD_E_ARGUMENT, "%s: axis %d is outside the shape %s", what, axis,
                           grd_dims_text(grd_tensor_dims(x), text));
}

grd_tensor grd_squeeze(grd_tensor x, int32_t axis)
{
    grd_dims dims = grd_tensor_dims(x), out = {0};
    int64_t at = positive_axis(axis, dims.rank);
    if (!x.node) return x;
    if (at < 0 || at >= dims.rank) return no_axis(x, "squeeze", axis);
    if (dims.dim[at] != 1) {
        char text[GRD_DIMS_TEXT_MAX];
        return grdi_graph_fail(grd_tensor_graph(x), GRD_E_SHAPE, "squeeze: axis %d of %s is not of size 1", axis,
                               grd_dims_text(dims, text));
    }
    for (int32_t i = 0; i < dims.rank; i++)
        if (i != at) out.dim[out.rank++] = dims.dim[i];
    return grd_reshape(x, out);
}

grd_tensor grd_unsqueeze(grd_tensor x, int32_t axis)
{
    grd_dims dims = grd_tensor_dims(x), out = {0};
    int64_t at = positive_axis(axis, dims.rank + 1);
    if (!x.node) return x;
    if (at < 0 || at > dims.rank || dims.rank == GRD_RANK_MAX) return no_axis(x, "unsqueeze", axis);
    for (int32_t i = 0; i <= dims.rank; i++) {
        if (i == at) out.dim[out.rank++] = 1;
        if (i < dims.rank) out.dim[out.rank++] = dims.dim[i];
    }
    return grd_reshape(x, out);
}

grd_tensor grd_flatten(grd_tensor x, int32_t first, int32_t last)
{
    grd_dims dims = grd_tensor_dims(x), out = {0};
    int64_t from = positive_axis(first, dims.rank), to = positive_axis(last, dims.rank);
    if (!x.node) return x;
    if (from < 0 || from >= dims.rank) return no_axis(x, "flatten", first);
    if (to < from || to >= dims.rank) return no_axis(x, "flatten", last);
    for (int32_t i = 0; i < dims.rank; i++) {
        if (i > from && i <= to)
            out.dim[out.rank - 1] *= dims.dim[i];
        else
            out.dim[out.rank++] = dims.dim[i];
    }
    return grd_reshape(x, out);
}

/* ---- transpose ---- */

static bool transpose_shape(grdi_infer *c)
{
    grd_dims in = c->in[0].dims;
    const grd_attr *axes = grdi_attr_ints(c->attrs, "axes");
    char text[GRD_DIMS_TEXT_MAX], axes_text[GRD_DIMS_TEXT_MAX];
    bool used[GRD_RANK_MAX] = {false}, valid = axes->count == in.rank;
    c->out[0] = (grdi_type){c->in[0].dtype, in};
    for (int32_t i = 0; valid && i < in.rank; i++) {
        int64_t axis = axes->ints[i];
        valid = axis >= 0 && axis < in.rank && !used[axis];
        if (!valid) break;
        used[axis] = true;
        c->out[0].dims.dim[i] = in.dim[axis];
    }
    return valid ||
           grdi_infer_fail(c, GRD_E_ARGUMENT, "%s is no permutation of the axes of %s",
                           grd_dims_text(grd_dims_make(axes->count, axes->ints), axes_text), grd_dims_text(in, text));
}

static void transpose_gradient(grdi_gradient *g)
{
    const grd_attr *axes = grdi_attr_ints(g->attrs, "axes");
    grd_dims back = {.rank = axes->count};
    for (int32_t i = 0; i < axes->count; i++) back.dim[axes->ints[i]] = i;
    g->grad_in[0] = grd_transpose(grdi_grad_out(g, 0), back);
}

/* y[c0, c1, ...] = x[d0, d1, ...] with d[axes[i]] = c[i] */
static void transpose_reference(const grdi_reference *r)
{
    const grd_attr *axes = grdi_attr_ints(r->attrs, "axes");
    grd_dims in = r->in_type[0].dims, out = r->out_type[0].dims;
    int64_t count = grd_dims_count(out), to[GRD_RANK_MAX], from[GRD_RANK_MAX];
    for (int64_t i = 0; i < count; i++) {
        grdi_unravel(out, i, to);
        for (int32_t axis = 0; axis < out.rank; axis++) from[axes->ints[axis]] = to[axis];
        r->out[0][i] = r->in[0][grdi_ravel(in, from)];
    }
}

static bool transpose_view(const grdi_type *in, const grdi_strides *in_strides, const grd_attr *attrs,
                           const grdi_type *out, grdi_strides *out_strides)
{
    (void)in;
    const grd_attr *axes = grdi_attr_ints(attrs, "axes");
    out_strides->offset = in_strides->offset;
    for (int32_t i = 0; i < out->dims.rank; i++) out_strides->stride[i] = in_strides->stride[axes->ints[i]];
    return true;
}

static const grdi_sample transpose_samples[] = {
    {.in = {"f32[3,7]"}, "axes=1,0"},
    {.in = {"f32[2,3,4,5]"}, "axes=0,2,1,3"},
    {.in = {"f32[2,3,1,5]"}, "axes=3,0,2,1"},
    {.in = {"f32[13]"}, "axes=0"},
    {.in = {"bool[5,2]"}, "axes=1,0"},
    {.in = {"f32[3,7]"}, "axes=0,0", .bad = "[0,0] is no permutation of the axes of [3,7]"},
    {.in = {"f32[3,7]"}, "axes=0", .bad = "no permutation"},
    {.in = {"f32[3,7]"}, "axes=1,2", .bad = "no permutation"},
    {.in = {NULL}}};

const grdi_op grdi_op_transpose = {.name = "transpose",
                                   .inputs = 1,
                                   .flags = GRDI_OP_VIEW | GRDI_OP_MOVES,
                                   .attrs = {GRD_INTS("axes", NULL, 0)},
                                   .shape = transpose_shape,
                                   .gradient = transpose_gradient,
                                   .reference = transpose_reference,
                                   .view = transpose_view,
                                   .samples = transpose_samples};

grd_tensor grd_transpose(grd_tensor x, grd_dims axes)
{
    return GRDI_EMIT_ATTRS(&grdi_op_transpose, GRDI_LIST(grd_attr, GRD_INTS("axes", axes.dim, axes.rank)), x);
}

grd_tensor grd_swap(grd_tensor x, int32_t a, int32_t b)
{
    grd_dims dims = grd_tensor_dims(x), axes = {.rank = dims.rank};
    int64_t i = positive_axis(a, dims.rank), j = positive_axis(b, dims.rank);
    if (!x.node) return x;
    if (i < 0 || i >= dims.rank) return no_axis(x, "transpose", a);
    if (j < 0 || j >= dims.rank) return no_axis(x, "transpose", b);
    for (int32_t axis = 0; axis < dims.rank; axis++) axes.dim[axis] = axis == i ? j : axis == j ? i : axis;
    return grd_transpose(x, axes);
}

grd_tensor grd_transpose2(grd_tensor x)
{
    return grd_swap(x, -2, -1);
}

/* ---- slice ---- */

/* Where the slice of an axis of `size` entries begins and how many entries it has, as asked for: not checked. */
static void slice_range(const grd_attr *attrs, int64_t size, int64_t *start, int64_t *count)
{
    *start = grdi_attr_int(attrs, "start");
    *count = grdi_attr_int(attrs, "count");
    if (*start < 0) *start += size;
    if (*count == -1) *count = *start < 0 ? 0 : size - *start;
}

static bool slice_shape(grdi_infer *c)
{
    grd_dims dims = c->in[0].dims;
    int32_t axis = grdi_infer_axis(c, grdi_attr_int(c->attrs, "axis"), dims.rank);
    if (axis < 0) return false;
    int64_t start, count, size = dims.dim[axis];
    char text[GRD_DIMS_TEXT_MAX];
    slice_range(c->attrs, size, &start, &count);
    if (start < 0 || start >= size || count < 1 || count > size - start)
        return grdi_infer_fail(c, GRD_E_SHAPE, "%lld entries from %lld on are none or reach outside axis %d of %s",
                               (long long)count, (long long)start, axis, grd_dims_text(dims, text));
    dims.dim[axis] = count;
    c->out[0] = (grdi_type){c->in[0].dtype, dims};
    return true;
}

/* The gradient with zeros around it. */
static void slice_gradient(grdi_gradient *g)
{
    grd_dims dims = grd_tensor_dims(g->in[0]), before = {.rank = dims.rank}, after = {.rank = dims.rank};
    int64_t axis = positive_axis(grdi_attr_int(g->attrs, "axis"), dims.rank), start, count;
    slice_range(g->attrs, dims.dim[axis], &start, &count);
    before.dim[axis] = start;
    after.dim[axis] = dims.dim[axis] - start - count;
    g->grad_in[0] = grd_pad(grdi_grad_out(g, 0), before, after, 0);
}

/* y[.., i, ..] = x[.., start + i, ..] */
static void slice_reference(const grdi_reference *r)
{
    grdi_axis in = grdi_axis_of(r->in_type[0].dims, grdi_attr_int(r->attrs, "axis"));
    int64_t start, count;
    slice_range(r->attrs, in.size, &start, &count);
    for (int64_t o = 0; o < in.outer; o++)
        for (int64_t i = 0; i < count; i++)
            for (int64_t n = 0; n < in.inner; n++)
                r->out[0][(o * count + i) * in.inner + n] = r->in[0][(o * in.size + start + i) * in.inner + n];
}

static bool slice_view(const grdi_type *in, const grdi_strides *in_strides, const grd_attr *attrs, const grdi_type *out,
                       grdi_strides *out_strides)
{
    (void)out;
    int64_t axis = positive_axis(grdi_attr_int(attrs, "axis"), in->dims.rank), start, count;
    slice_range(attrs, in->dims.dim[axis], &start, &count);
    *out_strides = *in_strides;
    out_strides->offset += start * in_strides->stride[axis];
    return true;
}

static const grdi_sample slice_samples[] = {
    {.in = {"f32[7,13]"}, "axis=0 start=2 count=3"},
    {.in = {"f32[3,13,5]"}, "axis=1 start=-4"},
    {.in = {"f32[3,5]"}, "axis=-1 count=1"},
    {.in = {"f32[1,5]"}, "axis=0"},
    {.in = {"i32[9]"}, "start=8 count=1"},
    {.in = {"f32[7,13]"}, "axis=1 start=10 count=4", .bad = "outside axis 1 of [7,13]"},
    {.in = {"f32[7,13]"}, "axis=1 start=-14", .bad = "outside axis 1"},
    {.in = {"f32[7,13]"}, "axis=1 start=-9223372036854775807", .bad = "outside axis 1"},
    {.in = {"f32[7,13]"}, "axis=2", .bad = "axis 2"},
    {.in = {NULL}}};

const grdi_op grdi_op_slice = {.name = "slice",
                               .inputs = 1,
                               .flags = GRDI_OP_VIEW | GRDI_OP_MOVES,
                               .attrs = {GRD_INT("axis", 0), GRD_INT("start", 0), GRD_INT("count", -1)},
                               .shape = slice_shape,
                               .gradient = slice_gradient,
                               .reference = slice_reference,
                               .view = slice_view,
                               .samples = slice_samples};

grd_tensor grd_slice(grd_tensor x, int32_t axis, int64_t start, int64_t count)
{
    return GRDI_EMIT_ATTRS(&grdi_op_slice,
                           GRDI_LIST(grd_attr, GRD_INT("axis", axis), GRD_INT("start", start), GRD_INT("count", count)),
                           x);
}

void grd_split(grd_tensor x, int32_t axis, int32_t parts, grd_tensor *out)
{
    int64_t size = grd_dim(x, axis);
    char text[GRD_DIMS_TEXT_MAX];
    if (x.node && size < 0) {
        x = no_axis(x, "split", axis);
    } else if (x.node && (parts < 1 || size % parts)) {
        x = grdi_graph_fail(grd_tensor_graph(x), GRD_E_SHAPE, "split: axis %d of %s cannot be cut into %d equal parts",
                            axis, grd_dims_text(grd_tensor_dims(x), text), parts);
    }
    for (int32_t i = 0; i < parts; i++) out[i] = x.node ? grd_slice(x, axis, size / parts * i, size / parts) : x;
}

/* ---- broadcast_to ---- */

static bool broadcast_to_shape(grdi_infer *c)
{
    grd_dims in = c->in[0].dims;
    const grd_attr *wanted = grdi_attr_ints(c->attrs, "dims");
    grd_dims dims = grd_dims_make(wanted->count, wanted->ints);
    char in_text[GRD_DIMS_TEXT_MAX], out_text[GRD_DIMS_TEXT_MAX];
    if (dims.rank > GRD_RANK_MAX)
        return grdi_infer_fail(c, GRD_E_SHAPE, "%d dimensions, at most %d are possible", dims.rank, GRD_RANK_MAX);
    bool fits = in.rank <= dims.rank;
    for (int32_t i = 1; fits && i <= in.rank; i++) {
        int64_t from = in.dim[in.rank - i], to = dims.dim[dims.rank - i];
        fits = from == to || from == 1;
    }
    if (!fits)
        return grdi_infer_fail(c, GRD_E_SHAPE, "%s does not broadcast to %s", grd_dims_text(in, in_text),
                               grd_dims_text(dims, out_text));
    c->out[0] = (grdi_type){c->in[0].dtype, dims};
    return true;
}

static void broadcast_to_gradient(grdi_gradient *g)
{
    g->grad_in[0] = grdi_sum_to_like(grdi_grad_out(g, 0), g->in[0]);
}

/* Axes align at the right; along axes of size 1 the one entry repeats. */
static void broadcast_to_reference(const grdi_reference *r)
{
    grd_dims in = r->in_type[0].dims, out = r->out_type[0].dims;
    int64_t count = grd_dims_count(out), to[GRD_RANK_MAX], from[GRD_RANK_MAX];
    for (int64_t i = 0; i < count; i++) {
        grdi_unravel(out, i, to);
        for (int32_t axis = 0; axis < in.rank; axis++)
            from[axis] = in.dim[axis] == 1 ? 0 : to[axis + out.rank - in.rank];
        r->out[0][i] = r->in[0][grdi_ravel(in, from)];
    }
}

static bool broadcast_to_view(const grdi_type *in, const grdi_strides *in_strides, const grd_attr *attrs,
                              const grdi_type *out, grdi_strides *out_strides)
{
    (void)attrs;
    int32_t added = out->dims.rank - in->dims.rank;
    out_strides->offset = in_strides->offset;
    for (int32_t i = 0; i < out->dims.rank; i++)
        out_strides->stride[i] = i < added || in->dims.dim[i - added] == 1 ? 0 : in_strides->stride[i - added];
    return true;
}

static const grdi_sample broadcast_to_samples[] = {
    {.in = {"f32[7]"}, "dims=3,7"},
    {.in = {"f32[3,1,5]"}, "dims=2,3,4,5"},
    {.in = {"f32[]"}, "dims=13"},
    {.in = {"f32[3,7]"}, "dims=3,7"},
    {.in = {"i32[1,5]"}, "dims=2,5"},
    {.in = {"f32[3,7]"}, "dims=4,7", .bad = "[3,7] does not broadcast to [4,7]"},
    {.in = {"f32[3,7]"}, "dims=7", .bad = "does not broadcast"},
    {.in = {NULL}}};

const grdi_op grdi_op_broadcast_to = {
    .name = "broadcast_to", .inputs = 1, .flags = GRDI_OP_VIEW | GRDI_OP_MOVES, .attrs = {GRD_INTS("dims", NULL, 0)},
    .shape = broadcast_to_shape, .gradient = broadcast_to_gradient, .reference = broadcast_to_reference,
    .view = broadcast_to_view, .samples = broadcast_to_samples};

grd_tensor grd_broadcast_to(grd_tensor x, grd_dims dims)
{
    return GRDI_EMIT_ATTRS(&grdi_op_broadcast_to, GRDI_LIST(grd_attr, GRD_INTS("dims", dims.dim, dims.rank)), x);
}

/* ---- stop_gradient ---- */

static bool stop_gradient_shape(grdi_infer *c)
{
    c->out[0] = c->in[0];
    return true;
}

static const grdi_sample stop_gradient_samples[] = {
    {.in = {"f32[3,7]"}},
    {.in = {"f32[]"}},
    {.in = {NULL}, .attrs = "", .bad = "takes"},
    {.in = {NULL}}};

const grdi_op grdi_op_stop_gradient = {
    .name = "stop_gradient", .inputs = 1, .flags = GRDI_OP_VIEW | GRDI_OP_MOVES | GRDI_OP_NO_GRADIENT,
    .shape = stop_gradient_shape,
    .reference = copy_reference, .view = same_view, .samples = stop_gradient_samples};

grd_tensor grd_stop_gradient(grd_tensor x)
{
    return GRDI_EMIT(&grdi_op_stop_gradient, x);
}
