/* convolution.c - convolution over one to three spatial axes and its two gradients. The three are one product of three
 * values, sum over windows of y x w, each with another of them as its result: so each one's gradients are the others.
 */
#include "base/window.h"
#include "graph/graph.h"
#include "ops/table.h"

#include <gradus/ops.h>

#include <string.h>

/* Sums over taps and channels (or over samples and windows) in f32, of terms of both signs. */
#define SUM_TOLERANCE 2e-5

/* x [N,S..,C], w [O,C/groups,K..], y [N,S'..,O], with axes of size 1 put in front up to three. */
typedef struct geometry {
    int32_t axes; /* spatial ones of the call */
    int64_t n, c, o, groups;
    grdi_window window[GRDI_WINDOW_AXES];
} geometry;

static const char *const lists[] = {"stride", "padding", "dilation"};

/* Reads stride, padding, dilation and groups; the last windows are those of the call's axes. */
static bool read_attrs(grdi_infer *c, geometry *g)
{
    for (int32_t i = 0; i < 3; i++) {
        const grd_attr *list = grdi_attr_ints(c->attrs, lists[i]);
        if (list->count > 1 && list->count != g->axes)
            return grdi_infer_fail(c, GRD_E_ARGUMENT, "%s has %d entries, there are %d spatial axes", lists[i],
                                   list->count, g->axes);
    }
    g->groups = grdi_attr_int(c->attrs, "groups");
    if (g->groups < 1)
        return grdi_infer_fail(c, GRD_E_ARGUMENT, "groups is %lld (must be 1 or more)", (long long)g->groups);
    return true;
}

static void set_windows(const grd_attr *attrs, geometry *g)
{
    for (int32_t a = 0; a < GRDI_WINDOW_AXES; a++) {
        int32_t axis = a - (GRDI_WINDOW_AXES - g->axes);
        grdi_window *w = &g->window[a];
        *w = (grdi_window){1, 1, 1, 1, 0, 1};
        if (axis < 0) continue;
        w->stride = grdi_window_entry(grdi_attr_ints(attrs, "stride"), axis, 1);
        w->padding = grdi_window_entry(grdi_attr_ints(attrs, "padding"), axis, 0);
        w->dilation = grdi_window_entry(grdi_attr_ints(attrs, "dilation"), axis, 1);
    }
}

static grdi_window *window_of(geometry *g, int32_t axis)
{
    return &g->window[GRDI_WINDOW_AXES - g->axes + axis];
}

/* From the shapes of x [N,S..,C] and w [O,C/groups,K..]; no check. */
static geometry geometry_of(grd_dims x, grd_dims w, const grd_attr *attrs)
{
    geometry g = {.axes = x.rank - 2, .n = x.dim[0], .c = x.dim[x.rank - 1], .o = w.dim[0]};
    g.groups = grdi_attr_int(attrs, "groups");
    set_windows(attrs, &g);
    for (int32_t axis = 0; axis < g.axes; axis++) {
        grdi_window *window = window_of(&g, axis);
        window->in = x.dim[1 + axis];
        window->kernel = w.dim[2 + axis];
        window->out = grdi_window_count(window);
    }
    return g;
}

static grd_dims y_dims(const geometry *g)
{
    grd_dims y = {.rank = g->axes + 2};
    y.dim[0] = g->n;
    for (int32_t axis = 0; axis < g->axes; axis++) y.dim[1 + axis] = window_of((geometry *)g, axis)->out;
    y.dim[y.rank - 1] = g->o;
    return y;
}

/* Whether x and w fit each other; `g` is filled. */
static bool check_geometry(grdi_infer *c, grd_dims x, grd_dims w, geometry *g)
{
    char a[GRD_DIMS_TEXT_MAX], b[GRD_DIMS_TEXT_MAX];
    grd_dims_text(x, a), grd_dims_text(w, b);
    *g = (geometry){.axes = x.rank - 2};
    if (x.rank < 3 || x.rank > 2 + GRDI_WINDOW_AXES || w.rank != x.rank)
        return grdi_infer_fail(c, GRD_E_SHAPE,
                               "x [N,S..,C] and a weight [O,C/groups,K..] of one to three spatial axes are needed, "
                               "not %s and %s",
                               a, b);
    if (!read_attrs(c, g)) return false;
    *g = geometry_of(x, w, c->attrs);
    for (int32_t i = 0; i < g->axes; i++) {
        const grdi_window *window = window_of(g, i);
        if (window->stride < 1 || window->dilation < 1 || window->padding < 0)
            return grdi_infer_fail(c, GRD_E_ARGUMENT,
                                   "stride %lld, padding %lld, dilation %lld: strides and dilations are 1 or more, "
                                   "paddings 0 or more",
                                   (long long)window->stride, (long long)window->padding, (long long)window->dilation);
        if (window->out < 1)
            return grdi_infer_fail(c, GRD_E_SHAPE, "the kernel of %s does not fit into %s padded by %lld", b, a,
                                   (long long)window->padding);
    }
    if (g->c % g->groups || g->o % g->groups)
        return grdi_infer_fail(c, GRD_E_SHAPE, "%lld groups do not divide %lld input and %lld output channels",
                               (long long)g->groups, (long long)g->c, (long long)g->o);
    if (w.dim[1] * g->groups != g->c)
        return grdi_infer_fail(c, GRD_E_SHAPE, "x %s has %lld channels, the weight %s takes %lld (in %lld group%s)", a,
                               (long long)g->c, b, (long long)(w.dim[1] * g->groups), (long long)g->groups,
                               g->groups == 1 ? "" : "s");
    return true;
}

static bool check_y(grdi_infer *c, const geometry *g, grd_dims y)
{
    char a[GRD_DIMS_TEXT_MAX], b[GRD_DIMS_TEXT_MAX];
    if (grd_dims_equal(y, y_dims(g))) return true;
    return grdi_infer_fail(c, GRD_E_SHAPE, "gradient is %s, the convolution gives %s", grd_dims_text(y, a),
                           grd_dims_text(y_dims(g), b));
}

/* ---- the one loop ---- */

typedef struct product {
    geometry g;
    const double *x, *w, *y;
    double *gx, *gw, *gy; /* the one that is not NULL gets the sum */
} product;

/* All channels of one tap: y[o] x[c] w[o][c - first c of the group]. */
static void multiply_tap(const product *p, int64_t x_at, int64_t y_at, int64_t tap, int64_t taps)
{
    const geometry *g = &p->g;
    int64_t inputs = g->c / g->groups, outputs = g->o / g->groups;
    for (int64_t o = 0; o < g->o; o++) {
        int64_t first = o / outputs * inputs;
        for (int64_t c = 0; c < inputs; c++) {
            int64_t xi = x_at * g->c + first + c, wi = (o * inputs + c) * taps + tap, yi = y_at * g->o + o;
            if (p->gy) p->gy[yi] += p->x[xi] * p->w[wi];
            if (p->gx) p->gx[xi] += p->y[yi] * p->w[wi];
            if (p->gw) p->gw[wi] += p->y[yi] * p->x[xi];
        }
    }
}

/* All taps of the window at o of sample n. */
static void multiply_window(const product *p, int64_t n, const int64_t *o)
{
    const grdi_window *w = p->g.window;
    int64_t y_at = ((n * w[0].out + o[0]) * w[1].out + o[1]) * w[2].out + o[2];
    int64_t taps = w[0].kernel * w[1].kernel * w[2].kernel;
    for (int64_t tap = 0; tap < taps; tap++) {
        int64_t i0 = grdi_window_at(&w[0], o[0], tap / (w[1].kernel * w[2].kernel));
        int64_t i1 = grdi_window_at(&w[1], o[1], tap / w[2].kernel % w[1].kernel);
        int64_t i2 = grdi_window_at(&w[2], o[2], tap % w[2].kernel);
        if (i0 < 0 || i1 < 0 || i2 < 0) continue;
        multiply_tap(p, ((n * w[0].in + i0) * w[1].in + i1) * w[2].in + i2, y_at, tap, taps);
    }
}

static void multiply(const product *p)
{
    const grdi_window *w = p->g.window;
    for (int64_t n = 0; n < p->g.n; n++)
        for (int64_t o0 = 0; o0 < w[0].out; o0++)
            for (int64_t o1 = 0; o1 < w[1].out; o1++)
                for (int64_t o2 = 0; o2 < w[2].out; o2++) multiply_window(p, n, (int64_t[]){o0, o1, o2});
}

static void clear(double *values, grd_dims dims)
{
    memset(values, 0, sizeof(double) * (size_t)grd_dims_count(dims));
}

/* ---- convolution ---- */

static bool convolution_shape(grdi_infer *c)
{
    geometry g;
    char a[GRD_DIMS_TEXT_MAX];
    if (!grdi_infer_float(c, 0) || !grdi_infer_same_dtype(c, 1, 0)) return false;
    if (!check_geometry(c, c->in[0].dims, c->in[1].dims, &g)) return false;
    if (c->input_count == 3 && !grdi_infer_same_dtype(c, 2, 0)) return false;
    if (c->input_count == 3 && !grd_dims_equal(c->in[2].dims, grd_shape(g.o)))
        return grdi_infer_fail(c, GRD_E_SHAPE, "bias is %s, must be [%lld] (one for each output channel)",
                               grd_dims_text(c->in[2].dims, a), (long long)g.o);
    c->out[0] = (grdi_type){c->in[0].dtype, y_dims(&g)};
    return true;
}

static grd_tensor emit(const grdi_op *op, const grd_attr *attrs, const char *name, const int64_t *sizes, int32_t count,
                       grd_tensor a, grd_tensor b)
{
    grd_attr list[5];
    int32_t n = 0;
    for (; attrs[n].name && n < 4; n++) list[n] = attrs[n]; /* stride, padding, dilation, groups stand first */
    if (name) list[n++] = (grd_attr)GRD_INTS(name, sizes, count);
    return grdi_emit(NULL, op, (grd_tensor[]){a, b}, 2, list, n, NULL);
}

static grd_tensor input_gradient(const grd_attr *attrs, grd_tensor g, grd_tensor w, grd_tensor like)
{
    grd_dims x = grd_tensor_dims(like);
    return emit(&grdi_op_convolution_input_gradient, attrs, "size", x.dim + 1, x.rank - 2, g, w);
}

static grd_tensor weight_gradient(const grd_attr *attrs, grd_tensor g, grd_tensor x, grd_tensor like)
{
    grd_dims w = grd_tensor_dims(like);
    return emit(&grdi_op_convolution_weight_gradient, attrs, "kernel", w.dim + 2, w.rank - 2, g, x);
}

static grd_tensor convolve(const grd_attr *attrs, grd_tensor x, grd_tensor w)
{
    return emit(&grdi_op_convolution, attrs, NULL, NULL, 0, x, w);
}

static void convolution_gradient(grdi_gradient *g)
{
    grd_tensor arriving = g->grad_out[0];
    if (g->need[0]) g->grad_in[0] = input_gradient(g->attrs, arriving, g->in[1], g->in[0]);
    if (g->need[1]) g->grad_in[1] = weight_gradient(g->attrs, arriving, g->in[0], g->in[1]);
    if (g->input_count == 3 && g->need[2]) g->grad_in[2] = grdi_sum_to_like(arriving, g->in[2]);
}

/* y[n,s,o] = bias[o] + sum over taps k and channels c of the group of x[n, s stride - padding + k dilation, c] w[o,c,k]
 */
static void convolution_reference(const grdi_reference *r)
{
    product p = {geometry_of(r->in_type[0].dims, r->in_type[1].dims, r->attrs), .x = r->in[0], .w = r->in[1],
                 .gy = r->out[0]};
    for (int64_t i = 0; i < grd_dims_count(r->out_type[0].dims); i++)
        p.gy[i] = r->input_count == 3 ? r->in[2][i % p.g.o] : 0;
    multiply(&p);
}

static double convolution_flops(const grdi_type *in, int32_t input_count, const grdi_type *out, const grd_attr *attrs)
{
    (void)input_count, (void)attrs;
    double per_output = (double)grd_dims_count(in[1].dims) / (double)in[1].dims.dim[0];
    return 2.0 * per_output * (double)grd_dims_count(out[0].dims);
}

static const grdi_sample convolution_samples[] = {
    {.in = {"f32[2,5,6,3]", "f32[4,3,3,3]"}},
    {.in = {"f32[2,5,6,3]", "f32[4,3,3,3]", "f32[4]"}, "padding=1"},
    {.in = {"f32[1,7,6,2]", "f32[3,2,3,2]", "f32[3]"}, "stride=2,1 padding=1,0"},
    {.in = {"f32[2,7,7,4]", "f32[6,2,3,3]"}, "stride=2 padding=1 groups=2"},
    {.in = {"f32[2,5,5,6]", "f32[6,1,3,3]", "f32[6]"}, "padding=1 groups=6"}, /* depthwise */
    {.in = {"f32[1,9,8,2]", "f32[3,2,3,3]"}, "dilation=2,3 padding=2,1"},
    {.in = {"f32[3,4,4,5]", "f32[7,5,1,1]"}, "stride=2"},
    {.in = {"f32[2,9,3]", "f32[4,3,4]", "f32[4]"}, "stride=2 padding=1"},                       /* one spatial axis */
    {.in = {"f32[1,4,3,5,2]", "f32[3,2,2,2,3]"}, "padding=1,0,1"},                              /* three */
    {.in = {"f32[2,14,14,33]", "f32[35,33,3,3]", "f32[35]"}, "padding=1", .no_gradient = true}, /* for blocks */
    {.in = {"f32[2,13,13,32]", "f32[64,32,3,3]"}, "stride=2 padding=1", .no_gradient = true},
    {.in = {"f32[1,24,24,1]", "f32[16,1,7,7]"}, "stride=2 padding=3", .no_gradient = true},
    {.in = {"f32[2,15,14,3]", "f32[8,3,7,7]", "f32[8]"}, "stride=2 padding=3", .no_gradient = true}, /* pictures */
    {.in = {"f32[1,5,7,6,2]", "f32[4,2,3,2,3]"}, "stride=2,1,3 padding=1,0,2", .no_gradient = true},
    {.in = {"f32[3,9,10,32]", "f32[48,32,3,3]", "f32[48]"}, "padding=1", .no_gradient = true},   /* in fewer */
    {.in = {"f32[4,10,9,48]", "f32[32,48,3,3]", "f32[32]"}, "padding=0,2", .no_gradient = true}, /* products */
    {.in = {"f32[5,17,14,32]", "f32[48,32,3,3]", "f32[48]"}, "padding=1", .no_gradient = true},
    {.in = {"f32[1,60,59,32]", "f32[1,32,5,5]"}, "padding=2", .no_gradient = true}, /* for blocks of windows */
    {.in = {"f32[2,6,5,32]", "f32[256,32,3,3]", "f32[256]"}, "padding=1", .no_gradient = true},
    {.in = {"f32[32,32,32,64]", "f32[64,64,3,3]"}, "padding=1", .large = true},
    {.in = {"f32[2,5,6,3]", "f32[4,2,3,3]"}, .bad = "has 3 channels, the weight [4,2,3,3] takes 2"},
    {.in = {"f32[2,5,6,3]", "f32[4,3,7,3]"}, .bad = "does not fit into [2,5,6,3]"},
    {.in = {"f32[2,5,6,3]", "f32[4,3,3]"}, .bad = "not [2,5,6,3] and [4,3,3]"},
    {.in = {"f32[5,3]", "f32[4,3]"}, .bad = "one to three spatial axes"},
    {.in = {"f32[2,5,6,3]", "f32[4,3,3,3]", "f32[3]"}, .bad = "bias is [3], must be [4]"},
    {.in = {"f32[2,5,6,3]", "f32[4,3,3,3]"}, "stride=0", .bad = "stride 0"},
    {.in = {"f32[2,5,6,3]", "f32[4,3,3,3]"}, "stride=1,1,1", .bad = "stride has 3 entries"},
    {.in = {"f32[2,5,6,3]", "f32[4,3,3,3]"}, "padding=-1", .bad = "padding -1"},
    {.in = {"f32[2,5,6,4]", "f32[4,2,3,3]"}, "groups=0", .bad = "groups is 0"},
    {.in = {"f32[2,5,6,4]", "f32[3,2,3,3]"}, "groups=2", .bad = "2 groups do not divide 4 input and 3 output"},
    {.in = {"f32[2,5,6,3]", "bf16[4,3,3,3]"}, .bad = "bf16"},
    {.in = {"i32[2,5,6,3]", "i32[4,3,3,3]"}, .bad = "i32"},
    {.in = {NULL}}};

#define WINDOW_ATTRS                                                                                                   \
    GRD_INTS("stride", NULL, 0), GRD_INTS("padding", NULL, 0), GRD_INTS("dilation", NULL, 0), GRD_INT("groups", 1)

const grdi_op grdi_op_convolution = {.name = "convolution",
                                     .inputs = 2,
                                     .inputs_max = 3,
                                     .flags = GRDI_OP_MATMUL,
                                     .attrs = {WINDOW_ATTRS},
                                     .shape = convolution_shape,
                                     .gradient = convolution_gradient,
                                     .reference = convolution_reference,
                                     .flops = convolution_flops,
                                     .bf16_in = 3,
                                     .bf16_out = 1,
                                     .tolerance = SUM_TOLERANCE,
                                     .samples = convolution_samples};

/* Stride, padding, dilation and groups of a call for x with `axes` spatial axes. */
static int32_t window_attrs(const grd_convolution_options *o, int32_t axes, grd_attr *attrs)
{
    const int64_t *each[] = {o->strides, o->paddings, o->dilations}, *all[] = {&o->stride, &o->padding, &o->dilation};
    for (int32_t i = 0; i < 3; i++)
        attrs[i] = (grd_attr)GRD_INTS(lists[i], each[i] ? each[i] : all[i], each[i] ? axes : *all[i] != 0);
    attrs[3] = (grd_attr)GRD_INT("groups", o->groups ? o->groups : 1);
    return 4;
}

/* Of a shape [N,S..,C]; 0 for anything else, which the shape rule then refuses. */
static int32_t spatial_axes(grd_tensor x)
{
    int32_t axes = grd_tensor_dims(x).rank - 2;
    return axes < 0 || axes > GRDI_WINDOW_AXES ? 0 : axes;
}

grd_tensor grd_convolution_with(grd_tensor x, grd_tensor w, const grd_convolution_options *options)
{
    options = options ? options : &(const grd_convolution_options){.size = sizeof(grd_convolution_options)};
    grd_attr attrs[4];
    grd_tensor in[3] = {x, w, options->bias};
    int32_t count = window_attrs(options, spatial_axes(x), attrs);
    return grdi_emit(NULL, &grdi_op_convolution, in, options->bias.node ? 3 : 2, attrs, count, NULL);
}

/* ---- convolution_input_gradient, which is also the transposed convolution ---- */

/* The shape of x for a gradient g [N,S'..,O] and w. */
static bool x_dims(grdi_infer *c, grd_dims g, grd_dims w, grd_dims *x)
{
    const grd_attr *size = grdi_attr_ints(c->attrs, "size");
    char a[GRD_DIMS_TEXT_MAX], b[GRD_DIMS_TEXT_MAX];
    if (g.rank < 3 || g.rank > 2 + GRDI_WINDOW_AXES || w.rank != g.rank || size->count != g.rank - 2)
        return grdi_infer_fail(c, GRD_E_SHAPE,
                               "a gradient [N,S..,O], a weight [O,C/groups,K..] and as many sizes are needed, not %s, "
                               "%s and %d sizes",
                               grd_dims_text(g, a), grd_dims_text(w, b), size->count);
    int64_t groups = grdi_attr_int(c->attrs, "groups");
    if (groups < 1 || groups > w.dim[0])
        return grdi_infer_fail(c, GRD_E_ARGUMENT, "groups is %lld (must be 1 to the %lld output channels)",
                               (long long)groups, (long long)w.dim[0]);
    *x = g;
    for (int32_t axis = 0; axis < size->count; axis++) {
        x->dim[1 + axis] = size->ints[axis];
        if (size->ints[axis] < 1)
            return grdi_infer_fail(c, GRD_E_ARGUMENT, "size %lld (must be 1 or more)", (long long)size->ints[axis]);
    }
    x->dim[x->rank - 1] = w.dim[1] * groups;
    return true;
}

static bool input_gradient_shape(grdi_infer *c)
{
    geometry g;
    grd_dims x;
    if (!grdi_infer_float(c, 0) || !grdi_infer_same_dtype(c, 1, 0)) return false;
    if (!x_dims(c, c->in[0].dims, c->in[1].dims, &x) || !check_geometry(c, x, c->in[1].dims, &g)) return false;
    c->out[0] = (grdi_type){c->in[0].dtype, x};
    return check_y(c, &g, c->in[0].dims);
}

static void input_gradient_gradient(grdi_gradient *g)
{
    grd_tensor h = g->grad_out[0];
    if (g->need[0]) g->grad_in[0] = convolve(g->attrs, h, g->in[1]);
    if (g->need[1]) g->grad_in[1] = weight_gradient(g->attrs, g->in[0], h, g->in[1]);
}

static void input_gradient_reference(const grdi_reference *r)
{
    product p = {geometry_of(r->out_type[0].dims, r->in_type[1].dims, r->attrs), .y = r->in[0], .w = r->in[1],
                 .gx = r->out[0]};
    clear(p.gx, r->out_type[0].dims);
    multiply(&p);
}

static double input_gradient_flops(const grdi_type *in, int32_t input_count, const grdi_type *out,
                                   const grd_attr *attrs)
{
    (void)input_count, (void)out, (void)attrs;
    double per_output = (double)grd_dims_count(in[1].dims) / (double)in[1].dims.dim[0];
    return 2.0 * per_output * (double)grd_dims_count(in[0].dims);
}

static const grdi_sample input_gradient_samples[] = {
    {.in = {"f32[2,3,4,4]", "f32[4,3,3,3]"}, "size=5,6"},
    {.in = {"f32[1,4,5,3]", "f32[3,2,3,2]"}, "stride=2,1 padding=1,0 size=7,6"},
    {.in = {"f32[1,4,5,3]", "f32[3,2,3,2]"}, "stride=2,1 padding=1,0 size=8,6"}, /* rows that no window reaches */
    {.in = {"f32[2,4,4,6]", "f32[6,2,3,3]"}, "stride=2 padding=1 groups=2 size=7,7"},
    {.in = {"f32[2,5,5,6]", "f32[6,1,3,3]"}, "padding=1 groups=6 size=5,5"},
    {.in = {"f32[1,9,4,3]", "f32[3,2,3,3]"}, "dilation=2,3 padding=2,1 size=9,8"},
    {.in = {"f32[2,4,2,3]", "f32[3,2,3,3]"}, "stride=2,3 dilation=3,2 padding=2,1 size=9,8"},
    {.in = {"f32[2,3,2,4]", "f32[4,3,1,1]"}, "stride=2 size=5,4"}, /* most of x in no window */
    {.in = {"f32[2,4,4]", "f32[4,3,4]"}, "stride=2 padding=1 size=9"},
    {.in = {"f32[1,2,2,2,3]", "f32[3,2,2,2,3]"}, "size=3,3,4"},
    {.in = {"f32[2,14,14,35]", "f32[35,33,3,3]"}, "padding=1 size=14,14", .no_gradient = true},
    {.in = {"f32[2,7,7,64]", "f32[64,32,3,3]"}, "stride=2 padding=1 size=13,13", .no_gradient = true},
    {.in = {"f32[3,9,10,48]", "f32[48,32,3,3]"}, "padding=1 size=9,10", .no_gradient = true},   /* in fewer */
    {.in = {"f32[4,8,11,32]", "f32[32,48,3,3]"}, "padding=0,2 size=10,9", .no_gradient = true}, /* products */
    {.in = {"f32[5,15,14,48]", "f32[48,32,3,3]"}, "padding=0,1 size=17,14", .no_gradient = true},
    {.in = {"f32[1,60,59,32]", "f32[32,1,5,5]"}, "padding=2 size=60,59", .no_gradient = true},
    {.in = {"f32[2,6,5,32]", "f32[32,256,3,3]"}, "padding=1 size=6,5", .no_gradient = true},
    {.in = {"f32[32,32,32,64]", "f32[64,64,3,3]"}, "padding=1 size=32,32", .large = true},
    {.in = {"f32[2,3,4,4]", "f32[4,3,3,3]"},
     "size=6,6",
     .bad = "gradient is [2,3,4,4], the convolution gives [2,4,4,4]"},
    {.in = {"f32[2,3,4,4]", "f32[4,3,3,3]"}, "size=5", .bad = "1 sizes"},
    {.in = {"f32[2,3,4,4]", "f32[4,3,3,3]"}, "size=0,6", .bad = "size 0"},
    {.in = {"f32[2,3,4,4]", "f32[4,3,3,3]"}, "size=5,6 groups=5", .bad = "groups is 5 (must be 1 to the 4"},
    {.in = {"f32[2,3,4,5]", "f32[4,3,3,3]"}, "size=5,6", .bad = "gradient is [2,3,4,5]"},
    {.in = {NULL}}};

const grdi_op grdi_op_convolution_input_gradient = {.name = "convolution_input_gradient",
                                                    .inputs = 2,
                                                    .flags = GRDI_OP_MATMUL,
                                                    .attrs = {WINDOW_ATTRS, GRD_INTS("size", NULL, 0)},
                                                    .shape = input_gradient_shape,
                                                    .gradient = input_gradient_gradient,
                                                    .reference = input_gradient_reference,
                                                    .flops = input_gradient_flops,
                                                    .bf16_in = 3,
                                                    .bf16_out = 1,
                                                    .tolerance = SUM_TOLERANCE,
                                                    .samples = input_gradient_samples};

grd_tensor grd_transposed_convolution_with(grd_tensor x, grd_tensor w, const grd_convolution_options *options)
{
    options = options ? options : &(const grd_convolution_options){.size = sizeof(grd_convolution_options)};
    grd_attr attrs[5];
    grd_dims in = grd_tensor_dims(x), kernel = grd_tensor_dims(w);
    int32_t count = window_attrs(options, spatial_axes(x), attrs);
    int64_t size[GRD_RANK_MAX] = {0};
    for (int32_t axis = 0; axis < spatial_axes(x); axis++) {
        grdi_window window = {.out = in.dim[1 + axis], .kernel = axis + 2 < kernel.rank ? kernel.dim[2 + axis] : 1};
        window.stride = grdi_window_entry(&attrs[0], axis, 1);
        window.padding = grdi_window_entry(&attrs[1], axis, 0);
        window.dilation = grdi_window_entry(&attrs[2], axis, 1);
        size[axis] = grdi_window_least_size(&window) + options->output_padding;
    }
    attrs[count++] = (grd_attr)GRD_INTS("size", size, spatial_axes(x));
    grd_tensor y = grdi_emit(NULL, &grdi_op_convolution_input_gradient, (grd_tensor[]){x, w}, 2, attrs, count, NULL);
    return options->bias.node ? grd_add(y, options->bias) : y;
}

/* ---- convolution_weight_gradient ---- */

/* The shape of w for a gradient g [N,S'..,O] and x [N,S..,C]. */
static bool w_dims(grdi_infer *c, grd_dims g, grd_dims x, grd_dims *w)
{
    const grd_attr *kernel = grdi_attr_ints(c->attrs, "kernel");
    int64_t groups = grdi_attr_int(c->attrs, "groups");
    char a[GRD_DIMS_TEXT_MAX], b[GRD_DIMS_TEXT_MAX];
    if (x.rank < 3 || x.rank > 2 + GRDI_WINDOW_AXES || g.rank != x.rank || kernel->count != x.rank - 2)
        return grdi_infer_fail(c, GRD_E_SHAPE,
                               "a gradient [N,S..,O], x [N,S..,C] and as many kernel sizes are needed, not %s, %s and "
                               "%d sizes",
                               grd_dims_text(g, a), grd_dims_text(x, b), kernel->count);
    *w = x;
    w->dim[0] = g.dim[g.rank - 1];
    w->dim[1] = groups > 0 ? x.dim[x.rank - 1] / groups : 1;
    for (int32_t axis = 0; axis < kernel->count; axis++) {
        w->dim[2 + axis] = kernel->ints[axis];
        if (kernel->ints[axis] < 1)
            return grdi_infer_fail(c, GRD_E_ARGUMENT, "kernel %lld (must be 1 or more)", (long long)kernel->ints[axis]);
    }
    return true;
}

static bool weight_gradient_shape(grdi_infer *c)
{
    geometry g;
    grd_dims w;
    if (!grdi_infer_float(c, 0) || !grdi_infer_same_dtype(c, 1, 0)) return false;
    if (!w_dims(c, c->in[0].dims, c->in[1].dims, &w) || !check_geometry(c, c->in[1].dims, w, &g)) return false;
    c->out[0] = (grdi_type){c->in[0].dtype, w};
    return check_y(c, &g, c->in[0].dims);
}

static void weight_gradient_gradient(grdi_gradient *g)
{
    grd_tensor h = g->grad_out[0];
    if (g->need[0]) g->grad_in[0] = convolve(g->attrs, g->in[1], h);
    if (g->need[1]) g->grad_in[1] = input_gradient(g->attrs, g->in[0], h, g->in[1]);
}

static void weight_gradient_reference(const grdi_reference *r)
{
    product p = {geometry_of(r->in_type[1].dims, r->out_type[0].dims, r->attrs), .y = r->in[0], .x = r->in[1],
                 .gw = r->out[0]};
    clear(p.gw, r->out_type[0].dims);
    multiply(&p);
}

static double weight_gradient_flops(const grdi_type *in, int32_t input_count, const grdi_type *out,
                                    const grd_attr *attrs)
{
    (void)input_count, (void)attrs;
    double per_output = (double)grd_dims_count(out[0].dims) / (double)out[0].dims.dim[0];
    return 2.0 * per_output * (double)grd_dims_count(in[0].dims);
}

static const grdi_sample weight_gradient_samples[] = {
    {.in = {"f32[2,3,4,4]", "f32[2,5,6,3]"}, "kernel=3,3"},
    {.in = {"f32[1,4,5,3]", "f32[1,7,6,2]"}, "stride=2,1 padding=1,0 kernel=3,2"},
    {.in = {"f32[2,4,4,6]", "f32[2,7,7,4]"}, "stride=2 padding=1 groups=2 kernel=3,3"},
    {.in = {"f32[2,5,5,6]", "f32[2,5,5,6]"}, "padding=1 groups=6 kernel=3,3"},
    {.in = {"f32[1,9,4,3]", "f32[1,9,8,2]"}, "dilation=2,3 padding=2,1 kernel=3,3"},
    {.in = {"f32[2,4,4]", "f32[2,9,3]"}, "stride=2 padding=1 kernel=4"},
    {.in = {"f32[1,2,2,2,3]", "f32[1,3,3,4,2]"}, "kernel=2,2,3"},
    {.in = {"f32[2,14,14,35]", "f32[2,14,14,33]"}, "padding=1 kernel=3,3", .no_gradient = true},
    {.in = {"f32[2,7,7,64]", "f32[2,13,13,32]"}, "stride=2 padding=1 kernel=3,3", .no_gradient = true},
    {.in = {"f32[2,8,7,8]", "f32[2,15,14,3]"}, "stride=2 padding=3 kernel=7,7", .no_gradient = true}, /* pictures */
    {.in = {"f32[1,3,6,3,4]", "f32[1,5,7,6,2]"}, "stride=2,1,3 padding=1,0,2 kernel=3,2,3", .no_gradient = true},
    {.in = {"f32[3,9,10,48]", "f32[3,9,10,32]"}, "padding=1 kernel=3,3", .no_gradient = true},   /* in fewer */
    {.in = {"f32[4,8,11,32]", "f32[4,10,9,48]"}, "padding=0,2 kernel=3,3", .no_gradient = true}, /* products */
    {.in = {"f32[5,16,15,48]", "f32[5,18,15,32]"}, "padding=0,1 kernel=3,3", .no_gradient = true},
    {.in = {"f32[1,60,59,1]", "f32[1,60,59,32]"}, "padding=2 kernel=5,5", .no_gradient = true},
    {.in = {"f32[2,6,5,128]", "f32[2,6,5,32]"}, "padding=1 kernel=3,3", .no_gradient = true},
    {.in = {"f32[32,32,32,64]", "f32[32,32,32,64]"}, "padding=1 kernel=3,3", .large = true},
    {.in = {"f32[2,3,4,4]", "f32[2,5,6,3]"}, "kernel=3", .bad = "1 sizes"},
    {.in = {"f32[2,3,4,4]", "f32[2,5,6,3]"}, "kernel=2,3", .bad = "the convolution gives [2,4,4,4]"},
    {.in = {"f32[2,3,4,4]", "f32[2,5,6,3]"}, "kernel=0,3", .bad = "kernel 0"},
    {.in = {"f32[2,3,4,4]", "f32[2,5,6,3]"}, "kernel=3,3 groups=2", .bad = "2 groups do not divide 3 input"},
    {.in = {NULL}}};

const grdi_op grdi_op_convolution_weight_gradient = {.name = "convolution_weight_gradient",
                                                     .inputs = 2,
                                                     .flags = GRDI_OP_MATMUL,
                                                     .attrs = {WINDOW_ATTRS, GRD_INTS("kernel", NULL, 0)},
                                                     .shape = weight_gradient_shape,
                                                     .gradient = weight_gradient_gradient,
                                                     .reference = weight_gradient_reference,
                                                     .flops = weight_gradient_flops,
                                                     .bf16_in = 3,
                                                     .tolerance = SUM_TOLERANCE,
                                                     .samples = weight_gradient_samples};
