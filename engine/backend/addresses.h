/* addresses.h - memory of devices that only plan: addresses that nobody may touch. */
#ifndef GRDI_ADDRESSES_H
#define GRDI_ADDRESSES_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct grdi_device;

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

/* What a backend does with them: nothing; there is nothing but zeros to be read. */
static inline void grdi_addresses_release(struct grdi_device *device, void *memory, size_t size_bytes)
{
    (void)device, (void)memory, (void)size_bytes;
}

static inline void grdi_addresses_upload(struct grdi_device *device, void *to, const void *host, size_t size_bytes)
{
    (void)device, (void)to, (void)host, (void)size_bytes;
}

static inline void grdi_addresses_download(struct grdi_device *device, void *host, const void *from, size_t size_bytes)
{
    (void)device, (void)from;
    memset(host, 0, size_bytes);
}

#ifdef __cplusplus
}
#endif

#endif
