/* test_stand_ins_cudnn.c - the stand-in for cuDNN refuses what cudnn_graph.h forbids. */
#include "../../cuda/lib/cudnn_api.h"
#include "../../cuda/sim/include/cuda_runtime_api.h"
#include "sim_library.h"

#include <string.h>

#define X(result, name, arguments) result name arguments;
GRDI_DNN_FUNCTIONS(X)
#undef X

#define GOOD(call) cr_assert((call) == 0, "%s", SIM(grdi_sim_take_error)())

enum { ASCENDING, DESCENDING, TENSOR_CORES, ATOMICS };

/* y [1,2,3,3] = x [1,2,4,4] * w [2,2,2,2], channels of x and y innermost, all as it should be; each test spoils one
 * thing. */
typedef struct convolution {
    grdi_dnn_handle handle;
    cudaStream_t stream;
    float *memory; /* x, w, y, each 64 floats */
    char *workspace;
    size_t workspace_bytes;
    int64_t dims[3][4], strides[3][4], spatial;
    int type[3];
    int64_t alignment, engine, split; /* split 0: no knob */
    int compute;
    grdi_dnn_descriptor made[16];
    int count;
} convolution;

static convolution c;

static void make(void)
{
    c = (convolution){.dims = {{1, 2, 4, 4}, {2, 2, 2, 2}, {1, 2, 3, 3}},
                      .strides = {{32, 1, 8, 2}, {8, 4, 2, 1}, {18, 1, 6, 2}},
                      .spatial = 2,
                      .alignment = 16,
                      .engine = DESCENDING,
                      .workspace_bytes = 1 << 16};
    GOOD(SIM(cudnnCreate)(&c.handle));
    GOOD(SIM(cudaStreamCreateWithFlags)(&c.stream, cudaStreamNonBlocking));
    GOOD(SIM(cudnnSetStream)(c.handle, c.stream));
    GOOD(SIM(cudaMalloc)((void **)&c.memory, 3 * 64 * sizeof(float)));
    GOOD(SIM(cudaMalloc)((void **)&c.workspace, c.workspace_bytes));
    for (int i = 0; i < 64; i++) c.memory[i] = (float)(i % 5), c.memory[64 + i] = (float)(i % 3);
}

static void drop(void)
{
    while (c.count > 0) SIM(cudnnBackendDestroyDescriptor)(c.made[--c.count]);
    SIM(cudaFree)(c.memory);
    SIM(cudaFree)(c.workspace);
    SIM(cudaStreamDestroy)(c.stream);
    SIM(cudnnDestroy)(c.handle);
}

TestSuite(stand_ins_cudnn, .init = make, .fini = drop);

static grdi_dnn_descriptor create(int type)
{
    GOOD(SIM(cudnnBackendCreateDescriptor)(type, &c.made[c.count]));
    return c.made[c.count++];
}

static int set(grdi_dnn_descriptor d, int name, int type, int64_t count, const void *elements)
{
    return SIM(cudnnBackendSetAttribute)(d, name, type, count, elements);
}

static int finalize(grdi_dnn_descriptor d)
{
    return SIM(cudnnBackendFinalize)(d);
}

static int tensor(int i, grdi_dnn_descriptor *d)
{
    int64_t id = i + 1;
    *d = create(DNN_BACKEND_TENSOR_DESCRIPTOR);
    GOOD(set(*d, DNN_ATTR_TENSOR_UNIQUE_ID, DNN_TYPE_INT64, 1, &id));
    GOOD(set(*d, DNN_ATTR_TENSOR_DATA_TYPE, DNN_TYPE_DATA_TYPE, 1, &c.type[i]));
    GOOD(set(*d, DNN_ATTR_TENSOR_BYTE_ALIGNMENT, DNN_TYPE_INT64, 1, &c.alignment));
    GOOD(set(*d, DNN_ATTR_TENSOR_DIMENSIONS, DNN_TYPE_INT64, 4, c.dims[i]));
    GOOD(set(*d, DNN_ATTR_TENSOR_STRIDES, DNN_TYPE_INT64, 4, c.strides[i]));
    return finalize(*d);
}

static int convolution_of(grdi_dnn_descriptor *d)
{
    const int64_t ones[] = {1, 1, 1}, none[] = {0, 0, 0};
    int mode = DNN_CROSS_CORRELATION;
    *d = create(DNN_BACKEND_CONVOLUTION_DESCRIPTOR);
    GOOD(set(*d, DNN_ATTR_CONVOLUTION_COMP_TYPE, DNN_TYPE_DATA_TYPE, 1, &c.compute));
    GOOD(set(*d, DNN_ATTR_CONVOLUTION_CONV_MODE, DNN_TYPE_CONVOLUTION_MODE, 1, &mode));
    GOOD(set(*d, DNN_ATTR_CONVOLUTION_SPATIAL_DIMS, DNN_TYPE_INT64, 1, &c.spatial));
    GOOD(set(*d, DNN_ATTR_CONVOLUTION_DILATIONS, DNN_TYPE_INT64, 2, ones));
    GOOD(set(*d, DNN_ATTR_CONVOLUTION_FILTER_STRIDES, DNN_TYPE_INT64, 2, ones));
    GOOD(set(*d, DNN_ATTR_CONVOLUTION_PRE_PADDINGS, DNN_TYPE_INT64, 2, none));
    GOOD(set(*d, DNN_ATTR_CONVOLUTION_POST_PADDINGS, DNN_TYPE_INT64, 2, none));
    return finalize(*d);
}

/* The operation, up to the first refusal. */
static int operation(grdi_dnn_descriptor *d)
{
    const float one = 1, zero = 0;
    grdi_dnn_descriptor part[4];
    int status = 0;
    for (int i = 0; i < 3; i++)
        if ((status = tensor(i, &part[i]))) return status;
    if ((status = convolution_of(&part[3]))) return status;
    int first = DNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA;
    *d = create(DNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR);
    GOOD(set(*d, first, DNN_TYPE_FLOAT, 1, &one));
    GOOD(set(*d, first + 1, DNN_TYPE_FLOAT, 1, &zero));
    GOOD(set(*d, first + 2, DNN_TYPE_BACKEND_DESCRIPTOR, 1, &part[3]));
    GOOD(set(*d, first + 3, DNN_TYPE_BACKEND_DESCRIPTOR, 1, &part[1]));
    GOOD(set(*d, first + 4, DNN_TYPE_BACKEND_DESCRIPTOR, 1, &part[0]));
    GOOD(set(*d, first + 5, DNN_TYPE_BACKEND_DESCRIPTOR, 1, &part[2]));
    return finalize(*d);
}

/* The plan, up to the first refusal. */
static int plan(grdi_dnn_descriptor *d)
{
    grdi_dnn_descriptor op, graph, engine, config, knob;
    int status = operation(&op), type = 2;
    if (status) return status;
    graph = create(DNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    GOOD(set(graph, DNN_ATTR_OPERATIONGRAPH_HANDLE, DNN_TYPE_HANDLE, 1, &c.handle));
    GOOD(set(graph, DNN_ATTR_OPERATIONGRAPH_OPS, DNN_TYPE_BACKEND_DESCRIPTOR, 1, &op));
    GOOD(finalize(graph));
    engine = create(DNN_BACKEND_ENGINE_DESCRIPTOR);
    GOOD(set(engine, DNN_ATTR_ENGINE_OPERATION_GRAPH, DNN_TYPE_BACKEND_DESCRIPTOR, 1, &graph));
    GOOD(set(engine, DNN_ATTR_ENGINE_GLOBAL_INDEX, DNN_TYPE_INT64, 1, &c.engine));
    if ((status = finalize(engine))) return status;
    config = create(DNN_BACKEND_ENGINECFG_DESCRIPTOR);
    GOOD(set(config, DNN_ATTR_ENGINECFG_ENGINE, DNN_TYPE_BACKEND_DESCRIPTOR, 1, &engine));
    if (c.split) {
        knob = create(DNN_BACKEND_KNOB_CHOICE_DESCRIPTOR);
        GOOD(set(knob, DNN_ATTR_KNOB_CHOICE_KNOB_TYPE, DNN_TYPE_KNOB_TYPE, 1, &type));
        GOOD(set(knob, DNN_ATTR_KNOB_CHOICE_KNOB_VALUE, DNN_TYPE_INT64, 1, &c.split));
        GOOD(finalize(knob));
        GOOD(set(config, DNN_ATTR_ENGINECFG_KNOB_CHOICES, DNN_TYPE_BACKEND_DESCRIPTOR, 1, &knob));
    }
    if ((status = finalize(config))) return status;
    *d = create(DNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    GOOD(set(*d, DNN_ATTR_EXECUTION_PLAN_HANDLE, DNN_TYPE_HANDLE, 1, &c.handle));
    GOOD(set(*d, DNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, DNN_TYPE_BACKEND_DESCRIPTOR, 1, &config));
    return finalize(*d);
}

/* Runs the plan, x `offset` floats further, with `ids` of the three tensors. */
static int run(grdi_dnn_descriptor planned, size_t offset, int64_t ids, char *workspace)
{
    const int64_t id[] = {1, 2, 3};
    float *pointer[] = {c.memory + offset, c.memory + 64, c.memory + 128};
    grdi_dnn_descriptor pack = create(DNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
    GOOD(set(pack, DNN_ATTR_VARIANT_PACK_UNIQUE_IDS, DNN_TYPE_INT64, ids, id));
    GOOD(set(pack, DNN_ATTR_VARIANT_PACK_DATA_POINTERS, DNN_TYPE_VOID_PTR, ids, pointer));
    GOOD(set(pack, DNN_ATTR_VARIANT_PACK_WORKSPACE, DNN_TYPE_VOID_PTR, 1, &workspace));
    GOOD(finalize(pack));
    return SIM(cudnnBackendExecute)(c.handle, planned, pack);
}

static void refused(int status, const char *why)
{
    const char *error = SIM(grdi_sim_take_error)();
    cr_assert(status != DNN_STATUS_SUCCESS, "not refused");
    cr_assert(strstr(error, why), "'%s' does not say '%s'", error, why);
}

Test(stand_ins_cudnn, take_a_good_convolution)
{
    grdi_dnn_descriptor planned;
    float want = 0;
    GOOD(plan(&planned));
    GOOD(run(planned, 0, 3, NULL));
    for (int channel = 0; channel < 2; channel++) /* y at channel 1, row 2, column 1 */
        for (int tap = 0; tap < 4; tap++)
            want += c.memory[(2 + tap / 2) * 8 + (1 + tap % 2) * 2 + channel] * c.memory[64 + 8 + channel * 4 + tap];
    cr_assert(c.memory[128 + 2 * 6 + 1 * 2 + 1] == want, "%g, not %g", c.memory[128 + 2 * 6 + 3], want);
    sim_is_content();
}

Test(stand_ins_cudnn, refuse_strides_with_gaps)
{
    grdi_dnn_descriptor planned;
    c.strides[2][0] = 19, c.strides[2][2] = 7;
    refused(plan(&planned), "has gaps");
}

Test(stand_ins_cudnn, refuse_strides_that_are_not_positive)
{
    grdi_dnn_descriptor planned;
    c.strides[1][3] = 0;
    refused(plan(&planned), "not positive");
}

Test(stand_ins_cudnn, refuse_another_data_type)
{
    grdi_dnn_descriptor planned;
    c.type[0] = 3;
    refused(plan(&planned), "data type is not known");
}

/* No rule of the interface, but what no engine takes. */
Test(stand_ins_cudnn, have_no_engine_for_f32_of_bf16)
{
    grdi_dnn_descriptor planned;
    c.type[0] = c.type[1] = DNN_DATA_BFLOAT16;
    cr_assert(plan(&planned) == DNN_STATUS_NOT_SUPPORTED);
    sim_is_content();
}

Test(stand_ins_cudnn, refuse_a_wrong_size_of_the_result)
{
    grdi_dnn_descriptor planned;
    c.dims[2][3] = 2, c.strides[2][2] = 4, c.strides[2][0] = 12;
    refused(plan(&planned), "does not fit");
}

Test(stand_ins_cudnn, refuse_lists_of_another_length)
{
    grdi_dnn_descriptor planned;
    c.spatial = 3;
    refused(plan(&planned), "not as long");
}

Test(stand_ins_cudnn, refuse_sums_that_are_not_in_f32)
{
    grdi_dnn_descriptor planned;
    c.compute = DNN_DATA_BFLOAT16;
    refused(plan(&planned), "compute in f32");
}

Test(stand_ins_cudnn, refuse_an_alignment_below_the_data_type)
{
    grdi_dnn_descriptor planned;
    c.alignment = 2;
    refused(plan(&planned), "alignment");
}

Test(stand_ins_cudnn, refuse_an_unaligned_pointer)
{
    grdi_dnn_descriptor planned;
    GOOD(plan(&planned));
    refused(run(planned, 1, 3, NULL), "aligned to less");
}

Test(stand_ins_cudnn, refuse_a_tensor_without_a_pointer_or_past_its_memory)
{
    grdi_dnn_descriptor planned;
    GOOD(plan(&planned));
    refused(run(planned, 0, 2, NULL), "no pointer");
    refused(run(planned, 3 * 64 - 28, 3, NULL), "within device memory");
}

Test(stand_ins_cudnn, refuse_a_workspace_that_is_too_small)
{
    grdi_dnn_descriptor planned;
    int64_t bytes = 0, count = 0;
    c.engine = TENSOR_CORES, c.split = 2;
    GOOD(plan(&planned));
    GOOD(SIM(cudnnBackendGetAttribute)(planned, DNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, DNN_TYPE_INT64, 1, &count,
                                       &bytes));
    cr_assert(count == 1 && bytes > 0);
    refused(run(planned, 0, 3, NULL), "workspace");
    refused(run(planned, 0, 3, c.workspace + c.workspace_bytes - bytes + 1), "workspace");
    GOOD(run(planned, 0, 3, c.workspace + c.workspace_bytes - bytes));
    cr_assert(c.workspace[c.workspace_bytes - 1] == (char)0xFF, "the workspace is left as it was");
}

Test(stand_ins_cudnn, refuse_a_knob_that_the_engine_has_not)
{
    grdi_dnn_descriptor planned;
    c.split = 2;
    cr_assert(plan(&planned) == DNN_STATUS_NOT_SUPPORTED);
}

/* The plugin must never run it: it notes of itself that it is not deterministic. */
Test(stand_ins_cudnn, refuse_to_run_an_engine_with_atomics)
{
    grdi_dnn_descriptor planned;
    c.engine = ATOMICS;
    GOOD(plan(&planned));
    refused(run(planned, 0, 3, NULL), "differ from run to run");
}

Test(stand_ins_cudnn, refuse_attributes_out_of_turn)
{
    grdi_dnn_descriptor d, op;
    int64_t id = 7;
    GOOD(tensor(0, &d));
    refused(set(d, DNN_ATTR_TENSOR_UNIQUE_ID, DNN_TYPE_INT64, 1, &id), "finalized cannot be set");
    refused(finalize(d), "finalized twice");
    d = create(DNN_BACKEND_TENSOR_DESCRIPTOR);
    refused(set(d, DNN_ATTR_TENSOR_UNIQUE_ID, DNN_TYPE_FLOAT, 1, &id), "another type");
    refused(finalize(d), "no id");
    op = create(DNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR);
    refused(set(op, DNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA + 3, DNN_TYPE_BACKEND_DESCRIPTOR, 1, &d),
            "not finalized");
    refused(finalize(op), "lacks alpha");
}
