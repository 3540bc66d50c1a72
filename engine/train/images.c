/* images.c - the task of classifying images: batches, step and evaluation. Which images a batch has is a function of
 * seed and position alone: each epoch is a permutation, every image once. */
#include "data/images.h"
#include "generate/image_sets.h"
#include "train/check_set.h"
#include "train/report_images.h"
#include "train/task.h"

#include "base/memory.h"

#include <math.h>
#include <omp.h>
#include <string.h>

enum { CHANNELS_MAX = 256 };

struct grdi_images_run {
    grd_images *images[2]; /* by grd_part; no test images: NULL */
    grd_images_info info;  /* of the training images */
    char **names;          /* of classes; NULL: they have only numbers */
    grd_tensor x, y;
    grd_tensor other, part;   /* of mixed images: their second labels, and the part that the first have */
    grd_image_loader *loader; /* NULL before the first batch */
    int64_t next;             /* batch that it gives */
    float mean[CHANNELS_MAX], deviation[CHANNELS_MAX]; /* of the training images */
    grdi_scorer scorer;
    grd_classification counts; /* of the last evaluation */
};

static grd_status out_of_memory(const grdi_session *s)
{
    return grd_fail(s->error, GRD_E_MEMORY, "out of memory for a batch of images");
}

/* Whether images are mixed, so that a loss has two parts. */
static bool mixes(const grdi_session *s)
{
    return s->settings->augment.mixup > 0 || s->settings->augment.cutmix > 0;
}

/* ---- data ---- */

static bool same_shape(grd_images_info a, grd_images_info b)
{
    return a.height == b.height && a.width == b.width && a.channels == b.channels;
}

/* What the test images must be like: the training images. */
static grdi_classifier_about about(const grdi_session *s)
{
    const grdi_images_run *run = s->images;
    return (grdi_classifier_about){.height = run->info.height,
                                   .width = run->info.width,
                                   .channels = run->info.channels,
                                   .classes = s->settings->model.classes,
                                   .names = run->names};
}

/* A part of the images: another session's, or opened. `known`: what they must be like; NULL: as they are. */
static grd_status open_part(grdi_session *s, grd_part part, const grdi_classifier_about *known, grd_error *error)
{
    const grd_settings *settings = s->settings;
    grd_images **images = &s->images->images[part];
    const grd_images *lent = s->lender ? s->lender->images->images[part] : NULL;
    if (!s->lender) return grdi_image_set_open(settings, part, known, s->options->threads, images, error);
    if (lent) *images = grdi_images_borrow(lent, settings->data.height, settings->data.width);
    return !lent || *images ? GRD_OK : grd_fail(error, GRD_E_MEMORY, "out of memory for a set of images");
}

/* Whoever has no test images can train all the same. */
static grd_status open_test(grdi_session *s)
{
    grdi_images_run *run = s->images;
    grd_error problem = {GRD_OK, ""};
    const char *path = s->settings->data.path;
    grdi_classifier_about known = about(s);
    if (known.names) known.classes = run->info.classes;
    grd_status status =
        s->settings->data.kind == GRD_DATA_IMAGES && s->settings->data.validation_part <= 0
            ? GRD_OK
            : open_part(s, GRD_VALIDATION, &known, &problem);
    if (status == GRD_E_ARGUMENT) {
        grdi_session_note(s, "%s (the run goes without a test)", problem.message);
        return GRD_OK;
    }
    if (status) return grd_fail(s->error, status, "%s", problem.message);
    if (!run->images[1]) return GRD_OK;
    grd_images_info test = grd_images_about(run->images[1]);
    if (!same_shape(test, run->info))
        return grd_fail(s->error, GRD_E_FORMAT, "%s: test images are %lldx%lldx%lld, training images %lldx%lldx%lld",
                        path, (long long)test.height, (long long)test.width, (long long)test.channels,
                        (long long)run->info.height, (long long)run->info.width, (long long)run->info.channels);
    if (test.classes > s->settings->model.classes)
        return grd_fail(s->error, GRD_E_FORMAT, "%s: a test label is %lld, and there are %lld classes", path,
                        (long long)test.classes - 1, (long long)s->settings->model.classes);
    return GRD_OK;
}

/* A file that is none is found before anything is written. */
static grd_status check_weights(grdi_session *s)
{
    grd_safetensors *file;
    grd_error problem = {GRD_OK, ""};
    const char *from = s->settings->init.from;
    if (!from || s->options->resume) return GRD_OK;
    grd_status status = grd_safetensors_open(from, &file, &problem);
    if (status) return grd_fail(s->error, status, "init.from: %s", problem.message);
    grd_safetensors_close(file);
    return GRD_OK;
}

/* Of IDX files: folders of one class are no set of images. */
static bool has_one_label(const grd_images *images)
{
    int64_t i = 1, count = grd_images_about(images).count;
    while (i < count && grd_images_label(images, i) == grd_images_label(images, 0)) i++;
    return i >= count;
}

/* Size, channels and names of classes; what the settings left open they say from now on. */
static grd_status take_about(grdi_session *s)
{
    grdi_images_run *run = s->images;
    grd_settings *settings = s->settings;
    run->info = grd_images_about(run->images[0]);
    if (has_one_label(run->images[0]))
        return grd_fail(s->error, GRD_E_FORMAT, "%s: all training images have the label %d (there is nothing to learn)",
                        settings->data.path, (int)grd_images_label(run->images[0], 0));
    if (settings->data.kind != GRD_DATA_IMAGES) return GRD_OK;
    settings->data.height = run->info.height, settings->data.width = run->info.width;
    settings->data.channels = run->info.channels;
    run->names = grdi_alloc_zero((size_t)run->info.classes, sizeof(char *));
    for (int64_t c = 0; run->names && c < run->info.classes; c++)
        run->names[c] = (char *)grd_images_class_name(run->images[0], c); /* the images' own */
    return run->names ? GRD_OK : out_of_memory(s);
}

static bool has_note(const grd_images *images, const char *note)
{
    char line[GRD_MESSAGE_MAX];
    for (int32_t i = 0; grd_images_note(images, i, line, sizeof(line)); i++)
        if (strcmp(line, note) == 0) return true;
    return false;
}

/* Both parts of one folder say the same of what lies there. */
static void say_notes(grdi_session *s)
{
    char line[GRD_MESSAGE_MAX];
    grd_images *const *images = s->images->images;
    for (int part = 0; part < 2 && images[part]; part++)
        for (int32_t i = 0; grd_images_note(images[part], i, line, sizeof(line)); i++)
            if (part == 0 || !has_note(images[0], line)) grdi_session_note(s, "%s", line);
}

static grd_status open_images(grdi_session *s)
{
    grd_settings *settings = s->settings;
    grdi_images_run *run = s->images = grdi_alloc_zero(1, sizeof(*run));
    if (!run) return out_of_memory(s);
    grd_status status = check_weights(s);
    if (!status) status = open_part(s, GRD_TRAIN, NULL, s->error);
    if (!status) status = take_about(s);
    if (status) return status;
    if (run->info.channels > CHANNELS_MAX)
        return grd_fail(s->error, GRD_E_FORMAT, "%s: images of %lld channels (at most %d are possible)",
                        settings->data.path, (long long)run->info.channels, CHANNELS_MAX);
    if (settings->model.classes == 0) settings->model.classes = run->info.classes;
    if (run->names && run->info.classes != settings->model.classes)
        return grd_fail(s->error, GRD_E_ARGUMENT, "model.classes: is %lld, and %s has %lld sub-folders (leave it out)",
                        (long long)settings->model.classes, settings->data.path, (long long)run->info.classes);
    if (run->info.classes > settings->model.classes)
        return grd_fail(s->error, GRD_E_ARGUMENT, "model.classes: is %lld, and %s has a label %lld",
                        (long long)settings->model.classes, settings->data.path, (long long)run->info.classes - 1);
    status = grdi_classifier_check(settings, &run->info, s->error);
    if (!status) status = open_test(s);
    if (status) return status;
    for (int i = 0; i < 2 && run->images[i] && !status; i++) {
        grd_images_info info = grd_images_about(run->images[i]);
        int64_t size_bytes = info.count * info.height * info.width * info.channels;
        status = grdi_session_add_source(s, settings->data.path, size_bytes, info.checksum);
    }
    if (status) return status;
    say_notes(s);
    long long tests = run->images[1] ? (long long)grd_images_about(run->images[1]).count : 0;
    grdi_session_note(s, "data: %lld training images of %lldx%lldx%lld in %lld classes, %lld test images",
                      (long long)run->info.count, (long long)run->info.height, (long long)run->info.width,
                      (long long)run->info.channels, (long long)settings->model.classes, tests);
    return GRD_OK;
}

/* Measures the training images: that is before anything is written, and reads some that may be damaged. */
static grd_status make_batches(grdi_session *s)
{
    grdi_images_run *run = s->images;
    double mean[CHANNELS_MAX], deviation[CHANNELS_MAX];
    if (s->lender) {
        memcpy(run->mean, s->lender->images->mean, sizeof(run->mean));
        memcpy(run->deviation, s->lender->images->deviation, sizeof(run->deviation));
        return GRD_OK;
    }
    grd_status status = grd_images_statistics(run->images[0], mean, deviation, s->error);
    for (int64_t c = 0; c < run->info.channels && !status; c++) {
        run->mean[c] = (float)mean[c];
        run->deviation[c] = deviation[c] > 0 ? (float)deviation[c] : 1;
    }
    return status;
}

/* Tells the model what pixels are like. A resumed run has the same numbers already. */
static grd_status start(grdi_session *s)
{
    const grdi_images_run *run = s->images;
    grd_status status = grd_model_write(s->model, "input/mean", run->mean, s->error);
    return status ? status : grd_model_write(s->model, "input/deviation", run->deviation, s->error);
}

/* Small images are drawn sooner than a thread is woken; files are worth one for each thread of the step. */
static int32_t workers(const grdi_session *s)
{
    if (s->settings->data.workers > 0 || s->settings->data.kind != GRD_DATA_IMAGES) return s->settings->data.workers;
    return s->options->threads > 0 ? s->options->threads : omp_get_max_threads();
}

/* A loader that gives that batch next: the one there is, or a new one. */
static grd_status loader_at(grdi_session *s, int64_t batch)
{
    grdi_images_run *run = s->images;
    const grd_settings *settings = s->settings;
    if (run->loader && run->next == batch) return GRD_OK;
    grd_image_loader_free(run->loader);
    run->next = batch;
    const grd_image_loader_options options = {.size = sizeof(options),
                                              .batch = settings->train.batch,
                                              .order = (grd_order)settings->data.order,
                                              .seed = (uint64_t)settings->train.seed,
                                              .augment = &settings->augment,
                                              .erased = run->mean,
                                              .workers = workers(s),
                                              .first = batch};
    return grd_image_loader_new(run->images[0], &options, &run->loader, s->error);
}

static grd_status feed(grdi_session *s, int64_t micro)
{
    grdi_images_run *run = s->images;
    grd_image_batch batch;
    grd_status status = loader_at(s, grdi_session_next_batch(s) + micro);
    if (!status) status = grd_image_loader_next(run->loader, &batch, s->error);
    if (status) return status;
    run->next++;
    s->last_inputs = batch.pixels;
    grdi_session_feed_key(s, micro);
    status = grd_step_feed(s->step, run->x, batch.pixels);
    if (!status) status = grd_step_feed(s->step, run->y, batch.labels);
    if (!status && mixes(s)) status = grd_step_feed(s->step, run->other, batch.other_labels);
    if (!status && mixes(s)) status = grd_step_feed(s->step, run->part, &batch.part);
    return status;
}

static void count(const grdi_session *s, grd_event *event)
{
    event->unit = "images";
    event->samples = s->settings->train.batch * s->settings->train.accumulate;
}

/* ---- the step and the test ---- */

static grd_tensor loss(grdi_session *s)
{
    grdi_images_run *run = s->images;
    int64_t batch = s->settings->train.batch;
    double smoothing = s->settings->train.label_smoothing;
    run->x = grd_input(s->graph, "x", GRD_F32, grd_shape(batch, run->info.height, run->info.width, run->info.channels));
    run->y = grd_input(s->graph, "y", GRD_I32, grd_shape(batch));
    s->ids = run->x;
    s->targets = run->y;
    grd_tensor logits = grdi_classifier_logits(s->settings, run->x, true, grdi_session_dropout_key(s));
    grd_tensor mean = grd_cross_entropy_mean(logits, run->y, .label_smoothing = smoothing);
    if (mixes(s)) { /* other + part (mean - other) */
        run->other = grd_input(s->graph, "other", GRD_I32, grd_shape(batch));
        run->part = grd_input(s->graph, "part", GRD_F32, grd_scalar());
        grd_tensor other = grd_cross_entropy_mean(logits, run->other, .label_smoothing = smoothing);
        mean = grd_add(other, grd_mul(run->part, grd_sub(mean, other)));
    }
    return grd_mul_scalar(mean, 1.0 / (double)s->settings->train.accumulate);
}

static grd_status build_evaluation(grdi_session *s)
{
    grd_status status = grdi_scorer_open(&s->images->scorer, s->model, s->settings, &s->images->info, s->error);
    s->eval = s->images->scorer.program;
    s->eval_ids = s->images->scorer.x;
    s->eval_output = s->images->scorer.logits;
    s->eval_graph = grd_tensor_graph(s->eval_ids);
    return status;
}

static bool can_evaluate(const grdi_session *s)
{
    return s->images->images[1] != NULL;
}

static grd_status evaluate(grdi_session *s, int64_t most, grd_event *event)
{
    grdi_images_run *run = s->images;
    *event = (grd_event){.step = s->done};
    grd_status status =
        grd_classification_begin(&run->counts, s->settings->model.classes, (const char *const *)run->names, s->error);
    if (status) return status;
    return grdi_scorer_run(&run->scorer, run->images[1], most, s->options->stop, &run->counts, event, s->error);
}

static void report(const grdi_session *s, grdi_writer *w)
{
    if (s->images) grdi_report_images(w, &s->images->counts, s->images->images[1]);
}

/* ---- files ---- */

static grd_status add_weights(grdi_session *s, grdi_checkpoint_writer *w)
{
    const grdi_classifier_about of = about(s);
    return grdi_classifier_add_weights(s->model, s->settings, &of, w, s->error);
}

static void close_images(grdi_session *s)
{
    grdi_images_run *run = s->images;
    if (!run) return;
    grdi_scorer_close(&run->scorer);
    grd_classification_free(&run->counts);
    grd_image_loader_free(run->loader);
    grdi_free(run->names);
    for (int part = 0; part < 2; part++) grd_images_free(run->images[part]);
    grdi_free(run);
}

static void expect(const grdi_session *s, grdi_expected *expected)
{
    long long classes = (long long)s->settings->model.classes;
    expected->loss = log((double)classes);
    expected->samples = s->images->info.count;
    snprintf(expected->text, sizeof(expected->text), "ln %lld (classes)", classes);
}

static grd_status check_data(grdi_session *s, struct grdi_checker *c)
{
    const grd_images *const images[2] = {s->images->images[0], s->images->images[1]};
    return grdi_check_images(c, images, s->settings);
}

const grdi_task grdi_task_images = {.open = open_images,
                                    .make_batches = make_batches,
                                    .start = start,
                                    .loss = loss,
                                    .build_evaluation = build_evaluation,
                                    .feed = feed,
                                    .count = count,
                                    .can_evaluate = can_evaluate,
                                    .evaluate = evaluate,
                                    .add_weights = add_weights,
                                    .read_weights = grdi_task_read_by_name,
                                    .expect = expect,
                                    .report = report,
                                    .check_data = check_data,
                                    .close = close_images};
