/* random.c - dropout and random values: Philox4x32-10 on many counters at once. Element i takes word i mod 4 of counter
 * i div 4 (see base/random.h), whatever thread computes it. */
#include "backend/cpu/kernels/math.h"
#include "backend/cpu/kernels/philox.h"
#include "backend/cpu/kernels/run.h"
#include "backend/cpu/parallel.h"
#include "base/random.h"

enum { PIECE = GRDI_PHILOX_WORDS, GRAIN = 8192 };

/* `path` takes the place of an attribute `stream` of 0. */
static grdi_stream read_stream(const grdi_call *call, int32_t input, uint64_t path)
{
    uint64_t given = (uint64_t)grdi_attr_int(call->attrs, "stream");
    return grdi_stream_of(call->in[input].data, given ? given : path);
}

/* ---- dropout ---- */

typedef struct dropout_job {
    const grdi_call *call;
    grdi_stream stream;
    uint32_t least; /* of the 24 bits that keep an element */
    float scale;
} dropout_job;

static void dropout_piece(float *y, const float *x, const uint32_t *words, const dropout_job *job, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = words[i] >> 8 >= job->least ? x[i] * job->scale : 0.0f;
}

static void dropout_range(int64_t begin, int64_t end, int32_t thread, void *context)
{
    (void)thread;
    const dropout_job *job = context;
    const grdi_view *in = &job->call->in[0], *out = &job->call->out[0];
    uint32_t words[PIECE];
    float x[PIECE], y[PIECE];
    for (int64_t at = begin; at < end; at += PIECE) {
        int64_t n = end - at < PIECE ? end - at : PIECE;
        grdi_draw(words, &job->stream, (uint64_t)at / 4);
        if (in->dtype == GRD_F32 && out->dtype == GRD_F32) {
            dropout_piece((float *)out->data + at, (const float *)in->data + at, words, job, n);
            continue;
        }
        grdi_run_load(x, grdi_run_at(in->data, in->dtype, at), in->dtype, 1, n);
        dropout_piece(y, x, words, job, n);
        grdi_run_store(grdi_run_at(out->data, out->dtype, at), out->dtype, 1, y, n, false);
    }
}

static grd_status dropout_run(grdi_call *call)
{
    double p = grdi_attr_float(call->attrs, "p");
    dropout_job job = {call, read_stream(call, 1, call->path_hash), (uint32_t)ceil(p * 16777216.0),
                       (float)(1 / (1 - p))};
    grdi_parallel_for(call->threads, grd_dims_count(call->in[0].dims), GRAIN, dropout_range, &job);
    return GRD_OK;
}

static bool dropout_supports(const grdi_call *call)
{
    grd_dtype in = call->in[0].dtype, out = call->out[0].dtype;
    return (in == GRD_F32 || in == GRD_BF16) && (out == GRD_F32 || out == GRD_BF16);
}

/* ---- random_uniform, random_normal ---- */

typedef struct random_job {
    const grdi_call *call;
    grdi_stream stream;
    double a, b; /* low and high - low, or mean and std */
} random_job;

static void put_values(const random_job *job, int64_t at, const float *values, int64_t n)
{
    const grdi_view *out = &job->call->out[0];
    grdi_run_store(grdi_run_at(out->data, out->dtype, at), out->dtype, 1, values, n, false);
}

static void uniform_range(int64_t begin, int64_t end, int32_t thread, void *context)
{
    (void)thread;
    const random_job *job = context;
    uint32_t words[PIECE];
    float values[PIECE];
    for (int64_t at = begin; at < end; at += PIECE) {
        int64_t n = end - at < PIECE ? end - at : PIECE;
        grdi_draw(words, &job->stream, (uint64_t)at / 4);
        for (int64_t i = 0; i < n; i++)
            values[i] = (float)(job->a + job->b * grdi_unit(words[i]));
        put_values(job, at, values, n);
    }
}

/* log((word + 1) / 2^32): near 1 through the distance from 1, which a float holds better. */
static inline grdi_vf log_of_word(grdi_vu word)
{
    const grdi_vf unit = grdi_set(2.3283064365386963e-10f);
    grdi_vf below = grdi_log((__builtin_convertvector(word, grdi_vf) + 1.0f) * unit);
    grdi_vf above = grdi_log1p(-(__builtin_convertvector(~word, grdi_vf) * unit));
    return grdi_select((grdi_vi)word < 0, above, below);
}

/* Box and Muller: words[i] gives the radius, words[i + 1] the angle in 2^-32 turns. Its nearest quarter is taken off as
 * an integer. */
static void normal_piece(float *to, const uint32_t *words)
{
    uint32_t even[PIECE / 2], odd[PIECE / 2];
    for (int i = 0; i < PIECE / 2; i++) {
        even[i] = words[2 * i];
        odd[i] = words[2 * i + 1];
    }
    for (int i = 0; i < PIECE / 2; i += GRDI_LANES) {
        grdi_vu u, v;
        memcpy(&u, even + i, sizeof u);
        memcpy(&v, odd + i, sizeof v);
        grdi_vf radius = grdi_sqrt(-2.0f * log_of_word(u));
        grdi_vu quarter = (v + (1u << 29)) >> 30;
        grdi_vf r = __builtin_convertvector((grdi_vi)(v - (quarter << 30)), grdi_vf) *
                    1.46291807926715968e-9f; /* 2 pi / 2^32 */
        grdi_vi turn = (grdi_vi)quarter;
        grdi_vf sine = grdi_sine_or_cosine(r, (turn & 1) != 0), cosine = grdi_sine_or_cosine(r, (turn & 1) == 0);
        sine = (grdi_vf)((grdi_vi)sine ^ ((turn & 2) << 30));
        cosine = (grdi_vf)((grdi_vi)cosine ^ (((turn + 1) & 2) << 30));
        for (int k = 0; k < GRDI_LANES; k++) {
            to[2 * (i + k)] = radius[k] * cosine[k];
            to[2 * (i + k) + 1] = radius[k] * sine[k];
        }
    }
}

static void normal_range(int64_t begin, int64_t end, int32_t thread, void *context)
{
    (void)thread;
    const random_job *job = context;
    uint32_t words[PIECE];
    float values[PIECE];
    for (int64_t at = begin; at < end; at += PIECE) {
        int64_t n = end - at < PIECE ? end - at : PIECE;
        grdi_draw(words, &job->stream, (uint64_t)at / 4);
        normal_piece(values, words);
        for (int64_t i = 0; i < n; i++)
            values[i] = (float)(job->a + job->b * values[i]);
        put_values(job, at, values, n);
    }
}

static grd_status random_run(grdi_call *call)
{
    bool normal = strcmp(call->op->name, "random_normal") == 0;
    random_job job = {.call = call, .stream = read_stream(call, 0, 0)};
    job.a = grdi_attr_float(call->attrs, normal ? "mean" : "low");
    job.b = normal ? grdi_attr_float(call->attrs, "std") : grdi_attr_float(call->attrs, "high") - job.a;
    grdi_parallel_for(call->threads, grd_dims_count(call->out[0].dims), GRAIN, normal ? normal_range : uniform_range,
                      &job);
    return GRD_OK;
}

static bool random_supports(const grdi_call *call)
{
    return call->in[0].dtype == GRD_I32 && (call->out[0].dtype == GRD_F32 || call->out[0].dtype == GRD_BF16);
}

static const grdi_kernel kernel_dropout = {
    .op = "dropout", .in_place = 1, .supports = dropout_supports, .run = dropout_run};
static const grdi_kernel kernel_random_uniform = {
    .op = "random_uniform", .supports = random_supports, .run = random_run};
static const grdi_kernel kernel_random_normal = {.op = "random_normal", .supports = random_supports, .run = random_run};

const grdi_kernel *const GRDI_ISA_TABLE(random)[] = {&kernel_dropout, &kernel_random_uniform, &kernel_random_normal,
                                                     NULL};
