/* attention_backward.c - op attention_backward. For each block of queries and piece of keys: p = exp(scores -
 * lse), dp = g v^T, ds = p (dp - g.out); dv += p^T g, dk += ds^T q, dq += ds k. One thread has a whole head of
 * keys, so that no two write one sum. */
#include "backend/cpu/kernels/attention.h"
#include "backend/cpu/parallel.h"

/* One thread's scratch. */
typedef struct buffers {
    float *k_by_key, *v_by_key, *k_by_channel; /* panels */
    float *q, *g;                              /* the block's queries and gradients, where they need a copy */
    float *q_panels, *g_panels;                /* the same by channel */
    float *p, *ds;                             /* [queries, keys + padding]; pairs of queries: every second row */
    float *ds_rows;                            /* ds in pairs of keys; else ds */
    float *dq, *dk, *dv;                       /* [queries, d_wide], sums over queries (sum_rows, sum_step) */
    float *lse, *along;                        /* of each query: from the input, and g.out */
} buffers;

typedef struct backward_context {
    attention_sizes z;
    const grdi_view *g, *out, *lse, *dq, *dk, *dv, *dmask;
    int64_t blocks, step;
    char *scratch;
    size_t each_bytes;
} backward_context;

/* Sums over queries for each key and channel: by key, with tiles by channel. */
static int64_t sum_rows(const attention_sizes *z, int64_t wide)
{
    return GRDI_TILES ? wide : z->s;
}
static int64_t sum_step(const attention_sizes *z, int64_t wide)
{
    return GRDI_TILES ? gemm_up(z->s, GEMM_COLUMNS) + GRDI_LANES : wide; /* rows not a power of two apart */
}

static size_t carve(const backward_context *c, char *scratch, buffers *b)
{
    const attention_sizes *z = &c->z;
    int64_t keys = gemm_up(z->s, GEMM_COLUMNS), queries = attention_elements(z, z->queries);
    int64_t d = attention_elements(z, z->d), dv = attention_elements(z, z->dv);
    float **piece[] = {&b->k_by_key, &b->v_by_key, &b->k_by_channel, &b->q,  &b->g,  &b->q_panels, &b->g_panels, &b->p,
                       &b->ds,       &b->ds_rows,  &b->dq,           &b->dk, &b->dv, &b->lse,      &b->along};
    int64_t floats[] = {keys * d,
                        keys * dv,
                        attention_elements(z, z->s) * z->d_wide,
                        z->queries * d,
                        z->queries * dv,
                        queries * z->d_wide,
                        queries * z->dv_wide,
                        z->queries * c->step,
                        z->queries * c->step,
                        z->pairs ? queries * c->step : 0,
                        z->queries * z->d_wide,
                        sum_rows(z, z->d_wide) * sum_step(z, z->d_wide),
                        sum_rows(z, z->dv_wide) * sum_step(z, z->dv_wide),
                        z->queries,
                        z->queries};
    int64_t used = 0;
    for (int i = 0; i < 15; i++) {
        *piece[i] = (float *)scratch + used;
        used += gemm_up(floats[i], 16);
    }
    if (!z->pairs) b->ds_rows = b->ds;
    return (size_t)used * sizeof(float);
}

static backward_context context_of(const grdi_call *call)
{
    backward_context c = {.z = attention_sizes_of(call, 1, 6),
                          .g = &call->in[0],
                          .out = &call->in[4],
                          .lse = &call->in[5],
                          .dq = &call->out[0],
                          .dk = &call->out[1],
                          .dv = &call->out[2],
                          .dmask = &call->out[3]};
    if (c.z.mask) c.z.pairs = false; /* the gradient of the mask is summed from ds in f32 */
    c.blocks = (c.z.t + c.z.queries - 1) / c.z.queries;
    c.step = gemm_least(ATTENTION_KEYS, gemm_up(c.z.s, GEMM_COLUMNS)) + 16;
    buffers b;
    c.each_bytes = carve(&c, NULL, &b);
    return c;
}

static float dot(const void *x, const void *y, grd_dtype type, int64_t count)
{
    const bool half = type == GRD_BF16;
    grdi_vf sum = {0};
    int64_t i = 0;
    for (; i + GRDI_LANES <= count; i += GRDI_LANES) sum += gemm_load(x, i, half) * gemm_load(y, i, half);
    float total = grdi_sum_lanes(sum);
    for (; i < count; i++) total += gemm_load1(x, i, half) * gemm_load1(y, i, half);
    return total;
}

/* The block's queries and gradients as rows. */
typedef struct block_rows {
    attention_matrix q, g;
} block_rows;

static block_rows load_queries(const backward_context *c, const buffers *b, int64_t batch, int64_t head, int64_t first,
                               int64_t rows)
{
    const attention_sizes *z = &c->z;
    const grd_dtype type = c->g->dtype;
    const int64_t pair = z->pairs ? 2 : 1;
    const void *g = attention_at(c->g, batch, head), *out = attention_at(c->out, batch, head);
    block_rows found = {attention_operand(z, z->q, batch, head, first, rows, b->q),
                        attention_operand(z, c->g, batch, head, first, rows, b->g)};
    attention_fetch_rows(c->out, batch, head, first, rows);
    for (int64_t i = 0; i < rows; i++) {
        b->along[i] = dot(gemm_at(g, (first + i) * c->g->stride[1], type == GRD_BF16),
                          gemm_at(out, (first + i) * c->out->stride[1], type == GRD_BF16), type, z->dv);
        b->lse[i] = ((const float *)c->lse->data)[(batch * z->h + head) * z->t + first + i];
    }
    const grd_dtype held = z->pairs ? GRD_BF16 : GRD_F32;
    attention_panels(z, found.q.at, held, 1, found.q.step * pair, z->d, rows, b->q_panels, false);
    attention_panels(z, found.g.at, held, 1, found.g.step * pair, z->dv, rows, b->g_panels, false);
    return found;
}

/* Adds a row of ds to the mask's gradient, over which broadcast dimensions are summed. */
static void add_mask(const backward_context *c, int64_t batch, int64_t head, int64_t query, int64_t key,
                     const float *ds, int64_t count)
{
    const grd_dims *dims = &c->dmask->dims;
    const int64_t at[4] = {batch, head, query, key};
    int64_t index = 0, step = 0;
    for (int32_t axis = 0; axis < dims->rank; axis++) {
        int32_t full = 4 - dims->rank + axis;
        bool repeats = dims->dim[axis] == 1;
        index = index * dims->dim[axis] + (repeats ? 0 : at[full]);
        if (full == 3) step = !repeats;
    }
    for (int64_t j = 0; j < count; j++) {
        if (c->dmask->dtype == GRD_F32) {
            ((float *)c->dmask->data)[index + j * step] += ds[j];
        } else {
            uint16_t *m = (uint16_t *)c->dmask->data + index + j * step;
            *m = grdi_f32_to_bf16(grdi_bf16_to_f32(*m) + ds[j]);
        }
    }
}

/* What is known of a row of scores. */
typedef struct row_facts {
    float scale, base, along; /* p = 2^(scale score - base), ds = p (dp - along) */
} row_facts;

static row_facts facts_of(const buffers *b, int64_t row, float scale)
{
    float lse = b->lse[row]; /* -infinity: the row sees nothing, all its scores become -infinity */
    return (row_facts){scale * ATTENTION_BASE, lse == -INFINITY ? 0.0f : lse * ATTENTION_BASE, b->along[row]};
}

/* Scores and dp of one row become p and ds; columns outside the tile's become 0, for the sums over queries. */
static void finish_row(float *p, float *ds, attention_span columns, int64_t width, row_facts row)
{
    for (int64_t j = 0; j < columns.begin; j++) p[j] = ds[j] = 0;
    for (int64_t j = columns.begin; j < columns.end; j += GRDI_LANES) {
        grdi_vf e = grdi_exp2(grdi_load(p + j) * row.scale - row.base);
        grdi_store(p + j, e);
        grdi_store(ds + j, e * (grdi_load(ds + j) - row.along));
    }
    for (int64_t j = columns.end; j < width; j++) p[j] = ds[j] = 0;
}

/* The same of two rows, `step` apart, which become pairs in the place of the first; and ds of each in bf16. */
static void finish_rows(float *p, float *ds, uint16_t *halves, int64_t step, attention_span columns, int64_t width,
                        row_facts even, row_facts odd)
{
    for (int64_t j = 0; j < columns.begin; j++) p[j] = ds[j] = 0;
    for (int64_t j = columns.begin; j < columns.end; j += GRDI_LANES) {
        grdi_vf e0 = grdi_exp2(grdi_load(p + j) * even.scale - even.base);
        grdi_vf e1 = grdi_exp2(grdi_load(p + step + j) * odd.scale - odd.base);
        grdi_vf ds0 = e0 * (grdi_load(ds + j) - even.along), ds1 = e1 * (grdi_load(ds + step + j) - odd.along);
        grdi_store(p + j, (grdi_vf)(grdi_bf16_bits(e0) | grdi_bf16_bits(e1) << 16));
        grdi_store(ds + j, (grdi_vf)(grdi_bf16_bits(ds0) | grdi_bf16_bits(ds1) << 16));
        grdi_store_bf16(halves + j, ds0);
        grdi_store_bf16(halves + step + j, ds1);
    }
    for (int64_t j = columns.end; j < width; j++) p[j] = ds[j] = 0;
}

/* sum(key, .) += over the queries that see it: x(query, key) panel(query, .) */
static void add_to_keys(const attention_sizes *z, const attention_piece *p, const float *x, const float *panels,
                        int64_t wide, float *sum)
{
    enum { KEYS = GRDI_TILES ? GEMM_COLUMNS : ATTENTION_ROWS };
    const int64_t pair = z->pairs ? 2 : 1, rows = attention_elements(z, p->rows), step = sum_step(z, wide);
    int64_t first = 0, last = 0, keys = p->end - p->begin;
    for (int64_t j = 0; j < keys; j += KEYS) {
        int64_t height = gemm_least(KEYS, keys - j);
        while (first < p->rows && p->span[first].end <= p->begin + j) first++;
        while (last < p->rows && p->span[last].begin < p->begin + j + height) last++;
        if (last <= first) continue;
        int64_t from = z->pairs ? first / ATTENTION_SUM * ATTENTION_SUM / 2 : first;
        int64_t count = attention_elements(z, last) - from;
        const float *seen = x + from * pair * p->step + j;
        for (int64_t q = 0; q < wide; q += GEMM_COLUMNS) {
            const float *panel = panels + q * rows + from * GEMM_COLUMNS;
#if GRDI_TILES /* its rows are channels, its columns keys: x lies as B does */
            const int64_t row = 2 * p->step * (int64_t)sizeof(float);
            amx_multiply((amx_operand){panel, amx_packed}, (amx_operand){seen, {row, 64, AMX_SIDE * row}},
                         count / AMX_SIDE, sum + q * step + p->begin + j, step * (int64_t)sizeof(float), true, NULL, 0,
                         GEMM_COLUMNS, height);
#else
            gemm_end end = {.c = sum + (p->begin + j) * step + q, .c_row = step, .add = true};
            GRDI_ISA_NAME(grdi_gemm_tile)
            ((int)height, GEMM_VECTORS, z->pairs ? GEMM_PAIRS_BY_ROW : GEMM_BY_ROW, count, seen, pair * p->step, panel,
             GEMM_COLUMNS, &end);
#endif
        }
    }
}

static void add_to_queries(const backward_context *c, const buffers *b, const attention_piece *p,
                           const attention_strip *s)
{
    const attention_sizes *z = &c->z;
    const int64_t pair = z->pairs ? 2 : 1, step = p->step / pair;
    const attention_matrix ds = {b->ds_rows + s->row * step + s->columns.begin / pair, step};
    for (int64_t q = 0; q < z->d_wide; q += GEMM_COLUMNS)
        attention_tile(z, s->height, GEMM_COLUMNS, attention_elements(z, s->keys), ds,
                       b->k_by_channel + q * attention_elements(z, z->s) +
                           (p->begin + s->columns.begin) / pair * GEMM_COLUMNS,
                       b->dq + s->row * z->d_wide + q, z->d_wide, true);
}

/* Scores and dp of a strip become p and ds. */
static void finish_strip(const backward_context *c, const buffers *b, const attention_piece *p,
                         const attention_strip *s, int64_t batch, int64_t head, int64_t first)
{
    const attention_sizes *z = &c->z;
    const int64_t width = gemm_up(p->end - p->begin, GEMM_COLUMNS) + 8; /* tiles of keys reach beyond a panel */
    row_facts facts[2] = {{0}};
    for (int64_t i = s->row; i < s->row + s->height; i++) {
        float *row = b->p + i * p->step, *ds = b->ds + i * p->step;
        facts[i % 2] = facts_of(b, i, attention_bound(z, p, batch, head, first + i, i, s->columns, row));
        if (!z->pairs) {
            finish_row(row, ds, s->columns, width, facts[i % 2]);
            if (c->dmask->data && z->mask)
                add_mask(c, batch, head, first + i, p->begin + s->columns.begin, ds + s->columns.begin, s->keys);
        } else if (i % 2 || i == p->rows - 1) {
            int64_t even = i / 2 * 2;
            if (even == i) { /* nothing beside the last row */
                facts[1] = (row_facts){0, INFINITY, 0};
                memset(row + p->step, 0, (size_t)width * sizeof *row);
                memset(ds + p->step, 0, (size_t)width * sizeof *ds);
            }
            finish_rows(b->p + even * p->step, b->ds + even * p->step, (uint16_t *)b->ds_rows + even * p->step, p->step,
                        s->columns, width, facts[0], facts[1]);
        }
    }
}

static void do_piece(const backward_context *c, const buffers *b, const attention_piece *p, block_rows rows,
                     int64_t batch, int64_t head, int64_t first)
{
    const attention_sizes *z = &c->z;
    for (int64_t i = 0; i < p->rows; i += ATTENTION_ROWS) {
        attention_strip s = attention_strip_at(p, i);
        attention_products(z, p, &s, rows.q, z->d, b->k_by_key, b->p + i * p->step);
        attention_products(z, p, &s, rows.g, z->dv, b->v_by_key, b->ds + i * p->step);
        finish_strip(c, b, p, &s, batch, head, first);
        if (s.keys > 0) add_to_queries(c, b, p, &s);
    }
    for (int64_t i = gemm_up(p->rows, 2); GRDI_TILES && i < gemm_up(p->rows, ATTENTION_SUM); i += 2) {
        memset(b->p + i * p->step, 0, (size_t)p->step * sizeof(float)); /* queries that are not there */
        memset(b->ds + i * p->step, 0, (size_t)p->step * sizeof(float));
    }
    add_to_keys(z, p, b->p, b->g_panels, z->dv_wide, b->dv);
    add_to_keys(z, p, b->ds, b->q_panels, z->d_wide, b->dk);
}

static void do_block(const backward_context *c, const buffers *b, int64_t batch, int64_t head, int64_t block)
{
    const attention_sizes *z = &c->z;
    int64_t first = block * z->queries, rows = gemm_least(z->queries, z->t - first);
    attention_span span[ATTENTION_QUERIES + ATTENTION_ROWS];
    attention_spans(z, first, rows, span);
    block_rows found = load_queries(c, b, batch, head, first, rows);
    attention_fetch_rows(c->dq, batch, head, first, rows);
    memset(b->dq, 0, (size_t)(z->queries * z->d_wide) * sizeof(float));
    int64_t begin = span[0].begin / GEMM_COLUMNS * GEMM_COLUMNS, end = span[rows - 1].end;
    for (; begin < end; begin += ATTENTION_KEYS) {
        attention_piece p = {begin, gemm_least(begin + ATTENTION_KEYS, end), c->step, rows, span};
        do_piece(c, b, &p, found, batch, head, first);
    }
    for (int64_t i = 0; c->dq->data && i < rows; i++)
        attention_store(b->dq + i * z->d_wide, z->d, z->scale, c->dq->data, c->dq->dtype,
                        batch * c->dq->stride[0] + (first + i) * c->dq->stride[1] + head * c->dq->stride[2]);
}

static void store_keys(const attention_sizes *z, const grdi_view *to, int64_t batch, int64_t group, const float *sum,
                       int64_t wide, float scale)
{
    const int64_t keys = to->dims.dim[1], channels = to->dims.dim[3], step = sum_step(z, wide);
    if (!to->data) return;
    const int64_t at = batch * to->stride[0] + group * to->stride[2];
#if GRDI_TILES
    for (int64_t j = 0; j < keys; j += AMX_SIDE)
        for (int64_t q = 0; q < channels; q += AMX_SIDE) {
            __m512i r[AMX_SIDE];
            GEMM_UNROLL
            for (int i = 0; i < AMX_SIDE; i++) r[i] = _mm512_loadu_si512(sum + (q + i) * step + j);
            amx_transpose(r);
            for (int i = 0; i < AMX_SIDE && j + i < keys; i++)
                attention_store((const float *)&r[i], gemm_least(AMX_SIDE, channels - q), scale, to->data, to->dtype,
                                at + (j + i) * to->stride[1] + q);
        }
#else
    for (int64_t j = 0; j < keys; j++)
        attention_store(sum + j * step, channels, scale, to->data, to->dtype, at + j * to->stride[1]);
#endif
}

/* Items are (batch, head of keys). */
static void do_items(int64_t begin, int64_t end, int32_t thread, void *context)
{
    const backward_context *c = context;
    const attention_sizes *z = &c->z;
    buffers b;
    carve(c, c->scratch + (size_t)thread * c->each_bytes, &b);
    attention_begin();
    for (int64_t item = begin; item < end; item++) {
        int64_t batch = item / z->hkv, group = item % z->hkv, queries = z->h / z->hkv;
        attention_pack(z, z->k, batch, group, true, b.k_by_key);
        attention_pack(z, z->v, batch, group, true, b.v_by_key);
        attention_pack(z, z->k, batch, group, false, b.k_by_channel);
        memset(b.dk, 0, (size_t)(sum_rows(z, z->d_wide) * sum_step(z, z->d_wide)) * sizeof(float));
        memset(b.dv, 0, (size_t)(sum_rows(z, z->dv_wide) * sum_step(z, z->dv_wide)) * sizeof(float));
        for (int64_t head = group * queries; head < (group + 1) * queries; head++)
            for (int64_t block = 0; block < c->blocks; block++) {
                if (head == (group + 1) * queries - 1) { /* then their sums are there */
                    attention_fetch_part(c->dk, batch, group, block, c->blocks);
                    attention_fetch_part(c->dv, batch, group, block, c->blocks);
                }
                do_block(c, &b, batch, head, block);
            }
        store_keys(z, c->dk, batch, group, b.dk, z->d_wide, z->scale);
        store_keys(z, c->dv, batch, group, b.dv, z->dv_wide, 1.0f);
    }
    attention_end();
}

static bool takes(const grdi_call *call)
{
    /* The mask's gradient is summed where it is stored: in bf16 only if the mask was given so. */
    const grdi_view *mask = attention_sizes_of(call, 1, 6).mask;
    bool sums = !mask || mask->dtype == GRD_BF16 || call->out[3].dtype == GRD_F32;
    return sums && !(GRDI_TILES && mask) && attention_takes(call, 1, 6, 4) && call->in[0].dtype == call->in[1].dtype &&
           call->in[4].dtype == call->in[1].dtype && call->in[5].dtype == GRD_F32;
}

static grd_status prepare(grdi_call *call, grd_error *error)
{
    (void)error;
    backward_context c = context_of(call);
    call->scratch_bytes = c.each_bytes * (size_t)call->threads;
    return GRD_OK;
}

static grd_status run(grdi_call *call)
{
    backward_context c = context_of(call);
    c.scratch = call->scratch;
    double work = 3.0 * (double)c.z.t * (double)c.z.s * (double)(c.z.d + c.z.dv) * (double)(c.z.h / c.z.hkv);
    int64_t grain = work < 1e5 ? (int64_t)(1e5 / work) + 1 : 1;
    int32_t threads = call->threads;
    if (c.dmask->data) {
        memset(c.dmask->data, 0, (size_t)grd_dims_count(c.dmask->dims) * grd_dtype_size(c.dmask->dtype));
        if (c.z.mask) /* heads and batches may add to one element of it: in order, on one thread */
            threads = 1;
    }
    grdi_parallel_for(threads, c.z.b * c.z.hkv, grain, do_items, &c);
    return GRD_OK;
}

static double rate_part_of(const grdi_call *call)
{
    return attention_rate_part(call, 1, 6);
}

static const grdi_kernel attention_backward = {.op = "attention_backward",
                                               .strided_in = 192, /* mask and segments */
                                               .rows_in = 31,     /* g, q, k, v, out */
                                               .strided_out = 7,
                                               .rate_part_of = rate_part_of,
                                               .of_loops = GRDI_TILES,
                                               .supports = takes,
                                               .prepare = prepare,
                                               .run = run};

const grdi_kernel *const GRDI_ISA_TABLE(attention_backward)[] = {&attention_backward, NULL};
