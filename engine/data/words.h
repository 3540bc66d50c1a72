/* words.h - counting the distinct pieces of a text. */
#ifndef GRDI_WORDS_H
#define GRDI_WORDS_H

#include "data/split.h"

#include <gradus/data.h>

typedef struct grdi_word {
    const uint8_t *data; /* in the text that was counted */
    uint32_t size_bytes;
    uint32_t hash;
    int64_t count;       /* 0 marks an empty slot */
} grdi_word;

/* A set of pieces with their counts. Zeroed means empty. */
typedef struct grdi_words {
    grdi_word *slots;
    size_t mask, count, size_bytes; /* size_bytes: of the distinct pieces together */
} grdi_words;

/* Longer pieces are counted in parts of this size: a file without any space must not become one word, which each merge
 * would walk from end to end. */
enum { GRDI_WORD_MAX = 4096 };

bool grdi_words_add(grdi_words *words, const uint8_t *data, size_t size_bytes, int64_t count);
void grdi_words_free(grdi_words *words);

/* How large the distinct pieces may become: this many bytes, and in larger texts this part of the text. A byte of them
 * costs up to 30 in this table and in training. */
enum { GRDI_WORDS_BYTES = 16 << 20, GRDI_WORDS_PART = 32 };

/* Counts the pieces of all texts, in `threads` threads (0: as many as OpenMP gives). The words point into the texts.
 * Their order in the table depends on the threads, the set does not. Of a large text with more distinct pieces than
 * fit (random words, genomes), a sample of its parts is counted, spread evenly. */
grd_status grdi_words_count(const grdi_splitter *splitter, const grd_text *texts, size_t count, int32_t threads,
                            grdi_words *words, grd_error *error);

#endif
