/* table_solve.c - linear and logistic regression of a table, over all its training rows at once. */
#include "train/table.h"

#include "base/log.h"
#include "base/memory.h"
#include "train/solve.h"

#include <math.h>
#include <string.h>

#define GROWS_WITHOUT_BOUND 30.0 /* a logit that only separated classes have */

static void give_row(void *context, int64_t index, double *x, double *target)
{
    grdi_table_run *run = ((grdi_session *)context)->table;
    const grdi_features *f = &run->features;
    grdi_features_row(f, &run->binding, run->table, run->split.rows[0][index], x);
    *target = grdi_target_value(&run->target, run->table, run->split.rows[0][index]);
    if (!f->class_count) *target = (*target - f->target_mean) / f->target_deviation;
}

static void emit_step(grdi_session *s, double value, double norm)
{
    grd_event event = {.kind = GRD_EVENT_STEP,
                       .step = ++s->done,
                       .steps = s->settings->train.steps,
                       .unit = "rows",
                       .loss = value,
                       .lr = 1,
                       .grad_norm = norm,
                       .samples = s->table->split.count[0]};
    double seconds = grdi_session_elapsed(s), last = s->table->last_seconds;
    event.seconds = seconds;
    event.time_ms = 1e3 * (seconds - last);
    event.samples_per_s = seconds > last ? (double)event.samples / (seconds - last) : 0;
    event.progress = (double)s->done / (double)s->settings->train.steps;
    s->table->last_seconds = seconds;
    grdi_session_emit(s, &event);
}

static bool iterated(void *context, int64_t iteration, double value, double norm)
{
    grdi_session *s = context;
    (void)iteration;
    emit_step(s, value, norm);
    bool late = s->settings->train.minutes > 0 && grdi_session_elapsed(s) > 60 * s->settings->train.minutes;
    return !late && !grdi_session_asked_to_stop(s);
}

/* The solution [outputs][width + 1], the intercepts last, into the model: in double, and rounded where it predicts. */
static grd_status write_solution(grdi_session *s, const double *weights, int64_t outputs)
{
    int64_t width = s->table->features.width;
    size_t count = (size_t)(outputs * width);
    double *exact = grdi_alloc_zero(count + (size_t)outputs, sizeof(double));
    float *rounded = grdi_alloc_zero(count + (size_t)outputs, sizeof(float));
    grd_status status = exact && rounded ? GRD_OK : grd_fail(s->error, GRD_E_MEMORY, "out of memory for a solution");
    for (int64_t k = 0; k < outputs && !status; k++) {
        const double *from = weights + k * (width + 1);
        memcpy(exact + k * width, from, (size_t)width * sizeof(double));
        exact[(int64_t)count + k] = from[width];
    }
    for (size_t i = 0; i < count + (size_t)outputs && !status; i++) rounded[i] = (float)exact[i];
    if (!status) status = grd_model_write(s->model, "solution/weight", exact, s->error);
    if (!status) status = grd_model_write(s->model, "solution/bias", exact + count, s->error);
    if (!status) status = grd_model_write(s->model, "head/weight", rounded, s->error);
    if (!status) status = grd_model_write(s->model, "head/bias", rounded + count, s->error);
    grdi_free(exact);
    grdi_free(rounded);
    return status;
}

static grd_status read_solution(grdi_session *s, double *weights, int64_t outputs)
{
    int64_t width = s->table->features.width;
    double *exact = grdi_alloc_zero((size_t)(outputs * (width + 1)), sizeof(double));
    grd_status status = exact ? grd_model_read(s->model, "solution/weight", exact, s->error)
                              : grd_fail(s->error, GRD_E_MEMORY, "out of memory for a solution");
    if (!status) status = grd_model_read(s->model, "solution/bias", exact + outputs * width, s->error);
    for (int64_t k = 0; k < outputs && !status; k++) {
        memcpy(weights + k * (width + 1), exact + k * width, (size_t)width * sizeof(double));
        weights[k * (width + 1) + width] = exact[outputs * width + k];
    }
    grdi_free(exact);
    return status;
}

static grd_status solve_linear(grdi_session *s, const grdi_rows *rows, double *weights)
{
    grdi_table_run *run = s->table;
    bool *dropped = grdi_alloc_zero((size_t)rows->width, sizeof(bool));
    if (!dropped || grdi_solve_linear(rows, s->settings->train.l2, weights, dropped)) {
        grdi_free(dropped);
        return grd_fail(s->error, GRD_E_MEMORY, "out of memory for the normal equations of %lld features",
                        (long long)rows->width);
    }
    if (rows->count <= rows->width && s->settings->train.l2 == 0)
        grdi_session_note(s,
                          "%lld rows cannot tell the coefficients of %lld features: of all that fit best, the smallest "
                          "are taken, of standardised features (set train.l2, such as 1e-2, or give more rows)",
                          (long long)rows->count, (long long)rows->width);
    double loss = 0;
    for (int64_t row = 0; row < rows->count; row++) {
        double y;
        give_row(s, row, run->row, &y);
        for (int64_t i = 0; i <= rows->width; i++) y -= weights[i] * (i < rows->width ? run->row[i] : 1);
        loss += y * y / (double)rows->count;
    }
    emit_step(s, loss, 0);
    for (int64_t i = 0; i < rows->width; i++) {
        char name[256];
        if (dropped[i])
            grdi_session_note(s, "%s: is a combination of the features before it: its coefficient is 0",
                              grdi_feature_name(&run->features, i, name, sizeof(name)));
    }
    grdi_free(dropped);
    return GRD_OK;
}

static grd_status solve_logistic(grdi_session *s, const grdi_rows *rows, double *weights, int64_t outputs)
{
    grdi_logistic p = {.rows = *rows,
                       .outputs = outputs,
                       .l2 = s->settings->train.l2,
                       .iterations = s->settings->train.steps - s->done,
                       .iterated = iterated,
                       .context = s};
    grd_status status = grdi_solve_logistic(&p, weights);
    if (status) return grd_fail(s->error, status, "out of memory for a logistic regression");
    if (p.l2 == 0 && (p.right == rows->count || p.largest_logit > GROWS_WITHOUT_BOUND))
        grdi_session_note(
            s,
            "classes are separated%s: the best coefficients are infinite, and these mean nothing by themselves "
            "(set train.l2, such as 1e-3)",
            p.right == rows->count ? " without an error" : " in part");
    if (!p.converged && !grdi_session_asked_to_stop(s))
        grdi_session_note(s, "the solver has not converged after %lld iterations (set train.steps or train.l2 higher)",
                          (long long)p.done);
    if (p.converged && p.done > 0) grdi_session_note(s, "solved in %lld iterations of L-BFGS", (long long)p.done);
    return GRD_OK;
}

/* With no rows held out, how well those that were fitted are. */
static grd_status note_fit(grdi_session *s)
{
    grd_event event = {.part = 0};
    grdi_table_run *run = s->table;
    grd_status status = grdi_tabular_score(&run->evaluation, &run->target, run->split.rows[0], run->split.count[0],
                                           NULL, NULL, &event, s->error);
    if (status) return status;
    if (event.regression)
        grdi_session_note(s, "on the %lld rows fitted: rmse %.4g, mae %.4g, r2 %.4f", (long long)event.samples,
                          event.rmse, event.mae, event.figures[0].value);
    else
        grdi_session_note(s, "on the %lld rows fitted: loss %.4f, accuracy %.2f%%", (long long)event.samples,
                          event.loss, 100 * event.accuracy);
    return GRD_OK;
}

grd_status grdi_table_solve(grdi_session *s)
{
    grdi_table_run *run = s->table;
    int64_t width = run->features.width, outputs = grdi_tabular_outputs(&run->features);
    const grdi_rows rows = {give_row, s, run->split.count[0], width};
    double *weights = grdi_alloc_zero((size_t)(outputs * (width + 1)), sizeof(double));
    if (!weights) return grd_fail(s->error, GRD_E_MEMORY, "out of memory for a solution");
    grd_status status = read_solution(s, weights, outputs);
    if (!status)
        status =
            run->features.class_count ? solve_logistic(s, &rows, weights, outputs) : solve_linear(s, &rows, weights);
    if (!status) status = write_solution(s, weights, outputs);
    if (!status) status = note_fit(s);
    grdi_free(weights);
    return status;
}
