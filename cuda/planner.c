/* planner.c - devices that are not there: the plugin's own kernels for a card that a profile describes, so that plans
 * have its launches, scratch and layouts on any machine. There is no stream and no library: products are taken to be
 * possible, and cuDNN, whose workspaces and engines only it knows, counts as missing. Memory is addresses. */
#include "backend/addresses.h"
#include "backend/profiles.h"
#include "cuda.h"

#include <stdio.h>
#include <string.h>

static grd_status open_planned(const char *argument, int32_t threads, grdi_device **opened, grd_error *error)
{
    grdi_modes modes;
    const grdi_profile *card = grdi_profile_asked(argument, &modes);
    (void)threads;
    if (!card) return grd_fail(error, GRD_E_DEVICE, "device 'null:%.64s': no such profile", argument);
    grdi_device *device = grdi_alloc_zero(1, sizeof *device);
    if (!device) return grd_fail(error, GRD_E_MEMORY, "device 'null:%.64s': out of memory", argument);
    device->planned = card;
    device->next_address = GRDI_ADDRESSES_FIRST;
    device->multiprocessors = card->multiprocessors;
    device->capability = card->capability;
    device->shared_bytes = (size_t)card->shared_kib << 10;
    device->modes = modes;
    device->lt.numbers = grdi_addresses_take(&device->next_address, 2 * sizeof(float));
    snprintf(device->kind, sizeof device->kind, "%s sm_%d x%d%s", card->device, (int)card->capability,
             (int)card->multiprocessors, grdi_modes_text(modes));
    *opened = device;
    return GRD_OK;
}

static void close_planned(grdi_device *device)
{
    grdi_free(device);
}

static const char *kind(grdi_device *device)
{
    return device->kind;
}

static void *allocate(grdi_device *device, size_t size_bytes)
{
    return grdi_addresses_take(&device->next_address, size_bytes);
}

static size_t memory_bytes(grdi_device *device)
{
    return grdi_profile_memory(device->planned);
}

const grdi_backend grdi_cuda_planner = {.name = "cuda",
                                        .open = open_planned,
                                        .close = close_planned,
                                        .kind = kind,
                                        .allocate = allocate,
                                        .release = grdi_addresses_release,
                                        .upload = grdi_addresses_upload,
                                        .download = grdi_addresses_download,
                                        .find = grdi_cuda_find,
                                        .rates = grdi_cuda_rates,
                                        .fast_bf16 = grdi_cuda_fast_bf16,
                                        .gathers_copies = true,
                                        .count_calls = grdi_cuda_count_calls,
                                        .memory_bytes = memory_bytes,
                                        .takes_modes = true};
