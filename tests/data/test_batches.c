/* Batches: every window once in an epoch, the same for the same seed and index, llm.c's order, and reading ahead. */
#include "faults.h"
#include "scratch.h"

#include <gradus/data.h>

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

TestSuite(batches, .fini = scratch_remove);

enum { SOURCES = 4 };
static uint32_t numbers[SOURCES][1000];
static grd_ids ids[SOURCES];
static const grd_ids *sources[SOURCES];

/* Source s has the tokens 10000 * s + 0, 1, 2, ... */
static void make_sources(const int64_t counts[SOURCES])
{
    for (int s = 0; s < SOURCES; s++) {
        for (int i = 0; i < 1000; i++)
            numbers[s][i] = (uint32_t)(10000 * s + i);
        ids[s] = (grd_ids){.data = numbers[s], .count = counts[s], .width_bytes = 4};
        sources[s] = &ids[s];
    }
}

static grd_batches *made(size_t count, grd_batches_options options)
{
    grd_error error = {0};
    grd_batches *batches;
    cr_assert(grd_batches_of_ids(sources, count, &options, &batches, &error) == GRD_OK, "%s", error.message);
    return batches;
}

static void get(const grd_batches *batches, int64_t index, int32_t *inputs, int32_t *targets)
{
    grd_error error = {0};
    cr_assert(grd_batches_get(batches, index, inputs, targets, &error) == GRD_OK, "%s", error.message);
}

/* Over `epochs` epochs, each has each window once: for every source, starts that are `context` apart. */
static void assert_each_window_once(const grd_batches *batches, int64_t context, const int64_t *windows, int epochs)
{
    int32_t inputs[64], targets[64];
    int64_t per_epoch = grd_batches_epoch(batches);
    for (int64_t epoch = 0; epoch < epochs; epoch++) {
        int64_t seen[SOURCES] = {0}, first[SOURCES] = {1000, 1000, 1000, 1000}, last[SOURCES] = {0};
        bool started[SOURCES][1000] = {{0}};
        for (int64_t i = 0; i < per_epoch; i++) {
            get(batches, epoch * per_epoch + i, inputs, targets);
            int source = inputs[0] / 10000;
            int64_t start = inputs[0] % 10000;
            for (int64_t k = 0; k < context; k++)
                cr_assert(inputs[k] == inputs[0] + k && targets[k] == inputs[k] + 1, "a window is not one stretch");
            cr_assert(start + context < ids[source].count, "a window leaves its source");
            cr_assert(!started[source][start], "epoch %ld: the window at %ld comes twice", (long)epoch, (long)start);
            started[source][start] = true;
            seen[source]++;
            first[source] = start < first[source] ? start : first[source];
            last[source] = start > last[source] ? start : last[source];
        }
        for (int s = 0; s < SOURCES; s++) {
            cr_assert(seen[s] == windows[s], "source %d has %ld windows", s, (long)seen[s]);
            cr_assert(windows[s] == 0 || last[s] - first[s] == (windows[s] - 1) * context, "source %d has gaps", s);
            cr_assert(windows[s] == 0 || first[s] < 2 * context, "source %d begins at %ld", s, (long)first[s]);
        }
    }
}

Test(batches, each_epoch_has_each_window_once)
{
    make_sources((const int64_t[]){100, 9, 21, 8});
    grd_batches *batches = made(SOURCES, (grd_batches_options){.context = 8, .seed = 3});
    cr_assert(grd_batches_epoch(batches) == 13 && grd_batches_size(batches) == 8, "%ld windows",
              (long)grd_batches_epoch(batches));
    assert_each_window_once(batches, 8, (const int64_t[]){11, 1, 1, 0}, 30);
    grd_batches_free(batches);
    make_sources((const int64_t[]){1000, 16, 17, 15});
    batches = made(SOURCES, (grd_batches_options){.context = 8, .seed = 4});
    assert_each_window_once(batches, 8, (const int64_t[]){124, 1, 1, 1}, 5);
    grd_batches_free(batches);
}

/* In time every token but the last is an input. */
Test(batches, offsets_reach_every_token)
{
    int32_t inputs[8], targets[8];
    bool seen[22] = {0};
    make_sources((const int64_t[]){21, 0, 0, 0});
    grd_batches *batches = made(1, (grd_batches_options){.context = 8, .seed = 5});
    for (int64_t i = 0; i < 400; i++) {
        get(batches, i, inputs, targets);
        for (int k = 0; k < 8; k++)
            seen[inputs[k]] = true;
    }
    for (int i = 0; i < 20; i++)
        cr_assert(seen[i], "token %d is never an input", i);
    grd_batches_free(batches);
}

Test(batches, a_batch_is_its_samples_in_a_row)
{
    int32_t inputs[5][8], targets[5][8], one[8], next[8];
    make_sources((const int64_t[]){333, 200, 0, 0});
    grd_batches *five = made(2, (grd_batches_options){.context = 8, .batch = 5, .seed = 7});
    grd_batches *single = made(2, (grd_batches_options){.context = 8, .seed = 7});
    grd_batches *other = made(2, (grd_batches_options){.context = 8, .seed = 8});
    int differ = 0;
    for (int64_t b = 40; b >= 0; b--) { /* across epochs, in falling order */
        get(five, b, inputs[0], targets[0]);
        for (int row = 0; row < 5; row++) {
            get(single, b * 5 + row, one, next);
            cr_assert(memcmp(inputs[row], one, sizeof one) == 0, "row %d", row);
            cr_assert(memcmp(targets[row], next, sizeof next) == 0, "row %d", row);
            get(other, b * 5 + row, one, next);
            differ += memcmp(inputs[row], one, sizeof one) != 0;
        }
    }
    cr_assert(differ > 150, "another seed gives another order: %d of 205", differ);
    grd_batches_free(five);
    grd_batches_free(single);
    grd_batches_free(other);
}

/* llm.c's loader, as COMMAND's words say it: read at p, go on by batch * context, next source when too few are left. */
Test(batches, sequential_is_llmcs_order)
{
    enum { SIZE = 3 * 4 };
    int32_t inputs[SIZE], targets[SIZE];
    make_sources((const int64_t[]){50, 12, 13, 37}); /* 4, 0, 1 and 3 batches */
    grd_batches_options options = {.context = 4, .batch = 3, .order = GRD_ORDER_SEQUENTIAL};
    grd_batches *batches = made(SOURCES, options);
    cr_assert(grd_batches_epoch(batches) == 8, "%ld", (long)grd_batches_epoch(batches));
    int source = 0;
    int64_t p = 0;
    for (int64_t b = 0; b < 30; b++) {
        while (p + SIZE + 1 > ids[source].count) {
            source = (source + 1) % SOURCES;
            p = 0;
        }
        get(batches, b, inputs, targets);
        for (int i = 0; i < SIZE; i++)
            cr_assert(inputs[i] == 10000 * source + p + i && targets[i] == inputs[i] + 1, "batch %ld: %d", (long)b,
                      inputs[i]);
        p += SIZE;
    }
    grd_batches_free(batches);
}

Test(batches, shards_give_the_same_as_ids)
{
    grd_error error = {0};
    grd_tokens *shards[2];
    make_sources((const int64_t[]){500, 300, 0, 0});
    for (int s = 0; s < 2; s++) {
        const char *path = scratch_path(s ? "b.bin" : "a.bin");
        const int32_t *tokens = (int32_t *)numbers[s];
        cr_assert(grd_tokens_write(path, GRD_TOKENS_GPT2, tokens, (size_t)ids[s].count, &error) == GRD_OK, "%s",
                  error.message);
        cr_assert(grd_tokens_open(path, GRD_TOKENS_AUTO, &shards[s], &error) == GRD_OK, "%s", error.message);
    }
    for (int order = 0; order < 2; order++) {
        int32_t a[2][64], b[2][64];
        grd_batches_options options = {.context = 16, .batch = 4, .seed = 2, .order = (grd_order)order};
        grd_batches *from_ids = made(2, options), *from_shards;
        const grd_tokens *const both[] = {shards[0], shards[1]};
        cr_assert(grd_batches_of_shards(both, 2, &options, &from_shards, &error) == GRD_OK, "%s", error.message);
        for (int64_t i = 0; i < 40; i++) {
            get(from_ids, i, a[0], a[1]);
            get(from_shards, i, b[0], b[1]);
            cr_assert(memcmp(a, b, sizeof a) == 0, "order %d, batch %ld", order, (long)i);
        }
        grd_batches_free(from_ids);
        grd_batches_free(from_shards);
    }
    grd_tokens_close(shards[0]);
    grd_tokens_close(shards[1]);
}

Test(batches, what_does_not_fit_is_refused)
{
    static const struct {
        grd_batches_options options;
        const char *why;
    } bad[] = {
        {{.context = 0}, "context 0 do not fit"},
        {{.context = 8, .batch = -1}, "batch -1"},
        {{.context = INT64_MAX}, "do not fit"},
        {{.context = 1 << 20, .batch = 1 << 20}, "do not fit"},
        {{.context = 8, .order = (grd_order)5}, "order 5"},
        {{.context = 21}, "the text has 21 tokens, and 22 are needed (give more text, or lower the context)"},
        {{.context = 10, .batch = 3, .order = GRD_ORDER_SEQUENTIAL}, 
         "31 are needed (give more text, or lower the context or the batch)"},
    };
    make_sources((const int64_t[]){21, 0, 0, 0});
    faults_install();
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        grd_error error = {0};
        grd_batches *batches;
        cr_assert(grd_batches_of_ids(sources, 2, &bad[i].options, &batches, &error) == GRD_E_ARGUMENT, "case %zu", i);
        cr_assert(!batches && strstr(error.message, bad[i].why), "case %zu: %s", i, error.message);
    }
    grd_batches *batches;
    cr_assert(grd_batches_of_ids(sources, 1, NULL, &batches, NULL) == GRD_E_ARGUMENT, "no options");
    faults_fail_at(1);
    const grd_batches_options good = {.context = 8};
    cr_assert(grd_batches_of_ids(sources, 1, &good, &batches, NULL) == GRD_E_MEMORY, "fault");
    cr_assert(faults_held() == 0, "%ld", faults_held());
    /* Tokens outside the vocabulary. */
    int32_t inputs[20], targets[20];
    grd_error error = {0};
    batches = made(1, (grd_batches_options){.context = 20, .vocab_size = 20});
    cr_assert(grd_batches_get(batches, 0, inputs, targets, &error) == GRD_E_FORMAT, "token 20");
    cr_assert(strstr(error.message, "token 20 at position 20 of source 0"), "%s", error.message);
    cr_assert(grd_batches_get(batches, -1, inputs, targets, NULL) == GRD_E_ARGUMENT, "batch -1");
    grd_batches_free(batches);
    batches = made(1, (grd_batches_options){.context = 20, .vocab_size = 21});
    get(batches, 0, inputs, targets);
    grd_batches_free(batches);
}

Test(batches, reading_ahead_gives_the_same_batches)
{
    int32_t inputs[64], targets[64];
    const int32_t *ahead_inputs, *ahead_targets;
    make_sources((const int64_t[]){1000, 1000, 0, 0});
    grd_batches *batches = made(2, (grd_batches_options){.context = 16, .batch = 4, .seed = 9});
    grd_prefetch *prefetch;
    grd_error error = {0};
    faults_install();
    cr_assert(grd_prefetch_new(batches, 3, 2, &prefetch, &error) == GRD_OK, "%s", error.message);
    faults_fail_at(1); /* nothing is allocated from here on */
    for (int64_t i = 0; i < 500; i++) {
        get(batches, 3 + 2 * i, inputs, targets);
        cr_assert(grd_prefetch_next(prefetch, &ahead_inputs, &ahead_targets, &error) == GRD_OK, "%s", error.message);
        cr_assert(memcmp(inputs, ahead_inputs, sizeof inputs) == 0, "batch %ld", (long)i);
        cr_assert(memcmp(targets, ahead_targets, sizeof targets) == 0, "batch %ld", (long)i);
    }
    cr_assert(!faults_hit(), "something was allocated");
    faults_fail_at(0);
    grd_prefetch_free(prefetch);
    cr_assert(grd_prefetch_new(batches, -1, 1, &prefetch, NULL) == GRD_E_ARGUMENT, "first");
    cr_assert(grd_prefetch_new(batches, 0, 0, &prefetch, NULL) == GRD_E_ARGUMENT, "stride");
    for (long n = 1; n <= 2; n++) {
        faults_fail_at(n);
        cr_assert(grd_prefetch_new(batches, 0, 1, &prefetch, NULL) == GRD_E_MEMORY && !prefetch, "fault %ld", n);
    }
    cr_assert(faults_held() == 0, "%ld", faults_held());
    grd_prefetch_free(NULL);
    grd_batches_free(batches);
}

Test(batches, reading_ahead_tells_of_errors_when_their_batch_is_due)
{
    const int32_t *inputs, *targets;
    make_sources((const int64_t[]){100, 0, 0, 0});
    grd_batches_options options = {.context = 10, .order = GRD_ORDER_SEQUENTIAL, .vocab_size = 45};
    grd_batches *batches = made(1, options);
    grd_prefetch *prefetch;
    cr_assert(grd_prefetch_new(batches, 0, 1, &prefetch, NULL) == GRD_OK, "new");
    for (int i = 0; i < 4; i++)
        cr_assert(grd_prefetch_next(prefetch, &inputs, &targets, NULL) == GRD_OK && inputs[0] == 10 * i, "batch %d", i);
    for (int i = 0; i < 3; i++) {
        grd_error error = {0};
        cr_assert(grd_prefetch_next(prefetch, &inputs, &targets, &error) == GRD_E_FORMAT, "batch 4");
        cr_assert(strstr(error.message, "token 45 at position 45"), "%s", error.message);
    }
    grd_prefetch_free(prefetch);
    grd_batches_free(batches);
}
