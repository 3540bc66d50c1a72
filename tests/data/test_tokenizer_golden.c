/* Tokenizers against Hugging Face `tokenizers`: files it wrote give its ids, and training gives its vocabularies. Made
 * by golden/tokenizer/make_tokenizer_goldens.py. */
#include "data/tokenizer.h"

#include "scratch.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

TestSuite(tokenizer_golden, .fini = scratch_remove);

#define GOLDEN GRADUS_SOURCE_DIR "/tests/golden/tokenizer/"

static grd_text golden_text(void)
{
    size_t size;
    char *bytes = scratch_read(GOLDEN "mixed.txt", &size);
    return (grd_text){bytes, size};
}

static grd_tokenizer *golden_tokenizer(const char *name)
{
    char path[512];
    grd_tokenizer *t;
    grd_error error = {0};
    snprintf(path, sizeof path, "%s%s.json", GOLDEN, name);
    cr_assert(grd_tokenizer_load(path, &t, &error) == GRD_OK, "%s", error.message);
    return t;
}

static void assert_golden_ids(const char *name, const grd_ids *ids)
{
    char path[512];
    size_t size;
    snprintf(path, sizeof path, "%s%s.ids", GOLDEN, name);
    char *want = scratch_read(path, &size);
    cr_assert(ids->width_bytes == 2, "%s: width", name);
    for (int64_t i = 0; i < ids->count && (size_t)i < size / 2; i++)
        cr_assert(((uint16_t *)ids->data)[i] == ((uint16_t *)want)[i], "%s: id %ld is %d instead of %d", name, (long)i,
                  ((uint16_t *)ids->data)[i], ((uint16_t *)want)[i]);
    cr_assert(ids->count == (int64_t)(size / 2), "%s: %ld ids instead of %zu", name, (long)ids->count, size / 2);
    free(want);
}

static void assert_encodes(const char *name, const grd_tokenizer *t)
{
    grd_text text = golden_text();
    grd_encode_options options = {.template_ids = true};
    grd_error error = {0};
    grd_ids ids;
    cr_assert(grd_tokenizer_encode(t, text, &options, &ids, &error) == GRD_OK, "%s", error.message);
    assert_golden_ids(name, &ids);
    grd_ids_free(&ids);
    free((void *)text.data);
}

static const char *const names[] = {"gpt2", "llama3", "qwen2", "o200k", "digits", "chars", "template", "prefix", "nfc"};
enum { NAMES = sizeof names / sizeof names[0] };

Test(tokenizer_golden, files_of_the_reference_give_its_ids)
{
    for (int i = 0; i < NAMES; i++) {
        grd_tokenizer *t = golden_tokenizer(names[i]);
        assert_encodes(names[i], t);
        grd_tokenizer_free(t);
    }
}

/* The short cuts for ASCII give the same pieces as the regular expressions alone. */
Test(tokenizer_golden, without_short_cuts_the_ids_are_the_same)
{
    for (int i = 0; i < NAMES; i++) {
        grd_tokenizer *t = golden_tokenizer(names[i]);
        if (t->splitter)
            grdi_splitter_plain(t->splitter);
        assert_encodes(names[i], t);
        grd_tokenizer_free(t);
    }
}

Test(tokenizer_golden, a_file_is_written_as_it_was_read)
{
    for (int i = 0; i < NAMES; i++) {
        char path[512];
        size_t size, again_size;
        grd_error error = {0};
        grd_tokenizer *t = golden_tokenizer(names[i]);
        const char *copy = scratch_path("tokenizer.json");
        cr_assert(grd_tokenizer_save(t, copy, &error) == GRD_OK, "%s", error.message);
        snprintf(path, sizeof path, "%s%s.json", GOLDEN, names[i]);
        char *was = scratch_read(path, &size), *is = scratch_read(copy, &again_size);
        cr_assert(size == again_size && memcmp(was, is, size) == 0, "%s", names[i]);
        free(was);
        free(is);
        grd_tokenizer_free(t);
    }
}

static void assert_same_tokenizer(const char *name, const grd_tokenizer *want, const grd_tokenizer *got)
{
    cr_assert(got->vocab.count == want->vocab.count, "%s: %zu tokens instead of %zu", name, got->vocab.count,
              want->vocab.count);
    for (size_t id = 0; id < want->vocab.count; id++) {
        size_t want_size, got_size;
        const uint8_t *a = grdi_vocab_bytes(&want->vocab, (int32_t)id, &want_size);
        const uint8_t *b = grdi_vocab_bytes(&got->vocab, (int32_t)id, &got_size);
        cr_assert(want_size == got_size && memcmp(a, b, want_size) == 0, "%s: token %zu differs", name, id);
    }
    cr_assert(got->merges.count == want->merges.count, "%s: %zu merges instead of %zu", name, got->merges.count,
              want->merges.count);
    for (size_t i = 0; i < want->merges.count; i++)
        cr_assert(memcmp(&got->merges.list[i], &want->merges.list[i], sizeof(grdi_merge)) == 0, "%s: merge %zu", name,
                  i);
}

Test(tokenizer_golden, training_gives_the_vocabulary_of_the_reference)
{
    static const struct {
        const char *name;
        grd_pattern pattern;
        int32_t vocab_size;
    } cases[] = {{"gpt2", GRD_PATTERN_GPT2, 700},
                 {"llama3", GRD_PATTERN_LLAMA3, 700},
                 {"qwen2", GRD_PATTERN_QWEN2, 100000}};
    const char *special = "<|endoftext|>";
    grd_text text = golden_text();
    for (int i = 0; i < 3; i++) {
        grd_error error = {0};
        grd_tokenizer *want = golden_tokenizer(cases[i].name), *got, *again;
        grd_tokenizer_options options = {.vocab_size = cases[i].vocab_size, .pattern = cases[i].pattern,
                                         .special = &special, .special_count = 1};
        cr_assert(grd_tokenizer_train(&text, 1, &options, &got, &error) == GRD_OK, "%s", error.message);
        assert_same_tokenizer(cases[i].name, want, got);
        assert_encodes(cases[i].name, got);
        const char *path = scratch_path("trained.json");
        cr_assert(grd_tokenizer_save(got, path, &error) == GRD_OK, "%s", error.message);
        cr_assert(grd_tokenizer_load(path, &again, &error) == GRD_OK, "%s", error.message);
        assert_same_tokenizer(cases[i].name, want, again);
        assert_encodes(cases[i].name, again);
        grd_tokenizer_free(again);
        grd_tokenizer_free(got);
        grd_tokenizer_free(want);
    }
    free((void *)text.data);
}

Test(tokenizer_golden, characters_get_the_ids_of_the_reference)
{
    grd_text text = golden_text(), half = text;
    const char *bytes = text.data;
    size_t characters = 0, half_characters = 0;
    for (size_t i = 0; i < text.size_bytes; i++)
        characters += (bytes[i] & 0xC0) != 0x80;
    for (half.size_bytes = 0; half.size_bytes < text.size_bytes; half.size_bytes++) {
        half_characters += (bytes[half.size_bytes] & 0xC0) != 0x80;
        if (half_characters > characters / 2)
            break;
    }
    grd_tokenizer_options options = {.kind = GRD_TOKENIZER_CHAR};
    grd_error error = {0};
    grd_tokenizer *t, *want = golden_tokenizer("chars"), *again;
    cr_assert(grd_tokenizer_train(&half, 1, &options, &t, &error) == GRD_OK, "%s", error.message);
    assert_same_tokenizer("chars", want, t);
    assert_encodes("chars", t);
    const char *path = scratch_path("chars.json");
    cr_assert(grd_tokenizer_save(t, path, &error) == GRD_OK, "%s", error.message);
    cr_assert(grd_tokenizer_load(path, &again, &error) == GRD_OK, "%s", error.message);
    assert_same_tokenizer("chars", want, again);
    assert_encodes("chars", again);
    grd_tokenizer_free(again);
    grd_tokenizer_free(want);
    grd_tokenizer_free(t);
    free((void *)text.data);
}
