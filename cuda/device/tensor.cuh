/* tensor.cuh - tensor cores and what feeds them. A warp calls these functions with all its lanes; they need sm_80. How
 * elements lie in registers is said by NVIDIA's "PTX ISA", chapter "Warp Level Matrix Multiply-Accumulate", for
 * mma.m16n8k16 and ldmatrix; the simulator does the same from the same description (sim/tensor.cpp). With
 * group = lane / 4 and pair = lane % 4 * 2, two elements a register, the lower one first:
 *   a 16x16, row-major: a[0] (group, pair), a[1] (group + 8, pair), a[2] (group, pair + 8), a[3] (group + 8, pair + 8)
 *   b 16x8, by columns: b0 (pair, group), b1 (pair + 8, group), the second element one row below the first
 *   d 16x8, in f32:     d[0] (group, pair), d[1] (group, pair + 1), d[2] and d[3] the same 8 rows below. */
#ifndef GRDI_TENSOR_CUH
#define GRDI_TENSOR_CUH

#include "device/values.cuh"

/* d += a b of bf16, or of f16. */
template <bool F16>
__device__ __forceinline__ void multiply(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1)
{
#ifdef GRDI_SIM
    grdi_sim_mma(d, a, b0, b1, F16);
#else
    if constexpr (F16)
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                     "{%0,%1,%2,%3};"
                     : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    else
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                     "{%0,%1,%2,%3};"
                     : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#endif
}

#ifndef GRDI_SIM
__device__ __forceinline__ unsigned shared_address(const void *shared)
{
    return (unsigned)__cvta_generic_to_shared(shared);
}
#endif

/* Four matrices of 8 rows of 16 bytes: lane 8 i + r gives row r of matrix i, 16-byte aligned in shared memory, and gets
 * of each matrix i, in x[i], the elements (lane / 4, lane % 4 * 2) and the one right of it. */
__device__ __forceinline__ void load_matrices(uint32_t (&x)[4], const uint16_t *row)
{
#ifdef GRDI_SIM
    grdi_sim_load_matrices(x, row, false);
#else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
                 : "r"(shared_address(row))
                 : "memory");
#endif
}

/* The same, each matrix transposed. */
__device__ __forceinline__ void load_transposed(uint32_t (&x)[4], const uint16_t *row)
{
#ifdef GRDI_SIM
    grdi_sim_load_matrices(x, row, true);
#else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
                 : "r"(shared_address(row))
                 : "memory");
#endif
}

/* Copies 16 bytes, aligned on both sides, from global to shared memory, or writes zeros where they are not `there`
 * (then nothing is read). It happens at any time until copies_wait; other threads see it after a barrier that follows.
 */
__device__ __forceinline__ void copy_16(void *shared, const void *global, bool there)
{
#ifdef GRDI_SIM
    grdi_sim_copy_async(shared, global, there ? 16 : 0);
#else
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(global),
                 "r"(there ? 16 : 0)
                 : "memory");
#endif
}

/* Makes a group of the thread's copies since the last one. */
__device__ __forceinline__ void copies_commit()
{
#ifdef GRDI_SIM
    grdi_sim_copies_commit();
#else
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

/* Until all groups of the thread but the last LEFT have been copied. */
template <int LEFT> __device__ __forceinline__ void copies_wait()
{
#ifdef GRDI_SIM
    grdi_sim_copies_wait(LEFT);
#else
    asm volatile("cp.async.wait_group %0;" ::"n"(LEFT) : "memory");
#endif
}

/* 2^x, within 2^-22 of it; results below 2^-126 are 0. */
__device__ __forceinline__ float power_of_two(float x)
{
#ifdef GRDI_SIM
    float y = exp2f(x);
    return y < 0x1p-126f ? 0.0f : y;
#else
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#endif
}

/* Two values in a register, rounded to nearest in bf16, or in f16. */
template <bool F16> __device__ __forceinline__ uint32_t rounded_pair(float low, float high)
{
#ifdef GRDI_SIM
    if (F16) return (uint32_t)to_f16(low) | (uint32_t)to_f16(high) << 16;
    return (uint32_t)to_bf16(low) | (uint32_t)to_bf16(high) << 16;
#else
    uint32_t pair;
    if constexpr (F16) asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    else asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
#endif
}

#endif
