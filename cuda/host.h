/* host.h - accepts the engine that opened the plugin. */
#ifndef GRDI_CUDA_HOST_H
#define GRDI_CUDA_HOST_H

#include "backend/plugin.h"

/* False where the engine is of another build. */
bool grdi_host_accept(const grdi_host *given);
void *grdi_alloc_zero(size_t count, size_t size_bytes);
void grdi_free(void *memory);

#endif
