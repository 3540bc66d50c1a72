/* fuzz_merges.c - tokenizer.json with any vocabulary and merges, in a frame that is always right: what tokens and
 * merges there are, in which order and with which ids, comes from the input. What is accepted gives a text back. */
#include "fuzz.h"

#include "data/tokenizer.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static const char frame[] =
    "{\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":true},\"model\":{\"type\":"
    "\"BPE\",\"vocab\":{},\"merges\":[]},\"added_tokens\":[]}";

enum { TOKENS_MAX = 32, LETTERS = 5 };

/* A token of one to four letters a to e; most are made of two tokens that are there. */
static void make_token(fuzz_input *in, char tokens[][32], int count, char *token)
{
    if (count > 1 && fuzz_byte(in) % 4) {
        snprintf(token, 32, "%.14s%.14s", tokens[fuzz_below(in, count)], tokens[fuzz_below(in, count)]);
        return;
    }
    int length = 1 + fuzz_below(in, 4);
    for (int i = 0; i < length; i++) token[i] = (char)('a' + fuzz_below(in, LETTERS));
    token[length] = '\0';
}

static json_t *make_file(fuzz_input *in)
{
    char tokens[TOKENS_MAX][32];
    int count = 0, wanted = fuzz_below(in, TOKENS_MAX), merges = fuzz_below(in, 40);
    json_t *root = json_loads(frame, 0, NULL), *model = json_object_get(root, "model"),
           *vocab = json_object_get(model, "vocab"), *list = json_object_get(model, "merges");
    json_object_set_new(model, "ignore_merges", json_boolean(fuzz_byte(in) % 2));
    for (; count < LETTERS; count++) snprintf(tokens[count], 32, "%c", 'a' + count);
    for (; count < wanted; count++) make_token(in, tokens, count, tokens[count]);
    for (int i = 0; i < count; i++) {
        int far = fuzz_byte(in);
        json_object_set_new(vocab, tokens[i], json_integer(far == 255 ? -1 : far == 254 ? 1 << 12 : i + (far == 253)));
    }
    for (int i = 0; i < merges; i++) {
        const char *a = tokens[fuzz_below(in, count)], *b = tokens[fuzz_below(in, count)];
        if (i % 2) json_array_append_new(list, json_pack("[ss]", a, b));
        else json_array_append_new(list, json_sprintf("%s %s", a, b));
    }
    return root;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_input in = {data, data + size};
    grd_error error = {0};
    grd_tokenizer *t;
    json_t *root = make_file(&in);
    char *file = json_dumps(root, JSON_COMPACT), text[200];
    json_decref(root);
    grd_status status = grdi_tokenizer_parse(file, strlen(file), "merges", &t, &error);
    free(file);
    if (status != GRD_OK) {
        fuzz_check_error(status, &error);
        return 0;
    }
    size_t length = 0;
    while (in.at < in.end && length < sizeof text) text[length++] = (char)('a' + fuzz_below(&in, LETTERS));
    grd_ids ids;
    grd_encode_options options = {.threads = 1};
    FUZZ_CHECK(grd_tokenizer_encode(t, (grd_text){text, length}, &options, &ids, &error) == GRD_OK);
    int32_t list[200];
    char out[200];
    FUZZ_CHECK(ids.count <= 200);
    grd_ids_read(&ids, 0, ids.count, list);
    FUZZ_CHECK(grd_tokenizer_decode(t, list, ids.count, false, out, sizeof out) == (int64_t)length);
    FUZZ_CHECK(memcmp(text, out, length) == 0);
    grd_ids_free(&ids);
    grd_tokenizer_free(t);
    return 0;
}
