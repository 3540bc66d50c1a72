/* fuzz_bpe_train.c - a vocabulary and its merges from any text: they are written as tokenizer.json, read again, and
 * both tokenizers give the same ids for the text. The first two bytes choose pattern, special tokens and size. */
#include "fuzz.h"

#include "data/tokenizer.h"

#include <stdlib.h>
#include <string.h>

static void check_same(const grd_tokenizer *a, const grd_tokenizer *b, grd_text text)
{
    grd_ids ids[2];
    grd_encode_options options = {.threads = 1};
    FUZZ_CHECK(grd_tokenizer_encode(a, text, &options, &ids[0], NULL) == GRD_OK);
    FUZZ_CHECK(grd_tokenizer_encode(b, text, &options, &ids[1], NULL) == GRD_OK);
    FUZZ_CHECK(ids[0].count == ids[1].count && ids[0].width_bytes == ids[1].width_bytes);
    size_t size = (size_t)ids[0].count * (size_t)ids[0].width_bytes;
    FUZZ_CHECK(size == 0 || memcmp(ids[0].data, ids[1].data, size) == 0);
    grd_ids_free(&ids[0]);
    grd_ids_free(&ids[1]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const special[] = {"<|endoftext|>", "[MASK]"};
    fuzz_input in = {data, data + size};
    int choice = fuzz_byte(&in), room = fuzz_byte(&in);
    grd_tokenizer_options options = {.pattern = (grd_pattern)(choice / 16 % 3), .vocab_size = 250 + room,
                                     .special = special, .special_count = choice % 3, .threads = 1};
    grd_text text = {in.at, (size_t)(in.end - in.at)};
    grd_error error = {0};
    grd_tokenizer *t, *again;
    fuzz_files_clear();
    grd_status status = grd_tokenizer_train(&text, 1, &options, &t, &error);
    if (status != GRD_OK) {
        fuzz_check_error(status, &error);
        FUZZ_CHECK(!t);
        return 0;
    }
    FUZZ_CHECK(grd_tokenizer_save(t, "t.json", &error) == GRD_OK);
    size_t bytes;
    const char *file = fuzz_file_bytes("t.json", &bytes);
    FUZZ_CHECK(grdi_tokenizer_parse(file, bytes, "t.json", &again, &error) == GRD_OK);
    FUZZ_CHECK(grd_tokenizer_vocab_size(t) == grd_tokenizer_vocab_size(again));
    check_same(t, again, text);
    grd_tokenizer_free(t);
    grd_tokenizer_free(again);
    return 0;
}
