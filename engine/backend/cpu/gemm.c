/* gemm.c - what all instruction sets share of matrix products. */
#include "backend/cpu/gemm.h"

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
