/* png.c - PNG images by libpng. */
#include "data/image_file.h"

#ifdef GRADUS_HAVE_PNG

#include "base/memory.h"

#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include <png.h>

enum { MESSAGE_MAX = 128, DIMENSION_MAX = 1 << 20, CHUNK_BYTES_MAX = 1 << 23, EIGHT_BITS = 8 };

/* One image as it is read. libpng leaves by longjmp. */
typedef struct reader {
    grdi_image_bytes file;
    size_t at;
    bool cut;
    jmp_buf back;
    char message[MESSAGE_MAX];
    png_structp png;
    png_infop info;
} reader;

static void leave(png_structp png, png_const_charp message)
{
    reader *r = png_get_error_ptr(png);
    snprintf(r->message, sizeof(r->message), "%s", message);
    longjmp(r->back, 1);
}

static void ignore(png_structp png, png_const_charp message)
{
    (void)png, (void)message;
}

static png_voidp take(png_structp png, png_alloc_size_t size)
{
    (void)png;
    return grdi_alloc(size);
}

static void give_back(png_structp png, png_voidp memory)
{
    (void)png;
    grdi_free(memory);
}

static void give(png_structp png, png_bytep to, size_t size)
{
    reader *r = png_get_io_ptr(png);
    if (size > r->file.size_bytes - r->at) {
        r->cut = true;
        png_error(png, "it is cut off");
    }
    memcpy(to, r->file.bytes + r->at, size);
    r->at += size;
}

static grd_status failed(const reader *r, grd_error *error)
{
    if (!r->png || !r->info || strstr(r->message, "memory"))
        return grd_fail(error, GRD_E_MEMORY, "%s: out of memory", r->file.name);
    return grd_fail(error, GRD_E_FORMAT, "%s: is a damaged PNG image (%s)", r->file.name, r->message);
}

/* Reads the header. Anything after it that fails comes back here as false. */
static bool begin(reader *r)
{
    r->png = png_create_read_struct_2(PNG_LIBPNG_VER_STRING, r, leave, ignore, NULL, take, give_back);
    if (!r->png) return false;
    r->info = png_create_info_struct(r->png);
    return r->info != NULL;
}

static void read_header(reader *r)
{
    png_set_read_fn(r->png, r, give);
    png_set_user_limits(r->png, DIMENSION_MAX, DIMENSION_MAX);
    png_set_chunk_malloc_max(r->png, CHUNK_BYTES_MAX);
    png_read_info(r->png, r->info);
}

static void end(reader *r)
{
    png_destroy_read_struct(&r->png, &r->info, NULL);
}

static grd_status describe(const reader *r, grdi_image_about *about, grd_error *error)
{
    int colours = png_get_color_type(r->png, r->info), bits = png_get_bit_depth(r->png, r->info);
    about->height = png_get_image_height(r->png, r->info);
    about->width = png_get_image_width(r->png, r->info);
    about->channels = colours == PNG_COLOR_TYPE_GRAY || colours == PNG_COLOR_TYPE_GRAY_ALPHA ? 1 : 3;
    if (bits <= EIGHT_BITS) return GRD_OK;
    return grd_fail(error, GRD_E_FORMAT,
                    "%s: has %d bits a channel, of which 8 would be lost (convert it to 8, or set data.on_bad: skip)",
                    r->file.name, bits);
}

grd_status grdi_png_look(grdi_image_bytes file, grdi_image_about *about, grd_error *error)
{
    reader r = {.file = file};
    grd_status status = begin(&r) ? GRD_OK : failed(&r, error);
    if (setjmp(r.back)) {
        status = failed(&r, error);
        end(&r);
        return status;
    }
    if (!status) read_header(&r);
    if (!status) status = describe(&r, about, error);
    end(&r);
    return status;
}

/* All kinds become grey or RGB in bytes; transparency goes. */
static void ask_for_bytes(const reader *r, const grdi_image_wish *wish, const grdi_image_about *about)
{
    int colours = png_get_color_type(r->png, r->info);
    if (colours == PNG_COLOR_TYPE_PALETTE) png_set_palette_to_rgb(r->png);
    if (colours == PNG_COLOR_TYPE_GRAY) png_set_expand_gray_1_2_4_to_8(r->png);
    if (wish->channels == 3 && about->channels == 1) png_set_gray_to_rgb(r->png);
    png_set_strip_alpha(r->png);
}

/* RGB to grey in place, as JPEG has it. */
static void make_grey(uint8_t *bytes, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        const uint8_t *p = bytes + 3 * i;
        bytes[i] = (uint8_t)((19595u * p[0] + 38470u * p[1] + 7471u * p[2] + 32768u) >> 16);
    }
}

/* Where the rows of an image begin, for libpng, behind its pixels. */
static bool read_rows(reader *r, const grdi_image_wish *wish, grdi_image_about about, grdi_room *room,
                      grdi_pixels *pixels)
{
    int64_t read = about.channels == 3 ? 3 : wish->channels;
    size_t row = (size_t)(about.width * read), bytes = (row * (size_t)about.height + 15) / 16 * 16;
    ask_for_bytes(r, wish, &about);
    png_set_interlace_handling(r->png);
    png_read_update_info(r->png, r->info);
    if (png_get_rowbytes(r->png, r->info) != row) png_error(r->png, "rows of another length than its header says");
    uint8_t *to = grdi_room_take(room, bytes + (size_t)about.height * sizeof(png_bytep));
    if (!to) return false;
    png_bytepp rows = (png_bytepp)(void *)(to + bytes);
    for (int64_t y = 0; y < about.height; y++) rows[y] = to + (size_t)y * row;
    png_read_image(r->png, rows);
    png_read_end(r->png, NULL);
    if (read == 3 && wish->channels == 1) make_grey(to, about.height * about.width);
    *pixels = (grdi_pixels){to, about.height, about.width, wish->channels};
    return true;
}

grd_status grdi_png_decode(grdi_image_bytes file, const grdi_image_wish *wish, grdi_room *room, grdi_pixels *pixels,
                           grd_error *error)
{
    reader r = {.file = file};
    grdi_image_about about;
    grd_status status = begin(&r) ? GRD_OK : failed(&r, error);
    if (setjmp(r.back)) {
        status = failed(&r, error);
        end(&r);
        return status;
    }
    if (!status) read_header(&r);
    if (!status) status = describe(&r, &about, error);
    if (!status && !read_rows(&r, wish, about, room, pixels))
        status = grd_fail(error, GRD_E_MEMORY, "%s: out of memory", file.name);
    end(&r);
    return status;
}

#else

static grd_status missing(const char *name, grd_error *error)
{
    return grd_fail(error, GRD_E_UNSUPPORTED,
                    "%s: this build reads no PNG images (install libpng-dev and build it again)", name);
}

grd_status grdi_png_look(grdi_image_bytes file, grdi_image_about *about, grd_error *error)
{
    (void)about;
    return missing(file.name, error);
}

grd_status grdi_png_decode(grdi_image_bytes file, const grdi_image_wish *wish, grdi_room *room, grdi_pixels *pixels,
                           grd_error *error)
{
    (void)wish, (void)room, (void)pixels;
    return missing(file.name, error);
}

#endif
