/* golden.c - an op, or what is made of ops, against another library's values, gradients and second derivatives. */
#include "golden.h"

#include "ops/sample.h"
#include "ops/table.h"

#include <gradus/io.h>
#include <gradus/model.h>
#include <gradus/ops.h>

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define ITEMS_MAX 24

/* One run of one case: the graph's values and the file's tensors that they are fed from or must equal. */
typedef struct run {
    const golden *golden;
    grd_safetensors *file;
    grd_graph *graph;
    grd_dtype dtype;
    grd_tensor fed[ITEMS_MAX], wanted[ITEMS_MAX];
    const grd_file_tensor *fed_from[ITEMS_MAX], *expected[ITEMS_MAX];
    int32_t fed_count, wanted_count;
    grd_model *model;
    const grd_file_tensor *written[ITEMS_MAX]; /* to the model's parameters */
    int32_t written_count;
} run;

static const grd_file_tensor *stored(const run *r, const char *what, int32_t index)
{
    char name[96];
    if (index < 0) snprintf(name, sizeof name, "%s/%s", r->golden->name, what);
    else snprintf(name, sizeof name, "%s/%s%d", r->golden->name, what, index);
    return grd_safetensors_find(r->file, name);
}

/* An input of the graph that is fed from the file; floats in the run's dtype. */
static grd_tensor feed_from(run *r, const grd_file_tensor *from)
{
    cr_assert(from, "%s: a tensor is missing in the file", r->golden->name);
    cr_assert(r->fed_count < ITEMS_MAX, "too many inputs");
    grd_tensor input = grd_input(r->graph, from->name, from->dtype == GRD_F64 ? r->dtype : from->dtype, from->dims);
    r->fed[r->fed_count] = input;
    r->fed_from[r->fed_count++] = from;
    return input;
}

/* A value that must equal the file's tensor; those that the file lacks are not compared. */
static void want(run *r, grd_tensor value, const grd_file_tensor *expected)
{
    if (!expected) return;
    cr_assert(r->wanted_count < ITEMS_MAX, "too many outputs");
    r->wanted[r->wanted_count] = value;
    r->expected[r->wanted_count++] = expected;
}

/* Emits the op; its outputs go to `out`. */
static void build_op(run *r, const grd_tensor *in, int32_t count, grd_tensor *out)
{
    if (r->golden->call) {
        out[0] = r->golden->call(in);
        return;
    }
    const grdi_op *op = grdi_op_find(r->golden->op);
    cr_assert(op, "no op '%s'", r->golden->op);
    static grdi_sample_case attrs; /* large */
    grd_error error = {GRD_OK, ""};
    cr_assert(grdi_sample_read_attrs(op, r->golden->attrs, &attrs, &error) == GRD_OK, "%s", error.message);
    grd_call(r->graph, op->name, in, count, attrs.attrs, attrs.attr_count, out);
}

/* The path of a parameter that the file gives; NULL for any other of its tensors. */
static const char *path_of(const run *r, const grd_file_tensor *t)
{
    size_t length = strlen(r->golden->name);
    bool ours = strncmp(t->name, r->golden->name, length) == 0 && strncmp(t->name + length, "/p/", 3) == 0;
    return ours ? t->name + length + 3 : NULL;
}

/* Parameters of a layer, and the gradients that it must have there. */
static void build_parameters(run *r, grd_tensor loss)
{
    for (size_t i = 0; i < grd_safetensors_count(r->file); i++) {
        const grd_file_tensor *t = grd_safetensors_at(r->file, i);
        const char *path = path_of(r, t);
        char name[96];
        if (!path) continue;
        cr_assert(r->written_count < ITEMS_MAX, "too many parameters");
        r->written[r->written_count++] = t;
        snprintf(name, sizeof name, "%s/pg/%s", r->golden->name, path);
        const grd_file_tensor *gradient = grd_safetensors_find(r->file, name);
        cr_assert(gradient, "%s is missing in the file", name);
        want(r, grd_grad(loss, grd_parameter(r->graph, path, t->dims, .tie = true)), gradient);
    }
}

/* sum(a b), to which grd_grad() can be applied */
static grd_tensor inner(grd_tensor a, grd_tensor b)
{
    return grd_sum(grd_mul(a, b));
}

static void build(run *r)
{
    grd_tensor in[8], out[GRD_OUTPUTS_MAX] = {{NULL, 0}}, grads[8], along = {NULL, 0};
    int32_t count = 0;
    while (count < 8 && stored(r, "in", count)) {
        in[count] = feed_from(r, stored(r, "in", count));
        count++;
    }
    cr_assert(count > 0, "%s: no inputs in the file", r->golden->name);
    build_op(r, in, count, out);
    for (int32_t o = 0; o < GRD_OUTPUTS_MAX && out[o].node; o++) want(r, out[o], stored(r, "out", o));
    cr_assert(r->wanted_count > 0, "%s: no output in the file", r->golden->name);
    grd_tensor loss = inner(out[0], feed_from(r, stored(r, "g", -1)));
    for (int32_t i = 0; i < count; i++) {
        if (!stored(r, "grad", i)) continue;
        grads[i] = grd_grad(loss, in[i]);
        want(r, grads[i], stored(r, "grad", i));
        if (!stored(r, "u", i)) continue; /* what the other library cannot differentiate twice */
        grd_tensor term = inner(grads[i], feed_from(r, stored(r, "u", i)));
        along = along.node ? grd_add(along, term) : term;
    }
    build_parameters(r, loss);
    const grd_error *error = grd_graph_error(r->graph);
    cr_assert(!error->status && (along.node || !stored(r, "u", 0)), "%s: %s", r->golden->name, error->message);
    for (int32_t i = 0; i < count && along.node; i++)
        if (stored(r, "grad", i)) want(r, grd_grad(along, in[i]), stored(r, "second", i));
}

static double element(const grd_file_tensor *t, int64_t i)
{
    double value;
    memcpy(&value, (const char *)t->data + (size_t)i * sizeof value, sizeof value);
    return value;
}

static void feed(const run *r, grd_program *program)
{
    for (int32_t i = 0; i < r->fed_count; i++) {
        const grd_file_tensor *from = r->fed_from[i];
        int64_t count = grd_dims_count(from->dims);
        void *data = malloc((size_t)count * 8 + 8);
        cr_assert(data, "out of memory");
        if (from->dtype == GRD_F64 && r->dtype == GRD_F32)
            for (int64_t k = 0; k < count; k++) ((float *)data)[k] = (float)element(from, k);
        else memcpy(data, from->data, from->size_bytes);
        cr_assert(grd_program_feed(program, r->fed[i], data) == GRD_OK, "%s: %s", r->golden->name,
                  grd_program_error(program)->message);
        free(data);
    }
}

static void write_parameters(const run *r)
{
    for (int32_t i = 0; i < r->written_count; i++) {
        int64_t count = grd_dims_count(r->written[i]->dims);
        float *data = malloc((size_t)count * sizeof *data);
        grd_error error = {GRD_OK, ""};
        cr_assert(data, "out of memory");
        for (int64_t k = 0; k < count; k++) data[k] = (float)element(r->written[i], k);
        grd_status status = grd_model_write(r->model, path_of(r, r->written[i]), data, &error);
        cr_assert(status == GRD_OK, "%s", error.message);
        free(data);
    }
}

/* Every element within `tolerance` of the largest magnitude in its tensor (at least 1). */
static void compare(const run *r, grd_program *program, int32_t which, double tolerance)
{
    const grd_file_tensor *expected = r->expected[which];
    grd_tensor value = r->wanted[which];
    cr_assert(grd_dims_equal(grd_tensor_dims(value), expected->dims), "%s has another shape", expected->name);
    int64_t count = grd_dims_count(expected->dims);
    double *got = malloc((size_t)count * 8 + 8), largest = 1;
    cr_assert(got, "out of memory");
    cr_assert(grd_program_read(program, value, got) == GRD_OK, "%s: cannot be read", expected->name);
    for (int64_t k = count - 1; k >= 0 && r->dtype == GRD_F32; k--) got[k] = ((float *)got)[k];
    for (int64_t k = 0; k < count; k++) largest = fmax(largest, fabs(element(expected, k)));
    for (int64_t k = 0; k < count; k++) {
        double error = fabs(got[k] - element(expected, k));
        cr_assert(error <= tolerance * largest, "%s[%lld] is %.17g, PyTorch has %.17g", expected->name, (long long)k,
                  got[k], element(expected, k)); /* fails on NaN, too */
    }
    free(got);
}

void golden_check(const golden *golden, const char *file, const char *device, grd_dtype dtype, double tolerance)
{
    char path[512];
    grd_error error = {GRD_OK, ""};
    run r = {.golden = golden, .dtype = dtype};
    snprintf(path, sizeof path, "%s/tests/golden/%s", GRADUS_SOURCE_DIR, file);
    grd_status status = grd_safetensors_open(path, &r.file, &error);
    cr_assert(status == GRD_OK, "%s", error.message);
    grd_engine *engine = grd_engine_open(device);
    r.model = grd_model_new(engine, 1);
    r.graph = grd_graph_new(r.model);
    build(&r);
    grd_program *program = grd_program_new(r.wanted, r.wanted_count);
    cr_assert(program, "%s: %s", golden->name, grd_graph_error(r.graph)->message);
    feed(&r, program);
    write_parameters(&r);
    status = grd_program_run(program);
    cr_assert(status == GRD_OK, "%s: %s", golden->name, grd_program_error(program)->message);
    for (int32_t i = 0; i < r.wanted_count; i++) compare(&r, program, i, tolerance);
    grd_engine_close(engine);
    grd_safetensors_close(r.file);
}

struct criterion_test_params golden_indices(size_t count)
{
    static int index[256];
    cr_assert(count <= sizeof(index) / sizeof(index[0]));
    for (size_t i = 0; i < count; i++) index[i] = (int)i;
    return cr_make_param_array(int, index, count);
}
