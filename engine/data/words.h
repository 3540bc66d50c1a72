/* words.h - counting the distinct pieces of a text. */
#ifndef GRDI_WORDS_H
#define GRDI_WORDS_H

#include "data/split.h"

#include <gradus/data.h>

typedef struct grdi_words_slot {
    uint32_t place; /* plus one, of the word in the blocks; 0 marks an empty slot */
    uint32_t hash;
} grdi_words_slot;

/* A set of pieces with their counts: the words lie one after the other in blocks, as count, size and bytes, and a table
 * of slots finds them. Zeroed means empty. */
typedef struct grdi_words {
    grdi_words_slot *slots;
    size_t mask;
    struct grdi_words_block **blocks;
    size_t block_count, block_capacity;
    size_t count, size_bytes; /* of the distinct pieces together */
} grdi_words;

typedef struct grdi_word {
    const uint8_t *data; /* in the blocks */
    uint32_t size_bytes;
    int64_t count;
} grdi_word;

/* Longer pieces are counted in parts of this size: a file without any space must not become one word, which each merge
 * would walk from end to end. */
enum { GRDI_WORD_MAX = 4096 };

bool grdi_words_add(grdi_words *words, const uint8_t *data, size_t size_bytes, int64_t count);
/* Gives back what finds words; those that are there can only be gone through then. */
void grdi_words_close(grdi_words *words);
void grdi_words_free(grdi_words *words);

/* Goes through the words in the order that they came in: `at` begins zeroed; false after the last. */
typedef struct grdi_words_at {
    size_t block, offset;
} grdi_words_at;
bool grdi_words_next(const grdi_words *words, grdi_words_at *at, grdi_word *word);

/* How large the distinct pieces may become: this many bytes, and in larger texts this part of the text, but never more
 * than the last. A byte of them costs 12 to 24 in training, so that twice the text is enough. */
enum { GRDI_WORDS_BYTES = 3 << 18, GRDI_WORDS_PART = 12, GRDI_WORDS_BYTES_MAX = 512 << 20 };

/* What is counted, in `threads` threads (0: as many as OpenMP gives). `mapped` texts lie in mapped files, whose pages
 * are given back as soon as they are counted. */
typedef struct grdi_words_source {
    const grd_text *texts;
    size_t count;
    int32_t threads;
    bool mapped, whole; /* whole: however many pieces there are */
} grdi_words_source;

/* Counts the pieces of all texts. The order of the words depends on the threads, the set does not. Of a large text with
 * more distinct pieces than fit (random words, genomes, languages without spaces), a sample of its parts is counted,
 * spread evenly. */
grd_status grdi_words_count(const grdi_splitter *splitter, const grdi_words_source *source, grdi_words *words,
                            grd_error *error);

#endif
