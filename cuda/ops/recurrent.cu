/* recurrent.cu - LSTM, GRU and plain recurrent cells, forward and backward: for each step one product of cuBLASLt with
 * the state, and one kernel for all that happens in the cells. Steps follow one another in the stream, so that a
 * captured graph holds the whole series. */
#include "ops/copy.h"

#include "device/table.cuh"
#include "device/values.cuh"

#include <cstring>

namespace
{

enum { THREADS = 256, SPARES = 4 };
enum cell_kind { LSTM, LSTM_BACKWARD, GRU, GRU_BACKWARD, RNN, RNN_BACKWARD, KINDS };

/* Gates: parts of the weight; weight: which input it is; steps: of the wide value that the product reads or writes. */
const struct cell_name {
    const char *op;
    int32_t gates, weight;
    bool backward;
} names[KINDS] = {{"lstm", 4, 1, false},        {"lstm_backward", 4, 4, true}, {"gru", 3, 1, false},
                  {"gru_backward", 3, 4, true}, {"rnn", 1, 1, false},          {"rnn_backward", 1, 2, true}};

/* Rows [B,width] of one step, `step` floats apart. */
struct step_rows {
    float *data;
    int64_t step;
};

struct recurrent_state {
    int32_t kind;
    int64_t b, t, h, gates;
    step_rows spare[SPARES];     /* of one step each, for outputs that nobody wants and for sums */
    grdi_product first, product; /* first: with the state that came in, where that lies otherwise */
};

/* What the kernel of one step reads and writes; a is by kind. */
struct cell_task {
    int64_t b, h;
    bool relu;
    step_rows in, state, cells_before, cells, gates, out, extra; /* forward */
    step_rows gy, gcells, dgates, dhidden, dh, dc;               /* backward */
    const float *bias;
};

__device__ __forceinline__ float at(const step_rows &r, int64_t row, int64_t column)
{
    return r.data[row * r.step + column];
}
__device__ __forceinline__ void set(const step_rows &r, int64_t row, int64_t column, float value)
{
    r.data[row * r.step + column] = value;
}
__device__ __forceinline__ float sigmoid(float x)
{
    return 1.0f / (1.0f + expf(-x));
}

/* gates: sums, then what is behind their sigmoids and tanh. */
__device__ inline void lstm_cell(const cell_task &c, int64_t b, int64_t j)
{
    float i = sigmoid(at(c.gates, b, j)), f = sigmoid(at(c.gates, b, c.h + j));
    float g = tanhf(at(c.gates, b, 2 * c.h + j)), o = sigmoid(at(c.gates, b, 3 * c.h + j));
    float cell = f * at(c.cells_before, b, j) + i * g;
    set(c.gates, b, j, i), set(c.gates, b, c.h + j, f), set(c.gates, b, 2 * c.h + j, g);
    set(c.gates, b, 3 * c.h + j, o);
    set(c.cells, b, j, cell);
    set(c.out, b, j, o * tanhf(cell));
}

__device__ inline void lstm_backward_cell(const cell_task &c, int64_t b, int64_t j)
{
    float i = at(c.gates, b, j), f = at(c.gates, b, c.h + j), g = at(c.gates, b, 2 * c.h + j);
    float o = at(c.gates, b, 3 * c.h + j), y = tanhf(at(c.cells, b, j)), gy = at(c.gy, b, j) + at(c.dh, b, j);
    float gc = at(c.dc, b, j) + gy * o * (1 - y * y) + (c.gcells.data ? at(c.gcells, b, j) : 0.0f);
    float before = at(c.cells_before, b, j);
    set(c.dgates, b, j, gc * g * i * (1 - i)), set(c.dgates, b, c.h + j, gc * before * f * (1 - f));
    set(c.dgates, b, 2 * c.h + j, gc * i * (1 - g * g)), set(c.dgates, b, 3 * c.h + j, gy * y * o * (1 - o));
    set(c.dc, b, j, gc * f);
}

/* extra: the state's product, without its bias. */
__device__ inline void gru_cell(const cell_task &c, int64_t b, int64_t j)
{
    float r = sigmoid(at(c.in, b, j) + at(c.extra, b, j) + c.bias[j]);
    float z = sigmoid(at(c.in, b, c.h + j) + at(c.extra, b, c.h + j) + c.bias[c.h + j]);
    float hidden = at(c.extra, b, 2 * c.h + j) + c.bias[2 * c.h + j];
    float n = tanhf(at(c.in, b, 2 * c.h + j) + r * hidden);
    set(c.gates, b, j, r), set(c.gates, b, c.h + j, z), set(c.gates, b, 2 * c.h + j, n);
    set(c.gates, b, 3 * c.h + j, hidden);
    set(c.out, b, j, (1 - z) * n + z * at(c.state, b, j));
}

/* dh becomes what goes to the state past the product, to which that is added. */
__device__ inline void gru_backward_cell(const cell_task &c, int64_t b, int64_t j)
{
    float r = at(c.gates, b, j), z = at(c.gates, b, c.h + j), n = at(c.gates, b, 2 * c.h + j);
    float hidden = at(c.gates, b, 3 * c.h + j), gy = at(c.gy, b, j) + at(c.dh, b, j);
    float dn = gy * (1 - z) * (1 - n * n), dr = dn * hidden * r * (1 - r);
    float dz = gy * (at(c.state, b, j) - n) * z * (1 - z);
    set(c.dgates, b, j, dr), set(c.dgates, b, c.h + j, dz), set(c.dgates, b, 2 * c.h + j, dn);
    set(c.dhidden, b, j, dr), set(c.dhidden, b, c.h + j, dz), set(c.dhidden, b, 2 * c.h + j, dn * r);
    set(c.dh, b, j, gy * z);
}

__device__ inline void rnn_cell(const cell_task &c, int64_t b, int64_t j)
{
    float sum = at(c.out, b, j);
    set(c.out, b, j, c.relu ? larger(sum, 0.0f) : tanhf(sum));
}

__device__ inline void rnn_backward_cell(const cell_task &c, int64_t b, int64_t j)
{
    float y = at(c.out, b, j), gy = at(c.gy, b, j) + at(c.dh, b, j);
    set(c.dgates, b, j, c.relu ? (y > 0 ? gy : 0.0f) : gy * (1 - y * y));
}

template <int KIND> __global__ void __launch_bounds__(THREADS) cell_kernel(const cell_task c)
{
    int64_t e = (int64_t)blockIdx.x * THREADS + threadIdx.x, b = e / c.h, j = e % c.h;
    if (e >= c.b * c.h) return;
    if (KIND == LSTM) lstm_cell(c, b, j);
    if (KIND == LSTM_BACKWARD) lstm_backward_cell(c, b, j);
    if (KIND == GRU) gru_cell(c, b, j);
    if (KIND == GRU_BACKWARD) gru_backward_cell(c, b, j);
    if (KIND == RNN) rnn_cell(c, b, j);
    if (KIND == RNN_BACKWARD) rnn_backward_cell(c, b, j);
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
    return {(float *)view.data + t * width, s->t * width};
}

/* A [B,width] value. */
step_rows whole(const recurrent_state *s, const grdi_view &view, int spare)
{
    return view.data ? step_rows{(float *)view.data, s->h} : s->spare[spare];
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
    } else if (s->kind == LSTM_BACKWARD) {
        c.gy = at_step(s, in[0], t, s->h, 0), c.gates = at_step(s, in[1], t, 4 * s->h, 0);
        c.cells = at_step(s, in[2], t, s->h, 0), c.cells_before = before(s, in[2], in[3], t, 0);
        if (call->input_count == 6) c.gcells = at_step(s, in[5], t, s->h, 0);
        c.dgates = at_step(s, out[0], t, 4 * s->h, 0), c.dh = whole(s, out[1], 1), c.dc = whole(s, out[2], 2);
    } else if (s->kind == GRU) {
        c.in = at_step(s, in[0], t, 3 * s->h, 0), c.bias = (const float *)in[2].data, c.extra = s->spare[2];
        c.state = before(s, out[0], in[3], t, 0), c.gates = at_step(s, out[1], t, 4 * s->h, 1);
        c.out = at_step(s, out[0], t, s->h, 0);
    } else if (s->kind == GRU_BACKWARD) {
        c.gy = at_step(s, in[0], t, s->h, 0), c.state = before(s, in[1], in[3], t, 0);
        c.gates = at_step(s, in[2], t, 4 * s->h, 0), c.dgates = at_step(s, out[0], t, 3 * s->h, 0);
        c.dhidden = at_step(s, out[1], t, 3 * s->h, 3), c.dh = whole(s, out[2], 2);
    } else {
        c.relu = grdi_attr_int(call->attrs, "relu") != 0;
        c.out = s->kind == RNN ? at_step(s, out[0], t, s->h, 0) : at_step(s, in[1], t, s->h, 0);
        if (s->kind == RNN_BACKWARD) {
            c.gy = at_step(s, in[0], t, s->h, 0);
            c.dgates = at_step(s, out[0], t, s->h, 0), c.dh = whole(s, out[1], 1);
        }
    }
    return c;
}

grd_status run_cell(const grdi_call *call, int32_t kind, const cell_task &c)
{
    unsigned blocks = blocks_for(c.b * c.h, THREADS);
    switch (kind) {
    case LSTM: return grdi_launch(call, cell_kernel<LSTM>, blocks, THREADS, 0, c);
    case LSTM_BACKWARD: return grdi_launch(call, cell_kernel<LSTM_BACKWARD>, blocks, THREADS, 0, c);
    case GRU: return grdi_launch(call, cell_kernel<GRU>, blocks, THREADS, 0, c);
    case GRU_BACKWARD: return grdi_launch(call, cell_kernel<GRU_BACKWARD>, blocks, THREADS, 0, c);
    case RNN: return grdi_launch(call, cell_kernel<RNN>, blocks, THREADS, 0, c);
    default: return grdi_launch(call, cell_kernel<RNN_BACKWARD>, blocks, THREADS, 0, c);
    }
}

grd_status prepare(grdi_call *call, grd_error *error)
{
    recurrent_state *s = (recurrent_state *)grdi_alloc_zero(1, sizeof *s);
    if (!s) return grd_fail(error, GRD_E_MEMORY, "%s: out of memory", call->op->name);
    call->state = s;
    s->kind = kind_of(call);
    grd_dims series = names[s->kind].backward ? call->in[0].dims : call->out[0].dims; /* [B,T,H] */
    s->b = series.dim[0], s->t = series.dim[1], s->h = series.dim[2], s->gates = names[s->kind].gates;
    call->scratch_bytes = SPARES * shared_bytes_of((size_t)(s->b * 4 * s->h), sizeof(float));
    return GRD_OK;
}

/* to [B,n] (+)= from [B,k] weight [k,n]; the weight is [gates H,H]. */
grd_status plan_product(const grdi_call *call, const recurrent_state *s, grdi_product *p, int64_t t, grd_error *error)
{
    bool backward = names[s->kind].backward;
    int64_t gates = s->gates * s->h;
    step_rows from, to;
    product_rows(call, s, t, &from, &to);
    *p = grdi_product{};
    p->m = s->b, p->n = backward ? s->h : gates, p->k = backward ? gates : s->h, p->batch = 1;
    p->a.data = from.data, p->a.ld = from.step, p->a.steps = (size_t)p->k * sizeof(float);
    p->y.data = to.data, p->y.ld = to.step, p->y.steps = (size_t)p->n * sizeof(float);
    p->b.data = call->in[names[s->kind].weight].data, p->b.ld = s->h, p->b.transposed = !backward;
    p->a.dtype = p->b.dtype = p->y.dtype = GRD_F32;
    return grdi_product_plan(call->device, p, error);
}

grd_status bind(grdi_call *call, grd_error *error)
{
    recurrent_state *s = (recurrent_state *)call->state;
    size_t each = shared_bytes_of((size_t)(s->b * 4 * s->h), sizeof(float));
    for (int i = 0; i < SPARES; i++) s->spare[i] = {(float *)((char *)call->scratch + each * (size_t)i), 4 * s->h};
    grd_status status = plan_product(call, s, &s->first, 0, error);
    return status || s->t == 1 ? status : plan_product(call, s, &s->product, 1, error);
}

grd_status run_step(const grdi_call *call, const recurrent_state *s, int64_t t)
{
    bool backward = names[s->kind].backward;
    step_rows from, to;
    product_rows(call, s, t, &from, &to);
    if (s->kind == LSTM || s->kind == RNN) { /* sums begin with the input's part */
        grdi_view in = call->in[0], sums = in;
        in.dims = sums.dims = grd_shape(s->b, s->gates * s->h);
        in.data = (float *)in.data + t * s->gates * s->h;
        in.stride[0] = s->t * s->gates * s->h, in.stride[1] = sums.stride[1] = 1;
        sums.data = to.data, sums.stride[0] = to.step;
        grd_status status = in.data == sums.data ? GRD_OK : grdi_cuda_copy(call, &sums, &in, false);
        if (status) return status;
    }
    grd_status status = backward ? run_cell(call, s->kind, cell_of(call, s, t)) : GRD_OK;
    if (status) return status;
    cudaSetDevice(call->device->index);
    const grdi_product *p = t == 0 ? &s->first : &s->product;
    status = grdi_product_run(call->device, p, from.data, p->b.data, to.data, adds(s->kind));
    return status || backward ? status : run_cell(call, s->kind, cell_of(call, s, t));
}

/* What arrives from behind the last step: nothing. */
grd_status clear_states(const grdi_call *call, const recurrent_state *s)
{
    grd_status status = GRD_OK;
    for (int32_t o = 1; o < call->output_count && !status; o++) {
        if (call->out[o].dims.rank != 2) continue;
        step_rows r = whole(s, call->out[o], o);
        status = grdi_cuda_check(
            call->device, cudaMemsetAsync(r.data, 0, (size_t)(s->b * r.step) * sizeof(float), grdi_cuda_stream(call)),
            "cudaMemsetAsync");
    }
    return status;
}

grd_status run(grdi_call *call)
{
    const recurrent_state *s = (const recurrent_state *)call->state;
    bool backward = names[s->kind].backward;
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
const grdi_kernel kernels[KINDS] = {CELL_KERNEL("lstm", 4), CELL_KERNEL("lstm_backward", 1),
                                    CELL_KERNEL("gru", 0),  CELL_KERNEL("gru_backward", 0),
                                    CELL_KERNEL("rnn", 1),  CELL_KERNEL("rnn_backward", 1)};

} // namespace

GRDI_CUDA_TABLE(recurrent, &kernels[0], &kernels[1], &kernels[2], &kernels[3], &kernels[4], &kernels[5])
