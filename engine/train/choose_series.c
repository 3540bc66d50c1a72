/* choose_series.c - settings of runs on series: which keys must be there, and what is chosen for those that are not. */
#include "train/settings.h"

#include "data/framing.h"

#include <math.h>

enum { WIDTH = 32, BATCH = 32, WARMUP = 20, EVALUATIONS = 5, EVALUATED_WINDOWS = 1000 };
enum { CONTEXT_LEAST = 16, CONTEXT_MOST = 512, CONTEXT = 32, TCN_KERNEL = 3 };
/* As many steps as 10 times the square root of the windows: little data is learnt by heart in a few. No more than
 * what takes a minute or so: steps of a window in all batches. */
enum { STEPS_PER_ROOT = 10, STEPS_LEAST = 100, WORK_MOST = 2000000 };

static bool given(const grd_settings *s, const char *path)
{
    return grdi_key_was_set(s, grdi_key_find(path));
}

static bool forecasts(int kind)
{
    return kind >= GRD_MODEL_LINEAR && kind <= GRD_MODEL_TCN;
}

static grd_status check_keys(const grd_settings *s, grd_error *error)
{
    const char *what = NULL, *hint = "";
    if (!s->data.path) what = "data.path: is not set", hint = "set it to a CSV file";
    else if (!s->data.time) what = "data.time: is not set", hint = "set it to the column that orders the rows";
    else if (!s->data.target) what = "data.target: is not set", hint = "set it to the column that is forecast";
    else if (s->data.token_count) what = "data.tokens: do not go with a series", hint = "leave them out";
    else if (!forecasts(s->model.kind))
        what = "model.kind: does not forecast series", hint = "set lstm, gru, tcn or linear";
    return what ? grd_fail(error, GRD_E_ARGUMENT, "%s (%s)", what, hint) : GRD_OK;
}

/* What does not depend on the data. */
static void choose_training(grd_settings *s)
{
    bool linear = s->model.kind == GRD_MODEL_LINEAR;
    if (!given(s, "model.layers") && !linear) s->model.gpt.layers = 1;
    if (!given(s, "model.width") && !linear) s->model.gpt.width = WIDTH;
    if (!given(s, "train.precision")) s->train.precision = GRD_PRECISION_F32;
    if (!given(s, "train.batch")) s->train.batch = BATCH;
    if (!given(s, "train.lr")) s->train.lr = linear ? 1e-3 : 2e-3;
    if (!given(s, "train.betas")) s->train.betas[1] = 0.999;
    if (!given(s, "train.warmup")) s->train.warmup = WARMUP;
    if (!given(s, "train.eval_windows")) s->train.eval_windows = EVALUATED_WINDOWS;
    if (!s->train.steps && s->train.minutes <= 0) s->train.steps = STEPS_LEAST; /* until the series is known */
}

grd_status grdi_settings_resolve_series(grd_settings *s, grd_error *error)
{
    if (!given(s, "model.kind") && !forecasts(s->model.kind)) s->model.kind = GRD_MODEL_LSTM;
    s->data.kind = GRD_DATA_SERIES;
    grd_status status = check_keys(s, error);
    if (!status) choose_training(s);
    return status;
}

/* Two seasons, where the series is long enough. */
static int64_t fitting_context(const grdi_framing *f, int64_t end)
{
    int64_t wanted = f->season > 1 ? 2 * f->season : CONTEXT, room = (end - f->lag - f->horizon) / 2;
    if (wanted < CONTEXT_LEAST) wanted = CONTEXT_LEAST;
    if (wanted > CONTEXT_MOST) wanted = CONTEXT_MOST;
    return wanted > room ? (room > 1 ? room : 1) : wanted;
}

/* In tens, so that the last evaluation falls on the last step. */
static int64_t fitting_steps(int64_t windows, int64_t context)
{
    int64_t steps = (int64_t)(STEPS_PER_ROOT * sqrt((double)windows)), most = WORK_MOST / context;
    if (steps > most) steps = most;
    return (steps < STEPS_LEAST ? STEPS_LEAST : steps) / 10 * 10;
}

void grdi_settings_fit_series(grd_settings *s, const grdi_framing *f, int64_t end)
{
    if (!given(s, "model.context")) s->model.gpt.context = fitting_context(f, end);
    s->data.season = f->season;
    int64_t windows = end - f->horizon - f->lag - s->model.gpt.context + 1;
    if (!given(s, "model.layers") && s->model.kind == GRD_MODEL_TCN)
        s->model.gpt.layers = grd_tcn_blocks(s->model.gpt.context, TCN_KERNEL);
    if (!given(s, "train.steps") && !given(s, "train.minutes") && windows > 0)
        s->train.steps = fitting_steps(windows, s->model.gpt.context);
    int64_t every = s->train.steps / EVALUATIONS;
    if (!given(s, "train.eval_every")) s->train.eval_every = every > 0 ? every : 1;
}
