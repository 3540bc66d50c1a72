/* test_stand_ins.c - the stand-ins for CUDA and cuBLASLt refuse what the libraries' documentation forbids. */
#include "../../cuda/sim/include/cublasLt.h"
#include "refusals.h"
#include "sim_library.h"

#include <string.h>

/* y [4 x 3] = w^T x in the library's own terms, all as it should be; each test spoils one thing. */
typedef struct product {
    cublasLtHandle_t handle;
    cublasLtMatmulDesc_t description;
    cublasLtMatrixLayout_t a, b, c, d;
    cublasLtMatmulHeuristicResult_t found;
    cudaStream_t stream;
    float *memory; /* a, b, d, bias, aux, each 64 floats */
    char *workspace;
    struct {
        cudaDataType_t type;
        uint64_t rows, columns;
        int64_t ld;
        int32_t batch;
    } shape[4]; /* of a, b, c and d */
    cublasComputeType_t compute;
    int64_t aux_ld;
    int32_t epilogue, wanted;
    size_t workspace_bytes;
    uint32_t alignment;
} product;

enum { A, B, C, D };

#define GOOD(call) cr_assert((call) == 0, "%s", SIM(grdi_sim_take_error)())

static product p;

static void make(void)
{
    p = (product){.shape = {{CUDA_R_32F, 4, 2, 4, 1},
                            {CUDA_R_32F, 2, 3, 2, 1},
                            {CUDA_R_32F, 4, 3, 4, 1},
                            {CUDA_R_32F, 4, 3, 4, 1}},
                  .compute = CUBLAS_COMPUTE_32F,
                  .aux_ld = 8,
                  .epilogue = CUBLASLT_EPILOGUE_DEFAULT,
                  .wanted = 1,
                  .workspace_bytes = 1 << 16,
                  .alignment = 16};
    GOOD(SIM(cublasLtCreate)(&p.handle));
    GOOD(SIM(cudaStreamCreateWithFlags)(&p.stream, cudaStreamNonBlocking));
    GOOD(SIM(cudaMalloc)((void **)&p.memory, 5 * 64 * sizeof(float)));
    GOOD(SIM(cudaMalloc)((void **)&p.workspace, p.workspace_bytes));
}

static void drop_description(void)
{
    if (!p.description) return;
    SIM(cublasLtMatmulDescDestroy)(p.description);
    SIM(cublasLtMatrixLayoutDestroy)(p.a);
    SIM(cublasLtMatrixLayoutDestroy)(p.b);
    SIM(cublasLtMatrixLayoutDestroy)(p.c);
    SIM(cublasLtMatrixLayoutDestroy)(p.d);
    p.description = NULL;
}

static void drop(void)
{
    drop_description();
    SIM(cudaFree)(p.memory);
    SIM(cudaFree)(p.workspace);
    SIM(cudaStreamDestroy)(p.stream);
    SIM(cublasLtDestroy)(p.handle);
}

TestSuite(stand_ins, .init = make, .fini = drop);

static void set(cublasLtMatmulDescAttributes_t attribute, const void *value, size_t size)
{
    GOOD(SIM(cublasLtMatmulDescSetAttribute)(p.description, attribute, value, size));
}

/* Shapes are looked at when an algorithm is asked for, pointers when it runs. */
static cublasStatus_t choose(void)
{
    cublasLtMatmulPreference_t preference;
    uint64_t workspace = p.workspace_bytes;
    int found = 0;
    drop_description();
    GOOD(SIM(cublasLtMatmulDescCreate)(&p.description, p.compute, CUDA_R_32F));
    set(CUBLASLT_MATMUL_DESC_EPILOGUE, &p.epilogue, sizeof(p.epilogue));
    set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, &p.aux_ld, sizeof(p.aux_ld));
    for (int i = 0; i < 4; i++) {
        cublasLtMatrixLayout_t *made = (cublasLtMatrixLayout_t *[]){&p.a, &p.b, &p.c, &p.d}[i];
        GOOD(
            SIM(cublasLtMatrixLayoutCreate)(made, p.shape[i].type, p.shape[i].rows, p.shape[i].columns, p.shape[i].ld));
        GOOD(SIM(cublasLtMatrixLayoutSetAttribute)(*made, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &p.shape[i].batch,
                                                   sizeof(p.shape[i].batch)));
    }
    GOOD(SIM(cublasLtMatmulPreferenceCreate)(&preference));
    GOOD(SIM(cublasLtMatmulPreferenceSetAttribute)(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace,
                                                   sizeof(workspace)));
    for (int i = 0; i < 4; i++)
        GOOD(SIM(cublasLtMatmulPreferenceSetAttribute)(
            preference, (cublasLtMatmulPreferenceAttributes_t)(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES + i),
            &p.alignment, sizeof(p.alignment)));
    cublasStatus_t status = SIM(cublasLtMatmulAlgoGetHeuristic)(p.handle, p.description, p.a, p.b, p.c, p.d, preference,
                                                                p.wanted, &p.found, &found);
    SIM(cublasLtMatmulPreferenceDestroy)(preference);
    return status;
}

/* Where the product's matrices and its workspace lie. */
typedef struct places {
    const void *a, *b, *c;
    void *d, *workspace;
    size_t workspace_bytes;
} places;

static places good_places(void)
{
    return (places){p.memory, p.memory + 64, p.memory + 128, p.memory + 128, p.workspace, p.workspace_bytes};
}

static cublasStatus_t run_at(places at)
{
    const float one = 1, zero = 0;
    return SIM(cublasLtMatmul)(p.handle, p.description, &one, at.a, p.a, at.b, p.b, &zero, at.c, p.c, at.d, p.d,
                               &p.found.algo, at.workspace, at.workspace_bytes, p.stream);
}

static cublasStatus_t run(size_t offset, size_t workspace_bytes)
{
    places at = good_places();
    at.a = p.memory + offset;
    at.workspace_bytes = workspace_bytes;
    return run_at(at);
}

static void refused(cublasStatus_t status, const char *why)
{
    const char *error = SIM(grdi_sim_take_error)();
    cr_assert(status != CUBLAS_STATUS_SUCCESS, "not refused");
    cr_assert(strstr(error, why), "'%s' does not say '%s'", error, why);
}

Test(stand_ins, take_a_good_product)
{
    for (int i = 0; i < 64; i++) p.memory[i] = (float)i, p.memory[64 + i] = (float)(i % 3);
    GOOD(choose());
    GOOD(run(0, p.workspace_bytes));
    /* d[0][0] = a[0][0] b[0][0] + a[0][1] b[1][0] = 0 0 + 4 1 */
    cr_assert(p.memory[128] == 4.0f, "%g", p.memory[128]);
    sim_is_content();
}

/* What is said of the product when it is timed. */
static const char *timed(places at)
{
    cudaEvent_t event[2];
    for (int i = 0; i < 2; i++) {
        GOOD(SIM(cudaEventCreateWithFlags)(&event[i], cudaEventDefault));
        GOOD(SIM(cudaEventRecord)(event[i], p.stream));
        if (i == 0) GOOD(run_at(at));
    }
    for (int i = 0; i < 2; i++) SIM(cudaEventDestroy)(event[i]);
    return SIM(grdi_sim_take_error)();
}

/* While it is timed a call may write to nothing but memory that was taken for that. */
Test(stand_ins, name_a_trial_that_writes_elsewhere)
{
    int64_t before = SIM(grdi_sim_count)()->timed;
    places at = good_places();
    float *own;
    GOOD(choose());
    const char *error = timed(at);
    cr_assert(strstr(error, "cublasLtMatmul: while it is timed it writes to"), "'%s'", error);
    GOOD(SIM(cudaMalloc)((void **)&own, 64 * sizeof(float)));
    at.c = at.d = own;
    error = timed(at);
    cr_assert(!error[0], "'%s'", error);
    cr_assert(SIM(grdi_sim_count)()->timed == before + 2);
    GOOD(run(0, p.workspace_bytes)); /* and is not timed any more */
    cr_assert(SIM(grdi_sim_count)()->timed == before + 2);
    for (int i = 0; i < 4; i++) {
        const void *bias = i == 0 ? p.memory + 192 : own + 32, *aux = i == 2 ? p.memory + 256 : own + 16;
        p.epilogue = i < 2 ? CUBLASLT_EPILOGUE_BGRADB : CUBLASLT_EPILOGUE_GELU_AUX_BIAS;
        GOOD(choose());
        set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof(bias));
        if (i >= 2) set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, &aux, sizeof(aux));
        error = timed(at);
        cr_assert(i % 2 ? !error[0] : !!strstr(error, "cublasLtMatmul, beside its result: while it is timed"), "'%s'",
                  error);
    }
    SIM(cudaFree)(own);
}

Test(stand_ins, refuse_a_leading_dimension_below_the_rows)
{
    for (int i = 0; i < 4; i++) {
        p.shape[i].ld--;
        refused(choose(), "a leading dimension is below the rows of its matrix");
        p.shape[i].ld++;
    }
    GOOD(choose());
}

Test(stand_ins, refuse_shapes_that_do_not_fit)
{
    p.shape[A].rows = 3;
    refused(choose(), "the rows of op(A) are not those of D");
    p.shape[A].rows = 4, p.shape[B].columns = 4;
    refused(choose(), "the columns of op(B) are not those of D");
    p.shape[B].columns = 3, p.shape[B].rows = 1;
    refused(choose(), "op(A) and op(B) do not fit");
    p.shape[B].rows = 2, p.shape[C].rows = 3;
    refused(choose(), "C is not like D");
    p.shape[C].rows = 4, p.shape[C].type = CUDA_R_16BF;
    refused(choose(), "C is not like D");
    p.shape[C].type = CUDA_R_32F, p.shape[B].batch = 2;
    refused(choose(), "batch counts differ");
    p.shape[B].batch = 1;
    GOOD(choose());
}

Test(stand_ins, refuse_types_that_they_have_no_product_for)
{
    p.shape[A].type = CUDA_R_16BF;
    refused(choose(), "these types are not in the table of supported ones");
    p.shape[B].type = CUDA_R_16BF;
    GOOD(choose());
    p.shape[C].type = p.shape[D].type = CUDA_R_16F;
    refused(choose(), "these types are not in the table of supported ones");
    p.shape[C].type = p.shape[D].type = CUDA_R_32F;
    p.compute = CUBLAS_COMPUTE_32F_FAST_TF32;
    refused(choose(), "tf32 is for matrices of f32");
    cublasLtMatmulDesc_t description;
    refused(SIM(cublasLtMatmulDescCreate)(&description, CUBLAS_COMPUTE_32F, CUDA_R_16F),
            "alpha and beta of this compute type are f32");
}

Test(stand_ins, refuse_epilogues_of_batches)
{
    for (int i = 0; i < 4; i++) p.shape[i].batch = 2;
    p.epilogue = CUBLASLT_EPILOGUE_BGRADB;
    refused(choose(), "the gradient of a bias is no epilogue of a batch");
    p.epilogue = CUBLASLT_EPILOGUE_DGELU;
    refused(choose(), "the auxiliary matrices of a batch have no stride");
}

Test(stand_ins, refuse_attributes_that_are_none)
{
    const int32_t value = 0;
    GOOD(choose());
    refused(
        SIM(cublasLtMatmulDescSetAttribute)(p.description, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &value, sizeof(value)),
        "an attribute of the wrong size");
    refused(
        SIM(cublasLtMatmulDescSetAttribute)(p.description, (cublasLtMatmulDescAttributes_t)99, &value, sizeof(value)),
        "an unknown attribute of a description");
}

Test(stand_ins, refuse_calls_that_lack_something)
{
    const float one = 1;
    p.wanted = 0;
    refused(choose(), "no handle, or no algorithm wanted");
    p.wanted = 1;
    GOOD(choose());
    refused(SIM(cublasLtMatmulAlgoCheck)(NULL, p.description, p.a, p.b, p.c, p.d, &p.found.algo, &p.found),
            "no handle");
    refused(SIM(cublasLtMatmul)(p.handle, p.description, &one, p.memory, p.a, p.memory + 64, p.b, &one, p.memory + 128,
                                p.c, p.memory + 128, p.d, &p.found.algo, p.workspace, p.workspace_bytes, NULL),
            "no handle, algorithm, alpha, beta or stream");
}

Test(stand_ins, refuse_an_unaligned_pointer)
{
    GOOD(choose());
    refused(run(1, p.workspace_bytes), "aligned to less");
    p.alignment = 4;
    GOOD(choose());
    GOOD(run(1, p.workspace_bytes));
}

Test(stand_ins, refuse_a_workspace_that_is_too_small)
{
    GOOD(choose());
    refused(run(0, p.found.workspaceSize - 1), "workspace is smaller");
    refused(run(0, p.workspace_bytes + 1), "the workspace of 65537 bytes does not lie within one allocation");
    places at = good_places();
    at.workspace = p.workspace + p.workspace_bytes - 256;
    refused(run_at(at), "the workspace of 65536 bytes does not lie within one allocation");
    at.workspace = p.workspace + 16;
    refused(run_at(at), "the workspace is aligned to less than 256 bytes");
    at.workspace = NULL;
    refused(run_at(at), "the workspace is NULL");
    GOOD(run_at(good_places()));
}

static _Alignas(256) char host[1 << 16];

/* Algorithm 3 is one that adds parts of sums in the output's type. */
Test(stand_ins, refuse_parts_of_sums_in_a_narrow_type)
{
    cublasLtMatmulHeuristicResult_t found[4];
    cublasLtMatmulPreference_t preference;
    const uint32_t exact = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    uint32_t scheme;
    int count;
    SIM(grdi_sim_set_algorithms)(4, 0);
    for (int narrow = 0; narrow < 2; narrow++) {
        for (int i = 0; i < 4 && narrow; i++) p.shape[i].type = CUDA_R_16BF;
        GOOD(choose());
        p.found.algo.data[5] = 3;
        if (narrow) refused(run(0, p.workspace_bytes), "the algorithm adds its parts in the output's narrow type");
        else GOOD(run(0, p.workspace_bytes));
    }
    GOOD(SIM(cublasLtMatmulAlgoConfigGetAttribute)(&p.found.algo, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, &scheme,
                                                   sizeof(scheme), NULL));
    cr_assert(scheme == CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE);
    refused(SIM(cublasLtMatmulAlgoConfigGetAttribute)(&p.found.algo, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, &scheme, 1,
                                                      NULL),
            "an attribute of an algorithm that is unknown or of the wrong size");
    GOOD(SIM(cublasLtMatmulPreferenceCreate)(&preference));
    for (int masked = 0; masked < 2; masked++) {
        if (masked)
            GOOD(SIM(cublasLtMatmulPreferenceSetAttribute)(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
                                                           &exact, sizeof(exact)));
        GOOD(SIM(cublasLtMatmulAlgoGetHeuristic)(p.handle, p.description, p.a, p.b, p.c, p.d, preference, 4, found,
                                                 &count));
        cr_assert(count == 4 - masked, "%d", count);
    }
    SIM(cublasLtMatmulPreferenceDestroy)(preference);
    SIM(grdi_sim_set_algorithms)(1, 0);
}

Test(stand_ins, refuse_memory_of_the_host)
{
    GOOD(choose());
    for (int i = 0; i < 5; i++) {
        static const char *const names[] = {"matrix A", "matrix B", "matrix C", "matrix D",
                                            "the workspace of 65536 bytes"};
        places at = good_places();
        *(const void **[]){&at.a, &at.b, &at.c, (const void **)&at.d, (const void **)&at.workspace}[i] = host;
        cublasStatus_t status = run_at(at);
        const char *error = SIM(grdi_sim_take_error)();
        cr_expect(status != CUBLAS_STATUS_SUCCESS, "%s may be the host's", names[i]);
        cr_expect(strstr(error, names[i]) && strstr(error, "does not lie within one allocation"), "'%s'", error);
    }
    static const struct {
        int32_t epilogue;
        const char *name;
    } cases[] = {{CUBLASLT_EPILOGUE_BIAS, "the bias of 16 bytes"},
                 {CUBLASLT_EPILOGUE_BGRADB, "the gradient of a bias of 12 bytes"},
                 {CUBLASLT_EPILOGUE_DGELU, "the auxiliary matrix of 80 bytes"}};
    const void *there = host;
    for (int i = 0; i < 3; i++) {
        p.epilogue = cases[i].epilogue;
        GOOD(choose());
        set(i < 2 ? CUBLASLT_MATMUL_DESC_BIAS_POINTER : CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, &there,
            sizeof(there));
        refused(run_at(good_places()), cases[i].name);
    }
}

/* a is [4 x 2], b [2 x 3] and d [4 x 3]; behind what lies at the end of an allocation there is nothing. */
Test(stand_ins, refuse_matrices_that_end_beyond_their_allocation)
{
    float *end = p.memory + 5 * 64;
    for (int i = 0; i < 4; i++) {
        static const int elements[] = {8, 6, 12, 12};
        p.alignment = 4;
        GOOD(choose());
        for (int more = 0; more < 2; more++) {
            places at = good_places();
            *(const void **[]){&at.a, &at.b, &at.c, (const void **)&at.d}[i] = end - elements[i] + more;
            if (more) refused(run_at(at), "does not lie within one allocation");
            else GOOD(run_at(at));
        }
    }
    p.epilogue = CUBLASLT_EPILOGUE_BIAS;
    GOOD(choose());
    const void *bias = end - 3;
    set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof(bias));
    refused(run_at(good_places()), "the bias of 16 bytes does not lie within one allocation");
    p.epilogue = CUBLASLT_EPILOGUE_GELU_AUX_BIAS;
    GOOD(choose());
    bias = end - 4;
    void *aux = end - 16;
    set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof(bias));
    set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, &aux, sizeof(aux));
    refused(run_at(good_places()), "the auxiliary matrix of 80 bytes does not lie within one allocation");
}

/* The last of a batch may lie beyond the end, too. */
Test(stand_ins, refuse_batches_that_end_beyond_their_allocation)
{
    const int64_t stride = 5 * 64 - 8;
    for (int i = 0; i < 4; i++) p.shape[i].batch = 2;
    GOOD(choose());
    GOOD(run_at(good_places()));
    GOOD(SIM(cublasLtMatrixLayoutSetAttribute)(p.a, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &stride,
                                               sizeof(stride)));
    GOOD(run(0, p.workspace_bytes));
    refused(run(4, p.workspace_bytes), "matrix A of 1280 bytes does not lie within one allocation");
}

Test(stand_ins, refuse_wrong_pointers_of_epilogues)
{
    p.epilogue = CUBLASLT_EPILOGUE_BIAS;
    GOOD(choose());
    refused(run(0, p.workspace_bytes), "the bias is NULL");
    const void *bias = p.memory + 192;
    p.epilogue = CUBLASLT_EPILOGUE_GELU_AUX_BIAS;
    GOOD(choose());
    set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof(bias));
    refused(run(0, p.workspace_bytes), "the auxiliary matrix is");
    void *aux = p.memory + 257; /* 4 bytes past the alignment */
    set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, &aux, sizeof(aux));
    refused(run(0, p.workspace_bytes), "the auxiliary matrix is");
    aux = p.memory + 256;
    set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, &aux, sizeof(aux));
    GOOD(run(0, p.workspace_bytes));
    p.aux_ld = 7;
    refused(choose(), "leading dimension of the auxiliary");
}

/* d = (a b) gelu'(aux): 4 at 0, where the slope is 1/2. */
Test(stand_ins, multiply_by_the_slope_of_gelu)
{
    for (int i = 0; i < 64; i++) p.memory[i] = (float)i, p.memory[64 + i] = (float)(i % 3), p.memory[256 + i] = 0;
    p.epilogue = CUBLASLT_EPILOGUE_DGELU;
    GOOD(choose());
    refused(run(0, p.workspace_bytes), "the auxiliary matrix is");
    const void *aux = p.memory + 258; /* 8 bytes past the alignment */
    set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, &aux, sizeof(aux));
    refused(run(0, p.workspace_bytes), "the auxiliary matrix is");
    aux = p.memory + 256;
    set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, &aux, sizeof(aux));
    GOOD(run(0, p.workspace_bytes));
    cr_assert(p.memory[128] == 2.0f, "%g", p.memory[128]);
    p.aux_ld = 12;
    refused(choose(), "leading dimension of the auxiliary");
    sim_is_content();
}

/* The sums of b's columns, over the inner dimension: b is [2 x 3] of 0 1, 2 0, 1 2. */
Test(stand_ins, sum_the_columns_of_b)
{
    for (int i = 0; i < 64; i++) p.memory[i] = (float)i, p.memory[64 + i] = (float)(i % 3), p.memory[192 + i] = -1;
    p.epilogue = CUBLASLT_EPILOGUE_BGRADB;
    GOOD(choose());
    refused(run(0, p.workspace_bytes), "the gradient of a bias is");
    const void *sums = (char *)p.memory + 2;
    set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, &sums, sizeof(sums));
    refused(run(0, p.workspace_bytes), "the gradient of a bias is");
    sums = p.memory + 192;
    set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, &sums, sizeof(sums));
    GOOD(run(0, p.workspace_bytes));
    cr_assert(p.memory[128] == 4.0f && p.memory[192] == 1 && p.memory[193] == 2 && p.memory[194] == 3 &&
                  p.memory[195] == -1,
              "%g; %g %g %g", p.memory[128], p.memory[192], p.memory[193], p.memory[194]);
    sim_is_content();
}

Test(stand_ins, read_factors_where_their_mode_says)
{
    const int32_t mode = CUBLASLT_POINTER_MODE_DEVICE;
    for (int i = 0; i < 64; i++) p.memory[i] = (float)i, p.memory[64 + i] = (float)(i % 3);
    GOOD(choose());
    set(CUBLASLT_MATMUL_DESC_POINTER_MODE, &mode, sizeof(mode));
    refused(run(0, p.workspace_bytes), "alpha or beta of 4 bytes does not lie within one allocation");
    p.memory[192] = 0.5f, p.memory[193] = 0;
    GOOD(SIM(cublasLtMatmul)(p.handle, p.description, p.memory + 192, p.memory, p.a, p.memory + 64, p.b, p.memory + 193,
                             p.memory + 128, p.d, p.memory + 128, p.d, &p.found.algo, p.workspace, p.workspace_bytes,
                             p.stream));
    cr_assert(p.memory[128] == 2.0f, "%g", p.memory[128]);
    sim_is_content();
}

Test(stand_ins, refuse_copies_past_an_allocation)
{
    float host[8] = {0};
    refused((cublasStatus_t)SIM(cudaMemcpyAsync)(p.memory + 5 * 64 - 4, host, sizeof(host), cudaMemcpyHostToDevice,
                                                 p.stream),
            "cudaMemcpyAsync");
    refused((cublasStatus_t)SIM(cudaMemcpyAsync)(host, host, sizeof(host), cudaMemcpyDeviceToHost, p.stream),
            "cudaMemcpyAsync");
}

/* A pinned buffer belongs to the copy until it has happened: what is written there too early is what arrives. */
Test(stand_ins, copy_from_pinned_memory_late)
{
    float *pinned, back = 0;
    GOOD(SIM(cudaMallocHost)((void **)&pinned, sizeof(float)));
    *pinned = 1;
    GOOD(SIM(cudaMemcpyAsync)(p.memory, pinned, sizeof(float), cudaMemcpyHostToDevice, p.stream));
    *pinned = 2;
    GOOD(SIM(cudaMemcpyAsync)(&back, p.memory, sizeof(float), cudaMemcpyDeviceToHost, p.stream));
    cr_assert(back == 2, "%g", back);
    GOOD(SIM(cudaFreeHost)(pinned));
}

/* What is copied to the host lies there when somebody has waited for it, or has asked after more work was begun. */
Test(stand_ins, copy_to_pinned_memory_late)
{
    float *pinned;
    cudaEvent_t event;
    GOOD(SIM(cudaMallocHost)((void **)&pinned, sizeof(float)));
    GOOD(SIM(cudaEventCreateWithFlags)(&event, cudaEventDisableTiming));
    for (int waits = 0; waits < 2; waits++) {
        *p.memory = 3;
        GOOD(SIM(cudaMemcpyAsync)(pinned, p.memory, sizeof(float), cudaMemcpyDeviceToHost, p.stream));
        GOOD(SIM(cudaEventRecord)(event, p.stream));
        cr_assert(SIM(cudaEventQuery)(event) == cudaErrorNotReady && *pinned != *pinned, "too early: %g", *pinned);
        if (waits) {
            GOOD(SIM(cudaEventSynchronize)(event));
        } else {
            GOOD(SIM(cudaMemsetAsync)(p.memory, 0, sizeof(float), p.stream)); /* comes after the copy */
            cr_assert(*pinned != *pinned, "too early: %g", *pinned);
            GOOD(SIM(cudaEventQuery)(event));
        }
        cr_assert(*pinned == 3, "%g", *pinned);
    }
    GOOD(SIM(cudaEventDestroy)(event));
    GOOD(SIM(cudaFreeHost)(pinned));
}

/* A stream does not see another one's copy unless it waits for it. */
Test(stand_ins, make_streams_wait)
{
    float *pinned, back;
    cudaStream_t other;
    cudaEvent_t event;
    GOOD(SIM(cudaMallocHost)((void **)&pinned, sizeof(float)));
    GOOD(SIM(cudaStreamCreateWithFlags)(&other, cudaStreamNonBlocking));
    GOOD(SIM(cudaEventCreateWithFlags)(&event, cudaEventDisableTiming));
    for (int waits = 0; waits < 2; waits++) {
        p.memory[0] = 1, *pinned = 2;
        GOOD(SIM(cudaMemcpyAsync)(p.memory, pinned, sizeof(float), cudaMemcpyHostToDevice, other));
        GOOD(SIM(cudaEventRecord)(event, other));
        if (waits) GOOD(SIM(cudaStreamWaitEvent)(p.stream, event, 0));
        GOOD(SIM(cudaMemcpyAsync)(p.memory + 1, p.memory, sizeof(float), cudaMemcpyDeviceToDevice, p.stream));
        GOOD(SIM(cudaMemcpyAsync)(&back, p.memory + 1, sizeof(float), cudaMemcpyDeviceToHost, p.stream));
        cr_assert(back == (waits ? 2 : 1), "%g", back);
        GOOD(SIM(cudaStreamSynchronize)(other));
    }
    GOOD(SIM(cudaEventDestroy)(event));
    GOOD(SIM(cudaStreamDestroy)(other));
    GOOD(SIM(cudaFreeHost)(pinned));
}

Test(stand_ins, are_tested_in_every_refusal)
{
    static const char *const tests[] = {"test_stand_ins.c", NULL};
    expect_refusals_tested("cublaslt.cpp", tests, 16);
}
