/* fuzz_hf_config.c - any bytes as transformers' config.json: refused with a message, or a model that can be written as
 * config.json and read again as the same. */
#include "fuzz.h"

#include <gradus/hf.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    grd_error error = {0};
    grd_gpt gpt, again;
    grd_status status = grd_hf_parse_config((const char *)data, size, "config.json", &gpt, &error);
    if (status != GRD_OK) {
        fuzz_check_error(status, &error);
        return 0;
    }
    char *text = grd_hf_config_text(&gpt, -1);
    FUZZ_CHECK(text != NULL);
    if (grd_hf_kind_of(&gpt) != GRD_HF_NONE) {
        FUZZ_CHECK(grd_hf_parse_config(text, strlen(text), "again", &again, &error) == GRD_OK);
        char *second = grd_hf_config_text(&again, -1);
        FUZZ_CHECK(second && strcmp(text, second) == 0);
        grd_hf_free_text(second);
    }
    grd_hf_free_text(text);
    return 0;
}
