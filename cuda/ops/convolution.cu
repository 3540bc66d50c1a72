/* convolution.cu - convolution and its gradients by cuDNN where it is there and takes them (lib/cudnn.h), else as
 * products of cuBLASLt, a few samples at a time: windows are laid out as rows of a matrix, columns [positions, channels
 * x taps], which the weight [O, channels x taps] fits as it lies. What flows back to x is gathered from such columns by
 * the element that it belongs to: nothing is added at random. Kernels of one tap that move by one need no columns: x is
 * the matrix.
 *
 * cuDNN 9 sums gradients of weights of bf16 in f32, but most versions store them in bf16 alone: then they are rounded
 * once, beside the result, and stored in f32 or added to it from there, as PyTorch has them. Gradients that are plain
 * products stay in f32 throughout. */
#include "ops/copy.h"

#include "device/table.cuh"
#include "device/windows.cuh"

namespace
{

enum { THREADS = 256 };
constexpr int64_t COLUMNS_BYTES = 256 << 20, COLUMNS_BYTES_SMALL = 8 << 10;

constexpr grdi_convolution_kind FORWARD = GRDI_CONVOLUTION_FORWARD, INPUT_GRADIENT = GRDI_CONVOLUTION_INPUT_GRADIENT,
                                WEIGHT_GRADIENT = GRDI_CONVOLUTION_WEIGHT_GRADIENT;

struct convolution_state {
    grdi_convolution_kind kind;
    grdi_dnn_plan *library; /* cuDNN's; NULL: products */
    bool by_library;        /* and its pointers are as it needs them */
    windows w;
    int64_t outputs, groups, taps, width; /* width: of the columns, channels x taps */
    int64_t chunk;                        /* samples at a time; divides their number */
    bool plain;                           /* no columns */
    grd_dtype type;                       /* of columns */
    bool rounds_bias, rounds_sum;         /* to the library's dtype: the bias; the gradient of weights */
    size_t columns_bytes, beside_at; /* room for columns or for the library's workspace; behind it, what is rounded */
    grdi_product product;
};

struct column_task {
    windows w;
    cells x, columns;
    int64_t taps, count; /* count: of elements written */
};

__global__ void __launch_bounds__(THREADS) columns_kernel(const column_task t)
{
    int64_t e = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (e >= t.count) return;
    int64_t tap = e % t.taps, channel = e / t.taps % t.w.channels, row = e / (t.taps * t.w.channels);
    int64_t at = tap_position(t.w, spot_of(t.w, row % t.w.out, true), tap), n = row / t.w.out;
    put(t.columns, e, at < 0 ? 0.0f : get(t.x, (n * t.w.in + at) * t.w.channels + channel));
}

/* x: the gradient that is written; columns: of what arrives. */
__global__ void __launch_bounds__(THREADS) gather_columns_kernel(const column_task t)
{
    int64_t e = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (e >= t.count) return;
    int64_t channel = e % t.w.channels, i = e / t.w.channels % t.w.in, n = e / (t.w.channels * t.w.in);
    spot place = spot_of(t.w, i, false);
    float sum = 0;
    each_window(t.w, place, [&](const spot &o, int64_t tap) {
        int64_t row = n * t.w.out + out_position(t.w, o);
        sum += get(t.columns, (row * t.w.channels + channel) * t.taps + tap);
    });
    put(t.x, e, sum);
}

struct bias_task {
    cells y, bias;
    int64_t count, outputs;
};

__global__ void __launch_bounds__(THREADS) add_bias_kernel(const bias_task t)
{
    int64_t e = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (e < t.count) put(t.y, e, get(t.y, e) + get(t.bias, e % t.outputs));
}

/* ---- on the host ---- */

/* x, w and y of the three kinds, in their places. */
struct operands {
    const grdi_view *x, *w, *y;
};

operands operands_of(const grdi_call *call, grdi_convolution_kind kind)
{
    const grdi_view *in = call->in, *out = call->out;
    if (kind == INPUT_GRADIENT) return {&out[0], &in[1], &in[0]};
    if (kind == WEIGHT_GRADIENT) return {&in[1], &out[0], &in[0]};
    return {&in[0], &in[1], &out[0]};
}

void set_geometry(const grdi_call *call, convolution_state *s)
{
    operands o = operands_of(call, s->kind);
    s->w = windows_of(call, *o.x, *o.y);
    s->outputs = o.w->dims.dim[0], s->groups = grdi_attr_int(call->attrs, "groups"), s->taps = 1;
    s->plain = true;
    for (int32_t axis = 0, axes = o.x->dims.rank - 2; axis < axes; axis++) {
        grdi_window *w = &s->w.axis[GRDI_WINDOW_AXES - axes + axis];
        w->kernel = o.w->dims.dim[2 + axis];
        if (w->stride == 0) w->stride = 1;
        s->taps *= w->kernel;
        s->plain &= w->kernel == 1 && w->stride == 1 && w->padding == 0;
    }
    s->width = s->w.channels * s->taps;
    s->type = s->kind == INPUT_GRADIENT ? GRD_F32 : o.x->dtype; /* sums over taps are made in f32 */
}

/* Bytes of the columns of a sample. */
int64_t columns_of_one(const convolution_state *s)
{
    return s->plain ? 0 : s->w.out * s->width * (int64_t)grd_dtype_size(s->type);
}

/* The most samples whose columns stay under the limit, and that divide all; at least one. */
void choose_chunk(convolution_state *s, int64_t limit)
{
    int64_t each = columns_of_one(s), most = each ? limit / each : s->w.samples;
    for (s->chunk = most < 1 ? 1 : most > s->w.samples ? s->w.samples : most; s->w.samples % s->chunk;) s->chunk--;
}

grdi_matrix matrix(grd_dtype dtype, bool transposed, int64_t ld, int64_t batch_stride)
{
    grdi_matrix m = {};
    m.dtype = dtype, m.transposed = transposed, m.ld = ld, m.batch_stride = batch_stride;
    return m;
}

/* The product of one chunk; groups are its batch. */
void describe_product(const grdi_call *call, convolution_state *s)
{
    operands o = operands_of(call, s->kind);
    grdi_product *p = &s->product;
    int64_t rows = s->chunk * s->w.out, in = s->width / s->groups, out = s->outputs / s->groups;
    grd_dtype columns_type = s->plain ? o.x->dtype : s->type;
    grdi_matrix columns = matrix(columns_type, false, s->width, in);
    grdi_matrix weight = matrix(o.w->dtype, false, in, out * in), y = matrix(o.y->dtype, false, s->outputs, out);
    if (s->plain) columns.steps = (size_t)(rows * s->width) * grd_dtype_size(columns_type);
    y.steps = (size_t)(rows * s->outputs) * grd_dtype_size(o.y->dtype);
    p->batch = s->groups;
    if (s->kind == FORWARD) {
        weight.transposed = true;
        p->m = rows, p->n = out, p->k = in, p->a = columns, p->b = weight, p->y = y;
    } else if (s->kind == INPUT_GRADIENT) {
        p->m = rows, p->n = in, p->k = out, p->a = y, p->b = weight, p->y = columns;
    } else {
        y.transposed = true;
        p->m = out, p->n = in, p->k = rows, p->a = y, p->b = columns, p->y = weight;
    }
}

/* cuDNN's plan, where it has one: pointers are only known later, and may then not suit it. */
void plan_library(const grdi_call *call, convolution_state *s)
{
    operands o = operands_of(call, s->kind);
    grdi_convolution c = {};
    c.kind = s->kind;
    c.axes = o.x->dims.rank - 2;
    c.samples = s->w.samples, c.in_channels = s->w.channels, c.out_channels = s->outputs, c.groups = s->groups;
    for (int a = 0; a < GRDI_WINDOW_AXES; a++) c.axis[a] = s->w.axis[a];
    c.x = o.x->dtype, c.w = o.w->dtype, c.y = o.y->dtype;
    c.w_inner = s->taps == 1; /* both are the same then */
    c.bias = call->input_count == 3;
    c.accumulates = call->may_accumulate[0];
    s->library = grdi_dnn_plan_new(&call->device->dnn, &c);
    if (s->library || c.w == c.x || s->kind != WEIGHT_GRADIENT || s->plain) return;
    c.w = c.x, c.w_inner = true, c.accumulates = false;
    s->library = grdi_dnn_plan_new(&call->device->dnn, &c);
    s->rounds_sum = s->library != nullptr;
}

/* Bytes of what lies beside in the library's dtype. */
size_t bytes_beside(const grdi_call *call, const convolution_state *s)
{
    if (s->rounds_bias) return (size_t)s->outputs * grd_dtype_size(call->out[0].dtype);
    return s->rounds_sum ? (size_t)grd_dims_count(call->out[0].dims) * grd_dtype_size(call->in[0].dtype) : 0;
}

grd_status prepare(grdi_call *call, grd_error *error, grdi_convolution_kind kind)
{
    convolution_state *s = (convolution_state *)grdi_alloc_zero(1, sizeof *s);
    if (!s) return grd_fail(error, GRD_E_MEMORY, "%s: out of memory", call->op->name);
    call->state = s;
    s->kind = kind;
    set_geometry(call, s);
    plan_library(call, s);
    int64_t room = call->device->small ? COLUMNS_BYTES_SMALL : COLUMNS_BYTES;
    choose_chunk(s, s->library ? 0 : room); /* a sample's columns have room beside the library, too */
    s->columns_bytes = (size_t)(s->chunk * columns_of_one(s));
    if (s->library && grdi_dnn_plan_workspace(s->library) > s->columns_bytes)
        s->columns_bytes = grdi_dnn_plan_workspace(s->library);
    s->beside_at = grdi_cuda_room(s->columns_bytes);
    s->rounds_bias = call->input_count == 3 && call->in[2].dtype != call->out[0].dtype;
    call->scratch_bytes = s->beside_at + bytes_beside(call, s);
    return GRD_OK;
}

grd_status prepare_forward(grdi_call *call, grd_error *error)
{
    return prepare(call, error, FORWARD);
}
grd_status prepare_input_gradient(grdi_call *call, grd_error *error)
{
    return prepare(call, error, INPUT_GRADIENT);
}
grd_status prepare_weight_gradient(grdi_call *call, grd_error *error)
{
    return prepare(call, error, WEIGHT_GRADIENT);
}

void *beside(const grdi_call *call, const convolution_state *s)
{
    return (char *)call->scratch + s->beside_at;
}

void *bias_of(const grdi_call *call, const convolution_state *s)
{
    if (call->input_count < 3) return nullptr;
    return s->rounds_bias ? beside(call, s) : call->in[2].data;
}

/* The epilogue knows one bias for all groups, which is right for one. */
grd_status bind(grdi_call *call, grd_error *error)
{
    convolution_state *s = (convolution_state *)call->state;
    operands o = operands_of(call, s->kind);
    grdi_product *p = &s->product;
    void *pointers[GRDI_DNN_POINTERS] = {o.x->data, s->rounds_sum ? beside(call, s) : o.w->data, o.y->data,
                                         bias_of(call, s)};
    s->by_library = s->library && grdi_dnn_plan_bind(s->library, pointers, call->scratch);
    if (s->by_library) return GRD_OK;
    choose_chunk(s, (int64_t)s->columns_bytes);
    describe_product(call, s);
    void *columns = s->plain ? o.x->data : call->scratch;
    p->a.data = s->kind == FORWARD ? columns : o.y->data;
    p->b.data = s->kind == WEIGHT_GRADIENT ? columns : o.w->data;
    p->y.data = s->kind == FORWARD ? o.y->data : s->kind == INPUT_GRADIENT ? columns : o.w->data;
    p->epilogue = call->input_count == 3 && s->groups == 1 ? GRDI_EPILOGUE_BIAS : GRDI_EPILOGUE_NONE;
    p->bias = bias_of(call, s);
    return grdi_product_plan(call->device, p, error);
}

void *moved(const grdi_view *view, int64_t elements)
{
    return (char *)view->data + elements * (int64_t)grd_dtype_size(view->dtype);
}

/* Chunk number `n`: columns before the product or after it. */
grd_status run_chunk(const grdi_call *call, const convolution_state *s, int64_t n)
{
    operands o = operands_of(call, s->kind);
    void *x = moved(o.x, n * s->chunk * s->w.in * s->w.channels), *y = moved(o.y, n * s->chunk * s->w.out * s->outputs);
    void *columns = s->plain ? x : call->scratch;
    column_task t = {s->w, {x, o.x->dtype}, {columns, s->type}, s->taps, s->chunk * s->w.out * s->width};
    grd_status status = GRD_OK;
    if (!s->plain && s->kind != INPUT_GRADIENT)
        status = grdi_launch(call, columns_kernel, blocks_for(t.count, THREADS), THREADS, 0, t);
    if (status) return status;
    grdi_cuda_stream(call); /* makes the device current for the product */
    if (s->kind == FORWARD) return grdi_product_run(call->device, &s->product, columns, o.w->data, y, false);
    if (s->kind == WEIGHT_GRADIENT)
        return grdi_product_run(call->device, &s->product, y, columns, o.w->data, n > 0 || call->accumulate[0]);
    status = grdi_product_run(call->device, &s->product, y, o.w->data, columns, false);
    t.count = s->chunk * s->w.in * s->w.channels;
    if (status || s->plain) return status;
    return grdi_launch(call, gather_columns_kernel, blocks_for(t.count, THREADS), THREADS, 0, t);
}

/* The library's gradient of weights, rounded and [O,K..,C], becomes the call's. */
grd_status take_rounded(const grdi_call *call, const convolution_state *s)
{
    grdi_view rounded = call->out[0];
    int64_t channels = rounded.dims.dim[1], step = channels;
    rounded.dtype = call->in[0].dtype;
    rounded.data = beside(call, s);
    for (int32_t axis = rounded.dims.rank - 1; axis > 1; axis--) {
        rounded.stride[axis] = step;
        step *= rounded.dims.dim[axis];
    }
    rounded.stride[1] = 1;
    rounded.stride[0] = step;
    return grdi_cuda_copy(call, &call->out[0], &rounded, call->accumulate[0]);
}

grd_status run_library(const grdi_call *call, const convolution_state *s)
{
    grdi_device *device = call->device;
    cudaSetDevice(device->index);
    if (!grdi_cuda_noted(device) && !grdi_dnn_plan_run(s->library, call->accumulate[0] && !s->rounds_sum)) {
        snprintf(device->why, sizeof device->why, "%s", device->dnn.why);
        return GRD_E_DEVICE;
    }
    return s->rounds_sum ? take_rounded(call, s) : GRD_OK;
}

grd_status run(grdi_call *call)
{
    const convolution_state *s = (const convolution_state *)call->state;
    grd_status status = GRD_OK;
    if (s->rounds_bias) {
        grdi_view rounded = call->in[2];
        rounded.dtype = call->out[0].dtype;
        rounded.data = bias_of(call, s);
        status = grdi_cuda_copy(call, &rounded, &call->in[2], false);
    }
    if (!status && s->by_library) return run_library(call, s);
    for (int64_t n = 0; n < s->w.samples / s->chunk && !status; n++) status = run_chunk(call, s, n);
    if (status || call->input_count < 3 || s->groups == 1) return status;
    bias_task t = {cells_of(call->out[0]), cells_of(call->in[2]), grd_dims_count(call->out[0].dims), s->outputs};
    return grdi_launch(call, add_bias_kernel, blocks_for(t.count, THREADS), THREADS, 0, t);
}

void release(grdi_call *call)
{
    convolution_state *s = (convolution_state *)call->state;
    if (s) grdi_product_release(call->device, &s->product), grdi_dnn_plan_free(s->library);
    grdi_free(s);
    call->state = nullptr;
}

/* Operands of one dtype. */
bool supports(const grdi_call *call)
{
    return takes_values(call, 0, call->input_count) && call->in[0].dtype == call->in[1].dtype &&
           (call->out[0].dtype == call->in[0].dtype || call->out[0].dtype == GRD_F32);
}

/* Gradients of weights are sums in f32. */
bool supports_weight_gradient(const grdi_call *call)
{
    return supports(call) && call->out[0].dtype == GRD_F32;
}

const grdi_kernel kernel_forward = {.op = "convolution",
                                    .supports = supports,
                                    .prepare = prepare_forward,
                                    .bind = bind,
                                    .run = run,
                                    .release = release};
const grdi_kernel kernel_input_gradient = {.op = "convolution_input_gradient",
                                           .supports = supports,
                                           .prepare = prepare_input_gradient,
                                           .bind = bind,
                                           .run = run,
                                           .release = release};
const grdi_kernel kernel_weight_gradient = {.op = "convolution_weight_gradient",
                                            .accumulates = 1,
                                            .rounds_sums = 1,
                                            .supports = supports_weight_gradient,
                                            .prepare = prepare_weight_gradient,
                                            .bind = bind,
                                            .run = run,
                                            .release = release};

} // namespace

GRDI_CUDA_TABLE(convolution, &kernel_forward, &kernel_input_gradient, &kernel_weight_gradient)
