/* interpret.h - evaluates a graph node by node in the order it was built, each op by its reference, everything in
 * double and row-major. No planner, no backend: what gradients are compared with. */
#ifndef GRDI_INTERPRET_H
#define GRDI_INTERPRET_H

#include "graph/graph.h"

typedef struct grdi_interpreter grdi_interpreter;

/* For a graph that may still grow. NULL: out of memory. */
grdi_interpreter *grdi_interpreter_new(const grd_graph *graph);
void grdi_interpreter_free(grdi_interpreter *interpreter);
/* The value of an input, a parameter or a state; copied. */
grd_status grdi_interpreter_set(grdi_interpreter *interpreter, grd_tensor source, const double *data);
/* From now on what stop_gradient gives stays as it is, whatever becomes of its input: as gradients see it. */
void grdi_interpreter_hold_cuts(grdi_interpreter *interpreter);
/* Computes what the `wanted` need: of what was computed before, only what has changed since. Errors: a source without a
 * value, an op without a reference, no memory. */
grd_status grdi_interpreter_run(grdi_interpreter *interpreter, const grd_tensor *wanted, int32_t count,
                                grd_error *error);
/* The value computed last; NULL if it was not needed. */
const double *grdi_interpreter_get(const grdi_interpreter *interpreter, grd_tensor tensor);

#endif
