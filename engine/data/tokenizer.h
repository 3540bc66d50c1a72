/* tokenizer.h - what a tokenizer is made of; shared by training, encoding, reading and writing. */
#ifndef GRDI_TOKENIZER_H
#define GRDI_TOKENIZER_H

#include "base/file.h"
#include "data/bpe_train.h"
#include "data/map.h"
#include "data/split.h"
#include "data/vocab.h"

#include <gradus/data.h>

/* A token that is found in the text before anything else is done with it. Its content is that of its id. */
typedef struct grdi_added {
    int32_t id;
    bool special;
    bool normalized;   /* searched for after those that are not */
    bool strips_left;  /* takes the white space before it along */
    bool strips_right; /* and after it */
} grdi_added;

struct grd_tokenizer {
    grd_tokenizer_kind kind;
    grd_pattern pattern;          /* of a trained tokenizer; writing needs it */
    grdi_vocab vocab;
    int32_t byte_id[256];         /* bpe, byte; -1: no token */
    grdi_merges merges;           /* by rank */
    grdi_map rank_of;             /* pair -> rank */
    grdi_splitter *splitter;      /* bpe; NULL where a text is one piece */
    grdi_map char_id;             /* char: code point -> id */
    int32_t unknown_id;           /* for what has no token; -1: then that is an error */
    bool prefix_space;            /* a space goes before text that does not begin with one */
    bool composed;                /* text is brought into Unicode's normal form C first */
    bool whole_pieces;            /* a piece that is a token is that token, whatever the merges say (ignore_merges) */
    grdi_added *added;            /* longest first */
    size_t added_count, added_capacity;
    uint8_t added_start[8192];    /* bit first * 256 + second: an added token begins with these bytes */
    int added_first;              /* the byte that all of them begin with, or -1 */
    int32_t *before, *after;      /* ids that the template puts around a text */
    size_t before_count, after_count;
    char *source;                 /* the file it was read from; NULL when trained */
    size_t source_bytes;
};

extern const char grdi_end_of_text_names[5][16];

grd_tokenizer *grdi_tokenizer_new(grd_error *error);
/* Adds a token that is searched for in texts; its content is already in the vocabulary. */
bool grdi_tokenizer_add(grd_tokenizer *tokenizer, grdi_added added);
/* To be called when all tokens and merges are there: builds what encoding looks things up in. */
grd_status grdi_tokenizer_finish(grd_tokenizer *tokenizer, grd_error *error);
/* A tokenizer from the text of a tokenizer.json; `path` names it in messages. */
grd_status grdi_tokenizer_parse(const char *text, size_t size_bytes, const char *path, grd_tokenizer **tokenizer,
                                grd_error *error);
/* Fills char_id from the tokens that are one character. */
bool grdi_tokenizer_index_chars(grd_tokenizer *tokenizer);

/* Encodes several texts one after the other. Between two that are not empty goes `separator` (-1: nothing), whose
 * positions go to *separators (may be NULL; free with grdi_free()). */
typedef struct grdi_encoding {
    const grd_text *texts;
    size_t count;
    int32_t separator;
    bool plain, template_ids;
    bool mapped;         /* the texts lie in mapped files, whose pages are given back as soon as they are encoded */
    int32_t threads;
    const char *scratch; /* NULL, or a directory: the ids lie in a file there that has no name, mapped read-only */
    grdi_mapping file;   /* out: that file; then ids->data points into it and is not to be freed */
    int64_t *separators; /* out */
    size_t separator_count, separator_capacity;
} grdi_encoding;
grd_status grdi_encode(const grd_tokenizer *tokenizer, grdi_encoding *what, grd_ids *ids, grd_error *error);

#endif
