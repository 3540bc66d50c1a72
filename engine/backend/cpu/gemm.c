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

static int64_t up(int64_t a, int64_t b)
{
    return (a + b - 1) / b * b;
}

/* A product for several threads: rows x columns pieces, one for a thread, and each of them in slices for those who are
 * done first. The cut depends on sizes and the number of threads alone. */
typedef struct cut {
    int64_t rows, columns;         /* pieces */
    int64_t row_step, column_step; /* sizes of a piece; the last ones may be smaller or empty */
    int64_t slices, slice;         /* of a piece; rows or columns of one */
    bool by_rows;
} cut;

/* Least estimated time of the largest piece, over the ways to write `threads` as rows x columns. */
static cut best_pieces(const grdi_gemm *g, int32_t threads, const grdi_gemm_isa *isa)
{
    double worth = (double)g->m * (double)g->n * (double)g->k / isa->worth;
    int64_t most = worth < threads ? (int64_t)worth : threads;
    cut best = {.rows = 1, .columns = 1, .row_step = g->m, .column_step = g->n, .slices = 1};
    double least_cycles = 0;
    for (int64_t rows = 1; most > 1 && rows <= most; rows++) {
        int64_t columns = most / rows;
        grdi_gemm piece = *g;
        piece.m = up((g->m + rows - 1) / rows, isa->rows), piece.n = up((g->n + columns - 1) / columns, isa->columns);
        double cycles = isa->cycles(&piece);
        if (columns > 1) cycles += isa->shared * (double)piece.m * (double)piece.k;
        if (rows > 1) cycles += isa->shared * (double)piece.n * (double)piece.k;
        if (rows > 1 && cycles >= least_cycles) continue;
        least_cycles = cycles;
        best.rows = rows, best.columns = columns, best.row_step = piece.m, best.column_step = piece.n;
    }
    return best;
}

/* Slices pay in long products. In short ones what another core has written and read costs more than the wait: 5% of a
 * step of gpt-small with slices of a tenth of a millisecond. */
enum { SLICES = 8, SLICE_CYCLES = 1 << 20 };
#define SLICE_COST 1.01 /* what a piece may take longer, because its operands are packed for each slice or few */

/* Cycles of a piece that one thread does, three quarters of the slices that are left each time, as it takes them. */
static double sliced_cycles(const grdi_gemm *piece, const grdi_gemm_isa *isa, int64_t slice, bool by_rows)
{
    const int64_t length = by_rows ? piece->m : piece->n;
    double cycles = 0;
    for (int64_t left = (length + slice - 1) / slice, done = 0; left > 0; left -= grdi_share_taken(left)) {
        int64_t end = least(done + grdi_share_taken(left) * slice, length);
        grdi_gemm part = *piece;
        *(by_rows ? &part.m : &part.n) = end - done;
        cycles += isa->cycles(&part);
        done = end;
    }
    return cycles;
}

static cut best_cut(const grdi_gemm *g, int32_t threads, const grdi_gemm_isa *isa)
{
    cut best = best_pieces(g, threads, isa);
    if (best.rows * best.columns == 1) return best;
    grdi_gemm piece = *g;
    piece.m = best.row_step, piece.n = best.column_step;
    const double cycles = isa->cycles(&piece);
    for (int64_t slices = SLICES; slices > 1 && best.slices == 1; slices /= 2) {
        if (cycles < (double)(slices * SLICE_CYCLES)) continue;
        double limit = cycles * SLICE_COST;
        for (int by_rows = 0; by_rows < 2; by_rows++) {
            int64_t length = by_rows ? piece.m : piece.n;
            int64_t slice = up((length + slices - 1) / slices, by_rows ? isa->rows : isa->columns);
            double sliced = sliced_cycles(&piece, isa, slice, by_rows);
            if (sliced > limit || (length + slice - 1) / slice <= slices / 2) continue;
            limit = sliced, best.slices = (length + slice - 1) / slice, best.slice = slice, best.by_rows = by_rows;
        }
    }
    return best;
}

static size_t piece_scratch(const grdi_gemm *g, const cut *c, const grdi_gemm_isa *isa)
{
    grdi_gemm piece = *g;
    piece.m = least(c->row_step, g->m), piece.n = least(c->column_step, g->n);
    return (isa->scratch(&piece) + 63) / 64 * 64;
}

size_t grdi_gemm_shared_scratch(const grdi_gemm *g, int32_t threads, const grdi_gemm_isa *isa)
{
    cut c = best_pieces(g, threads, isa);
    return piece_scratch(g, &c, isa) * (size_t)(c.rows * c.columns > 1 ? threads : 1);
}

typedef struct shared {
    const grdi_gemm *g;
    const grdi_gemm_isa *isa;
    cut cut;
    char *scratch;
    size_t each_bytes;
} shared;

/* Slices [first, last) of one piece. */
static void run_piece(const shared *s, int64_t piece, int64_t first, int64_t last, int32_t thread)
{
    const cut *c = &s->cut;
    int64_t row = piece / c->columns * c->row_step, column = piece % c->columns * c->column_step;
    int64_t rows = least(c->row_step, s->g->m - row), columns = least(c->column_step, s->g->n - column);
    if (c->slices > 1 && c->by_rows) {
        rows = least((last - first) * c->slice, rows - first * c->slice), row += first * c->slice;
    } else if (c->slices > 1) {
        columns = least((last - first) * c->slice, columns - first * c->slice), column += first * c->slice;
    }
    if (rows <= 0 || columns <= 0) return;
    grdi_gemm part = grdi_gemm_part(s->g, row, rows, column, columns);
    s->isa->run(&part, s->scratch + (size_t)thread * s->each_bytes);
}

/* Slices of all pieces, counted one behind the other. A range is of one piece mostly, of more where there are many. */
static void run_slices(int64_t begin, int64_t end, int32_t thread, void *context)
{
    const shared *s = context;
    for (int64_t slices = s->cut.slices, piece; begin < end; begin = (piece + 1) * slices) {
        piece = begin / slices;
        run_piece(s, piece, begin % slices, least(end - piece * slices, slices), thread);
    }
}

void grdi_gemm_shared(const grdi_gemm *g, int32_t threads, const grdi_gemm_isa *isa, void *scratch)
{
    if (g->m <= 0 || g->n <= 0) return;
    shared s = {g, isa, best_cut(g, threads, isa), scratch, 0};
    const int64_t pieces = s.cut.rows * s.cut.columns;
    s.each_bytes = piece_scratch(g, &s.cut, isa);
    grdi_parallel_share(threads, pieces * s.cut.slices, s.cut.slices, run_slices, &s);
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
