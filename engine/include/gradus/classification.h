/* classification.h - what a classifier gets right and wrong: counts by class, and its worst mistakes. */
#ifndef GRADUS_CLASSIFICATION_H
#define GRADUS_CLASSIFICATION_H

#include <gradus/base.h>

#ifdef __cplusplus
extern "C" {
#endif

#define GRD_MISTAKES_MAX 24
#define GRD_TOP 5

/* A sample whose likeliest class is not its own. */
typedef struct grd_mistake {
    int64_t index; /* of the sample */
    int32_t label, predicted;
    double probability, predicted_probability; /* that the model gives to the right class, and to the one it says */
} grd_mistake;

/* Zeroed means empty. */
typedef struct grd_classification {
    int64_t classes;
    int64_t *counts; /* [classes][classes]: samples by their class and by the likeliest one, the first at ties */
    int64_t total, right;
    int64_t right_of_top; /* whose class is among the GRD_TOP likeliest */
    double nats;          /* sum of -ln p(class) */
    grd_mistake mistakes[GRD_MISTAKES_MAX]; /* the least probable right class first */
    int32_t mistake_count;
    char **names; /* [classes] or NULL: classes have numbers only */
} grd_classification;

/* Begins anew. `names` may be NULL, and is copied. GRD_E_MEMORY. */
GRD_API grd_status grd_classification_begin(grd_classification *c, int64_t classes, const char *const *names,
                                            grd_error *error);
/* Counts sample `index` of class `label`, by the logits [classes] of it. */
GRD_API void grd_classification_add(grd_classification *c, int64_t index, int32_t label, const float *logits);
GRD_API void grd_classification_free(grd_classification *c);

/* Of one class: samples of it; those that were taken for it; the part of these that are right (precision) and the part
 * of its samples that were found (recall), NaN where there are none. */
typedef struct grd_class_figures {
    int64_t samples, predicted;
    double precision, recall;
} grd_class_figures;
GRD_API grd_class_figures grd_classification_of(const grd_classification *c, int64_t class_number);
/* Its name, or its number in `number`. */
GRD_API const char *grd_classification_name(const grd_classification *c, int64_t class_number, char number[24]);

#ifdef __cplusplus
}
#endif
#endif
