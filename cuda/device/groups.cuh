/* groups.cuh - WIDE neighbours of an index space at once, in operands that lie whole, repeat a vector along other axes
 * or one value along the last: an offset, a load and a choice of dtype for a group, not for each element. */
#ifndef GRDI_GROUPS_CUH
#define GRDI_GROUPS_CUH

#include "device/space.cuh"

/* Whether groups of WIDE along the last axis lie together: `in_groups` of the space and of each operand. The last group
 * of a space of one axis may be a part of one. Bool is read by 8 bytes, the rest by 16. Offsets are divided in 32 bits.
 */
inline bool in_groups(const axes &space, int64_t count)
{
    return space.rank == 1 || (space.rank > 1 && space.dim[space.rank - 1] % WIDE == 0 && count <= INT32_MAX);
}
inline bool in_groups(const axes &space, const operand &o)
{
    const int64_t size = o.at.dtype == GRD_BOOL ? 1 : (int64_t)size_of(o.at), load = o.at.dtype == GRD_BOOL ? 8 : 16;
    const int32_t last = space.rank - 1;
    if (o.stride[last] == 0) return true;
    bool together = o.stride[last] == 1 && (intptr_t)o.at.data % load == 0;
    for (int32_t i = 0; i < last; i++) together = together && o.stride[i] * size % load == 0;
    return together && o.at.dtype != GRD_I32;
}

__device__ __forceinline__ int64_t group_offset(const axes &space, const operand &o, int64_t e)
{
    if (o.lie == LIES_WHOLE) return e;
    if (o.lie == LIES_ONCE) return 0;
    int64_t offset = 0;
    uint32_t left = (uint32_t)e;
#pragma unroll 1
    for (int32_t i = space.rank - 1; i > 0; i--) {
        const uint32_t dim = (uint32_t)space.dim[i], next = left / dim;
        offset += (int64_t)(left - next * dim) * o.stride[i];
        left = next;
    }
    return offset + (int64_t)left * o.stride[0];
}

/* One value, as WIDE of it lie. */
__device__ __forceinline__ wide_bits repeated_bits(const cells &c, int64_t at)
{
    uint32_t word = c.dtype == GRD_F32    ? ((const uint32_t *)c.data)[at]
                    : c.dtype == GRD_BOOL ? ((const uint8_t *)c.data)[at] * 0x01010101u
                                          : ((const uint16_t *)c.data)[at] * 0x00010001u;
    return wide_bits{{{word, word, word, word}, {word, word, word, word}}};
}

/* The group at element `e` of the space, as it lies: many are read before the first is spread. */
__device__ __forceinline__ wide_bits read_group(const axes &space, const operand &o, int64_t e)
{
    const int64_t at = group_offset(space, o, e);
    if (o.lie == LIES_ONCE || (o.lie == LIES_STRIDED && o.stride[space.rank - 1] == 0)) return repeated_bits(o.at, at);
    if (o.at.dtype != GRD_BOOL) return read_wide(o.at, at);
    const uint64_t bytes = *(const uint64_t *)((const uint8_t *)o.at.data + at);
    return wide_bits{{{(uint32_t)bytes, (uint32_t)(bytes >> 32), 0, 0}, {0, 0, 0, 0}}};
}

__device__ __forceinline__ void spread_group(const cells &c, const wide_bits &bits, float *x)
{
    if (c.dtype != GRD_BOOL) return spread(c, bits, x);
#pragma unroll
    for (int k = 0; k < WIDE; k++) x[k] = ((k < 4 ? bits.half[0].x : bits.half[0].y) >> (k % 4 * 8) & 0xFFu) != 0;
}

/* Writes the group at element `e`, or adds to it. */
__device__ __forceinline__ void write_group(const axes &space, const operand &o, int64_t e, float *x, bool add)
{
    const int64_t at = group_offset(space, o, e);
    if (o.at.dtype == GRD_BOOL) {
        uint32_t low = 0, high = 0;
#pragma unroll
        for (int k = 0; k < 4; k++) low |= (x[k] != 0) << (8 * k), high |= (x[k + 4] != 0) << (8 * k);
        *(uint64_t *)((uint8_t *)o.at.data + at) = (uint64_t)high << 32 | low;
        return;
    }
    if (add) {
        float old[WIDE];
        spread(o.at, read_wide(o.at, at), old);
#pragma unroll
        for (int k = 0; k < WIDE; k++) x[k] = old[k] + x[k];
    }
    write_wide(o.at, at, x);
}

#endif
