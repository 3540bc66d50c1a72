/* memory.c - device memory, and copies between it and the host. */
#include "cuda.h"

#include <stdio.h>
#include <string.h>

grd_status grdi_staging_open(grdi_device *device)
{
    grdi_staging *s = &device->staging;
    grd_status status = grdi_cuda_check(
        device, cudaMallocHost((void **)&s->memory, (size_t)GRDI_STAGING_SLOTS * GRDI_STAGING_SLOT_BYTES),
        "cudaMallocHost");
    for (int i = 0; i < GRDI_STAGING_SLOTS && !status; i++)
        status =
            grdi_cuda_check(device, cudaEventCreateWithFlags(&s->copied[i], cudaEventDisableTiming), "cudaEventCreate");
    return status;
}

void grdi_staging_close(grdi_device *device)
{
    grdi_staging *s = &device->staging;
    for (int i = 0; i < GRDI_STAGING_SLOTS; i++)
        if (s->copied[i]) cudaEventDestroy(s->copied[i]);
    if (s->memory) cudaFreeHost(s->memory);
}

void *grdi_cuda_allocate(grdi_device *device, size_t size_bytes)
{
    void *memory = NULL;
    cudaSetDevice(device->index);
    if (grdi_cuda_check(device, cudaMalloc(&memory, size_bytes ? size_bytes : 1), "cudaMalloc")) {
        cudaGetLastError(); /* it is told here, and must not be found by the next launch */
        return NULL;
    }
    if (size_bytes &&
        grdi_cuda_check(device, cudaMemsetAsync(memory, 0, size_bytes, device->stream), "cudaMemsetAsync")) {
        cudaFree(memory);
        return NULL;
    }
    return memory;
}

/* cudaFree waits for all work, so nothing still uses the block. */
void grdi_cuda_release(grdi_device *device, void *memory, size_t size_bytes)
{
    (void)size_bytes;
    cudaSetDevice(device->index);
    grdi_cuda_check(device, cudaFree(memory), "cudaFree");
}

/* The next slot, once its last copy has happened: with that many slots it has, as a rule. */
static char *free_slot(grdi_device *device, int32_t *slot)
{
    grdi_staging *s = &device->staging;
    *slot = s->next;
    s->next = (s->next + 1) % GRDI_STAGING_SLOTS;
    if (s->used[*slot] && cudaEventQuery(s->copied[*slot]) != cudaSuccess)
        grdi_cuda_check(device, cudaEventSynchronize(s->copied[*slot]), "cudaEventSynchronize");
    cudaGetLastError(); /* "not ready" is an answer here */
    return s->memory + (size_t)*slot * GRDI_STAGING_SLOT_BYTES;
}

/* Through pinned memory, so that the host does not wait for the device; `host` may be changed after the call. */
void grdi_cuda_upload(grdi_device *device, void *to, const void *host, size_t size_bytes)
{
    cudaSetDevice(device->index);
    for (size_t at = 0; at < size_bytes; at += GRDI_STAGING_SLOT_BYTES) {
        size_t part = size_bytes - at < GRDI_STAGING_SLOT_BYTES ? size_bytes - at : GRDI_STAGING_SLOT_BYTES;
        int32_t slot;
        char *staged = free_slot(device, &slot);
        memcpy(staged, (const char *)host + at, part);
        grdi_cuda_check(device, cudaMemcpyAsync((char *)to + at, staged, part, cudaMemcpyHostToDevice, device->stream),
                        "cudaMemcpyAsync to the device");
        grdi_cuda_check(device, cudaEventRecord(device->staging.copied[slot], device->stream), "cudaEventRecord");
        device->staging.used[slot] = true;
    }
}

/* Waits for all work of the device that was asked for before. */
void grdi_cuda_download(grdi_device *device, void *host, const void *from, size_t size_bytes)
{
    cudaSetDevice(device->index);
    grdi_cuda_check(device, cudaMemcpyAsync(host, from, size_bytes, cudaMemcpyDeviceToHost, device->stream),
                    "cudaMemcpyAsync to the host");
    if (grdi_cuda_check(device, cudaStreamSynchronize(device->stream), "cudaStreamSynchronize"))
        memset(host, 0xFF, size_bytes); /* NaN: nobody must take what lay there for a result */
}
