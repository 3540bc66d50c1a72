/* verify.c - checks a finished plan as if nothing before had been checked: what it finds would be wrong numbers in
 * silence. */
#include "plan/plan.h"

#include "ops/table.h"

#include <string.h>

#define REPORT " (a fault of the engine: please report it, and disable passes until one is found to blame)"

static bool overlap(const grdi_buffer *a, const grdi_buffer *b)
{
    bool alive = a->first <= b->last && b->first <= a->last;
    return alive && a->offset_bytes < b->offset_bytes + b->size_bytes &&
           b->offset_bytes < a->offset_bytes + a->size_bytes;
}

static bool verify_places(const grdi_plan *plan, grd_error *error)
{
    for (size_t i = 0; i < plan->buffer_count; i++) {
        const grdi_buffer *a = &plan->buffers[i];
        if (a->place != GRDI_IN_ARENA) continue;
        if (a->offset_bytes + a->size_bytes > plan->arena_bytes)
            return !grd_fail(error, GRD_E_STATE, "verify: buffer %zu ends outside the arena" REPORT, i);
        for (size_t k = i + 1; k < plan->buffer_count; k++)
            if (plan->buffers[k].place == GRDI_IN_ARENA && overlap(a, &plan->buffers[k]))
                return !grd_fail(error, GRD_E_STATE, "verify: buffers %zu and %zu overlap in the arena" REPORT, i, k);
    }
    return true;
}

/* Replays the launches: each read must find what its value's producer wrote, not something written since. */
static bool verify_contents(const grdi_plan *plan, int32_t *writer, int32_t *made_by, grd_error *error)
{
    for (size_t b = 0; b < plan->buffer_count; b++) writer[b] = -1;
    size_t next = 0;
    for (size_t n = 0; n < plan->graph->count; n++) {
        grdi_node *node = plan->graph->nodes[n];
        size_t slot = n * GRDI_OUTPUTS_MAX;
        if (node->op->flags & GRDI_OP_SOURCE) made_by[slot] = -1;
        bool through = (node->op->flags & GRDI_OP_VIEW) || node->op == &grdi_op_cast; /* where nothing runs for it */
        if (through)
            made_by[slot] = made_by[(size_t)node->in[0].node->id * GRDI_OUTPUTS_MAX + (size_t)node->in[0].output];
        for (; next < plan->launch_count && plan->launches[next].node == node; next++) {
            const grdi_launch *launch = &plan->launches[next];
            bool own = launch->call.op == node->op; /* else a copy that made an input or a view row-major */
            for (int32_t i = 0; own && i < launch->call.input_count; i++) {
                if (node->op == &grdi_op_assign && i == 0) continue; /* the target is written, not read */
                size_t from = (size_t)node->in[i].node->id * GRDI_OUTPUTS_MAX + (size_t)node->in[i].output;
                int32_t b = launch->in[i].buffer;
                if (b == plan->values[from].buffer && writer[b] != made_by[from])
                    return !grd_fail(error, GRD_E_STATE,
                                     "verify: launch %zu (%s) reads input %d after launch %d overwrote it" REPORT, next,
                                     node->op->name, i, writer[b]);
            }
            for (int32_t o = 0; o < launch->call.output_count; o++) {
                if (launch->out[o].buffer < 0) continue;
                writer[launch->out[o].buffer] = (int32_t)next;
                if (own) made_by[slot + (size_t)o] = (int32_t)next;
                else if (node->op->flags & GRDI_OP_VIEW) made_by[slot] = (int32_t)next;
            }
        }
        bool gathered = node->op == &grdi_op_assign || node->op == &grdi_op_concat; /* written piece by piece before */
        if (gathered && plan->values[slot].buffer >= 0) made_by[slot] = writer[plan->values[slot].buffer];
    }
    return true;
}

bool grdi_verify_plan(const grdi_plan *plan, grd_error *error)
{
    int32_t *writer = grdi_alloc_zero(plan->buffer_count + 1, sizeof(*writer));
    int32_t *made_by = grdi_alloc_zero((plan->graph->count + 1) * GRDI_OUTPUTS_MAX, sizeof(*made_by));
    bool ok = writer && made_by;
    if (!ok) grd_fail(error, GRD_E_MEMORY, "out of memory for the plan");
    ok = ok && verify_places(plan, error) && verify_contents(plan, writer, made_by, error);
    grdi_free(writer);
    grdi_free(made_by);
    return ok;
}
