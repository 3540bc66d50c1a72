/* gemm_f32.h - products of f32 by AMX: every operand as the sum of three bf16. */
#ifndef GRDI_AMX_GEMM_F32_H
#define GRDI_AMX_GEMM_F32_H

#include "backend/cpu/gemm.h"

/* Whether tiles do `g` faster than AVX-512's loops. Sizes, strides and types decide. */
bool grdi_gemm_f32_pays(const grdi_gemm *g);

/* Such a product on `threads` threads; with one, on the calling thread. */
size_t grdi_gemm_f32_scratch(const grdi_gemm *g, int32_t threads);
void grdi_gemm_f32(const grdi_gemm *g, int32_t threads, void *scratch);

#endif
