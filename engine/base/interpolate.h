/* interpolate.h - where values between the points of an axis come from. */
#ifndef GRDI_INTERPOLATE_H
#define GRDI_INTERPOLATE_H

#include <stdbool.h>
#include <stdint.h>

/* In the order of grd_interpolation. */
enum { GRDI_NEAREST, GRDI_LINEAR, GRDI_NEAREST_EXACT, GRDI_INTERPOLATIONS };

/* Two points of the axis and their weights, which add up to 1; the second is 0 where one is enough. */
typedef struct grdi_blend {
    int64_t at[2];
    double weight[2];
} grdi_blend;

/* What point `o` of `out` is made of, of an axis with `in` points. */
grdi_blend grdi_interpolate_at(int64_t in, int64_t out, int mode, bool align_corners, int64_t o);

#endif
