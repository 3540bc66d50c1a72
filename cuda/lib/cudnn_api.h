/* cudnn_api.h - the part of cuDNN 9's backend interface that the plugin calls, declared here so that it builds where no
 * header of cuDNN is. Names and values are those of NVIDIA's cudnn_graph.h without their prefix CUDNN_;
 * tests/cuda/test_cudnn_values.c compares them with that header where there is one. */
#ifndef GRDI_CUDNN_API_H
#define GRDI_CUDNN_API_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cudnnContext *grdi_dnn_handle;
typedef void *grdi_dnn_descriptor;
struct CUstream_st;

enum { DNN_STATUS_SUCCESS = 0, DNN_STATUS_BAD_PARAM = 2000, DNN_STATUS_NOT_SUPPORTED = 3000 };
enum { DNN_DATA_FLOAT = 0, DNN_DATA_HALF = 2, DNN_DATA_INT32 = 4, DNN_DATA_BFLOAT16 = 9, DNN_DATA_BOOLEAN = 11 };
enum { DNN_CROSS_CORRELATION = 1 };
enum {
    DNN_POINTWISE_ADD = 0,
    DNN_POINTWISE_MUL = 1,
    DNN_POINTWISE_DIV = 6,
    DNN_POINTWISE_SUB = 9,
    DNN_POINTWISE_EXP = 13,
    DNN_POINTWISE_LOG = 15,
    DNN_POINTWISE_IDENTITY = 21,
    DNN_POINTWISE_CMP_GT = 302,
    DNN_POINTWISE_CMP_GE = 303,
    DNN_POINTWISE_GEN_INDEX = 501,
    DNN_POINTWISE_BINARY_SELECT = 601
};
enum { DNN_REDUCE_TENSOR_ADD = 0, DNN_REDUCE_TENSOR_MAX = 3 };
enum { DNN_HEUR_MODE_FALLBACK = 2, DNN_HEUR_MODE_A = 3 };
enum {
    DNN_NUMERICAL_NOTE_TENSOR_CORE = 0,
    DNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS = 1,
    DNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION = 2,
    DNN_NUMERICAL_NOTE_NONDETERMINISTIC = 4,
    DNN_NUMERICAL_NOTES = 32 /* room for what later versions say */
};

/* What elements of an attribute are. */
enum {
    DNN_TYPE_HANDLE = 0,
    DNN_TYPE_DATA_TYPE = 1,
    DNN_TYPE_BOOLEAN = 2,
    DNN_TYPE_INT64 = 3,
    DNN_TYPE_FLOAT = 4,
    DNN_TYPE_VOID_PTR = 6,
    DNN_TYPE_CONVOLUTION_MODE = 7,
    DNN_TYPE_HEUR_MODE = 8,
    DNN_TYPE_KNOB_TYPE = 9,
    DNN_TYPE_NUMERICAL_NOTE = 11,
    DNN_TYPE_POINTWISE_MODE = 14,
    DNN_TYPE_BACKEND_DESCRIPTOR = 15,
    DNN_TYPE_REDUCTION_OPERATOR_TYPE = 18,
    DNN_TYPE_CHAR = 24
};

enum {
    DNN_BACKEND_POINTWISE_DESCRIPTOR = 0,
    DNN_BACKEND_CONVOLUTION_DESCRIPTOR = 1,
    DNN_BACKEND_ENGINE_DESCRIPTOR = 2,
    DNN_BACKEND_ENGINECFG_DESCRIPTOR = 3,
    DNN_BACKEND_ENGINEHEUR_DESCRIPTOR = 4,
    DNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR = 5,
    DNN_BACKEND_KNOB_CHOICE_DESCRIPTOR = 7,
    DNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR = 10,
    DNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR = 11,
    DNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR = 12,
    DNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR = 13,
    DNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR = 15,
    DNN_BACKEND_VARIANT_PACK_DESCRIPTOR = 16,
    DNN_BACKEND_TENSOR_DESCRIPTOR = 17,
    DNN_BACKEND_MATMUL_DESCRIPTOR = 18,
    DNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR = 19,
    DNN_BACKEND_REDUCTION_DESCRIPTOR = 21,
    DNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR = 22,
    DNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR = 31,
    DNN_BACKEND_DEVICEPROP_DESCRIPTOR = 38
};

enum {
    DNN_ATTR_POINTWISE_MODE = 0,
    DNN_ATTR_POINTWISE_MATH_PREC = 1,
    DNN_ATTR_POINTWISE_AXIS = 9,
    DNN_ATTR_CONVOLUTION_COMP_TYPE = 100,
    DNN_ATTR_CONVOLUTION_CONV_MODE = 101,
    DNN_ATTR_CONVOLUTION_DILATIONS = 102,
    DNN_ATTR_CONVOLUTION_FILTER_STRIDES = 103,
    DNN_ATTR_CONVOLUTION_POST_PADDINGS = 104,
    DNN_ATTR_CONVOLUTION_PRE_PADDINGS = 105,
    DNN_ATTR_CONVOLUTION_SPATIAL_DIMS = 106,
    DNN_ATTR_ENGINEHEUR_MODE = 200,
    DNN_ATTR_ENGINEHEUR_OPERATION_GRAPH = 201,
    DNN_ATTR_ENGINEHEUR_RESULTS = 202,
    DNN_ATTR_ENGINEHEUR_DEVICEPROP = 204,
    DNN_ATTR_ENGINECFG_ENGINE = 300,
    DNN_ATTR_ENGINECFG_KNOB_CHOICES = 302,
    DNN_ATTR_EXECUTION_PLAN_HANDLE = 400,
    DNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG = 401,
    DNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE = 402,
    DNN_ATTR_EXECUTION_PLAN_DEVICEPROP = 407,
    DNN_ATTR_KNOB_CHOICE_KNOB_TYPE = 600,
    DNN_ATTR_KNOB_CHOICE_KNOB_VALUE = 601,
    /* alpha, beta, the convolution, then its three tensors, in the order of the names below */
    DNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA = 700,    /* W, X, Y */
    DNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA = 706,   /* W, DX, DY */
    DNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA = 712, /* DW, X, DY */
    DNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR = 750,
    DNN_ATTR_OPERATION_POINTWISE_XDESC = 751,
    DNN_ATTR_OPERATION_POINTWISE_BDESC = 752,
    DNN_ATTR_OPERATION_POINTWISE_YDESC = 753,
    DNN_ATTR_OPERATION_POINTWISE_TDESC = 758,
    DNN_ATTR_OPERATIONGRAPH_HANDLE = 800,
    DNN_ATTR_OPERATIONGRAPH_OPS = 801,
    DNN_ATTR_TENSOR_BYTE_ALIGNMENT = 900,
    DNN_ATTR_TENSOR_DATA_TYPE = 901,
    DNN_ATTR_TENSOR_DIMENSIONS = 902,
    DNN_ATTR_TENSOR_STRIDES = 903,
    DNN_ATTR_TENSOR_UNIQUE_ID = 906,
    DNN_ATTR_TENSOR_IS_VIRTUAL = 907,
    DNN_ATTR_TENSOR_IS_BY_VALUE = 908,
    DNN_ATTR_VARIANT_PACK_UNIQUE_IDS = 1000,
    DNN_ATTR_VARIANT_PACK_DATA_POINTERS = 1001,
    DNN_ATTR_VARIANT_PACK_WORKSPACE = 1003,
    DNN_ATTR_ENGINE_OPERATION_GRAPH = 1300,
    DNN_ATTR_ENGINE_GLOBAL_INDEX = 1301,
    DNN_ATTR_ENGINE_NUMERICAL_NOTE = 1303,
    DNN_ATTR_ENGINE_DEVICEPROP = 1307,
    DNN_ATTR_MATMUL_COMP_TYPE = 1500,
    DNN_ATTR_OPERATION_MATMUL_ADESC = 1520,
    DNN_ATTR_OPERATION_MATMUL_BDESC = 1521,
    DNN_ATTR_OPERATION_MATMUL_CDESC = 1522,
    DNN_ATTR_OPERATION_MATMUL_DESC = 1523,
    DNN_ATTR_REDUCTION_OPERATOR = 1600,
    DNN_ATTR_REDUCTION_COMP_TYPE = 1601,
    DNN_ATTR_OPERATION_REDUCTION_XDESC = 1610,
    DNN_ATTR_OPERATION_REDUCTION_YDESC = 1611,
    DNN_ATTR_OPERATION_REDUCTION_DESC = 1612,
    DNN_ATTR_OPERATION_RESHAPE_XDESC = 2200,
    DNN_ATTR_OPERATION_RESHAPE_YDESC = 2201,
    DNN_ATTR_DEVICEPROP_JSON_REPRESENTATION = 2702
};

/* Enumerations are passed as int, which is what they are to a C compiler on the platforms of CUDA. */
#define GRDI_DNN_FUNCTIONS(X)                                                                                          \
    X(size_t, cudnnGetVersion, (void))                                                                                 \
    X(const char *, cudnnGetErrorString, (int status))                                                                 \
    X(void, cudnnGetLastErrorString, (char *text, size_t size))                                                        \
    X(int, cudnnCreate, (grdi_dnn_handle * handle))                                                                    \
    X(int, cudnnDestroy, (grdi_dnn_handle handle))                                                                     \
    X(int, cudnnSetStream, (grdi_dnn_handle handle, struct CUstream_st * stream))                                      \
    X(int, cudnnBackendCreateDescriptor, (int type, grdi_dnn_descriptor *descriptor))                                  \
    X(int, cudnnBackendDestroyDescriptor, (grdi_dnn_descriptor descriptor))                                            \
    X(int, cudnnBackendFinalize, (grdi_dnn_descriptor descriptor))                                                     \
    X(int, cudnnBackendSetAttribute,                                                                                   \
      (grdi_dnn_descriptor descriptor, int name, int type, int64_t count, const void *elements))                       \
    X(int, cudnnBackendGetAttribute,                                                                                   \
      (grdi_dnn_descriptor descriptor, int name, int type, int64_t asked, int64_t *count, void *elements))             \
    X(int, cudnnBackendExecute, (grdi_dnn_handle handle, grdi_dnn_descriptor plan, grdi_dnn_descriptor variant_pack))

typedef struct grdi_dnn_api {
#define X(result, name, arguments) result(*call_##name) arguments;
    GRDI_DNN_FUNCTIONS(X)
#undef X
} grdi_dnn_api;

#ifdef __cplusplus
}
#endif
#endif
