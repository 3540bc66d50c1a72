/* test_cli_memory.c - what plans say about memory holds for the process: nothing is allocated for a plan alone, and a
 * training process stays within the planned bytes plus 5% plus 40 MB. */
#include "command.h"
#include "scratch.h"

#include <criterion/criterion.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

TestSuite(cli_memory, .fini = scratch_remove);

/* config.json as Hugging Face has it for the 8B model of Llama 3, with a context of 32k. */
static const char llama_3_8b[] =
    "{\"architectures\": [\"LlamaForCausalLM\"], \"attention_bias\": false, \"attention_dropout\": 0.0,"
    " \"bos_token_id\": 128000, \"eos_token_id\": 128001, \"hidden_act\": \"silu\", \"hidden_size\": 4096,"
    " \"initializer_range\": 0.02, \"intermediate_size\": 14336, \"max_position_embeddings\": 32768,"
    " \"mlp_bias\": false, \"model_type\": \"llama\", \"num_attention_heads\": 32, \"num_hidden_layers\": 32,"
    " \"num_key_value_heads\": 8, \"pretraining_tp\": 1, \"rms_norm_eps\": 1e-05, \"rope_scaling\": null,"
    " \"rope_theta\": 500000.0, \"tie_word_embeddings\": false, \"torch_dtype\": \"bfloat16\", \"use_cache\": true,"
    " \"vocab_size\": 128256}";

Test(cli_memory, a_plan_takes_none_of_what_it_plans)
{
    static const char config[] = "init: {from: llama}\ntrain: {steps: 1, batch: 1, recompute: true}\n";
    mkdir(scratch_path("llama"), 0755);
    scratch_write(scratch_path("llama/config.json"), llama_3_8b, sizeof(llama_3_8b) - 1);
    scratch_write(scratch_path("llama.yaml"), config, sizeof(config) - 1);
    const json_t *plan = only_event(gradus("plan llama.yaml --device null:cpu --json"), "plan");
    cr_assert(number_of(plan, "parameters") == 8030261248.0, "%.0f parameters", number_of(plan, "parameters"));
    cr_assert(number_of(plan, "peak_bytes") > 100e9, "%g bytes", number_of(plan, "peak_bytes"));
    struct rusage usage;
    getrusage(RUSAGE_CHILDREN, &usage);
#ifndef __SANITIZE_ADDRESS__
    cr_assert(usage.ru_maxrss < 256 * 1024, "%ld MB resident", usage.ru_maxrss / 1024);
#endif
    printf("a plan of Llama 3 8B: %ld MB resident, %.2f s of processor time\n", usage.ru_maxrss / 1024,
           (double)usage.ru_utime.tv_sec + 1e-6 * (double)usage.ru_utime.tv_usec);
}

/* The planned peak in bytes; the process must have stayed within its margin. */
static double planned_peak(const char *model, const char *options)
{
    const json_t *line = only_event(gradus("bench model %s --steps 3 %s --json", model, options), "bench");
    double planned = number_of(line, "planned_peak_bytes"), resident = number_of(line, "resident_bytes");
    printf("%s %s: %.1f MB planned, %.1f MB resident\n", model, options, planned / 1e6, resident / 1e6);
#ifndef __SANITIZE_ADDRESS__
    cr_expect(resident <= planned * 1.05 + 40e6, "%s %s: %g bytes planned, %g resident", model, options, planned,
              resident);
#endif
    cr_expect(resident > planned / 2, "%s %s: %g bytes planned, but only %g resident", model, options, planned,
              resident);
    return planned;
}

Test(cli_memory, a_run_takes_what_was_planned)
{
    planned_peak("mlp", "");
    double kept = planned_peak("gpt-small", "--precision f32");
    double again = planned_peak("gpt-small", "--precision f32 --recompute");
    cr_assert(again < 0.6 * kept, "recompute: %g bytes instead of %g", again, kept);
}

/* Weights, and what the optimizer keeps, are written tensor by tensor. */
Test(cli_memory, saving_holds_no_copy_of_the_model)
{
    char text[4000];
    for (size_t i = 0; i < sizeof(text); i++) text[i] = "to be or not to be\n"[i % 19];
    scratch_write(scratch_path("a.txt"), text, sizeof(text));
    outcome o = gradus("train --data a.txt --model gpt2 --set model.layers=4 --set model.width=512 --set model.heads=8 "
                       "--set model.context=16 --set train.batch=1 --set train.steps=1 --set out=run --json");
    const json_t *plan = only_event(o, "plan");
    struct rusage usage;
    getrusage(RUSAGE_CHILDREN, &usage);
    double most = number_of(plan, "peak_bytes") + 40e6;
#ifndef __SANITIZE_ADDRESS__
    cr_assert((double)usage.ru_maxrss * 1024 < most, "%g bytes resident, at most %g", (double)usage.ru_maxrss * 1024,
              most);
#endif
}
