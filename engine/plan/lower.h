/* lower.h - what the files of lowering share. */
#ifndef GRDI_LOWER_H
#define GRDI_LOWER_H

#include "plan/plan.h"

#include <string.h>

/* A part of a concat's output. */
typedef struct piece {
    grdi_node *concat; /* NULL: none */
    int32_t index;     /* which input of it */
} piece;

typedef struct lowering {
    grd_engine *engine;
    grdi_plan *plan;
    int32_t *uses;          /* reads of each value still to be lowered */
    const grdi_node **sink; /* by value: the assign whose target it may be written to directly */
    piece *pieces;          /* by value: the concat that it may be written into directly */
    bool *is_root;          /* by value */
    int32_t *assigns;       /* by value: assigns to it still to be lowered */
    int32_t *variables;     /* open hash of variables, a power of two: 1 + the buffer; 0: free */
    size_t variables_size;
    grdi_node **rounded;    /* by value: the cast to bf16 (f16) that alone reads it, so that it may be written so */
    grdi_variable **copied; /* parameters that are read rounded, by place; none unless the device gathers them */
    size_t copied_count;
    grdi_node **addends;    /* by value: the add that alone reads it */
    uint8_t *summed;        /* by node: 1 + the operand of an add that was made as its sum; 0: the add runs */
    grd_error *error;
} lowering;

static inline size_t slot(grd_tensor t)
{
    return (size_t)t.node->id * GRDI_OUTPUTS_MAX + (size_t)t.output;
}

static inline void row_major_value(grdi_value *value, int32_t buffer, grd_dtype dtype, grd_dims dims)
{
    value->buffer = buffer;
    value->dtype = dtype;
    value->rounded = GRD_F32;
    memset(&value->strides, 0, sizeof(value->strides));
    grdi_row_major(dims, value->strides.stride);
}

static inline void define(lowering *l, grd_tensor t, grdi_value value)
{
    *grdi_value_of(l->plan, t) = value;
    l->plan->buffers[value.buffer].uses_left += l->uses[slot(t)];
}

/* ---- sums.c: adds for which nothing runs ---- */

/* Finds the values that an add alone reads. */
void grdi_find_sums(lowering *l);
/* Where output `o` of the launch, value `t`, is made by adding to what lies there: in the other operand of the add that
 * reads it, if nobody else still needs that; -1: nowhere. Where the kernel adds from elsewhere, the launch is told. */
int32_t grdi_sum_buffer(lowering *l, grdi_launch *launch, grd_tensor t, int32_t o);
/* The value of an add whose operand was made so. */
void grdi_lower_sum(lowering *l, grdi_node *add);

#endif
