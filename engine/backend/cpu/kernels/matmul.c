/* matmul.c - ops matmul and linear: batches folded into rows where strides allow, the rest in parallel or one
 * after another. */
#include "backend/cpu/kernels/gemm_finish.h"
#include "backend/cpu/onednn.h"
#include "backend/cpu/parallel.h"
#include "base/memory.h"

/* What prepare() finds out: one product, done for each of `batches` matrices. */
typedef struct matmul_state {
    grdi_gemm g;  /* without pointers */
    int32_t rank; /* batch dimensions left after folding */
    int64_t dim[GRD_RANK_MAX], a_step[GRD_RANK_MAX], b_step[GRD_RANK_MAX], c_step[GRD_RANK_MAX], y_step[GRD_RANK_MAX];
    int64_t batches;
    int64_t grain;        /* batches worth a thread */
    bool by_batch;        /* threads take whole matrices, else pieces of each */
    grdi_onednn *library; /* NULL: our own product */
    size_t each_bytes;    /* scratch of one thread, by batch */
} matmul_state;

static bool float_dtypes(const grdi_call *call)
{
    for (int32_t i = 0; i < call->input_count; i++)
        if (call->in[i].dtype != GRD_F32 && call->in[i].dtype != GRD_BF16)
            return false;
    for (int32_t o = 0; o < call->output_count; o++)
        if (call->out[o].dtype != GRD_F32 && call->out[o].dtype != GRD_BF16)
            return false;
    return true;
}

/* Stride of an operand along the batch dimension that is `back` before its last but one; 0 where it is broadcast. */
static int64_t batch_step(const grdi_view *v, int32_t back)
{
    int32_t axis = v->dims.rank - 2 - back;
    return axis >= 0 && v->dims.dim[axis] != 1 ? v->stride[axis] : 0;
}

/* Takes batch dimensions from the inside out; one that continues the rows of A, C and y, for one B, becomes rows. */
static void fold_batches(matmul_state *s, const grdi_view *a, const grdi_view *b, const grdi_view *c,
                         const grdi_view *y)
{
    s->batches = 1;
    for (int32_t back = 1; back <= c->dims.rank - 2; back++) {
        int64_t count = c->dims.dim[c->dims.rank - 2 - back];
        if (count == 1)
            continue;
        int64_t a_step = batch_step(a, back), b_step = batch_step(b, back), c_step = batch_step(c, back),
                y_step = batch_step(y, back);
        bool one_row = s->g.m == 1; /* whose stride says nothing yet */
        if (s->rank == 0 && b_step == 0 &&
            (one_row ||
             (a_step == s->g.m * s->g.a_row && c_step == s->g.m * s->g.c_row && y_step == s->g.m * s->g.y_row))) {
            if (one_row)
                s->g.a_row = a_step, s->g.c_row = c_step, s->g.y_row = y_step;
            s->g.m *= count;
            continue;
        }
        int32_t i = s->rank++;
        s->dim[i] = count, s->batches *= count;
        s->a_step[i] = a_step, s->b_step[i] = b_step, s->c_step[i] = c_step, s->y_step[i] = y_step;
    }
}

static grd_status set_up(grdi_call *call, matmul_state *s)
{
    double work = (double)s->g.m * (double)s->g.n * (double)s->g.k;
    /* the library knows one matrix of C, whose rows must lie alike in C and y; small ones are better done by batch */
    if ((s->batches == 1 || work > 1e6) && (s->g.activation == GRDI_ACT_NONE || s->g.c_row == s->g.y_row)) {
        grdi_gemm g = s->g;
        g.add = call->may_accumulate[0];
        s->library = grdi_onednn_new(&g, GRDI_OWN_BF16_FROM);
        if (s->library) {
            call->scratch_bytes = grdi_onednn_scratch(s->library);
            return GRD_OK;
        }
    }
    s->grain = work > 0 && work < 1e5 ? (int64_t)(1e5 / work) + 1 : 1;
    s->by_batch = s->batches > 1 && (work < 2e5 || s->batches % call->threads == 0 || s->batches >= 4 * call->threads);
    if (s->by_batch) {
        s->each_bytes = (GRDI_ISA_NAME(grdi_gemm_scratch)(&s->g) + 63) / 64 * 64;
        call->scratch_bytes = s->each_bytes * (size_t)call->threads;
    } else {
        call->scratch_bytes = GRDI_ISA_NAME(grdi_gemm_all_scratch)(&s->g, call->threads);
    }
    return GRD_OK;
}

static matmul_state *new_state(grdi_call *call, grd_error *error)
{
    matmul_state *s = grdi_alloc_zero(1, sizeof *s);
    if (!s)
        grd_fail(error, GRD_E_MEMORY, "%s: out of memory", call->op->name);
    call->state = s;
    return s;
}

static grd_status matmul_prepare(grdi_call *call, grd_error *error)
{
    matmul_state *s = new_state(call, error);
    if (!s)
        return GRD_E_MEMORY;
    const grdi_view *a = &call->in[0], *b = &call->in[1], *c = &call->out[0];
    const int32_t ar = a->dims.rank, br = b->dims.rank, cr = c->dims.rank;
    s->g = (grdi_gemm){.m = a->dims.dim[ar - 2],
                       .n = b->dims.dim[br - 1],
                       .k = a->dims.dim[ar - 1],
                       .a_row = a->stride[ar - 2],
                       .a_col = a->stride[ar - 1],
                       .b_row = b->stride[br - 2],
                       .b_col = b->stride[br - 1],
                       .c_row = c->stride[cr - 2],
                       .y_row = c->stride[cr - 2],
                       .a_type = a->dtype,
                       .b_type = b->dtype,
                       .c_type = c->dtype,
                       .a_round = a->rounded,
                       .b_round = b->rounded};
    fold_batches(s, a, b, c, c);
    return set_up(call, s);
}

/* x [...,K], w [N,K], bias [N] -> y = activation(pre), pre [...,N] */
static grd_status linear_prepare(grdi_call *call, grd_error *error)
{
    matmul_state *s = new_state(call, error);
    if (!s)
        return GRD_E_MEMORY;
    const grdi_view *w = &call->in[1];
    grdi_view x = call->in[0], y = call->out[0], pre = call->out[1];
    if (x.dims.rank == 1) { /* [K] is [1,K] */
        grdi_view *views[] = {&x, &y, &pre};
        for (int32_t i = 0; i < 3; i++) {
            views[i]->dims = grd_shape(1, views[i]->dims.dim[0]);
            views[i]->stride[1] = views[i]->stride[0];
        }
    }
    const int32_t rank = x.dims.rank;
    s->g = (grdi_gemm){.m = x.dims.dim[rank - 2],
                       .n = w->dims.dim[0],
                       .k = w->dims.dim[1],
                       .a_row = x.stride[rank - 2],
                       .a_col = x.stride[rank - 1],
                       .b_row = w->stride[1],
                       .b_col = w->stride[0],
                       .c_row = pre.stride[rank - 2],
                       .y_row = y.stride[rank - 2],
                       .a_type = x.dtype,
                       .b_type = w->dtype,
                       .c_type = y.dtype,
                       .a_round = x.rounded,
                       .b_round = w->rounded,
                       .bias = call->input_count == 3 ? w : NULL, /* only says that there is one */
                       .bias_type = call->input_count == 3 ? call->in[2].dtype : GRD_F32,
                       .activation = (grdi_activation)grdi_attr_int(call->attrs, "activation")};
    if (s->g.activation == GRDI_ACT_NONE) /* y takes the sums */
        pre = y, s->g.c_row = s->g.y_row;
    grdi_view none = *w;
    none.dims.rank = 2; /* one w for all */
    fold_batches(s, &x, &none, &pre, &y);
    return set_up(call, s);
}

static void *element(const void *data, grd_dtype type, int64_t offset)
{
    return data ? (char *)data + offset * (int64_t)grd_dtype_size(type) : NULL;
}

static grdi_gemm batch_product(const matmul_state *s, const grdi_gemm *first, int64_t batch)
{
    grdi_gemm g = *first;
    int64_t a = 0, b = 0, c = 0, y = 0;
    for (int32_t i = 0; i < s->rank; i++) { /* innermost first */
        int64_t at = batch % s->dim[i];
        batch /= s->dim[i];
        a += at * s->a_step[i], b += at * s->b_step[i], c += at * s->c_step[i], y += at * s->y_step[i];
    }
    g.a = element(g.a, g.a_type, a), g.b = element(g.b, g.b_type, b);
    g.c = element(g.c, g.c_type, c), g.y = element(g.y, g.c_type, y);
    return g;
}

typedef struct batches {
    const matmul_state *s;
    const grdi_gemm *first;
    char *scratch;
} batches;

static void run_batches(int64_t begin, int64_t end, int32_t thread, void *context)
{
    const batches *x = context;
    for (int64_t batch = begin; batch < end; batch++) {
        grdi_gemm g = batch_product(x->s, x->first, batch);
        GRDI_ISA_NAME(grdi_gemm)(&g, x->scratch + (size_t)thread * x->s->each_bytes);
    }
}

static void activate_rows(int64_t begin, int64_t end, int32_t thread, void *context)
{
    (void)thread;
    for (int64_t row = begin; row < end; row++)
        gemm_activate_row(context, row);
}

static grd_status run_library(grdi_call *call, grdi_gemm *g)
{
    const matmul_state *s = call->state;
    grd_status status = grdi_onednn_run(s->library, g, call->scratch);
    if (status == GRD_OK && g->activation != GRDI_ACT_NONE)
        grdi_parallel_for(call->threads, g->m, 1 + 4096 / (g->n + 1), activate_rows, g);
    return status;
}

static grd_status run_products(grdi_call *call, grdi_gemm *first)
{
    const matmul_state *s = call->state;
    if (s->by_batch) {
        batches context = {s, first, call->scratch};
        grdi_parallel_for(call->threads, s->batches, s->grain, run_batches, &context);
        return GRD_OK;
    }
    grd_status status = GRD_OK;
    for (int64_t batch = 0; batch < s->batches && status == GRD_OK; batch++) {
        grdi_gemm g = batch_product(s, first, batch);
        if (s->library)
            status = run_library(call, &g);
        else
            GRDI_ISA_NAME(grdi_gemm_all)(&g, call->threads, call->scratch);
    }
    return status;
}

static grd_status matmul_run(grdi_call *call)
{
    const matmul_state *s = call->state;
    grdi_gemm g = s->g;
    g.a = call->in[0].data, g.b = call->in[1].data, g.c = call->out[0].data;
    g.add = call->accumulate[0];
    return g.c ? run_products(call, &g) : GRD_OK;
}

static grd_status linear_run(grdi_call *call)
{
    const matmul_state *s = call->state;
    grdi_gemm g = s->g;
    g.a = call->in[0].data, g.b = call->in[1].data;
    g.bias = call->input_count == 3 ? call->in[2].data : NULL;
    if (g.activation == GRDI_ACT_NONE) {
        g.c = call->out[0].data;
    } else {
        g.c = call->out[1].data, g.y = call->out[0].data;
        if (!g.y) /* only the value before the activation is wanted */
            g.activation = GRDI_ACT_NONE;
    }
    return g.c || g.y ? run_products(call, &g) : GRD_OK;
}

static void release(grdi_call *call)
{
    matmul_state *s = call->state;
    if (s)
        grdi_onednn_free(s->library);
    grdi_free(s);
    call->state = NULL;
}

static const grdi_kernel matmul = {.op = "matmul",
                                   .strided_in = 3,
                                   .rounds_in = 3,
                                   .strided_out = 1,
                                   .accumulates = 1,
                                   .supports = float_dtypes,
                                   .prepare = matmul_prepare,
                                   .run = matmul_run,
                                   .release = release};
static const grdi_kernel linear = {.op = "linear",
                                   .strided_in = 3,
                                   .rounds_in = 3,
                                   .strided_out = 3,
                                   .supports = float_dtypes,
                                   .prepare = linear_prepare,
                                   .run = linear_run,
                                   .release = release};

const grdi_kernel *const GRDI_ISA_TABLE(matmul)[] = {&matmul, &linear, NULL};
