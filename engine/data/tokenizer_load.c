/* tokenizer_load.c - reading Hugging Face's tokenizer.json. What a file asks for and is not done here is refused by
 * name: nothing is passed over that would change ids. */
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "data/tokenizer.h"
#include "data/utf8.h"

#include <string.h>

enum { FILE_MAX_BYTES = 256 << 20 };

typedef struct loader {
    grd_tokenizer *t;
    const char *path;
    grd_error *error;
    grdi_split_rule rules[GRDI_SPLIT_LEVELS];
    int32_t rule_count;
    bool byte_level;
} loader;

static grd_status damaged(loader *l, const char *where, const char *what)
{
    return grd_fail(l->error, GRD_E_FORMAT, "%s: %s: %s", l->path, where, what);
}

static grd_status unsupported(loader *l, const char *where, const char *what)
{
    return grd_fail(l->error, GRD_E_UNSUPPORTED, "%s: %s '%s' is not supported (use a byte-level BPE tokenizer)",
                    l->path, where, what);
}

static grd_status out_of_memory(loader *l) { return grd_fail(l->error, GRD_E_MEMORY, "%s: out of memory", l->path); }

/* ---- values ---- */

static const char *text_of(const json_t *object, const char *key, const char *otherwise)
{
    const json_t *value = json_object_get(object, key);
    return json_is_string(value) ? json_string_value(value) : otherwise;
}

static bool flag_of(const json_t *object, const char *key, bool otherwise)
{
    const json_t *value = json_object_get(object, key);
    return json_is_boolean(value) ? json_is_true(value) : otherwise;
}

static bool id_of(const json_t *value, int32_t *id)
{
    json_int_t number = json_is_integer(value) ? json_integer_value(value) : -1;
    *id = (int32_t)(number >= 0 && number < GRDI_VOCAB_MAX ? number : -1);
    return *id >= 0;
}

/* The bytes that a token of a byte-level vocabulary stands for, at most as many as its text has; its own text where a
 * character is none of the alphabet. */
static size_t token_bytes(const char *text, size_t size_bytes, bool byte_level, uint8_t *bytes)
{
    size_t count = 0;
    for (size_t at = 0; at < size_bytes && byte_level;) {
        uint32_t c = 0;
        int length = grdi_utf8_decode((const uint8_t *)text + at, size_bytes - at, &c);
        int byte = length > 0 ? grdi_alphabet_byte(c) : -1;
        if (byte < 0)
            break;
        bytes[count++] = (uint8_t)byte;
        at += (size_t)length;
        if (at == size_bytes)
            return count;
    }
    memcpy(bytes, text, size_bytes);
    return size_bytes;
}

/* ---- pre-tokenizer ---- */

static grd_status add_rule(loader *l, const char *pattern, bool literal)
{
    if (l->rule_count == GRDI_SPLIT_LEVELS)
        return unsupported(l, "pre_tokenizer", "more than 8 patterns");
    l->rules[l->rule_count++] = (grdi_split_rule){pattern, literal};
    return GRD_OK;
}

static grd_status read_split(loader *l, const json_t *split)
{
    const json_t *pattern = json_object_get(split, "pattern");
    const char *behavior = text_of(split, "behavior", "?");
    const char *regex = text_of(pattern, "Regex", NULL), *literal = text_of(pattern, "String", NULL);
    if (strcmp(behavior, "Isolated") != 0 || flag_of(split, "invert", false))
        return unsupported(l, "pre_tokenizer Split with behavior", behavior);
    if ((!regex && !literal) || (literal && !*literal))
        return damaged(l, "pre_tokenizer", "a Split without pattern");
    return add_rule(l, regex ? regex : literal, !regex);
}

static grd_status read_pre_tokenizer(loader *l, const json_t *value)
{
    const char *type = text_of(value, "type", "?");
    if (!value || json_is_null(value))
        return GRD_OK;
    if (l->byte_level) /* what comes after would see the byte alphabet, not the text */
        return unsupported(l, "pre_tokenizer after ByteLevel", type);
    if (strcmp(type, "Sequence") == 0) {
        grd_status status = GRD_OK;
        const json_t *parts = json_object_get(value, "pretokenizers");
        for (size_t i = 0; i < json_array_size(parts) && status == GRD_OK; i++)
            status = read_pre_tokenizer(l, json_array_get(parts, i));
        return status;
    }
    if (strcmp(type, "Split") == 0)
        return read_split(l, value);
    if (strcmp(type, "Digits") == 0)
        return add_rule(l, flag_of(value, "individual_digits", false) ? grdi_pattern_digit : grdi_pattern_digits,
                        false);
    if (strcmp(type, "ByteLevel") != 0)
        return unsupported(l, "pre_tokenizer", type);
    l->byte_level = true;
    l->t->prefix_space = flag_of(value, "add_prefix_space", true);
    if (l->t->prefix_space && l->rule_count > 0)
        return unsupported(l, "pre_tokenizer ByteLevel after others with", "add_prefix_space");
    return flag_of(value, "use_regex", true) ? add_rule(l, grdi_pattern_gpt2, false) : GRD_OK;
}

static grd_status read_normalizer(loader *l, const json_t *value)
{
    const char *type = text_of(value, "type", "?");
    if (!value || json_is_null(value))
        return GRD_OK;
    if (strcmp(type, "NFC") == 0) {
        l->t->composed = true;
        return GRD_OK;
    }
    const json_t *parts = json_object_get(value, "normalizers");
    if (strcmp(type, "Sequence") != 0 || !json_is_array(parts))
        return unsupported(l, "normalizer", type);
    grd_status status = GRD_OK;
    for (size_t i = 0; i < json_array_size(parts) && status == GRD_OK; i++)
        status = read_normalizer(l, json_array_get(parts, i));
    return status;
}

/* ---- model ---- */

static grd_status read_vocab(loader *l, json_t *vocab)
{
    const char *text;
    json_t *value;
    json_object_foreach(vocab, text, value) {
        size_t size = strlen(text);
        uint8_t *bytes = grdi_alloc(size);
        int32_t id;
        bool good = id_of(value, &id), fresh = good, ok = bytes != NULL;
        if (ok && good) {
            size_t old;
            fresh = grdi_vocab_bytes(&l->t->vocab, id, &old) == NULL;
            ok = !fresh || grdi_vocab_set(&l->t->vocab, id, bytes, token_bytes(text, size, l->byte_level, bytes));
        }
        grdi_free(bytes);
        if (!ok)
            return out_of_memory(l);
        if (!good || !fresh)
            return grd_fail(l->error, GRD_E_FORMAT, "%s: model.vocab: token '%.100s' has no id of its own", l->path,
                            text);
    }
    return GRD_OK;
}

static int32_t find_token(loader *l, const char *text, size_t size_bytes, uint8_t *room)
{
    return grdi_vocab_find(&l->t->vocab, room, token_bytes(text, size_bytes, l->byte_level, room));
}

/* The two halves of a merge, a text "a b" or a pair ["a", "b"], and the token that they make. */
static grd_status read_merge(loader *l, const json_t *value, grdi_merge *merge)
{
    const char *a = json_string_value(json_is_array(value) ? json_array_get(value, 0) : value);
    const char *space = a && json_is_string(value) ? strchr(a, ' ') : NULL;
    const char *b = json_is_array(value) ? json_string_value(json_array_get(value, 1)) : space ? space + 1 : NULL;
    if (!a || !b)
        return damaged(l, "model.merges", "an entry is not a pair of tokens");
    size_t a_bytes = space ? (size_t)(space - a) : strlen(a), b_bytes = strlen(b);
    uint8_t *room = grdi_alloc(a_bytes + b_bytes);
    if (!room)
        return out_of_memory(l);
    merge->a = find_token(l, a, a_bytes, room);
    merge->b = find_token(l, b, b_bytes, room);
    size_t half = token_bytes(a, a_bytes, l->byte_level, room);
    half += token_bytes(b, b_bytes, l->byte_level, room + half);
    merge->id = grdi_vocab_find(&l->t->vocab, room, half);
    grdi_free(room);
    if (merge->a < 0 || merge->b < 0 || merge->id < 0)
        return grd_fail(l->error, GRD_E_FORMAT,
                        "%s: model.merges: '%.*s %.100s' joins or makes a token that the vocabulary lacks", l->path,
                        a_bytes < 100 ? (int)a_bytes : 100, a, b);
    return GRD_OK;
}

static grd_status read_merges(loader *l, const json_t *merges)
{
    for (size_t i = 0; i < json_array_size(merges); i++) {
        grdi_merge merge;
        grd_status status = read_merge(l, json_array_get(merges, i), &merge);
        if (status != GRD_OK)
            return status;
        if (!GRDI_GROW(l->t->merges.list, l->t->merges.capacity, l->t->merges.count))
            return out_of_memory(l);
        l->t->merges.list[l->t->merges.count++] = merge;
    }
    return GRD_OK;
}

/* Settings of the model that change ids and are not done here. */
static grd_status check_model(loader *l, const json_t *model)
{
    const char *type = text_of(model, "type", "BPE"); /* old files leave it out */
    if (strcmp(type, "BPE") != 0)
        return unsupported(l, "model.type", type);
    if (flag_of(model, "byte_fallback", false))
        return unsupported(l, "model setting", "byte_fallback");
    if (*text_of(model, "continuing_subword_prefix", ""))
        return unsupported(l, "model setting", "continuing_subword_prefix");
    if (*text_of(model, "end_of_word_suffix", ""))
        return unsupported(l, "model setting", "end_of_word_suffix");
    if (json_number_value(json_object_get(model, "dropout")) != 0)
        return unsupported(l, "model setting", "dropout");
    if (!json_is_object(json_object_get(model, "vocab")) || !json_is_array(json_object_get(model, "merges")))
        return damaged(l, "model", "vocab or merges are missing");
    if (!l->byte_level && (json_array_size(json_object_get(model, "merges")) > 0 || l->rule_count > 0))
        return unsupported(l, "a BPE model", "without ByteLevel pre-tokenizer");
    return GRD_OK;
}

/* Byte-level BPE, or what is a special case of it: single bytes or single characters. */
static grd_status read_model(loader *l, const json_t *model)
{
    grd_tokenizer *t = l->t;
    grd_status status = check_model(l, model);
    if (status == GRD_OK)
        status = read_vocab(l, json_object_get(model, "vocab"));
    if (status == GRD_OK)
        status = read_merges(l, json_object_get(model, "merges"));
    if (status != GRD_OK)
        return status;
    t->whole_pieces = flag_of(model, "ignore_merges", false);
    const char *unknown = text_of(model, "unk_token", NULL);
    if (unknown && *unknown) {
        uint8_t *room = grdi_alloc(strlen(unknown));
        if (!room)
            return out_of_memory(l);
        t->unknown_id = find_token(l, unknown, strlen(unknown), room);
        grdi_free(room);
    }
    if (!l->byte_level) {
        t->kind = GRD_TOKENIZER_CHAR;
        return grdi_tokenizer_index_chars(t) ? GRD_OK : out_of_memory(l);
    }
    bool plain_bytes = t->merges.count == 0 && l->rule_count == 0;
    for (int i = 0; i < 256; i++) {
        uint8_t byte = (uint8_t)i;
        t->byte_id[i] = grdi_vocab_find(&t->vocab, &byte, 1);
        plain_bytes = plain_bytes && t->byte_id[i] == i;
    }
    t->kind = plain_bytes ? GRD_TOKENIZER_BYTE : GRD_TOKENIZER_BPE;
    grd_error why = {0};
    if (l->rule_count == 0 || grdi_splitter_new(l->rules, l->rule_count, &t->splitter, &why) == GRD_OK)
        return GRD_OK;
    return grd_fail(l->error, why.status, "%s: pre_tokenizer: %s", l->path, why.message);
}

/* ---- added tokens and template ---- */

static grd_status read_added(loader *l, const json_t *list)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *value = json_array_get(list, i);
        const char *content = text_of(value, "content", "");
        grdi_added added = {.special = flag_of(value, "special", false),
                            .normalized = flag_of(value, "normalized", true),
                            .strips_left = flag_of(value, "lstrip", false),
                            .strips_right = flag_of(value, "rstrip", false)};
        if (!*content || !id_of(json_object_get(value, "id"), &added.id))
            return damaged(l, "added_tokens", "an entry without content or id");
        if (flag_of(value, "single_word", false))
            return unsupported(l, "an added token with", "single_word");
        if (!grdi_vocab_set(&l->t->vocab, added.id, content, strlen(content)) || !grdi_tokenizer_add(l->t, added))
            return out_of_memory(l);
    }
    return GRD_OK;
}

static grd_status put_id(loader *l, bool after, const json_t *value)
{
    int32_t id, **ids = after ? &l->t->after : &l->t->before;
    size_t *count = after ? &l->t->after_count : &l->t->before_count, size;
    if (!id_of(value, &id) || !grdi_vocab_bytes(&l->t->vocab, id, &size))
        return damaged(l, "post_processor", "a token that does not exist");
    int32_t *grown = grdi_realloc(*ids, *count + 1, sizeof(**ids));
    if (!grown)
        return out_of_memory(l);
    *ids = grown;
    grown[(*count)++] = id;
    return GRD_OK;
}

static grd_status read_template(loader *l, const json_t *value)
{
    const json_t *single = json_object_get(value, "single"), *tokens = json_object_get(value, "special_tokens");
    bool after = false;
    for (size_t i = 0; i < json_array_size(single); i++) {
        const json_t *part = json_array_get(single, i), *special = json_object_get(part, "SpecialToken");
        after = after || json_object_get(part, "Sequence");
        if (!special)
            continue;
        const json_t *ids = json_object_get(json_object_get(tokens, text_of(special, "id", "")), "ids");
        if (json_array_size(ids) == 0)
            return damaged(l, "post_processor", "a special token without ids");
        for (size_t k = 0; k < json_array_size(ids); k++) {
            grd_status status = put_id(l, after, json_array_get(ids, k));
            if (status != GRD_OK)
                return status;
        }
    }
    return GRD_OK;
}

static grd_status read_post_processor(loader *l, const json_t *value)
{
    const char *type = text_of(value, "type", "?");
    grd_status status = GRD_OK;
    if (!value || json_is_null(value) || strcmp(type, "ByteLevel") == 0)
        return GRD_OK;
    if (strcmp(type, "TemplateProcessing") == 0)
        return read_template(l, value);
    if (strcmp(type, "RobertaProcessing") == 0 || strcmp(type, "BertProcessing") == 0) {
        status = put_id(l, false, json_array_get(json_object_get(value, "cls"), 1));
        return status == GRD_OK ? put_id(l, true, json_array_get(json_object_get(value, "sep"), 1)) : status;
    }
    if (strcmp(type, "Sequence") != 0)
        return unsupported(l, "post_processor", type);
    const json_t *parts = json_object_get(value, "processors");
    for (size_t i = 0; i < json_array_size(parts) && status == GRD_OK; i++)
        status = read_post_processor(l, json_array_get(parts, i));
    return status;
}

/* ---- the file ---- */

static grd_status read_file(loader *l, const json_t *root)
{
    const json_t *model = json_object_get(root, "model");
    if (!json_is_object(model))
        return damaged(l, "model", "is missing (is this a tokenizer.json?)");
    grd_status status = read_normalizer(l, json_object_get(root, "normalizer"));
    if (status == GRD_OK)
        status = read_pre_tokenizer(l, json_object_get(root, "pre_tokenizer"));
    if (status == GRD_OK)
        status = read_model(l, model);
    if (status == GRD_OK)
        status = read_added(l, json_object_get(root, "added_tokens"));
    if (status == GRD_OK)
        status = read_post_processor(l, json_object_get(root, "post_processor"));
    if (status == GRD_OK && l->t->vocab.count == 0)
        status = damaged(l, "model.vocab", "is empty");
    return status == GRD_OK ? grdi_tokenizer_finish(l->t, l->error) : status;
}

grd_status grdi_tokenizer_parse(const char *text, size_t size_bytes, const char *path, grd_tokenizer **tokenizer,
                                grd_error *error)
{
    *tokenizer = NULL;
    grd_tokenizer *t = grdi_tokenizer_new(error);
    if (!t)
        return GRD_E_MEMORY;
    grd_error why = {0};
    json_t *root = grd_json_parse(text, size_bytes, path, &why);
    loader l = {.t = t, .path = path, .error = error};
    grd_status status = root ? read_file(&l, root) : grd_fail(error, why.status, "%s", why.message);
    json_decref(root);
    if (status != GRD_OK) {
        grd_tokenizer_free(t);
        return status;
    }
    *tokenizer = t;
    return GRD_OK;
}

grd_status grd_tokenizer_load(const char *path, grd_tokenizer **tokenizer, grd_error *error)
{
    *tokenizer = NULL;
    char *text = NULL;
    size_t size_bytes;
    char *inside = grdi_path_is_directory(path) ? grdi_path_join(path, "tokenizer.json") : grdi_strdup(path);
    grd_status status = inside ? grdi_file_read(inside, FILE_MAX_BYTES, &text, &size_bytes, error)
                               : grd_fail(error, GRD_E_MEMORY, "%s: out of memory", path);
    if (status == GRD_OK)
        status = grdi_tokenizer_parse(text, size_bytes, inside, tokenizer, error);
    grdi_free(inside);
    if (status != GRD_OK) {
        grdi_free(text);
        return status;
    }
    (*tokenizer)->source = text; /* it is written as it was read */
    (*tokenizer)->source_bytes = size_bytes;
    return GRD_OK;
}
