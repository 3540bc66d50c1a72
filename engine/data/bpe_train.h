/* bpe_train.h - learning byte-pair merges from counted words. */
#ifndef GRDI_BPE_TRAIN_H
#define GRDI_BPE_TRAIN_H

#include "data/vocab.h"
#include "data/words.h"

typedef struct grdi_merge {
    int32_t a, b, id; /* a and b, side by side, become id */
} grdi_merge;

typedef struct grdi_merges {
    grdi_merge *list; /* by rank */
    size_t count, capacity;
} grdi_merges;

/* Merges the most frequent pair of neighbours (among equals the one with the lower ids) into a new token, until `vocab`
 * has `vocab_size` tokens or no pair is as frequent as `min_count`. `vocab` comes with the tokens of the 256 bytes,
 * whose ids are `byte_id`. The words are freed, unless training fails at once. Free merges->list with grdi_free(). */
grd_status grdi_bpe_train(grdi_words *words, const int32_t byte_id[256], size_t vocab_size, int64_t min_count,
                          grdi_vocab *vocab, grdi_merges *merges, grd_error *error);

#endif
