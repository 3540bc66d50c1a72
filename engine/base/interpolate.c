/* interpolate.c - where values between the points of an axis come from. */
#include "base/interpolate.h"

#include <math.h>

/* In float as PyTorch does it: where o in / out is a whole number, rounding decides which of two points is the nearest,
 * and models have been trained with that. */
static int64_t nearest(int64_t in, int64_t out, double o)
{
    float scale = (float)in / (float)out;
    int64_t at = (int64_t)floorf((float)(o * (double)scale));
    return at < in - 1 ? at : in - 1;
}

grdi_blend grdi_interpolate_at(int64_t in, int64_t out, int mode, bool align_corners, int64_t o)
{
    grdi_blend b = {{0, 0}, {1, 0}};
    if (mode != GRDI_LINEAR) {
        b.at[0] = b.at[1] = nearest(in, out, mode == GRDI_NEAREST ? (double)o : (double)o + 0.5);
        return b;
    }
    double place;
    if (align_corners) place = out > 1 ? (double)o * (double)(in - 1) / (double)(out - 1) : 0;
    else place = fmax(((double)o + 0.5) * (double)in / (double)out - 0.5, 0);
    b.at[0] = (int64_t)place < in - 1 ? (int64_t)place : in - 1;
    b.at[1] = b.at[0] < in - 1 ? b.at[0] + 1 : b.at[0];
    b.weight[1] = b.at[1] > b.at[0] ? place - (double)b.at[0] : 0;
    b.weight[0] = 1 - b.weight[1];
    return b;
}
