/* space.cuh - the index space of a call as kernels see it: axes merged on the host (backend/space.h), offsets by
 * division on the device. */
#ifndef GRDI_SPACE_CUH
#define GRDI_SPACE_CUH

#include "backend/space.h"
#include "device/values.cuh"

struct axes {
    int32_t rank;
    int64_t dim[GRD_RANK_MAX];
};

/* How an operand lies over the space. */
enum lie { LIES_WHOLE, LIES_ONCE, LIES_STRIDED };

struct operand {
    cells at;
    int32_t lie;
    int64_t stride[GRD_RANK_MAX];
};

inline axes axes_of(const grdi_space &space)
{
    axes a = {space.rank, {0}};
    for (int32_t i = 0; i < space.rank; i++) a.dim[i] = space.dim[i];
    return a;
}

inline operand operand_of(const grdi_space &space, int32_t index, const grdi_view &view)
{
    operand o = {cells_of(view), LIES_STRIDED, {0}};
    bool once = true;
    for (int32_t i = 0; i < space.rank; i++) {
        o.stride[i] = space.stride[index][i];
        once &= o.stride[i] == 0;
    }
    if (grdi_space_contiguous(&space, index)) o.lie = LIES_WHOLE;
    else if (once) o.lie = LIES_ONCE;
    return o;
}

/* Where element `e` of the space lies in the operand. */
__device__ __forceinline__ int64_t offset_of(const axes &space, const operand &o, int64_t e)
{
    if (o.lie == LIES_WHOLE) return e;
    if (o.lie == LIES_ONCE) return 0;
    int64_t offset = 0;
    /* not unrolled: the code of a division is long, and most spaces have two axes */
    if (e <= 0x7FFFFFFF) { /* division of 32 bits is a fifth of the work */
        uint32_t left = (uint32_t)e;
#pragma unroll 1
        for (int32_t i = space.rank - 1; i > 0; i--) {
            uint32_t dim = (uint32_t)space.dim[i], next = left / dim;
            offset += (int64_t)(left - next * dim) * o.stride[i];
            left = next;
        }
        return offset + (int64_t)left * o.stride[0];
    }
#pragma unroll 1
    for (int32_t i = space.rank - 1; i > 0; i--) {
        int64_t next = e / space.dim[i];
        offset += (e - next * space.dim[i]) * o.stride[i];
        e = next;
    }
    return offset + e * o.stride[0];
}

#endif
