/* choose.h - one token from logits: temperature, top-k, top-p. */
#ifndef GRDI_CHOOSE_H
#define GRDI_CHOOSE_H

#include <gradus/run.h>

typedef struct grdi_choice {
    float logit;
    int32_t id;
} grdi_choice;

/* The token that the uniform number `unit` in [0, 1) picks. `choices` is room for `count` entries. The order of filters
 * is Hugging Face's: temperature, then the top_k likeliest, then the fewest of those whose probabilities reach top_p.
 */
int32_t grdi_choose(const float *logits, int32_t count, const grd_sample_options *options, double unit,
                    grdi_choice *choices);

#endif
