/* memory.c - gives each arena buffer an offset such that buffers alive at the same time do not overlap.
 *
 * Two greedy orders are tried, largest first and earliest first; the smaller arena wins. Largest-first places each
 * buffer at the lowest gap among those alive with it (Pisarchyk and Lee, "Efficient memory management for deep neural
 * net inference", 2020). */
#include "plan/plan.h"

#include <stdlib.h>
#include <string.h>

enum { ALIGNMENT = 64 };

static size_t aligned(size_t size)
{
    return (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static int larger_first(const void *a, const void *b)
{
    const grdi_buffer *x = *(grdi_buffer *const *)a, *y = *(grdi_buffer *const *)b;
    if (x->size_bytes != y->size_bytes) return x->size_bytes > y->size_bytes ? -1 : 1;
    if (x->first != y->first) return x->first < y->first ? -1 : 1;
    return x < y ? -1 : x > y;
}

static int earlier_first(const void *a, const void *b)
{
    const grdi_buffer *x = *(grdi_buffer *const *)a, *y = *(grdi_buffer *const *)b;
    if (x->first != y->first) return x->first < y->first ? -1 : 1;
    return larger_first(a, b);
}

static bool alive_together(const grdi_buffer *a, const grdi_buffer *b)
{
    return a->first <= b->last && b->first <= a->last;
}

/* Puts `buffer` into the lowest gap between the `count` placed ones, which are kept sorted by offset. */
static size_t lowest_gap(grdi_buffer *const *placed, size_t count, const grdi_buffer *buffer)
{
    size_t at = 0, need = aligned(buffer->size_bytes);
    for (size_t i = 0; i < count; i++) {
        if (!alive_together(placed[i], buffer)) continue;
        if (placed[i]->offset_bytes >= at + need) break;
        size_t end = placed[i]->offset_bytes + aligned(placed[i]->size_bytes);
        if (end > at) at = end;
    }
    return at;
}

static size_t place_in_order(grdi_buffer **order, grdi_buffer **placed, size_t count)
{
    size_t arena = 0;
    for (size_t n = 0; n < count; n++) {
        order[n]->offset_bytes = lowest_gap(placed, n, order[n]);
        size_t end = order[n]->offset_bytes + aligned(order[n]->size_bytes), at = n;
        for (; at > 0 && placed[at - 1]->offset_bytes > order[n]->offset_bytes; at--) placed[at] = placed[at - 1];
        placed[at] = order[n];
        if (end > arena) arena = end;
    }
    return arena;
}

/* The largest sum of sizes alive during one launch. */
static size_t floor_bytes(grdi_buffer *const *buffers, size_t count, int32_t launches, size_t *change)
{
    for (size_t i = 0; i < count; i++) {
        change[buffers[i]->first] += aligned(buffers[i]->size_bytes);
        change[buffers[i]->last + 1] -= aligned(buffers[i]->size_bytes);
    }
    size_t now = 0, most = 0;
    for (int32_t t = 0; t <= launches; t++) {
        now += change[t]; /* wraps below zero and back: sums stay right */
        if (now > most) most = now;
    }
    return most;
}

bool grdi_place_buffers(grdi_plan *plan)
{
    size_t count = 0, kept = 0;
    grdi_buffer **order = grdi_alloc_zero(plan->buffer_count + 1, sizeof(*order));
    grdi_buffer **placed = grdi_alloc_zero(plan->buffer_count + 1, sizeof(*placed));
    size_t *change = grdi_alloc_zero(plan->launch_count + 2, sizeof(*change));
    bool ok = order && placed && change;
    for (size_t b = 0; ok && b < plan->buffer_count; b++) {
        grdi_buffer *buffer = &plan->buffers[b];
        if (buffer->place == GRDI_IN_ARENA) order[count++] = buffer;
        if (buffer->place != GRDI_IN_KEPT) continue;
        buffer->offset_bytes = kept;
        kept += aligned(buffer->size_bytes);
    }
    if (ok) {
        qsort(order, count, sizeof(*order), earlier_first);
        size_t by_time = place_in_order(order, placed, count);
        qsort(order, count, sizeof(*order), larger_first);
        size_t by_size = place_in_order(order, placed, count);
        if (by_time < by_size) {
            qsort(order, count, sizeof(*order), earlier_first);
            by_size = place_in_order(order, placed, count);
        }
        plan->arena_bytes = by_size;
        plan->kept_bytes = kept;
        plan->arena_floor_bytes = floor_bytes(order, count, (int32_t)plan->launch_count, change);
    }
    grdi_free(order);
    grdi_free(placed);
    grdi_free(change);
    return ok;
}
