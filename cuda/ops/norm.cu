/* norm.cu - layer_norm and rms_norm over the last axis, forward and backward. Rows of up to KEPT_MAX channels are kept
 * in registers, so that they are read once. */
#include "device/rows.cuh"
#include "device/table.cuh"

#include <cstring>

namespace
{

enum {
    KEPT_MAX = 8192,
    COLUMNS = 128,
    PARTS_MAX = 384, /* three to each of an H100's multiprocessors; the same on all devices, as the sums' bits */
    PART_LEAST = 16,
    SUM_WARPS = 16,
    AHEAD = 8, /* loads of a thread on their way at once */
    ANY = -1   /* dtypes and places that only the launch knows */
};

/* Forward: x to y. Backward: with h = g gain and n = (x - mean) rstd, gx = rstd (h - mean(h) - n mean(h n)); rms_norm
 * has neither mean. */
struct norm_task {
    rows x, g, y;
    cells gain, bias, mean, rstd; /* data NULL where absent */
    int64_t channels, count;      /* count: of rows */
    float eps, share;             /* share: 1 / channels */
    bool centred, add;
    bool wide, wide_gain; /* rows, gain and bias lie so that WIDE channels are one load */
};

/* ---- rows in registers ---- */

/* A row is held by a team: LANES threads of a warp, or the block where LANES is 0. Each thread has EACH times WIDE
 * channels. DTYPE: of x, g and y alike, all of them wide; or ANY. BLOCKS: to a multiprocessor, at least. */
template <int DTYPE_, int LANES_, int EACH_, int THREADS_, int BLOCKS_> struct row_shape {
    static constexpr int DTYPE = DTYPE_, LANES = LANES_, EACH = EACH_, THREADS = THREADS_, BLOCKS = BLOCKS_;
    static constexpr int TEAMS = LANES ? THREADS / (LANES ? LANES : 1) : 1; /* in a block */
    static constexpr int VALUES = EACH * WIDE;
};

/* Of a thread: its team, its first vector of the row and the step to the next. */
template <class S> struct member {
    int team, lane, step;
    __device__ member()
        : team(S::LANES ? (int)threadIdx.x / (S::LANES ? S::LANES : 1) : 0), lane((int)threadIdx.x - team * S::LANES),
          step(S::LANES ? S::LANES : (int)blockDim.x)
    {
    }
    __device__ int channel(int k) const
    {
        return (lane + k * step) * WIDE;
    }
};

/* Channels [i, i + WIDE) of which `left` are in the row, and zeros. ANY: as f32. */
template <class S>
__device__ __forceinline__ wide_bits read_some(const norm_task &t, const rows &r, int64_t at, int i, int left)
{
    wide_bits bits = {};
    if (left <= 0) return bits;
    if (S::DTYPE != ANY) return read_wide(cells{r.at.at.data, S::DTYPE}, at + i);
    float x[WIDE];
    if (t.wide) {
        spread(r.at.at, read_wide(r.at.at, at + i), x);
    } else {
#pragma unroll
        for (int e = 0; e < WIDE; e++) x[e] = e < left ? get(r.at.at, at + (i + e) * r.stride) : 0.0f;
    }
    bits.half[0] = uint4{float_bits(x[0]), float_bits(x[1]), float_bits(x[2]), float_bits(x[3])};
    bits.half[1] = uint4{float_bits(x[4]), float_bits(x[5]), float_bits(x[6]), float_bits(x[7])};
    return bits;
}

template <class S> __device__ __forceinline__ void spread_some(const wide_bits &bits, float *x)
{
    spread(cells{nullptr, S::DTYPE == ANY ? GRD_F32 : S::DTYPE}, bits, x);
}

template <class S>
__device__ __forceinline__ void write_some(const norm_task &t, int64_t at, int i, int left, const float *x)
{
    const cells &y = t.y.at.at;
    if (S::DTYPE != ANY) {
        write_wide(cells{y.data, S::DTYPE}, at + i, x);
    } else if (t.wide) {
        write_wide(y, at + i, x);
    } else {
#pragma unroll
        for (int e = 0; e < WIDE; e++)
            if (e < left) put(y, at + (i + e) * t.y.stride, x[e]);
    }
}

/* Whether channel e of WIDE, of which `left` are in the row, is. */
template <class S> __device__ __forceinline__ bool is_inside(int e, int left)
{
    return S::DTYPE == ANY ? e < left : left > 0;
}

/* Vectors over the channels in shared memory, as floats: first the first halves of all WIDE, then the second ones, so
 * that the 16 bytes of neighbouring threads are neighbours. */
struct shared_vector {
    float4 *halves;
    int half; /* float4 in one */
    __device__ shared_vector(shared_memory &shared, int64_t channels) : half((int)((channels + WIDE - 1) / WIDE))
    {
        halves = shared.take<float4>(2 * half);
    }
    __device__ void read(int i, float *x) const
    {
        const float4 a = halves[i / WIDE], b = halves[half + i / WIDE];
        x[0] = a.x, x[1] = a.y, x[2] = a.z, x[3] = a.w;
        x[4] = b.x, x[5] = b.y, x[6] = b.z, x[7] = b.w;
    }
    __device__ void write(int i, const float *x)
    {
        halves[i / WIDE] = float4{x[0], x[1], x[2], x[3]};
        halves[half + i / WIDE] = float4{x[4], x[5], x[6], x[7]};
    }
    /* By the block, from `c`, or `other` where that is absent; to be seen after a barrier. */
    __device__ void fill(const cells &c, float other, int channels, bool wide)
    {
        for (int i = (int)threadIdx.x * WIDE; i < channels; i += (int)blockDim.x * WIDE) {
            float x[WIDE];
            if (c.data && wide) {
                spread(c, read_wide(c, i), x);
            } else {
#pragma unroll
                for (int e = 0; e < WIDE; e++) x[e] = c.data && i + e < channels ? get(c, i + e) : other;
            }
            write(i, x);
        }
    }
};

inline size_t vector_bytes(int64_t channels)
{
    return 2 * (size_t)((channels + WIDE - 1) / WIDE) * sizeof(float4);
}

/* Sums over a team, the same bits in all of it. Over a block by `parts`, which has two places for a pair a warp: a warp
 * that is one sum ahead of another writes to the other place. */
template <class S> struct team_sums {
    float2 *parts;
    int place = 0;
    __device__ team_sums(shared_memory &shared) : parts(S::LANES ? nullptr : shared.take<float2>(2 * ROW_WARPS_MAX)) {}
    __device__ float2 of(float2 v)
    {
#pragma unroll
        for (int lanes = (S::LANES ? S::LANES : WARP) / 2; lanes > 0; lanes /= 2) {
            v.x += __shfl_xor_sync(0xFFFFFFFFu, v.x, lanes);
            v.y += __shfl_xor_sync(0xFFFFFFFFu, v.y, lanes);
        }
        if (S::LANES) return v;
        int warps = (int)(blockDim.x / WARP);
        float2 *own = parts + place * ROW_WARPS_MAX;
        if (lane_of_thread() == 0) own[warp_of_thread()] = v;
        __syncthreads();
        place ^= 1;
        v = float2{0, 0};
        for (int w = 0; w < warps; w++) v.x += own[w].x, v.y += own[w].y;
        return v;
    }
};

inline size_t team_bytes(int lanes)
{
    return lanes ? 0 : shared_bytes_of(2 * ROW_WARPS_MAX, sizeof(float2));
}

/* The mean and 1 over the standard deviation of a row; rms_norm's of a mean of zero. */
template <class S>
__device__ __forceinline__ float2 moments_of(const norm_task &t, const member<S> &m, team_sums<S> &sums, const float *x)
{
    float mean = 0, sum = 0, rest = 0, squares = 0;
    if (t.centred) {
#pragma unroll
        for (int k = 0; k < S::VALUES; k++) sum += x[k];
        mean = sums.of(float2{sum, 0}).x * t.share;
    }
#pragma unroll
    for (int k = 0; k < S::EACH; k++) {
        int left = (int)t.channels - m.channel(k);
#pragma unroll
        for (int e = 0; e < WIDE; e++) {
            float d = is_inside<S>(e, left) ? x[k * WIDE + e] - mean : 0.0f;
            rest += d;
            squares += d * d;
        }
    }
    float2 both = sums.of(float2{rest, squares});
    float variance = both.y * t.share;
    if (t.centred) { /* what rounding left out of the mean, which matters where it is far from zero */
        rest = both.x * t.share;
        mean += rest;
        variance -= rest * rest;
    }
    return float2{mean, 1.0f / sqrtf(variance + t.eps)};
}

/* Teams take rows in turn. The next row is on its way while one is worked on. */
template <class S> __global__ void __launch_bounds__(S::THREADS, S::BLOCKS) norm_rows_kernel(const norm_task t)
{
    shared_memory shared;
    team_sums<S> sums(shared);
    shared_vector gain(shared, t.channels), bias(shared, t.channels);
    const member<S> m;
    int channels = (int)t.channels;
    int64_t step = (int64_t)gridDim.x * S::TEAMS, row = (int64_t)blockIdx.x * S::TEAMS + m.team;
    int64_t x_at = start_of(t.x, row);
    wide_bits next[S::EACH];
#pragma unroll
    for (int k = 0; k < S::EACH; k++)
        next[k] = read_some<S>(t, t.x, x_at, m.channel(k), row < t.count ? channels - m.channel(k) : 0);
    gain.fill(t.gain, 1.0f, channels, t.wide_gain);
    bias.fill(t.bias, 0.0f, channels, t.wide_gain);
    __syncthreads();
    for (int64_t first = row - m.team; first < t.count; first += step, row += step) {
        float x[S::VALUES];
#pragma unroll
        for (int k = 0; k < S::EACH; k++) spread_some<S>(next[k], x + k * WIDE);
        int64_t after = row + step;
        x_at = start_of(t.x, after);
#pragma unroll
        for (int k = 0; k < S::EACH; k++)
            next[k] = read_some<S>(t, t.x, x_at, m.channel(k), after < t.count ? channels - m.channel(k) : 0);
        const float2 moments = moments_of<S>(t, m, sums, x);
        if (row >= t.count) continue;
        if (m.lane == 0 && t.mean.data) put(t.mean, row, moments.x);
        if (m.lane == 0 && t.rstd.data) put(t.rstd, row, moments.y);
        if (!t.y.at.at.data) continue;
        int64_t y_at = start_of(t.y, row);
#pragma unroll
        for (int k = 0; k < S::EACH; k++) {
            int i = m.channel(k), left = channels - i;
            if (left <= 0) continue;
            float y[WIDE], scale[WIDE], shift[WIDE];
            gain.read(i, scale);
            bias.read(i, shift);
#pragma unroll
            for (int e = 0; e < WIDE; e++) y[e] = (x[k * WIDE + e] - moments.x) * moments.y * scale[e] + shift[e];
            write_some<S>(t, y_at, i, left, y);
        }
    }
}

/* ---- rows that no block can keep: read again for each sum ---- */

__global__ void norm_kernel(const norm_task t)
{
    shared_memory shared;
    float *parts = shared.take<float>(ROW_WARPS_MAX);
    int64_t row = blockIdx.x, x_at = start_of(t.x, row), y_at = start_of(t.y, row);
    float sum = 0, mean = 0, rest = 0, squares = 0;
    for (int64_t i = threadIdx.x; t.centred && i < t.channels; i += blockDim.x)
        sum += get(t.x.at.at, x_at + i * t.x.stride);
    if (t.centred) mean = block_sum(sum, parts) / (float)t.channels;
    for (int64_t i = threadIdx.x; i < t.channels; i += blockDim.x) {
        float d = get(t.x.at.at, x_at + i * t.x.stride) - mean;
        rest += d;
        squares += d * d;
    }
    float variance = block_sum(squares, parts) / (float)t.channels;
    if (t.centred) { /* as in moments_of */
        rest = block_sum(rest, parts) / (float)t.channels;
        mean += rest;
        variance -= rest * rest;
    }
    float rstd = 1.0f / sqrtf(variance + t.eps);
    for (int64_t i = threadIdx.x; t.y.at.at.data && i < t.channels; i += blockDim.x) {
        float n = (get(t.x.at.at, x_at + i * t.x.stride) - mean) * rstd;
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
    float *partial; /* [part][2][padded]: sums of g n, and of g; NULL: not wanted */
    int64_t padded; /* channels, rounded up to WIDE */
    int64_t part;   /* rows in one */
    int64_t parts;
    cells gain, bias; /* the gradients; data NULL where not wanted */
    bool add_gain, add_bias;
};

/* What a thread adds up over the rows of its team. */
template <class S> struct thread_sums {
    float gain[S::VALUES], bias[S::VALUES];
};

/* Adds the sums of the block's teams in their order and writes them to the part's. */
template <class S>
__device__ __forceinline__ void write_sums(const channel_task &c, const member<S> &m, thread_sums<S> &own,
                                           shared_vector *sums)
{
    int channels = (int)c.norm.channels;
    cells to = {c.partial + blockIdx.x * 2 * c.padded, GRD_F32};
    for (int team = 0; team < S::TEAMS; team++) {
        if (team) __syncthreads();
        if (team != m.team) continue;
#pragma unroll
        for (int k = 0; k < S::EACH; k++) {
            int i = m.channel(k);
            float before[2][WIDE], *gain = own.gain + k * WIDE, *bias = own.bias + k * WIDE;
            if (i >= channels) continue;
            if (team) {
                sums[0].read(i, before[0]);
                sums[1].read(i, before[1]);
#pragma unroll
                for (int e = 0; e < WIDE; e++) gain[e] += before[0][e], bias[e] += before[1][e];
            }
            if (team + 1 < S::TEAMS) {
                sums[0].write(i, gain);
                sums[1].write(i, bias);
            } else {
                write_wide(to, i, gain);
                write_wide(to, c.padded + i, bias);
            }
        }
    }
}

/* gx, and the sums over channels, of the rows of one part, each read once. */
template <class S> __global__ void __launch_bounds__(S::THREADS, S::BLOCKS) norm_gradient_kernel(const channel_task c)
{
    const norm_task &t = c.norm;
    shared_memory shared;
    team_sums<S> sums(shared);
    shared_vector scales(shared, t.channels);
    const member<S> m;
    thread_sums<S> own = {};
    int channels = (int)t.channels;
    int64_t first = blockIdx.x * c.part, end = first + c.part < t.count ? first + c.part : t.count;
    bool adds = t.add && t.y.at.at.data;
    scales.fill(t.gain, 1.0f, channels, t.wide_gain);
    __syncthreads();
    for (; first < end; first += S::TEAMS) {
        int64_t row = first + m.team < end ? first + m.team : end - 1;
        bool mine = first + m.team < end;
        int64_t x_at = start_of(t.x, row), g_at = start_of(t.g, row), y_at = start_of(t.y, row);
        wide_bits g_bits[S::EACH], x_bits[S::EACH], y_bits[S::EACH];
#pragma unroll
        for (int k = 0; k < S::EACH; k++) {
            int i = m.channel(k), left = mine ? channels - i : 0;
            g_bits[k] = read_some<S>(t, t.g, g_at, i, left);
            x_bits[k] = read_some<S>(t, t.x, x_at, i, left);
            y_bits[k] = read_some<S>(t, t.y, y_at, i, adds ? left : 0);
        }
        float mean = t.centred ? get(t.mean, row) : 0.0f, rstd = get(t.rstd, row);
        float2 both = {0, 0};
#pragma unroll
        for (int k = 0; k < S::EACH; k++) {
            int i = m.channel(k), left = mine ? channels - i : 0;
            float g[WIDE], x[WIDE], scale[WIDE];
            if (left <= 0) continue;
            spread_some<S>(g_bits[k], g);
            spread_some<S>(x_bits[k], x);
            scales.read(i, scale);
#pragma unroll
            for (int e = 0; e < WIDE; e++) {
                float n = (x[e] - mean) * rstd, h = g[e] * scale[e]; /* beyond the row g is zero */
                own.gain[k * WIDE + e] += g[e] * n;
                own.bias[k * WIDE + e] += g[e];
                both.x += h;
                both.y += h * n;
            }
        }
        if (!t.y.at.at.data) continue;
        both = sums.of(both);
        float mean_h = t.centred ? both.x * t.share : 0.0f, mean_hn = both.y * t.share;
#pragma unroll
        for (int k = 0; k < S::EACH; k++) {
            int i = m.channel(k), left = mine ? channels - i : 0;
            float g[WIDE], x[WIDE], y[WIDE], scale[WIDE];
            if (left <= 0) continue;
            spread_some<S>(g_bits[k], g);
            spread_some<S>(x_bits[k], x);
            spread_some<S>(y_bits[k], y); /* zeros where nothing is added to */
            scales.read(i, scale);
#pragma unroll
            for (int e = 0; e < WIDE; e++) y[e] += rstd * (g[e] * scale[e] - mean_h - (x[e] - mean) * rstd * mean_hn);
            write_some<S>(t, y_at, i, left, y);
        }
    }
    if (!c.partial) return;
    shared_vector joined[2] = {shared_vector(shared, S::TEAMS > 1 ? channels : 0),
                               shared_vector(shared, S::TEAMS > 1 ? channels : 0)};
    write_sums<S>(c, m, own, joined);
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
    t.partial[(part * 2) * t.padded + channel] = gain;
    t.partial[(part * 2 + 1) * t.padded + channel] = bias;
}

/* Adds the parts: a warp every so many of 32 channels, then the warps' sums in their order. */
__global__ void __launch_bounds__(SUM_WARPS *WARP) channel_sums_kernel(const channel_task t)
{
    shared_memory shared;
    float *gains = shared.take<float>(SUM_WARPS * WARP), *biases = shared.take<float>(SUM_WARPS * WARP);
    int64_t channels = t.norm.channels, channel = (int64_t)blockIdx.x * WARP + lane_of_thread();
    float gain = 0, bias = 0;
#pragma unroll AHEAD
    for (int64_t part = warp_of_thread(); part < t.parts && channel < channels; part += SUM_WARPS) {
        gain += t.partial[(part * 2) * t.padded + channel];
        bias += t.partial[(part * 2 + 1) * t.padded + channel];
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

/* Whether WIDE neighbours of each row are one load. */
bool rows_lie_wide(const rows &r, int64_t channels)
{
    bool wide = r.stride == 1 && channels % WIDE == 0 && lies_wide(r.at.at, 0);
    for (int32_t i = 0; i < r.space.rank; i++) wide &= lies_wide(r.at.at, r.at.stride[i]);
    return wide;
}

/* The dtype that x, y and (backward) g share and lie wide in, or ANY. */
int32_t dtype_of(const norm_task &t)
{
    int32_t dtype = t.x.at.at.dtype;
    bool alike = !t.g.at.at.data || t.g.at.at.dtype == dtype;
    alike &= !t.y.at.at.data || t.y.at.at.dtype == dtype;
    return alike && t.wide ? dtype : (int32_t)ANY;
}

norm_task task_of(const grdi_call *call, const grdi_view &x, const grdi_view &y, int32_t axis)
{
    norm_task t = {};
    t.x = rows_of(x, axis);
    t.y = rows_of(y, axis);
    t.channels = x.dims.dim[axis];
    t.count = grd_dims_count(x.dims) / t.channels;
    t.share = 1.0f / (float)t.channels;
    t.centred = layer(call);
    t.wide = rows_lie_wide(t.x, t.channels) && (!t.y.at.at.data || rows_lie_wide(t.y, t.channels));
    return t;
}

bool vector_lies_wide(const cells &c, int64_t channels)
{
    return !c.data || (channels % WIDE == 0 && lies_wide(c, 0));
}

/* Threads that hold a row, where it has blocks to itself. */
template <class S> unsigned block_threads(const norm_task &t)
{
    return S::LANES ? S::THREADS : blocks_for(t.channels, S::VALUES * WARP) * WARP;
}

template <class S> grd_status run_rows(const grdi_call *call, const norm_task &t)
{
    unsigned threads = block_threads<S>(t);
    int64_t room = (int64_t)call->device->multiprocessors * (S::BLOCKS * S::THREADS / threads);
    if (call->device->small) room = 3;
    int64_t turns = (t.count + room * S::TEAMS - 1) / (room * S::TEAMS); /* each team's rows: as many for all */
    size_t shared = team_bytes(S::LANES) + 2 * vector_bytes(t.channels);
    grd_status status = grdi_allow_shared(call, norm_rows_kernel<S>, shared);
    return status ? status
                  : grdi_launch(call, norm_rows_kernel<S>, blocks_for(t.count, turns * S::TEAMS), threads, shared, t);
}

template <int D> grd_status run_forward_of(const grdi_call *call, const norm_task &t)
{
    constexpr bool NARROW = D == GRD_BF16;
    if (t.channels <= 128) return run_rows<row_shape<D, 8, 2, 128, NARROW ? 6 : 5>>(call, t);
    if (t.channels <= 512) return run_rows<row_shape<D, 16, 4, 128, NARROW ? 5 : 3>>(call, t);
    if (t.channels <= 768) return run_rows<row_shape<D, 32, 3, 128, NARROW ? 6 : 4>>(call, t);
    if (t.channels <= 1024) return run_rows<row_shape<D, 32, 4, 128, NARROW ? 5 : 3>>(call, t);
    return run_rows<row_shape<D, 0, 4, 256, 2>>(call, t);
}

grd_status run_forward(grdi_call *call)
{
    bool gain = flag(call, "has_gain"), bias = flag(call, "has_bias");
    norm_task t = task_of(call, call->in[0], call->out[0], last_axis(call, 0));
    t.eps = (float)grdi_attr_float(call->attrs, "eps");
    if (gain) t.gain = cells_of(call->in[1]);
    if (bias) t.bias = cells_of(call->in[1 + gain]);
    t.wide_gain = vector_lies_wide(t.gain, t.channels) && vector_lies_wide(t.bias, t.channels);
    if (t.centred) t.mean = cells_of(call->out[1]);
    t.rstd = cells_of(call->out[t.centred ? 2 : 1]);
    if (t.channels > KEPT_MAX)
        return grdi_launch(call, norm_kernel, (unsigned)t.count, row_threads(t.channels), row_shared_bytes(), t);
    int32_t dtype = dtype_of(t);
    return dtype == GRD_BF16  ? run_forward_of<GRD_BF16>(call, t)
           : dtype == GRD_F32 ? run_forward_of<GRD_F32>(call, t)
                              : run_forward_of<ANY>(call, t);
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
    int64_t padded = (channels + WIDE - 1) / WIDE * WIDE;
    return (size_t)((count + part - 1) / part * 2 * padded) * sizeof(float);
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
    if (call->in[1].dims.dim[last_axis(call, 1)] <= KEPT_MAX) return bytes;
    for (int i = 0; i < 2; i++)
        bytes += (double)grd_dims_count(call->in[i].dims) * (double)grd_dtype_size(call->in[i].dtype);
    return bytes;
}

template <class S> grd_status run_once(const grdi_call *call, const channel_task &c)
{
    size_t vectors = S::TEAMS > 1 ? 3 : 1, shared = team_bytes(S::LANES) + vectors * vector_bytes(c.norm.channels);
    grd_status status = grdi_allow_shared(call, norm_gradient_kernel<S>, shared);
    return status ? status
                  : grdi_launch(call, norm_gradient_kernel<S>, (unsigned)c.parts, block_threads<S>(c.norm), shared, c);
}

template <int D> grd_status run_once_of(const grdi_call *call, const channel_task &c)
{
    constexpr bool NARROW = D == GRD_BF16;
    int64_t channels = c.norm.channels;
    if (channels <= 128) return run_once<row_shape<D, 8, 2, 128, NARROW ? 4 : 3>>(call, c);
    if (channels <= 512) return run_once<row_shape<D, 16, 4, 128, NARROW ? 3 : 2>>(call, c);
    if (channels <= 768) return run_once<row_shape<D, 32, 3, 128, NARROW ? 3 : 2>>(call, c);
    if (channels <= 1024) return run_once<row_shape<D, 32, 4, 128, NARROW ? 3 : 2>>(call, c);
    if (channels <= 4096) return run_once<row_shape<D, 0, 4, 128, NARROW ? 3 : 2>>(call, c);
    return run_once<row_shape<D, 0, 4, 256, 1>>(call, c);
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
    norm_task t = task_of(call, call->in[1], call->out[0], axis);
    t.g = rows_of(call->in[0], axis);
    t.wide &= rows_lie_wide(t.g, t.channels);
    t.add = call->accumulate[0];
    if (t.centred) t.mean = cells_of(call->in[2]);
    t.rstd = cells_of(call->in[1 + stats]);
    if (flag(call, "has_gain")) t.gain = cells_of(call->in[2 + stats]);
    t.wide_gain = vector_lies_wide(t.gain, t.channels);
    channel_task c = {.norm = t, .padded = (t.channels + WIDE - 1) / WIDE * WIDE, .part = rows_in_part(t.count)};
    c.parts = (t.count + c.part - 1) / c.part;
    c.gain = cells_of(call->out[1]);
    c.add_gain = call->accumulate[1];
    if (t.centred) {
        c.bias = cells_of(call->out[2]);
        c.add_bias = call->accumulate[2];
    }
    if (c.gain.data || c.bias.data) c.partial = (float *)call->scratch;
    if (!c.partial && !t.y.at.at.data) return GRD_OK;
    int32_t dtype = dtype_of(t);
    grd_status status = t.channels > KEPT_MAX ? run_twice(call, c)
                        : dtype == GRD_BF16   ? run_once_of<GRD_BF16>(call, c)
                        : dtype == GRD_F32    ? run_once_of<GRD_F32>(call, c)
                                              : run_once_of<ANY>(call, c);
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
