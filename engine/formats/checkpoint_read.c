/* checkpoint_read.c - opening a checkpoint: everything is compared with its checksum before anything is used. */
#include "formats/checkpoint.h"

#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "formats/checkpoint_files.h"

#include <string.h>
#include <xxhash.h>

enum { CHECKSUMS_BYTES_MAX = 100000000 };

/* One file of the checkpoint: its tensors or its bytes. */
typedef struct opened_file {
    char *name;
    grd_safetensors *tensors;
    grdi_mapping mapping;
} opened_file;

struct grdi_checkpoint {
    opened_file *files;
    size_t count;
};

static bool holds_tensors(const char *name)
{
    const char *ending = strrchr(name, '.');
    return ending && strcmp(ending, ".safetensors") == 0;
}

static bool matches(const void *bytes, size_t size_bytes, const json_t *checksum)
{
    char text[GRDI_CHECKSUM_TEXT_MAX];
    grdi_checksum_text(XXH3_64bits(bytes, size_bytes), text);
    return json_is_string(checksum) && strcmp(text, json_string_value(checksum)) == 0;
}

#define DAMAGED "(it is damaged: use an earlier checkpoint)"

/* A file that does not match: says which tensor it is, if it is one and the header can still be read. */
static grd_status name_damage(const char *path, const json_t *note, grd_error *error)
{
    const json_t *checksums = json_object_get(note, "tensors");
    grd_safetensors *tensors = NULL;
    grd_status status = GRD_OK;
    if (json_is_object(checksums) && grd_safetensors_open(path, &tensors, NULL) != GRD_OK)
        status = grd_fail(error, GRD_E_FORMAT, "%s: the header does not match its checksum " DAMAGED, path);
    for (size_t i = 0; status == GRD_OK && tensors && i < grd_safetensors_count(tensors); i++) {
        const grd_file_tensor *tensor = grd_safetensors_at(tensors, i);
        if (!matches(tensor->data, tensor->size_bytes, json_object_get(checksums, tensor->name)))
            status = grd_fail(error, GRD_E_FORMAT, "%s: tensor '%.100s' does not match its checksum " DAMAGED, path,
                              tensor->name);
    }
    grd_safetensors_close(tensors);
    if (status == GRD_OK)
        status = grd_fail(error, GRD_E_FORMAT, "%s: does not match its checksum " DAMAGED, path);
    return status;
}

static grd_status verify(const char *path, const grdi_mapping *mapping, const json_t *note, grd_error *error)
{
    const json_t *size = json_object_get(note, "size_bytes");
    if (!json_is_integer(size) || json_integer_value(size) < 0)
        return grd_fail(error, GRD_E_FORMAT, "%s: " GRDI_CHECKSUMS_NAME " tells no size (it is damaged)", path);
    if ((uint64_t)json_integer_value(size) != mapping->size_bytes)
        return grd_fail(error, GRD_E_FORMAT, "%s: %zu bytes where %lld were written " DAMAGED, path,
                        mapping->size_bytes, (long long)json_integer_value(size));
    if (!matches(mapping->data, mapping->size_bytes, json_object_get(note, "xxh3")))
        return name_damage(path, note, error);
    return GRD_OK;
}

static grd_status open_file(const char *folder, const char *name, const json_t *note, opened_file *file,
                            grd_error *error)
{
    if (*name == 0 || strchr(name, '/'))
        return grd_fail(error, GRD_E_FORMAT, "%s/" GRDI_CHECKSUMS_NAME ": '%.100s' is no file name", folder, name);
    char *path = grdi_path_join(folder, name);
    file->name = grdi_strdup(name);
    grd_status status = GRD_OK;
    if (!path || !file->name)
        status = grd_fail(error, GRD_E_MEMORY, "%s: out of memory", folder);
    if (status == GRD_OK)
        status = grdi_file_map(path, &file->mapping, error);
    if (status == GRD_OK)
        status = verify(path, &file->mapping, note, error);
    if (status == GRD_OK && holds_tensors(name)) {
        grdi_file_unmap(&file->mapping);
        status = grd_safetensors_open(path, &file->tensors, error);
    }
    grdi_free(path);
    return status;
}

static bool matches_list(const json_t *files, const json_t *checksum, const char *path, grd_error *error)
{
    uint64_t own;
    char text[GRDI_CHECKSUM_TEXT_MAX];
    if (!grdi_checksum_of_list(files, &own)) {
        grd_fail(error, GRD_E_MEMORY, "%s: out of memory", path);
        return false;
    }
    grdi_checksum_text(own, text);
    if (json_is_string(checksum) && strcmp(text, json_string_value(checksum)) == 0)
        return true;
    grd_fail(error, GRD_E_FORMAT, "%s: does not match its own checksum " DAMAGED, path);
    return false;
}

/* The object of files in checksums.json; NULL with the reason when there is none. The caller frees *all. */
static const json_t *read_checksums(const char *folder, json_t **all, grd_error *error)
{
    *all = NULL;
    char *path = grdi_path_join(folder, GRDI_CHECKSUMS_NAME);
    if (!path) {
        grd_fail(error, GRD_E_MEMORY, "%s: out of memory", folder);
        return NULL;
    }
    *all = grd_json_read(path, CHECKSUMS_BYTES_MAX, error);
    const json_t *files = NULL;
    if (*all) {
        const char *algorithm = json_string_value(json_object_get(*all, "algorithm"));
        files = json_object_get(*all, "files");
        if (!algorithm || strcmp(algorithm, GRDI_CHECKSUM_ALGORITHM) != 0 || !json_is_object(files)) {
            grd_fail(error, GRD_E_FORMAT, "%s: not a list of " GRDI_CHECKSUM_ALGORITHM " checksums", path);
            files = NULL;
        } else if (!matches_list(files, json_object_get(*all, "xxh3"), path, error)) {
            files = NULL;
        }
    }
    grdi_free(path);
    return files;
}

grd_status grdi_checkpoint_open(const char *path, grdi_checkpoint **checkpoint, grd_error *error)
{
    grd_error own = {0};
    json_t *all;
    *checkpoint = NULL;
    grdi_checkpoint *opened = grdi_alloc_zero(1, sizeof *opened);
    const json_t *files = read_checksums(path, &all, &own);
    if (opened && files)
        opened->files = grdi_alloc_zero(json_object_size(files), sizeof *opened->files);
    if (!opened || (files && !opened->files))
        grd_fail(&own, GRD_E_MEMORY, "%s: out of memory", path);
    const char *name;
    json_t *note;
    if (own.status == GRD_OK) {
        json_object_foreach ((json_t *)files, name, note) {
            if (open_file(path, name, note, &opened->files[opened->count++], &own) != GRD_OK)
                break;
        }
    }
    json_decref(all);
    if (own.status != GRD_OK) {
        grdi_checkpoint_close(opened);
        return grd_fail(error, own.status, "%s", own.message);
    }
    *checkpoint = opened;
    return GRD_OK;
}

void grdi_checkpoint_close(grdi_checkpoint *checkpoint)
{
    if (!checkpoint)
        return;
    for (size_t i = 0; i < checkpoint->count; i++) {
        grd_safetensors_close(checkpoint->files[i].tensors);
        grdi_file_unmap(&checkpoint->files[i].mapping);
        grdi_free(checkpoint->files[i].name);
    }
    grdi_free(checkpoint->files);
    grdi_free(checkpoint);
}

static const opened_file *find(const grdi_checkpoint *checkpoint, const char *name)
{
    for (size_t i = 0; i < checkpoint->count; i++) {
        if (strcmp(checkpoint->files[i].name, name) == 0)
            return &checkpoint->files[i];
    }
    return NULL;
}

const grd_safetensors *grdi_checkpoint_tensors(const grdi_checkpoint *checkpoint, const char *name)
{
    const opened_file *file = find(checkpoint, name);
    return file ? file->tensors : NULL;
}

const char *grdi_checkpoint_file(const grdi_checkpoint *checkpoint, const char *name, size_t *size_bytes)
{
    const opened_file *file = find(checkpoint, name);
    *size_bytes = file && !file->tensors ? file->mapping.size_bytes : 0;
    return file && !file->tensors ? (const char *)file->mapping.data : NULL;
}

/* ---- what it holds ---- */

static grd_status read_state(const grdi_checkpoint *checkpoint, grd_checkpoint_info *info, grd_error *error)
{
    size_t size_bytes;
    const char *text = grdi_checkpoint_file(checkpoint, "state.json", &size_bytes), *kind = "";
    if (!text)
        return grd_fail(error, GRD_E_FORMAT, "state.json: missing from the checkpoint");
    grd_error problem = {0};
    json_t *state = grd_json_parse(text, size_bytes, "state.json", &problem);
    if (!state)
        return grd_fail(error, problem.status, "%s", problem.message);
    json_int_t step = -1;
    grd_status status = GRD_OK;
    if (json_unpack(state, "{s:I, s:F, s:s}", "step", &step, "elapsed_seconds", &info->elapsed_seconds, "device_kind",
                    &kind) != 0 || step < 0)
        status = grd_fail(error, GRD_E_FORMAT,
                          "state.json: step, elapsed_seconds or device_kind is missing or of the wrong kind");
    info->step = step;
    snprintf(info->device_kind, sizeof info->device_kind, "%s", kind);
    json_decref(state);
    return status;
}

grd_status grdi_checkpoint_describe(const grdi_checkpoint *checkpoint, grd_checkpoint_info *info, grd_error *error)
{
    *info = (grd_checkpoint_info){.files = (int64_t)checkpoint->count};
    for (size_t i = 0; i < checkpoint->count; i++) {
        const grd_safetensors *tensors = checkpoint->files[i].tensors;
        size_t count = tensors ? grd_safetensors_count(tensors) : 0;
        info->tensors += (int64_t)count;
        for (size_t k = 0; k < count; k++)
            info->size_bytes += (int64_t)grd_safetensors_at(tensors, k)->size_bytes;
    }
    return read_state(checkpoint, info, error);
}

grd_status grd_checkpoint_about(const char *path, grd_checkpoint_info *info, grd_error *error)
{
    grdi_checkpoint *checkpoint;
    *info = (grd_checkpoint_info){0};
    grd_status status = grdi_checkpoint_open(path, &checkpoint, error);
    if (status != GRD_OK)
        return status;
    status = grdi_checkpoint_describe(checkpoint, info, error);
    grdi_checkpoint_close(checkpoint);
    return status;
}

grd_status grd_checkpoint_path(const char *run, size_t back, char *path, size_t capacity, grd_error *error)
{
    uint64_t step;
    char *found = NULL, *root = grdi_path_join(run, "checkpoints");
    grd_status status = root ? grdi_checkpoint_find(root, back, &step, &found, error)
                             : grd_fail(error, GRD_E_MEMORY, "%s: out of memory", run);
    if (status == GRD_OK && snprintf(path, capacity, "%s", found ? found : "") >= (int)capacity)
        status = grd_fail(error, GRD_E_ARGUMENT, "%s: the path is too long", found);
    grdi_free(found);
    grdi_free(root);
    return status;
}
