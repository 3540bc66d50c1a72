/* onednn.h - what is left to oneDNN, versions 2.6 and 3.x: convolutions, and products of matrices of bf16 on processors
 * that have instructions for them. A build without oneDNN has these functions all the same: they decline. */
#ifndef GRDI_ONEDNN_H
#define GRDI_ONEDNN_H

#include "backend/cpu/convolution.h"
#include "backend/cpu/gemm.h"

typedef struct grdi_onednn grdi_onednn;

/* Prepares products of g's sizes, strides and types (pointers are not looked at; `add` says whether some run will
 * add). NULL where oneDNN is missing, would not be faster than our own (which multiplies bf16 well where m, n and k are
 * `own_from` at least) or cannot do it; then the caller uses our own. An activation is left to the caller.
 * GRADUS_MATMUL=onednn in the environment makes it take all it can, GRADUS_MATMUL=own nothing. */
grdi_onednn *grdi_onednn_new(const grdi_gemm *g, int64_t own_from);
/* Whether oneDNN is there and takes products of bf16 (AVX512_BF16 or AMX). */
bool grdi_onednn_takes_bf16(void);

/* Whether its convolutions of bf16 use AMX. */
bool grdi_onednn_has_amx(void);
/* 64-byte aligned scratch for a run. */
size_t grdi_onednn_scratch(const grdi_onednn *product);
/* Runs on all threads of the OpenMP pool. Takes pointers and `add` from g. */
grd_status grdi_onednn_run(grdi_onednn *product, const grdi_gemm *g, void *scratch);
void grdi_onednn_free(grdi_onednn *product);

typedef struct grdi_onednn_convolution grdi_onednn_convolution;

/* Prepares a convolution or one of its gradients. NULL where oneDNN is missing or has no fast code for it; then the
 * caller uses our own loops. GRADUS_CONVOLUTION=own in the environment makes it take nothing. */
grdi_onednn_convolution *grdi_onednn_convolution_new(const grdi_convolution *what);
/* 64-byte aligned scratch for a run. */
size_t grdi_onednn_convolution_scratch(const grdi_onednn_convolution *c);
/* Runs on all threads of the OpenMP pool. */
grd_status grdi_onednn_convolution_run(const grdi_onednn_convolution *c, const grdi_convolution_data *data,
                                       void *scratch);
void grdi_onednn_convolution_free(grdi_onednn_convolution *c);

#endif
