/* settings.c - see settings.h. */
#include "settings.h"

#include "fuzz.h"

#include <stdlib.h>
#include <string.h>

static void check_round_trip(const grd_settings *settings)
{
    size_t size, again_size;
    grd_error error = {0};
    grd_settings *read = grd_settings_new();
    FUZZ_CHECK(read && grd_settings_save(settings, "first.yaml", &error) == GRD_OK);
    FUZZ_CHECK(grd_settings_load(read, "first.yaml", &error) == GRD_OK);
    FUZZ_CHECK(grd_settings_save(read, "second.yaml", &error) == GRD_OK);
    grd_settings_free(read);
    const void *bytes = fuzz_file_bytes("first.yaml", &size);
    char *first = malloc(size + 1);
    FUZZ_CHECK(first != NULL);
    memcpy(first, bytes, size);
    const void *second = fuzz_file_bytes("second.yaml", &again_size);
    FUZZ_CHECK(size == again_size && memcmp(first, second, size) == 0);
    free(first);
}

void fuzz_check_settings(grd_settings *settings)
{
    grd_error error = {0};
    check_round_trip(settings);
    grd_status status = grd_settings_resolve(settings, &error);
    if (status != GRD_OK) fuzz_check_error(status, &error);
    else check_round_trip(settings);
}
