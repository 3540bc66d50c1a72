/* encode.h - the ids of one stretch of text, in one thread. */
#ifndef GRDI_ENCODE_H
#define GRDI_ENCODE_H

#include "data/tokenizer.h"

/* Pieces that are in the cache, with their ids: one cache line each. */
enum { GRDI_CACHED_BYTES = 30, GRDI_CACHED_IDS = 8, GRDI_CACHE_SLOTS = 1 << 15 };

typedef struct grdi_cached {
    uint8_t size_bytes, count; /* size 0: empty */
    uint8_t bytes[GRDI_CACHED_BYTES];
    uint32_t ids[GRDI_CACHED_IDS];
} grdi_cached;

typedef struct grdi_encoder {
    const grd_tokenizer *tokenizer;
    bool plain;                  /* special tokens are text */
    grdi_split_work *work;
    grdi_cached *cache;          /* NULL for texts too short to need one */
    uint32_t *ids;               /* what was encoded so far */
    size_t count, capacity;
    int64_t unknown;             /* char: characters without a token so far, and the first of them */
    uint32_t first_unknown;
    struct grdi_node *nodes;     /* room for long pieces */
    uint64_t *heap;
    size_t node_capacity, heap_capacity;
} grdi_encoder;

grd_status grdi_encoder_open(grdi_encoder *encoder, const grd_tokenizer *tokenizer, bool plain, bool cached,
                             grd_error *error);
void grdi_encoder_close(grdi_encoder *encoder);
/* Appends the ids of a text to encoder->ids. */
grd_status grdi_encoder_text(grdi_encoder *encoder, const uint8_t *text, size_t size_bytes, grd_error *error);
/* Appends the ids of one piece by the merges alone. */
grd_status grdi_encoder_merge(grdi_encoder *encoder, const uint8_t *piece, size_t size_bytes, grd_error *error);

#endif
