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
    size_t mask, count;
} grdi_words;

/* Longer pieces are counted in parts of this size: a file without any space must not become one word, which each merge
 * would walk from end to end. */
enum { GRDI_WORD_MAX = 4096 };

bool grdi_words_add(grdi_words *words, const uint8_t *data, size_t size_bytes, int64_t count);
void grdi_words_free(grdi_words *words);

/* Counts the pieces of all texts, in `threads` threads (0: as many as OpenMP gives). The words point into the texts.
 * Their order in the table depends on the threads, the set does not. */
grd_status grdi_words_count(const grdi_splitter *splitter, const grd_text *texts, size_t count, int32_t threads,
                            grdi_words *words, grd_error *error);

#endif
