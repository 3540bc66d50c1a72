/* epilogue.c - what a call does besides, instead of a pass over memory of its own: a relu joins the batch_norm before
 * it, with a sum in between, and its slope the backward call; on devices whose products can, the slope of tanh-GELU
 * joins the product that makes what it is multiplied by, and the gradient of a bias joins that of its weight, as both
 * read the same gradient. Runs before fuse, which would take slopes into chains. */
#include "passes/pass.h"

#include "ops/table.h"

#include <gradus/ops_shape.h>

typedef struct joining {
    grdi_rewrite r;
    const int32_t *uses;
    const grdi_node **sum_of;  /* by node, of products g^T x: the sum of g's columns that is made with it */
    const grdi_node **relu_of; /* by node, of batch_norm: the relu that alone reads what is normalised, or its sum.. */
    const grdi_node **add_of;  /* ..with what was made before */
} joining;

static bool is_matrix(grd_tensor t)
{
    return grdi_type_of(t)->dims.rank == 2;
}

/* ---- (g w) gelu_tanh'(x) ---- */

/* The product of matrices that nobody but the slope reads, seen through reshapes; NULL if that is not it. */
static const grdi_node *product_behind(const joining *p, grd_tensor t)
{
    while (p->uses[(size_t)t.node->id * GRDI_OUTPUTS_MAX + (size_t)t.output] == 1 && t.node->op == &grdi_op_reshape)
        t = t.node->in[0];
    bool alone = p->uses[(size_t)t.node->id * GRDI_OUTPUTS_MAX] == 1 && t.node->op == &grdi_op_matmul;
    return alone && is_matrix(t.node->in[0]) && is_matrix(t.node->in[1]) ? t.node : NULL;
}

static grd_tensor reshaped(grd_tensor t, grd_dims dims)
{
    return t.node && !grd_dims_equal(grdi_type_of(t)->dims, dims) ? grd_reshape(t, dims) : t;
}

static bool join_slope(joining *p, const grdi_node *slope, const grdi_node *product)
{
    grdi_rewrite *r = &p->r;
    grdi_rewrite_context(r, slope);
    grd_tensor x = reshaped(grdi_mapped(r, slope->in[1]), product->out[0].dims);
    grd_tensor in[] = {grdi_mapped(r, product->in[0]), grdi_mapped(r, product->in[1]), x};
    grd_tensor out = grdi_emit(r->graph, &grdi_op_matmul_gelu_tanh_backward, in, 3, NULL, 0, NULL);
    grdi_map(r, (grd_tensor){(grdi_node *)slope, 0}, reshaped(out, slope->out[0].dims));
    return out.node != NULL;
}

/* ---- g^T x, and the sums of g's columns ---- */

/* g, where the product is g^T x of matrices; node NULL elsewhere. */
static grd_tensor transposed_operand(const grdi_node *node)
{
    const grdi_node *turned = node->op == &grdi_op_matmul ? node->in[0].node : NULL;
    bool is = turned && turned->op == &grdi_op_transpose && is_matrix(node->in[1]) && is_matrix(turned->in[0]) &&
              node->phase == GRDI_BACKWARD;
    return is ? turned->in[0] : (grd_tensor){NULL, 0};
}

static bool sums_columns_of(const grdi_node *node, grd_tensor g)
{
    return node->op == &grdi_op_sum_to && grdi_same_tensor(node->in[0], g) && node->out[0].dims.rank == 1 &&
           node->out[0].dims.dim[0] == grdi_type_of(g)->dims.dim[1];
}

/* Later than the product, as gradient rules have it, and before anybody else's turn: at most some nodes on. */
static void find_sums(joining *p, const grd_graph *old)
{
    enum { NEAR = 16 };
    for (size_t n = 0; n < old->count; n++) {
        grd_tensor g = transposed_operand(old->nodes[n]);
        for (size_t k = n + 1; g.node && k < old->count && k <= n + NEAR && !p->sum_of[n]; k++)
            if (sums_columns_of(old->nodes[k], g)) p->sum_of[n] = old->nodes[k];
    }
}

static bool join_sums(joining *p, const grdi_node *product)
{
    grdi_rewrite *r = &p->r;
    const grdi_node *sum = p->sum_of[product->id];
    grd_tensor in[] = {grdi_mapped(r, transposed_operand(product)), grdi_mapped(r, product->in[1])},
               out[GRDI_OUTPUTS_MAX];
    grdi_rewrite_context(r, product);
    if (!grdi_emit(r->graph, &grdi_op_matmul_column_sums, in, 2, NULL, 0, out).node) return false;
    grdi_map(r, (grd_tensor){(grdi_node *)product, 0}, out[0]);
    grdi_map(r, (grd_tensor){(grdi_node *)sum, 0}, out[1]);
    return true;
}

/* ---- relu(batch_norm(x)), and back through both ---- */

static bool used_once(const joining *p, grd_tensor t)
{
    return p->uses[(size_t)t.node->id * GRDI_OUTPUTS_MAX + (size_t)t.output] == 1;
}

static bool is_lone_norm(const joining *p, grd_tensor t)
{
    return t.node->op == &grdi_op_batch_norm && t.output == 0 && used_once(p, t);
}

/* Whether input `i` of the sum is normalised, and the other one was made before. */
static bool adds_to_norm(const joining *p, const grdi_node *sum, int32_t i)
{
    return is_lone_norm(p, sum->in[i]) && sum->in[1 - i].node->id < sum->in[i].node->id &&
           grd_dims_equal(grdi_type_of(sum->in[0])->dims, grdi_type_of(sum->in[1])->dims);
}

static void find_relus(joining *p, const grd_graph *old)
{
    for (size_t n = 0; n < old->count; n++) {
        const grdi_node *relu = old->nodes[n], *before = relu->op == &grdi_op_relu ? relu->in[0].node : NULL;
        if (!before) continue;
        if (is_lone_norm(p, relu->in[0])) p->relu_of[before->id] = relu;
        if (before->op != &grdi_op_add || !used_once(p, relu->in[0])) continue;
        int32_t i = adds_to_norm(p, before, 1);
        if (!adds_to_norm(p, before, i)) continue;
        p->relu_of[before->in[i].node->id] = relu;
        p->add_of[before->in[i].node->id] = before;
    }
}

static bool join_relu(joining *p, const grdi_node *norm)
{
    grdi_rewrite *r = &p->r;
    grd_tensor in[GRDI_INPUTS_MAX], out[GRDI_OUTPUTS_MAX];
    int32_t count = norm->input_count;
    for (int32_t i = 0; i < count; i++) in[i] = grdi_mapped(r, norm->in[i]);
    const grdi_node *sum = p->add_of[norm->id];
    if (sum) in[count++] = grdi_mapped(r, sum->in[sum->in[0].node == norm]);
    grdi_rewrite_context(r, norm);
    grdi_emit(r->graph, norm->op, in, count,
              GRDI_LIST(grd_attr, GRD_FLOAT("eps", grdi_attr_float(norm->attrs, "eps")),
                        GRD_FLOAT("momentum", grdi_attr_float(norm->attrs, "momentum")), GRD_FLAG("relu", true)),
              out);
    for (int32_t o = 0; o < norm->output_count; o++) grdi_map(r, (grd_tensor){(grdi_node *)norm, o}, out[o]);
    grdi_map(r, (grd_tensor){(grdi_node *)p->relu_of[norm->id], 0}, out[0]);
    if (sum) grdi_map(r, (grd_tensor){(grdi_node *)sum, 0}, out[0]);
    return out[0].node != NULL;
}

/* The batch_norm that a backward call goes through, behind the slope of the relu that was joined to it; NULL: it is
 * another call. */
static const grdi_node *norm_behind(const joining *p, const grdi_node *back)
{
    if (back->op != &grdi_op_batch_norm_backward || back->input_count != 5) return NULL;
    const grdi_node *slope = back->in[0].node, *norm = back->in[2].node;
    if (slope->op != &grdi_op_relu_backward || !used_once(p, back->in[0])) return NULL;
    if (norm->op != &grdi_op_batch_norm || !p->relu_of[norm->id] || p->add_of[norm->id]) return NULL;
    if (slope->in[1].node != p->relu_of[norm->id]) return NULL;
    bool same = back->in[2].output == 1 && back->in[3].node == norm && back->in[3].output == 2 &&
                grdi_same_tensor(back->in[1], norm->in[0]) && grdi_same_tensor(back->in[4], norm->in[1]);
    return same ? norm : NULL;
}

static bool join_relu_slope(joining *p, const grdi_node *back, const grdi_node *norm)
{
    grdi_rewrite *r = &p->r;
    grd_tensor in[] = {grdi_mapped(r, back->in[0].node->in[0]), grdi_mapped(r, back->in[1]),
                       grdi_mapped(r, back->in[2]),             grdi_mapped(r, back->in[3]),
                       grdi_mapped(r, back->in[4]),             grdi_mapped(r, norm->in[2])},
               out[GRDI_OUTPUTS_MAX];
    grdi_rewrite_context(r, back);
    grdi_emit(r->graph, back->op, in, 6, NULL, 0, out);
    for (int32_t o = 0; o < back->output_count; o++) grdi_map(r, (grd_tensor){(grdi_node *)back, o}, out[o]);
    return out[0].node != NULL;
}

static bool visit(joining *p, const grdi_node *node, bool products)
{
    const grdi_node *norm = norm_behind(p, node);
    if (norm) return join_relu_slope(p, node, norm);
    if (p->relu_of[node->id]) return join_relu(p, node);
    const grdi_node *product =
        products && node->op == &grdi_op_gelu_tanh_backward ? product_behind(p, node->in[0]) : NULL;
    if (product) return join_slope(p, node, product);
    if (p->sum_of[node->id]) return join_sums(p, node);
    return grdi_rewrite_copy(&p->r, node) != NULL;
}

grd_graph *grdi_pass_epilogue(grdi_compile *c, const grd_graph *old)
{
    joining p = {.uses = grdi_use_counts(old, c)};
    if (!grdi_rewrite_begin(&p.r, old, c->error)) {
        grdi_free((void *)p.uses);
        return NULL;
    }
    p.sum_of = grdi_alloc_zero(old->count + 1, sizeof(*p.sum_of));
    p.relu_of = grdi_alloc_zero(old->count + 1, sizeof(*p.relu_of));
    p.add_of = grdi_alloc_zero(old->count + 1, sizeof(*p.add_of));
    bool ok = p.uses && p.sum_of && p.relu_of && p.add_of;
    if (ok && c->epilogues) find_sums(&p, old);
    if (ok) find_relus(&p, old);
    for (size_t n = 0; ok && n < old->count; n++)
        if (!grdi_mapped(&p.r, (grd_tensor){old->nodes[n], 0}).node) /* else it was made with another */
            ok = visit(&p, old->nodes[n], c->epilogues);
    grdi_free((void *)p.uses);
    grdi_free(p.sum_of);
    grdi_free(p.relu_of);
    grdi_free(p.add_of);
    grd_graph *graph = grdi_rewrite_end(&p.r, c, ok);
    if (!graph) return NULL;
    grd_graph *used = grdi_pass_extract(c, graph); /* drops what nobody reads any more */
    grdi_graph_destroy(graph);
    return used;
}
