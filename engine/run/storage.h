/* storage.h - device memory for variables: parameters side by side in one block, in the order in which their gradients
 * become ready. */
#ifndef GRDI_STORAGE_H
#define GRDI_STORAGE_H

#include "graph/graph.h"

/* Gives every variable that has no place yet one, and parameters their initial values. Within a block, tensors of two
 * or more dimensions come before the others (weight decay then applies to one range), each in reverse order of
 * creation. */
grd_status grdi_model_place(grd_model *model, grd_error *error);
/* The bytes from a variable to the one behind it: a whole number of elements, which is the same for all dtypes, so that
 * a range of parameters in bf16 has as many as that of their gradients in f32. */
size_t grdi_variable_room(grdi_type type);
/* The number of its first element among those of its storage, were they all of its dtype; a multiple of 8. */
static inline int64_t grdi_variable_element(const grdi_variable *variable)
{
    return (int64_t)(variable->offset_bytes / grd_dtype_size(variable->type.dtype));
}
/* A variable that covers elements [first element of `from` .. last of `to`] of their storage, for one launch over many
 * tensors. */
grdi_variable *grdi_model_range(grd_model *model, grdi_variable *from, grdi_variable *to, grd_error *error);
/* Bytes of all storages of that kind. */
size_t grdi_model_bytes(const grd_model *model, grdi_variable_kind kind);
void grdi_model_release_storages(grd_model *model);

#endif
