/* map.c - what element-by-element (MAP) ops share: shape rules with broadcasting, the reference made from `scalar`. */
#include "ops/map.h"

#include <math.h>
#include <string.h>

bool grdi_infer_number(grdi_infer *c, int32_t i)
{
    if (c->in[i].dtype != GRD_BOOL) return true;
    return grdi_infer_fail(c, GRD_E_DTYPE, "input %d must be of a number dtype, is bool (grd_cast changes it)", i);
}

bool grdi_infer_holds(grdi_infer *c, grd_dtype dtype, const char *what, double value)
{
    double low = dtype == GRD_I32 ? -0x1p31 : dtype == GRD_I64 ? -0x1p63 : 0;
    double end = dtype == GRD_I32 ? 0x1p31 : dtype == GRD_I64 ? 0x1p63 : 0x1p8, whole = trunc(value);
    if (dtype == GRD_BOOL || grd_dtype_is_float(dtype) || (whole >= low && whole < end)) return true;
    return grdi_infer_fail(c, GRD_E_ARGUMENT, "%s is %g, which %s cannot hold", what, value, grd_dtype_name(dtype));
}

bool grdi_map_broadcast(grdi_infer *c)
{
    grd_dims dims = c->in[0].dims;
    for (int32_t i = 1; i < c->input_count; i++)
        if (!grdi_infer_broadcast(c, dims, c->in[i].dims, &dims)) return false;
    c->out[0].dims = dims;
    return true;
}

bool grdi_map_shape_any(grdi_infer *c)
{
    for (int32_t i = 1; i < c->input_count; i++)
        if (!grdi_infer_same_dtype(c, i, 0)) return false;
    c->out[0].dtype = c->in[0].dtype;
    return grdi_map_broadcast(c);
}

bool grdi_map_shape(grdi_infer *c)
{
    return grdi_infer_float(c, 0) && grdi_map_shape_any(c);
}

bool grdi_map_shape_number(grdi_infer *c)
{
    return grdi_infer_number(c, 0) && grdi_map_shape_any(c);
}

bool grdi_map_shape_logic(grdi_infer *c)
{
    for (int32_t i = 0; i < c->input_count; i++)
        if (c->in[i].dtype != GRD_BOOL)
            return grdi_infer_fail(c, GRD_E_DTYPE, "input %d must be bool, is %s (compare it with something)", i,
                                   grd_dtype_name(c->in[i].dtype));
    return grdi_map_shape_any(c);
}

bool grdi_map_shape_equal(grdi_infer *c)
{
    bool ok = grdi_map_shape_any(c);
    c->out[0].dtype = GRD_BOOL;
    return ok;
}

bool grdi_map_shape_compare(grdi_infer *c)
{
    return grdi_infer_number(c, 0) && grdi_map_shape_equal(c);
}

void grdi_map_walk_start(grdi_map_walk *walk, grd_dims dims, const grdi_type *in, int32_t inputs)
{
    memset(walk, 0, sizeof(*walk));
    walk->dims = dims;
    walk->inputs = inputs;
    for (int32_t i = 0; i < inputs; i++) {
        grd_dims d = in[i].dims;
        int64_t stride = 1;
        for (int32_t axis = d.rank - 1; axis >= 0; axis--) { /* shapes are aligned at the right */
            walk->stride[i][axis + dims.rank - d.rank] = d.dim[axis] == 1 ? 0 : stride;
            stride *= d.dim[axis];
        }
    }
}

void grdi_map_walk_next(grdi_map_walk *walk)
{
    for (int32_t axis = walk->dims.rank - 1; axis >= 0; axis--) {
        bool wraps = ++walk->at[axis] == walk->dims.dim[axis];
        int64_t steps = wraps ? 1 - walk->dims.dim[axis] : 1;
        for (int32_t i = 0; i < walk->inputs; i++) walk->offset[i] += steps * walk->stride[i][axis];
        if (!wraps) return;
        walk->at[axis] = 0;
    }
}

void grdi_map_reference(const grdi_reference *r)
{
    grdi_map_walk walk;
    double x[GRDI_INPUTS_MAX];
    int64_t count = grd_dims_count(r->out_type[0].dims);
    grdi_map_walk_start(&walk, r->out_type[0].dims, r->in_type, r->input_count);
    for (int64_t o = 0; o < count; o++, grdi_map_walk_next(&walk)) {
        for (int32_t i = 0; i < r->input_count; i++) x[i] = r->in[i][walk.offset[i]];
        r->out[0][o] = r->op->scalar(x, r->attrs);
    }
}
