/* optimizer.cu - one step of an optimizer over ranges of the flat storages: each value read once and written once. What
 * changes from step to step (rates, corrections, scale) is read from device memory, so that a captured graph stays
 * right. With a key the weights are in bf16 and rounded stochastically (grd_stochastic_round in ops_optimizer.h). */
#include "base/random.h"
#include "device/philox.cuh"
#include "device/table.cuh"
#include "device/values.cuh"

#include <cstring>

namespace
{

enum { THREADS = 256, EACH = 4, BLOCK = 8, ADAMW = 0, SGD, SGD_MOMENTUM, LION, EMA, ROUND, VALUES_MAX = 4 };

struct update_task {
    int32_t kind;
    int64_t count;
    const float *in[VALUES_MAX]; /* p, g, m, v; p is NULL where it is in bf16 */
    float *out[3];
    const uint16_t *narrow; /* p in bf16 */
    uint16_t *rounded;      /* its new value */
    philox_stream stream;
    int64_t first; /* the number of element 0 among those of the stream */
    const float *hyper, *scale;
    float lr_scale, decay, beta1, beta2, take1, take2, eps; /* take: 1 - beta, subtracted in double */
    bool flag;                                              /* adamw: coupled; sgd: nesterov */
};

struct new_values {
    float x[3];
};

__device__ inline new_values updated(const update_task &t, float p, float g, float m, float v, float lr, float scale)
{
    if (t.kind == EMA) return {{t.beta1 * p + t.take1 * g}};
    g *= scale;
    if (t.kind == ADAMW) {
        if (t.flag) g += t.decay * p;
        m = t.beta1 * m + t.take1 * g;
        v = t.beta2 * v + t.take2 * (g * g);
        float kept = t.flag ? p : p * (1.0f - lr * t.decay);
        return {{kept - lr * t.hyper[1] * m / (sqrtf(v * t.hyper[2]) + t.eps), m, v}};
    }
    if (t.kind == LION) {
        float blend = t.beta1 * m + t.take1 * g, sign = blend != blend ? blend : (float)((blend > 0) - (blend < 0));
        return {{p * (1.0f - lr * t.decay) - lr * sign, t.beta2 * m + t.take2 * g}};
    }
    g += t.decay * p;
    if (t.kind == SGD) return {{p - lr * g}};
    m = t.beta1 * m + t.take2 * g;
    return {{p - lr * (t.flag ? g + t.beta1 * m : m), m}};
}

__global__ void __launch_bounds__(THREADS) update_kernel(const update_task t)
{
    int64_t first = (int64_t)blockIdx.x * (THREADS * EACH) + threadIdx.x;
    float scale = t.scale ? *t.scale : 1.0f, lr = t.hyper ? t.hyper[0] * t.lr_scale : 0.0f;
    bool skip = !(scale >= 0.0f);
    float x[EACH][VALUES_MAX];
#pragma unroll
    for (int k = 0; k < EACH; k++)
#pragma unroll
        for (int i = 0; i < VALUES_MAX; i++) {
            int64_t e = first + (int64_t)k * THREADS;
            x[k][i] = t.in[i] && e < t.count ? t.in[i][e] : 0.0f;
        }
#pragma unroll
    for (int k = 0; k < EACH; k++) {
        int64_t e = first + (int64_t)k * THREADS;
        if (e >= t.count) return;
        new_values y = {{x[k][0], x[k][2], x[k][3]}};
        if (!skip) y = updated(t, x[k][0], x[k][1], x[k][2], x[k][3], lr, scale);
#pragma unroll
        for (int o = 0; o < 3; o++)
            if (t.out[o]) t.out[o][e] = y.x[o];
    }
}

/* Up where the random bits, below those that bf16 has, carry. */
__device__ __forceinline__ uint16_t to_bf16_randomly(float value, uint32_t random)
{
    uint32_t bits = float_bits(value);
    return (uint16_t)((value != value ? bits | 0x400000u : bits + random) >> 16);
}

/* A thread takes the eight elements whose bits one block of Philox gives. */
__global__ void __launch_bounds__(THREADS) rounding_kernel(const update_task t)
{
    int64_t first = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * BLOCK;
    if (first >= t.count) return;
    float scale = t.scale ? *t.scale : 1.0f, lr = t.hyper ? t.hyper[0] * t.lr_scale : 0.0f;
    bool skip = !(scale >= 0.0f);
    philox_words words = philox(t.stream, (uint64_t)(t.first + first) / BLOCK);
#pragma unroll
    for (int k = 0; k < BLOCK; k++) {
        int64_t e = first + k;
        if (e >= t.count) return;
        float x[VALUES_MAX];
#pragma unroll
        for (int i = 0; i < VALUES_MAX; i++) x[i] = t.in[i] ? t.in[i][e] : 0.0f;
        if (t.narrow) x[0] = from_bf16(t.narrow[e]);
        new_values y = {{x[0], x[2], x[3]}};
        if (!skip && t.kind != ROUND) y = updated(t, x[0], x[1], x[2], x[3], lr, scale);
        if (t.rounded) t.rounded[e] = to_bf16_randomly(y.x[0], words.v[k / 2] >> (k & 1 ? 16 : 0) & 0xFFFFu);
#pragma unroll
        for (int o = 1; o < 3; o++)
            if (t.out[o]) t.out[o][e] = y.x[o];
    }
}

float attr(const grdi_call *call, const char *name)
{
    return (float)grdi_attr_float(call->attrs, name);
}
float rest(const grdi_call *call, const char *name)
{
    return (float)(1 - grdi_attr_float(call->attrs, name));
}

/* Whether the last input is a key. */
bool rounds(const grdi_call *call)
{
    return call->in[call->input_count - 1].dtype == GRD_I32;
}

void set_rounding(const grdi_call *call, update_task &t, bool update)
{
    t.stream = philox_stream{(const int32_t *)call->in[call->input_count - 1].data, GRDI_ROUNDING_STREAM};
    t.first = grdi_attr_int(call->attrs, "first");
    t.rounded = (uint16_t *)call->out[0].data;
    t.out[0] = nullptr;
    if (!update) return;
    t.narrow = (const uint16_t *)call->in[0].data;
    t.in[0] = nullptr;
}

update_task task_of(const grdi_call *call, int32_t kind, int32_t values)
{
    update_task t = {};
    t.kind = kind;
    t.count = grd_dims_count(call->in[0].dims);
    for (int32_t i = 0; i < values; i++) t.in[i] = (const float *)call->in[i].data;
    for (int32_t o = 0; o < call->output_count; o++) t.out[o] = (float *)call->out[o].data;
    if (rounds(call)) set_rounding(call, t, kind != ROUND);
    if (kind == EMA || kind == ROUND) return t;
    t.hyper = (const float *)call->in[values].data;
    t.scale = (const float *)call->in[values + 1].data;
    t.lr_scale = attr(call, "lr_scale");
    t.decay = attr(call, "weight_decay");
    return t;
}

grd_status launch(const grdi_call *call, const update_task &t)
{
    if (t.stream.key) return grdi_launch(call, rounding_kernel, blocks_for(t.count, THREADS * BLOCK), THREADS, 0, t);
    return grdi_launch(call, update_kernel, blocks_for(t.count, THREADS * EACH), THREADS, 0, t);
}

grd_status run_adamw(grdi_call *call)
{
    update_task t = task_of(call, ADAMW, 4);
    t.beta1 = attr(call, "beta1"), t.take1 = rest(call, "beta1");
    t.beta2 = attr(call, "beta2"), t.take2 = rest(call, "beta2");
    t.eps = attr(call, "eps");
    t.flag = grdi_attr_int(call->attrs, "coupled") != 0;
    return launch(call, t);
}

grd_status run_sgd(grdi_call *call)
{
    bool momentum = call->input_count - rounds(call) == 5;
    update_task t = task_of(call, momentum ? SGD_MOMENTUM : SGD, momentum ? 3 : 2);
    t.beta1 = attr(call, "momentum"), t.take2 = rest(call, "dampening");
    t.flag = grdi_attr_int(call->attrs, "nesterov") != 0;
    return launch(call, t);
}

grd_status run_lion(grdi_call *call)
{
    update_task t = task_of(call, LION, 3);
    t.beta1 = attr(call, "beta1"), t.take1 = rest(call, "beta1");
    t.beta2 = attr(call, "beta2"), t.take2 = rest(call, "beta2");
    return launch(call, t);
}

grd_status run_ema(grdi_call *call)
{
    update_task t = task_of(call, EMA, 2);
    t.beta1 = attr(call, "decay"), t.take1 = rest(call, "decay");
    return launch(call, t);
}

grd_status run_stochastic_round(grdi_call *call)
{
    return launch(call, task_of(call, ROUND, 1));
}

/* All f32, but for the weights where they are rounded, and the key. */
bool supports(const grdi_call *call)
{
    bool rounding = rounds(call), update = call->op->inplace[0] != 0;
    for (int32_t i = 0; i < call->input_count - rounding; i++)
        if (call->in[i].dtype != (rounding && update && i == 0 ? GRD_BF16 : GRD_F32)) return false;
    for (int32_t o = 0; o < call->output_count; o++)
        if (call->out[o].dtype != (rounding && o == 0 ? GRD_BF16 : GRD_F32)) return false;
    return true;
}

#define UPDATE(name)                                                                                                   \
    const grdi_kernel kernel_##name = {.op = #name, .in_place = UINT32_MAX, .supports = supports, .run = run_##name};
UPDATE(adamw)
UPDATE(sgd)
UPDATE(lion)
UPDATE(ema)
UPDATE(stochastic_round)

} // namespace

GRDI_CUDA_TABLE(optimizer, &kernel_adamw, &kernel_sgd, &kernel_lion, &kernel_ema, &kernel_stochastic_round)
