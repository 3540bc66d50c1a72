/* test_run_faults.c - whole runs when an allocation or a file operation fails: training on every kind of data,
 * resuming, sampling, scoring, predicting. Each ends with an error in words, or as if nothing had been; what was saved
 * before is whole; nothing leaks. */
#include "base/file.h"
#include "base/memory.h"
#include "faults.h"
#include "formats/checkpoint.h"
#include "scratch.h"

#include <criterion/criterion.h>
#include <gradus/hf.h>
#include <gradus/run.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

static void make_data(void);
TestSuite(run_faults, .init = make_data, .fini = scratch_remove);

enum { ROWS = 60 };

static void make_text(void)
{
    static char text[600];
    for (size_t i = 0; i < sizeof(text); i++) text[i] = "to be or not to be\n"[i % 19];
    scratch_write(scratch_path("a.txt"), text, sizeof(text));
}

static void make_table(void)
{
    static char text[ROWS * 40 + 100];
    size_t used = (size_t)sprintf(text, "size,place,kind,cost\n");
    for (int i = 0; i < ROWS; i++) {
        int size = i * 37 % 101;
        used += (size_t)sprintf(text + used, "%d,%s,%s,%.2f\n", size, i % 4 ? "left" : "right",
                                size + i % 5 > 50 ? "pot" : "cup", 2.5 * size + i % 7);
    }
    scratch_write(scratch_path("table.csv"), text, used);
}

static void make_series(void)
{
    static char text[ROWS * 40 + 100];
    size_t used = (size_t)sprintf(text, "when,load,wind\n");
    for (int i = 0; i < ROWS; i++)
        used += (size_t)sprintf(text + used, "2026-%02d-%02d,%.3f,%d\n", 1 + i / 28, 1 + i % 28, sin(i * 0.9) + 0.1 * i,
                                i * 37 % 11);
    scratch_write(scratch_path("series.csv"), text, used);
}

/* Two classes of one image three times each, to learn from and as a test. */
static void make_images(void)
{
    static const char *const parts[] = {"train", "test"}, *const images[] = {"colour.png", "grey.jpg"};
    for (int i = 0; i < 12; i++) {
        char from[4200], to[64];
        size_t size;
        snprintf(from, sizeof(from), "%s/tests/golden/images/%s", GRADUS_SOURCE_DIR, images[i / 2 % 2]);
        snprintf(to, sizeof(to), "set/%s/%s/%d.%s", parts[i % 2], i / 2 % 2 ? "ash" : "oak", i,
                 i / 2 % 2 ? "jpg" : "png");
        char *bytes = scratch_read(from, &size);
        grd_error error = {GRD_OK, ""};
        char folder[4200];
        snprintf(folder, sizeof(folder), "%s", scratch_path(to));
        *strrchr(folder, '/') = '\0';
        cr_assert(grdi_directory_make(folder, &error) == GRD_OK, "%s", error.message);
        scratch_write(scratch_path(to), bytes, size);
        free(bytes);
    }
}

static void make_data(void)
{
    make_text();
    make_table();
    make_series();
    make_images();
}

/* What is trained: a name in the scratch folder and settings, steps beside them. */
typedef struct subject {
    const char *data, *assignments[12];
} subject;

static const subject text_model = {"a.txt",
                                   {"model.layers=1", "model.heads=2", "model.width=8", "model.context=8",
                                    "train.batch=2", "data.tokenizer=byte", "train.checkpoint_every=1",
                                    "train.eval_windows=2", "train.ema=0.5"}};

static const subject others[] = {
    {"table.csv", {"data.target=cost", "model.kind=linear"}},
    {"table.csv", {"data.target=kind", "model.kind=logistic"}},
    {"table.csv", {"data.target=kind", "model.kind=mlp", "model.width=4", "train.batch=8"}},
    {"series.csv",
     {"data.time=when", "data.target=load", "data.inputs=[wind]", "data.horizon=2", "model.kind=lstm", "model.width=4",
      "model.context=6", "train.batch=4"}},
    {"set", {"model.kind=logistic", "data.height=8", "data.width=8", "data.channels=3", "train.batch=2"}},
};
enum { OTHERS = sizeof(others) / sizeof(others[0]) };

typedef struct outcome {
    grd_error error;
    int notes; /* remarks for people: what went wrong without ending the run */
    int evals;
    char said[4096]; /* the last note; what was predicted; of a sample, the text */
    size_t size;
} outcome;

static void on_event(void *context, const grd_event *event)
{
    outcome *o = context;
    o->evals += event->kind == GRD_EVENT_EVAL;
    if (event->kind != GRD_EVENT_NOTE) return;
    o->notes++;
    snprintf(o->said, sizeof(o->said), "%s", event->text);
}

static void on_text(void *context, const char *bytes, size_t size_bytes)
{
    outcome *o = context;
    if (size_bytes > sizeof(o->said) - o->size) size_bytes = sizeof(o->said) - o->size;
    memcpy(o->said + o->size, bytes, size_bytes);
    o->size += size_bytes;
}

static void on_prediction(void *context, const grd_prediction *p)
{
    char line[300];
    int length = snprintf(line, sizeof(line), "%s %s %.9g\n", p->item, p->label ? p->label : "", p->value);
    on_text(context, line, (size_t)length);
}

static outcome train(const subject *s, const char *steps, bool resume)
{
    outcome o = {.error = {GRD_OK, ""}};
    grd_settings *settings = grd_settings_new();
    if (!settings) {
        grd_fail(&o.error, GRD_E_MEMORY, "no settings");
        return o;
    }
    char path[4200], out[4200], number[64];
    snprintf(path, sizeof(path), "data.path=%s", scratch_path(s->data));
    snprintf(out, sizeof(out), "out=%s", scratch_path("run"));
    snprintf(number, sizeof(number), "train.steps=%s", steps);
    grd_status status = grd_settings_set(settings, path, &o.error);
    if (!status) status = grd_settings_set(settings, out, &o.error);
    if (!status) status = grd_settings_set(settings, number, &o.error);
    for (size_t i = 0; s->assignments[i] && !status; i++)
        status = grd_settings_set(settings, s->assignments[i], &o.error);
    const grd_run_options options = {.size = sizeof(options),
                                     .device = "ref", /* needs no measuring, which would take most of the time */
                                     .threads = 1,
                                     .on_event = on_event,
                                     .context = &o,
                                     .resume = resume};
    if (!status) status = grd_train_text(settings, &options, &o.error);
    cr_expect(status == o.error.status, "returned %d, the error is %d: %s", status, o.error.status, o.error.message);
    grd_settings_free(settings);
    return o;
}

static outcome train_two_steps(const subject *s)
{
    return train(s, "2", false);
}

static const grd_run_options plain = {.size = sizeof(plain), .device = "ref", .threads = 1};

static outcome sample(const subject *s)
{
    (void)s;
    outcome o = {.error = {GRD_OK, ""}};
    const grd_sample_options options = {.size = sizeof(options), .prompt = "to be", .tokens = 6, .seed = 7};
    grd_status status = grd_sample_run(scratch_path("run"), &options, &plain, on_text, &o, &o.error);
    cr_expect(status == o.error.status, "returned %d, the error is %d: %s", status, o.error.status, o.error.message);
    return o;
}

static outcome evaluate(const subject *s)
{
    (void)s;
    outcome o = {.error = {GRD_OK, ""}};
    const grd_evaluate_options options = {.size = sizeof(options)};
    grd_event event;
    grd_status status = grd_evaluate_run(scratch_path("run"), &options, &plain, &event, &o.error);
    cr_expect(status == o.error.status, "returned %d, the error is %d: %s", status, o.error.status, o.error.message);
    if (!status) o.size = (size_t)snprintf(o.said, sizeof(o.said), "%.9g", event.loss);
    return o;
}

static outcome predict(const subject *s)
{
    outcome o = {.error = {GRD_OK, ""}};
    grd_status status =
        grd_predict_run(scratch_path("run"), scratch_path(s->data), &plain, on_prediction, &o, &o.error);
    cr_expect(status == o.error.status, "returned %d, the error is %d: %s", status, o.error.status, o.error.message);
    return o;
}

/* Fails the test when the newest checkpoint is damaged. Its step, 0 when there is none. */
static uint64_t newest_step(const char *when)
{
    char *path = NULL;
    uint64_t step = 0;
    grd_error error = {GRD_OK, ""};
    grdi_checkpoint *checkpoint = NULL;
    grd_status status = grdi_checkpoint_find(scratch_path("run/checkpoints"), 0, &step, &path, &error);
    if (!status && path) status = grdi_checkpoint_open(path, &checkpoint, &error);
    cr_expect(!status, "%s: the newest checkpoint: %s", when, error.message);
    grdi_checkpoint_close(checkpoint);
    bool found = path != NULL;
    grdi_free(path);
    return found ? step : 0;
}

/* The weights of the newest checkpoint. */
static char *read_weights(size_t *size)
{
    char name[64];
    snprintf(name, sizeof(name), "run/checkpoints/step-%06d/model.safetensors", (int)newest_step("weights"));
    return scratch_read(scratch_path(name), size);
}

/* The test fails when the newest checkpoint does not hold these weights. */
static void expect_weights(const char *wanted, size_t wanted_size, const char *when, const outcome *o)
{
    size_t size;
    char *got = read_weights(&size);
    cr_expect(size == wanted_size && memcmp(got, wanted, size) == 0, "%s: other weights (%s)", when, o->said);
    free(got);
}

static void forget_run(void)
{
    grd_error error = {GRD_OK, ""};
    cr_assert(grdi_directory_remove(scratch_path("run"), &error) == GRD_OK, "%s", error.message);
}

/* An error in one line that is not only a code. */
static void expect_words(const outcome *o, const char *when)
{
    cr_expect(strlen(o->error.message) > 8 && !strstr(o->error.message, "(null)"), "%s: '%s'", when, o->error.message);
}

/* Trial after trial fails call n: all up to `dense`, later ones spread out, as a run makes thousands. */
static long next_trial(long n, long dense)
{
    return n < dense ? n + 1 : n + 1 + n * 5 / (2 * dense);
}

/* Runs it again and again with one call failing, until no call is left. Weights are compared where it `trains`. */
static void fail_each(const char *what, const subject *s, outcome (*run)(const subject *), bool trains, long dense)
{
    char *wanted = NULL;
    size_t wanted_size = 0;
    outcome whole = run(s);
    cr_assert(!whole.error.status, "%s of %s, without a fault: %s", what, s->data, whole.error.message);
    cr_assert(faults_held() == 0, "%s of %s, without a fault: %ld things leak", what, s->data, faults_held());
    cr_assert(trains || whole.size > 5, "%s of %s gives nothing", what, s->data);
    if (trains) wanted = read_weights(&wanted_size);
    long n = 1, trials = 0, survived = 0;
    for (bool hit = true; hit; n = next_trial(n, dense), trials++) {
        char when[128];
        snprintf(when, sizeof(when), "%s of %s, %s, fault %ld", what, s->data, s->assignments[1], n);
        if (trains) forget_run();
        faults_fail_at(n);
        outcome o = run(s);
        hit = faults_hit();
        faults_fail_at(0);
        cr_assert(faults_held() == 0, "%s: %ld things leak (%s)", when, faults_held(), o.error.message);
        if (trains) newest_step(when);
        if (o.error.status) {
            expect_words(&o, when);
            continue;
        }
        survived += hit; /* closing what was only read, giving back what was too much */
        cr_expect(o.evals == whole.evals, "%s: %d evaluations instead of %d", when, o.evals, whole.evals);
        if (trains) expect_weights(wanted, wanted_size, when, &o);
        else cr_expect(o.size == whole.size && memcmp(o.said, whole.said, o.size) == 0, "%s: another result", when);
    }
    printf("%s of %s: %ld trials up to call %ld, %ld of them went on\n", what, s->data, trials, n, survived);
    fflush(stdout);
    cr_assert(trials > dense, "%s of %s: only %ld trials", what, s->data, trials);
    free(wanted);
}

Test(run_faults, training)
{
    faults_install();
    fail_each("training", &text_model, train_two_steps, true, 150);
}

Test(run_faults, training_on_other_data)
{
    faults_install();
    for (int i = 0; i < OTHERS; i++) {
        fail_each("training", &others[i], train_two_steps, true, 30);
        forget_run();
    }
}

Test(run_faults, resuming)
{
    char *wanted;
    size_t wanted_size;
    faults_install();
    cr_assert(!train(&text_model, "2", false).error.status, "in one go");
    wanted = read_weights(&wanted_size);
    long n = 1, trials = 0;
    for (bool hit = true; hit; n = next_trial(n, 150), trials++) {
        char when[64];
        snprintf(when, sizeof(when), "fault %ld", n);
        forget_run();
        cr_assert(!train(&text_model, "1", false).error.status, "%s: before", when);
        faults_fail_at(n);
        outcome o = train(&text_model, "2", true);
        hit = faults_hit();
        faults_fail_at(0);
        cr_assert(faults_held() == 0, "%s: %ld things leak (%s)", when, faults_held(), o.error.message);
        cr_expect(newest_step(when) >= 1, "%s: nothing is left to resume from", when);
        if (o.error.status) {
            expect_words(&o, when);
            o = train(&text_model, "2", true);
            cr_expect(!o.error.status, "%s: cannot be resumed any more: %s", when, o.error.message);
        }
        expect_weights(wanted, wanted_size, when, &o);
    }
    printf("resuming: %ld trials up to call %ld\n", trials, n);
    fflush(stdout);
    cr_assert(trials > 150, "only %ld trials", trials);
    free(wanted);
}

Test(run_faults, sampling)
{
    faults_install();
    cr_assert(!train(&text_model, "1", false).error.status, "train");
    fail_each("sampling", &text_model, sample, false, 150);
    fail_each("scoring", &text_model, evaluate, false, 30);
}

Test(run_faults, scoring_and_predicting_of_other_data)
{
    faults_install();
    for (int i = 0; i < OTHERS; i++) {
        cr_assert(!train_two_steps(&others[i]).error.status, "train");
        fail_each("scoring", &others[i], evaluate, false, 30);
        fail_each("predicting", &others[i], predict, false, 30);
        forget_run();
    }
}
