/* test_misuse.c - the C API used wrongly, as a table: each case is one clear error of the right kind that stays,
 * nothing crashes, and the engine goes on. A case's function does the wrong thing and says where the error must be. */
#include <criterion/criterion.h>
#include <gradus/gradus.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct world {
    grd_engine *engine;
    grd_model *model;
    grd_graph *graph;
    grd_tensor x, y, ids; /* f32[2,3], f32[4,5], i32[6] */
    float data[64];
    grd_error error; /* for calls that take one */
} world;

typedef struct misuse {
    const char *name;
    const grd_error *(*make)(world *w);
    grd_status status;
    const char *says; /* part of the message */
} misuse;

static grd_tensor input(world *w, const char *name, grd_dims dims) { return grd_input(w->graph, name, GRD_F32, dims); }

static const grd_error *of_graph(world *w, grd_tensor made)
{
    cr_expect(grd_is_poison(made), "something was made");
    return grd_graph_error(w->graph);
}

static const grd_error *of_call(world *w, grd_status status)
{
    cr_expect(status == w->error.status, "status %d returned, %d kept", status, w->error.status);
    return &w->error;
}

/* ---- shapes, ranks and dtypes ---- */

#define BUILDS(name, ...)                                                                                              \
    static const grd_error *name(world *w) { return of_graph(w, __VA_ARGS__); }

BUILDS(inner_sizes, grd_matmul(w->x, w->x))
BUILDS(no_broadcast, grd_add(w->x, w->y))
BUILDS(two_dtypes, grd_add(w->x, grd_cast(w->x, GRD_F64)))
BUILDS(root_of_integers, grd_sqrt(w->ids))
BUILDS(reshaped, grd_reshape(w->x, grd_shape(7)))
BUILDS(two_unknown_sizes, grd_reshape(w->x, grd_shape(-1, -1)))
BUILDS(no_permutation, grd_transpose(w->x, grd_shape(0, 0)))
BUILDS(slice_outside, grd_slice(w->x, 1, 2, 5))
BUILDS(slice_far_outside, grd_slice(w->x, 0, INT64_MIN, -1))
BUILDS(axis_outside, grd_sum_axis(w->x, 2, false))
BUILDS(axis_twice, grd_sum_axes(w->x, (const int64_t[]){0, 0}, 2, false))
BUILDS(joined, grd_concat((const grd_tensor[]){w->x, w->y}, 2, 0))
BUILDS(squeezed, grd_squeeze(w->x, 0))
BUILDS(padded_below_zero, grd_pad(w->x, grd_shape(-1, 0), grd_shape(0, 0), 0))
BUILDS(ids_of_floats, grd_embedding(w->x, w->y))
BUILDS(too_many_of_top, grd_topk(w->x, 9, 1, NULL))
BUILDS(condition_of_floats, grd_where(w->x, w->x, w->x))
BUILDS(other_targets, grd_cross_entropy(w->x, w->ids))
BUILDS(targets_of_floats, grd_cross_entropy(w->x, input(w, "t", grd_shape(2))))
BUILDS(gain_of_other_size, grd_layer_norm(w->x, .gain = input(w, "gain", grd_shape(7))))
BUILDS(flat_image, grd_convolution(w->x, w->y))
BUILDS(no_heads, grd_attention(w->x, w->x, w->x))
BUILDS(no_dtype, grd_cast(w->x, (grd_dtype)77))
BUILDS(dropped_altogether, grd_dropout(w->x, grd_input(w->graph, "key", GRD_I32, grd_shape(4)), 1.5))
BUILDS(low_above_high, grd_clamp(w->x, 2, 1))
BUILDS(too_large_an_integer, grd_full(w->graph, GRD_U8, grd_shape(2), 1000))
BUILDS(endless, grd_full(w->graph, GRD_F32, grd_shape(INT64_MAX, INT64_MAX), 0))
BUILDS(negative_pool, grd_max_pool(input(w, "image", grd_shape(1, 4, 4, 1)), -2))
BUILDS(uneven_groups, grd_group_norm(input(w, "image", grd_shape(1, 4, 4, 3)), 2))
BUILDS(minus_features, grd_linear(w->x, "fc", -4))
BUILDS(nameless_layer, grd_linear(w->x, NULL, 4))
BUILDS(no_cells, grd_lstm(w->x, "lstm", 0))

static const grd_error *uneven_split(world *w)
{
    grd_tensor parts[2];
    grd_split(w->x, 1, 2, parts);
    return of_graph(w, parts[0]);
}

/* ---- sources and names ---- */

BUILDS(size_below_zero, input(w, "z", grd_shape(2, -3)))
BUILDS(nine_dimensions, input(w, "z", (grd_dims){.rank = 9}))
BUILDS(minus_one_dimensions, input(w, "z", (grd_dims){.rank = -1}))
BUILDS(input_without_dtype, grd_input(w->graph, "z", GRD_DTYPE_COUNT, grd_shape(2)))
BUILDS(input_without_name, input(w, NULL, grd_shape(2)))
BUILDS(input_of_empty_name, input(w, "", grd_shape(2)))
BUILDS(input_twice, input(w, "x", grd_shape(2)))
BUILDS(constant_without_data, grd_constant(w->graph, GRD_F32, grd_shape(2), NULL))
BUILDS(parameter_without_name, grd_parameter(w->graph, NULL, grd_shape(2)))
BUILDS(state_without_name, grd_state(w->graph, NULL, GRD_F32, grd_shape(2)))
BUILDS(assigned_input, grd_assign(w->x, w->x))

static const grd_error *parameter_twice(world *w)
{
    grd_parameter(w->graph, "w", grd_shape(2));
    return of_graph(w, grd_parameter(w->graph, "w", grd_shape(2)));
}

static const grd_error *tied_to_another_shape(world *w)
{
    grd_parameter(w->graph, "w", grd_shape(2));
    return of_graph(w, grd_parameter(w->graph, "w", grd_shape(3), .tie = true));
}

static const grd_error *state_named_as_parameter(world *w)
{
    grd_parameter(w->graph, "w", grd_shape(2));
    return of_graph(w, grd_state(w->graph, "w", GRD_F32, grd_shape(2)));
}

static const grd_error *state_twice(world *w)
{
    grd_state(w->graph, "s", GRD_F32, grd_shape(2));
    return of_graph(w, grd_state(w->graph, "s", GRD_F32, grd_shape(2)));
}

static const grd_error *assigned_other_shape(world *w)
{
    return of_graph(w, grd_assign(grd_state(w->graph, "s", GRD_F32, grd_shape(2)), w->x));
}

/* The model has nothing of it: its other graphs are as good as before. */
static const grd_error *parameter_without_size(world *w)
{
    grd_tensor p = grd_parameter(w->graph, "w", grd_shape(2, -3));
    cr_expect(grd_model_variable_count(w->model) == 0, "the model kept it");
    grd_tensor good = grd_parameter(grd_graph_new(w->model), "w", grd_shape(2));
    cr_expect(grd_program_new(&good, 1) != NULL, "no other graph has that name any more");
    return of_graph(w, p);
}

/* ---- what belongs to others ---- */

static const grd_error *input_of_another_graph(world *w)
{
    return of_graph(w, grd_add(w->x, grd_input(grd_graph_new(w->model), "x", GRD_F32, grd_shape(2, 3))));
}

static const grd_error *input_of_another_model(world *w)
{
    grd_graph *other = grd_graph_new(grd_model_new(w->engine, 2));
    return of_graph(w, grd_add(w->x, grd_input(other, "x", GRD_F32, grd_shape(2, 3))));
}

static const grd_error *output_that_is_not_there(world *w)
{
    return of_graph(w, grd_relu((grd_tensor){w->x.node, 5}));
}

static const grd_error *program_of_two_graphs(world *w)
{
    const grd_tensor outputs[] = {w->x, grd_input(grd_graph_new(w->model), "x", GRD_F32, grd_shape(2))};
    cr_expect(!grd_program_new(outputs, 2), "made");
    return grd_graph_error(w->graph);
}

static const grd_error *program_of_no_output(world *w)
{
    const grd_tensor output = {w->x.node, -1};
    cr_expect(!grd_program_new(&output, 1) && !grd_program_new(NULL, 1) && !grd_program_new(&output, 0), "made");
    return grd_graph_error(w->graph);
}

static const grd_error *gradient_by_another_graph(world *w)
{
    grd_tensor other = {0};
    grd_graph *graph = grd_graph_new(w->model);
    for (int i = 0; i < 100; i++) other = grd_full(graph, GRD_F32, grd_shape(2), i);
    return of_graph(w, grd_grad(grd_sum(w->x), other));
}

BUILDS(gradient_of_many, grd_grad(w->x, w->x))
BUILDS(gradient_of_integers, grd_grad(grd_sum(w->ids), w->x))

/* ---- ops by name ---- */

static const grd_error *by_name(world *w, const char *op, const grd_tensor *in, int32_t count, const grd_attr *attrs,
                                int32_t attr_count)
{
    grd_tensor out[GRD_OUTPUTS_MAX];
    grd_tensor made = grd_call(w->graph, op, in, count, attrs, attr_count, out);
    cr_expect(grd_is_poison(out[0]) && grd_is_poison(out[GRD_OUTPUTS_MAX - 1]), "outputs were left alone");
    return of_graph(w, made);
}

#define CALLS(name, ...)                                                                                               \
    static const grd_error *name(world *w) { return by_name(w, __VA_ARGS__); }

CALLS(no_such_op, "rellu", &w->x, 1, NULL, 0)
CALLS(op_without_name, NULL, &w->x, 1, NULL, 0)
CALLS(no_such_attribute, "softmax", &w->x, 1, &(const grd_attr)GRD_INT("axes", 1), 1)
CALLS(nameless_attribute, "softmax", &w->x, 1, &(const grd_attr)GRD_INT(NULL, 1), 1)
CALLS(attribute_of_other_kind, "softmax", &w->x, 1, &(const grd_attr)GRD_FLOAT("axis", 1), 1)
CALLS(attribute_of_no_kind, "softmax", &w->x, 1, &(const grd_attr){.name = "axis", .kind = (grd_attr_kind)9}, 1)
CALLS(integers_at_null, "sum", &w->x, 1, &(const grd_attr){.name = "axes", .kind = GRD_ATTR_INTS, .count = 2}, 1)
CALLS(minus_one_integers, "sum", &w->x, 1, &(const grd_attr){.name = "axes", .kind = GRD_ATTR_INTS, .count = -1}, 1)
CALLS(attributes_at_null, "softmax", &w->x, 1, NULL, 3)
CALLS(minus_one_attributes, "softmax", &w->x, 1, &(const grd_attr)GRD_INT("axis", 1), -1)
CALLS(inputs_at_null, "add", NULL, 2, NULL, 0)
CALLS(one_input_too_few, "add", &w->x, 1, NULL, 0)
CALLS(too_many_inputs, "add", &w->x, 99, NULL, 0)
CALLS(minus_one_inputs, "add", &w->x, -1, NULL, 0)
CALLS(source_by_name, "parameter", NULL, 0, NULL, 0)
CALLS(axis_by_name, "softmax", &w->x, 1, &(const grd_attr)GRD_INT("axis", INT64_MIN), 1)

static const grd_error *op_without_rules(world *w)
{
    const grd_op_definition nothing = {.size = sizeof(nothing), .name = "mine", .inputs = 1};
    cr_expect(grd_op_register(w->engine, &nothing) == GRD_E_ARGUMENT, "registered");
    return grd_engine_error(w->engine);
}

/* ---- scopes ---- */

static const grd_error *left_too_often(world *w)
{
    grd_scope_pop(w->graph);
    return grd_graph_error(w->graph);
}

static const grd_error *scope_without_name(world *w)
{
    grd_scope_push(w->graph, NULL);
    return grd_graph_error(w->graph);
}

static const grd_error *too_deep(world *w)
{
    for (int i = 0; i < 100; i++) grd_scope_push(w->graph, "s%d", i);
    return grd_graph_error(w->graph);
}

/* ---- programs ---- */

static grd_program *program_of(world *w, grd_tensor output)
{
    grd_program *program = grd_program_new(&output, 1);
    cr_assert(program != NULL, "%s", grd_graph_error(w->graph)->message);
    return program;
}

static const grd_error *of_program(grd_program *program, grd_status status)
{
    cr_expect(status == grd_program_error(program)->status, "%d returned", status);
    return grd_program_error(program);
}

static const grd_error *run_without_feeding(world *w)
{
    grd_program *program = program_of(w, grd_exp(w->x));
    const grd_error *error = of_program(program, grd_program_run(program));
    cr_expect(!grd_program_feed(program, w->x, w->data) && !grd_program_run(program), "fed, it does not run");
    return error;
}

static const grd_error *fed_one_of_two(world *w)
{
    grd_program *program = program_of(w, grd_add(w->x, input(w, "other", grd_shape(3))));
    cr_expect(!grd_program_feed(program, w->x, w->data), "not fed");
    return of_program(program, grd_program_run(program));
}

static const grd_error *read_before_the_run(world *w)
{
    grd_tensor y = grd_exp(w->x);
    grd_program *program = program_of(w, y);
    return of_program(program, grd_program_read(program, y, w->data));
}

static const grd_error *fed_what_is_computed(world *w)
{
    grd_tensor y = grd_exp(w->x);
    grd_program *program = program_of(w, y);
    return of_program(program, grd_program_feed(program, y, w->data));
}

static const grd_error *fed_another_graph(world *w)
{
    grd_program *program = program_of(w, grd_exp(w->x));
    grd_tensor other = grd_input(grd_graph_new(w->model), "x", GRD_F32, grd_shape(2, 3));
    return of_program(program, grd_program_feed(program, other, w->data));
}

static const grd_error *fed_nothing(world *w)
{
    grd_program *program = program_of(w, grd_exp(w->x));
    return of_program(program, grd_program_feed(program, w->x, NULL));
}

static const grd_error *read_what_is_no_output(world *w)
{
    grd_program *program = program_of(w, grd_exp(w->x));
    return of_program(program, grd_program_read(program, w->x, w->data));
}

static const grd_error *read_to_nowhere(world *w)
{
    grd_tensor y = grd_exp(w->x);
    grd_program *program = program_of(w, y);
    return of_program(program, grd_program_read(program, y, NULL));
}

/* ---- steps ---- */

static grd_tensor loss_of(world *w)
{
    grd_tensor p = grd_parameter(w->graph, "w", grd_shape(2, 3), .init = GRD_INIT_ONES);
    return grd_mean(grd_mul(p, w->x));
}

#define STEPS(name, loss, optimizer, ...)                                                                              \
    static const grd_error *name(world *w)                                                                             \
    {                                                                                                                  \
        cr_expect(!grd_step_new(loss, optimizer, __VA_ARGS__), "made");                                              \
        return grd_graph_error(w->graph);                                                                              \
    }

STEPS(nothing_to_learn, grd_mean(w->x), grd_sgd(1), .clip_norm = 0)
STEPS(many_losses, grd_mul(grd_parameter(w->graph, "w", grd_shape(2, 3)), w->x), grd_sgd(1), .clip_norm = 0)
STEPS(loss_of_integers, grd_sum(w->ids), grd_sgd(1), .clip_norm = 0)
STEPS(nothing_matches, loss_of(w), grd_sgd(1), .train = "nosuch/**")
STEPS(no_optimizer, loss_of(w), (grd_optimizer){.lr = 1}, .clip_norm = 0)
STEPS(unknown_optimizer, loss_of(w), (grd_optimizer){.kind = (grd_optimizer_kind)99}, .clip_norm = 0)
STEPS(groups_at_null, loss_of(w), grd_sgd(1), .group_count = 2)
STEPS(group_without_pattern, loss_of(w), grd_sgd(1), .groups = (const grd_group[]){{.lr_scale = 1}}, .group_count = 1)
STEPS(outputs_at_null, loss_of(w), grd_sgd(1), .output_count = 2)
STEPS(poison_as_output, loss_of(w), grd_sgd(1), .outputs = &(const grd_tensor){0}, .output_count = 1)
STEPS(clipped_at_nan, loss_of(w), grd_sgd(1), .clip_norm = NAN)
STEPS(average_of_decay_two, loss_of(w), grd_sgd(1), .ema_decay = 2)
STEPS(minus_one_micro_batches, loss_of(w), grd_sgd(1), .accumulate = -1)
STEPS(muon_of_a_vector, grd_mean(grd_parameter(w->graph, "v", grd_shape(3))), grd_muon(1), .clip_norm = 0)

static grd_step *step_of(world *w)
{
    grd_step *step = grd_step_new(loss_of(w), grd_sgd(1));
    cr_assert(step != NULL, "%s", grd_graph_error(w->graph)->message);
    return step;
}

static const grd_error *of_step(grd_step *step, grd_status status)
{
    cr_expect(status == grd_step_error(step)->status, "%d returned", status);
    return grd_step_error(step);
}

static const grd_error *step_without_feeding(world *w)
{
    grd_step *step = step_of(w);
    const grd_error *error = of_step(step, grd_step_run(step, NULL));
    cr_expect(grd_step_count(step) == 0 && !grd_model_read(w->model, "w", w->data, NULL) && w->data[0] == 1,
              "the weights have changed");
    cr_expect(!grd_step_feed(step, w->x, w->data + 6) && !grd_step_run(step, NULL), "fed, it does not run");
    return error;
}

static const grd_error *step_of_a_freed_graph(world *w)
{
    grd_step *step = step_of(w);
    grd_graph_free(w->graph);
    cr_expect(grd_step_feed(step, w->x, w->data) == GRD_E_STATE && grd_step_read(step, w->x, w->data) == GRD_E_STATE &&
                  grd_step_measure(step) == GRD_E_STATE && grd_step_report(step, &(grd_plan_report){0}) == GRD_E_STATE,
              "goes on without its graph");
    w->graph = grd_graph_new(w->model);
    return of_step(step, grd_step_run(step, NULL));
}

static const grd_error *step_read_elsewhere(world *w)
{
    grd_step *step = step_of(w);
    return of_step(step, grd_step_read(step, w->y, w->data));
}

static const grd_error *step_fed_its_loss(world *w)
{
    grd_tensor loss = loss_of(w);
    grd_step *step = grd_step_new(loss, grd_sgd(1));
    return of_step(step, grd_step_feed(step, loss, w->data));
}

static const grd_error *measured_unprepared(world *w)
{
    grd_step *step = step_of(w);
    return of_step(step, grd_step_measure(step));
}

static const grd_error *no_average_to_swap(world *w)
{
    grd_step *step = step_of(w);
    return of_step(step, grd_step_swap_ema(step));
}

static const grd_error *run_while_swapped(world *w)
{
    grd_step *step = grd_step_new(loss_of(w), grd_sgd(1), .ema_decay = 0.9);
    cr_assert(step && !grd_step_feed(step, w->x, w->data) && !grd_step_run(step, NULL) && !grd_step_swap_ema(step),
              "%s", grd_step_error(step)->message);
    return of_step(step, grd_step_run(step, NULL));
}

static const grd_error *no_report(world *w)
{
    grd_step *step = step_of(w);
    return of_step(step, grd_step_report(step, NULL));
}

/* ---- variables, files, tokenizers and batches ---- */

#define FAILS(name, ...)                                                                                               \
    static const grd_error *name(world *w) { return of_call(w, __VA_ARGS__); }

FAILS(no_such_variable, grd_model_write(w->model, "nosuch", w->data, &w->error))
FAILS(variable_without_name, grd_model_read(w->model, NULL, w->data, &w->error))
FAILS(variable_to_nowhere, grd_model_read(w->model, "w", NULL, &w->error))
FAILS(variable_of_no_model, grd_model_read(NULL, "w", w->data, &w->error))
FAILS(no_such_file, grd_safetensors_open("/nosuch/file.safetensors", &(grd_safetensors *){0}, &w->error))
FAILS(no_such_shard, grd_tokens_open("/nosuch.bin", GRD_TOKENS_AUTO, &(grd_tokens *){0}, &w->error))
FAILS(no_tokens, grd_tokens_write("/nosuch/t.bin", GRD_TOKENS_GPT2, (const int32_t[]){1}, 0, &w->error))
FAILS(token_too_large,
      grd_tokens_write("/tmp/never-written.bin", GRD_TOKENS_GPT2, (const int32_t[]){1 << 20}, 1, &w->error))
FAILS(no_such_checkpoint, grd_checkpoint_about("/nosuch", &(grd_checkpoint_info){0}, &w->error))
FAILS(no_such_text, grd_corpus_open("/nosuch.txt", NULL, &(grd_corpus *){0}, &w->error))
FAILS(no_such_tokenizer, grd_tokenizer_load("/nosuch.json", &(grd_tokenizer *){0}, &w->error))
FAILS(tiny_vocabulary, grd_tokenizer_train(&(grd_text){"abc", 3}, 1, &(grd_tokenizer_options){.vocab_size = 3},
                                           &(grd_tokenizer *){0}, &w->error))

static const grd_error *written_twice(world *w)
{
    const grd_file_tensor one = {"a", GRD_F32, NULL, grd_shape(2), w->data, 8}, two[] = {one, one};
    return of_call(w, grd_safetensors_write("/tmp/never-written.safetensors", two, 2, &w->error));
}

static const grd_error *written_too_short(world *w)
{
    const grd_file_tensor one = {"a", GRD_F32, NULL, grd_shape(3), w->data, 8};
    return of_call(w, grd_safetensors_write("/tmp/never-written.safetensors", &one, 1, &w->error));
}

static const grd_error *batches_of_nothing(world *w)
{
    const grd_ids none = {0}, *sources[] = {&none};
    const grd_batches_options options = {.batch = 2, .context = 4};
    grd_batches *batches;
    return of_call(w, grd_batches_of_ids(sources, 1, &options, &batches, &w->error));
}

static const grd_error *no_such_key(world *w)
{
    grd_settings *settings = grd_settings_new();
    grd_status status = grd_settings_set(settings, "train.rate=1", &w->error);
    grd_settings_free(settings);
    return of_call(w, status);
}

/* ---- the table ---- */

static const misuse cases[] = {
    {"inner_sizes", inner_sizes, GRD_E_SHAPE, "inner sizes differ: [2,3] x [2,3]"},
    {"no_broadcast", no_broadcast, GRD_E_SHAPE, "[2,3]"},
    {"two_dtypes", two_dtypes, GRD_E_DTYPE, "f64"},
    {"root_of_integers", root_of_integers, GRD_E_DTYPE, "i32"},
    {"reshaped", reshaped, GRD_E_SHAPE, "cannot become [7]"},
    {"two_unknown_sizes", two_unknown_sizes, GRD_E_SHAPE, "is no shape"},
    {"no_permutation", no_permutation, GRD_E_ARGUMENT, "no permutation"},
    {"slice_outside", slice_outside, GRD_E_SHAPE, "outside axis 1"},
    {"slice_far_outside", slice_far_outside, GRD_E_SHAPE, "outside axis 0"},
    {"axis_outside", axis_outside, GRD_E_ARGUMENT, "axis 2"},
    {"axis_twice", axis_twice, GRD_E_ARGUMENT, "axis"},
    {"joined", joined, GRD_E_SHAPE, "concat"},
    {"squeezed", squeezed, GRD_E_SHAPE, "squeeze"},
    {"padded_below_zero", padded_below_zero, GRD_E_ARGUMENT, "pad"},
    {"ids_of_floats", ids_of_floats, GRD_E_DTYPE, "embedding"},
    {"too_many_of_top", too_many_of_top, GRD_E_ARGUMENT, "topk"},
    {"condition_of_floats", condition_of_floats, GRD_E_DTYPE, "where"},
    {"other_targets", other_targets, GRD_E_SHAPE, "cross_entropy"},
    {"targets_of_floats", targets_of_floats, GRD_E_DTYPE, "cross_entropy"},
    {"gain_of_other_size", gain_of_other_size, GRD_E_SHAPE, "layer_norm"},
    {"flat_image", flat_image, GRD_E_SHAPE, "convolution"},
    {"no_heads", no_heads, GRD_E_SHAPE, "attention"},
    {"no_dtype", no_dtype, GRD_E_ARGUMENT, "cast: 77 is no dtype"},
    {"dropped_altogether", dropped_altogether, GRD_E_ARGUMENT, "dropout"},
    {"low_above_high", low_above_high, GRD_E_ARGUMENT, "clamp"},
    {"too_large_an_integer", too_large_an_integer, GRD_E_ARGUMENT, "full"},
    {"endless", endless, GRD_E_SHAPE, "2^48 elements"},
    {"negative_pool", negative_pool, GRD_E_ARGUMENT, "max_pool"},
    {"uneven_groups", uneven_groups, GRD_E_SHAPE, "group"},
    {"minus_features", minus_features, GRD_E_SHAPE, "fc"},
    {"nameless_layer", nameless_layer, GRD_E_ARGUMENT, "scope: no name"},
    {"no_cells", no_cells, GRD_E_SHAPE, "lstm"},
    {"uneven_split", uneven_split, GRD_E_SHAPE, "split"},
    {"size_below_zero", size_below_zero, GRD_E_SHAPE, "dimension 1 is -3"},
    {"nine_dimensions", nine_dimensions, GRD_E_SHAPE, "'z' has 9 dimensions"},
    {"minus_one_dimensions", minus_one_dimensions, GRD_E_SHAPE, "'z' has -1 dimensions"},
    {"input_without_dtype", input_without_dtype, GRD_E_DTYPE, "no valid dtype"},
    {"input_without_name", input_without_name, GRD_E_ARGUMENT, "input: no name"},
    {"input_of_empty_name", input_of_empty_name, GRD_E_ARGUMENT, "input: no name"},
    {"input_twice", input_twice, GRD_E_ARGUMENT, "there is an input 'x' already"},
    {"constant_without_data", constant_without_data, GRD_E_ARGUMENT, "constant: its data is NULL"},
    {"parameter_without_name", parameter_without_name, GRD_E_ARGUMENT, "parameter: no name"},
    {"state_without_name", state_without_name, GRD_E_ARGUMENT, "state: no name"},
    {"assigned_input", assigned_input, GRD_E_ARGUMENT, "the target is no state or parameter"},
    {"parameter_twice", parameter_twice, GRD_E_ARGUMENT, "'w' exists already"},
    {"tied_to_another_shape", tied_to_another_shape, GRD_E_SHAPE, "'w' is a parameter f32[2]"},
    {"state_named_as_parameter", state_named_as_parameter, GRD_E_SHAPE, "'w' is a parameter f32[2]"},
    {"state_twice", state_twice, GRD_E_ARGUMENT, "'s' exists already"},
    {"assigned_other_shape", assigned_other_shape, GRD_E_SHAPE, "the target is [2], the value [2,3]"},
    {"parameter_without_size", parameter_without_size, GRD_E_SHAPE, "dimension 1 is -3"},
    {"input_of_another_graph", input_of_another_graph, GRD_E_ARGUMENT, "add: input 1 belongs to another graph"},
    {"input_of_another_model", input_of_another_model, GRD_E_ARGUMENT, "add: input 1 belongs to another graph"},
    {"output_that_is_not_there", output_that_is_not_there, GRD_E_ARGUMENT, "relu: input 0 is output 5 of input, which"},
    {"program_of_two_graphs", program_of_two_graphs, GRD_E_ARGUMENT, "program: output 1 belongs to another graph"},
    {"program_of_no_output", program_of_no_output, GRD_E_ARGUMENT, "program: output 0 is output -1 of input"},
    {"gradient_by_another_graph", gradient_by_another_graph, GRD_E_ARGUMENT, "value 0 belongs to another graph"},
    {"gradient_of_many", gradient_of_many, GRD_E_SHAPE, "the loss must be one float, is f32[2,3]"},
    {"gradient_of_integers", gradient_of_integers, GRD_E_SHAPE, "the loss must be one float, is i32[]"},
    {"no_such_op", no_such_op, GRD_E_ARGUMENT, "there is no op 'rellu'"},
    {"op_without_name", op_without_name, GRD_E_ARGUMENT, "there is no op '(null)'"},
    {"no_such_attribute", no_such_attribute, GRD_E_ARGUMENT, "there is no attribute 'axes'"},
    {"nameless_attribute", nameless_attribute, GRD_E_ARGUMENT, "there is no attribute '(null)'"},
    {"attribute_of_other_kind", attribute_of_other_kind, GRD_E_ARGUMENT, "attribute 'axis' is of kind int, not float"},
    {"attribute_of_no_kind", attribute_of_no_kind, GRD_E_ARGUMENT, "attribute 'axis' is of kind int, not none at all"},
    {"integers_at_null", integers_at_null, GRD_E_ARGUMENT, "2 integers at NULL"},
    {"minus_one_integers", minus_one_integers, GRD_E_ARGUMENT, "-1 integers at NULL"},
    {"attributes_at_null", attributes_at_null, GRD_E_ARGUMENT, "of which there is no list"},
    {"minus_one_attributes", minus_one_attributes, GRD_E_ARGUMENT, "of which there is no list"},
    {"inputs_at_null", inputs_at_null, GRD_E_ARGUMENT, "of which there is no list"},
    {"one_input_too_few", one_input_too_few, GRD_E_ARGUMENT, "add: takes 2 to 2 inputs, was given 1"},
    {"too_many_inputs", too_many_inputs, GRD_E_ARGUMENT, "cannot take 99 inputs"},
    {"minus_one_inputs", minus_one_inputs, GRD_E_ARGUMENT, "cannot take -1 inputs"},
    {"source_by_name", source_by_name, GRD_E_ARGUMENT, "grd_parameter"},
    {"axis_by_name", axis_by_name, GRD_E_ARGUMENT, "is outside a shape of 2 dimensions"},
    {"op_without_rules", op_without_rules, GRD_E_ARGUMENT, "mine"},
    {"left_too_often", left_too_often, GRD_E_STATE, "grd_scope_pop without"},
    {"scope_without_name", scope_without_name, GRD_E_ARGUMENT, "scope: no name"},
    {"too_deep", too_deep, GRD_E_ARGUMENT, "more than 64 deep"},
    {"run_without_feeding", run_without_feeding, GRD_E_STATE, "input 'x' was never fed"},
    {"fed_one_of_two", fed_one_of_two, GRD_E_STATE, "input 'other' was never fed"},
    {"read_before_the_run", read_before_the_run, GRD_E_STATE, "has not been run yet"},
    {"fed_what_is_computed", fed_what_is_computed, GRD_E_ARGUMENT, "feed: 'exp' is not an input"},
    {"fed_another_graph", fed_another_graph, GRD_E_ARGUMENT, "feed: 'x' is not an input of this program's graph"},
    {"fed_nothing", fed_nothing, GRD_E_ARGUMENT, "feed: no data"},
    {"read_what_is_no_output", read_what_is_no_output, GRD_E_ARGUMENT, "not an output of this program"},
    {"read_to_nowhere", read_to_nowhere, GRD_E_ARGUMENT, "read: no place"},
    {"nothing_to_learn", nothing_to_learn, GRD_E_ARGUMENT, "no parameter"},
    {"many_losses", many_losses, GRD_E_SHAPE, "the loss must be one f32, is f32[2,3]"},
    {"loss_of_integers", loss_of_integers, GRD_E_ARGUMENT, "no parameter"},
    {"nothing_matches", nothing_matches, GRD_E_ARGUMENT, "that matches nosuch/**"},
    {"no_optimizer", no_optimizer, GRD_E_ARGUMENT, "optimizer has no kind"},
    {"unknown_optimizer", unknown_optimizer, GRD_E_ARGUMENT, "optimizer has no kind"},
    {"groups_at_null", groups_at_null, GRD_E_ARGUMENT, "2 groups and 0 outputs"},
    {"group_without_pattern", group_without_pattern, GRD_E_ARGUMENT, "group 0 has no pattern"},
    {"outputs_at_null", outputs_at_null, GRD_E_ARGUMENT, "0 groups and 2 outputs"},
    {"poison_as_output", poison_as_output, GRD_E_ARGUMENT, "output 0 does not belong"},
    {"clipped_at_nan", clipped_at_nan, GRD_E_ARGUMENT, "clip_norm"},
    {"average_of_decay_two", average_of_decay_two, GRD_E_ARGUMENT, "ema_decay 2"},
    {"minus_one_micro_batches", minus_one_micro_batches, GRD_E_ARGUMENT, "accumulate -1"},
    {"muon_of_a_vector", muon_of_a_vector, GRD_E_SHAPE, "v: muon trains matrices"},
    {"step_without_feeding", step_without_feeding, GRD_E_STATE, "input 'x' was never fed"},
    {"step_of_a_freed_graph", step_of_a_freed_graph, GRD_E_STATE, "its graph was freed"},
    {"step_read_elsewhere", step_read_elsewhere, GRD_E_ARGUMENT, "not an output of this program"},
    {"step_fed_its_loss", step_fed_its_loss, GRD_E_ARGUMENT, "is not an input"},
    {"measured_unprepared", measured_unprepared, GRD_E_STATE, "not prepared for statistics"},
    {"no_average_to_swap", no_average_to_swap, GRD_E_STATE, "no moving average"},
    {"run_while_swapped", run_while_swapped, GRD_E_STATE, "the moving average is in the weights' place"},
    {"no_report", no_report, GRD_E_ARGUMENT, "report"},
    {"no_such_variable", no_such_variable, GRD_E_ARGUMENT, "nosuch: the model has no such variable"},
    {"variable_without_name", variable_without_name, GRD_E_ARGUMENT, "no path of a variable"},
    {"variable_to_nowhere", variable_to_nowhere, GRD_E_ARGUMENT, "w: no place for its values"},
    {"variable_of_no_model", variable_of_no_model, GRD_E_ARGUMENT, "w: no model"},
    {"no_such_file", no_such_file, GRD_E_IO, "/nosuch/file.safetensors"},
    {"no_such_shard", no_such_shard, GRD_E_IO, "/nosuch.bin"},
    {"no_tokens", no_tokens, GRD_E_ARGUMENT, "/nosuch/t.bin"},
    {"token_too_large", token_too_large, GRD_E_ARGUMENT, "/tmp/never-written.bin"},
    {"no_such_checkpoint", no_such_checkpoint, GRD_E_IO, "/nosuch"},
    {"no_such_text", no_such_text, GRD_E_IO, "/nosuch.txt"},
    {"no_such_tokenizer", no_such_tokenizer, GRD_E_IO, "/nosuch.json"},
    {"tiny_vocabulary", tiny_vocabulary, GRD_E_ARGUMENT, "vocab"},
    {"written_twice", written_twice, GRD_E_ARGUMENT, "a"},
    {"written_too_short", written_too_short, GRD_E_ARGUMENT, "a"},
    {"batches_of_nothing", batches_of_nothing, GRD_E_ARGUMENT, "batches"},
    {"no_such_key", no_such_key, GRD_E_ARGUMENT, "train.rate"},
};

static void try_case(const misuse *c)
{
    world w = {.engine = grd_engine_open("cpu", .threads = 1)};
    w.model = grd_model_new(w.engine, 1);
    w.graph = grd_graph_new(w.model);
    w.x = input(&w, "x", grd_shape(2, 3));
    w.y = input(&w, "y", grd_shape(4, 5));
    w.ids = grd_input(w.graph, "ids", GRD_I32, grd_shape(6));
    cr_assert(!grd_is_poison(w.ids), "%s", grd_engine_error(w.engine)->message);
    const grd_error error = *c->make(&w);
    cr_expect(error.status == c->status, "%s: status %s: %s", c->name, grd_status_name(error.status), error.message);
    cr_expect(strstr(error.message, c->says), "%s: no '%s' in '%s'", c->name, c->says, error.message);
    cr_expect(error.message[0] && !strchr(error.message, '\n'), "%s: not one line", c->name);
    if (getenv("SHOW")) printf("%-26s %-9s %s\n", c->name, grd_status_name(error.status), error.message);
    if (grd_graph_error(w.graph)->status) { /* it stays, whatever comes next */
        grd_matmul(w.x, w.x);
        cr_expect(strcmp(grd_graph_error(w.graph)->message, error.message) == 0, "%s: another error: %s", c->name,
                  grd_graph_error(w.graph)->message);
        cr_expect(grd_engine_error(w.engine)->status == c->status, "%s: the engine does not know", c->name);
    }
    /* the next graph is as good as ever */
    grd_tensor ones = grd_full(grd_graph_new(w.model), GRD_F32, grd_shape(2), 1);
    grd_program *program = grd_program_new(&ones, 1);
    cr_expect(program && !grd_program_run(program) && !grd_program_read(program, ones, w.data) && w.data[1] == 1,
              "%s: the engine does not go on", c->name);
    grd_engine_close(w.engine);
}

Test(misuse, each_is_one_clear_error)
{
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) try_case(&cases[i]);
}

/* Where there is not even a graph that could keep an error: poison, a status, or nothing. */
Test(misuse, nothing_at_all)
{
    const grd_tensor none = {NULL, 0};
    grd_tensor parts[2] = {none, none}, gradient;
    float data[2];
    cr_expect(grd_is_poison(grd_concat(NULL, 0, 0)) && grd_is_poison(grd_concat(NULL, 2, 0)) &&
              grd_is_poison(grd_concat(parts, 2, 0)) && grd_is_poison(grd_stack(NULL, 2, 0)));
    cr_expect(grd_is_poison(grd_input(NULL, "x", GRD_F32, grd_shape(2))) && grd_is_poison(grd_assign(none, none)) &&
              grd_is_poison(grd_constant(NULL, GRD_F32, grd_shape(1), data)) &&
              grd_is_poison(grd_parameter(NULL, "w", grd_shape(2))) && grd_is_poison(grd_linear(none, "fc", 2)) &&
              grd_is_poison(grd_call(NULL, "full", NULL, 0, NULL, 0, NULL)) && grd_is_poison(grd_lstm(none, "l", 2)));
    cr_expect(grd_gradients(NULL, 1, &none, 1, &gradient) && grd_gradients(&none, 1, NULL, 1, NULL));
    cr_expect(!grd_program_new_with(NULL, 1, NULL) && !grd_step_new_with(none, grd_sgd(1), NULL));
    cr_expect(grd_program_run(NULL) && grd_program_feed(NULL, none, data) && grd_program_read(NULL, none, data));
    cr_expect(grd_step_run(NULL, NULL) && grd_step_feed(NULL, none, data) && grd_step_read(NULL, none, data) &&
              grd_step_result(NULL, true, NULL) && grd_step_swap_ema(NULL) && grd_step_measure(NULL) &&
              grd_step_report(NULL, NULL));
    cr_expect(!grd_model_new(NULL, 1) && !grd_graph_new(NULL) && grd_model_read(NULL, NULL, NULL, NULL));
    grd_scope_push(NULL, "a");
    grd_scope_pop(NULL);
    grd_graph_free(NULL);
    grd_model_free(NULL);
    grd_engine_close(NULL);
}
