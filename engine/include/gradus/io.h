/* io.h - files of tensors and of tokens: safetensors (read, write) and token shards (.bin). */
#ifndef GRADUS_IO_H
#define GRADUS_IO_H

#include <gradus/base.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- safetensors ---- */

/* One tensor of a file. Elements are little-endian and row-major. A dtype that files may have and the engine has not
 * ("I16", "F8_E4M3", ...) is GRD_DTYPE_COUNT here; `dtype_name` holds the file's word for it. */
typedef struct grd_file_tensor {
    const char *name;
    grd_dtype dtype;
    const char *dtype_name; /* "F32", "BF16", ...; not looked at when writing */
    grd_dims dims;
    const void *data;       /* aligned to one byte only: copy it out with memcpy */
    size_t size_bytes;      /* of data */
} grd_file_tensor;

typedef struct grd_safetensors grd_safetensors;

/* Opens the tensors at `path` and checks them: a .safetensors file, a model.safetensors.index.json whose shards lie
 * beside it, or a folder that holds model.safetensors or the index. The data is mapped, not read. What the reference
 * implementation (huggingface/safetensors) rejects is rejected with GRD_E_FORMAT and a message that names file and
 * tensor; so are duplicate names. More than GRD_RANK_MAX dimensions give GRD_E_UNSUPPORTED. On failure *file is NULL.
 * With an index, the tensors are those that it lists. Close it with grd_safetensors_close(). */
GRD_API grd_status grd_safetensors_open(const char *path, grd_safetensors **file, grd_error *error);
/* Unmaps everything: names and data got from the file are then invalid. NULL is allowed. */
GRD_API void grd_safetensors_close(grd_safetensors *file);
GRD_API size_t grd_safetensors_count(const grd_safetensors *file);
/* Tensor `index` in the order of the data (shard by shard), 0 <= index < count; else NULL. Owned by the file. */
GRD_API const grd_file_tensor *grd_safetensors_at(const grd_safetensors *file, size_t index);
/* The tensor of that name, or NULL if there is none. Owned by the file. */
GRD_API const grd_file_tensor *grd_safetensors_find(const grd_safetensors *file, const char *name);
/* The value of a key of the (first) file's "__metadata__", or NULL. Owned by the file. */
GRD_API const char *grd_safetensors_metadata(const grd_safetensors *file, const char *key);

/* Writes a .safetensors file with the metadata {"format": "pt"}: all of it or, on failure, nothing (a file that was
 * there stays). Tensors are laid out by falling element size, then by name, so that each is aligned to its elements.
 * `size_bytes` of each tensor must be its element count times the element size. GRD_E_ARGUMENT for a tensor that cannot
 * be written: no dtype, invalid dims, a name that is taken or not UTF-8. */
GRD_API grd_status grd_safetensors_write(const char *path, const grd_file_tensor *tensors, size_t count,
                                         grd_error *error);

/* Copies all tensors at `from` (as grd_safetensors_open takes it) into one file `to`: all of it or, on failure, none.
 * Floats (f64, f32, bf16, f16) become `dtype`, one of f32, bf16, f16, rounded to nearest; GRD_DTYPE_COUNT leaves all as
 * they are, bit for bit. GRD_E_UNSUPPORTED for a tensor whose dtype the engine has not, GRD_E_ARGUMENT for another
 * `dtype`. *size_bytes, unless NULL, is that of the tensors written. */
GRD_API grd_status grd_safetensors_convert(const char *from, const char *to, grd_dtype dtype, size_t *size_bytes,
                                           grd_error *error);

/* ---- checkpoints ---- */

typedef struct grd_checkpoint_info {
    int64_t step;
    double elapsed_seconds; /* of training up to there */
    char device_kind[128];  /* that it was written on */
    int64_t files, tensors;
    int64_t size_bytes; /* of the tensors */
} grd_checkpoint_info;

/* Verifies every checksum in the checkpoint folder `path` and says what it holds. GRD_E_FORMAT names the file, and the
 * tensor where it is one, that is damaged. */
GRD_API grd_status grd_checkpoint_about(const char *path, grd_checkpoint_info *info, grd_error *error);
/* Writes the path of the newest checkpoint of a run directory (back 0), of the one before (back 1), ...: with a zero
 * byte, at most `capacity` bytes. "" where there is none. It is not verified. */
GRD_API grd_status grd_checkpoint_path(const char *run, size_t back, char *path, size_t capacity, grd_error *error);

/* ---- token shards ---- */

/* How the tokens lie in the file. GPT2 and LLAMA3 are llm.c's formats: 256 int32 (magic 20240520, version 1; magic
 * 20240801, version 7; then the token count), then the tokens as uint16 or uint32. RAW_U16 is nanoGPT's: uint16 tokens
 * and nothing else. */
typedef enum grd_token_format {
    GRD_TOKENS_AUTO = 0, /* when reading: whichever of llm.c's two the header says */
    GRD_TOKENS_GPT2,
    GRD_TOKENS_LLAMA3,
    GRD_TOKENS_RAW_U16
} grd_token_format;

typedef struct grd_tokens grd_tokens;

/* Maps a shard. GRD_E_FORMAT when the header or the size of the file do not fit the format, or when there is no token.
 * On failure *tokens is NULL. Close it with grd_tokens_close(). */
GRD_API grd_status grd_tokens_open(const char *path, grd_token_format format, grd_tokens **tokens, grd_error *error);
GRD_API void grd_tokens_close(grd_tokens *tokens);
GRD_API size_t grd_tokens_count(const grd_tokens *tokens);
/* The format found: never GRD_TOKENS_AUTO. */
GRD_API grd_token_format grd_tokens_format(const grd_tokens *tokens);
/* Copies `count` tokens from position `first` on into `out`. GRD_E_ARGUMENT when the range leaves the shard. Tokens
 * above INT32_MAX (which no vocabulary has) come out as -1. Safe to call from several threads. */
GRD_API grd_status grd_tokens_read(const grd_tokens *tokens, size_t first, size_t count, int32_t *out,
                                   grd_error *error);
/* GRD_E_FORMAT when a token is not below `vocab`; the message names the first such position. Reads the whole shard. */
GRD_API grd_status grd_tokens_check(const grd_tokens *tokens, int64_t vocab, grd_error *error);

/* Writes a shard: all of it or, on failure, nothing. 1 <= count < 2^31 for llm.c's formats, whose counter has no more
 * bits; GRD_E_ARGUMENT for that and for a token that the format cannot hold. */
GRD_API grd_status grd_tokens_write(const char *path, grd_token_format format, const int32_t *tokens, size_t count,
                                    grd_error *error);

#ifdef __cplusplus
}
#endif
#endif
