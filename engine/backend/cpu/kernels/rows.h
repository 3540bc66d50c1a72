/* rows.h - tensors [..., C] seen as rows: where each row begins in every operand, whatever the strides of the axes
 * before the last. */
#ifndef GRDI_ROWS_H
#define GRDI_ROWS_H

#include "backend/cpu/kernels/run.h"
#include "backend/space.h"

#include <string.h>

typedef struct grdi_rows {
    grdi_space space;
    int64_t count, width;
} grdi_rows;

/* The rows of `dims`, which has a last axis. */
static inline void grdi_rows_start(grdi_rows *rows, grd_dims dims)
{
    memset(rows, 0, sizeof *rows);
    rows->width = dims.dim[dims.rank - 1];
    dims.rank--;
    rows->count = grd_dims_count(dims);
    grdi_space_start(&rows->space, dims);
}

/* Adds a tensor [..., C], or one [...] with one value for each row; operands are numbered as they come. */
static inline void grdi_rows_add(grdi_rows *rows, const grdi_view *view, bool has_width)
{
    grdi_view outer = *view;
    outer.dims.rank -= has_width;
    grdi_space_add(&rows->space, &outer);
}

static inline void grdi_rows_finish(grdi_rows *rows) { grdi_space_merge(&rows->space); }

static inline void grdi_rows_walk(grdi_walk *walk, const grdi_rows *rows, int64_t row)
{
    grdi_walk_start(walk, &rows->space, rows->space.rank, row);
}

/* The row at `offset` as floats: where it lies, if it lies there as floats, else in `buffer`. */
static inline const float *grdi_row_read(const grdi_view *view, int64_t offset, int64_t width, float *buffer)
{
    if (view->dtype == GRD_F32)
        return (const float *)view->data + offset;
    grdi_run_load(buffer, grdi_run_at(view->data, view->dtype, offset), view->dtype, 1, width);
    return buffer;
}

/* Where to write the row at `offset`: its place, if that holds floats, else `buffer`, for grdi_row_written() to store.
 */
static inline float *grdi_row_write(const grdi_view *view, int64_t offset, float *buffer)
{
    return view->dtype == GRD_F32 ? (float *)view->data + offset : buffer;
}

static inline void grdi_row_written(const grdi_view *view, int64_t offset, int64_t width, const float *buffer)
{
    if (view->dtype != GRD_F32)
        grdi_run_store(grdi_run_at(view->data, view->dtype, offset), view->dtype, 1, buffer, width, false);
}

/* Floats between buffers of `width` floats: whole cache lines. */
static inline int64_t grdi_row_room(int64_t width) { return (width + 15) / 16 * 16; }

static inline bool grdi_is_activation(grd_dtype dtype) { return dtype == GRD_F32 || dtype == GRD_BF16; }

#endif
