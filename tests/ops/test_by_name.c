/* test_by_name.c - grd_call reaches every op of the table: for all samples it gives the same types and the same bits as
 * the typed way, and says what is wrong with a bad one. What comes from outside has calls of its own. */
#include "ops/sample.h"

#include <criterion/criterion.h>
#include <gradus/gradus.h>
#include <stdlib.h>
#include <string.h>

/* A sample in a graph: inputs, and the op applied to them. */
typedef struct application {
    grd_graph *graph;
    int32_t in_count;
    grd_tensor in[GRDI_INPUTS_MAX], out[GRDI_OUTPUTS_MAX];
} application;

static application apply(grd_model *model, const grdi_op *op, const grdi_sample_case *c, bool by_name)
{
    application a = {.graph = grd_graph_new(model), .in_count = c->input_count};
    for (int32_t i = 0; i < c->input_count; i++) {
        const grdi_type *type = &c->in[i].type;
        char name[16];
        snprintf(name, sizeof(name), "in%d", i);
        bool target = (op->flags & GRDI_OP_EFFECT) && i == 0; /* what is written to must be a state */
        a.in[i] = target ? grd_state(a.graph, by_name ? "a" : "b", type->dtype, type->dims)
                         : grd_input(a.graph, name, type->dtype, type->dims);
    }
    if (by_name) grd_call(a.graph, op->name, a.in, a.in_count, c->attrs, c->attr_count, a.out);
    else grdi_emit(a.graph, op, a.in, a.in_count, c->attrs, c->attr_count, a.out);
    return a;
}

static void fill(const grdi_sample_case *c, const char *op, double **values)
{
    grd_error error = {GRD_OK, ""};
    for (int32_t i = 0; i < c->input_count; i++)
        values[i] = calloc((size_t)grd_dims_count(c->in[i].type.dims) + 1, sizeof(double));
    cr_assert(grdi_sample_fill_all(c, 7, values, &error) == GRD_OK, "%s: %s", op, error.message);
}

/* Runs it and returns all outputs, one after the other. */
static char *run(const application *a, const grdi_sample_case *c, double *const *values, const char *op, size_t *size)
{
    int32_t count = 0;
    *size = 0;
    while (count < GRDI_OUTPUTS_MAX && a->out[count].node) {
        grd_dims dims = grd_tensor_dims(a->out[count]);
        *size += (size_t)grd_dims_count(dims) * grd_dtype_size(grd_tensor_dtype(a->out[count++]));
    }
    grd_program *program = grd_program_new(a->out, count);
    cr_assert(program != NULL, "%s: %s", op, grd_graph_error(a->graph)->message);
    for (int32_t i = 0; i < a->in_count; i++) {
        const grdi_type *type = &c->in[i].type;
        int64_t elements = grd_dims_count(type->dims);
        void *data = calloc((size_t)elements + 1, sizeof(double));
        grdi_sample_store(type->dtype, values[i], elements, data);
        if (strcmp(op, "assign") != 0 || i > 0)
            cr_assert(!grd_program_feed(program, a->in[i], data), "%s: %s", op, grd_program_error(program)->message);
        free(data);
    }
    cr_assert(grd_program_run(program) == GRD_OK, "%s: %s", op, grd_program_error(program)->message);
    char *all = malloc(*size + 1), *next = all;
    for (int32_t o = 0; o < count; o++) {
        cr_assert(grd_program_read(program, a->out[o], next) == GRD_OK, "%s: output %d", op, o);
        next += (size_t)grd_dims_count(grd_tensor_dims(a->out[o])) * grd_dtype_size(grd_tensor_dtype(a->out[o]));
    }
    return all;
}

static void check_sample_by_name(const grdi_op *op, const grdi_sample *sample)
{
    static grdi_sample_case c;
    grd_error error = {GRD_OK, ""};
    if (grdi_sample_read(op, sample, false, &c, &error)) {
        cr_assert(sample->bad != NULL, "%s: %s", op->name, error.message);
        return;
    }
    grd_engine *engine = grd_engine_open("cpu", .threads = 1);
    grd_model *model = grd_model_new(engine, 1);
    application named = apply(model, op, &c, true);
    if (sample->bad) {
        const char *message = grd_graph_error(named.graph)->message;
        bool said = !named.out[0].node && strstr(message, sample->bad);
        cr_assert(said, "%s: of a bad sample it says '%s', not '%s'", op->name, message, sample->bad);
    } else {
        application typed = apply(model, op, &c, false);
        double *values[GRDI_INPUTS_MAX];
        size_t size, typed_size;
        fill(&c, op->name, values);
        char *got = run(&named, &c, values, op->name, &size), *want = run(&typed, &c, values, op->name, &typed_size);
        cr_assert(size == typed_size && memcmp(got, want, size) == 0, "%s: by name it computes something else",
                  op->name);
        free(got);
        free(want);
        for (int32_t i = 0; i < c.input_count; i++) free(values[i]);
    }
    grd_engine_close(engine);
}

Test(by_name, reaches_every_op)
{
    int32_t ops = 0, samples = 0;
    for (int32_t k = 0; k < grd_op_count(); k++) {
        const grdi_op *op = grdi_op_find(grd_op_name(k));
        cr_assert(op != NULL, "%s is listed and not found", grd_op_name(k));
        if (op->flags & GRDI_OP_SOURCE) continue;
        int32_t before = samples;
        for (int32_t i = 0, n = grdi_sample_count(op); i < n; i++) {
            if (op->samples[i].large) continue;
            check_sample_by_name(op, &op->samples[i]);
            samples++;
        }
        cr_assert(samples > before, "%s has no sample", op->name);
        ops++;
    }
    printf("%d ops by name, %d samples\n", ops, samples);
}

static void refused(const char *op, int32_t count, const grd_attr *attr, const char *piece)
{
    grd_engine *engine = grd_engine_open("cpu", .threads = 1);
    grd_graph *graph = grd_graph_new(grd_model_new(engine, 1));
    grd_tensor x = grd_input(graph, "x", GRD_F32, grd_shape(2, 3)), in[GRDI_INPUTS_MAX + 1], out[GRD_OUTPUTS_MAX];
    for (int32_t i = 0; i <= GRDI_INPUTS_MAX; i++) in[i] = x;
    grd_call(graph, op, in, count, attr, attr != NULL, out);
    const char *message = grd_graph_error(graph)->message;
    cr_expect(!out[0].node && !out[GRD_OUTPUTS_MAX - 1].node && strstr(message, piece), "'%s' does not say '%s'",
              message, piece);
    grd_engine_close(engine);
}

Test(by_name, says_what_is_wrong)
{
    refused(NULL, 1, NULL, "there is no op '(null)'");
    refused("", 1, NULL, "there is no op ''");
    refused("input", 0, NULL, "input: not to be had by name (use grd_input)");
    refused("constant", 0, NULL, "use grd_constant");
    refused("parameter", 0, NULL, "use grd_parameter");
    refused("state", 0, NULL, "use grd_state");
    refused("relu", -1, NULL, "relu: cannot take -1 inputs");
    refused("relu", GRDI_INPUTS_MAX + 1, NULL, "relu: cannot take 17 inputs");
    refused("relu", 2, NULL, "was given 2");
    const grd_attr nameless = {.name = NULL}, missing = {.name = "dims", .kind = GRD_ATTR_INTS, .count = 2},
                   negative = {.name = "dims", .kind = GRD_ATTR_INTS, .count = -1}, strange = GRD_TYPE("dtype", 99);
    refused("reshape", 1, &nameless, "there is no attribute '(null)'");
    refused("reshape", 1, &missing, "attribute 'dims' has 2 integers at NULL");
    refused("reshape", 1, &negative, "attribute 'dims' has -1 integers");
    refused("cast", 1, &strange, "cast");
}
