/* scores.c - the windows of several texts, numbered through. */
#include "data/scores.h"

#include "base/memory.h"
#include "formats/tokens.h"

static grd_status reserve(grdi_scores *scores, size_t count, int64_t context, grd_error *error)
{
    *scores = (grdi_scores){.context = context};
    scores->list = grdi_alloc_zero(count, sizeof(*scores->list));
    scores->ids = grdi_alloc_zero(count, sizeof(*scores->ids));
    if (scores->list && scores->ids)
        return GRD_OK;
    grdi_scores_free(scores);
    return grd_fail(error, GRD_E_MEMORY, "scoring: out of memory");
}

/* The score at `count` is there: it counts from now on. */
static void add_last(grdi_scores *scores)
{
    const grd_score *score = &scores->list[scores->count++];
    scores->windows += score->windows;
    scores->tokens += score->tokens;
    scores->size_bytes += score->size_bytes;
}

grd_status grdi_scores_of_corpus(const grd_corpus *corpus, grd_part part, const grd_tokenizer *tokenizer,
                                 int64_t context, grdi_scores *scores, grd_error *error)
{
    grd_status status = reserve(scores, 1, context, error);
    if (status == GRD_OK)
        status = grd_score_corpus(corpus, part, tokenizer, context, &scores->list[0], error);
    if (status == GRD_OK)
        add_last(scores);
    else
        grdi_scores_free(scores);
    return status;
}

grd_status grdi_scores_of_shards(grd_tokens *const *shards, size_t count, int64_t context, grdi_scores *scores,
                                 grd_error *error)
{
    grd_error first = {GRD_OK, ""};
    grd_status status = reserve(scores, count, context, error);
    for (size_t i = 0; i < count && status == GRD_OK; i++) {
        grd_ids *ids = &scores->ids[scores->count];
        *ids = grdi_tokens_view(shards[i]);
        if (grd_score_ids(ids, context, -1, &scores->list[scores->count], &first) == GRD_OK)
            add_last(scores);
    }
    if (status == GRD_OK && scores->count == 0)
        status = grd_fail(error, first.status ? first.status : GRD_E_ARGUMENT, "%s",
                          first.status ? first.message : "scoring: there are no token shards");
    if (status != GRD_OK)
        grdi_scores_free(scores);
    return status;
}

void grdi_scores_free(grdi_scores *scores)
{
    grdi_free(scores->list);
    grdi_free(scores->ids);
    *scores = (grdi_scores){0};
}

void grdi_scores_get(const grdi_scores *scores, int64_t index, int32_t *inputs, int32_t *targets)
{
    size_t i = 0;
    while (i + 1 < scores->count && index >= scores->list[i].windows)
        index -= scores->list[i++].windows;
    grd_score_get(&scores->list[i], index, inputs, targets);
}
