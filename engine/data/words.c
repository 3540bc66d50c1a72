/* words.c - the distinct pieces of a text and their counts. */
#include "data/words.h"

#include "base/log.h"
#include "base/memory.h"
#include "data/chunks.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <omp.h>
#include <string.h>

static grdi_word *place_of(const grdi_words *words, const uint8_t *data, size_t size_bytes, uint32_t hash)
{
    for (size_t at = hash & words->mask;; at = (at + 1) & words->mask) {
        grdi_word *word = &words->slots[at];
        if (word->count == 0 || (word->hash == hash && word->size_bytes == size_bytes &&
                                 memcmp(word->data, data, size_bytes) == 0))
            return word;
    }
}

static bool grow(grdi_words *words)
{
    size_t size = words->slots ? 2 * (words->mask + 1) : 4096;
    grdi_words larger = {grdi_alloc_zero(size, sizeof(*larger.slots)), size - 1, words->count, words->size_bytes};
    if (!larger.slots)
        return false;
    for (size_t i = 0; words->slots && i <= words->mask; i++) {
        const grdi_word *word = &words->slots[i];
        if (word->count == 0)
            continue;
        size_t at = word->hash & larger.mask;
        while (larger.slots[at].count != 0)
            at = (at + 1) & larger.mask;
        larger.slots[at] = *word;
    }
    grdi_free(words->slots);
    *words = larger;
    return true;
}

bool grdi_words_add(grdi_words *words, const uint8_t *data, size_t size_bytes, int64_t count)
{
    if ((!words->slots || 2 * words->count > words->mask) && !grow(words))
        return false;
    uint32_t hash = (uint32_t)XXH3_64bits(data, size_bytes);
    grdi_word *word = place_of(words, data, size_bytes, hash);
    if (word->count == 0) {
        *word = (grdi_word){data, (uint32_t)size_bytes, hash, 0};
        words->count++;
        words->size_bytes += size_bytes;
    }
    word->count += count;
    return true;
}

void grdi_words_free(grdi_words *words)
{
    grdi_free(words->slots);
    *words = (grdi_words){0};
}

static grd_status add_piece(void *context, const uint8_t *piece, size_t size_bytes, grd_error *error)
{
    for (size_t at = 0; at < size_bytes; at += GRDI_WORD_MAX) {
        size_t part = size_bytes - at < GRDI_WORD_MAX ? size_bytes - at : GRDI_WORD_MAX;
        if (!grdi_words_add(context, piece + at, part, 1))
            return grd_fail(error, GRD_E_MEMORY, "tokenizer: out of memory while counting words");
    }
    return GRD_OK;
}

/* Adds what `from` holds and frees it. */
static bool add_all(grdi_words *words, grdi_words *from)
{
    bool ok = true;
    for (size_t i = 0; from->slots && i <= from->mask && ok; i++)
        if (from->slots[i].count > 0)
            ok = grdi_words_add(words, from->slots[i].data, from->slots[i].size_bytes, from->slots[i].count);
    grdi_words_free(from);
    return ok;
}

/* Counts every `stride`-th part from `first` on. */
static grd_status count_parts(const grdi_splitter *splitter, const grdi_chunks *chunks, size_t first, size_t stride,
                              int team, grdi_words *words, grd_error *error)
{
    grd_status result = GRD_OK;
#pragma omp parallel num_threads(team)
    {
        grdi_words mine = {0};
        grdi_split_work *work;
        grd_error why = {0};
        grd_status status = grdi_split_work_new(splitter, &work, &why);
#pragma omp for schedule(dynamic, 1) nowait
        for (size_t i = first; i < chunks->count; i += stride)
            if (status == GRD_OK)
                status = grdi_split_text(splitter, work, chunks->parts[i].data, chunks->parts[i].size_bytes, add_piece,
                                         &mine, &why);
        grdi_split_work_free(work);
#pragma omp critical(grdi_words_merge)
        {
            if (status == GRD_OK && !words->slots) {
                *words = mine;
                mine = (grdi_words){0};
            } else if (status == GRD_OK && !add_all(words, &mine)) {
                status = grd_fail(&why, GRD_E_MEMORY, "tokenizer: out of memory while counting words");
            }
            if (status != GRD_OK && result == GRD_OK)
                result = grd_fail(error, status, "%s", why.message);
        }
        grdi_words_free(&mine);
    }
    return result;
}

/* A first round takes every stride-th part, each further one as many as all before it; a round cannot more than double
 * the distinct words, so that none is begun that might hold too many. Which parts are counted depends on the texts
 * alone. */
grd_status grdi_words_count(const grdi_splitter *splitter, const grd_text *texts, size_t count, int32_t threads,
                            grdi_words *words, grd_error *error)
{
    *words = (grdi_words){0};
    grdi_chunks chunks;
    grd_status status = grdi_chunks_make(GRDI_CUT_PIECES, splitter, texts, count, &chunks, error);
    int team = grdi_chunks_threads(&chunks, threads);
    size_t total = 0, stride = 1;
    for (size_t i = 0; i < count; i++)
        total += texts[i].size_bytes;
    size_t most = total / GRDI_WORDS_PART > GRDI_WORDS_BYTES ? total / GRDI_WORDS_PART : GRDI_WORDS_BYTES;
    while (total / stride > GRDI_WORDS_BYTES && 2 * stride <= chunks.count)
        stride *= 2;
    if (status == GRD_OK)
        status = count_parts(splitter, &chunks, 0, stride, team, words, error);
    for (; stride > 1 && 2 * words->size_bytes <= most && status == GRD_OK; stride /= 2)
        status = count_parts(splitter, &chunks, stride / 2, stride, team, words, error);
    if (stride > 1 && status == GRD_OK)
        grdi_log(GRDI_LOG_INFO, "tokenizer: trained on one part in %zu of the text (it has too many different words)",
                 stride);
    grdi_chunks_free(&chunks);
    if (status != GRD_OK)
        grdi_words_free(words);
    return status;
}
