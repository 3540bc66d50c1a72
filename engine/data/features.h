/* features.h - from the columns of a table to the numbers that a model sees: standardised numbers, one feature for each
 * category. What they are is found from the training part and kept with the model. */
#ifndef GRDI_FEATURES_H
#define GRDI_FEATURES_H

#include <gradus/table.h>
#include <jansson.h>

/* One column. Of numbers and times (in days) the first feature is (value - mean) / deviation, 0 where the value is
 * missing; with `missing` a second one is 1 there. Of categories each has a feature that is 1 in its rows, but for the
 * reference; with `other` a last one is 1 for all categories that have none. A category that was never seen and has no
 * `other` is 0 everywhere. */
typedef struct grdi_feature_column {
    char *name;
    grd_column_kind kind; /* NUMBER, TIME or CATEGORY */
    bool day_first, missing, other;
    double mean, deviation;
    char **categories; /* with a feature each; "" stands for rows without a value */
    int64_t category_count;
    char *reference;      /* NULL: none */
    int64_t first, count; /* its features */
} grdi_feature_column;

/* Zeroed means empty. */
typedef struct grdi_features {
    grdi_feature_column *columns;
    int64_t column_count, width; /* width: features in all */
    char *target;
    char **classes;      /* in the order of the model's outputs */
    int64_t class_count; /* 0: the target is a number */
    double target_mean, target_deviation;
    int64_t majority; /* the class that most rows of the training part have */
} grdi_features;

typedef struct grdi_features_options {
    const grd_table *table;
    int64_t target;      /* column */
    const int64_t *rows; /* the training part */
    int64_t row_count;
    bool reference; /* leave one category of each column out, as models that are solved exactly need */
    char *const *only, *const *ignored; /* names of columns */
    int only_count, ignored_count;
    const char *group; /* a column that is not learnt from, as rows are held out by it; NULL: none */
    void (*note)(void *context, const char *text); /* on each column that is not taken as it is */
    void *context;
} grdi_features_options;

enum { GRDI_CATEGORY_FEATURES_MAX = 100 };

/* Fills columns and width; the target's fields are the caller's. GRD_E_FORMAT where no column is left. */
grd_status grdi_features_fit(grdi_features *features, const grdi_features_options *options, grd_error *error);
void grdi_features_free(grdi_features *features);
/* "age", "colour=red", "age (missing)"; returns `text`. */
char *grdi_feature_name(const grdi_features *features, int64_t feature, char *text, size_t text_bytes);
/* The column that a feature belongs to. */
const grdi_feature_column *grdi_feature_column_of(const grdi_features *features, int64_t feature);

/* table.json; NULL when out of memory. */
json_t *grdi_features_json(const grdi_features *features);
grd_status grdi_features_read(grdi_features *features, const json_t *json, const char *place, grd_error *error);

/* The columns of one table by which features are computed. Zeroed means empty. */
typedef struct grdi_binding {
    int64_t *columns;   /* of the table */
    int32_t **features; /* of a column of categories: by the table's category; -1 reference, -2 never seen */
    int32_t *missing;   /* the same for rows without a value */
    int64_t *unseen;    /* how often a category came that was never seen; counted while rows are computed */
    int64_t column_count;
} grdi_binding;

/* Opens a table whose columns are of the kinds that the features need. Errors name the column that it lacks. */
grd_status grdi_features_open_table(const grdi_features *features, const char *path, bool with_target,
                                    grd_table **table, grd_error *error);
grd_status grdi_features_bind(const grdi_features *features, const grd_table *table, grdi_binding *binding,
                              grd_error *error);
/* A column of targets: numbers, or names of classes. */
typedef struct grdi_target {
    int64_t column;
    int32_t *classes; /* by the table's category: the model's class, -1: none of them */
} grdi_target;

/* Errors name the column that is missing, or not of numbers. */
grd_status grdi_features_bind_target(const grdi_features *features, grd_table *table, grdi_target *target,
                                     grd_error *error);
/* The number, or the class; NaN where there is none. */
double grdi_target_value(const grdi_target *target, const grd_table *table, int64_t row);
void grdi_target_free(grdi_target *target);
/* Which rows are learnt from and which are held out, each in the order of the table. Zeroed means empty. */
typedef struct grdi_split {
    int64_t *rows[2], count[2]; /* learnt from, held out */
    int64_t without;            /* rows that have no target */
} grdi_split;

typedef enum grdi_split_kind {
    GRDI_SPLIT_RANDOM = 0, /* rows chosen by the seed */
    GRDI_SPLIT_STRATIFIED, /* the same, of each class alike */
    GRDI_SPLIT_GROUPED,    /* rows with one value in `column` are on one side; whole groups chosen by the seed */
    GRDI_SPLIT_TIME        /* the last rows by `column`; those of one time are on one side */
} grdi_split_kind;

typedef struct grdi_split_options {
    grdi_split_kind kind;
    int64_t column;      /* of numbers, times or categories */
    int64_t class_count; /* 0: the target is a number */
    double part;         /* to hold out, of the rows that have a target */
    uint64_t seed;
} grdi_split_options;

/* Errors name the column where it leaves nothing to choose from, or has no value in a row that needs one. */
grd_status grdi_table_split(const grd_table *table, const grdi_target *target, const grdi_split_options *options,
                            grdi_split *split, grd_error *error);
void grdi_split_free(grdi_split *split);
void grdi_binding_free(grdi_binding *binding);
/* x [width] of one row. */
void grdi_features_row(const grdi_features *features, grdi_binding *binding, const grd_table *table, int64_t row,
                       double *x);

#endif
