/* custom.c - registers a program's own ops with an engine. Each becomes a grdi_op whose functions hand on to the
 * definition's, in the public headers' terms. */
#include "graph/custom.h"

#include "graph/graph.h"

#include <string.h>

_Static_assert(GRD_INPUTS_MAX == GRDI_INPUTS_MAX, "the public limit is the engine's");

const grdi_op *grdi_custom_find(const grd_engine *engine, const char *name)
{
    for (const grdi_custom_op *c = engine->ops; name && c; c = c->next)
        if (strcmp(c->op.name, name) == 0) return &c->op;
    return NULL;
}

const grdi_custom_op *grdi_custom_of(const grd_engine *engine, const grdi_op *op)
{
    const grdi_custom_op *c = engine->ops;
    while (c && &c->op != op) c = c->next;
    return c;
}

int32_t grdi_custom_count(const grd_engine *engine)
{
    int32_t count = 0;
    for (const grdi_custom_op *c = engine->ops; c; c = c->next) count++;
    return count;
}

static void release(grdi_custom_op *custom)
{
    grdi_region_free(&custom->region);
    grdi_free(custom);
}

void grdi_custom_free(grd_engine *engine)
{
    while (engine->ops) {
        grdi_custom_op *next = engine->ops->next;
        release(engine->ops);
        engine->ops = next;
    }
}

void grdi_custom_types(const grdi_type *from, int32_t count, grd_type *to)
{
    for (int32_t i = 0; i < count; i++) to[i] = (grd_type){from[i].dtype, from[i].dims};
}

/* ---- the functions of such an op ---- */

static const grd_op_definition *definition_of(const grdi_op *op)
{
    return &((const grdi_custom_op *)op)->definition;
}

static bool shape(grdi_infer *c)
{
    const grd_op_definition *d = definition_of(c->op);
    grd_type in[GRDI_INPUTS_MAX];
    grdi_custom_types(c->in, c->input_count, in);
    grd_op_shape s = {.context = d->context,
                      .attrs = c->attrs,
                      .input_count = c->input_count,
                      .output_count = c->output_count,
                      .in = in};
    d->shape(&s);
    if (s.error.status) return grdi_infer_fail(c, s.error.status, "%s", s.error.message);
    for (int32_t o = 0; o < c->output_count; o++) {
        if (!grd_dtype_size(s.out[o].dtype) || s.out[o].dims.rank < 0 || s.out[o].dims.rank > GRD_RANK_MAX)
            return grdi_infer_fail(c, GRD_E_ARGUMENT, "the shape rule gave output %d no valid type", o);
        c->out[o] = (grdi_type){s.out[o].dtype, s.out[o].dims};
    }
    return true;
}

static void gradient(grdi_gradient *g)
{
    const grd_op_definition *d = definition_of(g->out[0].node->op);
    grd_tensor grad_out[GRDI_OUTPUTS_MAX];
    for (int32_t o = 0; o < g->output_count; o++) grad_out[o] = grdi_grad_out(g, o);
    grd_op_gradient rule = {.context = d->context,
                            .attrs = g->attrs,
                            .graph = g->graph,
                            .input_count = g->input_count,
                            .output_count = g->output_count,
                            .in = g->in,
                            .out = g->out,
                            .grad_out = grad_out,
                            .need = g->need,
                            .grad_in = g->grad_in};
    d->gradient(&rule);
}

static void reference(const grdi_reference *r)
{
    const grd_op_definition *d = definition_of(r->op);
    grd_type in[GRDI_INPUTS_MAX], out[GRDI_OUTPUTS_MAX];
    grdi_custom_types(r->in_type, r->input_count, in);
    grdi_custom_types(r->out_type, r->output_count, out);
    d->reference(&(grd_op_reference){.context = d->context,
                                     .attrs = r->attrs,
                                     .input_count = r->input_count,
                                     .output_count = r->output_count,
                                     .in_type = in,
                                     .out_type = out,
                                     .in = r->in,
                                     .out = r->out});
}

/* ---- registering ---- */

static bool name_fits(const char *name)
{
    return name && name[0] && name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_")] == 0;
}

static grd_status check(grd_engine *engine, const grd_op_definition *d)
{
    grd_error *error = &engine->error;
    if (!name_fits(d->name))
        return grd_fail(error, GRD_E_ARGUMENT, "op '%s': not a name (use a-z, 0-9 and _)", d->name ? d->name : "");
    if (grdi_op_find(d->name) || grdi_custom_find(engine, d->name))
        return grd_fail(error, GRD_E_ARGUMENT, "op '%s': there is one of that name already (choose another)", d->name);
    int32_t most = d->inputs_max ? d->inputs_max : d->inputs;
    if (d->inputs < 0 || most < d->inputs || most > GRDI_INPUTS_MAX)
        return grd_fail(error, GRD_E_ARGUMENT, "op '%s': %d to %d inputs (0 to %d are possible)", d->name, d->inputs,
                        most, GRDI_INPUTS_MAX);
    if (d->outputs < 0 || d->outputs > GRDI_OUTPUTS_MAX)
        return grd_fail(error, GRD_E_ARGUMENT, "op '%s': %d outputs (1 to %d are possible)", d->name, d->outputs,
                        GRDI_OUTPUTS_MAX);
    if (d->attr_count < 0 || d->attr_count >= GRDI_ATTRS_MAX || (d->attr_count && !d->attrs))
        return grd_fail(error, GRD_E_ARGUMENT, "op '%s': %d attributes (0 to %d are possible)", d->name, d->attr_count,
                        GRDI_ATTRS_MAX - 1);
    for (int32_t i = 0; i < d->attr_count; i++)
        if (!name_fits(d->attrs[i].name))
            return grd_fail(error, GRD_E_ARGUMENT, "op '%s': attribute %d has no name", d->name, i);
    if (!d->shape || !d->reference)
        return grd_fail(error, GRD_E_ARGUMENT, "op '%s': has no %s (both shape and reference are required)", d->name,
                        d->shape ? "reference" : "shape rule");
    return GRD_OK;
}

/* Name and attributes, so that the definition's need not stay; false when out of memory. */
static bool copy_texts(grdi_custom_op *custom)
{
    const grd_op_definition *d = &custom->definition;
    custom->op.name = grdi_region_strdup(&custom->region, d->name);
    if (!custom->op.name) return false;
    for (int32_t i = 0; i < d->attr_count; i++) {
        grd_attr *attr = &custom->op.attrs[i];
        *attr = d->attrs[i];
        attr->name = grdi_region_strdup(&custom->region, d->attrs[i].name);
        if (!attr->name) return false;
        if (attr->kind != GRD_ATTR_INTS || attr->count <= 0) continue;
        int64_t *ints = grdi_region_alloc(&custom->region, sizeof(*ints) * (size_t)attr->count);
        if (!ints) return false;
        memcpy(ints, d->attrs[i].ints, sizeof(*ints) * (size_t)attr->count);
        attr->ints = ints;
    }
    return true;
}

grd_status grd_op_register(grd_engine *engine, const grd_op_definition *definition)
{
    if (!engine) return GRD_E_ARGUMENT;
    if (!definition || definition->size == 0)
        return grd_fail(&engine->error, GRD_E_ARGUMENT, "op: no definition, or its size is not set");
    grd_op_definition d = {0}; /* an older program's definition may be shorter */
    memcpy(&d, definition, definition->size < sizeof(d) ? definition->size : sizeof(d));
    grd_status status = check(engine, &d);
    if (status) return status;
    grdi_custom_op *custom = grdi_alloc_zero(1, sizeof(*custom));
    if (!custom) return grd_fail(&engine->error, GRD_E_MEMORY, "op '%s': out of memory", d.name);
    custom->definition = d;
    if (!copy_texts(custom)) {
        release(custom);
        return grd_fail(&engine->error, GRD_E_MEMORY, "op '%s': out of memory", d.name);
    }
    custom->definition.name = custom->op.name;
    custom->definition.attrs = custom->op.attrs;
    custom->op.inputs = d.inputs;
    custom->op.inputs_max = d.inputs_max;
    custom->op.outputs = d.outputs;
    custom->op.flags = d.no_gradient ? GRDI_OP_NO_GRADIENT : 0;
    custom->op.shape = shape;
    custom->op.gradient = d.gradient ? gradient : NULL;
    custom->op.reference = reference;
    custom->next = engine->ops;
    engine->ops = custom;
    return GRD_OK;
}

int64_t grd_attr_int(const grd_attr *attrs, const char *name)
{
    return grdi_attr_int(attrs, name);
}

double grd_attr_float(const grd_attr *attrs, const char *name)
{
    return grdi_attr_float(attrs, name);
}

const grd_attr *grd_attr_ints(const grd_attr *attrs, const char *name)
{
    const grd_attr *attr = grdi_attr_ints(attrs, name);
    return attr->name ? attr : NULL;
}
