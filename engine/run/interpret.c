/* interpret.c - see interpret.h. */
#include "run/interpret.h"

#include "base/memory.h"
#include "ops/sample.h"
#include "ops/table.h"

#include <string.h>

/* What is known of a node's values. */
typedef struct place {
    double *data[GRDI_OUTPUTS_MAX];
    uint8_t needed; /* a bit for each output that this run needs */
    uint8_t held;   /* a bit for each output that was computed and is not older than its inputs */
    bool moved;     /* has changed in this run */
} place;

struct grdi_interpreter {
    const grd_graph *graph;
    place *places; /* by node */
    size_t count, capacity;
    bool hold_cuts;
};

grdi_interpreter *grdi_interpreter_new(const grd_graph *graph)
{
    grdi_interpreter *t = grdi_alloc_zero(1, sizeof(*t));
    if (t) t->graph = graph;
    return t;
}

void grdi_interpreter_free(grdi_interpreter *t)
{
    if (!t) return;
    for (size_t i = 0; i < t->count; i++)
        for (int32_t o = 0; o < GRDI_OUTPUTS_MAX; o++) grdi_free(t->places[i].data[o]);
    grdi_free(t->places);
    grdi_free(t);
}

/* Room for all nodes that the graph has by now. */
static bool grow(grdi_interpreter *t)
{
    while (t->count < t->graph->count) {
        if (!GRDI_GROW(t->places, t->capacity, t->count)) return false;
        t->places[t->count++] = (place){.needed = 0};
    }
    return true;
}

static double *room(grdi_interpreter *t, grd_tensor x)
{
    double **data = &t->places[x.node->id].data[x.output];
    if (!*data) *data = grdi_alloc_zero((size_t)grd_dims_count(grdi_type_of(x)->dims), sizeof(double));
    return *data;
}

grd_status grdi_interpreter_set(grdi_interpreter *t, grd_tensor source, const double *data)
{
    double *to = grow(t) ? room(t, source) : NULL;
    if (!to) return GRD_E_MEMORY;
    memcpy(to, data, sizeof(double) * (size_t)grd_dims_count(grdi_type_of(source)->dims));
    t->places[source.node->id].held = 1;
    t->places[source.node->id].moved = true;
    return GRD_OK;
}

void grdi_interpreter_hold_cuts(grdi_interpreter *t)
{
    t->hold_cuts = true;
}

const double *grdi_interpreter_get(const grdi_interpreter *t, grd_tensor x)
{
    return (size_t)x.node->id < t->count ? t->places[x.node->id].data[x.output] : NULL;
}

static void mark_needed(grdi_interpreter *t, const grd_tensor *wanted, int32_t count)
{
    for (size_t id = 0; id < t->count; id++) t->places[id].needed = 0;
    for (int32_t i = 0; i < count; i++) t->places[wanted[i].node->id].needed |= (uint8_t)(1u << wanted[i].output);
    for (size_t id = t->count; id-- > 0;) {
        const grdi_node *node = t->graph->nodes[id];
        for (int32_t i = 0; t->places[id].needed && i < node->input_count; i++)
            t->places[node->in[i].node->id].needed |= (uint8_t)(1u << node->in[i].output);
    }
}

static bool run_reference(grdi_interpreter *t, const grdi_node *node)
{
    grdi_type in_type[GRDI_INPUTS_MAX];
    const double *in[GRDI_INPUTS_MAX];
    double *out[GRDI_OUTPUTS_MAX] = {NULL};
    place *p = &t->places[node->id];
    for (int32_t i = 0; i < node->input_count; i++) {
        in_type[i] = *grdi_type_of(node->in[i]);
        in[i] = grdi_interpreter_get(t, node->in[i]);
    }
    for (int32_t o = 0; o < node->output_count; o++) {
        if (!(p->needed >> o & 1) && !(node->op->flags & GRDI_OP_WHOLE)) continue;
        out[o] = room(t, (grd_tensor){(grdi_node *)node, o});
        if (!out[o]) return false;
        p->held |= (uint8_t)(1u << o);
    }
    grdi_sample_reference(&(grdi_reference){.op = node->op,
                                            .attrs = node->attrs,
                                            .input_count = node->input_count,
                                            .output_count = node->output_count,
                                            .in_type = in_type,
                                            .out_type = node->out,
                                            .in = in,
                                            .out = out,
                                            .path_hash = node->path_hash,
                                            .literal = node->literal});
    return true;
}

static grd_status compute(grdi_interpreter *t, grdi_node *node, grd_error *error)
{
    if (node->literal) {
        double *to = room(t, (grd_tensor){node, 0});
        if (!to) return grd_fail(error, GRD_E_MEMORY, "out of memory for values in double");
        grdi_sample_load(node->out[0].dtype, node->literal, grd_dims_count(node->out[0].dims), to);
        t->places[node->id].held = 1;
        return GRD_OK;
    }
    if (node->op->flags & GRDI_OP_SOURCE)
        return grd_fail(error, GRD_E_STATE, "%s '%s' has no value", node->op->name, node->name ? node->name : "");
    if (!node->op->reference) return grd_fail(error, GRD_E_UNSUPPORTED, "%s has no reference", node->op->name);
    return run_reference(t, node) ? GRD_OK : grd_fail(error, GRD_E_MEMORY, "out of memory for values in double");
}

grd_status grdi_interpreter_run(grdi_interpreter *t, const grd_tensor *wanted, int32_t count, grd_error *error)
{
    if (!grow(t)) return grd_fail(error, GRD_E_MEMORY, "out of memory for values in double");
    mark_needed(t, wanted, count);
    for (size_t id = 0; id < t->count; id++) {
        grdi_node *node = t->graph->nodes[id];
        place *p = &t->places[id];
        if (t->hold_cuts && node->op == &grdi_op_stop_gradient && p->held) continue;
        for (int32_t i = 0; i < node->input_count && !p->moved; i++) p->moved = t->places[node->in[i].node->id].moved;
        if (p->moved && !(node->op->flags & GRDI_OP_SOURCE)) p->held = 0;
        if (!(p->needed & ~p->held)) continue;
        grd_status status = compute(t, node, error);
        if (status) return status;
    }
    for (size_t id = 0; id < t->count; id++) t->places[id].moved = false;
    return GRD_OK;
}
