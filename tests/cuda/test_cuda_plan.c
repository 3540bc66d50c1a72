/* test_cuda_plan.c - what `gradus plan` says of GPUs that nobody has: the time of known models on an H100 lies between
 * what the card's peak allows and 1.25 times what the best published rates imply. */
#include "command.h"
#include "scratch.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

TestSuite(cuda_plan, .fini = scratch_remove, .timeout = 120);

enum { CONTEXT = 1024, ACCUMULATE = 8 };

/* published: the best rate known of one H100 in bf16, in tokens a second, from runs whose updates follow some hundred
 * thousand tokens; so eight batches are accumulated here. */
static const struct {
    const char *name, *model;
    int batch;
    double published;
} models[] = {
    {"GPT-2 124M", "kind: gpt2, layers: 12, heads: 12, width: 768, vocab: 50304", 64, 475e3},
    {"GPT-2 350M", "kind: gpt2, layers: 24, heads: 16, width: 1024, vocab: 50304", 64, 188e3},
    {"GPT-2 1.5B", "kind: gpt2, layers: 48, heads: 25, width: 1600, vocab: 50304", 16, 46.8e3},
    {"Qwen2.5 0.5B",
     "kind: llama, layers: 24, heads: 14, kv_heads: 2, width: 896, mlp_width: 4864, vocab: 151936, qkv_bias: true, "
     "tied: true",
     16, 149e3},
    {"Qwen2.5 1.5B",
     "kind: llama, layers: 28, heads: 12, kv_heads: 2, width: 1536, mlp_width: 8960, vocab: 151936, qkv_bias: true, "
     "tied: true",
     16, 58.9e3},
    {"Qwen2.5 7B",
     "kind: llama, layers: 28, heads: 28, kv_heads: 4, width: 3584, mlp_width: 18944, vocab: 152064, qkv_bias: true, "
     "tied: false",
     4, 13.9e3},
};

static const double peak_flops_per_s = 989.4e12; /* NVIDIA's datasheet "H100" (SXM), bf16, dense */

Test(cuda_plan, times_on_an_h100_lie_between_peak_and_published_rates)
{
    for (size_t i = 0; i < sizeof(models) / sizeof(models[0]); i++) {
        char text[512];
        snprintf(text, sizeof(text),
                 "model: {%s, context: %d}\ndata: {path: none.txt}\n"
                 "train: {batch: %d, accumulate: %d, precision: bf16, optimizer: adamw, steps: 10}\n",
                 models[i].model, CONTEXT, models[i].batch, ACCUMULATE);
        scratch_write(scratch_path("model.yaml"), text, strlen(text));
        json_t *plan = only_event(gradus("plan model.yaml --device h100 --json"), "plan");
        double seconds = number_of(plan, "predicted_step_ms") / 1e3, flops = number_of(plan, "flops_per_step");
        double tokens = (double)models[i].batch * CONTEXT * ACCUMULATE;
        double least = flops / peak_flops_per_s, most = 1.25 * tokens / models[i].published;
        printf("%s: %.1f GB, %.0f ms for %.0f tokens (%.1fk tokens/s); peak %.0f ms, 1.25 of published %.0f ms\n",
               models[i].name, number_of(plan, "peak_bytes") / 1e9, 1e3 * seconds, tokens, tokens / seconds / 1e3,
               1e3 * least, 1e3 * most);
        cr_expect(seconds >= least && seconds <= most, "%s: %.4g s, not in %.4g..%.4g", models[i].name, seconds, least,
                  most);
    }
}
