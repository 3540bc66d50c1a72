/* optimizer.c - one step of an optimizer over flat storages, in place: each value is read once and written once. With a
 * key the weights are in bf16 and rounded stochastically (grd_stochastic_round in ops_optimizer.h). */
#include "backend/cpu/kernels/philox.h"
#include "backend/cpu/kernels/run.h"
#include "backend/cpu/kernels/vector.h"
#include "backend/cpu/parallel.h"
#include "backend/backend.h"
#include "base/random.h"

enum { GRAIN = 16384, PIECE = 1024 };

/* What a step needs besides the values, read from memory at each run. */
typedef struct recipe {
    bool skip;
    float scale, lr, decay, correct1, correct2; /* hyper[1], hyper[2] */
    float beta1, beta2, eps;
    float take1, take2; /* 1 - beta, subtracted in double: 1 - 0.999f is off by 5e-5 of itself */
    bool flag; /* adamw: coupled; sgd: nesterov */
} recipe;

static float attr(const grdi_call *call, const char *name) { return (float)grdi_attr_float(call->attrs, name); }
static float rest(const grdi_call *call, const char *name) { return (float)(1 - grdi_attr_float(call->attrs, name)); }

/* Whether the last input is a key. */
static bool rounds(const grdi_call *call) { return call->in[call->input_count - 1].dtype == GRD_I32; }

/* hyper and scale are the last two inputs but for a key. */
static recipe read_recipe(const grdi_call *call)
{
    int32_t last = call->input_count - 1 - rounds(call);
    const float *hyper = call->in[last - 1].data;
    float scale = *(const float *)call->in[last].data;
    return (recipe){.skip = !(scale >= 0.0f),
                    .scale = scale,
                    .lr = hyper[0] * attr(call, "lr_scale"),
                    .correct1 = hyper[1],
                    .correct2 = hyper[2],
                    .decay = attr(call, "weight_decay")};
}

/* A piece of at most PIECE values, of which loops take whole registers: the last ones pass through a buffer. */
typedef void (*piece_fn)(const recipe *r, float *const *x, int64_t n);

typedef struct update {
    const grdi_call *call;
    recipe recipe;
    piece_fn fn;
    int32_t values;     /* inputs p, g, m, v, of which some are written */
    int32_t written[3]; /* output o holds the new value of input written[o] */
    grdi_stream stream; /* of the bits that weights are rounded by */
    int64_t first;      /* the element's number among them */
} update;

/* Bits are added below those that bf16 has, and what is carried says which way a value goes. */
static void round_lanes(uint16_t *to, const float *x, const uint16_t *random, int64_t count)
{
    for (int64_t i = 0; i < count; i += GRDI_LANES) {
        grdi_vf v = grdi_load(x + i);
        grdi_vu bits = (grdi_vu)v, nan = (grdi_vu)grdi_is_nan(v);
        grdi_vu sum = bits + __builtin_convertvector(*(const grdi_vh_any *)(random + i), grdi_vu);
        sum = (sum & ~nan) | ((bits | 0x400000u) & nan);
        *(grdi_vh_any *)(to + i) = __builtin_convertvector(sum >> 16, grdi_vh);
    }
}

/* x [PIECE] to elements [at, at + n) in bf16. */
static void store_randomly(const update *u, uint16_t *to, int64_t at, const float *x, int64_t n)
{
    uint16_t random[PIECE], rounded[PIECE];
    uint32_t words[GRDI_PHILOX_WORDS];
    for (int64_t i = 0; i < n; i += 2 * GRDI_PHILOX_WORDS) {
        grdi_draw(words, &u->stream, (uint64_t)(u->first + at + i) / 8);
        for (int64_t k = 0; k < GRDI_PHILOX_WORDS; k++) {
            random[i + 2 * k] = (uint16_t)words[k];
            random[i + 2 * k + 1] = (uint16_t)(words[k] >> 16);
        }
    }
    round_lanes(rounded, x, random, (n + GRDI_LANES - 1) / GRDI_LANES * GRDI_LANES);
    memcpy(to + at, rounded, (size_t)n * sizeof(uint16_t));
}

/* Works on copies in buffers where values are not in place or do not fill registers. */
static void update_range(int64_t begin, int64_t end, int32_t thread, void *context)
{
    (void)thread;
    const update *u = context;
    const grdi_call *call = u->call;
    for (int64_t at = begin; at < end; at += PIECE) {
        float buffer[4][PIECE], *x[4];
        int64_t n = end - at < PIECE ? end - at : PIECE, whole = n / GRDI_LANES * GRDI_LANES;
        bool direct = whole == n && !rounds(call);
        for (int32_t o = 0; o < call->output_count; o++)
            direct &= call->out[o].data == call->in[u->written[o]].data;
        for (int32_t i = 0; i < u->values; i++) {
            x[i] = (float *)call->in[i].data + at;
            if (direct)
                continue;
            grdi_run_load(buffer[i], grdi_run_at(call->in[i].data, call->in[i].dtype, at), call->in[i].dtype, 1, n);
            memset(buffer[i] + n, 0, (size_t)(PIECE - n) * sizeof(float));
            x[i] = buffer[i];
        }
        if (!u->recipe.skip)
            u->fn(&u->recipe, x, direct ? n : whole == n ? n : whole + GRDI_LANES);
        for (int32_t o = 0; o < call->output_count && !direct; o++) {
            if (!call->out[o].data)
                continue;
            if (call->out[o].dtype == GRD_BF16)
                store_randomly(u, call->out[o].data, at, x[u->written[o]], n);
            else
                memcpy((float *)call->out[o].data + at, x[u->written[o]], (size_t)n * sizeof(float));
        }
    }
}

static grd_status run_update(update *u)
{
    int64_t count = grd_dims_count(u->call->in[0].dims);
    if (rounds(u->call)) {
        u->stream = grdi_stream_of(u->call->in[u->call->input_count - 1].data, GRDI_ROUNDING_STREAM);
        u->first = grdi_attr_int(u->call->attrs, "first");
    }
    grdi_parallel_for(u->call->threads, count, GRAIN, update_range, u);
    return GRD_OK;
}

static void adamw_piece(const recipe *r, float *const *x, int64_t n)
{
    float keep1 = r->beta1, keep2 = r->beta2, take1 = r->take1, take2 = r->take2;
    float shrink = r->flag ? 1.0f : 1.0f - r->lr * r->decay, in_gradient = r->flag ? r->decay : 0.0f;
    float rate = r->lr * r->correct1;
    for (int64_t i = 0; i < n; i += GRDI_LANES) {
        grdi_vf p = grdi_load(x[0] + i), g = grdi_load(x[1] + i) * r->scale + in_gradient * p;
        grdi_vf m = keep1 * grdi_load(x[2] + i) + take1 * g, v = keep2 * grdi_load(x[3] + i) + take2 * (g * g);
        grdi_store(x[0] + i, p * shrink - rate * m / (grdi_sqrt(v * r->correct2) + r->eps));
        grdi_store(x[2] + i, m);
        grdi_store(x[3] + i, v);
    }
}

static grd_status adamw_run(grdi_call *call)
{
    update u = {.call = call, .recipe = read_recipe(call), .fn = adamw_piece, .values = 4, .written = {0, 2, 3}};
    u.recipe.beta1 = attr(call, "beta1");
    u.recipe.beta2 = attr(call, "beta2");
    u.recipe.take1 = rest(call, "beta1");
    u.recipe.take2 = rest(call, "beta2");
    u.recipe.eps = attr(call, "eps");
    u.recipe.flag = grdi_attr_int(call->attrs, "coupled") != 0;
    return run_update(&u);
}

/* beta1: momentum, beta2: 1 - dampening */
static void sgd_momentum_piece(const recipe *r, float *const *x, int64_t n)
{
    float ahead = r->flag ? r->beta1 : 1.0f, now = r->flag ? 1.0f : 0.0f;
    for (int64_t i = 0; i < n; i += GRDI_LANES) {
        grdi_vf p = grdi_load(x[0] + i), g = grdi_load(x[1] + i) * r->scale + r->decay * p;
        grdi_vf m = r->beta1 * grdi_load(x[2] + i) + r->beta2 * g;
        grdi_store(x[0] + i, p - r->lr * (now * g + ahead * m));
        grdi_store(x[2] + i, m);
    }
}

static void sgd_piece(const recipe *r, float *const *x, int64_t n)
{
    for (int64_t i = 0; i < n; i += GRDI_LANES) {
        grdi_vf p = grdi_load(x[0] + i), g = grdi_load(x[1] + i) * r->scale + r->decay * p;
        grdi_store(x[0] + i, p - r->lr * g);
    }
}

static grd_status sgd_run(grdi_call *call)
{
    bool momentum = call->input_count - rounds(call) == 5;
    update u = {.call = call, .recipe = read_recipe(call), .values = momentum ? 3 : 2, .written = {0, 2}};
    u.fn = momentum ? sgd_momentum_piece : sgd_piece;
    u.recipe.beta1 = attr(call, "momentum");
    u.recipe.beta2 = rest(call, "dampening");
    u.recipe.flag = grdi_attr_int(call->attrs, "nesterov") != 0;
    return run_update(&u);
}

static void lion_piece(const recipe *r, float *const *x, int64_t n)
{
    float keep1 = r->beta1, keep2 = r->beta2, take1 = r->take1, take2 = r->take2, shrink = 1 - r->lr * r->decay;
    for (int64_t i = 0; i < n; i += GRDI_LANES) {
        grdi_vf g = grdi_load(x[1] + i) * r->scale, m = grdi_load(x[2] + i), blend = keep1 * m + take1 * g;
        grdi_vf one = grdi_copysign(grdi_set(1.0f), blend), sign = grdi_select((blend > 0) | (blend < 0), one, blend);
        grdi_store(x[0] + i, grdi_load(x[0] + i) * shrink - r->lr * sign); /* the sign of 0 is 0, of NaN is NaN */
        grdi_store(x[2] + i, keep2 * m + take2 * g);
    }
}

static grd_status lion_run(grdi_call *call)
{
    update u = {.call = call, .recipe = read_recipe(call), .fn = lion_piece, .values = 3, .written = {0, 2}};
    u.recipe.beta1 = attr(call, "beta1");
    u.recipe.beta2 = attr(call, "beta2");
    u.recipe.take1 = rest(call, "beta1");
    u.recipe.take2 = rest(call, "beta2");
    return run_update(&u);
}

static void ema_piece(const recipe *r, float *const *x, int64_t n)
{
    float keep = r->decay, take = r->take1;
    for (int64_t i = 0; i < n; i += GRDI_LANES)
        grdi_store(x[0] + i, keep * grdi_load(x[0] + i) + take * grdi_load(x[1] + i));
}

static grd_status ema_run(grdi_call *call)
{
    update u = {.call = call, .fn = ema_piece, .values = 2, .written = {0}};
    u.recipe.decay = attr(call, "decay");
    u.recipe.take1 = rest(call, "decay");
    return run_update(&u);
}

static void no_piece(const recipe *r, float *const *x, int64_t n) { (void)r, (void)x, (void)n; }

static grd_status stochastic_round_run(grdi_call *call)
{
    update u = {.call = call, .fn = no_piece, .values = 1, .written = {0}};
    return run_update(&u);
}

/* All f32, but for the weights where they are rounded, and the key. */
static bool supports(const grdi_call *call)
{
    bool rounding = rounds(call), update = call->op->inplace[0];
    for (int32_t i = 0; i < call->input_count - rounding; i++)
        if (call->in[i].dtype != (rounding && update && i == 0 ? GRD_BF16 : GRD_F32))
            return false;
    for (int32_t o = 0; o < call->output_count; o++)
        if (call->out[o].dtype != (rounding && o == 0 ? GRD_BF16 : GRD_F32))
            return false;
    return true;
}

#define UPDATE(name)                                                                                                   \
    static const grdi_kernel kernel_##name = {                                                                         \
        .op = #name, .in_place = UINT32_MAX, .supports = supports, .run = name##_run};
UPDATE(adamw)
UPDATE(sgd)
UPDATE(lion)
UPDATE(ema)
UPDATE(stochastic_round)

const grdi_kernel *const GRDI_ISA_TABLE(optimizer)[] = {&kernel_adamw, &kernel_sgd, &kernel_lion, &kernel_ema,
                                                        &kernel_stochastic_round, NULL};
