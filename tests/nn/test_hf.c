/* test_hf.c - our transformers against Hugging Face's: golden/gpt holds tiny models saved by transformers with their
 * logits and the losses of training runs (golden/make_gpt_goldens.py). */
#include "scratch.h"

#include <gradus/gradus.h>
#include <gradus/hf.h>
#include <gradus/io.h>
#include <gradus/nn.h>
#include <gradus/train.h>

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { STEPS = 50, ACCUMULATE = 2, BATCH = 2, LENGTH = 24, MICRO = BATCH * LENGTH };

static const struct golden {
    const char *name;
    grd_hf_kind kind;
} goldens[] = {
    {"gpt2", GRD_HF_GPT2},        {"gpt2_gelu", GRD_HF_GPT2},       {"llama", GRD_HF_LLAMA},
    {"llama3", GRD_HF_LLAMA},     {"llama_linear", GRD_HF_LLAMA},   {"qwen2", GRD_HF_QWEN2},
    {"qwen3", GRD_HF_QWEN3},      {"llama_mlp_bias", GRD_HF_LLAMA}, {"qwen2_window", GRD_HF_QWEN2},
    {"qwen3_bias", GRD_HF_QWEN3}, {"mistral", GRD_HF_MISTRAL},
};
enum { GOLDENS = sizeof(goldens) / sizeof(goldens[0]) };

/* A golden model opened here: its weights imported, its logits program compiled. */
typedef struct opened {
    grd_gpt gpt;
    grd_safetensors *weights, *expected;
    grd_engine *engine;
    grd_model *model;
    grd_graph *graph;
    grd_tensor ids, logits;
    grd_program *program;
    grd_error error;
} opened;

static void folder_of(const char *name, const char *file, char *path, size_t size)
{
    snprintf(path, size, "%s/tests/golden/gpt/%s%s", GRADUS_SOURCE_DIR, name, file);
}

static const grd_file_tensor *stored(const grd_safetensors *file, const char *name)
{
    const grd_file_tensor *t = grd_safetensors_find(file, name);
    cr_assert(t != NULL, "no tensor %s", name);
    return t;
}

static void *copy_of(const grd_file_tensor *t)
{
    void *data = malloc(t->size_bytes);
    memcpy(data, t->data, t->size_bytes);
    return data;
}

static void open_golden(opened *o, const char *name, const char *device)
{
    char path[512];
    memset(o, 0, sizeof(*o));
    folder_of(name, "", path, sizeof(path));
    cr_assert(grd_hf_read_config(path, &o->gpt, &o->error) == GRD_OK, "%s", o->error.message);
    cr_assert(grd_safetensors_open(path, &o->weights, &o->error) == GRD_OK, "%s", o->error.message);
    folder_of(name, "/expected.safetensors", path, sizeof(path));
    cr_assert(grd_safetensors_open(path, &o->expected, &o->error) == GRD_OK, "%s", o->error.message);
    o->engine = grd_engine_open(device, .threads = 2);
    o->model = grd_model_new(o->engine, 7);
    o->graph = grd_graph_new(o->model);
    o->ids = grd_input(o->graph, "ids", GRD_I32, stored(o->expected, "ids")->dims);
    grd_tensor none = {0};
    o->logits = grd_gpt_logits(grd_gpt_hidden(o->ids, &o->gpt, none), &o->gpt);
    o->program = grd_program_new(&o->logits, 1);
    cr_assert(o->program != NULL, "%s: %s", name, grd_engine_error(o->engine)->message);
}

static void close_golden(opened *o)
{
    grd_engine_close(o->engine);
    grd_safetensors_close(o->weights);
    grd_safetensors_close(o->expected);
}

/* The largest difference of our logits from theirs, relative to their largest. */
static double logits_off(opened *o)
{
    const grd_file_tensor *want = stored(o->expected, "logits");
    int32_t *ids = copy_of(stored(o->expected, "ids"));
    float *theirs = copy_of(want), *ours = malloc(want->size_bytes);
    cr_assert(grd_program_feed(o->program, o->ids, ids) == GRD_OK, "%s", grd_program_error(o->program)->message);
    cr_assert(grd_program_run(o->program) == GRD_OK, "%s", grd_program_error(o->program)->message);
    cr_assert(grd_dims_equal(grd_tensor_dims(o->logits), want->dims), "the logits have another shape");
    cr_assert(grd_program_read(o->program, o->logits, ours) == GRD_OK, "%s", grd_program_error(o->program)->message);
    double off = 0, largest = 0;
    for (int64_t i = 0; i < grd_dims_count(want->dims); i++) {
        off = fmax(off, fabs((double)ours[i] - theirs[i]));
        largest = fmax(largest, fabs((double)theirs[i]));
    }
    free(ids);
    free(theirs);
    free(ours);
    return off / largest;
}

Test(hf, logits_equal_transformers)
{
    static const char *const devices[] = {"cpu", "ref"};
    for (int i = 0; i < 2 * GOLDENS; i++) {
        const struct golden *g = &goldens[i / 2];
        opened o;
        open_golden(&o, g->name, devices[i % 2]);
        cr_assert(grd_hf_kind_of(&o.gpt) == g->kind, "%s is taken for kind %d", g->name, (int)grd_hf_kind_of(&o.gpt));
        cr_assert(logits_off(&o) > 0.01, "%s: the logits fit without its weights", g->name);
        cr_assert(grd_hf_import(o.model, &o.gpt, o.weights, &o.error) == GRD_OK, "%s", o.error.message);
        double off = logits_off(&o);
        cr_log_info("%s on %s: logits off by %.2g of the largest", g->name, devices[i % 2], off);
        cr_assert(off < 3e-6, "%s on %s: logits off by %.3g of the largest", g->name, devices[i % 2], off);
        close_golden(&o);
    }
}

/* ---- out again ---- */

static void expect_same_bits(const char *model, const grd_safetensors *file, const grd_file_tensor *tensors,
                             size_t count)
{
    cr_assert(count == grd_safetensors_count(file), "%s: %zu tensors out, %zu in", model, count,
              grd_safetensors_count(file));
    for (size_t i = 0; i < count; i++) {
        const grd_file_tensor *t = stored(file, tensors[i].name);
        cr_assert(grd_dims_equal(t->dims, tensors[i].dims), "%s: %s has another shape", model, t->name);
        cr_assert(memcmp(t->data, tensors[i].data, t->size_bytes) == 0, "%s: %s has other values", model, t->name);
    }
}

Test(hf, export_gives_back_the_same_bits)
{
    for (int i = 0; i < GOLDENS; i++) {
        opened o;
        grd_file_tensor *tensors;
        size_t count;
        open_golden(&o, goldens[i].name, "cpu");
        cr_assert(grd_hf_import(o.model, &o.gpt, o.weights, &o.error) == GRD_OK, "%s", o.error.message);
        cr_assert(grd_hf_export(o.model, &o.gpt, &tensors, &count, &o.error) == GRD_OK, "%s", o.error.message);
        expect_same_bits(goldens[i].name, o.weights, tensors, count);
        grd_hf_free_tensors(tensors, count);
        close_golden(&o);
    }
}

static void write_config(const char *text)
{
    scratch_write(scratch_path("config.json"), text, strlen(text));
}

/* Reads the scratch folder's config.json; the message is empty when that worked. */
static grd_error read_scratch(grd_gpt *gpt)
{
    grd_error error = {GRD_OK, ""};
    char folder[512];
    snprintf(folder, sizeof(folder), "%s", scratch_path("config.json"));
    *strrchr(folder, '/') = '\0';
    grd_hf_read_config(folder, gpt, &error);
    return error;
}

Test(hf, config_survives_writing_and_reading, .fini = scratch_remove)
{
    for (int i = 0; i < GOLDENS; i++) {
        char path[512];
        grd_gpt first, second;
        grd_error error = {GRD_OK, ""};
        folder_of(goldens[i].name, "", path, sizeof(path));
        cr_assert(grd_hf_read_config(path, &first, &error) == GRD_OK, "%s", error.message);
        char *text = grd_hf_config_text(&first, 5);
        write_config(text);
        error = read_scratch(&second);
        cr_assert(error.status == GRD_OK, "%s", error.message);
        char *again = grd_hf_config_text(&second, 5);
        cr_assert_str_eq(text, again);
        cr_assert(first.rope_scaling == second.rope_scaling && first.rope_original == second.rope_original &&
                      first.rope_theta == second.rope_theta && first.head_dim == second.head_dim,
                  "%s: another model came back", goldens[i].name);
        grd_hf_free_text(text);
        grd_hf_free_text(again);
    }
}

/* Imports the tensors by way of a file in the scratch folder; o->error says how that went. */
static void import_from_file(opened *o, const grd_file_tensor *tensors, size_t count)
{
    char path[512];
    snprintf(path, sizeof(path), "%s", scratch_path("tensors.safetensors"));
    grd_safetensors *file;
    cr_assert(grd_safetensors_write(path, tensors, count, &o->error) == GRD_OK, "%s", o->error.message);
    cr_assert(grd_safetensors_open(path, &file, &o->error) == GRD_OK, "%s", o->error.message);
    grd_hf_import(o->model, &o->gpt, file, &o->error);
    grd_safetensors_close(file);
}

Test(hf, half_precision_files_are_read_exactly, .fini = scratch_remove)
{
    static const grd_dtype halves[] = {GRD_BF16, GRD_F16};
    static const uint16_t bits[2][6] = {{0x3F80, 0xBF00, 0x4049, 0x0001, 0x8000, 0x7F7F},
                                        {0x3C00, 0xB800, 0x4248, 0x0001, 0x8000, 0x7BFF}};
    static const float values[2][6] = {{1.0f, -0.5f, 3.140625f, 9.18354961579912e-41f, -0.0f, 3.3895313892515355e38f},
                                       {1.0f, -0.5f, 3.140625f, 5.9604644775390625e-08f, -0.0f, 65504.0f}};
    for (int k = 0; k < 2; k++) {
        opened o;
        open_golden(&o, "gpt2", "cpu");
        size_t count = grd_safetensors_count(o.weights);
        grd_file_tensor *tensors = malloc(count * sizeof(*tensors));
        uint16_t data[24] = {0};
        memcpy(data, bits[k], sizeof(bits[k]));
        for (size_t i = 0; i < count; i++) {
            tensors[i] = *grd_safetensors_at(o.weights, i);
            if (strcmp(tensors[i].name, "transformer.ln_f.bias")) continue;
            tensors[i].dtype = halves[k];
            tensors[i].data = data;
            tensors[i].size_bytes = sizeof(data);
        }
        import_from_file(&o, tensors, count);
        cr_assert(o.error.status == GRD_OK, "%s", o.error.message);
        float got[24];
        cr_assert(grd_model_read(o.model, "norm/bias", got, &o.error) == GRD_OK, "%s", o.error.message);
        cr_assert(memcmp(got, values[k], sizeof(values[k])) == 0, "a value of %s changed", k ? "f16" : "bf16");
        free(tensors);
        close_golden(&o);
    }
}

/* ---- training ---- */

/* Losses of the run that reads the golden's stream of tokens in order, starting from its weights. */
static void train_losses(opened *o, double *losses)
{
    int32_t *stream = copy_of(stored(o->expected, "stream")), *next = stream;
    grd_graph *graph = grd_graph_new(o->model);
    grd_tensor ids = grd_input(graph, "ids", GRD_I32, grd_shape(BATCH, LENGTH)), none = {0};
    grd_tensor targets = grd_input(graph, "targets", GRD_I32, grd_shape(BATCH, LENGTH));
    grd_tensor scale = grd_input(graph, "scale", GRD_F32, grd_scalar());
    grd_tensor loss = grd_gpt_loss(grd_gpt_hidden(ids, &o->gpt, none), &o->gpt, targets, scale, NULL);
    grd_optimizer adamw = grd_adamw(3e-3);
    adamw.beta2 = 0.95;
    adamw.weight_decay = 0.1;
    grd_step *step = grd_step_new(loss, adamw, .clip_norm = 1, .accumulate = ACCUMULATE, .sum_micro = true);
    cr_assert(step != NULL, "%s", grd_engine_error(o->engine)->message);
    cr_assert(grd_hf_import(o->model, &o->gpt, o->weights, &o->error) == GRD_OK, "%s", o->error.message);
    const grd_schedule schedule = {.kind = GRD_SCHEDULE_COSINE, .warmup = 5, .min_factor = 0.1};
    const float part = 1.0f / (MICRO * ACCUMULATE);
    for (int s = 0; s < STEPS; s++) {
        grd_metrics metrics = {0};
        grd_step_set_lr(step, grd_schedule_factor(&schedule, s, (s - 5) / (double)(STEPS - 5)));
        for (int micro = 0; micro < ACCUMULATE; micro++, next += MICRO) {
            grd_step_feed(step, ids, next);
            grd_step_feed(step, targets, next + 1);
            grd_step_feed(step, scale, &part);
            cr_assert(grd_step_run(step, &metrics) == GRD_OK, "%s", grd_step_error(step)->message);
        }
        losses[s] = metrics.loss;
    }
    free(stream);
}

static void expect_same_training(const char *name, const char *device, double tolerance)
{
    opened o;
    double ours[STEPS], off = 0;
    open_golden(&o, name, device);
    float *theirs = copy_of(stored(o.expected, "losses"));
    train_losses(&o, ours);
    for (int s = 0; s < STEPS; s++) {
        off = fmax(off, fabs(ours[s] - theirs[s]) / theirs[s]);
        cr_assert(off <= tolerance, "%s on %s: step %d has loss %.7g, PyTorch's has %.7g", name, device, s, ours[s],
                  (double)theirs[s]);
    }
    cr_log_info("%s on %s: losses off by %.2g", name, device, off);
    free(theirs);
    close_golden(&o);
}

Test(hf, gpt2_trains_as_pytorch)
{
    expect_same_training("gpt2", "cpu", 1e-5);
}

Test(hf, llama_trains_as_pytorch)
{
    expect_same_training("llama", "cpu", 1e-5);
}

/* ---- what transformers writes in other versions, and what cannot be read ---- */

#define LLAMA_TEXT                                                                                                     \
    "\"model_type\": \"llama\", \"vocab_size\": 48, \"hidden_size\": 24, \"num_hidden_layers\": 2, "                   \
    "\"num_attention_heads\": 4, \"intermediate_size\": 40"
#define QWEN2_TEXT                                                                                                     \
    "\"model_type\": \"qwen2\", \"vocab_size\": 48, \"hidden_size\": 24, \"num_hidden_layers\": 2, "                   \
    "\"num_attention_heads\": 4, \"intermediate_size\": 40, \"num_key_value_heads\": null"
#define MISTRAL_TEXT                                                                                                   \
    "\"model_type\": \"mistral\", \"vocab_size\": 48, \"hidden_size\": 24, \"num_hidden_layers\": 2, "                 \
    "\"num_attention_heads\": 8, \"head_dim\": 4, \"intermediate_size\": 40"
#define GPT2_TEXT                                                                                                      \
    "\"model_type\": \"gpt2\", \"vocab_size\": 48, \"n_embd\": 24, \"n_layer\": 2, \"n_head\": 4, \"n_positions\": 32"

Test(hf, rope_keys_of_transformers_4_and_5_mean_the_same, .fini = scratch_remove)
{
    grd_gpt gpt[3];
    static const char *const texts[] = {
        "{" LLAMA_TEXT ", \"rope_theta\": 500000.0, \"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8.0, "
        "\"low_freq_factor\": 1.0, \"high_freq_factor\": 4.0, \"original_max_position_embeddings\": 64}}",
        "{" LLAMA_TEXT ", \"rope_parameters\": {\"rope_theta\": 500000.0, \"rope_type\": \"llama3\", \"factor\": 8.0, "
        "\"low_freq_factor\": 1.0, \"high_freq_factor\": 4.0, \"original_max_position_embeddings\": 64}}",
        "{" LLAMA_TEXT ", \"rope_theta\": 500000.0, \"rope_scaling\": null}"};
    for (int i = 0; i < 3; i++) {
        write_config(texts[i]);
        grd_error error = read_scratch(&gpt[i]);
        cr_assert(error.status == GRD_OK, "%s", error.message);
        cr_assert(gpt[i].rope_theta == 500000, "theta %g", gpt[i].rope_theta);
    }
    for (int i = 0; i < 2; i++)
        cr_assert(gpt[i].rope_scaling == GRD_ROPE_LLAMA3 && gpt[i].rope_factor == 8 && gpt[i].rope_low == 1 &&
                  gpt[i].rope_high == 4 && gpt[i].rope_original == 64);
    cr_assert(gpt[2].rope_scaling == GRD_ROPE_PLAIN);
}

Test(hf, keys_left_out_have_the_defaults_of_transformers, .fini = scratch_remove)
{
    grd_gpt g;
    write_config("{\"model_type\": \"gpt2\"}");
    cr_assert(read_scratch(&g).status == GRD_OK);
    cr_assert(g.layers == 12 && g.heads == 12 && g.width == 768 && g.context == 1024 && g.vocab == 50257);
    cr_assert(g.mlp == GRD_MLP_GELU_TANH && g.mlp_width == 3072 && g.norm_eps == 1e-5 && !g.untied);
    write_config("{" LLAMA_TEXT "}");
    cr_assert(read_scratch(&g).status == GRD_OK);
    cr_assert(g.kv_heads == 4 && g.head_dim == 6 && g.context == 2048 && g.norm_eps == 1e-6 && g.untied && g.no_bias);
}

Test(hf, general_names_serve_for_those_of_gpt2, .fini = scratch_remove)
{
    grd_gpt g;
    write_config(
        "{\"model_type\": \"gpt2\", \"hidden_size\": 24, \"num_attention_heads\": 3, \"num_hidden_layers\": 2, "
        "\"max_position_embeddings\": 32, \"activation_function\": \"gelu_fast\"}");
    grd_error error = read_scratch(&g);
    cr_assert(error.status == GRD_OK, "%s", error.message);
    cr_assert(g.width == 24 && g.heads == 3 && g.layers == 2 && g.context == 32 && g.mlp == GRD_MLP_GELU_TANH);
}

/* What transformers does with a file that has rope_scaling and rope_parameters. */
Test(hf, rope_scaling_goes_before_rope_parameters, .fini = scratch_remove)
{
    grd_gpt g;
    write_config("{" LLAMA_TEXT
                 ", \"rope_theta\": 5000.0, \"rope_scaling\": {\"rope_type\": \"linear\", \"factor\": 2.0}, "
                 "\"rope_parameters\": {\"rope_theta\": 100.0, \"rope_type\": \"linear\", \"factor\": 4.0}}");
    cr_assert(read_scratch(&g).status == GRD_OK);
    cr_assert(g.rope_factor == 2 && g.rope_theta == 5000, "factor %g, theta %g", g.rope_factor, g.rope_theta);
}

Test(hf, windows_are_those_of_all_layers, .fini = scratch_remove)
{
    static const struct {
        const char *config;
        int window;
    } cases[] = {
        {"{" QWEN2_TEXT ", \"use_sliding_window\": true, \"sliding_window\": 9, \"max_window_layers\": 0}", 9},
        {"{" QWEN2_TEXT ", \"use_sliding_window\": true, \"sliding_window\": 9, \"max_window_layers\": 2}", 0},
        {"{" QWEN2_TEXT ", \"use_sliding_window\": true, \"sliding_window\": null, \"max_window_layers\": 0}", 0},
        {"{" QWEN2_TEXT ", \"use_sliding_window\": false, \"sliding_window\": 9, \"max_window_layers\": 0}", 0},
        {"{" QWEN2_TEXT
         ", \"use_sliding_window\": true, \"sliding_window\": 9, \"layer_types\": [\"sliding_attention\", "
         "\"sliding_attention\"]}",
         9},
        {"{" MISTRAL_TEXT "}", 4096},
        {"{" MISTRAL_TEXT ", \"sliding_window\": null}", 0},
        {"{" MISTRAL_TEXT ", \"sliding_window\": 3}", 3},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        grd_gpt g;
        write_config(cases[i].config);
        grd_error error = read_scratch(&g);
        cr_assert(error.status == GRD_OK, "%s", error.message);
        cr_expect(g.window == cases[i].window, "%s: window %d", cases[i].config, g.window);
    }
}

/* config.json of a kind that transformers has not holds everything. */
Test(hf, own_models_survive_writing_and_reading, .fini = scratch_remove)
{
    const grd_gpt models[] = {
        {.layers = 2,
         .heads = 4,
         .kv_heads = 2,
         .width = 24,
         .context = 40,
         .vocab = 51,
         .mlp = GRD_MLP_RELU2,
         .norm = GRD_NORM_RMSNORM,
         .position = GRD_POSITION_ROPE,
         .no_norm_gain = true,
         .qk_norm = true,
         .no_bias = true,
         .untied = true,
         .embedding_norm = true,
         .softcap = 15,
         .window = 6,
         .norm_eps = 3e-5},
        {.layers = 1,
         .heads = 3,
         .width = 12,
         .head_dim = 6,
         .context = 40,
         .vocab = 51,
         .mlp = GRD_MLP_SWIGLU,
         .mlp_width = 33,
         .norm = GRD_NORM_LAYERNORM,
         .position = GRD_POSITION_ROPE,
         .rope_theta = 500,
         .rope_scaling = GRD_ROPE_LLAMA3,
         .rope_factor = 8,
         .rope_low = 1,
         .rope_high = 4,
         .rope_original = 20,
         .no_bias = true,
         .mlp_bias = true,
         .out_bias = true},
    };
    for (size_t i = 0; i < sizeof(models) / sizeof(models[0]); i++) {
        grd_gpt first = models[i], second;
        grd_error error = {GRD_OK, ""};
        cr_assert(grd_gpt_resolve(&first, &error) == GRD_OK, "%s", error.message);
        cr_assert(grd_hf_kind_of(&first) == GRD_HF_NONE);
        char *text = grd_hf_config_text(&first, -1);
        cr_assert(strstr(text, "GradusForCausalLM"), "%s", text);
        write_config(text);
        grd_hf_free_text(text);
        error = read_scratch(&second);
        cr_assert(error.status == GRD_OK, "%s", error.message);
        cr_assert(memcmp(&first, &second, sizeof(first)) == 0, "model %zu: another one came back", i);
    }
}

static const struct bad {
    const char *config, *key, *what; /* both must stand in the message */
} bad_configs[] = {
    {"{\"vocab_size\": 48}", "model_type", "is missing"},
    {"{\"model_type\": \"mamba\"}", "model_type", "'mamba' is not supported"},
    {"{\"model_type\": \"llama\", \"vocab_size\": 48}", "num_hidden_layers", "is missing"},
    {"{" LLAMA_TEXT ", \"vocab_size\": 48}", "config.json:1", "duplicate"},
    {"{" LLAMA_TEXT ", \"hidden_act\": \"gelu\"}", "hidden_act", "'gelu' is not supported"},
    {"{" LLAMA_TEXT ", \"hidden_act\": 3}", "hidden_act", "must be a text"},
    {"{" LLAMA_TEXT ", \"rms_norm_eps\": \"small\"}", "rms_norm_eps", "must be a number"},
    {"{" LLAMA_TEXT ", \"num_key_value_heads\": 1.5}", "num_key_value_heads", "must be a whole number"},
    {"{" LLAMA_TEXT ", \"num_key_value_heads\": 4294967297}", "num_key_value_heads", "outside"},
    {"{" LLAMA_TEXT ", \"num_key_value_heads\": 3}", "config.json", "3 does not divide"},
    {"{" LLAMA_TEXT ", \"tie_word_embeddings\": \"yes\"}", "tie_word_embeddings", "must be true or false"},
    {"{" LLAMA_TEXT ", \"attention_bias\": 1}", "attention_bias", "must be true or false"},
    {"{" LLAMA_TEXT ", \"rms_norm_eps\": 0}", "rms_norm_eps", "above 0"},
    {"{" LLAMA_TEXT ", \"rope_theta\": 0}", "rope_theta", "above 0"},
    {"{" LLAMA_TEXT ", \"partial_rotary_factor\": 0.5}", "partial_rotary_factor", "not supported"},
    {"{" LLAMA_TEXT ", \"rope_parameters\": {\"full_attention\": {\"rope_theta\": 100.0}}}", "rope_parameters",
     "'full_attention' is not supported"},
    {"{" QWEN2_TEXT ", \"use_sliding_window\": true, \"max_window_layers\": 1}", "max_window_layers", "1 of 2 layers"},
    {"{" QWEN2_TEXT ", \"layer_types\": [\"sliding_attention\", \"sliding_attention\"]}", "layer_types",
     "2 of 2 layers without a window"},
    {"{" QWEN2_TEXT ", \"layer_types\": [\"full_attention\"]}", "layer_types", "every layer"},
    {"{\"model_type\": \"gradus\"}", "layers", "is missing"},
    {"{\"model_type\": \"gradus\", \"layers\": 1, \"mlp\": \"maxout\"}", "mlp", "'maxout'"},
    {"{" LLAMA_TEXT ", \"rope_scaling\": {\"rope_type\": \"yarn\", \"factor\": 4.0}}", "rope", "'yarn'"},
    {"{" LLAMA_TEXT ", \"rope_parameters\": {\"rope_type\": \"dynamic\", \"factor\": 4.0}}", "rope", "'dynamic'"},
    {"{" LLAMA_TEXT ", \"rope_parameters\": {\"rope_type\": \"linear\"}}", "factor", "is missing"},
    {"{" LLAMA_TEXT ", \"rope_parameters\": {\"rope_type\": \"llama3\", \"factor\": 8.0}}", "low_freq_factor",
     "is missing"},
    {"{" LLAMA_TEXT ", \"rope_parameters\": {\"rope_type\": \"linear\", \"factor\": 0}}", "factor", "above 0"},
    {"{" LLAMA_TEXT ", \"rope_parameters\": {\"partial_rotary_factor\": 0.5}}", "partial_rotary_factor",
     "not supported"},
    {"{" LLAMA_TEXT ", \"layer_types\": [\"full_attention\", \"sliding_attention\"]}", "layer_types",
     "'sliding_attention'"},
    {"{" GPT2_TEXT ", \"activation_function\": \"relu\"}", "activation_function", "'relu' is not supported"},
    {"{" GPT2_TEXT ", \"scale_attn_by_inverse_layer_idx\": true}", "scale_attn_by_inverse_layer_idx", "not supported"},
    {"{" GPT2_TEXT ", \"n_head\": 5}", "config.json:1", "duplicate"},
    {"{\"model_type\": \"gpt2\", \"n_embd\": 24, \"n_head\": 5}", "config.json", "does not divide"},
    {"{" GPT2_TEXT, "config.json:1", "'}'"},
    {"[]", "config.json", "must be an object"},
};

Test(hf, bad_configs_are_refused, .fini = scratch_remove)
{
    for (size_t i = 0; i < sizeof(bad_configs) / sizeof(bad_configs[0]); i++) {
        const struct bad *b = &bad_configs[i];
        grd_gpt gpt;
        write_config(b->config);
        grd_error error = read_scratch(&gpt);
        cr_expect(error.status != GRD_OK, "taken: %s", b->config);
        cr_expect(strstr(error.message, b->key) && strstr(error.message, b->what), "%s: %s", b->config, error.message);
        cr_expect(strchr(error.message, '\n') == NULL && strstr(error.message, "config.json"), "%s", error.message);
    }
    grd_gpt gpt;
    grd_error error = {GRD_OK, ""};
    cr_assert(grd_hf_read_config("/nowhere/at/all", &gpt, &error) == GRD_E_IO);
    cr_assert_str_eq(error.message,
                     "/nowhere/at/all/config.json: cannot open: No such file or directory (check the path)");
}

/* Imports the golden's tensors and one more, of the shape of the embedding and with its values or zeros. */
static grd_error import_more(const char *model, const char *name, bool embedding)
{
    opened o;
    open_golden(&o, model, "cpu");
    size_t count = grd_safetensors_count(o.weights);
    grd_file_tensor *tensors = malloc((count + 1) * sizeof(*tensors));
    void *zeros = calloc(48 * 24, sizeof(float));
    for (size_t i = 0; i < count; i++) {
        tensors[i] = *grd_safetensors_at(o.weights, i);
        if (strstr(tensors[i].name, "wte.weight") || strstr(tensors[i].name, "embed_tokens.weight"))
            tensors[count] = tensors[i];
    }
    tensors[count].name = name;
    if (!embedding) tensors[count].data = zeros;
    import_from_file(&o, tensors, count + 1);
    grd_error error = o.error;
    free(tensors);
    free(zeros);
    close_golden(&o);
    return error;
}

Test(hf, tensors_of_other_models_are_refused, .fini = scratch_remove)
{
    grd_error e = import_more("llama", "model.layers.0.self_attn.q_proj.bias", false);
    cr_assert(e.status == GRD_E_FORMAT && strstr(e.message, "'model.layers.0.self_attn.q_proj.bias' is none"), "%s",
              e.message);
    e = import_more("gpt2", "transformer.h.0.attn.bias", false); /* a mask that old files hold */
    cr_assert(e.status == GRD_OK, "%s", e.message);
    e = import_more("qwen2", "lm_head.weight", true);
    cr_assert(e.status == GRD_OK, "%s", e.message);
    e = import_more("qwen2", "lm_head.weight", false);
    cr_assert(e.status == GRD_E_FORMAT && strstr(e.message, "'lm_head.weight' differs from"), "%s", e.message);
}

/* Imports the golden's tensors with one of them left out (dims NULL) or given another shape, or as int64. */
static grd_error import_changed(const char *model, const char *name, const grd_dims *dims, grd_dtype dtype)
{
    opened o;
    open_golden(&o, model, "cpu");
    size_t count = grd_safetensors_count(o.weights), kept = 0;
    grd_file_tensor *tensors = malloc(count * sizeof(*tensors));
    void *zeros = calloc(1, 1 << 16);
    for (size_t i = 0; i < count; i++) {
        tensors[kept] = *grd_safetensors_at(o.weights, i);
        bool chosen = strcmp(tensors[kept].name, name) == 0;
        if (chosen && !dims) continue;
        if (chosen) {
            tensors[kept].dims = *dims;
            tensors[kept].dtype = dtype;
            tensors[kept].data = zeros;
            tensors[kept].size_bytes = (size_t)grd_dims_count(*dims) * grd_dtype_size(dtype);
        }
        kept++;
    }
    import_from_file(&o, tensors, kept);
    grd_error error = o.error;
    free(tensors);
    free(zeros);
    close_golden(&o);
    return error;
}

Test(hf, bad_tensors_are_refused, .fini = scratch_remove)
{
    grd_error e = import_changed("llama", "model.layers.1.self_attn.k_proj.weight", NULL, GRD_F32);
    cr_assert(e.status == GRD_E_FORMAT && strstr(e.message, "'model.layers.1.self_attn.k_proj.weight' is missing"),
              "%s", e.message);
    e = import_changed("llama", "lm_head.weight", NULL, GRD_F32);
    cr_assert(e.status == GRD_E_FORMAT && strstr(e.message, "'lm_head.weight' is missing"), "%s", e.message);
    grd_dims turned = grd_shape(72, 24); /* theirs is [inputs, outputs] */
    e = import_changed("gpt2", "transformer.h.0.attn.c_attn.weight", &turned, GRD_F32);
    cr_assert(e.status == GRD_E_FORMAT && strstr(e.message, "is [72,24], the model needs [24,72]"), "%s", e.message);
    grd_dims longer = grd_shape(25);
    e = import_changed("qwen3", "model.norm.weight", &longer, GRD_F32);
    cr_assert(e.status == GRD_E_FORMAT && strstr(e.message, "'model.norm.weight' is [25]"), "%s", e.message);
    grd_dims same = grd_shape(24);
    e = import_changed("qwen3", "model.norm.weight", &same, GRD_I64);
    cr_assert(e.status == GRD_E_DTYPE && strstr(e.message, "'model.norm.weight' is I64"), "%s", e.message);
    grd_dims bias = grd_shape(32);
    e = import_changed("qwen2", "model.layers.0.self_attn.q_proj.bias", &bias, GRD_F32);
    cr_assert(e.status == GRD_E_FORMAT && strstr(e.message, "is [32], the model needs [24]"), "%s", e.message);
}
