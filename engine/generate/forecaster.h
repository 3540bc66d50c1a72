/* forecaster.h - a network that forecasts a series: its graph, its scores, its files. */
#ifndef GRDI_FORECASTER_H
#define GRDI_FORECASTER_H

#include "data/framing.h"
#include "formats/checkpoint.h"

#include <gradus/model.h>
#include <gradus/run.h>

/* Runs windows of a series in batches. Zeroed before use. */
typedef struct grdi_forecaster {
    const grdi_framing *framing;
    grd_tensor x, values;
    grd_program *program;
    int64_t batch;
    float *inputs, *outputs;
} grdi_forecaster;

/* x [B,context,channels] to what is added to the simple forecast, [B,horizon], see framing.h. `key` drives the
 * dropout; poison: none. */
grd_tensor grdi_forecaster_values(const grd_settings *settings, grd_tensor x, grd_tensor key);

/* The columns and steps that the settings name, from the file `path`. */
grd_status grdi_forecaster_series(const grd_settings *settings, const char *path, grdi_series **series,
                                  grd_error *error);
/* The first step of the held-out part. */
int64_t grdi_series_split(const grdi_series *series, double validation_part);

/* `framing` must outlive the forecaster. */
grd_status grdi_forecaster_open(grdi_forecaster *f, grd_model *model, const grd_settings *settings,
                                const grdi_framing *framing, grd_error *error);
void grdi_forecaster_close(grdi_forecaster *f);
/* Forecasts after steps first, first + every, ..., below end; `inputs` are those of the whole series. `stop` (may be
 * NULL) ends it early. */
grd_status grdi_forecaster_run(grdi_forecaster *f, const float *inputs, int64_t first, int64_t end, int64_t every,
                               void (*take)(void *context, int64_t last, const float *outputs), void *context,
                               const volatile int *stop, grd_error *error);
/* Loss and errors of *event, from the forecasts that lie in steps [first, end) as a whole, at most about `most` of them
 * (0: all). */
grd_status grdi_forecaster_score(grdi_forecaster *f, const grdi_series *series, const float *inputs, int64_t first,
                                 int64_t end, int64_t most, const volatile int *stop, grd_event *event,
                                 grd_error *error);

/* Parameters under our paths, and a config.json that says what they are and how series are framed. */
grd_status grdi_forecaster_add_weights(grd_model *model, const grd_settings *settings, const grdi_framing *framing,
                                       const grdi_series *series, grdi_checkpoint_writer *w, grd_error *error);
/* What config.json of a checkpoint's folder says; step[64] gets how far apart steps are, in words. */
grd_status grdi_forecaster_read_framing(const char *folder, grdi_framing *framing, char step[64], grd_error *error);

#endif
