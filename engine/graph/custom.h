/* custom.h - ops that a program registered with an engine (gradus/custom.h), as the engine sees them. */
#ifndef GRDI_CUSTOM_H
#define GRDI_CUSTOM_H

#include "graph/model.h"

#include <gradus/custom.h>

typedef struct grdi_custom_op {
    grdi_op op; /* first, so that its functions find their definition from the op they are called for */
    grd_op_definition definition;
    grdi_region region; /* name and attributes */
    struct grdi_custom_op *next;
} grdi_custom_op;

/* The engine's registered op of that name or NULL. */
const grdi_op *grdi_custom_find(const grd_engine *engine, const char *name);
/* The registered op behind `op`; NULL for a built-in one. */
const grdi_custom_op *grdi_custom_of(const grd_engine *engine, const grdi_op *op);
int32_t grdi_custom_count(const grd_engine *engine);
/* Frees all; graphs that use them are freed before. */
void grdi_custom_free(grd_engine *engine);
/* Copies as the public headers write types. */
void grdi_custom_types(const grdi_type *from, int32_t count, grd_type *to);

#endif
