/* graph.c - graphs, scopes and the making of nodes. */
#include "graph/graph.h"

#include "base/random.h"
#include "graph/custom.h"

#include <stdarg.h>
#include <string.h>

/* More than any memory holds, and so few that sizes in bytes, strides and offsets do not overflow. */
static const int64_t ELEMENTS_MAX = (int64_t)1 << 48;

grd_graph *grdi_graph_create(grd_model *model)
{
    grd_graph *graph = grdi_alloc_zero(1, sizeof(*graph));
    if (!graph) return NULL;
    graph->model = model;
    graph->scope = "";
    return graph;
}

void grdi_graph_destroy(void *object)
{
    grd_graph *graph = object;
    if (!graph) return;
    grdi_children_release(&graph->children);
    grdi_free(graph->nodes);
    grdi_region_free(&graph->region);
    grdi_free(graph);
}

grd_graph *grd_graph_new(grd_model *model)
{
    if (!model) return NULL;
    grd_graph *graph = grdi_graph_create(model);
    if (graph && grdi_children_add(&model->children, graph, grdi_graph_destroy)) return graph;
    grdi_graph_destroy(graph);
    grd_fail(&model->engine->error, GRD_E_MEMORY, "out of memory for a graph");
    return NULL;
}

void grd_graph_free(grd_graph *graph)
{
    if (!graph) return;
    grdi_children_remove(&graph->model->children, graph);
    grdi_graph_destroy(graph);
}

const grd_error *grd_graph_error(const grd_graph *graph)
{
    static const grd_error none = {GRD_E_MEMORY, "no graph (its model or engine could not be made)"};
    return graph ? &graph->error : &none;
}

grd_tensor grdi_graph_fail(grd_graph *graph, grd_status status, const char *format, ...)
{
    if (!graph) return (grd_tensor){NULL, 0};
    char text[GRD_MESSAGE_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    grd_fail(&graph->error, status, "%s%s%s", graph->scope, graph->scope[0] ? ": " : "", text);
    if (graph->model) grd_fail(&graph->model->engine->error, status, "%s", graph->error.message);
    return (grd_tensor){NULL, 0};
}

void grd_scope_push(grd_graph *graph, const char *format, ...)
{
    if (!graph) return;
    if (!format) {
        grdi_graph_fail(graph, GRD_E_ARGUMENT, "scope: no name (a layer or grd_scope_push was given NULL)");
        return;
    }
    if (graph->scope_depth >= (int32_t)(sizeof(graph->scopes) / sizeof(graph->scopes[0]))) {
        grdi_graph_fail(graph, GRD_E_ARGUMENT, "scopes nest more than 64 deep");
        return;
    }
    char name[256];
    va_list args;
    va_start(args, format);
    vsnprintf(name, sizeof(name), format, args);
    va_end(args);
    const char *scope = grdi_region_format(&graph->region, "%s%s%s", graph->scope, graph->scope[0] ? "/" : "", name);
    if (!scope) {
        grdi_graph_fail(graph, GRD_E_MEMORY, "out of memory for a scope");
        return;
    }
    graph->scopes[graph->scope_depth++] = graph->scope;
    graph->scope = scope;
}

void grd_scope_pop(grd_graph *graph)
{
    if (!graph) return;
    if (graph->scope_depth == 0) grdi_graph_fail(graph, GRD_E_STATE, "grd_scope_pop without a grd_scope_push");
    else graph->scope = graph->scopes[--graph->scope_depth];
}

void grd_segment_begin(grd_graph *graph)
{
    if (graph) graph->segment = ++graph->segment_count;
}

void grd_segment_end(grd_graph *graph)
{
    if (graph) graph->segment = 0;
}

/* ---- nodes ---- */

static grdi_node *node_new(grd_graph *graph, const grdi_op *op, int32_t input_count, int32_t output_count)
{
    grdi_region *region = &graph->region;
    grdi_node *node = grdi_region_alloc(region, sizeof(*node));
    if (!node || !GRDI_GROW(graph->nodes, graph->capacity, graph->count)) return NULL;
    node->graph = graph;
    node->op = op;
    node->input_count = input_count;
    node->output_count = output_count;
    node->scope = graph->scope;
    node->phase = graph->phase;
    node->segment = graph->segment;
    node->in = grdi_region_alloc(region, sizeof(grd_tensor) * (size_t)(input_count + 1));
    node->out = grdi_region_alloc(region, sizeof(grdi_type) * (size_t)(output_count + 1));
    if (!node->in || !node->out) return NULL;
    node->id = (int32_t)graph->count;
    graph->nodes[graph->count++] = node;
    return node;
}

/* A copy of attribute lists that lives as long as the graph; NULL when out of memory. */
static grd_attr *attrs_copy(grd_graph *graph, const grd_attr *attrs, int32_t count)
{
    grd_attr *copy = grdi_region_alloc(&graph->region, sizeof(*copy) * (size_t)(count + 1));
    if (!copy) return NULL;
    for (int32_t i = 0; i < count; i++) {
        copy[i] = attrs[i];
        if (attrs[i].kind != GRD_ATTR_INTS || attrs[i].count == 0) continue;
        size_t size = sizeof(int64_t) * (size_t)attrs[i].count;
        int64_t *ints = grdi_region_alloc(&graph->region, size);
        if (!ints) return NULL;
        memcpy(ints, attrs[i].ints, size);
        copy[i].ints = ints;
    }
    return copy;
}

grdi_node *grdi_node_copy(grd_graph *graph, const grdi_node *node, const grd_tensor *in)
{
    grdi_node *copy = node_new(graph, node->op, node->input_count, node->output_count);
    if (!copy) return NULL;
    int32_t attr_count = 0;
    while (node->attrs[attr_count].name) attr_count++;
    copy->attrs = attrs_copy(graph, node->attrs, attr_count);
    copy->scope = grdi_region_strdup(&graph->region, node->scope);
    copy->name = node->name ? grdi_region_strdup(&graph->region, node->name) : NULL;
    if (!copy->attrs || !copy->scope || (node->name && !copy->name)) return NULL;
    copy->path_hash = node->path_hash;
    copy->phase = node->phase;
    copy->segment = node->segment;
    copy->variable = node->variable;
    copy->literal = node->literal; /* stays with the graph that was copied from, which outlives its programs */
    if (node->input_count) memcpy(copy->in, in, sizeof(*in) * (size_t)node->input_count);
    memcpy(copy->out, node->out, sizeof(*node->out) * (size_t)node->output_count);
    return copy;
}

static const char *kind_name(grd_attr_kind kind)
{
    static const char *const names[] = {"int", "float", "bool", "dtype", "ints"};
    return (size_t)kind < sizeof(names) / sizeof(names[0]) ? names[kind] : "none at all";
}

/* Defaults of the op overlaid with what the caller gave; false and an error for names or kinds that do not fit. */
static bool attrs_resolve(grd_graph *graph, const grdi_op *op, const grd_attr *given, int32_t count, grd_attr *all,
                          int32_t *all_count)
{
    int32_t total = 0;
    while (total < GRDI_ATTRS_MAX && op->attrs[total].name) {
        all[total] = op->attrs[total];
        total++;
    }
    for (int32_t i = 0; i < count; i++) {
        int32_t at = given[i].name ? 0 : total;
        while (at < total && strcmp(all[at].name, given[i].name) != 0) at++;
        if (at == total) {
            grdi_graph_fail(graph, GRD_E_ARGUMENT, "%s: there is no attribute '%s'", op->name,
                            given[i].name ? given[i].name : "(null)");
            return false;
        }
        if (all[at].kind == GRD_ATTR_FLOAT && given[i].kind == GRD_ATTR_INT) {
            all[at].f = (double)given[i].i;
            continue;
        }
        if (all[at].kind != given[i].kind) {
            grdi_graph_fail(graph, GRD_E_ARGUMENT, "%s: attribute '%s' is of kind %s, not %s", op->name,
                            given[i].name, kind_name(all[at].kind), kind_name(given[i].kind));
            return false;
        }
        if (all[at].kind == GRD_ATTR_INTS && (given[i].count < 0 || (given[i].count > 0 && !given[i].ints))) {
            grdi_graph_fail(graph, GRD_E_ARGUMENT, "%s: attribute '%s' has %d integers at NULL", op->name,
                            given[i].name, given[i].count);
            return false;
        }
        const char *name = all[at].name;
        all[at] = given[i];
        all[at].name = name;
    }
    all[total] = (grd_attr){.name = NULL};
    *all_count = total;
    return true;
}

/* The hash of scope, op and how many such ops the scope already holds: stable when other nodes are added. */
static uint64_t path_hash(const grd_graph *graph, const grdi_op *op)
{
    int32_t earlier = 0;
    for (size_t i = 0; i < graph->count; i++)
        if (graph->nodes[i]->op == op && strcmp(graph->nodes[i]->scope, graph->scope) == 0) earlier++;
    char path[512];
    snprintf(path, sizeof(path), "%s/%s#%d", graph->scope, op->name, earlier);
    return grdi_hash_text(path);
}

bool grdi_graph_owns(grd_graph *graph, const char *what, const grd_tensor *tensors, int32_t count)
{
    for (int32_t i = 0; i < count && !graph->error.status; i++) {
        const grdi_node *node = tensors[i].node;
        if (node->graph != graph)
            grdi_graph_fail(graph, GRD_E_ARGUMENT, "%s %d belongs to another graph (build all in one)", what, i);
        else if (tensors[i].output < 0 || tensors[i].output >= node->output_count)
            grdi_graph_fail(graph, GRD_E_ARGUMENT, "%s %d is output %d of %s, which has %d", what, i, tensors[i].output,
                            node->op->name, node->output_count);
    }
    return !graph->error.status;
}

static bool check_inputs(grd_graph *graph, const grdi_op *op, const grd_tensor *in, int32_t count)
{
    char what[80];
    int32_t most = op->inputs_max ? op->inputs_max : op->inputs;
    snprintf(what, sizeof(what), "%s: input", op->name);
    if (!grdi_graph_owns(graph, what, in, count)) return false;
    if (count >= op->inputs && count <= most) return true;
    grdi_graph_fail(graph, GRD_E_ARGUMENT, "%s: takes %d to %d inputs, was given %d", op->name, op->inputs, most,
                    count);
    return false;
}

static bool check_output(grd_graph *graph, const grdi_op *op, int32_t index, grdi_type type)
{
    if (!grd_dtype_size(type.dtype)) {
        grdi_graph_fail(graph, GRD_E_DTYPE, "%s: output %d has no valid dtype", op->name, index);
        return false;
    }
    for (int32_t d = 0; d < type.dims.rank && d < GRD_RANK_MAX; d++) /* strides are made of all dimensions */
        if (type.dims.dim[d] == 0) type.dims.dim[d] = 1;
    int64_t count = grd_dims_count(type.dims);
    if (count >= 0 && count <= ELEMENTS_MAX) return true;
    grdi_graph_fail(graph, GRD_E_SHAPE, "%s: output %d has a negative size or more than 2^48 elements", op->name,
                    index);
    return false;
}

grd_tensor grdi_emit(grd_graph *graph, const grdi_op *op, const grd_tensor *in, int32_t input_count,
                     const grd_attr *attrs, int32_t attr_count, grd_tensor *outputs)
{
    const grd_tensor poison = {NULL, 0};
    for (int32_t o = 0; outputs && o < GRDI_OUTPUTS_MAX; o++) outputs[o] = poison;
    for (int32_t i = 0; i < input_count; i++)
        if (!in || !in[i].node) return poison;
    if (!graph && input_count > 0) graph = in[0].node->graph;
    if (!graph || graph->error.status || !check_inputs(graph, op, in, input_count)) return poison;

    grd_attr all[GRDI_ATTRS_MAX + 1];
    int32_t all_count;
    if (!attrs_resolve(graph, op, attrs, attr_count, all, &all_count)) return poison;

    grdi_type types[GRDI_INPUTS_MAX];
    for (int32_t i = 0; i < input_count; i++) types[i] = *grdi_type_of(in[i]);
    grdi_infer c = {
        .op = op, .attrs = all, .input_count = input_count, .in = types, .output_count = op->outputs ? op->outputs : 1};
    if (!op->shape(&c)) return grdi_graph_fail(graph, c.status, "%s: %s", op->name, c.message);
    for (int32_t o = 0; o < c.output_count; o++)
        if (!check_output(graph, op, o, c.out[o])) return poison;

    uint64_t hash = 0;
    if (op->flags & GRDI_OP_RANDOM) {
        hash = path_hash(graph, op);
        for (int32_t i = 0; i < all_count; i++) {
            if (strcmp(all[i].name, "stream") != 0) continue;
            if (all[i].i == 0) all[i].i = (int64_t)hash;
            hash = (uint64_t)all[i].i;
        }
    }
    grdi_node *node = node_new(graph, op, input_count, c.output_count);
    if (node) node->attrs = attrs_copy(graph, all, all_count);
    if (!node || !node->attrs) return grdi_graph_fail(graph, GRD_E_MEMORY, "%s: out of memory", op->name);
    node->path_hash = hash;
    if (input_count) memcpy(node->in, in, sizeof(*in) * (size_t)input_count);
    memcpy(node->out, c.out, sizeof(*c.out) * (size_t)c.output_count);
    for (int32_t o = 0; outputs && o < c.output_count; o++) outputs[o] = (grd_tensor){node, o};
    return (grd_tensor){node, 0};
}

grd_tensor grd_call(grd_graph *graph, const char *name, const grd_tensor *inputs, int32_t input_count,
                    const grd_attr *attrs, int32_t attr_count, grd_tensor *outputs)
{
    const grdi_op *op = grdi_op_find(name);
    if (!op && graph && graph->model) op = grdi_custom_find(graph->model->engine, name);
    bool source = op && (op->flags & GRDI_OP_SOURCE); /* its node also needs a name, a variable or data */
    if (op && ((!inputs && input_count > 0) || (!attrs && attr_count > 0) || attr_count < 0)) {
        for (int32_t o = 0; outputs && o < GRDI_OUTPUTS_MAX; o++) outputs[o] = (grd_tensor){NULL, 0};
        return grdi_graph_fail(graph, GRD_E_ARGUMENT, "%s: %d inputs and %d attributes, of which there is no list",
                               name, input_count, attr_count);
    }
    if (op && !source && input_count >= 0 && input_count <= GRDI_INPUTS_MAX)
        return grdi_emit(graph, op, inputs, input_count, attrs, attr_count, outputs);
    for (int32_t o = 0; outputs && o < GRDI_OUTPUTS_MAX; o++) outputs[o] = (grd_tensor){NULL, 0};
    if (!op) return grdi_graph_fail(graph, GRD_E_ARGUMENT, "there is no op '%s' (grd_op_name lists those there are)",
                                    name ? name : "(null)");
    if (source) return grdi_graph_fail(graph, GRD_E_ARGUMENT, "%s: not to be had by name (use grd_%s)", name, name);
    return grdi_graph_fail(graph, GRD_E_ARGUMENT, "%s: cannot take %d inputs", name, input_count);
}

/* ---- looking at values ---- */

bool grd_is_poison(grd_tensor tensor)
{
    return tensor.node == NULL;
}

grd_graph *grd_tensor_graph(grd_tensor tensor)
{
    return tensor.node ? tensor.node->graph : NULL;
}

grd_dtype grd_tensor_dtype(grd_tensor tensor)
{
    return tensor.node ? grdi_type_of(tensor)->dtype : GRD_F32;
}

grd_dims grd_tensor_dims(grd_tensor tensor)
{
    return tensor.node ? grdi_type_of(tensor)->dims : grd_scalar();
}

int64_t grd_dim(grd_tensor tensor, int32_t axis)
{
    grd_dims dims = grd_tensor_dims(tensor);
    if (axis < 0) axis += dims.rank;
    return axis >= 0 && axis < dims.rank ? dims.dim[axis] : -1;
}

bool grdi_is_one(grd_tensor tensor)
{
    return tensor.node && strcmp(tensor.node->op->name, "full") == 0 &&
           grdi_attr_float(tensor.node->attrs, "value") == 1.0;
}
