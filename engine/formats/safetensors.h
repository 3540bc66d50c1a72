/* safetensors.h - writing a safetensors file tensor by tensor (reading: see gradus/io.h). */
#ifndef GRDI_FORMATS_SAFETENSORS_H
#define GRDI_FORMATS_SAFETENSORS_H

#include "base/file.h"

#include <gradus/io.h>
#include <xxhash.h>

/* The file's word for an element type ("F32", "BF16", ...); NULL for a value that is no dtype. */
const char *grdi_safetensors_dtype_name(grd_dtype dtype);

/* Sorts into the order in which a file holds its tensors: by falling element size, then by name. */
void grdi_safetensors_sort(grd_file_tensor *tensors, size_t count);

/* `count` floats of one type (f64, f32, bf16, f16) as those of another (f32, bf16, f16), rounded to nearest. Neither
 * needs an alignment. */
void grdi_convert_floats(void *to, grd_dtype to_dtype, const void *from, grd_dtype dtype, size_t count);

/* A file in the making. Open it with all names, dtypes and dims (data and size_bytes are not looked at), in an order in
 * which element sizes never grow; give the data in that order, in pieces of any size; commit. After an error every
 * further call fails with it. As with grdi_writer, a file at `path` stays as it is until commit succeeds. */
typedef struct grdi_safetensors_writer {
    grdi_writer out;
    size_t total_bytes;  /* of the whole file, header included */
    XXH3_state_t *hash;  /* the caller's; unless NULL it is fed every byte of the file */
} grdi_safetensors_writer;

grd_status grdi_safetensors_writer_open(grdi_safetensors_writer *writer, const char *path,
                                        const grd_file_tensor *tensors, size_t count, XXH3_state_t *hash);
grd_status grdi_safetensors_writer_put(grdi_safetensors_writer *writer, const void *data, size_t size_bytes);
grd_status grdi_safetensors_writer_commit(grdi_safetensors_writer *writer, grd_error *error);
void grdi_safetensors_writer_abandon(grdi_safetensors_writer *writer);

#endif
