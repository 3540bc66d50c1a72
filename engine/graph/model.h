/* model.h - engines, models and their variables (parameters and states), as the engine sees them. */
#ifndef GRDI_MODEL_H
#define GRDI_MODEL_H

#include "base/memory.h"
#include "graph/op.h"

struct grdi_backend;
struct grdi_device;

/* Something freed with its owner: programs with their graph, graphs with their model, ... */
typedef struct grdi_child {
    struct grdi_child *next;
    void *object;
    void (*release)(void *object);
} grdi_child;

/* Puts `object` in front of the list, so that the youngest is released first; false when out of memory. */
bool grdi_children_add(grdi_child **list, void *object, void (*release)(void *object));
/* Takes `object` out without releasing it. */
void grdi_children_remove(grdi_child **list, const void *object);
void grdi_children_release(grdi_child **list);

struct grd_engine {
    const struct grdi_backend *backend;
    struct grdi_device *device;
    int32_t threads;
    char *name;
    grd_error error;
    grdi_child *models;
    struct grdi_custom_op *ops; /* registered by the program, see graph/custom.h */
    double flops;               /* of all programs run so far */
};

typedef enum grdi_variable_kind {
    GRDI_VARIABLE_PARAMETER,
    GRDI_VARIABLE_STATE,
    GRDI_VARIABLE_GRADIENT,
    GRDI_VARIABLE_MOMENT,
    GRDI_VARIABLE_KINDS
} grdi_variable_kind;

/* One block of device memory that holds many variables side by side. */
typedef struct grdi_storage {
    struct grdi_storage *next;
    void *data;
    size_t size_bytes;
    grdi_variable_kind kind;
} grdi_storage;

/* A value that outlives a run. Its place is fixed when the model is placed (run/storage.h). */
typedef struct grdi_variable {
    char *path;
    grdi_variable_kind kind;
    grdi_type type;
    grd_init init;
    double scale;
    bool frozen;
    int32_t blocks; /* matrices among the rows; at least 1 */
    bool view;             /* a range over other variables of its storage; owns nothing */
    grdi_storage *storage; /* NULL until placed */
    size_t offset_bytes;
    struct grdi_variable *next; /* in order of creation */
} grdi_variable;

struct grd_model {
    grd_engine *engine;
    uint64_t seed;
    grd_dtype weight_dtype; /* what parameters of two or more dimensions that are made now are kept in */
    grdi_variable *variables, **variables_end;
    size_t variable_count;
    grdi_variable **table; /* open hash by path, a power of two, views left out */
    size_t table_size;
    grdi_storage *storages;
    int64_t weights_version; /* counts the times that parameters were written to: what was made of them may be old */
    struct {
        void *data;
        size_t size_bytes;
    } arena;              /* what programs use while they run; as large as the largest needs */
    grdi_child *children; /* graphs and steps */
};

/* The variable of that path, or NULL. */
grdi_variable *grdi_model_find(const grd_model *model, const char *path);
/* Adds a variable (path is copied). NULL when out of memory. */
grdi_variable *grdi_model_add(grd_model *model, const char *path, grdi_variable_kind kind, grdi_type type);

/* The most bytes that the buffers of one plan, or the variables of one kind, are in all: more than any memory holds,
 * and few enough that sums over kinds do not overflow. */
#define GRDI_SIZES_MAX (SIZE_MAX / 16)

static inline void *grdi_variable_data(const grdi_variable *variable)
{
    return variable->storage ? (char *)variable->storage->data + variable->offset_bytes : NULL;
}

static inline size_t grdi_type_bytes(grdi_type type)
{
    return (size_t)grd_dims_count(type.dims) * grd_dtype_size(type.dtype);
}

#endif
