/* pool.cu - maximum and mean of windows, and their gradients. A thread takes one element of the result, or of maxima
 * WIDE neighbouring channels where they lie so; neighbours take neighbouring channels. What flows back is gathered by
 * the element that it belongs to, so nothing is added at random. */
#include "ops/scatter.h"

#include "ops/copy.h"

#include "device/table.cuh"
#include "device/windows.cuh"

namespace
{

enum { THREADS = 256 };

struct pool_task {
    windows w;
    cells in, out;
    int32_t *where; /* positions of maxima; NULL: not wanted */
    int64_t count;
    bool exclude_padding;
};

template <int EACH> __device__ __forceinline__ void read_each(const cells &c, int64_t i, float *x)
{
    if constexpr (EACH == 1) x[0] = get(c, i);
    else spread(c, read_wide(c, i), x);
}

template <int EACH> __device__ __forceinline__ void write_each(const cells &c, int64_t i, const float *x)
{
    if constexpr (EACH == 1) put(c, i, x[0]);
    else write_wide(c, i, x);
}

/* Positions lie as f32 does. */
template <int EACH> __device__ __forceinline__ void read_places(const int32_t *where, int64_t i, int32_t *at)
{
    if constexpr (EACH == 1) {
        at[0] = where[i];
    } else {
        const wide_bits bits = read_wide(cells{(void *)where, GRD_F32}, i);
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const uint4 q = bits.half[h];
            at[4 * h] = (int32_t)q.x, at[4 * h + 1] = (int32_t)q.y;
            at[4 * h + 2] = (int32_t)q.z, at[4 * h + 3] = (int32_t)q.w;
        }
    }
}

template <int EACH> __device__ __forceinline__ void write_places(int32_t *where, int64_t i, const int32_t *at)
{
    if constexpr (EACH == 1) {
        where[i] = at[0];
    } else {
        uint4 *to = (uint4 *)(where + i);
#pragma unroll
        for (int h = 0; h < 2; h++)
            to[h] =
                uint4{(uint32_t)at[4 * h], (uint32_t)at[4 * h + 1], (uint32_t)at[4 * h + 2], (uint32_t)at[4 * h + 3]};
    }
}

/* A position's first channel that a thread takes. */
struct pool_place {
    int64_t channel, at, sample;
};

template <int EACH> __device__ __forceinline__ pool_place place_of(const windows &w, int64_t unit, int64_t positions)
{
    int64_t groups = w.channels / EACH, row = unit / groups, sample = row / positions;
    return pool_place{(unit - row * groups) * EACH, row - sample * positions, sample};
}

/* The first largest element of each window, NaN above all. */
template <int EACH> __global__ void __launch_bounds__(THREADS, 2) max_pool_kernel(const pool_task t)
{
    int64_t unit = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (unit * EACH >= t.count) return;
    pool_place p = place_of<EACH>(t.w, unit, t.w.out);
    float best[EACH];
    int32_t best_at[EACH];
#pragma unroll
    for (int k = 0; k < EACH; k++) best[k] = 0, best_at[k] = -1;
    each_tap(t.w, spot_of(t.w, p.at, true), [&](int64_t at) {
        float x[EACH];
        read_each<EACH>(t.in, (p.sample * t.w.in + at) * t.w.channels + p.channel, x);
#pragma unroll
        for (int k = 0; k < EACH; k++)
            if (best_at[k] < 0 || x[k] > best[k] || (x[k] != x[k] && best[k] == best[k]))
                best[k] = x[k], best_at[k] = (int32_t)at;
    });
    if (t.out.data) write_each<EACH>(t.out, unit * EACH, best);
    if (t.where) write_places<EACH>(t.where, unit * EACH, best_at);
}

/* What arrives (in) at the windows whose maximum an element of x (out) is. */
template <int EACH> __global__ void __launch_bounds__(THREADS, 2) max_pool_backward_kernel(const pool_task t)
{
    int64_t unit = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (unit * EACH >= t.count) return;
    pool_place p = place_of<EACH>(t.w, unit, t.w.in);
    float sum[EACH] = {};
    each_window(t.w, spot_of(t.w, p.at, false), [&](const spot &o, int64_t) {
        int64_t from = (p.sample * t.w.out + out_position(t.w, o)) * t.w.channels + p.channel;
        float g[EACH];
        int32_t at[EACH];
        read_each<EACH>(t.in, from, g);
        read_places<EACH>(t.where, from, at);
#pragma unroll
        for (int k = 0; k < EACH; k++) sum[k] += at[k] == (int32_t)p.at ? g[k] : 0.0f;
    });
    write_each<EACH>(t.out, unit * EACH, sum);
}

/* What the window at `o` is divided by. */
__device__ inline float divisor(const pool_task &t, const spot &o)
{
    int64_t inside = 0;
    if (!t.exclude_padding) return (float)all_taps(t.w, o);
    each_tap(t.w, o, [&](int64_t) { inside++; });
    return (float)inside;
}

__global__ void __launch_bounds__(THREADS) average_pool_kernel(const pool_task t)
{
    int64_t e = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (e >= t.count) return;
    int64_t channel = e % t.w.channels, o = e / t.w.channels % t.w.out, n = e / (t.w.channels * t.w.out);
    spot place = spot_of(t.w, o, true);
    float sum = 0;
    each_tap(t.w, place, [&](int64_t at) { sum += get(t.in, (n * t.w.in + at) * t.w.channels + channel); });
    put(t.out, e, sum / divisor(t, place));
}

/* in: what arrives at the windows; out: at the elements of x. */
__global__ void __launch_bounds__(THREADS, 2) average_pool_backward_kernel(const pool_task t)
{
    int64_t e = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (e >= t.count) return;
    int64_t channel = e % t.w.channels, i = e / t.w.channels % t.w.in, n = e / (t.w.channels * t.w.in);
    spot place = spot_of(t.w, i, false);
    float sum = 0;
    each_window(t.w, place, [&](const spot &o, int64_t) {
        sum += get(t.in, (n * t.w.out + out_position(t.w, o)) * t.w.channels + channel) / divisor(t, o);
    });
    put(t.out, e, sum);
}

/* ---- on the host ---- */

pool_task task_of(const grdi_call *call, const grdi_view &x, const grdi_view &y)
{
    pool_task t = {windows_of(call, x, y), cells_of(call->in[0]), cells_of(call->out[0])};
    const grd_attr *kernel = grdi_attr_ints(call->attrs, "kernel");
    for (int32_t axis = 0, axes = x.dims.rank - 2; axis < axes; axis++) {
        grdi_window *w = &t.w.axis[GRDI_WINDOW_AXES - axes + axis];
        w->kernel = kernel->count ? grdi_window_entry(kernel, axis, 1) : 0; /* 0: adaptive */
        if (w->stride == 0) w->stride = w->kernel;
    }
    t.count = grd_dims_count(call->out[0].dims);
    return t;
}

/* Whether threads may take WIDE channels. */
bool goes_wide(const pool_task &t)
{
    return t.w.channels % WIDE == 0 && lies_wide(t.in, 0) && lies_wide(t.out, 0) && (uintptr_t)t.where % 16 == 0;
}

grd_status run_max(grdi_call *call)
{
    pool_task t = task_of(call, call->in[0], call->out[0]);
    t.where = (int32_t *)call->out[1].data;
    return goes_wide(t) ? grdi_launch(call, max_pool_kernel<WIDE>, blocks_for(t.count, THREADS * WIDE), THREADS, 0, t)
                        : grdi_launch(call, max_pool_kernel<1>, blocks_for(t.count, THREADS), THREADS, 0, t);
}

grd_status run_average(grdi_call *call)
{
    pool_task t = task_of(call, call->in[0], call->out[0]);
    t.exclude_padding = grdi_attr_int(call->attrs, "exclude_padding") != 0;
    return grdi_launch(call, average_pool_kernel, blocks_for(t.count, THREADS), THREADS, 0, t);
}

grd_status run_average_backward(grdi_call *call)
{
    pool_task t = task_of(call, call->out[0], call->in[0]);
    t.exclude_padding = grdi_attr_int(call->attrs, "exclude_padding") != 0;
    return grdi_launch(call, average_pool_backward_kernel, blocks_for(t.count, THREADS), THREADS, 0, t);
}

bool supports(const grdi_call *call)
{
    return is_value(call->in[0].dtype) && is_value(call->out[0].dtype);
}

/* ---- max_pool_backward: elements look for themselves in the windows that reach them. Where the op does not know
 * those, positions are scattered, and sums of bf16 are made in f32, in scratch. ---- */

bool knows_windows(const grdi_call *call)
{
    return grdi_attr_ints(call->attrs, "kernel")->count > 0;
}

/* [N,S..,C] as [N,S,C] */
grdi_view flat(grdi_view view)
{
    int64_t n = view.dims.dim[0], channels = view.dims.dim[view.dims.rank - 1];
    view.dims = grd_shape(n, grd_dims_count(view.dims) / (n * channels), channels);
    grdi_row_major(view.dims, view.stride);
    return view;
}

grd_status prepare_max_backward(grdi_call *call, grd_error *error)
{
    (void)error;
    bool rounds = call->out[0].dtype != GRD_F32 && !knows_windows(call);
    call->scratch_bytes = rounds ? (size_t)grd_dims_count(call->out[0].dims) * sizeof(float) : 0;
    return GRD_OK;
}

grd_status gather_maxima(const grdi_call *call)
{
    pool_task t = task_of(call, call->out[0], call->in[0]);
    t.where = (int32_t *)call->in[1].data;
    return goes_wide(t)
               ? grdi_launch(call, max_pool_backward_kernel<WIDE>, blocks_for(t.count, THREADS * WIDE), THREADS, 0, t)
               : grdi_launch(call, max_pool_backward_kernel<1>, blocks_for(t.count, THREADS), THREADS, 0, t);
}

grd_status run_max_backward(grdi_call *call)
{
    if (knows_windows(call)) return gather_maxima(call);
    grdi_view out = flat(call->out[0]), ids = flat(call->in[1]), from = flat(call->in[0]), sums = out;
    if (out.dtype != GRD_F32) sums.data = call->scratch, sums.dtype = GRD_F32;
    size_t bytes = (size_t)grd_dims_count(sums.dims) * sizeof(float);
    grd_status status = grdi_cuda_clear(call, sums.data, bytes);
    if (!status) status = grdi_cuda_scatter_add(call, &sums, &ids, &from, 1);
    return status || sums.data == out.data ? status : grdi_cuda_copy(call, &out, &sums, false);
}

const grdi_kernel kernel_max = {.op = "max_pool", .supports = supports, .run = run_max};
const grdi_kernel kernel_average = {.op = "average_pool", .supports = supports, .run = run_average};
const grdi_kernel kernel_average_backward = {
    .op = "average_pool_backward", .supports = supports, .run = run_average_backward};
const grdi_kernel kernel_max_backward = {
    .op = "max_pool_backward", .supports = supports, .prepare = prepare_max_backward, .run = run_max_backward};

} // namespace

GRDI_CUDA_TABLE(pool, &kernel_max, &kernel_average, &kernel_average_backward, &kernel_max_backward)
