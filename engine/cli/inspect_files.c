/* inspect_files.c - single files: tensors, token shards, tokenizers. */
#include "cli/inspect.h"

#include <stdlib.h>
#include <string.h>

/* ---- tensors ---- */

static json_t *dims_json(grd_dims dims)
{
    json_t *list = json_array();
    for (int32_t i = 0; i < dims.rank; i++) json_array_append_new(list, json_integer(dims.dim[i]));
    return list;
}

static json_t *tensor_list(const grd_safetensors *file)
{
    json_t *list = json_array();
    for (size_t i = 0; i < grd_safetensors_count(file); i++) {
        const grd_file_tensor *t = grd_safetensors_at(file, i);
        json_array_append_new(list, json_pack("{s:s, s:s, s:o, s:I}", "name", t->name, "dtype", t->dtype_name, "shape",
                                              dims_json(t->dims), "size_bytes", (json_int_t)t->size_bytes));
    }
    return list;
}

int inspect_tensors(const inspection *a)
{
    grd_safetensors *file;
    grd_error error = {GRD_OK, ""};
    if (grd_safetensors_open(a->path, &file, &error)) return cli_fail(&a->common, &error, false);
    int64_t elements = 0, bytes = 0;
    size_t count = grd_safetensors_count(file);
    int code = CLI_DONE;
    for (size_t i = 0; i < count; i++) {
        const grd_file_tensor *t = grd_safetensors_at(file, i);
        char text[GRD_DIMS_TEXT_MAX];
        elements += grd_dims_count(t->dims);
        bytes += (int64_t)t->size_bytes;
        if (!a->common.json && !a->common.quiet)
            printf("%-8s %-20s %s\n", t->dtype_name, grd_dims_text(t->dims, text), t->name);
    }
    if (a->common.json)
        code = cli_print_json(&a->common, json_pack("{s:s, s:s, s:s, s:I, s:I, s:o}", "event", "inspect", "kind",
                                                    "tensors", "path", a->path, "elements", (json_int_t)elements,
                                                    "size_bytes", (json_int_t)bytes, "tensors", tensor_list(file)));
    else printf("%s: %zu tensors, %s elements, %s\n", a->path, count, cli_count(elements), cli_bytes((double)bytes));
    grd_safetensors_close(file);
    return code;
}

/* ---- token shards ---- */

/* Least and greatest token, and how many differ, in pieces. */
static grd_status survey(const grd_tokens *shard, int32_t *least, int32_t *greatest, grd_error *error)
{
    enum { PIECE = 65536 };
    static int32_t piece[PIECE];
    size_t count = grd_tokens_count(shard);
    *least = INT32_MAX;
    *greatest = -1;
    for (size_t first = 0; first < count; first += PIECE) {
        size_t here = count - first < PIECE ? count - first : PIECE;
        grd_status status = grd_tokens_read(shard, first, here, piece, error);
        if (status) return status;
        for (size_t i = 0; i < here; i++) {
            if (piece[i] < 0)
                return grd_fail(error, GRD_E_FORMAT, "the token at position %zu is above 2^31 (the shard is damaged)",
                                first + i);
            if (piece[i] < *least) *least = piece[i];
            if (piece[i] > *greatest) *greatest = piece[i];
        }
    }
    return GRD_OK;
}

int inspect_shard(const inspection *a)
{
    static const char *const names[] = {"", "gpt2", "llama3", "raw"};
    grd_tokens *shard;
    grd_error error = {GRD_OK, ""};
    int32_t least, greatest;
    if (grd_tokens_open(a->path, GRD_TOKENS_AUTO, &shard, &error)) return cli_fail(&a->common, &error, false);
    const char *format = names[grd_tokens_format(shard)];
    size_t count = grd_tokens_count(shard);
    grd_status status = survey(shard, &least, &greatest, &error);
    grd_tokens_close(shard);
    if (status) return cli_error(&a->common, CLI_USAGE, "%s: %s", a->path, error.message);
    if (a->common.json)
        return cli_print_json(&a->common, json_pack("{s:s, s:s, s:s, s:s, s:I, s:i, s:i}", "event", "inspect", "kind",
                                                    "shard", "path", a->path, "format", format, "tokens",
                                                    (json_int_t)count, "least", least, "greatest", greatest));
    printf("%s: a token shard of %s tokens in llm.c's %s format; ids from %d to %d\n", a->path,
           cli_count((int64_t)count), format, least, greatest);
    return CLI_DONE;
}

/* ---- tokenizers ---- */

static int show_tokenizer(const inspection *a, const grd_tokenizer *t)
{
    static const char *const kinds[] = {"bpe", "byte", "char"};
    int32_t vocab = grd_tokenizer_vocab_size(t), end = grd_tokenizer_end_of_text(t);
    const char *kind = kinds[grd_tokenizer_kind_of(t)];
    json_t *special = json_object();
    for (int32_t id = 0; id < vocab; id++) {
        size_t size;
        const uint8_t *bytes = grd_tokenizer_is_special(t, id) ? grd_tokenizer_token(t, id, &size) : NULL;
        if (!bytes) continue;
        json_t *name = cli_json_text((const char *)bytes, size);
        json_object_set_new(special, json_string_value(name), json_integer(id));
        json_decref(name);
    }
    if (a->common.json)
        return cli_print_json(&a->common,
                              json_pack("{s:s, s:s, s:s, s:s, s:i, s:o, s:o}", "event", "inspect", "kind", "tokenizer",
                                        "path", a->path, "model", kind, "vocab", (int)vocab, "end_of_text",
                                        end >= 0 ? json_integer(end) : json_null(), "special", special));
    printf("%s: a %s tokenizer of %s tokens\n", a->path, kind, cli_count(vocab));
    const char *name;
    json_t *id;
    json_object_foreach(special, name, id) printf("  special %6lld  %s%s\n", (long long)json_integer_value(id), name,
                                                  json_integer_value(id) == end ? "  (ends a text)" : "");
    json_decref(special);
    return CLI_DONE;
}

int inspect_tokenizer(const inspection *a)
{
    grd_tokenizer *tokenizer;
    grd_error error = {GRD_OK, ""};
    if (grd_tokenizer_load(a->path, &tokenizer, &error)) return cli_fail(&a->common, &error, false);
    int code = show_tokenizer(a, tokenizer);
    grd_tokenizer_free(tokenizer);
    return code;
}
