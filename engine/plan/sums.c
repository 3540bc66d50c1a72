/* sums.c - adds for which nothing runs: the kernel that makes one operand adds it to the other. */
#include "plan/lower.h"

#include "ops/table.h"

/* What a value in bf16 or f16 is when it is read, and other shapes: views, behind which an operand is made. */
static bool is_view_of_operand(grd_tensor t)
{
    bool casts = t.node->op == &grdi_op_cast && t.node->out[0].dtype == GRD_F32;
    grd_dtype from = casts ? grdi_type_of(t.node->in[0])->dtype : GRD_F32;
    return from == GRD_BF16 || from == GRD_F16 || t.node->op == &grdi_op_reshape;
}

static grd_tensor made_as(const lowering *l, grd_tensor t)
{
    while (l->uses[slot(t)] == 1 && !l->is_root[slot(t)] && is_view_of_operand(t)) t = t.node->in[0];
    return t;
}

grd_tensor grdi_sum_operand(const grdi_launch *launch)
{
    grd_tensor t = launch->sum->in[launch->sum_other];
    while (is_view_of_operand(t)) t = t.node->in[0];
    return t;
}

/* The value of an operand that is made already, in the add's shape, though views of it may still be to come. */
static bool operand_value(const lowering *l, grd_tensor t, grd_dims dims, grdi_value *value)
{
    while (grdi_value_of(l->plan, t)->buffer < 0 && l->uses[slot(t)] == 1 && !l->is_root[slot(t)] &&
           is_view_of_operand(t))
        t = t.node->in[0];
    *value = *grdi_value_of(l->plan, t);
    if (value->buffer < 0 || !grdi_is_row_major(grdi_type_of(t)->dims, value->strides.stride)) return false;
    grdi_row_major(dims, value->strides.stride);
    return true;
}

void grdi_find_sums(lowering *l)
{
    grd_graph *graph = l->plan->graph;
    for (size_t n = 0; n < graph->count; n++) {
        grdi_node *add = graph->nodes[n];
        bool alike = add->op == &grdi_op_add && grd_dims_equal(grdi_type_of(add->in[0])->dims, add->out[0].dims) &&
                     grd_dims_equal(grdi_type_of(add->in[1])->dims, add->out[0].dims);
        for (int32_t i = 0; alike && i < 2; i++) {
            grd_tensor t = made_as(l, add->in[i]);
            if (l->uses[slot(t)] == 1 && !l->is_root[slot(t)]) l->addends[slot(t)] = add;
        }
    }
}

/* What the add's result is stored as: itself, or what a cast to bf16 makes of it. */
static grd_tensor sum_of(const lowering *l, grdi_node *add)
{
    grd_tensor sum = {add, 0};
    grdi_node *rounded = l->rounded[slot(sum)];
    return rounded ? (grd_tensor){rounded, 0} : sum;
}

/* The add's result goes nowhere in particular. */
static bool is_free(const lowering *l, grd_tensor sum)
{
    return !l->is_root[slot(sum)] && !l->sink[slot(sum)] && !l->pieces[slot(sum)].concat;
}

static bool touches(const grdi_launch *launch, int32_t buffer, int32_t outputs)
{
    for (int32_t i = 0; i < launch->call.input_count; i++)
        if (launch->in[i].buffer == buffer) return true;
    for (int32_t o = 0; o < outputs; o++)
        if (launch->out[o].buffer == buffer) return true;
    return false;
}

int32_t grdi_sum_buffer(lowering *l, grdi_launch *launch, grd_tensor t, int32_t o)
{
    grdi_node *add = l->addends[slot(t)];
    if (!add || !is_free(l, (grd_tensor){add, 0}) || !is_free(l, sum_of(l, add))) return -1;
    grdi_type type = *grdi_type_of(sum_of(l, add));
    if (type.dtype != GRD_F32 && type.dtype != GRD_BF16) return -1; /* what kernels add in */
    for (int32_t i = 0; i < 2; i++) {
        grdi_value other;
        if (!operand_value(l, add->in[i], type.dims, &other)) continue; /* it may be the one that is being made */
        if (other.rounded || other.dtype != type.dtype || launch->call.out[o].dtype != type.dtype) continue;
        const grdi_buffer *b = &l->plan->buffers[other.buffer];
        bool dead = b->place == GRDI_IN_ARENA && b->uses_left == 1 && other.strides.offset == 0 &&
                    b->size_bytes == grdi_type_bytes(type) && !touches(launch, other.buffer, o);
        bool adds = dead && (launch->kernel->accumulates >> o) & 1, based = o == 0 && launch->kernel->adds_base;
        if (!adds && !based) continue;
        launch->sum = add, launch->sum_other = i;
        l->summed[add->id] = (uint8_t)(2 - i);
        if (adds) {
            launch->accumulate[o] = 1;
            launch->call.may_accumulate[o] = true;
            return other.buffer;
        }
        launch->based = true;
        launch->base = other;
        launch->call.has_base = true;
        return -1;
    }
    return -1;
}

void grdi_lower_sum(lowering *l, grdi_node *add)
{
    grdi_value value = *grdi_value_of(l->plan, add->in[l->summed[add->id] - 1]);
    for (int32_t i = 0; i < 2; i++) l->plan->buffers[grdi_value_of(l->plan, add->in[i])->buffer].uses_left--;
    define(l, sum_of(l, add), value);
}
