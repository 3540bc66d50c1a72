/* Run directories as a user handles them: finished, taken elsewhere, with other data behind them. */
#include "command.h"
#include "scratch.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static void make_text(void);
TestSuite(cli_runs, .init = make_text, .fini = scratch_remove);

static void write_text(const char *name, unsigned state)
{
    static const char *const words[] = {"to", "be", "or", "not", "that", "is", "the", "question"};
    static char text[6000];
    size_t size = 0;
    while (size < sizeof text - 20) {
        state = state * 1664525u + 1013904223u;
        size += (size_t)sprintf(text + size, "%s%s", words[state >> 29], state >> 20 & 7 ? " " : "\n");
    }
    scratch_write(scratch_path(name), text, size);
}

static void make_text(void)
{
    write_text("text.txt", 1);
}

#define TINY                                                                                                           \
    "--model gpt2 --set model.layers=1 --set model.width=16 --set model.heads=2 --set model.context=16 "               \
    "--set train.batch=2 --set train.minutes=0 --set train.steps=4 --set train.checkpoint_every=2 --quiet "
#define RUN "train --data text.txt " TINY

static void assert_done(outcome o)
{
    cr_assert(o.code == 0, "exit code %d: %s%s", o.code, o.out, o.err);
}

static void assert_refused(outcome o, const char *piece, const char *other)
{
    cr_assert(o.code == 2, "exit code %d: %s%s", o.code, o.out, o.err);
    cr_assert(strstr(o.err, piece) && strstr(o.err, other), "no '%s' and '%s' in: %s", piece, other, o.err);
    cr_assert(strchr(o.err, '\n') == o.err + strlen(o.err) - 1, "not one line: %s", o.err);
}

/* A shell command in the scratch folder. */
static void shell(const char *command)
{
    char line[1024], folder[512];
    snprintf(folder, sizeof folder, "%s", scratch_path("x"));
    *strrchr(folder, '/') = '\0';
    snprintf(line, sizeof line, "cd %s && %s", folder, command);
    cr_assert(system(line) == 0, "%s", line);
}

Test(cli_runs, a_finished_run_stays_as_it_is)
{
    assert_done(gradus(RUN "--set out=run"));
    shell("mkdir before && cp -r run/config.yaml run/tokenizer.json run/checkpoints before");
    outcome o = gradus("train --resume run --set train.lr=0.5 --set train.steps=3 --json");
    assert_done(o);
    cr_assert(strstr(o.out, "step 4 was the last one: nothing is left to do"), "%s", o.out);
    cr_assert(json_array_size(events_named(o.out, "step")) == 0 && json_array_size(events_named(o.out, "saved")) == 0,
              "%s", o.out);
    shell("for f in config.yaml tokenizer.json checkpoints; do diff -r run/$f before/$f; done");
    assert_done(gradus("train --resume run --set train.steps=6"));
    shell("grep -q 'steps: 6' run/config.yaml");
}

Test(cli_runs, a_run_goes_on_in_its_own_folder)
{
    assert_done(gradus(RUN "--set out=run"));
    assert_refused(gradus("train --resume run --set out=other --set train.steps=6"), "--set out=other",
                   "--set init.from=run/checkpoints/step-000004");
    shell("test ! -e other");
    assert_done(gradus("train --resume run --set out=run --set train.steps=5"));
    assert_done(gradus("train run/config.yaml --set init.from=run/checkpoints/step-000004 --set out=other --quiet"));
    shell("cp -r run copy");
    assert_done(gradus("train --resume copy --set train.steps=6"));
}

/* Keys that a resumed run no longer reads, or that would mix two orders of the data. */
Test(cli_runs, what_a_run_began_with_stays)
{
    static const char *const sets[] = {"data.tokenizer=byte",      "data.vocab=270", "data.order=sequential",
                                       "data.validation_part=0.4", "init.std=0.5",   "init.from=hf"};
    assert_done(gradus(RUN "--set data.tokenizer=bpe --set data.vocab=280 --set out=run"));
    shell("cp -r run before");
    for (int i = 0; i < 6; i++) {
        outcome o = gradus("train --resume run --set train.steps=6 --set %s", sets[i]);
        assert_refused(o, sets[i], "--set init.from=run/checkpoints/step-000004");
    }
    shell("diff -r run before");
    assert_done(gradus("train --resume run --set train.steps=6 --set data.tokenizer=bpe --set data.order=shuffled"));
}

static void assert_other_data(const char *name)
{
    outcome o = gradus("train --resume run --set train.steps=6");
    assert_refused(o, name, "is not what the run was trained on");
    cr_assert(strstr(o.err, "init.from"), "says what to do: %s", o.err);
}

Test(cli_runs, a_changed_text_is_noticed)
{
    assert_done(gradus(RUN "--set out=run"));
    shell("cp text.txt kept.txt && sed -i 's/question/gradient/' text.txt"); /* of the same length */
    assert_other_data("text.txt");
    shell("cp kept.txt text.txt && echo more >> text.txt");
    assert_other_data("text.txt");
    shell("rm text.txt && sed -i s/text.txt/kept.txt/ run/config.yaml"); /* moved, but the same */
    assert_done(gradus("train --resume run --set train.steps=6"));
    shell("f=run/checkpoints/step-000006; grep -q '\"xxh3\"' $f/state.json && echo x >> kept.txt");
    assert_other_data("kept.txt");
}

Test(cli_runs, a_changed_folder_is_noticed)
{
    shell("mkdir texts && split -n 3 text.txt texts/part-");
    assert_done(gradus("train --data texts " TINY "--set out=run"));
    shell("mv texts/part-aa texts/part-az");
    assert_other_data("texts");
    shell("mv texts/part-az texts/part-aa");
    assert_done(gradus("train --resume run --set train.steps=6"));
}

Test(cli_runs, changed_shards_are_noticed)
{
    shell("cp text.txt other.txt && echo more >> other.txt");
    assert_done(gradus("tokenize train text.txt --vocab 280 --out t.json"));
    assert_done(gradus("tokenize encode t.json text.txt --out a.bin --validation b.bin"));
    static const char config[] = "model: {kind: gpt2, layers: 1, heads: 1, width: 16, context: 8, vocab: 280}\n"
                                 "data: {tokens: [a.bin], validation: [b.bin], tokenizer: t.json}\n"
                                 "train: {steps: 4, batch: 4}\nout: run\n";
    scratch_write(scratch_path("shards.yaml"), config, sizeof config - 1);
    assert_done(gradus("train shards.yaml --quiet"));
    assert_done(gradus("tokenize encode t.json other.txt --out c.bin --validation d.bin"));
    shell("cp b.bin kept.bin && cp d.bin b.bin");
    assert_other_data("b.bin");
    shell("cp kept.bin b.bin && rm t.json"); /* the run has its own */
    assert_done(gradus("train --resume run --set train.steps=6"));
    shell("sed -i 's/endoftext/endofword/' run/tokenizer.json");
    assert_refused(gradus("train --resume run --set train.steps=8"), "tokenizer.json: run/tokenizer.json is another",
                   "copy the checkpoint's");
}

/* Everything that a command prints may be lost; then it says so, once, and what it did is kept. */
Test(cli_runs, a_full_stdout_is_told)
{
    static const char problem[] = "error: stdout: cannot write: No space left on device";
    outcome o = gradus("train --data text.txt --set train.steps=100000 --set train.minutes=0 --set model.layers=1 "
                       "--set model.width=16 --set model.heads=2 --set out=run --json >/dev/full");
    cr_assert(o.code == 1 && strncmp(o.err, problem, strlen(problem)) == 0, "%d %s", o.code, o.err);
    cr_assert(strstr(o.err, "gradus train --resume run") && strchr(o.err, '\n')[1] == '\0', "%s", o.err);
    shell("ls run/checkpoints/step-*/model.safetensors >/dev/null");
    assert_done(gradus("tokenize train text.txt --vocab 280 --out t.json"));
    static const char *const commands[] = {"plan run/config.yaml --json", "plan run/config.yaml",
                                           "sample run --tokens 5", "sample run --tokens 5 --json",
                                           "tokenize encode t.json --text 'to be'", "inspect run"};
    for (int i = 0; i < 6; i++) {
        o = gradus("%s >/dev/full", commands[i]);
        cr_assert(o.code == 1 && strncmp(o.err, problem, strlen(problem)) == 0, "%s: %d %s", commands[i], o.code,
                  o.err);
        cr_assert(strchr(o.err, '\n')[1] == '\0', "%s: not one line: %s", commands[i], o.err);
    }
}
