/* test_optimizer_calls.c - the typed calls that users write steps of their own with: optimizers on single tensors, and
 * losses and random values that no model here uses. Against the formulas of their headers, written out. */
#include <criterion/criterion.h>
#include <gradus/gradus.h>
#include <math.h>
#include <string.h>

enum { N = 5 };

static const float p0[N] = {1, -2, 0.5f, 3, 0}, g0[N] = {0.1f, -0.3f, 2, 0, 1}, m0[N] = {0.2f, 0, -1, 0.5f, 1},
                   v0[N] = {0.04f, 0.5f, 1, 0.01f, 2}, hyper0[4] = {0.1f, 1.25f, 2.5f, 0};

static grd_engine *engine;
static grd_graph *graph;
static grd_tensor p, g, m, v, hyper;

static void open_graph(void)
{
    engine = grd_engine_open("cpu", .threads = 1);
    graph = grd_graph_new(grd_model_new(engine, 1));
    p = grd_constant(graph, GRD_F32, grd_shape(N), p0);
    g = grd_constant(graph, GRD_F32, grd_shape(N), g0);
    m = grd_constant(graph, GRD_F32, grd_shape(N), m0);
    v = grd_constant(graph, GRD_F32, grd_shape(N), v0);
    hyper = grd_constant(graph, GRD_F32, grd_shape(4), hyper0);
}

static void close_graph(void)
{
    grd_engine_close(engine);
}

TestSuite(optimizer_calls, .init = open_graph, .fini = close_graph);

static grd_tensor scale_of(float scale)
{
    return grd_constant(graph, GRD_F32, grd_scalar(), &scale);
}

/* The values of `x` are `want`, to a few roundings. */
static void expect(grd_tensor x, const double *want, int count, const char *what)
{
    float got[64];
    grd_program *program = grd_program_new(&x, 1);
    cr_assert(program && count <= 64, "%s: %s", what, grd_graph_error(graph)->message);
    cr_assert(!grd_program_run(program) && !grd_program_read(program, x, got), "%s: a run", what);
    for (int i = 0; i < count; i++)
        cr_expect(fabs(got[i] - want[i]) <= 2e-6 * (1 + fabs(want[i])), "%s[%d] is %.9g, not %.9g", what, i, got[i],
                  want[i]);
    grd_program_free(program);
}

Test(optimizer_calls, adamw_and_adam)
{
    for (int coupled = 0; coupled < 2; coupled++) {
        grd_tensor updated[3], first = grd_adamw_update(p, g, m, v, hyper, scale_of(0.5f), updated, .beta1 = 0.8,
                                                        .weight_decay = 0.2, .coupled = coupled, .lr_scale = 3);
        double new_p[N], new_m[N], new_v[N], lr = 0.1f * 3.0;
        for (int i = 0; i < N; i++) {
            double gi = 0.5 * g0[i] + (coupled ? 0.2 * p0[i] : 0), pi = coupled ? p0[i] : p0[i] * (1 - lr * 0.2);
            new_m[i] = 0.8 * m0[i] + 0.2 * gi;
            new_v[i] = 0.999 * v0[i] + 0.001 * gi * gi;
            new_p[i] = pi - lr * new_m[i] * 1.25 / (sqrt(new_v[i] * 2.5) + 1e-8);
        }
        expect(first, new_p, N, "p");
        expect(updated[0], new_p, N, "updated[0]");
        expect(updated[1], new_m, N, "m");
        expect(updated[2], new_v, N, "v");
    }
    cr_assert(!grd_is_poison(grd_adamw_update(p, g, m, v, hyper, scale_of(1), NULL)), "nobody wants the moments");
}

Test(optimizer_calls, sgd)
{
    grd_tensor updated[2], none = {0};
    double plain[N], new_p[N], new_m[N];
    for (int i = 0; i < N; i++) {
        double gi = 2 * (double)g0[i] + 0.1 * p0[i];
        plain[i] = p0[i] - 0.1f * gi;
        new_m[i] = 0.9 * m0[i] + 0.75 * gi;
        new_p[i] = p0[i] - 0.1f * (gi + 0.9 * new_m[i]);
    }
    expect(grd_sgd_update(p, g, none, hyper, scale_of(2), NULL, .weight_decay = 0.1), plain, N, "without momentum");
    grd_sgd_update(p, g, m, hyper, scale_of(2), updated, .momentum = 0.9, .dampening = 0.25, .nesterov = true,
                   .weight_decay = 0.1);
    expect(updated[0], new_p, N, "p");
    expect(updated[1], new_m, N, "m");
    grd_tensor of_nothing = grd_sgd_update(p, g, none, hyper, scale_of(2), NULL, .momentum = 0.9);
    cr_assert(grd_is_poison(of_nothing), "momentum of nothing");
    cr_assert(strstr(grd_graph_error(graph)->message, "momentum needs"), "%s", grd_graph_error(graph)->message);
}

Test(optimizer_calls, lion)
{
    grd_tensor updated[2];
    double new_p[N], new_m[N];
    grd_lion_update(p, g, m, hyper, scale_of(1), updated, .weight_decay = 0.5);
    for (int i = 0; i < N; i++) {
        double direction = 0.9 * m0[i] + 0.1 * g0[i];
        new_p[i] = p0[i] * (1 - 0.1f * 0.5) - 0.1f * ((direction > 0) - (direction < 0));
        new_m[i] = 0.99 * m0[i] + 0.01 * g0[i];
    }
    expect(updated[0], new_p, N, "p");
    expect(updated[1], new_m, N, "m");
}

Test(optimizer_calls, a_negative_scale_leaves_all_as_it_was)
{
    grd_tensor updated[3];
    double old_p[N], old_m[N];
    for (int i = 0; i < N; i++) {
        old_p[i] = p0[i];
        old_m[i] = m0[i];
    }
    for (int k = 0; k < 2; k++) {
        grd_tensor scale = scale_of(k ? NAN : -1.0f);
        grd_adamw_update(p, g, m, v, hyper, scale, updated, .weight_decay = 1);
        expect(updated[0], old_p, N, "adamw: p");
        expect(updated[1], old_m, N, "adamw: m");
        grd_sgd_update(p, g, m, hyper, scale, updated, .momentum = 0.9, .weight_decay = 1);
        expect(updated[0], old_p, N, "sgd: p");
        expect(updated[1], old_m, N, "sgd: m");
        grd_lion_update(p, g, m, hyper, scale, updated, .weight_decay = 1);
        expect(updated[0], old_p, N, "lion: p");
        expect(updated[1], old_m, N, "lion: m");
    }
}

Test(optimizer_calls, ema)
{
    double want[N];
    for (int i = 0; i < N; i++) want[i] = 0.75 * p0[i] + 0.25 * g0[i];
    expect(grd_ema_update(p, g, 0.75), want, N, "ema");
    cr_assert(grd_is_poison(grd_ema_update(p, g, 1.5)), "a decay above 1");
}

Test(optimizer_calls, losses_element_by_element)
{
    double l1[N], huber[N], kl[N];
    for (int i = 0; i < N; i++) {
        double d = fabs((double)p0[i] - g0[i]), target = v0[i];
        l1[i] = d;
        huber[i] = d <= 0.7 ? 0.5 * d * d : 0.7 * (d - 0.35);
        kl[i] = target * (log(target) - p0[i]);
    }
    double sum = 0, mean = 0;
    expect(grd_l1(p, g), l1, N, "l1");
    expect(grd_huber(p, g, 0.7), huber, N, "huber");
    expect(grd_kl_div(p, v), kl, N, "kl_div");
    for (int i = 0; i < N; i++) sum += l1[i];
    mean = sum / N;
    expect(grd_mean(grd_l1(p, g)), &mean, 1, "mean");
}

/* Sixteen thousand of each: means and spreads within five standard errors, and another key gives others. */
Test(optimizer_calls, random_values)
{
    enum { COUNT = 1 << 14 };
    static float uniform[COUNT], normal[COUNT], again[COUNT];
    const int32_t keys[2][4] = {{1, 2, 3, 4}, {1, 2, 3, 5}};
    for (int k = 0; k < 2; k++) {
        grd_tensor key = grd_constant(graph, GRD_I32, grd_shape(4), keys[k]);
        grd_tensor out[2] = {grd_random_uniform(key, grd_shape(COUNT), -1, 3),
                             grd_random_normal(key, grd_shape(COUNT), 2, 3)};
        grd_program *program = grd_program_new(out, 2);
        cr_assert(program && !grd_program_run(program), "%s", grd_graph_error(graph)->message);
        memcpy(again, uniform, sizeof(again));
        grd_program_read(program, out[0], uniform);
        grd_program_read(program, out[1], normal);
        double sums[2] = {0}, squares[2] = {0};
        for (int i = 0; i < COUNT; i++) {
            cr_assert(uniform[i] >= -1 && uniform[i] < 3, "%g", uniform[i]);
            sums[0] += uniform[i];
            sums[1] += normal[i];
            squares[0] += pow(uniform[i] - 1, 2);
            squares[1] += pow(normal[i] - 2, 2);
        }
        double root = sqrt(COUNT);
        cr_expect(fabs(sums[0] / COUNT - 1) < 5 * sqrt(16.0 / 12) / root, "uniform mean %g", sums[0] / COUNT);
        cr_expect(fabs(sums[1] / COUNT - 2) < 5 * 3 / root, "normal mean %g", sums[1] / COUNT);
        cr_expect(fabs(squares[0] / COUNT - 16.0 / 12) < 5 * 1.2 / root, "uniform variance %g", squares[0] / COUNT);
        cr_expect(fabs(squares[1] / COUNT - 9) < 5 * 9 * sqrt(2) / root, "normal variance %g", squares[1] / COUNT);
    }
    cr_assert(memcmp(again, uniform, sizeof(again)) != 0, "another key, the same values");
}
