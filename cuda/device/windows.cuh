/* windows.cuh - windows that slide over one to three spatial axes (base/window.h), as kernels see them. */
#ifndef GRDI_WINDOWS_CUH
#define GRDI_WINDOWS_CUH

#include "base/window.h"
#include "device/values.cuh"

/* Axes of size 1 are put in front up to three. */
struct windows {
    grdi_window axis[GRDI_WINDOW_AXES];
    int64_t samples, channels, in, out; /* positions of a sample */
};

/* x [N,S..,C] and what slides over it gives y [N,S'..,*]; kernels are the caller's to fill in, where there are any. */
inline windows windows_of(const grdi_call *call, const grdi_view &x, const grdi_view &y)
{
    windows w = {};
    int32_t axes = x.dims.rank - 2;
    w.samples = x.dims.dim[0], w.channels = x.dims.dim[x.dims.rank - 1], w.in = w.out = 1;
    for (int32_t a = 0; a < GRDI_WINDOW_AXES; a++) {
        int32_t axis = a - (GRDI_WINDOW_AXES - axes);
        w.axis[a] = grdi_window{1, 1, 1, 1, 0, 1};
        if (axis < 0) continue;
        w.axis[a].in = x.dims.dim[1 + axis], w.axis[a].out = y.dims.dim[1 + axis];
        w.axis[a].stride = grdi_window_entry(grdi_attr_ints(call->attrs, "stride"), axis, 0);
        w.axis[a].padding = grdi_window_entry(grdi_attr_ints(call->attrs, "padding"), axis, 0);
        w.axis[a].dilation = grdi_window_entry(grdi_attr_ints(call->attrs, "dilation"), axis, 1);
        w.in *= w.axis[a].in, w.out *= w.axis[a].out;
    }
    return w;
}

/* A position of a sample, by axis. */
struct spot {
    int64_t at[GRDI_WINDOW_AXES];
};

__device__ __forceinline__ spot spot_of(const windows &w, int64_t position, bool of_out)
{
    spot s;
#pragma unroll
    for (int a = GRDI_WINDOW_AXES - 1; a >= 0; a--) {
        int64_t size = of_out ? w.axis[a].out : w.axis[a].in;
        s.at[a] = position % size;
        position /= size;
    }
    return s;
}

__device__ __forceinline__ int64_t first_of(const grdi_window &w, int64_t o)
{
    return w.kernel > 0 ? o * w.stride - w.padding : o * w.in / w.out;
}

__device__ __forceinline__ int64_t taps_of(const grdi_window &w, int64_t o)
{
    return w.kernel > 0 ? w.kernel : ((o + 1) * w.in + w.out - 1) / w.out - o * w.in / w.out;
}

/* Where tap k of window o lies; -1 in the padding. */
__device__ __forceinline__ int64_t tap_at(const grdi_window &w, int64_t o, int64_t k)
{
    int64_t at = first_of(w, o) + (w.kernel > 0 ? k * w.dilation : k);
    return at >= 0 && at < w.in ? at : -1;
}

/* The other way round: windows that reach element i are found among these many, by tap; -1: none. Adaptive windows
 * overlap by one element at most, so there are two candidates. */
__device__ __forceinline__ int64_t reaching_of(const grdi_window &w)
{
    return w.kernel > 0 ? w.kernel : 2;
}

__device__ __forceinline__ int64_t window_at(const grdi_window &w, int64_t i, int64_t k)
{
    if (w.kernel > 0) {
        int64_t from = i + w.padding - k * w.dilation, o = from / w.stride;
        return from >= 0 && o * w.stride == from && o < w.out ? o : -1;
    }
    int64_t o = i * w.out / w.in + k;
    return o < w.out && first_of(w, o) <= i ? o : -1;
}

/* The position of a tap (counted over all axes) of the window at `o`; -1. */
__device__ __forceinline__ int64_t tap_position(const windows &w, const spot &o, int64_t tap)
{
    int64_t position = 0, scale = 1;
#pragma unroll
    for (int a = GRDI_WINDOW_AXES - 1; a >= 0; a--) {
        int64_t taps = taps_of(w.axis[a], o.at[a]), at = tap_at(w.axis[a], o.at[a], tap % taps);
        if (at < 0) return -1;
        position += at * scale, scale *= w.axis[a].in, tap /= taps;
    }
    return position;
}

/* The same one after another: `visit` gets the positions that there are, or the windows that reach `at` and by which
 * taps, in the order of taps. Without the divisions that it takes to find each by its number. */
template <class F> __device__ __forceinline__ void each_tap(const windows &w, const spot &o, F visit)
{
    const grdi_window &a = w.axis[0], &b = w.axis[1], &c = w.axis[2];
    int64_t taps[] = {taps_of(a, o.at[0]), taps_of(b, o.at[1]), taps_of(c, o.at[2])};
    for (int64_t i = 0; i < taps[0]; i++) {
        int64_t x = tap_at(a, o.at[0], i);
        for (int64_t j = 0; x >= 0 && j < taps[1]; j++) {
            int64_t y = tap_at(b, o.at[1], j), line = (x * b.in + y) * c.in;
            for (int64_t k = 0; y >= 0 && k < taps[2]; k++) {
                int64_t z = tap_at(c, o.at[2], k);
                if (z >= 0) visit(line + z);
            }
        }
    }
}

template <class F> __device__ __forceinline__ void each_window(const windows &w, const spot &at, F visit)
{
    const grdi_window &a = w.axis[0], &b = w.axis[1], &c = w.axis[2];
    for (int64_t i = 0; i < reaching_of(a); i++) {
        int64_t x = window_at(a, at.at[0], i);
        for (int64_t j = 0; x >= 0 && j < reaching_of(b); j++) {
            int64_t y = window_at(b, at.at[1], j);
            for (int64_t k = 0; y >= 0 && k < reaching_of(c); k++) {
                int64_t z = window_at(c, at.at[2], k);
                if (z >= 0) visit(spot{{x, y, z}}, (i * reaching_of(b) + j) * reaching_of(c) + k);
            }
        }
    }
}

__device__ __forceinline__ int64_t out_position(const windows &w, const spot &o)
{
    return (o.at[0] * w.axis[1].out + o.at[1]) * w.axis[2].out + o.at[2];
}

__device__ __forceinline__ int64_t all_taps(const windows &w, const spot &o)
{
    return taps_of(w.axis[0], o.at[0]) * taps_of(w.axis[1], o.at[1]) * taps_of(w.axis[2], o.at[2]);
}

#endif
