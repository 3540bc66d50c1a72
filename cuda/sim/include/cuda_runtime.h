/* cuda_runtime.h - kernels on the host: what a .cu file finds where nvcc's header would be. Each thread of a block is a
 * fiber (fibers.cpp); blocks run one after another, but for those of a cooperative launch. Shared memory is taken
 * through device/shared.cuh only. */
#ifndef GRDI_SIM_CUDA_RUNTIME_H
#define GRDI_SIM_CUDA_RUNTIME_H

#include "cuda_runtime_api.h"

#include <cstdint>
#include <cstring>
#include <functional>
#include <math.h>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __restrict__ __restrict
#define __launch_bounds__(...)

struct uint3 {
    unsigned x, y, z;
};
struct dim3 {
    unsigned x, y, z;
    dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};
struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};

enum { warpSize = 32 };

/* Where the running thread stands. */
struct grdi_sim_place {
    uint3 thread, block;
    dim3 block_size, grid_size;
};
extern grdi_sim_place grdi_sim_here;
#define threadIdx (grdi_sim_here.thread)
#define blockIdx (grdi_sim_here.block)
#define blockDim (grdi_sim_here.block_size)
#define gridDim (grdi_sim_here.grid_size)

void grdi_sim_block_barrier();
void grdi_sim_warp_barrier(unsigned mask, const char *call);
/* The value that lane `source` of the warp gave; every live lane must call it. */
void grdi_sim_exchange(unsigned mask, const void *given, void *taken, size_t size_bytes, unsigned source,
                       const char *call);
unsigned grdi_sim_ballot(unsigned mask, bool vote);
unsigned grdi_sim_lane();
/* The block's next array of shared memory: of exactly that size, filled with NaN bytes. */
void *grdi_sim_shared(size_t size_bytes);
/* Runs work on a stream, or notes it down where the stream is being captured. */
cudaError_t grdi_sim_submit(cudaStream_t stream, std::function<cudaError_t()> work);
/* `function` is the kernel's address, by which cudaFuncSetAttribute knows it; together: a cooperative launch. */
cudaError_t grdi_sim_launch(const char *name, dim3 grid, dim3 block, size_t shared_bytes,
                            const std::function<void()> &body, const void *function = nullptr, bool together = false);
/* Writes a word, and waits until one has come so far, which blocks of a cooperative launch see to. */
void grdi_sim_post(unsigned long long *word, unsigned long long value);
unsigned long long grdi_sim_await(const unsigned long long *word, unsigned long long least);

/* tensor.cpp: what device/tensor.cuh wraps. */
void grdi_sim_mma(float *d, const uint32_t *a, uint32_t b0, uint32_t b1, bool f16);
void grdi_sim_load_matrices(uint32_t *x, const uint16_t *row, bool transposed);
void grdi_sim_copy_async(void *shared, const void *global, unsigned size_bytes);
void grdi_sim_copies_commit();
void grdi_sim_copies_wait(unsigned left);

inline void __syncthreads()
{
    grdi_sim_block_barrier();
}
inline void __syncwarp(unsigned mask = ~0u)
{
    grdi_sim_warp_barrier(mask, "__syncwarp");
}
inline unsigned __ballot_sync(unsigned mask, bool vote)
{
    return grdi_sim_ballot(mask, vote);
}
inline int __popc(unsigned bits)
{
    return __builtin_popcount(bits);
}
inline int __ffs(int bits)
{
    return __builtin_ffs(bits);
}

template <class T> inline T grdi_sim_from_lane(unsigned mask, T value, unsigned source, const char *call)
{
    T taken;
    grdi_sim_exchange(mask, &value, &taken, sizeof value, source, call);
    return taken;
}
template <class T> inline T __shfl_xor_sync(unsigned mask, T value, int lanes)
{
    return grdi_sim_from_lane(mask, value, grdi_sim_lane() ^ (unsigned)lanes, "__shfl_xor_sync");
}
template <class T> inline T __shfl_up_sync(unsigned mask, T value, unsigned lanes)
{
    unsigned lane = grdi_sim_lane();
    return grdi_sim_from_lane(mask, value, lane < lanes ? lane : lane - lanes, "__shfl_up_sync");
}
template <class T> inline T __shfl_sync(unsigned mask, T value, int lane)
{
    return grdi_sim_from_lane(mask, value, (unsigned)lane & 31u, "__shfl_sync");
}

inline float rsqrtf(float x)
{
    return 1.0f / sqrtf(x);
}

#endif
