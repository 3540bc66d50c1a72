/* test_nn_calls.c - the typed calls of ops_nn.h: what their options become, their errors, and what the walk over the op
 * table does not see of dropout and of the loss head. */
#include "graph/graph.h"
#include "ops/table.h"
#include "values.h"

#include <gradus/ops.h>

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static grd_graph *graph;
static grd_engine *engine;

static void open_graph(void)
{
    engine = grd_engine_open("ref");
    graph = grd_graph_new(grd_model_new(engine, 1));
    cr_assert(graph, "no graph: %s", grd_engine_error(engine)->message);
}

static void close_graph(void)
{
    grd_engine_close(engine);
}

TestSuite(nn_calls, .init = open_graph, .fini = close_graph);

static grd_tensor input(const char *name, grd_dims dims)
{
    return grd_input(graph, name, GRD_F32, dims);
}

static int64_t int_of(grd_tensor t, const char *attr)
{
    cr_assert(t.node, "%s", grd_graph_error(graph)->message);
    return grdi_attr_int(t.node->attrs, attr);
}

static double float_of(grd_tensor t, const char *attr)
{
    cr_assert(t.node, "%s", grd_graph_error(graph)->message);
    return grdi_attr_float(t.node->attrs, attr);
}

/* The call gave poison and the graph's error holds `text`. */
static void expect_error(grd_tensor t, const char *text)
{
    cr_expect(grd_is_poison(t), "no error where '%s' was expected", text);
    cr_expect(strstr(grd_graph_error(graph)->message, text), "the error is '%s', expected '%s'",
              grd_graph_error(graph)->message, text);
}

Test(nn_calls, norm_options)
{
    grd_tensor x = input("x", grd_shape(3, 7)), w = input("w", grd_shape(7)), b = input("b", grd_shape(7));
    grd_tensor plain = grd_layer_norm(x), only_bias = grd_layer_norm(x, .bias = b, .eps = 0.5);
    cr_expect(float_of(plain, "eps") == 1e-5 && plain.node->input_count == 1);
    cr_expect(float_of(only_bias, "eps") == 0.5 && !int_of(only_bias, "has_gain") && int_of(only_bias, "has_bias"));
    cr_expect(grdi_same_tensor(only_bias.node->in[1], b), "the bias is not the second input");
    grd_tensor both = grd_layer_norm(x, .gain = w, .bias = b), rms = grd_rms_norm(x, .gain = w);
    cr_expect(grdi_same_tensor(both.node->in[1], w) && grdi_same_tensor(both.node->in[2], b));
    cr_expect(float_of(rms, "eps") == 1e-6 && int_of(rms, "has_gain") == 1);
    expect_error(grd_rms_norm(x, .bias = b), "rms_norm: takes no bias");
}

Test(nn_calls, attention_options)
{
    grd_tensor q = input("q", grd_shape(1, 5, 4, 8)), k = input("k", grd_shape(1, 5, 2, 8)), lse;
    grd_tensor segments = grd_input(graph, "segments", GRD_I32, grd_shape(3)), mask = input("mask", grd_shape(5, 5));
    grd_tensor out = grd_attention(q, k, k, .causal = true, .window = 3, .scale = 0.25, .mask = mask,
                                   .segments = segments, .lse = &lse);
    cr_expect(int_of(out, "causal") == 1 && int_of(out, "window") == 3 && float_of(out, "scale") == 0.25);
    cr_expect(int_of(out, "has_mask") == 1 && int_of(out, "has_segments") == 1 && out.node->input_count == 5);
    cr_expect(grdi_same_tensor(out.node->in[3], mask) && grdi_same_tensor(out.node->in[4], segments));
    cr_expect(grd_dims_equal(grd_tensor_dims(lse), grd_shape(1, 4, 5)), "lse is not [B,H,T]");
    grd_tensor plain = grd_attention(q, k, k);
    cr_expect(!int_of(plain, "causal") && int_of(plain, "window") == 0 && plain.node->input_count == 3);
    cr_expect(int_of(grd_rope(q, input("c", grd_shape(5, 4)), input("s", grd_shape(5, 4)), .interleaved = true),
                     "interleaved") == 1);
    expect_error(grd_attention(q, input("k3", grd_shape(1, 5, 3, 8)), k), "lengths or heads of k and v differ");
}

Test(nn_calls, cross_entropy_options)
{
    grd_tensor x = input("x", grd_shape(4, 7)), t = grd_input(graph, "t", GRD_I32, grd_shape(4));
    cr_expect(int_of(grd_cross_entropy(x, t), "ignore_index") == -100);
    cr_expect(int_of(grd_cross_entropy(x, t, .ignore_index = 5), "ignore_index") == 5);
    grd_tensor zero = grd_cross_entropy(x, t, .ignore_zero = true, .label_smoothing = 0.1, .z_loss = 0.2);
    cr_expect(int_of(zero, "ignore_index") == 0 && float_of(zero, "label_smoothing") == 0.1);
    cr_expect(float_of(zero, "z_loss") == 0.2);
    grd_tensor mean = grd_cross_entropy_mean(x, t);
    cr_expect(mean.node && grd_tensor_dims(mean).rank == 0, "the mean is no scalar");
    expect_error(grd_cross_entropy(x, t, .softcap = 30), "cross_entropy: takes no softcap");
}

/* With the seed 1 of backward, the gradients are the head's own outputs: nothing is multiplied. */
Test(nn_calls, linear_cross_entropy_hands_out_its_gradients)
{
    grd_tensor x = input("x", grd_shape(4, 3)), w = input("w", grd_shape(7, 3)), losses;
    grd_tensor t = grd_input(graph, "t", GRD_I32, grd_shape(4)), scale = grd_scalar_constant(graph, 0.25);
    grd_tensor loss = grd_linear_cross_entropy(x, w, t, scale, .softcap = 30, .losses = &losses);
    cr_expect(float_of(loss, "softcap") == 30 && grd_dims_equal(grd_tensor_dims(losses), grd_shape(4)));
    grd_tensor dx = grd_grad(loss, x), dw = grd_grad(loss, w);
    cr_expect(grdi_same_tensor(dx, (grd_tensor){loss.node, 2}), "the gradient by x is made again");
    cr_expect(grdi_same_tensor(dw, (grd_tensor){loss.node, 3}), "the gradient by w is made again");
    grd_tensor twice = grd_grad(grd_mul_scalar(loss, 2), x);
    cr_expect(!grdi_same_tensor(twice, dx), "another seed than 1 is not multiplied on");
}

/* The mean over valid targets divides by 1 where there is none. */
Test(nn_calls, cross_entropy_mean_of_nothing_is_zero)
{
    grd_tensor x = input("x", grd_shape(2, 3)), t = grd_input(graph, "t", GRD_I32, grd_shape(2));
    grd_tensor mean = grd_cross_entropy_mean(x, t);
    values *v = values_new(graph);
    values_set(v, x, (double[]){1, 2, 3, 4, 5, 6});
    values_set(v, t, (double[]){-100, -100});
    char message[256];
    cr_assert(values_run(v, &mean, 1, message, sizeof message), "%s", message);
    cr_expect(values_get(v, mean)[0] == 0, "the mean of no losses is %g", values_get(v, mean)[0]);
    values_set(v, t, (double[]){2, -100});
    cr_assert(values_run(v, &mean, 1, message, sizeof message), "%s", message);
    double expected = log(exp(-2.0) + exp(-1.0) + 1);
    cr_expect(fabs(values_get(v, mean)[0] - expected) < 1e-15, "ignored targets are counted");
    values_free(v);
}

/* A target outside the classes must not pass for a good one. */
Test(nn_calls, a_wrong_target_gives_nan)
{
    grd_tensor x = input("x", grd_shape(1, 3)), t = grd_input(graph, "t", GRD_I32, grd_shape(1));
    grd_tensor losses = grd_cross_entropy(x, t);
    values *v = values_new(graph);
    values_set(v, x, (double[]){1, 2, 3});
    char message[256];
    for (double target = -1; target <= 3; target += 4) {
        values_set(v, t, &target);
        cr_assert(values_run(v, &losses, 1, message, sizeof message), "%s", message);
        cr_expect(isnan(values_get(v, losses)[0]), "target %g has loss %g", target, values_get(v, losses)[0]);
    }
    values_free(v);
}

#define COUNT 40000

/* Runs `y` for ones and the key {1,2,3,micro}; copies it out. */
static void run_dropout(grd_tensor x, grd_tensor key, grd_tensor y, int32_t micro, double *out)
{
    static double ones[COUNT];
    for (int32_t i = 0; i < COUNT; i++) ones[i] = 1;
    values *v = values_new(graph);
    values_set(v, x, ones);
    values_set(v, key, (double[]){1, 2, 3, micro});
    char message[256];
    cr_assert(values_run(v, &y, 1, message, sizeof message), "%s", message);
    memcpy(out, values_get(v, y), sizeof ones);
    values_free(v);
}

static int32_t count_different(const double *a, const double *b)
{
    int32_t count = 0;
    for (int32_t i = 0; i < COUNT; i++) count += a[i] != b[i];
    return count;
}

Test(nn_calls, dropout)
{
    static double a[COUNT], b[COUNT];
    grd_tensor x = input("x", grd_shape(COUNT)), key = grd_input(graph, "key", GRD_I32, grd_shape(4));
    cr_expect(grdi_same_tensor(grd_dropout(x, key, 0), x), "p = 0 is not x itself");
    grd_scope_push(graph, "a");
    grd_tensor first = grd_dropout(x, key, 0.25), second = grd_dropout(x, key, 0.25);
    grd_scope_pop(graph);
    grd_tensor gradient = grd_grad(grd_sum(first), x);

    run_dropout(x, key, first, 0, a);
    int32_t kept = 0;
    for (int32_t i = 0; i < COUNT; i++) {
        cr_assert(a[i] == 0 || a[i] == 1 / 0.75, "element %d is %g", i, a[i]);
        kept += a[i] != 0;
    }
    /* the standard deviation of the count is sqrt(40000 * 0.75 * 0.25) = 87 */
    cr_expect(abs(kept - 30000) < 5 * 87, "%d of %d are kept, 30000 were expected", kept, COUNT);
    run_dropout(x, key, gradient, 0, b);
    cr_expect(count_different(a, b) == 0, "backward draws otherwise than forward");
    run_dropout(x, key, first, 1, b);
    cr_expect(count_different(a, b) > COUNT / 4, "another micro-batch draws the same");
    run_dropout(x, key, second, 0, b);
    cr_expect(count_different(a, b) > COUNT / 4, "two dropouts of a scope draw the same");
    expect_error(grd_dropout(x, key, 1), "p is 1");
}
