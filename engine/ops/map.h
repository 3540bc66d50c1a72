/* map.h - what element-by-element (MAP) ops share: shape rules with broadcasting, the reference made from `scalar`. */
#ifndef GRDI_MAP_H
#define GRDI_MAP_H

#include "graph/op.h"

/* Shape rules: all inputs have one dtype and broadcast to output 0. */
bool grdi_map_shape(grdi_infer *c);         /* float -> the same */
bool grdi_map_shape_number(grdi_infer *c);  /* float or integer -> the same */
bool grdi_map_shape_any(grdi_infer *c);     /* any dtype -> the same */
bool grdi_map_shape_logic(grdi_infer *c);   /* bool -> bool */
bool grdi_map_shape_compare(grdi_infer *c); /* number -> bool */
bool grdi_map_shape_equal(grdi_infer *c);   /* any dtype -> bool */

/* Whether input `i` is a number (not bool); if not, an error. */
bool grdi_infer_number(grdi_infer *c, int32_t i);
/* Whether `dtype` can hold `value` once what follows the point is cut off; if not, an error that calls it `what`. */
bool grdi_infer_holds(grdi_infer *c, grd_dtype dtype, const char *what, double value);
/* Broadcasts all inputs' shapes together into out[0].dims. */
bool grdi_map_broadcast(grdi_infer *c);

/* The reference of every MAP op: output 0, element by element, from op->scalar. */
void grdi_map_reference(const grdi_reference *r);

/* Walks the elements of `dims` in row-major order; offset[i] is the element of input i (row-major, broadcast) that
 * goes with it. */
typedef struct grdi_map_walk {
    grd_dims dims;
    int32_t inputs;
    int64_t at[GRD_RANK_MAX];
    int64_t stride[GRDI_INPUTS_MAX][GRD_RANK_MAX]; /* 0 along broadcast axes */
    int64_t offset[GRDI_INPUTS_MAX];
} grdi_map_walk;
void grdi_map_walk_start(grdi_map_walk *walk, grd_dims dims, const grdi_type *in, int32_t inputs);
void grdi_map_walk_next(grdi_map_walk *walk);

/* The most registers (inputs and instructions) of a fused_map. */
#define GRDI_FUSED_REGISTERS_MAX 64

/* One instruction of a fused_map; args and values point into the code. */
typedef struct grdi_fused_step {
    const grdi_op *op;
    int32_t arg_count, attr_count;
    const int64_t *args, *values;
} grdi_fused_step;
/* Reads the instruction at *position and moves on; false at the end of the code or where it is damaged (*position <
 * count tells which). */
bool grdi_fused_next(const grd_attr *code, int32_t *position, grdi_fused_step *step);
/* The step's attributes as the op knows them; `attrs` ends with name NULL. */
void grdi_fused_attrs(const grdi_fused_step *step, grd_attr attrs[GRDI_ATTRS_MAX + 1]);

#endif
