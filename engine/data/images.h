/* images.h - what a set of images is made of. */
#ifndef GRDI_IMAGES_H
#define GRDI_IMAGES_H

#include "data/image.h"
#include "data/image_list.h"

/* Either all pixels or a list of files. */
struct grd_images {
    grd_images_info info;
    uint8_t *pixels; /* [count,height,width,channels] */
    int32_t *labels; /* [count] of these; NULL: there are none */
    grdi_image_list list;
    bool labelled; /* of files: label by folder */
    double middle; /* part of the side that tests look at */
    bool skip;     /* a damaged file is replaced by the next one */
    bool borrowed; /* pixels, labels and list are another set's */
    int64_t damaged;
    char first_damaged[GRD_MESSAGE_MAX];
};

/* What drawing needs; each thread has its own. Zeroed before use. */
typedef struct grdi_image_rooms {
    grdi_view_rooms view;
    grdi_room pixels;
} grdi_image_rooms;

/* The same images, drawn at another size where files are drawn (0: the same); free it before `from`. NULL: out of
 * memory. */
grd_images *grdi_images_borrow(const grd_images *from, int64_t height, int64_t width);

/* Whether an image that is damaged is to be left out. */
bool grdi_images_skip(const grd_images *images);

void grdi_image_rooms_free(grdi_image_rooms *rooms);

/* Bytes of a pixel's values, image after image, of the size that batches have. */
int64_t grdi_images_values(const grd_images *images);
/* The size of image `index` itself. */
void grdi_images_size(const grd_images *images, int64_t index, int64_t *height, int64_t *width);
/* Image `index` as it is for tests. */
grdi_view grdi_images_middle(const grd_images *images, int64_t index);
/* Draws a view of image `index`; `erased` may be NULL where the view erases nothing. */
grd_status grdi_images_draw(const grd_images *images, int64_t index, const grdi_view *view, const float *erased,
                            float *to, grdi_image_rooms *rooms, grd_error *error);

#endif
