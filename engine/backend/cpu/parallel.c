/* parallel.c - ranges and teams on the OpenMP pool. */
#include "backend/cpu/parallel.h"

#include <omp.h>

/* The team always has all `threads` threads, idle ones included: a team that shrinks makes libgomp end the others, and
 * the next one that grows pays for starting them. */
void grdi_parallel_for(int32_t threads, int64_t count, int64_t grain, grdi_range_fn fn, void *context)
{
    if (count <= 0)
        return;
    if (grain < 1)
        grain = 1;
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
