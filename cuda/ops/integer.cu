/* integer.cu - element-wise ops of i32: arithmetic that wraps, comparison, choice. */
#include "device/space.cuh"
#include "device/table.cuh"

#include <cstring>

namespace
{

enum { THREADS = 256, EACH = 4, INPUTS = 3 };

/* INTEGER(name, value) of the inputs a, b, c; u and v are a and b without sign, whose arithmetic wraps; p and q are the
 * op's numbers. */
#define INTEGER_OPS                                                                                                    \
    INTEGER(add, (int32_t)(u + v))                                                                                     \
    INTEGER(sub, (int32_t)(u - v))                                                                                     \
    INTEGER(mul, (int32_t)(u * v))                                                                                     \
    INTEGER(neg, (int32_t)(0u - u))                                                                                    \
    INTEGER(abs, a < 0 ? (int32_t)(0u - u) : a)                                                                        \
    INTEGER(square, (int32_t)(u * u))                                                                                  \
    INTEGER(sign, (a > 0) - (a < 0))                                                                                   \
    INTEGER(maximum, a > b ? a : b)                                                                                    \
    INTEGER(minimum, a < b ? a : b)                                                                                    \
    INTEGER(eq, a == b)                                                                                                \
    INTEGER(ne, a != b)                                                                                                \
    INTEGER(lt, a < b)                                                                                                 \
    INTEGER(le, a <= b)                                                                                                \
    INTEGER(gt, a > b)                                                                                                 \
    INTEGER(ge, a >= b)                                                                                                \
    INTEGER(where, a != 0 ? b : c)                                                                                     \
    INTEGER(add_scalar, to_integer(a + p))                                                                             \
    INTEGER(mul_scalar, to_integer(a *p))                                                                              \
    INTEGER(clamp, to_integer(a<p ? p : a> q ? q : a))

enum integer_code {
#define INTEGER(name, value) INTEGER_##name,
    INTEGER_OPS
#undef INTEGER
        INTEGER_CODES
};

struct integer_task {
    int32_t code;
    axes space;
    int64_t count;
    operand in[INPUTS], out;
    double number[2];
};

/* Towards zero; values beyond the range become its ends. */
__device__ int32_t to_integer(double x)
{
    return x != x ? 0 : x <= -2147483648.0 ? INT32_MIN : x >= 2147483647.0 ? INT32_MAX : (int32_t)x;
}

__device__ int32_t value_of(const integer_task &task, int32_t a, int32_t b, int32_t c)
{
    uint32_t u = (uint32_t)a, v = (uint32_t)b;
    double p = task.number[0], q = task.number[1];
    switch (task.code) {
#define INTEGER(name, value)                                                                                           \
    case INTEGER_##name: return value;
        INTEGER_OPS
#undef INTEGER
    }
    return 0;
}

__device__ int32_t get_integer(const cells &c, int64_t i)
{
    return c.dtype == GRD_I32 ? ((const int32_t *)c.data)[i] : ((const uint8_t *)c.data)[i] != 0;
}

__global__ void __launch_bounds__(THREADS) integer_kernel(const integer_task task)
{
    int64_t first = (int64_t)blockIdx.x * (THREADS * EACH) + threadIdx.x;
    for (int i = 0; i < EACH; i++) {
        int64_t e = first + (int64_t)i * THREADS;
        if (e >= task.count) return;
        int32_t x[INPUTS] = {0, 0, 0};
        for (int k = 0; k < INPUTS; k++)
            if (task.in[k].at.data) x[k] = get_integer(task.in[k].at, offset_of(task.space, task.in[k], e));
        int32_t value = value_of(task, x[0], x[1], x[2]);
        int64_t at = offset_of(task.space, task.out, e);
        if (task.out.at.dtype == GRD_I32) ((int32_t *)task.out.at.data)[at] = value;
        else ((uint8_t *)task.out.at.data)[at] = value != 0;
    }
}

const char *const names[INTEGER_CODES] = {
#define INTEGER(name, value) #name,
    INTEGER_OPS
#undef INTEGER
};

int32_t code_of(const grdi_call *call)
{
    for (int32_t code = 0; code < INTEGER_CODES; code++)
        if (strcmp(names[code], call->op->name) == 0) return code;
    return -1;
}

/* At least one input in i32; what is not i32 is bool. */
bool supports(const grdi_call *call)
{
    bool any = false;
    for (int32_t i = 0; i < call->input_count; i++) {
        any |= call->in[i].dtype == GRD_I32;
        if (call->in[i].dtype != GRD_I32 && call->in[i].dtype != GRD_BOOL) return false;
    }
    return any && (call->out[0].dtype == GRD_I32 || call->out[0].dtype == GRD_BOOL);
}

grd_status run(grdi_call *call)
{
    grdi_space space;
    integer_task task = {};
    grdi_space_start(&space, call->out[0].dims);
    for (int32_t i = 0; i < call->input_count; i++) grdi_space_add(&space, &call->in[i]);
    grdi_space_add(&space, &call->out[0]);
    task.count = grdi_space_count(&space, space.rank);
    grdi_space_merge(&space);
    task.code = code_of(call);
    bool scalar = task.code == INTEGER_add_scalar || task.code == INTEGER_mul_scalar;
    if (scalar) task.number[0] = grdi_attr_float(call->attrs, "value");
    if (task.code == INTEGER_clamp) {
        task.number[0] = grdi_attr_float(call->attrs, "low");
        task.number[1] = grdi_attr_float(call->attrs, "high");
    }
    task.space = axes_of(space);
    for (int32_t i = 0; i < call->input_count; i++) task.in[i] = operand_of(space, i, call->in[i]);
    task.out = operand_of(space, call->input_count, call->out[0]);
    return grdi_launch(call, integer_kernel, blocks_for(task.count, THREADS * EACH), THREADS, 0, task);
}

#define INTEGER(op_name, value)                                                                                        \
    {.op = #op_name,                                                                                                   \
     .strided_in = UINT32_MAX,                                                                                         \
     .rows_in = UINT32_MAX,                                                                                            \
     .strided_out = 1,                                                                                                 \
     .in_place = 1,                                                                                                    \
     .supports = supports,                                                                                             \
     .run = run},
const grdi_kernel kernels[] = {INTEGER_OPS};
#undef INTEGER

} // namespace

#define INTEGER(name, value) &kernels[INTEGER_##name],
GRDI_CUDA_TABLE(integer, INTEGER_OPS nullptr)
#undef INTEGER
