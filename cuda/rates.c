/* rates.c - how fast the device is, for the cost model: its published profile, or, for a card that has none here, an
 * estimate from its multiprocessors (128 fused multiply-adds a cycle each at 1.5 GHz; tensor cores eight times that).
 */
#include "backend/profiles.h"
#include "cuda.h"

grd_status grdi_cuda_rates(grdi_device *device, grdi_rates *rates)
{
    const grdi_profile *known = grdi_profile_of_device(device->kind);
    double f32 = 2.0 * 128 * 1.5e9 * device->multiprocessors;
    const grdi_profile guess = {.name = "",
                                .device = "",
                                .f32_flops_per_s = f32,
                                .bf16_flops_per_s = 8 * f32,
                                .memory_bytes_per_s = 8e9 * device->multiprocessors};
    *rates = grdi_profile_rates(known ? known : &guess, device->modes.tf32);
    return GRD_OK;
}
