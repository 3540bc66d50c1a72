/* rope.c - rotary position embedding. */
#include "ops/table.h"

#include "graph/build.h"

#include <gradus/ops_math.h>
#include <gradus/ops_nn.h>
#include <gradus/ops_shape.h>

static bool rope_shape(grdi_infer *c)
{
    if (!grdi_infer_float(c, 0) || !grdi_infer_same_dtype(c, 1, 0) || !grdi_infer_same_dtype(c, 2, 0)) return false;
    grd_dims x = c->in[0].dims, cosines = c->in[1].dims, sines = c->in[2].dims;
    char a[GRD_DIMS_TEXT_MAX], b[GRD_DIMS_TEXT_MAX];
    if (x.rank != 4 || x.dim[3] % 2 != 0)
        return grdi_infer_fail(c, GRD_E_SHAPE, "x must be [B,T,H,D] with even D, is %s", grd_dims_text(x, a));
    if (!grd_dims_equal(cosines, sines))
        return grdi_infer_fail(c, GRD_E_SHAPE, "cos and sin differ: %s and %s", grd_dims_text(cosines, a),
                               grd_dims_text(sines, b));
    grd_dims shared = grd_shape(x.dim[1], x.dim[3] / 2), each = grd_shape(x.dim[0], x.dim[1], x.dim[3] / 2);
    if (!grd_dims_equal(cosines, shared) && !grd_dims_equal(cosines, each))
        return grdi_infer_fail(c, GRD_E_SHAPE, "cos and sin are %s, must be [T,D/2] or [B,T,D/2] of x %s",
                               grd_dims_text(cosines, a), grd_dims_text(x, b));
    c->out[0] = c->in[0];
    return true;
}

static void rope_reference(const grdi_reference *r)
{
    const int64_t *dim = r->in_type[0].dims.dim;
    int64_t half = dim[3] / 2;
    bool inverse = grdi_attr_int(r->attrs, "inverse"), interleaved = grdi_attr_int(r->attrs, "interleaved");
    bool shared = r->in_type[1].dims.rank == 2;
    for (int64_t b = 0; b < dim[0]; b++)
        for (int64_t t = 0; t < dim[1]; t++)
            for (int64_t h = 0; h < dim[2]; h++)
                for (int64_t i = 0; i < half; i++) {
                    int64_t row = ((b * dim[1] + t) * dim[2] + h) * dim[3];
                    int64_t first = row + (interleaved ? 2 * i : i), second = first + (interleaved ? 1 : half);
                    int64_t angle = ((shared ? 0 : b) * dim[1] + t) * half + i;
                    double c = r->in[1][angle], s = inverse ? -r->in[2][angle] : r->in[2][angle];
                    double x = r->in[0][first], y = r->in[0][second];
                    r->out[0][first] = x * c - y * s;
                    r->out[0][second] = y * c + x * s;
                }
}

static void rope_compose(grdi_compose *c)
{
    bool interleaved = grdi_attr_int(c->attrs, "interleaved");
    grd_dims dims = grd_tensor_dims(c->in[0]);
    int64_t half = dims.dim[3] / 2;
    /* x [B,T,H,D] -> pairs [B,T,H,D/2,2] or [B,T,H,2,D/2]; cos [T,D/2] or [B,T,D/2] -> [..,T,1,D/2] */
    int32_t axis = interleaved ? 4 : 3;
    grd_dims paired = interleaved ? grd_shape(dims.dim[0], dims.dim[1], dims.dim[2], half, 2)
                                  : grd_shape(dims.dim[0], dims.dim[1], dims.dim[2], 2, half);
    grd_tensor pairs = grd_reshape(c->in[0], paired);
    grd_tensor x = grd_squeeze(grd_slice(pairs, axis, 0, 1), axis), y = grd_squeeze(grd_slice(pairs, axis, 1, 1), axis);
    grd_tensor cosines = grd_unsqueeze(c->in[1], -2), sines = grd_unsqueeze(c->in[2], -2);
    if (grdi_attr_int(c->attrs, "inverse")) sines = grd_neg(sines);
    grd_tensor turned[2] = {grd_sub(grd_mul(x, cosines), grd_mul(y, sines)),
                            grd_add(grd_mul(y, cosines), grd_mul(x, sines))};
    c->out[0] = grd_reshape(grd_stack(turned, 2, axis), dims);
}

static grd_tensor rope(grd_tensor x, grd_tensor cosines, grd_tensor sines, bool inverse, bool interleaved)
{
    return GRDI_EMIT_ATTRS(&grdi_op_rope,
                           GRDI_LIST(grd_attr, GRD_FLAG("inverse", inverse), GRD_FLAG("interleaved", interleaved)), x,
                           cosines, sines);
}

/* A rotation's transpose is the rotation back. */
static void rope_gradient(grdi_gradient *g)
{
    if (g->need[1] || g->need[2]) { /* tables are constants as a rule */
        g->through_compose = true;
        return;
    }
    g->grad_in[0] = rope(g->grad_out[0], g->in[1], g->in[2], !grdi_attr_int(g->attrs, "inverse"),
                         grdi_attr_int(g->attrs, "interleaved"));
}

static double rope_flops(const grdi_type *in, int32_t input_count, const grdi_type *out, const grd_attr *attrs)
{
    (void)in, (void)input_count, (void)attrs;
    return 3.0 * (double)grd_dims_count(out[0].dims); /* two products and a sum each */
}

static const grdi_sample rope_samples[] = {
    {.in = {"f32[2,5,3,4]", "f32[5,2]", "f32[5,2]"}},
    {.in = {"f32[2,7,1,6]", "f32[2,7,3]", "f32[2,7,3]"}, .attrs = "inverse=true"},
    {.in = {"f32[1,3,2,26]", "f32[3,13]", "f32[3,13]"}, .attrs = "interleaved=true"},
    {.in = {"f32[3,1,2,2]", "f32[3,1,1]", "f32[3,1,1]"}, .attrs = "interleaved=true inverse=true"},
    /* pairs by eights */
    {.in = {"f32[2,5,3,16]", "f32[5,8]", "f32[5,8]"}, .no_gradient = true},
    {.in = {"f32[2,7,9,64]", "f32[2,7,32]", "f32[2,7,32]"}, .attrs = "inverse=true", .no_gradient = true},
    {.in = {"f32[1,3,2,48]", "f32[3,24]", "f32[3,24]"}, .attrs = "interleaved=true", .no_gradient = true},
    {.in = {"f32[4,256,8,64]", "f32[256,32]", "f32[256,32]"}, .large = true},
    {.in = {"f32[2,5,3,7]", "f32[5,3]", "f32[5,3]"}, .bad = "even D, is [2,5,3,7]"},
    {.in = {"f32[2,5,3,4]", "f32[6,2]", "f32[6,2]"}, .bad = "cos and sin are [6,2]"},
    {.in = {"f32[2,5,3,4]", "f32[5,2]", "f32[2,5,2]"}, .bad = "cos and sin differ: [5,2] and [2,5,2]"},
    {.in = {NULL}},
};

const grdi_op grdi_op_rope = {
    .name = "rope",
    .inputs = 3,
    .flags = GRDI_OP_FOLLOWS,
    .attrs = {GRD_FLAG("inverse", false), GRD_FLAG("interleaved", false)},
    .shape = rope_shape,
    .gradient = rope_gradient,
    .compose = rope_compose,
    .reference = rope_reference,
    .flops = rope_flops,
    .inplace = {1},
    .tolerance = 1e-6, /* two products and a sum */
    .samples = rope_samples,
};

grd_tensor grd_rope_with(grd_tensor x, grd_tensor cosines, grd_tensor sines, const grd_rope_options *options)
{
    options = options ? options : &(const grd_rope_options){.size = sizeof(grd_rope_options)};
    return rope(x, cosines, sines, options->inverse, options->interleaved);
}
