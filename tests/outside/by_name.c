/* by_name.c - ops by their names with public calls alone: the list of them, attributes, outputs, errors, and errors in
 * definitions of one's own ops. Installed library only. */
#include "check.h"

#include <gradus/gradus.h>

#include <math.h>
#include <string.h>

static bool in_list(const char *name)
{
    for (int32_t i = 0; i < grd_op_count(); i++)
        if (strcmp(grd_op_name(i), name) == 0) return true;
    return false;
}

static void values(void)
{
    grd_engine *engine = grd_engine_open("cpu");
    grd_graph *graph = grd_graph_new(grd_model_new(engine, 1));
    grd_tensor x = grd_input(graph, "x", GRD_F32, grd_shape(2, 3)), both[] = {x, x}, top[GRD_OUTPUTS_MAX];
    grd_tensor sum = grd_call(graph, "add", both, 2, NULL, 0, NULL);
    grd_attr last[] = {GRD_INT("axis", 1)}, one[] = {GRD_INT("k", 1), GRD_INT("axis", 1)};
    grd_tensor soft = grd_call(graph, "softmax", &x, 1, last, 1, NULL);
    grd_call(graph, "topk", &x, 1, one, 2, top);
    const int64_t turned[] = {1, 0};
    grd_attr order[] = {GRD_INTS("axes", turned, 2)};
    grd_tensor transposed = grd_call(graph, "transpose", &x, 1, order, 1, NULL);
    grd_tensor outputs[] = {sum, soft, top[0], top[1], transposed};
    grd_program *program = grd_program_new(outputs, 5);
    CHECK(program, "%s", grd_engine_error(engine)->message);
    const float data[6] = {1, 2, 3, 6, 5, 4};
    float got[6];
    int32_t which[2];
    if (program && !grd_program_feed(program, x, data) && !grd_program_run(program)) {
        grd_program_read(program, sum, got);
        CHECK(got[0] == 2 && got[5] == 8, "add: %g %g", (double)got[0], (double)got[5]);
        grd_program_read(program, soft, got);
        CHECK(fabsf(got[2] - 0.66524096f) < 1e-6f, "softmax: %g", (double)got[2]);
        grd_program_read(program, top[0], got);
        grd_program_read(program, top[1], which);
        CHECK(got[0] == 3 && got[1] == 6 && which[0] == 2 && which[1] == 0, "topk: %g at %d", (double)got[0], which[0]);
        grd_program_read(program, transposed, got);
        CHECK(got[1] == 6 && grd_dim(transposed, 0) == 3, "transpose: %g", (double)got[1]);
    }
    grd_engine_report(engine, stderr);
    failures += grd_engine_error(engine)->status != GRD_OK;
    grd_engine_close(engine);
}

static void refused(const char *op, int32_t inputs, grd_attr attr, const char *piece)
{
    grd_engine *engine = grd_engine_open("cpu");
    grd_graph *graph = grd_graph_new(grd_model_new(engine, 1));
    grd_tensor x = grd_input(graph, "x", GRD_F32, grd_shape(2, 3)), both[] = {x, x};
    grd_scope_push(graph, "here");
    grd_tensor y = grd_call(graph, op, both, inputs, &attr, attr.name != NULL, NULL);
    const char *message = grd_graph_error(graph)->message;
    CHECK(grd_is_poison(y) && strstr(message, piece) && strstr(message, "here"), "%s: said '%s'", op, message);
    grd_engine_close(engine);
}

static void any_shape(grd_op_shape *c)
{
    c->out[0] = c->in[0];
}

static void no_values(const grd_op_reference *r)
{
    (void)r;
}

static void register_refused(grd_op_definition definition, const char *piece)
{
    grd_engine *engine = grd_engine_open("cpu");
    grd_op_definition good = {
        .size = sizeof(good), .name = "mine", .inputs = 1, .shape = any_shape, .reference = no_values};
    CHECK(grd_op_register(engine, &good) == GRD_OK, "%s", grd_engine_error(engine)->message);
    CHECK(grd_op_register(engine, &definition) == GRD_E_ARGUMENT, "'%s' was taken", piece);
    CHECK(strstr(grd_engine_error(engine)->message, piece), "%s", grd_engine_error(engine)->message);
    grd_engine_close(engine);
}

/* An op without a gradient rule is refused where it is differentiated, not before. */
static void no_gradient(bool by_definition)
{
    grd_engine *engine = grd_engine_open("cpu");
    grd_op_definition d = {.size = sizeof(d),
                           .name = "mine",
                           .inputs = 1,
                           .no_gradient = by_definition,
                           .shape = any_shape,
                           .reference = no_values};
    grd_op_register(engine, &d);
    grd_graph *graph = grd_graph_new(grd_model_new(engine, 1));
    grd_tensor x = grd_input(graph, "x", GRD_F32, grd_shape(2));
    grd_tensor y = grd_call(graph, "mine", &x, 1, NULL, 0, NULL);
    CHECK(!grd_is_poison(y), "%s", grd_graph_error(graph)->message);
    grd_tensor slope = grd_grad(grd_sum(y), x);
    CHECK(grd_is_poison(slope) != by_definition, "the gradient of an op without one");
    CHECK(by_definition || strstr(grd_graph_error(graph)->message, "mine: has no gradient"), "%s",
          grd_graph_error(graph)->message);
    grd_engine_close(engine);
}

int main(void)
{
    CHECK(grd_op_count() >= 70, "%d ops", grd_op_count());
    CHECK(grd_op_name(-1) == NULL && grd_op_name(grd_op_count()) == NULL, "a name outside the table");
    CHECK(in_list("softmax") && in_list("attention") && !in_list("softmax2"), "the list of names");
    values();
    refused("softmax2", 1, (grd_attr){.name = NULL}, "there is no op 'softmax2'");
    refused("softmax", 1, (grd_attr)GRD_INT("axes", 1), "there is no attribute 'axes'");
    refused("softmax", 1, (grd_attr)GRD_FLOAT("axis", 1), "attribute 'axis' is of kind int, not float");
    refused("softmax", 2, (grd_attr){.name = NULL}, "was given 2");

    grd_op_definition d = {.size = sizeof(d), .name = "own", .inputs = 1, .shape = any_shape, .reference = no_values};
    grd_op_definition wrong = d;
    wrong.size = 0;
    register_refused(wrong, "size");
    wrong = d, wrong.name = "Own op";
    register_refused(wrong, "not a name");
    wrong = d, wrong.name = "softmax";
    register_refused(wrong, "already");
    wrong = d, wrong.name = "mine";
    register_refused(wrong, "already");
    wrong = d, wrong.inputs = GRD_INPUTS_MAX + 1;
    register_refused(wrong, "inputs");
    wrong = d, wrong.outputs = GRD_OUTPUTS_MAX + 1;
    register_refused(wrong, "outputs");
    wrong = d, wrong.reference = NULL;
    register_refused(wrong, "reference");
    no_gradient(false);
    no_gradient(true);
    printf("%d ops by name\n", grd_op_count());
    return failures != 0;
}
