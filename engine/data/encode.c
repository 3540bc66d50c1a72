/* encode.c - from text to ids: added tokens first, then pieces, then merges; large texts in several threads. */
#include "data/encode.h"

#include "base/memory.h"
#include "data/nfc.h"
#include "data/utf8.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <string.h>

static grd_status out_of_memory(grd_error *error)
{
    return grd_fail(error, GRD_E_MEMORY, "tokenizer: out of memory while encoding");
}

/* Room for `more` ids, and for a whole cache entry to be copied after them. */
static bool reserve(grdi_encoder *encoder, size_t more)
{
    size_t wanted = encoder->count + more + GRDI_CACHED_IDS;
    if (wanted <= encoder->capacity)
        return true;
    uint32_t *ids = grdi_realloc(encoder->ids, wanted + wanted / 2, sizeof(*ids));
    if (!ids)
        return false;
    encoder->ids = ids;
    encoder->capacity = wanted + wanted / 2;
    return true;
}

grd_status grdi_encoder_open(grdi_encoder *encoder, const grd_tokenizer *tokenizer, bool plain, bool cached,
                             grd_error *error)
{
    *encoder = (grdi_encoder){.tokenizer = tokenizer, .plain = plain};
    if (tokenizer->splitter) {
        if (grdi_split_work_new(tokenizer->splitter, &encoder->work, error) != GRD_OK)
            return GRD_E_MEMORY;
        encoder->cache = cached ? grdi_alloc_zero(GRDI_CACHE_SLOTS, sizeof(*encoder->cache)) : NULL;
        if (cached && !encoder->cache)
            return out_of_memory(error);
    }
    return GRD_OK;
}

void grdi_encoder_close(grdi_encoder *encoder)
{
    grdi_split_work_free(encoder->work);
    grdi_free(encoder->cache);
    grdi_free(encoder->ids);
    grdi_free(encoder->nodes);
    grdi_free(encoder->heap);
    *encoder = (grdi_encoder){0};
}

/* ---- pieces ---- */

static bool is_added(const grd_tokenizer *t, int32_t id)
{
    for (size_t i = 0; i < t->added_count; i++)
        if (t->added[i].id == id)
            return true;
    return false;
}

static grd_status encode_uncached(grdi_encoder *encoder, const uint8_t *piece, size_t size_bytes, grd_error *error)
{
    const grd_tokenizer *t = encoder->tokenizer;
    int32_t id = t->whole_pieces ? grdi_vocab_find(&t->vocab, piece, size_bytes) : -1;
    if (id >= 0 && !is_added(t, id)) {
        encoder->ids[encoder->count++] = (uint32_t)id;
        return GRD_OK;
    }
    return grdi_encoder_merge(encoder, piece, size_bytes, error);
}

static grd_status encode_piece(void *context, const uint8_t *piece, size_t size_bytes, grd_error *error)
{
    grdi_encoder *encoder = context;
    if (!reserve(encoder, size_bytes))
        return out_of_memory(error);
    if (!encoder->cache || size_bytes > GRDI_CACHED_BYTES)
        return encode_uncached(encoder, piece, size_bytes, error);
    grdi_cached *slot = &encoder->cache[XXH3_64bits(piece, size_bytes) % GRDI_CACHE_SLOTS];
    if (slot->size_bytes == size_bytes && memcmp(slot->bytes, piece, size_bytes) == 0) {
        memcpy(encoder->ids + encoder->count, slot->ids, sizeof(slot->ids));
        encoder->count += slot->count;
        return GRD_OK;
    }
    size_t first = encoder->count;
    grd_status status = encode_uncached(encoder, piece, size_bytes, error);
    size_t count = encoder->count - first;
    if (status == GRD_OK && count <= GRDI_CACHED_IDS) {
        slot->size_bytes = (uint8_t)size_bytes;
        slot->count = (uint8_t)count;
        memcpy(slot->bytes, piece, size_bytes);
        memcpy(slot->ids, encoder->ids + first, count * sizeof(*slot->ids));
    }
    return status;
}

static grd_status encode_chars(grdi_encoder *encoder, const uint8_t *text, size_t size_bytes, grd_error *error)
{
    const grd_tokenizer *t = encoder->tokenizer;
    if (!reserve(encoder, size_bytes))
        return out_of_memory(error);
    for (size_t at = 0; at < size_bytes;) {
        uint32_t c;
        int length = grdi_utf8_decode(text + at, size_bytes - at, &c);
        const uint32_t *known = length > 0 ? grdi_map_find(&t->char_id, c) : NULL;
        if (!known && t->unknown_id < 0)
            return grd_fail(error, GRD_E_FORMAT,
                            "tokenizer: a character of the text has no token, and there is none for unknown ones");
        if (!known && encoder->unknown++ == 0)
            encoder->first_unknown = length > 0 ? c : 0xFFFD;
        encoder->ids[encoder->count++] = known ? *known : (uint32_t)t->unknown_id;
        at += length > 0 ? (size_t)length : 1;
    }
    return GRD_OK;
}

/* Text without added tokens. */
static grd_status encode_plain(grdi_encoder *encoder, const uint8_t *text, size_t size_bytes, grd_error *error)
{
    const grd_tokenizer *t = encoder->tokenizer;
    if (t->kind == GRD_TOKENIZER_CHAR)
        return encode_chars(encoder, text, size_bytes, error);
    uint8_t *spaced = NULL;
    if (t->prefix_space && size_bytes > 0 && text[0] != ' ') {
        spaced = grdi_alloc(size_bytes + 1);
        if (!spaced)
            return out_of_memory(error);
        spaced[0] = ' ';
        memcpy(spaced + 1, text, size_bytes++);
        text = spaced;
    }
    grd_status status = GRD_OK;
    if (t->splitter)
        status = grdi_split_text(t->splitter, encoder->work, text, size_bytes, encode_piece, encoder, error);
    else if (size_bytes > 0)
        status = encode_piece(encoder, text, size_bytes, error);
    grdi_free(spaced);
    return status;
}

/* ---- added tokens ---- */

/* The added token of the set (normalized or not) that begins at `at`, or NULL. */
static const grdi_added *added_at(const grdi_encoder *encoder, bool normalized, const uint8_t *text, size_t size_bytes,
                                  size_t at, size_t *token_bytes)
{
    const grd_tokenizer *t = encoder->tokenizer;
    if (at + 1 < size_bytes && !(t->added_start[(text[at] * 256 + text[at + 1]) / 8] >> text[at + 1] % 8 & 1))
        return NULL;
    for (size_t i = 0; i < t->added_count; i++) {
        const grdi_added *added = &t->added[i];
        const uint8_t *bytes = grdi_vocab_bytes(&t->vocab, added->id, token_bytes);
        if (added->normalized == normalized && *token_bytes <= size_bytes - at &&
            memcmp(text + at, bytes, *token_bytes) == 0)
            return encoder->plain && added->special ? NULL : added;
    }
    return NULL;
}

static size_t spaces_before(const uint8_t *text, size_t least, size_t at)
{
    while (at > least) {
        uint32_t c = 'x';
        size_t length = 1;
        while (length <= 4 && length <= at - least && grdi_utf8_decode(text + at - length, length, &c) != (int)length)
            length++;
        if (length > 4 || length > at - least || !grdi_is_space(c))
            break;
        at -= length;
    }
    return at;
}

static size_t spaces_after(const uint8_t *text, size_t size_bytes, size_t at)
{
    uint32_t c;
    int length;
    while ((length = grdi_utf8_decode(text + at, size_bytes - at, &c)) > 0 && grdi_is_space(c))
        at += (size_t)length;
    return at;
}

static grd_status encode_set(grdi_encoder *encoder, int set, const uint8_t *text, size_t size_bytes, grd_error *error);

/* Text without the tokens of the first set, which were searched for in it as it is: normalised, it goes on. */
static grd_status encode_normalized(grdi_encoder *encoder, const uint8_t *text, size_t size_bytes, grd_error *error)
{
    if (!encoder->tokenizer->composed || grdi_nfc_is_plain(text, size_bytes))
        return encode_set(encoder, 1, text, size_bytes, error);
    uint8_t *composed = grdi_nfc(text, size_bytes, &size_bytes);
    if (!composed)
        return out_of_memory(error);
    grd_status status = encode_set(encoder, 1, composed, size_bytes, error);
    grdi_free(composed);
    return status;
}

static grd_status encode_rest(grdi_encoder *encoder, int set, const uint8_t *text, size_t size_bytes, grd_error *error)
{
    return set == 0 ? encode_normalized(encoder, text, size_bytes, error)
                    : encode_plain(encoder, text, size_bytes, error);
}

/* Takes the added tokens of one set out of the text; what lies between them goes on to the next set, then to the
 * pieces. */
static grd_status encode_set(grdi_encoder *encoder, int set, const uint8_t *text, size_t size_bytes, grd_error *error)
{
    int first = encoder->tokenizer->added_first;
    size_t done = 0;
    for (size_t at = 0; at < size_bytes && encoder->tokenizer->added_count > 0;) {
        if (first >= 0) {
            const uint8_t *found = memchr(text + at, first, size_bytes - at);
            if (!found)
                break;
            at = (size_t)(found - text);
        }
        size_t token_bytes;
        const grdi_added *added = added_at(encoder, set == 1, text, size_bytes, at, &token_bytes);
        if (!added) {
            at++;
            continue;
        }
        size_t start = added->strips_left ? spaces_before(text, done, at) : at;
        grd_status status = encode_rest(encoder, set, text + done, start - done, error);
        if (status != GRD_OK)
            return status;
        if (!reserve(encoder, 1))
            return out_of_memory(error);
        encoder->ids[encoder->count++] = (uint32_t)added->id;
        at += token_bytes;
        done = at = added->strips_right ? spaces_after(text, size_bytes, at) : at;
    }
    return encode_rest(encoder, set, text + done, size_bytes - done, error);
}

grd_status grdi_encoder_text(grdi_encoder *encoder, const uint8_t *text, size_t size_bytes, grd_error *error)
{
    return encode_set(encoder, 0, text, size_bytes, error);
}
