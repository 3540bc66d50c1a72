/* test_run_faults.c - whole runs when an allocation or a file operation fails: training, resuming, sampling. Each ends
 * with an error in words, or as if nothing had been; what was saved before is whole; nothing leaks. */
#include "base/file.h"
#include "base/memory.h"
#include "faults.h"
#include "formats/checkpoint.h"
#include "scratch.h"

#include <criterion/criterion.h>
#include <gradus/hf.h>
#include <gradus/run.h>
#include <string.h>
#include <unistd.h>

static void make_text(void);
TestSuite(run_faults, .init = make_text, .fini = scratch_remove, .timeout = 600);

static void make_text(void)
{
    static char text[600];
    for (size_t i = 0; i < sizeof(text); i++) text[i] = "to be or not to be\n"[i % 19];
    scratch_write(scratch_path("a.txt"), text, sizeof(text));
}

typedef struct outcome {
    grd_error error;
    int notes;        /* remarks for people: what went wrong without ending the run */
    char said[4096];  /* the last note; of a sample, the text */
    size_t size;
} outcome;

static void on_event(void *context, const grd_event *event)
{
    outcome *o = context;
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

/* Two steps of a tiny model, in all: a resumed run goes on to the second. */
static outcome train(const char *steps, bool resume)
{
    outcome o = {{GRD_OK, ""}, 0, "", 0};
    grd_settings *settings = grd_settings_new();
    if (!settings) {
        grd_fail(&o.error, GRD_E_MEMORY, "no settings");
        return o;
    }
    char path[4200], out[4200], number[64];
    snprintf(path, sizeof(path), "data.path=%s", scratch_path("a.txt"));
    snprintf(out, sizeof(out), "out=%s", scratch_path("run"));
    snprintf(number, sizeof(number), "train.steps=%s", steps);
    const char *const assignments[] = {path, out, number, "model.layers=1", "model.heads=2", "model.width=8",
                                       "model.context=8", "train.batch=2", "data.tokenizer=byte",
                                       "train.checkpoint_every=1", "train.eval_windows=2", "train.ema=0.5"};
    grd_status status = GRD_OK;
    for (size_t i = 0; i < sizeof(assignments) / sizeof(assignments[0]) && !status; i++)
        status = grd_settings_set(settings, assignments[i], &o.error);
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

static outcome sample(void)
{
    outcome o = {{GRD_OK, ""}, 0, "", 0};
    const grd_sample_options options = {.size = sizeof(options), .prompt = "to be", .tokens = 6, .seed = 7};
    const grd_run_options run_options = {.size = sizeof(run_options), .device = "ref", .threads = 1};
    grd_status status = grd_sample_run(scratch_path("run"), &options, &run_options, on_text, &o, &o.error);
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

static void read_weights(char **bytes, size_t *size)
{
    *bytes = scratch_read(scratch_path("run/checkpoints/step-000002/model.safetensors"), size);
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

/* The n-th trial fails call n, at first; later ones are spread out, as a run makes thousands. */
static long next_trial(long n)
{
    return n < 150 ? n + 1 : n + 1 + n / 60;
}

Test(run_faults, training)
{
    char *wanted, *got;
    size_t wanted_size, got_size;
    faults_install();
    outcome whole = train("2", false);
    cr_assert(!whole.error.status, "without a fault: %s", whole.error.message);
    cr_assert(newest_step("without a fault") == 2, "two steps");
    cr_assert(faults_held() == 0, "without a fault, %ld things leak", faults_held());
    read_weights(&wanted, &wanted_size);
    long n = 1, trials = 0, survived = 0;
    for (bool hit = true; hit; n = next_trial(n), trials++) {
        char when[64];
        snprintf(when, sizeof(when), "fault %ld", n);
        forget_run();
        faults_fail_at(n);
        outcome o = train("2", false);
        hit = faults_hit();
        faults_fail_at(0);
        cr_assert(faults_held() == 0, "%s: %ld things leak (%s)", when, faults_held(), o.error.message);
        uint64_t step = newest_step(when);
        if (o.error.status) {
            expect_words(&o, when);
            continue;
        }
        survived += hit; /* closing what was only read, giving back what was too much */
        cr_expect(step == 2, "%s: no error, but step %d is the newest", when, (int)step);
        read_weights(&got, &got_size);
        cr_expect(got_size == wanted_size && memcmp(got, wanted, got_size) == 0, "%s: other weights", when);
        free(got);
    }
    printf("training: %ld trials up to call %ld, %ld of them went on\n", trials, n, survived);
    fflush(stdout);
    cr_assert(trials > 150, "only %ld trials", trials);
}

Test(run_faults, resuming)
{
    char *wanted, *got;
    size_t wanted_size, got_size;
    faults_install();
    cr_assert(!train("2", false).error.status, "in one go");
    read_weights(&wanted, &wanted_size);
    long n = 1, trials = 0;
    for (bool hit = true; hit; n = next_trial(n), trials++) {
        char when[64];
        snprintf(when, sizeof(when), "fault %ld", n);
        forget_run();
        cr_assert(!train("1", false).error.status, "%s: before", when);
        faults_fail_at(n);
        outcome o = train("2", true);
        hit = faults_hit();
        faults_fail_at(0);
        cr_assert(faults_held() == 0, "%s: %ld things leak (%s)", when, faults_held(), o.error.message);
        uint64_t step = newest_step(when);
        cr_expect(step >= 1, "%s: nothing is left to resume from", when);
        if (o.error.status) {
            expect_words(&o, when);
            o = train("2", true);
            cr_expect(!o.error.status, "%s: cannot be resumed any more: %s", when, o.error.message);
        }
        read_weights(&got, &got_size);
        cr_expect(got_size == wanted_size && memcmp(got, wanted, got_size) == 0, "%s: other weights (%s)", when,
                  o.said);
        free(got);
    }
    printf("resuming: %ld trials up to call %ld\n", trials, n);
    fflush(stdout);
    cr_assert(trials > 150, "only %ld trials", trials);
}

Test(run_faults, sampling)
{
    faults_install();
    cr_assert(!train("1", false).error.status, "train");
    outcome whole = sample();
    cr_assert(!whole.error.status && whole.size > 5, "without a fault: %s", whole.error.message);
    long n = 1;
    for (bool hit = true; hit; n++) {
        faults_fail_at(n);
        outcome o = sample();
        hit = faults_hit();
        faults_fail_at(0);
        cr_assert(faults_held() == 0, "fault %ld: %ld things leak (%s)", n, faults_held(), o.error.message);
        char when[64];
        snprintf(when, sizeof(when), "fault %ld", n);
        if (o.error.status) expect_words(&o, when);
        else cr_expect(o.size == whole.size && memcmp(o.said, whole.said, o.size) == 0, "%s: another text", when);
    }
    printf("sampling: %ld calls\n", n - 2);
    fflush(stdout);
    cr_assert(n > 100, "only %ld calls", n);
}
