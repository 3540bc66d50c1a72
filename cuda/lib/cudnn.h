/* cudnn.h - convolutions by cuDNN, where it is there: through its backend interface, as graphs of operations that
 * become execution plans before the step. */
#ifndef GRDI_CUDNN_H
#define GRDI_CUDNN_H

#include "backend/backend.h"
#include "base/window.h"
#include "lib/choices.h"
#include "lib/cudnn_api.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The declared cap on a convolution's workspace, which lies in the arena. */
enum { GRDI_DNN_WORKSPACE_BYTES = 256 << 20 };
/* What pointers of a plan must be aligned to. */
enum { GRDI_DNN_ALIGNMENT = 16 };

typedef struct grdi_convolution grdi_convolution;
typedef struct grdi_dnn_plan grdi_dnn_plan;

typedef struct grdi_dnn {
    grdi_dnn_api call;
    size_t version; /* 0: there is no cuDNN */
    struct CUstream_st *stream;
    grdi_dnn_handle handle;         /* made when it is first needed */
    bool failed;                    /* to make it */
    bool tf32;                      /* convolutions of f32 may be made in tf32 */
    grdi_dnn_descriptor properties; /* of a GPU that is not there, for tests; NULL: the handle's GPU */
    char why[512];                  /* what failed last, in the library's words */
    /* Which engine a convolution is made by is looked up and noted here, and timed where there are several; all may be
     * NULL: the first that will do. */
    grdi_choices *choices;
    grdi_device *device;
    float (*time)(struct grdi_dnn *dnn, const grdi_convolution *convolution, grdi_dnn_plan *plan);
} grdi_dnn;

typedef enum grdi_convolution_kind {
    GRDI_CONVOLUTION_FORWARD,
    GRDI_CONVOLUTION_INPUT_GRADIENT,
    GRDI_CONVOLUTION_WEIGHT_GRADIENT
} grdi_convolution_kind;

/* x [N,S..,C], w [O,C/groups,K..], y [N,S'..,O], each as it lies; the kind says which of them is the result. */
struct grdi_convolution {
    grdi_convolution_kind kind;
    int32_t axes; /* spatial ones; windows of the others are 1 and stand first */
    int64_t samples, in_channels, out_channels, groups;
    grdi_window axis[GRDI_WINDOW_AXES];
    grd_dtype x, w, y;
    bool bias;        /* forward: bias[O], of y's dtype, is added */
    bool accumulates; /* some runs add to the result */
};

/* Opens the library, for work on the stream. One that is missing is no error: the version stays 0. */
void grdi_dnn_open(grdi_dnn *dnn, struct CUstream_st *stream);
void grdi_dnn_close(grdi_dnn *dnn);
/* The functions of an open library; false with `why` where one is missing. */
bool grdi_dnn_load(grdi_dnn *dnn);

/* A plan by the engine that was chosen before, else by the fastest that takes the convolution, is deterministic, sums
 * in f32 and stays under the cap; NULL with `why` where there is none. Allocates; call it before the step. */
grdi_dnn_plan *grdi_dnn_plan_new(grdi_dnn *dnn, const grdi_convolution *convolution);
size_t grdi_dnn_plan_workspace(const grdi_dnn_plan *plan);
/* Gives the plan its pointers, aligned to GRDI_DNN_ALIGNMENT; false where they are not, or the library refuses them. */
bool grdi_dnn_plan_bind(grdi_dnn_plan *plan, void *x, void *w, void *y, const void *bias, void *workspace);
/* Enqueues it. `accumulate` adds to the result. False with `why`. */
bool grdi_dnn_plan_run(const grdi_dnn_plan *plan, bool accumulate);
void grdi_dnn_plan_free(grdi_dnn_plan *plan);

#ifdef __cplusplus
}
#endif
#endif
