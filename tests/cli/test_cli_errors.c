/* What the command says to wrong use and bad input: one line that names the place and what to do, and exit code 2. */
#include "command.h"
#include "scratch.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static void make_files(void);
TestSuite(cli_errors, .init = make_files, .fini = scratch_remove);

#define GOOD                                                                                                           \
    "model: {layers: 1, heads: 2, width: 16, context: 16}\ndata: {path: good.txt, tokenizer: byte}\ntrain: {steps: "   \
    "2}\n"

static void file(const char *name, const char *text)
{
    scratch_write(scratch_path(name), text, strlen(text));
}

static void make_files(void)
{
    static char text[4000];
    for (size_t i = 0; i < sizeof text; i++) text[i] = "all work and no play\n"[i % 21];
    scratch_write(scratch_path("good.txt"), text, sizeof text);
    scratch_write(scratch_path("binary.txt"), "a\0b\0c\0", 6);
    scratch_write(scratch_path("utf16.txt"),
                  "\xFF\xFE"
                  "a\0b\0",
                  6);
    scratch_write(scratch_path("empty.txt"), "", 0);
    file("short.txt", "hello\n");
    file("good.yaml", GOOD);
    file("typo.yaml", GOOD "model.layer: 3\n");
    file("typo2.yaml", "train: {steps: 3,\n  lear: 1}\n");
    file("type.yaml", "train:\n  steps: many\n");
    file("list.yaml", "train:\n  betas: 0.9\n");
    file("broken.yaml", "train: {steps: 3\nmodel: ]\n");
    file("number.yaml", "7\n");
    file("no_steps.yaml", "data: {path: good.txt}\n");
    file("no_data.yaml", "train: {steps: 1}\n");
    file("notes.json", "{\"hello\": 1}");
    mkdir(scratch_path("used"), 0755);
    file("used/letter.txt", "dear reader");
    file("shard.bin", "this is no token shard, but long enough to hold a header? no");
}

static const struct bad_input {
    const char *arguments;
    const char *pieces[3];
} cases[] = {
    {"nosuch", {"there is no command 'nosuch'"}},
    {"train", {"there is nothing to train from", "--data PATH"}},
    {"train --data good.txt good.yaml", {"only one thing"}},
    {"train good.yaml more.yaml", {"second config file"}},
    {"train --data good.txt --frobnicate", {"--frobnicate", "--help"}},
    {"train --data good.txt --previous", {"--previous: goes with --resume"}},
    {"train --data good.txt --threads two", {"--threads: 'two' is not a whole number"}},
    {"train --data good.txt --threads 0", {"--threads: 0 is outside 1 to"}},
    {"train --data missing.txt", {"missing.txt: no such file"}},
    {"train --data binary.txt", {"binary.txt"}},
    {"train --data utf16.txt", {"utf16.txt", "UTF-16"}},
    {"train --data empty.txt", {"empty.txt"}},
    {"train --data short.txt", {"token"}},
    {"train --data good.txt --model gpt5", {"--model: 'gpt5' is not one of: fast, gpt2, llama"}},
    {"train --data good.txt --set train.lr", {"must be KEY=VALUE"}},
    {"train --data good.txt --set train.learning=1", {"no key 'train.learning'", "did you mean"}},
    {"train --data good.txt --set lr=1", {"no key 'lr'", "did you mean train.lr?"}},
    {"train --data good.txt --set train.lr=fast", {"train.lr: 'fast' is not a number"}},
    {"train --data good.txt --set train.lr=[1", {"--set train.lr=[1", "not YAML"}},
    {"train --data good.txt --set model.layers=-1", {"model.layers", "outside 1 to"}},
    {"train --data good.txt --set model.layers=1.5", {"model.layers", "not a whole number"}},
    {"train --data good.txt --set model.kind=vgg", {"model.kind: 'vgg' is not one of: gpt2, llama, fast"}},
    {"train --data good.txt --set model.heads=3 --set model.width=64", {"heads", "3", "64"}},
    {"train --data good.txt --set data.tokenizer=bpe --set data.vocab=100", {"vocab", "100"}},
    {"train --data good.txt --set data.tokenizer=missing.json", {"missing.json"}},
    {"train --data good.txt --set data.tokenizer=notes.json", {"notes.json"}},
    {"train --data good.txt --set model.vocab=10", {"model.vocab: 10 is fewer than the tokenizer's"}},
    {"train --data good.txt --set model.context=100000", {"token"}},
    {"train --data good.txt --set train.min_lr=1 --set train.lr=0.1", {"train.min_lr: 1 is above train.lr"}},
    {"train --data good.txt --set 'train.groups=[{match: \"embed/**\", optimizer: sgdd}]'", {"train.groups", "sgdd"}},
    {"train --data good.txt --set init.from=x", {"init.from"}},
    {"train --data good.txt --set train.precision=f8 --set out=b", {"train.precision: 'f8' is not one of"}},
    {"train --data good.txt --set out=used", {"out: used is not empty", "--resume used"}},
    {"train --data good.txt --set out=good.txt", {"good.txt"}},
    {"train --data good.txt --device tpu", {"device 'tpu'", "there is no such device"}},
    {"train --data good.txt --device null:cpu", {"only plans"}},
    {"train missing.yaml", {"missing.yaml"}},
    {"train typo.yaml", {"typo.yaml:4:1", "model.layer", "did you mean model.layers?"}},
    {"train typo2.yaml", {"typo2.yaml:2:3: train.lear", "did you mean train.lr?"}},
    {"train type.yaml", {"type.yaml:2:10: train.steps: 'many' is not a whole number"}},
    {"train list.yaml", {"list.yaml:2:10: train.betas", "list of two numbers"}},
    {"train broken.yaml", {"broken.yaml:2", "not YAML"}},
    {"train number.yaml", {"number.yaml:1:1", "mapping"}},
    {"train no_steps.yaml", {"train.steps: neither steps nor minutes"}},
    {"train no_data.yaml", {"data: there is nothing to train on"}},
    {"train no_data.yaml --set data.tokens=[shard.bin] --set model.vocab=10", {"shard.bin"}},
    {"train good.yaml --set data.tokens=[shard.bin]", {"data.path: data.tokens is set too"}},
    {"train --resume nosuch", {"nosuch is no run directory"}},
    {"train --resume used", {"used is no run directory"}},
    {"sample", {"no run directory to sample from"}},
    {"sample used", {"used", "no run directory"}},
    {"sample used --temperature hot", {"--temperature: 'hot' is not a number"}},
    {"sample used --top-p 2", {"--top-p: 2 is outside"}},
    {"plan", {"nothing to plan"}},
    {"plan missing.yaml", {"missing.yaml"}},
    {"plan good.yaml --device h1000", {"null:h1000", "no such profile"}},
    {"plan good.yaml --set model.heads=5", {"heads"}},
    {"eval", {"no model to score with"}},
    {"eval missing", {"missing", "no run directory"}},
    {"eval used", {"used", "no Hugging Face folder"}},
    {"eval used --context 0", {"--context: 0 is outside 1"}},
    {"tokenize", {"is not one of: train, encode, decode"}},
    {"tokenize shred good.txt", {"'shred' is not one of"}},
    {"tokenize train", {"nothing to work on"}},
    {"tokenize train missing.txt", {"missing.txt"}},
    {"tokenize train good.txt --kind word", {"--kind: 'word' is not one of: bpe, byte, char"}},
    {"tokenize train good.txt --pattern gpt5", {"--pattern: 'gpt5'"}},
    {"tokenize train good.txt --vocab 12", {"vocab", "12"}},
    {"tokenize train binary.txt", {"binary.txt", "byte 1 is zero"}},
    {"tokenize encode notes.json good.txt", {"notes.json"}},
    {"tokenize encode notes.json", {"give one text"}},
    {"tokenize encode notes.json good.txt --format zip", {"--format: 'zip'"}},
    {"tokenize encode notes.json good.txt --validation v.bin", {"--validation: goes with"}},
    {"tokenize decode notes.json", {"no tokens"}},
    {"tokenize decode used 1 2", {"used"}},
    {"inspect", {"nothing to look at"}},
    {"inspect missing", {"missing: no such file"}},
    {"inspect good.txt", {"good.txt: cannot tell what it is"}},
    {"inspect used", {"used: is no run"}},
    {"inspect shard.bin", {"shard.bin"}},
    {"inspect notes.json", {"notes.json"}},
    {"inspect typo.yaml", {"typo.yaml:4:1", "did you mean model.layers?"}},
    {"convert", {"what to convert and where to"}},
    {"convert used", {"what to convert and where to"}},
    {"convert missing to", {"missing: no such file"}},
    {"convert used to --dtype i8", {"--dtype: 'i8' is not one of"}},
    {"convert used to", {"used"}},
    {"convert good.txt to", {"good.txt: is neither a token shard", "gradus tokenize encode"}},
    {"convert shard.bin to.bin", {"shard.bin"}},
    {"convert used to --format raw", {"--format: goes with token shards"}},
    {"bench", {"what is to be measured?"}},
    {"bench model", {"is not one of: gpt2-124m"}},
    {"bench model gpt9", {"'gpt9' is not one of: gpt2-124m"}},
    {"bench model mlp --context 5", {"mlp has no tokens"}},
    {"bench model mlp --precision f8", {"--precision: 'f8'"}},
    {"bench model mlp --steps 2000000", {"--steps: 2000000"}},
    {"bench model mlp --steps 3 --seconds 1", {"--steps and --seconds"}},
    {"bench model mlp --seconds nan", {"--seconds"}},
    {"bench op frobnicate", {"op 'frobnicate': there is no such op"}},
    {"doctor please", {"doctor takes no arguments"}},
};
enum { CASES = sizeof cases / sizeof cases[0] };

static void assert_refused(const struct bad_input *bad)
{
    outcome o = gradus("%s", bad->arguments);
    cr_expect(o.code == 2, "gradus %s: exit code %d: %s%s", bad->arguments, o.code, o.out, o.err);
    const char *end = strchr(o.err, '\n');
    cr_expect(strncmp(o.err, "error: ", 7) == 0 && end && end[1] == '\0', "gradus %s: not one line of error: %s",
              bad->arguments, o.err);
    for (int i = 0; i < 3 && bad->pieces[i]; i++)
        cr_expect(strstr(o.err, bad->pieces[i]), "gradus %s: no '%s' in: %s", bad->arguments, bad->pieces[i], o.err);
}

Test(cli_errors, wrong_use_and_bad_input_are_one_clear_line)
{
    for (int i = 0; i < CASES; i++) assert_refused(&cases[i]);
}

Test(cli_errors, errors_are_json_lines_too)
{
    for (int i = 0; i < CASES; i += 7) {
        outcome o = gradus("%s --json", cases[i].arguments);
        json_t *errors = events_named(o.out, "error");
        cr_assert(json_array_size(errors) == 1, "gradus %s --json: %s", cases[i].arguments, o.out);
        const char *message = json_string_value(json_object_get(json_array_get(errors, 0), "message"));
        cr_assert(strncmp(o.err, "error: ", 7) == 0 && strncmp(o.err + 7, message, strlen(message)) == 0, "%s: %s",
                  o.err, message);
    }
}

Test(cli_errors, nothing_is_left_behind_by_a_refusal)
{
    outcome o = gradus("train --data good.txt --set out=new --set model.heads=3 --set model.width=64");
    cr_assert(o.code == 2, "%d", o.code);
    cr_assert(access(scratch_path("new"), F_OK) != 0, "a run directory was made");
}

Test(cli_errors, a_full_disk_is_a_failure_while_running)
{
    if (access("/dev/full", W_OK) != 0) return;
    outcome o = gradus("doctor > /dev/full");
    cr_assert(o.code == 1 && strstr(o.err, "error: stdout: cannot write: No space left"), "exit code %d: %s", o.code,
              o.err);
    o = gradus("train good.yaml --set out=full --json > /dev/full");
    cr_assert(o.code == 1 && strstr(o.err, "stdout: cannot write: No space left on device"), "exit code %d: %s", o.code,
              o.err);
}

/* No file may grow beyond some bytes: config.yaml fits, tokenizer.json does not. */
Test(cli_errors, a_disk_that_is_full_before_the_first_step_is_a_failure_too)
{
    const struct rlimit limit = {4096, RLIM_INFINITY};
    signal(SIGXFSZ, SIG_IGN);
    cr_assert(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    static const char *const calls[] = {"train --data good.txt --set out=new",
                                        "tokenize train good.txt --out new.json"};
    for (int i = 0; i < 2; i++) {
        outcome o = gradus("%s", calls[i]);
        cr_assert(o.code == 1 && strstr(o.err, "File too large"), "%s: exit code %d: %s", calls[i], o.code, o.err);
    }
}

Test(cli_errors, help_and_version_are_no_errors)
{
    outcome none = gradus("%s", "");
    cr_assert(none.code == 2, "%d %s", none.code, none.err);
    static const char *const commands[] = {
        "",     "train",   "sample",  "plan",           "bench",           "doctor",
        "eval", "inspect", "convert", "tokenize train", "tokenize encode", "tokenize decode"};
    for (int i = 0; i < 12; i++) {
        outcome o = gradus("%s --help", commands[i]);
        cr_assert(o.code == 0 && strstr(o.out, "Usage: gradus") && !o.err[0], "%s: %d %s", commands[i], o.code, o.err);
        if (i > 0) cr_assert(strstr(o.out, "--device=NAME"), "%s", o.out);
    }
    outcome o = gradus("--version");
    cr_assert(o.code == 0 && strncmp(o.out, "gradus 0.", 9) == 0, "%s", o.out);
}
