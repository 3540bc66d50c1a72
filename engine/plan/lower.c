/* lower.c - turns nodes into launches: views become strides, values get buffers, gradients land in their storage.
 *
 * Casts between f32 and bf16 (or f16, in programs of that precision) are left to kernels that read or write bf16 where
 * the graph says f32: a cast to f32 hands on the value as it lies, and what is only cast to bf16 is written so. Where
 * there is no such kernel, a copy converts.
 *
 * Nodes are taken in order. A buffer counts the reads that are still to come; the launch that reads it last may write
 * its own output there (in place), and after it the buffer is free for others. */
#include "plan/lower.h"

#include "ops/table.h"
#include "plan/custom.h"

#include <stdlib.h>
#include <string.h>

static int32_t now(const lowering *l)
{
    return (int32_t)l->plan->launch_count;
}

static int32_t add_buffer(lowering *l, grdi_place place, grdi_class class, size_t size_bytes)
{
    grdi_plan *plan = l->plan;
    if (size_bytes > GRDI_SIZES_MAX - plan->buffers_bytes) { /* a sum of sizes that fits overflows nowhere */
        grd_fail(l->error, GRD_E_MEMORY, "the plan needs more than %zu bytes (a smaller model or batch)",
                 GRDI_SIZES_MAX);
        return -1;
    }
    plan->buffers_bytes += size_bytes;
    if (!GRDI_GROW(plan->buffers, plan->buffer_capacity, plan->buffer_count)) {
        grd_fail(l->error, GRD_E_MEMORY, "out of memory for the plan");
        return -1;
    }
    int32_t index = (int32_t)plan->buffer_count++;
    plan->buffers[index] =
        (grdi_buffer){.place = place, .class = class, .size_bytes = size_bytes, .first = now(l), .last = now(l)};
    return index;
}

/* ---- sources ---- */

static grdi_class class_of(const grdi_variable *variable)
{
    switch (variable->kind) {
    case GRDI_VARIABLE_PARAMETER: return GRDI_CLASS_WEIGHTS;
    case GRDI_VARIABLE_GRADIENT: return GRDI_CLASS_GRADIENTS;
    case GRDI_VARIABLE_MOMENT: return GRDI_CLASS_OPTIMIZER;
    default: return GRDI_CLASS_STATE;
    }
}

/* The entry of a variable, free if it has no buffer yet. */
static int32_t *entry_of(const lowering *l, const grdi_variable *variable)
{
    size_t at = (uintptr_t)variable / sizeof(*variable) & (l->variables_size - 1);
    while (l->variables[at] && l->plan->buffers[l->variables[at] - 1].variable != variable)
        at = (at + 1) & (l->variables_size - 1);
    return &l->variables[at];
}

/* A variable's one buffer, added when it is first asked for; -1 where there is no memory for it. */
static int32_t buffer_of(lowering *l, grdi_variable *variable)
{
    int32_t *entry = entry_of(l, variable);
    if (*entry) return *entry - 1;
    int32_t buffer = add_buffer(l, GRDI_IN_VARIABLE, class_of(variable), grdi_type_bytes(variable->type));
    if (buffer < 0) return -1;
    *entry = buffer + 1;
    l->plan->buffers[buffer].variable = variable;
    return buffer;
}

static bool lower_source(lowering *l, grdi_node *node)
{
    grd_tensor t = {node, 0};
    grdi_type type = node->out[0];
    int32_t buffer = node->variable ? buffer_of(l, node->variable)
                                    : add_buffer(l, GRDI_IN_KEPT, GRDI_CLASS_INPUTS, grdi_type_bytes(type));
    if (buffer < 0) return false;
    l->plan->buffers[buffer].literal = node->literal;
    grdi_value value; /* a parameter may be kept in bf16, which kernels read through a cast as any other value in it */
    row_major_value(&value, buffer, node->variable ? node->variable->type.dtype : type.dtype, type.dims);
    define(l, t, value);
    return true;
}

/* ---- launches ---- */

static grdi_view view_of(const grdi_value *value, grd_dims dims)
{
    grdi_view view = {.data = NULL, .dtype = value->dtype, .dims = dims, .rounded = value->rounded == GRD_BF16};
    memcpy(view.stride, value->strides.stride, sizeof(view.stride));
    return view;
}

/* True when the kernel takes input `i` with the strides it has. */
static bool takes_strides(const grdi_kernel *kernel, const grdi_call *call, int32_t i)
{
    const grdi_view *in = &call->in[i];
    if (grdi_is_row_major(in->dims, in->stride) || ((kernel->strided_in >> i) & 1)) return true;
    int32_t rank = in->dims.rank;
    bool rows = rank == 0 || in->stride[rank - 1] == 1 || in->dims.dim[rank - 1] == 1;
    return rows && ((kernel->rows_in >> i) & 1);
}

static void touch(lowering *l, int32_t buffer)
{
    if (buffer >= 0) l->plan->buffers[buffer].last = now(l);
}

/* Appends the launch: its scratch gets a buffer, its costs are added up. */
static bool push(lowering *l, grdi_launch *launch)
{
    grdi_plan *plan = l->plan;
    launch->scratch = -1;
    if (launch->kernel->prepare) {
        grd_error error = {GRD_OK, ""};
        if (launch->kernel->prepare(&launch->call, &error))
            return !grd_fail(l->error, error.status ? error.status : GRD_E_DEVICE, "%s%s%s: %s", launch->node->scope,
                             launch->node->scope[0] ? "/" : "", launch->call.op->name, error.message);
    }
    if (!GRDI_GROW(plan->launches, plan->launch_capacity, plan->launch_count)) {
        if (launch->kernel->release) launch->kernel->release(&launch->call);
        return !grd_fail(l->error, GRD_E_MEMORY, "out of memory for the plan");
    }
    if (launch->call.scratch_bytes) {
        launch->scratch = add_buffer(l, GRDI_IN_ARENA, GRDI_CLASS_WORKSPACE, launch->call.scratch_bytes);
        if (launch->scratch < 0) {
            if (launch->kernel->release) launch->kernel->release(&launch->call);
            return false;
        }
    }
    for (int32_t i = 0; i < launch->call.input_count; i++) touch(l, launch->in[i].buffer);
    if (launch->based) touch(l, launch->base.buffer);
    for (int32_t o = 0; o < launch->call.output_count; o++) {
        int32_t b = launch->out[o].buffer;
        touch(l, b);
        if (b < 0 || plan->buffers[b].place != GRDI_IN_VARIABLE) continue;
        plan->writes_weights |= plan->buffers[b].class == GRDI_CLASS_WEIGHTS;
    }
    plan->flops += launch->flops;
    plan->bytes += launch->bytes;
    plan->launches[plan->launch_count++] = *launch;
    return true;
}

static const grdi_kernel *look_up(const lowering *l, const grdi_call *call)
{
    const grdi_kernel *kernel = grdi_custom_kernel(l->engine, call);
    return kernel ? kernel : l->engine->backend->find(l->engine->device, call);
}

static const grdi_kernel *find_kernel(lowering *l, const grdi_launch *launch)
{
    const grdi_kernel *kernel = look_up(l, &launch->call);
    char in[64] = "";
    for (int32_t i = 0; !kernel && i < launch->call.input_count && strlen(in) < 48; i++)
        snprintf(in + strlen(in), sizeof(in) - strlen(in), "%s%s", i ? "," : " of ",
                 grd_dtype_name(launch->call.in[i].dtype));
    if (!kernel)
        grd_fail(l->error, GRD_E_UNSUPPORTED,
                 "%s%s%s: device %s has no kernel for %s%s (cast the inputs to f32, or run it on cpu)",
                 launch->node->scope, launch->node->scope[0] ? "/" : "", launch->call.op->name,
                 l->engine->backend->name, launch->call.op->name, in);
    return kernel;
}

static void costs(grdi_launch *launch)
{
    const grdi_call *call = &launch->call;
    grdi_type in[GRDI_INPUTS_MAX], out[GRDI_OUTPUTS_MAX];
    double bytes = 0;
    for (int32_t i = 0; i < call->input_count; i++) {
        in[i] = (grdi_type){call->in[i].dtype, call->in[i].dims};
        bytes += (double)grdi_type_bytes(in[i]);
    }
    for (int32_t o = 0; o < call->output_count; o++) {
        out[o] = (grdi_type){call->out[o].dtype, call->out[o].dims};
        if (launch->out[o].buffer >= 0) bytes += (double)grdi_type_bytes(out[o]);
    }
    launch->flops = call->op->flops ? call->op->flops(in, call->input_count, out, call->attrs)
                                    : (double)grd_dims_count(out[0].dims);
    launch->bytes = launch->kernel->bytes_of ? launch->kernel->bytes_of(call)
                    : call->op->bytes        ? call->op->bytes(in, call->input_count, out, call->attrs)
                                             : bytes;
}

static bool push_copy(lowering *l, const grdi_node *node, grd_dims dims, const grdi_value *value,
                      const grdi_value *place, bool of_weights)
{
    static const grd_attr no_attrs[] = {{.name = NULL}};
    grdi_launch launch = {.node = node,
                          .call = {.device = l->engine->device,
                                   .op = &grdi_op_copy,
                                   .attrs = no_attrs,
                                   .input_count = 1,
                                   .output_count = 1,
                                   .threads = l->engine->threads},
                          .of_weights = of_weights};
    launch.in[0] = *value;
    launch.out[0] = *place;
    launch.call.in[0] = view_of(value, dims);
    launch.call.out[0] = view_of(place, dims);
    launch.kernel = find_kernel(l, &launch);
    if (!launch.kernel) return false;
    costs(&launch);
    return push(l, &launch);
}

/* Copies `value` to `place`, which may be of another dtype. */
static bool copy_to(lowering *l, const grdi_node *node, grd_dims dims, const grdi_value *value, const grdi_value *place)
{
    return push_copy(l, node, dims, value, place, false);
}

static bool side_by_side(const grdi_variable *a, const grdi_variable *b)
{
    return a->storage == b->storage && a->offset_bytes + grdi_type_bytes(a->type) == b->offset_bytes;
}

/* Copies a parameter to what it counts as rounded to, and with it those beside it that will be copied too, where the
 * device wants that. */
static bool copy_rounded(lowering *l, const grdi_node *node, grdi_variable *variable, grd_dtype dtype)
{
    grdi_variable *alone[] = {variable}, **run = alone;
    size_t count = 1;
    for (size_t i = 0; i < l->copied_count && run == alone; i++)
        if (l->copied[i] == variable) run = &l->copied[i];
    while (run != alone && run > l->copied && side_by_side(run[-1], run[0])) run--, count++;
    grdi_variable *const *end = l->copied + l->copied_count;
    while (run != alone && run + count < end && side_by_side(run[count - 1], run[count])) count++;
    const grdi_variable *last = run[count - 1];
    size_t bytes = last->offset_bytes + grdi_type_bytes(last->type) - run[0]->offset_bytes;
    grd_dims all = count == 1 ? variable->type.dims : grd_shape((int64_t)(bytes / sizeof(float)));
    int32_t to = add_buffer(l, GRDI_IN_KEPT, GRDI_CLASS_WEIGHTS, grdi_type_bytes((grdi_type){dtype, all}));
    for (size_t i = 0; i < count && to >= 0; i++) {
        int32_t b = buffer_of(l, run[i]);
        if (b < 0) return false;
        l->plan->buffers[b].narrow_copy = to + 1;
        l->plan->buffers[b].copy_offset = (int64_t)((run[i]->offset_bytes - run[0]->offset_bytes) / sizeof(float));
    }
    if (to < 0) return false;
    grdi_value whole, copy;
    row_major_value(&whole, buffer_of(l, run[0]), GRD_F32, all);
    row_major_value(&copy, to, dtype, all);
    return push_copy(l, node, all, &whole, &copy, true);
}

/* A parameter that counts as rounded becomes its copy, which the program keeps and all readers share. */
static bool use_copy(lowering *l, const grdi_node *node, grdi_value *value)
{
    if (!value->rounded) return true;
    int32_t b = value->buffer;
    if (!l->plan->buffers[b].narrow_copy && !copy_rounded(l, node, l->plan->buffers[b].variable, value->rounded))
        return false;
    l->plan->buffers[b].uses_left--; /* this read has happened */
    value->buffer = l->plan->buffers[b].narrow_copy - 1;
    value->strides.offset += l->plan->buffers[b].copy_offset;
    value->dtype = value->rounded;
    value->rounded = GRD_F32;
    l->plan->buffers[value->buffer].uses_left++;
    return true;
}

/* A row-major copy of `value` in a buffer of its own, of the dtype asked for. */
static bool copy_value(lowering *l, const grdi_node *node, grdi_type type, const grdi_value *value, grdi_value *result)
{
    int32_t buffer = add_buffer(l, GRDI_IN_ARENA, GRDI_CLASS_ACTIVATIONS, grdi_type_bytes(type));
    if (buffer < 0) return false;
    row_major_value(result, buffer, type.dtype, type.dims);
    return copy_to(l, node, type.dims, value, result);
}

/* ---- where outputs go ---- */

/* In place over input i: the buffer is the arena's, nobody reads it later, and the value fills it as the output would.
 */
static int32_t in_place_buffer(const lowering *l, const grdi_launch *launch, int32_t o)
{
    if (!((launch->kernel->in_place >> o) & 1)) return -1;
    uint32_t allowed = launch->call.op->inplace[o];
    const grdi_view *out = &launch->call.out[o];
    size_t size = (size_t)grd_dims_count(out->dims) * grd_dtype_size(out->dtype);
    for (int32_t i = 0; i < launch->call.input_count; i++) {
        if (!((allowed >> i) & 1)) continue;
        const grdi_view *in = &launch->call.in[i];
        int32_t b = launch->in[i].buffer;
        const grdi_buffer *buffer = &l->plan->buffers[b];
        int32_t readers = 0, taken = 0;
        for (int32_t k = 0; k < launch->call.input_count; k++) readers += launch->in[k].buffer == b;
        for (int32_t k = 0; k < o; k++) taken += launch->out[k].buffer == b;
        if (buffer->place == GRDI_IN_ARENA && buffer->uses_left == 1 && readers == 1 && !taken &&
            buffer->size_bytes == size && launch->in[i].strides.offset == 0 && in->dtype == out->dtype &&
            grd_dims_equal(in->dims, out->dims) && grdi_is_row_major(in->dims, in->stride))
            return b;
    }
    return -1;
}

/* Straight into the variable that the value will be assigned to, where nobody still needs the variable's old content.
 */
static int32_t sink_buffer(const lowering *l, const grdi_launch *launch, grd_tensor t, int32_t o)
{
    const grdi_node *assign = l->sink[slot(t)];
    if (!assign) return -1;
    int64_t mode = grdi_attr_int(assign->attrs, "mode");
    if (mode != 0 && !((launch->kernel->accumulates >> o) & 1)) return -1;
    const grdi_value *target = grdi_value_of(l->plan, assign->in[0]);
    if (target->buffer < 0 || target->dtype != grdi_type_of(t)->dtype) return -1;
    int32_t own_reads = 0; /* reads by this very launch are fine where the op may work in place */
    for (int32_t i = 0; i < launch->call.input_count; i++) {
        if (launch->in[i].buffer != target->buffer) continue;
        if (mode != 0 || !((launch->kernel->in_place >> o) & 1) || !((launch->call.op->inplace[o] >> i) & 1)) return -1;
        own_reads++;
    }
    /* Other assigns to the target come later, in order: they are no readers of the old content. */
    int32_t assigns = l->assigns[slot(assign->in[0])];
    return l->plan->buffers[target->buffer].uses_left == own_reads + assigns ? target->buffer : -1;
}

/* ---- concat: its inputs are written where they belong in its output, so that nothing is left to copy ---- */

/* Where input `index` lies in the concat's output; the output gets its buffer when its first input is made. */
static bool piece_place(lowering *l, const piece *p, grdi_value *value)
{
    grd_tensor whole = {p->concat, 0};
    grdi_value *out = grdi_value_of(l->plan, whole);
    grd_dims dims = p->concat->out[0].dims;
    if (out->buffer < 0) {
        int32_t buffer = add_buffer(l, GRDI_IN_ARENA, GRDI_CLASS_ACTIVATIONS, grdi_type_bytes(p->concat->out[0]));
        if (buffer < 0) return false;
        row_major_value(out, buffer, p->concat->out[0].dtype, dims);
    }
    int64_t axis = grdi_attr_int(p->concat->attrs, "axis"), before = 0;
    if (axis < 0) axis += dims.rank;
    for (int32_t i = 0; i < p->index; i++) before += grdi_type_of(p->concat->in[i])->dims.dim[axis];
    *value = *out;
    value->strides.offset += before * out->strides.stride[axis];
    return true;
}

/* The strides of value `t` so that, seen through the reshapes between it and the concat, it is the piece. A reshape
 * back from the piece's shape to that of `t` says so, where it needs no copy. */
static bool piece_strides(lowering *l, grd_tensor t, const piece *p, grdi_value *value)
{
    grdi_value whole;
    if (!piece_place(l, p, &whole)) return false;
    const grdi_type *from = grdi_type_of(p->concat->in[p->index]), *to = grdi_type_of(t);
    *value = whole;
    return grdi_op_reshape.view(from, &whole.strides, NULL, to, &value->strides);
}

/* Strides that the kernel writes to: rows without gaps. */
static bool rows_only(const grdi_value *value, grd_dims dims)
{
    return dims.rank > 0 && (value->strides.stride[dims.rank - 1] == 1 || dims.dim[dims.rank - 1] == 1);
}

static bool place_in_concat(lowering *l, grdi_launch *launch, grd_tensor t, int32_t o)
{
    const piece *p = &l->pieces[slot(t)];
    grdi_value value;
    if (!p->concat || !((launch->kernel->strided_out >> o) & 1) || !piece_strides(l, t, p, &value)) return false;
    if (value.dtype != launch->call.out[o].dtype || !rows_only(&value, launch->call.out[o].dims)) return false;
    launch->out[o] = value;
    memcpy(launch->call.out[o].stride, value.strides.stride, sizeof(value.strides.stride));
    return true;
}

/* `kept`: in the program's own block, where it stays after the run. */
static bool place_output(lowering *l, grdi_launch *launch, grd_tensor t, int32_t o, bool kept)
{
    grdi_type type = *grdi_type_of(t);
    launch->out[o].buffer = -1;
    if (l->uses[slot(t)] == 0 && !(o == 0 && launch->node->output_count == 1)) return true; /* nobody reads it */
    if (place_in_concat(l, launch, t, o)) return true;
    int32_t buffer = sink_buffer(l, launch, t, o);
    if (buffer >= 0) {
        launch->accumulate[o] = (uint8_t)grdi_attr_int(l->sink[slot(t)]->attrs, "mode");
        launch->call.may_accumulate[o] = launch->accumulate[o] != 0;
    }
    if (buffer < 0 && !kept) buffer = grdi_sum_buffer(l, launch, t, o);
    if (buffer < 0 && !kept) buffer = in_place_buffer(l, launch, o);
    if (buffer < 0)
        buffer = add_buffer(l, kept ? GRDI_IN_KEPT : GRDI_IN_ARENA, kept ? GRDI_CLASS_INPUTS : GRDI_CLASS_ACTIVATIONS,
                            grdi_type_bytes(type));
    if (buffer < 0) return false;
    row_major_value(&launch->out[o], buffer, type.dtype, type.dims);
    return true;
}

static bool is_root(const lowering *l, grd_tensor t)
{
    return l->is_root[slot(t)];
}

/* ---- kernels that read and write through casts ---- */

/* What output `o` is written as: itself, or what a cast makes of it. */
static grd_tensor written_as(const lowering *l, const grdi_launch *launch, int32_t o)
{
    grd_tensor t = {(grdi_node *)launch->node, o};
    grdi_node *rounded = l->rounded[slot(t)];
    return rounded && launch->call.out[o].dtype == rounded->out[0].dtype ? (grd_tensor){rounded, 0} : t;
}

/* Sets the call's dtypes: inputs as they lie or as the graph says, outputs rounded where a cast says so or not. */
static void set_dtypes(const lowering *l, grdi_launch *launch, bool as_they_lie, bool rounding)
{
    const grdi_node *node = launch->node;
    for (int32_t i = 0; i < node->input_count; i++)
        launch->call.in[i].dtype = as_they_lie ? launch->in[i].dtype : grdi_type_of(node->in[i])->dtype;
    for (int32_t o = 0; o < node->output_count; o++) {
        const grdi_node *rounded = l->rounded[slot((grd_tensor){(grdi_node *)node, o})];
        launch->call.out[o].dtype = rounding && rounded ? rounded->out[0].dtype : node->out[o].dtype;
    }
}

/* The kernel that needs the fewest casts of its own; the reference only where no other takes the call in any dtypes. */
static const grdi_kernel *best_kernel(lowering *l, grdi_launch *launch)
{
    static const struct {
        bool as_they_lie, rounding;
    } ways[] = {{true, true}, {true, false}, {false, true}, {false, false}};
    for (size_t w = 0; w < sizeof(ways) / sizeof(ways[0]); w++) {
        set_dtypes(l, launch, ways[w].as_they_lie, ways[w].rounding);
        const grdi_kernel *kernel = look_up(l, &launch->call);
        if (kernel && kernel != &grdi_reference_kernel) return kernel;
    }
    set_dtypes(l, launch, true, true);
    return find_kernel(l, launch);
}

static bool choose_kernel(lowering *l, grdi_launch *launch)
{
    const grdi_backend *backend = l->engine->backend;
    bool copies = backend->copies_rounded && backend->copies_rounded(l->engine->device);
    launch->kernel = best_kernel(l, launch);
    for (int32_t i = 0; i < launch->call.input_count && launch->kernel; i++) {
        bool rounds = !copies && launch->in[i].rounded == GRD_BF16 && (launch->kernel->rounds_in >> i) & 1;
        bool takes = rounds && takes_strides(launch->kernel, &launch->call, i);
        if (!launch->in[i].rounded || takes) continue;
        if (!use_copy(l, launch->node, &launch->in[i])) return false;
        launch->call.in[i] = view_of(&launch->in[i], launch->call.in[i].dims);
        launch->kernel = best_kernel(l, launch);
        i = -1; /* it may take other inputs than the one before */
    }
    return launch->kernel != NULL;
}

/* Copies inputs whose dtype or strides the kernel does not take. */
static bool adapt_inputs(lowering *l, grdi_launch *launch)
{
    const grdi_node *node = launch->node;
    grdi_call *call = &launch->call;
    for (int32_t i = 0; i < node->input_count; i++) {
        grdi_type type = {call->in[i].dtype, call->in[i].dims};
        if (type.dtype == launch->in[i].dtype && takes_strides(launch->kernel, call, i)) continue;
        grdi_value copy;
        if (!copy_value(l, node, type, &launch->in[i], &copy)) return false;
        l->plan->buffers[launch->in[i].buffer].uses_left--; /* this read has happened */
        l->plan->buffers[copy.buffer].uses_left++;
        launch->in[i] = copy;
        call->in[i] = view_of(&copy, type.dims);
    }
    return true;
}

static bool lower_kernel(lowering *l, grdi_node *node)
{
    grdi_launch launch = {.node = node,
                          .call = {.device = l->engine->device,
                                   .op = node->op,
                                   .attrs = node->attrs,
                                   .input_count = node->input_count,
                                   .output_count = node->output_count,
                                   .path_hash = node->path_hash,
                                   .literal = node->literal,
                                   .threads = l->engine->threads}};
    grdi_call *call = &launch.call;
    for (int32_t i = 0; i < node->input_count; i++) {
        launch.in[i] = *grdi_value_of(l->plan, node->in[i]);
        call->in[i] = view_of(&launch.in[i], grdi_type_of(node->in[i])->dims);
    }
    for (int32_t o = 0; o < node->output_count; o++) {
        call->out[o] = (grdi_view){.dims = node->out[o].dims};
        grdi_row_major(node->out[o].dims, call->out[o].stride);
    }
    if (!choose_kernel(l, &launch) || !adapt_inputs(l, &launch)) return false;
    for (int32_t o = 0; o < node->output_count; o++) {
        grd_tensor t = written_as(l, &launch, o);
        if (!place_output(l, &launch, t, o, is_root(l, t))) return false;
    }
    costs(&launch);
    if (!push(l, &launch)) return false;
    for (int32_t i = 0; i < node->input_count; i++) l->plan->buffers[launch.in[i].buffer].uses_left--;
    for (int32_t o = 0; o < node->output_count; o++)
        if (launch.out[o].buffer >= 0) define(l, written_as(l, &launch, o), launch.out[o]);
    return true;
}

/* A cast to f32 of what lies in bf16 or f16, or to it of a parameter: those who read it convert, so that it is a view.
 */
static bool lower_as_view(lowering *l, grdi_node *node)
{
    grdi_value value = *grdi_value_of(l->plan, node->in[0]);
    if (node->out[0].dtype == l->plan->narrow && value.dtype == GRD_F32) value.rounded = l->plan->narrow;
    l->plan->buffers[value.buffer].uses_left--;
    define(l, (grd_tensor){node, 0}, value);
    return true;
}

static bool lower_view(lowering *l, grdi_node *node)
{
    const grdi_type *in = grdi_type_of(node->in[0]);
    grdi_value from = *grdi_value_of(l->plan, node->in[0]), to = from;
    if (!node->op->view(in, &from.strides, node->attrs, &node->out[0], &to.strides)) {
        grdi_value copy;
        if (!use_copy(l, node, &from)) return false;
        if (!copy_value(l, node, (grdi_type){from.dtype, in->dims}, &from, &copy)) return false;
        l->plan->buffers[from.buffer].uses_left--;
        l->plan->buffers[copy.buffer].uses_left++;
        from = to = copy;
        if (!node->op->view(in, &from.strides, node->attrs, &node->out[0], &to.strides))
            return !grd_fail(l->error, GRD_E_STATE,
                             "%s: no view even of a row-major input (a fault of the engine: please report it)",
                             node->op->name);
    }
    l->plan->buffers[to.buffer].uses_left--;
    define(l, (grd_tensor){node, 0}, to);
    return true;
}

/* An assign whose value was written in place costs nothing; else the value is copied or added to its target. */
static bool lower_assign(lowering *l, grdi_node *node)
{
    grdi_value target = *grdi_value_of(l->plan, node->in[0]), value = *grdi_value_of(l->plan, node->in[1]);
    if (!use_copy(l, node, &value)) return false;
    if (target.buffer == value.buffer) {
        l->plan->buffers[target.buffer].uses_left -= 2;
        define(l, (grd_tensor){node, 0}, target);
        return true;
    }
    static const grd_attr as_told[] = {GRD_INT("mode", 2),
                                       {.name = NULL}}; /* adding is told by call.accumulate alone */
    grdi_launch launch = {.node = node,
                          .call = {.device = l->engine->device,
                                   .op = node->op,
                                   .attrs = as_told,
                                   .input_count = 2,
                                   .output_count = 1,
                                   .threads = l->engine->threads}};
    launch.in[0] = target;
    launch.in[1] = value;
    launch.out[0] = target;
    launch.accumulate[0] = (uint8_t)grdi_attr_int(node->attrs, "mode");
    launch.call.may_accumulate[0] = launch.accumulate[0] != 0;
    launch.call.in[0] = launch.call.out[0] = view_of(&target, node->out[0].dims);
    launch.call.in[1] = view_of(&value, node->out[0].dims);
    launch.kernel = find_kernel(l, &launch);
    if (!launch.kernel) return false;
    if (!takes_strides(launch.kernel, &launch.call, 1)) {
        if (!copy_value(l, node, (grdi_type){value.dtype, node->out[0].dims}, &value, &launch.in[1])) return false;
        launch.call.in[1] = view_of(&launch.in[1], node->out[0].dims);
    }
    costs(&launch);
    if (!push(l, &launch)) return false;
    l->plan->buffers[target.buffer].uses_left--;
    l->plan->buffers[value.buffer].uses_left--;
    define(l, (grd_tensor){node, 0}, target);
    return true;
}

/* True when the input lies already where it belongs in the concat's output. */
static bool in_place_in(const grdi_value *value, const grdi_value *place, grd_dims dims)
{
    bool start = value->buffer == place->buffer && value->strides.offset == place->strides.offset;
    if (!start || value->dtype != place->dtype) return false;
    for (int32_t d = 0; d < dims.rank; d++)
        if (dims.dim[d] != 1 && value->strides.stride[d] != place->strides.stride[d]) return false;
    return true;
}

/* A concat some of whose inputs were written in place: the others are copied there, and it is done. */
static bool lower_joined(lowering *l, grdi_node *node)
{
    grdi_value whole = *grdi_value_of(l->plan, (grd_tensor){node, 0});
    for (int32_t i = 0; i < node->input_count; i++) {
        grdi_type type = *grdi_type_of(node->in[i]);
        grdi_value value = *grdi_value_of(l->plan, node->in[i]), place;
        const piece p = {node, i};
        if (!piece_place(l, &p, &place) || !use_copy(l, node, &value)) return false;
        if (!in_place_in(&value, &place, type.dims) && !copy_to(l, node, type.dims, &value, &place)) return false;
        l->plan->buffers[value.buffer].uses_left--;
    }
    touch(l, whole.buffer);
    define(l, (grd_tensor){node, 0}, whole);
    return true;
}

/* A root must lie in its own kept buffer or in a variable, row-major: a view of something else is copied there. */
static bool settle_root(lowering *l, grd_tensor root)
{
    grdi_value *value = grdi_value_of(l->plan, root);
    const grdi_type *type = grdi_type_of(root);
    if (!use_copy(l, root.node, value)) return false;
    bool as_said = value->dtype == type->dtype && grdi_is_row_major(type->dims, value->strides.stride);
    if (l->plan->buffers[value->buffer].place != GRDI_IN_ARENA && as_said) return true;
    grdi_value copy;
    if (!copy_value(l, root.node, *type, value, &copy)) return false;
    l->plan->buffers[copy.buffer].place = GRDI_IN_KEPT;
    l->plan->buffers[copy.buffer].class = GRDI_CLASS_INPUTS;
    *value = copy;
    return true;
}

/* Follows each assign back over reshapes to the value that a kernel will write: that value may go straight to the
 * target. */
static void find_sinks(lowering *l)
{
    grd_graph *graph = l->plan->graph;
    for (size_t n = 0; n < graph->count; n++) {
        const grdi_node *assign = graph->nodes[n];
        if (!(assign->op->flags & GRDI_OP_EFFECT)) continue;
        l->assigns[slot(assign->in[0])]++;
        grd_tensor t = assign->in[1];
        while (l->uses[slot(t)] == 1 && t.node->op == &grdi_op_reshape) t = t.node->in[0];
        if (l->uses[slot(t)] == 1 && !is_root(l, t)) l->sink[slot(t)] = assign;
    }
}

/* The values that concats are made of, again followed back over reshapes. A concat that is an output itself, or whose
 * input is used elsewhere too, copies as usual. */
static void find_pieces(lowering *l)
{
    grd_graph *graph = l->plan->graph;
    for (size_t n = 0; n < graph->count; n++) {
        grdi_node *concat = graph->nodes[n];
        if (concat->op != &grdi_op_concat || is_root(l, (grd_tensor){concat, 0})) continue;
        for (int32_t i = 0; i < concat->input_count; i++) {
            grd_tensor t = concat->in[i];
            while (l->uses[slot(t)] == 1 && t.node->op == &grdi_op_reshape) t = t.node->in[0];
            if (l->uses[slot(t)] == 1 && !is_root(l, t) && !(t.node->op->flags & GRDI_OP_VIEW))
                l->pieces[slot(t)] = (piece){concat, i};
        }
    }
}

/* Values that nobody reads but a cast to what the program rounds to. */
static void find_rounded(lowering *l)
{
    grd_graph *graph = l->plan->graph;
    for (size_t n = 0; n < graph->count; n++) {
        grdi_node *node = graph->nodes[n];
        bool rounds = node->op == &grdi_op_cast && node->out[0].dtype == l->plan->narrow;
        if (rounds && grdi_type_of(node->in[0])->dtype == GRD_F32 && l->uses[slot(node->in[0])] == 1)
            l->rounded[slot(node->in[0])] = node;
    }
}

static int by_place(const void *a, const void *b)
{
    const grdi_variable *x = *(grdi_variable *const *)a, *y = *(grdi_variable *const *)b;
    if (x->storage != y->storage) return x->storage < y->storage ? -1 : 1;
    return (x->offset_bytes > y->offset_bytes) - (x->offset_bytes < y->offset_bytes);
}

/* The parameters in f32 that are read rounded, as they lie; none where the graph changes a parameter meanwhile. */
static void find_copied(lowering *l)
{
    grd_graph *graph = l->plan->graph;
    for (size_t n = 0; n < graph->count && l->engine->backend->gathers_copies; n++) {
        const grdi_node *node = graph->nodes[n];
        bool reads = node->op == &grdi_op_cast && node->out[0].dtype == l->plan->narrow && node->in[0].node->variable;
        bool wide = reads && node->in[0].node->variable->type.dtype == GRD_F32;
        if (wide && node->in[0].node->op == &grdi_op_parameter && grdi_type_of(node->in[0])->dtype == GRD_F32)
            l->copied[l->copied_count++] = node->in[0].node->variable;
        if (node->op != &grdi_op_assign || node->in[0].node->op != &grdi_op_parameter) continue;
        l->copied_count = 0;
        return;
    }
    if (l->copied_count) qsort(l->copied, l->copied_count, sizeof(*l->copied), by_place);
    size_t kept = 0;
    for (size_t i = 0; i < l->copied_count; i++)
        if (kept == 0 || l->copied[kept - 1] != l->copied[i]) l->copied[kept++] = l->copied[i];
    l->copied_count = kept;
}

static bool lower_cast(lowering *l, grdi_node *node)
{
    if (grdi_value_of(l->plan, (grd_tensor){node, 0})->buffer >= 0) return true; /* written so by the op before */
    const grdi_value *in = grdi_value_of(l->plan, node->in[0]);
    bool is_narrow = in->dtype == GRD_BF16 || in->dtype == GRD_F16 || in->rounded != GRD_F32;
    bool widens = node->out[0].dtype == GRD_F32 && is_narrow;
    bool rounds = node->out[0].dtype == l->plan->narrow && node->in[0].node->op == &grdi_op_parameter &&
                  (in->dtype == GRD_F32 || in->dtype == l->plan->narrow);
    return widens || rounds ? lower_as_view(l, node) : lower_kernel(l, node);
}

static bool lower_node(lowering *l, grdi_node *node)
{
    bool joined = node->op == &grdi_op_concat && grdi_value_of(l->plan, (grd_tensor){node, 0})->buffer >= 0;
    if (joined) return lower_joined(l, node);
    if (node->op->flags & GRDI_OP_SOURCE) return lower_source(l, node);
    if (node->op->flags & GRDI_OP_VIEW) return lower_view(l, node);
    if (node->op == &grdi_op_assign) {
        l->assigns[slot(node->in[0])]--;
        return lower_assign(l, node);
    }
    if (node->op == &grdi_op_cast) return lower_cast(l, node);
    if (l->summed[node->id]) {
        grdi_lower_sum(l, node);
        return true;
    }
    return lower_kernel(l, node);
}

bool grdi_lower(grd_engine *engine, grdi_plan *plan, grd_error *error)
{
    grdi_compile c = {.roots = plan->roots, .root_count = plan->root_count};
    lowering l = {.engine = engine, .plan = plan, .error = error};
    size_t slots = (plan->graph->count + 1) * GRDI_OUTPUTS_MAX;
    l.uses = grdi_use_counts(plan->graph, &c);
    l.variables_size = 2;
    while (l.variables_size < 2 * plan->graph->count) l.variables_size *= 2;
    l.variables = grdi_alloc_zero(l.variables_size, sizeof(*l.variables));
    l.is_root = grdi_alloc_zero(slots, sizeof(*l.is_root));
    l.assigns = grdi_alloc_zero(slots, sizeof(*l.assigns));
    l.sink = grdi_alloc_zero(slots, sizeof(*l.sink));
    l.pieces = grdi_alloc_zero(slots, sizeof(*l.pieces));
    l.rounded = grdi_alloc_zero(slots, sizeof(*l.rounded));
    l.copied = grdi_alloc_zero(plan->graph->count + 1, sizeof(*l.copied));
    l.addends = grdi_alloc_zero(slots, sizeof(*l.addends));
    l.summed = grdi_alloc_zero(plan->graph->count + 1, sizeof(*l.summed));
    plan->values = grdi_alloc_zero(slots, sizeof(*plan->values));
    bool ok = l.uses && l.variables && l.is_root && l.assigns && l.sink && l.pieces && l.rounded && l.addends &&
              l.summed && l.copied && plan->values;
    if (!ok) grd_fail(error, GRD_E_MEMORY, "out of memory for the plan");
    for (size_t s = 0; ok && s < slots; s++) plan->values[s].buffer = -1;
    for (int32_t i = 0; ok && i < plan->root_count; i++) l.is_root[slot(plan->roots[i])] = true;
    if (ok) find_sinks(&l);
    if (ok) find_pieces(&l);
    if (ok) find_rounded(&l);
    if (ok) grdi_find_sums(&l);
    if (ok) find_copied(&l);
    for (size_t n = 0; ok && n < plan->graph->count; n++) ok = lower_node(&l, plan->graph->nodes[n]);
    for (int32_t i = 0; ok && i < plan->root_count; i++) ok = settle_root(&l, plan->roots[i]);
    grdi_free(l.uses);
    grdi_free(l.variables);
    grdi_free(l.is_root);
    grdi_free(l.assigns);
    grdi_free(l.sink);
    grdi_free(l.pieces);
    grdi_free(l.rounded);
    grdi_free(l.addends);
    grdi_free(l.copied);
    grdi_free(l.summed);
    return ok;
}
