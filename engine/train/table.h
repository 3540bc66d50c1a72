/* table.h - a run on a table. */
#ifndef GRDI_TRAIN_TABLE_H
#define GRDI_TRAIN_TABLE_H

#include "data/features.h"
#include "generate/tabular.h"
#include "train/settings.h"
#include "train/session.h"

#include <stdlib.h>

struct grdi_table_run {
    grd_table *table;
    grdi_features features;
    grdi_binding binding;
    grdi_target target;
    grdi_split split;
    grd_tensor x, y;
    double *row;   /* [width] */
    float *inputs; /* of a micro-batch */
    void *targets; /* f32 numbers, or i32 classes */
    grdi_tabular evaluation;
    grdi_tabular_seen seen; /* of the last evaluation */
    double last_seconds; /* when the last iteration of a solver had ended */
};

/* table_data.c: the table, its split, its features, and settings that depend on them. */
grd_status grdi_table_open_data(grdi_session *s);
/* Whether the model is solved instead of being trained by steps. */
bool grdi_table_solves(const grd_settings *settings);
/* report_table.c: of report.html, what is said of held-out rows: classes taken for which, residuals, and the rows that
 * are most wrong with their values. Nothing before the first evaluation. */
void grdi_report_table(grdi_writer *w, const grdi_table_run *run);
/* table_solve.c */
grd_status grdi_table_solve(grdi_session *s);

#endif
