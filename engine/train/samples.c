/* samples.c - texts that a run writes with its model while it trains. */
#include "train/session.h"

#include "base/memory.h"

#include <string.h>

#define TEMPERATURE 0.8

/* Whether tokens can be turned into text: a plan knows it before there is a tokenizer. */
static bool is_text(const grdi_session *s)
{
    const char *tokenizer = s->settings->data.tokenizer;
    bool language = grd_settings_of_language(s->settings);
    return language && (s->tokenizer || s->settings->data.path || (tokenizer && strchr(tokenizer, '.')));
}

grd_status grdi_session_build_sampler(grdi_session *s)
{
    const grd_settings *settings = s->settings;
    if (settings->train.sample_every == 0 || s->images || !is_text(s)) return GRD_OK;
    s->sampler = (grdi_sampler){.options = {.size = sizeof(s->sampler.options),
                                            .prompt = settings->train.sample_prompt,
                                            .tokens = settings->train.sample_tokens,
                                            .temperature = TEMPERATURE,
                                            .seed = (uint64_t)settings->train.seed},
                                .tokenizer = s->tokenizer,
                                .separators = !settings->data.path || grdi_path_is_directory(settings->data.path),
                                .error = s->error};
    return grdi_sampler_open(&s->sampler, s->model, &settings->model.gpt);
}

typedef struct text {
    char *bytes;
    size_t size, capacity;
    bool failed;
} text;

/* A byte of value 0, which models of bytes do write, would end the text. */
static void append(void *context, const char *bytes, size_t size)
{
    text *t = context;
    for (size_t i = 0; i < size && !t->failed; i++) {
        const char *from = bytes[i] ? bytes + i : "\xEF\xBF\xBD";
        size_t length = bytes[i] ? 1 : 3;
        t->failed = t->size + length + 1 > t->capacity;
        if (t->failed) {
            size_t capacity = 2 * t->capacity + 1024;
            char *more = grdi_realloc(t->bytes, capacity, 1);
            if (!more) return;
            *t = (text){more, t->size, capacity, false};
        }
        memcpy(t->bytes + t->size, from, length);
        t->size += length;
        t->bytes[t->size] = '\0';
    }
}

grd_status grdi_session_sample(grdi_session *s, double progress)
{
    text t = {0};
    if (!s->sampler.tokens || !s->tokenizer) return GRD_OK;
    grd_status status = grdi_sampler_run(&s->sampler, append, &t);
    if (!status && t.failed) status = grd_fail(s->error, GRD_E_MEMORY, "out of memory for a sample");
    if (!status)
        grdi_session_emit(
            s, &(grd_event){
                   .kind = GRD_EVENT_SAMPLE, .step = s->done, .progress = progress, .text = t.bytes ? t.bytes : ""});
    grdi_free(t.bytes);
    return status;
}
