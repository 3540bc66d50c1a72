/* test_cli_images.c - classifiers of images by the command: training, tests, going on, bad files. The images are made
 * here, but for one run on Fashion-MNIST, where it is installed. */
#include "command.h"
#include "scratch.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

enum { SIDE = 12, CLASSES = 3, TRAINING = 150, TESTS = 50 };
#define FASHION "/usr/share/datasets/fashion-mnist"

static void make_folders(void);
TestSuite(cli_images, .init = make_folders, .fini = scratch_remove);

static void put_whole(unsigned char *to, unsigned value)
{
    for (int i = 0; i < 4; i++) to[i] = (unsigned char)(value >> (24 - 8 * i));
}

/* A bright square whose place tells the class, on noise. */
static void draw(unsigned char *pixels, int number)
{
    unsigned state = (unsigned)number * 2654435761u + 1;
    int label = number % CLASSES;
    for (int i = 0; i < SIDE * SIDE; i++) {
        state = state * 1664525u + 1013904223u;
        bool inside = i / SIDE / 4 == label && i % SIDE / 4 == (label + 1) % 3;
        pixels[i] = (unsigned char)(inside ? 150 + (state >> 26) : state >> 25);
    }
}

static void store(const char *folder, const char *name, const unsigned char *bytes, size_t size, bool zipped)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s%s", folder, name, zipped ? ".gz" : "");
    if (!zipped) {
        scratch_write(scratch_path(path), bytes, size);
        return;
    }
    gzFile file = gzopen(scratch_path(path), "wb");
    cr_assert(file && gzwrite(file, bytes, (unsigned)size) == (int)size && gzclose(file) == Z_OK);
}

/* Images first, first + 1, ... and their labels. */
static void make_part(const char *folder, const char *part, int first, int count, bool zipped)
{
    static unsigned char images[16 + TRAINING * SIDE * SIDE], labels[8 + TRAINING];
    char name[64];
    memcpy(images, "\0\0\x08\x03", 4), memcpy(labels, "\0\0\x08\x01", 4);
    put_whole(images + 4, (unsigned)count), put_whole(images + 8, SIDE), put_whole(images + 12, SIDE);
    put_whole(labels + 4, (unsigned)count);
    for (int i = 0; i < count; i++) {
        draw(images + 16 + i * SIDE * SIDE, first + i);
        labels[8 + i] = (unsigned char)((first + i) % CLASSES);
    }
    snprintf(name, sizeof name, "%s-images-idx3-ubyte", part);
    store(folder, name, images, 16 + (size_t)(count * SIDE * SIDE), zipped);
    snprintf(name, sizeof name, "%s-labels-idx1-ubyte", part);
    store(folder, name, labels, 8 + (size_t)count, zipped);
}

static void make_folders(void)
{
    const char *names[] = {"plain", "zipped", "no_test"};
    for (int i = 0; i < 3; i++) {
        mkdir(scratch_path(names[i]), 0755);
        make_part(names[i], "train", 0, TRAINING, i == 1);
        if (i < 2) make_part(names[i], i ? "t10k" : "test", TRAINING, TESTS, i == 1);
    }
}

#define QUICK "--set train.steps=30 --set train.batch=20 --set train.lr=0.003 --set train.precision=f32"

static json_t *last_eval(const char *out)
{
    json_t *evals = events_named(out, "eval");
    cr_assert(json_array_size(evals) > 0, "no evaluation in %s", out);
    return json_array_get(evals, json_array_size(evals) - 1);
}

Test(cli_images, learns_tests_and_evaluates)
{
    static const char *const kinds[] = {"lenet", "mlp", "logistic"};
    for (int i = 0; i < 3; i++) {
        const char *folder = i % 2 ? "zipped" : "plain";
        outcome o = gradus("train --data %s --model %s " QUICK " --set out=run%d --json", folder, kinds[i], i);
        cr_assert(o.code == 0, "%s", o.err);
        json_t *eval = last_eval(o.out), *steps = events_named(o.out, "step");
        cr_assert(json_array_size(steps) == 30);
        cr_assert(number_of(json_array_get(steps, 0), "samples") == 20);
        cr_assert(number_of(eval, "samples") == TESTS);
        cr_assert(number_of(eval, "accuracy") > 0.9, "%s: accuracy %g", kinds[i], number_of(eval, "accuracy"));
        json_t *again = only_event(gradus("eval run%d --json", i), "eval");
        cr_assert(number_of(again, "accuracy") == number_of(eval, "accuracy"));
        cr_assert(number_of(again, "loss") == number_of(eval, "loss"), "eval: loss %.9g, the run's %.9g",
                  number_of(again, "loss"), number_of(eval, "loss"));
    }
}

/* Dropout is in the steps and not in the evaluation: a first step's loss is another one, what is evaluated is the same
 * each time. */
Test(cli_images, drops_out)
{
    static const char *const rates[] = {"0", "0.3", "0.3"};
    static const char *const models[] = {"vit --set model.layers=1", "lenet", "mlp --set model.layers=2", "resnet18"};
    for (int m = 0; m < 4; m++) {
        double loss[3], tested[3];
        for (int i = 0; i < 3; i++) {
            outcome o = gradus("train --data plain --model %s " QUICK " --set model.width=%d --set train.warmup=0 "
                               "--set train.steps=10 --set model.dropout=%s --set out=drop%d-%d --json",
                               models[m], m == 3 ? 2 : 24, rates[i], m, i);
            cr_assert(o.code == 0, "%s", o.err);
            json_t *steps = events_named(o.out, "step");
            loss[i] = number_of(json_array_get(steps, 9), "loss");
            tested[i] = number_of(last_eval(o.out), "loss");
            cr_assert(number_of(only_event(gradus("eval drop%d-%d --json", m, i), "eval"), "loss") == tested[i]);
        }
        cr_assert(loss[0] != loss[1] && tested[0] != tested[1], "%s: no effect: %.9g", models[m], loss[0]);
        cr_assert(loss[1] == loss[2] && tested[1] == tested[2], "%s: two runs of one seed: %.9g and %.9g", models[m],
                  loss[1], loss[2]);
    }
}

/* Predictions of the test images are right as often as the evaluation says, as CSV and as JSON lines. */
Test(cli_images, predicts_what_it_evaluates)
{
    cr_assert(gradus("train --data plain --model mlp " QUICK " --set train.steps=2 "
                     " --set train.lr=1e-4 --set out=run")
                  .code == 0);
    double accuracy = number_of(only_event(gradus("eval run --json"), "eval"), "accuracy");
    outcome o = gradus("predict run plain");
    cr_assert(o.code == 0, "%s", o.err);
    cr_assert(strncmp(o.out, "index,prediction,probability\n", 29) == 0, "%s", o.out);
    int lines = 0, right = 0;
    for (char *line = strchr(o.out, '\n') + 1; *line; line = strchr(line, '\n') + 1, lines++) {
        int index, class;
        double probability;
        cr_assert(sscanf(line, "%d,%d,%lf", &index, &class, &probability) == 3 && index == lines, "%s", line);
        cr_assert(probability > 1.0 / CLASSES - 1e-6 && probability <= 1, "%s", line);
        right += class == (TRAINING + index) % CLASSES;
    }
    cr_assert(lines == TESTS && accuracy < 1 && fabs(right - accuracy * TESTS) < 0.5, "%d right of %d, accuracy %g",
              right, lines, accuracy);
    o = gradus("predict run/checkpoints/step-000002 plain/test-images-idx3-ubyte --json");
    cr_assert(o.code == 0 && strncmp(o.out, "{\"index\":0,\"prediction\":", 24) == 0, "%s%s", o.out, o.err);
    o = gradus("predict run no_test");
    cr_assert(o.code == 2 && strstr(o.err, "has no file t10k-images"), "%s", o.err);
}

/* By the rate and the optimizer that are chosen for it, on other weights than hidden matrices, too. */
Test(cli_images, vit_learns)
{
    outcome o = gradus("train --data plain --model vit --set model.layers=2 --set model.width=32 --set model.heads=2 "
                       "--set train.batch=20 --set train.steps=40 --set train.precision=f32 --threads 1 --set out=seen "
                       "--json");
    cr_assert(o.code == 0, "%s", o.err);
    size_t size;
    char *config = scratch_read(scratch_path("seen/config.yaml"), &size);
    cr_assert(config && strstr(config, "optimizer: muon"), "%s", config);
    cr_assert(number_of(last_eval(o.out), "accuracy") > 0.85, "%s", o.out);
    free(config);
}

/* As the optimizer is AdamW, so is the rate; but a rate that was set stays. */
Test(cli_images, vit_with_another_optimizer)
{
    static const char *const more[] = {"out=own", "out=given --set train.lr=0.3"}, *const rates[] = {"0.001\n",
                                                                                                     "0.3\n"};
    for (int i = 0; i < 2; i++) {
        outcome o = gradus("train --data plain --model vit --set model.layers=1 --set model.width=16 --set "
                           "model.heads=2 --set train.steps=1 --threads 1 --set train.optimizer=adamw --set %s",
                           more[i]);
        cr_assert(o.code == 0, "%s", o.err);
        size_t size;
        char *config = scratch_read(scratch_path(i ? "given/config.yaml" : "own/config.yaml"), &size);
        char *lr = strstr(config, " lr: ");
        cr_assert(lr && strncmp(lr + 5, rates[i], strlen(rates[i])) == 0, "%s", config);
        free(config);
    }
}

Test(cli_images, vit_with_its_keys)
{
    static const char *const pools[] = {"class", "mean"};
    for (int i = 0; i < 2; i++) {
        outcome o = gradus("train --data plain --model vit --set model.width=32 --set model.layers=2 --set "
                           "model.heads=2 --set model.patch=4 --set model.pool=%s " QUICK
                           " --set train.steps=4 --set out=%s --json",
                           pools[i], pools[i]);
        cr_assert(o.code == 0, "%s", o.err);
        json_t *again = only_event(gradus("eval %s --json", pools[i]), "eval");
        cr_assert(number_of(again, "loss") == number_of(last_eval(o.out), "loss"));
    }
}

Test(cli_images, report_speaks_of_images)
{
    static const char *const wanted[] = {
        "test accuracy",     "nats per image",           "images per second",
        "<th>images/s</th>", "mlp, 256 wide, 3 classes", "1 x 20 images, 20 images a step"};
    cr_assert(gradus("train --data plain --model mlp " QUICK " --set out=shown").code == 0);
    size_t size;
    char *html = scratch_read(scratch_path("shown/report.html"), &size);
    cr_assert(html && size > 1000);
    for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++)
        cr_expect(strstr(html, wanted[i]), "report.html lacks '%s'", wanted[i]);
    cr_expect(!strstr(html, "token") && !strstr(html, "bits per byte"), "report.html of images speaks of tokens");
    free(html);
}

Test(cli_images, goes_on_to_the_bit)
{
    const char *all = "train --data plain --model resnet18 --set model.width=4 " QUICK " --set train.steps=8";
    cr_assert(gradus("%s --set out=whole", all).code == 0);
    cr_assert(gradus("%s --set train.checkpoint_every=3 --set out=parts", all).code == 0);
    cr_assert(gradus("train --resume parts --previous").code == 0); /* again from step 6 */
    cr_assert(scratch_same("whole/checkpoints/step-000008/model.safetensors",
                           "parts/checkpoints/step-000008/model.safetensors"));
    cr_assert(scratch_same("whole/checkpoints/step-000008/optimizer.safetensors",
                           "parts/checkpoints/step-000008/optimizer.safetensors"));
}

Test(cli_images, starts_from_weights_by_name)
{
    cr_assert(gradus("train --data plain --model mlp " QUICK " --set out=first").code == 0);
    outcome o = gradus("train --data plain --model mlp " QUICK " --set train.steps=1 --set train.lr=1e-9 --set "
                       "init.from=first/checkpoints/step-000030/model.safetensors --set out=second --json");
    cr_assert(o.code == 0, "%s", o.err);
    cr_assert(number_of(last_eval(o.out), "accuracy") > 0.9);
}

Test(cli_images, trains_without_tests_and_plans)
{
    outcome o = gradus("train --data no_test " QUICK " --set train.steps=2 --set out=untested --json");
    cr_assert(o.code == 0 && json_array_size(events_named(o.out, "eval")) == 0, "%s", o.err);
    const char *config = "model: {kind: resnet18, width: 8}\ndata: {path: plain, kind: idx}\ntrain: {steps: 5}\n";
    scratch_write(scratch_path("net.yaml"), config, strlen(config));
    json_t *plan = only_event(gradus("plan net.yaml --json"), "plan");
    cr_assert(number_of(plan, "parameters") > 100000);
    cr_assert(strstr(gradus("inspect net.yaml").out, "resnet18, 8 wide"));
}

/* ---- folders of JPEG and PNG files ---- */

/* Ten copies of each of two images, which are two classes. */
static void make_photos(const char *folder)
{
    static const char *const names[] = {"grey.png", "colour.jpg"};
    char path[512];
    mkdir(scratch_path(folder), 0755);
    for (int i = 0; i < 20; i++) {
        size_t size;
        snprintf(path, sizeof path, "%s/%s", folder, i % 2 ? "leaf" : "bark");
        mkdir(scratch_path(path), 0755);
        snprintf(path, sizeof path, GRADUS_SOURCE_DIR "/tests/golden/images/%s", names[i % 2]);
        char *bytes = scratch_read(path, &size);
        snprintf(path, sizeof path, "%s/%s/%d%s", folder, i % 2 ? "leaf" : "bark", i, strchr(names[i % 2], '.'));
        scratch_write(scratch_path(path), bytes, size);
        free(bytes);
    }
}

Test(cli_images, folders_of_photos)
{
    make_photos("photos");
    outcome o =
        gradus("train --data photos --model mlp --set train.steps=24 --set train.batch=6 --set out=seen --json");
    cr_assert(o.code == 0 && strstr(o.out, "18 training images of 32x32x3 in 2 classes, 2 test images"), "%s%s", o.out,
              o.err);
    json_t *eval = only_event(gradus("eval seen --json"), "eval");
    cr_assert(number_of(eval, "accuracy") == 1 && number_of(eval, "samples") == 2);
    json_t *classes = json_object_get(eval, "classes"), *matrix = json_object_get(eval, "confusion");
    cr_assert(json_array_size(classes) == 2 && number_of(json_array_get(classes, 1), "recall") == 1);
    cr_assert(json_integer_value(json_array_get(json_array_get(matrix, 0), 0)) == 1);
    cr_assert(strstr(gradus("eval seen --data photos").out, "leaf                    1.0000  1.0000       10"));
    o = gradus("predict seen photos/leaf");
    cr_assert(o.code == 0 && strstr(o.out, "file,prediction,probability\nphotos/leaf/1.jpg,leaf,0."), "%s%s", o.out,
              o.err);
    cr_assert(gradus("train --resume seen --set train.steps=30").code == 0);
}

Test(cli_images, reading_is_measured)
{
    make_photos("photos");
    outcome o = gradus("bench images photos --steps 2 --batch 4 --threads 1 --json");
    cr_assert(o.code == 0, "%s", o.err);
    json_t *line = only_event(o, "bench");
    cr_assert(number_of(line, "images") == 20 && number_of(line, "threads") == 1, "%s", o.out);
    double rate = number_of(line, "samples_per_s");
    cr_assert(rate > 0 && rate == number_of(line, "samples_per_s_thread"), "%s", o.out);
    o = gradus("bench images photos --steps 1 --batch 2 --threads 2");
    cr_assert(o.code == 0 && strstr(o.out, "images, 20 files") && strstr(o.out, "images/s"), "%s%s", o.out, o.err);
    o = gradus("bench images");
    cr_assert(o.code == 2 && strstr(o.err, "bench images DIR"), "%s", o.err);
    o = gradus("bench images nowhere");
    cr_assert(o.code == 2 && strstr(o.err, "nowhere"), "%s", o.err);
}

/* Two steps are not enough: the report shows what is taken for what, and pictures of it. */
Test(cli_images, report_shows_mistakes)
{
    cr_assert(gradus("train --data plain --model mlp " QUICK " --set train.steps=2 --set train.lr=1e-4 "
                     "--set out=early")
                  .code == 0);
    size_t size;
    char *html = scratch_read(scratch_path("early/report.html"), &size);
    static const char *const wanted[] = {"<h3>Confusion</h3>", "<h3>By class</h3>", "<h2>Most wrong</h2>",
                                         "src=\"data:image/png;base64,iVBORw0KGgo"};
    for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++)
        cr_expect(strstr(html, wanted[i]), "report.html lacks '%s'", wanted[i]);
    cr_expect(size < 200000, "report.html has %zu bytes", size);
    free(html);
}

/* ---- bad input ---- */

static void damage(const char *folder, const char *file, size_t keep, const char *bytes, size_t at, size_t count)
{
    char command[512];
    const char *to = scratch_path(folder);
    mkdir(to, 0755);
    make_part(folder, "train", 0, TRAINING, false);
    make_part(folder, "test", TRAINING, TESTS, false);
    snprintf(command, sizeof command, "%s/%s", folder, file);
    size_t size;
    char *text = scratch_read(scratch_path(command), &size);
    if (count) memcpy(text + at, bytes, count);
    scratch_write(scratch_path(command), text, keep && keep < size ? keep : size);
    free(text);
}

static void refused(const char *arguments, const char *first, const char *second)
{
    outcome o = gradus("%s --set out=never", arguments);
    cr_expect(o.code == 2, "%s: exit code %d", arguments, o.code);
    cr_expect(strstr(o.err, first) && strstr(o.err, second), "%s: '%s' should say '%s' and '%s'", arguments, o.err,
              first, second);
    cr_expect(strchr(o.err, '\n') == o.err + strlen(o.err) - 1, "%s: more than a line: %s", arguments, o.err);
    cr_expect(access(scratch_path("never"), F_OK) != 0, "%s: made the run directory", arguments);
}

#define IMAGES "train-images-idx3-ubyte"
#define LABELS "train-labels-idx1-ubyte"

Test(cli_images, bad_files)
{
    damage("cut", IMAGES, 1000, NULL, 0, 0);
    refused("train --data cut", IMAGES, "is cut off");
    damage("stub", IMAGES, 9, NULL, 0, 0);
    refused("train --data stub", IMAGES, "is cut off");
    damage("magic", IMAGES, 0, "PK", 0, 2);
    refused("train --data magic", IMAGES, "is no IDX file");
    damage("floats", IMAGES, 0, "\x0D", 2, 1);
    refused("train --data floats", IMAGES, "type 0xd");
    damage("flat", IMAGES, 0, "\x02", 3, 1);
    refused("train --data flat", IMAGES, "has 2 dimensions");
    damage("none", IMAGES, 0, "\0\0\0\0", 4, 4);
    refused("train --data none", IMAGES, "holds nothing");
    damage("huge", IMAGES, 0, "\xFF\xFF\xFF\xFF", 8, 4);
    refused("train --data huge", IMAGES, "is cut off");
    damage("long", IMAGES, 0, "\x0B", 15, 1);
    refused("train --data long", IMAGES, "more bytes");
    damage("fewer", LABELS, 57, "\0\0\0\x31", 4, 4);
    refused("train --data fewer", LABELS, "49 labels for 150 images");
    damage("unlabelled", IMAGES, 0, NULL, 0, 0);
    unlink(scratch_path("unlabelled/" LABELS));
    refused("train --data unlabelled", "unlabelled", "has no file train-labels");
    damage("strange", "test-labels-idx1-ubyte", 0, "\x09", 8, 1);
    refused("train --data strange", "strange", "a test label is 9");
    store("zipped", IMAGES, (const unsigned char *)"\x1f\x8b no gzip", 10, false);
    unlink(scratch_path("zipped/" IMAGES ".gz"));
    refused("train --data zipped", IMAGES, "is damaged");
}

Test(cli_images, wrong_use)
{
    refused("train --data plain --model gpt2", "--model", "images");
    refused("train --data plain --model vgg", "'vgg' is not one of", "lenet");
    refused("train --data plain --set model.classes=2", "model.classes", "label 2");
    refused("train --data plain --model vit --set model.patch=5", "model.patch: 5 does not divide", "does)");
    refused("train --data plain --model vit --set model.heads=5", "model.heads: 5 does not divide", "128");
    refused("train --data plain --set model.kind=llama", "model.kind", "language model");
    refused("train --data plain --model mlp --set init.from=plain/" IMAGES, "init.from", IMAGES);
    const char *config = "model: {kind: lenet}\ntrain: {steps: 5}\n";
    scratch_write(scratch_path("lone.yaml"), config, strlen(config));
    refused("train lone.yaml", "model.kind: lenet", "data.path");
    cr_assert(gradus("train --data plain --model logistic " QUICK " --set train.steps=1 --set out=tiny").code == 0);
    outcome o = gradus("sample tiny");
    cr_assert(o.code == 2 && strstr(o.err, "is no language model"), "%d %s", o.code, o.err);
    o = gradus("eval tiny --data no_test");
    cr_assert(o.code == 2 && strstr(o.err, "has no file t10k-images"), "%d %s", o.code, o.err);
}

/* The network that is chosen, for an eighth of an epoch. */
Test(cli_images, fashion_mnist)
{
    if (access(FASHION, F_OK) != 0) cr_skip_test("dataset-fashion-mnist is not installed");
    outcome o = gradus("train --data " FASHION " --threads 2 --set train.steps=120 --set train.warmup=20 --set "
                       "train.eval_every=0 --set out=fashion --json");
    cr_assert(o.code == 0, "%s", o.err);
    cr_assert(number_of(last_eval(o.out), "samples") == 10000);
    cr_assert(number_of(last_eval(o.out), "accuracy") > 0.72, "accuracy %g", number_of(last_eval(o.out), "accuracy"));
}

/* Patches do not move with an image that is moved. */
Test(cli_images, vit_is_not_moved)
{
    if (access(FASHION, F_OK) != 0) cr_skip_test("dataset-fashion-mnist is not installed");
    outcome o = gradus("train --data " FASHION " --model vit --threads 1 --set model.layers=1 --set model.width=16 "
                       "--set train.steps=1 --set out=vit");
    cr_assert(o.code == 0, "%s", o.err);
    cr_assert(strstr(o.err, "images are mirrored, as") || strstr(o.out, "images are mirrored, as"), "%s", o.err);
}
