/* attention.h - what attention and its gradient share: sizes, which keys a query sees, and operands as tiles read
 * them: f32, or where the processor multiplies such, pairs of bf16 that are neighbours in the sum (gemm_tile.h). With
 * AMX tiles are 32 x 32, sums are multiples of 32 long, and what is not in pairs is left to AVX-512's kernels. */
#ifndef GRDI_ATTENTION_H
#define GRDI_ATTENTION_H

#include "backend/backend.h"
#include "backend/cpu/gemm.h"
#include "backend/cpu/kernels/gemm_pack.h"
#include "backend/cpu/kernels/math.h"
#if GRDI_TILES
#include "backend/cpu/amx/gemm_pack.h"
#endif
#include "base/convert.h"

/* Queries that share one pass over the keys, and keys in one piece of scores. */
enum { ATTENTION_QUERIES = 96, ATTENTION_KEYS = 512 };

/* Queries in a tile, and what sums are rounded up to. */
#if GRDI_TILES
enum { ATTENTION_ROWS = AMX_PANEL, ATTENTION_SUM = AMX_STEP, ATTENTION_COLUMNS = AMX_PANEL };
#else
enum { ATTENTION_ROWS = GEMM_ROWS, ATTENTION_SUM = 2, ATTENTION_COLUMNS = GRDI_LANES };
#endif

/* log2(e): weights are powers of two. */
#define ATTENTION_BASE 1.44269504f

/* q [B,T,H,D], k [B,S,Hkv,D], v [B,S,Hkv,Dv]; mask and segments are NULL where absent. */
typedef struct attention_sizes {
    int64_t b, t, s, h, hkv, d, dv, window;
    int64_t d_wide, dv_wide; /* rounded up to whole vectors of a tile */
    int64_t queries;         /* in a block */
    float scale;
    bool causal, pairs;
    const grdi_view *q, *k, *v, *mask, *segments;
} attention_sizes;

/* `first` is where q stands among the inputs, `optional` where the optional inputs begin. */
static inline attention_sizes attention_sizes_of(const grdi_call *call, int32_t first, int32_t optional)
{
    const grdi_view *q = &call->in[first], *k = q + 1, *v = q + 2;
    attention_sizes z = {.b = q->dims.dim[0],
                         .t = q->dims.dim[1],
                         .h = q->dims.dim[2],
                         .d = q->dims.dim[3],
                         .s = k->dims.dim[1],
                         .hkv = k->dims.dim[2],
                         .dv = v->dims.dim[3],
                         .q = q,
                         .k = k,
                         .v = v};
    z.window = grdi_attr_int(call->attrs, "window");
    z.causal = grdi_attr_int(call->attrs, "causal");
    double scale = grdi_attr_float(call->attrs, "scale");
    z.scale = (float)(scale != 0 ? scale : 1.0 / sqrt((double)z.d));
    z.pairs = GRDI_PAIRS && q->dtype == GRD_BF16;
    bool has_mask = grdi_attr_int(call->attrs, "has_mask");
    if (has_mask) z.mask = &call->in[optional];
    if (grdi_attr_int(call->attrs, "has_segments")) z.segments = &call->in[optional + has_mask];
    z.d_wide = gemm_up(z.d, GEMM_COLUMNS), z.dv_wide = gemm_up(z.dv, GEMM_COLUMNS);
    int64_t blocks = (z.t + ATTENTION_QUERIES - 1) / ATTENTION_QUERIES;
    z.queries = blocks > 0 ? gemm_up((z.t + blocks - 1) / blocks, ATTENTION_ROWS) : ATTENTION_ROWS;
    return z;
}

/* What of the rate of products attention reaches: beside 4 D operations, each pair of query and key costs an
 * exponential and its sums, about as much as 4 x 32 (4 x 48 of the faster ones in pairs); a causal block computes what
 * lies behind its diagonal; where bf16 is widened, products run at half of what the processor has for it. In tiles
 * exponentials are most of it, so there the part is one of the loops' rate, which tiles exceed sixfold; gradients, of
 * 10 D operations for one exponential, count it as 4 x 30. Measured with D 32 and 64, T 64 to 256: 0.25 to 0.6, of
 * loops by tiles 0.35 to 1.2. */
static inline double attention_rate_part(const grdi_call *call, int32_t first, int32_t optional)
{
    attention_sizes z = attention_sizes_of(call, first, optional);
    const bool in_tiles = GRDI_TILES && z.pairs;
    const double exponential = in_tiles ? (first ? 30 : 50) : z.pairs ? 48 : 32;
    double part = (double)z.d / ((double)z.d / (in_tiles ? 6 : 1) + exponential);
    if (z.causal) part *= (double)z.t / (double)(z.t + z.queries);
    return call->in[0].dtype == GRD_BF16 && !z.pairs ? 0.5 * part : part;
}

/* The keys [begin, end) that a query sees. Both ends grow with the query. */
typedef struct attention_span {
    int64_t begin, end;
} attention_span;

/* For queries from `first`; rows beyond T see nothing. */
static inline void attention_spans(const attention_sizes *z, int64_t first, int64_t count, attention_span *span)
{
    const int32_t *offset = z->segments ? z->segments->data : NULL;
    int64_t offsets = z->segments ? z->segments->dims.dim[0] : 0, step = z->segments ? z->segments->stride[0] : 0;
    int64_t next = 0, shift = z->s - z->t, seen = 0;
    for (int64_t i = 0; i < count; i++) {
        int64_t query = first + i, last = query + shift;
        attention_span a = {0, z->s};
        if (z->causal && last + 1 < a.end) a.end = last + 1;
        if (z->window > 0 && last - z->window + 1 > a.begin) a.begin = last - z->window + 1;
        while (next < offsets && offset[next * step] <= query) next++;
        if (next > 0 && offset[(next - 1) * step] > a.begin) a.begin = offset[(next - 1) * step];
        if (next < offsets && offset[next * step] < a.end) a.end = offset[next * step];
        a.begin = gemm_least(a.begin, z->s);
        if (query >= z->t || a.end < a.begin) a.end = a.begin = a.end > seen ? a.end : seen;
        seen = a.end;
        span[i] = a;
    }
}

static inline const void *attention_at(const grdi_view *view, int64_t b, int64_t head)
{
    return (const char *)view->data +
           (b * view->stride[0] + head * view->stride[2]) * (int64_t)grd_dtype_size(view->dtype);
}

/* Asks for rows ahead of their use: the heads of one token lie apart, which the processor's own prefetching does not
 * follow. */
static inline void attention_fetch(const void *from, grd_dtype type, int64_t row_step, int64_t rows, int64_t count)
{
    const int64_t size = (int64_t)grd_dtype_size(type);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t byte = 0; byte < count * size; byte += 64)
            __builtin_prefetch((const char *)from + i * row_step * size + byte);
}

/* The same for `rows` rows of one head from row `first` on, to be read or written. Nothing where nobody wants them. */
static inline void attention_fetch_rows(const grdi_view *view, int64_t b, int64_t head, int64_t first, int64_t rows)
{
    if (!view->data) return;
    const int64_t step = view->stride[1];
    const char *from = attention_at(view, b, head);
    attention_fetch(from + first * step * (int64_t)grd_dtype_size(view->dtype), view->dtype, step, rows,
                    view->dims.dim[3]);
}

/* Part `part` of `parts` of a head's rows, while others are worked on. */
static inline void attention_fetch_part(const grdi_view *view, int64_t b, int64_t head, int64_t part, int64_t parts)
{
    const int64_t rows = view->dims.dim[1], first = rows * part / parts;
    attention_fetch_rows(view, b, head, first, rows * (part + 1) / parts - first);
}

/* Elements that hold `count` values. */
static inline int64_t attention_elements(const attention_sizes *z, int64_t count)
{
    return z->pairs ? gemm_up(count, ATTENTION_SUM) / 2 : count;
}

/* Rows of `count` values, those next to each other in memory, as f32. */
static inline void attention_rows(const void *from, grd_dtype type, int64_t row_step, int64_t rows, int64_t count,
                                  float *to)
{
    for (int64_t i = 0; i < rows; i++, to += count) {
        int64_t j = 0;
        if (type == GRD_F32) {
            memcpy(to, (const float *)from + i * row_step, (size_t)count * sizeof *to);
        } else {
            const uint16_t *x = (const uint16_t *)from + i * row_step;
            for (; j + GRDI_LANES <= count; j += GRDI_LANES) grdi_store(to + j, grdi_load_bf16(x + j));
            for (; j < count; j++) to[j] = grdi_bf16_to_f32(x[j]);
        }
    }
}

/* Rows of operands, `step` floats apart. */
typedef struct attention_matrix {
    const float *at;
    int64_t step;
} attention_matrix;

/* Rows [first, first + rows) of one head: where they are if tiles can read them there, else in `copy`, one behind the
 * other. */
static inline attention_matrix attention_operand(const attention_sizes *z, const grdi_view *view, int64_t b,
                                                 int64_t head, int64_t first, int64_t rows, float *copy)
{
    const int64_t count = view->dims.dim[3], wide = attention_elements(z, count), step = view->stride[1];
    const char *from = attention_at(view, b, head);
    from += first * step * (int64_t)grd_dtype_size(view->dtype);
    attention_fetch_rows(view, b, head, first, rows);
    const bool whole = count % ATTENTION_SUM == 0 && (!GRDI_TILES || rows % ATTENTION_ROWS == 0);
    if (z->pairs && whole && step % 2 == 0) return (attention_matrix){(const float *)from, step / 2};
    if (!z->pairs && view->dtype == GRD_F32) return (attention_matrix){(const float *)from, step};
    attention_matrix there = {copy, wide};
    if (!z->pairs) {
        attention_rows(from, view->dtype, step, rows, count, copy);
        return there;
    }
    const int64_t all = GRDI_TILES ? gemm_up(rows, ATTENTION_ROWS) : rows; /* what is not there counts as 0 */
    memset(copy, 0, (size_t)(all * wide) * sizeof *copy);
    for (int64_t i = 0; i < rows; i++, copy += wide)
        memcpy(copy, (const uint16_t *)from + i * step, (size_t)count * sizeof(uint16_t));
    return there;
}

/* The reverse. */
static inline void attention_store(const float *from, int64_t count, float scale, void *to, grd_dtype type,
                                   int64_t offset)
{
    int64_t j = 0;
    if (type == GRD_F32) {
        float *out = (float *)to + offset;
        for (; j + GRDI_LANES <= count; j += GRDI_LANES) grdi_store(out + j, grdi_load(from + j) * scale);
        for (; j < count; j++) out[j] = from[j] * scale;
    } else {
        uint16_t *out = (uint16_t *)to + offset;
        for (; j + GRDI_LANES <= count; j += GRDI_LANES) grdi_store_bf16(out + j, grdi_load(from + j) * scale);
        for (; j < count; j++) out[j] = grdi_f32_to_bf16(from[j] * scale);
    }
}

/* Panels of GEMM_COLUMNS lanes, `count` of a sum of each; `columns`: they are columns of B, else rows of A (with tiles,
 * which tell them apart). */
static inline void attention_panels(const attention_sizes *z, const void *from, grd_dtype type, int64_t lane_step,
                                    int64_t sum_step, int64_t lanes, int64_t count, float *to, bool columns)
{
#if GRDI_TILES
    const int64_t each = attention_elements(z, count) * GEMM_COLUMNS;
    for (int64_t i = 0; i < lanes; i += AMX_PANEL, to += each) {
        const amx_source s = {gemm_at(from, i * lane_step, type == GRD_BF16), type, lane_step, sum_step};
        amx_pack(&s, gemm_least(AMX_PANEL, lanes - i), count, (char *)to, columns);
    }
#else
    (void)columns;
    gemm_pack(from, type, lane_step, sum_step, lanes, count, to, GEMM_COLUMNS, z->pairs);
#endif
}

/* All S rows of k or v of one head as panels; lanes are keys (`by_key`) or channels. */
static inline void attention_pack(const attention_sizes *z, const grdi_view *view, int64_t b, int64_t head, bool by_key,
                                  float *to)
{
    int64_t keys = view->dims.dim[1], count = view->dims.dim[3], step = view->stride[1];
    const void *from = attention_at(view, b, head);
    attention_fetch_rows(view, b, head, 0, keys);
    if (by_key) attention_panels(z, from, view->dtype, step, 1, keys, count, to, true);
    else attention_panels(z, from, view->dtype, 1, step, count, keys, to, true);
}

/* c [rows, c_row] (+)= the first `rows` rows of a matrix times `columns` <= GEMM_COLUMNS columns of a panel, over
 * `count` elements. */
static inline void attention_tile(const attention_sizes *z, int64_t rows, int64_t columns, int64_t count,
                                  attention_matrix a, const float *panel, float *c, int64_t c_row, bool add)
{
#if GRDI_TILES
    const int64_t size = sizeof(float);
    amx_multiply((amx_operand){a.at, amx_rows(a.step * size)}, (amx_operand){panel, amx_packed}, count / AMX_SIDE, c,
                 c_row * size, add, NULL, 0, rows, columns);
    (void)z;
#else
    gemm_end end = {.c = c, .c_row = c_row, .add = add};
    GRDI_ISA_NAME(grdi_gemm_tile)
    ((int)rows, columns > GRDI_LANES ? GEMM_VECTORS : 1, z->pairs ? GEMM_PAIRS_BY_K : GEMM_BY_K, count, a.at, a.step,
     panel, GEMM_COLUMNS, &end);
#endif
}

/* Around the work of a thread. */
static inline void attention_begin(void)
{
#if GRDI_TILES
    amx_begin();
#endif
}
static inline void attention_end(void)
{
#if GRDI_TILES
    amx_end();
#endif
}

/* Scores of a block of queries with the keys of one piece, whole panels of them: row i is query first + i, its
 * column j key begin + j. */
typedef struct attention_piece {
    int64_t begin, end; /* keys, `begin` at the start of a panel */
    int64_t step;       /* floats from row to row */
    int64_t rows;
    const attention_span *span;
} attention_piece;

/* ATTENTION_ROWS rows of a piece, or what is left. */
typedef struct attention_strip {
    int64_t row, height;
    attention_span
        columns;  /* that some of its rows see, panels' starts to multiples of ATTENTION_COLUMNS */
    int64_t keys; /* of them, as few as hold what is seen */
} attention_strip;

static inline attention_strip attention_strip_at(const attention_piece *p, int64_t row)
{
    attention_strip s = {.row = row, .height = gemm_least(ATTENTION_ROWS, p->rows - row)};
    int64_t begin = p->span[row].begin > p->begin ? p->span[row].begin : p->begin;
    int64_t end = gemm_least(p->span[row + s.height - 1].end, p->end);
    if (end <= begin) return s;
    s.columns.begin = (begin - p->begin) / GEMM_COLUMNS * GEMM_COLUMNS;
    s.columns.end = gemm_up(end - p->begin, ATTENTION_COLUMNS);
    s.keys = end - p->begin - s.columns.begin;
    return s;
}

/* out(i, j) = sum over channels of rows(i, .) panel(., j), for the columns of a strip. `panels` are by key. */
static inline void attention_products(const attention_sizes *z, const attention_piece *p, const attention_strip *s,
                                      attention_matrix rows, int64_t channels, const float *panels, float *out)
{
    const int64_t k = attention_elements(z, channels);
    const attention_matrix strip = {rows.at + s->row * rows.step, rows.step};
    for (int64_t j = s->columns.begin; j < s->columns.end; j += GEMM_COLUMNS)
        attention_tile(z, s->height, s->columns.end - j, k, strip, panels + (p->begin + j) * k, out + j, p->step,
                       false);
}

/* Puts what becomes -infinity at the hidden scores of a row in the tile's columns. With a mask the visible ones are
 * scaled and the mask is added. Returns the factor that remains to be applied to all. */
static inline float attention_bound(const attention_sizes *z, const attention_piece *p, int64_t b, int64_t head,
                                    int64_t query, int64_t row, attention_span columns, float *score)
{
    int64_t begin = p->span[row].begin - p->begin, end = p->span[row].end - p->begin;
    begin = begin < columns.begin ? columns.begin : gemm_least(begin, columns.end);
    end = end > columns.end ? columns.end : end < begin ? begin : end;
    const float hidden = z->scale < 0 && !z->mask ? INFINITY : -INFINITY;
    for (int64_t j = columns.begin; j < begin; j++) score[j] = hidden;
    for (int64_t j = end; j < columns.end; j++) score[j] = hidden;
    if (!z->mask) return z->scale;
    if (end <= begin) return 1;
    const grdi_view *m = z->mask;
    const int64_t at[4] = {b, head, query, p->begin + begin};
    int64_t index = 0, step = 0;
    for (int32_t axis = 0; axis < m->dims.rank; axis++) {
        bool repeats = m->dims.dim[axis] == 1;
        int32_t full = 4 - m->dims.rank + axis;
        index += repeats ? 0 : at[full] * m->stride[axis];
        if (full == 3) step = repeats ? 0 : m->stride[axis];
    }
    for (int64_t j = begin; j < end; j++, index += step)
        score[j] = score[j] * z->scale + (m->dtype == GRD_F32 ? ((const float *)m->data)[index]
                                                              : grdi_bf16_to_f32(((const uint16_t *)m->data)[index]));
    return 1;
}

static inline bool attention_takes(const grdi_call *call, int32_t first, int32_t optional, int32_t outputs)
{
    attention_sizes z = attention_sizes_of(call, first, optional);
    grd_dtype type = z.q->dtype;
    bool good = (type == GRD_F32 || type == GRD_BF16) && z.k->dtype == type && z.v->dtype == type;
    good = good && (!z.mask || z.mask->dtype == GRD_F32 || z.mask->dtype == GRD_BF16) &&
           (!z.segments || z.segments->dtype == GRD_I32);
    for (int32_t o = 0; o < outputs; o++)
        good = good && (call->out[o].dtype == GRD_F32 || call->out[o].dtype == GRD_BF16);
    return good && z.t > 0 && z.s > 0 && z.d > 0 && z.dv > 0 && (!GRDI_TILES || z.pairs);
}

#endif
