/* interpolate.cu - values between points, and the adjoint. A thread takes one element, neighbours take neighbouring
 * channels; what flows back is gathered by the point that it belongs to, in the order of the values made of it, so
 * nothing is added at random. Places are fractions of whole numbers: no digit is lost on large axes. */
#include "base/interpolate.h"
#include "device/table.cuh"
#include "device/values.cuh"

namespace
{

enum { THREADS = 256, AXES = 3 };

/* Axes of x [N,S..,C], with axes of size 1 put in front up to three; `out`: of what values are made for. */
struct interpolate_task {
    cells from, to;
    int64_t count, channels, in[AXES], out[AXES];
    int32_t mode;
    bool align_corners;
};

/* Two points and the part of the second. */
struct between {
    int64_t first, second;
    float part;
};

/* See grdi_interpolate_at(): nearest in float as PyTorch does it, linear exactly. */
__device__ inline between place_of(const interpolate_task &t, int axis, int64_t o)
{
    int64_t in = t.in[axis], out = t.out[axis];
    if (t.mode != GRDI_LINEAR) {
        float scale = (float)in / (float)out;
        int64_t at = (int64_t)floorf(((float)o + (t.mode == GRDI_NEAREST ? 0.0f : 0.5f)) * scale);
        at = at < in - 1 ? at : in - 1;
        return between{at, at, 0.0f};
    }
    int64_t above = t.align_corners ? o * (in - 1) : (2 * o + 1) * in - out;
    int64_t below = t.align_corners ? out - 1 : 2 * out;
    if (above <= 0 || below == 0) return between{0, in > 1 ? 1 : 0, 0.0f};
    int64_t at = above / below;
    if (at >= in - 1) return between{in - 1, in - 1, 0.0f};
    return between{at, at + 1, (float)(above - at * below) / (float)below};
}

__global__ void __launch_bounds__(THREADS) interpolate_kernel(const interpolate_task t)
{
    int64_t e = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (e >= t.count) return;
    int64_t channel = e % t.channels, s = e / t.channels;
    between c = place_of(t, 2, s % t.out[2]), b = place_of(t, 1, s / t.out[2] % t.out[1]);
    s /= t.out[2] * t.out[1];
    between a = place_of(t, 0, s % t.out[0]);
    int64_t sample = s / t.out[0];
    float sum = 0;
    for (int corner = 0; corner < 8; corner++) {
        bool p = corner & 4, q = corner & 2, r = corner & 1;
        float weight = (p ? a.part : 1 - a.part) * (q ? b.part : 1 - b.part) * (r ? c.part : 1 - c.part);
        if (weight == 0) continue; /* what is not looked at may be NaN */
        int64_t at = (sample * t.in[0] + (p ? a.second : a.first)) * t.in[1] + (q ? b.second : b.first);
        sum += weight * get(t.from, (at * t.in[2] + (r ? c.second : c.first)) * t.channels + channel);
    }
    put(t.to, e, sum);
}

/* The first value of the axis that is made of point `i` or a later one. */
__device__ inline int64_t first_from(const interpolate_task &t, int axis, int64_t i)
{
    int64_t low = 0, high = t.out[axis];
    while (low < high) {
        int64_t middle = (low + high) / 2;
        if (place_of(t, axis, middle).second >= i) high = middle;
        else low = middle + 1;
    }
    return low;
}

/* The part of value `o` that is point `i`; negative when later values do not have any of it either. */
__device__ inline float part_of(const interpolate_task &t, int axis, int64_t o, int64_t i)
{
    if (o >= t.out[axis]) return -1;
    between b = place_of(t, axis, o);
    if (b.first > i) return -1;
    return (b.first == i ? 1 - b.part : 0) + (b.second == i ? b.part : 0);
}

/* from: what arrives at values; to: at the points that they are made of. */
__global__ void __launch_bounds__(THREADS) interpolate_backward_kernel(const interpolate_task t)
{
    int64_t e = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (e >= t.count) return;
    int64_t channel = e % t.channels, s = e / t.channels, i[AXES], first[AXES];
#pragma unroll
    for (int axis = AXES - 1; axis >= 0; axis--) {
        i[axis] = s % t.in[axis];
        first[axis] = first_from(t, axis, i[axis]);
        s /= t.in[axis];
    }
    float sum = 0, wa, wb, wc;
    for (int64_t a = first[0]; (wa = part_of(t, 0, a, i[0])) >= 0; a++)
        for (int64_t b = first[1]; (wb = part_of(t, 1, b, i[1])) >= 0; b++)
            for (int64_t c = first[2]; (wc = part_of(t, 2, c, i[2])) >= 0; c++) {
                float weight = wa * wb * wc;
                if (weight == 0) continue;
                int64_t at = ((s * t.out[0] + a) * t.out[1] + b) * t.out[2] + c;
                sum += weight * get(t.from, at * t.channels + channel);
            }
    put(t.to, e, sum);
}

/* ---- on the host ---- */

/* x: the side with the points, y: the side with the values made of them. */
interpolate_task task_of(const grdi_call *call, const grdi_view &x, const grdi_view &y)
{
    interpolate_task t = {cells_of(call->in[0]), cells_of(call->out[0])};
    t.count = grd_dims_count(call->out[0].dims);
    t.channels = x.dims.dim[x.dims.rank - 1];
    t.mode = (int32_t)grdi_attr_int(call->attrs, "mode");
    t.align_corners = grdi_attr_int(call->attrs, "align_corners") != 0;
    for (int32_t a = 0; a < AXES; a++) {
        int32_t axis = a - (AXES - (x.dims.rank - 2));
        t.in[a] = axis < 0 ? 1 : x.dims.dim[1 + axis];
        t.out[a] = axis < 0 ? 1 : y.dims.dim[1 + axis];
    }
    return t;
}

grd_status run_forward(grdi_call *call)
{
    interpolate_task t = task_of(call, call->in[0], call->out[0]);
    return grdi_launch(call, interpolate_kernel, blocks_for(t.count, THREADS), THREADS, 0, t);
}

grd_status run_backward(grdi_call *call)
{
    interpolate_task t = task_of(call, call->out[0], call->in[0]);
    return grdi_launch(call, interpolate_backward_kernel, blocks_for(t.count, THREADS), THREADS, 0, t);
}

bool supports(const grdi_call *call)
{
    return takes_values(call, 0, 1);
}

const grdi_kernel kernel_interpolate = {.op = "interpolate", .supports = supports, .run = run_forward};
const grdi_kernel kernel_interpolate_backward = {
    .op = "interpolate_backward", .supports = supports, .run = run_backward};

} // namespace

GRDI_CUDA_TABLE(interpolate, &kernel_interpolate, &kernel_interpolate_backward)
