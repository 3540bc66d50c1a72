/* gemm.c - what all instruction sets share of matrix products. */
#include "backend/cpu/gemm.h"

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
