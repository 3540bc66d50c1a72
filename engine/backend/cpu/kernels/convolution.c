/* convolution.c - convolutions and their gradients: 3x3 by minimal filtering (winograd.c) where that is faster, others
 * by oneDNN where it is there, else as products with a matrix whose rows are the windows, [windows, channels x taps]
 * (im2col), made for a block of windows at a time. */
#include "backend/cpu/convolution.h"

#include "backend/cpu/kernels/gemm_tile.h"
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
    HALF_MANY = 128, /* channels */
    MANY = 256,
    BLOCK_BYTES = 4 << 20, /* of window rows at a time */
    PARALLEL = 16384       /* elements that pay for another thread */
};

typedef struct convolution_state {
    grdi_convolution what;
    bool filtered;                    /* by winograd.c */
    double gain;                      /* plain products for each of its */
    grdi_onednn_convolution *library; /* NULL: our own loops */
    int64_t taps, inputs, outputs;    /* inputs and outputs are channels of one group */
    int64_t phases;
    size_t columns_bytes, results_bytes, filters_bytes;
    void *columns; /* in scratch: windows' rows */
    void *results; /* of several phases: gradients by x of a block */
    void *filters; /* as rows of windows lie, or the sums of their gradients, f32 */
    void *gemm;
    grdi_convolution_data data;
} convolution_state;

/* Along an axis: `results` of them, at first + i step. Result i is made of `taps` taps: the j-th multiplies what is at
 * at + i source_step + j tap_move of `source` places by the filters' tap + j tap_step. */
typedef struct road {
    int64_t results, first, step, source, at, source_step, taps, tap, tap_step, tap_move;
} road;

/* Results that are made of the same taps: all of a convolution; of the gradient by x those at places that leave the
 * same rest divided by the stride. */
typedef struct phase {
    road axis[GRDI_WINDOW_AXES];
    int64_t results, taps; /* results of one sample */
    int64_t slab;          /* taps of the phases before */
} phase;

/* What one parallel loop is about. */
typedef struct piece {
    const convolution_state *s;
    const phase *phase;
    int64_t group, first; /* first result of the block, counted over all samples */
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

static road forward_road(const grdi_window *w)
{
    return (road){w->out, 0, 1, w->in, -w->padding, w->stride, w->kernel, 0, 1, w->dilation};
}

/* Of the gradient by x, at places that leave `rest`: the last tap first, so that y is read forwards. */
static road gradient_road(const grdi_window *w, int64_t rest)
{
    const int64_t count = (w->in - rest + w->stride - 1) / w->stride;
    road r = {count > 0 ? count : 0, rest, w->stride, w->out, 0, 1, 0, 0, 0, 1};
    for (int64_t k = w->kernel - 1; k >= 0; k--) {
        const int64_t at = rest + w->padding - k * w->dilation;
        if (at % w->stride) continue;
        if (r.taps == 0) r.tap = k, r.at = at / w->stride;
        if (r.taps == 1) r.tap_step = k - r.tap, r.tap_move = at / w->stride - r.at;
        r.taps++;
    }
    return r;
}

static int64_t phases_of(const grdi_convolution *c)
{
    int64_t count = 1;
    for (int32_t a = 0; a < GRDI_WINDOW_AXES && c->kind == GRDI_CONVOLUTION_INPUT_GRADIENT; a++)
        count *= c->window[a].stride;
    return count;
}

static phase phase_of(const grdi_convolution *c, int64_t number, int64_t slab)
{
    phase p = {.results = 1, .taps = 1, .slab = slab};
    for (int32_t a = GRDI_WINDOW_AXES - 1; a >= 0; a--) {
        const grdi_window *w = &c->window[a];
        bool gradient = c->kind == GRDI_CONVOLUTION_INPUT_GRADIENT;
        p.axis[a] = gradient ? gradient_road(w, number % w->stride) : forward_road(w);
        if (gradient) number /= w->stride;
        p.results *= p.axis[a].results, p.taps *= p.axis[a].taps;
    }
    return p;
}

/* Result `window` of a phase: its sample and its number along each axis. */
typedef struct window_place {
    int64_t sample, i[GRDI_WINDOW_AXES];
} window_place;

static window_place place_of(const phase *p, int64_t window)
{
    const road *r = p->axis;
    return (window_place){window / p->results,
                          {window % p->results / r[2].results / r[1].results, window / r[2].results % r[1].results,
                           window % r[2].results}};
}

static void next_place(const phase *p, window_place *w)
{
    for (int32_t a = GRDI_WINDOW_AXES - 1; a >= 0; a--) {
        if (++w->i[a] < p->axis[a].results) return;
        w->i[a] = 0;
    }
    w->sample++;
}

/* ---- windows as rows ---- */

static void *element(void *data, grd_dtype type, int64_t offset)
{
    return (char *)data + offset * (int64_t)grd_dtype_size(type);
}

/* What rows of windows are made of: x, or y for the gradient by x. */
typedef struct source {
    char *data;
    int64_t size;          /* bytes of an element */
    int64_t channels, all; /* of a group, of all */
} source;

static source source_of(const convolution_state *s)
{
    const grdi_convolution *c = &s->what;
    if (c->kind == GRDI_CONVOLUTION_INPUT_GRADIENT)
        return (source){s->data.y, (int64_t)grd_dtype_size(c->y_type), s->outputs, c->o};
    return (source){s->data.x, (int64_t)grd_dtype_size(c->x_type), s->inputs, c->c};
}

/* A line of taps along the last axis, of which the first is at `at` of `line`; zeros in the padding. */
static char *gather_line(const road *r, const source *from, const char *line, int64_t at, char *to)
{
    const int64_t run = from->channels * from->size, step = from->all * from->size;
    if (r->tap_move == 1 && run == step) {
        const int64_t begin = at < 0 ? gemm_least(-at, r->taps) : 0;
        const int64_t end = gemm_least(r->source - at, r->taps);
        memset(to, 0, (size_t)(begin * run));
        if (end <= begin) memset(to + begin * run, 0, (size_t)((r->taps - begin) * run));
        else {
            memcpy(to + begin * run, line + (at + begin) * run, (size_t)((end - begin) * run));
            memset(to + end * run, 0, (size_t)((r->taps - end) * run));
        }
        return to + r->taps * run;
    }
    for (int64_t j = 0; j < r->taps; j++, at += r->tap_move, to += run) {
        if (at < 0 || at >= r->source) memset(to, 0, (size_t)run);
        else memcpy(to, line + at * step, (size_t)run);
    }
    return to;
}

/* Row of a window: tap by tap, its channels, as they lie in the source. */
static void gather_row(const piece *p, const source *from, const window_place *w, char *to)
{
    const road *r = p->phase->axis;
    const int64_t line_bytes = r[2].taps * from->channels * from->size;
    for (int64_t j0 = 0; j0 < r[0].taps; j0++)
        for (int64_t j1 = 0; j1 < r[1].taps; j1++) {
            int64_t i0 = r[0].at + w->i[0] * r[0].source_step + j0 * r[0].tap_move;
            int64_t i1 = r[1].at + w->i[1] * r[1].source_step + j1 * r[1].tap_move;
            if (i0 < 0 || i0 >= r[0].source || i1 < 0 || i1 >= r[1].source) {
                memset(to, 0, (size_t)line_bytes);
                to += line_bytes;
                continue;
            }
            int64_t line = ((w->sample * r[0].source + i0) * r[1].source + i1) * r[2].source;
            const char *at = from->data + (line * from->all + p->group * from->channels) * from->size;
            to = gather_line(&r[2], from, at, r[2].at + w->i[2] * r[2].source_step, to);
        }
}

static void gather_rows(int64_t begin, int64_t end, int32_t thread, void *context)
{
    const piece *p = context;
    const source from = source_of(p->s);
    const int64_t width = from.channels * p->phase->taps * from.size;
    window_place w = place_of(p->phase, p->first + begin);
    (void)thread;
    for (int64_t row = begin; row < end; row++, next_place(p->phase, &w))
        gather_row(p, &from, &w, (char *)p->s->columns + row * width);
}

/* Gradients by x of a phase to where they belong. */
static void place_rows(int64_t begin, int64_t end, int32_t thread, void *context)
{
    const piece *p = context;
    const convolution_state *s = p->s;
    const grdi_convolution *c = &s->what;
    const road *r = p->phase->axis;
    const size_t run = (size_t)s->inputs * grd_dtype_size(c->x_type);
    window_place w = place_of(p->phase, p->first + begin);
    (void)thread;
    for (int64_t row = begin; row < end; row++, next_place(p->phase, &w)) {
        int64_t at = w.sample;
        for (int32_t a = 0; a < GRDI_WINDOW_AXES; a++) at = at * c->window[a].in + r[a].first + w.i[a] * r[a].step;
        memcpy(element(s->data.x, c->x_type, at * c->c + p->group * s->inputs), (char *)s->results + (size_t)row * run,
               run);
    }
}

/* ---- filters, of which a row of a window has the taps outermost ---- */

/* Tap `tap` of the filters of output `o`. */
static void turn_tap(const convolution_state *s, int64_t o, int64_t tap, int64_t to)
{
    const int64_t from = o * s->inputs * s->taps + tap;
    if (s->what.w_type == GRD_F32) {
        for (int64_t i = 0; i < s->inputs; i++)
            ((float *)s->filters)[to + i] = ((const float *)s->data.w)[from + i * s->taps];
        return;
    }
    for (int64_t i = 0; i < s->inputs; i++)
        ((uint16_t *)s->filters)[to + i] = ((const uint16_t *)s->data.w)[from + i * s->taps];
}

/* [output][tap][channel] */
static void turn_in(int64_t begin, int64_t end, int32_t thread, void *context)
{
    const convolution_state *s = context;
    (void)thread;
    for (int64_t o = begin; o < end; o++)
        for (int64_t tap = 0; tap < s->taps; tap++) turn_tap(s, o, tap, (o * s->taps + tap) * s->inputs);
}

/* For the gradient by x: [group][tap][output][channel], taps in the order of the phases. */
static void turn_in_phases(int64_t begin, int64_t end, int32_t thread, void *context)
{
    const convolution_state *s = context;
    const grdi_window *w = s->what.window;
    int64_t slab = 0;
    (void)thread;
    for (int64_t number = 0; number < phases_of(&s->what); number++) {
        const phase p = phase_of(&s->what, number, slab);
        const road *r = p.axis;
        for (int64_t j = 0; j < p.taps; j++, slab++) {
            int64_t j2 = j % r[2].taps, j1 = j / r[2].taps % r[1].taps, j0 = j / r[2].taps / r[1].taps;
            int64_t tap = r[0].tap + j0 * r[0].tap_step;
            tap = tap * w[1].kernel + r[1].tap + j1 * r[1].tap_step;
            tap = tap * w[2].kernel + r[2].tap + j2 * r[2].tap_step;
            for (int64_t o = begin; o < end; o++)
                turn_tap(s, o, tap, ((o / s->outputs * s->taps + slab) * s->outputs + o % s->outputs) * s->inputs);
        }
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
 * y = columns w^T + bias, x = columns w, w += y^T columns. */
static grdi_gemm product_of(const convolution_state *s, const phase *p, int64_t rows)
{
    const grdi_convolution *c = &s->what;
    const int64_t width = p->taps * (c->kind == GRDI_CONVOLUTION_INPUT_GRADIENT ? s->outputs : s->inputs);
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
    if (c->kind == GRDI_CONVOLUTION_INPUT_GRADIENT) {
        const int64_t row = s->phases == 1 ? c->c : s->inputs;
        return (grdi_gemm){.m = rows,
                           .n = s->inputs,
                           .k = width,
                           .a_row = width,
                           .a_col = 1,
                           .b_row = s->inputs,
                           .b_col = 1,
                           .c_row = row,
                           .y_row = row,
                           .a_type = c->y_type,
                           .b_type = c->w_type,
                           .c_type = c->x_type,
                           .bias_type = GRD_F32};
    }
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
                       .bias_type = GRD_F32};
}

/* Windows of one phase, all samples, and how many are taken at a time. */
static int64_t windows_of(const convolution_state *s, const phase *p)
{
    return s->what.n * p->results;
}

static int64_t block_of(const convolution_state *s, const phase *p)
{
    const source from = source_of(s);
    int64_t row_bytes = from.channels * p->taps * from.size;
    int64_t whole = BLOCK_BYTES / (row_bytes + 1) + 1, windows = windows_of(s, p);
    return whole < windows ? whole : windows;
}

static void run_block(const convolution_state *s, piece *p, int64_t rows, int32_t threads)
{
    const grdi_convolution *c = &s->what;
    const int64_t first = p->group * s->outputs, width = s->inputs * s->taps;
    void *y = element(s->data.y, c->y_type, p->first * c->o + first);
    grdi_gemm g = product_of(s, p->phase, rows);
    grdi_parallel_for(threads, rows, PARALLEL / (p->phase->taps * source_of(s).channels + 1) + 1, gather_rows, p);
    if (c->kind == GRDI_CONVOLUTION) {
        g.a = s->columns, g.b = element(s->filters, c->w_type, first * width), g.c = y;
        g.bias = c->has_bias ? element(s->data.bias, c->bias_type, first) : NULL;
    } else if (c->kind == GRDI_CONVOLUTION_INPUT_GRADIENT) {
        g.a = s->columns;
        g.b = element(s->filters, c->w_type, (first * s->taps + p->phase->slab * s->outputs) * s->inputs);
        g.c = s->phases == 1 ? element(s->data.x, c->x_type, p->first * c->c + p->group * s->inputs) : s->results;
    } else {
        g.a = y, g.b = s->columns, g.c = (float *)s->filters + first * width;
        g.add = p->first > 0;
    }
    GRDI_ISA_NAME(grdi_gemm_all)(&g, threads, s->gemm);
    if (s->phases > 1) grdi_parallel_for(threads, rows, PARALLEL / s->inputs + 1, place_rows, p);
}

static void run_own(const convolution_state *s, int32_t threads)
{
    const grdi_convolution_kind kind = s->what.kind;
    const int64_t grain = PARALLEL / (s->inputs * s->taps) + 1;
    if (kind == GRDI_CONVOLUTION) grdi_parallel_for(threads, s->what.o, grain, turn_in, (void *)s);
    if (kind == GRDI_CONVOLUTION_INPUT_GRADIENT)
        grdi_parallel_for(threads, s->what.o, grain, turn_in_phases, (void *)s);
    int64_t slab = 0;
    for (int64_t number = 0; number < s->phases; number++) {
        const phase ph = phase_of(&s->what, number, slab);
        const int64_t windows = windows_of(s, &ph), block = block_of(s, &ph);
        slab += ph.taps;
        for (int64_t group = 0; group < s->what.groups; group++)
            for (int64_t first = 0; first < windows; first += block) {
                piece p = {s, &ph, group, first};
                run_block(s, &p, windows - first < block ? windows - first : block, threads);
            }
    }
    if (kind == GRDI_CONVOLUTION_WEIGHT_GRADIENT) grdi_parallel_for(threads, s->what.o, grain, turn_out, (void *)s);
}

/* ---- the kernels ---- */

static size_t lines(size_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

static size_t more(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* Our own loops' scratch: columns, results of a phase, filters, what the product needs for whole blocks and for the
 * last one. */
static size_t own_scratch(convolution_state *s, int32_t threads)
{
    const source from = source_of(s);
    const bool scatters = s->phases > 1;
    size_t product = 0;
    int64_t slab = 0;
    for (int64_t number = 0; number < s->phases; number++) {
        const phase p = phase_of(&s->what, number, slab);
        const int64_t windows = windows_of(s, &p), block = block_of(s, &p);
        slab += p.taps;
        if (windows == 0) continue;
        grdi_gemm g = product_of(s, &p, block), last = product_of(s, &p, windows % block ? windows % block : 1);
        product = more(product, GRDI_ISA_NAME(grdi_gemm_all_scratch)(&g, threads));
        product = more(product, GRDI_ISA_NAME(grdi_gemm_all_scratch)(&last, threads));
        s->columns_bytes = more(s->columns_bytes, lines((size_t)(block * p.taps * from.channels * from.size)));
        if (scatters)
            s->results_bytes =
                more(s->results_bytes, lines((size_t)(block * s->inputs) * grd_dtype_size(s->what.x_type)));
    }
    s->filters_bytes = lines((size_t)(s->what.o * s->inputs * s->taps) * grd_dtype_size(s->what.w_type));
    return s->columns_bytes + s->results_bytes + s->filters_bytes + product;
}

/* Whether our own loops multiply in AMX's tiles, which are so fast that minimal filtering does not pay. */
static bool multiplies_tiles(const grdi_convolution *c)
{
    grd_dtype a = c->kind == GRDI_CONVOLUTION_INPUT_GRADIENT ? c->y_type : c->x_type;
    grd_dtype b = c->kind == GRDI_CONVOLUTION_WEIGHT_GRADIENT ? c->y_type : c->w_type;
    return GRDI_TILES && a == GRD_BF16 && b == GRD_BF16;
}

/* Whether they beat the library's tiles: a row of a window must be worth its copy. The library is slow at strided
 * gradients by x and at those by the filters (docs/LOG.md). */
static bool tiles_beat_library(const grdi_convolution *c)
{
    const grdi_window *w = c->window;
    const int64_t taps = w[0].kernel * w[1].kernel * w[2].kernel;
    if (!multiplies_tiles(c) || c->groups > 1 || c->c < SOME) return false;
    if (c->kind == GRDI_CONVOLUTION) return c->o >= MANY && c->c * taps >= MANY;
    if (c->kind == GRDI_CONVOLUTION_WEIGHT_GRADIENT) return c->o >= HALF_MANY;
    return w[GRDI_WINDOW_AXES - 1].stride > 1 ? c->c * taps >= HALF_MANY : c->c >= MANY;
}

/* Whether our own ways beat the library's. In f32 fewer products do; its products of bf16 are at their full rate but
 * for gradients of many weights and of windows that lie apart, and in tiles. */
static bool beats_library(const grdi_convolution *c, double gain)
{
    if (c->x_type != GRD_BF16) return gain >= GAIN_LEAST;
    if (grdi_onednn_has_amx()) return tiles_beat_library(c);
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
    s->taps = 1;
    for (int32_t a = 0; a < GRDI_WINDOW_AXES; a++) s->taps *= what.window[a].kernel;
    s->phases = phases_of(&what);
    s->inputs = what.c / what.groups, s->outputs = what.o / what.groups;
    s->what = what;
    s->gain = GRDI_ISA_NAME(grdi_winograd_gain)(&what);
    s->library = beats_library(&what, s->gain) ? NULL : grdi_onednn_convolution_new(&what);
    s->filtered = s->gain >= GAIN_LEAST && !s->library && !multiplies_tiles(&what);
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
    s->results = (char *)call->scratch + s->columns_bytes;
    s->filters = (char *)s->results + s->results_bytes;
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

/* What fewer products are worth, less the transforms around them. What AMX's tiles reach in convolutions of bf16, our
 * own and oneDNN's, is below their rate of products: lenet and resnet18 where nobody else had the cores. */
static double rate_part_of(const grdi_call *call)
{
    static const double in_tiles[] = {
        [GRDI_CONVOLUTION] = 0.58, [GRDI_CONVOLUTION_INPUT_GRADIENT] = 0.5, [GRDI_CONVOLUTION_WEIGHT_GRADIENT] = 0.38};
    const convolution_state *s = call->state;
    double pairs = GRDI_PAIRS && call->in[0].dtype == GRD_BF16 ? 2 : 1; /* the device's rate is that of bf16 */
    if (s && s->filtered) return FILTERED_RATE * s->gain / pairs;
    return GRDI_TILES && s && call->in[0].dtype == GRD_BF16 ? in_tiles[s->what.kind] : 0;
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
