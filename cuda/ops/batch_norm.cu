/* batch_norm.cu - normalisation of each channel over a batch, forward and backward. Rows are cut into parts of a size
 * that shapes alone decide; a block of 32 channels by 8 rows reduces one part, and a second kernel joins the parts in
 * their order: no atomics, the same bits in every run. */
#include "device/table.cuh"
#include "device/values.cuh"

namespace
{

enum { LANES = 32, DOWN = 8, THREADS = 256, PARTS_MAX = 128, PART_LEAST = 64, SUMS = 3 };

struct batch_task {
    cells x, g, y; /* [rows,channels] */
    cells gain, bias, running_mean, running_variance;
    cells mean, rstd, out_mean, out_rstd, out_running_mean, out_running_variance; /* data NULL where not wanted */
    cells ggain, gbias;
    int64_t rows, channels, part, parts;
    float *partial; /* [part][SUMS][channels] */
    float *kept;    /* [3][channels]: x of row 0, the mean's distance from it, rstd; backward: sums of g n and of g */
    float eps, momentum;
    bool add_gain, add_bias;
};

/* Count, mean and squared distances of some values (Chan, Golub and LeVeque, 1979). */
struct moments {
    float count, mean, squares;
};

__device__ inline moments join(moments a, moments b)
{
    float n = a.count + b.count, d = b.mean - a.mean;
    if (b.count == 0) return a;
    if (a.count == 0) return b;
    return {n, a.mean + d * (b.count / n), a.squares + b.squares + d * d * (a.count * (b.count / n))};
}

/* Block (x, y): channels [32 x, +32), rows of part y; a thread takes every eighth row. */
__global__ void __launch_bounds__(THREADS) batch_moments_kernel(const batch_task t)
{
    shared_memory shared;
    moments *found = shared.take<moments>(THREADS);
    int lane = (int)threadIdx.x, down = (int)threadIdx.y;
    int64_t channel = (int64_t)blockIdx.x * LANES + lane, part = blockIdx.y;
    int64_t end = (part + 1) * t.part < t.rows ? (part + 1) * t.part : t.rows;
    moments m = {0, 0, 0};
    float base = channel < t.channels ? get(t.x, channel) : 0.0f; /* near the mean, which may be far from zero */
    for (int64_t row = part * t.part + down; channel < t.channels && row < end; row += DOWN) {
        float x = get(t.x, row * t.channels + channel) - base, d = x - m.mean;
        m.count += 1;
        m.mean += d / m.count;
        m.squares += d * (x - m.mean);
    }
    found[down * LANES + lane] = m;
    __syncthreads();
    if (down > 0 || channel >= t.channels) return;
    for (int i = 1; i < DOWN; i++) m = join(m, found[i * LANES + lane]);
    float *partial = t.partial + part * SUMS * t.channels + channel;
    partial[0] = m.count, partial[t.channels] = m.mean, partial[2 * t.channels] = m.squares;
}

__global__ void __launch_bounds__(THREADS) batch_statistics_kernel(const batch_task t)
{
    int64_t channel = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (channel >= t.channels) return;
    moments m = {0, 0, 0};
    float first = t.partial[t.channels + channel]; /* other parts' means are near it: distances from it round less */
    for (int64_t part = 0; part < t.parts; part++) {
        const float *partial = t.partial + part * SUMS * t.channels + channel;
        m = join(m, {partial[0], partial[t.channels] - first, partial[2 * t.channels]});
    }
    float rstd = 1.0f / sqrtf(m.squares / m.count + t.eps), unbiased = m.squares / (m.count - 1);
    float base = get(t.x, channel), mean = base + first + m.mean;
    t.kept[channel] = base, t.kept[t.channels + channel] = first + m.mean, t.kept[2 * t.channels + channel] = rstd;
    if (t.out_mean.data) put(t.out_mean, channel, mean);
    if (t.out_rstd.data) put(t.out_rstd, channel, rstd);
    if (t.out_running_mean.data)
        put(t.out_running_mean, channel, (1 - t.momentum) * get(t.running_mean, channel) + t.momentum * mean);
    if (t.out_running_variance.data)
        put(t.out_running_variance, channel,
            (1 - t.momentum) * get(t.running_variance, channel) + t.momentum * unbiased);
}

__global__ void __launch_bounds__(THREADS) batch_normalise_kernel(const batch_task t)
{
    int64_t e = (int64_t)blockIdx.x * THREADS + threadIdx.x, channel = e % t.channels;
    if (e >= t.rows * t.channels) return;
    float n = (get(t.x, e) - t.kept[channel] - t.kept[t.channels + channel]) * t.kept[2 * t.channels + channel];
    put(t.y, e, n * get(t.gain, channel) + get(t.bias, channel));
}

/* ---- backward: with n = (x - mean) rstd over M rows, gx = gain rstd (g - sum g / M - n sum g n / M) ---- */

__global__ void __launch_bounds__(THREADS) batch_slopes_kernel(const batch_task t)
{
    shared_memory shared;
    float *along = shared.take<float>(THREADS), *sum = shared.take<float>(THREADS);
    int lane = (int)threadIdx.x, down = (int)threadIdx.y;
    int64_t channel = (int64_t)blockIdx.x * LANES + lane, part = blockIdx.y;
    int64_t end = (part + 1) * t.part < t.rows ? (part + 1) * t.part : t.rows;
    float a = 0, s = 0;
    if (channel < t.channels) {
        float mean = get(t.mean, channel);
        int64_t last = end * t.channels, step = DOWN * t.channels;
        for (int64_t at = (part * t.part + down) * t.channels + channel; at < last; at += step) {
            float g = get(t.g, at);
            a += g * (get(t.x, at) - mean);
            s += g;
        }
        a *= get(t.rstd, channel);
    }
    along[down * LANES + lane] = a, sum[down * LANES + lane] = s;
    __syncthreads();
    if (down > 0 || channel >= t.channels) return;
    for (int i = 1; i < DOWN; i++) a += along[i * LANES + lane], s += sum[i * LANES + lane];
    float *partial = t.partial + part * SUMS * t.channels + channel;
    partial[0] = a, partial[t.channels] = s;
}

__global__ void __launch_bounds__(THREADS) batch_sums_kernel(const batch_task t)
{
    int64_t channel = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (channel >= t.channels) return;
    float along = 0, sum = 0;
    for (int64_t part = 0; part < t.parts; part++) {
        const float *partial = t.partial + part * SUMS * t.channels + channel;
        along += partial[0], sum += partial[t.channels];
    }
    t.kept[channel] = along, t.kept[t.channels + channel] = sum;
    if (t.ggain.data) put_or_add(t.ggain, channel, along, t.add_gain);
    if (t.gbias.data) put_or_add(t.gbias, channel, sum, t.add_bias);
}

__global__ void __launch_bounds__(THREADS) batch_backward_kernel(const batch_task t)
{
    int64_t e = (int64_t)blockIdx.x * THREADS + threadIdx.x, channel = e % t.channels;
    if (e >= t.rows * t.channels) return;
    float rstd = get(t.rstd, channel), n = (get(t.x, e) - get(t.mean, channel)) * rstd, rows = (float)t.rows;
    float rest = get(t.g, e) - t.kept[t.channels + channel] / rows - n * (t.kept[channel] / rows);
    put(t.y, e, get(t.gain, channel) * rstd * rest);
}

/* ---- on the host ---- */

void describe(const grdi_call *call, int32_t x, batch_task *t)
{
    grd_dims dims = call->in[x].dims;
    t->channels = dims.dim[dims.rank - 1], t->rows = grd_dims_count(dims) / t->channels;
    t->part = (t->rows + PARTS_MAX - 1) / PARTS_MAX;
    t->part = t->part < PART_LEAST ? (int64_t)PART_LEAST : t->part;
    t->parts = (t->rows + t->part - 1) / t->part;
    t->x = cells_of(call->in[x]), t->y = cells_of(call->out[0]);
    t->kept = (float *)call->scratch;
    t->partial = t->kept + 3 * t->channels;
}

grd_status prepare(grdi_call *call, grd_error *error)
{
    batch_task t = {};
    (void)error;
    describe(call, 0, &t); /* g and x are of one shape */
    call->scratch_bytes = (size_t)((3 + SUMS * t.parts) * t.channels) * sizeof(float);
    return GRD_OK;
}

unsigned all(const batch_task &t)
{
    return blocks_for(t.rows * t.channels, THREADS);
}

grd_status run_forward(grdi_call *call)
{
    batch_task t = {};
    describe(call, 0, &t);
    t.gain = cells_of(call->in[1]), t.bias = cells_of(call->in[2]);
    t.running_mean = cells_of(call->in[3]), t.running_variance = cells_of(call->in[4]);
    t.out_mean = cells_of(call->out[1]), t.out_rstd = cells_of(call->out[2]);
    t.out_running_mean = cells_of(call->out[3]), t.out_running_variance = cells_of(call->out[4]);
    t.eps = (float)grdi_attr_float(call->attrs, "eps"), t.momentum = (float)grdi_attr_float(call->attrs, "momentum");
    dim3 grid(blocks_for(t.channels, LANES), (unsigned)t.parts);
    grd_status status =
        grdi_launch(call, batch_moments_kernel, grid, dim3(LANES, DOWN), shared_bytes_of(THREADS, sizeof(moments)), t);
    if (!status) status = grdi_launch(call, batch_statistics_kernel, blocks_for(t.channels, THREADS), THREADS, 0, t);
    if (status || !t.y.data) return status;
    return grdi_launch(call, batch_normalise_kernel, all(t), THREADS, 0, t);
}

/* Sums over rows come first: gx may lie over g or x. */
grd_status run_backward(grdi_call *call)
{
    batch_task t = {};
    describe(call, 1, &t);
    t.g = cells_of(call->in[0]);
    t.mean = cells_of(call->in[2]), t.rstd = cells_of(call->in[3]), t.gain = cells_of(call->in[4]);
    t.ggain = cells_of(call->out[1]), t.gbias = cells_of(call->out[2]);
    t.add_gain = call->accumulate[1], t.add_bias = call->accumulate[2];
    dim3 grid(blocks_for(t.channels, LANES), (unsigned)t.parts);
    grd_status status =
        grdi_launch(call, batch_slopes_kernel, grid, dim3(LANES, DOWN), 2 * shared_bytes_of(THREADS, sizeof(float)), t);
    if (!status) status = grdi_launch(call, batch_sums_kernel, blocks_for(t.channels, THREADS), THREADS, 0, t);
    if (status || !t.y.data) return status;
    return grdi_launch(call, batch_backward_kernel, all(t), THREADS, 0, t);
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
