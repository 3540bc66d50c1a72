/* events.c - events as JSON lines: what --json prints and metrics.jsonl holds. */
#include "train/history.h"

#include <math.h>
#include <stdarg.h>
#include <string.h>

const char *const grdi_event_names[] = {"note", "plan", "step", "eval", "layers", "sample", "saved", "done", "error"};
const char *const grdi_figure_names[] = {
    "r2", "mase", "f1", "auc", "baseline_rmse", "baseline_accuracy", "linear_rmse", "logistic_accuracy", NULL};
const int grdi_event_kinds = sizeof(grdi_event_names) / sizeof(grdi_event_names[0]);

/* A text that is cut where it does not fit, but counted in full, as snprintf does. */
typedef struct line {
    char *text;
    size_t capacity, length;
} line;

static void put(line *l, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void put(line *l, const char *format, ...)
{
    size_t room = l->length < l->capacity ? l->capacity - l->length : 0;
    va_list args;
    va_start(args, format);
    int length = vsnprintf(room ? l->text + l->length : NULL, room, format, args);
    va_end(args);
    if (length > 0) l->length += (size_t)length;
}

/* JSON has no NaN and no infinity: such a value is null. */
static void put_number(line *l, const char *key, double value)
{
    if (isfinite(value)) put(l, ",\"%s\":%.9g", key, value);
    else put(l, ",\"%s\":null", key);
}

static void put_whole(line *l, const char *key, int64_t value)
{
    put(l, ",\"%s\":%lld", key, (long long)value);
}

static void put_text(line *l, const char *key, const char *text)
{
    put(l, ",\"%s\":\"", key);
    for (; text && *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\') put(l, "\\%c", c);
        else if (c == '\n') put(l, "\\n");
        else if (c < 0x20 || c == 0x7F) put(l, "\\u%04x", c);
        else put(l, "%c", c);
    }
    put(l, "\"");
}

static void put_plan(line *l, const grd_plan_report *plan)
{
    put_whole(l, "parameters", plan->parameters);
    put_whole(l, "peak_bytes", (int64_t)plan->peak_bytes);
    put_whole(l, "weights_bytes", (int64_t)plan->weights_bytes);
    put_whole(l, "gradients_bytes", (int64_t)plan->gradients_bytes);
    put_whole(l, "optimizer_bytes", (int64_t)plan->optimizer_bytes);
    put_whole(l, "state_bytes", (int64_t)plan->state_bytes);
    put_whole(l, "activations_bytes", (int64_t)plan->activations_bytes);
    put_whole(l, "workspace_bytes", (int64_t)plan->workspace_bytes);
    put_whole(l, "inputs_bytes", (int64_t)plan->inputs_bytes);
    put_number(l, "flops_per_step", plan->flops_per_step);
    put_number(l, "bytes_per_step", plan->bytes_per_step);
    put_whole(l, "launches", plan->launches);
    if (plan->device_calls) put_whole(l, "device_calls", plan->device_calls);
    if (plan->device_bytes) put_whole(l, "device_bytes", (int64_t)plan->device_bytes);
    if (plan->kernels) put_text(l, "kernels", plan->kernels);
    put_number(l, "predicted_step_ms", plan->predicted_step_ms);
}

static void put_step(line *l, const grd_event *event)
{
    put_whole(l, "step", event->step);
    put_number(l, "loss", event->loss);
    put_number(l, "lr", event->lr);
    put_number(l, "grad_norm", event->grad_norm);
    if (event->loss_scale > 0) put_number(l, "loss_scale", event->loss_scale);
    if (event->evaluations) put_whole(l, "evaluations", event->evaluations);
    if (event->samples) {
        put_whole(l, "samples", event->samples);
        put_number(l, "samples_per_s", event->samples_per_s);
    } else {
        put_whole(l, "tokens", event->tokens);
        put_number(l, "tokens_per_s", event->tokens_per_s);
    }
    put_number(l, "time_ms", event->time_ms);
}

static void put_errors(line *l, const grd_event *event)
{
    put_number(l, "rmse", event->rmse);
    put_number(l, "mae", event->mae);
    if (!isnan(event->persistence_rmse)) put_number(l, "persistence_rmse", event->persistence_rmse);
    if (!isnan(event->seasonal_rmse)) put_number(l, "seasonal_rmse", event->seasonal_rmse);
}

static void put_eval(line *l, const grd_event *event)
{
    put_whole(l, "step", event->step);
    put_number(l, "loss", event->loss);
    if (event->regression) put_errors(l, event);
    else if (event->samples) put_number(l, "accuracy", event->accuracy);
    if (event->samples) put_whole(l, "samples", event->samples);
    if (!isnan(event->bits_per_byte)) put_number(l, "bits_per_byte", event->bits_per_byte);
    for (int32_t i = 0; i < event->figure_count; i++) put_number(l, event->figures[i].name, event->figures[i].value);
    if (event->part < 1) put_number(l, "part", event->part);
}

static void put_layers(line *l, const grd_event *event)
{
    put_whole(l, "step", event->step);
    put(l, ",\"layers\":[");
    for (int32_t i = 0; i < event->layer_count; i++) {
        const grd_layer_statistics *layer = &event->layers[i];
        put(l, "%s{\"name\":\"%s\"", i ? "," : "", layer->name);
        if (!isnan(layer->activation_rms)) put_number(l, "activation_rms", layer->activation_rms);
        if (!isnan(layer->weight_rms)) { /* it has parameters */
            put_number(l, "gradient_rms", layer->gradient_rms);
            put_number(l, "weight_rms", layer->weight_rms);
            put_number(l, "update_rms", layer->update_rms);
        }
        put(l, "}");
    }
    put(l, "]");
}

size_t grd_event_json(const grd_event *event, char *text, size_t capacity)
{
    line l = {text, capacity, 0};
    put(&l, "{\"event\":\"%s\"", grdi_event_names[event->kind]);
    switch (event->kind) {
    case GRD_EVENT_PLAN: put_plan(&l, &event->plan); break;
    case GRD_EVENT_STEP: put_step(&l, event); break;
    case GRD_EVENT_EVAL: put_eval(&l, event); break;
    case GRD_EVENT_LAYERS: put_layers(&l, event); break;
    case GRD_EVENT_SAMPLE:
        if (event->step > 0) put_whole(&l, "step", event->step);
        put_text(&l, "text", event->text);
        break;
    case GRD_EVENT_NOTE: put_text(&l, "text", event->text); break;
    case GRD_EVENT_SAVED:
        put_whole(&l, "step", event->step);
        put_text(&l, "path", event->text);
        break;
    case GRD_EVENT_ERROR:
        put_whole(&l, "step", event->step);
        put_text(&l, "message", event->text);
        break;
    case GRD_EVENT_DONE:
        put_whole(&l, "steps", event->step);
        put_number(&l, "seconds", event->seconds);
        break;
    }
    put(&l, "}");
    return l.length;
}
