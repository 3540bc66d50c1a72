/* test_images.c - images from files, against Pillow's; views and batches, which depend on seed and position alone;
 * parts of a folder. Files lie in golden/images (golden/make_image_goldens.py). */
#include "data/image_file.h"
#include "data/images.h"
#include "scratch.h"

#include <gradus/gradus.h>

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define IMAGES GRADUS_SOURCE_DIR "/tests/golden/images/"

TestSuite(images, .fini = scratch_remove);

static grd_images *open_file(const char *path, int64_t height, int64_t width, int64_t channels)
{
    grd_error error = {GRD_OK, ""};
    grd_images *images;
    const grd_image_folder_options options = {.height = height, .width = width, .channels = channels};
    cr_assert(grd_image_files_open(path, &options, &images, &error) == GRD_OK, "%s", error.message);
    return images;
}

/* ---- files ---- */

/* Pillow rounds to whole levels twice, we never do. A JPEG is decoded at half its size where it gets smaller than that:
 * another filter, so only the mean is held. */
static void compare(const grd_file_tensor *t, const char *file, int64_t channels)
{
    char path[512];
    snprintf(path, sizeof path, IMAGES "%s", file);
    int64_t height = t->dims.dim[0], width = t->dims.dim[1], count = height * width * channels;
    grd_images *images = open_file(path, height, width, channels);
    float *pixels = malloc((size_t)count * sizeof(float));
    grd_error error = {GRD_OK, ""};
    cr_assert(grd_images_get(images, 0, pixels, &error) == GRD_OK, "%s", error.message);
    const uint8_t *wanted = t->data;
    double most = 0, sum = 0;
    for (int64_t i = 0; i < count; i++) {
        double d = fabs(255.0 * pixels[i] - wanted[i]);
        most = fmax(most, d), sum += d;
    }
    bool jpeg = strstr(file, ".jpg") != NULL;
    cr_expect(jpeg ? sum / (double)count < 2 : most < 1.1, "%s to %lld channels: off by %g at most, %g on average",
              file, (long long)channels, most, sum / (double)count);
    free(pixels);
    grd_images_free(images);
}

Test(images, files_look_as_pillow_shows_them)
{
    grd_error error = {GRD_OK, ""};
    grd_safetensors *golden;
    cr_assert(grd_safetensors_open(GRADUS_SOURCE_DIR "/tests/golden/images.safetensors", &golden, &error) == GRD_OK);
    int compared = 0;
    for (size_t i = 0; i < grd_safetensors_count(golden); i++) {
        const grd_file_tensor *t = grd_safetensors_at(golden, i);
        char file[128];
        snprintf(file, sizeof file, "%s", t->name);
        char *mode = strchr(file, '/');
        *mode++ = '\0';
        compare(t, file, strcmp(mode, "L") == 0 ? 1 : 3);
        compared++;
    }
    cr_assert(compared == 16, "%d", compared);
    grd_safetensors_close(golden);
}

static grdi_image_bytes load(const char *name, char **owned)
{
    static char path[512];
    size_t size;
    snprintf(path, sizeof path, IMAGES "%s", name);
    *owned = scratch_read(path, &size);
    return (grdi_image_bytes){(const uint8_t *)*owned, size, path};
}

/* What is decoded of a part is what is decoded there of the whole; at half the size the mean is the same. */
Test(images, parts_of_a_jpeg_are_those_of_the_whole)
{
    char *owned;
    grdi_image_bytes file = load("large.jpg", &owned);
    grd_error error = {GRD_OK, ""};
    grdi_room all = {NULL, 0}, part = {NULL, 0};
    grdi_pixels whole, some;
    grdi_image_wish wish = {.channels = 3};
    cr_assert(grdi_image_decode(file, &wish, &all, &whole, &error) == GRD_OK && whole.height == 180 &&
              whole.width == 240);
    const grdi_box boxes[] = {{0, 0, 60, 60}, {50, 70, 64, 80}, {119, 179, 61, 61}, {3, 100, 170, 64}};
    for (size_t b = 0; b < sizeof(boxes) / sizeof(boxes[0]); b++) {
        wish = (grdi_image_wish){3, 50, 50, boxes[b]};
        cr_assert(grdi_image_decode(file, &wish, &part, &some, &error) == GRD_OK);
        cr_assert(some.width < whole.width && wish.box.height == boxes[b].height, "all of it was decoded");
        for (int64_t y = 0; y < (int64_t)boxes[b].height; y++)
            for (int64_t i = 0; i < 3 * (int64_t)boxes[b].width; i++) {
                int64_t from = (y + (int64_t)wish.box.top) * some.width * 3 + 3 * (int64_t)wish.box.left + i;
                int64_t at = (y + (int64_t)boxes[b].top) * whole.width * 3 + 3 * (int64_t)boxes[b].left + i;
                cr_assert(some.bytes[from] == whole.bytes[at], "box %zu, row %lld, value %lld: %d, not %d", b,
                          (long long)y, (long long)i, some.bytes[from], whole.bytes[at]);
            }
    }
    wish = (grdi_image_wish){3, 45, 60, {0, 0, 180, 240}};
    cr_assert(grdi_image_decode(file, &wish, &part, &some, &error) == GRD_OK && some.height == 45 && some.width == 60);
    double a = 0, b = 0;
    for (int64_t i = 0; i < 180 * 240 * 3; i++) a += whole.bytes[i] / (180.0 * 240 * 3);
    for (int64_t i = 0; i < 45 * 60 * 3; i++) b += some.bytes[i] / (45.0 * 60 * 3);
    cr_assert(fabs(a - b) < 1, "mean %g, of a quarter of the size %g", a, b);
    free(owned), free(all.bytes), free(part.bytes);
}

/* Every file cut at every hundredth of its length is refused or, where only the end of a JPEG is missing, named. */
Test(images, cut_files_are_refused)
{
    static const char *const names[] = {"colour.png", "palette.png", "colour.jpg", "progressive.jpg"};
    for (int n = 0; n < 4; n++) {
        char *owned;
        grdi_image_bytes file = load(names[n], &owned), cut = file;
        for (int part = 0; part < 100; part++) {
            grd_error error = {GRD_OK, ""};
            grdi_image_wish wish = {.channels = 3};
            grdi_room room = {NULL, 0};
            grdi_pixels pixels;
            cut.size_bytes = file.size_bytes * (size_t)part / 100;
            grd_status status = grdi_image_decode(cut, &wish, &room, &pixels, &error);
            cr_assert(status == GRD_E_FORMAT && strstr(error.message, names[n]), "%s cut to %d%%: %d %s", names[n],
                      part, status, error.message);
            free(room.bytes);
        }
        free(owned);
    }
}

/* ---- views and batches ---- */

static grd_images *numbered(int64_t count, int64_t side)
{
    grd_images *m = calloc(1, sizeof *m);
    m->info = (grd_images_info){count, side, side, 1, 4, 0};
    m->pixels = malloc((size_t)(count * side * side));
    m->labels = malloc((size_t)count * sizeof(int32_t));
    for (int64_t i = 0; i < count; i++) {
        m->labels[i] = (int32_t)(i % 4);
        for (int64_t k = 0; k < side * side; k++)
            m->pixels[i * side * side + k] = (uint8_t)(37 * i + 11 * k + k * k / 7);
    }
    return m;
}

static const grd_augment everything = {.crop = GRD_CROP_RESIZED,
                                       .crop_scale = 0.4,
                                       .hflip = true,
                                       .brightness = 0.3,
                                       .contrast = 0.3,
                                       .erase = 0.5,
                                       .mixup = 0.4,
                                       .cutmix = 1};

static uint64_t batch_hash(const grd_image_batch *b, int64_t count, int64_t values)
{
    uint64_t h = 1469598103934665603u;
    const unsigned char *bytes = (const unsigned char *)b->pixels;
    for (int64_t i = 0; i < count * values * 4; i++) h = (h ^ bytes[i]) * 1099511628211u;
    for (int64_t i = 0; i < count; i++) h = (h ^ (uint64_t)(b->labels[i] * 16 + b->other_labels[i])) * 1099511628211u;
    return h ^ (uint64_t)(b->part * 1e6);
}

Test(images, batches_are_the_same_whoever_draws_them)
{
    enum { BATCH = 6, BATCHES = 12, SIDE = 9 };
    grd_images *images = numbered(20, SIDE);
    uint64_t wanted[BATCHES];
    const int32_t workers[] = {0, 1, 3};
    for (int w = 0; w < 3; w++)
        for (int64_t first = 0; first < BATCHES; first += 5) {
            grd_error error = {GRD_OK, ""};
            grd_image_loader *loader;
            grd_image_batch batch;
            const grd_image_loader_options options = {
                .batch = BATCH, .seed = 3, .augment = &everything, .first = first, .workers = workers[w]};
            cr_assert(grd_image_loader_new(images, &options, &loader, &error) == GRD_OK, "%s", error.message);
            for (int64_t b = first; b < BATCHES; b++) {
                cr_assert(grd_image_loader_next(loader, &batch, &error) == GRD_OK);
                uint64_t h = batch_hash(&batch, BATCH, SIDE * SIDE);
                if (w == 0 && first == 0) wanted[b] = h;
                cr_assert(h == wanted[b], "batch %lld is another with %d workers from %lld on", (long long)b,
                          workers[w], (long long)first);
                cr_assert(b == 0 || wanted[b] != wanted[b - 1]);
            }
            grd_image_loader_free(loader);
        }
    grd_images_free(images);
}

/* Moved by (down, right): what was there, and black where nothing was. Mirrored: columns the other way round. */
Test(images, views_move_and_mirror)
{
    enum { SIDE = 9 };
    grd_images *images = numbered(1, SIDE);
    grdi_image_rooms rooms = {.view = {{0}}};
    float to[SIDE * SIDE];
    for (int flip = 0; flip < 2; flip++)
        for (int64_t down = -2; down <= 2; down++)
            for (int64_t right = -2; right <= 2; right++) {
                grdi_view v = grdi_images_middle(images, 0);
                v.down = down, v.right = right, v.hflip = flip;
                cr_assert(grdi_images_draw(images, 0, &v, NULL, to, &rooms, NULL) == GRD_OK);
                for (int64_t i = 0; i < SIDE * SIDE; i++) {
                    int64_t y = i / SIDE + down, x = (flip ? SIDE - 1 - i % SIDE : i % SIDE) + right;
                    bool inside = y >= 0 && y < SIDE && x >= 0 && x < SIDE;
                    float wanted = inside ? (float)images->pixels[y * SIDE + x] / 255.0f : 0;
                    cr_assert(fabsf(to[i] - wanted) < 1e-6f, "%g, not %g", to[i], wanted);
                }
            }
    grdi_image_rooms_free(&rooms);
    grd_images_free(images);
}

/* What a batch was mixed from, it can be unmixed to: constant images, whose value is their label. */
Test(images, mixed_pixels_are_as_mixed_as_labels)
{
    enum { BATCH = 4, SIDE = 10 };
    grd_images *images = numbered(40, SIDE);
    for (int64_t i = 0; i < 40 * SIDE * SIDE; i++) images->pixels[i] = (uint8_t)(50 * (i / (SIDE * SIDE) % 4));
    for (int kind = 0; kind < 2; kind++) {
        const grd_augment mixing = {.mixup = kind ? 0 : 0.5, .cutmix = kind ? 1 : 0};
        const grd_image_loader_options options = {.batch = BATCH, .seed = 5, .augment = &mixing};
        grd_error error = {GRD_OK, ""};
        grd_image_loader *loader;
        grd_image_batch b;
        int mixed = 0;
        cr_assert(grd_image_loader_new(images, &options, &loader, &error) == GRD_OK);
        for (int round = 0; round < 20; round++) {
            cr_assert(grd_image_loader_next(loader, &b, &error) == GRD_OK);
            mixed += b.part < 0.95 && b.part > 0.05;
            for (int i = 0; i < BATCH; i++) {
                double mean = 0;
                for (int k = 0; k < SIDE * SIDE; k++) mean += b.pixels[i * SIDE * SIDE + k] / (SIDE * SIDE);
                double wanted = 50 / 255.0 * (b.part * b.labels[i] + (1 - b.part) * b.other_labels[i]);
                cr_assert(fabs(mean - wanted) < 1e-5, "mean %g, by labels %g", mean, wanted);
            }
        }
        cr_assert(mixed > 5, "%d of 20 batches were mixed", mixed);
        grd_image_loader_free(loader);
    }
    grd_images_free(images);
}

/* ---- folders ---- */

static void copy_image(const char *name, const char *to)
{
    size_t size;
    char path[512], *bytes;
    snprintf(path, sizeof path, IMAGES "%s", name);
    bytes = scratch_read(path, &size);
    scratch_write(scratch_path(to), bytes, size);
    free(bytes);
}

static void make_classes(const char *root, int count)
{
    static const char *const names[] = {"ash", "birch", "cedar"};
    char path[256];
    mkdir(scratch_path(root), 0755);
    for (int c = 0; c < 3; c++) {
        snprintf(path, sizeof path, "%s/%s", root, names[c]);
        mkdir(scratch_path(path), 0755);
        for (int i = 0; i < count; i++) {
            snprintf(path, sizeof path, "%s/%s/%02d.%s", root, names[c], i, i % 2 ? "JPG" : "png");
            copy_image(i % 2 ? "colour.jpg" : "grey.png", path);
        }
    }
}

/* By images anywhere below the classes, of other formats too: those are refused as what they are. A folder that is its
 * own sub-folder is gone through a few times. */
Test(images, a_folder_is_known_by_what_lies_deep_in_it)
{
    mkdir(scratch_path("deep"), 0755), mkdir(scratch_path("deep/ash"), 0755), mkdir(scratch_path("deep/ash/old"), 0755);
    mkdir(scratch_path("films"), 0755), mkdir(scratch_path("films/ash"), 0755);
    mkdir(scratch_path("notes"), 0755), mkdir(scratch_path("notes/ash"), 0755);
    cr_assert(symlink("..", scratch_path("deep/ash/up")) == 0 && symlink(".", scratch_path("deep/ash/here")) == 0);
    cr_expect(!grd_image_folder_found(scratch_path("deep")));
    copy_image("grey.png", "deep/ash/old/1.png");
    copy_image("grey.png", "films/ash/1.WebP");
    copy_image("grey.png", "notes/ash/1.txt");
    cr_expect(grd_image_folder_found(scratch_path("deep")));
    cr_expect(grd_image_folder_found(scratch_path("films")));
    cr_expect(!grd_image_folder_found(scratch_path("notes")));
}

Test(images, a_folder_is_split_by_class_and_seed)
{
    make_classes("trees", 10);
    cr_assert(grd_image_folder_found(scratch_path("trees")));
    char seen[64] = "";
    for (int seed = 1; seed < 3; seed++) {
        grd_images *part[2];
        grd_error error = {GRD_OK, ""};
        const grd_image_folder_options options = {.validation_part = 0.2, .seed = (uint64_t)seed};
        for (int p = 0; p < 2; p++)
            cr_assert(grd_image_folder_open(scratch_path("trees"), (grd_part)p, &options, &part[p], &error) == GRD_OK,
                      "%s", error.message);
        grd_images_info info = grd_images_about(part[0]);
        cr_assert(info.count == 24 && info.classes == 3 && info.channels == 3 && info.height == 32 && info.width == 32);
        cr_assert(grd_images_about(part[1]).count == 6 && grd_images_label(part[1], 5) == 2);
        cr_assert(strcmp(grd_images_class_name(part[0], 1), "birch") == 0);
        for (int64_t i = 0; i < 24; i++)
            for (int64_t k = 0; k < 6; k++)
                cr_assert(strcmp(grd_images_path(part[0], i), grd_images_path(part[1], k)) != 0,
                          "an image in both parts");
        char names[64] = "";
        for (int64_t k = 0; k < 6; k++) strncat(names, strrchr(grd_images_path(part[1], k), '/'), 4);
        cr_assert(strcmp(names, seen) != 0, "another seed, the same split");
        strcpy(seen, names);
        grd_images_free(part[0]), grd_images_free(part[1]);
    }
}

Test(images, own_parts_and_damaged_files)
{
    mkdir(scratch_path("set"), 0755);
    make_classes("set/train", 4);
    make_classes("set/val", 2);
    scratch_write(scratch_path("set/train/ash/00.png"), "no image", 8);
    scratch_write(scratch_path("set/train/ash/notes.txt"), "notes", 5);
    grd_images *images;
    grd_error error = {GRD_OK, ""};
    grd_image_folder_options options = {.validation_part = 0.2};
    cr_assert(grd_image_folder_open(scratch_path("set"), GRD_TRAIN, &options, &images, &error) == GRD_E_FORMAT);
    cr_assert(strstr(error.message, "set/train/ash/00.png") && strstr(error.message, "no image"), "%s", error.message);
    options.skip_damaged = true;
    char line[512];
    error = (grd_error){GRD_OK, ""};
    cr_assert(grd_image_folder_open(scratch_path("set"), GRD_TRAIN, &options, &images, &error) == GRD_OK);
    cr_assert(grd_images_about(images).count == 11);
    cr_assert(grd_images_note(images, 0, line, sizeof line) && strstr(line, "1 file is left out"), "%s", line);
    cr_assert(grd_images_note(images, 1, line, sizeof line) && strstr(line, "00.png"), "%s", line);
    cr_assert(!grd_images_note(images, 2, line, sizeof line));
    grd_images_free(images);
    cr_assert(grd_image_folder_open(scratch_path("set"), GRD_VALIDATION, &options, &images, &error) == GRD_OK);
    cr_assert(grd_images_about(images).count == 6);
    grd_images_free(images);
}
