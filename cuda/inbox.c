/* inbox.c - values that come back while the device works: copied to pinned memory in the order of all work, with an
 * event behind the last copy. */
#include "cuda.h"

#include <string.h>

typedef struct inbox {
    void *memory;
    size_t size_bytes;
    cudaEvent_t arrived;
} inbox;

void grdi_cuda_inbox_close(grdi_device *device, void *opened)
{
    inbox *box = opened;
    cudaSetDevice(device->index);
    if (box->arrived) {
        cudaEventSynchronize(box->arrived); /* nothing may still be on its way here */
        cudaEventDestroy(box->arrived);
    }
    if (box->memory) cudaFreeHost(box->memory);
    grdi_free(box);
}

void *grdi_cuda_inbox_open(grdi_device *device, size_t size_bytes, void **memory)
{
    inbox *box = grdi_alloc_zero(1, sizeof *box);
    if (!box) return NULL;
    cudaSetDevice(device->index);
    box->size_bytes = size_bytes;
    if (grdi_cuda_check(device, cudaMallocHost(&box->memory, size_bytes), "cudaMallocHost") ||
        grdi_cuda_check(device, cudaEventCreateWithFlags(&box->arrived, cudaEventDisableTiming), "cudaEventCreate")) {
        cudaGetLastError();
        grdi_cuda_inbox_close(device, box);
        return NULL;
    }
    *memory = box->memory;
    return box;
}

void grdi_cuda_inbox_fetch(grdi_device *device, void *opened, size_t at, const void *from, size_t size_bytes)
{
    inbox *box = opened;
    cudaSetDevice(device->index);
    grdi_cuda_check(device,
                    cudaMemcpyAsync((char *)box->memory + at, from, size_bytes, cudaMemcpyDeviceToHost, device->stream),
                    "cudaMemcpyAsync to the host");
    grdi_cuda_check(device, cudaEventRecord(box->arrived, device->stream), "cudaEventRecord");
}

bool grdi_cuda_inbox_arrived(grdi_device *device, void *opened, bool wait)
{
    inbox *box = opened;
    cudaSetDevice(device->index);
    cudaError_t answer = cudaEventQuery(box->arrived);
    if (answer == cudaErrorNotReady) {
        cudaGetLastError(); /* it is an answer, and must not be found by the next launch */
        if (!wait) return false;
        answer = cudaEventSynchronize(box->arrived);
    }
    if (grdi_cuda_check(device, answer, "cudaEventSynchronize"))
        memset(box->memory, 0xFF, box->size_bytes); /* NaN: nobody must take what lay there for a result */
    return true;
}
