/* framing.h - how a series becomes what a forecaster learns: windows of steps and what follows them, relative to the
 * better one of two simple forecasts. All of it is settled by the training part. */
#ifndef GRDI_FRAMING_H
#define GRDI_FRAMING_H

#include "data/series.h"

/* The two forecasts that any other has to beat: the value goes on as it is; it is what it was a season ago. Both are
 * v[t + h - lag ceil(h / lag)] for h = 1, 2, ... after step t, with a lag of 1 or of a season. */
typedef struct grdi_framing {
    int64_t columns, context, horizon;
    int64_t season; /* 1: none */
    int64_t lag;    /* of the forecast that had less error: what the network says is added to it */
    double scale;   /* root mean square of its error, in standard deviations of the target */
    double naive_mae; /* mean absolute difference of steps of the training part to a season (or one step) before, in the
                         target's unit: what MASE is counted in (Hyndman and Koehler, 2006). NaN: not known */
    double mean[GRDI_SERIES_COLUMNS_MAX], deviation[GRDI_SERIES_COLUMNS_MAX];
} grdi_framing;

/* The season of values[0], values[stride], ... [count]: the lag k at which steps that far apart differ least, compared
 * with those up to k apart (one minus the autocorrelation, which falls and rises again), if they do so again at 2k.
 * 1: none is found. Lags up to a fourth of the series and 1,000. */
int64_t grdi_series_find_season(const double *values, int64_t count, int64_t stride);

/* Settles `framing` but for its context (horizon and season are given) by steps [0, end). GRD_E_ARGUMENT: too few of
 * them; a target that never changes. */
grd_status grdi_framing_fit(grdi_framing *framing, const grdi_series *series, int64_t end, grd_error *error);

/* Values at each step that goes into the network: every column in standard deviations from its mean, and the target's
 * difference to `lag` steps before in units of `scale`. */
static inline int64_t grdi_framing_channels(const grdi_framing *f)
{
    return f->columns + 1;
}
/* [count][channels]; free with grdi_free. NULL: out of memory. */
float *grdi_framing_inputs(const grdi_framing *framing, const grdi_series *series);
/* A window's last step is at least this: all it shows is there, and both simple forecasts are. */
static inline int64_t grdi_framing_first(const grdi_framing *f)
{
    int64_t shown = f->lag + f->context - 1;
    return shown > f->season - 1 ? shown : f->season - 1;
}
/* The simple forecast of step `last` + h, h from 1. */
static inline double grdi_simple_forecast(const grdi_series *s, int64_t last, int64_t h, int64_t lag)
{
    return s->values[(last + h - (h + lag - 1) / lag * lag) * s->columns];
}
/* What the network should say of the steps after `last`, and weights, 0 where the value is not known: [horizon]. */
void grdi_framing_targets(const grdi_framing *framing, const grdi_series *series, int64_t last, float *targets,
                          float *weights);
/* The value that the network's output number h - 1 stands for. */
double grdi_framing_value(const grdi_framing *framing, const grdi_series *series, int64_t last, int64_t h,
                          float output);

/* Sums over forecasts: of the network and of both simple ones. */
typedef struct grdi_forecast_errors {
    int64_t count;
    double squares, absolutes, loss, persistence_squares, seasonal_squares;
    double sum, square_sum; /* of the truth's differences from the training part's mean */
} grdi_forecast_errors;

void grdi_framing_score(const grdi_framing *framing, const grdi_series *series, int64_t last, const float *outputs,
                        grdi_forecast_errors *errors);

#endif
