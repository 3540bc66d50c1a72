/* test_parallel.c - work that threads share out among themselves: all of it is done, once, and a thread that comes to
 * a stop keeps no more than what it had begun. */
#include "backend/cpu/gemm.h"
#include "backend/cpu/parallel.h"

#include <criterion/criterion.h>
#include <omp.h>
#include <stdatomic.h>
#include <string.h>

enum { UNITS = 64 };

typedef struct counts {
    _Atomic int32_t times[UNITS], calls, done;
    int32_t stopped; /* the thread that waits in its first call until nobody else does anything; -1: none */
    _Atomic int32_t waits;
} counts;

static void count_units(int64_t begin, int64_t end, int32_t thread, void *context)
{
    counts *c = context;
    atomic_fetch_add(&c->calls, 1);
    if (thread == c->stopped && atomic_fetch_add(&c->waits, 1) == 0) {
        double limit = omp_get_wtime() + 60;
        while (atomic_load(&c->done) < UNITS - (end - begin) && omp_get_wtime() < limit) continue;
        cr_assert_eq(atomic_load(&c->done), UNITS - (end - begin), "units of a thread that stands still are left");
    }
    for (int64_t i = begin; i < end; i++) atomic_fetch_add(&c->times[i], 1);
    atomic_fetch_add(&c->done, (int32_t)(end - begin));
}

Test(parallel, shares_every_unit_once)
{
    for (int32_t threads = 1; threads <= 5; threads++)
        for (int64_t grain = 1; grain <= UNITS; grain *= 4) {
            counts c = {.stopped = -1};
            grdi_parallel_share(threads, UNITS, grain, count_units, &c);
            for (int i = 0; i < UNITS; i++)
                cr_assert_eq(c.times[i], 1, "%d threads, grain %d: unit %d was done %d times", threads, (int)grain, i,
                             c.times[i]);
            if (grain == UNITS) cr_assert_eq(c.calls, 1);
        }
}

Test(parallel, others_do_what_a_thread_leaves)
{
    for (int32_t threads = 2; threads <= 3; threads++)
        for (int32_t stopped = 0; stopped < threads; stopped++) {
            counts c = {.stopped = stopped};
            grdi_parallel_share(threads, UNITS, 1, count_units, &c);
            cr_assert_eq(c.done, UNITS);
        }
}

/* ---- products: a stand-in that only counts what it is given ---- */

static _Atomic int32_t runs;
static double per_row, per_column; /* cost of what a piece of any size packs */

static void count_elements(const grdi_gemm *g, void *scratch)
{
    atomic_fetch_add(&runs, 1);
    memset(scratch, 1, 64);
    for (int64_t i = 0; i < g->m; i++)
        for (int64_t j = 0; j < g->n; j++) ((float *)g->c)[i * g->c_row + j] += 1;
}

static size_t line(const grdi_gemm *g)
{
    (void)g;
    return 64;
}

static double cycles(const grdi_gemm *g)
{
    return 1e7 * (double)g->m * (double)g->n + per_row * (double)g->m + per_column * (double)g->n;
}

static int32_t runs_of(int64_t m, int64_t n, int32_t threads)
{
    static float c[100 * 100];
    static _Alignas(64) char scratch[300 * 64];
    const grdi_gemm_isa isa = {count_elements, line, cycles, .worth = 1, .rows = 3, .columns = 4};
    const grdi_gemm g = {.m = m, .n = n, .k = 1, .c = c, .c_row = n};
    cr_assert_leq(grdi_gemm_shared_scratch(&g, threads, &isa), sizeof scratch);
    memset(c, 0, sizeof c);
    runs = 0;
    grdi_gemm_shared(&g, threads, &isa, scratch);
    for (int64_t i = 0; i < m * n; i++)
        cr_assert_eq(c[i], 1, "%lldx%lld on %d threads: element %lld was written %g times", (long long)m, (long long)n,
                     threads, (long long)i, (double)c[i]);
    return runs;
}

Test(parallel, products_in_slices)
{
    const int64_t sizes[] = {1, 3, 4, 7, 24, 25, 31, 64, 97, 100};
    per_row = per_column = 0;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (size_t j = 0; j < sizeof sizes / sizeof *sizes; j++)
            for (int32_t threads = 1; threads <= 8; threads++) {
                int32_t pieces = runs_of(sizes[i], sizes[j], threads);
                if (threads > 1 && sizes[i] == 100 && sizes[j] == 100)
                    cr_assert_gt(pieces, threads, "%d threads have a product in %d runs", threads, pieces);
            }
    runs_of(100, 100, 300);      /* more pieces than parts that have counters */
    per_row = per_column = 1e10; /* packing is dear: one piece for a thread */
    cr_assert_eq(runs_of(100, 100, 2), 2);
    per_column = 0; /* what a row brings is packed once, in whichever slice */
    cr_assert_gt(runs_of(100, 100, 2), 2);
}
