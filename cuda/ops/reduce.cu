/* reduce.cu - reductions over any axes. What one output is made of is cut into parts of fixed size by the plan's shapes
 * alone; each part is reduced by one block (values that lie side by side) or one thread (outputs that do), and a second
 * kernel joins the parts in their order: no atomics, the same bits in every run. */
#include "device/space.cuh"
#include "device/table.cuh"

#include <cstring>

namespace
{

/* BLOCKS: eight on each of an H100's 132 multiprocessors. */
enum { THREADS = 256, PART = 4096, COLUMN_PART = 128, WIDE_PART = 8192, WIDE_PART_SMALL = 64 };
enum { BLOCKS = 1056, BLOCKS_SMALL = 24 };

enum reduction { SUM, MEAN, MAX, MIN, PROD, VARIANCE, LOGSUMEXP, ANY, ALL, SUM_SQUARES, REDUCTIONS };

/* What is known of some values: sum or extreme in a; product in a + b; count, mean and squared distance (variance) or
 * maximum and sum of exponentials (logsumexp) in a, b, c. */
struct summary {
    float a, b, c;
};

struct reduce_task {
    int32_t reduction;
    axes kept, reduced; /* of the input */
    operand in_kept, in_reduced, out;
    int64_t outputs, count, part, parts;
    float correction;
    summary *partial; /* [output][part] */
    bool add;
};

__device__ __forceinline__ summary nothing(int32_t reduction)
{
    switch (reduction) {
    case MAX: return {-INFINITY, 0, 0};
    case MIN: return {INFINITY, 0, 0};
    case PROD:
    case ALL: return {1, 0, 0};
    case LOGSUMEXP: return {-INFINITY, 0, 0};
    default: return {0, 0, 0};
    }
}

/* Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1979. */
__device__ inline summary join_variance(summary x, summary y)
{
    float n = x.a + y.a;
    if (y.a == 0) return x;
    if (x.a == 0) return y;
    float d = y.b - x.b;
    return {n, x.b + d * (y.a / n), x.c + y.c + d * d * (x.a * (y.a / n))};
}

/* A product and what rounding took from it: errors of factors would multiply with them. */
__device__ inline summary join_products(summary x, summary y)
{
    float high = x.a * y.a, error = fmaf(x.a, y.a, -high);
    return {high, fabsf(high) <= 3.402823466e38f ? error + x.a * y.b + x.b * y.a : 0.0f, 0};
}

/* Sums of exponentials, brought to the larger maximum. */
__device__ inline summary join_exponentials(summary x, summary y)
{
    float most = larger(x.a, y.a);
    if (most == -INFINITY || most != most) return {most, most != most ? most : 0.0f, 0};
    if (most == INFINITY) return {most, 1, 0};
    return {most, x.b * expf(x.a - most) + y.b * expf(y.a - most), 0};
}

__device__ inline summary join(int32_t reduction, summary x, summary y)
{
    switch (reduction) {
    case MAX: return {larger(x.a, y.a), 0, 0};
    case MIN: return {smaller(x.a, y.a), 0, 0};
    case PROD: return join_products(x, y);
    case ANY: return {x.a != 0 || y.a != 0 ? 1.0f : 0.0f, 0, 0};
    case ALL: return {x.a != 0 && y.a != 0 ? 1.0f : 0.0f, 0, 0};
    case VARIANCE: return join_variance(x, y);
    case LOGSUMEXP: return join_exponentials(x, y);
    default: return {x.a + y.a, 0, 0};
    }
}

__device__ __forceinline__ summary one(int32_t reduction, float x)
{
    switch (reduction) {
    case SUM_SQUARES: return {x * x, 0, 0};
    case VARIANCE: return {1, x, 0};
    case LOGSUMEXP: return {x, 1, 0};
    default: return {x, 0, 0};
    }
}

__device__ inline float finished(const reduce_task &t, summary s)
{
    switch (t.reduction) {
    case MEAN: return s.a / (float)t.count;
    case PROD: return s.a + s.b;
    case VARIANCE: return s.c / ((float)t.count - t.correction);
    case LOGSUMEXP: return s.b > 0 || s.b != s.b ? s.a + logf(s.b) : s.a;
    default: return s.a;
    }
}

__device__ inline summary summary_from_lane(summary s, int lanes)
{
    return {__shfl_xor_sync(0xFFFFFFFFu, s.a, lanes), __shfl_xor_sync(0xFFFFFFFFu, s.b, lanes),
            __shfl_xor_sync(0xFFFFFFFFu, s.c, lanes)};
}

/* Lower lanes stand first on both sides, so that all lanes get the same bits. */
__device__ inline summary join_warp(int32_t reduction, summary s)
{
    for (int lanes = 1; lanes < WARP; lanes *= 2) {
        summary other = summary_from_lane(s, lanes);
        s = lane_of_thread() & lanes ? join(reduction, other, s) : join(reduction, s, other);
    }
    return s;
}

__device__ inline void keep(const reduce_task &t, int64_t output, int64_t part, summary s)
{
    if (t.parts > 1) t.partial[output * t.parts + part] = s;
    else put_or_add(t.out.at, offset_of(t.kept, t.out, output), finished(t, s), t.add);
}

__device__ inline int32_t join_integers(int32_t reduction, int32_t x, int32_t y)
{
    switch (reduction) {
    case MAX: return x > y ? x : y;
    case MIN: return x < y ? x : y;
    case PROD: return (int32_t)((uint32_t)x * (uint32_t)y);
    default: return (int32_t)((uint32_t)x + (uint32_t)y);
    }
}

/* One block an output and part. */
__global__ void __launch_bounds__(THREADS) reduce_rows_kernel(const reduce_task t)
{
    shared_memory shared;
    summary *warps = shared.take<summary>(THREADS / WARP);
    int64_t output = (int64_t)blockIdx.x / t.parts, part = (int64_t)blockIdx.x % t.parts;
    int64_t base = offset_of(t.kept, t.in_kept, output),
            end = (part + 1) * t.part < t.count ? (part + 1) * t.part : t.count;
    summary s = nothing(t.reduction);
    for (int64_t i = part * t.part + threadIdx.x; i < end; i += THREADS)
        s = join(t.reduction, s, one(t.reduction, get(t.in_kept.at, base + offset_of(t.reduced, t.in_reduced, i))));
    s = join_warp(t.reduction, s);
    if (lane_of_thread() == 0) warps[warp_of_thread()] = s;
    __syncthreads();
    if (warp_of_thread() > 0) return;
    s = lane_of_thread() < THREADS / WARP ? warps[lane_of_thread()] : nothing(t.reduction);
    s = join_warp(t.reduction, s);
    if (lane_of_thread() == 0) keep(t, output, part, s);
}

/* What needs one float: sums, and extremes. */
template <int R> __device__ __forceinline__ float joined(float x, float y)
{
    return R == MAX ? larger(x, y) : R == MIN ? smaller(x, y) : x + y;
}

template <int R> __device__ __forceinline__ float taken(float s, float x)
{
    return R == SUM_SQUARES ? s + x * x : joined<R>(s, x);
}

/* AT_ONCE pieces of WIDE neighbours a thread are on their way before the first is looked at. Each of WIDE has a sum. */
template <int R, int AT_ONCE>
__device__ __forceinline__ void take_wide(const cells &in, int64_t at, int64_t step, float *sums)
{
    wide_bits bits[AT_ONCE] = {};
#pragma unroll
    for (int n = 0; n < AT_ONCE; n++) bits[n] = read_wide(in, at + n * step);
#pragma unroll
    for (int n = 0; n < AT_ONCE; n++) {
        float x[WIDE];
        spread(in, bits[n], x);
#pragma unroll
        for (int k = 0; k < WIDE; k++) sums[k] = taken<R>(sums[k], x[k]);
    }
}

template <int REDUCTION, int DTYPE> struct wide {
    static constexpr int R = REDUCTION, D = DTYPE, AT_ONCE = D == GRD_F32 ? 2 : 4;
};

/* One block an output and part, whose values lie side by side at multiples of 16 bytes. */
template <class K> __global__ void __launch_bounds__(THREADS, 4) reduce_wide_kernel(const reduce_task t)
{
    constexpr int R = K::R, D = K::D, AT_ONCE = K::AT_ONCE;
    shared_memory shared;
    float *warps = shared.take<float>(THREADS / WARP);
    const cells in = {t.in_kept.at.data, D};
    int64_t output = (int64_t)blockIdx.x / t.parts, part = (int64_t)blockIdx.x % t.parts;
    int64_t base = offset_of(t.kept, t.in_kept, output), step = (int64_t)blockDim.x * WIDE;
    int64_t end = base + ((part + 1) * t.part < t.count ? (part + 1) * t.part : t.count);
    int64_t at = base + part * t.part + (int64_t)threadIdx.x * WIDE;
    float none = nothing(R).a, sums[WIDE];
    for (int k = 0; k < WIDE; k++) sums[k] = none;
    for (; at + (AT_ONCE - 1) * step + WIDE <= end; at += AT_ONCE * step) take_wide<R, AT_ONCE>(in, at, step, sums);
    for (; at + WIDE <= end; at += step) take_wide<R, 1>(in, at, step, sums);
    for (; at < end; at++) sums[0] = taken<R>(sums[0], get(in, at)); /* fewer than WIDE, of one thread */
    for (int half = WIDE / 2; half > 0; half /= 2)
        for (int k = 0; k < half; k++) sums[k] = joined<R>(sums[k], sums[k + half]);
    float s = sums[0];
    for (int lanes = WARP / 2; lanes > 0; lanes /= 2) s = joined<R>(s, __shfl_xor_sync(0xFFFFFFFFu, s, lanes));
    if (lane_of_thread() == 0) warps[warp_of_thread()] = s;
    __syncthreads();
    if (threadIdx.x > 0) return;
    for (int w = 1; w < (int)(blockDim.x / WARP); w++) s = joined<R>(s, warps[w]);
    keep(t, output, part, {s, 0, 0});
}

/* One thread an output and part: neighbours read neighbours. */
__global__ void __launch_bounds__(THREADS) reduce_columns_kernel(const reduce_task t)
{
    int64_t output = (int64_t)blockIdx.x * THREADS + threadIdx.x, part = blockIdx.y;
    if (output >= t.outputs) return;
    int64_t base = offset_of(t.kept, t.in_kept, output),
            end = (part + 1) * t.part < t.count ? (part + 1) * t.part : t.count;
    summary s = nothing(t.reduction);
    for (int64_t i = part * t.part; i < end; i++)
        s = join(t.reduction, s, one(t.reduction, get(t.in_kept.at, base + offset_of(t.reduced, t.in_reduced, i))));
    keep(t, output, part, s);
}

/* Joins the parts of each output: one warp an output, in an order that depends on their number alone. */
__global__ void __launch_bounds__(THREADS) reduce_parts_kernel(const reduce_task t)
{
    int64_t output = (int64_t)blockIdx.x * (THREADS / WARP) + warp_of_thread();
    if (output >= t.outputs) return;
    summary s = nothing(t.reduction);
#pragma unroll 4
    for (int64_t part = lane_of_thread(); part < t.parts; part += WARP)
        s = join(t.reduction, s, t.partial[output * t.parts + part]);
    s = join_warp(t.reduction, s);
    if (lane_of_thread() == 0) put_or_add(t.out.at, offset_of(t.kept, t.out, output), finished(t, s), t.add);
}

/* Integers: one warp an output, in any order, since sums and products of them wrap. */
__global__ void __launch_bounds__(THREADS) reduce_integers_kernel(const reduce_task t)
{
    int64_t output = (int64_t)blockIdx.x * (THREADS / WARP) + warp_of_thread();
    if (output >= t.outputs) return;
    const int32_t *in = (const int32_t *)t.in_kept.at.data + offset_of(t.kept, t.in_kept, output);
    int32_t found = t.reduction == PROD ? 1 : t.reduction == MAX ? INT32_MIN : t.reduction == MIN ? INT32_MAX : 0;
    for (int64_t i = lane_of_thread(); i < t.count; i += WARP)
        found = join_integers(t.reduction, found, in[offset_of(t.reduced, t.in_reduced, i)]);
    for (int lanes = 1; lanes < WARP; lanes *= 2)
        found = join_integers(t.reduction, found, __shfl_xor_sync(0xFFFFFFFFu, found, lanes));
    if (lane_of_thread() == 0) ((int32_t *)t.out.at.data)[offset_of(t.kept, t.out, output)] = found;
}

/* ---- on the host ---- */

const char *const names[REDUCTIONS] = {"sum",      "mean",      "max", "min", "prod",
                                       "variance", "logsumexp", "any", "all", "sum_squares"};

int32_t reduction_of(const grdi_call *call)
{
    for (int32_t r = 0; r < REDUCTIONS; r++)
        if (strcmp(names[r], call->op->name) == 0) return r;
    return SUM; /* sum_to */
}

/* Bit i: axis i of the input is reduced. */
uint32_t reduced_axes(const grdi_call *call)
{
    const grd_dims in = call->in[0].dims, out = call->out[0].dims;
    uint32_t mask = 0;
    if (strcmp(call->op->name, "sum_squares") == 0) return UINT32_MAX;
    if (strcmp(call->op->name, "sum_to") == 0) {
        for (int32_t i = 0, missing = in.rank - out.rank; i < in.rank; i++)
            if (i < missing || out.dim[i - missing] != in.dim[i]) mask |= 1u << i;
        return mask;
    }
    const grd_attr *axes_attr = grdi_attr_ints(call->attrs, "axes");
    if (axes_attr->count == 0) return UINT32_MAX;
    for (int32_t i = 0; i < axes_attr->count; i++)
        mask |= 1u << (axes_attr->ints[i] < 0 ? axes_attr->ints[i] + in.rank : axes_attr->ints[i]);
    return mask;
}

/* Splits the input's axes into kept and reduced ones, and says how they are cut. */
bool describe(const grdi_call *call, reduce_task *t)
{
    const grdi_view *in = &call->in[0], *out = &call->out[0];
    uint32_t mask = reduced_axes(call);
    grdi_space kept = {}, reduced = {};
    kept.operands = 2, reduced.operands = 1;
    int32_t next = 0;
    bool same_rank = in->dims.rank == out->dims.rank, sum_to = strcmp(call->op->name, "sum_to") == 0;
    for (int32_t i = 0; i < in->dims.rank; i++) {
        if (mask >> i & 1) {
            reduced.dim[reduced.rank] = in->dims.dim[i];
            reduced.stride[0][reduced.rank++] = in->stride[i];
            continue;
        }
        int32_t at = same_rank ? i : sum_to ? i - (in->dims.rank - out->dims.rank) : next;
        next++;
        kept.dim[kept.rank] = in->dims.dim[i];
        kept.stride[0][kept.rank] = in->stride[i];
        kept.stride[1][kept.rank++] = out->stride[at];
    }
    grdi_space_merge(&kept);
    grdi_space_merge(&reduced);
    *t = reduce_task{};
    t->reduction = reduction_of(call);
    t->outputs = grdi_space_count(&kept, kept.rank);
    t->count = grdi_space_count(&reduced, reduced.rank);
    t->kept = axes_of(kept), t->reduced = axes_of(reduced);
    t->in_kept = operand_of(kept, 0, *in);
    t->out = operand_of(kept, 1, *out);
    t->in_reduced = operand_of(reduced, 0, *in);
    if (t->reduction == VARIANCE) t->correction = (float)grdi_attr_float(call->attrs, "correction");
    int64_t along = reduced.rank ? reduced.stride[0][reduced.rank - 1] : 0;
    int64_t across = kept.rank ? kept.stride[0][kept.rank - 1] : 0;
    bool columns = t->outputs >= WARP && across == 1 && along != 1;
    t->part = columns ? COLUMN_PART : PART;
    if (columns && t->count > (int64_t)COLUMN_PART * 65535) t->part = (t->count + 65534) / 65535;
    t->parts = (t->count + t->part - 1) / t->part;
    return columns;
}

/* Where values lie side by side, at multiples of 16 bytes, and one float holds what is known of them: parts are longer,
 * and no more than a card has blocks for. */
bool widen(const grdi_call *call, reduce_task *t)
{
    bool simple = t->reduction == SUM || t->reduction == MEAN || t->reduction == MAX || t->reduction == MIN ||
                  t->reduction == SUM_SQUARES;
    bool side_by_side = t->reduced.rank == 0 || (t->reduced.rank == 1 && t->in_reduced.stride[0] == 1);
    if (!simple || !side_by_side || t->count < WIDE || t->outputs == 0 || !lies_wide(t->in_kept.at, 0)) return false;
    for (int32_t i = 0; i < t->kept.rank; i++)
        if (!lies_wide(t->in_kept.at, t->in_kept.stride[i])) return false;
    bool small = call->device->small;
    int64_t step = small ? WIDE_PART_SMALL : WIDE_PART, blocks = small ? BLOCKS_SMALL : BLOCKS;
    int64_t wanted = t->outputs < blocks ? blocks / t->outputs : 1, steps = (t->count + step - 1) / step;
    t->part = (steps + wanted - 1) / wanted * step;
    t->parts = (t->count + t->part - 1) / t->part;
    return true;
}

grd_status prepare(grdi_call *call, grd_error *error)
{
    reduce_task t;
    (void)error;
    bool columns = describe(call, &t);
    int64_t parts = t.parts;
    /* Nothing has an address yet: room for either way. */
    if (!columns && widen(call, &t) && t.parts > parts) parts = t.parts;
    call->scratch_bytes = parts > 1 ? (size_t)(t.outputs * parts) * sizeof(summary) : 0;
    return GRD_OK;
}

double bytes(const grdi_call *call)
{
    reduce_task t;
    if (!describe(call, &t)) widen(call, &t);
    return grdi_cuda_bytes(call) + (t.parts > 1 ? 2.0 * (double)(t.outputs * t.parts) * sizeof(summary) : 0.0);
}

template <class K> grd_status launch_wide(grdi_call *call, const reduce_task &t)
{
    int64_t each = t.count < t.part ? t.count : t.part;
    unsigned threads = WARP, blocks = (unsigned)(t.outputs * t.parts);
    while (threads < THREADS && threads * WIDE < each) threads *= 2;
    return grdi_launch(call, reduce_wide_kernel<K>, blocks, threads, shared_bytes_of(THREADS / WARP, sizeof(float)), t);
}

template <int R> grd_status launch_by_dtype(grdi_call *call, const reduce_task &t)
{
    switch (t.in_kept.at.dtype) {
    case GRD_F32: return launch_wide<wide<R, GRD_F32>>(call, t);
    case GRD_BF16: return launch_wide<wide<R, GRD_BF16>>(call, t);
    default: return launch_wide<wide<R, GRD_F16>>(call, t);
    }
}

grd_status join_parts(grdi_call *call, const reduce_task &t)
{
    if (t.parts == 1) return GRD_OK;
    return grdi_launch(call, reduce_parts_kernel, blocks_for(t.outputs, THREADS / WARP), THREADS, 0, t);
}

grd_status run_wide(grdi_call *call, const reduce_task &t)
{
    grd_status status = t.reduction == SUM_SQUARES ? launch_by_dtype<SUM_SQUARES>(call, t)
                        : t.reduction == MAX       ? launch_by_dtype<MAX>(call, t)
                        : t.reduction == MIN       ? launch_by_dtype<MIN>(call, t)
                                                   : launch_by_dtype<SUM>(call, t);
    return status ? status : join_parts(call, t);
}

grd_status run(grdi_call *call)
{
    reduce_task t;
    bool columns = describe(call, &t);
    t.partial = (summary *)call->scratch;
    t.add = call->accumulate[0];
    if (!columns && widen(call, &t)) return run_wide(call, t);
    grd_status status = columns ? grdi_launch(call, reduce_columns_kernel,
                                              dim3(blocks_for(t.outputs, THREADS), (unsigned)t.parts), THREADS, 0, t)
                                : grdi_launch(call, reduce_rows_kernel, (unsigned)(t.outputs * t.parts), THREADS,
                                              shared_bytes_of(THREADS / WARP, sizeof(summary)), t);
    return status ? status : join_parts(call, t);
}

grd_status run_integers(grdi_call *call)
{
    reduce_task t;
    describe(call, &t);
    return grdi_launch(call, reduce_integers_kernel, blocks_for(t.outputs, THREADS / WARP), THREADS, 0, t);
}

bool supports_integers(const grdi_call *call)
{
    return call->in[0].dtype == GRD_I32 && call->out[0].dtype == GRD_I32;
}

bool supports(const grdi_call *call)
{
    grd_dtype in = call->in[0].dtype, out = call->out[0].dtype;
    return (is_value(in) && is_value(out)) || (in == GRD_BOOL && out == GRD_BOOL && !call->may_accumulate[0]);
}

/* ---- argmax, argmin: one warp an output; the first of equal values, and of NaN ---- */

struct arg_task {
    axes kept;
    operand in, out;
    int64_t outputs, count, stride;
    bool most;
};

/* Numbers are compared as they are: i32 beyond 2^24 is no float. */
template <class T> struct candidate {
    T value;
    int32_t index;
};

template <class T> __device__ inline candidate<T> better(const arg_task &t, candidate<T> x, candidate<T> y)
{
    if (x.index < 0 || y.index < 0) return x.index < 0 ? y : x;
    bool x_nan = x.value != x.value, y_nan = y.value != y.value;
    if (x_nan || y_nan) return x_nan && (!y_nan || x.index < y.index) ? x : y;
    if (x.value == y.value) return x.index < y.index ? x : y;
    return (x.value > y.value) == t.most ? x : y;
}

__device__ __forceinline__ void read(const cells &c, int64_t i, float *value)
{
    *value = get(c, i);
}
__device__ __forceinline__ void read(const cells &c, int64_t i, int32_t *value)
{
    *value = ((const int32_t *)c.data)[i];
}

template <class T> __global__ void __launch_bounds__(THREADS) arg_kernel(const arg_task t)
{
    int64_t output = (int64_t)blockIdx.x * (THREADS / WARP) + warp_of_thread();
    if (output >= t.outputs) return;
    int64_t base = offset_of(t.kept, t.in, output);
    candidate<T> best = {0, -1};
    for (int64_t i = lane_of_thread(); i < t.count; i += WARP) {
        candidate<T> next = {0, (int32_t)i};
        read(t.in.at, base + i * t.stride, &next.value);
        best = better(t, best, next);
    }
    for (int lanes = 1; lanes < WARP; lanes *= 2) {
        candidate<T> other = {__shfl_xor_sync(0xFFFFFFFFu, best.value, lanes),
                              __shfl_xor_sync(0xFFFFFFFFu, best.index, lanes)};
        best = better(t, best, other);
    }
    if (lane_of_thread() == 0) ((int32_t *)t.out.at.data)[offset_of(t.kept, t.out, output)] = best.index;
}

grd_status run_arg(grdi_call *call)
{
    const grdi_view *in = &call->in[0], *out = &call->out[0];
    int64_t axis = grdi_attr_int(call->attrs, "axis");
    axis += axis < 0 ? in->dims.rank : 0;
    grdi_space kept = {};
    kept.operands = 2;
    for (int32_t i = 0, next = 0; i < in->dims.rank; i++) {
        if (i == axis) continue;
        kept.dim[kept.rank] = in->dims.dim[i];
        kept.stride[0][kept.rank] = in->stride[i];
        kept.stride[1][kept.rank++] = out->stride[in->dims.rank == out->dims.rank ? i : next];
        next++;
    }
    grdi_space_merge(&kept);
    arg_task t = {axes_of(kept),
                  operand_of(kept, 0, *in),
                  operand_of(kept, 1, *out),
                  grdi_space_count(&kept, kept.rank),
                  in->dims.dim[axis],
                  in->stride[axis],
                  strcmp(call->op->name, "argmax") == 0};
    unsigned blocks = blocks_for(t.outputs, THREADS / WARP);
    return in->dtype == GRD_I32 ? grdi_launch(call, arg_kernel<int32_t>, blocks, THREADS, 0, t)
                                : grdi_launch(call, arg_kernel<float>, blocks, THREADS, 0, t);
}

bool supports_arg(const grdi_call *call)
{
    return (is_value(call->in[0].dtype) || call->in[0].dtype == GRD_I32) && call->out[0].dtype == GRD_I32;
}

#define REDUCE_KERNEL(op_name)                                                                                         \
    {                                                                                                                  \
        .op = op_name, .strided_in = 1, .rows_in = 1, .strided_out = 1, .accumulates = 1, .supports = supports,        \
        .prepare = prepare, .run = run, .bytes_of = bytes                                                              \
    }
#define INTEGER_KERNEL(op_name)                                                                                        \
    {                                                                                                                  \
        .op = op_name, .strided_in = 1, .rows_in = 1, .strided_out = 1, .supports = supports_integers,                 \
        .run = run_integers                                                                                            \
    }
#define ARG_KERNEL(op_name)                                                                                            \
    {                                                                                                                  \
        .op = op_name, .strided_in = 1, .rows_in = 1, .strided_out = 1, .supports = supports_arg, .run = run_arg       \
    }

const grdi_kernel kernels[] = {REDUCE_KERNEL("sum"),         REDUCE_KERNEL("mean"),   REDUCE_KERNEL("max"),
                               REDUCE_KERNEL("min"),         REDUCE_KERNEL("prod"),   REDUCE_KERNEL("variance"),
                               REDUCE_KERNEL("any"),         REDUCE_KERNEL("all"),    REDUCE_KERNEL("logsumexp"),
                               REDUCE_KERNEL("sum_squares"), REDUCE_KERNEL("sum_to"), ARG_KERNEL("argmax"),
                               ARG_KERNEL("argmin"),         INTEGER_KERNEL("sum"),   INTEGER_KERNEL("max"),
                               INTEGER_KERNEL("min"),        INTEGER_KERNEL("prod"),  INTEGER_KERNEL("sum_to")};

} // namespace

GRDI_CUDA_TABLE(reduce, &kernels[0], &kernels[1], &kernels[2], &kernels[3], &kernels[4], &kernels[5], &kernels[6],
                &kernels[7], &kernels[8], &kernels[9], &kernels[10], &kernels[11], &kernels[12], &kernels[13],
                &kernels[14], &kernels[15], &kernels[16], &kernels[17])
