/* compare.c - comparison, logic and choice, element by element with broadcasting. */
#include "ops/map.h"
#include "ops/table.h"

#include <gradus/ops_math.h>

#define COMPARE(NAME, SHAPE, VALUE, ...)                                                                               \
    static double NAME##_value(const double *x, const grd_attr *attrs)                                                 \
    {                                                                                                                  \
        const double a = x[0], b = x[1];                                                                               \
        (void)attrs;                                                                                                   \
        return VALUE;                                                                                                  \
    }                                                                                                                  \
    static const grdi_sample NAME##_samples[] = {__VA_ARGS__, {.in = {NULL}}};                                         \
    const grdi_op grdi_op_##NAME = {                                                                                   \
        .name = #NAME,                                                                                                 \
        .inputs = 2,                                                                                                   \
        .flags = GRDI_OP_MAP | GRDI_OP_NO_GRADIENT,                                                                    \
        .shape = SHAPE,                                                                                                \
        .reference = grdi_map_reference,                                                                               \
        .scalar = NAME##_value,                                                                                        \
        .inplace = {3},                                                                                                \
        .samples = NAME##_samples,                                                                                     \
    };                                                                                                                 \
    grd_tensor grd_##NAME(grd_tensor a, grd_tensor b)                                                                  \
    {                                                                                                                  \
        return GRDI_EMIT(&grdi_op_##NAME, a, b);                                                                       \
    }

#define NUMBERS                                                                                                        \
    {.in = {"f32[7,13]", "f32[7,13]"}}, {.in = {"i32[7,1] 0..3", "i32[33] 0..3"}}, {.in = {"f32[]", "f32[2,1,3]"}},    \
    {                                                                                                                  \
        .in = {"f32[3]", "f32[4]"}, .bad = "shapes do not broadcast: [3] and [4]"                                      \
    }
#define NO_BOOLS                                                                                                       \
    {                                                                                                                  \
        .in = {"bool[3]", "bool[3]"}, .bad = "number dtype"                                                            \
    }
#define BOOLS                                                                                                          \
    {.in = {"bool[7,13]", "bool[7,13]"}}, {.in = {"bool[7,1]", "bool[33]"}},                                           \
    {                                                                                                                  \
        .in = {"bool[3]", "i32[3]"}, .bad = "must be bool, is i32"                                                     \
    }

COMPARE(eq, grdi_map_shape_equal, a == b, NUMBERS, {.in = {"bool[7,1]", "bool[13]"}})
COMPARE(ne, grdi_map_shape_equal, a != b, NUMBERS, {.in = {"bool[7,1]", "bool[13]"}})
COMPARE(lt, grdi_map_shape_compare, a < b, NUMBERS, NO_BOOLS)
COMPARE(le, grdi_map_shape_compare, a <= b, NUMBERS, NO_BOOLS)
COMPARE(gt, grdi_map_shape_compare, a > b, NUMBERS, NO_BOOLS)
COMPARE(ge, grdi_map_shape_compare, a >= b, NUMBERS, NO_BOOLS)
COMPARE(and, grdi_map_shape_logic, a != 0.0 && b != 0.0, BOOLS)
COMPARE(or, grdi_map_shape_logic, a != 0.0 || b != 0.0, BOOLS)

/* ---- where ---- */

static bool where_shape(grdi_infer *c)
{
    if (c->in[0].dtype != GRD_BOOL)
        return grdi_infer_fail(c, GRD_E_DTYPE, "the condition must be bool, is %s", grd_dtype_name(c->in[0].dtype));
    if (!grdi_infer_same_dtype(c, 2, 1)) return false;
    c->out[0].dtype = c->in[1].dtype;
    return grdi_map_broadcast(c);
}

static double where_value(const double *x, const grd_attr *attrs)
{
    (void)attrs;
    return x[0] != 0.0 ? x[1] : x[2];
}

static void where_gradient(grdi_gradient *c)
{
    const grd_tensor g = c->grad_out[0], condition = c->in[0];
    grd_tensor zero = grd_full(c->graph, grd_tensor_dtype(g), grd_scalar(), 0.0);
    if (c->need[1]) c->grad_in[1] = grdi_sum_to_like(grd_where(condition, g, zero), c->in[1]);
    if (c->need[2]) c->grad_in[2] = grdi_sum_to_like(grd_where(condition, zero, g), c->in[2]);
}

static const grdi_sample where_samples[] = {
    {.in = {"bool[7,13]", "f32[7,13]", "f32[7,13]"}},
    {.in = {"bool[7,1]", "f32[33]", "f32[]"}},
    {.in = {"bool[6,24]", "f32[24]", "f32[2,6,24]"}},
    {.in = {"bool[3]", "i32[2,1,3] -9..9", "i32[5,1] -9..9"}},
    {.in = {"bool[5]", "bool[5]", "bool[5]"}},
    {.in = {"f32[5]", "f32[5]", "f32[5]"}, .bad = "the condition must be bool, is f32"},
    {.in = {"bool[5]", "f32[5]", "i32[5]"}, .bad = "dtypes differ"},
    {.in = {"bool[5]", "f32[5]", "f32[4]"}, .bad = "shapes do not broadcast"},
    {.in = {"bool[1024,1024]", "f32[1024,1024]", "f32[1024,1024]"}, .large = true},
    {.in = {NULL}},
};

const grdi_op grdi_op_where = {
    .name = "where",
    .inputs = 3,
    .flags = GRDI_OP_MAP | GRDI_OP_FOLLOWS,
    .shape = where_shape,
    .gradient = where_gradient,
    .reference = grdi_map_reference,
    .scalar = where_value,
    .inplace = {6},
    .samples = where_samples,
};

grd_tensor grd_where(grd_tensor condition, grd_tensor a, grd_tensor b)
{
    return GRDI_EMIT(&grdi_op_where, condition, a, b);
}
