/* convolution.h - a convolution or one of its gradients, as a library or our own loops are asked for it. */
#ifndef GRDI_CONVOLUTION_H
#define GRDI_CONVOLUTION_H

#include "backend/backend.h"
#include "base/window.h"

typedef enum grdi_convolution_kind {
    GRDI_CONVOLUTION,                 /* y from x and w (and bias) */
    GRDI_CONVOLUTION_INPUT_GRADIENT,  /* x from y and w */
    GRDI_CONVOLUTION_WEIGHT_GRADIENT, /* w from y and x */
} grdi_convolution_kind;

/* x [N,S..,C], w [O,C/groups,K..], y [N,S'..,O], row-major, f32 or bf16 each; windows of axes that the call does not
 * have come first and are of size 1. */
typedef struct grdi_convolution {
    grdi_convolution_kind kind;
    int32_t axes;
    int64_t n, c, o, groups;
    grdi_window window[GRDI_WINDOW_AXES];
    grd_dtype x_type, w_type, y_type, bias_type;
    bool has_bias;
    bool add; /* some run will add to w */
} grdi_convolution;

/* Where the values of one run lie. */
typedef struct grdi_convolution_data {
    void *x, *w, *y, *bias;
    bool add;
} grdi_convolution_data;

#endif
