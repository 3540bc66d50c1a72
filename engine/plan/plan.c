/* plan.c - makes and frees plans. */
#include "plan/plan.h"

#include <string.h>

grdi_plan *grdi_plan_new(grd_engine *engine, grd_graph *graph, const grd_tensor *roots, int32_t root_count,
                         grd_dtype narrow, grd_error *error)
{
    grdi_plan *plan = grdi_alloc_zero(1, sizeof(*plan));
    grd_tensor *copy = grdi_alloc_zero((size_t)root_count + 1, sizeof(*copy));
    if (!plan || !copy) {
        grdi_graph_destroy(graph);
        grdi_free(plan);
        grdi_free(copy);
        grd_fail(error, GRD_E_MEMORY, "out of memory for the plan");
        return NULL;
    }
    if (root_count) memcpy(copy, roots, sizeof(*copy) * (size_t)root_count);
    plan->graph = graph;
    plan->narrow = narrow;
    plan->roots = copy;
    plan->root_count = root_count;
    bool ok = grdi_lower(engine, plan, error);
    if (ok && !grdi_place_buffers(plan)) ok = !grd_fail(error, GRD_E_MEMORY, "out of memory for the plan");
    if (ok && grdi_verify_plan(plan, error)) return plan;
    grdi_plan_free(plan);
    return NULL;
}

void grdi_plan_free(grdi_plan *plan)
{
    if (!plan) return;
    for (size_t i = 0; i < plan->launch_count; i++)
        if (plan->launches[i].kernel->release) plan->launches[i].kernel->release(&plan->launches[i].call);
    grdi_graph_destroy(plan->graph);
    grdi_free(plan->values);
    grdi_free(plan->buffers);
    grdi_free(plan->launches);
    grdi_free(plan->roots);
    grdi_free(plan);
}
