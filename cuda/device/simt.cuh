/* simt.cuh - what kernels are written with: launches, shared memory, sums over warps and blocks. The simulator compiles
 * the same files; what only a GPU has is wrapped here. */
#ifndef GRDI_SIMT_CUH
#define GRDI_SIMT_CUH

#include "cuda.h"

#include <cuda_runtime.h>

/* The launch of `kernel` on the call's stream. Arguments are copied. */
#define grdi_launch(call, ...) (grdi_cuda_noted((call)->device) ? GRD_OK : grdi_launch_now(call, __VA_ARGS__))
/* The same as a cooperative launch: all blocks are on the device at once, so that they may wait for one another. */
#define grdi_launch_together(call, ...)                                                                                \
    (grdi_cuda_noted((call)->device) ? GRD_OK : grdi_launch_together_now(call, __VA_ARGS__))

#ifdef GRDI_SIM
#define grdi_launch_now(call, kernel, grid, block, shared_bytes, ...)                                                  \
    grdi_cuda_check((call)->device,                                                                                    \
                    grdi_launch_sim(#kernel, grdi_cuda_stream(call), grid, block, shared_bytes, kernel, __VA_ARGS__),  \
                    "launch of " #kernel)

#define grdi_launch_together_now(call, kernel, grid, block, shared_bytes, ...)                                         \
    grdi_cuda_check(                                                                                                   \
        (call)->device,                                                                                                \
        grdi_launch_sim<true>(#kernel, grdi_cuda_stream(call), grid, block, shared_bytes, kernel, __VA_ARGS__),        \
        "launch of " #kernel)

template <bool TOGETHER = false, class K, class... A>
cudaError_t grdi_launch_sim(const char *name, cudaStream_t stream, dim3 grid, dim3 block, size_t shared_bytes, K kernel,
                            A... arguments)
{
    return grdi_sim_submit(stream, [=] {
        return grdi_sim_launch(
            name, grid, block, shared_bytes, [=] { kernel(arguments...); }, (const void *)kernel, TOGETHER);
    });
}
#else
#define grdi_launch_now(call, kernel, grid, block, shared_bytes, ...)                                                  \
    (kernel<<<grid, block, shared_bytes, grdi_cuda_stream(call)>>>(__VA_ARGS__),                                       \
     grdi_cuda_check((call)->device, cudaGetLastError(), "launch of " #kernel))
#define grdi_launch_together_now(call, kernel, grid, block, shared_bytes, ...)                                         \
    grdi_cuda_check((call)->device,                                                                                    \
                    grdi_launch_cooperative(grdi_cuda_stream(call), grid, block, shared_bytes, kernel, __VA_ARGS__),   \
                    "launch of " #kernel)

template <class... P, class... A>
cudaError_t grdi_launch_cooperative(cudaStream_t stream, dim3 grid, dim3 block, size_t shared_bytes,
                                    void (*kernel)(P...), A... arguments)
{
    void *list[] = {(void *)&arguments...};
    return cudaLaunchCooperativeKernel((const void *)kernel, grid, block, list, shared_bytes, stream);
}
#endif

/* ---- between blocks of a cooperative launch ----
 *
 * A value travels with the number of its turn in one word, which is written and read as a whole. So who waits for it
 * asks memory for both at once: no fence, no counter, and no second way for what the counter has announced. */

__device__ __forceinline__ void post(unsigned long long *word, uint32_t bits, uint32_t turn)
{
    unsigned long long whole = (unsigned long long)turn << 32 | bits;
#ifdef GRDI_SIM
    grdi_sim_post(word, whole);
#else
    asm volatile("st.relaxed.gpu.global.u64 [%0], %1;" ::"l"(word), "l"(whole) : "memory");
#endif
}

/* Four words at a multiple of 16 bytes; false while one of them is not yet of that turn (or of a later one, which would
 * be a fault of who posts: wrong numbers are better than a device that waits for ever). */
__device__ __forceinline__ bool take_four(const unsigned long long *words, uint32_t turn, uint32_t *bits)
{
    unsigned long long w[4];
#ifdef GRDI_SIM
    for (int i = 0; i < 4; i++) w[i] = grdi_sim_await(words + i, (unsigned long long)turn << 32);
#else
    asm volatile("ld.relaxed.gpu.global.v2.u64 {%0, %1}, [%2];" : "=l"(w[0]), "=l"(w[1]) : "l"(words) : "memory");
    asm volatile("ld.relaxed.gpu.global.v2.u64 {%0, %1}, [%2];" : "=l"(w[2]), "=l"(w[3]) : "l"(words + 2) : "memory");
#endif
    bool there = true;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        bits[i] = (uint32_t)w[i];
        there = there && (uint32_t)(w[i] >> 32) >= turn;
    }
    return there;
}

/* Asks for the line of global memory that will be read soon. */
__device__ __forceinline__ void fetch_ahead(const void *global)
{
#ifdef GRDI_SIM
    (void)global;
#else
    asm volatile("prefetch.global.L2 [%0];" ::"l"(global));
#endif
}

/* Before launches with more shared memory than the 48 KB that any kernel may have; all cards give 99 KB. */
template <class K> grd_status grdi_allow_shared(const grdi_call *call, K kernel, size_t shared_bytes)
{
    if (shared_bytes <= 48 * 1024 || call->device->counts) return GRD_OK;
    grdi_cuda_stream(call); /* makes the device current */
    return grdi_cuda_check(
        call->device,
        cudaFuncSetAttribute((const void *)kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared_bytes),
        "cudaFuncSetAttribute");
}

/* Hands out the block's shared memory. All threads take the same arrays in the same order, together as many bytes
 * (each array rounded up to 16) as the launch was given. */
struct shared_memory {
#ifdef GRDI_SIM
    template <class T> T *take(int count)
    {
        return (T *)grdi_sim_shared(sizeof(T) * (size_t)count);
    }
#else
    unsigned used;
    __device__ shared_memory() : used(0) {}
    template <class T> __device__ T *take(int count)
    {
        extern __shared__ __align__(16) unsigned char grdi_shared_bytes[];
        T *array = reinterpret_cast<T *>(grdi_shared_bytes + used);
        used += ((unsigned)sizeof(T) * (unsigned)count + 15u) / 16u * 16u;
        return array;
    }
#endif
};

/* The bytes that an array takes of what a launch is given. */
inline size_t shared_bytes_of(size_t count, size_t element_bytes)
{
    return (count * element_bytes + 15) / 16 * 16;
}

inline unsigned blocks_for(int64_t count, int64_t each)
{
    return (unsigned)((count + each - 1) / each);
}

constexpr int WARP = 32;

__device__ __forceinline__ int lane_of_thread()
{
    return (int)(threadIdx.x % WARP);
}
__device__ __forceinline__ int warp_of_thread()
{
    return (int)(threadIdx.x / WARP);
}

/* The sum over the warp, the same bits in each lane. */
__device__ __forceinline__ float warp_sum(float x)
{
    for (int lanes = WARP / 2; lanes > 0; lanes /= 2) x += __shfl_xor_sync(0xFFFFFFFFu, x, lanes);
    return x;
}

/* NaN is kept where either is. */
__device__ __forceinline__ float larger(float a, float b)
{
    return a != a || a > b ? a : b;
}
__device__ __forceinline__ float smaller(float a, float b)
{
    return a != a || a < b ? a : b;
}

__device__ __forceinline__ float warp_max(float x)
{
    for (int lanes = WARP / 2; lanes > 0; lanes /= 2) x = larger(x, __shfl_xor_sync(0xFFFFFFFFu, x, lanes));
    return x;
}

/* Over a block of whole warps; `parts` is a shared array of one float a warp. The same bits in each thread. */
__device__ inline float block_sum(float x, float *parts)
{
    int warps = (int)(blockDim.x / WARP), lane = lane_of_thread();
    x = warp_sum(x);
    if (warps == 1) return x;
    __syncthreads(); /* the call before may still be reading */
    if (lane == 0) parts[warp_of_thread()] = x;
    __syncthreads();
    return warp_sum(lane < warps ? parts[lane] : 0.0f);
}

__device__ inline float block_max(float x, float *parts)
{
    int warps = (int)(blockDim.x / WARP), lane = lane_of_thread();
    x = warp_max(x);
    if (warps == 1) return x;
    __syncthreads();
    if (lane == 0) parts[warp_of_thread()] = x;
    __syncthreads();
    return warp_max(parts[lane < warps ? lane : 0]);
}

#endif
