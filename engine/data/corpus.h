/* corpus.h - what a corpus holds; the scoring windows look into it. */
#ifndef GRDI_CORPUS_H
#define GRDI_CORPUS_H

#include "base/file.h"

#include <gradus/data.h>

typedef struct grdi_corpus_part {
    grd_text *texts;      /* inside grd_corpus.texts, or the halves of the only one */
    size_t count;
    grd_ids ids;
    grdi_mapping file;    /* where the ids lie when that is not memory */
    int64_t *separators;  /* positions of the end-of-text tokens put between texts */
    size_t separator_count;
} grdi_corpus_part;

struct grd_corpus {
    grdi_mapping *files;  /* one for each text, in the same order; of a gathered one, no data and its place there */
    grdi_mapping gathered; /* the texts of small files, where there are too many to map each */
    int gathering;        /* descriptor of the file without a name that they go into; -1: none yet */
    size_t gathered_bytes;
    grd_text *texts;
    size_t count, file_capacity, text_capacity;
    grd_text halves[2];   /* where one text is split */
    grdi_corpus_part part[2];
    grd_corpus_info info;
    char skipped[GRD_MESSAGE_MAX]; /* about the first of info.skipped_files */
    char invalid[GRD_MESSAGE_MAX]; /* where the first of info.invalid_files is not UTF-8 */
    int32_t threads;
    char *scratch;        /* directory for the ids, or NULL */
    int64_t scratch_from; /* bytes of text from which on it is used */
};

/* Of a folder's files, so many are mapped, and further ones only if they are large: a process may have some 65,000
 * mappings. */
enum { GRDI_CORPUS_MAPPED = 1024, GRDI_CORPUS_SMALL_BYTES = 1 << 20 };

/* Encodes one part only. */
grd_status grdi_corpus_encode_part(grd_corpus *corpus, grd_part part, const grd_tokenizer *tokenizer, grd_error *error);

#endif
