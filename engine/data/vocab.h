/* vocab.h - tokens as bytes, by id and by content. */
#ifndef GRDI_VOCAB_H
#define GRDI_VOCAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* More than any tokenizer has; keeps a damaged file from asking for gigabytes. */
enum { GRDI_VOCAB_MAX = 1 << 20 };

typedef struct grdi_token {
    size_t offset;       /* in grdi_vocab.bytes */
    uint32_t size_bytes;
    bool present;        /* ids may have gaps */
} grdi_token;

/* Zeroed means empty. */
typedef struct grdi_vocab {
    uint8_t *bytes;
    size_t used, bytes_capacity;
    grdi_token *tokens;      /* by id */
    size_t count, capacity;  /* count is the highest id plus one */
    uint32_t *slots;         /* id + 1 by hash of the bytes; 0 is empty */
    size_t mask, filled;
} grdi_vocab;

/* Gives the bytes to `id` (below GRDI_VOCAB_MAX), in place of what it had. Where several ids have the same bytes,
 * grdi_vocab_find() keeps telling the first. False when out of memory. */
bool grdi_vocab_set(grdi_vocab *vocab, int32_t id, const void *bytes, size_t size_bytes);
/* The next id for these bytes, or -1 when out of memory. */
int32_t grdi_vocab_add(grdi_vocab *vocab, const void *bytes, size_t size_bytes);
/* The id of these bytes, or -1. */
int32_t grdi_vocab_find(const grdi_vocab *vocab, const void *bytes, size_t size_bytes);
void grdi_vocab_free(grdi_vocab *vocab);

static inline const uint8_t *grdi_vocab_bytes(const grdi_vocab *vocab, int32_t id, size_t *size_bytes)
{
    bool present = id >= 0 && (size_t)id < vocab->count && vocab->tokens[id].present;
    *size_bytes = present ? vocab->tokens[id].size_bytes : 0;
    return present ? vocab->bytes + vocab->tokens[id].offset : NULL;
}

/* GPT-2's alphabet: each byte as a printable character, so that a token is a text. Byte and character in both
 * directions; -1 for a character that stands for no byte. */
uint32_t grdi_alphabet_char(uint8_t byte);
int grdi_alphabet_byte(uint32_t code_point);
/* The bytes in the order of their characters, which is the order of their ids. */
uint8_t grdi_alphabet_order(int index);

#endif
