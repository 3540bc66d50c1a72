/* fuzz_image.c - JPEG and PNG files of any bytes: what is accepted is decoded, as a whole or a part of it, and drawn;
 * all of that lies in the bounds that its header promised, and every value between 0 and 1. */
#include "data/image_file.h"
#include "fuzz.h"

#include <math.h>
#include <stdlib.h>

enum { PIXELS_MOST = 1 << 18, SIDE_MOST = 40 };

static void draw(grdi_image_bytes file, grdi_image_wish wish, const grdi_image_about *about)
{
    static float to[SIDE_MOST * SIDE_MOST * 3];
    const float grey[3] = {0.5f, 0.5f, 0.5f};
    const grd_augment changes = {.crop = GRD_CROP_RESIZED, .crop_scale = 0.2, .hflip = true, .hue = 0.2, .erase = 0.5};
    int64_t height = wish.height ? wish.height : 8, width = wish.height ? wish.width : 8;
    grdi_view view = grdi_view_random(&changes, file.size_bytes, 0, about->height, about->width, height, width);
    grdi_room room = {NULL, 0};
    grdi_view_rooms rooms = {{NULL, 0}, {NULL, 0}};
    grdi_pixels pixels;
    grd_error error = {GRD_OK, ""};
    wish.box = view.box;
    grd_status status = grdi_image_decode(file, &wish, &room, &pixels, &error);
    if (status) fuzz_check_error(status, &error);
    if (!status) {
        view.box = wish.box;
        FUZZ_CHECK(pixels.channels == wish.channels && pixels.height <= about->height && pixels.width <= about->width);
        FUZZ_CHECK(grdi_view_draw(&view, pixels, height, width, grey, to, &rooms) == GRD_OK);
        for (int64_t i = 0; i < height * width * pixels.channels; i++) FUZZ_CHECK(to[i] >= 0 && to[i] <= 1.0001f);
    }
    grdi_view_rooms_free(&rooms);
    free(room.bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_input in = {data, data + size};
    int channels = fuzz_below(&in, 2) ? 3 : 1, height = fuzz_below(&in, SIDE_MOST),
        width = 1 + fuzz_below(&in, SIDE_MOST);
    grdi_image_bytes file = {in.at, (size_t)(in.end - in.at), "x"};
    grdi_image_about about;
    grd_error error = {GRD_OK, ""};
    grd_status status = grdi_image_look(file, &about, &error);
    if (status) fuzz_check_error(status, &error);
    if (status) return 0;
    FUZZ_CHECK(about.height > 0 && about.width > 0 && about.height * about.width <= GRDI_IMAGE_PIXELS_MAX);
    if (about.height * about.width <= PIXELS_MOST)
        draw(file, (grdi_image_wish){.channels = channels, .height = height, .width = width}, &about);
    return 0;
}
