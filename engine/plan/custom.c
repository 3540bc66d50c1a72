/* custom.c - runs a registered op's own f32 kernel. */
#include "plan/custom.h"

#include "graph/custom.h"

#include <string.h>

static grd_status run(grdi_call *call)
{
    const grd_op_definition *d = &((const grdi_custom_op *)call->op)->definition;
    grd_type in_type[GRDI_INPUTS_MAX], out_type[GRDI_OUTPUTS_MAX];
    const float *in[GRDI_INPUTS_MAX];
    float *out[GRDI_OUTPUTS_MAX];
    for (int32_t i = 0; i < call->input_count; i++) {
        in_type[i] = (grd_type){call->in[i].dtype, call->in[i].dims};
        in[i] = call->in[i].data;
    }
    for (int32_t o = 0; o < call->output_count; o++) {
        out_type[o] = (grd_type){call->out[o].dtype, call->out[o].dims};
        out[o] = call->out[o].data;
    }
    d->kernel_f32(&(grd_op_kernel){.context = d->context,
                                   .attrs = call->attrs,
                                   .input_count = call->input_count,
                                   .output_count = call->output_count,
                                   .in_type = in_type,
                                   .out_type = out_type,
                                   .in = in,
                                   .out = out,
                                   .threads = call->threads});
    return GRD_OK;
}

/* Says nothing of strides, so the plan hands it row-major values and separate outputs. */
static const grdi_kernel kernel = {.op = "*", .run = run};

const grdi_kernel *grdi_custom_kernel(const grd_engine *engine, const grdi_call *call)
{
    const grdi_custom_op *custom = grdi_custom_of(engine, call->op);
    if (!custom || !custom->definition.kernel_f32) return NULL;
    if (strcmp(engine->backend->name, "cpu") != 0 && strcmp(engine->backend->name, "null") != 0) return NULL;
    for (int32_t i = 0; i < call->input_count; i++)
        if (call->in[i].dtype != GRD_F32) return NULL;
    for (int32_t o = 0; o < call->output_count; o++)
        if (call->out[o].dtype != GRD_F32) return NULL;
    return &kernel;
}
