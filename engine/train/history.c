/* history.c - a run's events in bounded memory. */
#include "train/history.h"

#include "base/memory.h"

#include <math.h>
#include <string.h>

/* ---- steps ---- */

/* The mean of both; of one that is NaN the other. */
static double blend(double a, int64_t a_steps, double b, int64_t b_steps)
{
    if (isnan(a) || isnan(b)) return isnan(a) ? b : a;
    return (a * (double)a_steps + b * (double)b_steps) / (double)(a_steps + b_steps);
}

/* Takes the steps of `b`, which come later, into `a`. */
static void join(grdi_history_point *a, const grdi_history_point *b)
{
    a->loss = blend(a->loss, a->steps, b->loss, b->steps);
    a->lr = blend(a->lr, a->steps, b->lr, b->steps);
    a->grad_norm = blend(a->grad_norm, a->steps, b->grad_norm, b->steps);
    a->tokens_per_s = blend(a->tokens_per_s, a->steps, b->tokens_per_s, b->steps);
    a->least = fmin(a->least, b->least);
    a->most = fmax(a->most, b->most);
    a->steps += b->steps;
    a->step = b->step;
}

static void add_step(grdi_history *h, grdi_history_point point)
{
    if (!h->stride) h->stride = 1;
    if (h->count && h->points[h->count - 1].steps < h->stride) {
        join(&h->points[h->count - 1], &point);
        return;
    }
    if (h->count == GRDI_HISTORY_POINTS) {
        for (size_t i = 0; i < GRDI_HISTORY_POINTS / 2; i++) {
            h->points[i] = h->points[2 * i];
            join(&h->points[i], &h->points[2 * i + 1]);
        }
        h->count /= 2;
        h->stride *= 2;
    }
    h->points[h->count++] = point;
}

/* A step that went wrong has no number to draw. */
static double or_nan(double value)
{
    return isfinite(value) ? value : NAN;
}

/* ---- the rest ---- */

static void add_eval(grdi_history *h, grdi_history_eval eval)
{
    if (h->eval_count && h->evals[h->eval_count - 1].step == eval.step) h->evals[h->eval_count - 1] = eval; /* again */
    else if (GRDI_GROW(h->evals, h->eval_capacity, h->eval_count)) h->evals[h->eval_count++] = eval;
}

static void add_sample(grdi_history *h, int64_t step, const char *text)
{
    size_t kept = 0;
    for (size_t i = 0; i < h->sample_count && h->sample_count == GRDI_HISTORY_SAMPLES; i++) {
        if (i % 2) h->samples[kept++] = h->samples[i];
        else grdi_free(h->samples[i].text);
    }
    if (kept) h->sample_count = kept;
    char *copy = text ? grdi_strdup(text) : NULL;
    if (h->sample_count && h->samples[h->sample_count - 1].step == step) /* a run that was done, resumed */
        grdi_free(h->samples[--h->sample_count].text);
    if (copy && GRDI_GROW(h->samples, h->sample_capacity, h->sample_count))
        h->samples[h->sample_count++] = (grdi_history_sample){step, copy};
    else grdi_free(copy);
}

/* The history's own copy of a layer's name; NULL when out of memory. */
static const char *name_of(grdi_history *h, const char *name)
{
    for (size_t i = 0; i < h->name_count; i++)
        if (strcmp(h->names[i], name) == 0) return h->names[i];
    char *copy = GRDI_GROW(h->names, h->name_capacity, h->name_count) ? grdi_strdup(name) : NULL;
    if (copy) h->names[h->name_count++] = copy;
    return copy;
}

static void add_layers(grdi_history *h, int64_t step, const grd_layer_statistics *layers, int32_t count)
{
    size_t kept = 0;
    for (size_t i = 0; i < h->layers_count && h->layers_count == GRDI_HISTORY_LAYERS; i++) {
        if (i % 2) h->layers[kept++] = h->layers[i];
        else grdi_free(h->layers[i].layers);
    }
    if (kept) h->layers_count = kept;
    grd_layer_statistics *copy = count ? grdi_alloc((size_t)count * sizeof(*copy)) : NULL;
    bool ok = copy && GRDI_GROW(h->layers, h->layers_capacity, h->layers_count);
    for (int32_t i = 0; ok && i < count; i++) {
        copy[i] = layers[i];
        ok = (copy[i].name = name_of(h, layers[i].name)) != NULL;
    }
    if (ok) h->layers[h->layers_count++] = (grdi_history_layers){step, copy, count};
    else grdi_free(copy);
}

static void set_problem(grdi_history *h, const char *text)
{
    grdi_free(h->problem);
    h->problem = text ? grdi_strdup(text) : NULL;
}

static void add_eval_event(grdi_history *h, const grd_event *event)
{
    bool numbers = event->regression;
    grdi_history_eval eval = {event->step,
                              event->loss,
                              event->bits_per_byte,
                              event->samples && !numbers ? event->accuracy : NAN,
                              numbers ? event->rmse : NAN,
                              numbers ? event->mae : NAN,
                              numbers ? event->persistence_rmse : NAN,
                              numbers ? event->seasonal_rmse : NAN,
                              {{NULL, 0}},
                              event->figure_count};
    memcpy(eval.figures, event->figures, sizeof(eval.figures));
    add_eval(h, eval);
}

void grdi_history_add(grdi_history *h, const grd_event *event)
{
    double loss;
    switch (event->kind) {
    case GRD_EVENT_PLAN: h->plan = event->plan; break;
    case GRD_EVENT_STEP:
        loss = or_nan(event->loss);
        add_step(h, (grdi_history_point){event->step, 1, loss, loss, loss, event->lr, or_nan(event->grad_norm),
                                         or_nan(event->samples ? event->samples_per_s : event->tokens_per_s)});
        h->step = event->step;
        h->seconds = event->seconds;
        h->over = false;
        set_problem(h, NULL);
        break;
    case GRD_EVENT_EVAL: add_eval_event(h, event); break;
    case GRD_EVENT_LAYERS: add_layers(h, event->step, event->layers, event->layer_count); break;
    case GRD_EVENT_SAMPLE: add_sample(h, event->step, event->text); break;
    case GRD_EVENT_DONE:
        h->seconds = event->seconds;
        h->over = true;
        break;
    case GRD_EVENT_ERROR: set_problem(h, event->text); break;
    default: break;
    }
}

/* NaN where there is none: JSON has no NaN, a line says null. */
static double number(const json_t *line, const char *key)
{
    const json_t *value = json_object_get(line, key);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

static size_t whole(const json_t *line, const char *key)
{
    json_int_t value = json_integer_value(json_object_get(line, key));
    return value > 0 ? (size_t)value : 0;
}

static void read_plan(const json_t *line, grd_plan_report *plan)
{
    plan->parameters = (int64_t)whole(line, "parameters");
    plan->peak_bytes = whole(line, "peak_bytes");
    plan->weights_bytes = whole(line, "weights_bytes");
    plan->gradients_bytes = whole(line, "gradients_bytes");
    plan->optimizer_bytes = whole(line, "optimizer_bytes");
    plan->activations_bytes = whole(line, "activations_bytes");
    plan->workspace_bytes = whole(line, "workspace_bytes");
    plan->state_bytes = whole(line, "state_bytes");
    plan->inputs_bytes = whole(line, "inputs_bytes");
    plan->flops_per_step = number(line, "flops_per_step");
    plan->predicted_step_ms = number(line, "predicted_step_ms");
}

static void add_json_layers(grdi_history *h, int64_t step, const json_t *list)
{
    grd_layer_statistics *layers = grdi_alloc_zero(json_array_size(list) + 1, sizeof(*layers));
    int32_t count = 0;
    for (size_t i = 0; layers && i < json_array_size(list); i++) {
        const json_t *layer = json_array_get(list, i);
        const char *name = json_string_value(json_object_get(layer, "name"));
        if (!name) continue;
        layers[count++] = (grd_layer_statistics){.name = name,
                                                 .activation_rms = number(layer, "activation_rms"),
                                                 .gradient_rms = number(layer, "gradient_rms"),
                                                 .weight_rms = number(layer, "weight_rms"),
                                                 .update_rms = number(layer, "update_rms")};
    }
    add_layers(h, step, layers, count);
    grdi_free(layers);
}

void grdi_history_add_json(grdi_history *h, const json_t *line)
{
    const char *name = json_string_value(json_object_get(line, "event"));
    int kind = 0;
    while (kind < grdi_event_kinds && (!name || strcmp(name, grdi_event_names[kind]) != 0)) kind++;
    if (kind == grdi_event_kinds) return;
    grd_event event = {.kind = (grd_event_kind)kind, .step = json_integer_value(json_object_get(line, "step"))};
    event.text = json_string_value(json_object_get(line, event.kind == GRD_EVENT_ERROR ? "message" : "text"));
    event.loss = number(line, "loss");
    event.lr = number(line, "lr");
    event.grad_norm = number(line, "grad_norm");
    event.tokens_per_s = number(line, "tokens_per_s");
    event.bits_per_byte = number(line, "bits_per_byte");
    event.samples = (int64_t)whole(line, "samples");
    event.samples_per_s = number(line, "samples_per_s");
    event.accuracy = number(line, "accuracy");
    event.rmse = number(line, "rmse");
    event.mae = number(line, "mae");
    event.persistence_rmse = number(line, "persistence_rmse");
    event.seasonal_rmse = number(line, "seasonal_rmse");
    event.regression = isfinite(event.rmse);
    for (int i = 0; grdi_figure_names[i] && event.figure_count < GRD_FIGURES_MAX; i++)
        if (json_object_get(line, grdi_figure_names[i]))
            event.figures[event.figure_count++] =
                (grd_figure){grdi_figure_names[i], number(line, grdi_figure_names[i])};
    event.seconds = event.kind == GRD_EVENT_STEP ? h->seconds + number(line, "time_ms") / 1e3 : number(line, "seconds");
    if (event.kind == GRD_EVENT_PLAN) read_plan(line, &event.plan);
    if (event.kind == GRD_EVENT_LAYERS) add_json_layers(h, event.step, json_object_get(line, "layers"));
    else grdi_history_add(h, &event);
}

bool grdi_history_make_forecast(grdi_history *h, size_t count)
{
    grdi_history_forecast *f = &h->forecast;
    if (f->count != count) {
        grdi_free(f->truth);
        *f = (grdi_history_forecast){.truth = grdi_alloc_zero(2 * count, sizeof(double))};
        f->count = f->truth ? count : 0;
    }
    f->values = f->truth + f->count;
    return f->count > 0;
}

void grdi_history_free(grdi_history *h)
{
    grdi_free(h->forecast.truth);
    for (size_t i = 0; i < h->sample_count; i++) grdi_free(h->samples[i].text);
    grdi_free(h->samples);
    grdi_free(h->evals);
    for (size_t i = 0; i < h->layers_count; i++) grdi_free(h->layers[i].layers);
    grdi_free(h->layers);
    for (size_t i = 0; i < h->name_count; i++) grdi_free(h->names[i]);
    grdi_free(h->names);
    grdi_free(h->problem);
    *h = (grdi_history){0};
}
