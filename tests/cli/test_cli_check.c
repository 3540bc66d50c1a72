/* test_cli_check.c - gradus check as a user runs it: nothing found in good configs, each planted mistake found. */
#include "command.h"
#include "scratch.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void make_data(void);
TestSuite(cli_check, .init = make_data, .fini = scratch_remove, .timeout = 300);

enum { WORDS = 400, TEXT_BYTES = 40000 };

static unsigned state;

static unsigned random_below(unsigned count)
{
    state = state * 1664525u + 1013904223u;
    return (unsigned)((uint64_t)state * count >> 32);
}

/* Sentences of made-up words: common ones are common, and no long piece comes twice. */
static size_t write_text(char *text, size_t size, unsigned seed)
{
    static char words[WORDS][12];
    size_t used = 0;
    state = 1;
    for (int w = 0; w < WORDS; w++)
        for (unsigned i = 0, n = 2 + random_below(6); i < n; i++) words[w][i] = (char)('a' + random_below(26));
    state = seed;
    for (int word = 0; used + 16 < size; word++) {
        unsigned range = 1u << random_below(9);
        used += (size_t)sprintf(text + used, "%s%s", words[random_below(range < WORDS ? range : WORDS)],
                                random_below(9) ? " " : ".\n");
    }
    return used;
}

#define CONFIG                                                                                                         \
    "model: {kind: gpt2, layers: 1, heads: 2, width: 32, context: 32}\n"                                               \
    "data: {path: text.txt, tokenizer: byte}\n"                                                                        \
    "train: {steps: 100, batch: 8, lr: 3.0e-3, warmup: 5}\n"

static void make_data(void)
{
    static char text[TEXT_BYTES];
    size_t size = write_text(text, sizeof text, 7);
    scratch_write(scratch_path("text.txt"), text, size);
    scratch_write(scratch_path("good.yaml"), CONFIG, strlen(CONFIG));
}

/* The result of that name; NULL: none. */
static const json_t *result_named(json_t *results, const char *name)
{
    for (size_t i = 0; i < json_array_size(results); i++) {
        const json_t *r = json_array_get(results, i);
        if (strcmp(json_string_value(json_object_get(r, "name")), name) == 0) return r;
    }
    return NULL;
}

static void assert_clean(const char *arguments)
{
    outcome o = gradus("check %s --json", arguments);
    json_t *results = events_named(o.out, "check");
    for (size_t i = 0; i < json_array_size(results); i++)
        cr_assert(json_is_true(json_object_get(json_array_get(results, i), "passed")), "%s: %s", arguments, o.out);
    cr_assert(o.code == 0, "%s: exit code %d: %s", arguments, o.code, o.err);
    cr_assert(json_array_size(results) >= 11, "%s: %s", arguments, o.out);
}

/* The call finds something (exit code 4), and the check `name` is among those that do. */
static void assert_found(const char *name, const char *arguments)
{
    outcome o = gradus("check %s --json", arguments);
    const json_t *r = result_named(events_named(o.out, "check"), name);
    cr_assert(o.code == 4, "%s: exit code %d: %s%s", arguments, o.code, o.out, o.err);
    cr_assert(r && json_is_false(json_object_get(r, "passed")), "%s: %s did not find it: %s", arguments, name, o.out);
    cr_assert(strlen(json_string_value(json_object_get(r, "look_at"))) > 20, "%s", o.out);
}

Test(cli_check, finds_nothing_in_a_good_config)
{
    outcome o = gradus("check good.yaml");
    cr_assert(o.code == 0, "%s%s", o.out, o.err);
    cr_assert(strstr(o.out, "nothing found") && strstr(o.out, "ok     causality"), "%s", o.out);
    assert_clean("good.yaml");
    assert_clean("good.yaml --set model.kind=fast --set train.optimizer=muon --set train.lr=0.02");
}

Test(cli_check, finds_what_is_planted_in_settings)
{
    assert_found("learning_rate", "good.yaml --set train.lr=3");
    assert_found("learning_rate", "good.yaml --set train.lr=0 --set train.min_lr=0");
    assert_found("initial_loss", "good.yaml --set init.std=2");
    assert_found("frozen", "good.yaml --set 'train.groups=[{match: \"h0/**\", frozen: true}]'");
}

Test(cli_check, leaves_nothing_behind)
{
    cr_assert(gradus("check good.yaml --quiet").code == 0);
    DIR *folder = opendir(scratch_path("."));
    int names = 0;
    for (const struct dirent *e; (e = readdir(folder));) names += e->d_name[0] != '.';
    closedir(folder);
    cr_assert(names == 2, "%d files where there were two", names);
}

Test(cli_check, refuses_what_cannot_run)
{
    cr_assert(gradus("check").code == 2);
    cr_assert(gradus("check nothing.yaml").code == 2);
    cr_assert(gradus("check good.yaml --set data.path=nothing.txt").code == 2);
}
