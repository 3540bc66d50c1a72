/* images.c - sets of images, wherever they come from: one image, and what all of them are like. */
#include "data/images.h"

#include "base/file.h"
#include "base/memory.h"
#include "data/image_file.h"

#include <math.h>
#include <string.h>

enum { MEASURED = 2000, CHANNELS_MAX = 256 };

void grdi_image_rooms_free(grdi_image_rooms *rooms)
{
    grdi_view_rooms_free(&rooms->view);
    grdi_free(rooms->pixels.bytes);
}

grd_images_info grd_images_about(const grd_images *images)
{
    return images->info;
}

int32_t grd_images_label(const grd_images *images, int64_t index)
{
    if (images->list.files) return images->list.files[index].label;
    return images->labels ? images->labels[index] : -1;
}

const char *grd_images_path(const grd_images *images, int64_t index)
{
    return images->list.files ? images->list.files[index].path : NULL;
}

const char *grd_images_class_name(const grd_images *images, int64_t class_number)
{
    bool known = class_number >= 0 && class_number < (int64_t)images->list.class_count;
    return known ? images->list.names[class_number] : NULL;
}

bool grd_images_note(const grd_images *images, int32_t index, char *line, size_t size_bytes)
{
    int32_t at = 0;
    long long others = images->list.others, damaged = images->damaged;
    if (others && index == at++) {
        snprintf(line, size_bytes, "%lld file%s left out, being neither .jpg, .jpeg nor .png", others,
                 others > 1 ? "s are" : " is");
        return true;
    }
    if (damaged && index == at) {
        snprintf(line, size_bytes, "%lld image%s left out, the first: %s", damaged, damaged > 1 ? "s are" : " is",
                 images->first_damaged);
        return true;
    }
    return false;
}

bool grdi_images_skip(const grd_images *images)
{
    return images->skip;
}

int64_t grdi_images_values(const grd_images *images)
{
    return images->info.height * images->info.width * images->info.channels;
}

void grdi_images_size(const grd_images *images, int64_t index, int64_t *height, int64_t *width)
{
    *height = images->info.height, *width = images->info.width;
    if (!images->list.files) return;
    *height = images->list.files[index].height, *width = images->list.files[index].width;
}

grdi_view grdi_images_middle(const grd_images *images, int64_t index)
{
    int64_t height, width;
    grdi_images_size(images, index, &height, &width);
    double part = images->middle > 0 ? images->middle : 1;
    return grdi_view_middle(height, width, images->info.height, images->info.width, part);
}

/* ---- one image ---- */

static grd_status decode(const grd_images *images, const grdi_image_file *f, grdi_view *view, grdi_pixels *pixels,
                         grdi_image_rooms *rooms, grd_error *error)
{
    grdi_mapping file;
    grdi_image_wish wish = {images->info.channels, images->info.height, images->info.width, view->box};
    grd_status status = grdi_file_map(f->path, &file, error);
    if (status) return status;
    grdi_image_bytes bytes = {file.data, file.size_bytes, f->path};
    status = grdi_image_decode(bytes, &wish, &rooms->pixels, pixels, error);
    grdi_file_unmap(&file);
    view->box = wish.box;
    return status;
}

/* The pixels of image `index`, or as many of them as the view needs, which is then in their terms. */
static grd_status find_pixels(const grd_images *images, int64_t index, grdi_view *view, grdi_pixels *pixels,
                              grdi_image_rooms *rooms, grd_error *error)
{
    const grd_images_info *info = &images->info;
    const grdi_image_file *f = images->list.files ? &images->list.files[index] : NULL;
    if (!f)
        *pixels = (grdi_pixels){images->pixels + index * grdi_images_values(images), info->height, info->width,
                                info->channels};
    else if (f->pixels) *pixels = (grdi_pixels){f->pixels, f->height, f->width, info->channels};
    else return decode(images, f, view, pixels, rooms, error);
    return GRD_OK;
}

grd_status grdi_images_draw(const grd_images *images, int64_t index, const grdi_view *view, const float *erased,
                            float *to, grdi_image_rooms *rooms, grd_error *error)
{
    const grd_images_info *info = &images->info;
    grdi_view own = *view;
    grdi_pixels from;
    grd_status status = find_pixels(images, index, &own, &from, rooms, error);
    if (status) return status;
    status = grdi_view_draw(&own, from, info->height, info->width, erased, to, &rooms->view);
    return status ? grd_fail(error, status, "out of memory for an image") : GRD_OK;
}

grd_status grd_images_get(const grd_images *images, int64_t index, float *pixels, grd_error *error)
{
    grdi_image_rooms rooms = {.view = {{0}}};
    grdi_view view = grdi_images_middle(images, index);
    grd_status status = grdi_images_draw(images, index, &view, NULL, pixels, &rooms, error);
    grdi_image_rooms_free(&rooms);
    return status;
}

/* ---- statistics ---- */

/* Of images that lie in memory, by counting values. */
static void count_values(const grd_images *images, double *mean, double *deviation)
{
    int64_t channels = images->info.channels, each = images->info.count * grdi_images_values(images) / channels;
    for (int64_t c = 0; c < channels; c++) {
        int64_t counts[256] = {0};
        for (int64_t i = 0; i < each; i++) counts[images->pixels[i * channels + c]]++;
        double sum = 0, square = 0;
        for (int v = 0; v < 256; v++) sum += v / 255.0 * (double)counts[v] / (double)each;
        for (int v = 0; v < 256; v++) square += pow(v / 255.0 - sum, 2) * (double)counts[v] / (double)each;
        mean[c] = sum, deviation[c] = sqrt(square);
    }
}

/* Of files: MEASURED of them, spread evenly, as tests see them. Sums of each image, so that threads do not matter. */
static grd_status measure(const grd_images *images, float *pixels, double *mean, double *deviation, grd_error *error)
{
    int64_t channels = images->info.channels, values = grdi_images_values(images), count = images->info.count;
    int64_t taken = count < MEASURED ? count : MEASURED, used = 0;
    double square[CHANNELS_MAX] = {0};
    memset(mean, 0, (size_t)channels * sizeof(double));
    for (int64_t i = 0; i < taken; i++) {
        grd_error problem = {GRD_OK, ""};
        grd_status status = grd_images_get(images, i * count / taken, pixels, &problem);
        if (status == GRD_E_FORMAT && images->skip) continue;
        if (status) return grd_fail(error, status, "%s", problem.message);
        for (int64_t k = 0; k < values; k++) {
            mean[k % channels] += pixels[k];
            square[k % channels] += (double)pixels[k] * pixels[k];
        }
        used++;
    }
    double each = (double)(used ? used : 1) * (double)(values / channels);
    for (int64_t c = 0; c < channels; c++) {
        mean[c] /= each;
        deviation[c] = sqrt(fmax(square[c] / each - mean[c] * mean[c], 0));
    }
    return GRD_OK;
}

grd_status grd_images_statistics(const grd_images *images, double *mean, double *deviation, grd_error *error)
{
    if (!images->list.files) {
        count_values(images, mean, deviation);
        return GRD_OK;
    }
    float *pixels = grdi_alloc((size_t)grdi_images_values(images) * sizeof(float));
    if (!pixels) return grd_fail(error, GRD_E_MEMORY, "out of memory for an image");
    grd_status status = measure(images, pixels, mean, deviation, error);
    grdi_free(pixels);
    return status;
}

grd_images *grdi_images_borrow(const grd_images *from, int64_t height, int64_t width)
{
    grd_images *images = grdi_alloc(sizeof(*images));
    if (!images) return NULL;
    *images = *from;
    images->borrowed = true;
    if (from->list.files && height > 0) images->info.height = height;
    if (from->list.files && width > 0) images->info.width = width;
    return images;
}

void grd_images_free(grd_images *images)
{
    if (!images) return;
    if (!images->borrowed) {
        grdi_image_list_free(&images->list);
        grdi_free(images->pixels);
        grdi_free(images->labels);
    }
    grdi_free(images);
}
