/* source.c - where values come from and where they are kept: input, constant, parameter, state, assign. */
#include "graph/graph.h"
#include "base/random.h"
#include "ops/table.h"

#include <string.h>

/* Sources say their type in attributes. */
static bool source_shape(grdi_infer *c)
{
    const grd_attr *dims = grdi_attr_ints(c->attrs, "dims");
    if (dims->count > GRD_RANK_MAX)
        return grdi_infer_fail(c, GRD_E_SHAPE, "%d dimensions, at most %d are possible", dims->count, GRD_RANK_MAX);
    for (int32_t i = 0; i < dims->count; i++)
        if (dims->ints[i] < 1)
            return grdi_infer_fail(c, GRD_E_SHAPE, "dimension %d is %lld (must be 1 or more)", i,
                                   (long long)dims->ints[i]);
    c->out[0].dtype = (grd_dtype)grdi_attr_int(c->attrs, "dtype");
    c->out[0].dims = grd_dims_make(dims->count, dims->ints);
    return true;
}

#define SOURCE(op_name)                                                                                                \
    const grdi_op grdi_op_##op_name = {                                                                                \
        .name = #op_name,                                                                                              \
        .flags = GRDI_OP_SOURCE | GRDI_OP_NO_GRADIENT,                                                                 \
        .attrs = {GRD_INTS("dims", NULL, 0), GRD_TYPE("dtype", GRD_F32)},                                              \
        .shape = source_shape,                                                                                         \
    }

SOURCE(input);
SOURCE(constant);
SOURCE(parameter);
SOURCE(state);

static grd_tensor emit_source(grd_graph *graph, const grdi_op *op, const char *name, grd_dtype dtype, grd_dims dims)
{
    if (!graph) return (grd_tensor){NULL, 0};
    if (dims.rank < 0 || dims.rank > GRD_RANK_MAX)
        return grdi_graph_fail(graph, GRD_E_SHAPE, "%s: '%s' has %d dimensions, at most %d are possible", op->name,
                               name, dims.rank, GRD_RANK_MAX);
    const grd_attr attrs[] = {GRD_INTS("dims", dims.dim, dims.rank), GRD_TYPE("dtype", dtype)};
    grd_tensor t = grdi_emit(graph, op, NULL, 0, attrs, 2, NULL);
    if (!t.node) return t;
    t.node->name = grdi_region_strdup(&graph->region, name);
    return t.node->name ? t : grdi_graph_fail(graph, GRD_E_MEMORY, "%s: out of memory", op->name);
}

/* Whether a source can be made: there is a graph without an error, and a name. */
static bool named(grd_graph *graph, const char *what, const char *name)
{
    if (!graph || graph->error.status) return false;
    if (!name || !name[0]) grdi_graph_fail(graph, GRD_E_ARGUMENT, "%s: no name", what);
    return name && name[0];
}

static char *scoped(grd_graph *graph, const char *what, const char *name)
{
    char *path = grdi_region_format(&graph->region, "%s%s%s", graph->scope, graph->scope[0] ? "/" : "", name);
    if (!path) grdi_graph_fail(graph, GRD_E_MEMORY, "%s: out of memory", what);
    return path;
}

grd_tensor grd_input(grd_graph *graph, const char *name, grd_dtype dtype, grd_dims dims)
{
    if (!named(graph, "input", name)) return (grd_tensor){NULL, 0};
    for (size_t i = 0; i < graph->count; i++)
        if (graph->nodes[i]->op == &grdi_op_input && strcmp(graph->nodes[i]->name, name) == 0)
            return grdi_graph_fail(graph, GRD_E_ARGUMENT, "input: there is an input '%s' already", name);
    return emit_source(graph, &grdi_op_input, name, dtype, dims);
}

grd_tensor grd_constant(grd_graph *graph, grd_dtype dtype, grd_dims dims, const void *data)
{
    grd_tensor t = emit_source(graph, &grdi_op_constant, "constant", dtype, dims);
    if (!t.node) return t;
    if (!data) return grdi_graph_fail(graph, GRD_E_ARGUMENT, "constant: its data is NULL");
    size_t size = grdi_type_bytes(*grdi_type_of(t));
    void *copy = grdi_region_alloc(&graph->region, size);
    if (!copy) return grdi_graph_fail(graph, GRD_E_MEMORY, "constant: out of memory for %zu bytes", size);
    memcpy(copy, data, size);
    t.node->literal = copy;
    return t;
}

static grd_tensor variable_node(grd_graph *graph, const grdi_op *op, grdi_variable *variable)
{
    grd_tensor t = emit_source(graph, op, variable->path, variable->type.dtype, variable->type.dims);
    if (t.node) t.node->variable = variable;
    return t;
}

grd_tensor grdi_variable_node(grd_graph *graph, grdi_variable *variable)
{
    bool parameter = variable->kind == GRDI_VARIABLE_PARAMETER && !variable->view;
    return variable_node(graph, parameter ? &grdi_op_parameter : &grdi_op_state, variable);
}

/* The node that already stands for the variable in this graph, or NULL. */
static grdi_node *existing_node(const grd_graph *graph, const grdi_variable *variable)
{
    for (size_t i = 0; i < graph->count; i++)
        if (graph->nodes[i]->variable == variable) return graph->nodes[i];
    return NULL;
}

/* False, and an error of the graph, where the model has the path with another meaning. */
static bool fits(grd_graph *graph, const grdi_variable *variable, grdi_variable_kind kind, grdi_type type)
{
    bool kept_so = variable->type.dtype == type.dtype || kind == GRDI_VARIABLE_PARAMETER; /* whose nodes are f32 */
    if (variable->kind == kind && kept_so && grd_dims_equal(variable->type.dims, type.dims)) return true;
    static const char *const kinds[] = {"parameter", "state", "gradient", "moment"};
    char was[GRD_DIMS_TEXT_MAX], now[GRD_DIMS_TEXT_MAX];
    grdi_graph_fail(graph, GRD_E_SHAPE, "'%s' is a %s %s%s already, asked for as %s %s%s", variable->path,
                    kinds[variable->kind], grd_dtype_name(variable->type.dtype),
                    grd_dims_text(variable->type.dims, was), kinds[kind], grd_dtype_name(type.dtype),
                    grd_dims_text(type.dims, now));
    return false;
}

/* A node of the variable `path`, which the model gets if it has none yet: *made then says so. A type that no node can
 * have leaves the model as it was. */
static grd_tensor variable_named(grd_graph *graph, const grdi_op *op, const char *path, grdi_variable_kind kind,
                                 grdi_type type, bool *made)
{
    grdi_variable *variable = grdi_model_find(graph->model, path);
    grd_tensor t = emit_source(graph, op, path, type.dtype, type.dims);
    *made = t.node && !variable;
    if (*made) variable = grdi_model_add(graph->model, path, kind, type);
    if (t.node && !variable) return grdi_graph_fail(graph, GRD_E_MEMORY, "out of memory for '%s'", path);
    if (t.node) t.node->variable = variable;
    return t;
}

grd_tensor grd_parameter_with(grd_graph *graph, const char *name, grd_dims dims, const grd_parameter_options *options)
{
    static const grd_parameter_options none = {.size = sizeof(none)};
    const grdi_type type = {GRD_F32, dims};
    if (!options) options = &none;
    char *path = named(graph, "parameter", name) ? scoped(graph, "parameter", name) : NULL;
    if (!path) return (grd_tensor){NULL, 0};
    const grdi_variable *known = grdi_model_find(graph->model, path);
    if (known && !fits(graph, known, GRDI_VARIABLE_PARAMETER, type)) return (grd_tensor){NULL, 0};
    grdi_node *node = known ? existing_node(graph, known) : NULL;
    if (node && options->tie) return (grd_tensor){node, 0};
    if (node)
        return grdi_graph_fail(graph, GRD_E_ARGUMENT, "parameter: '%s' exists already (set .tie to use it again)",
                               path);
    bool made;
    grd_tensor t = variable_named(graph, &grdi_op_parameter, path, GRDI_VARIABLE_PARAMETER, type, &made);
    if (!made || !t.node) return t;
    if (dims.rank >= 2) t.node->variable->type.dtype = graph->model->weight_dtype;
    t.node->variable->init = options->init;
    t.node->variable->scale = options->scale;
    t.node->variable->frozen = options->frozen;
    t.node->variable->blocks = options->blocks > 1 ? options->blocks : 1;
    return t;
}

static grd_tensor make_state(grd_graph *graph, const char *name, grdi_type type, grd_init init)
{
    char *path = named(graph, "state", name) ? scoped(graph, "state", name) : NULL;
    if (!path) return (grd_tensor){NULL, 0};
    const grdi_variable *known = grdi_model_find(graph->model, path);
    if (known && !fits(graph, known, GRDI_VARIABLE_STATE, type)) return (grd_tensor){NULL, 0};
    if (known && existing_node(graph, known))
        return grdi_graph_fail(graph, GRD_E_ARGUMENT, "state: '%s' exists already in this graph", path);
    bool made;
    grd_tensor t = variable_named(graph, &grdi_op_state, path, GRDI_VARIABLE_STATE, type, &made);
    if (t.node) t.node->variable->init = init;
    return t;
}

grd_tensor grd_state(grd_graph *graph, const char *name, grd_dtype dtype, grd_dims dims)
{
    return make_state(graph, name, (grdi_type){dtype, dims}, GRD_INIT_ZEROS);
}

grd_tensor grd_state_of_ones(grd_graph *graph, const char *name, grd_dims dims)
{
    return make_state(graph, name, (grdi_type){GRD_F32, dims}, GRD_INIT_ONES);
}

/* ---- assign: the new value takes the target's place; mode 1 adds, mode 2 adds only while the program accumulates ----
 */

static bool assign_shape(grdi_infer *c)
{
    if (!grdi_infer_same_dtype(c, 0, 1)) return false;
    char a[GRD_DIMS_TEXT_MAX], b[GRD_DIMS_TEXT_MAX];
    if (!grd_dims_equal(c->in[0].dims, c->in[1].dims))
        return grdi_infer_fail(c, GRD_E_SHAPE, "the target is %s, the value %s", grd_dims_text(c->in[0].dims, a),
                               grd_dims_text(c->in[1].dims, b));
    c->out[0] = c->in[0];
    return true;
}

static void assign_reference(const grdi_reference *r)
{
    int64_t count = grd_dims_count(r->out_type[0].dims);
    bool add = grdi_attr_int(r->attrs, "mode") == 1;
    for (int64_t i = 0; i < count; i++) r->out[0][i] = (add ? r->in[0][i] : 0.0) + r->in[1][i];
}

static const grdi_sample assign_samples[] = {
    {.in = {"f32[7,13]", "f32[7,13]"}},
    {.in = {"f32[5]", "f32[5]"}, .attrs = "mode=1"},
    {.in = {"f32[5]", "f32[6]"}, .bad = "the target is [5], the value [6]"},
    {.in = {NULL}},
};

const grdi_op grdi_op_assign = {
    .name = "assign",
    .inputs = 2,
    .flags = GRDI_OP_EFFECT | GRDI_OP_NO_GRADIENT,
    .attrs = {GRD_INT("mode", 0)},
    .shape = assign_shape,
    .reference = assign_reference,
    .inplace = {1},
    .samples = assign_samples,
};

grd_tensor grd_assign(grd_tensor state, grd_tensor value)
{
    if (state.node && (state.node->op != &grdi_op_state && state.node->op != &grdi_op_parameter))
        return grdi_graph_fail(state.node->graph, GRD_E_ARGUMENT, "assign: the target is no state or parameter");
    return GRDI_EMIT(&grdi_op_assign, state, value);
}
