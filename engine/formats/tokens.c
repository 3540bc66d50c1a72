/* tokens.c - token shards. llm.c's two formats are defined by dev/data/data_common.py there and read by its dataloader;
 * nanoGPT's raw uint16 by data/<name>/prepare.py there. */
#include "formats/tokens.h"

#include "base/memory.h"

#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "files hold little-endian numbers, which are used in place");

enum { HEADER_WORDS = 256, HEADER_BYTES = 4 * HEADER_WORDS };

static const struct {
    const char *name;
    int32_t magic, version;
    size_t token_bytes, header_bytes;
    int64_t largest; /* token that fits */
} formats[] = {
    [GRD_TOKENS_AUTO] = {.name = "auto"},
    [GRD_TOKENS_GPT2] = {"gpt-2", 20240520, 1, 2, HEADER_BYTES, UINT16_MAX},
    [GRD_TOKENS_LLAMA3] = {"llama-3", 20240801, 7, 4, HEADER_BYTES, INT32_MAX},
    [GRD_TOKENS_RAW_U16] = {"raw uint16", 0, 0, 2, 0, UINT16_MAX},
};
enum { FORMAT_COUNT = sizeof formats / sizeof *formats };

struct grd_tokens {
    grdi_mapping mapping;
    char *path;
    grd_token_format format;
    const uint8_t *bytes; /* of the first token: 2-byte tokens are 2-aligned, 4-byte tokens 4-aligned */
    size_t count;
};

/* ---- reading ---- */

/* Finds which of llm.c's formats the header names. */
static grd_status detect(grd_tokens *tokens, const int32_t *header, const char *path, grd_error *error)
{
    for (int format = GRD_TOKENS_GPT2; format <= GRD_TOKENS_LLAMA3; format++) {
        if (header[0] != formats[format].magic)
            continue;
        if (header[1] != formats[format].version)
            return grd_fail(error, GRD_E_FORMAT, "%s: version %d of the %s token format (only version %d is known)",
                            path, header[1], formats[format].name, formats[format].version);
        tokens->format = (grd_token_format)format;
        return GRD_OK;
    }
    return grd_fail(error, GRD_E_FORMAT,
                    "%s: not a token shard: it begins with %d, not with %d or %d (make shards by gradus tokenize "
                    "encode)",
                    path, header[0],
                    formats[GRD_TOKENS_GPT2].magic, formats[GRD_TOKENS_LLAMA3].magic);
}

static grd_status check_header(grd_tokens *tokens, const char *path, grd_token_format wanted, grd_error *error)
{
    size_t size_bytes = tokens->mapping.size_bytes;
    if (size_bytes < HEADER_BYTES)
        return grd_fail(error, GRD_E_FORMAT,
                        "%s: %zu bytes are fewer than the header of a token shard has, %d (is it one?)", path,
                        size_bytes, HEADER_BYTES);
    int32_t header[3];
    memcpy(header, tokens->mapping.data, sizeof header);
    grd_status status = detect(tokens, header, path, error);
    if (status != GRD_OK)
        return status;
    if (wanted != GRD_TOKENS_AUTO && tokens->format != wanted)
        return grd_fail(error, GRD_E_FORMAT, "%s: a %s shard where a %s shard was expected", path,
                        formats[tokens->format].name, formats[wanted].name);
    if (header[2] <= 0)
        return grd_fail(error, GRD_E_FORMAT, "%s: the header counts %d tokens (the shard is empty or damaged)", path,
                        header[2]);
    tokens->count = (size_t)header[2];
    uint64_t expected = HEADER_BYTES + (uint64_t)tokens->count * formats[tokens->format].token_bytes;
    if (size_bytes != expected)
        return grd_fail(error, GRD_E_FORMAT, "%s: %zu bytes, but %zu tokens need %llu (the shard is %s)", path,
                        size_bytes, tokens->count, (unsigned long long)expected,
                        size_bytes < expected ? "cut off" : "damaged");
    return GRD_OK;
}

static grd_status check_raw(grd_tokens *tokens, const char *path, grd_error *error)
{
    size_t size_bytes = tokens->mapping.size_bytes;
    if (size_bytes == 0 || size_bytes % 2 != 0)
        return grd_fail(error, GRD_E_FORMAT, "%s: %zu bytes are not a number of uint16 tokens", path, size_bytes);
    tokens->format = GRD_TOKENS_RAW_U16;
    tokens->count = size_bytes / 2;
    return GRD_OK;
}

grd_status grd_tokens_open(const char *path, grd_token_format format, grd_tokens **tokens, grd_error *error)
{
    *tokens = NULL;
    if ((unsigned)format >= FORMAT_COUNT)
        return grd_fail(error, GRD_E_ARGUMENT, "%s: %d is no token format", path, (int)format);
    grd_tokens *opened = grdi_alloc_zero(1, sizeof *opened);
    if (!opened || !(opened->path = grdi_strdup(path))) {
        grdi_free(opened);
        return grd_fail(error, GRD_E_MEMORY, "%s: out of memory", path);
    }
    grd_status status = grdi_file_map(path, &opened->mapping, error);
    if (status == GRD_OK && format == GRD_TOKENS_RAW_U16)
        status = check_raw(opened, path, error);
    else if (status == GRD_OK)
        status = check_header(opened, path, format, error);
    if (status != GRD_OK) {
        grd_tokens_close(opened);
        return status;
    }
    opened->bytes = opened->mapping.data + formats[opened->format].header_bytes;
    *tokens = opened;
    return GRD_OK;
}

void grd_tokens_close(grd_tokens *tokens)
{
    if (!tokens)
        return;
    grdi_file_unmap(&tokens->mapping);
    grdi_free(tokens->path);
    grdi_free(tokens);
}

size_t grd_tokens_count(const grd_tokens *tokens) { return tokens->count; }

grd_token_format grd_tokens_format(const grd_tokens *tokens) { return tokens->format; }

grd_ids grdi_tokens_view(const grd_tokens *tokens)
{
    return (grd_ids){.data = (void *)tokens->bytes, .count = (int64_t)tokens->count,
                     .width_bytes = (int32_t)formats[tokens->format].token_bytes};
}

grd_status grd_tokens_read(const grd_tokens *tokens, size_t first, size_t count, int32_t *out, grd_error *error)
{
    if (first > tokens->count || count > tokens->count - first)
        return grd_fail(error, GRD_E_ARGUMENT, "%s: %zu tokens from %zu on were asked for, but there are %zu",
                        tokens->path, count, first, tokens->count);
    if (formats[tokens->format].token_bytes == 2) {
        const uint16_t *from = (const uint16_t *)(const void *)tokens->bytes + first;
        for (size_t i = 0; i < count; i++)
            out[i] = from[i];
    } else {
        const uint32_t *from = (const uint32_t *)(const void *)tokens->bytes + first;
        for (size_t i = 0; i < count; i++)
            out[i] = from[i] > INT32_MAX ? -1 : (int32_t)from[i];
    }
    return GRD_OK;
}

grd_status grd_tokens_check(const grd_tokens *tokens, int64_t vocab, grd_error *error)
{
    bool is_short = formats[tokens->format].token_bytes == 2;
    const uint16_t *narrow = (const uint16_t *)(const void *)tokens->bytes;
    const uint32_t *wide = (const uint32_t *)(const void *)tokens->bytes;
    for (size_t i = 0; i < tokens->count; i++) {
        int64_t token = is_short ? narrow[i] : wide[i];
        if (token >= vocab)
            return grd_fail(error, GRD_E_FORMAT, "%s: token %lld at position %zu is outside a vocabulary of %lld",
                            tokens->path, (long long)token, i, (long long)vocab);
    }
    return GRD_OK;
}

/* ---- writing ---- */

grd_status grdi_tokens_writer_open(grdi_tokens_writer *writer, const char *path, grd_token_format format, size_t count)
{
    *writer = (grdi_tokens_writer){.format = format, .count = count, .out.fd = -1};
    grd_error *error = &writer->out.error;
    if (format == GRD_TOKENS_AUTO || (unsigned)format >= FORMAT_COUNT)
        return grd_fail(error, GRD_E_ARGUMENT, "%s: %d is no token format to write", path, (int)format);
    if (count == 0)
        return grd_fail(error, GRD_E_ARGUMENT, "%s: a shard needs at least one token", path);
    if (formats[format].header_bytes > 0 && count > INT32_MAX)
        return grd_fail(error, GRD_E_ARGUMENT, "%s: %zu tokens are more than one shard can count (use several)", path,
                        count);
    if (grdi_writer_open(&writer->out, path) != GRD_OK || formats[format].header_bytes == 0)
        return error->status;
    int32_t header[HEADER_WORDS] = {formats[format].magic, formats[format].version, (int32_t)count};
    return grdi_writer_put(&writer->out, header, sizeof header);
}

grd_status grdi_tokens_writer_put(grdi_tokens_writer *writer, const int32_t *tokens, size_t count)
{
    grd_error *error = &writer->out.error;
    if (error->status == GRD_OK && count > writer->count - writer->written)
        grd_fail(error, GRD_E_ARGUMENT, "%s: more than the %zu tokens announced", writer->out.path, writer->count);
    enum { PIECE = 2048 };
    uint16_t narrow[PIECE];
    for (size_t done = 0, piece; done < count && error->status == GRD_OK; done += piece) {
        piece = count - done < PIECE ? count - done : PIECE;
        for (size_t i = 0; i < piece; i++) {
            int32_t token = tokens[done + i];
            if (token < 0 || token > formats[writer->format].largest)
                return grd_fail(error, GRD_E_ARGUMENT, "%s: token %d at position %zu does not fit the %s format",
                                writer->out.path, token, writer->written + i, formats[writer->format].name);
            narrow[i] = (uint16_t)token;
        }
        if (formats[writer->format].token_bytes == 2)
            grdi_writer_put(&writer->out, narrow, piece * sizeof *narrow);
        else
            grdi_writer_put(&writer->out, tokens + done, piece * sizeof *tokens);
        writer->written += piece;
    }
    return error->status;
}

grd_status grdi_tokens_writer_commit(grdi_tokens_writer *writer, grd_error *error)
{
    if (writer->out.error.status == GRD_OK && writer->written != writer->count)
        grd_fail(&writer->out.error, GRD_E_ARGUMENT, "%s: %zu tokens came where %zu were announced", writer->out.path,
                 writer->written, writer->count);
    return grdi_writer_commit(&writer->out, error);
}

void grdi_tokens_writer_abandon(grdi_tokens_writer *writer) { grdi_writer_abandon(&writer->out); }

grd_status grd_tokens_write(const char *path, grd_token_format format, const int32_t *tokens, size_t count,
                            grd_error *error)
{
    grdi_tokens_writer writer;
    grdi_tokens_writer_open(&writer, path, format, count);
    grdi_tokens_writer_put(&writer, tokens, count);
    return grdi_tokens_writer_commit(&writer, error);
}
