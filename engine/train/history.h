/* history.h - what has happened in a run so far, in a fixed number of points: what the report shows. */
#ifndef GRDI_HISTORY_H
#define GRDI_HISTORY_H

#include "base/file.h"

#include <gradus/run.h>
#include <jansson.h>

enum { GRDI_HISTORY_POINTS = 400, GRDI_HISTORY_LAYERS = 200, GRDI_HISTORY_SAMPLES = 200 };
extern const char *const grdi_event_names[]; /* by kind, as JSON lines have them */
extern const int grdi_event_kinds;
extern const char *const grdi_figure_names[]; /* that an evaluation may have; NULL at the end */

/* Means over `steps` steps, the last of them `step`. */
typedef struct grdi_history_point {
    int64_t step, steps;
    double loss, least, most; /* of the loss also the extremes */
    double lr, grad_norm, tokens_per_s;
} grdi_history_point;

typedef struct grdi_history_eval {
    int64_t step;
    double loss, bits_per_byte;                        /* NaN where the text is not known */
    double accuracy;                                   /* NaN but for a classifier */
    double rmse, mae, persistence_rmse, seasonal_rmse; /* NaN but where numbers are predicted, of a series */
    grd_figure figures[GRD_FIGURES_MAX];
    int32_t figure_count;
} grdi_history_eval;

/* Statistics by layer, of one step. */
typedef struct grdi_history_layers {
    int64_t step;
    grd_layer_statistics *layers; /* their names are the history's */
    int32_t count;
} grdi_history_layers;

typedef struct grdi_history_sample {
    int64_t step;
    char *text;
} grdi_history_sample;

/* The last forecasts of a series' held-out part, one after the other, beside what came. */
typedef struct grdi_history_forecast {
    double *truth, *values; /* [count]; truth NaN where it is not known */
    size_t count;
    int64_t step, held_out;               /* of the model; steps of the held-out part */
    char first[40], middle[40], last[40]; /* their times */
} grdi_history_forecast;

/* Zeroed means empty. Points are equally wide: when there is no room for one more, neighbours become one. Of statistics
 * by layer and of samples every second one is left out then. */
typedef struct grdi_history {
    grdi_history_point points[GRDI_HISTORY_POINTS];
    size_t count;
    int64_t stride; /* steps that a point has room for */
    grdi_history_eval *evals;
    size_t eval_count, eval_capacity;
    grdi_history_sample *samples;
    size_t sample_count, sample_capacity;
    grdi_history_layers *layers;
    size_t layers_count, layers_capacity;
    char **names; /* of layers, each once */
    size_t name_count, name_capacity;
    grdi_history_forecast forecast;
    grd_plan_report plan; /* parameters 0: none yet */
    int64_t step;
    double seconds;
    bool over;     /* nothing has happened since the run ended */
    char *problem; /* what it ended with, unless well */
} grdi_history;

/* Adds an event; one that there is no memory for is left out. */
void grdi_history_add(grdi_history *history, const grd_event *event);
/* The same from a line of metrics.jsonl. */
void grdi_history_add_json(grdi_history *history, const json_t *line);
/* Gives h->forecast room for `count` steps; false when out of memory. */
bool grdi_history_make_forecast(grdi_history *history, size_t count);
void grdi_history_free(grdi_history *history);

/* What a task adds to the report. */
typedef struct grdi_report_more {
    void (*put)(const void *context, grdi_writer *w);
    const void *context;
} grdi_report_more;

/* report_html.c: writes report.html into the run directory `out`: all of it or, on failure, nothing. `more` may be
 * NULL. */
grd_status grdi_report_write(const grdi_history *history, const grd_settings *settings, const char *out,
                             const grdi_report_more *more, grd_error *error);

#endif
