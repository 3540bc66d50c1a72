/* test_cli_watch.c - what a run shows of itself while it trains: samples, and what watching must not change. */
#include "command.h"
#include "scratch.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static void make_text(void);
TestSuite(cli_watch, .init = make_text, .fini = scratch_remove);

static void make_text(void)
{
    static char text[30000];
    size_t size = 0;
    for (unsigned state = 1; size < sizeof text - 64; state = state * 1664525u + 1013904223u)
        size += (size_t)sprintf(text + size, "%u green bottles \xE7\x93\xB6 hang on wall %u\n", state >> 28,
                                state >> 20 & 15);
    scratch_write(scratch_path("a.txt"), text, size);
}

#define RUN                                                                                                            \
    "train --model %s --data a.txt --set model.layers=2 --set model.width=32 --set model.heads=2 "                     \
    "--set model.context=32 --set train.minutes=0 --set train.steps=20 --threads 2 --json "

static void assert_same_state(const char *a, const char *b)
{
    static const char *const files[] = {"model.safetensors", "optimizer.safetensors"};
    for (int i = 0; i < 2; i++) {
        char one[256], other[256];
        snprintf(one, sizeof one, "%s/checkpoints/step-000020/%s", a, files[i]);
        snprintf(other, sizeof other, "%s/checkpoints/step-000020/%s", b, files[i]);
        cr_assert(scratch_same(one, other), "%s and %s differ", one, other);
    }
}

static const char *text_of(const json_t *event)
{
    return json_string_value(json_object_get(event, "text"));
}

/* The kinds with a cache of their own shape each, and dropout, whose keys must not move. */
Test(cli_watch, samples_change_no_bit_of_the_training)
{
    static const char *const kinds[] = {"fast", "gpt2", "llama"};
    for (int i = 0; i < 3; i++) {
        outcome o = gradus(RUN "--set model.dropout=0.1 --set train.sample_every=5 --set train.sample_tokens=40 "
                               "--set out=with-%s",
                           kinds[i], kinds[i]);
        cr_assert(o.code == 0, "%s", o.err);
        json_t *samples = events_named(o.out, "sample");
        cr_assert(json_array_size(samples) == 4, "%zu samples", json_array_size(samples));
        for (size_t k = 0; k < 4; k++)
            cr_assert(number_of(json_array_get(samples, k), "step") == 5.0 * (double)(k + 1), "sample %zu", k);
        cr_assert(strlen(text_of(json_array_get(samples, 3))) >= 20, "%s", o.out);
        o = gradus(RUN "--set model.dropout=0.1 --set train.sample_every=0 --set out=without-%s", kinds[i], kinds[i]);
        cr_assert(o.code == 0 && json_array_size(events_named(o.out, "sample")) == 0, "%s%s", o.out, o.err);
        char with[64], without[64];
        snprintf(with, sizeof with, "with-%s", kinds[i]);
        snprintf(without, sizeof without, "without-%s", kinds[i]);
        assert_same_state(with, without);
    }
}

Test(cli_watch, a_sample_is_what_gradus_sample_makes_of_that_checkpoint)
{
    outcome o =
        gradus(RUN "--set train.sample_every=10 --set train.checkpoint_every=10 --set train.sample_tokens=50 "
                   "--set 'train.sample_prompt=7 green' --set train.seed=3 --set data.tokenizer=char --set out=run",
               "fast");
    cr_assert(o.code == 0, "%s", o.err);
    json_t *samples = events_named(o.out, "sample");
    cr_assert(json_array_size(samples) == 2, "%s", o.out);
    for (int i = 0; i < 2; i++) {
        outcome again = gradus("sample run/checkpoints/step-0000%d0 --prompt '7 green' --tokens 50 --temperature 0.8 "
                               "--seed 3 --json",
                               i + 1);
        cr_assert_str_eq(text_of(json_array_get(samples, (size_t)i)), text_of(only_event(again, "sample")));
    }
    cr_assert(strncmp(text_of(json_array_get(samples, 0)), "7 green", 7) == 0, "%s", o.out);
}

/* Without dropout the activations of a step's micro-batch are also those of its forward pass. */
Test(cli_watch, statistics_change_no_bit_of_the_training)
{
    static const char *const ways[] = {"fast", "gpt2", "llama"};
    for (int i = 0; i < 3; i++) {
        const char *more =
            "--set model.dropout=0.1 --set train.accumulate=2 --set train.ema=0.9 --set train.precision=bf16";
        outcome o = gradus(RUN "%s --set train.statistics_every=6 --set out=with-%s", ways[i], more, ways[i]);
        cr_assert(o.code == 0, "%s", o.err);
        json_t *layers = events_named(o.out, "layers");
        static const double steps[] = {1, 6, 12, 18, 20};
        cr_assert(json_array_size(layers) == 5, "%zu times", json_array_size(layers));
        for (size_t k = 0; k < 5; k++) cr_assert(number_of(json_array_get(layers, k), "step") == steps[k], "%zu", k);
        o = gradus(RUN "%s --set train.statistics_every=0 --set out=without-%s", ways[i], more, ways[i]);
        cr_assert(o.code == 0 && json_array_size(events_named(o.out, "layers")) == 0, "%s%s", o.out, o.err);
        char with[64], without[64];
        snprintf(with, sizeof with, "with-%s", ways[i]);
        snprintf(without, sizeof without, "without-%s", ways[i]);
        assert_same_state(with, without);
    }
}

static const json_t *layer_named(const json_t *event, const char *name)
{
    size_t i;
    json_t *layer;
    json_array_foreach(json_object_get(event, "layers"), i,
                       layer) if (strcmp(json_string_value(json_object_get(layer, "name")), name) == 0) return layer;
    return NULL;
}

/* A fresh model of GPT-2's kind: N(0, 0.02) everywhere, small activations; AdamW's first update is +-lr where there is
 * a gradient. Layers stand in the order of the model, those without parameters included. */
Test(cli_watch, statistics_are_what_they_should_be)
{
    outcome o = gradus(RUN "--set train.weight_decay=0 --set train.lr=1e-3 --set train.warmup=0 --set out=run", "gpt2");
    cr_assert(o.code == 0, "%s", o.err);
    json_t *events = events_named(o.out, "layers");
    cr_assert(json_array_size(events) == 2, "the first step and the last: %s", o.out);
    const json_t *first = json_array_get(events, 0), *list = json_object_get(first, "layers");
    static const char *const names[] = {"embed", "position", "h0", "h1", "norm"};
    cr_assert(json_array_size(list) == 5, "%s", o.out);
    for (size_t i = 0; i < 5; i++)
        cr_assert_str_eq(json_string_value(json_object_get(json_array_get(list, i), "name")), names[i]);
    double embedding = number_of(layer_named(first, "embed"), "weight_rms");
    cr_assert(embedding > 0.019 && embedding < 0.021, "%g", embedding);
    double update = number_of(layer_named(first, "h1"), "update_rms");
    cr_assert(update > 0.0009 && update < 0.00101, "%g", update);
    double stream = number_of(layer_named(first, "h0"), "activation_rms");
    cr_assert(stream > 0.02 && stream < 0.1, "%g", stream);
    double normal = number_of(layer_named(first, "norm"), "activation_rms");
    cr_assert(normal > 0.9 && normal < 1.1, "normalised: %g", normal);
    double squares = 0, counts[] = {257 * 32, 32 * 32, 12704, 12704, 64}; /* 12 C^2 + 13 C a block */
    for (size_t i = 0; i < 5; i++) squares += counts[i] * pow(number_of(json_array_get(list, i), "gradient_rms"), 2);
    double norm = number_of(json_array_get(events_named(o.out, "step"), 0), "grad_norm");
    cr_assert(fabs(sqrt(squares) - norm) < 1e-4 * norm, "together %g, the gradient's norm %g", sqrt(squares), norm);
    outcome llama = gradus(RUN "--set train.steps=1 --set out=other", "fast");
    const json_t *fast = only_event(llama, "layers");
    cr_assert(layer_named(fast, "embed_norm") && !json_object_get(layer_named(fast, "norm"), "weight_rms"), "%s",
              llama.out);
}

/* Times that "after step" with this number stands in the report. */
static int in_report(const char *run, int step)
{
    char path[64], heading[64];
    size_t size;
    int count = 0;
    snprintf(path, sizeof path, "%s/report.html", run);
    snprintf(heading, sizeof heading, "after step %d<", step);
    char *report = scratch_read(scratch_path(path), &size);
    for (const char *at = report; (at = strstr(at, heading)); at++) count++;
    free(report);
    return count;
}

Test(cli_watch, a_resumed_run_keeps_its_samples)
{
    outcome o = gradus(RUN "--set train.sample_every=2 --set train.statistics_every=5 --set out=whole", "fast");
    cr_assert(o.code == 0, "%s", o.err);
    o = gradus_stopped_after(9, "\"event\":\"step\"",
                             RUN "--set train.sample_every=2 --set train.statistics_every=5 --set out=parts", "fast");
    cr_assert(o.code == 3, "exit code %d: %s", o.code, o.err);
    o = gradus("train --resume parts --threads 2 --json");
    cr_assert(o.code == 0, "%s", o.err);
    assert_same_state("whole", "parts");
    size_t size;
    char *whole = scratch_read(scratch_path("whole/metrics.jsonl"), &size);
    char *parts = scratch_read(scratch_path("parts/metrics.jsonl"), &size);
    cr_assert(json_equal(events_named(whole, "sample"), events_named(parts, "sample")), "%s\n%s", whole, parts);
    cr_assert(json_equal(events_named(whole, "layers"), events_named(parts, "layers")), "%s\n%s", whole, parts);
    cr_assert(json_array_size(events_named(whole, "layers")) == 5, "%s", whole);
    for (int step = 2; step <= 20; step += 2) cr_assert(in_report("parts", step) == 1, "no sample of step %d", step);
    free(whole);
    free(parts);
}

/* Without the key: with each evaluation, and at the end. A long text is not cut. */
Test(cli_watch, samples_come_with_evaluations)
{
    outcome o = gradus(RUN "--set train.eval_every=8 --set train.sample_tokens=2100 --set out=run", "gpt2");
    cr_assert(o.code == 0, "%s", o.err);
    json_t *samples = events_named(o.out, "sample"), *evals = events_named(o.out, "eval");
    cr_assert(json_array_size(samples) == 3 && json_array_size(evals) == 3, "%s", o.out);
    for (size_t i = 0; i < 3; i++)
        cr_assert(number_of(json_array_get(samples, i), "step") == number_of(json_array_get(evals, i), "step"), "%zu",
                  i);
    size_t size;
    char *kept = scratch_read(scratch_path("run/metrics.jsonl"), &size);
    cr_assert(json_equal(samples, events_named(kept, "sample")), "%s", kept);
    free(kept);
    cr_assert(strlen(text_of(json_array_get(samples, 2))) >= 2048, "so long that its line is: %s", o.out);
    o = gradus(RUN "--set out=end", "gpt2");
    cr_assert(json_array_size(events_named(o.out, "sample")) == 1, "one at the end: %s", o.out);
}

/* The caches are in the plan, and in the plan only while there are samples. */
Test(cli_watch, the_plan_knows_of_the_samples)
{
    static const char config[] = "model: {kind: gpt2, layers: 3, heads: 2, width: 32, context: 64, vocab: 300}\n"
                                 "data: {path: a.txt, tokenizer: bpe, vocab: 300}\n"
                                 "train: {steps: 2, batch: 2, sample_tokens: 63}\n";
    scratch_write(scratch_path("a.yaml"), config, sizeof config - 1);
    const json_t *with = only_event(gradus("plan a.yaml --json"), "plan"),
                 *without = only_event(gradus("plan a.yaml --set train.sample_every=0 --json"), "plan");
    const json_t *run = only_event(gradus("train a.yaml --set out=run --json"), "plan");
    double cache = 3 * 2 * 64 * 32 * 4; /* keys and values of each layer */
    cr_assert(number_of(with, "state_bytes") >= cache && number_of(without, "state_bytes") == 0, "%g and %g bytes",
              number_of(with, "state_bytes"), number_of(without, "state_bytes"));
    cr_assert(number_of(with, "peak_bytes") >= number_of(without, "peak_bytes") + cache, "the peak");
    cr_assert(number_of(run, "peak_bytes") == number_of(with, "peak_bytes"), "planned %g, running %g",
              number_of(with, "peak_bytes"), number_of(run, "peak_bytes"));
}
