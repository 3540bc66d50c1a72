/* series.c - the task of forecasting a series: windows of the training part, evaluation on the held-out part behind it.
 * Which windows a batch has is a function of seed and position alone: each epoch is a permutation. */
#include "generate/classifier.h"
#include "generate/forecaster.h"
#include "train/settings.h"
#include "train/task.h"

#include "base/memory.h"
#include "base/random.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { DRAWN_MOST = 400, WINDOWS_LEAST = 8 }; /* steps in the report's picture; to learn from */

struct grdi_series_run {
    grdi_series *series;
    int64_t split; /* the first step of the held-out part */
    grdi_framing framing;
    float *inputs; /* [count][channels] */
    grd_tensor x, y, weights;
    float *windows, *targets, *known; /* of a micro-batch */
    grdi_forecaster forecaster;
};

static grd_status out_of_memory(const grdi_session *s)
{
    return grd_fail(s->error, GRD_E_MEMORY, "out of memory for a batch of windows");
}

/* ---- data ---- */

static void tell_of_data(grdi_session *s)
{
    const grdi_series_run *run = s->series;
    const grdi_series *series = run->series;
    char first[64], last[64], step[64];
    for (size_t i = 0; i < series->note_count; i++) grdi_session_note(s, "%s", series->notes[i]);
    grdi_session_note(s, "data: %lld steps of %s from %s to %s; the first %lld are learnt from, the last %lld held out",
                      (long long)series->count, grdi_series_step_text(series, step, sizeof(step)),
                      grdi_series_time_text(series, 0, first, sizeof(first)),
                      grdi_series_time_text(series, series->count - 1, last, sizeof(last)), (long long)run->split,
                      (long long)(series->count - run->split));
}

static void tell_of_framing(grdi_session *s, bool season_given)
{
    const grdi_framing *f = &s->series->framing;
    if (!season_given && f->season > 1)
        grdi_session_note(s, "season: %lld steps, found in the autocorrelation of the training part (data.season)",
                          (long long)f->season);
    else if (!season_given) grdi_session_note(s, "season: none found in the training part (data.season)");
    grdi_session_note(s, "%s of %lld layer%s, %lld wide, over windows of %lld steps: says what to add to %s",
                      grd_model_kind_name(s->settings->model.kind), (long long)s->settings->model.gpt.layers,
                      s->settings->model.gpt.layers == 1 ? "" : "s", (long long)s->settings->model.gpt.width,
                      (long long)f->context, f->lag > 1 ? "the value a season before" : "the last value");
}

/* Windows that end before the held-out part, targets included. */
static int64_t window_count(const grdi_series_run *run)
{
    return run->split - run->framing.horizon - grdi_framing_first(&run->framing);
}

static grd_status check_lengths(const grdi_session *s)
{
    const grdi_series_run *run = s->series;
    const grdi_framing *f = &run->framing;
    int64_t held = run->series->count - run->split, windows = window_count(run);
    if (windows < WINDOWS_LEAST)
        return grd_fail(
            s->error, GRD_E_ARGUMENT,
            "model.context: windows of %lld steps, %lld before them and a horizon of %lld fit %lld times "
            "into %lld steps to learn from, must %d times (set it or data.horizon lower, or give more data)",
            (long long)f->context, (long long)f->lag, (long long)f->horizon, (long long)(windows > 0 ? windows : 0),
            (long long)run->split, WINDOWS_LEAST);
    if (s->settings->data.validation_part > 0 && held < f->horizon)
        return grd_fail(s->error, GRD_E_ARGUMENT,
                        "data.horizon: %lld is longer than the held-out part, %lld of %lld steps (set it lower, or "
                        "data.validation_part higher)",
                        (long long)f->horizon, (long long)held, (long long)run->series->count);
    return GRD_OK;
}

static grd_status frame(grdi_session *s)
{
    grdi_series_run *run = s->series;
    grd_settings *settings = s->settings;
    grdi_framing *f = &run->framing;
    bool season_given = settings->data.season > 0;
    f->horizon = settings->data.horizon;
    f->season = season_given ? settings->data.season
                             : grdi_series_find_season(run->series->values, run->split, run->series->columns);
    grd_status status = grdi_framing_fit(f, run->series, run->split, s->error);
    if (status) return status;
    grdi_settings_fit_series(settings, f, run->split);
    f->context = settings->model.gpt.context;
    status = check_lengths(s);
    if (!status) tell_of_framing(s, season_given);
    return status;
}

static grd_status open_series(grdi_session *s)
{
    const grd_settings *settings = s->settings;
    grdi_series_run *run = s->series = grdi_alloc_zero(1, sizeof(*run));
    if (!run) return out_of_memory(s);
    grd_status status = grdi_forecaster_series(settings, settings->data.path, &run->series, s->error);
    if (status) return status;
    run->split = grdi_series_split(run->series, settings->data.validation_part);
    status = grdi_session_add_source(s, settings->data.path, run->series->size_bytes, run->series->checksum);
    if (status) return status;
    tell_of_data(s);
    return frame(s);
}

static grd_status make_batches(grdi_session *s)
{
    grdi_series_run *run = s->series;
    const grdi_framing *f = &run->framing;
    size_t batch = (size_t)s->settings->train.batch;
    run->inputs = grdi_framing_inputs(f, run->series);
    run->windows = grdi_alloc(batch * (size_t)(f->context * grdi_framing_channels(f)) * sizeof(float));
    run->targets = grdi_alloc(batch * (size_t)f->horizon * sizeof(float));
    run->known = grdi_alloc(batch * (size_t)f->horizon * sizeof(float));
    return run->inputs && run->windows && run->targets && run->known ? GRD_OK : out_of_memory(s);
}

/* Batches are made as they are asked for. */
static grd_status start(grdi_session *s)
{
    (void)s;
    return GRD_OK;
}

/* Which window stands at a position of the run. */
static int64_t window_at(const grdi_session *s, int64_t position)
{
    int64_t count = window_count(s->series);
    uint64_t epoch = (uint64_t)(position / count), seed = (uint64_t)s->settings->train.seed;
    if (s->settings->data.order == GRD_ORDER_SEQUENTIAL) return position % count;
    uint64_t stream = grdi_hash_text("series/order");
    uint64_t key = (uint64_t)grdi_random_u32(seed, epoch, stream, 0) << 32 | grdi_random_u32(seed, epoch, stream, 1);
    return (int64_t)grdi_permute(key, (uint64_t)count, (uint64_t)(position % count));
}

static grd_status feed(grdi_session *s, int64_t micro)
{
    grdi_series_run *run = s->series;
    const grdi_framing *f = &run->framing;
    int64_t channels = grdi_framing_channels(f), window = f->context * channels, batch = s->settings->train.batch;
    int64_t position = (grdi_session_next_batch(s) + micro) * batch;
    for (int64_t b = 0; b < batch; b++) {
        int64_t last = grdi_framing_first(f) + window_at(s, position + b);
        memcpy(run->windows + b * window, run->inputs + (last - f->context + 1) * channels,
               (size_t)window * sizeof(float));
        grdi_framing_targets(f, run->series, last, run->targets + b * f->horizon, run->known + b * f->horizon);
    }
    s->last_inputs = run->windows;
    grdi_session_feed_key(s, micro);
    grd_status status = grd_step_feed(s->step, run->x, run->windows);
    if (!status) status = grd_step_feed(s->step, run->y, run->targets);
    return status ? status : grd_step_feed(s->step, run->weights, run->known);
}

static void count(const grdi_session *s, grd_event *event)
{
    event->unit = "windows";
    event->samples = s->settings->train.batch * s->settings->train.accumulate;
}

/* ---- the step and the evaluation ---- */

static grd_tensor loss(grdi_session *s)
{
    grdi_series_run *run = s->series;
    const grdi_framing *f = &run->framing;
    int64_t batch = s->settings->train.batch;
    run->x = grd_input(s->graph, "x", GRD_F32, grd_shape(batch, f->context, grdi_framing_channels(f)));
    run->y = grd_input(s->graph, "y", GRD_F32, grd_shape(batch, f->horizon));
    run->weights = grd_input(s->graph, "weights", GRD_F32, grd_shape(batch, f->horizon));
    s->ids = run->x;
    s->targets = run->y;
    grd_tensor values = grdi_forecaster_values(s->settings, run->x, grdi_session_dropout_key(s));
    grd_tensor squares = grd_mse(values, run->y);
    return grd_mul_scalar(grd_mean(grd_mul(run->weights, squares)), 1.0 / (double)s->settings->train.accumulate);
}

static grd_status build_evaluation(grdi_session *s)
{
    grdi_forecaster *f = &s->series->forecaster;
    grd_status status = grdi_forecaster_open(f, s->model, s->settings, &s->series->framing, s->error);
    s->eval = f->program;
    s->eval_ids = f->x;
    s->eval_output = f->values;
    s->eval_graph = grd_tensor_graph(s->eval_ids);
    return status;
}

static void keep_forecast(void *context, int64_t last, const float *outputs)
{
    grdi_session *s = context;
    const grdi_series_run *run = s->series;
    grdi_history_forecast *f = &s->history.forecast;
    int64_t first = run->series->count - (int64_t)f->count;
    for (int64_t h = 1; h <= run->framing.horizon; h++) {
        int64_t at = last + h;
        f->truth[at - first] = run->series->known[at] ? run->series->values[at * run->series->columns] : NAN;
        f->values[at - first] = grdi_framing_value(&run->framing, run->series, last, h, outputs[h - 1]);
    }
}

/* For the report: forecasts one after the other, up to the last step. */
static grd_status draw_forecasts(grdi_session *s)
{
    const grdi_series_run *run = s->series;
    const grdi_series *series = run->series;
    grdi_history_forecast *f = &s->history.forecast;
    int64_t horizon = run->framing.horizon, held = series->count - run->split;
    int64_t most = horizon > DRAWN_MOST ? horizon : DRAWN_MOST, count = (most < held ? most : held) / horizon * horizon;
    if (!grdi_history_make_forecast(&s->history, (size_t)count)) return GRD_OK; /* a report without them, then */
    int64_t first = series->count - count;
    grdi_series_time_text(series, first, f->first, sizeof(f->first));
    grdi_series_time_text(series, first + count / 2, f->middle, sizeof(f->middle));
    grdi_series_time_text(series, series->count - 1, f->last, sizeof(f->last));
    f->step = s->done;
    f->held_out = held;
    return grdi_forecaster_run(&s->series->forecaster, run->inputs, first - 1, series->count - horizon, horizon,
                               keep_forecast, s, s->options->stop, s->error);
}

static bool can_evaluate(const grdi_session *s)
{
    return s->series->series->count > s->series->split;
}

static grd_status evaluate(grdi_session *s, int64_t most, grd_event *event)
{
    grdi_series_run *run = s->series;
    *event = (grd_event){.step = s->done};
    grd_status status = grdi_forecaster_score(&run->forecaster, run->series, run->inputs, run->split,
                                              run->series->count, most, s->options->stop, event, s->error);
    return status ? status : draw_forecasts(s);
}

/* ---- files ---- */

static grd_status add_weights(grdi_session *s, grdi_checkpoint_writer *w)
{
    return grdi_forecaster_add_weights(s->model, s->settings, &s->series->framing, s->series->series, w, s->error);
}

static void close_series(grdi_session *s)
{
    grdi_series_run *run = s->series;
    if (!run) return;
    grdi_forecaster_close(&run->forecaster);
    grdi_free(run->inputs);
    grdi_free(run->windows);
    grdi_free(run->targets);
    grdi_free(run->known);
    grdi_series_free(run->series);
    grdi_free(run);
}

/* The network begins at the simple forecast, see forecaster.c: its head is all zeros. */
static void expect(const grdi_session *s, grdi_expected *expected)
{
    expected->loss = 1;
    snprintf(expected->text, sizeof(expected->text), "the variance of the error of %s",
             s->series->framing.lag > 1 ? "seasonal-naive" : "persistence");
}

const grdi_task grdi_task_series = {.open = open_series,
                                    .make_batches = make_batches,
                                    .start = start,
                                    .loss = loss,
                                    .build_evaluation = build_evaluation,
                                    .feed = feed,
                                    .count = count,
                                    .can_evaluate = can_evaluate,
                                    .evaluate = evaluate,
                                    .add_weights = add_weights,
                                    .read_weights = grdi_task_read_by_name,
                                    .expect = expect,
                                    .close = close_series};
