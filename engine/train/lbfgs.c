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
    double *steps, *changes; /* [history][count], a ring; [count] where the caller keeps it */
    double *curvatures;      /* [history]: 1 / (change . step) */
    double *alphas;
    int32_t history, kept, newest;
    double value;
} state;

/* The pair at that place of the ring, valid until the next call. */
static void recall(state *s, int32_t at, double **step, double **change)
{
    int64_t n = s->search->keep ? 0 : s->search->count;
    *step = s->steps + at * n;
    *change = s->changes + at * n;
    if (s->search->keep) s->search->recall(s->search->context, at, *step, *change);
}

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
    double scale = 1, *step, *change;
    for (int64_t i = 0; i < n; i++) s->direction[i] = -s->gradient[i];
    for (int32_t k = 0; k < s->kept; k++) {
        int32_t at = (s->newest - k + s->history) % s->history;
        recall(s, at, &step, &change);
        s->alphas[at] = s->curvatures[at] * dot(step, s->direction, n);
        for (int64_t i = 0; i < n; i++) s->direction[i] -= s->alphas[at] * change[i];
        if (k == 0) scale = 1 / (s->curvatures[at] * dot(change, change, n));
    }
    if (s->kept)
        for (int64_t i = 0; i < n; i++) s->direction[i] *= scale;
    for (int32_t k = s->kept - 1; k >= 0; k--) {
        int32_t at = (s->newest - k + s->history) % s->history;
        recall(s, at, &step, &change);
        double beta = s->curvatures[at] * dot(change, s->direction, n);
        for (int64_t i = 0; i < n; i++) s->direction[i] += (s->alphas[at] - beta) * step[i];
    }
}

static grd_status try_length(state *s, double length, point *p)
{
    int64_t n = s->search->count;
    for (int64_t i = 0; i < n; i++) s->trial[i] = s->x[i] + length * s->direction[i];
    p->length = length;
    s->search->evaluated++;
    grd_status status = s->search->evaluate(s->search->context, s->trial, &p->value, s->trial_gradient);
    p->slope = dot(s->trial_gradient, s->direction, n);
    if (isnan(p->value) || isnan(p->slope)) p->value = INFINITY;
    return status;
}

/* It falls by as much as the slope promises. */
static bool falls(point start, point p)
{
    return p.value <= start.value + SUFFICIENT * p.length * start.slope;
}

/* Both conditions hold, the first within what values can tell. */
static bool accepted(const state *s, point start, point p)
{
    double noise = s->search->noise;
    bool equal = noise > 0 && p.value <= start.value + noise * fabs(start.value);
    return (falls(start, p) || equal) && fabs(p.slope) <= -CURVATURE * start.slope;
}

/* Where a cubic through both values and slopes is lowest; NaN: nowhere. */
static double cubic(point a, point b)
{
    double d1 = a.slope + b.slope - 3 * (a.value - b.value) / (a.length - b.length);
    double square = d1 * d1 - a.slope * b.slope, width = b.length - a.length, d2 = copysign(sqrt(square), width);
    return b.length - width * (b.slope + d2 - d1) / (b.slope - a.slope + 2 * d2);
}

/* The same, kept away from the ends. */
static double between(point a, point b)
{
    double best = cubic(a, b);
    double low = fmin(a.length, b.length), high = fmax(a.length, b.length), margin = 0.1 * (high - low);
    if (!(best > low + margin && best < high - margin)) best = 0.5 * (low + high);
    return best;
}

/* Further on than b: where the cubic is lowest, within reason; twice as far where it falls on and on. */
static double beyond(point a, point b)
{
    double best = cubic(a, b), least = b.length + 0.01 * (b.length - a.length);
    return isnan(best) ? 2 * b.length : fmin(fmax(best, least), 10 * b.length);
}

/* Between `low`, the best so far, and `high`; *found is the last one tried. */
static grd_status zoom(state *s, point start, point low, point high, point *found, bool *good)
{
    for (int k = 0; k < TRIALS_MAX; k++) {
        grd_status status = try_length(s, between(low, high), found);
        if (status) return status;
        if (accepted(s, start, *found) && (s->search->noise > 0 || found->value < low.value))
            return (*good = true), GRD_OK;
        if (!falls(start, *found) || found->value >= low.value) {
            high = *found;
        } else {
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
        bool rises = k > 0 && found->value >= before.value;
        if (accepted(s, start, *found) && (s->search->noise > 0 || !rises)) return (*good = true), GRD_OK;
        if (!falls(start, *found) || rises) return zoom(s, start, before, *found, found, good);
        if (found->slope >= 0) return zoom(s, start, *found, before, found, good);
        length = beyond(before, *found);
        before = *found;
    }
    *good = true; /* it falls on and on */
    return GRD_OK;
}

/* Keeps the pair of this step, where the function curves upward along it. */
static void remember(state *s)
{
    int64_t n = s->search->count;
    int32_t at = (s->newest + 1) % s->history;
    double *step = s->steps + (s->search->keep ? 0 : at * n), *change = s->changes + (s->search->keep ? 0 : at * n);
    for (int64_t i = 0; i < n; i++) {
        step[i] = s->trial[i] - s->x[i];
        change[i] = s->trial_gradient[i] - s->gradient[i];
    }
    double product = dot(step, change, n);
    if (!(product > 1e-300 && product > 1e-16 * dot(change, change, n))) return;
    s->curvatures[at] = 1 / product;
    if (s->search->keep) s->search->keep(s->search->context, at, step, change);
    s->newest = at;
    if (s->kept < s->history) s->kept++;
}

/* Neither x nor the value changes by more than `change`. */
static bool stands_still(const state *s, point found)
{
    double change = s->search->change;
    if (!(change > 0)) return false;
    return fabs(found.value - s->value) < change || found.length * largest(s->direction, s->search->count) <= change;
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
    double rate = f->rate > 0 ? f->rate : 1;
    grd_status status = search_line(s, rate * (s->kept ? 1 : fmin(1, 1 / norm)), &found, &good);
    if (status) return status;
    if (!good) {
        bool steepest = s->kept == 0;
        s->kept = 0;
        *over = f->converged = steepest;
        return GRD_OK;
    }
    remember(s);
    f->still = stands_still(s, found);
    memcpy(s->x, s->trial, bytes);
    memcpy(s->gradient, s->trial_gradient, bytes);
    s->value = found.value;
    f->done++;
    bool go_on = !f->iterated || f->iterated(f->context, f->done, s->value, norm);
    f->converged = largest(s->gradient, f->count) <= f->tolerance;
    *over = f->converged || !go_on || f->still || (f->evaluations && f->evaluated >= f->evaluations);
    return GRD_OK;
}

static int32_t history_of(const grdi_lbfgs *f)
{
    return f->history ? f->history : HISTORY;
}

size_t grdi_lbfgs_memory(const grdi_lbfgs *f)
{
    size_t n = (size_t)f->count, pairs = f->keep ? 1 : (size_t)history_of(f);
    return 4 * n + 2 * n * pairs + 2 * (size_t)history_of(f);
}

grd_status grdi_lbfgs_run(grdi_lbfgs *f, double *x)
{
    size_t n = (size_t)f->count, pairs = f->keep ? 1 : (size_t)history_of(f);
    double *all = f->memory ? f->memory : grdi_alloc_zero(grdi_lbfgs_memory(f), sizeof(double));
    if (!all) return GRD_E_MEMORY;
    state s = {.search = f, .x = x, .gradient = all, .direction = all + n, .trial = all + 2 * n};
    s.history = history_of(f);
    s.trial_gradient = all + 3 * n;
    s.steps = all + 4 * n;
    s.changes = s.steps + n * pairs;
    s.alphas = s.changes + n * pairs;
    s.curvatures = f->keep ? f->curvatures : s.alphas + s.history;
    if (f->keep) s.kept = f->kept, s.newest = f->newest;
    f->done = 0;
    f->still = false;
    f->evaluated = 1;
    grd_status status = f->evaluate(f->context, x, &s.value, s.gradient);
    bool over = f->converged = !status && largest(s.gradient, f->count) <= f->tolerance;
    while (!status && !over && f->done < f->iterations) status = iterate(&s, &over);
    f->value = s.value;
    f->kept = s.kept;
    f->newest = s.newest;
    if (!f->memory) grdi_free(all);
    return status;
}
