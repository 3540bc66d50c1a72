/* test_statistics.c - measured steps: what they say is true, and they train as others do. */
#include "tiny.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { STEPS = 4, MICROS = 2 };

static grd_optimizer optimizer_of(grd_optimizer_kind kind)
{
    static grd_optimizer (*const makers[])(double) = {NULL, grd_adamw, grd_adam, grd_sgd, grd_lion, grd_muon};
    grd_optimizer o = makers[kind](0.01);
    if (kind == GRD_OPTIMIZER_SGD) o.momentum = 0.9;
    return o;
}

static grd_step *step_of(tiny *t, grd_optimizer_kind kind, bool statistics)
{
    static const char *const vectors[] = {"embed/**", "norm/**", "**/norm*/**", "**/*_norm/**"};
    grd_group others[4];
    for (int i = 0; i < 4; i++) others[i] = (grd_group){.match = vectors[i], .optimizer = grd_adamw(0.01)};
    tiny_build(t, "cpu", true);
    grd_step *step = grd_step_new(t->loss, optimizer_of(kind), .clip_norm = 0.5, .accumulate = MICROS,
                                  .sum_micro = true, .ema_decay = 0.9, .statistics = statistics, .groups = others,
                                  .group_count = kind == GRD_OPTIMIZER_MUON ? 4 : 0);
    cr_assert(step, "%s", grd_engine_error(t->engine)->message);
    return step;
}

static void one_step(tiny *t, grd_step *step, bool measured, grd_metrics *m)
{
    if (measured) cr_assert(grd_step_measure(step) == GRD_OK, "%s", grd_step_error(step)->message);
    for (int i = 0; i < MICROS; i++) {
        tiny_feed(t, step, 1.0f / MICROS);
        cr_assert(grd_step_run(step, m) == GRD_OK, "%s", grd_step_error(step)->message);
    }
}

static void *read_variable(grd_model *model, const grd_variable *v)
{
    grd_error error = {GRD_OK, ""};
    void *data = malloc(v->size_bytes);
    cr_assert(grd_model_read(model, v->path, data, &error) == GRD_OK, "%s", error.message);
    return data;
}

Test(statistics, measured_steps_have_the_bits_of_others)
{
    for (grd_optimizer_kind kind = GRD_OPTIMIZER_ADAMW; kind <= GRD_OPTIMIZER_MUON; kind++) {
        tiny a, b;
        grd_step *plain = step_of(&a, kind, false), *watched = step_of(&b, kind, true);
        for (int i = 0; i < STEPS; i++) {
            grd_metrics one, other;
            one_step(&a, plain, false, &one);
            one_step(&b, watched, i != 2, &other);
            cr_assert(one.grad_norm == other.grad_norm && one.loss == other.loss, "optimizer %d, step %d", kind, i);
        }
        grd_variable v;
        cr_assert(grd_model_variable_count(a.model) == grd_model_variable_count(b.model));
        for (int64_t i = 0; grd_model_variable_at(a.model, i, &v); i++) {
            void *x = read_variable(a.model, &v), *y = read_variable(b.model, &v);
            cr_assert(memcmp(x, y, v.size_bytes) == 0, "optimizer %d: %s differs", kind, v.path);
            free(x);
            free(y);
        }
        tiny_close(&a);
        tiny_close(&b);
    }
}

static double rms(const float *x, const float *minus, int64_t count)
{
    double sum = 0;
    for (int64_t i = 0; i < count; i++) sum += pow((double)x[i] - (minus ? (double)minus[i] : 0), 2);
    return sqrt(sum / (double)count);
}

static void expect_close(double found, double true_value, const char *what, const char *path)
{
    /* sums of some thousand squares in f32 blocks; changes are differences of rounded weights on both sides */
    cr_assert(fabs(found - true_value) <= 1e-5 * true_value, "%s of %s: %.9g, not %.9g", what, path, found, true_value);
}

/* Compares what a measured step says of each parameter with what reading its weights and gradients says. */
static void check_step(grd_model *model, grd_step *step, void (*run)(void *context), void *context, int64_t least)
{
    enum { MOST = 512 };
    grd_parameter_statistics s;
    grd_variable v;
    float *before[MOST] = {NULL};
    int64_t count = 0;
    char path[256];
    for (; grd_model_variable_at(model, count, &v); count++)
        if (v.kind == GRD_VARIABLE_PARAMETER) before[count] = read_variable(model, &v);
    cr_assert(grd_step_measure(step) == GRD_OK);
    run(context);
    int32_t found = 0;
    for (int32_t i = 0; grd_step_statistics_at(step, i, &s); i++, found++) {
        int64_t at = 0;
        while (grd_model_variable_at(model, at, &v) && strcmp(v.path, s.path) != 0) at++;
        float *after = read_variable(model, &v);
        snprintf(path, sizeof path, "gradient/%s", s.path);
        grd_variable of_gradient;
        cr_assert(grd_model_variable_find(model, path, &of_gradient));
        float *gradient = read_variable(model, &of_gradient);
        cr_assert(s.count == grd_dims_count(v.dims));
        expect_close(s.weight_rms, rms(before[at], NULL, s.count), "weight", s.path);
        expect_close(s.gradient_rms, rms(gradient, NULL, s.count), "gradient", s.path);
        expect_close(s.update_rms, rms(after, before[at], s.count), "update", s.path);
        cr_assert(s.update_rms > 0, "%s", s.path);
        free(after);
        free(gradient);
    }
    cr_assert(found >= least, "%d parameters", found);
    for (int64_t i = 0; i < count; i++) free(before[i]);
}

typedef struct trial {
    tiny *t;
    grd_step *step;
} trial;

static void run_tiny(void *context)
{
    trial *x = context;
    grd_metrics m;
    one_step(x->t, x->step, false, &m);
}

Test(statistics, they_are_those_of_weights_and_gradients)
{
    for (grd_optimizer_kind kind = GRD_OPTIMIZER_ADAMW; kind <= GRD_OPTIMIZER_MUON; kind++) {
        tiny t;
        grd_parameter_statistics s;
        trial x = {&t, step_of(&t, kind, true)};
        cr_assert(!grd_step_statistics_at(x.step, 0, &s), "nothing has been measured");
        for (int i = 0; i < 3; i++) check_step(t.model, x.step, run_tiny, &x, 10);
        run_tiny(&x);
        cr_assert(!grd_step_statistics_at(x.step, 0, &s), "the last step was not measured");
        tiny_close(&t);
    }
}

static void run_micro(void *context)
{
    cr_assert(grd_step_run(context, NULL) == GRD_OK, "%s", grd_step_error(context)->message);
}

/* A matrix that is measured in more than one piece; a step that cannot be measured says so. */
Test(statistics, of_large_parameters)
{
    grd_engine *engine = grd_engine_open("cpu", .threads = 2);
    grd_model *model = grd_model_new(engine, 3);
    grd_graph *graph = grd_graph_new(model);
    float x[2000];
    for (int i = 0; i < 2000; i++) x[i] = (float)sin(i);
    grd_tensor y = grd_linear(grd_constant(graph, GRD_F32, grd_shape(2, 1000), x), "wide", 2200);
    grd_step *step = grd_step_new(grd_mean(grd_square(y)), grd_sgd(0.1), .statistics = true);
    cr_assert(step, "%s", grd_engine_error(engine)->message);
    check_step(model, step, run_micro, step, 2);
    grd_plan_report report, plain_report;
    cr_assert(grd_step_report(step, &report) == GRD_OK);
    cr_assert(grd_step_high_water(step) == report.arena_bytes, "planned %zu bytes of arena, used %zu",
              report.arena_bytes, grd_step_high_water(step));
    grd_step *plain = grd_step_new(grd_mean(grd_square(y)), grd_sgd(0.1));
    cr_assert(grd_step_measure(plain) == GRD_E_STATE && strstr(grd_step_error(plain)->message, ".statistics"));
    cr_assert(grd_step_report(plain, &plain_report) == GRD_OK);
    size_t matrix = 2200 * 1000 * sizeof(float);
    cr_assert(report.arena_bytes > matrix && plain_report.arena_bytes < matrix, "held twice only where it is measured");
    grd_engine_close(engine);
}
