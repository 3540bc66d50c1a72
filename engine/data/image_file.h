/* image_file.h - images in files: JPEG by libjpeg-turbo, PNG by libpng. */
#ifndef GRDI_IMAGE_FILE_H
#define GRDI_IMAGE_FILE_H

#include "data/image.h"

/* Larger images are refused: a small file can hold one that fills any memory. */
#define GRDI_IMAGE_PIXELS_MAX ((int64_t)1 << 27)

typedef struct grdi_image_about {
    int64_t height, width;
    int64_t channels; /* 1: grey, 3: colours */
} grdi_image_about;

/* A file in memory, with the name that errors call it by. */
typedef struct grdi_image_bytes {
    const uint8_t *bytes;
    size_t size_bytes;
    const char *name;
} grdi_image_bytes;

/* What is wanted of it: `channels` (1 or 3; the other is converted: grey is 0.299 R + 0.587 G + 0.114 B, transparency
 * is left out), and of these the box, which will be resized to height x width. height 0: the whole image. */
typedef struct grdi_image_wish {
    int64_t channels, height, width;
    grdi_box box;
} grdi_image_wish;

/* GRD_E_FORMAT: neither JPEG nor PNG, a damaged header, CMYK, 16 bits a channel, too large. GRD_E_UNSUPPORTED: this
 * build lacks the library. */
grd_status grdi_image_look(grdi_image_bytes file, grdi_image_about *about, grd_error *error);
/* Decodes at least what is wanted into `room`: of a JPEG that may be a part, at 1/2, 1/4 or 1/8 of its size where that
 * is still larger than what it is resized to; wish->box becomes the same box in *pixels. GRD_E_FORMAT, too: cut off or
 * damaged. */
grd_status grdi_image_decode(grdi_image_bytes file, grdi_image_wish *wish, grdi_room *room, grdi_pixels *pixels,
                             grd_error *error);

/* jpeg.c, png.c: the same for one format. */
grd_status grdi_jpeg_look(grdi_image_bytes file, grdi_image_about *about, grd_error *error);
grd_status grdi_jpeg_decode(grdi_image_bytes file, grdi_image_wish *wish, grdi_room *room, grdi_pixels *pixels,
                            grd_error *error);
grd_status grdi_png_look(grdi_image_bytes file, grdi_image_about *about, grd_error *error);
grd_status grdi_png_decode(grdi_image_bytes file, const grdi_image_wish *wish, grdi_room *room, grdi_pixels *pixels,
                           grd_error *error);

/* Whether the name ends as JPEG and PNG files do (.jpg, .jpeg, .png), in whatever case. */
bool grdi_image_named(const char *name);

#endif
