/* attention.c - op attention: blocks of queries against pieces of keys; scores never leave the cache, and what
 * causal, window or documents hide is skipped. Softmax as in Milakov and Gimelshein, "Online normalizer
 * calculation for softmax", 2018; tiling as in Dao et al., "FlashAttention", 2022. */
#include "backend/cpu/kernels/attention.h"
#include "backend/cpu/parallel.h"
#include "base/memory.h"

/* One thread's scratch. */
typedef struct buffers {
    float *k, *v;         /* panels of keys by key, of values by channel */
    float *rows;          /* queries, where they need a copy */
    float *scores, *sums; /* [ATTENTION_ROWS, keys + padding], [queries, dv_wide] */
    float *most, *total;  /* of each query: the largest score so far, as a power of two; the sum of weights */
} buffers;

typedef struct attention_context {
    attention_sizes z;
    const grdi_view *out, *lse;
    int64_t blocks; /* of queries */
    int64_t parts;  /* that the queries of one head are cut into for threads */
    int64_t score_step;
    char *scratch;
    size_t each_bytes;
} attention_context;

static size_t carve(const attention_context *c, char *scratch, buffers *b)
{
    const attention_sizes *z = &c->z;
    int64_t keys = gemm_up(z->s, GEMM_COLUMNS), channels = attention_elements(z, z->d);
    float **piece[] = {&b->k, &b->v, &b->rows, &b->scores, &b->sums, &b->most, &b->total};
    int64_t floats[] = {keys * channels,
                        attention_elements(z, z->s) * z->dv_wide,
                        z->queries * channels,
                        ATTENTION_ROWS * c->score_step,
                        z->queries * z->dv_wide,
                        z->queries,
                        z->queries};
    int64_t used = 0;
    for (int i = 0; i < 7; i++) {
        *piece[i] = (float *)scratch + used;
        used += gemm_up(floats[i], 16);
    }
    return (size_t)used * sizeof(float);
}

static attention_context context_of(const grdi_call *call)
{
    attention_context c = {.z = attention_sizes_of(call, 0, 3), .out = &call->out[0], .lse = &call->out[1]};
    int64_t heads = c.z.b * c.z.h;
    c.blocks = (c.z.t + c.z.queries - 1) / c.z.queries;
    c.parts = heads % call->threads == 0 || heads >= 4 * call->threads ? 1 : gemm_least(call->threads, c.blocks);
    c.score_step = gemm_least(ATTENTION_KEYS, gemm_up(c.z.s, GEMM_COLUMNS)) + 16; /* rows not a power of two apart */
    buffers b;
    c.each_bytes = carve(&c, NULL, &b);
    return c;
}

/* Scores of one row become 2^(scale score - most), in bf16 if they are to be read in pairs; sums so far are brought to
 * the new maximum. */
static void row_softmax(float *score, attention_span columns, float scale, bool pairs, float *most, float *total,
                        float *sums, int64_t wide)
{
    grdi_vf top = grdi_set(-INFINITY), sum = {0};
    for (int64_t j = columns.begin; j < columns.end; j += GRDI_LANES) top = grdi_max(top, grdi_load(score + j) * scale);
    float larger = grdi_max_lanes(top);
    larger = larger > *most ? larger : *most;
    float base = larger == -INFINITY ? 0.0f : larger; /* nothing seen yet: all weights are 0 */
    for (int64_t j = columns.begin; j < columns.end; j += GRDI_LANES) {
        grdi_vf e = grdi_exp2(grdi_load(score + j) * scale - base);
        if (pairs) grdi_store_bf16((uint16_t *)score + j, e);
        else grdi_store(score + j, e);
        sum += e;
    }
    if (larger > *most && *most != -INFINITY) {
        float shrink = exp2f(*most - larger);
        *total *= shrink;
        for (int64_t j = 0; j < wide; j += GRDI_LANES) grdi_store(sums + j, grdi_load(sums + j) * shrink);
    }
    *total += grdi_sum_lanes(sum);
    *most = larger;
}

/* sums += 2^scores v for a strip of queries and one piece of keys. */
static void do_strip(const attention_context *c, const buffers *b, const attention_piece *p, const attention_strip *s,
                     attention_matrix queries, int64_t batch, int64_t head, int64_t first)
{
    const attention_sizes *z = &c->z;
    const int64_t pair = z->pairs ? 2 : 1;
    attention_products(z, p, s, queries, z->d, b->k, b->scores);
    for (int64_t r = s->row; r < s->row + s->height; r++) {
        float *score = b->scores + (r - s->row) * p->step;
        float scale = attention_bound(z, p, batch, head, first + r, r, s->columns, score) * ATTENTION_BASE;
        row_softmax(score, s->columns, scale, z->pairs, &b->most[r], &b->total[r], b->sums + r * z->dv_wide,
                    z->dv_wide);
    }
    const attention_matrix weights = {b->scores + s->columns.begin / pair, p->step};
    for (int64_t j = 0; j < z->dv_wide; j += GEMM_COLUMNS)
        attention_tile(z, s->height, GEMM_COLUMNS, attention_elements(z, s->keys), weights,
                       b->v + j * attention_elements(z, z->s) + (p->begin + s->columns.begin) / pair * GEMM_COLUMNS,
                       b->sums + s->row * z->dv_wide + j, z->dv_wide, true);
}

static void do_block(const attention_context *c, const buffers *b, int64_t batch, int64_t head, int64_t block)
{
    const attention_sizes *z = &c->z;
    int64_t first = block * z->queries, rows = gemm_least(z->queries, z->t - first);
    attention_span span[ATTENTION_QUERIES + ATTENTION_ROWS];
    attention_spans(z, first, rows, span);
    attention_matrix queries = attention_operand(z, z->q, batch, head, first, rows, b->rows);
    attention_fetch_rows(c->out, batch, head, first, rows);
    memset(b->sums, 0, (size_t)(z->queries * z->dv_wide) * sizeof(float));
    for (int64_t i = 0; i < rows; i++) b->most[i] = -INFINITY, b->total[i] = 0;
    int64_t begin = span[0].begin / GEMM_COLUMNS * GEMM_COLUMNS, end = span[rows - 1].end;
    for (; begin < end; begin += ATTENTION_KEYS) {
        attention_piece p = {begin, gemm_least(begin + ATTENTION_KEYS, end), c->score_step, rows, span};
        for (int64_t i = 0; i < rows; i += ATTENTION_ROWS) {
            attention_strip strip = attention_strip_at(&p, i);
            if (strip.keys > 0) do_strip(c, b, &p, &strip, queries, batch, head, first);
        }
    }
    for (int64_t i = 0; i < rows; i++) {
        bool seen = b->most[i] != -INFINITY;
        if (c->out->data)
            attention_store(b->sums + i * z->dv_wide, z->dv, seen ? 1.0f / b->total[i] : 0.0f, c->out->data,
                            c->out->dtype,
                            batch * c->out->stride[0] + (first + i) * c->out->stride[1] + head * c->out->stride[2]);
        if (c->lse->data)
            ((float *)c->lse->data)[(batch * z->h + head) * z->t + first + i] =
                seen ? b->most[i] / ATTENTION_BASE + logf(b->total[i]) : -INFINITY;
    }
}

/* Items are (batch, head, part of the queries). */
static void do_items(int64_t begin, int64_t end, int32_t thread, void *context)
{
    const attention_context *c = context;
    const attention_sizes *z = &c->z;
    buffers b;
    carve(c, c->scratch + (size_t)thread * c->each_bytes, &b);
    int64_t packed = -1; /* the head of keys whose panels are there */
    attention_begin();
    for (int64_t item = begin; item < end; item++) {
        int64_t part = item % c->parts, head = item / c->parts % z->h, batch = item / c->parts / z->h;
        int64_t group = head / (z->h / z->hkv), keys = batch * z->hkv + group;
        if (keys != packed) {
            attention_pack(z, z->k, batch, group, true, b.k);
            attention_pack(z, z->v, batch, group, false, b.v);
            packed = keys;
        }
        for (int64_t block = c->blocks * part / c->parts; block < c->blocks * (part + 1) / c->parts; block++)
            do_block(c, &b, batch, head, block);
    }
    attention_end();
}

static bool takes(const grdi_call *call)
{
    return attention_takes(call, 0, 3, 1) && call->out[1].dtype == GRD_F32;
}

static grd_status prepare(grdi_call *call, grd_error *error)
{
    (void)error;
    attention_context c = context_of(call);
    call->scratch_bytes = c.each_bytes * (size_t)call->threads;
    return GRD_OK;
}

static grd_status run(grdi_call *call)
{
    attention_context c = context_of(call);
    c.scratch = call->scratch;
    double work = (double)c.z.t * (double)c.z.s * (double)(c.z.d + c.z.dv);
    int64_t grain = work < 1e5 ? (int64_t)(1e5 / work) + 1 : 1;
    grdi_parallel_for(call->threads, c.z.b * c.z.h * c.parts, grain, do_items, &c);
    return GRD_OK;
}

static double rate_part_of(const grdi_call *call)
{
    return attention_rate_part(call, 0, 3);
}

static const grdi_kernel attention = {.op = "attention",
                                      .strided_in = 24, /* mask and segments */
                                      .rows_in = 7,
                                      .strided_out = 1,
                                      .rate_part_of = rate_part_of,
                                      .of_loops = GRDI_TILES,
                                      .supports = takes,
                                      .prepare = prepare,
                                      .run = run};

const grdi_kernel *const GRDI_ISA_TABLE(attention)[] = {&attention, NULL};
