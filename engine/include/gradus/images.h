/* images.h - labelled images to train classifiers on. */
#ifndef GRADUS_IMAGES_H
#define GRADUS_IMAGES_H

#include <gradus/data.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Images of one size with one label each. They never change, so any number of threads may read them. */
typedef struct grd_images grd_images;

typedef struct grd_images_info {
    int64_t count, height, width, channels;
    int64_t classes;   /* 1 + the largest label */
    uint64_t checksum; /* XXH3 of the pixels, seeded with that of the labels */
} grd_images_info;

/* Whether a folder holds IDX files: one whose name begins with "train-images" or "test-images" ("t10k-images"). */
GRD_API bool grd_idx_found(const char *folder);
/* Opens the training images (train-images*, train-labels*) or the test images (t10k-* or test-*) of a folder in the
 * format of the MNIST database (LeCun et al. 1998), gzipped or not: images of unsigned bytes [count,height,width] or
 * [count,height,width,channels], labels of unsigned bytes [count]. Errors name the file: missing, not in the format,
 * cut off, more or fewer labels than images. Free with grd_images_free(). */
GRD_API grd_status grd_idx_open(const char *folder, grd_part part, grd_images **images, grd_error *error);
/* Opens one file of images without labels: each label is -1, and there are no classes. */
GRD_API grd_status grd_idx_open_images(const char *path, grd_images **images, grd_error *error);
GRD_API grd_images_info grd_images_about(const grd_images *images);
/* Image `index` as floats [height,width,channels] in 0..1 (`pixels` may be NULL); returns its label, -1 where there is
 * none. */
GRD_API int32_t grd_images_get(const grd_images *images, int64_t index, float *pixels);
/* Mean and standard deviation of each channel over all images, in 0..1. */
GRD_API void grd_images_statistics(const grd_images *images, double *mean, double *deviation);
GRD_API void grd_images_free(grd_images *images);

#ifdef __cplusplus
}
#endif
#endif
