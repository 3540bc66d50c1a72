/* memory.c - device memory, and copies between it and the host. */
#include "cuda.h"

#include <stdio.h>
#include <string.h>

grd_status grdi_staging_open(grdi_device *device)
{
    grdi_staging *s = &device->staging;
    grd_status status =
        grdi_cuda_check(device, cudaMallocHost((void **)&s->host, GRDI_STAGING_BYTES), "cudaMallocHost");
    if (!status) status = grdi_cuda_check(device, cudaMalloc((void **)&s->on_device, GRDI_STAGING_BYTES), "cudaMalloc");
    if (!status)
        status =
            grdi_cuda_check(device, cudaStreamCreateWithFlags(&s->stream, cudaStreamNonBlocking), "cudaStreamCreate");
    for (int i = 0; i < 2 * GRDI_STAGING_PARTS && !status; i++) {
        grdi_staged *part = &s->parts[i / 2];
        status = grdi_cuda_check(device,
                                 cudaEventCreateWithFlags(i % 2 ? &part->taken : &part->copied, cudaEventDisableTiming),
                                 "cudaEventCreate");
    }
    return status;
}

void grdi_staging_close(grdi_device *device)
{
    grdi_staging *s = &device->staging;
    for (int i = 0; i < GRDI_STAGING_PARTS; i++) {
        if (s->parts[i].copied) cudaEventDestroy(s->parts[i].copied);
        if (s->parts[i].taken) cudaEventDestroy(s->parts[i].taken);
    }
    if (s->stream) cudaStreamDestroy(s->stream);
    if (s->on_device) cudaFree(s->on_device);
    if (s->host) cudaFreeHost(s->host);
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

/* The oldest part is free: on the host when its copy has happened, which as a rule it has; on the device for copies
 * that wait for what was made of it. */
static void free_oldest(grdi_device *device)
{
    grdi_staging *s = &device->staging;
    const grdi_staged *oldest = &s->parts[s->first];
    if (cudaEventQuery(oldest->copied) != cudaSuccess)
        grdi_cuda_check(device, cudaEventSynchronize(oldest->copied), "cudaEventSynchronize");
    cudaGetLastError(); /* "not ready" is an answer here */
    grdi_cuda_check(device, cudaStreamWaitEvent(s->stream, oldest->taken, 0), "cudaStreamWaitEvent");
    s->first = (s->first + 1) % GRDI_STAGING_PARTS;
    s->count--;
}

static bool is_free(const grdi_staging *s, size_t at, size_t size_bytes)
{
    for (int32_t i = 0; i < s->count; i++) {
        const grdi_staged *part = &s->parts[(s->first + i) % GRDI_STAGING_PARTS];
        if (part->at < at + size_bytes && at < part->at + part->size_bytes) return false;
    }
    return s->count < GRDI_STAGING_PARTS;
}

static grdi_staged *next_part(grdi_device *device, size_t size_bytes)
{
    grdi_staging *s = &device->staging;
    size_t at = grdi_cuda_room(s->end);
    if (at + size_bytes > GRDI_STAGING_BYTES) at = 0;
    while (!is_free(s, at, size_bytes)) free_oldest(device);
    grdi_staged *part = &s->parts[(s->first + s->count++) % GRDI_STAGING_PARTS];
    part->at = at;
    part->size_bytes = size_bytes;
    s->end = at + size_bytes;
    return part;
}

static void upload_part(grdi_device *device, char *to, const char *host, size_t size_bytes)
{
    grdi_staging *s = &device->staging;
    const grdi_staged *part = next_part(device, size_bytes);
    char *pinned = s->host + part->at, *there = s->on_device + part->at;
    memcpy(pinned, host, size_bytes);
    grdi_cuda_check(device, cudaMemcpyAsync(there, pinned, size_bytes, cudaMemcpyHostToDevice, s->stream),
                    "cudaMemcpyAsync to the device");
    grdi_cuda_check(device, cudaEventRecord(part->copied, s->stream), "cudaEventRecord");
    grdi_cuda_check(device, cudaStreamWaitEvent(device->stream, part->copied, 0), "cudaStreamWaitEvent");
    grdi_cuda_check(device, cudaMemcpyAsync(to, there, size_bytes, cudaMemcpyDeviceToDevice, device->stream),
                    "cudaMemcpyAsync on the device");
    grdi_cuda_check(device, cudaEventRecord(part->taken, device->stream), "cudaEventRecord");
}

/* The host does not wait for the device, and `host` may be changed after the call. The value changes when all work that
 * was asked for before is done; the way to the device is gone while that is still going on. */
void grdi_cuda_upload(grdi_device *device, void *to, const void *host, size_t size_bytes)
{
    cudaSetDevice(device->index);
    for (size_t at = 0; at < size_bytes; at += GRDI_STAGING_PART_BYTES) {
        size_t part = size_bytes - at < GRDI_STAGING_PART_BYTES ? size_bytes - at : GRDI_STAGING_PART_BYTES;
        upload_part(device, (char *)to + at, (const char *)host + at, part);
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
