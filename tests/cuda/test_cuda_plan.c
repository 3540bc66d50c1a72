/* test_cuda_plan.c - what `gradus plan` says of GPUs that nobody has, from the CUDA plugin's own kernels: times of
 * known models on an H100 lie between what the card's peak allows and 1.25 times what the best published rates imply;
 * what does not fit the card is said, with what makes it fit. */
#include "command.h"
#include "scratch.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum { CONTEXT = 1024, TOKENS = 524288 }; /* of a step, in the published runs */

/* published: the best rate known of one H100 in bf16, in tokens a second. Of Qwen2.5: llmq's benchmarks/H100x1.md and
 * README.md, with their batches where they fit beside our gradients and moments in f32. */
static const struct {
    const char *name, *model;
    int batch;
    bool fits;
    double published;
} models[] = {
    {"GPT-2 124M", "kind: gpt2, layers: 12, heads: 12, width: 768, vocab: 50304", 64, true, 475e3},
    {"GPT-2 350M", "kind: gpt2, layers: 24, heads: 16, width: 1024, vocab: 50304", 64, true, 188e3},
    {"GPT-2 1.5B", "kind: gpt2, layers: 48, heads: 25, width: 1600, vocab: 50304", 16, true, 46.8e3},
    {"Qwen2.5 0.5B",
     "kind: llama, layers: 24, heads: 14, kv_heads: 2, width: 896, mlp_width: 4864, vocab: 151936, qkv_bias: true, "
     "tied: true",
     32, true, 149e3},
    {"Qwen2.5 1.5B",
     "kind: llama, layers: 28, heads: 12, kv_heads: 2, width: 1536, mlp_width: 8960, vocab: 151936, qkv_bias: true, "
     "tied: true",
     16, true, 58.9e3},
    {"Qwen2.5 7B",
     "kind: llama, layers: 28, heads: 28, kv_heads: 4, width: 3584, mlp_width: 18944, vocab: 152064, qkv_bias: true, "
     "tied: false",
     4, false, 13.9e3},
};
enum { MODELS = sizeof(models) / sizeof(models[0]), GPT2_124M = 0, GPT2_1_5B = 2, QWEN_7B = 5 };

static const double peak_flops_per_s = 989.4e12; /* NVIDIA's datasheet "H100" (SXM), bf16, dense */

/* The plugin beside the command, or where nvcc is missing, the simulator's, which has the same kernels. */
static void find_plugin(void)
{
    setenv("GRADUS_PLUGIN_DIR", GRADUS_BINARY_DIR "/tests", 1);
}

TestSuite(cuda_plan, .init = find_plugin, .fini = scratch_remove);

static void write_config(int model, int batch, int accumulate, const char *precision)
{
    char text[512];
    snprintf(text, sizeof(text),
             "model: {%s, context: %d}\ndata: {path: none.txt}\n"
             "train: {batch: %d, accumulate: %d, precision: %s, optimizer: adamw, steps: 10}\n",
             models[model].model, CONTEXT, batch, accumulate, precision);
    scratch_write(scratch_path("model.yaml"), text, strlen(text));
}

/* The plan's line, of a call that ended with `code`. */
static json_t *plan_of(outcome o, int code)
{
    json_t *plans = events_named(o.out, "plan");
    cr_assert(o.code == code, "exit code %d: %s", o.code, o.err);
    cr_assert(json_array_size(plans) == 1, "%zu plans", json_array_size(plans));
    json_t *plan = json_array_get(plans, 0);
    cr_expect_str_eq(json_string_value(json_object_get(plan, "kernels")), "cuda");
    return plan;
}

Test(cuda_plan, times_on_an_h100_lie_between_peak_and_published_rates)
{
    for (int i = 0; i < MODELS; i++) {
        write_config(i, models[i].batch, TOKENS / CONTEXT / models[i].batch, "bf16");
        json_t *plan = plan_of(gradus("plan model.yaml --device h100 --json"), models[i].fits ? 0 : 2);
        double seconds = number_of(plan, "predicted_step_ms") / 1e3, flops = number_of(plan, "flops_per_step");
        double least = flops / peak_flops_per_s, most = 1.25 * TOKENS / models[i].published;
        printf("%s: %.1f GB, %.0f ms for %d tokens (%.1fk tokens/s); peak %.0f ms, 1.25 of published %.0f ms; "
               "%.0f launches, %.0f calls\n",
               models[i].name, number_of(plan, "peak_bytes") / 1e9, 1e3 * seconds, TOKENS, TOKENS / seconds / 1e3,
               1e3 * least, 1e3 * most, number_of(plan, "launches"), number_of(plan, "device_calls"));
        cr_expect(seconds >= least && seconds <= most, "%s: %.4g s, not in %.4g..%.4g", models[i].name, seconds, least,
                  most);
        bool fits = number_of(plan, "peak_bytes") <= number_of(plan, "device_bytes");
        cr_expect(fits == models[i].fits, "%s: %.4g bytes", models[i].name, number_of(plan, "peak_bytes"));
    }
}

/* 18 launches a layer and at most 12 + 6 beside them, each as many calls as its kernel makes; the CPU's kernels would
 * be 27 a layer, and their classifier's scratch a third of the plugin's. */
Test(cuda_plan, launches_and_scratch_are_the_plugins)
{
    enum { LAYERS = 12 };
    write_config(GPT2_124M, 64, 1, "bf16");
    json_t *plan = plan_of(gradus("plan model.yaml --device h100 --json"), 0);
    double launches = number_of(plan, "launches"), calls = number_of(plan, "device_calls");
    cr_expect(launches > 15 * LAYERS && launches <= 20 * LAYERS + 12 + 6, "%.0f launches", launches);
    cr_expect(calls > launches + LAYERS && calls < 4 * launches, "%.0f calls of %.0f launches", calls, launches);
    cr_expect(number_of(plan, "workspace_bytes") >= 256e6, "%.0f bytes of scratch", number_of(plan, "workspace_bytes"));
    outcome o = gradus("plan model.yaml --device h100");
    cr_expect(strstr(o.out, "calls of the device") && strstr(o.err, "fits in"), "%s%s", o.out, o.err);
}

/* What the message names, from its first "--set" on, makes the step fit. */
static void take_advice(const outcome *o, const char *device)
{
    char settings[256];
    const char *from = strstr(o->err, "(--set "), *to = from ? strstr(from, " needs ") : NULL;
    cr_assert(from && to, "no advice: %s", o->err);
    snprintf(settings, sizeof(settings), "%.*s", (int)(to - from - 1), from + 1);
    outcome again = gradus("plan model.yaml --device %s %s", device, settings);
    cr_expect(again.code == 0 && strstr(again.err, "fits in"), "%s: exit code %d: %s", settings, again.code, again.err);
}

Test(cuda_plan, what_does_not_fit_is_said)
{
    write_config(GPT2_1_5B, 64, 1, "bf16");
    outcome o = gradus("plan model.yaml --device h100");
    printf("%s", o.err);
    cr_expect(o.code == 2 && strstr(o.err, "error: device h100: the step needs "), "%d: %s", o.code, o.err);
    take_advice(&o, "h100");
    json_t *errors = events_named(gradus("plan model.yaml --device h100 --json").out, "error");
    cr_assert(json_array_size(errors) == 1);
    const char *message = json_string_value(json_object_get(json_array_get(errors, 0), "message"));
    cr_expect(strstr(message, "more than") && strstr(message, "--set"), "%s", message);
    o = gradus("plan model.yaml --device h100 --memory 1TB"); /* who asks is answered */
    cr_expect(o.code == 0, "%s", o.err);

    write_config(GPT2_1_5B, 2, 1, "bf16");
    o = gradus("plan model.yaml --device rtx4090");
    printf("%s", o.err);
    cr_expect(o.code == 2 && strstr(o.err, "bf16-pure"), "%s", o.err);
    take_advice(&o, "rtx4090");

    write_config(QWEN_7B, 1, 1, "bf16");
    o = gradus("plan model.yaml --device h100");
    printf("%s", o.err);
    cr_expect(o.code == 2 && strstr(o.err, "a smaller model"), "%s", o.err);
}

Test(cuda_plan, every_card_has_its_own)
{
    static const char *const cards[] = {"a100", "h100", "h200", "b200", "l4", "rtx3090", "rtx4090", "rtx5090"};
    double before = 0;
    write_config(GPT2_124M, 4, 1, "bf16");
    for (size_t i = 0; i < sizeof(cards) / sizeof(cards[0]); i++) {
        json_t *plan = plan_of(gradus("plan model.yaml --device %s --json", cards[i]), 0);
        double ms = number_of(plan, "predicted_step_ms");
        cr_expect(ms > 0 && ms != before, "%s: %g ms", cards[i], ms);
        before = ms;
    }
}

/* Tensor cores make products of f32 several times as fast, wherever precision is asked for. */
Test(cuda_plan, tf32_is_faster_than_f32)
{
    double ms[2];
    for (int tf32 = 0; tf32 < 2; tf32++) {
        write_config(GPT2_124M, 16, 1, tf32 ? "tf32" : "f32");
        ms[tf32] = number_of(plan_of(gradus("plan model.yaml --device h100 --json"), 0), "predicted_step_ms");
    }
    cr_expect(ms[1] < 0.6 * ms[0], "%.1f ms in tf32, %.1f in f32", ms[1], ms[0]);
}

Test(cuda_plan, a_large_plan_takes_no_time)
{
    static const char config[] =
        "model: {kind: llama, layers: 32, heads: 32, kv_heads: 8, width: 4096, mlp_width: 14336, vocab: 128256, "
        "tied: false, context: 32768}\ndata: {path: none.txt}\ntrain: {batch: 1, precision: bf16, steps: 1}\n";
    scratch_write(scratch_path("llama.yaml"), config, sizeof(config) - 1);
    json_t *plan = plan_of(gradus("plan llama.yaml --device h100 --memory 1TB --json"), 0);
    struct rusage usage;
    getrusage(RUSAGE_CHILDREN, &usage);
    double seconds = (double)usage.ru_utime.tv_sec + 1e-6 * (double)usage.ru_utime.tv_usec;
    printf("a plan of Llama 3 8B: %.0f launches, %.0f calls, %.2f s of processor time\n", number_of(plan, "launches"),
           number_of(plan, "device_calls"), seconds);
#ifndef __SANITIZE_ADDRESS__
    cr_expect(seconds < 1, "%.2f s", seconds);
#endif
}
