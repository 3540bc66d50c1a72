/* fuzz_bpe_train.c - a vocabulary and its merges from any text: they give ids that decode to the text, and (for every
 * fourth choice, as that costs most of the time) are written as tokenizer.json, read again, and give the same ids. The
 * first two bytes choose pattern, special tokens and size. */
#include "fuzz.h"

#include "data/tokenizer.h"

#include <stdlib.h>
#include <string.h>

static grd_ids encode(const grd_tokenizer *t, grd_text text)
{
    grd_ids ids;
    grd_encode_options options = {.threads = 1};
    FUZZ_CHECK(grd_tokenizer_encode(t, text, &options, &ids, NULL) == GRD_OK);
    return ids;
}

static void check_decoded(const grd_tokenizer *t, const grd_ids *ids, grd_text text)
{
    int32_t *list = malloc((size_t)ids->count * sizeof *list + 1);
    char *out = malloc(text.size_bytes + 1);
    FUZZ_CHECK(list && out);
    grd_ids_read(ids, 0, ids->count, list);
    FUZZ_CHECK(grd_tokenizer_decode(t, list, ids->count, false, out, text.size_bytes) == (int64_t)text.size_bytes);
    FUZZ_CHECK(text.size_bytes == 0 || memcmp(out, text.data, text.size_bytes) == 0);
    free(out);
    free(list);
}

/* The tokenizer that is written and read again gives these ids too. */
static void check_saved(const grd_tokenizer *t, const grd_ids *ids, grd_text text)
{
    grd_error error = {0};
    grd_tokenizer *again;
    FUZZ_CHECK(grd_tokenizer_save(t, "t.json", &error) == GRD_OK);
    size_t bytes;
    const char *file = fuzz_file_bytes("t.json", &bytes);
    FUZZ_CHECK(grdi_tokenizer_parse(file, bytes, "t.json", &again, &error) == GRD_OK);
    FUZZ_CHECK(grd_tokenizer_vocab_size(t) == grd_tokenizer_vocab_size(again));
    grd_ids same = encode(again, text);
    FUZZ_CHECK(ids->count == same.count && ids->width_bytes == same.width_bytes);
    size_t size = (size_t)ids->count * (size_t)ids->width_bytes;
    FUZZ_CHECK(size == 0 || memcmp(ids->data, same.data, size) == 0);
    grd_ids_free(&same);
    grd_tokenizer_free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const special[] = {"<|endoftext|>", "[MASK]"};
    fuzz_input in = {data, data + size};
    int choice = fuzz_byte(&in), room = fuzz_byte(&in);
    grd_tokenizer_options options = {.pattern = (grd_pattern)(choice / 64 % 3), .vocab_size = 250 + room,
                                     .special = special, .special_count = choice % 3, .threads = 1};
    grd_text text = {in.at, (size_t)(in.end - in.at)};
    grd_error error = {0};
    grd_tokenizer *t;
    fuzz_files_clear();
    grd_status status = grd_tokenizer_train(&text, 1, &options, &t, &error);
    if (status != GRD_OK) {
        fuzz_check_error(status, &error);
        FUZZ_CHECK(!t);
        return 0;
    }
    grd_ids ids = encode(t, text);
    check_decoded(t, &ids, text);
    if (choice % 64 < 16) check_saved(t, &ids, text);
    grd_ids_free(&ids);
    grd_tokenizer_free(t);
    return 0;
}
