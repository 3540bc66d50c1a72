/* registry.c - the backends by name, and strides of row-major tensors. */
#include "backend/backend.h"

#include <string.h>

static const grdi_backend *const backends[] = {&grdi_backend_cpu, &grdi_backend_ref, &grdi_backend_null};

const grdi_backend *grdi_backend_find(const char *device, const char **argument)
{
    size_t length = strcspn(device, ":");
    for (size_t i = 0; i < sizeof backends / sizeof *backends; i++) {
        const char *name = backends[i]->name;
        if (strlen(name) == length && strncmp(name, device, length) == 0) {
            *argument = device[length] ? device + length + 1 : "";
            return backends[i];
        }
    }
    return NULL;
}

void grdi_row_major(grd_dims dims, int64_t *stride)
{
    int64_t step = 1;
    for (int32_t axis = dims.rank - 1; axis >= 0; axis--) {
        stride[axis] = step;
        step *= dims.dim[axis];
    }
}

/* The stride of an axis of size 1 is never used, and nothing of an empty tensor is. */
bool grdi_is_row_major(grd_dims dims, const int64_t *stride)
{
    int64_t step = 1;
    bool same = true;
    for (int32_t axis = dims.rank - 1; axis >= 0; axis--) {
        if (dims.dim[axis] == 0)
            return true;
        same &= dims.dim[axis] == 1 || stride[axis] == step;
        step *= dims.dim[axis];
    }
    return same;
}
