/* allocations.c - counts calls that allocate memory, for all of a process: preload it. What happens while oneDNN
 * executes a primitive is counted apart; launches run one after the other, so then all threads work for oneDNN.
 * ALLOCATIONS_STEPS=N makes it count by itself in a program that trains with libgradus.so: over N steps after two, with
 * all that happens between them, and print what it found to stderr. */
#include "allocations.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define VISIBLE __attribute__((visibility("default")))

/* glibc's own, so that nothing has to be looked up inside an allocation */
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *old, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);

static atomic_bool counting;
static atomic_int inside_library, threads;
static atomic_long own[ALLOCATION_THREADS], library[ALLOCATION_THREADS], primitives;
static atomic_int caller_count;
static void *callers[ALLOCATION_CALLERS];
static __thread int thread_number __attribute__((tls_model("initial-exec"))); /* 0: none yet */

static void count(void *caller)
{
    if (!atomic_load_explicit(&counting, memory_order_relaxed)) return;
    if (!thread_number) thread_number = atomic_fetch_add(&threads, 1) + 1;
    int thread = (thread_number - 1) % ALLOCATION_THREADS;
    if (atomic_load(&inside_library)) {
        atomic_fetch_add(&library[thread], 1);
        return;
    }
    atomic_fetch_add(&own[thread], 1);
    int at = atomic_fetch_add(&caller_count, 1);
    if (at < ALLOCATION_CALLERS) callers[at] = caller;
}

VISIBLE void *malloc(size_t size)
{
    count(__builtin_return_address(0));
    return __libc_malloc(size);
}

VISIBLE void *calloc(size_t number, size_t size)
{
    count(__builtin_return_address(0));
    return __libc_calloc(number, size);
}

VISIBLE void *realloc(void *old, size_t size)
{
    count(__builtin_return_address(0));
    return __libc_realloc(old, size);
}

VISIBLE void *memalign(size_t alignment, size_t size)
{
    count(__builtin_return_address(0));
    return __libc_memalign(alignment, size);
}

VISIBLE void *aligned_alloc(size_t alignment, size_t size)
{
    count(__builtin_return_address(0));
    return __libc_memalign(alignment, size);
}

VISIBLE int posix_memalign(void **memory, size_t alignment, size_t size)
{
    count(__builtin_return_address(0));
    if (alignment % sizeof(void *) || (alignment & (alignment - 1)) || !alignment) return EINVAL;
    void *got = __libc_memalign(alignment, size);
    if (!got) return ENOMEM;
    *memory = got;
    return 0;
}

VISIBLE void *mmap(void *at, size_t size, int protection, int flags, int file, off_t offset)
{
    count(__builtin_return_address(0));
    long got = syscall(SYS_mmap, at, size, protection, flags, file, offset);
    return got == -1 ? MAP_FAILED : (void *)got;
}

VISIBLE void *mmap64(void *at, size_t size, int protection, int flags, int file, off_t offset)
{
    count(__builtin_return_address(0));
    long got = syscall(SYS_mmap, at, size, protection, flags, file, offset);
    return got == -1 ? MAP_FAILED : (void *)got;
}

typedef int execute_fn(const void *primitive, void *stream, int count, const void *arguments);

/* oneDNN's, declared here so that the counter builds without it. */
VISIBLE int dnnl_primitive_execute(const void *primitive, void *stream, int argument_count, const void *arguments)
{
    static _Atomic(execute_fn *) next;
    execute_fn *execute = atomic_load(&next);
    if (!execute) {
        *(void **)&execute = dlsym(RTLD_NEXT, "dnnl_primitive_execute");
        atomic_store(&next, execute);
    }
    if (atomic_load(&counting)) atomic_fetch_add(&primitives, 1);
    atomic_fetch_add(&inside_library, 1);
    int status = execute(primitive, stream, argument_count, arguments);
    atomic_fetch_sub(&inside_library, 1);
    return status;
}

VISIBLE void allocations_start(void)
{
    for (int t = 0; t < ALLOCATION_THREADS; t++) {
        atomic_store(&own[t], 0);
        atomic_store(&library[t], 0);
    }
    memset(callers, 0, sizeof(callers));
    atomic_store(&caller_count, 0);
    atomic_store(&primitives, 0);
    atomic_store(&counting, 1);
}

VISIBLE void allocations_stop(allocation_counts *counts)
{
    atomic_store(&counting, 0);
    for (int t = 0; t < ALLOCATION_THREADS; t++) {
        counts->own[t] = atomic_load(&own[t]);
        counts->library[t] = atomic_load(&library[t]);
    }
    counts->primitives = atomic_load(&primitives);
    memcpy(counts->callers, callers, sizeof(callers));
}

static void print_counts(long steps)
{
    allocation_counts counts;
    long all_own = 0, all_library = 0;
    allocations_stop(&counts);
    for (int t = 0; t < ALLOCATION_THREADS; t++) {
        all_own += counts.own[t];
        all_library += counts.library[t];
    }
    fprintf(stderr, "allocations: %ld steps, %ld own, %ld inside %ld primitives\n", steps, all_own, all_library,
            counts.primitives);
}

typedef int step_fn(void *step, void *metrics);

/* Gradus' own, in the way of those who call it. */
VISIBLE int grd_step_run(void *step, void *metrics)
{
    enum { WARM_UP = 2 };
    static long runs;
    const char *wanted = getenv("ALLOCATIONS_STEPS");
    step_fn *next;
    *(void **)&next = dlsym(RTLD_NEXT, "grd_step_run");
    int status = next(step, metrics);
    runs++;
    if (wanted && runs == WARM_UP) allocations_start();
    if (wanted && runs == WARM_UP + atol(wanted)) print_counts(atol(wanted));
    return status;
}
