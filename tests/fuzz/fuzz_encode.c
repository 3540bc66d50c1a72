/* fuzz_encode.c - any bytes as text: encoded and decoded it is the same bytes (char: with U+FFFD for what it does not
 * know). The first byte chooses the tokenizer. */
#include "fuzz.h"
#include "tokenizers.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_input in = {data, data + size};
    int choice = fuzz_byte(&in), index = choice % FUZZ_TOKENIZERS;
    const grd_tokenizer *t = fuzz_tokenizer(index);
    size_t length = (size_t)(in.end - in.at);
    grd_error error = {0};
    grd_ids ids;
    grd_encode_options options = {.plain = choice & 128, .threads = 1};
    FUZZ_CHECK(grd_tokenizer_encode(t, (grd_text){in.at, length}, &options, &ids, &error) == GRD_OK);
    int32_t *list = malloc((size_t)ids.count * sizeof *list + 1);
    FUZZ_CHECK(list != NULL);
    grd_ids_read(&ids, 0, ids.count, list);
    for (int64_t i = 0; i < ids.count; i++) FUZZ_CHECK(list[i] >= 0 && list[i] < grd_tokenizer_vocab_size(t));
    int64_t bytes = grd_tokenizer_decode(t, list, ids.count, false, NULL, 0);
    FUZZ_CHECK(bytes >= 0 && (index == 4 || (size_t)bytes == length));
    char *out = malloc((size_t)bytes + 1);
    FUZZ_CHECK(out && grd_tokenizer_decode(t, list, ids.count, false, out, (size_t)bytes) == bytes);
    FUZZ_CHECK(index == 4 || length == 0 || memcmp(out, in.at, length) == 0);
    free(out);
    free(list);
    grd_ids_free(&ids);
    return 0;
}
