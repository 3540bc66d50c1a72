/* window.h - windows that slide over up to three spatial axes: sizes and places, for convolutions and pooling. */
#ifndef GRDI_WINDOW_H
#define GRDI_WINDOW_H

#include <gradus/graph.h>

#define GRDI_WINDOW_AXES 3

/* One axis: window o begins at o * stride - padding and takes `kernel` elements, `dilation` apart. Adaptive windows
 * (kernel 0) take the elements from floor(o in / out) to ceil((o + 1) in / out). */
typedef struct grdi_window {
    int64_t in, out, kernel, stride, padding, dilation;
} grdi_window;

/* Entry `axis` of an attribute list: an empty list gives `preset` everywhere, one entry counts for all axes. */
static inline int64_t grdi_window_entry(const grd_attr *list, int32_t axis, int64_t preset)
{
    if (list->count == 0) return preset;
    return list->ints[list->count == 1 ? 0 : axis];
}

/* How many elements of the axis lie between a window's first and last tap; -1 where numbers are so large that what is
 * computed of them would overflow. */
static inline int64_t grdi_window_span(const grdi_window *w)
{
    const int64_t most = (int64_t)1 << 48, all[] = {w->in, w->out, w->kernel, w->stride, w->padding, w->dilation};
    int64_t span;
    for (int i = 0; i < 6; i++)
        if (all[i] < -most || all[i] > most) return -1;
    return __builtin_mul_overflow(w->dilation, w->kernel - 1, &span) || span > most ? -1 : span;
}

/* How many windows fit; 0: none, or the stride is none. */
static inline int64_t grdi_window_count(const grdi_window *w)
{
    int64_t span = grdi_window_span(w), room = w->kernel < 1 || span < 0 ? -1 : w->in + 2 * w->padding - span - 1;
    return room < 0 || w->stride < 1 ? 0 : room / w->stride + 1;
}

/* The least size for which `out` windows fit exactly, as a transposed convolution gives it; 0 where it overflows. */
static inline int64_t grdi_window_least_size(const grdi_window *w)
{
    int64_t span = grdi_window_span(w), steps;
    if (span < 0 || __builtin_mul_overflow(w->out - 1, w->stride, &steps) || steps > (int64_t)1 << 60) return 0;
    return steps - 2 * w->padding + span + 1;
}

static inline int64_t grdi_window_taps(const grdi_window *w, int64_t o)
{
    if (w->kernel > 0) return w->kernel;
    return ((o + 1) * w->in + w->out - 1) / w->out - o * w->in / w->out;
}

/* Where tap k of window o lies; -1 in the padding. */
static inline int64_t grdi_window_at(const grdi_window *w, int64_t o, int64_t k)
{
    int64_t at = w->kernel > 0 ? o * w->stride - w->padding + k * w->dilation : o * w->in / w->out + k;
    return at >= 0 && at < w->in ? at : -1;
}

#endif
