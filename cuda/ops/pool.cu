/* pool.cu - maximum and mean of windows, and their gradients. A thread takes one element of the result, neighbours
 * take neighbouring channels; what flows back is gathered by the element that it belongs to, so nothing is added at
 * random. */
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

/* The first largest element of each window, NaN above all. */
__global__ void __launch_bounds__(THREADS, 2) max_pool_kernel(const pool_task t)
{
    int64_t e = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (e >= t.count) return;
    int64_t channel = e % t.w.channels, o = e / t.w.channels % t.w.out, n = e / (t.w.channels * t.w.out);
    spot place = spot_of(t.w, o, true);
    float best = 0;
    int64_t best_at = -1;
    each_tap(t.w, place, [&](int64_t at) {
        float x = get(t.in, (n * t.w.in + at) * t.w.channels + channel);
        if (best_at < 0 || x > best || (x != x && best == best)) best = x, best_at = at;
    });
    if (t.out.data) put(t.out, e, best);
    if (t.where) t.where[e] = (int32_t)best_at;
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

grd_status run_max(grdi_call *call)
{
    pool_task t = task_of(call, call->in[0], call->out[0]);
    t.where = (int32_t *)call->out[1].data;
    return grdi_launch(call, max_pool_kernel, blocks_for(t.count, THREADS), THREADS, 0, t);
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

/* ---- max_pool_backward: the op knows positions and not windows, so they are scattered. Sums of bf16 are made in
 * f32, in scratch. ---- */

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
    bool rounds = call->out[0].dtype != GRD_F32;
    call->scratch_bytes = rounds ? (size_t)grd_dims_count(call->out[0].dims) * sizeof(float) : 0;
    return GRD_OK;
}

grd_status run_max_backward(grdi_call *call)
{
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
