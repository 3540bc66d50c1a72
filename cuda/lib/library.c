/* library.c - opens NVIDIA's libraries; see library.h. */
#include "lib/library.h"

#include <dlfcn.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>

enum { VERSIONS_MAX = 3 };

static const struct {
    const char *name;
    const char *versions[VERSIONS_MAX + 1]; /* newest first */
    const char *package;                    /* its folder in pip's nvidia/; before CUDA 13 one a library */
} known[GRDI_LIBRARIES] = {
    [GRDI_LIBRARY_DRIVER] = {"libcuda.so", {"1"}, NULL},
    [GRDI_LIBRARY_CUBLASLT] = {"libcublasLt.so", {"13", "12"}, "cu*"},
    [GRDI_LIBRARY_CUDNN] = {"libcudnn.so", {"9"}, "cudnn"},
    [GRDI_LIBRARY_NCCL] = {"libnccl.so", {"2"}, "nccl"},
};

static void *opened[GRDI_LIBRARIES];
static bool tried[GRDI_LIBRARIES];

const char *grdi_library_name(grdi_library library)
{
    return known[library].name;
}

static void *open_file(const char *folder, grdi_library library)
{
    char path[1024];
    void *handle = NULL;
    for (int v = 0; !handle && known[library].versions[v]; v++) {
        int length = snprintf(path, sizeof path, "%s%s.%s", folder, known[library].name, known[library].versions[v]);
        if (length < (int)sizeof path) handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    }
    return handle;
}

/* In the folders that match. */
static void *open_matching(const char *pattern, grdi_library library)
{
    glob_t found;
    void *handle = NULL;
    if (glob(pattern, GLOB_MARK, NULL, &found) != 0) return NULL;
    for (size_t i = 0; !handle && i < found.gl_pathc; i++) handle = open_file(found.gl_pathv[i], library);
    globfree(&found);
    return handle;
}

/* Of the virtual environment that is active, or of the user's own packages. */
static void *open_of_pip(grdi_library library)
{
    static const char *const roots[][2] = {{"VIRTUAL_ENV", "/lib/python3*"}, {"HOME", "/.local/lib/python3*"}};
    char pattern[1024];
    void *handle = NULL;
    for (size_t r = 0; !handle && known[library].package && r < sizeof roots / sizeof *roots; r++) {
        const char *root = getenv(roots[r][0]);
        if (!root) continue;
        const char *packages[] = {known[library].package, library == GRDI_LIBRARY_CUBLASLT ? "cublas" : NULL};
        for (int p = 0; p < 2 && !handle && packages[p]; p++) {
            int length =
                snprintf(pattern, sizeof pattern, "%s%s/site-packages/nvidia/%s/lib/", root, roots[r][1], packages[p]);
            if (length < (int)sizeof pattern) handle = open_matching(pattern, library);
        }
    }
    return handle;
}

bool grdi_library_open(grdi_library library)
{
    if (!tried[library]) {
        tried[library] = true;
        if (library == GRDI_LIBRARY_CUDNN && getenv("GRADUS_WITHOUT_CUDNN")) return false; /* as if it were not there */
        opened[library] = open_file("", library);
        if (!opened[library]) opened[library] = open_file("/usr/local/cuda/lib64/", library);
        if (!opened[library]) opened[library] = open_of_pip(library);
    }
    return opened[library] != NULL;
}

void *grdi_library_symbol(grdi_library library, const char *name)
{
    return grdi_library_open(library) ? dlsym(opened[library], name) : NULL;
}
