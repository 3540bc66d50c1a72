/* framing.c - windows of a series, relative to a simple forecast; and its season. */
#include "data/framing.h"

#include "base/memory.h"

#include <math.h>

enum { LAGS_MOST = 1000, STEPS_MOST = 100000 };
/* By how much less steps a season apart must differ than others. */
#define DIP_LEAST 0.2
/* A shorter season whose dip is nearly as deep as that of a longer one: 24 hours, not 48. */
#define NEARLY 0.9

/* ---- season ---- */

/* Less its straight line of least squares. */
static void take_trend(const double *values, int64_t count, int64_t stride, double *x)
{
    double middle = (double)(count - 1) / 2, sum = 0, product = 0, squares = 0;
    for (int64_t i = 0; i < count; i++) {
        double at = (double)i - middle;
        sum += values[i * stride];
        product += at * values[i * stride];
        squares += at * at;
    }
    for (int64_t i = 0; i < count; i++)
        x[i] = values[i * stride] - sum / (double)count - product / squares * ((double)i - middle);
}

/* Mean square of the difference of steps that lie k apart: twice the variance times one minus the autocorrelation. */
static double apart(const double *x, int64_t count, int64_t k)
{
    double sum = 0;
    for (int64_t i = k; i < count; i++) sum += (x[i] - x[i - k]) * (x[i] - x[i - k]);
    return sum / (double)(count - k);
}

/* Whether lag k is one that neighbours do not undercut; its depth below the most that came after lag `from`. */
static double dip_at(const double *v, int64_t most, int64_t from, int64_t k)
{
    double top = 0;
    if (k < 2 || k >= most || v[k] > v[k - 1] || v[k] > v[k + 1]) return 0;
    for (int64_t j = from + 1; j < k; j++)
        if (v[j] > top) top = v[j];
    return top > 0 ? 1 - v[k] / top : 0;
}

/* The same again at about 2k. */
static bool comes_again(const double *v, int64_t most, int64_t k, double least)
{
    int64_t room = k / 10 + 1;
    for (int64_t j = 2 * k - room; j <= 2 * k + room && j < most; j++)
        if (dip_at(v, most, k, j) >= least) return true;
    return false;
}

/* What chance alone makes of noise: mean squares of n differences scatter by sqrt(3 / n) of their size, and the largest
 * and the least of as many of them as there are lags by sqrt(2 ln lags) times that, up and down. */
static double dip_by_chance(int64_t count, int64_t lags)
{
    double scatter = sqrt(2 * log((double)lags) * 3 / (double)(count - lags));
    return 2 * scatter / (1 + scatter);
}

int64_t grdi_series_find_season(const double *values, int64_t count, int64_t stride)
{
    if (count > STEPS_MOST) { /* the newest are enough */
        values += (count - STEPS_MOST) * stride;
        count = STEPS_MOST;
    }
    int64_t longest = count / 4 < LAGS_MOST ? count / 4 : LAGS_MOST, most = 2 * longest + longest / 10 + 2, season = 1;
    double least = fmax(DIP_LEAST, dip_by_chance(count, longest)), best = 0;
    double *x = longest >= 2 ? grdi_alloc((size_t)(count + most + 1) * sizeof(double)) : NULL, *v;
    if (!x) return 1;
    v = x + count;
    take_trend(values, count, stride, x);
    v[0] = 0;
    for (int64_t k = 1; k <= most; k++) v[k] = apart(x, count, k);
    for (int64_t k = 2; k <= longest; k++) {
        double dip = dip_at(v, most, 0, k);
        if (dip < least || dip * NEARLY <= best || !comes_again(v, most, k, least / 2)) continue;
        best = dip;
        season = k;
    }
    grdi_free(x);
    return season;
}

/* ---- what the training part settles ---- */

static grd_status fit_columns(grdi_framing *f, const grdi_series *s, int64_t end, grd_error *error)
{
    for (int64_t c = 0; c < f->columns; c++) {
        double sum = 0, squares = 0;
        for (int64_t i = 0; i < end; i++) sum += s->values[i * s->columns + c];
        f->mean[c] = sum / (double)end;
        for (int64_t i = 0; i < end; i++) {
            double d = s->values[i * s->columns + c] - f->mean[c];
            squares += d * d;
        }
        f->deviation[c] = sqrt(squares / (double)end);
        if (f->deviation[c] > 1e-12 * fabs(f->mean[c])) continue;
        f->deviation[c] = 1;
        if (c == 0)
            return grd_fail(error, GRD_E_ARGUMENT,
                            "data.target: '%s' is %.9g in all of the training part (there is nothing to forecast)",
                            s->names[0], f->mean[0]);
    }
    return GRD_OK;
}

/* Over the known steps of [0, end) that have one a season before. */
static double naive_mae(const grdi_framing *f, const grdi_series *s, int64_t end)
{
    double sum = 0;
    int64_t count = 0;
    for (int64_t i = f->season; i < end; i++) {
        if (!s->known[i] || !s->known[i - f->season]) continue;
        sum += fabs(s->values[i * s->columns] - s->values[(i - f->season) * s->columns]);
        count++;
    }
    return count ? sum / (double)count : NAN;
}

/* Root mean square of a simple forecast's errors in [0, end); NaN: there are none. */
static double simple_error(const grdi_framing *f, const grdi_series *s, int64_t end, int64_t lag)
{
    double squares = 0;
    int64_t count = 0;
    for (int64_t last = f->season - 1; last + f->horizon < end; last++)
        for (int64_t h = 1; h <= f->horizon; h++) {
            double d = s->values[(last + h) * s->columns] - grdi_simple_forecast(s, last, h, lag);
            if (!s->known[last + h]) continue;
            squares += d * d;
            count++;
        }
    return sqrt(squares / (double)count);
}

grd_status grdi_framing_fit(grdi_framing *f, const grdi_series *s, int64_t end, grd_error *error)
{
    f->columns = s->columns;
    if (f->season + f->horizon >= end)
        return grd_fail(error, GRD_E_ARGUMENT,
                        "%s: %lld is too long for %lld steps to learn from (set it lower, or give more data)",
                        f->season > f->horizon ? "data.season" : "data.horizon",
                        (long long)(f->season > f->horizon ? f->season : f->horizon), (long long)end);
    grd_status status = fit_columns(f, s, end, error);
    if (status) return status;
    double persistence = simple_error(f, s, end, 1), seasonal = simple_error(f, s, end, f->season);
    f->naive_mae = naive_mae(f, s, end);
    f->lag = seasonal < persistence ? f->season : 1;
    f->scale = fmin(persistence, seasonal) / f->deviation[0];
    if (!(f->scale > 1e-9)) f->scale = 1; /* the simple forecast is exact: there is nothing to add */
    return GRD_OK;
}

/* ---- windows ---- */

float *grdi_framing_inputs(const grdi_framing *f, const grdi_series *s)
{
    int64_t channels = grdi_framing_channels(f);
    float *inputs = grdi_alloc((size_t)(s->count * channels) * sizeof(float)), *to = inputs;
    for (int64_t i = 0; inputs && i < s->count; i++, to += channels) {
        const double *v = s->values + i * s->columns;
        for (int64_t c = 0; c < f->columns; c++) to[c] = (float)((v[c] - f->mean[c]) / f->deviation[c]);
        double before = i >= f->lag ? s->values[(i - f->lag) * s->columns] : v[0];
        to[f->columns] = (float)((v[0] - before) / f->deviation[0] / f->scale);
    }
    return inputs;
}

void grdi_framing_targets(const grdi_framing *f, const grdi_series *s, int64_t last, float *targets, float *weights)
{
    for (int64_t h = 1; h <= f->horizon; h++) {
        double d = s->values[(last + h) * s->columns] - grdi_simple_forecast(s, last, h, f->lag);
        targets[h - 1] = (float)(d / f->deviation[0] / f->scale);
        weights[h - 1] = s->known[last + h];
    }
}

double grdi_framing_value(const grdi_framing *f, const grdi_series *s, int64_t last, int64_t h, float output)
{
    return grdi_simple_forecast(s, last, h, f->lag) + (double)output * f->deviation[0] * f->scale;
}

void grdi_framing_score(const grdi_framing *f, const grdi_series *s, int64_t last, const float *outputs,
                        grdi_forecast_errors *e)
{
    double unit = f->deviation[0] * f->scale;
    for (int64_t h = 1; h <= f->horizon; h++) {
        if (!s->known[last + h]) continue;
        double truth = s->values[(last + h) * s->columns];
        double d = truth - grdi_framing_value(f, s, last, h, outputs[h - 1]);
        double p = truth - grdi_simple_forecast(s, last, h, 1), q = truth - grdi_simple_forecast(s, last, h, f->season);
        double from = truth - f->mean[0];
        e->count++;
        e->sum += from;
        e->square_sum += from * from;
        e->squares += d * d;
        e->absolutes += fabs(d);
        e->loss += d * d / unit / unit;
        e->persistence_squares += p * p;
        e->seasonal_squares += q * q;
    }
}
