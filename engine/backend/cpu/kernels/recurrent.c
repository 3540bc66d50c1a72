/* recurrent.c - LSTM, GRU and plain recurrent cells, forward and backward: one product of matrices for each step, then
 * all that happens in the cells in one loop over the series. The weight is copied once a launch to where the product
 * reads it without packing: columns of gates side by side (backward: as it is), rows not a power of two apart. */
#include "backend/cpu/gemm.h"
#include "backend/cpu/kernels/math.h"
#include "backend/cpu/parallel.h"
#include "base/memory.h"

enum {
    PARALLEL = 4096, /* gates that pay for another thread */
    APART = 16       /* floats added to a row of the weight */
};

/* Rows [B,width] of one step. */
typedef struct rows {
    float *data;
    int64_t step; /* from row to row */
} rows;

typedef struct recurrent_state {
    int64_t b, t, h, parts; /* parts: gates */
    bool backward, relu;
    int64_t weight_step;
    float *weight, *spare; /* in scratch; spare: rows for outputs that nobody wants, SPARE for each */
    void *gemm;
} recurrent_state;

/* One step of one launch. */
typedef struct moment {
    const grdi_call *call;
    const recurrent_state *s;
    int64_t t;
} moment;

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

/* ---- the product of a step ---- */

/* to [B,n] = from [B,k] weight [k,n] (+ to) */
static grdi_gemm product_of(const recurrent_state *s, rows from, rows to, bool add)
{
    int64_t gates = s->parts * s->h;
    return (grdi_gemm){.m = s->b,
                       .n = s->backward ? s->h : gates,
                       .k = s->backward ? gates : s->h,
                       .a = from.data,
                       .a_row = from.step,
                       .a_col = 1,
                       .b = s->weight,
                       .b_row = s->weight_step,
                       .b_col = 1,
                       .c = to.data,
                       .c_row = to.step,
                       .y_row = to.step,
                       .a_type = GRD_F32,
                       .b_type = GRD_F32,
                       .c_type = GRD_F32,
                       .bias_type = GRD_F32,
                       .add = add};
}

static void multiply(const recurrent_state *s, int32_t threads, rows from, rows to, bool add)
{
    grdi_gemm g = product_of(s, from, to, add);
    GRDI_ISA_NAME(grdi_gemm_all)(&g, threads, s->gemm);
}

/* [parts H,H] to [H,parts H], or as it is. */
static void copy_weight(const recurrent_state *s, const float *w)
{
    int64_t gates = s->parts * s->h;
    if (s->backward)
        for (int64_t i = 0; i < gates; i++)
            memcpy(s->weight + i * s->weight_step, w + i * s->h, (size_t)s->h * sizeof(float));
    else
        for (int64_t i = 0; i < gates; i++)
            for (int64_t j = 0; j < s->h; j++) s->weight[j * s->weight_step + i] = w[i * s->h + j];
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

/* ---- lstm ---- */

static void lstm_rows(int64_t begin, int64_t end, int32_t thread, void *context)
{
    const moment *m = context;
    const recurrent_state *s = m->s;
    const grdi_call *call = m->call;
    (void)thread;
    int64_t h = s->h;
    rows in = at_step(s, &call->in[0], m->t, 4 * h, 0), old = before(s, &call->out[1], &call->in[3], m->t, 1);
    rows y = at_step(s, &call->out[0], m->t, h, 0), c = at_step(s, &call->out[1], m->t, h, 1);
    rows gates = at_step(s, &call->out[2], m->t, 4 * h, 2);
    for (int64_t b = begin; b < end; b++) {
        const float *sum = in.data + b * in.step, *from = old.data + b * old.step;
        float *g = gates.data + b * gates.step, *cell = c.data + b * c.step, *out = y.data + b * y.step;
        for (int64_t j = 0; j < h; j += GRDI_LANES) {
            int64_t n = h - j;
            grdi_vf gi = grdi_sigmoid(get(g + j, n) + get(sum + j, n));
            grdi_vf gf = grdi_sigmoid(get(g + h + j, n) + get(sum + h + j, n));
            grdi_vf gg = grdi_tanh(get(g + 2 * h + j, n) + get(sum + 2 * h + j, n));
            grdi_vf go = grdi_sigmoid(get(g + 3 * h + j, n) + get(sum + 3 * h + j, n));
            grdi_vf now = gf * get(from + j, n) + gi * gg;
            put(g + j, gi, n), put(g + h + j, gf, n), put(g + 2 * h + j, gg, n), put(g + 3 * h + j, go, n);
            put(cell + j, now, n);
            put(out + j, go * grdi_tanh(now), n);
        }
    }
}

static void lstm_forward(const grdi_call *call, const recurrent_state *s, int64_t t, int64_t grain)
{
    moment m = {call, s, t};
    multiply(s, call->threads, before(s, &call->out[0], &call->in[2], t, 0), at_step(s, &call->out[2], t, 4 * s->h, 2),
             false);
    grdi_parallel_for(call->threads, s->b, grain, lstm_rows, &m);
}

static void lstm_backward_rows(int64_t begin, int64_t end, int32_t thread, void *context)
{
    const moment *m = context;
    const recurrent_state *s = m->s;
    const grdi_call *call = m->call;
    (void)thread;
    int64_t h = s->h;
    bool has_gc = call->input_count == 6;
    rows gy = at_step(s, &call->in[0], m->t, h, 0), gates = at_step(s, &call->in[1], m->t, 4 * h, 0);
    rows cells = at_step(s, &call->in[2], m->t, h, 0), old = before(s, &call->in[2], &call->in[3], m->t, 0);
    rows gc = at_step(s, &call->in[has_gc ? 5 : 0], m->t, h, 0), out = at_step(s, &call->out[0], m->t, 4 * h, 0);
    rows dh = whole(s, &call->out[1], h, 1), dc = whole(s, &call->out[2], h, 2);
    for (int64_t b = begin; b < end; b++) {
        const float *g = gates.data + b * gates.step, *back = dh.data + b * h, *from = old.data + b * old.step;
        float *d = out.data + b * out.step, *carry = dc.data + b * h;
        for (int64_t j = 0; j < h; j += GRDI_LANES) {
            int64_t n = h - j;
            grdi_vf i = get(g + j, n), f = get(g + h + j, n), a = get(g + 2 * h + j, n), o = get(g + 3 * h + j, n);
            grdi_vf y = grdi_tanh(get(cells.data + b * cells.step + j, n));
            grdi_vf arriving = get(gy.data + b * gy.step + j, n) + get(back + j, n);
            grdi_vf cell = get(carry + j, n) + arriving * o * (1.0f - y * y);
            if (has_gc) cell += get(gc.data + b * gc.step + j, n);
            put(d + j, cell * a * i * (1.0f - i), n);
            put(d + h + j, cell * get(from + j, n) * f * (1.0f - f), n);
            put(d + 2 * h + j, cell * i * (1.0f - a * a), n);
            put(d + 3 * h + j, arriving * y * o * (1.0f - o), n);
            put(carry + j, cell * f, n);
        }
    }
}

static void lstm_backward(const grdi_call *call, const recurrent_state *s, int64_t t, int64_t grain)
{
    moment m = {call, s, t};
    grdi_parallel_for(call->threads, s->b, grain, lstm_backward_rows, &m);
    multiply(s, call->threads, at_step(s, &call->out[0], t, 4 * s->h, 0), whole(s, &call->out[1], s->h, 1), false);
}

/* ---- gru: spare rows 3 hold the product of a step ---- */

static const grdi_view absent; /* no data */

static void gru_rows(int64_t begin, int64_t end, int32_t thread, void *context)
{
    const moment *m = context;
    const recurrent_state *s = m->s;
    const grdi_call *call = m->call;
    (void)thread;
    int64_t h = s->h;
    rows in = at_step(s, &call->in[0], m->t, 3 * h, 0), old = before(s, &call->out[0], &call->in[3], m->t, 0);
    rows y = at_step(s, &call->out[0], m->t, h, 0), gates = at_step(s, &call->out[1], m->t, 4 * h, 1);
    rows product = at_step(s, &absent, 0, 3 * h, 3);
    const float *bias = call->in[2].data;
    for (int64_t b = begin; b < end; b++) {
        const float *sum = in.data + b * in.step, *p = product.data + b * product.step, *from = old.data + b * old.step;
        float *g = gates.data + b * gates.step, *out = y.data + b * y.step;
        for (int64_t j = 0; j < h; j += GRDI_LANES) {
            int64_t n = h - j;
            grdi_vf r = grdi_sigmoid(get(sum + j, n) + get(p + j, n) + get(bias + j, n));
            grdi_vf z = grdi_sigmoid(get(sum + h + j, n) + get(p + h + j, n) + get(bias + h + j, n));
            grdi_vf hidden = get(p + 2 * h + j, n) + get(bias + 2 * h + j, n);
            grdi_vf fresh = grdi_tanh(get(sum + 2 * h + j, n) + r * hidden);
            grdi_vf now = (1.0f - z) * fresh + z * get(from + j, n);
            put(g + j, r, n), put(g + h + j, z, n), put(g + 2 * h + j, fresh, n), put(g + 3 * h + j, hidden, n);
            put(out + j, now, n);
        }
    }
}

static void gru_forward(const grdi_call *call, const recurrent_state *s, int64_t t, int64_t grain)
{
    moment m = {call, s, t};
    multiply(s, call->threads, before(s, &call->out[0], &call->in[3], t, 0), at_step(s, &absent, 0, 3 * s->h, 3),
             false);
    grdi_parallel_for(call->threads, s->b, grain, gru_rows, &m);
}

static void gru_backward_rows(int64_t begin, int64_t end, int32_t thread, void *context)
{
    const moment *m = context;
    const recurrent_state *s = m->s;
    const grdi_call *call = m->call;
    (void)thread;
    int64_t h = s->h;
    rows gy = at_step(s, &call->in[0], m->t, h, 0), old = before(s, &call->in[1], &call->in[3], m->t, 0);
    rows gates = at_step(s, &call->in[2], m->t, 4 * h, 0), dh = whole(s, &call->out[2], h, 2);
    rows out = at_step(s, &call->out[0], m->t, 3 * h, 0), hiddens = at_step(s, &call->out[1], m->t, 3 * h, 1);
    for (int64_t b = begin; b < end; b++) {
        const float *g = gates.data + b * gates.step, *from = old.data + b * old.step;
        float *d = out.data + b * out.step, *e = hiddens.data + b * hiddens.step, *back = dh.data + b * h;
        for (int64_t j = 0; j < h; j += GRDI_LANES) {
            int64_t n = h - j;
            grdi_vf r = get(g + j, n), z = get(g + h + j, n), fresh = get(g + 2 * h + j, n);
            grdi_vf arriving = get(gy.data + b * gy.step + j, n) + get(back + j, n);
            grdi_vf dn = arriving * (1.0f - z) * (1.0f - fresh * fresh);
            grdi_vf dr = dn * get(g + 3 * h + j, n) * r * (1.0f - r);
            grdi_vf dz = arriving * (get(from + j, n) - fresh) * z * (1.0f - z);
            put(d + j, dr, n), put(d + h + j, dz, n), put(d + 2 * h + j, dn, n);
            put(e + j, dr, n), put(e + h + j, dz, n), put(e + 2 * h + j, dn * r, n);
            put(back + j, arriving * z, n);
        }
    }
}

static void gru_backward(const grdi_call *call, const recurrent_state *s, int64_t t, int64_t grain)
{
    moment m = {call, s, t};
    grdi_parallel_for(call->threads, s->b, grain, gru_backward_rows, &m);
    multiply(s, call->threads, at_step(s, &call->out[1], t, 3 * s->h, 1), whole(s, &call->out[2], s->h, 2), true);
}

/* ---- rnn ---- */

static void rnn_rows(int64_t begin, int64_t end, int32_t thread, void *context)
{
    const moment *m = context;
    const recurrent_state *s = m->s;
    (void)thread;
    rows in = at_step(s, &m->call->in[0], m->t, s->h, 0), y = at_step(s, &m->call->out[0], m->t, s->h, 0);
    for (int64_t b = begin; b < end; b++) {
        const float *sum = in.data + b * in.step;
        float *out = y.data + b * y.step;
        for (int64_t j = 0; j < s->h; j += GRDI_LANES) {
            grdi_vf v = get(out + j, s->h - j) + get(sum + j, s->h - j);
            put(out + j, s->relu ? grdi_max(v, grdi_set(0)) : grdi_tanh(v), s->h - j);
        }
    }
}

static void rnn_forward(const grdi_call *call, const recurrent_state *s, int64_t t, int64_t grain)
{
    moment m = {call, s, t};
    multiply(s, call->threads, before(s, &call->out[0], &call->in[2], t, 0), at_step(s, &call->out[0], t, s->h, 0),
             false);
    grdi_parallel_for(call->threads, s->b, grain, rnn_rows, &m);
}

static void rnn_backward_rows(int64_t begin, int64_t end, int32_t thread, void *context)
{
    const moment *m = context;
    const recurrent_state *s = m->s;
    (void)thread;
    rows gy = at_step(s, &m->call->in[0], m->t, s->h, 0), y = at_step(s, &m->call->in[1], m->t, s->h, 0);
    rows out = at_step(s, &m->call->out[0], m->t, s->h, 0), dh = whole(s, &m->call->out[1], s->h, 1);
    for (int64_t b = begin; b < end; b++)
        for (int64_t j = 0; j < s->h; j += GRDI_LANES) {
            int64_t n = s->h - j;
            grdi_vf v = get(y.data + b * y.step + j, n);
            grdi_vf arriving = get(gy.data + b * gy.step + j, n) + get(dh.data + b * s->h + j, n);
            grdi_vf through = grdi_select(v > 0.0f, arriving, grdi_set(0));
            put(out.data + b * out.step + j, s->relu ? through : arriving * (1.0f - v * v), n);
        }
}

static void rnn_backward(const grdi_call *call, const recurrent_state *s, int64_t t, int64_t grain)
{
    moment m = {call, s, t};
    grdi_parallel_for(call->threads, s->b, grain, rnn_backward_rows, &m);
    multiply(s, call->threads, at_step(s, &call->out[0], t, s->h, 0), whole(s, &call->out[1], s->h, 1), false);
}

/* ---- the kernels ---- */

static const struct cell {
    const char *op;
    int32_t parts, weight; /* gates; which input is the weight */
    bool backward;
    void (*step)(const grdi_call *call, const recurrent_state *s, int64_t t, int64_t grain);
} cells[] = {
    {"lstm", 4, 1, false, lstm_forward}, {"lstm_backward", 4, 4, true, lstm_backward},
    {"gru", 3, 1, false, gru_forward},   {"gru_backward", 3, 4, true, gru_backward},
    {"rnn", 1, 1, false, rnn_forward},   {"rnn_backward", 1, 2, true, rnn_backward},
};
enum { SPARES = 4 };

static const struct cell *cell_of(const grdi_call *call)
{
    const struct cell *c = cells;
    while (strcmp(c->op, call->op->name) != 0) c++;
    return c;
}

static size_t lines(int64_t floats)
{
    return ((size_t)floats * sizeof(float) + 63) / 64 * 64;
}

static size_t weight_bytes(const recurrent_state *s)
{
    return lines((s->backward ? s->parts : 1) * s->h * s->weight_step);
}

static grd_status prepare(grdi_call *call, grd_error *error)
{
    const struct cell *c = cell_of(call);
    grd_dims series = c->backward ? call->in[0].dims : call->out[0].dims; /* [B,T,H] */
    recurrent_state *s = grdi_alloc_zero(1, sizeof *s);
    if (!s) return grd_fail(error, GRD_E_MEMORY, "%s: out of memory", call->op->name);
    s->b = series.dim[0], s->t = series.dim[1], s->h = series.dim[2];
    s->parts = c->parts, s->backward = c->backward, s->relu = grdi_attr_int(call->attrs, "relu");
    s->weight_step = ((s->backward ? s->h : s->parts * s->h) + APART - 1) / APART * APART + APART;
    grdi_gemm g = product_of(s, (rows){NULL, s->t * s->parts * s->h}, (rows){NULL, s->t * s->parts * s->h}, true);
    call->scratch_bytes =
        weight_bytes(s) + SPARES * lines(spare_floats(s)) + GRDI_ISA_NAME(grdi_gemm_all_scratch)(&g, call->threads);
    call->state = s;
    return GRD_OK;
}

static grd_status run(grdi_call *call)
{
    const struct cell *c = cell_of(call);
    recurrent_state *s = call->state;
    char *scratch = call->scratch;
    s->weight = (float *)scratch;
    s->spare = (float *)(scratch + weight_bytes(s));
    s->gemm = scratch + weight_bytes(s) + SPARES * lines(spare_floats(s));
    copy_weight(s, call->in[c->weight].data);
    for (int32_t o = 1; s->backward && o < call->output_count; o++) /* what arrives from behind the last step */
        if (call->out[o].dims.rank == 2)
            memset(whole(s, &call->out[o], s->h, o).data, 0, (size_t)(s->b * s->h) * sizeof(float));
    for (int64_t i = 0; i < s->t; i++)
        c->step(call, s, s->backward ? s->t - 1 - i : i, PARALLEL / (s->parts * s->h) + 1);
    return GRD_OK;
}

static void release(grdi_call *call)
{
    grdi_free(call->state);
    call->state = NULL;
}

/* Products of a few rows, one after the other, and the cell between them: 0.47 of the rate with 32 rows of 256. */
#define KERNEL(name)                                                                                                   \
    static const grdi_kernel kernel_##name = {                                                                         \
        .op = #name, .rate_part = 0.5, .prepare = prepare, .run = run, .release = release}
KERNEL(lstm);
KERNEL(lstm_backward);
KERNEL(gru);
KERNEL(gru_backward);
KERNEL(rnn);
KERNEL(rnn_backward);

const grdi_kernel *const GRDI_ISA_TABLE(recurrent)[] = {
    &kernel_lstm, &kernel_lstm_backward, &kernel_gru, &kernel_gru_backward, &kernel_rnn, &kernel_rnn_backward, NULL};
