/* image_sets.c - images by a run's settings. */
#include "generate/image_sets.h"

#include "base/file.h"

#include <string.h>

/* Tests of a network that was trained on random boxes look at the middle, as ImageNet's do (224 of 256). */
#define MIDDLE_OF_CROPPED 0.875

bool grdi_settings_of_images(const grd_settings *settings)
{
    return settings->data.kind == GRD_DATA_IDX || settings->data.kind == GRD_DATA_IMAGES;
}

static grd_image_folder_options folder_options(const grd_settings *s, const grdi_classifier_about *known,
                                               int32_t threads)
{
    grd_image_folder_options o = {.size = sizeof(o),
                                  .height = s->data.height,
                                  .width = s->data.width,
                                  .channels = s->data.channels,
                                  .validation_part = s->data.validation_part,
                                  .seed = (uint64_t)s->train.seed,
                                  .middle = s->augment.crop == GRD_CROP_RESIZED ? MIDDLE_OF_CROPPED : 1,
                                  .skip_damaged = s->data.on_bad == GRD_BAD_SKIP,
                                  .threads = threads};
    if (!known) return o;
    if (known->height) o.height = known->height, o.width = known->width, o.channels = known->channels;
    if (known->names) o.class_names = (const char *const *)known->names, o.class_count = known->classes;
    return o;
}

grd_status grdi_image_set_open(const grd_settings *s, grd_part part, const grdi_classifier_about *known,
                               int32_t threads, grd_images **images, grd_error *error)
{
    if (s->data.kind == GRD_DATA_IDX) return grd_idx_open(s->data.path, part, images, error);
    const grd_image_folder_options options = folder_options(s, known, threads);
    return grd_image_folder_open(s->data.path, part, &options, images, error);
}

grd_status grdi_image_set_open_tests(const grd_settings *s, const char *path, const grdi_classifier_about *known,
                                     int32_t threads, grd_images **images, grd_error *error)
{
    if (grd_idx_found(path)) return grd_idx_open(path, GRD_VALIDATION, images, error);
    if (!known->names)
        return grd_fail(error, GRD_E_FORMAT, "%s: holds no IDX files, which the model was trained on", path);
    grd_image_folder_options options = folder_options(s, known, threads);
    options.all = true;
    return grd_image_folder_open(path, GRD_VALIDATION, &options, images, error);
}

/* JPEG files begin with ff d8, PNG files with 89 50. */
static bool begins_as_image(const char *path)
{
    grdi_mapping file;
    if (!grdi_path_is_file(path) || grdi_file_map(path, &file, NULL)) return false;
    bool is = file.size_bytes > 1 && (!memcmp(file.data, "\xFF\xD8", 2) || !memcmp(file.data, "\x89P", 2));
    grdi_file_unmap(&file);
    return is;
}

static bool begins_as_idx(const char *path)
{
    grdi_mapping file;
    if (!grdi_path_is_file(path) || grdi_file_map(path, &file, NULL)) return false;
    bool is = file.size_bytes > 1 && (!memcmp(file.data, "\0\0", 2) || !memcmp(file.data, "\x1f\x8b", 2));
    grdi_file_unmap(&file);
    return is;
}

grd_status grdi_image_set_open_inputs(const grd_settings *s, const char *path, const grdi_classifier_about *known,
                                      int32_t threads, grd_images **images, grd_error *error)
{
    bool idx = s->data.kind == GRD_DATA_IDX;
    if (grdi_path_is_directory(path) && (grd_idx_found(path) || (idx && !grd_image_folder_found(path))))
        return grd_idx_open(path, GRD_VALIDATION, images, error);
    if (grdi_path_is_file(path) && (idx ? !begins_as_image(path) : begins_as_idx(path)))
        return grd_idx_open_images(path, images, error);
    if (known->height == 0)
        return grd_fail(error, GRD_E_FORMAT, "the checkpoint does not say what size its images have (train it again)");
    const grd_image_folder_options options = folder_options(s, known, threads);
    return grd_image_files_open(path, &options, images, error);
}
