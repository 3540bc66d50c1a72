/* creation.c - values made from attributes alone, or from a random key. */
#include "base/random.h"
#include "ops/map.h"
#include "ops/table.h"

#include <gradus/ops_math.h>
#include <math.h>

/* ---- full ---- */

/* The attribute `dims` as the shape of output 0. */
static bool shape_from_dims(grdi_infer *c)
{
    const grd_attr *dims = grdi_attr_ints(c->attrs, "dims");
    if (dims->count > GRD_RANK_MAX)
        return grdi_infer_fail(c, GRD_E_SHAPE, "%d dimensions, at most %d are possible", dims->count, GRD_RANK_MAX);
    for (int32_t i = 0; i < dims->count; i++)
        if (dims->ints[i] < 1)
            return grdi_infer_fail(c, GRD_E_SHAPE, "dimension %d is %lld (must be 1 or more)", i,
                                   (long long)dims->ints[i]);
    c->out[0].dims = grd_dims_make(dims->count, dims->ints);
    return true;
}

static bool dtype_from_attr(grdi_infer *c)
{
    int64_t dtype = grdi_attr_int(c->attrs, "dtype");
    if (dtype < 0 || dtype >= GRD_DTYPE_COUNT)
        return grdi_infer_fail(c, GRD_E_ARGUMENT, "%lld is no dtype", (long long)dtype);
    c->out[0].dtype = (grd_dtype)dtype;
    return true;
}

static bool full_shape(grdi_infer *c)
{
    return dtype_from_attr(c) && shape_from_dims(c) &&
           grdi_infer_holds(c, c->out[0].dtype, "value", grdi_attr_float(c->attrs, "value"));
}

static double stored_as(double value, grd_dtype dtype)
{
    return dtype == GRD_BOOL ? value != 0.0 : grd_dtype_is_float(dtype) ? value : trunc(value);
}

static void full_reference(const grdi_reference *r)
{
    int64_t count = grd_dims_count(r->out_type[0].dims);
    double value = stored_as(grdi_attr_float(r->attrs, "value"), r->out_type[0].dtype);
    for (int64_t i = 0; i < count; i++) r->out[0][i] = value;
}

static const grdi_sample full_samples[] = {
    {.attrs = "dims=7,13 value=0.5"},
    {.attrs = "value=-2"},
    {.attrs = "dims=2,1,33 value=3 dtype=i32"},
    {.attrs = "dims=5 value=1 dtype=bool"},
    {.attrs = "dims=5,0", .bad = "dimension 1 is 0"},
    {.attrs = "dims=5 value=2147483647.5 dtype=i32"},
    {.attrs = "dims=5 value=2147483648 dtype=i32", .bad = "value is 2.14748e+09, which i32 cannot hold"},
    {.in = {NULL}},
};

const grdi_op grdi_op_full = {
    .name = "full",
    .flags = GRDI_OP_NO_GRADIENT,
    .attrs = {GRD_INTS("dims", NULL, 0), GRD_FLOAT("value", 0.0), GRD_TYPE("dtype", GRD_F32)},
    .shape = full_shape,
    .reference = full_reference,
    .samples = full_samples,
};

grd_tensor grd_full(grd_graph *graph, grd_dtype dtype, grd_dims dims, double value)
{
    const grd_attr attrs[] = {GRD_INTS("dims", dims.dim, dims.rank), GRD_FLOAT("value", value),
                              GRD_TYPE("dtype", dtype)};
    return grdi_emit(graph, &grdi_op_full, NULL, 0, attrs, 3, NULL);
}

grd_tensor grd_full_like(grd_tensor x, double value)
{
    if (grd_is_poison(x)) return x;
    return grd_full(grd_tensor_graph(x), grd_tensor_dtype(x), grd_tensor_dims(x), value);
}

grd_tensor grd_zeros_like(grd_tensor x)
{
    return grd_full_like(x, 0.0);
}

grd_tensor grd_ones_like(grd_tensor x)
{
    return grd_full_like(x, 1.0);
}

grd_tensor grd_scalar_constant(grd_graph *graph, double value)
{
    return grd_full(graph, GRD_F32, grd_scalar(), value);
}

/* ---- arange ---- */

static bool arange_shape(grdi_infer *c)
{
    int64_t count = grdi_attr_int(c->attrs, "count");
    if (count < 1) return grdi_infer_fail(c, GRD_E_ARGUMENT, "count is %lld (must be 1 or more)", (long long)count);
    if (!dtype_from_attr(c)) return false;
    if (c->out[0].dtype == GRD_BOOL) return grdi_infer_fail(c, GRD_E_DTYPE, "dtype is bool (must be a number)");
    c->out[0].dims = grd_dims_make(1, &count);
    double start = grdi_attr_float(c->attrs, "start"), step = grdi_attr_float(c->attrs, "step");
    return grdi_infer_holds(c, c->out[0].dtype, "start", start) &&
           grdi_infer_holds(c, c->out[0].dtype, "the last entry", start + (double)(count - 1) * step);
}

static void arange_reference(const grdi_reference *r)
{
    double start = grdi_attr_float(r->attrs, "start"), step = grdi_attr_float(r->attrs, "step");
    for (int64_t i = 0; i < r->out_type[0].dims.dim[0]; i++)
        r->out[0][i] = stored_as(start + (double)i * step, r->out_type[0].dtype);
}

static const grdi_sample arange_samples[] = {
    {.attrs = "count=33"},
    {.attrs = "count=7 start=0.5 step=-0.25"},
    {.attrs = "count=13 start=-3 step=2 dtype=i32"},
    {.attrs = "count=0", .bad = "count is 0"},
    {.attrs = "count=3 start=1e30 dtype=i32", .bad = "start is 1e+30, which i32 cannot hold"},
    {.attrs = "count=3 step=-1.5e9 dtype=i32", .bad = "the last entry is -3e+09, which i32 cannot hold"},
    {.attrs = "count=3 dtype=bool", .bad = "must be a number"},
    {.in = {NULL}},
};

const grdi_op grdi_op_arange = {
    .name = "arange",
    .flags = GRDI_OP_NO_GRADIENT,
    .attrs = {GRD_INT("count", 1), GRD_FLOAT("start", 0.0), GRD_FLOAT("step", 1.0), GRD_TYPE("dtype", GRD_F32)},
    .shape = arange_shape,
    .reference = arange_reference,
    .samples = arange_samples,
};

grd_tensor grd_arange(grd_graph *graph, grd_dtype dtype, int64_t count, double start, double step)
{
    const grd_attr attrs[] = {GRD_INT("count", count), GRD_FLOAT("start", start), GRD_FLOAT("step", step),
                              GRD_TYPE("dtype", dtype)};
    return grdi_emit(graph, &grdi_op_arange, NULL, 0, attrs, 4, NULL);
}

/* ---- random values: element i is a function of (seed, step, stream, i) ---- */

static bool random_shape(grdi_infer *c)
{
    char text[GRD_DIMS_TEXT_MAX];
    if (c->in[0].dtype != GRD_I32 || c->in[0].dims.rank != 1 || c->in[0].dims.dim[0] != 4)
        return grdi_infer_fail(c, GRD_E_SHAPE, "the key must be i32[4], is %s%s", grd_dtype_name(c->in[0].dtype),
                               grd_dims_text(c->in[0].dims, text));
    c->out[0].dtype = GRD_F32;
    return shape_from_dims(c);
}

typedef struct random_key {
    uint64_t seed, step, stream;
} random_key;

static random_key read_key(const grdi_reference *r)
{
    uint64_t word[4];
    for (int i = 0; i < 4; i++) word[i] = (uint32_t)(int32_t)r->in[0][i];
    return (random_key){word[1] << 32 | word[0], word[3] << 32 | word[2], (uint64_t)grdi_attr_int(r->attrs, "stream")};
}

static void random_uniform_reference(const grdi_reference *r)
{
    random_key k = read_key(r);
    double low = grdi_attr_float(r->attrs, "low"), high = grdi_attr_float(r->attrs, "high");
    int64_t count = grd_dims_count(r->out_type[0].dims);
    for (int64_t i = 0; i < count; i++)
        r->out[0][i] = low + (high - low) * grdi_unit(grdi_random_u32(k.seed, k.step, k.stream, (uint64_t)i));
}

static void random_normal_reference(const grdi_reference *r)
{
    random_key k = read_key(r);
    double mean = grdi_attr_float(r->attrs, "mean"), std = grdi_attr_float(r->attrs, "std");
    int64_t count = grd_dims_count(r->out_type[0].dims);
    for (int64_t i = 0; i < count; i++)
        r->out[0][i] = mean + std * grdi_random_normal(k.seed, k.step, k.stream, (uint64_t)i);
}

static const grdi_sample random_uniform_samples[] = {
    {.in = {"i32[4] 0..1000"}, .attrs = "dims=7,13"},
    {.in = {"i32[4] -1000..1000"}, .attrs = "dims=2,1,33 low=-3 high=0.5 stream=7"},
    {.in = {"i32[3]"}, .attrs = "dims=5", .bad = "the key must be i32[4], is i32[3]"},
    {.in = {"i32[4]"}, .attrs = "dims=-5", .bad = "dimension 0 is -5"},
    {.in = {NULL}},
};

static const grdi_sample random_normal_samples[] = {
    {.in = {"i32[4] 0..1000"}, .attrs = "dims=7,13"},
    {.in = {"i32[4] -1000..1000"}, .attrs = "dims=2,1,33 mean=-3 std=0.5 stream=7"},
    {.in = {"f32[4]"}, .attrs = "dims=5", .bad = "the key must be i32[4], is f32[4]"},
    {.in = {NULL}},
};

const grdi_op grdi_op_random_uniform = {
    .name = "random_uniform",
    .inputs = 1,
    .flags = GRDI_OP_RANDOM | GRDI_OP_NO_GRADIENT,
    .attrs = {GRD_INTS("dims", NULL, 0), GRD_FLOAT("low", 0.0), GRD_FLOAT("high", 1.0), GRD_INT("stream", 0)},
    .shape = random_shape,
    .reference = random_uniform_reference,
    .samples = random_uniform_samples,
};

const grdi_op grdi_op_random_normal = {
    .name = "random_normal",
    .inputs = 1,
    .flags = GRDI_OP_RANDOM | GRDI_OP_NO_GRADIENT,
    .attrs = {GRD_INTS("dims", NULL, 0), GRD_FLOAT("mean", 0.0), GRD_FLOAT("std", 1.0), GRD_INT("stream", 0)},
    .shape = random_shape,
    .reference = random_normal_reference,
    .samples = random_normal_samples,
};

grd_tensor grd_random_uniform(grd_tensor key, grd_dims dims, double low, double high)
{
    const grd_attr attrs[] = {GRD_INTS("dims", dims.dim, dims.rank), GRD_FLOAT("low", low), GRD_FLOAT("high", high)};
    return grdi_emit(NULL, &grdi_op_random_uniform, &key, 1, attrs, 3, NULL);
}

grd_tensor grd_random_normal(grd_tensor key, grd_dims dims, double mean, double std)
{
    const grd_attr attrs[] = {GRD_INTS("dims", dims.dim, dims.rank), GRD_FLOAT("mean", mean), GRD_FLOAT("std", std)};
    return grdi_emit(NULL, &grdi_op_random_normal, &key, 1, attrs, 3, NULL);
}
