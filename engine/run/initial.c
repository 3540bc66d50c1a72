/* initial.c - first values of parameters: drawn on the device where they lie, by the ops that draw random values. */
#include "run/initial.h"

#include "backend/backend.h"
#include "base/random.h"
#include "graph/op.h"

#include <math.h>

/* Runs `op` once into the parameter. The attributes must be all that the op has. */
static grd_status run_once(const grd_model *model, const grdi_variable *variable, grdi_call *call, grd_error *error)
{
    const grdi_backend *backend = model->engine->backend;
    grdi_device *device = model->engine->device;
    int64_t count = grd_dims_count(variable->type.dims);
    call->out[0] = (grdi_view){
        .data = grdi_variable_data(variable), .dtype = variable->type.dtype, .dims = grd_shape(count), .stride = {1}};
    call->output_count = 1;
    call->device = device;
    call->threads = model->engine->threads;
    const grdi_kernel *kernel = backend->find(device, call);
    if (!kernel)
        return grd_fail(error, GRD_E_UNSUPPORTED, "%s: the device has no kernel for op %s", variable->path,
                        call->op->name);
    grd_status status = kernel->prepare ? kernel->prepare(call, error) : GRD_OK;
    size_t scratch_bytes = status ? 0 : call->scratch_bytes;
    call->scratch = scratch_bytes ? backend->allocate(device, scratch_bytes) : NULL;
    if (scratch_bytes && !call->scratch)
        status = grd_fail(error, GRD_E_MEMORY, "%s: out of memory for its initial values", variable->path);
    if (!status && kernel->bind)
        status = kernel->bind(call, error);
    if (!status && (status = kernel->run(call)))
        grd_fail(error, status, "%s: op %s failed on its initial values", variable->path, call->op->name);
    if (kernel->release)
        kernel->release(call);
    if (call->scratch)
        backend->release(device, call->scratch, scratch_bytes);
    return status;
}

static grd_status draw(const grd_model *model, const grdi_variable *variable, const grdi_op *op, const char *low_name,
                       double low, const char *high_name, double high, grd_error *error)
{
    const grdi_backend *backend = model->engine->backend;
    int32_t words[4] = {(int32_t)model->seed, (int32_t)(model->seed >> 32), 0, 0};
    int64_t count = grd_dims_count(variable->type.dims);
    void *key = backend->allocate(model->engine->device, sizeof words);
    if (!key)
        return grd_fail(error, GRD_E_MEMORY, "%s: out of memory for its initial values", variable->path);
    backend->upload(model->engine->device, key, words, sizeof words);
    const grd_attr attrs[] = {GRD_INTS("dims", &count, 1),
                              GRD_FLOAT(low_name, low),
                              GRD_FLOAT(high_name, high),
                              GRD_INT("stream", (int64_t)grdi_hash_text(variable->path)),
                              {0}};
    grdi_call call = {.op = op, .attrs = attrs, .input_count = 1};
    call.in[0] = (grdi_view){.data = key, .dtype = GRD_I32, .dims = grd_shape(4), .stride = {1}};
    grd_status status = run_once(model, variable, &call, error);
    backend->release(model->engine->device, key, sizeof words);
    return status;
}

static grd_status fill_ones(const grd_model *model, const grdi_variable *variable, grd_error *error)
{
    int64_t count = grd_dims_count(variable->type.dims);
    const grd_attr attrs[] = {
        GRD_INTS("dims", &count, 1), GRD_FLOAT("value", 1), GRD_TYPE("dtype", variable->type.dtype), {0}};
    return run_once(model, variable, &(grdi_call){.op = grdi_op_find("full"), .attrs = attrs}, error);
}

/* Elements that one output depends on: all dimensions but the first. */
static double fan_in(grd_dims dims)
{
    double fan = 1;
    for (int32_t i = 1; i < dims.rank; i++)
        fan *= (double)dims.dim[i];
    return fan;
}

grd_status grdi_initialise(const grd_model *model, const grdi_variable *variable, grd_error *error)
{
    double scale = variable->init == GRD_INIT_DEFAULT ? 1.0 / sqrt(fan_in(variable->type.dims)) : variable->scale;
    if (!model->engine->backend->runs || grd_dims_count(variable->type.dims) == 0)
        return GRD_OK;
    switch (variable->init) {
    case GRD_INIT_ZEROS:
        return GRD_OK; /* as device memory comes */
    case GRD_INIT_ONES:
        return fill_ones(model, variable, error);
    case GRD_INIT_NORMAL:
        return draw(model, variable, grdi_op_find("random_normal"), "mean", 0, "std", scale, error);
    default:
        return draw(model, variable, grdi_op_find("random_uniform"), "low", -scale, "high", scale, error);
    }
}
