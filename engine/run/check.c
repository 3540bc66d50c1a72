/* check.c - finds the op that made the first NaN or infinity, by running a program launch by launch. */
#include "run/run.h"

#include "base/convert.h"

#include <math.h>
#include <string.h>

static bool finite_bytes(const void *data, grd_dtype dtype, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        double value = 0;
        switch (dtype) {
        case GRD_F32: value = ((const float *)data)[i]; break;
        case GRD_F64: value = ((const double *)data)[i]; break;
        case GRD_BF16: value = grdi_bf16_to_f32(((const uint16_t *)data)[i]); break;
        case GRD_F16: value = grdi_f16_to_f32(((const uint16_t *)data)[i]); break;
        default: return true;
        }
        if (!isfinite(value)) return false;
    }
    return true;
}

/* Looks at the whole buffer behind a row-major value. */
static bool finite_view(const grd_program *program, const grdi_view *view, void *host)
{
    if (!view->data || !grdi_is_row_major(view->dims, view->stride))
        return true; /* strided inputs were looked at when made */
    int64_t count = grd_dims_count(view->dims);
    const grd_engine *engine = program->graph->model->engine;
    engine->backend->download(engine->device, host, view->data, (size_t)count * grd_dtype_size(view->dtype));
    return finite_bytes(host, view->dtype, count);
}

static size_t largest_view(const grd_program *program)
{
    size_t most = 16;
    for (size_t n = 0; n < program->plan->launch_count; n++) {
        const grdi_call *call = &program->plan->launches[n].call;
        for (int32_t k = 0; k < call->input_count + call->output_count; k++) {
            const grdi_view *view = k < call->input_count ? &call->in[k] : &call->out[k - call->input_count];
            size_t size = (size_t)grd_dims_count(view->dims) * grd_dtype_size(view->dtype);
            if (size > most) most = size;
        }
    }
    return most;
}

static bool changes_weights(const grd_program *program, const grdi_launch *launch)
{
    for (int32_t o = 0; o < launch->call.output_count; o++) {
        if (launch->out[o].buffer < 0) continue;
        grdi_class class = program->plan->buffers[launch->out[o].buffer].class;
        if (class == GRDI_CLASS_WEIGHTS || class == GRDI_CLASS_OPTIMIZER) return true;
    }
    return false;
}

bool grdi_program_find_nonfinite(grd_program *program, char *text, size_t text_bytes)
{
    void *host = grdi_alloc(largest_view(program));
    if (!host) return false;
    bool found = false;
    for (size_t n = 0; n < program->plan->launch_count && !found; n++) {
        grdi_launch *launch = &program->plan->launches[n];
        if (changes_weights(program, launch)) continue;
        bool inputs_finite = true;
        for (int32_t i = 0; i < launch->call.input_count; i++)
            inputs_finite = inputs_finite && finite_view(program, &launch->call.in[i], host);
        memset(launch->call.accumulate, 0, sizeof(launch->call.accumulate));
        for (int32_t o = 0; o < launch->call.output_count; o++) launch->call.accumulate[o] = launch->accumulate[o] == 1;
        if (launch->kernel->run(&launch->call)) break;
        for (int32_t o = 0; o < launch->call.output_count && !found; o++) {
            if (finite_view(program, &launch->call.out[o], host)) continue;
            const grdi_node *node = launch->node;
            static const char *const phases[] = {"forward", "backward", "update"};
            snprintf(text, text_bytes, "%s%s%s (%s, output %d%s)", node->scope, node->scope[0] ? "/" : "",
                     launch->call.op->name, phases[node->phase], o,
                     inputs_finite ? "" : "; an input or weight was not finite already");
            found = true;
        }
    }
    grdi_free(host);
    return found;
}
