/* predict.h - what trained models say of new inputs: a function for each kind of data. */
#ifndef GRDI_PREDICT_H
#define GRDI_PREDICT_H

#include "generate/load.h"

typedef struct grdi_predict {
    grdi_loaded from; /* opened; weights are read once the graph is built */
    const grd_run_options *options;
    const char *run, *input;
    int32_t threads; /* 0: all */
    void (*on_prediction)(void *context, const grd_prediction *prediction);
    void *context;
    grd_error *error;
} grdi_predict;

grd_status grdi_predict_images(grdi_predict *p);
grd_status grdi_predict_table(grdi_predict *p);
grd_status grdi_predict_series(grdi_predict *p);

#endif
