/* simplify.c - algebra that leaves every value as it is and needs fewer nodes: a table of small rules. */
#include "passes/pass.h"

#include "ops/table.h"

#include <string.h>

/* A rule looks at an old node whose inputs are mapped already and either gives what stands for its output 0 or poison.
 */
typedef grd_tensor (*rule)(grdi_rewrite *r, const grdi_node *node, const int32_t *uses);

static const grd_tensor none = {NULL, 0};

static bool is(const grdi_node *node, const char *name)
{
    return strcmp(node->op->name, name) == 0;
}

static bool is_full(grd_tensor t, double value)
{
    return is(t.node, "full") && grdi_attr_float(t.node->attrs, "value") == value;
}

static bool same_type(grd_tensor a, const grdi_type *b)
{
    return grdi_type_of(a)->dtype == b->dtype && grd_dims_equal(grdi_type_of(a)->dims, b->dims);
}

/* x * 1, x + 0: x. */
static grd_tensor neutral(grdi_rewrite *r, const grdi_node *node, const int32_t *uses)
{
    (void)uses;
    if (!is(node, "mul") && !is(node, "add")) return none;
    double neutral_value = is(node, "mul") ? 1.0 : 0.0;
    for (int32_t i = 0; i < 2; i++)
        if (is_full(node->in[1 - i], neutral_value) && same_type(node->in[i], &node->out[0]))
            return grdi_mapped(r, node->in[i]);
    return none;
}

/* reshape, broadcast, sum_to, cast to what the input is already, a slice of all of it, padding by nothing: the input.
 */
static grd_tensor identity(grdi_rewrite *r, const grdi_node *node, const int32_t *uses)
{
    (void)uses;
    bool candidate = is(node, "reshape") || is(node, "broadcast_to") || is(node, "sum_to") || is(node, "cast") ||
                     is(node, "slice") || is(node, "pad");
    return candidate && same_type(node->in[0], &node->out[0]) ? grdi_mapped(r, node->in[0]) : none;
}

/* reshape(reshape(x)): one reshape. */
static grd_tensor reshape_twice(grdi_rewrite *r, const grdi_node *node, const int32_t *uses)
{
    (void)uses;
    if (!is(node, "reshape")) return none;
    grd_tensor in = grdi_mapped(r, node->in[0]);
    if (!is(in.node, "reshape")) return none;
    grd_tensor from = in.node->in[0];
    grdi_node *copy = grdi_node_copy(r->graph, node, &from);
    return copy ? (grd_tensor){copy, 0} : none;
}

/* An op applied to the same value everywhere: broadcast_to(full), reshape(full) are full of that shape. */
static grd_tensor full_view(grdi_rewrite *r, const grdi_node *node, const int32_t *uses)
{
    (void)uses;
    if (!(is(node, "broadcast_to") || is(node, "reshape")) || !is(node->in[0].node, "full")) return none;
    const grdi_type *type = &node->out[0];
    const grd_attr attrs[] = {GRD_INTS("dims", type->dims.dim, type->dims.rank), GRD_TYPE("dtype", type->dtype),
                              GRD_FLOAT("value", grdi_attr_float(node->in[0].node->attrs, "value"))};
    return grdi_emit(r->graph, node->in[0].node->op, NULL, 0, attrs, 3, NULL);
}

/* ---- a sum of zero-padded pieces that cover the result without overlap is their concatenation (gradient of slices)
 * ---- */

typedef struct piece {
    grd_tensor of;
    int64_t start, count;
} piece;

typedef struct pieces {
    piece list[GRDI_INPUTS_MAX];
    int32_t count, axis;
} pieces;

/* The axis along which `pad` pads, -1 for none, -2 for several or a fill that is not zero. */
static int32_t padded_axis(const grdi_node *pad)
{
    const grd_attr *before = grdi_attr_ints(pad->attrs, "before"), *after = grdi_attr_ints(pad->attrs, "after");
    int32_t axis = -1;
    if (grdi_attr_float(pad->attrs, "value") != 0) return -2;
    for (int32_t d = 0; d < before->count; d++) {
        if (before->ints[d] == 0 && after->ints[d] == 0) continue;
        if (axis >= 0) return -2;
        axis = d;
    }
    return axis;
}

static bool collect(const grdi_rewrite *r, grd_tensor t, const int32_t *uses, pieces *p, bool root)
{
    if (!root && uses[(size_t)t.node->id * GRDI_OUTPUTS_MAX] != 1) return false;
    if (is(t.node, "add"))
        return grd_dims_equal(grdi_type_of(t.node->in[0])->dims, grdi_type_of(t.node->in[1])->dims) &&
               collect(r, t.node->in[0], uses, p, false) && collect(r, t.node->in[1], uses, p, false);
    if (!is(t.node, "pad") || p->count == GRDI_INPUTS_MAX) return false;
    int32_t axis = padded_axis(t.node);
    if (axis < 0 || (p->count && axis != p->axis)) return false;
    p->axis = axis;
    p->list[p->count++] = (piece){t.node->in[0], grdi_attr_ints(t.node->attrs, "before")->ints[axis],
                                  grdi_type_of(t.node->in[0])->dims.dim[axis]};
    return true;
}

static grd_tensor sum_of_pads(grdi_rewrite *r, const grdi_node *node, const int32_t *uses)
{
    pieces p = {.count = 0};
    if (!is(node, "add") || !collect(r, (grd_tensor){(grdi_node *)node, 0}, uses, &p, true)) return none;
    for (int32_t i = 1; i < p.count; i++)
        for (int32_t k = i; k > 0 && p.list[k].start < p.list[k - 1].start; k--) {
            piece swap = p.list[k];
            p.list[k] = p.list[k - 1];
            p.list[k - 1] = swap;
        }
    int64_t end = 0;
    for (int32_t i = 0; i < p.count; i++) {
        if (p.list[i].start != end) return none;
        end += p.list[i].count;
    }
    if (end != node->out[0].dims.dim[p.axis]) return none;
    grd_tensor in[GRDI_INPUTS_MAX];
    for (int32_t i = 0; i < p.count; i++) in[i] = grdi_mapped(r, p.list[i].of);
    return grdi_emit(r->graph, grdi_op_find("concat"), in, p.count, (grd_attr[]){GRD_INT("axis", p.axis)}, 1, NULL);
}

static const rule rules[] = {neutral, identity, reshape_twice, full_view, sum_of_pads};

grd_graph *grdi_pass_simplify(grdi_compile *c, const grd_graph *old)
{
    grdi_rewrite r;
    if (!grdi_rewrite_begin(&r, old, c->error)) return NULL;
    int32_t *uses = grdi_use_counts(old, c);
    bool ok = uses != NULL;
    for (size_t n = 0; ok && n < old->count; n++) {
        grdi_node *node = old->nodes[n];
        grd_tensor instead = none;
        grdi_rewrite_context(&r, node);
        for (size_t k = 0; k < sizeof(rules) / sizeof(rules[0]) && !instead.node; k++)
            instead = rules[k](&r, node, uses);
        if (instead.node) grdi_map(&r, (grd_tensor){node, 0}, instead);
        else ok = grdi_rewrite_copy(&r, node) != NULL;
    }
    grdi_free(uses);
    grd_graph *graph = grdi_rewrite_end(&r, c, ok);
    if (!graph) return NULL;
    grd_graph *used = grdi_pass_extract(c, graph); /* drops what the rules left without users */
    grdi_graph_destroy(graph);
    return used;
}
