/* random.cu - full, arange, and random values: element i is a function of (seed, step, stream, i), see base/random.h.
 */
#include "device/philox.cuh"
#include "device/space.cuh"
#include "device/table.cuh"

#include <cstring>

namespace
{

enum { THREADS = 256, EACH = 4 };

__device__ __forceinline__ float unit(uint32_t bits)
{
    return (float)(bits >> 8) * (1.0f / 16777216.0f);
}

/* Box-Muller on the pair of words that holds the element; the angle in double, since an error there grows with the
 * radius. */
__device__ inline float normal(const philox_words &w, int index)
{
    double u = (w.v[index & ~1] + 1.0) * (1.0 / 4294967296.0), v = w.v[index | 1] * (1.0 / 4294967296.0);
    double radius = sqrt(-2.0 * log(u)), angle = 6.28318530717958647692 * v;
    return (float)(radius * (index & 1 ? sin(angle) : cos(angle)));
}

enum random_kind { UNIFORM, NORMAL, DROPOUT };

struct random_task {
    int32_t kind;
    philox_stream from;
    int64_t count;
    cells out, in; /* in: dropout */
    double low, range;
    float scale;
};

/* A thread makes the four elements of one block. */
__global__ void __launch_bounds__(THREADS) random_kernel(const random_task t)
{
    int64_t block = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (block * EACH >= t.count) return;
    philox_words w = philox(t.from, (uint64_t)block);
    for (int k = 0; k < EACH; k++) {
        int64_t e = block * EACH + k;
        if (e >= t.count) return;
        float value;
        if (t.kind == DROPOUT) value = (double)unit(w.v[k]) >= t.low ? get(t.in, e) * t.scale : 0.0f;
        else if (t.kind == UNIFORM) value = (float)(t.low + t.range * (double)unit(w.v[k]));
        else value = (float)(t.low + t.range * (double)normal(w, k));
        put(t.out, e, value);
    }
}

philox_stream stream_of(const grdi_call *call, int32_t key)
{
    uint64_t given = (uint64_t)grdi_attr_int(call->attrs, "stream");
    return philox_stream{(const int32_t *)call->in[key].data, given ? given : call->path_hash};
}

grd_status launch(const grdi_call *call, const random_task &t)
{
    return grdi_launch(call, random_kernel, blocks_for(t.count, THREADS * EACH), THREADS, 0, t);
}

grd_status run_random(grdi_call *call)
{
    bool uniform = strcmp(call->op->name, "random_uniform") == 0;
    double low = grdi_attr_float(call->attrs, uniform ? "low" : "mean");
    double range = uniform ? grdi_attr_float(call->attrs, "high") - low : grdi_attr_float(call->attrs, "std");
    random_task t = {.kind = uniform ? UNIFORM : NORMAL,
                     .from = stream_of(call, 0),
                     .count = grd_dims_count(call->out[0].dims),
                     .out = cells_of(call->out[0]),
                     .low = low,
                     .range = range};
    return launch(call, t);
}

grd_status run_dropout(grdi_call *call)
{
    double p = grdi_attr_float(call->attrs, "p");
    random_task t = {.kind = DROPOUT,
                     .from = stream_of(call, 1),
                     .count = grd_dims_count(call->out[0].dims),
                     .out = cells_of(call->out[0]),
                     .in = cells_of(call->in[0]),
                     .low = p,
                     .scale = (float)(1 / (1 - p))};
    return launch(call, t);
}

bool supports_random(const grdi_call *call)
{
    return is_value(call->out[0].dtype);
}
bool supports_dropout(const grdi_call *call)
{
    return is_value(call->in[0].dtype) && is_value(call->out[0].dtype);
}

/* ---- full, arange ---- */

struct fill_task {
    void *out;
    int32_t dtype;
    int64_t count;
    double start, step;
};

__global__ void __launch_bounds__(THREADS) fill_kernel(const fill_task t)
{
    int64_t e = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (e >= t.count) return;
    double value = t.start + (double)e * t.step;
    switch (t.dtype) {
    case GRD_I32: ((int32_t *)t.out)[e] = (int32_t)value; break;
    case GRD_I64: ((int64_t *)t.out)[e] = (int64_t)value; break;
    case GRD_F64: ((double *)t.out)[e] = value; break;
    case GRD_BOOL: ((uint8_t *)t.out)[e] = value != 0; break;
    case GRD_U8: ((uint8_t *)t.out)[e] = (uint8_t)value; break;
    default: put(cells{t.out, t.dtype}, e, (float)value);
    }
}

grd_status run_fill(grdi_call *call)
{
    bool full = strcmp(call->op->name, "full") == 0;
    fill_task t = {call->out[0].data, (int32_t)call->out[0].dtype, grd_dims_count(call->out[0].dims),
                   grdi_attr_float(call->attrs, full ? "value" : "start"),
                   full ? 0.0 : grdi_attr_float(call->attrs, "step")};
    return grdi_launch(call, fill_kernel, blocks_for(t.count, THREADS), THREADS, 0, t);
}

bool supports_fill(const grdi_call *call)
{
    return call->out[0].dtype < GRD_DTYPE_COUNT;
}

const grdi_kernel kernels[] = {{.op = "full", .supports = supports_fill, .run = run_fill},
                               {.op = "arange", .supports = supports_fill, .run = run_fill},
                               {.op = "random_uniform", .supports = supports_random, .run = run_random},
                               {.op = "random_normal", .supports = supports_random, .run = run_random},
                               {.op = "dropout", .in_place = 1, .supports = supports_dropout, .run = run_dropout}};

} // namespace

GRDI_CUDA_TABLE(random, &kernels[0], &kernels[1], &kernels[2], &kernels[3], &kernels[4])
