/* test_backward.c - gradients of graphs: several losses, stops, shared values, gradients of gradients. */
#include <gradus/gradus.h>

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

typedef struct bench {
    grd_engine *engine;
    grd_graph *graph;
    grd_tensor x;
} bench;

static bench start(void)
{
    bench b = {.engine = grd_engine_open("ref")};
    b.graph = grd_graph_new(grd_model_new(b.engine, 1));
    b.x = grd_input(b.graph, "x", GRD_F64, grd_scalar());
    return b;
}

static double value_at(bench *b, grd_tensor y, double x)
{
    double out = NAN;
    grd_program *program = grd_program_new(&y, 1);
    cr_assert(program != NULL, "%s", grd_graph_error(b->graph)->message);
    cr_assert(grd_program_feed(program, b->x, &x) == GRD_OK && grd_program_run(program) == GRD_OK, "run failed");
    cr_assert(grd_program_read(program, y, &out) == GRD_OK, "%s", grd_program_error(program)->message);
    return out;
}

static void expect(double got, double wanted, const char *what)
{
    cr_assert(fabs(got - wanted) <= 1e-12 * fmax(1, fabs(wanted)), "%s: %.15g, not %.15g", what, got, wanted);
}

Test(backward, higher_derivatives)
{
    bench b = start();
    grd_tensor y = grd_mul(grd_sin(b.x), grd_exp(b.x)); /* e^x sin x */
    grd_tensor first = grd_grad(y, b.x), second = grd_grad(first, b.x), third = grd_grad(second, b.x);
    double x = 0.7, e = exp(x), s = sin(x), c = cos(x);
    expect(value_at(&b, first, x), e * (s + c), "first");
    expect(value_at(&b, second, x), 2 * e * c, "second");
    expect(value_at(&b, third, x), 2 * e * (c - s), "third");
    grd_engine_close(b.engine);
}

Test(backward, several_losses_and_shared_inputs)
{
    bench b = start();
    grd_tensor square = grd_mul(b.x, b.x), losses[] = {grd_mul(square, b.x), grd_exp(square)}, wrt[] = {b.x, square},
               gradients[2];
    cr_assert(grd_gradients(losses, 2, wrt, 2, gradients) == GRD_OK, "%s", grd_graph_error(b.graph)->message);
    double x = 0.9;
    expect(value_at(&b, gradients[0], x), 3 * x * x + 2 * x * exp(x * x), "by x");
    expect(value_at(&b, gradients[1], x), x + exp(x * x), "by the square");
    grd_engine_close(b.engine);
}

Test(backward, stop_gradient_and_independence)
{
    bench b = start();
    grd_tensor y = grd_mul(b.x, grd_stop_gradient(grd_exp(b.x)));
    expect(value_at(&b, grd_grad(y, b.x), 0.3), exp(0.3), "stopped");
    grd_tensor other = grd_input(b.graph, "other", GRD_F64, grd_shape(2)), zero = grd_grad(y, other);
    double out[2] = {NAN, NAN};
    grd_program *program = grd_program_new(&zero, 1);
    cr_assert(grd_program_run(program) == GRD_OK && grd_program_read(program, zero, out) == GRD_OK, "run failed");
    cr_assert(out[0] == 0 && out[1] == 0, "the gradient by what the loss does not use is %g", out[0]);
    grd_engine_close(b.engine);
}

/* rms_norm's backward op has no rule of its own: its derivative goes through compose, here with the same input twice.
 */
Test(backward, through_compose)
{
    bench b = start();
    grd_tensor v = grd_reshape(b.x, grd_shape(1, 1)), row[] = {v, grd_mul(v, v), grd_exp(v)};
    grd_tensor y =
        grd_sum(grd_mul(grd_rms_norm(grd_concat(row, 3, 1), .eps = 1e-3), grd_concat(row, 3, 1)));
    grd_tensor first = grd_grad(y, b.x), second = grd_grad(first, b.x);
    double x = 0.4, h = 1e-4;
    double by_difference = (value_at(&b, first, x + h) - value_at(&b, first, x - h)) / (2 * h),
           exact = value_at(&b, second, x);
    cr_assert(fabs(exact - by_difference) < 1e-6 * fabs(exact), "second derivative %.12g, by differences %.12g", exact,
              by_difference);
    grd_engine_close(b.engine);
}

Test(backward, errors_name_scope_and_shapes)
{
    bench b = start();
    grd_scope_push(b.graph, "h3");
    grd_scope_push(b.graph, "proj");
    grd_tensor a = grd_input(b.graph, "a", GRD_F32, grd_shape(8, 16)),
               w = grd_input(b.graph, "w", GRD_F32, grd_shape(5, 7));
    grd_tensor bad = grd_relu(grd_matmul(a, w));
    cr_assert(grd_is_poison(bad), "poison did not spread");
    const char *message = grd_graph_error(b.graph)->message;
    cr_assert(strstr(message, "h3/proj: matmul: ") == message, "%s", message);
    cr_assert(strstr(message, "[8,16]") && strstr(message, "[5,7]"), "%s", message);
    grd_engine_close(b.engine);
    b = start();
    grd_grad(grd_input(b.graph, "v", GRD_F64, grd_shape(3)), b.x);
    cr_assert(strstr(grd_graph_error(b.graph)->message, "the loss must be one float, is f64[3]"), "%s",
              grd_graph_error(b.graph)->message);
    grd_engine_close(b.engine);
}
