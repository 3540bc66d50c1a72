/* reduce.c - reductions over axes, and the reverse of broadcasting. */
#include "ops/map.h"
#include "ops/table.h"

#include <gradus/ops_math.h>
#include <gradus/ops_shape.h>
#include <math.h>

/* ---- which axes ---- */

/* The axes named (all if none is) as bits; negative ones count from the end. */
static uint32_t reduced_axes(const grd_attr *axes, int32_t rank)
{
    if (axes->count == 0) return (1u << rank) - 1u;
    uint32_t mask = 0;
    for (int32_t i = 0; i < axes->count; i++) mask |= 1u << (axes->ints[i] < 0 ? axes->ints[i] + rank : axes->ints[i]);
    return mask;
}

static uint32_t reduced_axis(const grd_attr *attrs, int32_t rank)
{
    int64_t axis = grdi_attr_int(attrs, "axis");
    return 1u << (axis < 0 ? axis + rank : axis);
}

/* The shape left; `keep` leaves reduced axes with size 1. */
static grd_dims remaining(grd_dims dims, uint32_t mask, bool keep)
{
    grd_dims left = {.rank = 0};
    for (int32_t i = 0; i < dims.rank; i++) {
        bool reduced = mask >> i & 1u;
        if (!reduced || keep) left.dim[left.rank++] = reduced ? 1 : dims.dim[i];
    }
    return left;
}

static int64_t reduced_count(grd_dims dims, uint32_t mask)
{
    int64_t count = 1;
    for (int32_t i = 0; i < dims.rank; i++)
        if (mask >> i & 1u) count *= dims.dim[i];
    return count;
}

/* ---- shape rules ---- */

static bool axes_shape(grdi_infer *c)
{
    const grd_attr *axes = grdi_attr_ints(c->attrs, "axes");
    uint32_t seen = 0;
    for (int32_t i = 0; i < axes->count; i++) {
        int32_t axis = grdi_infer_axis(c, axes->ints[i], c->in[0].dims.rank);
        if (axis < 0) return false;
        if (seen >> axis & 1u) return grdi_infer_fail(c, GRD_E_ARGUMENT, "axis %d is named twice", axis);
        seen |= 1u << axis;
    }
    uint32_t mask = reduced_axes(axes, c->in[0].dims.rank);
    c->out[0] = (grdi_type){c->in[0].dtype, remaining(c->in[0].dims, mask, grdi_attr_int(c->attrs, "keep"))};
    return true;
}

static bool float_shape(grdi_infer *c)
{
    return grdi_infer_float(c, 0) && axes_shape(c);
}

static bool number_shape(grdi_infer *c)
{
    return grdi_infer_number(c, 0) && axes_shape(c);
}

static bool bool_shape(grdi_infer *c)
{
    if (c->in[0].dtype == GRD_BOOL) return axes_shape(c);
    return grdi_infer_fail(c, GRD_E_DTYPE, "input 0 must be bool, is %s", grd_dtype_name(c->in[0].dtype));
}

static bool arg_shape(grdi_infer *c)
{
    grd_dims dims = c->in[0].dims;
    if (!grdi_infer_number(c, 0) || grdi_infer_axis(c, grdi_attr_int(c->attrs, "axis"), dims.rank) < 0) return false;
    uint32_t mask = reduced_axis(c->attrs, dims.rank);
    c->out[0] = (grdi_type){GRD_I32, remaining(dims, mask, grdi_attr_int(c->attrs, "keep"))};
    return true;
}

/* ---- references: a line is what one output element is made of ---- */

typedef struct line {
    const double *x;
    grd_dims dims;
    uint32_t mask;
    int64_t output, count;
    const grd_attr *attrs;
} line;

/* Element j of the line: coordinates along reduced axes come from j, the others from the output's index. */
static double at(const line *l, int64_t j)
{
    int64_t index = 0, stride = 1, output = l->output;
    for (int32_t axis = l->dims.rank - 1; axis >= 0; axis--) {
        int64_t size = l->dims.dim[axis], *from = l->mask >> axis & 1u ? &j : &output;
        index += *from % size * stride;
        *from /= size;
        stride *= size;
    }
    return l->x[index];
}

static void reduce_reference(const grdi_reference *r, uint32_t mask, double (*value)(const line *))
{
    grd_dims dims = r->in_type[0].dims;
    line l = {r->in[0], dims, mask, 0, reduced_count(dims, mask), r->attrs};
    int64_t outputs = grd_dims_count(r->out_type[0].dims);
    for (; l.output < outputs; l.output++) r->out[0][l.output] = value(&l);
}

static double sum_value(const line *l)
{
    double sum = 0.0;
    for (int64_t j = 0; j < l->count; j++) sum += at(l, j);
    return sum;
}

static double mean_value(const line *l)
{
    return sum_value(l) / (double)l->count;
}

static double prod_value(const line *l)
{
    double product = 1.0;
    for (int64_t j = 0; j < l->count; j++) product *= at(l, j);
    return product;
}

/* The first greatest element; a NaN counts as greater than all. */
static int64_t greatest(const line *l, double sign)
{
    int64_t best = 0;
    for (int64_t j = 1; j < l->count; j++) {
        double x = sign * at(l, j), champion = sign * at(l, best);
        if (x > champion || (isnan(x) && !isnan(champion))) best = j;
    }
    return best;
}

static double argmax_value(const line *l)
{
    return (double)greatest(l, 1.0);
}

static double argmin_value(const line *l)
{
    return (double)greatest(l, -1.0);
}

static double max_value(const line *l)
{
    return at(l, greatest(l, 1.0));
}

static double min_value(const line *l)
{
    return at(l, greatest(l, -1.0));
}

static double logsumexp_value(const line *l)
{
    double largest = max_value(l), sum = 0.0;
    if (!isfinite(largest)) return largest; /* exp(inf - inf) would be NaN */
    for (int64_t j = 0; j < l->count; j++) sum += exp(at(l, j) - largest);
    return largest + log(sum);
}

static double variance_value(const line *l)
{
    double mean = mean_value(l), sum = 0.0;
    for (int64_t j = 0; j < l->count; j++) sum += (at(l, j) - mean) * (at(l, j) - mean);
    return sum / ((double)l->count - grdi_attr_float(l->attrs, "correction"));
}

static double any_value(const line *l)
{
    return max_value(l);
}

static double all_value(const line *l)
{
    return min_value(l);
}

/* ---- gradients ---- */

/* A value of the output's shape, in a shape that broadcasts to x: with the reduced axes at size 1. */
static grd_tensor kept(const grdi_gradient *c, grd_tensor value)
{
    grd_dims dims = grd_tensor_dims(c->in[0]);
    uint32_t mask = reduced_axes(grdi_attr_ints(c->attrs, "axes"), dims.rank);
    grd_dims with_axes = remaining(dims, mask, true);
    grd_dims now = grd_tensor_dims(value);
    return now.rank == 0 || grd_dims_equal(now, with_axes) ? value : grd_reshape(value, with_axes);
}

static double line_count(const grdi_gradient *c)
{
    grd_dims dims = grd_tensor_dims(c->in[0]);
    return (double)reduced_count(dims, reduced_axes(grdi_attr_ints(c->attrs, "axes"), dims.rank));
}

/* The same along the reduced axes again, in the shape of x. */
static grd_tensor spread(const grdi_gradient *c, grd_tensor value)
{
    return grd_broadcast_to(kept(c, value), grd_tensor_dims(c->in[0]));
}

static grd_tensor sum_again(const grdi_gradient *c, grd_tensor x)
{
    const grd_attr *axes = grdi_attr_ints(c->attrs, "axes");
    return grd_sum_axes(x, axes->ints, axes->count, true);
}

static void sum_gradient(grdi_gradient *c)
{
    c->grad_in[0] = spread(c, c->grad_out[0]);
}

static void mean_gradient(grdi_gradient *c)
{
    c->grad_in[0] = spread(c, grd_mul_scalar(c->grad_out[0], 1.0 / line_count(c)));
}

/* For max and min: what arrives is shared among the elements equal to the output. */
static void extreme_gradient(grdi_gradient *c)
{
    grd_tensor hit = grd_cast(grd_eq(c->in[0], kept(c, c->out[0])), grd_tensor_dtype(c->in[0]));
    c->grad_in[0] = grd_mul(hit, grd_div(kept(c, c->grad_out[0]), sum_again(c, hit)));
}

/* The product of the others: y / x in a line without a zero; with one zero, the product without it, and only there. */
static void prod_gradient(grdi_gradient *c)
{
    grd_tensor x = c->in[0];
    if (grd_is_poison(x)) return;
    const grd_attr *axes = grdi_attr_ints(c->attrs, "axes");
    grd_dtype dtype = grd_tensor_dtype(x);
    grd_tensor zero = grd_full(c->graph, dtype, grd_scalar(), 0.0), one = grd_full(c->graph, dtype, grd_scalar(), 1.0);
    grd_tensor is_zero = grd_eq(x, zero), safe = grd_where(is_zero, one, x);
    grd_tensor zeros = sum_again(c, grd_cast(is_zero, dtype));
    grd_tensor product = grd_prod_axes(safe, axes->ints, axes->count, true);
    grd_tensor at_zero = grd_where(grd_eq(zeros, one), product, zero);
    grd_tensor elsewhere = grd_where(grd_eq(zeros, zero), grd_div(product, safe), zero);
    c->grad_in[0] = grd_mul(kept(c, c->grad_out[0]), grd_where(is_zero, at_zero, elsewhere));
}

static void logsumexp_gradient(grdi_gradient *c)
{
    c->grad_in[0] = grd_mul(kept(c, c->grad_out[0]), grd_exp(grd_sub(c->in[0], kept(c, c->out[0]))));
}

static void variance_gradient(grdi_gradient *c)
{
    const grd_attr *axes = grdi_attr_ints(c->attrs, "axes");
    grd_tensor centred = grd_sub(c->in[0], grd_mean_axes(c->in[0], axes->ints, axes->count, true));
    double factor = 2.0 / (line_count(c) - grdi_attr_float(c->attrs, "correction"));
    c->grad_in[0] = grd_mul(kept(c, grd_mul_scalar(c->grad_out[0], factor)), centred);
}

/* ---- the ops ---- */

static double input_elements(const grdi_type *in, int32_t input_count, const grdi_type *out, const grd_attr *attrs)
{
    (void)input_count, (void)out, (void)attrs;
    return (double)grd_dims_count(in[0].dims);
}

#define FLOAT_SAMPLES(RANGE)                                                                                           \
    {.in = {"f32[7,13] " RANGE}}, {.in = {"f32[3,5,33] " RANGE}, .attrs = "axes=-1"},                                  \
    {.in = {"f32[3,5,7] " RANGE}, .attrs = "axes=1 keep=true"},                                                        \
    {.in = {"f32[3,5,7,2] " RANGE}, .attrs = "axes=2,0"}, {.in = {"f32[13,1] " RANGE}, .attrs = "axes=0"},             \
    {.in = {"f32[1003] " RANGE}}, {.in = {"f32[5,36] " RANGE}, .attrs = "axes=1"},                                     \
    {.in = {"f32[1000] " RANGE}}, {.in = {"f32[3,4]"}, .attrs = "axes=2", .bad = "axis 2 is outside"},                 \
    {.in = {"f32[3,4]"}, .attrs = "axes=1,-1", .bad = "axis 1 is named twice"},                                        \
    {                                                                                                                  \
        .in = {"f32[4096,1024] " RANGE}, .attrs = "axes=1", .large = true                                              \
    }
#define NUMBER_SAMPLES(RANGE)                                                                                          \
    FLOAT_SAMPLES(RANGE), {.in = {"i32[7,13] 1..2"}, .attrs = "axes=0"}, {.in = {"bool[3]"}, .bad = "number dtype"}
#define BOOL_SAMPLES                                                                                                   \
    {.in = {"bool[7,3]"}, .attrs = "axes=1"}, {.in = {"bool[3,5,7]"}, .attrs = "axes=0,1 keep=true"},                  \
    {.in = {"bool[33]"}}, {.in = {"f32[3]"}, .bad = "must be bool, is f32"}

#define REDUCTION_OP(NAME, SHAPE, FLAGS, GRADIENT, CORRECTION, ...)                                                    \
    static void NAME##_reference(const grdi_reference *r)                                                              \
    {                                                                                                                  \
        reduce_reference(r, reduced_axes(grdi_attr_ints(r->attrs, "axes"), r->in_type[0].dims.rank), NAME##_value);    \
    }                                                                                                                  \
    static const grdi_sample NAME##_samples[] = {__VA_ARGS__, {.in = {NULL}}};                                         \
    const grdi_op grdi_op_##NAME = {                                                                                   \
        .name = #NAME,                                                                                                 \
        .inputs = 1,                                                                                                   \
        .flags = FLAGS,                                                                                                \
        .attrs = {GRD_INTS("axes", NULL, 0), GRD_FLAG("keep", false) CORRECTION},                                      \
        .shape = SHAPE,                                                                                                \
        .gradient = GRADIENT,                                                                                          \
        .reference = NAME##_reference,                                                                                 \
        .flops = input_elements,                                                                                       \
        .samples = NAME##_samples,                                                                                     \
    };
#define REDUCTION(NAME, SHAPE, FLAGS, GRADIENT, ...)                                                                   \
    REDUCTION_OP(NAME, SHAPE, FLAGS, GRADIENT, , __VA_ARGS__)                                                          \
    grd_tensor grd_##NAME(grd_tensor x)                                                                                \
    {                                                                                                                  \
        return GRDI_EMIT(&grdi_op_##NAME, x);                                                                          \
    }                                                                                                                  \
    grd_tensor grd_##NAME##_axis(grd_tensor x, int64_t axis, bool keep)                                                \
    {                                                                                                                  \
        return grd_##NAME##_axes(x, &axis, 1, keep);                                                                   \
    }                                                                                                                  \
    grd_tensor grd_##NAME##_axes(grd_tensor x, const int64_t *axes, int32_t axis_count, bool keep)                     \
    {                                                                                                                  \
        return GRDI_EMIT_ATTRS(&grdi_op_##NAME,                                                                        \
                               GRDI_LIST(grd_attr, GRD_INTS("axes", axes, axis_count), GRD_FLAG("keep", keep)), x);    \
    }

REDUCTION(sum, number_shape, 0, sum_gradient, NUMBER_SAMPLES("-2..2"))
REDUCTION(mean, float_shape, 0, mean_gradient, FLOAT_SAMPLES("-2..2"), {.in = {"i32[3]"}, .bad = "float dtype"})
REDUCTION(max, number_shape, 0, extreme_gradient, NUMBER_SAMPLES("-2..2"))
REDUCTION(min, number_shape, 0, extreme_gradient, NUMBER_SAMPLES("-2..2"))
/* near 1, so that a thousand factors stay in range */
REDUCTION(prod, number_shape, 0, prod_gradient, NUMBER_SAMPLES("0.99..1.01"), {.in = {"f32[3,4]"}, .attrs = "axes=0"})
REDUCTION(logsumexp, float_shape, 0, logsumexp_gradient, FLOAT_SAMPLES("-6..6"))
REDUCTION(any, bool_shape, GRDI_OP_NO_GRADIENT, NULL, BOOL_SAMPLES)
REDUCTION(all, bool_shape, GRDI_OP_NO_GRADIENT, NULL, BOOL_SAMPLES)

#define CORRECTION_ATTR , GRD_FLOAT("correction", 0.0)
REDUCTION_OP(variance, float_shape, 0, variance_gradient, CORRECTION_ATTR, FLOAT_SAMPLES("-2..2"),
             {.in = {"f32[7,13]"}, .attrs = "axes=0 correction=1"}, {.in = {"i32[3]"}, .bad = "float dtype"})

grd_tensor grd_variance(grd_tensor x)
{
    return GRDI_EMIT(&grdi_op_variance, x);
}

grd_tensor grd_variance_axis(grd_tensor x, int64_t axis, bool keep, double correction)
{
    return grd_variance_axes(x, &axis, 1, keep, correction);
}

grd_tensor grd_variance_axes(grd_tensor x, const int64_t *axes, int32_t axis_count, bool keep, double correction)
{
    const grd_attr attrs[] = {GRD_INTS("axes", axes, axis_count), GRD_FLAG("keep", keep),
                              GRD_FLOAT("correction", correction)};
    return grdi_emit(NULL, &grdi_op_variance, &x, 1, attrs, 3, NULL);
}

/* ---- argmax, argmin ---- */

#define ARG_REDUCTION(NAME)                                                                                            \
    static void NAME##_reference(const grdi_reference *r)                                                              \
    {                                                                                                                  \
        reduce_reference(r, reduced_axis(r->attrs, r->in_type[0].dims.rank), NAME##_value);                            \
    }                                                                                                                  \
    const grdi_op grdi_op_##NAME = {                                                                                   \
        .name = #NAME,                                                                                                 \
        .inputs = 1,                                                                                                   \
        .flags = GRDI_OP_NO_GRADIENT,                                                                                  \
        .attrs = {GRD_INT("axis", -1), GRD_FLAG("keep", false)},                                                       \
        .shape = arg_shape,                                                                                            \
        .reference = NAME##_reference,                                                                                 \
        .flops = input_elements,                                                                                       \
        .samples = arg_samples,                                                                                        \
    };                                                                                                                 \
    grd_tensor grd_##NAME(grd_tensor x, int64_t axis, bool keep)                                                       \
    {                                                                                                                  \
        return GRDI_EMIT_ATTRS(&grdi_op_##NAME,                                                                        \
                               GRDI_LIST(grd_attr, GRD_INT("axis", axis), GRD_FLAG("keep", keep)), x);                 \
    }

static const grdi_sample arg_samples[] = {
    {.in = {"f32[7,13]"}},
    {.in = {"f32[3,5,33]"}, .attrs = "axis=1 keep=true"},
    {.in = {"i32[33,7] 0..3"}, .attrs = "axis=0"},
    {.in = {"f32[5,1]"}, .attrs = "axis=-1"},
    {.in = {"f32[3]"}, .attrs = "axis=1", .bad = "axis 1 is outside"},
    {.in = {"f32[]"}, .bad = "axis -1 is outside"},
    {.in = {NULL}},
};

ARG_REDUCTION(argmax)
ARG_REDUCTION(argmin)

/* ---- sum_to: undoes broadcasting ---- */

static bool sum_to_shape(grdi_infer *c)
{
    const grd_attr *dims = grdi_attr_ints(c->attrs, "dims");
    grd_dims from = c->in[0].dims, to = grd_dims_make(dims->count, dims->ints);
    if (!grdi_infer_number(c, 0)) return false;
    bool fits = to.rank <= from.rank;
    for (int32_t i = 1; fits && i <= to.rank; i++)
        fits = to.dim[to.rank - i] == 1 || to.dim[to.rank - i] == from.dim[from.rank - i];
    char a[GRD_DIMS_TEXT_MAX], b[GRD_DIMS_TEXT_MAX];
    if (!fits)
        return grdi_infer_fail(c, GRD_E_SHAPE, "%s does not broadcast to %s", grd_dims_text(to, b),
                               grd_dims_text(from, a));
    c->out[0] = (grdi_type){c->in[0].dtype, to};
    return true;
}

static void sum_to_reference(const grdi_reference *r)
{
    grdi_map_walk walk; /* over x, with the output as what is broadcast */
    int64_t count = grd_dims_count(r->in_type[0].dims), outputs = grd_dims_count(r->out_type[0].dims);
    for (int64_t o = 0; o < outputs; o++) r->out[0][o] = 0.0;
    grdi_map_walk_start(&walk, r->in_type[0].dims, r->out_type, 1);
    for (int64_t i = 0; i < count; i++, grdi_map_walk_next(&walk)) r->out[0][walk.offset[0]] += r->in[0][i];
}

static void sum_to_gradient(grdi_gradient *c)
{
    c->grad_in[0] = grd_broadcast_to(c->grad_out[0], grd_tensor_dims(c->in[0]));
}

static const grdi_sample sum_to_samples[] = {
    {.in = {"f32[5,7,13]"}, .attrs = "dims=13"},
    {.in = {"f32[5,7,13]"}, .attrs = "dims=7,1"},
    {.in = {"f32[2,7,33]"}, .attrs = "dims=2,1,33"},
    {.in = {"f32[7,13]"}},
    {.in = {"f32[7,1]"}, .attrs = "dims=7,1"},
    {.in = {"i32[7,3] -9..9"}, .attrs = "dims=1,3"},
    {.in = {"f32[7,13]"}, .attrs = "dims=7", .bad = "[7] does not broadcast to [7,13]"},
    {.in = {"f32[13]"}, .attrs = "dims=1,13", .bad = "[1,13] does not broadcast to [13]"},
    {.in = {"f32[4096,1024]"}, .attrs = "dims=1024", .large = true},
    {.in = {NULL}},
};

const grdi_op grdi_op_sum_to = {
    .name = "sum_to",
    .inputs = 1,
    .attrs = {GRD_INTS("dims", NULL, 0)},
    .shape = sum_to_shape,
    .gradient = sum_to_gradient,
    .reference = sum_to_reference,
    .flops = input_elements,
    .samples = sum_to_samples,
};

grd_tensor grd_sum_to(grd_tensor x, grd_dims dims)
{
    if (grd_is_poison(x) || grd_dims_equal(grd_tensor_dims(x), dims)) return x;
    return GRDI_EMIT_ATTRS(&grdi_op_sum_to, GRDI_LIST(grd_attr, GRD_INTS("dims", dims.dim, dims.rank)), x);
}

/* ---- sum_squares ---- */

static bool sum_squares_shape(grdi_infer *c)
{
    c->out[0] = (grdi_type){c->in[0].dtype, grd_scalar()};
    return grdi_infer_float(c, 0);
}

static void sum_squares_reference(const grdi_reference *r)
{
    int64_t count = grd_dims_count(r->in_type[0].dims);
    r->out[0][0] = 0.0;
    for (int64_t i = 0; i < count; i++) r->out[0][0] += r->in[0][i] * r->in[0][i];
}

static void sum_squares_gradient(grdi_gradient *c)
{
    c->grad_in[0] = grd_mul(grd_mul_scalar(c->grad_out[0], 2.0), c->in[0]);
}

static double sum_squares_flops(const grdi_type *in, int32_t input_count, const grdi_type *out, const grd_attr *attrs)
{
    return 2.0 * input_elements(in, input_count, out, attrs);
}

static const grdi_sample sum_squares_samples[] = {
    {.in = {"f32[7,13]"}},
    {.in = {"f32[2,1,33] 0.1..3"}},
    {.in = {"f32[]"}},
    {.in = {"i32[3]"}, .bad = "float dtype"},
    {.in = {"f32[4194304]"}, .large = true},
    {.in = {NULL}},
};

const grdi_op grdi_op_sum_squares = {
    .name = "sum_squares",
    .inputs = 1,
    .shape = sum_squares_shape,
    .gradient = sum_squares_gradient,
    .reference = sum_squares_reference,
    .flops = sum_squares_flops,
    .samples = sum_squares_samples,
};

grd_tensor grd_sum_squares(grd_tensor x)
{
    return GRDI_EMIT(&grdi_op_sum_squares, x);
}
