/* null.c - backend `null`: a device to plan for without having it. Its memory is addresses that nobody may touch, its
 * kernels are the CPU's (so scratch sizes and in-place rules are real), and its rates come from the profile that the
 * name asks for. It stands in for a GPU where the CUDA plugin, whose planner plans from its own kernels, is not built
 * (backend/registry.c): memory is then about right, launches are the CPU's. */
#include "backend/addresses.h"
#include "backend/backend.h"
#include "backend/cpu/cpu.h"
#include "backend/profiles.h"
#include "base/memory.h"

#include <string.h>

typedef struct profile {
    const char *name, *kind;
    grdi_rates rates;
} profile;

static const profile profiles[] = {
    /* One core of a 2.4 GHz server with AVX2 per thread: 80% of 2 fused multiply-adds of 8 lanes a cycle; memory as
       such cores share it. */
    {"cpu",
     "null cpu",
     {.matmul_flops_per_s = 60e9,
      .matmul_bf16_flops_per_s = 30e9,
      .copy_bytes_per_s = 10e9,
      .map_flops_per_s = 2e9,
      .launch_s = 2e-6}},
    /* This processor, measured when rates are asked for. */
    {"host", "null host", {.matmul_flops_per_s = 0}},
};

struct grdi_device {
    profile profile;
    int32_t threads;
    uintptr_t next;
    const grdi_profile *gpu;
    grdi_kernel attention, attention_backward; /* on a GPU: the CPU's, at the rate of the GPU's */
};

static grd_status unknown(const char *argument, grd_error *error)
{
    char names[128] = "null:host, null:cpu";
    const grdi_profile *gpu;
    for (int32_t i = 0; (gpu = grdi_profile_at(i)); i++)
        snprintf(names + strlen(names), sizeof names - strlen(names), ", null:%s", gpu->name);
    return grd_fail(error, GRD_E_DEVICE, "device 'null:%s': no such profile (use %s)", argument, names);
}

/* "cpu", or "cpu:tf32", which is the same: only GPUs have such modes. */
static bool is_named(const char *argument, const char *name)
{
    size_t length = strlen(name);
    grdi_modes modes;
    bool starts = strncmp(argument, name, length) == 0;
    return starts &&
           (argument[length] == '\0' || (argument[length] == ':' && grdi_modes_read(argument + length + 1, &modes)));
}

static grd_status open_device(const char *argument, int32_t threads, grdi_device **device, grd_error *error)
{
    const profile *found = NULL;
    grdi_modes modes;
    const grdi_profile *gpu = grdi_profile_asked(argument, &modes);
    for (size_t i = 0; i < sizeof profiles / sizeof *profiles; i++)
        if (is_named(argument, profiles[i].name)) found = &profiles[i];
    if (!found && !gpu) return unknown(argument, error);
    *device = grdi_alloc_zero(1, sizeof **device);
    if (!*device) return grd_fail(error, GRD_E_MEMORY, "device 'null:%s': out of memory", argument);
    **device = (grdi_device){.threads = threads < 1 || gpu ? 1 : threads, .next = GRDI_ADDRESSES_FIRST};
    (*device)->gpu = gpu;
    (*device)->profile = gpu ? (profile){gpu->name, gpu->device, grdi_profile_rates(gpu, modes.tf32)} : *found;
    return GRD_OK;
}

static void close_device(grdi_device *device)
{
    grdi_free(device);
}

static const char *kind(grdi_device *device)
{
    return device->profile.kind;
}

static void *allocate(grdi_device *device, size_t size_bytes)
{
    return grdi_addresses_take(&device->next, size_bytes);
}

static double attention_part(const grdi_call *call)
{
    return grdi_gpu_attention_part(call->device->gpu, call);
}

/* GPUs take f16 wherever they take bf16, and plans are made of the CPU's kernels, which do not. */
static const grdi_kernel *find_as_bf16(const grdi_call *call)
{
    grdi_call other = *call;
    for (int32_t i = 0; i < call->input_count; i++)
        if (call->in[i].dtype == GRD_F16) other.in[i].dtype = GRD_BF16;
    for (int32_t o = 0; o < call->output_count; o++)
        if (call->out[o].dtype == GRD_F16) other.out[o].dtype = GRD_BF16;
    return grdi_cpu_find(grdi_isa_best(), &other);
}

static const grdi_kernel *find(grdi_device *device, const grdi_call *call)
{
    const grdi_kernel *kernel = device->gpu ? find_as_bf16(call) : grdi_cpu_find(grdi_isa_best(), call);
    bool forward = strcmp(call->op->name, "attention") == 0;
    bool own_rate = device->gpu && (forward || strcmp(call->op->name, "attention_backward") == 0);
    if (!own_rate || !kernel || !kernel->rate_part_of) return kernel; /* the reference has none */
    grdi_kernel *own = forward ? &device->attention : &device->attention_backward;
    *own = *kernel;
    own->rate_part_of = attention_part;
    return own;
}

static grd_status measure_host(int32_t threads, grdi_rates *rates)
{
    grdi_device *host;
    grd_status status = grdi_backend_cpu.open("", threads, &host, NULL);
    if (status) return status;
    status = grdi_backend_cpu.rates(host, rates);
    grdi_backend_cpu.close(host);
    return status;
}

static grd_status rates(grdi_device *device, grdi_rates *rates)
{
    if (device->profile.rates.matmul_flops_per_s == 0) return measure_host(device->threads, rates);
    *rates = device->profile.rates;
    rates->matmul_flops_per_s *= device->threads;
    rates->matmul_bf16_flops_per_s *= device->threads;
    rates->map_flops_per_s *= device->threads;
    return GRD_OK;
}

/* As this processor, or as the profile's rates say. */
static bool fast_bf16(grdi_device *device)
{
    const grdi_rates *r = &device->profile.rates;
    return r->matmul_flops_per_s == 0 ? grdi_backend_cpu.fast_bf16(NULL)
                                      : r->matmul_bf16_flops_per_s > r->matmul_flops_per_s;
}

static bool copies_rounded(grdi_device *device)
{
    const grdi_rates *r = &device->profile.rates;
    return r->matmul_flops_per_s == 0 ? grdi_backend_cpu.copies_rounded(NULL) : fast_bf16(device);
}

static size_t memory_bytes(grdi_device *device)
{
    return device->gpu ? grdi_profile_memory(device->gpu) : 0;
}

const grdi_backend grdi_backend_null = {
    .name = "null",
    .open = open_device,
    .close = close_device,
    .kind = kind,
    .allocate = allocate,
    .release = grdi_addresses_release,
    .upload = grdi_addresses_upload,
    .download = grdi_addresses_download,
    .find = find,
    .rates = rates,
    .fast_bf16 = fast_bf16,
    .copies_rounded = copies_rounded,
    .memory_bytes = memory_bytes,
    .takes_modes = true,
    .runs = false,
};
