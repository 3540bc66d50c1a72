/* score.c - windows that overlap by half and score each token once. */
#include "data/corpus.h"
#include "data/tokenizer.h"
#include "data/utf8.h"

#include <string.h>

/* The scored sequence is the start token, if there is one, and then the ids. */
static int64_t sequence_length(const grd_score *score) { return score->ids->count + (score->start_id >= 0); }

/* From one window to the next: half a window, rounded down, but never nothing. */
static int64_t stride_of(int64_t context) { return context > 1 ? context / 2 : 1; }

static void read_sequence(const grd_score *score, int64_t first, int64_t count, int32_t *out)
{
    int64_t offset = score->start_id >= 0;
    if (count > 0 && first == 0 && offset) {
        *out++ = score->start_id;
        first++;
        count--;
    }
    grd_ids_read(score->ids, first - offset, count, out);
}

grd_status grd_score_ids(const grd_ids *ids, int64_t context, int32_t start_id, grd_score *score, grd_error *error)
{
    *score = (grd_score){.ids = ids, .context = context, .start_id = start_id < 0 ? -1 : start_id};
    if (context < 1)
        return grd_fail(error, GRD_E_ARGUMENT, "scoring: context %lld is not positive", (long long)context);
    score->tokens = sequence_length(score) - 1;
    if (score->tokens < 1)
        return grd_fail(error, GRD_E_ARGUMENT,
                        "scoring: the validation part has too few tokens (give a longer text, or raise "
                        "data.validation_part)");
    int64_t left = score->tokens - context, stride = stride_of(context);
    score->windows = left > 0 ? 1 + (left + stride - 1) / stride : 1;
    return GRD_OK;
}

/* Bytes of the text that the first id stands for. */
static int64_t first_bytes(const grd_corpus *corpus, grd_part part, const grd_tokenizer *t)
{
    const grd_text *text = corpus->part[part].texts;
    const uint8_t *bytes = text->data;
    int32_t id;
    uint32_t c;
    size_t size;
    grd_ids_read(&corpus->part[part].ids, 0, 1, &id);
    if (t->kind == GRD_TOKENIZER_CHAR && id == t->unknown_id) {
        int length = grdi_utf8_decode(bytes, text->size_bytes, &c);
        return length > 0 ? length : 1;
    }
    grdi_vocab_bytes(&t->vocab, id, &size);
    return (int64_t)size - (t->prefix_space && bytes[0] != ' ' && size > 0);
}

grd_status grd_score_corpus(const grd_corpus *corpus, grd_part part, const grd_tokenizer *tokenizer, int64_t context,
                            grd_score *score, grd_error *error)
{
    const grdi_corpus_part *from = &corpus->part[part];
    grd_status status = grd_score_ids(&from->ids, context, grd_tokenizer_end_of_text(tokenizer), score, error);
    if (status != GRD_OK)
        return status;
    if (from->ids.count == 0) /* only a start token */
        return grd_fail(error, GRD_E_ARGUMENT, "scoring: the part has no tokens (encode the corpus first)");
    score->separators = from->separators;
    score->separator_count = (int64_t)from->separator_count;
    score->tokens -= score->separator_count;
    score->size_bytes = corpus->info.size_bytes[part];
    if (score->start_id < 0)
        score->size_bytes -= first_bytes(corpus, part, tokenizer);
    return GRD_OK;
}

/* Takes targets [first, first + count) of the sequence out of the score where they are separators. */
static void ignore_separators(const grd_score *score, int64_t first, int64_t count, int32_t *targets)
{
    int64_t offset = score->start_id >= 0, low = 0, high = score->separator_count;
    while (low < high) { /* the first separator at or after `first` */
        int64_t middle = low + (high - low) / 2;
        if (score->separators[middle] + offset < first)
            low = middle + 1;
        else
            high = middle;
    }
    for (; low < score->separator_count && score->separators[low] + offset < first + count; low++)
        targets[score->separators[low] + offset - first] = GRD_IGNORE;
}

void grd_score_get(const grd_score *score, int64_t index, int32_t *inputs, int32_t *targets)
{
    int64_t context = score->context, stride = stride_of(context), filled = 0;
    if (index >= 0 && index < score->windows) {
        int64_t start = index * stride, left = sequence_length(score) - 1 - start;
        filled = left < context ? left : context;
        read_sequence(score, start, filled, inputs);
        read_sequence(score, start + 1, filled, targets);
        ignore_separators(score, start + 1, filled, targets);
        for (int64_t i = 0; index > 0 && i < context - stride && i < filled; i++)
            targets[i] = GRD_IGNORE; /* scored by the window before */
    }
    for (int64_t i = filled; i < context; i++) {
        inputs[i] = 0;
        targets[i] = GRD_IGNORE;
    }
}
