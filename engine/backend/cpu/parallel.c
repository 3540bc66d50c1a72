/* parallel.c - ranges and teams on the OpenMP pool. */
#include "backend/cpu/parallel.h"

#include <omp.h>
#include <stdatomic.h>
#include <stdbool.h>

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* The team always has all `threads` threads, idle ones included: a team that shrinks makes libgomp end the others, and
 * the next one that grows pays for starting them. */
void grdi_parallel_for(int32_t threads, int64_t count, int64_t grain, grdi_range_fn fn, void *context)
{
    if (count <= 0) return;
    if (grain < 1) grain = 1;
    int64_t units = (count - 1) / grain + 1, parts = units < threads ? units : threads;
    if (parts <= 1) {
        fn(0, count, 0, context);
        return;
    }
#pragma omp parallel num_threads(threads)
    {
        int64_t size = omp_get_num_threads(); /* fewer than asked for where the system has no more */
        for (int64_t part = omp_get_thread_num(); part < parts; part += size) {
            int64_t begin = units * part / parts * grain, end = units * (part + 1) / parts * grain;
            fn(begin, end < count ? end : count, (int32_t)part, context);
        }
    }
}

/* What is left of a part, in a cache line of its own. */
typedef struct rest {
    _Alignas(64) _Atomic int64_t begin;
    int64_t end;
} rest;

enum { PARTS_MOST = 256 }; /* so many have room on the stack */

static bool take(rest *r, int64_t *begin, int64_t *end)
{
    *begin = atomic_load_explicit(&r->begin, memory_order_relaxed);
    do {
        if (*begin >= r->end) return false;
        *end = *begin + grdi_share_taken(r->end - *begin);
    } while (
        !atomic_compare_exchange_weak_explicit(&r->begin, begin, *end, memory_order_relaxed, memory_order_relaxed));
    return true;
}

void grdi_parallel_share(int32_t threads, int64_t count, int64_t grain, grdi_range_fn fn, void *context)
{
    rest rests[PARTS_MOST];
    if (count <= 0) return;
    int64_t parts = least((count - 1) / (grain > 0 ? grain : 1) + 1, least(threads, PARTS_MOST));
    if (parts <= 1) {
        fn(0, count, 0, context);
        return;
    }
    for (int64_t i = 0; i < parts; i++) {
        atomic_init(&rests[i].begin, count * i / parts);
        rests[i].end = count * (i + 1) / parts;
    }
#pragma omp parallel num_threads(threads)
    {
        const int32_t thread = omp_get_thread_num();
        for (int64_t i = 0; i < parts; i++) {
            int64_t begin, end;
            while (take(&rests[(thread + i) % parts], &begin, &end)) fn(begin, end, thread, context);
        }
    }
}

void grdi_parallel_team(int32_t threads, grdi_team_fn fn, void *context)
{
    if (threads <= 1) {
        fn(0, 1, context);
        return;
    }
#pragma omp parallel num_threads(threads)
    fn(omp_get_thread_num(), omp_get_num_threads(), context);
}

void grdi_parallel_meet(void)
{
#pragma omp barrier
}
