/* test_detectors.c - the checks of tests/support see what they are there to see: ops that are wrong on purpose are each
 * caught by the check in question, and the same op put right passes it. */
#include "check_kernel.h"

#include "ops/table.h"

#include <criterion/criterion.h>
#include <gradus/ops.h>
#include <math.h>
#include <string.h>

/* Asserts that `check` refuses the op with `piece` in the message. */
static void caught(bool passed, const char *message, const char *piece)
{
    cr_assert(!passed, "not caught");
    cr_assert(strstr(message, piece), "caught, but for another reason: %s", message);
}

static char text[CHECK_TEXT];

/* ---- the comparator ---- */

Test(detectors, comparator)
{
    const double want[4] = {1, -2, 3, 1e-9};
    double got[4] = {1, -2, 3, 1e-9};
    cr_assert(check_close(got, want, 4, 1e-6, text), "%s", text);
    got[1] = -2 - 1e-5;
    caught(check_close(got, want, 4, 1e-6, text), text, "element 1");
    got[1] = NAN;
    caught(check_close(got, want, 4, 1e-6, text), text, "nan");
    caught(check_close(want, got, 4, 1e-6, text), text, "nan");
    caught(check_close(got, got, 4, 1e-6, text), text, "nan");
    got[1] = INFINITY;
    caught(check_close(got, want, 4, 1e-6, text), text, "inf");
    caught(check_close(want, got, 4, 1e9, text), text, "inf");
}

/* ---- gradients ---- */

/* tanh whose rule forgets the square: g (1 - y) */
static void wrong_tanh_gradient(grdi_gradient *g)
{
    g->grad_in[0] = grd_mul(grdi_grad_out(g, 0), grd_add_scalar(grd_neg(g->out[0]), 1));
}

Test(detectors, wrong_first_derivative)
{
    grdi_op op = grdi_op_tanh;
    cr_assert(check_gradient(&op, 0, 1, text), "%s", text);
    op.gradient = wrong_tanh_gradient;
    caught(check_gradient(&op, 0, 1, text), text, "finite differences");
}

/* matmul whose rule leaves out what b gets */
static void half_a_gradient(grdi_gradient *g)
{
    g->grad_in[0] = grd_matmul(grdi_grad_out(g, 0), grd_transpose2(g->in[1]));
}

Test(detectors, missing_gradient_of_one_input)
{
    grdi_op op = grdi_op_matmul;
    op.gradient = half_a_gradient;
    caught(check_gradient(&op, 0, 1, text), text, "in1");
}

/* One element in a gradient of many is wrong: the first one, which counts twice. */
static void first_twice(grdi_gradient *g)
{
    grd_tensor y = grd_mul(grdi_grad_out(g, 0), grd_cos(g->in[0]));
    grd_tensor first = grd_slice(grd_slice(y, 0, 0, 1), 1, 0, 1);
    grd_dims dims = grd_tensor_dims(y);
    g->grad_in[0] = grd_add(y, grd_pad(first, grd_shape(0, 0), grd_shape(dims.dim[0] - 1, dims.dim[1] - 1), 0));
}

Test(detectors, one_wrong_element)
{
    grdi_op op = grdi_op_sin;
    int32_t matrix = 0;
    for (grdi_sample_case c; matrix < grdi_sample_count(&op); matrix++)
        if (!grdi_sample_read(&op, &op.samples[matrix], true, &c, NULL) && c.in[0].type.dims.rank == 2) break;
    cr_assert(check_gradient(&op, matrix, 1, text), "%s", text);
    op.gradient = first_twice;
    caught(check_gradient(&op, matrix, 1, text), text, "finite differences");
}

/* The first derivative of tanh is right, but nothing can be learned from it about the second. */
static void frozen_gradient(grdi_gradient *g)
{
    grd_tensor y = grd_stop_gradient(g->out[0]);
    g->grad_in[0] = grd_mul(grdi_grad_out(g, 0), grd_add_scalar(grd_neg(grd_square(y)), 1));
}

Test(detectors, wrong_second_derivative)
{
    grdi_op op = grdi_op_tanh;
    cr_assert(check_gradient(&op, 0, 2, text), "%s", text);
    op.gradient = frozen_gradient;
    cr_assert(check_gradient(&op, 0, 1, text), "%s", text);
    caught(check_gradient(&op, 0, 2, text), text, "finite differences");
}

Test(detectors, missing_gradient)
{
    grdi_op op = grdi_op_tanh;
    op.gradient = NULL;
    op.compose = NULL;
    caught(check_gradient(&op, 0, 1, text), text, "has no gradient");
    caught(has_gradient(&op, 1, text), text, "has no gradient");
}

/* An op that says it is flat where it is not. */
Test(detectors, gradient_declared_zero)
{
    grdi_op op = grdi_op_floor;
    cr_assert(check_gradient(&op, 0, 1, text), "%s", text);
    op.scalar = grdi_op_tanh.scalar;
    caught(check_gradient(&op, 0, 1, text), text, "finite differences");
}

static void gradient_of_wrong_shape(grdi_gradient *g)
{
    g->grad_in[0] = grd_sum(grdi_grad_out(g, 0));
}

Test(detectors, gradient_of_wrong_shape)
{
    grdi_op op = grdi_op_tanh;
    op.gradient = gradient_of_wrong_shape;
    caught(check_gradient(&op, 0, 1, text), text, "gradient rule gave");
}

/* ---- shape rules ---- */

static bool accept_all(grdi_infer *c)
{
    c->out[0] = (grdi_type){c->in[0].dtype, grd_shape(c->in[0].dims.dim[0], c->in[1].dims.dim[c->in[1].dims.rank - 1])};
    return true;
}

static bool refuse_all(grdi_infer *c)
{
    return grdi_infer_fail(c, GRD_E_SHAPE, "no");
}

static int32_t first_bad(const grdi_op *op)
{
    int32_t i = 0;
    while (!op->samples[i].bad) i++;
    return i;
}

Test(detectors, wrong_shape_rule)
{
    grdi_op op = grdi_op_matmul;
    cr_assert(check_sample(&op, 0, text) && check_sample(&op, first_bad(&op), text), "%s", text);
    op.shape = accept_all;
    caught(check_sample(&op, first_bad(&op), text), text, "accepted");
    op.shape = refuse_all;
    caught(check_sample(&op, 0, text), text, "no");
    caught(check_sample(&op, first_bad(&op), text), text, "should say");
}

/* A result that is one row too long: the reference does not fill it. */
static bool one_row_too_many(grdi_infer *c)
{
    bool ok = grdi_op_concat.shape(c);
    c->out[0].dims.dim[0]++;
    return ok;
}

static void concat_rows(const grdi_reference *r)
{
    grdi_type out = r->out_type[0];
    grdi_reference right = *r;
    out.dims.dim[0]--;
    right.out_type = &out;
    grdi_op_concat.reference(&right);
}

Test(detectors, output_left_unwritten)
{
    grdi_op op = grdi_op_concat;
    cr_assert(check_reference(&op, 0, text), "%s", text);
    op.shape = one_row_too_many;
    op.reference = concat_rows;
    caught(check_reference(&op, 0, text), text, "never written");
}

/* ---- references, composes, views, definitions ---- */

static double count_calls(const double *x, const grd_attr *attrs)
{
    static int calls;
    (void)attrs;
    return x[0] + calls++;
}

static double no_number(const double *x, const grd_attr *attrs)
{
    (void)attrs;
    return x[0] > 0 ? NAN : x[0];
}

Test(detectors, unsound_reference)
{
    grdi_op op = grdi_op_neg;
    cr_assert(check_reference(&op, 0, text), "%s", text);
    op.scalar = count_calls;
    caught(check_reference(&op, 0, text), text, "differs between two runs");
    op.scalar = no_number;
    caught(check_reference(&op, 0, text), text, "NaN");
}

static void wrong_compose(grdi_compose *c)
{
    c->out[0] = grd_mul_scalar(grd_matmul(c->in[0], c->in[1]), 1 + 1e-7);
}

Test(detectors, wrong_compose)
{
    grdi_op op = grdi_op_matmul;
    op.compose = wrong_compose;
    caught(check_compose(&op, 0, text), text, "compose: output 0");
}

static bool wrong_view(const grdi_type *in, const grdi_strides *in_strides, const grd_attr *attrs, const grdi_type *out,
                       grdi_strides *out_strides)
{
    (void)in, (void)attrs, (void)out;
    *out_strides = *in_strides;
    return true;
}

Test(detectors, wrong_view)
{
    grdi_op op = grdi_op_transpose;
    cr_assert(check_view(&op, 0, text), "%s", text);
    op.view = wrong_view;
    caught(check_view(&op, 0, text), text, "view: element");
}

Test(detectors, incomplete_definition)
{
    grdi_op op = grdi_op_transpose;
    cr_assert(check_definition(&op, text), "%s", text);
    op.view = NULL;
    caught(check_definition(&op, text), text, "VIEW without a view");
    op = grdi_op_transpose;
    op.samples = NULL;
    caught(check_definition(&op, text), text, "0 good");
}

/* ---- kernels: y = -x in f32 ---- */

typedef enum fault {
    NONE,
    WRONG_VALUE,
    NAN_VALUE,
    WRITES_BEHIND,
    WRITES_BEFORE,
    CHANGES_INPUT,
    IGNORES_STRIDES,
    IGNORES_ACCUMULATE,
    FORGETS_LAST,
    OTHER_BITS,
    READS_AFTER_WRITE,
    WRITES_BEHIND_SCRATCH,
    FAILS
} fault;

static fault chosen;

static int64_t strided(const grdi_view *view, int64_t index, bool ignore)
{
    int64_t at = 0, own[GRD_RANK_MAX];
    grdi_row_major(view->dims, own);
    for (int32_t i = view->dims.rank - 1; i >= 0; i--) {
        at += index % view->dims.dim[i] * (ignore ? own[i] : view->stride[i]);
        index /= view->dims.dim[i];
    }
    return at;
}

static grd_status prepare_neg(grdi_call *call, grd_error *error)
{
    (void)error;
    call->scratch_bytes = 40;
    return GRD_OK;
}

static grd_status run_neg(grdi_call *call)
{
    static int runs;
    float *x = call->in[0].data, *y = call->out[0].data;
    int64_t count = grd_dims_count(call->out[0].dims);
    if (chosen == FAILS) return GRD_E_DEVICE;
    for (int64_t i = 0; i < count - (chosen == FORGETS_LAST); i++) {
        int64_t from = strided(&call->in[0], i, chosen == IGNORES_STRIDES), to = strided(&call->out[0], i, false);
        bool add = call->accumulate[0] && chosen != IGNORES_ACCUMULATE;
        if (chosen == READS_AFTER_WRITE && !add) y[to] = 0;
        float value = -x[from];
        y[to] = add ? y[to] + value : value;
    }
    if (chosen == WRONG_VALUE) y[strided(&call->out[0], count / 2, false)] += 1e-4f;
    if (chosen == NAN_VALUE) y[strided(&call->out[0], count / 2, false)] = NAN;
    if (chosen == OTHER_BITS) y[0] *= 1 + 1e-7f * (float)(runs++ % 2);
    if (chosen == WRITES_BEHIND) y[strided(&call->out[0], count - 1, false) + 1] = 0;
    if (chosen == WRITES_BEFORE) y[-1] = 0;
    if (chosen == CHANGES_INPUT) x[0] = 0;
    if (chosen == WRITES_BEHIND_SCRATCH) ((char *)call->scratch)[40] = 0;
    return GRD_OK;
}

static const grdi_kernel neg_kernel = {.op = "neg", .strided_in = 1, .strided_out = 1, .accumulates = 1, .in_place = 1,
                                       .prepare = prepare_neg, .run = run_neg};

static bool neg_passes(fault how)
{
    const char *argument;
    grd_error error = {0};
    kernel_target target = {.backend = grdi_backend_find("ref", &argument), .threads = 1, .kernel = &neg_kernel};
    cr_assert(target.backend->open(argument, 1, &target.device, &error) == GRD_OK, "%s", error.message);
    chosen = how;
    int32_t matrix = 0;
    for (grdi_sample_case c; matrix < grdi_sample_count(&grdi_op_neg); matrix++)
        if (!grdi_sample_read(&grdi_op_neg, &grdi_op_neg.samples[matrix], false, &c, NULL) &&
            c.in[0].type.dims.rank > 1 && c.in[0].type.dtype == GRD_F32 && !grdi_op_neg.samples[matrix].bad)
            break;
    bool ok = check_kernel(&target, &grdi_op_neg, matrix, text);
    target.backend->close(target.device);
    return ok;
}

Test(detectors, wrong_kernel)
{
    cr_assert(neg_passes(NONE), "%s", text);
    caught(neg_passes(WRONG_VALUE), text, "should be");
    caught(neg_passes(NAN_VALUE), text, "nan");
    caught(neg_passes(FORGETS_LAST), text, "nan");
    caught(neg_passes(OTHER_BITS), text, "other bits");
    caught(neg_passes(FAILS), text, "run failed");
}

Test(detectors, kernel_writes_elsewhere)
{
    caught(neg_passes(WRITES_BEHIND), text, "was written");
    caught(neg_passes(WRITES_BEFORE), text, "was written");
    caught(neg_passes(CHANGES_INPUT), text, "input 0 was changed");
    caught(neg_passes(WRITES_BEHIND_SCRATCH), text, "scratch of 40 bytes");
}

Test(detectors, kernel_promises_too_much)
{
    caught(neg_passes(IGNORES_STRIDES), text, "inputs");
    caught(neg_passes(IGNORES_ACCUMULATE), text, "adding to output 0");
    caught(neg_passes(READS_AFTER_WRITE), text, "output 0 over input 0");
}
