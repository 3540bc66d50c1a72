/* checkpoint.c - writing checkpoints, and the folder that holds them. */
#include "formats/checkpoint.h"

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/memory.h"
#include "formats/checkpoint_files.h"
#include "formats/safetensors.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

/* ---- names ---- */

#define STEP_FORMAT "step-%06llu"
/* What a checkpoint is called while one of the same step takes its place. */
#define REPLACED_SUFFIX ".replaced"
#define TEMPORARY_SUFFIX ".tmp-"

/* Reads "step-<digits><suffix>"; false for any other name. */
static bool parse_name(const char *name, uint64_t *step, const char **suffix)
{
    enum { PREFIX = 5, DIGITS_MIN = 6, DIGITS_MAX = 18 };
    if (strncmp(name, "step-", PREFIX) != 0)
        return false;
    size_t digits = strspn(name + PREFIX, "0123456789");
    if (digits < DIGITS_MIN || digits > DIGITS_MAX)
        return false;
    *step = strtoull(name + PREFIX, NULL, 10);
    *suffix = name + PREFIX + digits;
    return true;
}

static char *folder_of(const char *root, uint64_t step, const char *suffix)
{
    char *name = grdi_format(STEP_FORMAT "%s", (unsigned long long)step, suffix);
    char *path = name ? grdi_path_join(root, name) : NULL;
    grdi_free(name);
    return path;
}

static grd_status fail_memory(grd_error *error, const char *path)
{
    return grd_fail(error, GRD_E_MEMORY, "%s: out of memory", path);
}

/* ---- the folder that holds checkpoints ---- */

static int compare_steps(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

grd_status grdi_checkpoint_list(const char *root, uint64_t **steps, size_t *count, grd_error *error)
{
    *steps = NULL;
    *count = 0;
    if (!grdi_path_exists(root))
        return GRD_OK;
    char **names;
    size_t name_count;
    grd_status status = grdi_directory_list(root, &names, &name_count, error);
    if (status != GRD_OK)
        return status;
    uint64_t *found = grdi_alloc_zero(name_count, sizeof *found);
    if (!found)
        status = fail_memory(error, root);
    for (size_t i = 0; status == GRD_OK && i < name_count; i++) {
        uint64_t step;
        const char *suffix;
        if (parse_name(names[i], &step, &suffix) && (*suffix == 0 || strcmp(suffix, REPLACED_SUFFIX) == 0))
            found[(*count)++] = step;
    }
    grdi_names_free(names, name_count);
    if (status != GRD_OK)
        return status;
    qsort(found, *count, sizeof *found, compare_steps);
    size_t kept = 0; /* a step twice: with its replacement beside it */
    for (size_t i = 0; i < *count; i++) {
        if (kept == 0 || found[kept - 1] != found[i])
            found[kept++] = found[i];
    }
    *count = kept;
    *steps = found;
    return GRD_OK;
}

grd_status grdi_checkpoint_find(const char *root, size_t back, uint64_t *step, char **path, grd_error *error)
{
    *path = NULL;
    *step = 0;
    uint64_t *steps;
    size_t count;
    grd_status status = grdi_checkpoint_list(root, &steps, &count, error);
    if (status != GRD_OK)
        return status;
    if (back < count) {
        *step = steps[count - 1 - back];
        *path = folder_of(root, *step, "");
        if (*path && !grdi_path_exists(*path)) { /* interrupted between the two renames of a replacement */
            grdi_free(*path);
            *path = folder_of(root, *step, REPLACED_SUFFIX);
        }
        if (!*path)
            status = fail_memory(error, root);
    }
    grdi_free(steps);
    return status;
}

/* Clears away what interrupted writers left: unfinished checkpoints, and replaced ones, which come back to their name
 * if their replacement never took it. */
static grd_status tidy(const char *root, grd_error *error)
{
    char **names;
    size_t count;
    grd_status status = grdi_directory_list(root, &names, &count, error);
    for (size_t i = 0; status == GRD_OK && i < count; i++) {
        uint64_t step;
        const char *suffix;
        if (!parse_name(names[i], &step, &suffix))
            continue;
        bool is_replaced = strcmp(suffix, REPLACED_SUFFIX) == 0;
        if (!is_replaced && strncmp(suffix, TEMPORARY_SUFFIX, strlen(TEMPORARY_SUFFIX)) != 0)
            continue;
        char *left = grdi_path_join(root, names[i]), *proper = folder_of(root, step, "");
        if (!left || !proper)
            status = fail_memory(error, root);
        else if (is_replaced && !grdi_path_exists(proper))
            status = grdi_directory_rename(left, proper, error);
        else
            status = grdi_directory_remove(left, error);
        grdi_free(left);
        grdi_free(proper);
    }
    grdi_names_free(names, count);
    return status;
}

/* Removes a whole checkpoint. It loses its name first, so that an interruption leaves no half checkpoint behind. */
static grd_status remove_checkpoint(const char *root, uint64_t step, grd_error *error)
{
    char *path = folder_of(root, step, ""), *doomed = folder_of(root, step, TEMPORARY_SUFFIX "removed");
    grd_status status = path && doomed ? GRD_OK : fail_memory(error, root);
    if (status == GRD_OK)
        status = grdi_directory_rename(path, doomed, error);
    if (status == GRD_OK)
        status = grdi_directory_remove(doomed, error);
    grdi_free(path);
    grdi_free(doomed);
    return status;
}

static void prune(const char *root, uint64_t newest, uint64_t follows, size_t keep)
{
    grd_error error = {0};
    uint64_t *steps;
    size_t count;
    if (grdi_checkpoint_list(root, &steps, &count, &error) == GRD_OK) {
        size_t alive = 0;
        for (size_t i = count; i-- > 0;) {
            bool is_left = steps[i] > follows && steps[i] != newest; /* `follows` is at most `newest` */
            bool is_wanted = !is_left && (keep == 0 || alive < keep);
            alive += is_wanted;
            if (!is_wanted)
                remove_checkpoint(root, steps[i], &error);
        }
        grdi_free(steps);
    }
    if (error.status != GRD_OK)
        grdi_log(GRDI_LOG_WARN, "%s (old checkpoints stay)", error.message);
}

/* ---- writing ---- */

grd_status grdi_checkpoint_begin(grdi_checkpoint_writer *writer, const char *root, uint64_t step)
{
    *writer = (grdi_checkpoint_writer){.step = step, .follows = step};
    grd_error *error = &writer->error;
    char *suffix = grdi_format(TEMPORARY_SUFFIX "%ld", (long)getpid());
    writer->root = grdi_strdup(root);
    char *temporary = suffix ? folder_of(root, step, suffix) : NULL;
    writer->files = json_object();
    grdi_free(suffix);
    bool is_new = !grdi_path_exists(root);
    char *parent = is_new ? grdi_path_join(root, "..") : NULL;
    if (!writer->root || !temporary || !writer->files || (is_new && !parent))
        fail_memory(error, root);
    else if (grdi_directory_make(root, error) == GRD_OK && is_new)
        grdi_directory_sync(parent, error);
    grdi_free(parent);
    if (error->status == GRD_OK && tidy(root, error) == GRD_OK) {
        grdi_directory_make(temporary, error);
        writer->temporary = temporary;
        return error->status;
    }
    grdi_free(temporary);
    return error->status;
}

/* The path of a new file in the checkpoint; NULL when it cannot be added, with the reason in the writer. */
static char *path_of_new(grdi_checkpoint_writer *writer, const char *name)
{
    if (writer->error.status == GRD_OK && !writer->temporary)
        grd_fail(&writer->error, GRD_E_STATE, "checkpoint: not begun");
    if (writer->error.status != GRD_OK)
        return NULL;
    if (strchr(name, '/') || *name == 0 || json_object_get(writer->files, name) ||
        strcmp(name, GRDI_CHECKSUMS_NAME) == 0) {
        grd_fail(&writer->error, GRD_E_ARGUMENT, "%s: '%s' is no name for a new file", writer->temporary, name);
        return NULL;
    }
    char *path = grdi_path_join(writer->temporary, name);
    if (!path)
        fail_memory(&writer->error, writer->temporary);
    return path;
}

static int set_text(json_t *object, const char *key, uint64_t checksum)
{
    char text[GRDI_CHECKSUM_TEXT_MAX];
    grdi_checksum_text(checksum, text);
    return json_object_set_new(object, key, json_string(text));
}

/* Notes a file's size and checksums; takes over `tensors`, which may be NULL. */
static void note_file(grdi_checkpoint_writer *writer, const char *name, size_t size_bytes, uint64_t checksum,
                      json_t *tensors)
{
    json_t *note = json_object();
    bool ok = note && json_object_set_new(note, "size_bytes", json_integer((json_int_t)size_bytes)) == 0 &&
              set_text(note, "xxh3", checksum) == 0;
    if (ok && tensors)
        ok = json_object_set(note, "tensors", tensors) == 0;
    if (ok)
        ok = json_object_set(writer->files, name, note) == 0;
    json_decref(note);
    json_decref(tensors);
    if (!ok)
        fail_memory(&writer->error, writer->temporary);
}

/* Where tensors come from that are not in memory. */
typedef struct tensor_source {
    grdi_tensor_read read; /* NULL: all have their data */
    void *context, *buffer;
} tensor_source;

static grd_status source_begin(tensor_source *source, const char *path, const grd_file_tensor *tensors, size_t count,
                               grd_error *error)
{
    size_t largest = 0;
    for (size_t i = 0; source->read && i < count; i++)
        if (tensors[i].size_bytes > largest)
            largest = tensors[i].size_bytes;
    source->buffer = source->read ? grdi_alloc(largest) : NULL;
    return source->read && !source->buffer ? fail_memory(error, path) : GRD_OK;
}

/* The tensor's bytes, valid until the next call; NULL on failure. */
static const void *bytes_of(const tensor_source *source, const grd_file_tensor *tensor, grd_error *error)
{
    if (!source->read)
        return tensor->data;
    return source->read(source->context, tensor, source->buffer, error) == GRD_OK ? source->buffer : NULL;
}

/* Streams the tensors into a file; returns their checksums by name, NULL on failure. */
static json_t *write_tensors(grdi_checkpoint_writer *writer, const char *path, const grd_file_tensor *sorted,
                             size_t count, tensor_source *source, XXH3_state_t *hash, size_t *size_bytes)
{
    grd_error *error = &writer->error;
    grdi_safetensors_writer out;
    grd_status status = grdi_safetensors_writer_open(&out, path, sorted, count, hash);
    json_t *checksums = json_object();
    if (!checksums)
        fail_memory(error, path);
    for (size_t i = 0; error->status == GRD_OK && status == GRD_OK && i < count; i++) {
        const grd_file_tensor *tensor = &sorted[i];
        const void *data = bytes_of(source, tensor, error);
        if (error->status != GRD_OK)
            break;
        status = grdi_safetensors_writer_put(&out, data, tensor->size_bytes);
        if (tensor->size_bytes != (uint64_t)grd_dims_count(tensor->dims) * grd_dtype_size(tensor->dtype))
            grd_fail(error, GRD_E_ARGUMENT, "%s: tensor '%.100s': size_bytes does not fit its dtype and dims", path,
                     tensor->name);
        else if (set_text(checksums, tensor->name, XXH3_64bits(data, tensor->size_bytes)) != 0)
            fail_memory(error, path);
    }
    *size_bytes = out.total_bytes;
    if (error->status == GRD_OK)
        grdi_safetensors_writer_commit(&out, error); /* also says why opening or writing failed */
    else
        grdi_safetensors_writer_abandon(&out);
    if (error->status == GRD_OK)
        return checksums;
    json_decref(checksums);
    return NULL;
}

grd_status grdi_checkpoint_add_tensors(grdi_checkpoint_writer *writer, const char *name, const grd_file_tensor *tensors,
                                       size_t count)
{
    return grdi_checkpoint_stream_tensors(writer, name, tensors, count, NULL, NULL);
}

grd_status grdi_checkpoint_stream_tensors(grdi_checkpoint_writer *writer, const char *name,
                                          const grd_file_tensor *tensors, size_t count, grdi_tensor_read read,
                                          void *context)
{
    char *path = path_of_new(writer, name);
    if (!path)
        return writer->error.status;
    tensor_source source = {.read = read, .context = context};
    if (source_begin(&source, path, tensors, count, &writer->error) != GRD_OK) {
        grdi_free(path);
        return writer->error.status;
    }
    grd_file_tensor *sorted = grdi_alloc_zero(count, sizeof *sorted);
    XXH3_state_t *hash = XXH3_createState();
    if (sorted && hash && XXH3_64bits_reset(hash) == XXH_OK) {
        if (count > 0)
            memcpy(sorted, tensors, count * sizeof *sorted);
        grdi_safetensors_sort(sorted, count);
        size_t size_bytes = 0;
        json_t *checksums = write_tensors(writer, path, sorted, count, &source, hash, &size_bytes);
        if (checksums)
            note_file(writer, name, size_bytes, XXH3_64bits_digest(hash), checksums);
    } else {
        fail_memory(&writer->error, path);
    }
    XXH3_freeState(hash);
    grdi_free(source.buffer);
    grdi_free(sorted);
    grdi_free(path);
    return writer->error.status;
}

/* Writes the bytes to a file of the unfinished checkpoint. */
static grd_status write_bytes(const char *path, const void *bytes, size_t size_bytes, grd_error *error)
{
    grdi_writer out;
    grdi_writer_open(&out, path);
    grdi_writer_put(&out, bytes, size_bytes);
    return grdi_writer_commit(&out, error);
}

static grd_status read_variable(void *model, const grd_file_tensor *tensor, void *data, grd_error *error)
{
    return grd_model_read(model, tensor->name, data, error);
}

grd_status grdi_checkpoint_add_variables(grdi_checkpoint_writer *writer, const char *name, grd_model *model,
                                         int64_t count, bool (*kept)(const grd_variable *variable))
{
    grd_file_tensor *tensors = grdi_alloc_zero((size_t)count + 1, sizeof *tensors);
    if (!tensors)
        return fail_memory(&writer->error, writer->temporary);
    size_t used = 0;
    grd_variable v;
    for (int64_t i = 0; i < count && grd_model_variable_at(model, i, &v); i++)
        if (kept(&v))
            tensors[used++] = (grd_file_tensor){
                .name = v.path, .dtype = v.dtype, .dims = v.dims, .size_bytes = v.size_bytes};
    grd_status status = grdi_checkpoint_stream_tensors(writer, name, tensors, used, read_variable, model);
    grdi_free(tensors);
    return status;
}

grd_status grdi_checkpoint_add_file(grdi_checkpoint_writer *writer, const char *name, const void *bytes,
                                    size_t size_bytes)
{
    char *path = path_of_new(writer, name);
    if (!path)
        return writer->error.status;
    if (write_bytes(path, bytes, size_bytes, &writer->error) == GRD_OK)
        note_file(writer, name, size_bytes, XXH3_64bits(bytes, size_bytes), NULL);
    grdi_free(path);
    return writer->error.status;
}

grd_status grdi_checkpoint_add_json(grdi_checkpoint_writer *writer, const char *name, const json_t *value)
{
    if (writer->error.status != GRD_OK)
        return writer->error.status;
    size_t size_bytes = 0;
    char *text = grdi_json_text(value, JSON_INDENT(2), &size_bytes);
    if (!text)
        return fail_memory(&writer->error, name);
    grdi_checkpoint_add_file(writer, name, text, size_bytes);
    grdi_free(text);
    return writer->error.status;
}

grd_status grdi_checkpoint_copy_file(grdi_checkpoint_writer *writer, const char *name, const char *from)
{
    grdi_mapping mapping;
    if (writer->error.status == GRD_OK && grdi_file_map(from, &mapping, &writer->error) == GRD_OK) {
        grdi_checkpoint_add_file(writer, name, mapping.data, mapping.size_bytes);
        grdi_file_unmap(&mapping);
    }
    return writer->error.status;
}

static grd_status write_checksums(grdi_checkpoint_writer *writer)
{
    grd_error *error = &writer->error;
    json_t *all = json_object();
    size_t size_bytes = 0;
    uint64_t own = 0;
    char *text = NULL;
    if (all && json_object_set_new(all, "algorithm", json_string(GRDI_CHECKSUM_ALGORITHM)) == 0 &&
        grdi_checksum_of_list(writer->files, &own) && set_text(all, "xxh3", own) == 0 &&
        json_object_set(all, "files", writer->files) == 0)
        text = grdi_json_text(all, JSON_INDENT(1), &size_bytes);
    char *path = grdi_path_join(writer->temporary, GRDI_CHECKSUMS_NAME);
    if (text && path)
        write_bytes(path, text, size_bytes, error);
    else
        fail_memory(error, writer->temporary);
    grdi_free(path);
    grdi_free(text);
    json_decref(all);
    return error->status;
}

/* Gives the finished folder its name. One that has it already steps aside first, and goes when the new one is there. */
static grd_status take_name(grdi_checkpoint_writer *writer, const char *path)
{
    grd_error *error = &writer->error;
    bool is_taken = grdi_path_exists(path);
    char *aside = folder_of(writer->root, writer->step, REPLACED_SUFFIX);
    grd_status status = aside ? GRD_OK : fail_memory(error, path);
    if (status == GRD_OK && is_taken)
        status = grdi_directory_rename(path, aside, error);
    if (status == GRD_OK) {
        status = grdi_directory_rename(writer->temporary, path, error);
        if (status != GRD_OK && is_taken && !grdi_path_exists(path))
            grdi_file.rename(aside, path); /* if this fails too, it is found under its other name */
    }
    if (status == GRD_OK && is_taken)
        status = grdi_directory_remove(aside, error);
    grdi_free(aside);
    return status;
}

grd_status grdi_checkpoint_commit(grdi_checkpoint_writer *writer, size_t keep, char **path, grd_error *error)
{
    if (path)
        *path = NULL;
    if (writer->error.status == GRD_OK && !writer->temporary)
        grd_fail(&writer->error, GRD_E_STATE, "checkpoint: not begun");
    if (writer->error.status == GRD_OK)
        write_checksums(writer);
    char *final = NULL;
    if (writer->error.status == GRD_OK) {
        final = folder_of(writer->root, writer->step, "");
        if (!final)
            fail_memory(&writer->error, writer->root);
        else if (take_name(writer, final) == GRD_OK)
            prune(writer->root, writer->step, writer->follows, keep);
    }
    grd_status status = writer->error.status;
    if (status != GRD_OK)
        grd_fail(error, status, "%s", writer->error.message);
    if (status == GRD_OK && path)
        *path = final;
    else
        grdi_free(final);
    grdi_checkpoint_abandon(writer);
    return status;
}

void grdi_checkpoint_abandon(grdi_checkpoint_writer *writer)
{
    if (writer->temporary)
        grdi_directory_remove(writer->temporary, NULL); /* what stays behind, the next writer clears away */
    grdi_free(writer->root);
    grdi_free(writer->temporary);
    json_decref(writer->files);
    *writer = (grdi_checkpoint_writer){.error = writer->error};
}
