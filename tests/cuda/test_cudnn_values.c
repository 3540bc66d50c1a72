/* test_cudnn_values.c - what cuda/lib/cudnn_api.h declares of cuDNN is what NVIDIA's own header says, where there is
 * one of version 9.8 or later. */
#include "../../cuda/lib/cudnn_api.h"

#include <criterion/criterion.h>
#include <stdio.h>

#if defined(GRADUS_CUDNN_HEADER) && __has_include(<cudnn.h>) && __has_include(<cuda_runtime.h>)
#include <cudnn.h>
#if CUDNN_VERSION >= 90800
#define COMPARED 1
#endif
#endif

#ifdef COMPARED

#define SAME(name)                                                                                                     \
    {                                                                                                                  \
#name, DNN_##name, (int)CUDNN_##name                                                                           \
    }
static const struct {
    const char *name;
    int ours, theirs;
} values[] = {SAME(STATUS_SUCCESS),
              SAME(STATUS_BAD_PARAM),
              SAME(STATUS_NOT_SUPPORTED),
              SAME(DATA_FLOAT),
              SAME(DATA_HALF),
              SAME(DATA_INT32),
              SAME(DATA_BFLOAT16),
              SAME(DATA_BOOLEAN),
              SAME(CROSS_CORRELATION),
              SAME(POINTWISE_ADD),
              SAME(POINTWISE_MUL),
              SAME(POINTWISE_DIV),
              SAME(POINTWISE_SUB),
              SAME(POINTWISE_EXP),
              SAME(POINTWISE_LOG),
              SAME(POINTWISE_CMP_GT),
              SAME(POINTWISE_CMP_GE),
              SAME(POINTWISE_GEN_INDEX),
              SAME(POINTWISE_BINARY_SELECT),
              SAME(REDUCE_TENSOR_ADD),
              SAME(REDUCE_TENSOR_MAX),
              SAME(HEUR_MODE_FALLBACK),
              SAME(HEUR_MODE_A),
              SAME(NUMERICAL_NOTE_TENSOR_CORE),
              SAME(NUMERICAL_NOTE_DOWN_CONVERT_INPUTS),
              SAME(NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION),
              SAME(NUMERICAL_NOTE_NONDETERMINISTIC),
              SAME(TYPE_HANDLE),
              SAME(TYPE_DATA_TYPE),
              SAME(TYPE_BOOLEAN),
              SAME(TYPE_INT64),
              SAME(TYPE_FLOAT),
              SAME(TYPE_VOID_PTR),
              SAME(TYPE_CONVOLUTION_MODE),
              SAME(TYPE_HEUR_MODE),
              SAME(TYPE_KNOB_TYPE),
              SAME(TYPE_NUMERICAL_NOTE),
              SAME(TYPE_POINTWISE_MODE),
              SAME(TYPE_BACKEND_DESCRIPTOR),
              SAME(TYPE_REDUCTION_OPERATOR_TYPE),
              SAME(TYPE_CHAR),
              SAME(BACKEND_POINTWISE_DESCRIPTOR),
              SAME(BACKEND_CONVOLUTION_DESCRIPTOR),
              SAME(BACKEND_ENGINE_DESCRIPTOR),
              SAME(BACKEND_ENGINECFG_DESCRIPTOR),
              SAME(BACKEND_ENGINEHEUR_DESCRIPTOR),
              SAME(BACKEND_EXECUTION_PLAN_DESCRIPTOR),
              SAME(BACKEND_KNOB_CHOICE_DESCRIPTOR),
              SAME(BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR),
              SAME(BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR),
              SAME(BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR),
              SAME(BACKEND_OPERATION_POINTWISE_DESCRIPTOR),
              SAME(BACKEND_OPERATIONGRAPH_DESCRIPTOR),
              SAME(BACKEND_VARIANT_PACK_DESCRIPTOR),
              SAME(BACKEND_TENSOR_DESCRIPTOR),
              SAME(BACKEND_MATMUL_DESCRIPTOR),
              SAME(BACKEND_OPERATION_MATMUL_DESCRIPTOR),
              SAME(BACKEND_REDUCTION_DESCRIPTOR),
              SAME(BACKEND_OPERATION_REDUCTION_DESCRIPTOR),
              SAME(BACKEND_OPERATION_RESHAPE_DESCRIPTOR),
              SAME(BACKEND_DEVICEPROP_DESCRIPTOR),
              SAME(ATTR_POINTWISE_MODE),
              SAME(ATTR_POINTWISE_MATH_PREC),
              SAME(ATTR_POINTWISE_AXIS),
              SAME(ATTR_CONVOLUTION_COMP_TYPE),
              SAME(ATTR_CONVOLUTION_CONV_MODE),
              SAME(ATTR_CONVOLUTION_DILATIONS),
              SAME(ATTR_CONVOLUTION_FILTER_STRIDES),
              SAME(ATTR_CONVOLUTION_POST_PADDINGS),
              SAME(ATTR_CONVOLUTION_PRE_PADDINGS),
              SAME(ATTR_CONVOLUTION_SPATIAL_DIMS),
              SAME(ATTR_ENGINEHEUR_MODE),
              SAME(ATTR_ENGINEHEUR_OPERATION_GRAPH),
              SAME(ATTR_ENGINEHEUR_RESULTS),
              SAME(ATTR_ENGINEHEUR_DEVICEPROP),
              SAME(ATTR_ENGINECFG_ENGINE),
              SAME(ATTR_ENGINECFG_KNOB_CHOICES),
              SAME(ATTR_EXECUTION_PLAN_HANDLE),
              SAME(ATTR_EXECUTION_PLAN_ENGINE_CONFIG),
              SAME(ATTR_EXECUTION_PLAN_WORKSPACE_SIZE),
              SAME(ATTR_EXECUTION_PLAN_DEVICEPROP),
              SAME(ATTR_KNOB_CHOICE_KNOB_TYPE),
              SAME(ATTR_KNOB_CHOICE_KNOB_VALUE),
              SAME(ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA),
              SAME(ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA),
              SAME(ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA),
              SAME(ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR),
              SAME(ATTR_OPERATION_POINTWISE_XDESC),
              SAME(ATTR_OPERATION_POINTWISE_BDESC),
              SAME(ATTR_OPERATION_POINTWISE_YDESC),
              SAME(ATTR_OPERATION_POINTWISE_TDESC),
              SAME(ATTR_OPERATIONGRAPH_HANDLE),
              SAME(ATTR_OPERATIONGRAPH_OPS),
              SAME(ATTR_TENSOR_BYTE_ALIGNMENT),
              SAME(ATTR_TENSOR_DATA_TYPE),
              SAME(ATTR_TENSOR_DIMENSIONS),
              SAME(ATTR_TENSOR_STRIDES),
              SAME(ATTR_TENSOR_UNIQUE_ID),
              SAME(ATTR_TENSOR_IS_VIRTUAL),
              SAME(ATTR_TENSOR_IS_BY_VALUE),
              SAME(ATTR_VARIANT_PACK_UNIQUE_IDS),
              SAME(ATTR_VARIANT_PACK_DATA_POINTERS),
              SAME(ATTR_VARIANT_PACK_WORKSPACE),
              SAME(ATTR_ENGINE_OPERATION_GRAPH),
              SAME(ATTR_ENGINE_GLOBAL_INDEX),
              SAME(ATTR_ENGINE_NUMERICAL_NOTE),
              SAME(ATTR_ENGINE_DEVICEPROP),
              SAME(ATTR_MATMUL_COMP_TYPE),
              SAME(ATTR_OPERATION_MATMUL_ADESC),
              SAME(ATTR_OPERATION_MATMUL_BDESC),
              SAME(ATTR_OPERATION_MATMUL_CDESC),
              SAME(ATTR_OPERATION_MATMUL_DESC),
              SAME(ATTR_REDUCTION_OPERATOR),
              SAME(ATTR_REDUCTION_COMP_TYPE),
              SAME(ATTR_OPERATION_REDUCTION_XDESC),
              SAME(ATTR_OPERATION_REDUCTION_YDESC),
              SAME(ATTR_OPERATION_REDUCTION_DESC),
              SAME(ATTR_OPERATION_RESHAPE_XDESC),
              SAME(ATTR_OPERATION_RESHAPE_YDESC),
              SAME(ATTR_DEVICEPROP_JSON_REPRESENTATION)};

/* The order that lib/cudnn.c counts on: alpha, beta, the convolution, w, x, y. */
static const int rows[][6] = {
    {CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA,
     CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
     CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y},
    {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY},
    {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY}};

Test(cudnn_values, are_nvidias)
{
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++)
        cr_expect(values[i].ours == values[i].theirs, "%s is %d, not %d", values[i].name, values[i].theirs,
                  values[i].ours);
    for (int kind = 0; kind < 3; kind++)
        for (int i = 0; i < 6; i++) cr_expect(rows[kind][i] == rows[kind][0] + i, "kind %d, part %d", kind, i);
    cr_expect(sizeof(cudnnBackendAttributeName_t) == sizeof(int) && sizeof(cudnnStatus_t) == sizeof(int));
    printf("%zu values compared with cuDNN %d\n", sizeof(values) / sizeof(values[0]), CUDNN_VERSION);
}

#else

Test(cudnn_values, are_not_compared)
{
    printf("not run: test_cudnn_values: no header of cuDNN 9.8 or later\n");
}

#endif
