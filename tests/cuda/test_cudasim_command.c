/* test_cudasim_command.c - the command on the simulated CUDA device: a language model trains, says samples and is
 * evaluated as it is on the CPU. */
#include "command.h"
#include "scratch.h"
#include "sim_library.h"

#include <glob.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static void make_text(void);
TestSuite(cudasim_command, .init = make_text, .fini = scratch_remove);

static void make_text(void)
{
    char text[2000];
    for (size_t i = 0; i < sizeof(text); i++) text[i] = "the cat sat on the mat.\n"[i % 24];
    scratch_write(scratch_path("text.txt"), text, sizeof(text));
    if (on_simulator()) setenv("GRADUS_PLUGIN_DIR", GRADUS_BINARY_DIR "/tests", 1);
}

/* What training and sampling say, as JSON lines. */
static void run_on(const char *device, json_t **eval, json_t **sample)
{
    outcome o =
        gradus("train --data text.txt --device %s --set model.layers=2 --set model.width=16 --set model.heads=2 "
               "--set model.context=16 --set train.batch=2 --set train.steps=3 --set train.minutes=0 "
               "--set out=run-%.4s --json",
               device, device);
    cr_assert(o.code == 0, "%s%s", o.out, o.err);
    json_t *evals = events_named(o.out, "eval"), *samples = events_named(o.out, "sample");
    cr_assert(json_array_size(evals) > 0 && json_array_size(samples) > 0, "%s", o.out);
    *eval = json_array_get(evals, json_array_size(evals) - 1);
    *sample = json_array_get(samples, json_array_size(samples) - 1);
}

Test(cudasim_command, trains_and_samples_as_on_the_cpu)
{
    json_t *eval[2], *sample[2];
    run_on("cpu", &eval[0], &sample[0]);
    run_on(cuda_device(), &eval[1], &sample[1]);
    double cpu = number_of(eval[0], "loss"), sim = number_of(eval[1], "loss");
    cr_assert(fabs(cpu - sim) < 1e-4 * cpu, "validation %.7g, on the CPU %.7g", sim, cpu);
    const char *said = json_string_value(json_object_get(sample[1], "text"));
    const char *wanted = json_string_value(json_object_get(sample[0], "text"));
    cr_assert(said && wanted && strcmp(said, wanted) == 0, "'%s', on the CPU '%s'", said, wanted);
}

/* The kind of the device that a checkpoint's state.json has after a step with that setting; free it. */
static char *state_with(const char *setting, const char *run)
{
    char path[128];
    size_t size;
    outcome o =
        gradus("train --data text.txt --device %s --set model.layers=1 --set model.width=16 --set model.heads=2 "
               "--set model.context=16 --set train.batch=2 --set train.steps=1 --set train.minutes=0 "
               "--set train.sample_every=0 --set %s --set out=%s --json",
               cuda_device(), setting, run);
    cr_assert(o.code == 0, "%s%s", o.out, o.err);
    snprintf(path, sizeof(path), "%s/checkpoints/step-000001/state.json", run);
    return scratch_read(scratch_path(path), &size);
}

Test(cudasim_command, tf32_is_one_word)
{
    char *state = state_with("train.precision=tf32", "run");
    cr_assert(strstr(state, " tf32 "), "the device's kind does not say tf32: %s", state);
    free(state);
}

Test(cudasim_command, nondeterministic_is_one_word)
{
    setenv("GRADUS_SIM_ANY_ORDER", "1", 1);
    char *state = state_with("train.deterministic=false", "run");
    cr_assert(strstr(state, " nondeterministic "), "the device's kind does not say it: %s", state);
    free(state);
    state = state_with("train.deterministic=true", "other");
    cr_assert(!strstr(state, "nondeterministic"), "%s", state);
    free(state);
}

#define TINY                                                                                                           \
    "train --data text.txt --device %s --set model.layers=1 --set model.width=16 --set model.heads=2 "                 \
    "--set model.context=16 --set train.batch=2 --set train.minutes=0 --set train.sample_every=0 "                     \
    "--set train.schedule=constant --set train.warmup=0 --json "

/* The device is a step further when the host sees a gradient that is not finite: the run still ends before that step,
 * and the op is found by feeding its micro-batches once more. */
Test(cudasim_command, stops_at_a_gradient_that_is_not_finite)
{
    size_t steps[2];
    for (int k = 0; k < 2; k++) {
        outcome o = gradus(TINY "--set train.optimizer=sgd --set train.lr=1e6 --set train.clip_norm=0 "
                                "--set train.accumulate=2 --set train.steps=40 --set out=nan%d "
                                "--set 'train.groups=[{match: \"**\", lr_scale: 1e6}]'",
                           k ? cuda_device() : "cpu", k);
        cr_assert(o.code == 1, "exit code %d: %s", o.code, o.err);
        cr_assert(strstr(o.err, "the gradient is not finite; first seen in"), "%s", o.err);
        json_t *saved = events_named(o.out, "saved");
        steps[k] = json_array_size(events_named(o.out, "step"));
        cr_assert(json_array_size(saved) == 1, "%s", o.out);
        cr_assert(number_of(json_array_get(saved, 0), "step") == (double)steps[k], "%zu steps, %s", steps[k], o.out);
    }
    cr_assert(steps[0] == steps[1], "%zu steps on the CPU, %zu here", steps[0], steps[1]);
}

/* After seven steps of two runs. */
static bool same_weights(const char *first, const char *second)
{
    char path[2][128];
    for (int k = 0; k < 2; k++)
        snprintf(path[k], sizeof(path[k]), "%s/checkpoints/step-000007/model.safetensors", k ? second : first);
    return scratch_same(path[0], path[1]);
}

/* Runs `train` (its first part and --set out=) with one choice the fastest, in one go to `whole` and in two to `parts`,
 * of which the second part begins when another is: then it must go on with the first. `other` has that one alone. */
static void resume_beside_a_faster(const char *train, const char *fastest, const char *faster)
{
    char call[1024];
    setenv("GRADUS_SIM_FASTEST", fastest, 1);
    snprintf(call, sizeof(call), "%s--set train.steps=7 --set out=whole", train);
    cr_assert(gradus(call, cuda_device()).code == 0);
    snprintf(call, sizeof(call), "%s--set train.steps=4 --set out=parts", train);
    cr_assert(gradus(call, cuda_device()).code == 0);
    setenv("GRADUS_SIM_FASTEST", faster, 1);
    snprintf(call, sizeof(call), "%s--set train.steps=7 --set out=other", train);
    cr_assert(gradus(call, cuda_device()).code == 0);
    outcome o = gradus("train --resume parts --device %s --set train.steps=7 --json", cuda_device());
    cr_assert(o.code == 0, "%s", o.err);
    cr_assert(!same_weights("whole", "other"), "the choice makes no difference, so nothing is shown");
    cr_assert(same_weights("whole", "parts"), "the resumed run chose otherwise");
}

/* Makes every algorithm of cuBLASLt in the cache folder's file a row of F. */
static void spoil_cache(void)
{
    glob_t files;
    size_t size;
    cr_assert(glob(scratch_path("cache/algorithms-*.lock"), 0, NULL, &files) == 0 && files.gl_pathc == 1);
    char *text = scratch_read(files.gl_pathv[0], &size);
    for (char *line = strstr(text, "\nproduct "); line; line = strstr(line, "\nproduct "))
        for (line = strstr(line, ": ") + 2; *line != '\n'; line++) *line = 'f';
    scratch_write(files.gl_pathv[0], text, size);
    globfree(&files);
    free(text);
}

/* Algorithms that sum in other orders, the second and then the third the fastest: what a resumed run goes on with is
 * what the first start chose, as plan.lock says, not what is the fastest now. */
Test(cudasim_command, keeps_the_algorithms_of_a_run)
{
    if (!on_simulator()) return;
    setenv("GRADUS_SIM_ALGORITHMS", "4", 1);
    resume_beside_a_faster(TINY, "1", "2");
    size_t size;
    char *lock = scratch_read(scratch_path("parts/checkpoints/step-000007/plan.lock"), &size);
    cr_assert(strncmp(lock, "# algorithms chosen by timing", 29) == 0 && strstr(lock, "\nproduct m="), "%s", lock);
    free(lock);
}

/* Runs of a machine choose alike, whatever is the fastest when they start: a cache folder keeps the first's choice. */
Test(cudasim_command, chooses_algorithms_once_for_all_runs)
{
    setenv("GRADUS_SIM_ALGORITHMS", "4", 1);
    setenv("GRADUS_CACHE_DIR", scratch_path("cache"), 1);
    for (int k = 1; k <= 2; k++) {
        char fastest[2] = {(char)('0' + k), '\0'};
        setenv("GRADUS_SIM_FASTEST", fastest, 1);
        cr_assert(gradus(TINY "--set train.steps=7 --set out=run%d", cuda_device(), k).code == 0);
    }
    cr_assert(same_weights("run1", "run2"), "the second run chose for itself");
}

/* A cache folder that cannot be made, and bytes in it that are no algorithm. */
Test(cudasim_command, goes_on_without_a_sound_cache)
{
    if (!on_simulator()) return;
    setenv("GRADUS_SIM_ALGORITHMS", "4", 1);
    setenv("GRADUS_SIM_FASTEST", "1", 1);
    for (int k = 1; k <= 3; k++) {
        setenv("GRADUS_CACHE_DIR", k == 1 ? "/dev/null/cache" : scratch_path("cache"), 1);
        outcome o = gradus(TINY "--set train.steps=7 --set out=run%d", cuda_device(), k);
        cr_assert(o.code == 0 && !o.err[0], "%d: %s", k, o.err);
        if (k == 2) spoil_cache();
    }
    cr_assert(same_weights("run1", "run2") && same_weights("run1", "run3"), "what was spoilt was taken");
}

/* A list of another kind of device is told of, and algorithms are chosen anew. */
Test(cudasim_command, renews_the_algorithms_of_another_device)
{
    if (!on_simulator()) return;
    setenv("GRADUS_SIM_ALGORITHMS", "4", 1);
    cr_assert(gradus(TINY "--set train.steps=4 --set out=parts", cuda_device()).code == 0);
    outcome o = gradus("train --resume parts --device %s:tf32 --set train.steps=7 --json", cuda_device());
    cr_assert(o.code == 0, "%s", o.err);
    cr_assert(strstr(o.out, "plan.lock: of 'cudasim simulator"), "%s", o.out);
    cr_assert(strstr(o.out, "algorithms are chosen anew"), "%s", o.out);
    size_t size;
    char *lock = scratch_read(scratch_path("parts/checkpoints/step-000007/plan.lock"), &size);
    cr_assert(strstr(lock, " tf32 ") && !strstr(lock, "\nproduct m=32 n=16 k=16 of 1, "), "%s", lock);
    free(lock);
}

Test(cudasim_command, resumes_to_the_bit)
{
    cr_assert(gradus(TINY "--set train.steps=7 --set out=whole", cuda_device()).code == 0);
    cr_assert(gradus(TINY "--set train.steps=4 --set out=parts", cuda_device()).code == 0);
    outcome o = gradus("train --resume parts --device %s --set train.steps=7 --json", cuda_device());
    cr_assert(o.code == 0, "%s", o.err);
    cr_assert(json_array_size(events_named(o.out, "step")) == 3, "%s", o.out);
    cr_assert(same_weights("whole", "parts"), "other weights");
}

/* ---- convolutions ---- */

enum { SIDE = 12, IMAGES = 40, CLASSES = 3 };

/* Images of noise and their labels as IDX files: `part` is train or test. */
static void make_part(const char *part)
{
    static unsigned char images[16 + IMAGES * SIDE * SIDE], labels[8 + IMAGES];
    char name[64];
    memcpy(images, "\0\0\x08\x03\0\0\0\x28\0\0\0\x0c\0\0\0\x0c", 16);
    memcpy(labels, "\0\0\x08\x01\0\0\0\x28", 8);
    for (unsigned i = 16; i < sizeof(images); i++) images[i] = (unsigned char)(i * 2654435761u >> 24);
    for (unsigned i = 0; i < IMAGES; i++) labels[8 + i] = (unsigned char)(i % CLASSES);
    snprintf(name, sizeof(name), "images/%s-images-idx3-ubyte", part);
    scratch_write(scratch_path(name), images, sizeof(images));
    snprintf(name, sizeof(name), "images/%s-labels-idx1-ubyte", part);
    scratch_write(scratch_path(name), labels, sizeof(labels));
}

static void make_images(void)
{
    cr_assert(mkdir(scratch_path("images"), 0755) == 0);
    make_part("train");
    make_part("test");
}

#define LENET                                                                                                          \
    "train --data images --model lenet --device %s --set model.width=2 --set train.batch=8 --set train.minutes=0 "     \
    "--set train.schedule=constant --set train.warmup=0 --set train.precision=tf32 --json "

/* Whether plan.lock of a run after seven steps says this of a convolution. */
static bool convolutions_have(const char *run, const char *text)
{
    char path[128];
    size_t size;
    snprintf(path, sizeof(path), "%s/checkpoints/step-000007/plan.lock", run);
    char *lock = scratch_read(scratch_path(path), &size), *first = strstr(lock, "\nconvolution ");
    cr_assert(first, "%s", lock);
    bool has = strstr(first, text) != NULL;
    free(lock);
    return has;
}

/* Engine 2 sums in two parts, as its knob says: a resumed run has the engine and the knob of the first start, not the
 * engine that is the fastest now. */
Test(cudasim_command, keeps_engines_and_their_knobs)
{
    if (!on_simulator()) return;
    make_images();
    resume_beside_a_faster(LENET, "2", "1");
    cr_assert(convolutions_have("parts", ": 2 2=2\n"));
    cr_assert(!convolutions_have("other", ": 2 2=2\n"));
}

/* An epilogue was chosen for the sums of a bias's gradient. A resumed run keeps to it where a kernel is faster now. */
Test(cudasim_command, keeps_where_sums_are_made)
{
    if (!on_simulator()) return;
    make_images();
    size_t size;
    const char *const runs[] = {"parts", "other"};
    const char *const steps[] = {"4", "7"};
    for (int k = 0; k < 2; k++) {
        if (k == 1) setenv("GRADUS_SIM_SLOW_SUMS", "1", 1);
        outcome o = gradus(LENET "--set train.steps=%s --set out=%s", cuda_device(), steps[k], runs[k]);
        cr_assert(o.code == 0, "%s", o.err);
    }
    outcome o = gradus("train --resume parts --device %s --set train.steps=7 --json", cuda_device());
    cr_assert(o.code == 0, "%s", o.err);
    for (int k = 0; k < 2; k++) {
        char path[96];
        snprintf(path, sizeof path, "%s/checkpoints/step-000007/plan.lock", runs[k]);
        char *lock = scratch_read(scratch_path(path), &size), *first = strstr(lock, "\nsums of columns ");
        cr_assert(first, "%s", lock);
        cr_assert((strstr(first, ": kernel\n") != NULL) == (k == 1), "%s: %s", runs[k], lock);
        free(lock);
    }
}

/* Engine 8 is rated first and is the fastest, but wants a workspace of 300 MiB. */
Test(cudasim_command, leaves_engines_that_want_too_much_room)
{
    if (!on_simulator()) return;
    make_images();
    setenv("GRADUS_SIM_FASTEST", "8", 1);
    cr_assert(gradus(LENET "--set train.steps=7 --set out=run", cuda_device()).code == 0);
    cr_assert(convolutions_have("run", ": 2 2=2\n"));
    cr_assert(!convolutions_have("run", ": 8\n"));
}

/* So the engine that was chosen is one that says of itself that its sums differ from run to run: only where a run may.
 */
Test(cudasim_command, adds_in_any_order_where_it_may)
{
    if (!on_simulator()) return;
    make_images();
    setenv("GRADUS_SIM_FASTEST", "3", 1);
    cr_assert(gradus(LENET "--set train.steps=7 --set out=run", cuda_device()).code == 0);
    cr_assert(!convolutions_have("run", ": 3\n"));
    setenv("GRADUS_SIM_ANY_ORDER", "1", 1);
    outcome o = gradus(LENET "--set train.deterministic=false --set train.steps=7 --set out=other", cuda_device());
    cr_assert(o.code == 0, "%s", o.err);
    cr_assert(convolutions_have("other", ": 3\n"));
}

Test(cudasim_command, measures_what_may_add_in_any_order)
{
    setenv("GRADUS_SIM_ANY_ORDER", "1", 1);
    for (int n = 0; n < 2; n++) {
        outcome o =
            gradus("bench model mlp --device %s --steps 1 %s --json", cuda_device(), n ? "--nondeterministic" : "");
        cr_assert(o.code == 0, "%s", o.err);
        cr_assert(n == (strstr(o.out, " nondeterministic ") != NULL), "%s", o.out);
    }
}

Test(cudasim_command, knows_words_of_devices)
{
    static const char *const good[] = {":0:nondeterministic", ":tf32:nondeterministic", ":nondeterministic:tf32"};
    static const char *const bad[] = {":deterministic", ":tf32:", ":tf32nondeterministic", ":tf32:0"};
    for (int i = 0; i < 3; i++) {
        outcome o = gradus("bench model mlp --device %s%s --steps 1 --json", cuda_device(), good[i]);
        cr_expect(o.code == 0 && strstr(o.out, " nondeterministic "), "%s: %s%s", good[i], o.out, o.err);
    }
    for (int i = 0; i < 4; i++) {
        outcome o = gradus("bench model mlp --device %s%s --steps 1 --json", cuda_device(), bad[i]);
        cr_expect(o.code != 0 && strstr(o.err, "not understood"), "%s: %s%s", bad[i], o.out, o.err);
    }
}
