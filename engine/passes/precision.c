/* precision.c - bf16 precision: rounds operands of products to bf16 and stores activations and their gradients in it;
 * or to f16, by the same rules, wherever this says bf16.
 *
 * Every op still computes in f32: a value is rounded by a cast to bf16, and whoever reads it gets a cast back. The plan
 * lets kernels read and write through these casts (plan/lower.c), so none of them need run; where a kernel cannot, the
 * cast is a copy, and the op gets its f32. Gradients of weights stay in f32 from the product that makes them to the
 * storage that they are assigned to. What an op's row in the table says (graph/op.h: bf16_in, bf16_out, FOLLOWS, MOVES)
 * is all that this pass knows of it.
 *
 * It runs after fuse, since it is about what is written to memory: values inside a chain are not. */
#include "passes/pass.h"

#include "ops/map.h"
#include "ops/table.h"

#include <string.h>

/* Who uses a value. */
enum {
    KEPT = 1,      /* an assign or the caller, who get what the graph says: f32 */
    LEADS_TO = 2,  /* an op that hands it on to such a user only */
    ELSEWHERE = 4, /* any other op */
};

typedef struct narrowing {
    grdi_rewrite r;
    grd_dtype dtype;    /* bf16 or f16 */
    uint8_t *users;     /* by old value */
    bool *stored;       /* by old value: in bf16 */
    grd_tensor *narrow; /* by old value: rounded to bf16, where somebody asked for it */
    grd_tensor *back;   /* by old value: the rounded one in f32 */
} narrowing;

static size_t slot(grd_tensor t)
{
    return (size_t)t.node->id * GRDI_OUTPUTS_MAX + (size_t)t.output;
}

static bool is_f32(grd_tensor t)
{
    return grdi_type_of(t)->dtype == GRD_F32;
}

/* ---- which values are stored in bf16 ---- */

static bool stays(const narrowing *p, grd_tensor t)
{
    uint8_t users = p->users[slot(t)];
    return (users & KEPT) || !(users & ELSEWHERE);
}

static void find_users(narrowing *p, const grdi_compile *c)
{
    const grd_graph *old = p->r.old;
    for (int32_t i = 0; i < c->root_count; i++) p->users[slot(c->roots[i])] |= KEPT;
    for (size_t n = old->count; n-- > 0;) {
        grdi_node *node = old->nodes[n];
        uint8_t use = ELSEWHERE;
        if (node->op->flags & (GRDI_OP_MOVES | GRDI_OP_FOLLOWS)) {
            use = LEADS_TO;
            for (int32_t o = 0; o < node->output_count; o++)
                if (!stays(p, (grd_tensor){node, o})) use = ELSEWHERE;
        }
        if (node->op->flags & GRDI_OP_EFFECT) use = KEPT;
        for (int32_t i = 0; i < node->input_count; i++) p->users[slot(node->in[i])] |= use;
    }
}

/* The op that gives output `o`: of a chain the one that makes it. */
static const grdi_op *maker(const grdi_node *node, int32_t o)
{
    if (node->op != &grdi_op_fused_map) return node->op;
    const grd_attr *code = grdi_attr_ints(node->attrs, "code");
    int64_t wanted = grdi_attr_ints(node->attrs, "outputs")->ints[o] - node->input_count;
    grdi_fused_step step = {.op = &grdi_op_copy};
    int32_t position = 0;
    for (int64_t k = 0; k <= wanted && grdi_fused_next(code, &position, &step); k++) continue;
    return step.op;
}

static bool some_input_stored(const narrowing *p, const grdi_node *node)
{
    for (int32_t i = 0; i < node->input_count; i++)
        if (p->stored[slot(node->in[i])]) return true;
    return false;
}

static bool is_stored(const narrowing *p, const grdi_node *node, int32_t o)
{
    grd_tensor t = {(grdi_node *)node, o};
    if (!is_f32(t) || stays(p, t)) return false;
    if (p->dtype == GRD_F16 && (node->op->f16_not >> o) & 1) return false;
    if ((node->op->bf16_out >> o) & 1) return true;
    return (node->op->flags & GRDI_OP_FOLLOWS) && (maker(node, o)->flags & GRDI_OP_FOLLOWS) &&
           some_input_stored(p, node);
}

/* ---- the new graph ---- */

static grd_tensor cast(narrowing *p, grd_tensor t, grd_dtype dtype)
{
    return t.node ? grdi_emit(p->r.graph, &grdi_op_cast, &t, 1, (grd_attr[]){GRD_TYPE("dtype", dtype)}, 1, NULL) : t;
}

/* The node again, on other inputs of another dtype. */
static grd_tensor emit_again(narrowing *p, const grdi_node *node, const grd_tensor *in)
{
    int32_t attrs = 0;
    while (node->attrs[attrs].name) attrs++;
    return grdi_emit(p->r.graph, node->op, in, node->input_count, node->attrs, attrs, NULL);
}

/* The value rounded to bf16, made once. A view is one of its rounded source, so that views of a weight share its copy;
 * but only a slice's own part is rounded. */
static grd_tensor narrow_of(narrowing *p, grd_tensor t)
{
    grd_tensor *narrow = &p->narrow[slot(t)];
    if (narrow->node) return *narrow;
    bool view = (t.node->op->flags & GRDI_OP_VIEW) && t.node->op != &grdi_op_slice;
    if (view) {
        grd_tensor source = narrow_of(p, t.node->in[0]);
        *narrow = source.node ? emit_again(p, t.node, &source) : source;
    } else {
        *narrow = cast(p, grdi_mapped(&p->r, t), p->dtype);
    }
    return *narrow;
}

/* The rounded value as f32. */
static grd_tensor rounded(narrowing *p, grd_tensor t)
{
    grd_tensor *back = &p->back[slot(t)];
    if (!back->node) *back = cast(p, narrow_of(p, t), GRD_F32);
    return *back;
}

/* An op that computes nothing, done on rounded values: its output is rounded by that. */
static bool move(narrowing *p, grdi_node *node)
{
    grd_tensor in[GRDI_INPUTS_MAX], out = {node, 0};
    for (int32_t i = 0; i < node->input_count; i++)
        in[i] = is_f32(node->in[i]) ? narrow_of(p, node->in[i]) : grdi_mapped(&p->r, node->in[i]);
    p->narrow[slot(out)] = emit_again(p, node, in);
    p->stored[slot(out)] = true;
    return p->narrow[slot(out)].node != NULL;
}

static bool compute(narrowing *p, grdi_node *node)
{
    grd_tensor in[GRDI_INPUTS_MAX];
    for (int32_t i = 0; i < node->input_count; i++) {
        grd_tensor t = node->in[i];
        bool narrows = is_f32(t) && (p->stored[slot(t)] || ((node->op->bf16_in >> i) & 1));
        in[i] = narrows ? rounded(p, t) : grdi_mapped(&p->r, t);
        if (!in[i].node) return false;
    }
    grdi_node *copy = grdi_node_copy(p->r.graph, node, in);
    for (int32_t o = 0; copy && o < node->output_count; o++) {
        grd_tensor t = {node, o};
        grdi_map(&p->r, t, (grd_tensor){copy, o});
        p->stored[slot(t)] = is_stored(p, node, o);
        if (p->stored[slot(t)] && !narrow_of(p, t).node) return false;
    }
    return copy != NULL;
}

grd_graph *grdi_pass_precision(grdi_compile *c, const grd_graph *old)
{
    narrowing p;
    memset(&p, 0, sizeof(p));
    if (!grdi_rewrite_begin(&p.r, old, c->error)) return NULL;
    p.dtype = c->options->f16 ? GRD_F16 : GRD_BF16;
    size_t slots = (old->count + 1) * GRDI_OUTPUTS_MAX;
    p.users = grdi_alloc_zero(slots, sizeof(*p.users));
    p.stored = grdi_alloc_zero(slots, sizeof(*p.stored));
    p.narrow = grdi_alloc_zero(slots, sizeof(*p.narrow));
    p.back = grdi_alloc_zero(slots, sizeof(*p.back));
    bool ok = p.users && p.stored && p.narrow && p.back;
    if (ok) find_users(&p, c);
    for (size_t n = 0; ok && n < old->count; n++) {
        grdi_node *node = old->nodes[n];
        grdi_rewrite_context(&p.r, node);
        bool moves = (node->op->flags & GRDI_OP_MOVES) && is_f32((grd_tensor){node, 0}) &&
                     !stays(&p, (grd_tensor){node, 0}) && some_input_stored(&p, node);
        ok = moves ? move(&p, node) : compute(&p, node);
    }
    grdi_free(p.users);
    grdi_free(p.stored);
    grdi_free(p.narrow);
    grdi_free(p.back);
    grd_graph *graph = grdi_rewrite_end(&p.r, c, ok);
    if (!graph) return NULL;
    grd_graph *used = grdi_pass_extract(c, graph); /* drops what nobody reads any more in f32 */
    grdi_graph_destroy(graph);
    return used;
}
