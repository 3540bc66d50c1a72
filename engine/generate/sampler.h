/* sampler.h - texts from a model that is at hand, one after the other. */
#ifndef GRDI_GENERATE_SAMPLER_H
#define GRDI_GENERATE_SAMPLER_H

#include "generate/choose.h"
#include "generate/decode.h"

#include <gradus/run.h>

/* Zeroed before use but for the first fields. */
typedef struct grdi_sampler {
    grd_sample_options options;     /* the prompt is the caller's */
    const grd_tokenizer *tokenizer; /* NULL: only to plan */
    bool foreign;                   /* somebody else's model: a prompt stands alone */
    bool separators;                /* the training texts had the token that separates texts: one file has none of it */
    grd_error *error;

    grdi_decoder decoder;
    int64_t vocab;
    float *values; /* [vocab]: the logits, without what is not to be chosen */
    grdi_choice *choices;
    int32_t *tokens; /* prompt and what was added */
    int64_t prompt_count, count;
} grdi_sampler;

/* Encodes the prompt and compiles what generating needs; all memory is taken here. The model's parameters exist after
 * this. To be closed also on failure. */
grd_status grdi_sampler_open(grdi_sampler *s, grd_model *model, const grd_gpt *gpt);
/* A text with the weights as they are now, see grd_sample_run. May be called again and again: the same weights give the
 * same text. */
grd_status grdi_sampler_run(grdi_sampler *s, void (*on_text)(void *context, const char *bytes, size_t size_bytes),
                            void *context);
void grdi_sampler_close(grdi_sampler *s);

#endif
