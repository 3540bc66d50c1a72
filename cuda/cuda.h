/* cuda.h - the CUDA device, for the files of the plugin. */
#ifndef GRDI_CUDA_H
#define GRDI_CUDA_H

#include "backend/backend.h"
#include "lib/cublaslt.h"
#include "lib/cudnn.h"

#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Memory through which uploads pass, in the order of a ring: pinned on the host, and as much on the device, where they
 * arrive on a stream of their own while the device works. */
enum { GRDI_STAGING_BYTES = 8 << 20, GRDI_STAGING_PART_BYTES = 1 << 20, GRDI_STAGING_PARTS = 64 };
typedef struct grdi_staged {
    size_t at, size_bytes;
    cudaEvent_t copied, taken; /* to the device; from there to its place */
} grdi_staged;
typedef struct grdi_staging {
    char *host, *on_device;
    cudaStream_t stream;
    grdi_staged parts[GRDI_STAGING_PARTS]; /* `count` of them from `first` on, a ring, are not known to be free */
    int32_t first, count;
    size_t end; /* of the newest */
} grdi_staging;

struct grdi_device {
    int32_t index;
    int32_t multiprocessors, capability; /* 90 for sm_90 */
    size_t shared_bytes;                 /* of shared memory that a block may have at most */
    grdi_modes modes;                    /* how it is to compute */
    char kind[320], why[512];
    cudaStream_t stream; /* all work of the device, in order */
    grdi_lt lt;
    grdi_dnn dnn;
    grdi_choices choices; /* algorithms of both */
    grdi_staging staging;
    bool counts; /* calls of the device are counted and not made */
    int64_t calls;
    bool small;                         /* rounds of few bytes, so that tests take several: the simulator's */
    const struct grdi_profile *planned; /* planner.c: the card that it stands for; else NULL */
    uintptr_t next_address;
};

/* `bytes`, rounded up so that what lies behind is aligned as an allocation of its own would be. */
static inline size_t grdi_cuda_room(size_t bytes)
{
    return (bytes + 255) / 256 * 256;
}

/* Notes a call that failed (device->why) and turns its error into a status; GRD_OK for success. */
grd_status grdi_cuda_check(grdi_device *device, cudaError_t error, const char *call);
/* The stream of a call's device, which is made the thread's current one. */
cudaStream_t grdi_cuda_stream(const grdi_call *call);
bool grdi_cuda_fast_bf16(grdi_device *device);

/* planner.c */
extern const grdi_backend grdi_cuda_planner;

/* calls.c: whether calls are only counted now: then this is one, and not to be made; how many the bound call makes;
 * zeroes. */
bool grdi_cuda_noted(grdi_device *device);
int64_t grdi_cuda_count_calls(grdi_device *device, const grdi_kernel *kernel, grdi_call *call);
grd_status grdi_cuda_clear(const grdi_call *call, void *data, size_t size_bytes);

/* memory.c */
grd_status grdi_staging_open(grdi_device *device);
void grdi_staging_close(grdi_device *device);
void *grdi_cuda_allocate(grdi_device *device, size_t size_bytes);
void grdi_cuda_release(grdi_device *device, void *memory, size_t size_bytes);
void grdi_cuda_upload(grdi_device *device, void *to, const void *host, size_t size_bytes);
void grdi_cuda_download(grdi_device *device, void *host, const void *from, size_t size_bytes);

/* inbox.c */
void *grdi_cuda_inbox_open(grdi_device *device, size_t size_bytes, void **memory);
void grdi_cuda_inbox_fetch(grdi_device *device, void *inbox, size_t at, const void *from, size_t size_bytes);
bool grdi_cuda_inbox_arrived(grdi_device *device, void *inbox, bool wait);
void grdi_cuda_inbox_close(grdi_device *device, void *inbox);

/* capture.c */
bool grdi_cuda_capture_begin(grdi_device *device);
void *grdi_cuda_capture_end(grdi_device *device);
grd_status grdi_cuda_replay(grdi_device *device, void *captured);
void grdi_cuda_capture_free(grdi_device *device, void *captured);

/* timing.c, and choices.h: of a plan of cuDNN or of its rival, on memory of their own; negative where it does not run.
 */
float grdi_time_dnn(grdi_dnn *dnn, grdi_dnn_plan *plan, const grdi_dnn_rival *rival);

/* choose_product.c: what a product is known by among the choices, its pointers aligned to `least` (b, a, base, y);
 * whether its algorithm was chosen before, and is now the product's; the choice of the fastest, or of the first where
 * they cannot be timed. */
void grdi_product_call(const grdi_device *device, const grdi_product *p, const uint32_t *least,
                       char call[GRDI_CHOICE_TEXT]);
bool grdi_product_recall(grdi_device *device, grdi_product *p, const char *call);
void grdi_product_pick(grdi_device *device, grdi_product *p, const cublasLtMatmulHeuristicResult_t *found,
                       int32_t count, const char *call);

/* choose_sums.c: whether the sums of matmul_column_sums are better made by a kernel of their own than by the product's
 * epilogue, which was planned. Chosen once by timing, and kept among the choices. */
bool grdi_sums_apart(const grdi_call *call, const grdi_product *together);

/* rates.c */
grd_status grdi_cuda_rates(grdi_device *device, grdi_rates *rates);

/* kernels.c: the kernel that takes the call, or NULL. */
const grdi_kernel *grdi_cuda_find(grdi_device *device, const grdi_call *call);
/* Bytes of the call's inputs and outputs, each once; what may be added to an output is read as well. */
double grdi_cuda_bytes(const grdi_call *call);

/* host.c: what the engine lends. */
void *grdi_alloc_zero(size_t count, size_t size_bytes);
void grdi_free(void *memory);

#ifdef __cplusplus
}
#endif
#endif
