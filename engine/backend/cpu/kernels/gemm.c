/* gemm.c - products of matrices: blocks of A kept in the second-level cache, slivers of B in the first, tiles of C
 * in registers. Operands are packed only where that pays: see plan_packing(). */
#include "backend/cpu/gemm.h"
#include "backend/cpu/kernels/gemm_finish.h"
#include "backend/cpu/kernels/gemm_pack.h"

enum {
    K_BLOCK = 800,            /* K is cut into equal blocks of at most this; fewer blocks, fewer passes over C */
    A_BYTES = 288 << 10,      /* a packed block of A: most of a second-level cache of 512 KiB */
    B_BYTES = 2 << 20,        /* packed slivers of B that several blocks of A use */
    GROUP = 2 * GEMM_COLUMNS, /* columns packed at a time */
    ROWS_MOST = 1024,         /* in a block of A; fewer where the processor wants so: grdi_gemm_rows_most() */
    NARROW_ROWS = 240,        /* block of sums where C is not f32 and k takes several blocks */
    NARROW_COLUMNS = 512
};

/* Multiply-adds per cycle and cycles per element packed or read, as measured on Zen 3; only their ratios matter. */
#define RATE (GRDI_LANES == 4 ? 8.0 : 16.0)
#define PACK_LANES 0.2
#define PACK_K 0.45
#define PACK_ANY 2.0
#define TURN 0.7 /* writing an element of C^T */
#define SHARE 1.0 /* reading an element that other threads read too, from their caches as like as not */

/* A product as the loops below see it. Where both operands count as bf16 and the processor multiplies that, they are
 * packed in pairs along k, and k counts pairs. */
typedef struct job {
    const grdi_gemm *g; /* without turning: C, bias and what follows the sums */
    int64_t m, n, k;
    const void *a, *b;
    int64_t a_row, a_col, b_row, b_col;
    grd_dtype a_type, b_type;
    int64_t pair; /* elements in one k: 2 or 1 */
    bool turned, direct_a, direct_b, a_round, b_round;
    int64_t k_block, m_block, n_block;
    bool keep_b; /* slivers stay packed for the following blocks of A */
    float *packed_a, *packed_b;
    /* Sums go to `out`, whose rows are out_row apart: row i, column j of C is out[i * out_row + j], or out[j * out_row
     * + i] if turned. Without `out` each group of columns has them in `sums` until it is finished. */
    float *out, *sums;
    int64_t out_row;
} job;

/* Whether products of bf16 are done in pairs. */
static bool in_pairs(const grdi_gemm *g)
{
    return GRDI_PAIRS && grdi_gemm_of_bf16(g);
}

static const void *at(const void *matrix, grd_dtype type, int64_t offset)
{
    return type == GRD_F32 ? (const void *)((const float *)matrix + offset)
                           : (const void *)((const uint16_t *)matrix + offset);
}

static int64_t k_block_of(int64_t k)
{
    int64_t blocks = (k + K_BLOCK - 1) / K_BLOCK;
    return blocks > 1 ? gemm_up((k + blocks - 1) / blocks, 4) : k > 0 ? k : 1;
}

/* ---- what to pack ---- */

static double pack_cost(int64_t lane_step, int64_t k_step, int64_t lanes, int64_t k)
{
    double each = lane_step == 1 ? PACK_LANES : k_step == 1 ? PACK_K : PACK_ANY;
    return each * (double)lanes * (double)k;
}

/* Rows that lie a multiple of a large power of two apart fall into few cache sets and drive each other out. */
static bool crowded(int64_t step, int64_t most)
{
    int64_t bytes = step * 4, power = bytes & -bytes;
    return power > most;
}

/* Estimated cycles of a job on one core, and which operands it reads where they are. */
static double plan_packing(job *j)
{
    double rows = (double)j->m, columns = (double)gemm_up(j->n, GRDI_LANES);
    double compute = (rows + GEMM_ROWS * 0.5) * columns * (double)j->k / RATE;
    double pack_a = pack_cost(j->a_row, j->a_col, j->m, j->k);
    double pack_b = pack_cost(j->b_col, j->b_row, j->n, j->k);
    /* a pair in place is one of bf16 at an even distance */
    bool a_lies = j->pair == 1 ? j->a_type == GRD_F32 && !j->a_round
                               : j->a_type == GRD_BF16 && j->a_row % 2 == 0 && j->g->k % 2 == 0;
    j->direct_a = a_lies && j->a_col == 1 &&
                  (j->m <= GEMM_ROWS || (pack_a > 0.025 * compute && !crowded(j->a_row / j->pair, 1024)));
    j->direct_b = j->pair == 1 && j->b_type == GRD_F32 && j->b_col == 1 && !j->b_round &&
                  (j->m <= GEMM_ROWS || (pack_b > 0.025 * compute && !crowded(j->b_row, 128)));
    double turn = j->turned ? TURN * (double)j->m * (double)j->n * (double)((j->k + j->k_block - 1) / j->k_block) : 0;
    return compute + (j->direct_a ? 0 : pack_a) + (j->direct_b ? 0 : pack_b) + turn;
}

/* C^T = B^T A^T */
static job turned_job(const job *j)
{
    job t = *j;
    t.m = j->n, t.n = j->m;
    t.a = j->b, t.a_row = j->b_col, t.a_col = j->b_row, t.a_type = j->b_type, t.a_round = j->b_round;
    t.b = j->a, t.b_row = j->a_col, t.b_col = j->a_row, t.b_type = j->a_type, t.b_round = j->a_round;
    t.turned = true;
    return t;
}

static job plan_job(const grdi_gemm *g, double *cycles)
{
    const int64_t pair = in_pairs(g) ? 2 : 1, k = (g->k + pair - 1) / pair;
    job j = {.g = g,
             .m = g->m,
             .n = g->n,
             .k = k,
             .pair = pair,
             .a = g->a,
             .b = g->b,
             .a_row = g->a_row,
             .a_col = g->a_col,
             .b_row = g->b_row,
             .b_col = g->b_col,
             .a_type = g->a_type,
             .b_type = g->b_type,
             .a_round = g->a_round,
             .b_round = g->b_round,
             .k_block = k_block_of(k)};
    job t = turned_job(&j);
    double straight = plan_packing(&j), turned = plan_packing(&t);
    *cycles = straight < turned ? straight : turned;
    if (turned < straight) j = t;
    int64_t m_most = gemm_least(ROWS_MOST, grdi_gemm_rows_most());
    m_most = gemm_least(A_BYTES / 4 / j.k_block, m_most) / GEMM_ROWS * GEMM_ROWS;
    int64_t m_blocks = (j.m + m_most - 1) / m_most;
    j.m_block = m_blocks > 0 ? gemm_up((j.m + m_blocks - 1) / m_blocks, GEMM_ROWS) : GEMM_ROWS;
    j.keep_b = m_blocks > 1;
    j.n_block = j.n;
    if (j.keep_b) {
        int64_t n_most = B_BYTES / 4 / j.k_block / GROUP * GROUP;
        int64_t n_blocks = (j.n + n_most - 1) / n_most;
        if (n_blocks > 0) j.n_block = gemm_up((j.n + n_blocks - 1) / n_blocks, GROUP);
    }
    return j;
}

/* ---- the loops ---- */

/* At most GROUP columns of B, from `column` on, and what becomes of their sums. The tiles read them in slivers of
 * GEMM_COLUMNS; where `fresh` they are still to be packed, which the first tile of each does. */
typedef struct group {
    int64_t column, columns, k;
    const float *source; /* in B */
    float *slivers;      /* packed, or to be packed */
    bool fresh;
    float *out; /* of the block's first row and the group's first column */
    int64_t out_row;
    const float *bias; /* NULL: none */
    bool add;
} group;

static gemm_layout layout_of(const job *j)
{
    if (j->pair == 2) return j->direct_a ? GEMM_PAIRS_BY_K : GEMM_PAIRS_BY_ROW;
    return j->direct_a ? GEMM_BY_K : GEMM_BY_ROW;
}

/* A tile that is not full or stands turned, at (row, column) of the group: through a buffer. */
static void odd_tile(const job *j, const group *g, int64_t row, int64_t column, int rows, int columns, const float *a,
                     int64_t a_step, const float *b, int64_t b_step)
{
    _Alignas(64) float tile[GEMM_ROWS * GEMM_COLUMNS];
    gemm_end end = {.c = tile, .c_row = GEMM_COLUMNS};
    int vectors = columns <= GRDI_LANES ? 1 : GEMM_VECTORS;
    GRDI_ISA_NAME(grdi_gemm_tile)(rows, vectors, layout_of(j), g->k, a, a_step, b, b_step, &end);
    const bool add = g->add;
    const float *bias = add ? NULL : g->bias;
    if (!j->turned) {
        for (int r = 0; r < rows; r++) {
            float *c = g->out + (row + r) * g->out_row + column;
            for (int s = 0; s < columns; s++)
                c[s] = tile[r * GEMM_COLUMNS + s] + (add ? c[s] : bias ? bias[column + s] : 0.0f);
        }
        return;
    }
    for (int s = 0; s < columns; s++) {
        float *c = g->out + (column + s) * g->out_row + row;
        for (int r = 0; r < rows; r++) c[r] = tile[r * GEMM_COLUMNS + s] + (add ? c[r] : bias ? bias[row + r] : 0.0f);
    }
}

/* Elements that will be packed next: the tiles before fetch them. */
typedef struct upcoming {
    const char *from;       /* NULL: nothing */
    int64_t rows, row_step; /* rows of `lines` cache lines, row_step bytes apart */
    int64_t lines;
    bool along; /* a piece is a part of a row, else of a column of lines */
} upcoming;

static upcoming upcoming_lanes(const void *from, grd_dtype type, int64_t lane_step, int64_t k_step, int64_t lanes,
                               int64_t k)
{
    int64_t size = (int64_t)grd_dtype_size(type);
    if (lanes <= 0 || k <= 0) return (upcoming){.from = NULL};
    if (k_step == 1) return (upcoming){from, lanes, lane_step * size, (k * size + 63) / 64, true};
    return (upcoming){from, k, k_step * size, (lanes * size + 63) / 64, false};
}

/* Piece `piece` of what tiles of depth k fetch: a part of a row, or of a column of lines. */
static gemm_ahead fetch_piece(const upcoming *u, int64_t piece, int64_t k)
{
    int64_t each = k / GEMM_AHEAD;
    if (!u->from || each < 1) return (gemm_ahead){NULL, 0};
    if (u->along) {
        int64_t parts = (u->lines + each - 1) / each, row = piece / parts;
        const char *from = u->from + row * u->row_step + piece % parts * each * 64;
        return row < u->rows ? (gemm_ahead){from, 64} : (gemm_ahead){NULL, 0};
    }
    int64_t line = piece % u->lines, row = piece / u->lines * each;
    return row < u->rows ? (gemm_ahead){u->from + row * u->row_step + line * 64, u->row_step} : (gemm_ahead){NULL, 0};
}

typedef struct sliver {
    const float *b;
    int64_t step;
} sliver;

/* The columns from q on, for the first tile that reads them or for others. The last columns of B are packed even where
 * B is read in place, not to read beyond the row. */
static sliver find_sliver(const job *j, const group *g, int64_t q, bool first)
{
    bool whole = g->columns - q >= GEMM_COLUMNS;
    if ((j->direct_b || (g->fresh && first)) && whole) return (sliver){g->source + q, j->b_row};
    float *to = j->direct_b ? g->slivers : g->slivers + q * g->k;
    if ((j->direct_b || g->fresh) && first)
        gemm_pack(g->source + q, GRD_F32, 1, j->b_row, g->columns - q, g->k, to, GEMM_COLUMNS, false);
    return (sliver){to, GEMM_COLUMNS};
}

/* One block of A against a group; its tiles fetch ahead from `next`, the first one piece number `piece`. */
static void group_tiles(const job *j, const group *g, int64_t rows, const float *a, const upcoming *next, int64_t piece)
{
    const int64_t k = g->k;
    for (int64_t q = 0; q < g->columns; q += GEMM_COLUMNS) {
        int64_t width = gemm_least(GEMM_COLUMNS, g->columns - q);
        bool whole = width == GEMM_COLUMNS;
        gemm_end end = {.c_row = g->out_row, .add = g->add, .bias = g->bias && !g->add ? g->bias + q : NULL};
        for (int64_t i = 0; i < rows; i += GEMM_ROWS) {
            int height = (int)gemm_least(GEMM_ROWS, rows - i);
            const int64_t step = j->direct_a ? j->a_row / j->pair : GEMM_ROWS;
            const float *panel = j->direct_a ? a + i * step : a + i * k;
            sliver s = find_sliver(j, g, q, i == 0);
            end.packed_b = g->fresh && whole && i == 0 ? g->slivers + q * k : NULL;
            for (int f = 0; f < GEMM_STREAMS; f++) end.ahead[f] = fetch_piece(next, piece++, k);
            if (whole && !j->turned) {
                end.c = g->out + i * g->out_row + q;
                GRDI_ISA_NAME(grdi_gemm_tile)
                (height, GEMM_VECTORS, layout_of(j), k, panel, step, s.b, s.step, &end);
            } else {
                odd_tile(j, g, i, q, height, (int)width, panel, step, s.b, s.step);
            }
        }
    }
}

/* Elements of the operands in k of the job, from p on. */
static int64_t sources(const job *j, int64_t p, int64_t k)
{
    return gemm_least(k * j->pair, j->g->k - p * j->pair);
}

/* Rounds values to bf16 while they are in cache. */
static void round_packed(float *packed, int64_t count)
{
    int64_t i = 0;
    for (; i + GRDI_LANES <= count; i += GRDI_LANES)
        grdi_store(packed + i, (grdi_vf)(grdi_bf16_bits(grdi_load(packed + i)) << 16));
    for (; i < count; i++) packed[i] = grdi_bf16_to_f32(grdi_f32_to_bf16(packed[i]));
}

/* `rows` rows of A from `from` on, over k of the job, of which `there` elements are there. */
static void pack_a(const job *j, const void *from, int64_t rows, int64_t k, int64_t there)
{
    gemm_pack(from, j->a_type, j->a_row, j->a_col, rows, there, j->packed_a, GEMM_ROWS, j->pair == 2);
    if (j->a_round && j->pair == 1) round_packed(j->packed_a, gemm_up(rows, GEMM_ROWS) * k);
}

/* The group's columns, into its slivers. */
static void pack_b(const job *j, const group *g, int64_t there)
{
    gemm_pack(g->source, j->b_type, j->b_col, j->b_row, g->columns, there, g->slivers, GEMM_COLUMNS, j->pair == 2);
    if (j->b_round && j->pair == 1) round_packed(g->slivers, gemm_up(g->columns, GEMM_COLUMNS) * g->k);
}

/* What tiles fetch where no B is packed: the block of A behind the one at `row` and p, which is the next rows or the
 * first rows of the next k. */
static upcoming upcoming_a(const job *j, int64_t row, int64_t rows, int64_t p, int64_t k)
{
    row += rows;
    if (row >= j->m) row = 0, p += k;
    if (p >= j->k || j->direct_a) return (upcoming){.from = NULL};
    return upcoming_lanes(at(j->a, j->a_type, row * j->a_row + p * j->pair * j->a_col), j->a_type, j->a_row, j->a_col,
                          gemm_least(j->m_block, j->m - row), sources(j, p, k));
}

static const float *panels_of_a(const job *j, int64_t row, int64_t rows, int64_t p, int64_t k)
{
    const void *a = at(j->a, j->a_type, row * j->a_row + p * j->pair * j->a_col);
    if (j->direct_a) return a;
    pack_a(j, a, rows, k, sources(j, p, k));
    return j->packed_a;
}

/* Whether the tiles can pack B while they read it. */
static bool packs_in_passing(const job *j, int64_t rows)
{
    return j->pair == 1 && j->b_type == GRD_F32 && j->b_col == 1 && !j->b_round && !j->turned && !j->direct_a &&
           rows >= GEMM_ROWS;
}

/* Where a group's sums go, and its bias as f32, which `bias` may have to hold. */
static void find_sums(const job *j, group *g, int64_t row, int64_t rows, float *bias)
{
    if (j->out) {
        g->out = j->out + (j->turned ? g->column * j->out_row + row : row * j->out_row + g->column);
        g->out_row = j->out_row;
    } else {
        g->out = j->sums, g->out_row = j->turned ? rows : GROUP;
    }
    const grdi_gemm *whole = j->g;
    if (!whole->bias) return;
    int64_t first = j->turned ? row : g->column, count = j->turned ? rows : g->columns;
    g->bias = whole->bias_type == GRD_F32 ? (const float *)whole->bias + first : bias;
    for (int64_t i = 0; g->bias == bias && i < count; i++)
        bias[i] = gemm_read(whole->bias, whole->bias_type, first + i);
}

static void finish_group(const job *j, const group *g, int64_t row, int64_t rows)
{
    if (j->turned) gemm_finish_block(j->g, g->out, g->out_row, g->column, g->columns, row, rows);
    else gemm_finish_block(j->g, g->out, g->out_row, row, rows, g->column, g->columns);
}

/* One block of A (rows from `row`) against the columns [column, column + columns) over k from `p`. */
static void block(const job *j, int64_t row, int64_t rows, int64_t column, int64_t columns, int64_t p, int64_t k)
{
    float bias[ROWS_MOST];
    const float *a = panels_of_a(j, row, rows, p, k);
    bool packs = !j->direct_b && (!j->keep_b || row == 0), in_passing = packs_in_passing(j, rows);
    bool finishes = p + k >= j->k && (!j->out || j->g->activation != GRDI_ACT_NONE);
    upcoming next = upcoming_a(j, row, rows, p, k);
    int64_t pieces = (rows + GEMM_ROWS - 1) / GEMM_ROWS * GEMM_STREAMS, there = sources(j, p, k);
    for (int64_t q = 0; q < columns; q += GROUP) {
        int64_t width = gemm_least(GROUP, columns - q), next_width = gemm_least(GROUP, columns - q - GROUP);
        const void *source = at(j->b, j->b_type, (column + q) * j->b_col + p * j->pair * j->b_row);
        group g = {.column = column + q, .columns = width, .k = k, .source = source, .fresh = packs && in_passing};
        g.slivers = j->keep_b ? j->packed_b + q * k : j->packed_b;
        g.add = p > 0 || (j->out && j->g->add);
        find_sums(j, &g, row, rows, bias);
        if (packs && !g.fresh) pack_b(j, &g, there);
        if (packs)
            next = upcoming_lanes(at(source, j->b_type, GROUP * j->b_col), j->b_type, j->b_col, j->b_row, next_width,
                                  there);
        group_tiles(j, &g, rows, a, &next, packs ? 0 : q / GEMM_COLUMNS * pieces);
        if (finishes) finish_group(j, &g, row, rows);
    }
}

static void run_job(job *j, float *scratch)
{
    j->packed_a = scratch;
    j->packed_b = scratch + (j->direct_a ? 0 : gemm_up(j->m_block * j->k_block, 16));
    for (int64_t column = 0; column < j->n; column += j->n_block)
        for (int64_t p = 0; p < j->k || p == 0; p += j->k_block)
            for (int64_t row = 0; row < j->m; row += j->m_block)
                block(j, row, gemm_least(j->m_block, j->m - row), column, gemm_least(j->n_block, j->n - column), p,
                      gemm_least(j->k_block, j->k - p));
}

/* ---- one product on one thread ---- */

/* C is not f32, or the bias is not: sums have a place of their own. */
static bool is_narrow(const grdi_gemm *g)
{
    return g->c_type != GRD_F32 || (g->bias && g->bias_type != GRD_F32);
}

enum { SUMS = NARROW_ROWS * NARROW_COLUMNS };

/* Grows with m and n, so that what suffices for a piece suffices for smaller ones. */
size_t GRDI_ISA_NAME(grdi_gemm_scratch)(const grdi_gemm *g)
{
    int64_t k = k_block_of(in_pairs(g) ? (g->k + 1) / 2 : g->k), lanes = g->m > g->n ? g->m : g->n;
    int64_t a_most = A_BYTES / 4 / k / GEMM_ROWS * GEMM_ROWS, b_most = B_BYTES / 4 / k / GROUP * GROUP;
    int64_t floats = gemm_up(gemm_least(gemm_up(lanes, GEMM_ROWS), a_most) * k, 16);
    floats += gemm_up(gemm_least(gemm_up(lanes, GROUP), b_most) * k, 16);
    if (is_narrow(g)) floats += SUMS;
    return (size_t)floats * sizeof(float);
}

/* Where k takes several blocks, sums live longer than a group: pieces of C small enough for the cache, one by one. */
static void run_narrow(const grdi_gemm *g, float *scratch)
{
    for (int64_t column = 0; column < g->n; column += NARROW_COLUMNS) {
        int64_t columns = gemm_least(NARROW_COLUMNS, g->n - column);
        for (int64_t row = 0; row < g->m; row += NARROW_ROWS) {
            int64_t rows = gemm_least(NARROW_ROWS, g->m - row);
            grdi_gemm part = grdi_gemm_part(g, row, rows, column, columns), sums = part;
            sums.add = false, sums.activation = GRDI_ACT_NONE;
            double cycles;
            job j = plan_job(&sums, &cycles);
            j.out = scratch, j.out_row = columns;
            run_job(&j, scratch + SUMS);
            gemm_finish_block(&part, scratch, columns, 0, rows, 0, columns);
        }
    }
}

void GRDI_ISA_NAME(grdi_gemm)(const grdi_gemm *g, void *scratch)
{
    if (g->m <= 0 || g->n <= 0) return;
    float *sums = scratch;
    bool narrow = is_narrow(g);
    double cycles;
    job j = plan_job(g, &cycles);
    if (narrow && j.k_block < j.k) {
        run_narrow(g, sums);
        return;
    }
    j.sums = sums;
    if (!narrow) j.out = g->c ? g->c : g->y, j.out_row = g->c ? g->c_row : g->y_row;
    run_job(&j, narrow ? sums + SUMS : sums);
}

/* ---- several threads ---- */

static double piece_cycles(const grdi_gemm *g)
{
    double cycles;
    plan_job(g, &cycles);
    return cycles;
}

static const grdi_gemm_isa isa = {.run = GRDI_ISA_NAME(grdi_gemm),
                                  .scratch = GRDI_ISA_NAME(grdi_gemm_scratch),
                                  .cycles = piece_cycles,
                                  .shared = SHARE,
                                  .worth = 1e5,
                                  .rows = GEMM_ROWS,
                                  .columns = GEMM_COLUMNS};

size_t GRDI_ISA_NAME(grdi_gemm_all_scratch)(const grdi_gemm *g, int32_t threads)
{
    return grdi_gemm_shared_scratch(g, threads, &isa);
}

void GRDI_ISA_NAME(grdi_gemm_all)(const grdi_gemm *g, int32_t threads, void *scratch)
{
    grdi_gemm_shared(g, threads, &isa, scratch);
}
