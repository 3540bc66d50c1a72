/* custom.h - the kernel of ops that a program registered. */
#ifndef GRDI_PLAN_CUSTOM_H
#define GRDI_PLAN_CUSTOM_H

#include "backend/backend.h"
#include "graph/model.h"

/* The kernel that runs the call's kernel_f32; NULL for built-in ops, for definitions without one, for other dtypes and
 * for devices that are not the host. */
const grdi_kernel *grdi_custom_kernel(const grd_engine *engine, const grdi_call *call);

#endif
