/* gemm_f32.c - products of f32 by AMX, as accurate as those of AVX-512 and up to 2.5 times as fast: operands are split
 * into three bf16 while they are packed (split.h).
 *
 * Of the smaller operand all threads together pack a block, which stays in their second-level caches. Then each takes
 * panels of the other operand as it gets on, packs them and multiplies them by that block: a neighbour on the same core
 * cuts the pace of tiles to a quarter, so what a thread takes at once is little. Sums of blocks of k meet in C itself.
 */
#include "backend/cpu/amx/gemm_f32.h"
#include "backend/cpu/amx/finish.h"
#include "backend/cpu/amx/split.h"
#include "backend/cpu/parallel.h"

#include <stdatomic.h>

enum {
    K_BLOCK = 512,        /* K is cut into equal blocks of at most this: a panel takes 96 KB */
    KEPT_BYTES = 5 << 18, /* of a packed block */
    KEPT_MOST = 1024,     /* lanes of it */
    UNIT_PANELS = 4,      /* that a thread takes at once: another part of its second-level cache */
    SHARES = 4,           /* a thread takes at most this part of its share of what is left */
    WORTH = 1 << 18       /* multiply-adds of a thread */
};

static int64_t k_block_of(int64_t k)
{
    return amx_part_of(k, K_BLOCK, AMX_STEP);
}

static int64_t panel_bytes(int64_t k)
{
    return (k + AMX_STEP - 1) / AMX_STEP * AMX_SPLIT_BYTES;
}

static int64_t panels(int64_t lanes)
{
    return (lanes + AMX_PANEL - 1) / AMX_PANEL;
}

/* Lanes of a packed block of the smaller operand. */
static int64_t kept_of(const grdi_gemm *g)
{
    const int64_t most = KEPT_BYTES / panel_bytes(k_block_of(g->k)) * AMX_PANEL;
    return amx_part_of(gemm_least(g->m, g->n), gemm_least(most, KEPT_MOST), AMX_PANEL);
}

/* ---- what there is to do ---- */

/* A product, as all of its threads see it. */
typedef struct job {
    grdi_gemm g;            /* without `add`: see `adds` */
    amx_source kept, taken; /* operands */
    int64_t lanes, others;  /* of the kept and of the taken one */
    bool takes_rows;        /* threads take rows of A, and B is kept */
    bool adds;
    float *out; /* C, or y where only y is kept: sums of blocks of k before the last */
    int64_t out_row;
    char *packed;
    bool odd[KEPT_MOST / AMX_PANEL];
    _Alignas(64) _Atomic int64_t count; /* tiles that were taken, of all blocks */
} job;

/* Kept lanes [top, end) over k from p on. Its tiles are counted kept lanes first. */
typedef struct block {
    int64_t top, end, p, k;
    int64_t kept, taken; /* panels */
    int64_t first;       /* tiles of the blocks before */
} block;

/* What a thread takes at once: `count` panels from number `panel` on, for the kept lanes [lane, end). */
typedef struct unit {
    int64_t panel, count, lane, end;
} unit;

/* What a thread has for itself. */
typedef struct hand {
    char *packed;
    bool odd[UNIT_PANELS];
    void *scratch; /* of products with odd panels */
    amx_ahead next[3];
} hand;

enum { NEXT_TAKEN, NEXT_C, NEXT_Y };

/* Whole panels while much is left, then parts, whose panels several threads may have to pack. */
static unit take(job *j, const block *b, int32_t threads)
{
    const int64_t least = (b->kept + 3) / 4, end = b->first + b->kept * b->taken;
    int64_t at = atomic_load_explicit(&j->count, memory_order_relaxed), count, first;
    do {
        if (at >= end) return (unit){.count = 0};
        first = (at - b->first) % b->kept;
        count = (end - at) / (SHARES * threads);
        if (first == 0 && count >= b->kept) count = gemm_least(count / b->kept, UNIT_PANELS) * b->kept;
        else count = gemm_least(count > least ? count : least, b->kept - first);
    } while (
        !atomic_compare_exchange_weak_explicit(&j->count, &at, at + count, memory_order_relaxed, memory_order_relaxed));
    const int64_t lane = b->top + first * AMX_PANEL, lanes = gemm_least(count, b->kept) * AMX_PANEL;
    return (unit){(at - b->first) / b->kept, (count + b->kept - 1) / b->kept, lane, gemm_least(b->end, lane + lanes)};
}

/* Whether a thread should know its next unit before it is done with the last: not when so few are left that another
 * one might wait for it. */
static bool ample(const job *j, const block *b, int32_t threads)
{
    return b->first + b->kept * b->taken - atomic_load_explicit(&j->count, memory_order_relaxed) >
           SHARES * threads * b->kept;
}

/* ---- multiplying ---- */

/* What tiles cannot sum since a factor is not finite, or is no finite bf16: the loops of f32 do. */
static void mend(const job *j, const hand *h, const block *b, const tile *t)
{
    _Alignas(64) float sums[AMX_PANEL * AMX_PANEL];
    grdi_gemm g = grdi_gemm_part(&j->g, t->row, t->rows, t->column, t->columns);
    const amx_source *a = j->takes_rows ? &j->taken : &j->kept, *y = j->takes_rows ? &j->kept : &j->taken;
    g.a = amx_at(a, t->row, b->p), g.b = amx_at(y, t->column, b->p), g.k = b->k;
    g.c = sums, g.c_row = AMX_PANEL, g.y = NULL, g.bias = NULL, g.activation = GRDI_ACT_NONE;
    grdi_gemm_avx512bf16(&g, h->scratch);
    for (int64_t i = 0; i < t->rows; i++)
        for (int64_t c = 0; c < t->columns; c++) {
            float *sum = &t->sums[i * AMX_PANEL + c];
            if (!__builtin_isfinite(*sum)) *sum = sums[i * AMX_PANEL + c];
        }
}

static bool pack(const amx_source *s, int64_t lane, int64_t end, const block *b, char *to, bool by_pair)
{
    const amx_source panel = amx_from(s, lane, b->p);
    return amx_split_panel(&panel, gemm_least(AMX_PANEL, end - lane), b->k, to, by_pair);
}

/* The kept panel at `lane` against those of a unit, which are packed for the first one. */
static void multiply_panel(job *j, hand *h, const block *b, const unit *u, int64_t lane)
{
    _Alignas(64) float sums[2][AMX_PANEL * AMX_PANEL];
    const grdi_gemm *g = &j->g;
    const int64_t panel = panel_bytes(b->k), steps = panel / AMX_SPLIT_BYTES, fetched = AMX_SPLIT_FETCH * steps;
    const int64_t number = (lane - b->top) / AMX_PANEL;
    const char *kept = j->packed + number * panel;
    tile before = {.rows = 0}; /* is finished while the next one is multiplied */
    for (int64_t q = 0; q < u->count; q++) {
        const int64_t other = (u->panel + q) * AMX_PANEL;
        const int64_t row = j->takes_rows ? other : lane, column = j->takes_rows ? lane : other;
        char *taken = h->packed + q * panel;
        tile t = {.row = row,
                  .rows = gemm_least(AMX_PANEL, g->m - row),
                  .column = column,
                  .columns = gemm_least(AMX_PANEL, g->n - column),
                  .first = b->p == 0 && !j->adds,
                  .last = b->p + b->k >= g->k,
                  .sums = sums[before.sums == sums[0]],
                  .kept = j->out + row * j->out_row + column,
                  .kept_row = j->out_row};
        if (lane == u->lane) h->odd[q] = pack(&j->taken, other, j->others, b, taken, !j->takes_rows);
        h->next[NEXT_C] = ahead_of_tile(j->out, false, j->out_row, &t, fetched);
        h->next[NEXT_Y] = ahead_of_tile(t.last && g->c ? g->y : NULL, false, g->y_row, &t, fetched);
        amx_multiply_split(j->takes_rows ? taken : kept, j->takes_rows ? kept : taken, steps, t.sums, h->next, 3,
                           t.rows, t.columns);
        if (j->odd[number] || h->odd[q]) mend(j, h, b, &t);
        if (before.rows) finish(g, &before);
        before = t;
    }
    finish(g, &before);
}

/* ---- the loops of one thread ---- */

typedef struct team {
    job *j;
    char *hands;
    size_t hand_bytes, packed_bytes;
} team;

static void do_block(job *j, hand *h, const block *b, int32_t thread, int32_t size)
{
    for (int64_t i = b->kept * thread / size; i < b->kept * (thread + 1) / size; i++)
        j->odd[i] = pack(&j->kept, b->top + i * AMX_PANEL, b->end, b, j->packed + i * panel_bytes(b->k), j->takes_rows);
    if (size > 1) grdi_parallel_meet();
    for (unit u = take(j, b, size), next; u.count > 0; u = next) {
        const bool known = ample(j, b, size);
        next = known ? take(j, b, size) : (unit){.count = 0};
        const int64_t other = next.panel * AMX_PANEL, lanes = gemm_least(next.count * AMX_PANEL, j->others - other);
        h->next[NEXT_TAKEN] = amx_ahead_of(&j->taken, other, b->p, next.count ? lanes : 0, b->k);
        for (int64_t lane = u.lane; lane < u.end; lane += AMX_PANEL) multiply_panel(j, h, b, &u, lane);
        if (!known) next = take(j, b, size);
    }
    if (size > 1) grdi_parallel_meet();
}

static void run(int32_t thread, int32_t size, void *context)
{
    const team *t = context;
    job *j = t->j;
    char *own = t->hands + (size_t)thread * t->hand_bytes;
    hand h = {.packed = own, .scratch = own + t->packed_bytes};
    const int64_t k = j->g.k, k_block = k_block_of(k), kept = kept_of(&j->g);
    block b = {.taken = panels(j->others)};
    amx_begin();
    for (b.top = 0; b.top < j->lanes; b.top = b.end) {
        b.end = gemm_least(j->lanes, b.top + kept), b.kept = panels(b.end - b.top);
        for (b.p = 0; b.p < k; b.p += b.k) {
            b.k = gemm_least(k_block, k - b.p);
            do_block(j, &h, &b, thread, size);
            b.first += b.kept * b.taken;
        }
    }
    amx_end();
}

/* ---- what gemm_f32.h promises ---- */

/* One or all: a team that shrinks makes the next one start its threads anew. */
static int32_t team_of(const grdi_gemm *g, int32_t threads)
{
    return (double)g->m * (double)g->n * (double)g->k < 2.0 * WORTH ? 1 : threads;
}

static size_t kept_bytes(const grdi_gemm *g)
{
    return (size_t)(panels(kept_of(g)) * panel_bytes(k_block_of(g->k)));
}

static size_t taken_bytes(const grdi_gemm *g)
{
    const int64_t others = g->m > g->n ? g->m : g->n;
    return (size_t)(gemm_least(UNIT_PANELS, panels(others)) * panel_bytes(k_block_of(g->k)));
}

static size_t hand_bytes(const grdi_gemm *g)
{
    grdi_gemm odd = *g;
    odd.m = odd.n = AMX_PANEL, odd.k = gemm_least(k_block_of(g->k), g->k);
    return taken_bytes(g) + (grdi_gemm_scratch_avx512bf16(&odd) + 63) / 64 * 64;
}

size_t grdi_gemm_f32_scratch(const grdi_gemm *g, int32_t threads)
{
    return kept_bytes(g) + hand_bytes(g) * (size_t)team_of(g, threads);
}

void grdi_gemm_f32(const grdi_gemm *g, int32_t threads, void *scratch)
{
    if (g->m <= 0 || g->n <= 0) return;
    const bool takes_rows = g->m > g->n;
    const amx_source a = {g->a, GRD_F32, g->a_row, g->a_col}, b = {g->b, GRD_F32, g->b_col, g->b_row};
    job j = {.g = *g,
             .kept = takes_rows ? b : a,
             .taken = takes_rows ? a : b,
             .lanes = takes_rows ? g->n : g->m,
             .others = takes_rows ? g->m : g->n,
             .takes_rows = takes_rows,
             .adds = g->add,
             .out = g->c ? g->c : g->y,
             .out_row = g->c ? g->c_row : g->y_row,
             .packed = scratch};
    j.g.add = false;
    team t = {&j, j.packed + kept_bytes(g), hand_bytes(g), taken_bytes(g)};
    grdi_parallel_team(team_of(g, threads), run, &t);
}

enum { RATE = 512 / 6 /* multiply-adds a cycle */, LOOPS = 28 /* of AVX-512's loops */ };
#define PACK_ALONG 0.3 /* cycles an element */
#define PACK_TURN 0.7

bool grdi_gemm_f32_pays(const grdi_gemm *g)
{
    const bool of_f32 = g->a_type == GRD_F32 && g->b_type == GRD_F32 && !g->a_round && !g->b_round;
    const double m = (double)gemm_up(g->m, AMX_SIDE), n = (double)gemm_up(g->n, AMX_SIDE);
    const double k = (double)g->k, loops = (double)g->m * (double)g->n * k / LOOPS;
    const double pack = m * (g->a_col == 1 ? PACK_ALONG : PACK_TURN) + n * (g->b_col == 1 ? PACK_ALONG : PACK_TURN);
    return of_f32 && g->c_type == GRD_F32 && k > 0 && m * n * (double)gemm_up(g->k, AMX_STEP) / RATE + pack * k < loops;
}
