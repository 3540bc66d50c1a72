/* safetensors.c - reading tensors from safetensors files. The rules are those of the reference implementation
 * (huggingface/safetensors, safetensors/src/tensor.rs): 8 bytes of header length, a JSON object {"name": {"dtype",
 * "shape", "data_offsets": [begin, end]}, "__metadata__": {text: text}}, then the data, which the tensors cover from
 * the first byte to the last without gap or overlap. */
#include "formats/safetensors.h"

#include "base/json.h"
#include "base/memory.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "files hold little-endian numbers, which are used in place");

enum { LENGTH_BYTES = 8, HEADER_BYTES_MAX = 100000000, INDEX_BYTES_MAX = 100000000 };

static const struct {
    const char *name;
    unsigned bits;
    grd_dtype dtype;
} dtypes[] = {
    {"F32", 32, GRD_F32},
    {"F64", 64, GRD_F64},
    {"BF16", 16, GRD_BF16},
    {"F16", 16, GRD_F16},
    {"I32", 32, GRD_I32},
    {"I64", 64, GRD_I64},
    {"U8", 8, GRD_U8},
    {"BOOL", 8, GRD_BOOL},
    /* Known to the reference but not to the engine: such tensors can be listed and passed over. */
    {"F4", 4, GRD_DTYPE_COUNT},
    {"F6_E2M3", 6, GRD_DTYPE_COUNT},
    {"F6_E3M2", 6, GRD_DTYPE_COUNT},
    {"I8", 8, GRD_DTYPE_COUNT},
    {"F8_E5M2", 8, GRD_DTYPE_COUNT},
    {"F8_E4M3", 8, GRD_DTYPE_COUNT},
    {"F8_E8M0", 8, GRD_DTYPE_COUNT},
    {"F8_E4M3FNUZ", 8, GRD_DTYPE_COUNT},
    {"F8_E5M2FNUZ", 8, GRD_DTYPE_COUNT},
    {"I16", 16, GRD_DTYPE_COUNT},
    {"U16", 16, GRD_DTYPE_COUNT},
    {"U32", 32, GRD_DTYPE_COUNT},
    {"C64", 64, GRD_DTYPE_COUNT},
    {"U64", 64, GRD_DTYPE_COUNT},
};

typedef struct tensor_entry {
    grd_file_tensor tensor;
    uint64_t begin, end; /* bytes from the start of the data */
} tensor_entry;

/* One mapped file. */
typedef struct part {
    grdi_mapping mapping;
    char *path;
} part;

typedef struct note {
    const char *key, *value;
} note;

struct grd_safetensors {
    grdi_region region;     /* names, paths, notes */
    part *parts;
    size_t part_count, part_capacity;
    tensor_entry *entries;  /* in the order of the data */
    size_t count, capacity;
    const grd_file_tensor **by_name;
    note *notes;            /* "__metadata__" of the first part */
    size_t note_count;
};

const char *grdi_safetensors_dtype_name(grd_dtype dtype)
{
    for (size_t i = 0; (unsigned)dtype < GRD_DTYPE_COUNT && i < sizeof dtypes / sizeof *dtypes; i++) {
        if (dtypes[i].dtype == dtype)
            return dtypes[i].name;
    }
    return NULL;
}

/* ---- errors ---- */

static grd_status fail_memory(grd_error *error, const char *path)
{
    return grd_fail(error, GRD_E_MEMORY, "%s: out of memory", path);
}

/* Names are cut in messages, so that a hostile one cannot push out what is wrong. */
static grd_status fail_tensor(grd_error *error, const char *path, const char *name, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
static grd_status fail_tensor(grd_error *error, const char *path, const char *name, const char *format, ...)
{
    char what[384];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    return grd_fail(error, GRD_E_FORMAT, "%s: tensor '%.100s': %s", path, name, what);
}

/* ---- one tensor's description ---- */

static bool as_offset(const json_t *value, uint64_t *offset)
{
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return false;
    *offset = (uint64_t)json_integer_value(value);
    return true;
}

static grd_status parse_shape(const json_t *shape, const char *path, tensor_entry *entry, grd_error *error)
{
    const char *name = entry->tensor.name;
    if (!json_is_array(shape))
        return fail_tensor(error, path, name, "shape is missing or not a list");
    size_t rank = json_array_size(shape);
    if (rank > GRD_RANK_MAX)
        return grd_fail(error, GRD_E_UNSUPPORTED, "%s: tensor '%.100s': %zu dimensions (at most %d can be read)", path,
                        name, rank, GRD_RANK_MAX);
    entry->tensor.dims.rank = (int32_t)rank;
    for (size_t i = 0; i < rank; i++) {
        uint64_t size;
        if (!as_offset(json_array_get(shape, i), &size))
            return fail_tensor(error, path, name, "dimension %zu of the shape is not a whole number >= 0", i);
        entry->tensor.dims.dim[i] = (int64_t)size;
    }
    return GRD_OK;
}

/* Bytes that dtype and shape ask for. The product is taken in order and must not overflow on the way, as in the
 * reference, even when a later dimension is zero. */
static grd_status needed_bytes(const tensor_entry *entry, unsigned bits, const char *path, uint64_t *needed,
                               grd_error *error)
{
    uint64_t total = 1;
    bool overflow = false;
    for (int i = 0; i < entry->tensor.dims.rank; i++)
        overflow |= __builtin_mul_overflow(total, (uint64_t)entry->tensor.dims.dim[i], &total);
    overflow |= __builtin_mul_overflow(total, (uint64_t)bits, &total);
    if (overflow)
        return fail_tensor(error, path, entry->tensor.name, "its shape is too large to be true (the file is damaged)");
    if (total % 8 != 0)
        return fail_tensor(error, path, entry->tensor.name, "its elements do not fill whole bytes");
    *needed = total / 8;
    return GRD_OK;
}

static grd_status parse_entry(const char *path, const json_t *info, tensor_entry *entry, grd_error *error)
{
    const char *name = entry->tensor.name;
    if (!json_is_object(info))
        return fail_tensor(error, path, name, "its description is not an object");
    const char *dtype = json_string_value(json_object_get(info, "dtype"));
    if (!dtype)
        return fail_tensor(error, path, name, "dtype is missing or not a text");
    unsigned bits = 0;
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++) {
        if (strcmp(dtypes[i].name, dtype) == 0) {
            bits = dtypes[i].bits;
            entry->tensor.dtype = dtypes[i].dtype;
            entry->tensor.dtype_name = dtypes[i].name;
        }
    }
    if (bits == 0)
        return fail_tensor(error, path, name, "unknown dtype '%.40s'", dtype);
    grd_status status = parse_shape(json_object_get(info, "shape"), path, entry, error);
    if (status != GRD_OK)
        return status;
    const json_t *offsets = json_object_get(info, "data_offsets");
    if (!json_is_array(offsets) || json_array_size(offsets) != 2 ||
        !as_offset(json_array_get(offsets, 0), &entry->begin) || !as_offset(json_array_get(offsets, 1), &entry->end))
        return fail_tensor(error, path, name, "data_offsets is not a list of two whole numbers >= 0");
    if (entry->end < entry->begin)
        return fail_tensor(error, path, name, "its data ends before it begins");
    uint64_t needed = 0;
    status = needed_bytes(entry, bits, path, &needed, error);
    if (status != GRD_OK)
        return status;
    char text[GRD_DIMS_TEXT_MAX];
    if (entry->end - entry->begin != needed)
        return fail_tensor(error, path, name, "%s%s needs %llu bytes, data_offsets give %llu", dtype,
                           grd_dims_text(entry->tensor.dims, text), (unsigned long long)needed,
                           (unsigned long long)(entry->end - entry->begin));
    entry->tensor.size_bytes = needed;
    return GRD_OK;
}

/* ---- one file ---- */

static grd_status parse_metadata(grd_safetensors *file, const char *path, const json_t *metadata, grd_error *error)
{
    if (json_is_null(metadata))
        return GRD_OK;
    if (!json_is_object(metadata))
        return grd_fail(error, GRD_E_FORMAT, "%s: __metadata__ is not an object", path);
    note *notes = grdi_region_alloc(&file->region, json_object_size(metadata) * sizeof *notes);
    if (!notes)
        return fail_memory(error, path);
    size_t count = 0;
    const char *key;
    json_t *value;
    json_object_foreach ((json_t *)metadata, key, value) {
        if (!json_is_string(value))
            return grd_fail(error, GRD_E_FORMAT, "%s: __metadata__: '%.100s' is not a text", path, key);
        notes[count].key = grdi_region_strdup(&file->region, key);
        notes[count].value = grdi_region_strdup(&file->region, json_string_value(value));
        if (!notes[count].key || !notes[count].value)
            return fail_memory(error, path);
        count++;
    }
    if (file->part_count == 1) {
        file->notes = notes;
        file->note_count = count;
    }
    return GRD_OK;
}

static int compare_entries(const void *a, const void *b)
{
    const tensor_entry *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    if (x->end != y->end)
        return x->end < y->end ? -1 : 1;
    return strcmp(x->tensor.name, y->tensor.name); /* empty tensors: any order, but always the same */
}

/* The entries from `first` on are those of one file: puts them in order, checks that they cover its data, and sets
 * their addresses. */
static grd_status place_entries(grd_safetensors *file, size_t first, const char *path, const uint8_t *data,
                                uint64_t data_bytes, grd_error *error)
{
    size_t count = file->count - first;
    if (count > 1)
        qsort(file->entries + first, count, sizeof *file->entries, compare_entries);
    uint64_t covered = 0;
    for (size_t i = first; i < file->count; i++) {
        tensor_entry *entry = &file->entries[i];
        if (entry->begin != covered)
            return fail_tensor(error, path, entry->tensor.name, "its data begins at byte %llu, %s byte %llu",
                               (unsigned long long)entry->begin,
                               entry->begin > covered ? "leaving a gap from" : "overlapping the tensor that ends at",
                               (unsigned long long)covered);
        covered = entry->end;
        if (covered > data_bytes)
            return fail_tensor(error, path, entry->tensor.name,
                               "its data ends at byte %llu, but the file has %llu bytes of data (the file is cut off)",
                               (unsigned long long)covered, (unsigned long long)data_bytes);
        entry->tensor.data = data + entry->begin;
    }
    if (covered != data_bytes)
        return grd_fail(error, GRD_E_FORMAT, "%s: %llu bytes after the last tensor (the file is damaged)", path,
                        (unsigned long long)(data_bytes - covered));
    return GRD_OK;
}

static grd_status parse_header(grd_safetensors *file, const char *path, const json_t *header, grd_error *error)
{
    if (!json_is_object(header))
        return grd_fail(error, GRD_E_FORMAT, "%s: the header is not a JSON object", path);
    grd_status status = GRD_OK;
    const char *name;
    json_t *info;
    json_object_foreach ((json_t *)header, name, info) {
        if (strcmp(name, "__metadata__") == 0) {
            status = parse_metadata(file, path, info, error);
        } else {
            if (!GRDI_GROW(file->entries, file->capacity, file->count))
                return fail_memory(error, path);
            tensor_entry *entry = &file->entries[file->count];
            *entry = (tensor_entry){.tensor.name = grdi_region_strdup(&file->region, name)};
            if (!entry->tensor.name)
                return fail_memory(error, path);
            status = parse_entry(path, info, entry, error);
            file->count++;
        }
        if (status != GRD_OK)
            return status;
    }
    return GRD_OK;
}

/* True when a number in the JSON text begins with "-0", which the reference takes for a fraction and the JSON library
 * for the whole number 0. */
static bool has_negative_zero(const char *text, size_t size_bytes)
{
    bool in_string = false;
    for (size_t i = 0; i + 1 < size_bytes; i++) {
        if (in_string && text[i] == '\\')
            i++;
        else if (text[i] == '"')
            in_string = !in_string;
        else if (!in_string && text[i] == '-' && text[i + 1] == '0')
            return true;
    }
    return false;
}

/* Maps one file and appends its tensors. */
static grd_status open_part(grd_safetensors *file, const char *path, grd_error *error)
{
    if (!GRDI_GROW(file->parts, file->part_capacity, file->part_count))
        return fail_memory(error, path);
    part *opened = &file->parts[file->part_count];
    opened->path = grdi_region_strdup(&file->region, path);
    if (!opened->path)
        return fail_memory(error, path);
    grd_status status = grdi_file_map(path, &opened->mapping, error);
    if (status != GRD_OK)
        return status;
    file->part_count++;
    const uint8_t *bytes = opened->mapping.data;
    size_t size_bytes = opened->mapping.size_bytes;
    if (size_bytes < LENGTH_BYTES)
        return grd_fail(error, GRD_E_FORMAT, "%s: %zu bytes are too few for a safetensors file", path, size_bytes);
    uint64_t header_bytes;
    memcpy(&header_bytes, bytes, sizeof header_bytes);
    if (header_bytes > HEADER_BYTES_MAX)
        return grd_fail(error, GRD_E_FORMAT, "%s: a header of %llu bytes, more than %d (is this a safetensors file?)",
                        path, (unsigned long long)header_bytes, HEADER_BYTES_MAX);
    if (header_bytes > size_bytes - LENGTH_BYTES)
        return grd_fail(error, GRD_E_FORMAT, "%s: the header ends after the file does (the file is cut off)", path);
    if (has_negative_zero((const char *)bytes + LENGTH_BYTES, header_bytes))
        return grd_fail(error, GRD_E_FORMAT, "%s: a negative number in the header", path);
    json_t *header = grd_json_parse((const char *)bytes + LENGTH_BYTES, header_bytes, path, error);
    if (!header)
        return error->status;
    size_t first = file->count;
    status = parse_header(file, path, header, error);
    json_decref(header);
    if (status != GRD_OK)
        return status;
    return place_entries(file, first, path, bytes + LENGTH_BYTES + header_bytes,
                         size_bytes - LENGTH_BYTES - header_bytes, error);
}

/* ---- several files under an index ---- */

/* Keeps, of the tensors from `first` on, those that the index places in this shard. */
static void keep_listed(grd_safetensors *file, size_t first, const json_t *weight_map, const char *shard)
{
    size_t kept = first;
    for (size_t i = first; i < file->count; i++) {
        const char *place = json_string_value(json_object_get(weight_map, file->entries[i].tensor.name));
        if (place && strcmp(place, shard) == 0)
            file->entries[kept++] = file->entries[i];
    }
    file->count = kept;
}

/* Shards lie beside the index: a name with a folder in it could reach any file. */
static bool is_plain_name(const char *name)
{
    return name && *name && !strchr(name, '/') && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

static grd_status open_shard(grd_safetensors *file, const char *index_path, const char *shard, const json_t *weight_map,
                             json_t *opened, grd_error *error)
{
    if (json_object_get(opened, shard))
        return GRD_OK;
    const char *slash = strrchr(index_path, '/');
    char *path = grdi_format("%.*s%s", slash ? (int)(slash - index_path) + 1 : 0, index_path, shard);
    if (!path || json_object_set_new(opened, shard, json_true()) != 0) {
        grdi_free(path);
        return fail_memory(error, index_path);
    }
    size_t first = file->count;
    grd_status status = open_part(file, path, error);
    if (status == GRD_OK)
        keep_listed(file, first, weight_map, shard);
    grdi_free(path);
    return status;
}

static grd_status check_all_found(const grd_safetensors *file, const char *path, const json_t *weight_map,
                                  grd_error *error);

static grd_status open_shards(grd_safetensors *file, const char *path, const json_t *index, grd_error *error)
{
    const json_t *weight_map = json_object_get(index, "weight_map");
    if (!json_is_object(weight_map) || json_object_size(weight_map) == 0)
        return grd_fail(error, GRD_E_FORMAT, "%s: weight_map is missing or empty", path);
    json_t *opened = json_object();
    if (!opened)
        return fail_memory(error, path);
    grd_status status = GRD_OK;
    const char *name;
    json_t *shard;
    json_object_foreach ((json_t *)weight_map, name, shard) {
        if (!is_plain_name(json_string_value(shard)))
            status = fail_tensor(error, path, name, "its place is not the name of a file beside the index");
        else
            status = open_shard(file, path, json_string_value(shard), weight_map, opened, error);
        if (status != GRD_OK)
            break;
    }
    json_decref(opened);
    return status == GRD_OK ? check_all_found(file, path, weight_map, error) : status;
}

/* ---- lookup ---- */

static int compare_names(const void *a, const void *b)
{
    return strcmp((*(const grd_file_tensor *const *)a)->name, (*(const grd_file_tensor *const *)b)->name);
}

static grd_status sort_names(grd_safetensors *file, const char *path, grd_error *error)
{
    grdi_free(file->by_name);
    file->by_name = grdi_alloc_zero(file->count, sizeof *file->by_name);
    if (!file->by_name)
        return fail_memory(error, path);
    for (size_t i = 0; i < file->count; i++)
        file->by_name[i] = &file->entries[i].tensor;
    if (file->count > 1)
        qsort(file->by_name, file->count, sizeof *file->by_name, compare_names);
    return GRD_OK;
}

static grd_status check_all_found(const grd_safetensors *file, const char *path, const json_t *weight_map,
                                  grd_error *error)
{
    /* Every tensor kept is listed under its own name and shard, so equal numbers mean that none is missing. */
    if (file->count == json_object_size(weight_map))
        return GRD_OK;
    const char *name;
    json_t *shard;
    json_object_foreach ((json_t *)weight_map, name, shard) {
        bool found = false;
        for (size_t i = 0; !found && i < file->count; i++)
            found = strcmp(file->entries[i].tensor.name, name) == 0;
        if (!found)
            return fail_tensor(error, path, name, "not in '%.100s', where the index places it",
                               json_string_value(shard));
    }
    return GRD_OK;
}

/* ---- the public calls ---- */

static bool ends_with(const char *text, const char *ending)
{
    size_t length = strlen(text), part_length = strlen(ending);
    return length >= part_length && strcmp(text + length - part_length, ending) == 0;
}

/* The file to open for `path`: inside a folder, the single file or else the index. NULL when out of memory. */
static char *resolve(const char *path)
{
    if (!grdi_path_is_directory(path))
        return grdi_strdup(path);
    char *single = grdi_path_join(path, "model.safetensors");
    char *index = grdi_path_join(path, "model.safetensors.index.json");
    if (single && index && !grdi_path_exists(single) && grdi_path_exists(index)) {
        grdi_free(single);
        return index;
    }
    grdi_free(index);
    return single;
}

static grd_status open_resolved(grd_safetensors *file, const char *path, grd_error *error)
{
    grd_status status;
    if (ends_with(path, ".json")) {
        json_t *index = grd_json_read(path, INDEX_BYTES_MAX, error);
        if (!index)
            return error->status;
        status = open_shards(file, path, index, error);
        json_decref(index);
    } else {
        status = open_part(file, path, error);
    }
    return status == GRD_OK ? sort_names(file, path, error) : status;
}

grd_status grd_safetensors_open(const char *path, grd_safetensors **file, grd_error *error)
{
    grd_error own = {0}; /* the parsers report through an error of our own, so that the caller's may be NULL or taken */
    *file = NULL;
    grd_safetensors *opened = grdi_alloc_zero(1, sizeof *opened);
    char *resolved = resolve(path);
    if (opened && resolved)
        open_resolved(opened, resolved, &own);
    else
        fail_memory(&own, path);
    grdi_free(resolved);
    if (own.status != GRD_OK) {
        grd_safetensors_close(opened);
        return grd_fail(error, own.status, "%s", own.message);
    }
    *file = opened;
    return GRD_OK;
}

void grd_safetensors_close(grd_safetensors *file)
{
    if (!file)
        return;
    for (size_t i = 0; i < file->part_count; i++)
        grdi_file_unmap(&file->parts[i].mapping);
    grdi_free(file->parts);
    grdi_free(file->entries);
    grdi_free(file->by_name);
    grdi_region_free(&file->region);
    grdi_free(file);
}

size_t grd_safetensors_count(const grd_safetensors *file) { return file->count; }

const grd_file_tensor *grd_safetensors_at(const grd_safetensors *file, size_t index)
{
    return index < file->count ? &file->entries[index].tensor : NULL;
}

const grd_file_tensor *grd_safetensors_find(const grd_safetensors *file, const char *name)
{
    const grd_file_tensor wanted = {.name = name}, *key = &wanted;
    if (file->count == 0)
        return NULL;
    const grd_file_tensor **found = bsearch(&key, file->by_name, file->count, sizeof *file->by_name, compare_names);
    return found ? *found : NULL;
}

const char *grd_safetensors_metadata(const grd_safetensors *file, const char *key)
{
    for (size_t i = 0; i < file->note_count; i++) {
        if (strcmp(file->notes[i].key, key) == 0)
            return file->notes[i].value;
    }
    return NULL;
}
