/* fuzz_settings.c - any bytes as config.yaml: refused with a message, or what was read is written and read again as
 * the same. */
#include "fuzz.h"
#include "settings.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    grd_error error = {0};
    fuzz_files_clear();
    fuzz_file_put("config.yaml", data, size);
    grd_settings *settings = grd_settings_new();
    FUZZ_CHECK(settings != NULL);
    grd_status status = grd_settings_load(settings, "config.yaml", &error);
    if (status != GRD_OK) fuzz_check_error(status, &error);
    else fuzz_check_settings(settings);
    grd_settings_free(settings);
    return 0;
}
