/* profiles.c - published rates of GPUs. Sources, by row: NVIDIA's datasheets "A100 80GB" (2021), "H100" (SXM, 2023),
 * "H200" (SXM, 2024), "HGX B200" (2024), "L4" (2023); architecture whitepapers "GA102" v2.1 (2021), "Ada" v1.1 (2022),
 * "RTX Blackwell" v1.1 (2025) for the GeForce cards, where bf16 is the rate with sums in f32. None is measured here.
 * Memory is what nvidia-smi shows of such a card; shared memory by compute capability is in the "CUDA C++ Programming
 * Guide", technical specifications.
 * mma.sync has two thirds of Hopper's peak (Shah et al., "FlashAttention-3", 2024); for B200, half of that is assumed.
 */
#include "backend/profiles.h"

#include <stdio.h>
#include <string.h>

#define TERA 1e12
#define PRODUCT_PART 0.75  /* of the peak that large products reach */
enum { DRIVER_MIB = 768 }; /* the context of a process and cuBLASLt's workspace: an estimate until it is measured */
static const grdi_profile profiles[] = {
    {"a100", "A100", 19.5 * TERA, 312 * TERA, 2.039 * TERA, 81920, 108, 80, 163, 1},
    {"h100", "H100", 66.9 * TERA, 989.4 * TERA, 3.352 * TERA, 81559, 132, 90, 227, 2.0 / 3},
    {"h200", "H200", 66.9 * TERA, 989.4 * TERA, 4.8 * TERA, 143771, 132, 90, 227, 2.0 / 3},
    {"b200", "B200", 75 * TERA, 2250 * TERA, 7.7 * TERA, 183359, 148, 100, 227, 1.0 / 3},
    {"l4", "L4", 30.3 * TERA, 121 * TERA, 0.3 * TERA, 23034, 58, 89, 99, 1},
    {"rtx3090", "RTX 3090", 35.6 * TERA, 71 * TERA, 0.936 * TERA, 24576, 82, 86, 99, 1},
    {"rtx4090", "RTX 4090", 82.6 * TERA, 165.2 * TERA, 1.008 * TERA, 24564, 128, 89, 99, 1},
    {"rtx5090", "RTX 5090", 104.8 * TERA, 209.5 * TERA, 1.792 * TERA, 32607, 170, 120, 99, 1},
};
enum { PROFILES = sizeof profiles / sizeof *profiles };

const grdi_profile *grdi_profile_at(int32_t index)
{
    return index >= 0 && index < PROFILES ? &profiles[index] : NULL;
}

const grdi_profile *grdi_profile_named(const char *name)
{
    for (int32_t i = 0; i < PROFILES; i++)
        if (strcmp(profiles[i].name, name) == 0) return &profiles[i];
    return NULL;
}

const grdi_profile *grdi_profile_asked(const char *argument, grdi_modes *modes)
{
    char name[32];
    const char *rest = strchr(argument, ':');
    if (!grdi_modes_read(rest ? rest + 1 : "", modes) ||
        snprintf(name, sizeof name, "%.*s", (int)strcspn(argument, ":"), argument) >= (int)sizeof name)
        return NULL;
    return grdi_profile_named(name);
}

size_t grdi_profile_memory(const grdi_profile *profile)
{
    return (size_t)(profile->memory_mib - DRIVER_MIB) << 20;
}

const grdi_profile *grdi_profile_of_device(const char *device)
{
    for (int32_t i = 0; i < PROFILES; i++) {
        const char *found = strstr(device, profiles[i].device);
        char next = found ? found[strlen(profiles[i].device)] : 'x';
        if (next == '\0' || next == ' ' || next == '-') return &profiles[i]; /* "L40S" is no "L4" */
    }
    return NULL;
}

/* Kernels on tensor cores (bf16, heads of one size): the part of mma.sync's rate that counted turns of tensor cores,
 * shared memory and exponentials leave them, causal tiles that are computed and not seen, and seven products instead of
 * five in the gradient; the arithmetic is in docs/LOG.md. Plain cores read shared memory twice for each multiplication.
 * Assumptions until they are measured. */
double grdi_gpu_attention_part(const grdi_profile *profile, const grdi_call *call)
{
    bool forward = strcmp(call->op->name, "attention") == 0;
    const grdi_view *q = &call->in[forward ? 0 : 1], *v = &call->in[forward ? 2 : 3];
    int64_t width = q->dims.dim[3];
    if (q->dtype != GRD_BF16) return 0.1;
    if (width != v->dims.dim[3] || width % 8 || width > 128) return 0.01;
    double mma = (profile ? profile->mma_part : 2.0 / 3) / PRODUCT_PART;
    if (width > 64) return mma * (forward ? 0.34 : 0.23);
    return mma * (forward ? 0.41 : 0.27);
}

/* Large products of bf16 reach about three quarters of the published peak on these cards, copies nine tenths of the
 * memory's; a call out of a captured graph costs about a microsecond and a half. Tensor cores make half as many
 * products in tf32 as in bf16, on all of them. Assumptions until they are measured. */
grdi_rates grdi_profile_rates(const grdi_profile *p, bool tf32)
{
    return (grdi_rates){.matmul_flops_per_s = PRODUCT_PART * (tf32 ? 0.5 * p->bf16_flops_per_s : p->f32_flops_per_s),
                        .matmul_bf16_flops_per_s = PRODUCT_PART * p->bf16_flops_per_s,
                        .copy_bytes_per_s = 0.9 * p->memory_bytes_per_s,
                        .map_flops_per_s = 0.5 * p->f32_flops_per_s,
                        .launch_s = 1.5e-6};
}
