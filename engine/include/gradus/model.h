/* model.h - the values that a model owns, by path: for loading, saving and looking at them. */
#ifndef GRADUS_MODEL_H
#define GRADUS_MODEL_H

#include <gradus/graph.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum grd_variable_kind {
    GRD_VARIABLE_PARAMETER = 0, /* "h0/attn/qkv/weight" */
    GRD_VARIABLE_STATE,         /* grd_state */
    GRD_VARIABLE_GRADIENT,      /* "gradient/<parameter>", of the last step */
    GRD_VARIABLE_MOMENT         /* "exp_avg/<parameter>", "ema/<parameter>": what an optimizer keeps */
} grd_variable_kind;

typedef struct grd_variable {
    const char *path; /* lives as long as the model */
    grd_variable_kind kind;
    grd_dtype dtype;
    grd_dims dims;
    size_t size_bytes;
} grd_variable;

/* How many variables there are, and the one at `index` in order of creation; false past the end. */
GRD_API int64_t grd_model_variable_count(const grd_model *model);
GRD_API bool grd_model_variable_at(const grd_model *model, int64_t index, grd_variable *variable);
GRD_API bool grd_model_variable_find(const grd_model *model, const char *path, grd_variable *variable);

/* Copies the value, row-major, out of or into the model. Gives variables their memory and initial values first where
 * that has not happened yet. Errors: no variable of that path, no memory, a device that only plans. */
GRD_API grd_status grd_model_read(grd_model *model, const char *path, void *data, grd_error *error);
GRD_API grd_status grd_model_write(grd_model *model, const char *path, const void *data, grd_error *error);

#ifdef __cplusplus
}
#endif
#endif
