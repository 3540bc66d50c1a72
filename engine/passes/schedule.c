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

/* An assign in a list, -1 ends it. */
typedef struct link {
    const grdi_node *assign;
    int32_t next;
} link;

/* Assigns are looked at again only when something happened that they wait for: the last reader of their target was
 * placed, an assign before them, or what they take. */
typedef struct scheduling {
    grdi_rewrite r;
    bool *placed;     /* by node */
    int32_t *readers; /* by value: reads of it, or of views of it, by nodes not yet placed; assigns left out */
    int32_t *touch;   /* by value: list of assigns that take it or a view of it, in order */
    int32_t *users;   /* by node: list of assigns that take one of its outputs */
    link *links;
    int32_t link_count;
    const grdi_node **ready; /* assigns to look at, the first one last */
    bool *listed;            /* by node: is in `ready` */
    size_t ready_count, left; /* assigns not yet placed */
} scheduling;

static size_t slot(grd_tensor t)
{
    return (size_t)t.node->id * GRDI_OUTPUTS_MAX + (size_t)t.output;
}

static bool is_effect(const grdi_node *node)
{
    return node->op->flags & GRDI_OP_EFFECT;
}

static void add_link(scheduling *s, int32_t *list, const grdi_node *assign)
{
    s->links[s->link_count] = (link){assign, *list};
    *list = s->link_count++;
}

static bool scheduling_begin(scheduling *s, const grd_graph *old)
{
    size_t values = (old->count + 1) * GRDI_OUTPUTS_MAX, takes = 0;
    for (size_t n = 0; n < old->count; n++)
        if (is_effect(old->nodes[n])) s->left++, takes += 2 * (size_t)old->nodes[n]->input_count;
    s->placed = grdi_alloc_zero(old->count + 1, sizeof(bool));
    s->listed = grdi_alloc_zero(old->count + 1, sizeof(bool));
    s->readers = grdi_alloc_zero(values, sizeof(*s->readers));
    s->touch = grdi_alloc(values * sizeof(*s->touch));
    s->users = grdi_alloc((old->count + 1) * sizeof(*s->users));
    s->links = grdi_alloc_zero(takes + 1, sizeof(*s->links));
    s->ready = grdi_alloc_zero(s->left + 1, sizeof(*s->ready));
    if (!s->placed || !s->listed || !s->readers || !s->touch || !s->users || !s->links || !s->ready) return false;
    memset(s->touch, -1, values * sizeof(*s->touch));
    memset(s->users, -1, (old->count + 1) * sizeof(*s->users));
    for (size_t n = old->count; n-- > 0;) { /* from the end, so that each list is in order */
        const grdi_node *node = old->nodes[n];
        for (int32_t i = 0; i < node->input_count; i++) {
            size_t at = slot(place_of(node->in[i]));
            if (!is_effect(node)) {
                s->readers[at]++;
                continue;
            }
            add_link(s, &s->touch[at], node);
            add_link(s, &s->users[node->in[i].node->id], node);
        }
    }
    return true;
}

static void scheduling_end(scheduling *s)
{
    grdi_free(s->placed);
    grdi_free(s->listed);
    grdi_free(s->readers);
    grdi_free(s->touch);
    grdi_free(s->users);
    grdi_free(s->links);
    grdi_free(s->ready);
}

/* The first assign of the list that is not yet placed; NULL: none. */
static const grdi_node *first_left(const scheduling *s, int32_t *list)
{
    while (*list >= 0 && s->placed[s->links[*list].assign->id]) *list = s->links[*list].next;
    return *list >= 0 ? s->links[*list].assign : NULL;
}

/* Where it cannot be placed yet, it comes here again with what it waits for. */
static void look_at(scheduling *s, const grdi_node *assign)
{
    if (!assign || s->placed[assign->id] || s->listed[assign->id]) return;
    if (!s->placed[assign->in[0].node->id] || !s->placed[assign->in[1].node->id]) return;
    size_t at = s->ready_count++;
    for (; at > 0 && s->ready[at - 1]->id < assign->id; at--) s->ready[at] = s->ready[at - 1];
    s->ready[at] = assign;
    s->listed[assign->id] = true;
}

static bool place(scheduling *s, const grdi_node *node)
{
    s->placed[node->id] = true;
    s->left -= is_effect(node);
    for (int32_t i = 0; i < node->input_count; i++) {
        size_t at = slot(place_of(node->in[i]));
        if (is_effect(node) || --s->readers[at] == 0) look_at(s, first_left(s, &s->touch[at]));
    }
    for (int32_t u = s->users[node->id]; u >= 0; u = s->links[u].next) look_at(s, s->links[u].assign);
    return grdi_rewrite_copy(&s->r, node) != NULL;
}

/* True when all readers of the assign's target, or of views of it, other than assigns themselves have been placed, and
 * the assigns before it too. */
static bool target_is_free(scheduling *s, const grdi_node *assign)
{
    size_t target = slot(assign->in[0]);
    const grdi_node *first = first_left(s, &s->touch[target]);
    return s->readers[target] == 0 && (!first || first == assign);
}

/* Places the assigns that may happen now; those whose place comes later are looked at again then. */
static bool place_assigns(scheduling *s)
{
    while (s->ready_count) {
        const grdi_node *assign = s->ready[--s->ready_count];
        s->listed[assign->id] = false;
        if (target_is_free(s, assign) && !place(s, assign)) return false;
    }
    return true;
}

/* Users of an assign's output must wait for it: true if some input of `node` is an assign not yet placed. */
static bool must_wait(const grdi_node *node, const bool *placed)
{
    for (int32_t i = 0; i < node->input_count; i++)
        if (!placed[node->in[i].node->id]) return true;
    return false;
}

/* Nodes in the order in which they were built, assigns as early as they may; `late` takes those that read an assign
 * which has to wait itself. */
static bool place_in_order(scheduling *s, const grdi_node **late, size_t *late_count)
{
    const grd_graph *old = s->r.old;
    bool ok = true;
    /* Variables exist before anything runs: with their places known first, a value can be written straight into its
     * target. */
    for (size_t n = 0; ok && n < old->count; n++)
        if (old->nodes[n]->variable) ok = place(s, old->nodes[n]);
    for (size_t n = 0; ok && n < old->count; n++) {
        const grdi_node *node = old->nodes[n];
        if (s->placed[n] || is_effect(node)) continue;
        if (must_wait(node, s->placed)) {
            late[(*late_count)++] = node;
            continue;
        }
        ok = place(s, node);
        bool source = node->op->flags & GRDI_OP_SOURCE;
        if (ok && !source) ok = place_assigns(s);
    }
    return ok;
}

static bool place_late(scheduling *s, const grdi_node **late, size_t *late_count)
{
    bool ok = true;
    for (size_t left = *late_count + s->left, before = left + 1; ok && left && left < before;) {
        before = left;
        ok = place_assigns(s);
        size_t kept = 0;
        for (size_t l = 0; ok && l < *late_count; l++) {
            if (must_wait(late[l], s->placed)) late[kept++] = late[l];
            else ok = place(s, late[l]);
        }
        *late_count = kept;
        left = *late_count + s->left;
    }
    return ok;
}

grd_graph *grdi_pass_schedule(grdi_compile *c, const grd_graph *old)
{
    scheduling s;
    memset(&s, 0, sizeof(s));
    if (!grdi_rewrite_begin(&s.r, old, c->error)) return NULL;
    const grdi_node **late = grdi_alloc_zero(old->count + 1, sizeof(*late));
    size_t late_count = 0;
    bool ok = late && scheduling_begin(&s, old);
    ok = ok && place_in_order(&s, late, &late_count) && place_late(&s, late, &late_count);
    if (ok && late_count + s.left) {
        grd_fail(c->error, GRD_E_STATE,
                 "assign: the new value of a state depends on itself (read the state, not the assigned value)");
        ok = false;
    }
    scheduling_end(&s);
    grdi_free(late);
    return grdi_rewrite_end(&s.r, c, ok);
}
