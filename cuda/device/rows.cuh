/* rows.cuh - kernels that give each row to one block: where rows lie, and how many threads they get. */
#ifndef GRDI_ROWS_CUH
#define GRDI_ROWS_CUH

#include "device/space.cuh"

/* The rows of a value along one axis. */
struct rows {
    axes space;     /* of the rows' starts */
    operand at;     /* over that space */
    int64_t stride; /* between elements of a row */
};

__device__ __forceinline__ int64_t start_of(const rows &r, int64_t row)
{
    return offset_of(r.space, r.at, row);
}

inline rows rows_of(const grdi_view &view, int32_t axis)
{
    grdi_space space = {};
    space.operands = 1;
    for (int32_t i = 0; i < view.dims.rank; i++) {
        if (i == axis) continue;
        space.dim[space.rank] = view.dims.dim[i];
        space.stride[0][space.rank++] = view.stride[i];
    }
    grdi_space_merge(&space);
    return rows{axes_of(space), operand_of(space, 0, view), view.stride[axis]};
}

/* Whole warps, about eight elements a thread. */
inline unsigned row_threads(int64_t count)
{
    return count <= 256 ? 32u : count <= 1024 ? 128u : count <= 8192 ? 256u : 512u;
}

enum { ROW_WARPS_MAX = 16 };
/* What block_sum and block_max work with. */
inline size_t row_shared_bytes()
{
    return shared_bytes_of(ROW_WARPS_MAX, sizeof(float));
}

#endif
