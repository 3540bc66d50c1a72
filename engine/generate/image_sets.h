/* image_sets.h - the images that a run's settings name. */
#ifndef GRDI_IMAGE_SETS_H
#define GRDI_IMAGE_SETS_H

#include "generate/classifier.h"

/* Whether the settings are of images, IDX files or folders. */
bool grdi_settings_of_images(const grd_settings *settings);
/* A part of the images of data.path. `known` (may be NULL): a trained model's size and classes. Without it they come
 * from the settings or, where these say nothing, from the images. */
grd_status grdi_image_set_open(const grd_settings *settings, grd_part part, const grdi_classifier_about *known,
                               int32_t threads, grd_images **images, grd_error *error);
/* Test images at another place: IDX files, a folder with parts, or one of classes, of which all images are tests. */
grd_status grdi_image_set_open_tests(const grd_settings *settings, const char *path, const grdi_classifier_about *known,
                                     int32_t threads, grd_images **images, grd_error *error);
/* Images without labels: an IDX file or the tests of a folder of such, an image file, or all images below a folder. */
grd_status grdi_image_set_open_inputs(const grd_settings *settings, const char *path,
                                      const grdi_classifier_about *known, int32_t threads, grd_images **images,
                                      grd_error *error);

#endif
