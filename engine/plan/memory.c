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

static int ends_first(const void *a, const void *b)
{
    const grdi_buffer *x = *(grdi_buffer *const *)a, *y = *(grdi_buffer *const *)b;
    return (x->last > y->last) - (x->last < y->last);
}

/* ---- earliest first: as an allocator would ---- */

/* Free memory, [begin, end). */
typedef struct gap {
    size_t begin, end;
} gap;

/* The free memory at one time, in order; the last gap has no end. */
typedef struct space {
    gap *gaps;
    size_t count;
} space;

static size_t take(space *s, size_t size)
{
    size_t i = 0;
    if (size == 0) return 0;
    while (s->gaps[i].end - s->gaps[i].begin < size) i++;
    size_t at = s->gaps[i].begin;
    s->gaps[i].begin += size;
    if (s->gaps[i].begin == s->gaps[i].end)
        memmove(s->gaps + i, s->gaps + i + 1, (--s->count - i) * sizeof(*s->gaps));
    return at;
}

static void give_back(space *s, size_t begin, size_t end)
{
    size_t i = 0, high = s->count;
    if (begin == end) return;
    while (i < high) { /* the first gap behind it */
        size_t middle = i + (high - i) / 2;
        if (s->gaps[middle].begin < begin) i = middle + 1;
        else high = middle;
    }
    bool joins_before = i > 0 && s->gaps[i - 1].end == begin, joins_after = s->gaps[i].begin == end;
    if (joins_before && joins_after) {
        s->gaps[i - 1].end = s->gaps[i].end;
        memmove(s->gaps + i, s->gaps + i + 1, (--s->count - i) * sizeof(*s->gaps));
    } else if (joins_before) {
        s->gaps[i - 1].end = end;
    } else if (joins_after) {
        s->gaps[i].begin = begin;
    } else {
        memmove(s->gaps + i + 1, s->gaps + i, (s->count++ - i) * sizeof(*s->gaps));
        s->gaps[i] = (gap){begin, end};
    }
}

/* `order`: earliest first; `ending`: in the order in which they end; room for count + 2 gaps. */
static size_t place_by_time(grdi_buffer **order, grdi_buffer **ending, gap *gaps, size_t count)
{
    space s = {gaps, 1};
    size_t arena = 0, ended = 0;
    gaps[0] = (gap){0, SIZE_MAX};
    for (size_t n = 0; n < count; n++) {
        grdi_buffer *buffer = order[n];
        for (; ending[ended]->last < buffer->first; ended++)
            give_back(&s, ending[ended]->offset_bytes,
                      ending[ended]->offset_bytes + aligned(ending[ended]->size_bytes));
        buffer->offset_bytes = take(&s, aligned(buffer->size_bytes));
        size_t end = buffer->offset_bytes + aligned(buffer->size_bytes);
        if (end > arena) arena = end;
    }
    return arena;
}

/* ---- largest first ---- */

/* A buffer that has its place: what the search looks at, and no more of it. */
typedef struct placed {
    int32_t first, last;
    size_t offset, end;
} placed;

/* The lowest gap for `buffer` between the `count` placed ones, which are kept sorted by offset. */
static size_t lowest_gap(const placed *others, size_t count, const grdi_buffer *buffer)
{
    size_t at = 0, need = aligned(buffer->size_bytes);
    for (size_t i = 0; i < count; i++) {
        if (others[i].first > buffer->last || others[i].last < buffer->first) continue; /* not alive together */
        if (others[i].offset >= at + need) break;
        if (others[i].end > at) at = others[i].end;
    }
    return at;
}

/* Where an offset comes after all that are not greater. */
static size_t place_after(const placed *others, size_t count, size_t offset)
{
    size_t low = 0;
    while (low < count) {
        size_t middle = low + (count - low) / 2;
        if (others[middle].offset > offset) count = middle;
        else low = middle + 1;
    }
    return low;
}

static size_t place_by_size(grdi_buffer **order, placed *others, size_t count)
{
    size_t arena = 0;
    for (size_t n = 0; n < count; n++) {
        grdi_buffer *buffer = order[n];
        buffer->offset_bytes = lowest_gap(others, n, buffer);
        size_t end = buffer->offset_bytes + aligned(buffer->size_bytes);
        size_t at = place_after(others, n, buffer->offset_bytes);
        memmove(others + at + 1, others + at, (n - at) * sizeof(*others));
        others[at] = (placed){buffer->first, buffer->last, buffer->offset_bytes, end};
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

/* Both ways; what the better one gave stays. `order` and `ending` hold the buffers, `others` and `gaps` have room. */
static size_t place_both(grdi_buffer **order, grdi_buffer **ending, placed *others, gap *gaps, size_t count)
{
    qsort(ending, count, sizeof(*ending), ends_first);
    qsort(order, count, sizeof(*order), earlier_first);
    size_t by_time = place_by_time(order, ending, gaps, count);
    qsort(order, count, sizeof(*order), larger_first);
    size_t by_size = place_by_size(order, others, count);
    if (by_size <= by_time) return by_size;
    qsort(order, count, sizeof(*order), earlier_first);
    return place_by_time(order, ending, gaps, count);
}

bool grdi_place_buffers(grdi_plan *plan)
{
    size_t count = 0, kept = 0, most = plan->buffer_count + 2;
    grdi_buffer **order = grdi_alloc_zero(most, sizeof(*order)), **ending = grdi_alloc_zero(most, sizeof(*ending));
    placed *others = grdi_alloc_zero(most, sizeof(*others));
    gap *gaps = grdi_alloc_zero(most, sizeof(*gaps));
    size_t *change = grdi_alloc_zero(plan->launch_count + 2, sizeof(*change));
    bool ok = order && ending && others && gaps && change;
    for (size_t b = 0; ok && b < plan->buffer_count; b++) {
        grdi_buffer *buffer = &plan->buffers[b];
        if (buffer->place == GRDI_IN_ARENA) order[count] = ending[count] = buffer, count++;
        if (buffer->place != GRDI_IN_KEPT) continue;
        buffer->offset_bytes = kept;
        kept += aligned(buffer->size_bytes);
    }
    if (ok) {
        plan->arena_bytes = place_both(order, ending, others, gaps, count);
        plan->kept_bytes = kept;
        plan->arena_floor_bytes = floor_bytes(order, count, (int32_t)plan->launch_count, change);
    }
    grdi_free(order);
    grdi_free(ending);
    grdi_free(others);
    grdi_free(gaps);
    grdi_free(change);
    return ok;
}
