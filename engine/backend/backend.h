/* backend.h - what a device offers: memory and kernels. Backends see base, this header and graph/op.h, nothing else. */
#ifndef GRDI_BACKEND_H
#define GRDI_BACKEND_H

#include "backend/modes.h"
#include "graph/op.h"

#include <gradus/about.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A value in memory: strides in elements; data already points at the first element. */
typedef struct grdi_view {
    void *data; /* NULL: an input that is absent or an output that nobody uses */
    grd_dtype dtype;
    grd_dims dims;
    int64_t stride[GRD_RANK_MAX];
    bool rounded; /* an input in f32 that counts as rounded to bf16; only if the kernel accepts it */
} grdi_view;

/* One launch of a plan. Everything but `data`, `scratch` and `accumulate` is fixed before prepare(); those are fixed
 * before bind(), and accumulate may change between runs. */
typedef struct grdi_call {
    struct grdi_device *device; /* whose memory the pointers are of */
    const grdi_op *op;
    const grd_attr *attrs;
    int32_t input_count, output_count;
    grdi_view in[GRDI_INPUTS_MAX];
    grdi_view out[GRDI_OUTPUTS_MAX];
    bool accumulate[GRDI_OUTPUTS_MAX]; /* add to the output instead of overwriting it; only set if the kernel accepts it
                                        */
    bool may_accumulate[GRDI_OUTPUTS_MAX]; /* fixed before prepare(): some run will set accumulate */
    bool has_base; /* fixed before prepare(), only set if the kernel accepts it: output 0 is base + what it would be */
    const void *base; /* row-major, of output 0's dtype and shape; fixed before bind() */
    uint64_t path_hash;
    const void *literal;
    int32_t threads;      /* how many threads the plan was made for; part of the device kind */
    size_t scratch_bytes; /* asked for by prepare(), given (64-byte aligned) by the plan's arena */
    void *scratch;
    void *state; /* the kernel's own, made by prepare(), freed by release() */
} grdi_call;

typedef struct grdi_kernel {
    const char *op;
    uint32_t strided_in;  /* bit i: input i may have any strides */
    uint32_t rows_in;     /* bit i: input i may have any strides but 1 along its last axis */
    uint32_t rounds_in;   /* bit i: input i may be f32 that the kernel rounds to bf16 as it reads it */
    uint32_t strided_out; /* bit o: output o may have any strides but 1 along its last axis */
    uint32_t accumulates; /* bit o: honours accumulate[o] */
    uint32_t rounds_sums; /* bit o: sums of output o may be rounded to input 0's dtype before anything is added */
    bool adds_base;       /* honours has_base */
    uint32_t in_place;    /* bit o: output o may lie over an input as op->inplace says. Elementwise kernels */
    bool (*supports)(const grdi_call *call); /* dtypes, shapes; NULL: everything in f32 (ids i32, masks bool) */
    grd_status (*prepare)(grdi_call *call, grd_error *error); /* optional: sets scratch_bytes and state */
    grd_status (*bind)(grdi_call *call, grd_error *error);    /* optional: pointers are known now */
    grd_status (*run)(grdi_call *call);                       /* no allocation, no output but the call's */
    void (*release)(grdi_call *call);                         /* optional */
    /* Cost model: the part that the kernel reaches of the device's rate of products, in the dtype of input 0 (of f32
     * loops_flops_per_s where the device has one), or for other ops of map_flops_per_s; 0: all of it, of products all
     * of matmul's. rate_part_of, where it is given, says so for each call. of_loops: of loops_flops_per_s in any
     * dtype. */
    double rate_part;
    bool of_loops;
    double (*rate_part_of)(const grdi_call *call);
    /* Cost model, optional: bytes read and written, where they are not each tensor's once, as the op says. */
    double (*bytes_of)(const grdi_call *call);
} grdi_kernel;

typedef struct grdi_device grdi_device;

/* Rates of a device, measured or published; they drive the cost model. */
typedef struct grdi_rates {
    double matmul_flops_per_s; /* f32 */
    double matmul_bf16_flops_per_s;
    double loops_flops_per_s;   /* f32 outside of tiles (grdi_kernel.rate_part); 0: as matmul's */
    double copy_bytes_per_s;    /* read + written */
    double product_bytes_per_s; /* operands and results of products, which are packed besides; 0: as copies */
    double fresh_bytes_per_s;   /* the same of what other threads have just written, up to near_bytes; 0: as others */
    double near_bytes_per_s;    /* of launches that read and write fewer than near_bytes; 0: as others */
    double near_bytes;          /* that caches of single processors hold */
    double map_flops_per_s;     /* simple vector arithmetic out of cache */
    double launch_s;            /* fixed cost of one call of the device */
} grdi_rates;

typedef struct grdi_backend {
    const char *name;
    /* Opens a device; `argument` is what follows the colon in "name:argument" or "". */
    grd_status (*open)(const char *argument, int32_t threads, grdi_device **device, grd_error *error);
    void (*close)(grdi_device *device);
    const char *(*kind)(grdi_device *device);
    /* Device memory, 64-byte aligned and zeroed; NULL when there is not enough. */
    void *(*allocate)(grdi_device *device, size_t size_bytes);
    void (*release)(grdi_device *device, void *memory, size_t size_bytes);
    void (*upload)(grdi_device *device, void *to, const void *host, size_t size_bytes);
    void (*download)(grdi_device *device, void *host, const void *from, size_t size_bytes);
    /* The best kernel for the call, strides left aside (the plan compares them with the kernel's masks); NULL if there
     * is none. */
    const grdi_kernel *(*find)(grdi_device *device, const grdi_call *call);
    grd_status (*rates)(grdi_device *device, grdi_rates *rates); /* measures on first use where it must */
    void (*measure)(grdi_device *device); /* once more, for the mean of all times; NULL: rates() does not measure */
    bool (*fast_bf16)(grdi_device *device); /* optional: products of bf16 are faster than those of f32 */
    /* Optional: weights that count as rounded to bf16 are better copied once a step than rounded by each kernel that
     * could. */
    bool (*copies_rounded)(grdi_device *device);
    bool gathers_copies; /* copies of weights that lie side by side are better made by one launch */
    /* Optional: what the device itself said about the last call that failed ("cudaMalloc: out of memory"); "" if
     * nothing. */
    const char *(*why)(grdi_device *device);
    void (*wait)(grdi_device *device); /* optional: until all work asked for is done; without it runs end when done */
    /* Optional, all or none: what runs ask for between begin and end is noted down instead of done (NULL: it could not
     * be), and done as a whole by each replay. */
    bool (*capture_begin)(grdi_device *device);
    void *(*capture_end)(grdi_device *device);
    grd_status (*replay)(grdi_device *device, void *captured);
    void (*capture_free)(grdi_device *device, void *captured);
    /* Optional, all or none: values that come back while the device works on. An inbox is memory on the host, which
     * fetches write to in the order of all work; inbox_arrived tells whether the last of them has (NaN everywhere when
     * the device failed). NULL: no memory. */
    void *(*inbox_open)(grdi_device *device, size_t size_bytes, void **memory);
    void (*inbox_fetch)(grdi_device *device, void *inbox, size_t at, const void *from, size_t size_bytes);
    bool (*inbox_arrived)(grdi_device *device, void *inbox, bool wait);
    void (*inbox_close)(grdi_device *device, void *inbox);
    /* Optional, of the backend and not of a device: the libraries that it opens, by index; false past the last one. */
    bool (*component)(int32_t index, grd_component *component);
    /* Optional, both or none: the algorithms that the device has chosen by timing, as text to be kept (NULL: none; the
     * caller frees it with grdi_free()); and such a text taken back, before programs are compiled, so that they are
     * chosen again. GRD_E_STATE: of another kind of device. GRD_E_FORMAT: no such text. */
    char *(*algorithms)(grdi_device *device);
    grd_status (*take_algorithms)(grdi_device *device, const char *text, grd_error *error);
    /* Optional: how many calls of the device (kernels, a library's, fills, copies) a run of the bound call would make;
     * it makes none. 0: it cannot be said. */
    int64_t (*count_calls)(grdi_device *device, const grdi_kernel *kernel, grdi_call *call);
    /* Optional: the memory that plans may fill: all there is but what the driver and libraries keep, an estimate. */
    size_t (*memory_bytes)(grdi_device *device);
    /* Optional: the same kernels for cards that need not be there, which only plans; its open takes the name of a
     * profile (backend/profiles.h). */
    const struct grdi_backend *planner;
    bool takes_modes; /* a device is opened with the words of backend/modes.h as the last parts of its argument */
    bool runs;        /* false: plans only */
} grdi_backend;

/* Strides of a row-major tensor. */
void grdi_row_major(grd_dims dims, int64_t *stride);
bool grdi_is_row_major(grd_dims dims, const int64_t *stride);

extern const grdi_backend grdi_backend_cpu, grdi_backend_ref, grdi_backend_null;
/* The backend of a device name ("cpu", "cuda:1"), with the part after the colon; NULL if there is none of that name. */
const grdi_backend *grdi_backend_find(const char *device, const char **argument);

/* The reference as a kernel: converts to double, computes, converts back. Last in every backend's search. */
extern const grdi_kernel grdi_reference_kernel;

#ifdef __cplusplus
}
#endif

#endif
