/* encode_texts.c - encoding whole texts: cut into parts, encoded by several threads, put together in order. */
#include "data/encode.h"

#include "base/memory.h"
#include "data/chunks.h"
#include "formats/tokens.h"

#include <errno.h>
#include <fcntl.h>
#include <omp.h>
#include <string.h>

/* Shorter texts are encoded without a cache, which takes longer to clear than it saves. */
enum { CACHED_TEXT_BYTES = 1 << 16 };

static grd_status out_of_memory(grd_error *error)
{
    return grd_fail(error, GRD_E_MEMORY, "tokenizer: out of memory while encoding");
}

/* ---- ids ---- */

void grd_ids_read(const grd_ids *ids, int64_t first, int64_t count, int32_t *out)
{
    if (ids->width_bytes == 2) {
        const uint16_t *data = (const uint16_t *)ids->data + first;
        for (int64_t i = 0; i < count; i++)
            out[i] = data[i];
    } else if (count > 0) {
        memcpy(out, (const int32_t *)ids->data + first, (size_t)count * sizeof(*out));
    }
}

grd_status grd_ids_save(const grd_ids *ids, const char *path, grd_token_format format, grd_error *error)
{
    enum { PIECE = 4096 };
    int32_t piece[PIECE];
    grdi_tokens_writer writer;
    grd_status status = grdi_tokens_writer_open(&writer, path, format, (size_t)ids->count);
    for (int64_t at = 0, count; status == GRD_OK && at < ids->count; at += count) {
        count = ids->count - at < PIECE ? ids->count - at : PIECE;
        grd_ids_read(ids, at, count, piece);
        status = grdi_tokens_writer_put(&writer, piece, (size_t)count);
    }
    return grdi_tokens_writer_commit(&writer, error);
}

void grd_ids_free(grd_ids *ids)
{
    grdi_free(ids->data);
    *ids = (grd_ids){0};
}

/* Ids that are collected in memory, or in a file with only the last of them in memory. */
typedef struct growing {
    grd_ids *ids;
    size_t used, capacity; /* ids in memory */
    int fd;                /* of the file; -1: there is none */
    grd_error why;         /* of a failed write */
} growing;

enum { IDS_BUFFER_BYTES = 1 << 20 };

static bool write_ids(growing *out)
{
    size_t size_bytes = out->used * (size_t)out->ids->width_bytes;
    out->used = 0;
    return grdi_file_put(out->fd, "temporary file of the text's tokens", out->ids->data, size_bytes, &out->why) ==
           GRD_OK;
}

static grd_status append_failed(const growing *out, grd_error *error)
{
    return out->why.status ? grd_fail(error, out->why.status, "%s", out->why.message) : out_of_memory(error);
}

static bool append(growing *out, const uint32_t *ids, size_t count)
{
    if (count == 0)
        return true;
    size_t width = (size_t)out->ids->width_bytes;
    if (out->fd >= 0 && out->used * width >= IDS_BUFFER_BYTES && !write_ids(out))
        return false;
    size_t used = out->used;
    if (used + count > out->capacity || !out->ids->data) {
        size_t capacity = used + count + used / 2 + 16;
        void *data = grdi_realloc(out->ids->data, capacity, width);
        if (!data)
            return false;
        out->ids->data = data;
        out->capacity = capacity;
    }
    if (width == 4) {
        memcpy((uint32_t *)out->ids->data + used, ids, count * sizeof(*ids));
    } else {
        uint16_t *data = (uint16_t *)out->ids->data + used;
        for (size_t i = 0; i < count; i++)
            data[i] = (uint16_t)ids[i];
    }
    out->used += count;
    out->ids->count += (int64_t)count;
    return true;
}

/* Where directories cannot hold files without a name, the ids stay in memory. */
static int open_scratch(const char *directory)
{
    return directory ? grdi_file.open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600) : -1;
}

/* All ids are there: gives back what memory is not needed, or maps the file. */
static grd_status settle(growing *out, grdi_mapping *file, grd_error *error)
{
    grd_ids *ids = out->ids;
    size_t size_bytes = (size_t)ids->count * (size_t)ids->width_bytes;
    if (out->fd < 0 || size_bytes == 0) {
        void *tight = grdi_realloc(ids->data, (size_t)ids->count, (size_t)ids->width_bytes);
        ids->data = tight ? tight : ids->data;
        return GRD_OK;
    }
    if (!write_ids(out))
        return append_failed(out, error);
    void *mapped = grdi_file.map(out->fd, size_bytes);
    if (!mapped)
        return grd_fail_system(error, "temporary file of the text's tokens", "map");
    grdi_free(ids->data);
    ids->data = mapped;
    *file = (grdi_mapping){mapped, size_bytes};
    return GRD_OK;
}

/* ---- texts ---- */

static bool has_space(const uint8_t *bytes, size_t size_bytes)
{
    for (size_t i = 0; i < size_bytes; i++)
        if (bytes[i] <= ' ')
            return true;
    return false;
}

/* Where texts can be cut without changing any id. Cuts lie beside a space or line end, so an added token is only in the
 * way when it holds one or takes those around it along. */
static grdi_cut cut_of(const grd_tokenizer *t)
{
    for (size_t i = 0; i < t->added_count; i++) {
        size_t size;
        const uint8_t *bytes = grdi_vocab_bytes(&t->vocab, t->added[i].id, &size);
        if (t->added[i].strips_left || t->added[i].strips_right || has_space(bytes, size))
            return GRDI_CUT_NEVER;
    }
    if (t->prefix_space)
        return GRDI_CUT_NEVER;
    if (t->splitter)
        return GRDI_CUT_PIECES;
    if (t->kind == GRD_TOKENIZER_BPE)
        return GRDI_CUT_NEVER; /* a text is one piece */
    return t->added_count > 0 ? GRDI_CUT_SPACES : GRDI_CUT_CHARS;
}

/* Part `i` is encoded and all before it are in `out`. */
static bool append_part(const grdi_chunks *chunks, size_t i, grdi_encoding *what, const grdi_encoder *encoder,
                        growing *out)
{
    if (i > 0 && what->separator >= 0 && chunks->text_of[i] != chunks->text_of[i - 1]) {
        uint32_t separator = (uint32_t)what->separator;
        if (!GRDI_GROW(what->separators, what->separator_capacity, what->separator_count))
            return false;
        what->separators[what->separator_count++] = out->ids->count;
        if (!append(out, &separator, 1))
            return false;
    }
    if (out->ids->unknown == 0)
        out->ids->first_unknown = encoder->first_unknown;
    out->ids->unknown += encoder->unknown;
    return append(out, encoder->ids, encoder->count);
}

static grd_status encode_parts(const grd_tokenizer *t, const grdi_chunks *chunks, grdi_encoding *what, growing *out,
                               grd_error *error)
{
    grd_status result = GRD_OK;
    int team = grdi_chunks_threads(chunks, what->threads);
    bool cached = chunks->count > 1 || (chunks->count == 1 && chunks->parts[0].size_bytes > CACHED_TEXT_BYTES);
#pragma omp parallel num_threads(team)
    {
        grdi_encoder encoder;
        grd_error why = {0};
        grd_status status = grdi_encoder_open(&encoder, t, what->plain, cached, &why);
#pragma omp for ordered schedule(dynamic, 1)
        for (size_t i = 0; i < chunks->count; i++) {
            encoder.count = 0;
            encoder.unknown = 0;
            if (status == GRD_OK)
                status = grdi_encoder_text(&encoder, chunks->parts[i].data, chunks->parts[i].size_bytes, &why);
            if (what->mapped)
                grdi_file.release((void *)chunks->parts[i].data, chunks->parts[i].size_bytes);
#pragma omp ordered
            {
                if (status == GRD_OK && result == GRD_OK && !append_part(chunks, i, what, &encoder, out))
                    status = append_failed(out, &why);
                if (status != GRD_OK && result == GRD_OK)
                    result = grd_fail(error, status, "%s", why.message);
            }
        }
        grdi_encoder_close(&encoder);
    }
    return result;
}

static grd_status encode_all(const grd_tokenizer *t, grdi_encoding *what, growing *out, grd_error *error)
{
    grdi_chunks chunks;
    grd_status status = grdi_chunks_make(cut_of(t), t->splitter, what->texts, what->count, &chunks, error);
    if (status != GRD_OK)
        return status;
    if (what->template_ids && !append(out, (const uint32_t *)t->before, t->before_count))
        status = append_failed(out, error);
    if (status == GRD_OK)
        status = encode_parts(t, &chunks, what, out, error);
    if (status == GRD_OK && what->template_ids && !append(out, (const uint32_t *)t->after, t->after_count))
        status = append_failed(out, error);
    grdi_chunks_free(&chunks);
    return status;
}

grd_status grdi_encode(const grd_tokenizer *t, grdi_encoding *what, grd_ids *ids, grd_error *error)
{
    *ids = (grd_ids){.width_bytes = t->vocab.count <= 65536 ? 2 : 4};
    growing out = {.ids = ids, .fd = open_scratch(what->scratch)};
    what->file = (grdi_mapping){0};
    what->separators = NULL;
    what->separator_count = what->separator_capacity = 0;
    grd_status status = encode_all(t, what, &out, error);
    if (status == GRD_OK)
        status = settle(&out, &what->file, error);
    if (out.fd >= 0)
        grdi_file.close(out.fd);
    if (status != GRD_OK) {
        grdi_free(what->separators);
        what->separators = NULL;
        what->separator_count = 0;
        grd_ids_free(ids);
    }
    return status;
}

grd_status grd_tokenizer_encode(const grd_tokenizer *t, grd_text text, const grd_encode_options *given, grd_ids *ids,
                                grd_error *error)
{
    grd_encode_options options = {0};
    if (given)
        memcpy(&options, given, given->size > 0 && given->size < sizeof(options) ? given->size : sizeof(options));
    grdi_encoding what = {.texts = &text, .count = 1, .separator = -1, .plain = options.plain,
                          .template_ids = options.template_ids, .threads = options.threads};
    return grdi_encode(t, &what, ids, error);
}
