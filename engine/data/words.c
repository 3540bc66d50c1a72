/* words.c - the distinct pieces of a text and their counts. */
#include "data/words.h"

#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "data/chunks.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <omp.h>
#include <string.h>

/* A block is mapped, so that only the pages that words lie in take memory, and all of it goes back at once. */
enum { BLOCK_BITS = 18, BLOCK_BYTES = 1 << BLOCK_BITS, BLOCKS_MAX = 1 << (32 - BLOCK_BITS) };

struct grdi_words_block {
    size_t used; /* of bytes */
    uint8_t bytes[BLOCK_BYTES - sizeof(size_t)];
};

typedef struct word_head {
    int64_t count;
    uint32_t size_bytes;
} __attribute__((packed)) word_head;

static word_head *head_at(const grdi_words *words, uint32_t place)
{
    return (word_head *)(words->blocks[place >> BLOCK_BITS]->bytes + (place & (BLOCK_BYTES - 1)));
}

static grdi_words_slot *slot_of(const grdi_words *words, const uint8_t *data, size_t size_bytes, uint32_t hash)
{
    for (size_t at = hash & words->mask;; at = (at + 1) & words->mask) {
        grdi_words_slot *slot = &words->slots[at];
        if (slot->place == 0)
            return slot;
        if (slot->hash != hash)
            continue;
        const word_head *head = head_at(words, slot->place - 1);
        if (head->size_bytes == size_bytes && memcmp(head + 1, data, size_bytes) == 0)
            return slot;
    }
}

static bool grow(grdi_words *words)
{
    size_t size = words->slots ? 2 * (words->mask + 1) : 4096, mask = size - 1;
    grdi_words_slot *larger = grdi_alloc_zero(size, sizeof(*larger));
    if (!larger)
        return false;
    for (size_t i = 0; words->slots && i <= words->mask; i++) {
        if (words->slots[i].place == 0)
            continue;
        size_t at = words->slots[i].hash & mask;
        while (larger[at].place != 0)
            at = (at + 1) & mask;
        larger[at] = words->slots[i];
    }
    grdi_free(words->slots);
    words->slots = larger;
    words->mask = mask;
    return true;
}

/* Room for a word: its place, or UINT32_MAX when out of memory. */
static uint32_t take_place(grdi_words *words, size_t size_bytes)
{
    size_t needed = sizeof(word_head) + size_bytes;
    struct grdi_words_block *block = words->block_count ? words->blocks[words->block_count - 1] : NULL;
    if (!block || sizeof(block->bytes) - block->used < needed) {
        if (words->block_count == BLOCKS_MAX - 1 ||
            !GRDI_GROW(words->blocks, words->block_capacity, words->block_count) ||
            !(block = grdi_memory.map(sizeof(*block))))
            return UINT32_MAX;
        words->blocks[words->block_count++] = block;
    }
    uint32_t place = (uint32_t)((words->block_count - 1) << BLOCK_BITS | block->used);
    block->used += needed;
    return place;
}

bool grdi_words_add(grdi_words *words, const uint8_t *data, size_t size_bytes, int64_t count)
{
    if ((!words->slots || 4 * words->count >= 3 * words->mask) && !grow(words))
        return false;
    uint32_t hash = (uint32_t)XXH3_64bits(data, size_bytes);
    grdi_words_slot *slot = slot_of(words, data, size_bytes, hash);
    if (slot->place == 0) {
        uint32_t place = take_place(words, size_bytes);
        if (place == UINT32_MAX)
            return false;
        word_head *head = head_at(words, place);
        *head = (word_head){0, (uint32_t)size_bytes};
        memcpy(head + 1, data, size_bytes);
        *slot = (grdi_words_slot){place + 1, hash};
        words->count++;
        words->size_bytes += size_bytes;
    }
    head_at(words, slot->place - 1)->count += count;
    return true;
}

bool grdi_words_next(const grdi_words *words, grdi_words_at *at, grdi_word *word)
{
    while (at->block < words->block_count && at->offset == words->blocks[at->block]->used)
        *at = (grdi_words_at){at->block + 1, 0};
    if (at->block == words->block_count)
        return false;
    const word_head *head = head_at(words, (uint32_t)(at->block << BLOCK_BITS | at->offset));
    *word = (grdi_word){(const uint8_t *)(head + 1), head->size_bytes, head->count};
    at->offset += sizeof(*head) + head->size_bytes;
    return true;
}

void grdi_words_close(grdi_words *words)
{
    grdi_free(words->slots);
    words->slots = NULL;
}

void grdi_words_free(grdi_words *words)
{
    for (size_t i = 0; i < words->block_count; i++)
        grdi_memory.unmap(words->blocks[i], sizeof(*words->blocks[i]));
    grdi_free(words->blocks);
    grdi_free(words->slots);
    *words = (grdi_words){0};
}

/* ---- texts ---- */

/* What one thread has counted and not yet added to the words of all. Beyond this many bytes it is. */
enum { OWN_BYTES = 1 << 19 };

typedef struct counting {
    grdi_words own, *all;
} counting;

static grd_status out_of_memory(grd_error *error)
{
    return grd_fail(error, GRD_E_MEMORY, "tokenizer: out of memory while counting words");
}

/* Adds what one thread has to the words of all, and empties it. */
static bool hand_over(counting *c)
{
    bool ok = true;
#pragma omp critical(grdi_words_merge)
    {
        grdi_words_at at = {0, 0};
        grdi_word word;
        while (ok && grdi_words_next(&c->own, &at, &word))
            ok = grdi_words_add(c->all, word.data, word.size_bytes, word.count);
    }
    grdi_words_free(&c->own);
    return ok;
}

static grd_status add_piece(void *context, const uint8_t *piece, size_t size_bytes, grd_error *error)
{
    counting *c = context;
    for (size_t at = 0; at < size_bytes; at += GRDI_WORD_MAX) {
        size_t part = size_bytes - at < GRDI_WORD_MAX ? size_bytes - at : GRDI_WORD_MAX;
        if (!grdi_words_add(&c->own, piece + at, part, 1) || (c->own.size_bytes > OWN_BYTES && !hand_over(c)))
            return out_of_memory(error);
    }
    return GRD_OK;
}

/* Counts every `stride`-th part from `first` on. */
static grd_status count_parts(const grdi_splitter *splitter, const grdi_chunks *chunks, size_t first, size_t stride,
                              int team, bool mapped, grdi_words *words, grd_error *error)
{
    grd_status result = GRD_OK;
#pragma omp parallel num_threads(team)
    {
        counting mine = {.all = words};
        grdi_split_work *work;
        grd_error why = {0};
        grd_status status = grdi_split_work_new(splitter, &work, &why);
#pragma omp for schedule(dynamic, 1) nowait
        for (size_t i = first; i < chunks->count; i += stride) {
            const grd_text *part = &chunks->parts[i];
            if (status == GRD_OK)
                status = grdi_split_text(splitter, work, part->data, part->size_bytes, add_piece, &mine, &why);
            if (mapped)
                grdi_file.release((void *)part->data, part->size_bytes);
        }
        grdi_split_work_free(work);
        if (status == GRD_OK && !hand_over(&mine))
            status = out_of_memory(&why);
        grdi_words_free(&mine.own);
#pragma omp critical(grdi_words_failed)
        if (status != GRD_OK && result == GRD_OK)
            result = grd_fail(error, status, "%s", why.message);
    }
    return result;
}

/* How many bytes of distinct words a text of `total` bytes may have. */
static size_t most_words(size_t total, bool whole)
{
    size_t most = total / GRDI_WORDS_PART > GRDI_WORDS_BYTES ? total / GRDI_WORDS_PART : GRDI_WORDS_BYTES;
    if (whole)
        return SIZE_MAX;
    return most < GRDI_WORDS_BYTES_MAX ? most : GRDI_WORDS_BYTES_MAX;
}

/* A first round takes every stride-th part, each further one as many as all before it. None is begun that might bring
 * too many distinct words: a round adds at most as many as all before it, and as words repeat themselves the more
 * the longer a text is, at most in the measure that the last one did. Which parts are counted depends on the texts
 * alone. */
grd_status grdi_words_count(const grdi_splitter *splitter, const grdi_words_source *source, grdi_words *words,
                            grd_error *error)
{
    *words = (grdi_words){0};
    grdi_chunks chunks;
    grd_status status = grdi_chunks_make(GRDI_CUT_WORDS, splitter, source->texts, source->count, &chunks, error);
    int team = grdi_chunks_threads(&chunks, source->threads);
    size_t total = 0, stride = 1;
    for (size_t i = 0; i < source->count; i++) {
        total += source->texts[i].size_bytes;
        if (source->mapped) /* looking for cuts has read some of it */
            grdi_file.release((void *)source->texts[i].data, source->texts[i].size_bytes);
    }
    size_t most = most_words(total, source->whole);
    while (total / stride > most && 2 * stride <= chunks.count)
        stride *= 2;
    double growth = 2;
    if (status == GRD_OK)
        status = count_parts(splitter, &chunks, 0, stride, team, source->mapped, words, error);
    while (stride > 1 && growth * (double)words->size_bytes <= (double)most && status == GRD_OK) {
        double before = (double)words->size_bytes;
        status = count_parts(splitter, &chunks, stride / 2, stride, team, source->mapped, words, error);
        growth = before > 0 ? (double)words->size_bytes / before : 2;
        stride /= 2;
    }
    if (stride > 1 && status == GRD_OK)
        grdi_log(GRDI_LOG_INFO, "tokenizer: trained on one part in %zu of the text (it has too many different words)",
                 stride);
    grdi_chunks_free(&chunks);
    grdi_words_close(words);
    if (status != GRD_OK)
        grdi_words_free(words);
    return status;
}
