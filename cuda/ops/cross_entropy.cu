/* cross_entropy.cu - losses of logits and their slopes: one block a row. */
#include "ops/cross_entropy.cuh"

#include "device/rows.cuh"
#include "device/table.cuh"
#include "device/tensor.cuh"

namespace
{

enum { LOSS_THREADS = 512 };
constexpr float LOG2E = 1.4426950408889634f;

struct loss_task {
    cells logits, out, losses, lse, g, scale;
    const int32_t *targets;
    int64_t classes;
    grdi_loss_recipe recipe;
    bool kept, slopes; /* rows fit in shared memory; slopes are written over the logits */
};

__device__ __forceinline__ float capped(float x, float cap)
{
    return cap > 0 ? cap * tanhf(x / cap) : x;
}

/* e^(x - from). Of narrow logits, which are rounded far more, by the instruction for powers of two. The difference
 * comes first: of large logits, products with log2(e) are off by more than the logits differ. */
template <int DTYPE> __device__ __forceinline__ float exponential(float x, float from)
{
    return DTYPE == GRD_F32 ? expf(x - from) : power_of_two((x - from) * LOG2E);
}

/* What a thread knows of the exponentials of some logits (Milakov and Gimelshein, "Online normalizer calculation for
 * softmax", 2018). */
struct exponentials {
    float most, sum; /* of exp(x - most) */
};

__device__ __forceinline__ void raise(exponentials &e, float most)
{
    if (most != e.most) e.sum *= expf(e.most - most);
    e.most = most;
}

/* Adds `count` logits, which become capped ones. */
template <int DTYPE, int COUNT>
__device__ __forceinline__ void add_logits(exponentials &e, float *x, float cap, float *total)
{
    float most = e.most;
#pragma unroll
    for (int k = 0; k < COUNT; k++) {
        x[k] = capped(x[k], cap);
        *total += x[k];
        most = larger(most, x[k]);
    }
    raise(e, most);
    if (most == -INFINITY) return;
#pragma unroll
    for (int k = 0; k < COUNT; k++) e.sum += exponential<DTYPE>(x[k], most);
}

/* A row: WIDE neighbours `wides` times, from the first that lies at a multiple of 16 bytes, and the few before them and
 * after, each of which a thread of its own takes. */
struct row_parts {
    int head, wides, few; /* classes are no more than targets of 32 bits can name */
};

__device__ __forceinline__ row_parts parts_of(const cells &row, int64_t classes)
{
    int head = (int)((16 - (uintptr_t)row.data % 16) % 16 / size_of(row)), count = (int)classes;
    if (head > count) head = count;
    int wides = (count - head) / WIDE;
    return row_parts{head, wides, count - wides * WIDE};
}

__device__ __forceinline__ int place_of_few(const row_parts &p, int i)
{
    return i < p.head ? i : i + p.wides * WIDE;
}

/* The block's part in `row`, read once, of which `kept` gets a copy; `total` becomes the sum of the logits. */
template <int DTYPE>
__device__ __forceinline__ exponentials read_row(const cells &row, const row_parts &p, const cells &kept, float cap,
                                                 float *total)
{
    constexpr int EACH = DTYPE == GRD_F32 ? 2 : 4; /* 64 bytes are on their way for a thread */
    const int threads = (int)blockDim.x;
    exponentials e = {-INFINITY, 0};
    for (int first = (int)threadIdx.x; first < p.wides; first += EACH * threads) {
        wide_bits bits[EACH];
#pragma unroll
        for (int k = 0; k < EACH; k++) {
            int i = first + k * threads;
            if (i < p.wides) bits[k] = read_wide(row, p.head + i * WIDE);
        }
#pragma unroll
        for (int k = 0; k < EACH; k++) {
            int i = first + k * threads;
            float x[WIDE];
            if (i >= p.wides) continue;
            spread(row, bits[k], x);
            if (kept.data) write_wide(kept, p.head + i * WIDE, x);
            add_logits<DTYPE, WIDE>(e, x, cap, total);
        }
    }
    for (int i = (int)threadIdx.x; i < p.few; i += (int)blockDim.x) {
        int v = place_of_few(p, i);
        float x = get(row, v);
        if (kept.data) put(kept, v, x);
        add_logits<DTYPE, 1>(e, &x, cap, total);
    }
    return e;
}

/* The slope of the loss by a logit is p gain - even, less `hit` for the target, and times 1 - (logit/cap)^2 where it is
 * capped; all have the scale in them. */
struct slope_recipe {
    float lse, gain, even, hit, cap;
    int target;
    bool ignored;
};

template <int DTYPE, int COUNT> __device__ __forceinline__ void make_slopes(const slope_recipe &r, int v, float *x)
{
#pragma unroll
    for (int k = 0; k < COUNT; k++) {
        float bent = r.cap > 0 ? tanhf(x[k] / r.cap) : 0.0f;
        float slope = fmaf(exponential<DTYPE>(r.cap > 0 ? r.cap * bent : x[k], r.lse), r.gain, -r.even);
        slope = (slope - (v + k == r.target ? r.hit : 0.0f)) * (1.0f - bent * bent);
        x[k] = r.ignored ? 0.0f : slope;
    }
}

template <int DTYPE>
__device__ __forceinline__ void write_slopes(const cells &row, const row_parts &p, const cells &from,
                                             const slope_recipe &r)
{
    for (int i = (int)threadIdx.x; i < p.wides; i += (int)blockDim.x) {
        float x[WIDE];
        spread(row, read_wide(from, p.head + i * WIDE), x);
        make_slopes<DTYPE, WIDE>(r, p.head + i * WIDE, x);
        write_wide(row, p.head + i * WIDE, x);
    }
    for (int i = (int)threadIdx.x; i < p.few; i += (int)blockDim.x) {
        int v = place_of_few(p, i);
        float x = get(from, v);
        make_slopes<DTYPE, 1>(r, v, &x);
        put(row, v, x);
    }
}

/* One row: lse - (1-e) logit[target] - e mean(logit) + z lse^2, and where slopes are wanted, over the logits,
 * scale (p (1 + 2 z lse) - (1-e) [v = target] - e/V), times 1 - (logit/cap)^2 for capped logits. The row is read once
 * where shared memory can keep it, there as far from a multiple of 16 bytes as in global memory. */
template <int DTYPE> __global__ void __launch_bounds__(LOSS_THREADS, 2) loss_kernel(const loss_task t)
{
    shared_memory shared;
    float *parts = shared.take<float>(ROW_WARPS_MAX);
    int64_t target = t.targets[blockIdx.x];
    cells row = {(char *)t.logits.data + (size_t)(blockIdx.x * t.classes) * size_of(cells{nullptr, DTYPE}), DTYPE};
    cells kept = {nullptr, DTYPE};
    if (t.kept) {
        unsigned char *room = shared.take<unsigned char>((int)(t.classes * size_of(row)) + 16);
        kept.data = room + (uintptr_t)row.data % 16;
    }
    row_parts p = parts_of(row, t.classes);
    bool ignored = target == t.recipe.ignore, outside = target < 0 || target >= t.classes;
    float cap = t.recipe.softcap, total = 0;
    exponentials e = read_row<DTYPE>(row, p, kept, cap, &total);
    raise(e, block_max(e.most, parts));
    float lse = e.most + logf(block_sum(e.sum, parts));
    if (t.recipe.smoothing > 0) total = block_sum(total, parts);
    if (threadIdx.x == 0 && t.losses.data) {
        float loss = NAN;
        if (!outside && !ignored) {
            loss = lse - (1.0f - t.recipe.smoothing) * capped(get(row, target), cap) + t.recipe.z * lse * lse;
            if (t.recipe.smoothing > 0) loss -= t.recipe.smoothing / (float)t.classes * total;
        }
        put(t.losses, blockIdx.x, ignored ? 0.0f : loss);
    }
    if (threadIdx.x == 0 && t.lse.data) put(t.lse, blockIdx.x, lse);
    if (!t.slopes) return;
    __syncthreads(); /* the slopes lie over the logits, of which thread 0 has read the target's */
    float scale = outside ? NAN : get(t.scale, 0);
    slope_recipe r = {lse,
                      scale * (1.0f + 2.0f * t.recipe.z * lse),
                      scale * (t.recipe.smoothing / (float)t.classes),
                      scale * (1.0f - t.recipe.smoothing),
                      cap,
                      (int)target,
                      ignored};
    write_slopes<DTYPE>(row, p, cells{kept.data ? kept.data : row.data, DTYPE}, r);
}

/* The slopes from a lse that is known already, times g of the row. */
__global__ void slope_kernel(const loss_task t)
{
    int64_t row = blockIdx.x, at = row * t.classes, target = t.targets[row];
    bool ignored = target == t.recipe.ignore, outside = target < 0 || target >= t.classes;
    float lse = get(t.lse, row), g = get(t.g, row);
    for (int64_t v = threadIdx.x; v < t.classes; v += blockDim.x) {
        float slope = expf(get(t.logits, at + v) - lse) * (1.0f + 2.0f * t.recipe.z * lse) -
                      t.recipe.smoothing / (float)t.classes - (v == target ? 1.0f - t.recipe.smoothing : 0.0f);
        put(t.out, at + v, ignored ? 0.0f : outside ? NAN : g * slope);
    }
}

/* Adds all in an order that depends on their number alone, one block. */
struct sum_task {
    cells in, out, scale;
    int64_t count;
};

__global__ void sum_kernel(const sum_task t)
{
    shared_memory shared;
    float *parts = shared.take<float>(ROW_WARPS_MAX);
    float sum = 0;
    for (int64_t i = threadIdx.x; i < t.count; i += blockDim.x) sum += get(t.in, i);
    sum = block_sum(sum, parts);
    if (threadIdx.x == 0) put(t.out, 0, get(t.scale, 0) * sum);
}

} // namespace

grdi_loss_recipe grdi_loss_recipe_of(const grdi_call *call, bool capped)
{
    return grdi_loss_recipe{
        grdi_attr_int(call->attrs, "ignore_index"), (float)grdi_attr_float(call->attrs, "label_smoothing"),
        (float)grdi_attr_float(call->attrs, "z_loss"), capped ? (float)grdi_attr_float(call->attrs, "softcap") : 0.0f};
}

template <int DTYPE> grd_status launch_loss(const grdi_call *call, const loss_task &t, int64_t count, size_t shared)
{
    grd_status status = grdi_allow_shared(call, loss_kernel<DTYPE>, shared);
    return status ? status : grdi_launch(call, loss_kernel<DTYPE>, (unsigned)count, row_threads(t.classes), shared, t);
}

/* Rows that are needed for slopes as well are kept, where there is room. */
static grd_status run_loss(const grdi_call *call, loss_task t, int64_t count)
{
    size_t shared = row_shared_bytes(), row = shared_bytes_of((size_t)t.classes * size_of(t.logits) + 16, 1);
    t.kept = t.slopes && shared + row <= call->device->shared_bytes;
    shared += t.kept ? row : 0;
    if (t.logits.dtype == GRD_F32) return launch_loss<GRD_F32>(call, t, count, shared);
    if (t.logits.dtype == GRD_BF16) return launch_loss<GRD_BF16>(call, t, count, shared);
    return launch_loss<GRD_F16>(call, t, count, shared);
}

grd_status grdi_loss_rows(const grdi_call *call, const grdi_loss_rows_task &rows)
{
    loss_task t = {.logits = rows.logits,
                   .losses = rows.losses,
                   .scale = rows.scale,
                   .targets = rows.targets,
                   .classes = rows.classes,
                   .recipe = rows.recipe,
                   .slopes = rows.slopes};
    return run_loss(call, t, rows.count);
}

grd_status grdi_loss_sum(const grdi_call *call, cells losses, int64_t count, cells scale, cells out)
{
    sum_task t = {losses, out, scale, count};
    return grdi_launch(call, sum_kernel, 1, 512, row_shared_bytes(), t);
}

namespace
{

grd_status run_forward(grdi_call *call)
{
    int32_t rank = call->in[0].dims.rank;
    loss_task t = {.logits = cells_of(call->in[0]),
                   .losses = cells_of(call->out[0]),
                   .lse = cells_of(call->out[1]),
                   .targets = (const int32_t *)call->in[1].data,
                   .classes = call->in[0].dims.dim[rank - 1],
                   .recipe = grdi_loss_recipe_of(call, false)};
    return run_loss(call, t, grd_dims_count(call->in[1].dims));
}

/* Inputs g, logits, targets, lse. */
grd_status run_backward(grdi_call *call)
{
    int32_t rank = call->in[1].dims.rank;
    loss_task t = {.logits = cells_of(call->in[1]),
                   .out = cells_of(call->out[0]),
                   .lse = cells_of(call->in[3]),
                   .g = cells_of(call->in[0]),
                   .targets = (const int32_t *)call->in[2].data,
                   .classes = call->in[1].dims.dim[rank - 1],
                   .recipe = grdi_loss_recipe_of(call, false)};
    return grdi_launch(call, slope_kernel, (unsigned)grd_dims_count(call->in[2].dims), row_threads(t.classes), 0, t);
}

bool supports_forward(const grdi_call *call)
{
    return is_value(call->in[0].dtype) && call->in[1].dtype == GRD_I32 && takes_values(call, 0, 0);
}

bool supports_backward(const grdi_call *call)
{
    return is_value(call->in[0].dtype) && is_value(call->in[1].dtype) && call->in[2].dtype == GRD_I32 &&
           is_value(call->in[3].dtype) && is_value(call->out[0].dtype);
}

const grdi_kernel kernel_forward = {.op = "cross_entropy", .supports = supports_forward, .run = run_forward};
const grdi_kernel kernel_backward = {
    .op = "cross_entropy_backward", .in_place = 1, .supports = supports_backward, .run = run_backward};

} // namespace

GRDI_CUDA_TABLE(cross_entropy, &kernel_forward, &kernel_backward)
