/* interpolate.c - values between points, and the adjoint. Rows of channels lie side by side, so each loop runs along
 * them; threads take positions, and for the adjoint samples, whose points overlap. */
#include "backend/cpu/kernels/rows.h"
#include "backend/cpu/parallel.h"
#include "base/interpolate.h"
#include "base/memory.h"

enum { PARALLEL = 16384 /* elements that pay for another thread */, AXES = 3 };

typedef struct interpolate_state {
    int64_t samples, channels, in[AXES], out[AXES], points, from; /* points: positions of a sample in `out` */
    grdi_blend *blends; /* of the axes' output points, one axis after the other */
    int64_t room;       /* floats of a row buffer */
    float *buffers;     /* 2 rows for each thread */
} interpolate_state;

static void release(grdi_call *call)
{
    interpolate_state *s = call->state;
    if (s) grdi_free(s->blends);
    grdi_free(s);
    call->state = NULL;
}

/* From `x`, the side with the points that values are made of, to `y`. */
static grd_status prepare(grdi_call *call, const grdi_view *x, const grdi_view *y, grd_error *error)
{
    interpolate_state *s = call->state = grdi_alloc_zero(1, sizeof *s);
    int64_t total = 0, k = 0;
    if (!s) return grd_fail(error, GRD_E_MEMORY, "%s: out of memory", call->op->name);
    s->samples = x->dims.dim[0], s->channels = x->dims.dim[x->dims.rank - 1], s->points = s->from = 1;
    for (int32_t a = 0; a < AXES; a++) {
        int32_t axis = a - (AXES - (x->dims.rank - 2));
        s->in[a] = axis < 0 ? 1 : x->dims.dim[1 + axis];
        s->out[a] = axis < 0 ? 1 : y->dims.dim[1 + axis];
        s->from *= s->in[a], s->points *= s->out[a], total += s->out[a];
    }
    s->blends = grdi_alloc((size_t)total * sizeof *s->blends);
    if (!s->blends) return grd_fail(error, GRD_E_MEMORY, "%s: out of memory", call->op->name);
    int mode = (int)grdi_attr_int(call->attrs, "mode");
    bool align = grdi_attr_int(call->attrs, "align_corners");
    for (int32_t a = 0; a < AXES; a++)
        for (int64_t o = 0; o < s->out[a]; o++)
            s->blends[k++] = grdi_interpolate_at(s->in[a], s->out[a], mode, align, o);
    s->room = grdi_row_room(s->channels);
    call->scratch_bytes = (size_t)(2 * s->room * call->threads) * sizeof(float);
    return GRD_OK;
}

/* The points that a value is made of. */
typedef struct corners {
    int32_t count;
    int64_t at[8];
    float weight[8];
} corners;

static corners corners_of(const interpolate_state *s, int64_t point)
{
    const grdi_blend *b2 = s->blends + s->out[0] + s->out[1] + point % s->out[2];
    const grdi_blend *b1 = s->blends + s->out[0] + point / s->out[2] % s->out[1];
    const grdi_blend *b0 = s->blends + point / s->out[2] / s->out[1];
    corners c = {.count = 0};
    for (int i = 0; i < 8; i++) {
        int p = i >> 2, q = i >> 1 & 1, r = i & 1;
        double weight = b0->weight[p] * b1->weight[q] * b2->weight[r];
        if (weight == 0) continue;
        c.at[c.count] = (b0->at[p] * s->in[1] + b1->at[q]) * s->in[2] + b2->at[r];
        c.weight[c.count++] = (float)weight;
    }
    return c;
}

/* to = from scale, or to += from scale */
static void add_scaled(float *to, const float *from, float scale, int64_t count, bool first)
{
    int64_t i = 0;
    for (; i + GRDI_LANES <= count; i += GRDI_LANES) {
        grdi_vf v = grdi_load(from + i) * scale;
        grdi_store(to + i, first ? v : grdi_load(to + i) + v);
    }
    for (; i < count; i++) to[i] = first ? from[i] * scale : to[i] + from[i] * scale;
}

static void forward_range(int64_t begin, int64_t end, int32_t thread, void *context)
{
    const grdi_call *call = context;
    const interpolate_state *s = call->state;
    const grdi_view *x = &call->in[0], *y = &call->out[0];
    float *x_buffer = s->buffers + 2 * thread * s->room, *y_buffer = x_buffer + s->room;
    int64_t channels = s->channels;
    for (int64_t row = begin; row < end; row++) {
        float *sum = grdi_row_write(y, row * channels, y_buffer);
        corners c = corners_of(s, row % s->points);
        int64_t base = row / s->points * s->from;
        for (int32_t i = 0; i < c.count; i++)
            add_scaled(sum, grdi_row_read(x, (base + c.at[i]) * channels, channels, x_buffer), c.weight[i], channels,
                       i == 0);
        grdi_row_written(y, row * channels, channels, y_buffer);
    }
}

static grd_status forward_prepare(grdi_call *call, grd_error *error)
{
    return prepare(call, &call->in[0], &call->out[0], error);
}

static grd_status forward_run(grdi_call *call)
{
    interpolate_state *s = call->state;
    s->buffers = call->scratch;
    grdi_parallel_for(call->threads, s->samples * s->points, PARALLEL / s->channels / 4 + 1, forward_range, call);
    return GRD_OK;
}

/* ---- the adjoint ---- */

static void backward_range(int64_t begin, int64_t end, int32_t thread, void *context)
{
    const grdi_call *call = context;
    const interpolate_state *s = call->state;
    int64_t channels = s->channels;
    float *buffer = s->buffers + 2 * thread * s->room;
    for (int64_t sample = begin; sample < end; sample++) {
        float *gx = (float *)call->out[0].data + sample * s->from * channels;
        memset(gx, 0, (size_t)(s->from * channels) * sizeof(float));
        for (int64_t point = 0; point < s->points; point++) {
            const float *g = grdi_row_read(&call->in[0], (sample * s->points + point) * channels, channels, buffer);
            corners c = corners_of(s, point);
            for (int32_t i = 0; i < c.count; i++)
                add_scaled(gx + c.at[i] * channels, g, c.weight[i], channels, false);
        }
    }
}

/* Sums need f32: with a gradient in bf16 they are made in scratch. */
static grd_status backward_prepare(grdi_call *call, grd_error *error)
{
    grd_status status = prepare(call, &call->out[0], &call->in[0], error);
    const interpolate_state *s = call->state;
    if (!status && call->out[0].dtype != GRD_F32)
        call->scratch_bytes += (size_t)(s->samples * s->from * s->channels) * sizeof(float);
    return status;
}

static grd_status backward_run(grdi_call *call)
{
    interpolate_state *s = call->state;
    grdi_call given = *call;
    s->buffers = call->scratch;
    if (call->out[0].dtype != GRD_F32) given.out[0].data = s->buffers + 2 * s->room * call->threads;
    grdi_parallel_for(call->threads, s->samples, PARALLEL / (s->points * s->channels) + 1, backward_range, &given);
    if (call->out[0].dtype != GRD_F32)
        grdi_run_store(call->out[0].data, call->out[0].dtype, 1, given.out[0].data, s->samples * s->from * s->channels,
                       false);
    return GRD_OK;
}

static bool supports(const grdi_call *call)
{
    return grdi_is_activation(call->in[0].dtype) && grdi_is_activation(call->out[0].dtype);
}

static const grdi_kernel forward = {
    .op = "interpolate", .supports = supports, .prepare = forward_prepare, .run = forward_run, .release = release};
static const grdi_kernel backward = {.op = "interpolate_backward",
                                     .supports = supports,
                                     .prepare = backward_prepare,
                                     .run = backward_run,
                                     .release = release};

const grdi_kernel *const GRDI_ISA_TABLE(interpolate)[] = {&forward, &backward, NULL};
