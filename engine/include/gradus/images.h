/* images.h - labelled images to train classifiers on, and batches of them. */
#ifndef GRADUS_IMAGES_H
#define GRADUS_IMAGES_H

#include <gradus/data.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- sets of images ---- */

/* Images with one label each, given in one size. They never change, so any number of threads may read them. */
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
 * cut off, more or fewer labels than images. GRD_E_ARGUMENT: no such part. Free with grd_images_free(). */
GRD_API grd_status grd_idx_open(const char *folder, grd_part part, grd_images **images, grd_error *error);
/* Opens one file of images without labels: each label is -1, and there are no classes. */
GRD_API grd_status grd_idx_open_images(const char *path, grd_images **images, grd_error *error);

typedef struct grd_image_folder_options {
    size_t size;                     /* sizeof(grd_image_folder_options), or 0 for this version's */
    int64_t height, width, channels; /* that images are given in; 0: chosen by the images */
    double validation_part;          /* of each class, where the folder itself has no parts */
    uint64_t seed;                   /* of that choice */
    bool all;                        /* ... which is not made: all images belong to the part asked for */
    double middle;                   /* tests look at that part of each side, in the middle; 0: 1 */
    bool skip_damaged;               /* images that cannot be read are left out instead of being an error */
    const char *const *class_names;  /* [class_count]: known from training; 0 of them: from the folder */
    int64_t class_count;
    int32_t threads;                 /* 0: as many as OpenMP gives */
    bool only_looked_at;             /* no image is decoded before it is asked for */
} grd_image_folder_options;

/* Whether a folder holds images in sub-folders: most files there end in .jpg, .jpeg or .png. */
GRD_API bool grd_image_folder_found(const char *folder);
/* Opens the JPEG and PNG images of a folder with one sub-folder for each class (as ImageFolder of torchvision), or of
 * its folders train/ and val/ (valid/, validation/, test/) with such sub-folders. Without these parts, a random
 * validation_part of each class is the validation set, by seed. Classes are the names of sub-folders, sorted bytewise.
 * Images of other sizes are cut to the shape of the common one from their middle, and resized. All headers are read;
 * if the images fit into 256 MiB all of them are decoded, else each when it is needed. Colours: grey and RGB;
 * transparency is left out; an EXIF orientation is not applied, as Pillow does not either.
 *
 * GRD_E_FORMAT names the class without images, or the file that is damaged, in CMYK, of 16 bits a channel, too large
 * (above 2^27 pixels) or no image at all. GRD_E_ARGUMENT: no such part. Free with grd_images_free(). */
GRD_API grd_status grd_image_folder_open(const char *folder, grd_part part, const grd_image_folder_options *options,
                                         grd_images **images, grd_error *error);
/* Opens one image file, or all images in and below a folder, without labels; height, width and channels must be given.
 */
GRD_API grd_status grd_image_files_open(const char *path, const grd_image_folder_options *options, grd_images **images,
                                        grd_error *error);
/* The file of image `index`, NULL of IDX files; the name of a class, NULL where classes have numbers only. */
GRD_API const char *grd_images_path(const grd_images *images, int64_t index);
GRD_API const char *grd_images_class_name(const grd_images *images, int64_t class_number);
/* What a person should hear about the images, one line for each `index` from 0 on. False: there is no such line. */
GRD_API bool grd_images_note(const grd_images *images, int32_t index, char *line, size_t size_bytes);
GRD_API grd_images_info grd_images_about(const grd_images *images);
/* The label of image `index`, -1 where there is none. */
GRD_API int32_t grd_images_label(const grd_images *images, int64_t index);
/* Image `index` as floats [height,width,channels] in 0..1. GRD_E_FORMAT: its file is damaged. */
GRD_API grd_status grd_images_get(const grd_images *images, int64_t index, float *pixels, grd_error *error);
/* Mean and standard deviation of each channel over all images, in 0..1. */
GRD_API grd_status grd_images_statistics(const grd_images *images, double *mean, double *deviation, grd_error *error);
/* Whether mirrored images still look like their class: the part of some thousand of the images (and of their mirror
 * images) that is nearest to the mean image of its own class. 28x28 digits: most are not, mirrored; clothes are. */
GRD_API grd_status grd_images_mirrored(const grd_images *images, double *plain, double *mirrored, grd_error *error);
GRD_API void grd_images_free(grd_images *images);

/* ---- changes at random ---- */

typedef enum grd_crop {
    GRD_CROP_NONE = 0,
    GRD_CROP_SHIFT,  /* moved by up to `shift` pixels either way, 0 comes in (torchvision's RandomCrop with padding) */
    GRD_CROP_RESIZED /* a box of crop_scale to 1 of the area, 3/4 to 4/3 times as wide, resized (RandomResizedCrop) */
} grd_crop;

/* What is done to training images, each anew in every epoch. Zeroed: nothing. */
typedef struct grd_augment {
    int crop; /* grd_crop */
    int64_t shift;
    double crop_scale;
    bool hflip;                               /* left and right, every second image */
    double brightness, contrast, saturation; /* factors of 1 - x to 1 + x */
    double hue;                              /* turned by up to that part of the circle, in YIQ */
    double erase;         /* probability that a rectangle of 2 to 33% of the area gets the mean (RandomErasing) */
    double mixup, cutmix; /* the alpha of Beta(alpha, alpha); both: one of them, half and half; 0: not mixed */
} grd_augment;

/* ---- batches ---- */

/* Batches as a function of (seed, position): the same whatever the number of workers. */
typedef struct grd_image_loader grd_image_loader;

typedef struct grd_image_loader_options {
    size_t size;                  /* sizeof(grd_image_loader_options), or 0 for this version's */
    int64_t batch;                /* images in a batch; 0: 1 */
    grd_order order;              /* shuffled: each epoch a permutation of its own, every image once */
    uint64_t seed;
    const grd_augment *augment;   /* NULL: nothing is changed. Copied */
    int64_t first;                /* the batch that comes first */
    const float *erased;          /* [channels]: the colour of what is erased, before mean and deviation. Copied */
    int32_t workers;              /* threads that read ahead; 0: batches are made as they are asked for */
    const float *mean, *deviation; /* [channels]: pixels become (x - mean) / deviation; NULL: they stay. Copied */
} grd_image_loader_options;

typedef struct grd_image_batch {
    const float *pixels;         /* [batch,height,width,channels] */
    const int32_t *labels;       /* [batch] */
    const int32_t *other_labels; /* [batch]: of what the images were mixed with; without mixing the same as labels */
    float part;                  /* of the loss that belongs to `labels`, the rest to `other_labels` */
} grd_image_batch;

/* `images` must outlive the loader. Free with grd_image_loader_free(). */
GRD_API grd_status grd_image_loader_new(const grd_images *images, const grd_image_loader_options *options,
                                        grd_image_loader **loader, grd_error *error);
/* The next batch, owned by the loader and valid until the next call. */
GRD_API grd_status grd_image_loader_next(grd_image_loader *loader, grd_image_batch *batch, grd_error *error);
GRD_API void grd_image_loader_free(grd_image_loader *loader);

#ifdef __cplusplus
}
#endif
#endif
