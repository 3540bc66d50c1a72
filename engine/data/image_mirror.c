/* image_mirror.c - whether images may be mirrored: a digit becomes another sign, a shirt stays one. */
#include "base/memory.h"
#include "data/images.h"

#include <float.h>
#include <string.h>

enum { LOOKED_AT = 2000, VALUES_MAX = 1 << 14, CLASSES_MAX = 1000 };

/* The images looked at, and the mean of each class of them. */
typedef struct gallery {
    const grd_images *images;
    int64_t count, values, classes;
    float *pixels, *means; /* [count][values], [classes][values] */
    int64_t *of_class;     /* images in it */
} gallery;

static int64_t index_of(const gallery *g, int64_t i)
{
    return i * g->images->info.count / g->count;
}

static grd_status fill(gallery *g, grd_error *error)
{
    for (int64_t i = 0; i < g->count; i++) {
        float *pixels = g->pixels + i * g->values;
        int32_t label = grd_images_label(g->images, index_of(g, i));
        grd_status status = grd_images_get(g->images, index_of(g, i), pixels, error);
        if (status) return status;
        g->of_class[label]++;
        for (int64_t k = 0; k < g->values; k++) g->means[label * g->values + k] += pixels[k];
    }
    for (int64_t i = 0; i < g->classes * g->values; i++)
        if (g->of_class[i / g->values]) g->means[i] /= (float)g->of_class[i / g->values];
    return GRD_OK;
}

static double distance(const gallery *g, const float *pixels, int64_t label, bool mirrored)
{
    const float *mean = g->means + label * g->values;
    int64_t width = g->images->info.width, channels = g->images->info.channels;
    double sum = 0;
    for (int64_t at = 0; at < g->values; at += width * channels)
        for (int64_t x = 0; x < width; x++)
            for (int64_t c = 0; c < channels; c++) {
                int64_t from = mirrored ? width - 1 - x : x;
                float d = pixels[at + from * channels + c] - mean[at + x * channels + c];
                sum += d * d;
            }
    return sum;
}

static double part_right(const gallery *g, bool mirrored)
{
    int64_t right = 0;
    for (int64_t i = 0; i < g->count; i++) {
        double least = DBL_MAX;
        int64_t best = 0;
        for (int64_t c = 0; c < g->classes; c++) {
            double d = g->of_class[c] ? distance(g, g->pixels + i * g->values, c, mirrored) : DBL_MAX;
            if (d < least) least = d, best = c;
        }
        right += best == grd_images_label(g->images, index_of(g, i));
    }
    return (double)right / (double)g->count;
}

grd_status grd_images_mirrored(const grd_images *images, double *plain, double *mirrored, grd_error *error)
{
    gallery g = {images, images->info.count, grdi_images_values(images), images->info.classes, NULL, NULL, NULL};
    if (g.count > LOOKED_AT) g.count = LOOKED_AT;
    *plain = 1, *mirrored = 0;
    if (g.values > VALUES_MAX || g.classes > CLASSES_MAX || g.classes < 1) return GRD_OK; /* not worth its time */
    g.pixels = grdi_alloc((size_t)(g.count * g.values) * sizeof(float));
    g.means = grdi_alloc_zero((size_t)(g.classes * g.values), sizeof(float));
    g.of_class = grdi_alloc_zero((size_t)g.classes, sizeof(int64_t));
    grd_status status =
        g.pixels && g.means && g.of_class ? fill(&g, error) : grd_fail(error, GRD_E_MEMORY, "out of memory for images");
    if (!status) *plain = part_right(&g, false), *mirrored = part_right(&g, true);
    grdi_free(g.pixels);
    grdi_free(g.means);
    grdi_free(g.of_class);
    return status;
}
