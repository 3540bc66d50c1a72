/* interpolate.c - images, volumes and series in another size, and the adjoint of that, which is its gradient. */
#include "base/interpolate.h"
#include "graph/graph.h"
#include "ops/table.h"

#include <gradus/ops.h>

#include <string.h>

enum { AXES_MAX = 3 };

/* x [N,S..,C] with axes of size 1 put in front up to three. */
typedef struct geometry {
    int64_t n, c, in[AXES_MAX], out[AXES_MAX];
    int mode;
    bool align_corners;
} geometry;

static geometry geometry_of(grd_dims x, grd_dims y, const grd_attr *attrs)
{
    geometry g = {.n = x.dim[0], .c = x.dim[x.rank - 1], .mode = (int)grdi_attr_int(attrs, "mode")};
    g.align_corners = grdi_attr_int(attrs, "align_corners");
    for (int32_t a = 0; a < AXES_MAX; a++) {
        int32_t axis = a - (AXES_MAX - (x.rank - 2));
        g.in[a] = axis < 0 ? 1 : x.dim[1 + axis];
        g.out[a] = axis < 0 ? 1 : y.dim[1 + axis];
    }
    return g;
}

/* Takes the spatial sizes of `x` from attribute `name`. */
static bool read_sizes(grdi_infer *c, const char *name, grd_dims *x)
{
    const grd_attr *sizes = grdi_attr_ints(c->attrs, name);
    int64_t mode = grdi_attr_int(c->attrs, "mode");
    char text[GRD_DIMS_TEXT_MAX];
    if (!grdi_infer_float(c, 0)) return false;
    if (x->rank < 3 || x->rank > 2 + AXES_MAX)
        return grdi_infer_fail(c, GRD_E_SHAPE, "x [N,S..,C] of one to three spatial axes is needed, not %s",
                               grd_dims_text(*x, text));
    if (sizes->count != x->rank - 2)
        return grdi_infer_fail(c, GRD_E_ARGUMENT, "%s has %d entries, there are %d spatial axes in %s", name,
                               sizes->count, x->rank - 2, grd_dims_text(*x, text));
    if (mode < 0 || mode >= GRDI_INTERPOLATIONS)
        return grdi_infer_fail(c, GRD_E_ARGUMENT, "mode is %lld (0 nearest, 1 linear, 2 nearest_exact)",
                               (long long)mode);
    if (grdi_attr_int(c->attrs, "align_corners") && mode != GRDI_LINEAR)
        return grdi_infer_fail(c, GRD_E_ARGUMENT, "align_corners is for mode linear alone");
    for (int32_t axis = 0; axis < sizes->count; axis++) {
        x->dim[1 + axis] = sizes->ints[axis];
        if (sizes->ints[axis] < 1)
            return grdi_infer_fail(c, GRD_E_ARGUMENT, "%s %lld (must be 1 or more)", name,
                                   (long long)sizes->ints[axis]);
    }
    return true;
}

/* y[s] += w x[t] (forward) or gx[t] += w gy[s] (backward) for the up to 2 x 2 x 2 points t that point s is made of. */
static void spread(const geometry *g, const double *x, const double *gy, double *y, double *gx)
{
    int64_t points = g->out[0] * g->out[1] * g->out[2], from = g->in[0] * g->in[1] * g->in[2];
    for (int64_t i = 0; i < g->n * points * g->c; i++) {
        int64_t n = i / g->c / points, s = i / g->c % points, c = i % g->c;
        const int64_t o[] = {s / (g->out[1] * g->out[2]), s / g->out[2] % g->out[1], s % g->out[2]};
        grdi_blend b[AXES_MAX];
        for (int a = 0; a < AXES_MAX; a++)
            b[a] = grdi_interpolate_at(g->in[a], g->out[a], g->mode, g->align_corners, o[a]);
        for (int corner = 0; corner < 8; corner++) {
            int p = corner >> 2, q = corner >> 1 & 1, r = corner & 1;
            int64_t t = (b[0].at[p] * g->in[1] + b[1].at[q]) * g->in[2] + b[2].at[r], xi = (n * from + t) * g->c + c;
            double weight = b[0].weight[p] * b[1].weight[q] * b[2].weight[r];
            if (y) y[i] += weight * x[xi];
            if (gx) gx[xi] += weight * gy[i];
        }
    }
}

static void clear(double *values, grd_dims dims)
{
    memset(values, 0, sizeof(double) * (size_t)grd_dims_count(dims));
}

/* ---- interpolate ---- */

static bool interpolate_shape(grdi_infer *c)
{
    c->out[0] = c->in[0];
    return read_sizes(c, "size", &c->out[0].dims);
}

static grd_tensor emit(const grdi_op *op, const grdi_gradient *g, const char *sizes, grd_dims dims)
{
    const grd_attr attrs[] = {GRD_INTS(sizes, dims.dim + 1, dims.rank - 2),
                              GRD_INT("mode", grdi_attr_int(g->attrs, "mode")),
                              GRD_FLAG("align_corners", grdi_attr_int(g->attrs, "align_corners"))};
    return grdi_emit(NULL, op, &g->grad_out[0], 1, attrs, 3, NULL);
}

static void interpolate_gradient(grdi_gradient *g)
{
    g->grad_in[0] = emit(&grdi_op_interpolate_backward, g, "input", grd_tensor_dims(g->in[0]));
}

static void interpolate_reference(const grdi_reference *r)
{
    geometry g = geometry_of(r->in_type[0].dims, r->out_type[0].dims, r->attrs);
    clear(r->out[0], r->out_type[0].dims);
    spread(&g, r->in[0], NULL, r->out[0], NULL);
}

/* A product and a sum for each point that a value is made of. */
static double corners_flops(const grdi_type *x, const grdi_type *y, const grd_attr *attrs)
{
    bool linear = grdi_attr_int(attrs, "mode") == GRDI_LINEAR;
    return (linear ? 2.0 * (double)(1 << (x->dims.rank - 2)) : 1.0) * (double)grd_dims_count(y->dims);
}

static double interpolate_flops(const grdi_type *in, int32_t input_count, const grdi_type *out, const grd_attr *attrs)
{
    (void)input_count;
    return corners_flops(&in[0], &out[0], attrs);
}

static const grdi_sample interpolate_samples[] = {
    {.in = {"f32[2,3,4,5]"}, "size=6,8"},
    {.in = {"f32[2,3,4,5]"}, "size=5,3 mode=1"},
    {.in = {"f32[2,3,4,5]"}, "size=7,9 mode=1 align_corners=true"},
    {.in = {"f32[1,5,7,3]"}, "size=3,4 mode=2"},
    {.in = {"f32[2,5,3]"}, "size=8 mode=1"},
    {.in = {"f32[2,4,3]"}, "size=1 mode=1 align_corners=true"},
    {.in = {"f32[1,2,3,2,35]"}, "size=3,4,5 mode=1"},
    {.in = {"f32[1,1,1,3]"}, "size=2,3 mode=1"},
    {.in = {"f32[16,32,32,64]"}, "size=64,64 mode=1", .large = true},
    {.in = {"f32[2,3,4,5]"}, "size=6", .bad = "size has 1 entries, there are 2 spatial axes in [2,3,4,5]"},
    {.in = {"f32[2,3,4,5]"}, "size=6,0", .bad = "size 0"},
    {.in = {"f32[2,3,4,5]"}, "size=6,8 mode=3", .bad = "mode is 3"},
    {.in = {"f32[2,3,4,5]"}, "size=6,8 align_corners=true", .bad = "align_corners is for mode linear"},
    {.in = {"f32[2,3]"}, "size=4", .bad = "not [2,3]"},
    {.in = {"i32[2,3,4,5]"}, "size=6,8", .bad = "float"},
    {.in = {NULL}}};

#define MODE_ATTRS GRD_INT("mode", 0), GRD_FLAG("align_corners", false)

const grdi_op grdi_op_interpolate = {.name = "interpolate",
                                     .inputs = 1,
                                     .flags = GRDI_OP_FOLLOWS,
                                     .attrs = {GRD_INTS("size", NULL, 0), MODE_ATTRS},
                                     .shape = interpolate_shape,
                                     .gradient = interpolate_gradient,
                                     .reference = interpolate_reference,
                                     .flops = interpolate_flops,
                                     .samples = interpolate_samples};

/* ---- interpolate_backward ---- */

static bool interpolate_backward_shape(grdi_infer *c)
{
    c->out[0] = c->in[0];
    return read_sizes(c, "input", &c->out[0].dims);
}

static void interpolate_backward_gradient(grdi_gradient *g)
{
    g->grad_in[0] = emit(&grdi_op_interpolate, g, "size", grd_tensor_dims(g->in[0]));
}

static void interpolate_backward_reference(const grdi_reference *r)
{
    geometry g = geometry_of(r->out_type[0].dims, r->in_type[0].dims, r->attrs);
    clear(r->out[0], r->out_type[0].dims);
    spread(&g, NULL, r->in[0], NULL, r->out[0]);
}

static double interpolate_backward_flops(const grdi_type *in, int32_t input_count, const grdi_type *out,
                                         const grd_attr *attrs)
{
    (void)input_count;
    return corners_flops(&out[0], &in[0], attrs);
}

static const grdi_sample interpolate_backward_samples[] = {
    {.in = {"f32[2,6,8,5]"}, "input=3,4"},
    {.in = {"f32[2,5,3,5]"}, "input=3,4 mode=1"},
    {.in = {"f32[2,7,9,5]"}, "input=3,4 mode=1 align_corners=true"},
    {.in = {"f32[1,3,4,3]"}, "input=5,7 mode=2"}, /* points that nothing is made of */
    {.in = {"f32[2,8,3]"}, "input=5 mode=1"},
    {.in = {"f32[1,3,4,5,35]"}, "input=2,3,2 mode=1"},
    {.in = {"f32[16,64,64,64]"}, "input=32,32 mode=1", .large = true},
    {.in = {"f32[2,6,8,5]"}, "input=3", .bad = "input has 1 entries"},
    {.in = {"f32[2,6,8,5]"}, "input=3,-1", .bad = "input -1"},
    {.in = {NULL}}};

const grdi_op grdi_op_interpolate_backward = {.name = "interpolate_backward",
                                              .inputs = 1,
                                              .flags = GRDI_OP_FOLLOWS,
                                              .attrs = {GRD_INTS("input", NULL, 0), MODE_ATTRS},
                                              .shape = interpolate_backward_shape,
                                              .gradient = interpolate_backward_gradient,
                                              .reference = interpolate_backward_reference,
                                              .flops = interpolate_backward_flops,
                                              .tolerance = 4e-6, /* sums of the values that a point takes part in */
                                              .samples = interpolate_backward_samples};

grd_tensor grd_interpolate_with(grd_tensor x, const int64_t *sizes, const grd_interpolate_options *options)
{
    options = options ? options : &(const grd_interpolate_options){.size = sizeof(grd_interpolate_options)};
    int32_t axes = grd_tensor_dims(x).rank - 2;
    const grd_attr attrs[] = {GRD_INTS("size", sizes, axes > 0 && axes <= AXES_MAX ? axes : 0),
                              GRD_INT("mode", options->mode), GRD_FLAG("align_corners", options->align_corners)};
    return grdi_emit(NULL, &grdi_op_interpolate, &x, 1, attrs, 3, NULL);
}
