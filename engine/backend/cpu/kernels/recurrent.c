/* recurrent.c - LSTM, GRU and plain recurrent cells, forward and backward, over all steps of a series. A thread has
 * rows of the batch, or units, of its own for the whole launch. The weight lies in panels that tiles read
 * (gemm_tile.h), and what happens in the cells follows while the sums are in cache. Threads that share rows meet once
 * a step, when all have written what the next product reads. */
#include "backend/backend.h"
#include "backend/cpu/kernels/gemm_pack.h"
#include "backend/cpu/kernels/math.h"
#include "backend/cpu/kernels/transpose.h"
#include "backend/cpu/parallel.h"
#include "base/memory.h"

enum {
    APART = 16,             /* floats added to a row of states, so that rows are not a power of two apart */
    THREAD_WORK = 1 << 18,  /* FLOP of a step that pay for another thread */
    WEIGHT_BYTES = 2 << 20, /* a weight that may be read whole by every thread */
    ROWS_LEAST = 8,         /* rows that keep a tile busy */
    TOGETHER = 8            /* pieces of rows that follow each other through a sliver of the weight */
};

/* Rows [B,width] of one step. */
typedef struct rows {
    float *data;
    int64_t step; /* from row to row */
} rows;

/* Products are states [B,depth] by weight [depth, ...]: forward h by [H, parts H], backward the gates' gradients by
 * [parts H, H]. The weight is cut into blocks of units, a block's `width` columns into slivers that tiles read line by
 * line, [depth, GEMM_COLUMNS] each. */
typedef struct recurrent_state {
    const grdi_call *call;
    int64_t b, t, h, parts; /* parts: gates */
    bool backward, relu;
    int64_t depth, units, width, blocks, panel; /* floats of a block's slivers */
    int64_t state_step;                         /* from row to row of states */
    float *panels, *states[2], *tiles; /* in scratch; tiles: sums of TOGETHER x GEMM_ROWS rows for each thread */
    float *spare;                      /* rows for outputs that nobody wants, B 4H floats for each */
} recurrent_state;

/* What a thread does of one step: rows [begin, end), units [first, last). */
typedef struct part {
    const recurrent_state *s;
    int64_t t, begin, end, first, last;
    const float *sums;  /* forward: those of gate p and unit j of a row at [p units + j - first], rows `width` apart */
    const float *state; /* forward: h before this step */
    float *next;        /* what the next product reads: h, or the gates' gradients */
} part;

static int64_t spare_floats(const recurrent_state *s)
{
    return s->b * 4 * s->h;
}

/* Step t of a [B,T,width] value, or spare rows number `spare` where it is absent. */
static rows at_step(const recurrent_state *s, const grdi_view *view, int64_t t, int64_t width, int spare)
{
    if (!view->data) return (rows){s->spare + spare * spare_floats(s), width};
    return (rows){(float *)view->data + t * width, s->t * width};
}

/* A [B,width] value. */
static rows whole(const recurrent_state *s, const grdi_view *view, int64_t width, int spare)
{
    return (rows){view->data ? view->data : s->spare + spare * spare_floats(s), width};
}

/* What was there before step t: of a value [B,T,H], or the state that came in. */
static rows before(const recurrent_state *s, const grdi_view *view, const grdi_view *first, int64_t t, int spare)
{
    return t ? at_step(s, view, t - 1, s->h, spare) : whole(s, first, s->h, spare);
}

/* ---- lanes, the last ones perhaps fewer ---- */

static inline grdi_vf get(const float *p, int64_t n)
{
    return n >= GRDI_LANES ? grdi_load(p) : grdi_load_part(p, n);
}

static inline void put(float *p, grdi_vf v, int64_t n)
{
    if (n >= GRDI_LANES) grdi_store(p, v);
    else grdi_store_part(p, v, n);
}

/* Asks for what the next step has in the place of these lanes, of each of `gates` gates: `step` floats further on. The
 * rows of a batch, which come before it, are far apart, which the processor's own prefetching does not follow. */
static inline void fetch(const float *lanes, int64_t gates, int64_t h, int64_t step)
{
    for (int64_t p = 0; p < gates; p++) __builtin_prefetch(lanes + p * h + step, 0, 2);
}

static inline void fetch_to_write(const float *lanes, int64_t gates, int64_t h, int64_t step)
{
    for (int64_t p = 0; p < gates; p++) __builtin_prefetch(lanes + p * h + step, 1, 2);
}

/* ---- lstm ---- */

static void lstm_cell(const part *m)
{
    const recurrent_state *s = m->s;
    const grdi_call *call = s->call;
    const int64_t h = s->h, u = s->units;
    rows in = at_step(s, &call->in[0], m->t, 4 * h, 0), old = before(s, &call->out[1], &call->in[3], m->t, 1);
    rows y = at_step(s, &call->out[0], m->t, h, 0), c = at_step(s, &call->out[1], m->t, h, 1);
    rows gates = at_step(s, &call->out[2], m->t, 4 * h, 2);
    for (int64_t b = m->begin; b < m->end; b++) {
        const float *sum = m->sums + (b - m->begin) * s->width - m->first, *i = in.data + b * in.step;
        const float *from = old.data + b * old.step;
        float *g = gates.data + b * gates.step, *cell = c.data + b * c.step, *out = y.data + b * y.step;
        for (int64_t j = m->first; j < m->last; j += GRDI_LANES) {
            int64_t n = h - j;
            fetch(i + j, 4, h, 4 * h), fetch_to_write(g + j, 4, h, 4 * h);
            fetch_to_write(cell + j, 1, h, h), fetch_to_write(out + j, 1, h, h);
            grdi_vf gi = grdi_sigmoid_gate(get(i + j, n) + grdi_load(sum + j));
            grdi_vf gf = grdi_sigmoid_gate(get(i + h + j, n) + grdi_load(sum + u + j));
            grdi_vf gg = grdi_tanh(get(i + 2 * h + j, n) + grdi_load(sum + 2 * u + j));
            grdi_vf go = grdi_sigmoid_gate(get(i + 3 * h + j, n) + grdi_load(sum + 3 * u + j));
            grdi_vf now = gf * get(from + j, n) + gi * gg, result = go * grdi_tanh(now);
            put(g + j, gi, n), put(g + h + j, gf, n), put(g + 2 * h + j, gg, n), put(g + 3 * h + j, go, n);
            put(cell + j, now, n);
            put(out + j, result, n);
            put(m->next + b * s->state_step + j, result, n);
        }
    }
}

static void lstm_backward_cell(const part *m)
{
    const recurrent_state *s = m->s;
    const grdi_call *call = s->call;
    int64_t h = s->h;
    bool has_gc = call->input_count == 6;
    rows gy = at_step(s, &call->in[0], m->t, h, 0), gates = at_step(s, &call->in[1], m->t, 4 * h, 0);
    rows cells = at_step(s, &call->in[2], m->t, h, 0), old = before(s, &call->in[2], &call->in[3], m->t, 0);
    rows gc = at_step(s, &call->in[has_gc ? 5 : 0], m->t, h, 0), out = at_step(s, &call->out[0], m->t, 4 * h, 0);
    rows dh = whole(s, &call->out[1], h, 1), dc = whole(s, &call->out[2], h, 2);
    for (int64_t b = m->begin; b < m->end; b++) {
        const float *g = gates.data + b * gates.step, *back = dh.data + b * h, *from = old.data + b * old.step;
        float *d = out.data + b * out.step, *carry = dc.data + b * h, *next = m->next + b * s->state_step;
        for (int64_t j = m->first; j < m->last; j += GRDI_LANES) {
            int64_t n = h - j;
            fetch(g + j, 4, h, -4 * h), fetch_to_write(d + j, 4, h, -4 * h);
            fetch(from + j, 1, h, -h), fetch(gy.data + b * gy.step + j, 1, h, -h);
            grdi_vf i = get(g + j, n), f = get(g + h + j, n), a = get(g + 2 * h + j, n), o = get(g + 3 * h + j, n);
            grdi_vf y = grdi_tanh(get(cells.data + b * cells.step + j, n));
            grdi_vf arriving = get(gy.data + b * gy.step + j, n) + get(back + j, n);
            grdi_vf cell = get(carry + j, n) + arriving * o * (1.0f - y * y);
            if (has_gc) cell += get(gc.data + b * gc.step + j, n);
            grdi_vf di = cell * a * i * (1.0f - i), df = cell * get(from + j, n) * f * (1.0f - f);
            grdi_vf da = cell * i * (1.0f - a * a), dy = arriving * y * o * (1.0f - o);
            put(d + j, di, n), put(d + h + j, df, n), put(d + 2 * h + j, da, n), put(d + 3 * h + j, dy, n);
            put(next + j, di, n), put(next + h + j, df, n), put(next + 2 * h + j, da, n);
            put(next + 3 * h + j, dy, n);
            put(carry + j, cell * f, n);
        }
    }
}

/* ---- gru ---- */

static void gru_cell(const part *m)
{
    const recurrent_state *s = m->s;
    const grdi_call *call = s->call;
    const int64_t h = s->h, u = s->units;
    rows in = at_step(s, &call->in[0], m->t, 3 * h, 0), y = at_step(s, &call->out[0], m->t, h, 0);
    rows gates = at_step(s, &call->out[1], m->t, 4 * h, 1);
    const float *bias = call->in[2].data;
    for (int64_t b = m->begin; b < m->end; b++) {
        const float *sum = m->sums + (b - m->begin) * s->width - m->first, *i = in.data + b * in.step;
        const float *from = m->state + b * s->state_step;
        float *g = gates.data + b * gates.step, *out = y.data + b * y.step;
        for (int64_t j = m->first; j < m->last; j += GRDI_LANES) {
            int64_t n = h - j;
            grdi_vf r = grdi_sigmoid_gate(get(i + j, n) + grdi_load(sum + j) + get(bias + j, n));
            grdi_vf z = grdi_sigmoid_gate(get(i + h + j, n) + grdi_load(sum + u + j) + get(bias + h + j, n));
            grdi_vf hidden = grdi_load(sum + 2 * u + j) + get(bias + 2 * h + j, n);
            grdi_vf fresh = grdi_tanh(get(i + 2 * h + j, n) + r * hidden);
            grdi_vf now = (1.0f - z) * fresh + z * get(from + j, n);
            put(g + j, r, n), put(g + h + j, z, n), put(g + 2 * h + j, fresh, n), put(g + 3 * h + j, hidden, n);
            put(out + j, now, n);
            put(m->next + b * s->state_step + j, now, n);
        }
    }
}

static void gru_backward_cell(const part *m)
{
    const recurrent_state *s = m->s;
    const grdi_call *call = s->call;
    int64_t h = s->h;
    rows gy = at_step(s, &call->in[0], m->t, h, 0), old = before(s, &call->in[1], &call->in[3], m->t, 0);
    rows gates = at_step(s, &call->in[2], m->t, 4 * h, 0), dh = whole(s, &call->out[2], h, 2);
    rows out = at_step(s, &call->out[0], m->t, 3 * h, 0), hiddens = at_step(s, &call->out[1], m->t, 3 * h, 1);
    for (int64_t b = m->begin; b < m->end; b++) {
        const float *g = gates.data + b * gates.step, *from = old.data + b * old.step;
        float *d = out.data + b * out.step, *e = hiddens.data + b * hiddens.step, *back = dh.data + b * h;
        float *next = m->next + b * s->state_step;
        for (int64_t j = m->first; j < m->last; j += GRDI_LANES) {
            int64_t n = h - j;
            grdi_vf r = get(g + j, n), z = get(g + h + j, n), fresh = get(g + 2 * h + j, n);
            grdi_vf arriving = get(gy.data + b * gy.step + j, n) + get(back + j, n);
            grdi_vf dn = arriving * (1.0f - z) * (1.0f - fresh * fresh);
            grdi_vf dr = dn * get(g + 3 * h + j, n) * r * (1.0f - r);
            grdi_vf dz = arriving * (get(from + j, n) - fresh) * z * (1.0f - z);
            put(d + j, dr, n), put(d + h + j, dz, n), put(d + 2 * h + j, dn, n);
            put(e + j, dr, n), put(e + h + j, dz, n), put(e + 2 * h + j, dn * r, n);
            put(next + j, dr, n), put(next + h + j, dz, n), put(next + 2 * h + j, dn * r, n);
            put(back + j, arriving * z, n);
        }
    }
}

/* ---- rnn ---- */

static void rnn_cell(const part *m)
{
    const recurrent_state *s = m->s;
    const grdi_call *call = s->call;
    rows in = at_step(s, &call->in[0], m->t, s->h, 0), y = at_step(s, &call->out[0], m->t, s->h, 0);
    for (int64_t b = m->begin; b < m->end; b++) {
        const float *sum = m->sums + (b - m->begin) * s->width - m->first;
        for (int64_t j = m->first; j < m->last; j += GRDI_LANES) {
            int64_t n = s->h - j;
            grdi_vf v = grdi_load(sum + j) + get(in.data + b * in.step + j, n);
            v = s->relu ? grdi_max(v, grdi_set(0)) : grdi_tanh(v);
            put(y.data + b * y.step + j, v, n);
            put(m->next + b * s->state_step + j, v, n);
        }
    }
}

static void rnn_backward_cell(const part *m)
{
    const recurrent_state *s = m->s;
    const grdi_call *call = s->call;
    rows gy = at_step(s, &call->in[0], m->t, s->h, 0), y = at_step(s, &call->in[1], m->t, s->h, 0);
    rows out = at_step(s, &call->out[0], m->t, s->h, 0), dh = whole(s, &call->out[1], s->h, 1);
    for (int64_t b = m->begin; b < m->end; b++)
        for (int64_t j = m->first; j < m->last; j += GRDI_LANES) {
            int64_t n = s->h - j;
            grdi_vf v = get(y.data + b * y.step + j, n);
            grdi_vf arriving = get(gy.data + b * gy.step + j, n) + get(dh.data + b * s->h + j, n);
            grdi_vf through = grdi_select(v > 0.0f, arriving, grdi_set(0));
            grdi_vf d = s->relu ? through : arriving * (1.0f - v * v);
            put(out.data + b * out.step + j, d, n);
            put(m->next + b * s->state_step + j, d, n);
        }
}

/* ---- the kernels ---- */

static const struct cell {
    const char *op;
    int32_t parts, weight; /* gates; which input is the weight */
    bool backward;
    int32_t state; /* forward: which input is the first h; backward: which output is the gradient of h */
    bool keeps;    /* backward: the cell leaves a part of the gradient of h, which the product is added to */
    void (*run)(const part *m);
} cells[] = {
    {"lstm", 4, 1, false, 2, false, lstm_cell}, {"lstm_backward", 4, 4, true, 1, false, lstm_backward_cell},
    {"gru", 3, 1, false, 3, false, gru_cell},   {"gru_backward", 3, 4, true, 2, true, gru_backward_cell},
    {"rnn", 1, 1, false, 2, false, rnn_cell},   {"rnn_backward", 1, 2, true, 1, false, rnn_backward_cell},
};
enum { SPARES = 3 };

static const struct cell *cell_of(const grdi_call *call)
{
    const struct cell *c = cells;
    while (strcmp(c->op, call->op->name) != 0) c++;
    return c;
}

/* A block's slivers, from w [parts H, H]; units that are not there are zeros. */
static void pack_block(const recurrent_state *s, const float *w, int64_t block)
{
    const int64_t h = s->h, first = block * s->units, count = gemm_least(s->units, h - first);
    float *to = s->panels + block * s->panel;
    if (s->backward) {
        gemm_pack(w + first, GRD_F32, 1, h, count, s->depth, to, GEMM_COLUMNS, false);
        return;
    }
    if (count < s->units) memset(to, 0, (size_t)s->panel * sizeof *to);
    for (int64_t p = 0; p < s->parts; p++) {
        const int64_t column = p * s->units % GEMM_COLUMNS, sliver = p * s->units / GEMM_COLUMNS;
        for (int64_t k = 0; k < h; k += GRDI_TRANSPOSE_BAND)
            grdi_transpose_band((uint32_t *)(to + (sliver * s->depth + k) * GEMM_COLUMNS + column), GEMM_COLUMNS,
                                (const uint32_t *)(w + (p * h + first) * h + k), h,
                                gemm_least(GRDI_TRANSPOSE_BAND, h - k), count);
    }
}

/* `to` [count, width], rows `row` apart, = rows of `state` by a block of the weight, `piece` rows at a time; or that is
 * added to it. */
static void multiply(const recurrent_state *s, const float *state, int64_t count, int64_t piece, int64_t block,
                     bool add, float *to, int64_t row)
{
    for (int64_t j = 0; j < s->width; j += GEMM_COLUMNS) {
        const float *sliver = s->panels + block * s->panel + j * s->depth;
        int vectors = (int)gemm_least(GEMM_VECTORS, (s->width - j) / GRDI_LANES);
        for (int64_t r = 0; r < count; r += piece) {
            gemm_end end = {.c = to + r * row + j, .c_row = row, .add = add};
            GRDI_ISA_NAME(grdi_gemm_tile)
            ((int)gemm_least(piece, count - r), vectors, GEMM_BY_K, s->depth, state + r * s->state_step, s->state_step,
             sliver, GEMM_COLUMNS, &end);
        }
    }
}

/* What one thread has: rows [begin, end) and blocks [first, last), rows in pieces of `rows`. */
typedef struct share {
    int64_t begin, end, first, last, rows;
    bool meets; /* rows are shared with others */
    float *sums;
} share;

/* Rows are shared first where a weight that every thread reads whole stays in a cache: threads then do not wait for
 * each other, nor for what another core has just written. Else units are, and each reads its part of the weight. */
static share share_of(const recurrent_state *s, int32_t thread, int32_t size)
{
    int64_t weight = s->blocks * s->panel * (int64_t)sizeof(float);
    int64_t apart = weight <= WEIGHT_BYTES ? gemm_least(size, s->b / ROWS_LEAST) : 1;
    int64_t columns = gemm_least(apart > 1 ? size / apart : size, s->blocks);
    int64_t groups = gemm_least(size / columns, (s->b + ROWS_LEAST - 1) / ROWS_LEAST);
    int64_t column = thread % columns, group = thread / columns;
    share a = {.first = s->blocks * column / columns, .last = s->blocks * (column + 1) / columns};
    a.meets = columns > 1;
    if (group < groups) a.begin = s->b * group / groups, a.end = s->b * (group + 1) / groups;
    int64_t pieces = (a.end - a.begin + GEMM_ROWS - 1) / GEMM_ROWS;
    a.rows = pieces ? (a.end - a.begin + pieces - 1) / pieces : 1;
    a.sums = s->tiles + thread * TOGETHER * GEMM_ROWS * s->width;
    return a;
}

/* Whether rows [begin, end) of the first states are zeros, as they mostly are: their product is not worth making. */
static bool nothing_before(const recurrent_state *s, int64_t begin, int64_t end)
{
    for (int64_t b = begin; b < end; b++)
        for (int64_t j = 0; j < s->h; j++)
            if (s->states[0][b * s->state_step + j] != 0) return false;
    return true;
}

static void step_forward(const recurrent_state *s, const struct cell *cell, const share *a, int64_t t)
{
    const bool none = t == 0 && nothing_before(s, a->begin, a->end);
    part m = {.s = s, .t = t, .sums = a->sums, .state = s->states[t % 2], .next = s->states[1 - t % 2]};
    for (int64_t block = a->first; block < a->last; block++) {
        m.first = block * s->units, m.last = gemm_least(m.first + s->units, s->h);
        for (m.begin = a->begin; m.begin < a->end; m.begin = m.end) {
            m.end = gemm_least(m.begin + TOGETHER * a->rows, a->end);
            if (none) memset(a->sums, 0, (size_t)((m.end - m.begin) * s->width) * sizeof *a->sums);
            else
                multiply(s, m.state + m.begin * s->state_step, m.end - m.begin, a->rows, block, false, a->sums,
                         s->width);
            cell->run(&m);
        }
    }
    if (a->meets) grdi_parallel_meet();
}

/* The cells of a step read what the thread's own product of the step behind left, so one meeting is enough here, too;
 * meanwhile others may still read the states of the step behind. */
static void step_backward(const recurrent_state *s, const struct cell *cell, const share *a, int64_t t)
{
    const grdi_view *wanted = &s->call->out[cell->state];
    rows dh = whole(s, wanted, s->h, cell->state);
    part m = {.s = s,
              .t = t,
              .begin = a->begin,
              .end = a->end,
              .first = a->first * s->units,
              .last = gemm_least(a->last * s->units, s->h),
              .next = s->states[t % 2]};
    cell->run(&m);
    if (a->meets) grdi_parallel_meet();
    if (t == 0 && !wanted->data) return;
    for (int64_t block = a->first; block < a->last; block++) {
        const int64_t first = block * s->units;
        for (int64_t begin = a->begin; begin < a->end; begin += TOGETHER * a->rows) {
            const float *state = m.next + begin * s->state_step;
            int64_t count = gemm_least(TOGETHER * a->rows, a->end - begin);
            float *to = dh.data + begin * dh.step + first;
            if (first + s->units <= s->h) {
                multiply(s, state, count, a->rows, block, cell->keeps, to, dh.step);
                continue;
            }
            multiply(s, state, count, a->rows, block, false, a->sums, s->width);
            for (int64_t i = 0; i < count; i++)
                for (int64_t j = 0; j < s->h - first; j++)
                    to[i * dh.step + j] = a->sums[i * s->width + j] + (cell->keeps ? to[i * dh.step + j] : 0.0f);
        }
    }
}

static void do_share(int32_t thread, int32_t size, void *context)
{
    const recurrent_state *s = context;
    const struct cell *cell = cell_of(s->call);
    const share a = share_of(s, thread, size);
    for (int64_t block = thread; block < s->blocks; block += size) pack_block(s, s->call->in[cell->weight].data, block);
    for (int64_t b = a.begin; !s->backward && a.first == 0 && b < a.end; b++)
        memcpy(s->states[0] + b * s->state_step, (const float *)s->call->in[cell->state].data + b * s->h,
               (size_t)s->h * sizeof(float));
    grdi_parallel_meet();
    for (int64_t i = 0; i < s->t; i++) {
        if (s->backward) step_backward(s, cell, &a, s->t - 1 - i);
        else step_forward(s, cell, &a, i);
    }
}

static int32_t threads_of(const recurrent_state *s, int32_t threads)
{
    double work = 2.0 * (double)(s->b * s->parts * s->h) * (double)s->h / THREAD_WORK;
    return work < 2 ? 1 : threads;
}

/* Lays out the scratch; returns its size. */
static size_t carve(recurrent_state *s, char *scratch, int32_t threads)
{
    float **piece[] = {&s->panels, &s->states[0], &s->states[1], &s->tiles, &s->spare};
    const int64_t floats[] = {s->blocks * s->panel, s->b * s->state_step, s->b * s->state_step,
                              threads * TOGETHER * GEMM_ROWS * s->width, SPARES * spare_floats(s)};
    int64_t used = 0;
    for (int i = 0; i < 5; i++) {
        *piece[i] = (float *)scratch + used;
        used += gemm_up(floats[i], 16);
    }
    return (size_t)used * sizeof(float);
}

static grd_status prepare(grdi_call *call, grd_error *error)
{
    const struct cell *c = cell_of(call);
    grd_dims series = c->backward ? call->in[0].dims : call->out[0].dims; /* [B,T,H] */
    recurrent_state *s = grdi_alloc_zero(1, sizeof *s);
    if (!s) return grd_fail(error, GRD_E_MEMORY, "%s: out of memory", call->op->name);
    s->b = series.dim[0], s->t = series.dim[1], s->h = series.dim[2];
    s->parts = c->parts, s->backward = c->backward, s->relu = grdi_attr_int(call->attrs, "relu");
    s->depth = s->backward ? s->parts * s->h : s->h;
    s->units = GEMM_COLUMNS;
    s->width = s->backward ? s->units : s->parts * s->units;
    s->blocks = (s->h + s->units - 1) / s->units;
    s->panel = s->depth * gemm_up(s->width, GEMM_COLUMNS);
    s->state_step = gemm_up(s->depth, APART) + APART;
    call->scratch_bytes = carve(s, NULL, call->threads);
    call->state = s;
    return GRD_OK;
}

static grd_status run(grdi_call *call)
{
    recurrent_state *s = call->state;
    s->call = call;
    carve(s, call->scratch, call->threads);
    for (int32_t o = 1; s->backward && o < call->output_count; o++) /* what arrives from behind the last step */
        if (call->out[o].dims.rank == 2)
            memset(whole(s, &call->out[o], s->h, o).data, 0, (size_t)(s->b * s->h) * sizeof(float));
    grdi_parallel_team(threads_of(s, call->threads), do_share, s);
    return GRD_OK;
}

static void release(grdi_call *call)
{
    grdi_free(call->state);
    call->state = NULL;
}

/* Products of a few rows, one after the other, and the cell between them: 0.9 of the rate with 32 rows of 256 where
 * processors are near to each other, 0.7 where they are far apart. Gates may lie over what came in for them: a cell
 * reads its lanes before it writes them, and no other reads those. */
#define KERNEL(name, places)                                                                                           \
    static const grdi_kernel kernel_##name = {                                                                         \
        .op = #name, .rate_part = 0.78, .in_place = (places), .prepare = prepare, .run = run, .release = release}
KERNEL(lstm, 4);
KERNEL(lstm_backward, 1);
KERNEL(gru, 0);
KERNEL(gru_backward, 0);
KERNEL(rnn, 1);
KERNEL(rnn_backward, 1);

const grdi_kernel *const GRDI_ISA_TABLE(recurrent)[] = {
    &kernel_lstm, &kernel_lstm_backward, &kernel_gru, &kernel_gru_backward, &kernel_rnn, &kernel_rnn_backward, NULL};
