/* sampler.c - texts from a model that is at hand: prompt, tokens one by one, whole characters. */
#include "generate/sampler.h"

#include "base/memory.h"
#include "base/random.h"
#include "data/utf8.h"

#include <math.h>
#include <string.h>

enum { DEFAULT_TOKENS = 200 };

static grd_status out_of_memory(const grdi_sampler *s)
{
    return grd_fail(s->error, GRD_E_MEMORY, "out of memory for a sample");
}

static int64_t wanted_tokens(const grdi_sampler *s)
{
    return s->options.tokens > 0 ? s->options.tokens : DEFAULT_TOKENS;
}

/* ---- the prompt ---- */

static grd_status make_room(grdi_sampler *s, int64_t prompt_tokens)
{
    s->tokens = grdi_alloc((size_t)(prompt_tokens + wanted_tokens(s)) * sizeof(int32_t));
    return s->tokens ? GRD_OK : out_of_memory(s);
}

/* What stands before a prompt: where texts were separated in training, the token that separates them; else nothing (the
 * model never saw that token), or a line end before an empty prompt. A prompt for somebody else's model stands alone,
 * as it does there. */
static grd_status encode_prompt(grdi_sampler *s)
{
    const char *prompt = s->options.prompt ? s->options.prompt : "";
    int32_t separator = grd_tokenizer_end_of_text(s->tokenizer);
    bool separated = separator >= 0 && (s->foreign ? !prompt[0] : s->separators);
    if (!prompt[0] && !separated) prompt = "\n";
    grd_ids ids = {0};
    grd_status status = grd_tokenizer_encode(s->tokenizer, (grd_text){prompt, strlen(prompt)}, NULL, &ids, s->error);
    if (!status) status = make_room(s, ids.count + 1);
    if (!status) {
        if (separated) s->tokens[s->prompt_count++] = separator;
        grd_ids_read(&ids, 0, ids.count, s->tokens + s->prompt_count);
        s->prompt_count += ids.count;
        if (!s->prompt_count) s->tokens[s->prompt_count++] = 0; /* a tokenizer that knows no line end */
    }
    grd_ids_free(&ids);
    return status;
}

/* For plans, which have no tokenizer: no token is shorter than a byte. */
static grd_status imagine_prompt(grdi_sampler *s)
{
    size_t bytes = s->options.prompt ? strlen(s->options.prompt) : 0;
    s->prompt_count = bytes ? (int64_t)bytes : 1;
    return make_room(s, s->prompt_count);
}

grd_status grdi_sampler_open(grdi_sampler *s, grd_model *model, const grd_gpt *gpt)
{
    grd_status status = s->tokenizer ? encode_prompt(s) : imagine_prompt(s);
    if (status) return status;
    s->vocab = gpt->vocab;
    s->values = grdi_alloc((size_t)gpt->vocab * sizeof(float));
    s->choices = grdi_alloc((size_t)gpt->vocab * sizeof(*s->choices));
    if (!s->values || !s->choices) return out_of_memory(s);
    return grdi_decoder_open(&s->decoder, model, gpt, s->prompt_count + wanted_tokens(s), s->options.no_cache,
                             s->error);
}

void grdi_sampler_close(grdi_sampler *s)
{
    grdi_decoder_close(&s->decoder);
    grdi_free(s->values);
    grdi_free(s->choices);
    grdi_free(s->tokens);
}

/* ---- one text ---- */

/* One more token. */
static grd_status next_token(grdi_sampler *s, int64_t index)
{
    const float *logits;
    grd_status status = grdi_decoder_logits(&s->decoder, s->tokens, s->count, &logits);
    if (status) return status;
    memcpy(s->values, logits, (size_t)s->vocab * sizeof(float));
    int32_t end = grd_tokenizer_end_of_text(s->tokenizer);
    if (end >= 0 && !s->separators) s->values[end] = -INFINITY; /* its logit was never trained */
    double unit = grdi_unit(grdi_random_u32(s->options.seed, 0, grdi_hash_text("sample"), (uint64_t)index));
    s->tokens[s->count++] =
        grdi_choose(s->values, (int32_t)grd_tokenizer_vocab_size(s->tokenizer), &s->options, unit, s->choices);
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

grd_status grdi_sampler_run(grdi_sampler *s, void (*on_text)(void *, const char *, size_t), void *context)
{
    int64_t wanted = wanted_tokens(s);
    pending p = {.on_text = on_text, .context = context};
    s->count = s->prompt_count;
    grdi_decoder_restart(&s->decoder);
    if (s->options.prompt) on_text(context, s->options.prompt, strlen(s->options.prompt));
    for (int64_t i = 0; i < wanted; i++) {
        grd_status status = next_token(s, i);
        if (status) return status;
        const int32_t *token = &s->tokens[s->count - 1];
        if (*token == grd_tokenizer_end_of_text(s->tokenizer)) break;
        size_t room = sizeof(p.bytes) - p.size;
        int64_t length = grd_tokenizer_decode(s->tokenizer, token, 1, true, (char *)p.bytes + p.size, room);
        if (length < 0 || (size_t)length > room) continue; /* longer than any token of a real vocabulary */
        p.size += (size_t)length;
        hand_on(&p, false);
    }
    hand_on(&p, true);
    return GRD_OK;
}
