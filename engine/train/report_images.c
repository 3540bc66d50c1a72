/* report_images.c - what a classifier's report shows beside the rest: which classes it takes for which, and the images
 * that it gets most wrong, to be looked at. */
#include "train/report_images.h"

#include "base/memory.h"
#include "data/image.h"
#include "train/report_html.h"

#include <math.h>
#include <string.h>
#include <zlib.h>

enum { SIDE_MOST = 96, TABLE_CLASSES = 30, PAIRS = 20 };

/* ---- pictures ---- */

static void put_base64(grdi_writer *w, const uint8_t *bytes, size_t size)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < size; i += 3) {
        size_t left = size - i;
        uint32_t v =
            (uint32_t)bytes[i] << 16 | (left > 1 ? (uint32_t)bytes[i + 1] << 8 : 0) | (left > 2 ? bytes[i + 2] : 0);
        char four[4] = {digits[v >> 18], digits[v >> 12 & 63], '=', '='};
        if (left > 1) four[2] = digits[v >> 6 & 63];
        if (left > 2) four[3] = digits[v & 63];
        grdi_writer_put(w, four, 4);
    }
}

static uint8_t *put_whole(uint8_t *to, uint32_t value)
{
    for (int i = 0; i < 4; i++) *to++ = (uint8_t)(value >> (24 - 8 * i));
    return to;
}

static uint8_t *put_chunk(uint8_t *to, const char *kind, const uint8_t *data, size_t size)
{
    to = put_whole(to, (uint32_t)size);
    memcpy(to, kind, 4);
    if (size) memcpy(to + 4, data, size);
    uint32_t sum = (uint32_t)crc32(0, to, (uInt)(size + 4));
    return put_whole(to + 4 + size, sum);
}

/* A PNG file (ISO/IEC 15948) of 8 bits a channel, rows unfiltered; free with grdi_free(). NULL when out of memory. */
static uint8_t *png_of(grdi_pixels p, size_t *size)
{
    size_t row = (size_t)(p.width * p.channels), raw_size = (row + 1) * (size_t)p.height;
    uLongf packed_size = compressBound((uLong)raw_size);
    uint8_t *raw = grdi_alloc(raw_size), *packed = grdi_alloc(packed_size), *file = grdi_alloc(packed_size + 128);
    for (int64_t y = 0; raw && y < p.height; y++) {
        raw[(size_t)y * (row + 1)] = 0;
        memcpy(raw + (size_t)y * (row + 1) + 1, p.bytes + (size_t)y * row, row);
    }
    if (raw && packed && file && compress2(packed, &packed_size, raw, (uLong)raw_size, 9) == Z_OK) {
        uint8_t header[13] = {0}, *to = file;
        put_whole(put_whole(header, (uint32_t)p.width), (uint32_t)p.height);
        header[8] = 8, header[9] = p.channels == 3 ? 2 : 0;
        memcpy(to, "\x89PNG\r\n\x1a\n", 8);
        to = put_chunk(to + 8, "IHDR", header, sizeof(header));
        to = put_chunk(to, "IDAT", packed, packed_size);
        to = put_chunk(to, "IEND", NULL, 0);
        *size = (size_t)(to - file);
    } else {
        grdi_free(file);
        file = NULL;
    }
    grdi_free(raw);
    grdi_free(packed);
    return file;
}

/* Image `index` as tests see it, in bytes, and no larger than SIDE_MOST. */
static bool draw(const grd_images *images, int64_t index, float *values, uint8_t *bytes, grdi_pixels *small)
{
    grd_images_info info = grd_images_about(images);
    int64_t count = info.height * info.width * info.channels,
            most = info.height > info.width ? info.height : info.width;
    grd_error ignored = {GRD_OK, ""};
    if (grd_images_get(images, index, values, &ignored)) return false;
    for (int64_t i = 0; i < count; i++) bytes[i] = (uint8_t)(255 * values[i] + 0.5f);
    *small = (grdi_pixels){bytes, info.height, info.width, info.channels};
    if (most <= SIDE_MOST) return true;
    int64_t height = info.height * SIDE_MOST / most, width = info.width * SIDE_MOST / most;
    height = height ? height : 1, width = width ? width : 1;
    grdi_view view = grdi_view_middle(info.height, info.width, info.height, info.width, 1);
    grdi_view_rooms rooms = {{NULL, 0}, {NULL, 0}};
    bool ok = grdi_view_draw(&view, *small, height, width, NULL, values, &rooms) == GRD_OK;
    grdi_view_rooms_free(&rooms);
    for (int64_t i = 0; i < height * width * info.channels; i++) bytes[i] = (uint8_t)(255 * values[i] + 0.5f);
    *small = (grdi_pixels){bytes, height, width, info.channels};
    return ok;
}

static void put_picture(grdi_writer *w, const grd_images *images, int64_t index, float *values, uint8_t *bytes)
{
    grdi_pixels small;
    size_t size;
    uint8_t *file = draw(images, index, values, bytes, &small) ? png_of(small, &size) : NULL;
    if (!file) return;
    grdi_writer_print(w, "<img alt=\"\" width=\"96\" style=\"image-rendering:pixelated\" src=\"data:image/png;base64,");
    put_base64(w, file, size);
    grdi_writer_print(w, "\">");
    grdi_free(file);
}

/* ---- mistakes ---- */

static void put_class(grdi_writer *w, const grd_classification *c, int64_t number)
{
    char text[24];
    grdi_html_escaped(w, grd_classification_name(c, number, text));
}

static void put_mistake(grdi_writer *w, const grd_classification *c, const grd_mistake *m, const grd_images *images,
                        float *values, uint8_t *bytes)
{
    const char *path = grd_images_path(images, m->index);
    grdi_writer_print(w, "<figure><p>");
    put_picture(w, images, m->index, values, bytes);
    grdi_writer_print(w, "</p><p><b>");
    put_class(w, c, m->label);
    grdi_writer_print(w, "</b> %.2g%%, taken for <b>", 100 * m->probability);
    put_class(w, c, m->predicted);
    grdi_writer_print(w, "</b> %.3g%%</p><p class=\"soft\">", 100 * m->predicted_probability);
    if (path) grdi_html_escaped(w, path);
    else grdi_writer_print(w, "image %lld", (long long)m->index);
    grdi_writer_print(w, "</p></figure>\n");
}

static void put_mistakes(grdi_writer *w, const grd_classification *c, const grd_images *images)
{
    grd_images_info info = grd_images_about(images);
    size_t count = (size_t)(info.height * info.width * info.channels);
    if (!c->mistake_count || (info.channels != 1 && info.channels != 3)) return;
    float *values = grdi_alloc(count * sizeof(float));
    uint8_t *bytes = grdi_alloc(count);
    if (values && bytes) {
        grdi_writer_print(w,
                          "<h2>Most wrong</h2>\n<p class=\"soft\">the test images whose own class is least probable to "
                          "the model: hard ones, or labels to be looked at</p>\n<div class=\"grid\" "
                          "style=\"grid-template-columns:repeat(auto-fill,minmax(9.5rem,1fr))\">\n");
        for (int32_t i = 0; i < c->mistake_count; i++) put_mistake(w, c, &c->mistakes[i], images, values, bytes);
        grdi_writer_print(w, "</div>\n");
    }
    grdi_free(values);
    grdi_free(bytes);
}

/* ---- classes ---- */

/* Each row a class, each column what it was taken for; the fuller, the darker. */
static void put_matrix(grdi_writer *w, const grd_classification *c, const char *samples)
{
    grdi_writer_print(w,
                      "<section class=\"two\"><h3>Confusion</h3><p class=\"soft\">a line for each class, a column for "
                      "what its %s were taken for</p><div class=\"wide\"><table>\n<tr><th></th>",
                      samples);
    for (int64_t k = 0; k < c->classes; k++) {
        grdi_writer_print(w, "<th>");
        put_class(w, c, k);
        grdi_writer_print(w, "</th>");
    }
    grdi_writer_print(w, "</tr>\n");
    for (int64_t i = 0; i < c->classes; i++) {
        grd_class_figures f = grd_classification_of(c, i);
        grdi_writer_print(w, "<tr><td>");
        put_class(w, c, i);
        grdi_writer_print(w, "</td>");
        for (int64_t k = 0; k < c->classes; k++) {
            int64_t n = c->counts[i * c->classes + k];
            double part = f.samples ? sqrt((double)n / (double)f.samples) : 0;
            grdi_writer_print(w, "<td style=\"background:color-mix(in srgb,var(--%c) %.0f%%,transparent)\">",
                              i == k ? 'a' : 'b', 55 * part);
            if (n) grdi_writer_print(w, "%lld", (long long)n);
            grdi_writer_print(w, "</td>");
        }
        grdi_writer_print(w, "</tr>\n");
    }
    grdi_writer_print(w, "</table></div></section>\n");
}

/* The pairs that are most often taken for each other, for more classes than a table can show. */
static void put_pairs(grdi_writer *w, const grd_classification *c, const char *samples)
{
    int64_t last = INT64_MAX;
    int shown = 0;
    grdi_writer_print(w,
                      "<section class=\"two\"><h3>Confusion</h3><table>\n<tr><th>class</th><th>taken for</th><th>%s"
                      "</th></tr>\n",
                      samples);
    while (shown < PAIRS) { /* counts downwards, one after the other */
        int64_t most = 0;
        for (int64_t i = 0; i < c->classes * c->classes; i++)
            if (i % (c->classes + 1) && c->counts[i] < last && c->counts[i] > most) most = c->counts[i];
        if (most == 0) break;
        for (int64_t i = 0; i < c->classes * c->classes && shown < PAIRS; i++) {
            if (i % (c->classes + 1) == 0 || c->counts[i] != most) continue;
            grdi_writer_print(w, "<tr><td>");
            put_class(w, c, i / c->classes);
            grdi_writer_print(w, "</td><td>");
            put_class(w, c, i % c->classes);
            grdi_writer_print(w, "</td><td>%lld</td></tr>\n", (long long)most);
            shown++;
        }
        last = most;
    }
    grdi_writer_print(w, "</table></section>\n");
}

static void put_figures(grdi_writer *w, const grd_classification *c, const char *samples)
{
    char a[32], b[32];
    grdi_writer_print(w,
                      "<section><h3>By class</h3><table>\n<tr><th>class</th><th>precision</th><th>recall</th>"
                      "<th>%s</th></tr>\n",
                      samples);
    for (int64_t i = 0; i < c->classes; i++) {
        grd_class_figures f = grd_classification_of(c, i);
        grdi_writer_print(w, "<tr><td>");
        put_class(w, c, i);
        grdi_writer_print(w, "</td><td>%s</td><td>%s</td><td>%lld</td></tr>\n", grdi_html_number(f.precision, a),
                          grdi_html_number(f.recall, b), (long long)f.samples);
    }
    grdi_writer_print(w, "</table></section>\n");
}

void grdi_report_classes(grdi_writer *w, const grd_classification *c, const char *samples)
{
    if (c->total == 0) return;
    grdi_writer_print(w, "<h2>Classes</h2>\n<div class=\"grid start\">\n");
    put_figures(w, c, samples);
    if (c->classes <= TABLE_CLASSES) put_matrix(w, c, samples);
    else put_pairs(w, c, samples);
    grdi_writer_print(w, "</div>\n");
}

void grdi_report_images(grdi_writer *w, const grd_classification *c, const grd_images *images)
{
    grdi_report_classes(w, c, "images");
    if (images && c->total) put_mistakes(w, c, images);
}
