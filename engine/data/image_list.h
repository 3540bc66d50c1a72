/* image_list.h - image files of folders, and the classes that folders stand for. */
#ifndef GRDI_IMAGE_LIST_H
#define GRDI_IMAGE_LIST_H

#include <gradus/images.h>

/* One image file. */
typedef struct grdi_image_file {
    char *path;
    int32_t label;
    int32_t height, width, channels; /* once it was looked at */
    uint8_t *pixels; /* decoded, in the channels that batches have; NULL: it is decoded whenever it is needed */
} grdi_image_file;

typedef struct grdi_image_list {
    grdi_image_file *files; /* by class, and by path in each */
    size_t count, capacity;
    char **names; /* of classes, sorted bytewise */
    size_t class_count;
    int64_t others; /* files that are not named as images */
} grdi_image_list;

/* Whether sub-folders of `path` (or of path/train) hold images, and most of the files there are. */
bool grdi_image_folder_found(const char *path);
/* The training or validation images of a folder: of its folders train/ and val/ (valid/, validation/, test/), else of
 * its own sub-folders, in each of which every image is for validation with the probability `validation_part`, by seed
 * (at least one and not all of them, from two on). With `names`, what was trained before, classes are those; a folder
 * of another name is refused. With `all`, no image is left out for the other part. GRD_E_FORMAT: no classes, one class,
 * a class without images. GRD_E_IO: no such part. */
grd_status grdi_image_list_open(grdi_image_list *list, const char *folder, grd_part part,
                                const grd_image_folder_options *options, grd_error *error);
/* One file, or all images in and below a folder, without classes. */
grd_status grdi_image_list_files(grdi_image_list *list, const char *path, grd_error *error);
void grdi_image_list_free(grdi_image_list *list);

#endif
