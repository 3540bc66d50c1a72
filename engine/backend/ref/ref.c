/* ref.c - backend `ref`: host memory and the reference as its only kernel. Slow on purpose. */
#include "backend/backend.h"
#include "base/memory.h"

#include <string.h>

struct grdi_device {
    int32_t threads;
};

static grd_status open_device(const char *argument, int32_t threads, grdi_device **device, grd_error *error)
{
    if (argument[0])
        return grd_fail(error, GRD_E_ARGUMENT, "device 'ref:%s': ref takes no argument (use 'ref')", argument);
    *device = grdi_alloc_zero(1, sizeof **device);
    if (!*device)
        return grd_fail(error, GRD_E_MEMORY, "device 'ref': out of memory");
    (*device)->threads = threads;
    return GRD_OK;
}

static void close_device(grdi_device *device) { grdi_free(device); }

static const char *kind(grdi_device *device)
{
    (void)device;
    return "ref";
}

enum { ALIGN_BYTES = 64 };

/* The pointer to free lies in front of the block. */
static void *allocate(grdi_device *device, size_t size_bytes)
{
    (void)device;
    if (size_bytes > SIZE_MAX / 2)
        return NULL;
    char *raw = grdi_alloc_zero(1, size_bytes + ALIGN_BYTES + sizeof(void *));
    if (!raw)
        return NULL;
    char *memory = raw + sizeof(void *);
    memory += (ALIGN_BYTES - (uintptr_t)memory % ALIGN_BYTES) % ALIGN_BYTES;
    memcpy(memory - sizeof raw, &raw, sizeof raw);
    return memory;
}

static void release(grdi_device *device, void *memory, size_t size_bytes)
{
    (void)device, (void)size_bytes;
    if (!memory)
        return;
    void *raw;
    memcpy(&raw, (char *)memory - sizeof raw, sizeof raw);
    grdi_free(raw);
}

static void copy_in(grdi_device *device, void *to, const void *host, size_t size_bytes)
{
    (void)device;
    memcpy(to, host, size_bytes);
}

static void copy_out(grdi_device *device, void *host, const void *from, size_t size_bytes)
{
    (void)device;
    memcpy(host, from, size_bytes);
}

static const grdi_kernel *find(grdi_device *device, const grdi_call *call)
{
    (void)device;
    return grdi_reference_kernel.supports(call) ? &grdi_reference_kernel : NULL;
}

/* Nobody plans for speed here: round figures of scalar loops in double on one core, for predicted times of the right
 * order. */
static grd_status rates(grdi_device *device, grdi_rates *rates)
{
    (void)device;
    *rates = (grdi_rates){.matmul_flops_per_s = 1e9,
                          .matmul_bf16_flops_per_s = 1e9,
                          .copy_bytes_per_s = 1e9,
                          .map_flops_per_s = 1e8,
                          .launch_s = 1e-6};
    return GRD_OK;
}

const grdi_backend grdi_backend_ref = {
    .name = "ref",
    .open = open_device,
    .close = close_device,
    .kind = kind,
    .allocate = allocate,
    .release = release,
    .upload = copy_in,
    .download = copy_out,
    .find = find,
    .rates = rates,
    .runs = true,
};
