/* table.cuh - how a family lists its kernels. */
#ifndef GRDI_TABLE_CUH
#define GRDI_TABLE_CUH

/* GRDI_CUDA_TABLE(family, &kernel_a, &kernel_b); found by kernels.c through kernels.def. */
#define GRDI_CUDA_TABLE(family, ...)                                                                                   \
    extern "C" {                                                                                                       \
    extern const grdi_kernel *const grdi_cuda_kernels_##family[];                                                      \
    const grdi_kernel *const grdi_cuda_kernels_##family[] = {__VA_ARGS__, nullptr};                                    \
    }

#endif
