/* values.cuh - elements of any dtype read and written as floats. The dtype is the same for all threads, so that the
 * choice costs no divergence. */
#ifndef GRDI_VALUES_CUH
#define GRDI_VALUES_CUH

#include "device/simt.cuh"

#ifndef GRDI_SIM
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#else
#include "base/convert.h"
#endif

__device__ __forceinline__ float bits_float(uint32_t bits)
{
#ifdef GRDI_SIM
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
#else
    return __uint_as_float(bits);
#endif
}

__device__ __forceinline__ float from_bf16(uint16_t bits)
{
    return bits_float((uint32_t)bits << 16);
}

__device__ __forceinline__ uint32_t float_bits(float value)
{
#ifdef GRDI_SIM
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
#else
    return __float_as_uint(value);
#endif
}

/* To nearest, ties to even; NaN stays NaN. */
__device__ __forceinline__ uint16_t to_bf16(float value)
{
#ifdef GRDI_SIM
    uint32_t bits = float_bits(value);
    if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return 0x7FFF;
    return (uint16_t)((bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16);
#else
    return __bfloat16_as_ushort(__float2bfloat16_rn(value));
#endif
}

__device__ __forceinline__ float from_f16(uint16_t bits)
{
#ifdef GRDI_SIM
    return grdi_f16_to_f32(bits);
#else
    return __half2float(__ushort_as_half(bits));
#endif
}

/* To nearest, ties to even; NaN stays NaN, and what is too large becomes infinite. */
__device__ __forceinline__ uint16_t to_f16(float value)
{
#ifdef GRDI_SIM
    return grdi_f32_to_f16(value);
#else
    return __half_as_ushort(__float2half_rn(value));
#endif
}

/* Where elements lie, of f32, bf16, f16, bool or i32. */
struct cells {
    void *data; /* NULL: an output that nobody uses */
    int32_t dtype;
};

inline cells cells_of(const grdi_view &view)
{
    return cells{view.data, (int32_t)view.dtype};
}

/* Bytes of an element, of f32, bf16 and f16. */
__host__ __device__ __forceinline__ size_t size_of(const cells &c)
{
    return c.dtype == GRD_F32 ? 4 : 2;
}

__device__ __forceinline__ float get(const cells &c, int64_t i)
{
    if (c.dtype == GRD_F32) return ((const float *)c.data)[i];
    if (c.dtype == GRD_BF16) return from_bf16(((const uint16_t *)c.data)[i]);
    if (c.dtype == GRD_F16) return from_f16(((const uint16_t *)c.data)[i]);
    if (c.dtype == GRD_I32) return (float)((const int32_t *)c.data)[i];
    return ((const uint8_t *)c.data)[i] != 0;
}

/* The same in two steps, of f32, bf16 and f16: many are read before the first is waited for. */
__device__ __forceinline__ uint32_t bits_of(const cells &c, int64_t i)
{
    return c.dtype == GRD_F32 ? ((const uint32_t *)c.data)[i] : ((const uint16_t *)c.data)[i];
}
__device__ __forceinline__ float value_of(const cells &c, uint32_t bits)
{
    if (c.dtype == GRD_F32) return bits_float(bits);
    return c.dtype == GRD_BF16 ? from_bf16((uint16_t)bits) : from_f16((uint16_t)bits);
}

__device__ __forceinline__ void put(const cells &c, int64_t i, float value)
{
    if (c.dtype == GRD_F32) ((float *)c.data)[i] = value;
    else if (c.dtype == GRD_BF16) ((uint16_t *)c.data)[i] = to_bf16(value);
    else if (c.dtype == GRD_F16) ((uint16_t *)c.data)[i] = to_f16(value);
    else ((uint8_t *)c.data)[i] = value != 0;
}

__device__ __forceinline__ void put_or_add(const cells &c, int64_t i, float value, bool add)
{
    put(c, i, add ? get(c, i) + value : value);
}

/* ---- WIDE neighbours at once, of f32, bf16 and f16, by loads and stores of 16 bytes ----
 *
 * One element a load keeps an H100 at a sixth of its bandwidth: too few bytes are on their way, and the instructions
 * around each element cost more than it does. `i` is a multiple of WIDE behind an address for which `lies_wide` holds.
 */

constexpr int WIDE = 8;

/* As they lie: the second half is of f32 alone. Many are read before the first is spread. */
struct wide_bits {
    uint4 half[2];
};

__device__ __forceinline__ wide_bits read_wide(const cells &c, int64_t i)
{
    const uint4 *from = (const uint4 *)((const char *)c.data + i * (int64_t)size_of(c));
    wide_bits bits;
    bits.half[0] = from[0];
    bits.half[1] = c.dtype == GRD_F32 ? from[1] : uint4{0, 0, 0, 0};
    return bits;
}

__device__ __forceinline__ void spread(const cells &c, const wide_bits &bits, float *x)
{
    const uint32_t words[WIDE] = {bits.half[0].x, bits.half[0].y, bits.half[0].z, bits.half[0].w,
                                  bits.half[1].x, bits.half[1].y, bits.half[1].z, bits.half[1].w};
    if (c.dtype == GRD_F32) {
#pragma unroll
        for (int k = 0; k < WIDE; k++) x[k] = bits_float(words[k]);
    } else if (c.dtype == GRD_BF16) {
#pragma unroll
        for (int k = 0; k < WIDE; k++) x[k] = bits_float(k % 2 ? words[k / 2] & 0xFFFF0000u : words[k / 2] << 16);
    } else {
#pragma unroll
        for (int k = 0; k < WIDE; k++) x[k] = from_f16((uint16_t)(words[k / 2] >> (k % 2 * 16)));
    }
}

/* Two values in a word, the first one low: one instruction. */
__device__ __forceinline__ uint32_t bf16_pair(float low, float high)
{
#ifdef GRDI_SIM
    return to_bf16(low) | (uint32_t)to_bf16(high) << 16;
#else
    const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    uint32_t bits;
    memcpy(&bits, &pair, sizeof bits);
    return bits;
#endif
}
__device__ __forceinline__ uint32_t f16_pair(float low, float high)
{
#ifdef GRDI_SIM
    return to_f16(low) | (uint32_t)to_f16(high) << 16;
#else
    const __half2 pair = __floats2half2_rn(low, high);
    uint32_t bits;
    memcpy(&bits, &pair, sizeof bits);
    return bits;
#endif
}

__device__ __forceinline__ void write_wide(const cells &c, int64_t i, const float *x)
{
    uint4 *to = (uint4 *)((char *)c.data + i * (int64_t)size_of(c));
    if (c.dtype == GRD_F32) {
        to[0] = uint4{float_bits(x[0]), float_bits(x[1]), float_bits(x[2]), float_bits(x[3])};
        to[1] = uint4{float_bits(x[4]), float_bits(x[5]), float_bits(x[6]), float_bits(x[7])};
    } else if (c.dtype == GRD_BF16) {
        to[0] = uint4{bf16_pair(x[0], x[1]), bf16_pair(x[2], x[3]), bf16_pair(x[4], x[5]), bf16_pair(x[6], x[7])};
    } else {
        to[0] = uint4{f16_pair(x[0], x[1]), f16_pair(x[2], x[3]), f16_pair(x[4], x[5]), f16_pair(x[6], x[7])};
    }
}

/* Whether `data` and steps of `stride` elements from there (0: none) are at multiples of 16 bytes. */
inline bool lies_wide(const cells &c, int64_t stride)
{
    return (uintptr_t)c.data % 16 == 0 && stride * (int64_t)size_of(c) % 16 == 0 && c.dtype != GRD_BOOL &&
           c.dtype != GRD_I32;
}

/* ---- for `supports` ---- */

inline bool is_value(grd_dtype dtype)
{
    return dtype == GRD_F32 || dtype == GRD_BF16 || dtype == GRD_F16;
}

/* Inputs [first, end) and all outputs are f32, bf16 or f16. */
inline bool takes_values(const grdi_call *call, int32_t first, int32_t end)
{
    for (int32_t i = first; i < end && i < call->input_count; i++)
        if (!is_value(call->in[i].dtype)) return false;
    for (int32_t o = 0; o < call->output_count; o++)
        if (!is_value(call->out[o].dtype)) return false;
    return true;
}

#endif
