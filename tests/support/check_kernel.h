/* check_kernel.h - a backend's kernels against the references, for every way in which a plan may call them. */
#ifndef TEST_CHECK_KERNEL_H
#define TEST_CHECK_KERNEL_H

#include "backend/backend.h"
#include "check.h"

typedef struct kernel_target {
    const grdi_backend *backend;
    grdi_device *device;
    int32_t threads;
    const grdi_kernel *kernel;   /* NULL: the one that the backend finds */
    void (*before)(int run);     /* NULL, or called before runs 0 and 1 of each variant, which give the same bits */
} kernel_target;

/* Runs the sample with row-major inputs and outputs, then with all else that the kernel says it accepts: strided and
 * broadcast inputs, inputs that start anywhere, strided outputs, outputs added to, outputs over inputs, outputs left
 * out. Each run: the result is the reference's to the op's tolerance, a second run gives the same bits, nothing else is
 * written (bytes around and between the elements, inputs, scratch beyond its size). Bad and large samples pass. */
bool check_kernel(const kernel_target *target, const grdi_op *op, int32_t index, char *message);

/* The same with inputs and outputs in bf16 instead of f32, as bf16 precision (passes/precision.c) lays them: against
 * the reference on the rounded inputs, to a unit in the last place of bf16, outputs in f32 to the op's tolerance.
 * Operands that the op's row has rounded must find a kernel of the backend's own, if it has one for f32. */
bool check_kernel_bf16(const kernel_target *target, const grdi_op *op, int32_t index, char *message);

/* The same in f16, where the backend has kernels of its own for it: others convert around kernels in f32. */
bool check_kernel_f16(const kernel_target *target, const grdi_op *op, int32_t index, char *message);

/* Runs a large sample, row-major only: what it takes for kernels to share the work among threads. Other samples pass,
 * and so do those with more than 2^24 elements, for which a reference in double takes too long. */
bool check_kernel_large(const kernel_target *target, const grdi_op *op, int32_t index, char *message);
/* The same with inputs and outputs in bf16 that a plan stores so. */
bool check_kernel_large_bf16(const kernel_target *target, const grdi_op *op, int32_t index, char *message);

/* The kernel that the backend finds for the sample, row-major and with all outputs used; NULL: none, or the sample is
 * bad. */
const grdi_kernel *kernel_for(const kernel_target *target, const grdi_op *op, int32_t index);

#endif
