/* scores.h - the windows of several texts as if they were one: each keeps its own, and all are numbered through. */
#ifndef GRDI_SCORES_H
#define GRDI_SCORES_H

#include <gradus/data.h>

typedef struct grdi_scores {
    grd_score *list;    /* of the texts that can be scored */
    grd_ids *ids;       /* where these are views of token shards: theirs */
    size_t count;
    int64_t context;
    int64_t windows, tokens, size_bytes; /* of all together; size_bytes 0: not known */
} grdi_scores;

/* The windows of one part of a corpus, as of grd_score_corpus(). */
grd_status grdi_scores_of_corpus(const grd_corpus *corpus, grd_part part, const grd_tokenizer *tokenizer,
                                 int64_t context, grdi_scores *scores, grd_error *error);
/* Those of token shards, as of grd_score_ids(); shards too short to be scored are passed over, unless all are. */
grd_status grdi_scores_of_shards(grd_tokens *const *shards, size_t count, int64_t context, grdi_scores *scores,
                                 grd_error *error);
void grdi_scores_free(grdi_scores *scores);
/* Window `index` of all, as of grd_score_get(). */
void grdi_scores_get(const grdi_scores *scores, int64_t index, int32_t *inputs, int32_t *targets);

#endif
