/* library.cpp - the simulated machine's libraries: the driver, cuBLASLt and cuDNN are there, NCCL is not. Tests take
 * cuDNN away by GRADUS_WITHOUT_CUDNN. */
extern "C" {
#include "lib/library.h"
}
#include "cublasLt.h"
#include "lib/cudnn_api.h"

#include <cstdlib>
#include <cstring>

#define STAND_IN(name)                                                                                                 \
    {                                                                                                                  \
#name, (void *)name                                                                                            \
    }

extern "C" {
#define X(result, name, arguments) result name arguments;
GRDI_DNN_FUNCTIONS(X)
#undef X
}

#define X(result, name, arguments) STAND_IN(name),
static const struct {
    const char *name;
    void *function;
} of_cudnn[] = {GRDI_DNN_FUNCTIONS(X){nullptr, nullptr}};
#undef X

static const struct {
    const char *name;
    void *function;
} stand_ins[] = {STAND_IN(cublasLtGetVersion),
                 STAND_IN(cublasLtGetStatusString),
                 STAND_IN(cublasLtCreate),
                 STAND_IN(cublasLtDestroy),
                 STAND_IN(cublasLtMatmulDescCreate),
                 STAND_IN(cublasLtMatmulDescDestroy),
                 STAND_IN(cublasLtMatmulDescSetAttribute),
                 STAND_IN(cublasLtMatrixLayoutCreate),
                 STAND_IN(cublasLtMatrixLayoutDestroy),
                 STAND_IN(cublasLtMatrixLayoutSetAttribute),
                 STAND_IN(cublasLtMatmulPreferenceCreate),
                 STAND_IN(cublasLtMatmulPreferenceDestroy),
                 STAND_IN(cublasLtMatmulPreferenceSetAttribute),
                 STAND_IN(cublasLtMatmulAlgoCheck),
                 STAND_IN(cublasLtMatmulAlgoConfigGetAttribute),
                 STAND_IN(cublasLtMatmulAlgoGetHeuristic),
                 STAND_IN(cublasLtMatmul)};

extern "C" const char *grdi_library_name(grdi_library library)
{
    static const char *const names[] = {"libcuda.so", "libcublasLt.so", "libcudnn.so", "libnccl.so"};
    return names[library];
}

extern "C" bool grdi_library_open(grdi_library library)
{
    if (library == GRDI_LIBRARY_CUDNN) return !getenv("GRADUS_WITHOUT_CUDNN");
    return library == GRDI_LIBRARY_DRIVER || library == GRDI_LIBRARY_CUBLASLT;
}

extern "C" void *grdi_library_symbol(grdi_library library, const char *name)
{
    for (auto &s : stand_ins)
        if (library == GRDI_LIBRARY_CUBLASLT && strcmp(s.name, name) == 0) return s.function;
    for (auto &s : of_cudnn)
        if (library == GRDI_LIBRARY_CUDNN && s.name && strcmp(s.name, name) == 0) return s.function;
    return nullptr;
}
