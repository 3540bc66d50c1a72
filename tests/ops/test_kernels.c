/* test_kernels.c - the kernels of every backend on this machine against the references, op by op, with one and with two
 * threads. */
#include "check_kernel.h"

#include <criterion/criterion.h>
#include <criterion/parameterized.h>

static struct criterion_test_params all_ops(void)
{
    int count = grdi_op_total();
    int *index = cr_malloc(sizeof(int) * (size_t)count);
    for (int i = 0; i < count; i++) index[i] = i;
    return cr_make_param_array(int, index, (size_t)count);
}

/* False where this processor lacks the device's instruction set. */
static bool open_target(kernel_target *target, const char *device, int32_t threads)
{
    const char *argument;
    grd_error error = {0};
    *target = (kernel_target){.backend = grdi_backend_find(device, &argument), .threads = threads};
    cr_assert(target->backend, "there is no backend '%s'", device);
    grd_status status = target->backend->open(argument, threads, &target->device, &error);
    cr_assert(status == GRD_OK || status == GRD_E_DEVICE, "%s: %s", device, error.message);
    return status == GRD_OK;
}

/* Every sample of the op; all failures are reported. */
static void check_device(int index, const char *device, int32_t threads,
                         bool (*check)(const kernel_target *, const grdi_op *, int32_t, char *))
{
    const grdi_op *op = grdi_op_at(index);
    kernel_target target;
    char message[CHECK_TEXT];
    if (!open_target(&target, device, threads))
        return;
    for (int32_t i = 0, n = grdi_sample_count(op); i < n; i++)
        cr_expect(check(&target, op, i, message), "%s", message);
    target.backend->close(target.device);
}

ParameterizedTestParameters(kernels, ref)
{
    return all_ops();
}

ParameterizedTest(int *index, kernels, ref)
{
    check_device(*index, "ref", 1, check_kernel);
}

ParameterizedTestParameters(kernels, cpu)
{
    return all_ops();
}

ParameterizedTest(int *index, kernels, cpu)
{
    check_device(*index, "cpu:base", 1, check_kernel);
    check_device(*index, "cpu:avx2", 1, check_kernel);
    check_device(*index, "cpu:avx512", 1, check_kernel); /* the best one is "cpu", below */
}

ParameterizedTestParameters(kernels, cpu_two_threads)
{
    return all_ops();
}

ParameterizedTest(int *index, kernels, cpu_two_threads)
{
    check_device(*index, "cpu", 2, check_kernel);
}

ParameterizedTestParameters(kernels, cpu_bf16)
{
    return all_ops();
}

ParameterizedTest(int *index, kernels, cpu_bf16)
{
    check_device(*index, "cpu:avx512bf16", 1, check_kernel_bf16); /* the best one is "cpu" */
    check_device(*index, "cpu", 2, check_kernel_bf16);
}

ParameterizedTestParameters(kernels, cpu_large)
{
    return all_ops();
}

ParameterizedTest(int *index, kernels, cpu_large)
{
    check_device(*index, "cpu", 2, check_kernel_large);
    check_device(*index, "cpu", 2, check_kernel_large_bf16);
}

/* Prints which kernel each op gets on the CPU; an op without one of its own runs as its reference. */
Test(kernels, list_of_kernels)
{
    kernel_target target;
    cr_assert(open_target(&target, "cpu", 1));
    for (int32_t i = 0; i < grdi_op_total(); i++) {
        const grdi_op *op = grdi_op_at(i);
        int32_t good = 0, own = 0;
        for (int32_t s = 0, n = grdi_sample_count(op); s < n; s++) {
            const grdi_kernel *kernel = kernel_for(&target, op, s);
            good += kernel != NULL;
            own += kernel && kernel != &grdi_reference_kernel;
        }
        if (good) printf("%-28s %s (%d of %d samples)\n", op->name, own ? "own kernel" : "reference", own, good);
    }
    fflush(stdout);
    target.backend->close(target.device);
}
