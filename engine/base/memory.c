/* memory.c - host memory: the table, overflow-checked allocation, formatted text, regions, growing arrays. */
#include "base/memory.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static void *map_pages(size_t size_bytes)
{
    void *memory = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

static void unmap_pages(void *memory, size_t size_bytes) { munmap(memory, size_bytes); }

grdi_memory_table grdi_memory = {
    .allocate = malloc, .resize = realloc, .release = free, .map = map_pages, .unmap = unmap_pages};

/* False when the product does not fit into what an allocation may hold. */
static bool product_fits(size_t count, size_t size_bytes, size_t *product)
{
    if (size_bytes && count > SIZE_MAX / size_bytes)
        return false;
    *product = count * size_bytes;
    return *product <= PTRDIFF_MAX;
}

void *grdi_alloc(size_t size_bytes)
{
    if (size_bytes > PTRDIFF_MAX)
        return NULL;
    return grdi_memory.allocate(size_bytes ? size_bytes : 1);
}

void *grdi_alloc_zero(size_t count, size_t size_bytes)
{
    size_t total;
    if (!product_fits(count, size_bytes, &total))
        return NULL;
    void *memory = grdi_alloc(total);
    if (memory)
        memset(memory, 0, total);
    return memory;
}

void *grdi_realloc(void *old, size_t count, size_t size_bytes)
{
    size_t total;
    if (!product_fits(count, size_bytes, &total))
        return NULL;
    return grdi_memory.resize(old, total ? total : 1);
}

void grdi_free(void *memory)
{
    if (memory)
        grdi_memory.release(memory);
}

char *grdi_strdup(const char *text)
{
    size_t size_bytes = strlen(text) + 1;
    char *copy = grdi_alloc(size_bytes);
    if (copy)
        memcpy(copy, text, size_bytes);
    return copy;
}

static char *format_into(grdi_region *region, const char *format, va_list arguments)
{
    va_list again;
    va_copy(again, arguments);
    int length = vsnprintf(NULL, 0, format, arguments);
    char *text = NULL;
    if (length >= 0) {
        size_t size_bytes = (size_t)length + 1;
        text = region ? grdi_region_alloc(region, size_bytes) : grdi_alloc(size_bytes);
        if (text)
            vsnprintf(text, size_bytes, format, again);
    }
    va_end(again);
    return text;
}

char *grdi_format(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    char *text = format_into(NULL, format, arguments);
    va_end(arguments);
    return text;
}

/* Blocks start small and double, so that a small graph costs little and a large one few allocations. */
enum { REGION_FIRST_BYTES = 4096, REGION_LARGEST_BYTES = 1 << 20, REGION_ALIGN = 16 };

struct grdi_region_block {
    struct grdi_region_block *older;
    size_t used, capacity; /* of bytes */
    _Alignas(REGION_ALIGN) unsigned char bytes[];
};

static bool region_add_block(grdi_region *region, size_t size_bytes)
{
    size_t capacity = region->newest ? 2 * region->newest->capacity : REGION_FIRST_BYTES;
    if (capacity > REGION_LARGEST_BYTES)
        capacity = REGION_LARGEST_BYTES;
    if (capacity < size_bytes)
        capacity = size_bytes;
    struct grdi_region_block *block = grdi_alloc(sizeof *block + capacity);
    if (!block)
        return false;
    *block = (struct grdi_region_block){.older = region->newest, .capacity = capacity};
    region->newest = block;
    return true;
}

void *grdi_region_alloc(grdi_region *region, size_t size_bytes)
{
    if (size_bytes > PTRDIFF_MAX / 2)
        return NULL;
    size_bytes = (size_bytes + REGION_ALIGN - 1) / REGION_ALIGN * REGION_ALIGN;
    if (size_bytes == 0)
        size_bytes = REGION_ALIGN;
    struct grdi_region_block *block = region->newest;
    if (!block || block->capacity - block->used < size_bytes) {
        if (!region_add_block(region, size_bytes))
            return NULL;
        block = region->newest;
    }
    void *memory = block->bytes + block->used;
    block->used += size_bytes;
    return memset(memory, 0, size_bytes);
}

char *grdi_region_strdup(grdi_region *region, const char *text)
{
    size_t size_bytes = strlen(text) + 1;
    char *copy = grdi_region_alloc(region, size_bytes);
    if (copy)
        memcpy(copy, text, size_bytes);
    return copy;
}

char *grdi_region_format(grdi_region *region, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    char *text = format_into(region, format, arguments);
    va_end(arguments);
    return text;
}

void grdi_region_free(grdi_region *region)
{
    while (region->newest) {
        struct grdi_region_block *block = region->newest;
        region->newest = block->older;
        grdi_free(block);
    }
}

int grdi_grow_array(void **array, size_t *capacity, size_t count, size_t element_bytes)
{
    if (count < *capacity)
        return 1;
    if (*capacity > SIZE_MAX / 2)
        return 0;
    size_t larger = *capacity ? 2 * *capacity : 8;
    /* The caller's pointer has its own type; reading and writing it as bytes keeps the aliasing rules. */
    void *old;
    memcpy(&old, (void *)array, sizeof old);
    void *grown = grdi_realloc(old, larger, element_bytes);
    if (!grown)
        return 0;
    memcpy((void *)array, &grown, sizeof grown);
    *capacity = larger;
    return 1;
}
