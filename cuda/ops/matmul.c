/* matmul.c - matmul, linear and the products of ops/epilogue.c as products of cuBLASLt. Operands go there as they lie,
 * transposed or not; those with no stride of 1 are copied to scratch first. */
#include "backend/space.h"
#include "cuda.h"
#include "ops/activation.h"
#include "ops/copy.h"

#include <string.h>

enum { A, B, Y, OPERANDS };

typedef struct matmul_state {
    grdi_product product;
    grdi_space batches;  /* what the library's own batch does not cover, of a, b and y */
    grdi_view packed[2]; /* row-major copies in scratch; dims of rank -1: none */
    size_t packed_at[2], bias_at, parts_at;
    size_t element[OPERANDS];    /* bytes */
    bool rounds_bias, act_after; /* linear: a bias of another dtype than y; an activation with no epilogue */
    bool sums_after;             /* matmul_column_sums: without an epilogue */
} matmul_state;

/* Whether the last two axes of the view are a matrix that the library knows. */
static bool matrix_of(const grdi_view *view, grdi_matrix *m)
{
    int32_t r = view->dims.rank;
    int64_t rows = view->dims.dim[r - 2], columns = view->dims.dim[r - 1];
    int64_t down = view->stride[r - 2], along = view->stride[r - 1];
    *m = (grdi_matrix){.data = view->data, .dtype = view->dtype};
    if ((along == 1 || columns == 1) && (rows == 1 || down >= columns)) {
        m->ld = rows == 1 ? columns : down;
        return true;
    }
    if ((down == 1 || rows == 1) && (columns == 1 || along >= rows)) {
        m->transposed = true;
        m->ld = columns == 1 ? rows : along;
        return true;
    }
    return false;
}

/* A row-major copy of the view, in scratch. */
static void pack(grdi_call *call, matmul_state *s, int which, grdi_view *view)
{
    s->packed[which] = *view;
    grdi_row_major(view->dims, s->packed[which].stride);
    s->packed_at[which] = call->scratch_bytes;
    call->scratch_bytes += grdi_cuda_room((size_t)grd_dims_count(view->dims) * grd_dtype_size(view->dtype));
    *view = s->packed[which];
}

static grd_dims leading(grd_dims dims)
{
    dims.rank -= 2;
    return dims;
}

/* Batch axes: the innermost goes to the library (or into the rows, where one b serves all), the others are walked. */
static void split_batches(matmul_state *s, const grdi_view *views)
{
    grdi_product *p = &s->product;
    grdi_matrix *m[OPERANDS] = {&p->a, &p->b, &p->y};
    grdi_space_start(&s->batches, leading(views[Y].dims));
    for (int i = 0; i < OPERANDS; i++) {
        grdi_view batch = views[i];
        batch.dims = leading(batch.dims);
        grdi_space_add(&s->batches, &batch);
    }
    grdi_space_merge(&s->batches);
    p->batch = 1;
    if (s->batches.rank == 0) return;
    int32_t last = --s->batches.rank;
    for (int i = 0; i < OPERANDS; i++) m[i]->batch_stride = s->batches.stride[i][last];
    p->batch = s->batches.dim[last];
    for (int i = 0; i < OPERANDS; i++)
        for (int32_t axis = 0; axis < last; axis++) m[i]->steps |= (size_t)s->batches.stride[i][axis] * s->element[i];
    bool folds = p->b.batch_stride == 0 && !p->a.transposed && p->a.batch_stride == p->m * p->a.ld &&
                 p->y.batch_stride == p->m * p->y.ld;
    if (!folds) return;
    p->m *= p->batch;
    p->batch = 1;
    p->a.batch_stride = p->y.batch_stride = 0;
}

static matmul_state *new_state(grdi_call *call, grd_error *error)
{
    matmul_state *s = grdi_alloc_zero(1, sizeof *s);
    if (!s) {
        grd_fail(error, GRD_E_MEMORY, "%s: out of memory", call->op->name);
        return NULL;
    }
    s->packed[A].dims.rank = s->packed[B].dims.rank = -1;
    call->state = s;
    call->scratch_bytes = 0;
    return s;
}

static void describe_views(grdi_call *call, matmul_state *s, grdi_view *views)
{
    grdi_product *p = &s->product;
    grdi_matrix *m[OPERANDS] = {&p->a, &p->b, &p->y};
    for (int i = 0; i < OPERANDS; i++) {
        if (!matrix_of(&views[i], m[i]) && i != Y) {
            pack(call, s, i, &views[i]);
            matrix_of(&views[i], m[i]);
        }
        s->element[i] = grd_dtype_size(views[i].dtype);
    }
    p->m = views[Y].dims.dim[views[Y].dims.rank - 2];
    p->n = views[Y].dims.dim[views[Y].dims.rank - 1];
    p->k = views[A].dims.dim[views[A].dims.rank - 1];
    split_batches(s, views);
}

static grd_status matmul_prepare(grdi_call *call, grd_error *error)
{
    matmul_state *s = new_state(call, error);
    if (!s) return GRD_E_MEMORY;
    grdi_view views[OPERANDS] = {call->in[0], call->in[1], call->out[0]};
    describe_views(call, s, views);
    return GRD_OK;
}

static void place_packed(const grdi_call *call, matmul_state *s)
{
    grdi_matrix *m[] = {&s->product.a, &s->product.b};
    for (int i = 0; i < 2; i++) {
        m[i]->data = call->in[i].data;
        if (s->packed[i].dims.rank < 0) continue;
        m[i]->data = s->packed[i].data = (char *)call->scratch + s->packed_at[i];
    }
}

static grd_status matmul_bind(grdi_call *call, grd_error *error)
{
    matmul_state *s = call->state;
    place_packed(call, s);
    s->product.y.data = call->out[0].data;
    return grdi_product_plan(call->device, &s->product, error);
}

static grd_status copy_packed(const grdi_call *call, const matmul_state *s)
{
    grd_status status = GRD_OK;
    for (int i = 0; i < 2 && !status; i++) {
        if (s->packed[i].dims.rank < 0) continue;
        status = grdi_cuda_copy(call, &s->packed[i], &call->in[i], false);
    }
    return status;
}

static grd_status matmul_run(grdi_call *call)
{
    const matmul_state *s = call->state;
    const grdi_product *p = &s->product;
    grd_status status = copy_packed(call, s);
    grdi_cuda_stream(call); /* makes the device current */
    int64_t count = grdi_space_count(&s->batches, s->batches.rank);
    grdi_walk walk;
    grdi_walk_start(&walk, &s->batches, s->batches.rank, 0);
    for (int64_t i = 0; i < count && !status; i++, grdi_walk_next(&walk))
        status = grdi_product_run(call->device, p, (char *)p->a.data + walk.offset[A] * (int64_t)s->element[A],
                                  (char *)p->b.data + walk.offset[B] * (int64_t)s->element[B],
                                  (char *)p->y.data + walk.offset[Y] * (int64_t)s->element[Y], call->accumulate[0]);
    return status;
}

static void release(grdi_call *call)
{
    matmul_state *s = call->state;
    if (s) grdi_product_release(call->device, &s->product);
    grdi_free(s);
    call->state = NULL;
}

/* Both operands of one dtype, which is the result's, or bf16 or f16 that give f32. */
static bool product_dtypes(const grdi_call *call, grd_dtype y)
{
    grd_dtype a = call->in[0].dtype, b = call->in[1].dtype;
    bool known = a == GRD_F32 || a == GRD_BF16 || a == GRD_F16;
    return known && a == b && (y == a || y == GRD_F32);
}

static bool matmul_supports(const grdi_call *call)
{
    return product_dtypes(call, call->out[0].dtype);
}

/* Epilogues know tanh within 2e-5 or so, which is much in f32; in tf32 the product itself is off by more. */
static bool exact_tanh(const grdi_call *call)
{
    return call->in[0].dtype == GRD_F32 && !call->device->modes.tf32;
}

/* ---- linear: y = activation(x w^T + bias), pre = what the activation is applied to ---- */

enum { BIAS = 2, PRE = 1 };

/* x [...,K] as a matrix, if its leading axes lie in one row distance. */
static void rows_of(const grdi_view *x, grdi_view *rows)
{
    grdi_space space;
    grd_dims lead = x->dims;
    lead.rank--;
    int64_t k = x->dims.dim[lead.rank], count = grd_dims_count(lead);
    grdi_view leading_view = *x;
    leading_view.dims = lead;
    grdi_space_start(&space, lead);
    grdi_space_add(&space, &leading_view);
    grdi_space_merge(&space);
    *rows = *x;
    rows->dims = grd_shape(count, k);
    rows->stride[0] = space.rank == 1 ? space.stride[0][0] : space.rank == 0 ? k : 0;
    rows->stride[1] = x->stride[x->dims.rank - 1];
}

/* The matrix seen the other way round. */
static grdi_view turned(const grdi_view *x)
{
    grdi_view y = *x;
    y.dims = grd_shape(x->dims.dim[1], x->dims.dim[0]);
    y.stride[0] = x->stride[1], y.stride[1] = x->stride[0];
    return y;
}

static grd_status linear_prepare(grdi_call *call, grd_error *error)
{
    matmul_state *s = new_state(call, error);
    if (!s) return GRD_E_MEMORY;
    grdi_view views[OPERANDS];
    rows_of(&call->in[0], &views[A]);
    rows_of(&call->out[0], &views[Y]);
    views[B] = turned(&call->in[1]); /* [N,K], read as [K,N] */
    describe_views(call, s, views);
    if (call->input_count <= BIAS || call->in[BIAS].dtype == call->out[0].dtype) return GRD_OK;
    s->rounds_bias = true;
    s->bias_at = call->scratch_bytes;
    call->scratch_bytes += grdi_cuda_room((size_t)s->product.n * grd_dtype_size(call->out[0].dtype));
    return GRD_OK;
}

/* A kernel of its own applies the activation, to what the product left in pre or in y. */
static void activate_after(const grdi_call *call, matmul_state *s)
{
    s->act_after = true;
    s->product.epilogue = call->input_count > BIAS ? GRDI_EPILOGUE_BIAS : GRDI_EPILOGUE_NONE;
    s->product.y.data = call->out[PRE].data ? call->out[PRE].data : call->out[0].data;
}

/* The epilogue, and what is left to do after it. */
static void choose_epilogue(const grdi_call *call, matmul_state *s)
{
    grdi_product *p = &s->product;
    const grdi_view *y = &call->out[0], *pre = &call->out[PRE];
    grd_activation activation = (grd_activation)grdi_attr_int(call->attrs, "activation");
    bool bias = call->input_count > BIAS, keeps = pre->data != NULL;
    bool aux = keeps && pre->dtype == y->dtype && p->n % 8 == 0 && (uintptr_t)pre->data % 16 == 0;
    p->epilogue = bias ? GRDI_EPILOGUE_BIAS : GRDI_EPILOGUE_NONE;
    p->y.data = y->data ? y->data : pre->data;
    s->act_after = false;
    if (activation == GRD_ACTIVATION_NONE || !y->data) return;
    bool gelu = bias && activation == GRD_ACTIVATION_GELU_TANH && !exact_tanh(call);
    if (bias && !keeps && activation == GRD_ACTIVATION_RELU) p->epilogue = GRDI_EPILOGUE_RELU;
    else if (gelu && !keeps) p->epilogue = GRDI_EPILOGUE_GELU;
    else if (gelu && aux) {
        p->epilogue = GRDI_EPILOGUE_GELU_AUX;
        p->aux = pre->data;
        p->aux_ld = p->n;
    } else {
        activate_after(call, s);
    }
}

static grd_status linear_bind(grdi_call *call, grd_error *error)
{
    matmul_state *s = call->state;
    place_packed(call, s);
    choose_epilogue(call, s);
    s->product.base = call->base;
    if (call->input_count > BIAS)
        s->product.bias = s->rounds_bias ? (char *)call->scratch + s->bias_at : call->in[BIAS].data;
    if (s->product.epilogue <= GRDI_EPILOGUE_BIAS) return grdi_product_plan(call->device, &s->product, error);
    if (grdi_product_plan(call->device, &s->product, NULL) == GRD_OK) return GRD_OK;
    activate_after(call, s); /* the library has no algorithm with that epilogue for these types and shapes */
    return grdi_product_plan(call->device, &s->product, error);
}

static grd_status round_bias(const grdi_call *call, const matmul_state *s)
{
    grdi_view rounded = call->in[BIAS];
    rounded.dtype = call->out[0].dtype;
    rounded.data = (void *)s->product.bias;
    return grdi_cuda_copy(call, &rounded, &call->in[BIAS], false);
}

static grd_status linear_run(grdi_call *call)
{
    const matmul_state *s = call->state;
    const grdi_product *p = &s->product;
    grd_status status = s->rounds_bias ? round_bias(call, s) : GRD_OK;
    if (!status && s->packed[A].dims.rank >= 0) {
        grdi_view packed = s->packed[A];
        packed.dims = call->in[0].dims;
        grdi_row_major(packed.dims, packed.stride);
        status = grdi_cuda_copy(call, &packed, &call->in[0], false);
    }
    if (!status && s->packed[B].dims.rank >= 0) {
        grdi_view from = turned(&call->in[1]);
        status = grdi_cuda_copy(call, &s->packed[B], &from, false);
    }
    grdi_cuda_stream(call); /* makes the device current */
    if (!status) status = grdi_product_run(call->device, p, p->a.data, p->b.data, p->y.data, false);
    if (!status && s->act_after) {
        grdi_view from = call->out[0];
        from.data = p->y.data;
        status =
            grdi_cuda_activate(call, (grd_activation)grdi_attr_int(call->attrs, "activation"), &call->out[0], &from);
    }
    return status;
}

/* pre lies as y does, where there is one: without an activation nobody asks for it. */
static bool linear_supports(const grdi_call *call)
{
    bool none = grdi_attr_int(call->attrs, "activation") == GRD_ACTIVATION_NONE;
    return product_dtypes(call, call->out[0].dtype) && (none || call->out[0].dtype == call->out[PRE].dtype) &&
           (call->input_count <= BIAS || call->in[BIAS].dtype == GRD_F32 || call->in[BIAS].dtype == GRD_BF16 ||
            call->in[BIAS].dtype == GRD_F16);
}

/* What is added to the product is added before an activation, so only where there is none. */
static bool plain_supports(const grdi_call *call)
{
    return grdi_attr_int(call->attrs, "activation") == GRD_ACTIVATION_NONE && linear_supports(call);
}

/* ---- matmul_gelu_tanh_backward: y = (g w) gelu_tanh'(x) ---- */

enum { AT = 2 };

static grd_status slope_bind(grdi_call *call, grd_error *error)
{
    matmul_state *s = call->state;
    grdi_product *p = &s->product;
    const grdi_view *at = &call->in[AT];
    place_packed(call, s);
    p->y.data = call->out[0].data;
    p->aux = at->data;
    p->aux_ld = p->n;
    p->epilogue = GRDI_EPILOGUE_DGELU;
    bool fits =
        at->dtype == call->out[0].dtype && p->n % 8 == 0 && (uintptr_t)at->data % 16 == 0 && !exact_tanh(call);
    s->act_after = !(fits && grdi_product_plan(call->device, p, NULL) == GRD_OK);
    if (!s->act_after) return GRD_OK;
    p->epilogue = GRDI_EPILOGUE_NONE;
    return grdi_product_plan(call->device, p, error);
}

static grd_status slope_run(grdi_call *call)
{
    const matmul_state *s = call->state;
    const grdi_product *p = &s->product;
    grd_status status = copy_packed(call, s);
    grdi_cuda_stream(call); /* makes the device current */
    if (!status) status = grdi_product_run(call->device, p, p->a.data, p->b.data, p->y.data, false);
    if (!status && s->act_after) status = grdi_cuda_slope(call, &call->out[0], &call->out[0], &call->in[AT]);
    return status;
}

static bool slope_supports(const grdi_call *call)
{
    grd_dtype at = call->in[AT].dtype;
    return product_dtypes(call, call->out[0].dtype) && (at == GRD_F32 || at == GRD_BF16 || at == GRD_F16);
}

/* ---- matmul_column_sums: y = g^T x, and the sums of g's columns ---- */

enum { SUMS = 1 };

static grd_status sums_prepare(grdi_call *call, grd_error *error)
{
    matmul_state *s = new_state(call, error);
    if (!s) return GRD_E_MEMORY;
    grdi_view views[OPERANDS] = {turned(&call->in[0]), call->in[1], call->out[0]};
    describe_views(call, s, views);
    s->bias_at = call->scratch_bytes;
    if (call->may_accumulate[SUMS]) /* the library overwrites them */
        call->scratch_bytes += grdi_cuda_room((size_t)s->product.m * grd_dtype_size(call->out[SUMS].dtype));
    s->parts_at = call->scratch_bytes;
    call->scratch_bytes += grdi_cuda_column_sums_bytes(call, s->product.k, s->product.m);
    return GRD_OK;
}

static grd_status sums_bind(grdi_call *call, grd_error *error)
{
    matmul_state *s = call->state;
    grdi_product *p = &s->product;
    place_packed(call, s);
    p->y.data = call->out[0].data;
    p->bias = call->may_accumulate[SUMS] ? (char *)call->scratch + s->bias_at : call->out[SUMS].data;
    p->epilogue = GRDI_EPILOGUE_BGRAD;
    bool both = call->out[0].data && call->out[SUMS].data && call->out[SUMS].dtype == call->out[0].dtype;
    s->sums_after = !(both && grdi_product_plan(call->device, p, NULL) == GRD_OK && !grdi_sums_apart(call, p));
    if (!s->sums_after || !call->out[0].data) return GRD_OK;
    p->epilogue = GRDI_EPILOGUE_NONE;
    return grdi_product_plan(call->device, p, error);
}

static grd_status sums_run(grdi_call *call)
{
    const matmul_state *s = call->state;
    const grdi_product *p = &s->product;
    grd_status status = GRD_OK;
    if (s->packed[A].dims.rank >= 0) {
        grdi_view from = turned(&call->in[0]);
        status = grdi_cuda_copy(call, &s->packed[A], &from, false);
    }
    if (!status && s->packed[B].dims.rank >= 0) status = grdi_cuda_copy(call, &s->packed[B], &call->in[1], false);
    grdi_cuda_stream(call); /* makes the device current */
    if (!status && call->out[0].data)
        status = grdi_product_run(call->device, p, p->a.data, p->b.data, p->y.data, call->accumulate[0]);
    if (status || !call->out[SUMS].data) return status;
    if (s->sums_after) return grdi_cuda_column_sums(call, &call->out[SUMS], &call->in[0],
                                                       (char *)call->scratch + s->parts_at, call->accumulate[SUMS]);
    if (p->bias == call->out[SUMS].data) return GRD_OK;
    grdi_view made = call->out[SUMS];
    made.data = (void *)p->bias;
    return grdi_cuda_copy(call, &call->out[SUMS], &made, call->accumulate[SUMS]);
}

static const grdi_kernel kernel_slope = {.op = "matmul_gelu_tanh_backward",
                                         .rows_in = 3,
                                         .supports = slope_supports,
                                         .prepare = matmul_prepare,
                                         .bind = slope_bind,
                                         .run = slope_run,
                                         .release = release};
static const grdi_kernel kernel_sums = {.op = "matmul_column_sums",
                                        .rows_in = 3,
                                        .accumulates = 3,
                                        .supports = matmul_supports,
                                        .prepare = sums_prepare,
                                        .bind = sums_bind,
                                        .run = sums_run,
                                        .release = release};
static const grdi_kernel kernel_matmul = {.op = "matmul",
                                          .strided_in = 3,
                                          .rows_in = 3,
                                          .strided_out = 1,
                                          .accumulates = 1,
                                          .supports = matmul_supports,
                                          .prepare = matmul_prepare,
                                          .bind = matmul_bind,
                                          .run = matmul_run,
                                          .release = release};
static const grdi_kernel kernel_plain = {.op = "linear",
                                         .strided_in = 3,
                                         .rows_in = 3,
                                         .adds_base = true,
                                         .supports = plain_supports,
                                         .prepare = linear_prepare,
                                         .bind = linear_bind,
                                         .run = linear_run,
                                         .release = release};
/* Where rows are not of multiples of 8, cuBLASLt rounds a narrow product before it adds the bias. */
static const grdi_kernel kernel_linear = {.op = "linear",
                                          .strided_in = 3,
                                          .rows_in = 3,
                                          .rounds_sums = 3,
                                          .supports = linear_supports,
                                          .prepare = linear_prepare,
                                          .bind = linear_bind,
                                          .run = linear_run,
                                          .release = release};

extern const grdi_kernel *const grdi_cuda_kernels_matmul[];
const grdi_kernel *const grdi_cuda_kernels_matmul[] = {&kernel_matmul, &kernel_plain, &kernel_linear,
                                                       &kernel_slope,  &kernel_sums,  NULL};
