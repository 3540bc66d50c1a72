/* cudnn.h - convolutions and attention by cuDNN, where it is there: through its backend interface, as graphs of
 * operations that become execution plans before the step. */
#ifndef GRDI_CUDNN_H
#define GRDI_CUDNN_H

#include "backend/backend.h"
#include "base/window.h"
#include "lib/choices.h"
#include "lib/cudnn_api.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The declared cap on a call's workspace, which lies in the arena. */
enum { GRDI_DNN_WORKSPACE_BYTES = 256 << 20 };
/* What pointers of a plan must be aligned to, and how many it may have. */
enum { GRDI_DNN_ALIGNMENT = 16, GRDI_DNN_POINTERS = 12, GRDI_DNN_PARTS_MAX = 64 };

typedef struct grdi_convolution grdi_convolution;
typedef struct grdi_dnn_plan grdi_dnn_plan;

/* What else would do a plan's work, on its pointers; false where it does not run. */
typedef struct grdi_dnn_rival {
    bool (*run)(const struct grdi_dnn_rival *rival, void *const *pointers);
    const void *context;
} grdi_dnn_rival;

typedef struct grdi_dnn {
    grdi_dnn_api call;
    size_t version; /* 0: there is no cuDNN */
    struct CUstream_st *stream;
    grdi_dnn_handle handle;         /* made when it is first needed */
    bool failed;                    /* to make it */
    bool tf32;                      /* convolutions of f32 may be made in tf32 */
    bool any_order;                 /* engines may add in an order that differs from run to run */
    grdi_dnn_descriptor properties; /* of a GPU that is not there, for tests; NULL: the handle's GPU */
    char why[512];                  /* what failed last, in the library's words */
    /* Which engine a call is made by is looked up and noted here, and timed (or a rival is, where one is given) on
     * memory of its own; all may be NULL: the first that will do. */
    grdi_choices *choices;
    grdi_device *device;
    float (*time)(struct grdi_dnn *dnn, grdi_dnn_plan *plan, const grdi_dnn_rival *rival);
} grdi_dnn;

typedef enum grdi_convolution_kind {
    GRDI_CONVOLUTION_FORWARD,
    GRDI_CONVOLUTION_INPUT_GRADIENT,
    GRDI_CONVOLUTION_WEIGHT_GRADIENT
} grdi_convolution_kind;

/* x [N,S..,C], w [O,C/groups,K..], y [N,S'..,O], each as it lies, or w as [O,K..,C/groups], as the library's kernels
 * have it, which else turn it; the kind says which of them is the result. */
struct grdi_convolution {
    grdi_convolution_kind kind;
    int32_t axes; /* spatial ones; windows of the others are 1 and stand first */
    int64_t samples, in_channels, out_channels, groups;
    grdi_window axis[GRDI_WINDOW_AXES];
    grd_dtype x, w, y;
    bool w_inner;     /* w's channels lie innermost */
    bool bias;        /* forward: bias[O], of y's dtype, is added */
    bool accumulates; /* some runs add to the result */
};

/* The places of pointers to attention's operands; G is the gradient of OUT, DELTA room for a number each row, DQ_SUMS
 * room for dq [B,H,T,D] in f32, which a plan has that adds to it in any order. */
enum {
    GRDI_ATTENTION_Q,
    GRDI_ATTENTION_K,
    GRDI_ATTENTION_V,
    GRDI_ATTENTION_OUT,
    GRDI_ATTENTION_G,
    GRDI_ATTENTION_DQ,
    GRDI_ATTENTION_DK,
    GRDI_ATTENTION_DV,
    GRDI_ATTENTION_HEADS, /* those before are [B,tokens,heads,width] */
    GRDI_ATTENTION_LSE = GRDI_ATTENTION_HEADS,
    GRDI_ATTENTION_DELTA,
    GRDI_ATTENTION_DQ_SUMS
};

/* out = softmax(scale q k^T) v over the keys that a query sees, and lse, the logarithm of its sum [B,H,T] in f32; or
 * the gradients of q, k and v. */
typedef struct grdi_attention {
    bool backward;
    int64_t batch, heads, kv_heads, queries, keys, width, value_width;
    struct {
        grd_dtype dtype;
        int64_t stride[4];
    } of[GRDI_ATTENTION_HEADS]; /* as they lie; those of the backward pass count there only */
    float scale;
    bool causal, masked, packed; /* masked: a mask is added; packed: several documents in a sequence */
    int64_t window;              /* keys that a query sees at most, with its own; 0: all */
} grdi_attention;

/* Opens the library, for work on the stream. One that is missing is no error: the version stays 0. */
void grdi_dnn_open(grdi_dnn *dnn, struct CUstream_st *stream);
void grdi_dnn_close(grdi_dnn *dnn);
/* The functions of an open library; false with `why` where one is missing. */
bool grdi_dnn_load(grdi_dnn *dnn);

/* A plan by the engine that was chosen before, else by the fastest that takes the convolution, is deterministic (but
 * with any_order), sums in f32 and stays under the cap; NULL with `why` where there is none. Allocates; call it before
 * the step. */
grdi_dnn_plan *grdi_dnn_plan_new(grdi_dnn *dnn, const grdi_convolution *convolution);
/* The same for attention. Where the rival is faster there is none, either. */
grdi_dnn_plan *grdi_dnn_attention_new(grdi_dnn *dnn, const grdi_attention *attention, const grdi_dnn_rival *rival);
size_t grdi_dnn_plan_workspace(const grdi_dnn_plan *plan);
/* Bytes that lie behind pointer `place`; 0: the plan has none there. */
size_t grdi_dnn_plan_bytes(const grdi_dnn_plan *plan, int32_t place);
/* Gives the plan its pointers (of a convolution: x, w, y, bias), aligned to GRDI_DNN_ALIGNMENT; false where they are
 * not, or the library refuses them. */
bool grdi_dnn_plan_bind(grdi_dnn_plan *plan, void *const *pointers, void *workspace);
/* The same for a further part of the work, which the plan does once for each, in order. */
bool grdi_dnn_plan_bind_more(grdi_dnn_plan *plan, void *const *pointers, void *workspace);
/* Enqueues it. `accumulate` adds to the result. False with `why`. */
bool grdi_dnn_plan_run(const grdi_dnn_plan *plan, bool accumulate);
void grdi_dnn_plan_free(grdi_dnn_plan *plan);

#ifdef __cplusplus
}
#endif
#endif
