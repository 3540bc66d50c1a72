/* addresses.h - memory of devices that only plan: addresses that nobody may touch. */
#ifndef GRDI_ADDRESSES_H
#define GRDI_ADDRESSES_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The first one, 16 TiB. */
#define GRDI_ADDRESSES_FIRST ((uintptr_t)1 << 44)

/* Addresses are handed out upwards and never again; a plan cannot ask for more than fits below 2^62. NULL: it did. */
static inline void *grdi_addresses_take(uintptr_t *next, size_t size_bytes)
{
    size_t room = ((uintptr_t)1 << 62) - *next;
    if (size_bytes >= room - 64) return NULL;
    void *memory = (void *)*next;
    *next += (size_bytes + 64) / 64 * 64;
    return memory;
}

#ifdef __cplusplus
}
#endif

#endif
