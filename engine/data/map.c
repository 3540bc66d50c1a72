/* map.c - growing of the map from pairs of ids. */
#include "data/map.h"

#include "base/memory.h"

static grdi_map_slot *place_of(const grdi_map *map, uint64_t key)
{
    size_t at = grdi_map_hash(key) & map->mask;
    while (map->slots[at].key != 0 && map->slots[at].key != key + 1)
        at = (at + 1) & map->mask;
    return &map->slots[at];
}

static bool grow(grdi_map *map)
{
    size_t size = map->slots ? 2 * (map->mask + 1) : 1024;
    grdi_map larger = {grdi_alloc_zero(size, sizeof(*larger.slots)), size - 1, map->count};
    if (!larger.slots)
        return false;
    for (size_t i = 0; map->slots && i <= map->mask; i++)
        if (map->slots[i].key != 0)
            *place_of(&larger, map->slots[i].key - 1) = map->slots[i];
    grdi_free(map->slots);
    *map = larger;
    return true;
}

uint32_t *grdi_map_put(grdi_map *map, uint64_t key, uint32_t value)
{
    if ((!map->slots || 2 * map->count > map->mask) && !grow(map))
        return NULL;
    grdi_map_slot *slot = place_of(map, key);
    if (slot->key == 0) {
        *slot = (grdi_map_slot){key + 1, value};
        map->count++;
    }
    return &slot->value;
}

void grdi_map_free(grdi_map *map)
{
    grdi_free(map->slots);
    *map = (grdi_map){0};
}
