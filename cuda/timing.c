/* timing.c - how long calls take that a library has several algorithms for, on memory of their own: what programs hold
 * is read at most. */
#include "cuda.h"

#ifdef GRDI_SIM
enum { RUNS = 1, WARM = 0 };
#else
enum { RUNS = 4, WARM = 1 }; /* timed together, after one that does not count */
#endif

float grdi_time_runs(grdi_device *device, bool (*run)(void *context), void *context)
{
    cudaEvent_t event[2] = {NULL, NULL};
    float taken = -1;
    bool good = true;
    cudaSetDevice(device->index);
    for (int i = 0; i < 2 && good; i++)
        good = !grdi_cuda_check(device, cudaEventCreateWithFlags(&event[i], cudaEventDefault), "cudaEventCreate");
    for (int i = 0; i < WARM && good; i++) good = run(context);
    good = good && !grdi_cuda_check(device, cudaEventRecord(event[0], device->stream), "cudaEventRecord");
    for (int i = 0; i < RUNS && good; i++) good = run(context);
    good = good && !grdi_cuda_check(device, cudaEventRecord(event[1], device->stream), "cudaEventRecord") &&
           !grdi_cuda_check(device, cudaEventSynchronize(event[1]), "cudaEventSynchronize") &&
           !grdi_cuda_check(device, cudaEventElapsedTime(&taken, event[0], event[1]), "cudaEventElapsedTime");
    for (int i = 0; i < 2; i++)
        if (event[i]) cudaEventDestroy(event[i]);
    if (!good) cudaGetLastError(); /* the algorithm is left out, which is all that comes of it */
    return good ? taken : -1;
}

/* ---- convolutions of cuDNN ---- */

static bool run_convolution(void *plan)
{
    return grdi_dnn_plan_run(plan, false);
}

static size_t bytes_of(const grdi_window *axis, int64_t count, int which, grd_dtype dtype)
{
    for (int a = 0; a < GRDI_WINDOW_AXES; a++)
        count *= which == 0 ? axis[a].in : which == 1 ? axis[a].kernel : axis[a].out;
    return grdi_cuda_room((size_t)count * grd_dtype_size(dtype));
}

float grdi_time_convolution(grdi_dnn *dnn, const grdi_convolution *c, grdi_dnn_plan *plan)
{
    grdi_device *device = dnn->device;
    const size_t size[5] = {bytes_of(c->axis, c->samples * c->in_channels, 0, c->x),
                            bytes_of(c->axis, c->out_channels * (c->in_channels / c->groups), 1, c->w),
                            bytes_of(c->axis, c->samples * c->out_channels, 2, c->y),
                            grdi_cuda_room((size_t)c->out_channels * 4), grdi_dnn_plan_workspace(plan)};
    char *memory = NULL, *part[5];
    size_t all = 0;
    float taken = -1;
    for (int i = 0; i < 5; i++) all += size[i];
    cudaSetDevice(device->index);
    if (cudaMalloc((void **)&memory, all) == cudaSuccess) {
        for (int i = 0; i < 5; i++) part[i] = i ? part[i - 1] + size[i - 1] : memory;
        if (cudaMemsetAsync(memory, 0, all, device->stream) == cudaSuccess &&
            grdi_dnn_plan_bind(plan, part[0], part[1], part[2], part[3], part[4]))
            taken = grdi_time_runs(device, run_convolution, plan);
        cudaFree(memory);
    }
    cudaGetLastError(); /* without room, the first candidate is taken */
    return taken;
}
