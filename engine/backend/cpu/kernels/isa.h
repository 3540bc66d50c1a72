/* isa.h - names of what is compiled once for each instruction set. Every file of this folder is; all its symbols are
 * static but one table of kernels, ended by NULL, whose name carries the instruction set:
 *
 *     const grdi_kernel *const GRDI_ISA_TABLE(map)[] = {&add, &mul, NULL};
 *
 * The table's line in ../kernels.def makes the device look into it. */
#ifndef GRDI_ISA_H
#define GRDI_ISA_H

#ifndef GRDI_ISA
#error "compile with -DGRDI_ISA=base|avx2|avx512|avx512bf16|amx and -DGRDI_ISA_<the same>=1"
#endif

/* AVX512_BF16 is AVX-512 with instructions that round to bf16 and multiply pairs of it; AMX adds tiles of such
 * products. */
#if defined(GRDI_ISA_amx)
#define GRDI_ISA_avx512bf16 1
#define GRDI_TILES 1
#else
#define GRDI_TILES 0
#endif
#if defined(GRDI_ISA_avx512bf16)
#define GRDI_ISA_avx512 1
#define GRDI_PAIRS 1
#else
#define GRDI_PAIRS 0
#endif

#define GRDI_ISA_PASTE3(a, b, c) a##b##c
#define GRDI_ISA_PASTE2(a, b, c) GRDI_ISA_PASTE3(a, b, c)
/* A function that one file of this folder offers to others: name_<isa>. */
#define GRDI_ISA_NAME(name) GRDI_ISA_PASTE2(name, _, GRDI_ISA)
#define GRDI_ISA_TABLE(family) GRDI_ISA_PASTE2(grdi_cpu_kernels_##family, _, GRDI_ISA)

/* Floats in a vector register. */
#if defined(GRDI_ISA_avx512)
#define GRDI_LANES 16
#elif defined(GRDI_ISA_avx2)
#define GRDI_LANES 8
#else
#define GRDI_LANES 4
#endif

/* Lanes of two vectors by constant numbers, those of a first; `mask` is a vector type of integers of their width. */
#if defined(__clang__)
#define GRDI_SHUFFLE(mask, a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define GRDI_SHUFFLE(mask, a, b, ...) __builtin_shuffle(a, b, (mask){__VA_ARGS__})
#endif

#endif
