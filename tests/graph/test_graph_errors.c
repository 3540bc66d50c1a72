/* test_graph_errors.c - wrong use of engines, graphs, programs and variables: each is refused in words that name the
 * place, the first error stays, and nothing crashes on what a failed call returned. */
#include <criterion/criterion.h>
#include <gradus/gradus.h>
#include <math.h>
#include <string.h>

typedef struct world {
    grd_engine *engine;
    grd_model *model;
    grd_graph *graph;
} world;

static world open_world(const char *device)
{
    world w = {.engine = grd_engine_open(device, .threads = 1)};
    w.model = grd_model_new(w.engine, 1);
    w.graph = grd_graph_new(w.model);
    cr_assert(w.graph != NULL, "%s", grd_engine_error(w.engine)->message);
    return w;
}

/* The graph holds that error, the engine repeats it; closes the world. */
static void expect_graph_error(world *w, grd_status status, const char *piece)
{
    const grd_error *error = grd_graph_error(w->graph);
    cr_expect(error->status == status, "status %d: %s", error->status, error->message);
    cr_expect(strstr(error->message, piece), "no '%s' in '%s'", piece, error->message);
    cr_expect(grd_engine_error(w->engine)->status == status, "the engine says nothing");
    grd_engine_close(w->engine);
}

static void expect_error(const grd_error *error, grd_status status, const char *piece)
{
    cr_expect(error->status == status, "status %d: %s", error->status, error->message);
    cr_expect(strstr(error->message, piece), "no '%s' in '%s'", piece, error->message);
}

/* ---- engines and models ---- */

Test(graph_errors, nothing_comes_of_a_device_that_is_not_there)
{
    grd_engine *engine = grd_engine_open("abacus");
    expect_error(grd_engine_error(engine), GRD_E_ARGUMENT, "abacus");
    grd_model *model = grd_model_new(engine, 1);
    grd_graph *graph = grd_graph_new(model);
    cr_assert(!model && !graph, "a model without a device");
    grd_tensor x = grd_input(graph, "x", GRD_F32, grd_shape(2)), y = grd_relu(grd_add(x, x));
    cr_assert(grd_is_poison(x) && grd_is_poison(y), "poison");
    cr_assert(!grd_program_new(&y, 1) && !grd_step_new(y, grd_sgd(1)), "made of poison");
    cr_assert(grd_dim(y, 0) == -1 && grd_tensor_dims(y).rank == 0 && !grd_tensor_graph(y), "poison has no shape");
    cr_assert(grd_graph_error(graph)->status && grd_program_error(NULL)->status && grd_step_error(NULL)->status,
              "what is missing has an error to ask for");
    cr_assert(grd_op_register(NULL, NULL) == GRD_E_ARGUMENT, "an op without an engine");
    grd_scope_push(graph, "a");
    grd_scope_pop(graph);
    grd_model_free(model);
    grd_graph_free(graph);
    grd_program_free(NULL);
    grd_step_free(NULL);
    grd_engine_close(engine);
    grd_engine_close(NULL);
}

Test(graph_errors, parts_can_be_closed_one_by_one)
{
    world w = open_world("cpu");
    grd_tensor fed = grd_input(w.graph, "x", GRD_F32, grd_shape(2));
    grd_tensor y = grd_add(fed, grd_parameter(w.graph, "w", grd_shape(2), .init = GRD_INIT_ONES));
    grd_program *first = grd_program_new(&y, 1), *second = grd_program_new(&y, 1);
    cr_assert(first && second, "%s", grd_graph_error(w.graph)->message);
    const float x[2] = {1, 2};
    float got[2];
    grd_program_free(first);
    cr_assert(!grd_program_feed(second, grd_tensor_graph(y) ? grd_input(w.graph, "x2", GRD_F32, grd_shape(2)) : y, x),
              "an input that the outputs do not need");
    cr_assert(!grd_program_feed(second, fed, x) && !grd_program_run(second) && !grd_program_read(second, y, got),
              "the other one still runs");
    grd_graph *other = grd_graph_new(w.model);
    grd_graph_free(w.graph);
    grd_tensor again = grd_parameter(other, "w", grd_shape(2));
    grd_program *third = grd_program_new(&again, 1);
    cr_assert(third && !grd_program_run(third) && !grd_program_read(third, again, got) && got[0] == 1,
              "the parameter outlives the graph that it was made in");
    grd_model_free(w.model);
    cr_assert(grd_model_new(w.engine, 2) != NULL, "the engine goes on");
    grd_engine_close(w.engine);
}

/* ---- building ---- */

Test(graph_errors, scopes)
{
    world w = open_world("ref");
    grd_scope_pop(w.graph);
    expect_graph_error(&w, GRD_E_STATE, "grd_scope_pop without");
    w = open_world("ref");
    for (int i = 0; i < 65; i++) grd_scope_push(w.graph, "s%d", i);
    expect_graph_error(&w, GRD_E_ARGUMENT, "more than 64 deep");
    w = open_world("ref");
    grd_scope_push(w.graph, "outer");
    grd_scope_push(w.graph, "inner");
    grd_tensor x = grd_input(w.graph, "x", GRD_F32, grd_shape(2, 3));
    grd_matmul(x, x);
    grd_reshape(x, grd_shape(7)); /* the first error stays */
    expect_graph_error(&w, GRD_E_SHAPE, "outer/inner: matmul: inner sizes differ: [2,3] x [2,3]");
}

Test(graph_errors, ops_by_name)
{
    world w = open_world("ref");
    grd_tensor x = grd_input(w.graph, "x", GRD_F32, grd_shape(2, 3)), none = {0};
    const grd_attr whole = GRD_INT("value", 2); /* an integer where a float is asked for is one */
    cr_assert(!grd_is_poison(grd_call(w.graph, "add_scalar", &x, 1, &whole, 1, NULL)), "%s",
              grd_graph_error(w.graph)->message);
    cr_assert(grd_is_poison(grd_call(w.graph, "relu", &none, 1, NULL, 0, NULL)) && !grd_graph_error(w.graph)->status,
              "poison in, poison out, and no error of its own");
    grd_call(w.graph, "rellu", &x, 1, NULL, 0, NULL);
    expect_graph_error(&w, GRD_E_ARGUMENT, "there is no op 'rellu'");
    w = open_world("ref");
    x = grd_input(w.graph, "x", GRD_F32, grd_shape(2, 3));
    const grd_attr unknown = GRD_INT("axes", 1);
    grd_call(w.graph, "softmax", &x, 1, &unknown, 1, NULL);
    expect_graph_error(&w, GRD_E_ARGUMENT, "softmax: there is no attribute 'axes'");
    w = open_world("ref");
    x = grd_input(w.graph, "x", GRD_F32, grd_shape(2, 3));
    const grd_attr kind = GRD_FLOAT("axis", 1);
    grd_call(w.graph, "softmax", &x, 1, &kind, 1, NULL);
    expect_graph_error(&w, GRD_E_ARGUMENT, "softmax: attribute 'axis'");
    w = open_world("ref");
    x = grd_input(w.graph, "x", GRD_F32, grd_shape(2, 3));
    const grd_attr nowhere = {.name = "axes", .kind = GRD_ATTR_INTS, .count = 2};
    grd_call(w.graph, "sum", &x, 1, &nowhere, 1, NULL);
    expect_graph_error(&w, GRD_E_ARGUMENT, "2 integers at NULL");
    w = open_world("ref");
    grd_call(w.graph, "parameter", NULL, 0, NULL, 0, NULL);
    expect_graph_error(&w, GRD_E_ARGUMENT, "grd_parameter");
    w = open_world("ref");
    x = grd_input(w.graph, "x", GRD_F32, grd_shape(2, 3));
    grd_call(w.graph, "add", &x, 1, NULL, 0, NULL);
    expect_graph_error(&w, GRD_E_ARGUMENT, "add: takes 2 to 2 inputs, was given 1");
    w = open_world("ref");
    x = grd_input(w.graph, "x", GRD_F32, grd_shape(2, 3));
    grd_call(w.graph, "add", &x, 99, NULL, 0, NULL);
    expect_graph_error(&w, GRD_E_ARGUMENT, "cannot take 99 inputs");
}

Test(graph_errors, values_of_two_graphs_do_not_mix)
{
    world w = open_world("ref");
    grd_tensor x = grd_input(w.graph, "x", GRD_F32, grd_shape(2)),
               y = grd_input(grd_graph_new(w.model), "y", GRD_F32, grd_shape(2));
    grd_tensor both[] = {x, y};
    cr_assert(!grd_program_new(both, 2), "one program of two graphs");
    expect_graph_error(&w, GRD_E_ARGUMENT, "output 1 belongs to another graph");
    w = open_world("ref");
    x = grd_input(w.graph, "x", GRD_F32, grd_shape(2));
    y = grd_input(grd_graph_new(w.model), "y", GRD_F32, grd_shape(2));
    grd_add(x, y);
    expect_graph_error(&w, GRD_E_ARGUMENT, "add: input 1 belongs to another graph");
}

Test(graph_errors, sources)
{
    world w = open_world("ref");
    grd_input(w.graph, "x", GRD_F32, grd_shape(2));
    grd_input(w.graph, "x", GRD_F32, grd_shape(2));
    expect_graph_error(&w, GRD_E_ARGUMENT, "there is an input 'x' already");
    w = open_world("ref");
    grd_input(w.graph, "x", GRD_F32, grd_shape(2, 0));
    expect_graph_error(&w, GRD_E_SHAPE, "dimension 1 is 0");
    w = open_world("ref");
    grd_dims nine = {.rank = GRD_RANK_MAX + 1};
    grd_input(w.graph, "x", GRD_F32, nine);
    expect_graph_error(&w, GRD_E_SHAPE, "'x' has 9 dimensions");
    w = open_world("ref");
    grd_parameter(w.graph, "w", grd_shape(2));
    grd_parameter(w.graph, "w", grd_shape(2));
    expect_graph_error(&w, GRD_E_ARGUMENT, "'w' exists already (set .tie");
    w = open_world("ref");
    grd_parameter(w.graph, "w", grd_shape(2));
    grd_parameter(grd_graph_new(w.model), "w", grd_shape(3));
    expect_error(grd_engine_error(w.engine), GRD_E_SHAPE,
                 "'w' is a parameter f32[2] already, asked for as parameter f32[3]");
    grd_engine_close(w.engine);
    w = open_world("ref");
    grd_state(w.graph, "s", GRD_F32, grd_shape(2));
    grd_state(w.graph, "s", GRD_F32, grd_shape(2));
    expect_graph_error(&w, GRD_E_ARGUMENT, "'s' exists already");
    w = open_world("ref");
    grd_assign(grd_input(w.graph, "x", GRD_F32, grd_shape(2)), grd_input(w.graph, "y", GRD_F32, grd_shape(2)));
    expect_graph_error(&w, GRD_E_ARGUMENT, "the target is no state or parameter");
    w = open_world("ref");
    grd_assign(grd_state(w.graph, "s", GRD_F32, grd_shape(2)), grd_input(w.graph, "y", GRD_F32, grd_shape(3)));
    expect_graph_error(&w, GRD_E_SHAPE, "the target is [2], the value [3]");
}

Test(graph_errors, sizes_that_no_memory_has)
{
    world w = open_world("ref");
    grd_tensor x = grd_input(w.graph, "x", GRD_F32, grd_shape((int64_t)1 << 40, (int64_t)1 << 40));
    cr_assert(grd_is_poison(x), "2^80 elements");
    expect_graph_error(&w, GRD_E_SHAPE, "more than 2^48 elements");
    w = open_world("cpu");
    x = grd_input(w.graph, "x", GRD_F32, grd_shape((int64_t)1 << 48));
    grd_tensor y = grd_exp(x);
    cr_assert(!grd_is_poison(y) && !grd_program_new(&y, 1), "2^50 bytes");
    expect_graph_error(&w, GRD_E_MEMORY, "bytes");
    w = open_world("null:cpu"); /* a device that has any memory: only the sum is too large */
    grd_tensor outputs[1100];
    for (int i = 0; i < 1100; i++) outputs[i] = grd_full(w.graph, GRD_F64, grd_shape((int64_t)1 << 48), i);
    cr_assert(!grd_program_new(outputs, 1100), "1100 x 2^51 bytes");
    expect_graph_error(&w, GRD_E_MEMORY, "the plan needs more than");
    w = open_world("null:cpu");
    for (int i = 0; i < 1100; i++) {
        grd_scope_push(w.graph, "%d", i);
        outputs[i] = grd_parameter(w.graph, "w", grd_shape((int64_t)1 << 48));
        grd_scope_pop(w.graph);
    }
    cr_assert(!grd_program_new(outputs, 1), "1100 x 2^50 bytes of parameters");
    expect_graph_error(&w, GRD_E_MEMORY, "for 1100 variables");
}

/* ---- gradients ---- */

Test(graph_errors, gradients)
{
    world w = open_world("ref");
    grd_tensor x = grd_input(w.graph, "x", GRD_F32, grd_shape(3)), none = {0}, gradient;
    cr_assert(grd_is_poison(grd_grad(none, x)), "poison");
    cr_assert(grd_gradients(&none, 1, &x, 1, &gradient) == GRD_E_ARGUMENT, "poison");
    cr_assert(grd_gradients(NULL, 0, &x, 1, &gradient) == GRD_E_ARGUMENT && grd_is_poison(gradient), "no loss");
    grd_grad(x, x);
    expect_graph_error(&w, GRD_E_SHAPE, "the loss must be one float, is f32[3] (reduce it first)");
}

/* ---- programs ---- */

Test(graph_errors, programs)
{
    world w = open_world("cpu");
    grd_tensor x = grd_input(w.graph, "x", GRD_F32, grd_shape(2)), y = grd_exp(x), hidden = grd_exp(y), none = {0};
    grd_program *program = grd_program_new(&y, 1);
    float data[2] = {1, 2};
    cr_assert(grd_program_feed(NULL, x, data) == GRD_E_ARGUMENT && grd_program_feed(program, none, data) &&
                  grd_program_feed(program, x, NULL) && grd_program_read(program, y, NULL) &&
                  grd_program_read(program, none, data) && grd_program_run(NULL),
              "nothing where something is needed");
    grd_program_free(program);
    program = grd_program_new(&y, 1);
    cr_assert(grd_program_feed(program, y, data) == GRD_E_ARGUMENT, "fed what is computed");
    expect_error(grd_program_error(program), GRD_E_ARGUMENT, "feed: 'exp' is not an input");
    grd_program_free(program);
    program = grd_program_new(&y, 1);
    cr_assert(grd_program_read(program, hidden, data) == GRD_E_ARGUMENT, "read what was not asked for");
    expect_error(grd_program_error(program), GRD_E_ARGUMENT, "not an output of this program");
    grd_matmul(x, x);
    cr_assert(!grd_program_new(&y, 1), "a program of a graph with an error");
    expect_graph_error(&w, GRD_E_SHAPE, "matmul");
}

Test(graph_errors, planning_devices_do_not_run)
{
    world w = open_world("null:cpu");
    grd_tensor x = grd_input(w.graph, "x", GRD_F32, grd_shape(2)), p = grd_parameter(w.graph, "w", grd_shape(2)),
               y = grd_add(x, p);
    float data[2] = {1, 2};
    grd_program *program = grd_program_new(&y, 1);
    cr_assert(program != NULL, "%s", grd_graph_error(w.graph)->message);
    cr_assert(grd_program_feed(program, x, data) == GRD_E_UNSUPPORTED, "fed");
    cr_assert(grd_program_run(program) == GRD_E_UNSUPPORTED, "ran");
    cr_assert(grd_program_read(program, y, data) == GRD_E_UNSUPPORTED, "read");
    expect_error(grd_program_error(program), GRD_E_UNSUPPORTED, "null:cpu only plans");
    grd_error error = {GRD_OK, ""};
    cr_assert(grd_model_read(w.model, "w", data, &error) == GRD_E_UNSUPPORTED, "has values");
    expect_error(&error, GRD_E_UNSUPPORTED, "w: device null:cpu only plans");
    grd_engine_close(w.engine);
}

/* A run that fails is the kernel's error, with the op's place. */
Test(graph_errors, variables)
{
    world w = open_world("cpu");
    grd_error error = {GRD_OK, ""};
    float data[2];
    cr_assert(grd_model_read(NULL, "w", data, &error) == GRD_E_ARGUMENT, "no model");
    error.status = GRD_OK;
    cr_assert(grd_model_write(w.model, "nothing/weight", data, &error) == GRD_E_ARGUMENT, "no variable");
    expect_error(&error, GRD_E_ARGUMENT, "nothing/weight: the model has no such variable");
    grd_variable v;
    cr_assert(!grd_model_variable_find(w.model, "w", &v) && !grd_model_variable_find(NULL, "w", &v) &&
                  !grd_model_variable_at(w.model, 0, &v) && grd_model_variable_count(NULL) == 0,
              "an empty model");
    grd_engine_close(w.engine);
}

/* ---- steps ---- */

Test(graph_errors, steps)
{
    world w = open_world("cpu");
    grd_tensor p = grd_parameter(w.graph, "w", grd_shape(2)), x = grd_input(w.graph, "x", GRD_F32, grd_shape(2));
    cr_assert(!grd_step_new(grd_mean(x), grd_sgd(1)), "nothing to learn");
    expect_graph_error(&w, GRD_E_ARGUMENT, "the loss depends on no parameter");
    w = open_world("cpu");
    p = grd_parameter(w.graph, "w", grd_shape(2));
    grd_tensor loss = grd_mean(p), other = grd_input(grd_graph_new(w.model), "y", GRD_F32, grd_shape(2));
    cr_assert(!grd_step_new(loss, grd_sgd(1), .outputs = &other, .output_count = 1), "another graph's output");
    expect_graph_error(&w, GRD_E_ARGUMENT, "output 0 does not belong");
    w = open_world("cpu");
    p = grd_parameter(w.graph, "w", grd_shape(2), .init = GRD_INIT_ONES);
    grd_tensor squares = grd_mul(p, p);
    grd_step *step = grd_step_new(grd_sum(squares), grd_sgd(0.25), .outputs = &squares, .output_count = 1);
    float got[2];
    cr_assert(step && !grd_step_run(step, NULL) && !grd_step_read(step, squares, got) && got[0] == 1 && got[1] == 1,
              "the output of a step");
    cr_assert(!grd_step_run(step, NULL) && !grd_step_read(step, squares, got), "%s", grd_step_error(step)->message);
    cr_assert(got[0] == 0.25f, "after an update: %g", got[0]);
    cr_assert(grd_step_count(step) == 2 && grd_step_count(NULL) == 0, "two steps");
    cr_assert(grd_step_swap_ema(step) == GRD_E_STATE && grd_step_swap_ema(NULL) == GRD_E_STATE, "no average");
    cr_assert(grd_step_read(NULL, squares, got) && grd_step_run(NULL, NULL) && grd_step_feed(NULL, squares, got) &&
                  grd_step_read(step, p, got) == GRD_E_ARGUMENT,
              "nothing where something is needed");
    grd_engine_close(w.engine);
}
