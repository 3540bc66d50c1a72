/* test_stand_ins.c - the stand-ins for CUDA and cuBLASLt refuse what the libraries' documentation forbids. */
#include "../../cuda/sim/include/cublasLt.h"
#include "sim_library.h"

#include <string.h>

/* y [4 x 3] = w^T x in the library's own terms, all as it should be; each test spoils one thing. */
typedef struct product {
    cublasLtHandle_t handle;
    cublasLtMatmulDesc_t description;
    cublasLtMatrixLayout_t a, b, d;
    cublasLtMatmulHeuristicResult_t found;
    cudaStream_t stream;
    float *memory; /* a, b, d, bias, aux, each 64 floats */
    char *workspace;
    int64_t ld, aux_ld;
    int32_t epilogue;
    size_t workspace_bytes;
    uint32_t alignment;
} product;

#define GOOD(call) cr_assert((call) == 0, "%s", SIM(grdi_sim_take_error)())

static product p;

static void make(void)
{
    p = (product){
        .ld = 4, .aux_ld = 8, .epilogue = CUBLASLT_EPILOGUE_DEFAULT, .workspace_bytes = 1 << 16, .alignment = 16};
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
    GOOD(SIM(cublasLtMatmulDescCreate)(&p.description, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    set(CUBLASLT_MATMUL_DESC_EPILOGUE, &p.epilogue, sizeof(p.epilogue));
    set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, &p.aux_ld, sizeof(p.aux_ld));
    GOOD(SIM(cublasLtMatrixLayoutCreate)(&p.a, CUDA_R_32F, 4, 2, p.ld));
    GOOD(SIM(cublasLtMatrixLayoutCreate)(&p.b, CUDA_R_32F, 2, 3, 2));
    GOOD(SIM(cublasLtMatrixLayoutCreate)(&p.d, CUDA_R_32F, 4, 3, 4));
    GOOD(SIM(cublasLtMatmulPreferenceCreate)(&preference));
    GOOD(SIM(cublasLtMatmulPreferenceSetAttribute)(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace,
                                                   sizeof(workspace)));
    for (int i = 0; i < 4; i++)
        GOOD(SIM(cublasLtMatmulPreferenceSetAttribute)(
            preference, (cublasLtMatmulPreferenceAttributes_t)(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES + i),
            &p.alignment, sizeof(p.alignment)));
    cublasStatus_t status = SIM(cublasLtMatmulAlgoGetHeuristic)(p.handle, p.description, p.a, p.b, p.d, p.d, preference,
                                                                1, &p.found, &found);
    SIM(cublasLtMatmulPreferenceDestroy)(preference);
    return status;
}

static cublasStatus_t run(size_t offset, size_t workspace_bytes)
{
    const float one = 1, zero = 0;
    return SIM(cublasLtMatmul)(p.handle, p.description, &one, p.memory + offset, p.a, p.memory + 64, p.b, &zero,
                               p.memory + 128, p.d, p.memory + 128, p.d, &p.found.algo, p.workspace, workspace_bytes,
                               p.stream);
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

/* While it is timed a call may write to nothing but memory that was taken for that. */
Test(stand_ins, name_a_trial_that_writes_elsewhere)
{
    float *live = p.memory;
    int64_t before = SIM(grdi_sim_count)()->timed;
    for (int own = 0; own < 2; own++) {
        cudaEvent_t event[2];
        GOOD(choose());
        if (own) GOOD(SIM(cudaMalloc)((void **)&p.memory, 5 * 64 * sizeof(float)));
        for (int i = 0; i < 2; i++) {
            GOOD(SIM(cudaEventCreateWithFlags)(&event[i], cudaEventDefault));
            GOOD(SIM(cudaEventRecord)(event[i], p.stream));
            if (i == 0) GOOD(run(0, p.workspace_bytes));
        }
        for (int i = 0; i < 2; i++) SIM(cudaEventDestroy)(event[i]);
        const char *error = SIM(grdi_sim_take_error)();
        cr_assert(own ? !error[0] : !!strstr(error, "cublasLtMatmul: while it is timed it writes to"), "'%s'", error);
    }
    cr_assert(SIM(grdi_sim_count)()->timed == before + 2);
    GOOD(run(0, p.workspace_bytes)); /* and is not timed any more */
    cr_assert(SIM(grdi_sim_count)()->timed == before + 2);
    SIM(cudaFree)(p.memory);
    p.memory = live;
}

Test(stand_ins, refuse_a_leading_dimension_below_the_rows)
{
    p.ld = 3;
    refused(choose(), "leading dimension");
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
}

Test(stand_ins, refuse_wrong_pointers_of_epilogues)
{
    p.epilogue = CUBLASLT_EPILOGUE_BIAS;
    GOOD(choose());
    refused(run(0, p.workspace_bytes), "bias");
    const void *bias = p.memory + 192;
    p.epilogue = CUBLASLT_EPILOGUE_GELU_AUX_BIAS;
    GOOD(choose());
    set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof(bias));
    refused(run(0, p.workspace_bytes), "auxiliary matrix, whose pointer");
    void *aux = p.memory + 257; /* 4 bytes past the alignment */
    set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, &aux, sizeof(aux));
    refused(run(0, p.workspace_bytes), "auxiliary matrix, whose pointer");
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
    refused(run(0, p.workspace_bytes), "auxiliary matrix, whose pointer");
    const void *aux = p.memory + 258; /* 8 bytes past the alignment */
    set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, &aux, sizeof(aux));
    refused(run(0, p.workspace_bytes), "auxiliary matrix, whose pointer");
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
    refused(run(0, p.workspace_bytes), "gradient of a bias, whose pointer");
    const void *sums = (char *)p.memory + 2;
    set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, &sums, sizeof(sums));
    refused(run(0, p.workspace_bytes), "gradient of a bias, whose pointer");
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
    refused(run(0, p.workspace_bytes), "not in device memory");
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
