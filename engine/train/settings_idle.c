/* settings_idle.c - keys that a run has no use for: to ask for dropout of a model that has none, or to mirror a text,
 * is a mistake that nothing else would show. */
#include "train/settings.h"

#include <stdio.h>
#include <string.h>

/* What kinds of runs there are, as far as keys tell them apart. */
enum {
    LANGUAGE = 1,
    CONVOLUTIONS = 2, /* lenet and the residual networks */
    VIT = 4,
    MLP = 8,        /* of images or a table */
    SOFTMAX = 16,   /* logistic regression of images */
    SOLVED = 32,    /* linear and logistic models of a table */
    STEPPED = 64,   /* forecasters that go step by step: lstm, gru, tcn */
    WINDOWED = 128, /* the linear forecaster */
    IDX = 256,
    FILES = 512, /* images of a folder */
    TABLE = 1024,
};
enum {
    IMAGES = IDX | FILES,
    SERIES = STEPPED | WINDOWED,
    NETWORKS = LANGUAGE | CONVOLUTIONS | VIT | MLP | STEPPED,
};

/* A key, or all that begin with one that ends in an underscore, and the runs that have a use for it. */
static const struct {
    const char *path;
    int of;
    const char *what; /* that it is for */
} uses[] = {
    {"model.classes", IMAGES | TABLE, "images and tables"},
    {"model.patch", VIT, "vit"},
    {"model.pool", VIT, "vit"},
    {"model.layers", LANGUAGE | VIT | MLP | STEPPED, "transformers, mlp, lstm, gru and tcn"},
    {"model.heads", LANGUAGE | VIT, "transformers"},
    {"model.context", LANGUAGE | SERIES, "texts and series"},
    {"model.vocab", LANGUAGE, "language models"},
    {"model.kv_heads", LANGUAGE, "language models"},
    {"model.head_dim", LANGUAGE, "language models"},
    {"model.mlp_width", LANGUAGE | VIT, "transformers"},
    {"model.mlp", LANGUAGE, "language models"},
    {"model.norm", LANGUAGE, "language models"},
    {"model.norm_eps", LANGUAGE, "language models"},
    {"model.no_norm_gain", LANGUAGE, "language models"},
    {"model.position", LANGUAGE, "language models"},
    {"model.rope_", LANGUAGE, "language models"},
    {"model.qk_norm", LANGUAGE, "language models"},
    {"model.bias", LANGUAGE, "language models"},
    {"model.qkv_bias", LANGUAGE, "language models"},
    {"model.out_bias", LANGUAGE, "language models"},
    {"model.mlp_bias", LANGUAGE, "language models"},
    {"model.tied", LANGUAGE, "language models"},
    {"model.dropout", NETWORKS, "networks"},
    {"model.window", LANGUAGE, "language models"},
    {"model.softcap", LANGUAGE, "language models"},
    {"model.muon_init", LANGUAGE, "language models"},
    {"model.embedding_norm", LANGUAGE, "language models"},
    {"init.std", LANGUAGE, "language models"},
    {"data.tokens", LANGUAGE, "language models"},
    {"data.validation", LANGUAGE, "language models"},
    {"data.tokenizer", LANGUAGE, "language models"},
    {"data.vocab", LANGUAGE, "language models"},
    {"data.validation_part", ~IDX, "data without a test set of their own"},
    {"data.target", TABLE | SERIES, "tables and series"},
    {"data.time", TABLE | SERIES, "tables and series"},
    {"data.group", TABLE, "tables"},
    {"data.split", TABLE, "tables"},
    {"data.inputs", SERIES, "series"},
    {"data.horizon", SERIES, "series"},
    {"data.season", SERIES, "series"},
    {"data.features", TABLE, "tables"},
    {"data.ignore", TABLE, "tables"},
    {"data.categories", TABLE, "tables"},
    {"data.on_bad", FILES, "folders of images"},
    {"data.height", FILES, "folders of images"},
    {"data.width", FILES, "folders of images"},
    {"data.channels", FILES, "folders of images"},
    {"data.workers", IMAGES, "images"},
    {"data.crop", IMAGES, "images"},
    {"data.crop_scale", IMAGES, "images"},
    {"data.shift", IMAGES, "images"},
    {"data.hflip", IMAGES, "images"},
    {"data.brightness", IMAGES, "images"},
    {"data.contrast", IMAGES, "images"},
    {"data.saturation", IMAGES, "images"},
    {"data.hue", IMAGES, "images"},
    {"data.erase", IMAGES, "images"},
    {"train.mixup", IMAGES, "images"},
    {"train.cutmix", IMAGES, "images"},
    {"train.l2", TABLE, "linear and logistic models of tables"},
    {"train.label_smoothing", LANGUAGE | IMAGES | TABLE, "classes"},
    {"train.eval_windows", LANGUAGE | IMAGES | SERIES, "texts, images and series"},
    {"train.sample_prompt", LANGUAGE, "language models"},
    {"train.sample_tokens", LANGUAGE, "language models"},
};

static int model_of(const grd_settings *s)
{
    switch (s->model.kind) {
    case GRD_MODEL_LENET:
    case GRD_MODEL_RESNET18:
    case GRD_MODEL_RESNET34:
    case GRD_MODEL_RESNET50: return CONVOLUTIONS;
    case GRD_MODEL_VIT: return VIT;
    case GRD_MODEL_MLP: return MLP;
    default: return SOFTMAX;
    }
}

/* Of a table, whose model may be left to its rows: a network's keys have a use until it is known to be none. */
static int model_of_table(const grd_settings *s)
{
    bool solved = s->model.kind == GRD_MODEL_LINEAR || s->model.kind == GRD_MODEL_LOGISTIC;
    return solved ? SOLVED : MLP;
}

static int kind_of(const grd_settings *s)
{
    switch (s->data.kind) {
    case GRD_DATA_TABLE: return TABLE | model_of_table(s);
    case GRD_DATA_SERIES: return s->model.kind == GRD_MODEL_LINEAR ? WINDOWED : STEPPED;
    case GRD_DATA_IDX: return IDX | model_of(s);
    case GRD_DATA_IMAGES: return FILES | model_of(s);
    default: return LANGUAGE;
    }
}

/* Whether the key has a value that asks for something: neither nothing nor what it is anyway. */
static bool asks(const grdi_key *key, const grd_settings *s, const grd_settings *usual)
{
    const void *is = grdi_key_field(key, s), *was = grdi_key_field(key, usual);
    switch (key->kind) {
    case GRDI_KEY_INT: return *(const int64_t *)is && *(const int64_t *)is != *(const int64_t *)was;
    case GRDI_KEY_INT32: return *(const int32_t *)is && *(const int32_t *)is != *(const int32_t *)was;
    case GRDI_KEY_FLOAT: return *(const double *)is != 0 && *(const double *)is != *(const double *)was;
    case GRDI_KEY_FLAG: return *(const bool *)is;
    case GRDI_KEY_CHOICE: return *(const int *)is != *(const int *)was;
    case GRDI_KEY_TEXT: return *(char *const *)is != NULL;
    case GRDI_KEY_FILES: return *(const int *)((const char *)s + key->count_offset) > 0;
    default: return true;
    }
}

static bool is_of(const char *path, const char *pattern)
{
    size_t length = strlen(pattern);
    return pattern[length - 1] == '_' ? strncmp(path, pattern, length) == 0 : strcmp(path, pattern) == 0;
}

static void describe(const grd_settings *s, int kind, char *text, size_t size)
{
    bool undecided = kind & TABLE && !grdi_key_was_set(s, grdi_key_find("model.kind"));
    const char *data = kind & IMAGES ? "images" : kind & TABLE ? "a table" : "a series";
    if (kind & LANGUAGE) snprintf(text, size, "a language model");
    else snprintf(text, size, "%s on %s", undecided ? "a model" : grd_model_kind_name(s->model.kind), data);
}

grd_status grdi_settings_refuse_idle(const grd_settings *s, grd_error *error)
{
    int kind = kind_of(s);
    char what[64];
    describe(s, kind, what, sizeof(what));
    grd_settings *usual = grd_settings_new();
    if (!usual) return grd_fail(error, GRD_E_MEMORY, "out of memory for settings");
    grd_status status = GRD_OK;
    for (size_t i = 0; i < grdi_key_count && !status; i++) {
        const grdi_key *key = &grdi_keys[i];
        if (!grdi_key_was_set(s, key) || !asks(key, s, usual)) continue;
        for (size_t k = 0; k < sizeof(uses) / sizeof(uses[0]) && !status; k++) {
            if (!is_of(key->path, uses[k].path) || uses[k].of & kind) continue;
            status = grd_fail(error, GRD_E_ARGUMENT, "%s: is for %s, and this run trains %s (leave it out)", key->path,
                              uses[k].what, what);
        }
    }
    grd_settings_free(usual);
    return status;
}
