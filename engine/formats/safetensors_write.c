/* safetensors_write.c - writing safetensors files, tensor by tensor. */
#include "formats/safetensors.h"

#include "base/json.h"
#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

/* The data begins at a multiple of this, as in files of the reference: the widest element. */
enum { ALIGN_BYTES = 8, HEADER_BYTES_MAX = 100000000 };

static int compare_places(const void *a, const void *b)
{
    const grd_file_tensor *x = a, *y = b;
    size_t x_bytes = grd_dtype_size(x->dtype), y_bytes = grd_dtype_size(y->dtype);
    if (x_bytes != y_bytes)
        return x_bytes > y_bytes ? -1 : 1;
    return strcmp(x->name, y->name);
}

void grdi_safetensors_sort(grd_file_tensor *tensors, size_t count)
{
    if (count > 1)
        qsort(tensors, count, sizeof *tensors, compare_places);
}

/* Bytes of a tensor by its dtype and dims; false when they are no dtype or no shape. */
static bool tensor_bytes(const grd_file_tensor *tensor, uint64_t *size_bytes)
{
    int64_t count = grd_dims_count(tensor->dims);
    size_t element = grd_dtype_size(tensor->dtype);
    return element > 0 && count >= 0 && !__builtin_mul_overflow((uint64_t)count, (uint64_t)element, size_bytes);
}

/* True for valid UTF-8: shortest forms, no surrogates, nothing above U+10FFFF (RFC 3629). */
static bool is_utf8(const char *text)
{
    for (const unsigned char *c = (const unsigned char *)text; *c;) {
        if ((*c >= 0x80 && *c < 0xC2) || *c > 0xF4)
            return false;
        int more = *c < 0x80 ? 0 : *c < 0xE0 ? 1 : *c < 0xF0 ? 2 : 3;
        /* After some first bytes, only part of the range of the second makes a shortest form and a character. */
        unsigned char low = *c == 0xE0 ? 0xA0 : *c == 0xF0 ? 0x90 : 0x80;
        unsigned char high = *c == 0xED ? 0x9F : *c == 0xF4 ? 0x8F : 0xBF;
        for (c++; more > 0; more--, c++, low = 0x80, high = 0xBF) {
            if (*c < low || *c > high)
                return false;
        }
    }
    return true;
}

static json_t *integers(const int64_t *values, int count)
{
    json_t *list = json_array();
    for (int i = 0; list && i < count; i++) {
        if (json_array_append_new(list, json_integer(values[i])) != 0) {
            json_decref(list);
            list = NULL;
        }
    }
    return list;
}

/* {"dtype": ..., "shape": [...], "data_offsets": [begin, end]}; NULL when out of memory. */
static json_t *describe(const grd_file_tensor *tensor, int64_t begin, int64_t end)
{
    const int64_t offsets[2] = {begin, end};
    json_t *info = json_object();
    if (info && json_object_set_new(info, "dtype", json_string(grdi_safetensors_dtype_name(tensor->dtype))) == 0 &&
        json_object_set_new(info, "shape", integers(tensor->dims.dim, tensor->dims.rank)) == 0 &&
        json_object_set_new(info, "data_offsets", integers(offsets, 2)) == 0)
        return info;
    json_decref(info);
    return NULL;
}

static grd_status fail_tensor(grd_error *error, const char *path, const char *name, const char *what)
{
    return grd_fail(error, GRD_E_ARGUMENT, "%s: tensor '%.100s': %s", path, name, what);
}

/* Adds every tensor to the header and counts their bytes. */
static grd_status describe_all(json_t *header, const char *path, const grd_file_tensor *tensors, size_t count,
                               uint64_t *data_bytes, grd_error *error)
{
    *data_bytes = 0;
    for (size_t i = 0; i < count; i++) {
        const grd_file_tensor *tensor = &tensors[i];
        uint64_t size_bytes, end;
        if (!tensor->name || !is_utf8(tensor->name))
            return fail_tensor(error, path, tensor->name ? tensor->name : "", "its name is not UTF-8 text");
        if (!tensor_bytes(tensor, &size_bytes))
            return fail_tensor(error, path, tensor->name, "its dtype or its dims are invalid");
        if (__builtin_add_overflow(*data_bytes, size_bytes, &end) || end > INT64_MAX)
            return fail_tensor(error, path, tensor->name, "the file would be larger than 2^63 bytes");
        if (i > 0 && grd_dtype_size(tensor->dtype) > grd_dtype_size(tensors[i - 1].dtype))
            return fail_tensor(error, path, tensor->name, "its elements are wider than those before (sort them)");
        if (json_object_get(header, tensor->name)) /* "__metadata__" is there from the beginning */
            return fail_tensor(error, path, tensor->name, "its name is taken");
        if (json_object_set_new(header, tensor->name, describe(tensor, (int64_t)*data_bytes, (int64_t)end)) != 0)
            return grd_fail(error, GRD_E_MEMORY, "%s: out of memory", path);
        *data_bytes = end;
    }
    return GRD_OK;
}

/* The header object with its metadata, still without tensors; NULL when out of memory. */
static json_t *new_header(void)
{
    json_t *header = json_object(), *metadata = json_object();
    if (metadata && json_object_set_new(metadata, "format", json_string("pt")) != 0) {
        json_decref(metadata);
        metadata = NULL;
    }
    if (header && json_object_set_new(header, "__metadata__", metadata) == 0) /* takes the metadata in any case */
        return header;
    if (!header)
        json_decref(metadata);
    json_decref(header);
    return NULL;
}

/* The header's text, padded with spaces so that the data after it is aligned. */
static char *header_text(const char *path, const grd_file_tensor *tensors, size_t count, uint64_t *text_bytes,
                         uint64_t *data_bytes, grd_error *error)
{
    json_t *header = new_header();
    if (!header) {
        grd_fail(error, GRD_E_MEMORY, "%s: out of memory", path);
        return NULL;
    }
    char *padded = NULL;
    if (describe_all(header, path, tensors, count, data_bytes, error) == GRD_OK) {
        size_t length = 0;
        char *text = grdi_json_text(header, JSON_COMPACT, &length);
        *text_bytes = (length + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;
        padded = text ? grdi_realloc(text, *text_bytes, 1) : NULL;
        if (padded)
            memset(padded + length, ' ', *text_bytes - length);
        else
            grdi_free(text);
        if (!padded)
            grd_fail(error, GRD_E_MEMORY, "%s: out of memory", path);
    }
    json_decref(header);
    if (padded && *text_bytes > HEADER_BYTES_MAX) {
        grd_fail(error, GRD_E_ARGUMENT, "%s: too many tensors for one file: %llu bytes of header, at most %d", path,
                 (unsigned long long)*text_bytes, HEADER_BYTES_MAX);
        grdi_free(padded);
        padded = NULL;
    }
    return padded;
}

/* ---- the streaming writer ---- */

static grd_status put(grdi_safetensors_writer *writer, const void *bytes, size_t size_bytes)
{
    if (writer->hash && size_bytes > 0)
        XXH3_64bits_update(writer->hash, bytes, size_bytes);
    return grdi_writer_put(&writer->out, bytes, size_bytes);
}

grd_status grdi_safetensors_writer_open(grdi_safetensors_writer *writer, const char *path,
                                        const grd_file_tensor *tensors, size_t count, XXH3_state_t *hash)
{
    *writer = (grdi_safetensors_writer){.hash = hash, .out.fd = -1};
    uint64_t text_bytes = 0, data_bytes = 0;
    char *text = header_text(path, tensors, count, &text_bytes, &data_bytes, &writer->out.error);
    if (!text)
        return writer->out.error.status;
    writer->total_bytes = sizeof text_bytes + text_bytes + data_bytes;
    if (grdi_writer_open(&writer->out, path) == GRD_OK && put(writer, &text_bytes, sizeof text_bytes) == GRD_OK)
        put(writer, text, text_bytes);
    grdi_free(text);
    return writer->out.error.status;
}

grd_status grdi_safetensors_writer_put(grdi_safetensors_writer *writer, const void *data, size_t size_bytes)
{
    if (writer->out.error.status == GRD_OK && size_bytes > writer->total_bytes - writer->out.size_bytes)
        return grd_fail(&writer->out.error, GRD_E_ARGUMENT, "%s: more data than its tensors hold", writer->out.path);
    return put(writer, data, size_bytes);
}

grd_status grdi_safetensors_writer_commit(grdi_safetensors_writer *writer, grd_error *error)
{
    if (writer->out.error.status == GRD_OK && writer->out.size_bytes != writer->total_bytes)
        grd_fail(&writer->out.error, GRD_E_ARGUMENT, "%s: less data than its tensors hold", writer->out.path);
    return grdi_writer_commit(&writer->out, error);
}

void grdi_safetensors_writer_abandon(grdi_safetensors_writer *writer) { grdi_writer_abandon(&writer->out); }

grd_status grd_safetensors_write(const char *path, const grd_file_tensor *tensors, size_t count, grd_error *error)
{
    grd_file_tensor *sorted = grdi_alloc_zero(count, sizeof *sorted);
    if (!sorted)
        return grd_fail(error, GRD_E_MEMORY, "%s: out of memory", path);
    for (size_t i = 0; i < count; i++) {
        uint64_t needed;
        sorted[i] = tensors[i];
        if (!sorted[i].name || (tensor_bytes(&sorted[i], &needed) && needed != sorted[i].size_bytes)) {
            fail_tensor(error, path, sorted[i].name ? sorted[i].name : "",
                        sorted[i].name ? "size_bytes does not fit its dtype and dims" : "it has no name");
            grdi_free(sorted);
            return GRD_E_ARGUMENT;
        }
    }
    grdi_safetensors_sort(sorted, count);
    grdi_safetensors_writer writer;
    grdi_safetensors_writer_open(&writer, path, sorted, count, NULL);
    for (size_t i = 0; i < count; i++)
        grdi_safetensors_writer_put(&writer, sorted[i].data, sorted[i].size_bytes);
    grdi_free(sorted);
    return grdi_safetensors_writer_commit(&writer, error);
}
