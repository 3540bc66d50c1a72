/* pass.c - what all passes share, and their order. */
#include "passes/pass.h"

#include "ops/table.h"

#include <string.h>

#define REPORT " (a fault of the engine: please report it, and disable passes until one is found to blame)"

bool grdi_rewrite_begin(grdi_rewrite *r, const grd_graph *old, grd_error *error)
{
    *r = (grdi_rewrite){.old = old};
    r->graph = grdi_graph_create(old->model);
    r->map = grdi_alloc_zero(old->count + 1, sizeof(*r->map) * GRDI_OUTPUTS_MAX);
    if (r->graph && r->map) return true;
    grdi_graph_destroy(r->graph);
    grdi_free(r->map);
    grd_fail(error, GRD_E_MEMORY, "out of memory for a graph");
    return false;
}

grd_tensor grdi_mapped(const grdi_rewrite *r, grd_tensor old)
{
    return r->map[(size_t)old.node->id * GRDI_OUTPUTS_MAX + (size_t)old.output];
}

void grdi_map(grdi_rewrite *r, grd_tensor old, grd_tensor fresh)
{
    r->map[(size_t)old.node->id * GRDI_OUTPUTS_MAX + (size_t)old.output] = fresh;
}

grdi_node *grdi_rewrite_copy(grdi_rewrite *r, const grdi_node *node)
{
    grd_tensor in[GRDI_INPUTS_MAX];
    for (int32_t i = 0; i < node->input_count; i++) in[i] = grdi_mapped(r, node->in[i]);
    grdi_node *copy = grdi_node_copy(r->graph, node, in);
    for (int32_t o = 0; copy && o < copy->output_count; o++)
        grdi_map(r, (grd_tensor){(grdi_node *)node, o}, (grd_tensor){copy, o});
    return copy;
}

void grdi_rewrite_context(grdi_rewrite *r, const grdi_node *node)
{
    const char *scope = grdi_region_strdup(&r->graph->region, node->scope); /* the old graph's text goes with it */
    r->graph->scope = scope ? scope : "";
    r->graph->phase = node->phase;
    r->graph->segment = node->segment;
}

grd_graph *grdi_rewrite_end(grdi_rewrite *r, grdi_compile *c, bool ok)
{
    if (r->graph->error.status) {
        grd_fail(c->error, r->graph->error.status, "%s", r->graph->error.message);
        ok = false;
    } else if (!ok) {
        grd_fail(c->error, GRD_E_MEMORY, "out of memory for a graph");
    }
    for (int32_t i = 0; ok && i < c->root_count; i++) c->roots[i] = grdi_mapped(r, c->roots[i]);
    grdi_free(r->map);
    r->map = NULL;
    if (ok) return r->graph;
    grdi_graph_destroy(r->graph);
    return NULL;
}

int32_t *grdi_use_counts(const grd_graph *graph, const grdi_compile *c)
{
    int32_t *uses = grdi_alloc_zero(graph->count + 1, sizeof(*uses) * GRDI_OUTPUTS_MAX);
    if (!uses) return NULL;
    for (size_t n = 0; n < graph->count; n++) {
        const grdi_node *node = graph->nodes[n];
        for (int32_t i = 0; i < node->input_count; i++)
            uses[(size_t)node->in[i].node->id * GRDI_OUTPUTS_MAX + (size_t)node->in[i].output]++;
    }
    for (int32_t i = 0; i < c->root_count; i++)
        uses[(size_t)c->roots[i].node->id * GRDI_OUTPUTS_MAX + (size_t)c->roots[i].output]++;
    return uses;
}

/* Marks all that the marked nodes need; true if something was added. */
static void mark_inputs(const grd_graph *graph, bool *needed)
{
    for (size_t n = graph->count; n-- > 0;)
        for (int32_t i = 0; needed[n] && i < graph->nodes[n]->input_count; i++)
            needed[graph->nodes[n]->in[i].node->id] = true;
}

/* An assign happens wherever its state is read. */
static bool mark_effects(const grd_graph *graph, bool *needed)
{
    bool added = false;
    for (size_t n = 0; n < graph->count; n++) {
        const grdi_node *node = graph->nodes[n];
        if (needed[n] || !(node->op->flags & GRDI_OP_EFFECT) || !needed[node->in[0].node->id]) continue;
        needed[n] = added = true;
    }
    return added;
}

grd_graph *grdi_pass_extract(grdi_compile *c, const grd_graph *old)
{
    grdi_rewrite r;
    if (!grdi_rewrite_begin(&r, old, c->error)) return NULL;
    bool *needed = grdi_alloc_zero(old->count + 1, sizeof(bool));
    bool ok = needed != NULL;
    for (int32_t i = 0; ok && i < c->root_count; i++) needed[c->roots[i].node->id] = true;
    if (ok) do
            mark_inputs(old, needed);
        while (mark_effects(old, needed));
    for (size_t n = 0; ok && n < old->count; n++)
        if (needed[n]) ok = grdi_rewrite_copy(&r, old->nodes[n]) != NULL;
    grdi_free(needed);
    return grdi_rewrite_end(&r, c, ok);
}

bool grdi_listed(const char *list, const char *name)
{
    size_t length = strlen(name);
    while (list && *list) {
        size_t item = strcspn(list, ",");
        if (item == length && strncmp(list, name, length) == 0) return true;
        list += item + (list[item] == ',');
    }
    return false;
}

bool grdi_verify_graph(const grd_graph *graph, grd_error *error)
{
    for (size_t n = 0; n < graph->count; n++) {
        const grdi_node *node = graph->nodes[n];
        grdi_type in[GRDI_INPUTS_MAX];
        for (int32_t i = 0; i < node->input_count; i++) {
            const grdi_node *from = node->in[i].node;
            if (!from || from->graph != graph || from->id >= (int32_t)n || node->in[i].output >= from->output_count)
                return !grd_fail(error, GRD_E_STATE, "verify: node %zu (%s) input %d is not made before it" REPORT, n,
                                 node->op->name, i);
            in[i] = *grdi_type_of(node->in[i]);
        }
        grdi_infer infer = {.op = node->op,
                            .attrs = node->attrs,
                            .input_count = node->input_count,
                            .in = in,
                            .output_count = node->op->outputs ? node->op->outputs : 1};
        if (!node->op->shape(&infer))
            return !grd_fail(error, GRD_E_STATE, "verify: node %zu (%s): %s" REPORT, n, node->op->name, infer.message);
        for (int32_t o = 0; o < node->output_count; o++)
            if (infer.out[o].dtype != node->out[o].dtype || !grd_dims_equal(infer.out[o].dims, node->out[o].dims))
                return !grd_fail(error, GRD_E_STATE,
                                 "verify: node %zu (%s) output %d has another type than its rule says" REPORT, n,
                                 node->op->name, o);
    }
    return true;
}

static const struct {
    const char *name;
    grdi_pass run;
} passes[] = {
    {"extract", grdi_pass_extract},   {"simplify", grdi_pass_simplify}, {"recompute", grdi_pass_recompute},
    {"epilogue", grdi_pass_epilogue}, {"fuse", grdi_pass_fuse},         {"precision", grdi_pass_precision},
    {"schedule", grdi_pass_schedule},
};

/* Asked for, or always needed, and not switched off. */
static bool wanted(const grdi_compile *c, size_t index)
{
    grdi_pass pass = passes[index].run;
    if (pass == grdi_pass_extract || pass == grdi_pass_schedule) return true;
    if (pass == grdi_pass_precision && !c->options->bf16 && !c->options->f16) return false;
    return !grdi_listed(c->options->disable, passes[index].name);
}

static bool dump(grdi_compile *c, const grd_graph *graph, size_t index)
{
    if (!c->options->dump) return true;
    char path[4096];
    snprintf(path, sizeof(path), "%s/%zu-%s.dot", c->options->dump, index, passes[index].name);
    if (grdi_graph_dump_dot(graph, path, c->error)) return false;
    snprintf(path, sizeof(path), "%s/%zu-%s.json", c->options->dump, index, passes[index].name);
    return grdi_graph_dump_json(graph, path, c->error) == GRD_OK;
}

grd_graph *grdi_passes_run(grdi_compile *c, const grd_graph *graph)
{
    grd_graph *now = NULL;
    for (size_t i = 0; i < sizeof(passes) / sizeof(passes[0]); i++) {
        if (!wanted(c, i)) continue;
        grd_graph *next = passes[i].run(c, now ? now : graph);
        if (now) grdi_graph_destroy(now);
        now = next;
        if (now && grdi_verify_graph(now, c->error) && dump(c, now, i)) continue;
        if (now) grdi_graph_destroy(now);
        return NULL;
    }
    return now;
}
