/* axis.h - walking row-major arrays in shape rules and references: by axis, and by coordinates. */
#ifndef GRDI_AXIS_H
#define GRDI_AXIS_H

#include <gradus/base.h>

/* A shape seen from one axis: element (o, i, n) lies at (o * size + i) * inner + n. */
typedef struct grdi_axis {
    int64_t outer, size, inner;
} grdi_axis;

/* `axis` may be negative; it must be in range. */
static inline grdi_axis grdi_axis_of(grd_dims dims, int64_t axis)
{
    if (axis < 0) axis += dims.rank;
    grdi_axis a = {1, dims.dim[axis], 1};
    for (int32_t i = 0; i < dims.rank; i++) {
        if (i < axis) a.outer *= dims.dim[i];
        if (i > axis) a.inner *= dims.dim[i];
    }
    return a;
}

/* The coordinates of row-major element `index`, and back. */
static inline void grdi_unravel(grd_dims dims, int64_t index, int64_t *coordinate)
{
    for (int32_t i = dims.rank - 1; i >= 0; i--) {
        coordinate[i] = index % dims.dim[i];
        index /= dims.dim[i];
    }
}

static inline int64_t grdi_ravel(grd_dims dims, const int64_t *coordinate)
{
    int64_t index = 0;
    for (int32_t i = 0; i < dims.rank; i++) index = index * dims.dim[i] + coordinate[i];
    return index;
}

#endif
