/* variables.c - reading and writing a model's values by path. */
#include <gradus/model.h>

#include "backend/backend.h"
#include "run/storage.h"

static const grd_variable_kind public_kinds[] = {
    [GRDI_VARIABLE_PARAMETER] = GRD_VARIABLE_PARAMETER,
    [GRDI_VARIABLE_STATE] = GRD_VARIABLE_STATE,
    [GRDI_VARIABLE_GRADIENT] = GRD_VARIABLE_GRADIENT,
    [GRDI_VARIABLE_MOMENT] = GRD_VARIABLE_MOMENT,
};

static grd_variable describe(const grdi_variable *v)
{
    return (grd_variable){v->path, public_kinds[v->kind], v->type.dtype, v->type.dims, grdi_type_bytes(v->type)};
}

int64_t grd_model_variable_count(const grd_model *model)
{
    int64_t count = 0;
    for (const grdi_variable *v = model ? model->variables : NULL; v; v = v->next) count += !v->view;
    return count;
}

bool grd_model_variable_at(const grd_model *model, int64_t index, grd_variable *variable)
{
    for (const grdi_variable *v = model ? model->variables : NULL; v; v = v->next) {
        if (v->view || index-- > 0) continue;
        *variable = describe(v);
        return true;
    }
    return false;
}

bool grd_model_variable_find(const grd_model *model, const char *path, grd_variable *variable)
{
    const grdi_variable *v = model && path ? grdi_model_find(model, path) : NULL;
    if (v) *variable = describe(v);
    return v != NULL;
}

/* *variable gets the variable with its memory in place. */
static grd_status placed(grd_model *model, const char *path, const void *data, const grdi_variable **variable,
                         grd_error *error)
{
    if (!model || !path || !data)
        return grd_fail(error, GRD_E_ARGUMENT, "%s: no %s", path ? path : "(null)",
                        !model  ? "model"
                        : !path ? "path of a variable"
                                : "place for its values");
    *variable = grdi_model_find(model, path);
    if (!*variable)
        return grd_fail(error, GRD_E_ARGUMENT,
                        "%s: the model has no such variable (grd_model_variable_at lists those it has)", path);
    if (!model->engine->backend->runs)
        return grd_fail(error, GRD_E_UNSUPPORTED, "%s: device %s only plans (open cpu to have values)", path,
                        model->engine->name);
    return grdi_model_place(model, error);
}

grd_status grd_model_read(grd_model *model, const char *path, void *data, grd_error *error)
{
    const grdi_variable *v;
    grd_status status = placed(model, path, data, &v, error);
    if (status) return status;
    model->engine->backend->download(model->engine->device, data, grdi_variable_data(v), grdi_type_bytes(v->type));
    return GRD_OK;
}

grd_status grd_model_write(grd_model *model, const char *path, const void *data, grd_error *error)
{
    const grdi_variable *v;
    grd_status status = placed(model, path, data, &v, error);
    if (status) return status;
    model->engine->backend->upload(model->engine->device, grdi_variable_data(v), data, grdi_type_bytes(v->type));
    model->weights_version++;
    return GRD_OK;
}
