/* lbfgs.c - limited-memory BFGS. */
#include "train/lbfgs.h"

#include "base/memory.h"

#include <math.h>
#include <string.h>

#define SUFFICIENT 1e-4 /* decrease, of the slope's promise */
#define CURVATURE 0.9   /* of the slope may be left */
enum { TRIALS_MAX = 40, HISTORY = 10 };

typedef struct state {
    grdi_lbfgs *search;
    double *x, *gradient, *direction, *trial, *trial_gradient;
    double *steps, *changes; /* [history][count], a ring */
    double *curvatures;      /* [history]: 1 / (change . step) */
    double *alphas;
    int32_t history, kept, newest;
    double value;
} state;

/* One point of the line: x + length * direction. */
typedef struct point {
    double length, value, slope;
} point;

static double dot(const double *a, const double *b, int64_t count)
{
    double sum = 0;
    for (int64_t i = 0; i < count; i++) sum += a[i] * b[i];
    return sum;
}

static double largest(const double *a, int64_t count)
{
    double most = 0;
    for (int64_t i = 0; i < count; i++) most = fmax(most, fabs(a[i]));
    return most;
}

/* direction = -H gradient, by the two loops over the pairs that are kept. */
static void find_direction(state *s)
{
    int64_t n = s->search->count;
    double scale = 1;
    for (int64_t i = 0; i < n; i++) s->direction[i] = -s->gradient[i];
    for (int32_t k = 0; k < s->kept; k++) {
        int32_t at = (s->newest - k + s->history) % s->history;
        const double *step = s->steps + at * n, *change = s->changes + at * n;
        s->alphas[at] = s->curvatures[at] * dot(step, s->direction, n);
        for (int64_t i = 0; i < n; i++) s->direction[i] -= s->alphas[at] * change[i];
        if (k == 0) scale = 1 / (s->curvatures[at] * dot(change, change, n));
    }
    if (s->kept)
        for (int64_t i = 0; i < n; i++) s->direction[i] *= scale;
    for (int32_t k = s->kept - 1; k >= 0; k--) {
        int32_t at = (s->newest - k + s->history) % s->history;
        const double *step = s->steps + at * n, *change = s->changes + at * n;
        double beta = s->curvatures[at] * dot(change, s->direction, n);
        for (int64_t i = 0; i < n; i++) s->direction[i] += (s->alphas[at] - beta) * step[i];
    }
}

static grd_status try_length(state *s, double length, point *p)
{
    int64_t n = s->search->count;
    for (int64_t i = 0; i < n; i++) s->trial[i] = s->x[i] + length * s->direction[i];
    p->length = length;
    grd_status status = s->search->evaluate(s->search->context, s->trial, &p->value, s->trial_gradient);
    p->slope = dot(s->trial_gradient, s->direction, n);
    if (isnan(p->value)) p->value = INFINITY;
    return status;
}

/* Where a cubic through both values and slopes is lowest, kept away from the ends. */
static double between(point a, point b)
{
    double d1 = a.slope + b.slope - 3 * (a.value - b.value) / (a.length - b.length);
    double square = d1 * d1 - a.slope * b.slope, width = b.length - a.length, best = NAN;
    if (square >= 0) {
        double d2 = copysign(sqrt(square), width);
        best = b.length - width * (b.slope + d2 - d1) / (b.slope - a.slope + 2 * d2);
    }
    double low = fmin(a.length, b.length), high = fmax(a.length, b.length), margin = 0.1 * (high - low);
    if (!(best > low + margin && best < high - margin)) best = 0.5 * (low + high);
    return best;
}

/* Between `low`, the best so far, and `high`; *found is the last one tried. */
static grd_status zoom(state *s, point start, point low, point high, point *found, bool *good)
{
    for (int k = 0; k < TRIALS_MAX; k++) {
        grd_status status = try_length(s, between(low, high), found);
        if (status) return status;
        if (found->value > start.value + SUFFICIENT * found->length * start.slope || found->value >= low.value) {
            high = *found;
        } else {
            if (fabs(found->slope) <= -CURVATURE * start.slope) return (*good = true), GRD_OK;
            if (found->slope * (high.length - low.length) >= 0) high = low;
            low = *found;
        }
        if (fabs(high.length - low.length) <= 1e-12 * fmax(1, low.length)) break;
    }
    *good = low.length > 0 && low.value < start.value; /* lower, if not by as much as was asked */
    return *good && found->length != low.length ? try_length(s, low.length, found) : GRD_OK;
}

static grd_status search_line(state *s, double first, point *found, bool *good)
{
    point start = {0, s->value, dot(s->gradient, s->direction, s->search->count)}, before = start;
    double length = first;
    *good = false;
    for (int k = 0; k < TRIALS_MAX; k++) {
        grd_status status = try_length(s, length, found);
        if (status) return status;
        bool high = found->value > start.value + SUFFICIENT * length * start.slope;
        if (high || (k > 0 && found->value >= before.value)) return zoom(s, start, before, *found, found, good);
        if (fabs(found->slope) <= -CURVATURE * start.slope) return (*good = true), GRD_OK;
        if (found->slope >= 0) return zoom(s, start, *found, before, found, good);
        before = *found;
        length *= 2;
    }
    *good = true; /* it falls on and on */
    return GRD_OK;
}

/* Keeps the pair of this step, where the function curves upward along it. */
static void remember(state *s)
{
    int64_t n = s->search->count;
    int32_t at = (s->newest + 1) % s->history;
    double *step = s->steps + at * n, *change = s->changes + at * n;
    for (int64_t i = 0; i < n; i++) {
        step[i] = s->trial[i] - s->x[i];
        change[i] = s->trial_gradient[i] - s->gradient[i];
    }
    double product = dot(step, change, n);
    if (!(product > 1e-300 && product > 1e-16 * dot(change, change, n))) return;
    s->curvatures[at] = 1 / product;
    s->newest = at;
    if (s->kept < s->history) s->kept++;
}

static grd_status iterate(state *s, bool *over)
{
    grdi_lbfgs *f = s->search;
    size_t bytes = (size_t)f->count * sizeof(double);
    point found;
    bool good;
    find_direction(s);
    if (!(dot(s->gradient, s->direction, f->count) < 0)) { /* what is remembered has been rounded away */
        s->kept = 0;
        find_direction(s);
    }
    double norm = sqrt(dot(s->gradient, s->gradient, f->count));
    grd_status status = search_line(s, s->kept ? 1 : fmin(1, 1 / norm), &found, &good);
    if (status) return status;
    if (!good) {
        bool steepest = s->kept == 0;
        s->kept = 0;
        *over = f->converged = steepest;
        return GRD_OK;
    }
    remember(s);
    memcpy(s->x, s->trial, bytes);
    memcpy(s->gradient, s->trial_gradient, bytes);
    s->value = found.value;
    f->done++;
    bool go_on = !f->iterated || f->iterated(f->context, f->done, s->value, norm);
    f->converged = largest(s->gradient, f->count) <= f->tolerance;
    *over = f->converged || !go_on;
    return GRD_OK;
}

grd_status grdi_lbfgs_run(grdi_lbfgs *f, double *x)
{
    int32_t history = f->history ? f->history : HISTORY;
    size_t n = (size_t)f->count;
    double *all = grdi_alloc_zero(4 * n + 2 * n * (size_t)history + 2 * (size_t)history, sizeof(double));
    if (!all) return GRD_E_MEMORY;
    state s = {.search = f, .x = x, .gradient = all, .direction = all + n, .trial = all + 2 * n, .history = history};
    s.trial_gradient = all + 3 * n;
    s.steps = all + 4 * n;
    s.changes = s.steps + n * (size_t)history;
    s.curvatures = s.changes + n * (size_t)history;
    s.alphas = s.curvatures + history;
    f->done = 0;
    grd_status status = f->evaluate(f->context, x, &s.value, s.gradient);
    bool over = f->converged = !status && largest(s.gradient, f->count) <= f->tolerance;
    while (!status && !over && f->done < f->iterations) status = iterate(&s, &over);
    f->value = s.value;
    grdi_free(all);
    return status;
}
