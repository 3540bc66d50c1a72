/* nn.h - what normalisation, attention and losses share. */
#ifndef GRDI_NN_H
#define GRDI_NN_H

#include <gradus/base.h>

/* The dtype of statistics, log-sums and losses of values of `dtype`: f64 stays, all narrower floats give f32. */
static inline grd_dtype grdi_wide_dtype(grd_dtype dtype)
{
    return dtype == GRD_F64 ? GRD_F64 : GRD_F32;
}

#endif
