/* test_stand_ins_cudnn.c - the stand-in for cuDNN refuses what cudnn_graph.h forbids. */
#include "../../cuda/lib/cudnn_api.h"
#include "../../cuda/sim/include/cuda_runtime_api.h"
#include "refusals.h"
#include "sim_library.h"

#include <stdio.h>
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
    int64_t ranks[3], stride_count;   /* axes of each tensor; how many of the strides are given, 0: all */
    int compute, mode;
    bool is_virtual; /* y */
    grdi_dnn_descriptor made[64];
    int count;
} convolution;

static convolution c;

static void make(void)
{
    c = (convolution){.dims = {{1, 2, 4, 4}, {2, 2, 2, 2}, {1, 2, 3, 3}},
                      .strides = {{32, 1, 8, 2}, {8, 4, 2, 1}, {18, 1, 6, 2}},
                      .ranks = {4, 4, 4},
                      .spatial = 2,
                      .mode = DNN_CROSS_CORRELATION,
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
    GOOD(set(*d, DNN_ATTR_TENSOR_DIMENSIONS, DNN_TYPE_INT64, c.ranks[i], c.dims[i]));
    GOOD(set(*d, DNN_ATTR_TENSOR_STRIDES, DNN_TYPE_INT64, c.stride_count ? c.stride_count : c.ranks[i], c.strides[i]));
    if (i == 2 && c.is_virtual) GOOD(set(*d, DNN_ATTR_TENSOR_IS_VIRTUAL, DNN_TYPE_BOOLEAN, 1, &c.is_virtual));
    return finalize(*d);
}

static int convolution_of(grdi_dnn_descriptor *d)
{
    const int64_t ones[] = {1, 1, 1}, none[] = {0, 0, 0};
    *d = create(DNN_BACKEND_CONVOLUTION_DESCRIPTOR);
    GOOD(set(*d, DNN_ATTR_CONVOLUTION_COMP_TYPE, DNN_TYPE_DATA_TYPE, 1, &c.compute));
    GOOD(set(*d, DNN_ATTR_CONVOLUTION_CONV_MODE, DNN_TYPE_CONVOLUTION_MODE, 1, &c.mode));
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
    refused(run(planned, 0, 2, NULL), "a tensor is NULL");
    refused(run(planned, 3 * 64 - 28, 3, NULL), "does not lie within one allocation");
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

/* ---- graphs, and descriptors that lack something ---- */

static int graph_of(grdi_dnn_descriptor *d, int64_t count, const grdi_dnn_descriptor *operations)
{
    *d = create(DNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    GOOD(set(*d, DNN_ATTR_OPERATIONGRAPH_HANDLE, DNN_TYPE_HANDLE, 1, &c.handle));
    if (count) GOOD(set(*d, DNN_ATTR_OPERATIONGRAPH_OPS, DNN_TYPE_BACKEND_DESCRIPTOR, count, operations));
    return finalize(*d);
}

/* A tensor of channels innermost. */
static grdi_dnn_descriptor part(int64_t id, int type, int64_t channels, int64_t size)
{
    grdi_dnn_descriptor d = create(DNN_BACKEND_TENSOR_DESCRIPTOR);
    const int64_t dims[] = {1, channels, size, size},
                  strides[] = {channels * size * size, 1, channels * size, channels};
    GOOD(set(d, DNN_ATTR_TENSOR_UNIQUE_ID, DNN_TYPE_INT64, 1, &id));
    GOOD(set(d, DNN_ATTR_TENSOR_DATA_TYPE, DNN_TYPE_DATA_TYPE, 1, &type));
    GOOD(set(d, DNN_ATTR_TENSOR_BYTE_ALIGNMENT, DNN_TYPE_INT64, 1, &c.alignment));
    GOOD(set(d, DNN_ATTR_TENSOR_DIMENSIONS, DNN_TYPE_INT64, 4, dims));
    GOOD(set(d, DNN_ATTR_TENSOR_STRIDES, DNN_TYPE_INT64, 4, strides));
    GOOD(finalize(d));
    return d;
}

/* y = sum + bias, the sum by its id; `parts`: of pw, x, b and y those of the bits. */
static int addition(grdi_dnn_descriptor *d, int64_t sum, int bias_type, int64_t bias_channels, unsigned parts)
{
    int mode = DNN_POINTWISE_ADD, compute = DNN_DATA_FLOAT;
    grdi_dnn_descriptor pointwise = create(DNN_BACKEND_POINTWISE_DESCRIPTOR);
    GOOD(set(pointwise, DNN_ATTR_POINTWISE_MODE, DNN_TYPE_POINTWISE_MODE, 1, &mode));
    GOOD(set(pointwise, DNN_ATTR_POINTWISE_MATH_PREC, DNN_TYPE_DATA_TYPE, 1, &compute));
    GOOD(finalize(pointwise));
    const grdi_dnn_descriptor all[] = {pointwise, part(sum, DNN_DATA_FLOAT, 2, 3), part(5, bias_type, bias_channels, 1),
                                       part(6, DNN_DATA_FLOAT, 2, 3)};
    static const int names[] = {DNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, DNN_ATTR_OPERATION_POINTWISE_XDESC,
                                DNN_ATTR_OPERATION_POINTWISE_BDESC, DNN_ATTR_OPERATION_POINTWISE_YDESC};
    *d = create(DNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    for (int i = 0; i < 4; i++)
        if (parts >> i & 1) GOOD(set(*d, names[i], DNN_TYPE_BACKEND_DESCRIPTOR, 1, &all[i]));
    return finalize(*d);
}

enum { ALL_PARTS = 15, Y_ID = 3 };

Test(stand_ins_cudnn, take_a_good_convolution_with_a_bias)
{
    grdi_dnn_descriptor operations[2], graph;
    c.is_virtual = true;
    GOOD(operation(&operations[0]));
    GOOD(addition(&operations[1], Y_ID, DNN_DATA_FLOAT, 2, ALL_PARTS));
    GOOD(graph_of(&graph, 2, operations));
    sim_is_content();
}

Test(stand_ins_cudnn, refuse_graphs_that_are_no_convolution_with_a_bias)
{
    grdi_dnn_descriptor operations[3], graph;
    GOOD(operation(&operations[0]));
    GOOD(addition(&operations[1], Y_ID, DNN_DATA_FLOAT, 2, ALL_PARTS));
    refused(graph_of(&graph, 0, operations), "a graph has no operation");
    refused(graph_of(&graph, 1, operations + 1), "another pattern");
    operations[2] = operations[1];
    refused(graph_of(&graph, 3, operations), "not a convolution with at most a bias");
    operations[1] = operations[0];
    refused(graph_of(&graph, 2, operations), "another pattern");
    graph = create(DNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    GOOD(set(graph, DNN_ATTR_OPERATIONGRAPH_OPS, DNN_TYPE_BACKEND_DESCRIPTOR, 1, operations));
    refused(finalize(graph), "has no handle");
}

Test(stand_ins_cudnn, refuse_a_bias_that_hangs_elsewhere)
{
    grdi_dnn_descriptor operations[2], graph;
    GOOD(operation(&operations[0]));
    GOOD(addition(&operations[1], Y_ID, DNN_DATA_FLOAT, 2, ALL_PARTS));
    refused(graph_of(&graph, 2, operations), "do not hang together"); /* the sum is no virtual tensor */
    c.is_virtual = true;
    GOOD(operation(&operations[0]));
    refused(graph_of(&graph, 1, operations), "nobody reads a graph's virtual tensor");
    GOOD(addition(&operations[1], 4, DNN_DATA_FLOAT, 2, ALL_PARTS));
    refused(graph_of(&graph, 2, operations), "do not hang together");
    GOOD(addition(&operations[1], Y_ID, DNN_DATA_FLOAT, 1, ALL_PARTS));
    refused(graph_of(&graph, 2, operations), "a bias does not fit its graph");
    GOOD(addition(&operations[1], Y_ID, DNN_DATA_BFLOAT16, 2, ALL_PARTS));
    refused(graph_of(&graph, 2, operations), "a bias does not fit its graph");
    for (unsigned i = 0; i < 4; i++)
        refused(addition(&operations[1], Y_ID, DNN_DATA_FLOAT, 2, ALL_PARTS & ~(1u << i)),
                i == 2 ? "more operands than its mode, or fewer" : "pointwise operation lacks");
}

Test(stand_ins_cudnn, refuse_convolutions_of_f16)
{
    grdi_dnn_descriptor op;
    c.type[0] = c.type[1] = c.type[2] = DNN_DATA_HALF;
    refused(operation(&op), "neither f32 nor bf16");
}

Test(stand_ins_cudnn, refuse_a_filter_that_is_flipped)
{
    grdi_dnn_descriptor planned;
    c.mode = DNN_CROSS_CORRELATION + 1;
    refused(plan(&planned), "flips its filter");
}

Test(stand_ins_cudnn, refuse_one_spatial_axis_or_four)
{
    grdi_dnn_descriptor planned;
    c.spatial = 1;
    refused(plan(&planned), "two spatial axes or three");
    c.spatial = 4;
    refused(plan(&planned), "two spatial axes or three");
}

Test(stand_ins_cudnn, refuse_strides_of_another_number)
{
    grdi_dnn_descriptor planned;
    c.stride_count = 3;
    refused(plan(&planned), "differ in number");
}

Test(stand_ins_cudnn, refuse_tensors_of_another_number_of_axes)
{
    for (int i = 0; i < 3; i++) {
        grdi_dnn_descriptor op;
        c.ranks[i] = 3;
        refused(operation(&op), "another number of axes");
        c.ranks[i] = 4;
    }
}

Test(stand_ins_cudnn, refuse_samples_channels_and_groups_that_do_not_fit)
{
    grdi_dnn_descriptor op;
    c.dims[2][0] = 2;
    refused(operation(&op), "samples, channels or groups");
    c.dims[2][0] = 1, c.dims[1][0] = 3;
    refused(operation(&op), "samples, channels or groups");
    c.dims[1][0] = 2, c.dims[1][1] = 3;
    refused(operation(&op), "samples, channels or groups");
}

/* Each needs the one before it. */
Test(stand_ins_cudnn, refuse_a_plan_that_lacks_a_part)
{
    grdi_dnn_descriptor op, graph, engine, config, d;
    int mode = DNN_HEUR_MODE_A;
    refused(finalize(create(DNN_BACKEND_ENGINE_DESCRIPTOR)), "an engine has no graph");
    refused(finalize(create(DNN_BACKEND_ENGINECFG_DESCRIPTOR)), "an engine config has no engine");
    d = create(DNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    GOOD(set(d, DNN_ATTR_EXECUTION_PLAN_HANDLE, DNN_TYPE_HANDLE, 1, &c.handle));
    refused(finalize(d), "a plan lacks its handle or its engine");
    d = create(DNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    GOOD(set(d, DNN_ATTR_ENGINEHEUR_MODE, DNN_TYPE_HEUR_MODE, 1, &mode));
    refused(finalize(d), "heuristics lack their graph or their mode");
    GOOD(operation(&op));
    GOOD(graph_of(&graph, 1, &op));
    d = create(DNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    GOOD(set(d, DNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, DNN_TYPE_BACKEND_DESCRIPTOR, 1, &graph));
    refused(finalize(d), "heuristics lack their graph or their mode");
    engine = create(DNN_BACKEND_ENGINE_DESCRIPTOR);
    GOOD(set(engine, DNN_ATTR_ENGINE_OPERATION_GRAPH, DNN_TYPE_BACKEND_DESCRIPTOR, 1, &graph));
    GOOD(set(engine, DNN_ATTR_ENGINE_GLOBAL_INDEX, DNN_TYPE_INT64, 1, &c.engine));
    GOOD(finalize(engine));
    config = create(DNN_BACKEND_ENGINECFG_DESCRIPTOR);
    GOOD(set(config, DNN_ATTR_ENGINECFG_ENGINE, DNN_TYPE_BACKEND_DESCRIPTOR, 1, &engine));
    GOOD(finalize(config));
    d = create(DNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    GOOD(set(d, DNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, DNN_TYPE_BACKEND_DESCRIPTOR, 1, &config));
    refused(finalize(d), "a plan lacks its handle or its engine");
}

static void not_supported(int status, const char *why)
{
    char text[256] = "";
    SIM(cudnnGetLastErrorString)(text, sizeof(text));
    cr_assert(status == DNN_STATUS_NOT_SUPPORTED && strstr(text, why), "%d, '%s' does not say '%s'", status, text, why);
    sim_is_content(); /* it is an answer, not a mistake */
}

Test(stand_ins_cudnn, say_what_engines_do_not_take)
{
    grdi_dnn_descriptor planned;
    c.engine = 99;
    not_supported(plan(&planned), "the engine does not take this graph");
    c.engine = DESCENDING, c.split = 2;
    not_supported(plan(&planned), "the engine has no such knob");
}

Test(stand_ins_cudnn, refuse_packs_and_handles_that_are_not_whole)
{
    const int64_t ids[] = {1, 2, 3};
    void *pointers[] = {c.memory, c.memory + 64, c.memory + 128};
    grdi_dnn_descriptor planned, pack = create(DNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
    GOOD(set(pack, DNN_ATTR_VARIANT_PACK_UNIQUE_IDS, DNN_TYPE_INT64, 2, ids));
    GOOD(set(pack, DNN_ATTR_VARIANT_PACK_DATA_POINTERS, DNN_TYPE_VOID_PTR, 3, pointers));
    refused(finalize(pack), "more pointers than ids");
    GOOD(plan(&planned));
    refused(SIM(cudnnBackendExecute)(c.handle, planned, pack), "a plan or a variant pack is not finalized");
    GOOD(set(pack, DNN_ATTR_VARIANT_PACK_UNIQUE_IDS, DNN_TYPE_INT64, 3, ids));
    GOOD(finalize(pack));
    refused(SIM(cudnnBackendExecute)(c.handle, create(DNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR), pack),
            "a plan or a variant pack is not finalized");
    GOOD(SIM(cudnnSetStream)(c.handle, NULL));
    refused(SIM(cudnnBackendExecute)(c.handle, planned, pack), "a handle has no stream");
    refused(SIM(cudnnBackendExecute)(NULL, planned, pack), "a handle has no stream");
}

Test(stand_ins_cudnn, refuse_to_read_what_is_not_there)
{
    grdi_dnn_descriptor d;
    int64_t id = 0, count = 0;
    GOOD(tensor(0, &d));
    refused(SIM(cudnnBackendGetAttribute)(d, DNN_ATTR_TENSOR_IS_VIRTUAL, DNN_TYPE_BOOLEAN, 1, &count, &id),
            "no such attribute to be read");
    refused(SIM(cudnnBackendGetAttribute)(d, DNN_ATTR_TENSOR_UNIQUE_ID, DNN_TYPE_FLOAT, 1, &count, &id),
            "no such attribute to be read");
    d = create(DNN_BACKEND_TENSOR_DESCRIPTOR);
    refused(SIM(cudnnBackendGetAttribute)(d, DNN_ATTR_TENSOR_UNIQUE_ID, DNN_TYPE_INT64, 1, &count, &id),
            "not finalized cannot be read");
    refused(set(d, DNN_ATTR_TENSOR_UNIQUE_ID, DNN_TYPE_INT64, -1, &id), "an attribute has no elements");
    refused(set(d, DNN_ATTR_TENSOR_UNIQUE_ID, DNN_TYPE_INT64, 1, NULL), "an attribute has no elements");
}

Test(stand_ins_cudnn, are_tested_in_every_refusal)
{
    static const char *const tests[] = {"test_stand_ins_cudnn.c", "test_stand_ins_attention.c", NULL};
    expect_refusals_tested("cudnn.cpp", tests, 38);
}
