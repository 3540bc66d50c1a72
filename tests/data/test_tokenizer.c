/* Tokenizers by themselves: bytes that are anything, cutting, merging, special tokens, bad files, faults. */
#include "data/encode.h"

#include "base/memory.h"
#include "data/nfc.h"
#include "data/tokenizer.h"
#include "data/words.h"
#include "faults.h"
#include "scratch.h"

#include <criterion/criterion.h>
#include <jansson.h>
#include <stdlib.h>
#include <stdatomic.h>
#include <string.h>

TestSuite(tokenizer, .fini = scratch_remove);

static uint32_t dice_state = 1;

static uint32_t dice(uint32_t below)
{
    dice_state = dice_state * 1664525u + 1013904223u;
    return (uint32_t)((uint64_t)dice_state * below >> 32);
}

/* Words of several scripts, all kinds of white space, and now and then bytes that are no UTF-8. */
static size_t write_text(char *out, size_t room, int broken_of_100)
{
    static const char *const parts[] = {"the", "heaven", "don't", "I'LL", "naïve", "привет", "世界", "한국어", "123", "4567",
                                        "...", "!", "a_b", "(x)", "/y", "'s", "😀", "٣", "²"};
    static const char *const gaps[] = {" ", " ", " ", "", "\n", "\n\n", "\r\n", "\t", "  ", " \n", "\n ", "　"};
    static const char *const broken[] = {"\xFF", "\xC3", "\xE4\xB8", "\x80\x80", "\xED\xA0\x80", "\xF0\x9F\x98",
                                         "\xC0\xAF"};
    size_t used = 0;
    while (used + 64 < room) {
        const char *part = dice(100) < (uint32_t)broken_of_100 ? broken[dice(7)] : parts[dice(19)];
        const char *gap = gaps[dice(12)];
        memcpy(out + used, part, strlen(part));
        used += strlen(part);
        memcpy(out + used, gap, strlen(gap));
        used += strlen(gap);
    }
    return used;
}

static grd_tokenizer *trained(grd_text text, grd_tokenizer_options options)
{
    grd_error error = {0};
    grd_tokenizer *t;
    cr_assert(grd_tokenizer_train(&text, 1, &options, &t, &error) == GRD_OK, "%s", error.message);
    return t;
}

static grd_ids encoded(const grd_tokenizer *t, grd_text text, grd_encode_options options)
{
    grd_error error = {0};
    grd_ids ids;
    cr_assert(grd_tokenizer_encode(t, text, &options, &ids, &error) == GRD_OK, "%s", error.message);
    return ids;
}

static void assert_same_ids(const grd_ids *a, const grd_ids *b, const char *what)
{
    cr_assert(a->count == b->count && a->width_bytes == b->width_bytes, "%s: %ld and %ld ids", what, (long)a->count,
              (long)b->count);
    cr_assert(memcmp(a->data, b->data, (size_t)(a->count * a->width_bytes)) == 0, "%s: ids differ", what);
}

static char *decoded(const grd_tokenizer *t, const grd_ids *ids, bool skip_special, size_t *size)
{
    int32_t *list = malloc((size_t)ids->count * sizeof *list + 1);
    grd_ids_read(ids, 0, ids->count, list);
    int64_t bytes = grd_tokenizer_decode(t, list, ids->count, skip_special, NULL, 0);
    cr_assert(bytes >= 0, "ids that do not exist");
    char *text = malloc((size_t)bytes + 1);
    cr_assert(grd_tokenizer_decode(t, list, ids->count, skip_special, text, (size_t)bytes) == bytes, "size");
    free(list);
    *size = (size_t)bytes;
    return text;
}

static void assert_round_trip(const grd_tokenizer *t, grd_text text, const char *what)
{
    size_t size;
    grd_ids ids = encoded(t, text, (grd_encode_options){0});
    char *back = decoded(t, &ids, false, &size);
    cr_assert(size == text.size_bytes && memcmp(back, text.data, size) == 0, "%s: %zu bytes came back from %zu",
              what, size, text.size_bytes);
    free(back);
    grd_ids_free(&ids);
}

/* ---- the alphabet and UTF-8 ---- */

Test(tokenizer, the_byte_alphabet_is_gpt2s)
{
    bool seen[256] = {0};
    for (int i = 0; i < 256; i++) {
        cr_assert(grdi_alphabet_byte(grdi_alphabet_char((uint8_t)i)) == i, "byte %d", i);
        cr_assert(i == 0 || grdi_alphabet_char(grdi_alphabet_order(i)) > grdi_alphabet_char(grdi_alphabet_order(i - 1)),
                  "order at %d", i);
        seen[grdi_alphabet_order(i)] = true;
    }
    for (int i = 0; i < 256; i++)
        cr_assert(seen[i], "byte %d has no place", i);
    /* From GPT-2's encoder.json: space is U+0120, line end U+010A, and the soft hyphen the last, U+0143. */
    cr_assert(grdi_alphabet_char(' ') == 0x120 && grdi_alphabet_char('\n') == 0x10A, "known characters");
    cr_assert(grdi_alphabet_char('A') == 'A' && grdi_alphabet_char(0xAD) == 0x143, "known characters");
    cr_assert(grdi_alphabet_byte(0x144) == -1 && grdi_alphabet_byte(' ') == -1, "characters of no byte");
}

/* Examples of UAX #15, figures 3 to 6, and what is not UTF-8. */
Test(tokenizer, normal_form_c_joins_what_belongs_together)
{
    static const char *const cases[][2] = {
        {"plain text", "plain text"},
        {"e\u0301", "\u00e9"},
        {"\u212b\u2126", "\u00c5\u03a9"},
        {"D\u0323\u0307", "\u1e0c\u0307"},
        {"D\u0307\u0323", "\u1e0c\u0307"},
        {"\u1e0a\u0323", "\u1e0c\u0307"},
        {"\u0958", "\u0915\u093c"},             /* never joined again */
        {"\u1112\u1161\u11ab", "\ud55c"},       /* Hangul */
        {"\ufb01", "\ufb01"},                    /* only compatible, so it stays */
        {"a\u0301\u0301", "\u00e1\u0301"},
        {"a\u0334\u0301", "\u00e1\u0334"},
        {"a\u030d\u0301", "a\u030d\u0301"},     /* a mark of the same class is in the way */
        {"\u0301a", "\u0301a"},
        {"e\xff\u0301\xe4\xb8", "e\xff\u0301\xe4\xb8"},
    };
    faults_install();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const uint8_t *text = (const uint8_t *)cases[i][0];
        size_t size, was = strlen(cases[i][0]);
        for (long n = 1; n < 3; n++) {
            faults_fail_at(n);
            uint8_t *got = grdi_nfc(text, was, &size);
            cr_assert(!got == faults_hit(), "case %zu, fault %ld", i, n);
            grdi_free(got);
        }
        faults_fail_at(0);
        uint8_t *got = grdi_nfc(text, was, &size);
        cr_assert(size == strlen(cases[i][1]) && memcmp(got, cases[i][1], size) == 0, "case %zu: '%.*s'", i, (int)size,
                  got);
        cr_assert(!grdi_nfc_is_plain(text, was) || strcmp(cases[i][0], cases[i][1]) == 0, "case %zu is not plain", i);
        grdi_free(got);
    }
    cr_assert(grdi_nfc_is_plain((const uint8_t *)"na\u00efve \u4e16\ud55c", 14), "plain text of many scripts");
    cr_assert(faults_held() == 0, "%ld", faults_held());
}

/* ---- round trips ---- */

Test(tokenizer, every_text_comes_back)
{
    static const grd_pattern patterns[] = {GRD_PATTERN_GPT2, GRD_PATTERN_LLAMA3, GRD_PATTERN_QWEN2};
    enum { ROOM = 60000 };
    char *text = malloc(ROOM), *other = malloc(ROOM);
    size_t size = write_text(text, ROOM, 3);
    for (int p = 0; p < 3; p++) {
        grd_tokenizer_options options = {.vocab_size = 600, .pattern = patterns[p]};
        grd_tokenizer *t = trained((grd_text){text, size}, options);
        assert_round_trip(t, (grd_text){text, size}, "training text");
        assert_round_trip(t, (grd_text){other, write_text(other, ROOM, 20)}, "another text");
        for (size_t i = 0; i < ROOM; i++)
            other[i] = (char)dice(256);
        assert_round_trip(t, (grd_text){other, ROOM}, "random bytes");
        memset(other, ' ', ROOM);
        assert_round_trip(t, (grd_text){other, ROOM}, "only spaces");
        assert_round_trip(t, (grd_text){"", 0}, "nothing");
        grd_tokenizer_free(t);
    }
    free(text);
    free(other);
}

Test(tokenizer, bytes_are_their_own_ids)
{
    uint8_t all[256];
    for (int i = 0; i < 256; i++)
        all[i] = (uint8_t)i;
    grd_tokenizer *t = trained((grd_text){"", 0}, (grd_tokenizer_options){.kind = GRD_TOKENIZER_BYTE});
    cr_assert(grd_tokenizer_vocab_size(t) == 256, "%d ids", grd_tokenizer_vocab_size(t));
    grd_ids ids = encoded(t, (grd_text){all, 256}, (grd_encode_options){0});
    cr_assert(ids.count == 256, "%ld", (long)ids.count);
    for (int i = 0; i < 256; i++)
        cr_assert(((uint16_t *)ids.data)[i] == i, "byte %d", i);
    grd_ids_free(&ids);
    grd_error error = {0};
    grd_tokenizer *again;
    const char *path = scratch_path("bytes.json");
    cr_assert(grd_tokenizer_save(t, path, &error) == GRD_OK && grd_tokenizer_load(path, &again, &error) == GRD_OK, "%s",
              error.message);
    cr_assert(grd_tokenizer_kind_of(again) == GRD_TOKENIZER_BYTE, "kind");
    assert_round_trip(again, (grd_text){all, 256}, "all bytes");
    grd_tokenizer_free(again);
    grd_tokenizer_free(t);
}

Test(tokenizer, characters_are_sorted_and_unknown_ones_have_an_id)
{
    grd_text train = {"bca\nñ b", 8};
    grd_tokenizer *t = trained(train, (grd_tokenizer_options){.kind = GRD_TOKENIZER_CHAR});
    /* line end, space, a, b, c, ñ, unknown */
    cr_assert(grd_tokenizer_vocab_size(t) == 7, "%d ids", grd_tokenizer_vocab_size(t));
    grd_ids ids = encoded(t, (grd_text){"a\xFFñz\n", 6}, (grd_encode_options){0});
    const uint16_t want[] = {2, 6, 5, 6, 0};
    cr_assert(ids.count == 5 && memcmp(ids.data, want, sizeof want) == 0, "ids");
    size_t size;
    char *back = decoded(t, &ids, false, &size);
    cr_assert(size == 10 && memcmp(back, "a\xEF\xBF\xBDñ\xEF\xBF\xBD\n", 10) == 0, "decoded");
    free(back);
    grd_ids_free(&ids);
    assert_round_trip(t, train, "training text");
    grd_tokenizer_free(t);
}

/* ---- threads and cuts ---- */

typedef struct ends {
    const uint8_t *text;
    size_t at[4096], count;
} ends;

static grd_status note_end(void *context, const uint8_t *piece, size_t size, grd_error *error)
{
    (void)error;
    ends *e = context;
    cr_assert(e->count < 4096, "too many pieces");
    e->at[e->count++] = (size_t)(piece - e->text) + size;
    return GRD_OK;
}

/* Wherever a text may be cut, the pieces of the halves are the pieces of the whole. */
Test(tokenizer, cuts_do_not_change_pieces)
{
    const char *patterns[] = {grdi_pattern_gpt2, grdi_pattern_llama3, grdi_pattern_qwen2, grdi_pattern_o200k,
                              grdi_pattern_digit};
    static ends whole, halves;
    char text[600];
    size_t cuts = 0;
    for (int p = 0; p < 5; p++) {
        grdi_split_rule rules[2] = {{patterns[p], false}, {grdi_pattern_gpt2, false}};
        grdi_splitter *splitter;
        grdi_split_work *work;
        cr_assert(grdi_splitter_new(rules, p == 4 ? 2 : 1, &splitter, NULL) == GRD_OK, "splitter");
        cr_assert(grdi_split_work_new(splitter, &work, NULL) == GRD_OK, "work");
        for (int round = 0; round < 100; round++) {
            size_t size = write_text(text, sizeof text, round % 2 ? 5 : 0);
            const uint8_t *bytes = (const uint8_t *)text;
            whole = (ends){.text = bytes};
            cr_assert(grdi_split_text(splitter, work, bytes, size, note_end, &whole, NULL) == GRD_OK, "whole");
            for (size_t target = 0; target < size; target++) {
                size_t cut = grdi_split_cut(splitter, bytes, size, target);
                target = cut;
                cuts += cut < size;
                halves = (ends){.text = bytes};
                grdi_split_text(splitter, work, bytes, cut, note_end, &halves, NULL);
                grdi_split_text(splitter, work, bytes + cut, size - cut, note_end, &halves, NULL);
                cr_assert(halves.count == whole.count && memcmp(halves.at, whole.at, whole.count * sizeof(size_t)) == 0,
                          "pattern %d: a cut at %zu of %zu changes pieces", p, cut, size);
            }
        }
        grdi_split_work_free(work);
        grdi_splitter_free(splitter);
    }
    cr_assert(cuts > 10000, "only %zu cuts", cuts);
}

Test(tokenizer, threads_do_not_change_ids)
{
    enum { ROOM = 3 << 20 };
    char *text = malloc(ROOM);
    size_t size = write_text(text, ROOM, 1);
    static const char *const special[] = {"<|endoftext|>"};
    for (int kind = 0; kind < 3; kind++) {
        grd_tokenizer_options options = {.kind = (grd_tokenizer_kind)kind, .vocab_size = 500, .threads = 1,
                                         .special = special, .special_count = kind != GRD_TOKENIZER_CHAR};
        grd_tokenizer *one = trained((grd_text){text, size}, options);
        options.threads = 3;
        grd_tokenizer *three = trained((grd_text){text, size}, options);
        cr_assert(one->vocab.used == three->vocab.used, "kind %d: vocabularies", kind);
        cr_assert(memcmp(one->vocab.bytes, three->vocab.bytes, one->vocab.used) == 0, "kind %d: vocabularies", kind);
        grd_ids a = encoded(one, (grd_text){text, size}, (grd_encode_options){.threads = 1});
        for (int threads = 2; threads <= 4; threads++) {
            grd_ids b = encoded(three, (grd_text){text, size}, (grd_encode_options){.threads = threads});
            assert_same_ids(&a, &b, "threads");
            grd_ids_free(&b);
        }
        grd_ids_free(&a);
        grd_tokenizer_free(one);
        grd_tokenizer_free(three);
    }
    free(text);
}

/* Texts are cut into parts of 2^18 bytes; no character, special token or run of other bytes may be cut in two. */
Test(tokenizer, parts_end_between_characters)
{
    enum { COUNT = 300000 };
    static const char *const special[] = {"<|endoftext|>"};
    char *text = malloc(13 * COUNT);
    grd_tokenizer *chars = trained((grd_text){"世", 3}, (grd_tokenizer_options){.kind = GRD_TOKENIZER_CHAR});
    for (int i = 0; i < COUNT; i++)
        memcpy(text + 3 * i, "世", 3);
    grd_ids ids = encoded(chars, (grd_text){text, 3 * COUNT}, (grd_encode_options){0});
    cr_assert(ids.count == COUNT, "%ld characters", (long)ids.count);
    for (int i = 0; i < COUNT; i++)
        cr_assert(((uint16_t *)ids.data)[i] == 0, "character %d", i);
    grd_ids_free(&ids);
    grd_tokenizer_free(chars);
    for (int kind = 0; kind < 3; kind++) {
        grd_tokenizer *t = trained((grd_text){"a", 1}, (grd_tokenizer_options){.kind = (grd_tokenizer_kind)kind,
                                                                              .vocab_size = 257, .special = special,
                                                                              .special_count = 1});
        for (int i = 0; i < COUNT; i++)
            memcpy(text + 13 * i, special[0], 13);
        ids = encoded(t, (grd_text){text, 13 * COUNT}, (grd_encode_options){0});
        cr_assert(ids.count == COUNT, "kind %d: %ld special tokens", kind, (long)ids.count);
        grd_ids_free(&ids);
        grd_tokenizer_free(t);
    }
    free(text);
}

/* ---- merging ---- */

/* The definition: join the leftmost of the pairs of lowest rank until no pair has a rank. */
static size_t merge_slowly(const grd_tokenizer *t, uint32_t *ids, size_t count)
{
    for (;;) {
        size_t best_at = 0, best = t->merges.count;
        for (size_t i = 0; i + 1 < count; i++)
            for (size_t rank = 0; rank < best; rank++)
                if ((uint32_t)t->merges.list[rank].a == ids[i] && (uint32_t)t->merges.list[rank].b == ids[i + 1]) {
                    best = rank;
                    best_at = i;
                }
        if (best == t->merges.count)
            return count;
        ids[best_at] = (uint32_t)t->merges.list[best].id;
        memmove(ids + best_at + 1, ids + best_at + 2, (count - best_at - 2) * sizeof *ids);
        count--;
    }
}

Test(tokenizer, short_and_long_pieces_merge_by_rank)
{
    char text[4000];
    size_t size = write_text(text, sizeof text, 0);
    grd_tokenizer *t = trained((grd_text){text, size}, (grd_tokenizer_options){.vocab_size = 400});
    grdi_encoder encoder;
    cr_assert(grdi_encoder_open(&encoder, t, false, false, NULL) == GRD_OK, "encoder");
    encoder.ids = grdi_alloc(1000 * sizeof(uint32_t));
    encoder.capacity = 1000;
    for (int round = 0; round < 300; round++) {
        uint32_t want[300];
        size_t length = 1 + dice(round < 200 ? 60 : 299), from = dice((uint32_t)(size - length));
        for (size_t i = 0; i < length; i++)
            want[i] = (uint32_t)t->byte_id[(uint8_t)text[from + i]];
        size_t count = merge_slowly(t, want, length);
        encoder.count = 0;
        cr_assert(grdi_encoder_merge(&encoder, (uint8_t *)text + from, length, NULL) == GRD_OK, "merge");
        cr_assert(encoder.count == count && memcmp(encoder.ids, want, count * sizeof *want) == 0, "%zu bytes", length);
    }
    grdi_encoder_close(&encoder);
    grd_tokenizer_free(t);
}

/* ---- special tokens ---- */

Test(tokenizer, special_tokens_are_found_skipped_or_taken_as_text)
{
    static const char *const special[] = {"<|endoftext|>", "<|end", "<pad>"};
    grd_text text = {"a<|endoftext|>b<|end<pad", 24};
    for (int kind = 0; kind < 3; kind++) {
        grd_tokenizer *t = trained(text, (grd_tokenizer_options){.kind = (grd_tokenizer_kind)kind, .vocab_size = 259,
                                                                 .special = special, .special_count = 3});
        int32_t first = kind == GRD_TOKENIZER_BYTE ? 256 : 0, id;
        cr_assert(grd_tokenizer_end_of_text(t) == first, "kind %d", kind);
        cr_assert(grd_tokenizer_find(t, "<pad>", 5) == first + 2, "kind %d", kind);
        cr_assert(grd_tokenizer_is_special(t, first) && !grd_tokenizer_is_special(t, first + 3), "kind %d", kind);
        grd_ids ids = encoded(t, text, (grd_encode_options){0});
        cr_assert(ids.count == 8, "kind %d: %ld ids", kind, (long)ids.count); /* a, eot, b, end, then four characters */
        grd_ids_read(&ids, 1, 1, &id);
        cr_assert(id == first, "kind %d", kind);
        size_t size;
        char *back = decoded(t, &ids, true, &size);
        cr_assert(size == 6 && memcmp(back, "ab<pad", 6) == 0, "kind %d: skipped", kind);
        free(back);
        back = decoded(t, &ids, false, &size);
        cr_assert(size == 24 && memcmp(back, text.data, 24) == 0, "kind %d: shown", kind);
        free(back);
        grd_ids_free(&ids);
        ids = encoded(t, text, (grd_encode_options){.plain = true});
        cr_assert(ids.count == 24, "kind %d: plain", kind);
        grd_ids_free(&ids);
        const int32_t below = -1, above = grd_tokenizer_vocab_size(t);
        cr_assert(grd_tokenizer_decode(t, &above, 1, false, NULL, 0) == -1, "too high");
        cr_assert(grd_tokenizer_decode(t, &below, 1, false, NULL, 0) == -1, "negative");
        grd_tokenizer_free(t);
    }
}

Test(tokenizer, the_config_names_the_special_tokens)
{
    static const char *const special[] = {"<\"pad\">", "<eos>"};
    grd_error error = {0};
    size_t size;
    const char *path = scratch_path("tokenizer_config.json");
    grd_tokenizer *t = trained((grd_text){"abc", 3}, (grd_tokenizer_options){.vocab_size = 258, .special = special,
                                                                           .special_count = 2});
    cr_assert(grd_tokenizer_save_config(t, path, 128, &error) == GRD_OK, "%s", error.message);
    char *text = scratch_read(path, &size);
    json_t *root = json_loads(text, 0, NULL);
    cr_assert(root, "%s", text);
    cr_assert_str_eq(json_string_value(json_object_get(root, "tokenizer_class")), "PreTrainedTokenizerFast");
    cr_assert_str_eq(json_string_value(json_object_get(root, "eos_token")), "<eos>");
    cr_assert(json_integer_value(json_object_get(root, "model_max_length")) == 128, "%s", text);
    cr_assert(!json_object_get(root, "bos_token"), "%s", text);
    json_decref(root);
    free(text);
    grd_tokenizer_free(t);
}

/* ---- what is refused ---- */

Test(tokenizer, options_that_do_not_fit_are_refused)
{
    static const char *const twice[] = {"<a>", "<a>"}, *const empty[] = {""}, *const broken[] = {"\xFF"};
    const grd_tokenizer_options bad[] = {
        {.vocab_size = 255},
        {.vocab_size = 257, .special = twice, .special_count = 2},
        {.vocab_size = 300, .special = twice, .special_count = 2},
        {.vocab_size = 300, .special = empty, .special_count = 1},
        {.vocab_size = 300, .special = broken, .special_count = 1},
        {.vocab_size = -5},
        {.vocab_size = INT32_MAX},
        {.pattern = (grd_pattern)7},
        {.kind = (grd_tokenizer_kind)9},
        {.kind = GRD_TOKENIZER_CHAR},
    };
    faults_install();
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        grd_error error = {0};
        grd_text text = {"\xFF", i == 9};
        grd_tokenizer *t = (grd_tokenizer *)&text;
        cr_assert(grd_tokenizer_train(&text, 1, &bad[i], &t, &error) == GRD_E_ARGUMENT, "case %zu", i);
        cr_assert(t == NULL && strncmp(error.message, "tokenizer: ", 11) == 0, "case %zu: %s", i, error.message);
    }
    cr_assert(faults_held() == 0, "%ld", faults_held());
    cr_assert(grd_tokenizer_kind_from_name("char") == 2 && grd_tokenizer_kind_from_name("word") == -1, "kinds");
    cr_assert(grd_pattern_from_name("qwen2") == 2 && grd_pattern_from_name(NULL) == -1, "patterns");
}

#define MODEL(rest) "\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0, \"b\": 1, \"ab\": 2}, " rest "}"
#define BYTES "\"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"use_regex\": true}, "

static const struct {
    const char *text, *why;
} bad_files[] = {
    {"", "json"},
    {"{\"a\": 1}", "model: is missing"},
    {"{\"model\": {\"type\": \"Unigram\"}}", "model.type 'Unigram' is not supported"},
    {"{\"model\": {\"type\": \"BPE\"}}", "vocab or merges are missing"},
    {"{" MODEL("\"merges\": [\"a b\"]") "}", "without ByteLevel"},
    {"{" BYTES "\"model\": {\"vocab\": {\"a\": 0, \"b\": 0}, \"merges\": []}}", "has no id of its own"},
    {"{" BYTES "\"model\": {\"vocab\": {\"a\": -1}, \"merges\": []}}", "has no id of its own"},
    {"{" BYTES "\"model\": {\"vocab\": {\"a\": 99999999999}, \"merges\": []}}", "has no id of its own"},
    {"{" BYTES "\"model\": {\"vocab\": {\"a\": \"0\"}, \"merges\": []}}", "has no id of its own"},
    {"{" BYTES "\"model\": {\"vocab\": {}, \"merges\": []}}", "model.vocab: is empty"},
    {"{" BYTES MODEL("\"merges\": [\"ab\"]") "}", "not a pair"},
    {"{" BYTES MODEL("\"merges\": [[\"a\"]]") "}", "not a pair"},
    {"{" BYTES MODEL("\"merges\": [7]") "}", "not a pair"},
    {"{" BYTES MODEL("\"merges\": [\"b a\"]") "}", "'b a' joins or makes a token that the vocabulary lacks"},
    {"{" BYTES MODEL("\"merges\": [[\"a\", \"c\"]]") "}", "'a c' joins"},
    {"{" BYTES MODEL("\"merges\": [], \"byte_fallback\": true") "}", "byte_fallback"},
    {"{" BYTES MODEL("\"merges\": [], \"dropout\": 0.1") "}", "dropout"},
    {"{" BYTES MODEL("\"merges\": [], \"end_of_word_suffix\": \"</w>\"") "}", "end_of_word_suffix"},
    {"{" BYTES "\"normalizer\": {\"type\": \"Lowercase\"}, " MODEL("\"merges\": []") "}", "normalizer 'Lowercase'"},
    {"{" BYTES "\"post_processor\": {\"type\": \"X\"}, " MODEL("\"merges\": []") "}", "post_processor 'X'"},
    {"{" BYTES "\"added_tokens\": [{\"id\": 3}], " MODEL("\"merges\": []") "}", "without content or id"},
    {"{" BYTES "\"added_tokens\": [{\"id\": 3, \"content\": \"x\", \"single_word\": true}], "
     MODEL("\"merges\": []") "}", "single_word"},
    {"{\"pre_tokenizer\": {\"type\": \"Whitespace\"}, " MODEL("\"merges\": []") "}", "pre_tokenizer 'Whitespace'"},
    {"{\"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Split\", \"pattern\": "
     "{\"Regex\": \"(\"}, \"behavior\": \"Isolated\"}, {\"type\": \"ByteLevel\", \"add_prefix_space\": false}]}, "
     MODEL("\"merges\": []") "}", "pattern '(': missing closing parenthesis"},
    {"{\"pre_tokenizer\": {\"type\": \"Split\", \"pattern\": {\"Regex\": \"x\"}, \"behavior\": \"Removed\"}, "
     MODEL("\"merges\": []") "}", "behavior 'Removed'"},
};

Test(tokenizer, damaged_and_foreign_files_are_refused)
{
    const char *path = scratch_path("tokenizer.json");
    faults_install();
    for (size_t i = 0; i < sizeof bad_files / sizeof bad_files[0]; i++) {
        grd_error error = {0};
        grd_tokenizer *t;
        scratch_write(path, bad_files[i].text, strlen(bad_files[i].text));
        grd_status status = grd_tokenizer_load(path, &t, &error);
        cr_assert(status == GRD_E_FORMAT || status == GRD_E_UNSUPPORTED, "case %zu: status %d", i, (int)status);
        cr_assert(t == NULL && strstr(error.message, bad_files[i].why), "case %zu: %s", i, error.message);
        cr_assert(strncmp(error.message, path, strlen(path)) == 0 || strstr(error.message, "pattern"), "%zu: %s", i,
                  error.message);
    }
    grd_error error = {0};
    grd_tokenizer *t;
    cr_assert(grd_tokenizer_load(scratch_path("none.json"), &t, &error) == GRD_E_IO, "%s", error.message);
    cr_assert(faults_held() == 0, "%ld", faults_held());
}

/* Bytes that the vocabulary lacks are an error when a text has them, not before. */
Test(tokenizer, a_byte_without_token_is_named)
{
    const char *path = scratch_path("tokenizer.json"), *file = "{" BYTES MODEL("\"merges\": [\"a b\"]") "}";
    grd_error error = {0};
    grd_tokenizer *t;
    grd_ids ids;
    scratch_write(path, file, strlen(file));
    cr_assert(grd_tokenizer_load(path, &t, &error) == GRD_OK, "%s", error.message);
    cr_assert(grd_tokenizer_encode(t, (grd_text){"abba", 4}, NULL, &ids, &error) == GRD_OK, "%s", error.message);
    cr_assert(ids.count == 3, "ab, b, a");
    grd_ids_free(&ids);
    cr_assert(grd_tokenizer_encode(t, (grd_text){"abc", 3}, NULL, &ids, &error) == GRD_E_FORMAT, "c");
    cr_assert(strstr(error.message, "no token for byte 0x63"), "%s", error.message);
    grd_tokenizer_free(t);
}

/* ---- faults ---- */

/* Trains, writes, reads and uses a tokenizer; the first failure ends it. */
static grd_status whole_life(grd_tokenizer_kind kind, grd_text text, const char *path, grd_error *error)
{
    static const char *const special[] = {"<|endoftext|>", "<pad>"};
    grd_tokenizer_options options = {.kind = kind, .vocab_size = 290, .threads = 1, .special = special,
                                     .special_count = 2};
    grd_tokenizer *t = NULL, *again = NULL;
    grd_ids ids = {0};
    grd_status status = grd_tokenizer_train(&text, 1, &options, &t, error);
    if (status == GRD_OK)
        status = grd_tokenizer_save(t, path, error);
    if (status == GRD_OK)
        status = grd_tokenizer_load(path, &again, error);
    if (status == GRD_OK)
        status = grd_tokenizer_encode(again, text, &(grd_encode_options){.threads = 1}, &ids, error);
    grd_ids_free(&ids);
    grd_tokenizer_free(again);
    grd_tokenizer_free(t);
    return status;
}

Test(tokenizer, every_failing_allocation_and_file_call_is_survived)
{
    char text[3000];
    size_t size = write_text(text, sizeof text, 2);
    const char *path = scratch_path("tokenizer.json");
    faults_install();
    for (int kind = 0; kind < 3; kind++)
        for (long n = 1;; n++) {
            grd_error error = {0};
            faults_fail_at(n);
            grd_status status = whole_life((grd_tokenizer_kind)kind, (grd_text){text, size}, path, &error);
            bool hit = faults_hit();
            faults_fail_at(0);
            cr_assert(faults_held() == 0, "kind %d, fault %ld: %ld held", kind, n, faults_held());
            cr_assert(status == GRD_OK || (hit && error.status == status && error.message[0]), "kind %d, fault %ld: %s",
                      kind, n, error.message);
            cr_assert(status == GRD_OK || status == GRD_E_MEMORY || status == GRD_E_IO || status == GRD_E_SPACE,
                      "kind %d, fault %ld: %s", kind, n, error.message);
            if (!hit) {
                cr_assert(n > 20, "only %ld faults", n);
                break;
            }
        }
}

/* ---- counting words ---- */

static int64_t pieces_counted(const grdi_words *words)
{
    int64_t sum = 0;
    grdi_word word;
    for (grdi_words_at at = {0, 0}; grdi_words_next(words, &at, &word);)
        sum += word.count;
    return sum;
}

enum { TEXT_SIZE = 8 << 20, TEXT_WORD = 16, TEXT_WORDS = TEXT_SIZE / TEXT_WORD };

/* Words of letters, behind spaces or, with `joined`, one behind the other; all different or all the same. */
static uint8_t *text_of_letters(bool random, bool joined)
{
    uint8_t *text = malloc(TEXT_SIZE);
    uint64_t state = 1;
    for (size_t i = 0; i < TEXT_SIZE; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        text[i] = (uint8_t)('a' + (random ? state >> 33 : i % TEXT_WORD) % 26);
        if (i % TEXT_WORD == 0 && !joined)
            text[i] = ' ';
    }
    return text;
}

/* Of a text with too many distinct words a part is counted, the same one in any number of threads; all of another, and
 * all where that is asked for. */
Test(words, too_many_distinct_ones_are_sampled)
{
    grd_error error = {0};
    const grdi_split_rule rule = {grdi_pattern_gpt2, false};
    grdi_splitter *splitter;
    cr_assert(grdi_splitter_new(&rule, 1, &splitter, &error) == GRD_OK, "%s", error.message);
    for (int kind = 0; kind < 3; kind++) {
        bool random = kind > 0, whole = kind == 2;
        uint8_t *text = text_of_letters(random, false);
        grd_text all = {text, TEXT_SIZE};
        grdi_words words[2];
        for (int i = 0; i < 2; i++) {
            grdi_words_source source = {.texts = &all, .count = 1, .threads = i + 1, .whole = whole};
            cr_assert(grdi_words_count(splitter, &source, &words[i], &error) == GRD_OK, "%s", error.message);
        }
        int64_t pieces = pieces_counted(&words[0]);
        cr_assert(words[0].count == words[1].count && words[0].size_bytes == words[1].size_bytes, "threads");
        cr_assert(pieces == pieces_counted(&words[1]), "threads");
        bool part = pieces > TEXT_WORDS / 24 && pieces < TEXT_WORDS / 8;
        cr_assert(random && !whole ? part : pieces == TEXT_WORDS, "%ld of %d pieces", (long)pieces, (int)TEXT_WORDS);
        for (int i = 0; i < 2; i++)
            grdi_words_free(&words[i]);
        free(text);
    }
    grdi_splitter_free(splitter);
}

/* ---- memory ---- */

/* Bytes that are allocated or mapped, now and at most. Blocks carry their size in front. */
static grdi_memory_table table;
static _Atomic(size_t) bytes_now, bytes_most;

enum { HEAD = 16 };

static void add_bytes(size_t size)
{
    size_t now = bytes_now += size;
    for (size_t most = bytes_most; now > most && !atomic_compare_exchange_weak(&bytes_most, &most, now);)
        ;
}

static void *counted(uint8_t *block, size_t size)
{
    if (!block)
        return NULL;
    *(size_t *)(void *)block = size;
    add_bytes(size);
    return block + HEAD;
}

static void *count_allocate(size_t size) { return counted(table.allocate(size + HEAD), size); }

static void count_release(void *block)
{
    bytes_now -= *(size_t *)(void *)((uint8_t *)block - HEAD);
    table.release((uint8_t *)block - HEAD);
}

/* Both blocks are there for a moment. */
static void *count_resize(void *old, size_t size)
{
    void *block = count_allocate(size);
    if (block && old) {
        size_t before = *(size_t *)(void *)((uint8_t *)old - HEAD);
        memcpy(block, old, before < size ? before : size);
        count_release(old);
    }
    return block;
}

static void *count_map(size_t size)
{
    add_bytes(size);
    return table.map(size);
}

static void count_unmap(void *block, size_t size)
{
    bytes_now -= size;
    table.unmap(block, size);
}

/* Training holds less than twice the text beside it, whatever the text. */
Test(words, training_holds_less_than_twice_the_text)
{
    table = grdi_memory;
    grdi_memory = (grdi_memory_table){count_allocate, count_resize, count_release, count_map, count_unmap};
    for (int kind = 0; kind < 3; kind++) {
        uint8_t *text = text_of_letters(kind > 0, kind == 2);
        grd_text all = {text, TEXT_SIZE};
        grd_tokenizer *t;
        grd_error error = {0};
        grd_tokenizer_options options = {.vocab_size = 4096, .threads = 2};
        bytes_most = bytes_now;
        cr_assert(grd_tokenizer_train(&all, 1, &options, &t, &error) == GRD_OK, "%s", error.message);
        cr_expect(bytes_most < 2 * TEXT_SIZE, "kind %d: %zu bytes for a text of %d", kind, (size_t)bytes_most,
                  (int)TEXT_SIZE);
        cr_log_info("kind %d: %.2f of the text", kind, (double)bytes_most / TEXT_SIZE);
        grd_tokenizer_free(t);
        cr_assert(bytes_now == 0, "%zu bytes left", (size_t)bytes_now);
        free(text);
    }
}
