/* bench_images.c - gradus bench images: how fast images become batches, as training on photographs does it. */
#include "cli/bench.h"

#include <time.h>

enum { SIDE = 224, BATCH = 64 };
#define SECONDS 5.0

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Images a second: batches for some seconds, or as many as --steps says, after a first one. */
static grd_status measure(const bench_args *a, const grd_images *images, int threads, double *rate, grd_error *error)
{
    static const float mean[3] = {0.485f, 0.456f, 0.406f}, deviation[3] = {0.229f, 0.224f, 0.225f};
    const grd_augment changes = {.crop = GRD_CROP_RESIZED, .crop_scale = 0.08, .hflip = true};
    const grd_image_loader_options options = {.size = sizeof(options),
                                              .batch = a->batch ? a->batch : BATCH,
                                              .seed = 1,
                                              .augment = &changes,
                                              .workers = threads > 1 ? threads : 0,
                                              .mean = mean,
                                              .deviation = deviation};
    grd_image_loader *loader;
    grd_image_batch batch;
    grd_status status = grd_image_loader_new(images, &options, &loader, error);
    if (status) return status;
    status = grd_image_loader_next(loader, &batch, error);
    double begun = now();
    int64_t done = 0;
    while (!status && (a->steps ? done < a->steps : now() - begun < SECONDS)) {
        status = grd_image_loader_next(loader, &batch, error);
        done++;
    }
    *rate = (double)(done * options.batch) / (now() - begun);
    grd_image_loader_free(loader);
    return status;
}

int bench_images(const bench_args *a)
{
    const grd_image_folder_options options = {.size = sizeof(options),
                                              .height = SIDE,
                                              .width = SIDE,
                                              .channels = 3,
                                              .threads = a->common.threads,
                                              .only_looked_at = true};
    grd_images *images;
    grd_error error = {GRD_OK, ""};
    double rate;
    if (!a->name)
        return cli_error(&a->common, CLI_USAGE, "gradus bench images: there are no images to read (bench images DIR)");
    if (grd_image_files_open(a->name, &options, &images, &error)) return cli_fail(&a->common, &error, false);
    int threads = cli_threads(&a->common);
    long long count = (long long)grd_images_about(images).count;
    grd_status status = measure(a, images, threads, &rate, &error);
    grd_images_free(images);
    if (status) return cli_fail(&a->common, &error, true);
    if (a->common.json)
        return cli_print_json(&a->common, json_pack("{s:s, s:s, s:i, s:I, s:f, s:f}", "event", "bench", "name",
                                                    "images", "threads", threads, "images", (json_int_t)count,
                                                    "samples_per_s", rate, "samples_per_s_thread", rate / threads));
    printf("images, %lld files to batches of %dx%d: a random box of each, resized, mirrored, normalised\n", count, SIDE,
           SIDE);
    printf("speed        %s images/s, %s a thread (%d of them)\n", cli_count((int64_t)rate),
           cli_count((int64_t)(rate / threads)), threads);
    return CLI_DONE;
}
