/* convert.c - tensors of one or several files into one, with floats rounded to another type. */
#include "base/convert.h"

#include "base/memory.h"
#include "formats/safetensors.h"

#include <string.h>

static float read_float(const uint8_t *data, grd_dtype dtype, size_t i)
{
    uint16_t narrow;
    float single;
    double wide;
    switch (dtype) {
    case GRD_F64: memcpy(&wide, data + 8 * i, sizeof wide); return (float)wide;
    case GRD_F32: memcpy(&single, data + 4 * i, sizeof single); return single;
    case GRD_BF16: memcpy(&narrow, data + 2 * i, sizeof narrow); return grdi_bf16_to_f32(narrow);
    default: memcpy(&narrow, data + 2 * i, sizeof narrow); return grdi_f16_to_f32(narrow);
    }
}

static void write_float(uint8_t *to, grd_dtype dtype, size_t i, float value)
{
    uint16_t narrow = dtype == GRD_BF16 ? grdi_f32_to_bf16(value) : grdi_f32_to_f16(value);
    if (dtype == GRD_F32)
        memcpy(to + 4 * i, &value, sizeof value);
    else
        memcpy(to + 2 * i, &narrow, sizeof narrow);
}

void grdi_convert_floats(void *to, grd_dtype to_dtype, const void *from, grd_dtype dtype, size_t count)
{
    for (size_t i = 0; i < count; i++) write_float(to, to_dtype, i, read_float(from, dtype, i));
}

static bool changes(const grd_file_tensor *tensor, grd_dtype dtype)
{
    return dtype != GRD_DTYPE_COUNT && grd_dtype_is_float(tensor->dtype) && tensor->dtype != dtype;
}

/* The data of one tensor in pieces of a fixed size. */
static grd_status put_tensor(grdi_safetensors_writer *writer, const grd_file_tensor *tensor, grd_dtype dtype)
{
    enum { PIECE = 4096 };
    uint8_t piece[PIECE * sizeof(float)];
    if (!changes(tensor, dtype))
        return grdi_safetensors_writer_put(writer, tensor->data, tensor->size_bytes);
    size_t count = tensor->size_bytes / grd_dtype_size(tensor->dtype), width = grd_dtype_size(dtype);
    grd_status status = GRD_OK;
    for (size_t first = 0; first < count && status == GRD_OK; first += PIECE) {
        size_t here = count - first < PIECE ? count - first : PIECE;
        for (size_t i = 0; i < here; i++)
            write_float(piece, dtype, i, read_float(tensor->data, tensor->dtype, first + i));
        status = grdi_safetensors_writer_put(writer, piece, here * width);
    }
    return status;
}

static grd_status write_all(const grd_safetensors *file, const char *to, grd_dtype dtype, grd_file_tensor *tensors,
                            size_t count, size_t *size_bytes, grd_error *error)
{
    *size_bytes = 0;
    for (size_t i = 0; i < count; i++) {
        tensors[i] = *grd_safetensors_at(file, i);
        if (tensors[i].dtype == GRD_DTYPE_COUNT)
            return grd_fail(error, GRD_E_UNSUPPORTED, "tensor '%.100s' is %s, which cannot be converted",
                            tensors[i].name, tensors[i].dtype_name);
        if (changes(&tensors[i], dtype))
            tensors[i].dtype = dtype;
    }
    grdi_safetensors_sort(tensors, count);
    grdi_safetensors_writer writer;
    grdi_safetensors_writer_open(&writer, to, tensors, count, NULL);
    for (size_t i = 0; i < count && writer.out.error.status == GRD_OK; i++) {
        put_tensor(&writer, grd_safetensors_find(file, tensors[i].name), dtype);
        *size_bytes += (size_t)grd_dims_count(tensors[i].dims) * grd_dtype_size(tensors[i].dtype);
    }
    return grdi_safetensors_writer_commit(&writer, error);
}

grd_status grd_safetensors_convert(const char *from, const char *to, grd_dtype dtype, size_t *size_bytes,
                                   grd_error *error)
{
    if (dtype != GRD_DTYPE_COUNT && dtype != GRD_F32 && dtype != GRD_BF16 && dtype != GRD_F16)
        return grd_fail(error, GRD_E_ARGUMENT, "%s: tensors can become f32, bf16 or f16, not %s", to,
                        grd_dtype_name(dtype));
    grd_safetensors *file;
    grd_status status = grd_safetensors_open(from, &file, error);
    if (status != GRD_OK)
        return status;
    size_t count = grd_safetensors_count(file), own;
    grd_file_tensor *tensors = grdi_alloc_zero(count, sizeof *tensors);
    status = tensors ? write_all(file, to, dtype, tensors, count, size_bytes ? size_bytes : &own, error)
                     : grd_fail(error, GRD_E_MEMORY, "%s: out of memory", to);
    grdi_free(tensors);
    grd_safetensors_close(file);
    return status;
}
