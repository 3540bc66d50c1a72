/* planted.cpp - kernels with a mistake each, and the same without it: tests that the simulator finds what it is for. */
#include "device/simt.cuh"

#include "sim.h"

namespace
{

enum { THREADS = 128, PASSING_BLOCKS = 16 };

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

/* Blocks hand a number on to the next, twice. Without the wait one reads what another has not posted yet; with the same
 * words for both turns, what another has posted since. */
__global__ void passing_kernel(float *out, unsigned long long *words, bool waits, bool sets)
{
    unsigned before = (blockIdx.x + gridDim.x - 1) % gridDim.x;
    if (threadIdx.x > 0) return;
    for (unsigned turn = 1; turn <= 2; turn++) {
        unsigned long long *now = words + (sets ? turn - 1 : 0) * 4 * gridDim.x, *from = words + 4 * before;
        uint32_t bits[4] = {(uint32_t)from[0]};
        while (turn == 2 && waits && !take_four(from, 1, bits)) {
        }
        uint32_t value = turn == 1 ? blockIdx.x : bits[0] + 1;
        out[(turn - 1) * gridDim.x + blockIdx.x] = (float)value;
        for (int i = 0; i < 4; i++) post(now + 4 * blockIdx.x + i, value, turn);
    }
}

} // namespace

extern "C" {
GRDI_SIM_EXPORT int grdi_sim_planted_reverse(float *out, const float *in, int barrier);
GRDI_SIM_EXPORT int grdi_sim_planted_overflow(float *out, int past);
GRDI_SIM_EXPORT int grdi_sim_planted_unwritten(float *out, int written);
GRDI_SIM_EXPORT int grdi_sim_planted_stuck(float *out, int skips);

GRDI_SIM_EXPORT int grdi_sim_planted_passing(float *out, int blocks, int waits, int sets, int together);

int grdi_sim_planted_passing(float *out, int blocks, int waits, int sets, int together)
{
    alignas(16) static unsigned long long words[2 * 4 * PASSING_BLOCKS];
    if (blocks > PASSING_BLOCKS) return -1;
    for (auto &word : words) word = 0;
    return grdi_sim_launch(
        "passing_kernel", (unsigned)blocks, THREADS, 0, [=] { passing_kernel(out, words, waits != 0, sets != 0); },
        nullptr, together != 0);
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
