/* activation.h - activations where no epilogue of a product has them. */
#ifndef GRDI_CUDA_ACTIVATION_H
#define GRDI_CUDA_ACTIVATION_H

#include "backend/backend.h"

#include <gradus/ops_shape.h>

#ifdef __cplusplus
extern "C" {
#endif

/* to = activation(from), row-major; they may be the same memory. */
grd_status grdi_cuda_activate(const grdi_call *call, grd_activation activation, const grdi_view *to,
                              const grdi_view *from);

#ifdef __cplusplus
}
#endif
#endif
