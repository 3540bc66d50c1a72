/* fuzz_tokenizer_json.c - any bytes as tokenizer.json: it is refused with a message, or it encodes and decodes. */
#include "fuzz.h"

#include "data/tokenizer.h"

#include <stdlib.h>
#include <string.h>

static const char text[] = "In the beginning God don't 12345 <|endoftext|> na\xC3\xAFve \xE4\xB8\x96\xE7\x95\x8C\n\n"
                           "  x \xFF [MASK]";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    grd_error error = {0};
    grd_tokenizer *t;
    grd_status status = grdi_tokenizer_parse((const char *)data, size, "fuzz", &t, &error);
    if (status != GRD_OK) {
        fuzz_check_error(status, &error);
        FUZZ_CHECK(!t);
        return 0;
    }
    grd_ids ids;
    grd_encode_options options = {.template_ids = true, .threads = 1};
    status = grd_tokenizer_encode(t, (grd_text){text, sizeof text - 1}, &options, &ids, &error);
    if (status == GRD_OK) {
        int32_t *list = malloc((size_t)ids.count * sizeof *list + 1);
        char out[64];
        grd_ids_read(&ids, 0, ids.count, list);
        FUZZ_CHECK(grd_tokenizer_decode(t, list, ids.count, true, out, sizeof out) >= 0); /* every id exists */
        free(list);
        grd_ids_free(&ids);
    } else {
        fuzz_check_error(status, &error);
    }
    grd_tokenizer_free(t);
    return 0;
}
