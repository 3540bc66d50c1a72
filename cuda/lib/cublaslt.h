/* cublaslt.h - matrix products by cuBLASLt, described row-major as the engine's are. */
#ifndef GRDI_CUBLASLT_H
#define GRDI_CUBLASLT_H

#include "backend/backend.h"

#include <cublasLt.h>

#ifdef __cplusplus
extern "C" {
#endif

#define GRDI_LT_FUNCTIONS(X)                                                                                           \
    X(cublasLtGetVersion)                                                                                              \
    X(cublasLtGetStatusString)                                                                                         \
    X(cublasLtCreate)                                                                                                  \
    X(cublasLtDestroy)                                                                                                 \
    X(cublasLtMatmulDescCreate)                                                                                        \
    X(cublasLtMatmulDescDestroy)                                                                                       \
    X(cublasLtMatmulDescSetAttribute)                                                                                  \
    X(cublasLtMatrixLayoutCreate)                                                                                      \
    X(cublasLtMatrixLayoutDestroy)                                                                                     \
    X(cublasLtMatrixLayoutSetAttribute)                                                                                \
    X(cublasLtMatmulPreferenceCreate)                                                                                  \
    X(cublasLtMatmulPreferenceDestroy)                                                                                 \
    X(cublasLtMatmulPreferenceSetAttribute)                                                                            \
    X(cublasLtMatmulAlgoCheck)                                                                                         \
    X(cublasLtMatmulAlgoConfigGetAttribute)                                                                            \
    X(cublasLtMatmulAlgoGetHeuristic)                                                                                  \
    X(cublasLtMatmul)

typedef struct grdi_lt_api {
#define X(name) __typeof__(name) *call_##name;
    GRDI_LT_FUNCTIONS(X)
#undef X
} grdi_lt_api;

/* The declared cap on what a product may use beside its operands; one block for all, since they run in order. */
enum { GRDI_LT_WORKSPACE_BYTES = 32 << 20 };

typedef struct grdi_lt {
    grdi_lt_api call;
    cublasLtHandle_t handle;
    void *workspace;
    const float *numbers; /* on the device: 0, 1 */
    size_t version;
} grdi_lt;

/* A row-major matrix, rows `ld` elements apart; transposed: the memory holds it that way round. */
typedef struct grdi_matrix {
    void *data;
    grd_dtype dtype; /* f32, bf16 or f16 */
    bool transposed;
    int64_t ld, batch_stride;
    size_t steps; /* bytes by which runs move on from `data`, or-ed: they may be aligned to less */
} grdi_matrix;

typedef enum grdi_epilogue {
    GRDI_EPILOGUE_NONE,
    GRDI_EPILOGUE_BIAS,     /* + bias[n], of y's dtype */
    GRDI_EPILOGUE_RELU,     /* max(0, . + bias) */
    GRDI_EPILOGUE_GELU,     /* gelu_tanh(. + bias) */
    GRDI_EPILOGUE_GELU_AUX, /* the same, and what it was applied to goes to aux */
    GRDI_EPILOGUE_DGELU,    /* . gelu_tanh'(aux), aux read as y lies */
    GRDI_EPILOGUE_BGRAD     /* and bias[m] = the sums of a's rows, of y's dtype, overwritten */
} grdi_epilogue;

/* y[m][n] (+)= sum over k of a[m][k] b[k][n], or base[m][n] + that */
typedef struct grdi_product {
    int64_t m, n, k, batch;
    grdi_matrix a, b, y;
    grdi_epilogue epilogue;
    const void *bias;  /* read; written by BGRAD */
    const void *alpha; /* f32 in device memory: multiplies the product; NULL: 1 */
    const void *base; /* added to the result, lies as y does; NULL: none */
    void *aux;        /* written, by DGELU read; rows aux_ld apart: a multiple of 8; 16-byte aligned */
    int64_t aux_ld;
    /* made by grdi_product_plan() */
    bool planned;
    cublasLtMatmulDesc_t description;
    cublasLtMatrixLayout_t a_layout, b_layout, y_layout;
    cublasLtMatmulAlgo_t algorithm;
} grdi_product;

/* Opens the library and its handle; false with device->why set where it is missing. */
bool grdi_lt_open(grdi_device *device);
void grdi_lt_close(grdi_device *device);
/* Chooses the algorithm, for pointers aligned like those in the product. Allocates; call it before the step. */
grd_status grdi_product_plan(grdi_device *device, grdi_product *product, grd_error *error);
/* Enqueues it. `accumulate` adds to y. */
grd_status grdi_product_run(grdi_device *device, const grdi_product *product, const void *a, const void *b, void *y,
                            bool accumulate);
void grdi_product_release(grdi_device *device, grdi_product *product);

#ifdef __cplusplus
}
#endif
#endif
