/* schedule.c - the order of execution: as built, but each assign right after its value, once nobody will read the old
 * one. */
#include "passes/pass.h"

#include "ops/table.h"

#include <string.h>

/* Where a value lies that may be a view of another, or a cast that its readers make. */
static grd_tensor place_of(grd_tensor t)
{
    while ((t.node->op->flags & GRDI_OP_VIEW) || t.node->op == &grdi_op_cast) t = t.node->in[0];
    return t;
}

/* True when all readers of the assign's target, or of views of it, other than assigns themselves have been placed, and
 * the assigns before it too. */
static bool target_is_free(const grdi_rewrite *r, const grdi_node *assign, const bool *placed)
{
    const grd_graph *old = r->old;
    for (int32_t n = assign->in[0].node->id + 1; n < (int32_t)old->count; n++) {
        const grdi_node *node = old->nodes[n];
        if (placed[n] || node == assign) continue;
        bool other_assign = (node->op->flags & GRDI_OP_EFFECT) && n > assign->id;
        for (int32_t i = 0; !other_assign && i < node->input_count; i++)
            if (grdi_same_tensor(place_of(node->in[i]), assign->in[0])) return false;
    }
    return true;
}

static bool place(grdi_rewrite *r, const grdi_node *node, bool *placed)
{
    placed[node->id] = true;
    return grdi_rewrite_copy(r, node) != NULL;
}

/* Places the assigns that may happen now; those whose place comes later are tried again after each node. */
static bool place_assigns(grdi_rewrite *r, const grdi_node **waiting, size_t *waiting_count, bool *placed)
{
    size_t kept = 0;
    for (size_t w = 0; w < *waiting_count; w++) {
        const grdi_node *assign = waiting[w];
        if (placed[assign->in[0].node->id] && placed[assign->in[1].node->id] && target_is_free(r, assign, placed)) {
            if (!place(r, assign, placed)) return false;
        } else {
            waiting[kept++] = assign;
        }
    }
    *waiting_count = kept;
    return true;
}

/* Users of an assign's output must wait for it: true if some input of `node` is an assign not yet placed. */
static bool must_wait(const grdi_node *node, const bool *placed)
{
    for (int32_t i = 0; i < node->input_count; i++)
        if (!placed[node->in[i].node->id]) return true;
    return false;
}

grd_graph *grdi_pass_schedule(grdi_compile *c, const grd_graph *old)
{
    grdi_rewrite r;
    if (!grdi_rewrite_begin(&r, old, c->error)) return NULL;
    bool *placed = grdi_alloc_zero(old->count + 1, sizeof(bool));
    const grdi_node **waiting = grdi_alloc_zero(old->count + 1, sizeof(*waiting));
    const grdi_node **late = grdi_alloc_zero(old->count + 1, sizeof(*late));
    size_t waiting_count = 0, late_count = 0;
    bool ok = placed && waiting && late;
    /* Every assign waits for its value from the start, so that it is placed as early as it may. */
    for (size_t n = 0; ok && n < old->count; n++)
        if (old->nodes[n]->op->flags & GRDI_OP_EFFECT) waiting[waiting_count++] = old->nodes[n];
    /* Variables exist before anything runs: with their places known first, a value can be written straight into its
     * target. */
    for (size_t n = 0; ok && n < old->count; n++)
        if (old->nodes[n]->variable) ok = place(&r, old->nodes[n], placed);
    for (size_t n = 0; ok && n < old->count; n++) {
        const grdi_node *node = old->nodes[n];
        if (placed[n] || (node->op->flags & GRDI_OP_EFFECT)) continue;
        if (must_wait(node, placed)) {
            late[late_count++] = node;
            continue;
        }
        ok = place(&r, node, placed);
        bool source = node->op->flags & GRDI_OP_SOURCE;
        if (ok && !source) ok = place_assigns(&r, waiting, &waiting_count, placed);
    }
    for (size_t left = late_count + waiting_count, before = left + 1; ok && left && left < before;) {
        before = left;
        ok = place_assigns(&r, waiting, &waiting_count, placed);
        size_t kept = 0;
        for (size_t l = 0; ok && l < late_count; l++) {
            if (must_wait(late[l], placed)) late[kept++] = late[l];
            else ok = place(&r, late[l], placed);
        }
        late_count = kept;
        left = late_count + waiting_count;
    }
    if (ok && late_count + waiting_count) {
        grd_fail(c->error, GRD_E_STATE,
                 "assign: the new value of a state depends on itself (read the state, not the assigned value)");
        ok = false;
    }
    grdi_free(placed);
    grdi_free(waiting);
    grdi_free(late);
    return grdi_rewrite_end(&r, c, ok);
}
