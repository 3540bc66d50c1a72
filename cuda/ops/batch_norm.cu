/* batch_norm.cu - normalisation of each channel over a batch, forward and backward. A first kernel makes two sums of
 * each channel over parts of the rows, a second joins the parts in their order (no atomics, the same bits in every run)
 * and makes of them what the third needs of a channel to go over all elements.
 *
 * A thread stays with its channels (eight, by loads of 16 bytes, where dtypes and addresses allow it) and takes rows of
 * a part, several on their way at once, so that what belongs to a channel is in registers and no index is divided. */
#include "device/table.cuh"
#include "device/values.cuh"

namespace
{

/* BLOCKS: as many as an H100 has at once, three on each of 132 multiprocessors. STEP_ROWS: of a thread; parts are
 * multiples of them. */
enum { THREADS = 256, BLOCKS = 396, STEP_ROWS = 4, SLOTS = 32, SUMS = 2, KEPT = 5, ANY = 63 };
constexpr int BEHIND_RELU = 64, ADDS = 128; /* beside a dtype, or ANY: what a kernel is made for */

struct batch_task {
    cells x, g, past, y; /* [rows,channels]; past: what is added */
    cells gain, bias, running_mean, running_variance;
    cells mean, rstd, out_mean, out_rstd, out_running_mean, out_running_variance; /* data NULL where not wanted */
    cells ggain, gbias;
    int64_t rows, channels, part, parts;
    float *partial; /* [part][SUMS][channels] */
    float *kept;    /* [KEPT][channels]: what the last kernel needs of a channel */
    float eps, momentum;
    bool add_gain, add_bias, relu;
};

/* How a thread reads: WIDE channels of dtype D, or one channel of any dtype. */
template <int D> struct element {
    static constexpr int W = WIDE, AT_ONCE = D == GRD_F32 ? 2 : 4;
    using bits = wide_bits;
    static __device__ __forceinline__ bits read(const cells &c, int64_t i)
    {
        return read_wide(cells{c.data, D}, i);
    }
    static __device__ __forceinline__ void values(const cells &c, const bits &b, float *x)
    {
        spread(cells{c.data, D}, b, x);
    }
    static __device__ __forceinline__ void write(const cells &c, int64_t i, const float *x)
    {
        write_wide(cells{c.data, D}, i, x);
    }
    static __device__ __forceinline__ void kept(const float *from, int64_t i, float *x)
    {
        const cells c = {(void *)from, GRD_F32};
        spread(c, read_wide(c, i), x);
    }
};

template <> struct element<ANY> {
    static constexpr int W = 1, AT_ONCE = 4;
    using bits = uint32_t;
    static __device__ __forceinline__ bits read(const cells &c, int64_t i)
    {
        return bits_of(c, i);
    }
    static __device__ __forceinline__ void values(const cells &c, bits b, float *x)
    {
        *x = value_of(c, b);
    }
    static __device__ __forceinline__ void write(const cells &c, int64_t i, const float *x)
    {
        put(c, i, *x);
    }
    static __device__ __forceinline__ void kept(const float *from, int64_t i, float *x)
    {
        *x = from[i];
    }
};

template <int N> struct rows_at_once {
    static constexpr int count = N;
};

/* What a thread has of a part: `count` rows, `step` elements apart, from `at` on. */
struct walk {
    int64_t channel, at, step, count;
};

template <int W> __device__ __forceinline__ walk walk_of(const batch_task &t)
{
    int64_t first = (int64_t)blockIdx.y * t.part + threadIdx.y;
    int64_t end = first - threadIdx.y + t.part < t.rows ? first - threadIdx.y + t.part : t.rows;
    walk w = {((int64_t)blockIdx.x * blockDim.x + threadIdx.x) * W, 0, blockDim.y * t.channels, 0};
    w.at = first * t.channels + w.channel;
    if (w.channel < t.channels && first < end) w.count = (int32_t)(end - first + blockDim.y - 1) / (int32_t)blockDim.y;
    return w;
}

/* Backwards: the second-level cache still has what was read last. */
__device__ __forceinline__ walk backwards(walk w)
{
    w.at += (w.count - 1) * w.step, w.step = -w.step;
    return w;
}

/* visit(rows_at_once, at) over the rows, AT_ONCE of them where there are so many. */
template <int AT_ONCE, class F> __device__ __forceinline__ void each_rows(walk w, F visit)
{
    for (; w.count >= AT_ONCE; w.count -= AT_ONCE, w.at += AT_ONCE * w.step) visit(rows_at_once<AT_ONCE>(), w.at);
    for (; w.count > 0; w.count--, w.at += w.step) visit(rows_at_once<1>(), w.at);
}

/* Both sums of each channel of the block, over its rows: finish(channel, a, b). */
template <int W, class F>
__device__ __forceinline__ void join_rows(const batch_task &t, const float *a, const float *b, F finish)
{
    shared_memory memory;
    int lanes = (int)blockDim.x, pitch = THREADS + lanes, at = (int)threadIdx.y * lanes + (int)threadIdx.x;
    float *sums = memory.take<float>(SUMS * W * pitch);
#pragma unroll
    for (int k = 0; k < W; k++) sums[k * pitch + at] = a[k], sums[(W + k) * pitch + at] = b[k];
    __syncthreads();
    for (int c = at; c < lanes * W; c += THREADS) {
        int lane = c % lanes, k = c / lanes;
        int64_t channel = ((int64_t)blockIdx.x * lanes + lane) * W + k;
        const float *from = sums + k * pitch + lane;
        float x = 0, y = 0;
        for (int i = 0; i < THREADS; i += lanes) x += from[i], y += from[W * pitch + i];
        if (channel < t.channels) finish(channel, x, y);
    }
}

/* Both sums over the parts' slots; true: the thread has them. */
__device__ inline bool join_slots(float *a, float *b)
{
    shared_memory memory;
    float *sums = memory.take<float>(SUMS * SLOTS * WARP);
    int at = (int)(threadIdx.y * WARP + threadIdx.x);
    sums[at] = *a, sums[SLOTS * WARP + at] = *b;
    __syncthreads();
    if (threadIdx.y > 0) return false;
    for (int i = 1; i < (int)blockDim.y; i++) *a += sums[i * WARP + at], *b += sums[(SLOTS + i) * WARP + at];
    return true;
}

/* ---- forward ---- */

/* Sums are of distances from the part's first row, which is one of the values: so their squares are at most as many
 * times the squared distances from the mean as there are rows, and nothing is lost where the mean is far from zero. */
template <int D> __global__ void __launch_bounds__(THREADS, 3) batch_moments_kernel(const batch_task t)
{
    using in = element<D>;
    constexpr int W = in::W;
    float sum[W] = {}, squares[W] = {}, shift[W];
    const walk w = walk_of<W>(t);
    if (w.count > 0) {
        in::values(t.x, in::read(t.x, w.at - (int64_t)threadIdx.y * t.channels), shift);
        each_rows<in::AT_ONCE>(w, [&](auto rows, int64_t at) {
            typename in::bits bits[rows.count] = {};
#pragma unroll
            for (int r = 0; r < rows.count; r++) bits[r] = in::read(t.x, at + r * w.step);
#pragma unroll
            for (int r = 0; r < rows.count; r++) {
                float x[W];
                in::values(t.x, bits[r], x);
#pragma unroll
                for (int k = 0; k < W; k++) x[k] -= shift[k], sum[k] += x[k], squares[k] += x[k] * x[k];
            }
        });
    }
    join_rows<W>(t, sum, squares, [&](int64_t channel, float a, float b) {
        int64_t first = (int64_t)blockIdx.y * t.part;
        float *partial = t.partial + (int64_t)blockIdx.y * SUMS * t.channels + channel;
        float count = (float)(t.rows - first < t.part ? t.rows - first : t.part), rest = b - a * (a / count);
        float from = get(t.x, first * t.channels + channel) - get(t.x, channel);
        partial[0] = from + a / count, partial[t.channels] = rest < 0 ? 0.0f : rest;
    });
}

/* What is kept of a channel: its centre (the mean, rounded), gain rstd, and the bias with what the centre misses. Means
 * of parts are distances from the first row until then. */
__global__ void __launch_bounds__(SLOTS *WARP) batch_statistics_kernel(const batch_task t)
{
    int64_t channel = (int64_t)blockIdx.x * WARP + threadIdx.x;
    float sum = 0, squares = 0, shift = 0, all = (float)t.rows;
    if (channel < t.channels) {
        shift = t.partial[channel];
#pragma unroll 4
        for (int64_t part = threadIdx.y; part < t.parts; part += blockDim.y) {
            const float *partial = t.partial + part * SUMS * t.channels + channel;
            float count = (float)(part + 1 < t.parts ? t.part : t.rows - part * t.part), d = partial[0] - shift;
            sum += count * d, squares += partial[t.channels] + count * d * d;
        }
    }
    if (!join_slots(&sum, &squares) || channel >= t.channels) return;
    float base = get(t.x, channel), mean = base + shift + sum / all, rest = squares - sum * (sum / all);
    rest = rest < 0 ? 0.0f : rest;
    float rstd = 1.0f / sqrtf(rest / all + t.eps), scale = rstd * get(t.gain, channel);
    t.kept[channel] = mean, t.kept[t.channels + channel] = scale;
    t.kept[2 * t.channels + channel] = get(t.bias, channel) - (base - mean + shift + sum / all) * scale;
    if (t.out_mean.data) put(t.out_mean, channel, mean);
    if (t.out_rstd.data) put(t.out_rstd, channel, rstd);
    if (t.out_running_mean.data)
        put(t.out_running_mean, channel, (1 - t.momentum) * get(t.running_mean, channel) + t.momentum * mean);
    if (t.out_running_variance.data)
        put(t.out_running_variance, channel,
            (1 - t.momentum) * get(t.running_variance, channel) + t.momentum * (rest / (all - 1)));
}

template <int D> __global__ void __launch_bounds__(THREADS, 3) batch_normalise_kernel(const batch_task t)
{
    using in = element<D & ANY>;
    constexpr int W = in::W, AT_ONCE = D & ADDS ? in::AT_ONCE / 2 : in::AT_ONCE;
    const walk w = backwards(walk_of<W>(t));
    if (w.count <= 0) return;
    float mean[W], scale[W], bias[W];
    in::kept(t.kept, w.channel, mean);
    in::kept(t.kept, t.channels + w.channel, scale);
    in::kept(t.kept, 2 * t.channels + w.channel, bias);
    each_rows<AT_ONCE>(w, [&](auto rows, int64_t at) {
        typename in::bits bits[rows.count] = {}, past[rows.count] = {};
#pragma unroll
        for (int r = 0; r < rows.count; r++) {
            bits[r] = in::read(t.x, at + r * w.step);
            if (D & ADDS) past[r] = in::read(t.past, at + r * w.step);
        }
#pragma unroll
        for (int r = 0; r < rows.count; r++) {
            float x[W], added[W] = {};
            in::values(t.x, bits[r], x);
            if (D & ADDS) in::values(t.past, past[r], added);
#pragma unroll
            for (int k = 0; k < W; k++) {
                x[k] = (x[k] - mean[k]) * scale[k] + bias[k];
                if (D & ADDS) x[k] += added[k];
                if (t.relu && x[k] < 0) x[k] = 0;
            }
            in::write(t.y, at + r * w.step, x);
        }
    });
}

/* ---- backward: with n = (x - mean) rstd over M rows, gx = gain rstd (g - sum g / M - n sum g n / M). Behind a relu g
 * counts where n gain + bias is positive ---- */

__device__ __forceinline__ float counted(float g, float centred, float scale, float bias)
{
    return centred * scale + bias > 0 ? g : 0.0f;
}

template <int D> __global__ void __launch_bounds__(THREADS, 3) batch_slopes_kernel(const batch_task t)
{
    using in = element<D & ANY>;
    constexpr bool RELU = D & BEHIND_RELU;
    constexpr int W = in::W, AT_ONCE = RELU ? in::AT_ONCE / 2 : in::AT_ONCE; /* which leaves room for two more */
    float along[W] = {}, sum[W] = {}, mean[W], scale[W], bias[W];
    const walk w = walk_of<W>(t);
    if (w.count > 0) {
#pragma unroll
        for (int k = 0; k < W; k++) {
            mean[k] = get(t.mean, w.channel + k);
            if (!RELU) continue;
            scale[k] = get(t.rstd, w.channel + k) * get(t.gain, w.channel + k), bias[k] = get(t.bias, w.channel + k);
        }
        each_rows<AT_ONCE>(w, [&](auto rows, int64_t at) {
            typename in::bits g_bits[rows.count] = {}, x_bits[rows.count] = {};
#pragma unroll
            for (int r = 0; r < rows.count; r++)
                g_bits[r] = in::read(t.g, at + r * w.step), x_bits[r] = in::read(t.x, at + r * w.step);
#pragma unroll
            for (int r = 0; r < rows.count; r++) {
                float g[W], x[W];
                in::values(t.g, g_bits[r], g), in::values(t.x, x_bits[r], x);
#pragma unroll
                for (int k = 0; k < W; k++) {
                    x[k] -= mean[k];
                    if (RELU) g[k] = counted(g[k], x[k], scale[k], bias[k]);
                    along[k] += g[k] * x[k], sum[k] += g[k];
                }
            }
        });
    }
    join_rows<W>(t, along, sum, [&](int64_t channel, float a, float b) {
        float *partial = t.partial + (int64_t)blockIdx.y * SUMS * t.channels + channel;
        partial[0] = a, partial[t.channels] = b;
    });
}

/* What is kept of a channel: mean, gain rstd, the means over rows of g and of g n, the latter times rstd, the bias. */
__global__ void __launch_bounds__(SLOTS *WARP) batch_sums_kernel(const batch_task t)
{
    int64_t channel = (int64_t)blockIdx.x * WARP + threadIdx.x;
    float along = 0, sum = 0, all = (float)t.rows;
#pragma unroll 4
    for (int64_t part = threadIdx.y; channel < t.channels && part < t.parts; part += blockDim.y) {
        const float *partial = t.partial + part * SUMS * t.channels + channel;
        along += partial[0], sum += partial[t.channels];
    }
    if (!join_slots(&along, &sum) || channel >= t.channels) return;
    float rstd = get(t.rstd, channel);
    along *= rstd;
    t.kept[channel] = get(t.mean, channel), t.kept[t.channels + channel] = rstd * get(t.gain, channel);
    t.kept[2 * t.channels + channel] = sum / all, t.kept[3 * t.channels + channel] = along / all * rstd;
    if (t.relu) t.kept[4 * t.channels + channel] = get(t.bias, channel);
    if (t.ggain.data) put_or_add(t.ggain, channel, along, t.add_gain);
    if (t.gbias.data) put_or_add(t.gbias, channel, sum, t.add_bias);
}

template <int D> __global__ void __launch_bounds__(THREADS, 3) batch_backward_kernel(const batch_task t)
{
    using in = element<D & ANY>;
    constexpr bool RELU = D & BEHIND_RELU;
    constexpr int W = in::W, AT_ONCE = in::AT_ONCE / 2; /* of g and x */
    const walk w = backwards(walk_of<W>(t));
    if (w.count <= 0) return;
    float mean[W], scale[W], sum[W], along[W], bias[W];
    in::kept(t.kept, w.channel, mean);
    in::kept(t.kept, t.channels + w.channel, scale);
    in::kept(t.kept, 2 * t.channels + w.channel, sum);
    in::kept(t.kept, 3 * t.channels + w.channel, along);
    if (RELU) in::kept(t.kept, 4 * t.channels + w.channel, bias);
    each_rows<AT_ONCE>(w, [&](auto rows, int64_t at) {
        typename in::bits g_bits[rows.count] = {}, x_bits[rows.count] = {};
#pragma unroll
        for (int r = 0; r < rows.count; r++)
            g_bits[r] = in::read(t.g, at + r * w.step), x_bits[r] = in::read(t.x, at + r * w.step);
#pragma unroll
        for (int r = 0; r < rows.count; r++) {
            float g[W], x[W];
            in::values(t.g, g_bits[r], g), in::values(t.x, x_bits[r], x);
#pragma unroll
            for (int k = 0; k < W; k++) {
                x[k] -= mean[k];
                if (RELU) g[k] = counted(g[k], x[k], scale[k], bias[k]);
                x[k] = scale[k] * (g[k] - sum[k] - x[k] * along[k]);
            }
            in::write(t.y, at + r * w.step, x);
        }
    });
}

/* ---- on the host ---- */

struct batch_plan {
    int32_t dtype; /* of wide elements, or ANY */
    dim3 grid, block, slots;
    size_t shared;
};

/* Elements are wide where all of them are of one dtype and lie at multiples of 16 bytes. */
int32_t dtype_of(const batch_task &t)
{
    bool wide =
        t.channels % WIDE == 0 && lies_wide(t.x, t.channels) && lies_wide(t.y, t.channels) && t.x.dtype == t.y.dtype;
    for (const cells &beside : {t.g, t.past})
        if (beside.data) wide = wide && beside.dtype == t.x.dtype && lies_wide(beside, t.channels);
    return wide ? t.x.dtype : (int32_t)ANY;
}

/* How rows and channels are cut, by shapes alone: g and x are of one shape. */
batch_plan cut(const grdi_call *call, batch_task *t, int32_t dtype)
{
    int64_t width = dtype == ANY ? 1 : WIDE, groups = blocks_for(t->channels, width);
    unsigned lanes = 1;
    while (lanes < WARP && lanes < groups) lanes *= 2;
    batch_plan plan = {dtype, {}, dim3(lanes, THREADS / lanes), {}, 0};
    unsigned across = blocks_for(groups, lanes), blocks = call->device->small ? 40 : BLOCKS;
    int64_t step = (int64_t)plan.block.y * STEP_ROWS, steps = blocks_for(t->rows, step);
    int64_t wanted = across < blocks ? blocks / across : 1;
    t->part = (steps + wanted - 1) / wanted * step;
    t->parts = (t->rows + t->part - 1) / t->part;
    plan.grid = dim3(across, (unsigned)t->parts);
    plan.slots = dim3(WARP, t->parts < SLOTS ? (unsigned)t->parts : (unsigned)SLOTS);
    plan.shared = shared_bytes_of((size_t)(SUMS * width) * (THREADS + lanes), sizeof(float));
    return plan;
}

/* Everything but what forward and backward alone have. In `prepare` nothing has an address yet. */
batch_plan describe(const grdi_call *call, int32_t x, batch_task *t)
{
    grd_dims dims = call->in[x].dims;
    t->channels = dims.dim[dims.rank - 1], t->rows = grd_dims_count(dims) / t->channels;
    t->x = cells_of(call->in[x]), t->y = cells_of(call->out[0]);
    if (x > 0) t->g = cells_of(call->in[0]);
    t->kept = (float *)call->scratch, t->partial = t->kept + KEPT * t->channels;
    return cut(call, t, dtype_of(*t));
}

grd_status prepare(grdi_call *call, grd_error *error)
{
    batch_task t = {};
    (void)error;
    describe(call, 0, &t);
    int64_t parts = 0;
    for (int32_t dtype : {(int32_t)ANY, (int32_t)GRD_F32}) {
        cut(call, &t, dtype);
        parts = t.parts > parts ? t.parts : parts;
    }
    call->scratch_bytes = (size_t)((KEPT + SUMS * parts) * t.channels) * sizeof(float);
    return GRD_OK;
}

/* The kernel of a family for the dtype of the plan. */
#define LAUNCH_BY_ROWS(call, kernel, behind, plan, shared, t)                                                          \
    ((plan).dtype == GRD_F32    ? grdi_launch(call, kernel<GRD_F32 | behind>, (plan).grid, (plan).block, shared, t)    \
     : (plan).dtype == GRD_BF16 ? grdi_launch(call, kernel<GRD_BF16 | behind>, (plan).grid, (plan).block, shared, t)   \
     : (plan).dtype == GRD_F16  ? grdi_launch(call, kernel<GRD_F16 | behind>, (plan).grid, (plan).block, shared, t)    \
                                : grdi_launch(call, kernel<ANY | behind>, (plan).grid, (plan).block, shared, t))

const size_t slots_shared = shared_bytes_of(SUMS * SLOTS * WARP, sizeof(float));

grd_status run_forward(grdi_call *call)
{
    batch_task t = {};
    if (call->input_count > 5) t.past = cells_of(call->in[5]);
    batch_plan plan = describe(call, 0, &t);
    t.gain = cells_of(call->in[1]), t.bias = cells_of(call->in[2]);
    t.running_mean = cells_of(call->in[3]), t.running_variance = cells_of(call->in[4]);
    t.out_mean = cells_of(call->out[1]), t.out_rstd = cells_of(call->out[2]);
    t.out_running_mean = cells_of(call->out[3]), t.out_running_variance = cells_of(call->out[4]);
    t.relu = grdi_attr_int(call->attrs, "relu") != 0;
    t.eps = (float)grdi_attr_float(call->attrs, "eps"), t.momentum = (float)grdi_attr_float(call->attrs, "momentum");
    grd_status status = LAUNCH_BY_ROWS(call, batch_moments_kernel, 0, plan, plan.shared, t);
    if (!status)
        status = grdi_launch(call, batch_statistics_kernel, blocks_for(t.channels, WARP), plan.slots, slots_shared, t);
    if (status || !t.y.data) return status;
    return t.past.data ? LAUNCH_BY_ROWS(call, batch_normalise_kernel, ADDS, plan, 0, t)
                       : LAUNCH_BY_ROWS(call, batch_normalise_kernel, 0, plan, 0, t);
}

/* Sums over rows come first: gx may lie over g or x. */
grd_status run_backward(grdi_call *call)
{
    batch_task t = {};
    batch_plan plan = describe(call, 1, &t);
    t.mean = cells_of(call->in[2]), t.rstd = cells_of(call->in[3]), t.gain = cells_of(call->in[4]);
    t.relu = call->input_count > 5;
    if (t.relu) t.bias = cells_of(call->in[5]);
    t.ggain = cells_of(call->out[1]), t.gbias = cells_of(call->out[2]);
    t.add_gain = call->accumulate[1], t.add_bias = call->accumulate[2];
    grd_status status = t.relu ? LAUNCH_BY_ROWS(call, batch_slopes_kernel, BEHIND_RELU, plan, plan.shared, t)
                               : LAUNCH_BY_ROWS(call, batch_slopes_kernel, 0, plan, plan.shared, t);
    if (!status)
        status = grdi_launch(call, batch_sums_kernel, blocks_for(t.channels, WARP), plan.slots, slots_shared, t);
    if (status || !t.y.data) return status;
    return t.relu ? LAUNCH_BY_ROWS(call, batch_backward_kernel, BEHIND_RELU, plan, 0, t)
                  : LAUNCH_BY_ROWS(call, batch_backward_kernel, 0, plan, 0, t);
}

bool supports(const grdi_call *call)
{
    return takes_values(call, 0, call->input_count);
}

const grdi_kernel kernel_forward = {
    .op = "batch_norm", .in_place = 25, .supports = supports, .prepare = prepare, .run = run_forward};
const grdi_kernel kernel_backward = {.op = "batch_norm_backward",
                                     .accumulates = 6,
                                     .in_place = 1,
                                     .supports = supports,
                                     .prepare = prepare,
                                     .run = run_backward};

} // namespace

GRDI_CUDA_TABLE(batch_norm, &kernel_forward, &kernel_backward)
