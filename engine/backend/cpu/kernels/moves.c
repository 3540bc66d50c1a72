/* moves.c - ops that only move elements or fill: concat, pad, flip, tril, triu, take, gather, one_hot, full, arange. */
#include "backend/cpu/kernels/run.h"
#include "backend/space.h"
#include "backend/cpu/parallel.h"

enum { GRAIN_BYTES = 64 << 10 };

/* ---- blocks: a tensor copied into a part of another ---- */

enum { FROM, TO };

typedef struct block {
    grdi_space space;
    const char *from;
    char *to;
    int64_t size_bytes, row, rows; /* of an element; elements in a row */
} block;

static void copy_strided(char *to, int64_t to_stride, const char *from, int64_t from_stride, int64_t count,
                         int64_t size_bytes)
{
    if (to_stride == 1 && from_stride == 1) {
        memcpy(to, from, (size_t)(count * size_bytes));
        return;
    }
    to_stride *= size_bytes;
    from_stride *= size_bytes;
    for (int64_t i = 0; i < count; i++, to += to_stride, from += from_stride) {
        switch (size_bytes) {
        case 1: *to = *from; break;
        case 2: memcpy(to, from, 2); break;
        case 4: memcpy(to, from, 4); break;
        default: memcpy(to, from, 8); break;
        }
    }
}

static void block_range(int64_t begin, int64_t end, int32_t thread, void *context)
{
    (void)thread;
    const block *b = context;
    int32_t last = b->space.rank - 1;
    grdi_walk walk;
    grdi_walk_start(&walk, &b->space, last, begin);
    for (int64_t row = begin; row < end; row++, grdi_walk_next(&walk))
        copy_strided(b->to + walk.offset[TO] * b->size_bytes, b->space.stride[TO][last],
                     b->from + walk.offset[FROM] * b->size_bytes, b->space.stride[FROM][last], b->row, b->size_bytes);
}

/* Copies `in` to where `out` begins, with the strides of `out`. */
static void copy_block(int32_t threads, const grdi_view *in, const grdi_view *out)
{
    block b = {.from = in->data, .to = out->data, .size_bytes = (int64_t)grd_dtype_size(in->dtype)};
    grdi_view to = *out;
    to.dims = in->dims;
    grdi_space_start(&b.space, in->dims);
    grdi_space_add(&b.space, in);
    grdi_space_add(&b.space, &to);
    grdi_space_merge(&b.space);
    if (b.space.rank == 0) {
        memcpy(b.to, b.from, (size_t)b.size_bytes);
        return;
    }
    b.row = b.space.dim[b.space.rank - 1];
    b.rows = grdi_space_count(&b.space, b.space.rank - 1);
    grdi_parallel_for(threads, b.rows, GRAIN_BYTES / (b.row * b.size_bytes) + 1, block_range, &b);
}

static void *at_offset(const grdi_view *view, int64_t offset)
{
    return (char *)view->data + offset * (int64_t)grd_dtype_size(view->dtype);
}

static int64_t positive_axis(const grdi_call *call)
{
    int64_t axis = grdi_attr_int(call->attrs, "axis");
    return axis < 0 ? axis + call->in[0].dims.rank : axis;
}

static grd_status concat_run(grdi_call *call)
{
    int64_t axis = positive_axis(call), start = 0;
    for (int32_t i = 0; i < call->input_count; i++) {
        grdi_view part = call->out[0];
        part.data = at_offset(&call->out[0], start * part.stride[axis]);
        copy_block(call->threads, &call->in[i], &part);
        start += call->in[i].dims.dim[axis];
    }
    return GRD_OK;
}

static grd_status flip_run(grdi_call *call)
{
    int64_t axis = positive_axis(call);
    grdi_view in = call->in[0];
    in.data = at_offset(&in, (in.dims.dim[axis] - 1) * in.stride[axis]);
    in.stride[axis] = -in.stride[axis];
    copy_block(call->threads, &in, &call->out[0]);
    return GRD_OK;
}

/* ---- filling ---- */

typedef union element {
    float f32;
    uint16_t bf16;
    int32_t i32;
    uint8_t byte;
} element;

static bool fills(grd_dtype dtype) { return dtype == GRD_I32 || grdi_run_dtype(dtype); }

static element element_of(grd_dtype dtype, double value)
{
    element e = {.f32 = 0};
    if (dtype == GRD_F32)
        e.f32 = (float)value;
    else if (dtype == GRD_BF16)
        e.bf16 = grdi_f32_to_bf16((float)value);
    else if (dtype == GRD_I32)
        e.i32 = (int32_t)value;
    else
        e.byte = value != 0;
    return e;
}

typedef struct fill {
    char *to;
    int64_t size_bytes;
    element value;
} fill;

static void fill_range(int64_t begin, int64_t end, int32_t thread, void *context)
{
    (void)thread;
    const fill *f = context;
    if (f->size_bytes == 4) {
        int32_t *to = (int32_t *)f->to, value = f->value.i32;
        for (int64_t i = begin; i < end; i++)
            to[i] = value;
    } else if (f->size_bytes == 2) {
        uint16_t *to = (uint16_t *)f->to, value = f->value.bf16;
        for (int64_t i = begin; i < end; i++)
            to[i] = value;
    } else {
        memset(f->to + begin, f->value.byte, (size_t)(end - begin));
    }
}

static void fill_all(int32_t threads, const grdi_view *out, double value)
{
    fill f = {out->data, (int64_t)grd_dtype_size(out->dtype), element_of(out->dtype, value)};
    grdi_parallel_for(threads, grd_dims_count(out->dims), GRAIN_BYTES / f.size_bytes, fill_range, &f);
}

static grd_status full_run(grdi_call *call)
{
    fill_all(call->threads, &call->out[0], grdi_attr_float(call->attrs, "value"));
    return GRD_OK;
}

static grd_status arange_run(grdi_call *call)
{
    const grdi_view *out = &call->out[0];
    double start = grdi_attr_float(call->attrs, "start"), step = grdi_attr_float(call->attrs, "step");
    for (int64_t i = 0; i < out->dims.dim[0]; i++) {
        double value = start + (double)i * step;
        if (out->dtype == GRD_I32)
            ((int32_t *)out->data)[i] = (int32_t)value;
        else
            grdi_run_put(out->data, out->dtype, i, (float)value);
    }
    return GRD_OK;
}

static grd_status pad_run(grdi_call *call)
{
    const grd_attr *before = grdi_attr_ints(call->attrs, "before");
    grdi_view part = call->out[0];
    int64_t offset = 0;
    for (int32_t axis = 0; axis < part.dims.rank; axis++)
        offset += before->ints[axis] * part.stride[axis];
    fill_all(call->threads, &call->out[0], grdi_attr_float(call->attrs, "value"));
    part.data = at_offset(&part, offset);
    copy_block(call->threads, &call->in[0], &part);
    return GRD_OK;
}

static grd_status one_hot_run(grdi_call *call)
{
    const grdi_view *out = &call->out[0];
    int64_t count = grd_dims_count(call->in[0].dims), depth = grdi_attr_int(call->attrs, "depth");
    size_t size_bytes = grd_dtype_size(out->dtype);
    element one = element_of(out->dtype, 1);
    fill_all(call->threads, out, 0);
    for (int64_t i = 0; i < count; i++) {
        int64_t id = ((const int32_t *)call->in[0].data)[i];
        if (id >= 0 && id < depth)
            memcpy(at_offset(out, i * depth + id), &one, size_bytes);
    }
    return GRD_OK;
}

/* ---- tril, triu ---- */

static void triangle_range(int64_t begin, int64_t end, int32_t thread, void *context)
{
    (void)thread;
    const grdi_call *call = context;
    const grdi_view *in = &call->in[0], *out = &call->out[0];
    int32_t rank = in->dims.rank;
    int64_t height = in->dims.dim[rank - 2], width = in->dims.dim[rank - 1], size = (int64_t)grd_dtype_size(in->dtype);
    int64_t diagonal = grdi_attr_int(call->attrs, "diagonal");
    bool lower = strcmp(call->op->name, "tril") == 0;
    for (int64_t row = begin; row < end; row++) {
        int64_t edge = row % height + diagonal + lower; /* columns before it are lower */
        edge = edge < 0 ? 0 : edge > width ? width : edge;
        int64_t first = lower ? 0 : edge, count = lower ? edge : width - edge, cleared = lower ? edge : 0;
        char *to = (char *)out->data + row * width * size;
        const char *from = (const char *)in->data + row * width * size;
        if (to != from)
            memcpy(to + first * size, from + first * size, (size_t)(count * size));
        memset(to + cleared * size, 0, (size_t)((width - count) * size));
    }
}

static grd_status triangle_run(grdi_call *call)
{
    grd_dims dims = call->in[0].dims;
    int64_t width = dims.dim[dims.rank - 1];
    grdi_parallel_for(call->threads, grd_dims_count(dims) / width, GRAIN_BYTES / 4 / width + 1, triangle_range, call);
    return GRD_OK;
}

/* ---- take, gather ---- */

static void put_missing(const grdi_view *out, int64_t offset, int64_t count)
{
    element nan = element_of(out->dtype, out->dtype == GRD_F32 || out->dtype == GRD_BF16 ? NAN : 0);
    for (int64_t i = 0; i < count; i++)
        memcpy(at_offset(out, offset + i), &nan, grd_dtype_size(out->dtype));
}

/* Slices [begin, end) of outer axes times ids. */
static void take_range(int64_t begin, int64_t end, int32_t thread, void *context)
{
    (void)thread;
    const grdi_call *call = context;
    const grdi_view *in = &call->in[0], *out = &call->out[0];
    int64_t axis = positive_axis(call), ids = call->in[1].dims.dim[0], size = in->dims.dim[axis], inner = 1;
    for (int32_t a = (int32_t)axis + 1; a < in->dims.rank; a++)
        inner *= in->dims.dim[a];
    for (int64_t slice = begin; slice < end; slice++) {
        int64_t id = ((const int32_t *)call->in[1].data)[slice % ids];
        if (id < 0 || id >= size)
            put_missing(out, slice * inner, inner);
        else
            memcpy(at_offset(out, slice * inner), at_offset(in, (slice / ids * size + id) * inner),
                   (size_t)inner * grd_dtype_size(in->dtype));
    }
}

static grd_status take_run(grdi_call *call)
{
    int64_t axis = positive_axis(call), count = grd_dims_count(call->out[0].dims), slices = 1;
    for (int32_t a = 0; a <= axis; a++)
        slices *= call->out[0].dims.dim[a];
    grdi_parallel_for(call->threads, slices, GRAIN_BYTES / 4 * slices / count + 1, take_range, call);
    return GRD_OK;
}

static void gather_range(int64_t begin, int64_t end, int32_t thread, void *context)
{
    (void)thread;
    const grdi_call *call = context;
    const grdi_view *in = &call->in[0], *out = &call->out[0];
    int64_t axis = positive_axis(call), step = in->stride[axis], size = in->dims.dim[axis];
    size_t size_bytes = grd_dtype_size(in->dtype);
    grdi_space space;
    grdi_space_start(&space, call->in[1].dims);
    space.operands = 1;
    for (int32_t a = 0; a < in->dims.rank; a++)
        space.stride[0][a] = a == axis ? 0 : in->stride[a];
    grdi_walk walk;
    grdi_walk_start(&walk, &space, space.rank, begin);
    for (int64_t i = begin; i < end; i++, grdi_walk_next(&walk)) {
        int64_t id = ((const int32_t *)call->in[1].data)[i];
        if (id < 0 || id >= size)
            put_missing(out, i, 1);
        else
            memcpy(at_offset(out, i), at_offset(in, walk.offset[0] + id * step), size_bytes);
    }
}

static grd_status gather_run(grdi_call *call)
{
    grdi_parallel_for(call->threads, grd_dims_count(call->in[1].dims), GRAIN_BYTES / 16, gather_range, call);
    return GRD_OK;
}

/* Bytes are moved as they are. */
static bool any_dtype(const grdi_call *call)
{
    for (int32_t i = 0; i < call->input_count; i++)
        if (call->in[i].dtype != call->out[0].dtype)
            return false;
    return true;
}

static bool fills_output(const grdi_call *call) { return fills(call->out[0].dtype); }
static bool moves_and_fills(const grdi_call *call)
{
    return fills_output(call) && call->in[0].dtype == call->out[0].dtype;
}

static const grdi_kernel kernel_concat = {.op = "concat",
                                          .strided_in = UINT32_MAX,
                                          .rows_in = UINT32_MAX,
                                          .strided_out = 1,
                                          .supports = any_dtype,
                                          .run = concat_run};
static const grdi_kernel kernel_flip = {
    .op = "flip", .strided_in = 1, .rows_in = 1, .strided_out = 1, .supports = any_dtype, .run = flip_run};
static const grdi_kernel kernel_full = {.op = "full", .supports = fills_output, .run = full_run};
static const grdi_kernel kernel_arange = {.op = "arange", .supports = fills_output, .run = arange_run};
static const grdi_kernel kernel_pad = {
    .op = "pad", .strided_in = 1, .rows_in = 1, .supports = moves_and_fills, .run = pad_run};
static const grdi_kernel kernel_one_hot = {.op = "one_hot", .supports = fills_output, .run = one_hot_run};
static const grdi_kernel kernel_tril = {.op = "tril", .in_place = 1, .supports = any_dtype, .run = triangle_run};
static const grdi_kernel kernel_triu = {.op = "triu", .in_place = 1, .supports = any_dtype, .run = triangle_run};
static const grdi_kernel kernel_take = {.op = "take", .supports = moves_and_fills, .run = take_run};
static const grdi_kernel kernel_gather = {
    .op = "gather", .strided_in = 1, .rows_in = 1, .supports = moves_and_fills, .run = gather_run};

const grdi_kernel *const GRDI_ISA_TABLE(moves)[] = {&kernel_concat, &kernel_flip,    &kernel_full, &kernel_arange,
                                                    &kernel_pad,    &kernel_one_hot, &kernel_tril, &kernel_triu,
                                                    &kernel_take,   &kernel_gather,  NULL};
