/* cross_entropy.cu - losses of logits and their slopes: one block a row. */
#include "ops/cross_entropy.cuh"

#include "device/rows.cuh"
#include "device/table.cuh"

namespace
{

enum { LOSS_THREADS = 512, EACH = 8 };

struct loss_task {
    cells logits, out, losses, lse, g, scale;
    const int32_t *targets;
    int64_t classes;
    grdi_loss_recipe recipe;
    bool kept; /* rows fit in shared memory */
};

__device__ __forceinline__ float capped(float x, float cap)
{
    return cap > 0 ? cap * tanhf(x / cap) : x;
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

/* The block's part in `row`, read once, of which `kept` gets a copy; `total` becomes the sum of the logits. */
__device__ inline exponentials read_row(const loss_task &t, const cells &kept, int64_t at, float *total)
{
    exponentials e = {-INFINITY, 0};
    for (int64_t first = threadIdx.x; first < t.classes; first += EACH * blockDim.x) {
        uint32_t bits[EACH];
        float x[EACH], most = e.most;
#pragma unroll
        for (int k = 0; k < EACH; k++) {
            int64_t v = first + k * (int64_t)blockDim.x;
            bits[k] = v < t.classes ? bits_of(t.logits, at + v) : 0;
        }
#pragma unroll
        for (int k = 0; k < EACH; k++) {
            int64_t v = first + k * (int64_t)blockDim.x;
            x[k] = -INFINITY;
            if (v >= t.classes) continue;
            x[k] = value_of(t.logits, bits[k]);
            if (kept.data) put(kept, v, x[k]);
            x[k] = capped(x[k], t.recipe.softcap);
            *total += x[k];
            most = larger(most, x[k]);
        }
        raise(e, most);
#pragma unroll
        for (int k = 0; k < EACH; k++) e.sum += x[k] == -INFINITY ? 0.0f : expf(x[k] - most);
    }
    return e;
}

/* One row: lse - (1-e) logit[target] - e mean(logit) + z lse^2, and where `out` is given
 * scale (p (1 + 2 z lse) - (1-e) [v = target] - e/V), times 1 - (logit/cap)^2 for capped logits. The row is read once
 * where shared memory can keep it. */
__global__ void __launch_bounds__(LOSS_THREADS) loss_kernel(const loss_task t)
{
    shared_memory shared;
    float *parts = shared.take<float>(ROW_WARPS_MAX);
    cells kept = {nullptr, t.logits.dtype};
    if (t.kept) kept.data = shared.take<unsigned char>((int)(t.classes * size_of(t.logits)));
    int64_t row = blockIdx.x, at = row * t.classes, target = t.targets[row];
    bool ignored = target == t.recipe.ignore, outside = target < 0 || target >= t.classes;
    float cap = t.recipe.softcap, total = 0;
    exponentials e = read_row(t, kept, at, &total);
    raise(e, block_max(e.most, parts));
    float lse = e.most + logf(block_sum(e.sum, parts));
    if (t.recipe.smoothing > 0) total = block_sum(total, parts);
    if (threadIdx.x == 0 && t.losses.data) {
        float loss = NAN;
        if (!outside && !ignored) {
            loss = lse - (1.0f - t.recipe.smoothing) * capped(get(t.logits, at + target), cap) + t.recipe.z * lse * lse;
            if (t.recipe.smoothing > 0) loss -= t.recipe.smoothing / (float)t.classes * total;
        }
        put(t.losses, row, ignored ? 0.0f : loss);
    }
    if (threadIdx.x == 0 && t.lse.data) put(t.lse, row, lse);
    if (!t.out.data) return;
    __syncthreads(); /* the slopes may lie over the logits, of which thread 0 has read the target's */
    float scale = get(t.scale, 0);
    for (int64_t v = threadIdx.x; v < t.classes; v += blockDim.x) {
        float x = kept.data ? get(kept, v) : get(t.logits, at + v), bent = cap > 0 ? tanhf(x / cap) : 0.0f;
        float slope = expf((cap > 0 ? cap * bent : x) - lse) * (1.0f + 2.0f * t.recipe.z * lse) -
                      t.recipe.smoothing / (float)t.classes - (v == target ? 1.0f - t.recipe.smoothing : 0.0f);
        put(t.out, at + v, ignored ? 0.0f : outside ? NAN : scale * slope * (1.0f - bent * bent));
    }
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

/* Rows that are needed for slopes as well are kept, where there is room. */
static grd_status run_loss(const grdi_call *call, loss_task t, int64_t count)
{
    size_t shared = row_shared_bytes(), row = shared_bytes_of((size_t)t.classes, size_of(t.logits));
    t.kept = t.out.data && shared + row <= call->device->shared_bytes;
    shared += t.kept ? row : 0;
    grd_status status = grdi_allow_shared(call, loss_kernel, shared);
    return status ? status : grdi_launch(call, loss_kernel, (unsigned)count, row_threads(t.classes), shared, t);
}

grd_status grdi_loss_rows(const grdi_call *call, const grdi_loss_rows_task &rows)
{
    loss_task t = {.logits = rows.logits,
                   .out = rows.slopes,
                   .losses = rows.losses,
                   .scale = rows.scale,
                   .targets = rows.targets,
                   .classes = rows.classes,
                   .recipe = rows.recipe};
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
