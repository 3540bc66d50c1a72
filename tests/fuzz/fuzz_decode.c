/* fuzz_decode.c - any ids, into room of any size. The first two bytes choose the tokenizer and the room; then come ids
 * of two bytes, of which some are outside the vocabulary. */
#include "fuzz.h"
#include "tokenizers.h"

#include <stdlib.h>
#include <string.h>

enum { IDS_MAX = 512 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_input in = {data, data + size};
    int choice = fuzz_byte(&in);
    const grd_tokenizer *t = fuzz_tokenizer(choice % FUZZ_TOKENIZERS);
    bool skip = choice & 128, exist = true;
    size_t room = fuzz_byte(&in);
    int32_t ids[IDS_MAX];
    int64_t count = 0, total = 0;
    while (in.at < in.end && count < IDS_MAX) {
        uint32_t value = fuzz_byte(&in) | (uint32_t)fuzz_byte(&in) << 8;
        size_t bytes;
        int32_t id = value == 0xFFFF ? INT32_MIN : value == 0xFFFE ? INT32_MAX : (int32_t)(value % 450) - 2;
        exist &= grd_tokenizer_token(t, id, &bytes) != NULL;
        total += skip && grd_tokenizer_is_special(t, id) ? 0 : (int64_t)bytes;
        ids[count++] = id;
    }
    char *all = malloc((size_t)total + 1), *out = malloc(room + 1);
    FUZZ_CHECK(all && out);
    out[room] = '#';
    int64_t got = grd_tokenizer_decode(t, ids, count, skip, out, room);
    FUZZ_CHECK(out[room] == '#' && got == (exist ? total : -1));
    if (exist) {
        FUZZ_CHECK(grd_tokenizer_decode(t, ids, count, skip, all, (size_t)total) == total);
        FUZZ_CHECK(memcmp(all, out, (size_t)total < room ? (size_t)total : room) == 0);
    }
    free(all);
    free(out);
    return 0;
}
