/* rope.c - rotary position embedding of [B,T,H,D]: one pass, each angle's cosine and sine read once per head. */
#include "backend/cpu/kernels/rows.h"
#include "backend/cpu/parallel.h"

enum { GRAIN = 16384, PIECE = 512 };

/* Turns the pairs (a[i], b[i]) for i < half. */
static void turn(float *to_a, float *to_b, const float *a, const float *b, const float *c, const float *s, float sign,
                 int64_t half)
{
    int64_t i = 0;
    for (; i + GRDI_LANES <= half; i += GRDI_LANES) {
        grdi_vf x = grdi_load(a + i), y = grdi_load(b + i), cosine = grdi_load(c + i), sine = sign * grdi_load(s + i);
        grdi_store(to_a + i, x * cosine - y * sine);
        grdi_store(to_b + i, y * cosine + x * sine);
    }
    for (; i < half; i++) {
        float x = a[i], y = b[i], sine = sign * s[i];
        to_a[i] = x * c[i] - y * sine;
        to_b[i] = y * c[i] + x * sine;
    }
}

/* Pieces of PIECE pairs go through buffers where they are not floats lying one after another. `sign`: -1 to turn
 * back. */
static void turn_row(const grdi_call *call, bool interleaved, float sign, int64_t from, int64_t to, int64_t cosines,
                     int64_t sines)
{
    const grdi_view *in = &call->in[0], *out = &call->out[0];
    int64_t half = in->dims.dim[3] / 2;
    int64_t step = interleaved ? 2 : 1, second = interleaved ? 1 : half;
    const grdi_view *cosine = &call->in[1], *sine = &call->in[2];
    if (!interleaved && in->dtype == GRD_F32 && out->dtype == GRD_F32 && cosine->dtype == GRD_F32) {
        const float *x = (const float *)in->data + from;
        float *y = (float *)out->data + to;
        turn(y, y + half, x, x + half, (const float *)cosine->data + cosines, (const float *)sine->data + sines, sign,
             half);
        return;
    }
    float a[PIECE], b[PIECE], c[PIECE], s[PIECE];
    for (int64_t i = 0; i < half; i += PIECE) {
        int64_t n = half - i < PIECE ? half - i : PIECE;
        grdi_run_load(a, grdi_run_at(in->data, in->dtype, from + i * step), in->dtype, step, n);
        grdi_run_load(b, grdi_run_at(in->data, in->dtype, from + i * step + second), in->dtype, step, n);
        grdi_run_load(c, grdi_run_at(cosine->data, cosine->dtype, cosines + i), cosine->dtype, 1, n);
        grdi_run_load(s, grdi_run_at(sine->data, sine->dtype, sines + i), sine->dtype, 1, n);
        turn(a, b, a, b, c, s, sign, n);
        grdi_run_store(grdi_run_at(out->data, out->dtype, to + i * step), out->dtype, step, a, n, false);
        grdi_run_store(grdi_run_at(out->data, out->dtype, to + i * step + second), out->dtype, step, b, n, false);
    }
}

/* Positions [begin, end) of B times T. */
static void rope_range(int64_t begin, int64_t end, int32_t thread, void *context)
{
    (void)thread;
    const grdi_call *call = context;
    const grdi_view *in = &call->in[0], *out = &call->out[0], *table = &call->in[1];
    int64_t length = in->dims.dim[1];
    const bool shared = table->dims.rank == 2, interleaved = grdi_attr_int(call->attrs, "interleaved") != 0;
    const float sign = grdi_attr_int(call->attrs, "inverse") ? -1.0f : 1.0f;
    for (int64_t i = begin; i < end; i++) {
        int64_t b = i / length, t = i % length;
        int64_t cosines = shared ? t * table->stride[0] : b * table->stride[0] + t * table->stride[1];
        int64_t sines = shared ? t * call->in[2].stride[0] : b * call->in[2].stride[0] + t * call->in[2].stride[1];
        for (int64_t h = 0; h < in->dims.dim[2]; h++)
            turn_row(call, interleaved, sign, b * in->stride[0] + t * in->stride[1] + h * in->stride[2],
                     b * out->stride[0] + t * out->stride[1] + h * out->stride[2], cosines, sines);
    }
}

static grd_status run(grdi_call *call)
{
    const int64_t *dim = call->in[0].dims.dim;
    grdi_parallel_for(call->threads, dim[0] * dim[1], GRAIN / (dim[2] * dim[3]) + 1, rope_range, call);
    return GRD_OK;
}

static bool supports(const grdi_call *call)
{
    grd_dtype table = call->in[1].dtype;
    return grdi_is_activation(call->in[0].dtype) && grdi_is_activation(table) && call->in[2].dtype == table &&
           grdi_is_activation(call->out[0].dtype);
}

static const grdi_kernel kernel_rope = {
    .op = "rope", .rows_in = 7, .strided_out = 1, .in_place = 1, .supports = supports, .run = run};

const grdi_kernel *const GRDI_ISA_TABLE(rope)[] = {&kernel_rope, NULL};
