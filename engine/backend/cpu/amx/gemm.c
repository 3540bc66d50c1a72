/* gemm.c - products of bf16 by AMX: tiles of 16 x 16 sums, four of them at a time, from operands that are packed once
 * (gemm_pack.h). What is no product of bf16 goes to AVX-512's loops.
 *
 * Four tiles of C take two of A and two of B, 4 KB, for 4 x 16 cycles of multiplying: A's panel comes from the
 * first-level cache, where it stays for all columns of a block of B, which lies in the second. Rows of C are written
 * from left to right, as the processor's prefetching wants it. */
#include "backend/cpu/gemm.h"
#include "backend/cpu/amx/gemm_pack.h"
#include "backend/cpu/kernels/gemm_finish.h"

enum {
    K_BLOCK = 512,       /* K is cut into equal blocks of at most this: a panel of A takes 32 KB */
    BLOCK_COLUMNS = 512, /* of B, which stay packed for all rows */
    KEPT_ROWS = 1024     /* whose sums are kept between blocks of k */
};

static int64_t k_block_of(int64_t k)
{
    int64_t blocks = (k + K_BLOCK - 1) / K_BLOCK;
    return blocks > 0 ? gemm_up((k + blocks - 1) / blocks, AMX_STEP) : AMX_STEP;
}

/* ---- what is needed next ---- */

/* `lanes` lanes and k elements of each, to be packed later. */
static amx_ahead ahead_of(const amx_source *s, int64_t lane, int64_t k, int64_t lanes, int64_t count)
{
    const int64_t size = s->type == GRD_F32 ? 4 : 2;
    if (lanes <= 0 || count <= 0) return (amx_ahead){.rows = 0};
    if (s->k_step == 1) return (amx_ahead){amx_at(s, lane, k), lanes, s->lane_step * size, (count * size + 63) / 64, 0};
    return (amx_ahead){amx_at(s, lane, k), count, s->k_step * size, (lanes * size + 63) / 64, 0};
}

enum { STREAMS = 3 /* operands, C and y */ };

/* A tile of C: rows x columns at (row, column), and its sums over a block of k. */
typedef struct tile {
    int64_t row, rows, column, columns;
    bool first, last; /* block of k */
    float *sums;
    float *kept; /* sums of the blocks before and with this one; NULL: there is one block */
    int64_t kept_row;
} tile;

/* ---- what follows the sums ---- */

typedef struct line {
    __m512 x[2]; /* 32 columns */
} line;

static inline line load_line(const void *from, const bool half, uint32_t mask)
{
    line l;
    for (int j = 0; j < 2; j++) {
        const __mmask16 lanes = (__mmask16)(mask >> 16 * j);
        if (half)
            l.x[j] = (__m512)_mm512_slli_epi32(
                _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(lanes, (const uint16_t *)from + 16 * j)), 16);
        else l.x[j] = _mm512_maskz_loadu_ps(lanes, (const float *)from + 16 * j);
    }
    return l;
}

static inline void store_line(void *to, const bool half, uint32_t mask, line l)
{
    if (half) {
        _mm512_mask_storeu_epi16(to, mask, amx_round(l.x[0], l.x[1]));
        return;
    }
    _mm512_mask_storeu_ps(to, (__mmask16)mask, l.x[0]);
    _mm512_mask_storeu_ps((float *)to + 16, (__mmask16)(mask >> 16), l.x[1]);
}

static inline line add_lines(line a, line b)
{
    return (line){{_mm512_add_ps(a.x[0], b.x[0]), _mm512_add_ps(a.x[1], b.x[1])}};
}

static char *element(void *c, const bool half, int64_t offset)
{
    return c ? (char *)c + offset * (half ? 2 : 4) : NULL;
}

/* Lines of C or y that finish() will write, some of them read before. Those that `steps` do not fetch are asked for at
 * once. */
static amx_ahead ahead_of_tile(const grdi_gemm *g, void *c, int64_t row, const tile *t, int64_t steps)
{
    const bool half = g->c_type == GRD_BF16;
    if (!c || !t->last) return (amx_ahead){.rows = 0};
    amx_ahead next = {element(c, half, t->row * row + t->column), t->rows, row * (half ? 2 : 4), half ? 1 : 2, 0};
    for (int64_t late = next.rows * next.lines - AMX_FETCH * steps; late > 0; late--) amx_fetch(&next);
    return next;
}

GEMM_INLINE void finish_in(const grdi_gemm *g, const tile *t, const bool half, const grdi_activation activation)
{
    line bias = {{_mm512_setzero_ps(), _mm512_setzero_ps()}};
    const uint32_t mask = amx_mask(t->columns);
    const bool adds = t->last && g->add, from_kept = t->kept && !t->first;
    if (t->last && g->bias) {
        const bool narrow = g->bias_type == GRD_BF16;
        bias = load_line((const char *)g->bias + t->column * (narrow ? 2 : 4), narrow, mask);
    }
    const int64_t size = half ? 2 : 4, kept_row = t->kept ? t->kept_row : 0;
    const int64_t c_row = g->c ? g->c_row * size : 0, y_row = g->y ? g->y_row * size : 0;
    float *kept = t->kept;
    char *c = element(g->c, half, t->row * g->c_row + t->column);
    char *y = element(g->y, half, t->row * g->y_row + t->column);
    for (int64_t i = 0; i < t->rows; i++, kept += kept_row, c += c_row, y += y_row) {
        line l = load_line(t->sums + i * AMX_PANEL, false, UINT32_MAX);
        if (from_kept) l = add_lines(load_line(kept, false, mask), l);
        if (!t->last) {
            store_line(kept, false, mask, l);
            continue;
        }
        l = add_lines(l, bias);
        if (adds) l = add_lines(load_line(c, half, mask), l);
        if (g->c) store_line(c, half, mask, l);
        if (activation == GRDI_ACT_NONE) continue;
        GEMM_UNROLL
        for (int j = 0; j < 2; j++) l.x[j] = (__m512)gemm_activation(activation, (grdi_vf)l.x[j]);
        store_line(y, half, mask, l);
    }
}

static void finish(const grdi_gemm *g, const tile *t)
{
#define FINISH_CASE(which)                                                                                             \
    case which:                                                                                                        \
        if (g->c_type == GRD_BF16) finish_in(g, t, true, which);                                                       \
        else finish_in(g, t, false, which);                                                                            \
        return;
    switch (t->last ? g->activation : GRDI_ACT_NONE) {
        FINISH_CASE(GRDI_ACT_RELU)
        FINISH_CASE(GRDI_ACT_GELU)
        FINISH_CASE(GRDI_ACT_GELU_TANH)
        FINISH_CASE(GRDI_ACT_SILU)
        FINISH_CASE(GRDI_ACT_RELU_SQUARED)
        FINISH_CASE(GRDI_ACT_TANH)
        FINISH_CASE(GRDI_ACT_SIGMOID)
        FINISH_CASE(GRDI_ACT_NONE)
    default: return;
    }
#undef FINISH_CASE
}

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
    const amx_source a_panel = {amx_at(&a, row, p), a.type, a.lane_step, a.k_step};
    if (!direct) amx_pack(&a_panel, rows, k, r->a, false);
    const amx_operand rows_of_a =
        direct ? (amx_operand){a_panel.from, amx_rows(2 * g->a_row)} : (amx_operand){r->a, amx_packed};
    amx_ahead next[STREAMS] = {
        row + rows < end
            ? ahead_of(&a, row + rows, p, gemm_least(AMX_PANEL, end - row - rows), k)
            : ahead_of(&a, top, p + k, gemm_least(AMX_PANEL, end - top), gemm_least(k_block, g->k - p - k))};
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
            const amx_source b_panel = {amx_at(&b, t.column, p), b.type, b.lane_step, b.k_step};
            amx_pack(&b_panel, t.columns, k, packed_b, true);
            next[0] = ahead_of(&b, t.column + AMX_PANEL, p, gemm_least(AMX_PANEL, columns - q - AMX_PANEL), k);
        }
        next[1] = ahead_of_tile(g, g->c, g->c_row, &t, steps);
        next[2] = ahead_of_tile(g, g->y, g->y_row, &t, steps);
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

static void run(const grdi_gemm *g, char *scratch)
{
    if (g->m <= 0 || g->n <= 0) return;
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

static const grdi_gemm_isa amx = {.run = grdi_gemm_amx,
                                  .scratch = grdi_gemm_scratch_amx,
                                  .cycles = piece_cycles,
                                  .worth = WORTH,
                                  .rows = AMX_PANEL,
                                  .columns = AMX_PANEL};

/* ---- what gemm.h promises ---- */

size_t grdi_gemm_scratch_amx(const grdi_gemm *g)
{
    return grdi_gemm_of_bf16(g) ? scratch_of(g) : grdi_gemm_scratch_avx512bf16(g);
}

void grdi_gemm_amx(const grdi_gemm *g, void *scratch)
{
    if (grdi_gemm_of_bf16(g)) run(g, scratch);
    else grdi_gemm_avx512bf16(g, scratch);
}

size_t grdi_gemm_all_scratch_amx(const grdi_gemm *g, int32_t threads)
{
    return grdi_gemm_of_bf16(g) ? grdi_gemm_shared_scratch(g, threads, &amx)
                                : grdi_gemm_all_scratch_avx512bf16(g, threads);
}

void grdi_gemm_all_amx(const grdi_gemm *g, int32_t threads, void *scratch)
{
    if (grdi_gemm_of_bf16(g)) grdi_gemm_shared(g, threads, &amx, scratch);
    else grdi_gemm_all_avx512bf16(g, threads, scratch);
}
