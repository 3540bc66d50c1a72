/* check_images.c - labelled images: the same ones twice, labels that do not fit, values out of range. */
#include "train/check_set.h"

#include "base/file.h"
#include "base/memory.h"

#include <math.h>
#include <string.h>
#include <xxhash.h>

#define OVERLAP_MOST 0.01 /* of the test images */
#define BLANK_MOST 0.01   /* of the images */

/* What one pass over all images gathers. */
typedef struct gathered {
    grdi_hashes known;  /* training images, with the label that they came with first */
    int64_t *counts[2]; /* by part and label */
    int64_t repeated, conflicts, common, blank, changes;
    float least, most;
    float *pixels;
} gathered;

static grd_status out_of_memory(const grdi_checker *c)
{
    return grd_fail(c->error, GRD_E_MEMORY, "out of memory for a check of the images");
}

/* Of the file, where there is one: decoding takes far longer than reading. */
static grd_status hash_image(const grd_images *images, int64_t i, const float *pixels, size_t bytes, uint64_t *hash,
                             grd_error *error)
{
    const char *path = grd_images_path(images, i);
    grdi_mapping file;
    if (!path) {
        *hash = XXH3_64bits(pixels, bytes);
        return GRD_OK;
    }
    grd_status status = grdi_file_map(path, &file, error);
    if (status) return status;
    *hash = XXH3_64bits(file.data, file.size_bytes);
    grdi_file_unmap(&file);
    return GRD_OK;
}

static void look_at_pixels(gathered *g, int64_t size)
{
    float least = g->pixels[0], most = g->pixels[0];
    for (int64_t k = 1; k < size; k++) {
        least = fminf(least, g->pixels[k]);
        most = fmaxf(most, g->pixels[k]);
    }
    g->blank += least == most;
    g->least = fminf(g->least, least);
    g->most = fmaxf(g->most, most);
}

static grd_status gather(grdi_checker *c, gathered *g, const grd_images *images, int part)
{
    const grd_images_info info = grd_images_about(images);
    int64_t size = info.height * info.width * info.channels;
    int32_t before = -1;
    for (int64_t i = 0; i < info.count; i++) {
        uint64_t hash;
        if (i % 1024 == 0 && grdi_check_stopped(c)) return GRD_E_STOPPED;
        bool decode = !grd_images_path(images, i);
        int32_t label = grd_images_label(images, i);
        grd_status status = decode ? grd_images_get(images, i, g->pixels, c->error) : GRD_OK;
        if (!status) status = hash_image(images, i, g->pixels, (size_t)size * sizeof(float), &hash, c->error);
        if (status) return status;
        if (decode) look_at_pixels(g, size);
        if (label >= 0) g->counts[part][label]++;
        if (part) {
            g->common += grdi_hashes_find(&g->known, hash) >= 0;
            continue;
        }
        g->changes += i > 0 && label != before;
        before = label;
        int64_t first = grdi_hashes_note(&g->known, hash, label);
        if (first == -2) return out_of_memory(c);
        g->repeated += first >= 0;
        g->conflicts += first >= 0 && first != label;
    }
    return GRD_OK;
}

static const char *label_name(const void *context, int64_t label, char text[32])
{
    const char *name = grd_images_class_name(context, label);
    if (name) return name;
    snprintf(text, 32, "%lld", (long long)label);
    return text;
}

static void tell(grdi_checker *c, const gathered *g, const grd_images *const images[2], const grd_settings *settings)
{
    const grd_images_info info = grd_images_about(images[0]);
    const int64_t *const counts[2] = {g->counts[0], images[1] ? g->counts[1] : NULL};
    int64_t tests = images[1] ? grd_images_about(images[1]).count : 0;
    if (tests) grdi_check_overlap(c, g->common, tests, "test images", OVERLAP_MOST);
    grdi_check_conflicts(c, g->conflicts, g->repeated, info.count, "training images");
    grdi_check_balance(c, counts, settings->model.classes, label_name, images[0]);
    if (settings->data.order == GRD_ORDER_SEQUENTIAL)
        grdi_check_order(c, g->counts[0], settings->model.classes, g->changes);
    if (g->most < g->least) return; /* files that were not decoded */
    bool tiny = g->most <= 2.0f / 255, blank = (double)g->blank > BLANK_MOST * (double)(info.count + tests);
    grdi_check_result(c, "values", !tiny && !blank,
                      tiny ? "look at how the images were written: values of 0 to 1 became bytes of 0 and 1"
                           : "look at these images: they may have been cut off or not been read",
                      "values from %.3g to %.3g (1 is a byte of 255), %lld of %lld images are of one colour", g->least,
                      g->most, (long long)g->blank, (long long)(info.count + tests));
}

/* ---- labels that belong to the image before or after ---- */

enum { ALIGNED = 2000, FEATURES = 784, SHIFTS = 3 };
#define BETTER 0.15 /* more of the images right than with the labels as they are */

typedef struct centroids {
    float *mean; /* [classes][features] */
    int64_t *counts;
    int64_t classes, features, step; /* every step-th value of an image is looked at */
} centroids;

static int64_t nearest(const centroids *z, const float *pixels)
{
    int64_t best = 0;
    double least = INFINITY;
    for (int64_t k = 0; k < z->classes; k++) {
        double sum = 0;
        for (int64_t f = 0; f < z->features && z->counts[k]; f++) {
            double d = pixels[f * z->step] - z->mean[k * z->features + f];
            sum += d * d;
        }
        if (!z->counts[k] || sum >= least) continue;
        least = sum;
        best = k;
    }
    return best;
}

/* The part of `count` images in the middle of the set that the nearest class mean of those before tells, when image i
 * has the label of image i + shift. */
static grd_status told(grdi_checker *c, const grd_images *images, centroids *z, float *pixels, int64_t count,
                       int64_t shift, double *part)
{
    int64_t right = 0;
    memset(z->mean, 0, (size_t)(z->classes * z->features) * sizeof(float));
    memset(z->counts, 0, (size_t)z->classes * sizeof(int64_t));
    for (int64_t i = 1; i <= 2 * count; i++) {
        grd_status status = grd_images_get(images, i, pixels, c->error);
        int32_t label = grd_images_label(images, i + shift);
        if (status || label < 0) return status;
        if (i > count) {
            right += nearest(z, pixels) == label;
            continue;
        }
        float weight = 1.0f / (float)++z->counts[label];
        for (int64_t f = 0; f < z->features; f++) {
            float *mean = &z->mean[label * z->features + f];
            *mean += weight * (pixels[f * z->step] - *mean);
        }
    }
    *part = (double)right / (double)count;
    return GRD_OK;
}

/* ---- labels of the tests that are other ones than those of training ---- */

enum { TOLD_LEAST = 20 };
#define TOLD_WELL 0.5 /* of a class's training images that were kept back */
#define TOLD_LESS 0.5 /* times that part */

/* How many of `count` images, from `first` on every `step`-th, are of each class, and how many the class means tell. */
static grd_status count_told(grdi_checker *c, const grd_images *images, const centroids *z, float *pixels,
                             int64_t first, int64_t count, int64_t step, int64_t *right, int64_t *all)
{
    for (int64_t i = 0; i < count; i++) {
        int32_t label = grd_images_label(images, first + i * step);
        grd_status status = grd_images_get(images, first + i * step, pixels, c->error);
        if (status) return status;
        if (label < 0 || label >= z->classes) continue;
        all[label]++;
        right[label] += nearest(z, pixels) == label;
    }
    return GRD_OK;
}

static void tell_tests(grdi_checker *c, const grd_images *images, int64_t *const right[2], int64_t *const all[2],
                       int64_t classes)
{
    int64_t worst = -1, judged = 0;
    double least = INFINITY;
    for (int64_t k = 0; k < classes; k++) {
        if (all[0][k] < TOLD_LEAST || all[1][k] < TOLD_LEAST) continue;
        double known = (double)right[0][k] / (double)all[0][k], tested = (double)right[1][k] / (double)all[1][k];
        if (known < TOLD_WELL) continue;
        judged++;
        if (tested / known >= least) continue;
        least = tested / known;
        worst = k;
    }
    char text[32];
    if (worst < 0) return;
    grdi_check_result(c, "test_labels", least >= TOLD_LESS,
                      "look at how the labels and images of the tests were made: they are other ones than training's",
                      "of class %s the nearest class mean tells %.1f%% of training images that it has not seen, and "
                      "%.1f%% of test images (the worst of %lld classes that it tells well)",
                      label_name(images, worst, text), 100.0 * (double)right[0][worst] / (double)all[0][worst],
                      100.0 * (double)right[1][worst] / (double)all[1][worst], (long long)judged);
}

/* Means of the first `count` images are in `z`; those behind them are compared with the tests. */
static grd_status check_tests(grdi_checker *c, const grd_images *const images[2], const centroids *z, float *pixels,
                              int64_t count)
{
    int64_t tests = images[1] ? grd_images_about(images[1]).count : 0, step = tests / ALIGNED + 1;
    int64_t *counts = grdi_alloc_zero((size_t)z->classes * 4, sizeof(int64_t));
    if (!counts) return out_of_memory(c);
    int64_t *const right[2] = {counts, counts + z->classes};
    int64_t *const all[2] = {counts + 2 * z->classes, counts + 3 * z->classes};
    grd_status status = count_told(c, images[0], z, pixels, count + 1, count, 1, right[0], all[0]);
    if (!status) status = count_told(c, images[1], z, pixels, 0, tests / step, step, right[1], all[1]);
    if (!status) tell_tests(c, images[0], right, all, z->classes);
    grdi_free(counts);
    return status;
}

static grd_status check_alignment(grdi_checker *c, const grd_images *const both[2], int64_t classes)
{
    const grd_images *images = both[0];
    const grd_images_info info = grd_images_about(images);
    int64_t size = info.height * info.width * info.channels, count = (info.count - 2) / 2;
    if (count > ALIGNED) count = ALIGNED;
    if (count < 20 * classes || grd_images_path(images, 0)) return GRD_OK; /* files have their label in their path */
    centroids z = {.classes = classes, .step = size / FEATURES > 1 ? size / FEATURES : 1};
    z.features = size / z.step;
    z.mean = grdi_alloc((size_t)(classes * z.features) * sizeof(float));
    z.counts = grdi_alloc((size_t)classes * sizeof(int64_t));
    float *pixels = grdi_alloc((size_t)size * sizeof(float));
    double part[SHIFTS] = {0};
    grd_status status = z.mean && z.counts && pixels ? GRD_OK : out_of_memory(c);
    static const int shifts[SHIFTS] = {-1, 1, 0}; /* its own labels last: their means are used further */
    for (int k = 0; k < SHIFTS && !status; k++)
        status = told(c, images, &z, pixels, count, shifts[k], &part[shifts[k] + 1]);
    if (!status && both[1]) status = check_tests(c, both, &z, pixels, count);
    grdi_free(z.mean);
    grdi_free(z.counts);
    grdi_free(pixels);
    if (status) return status;
    int other = part[0] > part[2] ? 0 : 2;
    grdi_check_result(c, "alignment", part[other] < part[1] + BETTER,
                      "look at how labels are paired with images: they fit a neighbour's image better",
                      "the nearest class mean tells %.1f%% of the labels, %.1f%% of those of the image before and "
                      "%.1f%% of the next one's",
                      100 * part[1], 100 * part[0], 100 * part[2]);
    return GRD_OK;
}

grd_status grdi_check_images(grdi_checker *c, const grd_images *const images[2], const grd_settings *settings)
{
    const grd_images_info info = grd_images_about(images[0]);
    gathered g = {.least = INFINITY, .most = -INFINITY};
    size_t classes = (size_t)settings->model.classes;
    g.pixels = grdi_alloc((size_t)(info.height * info.width * info.channels) * sizeof(float));
    g.counts[0] = grdi_alloc_zero(classes, sizeof(int64_t));
    g.counts[1] = grdi_alloc_zero(classes, sizeof(int64_t));
    grd_status status = g.pixels && g.counts[0] && g.counts[1] ? GRD_OK : out_of_memory(c);
    for (int part = 0; part < 2 && !status; part++)
        if (images[part]) status = gather(c, &g, images[part], part);
    if (!status) tell(c, &g, images, settings);
    if (!status) status = check_alignment(c, images, settings->model.classes);
    grdi_hashes_free(&g.known);
    grdi_free(g.pixels);
    grdi_free(g.counts[0]);
    grdi_free(g.counts[1]);
    return status;
}
