/* random.c - dropout and random values: Philox4x32-10 on many counters at once. Element i takes word i mod 4 of counter
 * i div 4 (see base/random.h), whatever thread computes it. */
#include "backend/cpu/kernels/math.h"
#include "backend/cpu/kernels/run.h"
#include "backend/cpu/parallel.h"
#include "base/random.h"

enum {
    BLOCKS = 64,        /* counters at a time */
    PIECE = 4 * BLOCKS, /* their words */
    GRAIN = 8192
};

typedef struct stream {
    uint64_t key, step;
} stream;

/* key: i32[4] = {seed low, seed high, step, micro}. `path` takes the place of an attribute `stream` of 0. */
static stream read_stream(const grdi_call *call, int32_t input, uint64_t path)
{
    const int32_t *word = call->in[input].data;
    uint64_t given = (uint64_t)grdi_attr_int(call->attrs, "stream");
    path = given ? given : path;
    return (stream){((uint64_t)(uint32_t)word[1] << 32 | (uint32_t)word[0]) ^ path,
                    (uint64_t)(uint32_t)word[3] << 32 | (uint32_t)word[2]};
}

/* words[0..PIECE): the words of counters first, first + 1, ... */
static void draw(uint32_t *words, const stream *s, uint64_t first)
{
    uint32_t c0[BLOCKS], c1[BLOCKS], c2[BLOCKS], c3[BLOCKS], key0 = (uint32_t)s->key, key1 = (uint32_t)(s->key >> 32);
    for (int i = 0; i < BLOCKS; i++) {
        c0[i] = (uint32_t)(first + (uint64_t)i);
        c1[i] = (uint32_t)((first + (uint64_t)i) >> 32);
        c2[i] = (uint32_t)s->step;
        c3[i] = (uint32_t)(s->step >> 32);
    }
    for (int round = 0; round < 10; round++) {
        for (int i = 0; i < BLOCKS; i++) {
            uint64_t p0 = (uint64_t)0xD2511F53u * c0[i], p1 = (uint64_t)0xCD9E8D57u * c2[i];
            c0[i] = (uint32_t)(p1 >> 32) ^ c1[i] ^ key0;
            c2[i] = (uint32_t)(p0 >> 32) ^ c3[i] ^ key1;
            c1[i] = (uint32_t)p1;
            c3[i] = (uint32_t)p0;
        }
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
    for (int i = 0; i < BLOCKS; i++) {
        words[4 * i] = c0[i];
        words[4 * i + 1] = c1[i];
        words[4 * i + 2] = c2[i];
        words[4 * i + 3] = c3[i];
    }
}

/* ---- dropout ---- */

typedef struct dropout_job {
    const grdi_call *call;
    stream stream;
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
        draw(words, &job->stream, (uint64_t)at / 4);
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
    stream stream;
    double a, b; /* low and high - low, or mean and std */
} random_job;

static void uniform_range(int64_t begin, int64_t end, int32_t thread, void *context)
{
    (void)thread;
    const random_job *job = context;
    float *out = job->call->out[0].data;
    uint32_t words[PIECE];
    for (int64_t at = begin; at < end; at += PIECE) {
        int64_t n = end - at < PIECE ? end - at : PIECE;
        draw(words, &job->stream, (uint64_t)at / 4);
        for (int64_t i = 0; i < n; i++)
            out[at + i] = (float)(job->a + job->b * grdi_unit(words[i]));
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
    float *out = job->call->out[0].data, values[PIECE];
    uint32_t words[PIECE];
    for (int64_t at = begin; at < end; at += PIECE) {
        int64_t n = end - at < PIECE ? end - at : PIECE;
        draw(words, &job->stream, (uint64_t)at / 4);
        normal_piece(values, words);
        for (int64_t i = 0; i < n; i++)
            out[at + i] = (float)(job->a + job->b * values[i]);
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

static const grdi_kernel kernel_dropout = {
    .op = "dropout", .in_place = 1, .supports = dropout_supports, .run = dropout_run};
static const grdi_kernel kernel_random_uniform = {.op = "random_uniform", .run = random_run};
static const grdi_kernel kernel_random_normal = {.op = "random_normal", .run = random_run};

const grdi_kernel *const GRDI_ISA_TABLE(random)[] = {&kernel_dropout, &kernel_random_uniform, &kernel_random_normal,
                                                     NULL};
