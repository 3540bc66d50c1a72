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
    int64_t room;        /* floats of a row buffer */
    float *buffers;      /* 3 rows for each thread */
    float *samples_sums; /* a sample's gradient for each thread, where it is not stored in f32 */
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
    int64_t first[GRDI_WINDOW_AXES], count[GRDI_WINDOW_AXES], k[GRDI_WINDOW_AXES];
} taps;

static taps taps_of(const pool_state *s, int64_t o)
{
    taps t = {.w = s->window};
    for (int32_t a = GRDI_WINDOW_AXES - 1; a >= 0; a--) {
        const grdi_window *w = &t.w[a];
        int64_t at = w->out > 1 ? o % w->out : 0;
        t.first[a] = w->kernel > 0 ? at * w->stride - w->padding : at * w->in / w->out;
        t.count[a] = grdi_window_taps(w, at);
        o = w->out > 1 ? o / w->out : o;
    }
    return t;
}

/* The position of the next tap inside x; -1 after the last one. */
static int64_t next_tap(taps *t)
{
    const grdi_window *w = t->w;
    while (t->k[0] < t->count[0]) {
        int64_t i0 = t->first[0] + t->k[0] * w[0].dilation, i1 = t->first[1] + t->k[1] * w[1].dilation;
        int64_t i2 = t->first[2] + t->k[2] * w[2].dilation;
        if (++t->k[2] == t->count[2]) {
            t->k[2] = 0;
            if (++t->k[1] == t->count[1]) t->k[1] = 0, t->k[0]++;
        }
        bool inside = i0 >= 0 && i0 < w[0].in && i1 >= 0 && i1 < w[1].in && i2 >= 0 && i2 < w[2].in;
        if (inside) return (i0 * w[1].in + i1) * w[2].in + i2;
    }
    return -1;
}

/* 1 over what the window is divided by. */
static float part_of(const pool_state *s, int64_t o)
{
    taps t = taps_of(s, o);
    int64_t inside = 0;
    if (!s->exclude_padding) return 1.0f / (float)(t.count[0] * t.count[1] * t.count[2]);
    while (next_tap(&t) >= 0) inside++;
    return 1.0f / (float)inside;
}

/* ---- max_pool ---- */

/* best = the larger of best and x, with its position; the first one where they are equal, NaN above all. x is f32 or
 * (`half`) bf16. */
static inline void take_larger_of(float *best, int32_t *where, const void *x, const bool half, int32_t at,
                                  int64_t count)
{
    int64_t i = 0;
    for (; i + GRDI_LANES <= count; i += GRDI_LANES) {
        grdi_vf b = grdi_load(best + i);
        grdi_vf v = half ? grdi_load_bf16((const uint16_t *)x + i) : grdi_load((const float *)x + i);
        grdi_vi w, larger = (v > b) | (grdi_is_nan(v) & ~grdi_is_nan(b));
        memcpy(&w, where + i, sizeof w);
        w = (larger & at) | (~larger & w);
        memcpy(where + i, &w, sizeof w);
        grdi_store(best + i, grdi_select(larger, v, b));
    }
    for (; i < count; i++) {
        float v = half ? grdi_bf16_to_f32(((const uint16_t *)x)[i]) : ((const float *)x)[i];
        if (v > best[i] || (v != v && best[i] == best[i])) best[i] = v, where[i] = at;
    }
}

static void take_larger(float *best, int32_t *where, const grdi_view *x, int64_t offset, int32_t at, int64_t count)
{
    const void *from = grdi_run_at(x->data, x->dtype, offset);
    if (x->dtype == GRD_BF16) take_larger_of(best, where, from, true, at, count);
    else take_larger_of(best, where, from, false, at, count);
}

static void max_range(int64_t begin, int64_t end, int32_t thread, void *context)
{
    const grdi_call *call = context;
    const pool_state *s = call->state;
    const grdi_view *x = &call->in[0], *y = &call->out[0];
    float *y_buffer = s->buffers + 3 * thread * s->room;
    int32_t *spare = (int32_t *)(y_buffer + s->room); /* for positions that nobody wants */
    int64_t channels = s->channels;
    for (int64_t row = begin; row < end; row++) {
        float *best = y->data ? grdi_row_write(y, row * channels, y_buffer) : y_buffer;
        int32_t *where = call->out[1].data ? (int32_t *)call->out[1].data + row * channels : spare;
        taps t = taps_of(s, row % s->out);
        int64_t at = next_tap(&t), base = row / s->out * s->in;
        grdi_run_load(best, grdi_run_at(x->data, x->dtype, (base + at) * channels), x->dtype, 1, channels);
        for (int64_t i = 0; i < channels; i++) where[i] = (int32_t)at;
        while ((at = next_tap(&t)) >= 0) take_larger(best, where, x, (base + at) * channels, (int32_t)at, channels);
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

/* ---- gradients: each thread clears and fills the samples that are its own, in f32; those in bf16 are rounded from
 * there while they are in the cache ---- */

/* Where the sums of a sample's gradient are made, cleared. */
static float *start_sample(const grdi_call *call, int64_t sample, int32_t thread)
{
    const pool_state *s = call->state;
    int64_t count = s->in * s->channels;
    float *gx = call->out[0].dtype == GRD_F32 ? (float *)call->out[0].data + sample * count
                                              : s->samples_sums + thread * grdi_row_room(count);
    return memset(gx, 0, (size_t)count * sizeof(float));
}

static void finish_sample(const grdi_call *call, int64_t sample, const float *gx)
{
    const pool_state *s = call->state;
    grdi_row_written(&call->out[0], sample * s->in * s->channels, s->in * s->channels, gx);
}

static void max_backward_range(int64_t begin, int64_t end, int32_t thread, void *context)
{
    const grdi_call *call = context;
    const pool_state *s = call->state;
    int64_t channels = s->channels;
    float *buffer = s->buffers + 3 * thread * s->room;
    for (int64_t sample = begin; sample < end; sample++) {
        float *gx = start_sample(call, sample, thread);
        for (int64_t row = sample * s->out; row < (sample + 1) * s->out; row++) {
            const float *g = grdi_row_read(&call->in[0], row * channels, channels, buffer);
            const int32_t *where = (const int32_t *)call->in[1].data + row * channels;
            for (int64_t i = 0; i < channels; i++)
                if (where[i] >= 0 && where[i] < s->in) gx[where[i] * channels + i] += g[i];
        }
        finish_sample(call, sample, gx);
    }
}

static void average_backward_range(int64_t begin, int64_t end, int32_t thread, void *context)
{
    const grdi_call *call = context;
    const pool_state *s = call->state;
    int64_t channels = s->channels;
    float *buffer = s->buffers + 3 * thread * s->room;
    for (int64_t sample = begin; sample < end; sample++) {
        float *gx = start_sample(call, sample, thread);
        for (int64_t o = 0; o < s->out; o++) {
            const float *g = grdi_row_read(&call->in[0], (sample * s->out + o) * channels, channels, buffer);
            float part = part_of(s, o);
            taps t = taps_of(s, o);
            for (int64_t at = next_tap(&t); at >= 0; at = next_tap(&t))
                add_scaled(gx + at * channels, g, part, channels);
        }
        finish_sample(call, sample, gx);
    }
}

static grd_status backward_prepare(grdi_call *call, grd_error *error)
{
    grd_status status = new_state(call, &call->out[0], &call->in[0], error);
    const pool_state *s = call->state;
    if (!status && call->out[0].dtype != GRD_F32)
        call->scratch_bytes += (size_t)(grdi_row_room(s->in * s->channels) * call->threads) * sizeof(float);
    return status;
}

static grd_status backward_run(grdi_call *call)
{
    pool_state *s = call->state;
    s->buffers = call->scratch;
    s->samples_sums = s->buffers + 3 * s->room * call->threads;
    if (!call->out[0].data) return GRD_OK;
    bool max = call->input_count == 2;
    grdi_parallel_for(call->threads, s->samples, PARALLEL / (s->in * s->channels) + 1,
                      max ? max_backward_range : average_backward_range, call);
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
