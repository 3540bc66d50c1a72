/* recurrent.cu - LSTM, GRU and plain recurrent cells, forward and backward. Where a layer's weights fit the device's
 * multiprocessors, all its steps are one launch (resident_cells.cu). Else each step is a product of cuBLASLt with the
 * state, and one kernel for all that happens in the cells; steps follow one another in the stream, so that a captured
 * graph holds the whole series. */
#include "ops/recurrent.cuh"

#include "ops/copy.h"

#include "device/table.cuh"

#include <cstring>

namespace
{

enum { THREADS = 256, SPARES = 4 };

/* weight: which input it is. */
const struct cell_name {
    const char *op;
    int32_t weight;
} names[CELL_KINDS] = {{"lstm", 1},         {"lstm_backward", 4}, {"gru", 1},
                       {"gru_backward", 4}, {"rnn", 1},           {"rnn_backward", 2}};

struct recurrent_state {
    int32_t kind;
    int64_t b, t, h, gates;
    step_rows spare[SPARES];     /* of one step each, for outputs that nobody wants and for sums */
    grdi_product first, product; /* first: with the state that came in, where that lies otherwise */
    bool planned, resident;      /* one launch for all steps: by the shape, and by what pointers allow as well */
    resident_shape shape;
    resident_task task;
};

/* Where a step's product is: of gates, or the gradient that arrives from the step behind; and where its cells keep what
 * the next step finds again. */
struct step_sums {
    step_rows sums, carry;
};

template <int KIND> __global__ void __launch_bounds__(THREADS) cell_kernel(const cell_task c, const step_sums s)
{
    int64_t e = (int64_t)blockIdx.x * THREADS + threadIdx.x, b = e / c.h, j = e % c.h;
    float sum[4] = {0, 0, 0, 0};
    if (e >= c.b * c.h) return;
#pragma unroll
    for (int g = 0; g < (is_backward(KIND) ? 1 : gates_of(KIND)); g++) sum[g] = at(s.sums, b, g * c.h + j);
    run_cell<KIND>(c, b, j, sum, s.carry.data ? s.carry.data + b * s.carry.row + j : nullptr);
}

/* ---- on the host ---- */

int32_t kind_of(const grdi_call *call)
{
    int32_t kind = 0;
    while (strcmp(names[kind].op, call->op->name) != 0) kind++;
    return kind;
}

/* Step t of a [B,T,width] value, or spare rows where it is absent. */
step_rows at_step(const recurrent_state *s, const grdi_view &view, int64_t t, int64_t width, int spare)
{
    if (!view.data) return s->spare[spare];
    return {(float *)view.data + t * width, s->t * width, width};
}

/* A [B,width] value. */
step_rows whole(const recurrent_state *s, const grdi_view &view, int spare)
{
    return view.data ? step_rows{(float *)view.data, s->h, 0} : s->spare[spare];
}

/* What was there before step t: of a value [B,T,H], or the state that came in. */
step_rows before(const recurrent_state *s, const grdi_view &view, const grdi_view &first, int64_t t, int spare)
{
    return t > 0 ? at_step(s, view, t - 1, s->h, spare) : whole(s, first, spare);
}

/* What step t's product reads and writes. */
void product_rows(const grdi_call *call, const recurrent_state *s, int64_t t, step_rows *from, step_rows *to)
{
    const grdi_view *in = call->in, *out = call->out;
    switch (s->kind) {
    case LSTM: *from = before(s, out[0], in[2], t, 0), *to = at_step(s, out[2], t, 4 * s->h, 2); break;
    case GRU: *from = before(s, out[0], in[3], t, 0), *to = s->spare[2]; break;
    case RNN: *from = before(s, out[0], in[2], t, 0), *to = at_step(s, out[0], t, s->h, 0); break;
    case GRU_BACKWARD: *from = at_step(s, out[1], t, 3 * s->h, 3), *to = whole(s, out[2], 2); break;
    default: *from = at_step(s, out[0], t, s->gates * s->h, 0), *to = whole(s, out[1], 1);
    }
}

/* Whether the product adds to what is there: sums of gates, and what goes past a GRU's product. */
bool adds(int32_t kind)
{
    return kind == LSTM || kind == RNN || kind == GRU_BACKWARD;
}

cell_task cell_of(const grdi_call *call, const recurrent_state *s, int64_t t)
{
    const grdi_view *in = call->in, *out = call->out;
    cell_task c = {};
    c.b = s->b, c.h = s->h;
    if (s->kind == LSTM) {
        c.cells_before = before(s, out[1], in[3], t, 1), c.cells = at_step(s, out[1], t, s->h, 1);
        c.gates = at_step(s, out[2], t, 4 * s->h, 2), c.out = at_step(s, out[0], t, s->h, 0);
        c.in = at_step(s, in[0], t, 4 * s->h, 2);
    } else if (s->kind == LSTM_BACKWARD) {
        c.gy = at_step(s, in[0], t, s->h, 0), c.gates = at_step(s, in[1], t, 4 * s->h, 0);
        c.cells = at_step(s, in[2], t, s->h, 0), c.cells_before = before(s, in[2], in[3], t, 0);
        if (call->input_count == 6) c.gcells = at_step(s, in[5], t, s->h, 0);
        c.dgates = at_step(s, out[0], t, 4 * s->h, 0);
    } else if (s->kind == GRU) {
        c.in = at_step(s, in[0], t, 3 * s->h, 0), c.bias = (const float *)in[2].data;
        c.state = before(s, out[0], in[3], t, 0), c.gates = at_step(s, out[1], t, 4 * s->h, 1);
        c.out = at_step(s, out[0], t, s->h, 0);
    } else if (s->kind == GRU_BACKWARD) {
        c.gy = at_step(s, in[0], t, s->h, 0), c.state = before(s, in[1], in[3], t, 0);
        c.gates = at_step(s, in[2], t, 4 * s->h, 0), c.dgates = at_step(s, out[0], t, 3 * s->h, 0);
        c.dhidden = at_step(s, out[1], t, 3 * s->h, 3);
    } else {
        c.relu = grdi_attr_int(call->attrs, "relu") != 0;
        c.out = s->kind == RNN ? at_step(s, out[0], t, s->h, 0) : at_step(s, in[1], t, s->h, 0);
        if (s->kind == RNN) c.in = at_step(s, in[0], t, s->h, 0);
        if (s->kind == RNN_BACKWARD) c.gy = at_step(s, in[0], t, s->h, 0), c.dgates = at_step(s, out[0], t, s->h, 0);
    }
    return c;
}

/* Sums of a step: what the product before the cells wrote, or backward what the one of the step behind did. */
step_sums sums_of(const grdi_call *call, const recurrent_state *s, int64_t t)
{
    step_rows from, to;
    product_rows(call, s, t, &from, &to);
    step_rows carry = {};
    if (s->kind == LSTM_BACKWARD) carry = whole(s, call->out[2], 2);
    if (s->kind == GRU_BACKWARD) carry = to;
    return {to, carry};
}

grd_status launch_cells(const grdi_call *call, const recurrent_state *s, int64_t t)
{
    const cell_task c = cell_of(call, s, t);
    const step_sums sums = sums_of(call, s, t);
    unsigned blocks = blocks_for(c.b * c.h, THREADS);
    switch (s->kind) {
    case LSTM: return grdi_launch(call, cell_kernel<LSTM>, blocks, THREADS, 0, c, sums);
    case LSTM_BACKWARD: return grdi_launch(call, cell_kernel<LSTM_BACKWARD>, blocks, THREADS, 0, c, sums);
    case GRU: return grdi_launch(call, cell_kernel<GRU>, blocks, THREADS, 0, c, sums);
    case GRU_BACKWARD: return grdi_launch(call, cell_kernel<GRU_BACKWARD>, blocks, THREADS, 0, c, sums);
    case RNN: return grdi_launch(call, cell_kernel<RNN>, blocks, THREADS, 0, c, sums);
    default: return grdi_launch(call, cell_kernel<RNN_BACKWARD>, blocks, THREADS, 0, c, sums);
    }
}

grd_status prepare(grdi_call *call, grd_error *error)
{
    recurrent_state *s = (recurrent_state *)grdi_alloc_zero(1, sizeof *s);
    if (!s) return grd_fail(error, GRD_E_MEMORY, "%s: out of memory", call->op->name);
    call->state = s;
    s->kind = kind_of(call);
    grd_dims series = is_backward(s->kind) ? call->in[0].dims : call->out[0].dims; /* [B,T,H] */
    s->b = series.dim[0], s->t = series.dim[1], s->h = series.dim[2], s->gates = gates_of(s->kind);
    call->scratch_bytes = SPARES * shared_bytes_of((size_t)(s->b * 4 * s->h), sizeof(float));
    s->planned = grdi_resident_plan(call->device, s->kind, s->b, s->h, &s->shape);
    if (s->planned) call->scratch_bytes += grdi_resident_word_bytes(s->kind, s->b, s->h);
    return GRD_OK;
}

/* to [B,n] (+)= from [B,k] weight [k,n]; the weight is [gates H,H]. */
grd_status plan_product(const grdi_call *call, const recurrent_state *s, grdi_product *p, int64_t t, grd_error *error)
{
    bool backward = is_backward(s->kind);
    int64_t gates = s->gates * s->h;
    step_rows from, to;
    product_rows(call, s, t, &from, &to);
    *p = grdi_product{};
    p->m = s->b, p->n = backward ? s->h : gates, p->k = backward ? gates : s->h, p->batch = 1;
    p->a.data = from.data, p->a.ld = from.row, p->a.steps = (size_t)p->k * sizeof(float);
    p->y.data = to.data, p->y.ld = to.row, p->y.steps = (size_t)p->n * sizeof(float);
    p->b.data = call->in[names[s->kind].weight].data, p->b.ld = s->h, p->b.transposed = !backward;
    p->a.dtype = p->b.dtype = p->y.dtype = GRD_F32;
    return grdi_product_plan(call->device, p, error);
}

/* All steps as one launch, where pointers allow it. */
bool make_resident(const grdi_call *call, recurrent_state *s, void *words)
{
    resident_task *k = &s->task;
    step_rows to;
    int64_t second = s->t > 1;
    *k = {cell_of(call, s, 0), cell_of(call, s, second)};
    product_rows(call, s, 0, &k->from, &to);
    k->weight = (const float *)call->in[names[s->kind].weight].data;
    k->words = (unsigned long long *)words;
    k->steps = s->t;
    int32_t dh = s->kind == GRU_BACKWARD ? 2 : 1;
    if (is_backward(s->kind) && call->out[dh].data) k->dh = whole(s, call->out[dh], dh);
    if (s->kind == LSTM_BACKWARD && call->out[2].data) k->dc = whole(s, call->out[2], 2);
    return grdi_resident_takes(k);
}

grd_status bind(grdi_call *call, grd_error *error)
{
    recurrent_state *s = (recurrent_state *)call->state;
    size_t each = shared_bytes_of((size_t)(s->b * 4 * s->h), sizeof(float));
    for (int i = 0; i < SPARES; i++) s->spare[i] = {(float *)((char *)call->scratch + each * (size_t)i), 4 * s->h, 0};
    s->resident = s->planned && make_resident(call, s, (char *)call->scratch + each * SPARES);
    if (s->resident) return GRD_OK;
    grd_status status = plan_product(call, s, &s->first, 0, error);
    return status || s->t == 1 ? status : plan_product(call, s, &s->product, 1, error);
}

grd_status run_step(const grdi_call *call, const recurrent_state *s, int64_t t)
{
    bool backward = is_backward(s->kind);
    step_rows from, to;
    product_rows(call, s, t, &from, &to);
    if (s->kind == LSTM || s->kind == RNN) { /* sums begin with the input's part */
        grdi_view in = call->in[0], sums = in;
        in.dims = sums.dims = grd_shape(s->b, s->gates * s->h);
        in.data = (float *)in.data + t * s->gates * s->h;
        in.stride[0] = s->t * s->gates * s->h, in.stride[1] = sums.stride[1] = 1;
        sums.data = to.data, sums.stride[0] = to.row;
        grd_status status = in.data == sums.data ? GRD_OK : grdi_cuda_copy(call, &sums, &in, false);
        if (status) return status;
    }
    grd_status status = backward ? launch_cells(call, s, t) : GRD_OK;
    if (status) return status;
    grdi_cuda_stream(call); /* makes the device current for the product */
    const grdi_product *p = t == 0 ? &s->first : &s->product;
    status = grdi_product_run(call->device, p, from.data, p->b.data, to.data, adds(s->kind));
    return status || backward ? status : launch_cells(call, s, t);
}

/* What arrives from behind the last step: nothing. */
grd_status clear_states(const grdi_call *call, const recurrent_state *s)
{
    grd_status status = GRD_OK;
    for (int32_t o = 1; o < call->output_count && !status; o++) {
        if (call->out[o].dims.rank != 2) continue;
        step_rows r = whole(s, call->out[o], o);
        status = grdi_cuda_clear(call, r.data, (size_t)(s->b * r.row) * sizeof(float));
    }
    return status;
}

grd_status run(grdi_call *call)
{
    const recurrent_state *s = (const recurrent_state *)call->state;
    if (s->resident) return grdi_resident_run(call, s->kind, &s->task, &s->shape);
    bool backward = is_backward(s->kind);
    grd_status status = backward ? clear_states(call, s) : GRD_OK;
    for (int64_t i = 0; i < s->t && !status; i++) status = run_step(call, s, backward ? s->t - 1 - i : i);
    return status;
}

void release(grdi_call *call)
{
    recurrent_state *s = (recurrent_state *)call->state;
    if (s) {
        grdi_product_release(call->device, &s->first);
        grdi_product_release(call->device, &s->product);
    }
    grdi_free(s);
    call->state = nullptr;
}

bool supports(const grdi_call *call)
{
    for (int32_t i = 0; i < call->input_count; i++)
        if (call->in[i].dtype != GRD_F32) return false;
    for (int32_t o = 0; o < call->output_count; o++)
        if (call->out[o].dtype != GRD_F32) return false;
    return true;
}

/* A product of a few rows and a kernel, one after the other: launches, not arithmetic, set the time. */
#define CELL_KERNEL(op_name, places)                                                                                   \
    {                                                                                                                  \
        .op = op_name, .in_place = places, .supports = supports, .prepare = prepare, .bind = bind, .run = run,         \
        .release = release, .rate_part = 0.1                                                                           \
    }
const grdi_kernel kernels[CELL_KINDS] = {CELL_KERNEL("lstm", 4), CELL_KERNEL("lstm_backward", 1),
                                         CELL_KERNEL("gru", 0),  CELL_KERNEL("gru_backward", 0),
                                         CELL_KERNEL("rnn", 1),  CELL_KERNEL("rnn_backward", 1)};

} // namespace

GRDI_CUDA_TABLE(recurrent, &kernels[0], &kernels[1], &kernels[2], &kernels[3], &kernels[4], &kernels[5])
