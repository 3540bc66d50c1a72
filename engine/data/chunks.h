/* chunks.h - a text in parts that threads take one after the other. */
#ifndef GRDI_CHUNKS_H
#define GRDI_CHUNKS_H

#include "data/split.h"

#include <gradus/data.h>

/* Large enough that starting a part costs nothing beside it, small enough for its ids to stay in the cache. */
enum { GRDI_CHUNK_BYTES = 1 << 18 };

typedef struct grdi_chunks {
    grd_text *parts;
    size_t *text_of; /* which text each part comes from */
    size_t count, capacity, text_capacity;
} grdi_chunks;

/* Where a text may be cut. */
typedef enum grdi_cut {
    GRDI_CUT_NEVER,
    GRDI_CUT_PIECES, /* where the splitter says */
    GRDI_CUT_WORDS,  /* the same, but a piece that is longer than a part is cut between characters */
    GRDI_CUT_SPACES, /* before a space or a line end */
    GRDI_CUT_CHARS   /* before any character */
} grdi_cut;

/* Cuts every text into parts of about GRDI_CHUNK_BYTES. Empty texts have no part. */
grd_status grdi_chunks_make(grdi_cut cut, const grdi_splitter *splitter, const grd_text *texts, size_t count,
                            grdi_chunks *chunks, grd_error *error);
void grdi_chunks_free(grdi_chunks *chunks);
/* How many threads to start: what was asked for (0: OpenMP's number), but no more than there are parts. */
int grdi_chunks_threads(const grdi_chunks *chunks, int32_t threads);

#endif
