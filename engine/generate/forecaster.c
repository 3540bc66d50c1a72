/* forecaster.c - networks that forecast series. */
#include "generate/forecaster.h"

#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "generate/figures.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { CONFIG_BYTES_MAX = 1 << 20 };

/* ---- the graph ---- */

grd_tensor grdi_forecaster_values(const grd_settings *settings, grd_tensor x, grd_tensor key)
{
    grd_forecaster net = {.layers = settings->model.gpt.layers,
                          .width = settings->model.gpt.width,
                          .horizon = settings->data.horizon,
                          .zero_head = true,
                          .drop = {settings->model.gpt.dropout, key}};
    switch (settings->model.kind) {
    case GRD_MODEL_GRU: net.kind = GRD_FORECASTER_GRU; break;
    case GRD_MODEL_TCN: net.kind = GRD_FORECASTER_TCN; break;
    case GRD_MODEL_LINEAR: net.kind = GRD_FORECASTER_LINEAR; break;
    default: net.kind = GRD_FORECASTER_LSTM;
    }
    return grd_forecaster_values(x, &net);
}

/* ---- data ---- */

grd_status grdi_forecaster_series(const grd_settings *settings, const char *path, grdi_series **series,
                                  grd_error *error)
{
    const grdi_series_options options = {.path = path,
                                         .time = settings->data.time,
                                         .target = settings->data.target,
                                         .inputs = (char *const *)settings->data.inputs,
                                         .input_count = settings->data.input_count};
    return grdi_series_open(&options, series, error);
}

int64_t grdi_series_split(const grdi_series *s, double validation_part)
{
    return s->count - (int64_t)round((double)s->count * validation_part);
}

/* ---- windows through the network ---- */

grd_status grdi_forecaster_open(grdi_forecaster *f, grd_model *model, const grd_settings *settings,
                                const grdi_framing *framing, grd_error *error)
{
    grd_graph *graph = grd_graph_new(model);
    int64_t window = framing->context * grdi_framing_channels(framing);
    f->framing = framing;
    f->batch = settings->train.batch;
    f->x = grd_input(graph, "x", GRD_F32, grd_shape(f->batch, framing->context, grdi_framing_channels(framing)));
    f->values = grdi_forecaster_values(settings, f->x, (grd_tensor){NULL, 0});
    f->program = grd_program_new(&f->values, 1);
    const grd_error *e = grd_graph_error(graph);
    if (!f->program) return grd_fail(error, e->status ? e->status : GRD_E_MEMORY, "%s", e->message);
    f->inputs = grdi_alloc_zero((size_t)(f->batch * window), sizeof(float));
    f->outputs = grdi_alloc((size_t)(f->batch * framing->horizon) * sizeof(float));
    if (f->inputs && f->outputs) return GRD_OK;
    return grd_fail(error, GRD_E_MEMORY, "out of memory for forecasts");
}

void grdi_forecaster_close(grdi_forecaster *f)
{
    grdi_free(f->inputs);
    grdi_free(f->outputs);
}

grd_status grdi_forecaster_run(grdi_forecaster *f, const float *inputs, int64_t first, int64_t end, int64_t every,
                               void (*take)(void *context, int64_t last, const float *outputs), void *context,
                               const volatile int *stop, grd_error *error)
{
    int64_t channels = grdi_framing_channels(f->framing), window = f->framing->context * channels;
    for (int64_t from = first; from < end && !(stop && *stop); from += f->batch * every) {
        int64_t count = 0;
        for (int64_t last = from; last < end && count < f->batch; last += every, count++)
            memcpy(f->inputs + count * window, inputs + (last - f->framing->context + 1) * channels,
                   (size_t)window * sizeof(float));
        grd_program_feed(f->program, f->x, f->inputs);
        grd_status status = grd_program_run(f->program);
        if (!status) status = grd_program_read(f->program, f->values, f->outputs);
        if (status) return grd_fail(error, status, "%s", grd_program_error(f->program)->message);
        for (int64_t i = 0; i < count; i++) take(context, from + i * every, f->outputs + i * f->framing->horizon);
    }
    return GRD_OK;
}

typedef struct scoring {
    const grdi_framing *framing;
    const grdi_series *series;
    int64_t windows;
    grdi_forecast_errors errors;
} scoring;

static void score(void *context, int64_t last, const float *outputs)
{
    scoring *s = context;
    grdi_framing_score(s->framing, s->series, last, outputs, &s->errors);
    s->windows++;
}

grd_status grdi_forecaster_score(grdi_forecaster *f, const grdi_series *series, const float *inputs, int64_t first,
                                 int64_t end, int64_t most, const volatile int *stop, grd_event *event,
                                 grd_error *error)
{
    int64_t all = end - f->framing->horizon - first + 1, every = most > 0 && all > most ? (all + most - 1) / most : 1;
    scoring z = {.framing = f->framing, .series = series};
    event->kind = GRD_EVENT_EVAL;
    event->part = 0;
    grd_status status = grdi_forecaster_run(f, inputs, first - 1, first - 1 + all, every, score, &z, stop, error);
    if (status || (stop && *stop)) return status;
    const grdi_forecast_errors *e = &z.errors;
    double count = (double)e->count;
    event->samples = z.windows;
    event->unit = "windows";
    event->part = every > 1 ? (double)z.windows / (double)all : 1;
    event->bits_per_byte = NAN;
    event->regression = true;
    event->loss = e->loss / count;
    event->rmse = sqrt(e->squares / count);
    event->mae = e->absolutes / count;
    event->persistence_rmse = sqrt(e->persistence_squares / count);
    event->seasonal_rmse = f->framing->season > 1 ? sqrt(e->seasonal_squares / count) : NAN;
    event->figure_count = 0;
    grdi_event_figure(event, "r2", 1 - e->squares / (e->square_sum - e->sum * e->sum / count));
    grdi_event_figure(event, "mase", event->mae / f->framing->naive_mae);
    if (e->count) return GRD_OK;
    return grd_fail(error, GRD_E_FORMAT, "data.target: '%s' has no value in the part that is to be scored",
                    series->names[0]);
}

/* ---- files ---- */

static bool is_parameter(const grd_variable *v)
{
    return v->kind == GRD_VARIABLE_PARAMETER;
}

static json_t *columns_json(const grdi_framing *f, const grdi_series *s)
{
    json_t *list = json_array();
    for (int64_t c = 0; list && c < f->columns; c++)
        json_array_append_new(
            list, json_pack("{s:s, s:f, s:f}", "name", s->names[c], "mean", f->mean[c], "deviation", f->deviation[c]));
    return list;
}

grd_status grdi_forecaster_add_weights(grd_model *model, const grd_settings *settings, const grdi_framing *f,
                                       const grdi_series *series, grdi_checkpoint_writer *w, grd_error *error)
{
    char step[64];
    grd_status status =
        grdi_checkpoint_add_variables(w, "model.safetensors", model, grd_model_variable_count(model), is_parameter);
    json_t *config = json_pack(
        "{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:s, s:o, s:s}", "model_type", "gradus", "gradus_kind",
        grd_model_kind_name(settings->model.kind), "layers", (json_int_t)settings->model.gpt.layers, "width",
        (json_int_t)settings->model.gpt.width, "context", (json_int_t)f->context, "horizon", (json_int_t)f->horizon,
        "season", (json_int_t)f->season, "lag", (json_int_t)f->lag, "scale", f->scale, "naive_mae",
        isfinite(f->naive_mae) ? f->naive_mae : 0, "step", grdi_series_step_text(series, step, sizeof(step)), "columns",
        columns_json(f, series), "note",
        "weights by Gradus's own names: Hugging Face has no architecture for them. The forecast of step t + h is "
        "y[t + h - lag ceil(h / lag)] + deviation * scale * output[h]");
    if (!config) return grd_fail(error, GRD_E_MEMORY, "config.json: out of memory");
    if (!status) status = grdi_checkpoint_add_json(w, "config.json", config);
    json_decref(config);
    return status;
}

static grd_status read_framing(const json_t *config, grdi_framing *f, char step[64], grd_error *error)
{
    json_int_t context, horizon, season, lag;
    const char *words;
    json_t *columns;
    if (json_unpack((json_t *)config, "{s:I, s:I, s:I, s:I, s:F, s:s, s:o}", "context", &context, "horizon", &horizon,
                    "season", &season, "lag", &lag, "scale", &f->scale, "step", &words, "columns", &columns) ||
        context < 1 || horizon < 1 || season < 1 || lag < 1 || !json_array_size(columns) ||
        json_array_size(columns) > GRDI_SERIES_COLUMNS_MAX)
        return grd_fail(error, GRD_E_FORMAT, "config.json: is none of a forecaster of series");
    double naive_mae = json_number_value(json_object_get(config, "naive_mae"));
    f->naive_mae = naive_mae > 0 ? naive_mae : NAN; /* of an earlier version there is none */
    f->context = context, f->horizon = horizon, f->season = season, f->lag = lag;
    f->columns = (int64_t)json_array_size(columns);
    for (int64_t c = 0; c < f->columns; c++)
        if (json_unpack(json_array_get(columns, (size_t)c), "{s:F, s:F}", "mean", &f->mean[c], "deviation",
                        &f->deviation[c]))
            return grd_fail(error, GRD_E_FORMAT, "config.json: column %lld has no mean or deviation", (long long)c);
    snprintf(step, 64, "%s", words);
    return GRD_OK;
}

grd_status grdi_forecaster_read_framing(const char *folder, grdi_framing *framing, char step[64], grd_error *error)
{
    char *path = grdi_path_join(folder, "config.json"), *text = NULL;
    size_t size;
    *framing = (grdi_framing){0};
    if (!path) return grd_fail(error, GRD_E_MEMORY, "config.json: out of memory");
    grd_status status = grdi_file_read(path, CONFIG_BYTES_MAX, &text, &size, error);
    json_t *config = status ? NULL : grd_json_parse(text, size, path, error);
    if (!status && !config) status = error->status;
    if (!status) status = read_framing(config, framing, step, error);
    json_decref(config);
    grdi_free(text);
    grdi_free(path);
    return status;
}
