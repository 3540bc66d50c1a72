/* kernels.c - all kernels of the device, and the search for the one that takes a call. An op that none takes is refused
 * when the plan is made, by name: nothing falls back to the host. */
#include "cuda.h"

#include <string.h>

typedef const grdi_kernel *const *kernel_table;

#define GRDI_KERNELS(family) extern const grdi_kernel *const grdi_cuda_kernels_##family[];
#include "kernels.def"
#undef GRDI_KERNELS

#define GRDI_KERNELS(family) grdi_cuda_kernels_##family,
static const kernel_table tables[] = {
#include "kernels.def"
    NULL};
#undef GRDI_KERNELS

const grdi_kernel *grdi_cuda_find(grdi_device *device, const grdi_call *call)
{
    (void)device;
    for (const kernel_table *table = tables; *table; table++)
        for (kernel_table entry = *table; *entry; entry++)
            if (strcmp((*entry)->op, call->op->name) == 0 && (*entry)->supports(call)) return *entry;
    return NULL;
}

static double bytes_of(const grdi_view *view)
{
    return (double)grd_dims_count(view->dims) * (double)grd_dtype_size(view->dtype);
}

double grdi_cuda_bytes(const grdi_call *call)
{
    double bytes = 0;
    for (int32_t i = 0; i < call->input_count; i++) bytes += bytes_of(&call->in[i]);
    for (int32_t o = 0; o < call->output_count; o++)
        bytes += bytes_of(&call->out[o]) * (call->may_accumulate[o] ? 2 : 1);
    return bytes;
}
