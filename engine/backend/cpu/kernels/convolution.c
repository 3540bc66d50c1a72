/* convolution.c - convolutions and their gradients: 3x3 by minimal filtering (winograd.c) where that is faster, others
 * by oneDNN where it is there, else as products with a matrix whose rows are the windows, [windows, channels x taps]
 * (im2col), made for a block of windows at a time. */
#include "backend/cpu/convolution.h"

#include "backend/cpu/kernels/run.h"
#include "backend/cpu/kernels/winograd.h"
#include "backend/cpu/onednn.h"
#include "backend/cpu/parallel.h"
#include "base/memory.h"

/* Of fewer products, on Zen 4: what they save must pay for their transforms, and in bf16 for pairs that are not used.
 */
#define GAIN_LEAST 1.5
#define GAIN_LEAST_PAIRS 2.8
#define FILTERED_RATE 0.75 /* of products in f32 */

enum {
    SOME = 32,
    MANY = 256,            /* channels */
    BLOCK_BYTES = 4 << 20, /* of window rows at a time */
    PARALLEL = 16384       /* elements that pay for another thread */
};

typedef struct convolution_state {
    grdi_convolution what;
    bool filtered;                    /* by winograd.c */
    double gain;                      /* plain products for each of its */
    grdi_onednn_convolution *library; /* NULL: our own loops */
    int64_t taps, inputs, outputs;    /* inputs and outputs are channels of one group */
    int64_t in, out;                  /* positions of a sample */
    int64_t windows;                  /* of all samples; for the gradient by x, of one */
    int64_t block;                    /* windows at a time */
    size_t columns_bytes, sums_bytes, filters_bytes;
    void *columns; /* in scratch: windows' rows, of x's type or, for the gradient by x, f32 */
    float *sums;   /* gradient of a sample's x */
    void *filters; /* [O,K..,C/groups], as rows of windows lie; or the sums of their gradients, f32 */
    void *gemm;
    grdi_convolution_data data;
} convolution_state;

/* What one parallel loop is about. */
typedef struct piece {
    const convolution_state *s;
    int64_t sample, group, first; /* first window of the block */
} piece;

/* ---- geometry ---- */

static grdi_convolution describe(const grdi_call *call, grdi_convolution_kind kind, const grdi_view *x,
                                 const grdi_view *w, const grdi_view *y)
{
    grdi_convolution c = {.kind = kind, .axes = x->dims.rank - 2, .n = x->dims.dim[0], .o = w->dims.dim[0]};
    c.c = x->dims.dim[x->dims.rank - 1];
    c.groups = grdi_attr_int(call->attrs, "groups");
    c.x_type = x->dtype, c.w_type = w->dtype, c.y_type = y->dtype;
    for (int32_t a = 0; a < GRDI_WINDOW_AXES; a++) {
        int32_t axis = a - (GRDI_WINDOW_AXES - c.axes);
        grdi_window *window = &c.window[a];
        *window = (grdi_window){1, 1, 1, 1, 0, 1};
        if (axis < 0) continue;
        window->in = x->dims.dim[1 + axis];
        window->out = y->dims.dim[1 + axis];
        window->kernel = w->dims.dim[2 + axis];
        window->stride = grdi_window_entry(grdi_attr_ints(call->attrs, "stride"), axis, 1);
        window->padding = grdi_window_entry(grdi_attr_ints(call->attrs, "padding"), axis, 0);
        window->dilation = grdi_window_entry(grdi_attr_ints(call->attrs, "dilation"), axis, 1);
    }
    return c;
}

/* Where tap `tap` of window `o` lies among the positions of a sample; -1 in the padding. */
static int64_t tap_at(const grdi_convolution *c, int64_t o, int64_t tap)
{
    const grdi_window *w = c->window;
    int64_t i2 = grdi_window_at(&w[2], o % w[2].out, tap % w[2].kernel);
    int64_t i1 = grdi_window_at(&w[1], o / w[2].out % w[1].out, tap / w[2].kernel % w[1].kernel);
    int64_t i0 = grdi_window_at(&w[0], o / w[2].out / w[1].out, tap / w[2].kernel / w[1].kernel);
    return i0 < 0 || i1 < 0 || i2 < 0 ? -1 : (i0 * w[1].in + i1) * w[2].in + i2;
}

/* ---- windows as rows ---- */

static void *element(void *data, grd_dtype type, int64_t offset)
{
    return (char *)data + offset * (int64_t)grd_dtype_size(type);
}

/* Row of a window: tap by tap, its channels, as they lie in x; zeros in the padding. */
static void gather_row(const piece *p, int64_t window, char *to)
{
    const convolution_state *s = p->s;
    const grdi_convolution *c = &s->what;
    const grdi_window *w = c->window;
    int64_t o = window % s->out, o2 = o % w[2].out, o1 = o / w[2].out % w[1].out, o0 = o / w[2].out / w[1].out;
    size_t run = (size_t)s->inputs * grd_dtype_size(c->x_type);
    for (int64_t k0 = 0; k0 < w[0].kernel; k0++)
        for (int64_t k1 = 0; k1 < w[1].kernel; k1++)
            for (int64_t k2 = 0; k2 < w[2].kernel; k2++, to += run) {
                int64_t i0 = grdi_window_at(&w[0], o0, k0), i1 = grdi_window_at(&w[1], o1, k1);
                int64_t i2 = grdi_window_at(&w[2], o2, k2), at = (i0 * w[1].in + i1) * w[2].in + i2;
                if (i0 < 0 || i1 < 0 || i2 < 0) memset(to, 0, run);
                else
                    memcpy(to,
                           element(s->data.x, c->x_type, (window / s->out * s->in + at) * c->c + p->group * s->inputs),
                           run);
            }
}

static void gather_rows(int64_t begin, int64_t end, int32_t thread, void *context)
{
    const piece *p = context;
    const convolution_state *s = p->s;
    int64_t width = s->inputs * s->taps;
    (void)thread;
    for (int64_t row = begin; row < end; row++)
        gather_row(p, p->first + row, element(s->columns, s->what.x_type, row * width));
}

/* The reverse, added up over the windows that an element is in: threads take channels of the group. */
static void scatter_channels(int64_t begin, int64_t end, int32_t thread, void *context)
{
    const piece *p = context;
    const convolution_state *s = p->s;
    (void)thread;
    int64_t rows = s->out - p->first < s->block ? s->out - p->first : s->block;
    for (int64_t row = 0; row < rows; row++) {
        const float *from = (const float *)s->columns + row * s->inputs * s->taps;
        for (int64_t tap = 0; tap < s->taps; tap++) {
            int64_t at = tap_at(&s->what, p->first + row, tap);
            float *to = s->sums + at * s->what.c + p->group * s->inputs;
            for (int64_t i = begin; at >= 0 && i < end; i++) to[i] += from[tap * s->inputs + i];
        }
    }
}

/* ---- filters, of which a row of a window has the taps outermost ---- */

static void turn_in(int64_t begin, int64_t end, int32_t thread, void *context)
{
    const convolution_state *s = context;
    const int64_t width = s->inputs * s->taps;
    (void)thread;
    for (int64_t o = begin; o < end; o++)
        for (int64_t tap = 0; tap < s->taps; tap++)
            for (int64_t i = 0; i < s->inputs; i++) {
                int64_t to = o * width + tap * s->inputs + i, from = o * width + i * s->taps + tap;
                if (s->what.w_type == GRD_F32) ((float *)s->filters)[to] = ((const float *)s->data.w)[from];
                else ((uint16_t *)s->filters)[to] = ((const uint16_t *)s->data.w)[from];
            }
}

/* The reverse, of gradients. */
static void turn_out(int64_t begin, int64_t end, int32_t thread, void *context)
{
    const convolution_state *s = context;
    const int64_t width = s->inputs * s->taps;
    (void)thread;
    for (int64_t o = begin; o < end; o++) {
        const float *from = (const float *)s->filters + o * width;
        float *to = (float *)s->data.w + o * width;
        for (int64_t i = 0; i < s->inputs; i++)
            for (int64_t tap = 0; tap < s->taps; tap++)
                to[i * s->taps + tap] = from[tap * s->inputs + i] + (s->data.add ? to[i * s->taps + tap] : 0.0f);
    }
}

/* ---- our own loops: for each group and block of windows one product ---- */

/* That product for a block of `rows` windows, without pointers (a bias that is not NULL says that there is one):
 * y = columns w^T + bias, columns = y w, w += y^T columns. */
static grdi_gemm product_of(const convolution_state *s, int64_t rows)
{
    const grdi_convolution *c = &s->what;
    int64_t width = s->inputs * s->taps;
    if (c->kind == GRDI_CONVOLUTION)
        return (grdi_gemm){.m = rows,
                           .n = s->outputs,
                           .k = width,
                           .a_row = width,
                           .a_col = 1,
                           .b_row = 1,
                           .b_col = width,
                           .c_row = c->o,
                           .y_row = c->o,
                           .a_type = c->x_type,
                           .b_type = c->w_type,
                           .c_type = c->y_type,
                           .bias = c->has_bias ? s : NULL,
                           .bias_type = c->bias_type};
    if (c->kind == GRDI_CONVOLUTION_INPUT_GRADIENT)
        return (grdi_gemm){.m = rows,
                           .n = width,
                           .k = s->outputs,
                           .a_row = c->o,
                           .a_col = 1,
                           .b_row = width,
                           .b_col = 1,
                           .c_row = width,
                           .y_row = width,
                           .a_type = c->y_type,
                           .b_type = c->w_type,
                           .c_type = GRD_F32,
                           .bias_type = GRD_F32};
    return (grdi_gemm){.m = s->outputs,
                       .n = width,
                       .k = rows,
                       .a_row = 1,
                       .a_col = c->o,
                       .b_row = width,
                       .b_col = 1,
                       .c_row = width,
                       .y_row = width,
                       .a_type = c->y_type,
                       .b_type = c->x_type,
                       .c_type = GRD_F32,
                       .bias_type = GRD_F32,
                       .add = true};
}

static void run_block(const convolution_state *s, piece *p, int64_t rows, int32_t threads)
{
    const grdi_convolution *c = &s->what;
    int64_t first = p->group * s->outputs, width = s->inputs * s->taps;
    void *y = element(s->data.y, c->y_type, (p->sample * s->windows + p->first) * c->o + first);
    void *w = element(s->filters, c->w_type, first * width);
    grdi_gemm g = product_of(s, rows);
    if (c->kind != GRDI_CONVOLUTION_INPUT_GRADIENT)
        grdi_parallel_for(threads, rows, PARALLEL / width + 1, gather_rows, p);
    if (c->kind == GRDI_CONVOLUTION) {
        g.a = s->columns, g.b = w, g.c = y;
        g.bias = c->has_bias ? element(s->data.bias, c->bias_type, first) : NULL;
    } else if (c->kind == GRDI_CONVOLUTION_INPUT_GRADIENT) {
        g.a = y, g.b = w, g.c = s->columns;
    } else {
        g.a = y, g.b = s->columns, g.c = w;
    }
    GRDI_ISA_NAME(grdi_gemm_all)(&g, threads, s->gemm);
    if (c->kind == GRDI_CONVOLUTION_INPUT_GRADIENT)
        grdi_parallel_for(threads, s->inputs, PARALLEL / (rows * s->taps) + 1, scatter_channels, p);
}

/* One sample's gradient from the sums. */
static void store_sums(const convolution_state *s, int64_t sample)
{
    int64_t count = s->in * s->what.c;
    grdi_run_store(element(s->data.x, s->what.x_type, sample * count), s->what.x_type, 1, s->sums, count, false);
}

static void run_own(const convolution_state *s, int32_t threads)
{
    const grdi_convolution_kind kind = s->what.kind;
    const int64_t grain = PARALLEL / (s->inputs * s->taps) + 1;
    if (kind == GRDI_CONVOLUTION_WEIGHT_GRADIENT) memset(s->filters, 0, s->filters_bytes);
    else grdi_parallel_for(threads, s->what.o, grain, turn_in, (void *)s);
    for (int64_t sample = 0; sample < s->what.n * s->out / s->windows; sample++) {
        if (kind == GRDI_CONVOLUTION_INPUT_GRADIENT) memset(s->sums, 0, (size_t)(s->in * s->what.c) * sizeof(float));
        for (int64_t group = 0; group < s->what.groups; group++)
            for (int64_t first = 0; first < s->windows; first += s->block) {
                piece p = {s, sample, group, first};
                run_block(s, &p, s->windows - first < s->block ? s->windows - first : s->block, threads);
            }
        if (kind == GRDI_CONVOLUTION_INPUT_GRADIENT) store_sums(s, sample);
    }
    if (kind == GRDI_CONVOLUTION_WEIGHT_GRADIENT) grdi_parallel_for(threads, s->what.o, grain, turn_out, (void *)s);
}

/* ---- the kernels ---- */

static size_t lines(size_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

/* Our own loops' scratch: columns, sums of a sample, filters, what the product needs for whole blocks and for the last
 * one. */
static size_t own_scratch(convolution_state *s, int32_t threads)
{
    bool by_x = s->what.kind == GRDI_CONVOLUTION_INPUT_GRADIENT;
    int64_t width = s->inputs * s->taps;
    int64_t size = (int64_t)grd_dtype_size(by_x ? GRD_F32 : s->what.x_type);
    int64_t whole = BLOCK_BYTES / (width * size) + 1;
    s->windows = by_x ? s->out : s->what.n * s->out;
    s->block = whole < s->windows ? whole : s->windows;
    grdi_gemm g = product_of(s, s->block), last = product_of(s, s->windows % s->block ? s->windows % s->block : 1);
    size_t a = GRDI_ISA_NAME(grdi_gemm_all_scratch)(&g, threads);
    size_t b = GRDI_ISA_NAME(grdi_gemm_all_scratch)(&last, threads);
    s->columns_bytes = lines((size_t)(s->block * width * size));
    s->filters_bytes = lines((size_t)(s->what.o * width) * grd_dtype_size(s->what.w_type));
    if (by_x) s->sums_bytes = lines((size_t)(s->in * s->what.c) * sizeof(float));
    return s->columns_bytes + s->sums_bytes + s->filters_bytes + (a > b ? a : b);
}

/* Whether our own ways beat the library's. In f32 fewer products do; its products of bf16 are at their full rate but
 * for gradients of many weights and of windows that lie apart. */
static bool beats_library(const grdi_convolution *c, double gain)
{
    if (c->x_type != GRD_BF16) return gain >= GAIN_LEAST;
    if (grdi_onednn_has_amx()) return false;
    if (gain >= (GRDI_PAIRS ? GAIN_LEAST_PAIRS : GAIN_LEAST)) return true;
    if (c->kind != GRDI_CONVOLUTION_WEIGHT_GRADIENT) return false;
    bool apart = c->window[GRDI_WINDOW_AXES - 1].stride > 1 && c->groups == 1;
    return gain >= GAIN_LEAST ? c->c >= MANY : GRDI_PAIRS && apart && c->c >= SOME;
}

static grd_status prepare(grdi_call *call, grd_error *error, grdi_convolution what)
{
    convolution_state *s = grdi_alloc_zero(1, sizeof *s);
    if (!s) return grd_fail(error, GRD_E_MEMORY, "%s: out of memory", call->op->name);
    call->state = s;
    s->taps = s->in = s->out = 1;
    for (int32_t a = 0; a < GRDI_WINDOW_AXES; a++) {
        s->taps *= what.window[a].kernel;
        s->in *= what.window[a].in;
        s->out *= what.window[a].out;
    }
    s->inputs = what.c / what.groups, s->outputs = what.o / what.groups;
    s->what = what;
    s->gain = GRDI_ISA_NAME(grdi_winograd_gain)(&what);
    s->library = beats_library(&what, s->gain) ? NULL : grdi_onednn_convolution_new(&what);
    s->filtered = s->gain >= GAIN_LEAST && !s->library;
    call->scratch_bytes = s->filtered  ? GRDI_ISA_NAME(grdi_winograd_scratch)(&what, call->threads)
                          : s->library ? grdi_onednn_convolution_scratch(s->library)
                                       : own_scratch(s, call->threads);
    return GRD_OK;
}

static grd_status forward_prepare(grdi_call *call, grd_error *error)
{
    grdi_convolution c = describe(call, GRDI_CONVOLUTION, &call->in[0], &call->in[1], &call->out[0]);
    c.has_bias = call->input_count == 3;
    c.bias_type = c.has_bias ? call->in[2].dtype : GRD_F32;
    return prepare(call, error, c);
}

static grd_status input_gradient_prepare(grdi_call *call, grd_error *error)
{
    return prepare(call, error,
                   describe(call, GRDI_CONVOLUTION_INPUT_GRADIENT, &call->out[0], &call->in[1], &call->in[0]));
}

static grd_status weight_gradient_prepare(grdi_call *call, grd_error *error)
{
    grdi_convolution c = describe(call, GRDI_CONVOLUTION_WEIGHT_GRADIENT, &call->in[1], &call->out[0], &call->in[0]);
    c.add = call->may_accumulate[0];
    return prepare(call, error, c);
}

static grd_status run(grdi_call *call)
{
    convolution_state *s = call->state;
    const void *in[] = {call->in[0].data, call->in[1].data, call->input_count == 3 ? call->in[2].data : NULL};
    void *out = call->out[0].data, *a = (void *)in[0], *b = (void *)in[1];
    if (!out) return GRD_OK;
    if (s->what.kind == GRDI_CONVOLUTION)
        s->data = (grdi_convolution_data){.x = a, .w = b, .y = out, .bias = (void *)in[2]};
    else if (s->what.kind == GRDI_CONVOLUTION_INPUT_GRADIENT)
        s->data = (grdi_convolution_data){.x = out, .w = b, .y = a};
    else s->data = (grdi_convolution_data){.x = b, .w = out, .y = a, .add = call->accumulate[0]};
    if (s->filtered) {
        GRDI_ISA_NAME(grdi_winograd)(&s->what, &s->data, call->threads, call->scratch);
        return GRD_OK;
    }
    if (s->library) return grdi_onednn_convolution_run(s->library, &s->data, call->scratch);
    s->columns = call->scratch;
    s->sums = (float *)((char *)call->scratch + s->columns_bytes);
    s->filters = (char *)s->sums + s->sums_bytes;
    s->gemm = (char *)s->filters + s->filters_bytes;
    run_own(s, call->threads);
    return GRD_OK;
}

static void release(grdi_call *call)
{
    convolution_state *s = call->state;
    if (s) grdi_onednn_convolution_free(s->library);
    grdi_free(s);
    call->state = NULL;
}

static bool is_float(grd_dtype dtype)
{
    return dtype == GRD_F32 || dtype == GRD_BF16;
}

static bool supports(const grdi_call *call)
{
    bool fits = is_float(call->out[0].dtype);
    for (int32_t i = 0; i < call->input_count; i++) fits &= is_float(call->in[i].dtype);
    return fits;
}

/* Gradients of weights are sums in f32. */
static bool weight_gradient_supports(const grdi_call *call)
{
    return supports(call) && call->out[0].dtype == GRD_F32;
}

/* What fewer products are worth, less the transforms around them. */
static double rate_part_of(const grdi_call *call)
{
    const convolution_state *s = call->state;
    double pairs = GRDI_PAIRS && call->in[0].dtype == GRD_BF16 ? 2 : 1; /* the device's rate is that of bf16 */
    return s && s->filtered ? FILTERED_RATE * s->gain / pairs : 0;
}

static const grdi_kernel forward = {.op = "convolution",
                                    .supports = supports,
                                    .prepare = forward_prepare,
                                    .run = run,
                                    .release = release,
                                    .rate_part_of = rate_part_of};
static const grdi_kernel input_gradient = {.op = "convolution_input_gradient",
                                           .supports = supports,
                                           .prepare = input_gradient_prepare,
                                           .run = run,
                                           .release = release,
                                           .rate_part_of = rate_part_of};
static const grdi_kernel weight_gradient = {.op = "convolution_weight_gradient",
                                            .accumulates = 1,
                                            .supports = weight_gradient_supports,
                                            .prepare = weight_gradient_prepare,
                                            .run = run,
                                            .release = release,
                                            .rate_part_of = rate_part_of};

const grdi_kernel *const GRDI_ISA_TABLE(convolution)[] = {&forward, &input_gradient, &weight_gradient, NULL};
