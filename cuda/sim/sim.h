/* sim.h - what tests ask of the simulator: symbols of libgradus_cudasim.so, found by dlsym. */
#ifndef GRDI_SIM_H
#define GRDI_SIM_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What the plugin has called since the library was opened. */
typedef struct grdi_sim_counts {
    int64_t kernels;            /* launched, each replay of a graph counting its kernels again */
    int64_t matmuls;            /* cublasLtMatmul, likewise */
    int64_t convolutions, attentions; /* cudnnBackendExecute, likewise */
    int64_t copies, sets;       /* cudaMemcpyAsync, cudaMemsetAsync */
    int64_t synchronisations;   /* calls for which the host waits */
    int64_t host_allocations;   /* cudaMallocHost */
    int64_t device_allocations; /* cudaMalloc */
    int64_t graph_launches;
    int64_t timed;    /* calls of libraries between two events that keep time: trials of algorithms */
    int64_t switches; /* between threads of blocks */
    int64_t bank_conflicts; /* turns that ldmatrix waits for others of its own rows */
} grdi_sim_counts;

#define GRDI_SIM_EXPORT __attribute__((visibility("default")))

GRDI_SIM_EXPORT grdi_sim_counts *grdi_sim_count(void);
/* The order in which warps run, each as far ahead as barriers let it: 0 first to last, 1 last to first. Copies from
 * pinned memory happen as late as they may in order 0, as early in 1. */
GRDI_SIM_EXPORT void grdi_sim_set_order(int order);
/* How many algorithms the stand-in for cuBLASLt offers for a product (1 at first; they sum in different orders), and
 * which of a library's algorithms is the fastest (0 at first). GRADUS_SIM_ALGORITHMS and GRADUS_SIM_FASTEST, for
 * processes of their own. GRADUS_SIM_SLOW_SUMS=1: products whose epilogue sums columns are slower than a kernel. */
GRDI_SIM_EXPORT void grdi_sim_set_algorithms(int count, int fastest);
/* Whether engines of cuDNN may run that say of themselves that they are not deterministic (not at first).
 * GRADUS_SIM_ANY_ORDER=1, for processes of their own. */
GRDI_SIM_EXPORT void grdi_sim_allow_any_order(int allowed);
/* Name `index` of the kernels launched so far, each once, as launches write them ("arg_kernel<float>"); NULL past the
 * last one. */
GRDI_SIM_EXPORT const char *grdi_sim_kernel_at(int index);
/* What the simulator found wrong, first things first; "" if nothing. Cleared by the call. */
GRDI_SIM_EXPORT const char *grdi_sim_take_error(void);

/* Bytes of device memory that the launches of a kernel read and wrote, in the library that counts them (traffic.cpp).
 * read, written: each byte once a launch, and reads of what the launch has written itself not at all; asked: by all
 * loads and stores together; from_memory: in sectors of 32 bytes, with a cache that is empty as a launch begins and
 * gives up what was not used for longest, blocks running one after another. */
typedef struct grdi_sim_traffic {
    const char *kernel; /* as launches write it */
    int64_t launches;
    int64_t read, written;
    int64_t asked_read, asked_written;
    int64_t from_memory_read, from_memory_written;
} grdi_sim_traffic;
/* Of kernel `index`; NULL past the last one. */
GRDI_SIM_EXPORT const grdi_sim_traffic *grdi_sim_traffic_at(int index);
/* Counts from 0 again, with a cache of that size. */
GRDI_SIM_EXPORT void grdi_sim_forget_traffic(size_t cache_bytes);

#ifdef __cplusplus
}
#endif
#endif
