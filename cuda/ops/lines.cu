/* lines.cu - ops that go along one axis: scatter_add, cumsum, topk. A line is what one value of all other coordinates
 * leaves of the axis. */
#include "ops/copy.h"
#include "ops/scatter.h"

#include "device/rows.cuh"
#include "device/table.cuh"

namespace
{

enum {
    THREADS = 128,
    SCATTER_BLOCKS = 8, /* on a multiprocessor: left to itself the compiler spills to reach more */
    ENOUGH = 1 << 16    /* threads that fill a device */
};

/* Numbers as they are: i32 beyond 2^24 is no float. */
struct floats {
    typedef float type;
    static __device__ float read(const cells &c, int64_t i)
    {
        return get(c, i);
    }
    static __device__ void write(const cells &c, int64_t i, float value)
    {
        put(c, i, value);
    }
    static __device__ float sum(float a, float b)
    {
        return a + b;
    }
};

struct integers {
    typedef int32_t type;
    static __device__ int32_t read(const cells &c, int64_t i)
    {
        return ((const int32_t *)c.data)[i];
    }
    static __device__ void write(const cells &c, int64_t i, int32_t value)
    {
        ((int32_t *)c.data)[i] = value;
    }
    static __device__ int32_t sum(int32_t a, int32_t b)
    {
        return (int32_t)((uint32_t)a + (uint32_t)b);
    }
};

int32_t axis_of(const grdi_call *call, int32_t rank)
{
    int64_t axis = grdi_attr_int(call->attrs, "axis");
    return (int32_t)(axis < 0 ? axis + rank : axis);
}

bool is_number(grd_dtype dtype)
{
    return is_value(dtype) || dtype == GRD_I32;
}

/* ---- scatter_add: a thread owns some places of a line, looks at all of its ids and adds what is for it ---- */

struct scatter_task {
    rows out, ids; /* lines of ids' shape; `from` lies as ids does */
    const int32_t *id;
    cells from;
    int64_t lines, count, size; /* count: of ids along the axis; size: of out */
    int64_t slices, slice;      /* of a line, and places in one */
};

template <class N> __global__ void __launch_bounds__(THREADS, SCATTER_BLOCKS) scatter_kernel(const scatter_task t)
{
    int64_t n = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (n >= t.lines * t.slices) return;
    int64_t line = n % t.lines, first = n / t.lines * t.slice;
    int64_t end = first + t.slice < t.size ? first + t.slice : t.size;
    int64_t out = start_of(t.out, line), in = start_of(t.ids, line);
    for (int64_t i = 0; i < t.count; i++) {
        int64_t at = in + i * t.ids.stride, id = t.id[at];
        if (id < first || id >= end) continue;
        int64_t to = out + id * t.out.stride;
        N::write(t.out.at.at, to, N::sum(N::read(t.out.at.at, to), N::read(t.from, at)));
    }
}

grd_status run_scatter(grdi_call *call)
{
    grd_status status = grdi_cuda_copy(call, &call->out[0], &call->in[0], false);
    if (status) return status;
    return grdi_cuda_scatter_add(call, &call->out[0], &call->in[1], &call->in[2],
                                 axis_of(call, call->out[0].dims.rank));
}

/* Sums stay in f32, as those of embedding_backward. */
bool supports_scatter(const grdi_call *call)
{
    grd_dtype out = call->out[0].dtype;
    return call->in[1].dtype == GRD_I32 && (out == GRD_F32 || out == GRD_I32) && call->in[2].dtype == out &&
           call->in[0].dtype == out;
}

/* ---- cumsum: a warp takes a line, 32 elements at a time ---- */

struct cumsum_task {
    rows in, out;
    int64_t lines, count;
    bool reverse, exclusive;
};

template <class N> __global__ void __launch_bounds__(THREADS) cumsum_kernel(const cumsum_task t)
{
    int64_t line = (int64_t)blockIdx.x * (THREADS / WARP) + warp_of_thread();
    if (line >= t.lines) return;
    int64_t in = start_of(t.in, line), out = start_of(t.out, line);
    int lane = lane_of_thread();
    typename N::type before = 0;
    for (int64_t first = 0; first < t.count; first += WARP) {
        int64_t i = first + lane, at = t.reverse ? t.count - 1 - i : i;
        typename N::type x = i < t.count ? N::read(t.in.at.at, in + at * t.in.stride) : 0, sum = x;
        for (int lanes = 1; lanes < WARP; lanes *= 2) {
            typename N::type other = __shfl_up_sync(0xFFFFFFFFu, sum, (unsigned)lanes);
            if (lane >= lanes) sum = N::sum(sum, other);
        }
        typename N::type earlier = __shfl_up_sync(0xFFFFFFFFu, sum, 1u);
        if (lane == 0) earlier = 0;
        if (i < t.count) N::write(t.out.at.at, out + at * t.out.stride, N::sum(before, t.exclusive ? earlier : sum));
        before = N::sum(before, __shfl_sync(0xFFFFFFFFu, sum, WARP - 1));
    }
}

grd_status run_cumsum(grdi_call *call)
{
    int32_t axis = axis_of(call, call->in[0].dims.rank);
    cumsum_task t = {rows_of(call->in[0], axis), rows_of(call->out[0], axis)};
    t.count = call->in[0].dims.dim[axis];
    t.lines = grd_dims_count(call->in[0].dims) / t.count;
    t.reverse = grdi_attr_int(call->attrs, "reverse") != 0;
    t.exclusive = grdi_attr_int(call->attrs, "exclusive") != 0;
    unsigned blocks = blocks_for(t.lines, THREADS / WARP);
    return call->in[0].dtype == GRD_I32 ? grdi_launch(call, cumsum_kernel<integers>, blocks, THREADS, 0, t)
                                        : grdi_launch(call, cumsum_kernel<floats>, blocks, THREADS, 0, t);
}

bool supports_alike(const grdi_call *call)
{
    grd_dtype in = call->in[0].dtype, out = call->out[0].dtype;
    return is_number(in) && is_number(out) && (in == GRD_I32) == (out == GRD_I32);
}

/* ---- topk: a warp takes a line and finds the next largest k times ---- */

struct topk_task {
    rows in, out, ids;
    int64_t lines, count, k;
};

/* NaN, then the larger, then the one of lower index. */
template <class T> __device__ inline bool stands_before(T a, int32_t i, T b, int32_t j)
{
    bool a_nan = a != a, b_nan = b != b;
    if (a_nan != b_nan) return a_nan;
    return a > b || (!(a < b) && i < j);
}

template <class N> __global__ void __launch_bounds__(THREADS) topk_kernel(const topk_task t)
{
    typedef typename N::type number;
    int64_t line = (int64_t)blockIdx.x * (THREADS / WARP) + warp_of_thread();
    if (line >= t.lines) return;
    int64_t in = start_of(t.in, line), out = start_of(t.out, line), ids = start_of(t.ids, line);
    number last = 0;
    int32_t last_at = -1; /* the one found before; none yet */
    for (int64_t k = 0; k < t.k; k++) {
        number best = 0;
        int32_t best_at = -1;
        for (int64_t i = lane_of_thread(); i < t.count; i += WARP) {
            number x = N::read(t.in.at.at, in + i * t.in.stride);
            if (last_at >= 0 && !stands_before(last, last_at, x, (int32_t)i)) continue;
            if (best_at < 0 || stands_before(x, (int32_t)i, best, best_at)) best = x, best_at = (int32_t)i;
        }
        for (int lanes = 1; lanes < WARP; lanes *= 2) {
            number x = __shfl_xor_sync(0xFFFFFFFFu, best, lanes);
            int32_t i = __shfl_xor_sync(0xFFFFFFFFu, best_at, lanes);
            if (i >= 0 && (best_at < 0 || stands_before(x, i, best, best_at))) best = x, best_at = i;
        }
        last = best, last_at = best_at;
        if (lane_of_thread() > 0) continue;
        if (t.out.at.at.data) N::write(t.out.at.at, out + k * t.out.stride, best);
        if (t.ids.at.at.data) ((int32_t *)t.ids.at.at.data)[ids + k * t.ids.stride] = best_at;
    }
}

grd_status run_topk(grdi_call *call)
{
    int32_t axis = axis_of(call, call->in[0].dims.rank);
    topk_task t = {rows_of(call->in[0], axis), rows_of(call->out[0], axis), rows_of(call->out[1], axis)};
    t.count = call->in[0].dims.dim[axis];
    t.k = call->out[0].dims.dim[axis];
    t.lines = grd_dims_count(call->in[0].dims) / t.count;
    unsigned blocks = blocks_for(t.lines, THREADS / WARP);
    return call->in[0].dtype == GRD_I32 ? grdi_launch(call, topk_kernel<integers>, blocks, THREADS, 0, t)
                                        : grdi_launch(call, topk_kernel<floats>, blocks, THREADS, 0, t);
}

const grdi_kernel kernel_scatter = {.op = "scatter_add",
                                    .strided_in = 1,
                                    .rows_in = 1,
                                    .in_place = 1,
                                    .supports = supports_scatter,
                                    .run = run_scatter};
const grdi_kernel kernel_cumsum = {
    .op = "cumsum", .strided_in = 1, .rows_in = 1, .strided_out = 1, .supports = supports_alike, .run = run_cumsum};
const grdi_kernel kernel_topk = {
    .op = "topk", .strided_in = 1, .rows_in = 1, .strided_out = 3, .supports = supports_alike, .run = run_topk};

} // namespace

grd_status grdi_cuda_scatter_add(const grdi_call *call, const grdi_view *out, const grdi_view *ids,
                                 const grdi_view *from, int32_t axis)
{
    grdi_view inside = *out; /* where the lines of ids lie in out */
    inside.dims = ids->dims;
    scatter_task t = {rows_of(inside, axis), rows_of(*ids, axis), (const int32_t *)ids->data, cells_of(*from)};
    t.count = ids->dims.dim[axis], t.size = out->dims.dim[axis];
    t.lines = grd_dims_count(ids->dims) / t.count;
    t.slices = t.lines < ENOUGH ? ENOUGH / t.lines : 1;
    t.slices = t.slices > t.size ? t.size : t.slices;
#ifdef GRDI_SIM
    t.slices = t.slices > 3 ? 3 : t.slices; /* fibers are slow, and three show what many would */
#endif
    t.slice = (t.size + t.slices - 1) / t.slices;
    unsigned blocks = blocks_for(t.lines * t.slices, THREADS);
    return out->dtype == GRD_I32 ? grdi_launch(call, scatter_kernel<integers>, blocks, THREADS, 0, t)
                                 : grdi_launch(call, scatter_kernel<floats>, blocks, THREADS, 0, t);
}

GRDI_CUDA_TABLE(lines, &kernel_scatter, &kernel_cumsum, &kernel_topk)
