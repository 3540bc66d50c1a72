/* norm.cu - layer_norm and rms_norm over the last axis, forward and backward. Rows are kept in shared memory as floats,
 * or backward in registers, where they fit, so that they are read once. */
#include "device/rows.cuh"
#include "device/table.cuh"

#include <cstring>

namespace
{

enum { CACHED_MAX = 8192, COLUMNS = 128, PARTS_MAX = 384, PART_LEAST = 32, TURNS = 4, SUM_WARPS = 16 };

/* Forward: x to y. Backward: with h = g gain and n = (x - mean) rstd, gx = rstd (h - mean(h) - n mean(h n)); rms_norm
 * has neither mean. */
struct norm_task {
    rows x, g, y;
    cells gain, bias, mean, rstd; /* data NULL where absent */
    int64_t channels, count;      /* count: of rows */
    float eps;
    bool centred, cached, add;
};

__global__ void norm_kernel(const norm_task t)
{
    shared_memory shared;
    float *parts = shared.take<float>(ROW_WARPS_MAX);
    float *cache = t.cached ? shared.take<float>((int)t.channels) : nullptr;
    int64_t row = blockIdx.x, x_at = start_of(t.x, row), y_at = start_of(t.y, row);
    float sum = 0, mean = 0, rest = 0, squares = 0;
    for (int64_t i = threadIdx.x; i < t.channels; i += blockDim.x) {
        float x = get(t.x.at.at, x_at + i * t.x.stride);
        sum += x;
        if (cache) cache[i] = x;
    }
    if (t.centred) mean = block_sum(sum, parts) / (float)t.channels;
    for (int64_t i = threadIdx.x; i < t.channels; i += blockDim.x) {
        float d = (cache ? cache[i] : get(t.x.at.at, x_at + i * t.x.stride)) - mean;
        rest += d;
        squares += d * d;
    }
    float variance = block_sum(squares, parts) / (float)t.channels;
    if (t.centred) { /* what rounding left out of the mean, which matters where it is far from zero */
        rest = block_sum(rest, parts) / (float)t.channels;
        mean += rest;
        variance -= rest * rest;
    }
    float rstd = 1.0f / sqrtf(variance + t.eps);
    for (int64_t i = threadIdx.x; t.y.at.at.data && i < t.channels; i += blockDim.x) {
        float n = ((cache ? cache[i] : get(t.x.at.at, x_at + i * t.x.stride)) - mean) * rstd;
        float scaled = t.gain.data ? n * get(t.gain, i) : n;
        put(t.y.at.at, y_at + i * t.y.stride, t.bias.data ? scaled + get(t.bias, i) : scaled);
    }
    if (threadIdx.x > 0) return;
    if (t.mean.data) put(t.mean, row, mean);
    if (t.rstd.data) put(t.rstd, row, rstd);
}

__global__ void norm_backward_kernel(const norm_task t)
{
    shared_memory shared;
    float *parts = shared.take<float>(ROW_WARPS_MAX);
    int64_t row = blockIdx.x, x_at = start_of(t.x, row), g_at = start_of(t.g, row), y_at = start_of(t.y, row);
    float mean = t.centred ? get(t.mean, row) : 0.0f, rstd = get(t.rstd, row), sum_h = 0, sum_hn = 0;
    for (int64_t i = threadIdx.x; i < t.channels; i += blockDim.x) {
        float h = get(t.g.at.at, g_at + i * t.g.stride) * (t.gain.data ? get(t.gain, i) : 1.0f);
        sum_h += h;
        sum_hn += h * ((get(t.x.at.at, x_at + i * t.x.stride) - mean) * rstd);
    }
    float mean_h = t.centred ? block_sum(sum_h, parts) / (float)t.channels : 0.0f;
    float mean_hn = block_sum(sum_hn, parts) / (float)t.channels;
    for (int64_t i = threadIdx.x; i < t.channels; i += blockDim.x) {
        float h = get(t.g.at.at, g_at + i * t.g.stride) * (t.gain.data ? get(t.gain, i) : 1.0f);
        float n = (get(t.x.at.at, x_at + i * t.x.stride) - mean) * rstd;
        put_or_add(t.y.at.at, y_at + i * t.y.stride, rstd * (h - mean_h - n * mean_hn), t.add);
    }
}

struct channel_task {
    norm_task norm;
    float *partial; /* [part][2][channels]: sums of g n, and of g; NULL: not wanted */
    int64_t part;   /* rows in one */
    int64_t parts;
    cells gain, bias; /* the gradients; data NULL where not wanted */
    bool add_gain, add_bias;
};

/* A row in registers, EACH elements a thread: of a warp, of which a block has several, or of the block. BLOCKS: to a
 * multiprocessor, at least. */
template <int EACH_, bool BY_WARP_, int BLOCKS_> struct row_shape {
    static constexpr int EACH = EACH_, BLOCKS = BLOCKS_, THREADS = BY_WARP_ ? TURNS * WARP : CACHED_MAX / EACH_;
    static constexpr bool BY_WARP = BY_WARP_;
};

/* gx, and the sums over channels, of the rows of one part, each read once. */
template <class S> __global__ void __launch_bounds__(S::THREADS, S::BLOCKS) norm_gradient_kernel(const channel_task c)
{
    constexpr int EACH = S::EACH;
    constexpr bool BY_WARP = S::BY_WARP;
    const norm_task &t = c.norm;
    shared_memory shared;
    float *warps = shared.take<float>(ROW_WARPS_MAX), *sums = shared.take<float>(2 * (int)t.channels);
    int team = BY_WARP ? WARP : (int)blockDim.x, me = (int)threadIdx.x % team, turn = (int)threadIdx.x / team;
    int turns = (int)blockDim.x / team, channels = (int)t.channels;
    int64_t part = blockIdx.x, end = (part + 1) * c.part < t.count ? (part + 1) * c.part : t.count;
    float gain[EACH], bias[EACH];
#pragma unroll
    for (int k = 0; k < EACH; k++) gain[k] = bias[k] = 0;
    for (int64_t row = part * c.part + turn; row < end; row += turns) {
        int64_t x_at = start_of(t.x, row), g_at = start_of(t.g, row), y_at = start_of(t.y, row);
        float mean = t.centred ? get(t.mean, row) : 0.0f, rstd = get(t.rstd, row), h[EACH], n[EACH];
        float sum_h = 0, sum_hn = 0;
        uint32_t g_bits[EACH], x_bits[EACH];
#pragma unroll
        for (int k = 0; k < EACH; k++) {
            int i = me + k * team;
            g_bits[k] = i < channels ? bits_of(t.g.at.at, g_at + i) : 0;
            x_bits[k] = i < channels ? bits_of(t.x.at.at, x_at + i) : 0;
        }
#pragma unroll
        for (int k = 0; k < EACH; k++) {
            int i = me + k * team;
            h[k] = value_of(t.g.at.at, g_bits[k]);
            n[k] = i < channels ? (value_of(t.x.at.at, x_bits[k]) - mean) * rstd : 0.0f;
            gain[k] += h[k] * n[k];
            bias[k] += h[k];
            if (t.gain.data && i < channels) h[k] *= get(t.gain, i);
            sum_h += h[k];
            sum_hn += h[k] * n[k];
        }
        if (!t.y.at.at.data) continue;
        sum_hn = BY_WARP ? warp_sum(sum_hn) : block_sum(sum_hn, warps);
        if (t.centred) sum_h = BY_WARP ? warp_sum(sum_h) : block_sum(sum_h, warps);
        float mean_h = t.centred ? sum_h / (float)channels : 0.0f, mean_hn = sum_hn / (float)channels;
#pragma unroll
        for (int k = 0; k < EACH; k++) {
            int i = me + k * team;
            if (i < channels)
                put_or_add(t.y.at.at, y_at + i * t.y.stride, rstd * (h[k] - mean_h - n[k] * mean_hn), t.add);
        }
    }
    for (int next = 0; next < turns && c.partial; next++) { /* in the order of warps */
        if (next) __syncthreads();
#pragma unroll
        for (int k = 0; k < EACH; k++) {
            int i = me + k * team;
            if (next != turn || i >= channels) continue;
            sums[i] = next ? sums[i] + gain[k] : gain[k];
            sums[channels + i] = next ? sums[channels + i] + bias[k] : bias[k];
        }
    }
    __syncthreads();
    for (int i = (int)threadIdx.x; i < 2 * channels && c.partial; i += (int)blockDim.x)
        c.partial[part * 2 * channels + i] = sums[i];
}

/* The sums over channels alone, of rows that no block can keep; neighbouring threads take neighbouring channels. */
__global__ void __launch_bounds__(COLUMNS) channel_parts_kernel(const channel_task t)
{
    const norm_task &n = t.norm;
    int64_t channel = (int64_t)blockIdx.x * COLUMNS + threadIdx.x, part = blockIdx.y;
    int64_t end = (part + 1) * t.part < n.count ? (part + 1) * t.part : n.count;
    if (channel >= n.channels) return;
    float gain = 0, bias = 0;
    for (int64_t row = part * t.part; row < end; row++) {
        float g = get(n.g.at.at, start_of(n.g, row) + channel * n.g.stride);
        float x = get(n.x.at.at, start_of(n.x, row) + channel * n.x.stride) - (n.centred ? get(n.mean, row) : 0.0f);
        gain += g * (x * get(n.rstd, row));
        bias += g;
    }
    t.partial[(part * 2) * n.channels + channel] = gain;
    t.partial[(part * 2 + 1) * n.channels + channel] = bias;
}

/* Adds the parts: a warp every so many of 32 channels, then the warps' sums in their order. */
__global__ void __launch_bounds__(SUM_WARPS *WARP) channel_sums_kernel(const channel_task t)
{
    shared_memory shared;
    float *gains = shared.take<float>(SUM_WARPS * WARP), *biases = shared.take<float>(SUM_WARPS * WARP);
    int64_t channels = t.norm.channels, channel = (int64_t)blockIdx.x * WARP + lane_of_thread();
    float gain = 0, bias = 0;
    for (int64_t part = warp_of_thread(); part < t.parts && channel < channels; part += SUM_WARPS) {
        gain += t.partial[(part * 2) * channels + channel];
        bias += t.partial[(part * 2 + 1) * channels + channel];
    }
    gains[threadIdx.x] = gain;
    biases[threadIdx.x] = bias;
    __syncthreads();
    if (warp_of_thread() > 0 || channel >= channels) return;
    for (int warp = 1; warp < SUM_WARPS; warp++) {
        gain += gains[warp * WARP + lane_of_thread()];
        bias += biases[warp * WARP + lane_of_thread()];
    }
    if (t.gain.data) put_or_add(t.gain, channel, gain, t.add_gain);
    if (t.bias.data) put_or_add(t.bias, channel, bias, t.add_bias);
}

/* ---- on the host ---- */

bool layer(const grdi_call *call)
{
    return strncmp(call->op->name, "layer", 5) == 0;
}
bool flag(const grdi_call *call, const char *name)
{
    return layer(call) || strcmp(name, "has_bias") ? grdi_attr_int(call->attrs, name) != 0 : false;
}
int32_t last_axis(const grdi_call *call, int32_t input)
{
    return call->in[input].dims.rank - 1;
}

grd_status run_forward(grdi_call *call)
{
    int32_t axis = last_axis(call, 0);
    bool gain = flag(call, "has_gain"), bias = flag(call, "has_bias");
    norm_task t = {};
    t.x = rows_of(call->in[0], axis);
    t.y = rows_of(call->out[0], axis);
    t.channels = call->in[0].dims.dim[axis];
    t.count = grd_dims_count(call->in[0].dims) / t.channels;
    t.eps = (float)grdi_attr_float(call->attrs, "eps");
    t.centred = layer(call);
    t.cached = t.channels <= CACHED_MAX;
    if (gain) t.gain = cells_of(call->in[1]);
    if (bias) t.bias = cells_of(call->in[1 + gain]);
    if (t.centred) t.mean = cells_of(call->out[1]);
    t.rstd = cells_of(call->out[t.centred ? 2 : 1]);
    size_t shared = row_shared_bytes() + (t.cached ? shared_bytes_of((size_t)t.channels, sizeof(float)) : 0);
    return grdi_launch(call, norm_kernel, (unsigned)t.count, row_threads(t.channels), shared, t);
}

int64_t rows_in_part(int64_t count)
{
    int64_t part = (count + PARTS_MAX - 1) / PARTS_MAX;
    return part < PART_LEAST ? (int64_t)PART_LEAST : part;
}

size_t partial_bytes(const grdi_call *call)
{
    int64_t channels = call->in[1].dims.dim[last_axis(call, 1)], count = grd_dims_count(call->in[1].dims) / channels;
    int64_t part = rows_in_part(count);
    return (size_t)((count + part - 1) / part * 2 * channels) * sizeof(float);
}

grd_status prepare_backward(grdi_call *call, grd_error *error)
{
    (void)error;
    call->scratch_bytes = partial_bytes(call);
    return GRD_OK;
}

/* What stands on the way between the two kernels is written and read; wide rows are read twice. */
double backward_bytes(const grdi_call *call)
{
    double bytes = grdi_cuda_bytes(call) + 2.0 * (double)partial_bytes(call);
    if (call->in[1].dims.dim[last_axis(call, 1)] <= CACHED_MAX) return bytes;
    for (int i = 0; i < 2; i++)
        bytes += (double)grd_dims_count(call->in[i].dims) * (double)grd_dtype_size(call->in[i].dtype);
    return bytes;
}

template <class S> grd_status run_once(const grdi_call *call, const channel_task &c)
{
    unsigned threads = S::BY_WARP ? S::THREADS : blocks_for(c.norm.channels, S::EACH * WARP) * WARP;
    size_t shared = row_shared_bytes() + shared_bytes_of(2 * (size_t)c.norm.channels, sizeof(float));
    grd_status status = grdi_allow_shared(call, norm_gradient_kernel<S>, shared);
    return status ? status : grdi_launch(call, norm_gradient_kernel<S>, (unsigned)c.parts, threads, shared, c);
}

/* Rows that no block can keep are read twice, first for the sums over channels, since gx may lie over g or x. */
grd_status run_twice(const grdi_call *call, const channel_task &c)
{
    const norm_task &t = c.norm;
    grd_status status = GRD_OK;
    if (c.partial)
        status = grdi_launch(call, channel_parts_kernel, dim3(blocks_for(t.channels, COLUMNS), (unsigned)c.parts),
                             COLUMNS, 0, c);
    if (!status && t.y.at.at.data)
        status =
            grdi_launch(call, norm_backward_kernel, (unsigned)t.count, row_threads(t.channels), row_shared_bytes(), t);
    return status;
}

grd_status run_backward(grdi_call *call)
{
    int32_t axis = last_axis(call, 1), stats = layer(call) ? 2 : 1;
    norm_task t = {};
    t.g = rows_of(call->in[0], axis);
    t.x = rows_of(call->in[1], axis);
    t.y = rows_of(call->out[0], axis);
    t.add = call->accumulate[0];
    t.channels = call->in[1].dims.dim[axis];
    t.count = grd_dims_count(call->in[1].dims) / t.channels;
    t.centred = layer(call);
    if (t.centred) t.mean = cells_of(call->in[2]);
    t.rstd = cells_of(call->in[1 + stats]);
    if (flag(call, "has_gain")) t.gain = cells_of(call->in[2 + stats]);
    channel_task c = {.norm = t, .part = rows_in_part(t.count)};
    c.parts = (t.count + c.part - 1) / c.part;
    c.gain = cells_of(call->out[1]);
    c.add_gain = call->accumulate[1];
    if (t.centred) {
        c.bias = cells_of(call->out[2]);
        c.add_bias = call->accumulate[2];
    }
    if (c.gain.data || c.bias.data) c.partial = (float *)call->scratch;
    if (!c.partial && !t.y.at.at.data) return GRD_OK;
    grd_status status = t.channels <= 8 * WARP     ? run_once<row_shape<8, true, 6>>(call, c)
                        : t.channels <= 24 * WARP  ? run_once<row_shape<24, true, 3>>(call, c)
                        : t.channels <= 32 * WARP  ? run_once<row_shape<32, true, 2>>(call, c)
                        : t.channels <= CACHED_MAX ? run_once<row_shape<16, false, 1>>(call, c)
                                                   : run_twice(call, c);
    if (status || !c.partial) return status;
    return grdi_launch(call, channel_sums_kernel, blocks_for(t.channels, WARP), SUM_WARPS * WARP,
                       2 * shared_bytes_of(SUM_WARPS * WARP, sizeof(float)), c);
}

bool supports(const grdi_call *call)
{
    return takes_values(call, 0, call->input_count);
}

const grdi_kernel kernels[] = {
    {.op = "layer_norm", .rows_in = 1, .strided_out = 1, .in_place = 1, .supports = supports, .run = run_forward},
    {.op = "rms_norm", .rows_in = 1, .strided_out = 1, .in_place = 1, .supports = supports, .run = run_forward},
    {.op = "layer_norm_backward",
     .rows_in = 3,
     .strided_out = 1,
     .accumulates = 7,
     .in_place = 1,
     .supports = supports,
     .prepare = prepare_backward,
     .run = run_backward,
     .bytes_of = backward_bytes},
    {.op = "rms_norm_backward",
     .rows_in = 3,
     .strided_out = 1,
     .accumulates = 3,
     .in_place = 1,
     .supports = supports,
     .prepare = prepare_backward,
     .run = run_backward,
     .bytes_of = backward_bytes}};

} // namespace

GRDI_CUDA_TABLE(norm, &kernels[0], &kernels[1], &kernels[2], &kernels[3])
