/* library.h - NVIDIA's libraries, each opened at run time: from the loader's own paths, /usr/local/cuda, or the folders
 * of pip's nvidia-* packages. One that is missing costs its feature. */
#ifndef GRDI_CUDA_LIBRARY_H
#define GRDI_CUDA_LIBRARY_H

#include <stdbool.h>

typedef enum grdi_library {
    GRDI_LIBRARY_DRIVER,
    GRDI_LIBRARY_CUBLASLT,
    GRDI_LIBRARY_CUDNN,
    GRDI_LIBRARY_NCCL,
    GRDI_LIBRARIES
} grdi_library;

/* The file name that is looked for, for messages ("libcublasLt.so"). */
const char *grdi_library_name(grdi_library library);
/* Whether it is there; opened at the first call and kept. */
bool grdi_library_open(grdi_library library);
/* A function of an open library; NULL if it has none of that name. */
void *grdi_library_symbol(grdi_library library, const char *name);

#endif
