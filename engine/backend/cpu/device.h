/* device.h - the CPU device, for the files that make it up: device.c, memory.c, rates.c. */
#ifndef GRDI_CPU_DEVICE_H
#define GRDI_CPU_DEVICE_H

#include "backend/cpu/cpu.h"

/* A large block: what was handed out, and what was mapped to have it aligned to a huge page. */
typedef struct grdi_mapped {
    void *memory, *base;
    size_t size_bytes;
} grdi_mapped;

struct grdi_device {
    grdi_isa isa;
    int32_t threads;
    char kind[96];
    grdi_mapped *blocks;
    size_t block_count, block_capacity;
    int32_t measured; /* times */
    grdi_rates rates;
};

void *grdi_cpu_allocate(grdi_device *device, size_t size_bytes);
void grdi_cpu_release(grdi_device *device, void *memory, size_t size_bytes);
void grdi_cpu_upload(grdi_device *device, void *to, const void *host, size_t size_bytes);
void grdi_cpu_download(grdi_device *device, void *host, const void *from, size_t size_bytes);
grd_status grdi_cpu_rates(grdi_device *device, grdi_rates *rates);
void grdi_cpu_measure(grdi_device *device);

/* The library that multiplies matrices, with its version, as part of the device kind ("onednn-2.6.3"); "" in a build
 * without one. */
const char *grdi_cpu_matmul_library(void);

#endif
