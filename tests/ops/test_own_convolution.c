/* test_own_convolution.c - our own loops for convolutions, which a build with oneDNN uses only where that declines,
 * against the references: what test_kernels does, with oneDNN told to take none. */
#include "check_kernel.h"

#include <criterion/criterion.h>
#include <stdlib.h>

static void check_all(const char *device, int32_t threads,
                      bool (*check)(const kernel_target *, const grdi_op *, int32_t, char *))
{
    static const char *const ops[] = {"convolution", "convolution_input_gradient", "convolution_weight_gradient"};
    const char *argument;
    char message[CHECK_TEXT];
    grd_error error = {0};
    setenv("GRADUS_CONVOLUTION", "own", 1);
    kernel_target target = {.backend = grdi_backend_find(device, &argument), .threads = threads};
    if (target.backend->open(argument, threads, &target.device, &error)) return; /* not this processor's */
    for (int i = 0; i < 3; i++) {
        const grdi_op *op = grdi_op_find(ops[i]);
        for (int32_t s = 0, n = grdi_sample_count(op); s < n; s++)
            cr_expect(check(&target, op, s, message), "%s", message);
    }
    target.backend->close(target.device);
}

Test(own_convolution, f32)
{
    check_all("cpu:base", 1, check_kernel);
    check_all("cpu:avx2", 1, check_kernel);
    check_all("cpu:avx512", 1, check_kernel);
    check_all("cpu", 2, check_kernel);
}

Test(own_convolution, bf16)
{
    check_all("cpu", 2, check_kernel_bf16);
}
