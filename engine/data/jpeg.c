/* jpeg.c - JPEG images by libjpeg-turbo. */
#include "data/image_file.h"

#ifdef GRADUS_HAVE_JPEG

#include <math.h>
#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include <jerror.h>
#include <jpeglib.h>

enum { SCANS_MAX = 500, DENOMINATOR_MAX = 8, EDGE = 2 };

/* One image as it is decoded. libjpeg leaves by longjmp, so nothing here may live in registers. */
typedef struct decoder {
    struct jpeg_decompress_struct c;
    struct jpeg_error_mgr errors;
    struct jpeg_progress_mgr progress;
    jmp_buf back;
    char message[JMSG_LENGTH_MAX];
    bool large; /* libjpeg is out of memory, or the file would take too long */
} decoder;

static void leave(j_common_ptr c)
{
    decoder *d = (decoder *)c;
    c->err->format_message(c, d->message);
    d->large = c->err->msg_code == JERR_OUT_OF_MEMORY;
    longjmp(d->back, 1);
}

/* What libjpeg goes on after: pixels are lost in these cases, others are known to be harmless. */
static void hear(j_common_ptr c, int level)
{
    int code = c->err->msg_code;
    bool lost =
        code == JWRN_JPEG_EOF || code == JWRN_HIT_MARKER || code == JWRN_HUFF_BAD_CODE || code == JWRN_MUST_RESYNC;
    if (level < 0 && lost) leave(c);
}

/* A progressive file of a few bytes can ask for thousands of passes over its pixels. */
static void watch(j_common_ptr c)
{
    decoder *d = (decoder *)c;
    if (d->c.input_scan_number <= SCANS_MAX) return;
    snprintf(d->message, sizeof(d->message), "more than %d scans", SCANS_MAX);
    longjmp(d->back, 1);
}

static grd_status failed(const decoder *d, const char *name, grd_error *error)
{
    if (d->large) return grd_fail(error, GRD_E_MEMORY, "%s: out of memory", name);
    bool cut = d->errors.msg_code == JWRN_JPEG_EOF || d->errors.msg_code == JERR_INPUT_EOF ||
               d->errors.msg_code == JERR_INPUT_EMPTY;
    return grd_fail(error, GRD_E_FORMAT, "%s: is a damaged JPEG image (%s)", name, cut ? "it is cut off" : d->message);
}

static void begin(decoder *d, grdi_image_bytes file)
{
    jpeg_create_decompress(&d->c);
    d->c.progress = &d->progress;
    jpeg_mem_src(&d->c, file.bytes, (unsigned long)file.size_bytes);
    jpeg_read_header(&d->c, TRUE);
}

static void prepare(decoder *d)
{
    memset(d, 0, sizeof(*d));
    d->c.err = jpeg_std_error(&d->errors);
    d->errors.error_exit = leave;
    d->errors.emit_message = hear;
    d->progress.progress_monitor = watch;
}

static grd_status check_colours(const decoder *d, const char *name, grd_error *error)
{
    switch (d->c.jpeg_color_space) {
    case JCS_GRAYSCALE:
    case JCS_YCbCr:
    case JCS_RGB: return GRD_OK;
    case JCS_CMYK:
    case JCS_YCCK:
        return grd_fail(error, GRD_E_FORMAT,
                        "%s: is in CMYK, for printing (convert it to RGB, or set data.on_bad: skip)", name);
    default: return grd_fail(error, GRD_E_FORMAT, "%s: a JPEG image in colours that are not known", name);
    }
}

grd_status grdi_jpeg_look(grdi_image_bytes file, grdi_image_about *about, grd_error *error)
{
    decoder d;
    prepare(&d);
    if (setjmp(d.back)) {
        grd_status status = failed(&d, file.name, error);
        jpeg_destroy_decompress(&d.c);
        return status;
    }
    begin(&d, file);
    *about = (grdi_image_about){d.c.image_height, d.c.image_width, d.c.jpeg_color_space == JCS_GRAYSCALE ? 1 : 3};
    grd_status status = check_colours(&d, file.name, error);
    jpeg_destroy_decompress(&d.c);
    return status;
}

/* Rows and columns of the scaled image that resizing the box looks at. */
typedef struct part {
    JDIMENSION top, rows, left, columns;
} part;

/* From where to where one axis is read: the box, as far as the filter reaches beyond it, and EDGE more, as colours are
 * interpolated otherwise at the edge of a part. */
static void range(double start, double length, int64_t to, JDIMENSION size, JDIMENSION *first, JDIMENSION *count)
{
    double reach = fmax(length / (double)to, 1) + EDGE;
    double low = fmax(floor(start - reach), 0), high = fmin(ceil(start + length + reach), size);
    *first = low < size ? (JDIMENSION)low : size - 1;
    *count = high > *first ? (JDIMENSION)high - *first : 1;
}

/* The inverse discrete cosine transform can give half the size for a quarter of the work. */
static part choose_part(decoder *d, grdi_image_wish *wish)
{
    part p = {0, d->c.output_height, 0, d->c.output_width};
    if (wish->height == 0) return p;
    range(wish->box.top, wish->box.height, wish->height, d->c.output_height, &p.top, &p.rows);
    range(wish->box.left, wish->box.width, wish->width, d->c.output_width, &p.left, &p.columns);
    return p;
}

static void choose_scale(decoder *d, grdi_image_wish *wish)
{
    unsigned by = 1;
    while (wish->height > 0 && by < DENOMINATOR_MAX && wish->box.height >= 2 * by * (double)wish->height &&
           wish->box.width >= 2 * by * (double)wish->width)
        by *= 2;
    d->c.scale_num = 1, d->c.scale_denom = by;
    wish->box.top /= by, wish->box.left /= by, wish->box.height /= by, wish->box.width /= by;
}

/* Reads the part; false: out of memory. */
static bool read_part(decoder *d, grdi_image_wish *wish, grdi_room *room, grdi_pixels *pixels)
{
    d->c.out_color_space = wish->channels == 1 ? JCS_GRAYSCALE : JCS_RGB;
    choose_scale(d, wish);
    jpeg_start_decompress(&d->c);
    part p = choose_part(d, wish);
    JDIMENSION whole = d->c.output_width;
    if (p.columns < whole) jpeg_crop_scanline(&d->c, &p.left, &p.columns); /* to the blocks that hold them */
    size_t row = (size_t)p.columns * (size_t)wish->channels;
    uint8_t *to = grdi_room_take(room, row * p.rows);
    if (!to) return false;
    if (p.top > 0) jpeg_skip_scanlines(&d->c, p.top);
    for (JDIMENSION y = 0; y < p.rows;) {
        JSAMPROW at = to + y * row;
        y += jpeg_read_scanlines(&d->c, &at, 1);
    }
    if (wish->height == 0) jpeg_finish_decompress(&d->c);
    wish->box.top -= p.top, wish->box.left -= p.left;
    *pixels = (grdi_pixels){to, p.rows, p.columns, wish->channels};
    return true;
}

grd_status grdi_jpeg_decode(grdi_image_bytes file, grdi_image_wish *wish, grdi_room *room, grdi_pixels *pixels,
                            grd_error *error)
{
    decoder d;
    prepare(&d);
    if (setjmp(d.back)) {
        grd_status status = failed(&d, file.name, error);
        jpeg_destroy_decompress(&d.c);
        return status;
    }
    begin(&d, file);
    grd_status status = check_colours(&d, file.name, error);
    if (!status && !read_part(&d, wish, room, pixels))
        status = grd_fail(error, GRD_E_MEMORY, "%s: out of memory", file.name);
    jpeg_destroy_decompress(&d.c);
    return status;
}

#else

static grd_status missing(const char *name, grd_error *error)
{
    return grd_fail(error, GRD_E_UNSUPPORTED,
                    "%s: this build reads no JPEG images (install libjpeg-dev and build it again)", name);
}

grd_status grdi_jpeg_look(grdi_image_bytes file, grdi_image_about *about, grd_error *error)
{
    (void)about;
    return missing(file.name, error);
}

grd_status grdi_jpeg_decode(grdi_image_bytes file, grdi_image_wish *wish, grdi_room *room, grdi_pixels *pixels,
                            grd_error *error)
{
    (void)wish, (void)room, (void)pixels;
    return missing(file.name, error);
}

#endif
