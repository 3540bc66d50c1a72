/* recompute.c - gradient checkpointing (Chen et al., "Training deep nets with sublinear memory cost", 2016): what a
 * segment made in the forward pass is made again from the segment's inputs when backward first asks for it, instead of
 * being kept. */
#include "passes/pass.h"

#include <string.h>

typedef struct recomputation {
    grdi_rewrite r;
    bool *leaves;      /* by node: some forward node outside its segment uses it, so it is kept anyway */
    grd_tensor *again; /* by value: its second making */
    bool *done;        /* by segment */
} recomputation;

static bool recomputable(const recomputation *rc, const grdi_node *node)
{
    return node->segment && node->phase == GRDI_FORWARD && !(node->op->flags & (GRDI_OP_SOURCE | GRDI_OP_EFFECT)) &&
           !rc->leaves[node->id];
}

static grd_tensor *again(const recomputation *rc, grd_tensor t)
{
    return &rc->again[(size_t)t.node->id * GRDI_OUTPUTS_MAX + (size_t)t.output];
}

static void find_leaving(recomputation *rc, const grdi_compile *c)
{
    const grd_graph *old = rc->r.old;
    for (size_t n = 0; n < old->count; n++) {
        const grdi_node *user = old->nodes[n];
        for (int32_t i = 0; i < user->input_count; i++) {
            const grdi_node *from = user->in[i].node;
            if (user->phase == GRDI_FORWARD && user->segment != from->segment) rc->leaves[from->id] = true;
        }
    }
    for (int32_t i = 0; i < c->root_count; i++) rc->leaves[c->roots[i].node->id] = true;
}

/* Marks the nodes of the segment that backward nodes need, and those that these need in turn. */
static void mark_needed(const recomputation *rc, int32_t segment, bool *needed)
{
    const grd_graph *old = rc->r.old;
    for (size_t n = old->count; n-- > 0;) {
        const grdi_node *user = old->nodes[n];
        if (user->phase != GRDI_BACKWARD && !needed[n]) continue;
        for (int32_t i = 0; i < user->input_count; i++) {
            const grdi_node *from = user->in[i].node;
            if (from->segment == segment && recomputable(rc, from)) needed[from->id] = true;
        }
    }
}

static bool make_again(recomputation *rc, int32_t segment)
{
    const grd_graph *old = rc->r.old;
    bool *needed = grdi_alloc_zero(old->count + 1, sizeof(bool));
    if (!needed) return false;
    mark_needed(rc, segment, needed);
    bool ok = true;
    for (size_t n = 0; ok && n < old->count; n++) {
        grdi_node *node = old->nodes[n];
        if (!needed[n]) continue;
        grd_tensor in[GRDI_INPUTS_MAX];
        for (int32_t i = 0; i < node->input_count; i++) {
            grd_tensor second = *again(rc, node->in[i]);
            in[i] = second.node ? second : grdi_mapped(&rc->r, node->in[i]);
        }
        grdi_node *copy = grdi_node_copy(rc->r.graph, node, in);
        ok = copy != NULL;
        if (!ok) break;
        copy->phase = GRDI_BACKWARD;
        for (int32_t o = 0; o < node->output_count; o++) *again(rc, (grd_tensor){node, o}) = (grd_tensor){copy, o};
    }
    grdi_free(needed);
    return ok;
}

/* Copies a backward node, its segment's values made again first. */
static bool copy_backward(recomputation *rc, const grdi_node *node)
{
    grd_tensor in[GRDI_INPUTS_MAX];
    for (int32_t i = 0; i < node->input_count; i++) {
        const grdi_node *from = node->in[i].node;
        if (recomputable(rc, from) && !rc->done[from->segment]) {
            rc->done[from->segment] = true;
            if (!make_again(rc, from->segment)) return false;
        }
        grd_tensor second = *again(rc, node->in[i]);
        in[i] = second.node ? second : grdi_mapped(&rc->r, node->in[i]);
    }
    grdi_node *copy = grdi_node_copy(rc->r.graph, node, in);
    for (int32_t o = 0; copy && o < node->output_count; o++)
        grdi_map(&rc->r, (grd_tensor){(grdi_node *)node, o}, (grd_tensor){copy, o});
    return copy != NULL;
}

grd_graph *grdi_pass_recompute(grdi_compile *c, const grd_graph *old)
{
    recomputation rc;
    memset(&rc, 0, sizeof(rc));
    if (!grdi_rewrite_begin(&rc.r, old, c->error)) return NULL;
    int32_t segments = 0;
    for (size_t n = 0; n < old->count; n++)
        if (old->nodes[n]->segment > segments) segments = old->nodes[n]->segment;
    rc.leaves = grdi_alloc_zero(old->count + 1, sizeof(bool));
    rc.again = grdi_alloc_zero(old->count + 1, sizeof(*rc.again) * GRDI_OUTPUTS_MAX);
    rc.done = grdi_alloc_zero((size_t)segments + 1, sizeof(bool));
    bool ok = rc.leaves && rc.again && rc.done;
    if (ok) find_leaving(&rc, c);
    for (size_t n = 0; ok && n < old->count; n++) {
        const grdi_node *node = old->nodes[n];
        bool backward = node->phase == GRDI_BACKWARD && c->options->recompute;
        ok = backward ? copy_backward(&rc, node) : grdi_rewrite_copy(&rc.r, node) != NULL;
    }
    grdi_free(rc.leaves);
    grdi_free(rc.again);
    grdi_free(rc.done);
    return grdi_rewrite_end(&rc.r, c, ok);
}
