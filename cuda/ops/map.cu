/* map.cu - element-wise ops, alone or as chains (fused_map): one kernel that follows a short program, so that memory is
 * read and written once however long the chain is, and nothing is compiled while a program starts.
 *
 * A thread works on a few elements. The result of an instruction stays in registers for the next one; one that is
 * needed later goes to a slot in shared memory, one word a thread and element, without bank conflicts. All threads
 * follow the same program, so its branches diverge nowhere. */
#include "ops/activation.h"

#include "device/space.cuh"

#include <cstring>

namespace
{

enum { THREADS = 128, EACH = 4, STEPS_MAX = 40, ARGS_MAX = 3, FROM_LAST = 255, FIRST_SLOT = 32, SLOTS_MAX = 24 };

enum map_code {
    CODE_keep,    /* the argument itself: casts to f32, copies */
    CODE_rounded, /* to bf16 and back */
    CODE_halved,  /* to f16 and back */
    CODE_truth,
#define MAP(name, value) CODE_##name,
#include "ops/map_ops.def"
#undef MAP
    CODES
};

struct map_step {
    uint8_t code;
    uint8_t argument[ARGS_MAX]; /* an input, FIRST_SLOT + slot, or FROM_LAST */
    uint8_t slot;               /* where the result goes; FROM_LAST: nowhere */
    float k, l;
};

struct map_program {
    int32_t steps, inputs, outputs, slots;
    map_step step[STEPS_MAX];
    uint8_t result[GRDI_OUTPUTS_MAX]; /* where each output is found: FIRST_SLOT + slot, or FROM_LAST */
};

struct map_task {
    map_program program;
    axes space;
    int64_t count;
    uint32_t accumulate;
    operand in[GRDI_INPUTS_MAX], out[GRDI_OUTPUTS_MAX];
};

__device__ __forceinline__ float sigmoid_of(float x)
{
    return 1.0f / (1.0f + expf(-x));
}

__device__ __forceinline__ float power_of(float x, float k)
{
    return k == 2.0f ? x * x : k == -1.0f ? 1.0f / x : k == -0.5f ? 1.0f / sqrtf(x) : powf(x, k);
}

__device__ __forceinline__ float gelu_tanh_inner(float x)
{
    return 0.79788456080286536f * (x + 0.044715f * x * x * x);
}

__device__ __forceinline__ float gelu_slope(float x)
{
    return 0.5f * erfcf(x * -0.70710678118654752f) + x * 0.39894228040143268f * expf(-0.5f * x * x);
}

__device__ __forceinline__ float gelu_tanh_slope(float x)
{
    float t = tanhf(gelu_tanh_inner(x));
    return 0.5f * (1.0f + t) + 0.5f * x * (1.0f - t * t) * 0.79788456080286536f * (1.0f + 0.134145f * x * x);
}

__device__ __forceinline__ float silu_slope(float x)
{
    float s = sigmoid_of(x);
    return s * (1.0f + x * (1.0f - s));
}

/* One instruction on EACH elements. */
__device__ void apply(const map_step &step, const float *x, const float *y, const float *z, float *result)
{
    const float k = step.k, l = step.l;
#define VALUES(code, value)                                                                                            \
    case code:                                                                                                         \
        for (int i = 0; i < EACH; i++) {                                                                               \
            const float a = x[i], b = y[i], c = z[i];                                                                  \
            (void)a, (void)b, (void)c;                                                                                 \
            result[i] = value;                                                                                         \
        }                                                                                                              \
        break;
    (void)l;
    switch (step.code) {
        VALUES(CODE_keep, a)
        VALUES(CODE_rounded, from_bf16(to_bf16(a)))
        VALUES(CODE_halved, from_f16(to_f16(a)))
        VALUES(CODE_truth, a != 0)
#define MAP(name, value) VALUES(CODE_##name, value)
#include "ops/map_ops.def"
#undef MAP
    }
#undef VALUES
}

__device__ __forceinline__ void fetch(const map_task &task, const float *slots, int from, int64_t first,
                                      const float *last, float *to)
{
    for (int i = 0; i < EACH; i++) {
        int64_t e = first + (int64_t)i * THREADS;
        if (from == FROM_LAST) to[i] = last[i];
        else if (from >= FIRST_SLOT) to[i] = slots[((from - FIRST_SLOT) * EACH + i) * THREADS + (int)threadIdx.x];
        else to[i] = e < task.count ? get(task.in[from].at, offset_of(task.space, task.in[from], e)) : 0.0f;
    }
}

__global__ void __launch_bounds__(THREADS) map_kernel(const map_task task)
{
    shared_memory shared;
    float *slots = task.program.slots ? shared.take<float>(task.program.slots * EACH * THREADS) : nullptr;
    int64_t first = (int64_t)blockIdx.x * (THREADS * EACH) + threadIdx.x;
    float last[EACH], x[EACH], y[EACH], z[EACH];
    for (int i = 0; i < EACH; i++) last[i] = 0.0f;
    for (int s = 0; s < task.program.steps; s++) {
        const map_step step = task.program.step[s];
        fetch(task, slots, step.argument[0], first, last, x);
        fetch(task, slots, step.argument[1], first, last, y);
        fetch(task, slots, step.argument[2], first, last, z);
        apply(step, x, y, z, last);
        for (int i = 0; i < EACH && step.slot != FROM_LAST; i++)
            slots[(step.slot * EACH + i) * THREADS + (int)threadIdx.x] = last[i];
    }
    for (int o = 0; o < task.program.outputs; o++) {
        if (!task.out[o].at.data) continue;
        fetch(task, slots, task.program.result[o], first, last, x);
        for (int i = 0; i < EACH; i++) {
            int64_t e = first + (int64_t)i * THREADS;
            if (e < task.count)
                put_or_add(task.out[o].at, offset_of(task.space, task.out[o], e), x[i], task.accumulate >> o & 1);
        }
    }
}

/* ---- programs ---- */

const char *const names[CODES] = {
    "keep",
    "rounded",
    "halved",
    "truth",
#define MAP(name, value) #name,
#include "ops/map_ops.def"
#undef MAP
};

int code_named(const char *name)
{
    for (int code = CODE_truth + 1; code < CODES; code++)
        if (strcmp(names[code], name) == 0) return code;
    return strcmp(name, "copy") == 0 ? CODE_keep : -1;
}

/* While a program is read: registers are inputs, then one for each instruction. */
struct reading {
    int32_t code[STEPS_MAX], args[STEPS_MAX][ARGS_MAX], arg_count[STEPS_MAX];
    float k[STEPS_MAX], l[STEPS_MAX];
    int32_t steps, inputs, outputs, result[GRDI_OUTPUTS_MAX];
};

bool add_step(reading *r, const char *op, const int64_t *args, int32_t arg_count, const double *values, int32_t count)
{
    if (r->steps == STEPS_MAX || arg_count < 1 || arg_count > ARGS_MAX || count > 2) return false;
    int code = code_named(op);
    if (strcmp(op, "cast") == 0)
        code = (int)values[0] == GRD_F32    ? CODE_keep
               : (int)values[0] == GRD_BF16 ? CODE_rounded
               : (int)values[0] == GRD_F16  ? CODE_halved
               : (int)values[0] == GRD_BOOL ? CODE_truth
                                            : -1;
    if (code < 0) return false;
    int32_t s = r->steps++;
    r->code[s] = code;
    r->arg_count[s] = arg_count;
    for (int32_t i = 0; i < arg_count; i++) r->args[s][i] = (int32_t)args[i];
    r->k[s] = count > 0 ? (float)values[0] : 0.0f;
    r->l[s] = count > 1 ? (float)values[1] : 0.0f;
    return true;
}

/* fused_map's code: op, argument count, arguments, value count, values as bits of doubles. */
bool read_code(const grdi_call *call, reading *r)
{
    const grd_attr *code = grdi_attr_ints(call->attrs, "code"), *outputs = grdi_attr_ints(call->attrs, "outputs");
    for (int32_t at = 0; at < code->count;) {
        const int64_t *word = code->ints + at;
        const grdi_op *op = grdi_op_at((int32_t)word[0]);
        double values[GRDI_ATTRS_MAX];
        int32_t args = (int32_t)word[1], count = (int32_t)word[2 + args];
        if (!op || count > GRDI_ATTRS_MAX) return false;
        memcpy(values, word + 3 + args, sizeof(double) * (size_t)count);
        if (!add_step(r, op->name, word + 2, args, values, count)) return false;
        at += 3 + args + count;
    }
    r->outputs = outputs->count;
    for (int32_t o = 0; o < outputs->count; o++) r->result[o] = (int32_t)outputs->ints[o];
    return true;
}

bool read_single(const grdi_call *call, reading *r)
{
    static const int64_t args[] = {0, 1, 2};
    double values[GRDI_ATTRS_MAX];
    int32_t count = 0;
    for (; count < GRDI_ATTRS_MAX && call->op->attrs[count].name; count++) {
        const char *name = call->op->attrs[count].name;
        values[count] = call->op->attrs[count].kind == GRD_ATTR_FLOAT ? grdi_attr_float(call->attrs, name)
                                                                      : (double)grdi_attr_int(call->attrs, name);
    }
    r->outputs = 1;
    r->result[0] = call->input_count;
    return add_step(r, call->op->name, args, call->input_count, values, count);
}

/* An output that is an input, or made before the last instruction, must lie in a slot: outputs may lie over inputs. */
bool settle_outputs(reading *r)
{
    for (int32_t o = 0; o < r->outputs; o++) {
        if (r->result[o] >= r->inputs) continue;
        if (r->steps == STEPS_MAX) return false;
        int32_t s = r->steps++;
        r->code[s] = CODE_keep;
        r->arg_count[s] = 1;
        r->args[s][0] = r->result[o];
        r->result[o] = r->inputs + s;
    }
    return true;
}

/* The last instruction that reads the result of instruction s; past the end for an output. */
int32_t last_use(const reading &r, int32_t s)
{
    int32_t last = s;
    for (int32_t t = s + 1; t < r.steps; t++)
        for (int32_t i = 0; i < r.arg_count[t]; i++)
            if (r.args[t][i] == r.inputs + s) last = t;
    for (int32_t o = 0; o < r.outputs; o++)
        if (r.result[o] == r.inputs + s) last = r.steps;
    return last;
}

/* Gives results slots; false where there are too few. */
bool translate(const reading &r, map_program *p)
{
    int32_t until[SLOTS_MAX], slot_of[STEPS_MAX]; /* the instruction up to which a slot is taken */
    for (int32_t k = 0; k < SLOTS_MAX; k++) until[k] = -1;
    *p = map_program{};
    p->steps = r.steps, p->inputs = r.inputs, p->outputs = r.outputs;
    for (int32_t s = 0; s < r.steps; s++) {
        map_step *step = &p->step[s];
        *step = map_step{(uint8_t)r.code[s], {FROM_LAST, FROM_LAST, FROM_LAST}, FROM_LAST, r.k[s], r.l[s]};
        for (int32_t i = 0; i < r.arg_count[s]; i++) {
            int32_t reg = r.args[s][i];
            step->argument[i] = (uint8_t)(reg < r.inputs            ? reg
                                          : reg - r.inputs == s - 1 ? (int)FROM_LAST
                                                                    : FIRST_SLOT + slot_of[reg - r.inputs]);
        }
        int32_t last = last_use(r, s), slot = 0;
        slot_of[s] = FROM_LAST;
        if (last <= s + 1) continue; /* the next instruction, or the end right after this one, finds it in registers */
        while (slot < SLOTS_MAX && until[slot] > s) slot++;
        if (slot == SLOTS_MAX) return false;
        until[slot] = last + 1;
        slot_of[s] = slot;
        step->slot = (uint8_t)slot;
        p->slots = slot + 1 > p->slots ? slot + 1 : p->slots;
    }
    for (int32_t o = 0; o < r.outputs; o++) {
        int32_t s = r.result[o] - r.inputs;
        p->result[o] = (uint8_t)(s == r.steps - 1 ? (int)FROM_LAST : FIRST_SLOT + slot_of[s]);
    }
    return (size_t)p->slots * EACH * THREADS * sizeof(float) <= 48 * 1024;
}

bool make_program(const grdi_call *call, map_program *p)
{
    reading r = {};
    r.inputs = call->input_count;
    bool fused = strcmp(call->op->name, "fused_map") == 0;
    return (fused ? read_code(call, &r) : read_single(call, &r)) && settle_outputs(&r) && translate(r, p);
}

/* ---- the kernel of the table ---- */

bool takes(grd_dtype dtype)
{
    return dtype == GRD_F32 || dtype == GRD_BF16 || dtype == GRD_F16 || dtype == GRD_BOOL;
}

bool supports(const grdi_call *call)
{
    map_program p;
    for (int32_t i = 0; i < call->input_count; i++)
        if (!takes(call->in[i].dtype)) return false;
    for (int32_t o = 0; o < call->output_count; o++)
        if (!takes(call->out[o].dtype)) return false;
    return make_program(call, &p);
}

grd_status prepare(grdi_call *call, grd_error *error)
{
    map_program *p = (map_program *)grdi_alloc_zero(1, sizeof *p);
    if (!p) return grd_fail(error, GRD_E_MEMORY, "%s: out of memory", call->op->name);
    make_program(call, p);
    call->state = p;
    return GRD_OK;
}

void release(grdi_call *call)
{
    grdi_free(call->state);
    call->state = nullptr;
}

grd_status launch(const grdi_call *call, const map_task &task)
{
    size_t shared = shared_bytes_of((size_t)task.program.slots * EACH * THREADS, sizeof(float));
    return grdi_launch(call, map_kernel, blocks_for(task.count, THREADS * EACH), THREADS, shared, task);
}

grd_status run(grdi_call *call)
{
    grdi_space space;
    map_task task = {};
    task.program = *(const map_program *)call->state;
    grdi_space_start(&space, call->out[0].dims);
    for (int32_t i = 0; i < call->input_count; i++) grdi_space_add(&space, &call->in[i]);
    for (int32_t o = 0; o < call->output_count; o++) grdi_space_add(&space, &call->out[o]);
    task.count = grdi_space_count(&space, space.rank);
    grdi_space_merge(&space);
    task.space = axes_of(space);
    task.accumulate = 0;
    for (int32_t i = 0; i < call->input_count; i++) task.in[i] = operand_of(space, i, call->in[i]);
    for (int32_t o = 0; o < call->output_count; o++) {
        task.out[o] = operand_of(space, call->input_count + o, call->out[o]);
        task.accumulate |= (uint32_t)call->accumulate[o] << o;
    }
    return launch(call, task);
}

#define MAP_KERNEL(op_name)                                                                                            \
    {                                                                                                                  \
        .op = op_name, .strided_in = UINT32_MAX, .rows_in = UINT32_MAX, .strided_out = UINT32_MAX,                     \
        .accumulates = UINT32_MAX, .in_place = UINT32_MAX, .supports = supports, .prepare = prepare, .run = run,       \
        .release = release                                                                                             \
    }

const grdi_kernel kernels[] = {
    MAP_KERNEL("fused_map"),
#define MAP(name, value) MAP_KERNEL(#name),
#include "ops/map_ops.def"
#undef MAP
};

} // namespace

extern "C" grd_status grdi_cuda_activate(const grdi_call *call, grd_activation activation, const grdi_view *to,
                                         const grdi_view *from)
{
    static const int32_t codes[GRD_ACTIVATION_COUNT] = {CODE_keep, CODE_relu,         CODE_gelu, CODE_gelu_tanh,
                                                        CODE_silu, CODE_relu_squared, CODE_tanh, CODE_sigmoid};
    map_task task = {};
    task.program.steps = task.program.inputs = task.program.outputs = 1;
    task.program.step[0] = map_step{(uint8_t)codes[activation], {0, FROM_LAST, FROM_LAST}, FROM_LAST, 0, 0};
    task.program.result[0] = FROM_LAST;
    task.count = grd_dims_count(to->dims);
    task.space = axes{1, {task.count}};
    task.in[0] = operand{cells_of(*from), LIES_WHOLE, {1}};
    task.out[0] = operand{cells_of(*to), LIES_WHOLE, {1}};
    return launch(call, task);
}

extern "C" grd_status grdi_cuda_slope(const grdi_call *call, const grdi_view *to, const grdi_view *g,
                                      const grdi_view *x)
{
    map_task task = {};
    task.program.steps = task.program.outputs = 1;
    task.program.inputs = 2;
    task.program.step[0] = map_step{CODE_gelu_tanh_backward, {0, 1, FROM_LAST}, FROM_LAST, 0, 0};
    task.program.result[0] = FROM_LAST;
    task.count = grd_dims_count(to->dims);
    task.space = axes{1, {task.count}};
    task.in[0] = operand{cells_of(*g), LIES_WHOLE, {1}};
    task.in[1] = operand{cells_of(*x), LIES_WHOLE, {1}};
    task.out[0] = operand{cells_of(*to), LIES_WHOLE, {1}};
    return launch(call, task);
}

extern "C" {
extern const grdi_kernel *const grdi_cuda_kernels_map[];
const grdi_kernel *const grdi_cuda_kernels_map[] = {&kernels[0],
#define MAP(name, value) &kernels[1 + CODE_##name - CODE_neg],
#include "ops/map_ops.def"
#undef MAP
                                                    nullptr};
}
