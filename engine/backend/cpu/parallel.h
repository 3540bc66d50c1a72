/* parallel.h - the one way to use several threads, those of the OpenMP pool: a range cut into equal parts, the same
 * with threads that help each other, or a team whose members wait for each other. */
#ifndef GRDI_PARALLEL_H
#define GRDI_PARALLEL_H

#include <stdint.h>

/* Does elements [begin, end) as thread number `thread`, which is below the number of threads asked for. */
typedef void (*grdi_range_fn)(int64_t begin, int64_t end, int32_t thread, void *context);

/* Runs `fn` over [0, count) on at most `threads` threads. Ranges begin at multiples of `grain`, the least worth a
 * thread of its own: with count <= grain the caller's thread does all, and no parallel region (2 to 5 us) is entered.
 * The cut depends on the arguments alone, so that sums made by part come out with the same bits each time. */
void grdi_parallel_for(int32_t threads, int64_t count, int64_t grain, grdi_range_fn fn, void *context);

/* The same for work of which neither the cut nor the thread changes a bit: a thread takes grdi_share_taken() of what is
 * left of its own part each time, and when that is done, of others'. Cores that others use, or of unlike kinds, differ
 * in pace, and equal parts take as long as the slowest. Ranges begin anywhere; `thread` is the one that runs them. */
void grdi_parallel_share(int32_t threads, int64_t count, int64_t grain, grdi_range_fn fn, void *context);

/* Three quarters of `left`, one at least where there is any. */
static inline int64_t grdi_share_taken(int64_t left)
{
    return (left * 3 + 3) / 4;
}

/* Does the part of thread number `thread` of `size`. */
typedef void (*grdi_team_fn)(int32_t thread, int32_t size, void *context);

/* Runs `fn` once on each of at most `threads` threads at the same time. In it, grdi_parallel_meet() returns when all of
 * them have called it as often; what they wrote before is then seen by all. */
void grdi_parallel_team(int32_t threads, grdi_team_fn fn, void *context);
void grdi_parallel_meet(void);

#endif
