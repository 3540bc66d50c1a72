/* ctc.cu - connectionist temporal classification: a block takes a sample and holds the sums over paths up to a step, or
 * from it on, in shared memory; threads take states. A row's largest entry is kept apart from it, so that logarithms
 * stay near 0, where floats are dense. States with one label add up in a fixed order: nothing is added at random. */
#include "device/rows.cuh"
#include "device/table.cuh"

namespace
{

enum { THREADS_MAX = 256 };

struct ctc_task {
    const float *log_probs;                                  /* [B,T,C] */
    const int32_t *targets, *input_lengths, *target_lengths; /* [B,S], [B], [B] */
    float *loss, *gradient;                                  /* [B], [B,T,C]; NULL: not wanted */
    float *paths;                                            /* [B,T,room] */
    int64_t steps, classes, most;
    int32_t room, blank; /* room: 2 S + 1 states */
    bool zero_infinity;
};

/* A block's sample. */
struct ctc_sample {
    const float *log_probs;
    float *paths, *gradient;
    float *now, *next, *parts; /* shared; room states each, and a float for each warp */
    int *labels;               /* shared, of the states */
    int states, steps;
};

/* log(exp a + exp b + exp c); -INFINITY is log 0 */
__device__ inline float log_add(float a, float b, float c)
{
    float most = larger(larger(a, b), larger(c, -1e30f));
    return most + logf(expf(a - most) + expf(b - most) + expf(c - most));
}

/* Whether a path may leave out the blank before state `s`. */
__device__ inline bool may_skip(const ctc_task &t, const ctc_sample &z, int s)
{
    return s > 1 && z.labels[s] != t.blank && z.labels[s] != z.labels[s - 2];
}

/* Takes the largest entry from a row and returns it; where all are log 0, nothing. */
__device__ inline float keep_apart(const ctc_sample &z, float *row, float most)
{
    most = block_max(most, z.parts);
    if (most == -INFINITY) return most;
    for (int s = (int)threadIdx.x; s < z.states; s += (int)blockDim.x) row[s] -= most;
    __syncthreads();
    return most;
}

/* The rows of `paths` of all steps; log of the sum over all paths, or -INFINITY. */
__device__ inline double paths_to_the_end(const ctc_task &t, ctc_sample &z)
{
    double total = 0;
    for (int step = 0; step < z.steps; step++) {
        float most = -INFINITY;
        for (int s = (int)threadIdx.x; s < z.states; s += (int)blockDim.x) {
            float one = s > 0 ? z.now[s - 1] : -INFINITY, two = may_skip(t, z, s) ? z.now[s - 2] : -INFINITY;
            float ways = step == 0 ? (s < 2 ? 0.0f : -INFINITY) : log_add(z.now[s], one, two);
            z.next[s] = ways + z.log_probs[step * t.classes + z.labels[s]];
            most = larger(most, z.next[s]);
        }
        __syncthreads();
        most = keep_apart(z, z.next, most);
        if (most == -INFINITY) return most;
        total += most;
        for (int s = (int)threadIdx.x; s < z.states; s += (int)blockDim.x)
            z.paths[(int64_t)step * t.room + s] = z.next[s];
        float *was = z.now;
        z.now = z.next;
        z.next = was;
    }
    float end = expf(z.now[z.states - 1]) + (z.states > 1 ? expf(z.now[z.states - 2]) : 0.0f);
    return total + log((double)end);
}

/* The part of all paths that goes through each state, taken from the gradient of its label: once for the blank, which
 * half of the states have, and by the first state of each other label. `now`: the ways from the states to the end. */
__device__ inline void put_gradient(const ctc_task &t, const ctc_sample &z, int step)
{
    const float *row = z.paths + (int64_t)step * t.room;
    float *gradient = z.gradient + step * t.classes, most = -1e30f, sum = 0, blanks = 0;
    for (int s = (int)threadIdx.x; s < z.states; s += (int)blockDim.x) most = larger(most, row[s] + z.now[s]);
    most = block_max(most, z.parts);
    for (int s = (int)threadIdx.x; s < z.states; s += (int)blockDim.x) {
        float part = expf(row[s] + z.now[s] - most);
        z.next[s] = part;
        sum += part;
        blanks += z.labels[s] == t.blank ? part : 0;
    }
    float scale = 1 / block_sum(sum, z.parts);
    blanks = block_sum(blanks, z.parts);
    __syncthreads();
    if (threadIdx.x == 0) gradient[t.blank] = -blanks * scale;
    for (int s = (int)threadIdx.x; s < z.states; s += (int)blockDim.x) {
        int label = z.labels[s];
        bool first = label != t.blank;
        for (int k = 1; first && k < s; k += 2) first = z.labels[k] != label;
        if (!first) continue;
        float of_label = 0;
        for (int k = s; k < z.states; k += 2) of_label += z.labels[k] == label ? z.next[k] : 0;
        gradient[label] = -of_label * scale;
    }
    __syncthreads();
}

/* From what holds behind `step` to what holds for it; see paths_from() of the op's reference. */
__device__ inline void step_back(const ctc_task &t, ctc_sample &z, int step)
{
    float most = -INFINITY;
    const float *log_probs = z.log_probs + (step + 1) * t.classes;
    for (int s = (int)threadIdx.x; s < z.states; s += (int)blockDim.x) z.next[s] = z.now[s] + log_probs[z.labels[s]];
    __syncthreads();
    for (int s = (int)threadIdx.x; s < z.states; s += (int)blockDim.x) {
        float one = s + 1 < z.states ? z.next[s + 1] : -INFINITY;
        float two = s + 2 < z.states && may_skip(t, z, s + 2) ? z.next[s + 2] : -INFINITY;
        z.now[s] = log_add(z.next[s], one, two);
        most = larger(most, z.now[s]);
    }
    __syncthreads();
    keep_apart(z, z.now, most);
}

/* Labels of the states; false where one does not exist. */
__device__ inline bool set_labels(const ctc_task &t, const ctc_sample &z, const int32_t *targets)
{
    float wrong = 0;
    for (int s = (int)threadIdx.x; s < z.states; s += (int)blockDim.x) {
        int label = s % 2 ? targets[s / 2] : t.blank;
        z.labels[s] = label;
        if (label < 0 || label >= t.classes) wrong = 1;
    }
    __syncthreads();
    return block_max(wrong, z.parts) == 0;
}

__global__ void __launch_bounds__(THREADS_MAX) ctc_kernel(const ctc_task t)
{
    shared_memory shared;
    ctc_sample z;
    int64_t b = blockIdx.x, values = t.steps * t.classes;
    z.now = shared.take<float>(t.room);
    z.next = shared.take<float>(t.room);
    z.labels = shared.take<int>(t.room);
    z.parts = shared.take<float>(ROW_WARPS_MAX);
    int labels = t.target_lengths[b];
    z.steps = t.input_lengths[b];
    z.log_probs = t.log_probs + b * values;
    z.gradient = t.gradient ? t.gradient + b * values : nullptr;
    z.paths = t.paths + b * t.steps * t.room;
    for (int64_t i = threadIdx.x; z.gradient && i < values; i += blockDim.x) z.gradient[i] = 0;
    bool known = labels >= 0 && labels <= t.most && z.steps >= 0 && z.steps <= t.steps;
    z.states = known ? 2 * labels + 1 : 1;
    known = known && set_labels(t, z, t.targets + b * t.most);
    double loss = NAN;
    if (known && z.steps == 0) loss = labels ? INFINITY : 0;
    if (known && z.steps > 0) loss = -paths_to_the_end(t, z);
    if (t.loss && threadIdx.x == 0) t.loss[b] = t.zero_infinity && loss == INFINITY ? 0 : (float)loss;
    if (!z.gradient || z.steps <= 0 || !(loss < INFINITY && loss > -INFINITY)) return;
    __syncthreads(); /* the zeros, and the last row */
    for (int s = (int)threadIdx.x; s < z.states; s += (int)blockDim.x) z.now[s] = s >= z.states - 2 ? 0.0f : -INFINITY;
    __syncthreads();
    for (int step = z.steps - 1; step >= 0; step--) {
        if (step < z.steps - 1) step_back(t, z, step);
        put_gradient(t, z, step);
    }
}

/* ---- on the host ---- */

int32_t room_of(const grdi_call *call)
{
    return (int32_t)(2 * call->in[1].dims.dim[1] + 1);
}

grd_status prepare(grdi_call *call, grd_error *error)
{
    (void)error;
    call->scratch_bytes = (size_t)(call->in[0].dims.dim[0] * call->in[0].dims.dim[1] * room_of(call)) * sizeof(float);
    return GRD_OK;
}

grd_status run(grdi_call *call)
{
    grd_dims x = call->in[0].dims;
    ctc_task t = {(const float *)call->in[0].data,
                  (const int32_t *)call->in[1].data,
                  (const int32_t *)call->in[2].data,
                  (const int32_t *)call->in[3].data,
                  (float *)call->out[0].data,
                  (float *)call->out[1].data,
                  (float *)call->scratch,
                  x.dim[1],
                  x.dim[2],
                  call->in[1].dims.dim[1],
                  room_of(call),
                  (int32_t)grdi_attr_int(call->attrs, "blank"),
                  grdi_attr_int(call->attrs, "zero_infinity") != 0};
    size_t shared = 3 * shared_bytes_of((size_t)t.room, sizeof(float)) + row_shared_bytes();
    unsigned threads = t.room <= 32 ? 32 : t.room <= 128 ? 128 : THREADS_MAX;
    return grdi_launch(call, ctc_kernel, (unsigned)x.dim[0], threads, shared, t);
}

bool supports(const grdi_call *call)
{
    return call->in[0].dtype == GRD_F32 && call->out[0].dtype == GRD_F32 && call->out[1].dtype == GRD_F32;
}

const grdi_kernel kernel_ctc = {.op = "ctc", .supports = supports, .prepare = prepare, .run = run};

} // namespace

GRDI_CUDA_TABLE(ctc, &kernel_ctc)
