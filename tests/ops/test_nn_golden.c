/* test_nn_golden.c - normalisation, attention and losses against PyTorch: values, gradients and second derivatives,
 * stored by golden/make_nn_goldens.py. In double precision by the references, and in f32 by the CPU's kernels. */
#include "ops/sample.h"
#include "ops/table.h"

#include <gradus/io.h>
#include <gradus/ops.h>

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define ITEMS_MAX 24

static const struct golden {
    const char *name, *op, *attrs; /* op NULL: grd_cross_entropy_mean with these options */
} goldens[] = {
    {"softmax", "softmax", "axis=1"},
    {"log_softmax", "log_softmax", ""},
    {"layer_norm", "layer_norm", "has_gain=true has_bias=true"},
    {"layer_norm_plain", "layer_norm", "eps=0.001"},
    {"rms_norm", "rms_norm", "has_gain=true"},
    {"rope", "rope", ""},
    {"rope_pairs", "rope", "interleaved=true"},
    {"attention", "attention", ""},
    {"attention_causal", "attention", "causal=true"},
    {"attention_grouped", "attention", "causal=true scale=0.3"},
    {"attention_late", "attention", "causal=true"},
    {"attention_window", "attention", "causal=true window=2"},
    {"attention_mask", "attention", "has_mask=true"},
    {"attention_segments", "attention", "causal=true has_segments=true"},
    {"cross_entropy", "cross_entropy", ""},
    {"cross_entropy_options", "cross_entropy", "ignore_index=-1 label_smoothing=0.1 z_loss=0.05"},
    {"cross_entropy_mean", NULL, "ignore_index=-1 label_smoothing=0.1"},
    {"linear_cross_entropy", "linear_cross_entropy", "ignore_index=-1"},
    {"linear_cross_entropy_options", "linear_cross_entropy",
     "ignore_index=-1 label_smoothing=0.1 z_loss=0.05 softcap=3"},
    {"mse", "mse", ""},
    {"l1", "l1", ""},
    {"huber", "huber", "delta=0.7"},
    {"bce_with_logits", "bce_with_logits", ""},
    {"kl_div", "kl_div", ""},
};

/* One run of one case: the graph's values and the file's tensors that they are fed from or must equal. */
typedef struct run {
    const struct golden *golden;
    grd_safetensors *file;
    grd_graph *graph;
    grd_dtype dtype;
    grd_tensor fed[ITEMS_MAX], wanted[ITEMS_MAX];
    const grd_file_tensor *fed_from[ITEMS_MAX], *expected[ITEMS_MAX];
    int32_t fed_count, wanted_count;
} run;

static const grd_file_tensor *stored(const run *r, const char *what, int32_t index)
{
    char name[96];
    if (index < 0)
        snprintf(name, sizeof name, "%s/%s", r->golden->name, what);
    else
        snprintf(name, sizeof name, "%s/%s%d", r->golden->name, what, index);
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
    if (!r->golden->op) {
        out[0] = grd_cross_entropy_mean(in[0], in[1], .ignore_index = -1, .label_smoothing = 0.1);
        return;
    }
    const grdi_op *op = grdi_op_find(r->golden->op);
    cr_assert(op, "no op '%s'", r->golden->op);
    static grdi_sample_case attrs; /* large */
    grd_error error = {GRD_OK, ""};
    cr_assert(grdi_sample_read_attrs(op, r->golden->attrs, &attrs, &error) == GRD_OK, "%s", error.message);
    grd_call(r->graph, op->name, in, count, attrs.attrs, attrs.attr_count, out);
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
        grd_tensor term = inner(grads[i], feed_from(r, stored(r, "u", i)));
        along = along.node ? grd_add(along, term) : term;
    }
    cr_assert(along.node, "%s: no gradient: %s", r->golden->name, grd_graph_error(r->graph)->message);
    for (int32_t i = 0; i < count; i++)
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
        else
            memcpy(data, from->data, from->size_bytes);
        cr_assert(grd_program_feed(program, r->fed[i], data) == GRD_OK, "%s: %s", r->golden->name,
                  grd_program_error(program)->message);
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

static void check(const struct golden *golden, const char *device, grd_dtype dtype, double tolerance)
{
    grd_error error = {GRD_OK, ""};
    run r = {.golden = golden, .dtype = dtype};
    grd_status status = grd_safetensors_open(GRADUS_SOURCE_DIR "/tests/golden/nn.safetensors", &r.file, &error);
    cr_assert(status == GRD_OK, "%s", error.message);
    grd_engine *engine = grd_engine_open(device);
    r.graph = grd_graph_new(grd_model_new(engine, 1));
    build(&r);
    grd_program *program = grd_program_new(r.wanted, r.wanted_count);
    cr_assert(program, "%s: %s", golden->name, grd_graph_error(r.graph)->message);
    feed(&r, program);
    status = grd_program_run(program);
    cr_assert(status == GRD_OK, "%s: %s", golden->name, grd_program_error(program)->message);
    for (int32_t i = 0; i < r.wanted_count; i++) compare(&r, program, i, tolerance);
    grd_engine_close(engine);
    grd_safetensors_close(r.file);
}

static struct criterion_test_params indices(void)
{
    static int index[sizeof(goldens) / sizeof(goldens[0])];
    for (size_t i = 0; i < sizeof(index) / sizeof(index[0]); i++) index[i] = (int)i;
    return cr_make_param_array(int, index, sizeof(index) / sizeof(index[0]));
}

ParameterizedTestParameters(nn_golden, references_in_double)
{
    return indices();
}

/* Both sides compute in double: what differs is the order of sums of at most a hundred terms. */
ParameterizedTest(int *index, nn_golden, references_in_double)
{
    check(&goldens[*index], "ref", GRD_F64, 1e-12);
}

ParameterizedTestParameters(nn_golden, kernels_in_f32)
{
    return indices();
}

/* f32 has 2^-24 = 6e-8 for each rounding; second derivatives pass through some hundred of them. */
ParameterizedTest(int *index, nn_golden, kernels_in_f32)
{
    check(&goldens[*index], "cpu", GRD_F32, 2e-5);
}
