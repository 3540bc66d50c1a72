/* integer.c - element-by-element ops on i32, which floats would not hold exactly: sums of positions, comparisons of
 * ids. */
#include "backend/backend.h"
#include "backend/cpu/kernels/isa.h"
#include "backend/space.h"
#include "backend/cpu/parallel.h"

#include <string.h>

enum { GRAIN = 16384 };

/* Results that do not fit wrap around. */
#define INTEGER_OPS(X)                                                                                                 \
    X(add, int32_t, (int32_t)((uint32_t)a + (uint32_t)b))                                                              \
    X(sub, int32_t, (int32_t)((uint32_t)a - (uint32_t)b))                                                              \
    X(mul, int32_t, (int32_t)((uint32_t)a * (uint32_t)b))                                                              \
    X(maximum, int32_t, a > b ? a : b)                                                                                 \
    X(minimum, int32_t, a < b ? a : b)                                                                                 \
    X(eq, uint8_t, a == b)                                                                                             \
    X(ne, uint8_t, a != b)                                                                                             \
    X(lt, uint8_t, a < b)                                                                                              \
    X(le, uint8_t, a <= b)                                                                                             \
    X(gt, uint8_t, a > b)                                                                                              \
    X(ge, uint8_t, a >= b)

enum { A, B, OUT };

typedef void (*row_fn)(void *to, int64_t to_step, const int32_t *pa, int64_t a_step, const int32_t *pb, int64_t b_step,
                       int64_t count);

#define INTEGER_ROW(name, type, value)                                                                                 \
    static void row_##name(void *to, int64_t to_step, const int32_t *pa, int64_t a_step, const int32_t *pb,            \
                           int64_t b_step, int64_t count)                                                              \
    {                                                                                                                  \
        for (int64_t i = 0; i < count; i++) {                                                                          \
            int32_t a = pa[i * a_step], b = pb[i * b_step];                                                            \
            ((type *)to)[i * to_step] = (type)(value);                                                                 \
        }                                                                                                              \
    }
INTEGER_OPS(INTEGER_ROW)

static const struct {
    const char *op;
    row_fn fn;
} rows[] = {
#define INTEGER_ENTRY(name, type, value) {#name, row_##name},
    INTEGER_OPS(INTEGER_ENTRY)};

typedef struct integer_job {
    const grdi_call *call;
    grdi_space space;
    row_fn fn;
    int64_t row;
} integer_job;

static void integer_range(int64_t begin, int64_t end, int32_t thread, void *context)
{
    (void)thread;
    const integer_job *job = context;
    const grdi_call *call = job->call;
    int32_t last = job->space.rank - 1;
    int64_t size_bytes = (int64_t)grd_dtype_size(call->out[0].dtype);
    grdi_walk walk;
    grdi_walk_start(&walk, &job->space, last, begin);
    for (int64_t row = begin; row < end; row++, grdi_walk_next(&walk))
        job->fn((char *)call->out[0].data + walk.offset[OUT] * size_bytes, job->space.stride[OUT][last],
                (const int32_t *)call->in[0].data + walk.offset[A], job->space.stride[A][last],
                (const int32_t *)call->in[1].data + walk.offset[B], job->space.stride[B][last], job->row);
}

static grd_status run(grdi_call *call)
{
    integer_job job = {.call = call};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (strcmp(rows[i].op, call->op->name) == 0)
            job.fn = rows[i].fn;
    grdi_space_start(&job.space, call->out[0].dims);
    grdi_space_add(&job.space, &call->in[0]);
    grdi_space_add(&job.space, &call->in[1]);
    grdi_space_add(&job.space, &call->out[0]);
    grdi_space_merge(&job.space);
    if (job.space.rank == 0) {
        job.space.rank = 1;
        job.space.dim[0] = 1;
        memset(job.space.stride, 0, sizeof job.space.stride);
    }
    job.row = job.space.dim[job.space.rank - 1];
    grdi_parallel_for(call->threads, grdi_space_count(&job.space, job.space.rank - 1), GRAIN / job.row + 1,
                      integer_range, &job);
    return GRD_OK;
}

static bool supports(const grdi_call *call)
{
    return call->in[0].dtype == GRD_I32 && call->in[1].dtype == GRD_I32 && !call->may_accumulate[0];
}

#define INTEGER_KERNEL(name, type, value)                                                                              \
    static const grdi_kernel kernel_##name = {.op = #name,                                                             \
                                              .strided_in = 3,                                                         \
                                              .rows_in = 3,                                                            \
                                              .strided_out = 1,                                                        \
                                              .in_place = 1,                                                           \
                                              .supports = supports,                                                    \
                                              .run = run};
INTEGER_OPS(INTEGER_KERNEL)

#define INTEGER_TABLE(name, type, value) &kernel_##name,
const grdi_kernel *const GRDI_ISA_TABLE(integer)[] = {INTEGER_OPS(INTEGER_TABLE) NULL};
