/* planted_tensor.cpp - each wrapper of device/tensor.cuh by itself, its elements placed as the tables of the "PTX ISA"
 * say, and kernels that use them wrongly: what tests/cuda/test_tensor.c runs. */
#include "device/tensor.cuh"

#include "sim.h"

namespace
{

/* One m16n8k16 by the first `lanes` lanes: a [16,16], b [16,8], d [16,8] += a b. Elements by the tables "Matrix
 * Fragments for mma.m16n8k16 with floating point type": a0..a7, b0..b3, c0..c3. */
__global__ void product_kernel(float *d, const float *a, const float *b, int lanes)
{
    int group = (int)threadIdx.x >> 2, in_group = (int)threadIdx.x % 4;
    float ai[8], bi[4], ci[4];
    uint32_t x[4], y[2];
    if ((int)threadIdx.x >= lanes) return;
    for (int i = 0; i < 8; i++) {
        int row = i < 2 || (i >= 4 && i < 6) ? group : group + 8;
        int column = in_group * 2 + (i & 1) + (i >= 4 ? 8 : 0);
        ai[i] = a[row * 16 + column];
    }
    for (int i = 0; i < 4; i++) bi[i] = b[(in_group * 2 + (i & 1) + (i >= 2 ? 8 : 0)) * 8 + group];
    for (int i = 0; i < 4; i++) ci[i] = d[(i < 2 ? group : group + 8) * 8 + in_group * 2 + (i & 1)];
    for (int r = 0; r < 4; r++) x[r] = rounded_pair<false>(ai[2 * r], ai[2 * r + 1]);
    for (int r = 0; r < 2; r++) y[r] = rounded_pair<false>(bi[2 * r], bi[2 * r + 1]);
    multiply<false>(ci, x, y[0], y[1]);
    for (int i = 0; i < 4; i++) d[(i < 2 ? group : group + 8) * 8 + in_group * 2 + (i & 1)] = ci[i];
}

/* 32 rows of 8 elements, `pitch` elements apart in shared memory, lane's row from `shift` bytes on; out [32][4]. */
__global__ void matrices_kernel(uint32_t *out, const uint16_t *in, bool transposed, int pitch, int shift)
{
    shared_memory shared;
    uint16_t *tile = shared.take<uint16_t>(32 * pitch);
    for (int c = 0; c < 8; c++) tile[(int)threadIdx.x * pitch + c] = in[threadIdx.x * 8 + (unsigned)c];
    __syncthreads();
    uint32_t x[4] = {0, 0, 0, 0};
    const uint16_t *row = (const uint16_t *)((const char *)(tile + (int)threadIdx.x * pitch) + shift);
    if (transposed) load_transposed(x, row);
    else load_matrices(x, row);
    for (int i = 0; i < 4; i++) out[threadIdx.x * 4 + (unsigned)i] = x[i];
}

enum { THREADS = 64, CHUNK = 4 /* floats */, ROUNDS = 3 };
enum mistake { NONE, NO_WAIT, NO_BARRIER, EARLY_REFILL, MISALIGNED, NO_END, GROUP_LEFT };

/* out [ROUNDS][THREADS][CHUNK]: in, each round's chunks in reverse order, two buffers in turn; chunk 0 of each round is
 * not `there`. */
__global__ void copies_kernel(float *out, const float *in, int planted)
{
    shared_memory shared;
    float *tile = shared.take<float>(2 * THREADS * CHUNK);
    int me = (int)threadIdx.x, size = THREADS * CHUNK, shift = planted == MISALIGNED;
    copy_16(tile + me * CHUNK, in + me * CHUNK + shift, me > 0);
    copies_commit();
    for (int round = 0; round < ROUNDS; round++) {
        int other = planted == EARLY_REFILL ? round % 2 : (round + 1) % 2;
        if (planted == GROUP_LEFT) copies_wait<1>();
        else if (planted != NO_WAIT) copies_wait<0>();
        if (planted != NO_BARRIER) __syncthreads();
        if (round + 1 < ROUNDS) {
            copy_16(tile + other * size + me * CHUNK, in + (round + 1) * size + me * CHUNK, me > 0);
            copies_commit();
        }
        for (int c = 0; c < CHUNK; c++)
            out[round * size + me * CHUNK + c] = tile[round % 2 * size + (THREADS - 1 - me) * CHUNK + c];
    }
    __syncthreads();
    if (planted == NO_END) copy_16(tile + me * CHUNK, in, true);
    if (planted == NO_WAIT) copies_wait<0>();
}

/* Asks for `count` floats of shared memory. */
__global__ void large_kernel(float *out, int count)
{
    shared_memory shared;
    float *tile = shared.take<float>(count);
    tile[threadIdx.x] = 1.0f;
    out[threadIdx.x] = tile[threadIdx.x];
}

} // namespace

extern "C" {
GRDI_SIM_EXPORT int grdi_sim_planted_product(float *d, const float *a, const float *b, int lanes);
GRDI_SIM_EXPORT int grdi_sim_planted_matrices(uint32_t *out, const uint16_t *in, int transposed, int pitch, int shift);
GRDI_SIM_EXPORT int grdi_sim_planted_copies(float *out, const float *in, int planted);
GRDI_SIM_EXPORT int grdi_sim_planted_large(float *out, int count, int allowed_bytes);
GRDI_SIM_EXPORT float grdi_sim_planted_power(float x);

int grdi_sim_planted_product(float *d, const float *a, const float *b, int lanes)
{
    return grdi_sim_launch("product_kernel", 1, WARP, 0, [=] { product_kernel(d, a, b, lanes); });
}

int grdi_sim_planted_matrices(uint32_t *out, const uint16_t *in, int transposed, int pitch, int shift)
{
    return grdi_sim_launch("matrices_kernel", 1, WARP, sizeof(uint16_t) * 32 * (size_t)pitch,
                           [=] { matrices_kernel(out, in, transposed != 0, pitch, shift); });
}

int grdi_sim_planted_copies(float *out, const float *in, int planted)
{
    return grdi_sim_launch("copies_kernel", 1, THREADS, sizeof(float) * 2 * THREADS * CHUNK,
                           [=] { copies_kernel(out, in, planted); });
}

int grdi_sim_planted_large(float *out, int count, int allowed_bytes)
{
    cudaError_t error = cudaSuccess;
    if (allowed_bytes)
        error = cudaFuncSetAttribute((const void *)large_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                     allowed_bytes);
    if (error != cudaSuccess) return error;
    return grdi_sim_launch(
        "large_kernel", 1, WARP, sizeof(float) * (size_t)count, [=] { large_kernel(out, count); },
        (const void *)large_kernel);
}

float grdi_sim_planted_power(float x)
{
    return power_of_two(x);
}
}
