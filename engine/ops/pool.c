/* pool.c - maximum and mean of windows over one to three spatial axes, and their gradients. */
#include "base/window.h"
#include "graph/graph.h"
#include "ops/table.h"

#include <gradus/ops.h>

#include <math.h>
#include <string.h>

/* x [N,S..,C] with axes of size 1 put in front up to three. */
typedef struct geometry {
    int32_t axes;
    int64_t n, c;
    grdi_window window[GRDI_WINDOW_AXES];
    int64_t in, out; /* elements of all axes together */
} geometry;

/* From the shape of x; no check. */
static geometry geometry_of(grd_dims x, const grd_attr *attrs)
{
    geometry g = {.axes = x.rank - 2, .n = x.dim[0], .c = x.dim[x.rank - 1], .in = 1, .out = 1};
    const grd_attr *size = grdi_attr_ints(attrs, "size"), *kernel = grdi_attr_ints(attrs, "kernel");
    for (int32_t a = 0; a < GRDI_WINDOW_AXES; a++) {
        int32_t axis = a - (GRDI_WINDOW_AXES - g.axes);
        grdi_window *w = &g.window[a];
        *w = (grdi_window){1, 1, 1, 1, 0, 1};
        if (axis < 0) continue;
        w->in = x.dim[1 + axis];
        w->kernel = size->count ? 0 : grdi_window_entry(kernel, axis, 1);
        w->stride = grdi_window_entry(grdi_attr_ints(attrs, "stride"), axis, w->kernel);
        w->padding = grdi_window_entry(grdi_attr_ints(attrs, "padding"), axis, 0);
        w->dilation = grdi_window_entry(grdi_attr_ints(attrs, "dilation"), axis, 1);
        w->out = size->count ? grdi_window_entry(size, axis, 1) : grdi_window_count(w);
        g.in *= w->in;
        if (__builtin_mul_overflow(g.out, w->out, &g.out)) g.out = 0; /* the shape is refused then */
    }
    return g;
}

static grd_dims pooled_dims(const geometry *g, grd_dims x)
{
    for (int32_t axis = 0; axis < g->axes; axis++) x.dim[1 + axis] = g->window[GRDI_WINDOW_AXES - g->axes + axis].out;
    return x;
}

static bool check_lengths(grdi_infer *c, int32_t axes)
{
    static const char *const names[] = {"kernel", "stride", "padding", "dilation", "size"};
    for (int32_t i = 0; i < 5; i++) {
        const grd_attr *list = grdi_attr_ints(c->attrs, names[i]);
        if (list->count > 1 && list->count != axes)
            return grdi_infer_fail(c, GRD_E_ARGUMENT, "%s has %d entries, there are %d spatial axes", names[i],
                                   list->count, axes);
    }
    return true;
}

static bool check_lists(grdi_infer *c, int32_t axes)
{
    if (!check_lengths(c, axes)) return false;
    const grd_attr *kernel = grdi_attr_ints(c->attrs, "kernel"), *size = grdi_attr_ints(c->attrs, "size");
    if ((kernel->count > 0) != (size->count > 0)) return true;
    return grdi_infer_fail(c, GRD_E_ARGUMENT, "either kernel or (adaptive) size must be given");
}

/* Whether the windows fit x; `g` is filled. */
static bool check_geometry(grdi_infer *c, grd_dims x, geometry *g)
{
    char text[GRD_DIMS_TEXT_MAX];
    if (x.rank < 3 || x.rank > 2 + GRDI_WINDOW_AXES)
        return grdi_infer_fail(c, GRD_E_SHAPE, "x [N,S..,C] of one to three spatial axes is needed, not %s",
                               grd_dims_text(x, text));
    if (!check_lists(c, x.rank - 2)) return false;
    *g = geometry_of(x, c->attrs);
    for (int32_t a = 0; a < GRDI_WINDOW_AXES; a++) {
        const grdi_window *w = &g->window[a];
        bool adaptive = w->kernel == 0 && grdi_attr_ints(c->attrs, "size")->count;
        if (!adaptive && (w->kernel < 1 || w->stride < 1 || w->dilation < 1 || w->padding < 0))
            return grdi_infer_fail(c, GRD_E_ARGUMENT,
                                   "kernel %lld, stride %lld, dilation %lld, padding %lld: all are 1 or more, but "
                                   "padding 0",
                                   (long long)w->kernel, (long long)w->stride, (long long)w->dilation,
                                   (long long)w->padding);
        if (!adaptive && 2 * w->padding > w->kernel)
            return grdi_infer_fail(c, GRD_E_ARGUMENT, "padding %lld is more than half of kernel %lld",
                                   (long long)w->padding, (long long)w->kernel);
        if (w->out < 1 || (adaptive && w->out > w->in))
            return grdi_infer_fail(c, GRD_E_SHAPE, "no %s of %lld fits into %s", adaptive ? "size" : "kernel",
                                   (long long)(adaptive ? w->out : w->kernel), grd_dims_text(x, text));
    }
    return true;
}

/* ---- walking ---- */

/* Where an element of the window at flat output position `o` lies among the flat spatial positions of x; -1: padding */
static int64_t tap_at(const geometry *g, int64_t o, int64_t tap)
{
    int64_t at = 0, scale = 1;
    for (int32_t a = GRDI_WINDOW_AXES - 1; a >= 0; a--) {
        const grdi_window *w = &g->window[a];
        int64_t here = o % w->out, taps = grdi_window_taps(w, here), i = grdi_window_at(w, here, tap % taps);
        if (i < 0) return -1;
        at += i * scale, scale *= w->in;
        o /= w->out, tap /= taps;
    }
    return at;
}

static int64_t taps_of(const geometry *g, int64_t o)
{
    int64_t taps = 1;
    for (int32_t a = GRDI_WINDOW_AXES - 1; a >= 0; a--) {
        taps *= grdi_window_taps(&g->window[a], o % g->window[a].out);
        o /= g->window[a].out;
    }
    return taps;
}

static int64_t taps_inside(const geometry *g, int64_t o)
{
    int64_t inside = 0;
    for (int64_t tap = 0, taps = taps_of(g, o); tap < taps; tap++) inside += tap_at(g, o, tap) >= 0;
    return inside;
}

/* ---- max_pool ---- */

static bool max_pool_shape(grdi_infer *c)
{
    geometry g;
    if (!grdi_infer_float(c, 0) || !check_geometry(c, c->in[0].dims, &g)) return false;
    c->out[0] = (grdi_type){c->in[0].dtype, pooled_dims(&g, c->in[0].dims)};
    c->out[1] = (grdi_type){GRD_I32, c->out[0].dims};
    return true;
}

static void max_pool_gradient(grdi_gradient *g)
{
    static const char *const of_windows[] = {"kernel", "stride", "padding", "dilation"}; /* none of adaptive ones */
    grd_dims x = grd_tensor_dims(g->in[0]);
    grd_attr attrs[5] = {GRD_INTS("size", x.dim + 1, x.rank - 2)};
    int32_t count = 1;
    if (!g->grad_out[0].node) return;
    for (int32_t i = 0; i < 4 && grdi_attr_ints(g->attrs, "kernel")->count; i++)
        attrs[count++] = *grdi_attr_ints(g->attrs, of_windows[i]);
    g->grad_in[0] =
        grdi_emit(NULL, &grdi_op_max_pool_backward, (grd_tensor[]){g->grad_out[0], g->out[1]}, 2, attrs, count, NULL);
}

/* The first largest element of each window, and its flat spatial position; NaN is the largest. */
static void max_pool_reference(const grdi_reference *r)
{
    geometry g = geometry_of(r->in_type[0].dims, r->attrs);
    for (int64_t i = 0; i < g.n * g.out * g.c; i++) {
        int64_t n = i / g.c / g.out, o = i / g.c % g.out, c = i % g.c, best = -1;
        const double *x = r->in[0] + n * g.in * g.c + c;
        for (int64_t tap = 0, taps = taps_of(&g, o); tap < taps; tap++) {
            int64_t at = tap_at(&g, o, tap);
            if (at < 0) continue;
            if (best < 0 || x[at * g.c] > x[best * g.c] || (isnan(x[at * g.c]) && !isnan(x[best * g.c]))) best = at;
        }
        if (r->out[0]) r->out[0][i] = x[best * g.c];
        if (r->out[1]) r->out[1][i] = (double)best;
    }
}

static double window_flops(const grdi_type *in, int32_t input_count, const grdi_type *out, const grd_attr *attrs)
{
    (void)input_count;
    geometry g = geometry_of(in[0].dims, attrs);
    return (double)taps_of(&g, 0) * (double)grd_dims_count(out[0].dims);
}

#define POOL_ATTRS                                                                                                     \
    GRD_INTS("kernel", NULL, 0), GRD_INTS("stride", NULL, 0), GRD_INTS("padding", NULL, 0),                            \
        GRD_INTS("dilation", NULL, 0), GRD_INTS("size", NULL, 0)

static const grdi_sample max_pool_samples[] = {
    {.in = {"f32[2,6,4,3]"}, "kernel=2"},
    {.in = {"f32[2,7,5,3]"}, "kernel=3 stride=2 padding=1"},
    {.in = {"f32[1,7,8,2]"}, "kernel=2,3 stride=1,2 dilation=2"},
    {.in = {"f32[2,9,5]"}, "kernel=3 stride=2"},
    {.in = {"f32[1,4,3,4,2]"}, "kernel=2 stride=1"},
    {.in = {"f32[2,7,5,3]"}, "size=3,2"}, /* adaptive: windows overlap */
    {.in = {"f32[2,7,5,3]"}, "size=1"},
    {.in = {"f32[1,4,4,33] =1,0"}, "kernel=2", .no_gradient = true}, /* ties: the first one */
    {.in = {"f32[2,12,12,35]"}, "kernel=3 stride=2 padding=1", .no_gradient = true},
    {.in = {"f32[2,11,12,24]"}, "kernel=3 stride=2 padding=1", .no_gradient = true},
    {.in = {"f32[64,24,24,64]"}, "kernel=2", .large = true},
    {.in = {"f32[2,6,3]"}, "kernel=2 stride=0", .bad = "stride 0"},
    {.in = {"f32[2,6,4,3]"}, "kernel=7", .bad = "no kernel of 7 fits into [2,6,4,3]"},
    {.in = {"f32[2,6,4,3]"}, "kernel=3 padding=2", .bad = "padding 2 is more than half of kernel 3"},
    {.in = {"f32[2,6,4,3]"}, "kernel=2,2,2", .bad = "kernel has 3 entries"},
    {.in = {"f32[2,6,4,3]"}, .bad = "either kernel or (adaptive) size"},
    {.in = {"f32[2,6,4,3]"}, "size=7", .bad = "no size of 7"},
    {.in = {"f32[6,3]"}, "kernel=2", .bad = "not [6,3]"},
    {.in = {"i32[2,6,4,3]"}, "kernel=2", .bad = "float"},
    {.in = {NULL}}};

const grdi_op grdi_op_max_pool = {.name = "max_pool",
                                  .inputs = 1,
                                  .outputs = 2,
                                  .flags = GRDI_OP_FOLLOWS,
                                  .attrs = {POOL_ATTRS},
                                  .shape = max_pool_shape,
                                  .gradient = max_pool_gradient,
                                  .reference = max_pool_reference,
                                  .flops = window_flops,
                                  .samples = max_pool_samples};

/* ---- max_pool_backward: what arrives at each maximum goes to where it came from. kernel and what follows it say
 * which windows these are the maxima of, so that an element can look for its own; without them (of adaptive windows)
 * positions are all that is known ---- */

/* Whether the windows that it is told of make as many maxima of x's sizes as there are positions. */
static bool check_windows(grdi_infer *c, const grd_attr *size, grd_dims positions)
{
    const grd_attr *kernel = grdi_attr_ints(c->attrs, "kernel");
    if (kernel->count == 0) return true;
    if (size->count > GRDI_WINDOW_AXES)
        return grdi_infer_fail(c, GRD_E_SHAPE, "windows of %d axes (at most %d)", size->count, (int)GRDI_WINDOW_AXES);
    if (!check_lengths(c, size->count)) return false;
    for (int32_t axis = 0; axis < size->count; axis++) {
        grdi_window w = {.in = size->ints[axis], .kernel = grdi_window_entry(kernel, axis, 1)};
        w.stride = grdi_window_entry(grdi_attr_ints(c->attrs, "stride"), axis, w.kernel);
        w.padding = grdi_window_entry(grdi_attr_ints(c->attrs, "padding"), axis, 0);
        w.dilation = grdi_window_entry(grdi_attr_ints(c->attrs, "dilation"), axis, 1);
        bool known = w.kernel >= 1 && w.stride >= 1 && w.dilation >= 1 && w.padding >= 0 && 2 * w.padding <= w.kernel;
        if (!known || grdi_window_count(&w) != positions.dim[1 + axis])
            return grdi_infer_fail(c, GRD_E_SHAPE,
                                   "%lld positions along axis %d are not those of windows of %lld over "
                                   "%lld",
                                   (long long)positions.dim[1 + axis], 1 + axis, (long long)w.kernel, (long long)w.in);
    }
    return true;
}

static bool max_pool_backward_shape(grdi_infer *c)
{
    const grd_attr *size = grdi_attr_ints(c->attrs, "size");
    grd_dims g = c->in[0].dims;
    char a[GRD_DIMS_TEXT_MAX], b[GRD_DIMS_TEXT_MAX];
    if (!grdi_infer_float(c, 0)) return false;
    if (c->in[1].dtype != GRD_I32)
        return grdi_infer_fail(c, GRD_E_DTYPE, "positions must be i32, are %s", grd_dtype_name(c->in[1].dtype));
    if (!grd_dims_equal(g, c->in[1].dims) || g.rank < 3 || size->count != g.rank - 2)
        return grdi_infer_fail(c, GRD_E_SHAPE,
                               "a gradient [N,S..,C], as many positions and sizes are needed, not %s, "
                               "%s and %d sizes",
                               grd_dims_text(g, a), grd_dims_text(c->in[1].dims, b), size->count);
    for (int32_t axis = 0; axis < size->count; axis++)
        if (size->ints[axis] < 1)
            return grdi_infer_fail(c, GRD_E_ARGUMENT, "size %lld (must be 1 or more)", (long long)size->ints[axis]);
    if (!check_windows(c, size, g)) return false;
    for (int32_t axis = 0; axis < size->count; axis++) g.dim[1 + axis] = size->ints[axis];
    c->out[0] = (grdi_type){c->in[0].dtype, g};
    return true;
}

static int64_t spatial_count(grd_dims dims)
{
    return grd_dims_count(dims) / dims.dim[0] / dims.dim[dims.rank - 1];
}

/* [N,S..,C] as [N,S,C] */
static grd_tensor flat(grd_tensor x)
{
    grd_dims dims = grd_tensor_dims(x);
    return grd_reshape(x, grd_shape(dims.dim[0], spatial_count(dims), dims.dim[dims.rank - 1]));
}

static void max_pool_backward_gradient(grdi_gradient *g)
{
    if (!g->need[0]) return;
    grd_tensor at = grd_gather(flat(g->grad_out[0]), flat(g->in[1]), 1);
    g->grad_in[0] = grd_reshape(at, grd_tensor_dims(g->in[0]));
}

static void max_pool_backward_compose(grdi_compose *c)
{
    const grd_attr *size = grdi_attr_ints(c->attrs, "size");
    grd_dims dims = grd_tensor_dims(c->in[0]);
    for (int32_t axis = 0; axis < size->count; axis++) dims.dim[1 + axis] = size->ints[axis];
    grd_tensor none = grd_full(c->graph, grd_tensor_dtype(c->in[0]),
                               grd_shape(dims.dim[0], spatial_count(dims), dims.dim[dims.rank - 1]), 0);
    c->out[0] = grd_reshape(grd_scatter_add(none, flat(c->in[1]), flat(c->in[0]), 1), dims);
}

/* Positions that do not exist are left out. */
static void max_pool_backward_reference(const grdi_reference *r)
{
    grd_dims g = r->in_type[0].dims, x = r->out_type[0].dims;
    int64_t channels = g.dim[g.rank - 1], out = spatial_count(g), in = spatial_count(x);
    memset(r->out[0], 0, sizeof(double) * (size_t)grd_dims_count(x));
    for (int64_t i = 0; i < grd_dims_count(g); i++) {
        int64_t at = (int64_t)r->in[1][i];
        if (at >= 0 && at < in) r->out[0][(i / channels / out * in + at) * channels + i % channels] += r->in[0][i];
    }
}

static const grdi_sample max_pool_backward_samples[] = {
    {.in = {"f32[2,3,2,3]", "i32[2,3,2,3] 0..23"}, "size=6,4"},
    {.in = {"f32[2,4,5]", "i32[2,4,5] 0..8"}, "size=9"},
    {.in = {"f32[1,2,2,2,35]", "i32[1,2,2,2,35] 0..23"}, "size=3,2,4"},
    /* every element is in every window */
    {.in = {"f32[2,3,3,5]", "i32[2,3,3,5] 0..8"}, "size=3,3 kernel=5 stride=1 padding=2"},
    {.in = {"f32[2,2,3,16]", "i32[2,2,3,16] 0..8"}, "size=3,3 kernel=5,5 stride=2,1 padding=2", .no_gradient = true},
    {.in = {"f32[64,12,12,64]", "i32[64,12,12,64] 0..575"}, "size=24,24", .large = true},
    {.in = {"f32[2,3,2,3]", "i32[2,3,2,4]"}, "size=6,4", .bad = "[2,3,2,3], [2,3,2,4] and 2 sizes"},
    {.in = {"f32[2,3,2,3]", "f32[2,3,2,3]"}, "size=6,4", .bad = "positions must be i32"},
    {.in = {"f32[2,3,2,3]", "i32[2,3,2,3]"}, "size=6,0", .bad = "size 0"},
    {.in = {"f32[2,1,1,1,1,3]", "i32[2,1,1,1,1,3]"}, "size=6,4,2,2 kernel=2", .bad = "windows of 4 axes (at most 3)"},
    {.in = {"f32[2,3,2,3]", "i32[2,3,2,3]"}, "size=6,4 kernel=2,2,2", .bad = "kernel has 3 entries"},
    {.in = {"f32[2,3,2,3]", "i32[2,3,2,3]"},
     "size=6,4 kernel=3",
     .bad = "3 positions along axis 1 are not those of windows of 3 over 6"},
    {.in = {"f32[2,3,2,3]", "i32[2,3,2,3]"}, "size=6,4 kernel=2 stride=0", .bad = "3 positions along axis 1"},
    {.in = {NULL}}};

const grdi_op grdi_op_max_pool_backward = {.name = "max_pool_backward",
                                           .inputs = 2,
                                           .flags = GRDI_OP_FOLLOWS,
                                           .attrs = {GRD_INTS("size", NULL, 0), GRD_INTS("kernel", NULL, 0),
                                                     GRD_INTS("stride", NULL, 0), GRD_INTS("padding", NULL, 0),
                                                     GRD_INTS("dilation", NULL, 0)},
                                           .shape = max_pool_backward_shape,
                                           .gradient = max_pool_backward_gradient,
                                           .compose = max_pool_backward_compose,
                                           .reference = max_pool_backward_reference,
                                           .samples = max_pool_backward_samples};

/* ---- average_pool and its adjoint ---- */

static bool average_pool_shape(grdi_infer *c)
{
    geometry g;
    if (!grdi_infer_float(c, 0) || !check_geometry(c, c->in[0].dims, &g)) return false;
    c->out[0] = (grdi_type){c->in[0].dtype, pooled_dims(&g, c->in[0].dims)};
    return true;
}

/* What a window is divided by. */
static double divisor(const geometry *g, const grd_attr *attrs, int64_t o)
{
    return (double)(grdi_attr_int(attrs, "exclude_padding") ? taps_inside(g, o) : taps_of(g, o));
}

/* Each window's elements divided by their count: y += x (forward) or gx += g (backward). */
static void spread(const geometry *g, const grd_attr *attrs, const double *x, const double *gy, double *y, double *gx)
{
    for (int64_t i = 0; i < g->n * g->out * g->c; i++) {
        int64_t n = i / g->c / g->out, o = i / g->c % g->out, c = i % g->c;
        double part = 1 / divisor(g, attrs, o);
        for (int64_t tap = 0, taps = taps_of(g, o); tap < taps; tap++) {
            int64_t at = tap_at(g, o, tap), xi = (n * g->in + at) * g->c + c;
            if (at >= 0 && y) y[i] += x[xi] * part;
            if (at >= 0 && gx) gx[xi] += gy[i] * part;
        }
    }
}

static void average_pool_gradient(grdi_gradient *g)
{
    grd_attr attrs[GRDI_ATTRS_MAX];
    int32_t count = 0;
    for (; g->attrs[count].name; count++) attrs[count] = g->attrs[count];
    grd_dims x = grd_tensor_dims(g->in[0]);
    attrs[count++] = (grd_attr)GRD_INTS("input", x.dim + 1, x.rank - 2);
    g->grad_in[0] = grdi_emit(NULL, &grdi_op_average_pool_backward, &g->grad_out[0], 1, attrs, count, NULL);
}

static void average_pool_reference(const grdi_reference *r)
{
    geometry g = geometry_of(r->in_type[0].dims, r->attrs);
    memset(r->out[0], 0, sizeof(double) * (size_t)grd_dims_count(r->out_type[0].dims));
    spread(&g, r->attrs, r->in[0], NULL, r->out[0], NULL);
}

static const grdi_sample average_pool_samples[] = {
    {.in = {"f32[2,6,4,3]"}, "kernel=2"},
    {.in = {"f32[2,7,5,3]"}, "kernel=3 stride=2 padding=1"},
    {.in = {"f32[2,7,5,3]"}, "kernel=3 stride=2 padding=1 exclude_padding=true"},
    {.in = {"f32[1,7,8,2]"}, "kernel=2,3 stride=1,2"},
    {.in = {"f32[2,9,5]"}, "kernel=3 stride=2"},
    {.in = {"f32[1,4,3,4,2]"}, "kernel=2 stride=1"},
    {.in = {"f32[2,7,5,3]"}, "size=3,2"},
    {.in = {"f32[2,7,5,3]"}, "size=1"},
    {.in = {"f32[2,12,12,35]"}, "kernel=3 stride=2 padding=1", .no_gradient = true},
    {.in = {"f32[2,11,12,24]"}, "kernel=3 stride=2 padding=1", .no_gradient = true},
    {.in = {"f32[32,32,32,64]"}, "kernel=2", .large = true},
    {.in = {"f32[2,6,4,3]"}, "kernel=7", .bad = "no kernel of 7"},
    {.in = {"f32[2,6,4,3]"}, "kernel=2 stride=-1", .bad = "stride -1"},
    {.in = {"f32[2,6,4,3]"}, .bad = "either kernel or (adaptive) size"},
    {.in = {"i32[2,6,4,3]"}, "kernel=2", .bad = "float"},
    {.in = {NULL}}};

const grdi_op grdi_op_average_pool = {.name = "average_pool",
                                      .inputs = 1,
                                      .flags = GRDI_OP_FOLLOWS,
                                      .attrs = {POOL_ATTRS, GRD_FLAG("exclude_padding", false)},
                                      .shape = average_pool_shape,
                                      .gradient = average_pool_gradient,
                                      .reference = average_pool_reference,
                                      .flops = window_flops,
                                      .samples = average_pool_samples};

/* The shape of x that `input` tells. */
static grd_dims unpooled_dims(grd_dims g, const grd_attr *attrs)
{
    const grd_attr *input = grdi_attr_ints(attrs, "input");
    for (int32_t axis = 0; axis < input->count && axis < g.rank - 2; axis++) g.dim[1 + axis] = input->ints[axis];
    return g;
}

static bool average_pool_backward_shape(grdi_infer *c)
{
    geometry g;
    const grd_attr *input = grdi_attr_ints(c->attrs, "input");
    char a[GRD_DIMS_TEXT_MAX], b[GRD_DIMS_TEXT_MAX];
    grd_dims x = unpooled_dims(c->in[0].dims, c->attrs);
    if (!grdi_infer_float(c, 0)) return false;
    if (input->count != x.rank - 2)
        return grdi_infer_fail(c, GRD_E_ARGUMENT, "input has %d entries for a gradient %s", input->count,
                               grd_dims_text(c->in[0].dims, a));
    for (int32_t axis = 0; axis < input->count; axis++)
        if (input->ints[axis] < 1)
            return grdi_infer_fail(c, GRD_E_ARGUMENT, "input size %lld (must be 1 or more)",
                                   (long long)input->ints[axis]);
    if (!check_geometry(c, x, &g)) return false;
    if (!grd_dims_equal(pooled_dims(&g, x), c->in[0].dims))
        return grdi_infer_fail(c, GRD_E_SHAPE, "gradient is %s, the pool gives %s", grd_dims_text(c->in[0].dims, a),
                               grd_dims_text(pooled_dims(&g, x), b));
    c->out[0] = (grdi_type){c->in[0].dtype, x};
    return true;
}

static void average_pool_backward_gradient(grdi_gradient *g)
{
    grd_attr attrs[GRDI_ATTRS_MAX];
    int32_t count = 0;
    for (; strcmp(g->attrs[count].name, "input") != 0; count++) attrs[count] = g->attrs[count];
    g->grad_in[0] = grdi_emit(NULL, &grdi_op_average_pool, &g->grad_out[0], 1, attrs, count, NULL);
}

static void average_pool_backward_reference(const grdi_reference *r)
{
    geometry g = geometry_of(r->out_type[0].dims, r->attrs);
    memset(r->out[0], 0, sizeof(double) * (size_t)grd_dims_count(r->out_type[0].dims));
    spread(&g, r->attrs, NULL, r->in[0], NULL, r->out[0]);
}

static double unpool_flops(const grdi_type *in, int32_t input_count, const grdi_type *out, const grd_attr *attrs)
{
    return window_flops(out, input_count, in, attrs);
}

static const grdi_sample average_pool_backward_samples[] = {
    {.in = {"f32[2,3,2,3]"}, "kernel=2 input=6,4"},
    {.in = {"f32[2,4,3,3]"}, "kernel=3 stride=2 padding=1 input=7,5"},
    {.in = {"f32[2,4,3,3]"}, "kernel=3 stride=2 padding=1 exclude_padding=true input=7,5"},
    {.in = {"f32[2,4,5]"}, "kernel=3 stride=2 input=9"},
    {.in = {"f32[2,3,2,3]"}, "size=3,2 input=7,5"},
    {.in = {"f32[2,6,6,35]"}, "kernel=3 stride=2 padding=1 input=12,12", .no_gradient = true},
    {.in = {"f32[32,16,16,64]"}, "kernel=2 input=32,32", .large = true},
    {.in = {"f32[2,3,2,3]"}, "kernel=2 input=6", .bad = "input has 1 entries"},
    {.in = {"f32[2,3,2,3]"}, "kernel=2 input=8,4", .bad = "the pool gives [2,4,2,3]"},
    {.in = {"f32[2,3,2,3]"}, "kernel=2 input=0,4", .bad = "input size 0"},
    {.in = {NULL}}};

const grdi_op grdi_op_average_pool_backward = {
    .name = "average_pool_backward",
    .inputs = 1,
    .flags = GRDI_OP_FOLLOWS,
    .attrs = {POOL_ATTRS, GRD_FLAG("exclude_padding", false), GRD_INTS("input", NULL, 0)},
    .shape = average_pool_backward_shape,
    .gradient = average_pool_backward_gradient,
    .reference = average_pool_backward_reference,
    .flops = unpool_flops,
    .samples = average_pool_backward_samples};

/* ---- calls ---- */

static grd_tensor pool(const grdi_op *op, grd_tensor x, int64_t kernel, const grd_pool_options *o)
{
    static const char *const names[] = {"kernel", "stride", "padding"};
    const int64_t *each[] = {o->kernels, o->strides, o->paddings}, *all[] = {&kernel, &o->stride, &o->padding};
    int32_t axes = grd_tensor_dims(x).rank - 2, count = 0;
    grd_attr attrs[5];
    if (axes < 0 || axes > GRDI_WINDOW_AXES) axes = 0; /* the shape rule refuses x */
    for (int32_t i = 0; i < 3; i++)
        attrs[count++] =
            (grd_attr)GRD_INTS(names[i], each[i] ? each[i] : all[i], each[i] ? axes : i == 0 || *all[i] != 0);
    if (o->dilation) attrs[count++] = (grd_attr)GRD_INTS("dilation", &o->dilation, 1);
    if (o->exclude_padding) attrs[count++] = (grd_attr)GRD_FLAG("exclude_padding", true);
    return grdi_emit(NULL, op, &x, 1, attrs, count, NULL);
}

grd_tensor grd_max_pool_with(grd_tensor x, int64_t kernel, const grd_pool_options *options)
{
    options = options ? options : &(const grd_pool_options){.size = sizeof(grd_pool_options)};
    return pool(&grdi_op_max_pool, x, kernel, options);
}

grd_tensor grd_average_pool_with(grd_tensor x, int64_t kernel, const grd_pool_options *options)
{
    options = options ? options : &(const grd_pool_options){.size = sizeof(grd_pool_options)};
    return pool(&grdi_op_average_pool, x, kernel, options);
}

static grd_tensor adaptive(const grdi_op *op, grd_tensor x, const int64_t *sizes)
{
    int32_t axes = grd_tensor_dims(x).rank - 2;
    grd_attr size = GRD_INTS("size", sizes, axes > 0 && axes <= GRDI_WINDOW_AXES ? axes : 0);
    return grdi_emit(NULL, op, &x, 1, &size, 1, NULL);
}

grd_tensor grd_adaptive_max_pool(grd_tensor x, const int64_t *sizes)
{
    return adaptive(&grdi_op_max_pool, x, sizes);
}

grd_tensor grd_adaptive_average_pool(grd_tensor x, const int64_t *sizes)
{
    return adaptive(&grdi_op_average_pool, x, sizes);
}

grd_tensor grd_global_average_pool(grd_tensor x)
{
    grd_dims dims = grd_tensor_dims(x);
    int64_t axes[GRD_RANK_MAX];
    int32_t count = 0;
    for (int32_t axis = 1; axis < dims.rank - 1; axis++) axes[count++] = axis;
    return count ? grd_mean_axes(x, axes, count, false) : adaptive(&grdi_op_average_pool, x, NULL);
}
