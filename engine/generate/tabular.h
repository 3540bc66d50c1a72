/* tabular.h - a model of the rows of a table: its graph, what it says of rows, and how right it is. */
#ifndef GRDI_TABULAR_H
#define GRDI_TABULAR_H

#include <gradus/classification.h>
#include <gradus/model.h>
#include <gradus/run.h>

#include "data/features.h"
#include "formats/checkpoint.h"

/* Zeroed before use. */
typedef struct grdi_tabular {
    const grdi_features *features;
    grd_table *table;
    grdi_binding binding;
    grd_tensor x, y;
    grd_program *program;
    int64_t batch, outputs;
    float *inputs, *values; /* [batch, width], [batch, outputs] */
    double *row;            /* [width] */
} grdi_tabular;

enum { GRDI_WORST_ROWS = 24, GRDI_DRAWN_ROWS = 400 };

/* A row of numbers: what was said of it, and what it is. */
typedef struct grdi_row_said {
    int64_t row;
    double is, said;
} grdi_row_said;

/* What is kept of rows that are scored, for people to look at. Zeroed before use. */
typedef struct grdi_tabular_seen {
    grd_classification classes;           /* of classes: counts and mistakes; empty where there are too many of them */
    grdi_row_said worst[GRDI_WORST_ROWS]; /* of numbers: the largest error first */
    grdi_row_said drawn[GRDI_DRAWN_ROWS]; /* the same, spread evenly over all */
    int32_t worst_count, drawn_count;
} grdi_tabular_seen;

/* One for a number or two classes (the logit of the second), else one for each class. */
int64_t grdi_tabular_outputs(const grdi_features *features);
/* x [B,width] to [B,outputs]. `key` drives the dropout; poison: none. */
grd_tensor grdi_tabular_graph(const grd_settings *settings, const grdi_features *features, grd_tensor x,
                              grd_tensor key);

/* Which rows the settings hold out, and how that was chosen. */
grd_row_split grdi_tabular_split_kind(const grd_settings *settings, int64_t class_count);
grd_status grdi_tabular_split(const grd_table *table, const grdi_target *target, const grd_settings *settings,
                              int64_t class_count, double part, grdi_split *split, grd_error *error);

grd_status grdi_tabular_open(grdi_tabular *t, grd_model *model, const grd_settings *settings,
                             const grdi_features *features, grd_table *table, grd_error *error);
/* Computes up to `batch` rows; see grdi_tabular_said for what came out. */
grd_status grdi_tabular_run(grdi_tabular *t, const int64_t *rows, int64_t count, grd_error *error);
/* What was said of row `index` of those just computed: the number, or the likeliest class and its probability; of two
 * classes *second (may be NULL) becomes the probability of the second one. */
double grdi_tabular_said(const grdi_tabular *t, int64_t index, double *probability, double *second);
/* Loss and figures of rows that have a target; those without are left out. `seen` (may be NULL) begins anew. `stop`
 * (may be NULL) ends it early, with event->part 0. */
grd_status grdi_tabular_score(grdi_tabular *t, const grdi_target *target, const int64_t *rows, int64_t count,
                              grdi_tabular_seen *seen, const volatile int *stop, grd_event *event, grd_error *error);
void grdi_tabular_close(grdi_tabular *t);

/* table.json of the folder that holds a model's weights. */
grd_status grdi_tabular_read_features(const char *folder, grdi_features *features, grd_error *error);

#endif
