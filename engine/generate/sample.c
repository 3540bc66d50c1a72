/* sample.c - continues a prompt with the model of a run directory. */
#include "base/file.h"
#include "base/memory.h"
#include "base/random.h"
#include "data/utf8.h"
#include "generate/choose.h"
#include "generate/decode.h"
#include "generate/load.h"

#include <math.h>
#include <string.h>

enum { DEFAULT_TOKENS = 200 };

/* What sampling holds: the model, what decodes with it, and the tokens so far. */
typedef struct sampler {
    const grd_sample_options *options;
    grdi_loaded from;
    grdi_decoder decoder;
    float *values; /* [vocab]: the logits, without what is not to be chosen */
    grdi_choice *choices;
    int32_t *tokens; /* prompt and what was added */
    int64_t count;
    grd_error *error;
} sampler;

static int64_t wanted_tokens(const sampler *s)
{
    return s->options->tokens > 0 ? s->options->tokens : DEFAULT_TOKENS;
}

static grd_status build(sampler *s)
{
    const grd_gpt *gpt = &s->from.settings->model.gpt;
    s->values = grdi_alloc((size_t)gpt->vocab * sizeof(float));
    s->choices = grdi_alloc((size_t)gpt->vocab * sizeof(*s->choices));
    if (!s->values || !s->choices) return grd_fail(s->error, GRD_E_MEMORY, "out of memory");
    return grdi_decoder_open(&s->decoder, s->from.model, gpt, s->count + wanted_tokens(s), s->options->no_cache,
                             s->error);
}

/* Whether the training text had the token that separates texts: one file has none of it. */
static bool separators_were_seen(const sampler *s)
{
    const char *path = s->from.settings->data.path;
    return s->from.hf_folder || !path || grdi_path_is_directory(path);
}

/* What stands before a prompt: where texts were separated in training, the token that separates them; else nothing (the
 * model never saw that token), or a line end before an empty prompt. A prompt for somebody else's model stands alone,
 * as it does there. */
static grd_status encode_prompt(sampler *s)
{
    const char *prompt = s->options->prompt ? s->options->prompt : "";
    int32_t separator = grd_tokenizer_end_of_text(s->from.tokenizer);
    bool separated = separator >= 0 && (s->from.hf_folder ? !prompt[0] : separators_were_seen(s));
    if (!prompt[0] && !separated) prompt = "\n";
    grd_ids ids = {0};
    grd_status status =
        grd_tokenizer_encode(s->from.tokenizer, (grd_text){prompt, strlen(prompt)}, NULL, &ids, s->error);
    if (status) return status;
    int64_t total = ids.count + 1 + wanted_tokens(s);
    s->tokens = grdi_alloc((size_t)total * sizeof(int32_t));
    if (s->tokens) {
        if (separated) s->tokens[s->count++] = separator;
        grd_ids_read(&ids, 0, ids.count, s->tokens + s->count);
        s->count += ids.count;
        if (!s->count) s->tokens[s->count++] = 0; /* a tokenizer that knows no line end */
    }
    grd_ids_free(&ids);
    return s->tokens ? GRD_OK : grd_fail(s->error, GRD_E_MEMORY, "out of memory");
}

/* One more token. */
static grd_status next_token(sampler *s, int64_t index)
{
    const float *logits;
    grd_status status = grdi_decoder_logits(&s->decoder, s->tokens, s->count, &logits);
    if (status) return status;
    memcpy(s->values, logits, (size_t)s->from.settings->model.gpt.vocab * sizeof(float));
    int32_t end = grd_tokenizer_end_of_text(s->from.tokenizer);
    if (end >= 0 && !separators_were_seen(s)) s->values[end] = -INFINITY; /* its logit was never trained */
    double unit = grdi_unit(grdi_random_u32(s->options->seed, 0, grdi_hash_text("sample"), (uint64_t)index));
    s->tokens[s->count++] =
        grdi_choose(s->values, (int32_t)grd_tokenizer_vocab_size(s->from.tokenizer), s->options, unit, s->choices);
    return GRD_OK;
}

/* Bytes that have been decoded and not yet handed on. */
typedef struct pending {
    uint8_t bytes[4096];
    size_t size;
    void (*on_text)(void *context, const char *bytes, size_t size_bytes);
    void *context;
} pending;

/* Whether `text` could be the beginning of a character whose other bytes are still to come. */
static bool cut_off(const uint8_t *text, size_t size)
{
    size_t length = text[0] >= 0xF0 ? 4 : text[0] >= 0xE0 ? 3 : text[0] >= 0xC2 ? 2 : 1;
    if (text[0] > 0xF4 || size >= length) return false;
    for (size_t i = 1; i < size; i++)
        if ((text[i] & 0xC0) != 0x80) return false;
    return true;
}

/* Hands on whole characters; a byte that belongs to none becomes U+FFFD. `all`: nothing more comes. */
static void hand_on(pending *p, bool all)
{
    size_t at = 0, sent = 0;
    while (at < p->size) {
        uint32_t code_point;
        int length = grdi_utf8_decode(p->bytes + at, p->size - at, &code_point);
        if (!length && !all && cut_off(p->bytes + at, p->size - at)) break;
        if (!length) {
            if (at > sent) p->on_text(p->context, (const char *)p->bytes + sent, at - sent);
            p->on_text(p->context, "\xEF\xBF\xBD", 3);
            sent = at + 1;
        }
        at += length ? (size_t)length : 1;
    }
    if (at > sent) p->on_text(p->context, (const char *)p->bytes + sent, at - sent);
    memmove(p->bytes, p->bytes + at, p->size - at);
    p->size -= at;
}

static grd_status generate(sampler *s, void (*on_text)(void *, const char *, size_t), void *context)
{
    int64_t wanted = wanted_tokens(s);
    pending p = {.on_text = on_text, .context = context};
    if (s->options->prompt) on_text(context, s->options->prompt, strlen(s->options->prompt));
    for (int64_t i = 0; i < wanted; i++) {
        grd_status status = next_token(s, i);
        if (status) return status;
        const int32_t *token = &s->tokens[s->count - 1];
        if (*token == grd_tokenizer_end_of_text(s->from.tokenizer)) break;
        size_t room = sizeof(p.bytes) - p.size;
        int64_t length = grd_tokenizer_decode(s->from.tokenizer, token, 1, true, (char *)p.bytes + p.size, room);
        if (length < 0 || (size_t)length > room) continue; /* longer than any token of a real vocabulary */
        p.size += (size_t)length;
        hand_on(&p, false);
    }
    hand_on(&p, true);
    return GRD_OK;
}

grd_status grd_sample_run(const char *run, const grd_sample_options *options, const grd_run_options *run_options,
                          void (*on_text)(void *context, const char *bytes, size_t size_bytes), void *context,
                          grd_error *error)
{
    grd_error own = {GRD_OK, ""};
    sampler s = {.options = options, .error = error ? error : &own};
    s.from.error = s.error;
    grd_status status = grdi_load_open(&s.from, run, run_options);
    if (!status && !s.from.tokenizer)
        status =
            grd_fail(s.error, GRD_E_IO, "%s: has no tokenizer.json (copy the one its tokens came from there)", run);
    if (!status) status = encode_prompt(&s);
    if (!status) status = build(&s);
    if (!status) status = grdi_load_weights(&s.from);
    if (!status) status = generate(&s, on_text, context);
    grdi_decoder_close(&s.decoder);
    grdi_load_close(&s.from);
    grdi_free(s.values);
    grdi_free(s.choices);
    grdi_free(s.tokens);
    return status;
}
