/* copy.h - copies between layouts and dtypes, for kernels that need their operands otherwise than they come. */
#ifndef GRDI_CUDA_COPY_H
#define GRDI_CUDA_COPY_H

#include "backend/backend.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Enqueues to = from (or to += from), shapes alike, on the stream of `call`. Dtypes as grdi_cuda_copies() says. */
grd_status grdi_cuda_copy(const grdi_call *call, const grdi_view *to, const grdi_view *from, bool accumulate);
/* Whether there is a conversion between them. */
bool grdi_cuda_copies(grd_dtype from, grd_dtype to);

#ifdef __cplusplus
}
#endif
#endif
