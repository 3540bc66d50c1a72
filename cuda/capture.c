/* capture.c - the work of a program noted down once as a CUDA graph and launched as a whole from then on. What differs
 * from run to run lies in device memory, so that a graph stays right. */
#include "cuda.h"

bool grdi_cuda_capture_begin(grdi_device *device)
{
    cudaSetDevice(device->index);
    return !grdi_cuda_check(device, cudaStreamBeginCapture(device->stream, cudaStreamCaptureModeThreadLocal),
                            "cudaStreamBeginCapture");
}

void *grdi_cuda_capture_end(grdi_device *device)
{
    cudaGraph_t graph = NULL;
    cudaGraphExec_t executable = NULL;
    if (grdi_cuda_check(device, cudaStreamEndCapture(device->stream, &graph), "cudaStreamEndCapture") || !graph)
        return NULL;
    if (grdi_cuda_check(device, cudaGraphInstantiate(&executable, graph, 0), "cudaGraphInstantiate")) executable = NULL;
    cudaGraphDestroy(graph);
    return executable;
}

grd_status grdi_cuda_replay(grdi_device *device, void *captured)
{
    cudaSetDevice(device->index);
    return grdi_cuda_check(device, cudaGraphLaunch(captured, device->stream), "cudaGraphLaunch");
}

/* The graph may still be running: the runtime keeps it until it is done. */
void grdi_cuda_capture_free(grdi_device *device, void *captured)
{
    cudaSetDevice(device->index);
    cudaGraphExecDestroy(captured);
}
