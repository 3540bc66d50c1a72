/* test_cudasim_kernels.c - the CUDA kernels, run by the simulator, against the references: every sample of the op
 * table, with warps first to last and last to first, in f32 and in bf16. An op that has no kernel at all is
 * named and passes: plans refuse it. */
#include "sim_library.h"

#include "check_kernel.h"

#include <criterion/parameterized.h>
#include <string.h>

static struct criterion_test_params all_ops(void)
{
    int count = grdi_op_total();
    int *index = cr_malloc(sizeof(int) * (size_t)count);
    for (int i = 0; i < count; i++) index[i] = i;
    return cr_make_param_array(int, index, (size_t)count);
}

static void check_op(int index, int order, bool (*check)(const kernel_target *, const grdi_op *, int32_t, char *))
{
    const grdi_op *op = grdi_op_at(index);
    const char *argument;
    char message[CHECK_TEXT];
    grd_error error = {0};
    kernel_target target = {.backend = grdi_backend_find(cuda_device(), &argument), .threads = 1};
    int missing = 0, taken = 0;
    if (order && !on_simulator()) return;
    if (op->flags & GRDI_OP_VIEW) return; /* what is left of them is a copy */
    cr_assert(target.backend->open(argument, 1, &target.device, &error) == GRD_OK, "%s", error.message);
    if (on_simulator()) SIM(grdi_sim_set_order)(order);
    for (int32_t i = 0, n = grdi_sample_count(op); i < n; i++) {
        const grdi_sample *sample = &op->samples[i];
        if (sample->bad || sample->large || op->flags & GRDI_OP_SOURCE) continue;
        if (!kernel_for(&target, op, i)) {
            missing++;
            continue;
        }
        taken++;
        bool ok = check(&target, op, i, message);
        const char *wrong = on_simulator() ? SIM(grdi_sim_take_error)() : "";
        cr_expect(ok, "%s (%s)", message, wrong);
        cr_expect(!wrong[0], "%s sample %d: %s", op->name, i, wrong);
    }
    if (missing && !taken) printf("%s: no kernel yet\n", op->name);
    cr_expect(!taken || !missing, "%s: %d samples have no kernel", op->name, missing);
    target.backend->close(target.device);
}

ParameterizedTestParameters(cudasim_kernels, all)
{
    return all_ops();
}

/* One process an op: forking a process costs more than most of the checks. */
ParameterizedTest(int *index, cudasim_kernels, all)
{
    check_op(*index, 0, check_kernel);
    check_op(*index, 1, check_kernel);
    check_op(*index, 0, check_kernel_bf16);
}
