/* Text corpora: what is split where, what is refused, and the windows that score a text. */
#include "data/corpus.h"

#include "base/file.h"
#include "faults.h"
#include "scratch.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

TestSuite(corpus, .fini = scratch_remove);

static grd_corpus *opened(const char *path, grd_corpus_options options)
{
    grd_error error = {0};
    grd_corpus *corpus;
    cr_assert(grd_corpus_open(path, &options, &corpus, &error) == GRD_OK, "%s", error.message);
    return corpus;
}

static const char *text_file(const char *name, const char *text, size_t size)
{
    const char *path = scratch_path(name);
    scratch_write(path, text, size);
    return path;
}

static void assert_text(const grd_corpus *corpus, grd_part part, size_t index, const char *want, size_t want_size)
{
    size_t count;
    const grd_text *texts = grd_corpus_texts(corpus, part, &count);
    cr_assert(index < count, "part %d has %zu texts", (int)part, count);
    cr_assert(texts[index].size_bytes == want_size && memcmp(texts[index].data, want, want_size) == 0,
              "part %d, text %zu: %zu bytes '%.*s'", (int)part, index, texts[index].size_bytes,
              (int)texts[index].size_bytes, (const char *)texts[index].data);
}

/* ---- splitting ---- */

Test(corpus, one_text_is_split_after_a_line_end)
{
    /* 40 bytes; floor(40 * 0.75) = 30 lies in the fourth line, which ends with byte 33. */
    const char *text = "0123456\n9abcdef\nhijklmn\npqrstuvw\nyzABCD\n";
    cr_assert(strlen(text) == 40, "%zu", strlen(text));
    grd_corpus *corpus = opened(text_file("a.txt", text, 40), (grd_corpus_options){.validation_part = 0.25});
    assert_text(corpus, GRD_TRAIN, 0, text, 33);
    assert_text(corpus, GRD_VALIDATION, 0, text + 33, 7);
    grd_corpus_info info = grd_corpus_about(corpus);
    cr_assert(info.files == 1 && info.size_bytes[0] == 33 && info.size_bytes[1] == 7 && info.marks == 0, "info");
    grd_corpus_free(corpus);
}

Test(corpus, a_text_without_lines_is_split_at_a_space_or_between_characters)
{
    const char *words = "one two three four five six seven eight nine ten";
    size_t size = strlen(words);
    grd_corpus *corpus = opened(text_file("a.txt", words, size), (grd_corpus_options){.validation_part = 0.5});
    assert_text(corpus, GRD_VALIDATION, 0, "seven eight nine ten", 20); /* byte 24 lies in "six" */
    grd_corpus_free(corpus);
    const char *chinese = "天地玄黃宇宙洪荒日月盈昃辰宿列張"; /* 16 characters of 3 bytes */
    corpus = opened(text_file("b.txt", chinese, 48), (grd_corpus_options){.validation_part = 0.3});
    assert_text(corpus, GRD_VALIDATION, 0, chinese + 33, 15); /* floor(48 * 0.7) = 33 */
    grd_corpus_free(corpus);
    corpus = opened(text_file("b.txt", chinese, 48), (grd_corpus_options){.validation_part = 0.32});
    assert_text(corpus, GRD_VALIDATION, 0, chinese + 30, 18); /* floor(48 * 0.68) = 32, inside a character */
    grd_corpus_free(corpus);
}

Test(corpus, without_validation_all_is_for_training)
{
    grd_corpus *corpus = opened(text_file("a.txt", "a\nb\nc\n", 6), (grd_corpus_options){.no_validation = true});
    size_t count;
    assert_text(corpus, GRD_TRAIN, 0, "a\nb\nc\n", 6);
    grd_corpus_texts(corpus, GRD_VALIDATION, &count);
    cr_assert(count == 0, "%zu", count);
    grd_corpus_free(corpus);
}

Test(corpus, a_mark_is_left_out_and_line_ends_stay)
{
    const char *path = text_file("a.txt", "\xEF\xBB\xBFx\r\ny\r\n", 9);
    grd_corpus *corpus = opened(path, (grd_corpus_options){.no_validation = true});
    assert_text(corpus, GRD_TRAIN, 0, "x\r\ny\r\n", 6);
    cr_assert(grd_corpus_about(corpus).marks == 1, "mark");
    grd_corpus_free(corpus);
}

Test(corpus, a_folder_is_split_by_files)
{
    const char *folder = scratch_path("texts");
    grd_error error = {0};
    cr_assert(grdi_directory_make(scratch_path("texts/b"), &error) == GRD_OK, "%s", error.message);
    scratch_write(scratch_path("texts/a.txt"), "first", 5);
    scratch_write(scratch_path("texts/b/c.txt"), "second", 6);
    scratch_write(scratch_path("texts/b/empty"), "", 0);
    scratch_write(scratch_path("texts/.hidden"), "\0", 1);
    scratch_write(scratch_path("texts/d.txt"), "3rd", 3);
    grd_corpus *corpus = opened(folder, (grd_corpus_options){0});
    assert_text(corpus, GRD_TRAIN, 0, "first", 5);
    assert_text(corpus, GRD_TRAIN, 1, "second", 6);
    assert_text(corpus, GRD_VALIDATION, 0, "3rd", 3);
    grd_corpus_info info = grd_corpus_about(corpus);
    cr_assert(info.files == 3 && info.empty_files == 1 && info.size_bytes[0] == 11, "info");
    /* Between texts goes the end-of-text token. */
    const char *special = "<|endoftext|>";
    grd_tokenizer_options options = {.kind = GRD_TOKENIZER_BYTE, .special = &special, .special_count = 1};
    grd_tokenizer *t;
    cr_assert(grd_tokenizer_train(NULL, 0, &options, &t, &error) == GRD_OK, "%s", error.message);
    cr_assert(grd_corpus_encode(corpus, t, &error) == GRD_OK, "%s", error.message);
    const grd_ids *ids = grd_corpus_ids(corpus, GRD_TRAIN);
    int32_t got[12], want[12] = {'f', 'i', 'r', 's', 't', 256, 's', 'e', 'c', 'o', 'n', 'd'};
    cr_assert(ids->count == 12, "%ld", (long)ids->count);
    grd_ids_read(ids, 0, 12, got);
    cr_assert(memcmp(got, want, sizeof want) == 0, "ids");
    /* A half of the bytes: the last two files. */
    grd_corpus_free(corpus);
    corpus = opened(folder, (grd_corpus_options){.validation_part = 0.5});
    assert_text(corpus, GRD_VALIDATION, 0, "second", 6);
    assert_text(corpus, GRD_VALIDATION, 1, "3rd", 3);
    grd_corpus_free(corpus);
    corpus = opened(folder, (grd_corpus_options){.validation_part = 0.99}); /* one is left for training */
    assert_text(corpus, GRD_TRAIN, 0, "first", 5);
    grd_corpus_free(corpus);
    grd_tokenizer_free(t);
}

Test(corpus, what_is_no_text_in_a_folder_is_left_out)
{
    const char *folder = scratch_path("mixed");
    grd_error error = {0};
    cr_assert(grdi_directory_make(folder, &error) == GRD_OK, "%s", error.message);
    scratch_write(scratch_path("mixed/a.bin"), "ab\0c", 4);
    cr_assert(mkfifo(scratch_path("mixed/b.pipe"), 0600) == 0 && symlink("nowhere", scratch_path("mixed/c.link")) == 0);
    grd_corpus *corpus;
    cr_assert(grd_corpus_open(folder, NULL, &corpus, &error) == GRD_E_FORMAT, "only binary files");
    cr_assert(strstr(error.message, "holds no text") && strstr(error.message, "a.bin"), "%s", error.message);
    scratch_write(scratch_path("mixed/d.txt"), "text", 4);
    corpus = opened(folder, (grd_corpus_options){.no_validation = true});
    assert_text(corpus, GRD_TRAIN, 0, "text", 4);
    grd_corpus_info info = grd_corpus_about(corpus);
    cr_assert(info.files == 1 && info.skipped_files == 3, "%d of them", (int)info.skipped_files);
    char line[GRD_MESSAGE_MAX];
    cr_assert(grd_corpus_note(corpus, 0, line, sizeof line) && !grd_corpus_note(corpus, 1, line, sizeof line), "notes");
    cr_assert(strstr(line, "left out 3 files") && strstr(line, "a.bin: is no text: byte 2 is zero"), "%s", line);
    grd_corpus_free(corpus);
}

/* bpe and byte take any bytes; a char tokenizer would have made them all one id. */
Test(corpus, bytes_that_are_not_utf8_are_told_and_no_char_tokenizer_gets_them)
{
    const char *path = text_file("latin.txt", "\xEF\xBB\xBF" "caf\xE9 caf\xE9", 12);
    grd_corpus *corpus = opened(path, (grd_corpus_options){.no_validation = true});
    char line[GRD_MESSAGE_MAX];
    cr_assert(grd_corpus_note(corpus, 1, line, sizeof line), "a mark, and bytes");
    cr_assert(strstr(line, "latin.txt: byte 6 (0xe9) is not UTF-8"), "%s", line);
    size_t count;
    grd_tokenizer *t;
    grd_error error = {0};
    const grd_text *texts = grd_corpus_texts(corpus, GRD_TRAIN, &count);
    grd_tokenizer_options options = {.kind = GRD_TOKENIZER_BYTE};
    cr_assert(grd_tokenizer_train(texts, count, &options, &t, &error) == GRD_OK, "%s", error.message);
    cr_assert(grd_corpus_encode(corpus, t, &error) == GRD_OK && grd_corpus_ids(corpus, GRD_TRAIN)->count == 9, "bytes");
    grd_tokenizer_free(t);
    options.kind = GRD_TOKENIZER_CHAR;
    cr_assert(grd_tokenizer_train(texts, count, &options, &t, &error) == GRD_OK, "%s", error.message);
    cr_assert(grd_corpus_encode(corpus, t, &error) == GRD_E_FORMAT && strstr(error.message, "byte 6"), "%s",
              error.message);
    grd_tokenizer_free(t);
    grd_corpus_free(corpus);
}

Test(corpus, characters_without_a_token_are_counted)
{
    enum { SIZE = 3 << 20 }; /* several parts, encoded by several threads */
    char *text = malloc(SIZE + 1);
    memset(text, 'a', SIZE);
    memcpy(text + SIZE - 7, "\xC3\xA9z\xC3\xA9", 5);
    grd_tokenizer_options options = {.kind = GRD_TOKENIZER_CHAR};
    grd_tokenizer *t;
    grd_error error = {0};
    grd_ids ids;
    cr_assert(grd_tokenizer_train(&(grd_text){"ab", 2}, 1, &options, &t, &error) == GRD_OK, "%s", error.message);
    cr_assert(grd_tokenizer_encode(t, (grd_text){text, SIZE}, NULL, &ids, &error) == GRD_OK, "%s", error.message);
    char line[GRD_MESSAGE_MAX];
    cr_assert(ids.unknown == 3 && ids.first_unknown == 0xE9, "%d, U+%04X", (int)ids.unknown, (int)ids.first_unknown);
    cr_assert(grd_ids_note(&ids, line, sizeof line) && strstr(line, "3 characters") && strstr(line, "\xC3\xA9 U+00E9"),
              "%s", line);
    grd_ids_free(&ids);
    cr_assert(grd_tokenizer_encode(t, (grd_text){text, 100}, NULL, &ids, &error) == GRD_OK && ids.unknown == 0, "none");
    cr_assert(!grd_ids_note(&ids, line, sizeof line), "nothing to say");
    grd_ids_free(&ids);
    grd_tokenizer_free(t);
    free(text);
}

/* What comes from a pipe is read once, to its end; nobody waits for a pipe that is not written to. */
Test(corpus, a_pipe_is_a_text_where_it_is_read_once)
{
    const char *path = scratch_path("pipe");
    grd_error error = {0};
    grd_corpus *corpus;
    cr_assert(mkfifo(path, 0600) == 0, "no pipe");
    cr_assert(grd_corpus_open(path, NULL, &corpus, &error) == GRD_E_IO && strstr(error.message, "more than once"), "%s",
              error.message);
    error = (grd_error){0};
    const grd_corpus_options once = {.no_validation = true, .pipes = true};
    cr_assert(grd_corpus_open(path, &once, &corpus, &error) == GRD_E_IO && strstr(error.message, "no program writes"),
              "%s", error.message);
    if (fork() == 0) { /* later, and in two parts */
        usleep(200000);
        FILE *out = fopen(path, "w");
        fputs("first ", out);
        fflush(out);
        usleep(200000);
        fputs("second", out);
        fclose(out);
        _exit(0);
    }
    corpus = opened(path, once);
    assert_text(corpus, GRD_TRAIN, 0, "first second", 12);
    grd_corpus_free(corpus);
}

/* Ids in a file without a name: the same ones, and nothing is left in the directory. */
Test(corpus, ids_may_lie_in_a_file)
{
    enum { SIZE = 3000000 };
    char *text = malloc(SIZE);
    for (int i = 0; i < SIZE; i++)
        text[i] = i % 61 == 60 ? '\n' : (char)('a' + i * 7 % 26);
    const char *path = text_file("large.txt", text, SIZE), *folder = scratch_path("scratch");
    grd_error error = {0};
    cr_assert(grdi_directory_make(folder, &error) == GRD_OK, "%s", error.message);
    grd_tokenizer_options options = {.kind = GRD_TOKENIZER_BYTE};
    grd_tokenizer *t;
    cr_assert(grd_tokenizer_train(NULL, 0, &options, &t, &error) == GRD_OK, "%s", error.message);
    grd_corpus *memory = opened(path, (grd_corpus_options){.scratch = folder, .scratch_from = SIZE + 1});
    grd_corpus *file = opened(path, (grd_corpus_options){.scratch = folder, .scratch_from = SIZE});
    for (int again = 0; again < 2; again++) {
        cr_assert(grd_corpus_encode(memory, t, &error) == GRD_OK, "%s", error.message);
        cr_assert(grd_corpus_encode(file, t, &error) == GRD_OK, "%s", error.message);
    }
    cr_assert(memory->part[0].file.size_bytes == 0, "it is below the size from which on a file is used");
    for (int p = 0; p < 2; p++) {
        const grd_ids *a = grd_corpus_ids(memory, (grd_part)p), *b = grd_corpus_ids(file, (grd_part)p);
        cr_assert(a->count == b->count && a->width_bytes == b->width_bytes, "part %d", p);
        cr_assert(memcmp(a->data, b->data, (size_t)(a->count * a->width_bytes)) == 0, "part %d", p);
    }
    cr_assert(!grdi_directory_has_entries(folder), "something was left");
    cr_assert(file->part[0].file.size_bytes == 2 * (size_t)grd_corpus_ids(file, GRD_TRAIN)->count, "it is a file");
    grd_corpus_free(memory);
    grd_corpus_free(file);
    grd_tokenizer_free(t);
    free(text);
}

/* Texts that are encoded in several parts are still one text each. */
Test(corpus, one_token_goes_between_long_texts)
{
    enum { SIZE = 700000 };
    static char text[SIZE];
    grd_error error = {0};
    for (int i = 0; i < SIZE; i++)
        text[i] = i % 7 == 6 ? ' ' : 'a';
    cr_assert(grdi_directory_make(scratch_path("texts"), &error) == GRD_OK, "%s", error.message);
    scratch_write(scratch_path("texts/1"), text, SIZE);
    scratch_write(scratch_path("texts/2"), text, SIZE);
    const char *special = "<|endoftext|>";
    for (int kind = 0; kind < 2; kind++) {
        grd_corpus *corpus = opened(scratch_path("texts"), (grd_corpus_options){.no_validation = true});
        grd_tokenizer_options options = {.kind = (grd_tokenizer_kind)kind, .vocab_size = 257, .special = &special,
                                         .special_count = 1};
        grd_tokenizer *t;
        int32_t id;
        cr_assert(grd_tokenizer_train(NULL, 0, &options, &t, &error) == GRD_OK, "%s", error.message);
        cr_assert(grd_corpus_encode(corpus, t, &error) == GRD_OK, "%s", error.message);
        const grd_ids *ids = grd_corpus_ids(corpus, GRD_TRAIN);
        cr_assert(ids->count == 2 * SIZE + 1, "%ld ids", (long)ids->count);
        grd_ids_read(ids, SIZE, 1, &id);
        cr_assert(id == grd_tokenizer_end_of_text(t), "id %d", id);
        grd_tokenizer_free(t);
        grd_corpus_free(corpus);
    }
}

/* ---- many files ---- */

static long mappings;

static void *count_mapping(int fd, size_t size_bytes)
{
    mappings++;
    return mmap(NULL, size_bytes, PROT_READ, MAP_SHARED, fd, 0);
}

/* A process may have some 65,000 mappings: small files beyond the first thousand share one. */
Test(corpus, many_small_files_take_few_mappings)
{
    enum { FILES = GRDI_CORPUS_MAPPED + 300, SKIPPED = FILES - 3, EMPTY = FILES - 4, MARKED = FILES - 5 };
    enum { LARGE = FILES - 6 };
    grd_error error = {0};
    char name[32], text[32];
    char *large = calloc(1, GRDI_CORPUS_SMALL_BYTES + 1);
    memset(large, 'x', GRDI_CORPUS_SMALL_BYTES + 1);
    cr_assert(grdi_directory_make(scratch_path("many"), &error) == GRD_OK, "%s", error.message);
    for (int i = 0; i < FILES; i++) {
        snprintf(name, sizeof name, "many/%06d", i);
        int size = snprintf(text, sizeof text, "%stext %d\n", i == MARKED ? "\xEF\xBB\xBF" : "", i);
        if (i == LARGE)
            scratch_write(scratch_path(name), large, GRDI_CORPUS_SMALL_BYTES + 1);
        else
            scratch_write(scratch_path(name), i == SKIPPED ? "a\0b" : text,
                          i == EMPTY ? 0 : i == SKIPPED ? 3 : (size_t)size);
    }
    grdi_file.map = count_mapping;
    grd_corpus *corpus = opened(scratch_path("many"), (grd_corpus_options){.no_validation = true});
    cr_assert(mappings == GRDI_CORPUS_MAPPED + 2, "%ld mappings: the first files, the large one, the others", mappings);
    grd_corpus_info info = grd_corpus_about(corpus);
    cr_assert(info.files == FILES - 2 && info.empty_files == 1 && info.skipped_files == 1 && info.marks == 1, "info");
    size_t index = 0;
    for (int i = 0; i < FILES; i++) {
        if (i == SKIPPED || i == EMPTY)
            continue;
        int size = snprintf(text, sizeof text, "text %d\n", i);
        assert_text(corpus, GRD_TRAIN, index++, i == LARGE ? large : text,
                    i == LARGE ? GRDI_CORPUS_SMALL_BYTES + 1 : (size_t)size);
    }
    grd_corpus_free(corpus);
    free(large);
}

Test(corpus, one_part_can_be_encoded_alone)
{
    grd_error error = {0};
    grd_tokenizer *t;
    grd_tokenizer_options options = {.kind = GRD_TOKENIZER_BYTE};
    cr_assert(grd_tokenizer_train(NULL, 0, &options, &t, &error) == GRD_OK, "%s", error.message);
    const char *path = text_file("a.txt", "01234567\nabcdefg\n", 17);
    grd_corpus *corpus = opened(path, (grd_corpus_options){.validation_part = 0.6});
    cr_assert(grdi_corpus_encode_part(corpus, GRD_VALIDATION, t, &error) == GRD_OK, "%s", error.message);
    cr_assert(grd_corpus_ids(corpus, GRD_VALIDATION)->count == 8 && grd_corpus_ids(corpus, GRD_TRAIN)->count == 0,
              "the other part was not asked for");
    grd_corpus_free(corpus);
    grd_tokenizer_free(t);
}

/* ---- what is refused ---- */

Test(corpus, what_is_no_text_is_refused)
{
    static const struct {
        const char *text;
        size_t size;
        grd_status status;
        const char *why;
    } bad[] = {
        {"", 0, GRD_E_FORMAT, "is empty"},
        {"\xEF\xBB\xBF", 3, GRD_E_FORMAT, "is empty"},
        {"ab\0c", 4, GRD_E_FORMAT, "byte 2 is zero"},
        {"\xFF\xFE" "a\0", 4, GRD_E_FORMAT, "UTF-16"},
        {"\xFE\xFF\0a", 4, GRD_E_FORMAT, "UTF-16"},
    };
    faults_install();
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        grd_error error = {0};
        grd_corpus *corpus = (grd_corpus *)&error;
        const char *path = text_file("bad.txt", bad[i].text, bad[i].size);
        cr_assert(grd_corpus_open(path, NULL, &corpus, &error) == bad[i].status && !corpus, "case %zu", i);
        cr_assert(strncmp(error.message, path, strlen(path)) == 0 && strstr(error.message, bad[i].why), "%s",
                  error.message);
    }
    grd_error error = {0};
    grd_corpus *corpus;
    cr_assert(grd_corpus_open(scratch_path("none"), NULL, &corpus, &error) == GRD_E_IO, "missing");
    cr_assert(strstr(error.message, "no such file or folder"), "%s", error.message);
    error = (grd_error){0};
    const char *path = text_file("good.txt", "text\n", 5);
    const grd_corpus_options all = {.validation_part = 1}, less = {.validation_part = -1};
    cr_assert(grd_corpus_open(path, &all, &corpus, &error) == GRD_E_ARGUMENT, "all of it");
    cr_assert(strstr(error.message, "validation_part"), "%s", error.message);
    cr_assert(grd_corpus_open(path, &less, &corpus, NULL) == GRD_E_ARGUMENT, "less than nothing");
    if (geteuid() != 0) { /* root may read all */
        error = (grd_error){0};
        chmod(path, 0);
        cr_assert(grd_corpus_open(path, NULL, &corpus, &error) == GRD_E_IO, "unreadable");
    }
    cr_assert(faults_held() == 0, "%ld", faults_held());
}

Test(corpus, every_failing_allocation_and_file_call_is_survived)
{
    grd_error error = {0};
    cr_assert(grdi_directory_make(scratch_path("texts"), &error) == GRD_OK, "%s", error.message);
    scratch_write(scratch_path("texts/a.txt"), "first text\n", 11);
    scratch_write(scratch_path("texts/b.txt"), "second text\n", 12);
    scratch_write(scratch_path("texts/c.txt"), "third text\n", 11);
    const char *special = "<|endoftext|>", *folder = scratch_path("texts");
    grd_tokenizer_options options = {.vocab_size = 260, .special = &special, .special_count = 1};
    grd_tokenizer *t;
    cr_assert(grd_tokenizer_train(NULL, 0, &options, &t, &error) == GRD_OK, "%s", error.message);
    const grd_corpus_options with_scratch = {.threads = 1, .scratch = folder};
    faults_install();
    long n = 0;
    for (bool hit = true; hit;) {
        grd_corpus *corpus;
        error = (grd_error){0};
        faults_fail_at(++n);
        grd_status status = grd_corpus_open(folder, &with_scratch, &corpus, &error);
        if (status == GRD_OK)
            status = grd_corpus_encode(corpus, t, &error);
        grd_corpus_free(corpus);
        hit = faults_hit();
        faults_fail_at(0);
        cr_assert(faults_held() == 0, "fault %ld: %ld held", n, faults_held());
        bool expected = status == GRD_E_MEMORY || status == GRD_E_IO || status == GRD_E_SPACE;
        cr_assert(status == GRD_OK || (hit && expected && error.message[0]),
                  "fault %ld: %s", n, error.message);
    }
    cr_assert(n > 20, "only %ld faults", n);
    grd_tokenizer_free(t);
}

/* ---- scoring ---- */

/* Each token that can be scored is the target of one position, with its own token as input before it and enough
 * context. */
static void assert_scores_all(const grd_score *score, const int32_t *sequence, int64_t length, const bool *scored)
{
    int64_t context = score->context, total = 0;
    int32_t inputs[64], targets[64];
    int times[512] = {0};
    for (int64_t w = 0; w < score->windows; w++) {
        grd_score_get(score, w, inputs, targets);
        int64_t start = w * (context > 1 ? context / 2 : 1);
        for (int64_t i = 0; i < context; i++) {
            if (start + i < length - 1)
                cr_assert(inputs[i] == sequence[start + i], "window %ld, input %ld", (long)w, (long)i);
            else
                cr_assert(inputs[i] == 0, "window %ld, input %ld past the end", (long)w, (long)i);
            if (targets[i] == GRD_IGNORE)
                continue;
            cr_assert(targets[i] == sequence[start + i + 1], "window %ld, target %ld", (long)w, (long)i);
            cr_assert(w == 0 || i + 1 >= context / 2, "window %ld scores position %ld", (long)w, (long)i);
            times[start + i + 1]++;
            total++;
        }
    }
    for (int64_t i = 1; i < length; i++)
        cr_assert(times[i] == scored[i], "context %ld, length %ld: token %ld is scored %d times", (long)context,
                  (long)length, (long)i, times[i]);
    cr_assert(total == score->tokens, "%ld scored, not %ld", (long)total, (long)score->tokens);
    grd_score_get(score, score->windows, inputs, targets);
    for (int64_t i = 0; i < context; i++)
        cr_assert(targets[i] == GRD_IGNORE && inputs[i] == 0, "a window past the last");
}

Test(corpus, each_token_is_scored_once)
{
    uint16_t data[300];
    int32_t sequence[301];
    bool scored[301];
    memset(scored, true, sizeof scored);
    for (int i = 0; i < 300; i++)
        data[i] = (uint16_t)(1000 + i);
    for (int64_t context = 1; context <= 17; context++)
        for (int64_t count = 1; count <= 300; count += count < 70 ? 1 : 23)
            for (int started = 0; started < 2; started++) {
                grd_ids ids = {.data = data, .count = count, .width_bytes = 2};
                grd_score score;
                grd_error error = {0};
                grd_status status = grd_score_ids(&ids, context, started ? 7 : -1, &score, &error);
                if (count + started < 2) {
                    cr_assert(status == GRD_E_ARGUMENT && strstr(error.message, "too few tokens"), "%s", error.message);
                    continue;
                }
                sequence[0] = 7;
                for (int i = 0; i < count; i++)
                    sequence[i + started] = data[i];
                cr_assert(status == GRD_OK && score.tokens == count + started - 1, "%s", error.message);
                assert_scores_all(&score, sequence, count + started, scored);
            }
    grd_score score;
    grd_ids nine = {.data = data, .count = 9, .width_bytes = 2};
    cr_assert(grd_score_ids(&nine, 0, -1, &score, NULL) == GRD_E_ARGUMENT, "context 0");
}

Test(corpus, the_bytes_scored_are_those_of_the_text)
{
    const char *text = "ñandú corre\nrápido\n";
    const char *special = "<|endoftext|>";
    int64_t size = (int64_t)strlen(text);
    grd_error error = {0};
    for (int kind = 0; kind < 3; kind++)
        for (int ended = 0; ended < 2; ended++) {
            grd_tokenizer_options options = {.kind = (grd_tokenizer_kind)kind, .vocab_size = 257, .special = &special,
                                             .special_count = ended};
            grd_text all = {text, (size_t)size};
            const char *path = text_file("a.txt", text, (size_t)size);
            grd_corpus *corpus = opened(path, (grd_corpus_options){.no_validation = true});
            grd_tokenizer *t;
            grd_score score;
            cr_assert(grd_tokenizer_train(&all, 1, &options, &t, &error) == GRD_OK, "%s", error.message);
            cr_assert(grd_score_corpus(corpus, GRD_TRAIN, t, 8, &score, NULL) == GRD_E_ARGUMENT, "before encoding");
            cr_assert(grd_corpus_encode(corpus, t, &error) == GRD_OK, "%s", error.message);
            cr_assert(grd_score_corpus(corpus, GRD_TRAIN, t, 8, &score, &error) == GRD_OK, "%s", error.message);
            int64_t first = ended ? 0 : kind == GRD_TOKENIZER_CHAR ? 2 : 1; /* bytes of the first token, not scored */
            cr_assert(score.size_bytes == size - first, "kind %d, %d: %ld", kind, ended, (long)score.size_bytes);
            cr_assert(score.start_id == (ended ? grd_tokenizer_end_of_text(t) : -1), "kind %d, %d", kind, ended);
            cr_assert(grd_score_corpus(corpus, GRD_VALIDATION, t, 8, &score, NULL) == GRD_E_ARGUMENT, "no validation");
            grd_tokenizer_free(t);
            grd_corpus_free(corpus);
        }
}

Test(corpus, tokens_between_texts_are_not_scored)
{
    grd_error error = {0};
    const char *special = "<|endoftext|>", *texts[] = {"abcdefg", "hij", "klmnopqrstu"};
    cr_assert(grdi_directory_make(scratch_path("texts"), &error) == GRD_OK, "%s", error.message);
    scratch_write(scratch_path("texts/1"), texts[0], 7);
    scratch_write(scratch_path("texts/2"), texts[1], 3);
    scratch_write(scratch_path("texts/3"), texts[2], 11);
    grd_tokenizer_options options = {.kind = GRD_TOKENIZER_BYTE, .special = &special, .special_count = 1};
    grd_tokenizer *t;
    cr_assert(grd_tokenizer_train(NULL, 0, &options, &t, &error) == GRD_OK, "%s", error.message);
    grd_corpus *corpus = opened(scratch_path("texts"), (grd_corpus_options){.no_validation = true});
    cr_assert(grd_corpus_encode(corpus, t, &error) == GRD_OK, "%s", error.message);
    int32_t sequence[24];
    bool scored[24];
    int64_t length = 0;
    for (int i = 0; i < 3; i++) {
        sequence[length] = 256;
        scored[length++] = false;
        for (const char *c = texts[i]; *c; c++) {
            sequence[length] = *c;
            scored[length++] = true;
        }
    }
    for (int64_t context = 1; context <= 30; context++) {
        grd_score score;
        cr_assert(grd_score_corpus(corpus, GRD_TRAIN, t, context, &score, &error) == GRD_OK, "%s", error.message);
        cr_assert(score.size_bytes == 21 && score.tokens == 21, "bytes");
        assert_scores_all(&score, sequence, length, scored);
    }
    grd_corpus_free(corpus);
    grd_tokenizer_free(t);
}
