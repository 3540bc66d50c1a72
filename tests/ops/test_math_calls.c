/* test_math_calls.c - the typed calls of element-wise ops and reductions compute what their comments say: by the C
 * library, or by a loop over a small matrix. The ops themselves are checked through the table. */
#include "values.h"

#include <criterion/criterion.h>
#include <gradus/gradus.h>
#include <math.h>
#include <string.h>

enum { ROWS = 2, COLUMNS = 3, COUNT = ROWS * COLUMNS };

static const double numbers[COUNT] = {0.3, -0.75, 1.5, 2.25, -2.5, 0.625}, others[COUNT] = {2, -3, 0.5, -1.25, 4, 0.25};

static grd_engine *engine;
static grd_graph *graph;
static grd_tensor x, y, positive, flags;
static values *known;

static void open_graph(void)
{
    engine = grd_engine_open("ref");
    graph = grd_graph_new(grd_model_new(engine, 1));
    known = values_new(graph);
    grd_dims dims = grd_shape(ROWS, COLUMNS);
    x = grd_input(graph, "x", GRD_F32, dims);
    y = grd_input(graph, "y", GRD_F32, dims);
    positive = grd_abs(x);
    flags = grd_gt(x, y);
    values_set(known, x, numbers);
    values_set(known, y, others);
}

static void close_graph(void)
{
    values_free(known);
    grd_engine_close(engine);
}

/* `t` has these dimensions and values. */
static void expect(const char *call, grd_tensor t, grd_dims dims, const double *want)
{
    char message[512];
    cr_assert(!grd_is_poison(t), "%s: %s", call, grd_graph_error(graph)->message);
    cr_assert(grd_dims_equal(grd_tensor_dims(t), dims), "%s: another shape", call);
    cr_assert(values_run(known, &t, 1, message, sizeof(message)), "%s: %s", call, message);
    for (int64_t i = 0; i < grd_dims_count(dims); i++) {
        double got = values_get(known, t)[i];
        cr_expect(fabs(got - want[i]) <= 1e-12 * fmax(1, fabs(want[i])), "%s: element %d is %.15g, should be %.15g",
                  call, (int)i, got, want[i]);
    }
}

/* ---- element by element ---- */

static double softplus(double v)
{
    return log1p(exp(v));
}

static double normal_part(double v)
{
    return 0.5 * erfc(-v / sqrt(2));
}

static double gelu(double v)
{
    return v * normal_part(v);
}

static double gelu_tanh(double v)
{
    return 0.5 * v * (1 + tanh(sqrt(2 / M_PI) * (v + 0.044715 * v * v * v)));
}

static double relu_squared(double v)
{
    return v > 0 ? v * v : 0;
}

static double silu(double v)
{
    return v / (1 + exp(-v));
}

static double rsqrt(double v)
{
    return 1 / sqrt(v);
}

Test(math_calls, functions_of_one_number, .init = open_graph, .fini = close_graph)
{
    static const struct {
        const char *name;
        grd_tensor (*call)(grd_tensor);
        double (*want)(double);
        bool positive;
    } calls[] = {
        {"exp", grd_exp, exp, false},    {"expm1", grd_expm1, expm1, false},
        {"log", grd_log, log, true},     {"log1p", grd_log1p, log1p, true},
        {"sqrt", grd_sqrt, sqrt, true},  {"rsqrt", grd_rsqrt, rsqrt, true},
        {"sin", grd_sin, sin, false},    {"cos", grd_cos, cos, false},
        {"tan", grd_tan, tan, false},    {"tanh", grd_tanh, tanh, false},
        {"erf", grd_erf, erf, false},    {"floor", grd_floor, floor, false},
        {"ceil", grd_ceil, ceil, false}, {"round", grd_round, rint, false},
        {"abs", grd_abs, fabs, false},   {"softplus", grd_softplus, softplus, false},
        {"gelu", grd_gelu, gelu, false}, {"gelu_tanh", grd_gelu_tanh, gelu_tanh, false},
        {"silu", grd_silu, silu, false}, {"relu_squared", grd_relu_squared, relu_squared, false},
    };
    for (size_t k = 0; k < sizeof(calls) / sizeof(calls[0]); k++) {
        double want[COUNT];
        for (int i = 0; i < COUNT; i++) want[i] = calls[k].want(calls[k].positive ? fabs(numbers[i]) : numbers[i]);
        expect(calls[k].name, calls[k].call(calls[k].positive ? positive : x), grd_tensor_dims(x), want);
    }
    double want[COUNT];
    for (int i = 0; i < COUNT; i++) want[i] = numbers[i] > 0 ? numbers[i] : 0.7 * expm1(numbers[i]);
    expect("elu", grd_elu(x, 0.7), grd_tensor_dims(x), want);
    for (int i = 0; i < COUNT; i++) want[i] = numbers[i] > 0 ? numbers[i] : 0.1 * numbers[i];
    expect("leaky_relu", grd_leaky_relu(x, 0.1), grd_tensor_dims(x), want);
    for (int i = 0; i < COUNT; i++) want[i] = fmin(fmax(numbers[i], -1), 2);
    expect("clamp", grd_clamp(x, -1, 2), grd_tensor_dims(x), want);
}

static double difference(double a, double b)
{
    return a - b;
}

static double quotient(double a, double b)
{
    return a / b;
}

Test(math_calls, functions_of_two_numbers, .init = open_graph, .fini = close_graph)
{
    static const struct {
        const char *name;
        grd_tensor (*call)(grd_tensor, grd_tensor);
        double (*want)(double, double);
    } calls[] = {
        {"sub", grd_sub, difference}, {"div", grd_div, quotient},     {"atan2", grd_atan2, atan2},
        {"fmod", grd_fmod, fmod},     {"maximum", grd_maximum, fmax}, {"minimum", grd_minimum, fmin},
    };
    double want[COUNT];
    for (size_t k = 0; k < sizeof(calls) / sizeof(calls[0]); k++) {
        for (int i = 0; i < COUNT; i++) want[i] = calls[k].want(numbers[i], others[i]);
        expect(calls[k].name, calls[k].call(x, y), grd_tensor_dims(x), want);
    }
    for (int i = 0; i < COUNT; i++) want[i] = pow(fabs(numbers[i]), others[i]);
    expect("pow", grd_pow(positive, y), grd_tensor_dims(x), want);
}

/* ---- reductions ---- */

static double least(const double *v, int n, int step)
{
    return n == 1 ? v[0] : fmin(v[0], least(v + step, n - 1, step));
}

static double largest(const double *v, int n, int step)
{
    return n == 1 ? v[0] : fmax(v[0], largest(v + step, n - 1, step));
}

static double sum(const double *v, int n, int step)
{
    return n == 1 ? v[0] : v[0] + sum(v + step, n - 1, step);
}

static double mean(const double *v, int n, int step)
{
    return sum(v, n, step) / n;
}

static double product(const double *v, int n, int step)
{
    return n == 1 ? v[0] : v[0] * product(v + step, n - 1, step);
}

static double log_sum_exp(const double *v, int n, int step)
{
    double total = 0;
    for (int i = 0; i < n; i++) total += exp(v[i * step]);
    return log(total);
}

static double variance(const double *v, int n, int step, double correction)
{
    double total = 0;
    for (int i = 0; i < n; i++) total += pow(v[i * step] - mean(v, n, step), 2);
    return total / (n - correction);
}

static const int64_t last_axis[] = {-1};

Test(math_calls, reductions, .init = open_graph, .fini = close_graph)
{
#define OF(NAME, WANT)                                                                                                 \
    {                                                                                                                  \
#NAME, grd_##NAME, grd_##NAME##_axis, grd_##NAME##_axes, WANT                                                  \
    }
    static const struct {
        const char *name;
        grd_tensor (*all)(grd_tensor);
        grd_tensor (*axis)(grd_tensor, int64_t, bool);
        grd_tensor (*axes)(grd_tensor, const int64_t *, int32_t, bool);
        double (*want)(const double *, int, int);
    } calls[] = {OF(sum, sum),   OF(mean, mean),    OF(max, largest),
                 OF(min, least), OF(prod, product), OF(logsumexp, log_sum_exp)};
    double columns[COLUMNS], rows[ROWS];
    for (size_t k = 0; k < sizeof(calls) / sizeof(calls[0]); k++) {
        double all = calls[k].want(numbers, COUNT, 1);
        for (int i = 0; i < COLUMNS; i++) columns[i] = calls[k].want(numbers + i, ROWS, COLUMNS);
        for (int i = 0; i < ROWS; i++) rows[i] = calls[k].want(numbers + i * COLUMNS, COLUMNS, 1);
        expect(calls[k].name, calls[k].all(x), grd_scalar(), &all);
        expect(calls[k].name, calls[k].axis(x, 0, true), grd_shape(1, COLUMNS), columns);
        expect(calls[k].name, calls[k].axes(x, last_axis, 1, false), grd_shape(ROWS), rows);
    }
    double all = variance(numbers, COUNT, 1, 0);
    for (int i = 0; i < COLUMNS; i++) columns[i] = variance(numbers + i, ROWS, COLUMNS, 1);
    for (int i = 0; i < ROWS; i++) rows[i] = variance(numbers + i * COLUMNS, COLUMNS, 1, 1);
    expect("variance", grd_variance(x), grd_scalar(), &all);
    expect("variance_axis", grd_variance_axis(x, 0, false, 1), grd_shape(COLUMNS), columns);
    expect("variance_axes", grd_variance_axes(x, last_axis, 1, true, 1), grd_shape(ROWS, 1), rows);
}

Test(math_calls, places_and_truths, .init = open_graph, .fini = close_graph)
{
    /* x > y: 0 1 1 / 1 0 1 */
    expect("argmax", grd_argmax(x, 1, false), grd_shape(ROWS), (double[]){2, 0});
    expect("argmin", grd_argmin(x, 0, true), grd_shape(1, COLUMNS), (double[]){0, 1, 1});
    expect("any", grd_any(flags), grd_scalar(), (double[]){1});
    expect("all", grd_all(flags), grd_scalar(), (double[]){0});
    expect("any_axis", grd_any_axis(flags, 0, true), grd_shape(1, COLUMNS), (double[]){1, 1, 1});
    expect("all_axis", grd_all_axis(flags, 0, false), grd_shape(COLUMNS), (double[]){0, 0, 1});
    expect("any_axes", grd_any_axes(grd_not(flags), last_axis, 1, false), grd_shape(ROWS), (double[]){1, 1});
    expect("all_axes", grd_all_axes(flags, last_axis, 1, true), grd_shape(ROWS, 1), (double[]){0, 0});
}

/* 3 x 5 points become 2 x 2 means of overlapping windows, as PyTorch's AdaptiveAvgPool2d takes them. */
Test(math_calls, adaptive_average_pool, .init = open_graph, .fini = close_graph)
{
    double image[15];
    for (int i = 0; i < 15; i++) image[i] = i * i;
    grd_tensor t = grd_input(graph, "image", GRD_F32, grd_shape(1, 3, 5, 1));
    values_set(known, t, image);
    double want[4] = {0};
    for (int row = 0; row < 2; row++)
        for (int column = 0; column < 2; column++)
            for (int k = 0; k < 6; k++) /* rows 0..1 or 1..2, columns 0..2 or 2..4 */
                want[row * 2 + column] += image[(row + k / 3) * 5 + 2 * column + k % 3] / 6;
    expect("adaptive_average_pool", grd_adaptive_average_pool(t, (int64_t[]){2, 2}), grd_shape(1, 2, 2, 1), want);
}
