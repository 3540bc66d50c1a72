/* convolution.cu - convolution and its gradients by cuDNN where it is there and takes them (lib/cudnn.h), else as
 * products of cuBLASLt, a few samples at a time: windows are laid out as rows of a matrix, columns [positions, channels
 * x taps], which the weight [O, channels x taps] fits as it lies. What flows back to x is gathered from such columns by
 * the element that it belongs to: nothing is added at random. Kernels of one tap that move by one need no columns: x is
 * the matrix.
 *
 * cuDNN 9 sums gradients of weights of bf16 in f32, but most versions store them in bf16 alone: then they are rounded
 * once, beside the result, and stored in f32 or added to it from there, as PyTorch has them. Gradients that are plain
 * products stay in f32 throughout.
 *
 * Its kernels for tensor cores take channels by eights, and the best of them no strides. Pictures have three channels:
 * the elements of a stride are laid side by side as channels, and what is then a convolution without strides is cuDNN's
 * (a stem of 7x7 by steps of 2 over 3 channels becomes 4x4 over 12, and 4 of zeroes). */
#include "ops/copy.h"

#include "device/table.cuh"
#include "device/windows.cuh"

namespace
{

enum { THREADS = 256 };
constexpr int64_t COLUMNS_BYTES = 256 << 20, COLUMNS_BYTES_SMALL = 8 << 10;

constexpr grdi_convolution_kind FORWARD = GRDI_CONVOLUTION_FORWARD, INPUT_GRADIENT = GRDI_CONVOLUTION_INPUT_GRADIENT,
                                WEIGHT_GRADIENT = GRDI_CONVOLUTION_WEIGHT_GRADIENT;

/* How the library has x and w where they are made for it, or taken from it, beside: elements of a stride are channels,
 * [stride.., channel], and zeroes fill them up to `given`. Without a fold strides are 1 here. */
struct fold {
    bool on;
    int32_t channels, given;
    int32_t stride[GRDI_WINDOW_AXES], lead[GRDI_WINDOW_AXES]; /* lead: elements before x, whole strides */
    int32_t in[GRDI_WINDOW_AXES], taps[GRDI_WINDOW_AXES];     /* of the library's convolution */
};

struct convolution_state {
    grdi_convolution_kind kind;
    grdi_dnn_plan *library; /* cuDNN's; NULL: products */
    bool by_library;        /* and its pointers are as it needs them */
    windows w;
    int64_t outputs, groups, taps, width; /* width: of the columns, channels x taps */
    int64_t chunk;                        /* samples at a time; divides their number */
    bool plain;                           /* no columns */
    grd_dtype type;                       /* of columns */
    bool rounds_bias, w_beside;           /* what the library has otherwise than the call: the bias's dtype; w */
    fold f;
    size_t columns_bytes; /* room for columns or for the library's workspace; behind it, what it has otherwise */
    size_t bias_at, w_at, x_at;
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

struct fold_task {
    fold f;
    grdi_window axis[GRDI_WINDOW_AXES]; /* of the call */
    cells from, to;
    uint32_t count;
    bool add;
};

/* x as the library has it: a thread makes WIDE of its channels. Those of a row of a stride lie side by side in x. */
__global__ void __launch_bounds__(THREADS) fold_kernel(const fold_task t)
{
    uint32_t e = blockIdx.x * THREADS + threadIdx.x, left = e, groups = (uint32_t)t.f.given / WIDE;
    if (e >= t.count) return;
    const uint32_t row = (uint32_t)(t.f.stride[2] * t.f.channels), first = left % groups * WIDE;
    left /= groups;
    const int32_t k = (int32_t)(left % (uint32_t)t.f.in[2]) * t.f.stride[2] - t.f.lead[2];
    left /= (uint32_t)t.f.in[2];
    const int32_t j = (int32_t)(left % (uint32_t)t.f.in[1]) * t.f.stride[1] - t.f.lead[1];
    left /= (uint32_t)t.f.in[1];
    const int32_t i = (int32_t)(left % (uint32_t)t.f.in[0]) * t.f.stride[0] - t.f.lead[0];
    const int64_t n = left / (uint32_t)t.f.in[0], in0 = t.axis[0].in, in1 = t.axis[1].in;
    const int32_t line = (int32_t)t.axis[2].in * t.f.channels, begin = k * t.f.channels;
    uint32_t at = first % row, b = first / row, a = b / (uint32_t)t.f.stride[1];
    b -= a * (uint32_t)t.f.stride[1];
    float x[WIDE];
#pragma unroll
    for (int c = 0; c < WIDE; c++) {
        const int64_t y = i + (int32_t)a, z = j + (int32_t)b;
        const int32_t place = begin + (int32_t)at;
        bool inside = y >= 0 && y < in0 && z >= 0 && z < in1 && place >= 0 && place < line;
        inside &= a < (uint32_t)t.f.stride[0]; /* else it fills up */
        x[c] = inside ? get(t.from, ((n * in0 + y) * in1 + z) * line + place) : 0.0f;
        if (++at == row) at = 0, b++;
        if (b == (uint32_t)t.f.stride[1]) b = 0, a++;
    }
    write_wide(t.to, (int64_t)e * WIDE, x);
}

/* Where tap `k` of the call's, counted over all axes, and channel `c` lie in the library's w of one output. */
__device__ __forceinline__ uint32_t folded_place(const fold_task &t, uint32_t k, uint32_t c)
{
    uint32_t tap = 0, channel = 0, tap_scale = 1, channel_scale = 1;
#pragma unroll
    for (int a = GRDI_WINDOW_AXES - 1; a >= 0; a--) {
        uint32_t kernel = (uint32_t)t.axis[a].kernel, stride = (uint32_t)t.f.stride[a], next = k / kernel;
        uint32_t at = k - next * kernel + (uint32_t)(t.f.lead[a] - (int32_t)t.axis[a].padding), folded = at / stride;
        tap += folded * tap_scale, tap_scale *= (uint32_t)t.f.taps[a];
        channel += (at - folded * stride) * channel_scale, channel_scale *= stride;
        k = next;
    }
    return tap * (uint32_t)t.f.given + channel * (uint32_t)t.f.channels + c;
}

/* The call's w from the library's, or, BACK, into it, where what is not written is zero. */
template <bool BACK> __global__ void __launch_bounds__(THREADS) turn_kernel(const fold_task t)
{
    uint32_t e = blockIdx.x * THREADS + threadIdx.x;
    if (e >= t.count) return;
    uint32_t taps = (uint32_t)(t.axis[0].kernel * t.axis[1].kernel * t.axis[2].kernel), row = e / taps;
    uint32_t o = row / (uint32_t)t.f.channels, c = row - o * (uint32_t)t.f.channels;
    uint32_t each = (uint32_t)(t.f.taps[0] * t.f.taps[1] * t.f.taps[2] * t.f.given);
    int64_t at = (int64_t)o * each + folded_place(t, e - row * taps, c);
    if (BACK) put(t.to, at, get(t.from, e));
    else put_or_add(t.to, e, get(t.from, at), t.add);
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

/* Without a fold: w with channels innermost. */
fold fold_of(const grdi_call *call, const convolution_state *s, bool on)
{
    fold f = {};
    int64_t channels = operands_of(call, s->kind).w->dims.dim[1], all = channels;
    f.on = on, f.channels = (int32_t)channels;
    for (int a = 0; a < GRDI_WINDOW_AXES; a++) {
        const grdi_window &w = s->w.axis[a];
        int64_t stride = on ? w.stride : 1, behind = (stride - w.padding % stride) % stride;
        f.stride[a] = (int32_t)stride;
        f.lead[a] = (int32_t)(w.padding + (on ? behind : 0));
        f.taps[a] = (int32_t)((f.lead[a] - w.padding + w.kernel + stride - 1) / stride);
        f.in[a] = (int32_t)(w.out - 1 + f.taps[a]);
        all *= stride;
    }
    f.given = (int32_t)(on ? (all + WIDE - 1) / WIDE * WIDE : all);
    return f;
}

/* Elements of the library's w and x, where they are made beside. */
int64_t folded_w(const convolution_state *s)
{
    return s->outputs * s->f.taps[0] * s->f.taps[1] * s->f.taps[2] * s->f.given;
}
int64_t folded_x(const convolution_state *s)
{
    return s->w.samples * s->f.in[0] * s->f.in[1] * s->f.in[2] * s->f.given;
}

/* Few channels, of which a stride or a few zeroes make many that tensor cores take. */
bool folds(const grdi_call *call, const convolution_state *s)
{
    int64_t all = s->w.channels;
    if (s->kind == INPUT_GRADIENT || s->groups > 1 || all >= WIDE || call->in[0].dtype != GRD_BF16) return false;
    for (const grdi_window &w : s->w.axis) {
        if (w.dilation != 1 || w.kernel < w.stride || w.in > 1 << 16 || w.kernel > 1 << 10) return false;
        all *= w.stride;
    }
    return all >= 3;
}

grdi_dnn_plan *plan_one(const grdi_call *call, const convolution_state *s, grd_dtype w)
{
    operands o = operands_of(call, s->kind);
    grdi_convolution c = {};
    c.kind = s->kind;
    c.axes = o.x->dims.rank - 2;
    c.samples = s->w.samples, c.in_channels = s->f.on ? s->f.given : s->w.channels, c.out_channels = s->outputs;
    c.groups = s->groups;
    for (int a = 0; a < GRDI_WINDOW_AXES; a++)
        c.axis[a] = s->f.on ? grdi_window{s->f.in[a], s->w.axis[a].out, s->f.taps[a], 1, 0, 1} : s->w.axis[a];
    c.x = o.x->dtype, c.w = w, c.y = o.y->dtype;
    c.w_inner = s->w_beside || s->taps == 1; /* with one tap both are the same */
    c.bias = call->input_count == 3;
    c.accumulates = call->may_accumulate[0] && !s->w_beside;
    return grdi_dnn_plan_new(&call->device->dnn, &c);
}

/* cuDNN's plan, where it has one: pointers are only known later, and may then not suit it. */
void plan_library(const grdi_call *call, convolution_state *s)
{
    operands o = operands_of(call, s->kind);
    bool sums = s->kind == WEIGHT_GRADIENT && o.w->dtype != o.x->dtype;
    if (folds(call, s)) {
        s->w_beside = true;
        s->f = fold_of(call, s, true);
        if (folded_x(s) <= INT32_MAX && folded_w(s) <= INT32_MAX) s->library = plan_one(call, s, o.x->dtype);
        if (s->library) return;
    }
    s->w_beside = false;
    s->f = fold_of(call, s, false);
    s->library = plan_one(call, s, o.w->dtype);
    if (s->library || !sums || s->plain || folded_w(s) > INT32_MAX) return;
    s->w_beside = true;
    s->library = plan_one(call, s, o.x->dtype);
}

/* Finds room behind the columns; how many bytes there are with it. */
size_t place_beside(const grdi_call *call, convolution_state *s)
{
    size_t each = grd_dtype_size(call->in[0].dtype);
    s->bias_at = grdi_cuda_room(s->columns_bytes);
    s->w_at = s->bias_at;
    if (s->rounds_bias) s->w_at += grdi_cuda_room((size_t)s->outputs * grd_dtype_size(call->out[0].dtype));
    s->x_at = s->w_at + (s->library && s->w_beside ? grdi_cuda_room((size_t)folded_w(s) * each) : 0);
    return s->x_at + (s->library && s->f.on ? (size_t)folded_x(s) * each : 0);
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
    s->rounds_bias = call->input_count == 3 && call->in[2].dtype != call->out[0].dtype;
    call->scratch_bytes = place_beside(call, s);
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

void *bias_of(const grdi_call *call, const convolution_state *s)
{
    if (call->input_count < 3) return nullptr;
    return s->rounds_bias ? (char *)call->scratch + s->bias_at : call->in[2].data;
}

/* The epilogue knows one bias for all groups, which is right for one. */
grd_status bind(grdi_call *call, grd_error *error)
{
    convolution_state *s = (convolution_state *)call->state;
    operands o = operands_of(call, s->kind);
    grdi_product *p = &s->product;
    char *scratch = (char *)call->scratch;
    void *pointers[GRDI_DNN_POINTERS] = {s->f.on ? scratch + s->x_at : o.x->data,
                                         s->w_beside ? scratch + s->w_at : o.w->data, o.y->data, bias_of(call, s)};
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

/* x, and w where it is an operand, as the library has them. */
grd_status fold_operands(const grdi_call *call, const convolution_state *s, fold_task t)
{
    operands o = operands_of(call, s->kind);
    t.from = cells_of(*o.x), t.to = {(char *)call->scratch + s->x_at, o.x->dtype};
    t.count = (uint32_t)(folded_x(s) / WIDE);
    grd_status status = grdi_launch(call, fold_kernel, blocks_for(t.count, THREADS), THREADS, 0, t);
    if (status || s->kind != FORWARD) return status;
    t.from = cells_of(*o.w), t.to = {(char *)call->scratch + s->w_at, o.x->dtype};
    t.count = (uint32_t)grd_dims_count(o.w->dims);
    status = grdi_cuda_clear(call, t.to.data, (size_t)folded_w(s) * grd_dtype_size(o.x->dtype));
    return status ? status : grdi_launch(call, turn_kernel<true>, blocks_for(t.count, THREADS), THREADS, 0, t);
}

grd_status run_library(const grdi_call *call, const convolution_state *s)
{
    grdi_device *device = call->device;
    operands o = operands_of(call, s->kind);
    fold_task t = {};
    t.f = s->f;
    for (int a = 0; a < GRDI_WINDOW_AXES; a++) t.axis[a] = s->w.axis[a];
    grd_status status = s->f.on ? fold_operands(call, s, t) : GRD_OK;
    if (status) return status;
    cudaSetDevice(device->index);
    if (!grdi_cuda_noted(device) && !grdi_dnn_plan_run(s->library, call->accumulate[0] && !s->w_beside)) {
        snprintf(device->why, sizeof device->why, "%s", device->dnn.why);
        return GRD_E_DEVICE;
    }
    if (!s->w_beside || s->kind == FORWARD) return GRD_OK;
    t.from = {(char *)call->scratch + s->w_at, o.x->dtype}, t.to = cells_of(*o.w), t.add = call->accumulate[0];
    t.count = (uint32_t)grd_dims_count(o.w->dims);
    return grdi_launch(call, turn_kernel<false>, blocks_for(t.count, THREADS), THREADS, 0, t);
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
