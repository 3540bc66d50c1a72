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

/* ---- plans of cuDNN ---- */

typedef struct trial {
    grdi_dnn_plan *plan;
    const grdi_dnn_rival *rival;
    void *pointers[GRDI_DNN_POINTERS];
} trial;

static bool run_trial(void *context)
{
    const trial *t = context;
    return t->rival ? t->rival->run(t->rival, t->pointers) : grdi_dnn_plan_run(t->plan, false);
}

float grdi_time_dnn(grdi_dnn *dnn, grdi_dnn_plan *plan, const grdi_dnn_rival *rival)
{
    grdi_device *device = dnn->device;
    trial t = {.plan = plan, .rival = rival};
    char *memory = NULL;
    size_t all = rival ? 0 : grdi_cuda_room(grdi_dnn_plan_workspace(plan));
    float taken = -1;
    for (int32_t i = 0; i < GRDI_DNN_POINTERS; i++) all += grdi_cuda_room(grdi_dnn_plan_bytes(plan, i));
    cudaSetDevice(device->index);
    if (cudaMalloc((void **)&memory, all) == cudaSuccess) {
        char *next = memory;
        for (int32_t i = 0; i < GRDI_DNN_POINTERS; i++) {
            if (grdi_dnn_plan_bytes(plan, i)) t.pointers[i] = next;
            next += grdi_cuda_room(grdi_dnn_plan_bytes(plan, i));
        }
        if (cudaMemsetAsync(memory, 0, all, device->stream) == cudaSuccess &&
            (rival || grdi_dnn_plan_bind(plan, t.pointers, next)))
            taken = grdi_time_runs(device, run_trial, &t);
        cudaFree(memory);
    }
    cudaGetLastError(); /* without room, the first candidate is taken */
    return taken;
}
