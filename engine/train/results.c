/* results.c - what comes of steps: losses, norms and the device's decision to leave weights alone are copied back
 * behind each step and looked at when they have arrived, so that nobody waits for a device that still has work. */
#include "train/train.h"

#include "backend/backend.h"

#include <math.h>

enum { RING = GRD_STEPS_AHEAD + 1 };

static grdi_result *result_at(grd_step *step, int32_t index)
{
    return &step->results.ring[(step->results.first + index) % RING];
}

/* That of the step that is being asked for. */
static grdi_result *newest(grd_step *step)
{
    return result_at(step, step->results.known + step->results.asked);
}

grd_status grdi_results_open(grd_step *step)
{
    size_t size_bytes = ((size_t)step->options.accumulate + 3) * sizeof(float);
    bool ok = true;
    for (int i = 0; i < RING && ok; i++)
        ok = grdi_inbox_open(&step->results.ring[i].inbox, step->model->engine, size_bytes);
    return ok ? GRD_OK : grd_fail(&step->error, GRD_E_MEMORY, "out of memory for the results of steps");
}

void grdi_results_close(grd_step *step)
{
    for (int i = 0; i < RING; i++)
        if (step->results.ring[i].inbox.memory) grdi_inbox_close(&step->results.ring[i].inbox);
}

/* ---- asking ---- */

static void fetch_output(grdi_result *result, int32_t index, const grd_program *program, grd_tensor output)
{
    size_t size_bytes;
    const void *from = grdi_program_output(program, output, &size_bytes);
    grdi_inbox_fetch(&result->inbox, (size_t)index * sizeof(float), from, size_bytes);
}

void grdi_results_fetch_loss(grd_step *step)
{
    fetch_output(newest(step), step->micro_done, step->micro, step->loss);
}

void grdi_results_fetch_update(grd_step *step, const grdi_update *u)
{
    grdi_result *result = newest(step);
    int32_t losses = step->options.accumulate;
    fetch_output(result, losses, u->program, u->norm);
    grdi_inbox_fetch(&result->inbox, ((size_t)losses + 1) * sizeof(float), grdi_variable_data(step->scale),
                     sizeof(float));
    if (step->scaling.scale)
        grdi_inbox_fetch(&result->inbox, ((size_t)losses + 2) * sizeof(float), grdi_variable_data(step->scaling.scale),
                         sizeof(float));
    result->step = step->count;
    step->results.asked++;
}

/* ---- looking ---- */

/* Of the first micro-batches of a step: their mean, or their sum. */
static double loss_of(const grd_step *step, const grdi_result *result, int32_t micro)
{
    const float *losses = result->inbox.memory;
    double sum = 0;
    for (int32_t i = 0; i < micro; i++) sum += losses[i];
    return step->options.sum_micro ? sum : sum / micro;
}

static grd_status not_finite(grd_step *step, const char *origin)
{
    step->origin_known = origin[0] != '\0';
    if (step->error.status == GRD_E_NUMERIC) step->error.status = GRD_OK; /* of an earlier step, or without an origin */
    return grd_fail(&step->error, GRD_E_NUMERIC,
                    "step %lld: the gradient is not finite%s%s (weights are as before; lower the learning rate or look "
                    "at the data)",
                    (long long)step->count, origin[0] ? "; first seen in " : "", origin);
}

bool grdi_step_find_origin(grd_step *step)
{
    char origin[GRD_MESSAGE_MAX / 2] = "";
    bool found = grdi_program_find_nonfinite(step->micro, origin, sizeof(origin));
    grdi_states_bring_back(step);
    if (!found) return false;
    not_finite(step, origin);
    return true;
}

grd_status grdi_results_put(grd_step *step, grd_metrics metrics)
{
    grdi_result *result = newest(step);
    result->step = step->count;
    result->metrics = metrics;
    step->results.known++;
    if (metrics.skipped) grdi_states_bring_back(step);
    if (!metrics.skipped || step->options.skip_nonfinite) {
        step->count++;
        return GRD_OK;
    }
    result->metrics.step = step->count;
    step->results.failed = true;
    grdi_step_find_origin(step);
    if (!step->origin_known) not_finite(step, "");
    return step->error.status;
}

/* All that was asked for after that step came to nothing. From now on the device may change weights again. */
static grd_status take_back(grd_step *step, const grdi_result *result, bool device_failed)
{
    static const float go_on = 0;
    const grd_engine *engine = step->model->engine;
    const grdi_backend *backend = engine->backend;
    bool inputs_are_there = step->results.asked == 0 && step->micro_done == 0 && step->graph;
    step->count = result->step;
    step->micro_done = step->results.asked = 0;
    step->results.failed = true;
    if (device_failed)
        return grd_fail(&step->error, GRD_E_DEVICE, "step %lld: the device failed (%s)", (long long)step->count,
                        backend->why ? backend->why(engine->device) : engine->name);
    backend->upload(engine->device, grdi_variable_data(step->scale), &go_on, sizeof(go_on));
    not_finite(step, "");
    if (inputs_are_there) grdi_step_find_origin(step);
    return step->error.status;
}

static grd_status look_at_next(grd_step *step)
{
    grdi_results *r = &step->results;
    grdi_result *result = result_at(step, r->known);
    const float *update = (const float *)result->inbox.memory + step->options.accumulate;
    r->known++;
    r->asked--;
    result->metrics = (grd_metrics){.loss = loss_of(step, result, step->options.accumulate),
                                    .grad_norm = update[0],
                                    .step = result->step + 1,
                                    .updated = true,
                                    .skipped = !(update[1] >= 0),
                                    .loss_scale = step->scaling.scale ? update[2] : 0};
    bool goes_on = step->options.skip_nonfinite || grdi_scaling_overflowed(step, update[1]);
    if (!result->metrics.skipped || (goes_on && !isnan(update[1]))) return GRD_OK;
    result->metrics.step = result->step;
    return take_back(step, result, isnan(update[1]));
}

grd_status grdi_results_look(grd_step *step, bool wait)
{
    grd_status status = GRD_OK;
    while (!status && step->results.asked && grdi_inbox_arrived(&result_at(step, step->results.known)->inbox, wait))
        status = look_at_next(step);
    return status;
}

grd_status grdi_results_make_room(grd_step *step)
{
    grdi_results *r = &step->results;
    grd_status status = GRD_OK;
    if (step->micro_done) return GRD_OK;
    if (r->asked == GRD_STEPS_AHEAD && grdi_inbox_arrived(&result_at(step, 0)->inbox, true))
        status = look_at_next(step);
    while (!status && r->known && (r->failed || r->known + r->asked >= GRD_STEPS_AHEAD)) {
        r->first = (r->first + 1) % RING;
        r->known--;
        r->failed = r->failed && r->known;
    }
    return status;
}

void grdi_results_of_micro(grd_step *step, grd_metrics *metrics)
{
    grdi_result *result = newest(step);
    grdi_inbox_arrived(&result->inbox, true);
    *metrics = (grd_metrics){.loss = loss_of(step, result, step->micro_done), .step = step->count};
}
