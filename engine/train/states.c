/* states.c - running statistics and whatever else a step's micro-batches change: kept as they are before the step, and
 * brought back where its update is left out. Side by side as they lie, few copies are enough. */
#include "train/train.h"

#include "backend/backend.h"
#include "ops/table.h"

#include <gradus/ops.h>

#include <stdlib.h>
#include <string.h>

static int by_place(const void *a, const void *b)
{
    const grdi_variable *x = *(grdi_variable *const *)a, *y = *(grdi_variable *const *)b;
    if (x->storage != y->storage) return x->storage < y->storage ? -1 : 1;
    return x->offset_bytes < y->offset_bytes ? -1 : x->offset_bytes > y->offset_bytes;
}

/* The states that the step's graph assigns to, each once, as they lie. */
static int32_t assigned_states(const grd_step *step, grdi_variable **states)
{
    int32_t count = 0, kept = 0;
    for (size_t n = 0; n < step->graph->count; n++) {
        const grdi_node *node = step->graph->nodes[n];
        const grdi_variable *v = node->op == &grdi_op_assign ? node->in[0].node->variable : NULL;
        if (v && v->kind == GRDI_VARIABLE_STATE) states[count++] = node->in[0].node->variable;
    }
    qsort(states, (size_t)count, sizeof(*states), by_place);
    for (int32_t i = 0; i < count; i++)
        if (i == 0 || states[i] != states[kept - 1]) states[kept++] = states[i];
    return kept;
}

static bool add_range(grd_step *step, grdi_variable *first, grdi_variable *last)
{
    grdi_kept_states *k = &step->kept[step->kept_count];
    char *name = grdi_format("gradient//before/%s", first->path);
    k->states = grdi_model_range(step->model, first, last, &step->error);
    k->before = k->states ? grdi_step_variable(step, name, GRDI_VARIABLE_GRADIENT, k->states->type) : NULL;
    grdi_free(name);
    step->kept_count++;
    return k->before != NULL;
}

bool grdi_states_find(grd_step *step)
{
    grdi_variable **states = grdi_alloc_zero(step->graph->count + 1, sizeof(grdi_variable *));
    int32_t count = states ? assigned_states(step, states) : 0;
    step->kept = grdi_alloc_zero((size_t)count + 1, sizeof(*step->kept));
    bool ok = states && step->kept;
    if (!ok) grd_fail(&step->error, GRD_E_MEMORY, "out of memory for a step");
    for (int32_t first = 0, last = 0; ok && first < count; first = ++last) {
        while (last + 1 < count && grdi_variable_follows(states[last], states[last + 1])) last++;
        ok = add_range(step, states[first], states[last]);
    }
    grdi_free(states);
    return ok;
}

/* The program that a step begins with. */
bool grdi_states_compile(grd_step *step)
{
    if (step->kept_count == 0) return true;
    grd_tensor *roots = grdi_alloc_zero((size_t)step->kept_count, sizeof(*roots));
    step->begin_graph = grdi_graph_create(step->model);
    if (!roots || !step->begin_graph) {
        grdi_free(roots);
        return !grd_fail(&step->error, GRD_E_MEMORY, "out of memory for a step");
    }
    grd_graph *graph = step->begin_graph;
    graph->phase = GRDI_UPDATE;
    for (int32_t i = 0; i < step->kept_count; i++)
        roots[i] = grd_assign(grdi_variable_node(graph, step->kept[i].before),
                              grdi_variable_node(graph, step->kept[i].states));
    grd_program_options options = step->options.program;
    options.bf16 = options.f16 = false;
    step->begin = grdi_program_compile(graph, roots, step->kept_count, &options, &step->error);
    grdi_free(roots);
    return step->begin != NULL;
}

bool grdi_states_restore(const grdi_update *u, grd_tensor *roots, int32_t *count, int32_t max)
{
    const grd_step *step = u->step;
    if (step->kept_count == 0) return true;
    grd_tensor go_on = grd_ge(u->scale, grd_scalar_constant(u->graph, 0.0));
    for (int32_t i = 0; i < step->kept_count; i++) {
        grd_tensor states = grdi_variable_node(u->graph, step->kept[i].states);
        grd_tensor next = grd_where(go_on, states, grdi_variable_node(u->graph, step->kept[i].before));
        grd_tensor assigned = grd_assign(states, next);
        if (!assigned.node || *count >= max) return false;
        roots[(*count)++] = assigned;
    }
    return true;
}

void grdi_states_bring_back(grd_step *step)
{
    const grd_engine *engine = step->model->engine;
    for (int32_t i = 0; i < step->kept_count; i++) {
        size_t size_bytes = grdi_type_bytes(step->kept[i].before->type);
        void *host = grdi_alloc(size_bytes);
        if (!host) return;
        engine->backend->download(engine->device, host, grdi_variable_data(step->kept[i].before), size_bytes);
        engine->backend->upload(engine->device, grdi_variable_data(step->kept[i].states), host, size_bytes);
        grdi_free(host);
    }
}
