/* gemm.c - what all instruction sets share of matrix products. */
#include "backend/cpu/gemm.h"
#include "backend/cpu/parallel.h"

#include <stdatomic.h>
#include <unistd.h>

static void *moved(const void *base, grd_dtype type, int64_t offset)
{
    return base ? (char *)base + offset * (int64_t)grd_dtype_size(type) : NULL;
}

grdi_gemm grdi_gemm_part(const grdi_gemm *g, int64_t row, int64_t rows, int64_t column, int64_t columns)
{
    grdi_gemm part = *g;
    part.m = rows, part.n = columns;
    part.a = moved(g->a, g->a_type, row * g->a_row);
    part.b = moved(g->b, g->b_type, column * g->b_col);
    part.c = moved(g->c, g->c_type, row * g->c_row + column);
    part.y = moved(g->y, g->c_type, row * g->y_row + column);
    part.bias = moved(g->bias, g->bias_type, column);
    return part;
}

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static size_t piece_scratch(const grdi_gemm *g, grdi_gemm_cut cut, grdi_gemm_scratch_fn scratch_of)
{
    grdi_gemm piece = *g;
    piece.m = least(cut.row_step, g->m), piece.n = least(cut.column_step, g->n);
    return (scratch_of(&piece) + 63) / 64 * 64;
}

size_t grdi_gemm_pieces_scratch(const grdi_gemm *g, grdi_gemm_cut cut, grdi_gemm_scratch_fn scratch_of)
{
    return piece_scratch(g, cut, scratch_of) * (size_t)(cut.rows * cut.columns);
}

typedef struct pieces {
    const grdi_gemm *g;
    grdi_gemm_cut cut;
    grdi_gemm_fn run;
    char *scratch;
    size_t each_bytes;
} pieces;

static void run_pieces(int64_t begin, int64_t end, int32_t thread, void *context)
{
    const pieces *p = context;
    for (int64_t piece = begin; piece < end; piece++) {
        int64_t row = piece / p->cut.columns * p->cut.row_step, column = piece % p->cut.columns * p->cut.column_step;
        int64_t rows = least(p->cut.row_step, p->g->m - row), columns = least(p->cut.column_step, p->g->n - column);
        if (rows <= 0 || columns <= 0) continue;
        grdi_gemm part = grdi_gemm_part(p->g, row, rows, column, columns);
        p->run(&part, p->scratch + (size_t)thread * p->each_bytes);
    }
}

void grdi_gemm_pieces(const grdi_gemm *g, grdi_gemm_cut cut, int32_t threads, grdi_gemm_fn run,
                      grdi_gemm_scratch_fn scratch_of, void *scratch)
{
    if (g->m <= 0 || g->n <= 0) return;
    pieces context = {g, cut, run, scratch, piece_scratch(g, cut, scratch_of)};
    grdi_parallel_for(threads, cut.rows * cut.columns, 1, run_pieces, &context);
}

int64_t grdi_gemm_rows_most(void)
{
    /* Measured: 96 with 2 MiB of second-level cache, where larger blocks of up to 1 MiB gain nothing; with 512 KiB to
     * 1 MiB what fits. Asked once, as a virtual machine's host answers. */
    static _Atomic int64_t most;
    int64_t rows = atomic_load_explicit(&most, memory_order_relaxed);
    if (rows) return rows;
#ifdef _SC_LEVEL2_CACHE_SIZE
    rows = sysconf(_SC_LEVEL2_CACHE_SIZE) > 1 << 20 ? 96 : INT64_MAX;
#else
    rows = INT64_MAX;
#endif
    atomic_store_explicit(&most, rows, memory_order_relaxed);
    return rows;
}
