/* planted.cpp - kernels with a mistake each, and the same without it: tests that the simulator finds what it is for. */
#include "device/simt.cuh"

#include "sim.h"

namespace
{

enum { THREADS = 128 };

/* Reverses `in` through shared memory; without its barrier a thread reads what another has not written yet, or not any
 * more. */
__global__ void reverse_kernel(float *out, const float *in, bool barrier)
{
    shared_memory shared;
    float *tile = shared.take<float>(THREADS);
    for (int round = 0; round < 2; round++) {
        tile[threadIdx.x] = in[round * THREADS + threadIdx.x];
        if (barrier) __syncthreads();
        out[round * THREADS + threadIdx.x] = tile[THREADS - 1 - threadIdx.x];
        if (barrier) __syncthreads();
    }
}

__global__ void overflow_kernel(float *out, int past)
{
    shared_memory shared;
    float *tile = shared.take<float>(THREADS);
    tile[threadIdx.x + past] = 1.0f;
    __syncthreads();
    out[threadIdx.x] = tile[threadIdx.x];
}

__global__ void unwritten_kernel(float *out, unsigned written)
{
    shared_memory shared;
    float *tile = shared.take<float>(THREADS);
    if (threadIdx.x < written) tile[threadIdx.x] = 1.0f;
    __syncthreads();
    out[threadIdx.x] = tile[threadIdx.x];
}

/* Threads of one warp that are not all at the barrier. */
__global__ void stuck_kernel(float *out, unsigned skips)
{
    shared_memory shared;
    float *tile = shared.take<float>(THREADS);
    tile[threadIdx.x] = 1.0f;
    for (unsigned wait = 0; threadIdx.x != skips && wait < 1; wait++) __syncthreads();
    out[threadIdx.x] = __shfl_xor_sync(0xFFFFFFFFu, tile[threadIdx.x], 1);
}

/* Blocks hand a number on to the next, twice; without the wait, or the barrier before a block says that it is done, one
 * reads what another has not written yet. */
__global__ void passing_kernel(float *out, unsigned long long *arrived, bool waits, bool barrier)
{
    unsigned next = (blockIdx.x + 1) % gridDim.x;
    for (unsigned round = 0; round < 2; round++) {
        float *now = out + round * gridDim.x, value = round ? out[next] + 1.0f : (float)blockIdx.x;
        if (threadIdx.x == (round ? 0 : THREADS / 2)) now[blockIdx.x] = value;
        if (barrier) __syncthreads();
        if (threadIdx.x == 0) arrive(arrived);
        if (threadIdx.x == 0 && waits) await(arrived, (round + 1) * gridDim.x);
        __syncthreads();
    }
}

} // namespace

extern "C" {
GRDI_SIM_EXPORT int grdi_sim_planted_reverse(float *out, const float *in, int barrier);
GRDI_SIM_EXPORT int grdi_sim_planted_overflow(float *out, int past);
GRDI_SIM_EXPORT int grdi_sim_planted_unwritten(float *out, int written);
GRDI_SIM_EXPORT int grdi_sim_planted_stuck(float *out, int skips);

GRDI_SIM_EXPORT int grdi_sim_planted_passing(float *out, int blocks, int waits, int barrier, int together);

int grdi_sim_planted_passing(float *out, int blocks, int waits, int barrier, int together)
{
    static unsigned long long arrived;
    arrived = 0;
    return grdi_sim_launch(
        "passing_kernel", (unsigned)blocks, THREADS, 0,
        [=] { passing_kernel(out, &arrived, waits != 0, barrier != 0); }, nullptr, together != 0);
}

int grdi_sim_planted_reverse(float *out, const float *in, int barrier)
{
    return grdi_sim_launch("reverse_kernel", 1, THREADS, sizeof(float) * THREADS,
                           [=] { reverse_kernel(out, in, barrier != 0); });
}

int grdi_sim_planted_overflow(float *out, int past)
{
    return grdi_sim_launch("overflow_kernel", 1, THREADS, sizeof(float) * THREADS, [=] { overflow_kernel(out, past); });
}

int grdi_sim_planted_unwritten(float *out, int written)
{
    return grdi_sim_launch("unwritten_kernel", 1, THREADS, sizeof(float) * THREADS,
                           [=] { unwritten_kernel(out, (unsigned)written); });
}

int grdi_sim_planted_stuck(float *out, int skips)
{
    return grdi_sim_launch("stuck_kernel", 1, THREADS, sizeof(float) * THREADS,
                           [=] { stuck_kernel(out, (unsigned)skips); });
}
}
