/* plugin.c - backend `cuda`: NVIDIA GPUs. Built twice: as libgradus_cuda.so with nvcc, and as libgradus_cudasim.so over
 * the stand-ins of cuda/sim, which is a device for tests. */
#include "cuda.h"
#include "host.h"
#include "lib/library.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef GRDI_SIM
#define DEVICE_NAME "cudasim"
enum { SMALL = true };
#else
#define DEVICE_NAME "cuda"
enum { SMALL = false };
#endif

grd_status grdi_cuda_check(grdi_device *device, cudaError_t error, const char *call)
{
    if (error == cudaSuccess) return GRD_OK;
    snprintf(device->why, sizeof device->why, "%.100s: %.100s (%.200s)", call, cudaGetErrorName(error),
             cudaGetErrorString(error));
    return error == cudaErrorMemoryAllocation ? GRD_E_MEMORY : GRD_E_DEVICE;
}

cudaStream_t grdi_cuda_stream(const grdi_call *call)
{
    if (!call->device->planned) cudaSetDevice(call->device->index);
    return call->device->stream;
}

/* ---- opening ---- */

/* "", "1", "tf32", "1:tf32:nondeterministic" */
static bool parse(grdi_device *device, const char *argument)
{
    char *end = (char *)argument;
    if (isdigit((unsigned char)argument[0])) device->index = (int32_t)strtol(argument, &end, 10);
    if (end != argument && end[0] == ':') end++;
    return grdi_modes_read(end, &device->modes);
}

static grd_status find_device(grdi_device *device, grd_error *error)
{
    struct cudaDeviceProp properties;
    int count = 0, driver = 0;
    if (!grdi_library_open(GRDI_LIBRARY_DRIVER))
        return grd_fail(error, GRD_E_DEVICE,
                        "device '" DEVICE_NAME "': %s.1 is not to be found (install NVIDIA's driver; use cpu without "
                        "a GPU)",
                        grdi_library_name(GRDI_LIBRARY_DRIVER));
    cudaError_t answer = cudaGetDeviceCount(&count);
    if (answer != cudaSuccess || count < 1)
        return grd_fail(error, GRD_E_DEVICE, "device '" DEVICE_NAME "': no GPU (%s)", cudaGetErrorString(answer));
    if (device->index < 0 || device->index >= count)
        return grd_fail(error, GRD_E_DEVICE, "device '" DEVICE_NAME ":%d': there are %d GPUs, counted from 0",
                        (int)device->index, count);
    answer = cudaGetDeviceProperties(&properties, device->index);
    if (answer == cudaSuccess) answer = cudaSetDevice(device->index);
    if (answer != cudaSuccess)
        return grd_fail(error, GRD_E_DEVICE, "device '" DEVICE_NAME ":%d': %s", (int)device->index,
                        cudaGetErrorString(answer));
    device->multiprocessors = properties.multiProcessorCount;
    device->capability = properties.major * 10 + properties.minor;
    device->shared_bytes = properties.sharedMemPerBlockOptin;
    if (device->capability < 80)
        return grd_fail(error, GRD_E_DEVICE,
                        "device '" DEVICE_NAME ":%d': %s is of compute capability %d.%d (8.0 and "
                        "later are supported)",
                        (int)device->index, properties.name, properties.major, properties.minor);
    cudaDriverGetVersion(&driver);
    snprintf(device->kind, sizeof device->kind, DEVICE_NAME " %.200s sm_%d x%d driver=%d.%d%s", properties.name,
             (int)device->capability, (int)device->multiprocessors, driver / 1000, driver % 1000 / 10,
             grdi_modes_text(device->modes));
    return GRD_OK;
}

static void close_device(grdi_device *device)
{
    if (!device) return;
    cudaSetDevice(device->index);
    if (device->stream) cudaStreamSynchronize(device->stream);
    grdi_dnn_close(&device->dnn);
    grdi_choices_free(&device->choices);
    grdi_lt_close(device);
    grdi_staging_close(device);
    if (device->stream) cudaStreamDestroy(device->stream);
    grdi_free(device);
}

/* The kind names it, since it has a part in the bits of results. */
static void open_dnn(grdi_device *device)
{
    size_t used = strlen(device->kind);
    device->dnn.tf32 = device->modes.tf32;
    device->dnn.any_order = device->modes.nondeterministic;
    device->dnn.device = device;
    device->dnn.choices = &device->choices;
    device->dnn.time = grdi_time_dnn;
    grdi_dnn_open(&device->dnn, device->stream);
    if (device->dnn.version)
        snprintf(device->kind + used, sizeof device->kind - used, " cudnn=%zu", device->dnn.version);
}

static grd_status open_parts(grdi_device *device)
{
    grd_status status =
        grdi_cuda_check(device, cudaStreamCreateWithFlags(&device->stream, cudaStreamNonBlocking), "cudaStreamCreate");
    if (!status) status = grdi_staging_open(device);
    if (!status && !grdi_lt_open(device)) status = GRD_E_DEVICE;
    if (!status)
        snprintf(device->kind + strlen(device->kind), sizeof device->kind - strlen(device->kind), " cublaslt=%zu",
                 device->lt.version);
    if (!status) open_dnn(device);
    return status;
}

static grd_status open_device(const char *argument, int32_t threads, grdi_device **opened, grd_error *error)
{
    (void)threads;
    grdi_device *device = grdi_alloc_zero(1, sizeof *device);
    if (!device) return grd_fail(error, GRD_E_MEMORY, "device '" DEVICE_NAME "': out of memory");
    device->small = SMALL;
    grd_status status = GRD_OK;
    if (!parse(device, argument))
        status = grd_fail(error, GRD_E_ARGUMENT,
                          "device '" DEVICE_NAME ":%.64s': not understood (" DEVICE_NAME ", " DEVICE_NAME
                          ":1, " DEVICE_NAME ":tf32, " DEVICE_NAME ":1:nondeterministic)",
                          argument);
    if (!status) status = find_device(device, error);
    if (!status && (status = open_parts(device))) grd_fail(error, status, "device '" DEVICE_NAME "': %s", device->why);
    if (status) close_device(device);
    else *opened = device;
    return status;
}

/* ---- the rest of the interface ---- */

static const char *kind(grdi_device *device)
{
    return device->kind;
}
static const char *why(grdi_device *device)
{
    return device->why;
}

static void wait_for(grdi_device *device)
{
    cudaSetDevice(device->index);
    grdi_cuda_check(device, cudaStreamSynchronize(device->stream), "cudaStreamSynchronize");
}

/* Products of bf16 run on tensor cores at twice the rate of tf32 and many times that of f32. */
bool grdi_cuda_fast_bf16(grdi_device *device)
{
    (void)device;
    return true;
}

/* What a library says of its version; "" if it cannot. */
static void read_version(grdi_library library, char *text, size_t size)
{
    static const char *const functions[GRDI_LIBRARIES] = {
        [GRDI_LIBRARY_CUBLASLT] = "cublasLtGetVersion", [GRDI_LIBRARY_CUDNN] = "cudnnGetVersion"};
    int version = 0;
    text[0] = '\0';
    if (library == GRDI_LIBRARY_DRIVER && cudaDriverGetVersion(&version) == cudaSuccess)
        snprintf(text, size, "CUDA %d.%d", version / 1000, version % 1000 / 10);
    if (library == GRDI_LIBRARY_NCCL) {
        int (*of_nccl)(int *);
        *(void **)&of_nccl = grdi_library_symbol(library, "ncclGetVersion");
        if (of_nccl && of_nccl(&version) == 0)
            snprintf(text, size, "%d.%d.%d", version / 10000, version / 100 % 100, version % 100);
    }
    if (!functions[library]) return;
    size_t (*of_library)(void);
    *(void **)&of_library = grdi_library_symbol(library, functions[library]);
    size_t v = of_library ? of_library() : 0;
    if (v) snprintf(text, size, "%zu.%zu.%zu", v / 10000, v / 100 % 100, v % 100);
}

static bool component(int32_t index, grd_component *c)
{
    static const struct {
        const char *name, *purpose;
    } rows[GRDI_LIBRARIES] = {
        [GRDI_LIBRARY_DRIVER] = {"NVIDIA driver", "device cuda; without it there is none"},
        [GRDI_LIBRARY_CUBLASLT] = {"cuBLASLt", "matrix products on cuda; without it there is no device cuda"},
        [GRDI_LIBRARY_CUDNN] = {"cuDNN", "convolutions and attention on cuda; without it cuBLASLt and our own kernels"},
        [GRDI_LIBRARY_NCCL] = {"NCCL", "nothing yet: several GPUs are not built"}};
    static char text[GRDI_LIBRARIES][32];
    if (index < 0 || index >= GRDI_LIBRARIES) return false;
    *c = (grd_component){rows[index].name, NULL, rows[index].purpose};
    if (!grdi_library_open((grdi_library)index)) return true;
    read_version((grdi_library)index, text[index], sizeof text[index]);
    c->version = text[index][0] ? text[index] : "?";
    return true;
}

static char *algorithms(grdi_device *device)
{
    return grdi_choices_write(&device->choices, device->kind);
}

static grd_status take_algorithms(grdi_device *device, const char *text, grd_error *error)
{
    return grdi_choices_read(&device->choices, device->kind, text, error);
}

static const grdi_backend backend = {
    .name = DEVICE_NAME,
    .open = open_device,
    .close = close_device,
    .kind = kind,
    .allocate = grdi_cuda_allocate,
    .release = grdi_cuda_release,
    .upload = grdi_cuda_upload,
    .download = grdi_cuda_download,
    .find = grdi_cuda_find,
    .rates = grdi_cuda_rates,
    .fast_bf16 = grdi_cuda_fast_bf16,
    .gathers_copies = true,
    .why = why,
    .wait = wait_for,
    .inbox_open = grdi_cuda_inbox_open,
    .inbox_fetch = grdi_cuda_inbox_fetch,
    .inbox_arrived = grdi_cuda_inbox_arrived,
    .inbox_close = grdi_cuda_inbox_close,
    .component = component,
    .capture_begin = grdi_cuda_capture_begin,
    .capture_end = grdi_cuda_capture_end,
    .replay = grdi_cuda_replay,
    .capture_free = grdi_cuda_capture_free,
    .algorithms = algorithms,
    .take_algorithms = take_algorithms,
    .count_calls = grdi_cuda_count_calls,
    .planner = &grdi_cuda_planner,
    .takes_modes = true,
    .runs = true,
};

__attribute__((visibility("default"))) const grdi_backend *grdi_plugin(const grdi_host *host);

const grdi_backend *grdi_plugin(const grdi_host *host)
{
    return grdi_host_accept(host) ? &backend : NULL;
}
