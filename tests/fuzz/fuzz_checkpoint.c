/* fuzz_checkpoint.c - any bytes as the files of a checkpoint folder. The first byte says whether the first part is
 * checksums.json itself, or the list is made to match the other parts, so that what lies behind it is reached. */
#include "fuzz.h"

#include "formats/checkpoint.h"
#include "formats/checkpoint_files.h"

static const char *const names[] = {"state.json", "model.safetensors", "optimizer.safetensors", "config.json"};
enum { FILES = 4 };

static json_t *note_of(const uint8_t *bytes, size_t size)
{
    char text[GRDI_CHECKSUM_TEXT_MAX];
    grdi_checksum_text(XXH3_64bits(bytes, size), text);
    return json_pack("{s:I, s:s}", "size_bytes", (json_int_t)size, "xxh3", text);
}

/* Takes the list of files. */
static void put_checksums(json_t *files)
{
    uint64_t own;
    size_t size;
    char text[GRDI_CHECKSUM_TEXT_MAX];
    FUZZ_CHECK(grdi_checksum_of_list(files, &own));
    grdi_checksum_text(own, text);
    json_t *all = json_pack("{s:s, s:s, s:o}", "algorithm", GRDI_CHECKSUM_ALGORITHM, "xxh3", text, "files", files);
    char *bytes = grdi_json_text(all, JSON_COMPACT, &size);
    FUZZ_CHECK(bytes != NULL);
    fuzz_file_put("c/" GRDI_CHECKSUMS_NAME, bytes, size);
    grdi_free(bytes);
    json_decref(all);
}

static void put_files(fuzz_input *in)
{
    const uint8_t *part;
    size_t size;
    bool own_list = fuzz_byte(in) % 4 == 0;
    json_t *files = json_object();
    if (own_list && fuzz_part(in, &part, &size)) fuzz_file_put("c/" GRDI_CHECKSUMS_NAME, part, size);
    for (int i = 0; i < FILES && fuzz_part(in, &part, &size); i++) {
        char path[64];
        snprintf(path, sizeof path, "c/%s", names[i]);
        fuzz_file_put(path, part, size);
        json_object_set_new(files, names[i], note_of(part, size));
    }
    if (own_list) json_decref(files);
    else put_checksums(files);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_input in = {data, data + size};
    grd_error error = {0};
    grd_checkpoint_info info;
    grdi_checkpoint *checkpoint;
    fuzz_files_clear();
    put_files(&in);
    grd_status status = grdi_checkpoint_open("c", &checkpoint, &error);
    if (status != GRD_OK) {
        fuzz_check_error(status, &error);
        FUZZ_CHECK(!checkpoint);
        return 0;
    }
    status = grdi_checkpoint_describe(checkpoint, &info, &error);
    if (status != GRD_OK) fuzz_check_error(status, &error);
    for (int i = 0; i < FILES; i++) {
        size_t bytes;
        const grd_safetensors *tensors = grdi_checkpoint_tensors(checkpoint, names[i]);
        FUZZ_CHECK(!tensors || !grdi_checkpoint_file(checkpoint, names[i], &bytes));
    }
    grdi_checkpoint_close(checkpoint);
    return 0;
}
