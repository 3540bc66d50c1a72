/* step_lbfgs.c - a step of L-BFGS: several iterations on the step's micro-batches, each of which is run again at every
 * point that a line search tries. The search itself is on the host and in double; what it keeps from step to step lies
 * in variables, as moments do. */
#include "train/lbfgs.h"
#include "ops/table.h"
#include "train/train.h"

#include <float.h>
#include <math.h>
#include <string.h>

/* What sums of f32 losses cannot tell apart. */
#define NOISE (8 * FLT_EPSILON)

struct grdi_step_search {
    grd_step *step;
    grdi_lbfgs lbfgs;
    int64_t count;            /* of all trained elements, one parameter behind the other */
    grdi_variable *remembers; /* f64 [2 + history]: pairs kept, the place of the last, and their curvatures */
    double *memory;           /* all of the following */
    double *x, *state;
    double *squares;     /* [trained_count][GRDI_MEASURES] */
    float *held, *start; /* on their way to or from the device; x where the step began */
    char *inputs;        /* [accumulate][inputs_bytes]: micro-batches, NULL where there is only one */
    size_t inputs_bytes;
    bool known; /* the next evaluation has been done: the loss is `loss`, the gradient in its place */
    double loss, sum; /* sum: of the micro-batches taken so far */
};

static const grd_optimizer *optimizer_of(const grd_step *step)
{
    return &step->settings[0].optimizer;
}

bool grdi_search_check(grd_step *step)
{
    bool searches = false, decays = false;
    for (int32_t i = 0; i < step->setting_count; i++) {
        searches |= step->settings[i].optimizer.kind == GRD_OPTIMIZER_LBFGS;
        decays |= step->settings[i].weight_decay != 0;
    }
    if (!searches) return true;
    const grd_optimizer *o = optimizer_of(step);
    if (step->options.clip_norm > 0 || step->options.ema_decay > 0 || decays)
        return !grd_fail(&step->error, GRD_E_ARGUMENT,
                         "step: L-BFGS has no gradient clipping, moving average or weight decay (leave them 0; a "
                         "penalty can be added to the loss)");
    if (step->setting_count > 1)
        return !grd_fail(&step->error, GRD_E_ARGUMENT,
                         "step: L-BFGS trains all parameters alike (groups can only freeze some of them)");
    if (o->history_size < 1 || o->max_iter < 1 || o->max_eval < 0 || !(o->lr > 0) || !(o->tolerance_grad >= 0) ||
        !(o->tolerance_change >= 0))
        return !grd_fail(&step->error, GRD_E_ARGUMENT,
                         "step: L-BFGS with history_size %d, max_iter %d, max_eval %d, lr %g, tolerance_grad %g, "
                         "tolerance_change %g (see grd_lbfgs for the usual ones)",
                         o->history_size, o->max_iter, o->max_eval, o->lr, o->tolerance_grad, o->tolerance_change);
    if (step->options.program.f16)
        return !grd_fail(&step->error, GRD_E_ARGUMENT, "step: L-BFGS scales no loss (leave .f16 out)");
    for (int32_t i = 0; i < step->trained_count; i++)
        if (step->trained[i].parameter->type.dtype != GRD_F32)
            return !grd_fail(&step->error, GRD_E_DTYPE, "%s: L-BFGS trains f32, this is %s",
                             step->trained[i].parameter->path, grd_dtype_name(step->trained[i].parameter->type.dtype));
    return true;
}

int64_t grdi_search_evaluations(const grd_step *step)
{
    const grd_optimizer *o = optimizer_of(step);
    return o->max_eval ? o->max_eval : (int64_t)o->max_iter * 5 / 4;
}

/* ---- to and from the device ---- */

enum { WEIGHTS, GRADIENTS, STEPS, CHANGES };

/* Row `row` of what a parameter has of that kind, [rows][elements]. */
static char *place(const grdi_trained *t, int what, int32_t row)
{
    grdi_variable *const of[] = {t->parameter, t->gradient, t->moment[0], t->moment[1]};
    return (char *)grdi_variable_data(of[what]) + (size_t)row * grdi_type_bytes(t->parameter->type);
}

static void fetch(const grdi_step_search *s, int what, int32_t row, double *to)
{
    const grd_engine *engine = s->step->model->engine;
    int64_t at = 0;
    for (int32_t i = 0; i < s->step->trained_count; i++) {
        const grdi_trained *t = &s->step->trained[i];
        engine->backend->download(engine->device, s->held + at, place(t, what, row),
                                  grdi_type_bytes(t->parameter->type));
        at += grd_dims_count(t->parameter->type.dims);
    }
    for (int64_t i = 0; i < s->count; i++) to[i] = s->held[i];
}

static void put(const grdi_step_search *s, int what, int32_t row, const double *from)
{
    const grd_engine *engine = s->step->model->engine;
    int64_t at = 0;
    for (int64_t i = 0; i < s->count; i++) s->held[i] = (float)from[i];
    for (int32_t i = 0; i < s->step->trained_count; i++) {
        const grdi_trained *t = &s->step->trained[i];
        engine->backend->upload(engine->device, place(t, what, row), s->held + at, grdi_type_bytes(t->parameter->type));
        at += grd_dims_count(t->parameter->type.dims);
    }
    s->step->model->weights_version += what == WEIGHTS;
}

static void keep(void *context, int32_t at, const double *step, const double *change)
{
    put(context, STEPS, at, step);
    put(context, CHANGES, at, change);
}

static void recall(void *context, int32_t at, double *step, double *change)
{
    fetch(context, STEPS, at, step);
    fetch(context, CHANGES, at, change);
}

/* ---- evaluations ---- */

/* All inputs of the micro program, to the copy of micro-batch `index` or back. */
static void move_inputs(const grdi_step_search *s, int32_t index, bool to_device)
{
    const grd_engine *engine = s->step->model->engine;
    const grd_graph *graph = s->step->micro->plan->graph;
    char *copy = s->inputs + (size_t)index * s->inputs_bytes;
    for (size_t n = 0; n < graph->count; n++) {
        size_t size = 0;
        if (graph->nodes[n]->op != &grdi_op_input) continue;
        void *data = grdi_program_input(s->step->micro, graph->nodes[n]->name, &size);
        if (to_device) engine->backend->upload(engine->device, data, copy, size);
        else engine->backend->download(engine->device, copy, data, size);
        copy += size;
    }
}

grd_status grdi_search_take_micro(grd_step *step, int32_t index)
{
    grdi_step_search *s = step->search;
    float loss = 0;
    grd_status status = grd_program_read(step->micro, step->loss, &loss);
    if (status) return grd_fail(&step->error, status, "%s", step->micro->error.message);
    s->sum = (index ? s->sum : 0) + loss;
    if (s->inputs) move_inputs(s, index, false);
    return GRD_OK;
}

/* The loss of a step whose micro-batches' losses add up to that. */
static double loss_of(const grd_step *step, double sum)
{
    return step->options.sum_micro ? sum : sum / step->options.accumulate;
}

static grd_status run_micros(grdi_step_search *s, double *value)
{
    grd_step *step = s->step;
    double sum = 0;
    for (int32_t i = 0; i < step->options.accumulate; i++) {
        float loss = 0;
        if (s->inputs) move_inputs(s, i, true);
        step->micro->accumulating = i > 0;
        grd_status status = grd_program_run(step->micro);
        if (!status) status = grd_program_read(step->micro, step->loss, &loss);
        if (status) return grd_fail(&step->error, status, "%s", step->micro->error.message);
        sum += loss;
    }
    *value = loss_of(step, sum);
    return GRD_OK;
}

static grd_status evaluate(void *context, double *x, double *value, double *gradient)
{
    grdi_step_search *s = context;
    if (s->known) {
        s->known = false;
        *value = s->loss;
        return GRD_OK;
    }
    for (int64_t i = 0; i < s->count; i++) x[i] = (float)x[i];
    put(s, WEIGHTS, 0, x);
    grd_status status = run_micros(s, value);
    if (!status) fetch(s, GRADIENTS, 0, gradient);
    return status;
}

/* ---- a step ---- */

static double sum_squares(const double *values, int64_t count)
{
    double sum = 0;
    for (int64_t i = 0; i < count; i++) sum += values[i] * values[i];
    return sum;
}

/* By trained parameter: of `values`, into its squares. */
static void measure(const grdi_step_search *s, const double *values, int what)
{
    for (int32_t i = 0; i < s->step->trained_count; i++) {
        int64_t n = grd_dims_count(s->step->trained[i].parameter->type.dims);
        s->squares[i * GRDI_MEASURES + what] = sum_squares(values, n);
        values += n;
    }
}

double grdi_search_squares(const grd_step *step, int32_t index, int what)
{
    return step->search->squares[index * GRDI_MEASURES + what];
}

/* What is kept from step to step, from its variable and back: a checkpoint may have put it there. */
static void load_state(grdi_step_search *s)
{
    const grd_engine *engine = s->step->model->engine;
    int32_t history = s->lbfgs.history;
    double *state = s->state;
    engine->backend->download(engine->device, state, grdi_variable_data(s->remembers),
                              grdi_type_bytes(s->remembers->type));
    bool sound = state[0] >= 0 && state[0] <= history && state[1] >= 0 && state[1] < history;
    s->lbfgs.kept = sound ? (int32_t)state[0] : 0;
    s->lbfgs.newest = sound ? (int32_t)state[1] : 0;
}

static void store_state(grdi_step_search *s)
{
    const grd_engine *engine = s->step->model->engine;
    s->state[0] = s->lbfgs.kept;
    s->state[1] = s->lbfgs.newest;
    engine->backend->upload(engine->device, grdi_variable_data(s->remembers), s->state,
                            grdi_type_bytes(s->remembers->type));
}

grd_status grdi_search_update(grd_step *step, grd_metrics *metrics)
{
    grdi_step_search *s = step->search;
    double loss = metrics->loss = loss_of(step, s->sum);
    double *gradient = s->memory; /* where the search will look for it */
    fetch(s, GRADIENTS, 0, gradient);
    metrics->grad_norm = sqrt(sum_squares(gradient, s->count));
    metrics->skipped = !isfinite(loss) || !isfinite(metrics->grad_norm);
    if (step->was_measured) measure(s, gradient, GRDI_MEASURE_GRADIENT);
    fetch(s, WEIGHTS, 0, s->x);
    if (step->was_measured) measure(s, s->x, GRDI_MEASURE_WEIGHT);
    for (int64_t i = 0; i < s->count; i++) s->start[i] = (float)s->x[i];
    if (!metrics->skipped) {
        load_state(s);
        s->known = true;
        s->loss = loss;
        s->lbfgs.rate = optimizer_of(step)->lr * step->settings[0].lr_scale * step->lr_factor;
        grd_status status = grdi_lbfgs_run(&s->lbfgs, s->x);
        if (status) return status;
        put(s, WEIGHTS, 0, s->x); /* the point tried last need not be the best */
        store_state(s);
        metrics->evaluations = s->lbfgs.evaluated;
        metrics->converged = s->lbfgs.done == 0 || (s->lbfgs.done == 1 && s->lbfgs.still);
    }
    if (!step->was_measured) return GRD_OK;
    for (int64_t i = 0; i < s->count; i++) s->x[i] -= s->start[i];
    measure(s, s->x, GRDI_MEASURE_CHANGE);
    return GRD_OK;
}

/* ---- memory ---- */

static int64_t trained_elements(const grd_step *step)
{
    int64_t count = 0;
    for (int32_t i = 0; i < step->trained_count; i++) count += grd_dims_count(step->trained[i].parameter->type.dims);
    return count;
}

static size_t input_bytes(const grd_step *step)
{
    const grdi_plan *plan = step->micro->plan;
    size_t size = 0;
    for (size_t n = 0; n < plan->graph->count && step->options.accumulate > 1; n++)
        if (plan->graph->nodes[n]->op == &grdi_op_input) size += grdi_type_bytes(plan->graph->nodes[n]->out[0]);
    return size;
}

static grdi_lbfgs search_of(const grd_step *step)
{
    const grd_optimizer *o = optimizer_of(step);
    return (grdi_lbfgs){.evaluate = evaluate,
                        .keep = keep,
                        .recall = recall,
                        .count = trained_elements(step),
                        .history = o->history_size,
                        .iterations = o->max_iter,
                        .evaluations = grdi_search_evaluations(step),
                        .tolerance = o->tolerance_grad,
                        .change = o->tolerance_change,
                        .noise = NOISE};
}

/* Numbers in double beside the search's own, of which `held` and `start` are two to one. */
static size_t doubles(const grd_step *step)
{
    size_t count = (size_t)trained_elements(step);
    return 2 * count + 2 + (size_t)optimizer_of(step)->history_size + (size_t)step->trained_count * GRDI_MEASURES;
}

size_t grdi_search_bytes(const grd_step *step)
{
    grdi_lbfgs search = search_of(step);
    return sizeof(double) * (grdi_lbfgs_memory(&search) + doubles(step)) +
           input_bytes(step) * (size_t)step->options.accumulate;
}

static bool remember(grd_step *step, grdi_step_search *s)
{
    const grdi_type type = {GRD_F64, grd_shape(2 + optimizer_of(step)->history_size)};
    s->remembers = grdi_step_variable(step, "lbfgs", GRDI_VARIABLE_MOMENT, type);
    return s->remembers && grdi_model_place(step->model, &step->error) == GRD_OK;
}

bool grdi_search_open(grd_step *step)
{
    grdi_step_search *s = step->search = grdi_alloc_zero(1, sizeof(*s));
    bool runs = step->model->engine->backend->runs, ok = s && remember(step, s);
    if (ok) {
        s->step = step;
        s->lbfgs = search_of(step);
        s->lbfgs.context = s;
        s->count = s->lbfgs.count;
        s->inputs_bytes = input_bytes(step);
    }
    size_t own = ok ? grdi_lbfgs_memory(&s->lbfgs) : 0;
    if (ok && runs) ok = (s->memory = grdi_alloc_zero(own + doubles(step), sizeof(double))) != NULL;
    if (ok && runs && s->inputs_bytes)
        ok = (s->inputs = grdi_alloc_zero((size_t)step->options.accumulate, s->inputs_bytes)) != NULL;
    if (!ok && step->error.status) return false;
    if (!ok) return !grd_fail(&step->error, GRD_E_MEMORY, "out of memory for L-BFGS");
    if (!runs) return true;
    s->lbfgs.memory = s->memory;
    s->x = s->memory + own;
    s->state = s->x + s->count;
    s->lbfgs.curvatures = s->state + 2;
    s->squares = s->state + 2 + s->lbfgs.history;
    s->held = (float *)(s->squares + (ptrdiff_t)step->trained_count * GRDI_MEASURES);
    s->start = s->held + s->count;
    return true;
}

void grdi_search_close(grdi_step_search *search)
{
    if (!search) return;
    grdi_free(search->memory);
    grdi_free(search->inputs);
    grdi_free(search);
}
