/* test_check_work.c - how much arithmetic the preflight of a large network for images takes, however long that is. */
#include "scratch.h"
#include "train/check.h"

#include <criterion/criterion.h>
#include <gradus/gradus.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

TestSuite(check_work, .fini = scratch_remove);

enum { PICTURES = 16 };
/* Two cores do some 1e11 a second: well within the minute that a preflight may take. */
#define FLOPS_MOST 2e12

/* Folders of two classes; behind the end of a JPEG file there may be anything. */
static void make_pictures(void)
{
    static const char *const pictures[2] = {"large.jpg", "colour.jpg"};
    char path[256];
    mkdir(scratch_path("pictures"), 0755);
    for (int k = 0; k < 2; k++) {
        size_t size;
        snprintf(path, sizeof path, "%s/tests/golden/images/%s", GRADUS_SOURCE_DIR, pictures[k]);
        char *bytes = scratch_read(path, &size);
        bytes = realloc(bytes, size + 64);
        snprintf(path, sizeof path, "pictures/%d", k);
        mkdir(scratch_path(path), 0755);
        for (int i = 0; i < PICTURES; i++) {
            int tail = sprintf(bytes + size, "%d", i);
            snprintf(path, sizeof path, "pictures/%d/%d.jpg", k, i);
            scratch_write(scratch_path(path), bytes, size + (size_t)tail);
        }
        free(bytes);
    }
}

static void note_size(void *context, const char *text)
{
    if (strstr(text, "images of 72x72 instead of 224x224")) *(bool *)context = true;
}

Test(check_work, stays_within_its_budget_for_large_images)
{
    bool noted = false;
    const grd_check_options options = {.size = sizeof(options), .threads = 1, .on_note = note_size, .context = &noted};
    char text[256];
    grd_error error = {GRD_OK, ""};
    int32_t found;
    double flops;
    make_pictures();
    grd_settings *settings = grd_settings_new();
    int size = snprintf(text, sizeof text,
                        "data: {path: %s, kind: images, height: 224, width: 224}\nmodel: {kind: resnet18}\n"
                        "train: {batch: 32, steps: 100, lr: 1.0e-3}\n",
                        scratch_path("pictures"));
    scratch_write(scratch_path("config.yaml"), text, (size_t)size);
    cr_assert(!grd_settings_load(settings, scratch_path("config.yaml"), &error), "%s", error.message);
    cr_assert(!grdi_check_settings(settings, &options, &found, &flops, &error), "%s", error.message);
    cr_assert(flops > 1e11 && flops < FLOPS_MOST, "%.3g FLOP", flops);
    cr_assert(noted);
    if (getenv("SHOW")) fprintf(stderr, "%.3g FLOP, %d found\n", flops, (int)found);
    grd_settings_free(settings);
}
