/* fused.c - fused_map: several element-wise ops in one pass over memory. What `code` looks like stands at
 * grd_fused_map(). */
#include "ops/map.h"
#include "ops/table.h"

#include <gradus/ops_math.h>
#include <gradus/ops_shape.h>
#include <string.h>

static int32_t attr_total(const grdi_op *op)
{
    int32_t count = 0;
    while (count < GRDI_ATTRS_MAX && op->attrs[count].name) count++;
    return count;
}

bool grdi_fused_next(const grd_attr *code, int32_t *position, grdi_fused_step *step)
{
    int64_t left = code->count - *position;
    if (left < 2) return false;
    const int64_t *word = code->ints + *position;
    if (word[0] < 0 || word[0] >= grdi_op_total()) return false;
    *step = (grdi_fused_step){.op = grdi_op_at((int32_t)word[0]), .args = word + 2};
    int64_t most = step->op->inputs_max ? step->op->inputs_max : step->op->inputs;
    if (word[1] < step->op->inputs || word[1] > most || left < word[1] + 3) return false;
    step->arg_count = (int32_t)word[1];
    step->attr_count = attr_total(step->op);
    step->values = word + word[1] + 3;
    if (word[word[1] + 2] != step->attr_count || left < word[1] + 3 + step->attr_count) return false;
    *position += step->arg_count + step->attr_count + 3;
    return true;
}

void grdi_fused_attrs(const grdi_fused_step *step, grd_attr attrs[GRDI_ATTRS_MAX + 1])
{
    for (int32_t i = 0; i < step->attr_count; i++) {
        double value;
        memcpy(&value, &step->values[i], sizeof(value));
        attrs[i] = step->op->attrs[i];
        if (attrs[i].kind == GRD_ATTR_FLOAT)
            attrs[i].f = value;
        else
            attrs[i].i = (int64_t)value;
    }
    attrs[step->attr_count] = (grd_attr){.name = NULL};
}

/* ---- shape rule: follows the code with each op's own rule ---- */

/* What the floats of a chain are computed in: f32, or f64 if an input is f64. */
static grd_dtype computed_in(const grdi_type *in, int32_t count)
{
    for (int32_t i = 0; i < count; i++)
        if (in[i].dtype == GRD_F64) return GRD_F64;
    return GRD_F32;
}

static bool step_shape(grdi_infer *c, const grdi_fused_step *step, int32_t number, grd_dtype computed,
                       grdi_type *registers, int32_t defined)
{
    grd_attr attrs[GRDI_ATTRS_MAX + 1];
    grdi_type in[GRDI_INPUTS_MAX];
    const char *name = step->op->name;
    if (!(step->op->flags & GRDI_OP_MAP))
        return grdi_infer_fail(c, GRD_E_ARGUMENT, "instruction %d: %s is not element-wise", number, name);
    for (int32_t i = 0; i < step->arg_count; i++) {
        if (step->args[i] < 0 || step->args[i] >= defined)
            return grdi_infer_fail(c, GRD_E_ARGUMENT, "instruction %d: %s reads register %lld of %d", number, name,
                                   (long long)step->args[i], defined);
        in[i] = registers[step->args[i]];
    }
    grdi_fused_attrs(step, attrs);
    grdi_infer inner = {.op = step->op, .attrs = attrs, .input_count = step->arg_count, .in = in, .output_count = 1};
    if (!step->op->shape(&inner))
        return grdi_infer_fail(c, inner.status, "instruction %d: %s: %.900s", number, name, inner.message);
    registers[defined] = inner.out[0];
    if (grd_dtype_is_float(inner.out[0].dtype)) registers[defined].dtype = computed;
    if (grd_dtype_is_float(inner.out[0].dtype) || inner.out[0].dtype == GRD_BOOL) return true;
    return grdi_infer_fail(c, GRD_E_DTYPE, "instruction %d: %s gives %s (must be float or bool)", number, name,
                           grd_dtype_name(inner.out[0].dtype));
}

/* Types of all registers; -1 and an error where the code is damaged, else their number. */
static int32_t register_types(grdi_infer *c, grdi_type *registers)
{
    const grd_attr *code = grdi_attr_ints(c->attrs, "code");
    grd_dtype computed = computed_in(c->in, c->input_count);
    int32_t defined = 0, position = 0;
    for (; defined < c->input_count; defined++) {
        registers[defined] = c->in[defined];
        if (c->in[defined].dtype == GRD_BOOL) continue;
        if (!grdi_infer_float(c, defined)) return -1;
        registers[defined].dtype = computed;
    }
    grdi_fused_step step;
    while (grdi_fused_next(code, &position, &step)) {
        if (defined == GRDI_FUSED_REGISTERS_MAX) {
            grdi_infer_fail(c, GRD_E_ARGUMENT, "more than %d registers", GRDI_FUSED_REGISTERS_MAX);
            return -1;
        }
        if (!step_shape(c, &step, defined - c->input_count, computed, registers, defined)) return -1;
        defined++;
    }
    if (position == code->count) return defined;
    grdi_infer_fail(c, GRD_E_ARGUMENT, "code is damaged at word %d of %d", position, code->count);
    return -1;
}

static bool fused_map_shape(grdi_infer *c)
{
    grdi_type registers[GRDI_FUSED_REGISTERS_MAX];
    const grd_attr *outputs = grdi_attr_ints(c->attrs, "outputs");
    int32_t defined = register_types(c, registers);
    if (defined < 0 || !grdi_map_broadcast(c)) return false;
    if (outputs->count < 1 || outputs->count > GRDI_OUTPUTS_MAX)
        return grdi_infer_fail(c, GRD_E_ARGUMENT, "%d outputs (must be 1 to %d)", outputs->count, GRDI_OUTPUTS_MAX);
    c->output_count = outputs->count;
    for (int32_t o = 0; o < outputs->count; o++) {
        if (outputs->ints[o] < 0 || outputs->ints[o] >= defined)
            return grdi_infer_fail(c, GRD_E_ARGUMENT, "output %d is register %lld of %d", o,
                                   (long long)outputs->ints[o], defined);
        c->out[o] = (grdi_type){computed_in(c->in, c->input_count), c->out[0].dims};
    }
    return true;
}

/* ---- reference ---- */

typedef struct instruction {
    grdi_fused_step step;
    grd_attr attrs[GRDI_ATTRS_MAX + 1];
} instruction;

/* One instruction over all elements; registers hold the current element's values. */
static double execute(const instruction *do_this, const double *registers)
{
    double x[GRDI_INPUTS_MAX];
    for (int32_t i = 0; i < do_this->step.arg_count; i++) x[i] = registers[do_this->step.args[i]];
    return do_this->step.op->scalar(x, do_this->attrs);
}

static void fused_map_reference(const grdi_reference *r)
{
    instruction program[GRDI_FUSED_REGISTERS_MAX];
    double registers[GRDI_FUSED_REGISTERS_MAX];
    const grd_attr *code = grdi_attr_ints(r->attrs, "code"), *outputs = grdi_attr_ints(r->attrs, "outputs");
    int32_t length = 0, position = 0, inputs = r->input_count;
    for (; grdi_fused_next(code, &position, &program[length].step); length++)
        grdi_fused_attrs(&program[length].step, program[length].attrs);

    grdi_map_walk walk;
    int64_t count = grd_dims_count(r->out_type[0].dims);
    grdi_map_walk_start(&walk, r->out_type[0].dims, r->in_type, inputs);
    for (int64_t e = 0; e < count; e++, grdi_map_walk_next(&walk)) {
        for (int32_t i = 0; i < inputs; i++) registers[i] = r->in[i][walk.offset[i]];
        for (int32_t k = 0; k < length; k++) registers[inputs + k] = execute(&program[k], registers);
        for (int32_t o = 0; o < outputs->count; o++)
            if (r->out[o]) r->out[o][e] = registers[outputs->ints[o]];
    }
}

/* ---- compose: the plain nodes again ---- */

/* The node of one instruction. A float result is brought to `computed`, as registers are; rounding to f32 is left
 * out where that is f64, since "f32" then is f64. */
static grd_tensor step_node(grd_graph *graph, const grdi_fused_step *step, const grd_tensor *registers,
                            grd_dtype computed)
{
    grd_attr attrs[GRDI_ATTRS_MAX + 1];
    grd_tensor in[GRDI_INPUTS_MAX];
    for (int32_t i = 0; i < step->arg_count; i++) in[i] = registers[step->args[i]];
    grdi_fused_attrs(step, attrs);
    if (step->op == &grdi_op_cast && attrs[0].i == GRD_F32) return grd_cast(in[0], computed);
    grd_tensor y = grdi_emit(graph, step->op, in, step->arg_count, attrs, step->attr_count, NULL);
    return grd_dtype_is_float(grd_tensor_dtype(y)) ? grd_cast(y, computed) : y;
}

static void fused_map_compose(grdi_compose *c)
{
    grd_tensor registers[GRDI_FUSED_REGISTERS_MAX];
    const grd_attr *code = grdi_attr_ints(c->attrs, "code"), *outputs = grdi_attr_ints(c->attrs, "outputs");
    grdi_infer shapes = {.input_count = c->input_count};
    grdi_type in[GRDI_INPUTS_MAX];
    int32_t defined = 0, position = 0;
    for (int32_t i = 0; i < c->input_count; i++)
        in[i] = (grdi_type){grd_tensor_dtype(c->in[i]), grd_tensor_dims(c->in[i])};
    shapes.in = in;
    grdi_map_broadcast(&shapes); /* was accepted by the shape rule */
    grd_dtype computed = computed_in(in, c->input_count);
    for (; defined < c->input_count; defined++)
        registers[defined] = in[defined].dtype == GRD_BOOL ? c->in[defined] : grd_cast(c->in[defined], computed);
    grdi_fused_step step;
    while (grdi_fused_next(code, &position, &step)) {
        registers[defined] = step_node(c->graph, &step, registers, computed);
        defined++;
    }
    for (int32_t o = 0; o < outputs->count; o++) {
        grd_tensor y = grd_cast(registers[outputs->ints[o]], computed);
        bool whole = grd_dims_equal(grd_tensor_dims(y), shapes.out[0].dims);
        c->out[o] = whole ? y : grd_broadcast_to(y, shapes.out[0].dims);
    }
}

static double fused_map_flops(const grdi_type *in, int32_t input_count, const grdi_type *out, const grd_attr *attrs)
{
    (void)in, (void)input_count;
    int32_t position = 0, length = 0;
    grdi_fused_step step;
    while (grdi_fused_next(grdi_attr_ints(attrs, "code"), &position, &step)) length++;
    return (double)length * (double)grd_dims_count(out[0].dims);
}

/* ---- samples: text, so the indices of the ops they use are pinned here; ops.def lists those ops first for this
 * ---- */

enum op_index {
#define GRDI_OP(name) INDEX_##name,
#include "ops/ops.def"
#undef GRDI_OP
};
#define NEG "5"
#define EXP "6"
#define ADD "7"
#define MUL "8"
#define MUL_SCALAR "9"
#define GT "10"
#define WHERE "11"
#define RELU "39"
#define SILU "45"
#define RELU_BACKWARD "47"
#define HALF "4602678819172646912" /* the bits of 0.5 */
_Static_assert(INDEX_input == 0 && INDEX_neg == 5 && INDEX_exp == 6 && INDEX_add == 7 && INDEX_mul == 8 &&
                   INDEX_mul_scalar == 9 && INDEX_gt == 10 && INDEX_where == 11 && INDEX_relu == 39 &&
                   INDEX_silu == 45 && INDEX_relu_backward == 47,
               "the samples of fused_map name ops by index: change the numbers above to those of ops.def");

static const grdi_sample fused_map_samples[] = {
    {.in = {"f32[7,13]", "f32[13]"}, /* exp(x + b) * x */
     .attrs = "code=" ADD ",2,0,1,0," EXP ",1,2,0," MUL ",2,3,0,0 outputs=4"},
    {.in = {"bool[7,1]", "f32[33]", "f32[2,7,33]"}, /* where, half of it, and the input that broadcasts */
     .attrs = "code=" WHERE ",3,0,1,2,0," MUL_SCALAR ",1,3,1," HALF " outputs=3,4,1"},
    {.in = {"f32[5,1,3]", "f32[4,1]"}, /* a > b as numbers, and -(a > b ? a : b) */
     .attrs = "code=" GT ",2,0,1,0," WHERE ",3,2,0,1,0," NEG ",1,3,0 outputs=2,4"},
    {.in = {"f32[6,24]", "f32[6,24]"}, .attrs = "code=" ADD ",2,0,1,0," RELU ",1,2,0 outputs=3"},
    {.in = {"f32[6,24]", "f32[6,24]", "f32[6,24]"}, /* of a residual block, backward */
     .attrs = "code=" ADD ",2,0,1,0," RELU_BACKWARD ",2,3,2,0 outputs=4"},
    {.in = {"f32[6,24]", "f32[6,24]"}, .attrs = "code=" SILU ",1,0,0," MUL ",2,1,2,0 outputs=3"},
    {.in = {"f32[6,24]", "f32[6,1]", "f32[24]", "f32[]"}, /* (a > b ? c : d) + c, and whether */
     .attrs = "code=" GT ",2,0,1,0," WHERE ",3,4,2,3,0," ADD ",2,5,2,0 outputs=4,6"},
    {.in = {"f32[3]"}, .attrs = "code=" NEG ",1 outputs=0", .bad = "code is damaged at word 0 of 2"},
    {.in = {"f32[3]"}, .attrs = "code=" NEG ",1,1,0 outputs=0", .bad = "instruction 0: neg reads register 1 of 1"},
    {.in = {"f32[3]"}, .attrs = "code=" NEG ",1,0,0 outputs=2", .bad = "output 0 is register 2 of 2"},
    {.in = {"f32[3]"}, .attrs = "code=" NEG ",1,0,0", .bad = "0 outputs"},
    {.in = {"f32[3]"}, .attrs = "code=0,0,0 outputs=0", .bad = "code is damaged"},
    {.in = {"f32[3]", "f32[4]"}, .attrs = "code=" ADD ",2,0,1,0 outputs=2", .bad = "instruction 0: add: shapes do not"},
    {.in = {"i32[3]"}, .attrs = "code=" NEG ",1,0,0 outputs=1", .bad = "float dtype"},
    {.in = {"f32[1024,1024]", "f32[1024]"},
     .attrs = "code=" ADD ",2,0,1,0," EXP ",1,2,0," MUL ",2,3,0,0 outputs=4",
     .large = true},
    {.in = {NULL}},
};

#define ANY_INPUT ((1u << GRDI_INPUTS_MAX) - 1u)

const grdi_op grdi_op_fused_map = {
    .name = "fused_map",
    .inputs = 1,
    .inputs_max = GRDI_INPUTS_MAX,
    .flags = GRDI_OP_FOLLOWS, /* and so does the op that gives the output, see passes/precision.c */
    .attrs = {GRD_INTS("code", NULL, 0), GRD_INTS("outputs", NULL, 0)},
    .shape = fused_map_shape,
    .compose = fused_map_compose,
    .reference = fused_map_reference,
    .flops = fused_map_flops,
    .inplace = {ANY_INPUT, ANY_INPUT, ANY_INPUT, ANY_INPUT, ANY_INPUT, ANY_INPUT, ANY_INPUT, ANY_INPUT},
    .samples = fused_map_samples,
};

grd_tensor grd_fused_map(const grd_tensor *inputs, int32_t input_count, const int64_t *code, int32_t code_count,
                         const int64_t *outputs, int32_t output_count, grd_tensor *results)
{
    grd_tensor all[GRDI_OUTPUTS_MAX];
    const grd_attr attrs[] = {GRD_INTS("code", code, code_count), GRD_INTS("outputs", outputs, output_count)};
    grd_tensor first = grdi_emit(NULL, &grdi_op_fused_map, inputs, input_count, attrs, 2, all);
    for (int32_t o = 0; results && o < output_count && o < GRDI_OUTPUTS_MAX; o++) results[o] = all[o];
    return first;
}
