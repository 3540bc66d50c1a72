/* evaluate.c - loss and bits per byte of the validation part: each token scored once, see grd_score. */
#include "train/session.h"

#include "base/memory.h"
#include "data/scores.h"

#include <math.h>

static grd_status find_scores(grdi_session *s, grdi_scores *scores)
{
    int64_t context = s->settings->model.gpt.context;
    if (s->corpus) return grdi_scores_of_corpus(s->corpus, GRD_VALIDATION, s->tokenizer, context, scores, s->error);
    return grdi_scores_of_shards(s->shards[1], s->shard_count[1], context, scores, s->error);
}

/* Scores the windows chosen[0..count), adds up nats and tokens. Windows that do not exist fill the last batch. */
static grd_status score_batch(grdi_session *s, const grdi_scores *scores, const int64_t *chosen, double *nats,
                              int64_t *tokens)
{
    int64_t batch = s->settings->train.batch, context = s->settings->model.gpt.context, count = batch * context;
    int32_t *inputs = s->eval_inputs, *targets = s->eval_inputs + count;
    for (int64_t b = 0; b < batch; b++) grdi_scores_get(scores, chosen[b], inputs + b * context, targets + b * context);
    grd_program_feed(s->eval, s->eval_ids, inputs);
    grd_program_feed(s->eval, s->eval_targets, targets);
    grd_status status = grd_program_run(s->eval);
    if (!status) status = grd_program_read(s->eval, s->eval_losses, s->eval_values);
    if (status) return grd_fail(s->error, status, "%s", grd_program_error(s->eval)->message);
    for (int64_t i = 0; i < count; i++) {
        if (targets[i] == GRD_IGNORE) continue;
        *nats += s->eval_values[i];
        ++*tokens;
    }
    return GRD_OK;
}

grd_status grdi_session_evaluate(grdi_session *s, int64_t most, grd_event *event)
{
    grdi_scores scores;
    *event = (grd_event){.kind = GRD_EVENT_EVAL, .step = s->done};
    grd_status status = find_scores(s, &scores);
    if (status) return status;
    int64_t batch = s->settings->train.batch, tokens = 0;
    int64_t windows = most > 0 && most < scores.windows ? most : scores.windows;
    int64_t *chosen = grdi_alloc((size_t)batch * sizeof(int64_t));
    double nats = 0;
    if (!chosen) status = grd_fail(s->error, GRD_E_MEMORY, "out of memory for evaluation");
    for (int64_t first = 0; !status && first < windows; first += batch) {
        if (grdi_session_asked_to_stop(s)) break;
        for (int64_t b = 0; b < batch; b++) /* spread evenly; past the last one there is none */
            chosen[b] = first + b < windows ? (first + b) * scores.windows / windows : scores.windows;
        status = score_batch(s, &scores, chosen, &nats, &tokens);
    }
    grdi_free(chosen);
    if (!status && !grdi_session_asked_to_stop(s)) {
        event->tokens = tokens;
        event->part = (double)windows / (double)scores.windows;
        event->loss = nats / (double)tokens;
        /* of a part: its loss, with the tokens and bytes of the whole */
        event->bits_per_byte =
            scores.size_bytes ? event->loss * (double)scores.tokens / log(2.0) / (double)scores.size_bytes : NAN;
    }
    grdi_scores_free(&scores);
    return status;
}
