/* backward.c - walks the graph from the losses to the sources and asks each op's gradient rule for nodes. */
#include "passes/backward.h"

#include "ops/table.h"

#include <string.h>

/* What one sweep knows. Nodes [low, high) may lie between `wrt` and the outputs. */
typedef struct sweep {
    grd_graph *graph;
    int32_t low, high;
    uint8_t *wanted;      /* by node, a bit for each output that is in `wrt` */
    bool *depends;        /* by node: some input leads back to a `wrt` */
    const grdi_op *rule;  /* whose gradient rule is asked; NULL before the first */
    grd_tensor *gradient; /* [node][GRDI_OUTPUTS_MAX]: the sum so far, node NULL: none */
} sweep;

static bool leads_to_wrt(const sweep *s, grd_tensor t)
{
    int32_t at = t.node->id - s->low;
    if (at >= 0 && t.node->id < s->high && s->depends[at]) return true;
    return (s->wanted[t.node->id] >> t.output) & 1;
}

static grd_tensor *slot(const sweep *s, grd_tensor t)
{
    return &s->gradient[(size_t)t.node->id * GRDI_OUTPUTS_MAX + (size_t)t.output];
}

static bool contribute(sweep *s, grd_tensor to, grd_tensor gradient)
{
    const grdi_type *want = grdi_type_of(to), *have = grdi_type_of(gradient);
    if (want->dtype != have->dtype || !grd_dims_equal(want->dims, have->dims)) {
        char a[GRD_DIMS_TEXT_MAX], b[GRD_DIMS_TEXT_MAX];
        grdi_graph_fail(s->graph, GRD_E_STATE,
                        "%s: its gradient rule gave %s%s for an input of %s%s, made by %s (the two must be alike)",
                        s->rule ? s->rule->name : "seed", grd_dtype_name(have->dtype), grd_dims_text(have->dims, a),
                        grd_dtype_name(want->dtype), grd_dims_text(want->dims, b), to.node->op->name);
        return false;
    }
    grd_tensor *sum = slot(s, to);
    *sum = sum->node ? GRDI_EMIT(grdi_op_find("add"), *sum, gradient) : gradient;
    return sum->node != NULL;
}

/* Differentiates through the op's longer form: `compose` is built from the node's inputs and swept on its own. */
static bool through_compose(sweep *s, const grdi_node *node, grdi_gradient *g)
{
    grdi_compose c = {.graph = s->graph,
                      .attrs = node->attrs,
                      .input_count = node->input_count,
                      .in = node->in,
                      .path_hash = node->path_hash};
    int32_t first = (int32_t)s->graph->count; /* what lies before is the outer sweep's */
    node->op->compose(&c);
    grd_tensor outputs[GRDI_OUTPUTS_MAX], seeds[GRDI_OUTPUTS_MAX], wrt[GRDI_INPUTS_MAX], answer[GRDI_INPUTS_MAX];
    int32_t output_count = 0, wrt_count = 0, which[GRDI_INPUTS_MAX];
    for (int32_t o = 0; o < node->output_count; o++) {
        if (!g->grad_out[o].node) continue;
        if (!c.out[o].node) {
            grdi_graph_fail(s->graph, GRD_E_UNSUPPORTED, "%s: output %d has no gradient (its compose does not make it)",
                            node->op->name, o);
            return false;
        }
        outputs[output_count] = c.out[o];
        seeds[output_count++] = g->grad_out[o];
    }
    for (int32_t i = 0; i < node->input_count; i++) {
        bool repeated = false; /* an input given twice has one gradient, which is handed on once */
        for (int32_t k = 0; k < wrt_count; k++) repeated |= grdi_same_tensor(wrt[k], node->in[i]);
        if (!g->need[i] || repeated) continue;
        which[wrt_count] = i;
        wrt[wrt_count++] = node->in[i];
    }
    if (!grdi_backward(s->graph, outputs, seeds, output_count, wrt, wrt_count, first, answer)) return false;
    for (int32_t k = 0; k < wrt_count; k++) g->grad_in[which[k]] = answer[k];
    return true;
}

/* Gives the gradients of one node's inputs. */
static bool visit(sweep *s, grdi_node *node)
{
    const grdi_op *op = node->op;
    grd_tensor out[GRDI_OUTPUTS_MAX], grad_out[GRDI_OUTPUTS_MAX], grad_in[GRDI_INPUTS_MAX];
    bool need[GRDI_INPUTS_MAX], any_out = false, any_in = false;
    memset(grad_in, 0, sizeof(grad_in));
    for (int32_t o = 0; o < node->output_count; o++) {
        out[o] = (grd_tensor){node, o};
        grad_out[o] = *slot(s, out[o]);
        any_out |= grad_out[o].node != NULL;
    }
    for (int32_t i = 0; i < node->input_count; i++) {
        need[i] = leads_to_wrt(s, node->in[i]) && grd_dtype_is_float(grdi_type_of(node->in[i])->dtype);
        any_in |= need[i];
    }
    if (!any_out || !any_in || (op->flags & GRDI_OP_NO_GRADIENT)) return true;

    grdi_gradient g = {s->graph, node->attrs, node->input_count, node->output_count,  node->in, out,
                       grad_out, need,        grad_in,           op->gradient == NULL};
    const char *scope = s->graph->scope;
    s->graph->scope = node->scope;
    s->rule = op;
    bool ok = true;
    if (op->gradient) op->gradient(&g);
    if (g.through_compose && op->compose) {
        ok = through_compose(s, node, &g);
    } else if (g.through_compose) {
        grdi_graph_fail(s->graph, GRD_E_UNSUPPORTED,
                        "%s: has no gradient (give it a gradient rule, or grd_stop_gradient to its input)", op->name);
        ok = false;
    }
    for (int32_t i = 0; ok && i < node->input_count; i++)
        if (need[i] && grad_in[i].node) ok = contribute(s, node->in[i], grad_in[i]);
    s->graph->scope = scope;
    return ok && !s->graph->error.status;
}

static void sweep_free(sweep *s)
{
    grdi_free(s->wanted);
    grdi_free(s->depends);
    grdi_free(s->gradient);
}

static bool sweep_start(sweep *s, const grd_tensor *outputs, int32_t output_count, const grd_tensor *wrt,
                        int32_t wrt_count)
{
    grd_graph *graph = s->graph;
    s->high = 0;
    for (int32_t i = 0; i < output_count; i++)
        if (outputs[i].node->id >= s->high) s->high = outputs[i].node->id + 1;
    if (s->low > s->high) s->low = s->high;
    s->wanted = grdi_alloc_zero(graph->count, 1);
    s->depends = grdi_alloc_zero((size_t)(s->high - s->low) + 1, sizeof(bool));
    s->gradient = grdi_alloc_zero(graph->count * GRDI_OUTPUTS_MAX, sizeof(grd_tensor));
    if (!s->wanted || !s->depends || !s->gradient) {
        grdi_graph_fail(graph, GRD_E_MEMORY, "out of memory for gradients");
        return false;
    }
    for (int32_t k = 0; k < wrt_count; k++) s->wanted[wrt[k].node->id] |= (uint8_t)(1u << wrt[k].output);
    for (int32_t id = s->low; id < s->high; id++) {
        const grdi_node *node = graph->nodes[id];
        for (int32_t i = 0; i < node->input_count && !s->depends[id - s->low]; i++)
            s->depends[id - s->low] = leads_to_wrt(s, node->in[i]);
    }
    return true;
}

bool grdi_backward(grd_graph *graph, const grd_tensor *outputs, const grd_tensor *seeds, int32_t output_count,
                   const grd_tensor *wrt, int32_t wrt_count, int32_t first, grd_tensor *gradients)
{
    if (graph->error.status) return false;
    sweep s = {.graph = graph, .low = first};
    grdi_phase phase = graph->phase;
    int32_t segment = graph->segment;
    graph->phase = GRDI_BACKWARD;
    graph->segment = 0;
    bool ok = sweep_start(&s, outputs, output_count, wrt, wrt_count);
    for (int32_t i = 0; ok && i < output_count; i++) ok = contribute(&s, outputs[i], seeds[i]);
    for (int32_t id = s.high - 1; ok && id >= s.low; id--)
        if (s.depends[id - s.low]) ok = visit(&s, graph->nodes[id]);
    for (int32_t k = 0; k < wrt_count; k++) gradients[k] = ok ? *slot(&s, wrt[k]) : (grd_tensor){NULL, 0};
    sweep_free(&s);
    graph->phase = phase;
    graph->segment = segment;
    return ok;
}

static grd_tensor filled(grd_graph *graph, grdi_type type, double value)
{
    const grd_attr attrs[] = {GRD_INTS("dims", type.dims.dim, type.dims.rank), GRD_TYPE("dtype", type.dtype),
                              GRD_FLOAT("value", value)};
    return grdi_emit(graph, grdi_op_find("full"), NULL, 0, attrs, 3, NULL);
}

static grd_status poisoned(grd_graph *graph)
{
    return graph && graph->error.status ? graph->error.status : GRD_E_ARGUMENT;
}

grd_status grd_gradients(const grd_tensor *losses, int32_t loss_count, const grd_tensor *wrt, int32_t wrt_count,
                         grd_tensor *gradients)
{
    if ((!wrt || !gradients) && wrt_count > 0) return GRD_E_ARGUMENT;
    for (int32_t k = 0; k < wrt_count; k++) gradients[k] = (grd_tensor){NULL, 0};
    grd_graph *graph = losses && loss_count > 0 ? grd_tensor_graph(losses[0]) : NULL;
    for (int32_t i = 0; graph && i < loss_count; i++)
        if (!losses[i].node) return poisoned(graph);
    for (int32_t k = 0; k < wrt_count; k++)
        if (!wrt[k].node) return poisoned(graph);
    if (!graph) return GRD_E_ARGUMENT;
    if (!grdi_graph_owns(graph, "gradient: loss", losses, loss_count) ||
        !grdi_graph_owns(graph, "gradient: value", wrt, wrt_count))
        return poisoned(graph);
    grd_tensor *seeds = grdi_alloc_zero((size_t)loss_count, sizeof(*seeds));
    if (!seeds) {
        grdi_graph_fail(graph, GRD_E_MEMORY, "out of memory for gradients");
        return GRD_E_MEMORY;
    }
    bool ok = true;
    for (int32_t i = 0; ok && i < loss_count; i++) {
        const grdi_type *type = grdi_type_of(losses[i]);
        if (grd_dims_count(type->dims) != 1 || !grd_dtype_is_float(type->dtype)) {
            char text[GRD_DIMS_TEXT_MAX];
            grdi_graph_fail(graph, GRD_E_SHAPE, "gradient: the loss must be one float, is %s%s (reduce it first)",
                            grd_dtype_name(type->dtype), grd_dims_text(type->dims, text));
            ok = false;
        } else {
            seeds[i] = filled(graph, *type, 1.0);
            ok = seeds[i].node != NULL;
        }
    }
    ok = ok && grdi_backward(graph, losses, seeds, loss_count, wrt, wrt_count, 0, gradients);
    for (int32_t k = 0; ok && k < wrt_count; k++) {
        if (gradients[k].node) continue;
        gradients[k] = filled(graph, *grdi_type_of(wrt[k]), 0.0);
        ok = gradients[k].node != NULL;
    }
    grdi_free(seeds);
    return ok ? GRD_OK : poisoned(graph);
}

grd_tensor grd_grad(grd_tensor loss, grd_tensor x)
{
    grd_tensor gradient = {NULL, 0};
    if (loss.node && x.node) grd_gradients(&loss, 1, &x, 1, &gradient);
    return gradient;
}
