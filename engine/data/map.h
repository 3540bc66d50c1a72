/* map.h - an open-addressing hash map from 64-bit keys to 32-bit values, for pairs of ids. */
#ifndef GRDI_MAP_H
#define GRDI_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct grdi_map_slot {
    uint64_t key; /* stored plus one, so that zero is an empty slot: UINT64_MAX is no key */
    uint32_t value;
} grdi_map_slot;

/* Zeroed means empty. */
typedef struct grdi_map {
    grdi_map_slot *slots;
    size_t mask, count; /* mask + 1 slots, a power of two; 0 when there are none */
} grdi_map;

#define GRDI_PAIR(a, b) ((uint64_t)(uint32_t)(a) << 32 | (uint32_t)(b))

static inline size_t grdi_map_hash(uint64_t key)
{
    key *= 0x9E3779B97F4A7C15u; /* 2^64 / golden ratio; the upper half is well mixed */
    return (size_t)(key >> 32 ^ key >> 48);
}

/* The value of a key, or NULL. */
static inline const uint32_t *grdi_map_find(const grdi_map *map, uint64_t key)
{
    if (map->count == 0)
        return NULL;
    for (size_t at = grdi_map_hash(key) & map->mask;; at = (at + 1) & map->mask) {
        if (map->slots[at].key == key + 1)
            return &map->slots[at].value;
        if (map->slots[at].key == 0)
            return NULL;
    }
}

/* The place for the value of a key, which is added with `value` if it is new; NULL when out of memory. */
uint32_t *grdi_map_put(grdi_map *map, uint64_t key, uint32_t value);
void grdi_map_free(grdi_map *map);

#endif
