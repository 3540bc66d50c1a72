/* cublaslt.c - products by cuBLASLt. The library is column-major: a row-major y[m][n] is its matrix of n rows and m
 * columns, so it is asked for y^T = b^T a^T, with b first. */
#include "lib/cublaslt.h"
#include "cuda.h"
#include "lib/library.h"

#include <stdio.h>
#include <string.h>

bool grdi_lt_open(grdi_device *device)
{
    grdi_lt *lt = &device->lt;
    bool complete = grdi_library_open(GRDI_LIBRARY_CUBLASLT);
    if (!complete) {
        snprintf(device->why, sizeof device->why,
                 "%s is not to be found (install CUDA's cuBLAS, or pip install nvidia-cublas)",
                 grdi_library_name(GRDI_LIBRARY_CUBLASLT));
        return false;
    }
#define X(name)                                                                                                        \
    *(void **)&lt->call.call_##name = grdi_library_symbol(GRDI_LIBRARY_CUBLASLT, #name);                               \
    complete &= lt->call.call_##name != NULL;
    GRDI_LT_FUNCTIONS(X)
#undef X
    if (!complete) {
        snprintf(device->why, sizeof device->why, "%s lacks a function (a version before CUDA 12?)",
                 grdi_library_name(GRDI_LIBRARY_CUBLASLT));
        return false;
    }
    lt->version = lt->call.call_cublasLtGetVersion();
    cublasStatus_t status = lt->call.call_cublasLtCreate(&lt->handle);
    if (status != CUBLAS_STATUS_SUCCESS) {
        snprintf(device->why, sizeof device->why, "cublasLtCreate: %s", lt->call.call_cublasLtGetStatusString(status));
        return false;
    }
    static const float numbers[] = {0, 1}; /* behind the workspace */
    size_t size_bytes = GRDI_LT_WORKSPACE_BYTES + sizeof numbers;
    if (grdi_cuda_check(device, cudaMalloc(&lt->workspace, size_bytes), "cudaMalloc of a workspace")) return false;
    lt->numbers = (const float *)((const char *)lt->workspace + GRDI_LT_WORKSPACE_BYTES);
    return !grdi_cuda_check(
        device, cudaMemcpyAsync((void *)lt->numbers, numbers, sizeof numbers, cudaMemcpyHostToDevice, device->stream),
        "cudaMemcpyAsync of numbers");
}

void grdi_lt_close(grdi_device *device)
{
    grdi_lt *lt = &device->lt;
    if (lt->workspace) cudaFree(lt->workspace);
    if (lt->handle) lt->call.call_cublasLtDestroy(lt->handle);
}

static cudaDataType_t type_of(grd_dtype dtype)
{
    return dtype == GRD_BF16 ? CUDA_R_16BF : dtype == GRD_F16 ? CUDA_R_16F : CUDA_R_32F;
}

/* The largest power of two up to 256 that divides all addresses that a matrix at `data` will have. */
static uint32_t alignment(const void *data, const grdi_matrix *x)
{
    uintptr_t bits = (uintptr_t)data | x->steps | 256u;
    return (uint32_t)(bits & (~bits + 1));
}

/* Set on the first failure of a chain of calls, which ends there. */
typedef struct chain {
    const grdi_lt_api *call;
    cublasStatus_t status;
} chain;

static bool ok(chain *c, cublasStatus_t status)
{
    if (c->status == CUBLAS_STATUS_SUCCESS) c->status = status;
    return c->status == CUBLAS_STATUS_SUCCESS;
}

/* rows x columns row-major is columns x rows here. */
static void make_layout(chain *c, cublasLtMatrixLayout_t *layout, const grdi_product *p, const grdi_matrix *x,
                        int64_t rows, int64_t columns)
{
    int64_t outer = x->transposed ? columns : rows, inner = x->transposed ? rows : columns;
    int32_t batch = (int32_t)p->batch;
    if (!ok(c, c->call->call_cublasLtMatrixLayoutCreate(layout, type_of(x->dtype), (uint64_t)inner, (uint64_t)outer,
                                                        x->ld)) ||
        p->batch == 1)
        return;
    ok(c, c->call->call_cublasLtMatrixLayoutSetAttribute(*layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &batch,
                                                         sizeof batch));
    ok(c, c->call->call_cublasLtMatrixLayoutSetAttribute(*layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET,
                                                         &x->batch_stride, sizeof x->batch_stride));
}

static void describe(chain *c, grdi_device *device, grdi_product *p)
{
    static const int32_t epilogues[] = {CUBLASLT_EPILOGUE_DEFAULT,       CUBLASLT_EPILOGUE_BIAS,
                                        CUBLASLT_EPILOGUE_RELU_BIAS,     CUBLASLT_EPILOGUE_GELU_BIAS,
                                        CUBLASLT_EPILOGUE_GELU_AUX_BIAS, CUBLASLT_EPILOGUE_DGELU,
                                        CUBLASLT_EPILOGUE_BGRADB};
    bool tf32 = device->modes.tf32 && p->a.dtype == GRD_F32;
    int32_t transa = p->b.transposed ? CUBLAS_OP_T : CUBLAS_OP_N, transb = p->a.transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
    int32_t epilogue = epilogues[p->epilogue];
#define SET(attribute, value)                                                                                          \
    ok(c, c->call->call_cublasLtMatmulDescSetAttribute(p->description, attribute, &(value), sizeof(value)))
    if (!ok(c, c->call->call_cublasLtMatmulDescCreate(
                   &p->description, tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F, CUDA_R_32F)))
        return;
    int32_t pointers = p->alpha ? CUBLASLT_POINTER_MODE_DEVICE : CUBLASLT_POINTER_MODE_HOST;
    SET(CUBLASLT_MATMUL_DESC_POINTER_MODE, pointers);
    SET(CUBLASLT_MATMUL_DESC_TRANSA, transa);
    SET(CUBLASLT_MATMUL_DESC_TRANSB, transb);
    SET(CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue);
    bool biased = p->epilogue != GRDI_EPILOGUE_NONE && p->epilogue != GRDI_EPILOGUE_DGELU;
    if (biased) SET(CUBLASLT_MATMUL_DESC_BIAS_POINTER, p->bias);
    if (p->epilogue == GRDI_EPILOGUE_GELU_AUX || p->epilogue == GRDI_EPILOGUE_DGELU) {
        SET(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, p->aux);
        SET(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, p->aux_ld);
    }
#undef SET
}

/* How the parts of a sum that is split along K may be added. In the output's type, be it where they are stored or in
 * the output itself ("in place"), only where that is f32: rounded to bf16 after each part, a result is off by ulps. */
static uint32_t reductions(const grdi_product *p)
{
    return p->y.dtype == GRD_F32 ? CUBLASLT_REDUCTION_SCHEME_MASK : CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
}

/* What was kept may be anything: it comes from a file. */
static bool still_good(const chain *c, grdi_device *device, const grdi_product *p)
{
    cublasLtMatmulHeuristicResult_t about;
    uint32_t scheme;
    memset(&about, 0, sizeof about);
    return c->call->call_cublasLtMatmulAlgoCheck(device->lt.handle, p->description, p->b_layout, p->a_layout,
                                                 p->y_layout, p->y_layout, &p->algorithm,
                                                 &about) == CUBLAS_STATUS_SUCCESS &&
           about.workspaceSize <= GRDI_LT_WORKSPACE_BYTES &&
           c->call->call_cublasLtMatmulAlgoConfigGetAttribute(&p->algorithm, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME,
                                                              &scheme, sizeof scheme, NULL) == CUBLAS_STATUS_SUCCESS &&
           !(scheme & ~reductions(p));
}

static void choose(chain *c, grdi_device *device, grdi_product *p)
{
    cublasLtMatmulPreference_t preference = NULL;
    uint64_t workspace = GRDI_LT_WORKSPACE_BYTES;
    uint32_t schemes = reductions(p);
    uint32_t least[4] = {alignment(p->b.data, &p->b), alignment(p->a.data, &p->a),
                         alignment(p->base ? p->base : p->y.data, &p->y), alignment(p->y.data, &p->y)};
    cublasLtMatmulHeuristicResult_t found[GRDI_CANDIDATES_MAX];
    char call[GRDI_CHOICE_TEXT];
    int count = 0;
    grdi_product_call(device, p, least, call);
    if (grdi_product_recall(device, p, call) && still_good(c, device, p)) return;
    if (!ok(c, c->call->call_cublasLtMatmulPreferenceCreate(&preference))) return;
#define SET(attribute, value)                                                                                          \
    ok(c, c->call->call_cublasLtMatmulPreferenceSetAttribute(preference, attribute, &(value), sizeof(value)))
    SET(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, workspace);
    SET(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, schemes);
    SET(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, least[0]);
    SET(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, least[1]);
    SET(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, least[2]);
    SET(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, least[3]);
#undef SET
    if (c->status == CUBLAS_STATUS_SUCCESS)
        ok(c, c->call->call_cublasLtMatmulAlgoGetHeuristic(device->lt.handle, p->description, p->b_layout, p->a_layout,
                                                           p->y_layout, p->y_layout, preference, GRDI_CANDIDATES_MAX,
                                                           found, &count));
    if (c->status == CUBLAS_STATUS_SUCCESS && count < 1) c->status = CUBLAS_STATUS_NOT_SUPPORTED;
    if (c->status == CUBLAS_STATUS_SUCCESS) grdi_product_pick(device, p, found, count, call);
    c->call->call_cublasLtMatmulPreferenceDestroy(preference);
}

grd_status grdi_product_plan(grdi_device *device, grdi_product *p, grd_error *error)
{
    chain c = {&device->lt.call, CUBLAS_STATUS_SUCCESS};
    grdi_product_release(device, p);
    if (device->planned) return GRD_OK; /* nobody is there to be asked */
    p->planned = true;
    describe(&c, device, p);
    if (c.status == CUBLAS_STATUS_SUCCESS) make_layout(&c, &p->a_layout, p, &p->a, p->m, p->k);
    if (c.status == CUBLAS_STATUS_SUCCESS) make_layout(&c, &p->b_layout, p, &p->b, p->k, p->n);
    if (c.status == CUBLAS_STATUS_SUCCESS) make_layout(&c, &p->y_layout, p, &p->y, p->m, p->n);
    if (c.status == CUBLAS_STATUS_SUCCESS) choose(&c, device, p);
    if (c.status == CUBLAS_STATUS_SUCCESS) return GRD_OK;
    grdi_product_release(device, p);
    return grd_fail(error, GRD_E_DEVICE, "cuBLASLt takes no product [%lld,%lld] x [%lld,%lld] of %s (%s)",
                    (long long)p->m, (long long)p->k, (long long)p->k, (long long)p->n, grd_dtype_name(p->a.dtype),
                    c.call->call_cublasLtGetStatusString(c.status));
}

grd_status grdi_product_run(grdi_device *device, const grdi_product *p, const void *a, const void *b, void *y,
                            bool accumulate)
{
    if (grdi_cuda_noted(device)) return GRD_OK;
    static const float numbers[] = {0, 1};
    int kept = accumulate || p->base ? 1 : 0;
    const void *alpha = p->alpha ? p->alpha : &numbers[1], *beta = (p->alpha ? device->lt.numbers : numbers) + kept;
    cublasStatus_t status = device->lt.call.call_cublasLtMatmul(
        device->lt.handle, p->description, alpha, b, p->b_layout, a, p->a_layout, beta, p->base ? p->base : y,
        p->y_layout, y, p->y_layout, &p->algorithm, device->lt.workspace, GRDI_LT_WORKSPACE_BYTES, device->stream);
    if (status == CUBLAS_STATUS_SUCCESS) return GRD_OK;
    snprintf(device->why, sizeof device->why, "cublasLtMatmul: %s",
             device->lt.call.call_cublasLtGetStatusString(status));
    return GRD_E_DEVICE;
}

void grdi_product_release(grdi_device *device, grdi_product *p)
{
    if (!p->planned) return;
    const grdi_lt_api *call = &device->lt.call;
    if (p->a_layout) call->call_cublasLtMatrixLayoutDestroy(p->a_layout);
    if (p->b_layout) call->call_cublasLtMatrixLayoutDestroy(p->b_layout);
    if (p->y_layout) call->call_cublasLtMatrixLayoutDestroy(p->y_layout);
    if (p->description) call->call_cublasLtMatmulDescDestroy(p->description);
    p->a_layout = p->b_layout = p->y_layout = NULL;
    p->description = NULL;
    p->planned = false;
}
