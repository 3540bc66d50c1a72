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

#include <stdlib.h>
#include <string.h>

/* How words lie in memory decides how large a text can be trained on, so everything about them is small: symbols of two
 * bytes where the vocabulary allows it, and lists that are made late and freed early. The lists of pairs of bytes,
 * which together would name every place of every word, are made for the most frequent pairs only; when one without a
 * list comes to the top, they are made anew. */
enum {
    BASE_LISTS_PART = 4, /* lists of pairs of bytes name at most one in so many symbols */
    LARGE_LIST = 4096,   /* a list of so many words has a block of its own */
    BLOCK_BITS = 14,
    BLOCK_LISTS = 1 << BLOCK_BITS /* words in a block of small lists */
};

typedef struct word {
    uint32_t start;          /* in trainer.symbols */
    uint32_t count;
    uint16_t length;
} word;

typedef struct __attribute__((packed, aligned(4))) pair {
    uint64_t key;
    int64_t count;
    uint32_t touched;        /* where the pair is in trainer.touched, if it is there */
} pair;

typedef struct __attribute__((packed, aligned(4))) entry {
    int64_t count;
    uint32_t pair;           /* index of the pair */
    uint32_t length;         /* words in the list; of a pair of bytes 0, its list is elsewhere */
    uint32_t list;           /* where it lies: block and place in it; a list of one word is that word */
} entry;

static const uint32_t no_block = UINT32_MAX, no_list = UINT32_MAX, no_pair = UINT32_MAX;

/* Pairs and entries lie in pieces, so that growing neither copies them nor takes more than they need. */
enum { PIECE_BITS = 12, PIECE = 1 << PIECE_BITS };

typedef struct list_block {
    uint32_t *words;
    uint32_t used, live;     /* words in it; lists that are still in the heap */
} list_block;

/* A pair that the current merge made. */
typedef struct touched {
    uint32_t pair;
    uint32_t length;         /* words listed */
    uint32_t first, last;    /* of them */
    uint32_t *next;          /* where the next of them goes; NULL: the first is the only one, or there is no list */
} touched;

typedef struct listing {
    uint32_t touched, word;
} listing;

/* Where the list of a pair of bytes lies. */
typedef struct base_list {
    uint32_t start, length;
    uint32_t last;           /* the word that was listed last */
    bool merged;             /* there is no use for a list any more */
} base_list;

typedef struct trainer {
    void *symbols;           /* uint16 or uint32 */
    size_t symbol_bytes, symbol_count;
    word *words;
    size_t word_count;
    uint32_t *pair_of;       /* open addressing: index of a pair plus one */
    size_t pair_mask;
    pair **pairs;            /* those of bytes come first */
    size_t pair_count, pair_pieces, pair_capacity, base_count;
    base_list *base;         /* [base_count] */
    uint32_t *base_words;    /* the lists, one after the other */
    list_block *blocks;
    size_t block_count, block_capacity;
    size_t open;             /* the block that small lists go into, plus one; 0: none */
    uint32_t *free_blocks;   /* places in `blocks` to use again */
    size_t free_count, free_capacity;
    entry **heap;
    size_t heap_count, heap_pieces, heap_capacity;
    listing *listings;       /* pairs that one merge made, with their words */
    size_t listing_count, listing_capacity;
    touched *touched;        /* the distinct pairs among them */
    size_t touched_count, touched_capacity;
    uint32_t base_ids;       /* ids of bytes are below this */
} trainer;

static grd_status out_of_memory(grd_error *error)
{
    return grd_fail(error, GRD_E_MEMORY, "tokenizer: out of memory while training");
}

/* ---- the heap: a maximum by count, then by lower ids; four children to a node ---- */

static pair *pair_at(const trainer *t, size_t index) { return &t->pairs[index >> PIECE_BITS][index & (PIECE - 1)]; }

static entry *heap_at(const trainer *t, size_t index) { return &t->heap[index >> PIECE_BITS][index & (PIECE - 1)]; }

static bool above(const trainer *t, const entry *a, const entry *b)
{
    return a->count != b->count ? a->count > b->count : pair_at(t, a->pair)->key < pair_at(t, b->pair)->key;
}

static void sift_up(const trainer *t, size_t at)
{
    entry moving = *heap_at(t, at);
    for (; at > 0 && above(t, &moving, heap_at(t, (at - 1) / 4)); at = (at - 1) / 4)
        *heap_at(t, at) = *heap_at(t, (at - 1) / 4);
    *heap_at(t, at) = moving;
}

static void sift_down(const trainer *t, size_t at)
{
    entry moving = *heap_at(t, at);
    for (size_t child; (child = 4 * at + 1) < t->heap_count; at = child) {
        size_t end = child + 4 < t->heap_count ? child + 4 : t->heap_count;
        for (size_t other = child + 1; other < end; other++)
            if (above(t, heap_at(t, other), heap_at(t, child)))
                child = other;
        if (!above(t, heap_at(t, child), &moving))
            break;
        *heap_at(t, at) = *heap_at(t, child);
    }
    *heap_at(t, at) = moving;
}

static bool push(trainer *t, entry made)
{
    if (t->heap_count == t->heap_pieces * PIECE) {
        if (!GRDI_GROW(t->heap, t->heap_capacity, t->heap_pieces) ||
            !(t->heap[t->heap_pieces] = grdi_alloc(PIECE * sizeof(entry))))
            return false;
        t->heap_pieces++;
    }
    *heap_at(t, t->heap_count) = made;
    sift_up(t, t->heap_count++);
    return true;
}

static entry pop(trainer *t)
{
    entry top = *heap_at(t, 0);
    *heap_at(t, 0) = *heap_at(t, --t->heap_count);
    if (t->heap_count > 0)
        sift_down(t, 0);
    return top;
}

/* ---- pairs ---- */

static uint32_t *pair_slot(const trainer *t, uint64_t key)
{
    size_t at = grdi_map_hash(key) & t->pair_mask;
    while (t->pair_of[at] != 0 && pair_at(t, t->pair_of[at] - 1)->key != key)
        at = (at + 1) & t->pair_mask;
    return &t->pair_of[at];
}

static bool grow_pairs(trainer *t)
{
    size_t size = t->pair_of ? 2 * (t->pair_mask + 1) : 4096;
    uint32_t *larger = grdi_alloc_zero(size, sizeof(*larger));
    if (!larger)
        return false;
    grdi_free(t->pair_of);
    t->pair_of = larger;
    t->pair_mask = size - 1;
    for (size_t i = 0; i < t->pair_count; i++)
        *pair_slot(t, pair_at(t, i)->key) = (uint32_t)i + 1;
    return true;
}

/* The index of the pair of a and b, which is added if it is new; no_pair when out of memory. */
static uint32_t pair_of(trainer *t, uint32_t a, uint32_t b)
{
    uint64_t key = GRDI_PAIR(a, b);
    if ((!t->pair_of || 3 * t->pair_count >= 2 * t->pair_mask) && !grow_pairs(t))
        return no_pair;
    uint32_t *slot = pair_slot(t, key);
    if (*slot == 0) {
        if (t->pair_count == t->pair_pieces * PIECE) {
            if (!GRDI_GROW(t->pairs, t->pair_capacity, t->pair_pieces) ||
                !(t->pairs[t->pair_pieces] = grdi_alloc(PIECE * sizeof(pair))))
                return no_pair;
            t->pair_pieces++;
        }
        *pair_at(t, t->pair_count++) = (pair){.key = key};
        *slot = (uint32_t)t->pair_count;
    }
    return *slot - 1;
}

/* Adds to the count of a pair in a word; when it rises, lists the word, once. False when out of memory. */
static bool change(trainer *t, uint32_t a, uint32_t b, int sign, uint32_t word_index)
{
    uint32_t index = pair_of(t, a, b);
    if (index == no_pair)
        return false;
    pair *p = pair_at(t, index);
    p->count += sign * (int64_t)t->words[word_index].count;
    if (sign < 0)
        return true;
    if (p->touched >= t->touched_count || t->touched[p->touched].pair != index) {
        if (!GRDI_GROW(t->touched, t->touched_capacity, t->touched_count))
            return false;
        p->touched = (uint32_t)t->touched_count;
        t->touched[t->touched_count++] = (touched){.pair = index, .first = word_index};
    } else if (t->touched[p->touched].last == word_index) {
        return true;
    }
    t->touched[p->touched].last = word_index;
    t->touched[p->touched].length++;
    if (!GRDI_GROW(t->listings, t->listing_capacity, t->listing_count))
        return false;
    t->listings[t->listing_count++] = (listing){p->touched, word_index};
    return true;
}

/* ---- lists ---- */

/* A block with room for `capacity` words; its index, or no_block when out of memory. */
static uint32_t new_block(trainer *t, uint32_t capacity)
{
    uint32_t *words = t->block_count <= UINT32_MAX >> BLOCK_BITS ? grdi_alloc(capacity * sizeof(*words)) : NULL;
    if (!words)
        return no_block;
    if (t->free_count == 0) {
        if (!GRDI_GROW(t->blocks, t->block_capacity, t->block_count) ||
            !GRDI_GROW(t->free_blocks, t->free_capacity, t->block_count)) {
            grdi_free(words);
            return no_block;
        }
        t->free_blocks[t->free_count++] = (uint32_t)t->block_count++;
    }
    uint32_t index = t->free_blocks[--t->free_count];
    t->blocks[index] = (list_block){.words = words};
    return index;
}

static void free_block(trainer *t, uint32_t index)
{
    grdi_free(t->blocks[index].words);
    t->blocks[index].words = NULL;
    t->free_blocks[t->free_count++] = index; /* there is room for every block there ever was */
}

/* Gives an entry a place for its list. */
static bool take_list(trainer *t, entry *made)
{
    uint32_t index = (uint32_t)t->open - 1;
    if (made->length >= LARGE_LIST) {
        index = new_block(t, made->length);
    } else if (t->open == 0 || BLOCK_LISTS - t->blocks[index].used < made->length) {
        if (t->open > 0 && t->blocks[index].live == 0)
            free_block(t, index);
        index = new_block(t, BLOCK_LISTS);
        t->open = index == no_block ? 0 : index + 1;
    }
    if (index == no_block)
        return false;
    list_block *block = &t->blocks[index];
    made->list = index << BLOCK_BITS | block->used;
    block->used += made->length;
    block->live++;
    return true;
}

static uint32_t *list_of(const trainer *t, const entry *e)
{
    return t->blocks[e->list >> BLOCK_BITS].words + (e->list & (BLOCK_LISTS - 1));
}

static void free_list(trainer *t, const entry *e)
{
    uint32_t block = e->list >> BLOCK_BITS;
    if (e->pair >= t->base_count && e->length > 1 && --t->blocks[block].live == 0 && block + 1 != t->open)
        free_block(t, block);
}

/* Makes heap entries of the pairs that were listed. */
static bool enter_listed(trainer *t)
{
    for (size_t i = 0; i < t->touched_count; i++) {
        touched *from = &t->touched[i];
        entry made = {pair_at(t, from->pair)->count, from->pair, from->length, from->first};
        if (made.count <= 0)
            continue;
        if (made.length > 1) {
            if (!take_list(t, &made))
                return false;
            from->next = list_of(t, &made);
        }
        if (!push(t, made))
            return false;
    }
    for (size_t i = 0; i < t->listing_count; i++) {
        touched *from = &t->touched[t->listings[i].touched];
        if (from->next)
            *from->next++ = t->listings[i].word;
    }
    t->listing_count = t->touched_count = 0;
    return true;
}

/* ---- words ---- */

static uint32_t symbol_at(const trainer *t, size_t at)
{
    return t->symbol_bytes == 2 ? ((const uint16_t *)t->symbols)[at] : ((const uint32_t *)t->symbols)[at];
}

static void read_word(const trainer *t, const word *w, uint32_t *symbols)
{
    for (uint32_t i = 0; i < w->length; i++)
        symbols[i] = symbol_at(t, w->start + i);
}

static void set_symbol(trainer *t, size_t at, uint32_t id)
{
    if (t->symbol_bytes == 2)
        ((uint16_t *)t->symbols)[at] = (uint16_t)id;
    else
        ((uint32_t *)t->symbols)[at] = id;
}

/* A word that was counted more often than a uint32 holds is there several times. */
static size_t copies_of(const grdi_word *from) { return (size_t)((from->count + UINT32_MAX - 1) / UINT32_MAX); }

/* Takes the words over, and frees where they came from. */
static grd_status load_words(trainer *t, grdi_words *words, const int32_t byte_id[256], grd_error *error)
{
    grdi_word from;
    size_t count = 0, at = 0;
    for (grdi_words_at i = {0, 0}; grdi_words_next(words, &i, &from); count += copies_of(&from))
        t->symbol_count += copies_of(&from) * from.size_bytes;
    t->symbols = grdi_alloc(t->symbol_count * t->symbol_bytes);
    t->words = grdi_alloc(count * sizeof(word));
    if (!t->symbols || !t->words || t->symbol_count >= UINT32_MAX)
        return out_of_memory(error);
    for (grdi_words_at i = {0, 0}; grdi_words_next(words, &i, &from);) {
        for (int64_t left = from.count; left > 0; left -= UINT32_MAX) {
            uint32_t part = left < UINT32_MAX ? (uint32_t)left : UINT32_MAX;
            t->words[t->word_count++] = (word){(uint32_t)at, part, (uint16_t)from.size_bytes};
            for (uint32_t k = 0; k < from.size_bytes; k++)
                set_symbol(t, at++, (uint32_t)byte_id[from.data[k]]);
        }
    }
    grdi_words_free(words);
    return GRD_OK;
}

/* Replaces a, b by `id` in one word, from left to right. */
static bool merge_word(trainer *t, uint32_t w, uint32_t a, uint32_t b, uint32_t id)
{
    uint32_t s[GRDI_WORD_MAX], length = t->words[w].length, out = 0;
    read_word(t, &t->words[w], s);
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
    for (uint32_t i = 0; i < out && out < length; i++)
        set_symbol(t, t->words[w].start + i, s[i]);
    t->words[w].length = (uint16_t)out;
    return true;
}

/* ---- pairs of bytes ---- */

static bool count_pairs(trainer *t)
{
    uint32_t s[GRDI_WORD_MAX];
    for (size_t w = 0; w < t->word_count; w++) {
        read_word(t, &t->words[w], s);
        for (uint32_t i = 0; i + 1 < t->words[w].length; i++) {
            uint32_t index = pair_of(t, s[i], s[i + 1]);
            if (index == no_pair)
                return false;
            pair_at(t, index)->count += t->words[w].count;
        }
    }
    t->base_count = t->pair_count;
    t->base = grdi_alloc_zero(t->base_count, sizeof(*t->base));
    for (size_t i = 0; t->base && i < t->base_count; i++) {
        t->base[i].start = no_list;
        if (!push(t, (entry){pair_at(t, i)->count, (uint32_t)i, 0, 0}))
            return false;
    }
    return t->base != NULL;
}

/* Counts the words that each pair of bytes is in now; with `fill`, lists them where the pair has a place. */
static void scan_base(trainer *t, bool fill)
{
    uint32_t s[GRDI_WORD_MAX];
    for (size_t i = 0; i < t->base_count; i++)
        t->base[i].length = 0;
    for (size_t w = 0; w < t->word_count; w++) {
        read_word(t, &t->words[w], s);
        for (uint32_t i = 0; i + 1 < t->words[w].length; i++) {
            if (s[i] >= t->base_ids || s[i + 1] >= t->base_ids)
                continue;
            uint32_t index = *pair_slot(t, GRDI_PAIR(s[i], s[i + 1])) - 1;
            if (index >= t->base_count)
                continue; /* a merge made a special token */
            base_list *list = &t->base[index];
            if (list->length > 0 && list->last == w)
                continue;
            if (fill && list->start != no_list)
                t->base_words[list->start + list->length] = (uint32_t)w;
            list->last = (uint32_t)w;
            list->length++;
        }
    }
}

typedef struct candidate {
    int64_t count;
    uint32_t pair;
} candidate;

static int by_count(const void *a, const void *b)
{
    int64_t first = ((const candidate *)a)->count, second = ((const candidate *)b)->count;
    return (first < second) - (first > second);
}

/* Makes lists anew: for `wanted`, and for the most frequent others as far as they fit. */
static bool list_base(trainer *t, uint32_t wanted)
{
    candidate *order = grdi_alloc(t->base_count * sizeof(*order));
    if (!order)
        return false;
    grdi_free(t->base_words);
    t->base_words = NULL;
    scan_base(t, false);
    size_t count = 0, total = 0;
    for (size_t i = 0; i < t->base_count; i++) {
        t->base[i].start = no_list;
        if (!t->base[i].merged)
            order[count++] = (candidate){i == wanted ? INT64_MAX : pair_at(t, i)->count, (uint32_t)i};
    }
    qsort(order, count, sizeof(*order), by_count);
    for (size_t i = 0; i < count; i++) {
        base_list *list = &t->base[order[i].pair];
        if (i > 0 && total + list->length > t->symbol_count / BASE_LISTS_PART)
            break;
        list->start = (uint32_t)total;
        total += list->length;
    }
    grdi_free(order);
    t->base_words = grdi_alloc(total * sizeof(*t->base_words));
    if (t->base_words)
        scan_base(t, true);
    return t->base_words != NULL;
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

/* The words that the pair of an entry is in; NULL when out of memory. */
static const uint32_t *words_of(trainer *t, entry *e)
{
    if (e->pair >= t->base_count)
        return e->length == 1 ? &e->list : list_of(t, e);
    if (t->base[e->pair].start == no_list && !list_base(t, e->pair))
        return NULL;
    base_list *list = &t->base[e->pair];
    list->merged = true;
    e->length = list->length;
    return t->base_words + list->start;
}

static bool merge_all(trainer *t, size_t vocab_size, int64_t min_count, grdi_vocab *vocab, grdi_merges *merges)
{
    while (vocab->count < vocab_size && t->heap_count > 0) {
        int64_t count = pair_at(t, heap_at(t, 0)->pair)->count;
        if (heap_at(t, 0)->count != count) {
            heap_at(t, 0)->count = count;
            sift_down(t, 0);
            continue;
        }
        entry top = pop(t);
        if (top.count < 1 || top.count < min_count)
            break;
        uint64_t key = pair_at(t, top.pair)->key;
        uint32_t a = (uint32_t)(key >> 32), b = (uint32_t)key;
        int32_t id = joined_token(vocab, (int32_t)a, (int32_t)b);
        const uint32_t *words = words_of(t, &top);
        if (id < 0 || !words || !GRDI_GROW(merges->list, merges->capacity, merges->count))
            return false;
        merges->list[merges->count++] = (grdi_merge){(int32_t)a, (int32_t)b, id};
        for (uint32_t i = 0; i < top.length; i++)
            if (!merge_word(t, words[i], a, b, (uint32_t)id))
                return false;
        free_list(t, &top);
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

static void free_trainer(trainer *t)
{
    for (size_t i = 0; i < t->block_count; i++)
        grdi_free(t->blocks[i].words);
    grdi_free(t->blocks);
    grdi_free(t->free_blocks);
    grdi_free(t->symbols);
    grdi_free(t->words);
    grdi_free(t->pair_of);
    for (size_t i = 0; i < t->pair_pieces; i++)
        grdi_free(t->pairs[i]);
    for (size_t i = 0; i < t->heap_pieces; i++)
        grdi_free(t->heap[i]);
    grdi_free(t->pairs);
    grdi_free(t->base);
    grdi_free(t->base_words);
    grdi_free(t->heap);
    grdi_free(t->listings);
    grdi_free(t->touched);
}

grd_status grdi_bpe_train(grdi_words *words, const int32_t byte_id[256], size_t vocab_size, int64_t min_count,
                          grdi_vocab *vocab, grdi_merges *merges, grd_error *error)
{
    trainer t = {.symbol_bytes = vocab_size <= 1 << 16 ? 2 : 4, .base_ids = (uint32_t)vocab->count};
    *merges = (grdi_merges){0};
    grd_status status = load_words(&t, words, byte_id, error);
    if (status == GRD_OK && (!count_pairs(&t) || !merge_all(&t, vocab_size, min_count, vocab, merges) ||
                             !drop_repeated(merges)))
        status = out_of_memory(error);
    free_trainer(&t);
    if (status != GRD_OK) {
        grdi_free(merges->list);
        *merges = (grdi_merges){0};
    }
    return status;
}
