/* fuzz_set.c - any lines as `--set` strings, one after the other. */
#include "fuzz.h"
#include "settings.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_input in = {data, data + size};
    fuzz_files_clear();
    grd_settings *settings = grd_settings_new();
    FUZZ_CHECK(settings != NULL);
    char *line = fuzz_text(&in);
    grd_status status = GRD_OK;
    for (char *next; line && status == GRD_OK; line = next) {
        grd_error error = {0};
        next = strchr(line, '\n');
        if (next) *next++ = '\0';
        status = grd_settings_set(settings, line, &error);
        if (status != GRD_OK) fuzz_check_error(status, &error);
    }
    if (status == GRD_OK) fuzz_check_settings(settings);
    grd_settings_free(settings);
    return 0;
}
