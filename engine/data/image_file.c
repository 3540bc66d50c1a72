/* image_file.c - tells images apart by their first bytes, whatever they are called. */
#include "data/image_file.h"

#include <string.h>
#include <strings.h>

typedef struct signature {
    const char *bytes;
    size_t length, at;
    const char *what;
} signature;

static const signature others[] = {{"GIF8", 4, 0, "a GIF image"},   {"BM", 2, 0, "a BMP image"},
                                   {"II*\0", 4, 0, "a TIFF image"}, {"MM\0*", 4, 0, "a TIFF image"},
                                   {"WEBP", 4, 8, "a WebP image"},  {"ftyp", 4, 4, "a HEIC or AVIF image"}};

static bool begins(grdi_image_bytes file, const char *with, size_t length, size_t at)
{
    return file.size_bytes >= at + length && memcmp(file.bytes + at, with, length) == 0;
}

static bool is_jpeg(grdi_image_bytes file)
{
    return begins(file, "\xFF\xD8\xFF", 3, 0);
}

static bool is_png(grdi_image_bytes file)
{
    return begins(file, "\x89PNG\r\n\x1a\n", 8, 0);
}

static grd_status refuse(grdi_image_bytes file, grd_error *error)
{
    if (file.size_bytes == 0) return grd_fail(error, GRD_E_FORMAT, "%s: is empty", file.name);
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
        if (begins(file, others[i].bytes, others[i].length, others[i].at))
            return grd_fail(error, GRD_E_FORMAT, "%s: is %s (convert it to JPEG or PNG)", file.name, others[i].what);
    return grd_fail(error, GRD_E_FORMAT, "%s: is no image (it begins neither as JPEG nor as PNG)", file.name);
}

grd_status grdi_image_look(grdi_image_bytes file, grdi_image_about *about, grd_error *error)
{
    grd_status status = is_jpeg(file)  ? grdi_jpeg_look(file, about, error)
                        : is_png(file) ? grdi_png_look(file, about, error)
                                       : refuse(file, error);
    if (!status && about->height * about->width > GRDI_IMAGE_PIXELS_MAX)
        status =
            grd_fail(error, GRD_E_FORMAT, "%s: has %lldx%lld pixels, more than %lld in all (make it smaller)",
                     file.name, (long long)about->height, (long long)about->width, (long long)GRDI_IMAGE_PIXELS_MAX);
    return status;
}

grd_status grdi_image_decode(grdi_image_bytes file, grdi_image_wish *wish, grdi_room *room, grdi_pixels *pixels,
                             grd_error *error)
{
    if (is_jpeg(file)) return grdi_jpeg_decode(file, wish, room, pixels, error);
    if (is_png(file)) return grdi_png_decode(file, wish, room, pixels, error);
    return refuse(file, error);
}

bool grdi_image_named(const char *name)
{
    const char *dot = strrchr(name, '.');
    return dot && dot > name &&
           (strcasecmp(dot, ".jpg") == 0 || strcasecmp(dot, ".jpeg") == 0 || strcasecmp(dot, ".png") == 0);
}
