/* tokenizer.c - making tokenizers, looking into them, decoding. */
#include "data/tokenizer.h"

#include "base/memory.h"
#include "data/utf8.h"

#include <stdlib.h>
#include <string.h>

const char grdi_end_of_text_names[5][16] = {"<|endoftext|>", "<|end_of_text|>", "<|eot|>", "<eos>", "</s>"};

static int index_of(const char *name, const char *const *names, int count)
{
    for (int i = 0; i < count; i++)
        if (name && strcmp(name, names[i]) == 0)
            return i;
    return -1;
}

int grd_tokenizer_kind_from_name(const char *name)
{
    static const char *const names[] = {"bpe", "byte", "char"};
    return index_of(name, names, 3);
}

int grd_pattern_from_name(const char *name)
{
    static const char *const names[] = {"gpt2", "llama3", "qwen2"};
    return index_of(name, names, 3);
}

/* ---- making ---- */

static grd_status out_of_memory(grd_error *error)
{
    return grd_fail(error, GRD_E_MEMORY, "tokenizer: out of memory");
}

grd_tokenizer *grdi_tokenizer_new(grd_error *error)
{
    grd_tokenizer *t = grdi_alloc_zero(1, sizeof(*t));
    if (!t) {
        out_of_memory(error);
        return NULL;
    }
    t->unknown_id = -1;
    for (int i = 0; i < 256; i++)
        t->byte_id[i] = -1;
    return t;
}

void grd_tokenizer_free(grd_tokenizer *t)
{
    if (!t)
        return;
    grdi_vocab_free(&t->vocab);
    grdi_free(t->merges.list);
    grdi_map_free(&t->rank_of);
    grdi_splitter_free(t->splitter);
    grdi_map_free(&t->char_id);
    grdi_free(t->added);
    grdi_free(t->before);
    grdi_free(t->after);
    grdi_free(t->source);
    grdi_free(t);
}

bool grdi_tokenizer_add(grd_tokenizer *t, grdi_added added)
{
    if (!GRDI_GROW(t->added, t->added_capacity, t->added_count))
        return false;
    /* Longer ones first, so that the longest is found; among equals the order of arrival. */
    size_t at = t->added_count++, size, other;
    const uint8_t *bytes = grdi_vocab_bytes(&t->vocab, added.id, &size);
    for (; at > 0 && (grdi_vocab_bytes(&t->vocab, t->added[at - 1].id, &other), other < size); at--)
        t->added[at] = t->added[at - 1];
    t->added[at] = added;
    t->added_first = t->added_count == 1 || t->added_first == bytes[0] ? bytes[0] : -1;
    for (int second = 0; second < 256; second++)
        if (size == 1 || second == bytes[1])
            t->added_start[(bytes[0] * 256 + second) / 8] |= (uint8_t)(1 << second % 8);
    return true;
}

grd_status grdi_tokenizer_finish(grd_tokenizer *t, grd_error *error)
{
    for (size_t rank = 0; rank < t->merges.count; rank++) {
        const grdi_merge *merge = &t->merges.list[rank];
        uint32_t *value = grdi_map_put(&t->rank_of, GRDI_PAIR(merge->a, merge->b), 0);
        if (!value)
            return out_of_memory(error);
        *value = (uint32_t)rank; /* the last of equal pairs counts */
    }
    return GRD_OK;
}

/* Special tokens come first, except for the kind byte, whose bytes are the ids 0 to 255. */
static grd_status add_special(grd_tokenizer *t, const grd_tokenizer_options *options, grd_error *error)
{
    for (int32_t i = 0; i < options->special_count; i++) {
        const char *content = options->special[i];
        size_t size = content ? strlen(content) : 0;
        if (size == 0 || size > GRDI_WORD_MAX || grdi_utf8_valid((const uint8_t *)content, size) != size)
            return grd_fail(error, GRD_E_ARGUMENT, "tokenizer: special token %d is empty, too long or not UTF-8", i);
        if (grdi_vocab_find(&t->vocab, content, size) >= 0)
            return grd_fail(error, GRD_E_ARGUMENT, "tokenizer: token '%s' is there already (remove it)", content);
        int32_t id = grdi_vocab_add(&t->vocab, content, size);
        if (id < 0 || !grdi_tokenizer_add(t, (grdi_added){.id = id, .special = true}))
            return out_of_memory(error);
    }
    return GRD_OK;
}

static grd_status add_bytes(grd_tokenizer *t, grd_error *error)
{
    for (int i = 0; i < 256; i++) {
        uint8_t byte = t->kind == GRD_TOKENIZER_BYTE ? (uint8_t)i : grdi_alphabet_order(i);
        t->byte_id[byte] = grdi_vocab_find(&t->vocab, &byte, 1); /* a special token may be a single character */
        if (t->byte_id[byte] < 0)
            t->byte_id[byte] = grdi_vocab_add(&t->vocab, &byte, 1);
        if (t->byte_id[byte] < 0)
            return out_of_memory(error);
    }
    return GRD_OK;
}

static grd_status train_bpe(grd_tokenizer *t, const grd_text *texts, size_t count, const grd_tokenizer_options *options,
                            grd_error *error)
{
    const char *const patterns[] = {grdi_pattern_gpt2, grdi_pattern_llama3, grdi_pattern_qwen2};
    if ((unsigned)options->pattern > GRD_PATTERN_QWEN2)
        return grd_fail(error, GRD_E_ARGUMENT, "tokenizer: pattern %d does not exist", (int)options->pattern);
    int32_t vocab_size = options->vocab_size ? options->vocab_size : 4096;
    if (vocab_size < 256 + options->special_count || vocab_size > GRDI_VOCAB_MAX)
        return grd_fail(error, GRD_E_ARGUMENT, "tokenizer: vocab_size %d does not fit (give %d to %d)", vocab_size,
                        256 + options->special_count, GRDI_VOCAB_MAX);
    t->pattern = options->pattern;
    grdi_words words = {0};
    grdi_words_source source = {texts, count, options->threads, options->mapped, options->whole};
    grdi_split_rule rule = {patterns[options->pattern], false};
    grd_status status = grdi_splitter_new(&rule, 1, &t->splitter, error);
    if (status == GRD_OK)
        status = add_bytes(t, error);
    if (status == GRD_OK)
        status = grdi_words_count(t->splitter, &source, &words, error);
    if (status == GRD_OK)
        status = grdi_bpe_train(&words, t->byte_id, (size_t)vocab_size, options->min_count, &t->vocab, &t->merges,
                                error);
    grdi_words_free(&words);
    return status;
}

static grd_status train_char(grd_tokenizer *t, const grd_text *texts, size_t count, grd_error *error)
{
    enum { CODE_POINTS = 0x110000 };
    uint8_t *seen = grdi_alloc_zero(CODE_POINTS, 1), bytes[4];
    if (!seen)
        return out_of_memory(error);
    for (size_t i = 0; i < count; i++) {
        const uint8_t *text = texts[i].data;
        for (size_t at = 0, size = texts[i].size_bytes; at < size;) {
            uint32_t c = 0;
            int length = grdi_utf8_decode(text + at, size - at, &c);
            seen[length > 0 ? c : 0] = 1;
            at += length > 0 ? (size_t)length : 1;
        }
    }
    bool ok = true;
    size_t before = t->vocab.count;
    for (uint32_t c = 1; c < CODE_POINTS && ok; c++) { /* U+0000 stays unknown: JSON readers trip over it */
        int length = grdi_utf8_encode(c, bytes);
        if (seen[c] && c != 0xFFFD && grdi_vocab_find(&t->vocab, bytes, (size_t)length) < 0)
            ok = grdi_vocab_add(&t->vocab, bytes, (size_t)length) >= 0;
    }
    grdi_free(seen);
    if (ok && t->vocab.count == before)
        return grd_fail(error, GRD_E_ARGUMENT, "tokenizer: the training text holds no characters (give a text)");
    /* The replacement character stands for all that were not seen: that is also how they are shown when decoded. */
    t->unknown_id = ok ? grdi_vocab_add(&t->vocab, "\xEF\xBF\xBD", 3) : -1;
    return t->unknown_id >= 0 && grdi_tokenizer_index_chars(t) ? GRD_OK : out_of_memory(error);
}

bool grdi_tokenizer_index_chars(grd_tokenizer *t)
{
    for (size_t id = 0; id < t->vocab.count; id++) {
        size_t size;
        uint32_t c;
        const uint8_t *bytes = grdi_vocab_bytes(&t->vocab, (int32_t)id, &size);
        if (size > 0 && grdi_utf8_decode(bytes, size, &c) == (int)size && !grdi_map_put(&t->char_id, c, (uint32_t)id))
            return false;
    }
    return true;
}

grd_status grd_tokenizer_train(const grd_text *texts, size_t count, const grd_tokenizer_options *given,
                               grd_tokenizer **tokenizer, grd_error *error)
{
    grd_tokenizer_options options = {0};
    if (given)
        memcpy(&options, given, given->size > 0 && given->size < sizeof(options) ? given->size : sizeof(options));
    *tokenizer = NULL;
    if ((unsigned)options.kind > GRD_TOKENIZER_CHAR || options.special_count < 0)
        return grd_fail(error, GRD_E_ARGUMENT, "tokenizer: kind %d does not exist", (int)options.kind);
    grd_tokenizer *t = grdi_tokenizer_new(error);
    if (!t)
        return GRD_E_MEMORY;
    t->kind = options.kind;
    grd_status status = GRD_OK;
    if (t->kind == GRD_TOKENIZER_BYTE)
        status = add_bytes(t, error);
    if (status == GRD_OK)
        status = add_special(t, &options, error);
    if (status == GRD_OK && t->kind == GRD_TOKENIZER_BPE)
        status = train_bpe(t, texts, count, &options, error);
    if (status == GRD_OK && t->kind == GRD_TOKENIZER_CHAR)
        status = train_char(t, texts, count, error);
    if (status == GRD_OK)
        status = grdi_tokenizer_finish(t, error);
    if (status != GRD_OK) {
        grd_tokenizer_free(t);
        return status;
    }
    *tokenizer = t;
    return GRD_OK;
}

/* ---- looking inside ---- */

grd_tokenizer_kind grd_tokenizer_kind_of(const grd_tokenizer *t) { return t->kind; }

int32_t grd_tokenizer_vocab_size(const grd_tokenizer *t) { return (int32_t)t->vocab.count; }

const uint8_t *grd_tokenizer_token(const grd_tokenizer *t, int32_t id, size_t *size_bytes)
{
    return grdi_vocab_bytes(&t->vocab, id, size_bytes);
}

int32_t grd_tokenizer_find(const grd_tokenizer *t, const void *bytes, size_t size_bytes)
{
    return grdi_vocab_find(&t->vocab, bytes, size_bytes);
}

bool grd_tokenizer_is_special(const grd_tokenizer *t, int32_t id)
{
    for (size_t i = 0; i < t->added_count; i++)
        if (t->added[i].id == id)
            return t->added[i].special;
    return false;
}

int32_t grd_tokenizer_end_of_text(const grd_tokenizer *t)
{
    for (size_t i = 0; i < sizeof(grdi_end_of_text_names) / sizeof(grdi_end_of_text_names[0]); i++) {
        const char *name = grdi_end_of_text_names[i];
        int32_t id = grdi_vocab_find(&t->vocab, name, strlen(name));
        if (id >= 0 && grd_tokenizer_is_special(t, id))
            return id;
    }
    return -1;
}

int64_t grd_tokenizer_decode(const grd_tokenizer *t, const int32_t *ids, int64_t count, bool skip_special, char *out,
                             size_t capacity)
{
    size_t total = 0;
    for (int64_t i = 0; i < count; i++) {
        size_t size;
        const uint8_t *bytes = grdi_vocab_bytes(&t->vocab, ids[i], &size);
        if (!bytes)
            return -1;
        if (skip_special && t->added_count > 0 && grd_tokenizer_is_special(t, ids[i]))
            continue;
        if (total < capacity)
            memcpy(out + total, bytes, size < capacity - total ? size : capacity - total);
        total += size;
    }
    return (int64_t)total;
}
