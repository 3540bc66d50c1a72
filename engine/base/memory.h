/* memory.h - the one table through which the engine allocates host memory, so that tests can make any call fail. */
#ifndef GRDI_MEMORY_H
#define GRDI_MEMORY_H

#include <stddef.h>

typedef struct grdi_memory_table {
    void *(*allocate)(size_t size_bytes);          /* like malloc */
    void *(*resize)(void *old, size_t size_bytes); /* like realloc */
    void (*release)(void *memory);                 /* like free */
    void *(*map)(size_t size_bytes);               /* zeroed pages for large blocks; NULL on failure */
    void (*unmap)(void *memory, size_t size_bytes);
} grdi_memory_table;

/* The table in force. Tests replace it; nothing else does. */
extern grdi_memory_table grdi_memory;

void *grdi_alloc(size_t size_bytes); /* uninitialised; NULL on failure; size 0 gives a valid pointer */
void *grdi_alloc_zero(size_t count, size_t size_bytes); /* zeroed; NULL on failure or overflow of count * size */
void *grdi_realloc(void *old, size_t count, size_t size_bytes); /* NULL on failure or overflow; old is then kept */
void grdi_free(void *memory);
char *grdi_strdup(const char *text);                                              /* NULL on failure */
char *grdi_format(const char *format, ...) __attribute__((format(printf, 1, 2))); /* allocated text; NULL on failure */

/* A growing region that is freed as a whole: graphs, plans and parsers put their small objects here. */
typedef struct grdi_region {
    struct grdi_region_block *newest;
} grdi_region;

void *grdi_region_alloc(grdi_region *region, size_t size_bytes); /* zeroed, 16-byte aligned; NULL on failure */
char *grdi_region_strdup(grdi_region *region, const char *text);
char *grdi_region_format(grdi_region *region, const char *format, ...) __attribute__((format(printf, 2, 3)));
void grdi_region_free(grdi_region *region); /* frees all; the region is empty and usable again */

/* Makes room for one more element in a growing array; returns 0 when out of memory (the array is then unchanged). */
int grdi_grow_array(void **array, size_t *capacity, size_t count, size_t element_bytes);
#define GRDI_GROW(array, capacity, count) grdi_grow_array((void **)&(array), &(capacity), (count), sizeof(*(array)))

#endif
