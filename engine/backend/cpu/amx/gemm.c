/* gemm.c - products of bf16 by AMX: tiles of 16 x 16 sums, four of them at a time, from operands that are packed once
 * (gemm_pack.h). What is no product of bf16 goes to AVX-512's loops.
 *
 * Four tiles of C take two of A and two of B, 4 KB, for 4 x 16 cycles of multiplying: A's panel comes from the
 * first-level cache, where it stays for all columns of a block of B, which lies in the second. Rows of C are written
 * from left to right, as the processor's prefetching wants it. */
#include "backend/cpu/gemm.h"
#include "backend/cpu/amx/finish.h"
#include "backend/cpu/amx/gemm_f32.h"

enum {
    K_BLOCK = 512,       /* K is cut into equal blocks of at most this: a panel of A takes 32 KB */
    BLOCK_COLUMNS = 512, /* of B, which stay packed for all rows */
    KEPT_ROWS = 1024     /* whose sums are kept between blocks of k */
};

static int64_t k_block_of(int64_t k)
{
    return amx_part_of(k, K_BLOCK, AMX_STEP);
}

enum { STREAMS = 3 /* operands, C and y */ };

/* ---- loops ---- */

/* Where a product keeps what it packs, and sums between blocks of k. */
typedef struct room {
    char *a, *b;
    float *kept; /* of KEPT_ROWS rows and BLOCK_COLUMNS columns, or fewer; NULL: k is one block */
    int64_t kept_row;
} room;

/* What lies in place as A's tiles want it: lanes of bf16, whole steps of k. */
static bool lies(const grdi_gemm *g)
{
    return g->a_type == GRD_BF16 && g->a_col == 1 && g->k % AMX_STEP == 0;
}

/* A panel of rows of A from `row` on against the columns of B from `column` on, over the k from p on. `top`: the first
 * row that uses these columns, for which they are packed; `end`: the one after the last. */
static void multiply_rows(const grdi_gemm *g, const room *r, int64_t top, int64_t end, int64_t row, int64_t column,
                          int64_t p)
{
    _Alignas(64) float sums[2][AMX_PANEL * AMX_PANEL];
    const int64_t k_block = k_block_of(g->k), k = gemm_least(k_block, g->k - p);
    const int64_t rows = gemm_least(AMX_PANEL, end - row), columns = gemm_least(BLOCK_COLUMNS, g->n - column);
    const int64_t steps = (k + AMX_STEP - 1) / AMX_STEP, panel_bytes = 2 * AMX_BLOCK_BYTES * steps;
    const amx_source a = {g->a, g->a_type, g->a_row, g->a_col}, b = {g->b, g->b_type, g->b_col, g->b_row};
    const bool direct = lies(g) && rows == AMX_PANEL;
    const amx_source a_panel = amx_from(&a, row, p);
    if (!direct) amx_pack(&a_panel, rows, k, r->a, false);
    const amx_operand rows_of_a =
        direct ? (amx_operand){a_panel.from, amx_rows(2 * g->a_row)} : (amx_operand){r->a, amx_packed};
    amx_ahead next[STREAMS] = {
        row + rows < end
            ? amx_ahead_of(&a, row + rows, p, gemm_least(AMX_PANEL, end - row - rows), k)
            : amx_ahead_of(&a, top, p + k, gemm_least(AMX_PANEL, end - top), gemm_least(k_block, g->k - p - k))};
    tile before = {.rows = 0}; /* is finished while the next one is multiplied */
    char *packed_b = r->b;
    for (int64_t q = 0; q < columns; q += AMX_PANEL, packed_b += panel_bytes) {
        const tile t = {.row = row,
                        .rows = rows,
                        .column = column + q,
                        .columns = gemm_least(AMX_PANEL, columns - q),
                        .first = p == 0,
                        .last = p + k >= g->k,
                        .sums = sums[before.sums == sums[0]],
                        .kept = r->kept ? r->kept + (row - top) * r->kept_row + q : NULL,
                        .kept_row = r->kept_row};
        if (row == top) {
            const amx_source b_panel = amx_from(&b, t.column, p);
            amx_pack(&b_panel, t.columns, k, packed_b, true);
            next[0] = amx_ahead_of(&b, t.column + AMX_PANEL, p, gemm_least(AMX_PANEL, columns - q - AMX_PANEL), k);
        }
        next[1] = ahead_of_tile(t.last ? g->c : NULL, g->c_type == GRD_BF16, g->c_row, &t, AMX_FETCH * steps);
        next[2] = ahead_of_tile(t.last ? g->y : NULL, g->c_type == GRD_BF16, g->y_row, &t, AMX_FETCH * steps);
        amx_multiply(rows_of_a, (amx_operand){packed_b, amx_packed}, steps, t.sums, AMX_PANEL * sizeof(float), false,
                     next, STREAMS, t.rows, t.columns);
        if (before.rows) finish(g, &before);
        before = t;
    }
    finish(g, &before);
}

static size_t a_bytes(const grdi_gemm *g)
{
    return (size_t)(AMX_PANEL * k_block_of(g->k) * 2);
}

static size_t b_bytes(const grdi_gemm *g)
{
    return (size_t)(gemm_up(gemm_least(BLOCK_COLUMNS, g->n), AMX_PANEL) * k_block_of(g->k) * 2);
}

static size_t kept_bytes(const grdi_gemm *g)
{
    if (g->k <= k_block_of(g->k)) return 0;
    return (size_t)(gemm_least(KEPT_ROWS, g->m) * gemm_up(gemm_least(BLOCK_COLUMNS, g->n), 16)) * sizeof(float);
}

static size_t scratch_of(const grdi_gemm *g)
{
    return a_bytes(g) + b_bytes(g) + kept_bytes(g);
}

static void run(const grdi_gemm *g, void *memory)
{
    if (g->m <= 0 || g->n <= 0) return;
    char *scratch = memory;
    const size_t kept = kept_bytes(g);
    const room r = {scratch, scratch + a_bytes(g), kept ? (float *)(scratch + a_bytes(g) + b_bytes(g)) : NULL,
                    gemm_up(gemm_least(BLOCK_COLUMNS, g->n), 16)};
    const int64_t k_block = k_block_of(g->k), row_block = kept ? KEPT_ROWS : g->m;
    amx_begin();
    for (int64_t column = 0; column < g->n; column += BLOCK_COLUMNS)
        for (int64_t top = 0; top < g->m; top += row_block)
            for (int64_t p = 0; p < g->k || p == 0; p += k_block)
                for (int64_t row = top; row < g->m && row < top + row_block; row += AMX_PANEL)
                    multiply_rows(g, &r, top, gemm_least(g->m, top + row_block), row, column, p);
    amx_end();
}

/* ---- several threads ---- */

enum { RATE = 512 /* multiply-adds a cycle */, WORTH = 1 << 20 /* multiply-adds of a thread */ };
#define PACK_ALONG 0.1 /* cycles an element */
#define PACK_TURN 0.2

static double piece_cycles(const grdi_gemm *g)
{
    double k = (double)gemm_up(g->k, AMX_STEP), m = (double)g->m, n = (double)g->n;
    double a = g->a_col == 1 ? PACK_ALONG : PACK_TURN, b = g->b_col == 1 ? PACK_ALONG : PACK_TURN;
    return m * n * k / RATE + (m * a + n * b) * k;
}

static const grdi_gemm_isa amx = {.run = run,
                                  .scratch = scratch_of,
                                  .cycles = piece_cycles,
                                  .worth = WORTH,
                                  .rows = AMX_PANEL,
                                  .columns = AMX_PANEL};

/* ---- what gemm.h promises ---- */

size_t grdi_gemm_scratch_amx(const grdi_gemm *g)
{
    if (grdi_gemm_of_bf16(g)) return scratch_of(g);
    return grdi_gemm_f32_pays(g) ? grdi_gemm_f32_scratch(g, 1) : grdi_gemm_scratch_avx512bf16(g);
}

void grdi_gemm_amx(const grdi_gemm *g, void *scratch)
{
    if (grdi_gemm_of_bf16(g)) run(g, scratch);
    else if (grdi_gemm_f32_pays(g)) grdi_gemm_f32(g, 1, scratch);
    else grdi_gemm_avx512bf16(g, scratch);
}

size_t grdi_gemm_all_scratch_amx(const grdi_gemm *g, int32_t threads)
{
    if (grdi_gemm_of_bf16(g)) return grdi_gemm_shared_scratch(g, threads, &amx);
    return grdi_gemm_f32_pays(g) ? grdi_gemm_f32_scratch(g, threads)
                                 : grdi_gemm_all_scratch_avx512bf16(g, threads);
}

void grdi_gemm_all_amx(const grdi_gemm *g, int32_t threads, void *scratch)
{
    if (grdi_gemm_of_bf16(g)) grdi_gemm_shared(g, threads, &amx, scratch);
    else if (grdi_gemm_f32_pays(g)) grdi_gemm_f32(g, threads, scratch);
    else grdi_gemm_all_avx512bf16(g, threads, scratch);
}
