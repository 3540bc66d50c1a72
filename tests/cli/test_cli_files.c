/* gradus tokenize, inspect, eval and convert as a user runs them, on the files that train wrote. */
#include "command.h"
#include "scratch.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void make_text(void);
TestSuite(cli_files, .init = make_text, .fini = scratch_remove);

static void make_text(void)
{
    static const char *const words[] = {"to", "be", "or", "not", "caf\xC3\xA9", "that", "is", "\xE6\x96\x87"};
    static char text[8000];
    size_t size = 0;
    unsigned state = 1;
    while (size < sizeof text - 20) {
        state = state * 1664525u + 1013904223u;
        size += (size_t)sprintf(text + size, "%s%s", words[state >> 29], state >> 20 & 7 ? " " : "\n");
    }
    scratch_write(scratch_path("text.txt"), text, size);
}

#define RUN(kind)                                                                                                      \
    "train --data text.txt --model " kind " --set model.layers=2 --set model.width=16 --set model.heads=2 "            \
    "--set model.context=16 --set train.batch=4 --set train.steps=4 --set train.checkpoint_every=2 --set out=run "

static void assert_done(outcome o)
{
    cr_assert(o.code == 0 && !o.err[0], "exit code %d: %s%s", o.code, o.out, o.err);
}

static const json_t *only(outcome o, const char *name)
{
    assert_done(o);
    return only_event(o, name);
}

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    cr_assert(text, "no text '%s' in %s", key, json_dumps(object, JSON_COMPACT));
    return text;
}

/* ---- tokenize ---- */

Test(cli_files, text_to_tokens_and_back)
{
    const json_t *made = only(gradus("tokenize train text.txt --vocab 280 --out t.json --json"), "tokenizer");
    cr_assert(number_of(made, "vocab") == 280, "256 bytes, one special token and 23 merges");
    const json_t *ids = only(gradus("tokenize encode t.json --text 'not to be' --json"), "tokens");
    cr_assert(number_of(ids, "count") == (double)json_array_size(json_object_get(ids, "ids")), "%s",
              json_dumps(ids, 0));
    cr_assert(number_of(ids, "count") < 9, "merges shorten a text of 9 bytes");
    outcome plain = gradus("tokenize encode t.json --text 'not to be'");
    assert_done(plain);
    plain.out[strlen(plain.out) - 1] = '\0';
    outcome back = gradus("tokenize decode t.json %s", plain.out);
    assert_done(back);
    cr_assert_str_eq(back.out, "not to be", "no more than the text");
    assert_done(gradus("tokenize encode t.json text.txt --out all.bin"));
    assert_done(gradus("tokenize decode t.json all.bin --out again.txt"));
    cr_assert(scratch_same("text.txt", "again.txt"), "encoding and decoding gives the text back");
    const json_t *part = only(gradus("tokenize decode t.json %s --json", "130"), "text");
    cr_assert(strlen(text_of(part, "text")) >= 1, "half a character becomes U+FFFD in JSON");
    const json_t *shard = only(gradus("inspect all.bin --json"), "inspect");
    cr_assert_str_eq(text_of(shard, "kind"), "shard");
    cr_assert(number_of(shard, "greatest") < 280, "%s", json_dumps(shard, 0));
}

/* Standard input, named pipes and those of a shell give the same as files. */
Test(cli_files, texts_come_through_pipes_too)
{
    assert_done(gradus("tokenize train text.txt --vocab 280 --out t.json"));
    outcome file = gradus("tokenize encode t.json text.txt");
    static const char *const calls[] = {"tokenize encode t.json fifo", "tokenize encode t.json - < text.txt",
                                        "tokenize encode t.json /dev/stdin < text.txt"};
    cr_assert(mkfifo(scratch_path("fifo"), 0600) == 0, "no pipe");
    if (fork() == 0) {
        size_t size;
        char *text = scratch_read(scratch_path("text.txt"), &size);
        FILE *out = fopen(scratch_path("fifo"), "w");
        fwrite(text, 1, size, out);
        fclose(out);
        _exit(0);
    }
    for (int i = 0; i < 3; i++) {
        outcome o = gradus("%s", calls[i]);
        assert_done(o);
        cr_assert_str_eq(o.out, file.out, "%s", calls[i]);
    }
    assert_done(gradus("tokenize train - --vocab 280 --out again.json < text.txt"));
    cr_assert(scratch_same("t.json", "again.json"), "the same tokenizer");
}

/* What was left out or replaced is said beside the ids, not among them. */
Test(cli_files, what_encoding_changes_is_said)
{
    scratch_write(scratch_path("marked.txt"), "\xEF\xBB\xBFto be", 8);
    scratch_write(scratch_path("latin.txt"), "to b\xE9", 5);
    assert_done(gradus("tokenize train text.txt --kind char --out c.json"));
    assert_done(gradus("tokenize train text.txt --kind byte --out b.json"));
    static const struct {
        const char *call, *out, *note;
    } cases[] = {
        {"encode b.json marked.txt", "116 111 32 98 101\n", "note: left out 1 byte order mark\n"},
        {"encode b.json latin.txt", "116 111 32 98 233\n", "latin.txt: byte 4 (0xe9) is not UTF-8: "},
        {"encode c.json --text 'to be ЙЪ'", NULL,
         "note: 2 characters that the tokenizer does not know became U+FFFD (the first: Й U+0419)\n"},
        {"encode c.json --text 'to be'", NULL, ""},
        {"encode b.json marked.txt --quiet", "116 111 32 98 101\n", ""},
    };
    for (int i = 0; i < 5; i++) {
        outcome o = gradus("tokenize %s", cases[i].call);
        cr_assert(o.code == 0, "%s: %s", cases[i].call, o.err);
        cr_assert(!cases[i].out || strcmp(o.out, cases[i].out) == 0, "%s: %s", cases[i].call, o.out);
        cr_assert(cases[i].note[0] ? strstr(o.err, cases[i].note) != NULL : !o.err[0], "%s: %s", cases[i].call, o.err);
    }
    outcome json = gradus("tokenize encode b.json marked.txt --json");
    cr_assert(json_array_size(events_named(json.out, "note")) == 1 && !json.err[0], "%s%s", json.out, json.err);
}

Test(cli_files, shards_for_training_and_validation)
{
    assert_done(gradus("tokenize train text.txt --kind byte"));
    outcome o = gradus("tokenize encode tokenizer.json text.txt --out a.bin --validation b.bin --validation-part 0.25 "
                       "--json");
    assert_done(o);
    json_t *shards = events_named(o.out, "shard");
    cr_assert(json_array_size(shards) == 2, "%s", o.out);
    size_t size;
    free(scratch_read(scratch_path("text.txt"), &size));
    double first = number_of(json_array_get(shards, 0), "tokens"),
           second = number_of(json_array_get(shards, 1), "tokens");
    cr_assert(first + second == (double)size && fabs(second / (double)size - 0.25) < 0.02, "%g and %g of %zu", first,
              second, size);
    assert_done(gradus("convert a.bin raw.bin --format raw"));
    assert_done(gradus("convert raw.bin wide.bin --from-format raw --format llama3"));
    assert_done(gradus("convert wide.bin again.bin --format gpt2"));
    cr_assert(scratch_same("a.bin", "again.bin"), "through both other formats and back");
}

/* ---- a run's files ---- */

static void check_tensors(const json_t *found, double parameters)
{
    const json_t *tensors = json_object_get(found, "tensors");
    double elements = 0;
    for (size_t i = 0; i < json_array_size(tensors); i++) {
        const json_t *tensor = json_array_get(tensors, i), *shape = json_object_get(tensor, "shape");
        double count = 1;
        for (size_t d = 0; d < json_array_size(shape); d++) count *= json_number_value(json_array_get(shape, d));
        cr_assert_str_eq(text_of(tensor, "dtype"), "F32");
        elements += count;
    }
    cr_assert(elements == parameters && number_of(found, "elements") == parameters, "%g elements, %g parameters",
              elements, parameters);
}

Test(cli_files, inspects_all_that_a_run_has)
{
    assert_done(gradus(RUN("gpt2")));
    const json_t *run = only(gradus("inspect run --json"), "inspect");
    cr_assert_str_eq(text_of(run, "kind"), "run");
    cr_assert(json_array_size(json_object_get(run, "checkpoints")) == 2, "%s", json_dumps(run, 0));
    cr_assert(number_of(json_object_get(run, "step"), "step") == 4, "%s", json_dumps(run, 0));
    double parameters = number_of(json_object_get(run, "model"), "parameters");
    const json_t *checkpoint = only(gradus("inspect run/checkpoints/step-000002 --json"), "inspect");
    cr_assert(number_of(checkpoint, "step") == 2 && number_of(checkpoint, "tensors") > 10, "%s",
              json_dumps(checkpoint, 0));
    check_tensors(only(gradus("inspect run/checkpoints/step-000004/model.safetensors --json"), "inspect"), parameters);
    cr_assert_str_eq(text_of(only(gradus("inspect run/config.yaml --json"), "inspect"), "kind"), "config");
    const json_t *tokenizer = only(gradus("inspect run/tokenizer.json --json"), "inspect");
    cr_assert(number_of(tokenizer, "vocab") == 257 && number_of(tokenizer, "end_of_text") == 256, "byte tokens");
    outcome o = gradus("inspect run");
    assert_done(o);
    cr_assert(strstr(o.out, "all 6 checksums match") && strstr(o.out, "last validation: loss"), "%s", o.out);
    size_t size;
    char *bytes = scratch_read(scratch_path("run/checkpoints/step-000002/optimizer.safetensors"), &size);
    bytes[size / 2] ^= 4;
    scratch_write(scratch_path("run/checkpoints/step-000002/optimizer.safetensors"), bytes, size);
    free(bytes);
    o = gradus("inspect run");
    cr_assert(o.code == 2 && strstr(o.err, "step-000002/optimizer.safetensors: tensor '"), "%d: %s", o.code, o.err);
}

Test(cli_files, scores_as_the_run_did)
{
    outcome trained = gradus(RUN("llama") "--json");
    assert_done(trained);
    json_t *evals = events_named(trained.out, "eval");
    const json_t *last = json_array_get(evals, json_array_size(evals) - 1);
    const json_t *again = only(gradus("eval run --json"), "eval");
    cr_assert(number_of(again, "loss") == number_of(last, "loss"), "%g and %g", number_of(again, "loss"),
              number_of(last, "loss"));
    cr_assert(number_of(again, "bits_per_byte") == number_of(last, "bits_per_byte") && number_of(again, "step") == 4,
              "%s", json_dumps(again, 0));
    const json_t *early = only(gradus("eval run/checkpoints/step-000002 --json"), "eval");
    cr_assert(number_of(early, "loss") != number_of(last, "loss") && number_of(early, "step") == 2, "another one");
    const json_t *whole = only(gradus("eval run --data text.txt --json"), "eval");
    cr_assert(fabs(number_of(whole, "loss") - number_of(last, "loss")) < 0.5, "%g", number_of(whole, "loss"));
    assert_done(gradus("convert run hf"));
    const json_t *exported = only(gradus("eval hf --data text.txt --json"), "eval");
    cr_assert(fabs(number_of(exported, "loss") - number_of(whole, "loss")) < 1e-5, "%g and %g",
              number_of(exported, "loss"), number_of(whole, "loss"));
    assert_done(gradus("tokenize encode hf text.txt --out t.bin"));
    const json_t *shard = only(gradus("eval hf --data t.bin --context 8 --json"), "eval");
    cr_assert(number_of(shard, "loss") > 0 && !json_object_get(shard, "bits_per_byte"), "shards have no bytes");
}

Test(cli_files, converts_weights_bit_for_bit_or_rounded)
{
    assert_done(gradus(RUN("gpt2")));
    assert_done(gradus("convert run hf"));
    cr_assert(scratch_same("run/checkpoints/step-000004/model.safetensors", "hf/model.safetensors"), "the same bits");
    cr_assert(scratch_same("run/tokenizer.json", "hf/tokenizer.json"), "the tokenizer comes along");
    cr_assert(access(scratch_path("hf/tokenizer_config.json"), R_OK) == 0, "so that transformers opens it");
    outcome o = gradus("convert run hf");
    cr_assert(o.code == 2 && strstr(o.err, "hf: exists already"), "%s", o.err);
    assert_done(gradus("convert hf half --dtype bf16"));
    size_t size;
    char *config = scratch_read(scratch_path("half/config.json"), &size);
    cr_assert(strstr(config, "bfloat16") && !strstr(config, "float32"), "%s", config);
    free(config);
    const json_t *half = only(gradus("inspect half --json"), "inspect"),
                 *full = only(gradus("inspect hf --json"), "inspect");
    cr_assert(number_of(half, "size_bytes") * 2 == number_of(full, "size_bytes"), "half the bytes");
    assert_done(gradus("convert half wide.safetensors --dtype f32"));
    assert_done(gradus("convert wide.safetensors again.safetensors --dtype bf16"));
    cr_assert(scratch_same("half/model.safetensors", "again.safetensors"), "rounding what is rounded changes nothing");
}

/* ---- going on with somebody's model ---- */

/* A model of a folder is trained on as such models are: the value of a key in the config.yaml that the run wrote. */
static double resolved(const char *run, const char *key)
{
    char path[128];
    size_t size;
    snprintf(path, sizeof path, "%s/config.yaml", run);
    char *text = scratch_read(scratch_path(path), &size), *at = strstr(text, key);
    cr_assert(at && at[strlen(key)] == ':', "no '%s' in %s", key, text);
    double value = strtod(at + strlen(key) + 1, NULL);
    free(text);
    return value;
}

Test(cli_files, fine_tunes_with_a_small_rate)
{
    assert_done(gradus(RUN("gpt2")));
    assert_done(gradus("convert run hf"));
    outcome o = gradus("train --data text.txt --set init.from=hf --set train.steps=2 --set out=tuned");
    assert_done(o);
    cr_assert(strstr(o.out, "fine-tuning hf: learning rate 5e-05, 16 windows of 16 tokens"), "%s", o.out);
    cr_assert(resolved("tuned", "lr") == 5e-5 && resolved("tuned", "clip_norm") == 1, "AdamW's settings");
    size_t size;
    char *config = scratch_read(scratch_path("tuned/config.yaml"), &size);
    cr_assert(strstr(config, "optimizer: adamw") && !strstr(config, "optimizer: muon"), "%s", config);
    free(config);
    o = gradus("train --data text.txt --set init.from=hf --set train.steps=2 --set train.optimizer=muon "
               "--set train.lr=0.01 --set out=other");
    assert_done(o);
    cr_assert(resolved("other", "lr") == 0.01, "what was set stays");
    cr_assert(access(scratch_path("tuned/checkpoints/step-000002/tokenizer_config.json"), R_OK) == 0,
              "for transformers");
}
