/* activation.h - what follows products or goes along with them, where no epilogue has it. */
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
/* to = g gelu_tanh'(x), row-major; `to` and `g` may be the same memory. */
grd_status grdi_cuda_slope(const grdi_call *call, const grdi_view *to, const grdi_view *g, const grdi_view *x);
/* to [N] (+)= the sums of the columns of from [R,N], whose rows have no gaps inside; scratch of as many bytes as the
 * shape needs. */
size_t grdi_cuda_column_sums_bytes(const grdi_call *call, int64_t rows, int64_t columns);
grd_status grdi_cuda_column_sums(const grdi_call *call, const grdi_view *to, const grdi_view *from, void *scratch,
                                 bool add);

#ifdef __cplusplus
}
#endif
#endif
