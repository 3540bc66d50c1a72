/* fuzz_tokens.c - the reader of token shards on any bytes; the first byte chooses the format. */
#include "fuzz.h"

#include <gradus/io.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_input in = {data, data + size};
    grd_token_format format = (grd_token_format)fuzz_below(&in, 4);
    fuzz_file_put("shard.bin", in.at, (size_t)(in.end - in.at));
    grd_tokens *tokens;
    grd_error error = {0};
    grd_status status = grd_tokens_open("shard.bin", format, &tokens, &error);
    if (status != GRD_OK) {
        fuzz_check_error(status, &error);
        FUZZ_CHECK(!tokens);
        return 0;
    }
    size_t count = grd_tokens_count(tokens);
    int32_t *all = malloc(count * sizeof *all);
    FUZZ_CHECK(all && count && grd_tokens_read(tokens, 0, count, all, &error) == GRD_OK);
    bool fits = grd_tokens_check(tokens, 50257, NULL) == GRD_OK, want = true;
    for (size_t i = 0; i < count; i++) want &= all[i] >= 0 && all[i] < 50257;
    FUZZ_CHECK(fits == want);
    FUZZ_CHECK(grd_tokens_read(tokens, 1, count, all, NULL) == GRD_E_ARGUMENT);
    free(all);
    grd_tokens_close(tokens);
    return 0;
}
