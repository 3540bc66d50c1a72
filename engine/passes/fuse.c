/* fuse.c - chains of element-wise nodes of one shape become one fused_map node: each value is read and written once.
 *
 * A node joins the chain of one of its inputs if nobody outside the chain uses a member before this node, so that the
 * whole chain can be computed where its last member stands. */
#include "passes/pass.h"

#include "ops/table.h"

#include <string.h>

enum { MEMBERS_MAX = 24, CODE_MAX = 512 };

typedef struct chain {
    const grdi_node *members[MEMBERS_MAX];
    int32_t count;
} chain;

typedef struct fusion {
    const grd_graph *old;
    chain *chains;
    int32_t *chain_of; /* by node: index of its chain, -1 for none */
    const int32_t *uses;
    size_t chain_count;
} fusion;

static bool mappable(const grdi_node *node)
{
    if (!(node->op->flags & GRDI_OP_MAP) || (node->op->flags & GRDI_OP_RANDOM) || node->output_count != 1) return false;
    if (strcmp(node->op->name, "copy") == 0) return false;
    if (node->out[0].dtype != GRD_F32 && node->out[0].dtype != GRD_BOOL) return false;
    for (int32_t i = 0; i < node->input_count; i++) {
        grd_dtype dtype = grdi_type_of(node->in[i])->dtype;
        if (dtype != GRD_F32 && dtype != GRD_BF16 && dtype != GRD_BOOL) return false;
    }
    return true;
}

static bool in_chain(const chain *c, const grdi_node *node)
{
    for (int32_t m = 0; m < c->count; m++)
        if (c->members[m] == node) return true;
    return false;
}

/* Inputs from outside and values needed outside, were `extra` (may be NULL) a member too. */
static bool within_limits(const fusion *f, const chain *c, const grdi_node *extra)
{
    grd_tensor inputs[GRDI_INPUTS_MAX];
    int32_t input_count = 0, outputs = 0;
    for (int32_t m = 0; m <= c->count; m++) {
        const grdi_node *node = m < c->count ? c->members[m] : extra;
        if (!node) continue;
        int32_t inside = 0;
        for (int32_t k = 0; k <= c->count; k++) {
            const grdi_node *user = k < c->count ? c->members[k] : extra;
            for (int32_t i = 0; user && i < user->input_count; i++) inside += user->in[i].node == node;
        }
        bool outside = f->uses[(size_t)node->id * GRDI_OUTPUTS_MAX] > inside;
        outputs += outside;
        if (outside && node->out[0].dtype != GRD_F32) return false;
        for (int32_t i = 0; i < node->input_count; i++) {
            bool known = in_chain(c, node->in[i].node) || node->in[i].node == extra;
            for (int32_t k = 0; k < input_count && !known; k++) known = grdi_same_tensor(inputs[k], node->in[i]);
            if (known) continue;
            if (input_count == GRDI_INPUTS_MAX - 4) return false;
            inputs[input_count++] = node->in[i];
        }
    }
    return outputs <= GRDI_OUTPUTS_MAX;
}

/* True when no node outside the chain and before `node` uses a member. */
static bool users_come_later(const fusion *f, const chain *c, const grdi_node *node)
{
    for (int32_t id = c->members[0]->id + 1; id < node->id; id++) {
        const grdi_node *user = f->old->nodes[id];
        if (in_chain(c, user)) continue;
        for (int32_t i = 0; i < user->input_count; i++)
            if (in_chain(c, user->in[i].node)) return false;
    }
    return true;
}

static void join(fusion *f, const grdi_node *node)
{
    for (int32_t i = 0; i < node->input_count; i++) {
        int32_t index = f->chain_of[node->in[i].node->id];
        if (index < 0) continue;
        chain *c = &f->chains[index];
        const grdi_node *head = c->members[0];
        if (c->count == MEMBERS_MAX || !grd_dims_equal(head->out[0].dims, node->out[0].dims) ||
            head->phase != node->phase || head->segment != node->segment || !users_come_later(f, c, node) ||
            !within_limits(f, c, node))
            continue;
        c->members[c->count++] = node;
        f->chain_of[node->id] = index;
        return;
    }
    f->chain_of[node->id] = (int32_t)f->chain_count;
    f->chains[f->chain_count++] = (chain){{node}, 1};
}

/* ---- writing the chain as code (see fused_map in ops/fused.c) ---- */

typedef struct writer {
    int64_t code[CODE_MAX];
    int32_t length;
    grd_tensor inputs[GRDI_INPUTS_MAX]; /* old tensors */
    int32_t input_count;
} writer;

static int64_t op_index(const grdi_op *op)
{
    int32_t i = 0;
    while (grdi_op_at(i) != op) i++;
    return i;
}

static int64_t double_bits(double value)
{
    int64_t bits;
    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

static int64_t register_of(const chain *c, const writer *w, grd_tensor t)
{
    for (int32_t m = 0; m < c->count; m++)
        if (c->members[m] == t.node) return w->input_count + m;
    for (int32_t i = 0; i < w->input_count; i++)
        if (grdi_same_tensor(w->inputs[i], t)) return i;
    return -1;
}

static void write_code(const chain *c, writer *w)
{
    w->length = w->input_count = 0;
    for (int32_t m = 0; m < c->count; m++)
        for (int32_t i = 0; i < c->members[m]->input_count; i++)
            if (register_of(c, w, c->members[m]->in[i]) < 0) w->inputs[w->input_count++] = c->members[m]->in[i];
    for (int32_t m = 0; m < c->count; m++) {
        const grdi_node *node = c->members[m];
        w->code[w->length++] = op_index(node->op);
        w->code[w->length++] = node->input_count;
        for (int32_t i = 0; i < node->input_count; i++) w->code[w->length++] = register_of(c, w, node->in[i]);
        int32_t attrs = 0;
        while (node->attrs[attrs].name) attrs++;
        w->code[w->length++] = attrs;
        for (int32_t a = 0; a < attrs; a++)
            w->code[w->length++] =
                double_bits(node->attrs[a].kind == GRD_ATTR_FLOAT ? node->attrs[a].f : (double)node->attrs[a].i);
    }
}

static bool emit_chain(grdi_rewrite *r, const fusion *f, const chain *c)
{
    writer w;
    write_code(c, &w);
    int64_t outputs[GRDI_OUTPUTS_MAX];
    const grdi_node *of[GRDI_OUTPUTS_MAX];
    int32_t output_count = 0;
    for (int32_t m = 0; m < c->count; m++) {
        int32_t inside = 0;
        for (int32_t k = 0; k < c->count; k++)
            for (int32_t i = 0; i < c->members[k]->input_count; i++)
                inside += c->members[k]->in[i].node == c->members[m];
        if (f->uses[(size_t)c->members[m]->id * GRDI_OUTPUTS_MAX] <= inside) continue;
        of[output_count] = c->members[m];
        outputs[output_count++] = w.input_count + m;
    }
    grd_tensor in[GRDI_INPUTS_MAX], out[GRDI_OUTPUTS_MAX];
    for (int32_t i = 0; i < w.input_count; i++) in[i] = grdi_mapped(r, w.inputs[i]);
    const grd_attr attrs[] = {GRD_INTS("code", w.code, w.length), GRD_INTS("outputs", outputs, output_count)};
    grdi_rewrite_context(r, c->members[c->count - 1]);
    if (!grdi_emit(r->graph, grdi_op_find("fused_map"), in, w.input_count, attrs, 2, out).node) return false;
    for (int32_t o = 0; o < output_count; o++) grdi_map(r, (grd_tensor){(grdi_node *)of[o], 0}, out[o]);
    return true;
}

grd_graph *grdi_pass_fuse(grdi_compile *c, const grd_graph *old)
{
    grdi_rewrite r;
    if (!grdi_rewrite_begin(&r, old, c->error)) return NULL;
    fusion f = {.old = old, .uses = grdi_use_counts(old, c)};
    f.chains = grdi_alloc_zero(old->count + 1, sizeof(*f.chains));
    f.chain_of = grdi_alloc_zero(old->count + 1, sizeof(*f.chain_of));
    bool ok = f.uses && f.chains && f.chain_of;
    for (size_t n = 0; ok && n < old->count; n++) {
        f.chain_of[n] = -1;
        if (mappable(old->nodes[n])) join(&f, old->nodes[n]);
    }
    for (size_t n = 0; ok && n < old->count; n++) {
        const chain *in = f.chain_of[n] < 0 ? NULL : &f.chains[f.chain_of[n]];
        if (!in || in->count == 1) ok = grdi_rewrite_copy(&r, old->nodes[n]) != NULL;
        else if (in->members[in->count - 1] == old->nodes[n]) ok = emit_chain(&r, &f, in);
    }
    grdi_free((void *)f.uses);
    grdi_free(f.chains);
    grdi_free(f.chain_of);
    return grdi_rewrite_end(&r, c, ok);
}
