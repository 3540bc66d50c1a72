/* sample.c - continues a prompt with the model of a run directory. */
#include <gradus/hf.h>
#include <gradus/model.h>
#include <gradus/run.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/random.h"
#include "data/utf8.h"
#include "formats/checkpoint.h"
#include "generate/choose.h"

#include <math.h>
#include <string.h>

enum { DEFAULT_TOKENS = 200 };

/* What sampling holds: the model, one program that gives the logits at one position, and the tokens so far. */
typedef struct sampler {
    const grd_sample_options *options;
    grd_settings *settings;
    grd_tokenizer *tokenizer;
    grd_engine *engine;
    grd_model *model;
    grd_graph *graph;
    grd_tensor ids, position, logits;
    grd_program *program;
    int32_t unseen; /* the token that separates texts, where the training text had none of it; else -1 */
    float *values;
    grdi_choice *choices;
    int32_t *tokens;       /* prompt and what was added */
    int64_t count, window; /* the program sees the last `window` tokens */
    bool hf_folder;
    grd_error *error;
} sampler;

/* A Hugging Face folder: config.json, tokenizer.json, model.safetensors. */
static bool is_hf_folder(const char *run)
{
    char *yaml = grdi_path_join(run, "config.yaml"), *json = grdi_path_join(run, "config.json");
    bool is = yaml && json && !grdi_path_exists(yaml) && grdi_path_exists(json);
    grdi_free(yaml);
    grdi_free(json);
    return is;
}

static grd_status load_hf_folder(sampler *s, const char *folder)
{
    s->settings = grd_settings_new();
    if (!s->settings) return grd_fail(s->error, GRD_E_MEMORY, "out of memory");
    s->hf_folder = true;
    grd_status status = grd_hf_read_config(folder, &s->settings->model.gpt, s->error);
    return status ? status : grd_tokenizer_load(folder, &s->tokenizer, s->error);
}

/* A folder can hold files of two models; a vocabulary may well be padded. */
static grd_status check_vocabulary(const sampler *s, const char *run)
{
    long long tokens = grd_tokenizer_vocab_size(s->tokenizer), vocab = s->settings->model.gpt.vocab;
    if (tokens <= vocab) return GRD_OK;
    return grd_fail(s->error, GRD_E_FORMAT,
                    "%s: the tokenizer has %lld tokens, the model %lld (do they belong together?)", run, tokens, vocab);
}

static grd_status load_settings(sampler *s, const char *run)
{
    if (is_hf_folder(run)) return load_hf_folder(s, run);
    char *config = grdi_path_join(run, "config.yaml"), *tokenizer = grdi_path_join(run, "tokenizer.json");
    s->settings = grd_settings_new();
    grd_status status = config && tokenizer && s->settings ? GRD_OK : grd_fail(s->error, GRD_E_MEMORY, "out of memory");
    if (!status && !grdi_path_exists(config))
        status = grd_fail(s->error, GRD_E_IO, "%s: is no run directory (it has no config.yaml)", run);
    if (!status) status = grd_settings_load(s->settings, config, s->error);
    if (!status) status = grd_settings_resolve(s->settings, s->error);
    if (!status) status = grd_tokenizer_load(tokenizer, &s->tokenizer, s->error);
    if (!status && s->settings->model.gpt.vocab < 1)
        s->settings->model.gpt.vocab = grd_tokenizer_vocab_size(s->tokenizer);
    if (!status) status = grd_gpt_resolve(&s->settings->model.gpt, s->error);
    grdi_free(config);
    grdi_free(tokenizer);
    return status;
}

static int64_t wanted_tokens(const sampler *s)
{
    return s->options->tokens > 0 ? s->options->tokens : DEFAULT_TOKENS;
}

static grd_status build(sampler *s, const grd_run_options *run_options)
{
    const grd_gpt *gpt = &s->settings->model.gpt;
    s->engine = grd_engine_open(run_options->device, .threads = run_options->threads);
    s->model = grd_model_new(s->engine, 0);
    s->graph = grd_graph_new(s->model);
    s->window = s->count + wanted_tokens(s) < gpt->context ? s->count + wanted_tokens(s) : gpt->context;
    s->ids = grd_input(s->graph, "ids", GRD_I32, grd_shape(1, s->window));
    s->position = grd_input(s->graph, "position", GRD_I32, grd_shape(1));
    grd_tensor none = {0}, hidden = grd_gpt_hidden(s->ids, gpt, none);
    s->logits = grd_gpt_logits(grd_take(hidden, s->position, 1), gpt);
    s->program = grd_program_new(&s->logits, 1);
    const grd_error *error = grd_engine_error(s->engine);
    if (!s->program) return grd_fail(s->error, error->status ? error->status : GRD_E_MEMORY, "%s", error->message);
    s->values = grdi_alloc((size_t)gpt->vocab * sizeof(float));
    s->choices = grdi_alloc((size_t)gpt->vocab * sizeof(*s->choices));
    return s->values && s->choices ? GRD_OK : grd_fail(s->error, GRD_E_MEMORY, "out of memory");
}

static grd_status load_hf_weights(sampler *s, const char *folder)
{
    grd_safetensors *file;
    grd_error problem = {GRD_OK, ""};
    grd_status status = grd_safetensors_open(folder, &file, &problem);
    if (!status) status = grd_hf_import(s->model, &s->settings->model.gpt, file, &problem);
    grd_safetensors_close(file);
    return status ? grd_fail(s->error, status, "%s: %s", folder, problem.message) : GRD_OK;
}

static grd_status load_weights(sampler *s, const char *run)
{
    if (s->hf_folder) return load_hf_weights(s, run);
    char *root = grdi_path_join(run, "checkpoints"), *path = NULL;
    uint64_t step;
    grd_status status = root ? grdi_checkpoint_find(root, 0, &step, &path, s->error)
                             : grd_fail(s->error, GRD_E_MEMORY, "out of memory");
    if (!status && !path) status = grd_fail(s->error, GRD_E_IO, "%s: has no checkpoint yet", run);
    grdi_checkpoint *c = NULL;
    if (!status) status = grdi_checkpoint_open(path, &c, s->error);
    const grd_safetensors *tensors = status ? NULL : grdi_checkpoint_tensors(c, "model.safetensors");
    if (!status && !tensors) status = grd_fail(s->error, GRD_E_FORMAT, "%s: has no model.safetensors", path);
    if (!status) status = grd_hf_import(s->model, &s->settings->model.gpt, tensors, s->error);
    grdi_checkpoint_close(c);
    grdi_free(path);
    grdi_free(root);
    return status;
}

/* What stands before a prompt: where texts were separated in training, the token that separates them; else nothing (the
 * model never saw that token), or a line end before an empty prompt. A prompt for somebody else's model stands alone,
 * as it does there. */
static grd_status encode_prompt(sampler *s)
{
    const char *prompt = s->options->prompt ? s->options->prompt : "", *path = s->settings->data.path;
    int32_t separator = grd_tokenizer_end_of_text(s->tokenizer);
    bool separated = separator >= 0 && (s->hf_folder ? !prompt[0] : !path || grdi_path_is_directory(path));
    if (!prompt[0] && !separated) prompt = "\n";
    grd_ids ids = {0};
    grd_status status = grd_tokenizer_encode(s->tokenizer, (grd_text){prompt, strlen(prompt)}, NULL, &ids, s->error);
    if (status) return status;
    int64_t total = ids.count + 1 + wanted_tokens(s);
    s->tokens = grdi_alloc((size_t)total * sizeof(int32_t));
    if (s->tokens) {
        if (separated) s->tokens[s->count++] = separator;
        grd_ids_read(&ids, 0, ids.count, s->tokens + s->count);
        s->count += ids.count;
        if (!s->count) s->tokens[s->count++] = 0; /* a tokenizer that knows no line end */
    }
    grd_ids_free(&ids);
    return s->tokens ? GRD_OK : grd_fail(s->error, GRD_E_MEMORY, "out of memory");
}

/* One more token: the last `context` tokens go in, the logits after the last come out. */
static grd_status next_token(sampler *s, int64_t index)
{
    int64_t seen = s->count < s->window ? s->count : s->window;
    int32_t position = (int32_t)(seen - 1), *window = grdi_alloc_zero((size_t)s->window, sizeof(int32_t));
    if (!window) return grd_fail(s->error, GRD_E_MEMORY, "out of memory");
    memcpy(window, s->tokens + s->count - seen, (size_t)seen * sizeof(int32_t));
    grd_program_feed(s->program, s->ids, window);
    grd_program_feed(s->program, s->position, &position);
    grdi_free(window);
    grd_status status = grd_program_run(s->program);
    if (!status) status = grd_program_read(s->program, s->logits, s->values);
    if (status) return grd_fail(s->error, status, "%s", grd_program_error(s->program)->message);
    if (s->unseen >= 0) s->values[s->unseen] = -INFINITY;
    double unit = grdi_unit(grdi_random_u32(s->options->seed, 0, grdi_hash_text("sample"), (uint64_t)index));
    s->tokens[s->count++] =
        grdi_choose(s->values, (int32_t)grd_tokenizer_vocab_size(s->tokenizer), s->options, unit, s->choices);
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

static grd_status generate(sampler *s, void (*on_text)(void *, const char *, size_t), void *context)
{
    int64_t wanted = wanted_tokens(s);
    pending p = {.on_text = on_text, .context = context};
    if (s->options->prompt) on_text(context, s->options->prompt, strlen(s->options->prompt));
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

grd_status grd_sample_run(const char *run, const grd_sample_options *options, const grd_run_options *run_options,
                          void (*on_text)(void *context, const char *bytes, size_t size_bytes), void *context,
                          grd_error *error)
{
    grd_error own = {GRD_OK, ""};
    sampler s = {.options = options, .error = error ? error : &own};
    grd_status status = load_settings(&s, run);
    if (!status) status = check_vocabulary(&s, run);
    if (!status) status = encode_prompt(&s);
    if (!status) status = build(&s, run_options);
    if (!status) status = load_weights(&s, run);
    if (!status) status = generate(&s, on_text, context);
    grd_engine_close(s.engine);
    grd_tokenizer_free(s.tokenizer);
    grd_settings_free(s.settings);
    grdi_free(s.values);
    grdi_free(s.choices);
    grdi_free(s.tokens);
    return status;
}
