/* map.cu - element-wise ops, alone or as chains (fused_map): one kernel that follows a short program, so that memory is
 * read and written once however long the chain is, and nothing is compiled while a program starts.
 *
 * A thread works on WIDE elements. They are neighbours, read and written by 16 bytes, where all operands lie so that
 * this is possible; else a block's width apart, one by one. The result of an instruction stays in registers for the
 * next one; inputs, and results that are needed later, are in slots of shared memory, where each thread has its own
 * words and no bank is asked twice. All threads follow the same program, so its branches diverge nowhere; the cost of
 * following it is that of an eighth an element. */
#include "ops/activation.h"

#include "device/groups.cuh"

#include <cstring>

namespace
{

enum { THREADS = 128, STEPS_MAX = 40, ARGS_MAX = 3, FROM_LAST = 255, NOT_USED = 254, SLOTS_MAX = 40, AT_ONCE = 2 };

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
    uint8_t argument[ARGS_MAX]; /* a slot, FROM_LAST or NOT_USED; input i is in slot i */
    uint8_t slot;               /* where the result goes; NOT_USED: nowhere */
    float k, l;
};

struct map_program {
    int32_t steps, inputs, outputs, slots; /* slots: with the inputs' */
    map_step step[STEPS_MAX];
    uint8_t result[GRDI_OUTPUTS_MAX]; /* where each output is found: a slot, or FROM_LAST */
};

struct map_task {
    map_program program;
    axes space;
    int64_t count;
    uint32_t accumulate;
    bool wide; /* all operands lie in groups */
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

/* (1 + tanh(c (x + 0.044715 x^3))) / 2 as a sigmoid: half the instructions of tanhf, and nothing is cancelled. */
__device__ __forceinline__ float gelu_tanh_gate(float x)
{
    return sigmoid_of(1.5957691216057308f * (x + 0.044715f * x * x * x));
}

__device__ __forceinline__ float gelu_slope(float x)
{
    return 0.5f * erfcf(x * -0.70710678118654752f) + x * 0.39894228040143268f * expf(-0.5f * x * x);
}

__device__ __forceinline__ float gelu_tanh_slope(float x)
{
    float s = gelu_tanh_gate(x);
    return s + x * s * (1.0f - s) * 1.5957691216057308f * (1.0f + 0.134145f * x * x);
}

__device__ __forceinline__ float silu_slope(float x)
{
    float s = sigmoid_of(x);
    return s * (1.0f + x * (1.0f - s));
}

/* One instruction on WIDE elements; x is replaced by the result. */
__device__ __forceinline__ void apply(const map_step &step, float *x, const float *y, const float *z)
{
    const float k = step.k, l = step.l;
#define VALUES(code, value)                                                                                            \
    case code:                                                                                                         \
        _Pragma("unroll") for (int i = 0; i < WIDE; i++)                                                               \
        {                                                                                                              \
            const float a = x[i], b = y[i], c = z[i];                                                                  \
            (void)a, (void)b, (void)c;                                                                                 \
            x[i] = value;                                                                                              \
        }                                                                                                              \
        break;
    (void)k, (void)l;
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

/* A thread's words in a slot: two of 16 bytes, a block apart. */
__device__ __forceinline__ float4 *words_of(float *slots, int slot)
{
    return (float4 *)slots + slot * 2 * (int)blockDim.x + (int)threadIdx.x;
}

__device__ __forceinline__ void keep(float *slots, int slot, const float *x)
{
    float4 *to = words_of(slots, slot);
    to[0] = float4{x[0], x[1], x[2], x[3]};
    to[blockDim.x] = float4{x[4], x[5], x[6], x[7]};
}

__device__ __forceinline__ void fetch(float *slots, int slot, float *x)
{
    const float4 *from = words_of(slots, slot);
    const float4 a = from[0], b = from[blockDim.x];
    x[0] = a.x, x[1] = a.y, x[2] = a.z, x[3] = a.w;
    x[4] = b.x, x[5] = b.y, x[6] = b.z, x[7] = b.w;
}

__device__ __forceinline__ void fetch_or_copy(float *slots, int from, const float *last, float *x)
{
    if (from == NOT_USED) return;
    if (from != FROM_LAST) return fetch(slots, from, x);
#pragma unroll
    for (int i = 0; i < WIDE; i++) x[i] = last[i];
}

/* What a thread works on: elements first, first + step, ... below count; `whole`: all of them, by groups. */
struct portion {
    int64_t first;
    int step;
    bool whole;
};

__device__ __forceinline__ portion group_at(const map_task &task, int64_t group)
{
    return portion{group * WIDE, 1, (group + 1) * WIDE <= task.count};
}

__device__ __forceinline__ portion portion_of(const map_task &task)
{
    const int threads = (int)blockDim.x;
    if (task.wide) return group_at(task, (int64_t)blockIdx.x * threads + threadIdx.x);
    return portion{(int64_t)blockIdx.x * (threads * WIDE) + threadIdx.x, threads, false};
}

__device__ __forceinline__ void read_elements(const map_task &task, const portion &p, int input, float *x)
{
#pragma unroll
    for (int k = 0; k < WIDE; k++) {
        const int64_t e = p.first + k * p.step;
        x[k] = e < task.count ? get(task.in[input].at, offset_of(task.space, task.in[input], e)) : 0.0f;
    }
}

__device__ __forceinline__ void write(const map_task &task, const portion &p, int output, float *x)
{
    const bool add = task.accumulate >> output & 1;
    if (p.whole) return write_group(task.space, task.out[output], p.first, x, add);
#pragma unroll
    for (int k = 0; k < WIDE; k++) {
        const int64_t e = p.first + k * p.step;
        if (e < task.count) put_or_add(task.out[output].at, offset_of(task.space, task.out[output], e), x[k], add);
    }
}

__device__ __forceinline__ void read_inputs(const map_task &task, const portion &p, float *slots)
{
    for (int i = 0; i < task.program.inputs; i += p.whole ? AT_ONCE : 1) {
        wide_bits bits[AT_ONCE];
        float x[WIDE];
        if (!p.whole) {
            read_elements(task, p, i, x);
            keep(slots, i, x);
            continue;
        }
#pragma unroll
        for (int k = 0; k < AT_ONCE; k++)
            if (i + k < task.program.inputs) bits[k] = read_group(task.space, task.in[i + k], p.first);
#pragma unroll
        for (int k = 0; k < AT_ONCE; k++) {
            if (i + k >= task.program.inputs) break;
            spread_group(task.in[i + k].at, bits[k], x);
            keep(slots, i + k, x);
        }
    }
}

__global__ void __launch_bounds__(THREADS, 8) map_kernel(const map_task task)
{
    shared_memory shared;
    float *slots = shared.take<float>(task.program.slots * WIDE * (int)blockDim.x);
    const portion p = portion_of(task);
    float x[WIDE], y[WIDE], z[WIDE];
    read_inputs(task, p, slots);
#pragma unroll
    for (int i = 0; i < WIDE; i++) x[i] = y[i] = z[i] = 0.0f;
    for (int s = 0; s < task.program.steps; s++) {
        const map_step step = task.program.step[s];
        fetch_or_copy(slots, step.argument[2], x, z);
        fetch_or_copy(slots, step.argument[1], x, y);
        if (step.argument[0] != FROM_LAST) fetch(slots, step.argument[0], x);
        apply(step, x, y, z);
        if (step.slot != NOT_USED) keep(slots, step.slot, x);
    }
    for (int o = 0; o < task.program.outputs; o++) {
        if (!task.out[o].at.data) continue;
        fetch_or_copy(slots, task.program.result[o], x, y);
        write(task, p, o, y);
    }
}

/* ---- the commonest programs, as straight code ---- */

__host__ __device__ constexpr int arguments_of(int code)
{
    return 1 + (code == CODE_add || code == CODE_mul || code == CODE_relu_backward || code == CODE_gelu_tanh_backward ||
                code == CODE_silu_backward);
}

struct straight_operand {
    void *data;  /* NULL: an output that nobody uses */
    int64_t row; /* elements between rows */
};

struct straight_task {
    int64_t count;
    uint32_t across;                             /* groups in a row */
    straight_operand in[ARGS_MAX], out, between; /* between: the first instruction's result */
};

/* Where one input alone is read, a thread has two groups, and both are asked for at first. */
template <int DTYPE, int FIRST, int SECOND, bool ROWS> struct straight_program {
    static constexpr bool rows = ROWS;
    static constexpr int dtype = DTYPE, first = FIRST, second = SECOND, of_first = arguments_of(FIRST);
    static constexpr int inputs = of_first + arguments_of(SECOND) - 1, groups = inputs == 1 ? 2 : 1;
};

/* Where a group is: its element, where operands lie whole, or its row and the element there. */
struct straight_place {
    int64_t element;
    uint32_t row;
};

template <bool ROWS> __device__ __forceinline__ straight_place place_of(const straight_task &t, int64_t element)
{
    if (!ROWS) return straight_place{element, 0};
    const uint32_t group = (uint32_t)(element / WIDE), row = group / t.across;
    return straight_place{(int64_t)(group - row * t.across) * WIDE, row};
}

template <bool ROWS> __device__ __forceinline__ int64_t offset_in(const straight_operand &o, const straight_place &p)
{
    return ROWS ? p.row * o.row + p.element : p.element;
}

/* Each instruction's first argument is the result of the one before, or the first input; the others are the inputs that
 * follow. All operands are of one dtype and lie whole, or in rows, in whole groups; outputs are not added to. */
template <class P> __global__ void __launch_bounds__(THREADS) straight_kernel(const straight_task t)
{
    constexpr bool ROWS = P::rows;
    constexpr int groups = P::groups, inputs = P::inputs, apart = THREADS * WIDE;
    const int64_t first = ((int64_t)blockIdx.x * groups * THREADS + threadIdx.x) * WIDE;
    straight_place at[groups];
    wide_bits bits[groups][inputs];
#pragma unroll
    for (int g = 0; g < groups; g++) {
        at[g] = place_of<ROWS>(t, first + g * apart);
#pragma unroll
        for (int i = 0; i < inputs; i++)
            if (first + g * apart < t.count)
                bits[g][i] = read_wide(cells{t.in[i].data, P::dtype}, offset_in<ROWS>(t.in[i], at[g]));
    }
#pragma unroll
    for (int g = 0; g < groups; g++) {
        float x[inputs][WIDE];
        if (first + g * apart >= t.count) return;
#pragma unroll
        for (int i = 0; i < inputs; i++) spread(cells{t.in[i].data, P::dtype}, bits[g][i], x[i]);
        apply(map_step{P::first}, x[0], x[P::of_first - 1], x[0]);
        if (P::second != CODE_keep && t.between.data)
            write_wide(cells{t.between.data, P::dtype}, offset_in<ROWS>(t.between, at[g]), x[0]);
        apply(map_step{P::second}, x[0], x[inputs - 1], x[0]);
        if (t.out.data) write_wide(cells{t.out.data, P::dtype}, offset_in<ROWS>(t.out, at[g]), x[0]);
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

/* The last instruction that reads a register; past the end for an output. */
int32_t last_use(const reading &r, int32_t reg)
{
    int32_t last = reg < r.inputs ? 0 : reg - r.inputs;
    for (int32_t t = last; t < r.steps; t++)
        for (int32_t i = 0; i < r.arg_count[t]; i++)
            if (r.args[t][i] == reg) last = t;
    for (int32_t o = 0; o < r.outputs; o++)
        if (r.result[o] == reg) last = r.steps;
    return last;
}

/* Gives inputs and results slots; false where there are too few. */
bool translate(const reading &r, map_program *p)
{
    int32_t until[SLOTS_MAX], slot_of[GRDI_INPUTS_MAX + STEPS_MAX]; /* the instruction up to which a slot is taken */
    *p = map_program{};
    p->steps = r.steps, p->outputs = r.outputs, p->inputs = p->slots = r.inputs;
    for (int32_t k = 0; k < SLOTS_MAX; k++) until[k] = k < r.inputs ? last_use(r, k) + 1 : -1;
    for (int32_t i = 0; i < r.inputs; i++) slot_of[i] = i;
    for (int32_t s = 0; s < r.steps; s++) {
        map_step *step = &p->step[s];
        *step = map_step{(uint8_t)r.code[s], {NOT_USED, NOT_USED, NOT_USED}, NOT_USED, r.k[s], r.l[s]};
        for (int32_t i = 0; i < r.arg_count[s]; i++)
            step->argument[i] =
                (uint8_t)(s > 0 && r.args[s][i] == r.inputs + s - 1 ? (int)FROM_LAST : slot_of[r.args[s][i]]);
        int32_t last = last_use(r, r.inputs + s), slot = 0;
        if (last <= s + 1) continue; /* the next instruction, or the end right after this one, finds it in registers */
        while (slot < SLOTS_MAX && until[slot] > s) slot++;
        if (slot == SLOTS_MAX) return false;
        until[slot] = last + 1;
        slot_of[r.inputs + s] = slot;
        step->slot = (uint8_t)slot;
        p->slots = slot + 1 > p->slots ? slot + 1 : p->slots;
    }
    for (int32_t o = 0; o < r.outputs; o++)
        p->result[o] = (uint8_t)(r.result[o] == r.inputs + r.steps - 1 ? (int)FROM_LAST : slot_of[r.result[o]]);
    return true;
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

template <class P> grd_status launch_straight(const grdi_call *call, const straight_task &t)
{
    const unsigned blocks = blocks_for(t.count, THREADS * WIDE * P::groups);
    return grdi_launch(call, straight_kernel<P>, blocks, THREADS, 0, t);
}

struct straight {
    int dtype, first, second;
    grd_status (*launch[2])(const grdi_call *call, const straight_task &t); /* of whole operands, and in rows */
};

template <int DTYPE, int FIRST, int SECOND, bool ROWS> constexpr straight straight_in()
{
    straight s = {DTYPE, FIRST, SECOND, {launch_straight<straight_program<DTYPE, FIRST, SECOND, false>>, nullptr}};
    if constexpr (ROWS) s.launch[1] = launch_straight<straight_program<DTYPE, FIRST, SECOND, true>>;
    return s;
}

#define STRAIGHT(first, second, rows)                                                                                  \
    straight_in<GRD_F32, CODE_##first, CODE_##second, rows>(),                                                         \
        straight_in<GRD_BF16, CODE_##first, CODE_##second, rows>(),                                                    \
        straight_in<GRD_F16, CODE_##first, CODE_##second, rows>()

/* What residual networks and transformers do between products; in rows, what gated ones do to halves of a product. */
const straight straights[] = {
    STRAIGHT(add, keep, false),       STRAIGHT(mul, keep, true),
    STRAIGHT(relu, keep, false),      STRAIGHT(relu_backward, keep, false),
    STRAIGHT(add, relu, false),       STRAIGHT(add, relu_backward, false),
    STRAIGHT(gelu_tanh, keep, false), STRAIGHT(gelu_tanh_backward, keep, false),
    STRAIGHT(silu, mul, true),        STRAIGHT(mul, silu_backward, true),
};

/* Which input the second argument of an instruction is, whose first one is `from` (or any input); a sum's or product's
 * may stand the other way round. -1: not so; 0 where there is one argument. */
int second_of(const map_step &step, int from, int inputs)
{
    const bool turns = step.code == CODE_add || step.code == CODE_mul;
    if (arguments_of(step.code) == 1) return step.argument[0] == from ? 0 : -1;
    for (int k = 0; k < 1 + turns; k++)
        if (step.argument[k] == from && step.argument[1 - k] < inputs) return step.argument[1 - k];
    return -1;
}

/* Fills `input` with the inputs that the straight code's are. */
bool is_program(const straight &s, const map_program &p, int *input)
{
    const int steps = s.second == CODE_keep ? 1 : 2;
    if (p.steps != steps || p.step[0].code != s.first || (steps == 2 && p.step[1].code != s.second)) return false;
    int next = 0, more[2] = {second_of(p.step[0], p.step[0].argument[0], p.inputs), 0};
    if (steps == 2) more[1] = second_of(p.step[1], FROM_LAST, p.inputs);
    if (p.step[0].argument[0] >= p.inputs || more[0] < 0 || more[1] < 0) return false;
    input[next++] = p.step[0].argument[0];
    for (int k = 0; k < steps; k++)
        if (arguments_of(p.step[k].code) == 2) input[next++] = more[k];
    return true;
}

/* Of one dtype, and whole or in rows of groups; nobody's is. */
bool is_straight(const map_task &task, const operand &o, int32_t dtype, bool *whole)
{
    if (!o.at.data) return true;
    *whole = *whole && o.lie == LIES_WHOLE;
    const bool rows = task.space.rank == 2 && o.lie != LIES_ONCE && o.stride[1] == 1 && o.stride[0] % WIDE == 0;
    return o.at.dtype == dtype && lies_wide(o.at, 0) && (o.lie == LIES_WHOLE || rows);
}

straight_operand straight_from(const operand &o)
{
    return straight_operand{o.at.data, o.stride[0]};
}

/* Where the results of a program go. */
bool place_results(const map_task &task, straight_task *t)
{
    const map_program &p = task.program;
    for (int32_t o = 0; o < p.outputs; o++) {
        straight_operand *to = p.result[o] == FROM_LAST ? &t->out : &t->between;
        if (p.result[o] != FROM_LAST && (p.steps != 2 || p.result[o] != p.step[0].slot)) return false;
        if (to->data) return false; /* one result twice */
        *to = straight_from(task.out[o]);
    }
    return true;
}

/* The straight code for a task, if there is one, which it is then made ready for. */
grd_status (*straight_of(const map_task &task, straight_task *t))(const grdi_call *, const straight_task &)
{
    const map_program &p = task.program;
    const int32_t dtype = task.in[0].at.dtype, rank = task.space.rank;
    const int64_t across = rank == 2 ? task.space.dim[1] : task.count;
    bool whole = true, fits = p.inputs > 0 && !task.accumulate && task.count % WIDE == 0;
    for (int32_t i = 0; i < p.inputs; i++) fits = fits && is_straight(task, task.in[i], dtype, &whole);
    for (int32_t o = 0; o < p.outputs; o++) fits = fits && is_straight(task, task.out[o], dtype, &whole);
    *t = straight_task{task.count, (uint32_t)(across / WIDE), {}, {}, {}};
    if (!fits || (!whole && (across % WIDE || task.count / WIDE > INT32_MAX)) || !place_results(task, t))
        return nullptr;
    for (const straight &s : straights) {
        int input[ARGS_MAX] = {0, 0, 0};
        if (s.dtype != dtype || !s.launch[!whole] || !is_program(s, p, input)) continue;
        for (int i = 0; i < ARGS_MAX; i++) t->in[i] = straight_from(task.in[input[i]]);
        return s.launch[!whole];
    }
    return nullptr;
}

/* Long programs, with many slots, are followed by fewer threads a block. */
grd_status launch(const grdi_call *call, map_task &task)
{
    const size_t slots = (size_t)task.program.slots;
    unsigned threads = THREADS;
    while (threads > WARP && slots * WIDE * threads * sizeof(float) > 48 * 1024) threads /= 2;
    task.wide = in_groups(task.space, task.count);
    for (int32_t i = 0; i < task.program.inputs; i++) task.wide = task.wide && in_groups(task.space, task.in[i]);
    for (int32_t o = 0; o < task.program.outputs; o++)
        task.wide = task.wide && (!task.out[o].at.data || in_groups(task.space, task.out[o]));
    straight_task straight_one;
    if (auto *run_straight = straight_of(task, &straight_one)) return run_straight(call, straight_one);
    return grdi_launch(call, map_kernel, blocks_for(task.count, threads * WIDE), threads,
                       shared_bytes_of(slots * WIDE * threads, sizeof(float)), task);
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
    task.program.steps = task.program.inputs = task.program.slots = task.program.outputs = 1;
    task.program.step[0] = map_step{(uint8_t)codes[activation], {0, NOT_USED, NOT_USED}, NOT_USED, 0, 0};
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
    task.program.inputs = task.program.slots = 2;
    task.program.step[0] = map_step{CODE_gelu_tanh_backward, {0, 1, NOT_USED}, NOT_USED, 0, 0};
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
