/* test_math_golden.c - element-wise ops, reductions and optimizer updates against PyTorch, stored by
 * golden/make_math_goldens.py: in double by the references, in f32 by the CPU's kernels. */
#include "ops/sample.h"
#include "ops/table.h"

#include <gradus/io.h>
#include <gradus/ops.h>

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define NAME_MAX_BYTES 96

/* Cases whose attributes are not the op's defaults, or whose name is not the op's; "_awkward" may follow. */
static const struct golden {
    const char *name, *op, *attrs;
} special[] = {
    {"clamp", "clamp", "low=-0.7 high=1.1"},
    {"pow_scalar", "pow_scalar", "value=3"},
    {"add_scalar", "add_scalar", "value=0.3"},
    {"mul_scalar", "mul_scalar", "value=-1.7"},
    {"any", "any", "axes=1"},
    {"all", "all", "axes=1"},
    {"maximum_ties", "maximum", ""},
    {"minimum_ties", "minimum", ""},
    {"pow_zero", "pow", ""},
    {"sum", "sum", "axes=0,2"},
    {"mean", "mean", "axes=0,2"},
    {"max", "max", "axes=0,2"},
    {"min", "min", "axes=0,2"},
    {"logsumexp", "logsumexp", "axes=0,2"},
    {"sum_keep", "sum", "axes=1 keep=true"},
    {"mean_keep", "mean", "axes=1 keep=true"},
    {"max_keep", "max", "axes=1 keep=true"},
    {"min_keep", "min", "axes=1 keep=true"},
    {"logsumexp_keep", "logsumexp", "axes=1 keep=true"},
    {"sum_ties", "sum", "axes=1"},
    {"mean_ties", "mean", "axes=1"},
    {"max_ties", "max", "axes=1"},
    {"min_ties", "min", "axes=1"},
    {"logsumexp_ties", "logsumexp", "axes=1"},
    {"sum_awkward", "sum", "axes=1"},
    {"mean_awkward", "mean", "axes=1"},
    {"max_awkward", "max", "axes=1"},
    {"min_awkward", "min", "axes=1"},
    {"logsumexp_awkward", "logsumexp", "axes=1"},
    {"variance", "variance", "axes=0,2 correction=1"},
    {"prod", "prod", "axes=1"},
    {"prod_zeros", "prod", "axes=1"},
    {"argmax", "argmax", "axis=1"},
    {"argmin", "argmin", "axis=1"},
    {"argmax_awkward", "argmax", "axis=0"},
    {"adamw", "adamw", "beta1=0.8 beta2=0.95 eps=0.001 weight_decay=0.1"},
    {"adam", "adamw", "beta1=0.8 beta2=0.95 eps=0.001 weight_decay=0.1 coupled=true"},
    {"sgd", "sgd", "weight_decay=0.1"},
    {"sgd_momentum", "sgd", "weight_decay=0.1 momentum=0.9 dampening=0.25"},
    {"lion", "lion", "beta1=0.8 beta2=0.95 weight_decay=0.1"},
    {"ema", "ema", "decay=0.9"},
    {"one_hot", "one_hot", "depth=5"},
    {"sgd_nesterov", "sgd", "weight_decay=0.1 momentum=0.9 nesterov=true"},
};

/* How a case is run: the device, what f64 tensors of the file become, and what a result may be off by, relative to the
 * larger of 1 and the value. */
typedef struct setting {
    const char *device;
    grd_dtype dtype;
    double tolerance;
} setting;

static const struct golden *find_special(const char *name)
{
    for (size_t i = 0; i < sizeof special / sizeof special[0]; i++)
        if (strcmp(special[i].name, name) == 0) return &special[i];
    return NULL;
}

static struct golden golden_of(const char *name)
{
    static char base[NAME_MAX_BYTES];
    const struct golden *found = find_special(name);
    if (found) return *found;
    snprintf(base, sizeof base, "%s", name);
    char *suffix = strstr(base, "_awkward");
    if (suffix) *suffix = 0;
    found = find_special(base);
    return found ? *found : (struct golden){name, base, ""};
}

static const grd_file_tensor *stored(const grd_safetensors *file, const char *name, const char *what, int32_t index)
{
    char full[NAME_MAX_BYTES + 16];
    if (index < 0)
        snprintf(full, sizeof full, "%s/%s", name, what);
    else
        snprintf(full, sizeof full, "%s/%s%d", name, what, index);
    return grd_safetensors_find(file, full);
}

static grd_tensor fed(grd_graph *graph, const grd_file_tensor *t, const setting *s)
{
    return grd_input(graph, t->name, t->dtype == GRD_F64 ? s->dtype : t->dtype, t->dims);
}

static void feed(grd_program *program, grd_tensor input, const grd_file_tensor *from)
{
    int64_t count = grd_dims_count(from->dims);
    double *values = malloc((size_t)count * sizeof *values + 8);
    void *data = malloc((size_t)count * 8 + 8);
    cr_assert(values && data, "out of memory");
    grdi_sample_load(from->dtype, from->data, count, values);
    grdi_sample_store(grd_tensor_dtype(input), values, count, data);
    cr_assert(grd_program_feed(program, input, data) == GRD_OK, "%s: not fed", from->name);
    free(values);
    free(data);
}

static bool close_to(double got, double want, double tolerance)
{
    if (isnan(want) || isinf(want)) return isnan(want) ? isnan(got) : got == want;
    return fabs(got - want) <= tolerance * fmax(1.0, fabs(want));
}

static void compare(grd_program *program, grd_tensor value, const grd_file_tensor *expected, const setting *s)
{
    cr_assert(grd_dims_equal(grd_tensor_dims(value), expected->dims), "%s has another shape", expected->name);
    int64_t count = grd_dims_count(expected->dims), wrong = 0;
    double *got = malloc((size_t)count * sizeof *got + 8), *want = malloc((size_t)count * sizeof *want + 8);
    void *data = malloc((size_t)count * 8 + 8);
    cr_assert(got && want && data, "out of memory");
    cr_assert(grd_program_read(program, value, data) == GRD_OK, "%s cannot be read", expected->name);
    grdi_sample_load(grd_tensor_dtype(value), data, count, got);
    grdi_sample_load(expected->dtype, expected->data, count, want);
    for (int64_t k = 0; k < count; k++) {
        bool ok = close_to(got[k], want[k], s->tolerance);
        cr_expect(ok || wrong, "%s: %s[%lld] is %.17g, PyTorch has %.17g", s->device, expected->name, (long long)k,
                  got[k], want[k]);
        wrong += !ok;
    }
    free(got);
    free(want);
    free(data);
}

/* Builds the case's op and gradients, runs them and compares all that the file holds. */
static void check(const grd_safetensors *file, const char *name, const setting *s)
{
    struct golden golden = golden_of(name);
    static grdi_sample_case attrs; /* large */
    grd_error error = {GRD_OK, ""};
    const grdi_op *op = grdi_op_find(golden.op);
    cr_assert(op, "no op '%s'", golden.op);
    cr_assert(grdi_sample_read_attrs(op, golden.attrs, &attrs, &error) == GRD_OK, "%s", error.message);
    grd_engine *engine = grd_engine_open(s->device);
    grd_graph *graph = grd_graph_new(grd_model_new(engine, 1));
    grd_tensor in[9], out[GRD_OUTPUTS_MAX], values[16];
    const grd_file_tensor *from[9], *expected[16];
    int32_t inputs = 0, fed_count, wanted = 0;
    for (; inputs < 8 && (from[inputs] = stored(file, name, "in", inputs)); inputs++)
        in[inputs] = fed(graph, from[inputs], s);
    grd_call(graph, golden.op, in, inputs, attrs.attrs, attrs.attr_count, out);
    for (int32_t o = 0; o < GRD_OUTPUTS_MAX && (expected[wanted] = stored(file, name, "out", o)); o++)
        values[wanted++] = out[o];
    fed_count = inputs;
    if ((from[inputs] = stored(file, name, "g", -1))) {
        in[fed_count++] = fed(graph, from[inputs], s);
        grd_tensor loss = grd_sum(grd_mul(out[0], in[inputs]));
        for (int32_t i = 0; i < inputs; i++)
            if ((expected[wanted] = stored(file, name, "grad", i))) values[wanted++] = grd_grad(loss, in[i]);
    }
    grd_program *program = grd_program_new(values, wanted);
    cr_assert(program, "%s: %s", name, grd_graph_error(graph)->message);
    for (int32_t i = 0; i < fed_count; i++) feed(program, in[i], from[i]);
    cr_assert(grd_program_run(program) == GRD_OK, "%s: %s", name, grd_program_error(program)->message);
    for (int32_t i = 0; i < wanted; i++) compare(program, values[i], expected[i], s);
    grd_engine_close(engine);
}

static void check_all(const setting *s)
{
    grd_safetensors *file;
    grd_error error = {GRD_OK, ""};
    grd_status status = grd_safetensors_open(GRADUS_SOURCE_DIR "/tests/golden/math.safetensors", &file, &error);
    cr_assert(status == GRD_OK, "%s", error.message);
    int cases = 0;
    for (size_t i = 0; i < grd_safetensors_count(file); i++) {
        char name[NAME_MAX_BYTES];
        snprintf(name, sizeof name, "%s", grd_safetensors_at(file, i)->name);
        char *end = strstr(name, "/out0");
        if (!end) continue;
        *end = 0;
        check(file, name, s);
        cases++;
    }
    cr_expect(cases > 100, "only %d cases in the file", cases);
    grd_safetensors_close(file);
}

/* Both sides compute in double; the functions of the two C libraries differ by a few of the last bits. */
Test(math_golden, references_in_double)
{
    check_all(&(setting){"ref", GRD_F64, 1e-14});
}

/* Up to some ten roundings of 2^-24 = 6e-8 each, and sums of up to thirty terms. */
Test(math_golden, kernels_in_f32)
{
    check_all(&(setting){"cpu", GRD_F32, 3e-6});
}
