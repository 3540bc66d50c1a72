/* test_cli_check.c - gradus check as a user runs it: nothing found in good configs, each planted mistake found. */
#include "command.h"
#include "scratch.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static void make_data(void);
TestSuite(cli_check, .init = make_data, .fini = scratch_remove);

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

static void write_config(const char *name, const char *text)
{
    scratch_write(scratch_path(name), text, strlen(text));
}

/* ---- images ---- */

enum { SIDE = 10, TRAINING = 300, TESTS = 100, OF_CLASSES = 3 };

#define IMAGES                                                                                                         \
    "model: {kind: lenet, width: 8}\n"                                                                                 \
    "train: {steps: 100, batch: 20, lr: 3.0e-3}\n"                                                                     \
    "data: {kind: idx, path: "

typedef enum spoil {
    GOOD,
    TESTS_IN_TRAINING,
    TWO_LABELS,
    LABELS_FROM_ONE,
    ONE_CLASS_UNTESTED,
    BY_CLASS,
    LABELS_ONE_ON,
    TESTS_NAMED_OTHERWISE,
    BLANK_IMAGES,
    SCALED_TWICE
} spoil;

typedef struct image_set {
    unsigned char pixels[TRAINING][SIDE * SIDE], labels[TRAINING];
} image_set;

/* A bright square whose place tells the class, on noise. */
static void draw(image_set *set, int i, int label)
{
    for (int k = 0; k < SIDE * SIDE; k++) {
        int inside = k / SIDE / 3 == label && k % SIDE / 3 == 1;
        set->pixels[i][k] = (unsigned char)(inside ? 180 + random_below(70) : random_below(100));
    }
    set->labels[i] = (unsigned char)label;
}

static void store(const char *folder, const char *part, const image_set *set, int count)
{
    char name[128];
    unsigned char head[16] = {0, 0,    8, 3, 0, 0,   (unsigned char)(count >> 8), (unsigned char)count, 0, 0,
                              0, SIDE, 0, 0, 0, SIDE};
    static unsigned char bytes[16 + sizeof set->pixels];
    memcpy(bytes, head, 16);
    memcpy(bytes + 16, set->pixels, (size_t)count * SIDE * SIDE);
    snprintf(name, sizeof name, "%s/%s-images-idx3-ubyte", folder, part);
    scratch_write(scratch_path(name), bytes, 16 + (size_t)count * SIDE * SIDE);
    head[3] = 1;
    memcpy(bytes, head, 8);
    memcpy(bytes + 8, set->labels, (size_t)count);
    snprintf(name, sizeof name, "%s/%s-labels-idx1-ubyte", folder, part);
    scratch_write(scratch_path(name), bytes, 8 + (size_t)count);
}

static void make_images(const char *folder, spoil what)
{
    static image_set training, tests;
    char config[32], text[256];
    state = 99;
    for (int i = 0; i < TRAINING; i++)
        draw(&training, i, what == BY_CLASS ? i / (TRAINING / OF_CLASSES) : (int)random_below(OF_CLASSES));
    for (int i = 0; i < TESTS; i++) draw(&tests, i, (int)random_below(what == ONE_CLASS_UNTESTED ? 2 : OF_CLASSES));
    for (int i = 0; i < TRAINING; i++) {
        if (what == TESTS_IN_TRAINING && i % 10 == 0) memcpy(training.pixels[i], tests.pixels[i / 10], SIDE * SIDE);
        if (what == TWO_LABELS && i % 10 == 1) memcpy(training.pixels[i], training.pixels[i - 1], SIDE * SIDE);
        if (what == LABELS_FROM_ONE) training.labels[i]++;
        if (what == LABELS_ONE_ON) training.labels[i] = training.labels[(i + 1) % TRAINING];
        if (what == BLANK_IMAGES && i % 10 == 0) memset(training.pixels[i], 0, SIDE * SIDE);
    }
    for (int i = 0; what == TESTS_NAMED_OTHERWISE && i < TESTS; i++)
        tests.labels[i] = (tests.labels[i] + 1) % OF_CLASSES;
    for (int i = 0; what == SCALED_TWICE && i < TRAINING; i++)
        for (int k = 0; k < SIDE * SIDE; k++) training.pixels[i][k] /= 255, tests.pixels[i][k] /= 255;
    mkdir(scratch_path(folder), 0755);
    store(folder, "train", &training, TRAINING);
    store(folder, "test", &tests, TESTS);
    snprintf(config, sizeof config, "%s.yaml", folder);
    snprintf(text, sizeof text, IMAGES "%s%s}\n", folder, what == BY_CLASS ? ", order: sequential" : "");
    write_config(config, text);
}

static void make_data(void)
{
    static char text[TEXT_BYTES];
    size_t size = write_text(text, sizeof text, 7);
    scratch_write(scratch_path("text.txt"), text, size);
    write_config("good.yaml", CONFIG);
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
    cr_assert(json_array_size(results) >= 9, "%s: %s", arguments, o.out);
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
    assert_found("first_steps", "good.yaml --set train.lr=3");
    assert_found("learning_rate", "good.yaml --set train.lr=3");
    assert_found("learning_rate", "good.yaml --set train.lr=0 --set train.min_lr=0");
    assert_found("learning_rate", "good.yaml --set train.warmup=1000000");
    assert_found("initial_loss", "good.yaml --set init.std=2");
    assert_found("frozen", "good.yaml --set 'train.groups=[{match: \"h0/**\", frozen: true}]'");
}

/* Text files made from a good one, and what is found in them. */
Test(cli_check, finds_what_is_planted_in_texts)
{
    static char text[TEXT_BYTES], other[2 * TEXT_BYTES];
    size_t size = write_text(text, sizeof text, 7), part = size / 3;
    memcpy(other, text, size);
    memcpy(other + size, text, part); /* the end, which is kept for validation, is the beginning again */
    for (size_t i = size; i < size + part; i++) other[i] = (char)(i % 7 || other[i] != ' ' ? other[i] : '\n');
    scratch_write(scratch_path("text.txt"), other, size + part);
    assert_found("overlap", "good.yaml");
    for (int i = 0; i < 4; i++) memcpy(other + (size_t)i * part, text, part);
    scratch_write(scratch_path("text.txt"), other, 4 * part);
    assert_found("repetition", "good.yaml");
    memcpy(other, text, size);
    for (size_t i = 100; i + 200 < size; i += 200) memcpy(other + i, "\xC3\x83\xC2\xA4", 4);
    scratch_write(scratch_path("text.txt"), other, size);
    assert_found("encoding", "good.yaml");
}

enum { IDS = 100, SHARD_IDS = 30000 };

/* Token shards as llm.c writes them: words of ids, common ones common, from `seed`; `copied` of them are those of
 * another seed, and the first `repeated` come four times. */
static void write_shard(const char *name, unsigned seed, int copied, unsigned of_seed, int repeated)
{
    static unsigned char bytes[1024 + 2 * SHARD_IDS];
    const uint32_t head[3] = {20240520, 1, SHARD_IDS};
    memcpy(bytes, head, sizeof head);
    uint16_t *ids = (uint16_t *)(bytes + 1024);
    state = of_seed;
    for (int i = 0; i < SHARD_IDS; i++) {
        if (i == copied) state = seed;
        ids[i] = (uint16_t)random_below(1 + random_below(IDS));
    }
    for (int i = repeated; i < 4 * repeated; i++) ids[i] = ids[i - repeated];
    scratch_write(scratch_path(name), bytes, sizeof bytes);
}

Test(cli_check, finds_what_is_planted_in_shards)
{
    write_config("shards.yaml", "model: {kind: gpt2, layers: 1, heads: 2, width: 32, context: 32, vocab: 100}\n"
                                "data: {tokens: [train.bin], validation: [val.bin]}\n"
                                "train: {steps: 100, batch: 8, lr: 3.0e-3, warmup: 5}\n");
    write_shard("train.bin", 7, 0, 7, 0);
    write_shard("val.bin", 8, 0, 8, 0);
    assert_clean("shards.yaml");
    write_shard("val.bin", 8, SHARD_IDS / 2, 7, 0);
    assert_found("overlap", "shards.yaml");
    write_shard("val.bin", 8, 0, 8, 0);
    write_shard("train.bin", 7, 0, 7, SHARD_IDS / 4);
    assert_found("repetition", "shards.yaml");
}

Test(cli_check, finds_what_is_planted_in_images)
{
    static const struct {
        spoil what;
        const char *check;
    } plants[] = {{TESTS_IN_TRAINING, "overlap"},
                  {TWO_LABELS, "conflicting_labels"},
                  {LABELS_FROM_ONE, "label_balance"},
                  {ONE_CLASS_UNTESTED, "label_balance"},
                  {BY_CLASS, "order"},
                  {LABELS_ONE_ON, "alignment"},
                  {TESTS_NAMED_OTHERWISE, "test_labels"},
                  {BLANK_IMAGES, "values"},
                  {SCALED_TWICE, "values"}};
    make_images("clean", GOOD);
    assert_clean("clean.yaml");
    assert_clean("clean.yaml --set model.kind=mlp --set model.width=32");
    assert_clean("clean.yaml --set model.kind=logistic");
    assert_clean("clean.yaml --set model.kind=resnet18 --set model.width=4");
    for (size_t i = 0; i < sizeof plants / sizeof *plants; i++) {
        char folder[16], arguments[64];
        snprintf(folder, sizeof folder, "planted%zu", i);
        make_images(folder, plants[i].what);
        snprintf(arguments, sizeof arguments, "%s.yaml", folder);
        assert_found(plants[i].check, arguments);
    }
}

typedef enum costs { BY_SIZE, BY_SIZE_ALONE, OF_OTHERS } costs;

/* Things that cost by their size, weight and kind, or by those of something else. */
static void write_table(const char *name, costs what, int rows)
{
    static char text[1 << 16];
    size_t used = (size_t)sprintf(text, "size,weight,place,kind,cost\n");
    state = 4;
    for (int i = 0; i < rows; i++) {
        unsigned size = random_below(1000), weight = random_below(1000), kind = random_below(2);
        used += (size_t)sprintf(text + used, "%u,%u,%s,%s,", size, weight, random_below(2) ? "left" : "right",
                                kind ? "cup" : "pot");
        if (what == OF_OTHERS) size = random_below(1000), weight = random_below(1000), kind = random_below(2);
        unsigned cost = 2 * size + weight + 400 * kind + random_below(300);
        used += (size_t)sprintf(text + used, "%u\n", what == BY_SIZE_ALONE ? 3 * size + 1 : cost);
    }
    scratch_write(scratch_path(name), text, used);
}

Test(cli_check, looks_at_tables)
{
    write_table("things.csv", BY_SIZE, 300);
    write_table("leak.csv", BY_SIZE_ALONE, 300);
    write_table("others.csv", OF_OTHERS, 2000);
    write_table("many.csv", BY_SIZE, 2000);
    write_config("cost.yaml", "data: {path: things.csv, target: cost}\n");
    write_config("kind.yaml", "data: {path: things.csv, target: kind}\n");
    assert_clean("cost.yaml");
    assert_clean("kind.yaml");
    assert_clean("cost.yaml --set model.kind=mlp");
    assert_clean("cost.yaml --set data.path=many.csv");
    assert_found("pairs", "cost.yaml --set data.path=others.csv");
    assert_found("pairs", "cost.yaml --set data.path=others.csv --set model.kind=mlp");
    assert_found("target_leak", "cost.yaml --set data.target=size --set data.path=leak.csv");
}

/* A walk with a season of 12 steps. */
static void write_series(const char *name)
{
    static char text[1 << 15];
    size_t used = (size_t)sprintf(text, "month,sales\n");
    double level = 100;
    state = 21;
    for (int i = 0; i < 400; i++) {
        level += random_below(1000) / 500.0 - 1;
        used += (size_t)sprintf(text + used, "%d,%.3f\n", i, level + 4 * (i % 12) + random_below(1000) / 500.0);
    }
    scratch_write(scratch_path(name), text, used);
}

/* The first loss is that of the simple forecast, which the units of the targets make 1. */
Test(cli_check, looks_at_series)
{
    write_series("sales.csv");
    write_config("sales.yaml", "data: {path: sales.csv, time: month, target: sales}\n"
                               "train: {steps: 100, lr: 2.0e-3}\n");
    assert_clean("sales.yaml");
    outcome o = gradus("check sales.yaml --set model.kind=tcn --json");
    const json_t *r = result_named(events_named(o.out, "check"), "initial_loss");
    cr_assert(r && strstr(json_string_value(json_object_get(r, "evidence")), "seasonal-naive is 1.0000"), "%s", o.out);
    cr_assert(o.code == 0, "%s", o.out);
}

/* A class for each of two pictures; behind the end of a file there may be anything. */
static void make_photographs(const char *folder, const char *more, int count)
{
    static const char *const pictures[2] = {"colour.jpg", "grey.jpg"}, *const classes[2] = {"cat", "dog"};
    char path[256];
    for (int k = 0; k < 2; k++) {
        size_t size;
        snprintf(path, sizeof path, "%s/tests/golden/images/%s", GRADUS_SOURCE_DIR, pictures[k]);
        char *bytes = scratch_read(path, &size);
        snprintf(path, sizeof path, "%s/%s", folder, classes[k]);
        mkdir(scratch_path(folder), 0755), mkdir(scratch_path(path), 0755);
        bytes = realloc(bytes, size + 64);
        for (int i = 0; i < count; i++) {
            int tail = sprintf(bytes + size, "%s %d", more, i);
            snprintf(path, sizeof path, "%s/%s/%d.jpg", folder, classes[k], i);
            scratch_write(scratch_path(path), bytes, size + (size_t)tail);
        }
        free(bytes);
    }
}

Test(cli_check, looks_at_folders_of_photographs)
{
    make_photographs("pets", "", 12);
    assert_clean("--data pets --model lenet --set model.width=8");
    mkdir(scratch_path("parts"), 0755);
    make_photographs("parts/train", "trained on", 12);
    make_photographs("parts/val", "trained on", 4);
    assert_found("overlap", "--data parts --model lenet --set model.width=8");
}

/* As train would choose for them. */
Test(cli_check, takes_data_without_a_config)
{
    write_table("things.csv", BY_SIZE, 300);
    write_series("sales.csv");
    make_images("clean", GOOD);
    assert_clean("--data text.txt --set model.layers=1 --set model.width=32 --set model.heads=2 "
                 "--set model.context=32 --set train.batch=8");
    assert_clean("--data things.csv --target kind --model mlp --set model.width=16");
    assert_clean("--data sales.csv --time month --target sales --horizon 2");
    assert_clean("--data clean --model vit --set model.layers=1 --set model.width=24");
    outcome o = gradus("check --data clean --model lenet --set model.width=8 --set train.lr=30");
    cr_assert(o.code == 4 && strstr(o.err, "chosen for 300 images"), "%s%s", o.out, o.err);
}

static int names_like(const char *prefix)
{
    DIR *folder = opendir(scratch_path("."));
    int names = 0;
    for (const struct dirent *e; (e = readdir(folder));)
        names += e->d_name[0] != '.' && strncmp(e->d_name, prefix, strlen(prefix)) == 0;
    closedir(folder);
    return names;
}

Test(cli_check, leaves_nothing_behind)
{
    setenv("TMPDIR", scratch_path("."), 1);
    cr_assert(gradus("check good.yaml --quiet").code == 0);
    cr_assert(names_like("") == 2, "%d files where there were two", names_like(""));
    outcome o = gradus_stopped_after(1, "targets", "check good.yaml --json");
    cr_assert(o.code == 3 && names_like("") == 2, "exit code %d, %d files: %s", o.code, names_like(""), o.err);
    o = gradus_stopped_after(1, "learning_rate", "check good.yaml --json");
    cr_assert(o.code == 3 && names_like("") == 2, "exit code %d, %d files: %s", o.code, names_like(""), o.err);
}

/* What a killed check left is removed by the next one; what another one works in is not. */
Test(cli_check, clears_up_after_killed_ones)
{
    setenv("TMPDIR", scratch_path("."), 1);
    mkdir(scratch_path("gradus-check-1"), 0755), mkdir(scratch_path("gradus-check-2"), 0755);
    scratch_write(scratch_path("gradus-check-1/config.yaml"), "x", 1);
    int taken = open(scratch_path("gradus-check-2"), O_RDONLY | O_DIRECTORY);
    cr_assert(taken >= 0 && flock(taken, LOCK_EX) == 0);
    cr_assert(gradus("check good.yaml --quiet").code == 0);
    cr_assert(names_like("gradus-check-2") == 1 && names_like("gradus-check") == 1);
    close(taken);
}

Test(cli_check, refuses_what_cannot_run)
{
    cr_assert(gradus("check").code == 2);
    cr_assert(gradus("check good.yaml --data text.txt").code == 2);
    cr_assert(gradus("check good.yaml --target x").code == 2);
    cr_assert(gradus("check --data text.txt --time x").code == 2);
    cr_assert(gradus("check nothing.yaml").code == 2);
    cr_assert(gradus("check good.yaml --set data.path=nothing.txt").code == 2);
}
