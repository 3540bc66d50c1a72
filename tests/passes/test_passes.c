/* test_passes.c - each pass writes the graph it leaves behind, as DOT and as JSON; each can be switched off; what
 * cannot be written ends the compiling with the file's name. */
#include "faults.h"
#include "scratch.h"

#include "base/file.h"
#include "passes/pass.h"

#include <criterion/criterion.h>
#include <gradus/gradus.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

TestSuite(passes, .fini = scratch_remove);

static const char *const names[] = {"extract", "simplify", "recompute", "epilogue", "fuse", "schedule"};
enum { PASSES = sizeof(names) / sizeof(names[0]) };

/* precision, before the last one, has nothing to do in f32: it leaves no graph. */
static int number_of(int pass)
{
    return pass < PASSES - 1 ? pass : pass + 1;
}

typedef struct example {
    grd_engine *engine;
    grd_graph *graph;
    grd_tensor x, loss;
} example;

/* Something for every pass: a dead node, a slice of everything, a segment, a chain, a name with quotes in it. */
static example build(void)
{
    example e = {.engine = grd_engine_open("cpu", .threads = 1)};
    e.graph = grd_graph_new(grd_model_new(e.engine, 1));
    e.x = grd_input(e.graph, "x\"y\\z", GRD_F32, grd_shape(4, 8));
    grd_exp(e.x);
    grd_scope_push(e.graph, "say \"%s\"", "hello");
    grd_segment_begin(e.graph);
    grd_tensor h = grd_tanh(grd_linear(grd_slice(e.x, 0, 0, 4), "fc", 8));
    h = grd_mul(grd_exp(h), grd_sigmoid(h));
    grd_segment_end(e.graph);
    grd_scope_pop(e.graph);
    e.loss = grd_mean(grd_clamp(h, -INFINITY, 100));
    cr_assert(!grd_is_poison(e.loss), "%s", grd_graph_error(e.graph)->message);
    return e;
}

static grd_step *compile(const example *e, const char *dump, const char *disable)
{
    return grd_step_new(e->loss, grd_sgd(0.1), .program = {.recompute = true, .dump = dump, .disable = disable});
}

/* The nodes of a dump, to be given back; every input must come before its user. */
static json_t *nodes_of(const char *path)
{
    size_t size;
    char *text = scratch_read(path, &size);
    json_error_t error;
    json_t *graph = json_loadb(text, size, JSON_REJECT_DUPLICATES, &error);
    cr_assert(graph, "%s:%d: %s", path, error.line, error.text);
    free(text);
    json_t *nodes = json_object_get(graph, "nodes"), *node, *input;
    size_t n, i;
    json_array_foreach(nodes, n, node) {
        cr_assert(json_integer_value(json_object_get(node, "id")) == (json_int_t)n, "%s: node %zu", path, n);
        json_array_foreach(json_object_get(node, "inputs"), i, input)
            cr_assert(json_integer_value(json_array_get(input, 0)) < (json_int_t)n, "%s: node %zu", path, n);
    }
    json_incref(nodes);
    json_decref(graph);
    return nodes;
}

static int count_nodes(json_t *nodes, const char *op, const char *phase)
{
    json_t *node;
    size_t n;
    int count = 0;
    json_array_foreach(nodes, n, node) {
        bool is = !op || strcmp(json_string_value(json_object_get(node, "op")), op) == 0;
        count += is && (!phase || strcmp(json_string_value(json_object_get(node, "phase")), phase) == 0);
    }
    return count;
}

static json_t *dumped(const char *folder, int pass)
{
    char path[4200];
    snprintf(path, sizeof(path), "%s/%d-%s.json", folder, number_of(pass), names[pass]);
    return nodes_of(path);
}

Test(passes, leave_a_graph_behind_each)
{
    example e = build();
    const char *folder = scratch_path("dumps");
    cr_assert(!grdi_directory_make(folder, NULL), "mkdir");
    grd_tensor roots[] = {grd_grad(e.loss, e.x), e.loss};
    grd_program *program = grd_program_new(roots, 2, .recompute = true, .dump = folder);
    cr_assert(program != NULL, "%s", grd_graph_error(e.graph)->message);
    json_t *nodes[PASSES];
    for (int p = 0; p < PASSES; p++) {
        nodes[p] = dumped(folder, p);
        cr_assert(count_nodes(nodes[p], NULL, NULL) > 8, "%s: %d nodes", names[p], count_nodes(nodes[p], NULL, NULL));
        char path[4200];
        size_t size;
        snprintf(path, sizeof(path), "%s/%d-%s.dot", folder, number_of(p), names[p]);
        char *dot = scratch_read(path, &size);
        cr_assert(strncmp(dot, "digraph gradus {", 16) == 0 && strcmp(dot + size - 2, "}\n") == 0, "%s", dot);
        cr_assert(strstr(dot, "say \\\"hello\\\"/") && strstr(dot, " -> "), "%s", dot);
        free(dot);
    }
    cr_assert(count_nodes(nodes[0], "slice", NULL) > count_nodes(nodes[1], "slice", NULL), "simplify drops the slice");
    cr_assert(count_nodes(nodes[1], "tanh", "backward") == 0 && count_nodes(nodes[2], "tanh", "backward") == 1,
              "recompute makes tanh again");
    cr_assert(count_nodes(nodes[3], "fused_map", NULL) == 0 && count_nodes(nodes[4], "fused_map", NULL) > 0, "fuse");
    const json_t *input = NULL;
    json_t *node;
    size_t n;
    json_array_foreach(nodes[0], n, node)
        if (json_object_get(node, "name") && count_nodes(nodes[0], "input", NULL) == 1 &&
            strcmp(json_string_value(json_object_get(node, "op")), "input") == 0)
            input = node;
    cr_assert_str_eq(json_string_value(json_object_get(input, "name")), "x\"y\\z");
    for (int p = 0; p < PASSES; p++) json_decref(nodes[p]);
    grd_engine_close(e.engine);
}

Test(passes, can_be_left_out_by_name)
{
    example e = build();
    const char *folder = scratch_path("dumps");
    cr_assert(!grdi_directory_make(folder, NULL), "mkdir");
    cr_assert(compile(&e, folder, "fuse,recompute,epilogue,precision,schedule") != NULL,
              "%s", grd_graph_error(e.graph)->message);
    char **files;
    size_t count;
    cr_assert(!grdi_directory_list(folder, &files, &count, NULL), "list");
    cr_assert(count == 6, "%zu files: extract, simplify and schedule (which is no choice), two each", count);
    cr_assert(strcmp(files[4], "6-schedule.dot") == 0, "%s", files[4]);
    grdi_names_free(files, count);
    grd_engine_close(e.engine);
}

enum { NORM_ROWS = 12, NORM_WIDTH = 5, NORM_VALUES = NORM_ROWS * NORM_WIDTH };

/* Relus behind batch_norm: of what is normalised alone, of its sum with what was there before, and of what others read,
 * too. The gradient of x. */
static void differentiate_norms(const char *disable, const char *dump, float gradient[NORM_VALUES])
{
    float x[NORM_VALUES];
    grd_engine *engine = grd_engine_open("cpu", .threads = 1);
    grd_graph *graph = grd_graph_new(grd_model_new(engine, 1));
    grd_tensor in = grd_input(graph, "x", GRD_F32, grd_shape(NORM_ROWS, NORM_WIDTH));
    grd_tensor h = grd_relu(grd_batch_norm(grd_linear(in, "a", 7), "first", true));
    h = grd_relu(grd_add(h, grd_batch_norm(grd_linear(h, "c", 7), "sum", true)));
    grd_tensor n = grd_batch_norm(grd_linear(h, "b", 7), "second", true);
    grd_tensor slope = grd_grad(grd_mean(grd_square(grd_add(n, grd_mul(grd_relu(n), h)))), in);
    for (int i = 0; i < NORM_VALUES; i++) x[i] = (float)(i * 37 % 23) / 11 - 1;
    grd_program *program = grd_program_new(&slope, 1, .dump = dump, .disable = disable);
    cr_assert(program, "%s", grd_graph_error(graph)->message);
    grd_program_feed(program, in, x);
    cr_assert(grd_program_run(program) == GRD_OK && grd_program_read(program, slope, gradient) == GRD_OK);
    grd_engine_close(engine);
}

Test(passes, join_a_relu_to_the_norm_that_it_alone_reads)
{
    float joined[NORM_VALUES], apart[NORM_VALUES], largest = 0;
    const char *folder = scratch_path("dumps");
    cr_assert(!grdi_directory_make(folder, NULL), "mkdir");
    differentiate_norms(NULL, folder, joined);
    differentiate_norms("epilogue", NULL, apart);
    for (int i = 0; i < NORM_VALUES; i++) largest = fmaxf(largest, fabsf(apart[i]));
    for (int i = 0; i < NORM_VALUES; i++)
        cr_expect(fabsf(joined[i] - apart[i]) < 1e-5f * largest, "%d: %g, %g", i, (double)joined[i], (double)apart[i]);
    json_t *before = dumped(folder, 1), *after = dumped(folder, 3);
    cr_expect(count_nodes(before, "relu", NULL) == 3 && count_nodes(after, "relu", NULL) == 1);
    cr_expect(count_nodes(before, "relu_backward", NULL) == 3 && count_nodes(after, "relu_backward", NULL) == 2);
    cr_expect(count_nodes(after, "batch_norm", NULL) == 3 && count_nodes(after, "batch_norm_backward", NULL) == 3);
    cr_expect(count_nodes(after, "add", "forward") == count_nodes(before, "add", "forward") - 1);
    json_decref(before);
    json_decref(after);
}

Test(passes, say_which_dump_cannot_be_written)
{
    example e = build();
    cr_assert(!compile(&e, scratch_path("no/such/folder"), NULL), "written nowhere");
    const grd_error *error = grd_graph_error(e.graph);
    cr_assert(error->status == GRD_E_IO, "%s", error->message);
    cr_assert(strstr(error->message, "no/such/folder/0-extract.dot"), "%s", error->message);
    grd_engine_close(e.engine);
}

Test(passes, every_failed_write_of_a_dump_is_an_error)
{
    faults_install();
    const char *folder = scratch_path("dumps");
    cr_assert(!grdi_directory_make(folder, NULL), "mkdir");
    long n = 1, failures = 0;
    for (bool hit = true; hit; n++) {
        example e = build();
        faults_fail_at(n);
        bool made = compile(&e, folder, NULL) != NULL;
        hit = faults_hit();
        faults_fail_at(0);
        const grd_error *error = grd_graph_error(e.graph);
        cr_assert(made == !error->status, "fault %ld: %s", n, error->message);
        cr_assert(made || error->status == GRD_E_MEMORY || error->status == GRD_E_IO || error->status == GRD_E_SPACE,
                  "fault %ld: %s", n,
                  error->message);
        failures += !made;
        grd_engine_close(e.engine);
        cr_assert(faults_held() == 0, "fault %ld: %ld things leak (%s)", n, faults_held(), error->message);
    }
    cr_assert(failures > 100, "%ld failures of %ld", failures, n);
}
