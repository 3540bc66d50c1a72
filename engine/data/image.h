/* image.h - images between a file and a batch: which part of one is taken, and how it becomes pixels of a batch. */
#ifndef GRDI_IMAGE_H
#define GRDI_IMAGE_H

#include <gradus/images.h>

/* Memory that grows as it is needed and is used again. Zeroed means empty. */
typedef struct grdi_room {
    void *bytes;
    size_t size_bytes;
} grdi_room;

/* At least that much, contents undefined; NULL when out of memory. */
void *grdi_room_take(grdi_room *room, size_t size_bytes);

/* Unsigned bytes [height,width,channels]. */
typedef struct grdi_pixels {
    const uint8_t *bytes;
    int64_t height, width, channels;
} grdi_pixels;

/* A part of an image, in its pixels. */
typedef struct grdi_box {
    double top, left, height, width;
} grdi_box;

/* What becomes of one image: the box is resized to the size that batches have; the result is moved, mirrored, changed
 * in colour, and has a rectangle erased. */
typedef struct grdi_view {
    grdi_box box;
    int64_t down, right; /* the result begins that many pixels further up and left: what comes in from outside is 0 */
    bool hflip;
    double brightness, contrast, saturation; /* factors, 1: as it is */
    double hue;                              /* turns, 0: as it is */
    int64_t erase_top, erase_left, erase_height, erase_width; /* height 0: nothing is erased */
} grdi_view;

/* The middle of an image in the shape of the target: `part` of what fits (1: all of it). */
grdi_view grdi_view_middle(int64_t height, int64_t width, int64_t to_height, int64_t to_width, double part);
/* A random one, as a function of (seed, position). */
grdi_view grdi_view_random(const grd_augment *augment, uint64_t seed, int64_t position, int64_t height, int64_t width,
                           int64_t to_height, int64_t to_width);

typedef struct grdi_view_rooms {
    grdi_room row, weights;
} grdi_view_rooms;

/* Draws the view as floats [to_height,to_width,channels] in 0..1. The pixels may be a part of the image: box is in
 * theirs. GRD_E_MEMORY is the only failure. `erased` is the colour of what is erased, a value a channel. */
grd_status grdi_view_draw(const grdi_view *view, grdi_pixels from, int64_t to_height, int64_t to_width,
                          const float *erased, float *to, grdi_view_rooms *rooms);
void grdi_view_rooms_free(grdi_view_rooms *rooms);

/* How two images of a batch are mixed (mixup, Zhang et al. 2018; CutMix, Yun et al. 2019): of the first `part` is left;
 * with a box, that box is the other's. */
typedef struct grdi_mix {
    double part; /* 1: not mixed */
    int64_t top, left, height, width; /* height 0: mixup */
} grdi_mix;

grdi_mix grdi_mix_random(const grd_augment *augment, uint64_t seed, int64_t batch, int64_t height, int64_t width);

#endif
