/* storage.c - places variables. */
#include "run/storage.h"

#include "backend/backend.h"
#include "run/initial.h"

#include <stdlib.h>

enum { ALIGNMENT = 16 }; /* elements */

size_t grdi_variable_room(grdi_type type)
{
    size_t element = grd_dtype_size(type.dtype), step = ALIGNMENT * element, size = grdi_type_bytes(type);
    return (size + step - 1) / step * step;
}

/* Matrices first, then vectors; later parameters first, since backward reaches them first. */
static int storage_order(const void *a, const void *b)
{
    const grdi_variable *x = *(grdi_variable *const *)a, *y = *(grdi_variable *const *)b;
    int x_vector = x->type.dims.rank < 2, y_vector = y->type.dims.rank < 2;
    if (x_vector != y_vector) return x_vector - y_vector;
    return x->offset_bytes > y->offset_bytes ? -1
                                             : x->offset_bytes < y->offset_bytes; /* order of creation, see below */
}

/* Undoes the placing of variables some of which have no first values: the next attempt starts again from nothing. */
static void take_back(grd_model *model, grdi_storage *storage, grdi_variable **list, size_t count)
{
    for (size_t i = 0; i < count; i++) list[i]->storage = NULL;
    model->storages = storage->next;
    model->engine->backend->release(model->engine->device, storage->data, storage->size_bytes);
    grdi_free(storage);
}

static grd_status place_kind(grd_model *model, grdi_variable_kind kind, grdi_variable **list, grd_error *error)
{
    size_t count = 0, size = 0;
    for (grdi_variable *v = model->variables; v; v = v->next) {
        if (v->storage || v->view || v->kind != kind) continue;
        v->offset_bytes = count; /* its rank by creation, until it has its true offset */
        list[count++] = v;
    }
    if (count == 0) return GRD_OK;
    if (kind != GRDI_VARIABLE_STATE) qsort(list, count, sizeof(*list), storage_order);
    grdi_storage *storage = grdi_alloc_zero(1, sizeof(*storage));
    if (!storage) return grd_fail(error, GRD_E_MEMORY, "out of memory for variables");
    for (size_t i = 0; i < count; i++) {
        size_t own = grdi_variable_room(list[i]->type);
        list[i]->offset_bytes = size;
        size = own > GRDI_SIZES_MAX - size ? GRDI_SIZES_MAX : size + own; /* no device has that much */
    }
    if (size < GRDI_SIZES_MAX) storage->data = model->engine->backend->allocate(model->engine->device, size);
    if (!storage->data) {
        grdi_free(storage);
        return grd_fail(error, GRD_E_MEMORY,
                        "%zu bytes for %zu variables are not to be had (a smaller model, or a device with more memory)",
                        size, count);
    }
    storage->size_bytes = size;
    storage->kind = kind;
    storage->next = model->storages;
    model->storages = storage;
    grd_status status = GRD_OK;
    for (size_t i = 0; i < count && !status; i++) {
        list[i]->storage = storage;
        bool drawn = kind == GRDI_VARIABLE_PARAMETER || list[i]->init == GRD_INIT_ONES; /* others begin as zeros */
        if (drawn) status = grdi_initialise(model, list[i], error);
    }
    if (status) take_back(model, storage, list, count);
    return status;
}

grd_status grdi_model_place(grd_model *model, grd_error *error)
{
    grdi_variable **list = grdi_alloc_zero(model->variable_count + 1, sizeof(*list));
    if (!list) return grd_fail(error, GRD_E_MEMORY, "out of memory for variables");
    grd_status status = GRD_OK;
    for (int kind = 0; !status && kind < GRDI_VARIABLE_KINDS; kind++)
        status = place_kind(model, (grdi_variable_kind)kind, list, error);
    grdi_free(list);
    return status;
}

grdi_variable *grdi_model_range(grd_model *model, grdi_variable *from, grdi_variable *to, grd_error *error)
{
    size_t end = to->offset_bytes + grdi_type_bytes(to->type);
    size_t element = grd_dtype_size(from->type.dtype);
    char *path = grdi_format("%s..%s", from->path, to->path);
    grdi_variable *range = path ? grdi_model_find(model, path) : NULL;
    grdi_type type = {from->type.dtype, grd_shape((int64_t)((end - from->offset_bytes) / element))};
    if (path && !range) range = grdi_model_add(model, path, from->kind, type);
    grdi_free(path);
    if (!range) {
        grd_fail(error, GRD_E_MEMORY, "out of memory for variables");
        return NULL;
    }
    range->view = true;
    range->storage = from->storage;
    range->offset_bytes = from->offset_bytes;
    return range;
}

size_t grdi_model_bytes(const grd_model *model, grdi_variable_kind kind)
{
    size_t size = 0;
    for (const grdi_storage *s = model->storages; s; s = s->next)
        if (s->kind == kind) size += s->size_bytes;
    return size;
}

void grdi_model_release_storages(grd_model *model)
{
    while (model->storages) {
        grdi_storage *storage = model->storages;
        model->storages = storage->next;
        model->engine->backend->release(model->engine->device, storage->data, storage->size_bytes);
        grdi_free(storage);
    }
}
