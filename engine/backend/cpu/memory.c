/* memory.c - device memory of the CPU backend: large blocks on huge pages, small ones from the host's allocator. */
#include "backend/cpu/device.h"
#include "base/memory.h"

#include <string.h>
#include <sys/mman.h>

/* Out of cache, vector loops over 4 KiB pages lose a good part of their time to address translation. */
enum { ALIGN_BYTES = 64, HUGE_PAGE_BYTES = 2 << 20 };

static char *align_up(char *memory, size_t alignment)
{
    return memory + (alignment - (uintptr_t)memory % alignment) % alignment;
}

static void *allocate_large(grdi_device *device, size_t size_bytes)
{
    if (!GRDI_GROW(device->blocks, device->block_capacity, device->block_count))
        return NULL;
    size_t mapped_bytes =
        size_bytes + HUGE_PAGE_BYTES; /* the part in front of the boundary is never touched: no memory is lost */
    char *base = grdi_memory.map(mapped_bytes);
    if (!base)
        return NULL;
    char *memory = align_up(base, HUGE_PAGE_BYTES);
#ifdef MADV_HUGEPAGE
    madvise(memory, size_bytes, MADV_HUGEPAGE); /* a wish: refused on systems without them, to no harm */
#endif
    device->blocks[device->block_count++] = (grdi_mapped){memory, base, mapped_bytes};
    return memory;
}

/* The pointer to free lies in front of the block. */
static void *allocate_small(size_t size_bytes)
{
    char *raw = grdi_alloc_zero(1, size_bytes + ALIGN_BYTES + sizeof(void *));
    if (!raw)
        return NULL;
    char *memory = align_up(raw + sizeof raw, ALIGN_BYTES);
    memcpy(memory - sizeof raw, &raw, sizeof raw);
    return memory;
}

void *grdi_cpu_allocate(grdi_device *device, size_t size_bytes)
{
    if (size_bytes > PTRDIFF_MAX / 2)
        return NULL;
    return size_bytes >= HUGE_PAGE_BYTES ? allocate_large(device, size_bytes) : allocate_small(size_bytes);
}

void grdi_cpu_release(grdi_device *device, void *memory, size_t size_bytes)
{
    if (!memory)
        return;
    if (size_bytes < HUGE_PAGE_BYTES) {
        void *raw;
        memcpy(&raw, (char *)memory - sizeof raw, sizeof raw);
        grdi_free(raw);
        return;
    }
    for (size_t i = 0; i < device->block_count; i++) {
        if (device->blocks[i].memory == memory) {
            grdi_memory.unmap(device->blocks[i].base, device->blocks[i].size_bytes);
            device->blocks[i] = device->blocks[--device->block_count];
            return;
        }
    }
}

void grdi_cpu_upload(grdi_device *device, void *to, const void *host, size_t size_bytes)
{
    (void)device;
    memcpy(to, host, size_bytes);
}

void grdi_cpu_download(grdi_device *device, void *host, const void *from, size_t size_bytes)
{
    (void)device;
    memcpy(host, from, size_bytes);
}
