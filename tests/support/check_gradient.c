/* check_gradient.c - derivatives against central differences. */
#include "check.h"

#include "base/random.h"

#include <gradus/ops.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define WRT_MAX (GRDI_INPUTS_MAX + GRDI_OUTPUTS_MAX)

static bool wrong(char *message, const char *format, ...) __attribute__((format(printf, 2, 3)));

static bool wrong(char *message, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(message, CHECK_TEXT, format, args);
    va_end(args);
    return false;
}

static int64_t count_of(grd_tensor t) { return grd_dims_count(grd_tensor_dims(t)); }

/* `count` numbers in -1..1. */
static double *random_numbers(int64_t count, uint64_t seed)
{
    double *numbers = test_alloc((size_t)count, sizeof *numbers);
    for (int64_t i = 0; i < count; i++)
        numbers[i] = 2 * grdi_unit(grdi_random_u32(seed, 1, 2, (uint64_t)i)) - 1;
    return numbers;
}

/* What the derivatives are taken of and by. */
typedef struct sweep {
    op_case *c;
    values *v;
    uint32_t outputs;        /* a bit for each output that the loss sums */
    grd_tensor scalar;       /* f64 */
    grd_tensor wrt[WRT_MAX]; /* float inputs and weights of the case */
    double *at[WRT_MAX];     /* their values */
    int32_t wrt_count, weight_count;
    double *owned[2 * WRT_MAX];
    int32_t owned_count;
} sweep;

/* An input node with random weights in -1..1, of the type of `like`. */
static grd_tensor weights_like(sweep *s, grd_tensor like)
{
    char name[16];
    snprintf(name, sizeof name, "w%d", s->weight_count);
    grd_tensor w = grd_input(s->c->graph, name, grd_tensor_dtype(like), grd_tensor_dims(like));
    if (!w.node)
        return w;
    double *data = random_numbers(count_of(like), 1000 + (uint64_t)s->weight_count++);
    s->owned[s->owned_count++] = data;
    values_set(s->v, w, data);
    return w;
}

/* sum + the sum of all of weights * x, in f64. */
static grd_tensor add_weighted(grd_tensor sum, grd_tensor x, grd_tensor weights)
{
    grd_tensor part = grd_sum(grd_cast(grd_mul(x, weights), GRD_F64));
    return sum.node ? grd_add(sum, part) : part;
}

static bool all_finite(const double *x, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        if (!isfinite(x[i]))
            return false;
    return true;
}

/* The float outputs that the reference gives for this sample, but those that are not finite: nothing to compare there.
 */
static bool usable_outputs(sweep *s, uint32_t *mask, char *message)
{
    *mask = 0;
    if (!values_run(s->v, s->c->out, s->c->out_count, message, CHECK_TEXT))
        return false;
    for (int32_t o = 0; o < s->c->out_count; o++) {
        grd_tensor out = s->c->out[o];
        bool is_float = grd_dtype_is_float(grd_tensor_dtype(out));
        if (is_float && all_finite(values_get(s->v, out), count_of(out)))
            *mask |= 1u << o;
    }
    return true;
}

/* loss = sum over the chosen outputs of <weights, output>; order 2: the sum over inputs of <weights, gradient of loss>.
 */
static bool build(sweep *s, int32_t order, char *message)
{
    op_case *c = s->c;
    grd_tensor gradients[WRT_MAX], loss = {NULL, 0};
    for (int32_t i = 0; i < c->in_count; i++) {
        if (c->parsed.in[i].from || !grd_dtype_is_float(grd_tensor_dtype(c->in[i])))
            continue;
        s->at[s->wrt_count] = c->data[i];
        s->wrt[s->wrt_count++] = c->in[i];
    }
    int32_t inputs = s->wrt_count;
    if (inputs == 0)
        return true; /* nothing to differentiate by */
    for (int32_t o = 0; o < c->out_count; o++) {
        if (!(s->outputs >> o & 1))
            continue;
        grd_tensor w = weights_like(s, c->out[o]);
        loss = add_weighted(loss, c->out[o], w);
        s->at[s->wrt_count] = s->owned[s->owned_count - 1];
        s->wrt[s->wrt_count++] = w;
    }
    s->scalar = loss;
    if (order == 1)
        s->wrt_count = inputs; /* the loss is linear in its weights: nothing to learn there */
    if (order == 2 && !grd_gradients(&loss, 1, s->wrt, inputs, gradients)) {
        s->scalar = (grd_tensor){NULL, 0};
        for (int32_t i = 0; i < inputs; i++)
            s->scalar = add_weighted(s->scalar, gradients[i], weights_like(s, gradients[i]));
    }
    const grd_error *error = grd_graph_error(c->graph);
    return !error->status || wrong(message, "%s", error->message);
}

static bool scalar_at(sweep *s, int32_t k, const double *direction, double step, double *result, char *message)
{
    int64_t count = count_of(s->wrt[k]);
    double *moved = test_alloc((size_t)count, sizeof *moved);
    for (int64_t i = 0; i < count; i++)
        moved[i] = s->at[k][i] + step * direction[i];
    values_set(s->v, s->wrt[k], moved);
    free(moved);
    if (!values_run(s->v, &s->scalar, 1, message, CHECK_TEXT))
        return false;
    *result = values_get(s->v, s->scalar)[0];
    return true;
}

/* Central differences of fourth order: the error is step^4 / 30 times the fifth derivative, about 1e-17, and rounding
 * gives about 1e-12 times the scalar; a rule that is wrong is off by far more than the 1e-6 allowed. */
static bool compare_direction(sweep *s, int32_t k, grd_tensor gradient, uint64_t seed, char *message)
{
    const double h = 1e-4;
    int64_t count = count_of(s->wrt[k]);
    double *direction = random_numbers(count, seed), f[4], expected, found = 0, size = 0;
    bool ok = scalar_at(s, k, direction, 2 * h, &f[0], message) && scalar_at(s, k, direction, h, &f[1], message) &&
              scalar_at(s, k, direction, -h, &f[2], message) && scalar_at(s, k, direction, -2 * h, &f[3], message);
    values_set(s->v, s->wrt[k], s->at[k]);
    ok = ok && values_run(s->v, &gradient, 1, message, CHECK_TEXT);
    if (ok) {
        const double *g = values_get(s->v, gradient);
        expected = (8 * (f[1] - f[2]) - (f[0] - f[3])) / (12 * h);
        for (int64_t i = 0; i < count; i++) {
            found += g[i] * direction[i];
            size += fabs(g[i] * direction[i]);
        }
        double allowed = 1e-6 * fmax(fabs(expected), size / sqrt((double)count)) + 1e-9 * (1 + fabs(f[0]));
        if (!(fabs(found - expected) <= allowed))
            ok = wrong(message, "the derivative by %s is %.12g along a direction, finite differences say %.12g",
                       s->wrt[k].node->name, found, expected);
    }
    free(direction);
    return ok;
}

/* Ops that say NO_GRADIENT though their outputs follow their inputs: gradients end there on purpose. What else says it
 * must be flat, and is compared with finite differences like any other op. */
static bool is_cut(const grdi_op *op)
{
    static const char *const cut[] = {"stop_gradient", "adamw", "sgd", "lion", "ema"};
    for (size_t i = 0; i < sizeof cut / sizeof *cut; i++)
        if (strcmp(cut[i], op->name) == 0)
            return true;
    return false;
}

static bool all_zero(sweep *s, grd_tensor gradient, char *message)
{
    if (!values_run(s->v, &gradient, 1, message, CHECK_TEXT))
        return false;
    const double *g = values_get(s->v, gradient);
    for (int64_t i = 0, n = count_of(gradient); i < n; i++)
        if (g[i] != 0)
            return wrong(message, "NO_GRADIENT, yet element %lld of a gradient is %g", (long long)i, g[i]);
    return true;
}

/* One loss over the outputs of `mask` (0: all that can be used). `compare` false: only builds. */
static bool sweep_outputs(const grdi_op *op, int32_t index, int32_t order, uint32_t *mask, bool compare, char *message)
{
    op_case c;
    sweep s = {.c = &c};
    grd_tensor gradients[WRT_MAX];
    bool ok = op_case_open(&c, op, index, true, message);
    if (ok)
        s.v = op_case_values(&c);
    if (ok && !*mask)
        ok = usable_outputs(&s, mask, message);
    s.outputs = *mask;
    ok = ok && (!*mask || build(&s, order, message));
    if (ok && *mask && s.wrt_count && grd_gradients(&s.scalar, 1, s.wrt, s.wrt_count, gradients))
        ok = wrong(message, "%s", grd_graph_error(c.graph)->message);
    for (int32_t k = 0; ok && compare && *mask && k < s.wrt_count; k++) {
        bool counts = order == 1 || !(op->flags & GRDI_OP_NO_GRADIENT);
        *(order == 1 ? &checks_made.first : &checks_made.second) += counts;
        if (op->flags & GRDI_OP_NO_GRADIENT)
            ok = order > 1 || all_zero(&s, gradients[k], message);
        if (ok && !is_cut(op))
            ok = compare_direction(&s, k, gradients[k], 77, message) &&
                 compare_direction(&s, k, gradients[k], 78, message);
    }
    for (int32_t i = 0; i < s.owned_count; i++)
        free(s.owned[i]);
    values_free(s.v);
    op_case_close(&c);
    return ok;
}

static bool applies(const grdi_op *op, int32_t index)
{
    const grdi_sample *sample = &op->samples[index];
    return !sample->bad && !sample->large && !(op->flags & (GRDI_OP_SOURCE | GRDI_OP_EFFECT));
}

bool check_gradient(const grdi_op *op, int32_t index, int32_t order, char *message)
{
    char why[CHECK_TEXT] = "";
    uint32_t all = 0;
    if (!applies(op, index))
        return true;
    bool compare = !op->samples[index].no_gradient;
    bool ok = sweep_outputs(op, index, order, &all, compare, why);
    for (uint32_t o = 0; ok && (all & (all - 1)) && o < GRDI_OUTPUTS_MAX;
         o++) { /* each output alone, where there are several */
        uint32_t one = all & 1u << o;
        if (one)
            ok = sweep_outputs(op, index, order, &one, compare, why);
    }
    return ok || wrong(message, "%s sample %d: gradient of order %d: %s", op->name, index, order, why);
}

bool has_gradient(const grdi_op *op, int32_t order, char *message)
{
    for (int32_t i = 0, n = grdi_sample_count(op); i < n; i++) {
        uint32_t all = 0;
        if (applies(op, i) && !sweep_outputs(op, i, order, &all, false, message))
            return false;
    }
    return true;
}
