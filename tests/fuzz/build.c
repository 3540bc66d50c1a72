/* build.c - see build.h. */
#include "build.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static int64_t any_size(fuzz_input *in, bool sane)
{
    static const int64_t wild[] = {-1, INT64_MIN, INT64_MAX, 1LL << 31, 1LL << 32, 1LL << 62, 65536, 100000};
    int byte = fuzz_byte(in);
    if (byte >= 240 && !sane) return wild[byte % 8];
    static const int64_t small[] = {1, 2, 3, 4, 5, 6, 8, 0, 7, 16, 12, 9, 10, 17, 24, 33};
    return small[byte % 16];
}

static grd_dims any_dims(fuzz_input *in, bool sane)
{
    int byte = fuzz_byte(in);
    grd_dims dims = {.rank = byte % 5};
    if (byte >= 250 && !sane) dims.rank = byte == 255 ? -1 : byte == 254 ? GRD_RANK_MAX + 1 : GRD_RANK_MAX;
    for (int i = 0; i < dims.rank && i < GRD_RANK_MAX; i++) dims.dim[i] = any_size(in, sane);
    return dims;
}

static grd_dtype any_dtype(fuzz_input *in, bool sane)
{
    int byte = fuzz_byte(in);
    if (byte < 128) return GRD_F32;
    if (byte == 255 && !sane) return (grd_dtype)77;
    return (grd_dtype)(byte % GRD_DTYPE_COUNT);
}

/* Of an earlier input's shape, or one of its own; sometimes an earlier input itself. */
static grd_tensor any_input(fuzz_input *in, grd_graph *graph, const fuzz_application *made, int index, bool sane)
{
    int how = fuzz_byte(in);
    char name[16];
    snprintf(name, sizeof name, "x%d", index);
    if (index > 0 && how < 100) {
        grd_tensor earlier = made->in[how % index];
        if (how < 10) return earlier;
        return grd_input(graph, name, any_dtype(in, sane), grd_tensor_dims(earlier));
    }
    grd_dtype dtype = any_dtype(in, sane);
    return grd_input(graph, name, dtype, any_dims(in, sane));
}

/* A value for the attribute `row` of the op's table; mostly of its kind. */
static grd_attr any_attr(fuzz_input *in, const grd_attr *row, int64_t *ints, bool sane)
{
    static const double floats[] = {0, 1, -1, 0.5, 2, 1e-5, 1e30, -3, NAN, INFINITY, 0.9, 1e-30, -INFINITY, 7, 3, 100};
    static const int64_t wholes[] = {0, 1, -1, 2, 3, 4, -2, 7, INT64_MAX, INT64_MIN, 1LL << 32, 1000000, -9, 16, 5, 99};
    grd_attr attr = {.name = row->name, .kind = row->kind};
    int byte = fuzz_byte(in), choice = byte % 16;
    if (byte >= 250 && !sane) attr.kind = (grd_attr_kind)fuzz_below(in, 6);
    if (sane && (choice >= 8 && choice <= 12)) choice -= 8;
    attr.i = attr.kind == GRD_ATTR_BOOL ? choice % 2 : attr.kind == GRD_ATTR_DTYPE ? choice % 9 : wholes[choice];
    attr.f = floats[sane && choice >= 8 ? choice - 8 : choice];
    if (attr.kind != GRD_ATTR_INTS) return attr;
    attr.count = choice % (sane ? 5 : 10);
    for (int i = 0; i < attr.count; i++) ints[i] = fuzz_byte(in) % 8 ? any_size(in, sane) : -1;
    attr.ints = ints;
    return attr;
}

static int32_t any_attrs(fuzz_input *in, const grdi_op *op, grd_attr *attrs, int64_t (*ints)[10], bool sane)
{
    int32_t count = 0;
    for (int32_t i = 0; i < GRDI_ATTRS_MAX && op->attrs[i].name; i++)
        if (fuzz_byte(in) % 3 == 0) {
            attrs[count] = any_attr(in, &op->attrs[i], ints[count], sane);
            count++;
        }
    if (!sane && fuzz_byte(in) == 1) attrs[count++] = (grd_attr)GRD_INT("nosuch", 1);
    return count;
}

grd_graph *fuzz_build(fuzz_input *in, grd_model *model, bool sane, fuzz_application *made)
{
    grd_attr attrs[GRDI_ATTRS_MAX + 1];
    int64_t ints[GRDI_ATTRS_MAX + 1][10];
    grd_graph *graph = grd_graph_new(model);
    FUZZ_CHECK(graph != NULL);
    made->op = grdi_op_at(fuzz_below(in, grdi_op_total()));
    int most = made->op->inputs_max ? made->op->inputs_max : made->op->inputs, more = fuzz_byte(in);
    made->input_count = made->op->inputs + (most > made->op->inputs ? more % (most - made->op->inputs + 1) : 0);
    if (!sane && more >= 250) made->input_count = more % (GRDI_INPUTS_MAX + 1);
    for (int i = 0; i < made->input_count; i++) made->in[i] = any_input(in, graph, made, i, sane);
    int32_t attr_count = any_attrs(in, made->op, attrs, ints, sane);
    grd_tensor first = grd_call(graph, made->op->name, made->in, made->input_count, attrs, attr_count, made->out);
    const grd_error *error = grd_graph_error(graph);
    FUZZ_CHECK(first.node == made->out[0].node && (first.node != NULL) == (error->status == GRD_OK));
    if (!first.node) fuzz_check_error(error->status, error);
    for (int o = 0; o < GRD_OUTPUTS_MAX && made->out[o].node; o++)
        FUZZ_CHECK(grd_dims_count(grd_tensor_dims(made->out[o])) >= 0);
    return graph;
}
