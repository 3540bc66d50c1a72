/* verify.c - checks a finished plan as if nothing before had been checked: what it finds would be wrong numbers in
 * silence. */
#include "plan/plan.h"

#include "ops/table.h"

#include <stdlib.h>
#include <string.h>

#define REPORT " (a fault of the engine: please report it, and disable passes until one is found to blame)"

static int earlier_first(const void *a, const void *b)
{
    const grdi_buffer *x = *(const grdi_buffer *const *)a, *y = *(const grdi_buffer *const *)b;
    return (x->first > y->first) - (x->first < y->first);
}

static int earlier_last(const void *a, const void *b)
{
    const grdi_buffer *x = *(const grdi_buffer *const *)a, *y = *(const grdi_buffer *const *)b;
    return (x->last > y->last) - (x->last < y->last);
}

/* The place of an offset among buffers that are sorted by theirs. */
static size_t place_of(const grdi_buffer *const *alive, size_t count, size_t offset_bytes)
{
    size_t low = 0;
    while (low < count) {
        size_t middle = low + (count - low) / 2;
        if (alive[middle]->offset_bytes < offset_bytes) low = middle + 1;
        else count = middle;
    }
    return low;
}

/* The buffers that are alive at one time lie one behind the other. `begin` and `end`: the arena's by first and by last
 * launch; `alive` has room for all. */
static bool verify_disjoint(const grdi_plan *plan, const grdi_buffer *const *begin, const grdi_buffer *const *end,
                            const grdi_buffer **alive, size_t count, grd_error *error)
{
    size_t alive_count = 0, ended = 0;
    for (size_t n = 0; n < count; n++) {
        const grdi_buffer *b = begin[n];
        for (; end[ended]->last < b->first; ended++) {
            size_t gone = place_of(alive, alive_count, end[ended]->offset_bytes);
            memmove(alive + gone, alive + gone + 1, (--alive_count - gone) * sizeof(*alive));
        }
        size_t at = place_of(alive, alive_count, b->offset_bytes);
        const grdi_buffer *before = at > 0 ? alive[at - 1] : NULL, *after = at < alive_count ? alive[at] : NULL;
        if (before && before->offset_bytes + before->size_bytes <= b->offset_bytes) before = NULL;
        if (after && b->offset_bytes + b->size_bytes <= after->offset_bytes) after = NULL;
        if (before || after)
            return !grd_fail(error, GRD_E_STATE, "verify: buffers %zu and %zu overlap in the arena" REPORT,
                             (size_t)(b - plan->buffers), (size_t)((before ? before : after) - plan->buffers));
        memmove(alive + at + 1, alive + at, (alive_count++ - at) * sizeof(*alive));
        alive[at] = b;
    }
    return true;
}

static bool verify_places(const grdi_plan *plan, grd_error *error)
{
    size_t count = 0;
    const grdi_buffer **all = grdi_alloc_zero(3 * plan->buffer_count + 1, sizeof(*all)); /* three lists, one block */
    if (!all) return !grd_fail(error, GRD_E_MEMORY, "out of memory for the plan");
    const grdi_buffer **begin = all, **end = all + plan->buffer_count, **alive = end + plan->buffer_count;
    bool ok = true;
    for (size_t i = 0; ok && i < plan->buffer_count; i++) {
        const grdi_buffer *b = &plan->buffers[i];
        if (b->place != GRDI_IN_ARENA || b->size_bytes == 0) continue;
        if (b->last < b->first)
            ok = !grd_fail(error, GRD_E_STATE, "verify: buffer %zu ends before it begins" REPORT, i);
        else if (b->offset_bytes + b->size_bytes > plan->arena_bytes)
            ok = !grd_fail(error, GRD_E_STATE, "verify: buffer %zu ends outside the arena" REPORT, i);
        begin[count] = end[count] = b;
        count++;
    }
    if (ok && count) {
        qsort(begin, count, sizeof(*begin), earlier_first);
        qsort(end, count, sizeof(*end), earlier_last);
        ok = verify_disjoint(plan, begin, end, alive, count, error);
    }
    grdi_free(all);
    return ok;
}

static size_t slot_of(grd_tensor t)
{
    return (size_t)t.node->id * GRDI_OUTPUTS_MAX + (size_t)t.output;
}

/* What a launch adds its result to is still what the other operand's producer wrote. */
static bool finds_operand(const grdi_plan *plan, const grdi_launch *launch, const int32_t *writer,
                          const int32_t *made_by)
{
    grd_tensor other = grdi_sum_operand(launch);
    int32_t b = plan->values[slot_of(other)].buffer;
    return b >= 0 && (!launch->based || launch->base.buffer == b) && writer[b] == made_by[slot_of(other)];
}

/* Replays the launches: each read must find what its value's producer wrote, not something written since. */
static bool verify_contents(const grdi_plan *plan, int32_t *writer, int32_t *made_by, grd_error *error)
{
    for (size_t b = 0; b < plan->buffer_count; b++) writer[b] = -1;
    for (size_t s = 0; s < (plan->graph->count + 1) * GRDI_OUTPUTS_MAX; s++) made_by[s] = -2; /* not yet */
    size_t next = 0;
    for (size_t n = 0; n < plan->graph->count; n++) {
        grdi_node *node = plan->graph->nodes[n];
        size_t slot = n * GRDI_OUTPUTS_MAX, before = next;
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
            if (launch->sum && !finds_operand(plan, launch, writer, made_by))
                return !grd_fail(error, GRD_E_STATE,
                                 "verify: launch %zu (%s) adds to what another one wrote there" REPORT, next,
                                 node->op->name);
            for (int32_t o = 0; o < launch->call.output_count; o++) {
                if (launch->out[o].buffer < 0) continue;
                writer[launch->out[o].buffer] = (int32_t)next;
                if (own) made_by[slot + (size_t)o] = (int32_t)next;
                else if (node->op->flags & GRDI_OP_VIEW) made_by[slot] = (int32_t)next;
            }
        }
        if (node->op == &grdi_op_add && next == before) { /* made as the sum by whoever made its later operand */
            int32_t a = made_by[slot_of(node->in[0])], b = made_by[slot_of(node->in[1])];
            made_by[slot] = a > b ? a : b;
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
