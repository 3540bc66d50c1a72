/* scatter.h - values added where ids say, without atomics. */
#ifndef GRDI_CUDA_SCATTER_H
#define GRDI_CUDA_SCATTER_H

#include "backend/backend.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Enqueues out[.., id, ..] += from, id being that of ids at the same place, along `axis`. ids (i32) and from are
 * row-major and of one shape, which lies inside that of out but for the axis. Sums are made in the order of the ids.
 * `out` is f32 or i32, of from's dtype (bf16 is read into f32). Ids that out does not have are left out. */
grd_status grdi_cuda_scatter_add(const grdi_call *call, const grdi_view *out, const grdi_view *ids,
                                 const grdi_view *from, int32_t axis);

#ifdef __cplusplus
}
#endif
#endif
