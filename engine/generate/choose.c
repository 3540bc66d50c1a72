/* choose.c - sampling from logits. */
#include "generate/choose.h"

#include <math.h>
#include <stdlib.h>

static int likelier_first(const void *a, const void *b)
{
    const grdi_choice *x = a, *y = b;
    if (x->logit != y->logit) return x->logit > y->logit ? -1 : 1;
    return x->id < y->id ? -1 : 1;
}

int32_t grdi_choose(const float *logits, int32_t count, const grd_sample_options *options, double unit,
                    grdi_choice *choices)
{
    int32_t best = 0;
    for (int32_t i = 0; i < count; i++) {
        choices[i] = (grdi_choice){logits[i], i};
        if (logits[i] > logits[best]) best = i;
    }
    if (options->temperature < 0) return best;
    double temperature = options->temperature > 0 ? options->temperature : 1;
    int32_t kept = options->top_k > 0 && options->top_k < count ? options->top_k : count;
    double most = logits[best], all = 0;
    bool nucleus = options->top_p > 0 && options->top_p < 1;
    if (kept < count || nucleus) qsort(choices, (size_t)count, sizeof(*choices), likelier_first);
    for (int32_t i = 0; i < kept; i++) all += exp((choices[i].logit - most) / temperature);
    if (nucleus) {
        double sum = 0;
        int32_t i = 0;
        while (i < kept && sum < options->top_p * all) sum += exp((choices[i++].logit - most) / temperature);
        kept = i;
        all = sum;
    }
    double left = unit * all;
    for (int32_t i = 0; i < kept; i++) {
        left -= exp((choices[i].logit - most) / temperature);
        if (left < 0) return choices[i].id;
    }
    return choices[kept - 1].id;
}
