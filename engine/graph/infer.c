/* infer.c - what shape rules and gradient rules share. */
#include "graph/build.h"

#include <stdarg.h>
#include <string.h>

static const grd_attr *find(const grd_attr *attrs, const char *name)
{
    while (attrs->name && strcmp(attrs->name, name) != 0) attrs++;
    return attrs; /* an attribute that is not in the op's table reads as zero */
}

int64_t grdi_attr_int(const grd_attr *attrs, const char *name)
{
    return find(attrs, name)->i;
}

double grdi_attr_float(const grd_attr *attrs, const char *name)
{
    return find(attrs, name)->f;
}

const grd_attr *grdi_attr_ints(const grd_attr *attrs, const char *name)
{
    return find(attrs, name);
}

bool grdi_infer_fail(grdi_infer *c, grd_status status, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(c->message, sizeof(c->message), format, args);
    va_end(args);
    c->status = status;
    return false;
}

int32_t grdi_infer_axis(grdi_infer *c, int64_t axis, int32_t rank)
{
    int64_t positive = axis < 0 ? axis + rank : axis;
    if (positive >= 0 && positive < rank) return (int32_t)positive;
    grdi_infer_fail(c, GRD_E_ARGUMENT, "axis %lld is outside a shape of %d dimensions", (long long)axis, rank);
    return -1;
}

bool grdi_infer_broadcast(grdi_infer *c, grd_dims a, grd_dims b, grd_dims *result)
{
    grd_dims out = a.rank >= b.rank ? a : b;
    for (int32_t i = 1; i <= out.rank; i++) {
        int64_t da = i <= a.rank ? a.dim[a.rank - i] : 1, db = i <= b.rank ? b.dim[b.rank - i] : 1;
        if (da != db && da != 1 && db != 1) {
            char ta[GRD_DIMS_TEXT_MAX], tb[GRD_DIMS_TEXT_MAX];
            return grdi_infer_fail(c, GRD_E_SHAPE, "shapes do not broadcast: %s and %s", grd_dims_text(a, ta),
                                   grd_dims_text(b, tb));
        }
        out.dim[out.rank - i] = da == 1 ? db : da;
    }
    *result = out;
    return true;
}

bool grdi_infer_float(grdi_infer *c, int32_t input)
{
    if (grd_dtype_is_float(c->in[input].dtype)) return true;
    return grdi_infer_fail(c, GRD_E_DTYPE, "input %d must be of a float dtype, is %s (grd_cast changes it)", input,
                           grd_dtype_name(c->in[input].dtype));
}

bool grdi_infer_same_dtype(grdi_infer *c, int32_t input, int32_t other)
{
    if (c->in[input].dtype == c->in[other].dtype) return true;
    return grdi_infer_fail(c, GRD_E_DTYPE, "dtypes differ: input %d is %s, input %d is %s (cast one with grd_cast)",
                           other, grd_dtype_name(c->in[other].dtype), input, grd_dtype_name(c->in[input].dtype));
}

static grd_tensor zeros(grd_graph *graph, grdi_type type)
{
    const grd_attr attrs[] = {GRD_INTS("dims", type.dims.dim, type.dims.rank), GRD_TYPE("dtype", type.dtype)};
    return grdi_emit(graph, grdi_op_find("full"), NULL, 0, attrs, 2, NULL);
}

grd_tensor grdi_grad_out(const grdi_gradient *g, int32_t output)
{
    return g->grad_out[output].node ? g->grad_out[output] : zeros(g->graph, *grdi_type_of(g->out[output]));
}

grd_tensor grdi_sum_to_like(grd_tensor gradient, grd_tensor like)
{
    if (!gradient.node || !like.node) return (grd_tensor){NULL, 0};
    grd_dims to = grdi_type_of(like)->dims;
    if (grd_dims_equal(grdi_type_of(gradient)->dims, to)) return gradient;
    return GRDI_EMIT_ATTRS(grdi_op_find("sum_to"), GRDI_LIST(grd_attr, GRD_INTS("dims", to.dim, to.rank)), gradient);
}
