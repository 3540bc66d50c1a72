/* vocab.c - tokens by id and by content; GPT-2's byte alphabet. */
#include "data/vocab.h"

#include "base/memory.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <string.h>

static uint32_t *place_of(const grdi_vocab *vocab, const void *bytes, size_t size_bytes)
{
    for (size_t at = XXH3_64bits(bytes, size_bytes) & vocab->mask;; at = (at + 1) & vocab->mask) {
        if (vocab->slots[at] == 0)
            return &vocab->slots[at];
        const grdi_token *token = &vocab->tokens[vocab->slots[at] - 1];
        if (token->size_bytes == size_bytes && memcmp(vocab->bytes + token->offset, bytes, size_bytes) == 0)
            return &vocab->slots[at];
    }
}

static bool grow_slots(grdi_vocab *vocab)
{
    size_t size = vocab->slots ? 2 * (vocab->mask + 1) : 1024;
    uint32_t *slots = grdi_alloc_zero(size, sizeof(*slots));
    if (!slots)
        return false;
    uint32_t *old = vocab->slots;
    size_t old_size = old ? vocab->mask + 1 : 0;
    vocab->slots = slots;
    vocab->mask = size - 1;
    for (size_t i = 0; i < old_size; i++) {
        if (old[i] == 0)
            continue;
        const grdi_token *token = &vocab->tokens[old[i] - 1];
        *place_of(vocab, vocab->bytes + token->offset, token->size_bytes) = old[i];
    }
    grdi_free(old);
    return true;
}

static bool reserve(grdi_vocab *vocab, size_t id, size_t size_bytes)
{
    if (!vocab->bytes || vocab->used + size_bytes > vocab->bytes_capacity) {
        size_t capacity = 2 * vocab->bytes_capacity + size_bytes + 4096;
        uint8_t *bytes = grdi_realloc(vocab->bytes, capacity, 1);
        if (!bytes)
            return false;
        vocab->bytes = bytes;
        vocab->bytes_capacity = capacity;
    }
    if (id >= vocab->capacity) {
        size_t capacity = id + id / 2 + 1024;
        grdi_token *tokens = grdi_realloc(vocab->tokens, capacity, sizeof(*tokens));
        if (!tokens)
            return false;
        vocab->tokens = tokens;
        vocab->capacity = capacity;
    }
    return (vocab->slots && 2 * vocab->filled <= vocab->mask) || grow_slots(vocab);
}

bool grdi_vocab_set(grdi_vocab *vocab, int32_t id, const void *bytes, size_t size_bytes)
{
    if (!reserve(vocab, (size_t)id, size_bytes))
        return false;
    if ((size_t)id >= vocab->count) {
        memset(vocab->tokens + vocab->count, 0, ((size_t)id + 1 - vocab->count) * sizeof(*vocab->tokens));
        vocab->count = (size_t)id + 1;
    }
    grdi_token *token = &vocab->tokens[id];
    if (token->present && token->size_bytes == size_bytes &&
        memcmp(vocab->bytes + token->offset, bytes, size_bytes) == 0)
        return true;
    /* The slot of bytes that are replaced stays behind: it matches nothing any more. */
    memcpy(vocab->bytes + vocab->used, bytes, size_bytes);
    *token = (grdi_token){vocab->used, (uint32_t)size_bytes, true};
    vocab->used += size_bytes;
    uint32_t *slot = place_of(vocab, bytes, size_bytes);
    if (*slot == 0) {
        *slot = (uint32_t)id + 1;
        vocab->filled++;
    }
    return true;
}

int32_t grdi_vocab_add(grdi_vocab *vocab, const void *bytes, size_t size_bytes)
{
    int32_t id = (int32_t)vocab->count;
    return grdi_vocab_set(vocab, id, bytes, size_bytes) ? id : -1;
}

int32_t grdi_vocab_find(const grdi_vocab *vocab, const void *bytes, size_t size_bytes)
{
    if (!vocab->slots)
        return -1;
    return (int32_t)*place_of(vocab, bytes, size_bytes) - 1;
}

void grdi_vocab_free(grdi_vocab *vocab)
{
    grdi_free(vocab->bytes);
    grdi_free(vocab->tokens);
    grdi_free(vocab->slots);
    *vocab = (grdi_vocab){0};
}

/* ---- the byte alphabet ---- */

/* Printable Latin-1 bytes are their own characters; the 68 others are U+0100 and on, in order. */
static bool is_printable(int byte)
{
    return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || (byte >= 0xAE && byte <= 0xFF);
}

/* How many bytes below this one are not printable. */
static int others_below(int byte)
{
    if (byte <= 0x21)
        return byte;
    if (byte <= 0x7F)
        return 33;
    return byte <= 0xA1 ? 33 + byte - 0x7F : 33 + 0xA1 - 0x7F;
}

uint32_t grdi_alphabet_char(uint8_t byte)
{
    return is_printable(byte) ? byte : 0x100u + (uint32_t)others_below(byte);
}

int grdi_alphabet_byte(uint32_t c)
{
    if (c < 0x100)
        return is_printable((int)c) ? (int)c : -1;
    if (c < 0x100 + 33)
        return (int)c - 0x100;
    if (c < 0x100 + 67)
        return (int)c - 0x100 - 33 + 0x7F;
    return c == 0x100 + 67 ? 0xAD : -1;
}

uint8_t grdi_alphabet_order(int index)
{
    if (index < 94)
        return (uint8_t)(0x21 + index);
    if (index < 106)
        return (uint8_t)(0xA1 + index - 94);
    if (index < 188)
        return (uint8_t)(0xAE + index - 106);
    return (uint8_t)grdi_alphabet_byte(0x100u + (uint32_t)(index - 188));
}
