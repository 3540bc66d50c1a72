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
    grdi_mapping *files;  /* one for each text, in the same order */
    grd_text *texts;
    size_t count, file_capacity, text_capacity;
    grd_text halves[2];   /* where one text is split */
    grdi_corpus_part part[2];
    grd_corpus_info info;
    char skipped[GRD_MESSAGE_MAX]; /* about the first of info.skipped_files */
    int32_t threads;
    char *scratch;        /* directory for the ids, or NULL */
    int64_t scratch_from; /* bytes of text from which on it is used */
};

#endif
