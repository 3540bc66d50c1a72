/* dropout.c - dropout whose choice depends on key, path and element alone, so that backward draws it again. */
#include "ops/table.h"

#include "base/random.h"

#include <gradus/ops_math.h>
#include <gradus/ops_nn.h>

static bool dropout_shape(grdi_infer *c)
{
    if (!grdi_infer_float(c, 0)) return false;
    const grdi_type *key = &c->in[1];
    char a[GRD_DIMS_TEXT_MAX];
    if (key->dtype != GRD_I32 || key->dims.rank != 1 || key->dims.dim[0] != 4)
        return grdi_infer_fail(c, GRD_E_SHAPE, "key must be i32[4], is %s%s", grd_dtype_name(key->dtype),
                               grd_dims_text(key->dims, a));
    double p = grdi_attr_float(c->attrs, "p");
    if (!(p >= 0 && p < 1)) return grdi_infer_fail(c, GRD_E_ARGUMENT, "p is %g, must be in 0 <= p < 1", p);
    c->out[0] = c->in[0];
    return true;
}

static uint64_t key_word(const double *key, int32_t low, int32_t high)
{
    return (uint64_t)(uint32_t)(int32_t)key[high] << 32 | (uint32_t)(int32_t)key[low];
}

static void dropout_reference(const grdi_reference *r)
{
    double p = grdi_attr_float(r->attrs, "p");
    uint64_t stream = (uint64_t)grdi_attr_int(r->attrs, "stream");
    if (stream == 0) stream = r->path_hash;
    uint64_t seed = key_word(r->in[1], 0, 1), step = key_word(r->in[1], 2, 3);
    int64_t count = grd_dims_count(r->out_type[0].dims);
    for (int64_t i = 0; i < count; i++) {
        bool kept = grdi_unit(grdi_random_u32(seed, step, stream, (uint64_t)i)) >= p;
        r->out[0][i] = kept ? r->in[0][i] / (1 - p) : 0;
    }
}

static grd_tensor dropout(grd_tensor x, grd_tensor key, double p, int64_t stream)
{
    return GRDI_EMIT_ATTRS(&grdi_op_dropout, GRDI_LIST(grd_attr, GRD_FLOAT("p", p), GRD_INT("stream", stream)), x, key);
}

/* The same choice, scaled the same way. */
static void dropout_gradient(grdi_gradient *g)
{
    double p = grdi_attr_float(g->attrs, "p");
    g->grad_in[0] = dropout(g->grad_out[0], g->in[1], p, grdi_attr_int(g->attrs, "stream"));
}

static void dropout_compose(grdi_compose *c)
{
    double p = grdi_attr_float(c->attrs, "p");
    int64_t stream = grdi_attr_int(c->attrs, "stream");
    grd_dims dims = grd_tensor_dims(c->in[0]);
    grd_tensor uniform = GRDI_EMIT_ATTRS(grdi_op_find("random_uniform"),
                                         GRDI_LIST(grd_attr, GRD_INTS("dims", dims.dim, dims.rank),
                                                   GRD_INT("stream", stream ? stream : (int64_t)c->path_hash)),
                                         c->in[1]);
    grd_tensor kept = grd_ge(uniform, grd_scalar_constant(c->graph, p));
    c->out[0] = grd_where(kept, grd_mul_scalar(c->in[0], 1 / (1 - p)), grd_zeros_like(c->in[0]));
}

/* Ten rounds of Philox for four elements: about thirty integer operations each. */
static double dropout_flops(const grdi_type *in, int32_t input_count, const grdi_type *out, const grd_attr *attrs)
{
    (void)in, (void)input_count, (void)attrs;
    return 32.0 * (double)grd_dims_count(out[0].dims);
}

static const grdi_sample dropout_samples[] = {
    {.in = {"f32[4,7]", "i32[4] 0..1000"}},
    {.in = {"f32[13,33]", "i32[4] -2000000000..2000000000"}, .attrs = "p=0.125 stream=12345"},
    {.in = {"f32[5]", "i32[4] 0..9"}, .attrs = "p=0"},
    {.in = {"f32[]", "i32[4] 0..9"}, .attrs = "p=0.75 stream=7"},
    {.in = {"f32[1024,768]", "i32[4] 0..9"}, .attrs = "p=0.1", .large = true},
    {.in = {"f32[4]", "i32[4] 0..9"}, .attrs = "p=1", .bad = "p is 1, must be in 0 <= p < 1"},
    {.in = {"f32[4]", "i32[2] 0..9"}, .bad = "key must be i32[4], is i32[2]"},
    {.in = {"f32[4]", "f32[4]"}, .bad = "key must be i32[4], is f32[4]"},
    {.in = {NULL}},
};

const grdi_op grdi_op_dropout = {
    .name = "dropout",
    .inputs = 2,
    .flags = GRDI_OP_RANDOM | GRDI_OP_FOLLOWS,
    .attrs = {GRD_FLOAT("p", 0.5), GRD_INT("stream", 0)},
    .shape = dropout_shape,
    .gradient = dropout_gradient,
    .compose = dropout_compose,
    .reference = dropout_reference,
    .flops = dropout_flops,
    .inplace = {1},
    .tolerance = 1e-6, /* one product with a rounded 1/(1-p) */
    .samples = dropout_samples,
};

grd_tensor grd_dropout(grd_tensor x, grd_tensor key, double p)
{
    return p == 0 ? x : dropout(x, key, p, 0);
}
