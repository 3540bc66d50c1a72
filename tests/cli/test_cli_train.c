/* gradus train and sample as a user runs them: tiny models on a tiny text. */
#include "command.h"
#include "scratch.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void make_text(void);
TestSuite(cli_train, .init = make_text, .fini = scratch_remove);

/* Sentences of a small grammar: every word but the subject and the verb can be foreseen, so a model that has learnt the
 * text needs well under one bit a byte, and one that only knows how often each letter comes needs four. */
static void make_text(void)
{
    static const char *const who[] = {"the cat", "the dog", "a bird", "my friend"};
    static const char *const does[] = {"sat on", "ran to", "looked at", "slept under"};
    static const char *const where[] = {"the mat", "the door", "the tree"};
    static char text[1 << 16];
    size_t size = 0;
    unsigned state = 1;
    while (size < 20000) {
        state = state * 1664525u + 1013904223u;
        size += (size_t)sprintf(text + size, "%s %s %s.\n", who[state >> 30], does[state >> 28 & 3],
                                where[(state >> 20) % 3]);
    }
    scratch_write(scratch_path("small.txt"), text, size);
}

#define TINY "--data small.txt --set model.layers=1 --set model.width=32 --set model.heads=2 --set model.context=32 "

static void assert_done(outcome o)
{
    cr_assert(o.code == 0, "exit code %d: %s%s", o.code, o.out, o.err);
    cr_assert(!strstr(o.err, "error"), "%s", o.err);
}

/* ---- learning, and what is printed ---- */

Test(cli_train, learns_and_prints_json_lines)
{
    outcome o = gradus("train " TINY "--set train.steps=150 --set train.minutes=0 --set out=run --json");
    assert_done(o);
    json_t *plans = events_named(o.out, "plan"), *steps = events_named(o.out, "step"),
           *evals = events_named(o.out, "eval");
    cr_assert(json_array_size(plans) == 1 && json_array_size(steps) == 150 && json_array_size(evals) >= 2, "%s", o.out);
    static const char *const of_plan[] = {"parameters",      "peak_bytes",      "weights_bytes",
                                          "gradients_bytes", "optimizer_bytes", "activations_bytes",
                                          "workspace_bytes", "flops_per_step",  "predicted_step_ms"};
    static const char *const of_step[] = {"step", "loss", "lr", "grad_norm", "tokens", "tokens_per_s", "time_ms"};
    for (int i = 0; i < 9; i++) cr_assert(number_of(json_array_get(plans, 0), of_plan[i]) > 0, "%s", of_plan[i]);
    for (int i = 0; i < 7; i++) number_of(json_array_get(steps, 0), of_step[i]);
    for (size_t i = 0; i < 150; i++)
        cr_assert(number_of(json_array_get(steps, i), "step") == (double)(i + 1), "step %zu", i);
    double first = number_of(json_array_get(steps, 0), "loss"), last = number_of(json_array_get(steps, 149), "loss");
    cr_assert(first > 5.4 && first < 5.7, "untrained, the loss is about ln 257 = 5.55, not %g", first);
    const json_t *eval = json_array_get(evals, json_array_size(evals) - 1);
    cr_assert(number_of(eval, "step") == 150 && !json_object_get(eval, "part"), "the last one scores all");
    cr_assert(last < 1.0, "loss %g", last);
    cr_assert(number_of(eval, "bits_per_byte") < 1.0, "%g bits per byte", number_of(eval, "bits_per_byte"));
    const json_t *done = json_array_get(events_named(o.out, "done"), 0);
    cr_assert(number_of(done, "steps") == 150 && number_of(done, "seconds") > 0, "%s", o.out);
    const json_t *saved = json_array_get(events_named(o.out, "saved"), 0);
    cr_assert_str_eq(json_string_value(json_object_get(saved, "path")), "run/checkpoints/step-000150");
    const json_t *sample = json_array_get(events_named(o.out, "sample"), 0);
    cr_assert(strlen(json_string_value(json_object_get(sample, "text"))) > 20, "%s", o.out);
}

/* The wanted distribution's own entropy, 0.3 ln(257 / 0.3) and a little, is below what steps can reach. */
Test(cli_train, smooths_the_labels_of_steps_alone)
{
    outcome o = gradus("train " TINY "--set train.steps=150 --set train.minutes=0 --set train.label_smoothing=0.3 "
                       "--set train.statistics_every=0 --set out=run --json");
    assert_done(o);
    json_t *steps = events_named(o.out, "step"), *evals = events_named(o.out, "eval");
    double last = number_of(json_array_get(steps, 149), "loss");
    double scored = number_of(json_array_get(evals, json_array_size(evals) - 1), "loss");
    cr_assert(last > 2.2 && last < 3.5, "loss %g", last);
    cr_assert(scored > 0.3 && scored < 1.6, "scored %g", scored);
}

Test(cli_train, keeps_the_lines_in_metrics_jsonl)
{
    outcome o = gradus("train " TINY "--set train.steps=7 --set train.eval_every=3 --set out=run --json");
    assert_done(o);
    size_t size;
    char *kept = scratch_read(scratch_path("run/metrics.jsonl"), &size);
    static const char *const names[] = {"plan", "step", "eval", "saved", "done", "sample"};
    for (int i = 0; i < 6; i++) {
        json_t *printed = events_named(o.out, names[i]), *written = events_named(kept, names[i]);
        cr_assert(json_array_size(printed) > 0 && json_equal(printed, written), "%s:\n%s\n%s", names[i], o.out, kept);
    }
    free(kept);
    char *report = scratch_read(scratch_path("run/report.html"), &size);
    cr_assert(strstr(report, "Step 7 of 7") && strstr(report, "after step 7</p><pre"), "%s", report);
    free(report);
}

Test(cli_train, prints_plain_lines_and_names_the_run)
{
    outcome o = gradus("train " TINY "--set train.steps=20");
    assert_done(o);
    static const char *const pieces[] = {"chosen for ",
                                         "vocabulary 257",
                                         "parameters",
                                         "memory: ",
                                         "step 20/20",
                                         "tokens/s",
                                         " left",
                                         "bits per byte",
                                         "saved runs/small-1/checkpoints/step-000020",
                                         "gradus sample runs/small-1"};
    for (int i = 0; i < 10; i++) cr_assert(strstr(o.out, pieces[i]), "no '%s' in:\n%s", pieces[i], o.out);
    cr_assert(!strstr(o.out, "\r[") && !strstr(o.out, "\033[K"), "no terminal codes in a pipe");
    o = gradus("train " TINY "--set train.steps=1");
    assert_done(o);
    cr_assert(strstr(o.out, "runs/small-2"), "the next free number: %s", o.out);
    o = gradus("train " TINY "--set train.steps=1 --quiet");
    cr_assert(o.code == 0 && !o.out[0] && !o.err[0], "quiet: '%s' '%s'", o.out, o.err);
}

Test(cli_train, trains_all_kinds_and_optimizers)
{
    static const char *const ways[] = {"model.kind=gpt2",       "model.kind=llama",    "train.optimizer=adamw",
                                       "train.optimizer=lion",  "train.optimizer=sgd", "train.schedule=cosine",
                                       "train.recompute=true",  "train.accumulate=2",  "data.tokenizer=char",
                                       "data.order=sequential", "train.ema=0.9",       "model.dropout=0.1",
                                       "model.tied=true"};
    for (int i = 0; i < 13; i++) {
        outcome o =
            gradus("train " TINY "--set train.steps=3 --set train.lr=1e-3 --set out=way%d --set %s", i, ways[i]);
        cr_assert(o.code == 0, "%s: exit code %d: %s", ways[i], o.code, o.err);
    }
    outcome o =
        gradus("train --model gpt2 --data small.txt --set data.tokenizer=bpe --set data.vocab=300 --set train.steps=2");
    assert_done(o);
    cr_assert(strstr(o.out, "vocabulary 300"), "%s", o.out);
}

/* What is evaluated is what is saved as the model, and not the weights that training goes on with. */
Test(cli_train, evaluates_and_saves_the_moving_average)
{
    outcome o = gradus("train " TINY "--set train.steps=40 --set train.ema=0.9 --set out=smooth --json");
    assert_done(o);
    json_t *evals = events_named(o.out, "eval");
    const json_t *average = json_array_get(evals, json_array_size(evals) - 1);
    const json_t *saved = only_event(gradus("eval smooth --json"), "eval");
    o = gradus("train " TINY "--set train.steps=40 --set out=rough --json");
    assert_done(o);
    const json_t *last = only_event(gradus("eval rough --json"), "eval");
    cr_assert(fabs(number_of(saved, "loss") - number_of(average, "loss")) < 1e-6, "saved: %.9g, evaluated: %.9g",
              number_of(saved, "loss"), number_of(average, "loss"));
    cr_assert(fabs(number_of(last, "loss") - number_of(average, "loss")) > 1e-4, "the last weights: %.9g",
              number_of(last, "loss"));
    cr_assert(!scratch_same("smooth/checkpoints/step-000040/model.safetensors",
                            "rough/checkpoints/step-000040/model.safetensors"));
    /* Training goes on from the weights, not from their average: as the run without one would. */
    assert_done(gradus("train --resume smooth --set train.steps=45 --set train.schedule=constant"));
    assert_done(gradus("train --resume rough --set train.steps=45 --set train.schedule=constant"));
    char *smooth = scratch_read(scratch_path("smooth/metrics.jsonl"), &(size_t){0}),
         *rough = scratch_read(scratch_path("rough/metrics.jsonl"), &(size_t){0});
    json_t *a = events_named(smooth, "step"), *b = events_named(rough, "step");
    cr_assert(json_array_size(a) == 45 && json_array_size(b) == 45, "%s", smooth);
    for (size_t i = 0; i < 45; i++)
        cr_assert(number_of(json_array_get(a, i), "loss") == number_of(json_array_get(b, i), "loss"), "step %zu", i);
    free(smooth);
    free(rough);
}

Test(cli_train, trains_from_a_config_and_token_shards)
{
    static int32_t shard[256 + 500];
    shard[0] = 20240520;
    shard[1] = 1;
    shard[2] = 1000;
    uint16_t *tokens = (uint16_t *)(shard + 256);
    for (int i = 0; i < 1000; i++) tokens[i] = (uint16_t)(i * 7 % 50);
    scratch_write(scratch_path("train.bin"), shard, 1024 + 2000);
    static const char config[] = "model: {kind: gpt2, layers: 1, heads: 1, width: 16, context: 8, vocab: 50}\n"
                                 "data: {tokens: [train.bin], validation: [train.bin], order: sequential}\n"
                                 "train: {steps: 250, batch: 4, lr: 1.0e-2, seed: 3}\nout: shards\n";
    scratch_write(scratch_path("shards.yaml"), config, sizeof config - 1);
    outcome o = gradus("train shards.yaml --json");
    assert_done(o);
    json_t *evals = events_named(o.out, "eval");
    const json_t *eval = json_array_get(evals, json_array_size(evals) - 1);
    cr_assert(number_of(eval, "loss") < 1.0, "each token tells the next one: %g", number_of(eval, "loss"));
    cr_assert(!json_object_get(eval, "bits_per_byte"), "the text is not known");
}

/* Each token in turn, `step` further than the one before. */
static void write_shard(const char *name, int count, int step)
{
    int32_t *shard = calloc(256 + (size_t)count, 4);
    shard[0] = 20240520;
    shard[1] = 1;
    shard[2] = count;
    for (int i = 0; i < count; i++) ((uint16_t *)(shard + 256))[i] = (uint16_t)(i * step % 50);
    scratch_write(scratch_path(name), shard, 1024 + 2 * (size_t)count);
    free(shard);
}

static double scored(const char *arguments)
{
    return number_of(only_event(gradus("eval %s --json", arguments), "eval"), "loss");
}

Test(cli_train, scores_every_validation_shard)
{
    static const char config[] = "model: {kind: gpt2, layers: 1, heads: 1, width: 16, context: 8, vocab: 50}\n"
                                 "data: {tokens: [train.bin], validation: [a.bin, one.bin, b.bin]}\n"
                                 "train: {steps: 60, batch: 4, lr: 1.0e-2, seed: 3}\nout: shards\n";
    write_shard("train.bin", 1000, 7);
    write_shard("a.bin", 100, 7); /* learnt */
    write_shard("one.bin", 1, 7); /* nothing to score */
    write_shard("b.bin", 300, 11);
    scratch_write(scratch_path("shards.yaml"), config, sizeof config - 1);
    outcome o = gradus("train shards.yaml --json");
    assert_done(o);
    json_t *evals = events_named(o.out, "eval");
    double trained = number_of(json_array_get(evals, json_array_size(evals) - 1), "loss");
    double a = scored("shards --data a.bin"), b = scored("shards --data b.bin"), both = scored("shards");
    cr_assert(b > 2 * a, "%g and %g", a, b);
    cr_assert(fabs((99 * a + 299 * b) / 398 - both) < 1e-5 * both, "%g and %g give %g", a, b, both);
    cr_assert(fabs(trained - both) < 1e-5 * both, "%g while training, %g afterwards", trained, both);
}

/* What nobody knows the length of comes after the weights are safe. */
Test(cli_train, the_last_checkpoint_is_there_before_the_last_evaluation)
{
    outcome o = gradus("train " TINY "--set train.steps=5 --set train.eval_every=0 --set out=run --json");
    assert_done(o);
    const char *saved = strstr(o.out, "\"event\":\"saved\""), *eval = strstr(o.out, "\"event\":\"eval\"");
    cr_assert(saved && eval && saved < eval, "%s", o.out);
}

/* ---- stopping and going on ---- */

#define LONG TINY "--threads 2 --set train.steps=60 --set train.minutes=0 --set train.eval_every=25 "

Test(cli_train, a_stopped_run_goes_on_to_the_same_bits)
{
    assert_done(gradus("train " LONG "--set out=whole --json"));
    outcome o = gradus_stopped_after(13, "\"event\":\"step\"", "train " LONG "--set out=parts --json");
    cr_assert(o.code == 3, "exit code %d: %s", o.code, o.err);
    size_t before = json_array_size(events_named(o.out, "step"));
    cr_assert(before >= 13 && before < 60, "%zu steps", before);
    cr_assert(json_array_size(events_named(o.out, "saved")) == 1, "%s", o.out);
    o = gradus("train --resume parts --threads 2 --json");
    assert_done(o);
    json_t *steps = events_named(o.out, "step");
    cr_assert(json_array_size(steps) == 60 - before, "%zu and %zu steps", before, json_array_size(steps));
    cr_assert(number_of(json_array_get(steps, 0), "step") == (double)before + 1, "%s", o.out);
    cr_assert(scratch_same("whole/checkpoints/step-000060/model.safetensors",
                           "parts/checkpoints/step-000060/model.safetensors"),
              "the weights differ");
    cr_assert(scratch_same("whole/checkpoints/step-000060/optimizer.safetensors",
                           "parts/checkpoints/step-000060/optimizer.safetensors"),
              "the moments differ");
    assert_done(gradus("train " LONG "--set out=other --set train.seed=2 --json"));
    cr_assert(!scratch_same("whole/checkpoints/step-000060/model.safetensors",
                            "other/checkpoints/step-000060/model.safetensors"),
              "another seed gives other weights");
}

Test(cli_train, says_how_to_go_on)
{
    outcome o = gradus_stopped_after(1, "step 1/", "train " LONG "--set out=parts --set train.steps=100000");
    cr_assert(o.code == 3, "exit code %d: %s", o.code, o.err);
    cr_assert(strstr(o.out, "gradus train --resume parts"), "%s", o.out);
    o = gradus("train --resume parts --set train.steps=1");
    assert_done(o);
    cr_assert(strstr(o.out, "nothing is left to do"), "%s", o.out);
}

Test(cli_train, resumes_without_a_checkpoint_from_step_0)
{
    assert_done(gradus("train " TINY "--set train.steps=2 --set out=run"));
    cr_assert(system(NULL) != 0);
    char line[512];
    snprintf(line, sizeof line, "rm -r %s", scratch_path("run/checkpoints"));
    cr_assert(system(line) == 0);
    outcome o = gradus("train --resume run --set train.steps=2");
    assert_done(o);
    cr_assert(strstr(o.out, "there is no checkpoint in run yet: starting from step 0"), "%s", o.out);
}

static void damage(const char *path)
{
    size_t size;
    char *bytes = scratch_read(scratch_path(path), &size);
    bytes[size - 5] ^= 1;
    scratch_write(scratch_path(path), bytes, size);
    free(bytes);
}

Test(cli_train, refuses_a_damaged_checkpoint_and_takes_the_one_before)
{
    assert_done(gradus("train " TINY "--set train.steps=6 --set train.checkpoint_every=3 --set out=run"));
    damage("run/checkpoints/step-000006/model.safetensors");
    outcome o = gradus("train --resume run --set train.steps=9");
    cr_assert(o.code == 2, "exit code %d: %s", o.code, o.err);
    cr_assert(strstr(o.err, "step-000006/model.safetensors") && strstr(o.err, "tensor"), "%s", o.err);
    o = gradus("sample run");
    cr_assert(o.code == 2 && strstr(o.err, "step-000006/model.safetensors"), "sample, too: %d %s", o.code, o.err);
    o = gradus("train --resume run --previous --set train.steps=9 --json");
    assert_done(o);
    cr_assert(number_of(json_array_get(events_named(o.out, "step"), 0), "step") == 4, "%s", o.out);
}

#define DIVERGING                                                                                                      \
    TINY "--set train.optimizer=sgd --set train.lr=1e6 --set train.schedule=constant --set train.warmup=0 "            \
         "--set train.clip_norm=0 --set train.steps=40 --set 'train.groups=[{match: \"**\", lr_scale: 1e6}]' --json "

Test(cli_train, stops_at_a_gradient_that_is_not_finite)
{
    outcome o = gradus("train " DIVERGING "--set out=run");
    cr_assert(o.code == 1, "exit code %d: %s", o.code, o.err);
    cr_assert(strstr(o.err, "the gradient is not finite; first seen in"), "%s", o.err);
    size_t size;
    char *kept = scratch_read(scratch_path("run/metrics.jsonl"), &size),
         *page = scratch_read(scratch_path("run/report.html"), &size);
    cr_assert(json_array_size(events_named(kept, "error")) == 1 && strstr(page, ">Failed<"), "%s", kept);
    free(kept);
    free(page);
    json_t *errors = events_named(o.out, "error"), *saved = events_named(o.out, "saved");
    cr_assert(json_array_size(errors) == 1 && json_array_size(saved) == 1, "%s", o.out);
    size_t steps = json_array_size(events_named(o.out, "step"));
    cr_assert(number_of(json_array_get(saved, 0), "step") == (double)steps && steps < 40, "%zu steps", steps);
    o = gradus("train " DIVERGING "--set out=skip --set train.on_nan=skip");
    cr_assert(o.code == 0, "exit code %d: %s", o.code, o.err);
    cr_assert(strstr(o.out, "of 40 steps were not finite and were skipped (train.on_nan)"), "%s", o.out);
    gradus("train --resume skip --set train.steps=50"); /* to weights that no step gets away from */
    o = gradus("train --resume skip --set train.steps=60");
    cr_assert(o.code == 1 && strstr(o.err, "none of 10 steps was finite"), "exit code %d: %s%s", o.code, o.out, o.err);
}

/* ---- texts of all sizes ---- */

Test(cli_train, chooses_something_that_works_for_short_texts)
{
    static const int sizes[] = {200, 1000, 5000};
    for (int i = 0; i < 3; i++) {
        char name[32];
        size_t size;
        char *text = scratch_read(scratch_path("small.txt"), &size);
        snprintf(name, sizeof name, "short%d.txt", sizes[i]);
        scratch_write(scratch_path(name), text, (size_t)sizes[i]);
        free(text);
        outcome o = gradus("train --data %s --set train.steps=3", name);
        cr_assert(o.code == 0, "%d bytes: exit code %d: %s", sizes[i], o.code, o.err);
    }
}

/* ---- sampling ---- */

Test(cli_train, the_same_seed_gives_the_same_text)
{
    assert_done(gradus("train " TINY "--set train.steps=100 --set train.minutes=0 --set out=run"));
    outcome a = gradus("sample run --prompt 'the cat' --tokens 60 --seed 5"),
            b = gradus("sample run --prompt 'the cat' --tokens 60 --seed 5");
    outcome c = gradus("sample run --prompt 'the cat' --tokens 60 --seed 6");
    assert_done(a);
    cr_assert(strncmp(a.out, "the cat", 7) == 0 && strlen(a.out) > 50, "%s", a.out);
    cr_assert_str_eq(a.out, b.out);
    cr_assert(strcmp(a.out, c.out) != 0, "another seed");
    outcome likeliest = gradus("sample run --temperature 0 --seed 1"), one = gradus("sample run --top-k 1 --seed 2");
    assert_done(likeliest);
    cr_assert_str_eq(likeliest.out, one.out);
    outcome nucleus = gradus("sample run --top-p 1e-6 --seed 3");
    cr_assert_str_eq(likeliest.out, nucleus.out);
    outcome json = gradus("sample run --prompt 'the cat' --tokens 60 --seed 5 --json");
    const char *text = json_string_value(json_object_get(json_array_get(events_named(json.out, "sample"), 0), "text"));
    cr_assert(strncmp(a.out, text, strlen(text)) == 0, "%s", json.out);
}

Test(cli_train, a_prompt_may_stand_in_a_file)
{
    assert_done(gradus("train " TINY "--set train.steps=1 --set out=run"));
    scratch_write(scratch_path("prompt.txt"), "the cat", 7);
    outcome given = gradus("sample run --prompt 'the cat' --tokens 20 --seed 5");
    outcome read = gradus("sample run --prompt-file prompt.txt --tokens 20 --seed 5");
    assert_done(read);
    cr_assert_str_eq(given.out, read.out);
    outcome both = gradus("sample run --prompt-file prompt.txt --prompt 'a bird'");
    cr_assert(both.code == 2 && strstr(both.err, "--prompt is given too"), "%s", both.err);
    outcome missing = gradus("sample run --prompt-file nowhere.txt");
    cr_assert(missing.code == 2 && strstr(missing.err, "nowhere.txt"), "%s", missing.err);
}

/* A model that has hardly been trained writes any byte, zero and what is no UTF-8 among them. */
Test(cli_train, any_bytes_become_json)
{
    assert_done(gradus("train " TINY "--set data.tokenizer=byte --set train.steps=1 --set out=run"));
    outcome json = gradus("sample run --tokens 2000 --temperature 10 --json");
    assert_done(json);
    const json_t *text = json_object_get(only_event(json, "sample"), "text");
    cr_assert(json_string_length(text) > strlen(json_string_value(text)), "no zero byte in %s", json.out);
    cr_assert(strstr(json.out, "\xEF\xBF\xBD"), "nothing was replaced in %s", json.out);
}

/* Greedily and at random, past the end of the context. */
Test(cli_train, a_cache_changes_no_text)
{
    static const char *const kinds[] = {"fast", "gpt2", "llama"};
    for (int i = 0; i < 3; i++) {
        assert_done(gradus("train --model %s " TINY "--set train.steps=10 --set out=%s", kinds[i], kinds[i]));
        for (int greedy = 0; greedy < 2; greedy++) {
            char how[128];
            snprintf(how, sizeof how, "sample %s --prompt 'a bird' --tokens 70 %s", kinds[i],
                     greedy ? "--temperature 0" : "--seed 3 --top-k 20 --top-p 0.9");
            outcome cached = gradus("%s", how), plain = gradus("%s --no-cache", how);
            assert_done(cached);
            cr_assert_str_eq(cached.out, plain.out);
        }
    }
}
