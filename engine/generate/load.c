/* load.c - finds and reads trained models. */
#include "generate/load.h"

#include <gradus/hf.h>

#include "base/file.h"
#include "base/memory.h"
#include "formats/checkpoint.h"
#include "generate/classifier.h"

static grd_status out_of_memory(const grdi_loaded *l)
{
    return grd_fail(l->error, GRD_E_MEMORY, "out of memory for a model");
}

/* Whether the folder holds a file of that name; false, too, when out of memory. */
static bool holds(const char *folder, const char *name)
{
    char *path = grdi_path_join(folder, name);
    bool is = path && grdi_path_exists(path);
    grdi_free(path);
    return is;
}

/* A folder can hold files of two models; a vocabulary may well be padded. */
static grd_status check_vocabulary(const grdi_loaded *l, const char *path)
{
    long long tokens = l->tokenizer ? grd_tokenizer_vocab_size(l->tokenizer) : 0, vocab = l->settings->model.gpt.vocab;
    if (tokens <= vocab) return GRD_OK;
    return grd_fail(l->error, GRD_E_FORMAT,
                    "%s: the tokenizer has %lld tokens, the model %lld (do they belong together?)", path, tokens,
                    vocab);
}

static grd_status load_tokenizer(grdi_loaded *l, const char *folder)
{
    return holds(folder, "tokenizer.json") ? grd_tokenizer_load(folder, &l->tokenizer, l->error) : GRD_OK;
}

static grd_status open_hf_folder(grdi_loaded *l, const char *folder)
{
    l->hf_folder = true;
    l->weights = grdi_strdup(folder);
    if (!l->weights) return out_of_memory(l);
    grd_status status = grd_hf_read_config(folder, &l->settings->model.gpt, l->error);
    return status ? status : load_tokenizer(l, folder);
}

/* What config.yaml says; a run writes all of it there. */
static grd_status open_settings(grdi_loaded *l, const char *run)
{
    char *config = grdi_path_join(run, "config.yaml");
    grd_status status = config ? grd_settings_load(l->settings, config, l->error) : out_of_memory(l);
    grdi_free(config);
    if (!status) status = grd_settings_resolve(l->settings, l->error);
    if (status || !grd_settings_of_language(l->settings)) return status;
    status = load_tokenizer(l, run);
    if (!status && l->settings->model.gpt.vocab < 1 && l->tokenizer)
        l->settings->model.gpt.vocab = grd_tokenizer_vocab_size(l->tokenizer);
    return status ? status : grd_gpt_resolve(&l->settings->model.gpt, l->error);
}

static grd_status open_run(grdi_loaded *l, const char *run)
{
    uint64_t step = 0;
    grd_status status = open_settings(l, run);
    char *root = grdi_path_join(run, "checkpoints");
    if (!status) status = root ? grdi_checkpoint_find(root, 0, &step, &l->weights, l->error) : out_of_memory(l);
    grdi_free(root);
    if (!status && !l->weights)
        status = grd_fail(l->error, GRD_E_IO, "%s: has no checkpoint yet (train it until one is saved)", run);
    return status;
}

/* RUN/checkpoints/step-000200: its model may be one that Hugging Face has no words for. */
static grd_status open_checkpoint(grdi_loaded *l, const char *folder, const char *run)
{
    l->weights = grdi_strdup(folder);
    return l->weights ? open_settings(l, run) : out_of_memory(l);
}

static grd_status open_path(grdi_loaded *l, const char *path)
{
    char *run = grdi_path_join(path, "../..");
    grd_status status;
    if (!run) status = out_of_memory(l);
    else if (holds(path, "config.yaml")) status = open_run(l, path);
    else if (holds(path, "state.json") && holds(run, "config.yaml")) status = open_checkpoint(l, path, run);
    else if (holds(path, "config.json")) status = open_hf_folder(l, path);
    else
        status = grd_fail(l->error, GRD_E_IO,
                          "%s: is no run directory (it has no config.yaml) and no Hugging Face folder (no config.json)",
                          path);
    grdi_free(run);
    return status;
}

grd_status grdi_load_open(grdi_loaded *l, const char *path, const grd_run_options *options)
{
    l->settings = grd_settings_new();
    if (!l->settings) return out_of_memory(l);
    grd_status status = open_path(l, path);
    if (!status) status = check_vocabulary(l, path);
    if (status) return status;
    l->engine = grd_engine_open(options->device, .threads = options->threads);
    l->model = grd_model_new(l->engine, 0);
    grd_model_set_precision(l->model, l->settings->train.precision);
    const grd_error *problem = grd_engine_error(l->engine);
    if (!problem->status && l->model) return GRD_OK;
    return problem->status ? grd_fail(l->error, problem->status, "%s", problem->message) : out_of_memory(l);
}

static grd_status import(const grdi_loaded *l, const grd_safetensors *tensors)
{
    grd_error problem = {GRD_OK, ""};
    grd_status status = !grd_settings_of_language(l->settings)
                            ? grdi_classifier_read_weights(l->model, tensors, &problem)
                            : grd_hf_import(l->model, &l->settings->model.gpt, tensors, &problem);
    return status ? grd_fail(l->error, status, "%s: %s", l->weights, problem.message) : GRD_OK;
}

static grd_status load_checkpoint(grdi_loaded *l)
{
    grdi_checkpoint *c;
    grd_status status = grdi_checkpoint_open(l->weights, &c, l->error);
    if (status) return status;
    const grd_safetensors *tensors = grdi_checkpoint_tensors(c, "model.safetensors");
    if (!tensors) status = grd_fail(l->error, GRD_E_FORMAT, "%s: has no model.safetensors", l->weights);
    if (!status) status = import(l, tensors);
    grd_checkpoint_info info;
    if (!status) status = grdi_checkpoint_describe(c, &info, l->error);
    if (!status) l->step = info.step;
    grdi_checkpoint_close(c);
    return status;
}

grd_status grdi_load_weights(grdi_loaded *l)
{
    if (!l->hf_folder) return load_checkpoint(l);
    grd_safetensors *file;
    grd_status status = grd_safetensors_open(l->weights, &file, l->error);
    if (!status) status = import(l, file);
    grd_safetensors_close(file);
    return status;
}

void grdi_load_close(grdi_loaded *l)
{
    grd_engine_close(l->engine);
    grd_tokenizer_free(l->tokenizer);
    grd_settings_free(l->settings);
    grdi_free(l->weights);
}
