/* view.c - which part of an image is taken and what is done to it, at random but as a function of seed and position. */
#include "base/random.h"
#include "data/image.h"

#include <math.h>

enum { TRIES = 10 };

/* Random numbers of one position, one after the other. */
typedef struct dice {
    uint64_t seed, position, stream, next;
} dice;

static double roll(dice *d)
{
    return grdi_unit(grdi_random_u32(d->seed, d->position, d->stream, d->next++));
}

static double between(dice *d, double low, double high)
{
    return low + (high - low) * roll(d);
}

static double fraction(double x, double most)
{
    return x < 0 ? 0 : x > most ? most : x;
}

/* ---- boxes ---- */

/* The largest box in the shape of the target, in the middle, and `part` of its sides. */
static grdi_box middle(int64_t height, int64_t width, int64_t to_height, int64_t to_width, double part)
{
    double scale = fmin((double)height / (double)to_height, (double)width / (double)to_width) * part;
    double h = (double)to_height * scale, w = (double)to_width * scale;
    return (grdi_box){((double)height - h) / 2, ((double)width - w) / 2, h, w};
}

/* A box of `scale` to 1 of the image's area and of 3/4 to 4/3 times the target's shape, anywhere in it (Szegedy et al.
 * 2015); where none is found, the middle. */
static grdi_box any_box(dice *d, double scale, int64_t height, int64_t width, int64_t to_height, int64_t to_width)
{
    double shape = (double)to_width / (double)to_height, area = (double)height * (double)width;
    for (int i = 0; i < TRIES; i++) {
        double taken = area * between(d, scale, 1), stretch = exp(between(d, log(3.0 / 4), log(4.0 / 3)));
        double w = round(sqrt(taken * shape * stretch)), h = round(sqrt(taken / (shape * stretch)));
        double y = roll(d), x = roll(d);
        if (w < 1 || h < 1 || w > (double)width || h > (double)height) continue;
        return (grdi_box){floor(y * ((double)height - h + 1)), floor(x * ((double)width - w + 1)), h, w};
    }
    return middle(height, width, to_height, to_width, 1);
}

grdi_view grdi_view_middle(int64_t height, int64_t width, int64_t to_height, int64_t to_width, double part)
{
    return (grdi_view){
        .box = middle(height, width, to_height, to_width, part), .brightness = 1, .contrast = 1, .saturation = 1};
}

/* A rectangle of 2 to 33 percent of the area, from 0.3 to 3.3 times as high as wide (Zhong et al. 2017). */
static void choose_erased(grdi_view *v, dice *d, int64_t to_height, int64_t to_width)
{
    for (int i = 0; i < TRIES; i++) {
        double area = (double)(to_height * to_width) * between(d, 0.02, 0.33);
        double shape = exp(between(d, log(0.3), log(3.3)));
        int64_t h = (int64_t)round(sqrt(area * shape)), w = (int64_t)round(sqrt(area / shape));
        double y = roll(d), x = roll(d);
        if (h < 1 || w < 1 || h >= to_height || w >= to_width) continue;
        v->erase_height = h, v->erase_width = w;
        v->erase_top = (int64_t)(y * (double)(to_height - h + 1));
        v->erase_left = (int64_t)(x * (double)(to_width - w + 1));
        return;
    }
}

grdi_view grdi_view_random(const grd_augment *a, uint64_t seed, int64_t position, int64_t height, int64_t width,
                           int64_t to_height, int64_t to_width)
{
    dice d = {seed, (uint64_t)position, grdi_hash_text("images/view"), 0};
    grdi_view v = grdi_view_middle(height, width, to_height, to_width, 1);
    if (a->crop == GRD_CROP_RESIZED) v.box = any_box(&d, a->crop_scale, height, width, to_height, to_width);
    if (a->crop == GRD_CROP_SHIFT) {
        v.down = (int64_t)floor(roll(&d) * (double)(2 * a->shift + 1)) - a->shift;
        v.right = (int64_t)floor(roll(&d) * (double)(2 * a->shift + 1)) - a->shift;
    }
    if (a->hflip) v.hflip = roll(&d) < 0.5;
    if (a->brightness > 0) v.brightness = between(&d, fmax(0, 1 - a->brightness), 1 + a->brightness);
    if (a->contrast > 0) v.contrast = between(&d, fmax(0, 1 - a->contrast), 1 + a->contrast);
    if (a->saturation > 0) v.saturation = between(&d, fmax(0, 1 - a->saturation), 1 + a->saturation);
    if (a->hue > 0) v.hue = between(&d, -a->hue, a->hue);
    if (a->erase > 0 && roll(&d) < a->erase) choose_erased(&v, &d, to_height, to_width);
    return v;
}

/* ---- two images ---- */

/* Beta(a, a) by Jöhnk's way, which takes few tries for a of at most 1. */
static double beta(dice *d, double a)
{
    for (int i = 0; i < 100 * TRIES; i++) {
        double x = pow(roll(d), 1 / a), y = pow(roll(d), 1 / a);
        if (x + y <= 1 && x + y > 0) return x / (x + y);
    }
    return 0.5;
}

grdi_mix grdi_mix_random(const grd_augment *a, uint64_t seed, int64_t batch, int64_t height, int64_t width)
{
    dice d = {seed, (uint64_t)batch, grdi_hash_text("images/mix"), 0};
    grdi_mix m = {.part = 1};
    if (a->mixup <= 0 && a->cutmix <= 0) return m;
    bool cut = a->mixup <= 0 || (a->cutmix > 0 && roll(&d) < 0.5);
    m.part = beta(&d, cut ? a->cutmix : a->mixup);
    if (!cut) return m;
    double side = sqrt(1 - m.part), y = roll(&d) * (double)height, x = roll(&d) * (double)width;
    double h = side * (double)height / 2, w = side * (double)width / 2;
    m.top = (int64_t)fraction(y - h, (double)height), m.left = (int64_t)fraction(x - w, (double)width);
    m.height = (int64_t)fraction(y + h, (double)height) - m.top;
    m.width = (int64_t)fraction(x + w, (double)width) - m.left;
    m.part = 1 - (double)(m.height * m.width) / (double)(height * width);
    if (m.width == 0) m.height = 0;
    return m;
}
