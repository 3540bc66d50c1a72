/* norm.cu - layer_norm and rms_norm over the last axis, forward and backward. Rows are kept in shared memory as floats
 * where they fit, so that they are read once. */
#include "device/rows.cuh"
#include "device/table.cuh"

#include <cstring>

namespace
{

enum { CACHED_MAX = 8192, COLUMNS = 128, PARTS_MAX = 128, PART_LEAST = 32 };

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
    float *partial; /* [part][2][channels]: sums of g n, and of g */
    int64_t part;   /* rows in one */
    int64_t parts;
    cells gain, bias; /* the gradients; data NULL where not wanted */
    bool add_gain, add_bias;
};

/* Sums over the rows of one part; neighbouring threads take neighbouring channels. */
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

__global__ void __launch_bounds__(COLUMNS) channel_sums_kernel(const channel_task t)
{
    int64_t channels = t.norm.channels, channel = (int64_t)blockIdx.x * COLUMNS + threadIdx.x;
    if (channel >= channels) return;
    float gain = 0, bias = 0;
    for (int64_t part = 0; part < t.parts; part++) {
        gain += t.partial[(part * 2) * channels + channel];
        bias += t.partial[(part * 2 + 1) * channels + channel];
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

grd_status prepare_backward(grdi_call *call, grd_error *error)
{
    (void)error;
    int64_t channels = call->in[1].dims.dim[last_axis(call, 1)], count = grd_dims_count(call->in[1].dims) / channels;
    int64_t part = rows_in_part(count);
    call->scratch_bytes = (size_t)((count + part - 1) / part * 2 * channels) * sizeof(float);
    return GRD_OK;
}

/* Sums over rows come first: gx may lie over g or x. */
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
    channel_task c = {.norm = t, .partial = (float *)call->scratch, .part = rows_in_part(t.count)};
    c.parts = (t.count + c.part - 1) / c.part;
    c.gain = cells_of(call->out[1]);
    c.add_gain = call->accumulate[1];
    if (t.centred) {
        c.bias = cells_of(call->out[2]);
        c.add_bias = call->accumulate[2];
    }
    grd_status status = GRD_OK;
    if (c.gain.data || c.bias.data) {
        unsigned blocks = blocks_for(t.channels, COLUMNS);
        status = grdi_launch(call, channel_parts_kernel, dim3(blocks, (unsigned)c.parts), COLUMNS, 0, c);
        if (!status) status = grdi_launch(call, channel_sums_kernel, blocks, COLUMNS, 0, c);
    }
    if (!status && call->out[0].data)
        status =
            grdi_launch(call, norm_backward_kernel, (unsigned)t.count, row_threads(t.channels), row_shared_bytes(), t);
    return status;
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
     .run = run_backward},
    {.op = "rms_norm_backward",
     .rows_in = 3,
     .strided_out = 1,
     .accumulates = 3,
     .in_place = 1,
     .supports = supports,
     .prepare = prepare_backward,
     .run = run_backward}};

} // namespace

GRDI_CUDA_TABLE(norm, &kernels[0], &kernels[1], &kernels[2], &kernels[3])
