/* test_ops.c - every op of the table against its own definition: samples, references, views, composes and both
 * derivatives. Adding an op needs no edit here. Tests are parameterised by the op's index (parameters are copied into a
 * forked process). */
#include "check.h"

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <string.h>

/* Ops without a second derivative, and why. */
static const char *const first_only[] = {NULL};

static struct criterion_test_params all_ops(void)
{
    int count = grdi_op_total();
    int *index = cr_malloc(sizeof(int) * (size_t)count);
    for (int i = 0; i < count; i++) index[i] = i;
    return cr_make_param_array(int, index, (size_t)count);
}

/* Runs a check over all samples of an op and reports every sample that fails. */
static void check_all(int index, bool (*check)(const grdi_op *, int32_t, char *))
{
    const grdi_op *op = grdi_op_at(index);
    char message[CHECK_TEXT];
    for (int32_t i = 0, n = grdi_sample_count(op); i < n; i++) cr_expect(check(op, i, message), "%s", message);
}

ParameterizedTestParameters(ops, definition)
{
    return all_ops();
}

ParameterizedTest(int *index, ops, definition)
{
    char message[CHECK_TEXT];
    const grdi_op *op = grdi_op_at(*index);
    cr_expect(check_definition(op, message), "%s", message);
    cr_expect(grdi_op_find(op->name) == op, "%s: the table finds another op of that name", op->name);
}

ParameterizedTestParameters(ops, samples)
{
    return all_ops();
}

ParameterizedTest(int *index, ops, samples)
{
    check_all(*index, check_sample);
}

ParameterizedTestParameters(ops, reference)
{
    return all_ops();
}

ParameterizedTest(int *index, ops, reference)
{
    check_all(*index, check_reference);
    check_all(*index, check_view);
    check_all(*index, check_compose);
}

static bool is_first_only(const grdi_op *op)
{
    for (int i = 0; first_only[i]; i++)
        if (strcmp(first_only[i], op->name) == 0) return true;
    return false;
}

static bool check_first(const grdi_op *op, int32_t index, char *message)
{
    return check_gradient(op, index, 1, message);
}

static bool check_second(const grdi_op *op, int32_t index, char *message)
{
    return is_first_only(op) || check_gradient(op, index, 2, message);
}

ParameterizedTestParameters(ops, gradient)
{
    return all_ops();
}

ParameterizedTest(int *index, ops, gradient)
{
    check_all(*index, check_first);
}

ParameterizedTestParameters(ops, second_derivative)
{
    return all_ops();
}

ParameterizedTest(int *index, ops, second_derivative)
{
    check_all(*index, check_second);
}

/* Prints which ops have derivatives, so that a lost one shows in the log of a run. */
Test(ops, list_of_derivatives)
{
    for (int32_t i = 0; i < grdi_op_total(); i++) {
        const grdi_op *op = grdi_op_at(i);
        char message[CHECK_TEXT];
        if (op->flags & (GRDI_OP_SOURCE | GRDI_OP_EFFECT)) continue;
        if (op->flags & GRDI_OP_NO_GRADIENT) {
            printf("%-28s zero by definition\n", op->name);
            continue;
        }
        bool first = has_gradient(op, 1, message), second = first && has_gradient(op, 2, message);
        printf("%-28s first %s, second %s\n", op->name, first ? "yes" : "no", second ? "yes" : "no");
        cr_expect(first, "%s has no gradient: %s", op->name, message);
        cr_expect(second || is_first_only(op), "%s has no second derivative: %s", op->name, message);
        cr_expect(!second || !is_first_only(op), "%s has a second derivative: take it off the list", op->name);
    }
    fflush(stdout);
}
