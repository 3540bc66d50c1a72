/* profiles.h - devices that one can plan for without having them: what their makers say of them. */
#ifndef GRDI_PROFILES_H
#define GRDI_PROFILES_H

#include "backend/backend.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct grdi_profile {
    const char *name;                         /* as in "null:h100" */
    const char *device;                       /* a piece of what the driver calls it */
    double f32_flops_per_s, bf16_flops_per_s; /* published peaks, dense, sums in f32 */
    double memory_bytes_per_s;
    int32_t memory_mib;                  /* that its driver shows */
    int32_t multiprocessors, capability; /* 90 for sm_90 */
    int32_t shared_kib;                  /* of shared memory that a block may have at most */
    double mma_part; /* of the peak in bf16 that mma.sync reaches; newer cards need other instructions for all of it */
} grdi_profile;

/* By index, NULL past the last one; by name; by what the driver calls the device. */
const grdi_profile *grdi_profile_at(int32_t index);
const grdi_profile *grdi_profile_named(const char *name);
/* Of a device's argument, "h100" or "h100:tf32"; NULL where it is none. */
const grdi_profile *grdi_profile_asked(const char *argument, grdi_modes *modes);
const grdi_profile *grdi_profile_of_device(const char *device);
/* The part of the card's rate of products that attention or its gradient reaches (grdi_kernel.rate_part_of). `profile`
 * NULL: an unknown card. */
double grdi_gpu_attention_part(const grdi_profile *profile, const grdi_call *call);
/* What programs reach of the peaks, for the cost model; `tf32`: products of f32 are made in it. */
grdi_rates grdi_profile_rates(const grdi_profile *profile, bool tf32);
/* What plans may fill of the card's memory. */
size_t grdi_profile_memory(const grdi_profile *profile);

#ifdef __cplusplus
}
#endif

#endif
