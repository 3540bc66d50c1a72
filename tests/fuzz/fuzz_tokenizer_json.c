/* fuzz_tokenizer_json.c - any bytes as tokenizer.json: it is refused with a message, or it encodes and decodes. Built
 * and run as fuzz_safetensors.c says. */
#include "data/tokenizer.h"

#include <stdlib.h>
#include <string.h>

static const char text[] = "In the beginning God don't 12345 <|endoftext|> na\xC3\xAFve \xE4\xB8\x96\xE7\x95\x8C\n\n"
                           "  x \xFF [MASK]";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    grd_error error = {0};
    grd_tokenizer *t;
    if (grdi_tokenizer_parse((const char *)data, size, "fuzz", &t, &error) != GRD_OK) {
        if (error.status == GRD_OK || !error.message[0] || t)
            abort();
        return 0;
    }
    grd_ids ids;
    grd_encode_options options = {.template_ids = true, .threads = 1};
    if (grd_tokenizer_encode(t, (grd_text){text, sizeof text - 1}, &options, &ids, &error) == GRD_OK) {
        int32_t *list = malloc((size_t)ids.count * sizeof *list + 1);
        char out[64];
        grd_ids_read(&ids, 0, ids.count, list);
        if (grd_tokenizer_decode(t, list, ids.count, true, out, sizeof out) < 0)
            abort(); /* an id that does not exist */
        free(list);
        grd_ids_free(&ids);
    }
    grd_tokenizer_free(t);
    return 0;
}
