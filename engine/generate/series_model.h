/* series_model.h - a trained forecaster beside a series that it is asked about. */
#ifndef GRDI_SERIES_MODEL_H
#define GRDI_SERIES_MODEL_H

#include "generate/forecaster.h"
#include "generate/load.h"

typedef struct grdi_series_model {
    grdi_framing framing; /* of the checkpoint */
    grdi_series *series;
    int64_t split;
    float *inputs;
    grdi_forecaster forecaster;
} grdi_series_model;

/* Reads the file `path`, whose steps must be as far apart as those that the model was trained on, and the weights. To
 * be closed after a failure, too. */
grd_status grdi_series_model_open(grdi_series_model *m, grdi_loaded *from, const char *path, grd_error *error);
void grdi_series_model_close(grdi_series_model *m);

#endif
