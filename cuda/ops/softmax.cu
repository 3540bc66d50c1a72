/* softmax.cu - softmax and log_softmax along one axis: one block a row. */
#include "device/rows.cuh"
#include "device/table.cuh"

#include <cstring>

namespace
{

struct softmax_task {
    rows in, out;
    int64_t count;
    bool logarithm;
};

__global__ void softmax_kernel(const softmax_task t)
{
    shared_memory shared;
    float *parts = shared.take<float>(ROW_WARPS_MAX);
    int64_t in = start_of(t.in, blockIdx.x), out = start_of(t.out, blockIdx.x);
    float most = -INFINITY, sum = 0;
    for (int64_t i = threadIdx.x; i < t.count; i += blockDim.x) {
        float x = get(t.in.at.at, in + i * t.in.stride);
        most = x > most ? x : most; /* NaN shows in the sum */
    }
    most = block_max(most, parts);
    for (int64_t i = threadIdx.x; i < t.count; i += blockDim.x)
        sum += expf(get(t.in.at.at, in + i * t.in.stride) - most);
    sum = block_sum(sum, parts);
    float scale = 1.0f / sum, log_sum = logf(sum);
    for (int64_t i = threadIdx.x; i < t.count; i += blockDim.x) {
        float x = get(t.in.at.at, in + i * t.in.stride) - most;
        put(t.out.at.at, out + i * t.out.stride, t.logarithm ? x - log_sum : expf(x) * scale);
    }
}

grd_status run(grdi_call *call)
{
    int64_t axis = grdi_attr_int(call->attrs, "axis");
    axis += axis < 0 ? call->in[0].dims.rank : 0;
    softmax_task t = {rows_of(call->in[0], (int32_t)axis), rows_of(call->out[0], (int32_t)axis),
                      call->in[0].dims.dim[axis], strcmp(call->op->name, "log_softmax") == 0};
    return grdi_launch(call, softmax_kernel, (unsigned)(grd_dims_count(call->in[0].dims) / t.count),
                       row_threads(t.count), row_shared_bytes(), t);
}

bool supports(const grdi_call *call)
{
    return takes_values(call, 0, 1);
}

const grdi_kernel kernel_softmax = {
    .op = "softmax", .strided_in = 1, .rows_in = 1, .strided_out = 1, .in_place = 1, .supports = supports, .run = run};
const grdi_kernel kernel_log_softmax = {.op = "log_softmax",
                                        .strided_in = 1,
                                        .rows_in = 1,
                                        .strided_out = 1,
                                        .in_place = 1,
                                        .supports = supports,
                                        .run = run};

} // namespace

GRDI_CUDA_TABLE(softmax, &kernel_softmax, &kernel_log_softmax)
