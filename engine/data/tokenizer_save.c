/* tokenizer_save.c - writing tokenizer.json as Hugging Face's `tokenizers` reads it. */
#include "base/file.h"
#include "data/tokenizer.h"
#include "data/utf8.h"

#include <string.h>

/* A JSON text of UTF-8. */
static void put_text(grdi_writer *w, const uint8_t *text, size_t size_bytes)
{
    grdi_writer_put(w, "\"", 1);
    for (size_t i = 0; i < size_bytes; i++) {
        if (text[i] == '"' || text[i] == '\\')
            grdi_writer_print(w, "\\%c", text[i]);
        else if (text[i] < 0x20)
            grdi_writer_print(w, "\\u%04x", text[i]);
        else
            grdi_writer_put(w, text + i, 1);
    }
    grdi_writer_put(w, "\"", 1);
}

static bool is_added(const grd_tokenizer *t, int32_t id)
{
    for (size_t i = 0; i < t->added_count; i++)
        if (t->added[i].id == id)
            return true;
    return false;
}

/* The characters of a token, without quotes: bytes by GPT-2's alphabet, added tokens and characters as they are. Quotes
 * and backslashes are escaped. */
static void put_token(grdi_writer *w, const grd_tokenizer *t, int32_t id)
{
    size_t size;
    const uint8_t *bytes = grdi_vocab_bytes(&t->vocab, id, &size);
    for (size_t i = 0; i < size; i++) {
        uint8_t out[4];
        uint32_t c = grdi_alphabet_char(bytes[i]);
        if (c == '"' || c == '\\')
            grdi_writer_put(w, "\\", 1);
        grdi_writer_put(w, out, (size_t)grdi_utf8_encode(c, out));
    }
}

static void put_vocab(grdi_writer *w, const grd_tokenizer *t)
{
    grdi_writer_print(w, "    \"vocab\": {");
    for (size_t id = 0; id < t->vocab.count; id++) {
        size_t size;
        const uint8_t *bytes = grdi_vocab_bytes(&t->vocab, (int32_t)id, &size);
        grdi_writer_print(w, id > 0 ? ",\n      " : "\n      ");
        if (t->kind == GRD_TOKENIZER_CHAR || is_added(t, (int32_t)id)) {
            put_text(w, bytes, size);
        } else {
            grdi_writer_put(w, "\"", 1);
            put_token(w, t, (int32_t)id);
            grdi_writer_put(w, "\"", 1);
        }
        grdi_writer_print(w, ": %zu", id);
    }
    grdi_writer_print(w, "\n    },\n    \"merges\": [");
    for (size_t i = 0; i < t->merges.count; i++) {
        grdi_writer_print(w, i > 0 ? ",\n      \"" : "\n      \"");
        put_token(w, t, t->merges.list[i].a);
        grdi_writer_put(w, " ", 1);
        put_token(w, t, t->merges.list[i].b);
        grdi_writer_put(w, "\"", 1);
    }
    grdi_writer_print(w, "%s]\n", t->merges.count > 0 ? "\n    " : "");
}

static void put_added(grdi_writer *w, const grd_tokenizer *t)
{
    bool first = true;
    grdi_writer_print(w, "  \"added_tokens\": [");
    for (size_t id = 0; id < t->vocab.count; id++) { /* by rising id, as the reference does */
        if (!is_added(t, (int32_t)id))
            continue;
        size_t size;
        const uint8_t *bytes = grdi_vocab_bytes(&t->vocab, (int32_t)id, &size);
        grdi_writer_print(w, "%s\n    {\"id\": %zu, \"content\": ", first ? "" : ",", id);
        put_text(w, bytes, size);
        grdi_writer_print(w, ", \"single_word\": false, \"lstrip\": false, \"rstrip\": false, \"normalized\": false, "
                             "\"special\": true}");
        first = false;
    }
    grdi_writer_print(w, "%s],\n", first ? "" : "\n  ");
}

static void put_pre_tokenizer(grdi_writer *w, const grd_tokenizer *t)
{
    if (t->kind == GRD_TOKENIZER_CHAR) {
        grdi_writer_print(w, "  \"pre_tokenizer\": null,\n");
        return;
    }
    bool by_pattern = t->kind == GRD_TOKENIZER_BPE && t->pattern != GRD_PATTERN_GPT2;
    if (by_pattern) {
        const char *pattern = t->pattern == GRD_PATTERN_LLAMA3 ? grdi_pattern_llama3 : grdi_pattern_qwen2;
        grdi_writer_print(w, "  \"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": [\n"
                             "    {\"type\": \"Split\", \"pattern\": {\"Regex\": ");
        put_text(w, (const uint8_t *)pattern, strlen(pattern));
        grdi_writer_print(w, "}, \"behavior\": \"Isolated\", \"invert\": false},\n    ");
    } else {
        grdi_writer_print(w, "  \"pre_tokenizer\": ");
    }
    grdi_writer_print(w,
                      "{\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": true, "
                      "\"use_regex\": %s}%s,\n",
                      t->kind == GRD_TOKENIZER_BPE && !by_pattern ? "true" : "false", by_pattern ? "\n  ]}" : "");
}

static void put_file(grdi_writer *w, const grd_tokenizer *t)
{
    bool chars = t->kind == GRD_TOKENIZER_CHAR;
    grdi_writer_print(w, "{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n  \"padding\": null,\n");
    put_added(w, t);
    grdi_writer_print(w, "  \"normalizer\": null,\n");
    put_pre_tokenizer(w, t);
    grdi_writer_print(w, "  \"post_processor\": null,\n  \"decoder\": %s,\n",
                      chars ? "{\"type\": \"Fuse\"}"
                            : "{\"type\": \"ByteLevel\", \"add_prefix_space\": true, \"trim_offsets\": true, "
                              "\"use_regex\": true}");
    grdi_writer_print(w, "  \"model\": {\n    \"type\": \"BPE\",\n    \"dropout\": null,\n    \"unk_token\": %s,\n",
                      chars ? "\"\xEF\xBF\xBD\"" : "null");
    grdi_writer_print(w, "    \"continuing_subword_prefix\": null,\n    \"end_of_word_suffix\": null,\n"
                         "    \"fuse_unk\": false,\n    \"byte_fallback\": false,\n    \"ignore_merges\": false,\n");
    put_vocab(w, t);
    grdi_writer_print(w, "  }\n}\n");
}

grd_status grd_tokenizer_save(const grd_tokenizer *t, const char *path, grd_error *error)
{
    grdi_writer writer;
    grd_status status = grdi_writer_open(&writer, path);
    if (status == GRD_OK && t->source)
        grdi_writer_put(&writer, t->source, t->source_bytes);
    else if (status == GRD_OK)
        put_file(&writer, t);
    return grdi_writer_commit(&writer, error);
}

static void put_named(grdi_writer *w, const grd_tokenizer *t, const char *name, int32_t id)
{
    size_t size;
    const uint8_t *bytes = grdi_vocab_bytes(&t->vocab, id, &size);
    if (!bytes)
        return;
    grdi_writer_print(w, ",\n  \"%s\": ", name);
    put_text(w, bytes, size);
}

grd_status grd_tokenizer_save_config(const grd_tokenizer *t, const char *path, int64_t context, grd_error *error)
{
    grdi_writer writer;
    if (grdi_writer_open(&writer, path) == GRD_OK) {
        grdi_writer_print(&writer, "{\n  \"tokenizer_class\": \"PreTrainedTokenizerFast\",\n"
                                   "  \"clean_up_tokenization_spaces\": false");
        if (context > 0)
            grdi_writer_print(&writer, ",\n  \"model_max_length\": %lld", (long long)context);
        put_named(&writer, t, "eos_token", grd_tokenizer_end_of_text(t));
        put_named(&writer, t, "bos_token", t->before_count > 0 ? t->before[0] : -1);
        grdi_writer_print(&writer, "\n}\n");
    }
    return grdi_writer_commit(&writer, error);
}
