/* language.c - the task of modelling language: windows of tokens, the next one of each to be told. */
#include "train/check_set.h"
#include "train/task.h"

#include "formats/tokens.h"

#include <gradus/hf.h>

#include <math.h>
#include <string.h>

static grd_tensor loss(grdi_session *s)
{
    const grd_gpt *gpt = &s->settings->model.gpt;
    grd_dims dims = grd_shape(s->settings->train.batch, gpt->context);
    s->ids = grd_input(s->graph, "ids", GRD_I32, dims);
    s->targets = grd_input(s->graph, "targets", GRD_I32, dims);
    s->scale = grd_input(s->graph, "scale", GRD_F32, grd_scalar());
    const grd_cross_entropy_options smooth = {.size = sizeof smooth,
                                              .label_smoothing = s->settings->train.label_smoothing};
    return grd_gpt_loss(grd_gpt_hidden(s->ids, gpt, grdi_session_dropout_key(s)), gpt, s->targets, s->scale, &smooth);
}

/* Tokens of a micro-batch. */
static int64_t per_micro(const grd_settings *settings)
{
    return settings->train.batch * settings->model.gpt.context;
}

static grd_status feed(grdi_session *s, int64_t micro)
{
    const grd_settings *settings = s->settings;
    float scale = (float)(1.0 / (double)(per_micro(settings) * settings->train.accumulate));
    const int32_t *inputs, *targets;
    grd_status status = grd_prefetch_next(s->prefetch, &inputs, &targets, s->error);
    if (status) return status;
    s->last_inputs = inputs;
    grd_step_feed(s->step, s->ids, inputs);
    grd_step_feed(s->step, s->targets, targets);
    grd_step_feed(s->step, s->scale, &scale);
    grdi_session_feed_key(s, micro);
    return GRD_OK;
}

static void count(const grdi_session *s, grd_event *event)
{
    event->tokens = per_micro(s->settings) * s->settings->train.accumulate;
}

static bool can_evaluate(const grdi_session *s)
{
    return s->corpus ? grd_corpus_ids(s->corpus, GRD_VALIDATION)->count > 1 : s->shard_count[1] > 0;
}

/* The weights as Hugging Face's transformers reads them, with the config.json that belongs to them. */
static grd_status add_weights(grdi_session *s, grdi_checkpoint_writer *w)
{
    const grd_gpt *gpt = &s->settings->model.gpt;
    grd_hf_exporter *weights;
    size_t total;
    grd_status status = grd_hf_exporter_new(s->model, gpt, &weights, s->error);
    if (status) return status;
    const grd_file_tensor *tensors = grd_hf_exporter_tensors(weights, &total);
    status = grdi_checkpoint_stream_tensors(w, "model.safetensors", tensors, total, grd_hf_exporter_read, weights);
    grd_hf_exporter_free(weights);
    char *config = grd_hf_config_text(gpt, s->tokenizer ? grd_tokenizer_end_of_text(s->tokenizer) : -1);
    if (!config) return grd_fail(s->error, GRD_E_MEMORY, "config.json: out of memory");
    if (!status) status = grdi_checkpoint_add_file(w, "config.json", config, strlen(config));
    grd_hf_free_text(config);
    return status;
}

static grd_status read_weights(grdi_session *s, const grd_safetensors *file, grd_error *error)
{
    return grd_hf_import(s->model, &s->settings->model.gpt, file, error);
}

static void expect(const grdi_session *s, grdi_expected *expected)
{
    long long vocab = (long long)s->settings->model.gpt.vocab;
    expected->loss = log((double)vocab);
    expected->causal = true;
    snprintf(expected->text, sizeof(expected->text), "ln %lld (tokens)", vocab);
}

static grd_status check_data(grdi_session *s, struct grdi_checker *c)
{
    grd_ids ids[2][GRD_FILES_MAX];
    if (s->corpus) return grdi_check_text(c, s->corpus);
    for (int part = 0; part < 2; part++)
        for (size_t i = 0; i < s->shard_count[part]; i++) ids[part][i] = grdi_tokens_view(s->shards[part][i]);
    return grdi_check_ids(c, ids[0], s->shard_count[0], ids[1], s->shard_count[1]);
}

const grdi_task grdi_task_language = {.open = grdi_session_open_data,
                                      .make_batches = grdi_session_make_batches,
                                      .start = grdi_session_start_batches,
                                      .loss = loss,
                                      .build_evaluation = grdi_session_build_evaluation,
                                      .feed = feed,
                                      .count = count,
                                      .can_evaluate = can_evaluate,
                                      .evaluate = grdi_session_evaluate,
                                      .add_weights = add_weights,
                                      .read_weights = read_weights,
                                      .expect = expect,
                                      .check_data = check_data,
                                      .close = grdi_session_close_data};
