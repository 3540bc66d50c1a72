/* tokenizers.c - see tokenizers.h. */
#include "tokenizers.h"

#include "fuzz.h"

static const char text[] =
    "In the beginning God created the heaven and the earth. And the earth was without form, and void; and darkness was "
    "upon the face of the deep. And the Spirit of God moved upon the face of the waters.\n\n  12345 67, don't we'LL "
    "na\xC3\xAFve \xE4\xB8\x96\xE7\x95\x8C\xE4\xB8\x96\xE7\x95\x8C \xD9\x85\xD8\xB1\xD8\xAD\xD8\xA8\xD8\xA7\r\n\t!!!";

const grd_tokenizer *fuzz_tokenizer(int index)
{
    static const char *const special[] = {"<|endoftext|>"};
    static grd_tokenizer *made[FUZZ_TOKENIZERS];
    grd_tokenizer_options options = {.kind = GRD_TOKENIZER_BPE, .vocab_size = 400, .special = special,
                                     .special_count = 1, .threads = 1};
    if (index == 3) options.kind = GRD_TOKENIZER_BYTE;
    else if (index == 4) options.kind = GRD_TOKENIZER_CHAR;
    else options.pattern = (grd_pattern)index;
    if (!made[index])
        FUZZ_CHECK(grd_tokenizer_train(&(grd_text){text, sizeof text - 1}, 1, &options, &made[index], NULL) == GRD_OK);
    return made[index];
}
