/* classifier.c - op linear_cross_entropy: logits, losses and both gradients by chunks of rows, so that only one
 * chunk of logits exists at a time. In each chunk: logits = x w^T; every row becomes the gradient of its loss in
 * place; dx = row w; dw += row^T x. */
#include "backend/cpu/kernels/gemm_finish.h"
#include "backend/cpu/onednn.h"
#include "backend/cpu/parallel.h"
#include "base/memory.h"

/* A chunk of 512 rows still has a vocabulary of 50 thousand in it; fewer read w, and its gradient, more often. */
enum { CHUNK_BYTES = 104 << 20, CHUNK_ROWS = 2048 };

typedef struct recipe {
    int64_t ignore;
    float smoothing, z, softcap;
} recipe;

typedef struct product {
    grdi_gemm g;          /* without pointers; m, or k of the one that `sums` rows, is the largest chunk's rows */
    bool sums;
    grdi_onednn *library; /* for chunks of the full size; NULL: our own */
} product;

typedef struct classifier_state {
    int64_t rows, chunk, classes, channels;
    bool narrow; /* gradients of logits are rounded to bf16, in place */
    recipe recipe;
    product logits, dx, dw;
    size_t product_bytes; /* scratch: of a product, then of logits, then losses */
    size_t logits_bytes;
} classifier_state;

static bool takes(const grdi_call *call)
{
    const int32_t floats[] = {0, 1};
    for (int32_t i = 0; i < 2; i++)
        if (call->in[floats[i]].dtype != GRD_F32 && call->in[floats[i]].dtype != GRD_BF16)
            return false;
    for (int32_t o = 2; o < 4; o++)
        if (call->out[o].dtype != GRD_F32 && call->out[o].dtype != GRD_BF16)
            return false;
    return call->in[2].dtype == GRD_I32 && call->in[3].dtype == GRD_F32 && call->out[0].dtype == GRD_F32;
}

static int64_t chunk_rows(int64_t rows, int64_t classes)
{
    int64_t most = CHUNK_BYTES / 4 / (classes > 0 ? classes : 1);
    most = most < 16 ? 16 : most > CHUNK_ROWS ? CHUNK_ROWS : most;
    int64_t chunks = (rows + most - 1) / most;
    return chunks > 0 ? (rows + chunks - 1) / chunks : 1;
}

/* ---- preparation ---- */

static grdi_gemm of_rows(const product *p, int64_t rows)
{
    grdi_gemm g = p->g;
    *(p->sums ? &g.k : &g.m) = rows;
    return g;
}

/* Bytes of scratch. Our own products need theirs for the last chunk as well, which may be smaller. */
static size_t prepare_product(product *p, const classifier_state *s, const grdi_call *call, bool may_add)
{
    grdi_gemm g = p->g;
    g.add = may_add;
    p->library = grdi_onednn_new(&g, GRDI_OWN_BF16_FROM);
    size_t bytes = p->library ? grdi_onednn_scratch(p->library) : 0;
    const int64_t rows[] = {s->chunk, s->rows % s->chunk ? s->rows % s->chunk : s->chunk};
    for (int i = 0; i < 2; i++) {
        const grdi_gemm own = of_rows(p, rows[i]);
        const size_t needed = GRDI_ISA_NAME(grdi_gemm_all_scratch)(&own, call->threads);
        bytes = needed > bytes ? needed : bytes;
    }
    return bytes;
}

static void describe_products(classifier_state *s, const grdi_call *call)
{
    const grdi_view *x = &call->in[0], *w = &call->in[1], *dx = &call->out[2], *dw = &call->out[3];
    grd_dtype slope = s->narrow ? GRD_BF16 : GRD_F32;
    int64_t slope_row = s->narrow ? 2 * s->classes : s->classes; /* bf16 lies in the front half of each row's floats */
    s->logits.g = (grdi_gemm){.m = s->chunk,
                              .n = s->classes,
                              .k = s->channels,
                              .a_row = x->stride[0],
                              .a_col = x->stride[1],
                              .b_row = w->stride[1],
                              .b_col = w->stride[0],
                              .c_row = s->classes,
                              .a_type = x->dtype,
                              .b_type = w->dtype,
                              .a_round = x->rounded,
                              .b_round = w->rounded};
    s->dx.g = (grdi_gemm){.m = s->chunk,
                          .n = s->channels,
                          .k = s->classes,
                          .a_row = slope_row,
                          .a_col = 1,
                          .b_row = w->stride[0],
                          .b_col = w->stride[1],
                          .c_row = dx->stride[0],
                          .a_type = slope,
                          .b_type = w->dtype,
                          .c_type = dx->dtype,
                          .b_round = w->rounded};
    s->dw.sums = true;
    s->dw.g = (grdi_gemm){.m = s->classes,
                          .n = s->channels,
                          .k = s->chunk,
                          .a_row = 1,
                          .a_col = slope_row,
                          .b_row = x->stride[0],
                          .b_col = x->stride[1],
                          .c_row = dw->stride[0],
                          .a_type = slope,
                          .b_type = x->dtype,
                          .c_type = dw->dtype,
                          .b_round = x->rounded};
}

static bool is_bf16(const grdi_view *view)
{
    return view->dtype == GRD_BF16 || view->rounded;
}

static grd_status prepare(grdi_call *call, grd_error *error)
{
    classifier_state *s = grdi_alloc_zero(1, sizeof *s);
    call->state = s;
    if (!s) return grd_fail(error, GRD_E_MEMORY, "%s: out of memory", call->op->name);
    s->rows = call->in[0].dims.dim[0], s->channels = call->in[0].dims.dim[1], s->classes = call->in[1].dims.dim[0];
    s->recipe =
        (recipe){grdi_attr_int(call->attrs, "ignore_index"), (float)grdi_attr_float(call->attrs, "label_smoothing"),
                 (float)grdi_attr_float(call->attrs, "z_loss"), (float)grdi_attr_float(call->attrs, "softcap")};
    s->chunk = chunk_rows(s->rows, s->classes);
    s->narrow = is_bf16(&call->in[0]) && is_bf16(&call->in[1]);
    describe_products(s, call);
    size_t bytes[3] = {prepare_product(&s->logits, s, call, false),
                       prepare_product(&s->dx, s, call, call->may_accumulate[2]),
                       prepare_product(&s->dw, s, call, true)};
    for (int i = 0; i < 3; i++) s->product_bytes = bytes[i] > s->product_bytes ? bytes[i] : s->product_bytes;
    s->product_bytes = (s->product_bytes + 63) / 64 * 64;
    s->logits_bytes = ((size_t)(s->chunk * s->classes) * sizeof(float) + 63) / 64 * 64;
    call->scratch_bytes = s->product_bytes + s->logits_bytes + (size_t)s->rows * sizeof(float);
    return GRD_OK;
}

static void release(grdi_call *call)
{
    classifier_state *s = call->state;
    if (s) {
        grdi_onednn_free(s->logits.library);
        grdi_onednn_free(s->dx.library);
        grdi_onednn_free(s->dw.library);
    }
    grdi_free(s);
    call->state = NULL;
}

/* ---- one row ---- */

/* What a first look at a row gives. */
typedef struct row_totals {
    float most;
    double sum; /* of all logits, for label smoothing */
} row_totals;

/* Applies the cap and looks for the largest logit. */
static row_totals cap_row(float *row, int64_t n, const recipe *a)
{
    row_totals t = {.most = -INFINITY};
    grdi_vf most = grdi_set(-INFINITY);
    int64_t i = 0;
    for (; i + GRDI_LANES <= n; i += GRDI_LANES) {
        grdi_vf v = grdi_load(row + i);
        if (a->softcap > 0) {
            v = a->softcap * grdi_tanh(v / a->softcap);
            grdi_store(row + i, v);
        }
        most = grdi_max(most, v);
    }
    t.most = grdi_max_lanes(most);
    for (; i < n; i++) {
        if (a->softcap > 0)
            row[i] = a->softcap * tanhf(row[i] / a->softcap);
        t.most = row[i] > t.most ? row[i] : t.most;
    }
    for (i = 0; a->smoothing > 0 && i < n; i++)
        t.sum += row[i];
    return t;
}

/* Sum of exp(row - most), by blocks of 1024 so that rounding errors do not grow with n; with `keep` the
 * exponentials replace the row. */
static double exponentials(float *row, int64_t n, float most, bool keep)
{
    double total = 0;
    for (int64_t begin = 0; begin < n; begin += 1024) {
        int64_t end = begin + 1024 < n ? begin + 1024 : n, i = begin;
        grdi_vf sum = {0}, other = {0};
        for (; i + 2 * GRDI_LANES <= end; i += 2 * GRDI_LANES) {
            grdi_vf e = grdi_exp_negative(grdi_load(row + i) - most);
            grdi_vf f = grdi_exp_negative(grdi_load(row + i + GRDI_LANES) - most);
            sum += e, other += f;
            if (keep)
                grdi_store(row + i, e), grdi_store(row + i + GRDI_LANES, f);
        }
        total += grdi_sum_lanes(sum + other);
        for (; i < end; i += GRDI_LANES) {
            int64_t count = end - i < GRDI_LANES ? end - i : GRDI_LANES;
            grdi_vf e = grdi_exp_negative(grdi_load_part(row + i, count) - most);
            float part[GRDI_LANES];
            grdi_store(part, e);
            for (int64_t j = 0; j < count; j++)
                total += part[j];
            if (keep)
                grdi_store_part(row + i, e, count);
        }
    }
    return total;
}

/* row = row * factor - offset; with bf16 into the front of the row, which reading keeps ahead of. */
static void scale_row(float *row, int64_t n, float factor, float offset, bool narrow)
{
    int64_t i = 0;
    uint16_t *front = (uint16_t *)row;
    for (; i + GRDI_LANES <= n; i += GRDI_LANES) {
        grdi_vf v = grdi_load(row + i) * factor - offset;
        if (narrow)
            grdi_store_bf16(front + i, v);
        else
            grdi_store(row + i, v);
    }
    for (; i < n; i++) {
        float v = row[i] * factor - offset;
        if (narrow)
            front[i] = grdi_f32_to_bf16(v);
        else
            row[i] = v;
    }
}

/* With a cap the logits are still in the row: p and the cap's own slope 1 - (logit/cap)^2. */
static void capped_slopes(float *row, int64_t n, float lse, float factor, float offset, float softcap)
{
    for (int64_t i = 0; i < n; i += GRDI_LANES) {
        int64_t count = n - i < GRDI_LANES ? n - i : GRDI_LANES;
        grdi_vf v = grdi_load_part(row + i, count), bent = v / softcap;
        grdi_vf slope = (grdi_exp_negative(v - lse) * factor - offset) * (1.0f - bent * bent);
        grdi_store_part(row + i, slope, count);
    }
}

static void fill_row(float *row, int64_t n, float value, bool narrow)
{
    for (int64_t i = 0; i < n; i++) {
        if (narrow)
            ((uint16_t *)row)[i] = grdi_f32_to_bf16(value);
        else
            row[i] = value;
    }
}

/* The slopes of one row, scaled: p (1 + 2 z lse) - e/V, less 1 - e at the target. */
static void slopes(const classifier_state *s, float *row, int64_t target, float target_logit, float most, double sum,
                   float scale)
{
    const recipe *a = &s->recipe;
    double lse = most + log(sum), grow = 1.0 + 2.0 * (double)a->z * lse;
    float offset = scale * a->smoothing / (float)s->classes, hit = scale * (1.0f - a->smoothing);
    if (a->softcap > 0) {
        float bent = target_logit / a->softcap;
        capped_slopes(row, s->classes, (float)lse, (float)(grow * scale), offset, a->softcap);
        row[target] -= hit * (1.0f - bent * bent);
        if (s->narrow)
            scale_row(row, s->classes, 1.0f, 0.0f, true);
        return;
    }
    float factor = (float)(grow / sum * scale), at_target = row[target] * factor - offset - hit;
    scale_row(row, s->classes, factor, offset, s->narrow);
    if (s->narrow)
        ((uint16_t *)row)[target] = grdi_f32_to_bf16(at_target);
    else
        row[target] = at_target;
}

/* Turns the logits of one row into the slopes of scale * loss where they are wanted; returns the loss. */
static float finish_row(const classifier_state *s, float *row, int32_t target, float scale, bool want_slopes)
{
    const recipe *a = &s->recipe;
    if (target == a->ignore || target < 0 || target >= s->classes) {
        float value = target == a->ignore ? 0.0f : NAN;
        if (want_slopes)
            fill_row(row, s->classes, value, s->narrow);
        return value;
    }
    row_totals t = cap_row(row, s->classes, a);
    float target_logit = row[target];
    double sum = exponentials(row, s->classes, t.most, want_slopes && !(a->softcap > 0)), lse = t.most + log(sum);
    if (want_slopes)
        slopes(s, row, target, target_logit, t.most, sum, scale);
    return (float)(lse - (1.0 - (double)a->smoothing) * target_logit -
                   (double)a->smoothing / (double)s->classes * t.sum + (double)a->z * lse * lse);
}

/* ---- a run ---- */

typedef struct rows_context {
    const classifier_state *s;
    float *logits, *losses;
    const int32_t *targets;
    float scale;
    bool want_slopes;
} rows_context;

static void finish_rows(int64_t begin, int64_t end, int32_t thread, void *context)
{
    const rows_context *c = context;
    (void)thread;
    for (int64_t i = begin; i < end; i++)
        c->losses[i] = finish_row(c->s, c->logits + i * c->s->classes, c->targets[i], c->scale, c->want_slopes);
}

static const void *at(const void *base, grd_dtype type, int64_t offset)
{
    return (const char *)base + offset * (int64_t)grd_dtype_size(type);
}

static grd_status multiply(const grdi_call *call, const product *p, const grdi_gemm *g, bool full)
{
    if (full && p->library)
        return grdi_onednn_run(p->library, g, call->scratch);
    GRDI_ISA_NAME(grdi_gemm_all)(g, call->threads, call->scratch);
    return GRD_OK;
}

static grd_status run_chunk(grdi_call *call, int64_t first, int64_t count, float *logits, float *losses)
{
    const classifier_state *s = call->state;
    const bool full = count == s->chunk;
    const grdi_view *x = &call->in[0], *w = &call->in[1], *dx = &call->out[2], *dw = &call->out[3];
    const void *x_rows = at(x->data, x->dtype, first * x->stride[0]);
    rows_context rows = {s,
                         logits,
                         losses + first,
                         (const int32_t *)call->in[2].data + first,
                         *(const float *)call->in[3].data,
                         dx->data || dw->data};
    grdi_gemm g = of_rows(&s->logits, count);
    g.a = x_rows, g.b = w->data, g.c = logits;
    grd_status status = multiply(call, &s->logits, &g, full);
    grdi_parallel_for(call->threads, count, 1 + 2048 / (s->classes + 1), finish_rows, &rows);
    if (dx->data && status == GRD_OK) {
        g = of_rows(&s->dx, count);
        g.a = logits, g.b = w->data, g.c = (void *)at(dx->data, dx->dtype, first * dx->stride[0]);
        g.add = call->accumulate[2];
        status = multiply(call, &s->dx, &g, full);
    }
    if (dw->data && status == GRD_OK) {
        g = of_rows(&s->dw, count);
        g.a = logits, g.b = x_rows, g.c = dw->data;
        g.add = call->accumulate[3] || first > 0;
        status = multiply(call, &s->dw, &g, full);
    }
    return status;
}

static grd_status run(grdi_call *call)
{
    const classifier_state *s = call->state;
    float *logits = (float *)((char *)call->scratch + s->product_bytes);
    float *losses = call->out[1].data ? call->out[1].data : (float *)((char *)logits + s->logits_bytes);
    double total = 0;
    for (int64_t first = 0; first < s->rows; first += s->chunk) {
        int64_t count = s->rows - first < s->chunk ? s->rows - first : s->chunk;
        grd_status status = run_chunk(call, first, count, logits, losses);
        if (status != GRD_OK)
            return status;
    }
    for (int64_t i = 0; i < s->rows; i++)
        total += losses[i];
    if (call->out[0].data)
        *(float *)call->out[0].data = (float)(total * *(const float *)call->in[3].data);
    return GRD_OK;
}

static const grdi_kernel linear_cross_entropy = {.op = "linear_cross_entropy",
                                                 .strided_in = 3,
                                                 .rounds_in = 3,
                                                 .strided_out = 12,
                                                 .accumulates = 12,
                                                 .supports = takes,
                                                 .prepare = prepare,
                                                 .run = run,
                                                 .release = release};

const grdi_kernel *const GRDI_ISA_TABLE(classifier)[] = {&linear_cross_entropy, NULL};
