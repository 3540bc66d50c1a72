/* driver.c - a driver for test_cudnn_library where there is no GPU: there is no device, and code that cuDNN compiles
 * for one is accepted unseen. Built as libcuda.so.1. */
enum { NO_DEVICE = 100 };

/* Others that cuDNN looks for: none of them can be called without a device. */
#define REFUSED(X)                                                                                                     \
    X(cuCtxGetCurrent)                                                                                                 \
    X(cuCtxGetLimit) X(cuCtxPopCurrent) X(cuCtxPushCurrent) X(cuDeviceGet) X(cuDriverGetVersion) X(cuGetErrorName)     \
        X(cuKernelGetAttribute) X(cuKernelSetAttribute) X(cuLaunchCooperativeKernel) X(cuLaunchKernel)                 \
            X(cuLaunchKernelEx) X(cuLibraryLoadFromFile) X(cuLinkAddData) X(cuLinkComplete) X(cuLinkCreate)            \
                X(cuLinkDestroy) X(cuOccupancyMaxPotentialClusterSize) X(cuStreamGetCtx)
#define X(name)                                                                                                        \
    int name(void)                                                                                                     \
    {                                                                                                                  \
        return NO_DEVICE;                                                                                              \
    }
REFUSED(X)
#undef X

int cuInit(unsigned flags)
{
    (void)flags;
    return NO_DEVICE;
}

int cuDeviceGetCount(int *count)
{
    *count = 0;
    return NO_DEVICE;
}

int cuGetErrorString(int error, const char **text)
{
    (void)error;
    *text = "there is no GPU";
    return 0;
}

/* A handle is any pointer but NULL. */
int cuLibraryLoadData(void **library, const void *code)
{
    *library = (void *)code;
    return 0;
}

int cuLibraryUnload(void *library)
{
    (void)library;
    return 0;
}

int cuLibraryGetKernel(void **kernel, void *library, const char *name)
{
    (void)name;
    *kernel = library;
    return 0;
}
