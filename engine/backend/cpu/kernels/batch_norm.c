/* batch_norm.c - normalisation of each channel over a batch, forward and backward. Both are two passes over the rows:
 * sums for each channel (by each thread over its own rows: a few rows in floats, those in double, then over the threads
 * in order), and the result. */
#include "backend/cpu/kernels/rows.h"
#include "backend/cpu/parallel.h"
#include "base/memory.h"

#include <math.h>

enum {
    PARALLEL = 16384, /* elements that pay for another thread */
    SUM_ROWS = 64
};

typedef struct norm_state {
    int64_t rows, channels, room; /* room: floats of a row of sums */
    double *sums;                 /* 2 rows for each thread */
    float *parts;                 /* 2 rows for each thread: over a few rows */
    float *vectors;               /* 5 rows: what the passes need for each channel */
} norm_state;

static grd_status prepare(grdi_call *call, grd_error *error)
{
    norm_state *s = grdi_alloc_zero(1, sizeof *s);
    if (!s) return grd_fail(error, GRD_E_MEMORY, "%s: out of memory", call->op->name);
    grd_dims dims = call->out[0].dims;
    s->channels = dims.dim[dims.rank - 1];
    s->rows = grd_dims_count(dims) / s->channels;
    s->room = grdi_row_room(s->channels);
    size_t room = (size_t)s->room, threads = (size_t)call->threads;
    call->scratch_bytes = threads * room * 2 * sizeof(double) + (5 + 2 * threads) * room * sizeof(float);
    call->state = s;
    return GRD_OK;
}

static void release(grdi_call *call)
{
    grdi_free(call->state);
    call->state = NULL;
}

static norm_state *place_scratch(grdi_call *call)
{
    norm_state *s = call->state;
    size_t threads = (size_t)call->threads, room = (size_t)s->room;
    s->sums = call->scratch;
    s->parts = (float *)(s->sums + 2 * threads * room);
    s->vectors = s->parts + 2 * threads * room;
    memset(call->scratch, 0, 2 * threads * room * (sizeof(double) + sizeof(float)));
    return s;
}

static int64_t grain(const norm_state *s)
{
    return PARALLEL / s->channels + 1;
}

static void *row_of(const grdi_view *view, int64_t row, const norm_state *s)
{
    return grdi_run_at(view->data, view->dtype, row * s->channels);
}

/* Lanes from `i` on of a row as it lies, in f32 or (`half`) bf16; and the element there. */
static inline grdi_vf row_lanes(const void *row, int64_t i, bool half)
{
    return half ? grdi_load_bf16((const uint16_t *)row + i) : grdi_load((const float *)row + i);
}

static inline float row_element(const void *row, int64_t i, bool half)
{
    return half ? grdi_bf16_to_f32(((const uint16_t *)row)[i]) : ((const float *)row)[i];
}

static inline void put_lanes(void *row, int64_t i, bool half, grdi_vf v)
{
    if (half) grdi_store_bf16((uint16_t *)row + i, v);
    else grdi_store((float *)row + i, v);
}

/* Moves the sums of a few rows into those of all. */
static void flush_parts(const norm_state *s, int32_t thread)
{
    float *part = s->parts + 2 * thread * s->room;
    double *sum = s->sums + 2 * thread * s->room;
    for (int64_t i = 0; i < 2 * s->room; i++) {
        sum[i] += part[i];
        part[i] = 0;
    }
}

/* The threads' sums, added in order: `which` 0 or 1. */
static double total(const grdi_call *call, int32_t which, int64_t channel)
{
    const norm_state *s = call->state;
    double sum = 0;
    for (int32_t thread = 0; thread < call->threads; thread++) sum += s->sums[(2 * thread + which) * s->room + channel];
    return sum;
}

/* ---- forward: sums of x - p and of its square, where p is the first row: digits of a mean far from zero would crowd
 * out the others' ---- */

static void forward_sums(int64_t begin, int64_t end, int32_t thread, void *context)
{
    const grdi_call *call = context;
    const norm_state *s = call->state;
    const float *pivot = s->vectors;
    float *first = s->parts + 2 * thread * s->room, *second = first + s->room;
    const bool half = call->in[0].dtype == GRD_BF16;
    for (int64_t row = begin; row < end; row++) {
        const void *x = row_of(&call->in[0], row, s);
        int64_t i = 0;
        for (; i + GRDI_LANES <= s->channels; i += GRDI_LANES) {
            grdi_vf d = row_lanes(x, i, half) - grdi_load(pivot + i);
            grdi_store(first + i, grdi_load(first + i) + d);
            grdi_store(second + i, grdi_load(second + i) + d * d);
        }
        for (; i < s->channels; i++) {
            float d = row_element(x, i, half) - pivot[i];
            first[i] += d;
            second[i] += d * d;
        }
        if ((row - begin) % SUM_ROWS == SUM_ROWS - 1) flush_parts(s, thread);
    }
    flush_parts(s, thread);
}

/* y = (x - p) scale + shift, and what is added: p takes most of the mean away before anything is rounded. */
static void forward_rows(int64_t begin, int64_t end, int32_t thread, void *context)
{
    const grdi_call *call = context;
    const norm_state *s = call->state;
    const float *pivot = s->vectors, *scale = pivot + s->room, *shift = scale + s->room;
    const bool half = call->in[0].dtype == GRD_BF16, y_half = call->out[0].dtype == GRD_BF16;
    const bool adds = call->input_count > 5, past_half = adds && call->in[5].dtype == GRD_BF16;
    const float least = grdi_attr_int(call->attrs, "relu") ? 0 : -INFINITY;
    (void)thread;
    for (int64_t row = begin; row < end; row++) {
        const void *x = row_of(&call->in[0], row, s), *past = adds ? row_of(&call->in[5], row, s) : NULL;
        void *y = row_of(&call->out[0], row, s);
        int64_t i = 0;
        for (; i + GRDI_LANES <= s->channels; i += GRDI_LANES) {
            grdi_vf d = row_lanes(x, i, half) - grdi_load(pivot + i);
            d = d * grdi_load(scale + i) + grdi_load(shift + i);
            if (past) d += row_lanes(past, i, past_half);
            put_lanes(y, i, y_half, grdi_max(grdi_set(least), d)); /* NaN stays */
        }
        for (; i < s->channels; i++) {
            float d = row_element(x, i, half) - pivot[i];
            d = d * scale[i] + shift[i] + (past ? row_element(past, i, past_half) : 0);
            grdi_run_put(y, call->out[0].dtype, i, d < least ? least : d);
        }
    }
}

static void put(const grdi_view *view, int64_t i, double value)
{
    if (view->data) ((float *)view->data)[i] = (float)value;
}

static grd_status forward_run(grdi_call *call)
{
    norm_state *s = place_scratch(call);
    float *pivot = s->vectors, *scale = pivot + s->room, *shift = scale + s->room;
    double eps = grdi_attr_float(call->attrs, "eps"), momentum = grdi_attr_float(call->attrs, "momentum");
    double count = (double)s->rows;
    grdi_run_load(pivot, call->in[0].data, call->in[0].dtype, 1, s->channels);
    grdi_parallel_for(call->threads, s->rows, grain(s), forward_sums, call);
    for (int64_t c = 0; c < s->channels; c++) {
        double offset = total(call, 0, c) / count, mean = pivot[c] + offset;
        double variance = total(call, 1, c) / count - offset * offset;
        if (variance < 0) variance = 0;
        double rstd = 1 / sqrt(variance + eps), gain = ((const float *)call->in[1].data)[c];
        double old_mean = ((const float *)call->in[3].data)[c], old_variance = ((const float *)call->in[4].data)[c];
        scale[c] = (float)(rstd * gain);
        shift[c] = (float)(((const float *)call->in[2].data)[c] - offset * rstd * gain);
        put(&call->out[1], c, mean);
        put(&call->out[2], c, rstd);
        put(&call->out[3], c, (1 - momentum) * old_mean + momentum * mean);
        put(&call->out[4], c, (1 - momentum) * old_variance + momentum * variance * count / (count - 1));
    }
    if (call->out[0].data) grdi_parallel_for(call->threads, s->rows, grain(s), forward_rows, call);
    return GRD_OK;
}

/* ---- backward: sums of g and of g (x - mean), then gx = g a + (x - mean) b + c. g counts where (x - mean) a + bias is
 * positive, which it is everywhere where there was no relu: an infinite bias ---- */

static inline grdi_vf counted(grdi_vf g, grdi_vf d, const float *a, const float *bias)
{
    return grdi_select(d * grdi_load(a) + grdi_load(bias) > grdi_set(0), g, grdi_set(0));
}

static void backward_sums(int64_t begin, int64_t end, int32_t thread, void *context)
{
    const grdi_call *call = context;
    const norm_state *s = call->state;
    const float *mean = call->in[2].data, *a = s->vectors, *bias = a + 3 * s->room;
    float *first = s->parts + 2 * thread * s->room, *second = first + s->room;
    const bool g_half = call->in[0].dtype == GRD_BF16, half = call->in[1].dtype == GRD_BF16;
    for (int64_t row = begin; row < end; row++) {
        const void *g = row_of(&call->in[0], row, s), *x = row_of(&call->in[1], row, s);
        int64_t i = 0;
        for (; i + GRDI_LANES <= s->channels; i += GRDI_LANES) {
            grdi_vf d = row_lanes(x, i, half) - grdi_load(mean + i);
            grdi_vf v = counted(row_lanes(g, i, g_half), d, a + i, bias + i);
            grdi_store(first + i, grdi_load(first + i) + v);
            grdi_store(second + i, grdi_load(second + i) + v * d);
        }
        for (; i < s->channels; i++) {
            float d = row_element(x, i, half) - mean[i], v = d * a[i] + bias[i] > 0 ? row_element(g, i, g_half) : 0;
            first[i] += v;
            second[i] += v * d;
        }
        if ((row - begin) % SUM_ROWS == SUM_ROWS - 1) flush_parts(s, thread);
    }
    flush_parts(s, thread);
}

static void backward_rows(int64_t begin, int64_t end, int32_t thread, void *context)
{
    const grdi_call *call = context;
    const norm_state *s = call->state;
    const float *mean = call->in[2].data, *a = s->vectors, *b = a + s->room, *c = b + s->room, *bias = c + s->room;
    const bool g_half = call->in[0].dtype == GRD_BF16, half = call->in[1].dtype == GRD_BF16;
    const bool out_half = call->out[0].dtype == GRD_BF16;
    (void)thread;
    for (int64_t row = begin; row < end; row++) {
        const void *g = row_of(&call->in[0], row, s), *x = row_of(&call->in[1], row, s);
        void *gx = row_of(&call->out[0], row, s);
        int64_t i = 0;
        for (; i + GRDI_LANES <= s->channels; i += GRDI_LANES) {
            grdi_vf d = row_lanes(x, i, half) - grdi_load(mean + i);
            grdi_vf v = counted(row_lanes(g, i, g_half), d, a + i, bias + i);
            put_lanes(gx, i, out_half, v * grdi_load(a + i) + d * grdi_load(b + i) + grdi_load(c + i));
        }
        for (; i < s->channels; i++) {
            float d = row_element(x, i, half) - mean[i], v = d * a[i] + bias[i] > 0 ? row_element(g, i, g_half) : 0;
            grdi_run_put(gx, call->out[0].dtype, i, v * a[i] + d * b[i] + c[i]);
        }
    }
}

static void store_gradient(const grdi_call *call, int32_t output, int64_t c, double value)
{
    const grdi_view *out = &call->out[output];
    if (out->data) put(out, c, value + (call->accumulate[output] ? (double)((const float *)out->data)[c] : 0));
}

static grd_status backward_run(grdi_call *call)
{
    norm_state *s = place_scratch(call);
    float *a = s->vectors, *b = a + s->room, *c = b + s->room, *bias = c + s->room;
    double part = 1 / (double)s->rows;
    for (int64_t i = 0; i < s->channels; i++) {
        a[i] = (float)((double)((const float *)call->in[3].data)[i] * ((const float *)call->in[4].data)[i]);
        bias[i] = call->input_count > 5 ? ((const float *)call->in[5].data)[i] : INFINITY;
    }
    grdi_parallel_for(call->threads, s->rows, grain(s), backward_sums, call);
    for (int64_t i = 0; i < s->channels; i++) {
        double rstd = ((const float *)call->in[3].data)[i], scale = rstd * ((const float *)call->in[4].data)[i];
        double sum = total(call, 0, i), along = total(call, 1, i) * rstd;
        b[i] = (float)(-scale * along * part * rstd);
        c[i] = (float)(-scale * sum * part);
        store_gradient(call, 1, i, along);
        store_gradient(call, 2, i, sum);
    }
    if (call->out[0].data) grdi_parallel_for(call->threads, s->rows, grain(s), backward_rows, call);
    return GRD_OK;
}

/* x, y and their gradients may be in bf16; what there is one of for each channel is in f32. */
static bool supports(const grdi_call *call)
{
    uint32_t wide = call->output_count == 3 ? 3 : 33; /* backward has g and x, forward x and what is added */
    bool fits = grdi_is_activation(call->out[0].dtype);
    for (int32_t i = 0; i < call->input_count; i++)
        fits &= wide >> i & 1 ? grdi_is_activation(call->in[i].dtype) : call->in[i].dtype == GRD_F32;
    for (int32_t o = 1; o < call->output_count; o++) fits &= call->out[o].dtype == GRD_F32;
    return fits;
}

static const grdi_kernel forward = {.op = "batch_norm",
                                    .in_place = 1 | 8 | 16,
                                    .supports = supports,
                                    .prepare = prepare,
                                    .run = forward_run,
                                    .release = release};
static const grdi_kernel backward = {.op = "batch_norm_backward",
                                     .in_place = 1,
                                     .accumulates = 6,
                                     .supports = supports,
                                     .prepare = prepare,
                                     .run = backward_run,
                                     .release = release};

const grdi_kernel *const GRDI_ISA_TABLE(batch_norm)[] = {&forward, &backward, NULL};
