/* space.h - the index space of a call: its axes, merged where all operands allow it, and a walk over them. */
#ifndef GRDI_SPACE_H
#define GRDI_SPACE_H

#include "backend/backend.h"

enum { GRDI_OPERANDS_MAX = GRDI_INPUTS_MAX + GRDI_OUTPUTS_MAX };

typedef struct grdi_space {
    int32_t rank, operands;
    int64_t dim[GRD_RANK_MAX];
    int64_t stride[GRDI_OPERANDS_MAX][GRD_RANK_MAX]; /* in elements; 0 along axes that an operand repeats */
} grdi_space;

static inline void grdi_space_start(grdi_space *space, grd_dims dims)
{
    space->rank = dims.rank;
    space->operands = 0;
    for (int32_t axis = 0; axis < dims.rank; axis++)
        space->dim[axis] = dims.dim[axis];
}

/* Adds an operand, broadcast as in NumPy: axes are matched from the last one. */
static inline void grdi_space_add(grdi_space *space, const grdi_view *view)
{
    int64_t *stride = space->stride[space->operands++];
    int32_t missing = space->rank - view->dims.rank;
    for (int32_t axis = 0; axis < space->rank; axis++)
        stride[axis] = axis < missing || view->dims.dim[axis - missing] == 1 ? 0 : view->stride[axis - missing];
}

/* Drops axes of size 1 and merges neighbours through which every operand runs with one stride. */
static inline void grdi_space_merge(grdi_space *space)
{
    int32_t rank = 0;
    for (int32_t axis = 0; axis < space->rank; axis++) {
        if (space->dim[axis] == 1)
            continue;
        bool merges = rank > 0;
        for (int32_t o = 0; merges && o < space->operands; o++)
            merges = space->stride[o][rank - 1] == space->stride[o][axis] * space->dim[axis];
        int32_t to = merges ? rank - 1 : rank++;
        space->dim[to] = merges ? space->dim[to] * space->dim[axis] : space->dim[axis];
        for (int32_t o = 0; o < space->operands; o++)
            space->stride[o][to] = space->stride[o][axis];
    }
    space->rank = rank;
}

static inline int64_t grdi_space_count(const grdi_space *space, int32_t rank)
{
    int64_t count = 1;
    for (int32_t axis = 0; axis < rank; axis++)
        count *= space->dim[axis];
    return count;
}

/* Whether an operand lies row-major over the whole space. */
static inline bool grdi_space_contiguous(const grdi_space *space, int32_t operand)
{
    int64_t step = 1;
    for (int32_t axis = space->rank - 1; axis >= 0; axis--) {
        if (space->stride[operand][axis] != step)
            return false;
        step *= space->dim[axis];
    }
    return true;
}

/* A place in the first `rank` axes, with the offset of each operand there. */
typedef struct grdi_walk {
    const grdi_space *space;
    int32_t rank;
    int64_t index[GRD_RANK_MAX];
    int64_t offset[GRDI_OPERANDS_MAX];
} grdi_walk;

static inline void grdi_walk_start(grdi_walk *walk, const grdi_space *space, int32_t rank, int64_t position)
{
    walk->space = space;
    walk->rank = rank;
    for (int32_t o = 0; o < space->operands; o++)
        walk->offset[o] = 0;
    for (int32_t axis = rank - 1; axis >= 0; axis--) {
        walk->index[axis] = position % space->dim[axis];
        position /= space->dim[axis];
        for (int32_t o = 0; o < space->operands; o++)
            walk->offset[o] += walk->index[axis] * space->stride[o][axis];
    }
}

static inline void grdi_walk_next(grdi_walk *walk)
{
    const grdi_space *space = walk->space;
    for (int32_t axis = walk->rank - 1; axis >= 0; axis--) {
        bool wraps = ++walk->index[axis] == space->dim[axis];
        int64_t steps = wraps ? 1 - space->dim[axis] : 1;
        for (int32_t o = 0; o < space->operands; o++)
            walk->offset[o] += steps * space->stride[o][axis];
        if (!wraps)
            return;
        walk->index[axis] = 0;
    }
}

#endif
