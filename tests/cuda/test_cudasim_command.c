/* test_cudasim_command.c - the command on the simulated CUDA device: a language model trains, says samples and is
 * evaluated as it is on the CPU. */
#include "command.h"
#include "scratch.h"
#include "sim_library.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void make_text(void);
TestSuite(cudasim_command, .init = make_text, .fini = scratch_remove, .timeout = 120);

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

Test(cudasim_command, tf32_is_one_word)
{
    outcome o =
        gradus("train --data text.txt --device %s --set model.layers=1 --set model.width=16 --set model.heads=2 "
               "--set model.context=16 --set train.batch=2 --set train.steps=1 --set train.minutes=0 "
               "--set train.sample_every=0 --set train.precision=tf32 --set out=run-tf32 --json",
               cuda_device());
    cr_assert(o.code == 0, "%s%s", o.out, o.err);
    size_t size;
    char *state = scratch_read(scratch_path("run-tf32/checkpoints/step-000001/state.json"), &size);
    cr_assert(strstr(state, " tf32"), "the device's kind does not say tf32: %s", state);
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

Test(cudasim_command, resumes_to_the_bit)
{
    size_t size[2];
    char *weights[2];
    cr_assert(gradus(TINY "--set train.steps=7 --set out=whole", cuda_device()).code == 0);
    cr_assert(gradus(TINY "--set train.steps=4 --set out=parts", cuda_device()).code == 0);
    outcome o = gradus("train --resume parts --device %s --set train.steps=7 --json", cuda_device());
    cr_assert(o.code == 0, "%s", o.err);
    cr_assert(json_array_size(events_named(o.out, "step")) == 3, "%s", o.out);
    for (int k = 0; k < 2; k++)
        weights[k] = scratch_read(scratch_path(k ? "parts/checkpoints/step-000007/model.safetensors"
                                                 : "whole/checkpoints/step-000007/model.safetensors"),
                                  &size[k]);
    cr_assert(size[0] == size[1] && memcmp(weights[0], weights[1], size[0]) == 0, "other weights");
    free(weights[0]);
    free(weights[1]);
}
