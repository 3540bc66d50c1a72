/* fuzz_safetensors.c - the safetensors reader on any bytes, as one file or (with parts) as an index and its shards: no
 * crash, and what it accepts can be read to the last byte. */
#include "fuzz.h"

#include <gradus/io.h>
#include <string.h>

static void check_tensors(const grd_safetensors *file, size_t size)
{
    volatile uint8_t sum = 0;
    size_t total = 0;
    for (size_t i = 0; i < grd_safetensors_count(file); i++) {
        const grd_file_tensor *tensor = grd_safetensors_at(file, i);
        for (size_t j = 0; j < tensor->size_bytes; j++) sum = (uint8_t)(sum + ((const uint8_t *)tensor->data)[j]);
        total += tensor->size_bytes;
        const grd_file_tensor *found = grd_safetensors_find(file, tensor->name);
        FUZZ_CHECK(found && strcmp(found->name, tensor->name) == 0);
        size_t element = grd_dtype_size(tensor->dtype);
        FUZZ_CHECK(!element || (uint64_t)grd_dims_count(tensor->dims) * element == tensor->size_bytes);
    }
    FUZZ_CHECK(total <= size);
    FUZZ_CHECK(!grd_safetensors_at(file, grd_safetensors_count(file)));
    grd_safetensors_metadata(file, "format");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = {"m/x.index.json", "m/a.safetensors", "m/b.safetensors", "m/c.safetensors"};
    fuzz_input in = {data, data + size};
    const uint8_t *part;
    size_t part_size;
    int parts = 0;
    fuzz_files_clear();
    for (; parts < 4 && fuzz_part(&in, &part, &part_size); parts++) fuzz_file_put(names[parts], part, part_size);
    if (parts < 2) fuzz_file_put(names[1], data, size);
    grd_safetensors *file;
    grd_error error = {0};
    grd_status status = grd_safetensors_open(parts < 2 ? names[1] : names[0], &file, &error);
    if (status != GRD_OK) {
        fuzz_check_error(status, &error);
        FUZZ_CHECK(!file);
        return 0;
    }
    check_tensors(file, size);
    grd_safetensors_close(file);
    return 0;
}
