/* convolution.c - convolutions and their gradients: 3x3 by minimal filtering (winograd.c) where that is faster, others
 * by oneDNN where it is there, else as products with a matrix whose rows are the windows, [windows, channels x taps]
 * (im2col), made for a block of windows at a time. */
#include "backend/cpu/convolution.h"

#include "backend/cpu/kernels/run.h"
#include "backend/cpu/kernels/winograd.h"
#include "backend/cpu/onednn.h"
#include "backend/cpu/parallel.h"
#include "base/memory.h"

#define FILTERED_RATE 1.7 /* of products in f32, on Zen 4 */

enum {
    MANY = 256,               /* channels */
    BLOCK_FLOATS = 512 << 10, /* of window rows at a time */
    PARALLEL = 16384          /* elements that pay for another thread */
};

typedef struct convolution_state {
    grdi_convolution what;
    bool filtered;                    /* by winograd.c */
    grdi_onednn_convolution *library; /* NULL: our own loops */
    int64_t taps, inputs, outputs;    /* inputs and outputs are channels of one group */
    int64_t in, out;                  /* positions of a sample */
    int64_t block;                    /* windows at a time */
    size_t columns_bytes, sums_bytes;
    float *columns, *sums; /* in scratch: windows' rows; gradient of a sample's x */
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

/* Row of window `o`: channel by channel, its taps, as a filter of the weight lies. */
static void gather_rows(int64_t begin, int64_t end, int32_t thread, void *context)
{
    const piece *p = context;
    const convolution_state *s = p->s;
    const grdi_convolution *c = &s->what;
    (void)thread;
    for (int64_t row = begin; row < end; row++) {
        float *to = s->columns + row * s->inputs * s->taps;
        for (int64_t tap = 0; tap < s->taps; tap++) {
            int64_t at = tap_at(c, p->first + row, tap);
            int64_t from = (p->sample * s->in + at) * c->c + p->group * s->inputs;
            for (int64_t i = 0; i < s->inputs; i++)
                to[i * s->taps + tap] = at < 0 ? 0 : grdi_run_get(s->data.x, c->x_type, from + i);
        }
    }
}

/* The reverse, added up over the windows that an element is in: threads take channels of the group. */
static void scatter_channels(int64_t begin, int64_t end, int32_t thread, void *context)
{
    const piece *p = context;
    const convolution_state *s = p->s;
    (void)thread;
    int64_t rows = s->out - p->first < s->block ? s->out - p->first : s->block;
    for (int64_t row = 0; row < rows; row++) {
        const float *from = s->columns + row * s->inputs * s->taps;
        for (int64_t tap = 0; tap < s->taps; tap++) {
            int64_t at = tap_at(&s->what, p->first + row, tap);
            float *to = s->sums + at * s->what.c + p->group * s->inputs;
            for (int64_t i = begin; at >= 0 && i < end; i++) to[i] += from[i * s->taps + tap];
        }
    }
}

static void *element(void *data, grd_dtype type, int64_t offset)
{
    return (char *)data + offset * (int64_t)grd_dtype_size(type);
}

/* ---- our own loops: for each sample, group and block of windows one product ---- */

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
                           .a_type = GRD_F32,
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
                       .b_type = GRD_F32,
                       .c_type = GRD_F32,
                       .bias_type = GRD_F32,
                       .add = true};
}

static void run_block(const convolution_state *s, piece *p, int64_t rows, int32_t threads)
{
    const grdi_convolution *c = &s->what;
    int64_t first = p->group * s->outputs, width = s->inputs * s->taps;
    void *y = element(s->data.y, c->y_type, (p->sample * s->out + p->first) * c->o + first);
    void *w = element(s->data.w, c->w_type, first * width);
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
    grdi_convolution_kind kind = s->what.kind;
    if (kind == GRDI_CONVOLUTION_WEIGHT_GRADIENT && !s->data.add)
        memset(s->data.w, 0, (size_t)(s->what.o * s->inputs * s->taps) * sizeof(float));
    for (int64_t sample = 0; sample < s->what.n; sample++) {
        if (kind == GRDI_CONVOLUTION_INPUT_GRADIENT) memset(s->sums, 0, (size_t)(s->in * s->what.c) * sizeof(float));
        for (int64_t group = 0; group < s->what.groups; group++)
            for (int64_t first = 0; first < s->out; first += s->block) {
                piece p = {s, sample, group, first};
                run_block(s, &p, s->out - first < s->block ? s->out - first : s->block, threads);
            }
        if (kind == GRDI_CONVOLUTION_INPUT_GRADIENT) store_sums(s, sample);
    }
}

/* ---- the kernels ---- */

static size_t lines(size_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

/* Our own loops' scratch: columns, sums of a sample, what the product needs for whole blocks and for the last one. */
static size_t own_scratch(convolution_state *s, int32_t threads)
{
    int64_t width = s->inputs * s->taps, whole = BLOCK_FLOATS / width + 1;
    s->block = whole < s->out ? whole : s->out;
    grdi_gemm g = product_of(s, s->block), last = product_of(s, s->out % s->block ? s->out % s->block : s->block);
    size_t a = GRDI_ISA_NAME(grdi_gemm_all_scratch)(&g, threads);
    size_t b = GRDI_ISA_NAME(grdi_gemm_all_scratch)(&last, threads);
    s->columns_bytes = lines((size_t)(s->block * width) * sizeof(float));
    if (s->what.kind == GRDI_CONVOLUTION_INPUT_GRADIENT)
        s->sums_bytes = lines((size_t)(s->in * s->what.c) * sizeof(float));
    return s->columns_bytes + s->sums_bytes + (a > b ? a : b);
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
    bool fits = GRDI_ISA_NAME(grdi_winograd_fits)(&what);
    /* the library's products of bf16 are worth more than fewer ones in f32, but for its gradients of many weights */
    bool narrow = what.x_type == GRD_BF16 && (what.kind != GRDI_CONVOLUTION_WEIGHT_GRADIENT || what.c < MANY);
    s->library = fits && !narrow ? NULL : grdi_onednn_convolution_new(&what);
    s->filtered = fits && !s->library;
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
    s->gemm = (char *)s->sums + s->sums_bytes;
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

/* What fewer products are worth: 36 multiplications in the time of 16 and of the transforms around them. */
static double rate_part_of(const grdi_call *call)
{
    const convolution_state *s = call->state;
    double pairs = GRDI_PAIRS && call->in[0].dtype == GRD_BF16 ? 2 : 1; /* the device's rate is that of bf16 */
    return s && s->filtered ? FILTERED_RATE / pairs : 0;
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
