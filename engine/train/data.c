/* data.c - what a run trains on: a text with its tokenizer, or token shards. */
#include "train/session.h"

#include "base/memory.h"
#include "formats/tokens.h"

#include <string.h>
#include <xxhash.h>

grd_status grdi_session_add_source(grdi_session *s, const char *path, int64_t size_bytes, uint64_t checksum)
{
    char *copy = grdi_strdup(path);
    if (!copy || !GRDI_GROW(s->sources, s->source_capacity, s->source_count)) {
        grdi_free(copy);
        return grd_fail(s->error, GRD_E_MEMORY, "%s: out of memory", path);
    }
    s->sources[s->source_count++] = (grdi_source){copy, size_bytes, checksum};
    return GRD_OK;
}

void grdi_session_free_sources(grdi_session *s)
{
    for (size_t i = 0; i < s->source_count; i++) grdi_free(s->sources[i].path);
    grdi_free(s->sources);
}

static grd_status add_shard(grdi_session *s, const char *path, const grd_tokens *shard)
{
    const grd_ids ids = grdi_tokens_view(shard);
    size_t size = (size_t)ids.count * (size_t)ids.width_bytes;
    return grdi_session_add_source(s, path, (int64_t)size, XXH3_64bits(ids.data, size));
}

static grd_status open_shards(grdi_session *s)
{
    grd_settings *settings = s->settings;
    for (int part = 0; part < 2; part++) {
        char **files = part ? settings->data.validation : settings->data.tokens;
        int count = part ? settings->data.validation_count : settings->data.token_count;
        for (int i = 0; i < count; i++) {
            grd_status status = grd_tokens_open(files[i], GRD_TOKENS_AUTO, &s->shards[part][i], s->error);
            if (status) return status;
            s->shard_count[part]++; /* from now on it is closed with the others */
            if (settings->model.gpt.vocab > 0)
                status = grd_tokens_check(s->shards[part][i], settings->model.gpt.vocab, s->error);
            if (!status) status = add_shard(s, files[i], s->shards[part][i]);
            if (status) return status;
        }
    }
    if (settings->model.gpt.vocab < 1)
        return grd_fail(s->error, GRD_E_ARGUMENT,
                        "model.vocab: token shards do not say how many tokens there are (set model.vocab)");
    if (!s->tokenizer && settings->data.tokenizer && strchr(settings->data.tokenizer, '.'))
        return grd_tokenizer_load(settings->data.tokenizer, &s->tokenizer, s->error);
    return GRD_OK;
}

/* What tokenizers and batches complain of has no name there; here it has. */
static grd_status blame_data(const grdi_session *s, const grd_error *problem)
{
    const char *path = s->settings->data.path;
    return grd_fail(s->error, problem->status, "%s: %s", path ? path : "data.tokens", problem->message);
}

static grd_status make_tokenizer(grdi_session *s)
{
    static const char *const special[] = {"<|endoftext|>"};
    const char *name = s->settings->data.tokenizer ? s->settings->data.tokenizer : "bpe";
    int kind = grd_tokenizer_kind_from_name(name);
    if (kind < 0) return grd_tokenizer_load(name, &s->tokenizer, s->error);
    grd_tokenizer_options options = {.kind = (grd_tokenizer_kind)kind,
                                     .vocab_size = (int32_t)s->settings->data.vocab,
                                     .special = special,
                                     .special_count = 1,
                                     .threads = s->options->threads,
                                     .mapped = true};
    size_t count;
    const grd_text *texts = grd_corpus_texts(s->corpus, GRD_TRAIN, &count);
    grd_error problem = {GRD_OK, ""};
    return grd_tokenizer_train(texts, count, &options, &s->tokenizer, &problem) ? blame_data(s, &problem) : GRD_OK;
}

/* The tokens of a text of this size would take a part of memory that is worth a file. */
enum { SCRATCH_FROM_BYTES = 64 << 20 };

/* The nearest directory above the run's that is there already: on the disk that is meant to be written to. Free with
 * grdi_free(). */
static char *scratch_directory(const char *out)
{
    char *path = grdi_strdup(out ? out : ".");
    while (path && !grdi_path_is_directory(path)) {
        char *slash = strrchr(path, '/');
        if (!slash || slash == path)
            strcpy(path, slash ? "/" : ".");
        else
            *slash = '\0';
    }
    return path;
}

static grd_status open_text(grdi_session *s)
{
    grd_settings *settings = s->settings;
    char *scratch = scratch_directory(settings->out);
    if (!scratch) return grd_fail(s->error, GRD_E_MEMORY, "%s: out of memory", settings->data.path);
    grd_corpus_options options = {.validation_part = settings->data.validation_part,
                                  .no_validation = settings->data.validation_part <= 0,
                                  .threads = s->options->threads,
                                  .scratch = scratch,
                                  .scratch_from = SCRATCH_FROM_BYTES};
    grd_status status = grd_corpus_open(settings->data.path, &options, &s->corpus, s->error);
    grdi_free(scratch);
    if (!status && !s->tokenizer) status = make_tokenizer(s);
    if (!status) status = grd_corpus_fits(s->corpus, grd_tokenizer_kind_of(s->tokenizer), s->error);
    grd_error problem = {GRD_OK, ""};
    if (!status && grd_corpus_encode(s->corpus, s->tokenizer, &problem)) status = blame_data(s, &problem);
    if (status) return status;
    int64_t vocab = grd_tokenizer_vocab_size(s->tokenizer);
    if (settings->model.gpt.vocab && settings->model.gpt.vocab < vocab)
        return grd_fail(s->error, GRD_E_ARGUMENT,
                        "model.vocab: %lld is fewer than the tokenizer's %lld (leave it out to take the tokenizer's)",
                        (long long)settings->model.gpt.vocab, (long long)vocab);
    if (!settings->model.gpt.vocab) settings->model.gpt.vocab = vocab;
    grd_corpus_info info = grd_corpus_about(s->corpus);
    if (grdi_session_add_source(s, settings->data.path, info.size_bytes[0] + info.size_bytes[1], info.checksum))
        return s->error->status;
    grdi_session_note(
        s, "data: %lld bytes of text in %lld file%s, %lld tokens to train on, %lld to validate; vocabulary %lld",
        (long long)(info.size_bytes[0] + info.size_bytes[1]), (long long)info.files, info.files == 1 ? "" : "s",
        (long long)info.count[0], (long long)info.count[1], (long long)vocab);
    char line[GRD_MESSAGE_MAX];
    for (int32_t i = 0; grd_corpus_note(s->corpus, i, line, sizeof(line)); i++) grdi_session_note(s, "data: %s", line);
    return GRD_OK;
}

grd_status grdi_session_open_data(grdi_session *s)
{
    if (s->settings->data.path) return open_text(s);
    if (s->settings->data.token_count) return open_shards(s);
    return grd_fail(
        s->error, GRD_E_ARGUMENT,
        "data: there is nothing to train on (set data.path to a text file, or data.tokens to token shards)");
}

grd_status grdi_session_make_batches(grdi_session *s)
{
    const grd_settings *settings = s->settings;
    grd_batches_options options = {.batch = settings->train.batch,
                                   .context = settings->model.gpt.context,
                                   .order = (grd_order)settings->data.order,
                                   .seed = (uint64_t)settings->train.seed,
                                   .vocab_size = (int32_t)settings->model.gpt.vocab};
    grd_error problem = {GRD_OK, ""};
    if (s->corpus) {
        const grd_ids *ids = grd_corpus_ids(s->corpus, GRD_TRAIN);
        grd_batches_of_ids(&ids, 1, &options, &s->batches, &problem);
    } else {
        grd_batches_of_shards((const grd_tokens *const *)s->shards[0], s->shard_count[0], &options, &s->batches,
                              &problem);
    }
    return problem.status ? blame_data(s, &problem) : GRD_OK;
}

int64_t grdi_session_next_batch(const grdi_session *s)
{
    return s->first_batch + (s->done - s->first_step) * s->settings->train.accumulate;
}

grd_status grdi_session_start_batches(grdi_session *s)
{
    grd_prefetch_free(s->prefetch);
    return grd_prefetch_new(s->batches, grdi_session_next_batch(s), 1, &s->prefetch, s->error);
}

void grdi_session_close_data(grdi_session *s)
{
    grd_prefetch_free(s->prefetch);
    grd_batches_free(s->batches);
    for (int part = 0; part < 2; part++)
        for (size_t i = 0; i < s->shard_count[part]; i++) grd_tokens_close(s->shards[part][i]);
    grd_corpus_free(s->corpus);
    grd_tokenizer_free(s->tokenizer);
}
