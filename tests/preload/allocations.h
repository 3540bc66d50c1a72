/* allocations.h - what the preloaded counter says. The functions are found with dlsym(), since a program runs without
 * the counter too. */
#ifndef TESTS_ALLOCATIONS_H
#define TESTS_ALLOCATIONS_H

enum { ALLOCATION_THREADS = 64, ALLOCATION_CALLERS = 16 };

typedef struct allocation_counts {
    long own[ALLOCATION_THREADS];     /* by thread, in the order in which threads first allocated */
    long library[ALLOCATION_THREADS]; /* those made while oneDNN executed a primitive */
    long primitives;                  /* how many it executed */
    void *callers[ALLOCATION_CALLERS]; /* where the first own ones were called from */
} allocation_counts;

/* "allocations_start": sets all to zero and counts from now on, on all threads. */
typedef void allocations_start_fn(void);
/* "allocations_stop": counts no more and hands over what was counted. */
typedef void allocations_stop_fn(allocation_counts *counts);

#endif
