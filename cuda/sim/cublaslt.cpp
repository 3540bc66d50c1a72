/* cublaslt.cpp - the stand-in for cuBLASLt: checks each argument against the rules of NVIDIA's documentation
 * (https://docs.nvidia.com/cuda/cublas/, sections cublasLtMatmul, cublasLtEpilogue_t, cublasLtMatmulDescAttributes_t,
 * cublasLtMatrixLayoutAttribute_t) and computes by plain loops, sums in float as the library's. Algorithm 0 sums with K
 * ascending, 1 descending, others in as many parts as their number; 3 says that it adds its parts in the output's type,
 * which is refused where that is narrow: the library would do it, and the result would be off by ulps. */
#include "cublasLt.h"
#include "cuda_runtime.h"

#include "bf16.h"
#include "sim_state.h"

#include <cstdio>
#include <vector>

struct cublasLtContext {
    int open;
};
struct cublasLtMatmulDescOpaque {
    cublasComputeType_t compute;
    int32_t pointers, transa, transb, epilogue;
    const void *bias;
    void *aux;
    int64_t aux_ld;
};
struct cublasLtMatrixLayoutOpaque {
    cudaDataType_t type;
    uint64_t rows, columns;
    int64_t ld;
    int32_t batch;
    int64_t batch_stride;
};
struct cublasLtMatmulPreferenceOpaque {
    uint64_t workspace;
    uint32_t alignment[4], schemes;
};

namespace
{

enum { WORKSPACE_BYTES = 4096 }; /* what the stand-in's algorithm asks for, if it may */

struct problem {
    cublasLtMatmulDescOpaque how;
    cublasLtMatrixLayoutOpaque a, b, c, d;
};

cublasStatus_t refused(const char *what)
{
    grdi_sim_wrong("cublasLtMatmul: %s", what);
    return CUBLAS_STATUS_INVALID_VALUE;
}

size_t element_bytes(cudaDataType_t type)
{
    return type == CUDA_R_32F ? 4 : 2;
}

float load(const void *data, cudaDataType_t type, int64_t i)
{
    if (type == CUDA_R_32F) return ((const float *)data)[i];
    uint16_t half = ((const uint16_t *)data)[i];
    return type == CUDA_R_16F ? grdi_f16_to_f32(half) : sim_from_bf16(half);
}

void store(void *data, cudaDataType_t type, int64_t i, float value)
{
    if (type == CUDA_R_32F) ((float *)data)[i] = value;
    else ((uint16_t *)data)[i] = type == CUDA_R_16F ? grdi_f32_to_f16(value) : sim_to_bf16(value);
}

bool has_bias(const problem &p)
{
    return p.how.epilogue != CUBLASLT_EPILOGUE_DEFAULT && p.how.epilogue != CUBLASLT_EPILOGUE_DGELU &&
           p.how.epilogue != CUBLASLT_EPILOGUE_BGRADB;
}

bool has_aux(const problem &p)
{
    return p.how.epilogue == CUBLASLT_EPILOGUE_GELU_AUX_BIAS || p.how.epilogue == CUBLASLT_EPILOGUE_DGELU;
}

bool sums_b(const problem &p)
{
    return p.how.epilogue == CUBLASLT_EPILOGUE_BGRADB;
}

/* Shapes, types and leading dimensions: what the library looks at before it knows a pointer. */
const char *wrong_shape(const problem &p)
{
    uint64_t m = p.d.rows, n = p.d.columns, k = p.how.transa == CUBLAS_OP_N ? p.a.columns : p.a.rows;
    if ((p.how.transa == CUBLAS_OP_N ? p.a.rows : p.a.columns) != m) return "the rows of op(A) are not those of D";
    if ((p.how.transb == CUBLAS_OP_N ? p.b.columns : p.b.rows) != n) return "the columns of op(B) are not those of D";
    if ((p.how.transb == CUBLAS_OP_N ? p.b.rows : p.b.columns) != k) return "op(A) and op(B) do not fit";
    if (p.c.rows != m || p.c.columns != n || p.c.type != p.d.type) return "C is not like D";
    for (const cublasLtMatrixLayoutOpaque *x : {&p.a, &p.b, &p.c, &p.d}) {
        if (x->ld < (int64_t)x->rows) return "a leading dimension is below the rows of its matrix";
        if (x->batch != p.d.batch) return "batch counts differ";
    }
    if (p.a.type != p.b.type || (p.d.type != p.a.type && p.d.type != CUDA_R_32F))
        return "these types are not in the table of supported ones";
    if (has_aux(p) && (p.how.aux_ld < (int64_t)m || p.how.aux_ld % 8 != 0))
        return "the leading dimension of the auxiliary matrix is below the rows of D or no multiple of 8";
    if (sums_b(p) && p.d.batch != 1) return "the gradient of a bias is no epilogue of a batch";
    if (has_aux(p) && p.d.batch != 1) return "the auxiliary matrices of a batch have no stride";
    if (p.how.compute == CUBLAS_COMPUTE_32F_FAST_TF32 && p.a.type != CUDA_R_32F) return "tf32 is for matrices of f32";
    return nullptr;
}

/* From the first element to the end of the last. */
size_t extent(const cublasLtMatrixLayoutOpaque &x)
{
    int64_t last = (x.batch - 1) * x.batch_stride + ((int64_t)x.columns - 1) * x.ld + (int64_t)x.rows;
    return (size_t)last * element_bytes(x.type);
}

const char *wrong_pointer(const problem &p, const void *a, const void *b, const void *c, const void *d,
                          const uint64_t *least)
{
    static const char *const names[] = {"matrix A", "matrix B", "matrix C", "matrix D"};
    const void *pointer[] = {a, b, c, d};
    const cublasLtMatrixLayoutOpaque *layout[] = {&p.a, &p.b, &p.c, &p.d};
    const char *what = nullptr;
    size_t element = element_bytes(p.d.type);
    for (int i = 0; i < 4 && !what; i++) {
        size_t own = element_bytes(layout[i]->type);
        what = grdi_sim_wrong_memory(names[i], pointer[i], extent(*layout[i]), own > least[i] ? own : (size_t)least[i]);
    }
    if (!what && has_bias(p)) what = grdi_sim_wrong_memory("the bias", p.how.bias, p.d.rows * element, element);
    if (!what && sums_b(p))
        what = grdi_sim_wrong_memory("the gradient of a bias", p.how.bias, p.d.columns * element, element);
    if (!what && has_aux(p))
        what = grdi_sim_wrong_memory("the auxiliary matrix", p.how.aux,
                                     (((size_t)p.d.columns - 1) * (size_t)p.how.aux_ld + p.d.rows) * element, 16);
    return what;
}

uint32_t scheme_of(uint64_t algorithm)
{
    return algorithm < 2    ? CUBLASLT_REDUCTION_SCHEME_NONE
           : algorithm == 3 ? CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE
                            : CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
}

/* Both what the algorithm needs and what is said to be there. */
const char *wrong_workspace(const void *workspace, size_t given, size_t needed)
{
    if (needed > given) return "the workspace is smaller than the algorithm needs";
    return needed ? grdi_sim_wrong_memory("the workspace", workspace, given, 256) : nullptr;
}

float activated(int32_t epilogue, float x)
{
    if (epilogue == CUBLASLT_EPILOGUE_RELU_BIAS) return x < 0 ? 0 : x;
    if (epilogue == CUBLASLT_EPILOGUE_GELU_BIAS || epilogue == CUBLASLT_EPILOGUE_GELU_AUX_BIAS)
        return 0.5f * x * (1 + tanhf(0.7978845608f * (x + 0.044715f * x * x * x)));
    return x;
}

/* Of 0.5 x (1 + tanh(u)) with u = 0.79788456 (x + 0.044715 x^3). */
float gelu_slope(float x)
{
    float t = tanhf(0.7978845608f * (x + 0.044715f * x * x * x));
    return 0.5f * (1 + t) + 0.5f * x * (1 - t * t) * 0.7978845608f * (1 + 3 * 0.044715f * x * x);
}

/* Over the product's inner dimension: a sum for each column of D. */
void sum_columns_of_b(const problem &p, const void *b, int64_t inner)
{
    int64_t row = p.how.transb == CUBLAS_OP_N ? 1 : p.b.ld, column = p.how.transb == CUBLAS_OP_N ? p.b.ld : 1;
    for (int64_t j = 0; j < (int64_t)p.d.columns; j++) {
        float sum = 0;
        for (int64_t l = 0; l < inner; l++) sum += load(b, p.b.type, l * row + j * column);
        store((void *)p.how.bias, p.d.type, j, sum);
    }
}

/* The sum of the products of two rows of `k`, in the algorithm's order. Both are copies, made under sanitizers; most of
 * a sanitized test's time went here. */
__attribute__((no_sanitize("address", "undefined"))) float sum_of_products(const float *x, const float *y, int64_t k,
                                                                           uint64_t algorithm)
{
    float sum = 0;
    int64_t parts = algorithm > 1 ? (int64_t)algorithm : 1, each = (k + parts - 1) / parts;
    if (algorithm == 1)
        for (int64_t l = k; l-- > 0;) sum += x[l] * y[l];
    for (int64_t from = 0; algorithm != 1 && from < k; from += each) {
        float part = 0;
        for (int64_t l = from; l < k && l < from + each; l++) part += x[l] * y[l];
        sum += part;
    }
    return sum;
}

/* A batch's matrix as rows of f32: [rows, columns] of one whose elements lie `row` and `column` apart. */
std::vector<float> rows_of(const cublasLtMatrixLayoutOpaque &x, const void *data, int64_t batch, int64_t rows,
                           int64_t columns, int64_t row, int64_t column)
{
    std::vector<float> values((size_t)(rows * columns));
    for (int64_t i = 0; i < rows; i++)
        for (int64_t l = 0; l < columns; l++)
            values[(size_t)(i * columns + l)] = load(data, x.type, batch * x.batch_stride + i * row + l * column);
    return values;
}

void compute(const problem &p, const void *a, const void *b, const void *c, void *d, float alpha, float beta,
             uint64_t algorithm)
{
    int64_t m = (int64_t)p.d.rows, n = (int64_t)p.d.columns;
    int64_t k = (int64_t)(p.how.transa == CUBLAS_OP_N ? p.a.columns : p.a.rows);
    int64_t a_row = p.how.transa == CUBLAS_OP_N ? 1 : p.a.ld, a_column = p.how.transa == CUBLAS_OP_N ? p.a.ld : 1;
    int64_t b_row = p.how.transb == CUBLAS_OP_N ? 1 : p.b.ld, b_column = p.how.transb == CUBLAS_OP_N ? p.b.ld : 1;
    if (sums_b(p)) sum_columns_of_b(p, b, k);
    for (int64_t batch = 0; batch < p.d.batch; batch++) {
        std::vector<float> of_a = rows_of(p.a, a, batch, m, k, a_row, a_column); /* [m, k] */
        std::vector<float> of_b = rows_of(p.b, b, batch, n, k, b_column, b_row); /* [n, k] */
        for (int64_t j = 0; j < n; j++)
            for (int64_t i = 0; i < m; i++) {
                float sum = alpha * sum_of_products(of_a.data() + i * k, of_b.data() + j * k, k, algorithm);
                if (beta != 0) sum += beta * load(c, p.c.type, batch * p.c.batch_stride + i + j * p.c.ld);
                if (has_bias(p)) sum += load(p.how.bias, p.d.type, i);
                if (p.how.epilogue == CUBLASLT_EPILOGUE_GELU_AUX_BIAS)
                    store(p.how.aux, p.d.type, i + j * p.how.aux_ld, sum);
                if (p.how.epilogue == CUBLASLT_EPILOGUE_DGELU)
                    sum *= gelu_slope(load(p.how.aux, p.d.type, i + j * p.how.aux_ld));
                store(d, p.d.type, batch * p.d.batch_stride + i + j * p.d.ld, activated(p.how.epilogue, sum));
            }
    }
}

template <class T> bool take(T *field, const void *value, size_t size_bytes)
{
    if (size_bytes != sizeof *field || !value) return false;
    memcpy(field, value, sizeof *field);
    return true;
}

cublasStatus_t took(bool right)
{
    return right ? CUBLAS_STATUS_SUCCESS : refused("an attribute of the wrong size");
}

} // namespace

extern "C" {

size_t cublasLtGetVersion(void)
{
    return 130000;
}

const char *cublasLtGetStatusString(cublasStatus_t status)
{
    return status == CUBLAS_STATUS_SUCCESS         ? "CUBLAS_STATUS_SUCCESS"
           : status == CUBLAS_STATUS_NOT_SUPPORTED ? "CUBLAS_STATUS_NOT_SUPPORTED"
                                                   : "CUBLAS_STATUS_INVALID_VALUE";
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle)
{
    *handle = new cublasLtContext{1};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle)
{
    delete handle;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *description, cublasComputeType_t compute,
                                        cudaDataType_t scale)
{
    if (scale != CUDA_R_32F) return refused("alpha and beta of this compute type are f32");
    *description = new cublasLtMatmulDescOpaque{
        compute, CUBLASLT_POINTER_MODE_HOST, CUBLAS_OP_N, CUBLAS_OP_N, CUBLASLT_EPILOGUE_DEFAULT, nullptr, nullptr, 0};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t description)
{
    delete description;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t description,
                                              cublasLtMatmulDescAttributes_t attribute, const void *value,
                                              size_t size_bytes)
{
    switch (attribute) {
    case CUBLASLT_MATMUL_DESC_POINTER_MODE: return took(take(&description->pointers, value, size_bytes));
    case CUBLASLT_MATMUL_DESC_TRANSA: return took(take(&description->transa, value, size_bytes));
    case CUBLASLT_MATMUL_DESC_TRANSB: return took(take(&description->transb, value, size_bytes));
    case CUBLASLT_MATMUL_DESC_EPILOGUE: return took(take(&description->epilogue, value, size_bytes));
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER: return took(take(&description->bias, value, size_bytes));
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER: return took(take(&description->aux, value, size_bytes));
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD: return took(take(&description->aux_ld, value, size_bytes));
    }
    return refused("an unknown attribute of a description");
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *layout, cudaDataType_t type, uint64_t rows,
                                          uint64_t columns, int64_t leading)
{
    *layout = new cublasLtMatrixLayoutOpaque{type, rows, columns, leading, 1, 0};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout)
{
    delete layout;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t layout,
                                                cublasLtMatrixLayoutAttribute_t attribute, const void *value,
                                                size_t size_bytes)
{
    if (attribute == CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT) return took(take(&layout->batch, value, size_bytes));
    return took(take(&layout->batch_stride, value, size_bytes));
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *preference)
{
    *preference = new cublasLtMatmulPreferenceOpaque{0, {256, 256, 256, 256}, CUBLASLT_REDUCTION_SCHEME_MASK};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference)
{
    delete preference;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute, const void *value,
                                                    size_t size_bytes)
{
    if (attribute == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES)
        return took(take(&preference->workspace, value, size_bytes));
    if (attribute == CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK)
        return took(take(&preference->schemes, value, size_bytes));
    return took(
        take(&preference->alignment[attribute - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES], value, size_bytes));
}

/* Algorithms remember what they were found for: alignments, the workspace that they were granted, their number. */
cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t description,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int wanted,
                                              cublasLtMatmulHeuristicResult_t *results, int *found)
{
    const char *what = wrong_shape(problem{*description, *a, *b, *c, *d});
    *found = 0;
    if (!handle || wanted < 1 || what) return refused(what ? what : "no handle, or no algorithm wanted");
    for (int n = 0; n < grdi_sim_algorithms() && *found < wanted; n++) {
        if (scheme_of((uint64_t)n) & ~preference->schemes) continue;
        cublasLtMatmulHeuristicResult_t *r = &results[(*found)++];
        *r = cublasLtMatmulHeuristicResult_t{};
        for (int i = 0; i < 4; i++) r->algo.data[i] = preference->alignment[i];
        r->workspaceSize = preference->workspace < WORKSPACE_BYTES ? 0 : (size_t)WORKSPACE_BYTES;
        r->algo.data[4] = r->workspaceSize;
        r->algo.data[5] = (uint64_t)n;
    }
    return CUBLAS_STATUS_SUCCESS;
}

/* Whether bytes that were kept are an algorithm for the problem still. */
cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t handle, cublasLtMatmulDesc_t description,
                                       cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c,
                                       cublasLtMatrixLayout_t d, const cublasLtMatmulAlgo_t *algorithm,
                                       cublasLtMatmulHeuristicResult_t *result)
{
    const char *what = wrong_shape(problem{*description, *a, *b, *c, *d});
    if (!handle || what) return refused(what ? what : "no handle");
    if (algorithm->data[4] != 0 && algorithm->data[4] != WORKSPACE_BYTES) return CUBLAS_STATUS_NOT_SUPPORTED;
    if (algorithm->data[5] >= (uint64_t)grdi_sim_algorithms()) return CUBLAS_STATUS_NOT_SUPPORTED;
    *result = cublasLtMatmulHeuristicResult_t{};
    result->algo = *algorithm;
    result->workspaceSize = (size_t)algorithm->data[4];
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoConfigGetAttribute(const cublasLtMatmulAlgo_t *algorithm,
                                                    cublasLtMatmulAlgoConfigAttributes_t attribute, void *value,
                                                    size_t size_bytes, size_t *written)
{
    uint32_t scheme = scheme_of(algorithm->data[5]);
    if (attribute != CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME || size_bytes != sizeof scheme)
        return refused("an attribute of an algorithm that is unknown or of the wrong size");
    memcpy(value, &scheme, sizeof scheme);
    if (written) *written = sizeof scheme;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t description, const void *alpha,
                              const void *a, cublasLtMatrixLayout_t a_layout, const void *b,
                              cublasLtMatrixLayout_t b_layout, const void *beta, const void *c,
                              cublasLtMatrixLayout_t c_layout, void *d, cublasLtMatrixLayout_t d_layout,
                              const cublasLtMatmulAlgo_t *algorithm, void *workspace, size_t workspace_bytes,
                              cudaStream_t stream)
{
    if (!handle || !algorithm || !alpha || !beta || !stream)
        return refused("no handle, algorithm, alpha, beta or stream");
    problem p{*description, *a_layout, *b_layout, *c_layout, *d_layout};
    const char *what = wrong_shape(p);
    if (!what) what = wrong_pointer(p, a, b, c, d, algorithm->data);
    if (!what) what = wrong_workspace(workspace, workspace_bytes, (size_t)algorithm->data[4]);
    if (!what && p.d.type != CUDA_R_32F && scheme_of(algorithm->data[5]) == CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE)
        what = "the algorithm adds its parts in the output's narrow type";
    if (what) return refused(what);
    bool late = p.how.pointers == CUBLASLT_POINTER_MODE_DEVICE; /* alpha and beta are read when the product runs */
    for (const void *factor : {alpha, beta})
        if (late && (what = grdi_sim_wrong_memory("alpha or beta", factor, sizeof(float), sizeof(float))))
            return refused(what);
    grdi_sim_writes("cublasLtMatmul", d);
    if (p.how.epilogue == CUBLASLT_EPILOGUE_GELU_AUX_BIAS)
        grdi_sim_writes("cublasLtMatmul, beside its result", p.how.aux);
    if (sums_b(p)) grdi_sim_writes("cublasLtMatmul, beside its result", p.how.bias);
    float now[2];
    memcpy(&now[0], alpha, sizeof(float));
    memcpy(&now[1], beta, sizeof(float));
    size_t used = algorithm->data[4];
    uint64_t number = algorithm->data[5];
    cudaError_t error = grdi_sim_submit(stream, [=] {
        grdi_sim_count()->matmuls++;
        float times = late ? *(const float *)alpha : now[0], kept = late ? *(const float *)beta : now[1];
        grdi_sim_spend((int64_t)number);
        if (sums_b(p)) grdi_sim_spend_sums();
        compute(p, a, b, c, d, times, kept, number);
        if (used) memset(workspace, 0xFF, used);
        return cudaSuccess;
    });
    return error == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

} // extern "C"
