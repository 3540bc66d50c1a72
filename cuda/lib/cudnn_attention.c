/* cudnn_attention.c - attention, described to cuDNN: the graph of products, reductions and operations on elements that
 * its fused engines know as flash attention (cuDNN developer guide, "Graph API", fused flash attention). Scores are
 * virtual: no engine that is taken has room for them. */
#include "lib/cudnn_graph.h"

#include <math.h>
#include <stdio.h>

enum { RANK = 4, NO_PLACE = -1 };
/* 9.10.0 and 9.10.1 compute some attention wrongly; those before want other graphs. */
enum { VERSION_LEAST = 91002, VERSION_TAKES_ANY_LENGTH = 91501 };

typedef grdi_dnn_descriptor descriptor;

typedef struct drawing {
    grdi_dnn_builder *b;
    const grdi_attention *a;
    int type;                  /* of what lies in memory, but lse and delta */
    descriptor scale, nothing; /* numbers; nothing: -infinity */
    bool adds_up;              /* dq is added up in f32, in any order */
} drawing;

/* ---- tensors ---- */

/* [B,heads,tokens,width] of what lies as [B,tokens,heads,width], the last two exchanged where it is to be transposed */
static descriptor heads_at(const drawing *g, int32_t place, int64_t heads, int64_t tokens, bool transposed)
{
    const int64_t *s = g->a->of[place].stride;
    const int64_t dims[] = {g->a->batch, heads, tokens, g->a->width}, strides[] = {s[0], s[2], s[1], s[3]};
    const int64_t turned[] = {dims[0], heads, g->a->width, tokens}, turned_strides[] = {s[0], s[2], s[3], s[1]};
    return grdi_dnn_tensor(g->b, place, g->type, RANK, transposed ? turned : dims,
                           transposed ? turned_strides : strides);
}

/* [B,H,rows,columns], no gaps */
static descriptor room(const drawing *g, int32_t place, int type, int64_t rows, int64_t columns)
{
    const int64_t dims[] = {g->a->batch, g->a->heads, rows, columns};
    const int64_t strides[] = {dims[1] * rows * columns, rows * columns, columns, 1};
    return grdi_dnn_tensor(g->b, place, type, RANK, dims, strides);
}

static descriptor scores(const drawing *g, int type)
{
    return room(g, NO_PLACE, type, g->a->queries, g->a->keys);
}

static descriptor rows(const drawing *g, int32_t place)
{
    return room(g, place, DNN_DATA_FLOAT, g->a->queries, 1);
}

/* ---- operations; each gives its result ---- */

static descriptor element(const drawing *g, int mode, descriptor x, descriptor second, descriptor y)
{
    grdi_dnn_add_pointwise(
        g->b, &(grdi_dnn_pointwise){.mode = mode, .compute = DNN_DATA_FLOAT, .x = x, .second = second, .y = y});
    return y;
}

static descriptor product(const drawing *g, descriptor a, descriptor b, descriptor c)
{
    int compute = DNN_DATA_FLOAT;
    descriptor how = grdi_dnn_make(g->b, DNN_BACKEND_MATMUL_DESCRIPTOR);
    grdi_dnn_set(g->b, how, DNN_ATTR_MATMUL_COMP_TYPE, DNN_TYPE_DATA_TYPE, 1, &compute);
    grdi_dnn_finish(g->b, how);
    descriptor operation = grdi_dnn_make(g->b, DNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR);
    grdi_dnn_set_part(g->b, operation, DNN_ATTR_OPERATION_MATMUL_ADESC, a);
    grdi_dnn_set_part(g->b, operation, DNN_ATTR_OPERATION_MATMUL_BDESC, b);
    grdi_dnn_set_part(g->b, operation, DNN_ATTR_OPERATION_MATMUL_CDESC, c);
    grdi_dnn_set_part(g->b, operation, DNN_ATTR_OPERATION_MATMUL_DESC, how);
    grdi_dnn_operation(g->b, operation);
    return c;
}

/* Over the axes that y has no more. */
static descriptor reduced(const drawing *g, int mode, descriptor x, descriptor y)
{
    int compute = DNN_DATA_FLOAT;
    descriptor how = grdi_dnn_make(g->b, DNN_BACKEND_REDUCTION_DESCRIPTOR);
    grdi_dnn_set(g->b, how, DNN_ATTR_REDUCTION_COMP_TYPE, DNN_TYPE_DATA_TYPE, 1, &compute);
    grdi_dnn_set(g->b, how, DNN_ATTR_REDUCTION_OPERATOR, DNN_TYPE_REDUCTION_OPERATOR_TYPE, 1, &mode);
    grdi_dnn_finish(g->b, how);
    descriptor operation = grdi_dnn_make(g->b, DNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR);
    grdi_dnn_set_part(g->b, operation, DNN_ATTR_OPERATION_REDUCTION_XDESC, x);
    grdi_dnn_set_part(g->b, operation, DNN_ATTR_OPERATION_REDUCTION_YDESC, y);
    grdi_dnn_set_part(g->b, operation, DNN_ATTR_OPERATION_REDUCTION_DESC, how);
    grdi_dnn_operation(g->b, operation);
    return y;
}

/* The same memory with y's sizes and strides. */
static descriptor seen_as(const drawing *g, descriptor x, descriptor y)
{
    descriptor operation = grdi_dnn_make(g->b, DNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR);
    grdi_dnn_set_part(g->b, operation, DNN_ATTR_OPERATION_RESHAPE_XDESC, x);
    grdi_dnn_set_part(g->b, operation, DNN_ATTR_OPERATION_RESHAPE_YDESC, y);
    grdi_dnn_operation(g->b, operation);
    return y;
}

/* Scores [B,H,T,S], transposed and rounded for the product to come. */
static descriptor turned(const drawing *g, descriptor x)
{
    int64_t t = g->a->queries, s = g->a->keys;
    const int64_t dims[] = {g->a->batch, g->a->heads, s, t}, strides[] = {g->a->heads * t * s, t * s, 1, s};
    return seen_as(g, x, grdi_dnn_tensor(g->b, NO_PLACE, g->type, RANK, dims, strides));
}

/* ---- what is seen ---- */

/* The row (axis 2) or the column (axis 3) of each score. */
static descriptor place_of(const drawing *g, descriptor x, int64_t axis)
{
    descriptor y = scores(g, DNN_DATA_INT32);
    grdi_dnn_add_pointwise(
        g->b, &(grdi_dnn_pointwise){
                  .mode = DNN_POINTWISE_GEN_INDEX, .compute = DNN_DATA_FLOAT, .axis = axis, .x = x, .y = y});
    return y;
}

/* x where a mode b, else -infinity */
static descriptor where(const drawing *g, descriptor x, int mode, descriptor a, descriptor b)
{
    descriptor seen = scores(g, DNN_DATA_BOOLEAN), y = scores(g, DNN_DATA_FLOAT);
    grdi_dnn_add_pointwise(
        g->b, &(grdi_dnn_pointwise){.mode = mode, .compute = DNN_DATA_BOOLEAN, .x = a, .second = b, .y = seen});
    grdi_dnn_add_pointwise(g->b, &(grdi_dnn_pointwise){.mode = DNN_POINTWISE_BINARY_SELECT,
                                                       .compute = DNN_DATA_FLOAT,
                                                       .x = x,
                                                       .second = g->nothing,
                                                       .chosen = seen,
                                                       .y = y});
    return y;
}

/* Row i sees column j where j <= i, and where i < j + window. */
static descriptor hidden(const drawing *g, descriptor x)
{
    if (g->a->causal) x = where(g, x, DNN_POINTWISE_CMP_GE, place_of(g, x, 2), place_of(g, x, 3));
    if (g->a->window == 0) return x;
    descriptor row = place_of(g, x, 2), column = place_of(g, x, 3), last = scores(g, DNN_DATA_FLOAT);
    element(g, DNN_POINTWISE_ADD, column, grdi_dnn_number(g->b, (float)g->a->window, RANK), last);
    return where(g, x, DNN_POINTWISE_CMP_GT, last, row);
}

/* ---- the two graphs ---- */

/* scale q k^T */
static descriptor scaled_scores(const drawing *g, descriptor q, descriptor k)
{
    descriptor s = product(g, q, k, scores(g, DNN_DATA_FLOAT));
    return element(g, DNN_POINTWISE_MUL, s, g->scale, scores(g, DNN_DATA_FLOAT));
}

static void draw_forward(const drawing *g)
{
    const grdi_attention *a = g->a;
    descriptor q = heads_at(g, GRDI_ATTENTION_Q, a->heads, a->queries, false);
    descriptor k = heads_at(g, GRDI_ATTENTION_K, a->kv_heads, a->keys, true);
    descriptor v = heads_at(g, GRDI_ATTENTION_V, a->kv_heads, a->keys, false);
    descriptor out = heads_at(g, GRDI_ATTENTION_OUT, a->heads, a->queries, false);
    descriptor s = hidden(g, scaled_scores(g, q, k));
    descriptor most = reduced(g, DNN_REDUCE_TENSOR_MAX, s, rows(g, NO_PLACE));
    descriptor below = element(g, DNN_POINTWISE_SUB, s, most, scores(g, DNN_DATA_FLOAT));
    descriptor power = element(g, DNN_POINTWISE_EXP, below, NULL, scores(g, DNN_DATA_FLOAT));
    descriptor sum = reduced(g, DNN_REDUCE_TENSOR_ADD, power, rows(g, NO_PLACE));
    descriptor logarithm = element(g, DNN_POINTWISE_LOG, sum, NULL, rows(g, NO_PLACE));
    element(g, DNN_POINTWISE_ADD, most, logarithm, rows(g, GRDI_ATTENTION_LSE));
    descriptor p = element(g, DNN_POINTWISE_DIV, power, sum, scores(g, g->type));
    product(g, p, v, out);
}

/* Of k and v, in 16 bits, before heads that share them are added up: linear in length, so no matter for the cap. */
static size_t key_gradient_bytes(const grdi_attention *a)
{
    return (size_t)(2 * a->batch * a->heads * a->keys * a->width) * grd_dtype_size(a->of[0].dtype);
}

/* x^T y [B,H,S,D], added up over the heads that share a gradient. */
static void draw_key_gradient(const drawing *g, descriptor x, descriptor y, int32_t place)
{
    const grdi_attention *a = g->a;
    descriptor to = heads_at(g, place, a->kv_heads, a->keys, false);
    if (a->heads == a->kv_heads) {
        product(g, turned(g, x), y, to);
        return;
    }
    descriptor each = product(g, turned(g, x), y, room(g, NO_PLACE, g->type, a->keys, a->width));
    reduced(g, DNN_REDUCE_TENSOR_ADD, each, to);
}

/* dq = e k. That it is the product's result is how engines are asked that are deterministic: on an H100 they write e
 * down. Those that need not let the blocks of keys add to it in f32, whoever comes first, and round it then. */
static void draw_query_gradient(const drawing *g, descriptor e, descriptor k, descriptor dq)
{
    const grdi_attention *a = g->a;
    const int64_t *at = a->of[GRDI_ATTENTION_K].stride;
    const int64_t dims[] = {a->batch, a->kv_heads, a->keys, a->width}, strides[] = {at[0], at[2], at[1], at[3]};
    descriptor rows_of_k = seen_as(g, k, grdi_dnn_tensor(g->b, NO_PLACE, g->type, RANK, dims, strides));
    if (!g->adds_up) {
        product(g, e, rows_of_k, dq);
        return;
    }
    descriptor sums = room(g, GRDI_ATTENTION_DQ_SUMS, DNN_DATA_FLOAT, a->queries, a->width);
    if (a->heads != a->kv_heads) g->b->plan->workspace_most += key_gradient_bytes(a);
    element(g, DNN_POINTWISE_IDENTITY, product(g, e, rows_of_k, sums), NULL, dq);
}

/* p = exp(s - lse), e = p (g v^T - delta), dv = p^T g, dk = scale e^T q, dq = scale e k, delta = g . out. */
static void draw_backward(const drawing *g)
{
    const grdi_attention *a = g->a;
    descriptor q = heads_at(g, GRDI_ATTENTION_Q, a->heads, a->queries, false);
    descriptor k = heads_at(g, GRDI_ATTENTION_K, a->kv_heads, a->keys, true);
    descriptor v = heads_at(g, GRDI_ATTENTION_V, a->kv_heads, a->keys, true);
    descriptor out = heads_at(g, GRDI_ATTENTION_OUT, a->heads, a->queries, false);
    descriptor dy = heads_at(g, GRDI_ATTENTION_G, a->heads, a->queries, false);
    descriptor dq = heads_at(g, GRDI_ATTENTION_DQ, a->heads, a->queries, false);
    descriptor lse = rows(g, GRDI_ATTENTION_LSE), one = grdi_dnn_number(g->b, 1, RANK);
    descriptor along = element(g, DNN_POINTWISE_MUL, dy, out, room(g, NO_PLACE, DNN_DATA_FLOAT, a->queries, a->width));
    along = reduced(g, DNN_REDUCE_TENSOR_ADD, along, rows(g, NO_PLACE));
    descriptor delta = element(g, DNN_POINTWISE_MUL, along, one, rows(g, GRDI_ATTENTION_DELTA));

    descriptor s = scaled_scores(g, q, k);
    s = hidden(g, element(g, DNN_POINTWISE_SUB, s, lse, scores(g, DNN_DATA_FLOAT)));
    descriptor p = element(g, DNN_POINTWISE_EXP, s, NULL, scores(g, DNN_DATA_FLOAT));
    draw_key_gradient(g, p, dy, GRDI_ATTENTION_DV);

    descriptor e = product(g, dy, v, scores(g, DNN_DATA_FLOAT));
    e = element(g, DNN_POINTWISE_SUB, e, delta, scores(g, DNN_DATA_FLOAT));
    e = element(g, DNN_POINTWISE_MUL, e, p, scores(g, DNN_DATA_FLOAT));
    e = element(g, DNN_POINTWISE_MUL, e, g->scale, scores(g, DNN_DATA_FLOAT));
    draw_key_gradient(g, e, q, GRDI_ATTENTION_DK);

    draw_query_gradient(g, e, k, dq);
}

/* ---- who is asked ---- */

/* What cuDNN is asked for: all in bf16 or all in f16, heads of one size, a multiple of 8; every query sees all keys, or
 * those up to its own, or the last of these; rows at multiples of 16 bytes. Masks, packed documents and causal
 * attention of fewer queries than keys are the plugin's own kernels', as is what cuDNN then does not take. */
static bool takes(const grdi_dnn *dnn, const grdi_attention *a)
{
    int32_t count = a->backward ? GRDI_ATTENTION_HEADS : GRDI_ATTENTION_G;
    grd_dtype dtype = a->of[GRDI_ATTENTION_Q].dtype;
    if (dnn->version < VERSION_LEAST || a->masked || a->packed || (dtype != GRD_BF16 && dtype != GRD_F16)) return false;
    if (a->width != a->value_width || a->width % 8 || a->width > 256) return false;
    if ((a->causal || a->window) && (!a->causal || a->queries != a->keys)) return false;
    if (a->backward && (a->keys == 1 || (dnn->version < VERSION_TAKES_ANY_LENGTH && a->keys % 128))) return false;
    for (int32_t i = 0; i < count; i++) {
        const int64_t *s = a->of[i].stride;
        if (a->of[i].dtype != dtype || s[3] != 1 || s[0] % 8 || s[1] % 8 || s[2] % 8) return false;
    }
    return true;
}

static void write_call(const grdi_attention *a, char text[GRDI_CHOICE_TEXT])
{
    int at = snprintf(text, GRDI_CHOICE_TEXT, "attention %s %s%s b=%lld t=%lld s=%lld h=%lld/%lld d=%lld window=%lld",
                      a->backward ? "backward" : "forward", grd_dtype_name(a->of[0].dtype), a->causal ? " causal" : "",
                      (long long)a->batch, (long long)a->queries, (long long)a->keys, (long long)a->heads,
                      (long long)a->kv_heads, (long long)a->width, (long long)a->window);
    for (int32_t i = 0; i < (a->backward ? GRDI_ATTENTION_HEADS : GRDI_ATTENTION_G) && at < GRDI_CHOICE_TEXT; i++)
        at += snprintf(text + at, (size_t)(GRDI_CHOICE_TEXT - at), " %lld,%lld,%lld", (long long)a->of[i].stride[0],
                       (long long)a->of[i].stride[1], (long long)a->of[i].stride[2]);
}

grdi_dnn_plan *grdi_dnn_attention_new(grdi_dnn *dnn, const grdi_attention *a, const grdi_dnn_rival *rival)
{
    char call[GRDI_CHOICE_TEXT];
    grdi_dnn_builder b = {.dnn = dnn, .plan = takes(dnn, a) ? grdi_dnn_plan_begin(dnn) : NULL, .ok = true};
    if (!b.plan) return NULL;
    drawing g = {.b = &b, .a = a, .type = grdi_dnn_data_type(a->of[0].dtype), .adds_up = dnn->any_order};
    g.scale = grdi_dnn_number(&b, a->scale, RANK);
    if (a->causal) g.nothing = grdi_dnn_number(&b, -INFINITY, RANK);
    if (a->backward) draw_backward(&g);
    else draw_forward(&g);
    b.plan->graph[0] = grdi_dnn_graph(&b);
    write_call(a, call);
    return grdi_dnn_plan_end(&b, call, false, rival);
}
