/* cpu.h - what the parts of the CPU backend know of each other: instruction sets and kernel tables. */
#ifndef GRDI_CPU_H
#define GRDI_CPU_H

#include "backend/backend.h"

typedef enum grdi_isa {
    GRDI_ISA_BASE,
    GRDI_ISA_AVX2,
    GRDI_ISA_AVX512,
    GRDI_ISA_AVX512BF16,
    GRDI_ISA_AMX,
    GRDI_ISA_COUNT
} grdi_isa;

#if defined(__x86_64__)
#define GRDI_KERNELS(family)                                                                                           \
    extern const grdi_kernel *const grdi_cpu_kernels_##family##_base[];                                                \
    extern const grdi_kernel *const grdi_cpu_kernels_##family##_avx2[];                                                \
    extern const grdi_kernel *const grdi_cpu_kernels_##family##_avx512[];                                              \
    extern const grdi_kernel *const grdi_cpu_kernels_##family##_avx512bf16[];
#else
#define GRDI_KERNELS(family) extern const grdi_kernel *const grdi_cpu_kernels_##family##_base[];
#endif
#define GRDI_KERNELS_ONE(family) extern const grdi_kernel *const grdi_cpu_kernels_##family[];
#include "backend/cpu/kernels.def"
#undef GRDI_KERNELS
#undef GRDI_KERNELS_ONE
/* Families that are compiled for AMX, too; its other kernels are AVX512_BF16's. Their files are listed in
 * CMakeLists.txt. */
#define GRDI_AMX_FAMILIES(each) each(matmul) each(classifier) each(attention) each(attention_backward) each(convolution)
#if defined(__x86_64__)
#define GRDI_KERNELS_AMX(family) extern const grdi_kernel *const grdi_cpu_kernels_##family##_amx[];
GRDI_AMX_FAMILIES(GRDI_KERNELS_AMX)
#undef GRDI_KERNELS_AMX
#endif

/* "base", "avx2", "avx512", "avx512bf16", "amx". */
const char *grdi_isa_name(grdi_isa isa);
/* Whether this build and this processor have it, and the system lets this process use it. */
bool grdi_isa_usable(grdi_isa isa);
grdi_isa grdi_isa_best(void);
/* The first kernel of that instruction set which takes the call; the reference if there is none; NULL if there is no
 * reference. */
const grdi_kernel *grdi_cpu_find(grdi_isa isa, const grdi_call *call);

#endif
