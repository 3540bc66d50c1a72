/* strides.c - strides of row-major tensors. */
#include "backend/backend.h"

void grdi_row_major(grd_dims dims, int64_t *stride)
{
    int64_t step = 1;
    for (int32_t axis = dims.rank - 1; axis >= 0; axis--) {
        stride[axis] = step;
        step *= dims.dim[axis];
    }
}

/* The stride of an axis of size 1 is never used, and nothing of an empty tensor is. */
bool grdi_is_row_major(grd_dims dims, const int64_t *stride)
{
    int64_t step = 1;
    bool same = true;
    for (int32_t axis = dims.rank - 1; axis >= 0; axis--) {
        if (dims.dim[axis] == 0)
            return true;
        same &= dims.dim[axis] == 1 || stride[axis] == step;
        step *= dims.dim[axis];
    }
    return same;
}
