/* calls.c - what kernels ask of the device beside their launches, and how many calls they make in all: while calls are
 * counted, none is made. */
#include "cuda.h"

bool grdi_cuda_noted(grdi_device *device)
{
    device->calls += device->counts;
    return device->counts;
}

int64_t grdi_cuda_count_calls(grdi_device *device, const grdi_kernel *kernel, grdi_call *call)
{
    device->calls = 0;
    device->counts = true;
    grd_status status = kernel->run(call);
    device->counts = false;
    return status ? 0 : device->calls;
}

grd_status grdi_cuda_clear(const grdi_call *call, void *data, size_t size_bytes)
{
    if (grdi_cuda_noted(call->device)) return GRD_OK;
    return grdi_cuda_check(call->device, cudaMemsetAsync(data, 0, size_bytes, grdi_cuda_stream(call)),
                           "cudaMemsetAsync");
}
