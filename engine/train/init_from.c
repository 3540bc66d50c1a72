/* init_from.c - init.from: a Hugging Face folder says what the model is; keys that say otherwise are refused. */
#include "train/settings.h"

#include <gradus/hf.h>

#include "base/file.h"
#include "base/memory.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Whether the folder has a say in that key: not in how the model is trained. */
static bool is_model_key(const grdi_key *key)
{
    return strncmp(key->path, "model.", 6) == 0 && strcmp(key->path, "model.dropout") != 0 &&
           strcmp(key->path, "model.muon_init") != 0;
}

static double value_of(const grdi_key *key, const grd_settings *s)
{
    const void *field = grdi_key_field(key, s);
    switch (key->kind) {
    case GRDI_KEY_INT: return (double)*(const int64_t *)field;
    case GRDI_KEY_INT32: return *(const int32_t *)field;
    case GRDI_KEY_FLOAT: return *(const double *)field;
    case GRDI_KEY_FLAG: return *(const bool *)field;
    default: return *(const int *)field; /* CHOICE */
    }
}

static void name_value(const grdi_key *key, double value, char *text, size_t size)
{
    if (key->kind == GRDI_KEY_CHOICE) snprintf(text, size, "%s", key->choices[(int)value]);
    else if (key->kind == GRDI_KEY_FLAG) snprintf(text, size, "%s", value != 0 ? "true" : "false");
    else snprintf(text, size, "%.9g", value);
}

/* A number whose 0 means "the usual" says nothing; a model with rotary positions, which has no table of them, can be
 * trained on shorter windows. */
static bool agrees(const grdi_key *key, double set, double theirs, bool rotary)
{
    bool number = key->kind != GRDI_KEY_CHOICE && key->kind != GRDI_KEY_FLAG;
    if (number && set == 0) return true;
    if (rotary && strcmp(key->path, "model.context") == 0) return set <= theirs;
    return set == theirs;
}

static grd_status refuse_contradictions(const grd_settings *s, const grd_settings *theirs, grd_error *error)
{
    for (size_t i = 0; i < grdi_key_count; i++) {
        const grdi_key *key = &grdi_keys[i];
        if (!is_model_key(key) || !grdi_key_was_set(s, key)) continue;
        double set = value_of(key, s), wanted = value_of(key, theirs);
        if (agrees(key, set, wanted, theirs->model.gpt.position == GRD_POSITION_ROPE)) continue;
        char a[32], b[32];
        name_value(key, set, a, sizeof(a));
        name_value(key, wanted, b, sizeof(b));
        return grd_fail(error, GRD_E_ARGUMENT, "%s: %s contradicts init.from, whose config.json says %s (leave it out)",
                        key->path, a, b);
    }
    return GRD_OK;
}

/* As a run writes into its own config.yaml. */
static bool all_model_keys_set(const grd_settings *s)
{
    for (size_t i = 0; i < grdi_key_count; i++)
        if (is_model_key(&grdi_keys[i]) && !grdi_key_was_set(s, &grdi_keys[i])) return false;
    return true;
}

/* A run can be resumed from any folder. */
static grd_status make_absolute(char **path, grd_error *error)
{
    char here[4096];
    if ((*path)[0] == '/') return GRD_OK;
    if (!getcwd(here, sizeof(here))) return grd_fail(error, GRD_E_IO, "current folder: %s", strerror(errno));
    char *absolute = grdi_path_join(here, *path);
    if (!absolute) return grd_fail(error, GRD_E_MEMORY, "out of memory for settings");
    grdi_free(*path);
    *path = absolute;
    return GRD_OK;
}

/* A text is encoded as the model's own texts were, unless the settings name another tokenizer. */
static grd_status take_tokenizer(grd_settings *s, grd_error *error)
{
    if (grdi_key_was_set(s, grdi_key_find("data.tokenizer"))) return GRD_OK;
    char *path = grdi_path_join(s->init.from, "tokenizer.json");
    if (!path) return grd_fail(error, GRD_E_MEMORY, "out of memory for settings");
    if (grdi_path_exists(path)) {
        grdi_free(s->data.tokenizer);
        s->data.tokenizer = path;
        return GRD_OK;
    }
    grdi_free(path);
    if (!s->data.path) return GRD_OK;
    return grd_fail(error, GRD_E_ARGUMENT,
                    "init.from: %s has no tokenizer.json (set data.tokenizer to the one that it was trained with)",
                    s->init.from);
}

static void describe(const grd_gpt *gpt, grd_settings *theirs)
{
    theirs->model.gpt = *gpt;
    bool fast = gpt->no_norm_gain && gpt->embedding_norm;
    theirs->model.kind = gpt->position == GRD_POSITION_LEARNED ? GRD_MODEL_GPT2
                         : fast                                ? GRD_MODEL_FAST
                                                               : GRD_MODEL_LLAMA;
    theirs->model.mlp = (int)gpt->mlp;
    theirs->model.norm = (int)gpt->norm;
    theirs->model.position = (int)gpt->position;
    theirs->model.bias = !gpt->no_bias;
    theirs->model.tied = !gpt->untied;
    theirs->model.qk_norm = gpt->qk_norm;
}

grd_status grdi_settings_take_model(grd_settings *s, grd_error *error)
{
    grd_gpt gpt;
    grd_settings theirs = {.out = NULL};
    grd_error problem = {GRD_OK, ""};
    if (!s->init.from) return GRD_OK;
    grd_status status = make_absolute(&s->init.from, error);
    if (status) return status;
    if (grd_hf_read_config(s->init.from, &gpt, &problem)) {
        /* a run that began from a folder outlives it: its config.yaml and checkpoints hold all there is to know */
        if (problem.status == GRD_E_IO && all_model_keys_set(s)) return GRD_OK;
        return grd_fail(error, problem.status, "init.from: %s", problem.message);
    }
    describe(&gpt, &theirs);
    status = refuse_contradictions(s, &theirs, error);
    if (!status) status = take_tokenizer(s, error);
    if (status) return status;
    bool shorter = grdi_key_was_set(s, grdi_key_find("model.context")) && s->model.gpt.context < gpt.context;
    if (shorter) theirs.model.gpt.context = s->model.gpt.context;
    theirs.model.gpt.dropout = s->model.gpt.dropout;
    s->model = theirs.model;
    return GRD_OK;
}
