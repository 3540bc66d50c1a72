/* host.c - what the plugin uses of the engine, through the table that it is given: the plugin links nothing of it. */
#include "host.h"

static const grdi_host *host;

bool grdi_host_accept(const grdi_host *given)
{
    static const grdi_host own = {GRDI_HOST_SIZES};
    if (given->size_bytes != own.size_bytes || given->call_bytes != own.call_bytes ||
        given->kernel_bytes != own.kernel_bytes || given->backend_bytes != own.backend_bytes)
        return false;
    host = given;
    return true;
}

void *grdi_alloc_zero(size_t count, size_t size_bytes)
{
    return host->alloc_zero(count, size_bytes);
}
void grdi_free(void *memory)
{
    host->release(memory);
}
int64_t grdi_attr_int(const grd_attr *attrs, const char *name)
{
    return host->attr_int(attrs, name);
}
double grdi_attr_float(const grd_attr *attrs, const char *name)
{
    return host->attr_float(attrs, name);
}
const grd_attr *grdi_attr_ints(const grd_attr *attrs, const char *name)
{
    return host->attr_ints(attrs, name);
}
const grdi_op *grdi_op_at(int32_t index)
{
    return host->op_at(index);
}
