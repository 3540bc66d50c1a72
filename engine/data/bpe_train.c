/* bpe_train.c - byte-pair training (Sennrich et al. 2016, "Neural machine translation of rare words with subword
 * units").
 *
 * Words are arrays of ids; each pair of neighbours has its count and, in the heap, lists of the words it was seen in.
 * One merge looks only at those words. To give the same ids as Hugging Face `tokenizers`, the order of its heap is kept
 * even where it is not the plain one: a pair that turns up again in other words (when two merges make the same token)
 * gets a second entry with a list of its own, an entry keeps the count it was made with until it comes to the top, and
 * the count of a pair is not reduced by its own merge. */
#include "data/bpe_train.h"

#include "base/memory.h"
#include "data/map.h"

#include <string.h>

typedef struct word {
    size_t start;    /* in trainer.symbols */
    uint32_t length;
    int64_t count;
} word;

typedef struct pair {
    uint64_t key;
    int64_t count;
    uint64_t mark;     /* the last visit to a word that listed the word for this pair */
    uint32_t pending;  /* words listed since the last entry was made */
    uint32_t *next;    /* where the next of them goes */
} pair;

typedef struct entry {
    int64_t count;
    uint64_t key;
    uint32_t pair;     /* index of the pair */
    uint32_t length;   /* words in the list */
    uint32_t *words;
} entry;

typedef struct listing {
    uint32_t pair, word;
} listing;

typedef struct trainer {
    uint32_t *symbols;
    size_t symbol_count;
    word *words;
    size_t word_count;
    grdi_map pair_of;
    pair *pairs;
    size_t pair_count, pair_capacity;
    uint32_t *lists, *lists_end; /* where word lists are laid, one after the other */
    size_t lists_bytes;
    entry *heap;
    size_t heap_count, heap_capacity;
    listing *listings;           /* pairs that one merge made, with their words */
    size_t listing_count, listing_capacity;
    uint32_t *touched;           /* the distinct pairs among them */
    size_t touched_count, touched_capacity;
    uint64_t visit;
} trainer;

static grd_status out_of_memory(grd_error *error)
{
    return grd_fail(error, GRD_E_MEMORY, "tokenizer: out of memory while training");
}

/* ---- the heap: a maximum by count, then by lower ids; four children to a node ---- */

static bool above(const entry *a, const entry *b)
{
    return a->count != b->count ? a->count > b->count : a->key < b->key;
}

static void sift_up(entry *heap, size_t at)
{
    entry moving = heap[at];
    while (at > 0 && above(&moving, &heap[(at - 1) / 4])) {
        heap[at] = heap[(at - 1) / 4];
        at = (at - 1) / 4;
    }
    heap[at] = moving;
}

static void sift_down(entry *heap, size_t count, size_t at)
{
    entry moving = heap[at];
    for (size_t child; (child = 4 * at + 1) < count; at = child) {
        size_t end = child + 4 < count ? child + 4 : count;
        for (size_t other = child + 1; other < end; other++)
            if (above(&heap[other], &heap[child]))
                child = other;
        if (!above(&heap[child], &moving))
            break;
        heap[at] = heap[child];
    }
    heap[at] = moving;
}

static bool push(trainer *t, entry made)
{
    if (!GRDI_GROW(t->heap, t->heap_capacity, t->heap_count))
        return false;
    t->heap[t->heap_count] = made;
    sift_up(t->heap, t->heap_count++);
    return true;
}

static entry pop(trainer *t)
{
    entry top = t->heap[0];
    t->heap[0] = t->heap[--t->heap_count];
    if (t->heap_count > 0)
        sift_down(t->heap, t->heap_count, 0);
    return top;
}

/* ---- pairs ---- */

/* Adds to the count of a pair in a word; when it rises, lists the word once per visit. False when out of memory. */
static bool change(trainer *t, uint32_t a, uint32_t b, int sign, uint32_t word_index)
{
    uint64_t key = GRDI_PAIR(a, b);
    uint32_t *index = grdi_map_put(&t->pair_of, key, (uint32_t)t->pair_count);
    if (!index)
        return false;
    if (*index == t->pair_count) {
        if (!GRDI_GROW(t->pairs, t->pair_capacity, t->pair_count))
            return false;
        t->pairs[t->pair_count++] = (pair){.key = key};
    }
    pair *p = &t->pairs[*index];
    p->count += sign * t->words[word_index].count;
    if (sign < 0 || p->mark == t->visit)
        return true;
    p->mark = t->visit;
    if (!GRDI_GROW(t->listings, t->listing_capacity, t->listing_count))
        return false;
    t->listings[t->listing_count++] = (listing){*index, word_index};
    if (p->pending++ > 0)
        return true;
    if (!GRDI_GROW(t->touched, t->touched_capacity, t->touched_count))
        return false;
    t->touched[t->touched_count++] = *index;
    return true;
}

/* Makes heap entries of the pairs that were listed. */
static bool enter_listed(trainer *t)
{
    for (size_t i = 0; i < t->touched_count; i++) {
        pair *p = &t->pairs[t->touched[i]];
        entry made = {p->count, p->key, t->touched[i], p->pending, t->lists_end};
        p->next = t->lists_end;
        t->lists_end += p->pending;
        p->pending = 0;
        if (p->count > 0 && !push(t, made))
            return false;
    }
    for (size_t i = 0; i < t->listing_count; i++)
        *t->pairs[t->listings[i].pair].next++ = t->listings[i].word;
    t->listing_count = t->touched_count = 0;
    return true;
}

/* ---- words ---- */

static grd_status load_words(trainer *t, const grdi_words *words, const int32_t byte_id[256], grd_error *error)
{
    for (size_t i = 0; words->slots && i <= words->mask; i++)
        if (words->slots[i].count > 0)
            t->symbol_count += words->slots[i].size_bytes;
    /* A merge takes one symbol away and lists a word at most twice; at the start each neighbour lists one. */
    t->lists_bytes = 3 * t->symbol_count * sizeof(uint32_t) + 1;
    t->symbols = grdi_alloc(t->symbol_count * sizeof(uint32_t));
    t->words = grdi_alloc(words->count * sizeof(word));
    t->lists = t->lists_end = grdi_memory.map(t->lists_bytes);
    if (!t->symbols || !t->words || !t->lists || words->count >= UINT32_MAX)
        return out_of_memory(error);
    size_t at = 0;
    for (size_t i = 0; words->slots && i <= words->mask; i++) {
        const grdi_word *from = &words->slots[i];
        if (from->count == 0)
            continue;
        t->words[t->word_count++] = (word){at, from->size_bytes, from->count};
        for (uint32_t k = 0; k < from->size_bytes; k++)
            t->symbols[at++] = (uint32_t)byte_id[from->data[k]];
    }
    return GRD_OK;
}

static bool count_pairs(trainer *t)
{
    for (size_t w = 0; w < t->word_count; w++) {
        const uint32_t *s = t->symbols + t->words[w].start;
        t->visit++;
        for (uint32_t i = 0; i + 1 < t->words[w].length; i++)
            if (!change(t, s[i], s[i + 1], +1, (uint32_t)w))
                return false;
    }
    return enter_listed(t);
}

/* Replaces a, b by `id` in one word, from left to right. */
static bool merge_word(trainer *t, uint32_t w, uint32_t a, uint32_t b, uint32_t id)
{
    uint32_t *s = t->symbols + t->words[w].start, length = t->words[w].length, out = 0;
    t->visit++;
    for (uint32_t in = 0; in < length; in++) {
        if (s[in] != a || in + 1 == length || s[in + 1] != b) {
            s[out++] = s[in];
            continue;
        }
        if (out > 0 && (!change(t, s[out - 1], a, -1, w) || !change(t, s[out - 1], id, +1, w)))
            return false;
        if (in + 2 < length && (!change(t, b, s[in + 2], -1, w) || !change(t, id, s[in + 2], +1, w)))
            return false;
        s[out++] = id;
        in++;
    }
    t->words[w].length = out;
    return true;
}

/* ---- merges ---- */

/* The token of a and b together: a new one unless there is one with these bytes. -1 when out of memory. */
static int32_t joined_token(grdi_vocab *vocab, int32_t a, int32_t b)
{
    size_t a_bytes, b_bytes;
    const uint8_t *a_data = grdi_vocab_bytes(vocab, a, &a_bytes), *b_data = grdi_vocab_bytes(vocab, b, &b_bytes);
    uint8_t *joined = grdi_alloc(a_bytes + b_bytes);
    if (!joined)
        return -1;
    memcpy(joined, a_data, a_bytes);
    memcpy(joined + a_bytes, b_data, b_bytes);
    int32_t id = grdi_vocab_find(vocab, joined, a_bytes + b_bytes);
    if (id < 0)
        id = grdi_vocab_add(vocab, joined, a_bytes + b_bytes);
    grdi_free(joined);
    return id;
}

static bool merge_all(trainer *t, size_t vocab_size, int64_t min_count, grdi_vocab *vocab, grdi_merges *merges)
{
    while (vocab->count < vocab_size && t->heap_count > 0) {
        if (t->heap[0].count != t->pairs[t->heap[0].pair].count) {
            t->heap[0].count = t->pairs[t->heap[0].pair].count;
            sift_down(t->heap, t->heap_count, 0);
            continue;
        }
        entry top = pop(t);
        if (top.count < 1 || top.count < min_count)
            break;
        uint32_t a = (uint32_t)(top.key >> 32), b = (uint32_t)top.key;
        int32_t id = joined_token(vocab, (int32_t)a, (int32_t)b);
        if (id < 0 || !GRDI_GROW(merges->list, merges->capacity, merges->count))
            return false;
        merges->list[merges->count++] = (grdi_merge){(int32_t)a, (int32_t)b, id};
        for (uint32_t i = 0; i < top.length; i++)
            if (!merge_word(t, top.words[i], a, b, (uint32_t)id))
                return false;
        if (!enter_listed(t))
            return false;
    }
    return true;
}

/* A pair that was merged twice counts at its last place only. */
static bool drop_repeated(grdi_merges *merges)
{
    grdi_map last = {0};
    bool ok = true;
    for (size_t i = 0; i < merges->count && ok; i++) {
        uint32_t *value = grdi_map_put(&last, GRDI_PAIR(merges->list[i].a, merges->list[i].b), 0);
        ok = value != NULL;
        if (ok)
            *value = (uint32_t)i;
    }
    size_t kept = 0;
    for (size_t i = 0; i < merges->count && ok; i++)
        if (*grdi_map_find(&last, GRDI_PAIR(merges->list[i].a, merges->list[i].b)) == i)
            merges->list[kept++] = merges->list[i];
    merges->count = ok ? kept : merges->count;
    grdi_map_free(&last);
    return ok;
}

grd_status grdi_bpe_train(const grdi_words *words, const int32_t byte_id[256], size_t vocab_size, int64_t min_count,
                          grdi_vocab *vocab, grdi_merges *merges, grd_error *error)
{
    trainer t = {0};
    *merges = (grdi_merges){0};
    grd_status status = load_words(&t, words, byte_id, error);
    if (status == GRD_OK && (!count_pairs(&t) || !merge_all(&t, vocab_size, min_count, vocab, merges) ||
                             !drop_repeated(merges)))
        status = out_of_memory(error);
    grdi_free(t.symbols);
    grdi_free(t.words);
    if (t.lists)
        grdi_memory.unmap(t.lists, t.lists_bytes);
    grdi_map_free(&t.pair_of);
    grdi_free(t.pairs);
    grdi_free(t.heap);
    grdi_free(t.listings);
    grdi_free(t.touched);
    if (status != GRD_OK) {
        grdi_free(merges->list);
        *merges = (grdi_merges){0};
    }
    return status;
}
