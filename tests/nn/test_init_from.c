/* test_init_from.c - runs that start from a Hugging Face folder, and sampling from one. */
#include "scratch.h"

#include <gradus/gradus.h>
#include <gradus/hf.h>
#include <gradus/io.h>
#include <gradus/run.h>

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* What a run tells. */
typedef struct heard {
    double losses[64];
    int steps;
    char saved[512], text[4096];
} heard;

static void on_event(void *context, const grd_event *event)
{
    heard *h = context;
    if (event->kind == GRD_EVENT_STEP && h->steps < 64) h->losses[h->steps++] = event->loss;
    if (event->kind == GRD_EVENT_SAVED) snprintf(h->saved, sizeof(h->saved), "%s", event->text);
}

static void on_text(void *context, const char *bytes, size_t size)
{
    heard *h = context;
    size_t used = strlen(h->text);
    snprintf(h->text + used, sizeof(h->text) - used, "%.*s", (int)size, bytes);
}

static void golden_folder(const char *name, char *path, size_t size)
{
    snprintf(path, size, "%s/tests/golden/gpt/%s", GRADUS_SOURCE_DIR, name);
}

static void set(grd_settings *s, const char *key, const char *value)
{
    char assignment[1024];
    grd_error error = {GRD_OK, ""};
    snprintf(assignment, sizeof(assignment), "%s=%s", key, value);
    cr_assert(grd_settings_set(s, assignment, &error) == GRD_OK, "%s", error.message);
}

/* Settings of a short run on the scratch folder's shard of 400 tokens. */
static grd_settings *shard_settings(const char *from, const char *out)
{
    int32_t tokens[400];
    for (int i = 0; i < 400; i++) tokens[i] = (i * 7 + i / 5) % 48;
    char path[512];
    grd_error error = {GRD_OK, ""};
    snprintf(path, sizeof(path), "%s", scratch_path("shard.bin"));
    cr_assert(grd_tokens_write(path, GRD_TOKENS_GPT2, tokens, 400, &error) == GRD_OK, "%s", error.message);
    grd_settings *s = grd_settings_new();
    set(s, "init.from", from);
    set(s, "data.tokens", path);
    set(s, "train.batch", "2");
    set(s, "train.steps", "2");
    set(s, "out", scratch_path(out));
    return s;
}

static grd_status train(grd_settings *s, bool resume, heard *h, grd_error *error)
{
    memset(h, 0, sizeof(*h));
    *error = (grd_error){GRD_OK, ""};
    const grd_run_options options = {
        .size = sizeof(options), .device = "cpu", .threads = 1, .on_event = on_event, .context = h, .resume = resume};
    return grd_train_text(s, &options, error);
}

static void copy_file(const char *from_folder, const char *to_folder, const char *name)
{
    char path[1024];
    size_t size;
    snprintf(path, sizeof(path), "%s/%s", from_folder, name);
    char *bytes = scratch_read(path, &size);
    snprintf(path, sizeof(path), "%s/%s", to_folder, name);
    scratch_write(path, bytes, size);
    free(bytes);
}

/* A run whose rate is 0 saves what it was given. */
Test(init_from, weights_pass_through_a_run, .fini = scratch_remove)
{
    static const char *const names[] = {"gpt2", "llama3", "qwen2", "qwen3"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char from[512];
        heard h;
        grd_error error;
        golden_folder(names[i], from, sizeof(from));
        grd_settings *s = shard_settings(from, names[i]);
        set(s, "train.lr", "0");
        set(s, "train.batch", "1");
        if (strcmp(names[i], "gpt2")) set(s, "model.context", "24");
        cr_assert(train(s, false, &h, &error) == GRD_OK, "%s", error.message);
        cr_assert(h.steps == 2 && h.saved[0] != '\0');
        grd_safetensors *a, *b;
        cr_assert(grd_safetensors_open(from, &a, &error) == GRD_OK, "%s", error.message);
        cr_assert(grd_safetensors_open(h.saved, &b, &error) == GRD_OK, "%s", error.message);
        cr_assert(grd_safetensors_count(a) == grd_safetensors_count(b));
        for (size_t k = 0; k < grd_safetensors_count(a); k++) {
            const grd_file_tensor *x = grd_safetensors_at(a, k), *y = grd_safetensors_find(b, x->name);
            cr_assert(y && x->size_bytes == y->size_bytes && memcmp(x->data, y->data, x->size_bytes) == 0,
                      "%s: %s changed", names[i], x->name);
        }
        grd_gpt first, second;
        cr_assert(grd_hf_read_config(from, &first, &error) == GRD_OK, "%s", error.message);
        cr_assert(grd_hf_read_config(h.saved, &second, &error) == GRD_OK, "%s", error.message);
        cr_assert(grd_hf_kind_of(&first) == grd_hf_kind_of(&second) && first.rope_scaling == second.rope_scaling);
        grd_safetensors_close(a);
        grd_safetensors_close(b);
        grd_settings_free(s);
    }
}

/* The whole way: the folder's weights, batches in order from a shard, accumulation, schedule, AdamW, clipping. */
Test(init_from, a_run_gives_the_losses_of_pytorch, .fini = scratch_remove)
{
    static const char *const names[] = {"gpt2", "llama"};
    static const char *const keys[][2] = {
        {"model.context", "24"},      {"data.order", "sequential"}, {"train.steps", "50"},
        {"train.accumulate", "2"},    {"train.lr", "3e-3"},         {"train.min_lr", "3e-4"},
        {"train.warmup", "5"},        {"train.clip_norm", "1.0"},   {"train.eps", "1e-8"},
        {"train.schedule", "cosine"}, {"train.precision", "f32"},   {"train.weight_decay", "0.1"},
    };
    for (int i = 0; i < 2; i++) {
        char from[512], expected[1024];
        heard h;
        grd_error error = {GRD_OK, ""};
        grd_safetensors *file;
        golden_folder(names[i], from, sizeof(from));
        snprintf(expected, sizeof(expected), "%s/expected.safetensors", from);
        cr_assert(grd_safetensors_open(expected, &file, &error) == GRD_OK, "%s", error.message);
        const grd_file_tensor *stream = grd_safetensors_find(file, "stream");
        int32_t *tokens = malloc(stream->size_bytes);
        float losses[50];
        memcpy(tokens, stream->data, stream->size_bytes);
        memcpy(losses, grd_safetensors_find(file, "losses")->data, sizeof(losses));
        grd_settings *s = shard_settings(from, names[i]);
        for (size_t k = 0; k < sizeof(keys) / sizeof(keys[0]); k++) set(s, keys[k][0], keys[k][1]);
        cr_assert(grd_tokens_write(s->data.tokens[0], GRD_TOKENS_GPT2, tokens, stream->size_bytes / 4, &error) ==
                  GRD_OK);
        cr_assert(train(s, false, &h, &error) == GRD_OK, "%s", error.message);
        cr_assert(h.steps == 50);
        for (int k = 0; k < 50; k++)
            cr_assert(fabs(h.losses[k] - losses[k]) <= 1e-5 * losses[k],
                      "%s: step %d has loss %.7g, PyTorch's has %.7g", names[i], k, h.losses[k], (double)losses[k]);
        free(tokens);
        grd_settings_free(s);
        grd_safetensors_close(file);
    }
}

Test(init_from, a_run_outlives_its_folder, .fini = scratch_remove)
{
    char golden[512], from[512], config[1024];
    heard h;
    grd_error error;
    golden_folder("gpt2", golden, sizeof(golden));
    snprintf(from, sizeof(from), "%s", scratch_path("pretrained"));
    cr_assert(mkdir(from, 0755) == 0);
    copy_file(golden, from, "config.json");
    copy_file(golden, from, "model.safetensors");
    grd_settings *s = shard_settings(from, "run");
    set(s, "train.steps", "3");
    cr_assert(train(s, false, &h, &error) == GRD_OK, "%s", error.message);
    cr_assert(remove(scratch_path("pretrained/config.json")) == 0);
    cr_assert(remove(scratch_path("pretrained/model.safetensors")) == 0);
    snprintf(config, sizeof(config), "%s", scratch_path("run/config.yaml"));
    grd_settings *again = grd_settings_new();
    cr_assert(grd_settings_load(again, config, &error) == GRD_OK, "%s", error.message);
    set(again, "train.steps", "4");
    cr_assert(train(again, true, &h, &error) == GRD_OK, "%s", error.message);
    cr_assert(h.steps == 1, "%d steps", h.steps);
    set(again, "out", scratch_path("other"));
    cr_assert(train(again, false, &h, &error) != GRD_OK, "a run began without its weights");
    cr_assert(strstr(error.message, "init.from: ") == error.message, "%s", error.message);
    grd_settings_free(s);
    grd_settings_free(again);
}

Test(init_from, keys_that_contradict_are_refused, .fini = scratch_remove)
{
    static const struct {
        const char *model, *key, *value, *says; /* says NULL: taken */
    } cases[] = {
        {"gpt2", "model.width", "32", "model.width: 32 contradicts init.from, whose config.json says 24"},
        {"gpt2", "model.width", "24", NULL},
        {"gpt2", "model.kind", "gpt2", NULL},
        {"gpt2", "model.kind", "llama", "model.kind: llama contradicts init.from, whose config.json says gpt2"},
        {"gpt2", "model.mlp", "gelu", "model.mlp: gelu contradicts init.from, whose config.json says gelu_tanh"},
        {"gpt2", "model.context", "16", "model.context: 16 contradicts"},
        {"gpt2", "model.dropout", "0.1", NULL},
        {"gpt2", "model.tied", "false", "model.tied: false contradicts init.from, whose config.json says true"},
        {"gpt2", "model.window", "8", "model.window: 8 contradicts init.from, whose config.json says 0"},
        {"llama3", "model.kind", "llama", NULL},
        {"llama3", "model.context", "16", NULL},
        {"llama3", "model.context", "1024", "model.context: 1024 contradicts"},
        {"llama3", "model.rope_scaling", "linear", "model.rope_scaling: linear contradicts"},
        {"llama3", "model.norm_eps", "1e-5", "model.norm_eps: 1e-05 contradicts"},
        {"qwen3", "model.qk_norm", "false", "model.qk_norm: false contradicts"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char from[512];
        grd_error error = {GRD_OK, ""};
        golden_folder(cases[i].model, from, sizeof(from));
        grd_settings *s = shard_settings(from, "run");
        set(s, cases[i].key, cases[i].value);
        grd_settings_resolve(s, &error);
        if (cases[i].says) cr_expect(strstr(error.message, cases[i].says), "%s: %s", cases[i].says, error.message);
        else cr_expect(error.status == GRD_OK, "%s=%s: %s", cases[i].key, cases[i].value, error.message);
        if (!cases[i].says) cr_expect(s->model.gpt.width == 24 && s->model.gpt.vocab == 48 && s->model.gpt.layers == 2);
        if (!strcmp(cases[i].key, "model.dropout")) cr_expect(s->model.gpt.dropout == 0.1);
        grd_settings_free(s);
    }
}

Test(init_from, bad_folders_are_refused, .fini = scratch_remove)
{
    char golden[512], from[512];
    heard h;
    grd_error error = {GRD_OK, ""};
    grd_settings *s = shard_settings("/nowhere", "run");
    cr_assert(grd_settings_resolve(s, &error) == GRD_E_IO);
    cr_assert_str_eq(error.message,
                     "init.from: /nowhere/config.json: cannot open: No such file or directory (check the path)");
    grd_settings_free(s);
    /* config.json of one model, weights of another */
    snprintf(from, sizeof(from), "%s", scratch_path("mixed"));
    cr_assert(mkdir(from, 0755) == 0);
    golden_folder("llama", golden, sizeof(golden));
    copy_file(golden, from, "config.json");
    golden_folder("qwen3", golden, sizeof(golden));
    copy_file(golden, from, "model.safetensors");
    s = shard_settings(from, "run");
    set(s, "model.context", "24");
    cr_assert(train(s, false, &h, &error) == GRD_E_FORMAT);
    cr_assert(strstr(error.message, "init.from: ") == error.message && strstr(error.message, "q_proj.weight' is ["),
              "%s", error.message);
    grd_settings_free(s);
}

/* ---- a text model's checkpoint is such a folder ---- */

static void sample(const char *run, const char *prompt, heard *h, grd_error *error)
{
    memset(h, 0, sizeof(*h));
    *error = (grd_error){GRD_OK, ""};
    const grd_sample_options options = {
        .size = sizeof(options), .prompt = prompt, .tokens = 60, .temperature = 1, .seed = 3};
    const grd_run_options run_options = {.size = sizeof(run_options), .device = "cpu", .threads = 1};
    grd_sample_run(run, &options, &run_options, on_text, h, error);
}

/* 2,000 bytes of one sentence, again and again. */
static void write_text(const char *name)
{
    char text[2001] = "";
    static const char sentence[] = "The quick brown fox jumps over the lazy dog. ";
    while (strlen(text) + sizeof(sentence) < sizeof(text)) strcat(text, sentence);
    scratch_write(scratch_path(name), text, strlen(text));
}

Test(init_from, texts_keep_the_tokenizer_of_the_folder, .fini = scratch_remove)
{
    heard first, again, sampled[2];
    grd_error error;
    char run[512];
    write_text("fox.txt");
    grd_settings *s = grd_settings_new();
    static const char *const keys[][2] = {
        {"model.kind", "llama"}, {"model.layers", "1"}, {"model.width", "32"}, {"model.heads", "2"},
        {"model.context", "32"}, {"train.steps", "12"}, {"train.lr", "1e-2"},  {"data.tokenizer", "byte"},
    };
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) set(s, keys[i][0], keys[i][1]);
    snprintf(run, sizeof(run), "%s", scratch_path("run"));
    set(s, "data.path", scratch_path("fox.txt"));
    set(s, "out", run);
    cr_assert(train(s, false, &first, &error) == GRD_OK, "%s", error.message);
    grd_settings_free(s);

    sample(run, "The qu", &sampled[0], &error);
    cr_assert(error.status == GRD_OK, "%s", error.message);
    sample(first.saved, "The qu", &sampled[1], &error);
    cr_assert(error.status == GRD_OK, "%s", error.message);
    cr_assert(strlen(sampled[0].text) >= 6 + 60, "only '%s'", sampled[0].text);
    cr_assert_str_eq(sampled[0].text, sampled[1].text);

    s = grd_settings_new();
    set(s, "init.from", first.saved);
    set(s, "data.path", scratch_path("fox.txt"));
    set(s, "train.steps", "2");
    set(s, "out", scratch_path("second"));
    cr_assert(train(s, false, &again, &error) == GRD_OK, "%s", error.message);
    cr_assert(again.losses[0] < first.losses[0] - 1 && again.losses[0] < first.losses[11] * 1.2,
              "starts with loss %g where the run before went from %g to %g", again.losses[0], first.losses[0],
              first.losses[11]);
    grd_settings_free(s);
}

/* A checkpoint of any kind is such a folder: a run that begins with it and a rate of 0 saves the same weights. */
Test(init_from, every_kind_goes_on_from_its_checkpoint, .fini = scratch_remove)
{
    static const char *const keys[][2] = {
        {"model.layers", "1"}, {"model.width", "32"}, {"model.heads", "2"},       {"model.context", "32"},
        {"train.steps", "3"},  {"train.lr", "1e-2"},  {"data.tokenizer", "byte"},
    };
    static const char *const kinds[] = {"gpt2", "llama", "fast"};
    write_text("fox.txt");
    for (size_t k = 0; k < 3; k++) {
        heard first, again;
        grd_error error;
        char name[64];
        grd_settings *s = grd_settings_new();
        set(s, "model.kind", kinds[k]);
        for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) set(s, keys[i][0], keys[i][1]);
        if (k == 2) set(s, "train.optimizer", "muon");
        if (k == 2) set(s, "model.softcap", "15");
        set(s, "data.path", scratch_path("fox.txt"));
        set(s, "out", scratch_path(kinds[k]));
        cr_assert(train(s, false, &first, &error) == GRD_OK, "%s", error.message);
        grd_settings_free(s);

        s = grd_settings_new();
        set(s, "init.from", first.saved);
        set(s, "model.kind", kinds[k]);
        set(s, "data.path", scratch_path("fox.txt"));
        set(s, "train.steps", "1");
        set(s, "train.lr", "0");
        snprintf(name, sizeof(name), "%s-again", kinds[k]);
        set(s, "out", scratch_path(name));
        cr_assert(train(s, false, &again, &error) == GRD_OK, "%s: %s", kinds[k], error.message);
        char a[1024], b[1024];
        size_t size_a, size_b;
        snprintf(a, sizeof(a), "%s/model.safetensors", first.saved);
        snprintf(b, sizeof(b), "%s/model.safetensors", again.saved);
        char *x = scratch_read(a, &size_a), *y = scratch_read(b, &size_b);
        cr_assert(size_a == size_b && memcmp(x, y, size_a) == 0, "%s: other weights came out", kinds[k]);

        x[size_a - 1] ^= 1; /* a flipped bit is found here too */
        scratch_write(a, x, size_a);
        set(s, "out", scratch_path("damaged"));
        cr_assert(train(s, false, &again, &error) == GRD_E_FORMAT && strstr(error.message, "tensor '"), "%s: %s",
                  kinds[k], error.message);
        free(x);
        free(y);
        grd_settings_free(s);
        cr_assert(access(scratch_path("damaged"), F_OK) != 0, "%s: a refused run left something", kinds[k]);
    }
}

Test(init_from, a_tokenizer_of_another_model_is_refused, .fini = scratch_remove)
{
    char golden[512], from[512];
    heard h;
    grd_error error;
    write_text("fox.txt");
    snprintf(from, sizeof(from), "%s", scratch_path("mixed"));
    cr_assert(mkdir(from, 0755) == 0);
    golden_folder("gpt2", golden, sizeof(golden));
    copy_file(golden, from, "config.json");
    copy_file(golden, from, "model.safetensors");
    grd_settings *s = grd_settings_new();
    set(s, "init.from", from);
    set(s, "data.path", scratch_path("fox.txt"));
    set(s, "train.steps", "1");
    error = (grd_error){GRD_OK, ""};
    cr_assert(grd_settings_resolve(s, &error) == GRD_E_ARGUMENT && strstr(error.message, "has no tokenizer.json"), "%s",
              error.message);
    set(s, "data.tokenizer", "byte");
    cr_assert(train(s, false, &h, &error) == GRD_E_ARGUMENT && strstr(error.message, "is fewer than the tokenizer's"),
              "%s", error.message);
    grd_settings_free(s);

    grd_tokenizer *tokenizer;
    const grd_tokenizer_options options = {.kind = GRD_TOKENIZER_BYTE};
    error = (grd_error){GRD_OK, ""};
    cr_assert(grd_tokenizer_train(NULL, 0, &options, &tokenizer, &error) == GRD_OK, "%s", error.message);
    cr_assert(grd_tokenizer_save(tokenizer, scratch_path("mixed/tokenizer.json"), &error) == GRD_OK, "%s",
              error.message);
    grd_tokenizer_free(tokenizer);
    sample(from, "fox", &h, &error);
    cr_assert(error.status == GRD_E_FORMAT && strstr(error.message, "the tokenizer has 256 tokens, the model 48"), "%s",
              error.message);
}
