/* recurrent.c - LSTM, GRU and plain recurrent cells over all steps of a series, and their backward ops. The products
 * with the inputs, and with the states for the gradient of the weight, stand outside: each is one for all steps. */
#include "graph/graph.h"
#include "ops/table.h"

#include <gradus/ops.h>

#include <math.h>

/* Errors of a step are fed back into the next ones. */
#define STEPS_TOLERANCE 2e-5

typedef struct sizes {
    int64_t b, t, h;
} sizes;

/* From y or a gradient of it, [B,T,H]. */
static sizes sizes_of(grd_dims y)
{
    return (sizes){y.dim[0], y.dim[1], y.dim[2]};
}

static bool check_dims(grdi_infer *c, int32_t input, grd_dims wanted, const char *what)
{
    char a[GRD_DIMS_TEXT_MAX], b[GRD_DIMS_TEXT_MAX];
    if (!grdi_infer_same_dtype(c, input, 0)) return false;
    if (grd_dims_equal(c->in[input].dims, wanted)) return true;
    return grdi_infer_fail(c, GRD_E_SHAPE, "%s is %s, must be %s", what, grd_dims_text(c->in[input].dims, a),
                           grd_dims_text(wanted, b));
}

/* gates [B,T,parts H] and w [parts H,H]; *z is filled. */
static bool check_gates(grdi_infer *c, int64_t parts, sizes *z)
{
    grd_dims gates = c->in[0].dims;
    char text[GRD_DIMS_TEXT_MAX];
    if (!grdi_infer_float(c, 0)) return false;
    if (gates.rank != 3 || gates.dim[2] % parts)
        return grdi_infer_fail(c, GRD_E_SHAPE, "gates are %s, must be [B,T,%lldH]", grd_dims_text(gates, text),
                               (long long)parts);
    *z = (sizes){gates.dim[0], gates.dim[1], gates.dim[2] / parts};
    return check_dims(c, 1, grd_shape(parts * z->h, z->h), "the weight");
}

/* gy [B,T,H] of a backward op; *z is filled. */
static bool check_gy(grdi_infer *c, sizes *z)
{
    char text[GRD_DIMS_TEXT_MAX];
    if (!grdi_infer_float(c, 0)) return false;
    if (c->in[0].dims.rank != 3)
        return grdi_infer_fail(c, GRD_E_SHAPE, "the gradient is %s, must be [B,T,H]",
                               grd_dims_text(c->in[0].dims, text));
    *z = sizes_of(c->in[0].dims);
    return true;
}

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

/* sum_k h[k] w[row][k]; w [..,H] */
static double dot(const double *h, const double *w, int64_t row, int64_t count)
{
    double sum = 0;
    for (int64_t k = 0; k < count; k++) sum += h[k] * w[row * count + k];
    return sum;
}

/* to[j] = sum_k g[k] w[k][j]: a gradient at the gates of one step, taken back to the state before; w [parts H,H] */
static void take_back(double *to, const double *g, const double *w, int64_t gates, int64_t h)
{
    for (int64_t j = 0; j < h; j++) {
        to[j] = 0;
        for (int64_t k = 0; k < gates; k++) to[j] += g[k] * w[k * h + j];
    }
}

/* The product with the state at every step. */
static double step_flops(const grdi_type *in, int32_t input_count, const grdi_type *out, const grd_attr *attrs)
{
    (void)input_count, (void)attrs;
    grd_dims y = out[0].dims, w = in[1].dims;
    return 2.0 * (double)(y.dim[0] * y.dim[1]) * (double)grd_dims_count(w);
}

static double step_backward_flops(const grdi_type *in, int32_t input_count, const grdi_type *out, const grd_attr *attrs)
{
    (void)input_count, (void)attrs;
    grd_dims g = out[0].dims;
    return 2.0 * (double)grd_dims_count(g) * (double)in[0].dims.dim[2];
}

/* ---- helpers for composes and gradient rules ---- */

/* Step t of x [B,T,n], as [B,n]; part `p` of size n of its last axis, where n > 0. */
static grd_tensor step_of(grd_tensor x, int64_t t, int64_t p, int64_t n)
{
    grd_tensor at = grd_squeeze(grd_slice(x, 1, t, 1), 1);
    return n > 0 ? grd_slice(at, -1, p * n, n) : at;
}

static grd_tensor part_of(grd_tensor x, int64_t p, int64_t n)
{
    return grd_slice(x, -1, p * n, n);
}

/* steps[t] [B,n] side by side: [B,T,n], made by adding one after another */
static grd_tensor append_step(grd_tensor all, grd_tensor step)
{
    step = grd_unsqueeze(step, 1);
    return all.node ? grd_concat((grd_tensor[]){all, step}, 2, 1) : step;
}

static grd_tensor prepend_step(grd_tensor all, grd_tensor step)
{
    step = grd_unsqueeze(step, 1);
    return all.node ? grd_concat((grd_tensor[]){step, all}, 2, 1) : step;
}

static grd_tensor join(grd_tensor a, grd_tensor b)
{
    return a.node ? grd_concat((grd_tensor[]){a, b}, 2, -1) : b;
}

/* The states before each step: h0, y_0 .. y_{T-2}. */
static grd_tensor states_before(grd_tensor y, grd_tensor h0)
{
    int64_t steps = grd_dim(y, 1);
    grd_tensor first = grd_unsqueeze(h0, 1);
    return steps > 1 ? grd_concat((grd_tensor[]){first, grd_slice(y, 1, 0, steps - 1)}, 2, 1) : first;
}

/* dw = gates' gradient^T states, over all steps at once. */
static grd_tensor weight_gradient(grd_tensor gates, grd_tensor before)
{
    grd_tensor g = grd_flatten(gates, 0, 1), h = grd_flatten(before, 0, 1);
    return grd_matmul(grd_transpose2(g), h);
}

/* x (1 - x) g */
static grd_tensor through_sigmoid(grd_tensor g, grd_tensor y)
{
    return grd_sigmoid_backward(g, y);
}

static grd_tensor one_minus(grd_tensor x)
{
    return grd_add_scalar(grd_neg(x), 1);
}

/* ---- lstm ---- */

static bool lstm_shape(grdi_infer *c)
{
    sizes z;
    if (!check_gates(c, 4, &z) || !check_dims(c, 2, grd_shape(z.b, z.h), "the state h")) return false;
    if (!check_dims(c, 3, grd_shape(z.b, z.h), "the state c")) return false;
    c->out[0] = c->out[1] = (grdi_type){c->in[0].dtype, grd_shape(z.b, z.t, z.h)};
    c->out[2] = c->in[0];
    return true;
}

/* Outputs: h, c and the gates behind their sigmoids and tanh. */
static void lstm_reference(const grdi_reference *r)
{
    sizes z = sizes_of(r->out_type[0].dims);
    for (int64_t n = 0; n < z.b * z.t; n++) {
        int64_t b = n / z.t, t = n % z.t;
        const double *h = t ? r->out[0] + (n - 1) * z.h : r->in[2] + b * z.h;
        const double *c = t ? r->out[1] + (n - 1) * z.h : r->in[3] + b * z.h;
        double *gate = r->out[2] + n * 4 * z.h;
        for (int64_t k = 0; k < 4 * z.h; k++) {
            double sum = r->in[0][n * 4 * z.h + k] + dot(h, r->in[1], k, z.h);
            gate[k] = k / z.h == 2 ? tanh(sum) : sigmoid(sum);
        }
        for (int64_t j = 0; j < z.h; j++) {
            double cell = gate[z.h + j] * c[j] + gate[j] * gate[2 * z.h + j];
            r->out[1][n * z.h + j] = cell;
            r->out[0][n * z.h + j] = gate[3 * z.h + j] * tanh(cell);
        }
    }
}

static void lstm_compose(grdi_compose *c)
{
    grd_tensor h = c->in[2], cell = c->in[3], w = grd_transpose2(c->in[1]);
    grd_tensor y = {NULL, 0}, cells = {NULL, 0}, gates = {NULL, 0};
    int64_t size = grd_dim(h, 1);
    for (int64_t t = 0; t < grd_dim(c->in[0], 1); t++) {
        grd_tensor sum = grd_add(step_of(c->in[0], t, 0, 0), grd_matmul(h, w)), gate[4], all = {NULL, 0};
        for (int32_t p = 0; p < 4; p++) {
            gate[p] = p == 2 ? grd_tanh(part_of(sum, p, size)) : grd_sigmoid(part_of(sum, p, size));
            all = join(all, gate[p]);
        }
        cell = grd_add(grd_mul(gate[1], cell), grd_mul(gate[0], gate[2]));
        h = grd_mul(gate[3], grd_tanh(cell));
        y = append_step(y, h), cells = append_step(cells, cell), gates = append_step(gates, all);
    }
    c->out[0] = y, c->out[1] = cells, c->out[2] = gates;
}

static void lstm_gradient(grdi_gradient *g)
{
    if (g->grad_out[2].node) { /* second derivatives */
        g->through_compose = true;
        return;
    }
    grd_tensor in[6] = {grdi_grad_out(g, 0), g->out[2], g->out[1], g->in[3], g->in[1], g->grad_out[1]};
    grd_tensor out[GRDI_OUTPUTS_MAX];
    bool cells = g->grad_out[1].node != NULL;
    grdi_emit(g->graph, &grdi_op_lstm_backward, in, 5 + cells, NULL, 0, out);
    g->grad_in[0] = out[0], g->grad_in[2] = out[1], g->grad_in[3] = out[2];
    if (g->need[1]) g->grad_in[1] = weight_gradient(out[0], states_before(g->out[0], g->in[2]));
}

static const grdi_sample lstm_samples[] = {
    {.in = {"f32[2,3,8]", "f32[8,2] -1..1", "f32[2,2]", "f32[2,2]"}},
    {.in = {"f32[1,1,4]", "f32[4,1]", "f32[1,1]", "f32[1,1]"}},
    {.in = {"f32[3,2,12]", "f32[12,3] -1..1", "f32[3,3]", "f32[3,3]"}},
    {.in = {"f32[5,7,84]", "f32[84,21] -0.5..0.5", "f32[5,21]", "f32[5,21]"}, .no_gradient = true}, /* for vectors */
    {.in = {"f32[5,4,96]", "f32[96,24] -0.5..0.5", "f32[5,24]", "f32[5,24]"}, .no_gradient = true}, /* in fours */
    {.in = {"f32[32,64,1024]", "f32[1024,256] -0.1..0.1", "f32[32,256]", "f32[32,256]"}, .large = true},
    {.in = {"f32[2,3,7]", "f32[8,2]", "f32[2,2]", "f32[2,2]"}, .bad = "gates are [2,3,7], must be [B,T,4H]"},
    {.in = {"f32[2,3,8]", "f32[8,3]", "f32[2,2]", "f32[2,2]"}, .bad = "the weight is [8,3], must be [8,2]"},
    {.in = {"f32[2,3,8]", "f32[8,2]", "f32[2,3]", "f32[2,2]"}, .bad = "the state h is [2,3], must be [2,2]"},
    {.in = {"f32[2,3,8]", "f32[8,2]", "f32[2,2]", "f32[3,2]"}, .bad = "the state c is [3,2]"},
    {.in = {"i32[2,3,8]", "i32[8,2]", "i32[2,2]", "i32[2,2]"}, .bad = "float"},
    {.in = {NULL}}};

const grdi_op grdi_op_lstm = {.name = "lstm",
                              .inputs = 4,
                              .outputs = 3,
                              .flags = GRDI_OP_MATMUL | GRDI_OP_WHOLE,
                              .shape = lstm_shape,
                              .gradient = lstm_gradient,
                              .compose = lstm_compose,
                              .reference = lstm_reference,
                              .flops = step_flops,
                              .inplace = {0, 0, 1},
                              .tolerance = STEPS_TOLERANCE,
                              .samples = lstm_samples};

grd_tensor grd_lstm_cells(grd_tensor gates, grd_tensor w, grd_tensor h, grd_tensor c, grd_tensor *cells)
{
    grd_tensor out[GRDI_OUTPUTS_MAX] = {{NULL, 0}};
    grdi_emit(NULL, &grdi_op_lstm, (grd_tensor[]){gates, w, h, c}, 4, NULL, 0, out);
    if (cells) *cells = out[1];
    return out[0];
}

/* ---- lstm_backward: gy, gates, cells, c0, w (, gradient of the cells) -> gradients of gates, h0, c0. Backwards in
 * time, with dh and dc what arrives from the step after. ---- */

static bool lstm_backward_shape(grdi_infer *c)
{
    sizes z;
    if (!check_gy(c, &z) || !check_dims(c, 1, grd_shape(z.b, z.t, 4 * z.h), "gates")) return false;
    if (!check_dims(c, 2, c->in[0].dims, "cells") || !check_dims(c, 3, grd_shape(z.b, z.h), "the state c"))
        return false;
    if (!check_dims(c, 4, grd_shape(4 * z.h, z.h), "the weight")) return false;
    if (c->input_count == 6 && !check_dims(c, 5, c->in[0].dims, "the gradient of cells")) return false;
    c->out[0] = c->in[1];
    c->out[1] = c->out[2] = c->in[3];
    return true;
}

static void lstm_backward_reference(const grdi_reference *r)
{
    sizes z = sizes_of(r->in_type[0].dims);
    for (int64_t i = 0; i < z.b * z.h; i++) r->out[1][i] = r->out[2][i] = 0;
    for (int64_t n = z.b * z.t - 1; n >= 0; n--) {
        int64_t b = n / z.t;
        const double *gate = r->in[1] + n * 4 * z.h, *before = n % z.t ? r->in[2] + (n - 1) * z.h : r->in[3] + b * z.h;
        double *dgate = r->out[0] + n * 4 * z.h, *dh = r->out[1] + b * z.h, *dc = r->out[2] + b * z.h;
        for (int64_t j = 0; j < z.h; j++) {
            double i = gate[j], f = gate[z.h + j], g = gate[2 * z.h + j], o = gate[3 * z.h + j];
            double y = tanh(r->in[2][n * z.h + j]), gy = r->in[0][n * z.h + j] + dh[j];
            double gc = dc[j] + gy * o * (1 - y * y) + (r->input_count == 6 ? r->in[5][n * z.h + j] : 0);
            dgate[j] = gc * g * i * (1 - i);
            dgate[z.h + j] = gc * before[j] * f * (1 - f);
            dgate[2 * z.h + j] = gc * i * (1 - g * g);
            dgate[3 * z.h + j] = gy * y * o * (1 - o);
            dc[j] = gc * f;
        }
        take_back(dh, dgate, r->in[4], 4 * z.h, z.h);
    }
}

static void lstm_backward_compose(grdi_compose *c)
{
    sizes z = sizes_of(grd_tensor_dims(c->in[0]));
    grd_tensor dh = grd_zeros_like(c->in[3]), dc = dh, gates = {NULL, 0};
    for (int64_t t = z.t - 1; t >= 0; t--) {
        grd_tensor gate[4], before = t ? step_of(c->in[2], t - 1, 0, 0) : c->in[3];
        for (int32_t p = 0; p < 4; p++) gate[p] = step_of(c->in[1], t, p, z.h);
        grd_tensor y = grd_tanh(step_of(c->in[2], t, 0, 0)), gy = grd_add(step_of(c->in[0], t, 0, 0), dh);
        grd_tensor gc = grd_add(dc, grd_tanh_backward(grd_mul(gy, gate[3]), y));
        if (c->input_count == 6) gc = grd_add(gc, step_of(c->in[5], t, 0, 0));
        grd_tensor all = through_sigmoid(grd_mul(gc, gate[2]), gate[0]);
        all = join(all, through_sigmoid(grd_mul(gc, before), gate[1]));
        all = join(all, grd_tanh_backward(grd_mul(gc, gate[0]), gate[2]));
        all = join(all, through_sigmoid(grd_mul(gy, y), gate[3]));
        gates = prepend_step(gates, all);
        dc = grd_mul(gc, gate[1]);
        dh = grd_matmul(all, c->in[4]);
    }
    c->out[0] = gates, c->out[1] = dh, c->out[2] = dc;
}

static const grdi_sample lstm_backward_samples[] = {
    {.in = {"f32[2,3,2]", "f32[2,3,8] 0.1..0.9", "f32[2,3,2]", "f32[2,2]", "f32[8,2] -1..1"}},
    {.in = {"f32[2,2,3]", "f32[2,2,12] 0.1..0.9", "f32[2,2,3]", "f32[2,3]", "f32[12,3] -1..1", "f32[2,2,3]"}},
    {.in = {"f32[1,1,1]", "f32[1,1,4] 0.1..0.9", "f32[1,1,1]", "f32[1,1]", "f32[4,1]"}},
    {.in = {"f32[5,7,21]", "f32[5,7,84] 0.1..0.9", "f32[5,7,21]", "f32[5,21]", "f32[84,21] -0.5..0.5", "f32[5,7,21]"},
     .no_gradient = true},
    {.in = {"f32[5,4,24]", "f32[5,4,96] 0.1..0.9", "f32[5,4,24]", "f32[5,24]", "f32[96,24] -0.5..0.5", "f32[5,4,24]"},
     .no_gradient = true},
    {.in = {"f32[1,1,4]", "f32[1,1,16] 0.1..0.9", "f32[1,1,4]", "f32[1,4]", "f32[16,4] -1..1"}, .no_gradient = true},
    {.in = {"f32[32,64,256]", "f32[32,64,1024] 0.1..0.9", "f32[32,64,256]", "f32[32,256]", "f32[1024,256] -0.1..0.1"},
     .large = true},
    {.in = {"f32[2,3,2]", "f32[2,3,6]", "f32[2,3,2]", "f32[2,2]", "f32[8,2]"},
     .bad = "gates is [2,3,6], must be [2,3,8]"},
    {.in = {"f32[2,3,2]", "f32[2,3,8]", "f32[2,3,2]", "f32[2,2]", "f32[8,3]"}, .bad = "the weight is [8,3]"},
    {.in = {"f32[3,2]", "f32[2,3,8]", "f32[2,3,2]", "f32[2,2]", "f32[8,2]"}, .bad = "must be [B,T,H]"},
    {.in = {NULL}}};

const grdi_op grdi_op_lstm_backward = {.name = "lstm_backward",
                                       .inputs = 5,
                                       .inputs_max = 6,
                                       .outputs = 3,
                                       .flags = GRDI_OP_MATMUL | GRDI_OP_WHOLE,
                                       .shape = lstm_backward_shape,
                                       .compose = lstm_backward_compose,
                                       .reference = lstm_backward_reference,
                                       .flops = step_backward_flops,
                                       .inplace = {2},
                                       .tolerance = STEPS_TOLERANCE,
                                       .samples = lstm_backward_samples};

/* ---- gru ---- */

static bool gru_shape(grdi_infer *c)
{
    sizes z;
    if (!check_gates(c, 3, &z) || !check_dims(c, 2, grd_shape(3 * z.h), "the bias")) return false;
    if (!check_dims(c, 3, grd_shape(z.b, z.h), "the state h")) return false;
    c->out[0] = (grdi_type){c->in[0].dtype, grd_shape(z.b, z.t, z.h)};
    c->out[1] = (grdi_type){c->in[0].dtype, grd_shape(z.b, z.t, 4 * z.h)};
    return true;
}

/* Outputs: h; and r, z, n, and what the state adds to n before r. */
static void gru_reference(const grdi_reference *r)
{
    sizes z = sizes_of(r->out_type[0].dims);
    for (int64_t k = 0; k < z.b * z.t; k++) {
        const double *h = k % z.t ? r->out[0] + (k - 1) * z.h : r->in[3] + k / z.t * z.h;
        const double *in = r->in[0] + k * 3 * z.h, *bias = r->in[2];
        double *gate = r->out[1] + k * 4 * z.h;
        for (int64_t j = 0; j < z.h; j++) {
            double reset = sigmoid(in[j] + dot(h, r->in[1], j, z.h) + bias[j]);
            double update = sigmoid(in[z.h + j] + dot(h, r->in[1], z.h + j, z.h) + bias[z.h + j]);
            double hidden = dot(h, r->in[1], 2 * z.h + j, z.h) + bias[2 * z.h + j];
            double fresh = tanh(in[2 * z.h + j] + reset * hidden);
            gate[j] = reset, gate[z.h + j] = update, gate[2 * z.h + j] = fresh, gate[3 * z.h + j] = hidden;
            r->out[0][k * z.h + j] = (1 - update) * fresh + update * h[j];
        }
    }
}

static void gru_compose(grdi_compose *c)
{
    grd_tensor h = c->in[3], w = grd_transpose2(c->in[1]), y = {NULL, 0}, gates = {NULL, 0};
    int64_t size = grd_dim(h, 1);
    for (int64_t t = 0; t < grd_dim(c->in[0], 1); t++) {
        grd_tensor in = step_of(c->in[0], t, 0, 0), hidden = grd_add(grd_matmul(h, w), c->in[2]);
        grd_tensor reset = grd_sigmoid(grd_add(part_of(in, 0, size), part_of(hidden, 0, size)));
        grd_tensor update = grd_sigmoid(grd_add(part_of(in, 1, size), part_of(hidden, 1, size)));
        grd_tensor last = part_of(hidden, 2, size);
        grd_tensor fresh = grd_tanh(grd_add(part_of(in, 2, size), grd_mul(reset, last)));
        h = grd_add(grd_mul(one_minus(update), fresh), grd_mul(update, h));
        y = append_step(y, h);
        gates = append_step(gates, join(join(join(reset, update), fresh), last));
    }
    c->out[0] = y, c->out[1] = gates;
}

static void gru_gradient(grdi_gradient *g)
{
    if (g->grad_out[1].node) {
        g->through_compose = true;
        return;
    }
    grd_tensor in[5] = {g->grad_out[0], g->out[0], g->out[1], g->in[3], g->in[1]}, out[GRDI_OUTPUTS_MAX];
    grdi_emit(g->graph, &grdi_op_gru_backward, in, 5, NULL, 0, out);
    g->grad_in[0] = out[0], g->grad_in[3] = out[2];
    if (g->need[1]) g->grad_in[1] = weight_gradient(out[1], states_before(g->out[0], g->in[3]));
    if (g->need[2]) g->grad_in[2] = grdi_sum_to_like(out[1], g->in[2]);
}

static const grdi_sample gru_samples[] = {
    {.in = {"f32[2,3,6]", "f32[6,2] -1..1", "f32[6]", "f32[2,2]"}},
    {.in = {"f32[1,1,3]", "f32[3,1]", "f32[3]", "f32[1,1]"}},
    {.in = {"f32[3,2,9]", "f32[9,3] -1..1", "f32[9]", "f32[3,3]"}},
    {.in = {"f32[5,7,63]", "f32[63,21] -0.5..0.5", "f32[63]", "f32[5,21]"}, .no_gradient = true},
    {.in = {"f32[5,4,72]", "f32[72,24] -0.5..0.5", "f32[72]", "f32[5,24]"}, .no_gradient = true},
    {.in = {"f32[32,64,768]", "f32[768,256] -0.1..0.1", "f32[768]", "f32[32,256]"}, .large = true},
    {.in = {"f32[2,3,7]", "f32[6,2]", "f32[6]", "f32[2,2]"}, .bad = "must be [B,T,3H]"},
    {.in = {"f32[2,3,6]", "f32[6,2]", "f32[5]", "f32[2,2]"}, .bad = "the bias is [5], must be [6]"},
    {.in = {"f32[2,3,6]", "f32[6,2]", "f32[6]", "f32[3,2]"}, .bad = "the state h is [3,2]"},
    {.in = {NULL}}};

const grdi_op grdi_op_gru = {.name = "gru",
                             .inputs = 4,
                             .outputs = 2,
                             .flags = GRDI_OP_MATMUL | GRDI_OP_WHOLE,
                             .shape = gru_shape,
                             .gradient = gru_gradient,
                             .compose = gru_compose,
                             .reference = gru_reference,
                             .flops = step_flops,
                             .tolerance = STEPS_TOLERANCE,
                             .samples = gru_samples};

grd_tensor grd_gru_cells(grd_tensor gates, grd_tensor w, grd_tensor bias, grd_tensor h)
{
    return GRDI_EMIT(&grdi_op_gru, gates, w, bias, h);
}

/* ---- gru_backward: gy, y, gates, h0, w -> gradients of gates, of the state's product (with its bias), of h0 ---- */

static bool gru_backward_shape(grdi_infer *c)
{
    sizes z;
    if (!check_gy(c, &z) || !check_dims(c, 1, c->in[0].dims, "y")) return false;
    if (!check_dims(c, 2, grd_shape(z.b, z.t, 4 * z.h), "gates")) return false;
    if (!check_dims(c, 3, grd_shape(z.b, z.h), "the state h")) return false;
    if (!check_dims(c, 4, grd_shape(3 * z.h, z.h), "the weight")) return false;
    c->out[0] = c->out[1] = (grdi_type){c->in[0].dtype, grd_shape(z.b, z.t, 3 * z.h)};
    c->out[2] = c->in[3];
    return true;
}

static void gru_backward_reference(const grdi_reference *r)
{
    sizes z = sizes_of(r->in_type[0].dims);
    for (int64_t i = 0; i < z.b * z.h; i++) r->out[2][i] = 0;
    for (int64_t k = z.b * z.t - 1; k >= 0; k--) {
        int64_t b = k / z.t;
        const double *gate = r->in[2] + k * 4 * z.h, *before = k % z.t ? r->in[1] + (k - 1) * z.h : r->in[3] + b * z.h;
        double *dgate = r->out[0] + k * 3 * z.h, *dhidden = r->out[1] + k * 3 * z.h, *dh = r->out[2] + b * z.h;
        for (int64_t j = 0; j < z.h; j++) {
            double reset = gate[j], update = gate[z.h + j], fresh = gate[2 * z.h + j], hidden = gate[3 * z.h + j];
            double gy = r->in[0][k * z.h + j] + dh[j], dn = gy * (1 - update) * (1 - fresh * fresh);
            dgate[j] = dhidden[j] = dn * hidden * reset * (1 - reset);
            dgate[z.h + j] = dhidden[z.h + j] = gy * (before[j] - fresh) * update * (1 - update);
            dgate[2 * z.h + j] = dn;
            dhidden[2 * z.h + j] = dn * reset;
        }
        for (int64_t j = 0; j < z.h; j++) {
            double sum = (r->in[0][k * z.h + j] + dh[j]) * gate[z.h + j];
            for (int64_t i = 0; i < 3 * z.h; i++) sum += dhidden[i] * r->in[4][i * z.h + j];
            dh[j] = sum;
        }
    }
}

static void gru_backward_compose(grdi_compose *c)
{
    sizes z = sizes_of(grd_tensor_dims(c->in[0]));
    grd_tensor dh = grd_zeros_like(c->in[3]), gates = {NULL, 0}, hiddens = {NULL, 0};
    for (int64_t t = z.t - 1; t >= 0; t--) {
        grd_tensor gate[4], before = t ? step_of(c->in[1], t - 1, 0, 0) : c->in[3];
        for (int32_t p = 0; p < 4; p++) gate[p] = step_of(c->in[2], t, p, z.h);
        grd_tensor gy = grd_add(step_of(c->in[0], t, 0, 0), dh);
        grd_tensor dn = grd_tanh_backward(grd_mul(gy, one_minus(gate[1])), gate[2]);
        grd_tensor dr = through_sigmoid(grd_mul(dn, gate[3]), gate[0]);
        grd_tensor dz = through_sigmoid(grd_mul(gy, grd_sub(before, gate[2])), gate[1]);
        grd_tensor hidden = join(join(dr, dz), grd_mul(dn, gate[0]));
        gates = prepend_step(gates, join(join(dr, dz), dn));
        hiddens = prepend_step(hiddens, hidden);
        dh = grd_add(grd_mul(gy, gate[1]), grd_matmul(hidden, c->in[4]));
    }
    c->out[0] = gates, c->out[1] = hiddens, c->out[2] = dh;
}

static const grdi_sample gru_backward_samples[] = {
    {.in = {"f32[2,3,2]", "f32[2,3,2]", "f32[2,3,8] 0.1..0.9", "f32[2,2]", "f32[6,2] -1..1"}},
    {.in = {"f32[1,1,1]", "f32[1,1,1]", "f32[1,1,4] 0.1..0.9", "f32[1,1]", "f32[3,1]"}},
    {.in = {"f32[5,7,21]", "f32[5,7,21]", "f32[5,7,84] 0.1..0.9", "f32[5,21]", "f32[63,21] -0.5..0.5"},
     .no_gradient = true},
    {.in = {"f32[5,4,24]", "f32[5,4,24]", "f32[5,4,96] 0.1..0.9", "f32[5,24]", "f32[72,24] -0.5..0.5"},
     .no_gradient = true},
    {.in = {"f32[32,64,256]", "f32[32,64,256]", "f32[32,64,1024] 0.1..0.9", "f32[32,256]", "f32[768,256] -0.1..0.1"},
     .large = true},
    {.in = {"f32[2,3,2]", "f32[2,3,2]", "f32[2,3,6]", "f32[2,2]", "f32[6,2]"}, .bad = "gates is [2,3,6]"},
    {.in = {"f32[2,3,2]", "f32[2,2,2]", "f32[2,3,8]", "f32[2,2]", "f32[6,2]"}, .bad = "y is [2,2,2], must be [2,3,2]"},
    {.in = {NULL}}};

const grdi_op grdi_op_gru_backward = {.name = "gru_backward",
                                      .inputs = 5,
                                      .outputs = 3,
                                      .flags = GRDI_OP_MATMUL | GRDI_OP_WHOLE,
                                      .shape = gru_backward_shape,
                                      .compose = gru_backward_compose,
                                      .reference = gru_backward_reference,
                                      .flops = step_backward_flops,
                                      .tolerance = STEPS_TOLERANCE,
                                      .samples = gru_backward_samples};

/* ---- rnn ---- */

static bool rnn_shape(grdi_infer *c)
{
    sizes z;
    if (!check_gates(c, 1, &z) || !check_dims(c, 2, grd_shape(z.b, z.h), "the state h")) return false;
    c->out[0] = c->in[0];
    return true;
}

static void rnn_reference(const grdi_reference *r)
{
    sizes z = sizes_of(r->out_type[0].dims);
    bool relu = grdi_attr_int(r->attrs, "relu");
    for (int64_t n = 0; n < z.b * z.t; n++) {
        const double *h = n % z.t ? r->out[0] + (n - 1) * z.h : r->in[2] + n / z.t * z.h;
        for (int64_t j = 0; j < z.h; j++) {
            double sum = r->in[0][n * z.h + j] + dot(h, r->in[1], j, z.h);
            r->out[0][n * z.h + j] = relu ? fmax(sum, 0) : tanh(sum);
        }
    }
}

static void rnn_compose(grdi_compose *c)
{
    grd_tensor h = c->in[2], w = grd_transpose2(c->in[1]), y = {NULL, 0};
    bool relu = grdi_attr_int(c->attrs, "relu");
    for (int64_t t = 0; t < grd_dim(c->in[0], 1); t++) {
        h = grd_add(step_of(c->in[0], t, 0, 0), grd_matmul(h, w));
        h = relu ? grd_relu(h) : grd_tanh(h);
        y = append_step(y, h);
    }
    c->out[0] = y;
}

static void rnn_gradient(grdi_gradient *g)
{
    grd_tensor out[GRDI_OUTPUTS_MAX];
    const grd_attr relu = GRD_FLAG("relu", grdi_attr_int(g->attrs, "relu"));
    grdi_emit(g->graph, &grdi_op_rnn_backward, (grd_tensor[]){g->grad_out[0], g->out[0], g->in[1]}, 3, &relu, 1, out);
    g->grad_in[0] = out[0], g->grad_in[2] = out[1];
    if (g->need[1]) g->grad_in[1] = weight_gradient(out[0], states_before(g->out[0], g->in[2]));
}

static const grdi_sample rnn_samples[] = {
    {.in = {"f32[2,3,2]", "f32[2,2] -1..1", "f32[2,2]"}},
    {.in = {"f32[3,2,3]", "f32[3,3] 0.1..1", "f32[3,3]"}, "relu=true"},
    {.in = {"f32[1,1,1]", "f32[1,1]", "f32[1,1]"}},
    {.in = {"f32[5,7,21]", "f32[21,21] -0.5..0.5", "f32[5,21]"}, .no_gradient = true},
    {.in = {"f32[5,7,21]", "f32[21,21] -0.5..0.5", "f32[5,21]"}, "relu=true", .no_gradient = true},
    {.in = {"f32[9,4,40]", "f32[40,40] -0.5..0.5", "f32[9,40]"}, .no_gradient = true},
    {.in = {"f32[32,64,256]", "f32[256,256] -0.1..0.1", "f32[32,256]"}, .large = true},
    {.in = {"f32[2,3]", "f32[2,2]", "f32[2,2]"}, .bad = "gates are [2,3]"},
    {.in = {"f32[2,3,2]", "f32[3,2]", "f32[2,2]"}, .bad = "the weight is [3,2]"},
    {.in = {NULL}}};

const grdi_op grdi_op_rnn = {.name = "rnn",
                             .inputs = 3,
                             .flags = GRDI_OP_MATMUL | GRDI_OP_WHOLE,
                             .attrs = {GRD_FLAG("relu", false)},
                             .shape = rnn_shape,
                             .gradient = rnn_gradient,
                             .compose = rnn_compose,
                             .reference = rnn_reference,
                             .flops = step_flops,
                             .inplace = {1},
                             .tolerance = STEPS_TOLERANCE,
                             .samples = rnn_samples};

grd_tensor grd_rnn_cells(grd_tensor gates, grd_tensor w, grd_tensor h, bool relu)
{
    return GRDI_EMIT_ATTRS(&grdi_op_rnn, GRDI_LIST(grd_attr, GRD_FLAG("relu", relu)), gates, w, h);
}

/* ---- rnn_backward: gy, y, w -> gradients of gates and h0 ---- */

static bool rnn_backward_shape(grdi_infer *c)
{
    sizes z;
    if (!check_gy(c, &z) || !check_dims(c, 1, c->in[0].dims, "y")) return false;
    if (!check_dims(c, 2, grd_shape(z.h, z.h), "the weight")) return false;
    c->out[0] = c->in[0];
    c->out[1] = (grdi_type){c->in[0].dtype, grd_shape(z.b, z.h)};
    return true;
}

static void rnn_backward_reference(const grdi_reference *r)
{
    sizes z = sizes_of(r->in_type[0].dims);
    bool relu = grdi_attr_int(r->attrs, "relu");
    for (int64_t i = 0; i < z.b * z.h; i++) r->out[1][i] = 0;
    for (int64_t n = z.b * z.t - 1; n >= 0; n--) {
        double *dh = r->out[1] + n / z.t * z.h;
        for (int64_t j = 0; j < z.h; j++) {
            double y = r->in[1][n * z.h + j], gy = r->in[0][n * z.h + j] + dh[j];
            r->out[0][n * z.h + j] = relu ? (y > 0 ? gy : 0) : gy * (1 - y * y);
        }
        take_back(dh, r->out[0] + n * z.h, r->in[2], z.h, z.h);
    }
}

static void rnn_backward_compose(grdi_compose *c)
{
    sizes z = sizes_of(grd_tensor_dims(c->in[0]));
    bool relu = grdi_attr_int(c->attrs, "relu");
    grd_tensor gates = {NULL, 0}, dh = grd_zeros_like(step_of(c->in[0], 0, 0, 0));
    for (int64_t t = z.t - 1; t >= 0; t--) {
        grd_tensor gy = grd_add(step_of(c->in[0], t, 0, 0), dh), y = step_of(c->in[1], t, 0, 0);
        grd_tensor g = relu ? grd_relu_backward(gy, y) : grd_tanh_backward(gy, y);
        gates = prepend_step(gates, g);
        dh = grd_matmul(g, c->in[2]);
    }
    c->out[0] = gates, c->out[1] = dh;
}

static const grdi_sample rnn_backward_samples[] = {
    {.in = {"f32[2,3,2]", "f32[2,3,2] -0.9..0.9", "f32[2,2] -1..1"}},
    {.in = {"f32[3,2,3]", "f32[3,2,3] 0.1..1", "f32[3,3] -1..1"}, "relu=true"},
    {.in = {"f32[1,1,1]", "f32[1,1,1] -0.9..0.9", "f32[1,1]"}},
    {.in = {"f32[5,7,21]", "f32[5,7,21] -0.9..0.9", "f32[21,21] -0.5..0.5"}, .no_gradient = true},
    {.in = {"f32[9,4,40]", "f32[9,4,40] -0.9..0.9", "f32[40,40] -0.5..0.5"}, .no_gradient = true},
    {.in = {"f32[32,64,256]", "f32[32,64,256] -0.9..0.9", "f32[256,256] -0.1..0.1"}, .large = true},
    {.in = {"f32[2,3,2]", "f32[2,3,3]", "f32[2,2]"}, .bad = "y is [2,3,3]"},
    {.in = {"f32[2,3]", "f32[2,3]", "f32[2,2]"}, .bad = "must be [B,T,H]"},
    {.in = {NULL}}};

const grdi_op grdi_op_rnn_backward = {.name = "rnn_backward",
                                      .inputs = 3,
                                      .outputs = 2,
                                      .flags = GRDI_OP_MATMUL | GRDI_OP_WHOLE,
                                      .attrs = {GRD_FLAG("relu", false)},
                                      .shape = rnn_backward_shape,
                                      .compose = rnn_backward_compose,
                                      .reference = rnn_backward_reference,
                                      .flops = step_backward_flops,
                                      .inplace = {3},
                                      .tolerance = STEPS_TOLERANCE,
                                      .samples = rnn_backward_samples};
