/* pool.c - maximum and mean of windows, and their gradients. Rows of channels lie side by side, so each loop runs along
 * them; threads take positions, and for gradients samples, whose windows may overlap. */
#include "backend/cpu/kernels/rows.h"
#include "backend/cpu/parallel.h"
#include "base/memory.h"
#include "base/window.h"

enum { PARALLEL = 16384 /* elements that pay for another thread */ };

typedef struct pool_state {
    grdi_window window[GRDI_WINDOW_AXES];
    int64_t samples, channels, in, out; /* positions of a sample */
    bool exclude_padding;
    int64_t room;   /* floats of a row buffer */
    float *buffers; /* 3 rows for each thread */
} pool_state;

static grd_status new_state(grdi_call *call, const grdi_view *x, const grdi_view *y, grd_error *error)
{
    pool_state *s = grdi_alloc_zero(1, sizeof *s);
    if (!s) return grd_fail(error, GRD_E_MEMORY, "%s: out of memory", call->op->name);
    call->state = s;
    int32_t axes = x->dims.rank - 2;
    s->samples = x->dims.dim[0], s->channels = x->dims.dim[x->dims.rank - 1], s->in = s->out = 1;
    bool adaptive = grdi_attr_ints(call->attrs, "kernel")->count == 0;
    for (int32_t a = 0; a < GRDI_WINDOW_AXES; a++) {
        int32_t axis = a - (GRDI_WINDOW_AXES - axes);
        grdi_window *w = &s->window[a];
        *w = (grdi_window){1, 1, 1, 1, 0, 1};
        if (axis < 0) continue;
        w->in = x->dims.dim[1 + axis], w->out = y->dims.dim[1 + axis];
        w->kernel = adaptive ? 0 : grdi_window_entry(grdi_attr_ints(call->attrs, "kernel"), axis, 1);
        w->stride = grdi_window_entry(grdi_attr_ints(call->attrs, "stride"), axis, w->kernel);
        w->padding = grdi_window_entry(grdi_attr_ints(call->attrs, "padding"), axis, 0);
        w->dilation = grdi_window_entry(grdi_attr_ints(call->attrs, "dilation"), axis, 1);
        s->in *= w->in, s->out *= w->out;
    }
    s->exclude_padding = grdi_attr_int(call->attrs, "exclude_padding");
    s->room = grdi_row_room(s->channels);
    call->scratch_bytes = (size_t)(3 * s->room * call->threads) * sizeof(float);
    return GRD_OK;
}

static void release(grdi_call *call)
{
    grdi_free(call->state);
    call->state = NULL;
}

/* The taps of one window, one after the other. */
typedef struct taps {
    const grdi_window *w;
    int64_t o[GRDI_WINDOW_AXES], count[GRDI_WINDOW_AXES], total, next;
} taps;

static taps taps_of(const pool_state *s, int64_t o)
{
    taps t = {.w = s->window, .total = 1};
    for (int32_t a = GRDI_WINDOW_AXES - 1; a >= 0; a--) {
        t.o[a] = o % t.w[a].out;
        t.count[a] = grdi_window_taps(&t.w[a], t.o[a]);
        t.total *= t.count[a];
        o /= t.w[a].out;
    }
    return t;
}

/* The position of the next tap inside x; -1 after the last one. */
static int64_t next_tap(taps *t)
{
    const grdi_window *w = t->w;
    while (t->next < t->total) {
        int64_t tap = t->next++;
        int64_t i2 = grdi_window_at(&w[2], t->o[2], tap % t->count[2]);
        int64_t i1 = grdi_window_at(&w[1], t->o[1], tap / t->count[2] % t->count[1]);
        int64_t i0 = grdi_window_at(&w[0], t->o[0], tap / t->count[2] / t->count[1]);
        if (i0 >= 0 && i1 >= 0 && i2 >= 0) return (i0 * w[1].in + i1) * w[2].in + i2;
    }
    return -1;
}

/* 1 over what the window is divided by. */
static float part_of(const pool_state *s, int64_t o)
{
    taps t = taps_of(s, o);
    int64_t inside = 0;
    if (!s->exclude_padding) return 1.0f / (float)t.total;
    while (next_tap(&t) >= 0) inside++;
    return 1.0f / (float)inside;
}

/* ---- max_pool ---- */

/* best = the larger of best and x, with its position; the first one where they are equal, NaN above all */
static void take_larger(float *best, int32_t *where, const float *x, int32_t at, int64_t count)
{
    int64_t i = 0;
    for (; i + GRDI_LANES <= count; i += GRDI_LANES) {
        grdi_vf b = grdi_load(best + i), v = grdi_load(x + i);
        grdi_vi w, larger = (v > b) | (grdi_is_nan(v) & ~grdi_is_nan(b));
        memcpy(&w, where + i, sizeof w);
        w = (larger & at) | (~larger & w);
        memcpy(where + i, &w, sizeof w);
        grdi_store(best + i, grdi_select(larger, v, b));
    }
    for (; i < count; i++)
        if (x[i] > best[i] || (x[i] != x[i] && best[i] == best[i])) best[i] = x[i], where[i] = at;
}

static void max_range(int64_t begin, int64_t end, int32_t thread, void *context)
{
    const grdi_call *call = context;
    const pool_state *s = call->state;
    const grdi_view *x = &call->in[0], *y = &call->out[0];
    float *x_buffer = s->buffers + 3 * thread * s->room, *y_buffer = x_buffer + s->room;
    int32_t *spare = (int32_t *)(y_buffer + s->room); /* for positions that nobody wants */
    int64_t channels = s->channels;
    for (int64_t row = begin; row < end; row++) {
        float *best = y->data ? grdi_row_write(y, row * channels, y_buffer) : y_buffer;
        int32_t *where = call->out[1].data ? (int32_t *)call->out[1].data + row * channels : spare;
        taps t = taps_of(s, row % s->out);
        int64_t at = next_tap(&t), base = row / s->out * s->in;
        const float *first = grdi_row_read(x, (base + at) * channels, channels, x_buffer);
        memcpy(best, first, (size_t)channels * sizeof(float));
        for (int64_t i = 0; i < channels; i++) where[i] = (int32_t)at;
        while ((at = next_tap(&t)) >= 0)
            take_larger(best, where, grdi_row_read(x, (base + at) * channels, channels, x_buffer), (int32_t)at,
                        channels);
        if (y->data) grdi_row_written(y, row * channels, channels, y_buffer);
    }
}

static grd_status forward_prepare(grdi_call *call, grd_error *error)
{
    return new_state(call, &call->in[0], &call->out[0], error);
}

static grd_status max_run(grdi_call *call)
{
    pool_state *s = call->state;
    s->buffers = call->scratch;
    grdi_parallel_for(call->threads, s->samples * s->out, PARALLEL / s->channels / 4 + 1, max_range, call);
    return GRD_OK;
}

/* ---- average_pool ---- */

static void add_scaled(float *to, const float *from, float scale, int64_t count)
{
    int64_t i = 0;
    for (; i + GRDI_LANES <= count; i += GRDI_LANES)
        grdi_store(to + i, grdi_load(to + i) + grdi_load(from + i) * scale);
    for (; i < count; i++) to[i] += from[i] * scale;
}

static void average_range(int64_t begin, int64_t end, int32_t thread, void *context)
{
    const grdi_call *call = context;
    const pool_state *s = call->state;
    const grdi_view *x = &call->in[0], *y = &call->out[0];
    float *x_buffer = s->buffers + 3 * thread * s->room, *y_buffer = x_buffer + s->room;
    int64_t channels = s->channels;
    for (int64_t row = begin; row < end; row++) {
        float *sum = grdi_row_write(y, row * channels, y_buffer), part = part_of(s, row % s->out);
        taps t = taps_of(s, row % s->out);
        memset(sum, 0, (size_t)channels * sizeof(float));
        for (int64_t at = next_tap(&t), base = row / s->out * s->in; at >= 0; at = next_tap(&t))
            add_scaled(sum, grdi_row_read(x, (base + at) * channels, channels, x_buffer), part, channels);
        grdi_row_written(y, row * channels, channels, y_buffer);
    }
}

static grd_status average_run(grdi_call *call)
{
    pool_state *s = call->state;
    s->buffers = call->scratch;
    if (call->out[0].data)
        grdi_parallel_for(call->threads, s->samples * s->out, PARALLEL / s->channels / 4 + 1, average_range, call);
    return GRD_OK;
}

/* ---- gradients: each thread clears and fills the samples that are its own ---- */

static void max_backward_range(int64_t begin, int64_t end, int32_t thread, void *context)
{
    const grdi_call *call = context;
    const pool_state *s = call->state;
    int64_t channels = s->channels;
    float *buffer = s->buffers + 3 * thread * s->room;
    for (int64_t sample = begin; sample < end; sample++) {
        float *gx = (float *)call->out[0].data + sample * s->in * channels;
        memset(gx, 0, (size_t)(s->in * channels) * sizeof(float));
        for (int64_t row = sample * s->out; row < (sample + 1) * s->out; row++) {
            const float *g = grdi_row_read(&call->in[0], row * channels, channels, buffer);
            const int32_t *where = (const int32_t *)call->in[1].data + row * channels;
            for (int64_t i = 0; i < channels; i++)
                if (where[i] >= 0 && where[i] < s->in) gx[where[i] * channels + i] += g[i];
        }
    }
}

static void average_backward_range(int64_t begin, int64_t end, int32_t thread, void *context)
{
    const grdi_call *call = context;
    const pool_state *s = call->state;
    int64_t channels = s->channels;
    float *buffer = s->buffers + 3 * thread * s->room;
    for (int64_t sample = begin; sample < end; sample++) {
        float *gx = (float *)call->out[0].data + sample * s->in * channels;
        memset(gx, 0, (size_t)(s->in * channels) * sizeof(float));
        for (int64_t o = 0; o < s->out; o++) {
            const float *g = grdi_row_read(&call->in[0], (sample * s->out + o) * channels, channels, buffer);
            float part = part_of(s, o);
            taps t = taps_of(s, o);
            for (int64_t at = next_tap(&t); at >= 0; at = next_tap(&t))
                add_scaled(gx + at * channels, g, part, channels);
        }
    }
}

/* Sums need f32: with a gradient in bf16 they are made in scratch. */
static grd_status backward_prepare(grdi_call *call, grd_error *error)
{
    grd_status status = new_state(call, &call->out[0], &call->in[0], error);
    pool_state *s = call->state;
    if (!status && call->out[0].dtype != GRD_F32)
        call->scratch_bytes += (size_t)(s->samples * s->in * s->channels) * sizeof(float);
    return status;
}

static grd_status backward_run(grdi_call *call)
{
    pool_state *s = call->state;
    grdi_call given = *call;
    s->buffers = call->scratch;
    if (!call->out[0].data) return GRD_OK;
    if (call->out[0].dtype != GRD_F32) given.out[0].data = s->buffers + 3 * s->room * call->threads;
    bool max = call->input_count == 2;
    grdi_parallel_for(call->threads, s->samples, PARALLEL / (s->in * s->channels) + 1,
                      max ? max_backward_range : average_backward_range, &given);
    if (call->out[0].dtype != GRD_F32)
        grdi_run_store(call->out[0].data, call->out[0].dtype, 1, given.out[0].data, s->samples * s->in * s->channels,
                       false);
    return GRD_OK;
}

static bool supports(const grdi_call *call)
{
    return grdi_is_activation(call->in[0].dtype) && grdi_is_activation(call->out[0].dtype);
}

static const grdi_kernel max = {
    .op = "max_pool", .supports = supports, .prepare = forward_prepare, .run = max_run, .release = release};
static const grdi_kernel average = {
    .op = "average_pool", .supports = supports, .prepare = forward_prepare, .run = average_run, .release = release};
static const grdi_kernel max_backward = {.op = "max_pool_backward",
                                         .supports = supports,
                                         .prepare = backward_prepare,
                                         .run = backward_run,
                                         .release = release};
static const grdi_kernel average_backward = {.op = "average_pool_backward",
                                             .supports = supports,
                                             .prepare = backward_prepare,
                                             .run = backward_run,
                                             .release = release};

const grdi_kernel *const GRDI_ISA_TABLE(pool)[] = {&max, &average, &max_backward, &average_backward, NULL};
