/* evaluate.c - loss and bits per byte of the validation part: each token scored once, see grd_score. */
#include "train/session.h"

#include "base/memory.h"

#include <math.h>

static grd_status find_score(grdi_session *s, grd_score *score)
{
    int64_t context = s->settings->model.gpt.context;
    if (s->corpus) return grd_score_corpus(s->corpus, GRD_VALIDATION, s->tokenizer, context, score, s->error);
    if (!s->shard_ids.count) {
        size_t count = grd_tokens_count(s->shards[1][0]);
        int32_t *ids = grdi_alloc(count * sizeof(int32_t));
        if (!ids) return grd_fail(s->error, GRD_E_MEMORY, "out of memory for validation tokens");
        grd_status status = grd_tokens_read(s->shards[1][0], 0, count, ids, s->error);
        if (status) {
            grdi_free(ids);
            return status;
        }
        s->shard_ids = (grd_ids){ids, (int64_t)count, 4};
    }
    return grd_score_ids(&s->shard_ids, context, -1, score, s->error);
}

grd_status grdi_session_evaluate(grdi_session *s, grd_event *event)
{
    grd_score score;
    grd_status status = find_score(s, &score);
    if (status) return status;
    int64_t batch = s->settings->train.batch, context = s->settings->model.gpt.context, count = batch * context;
    int32_t *inputs = s->eval_inputs, *targets = s->eval_inputs + count;
    double nats = 0;
    for (int64_t first = 0; first < score.windows; first += batch) {
        for (int64_t b = 0; b < batch; b++)
            grd_score_get(&score, first + b, inputs + b * context, targets + b * context);
        grd_program_feed(s->eval, s->eval_ids, inputs);
        grd_program_feed(s->eval, s->eval_targets, targets);
        status = grd_program_run(s->eval);
        if (!status) status = grd_program_read(s->eval, s->eval_losses, s->eval_values);
        if (status) return grd_fail(s->error, status, "%s", grd_program_error(s->eval)->message);
        for (int64_t i = 0; i < count; i++)
            if (targets[i] != GRD_IGNORE) nats += s->eval_values[i];
    }
    *event = (grd_event){.kind = GRD_EVENT_EVAL, .step = s->done, .tokens = score.tokens};
    event->loss = nats / (double)score.tokens;
    event->bits_per_byte = score.size_bytes ? nats / log(2.0) / (double)score.size_bytes : NAN;
    return GRD_OK;
}
