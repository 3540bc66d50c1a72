/* settings.c - the configuration keys, their defaults, and what depends on other keys. */
#include "train/settings.h"

#include <gradus/table.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/text.h"
#include "train/table.h"

#include <math.h>
#include <string.h>

static const char *const model_kinds[] = {"gpt2",     "llama",    "fast", "lenet", "resnet18",
                                          "resnet34", "resnet50", "vit",  "mlp",   "logistic",
                                          "linear",   "lstm",     "gru",  "tcn",   NULL};
static const char *const pools[] = {"class", "mean", NULL};
static const char *const data_kinds[] = {"auto", "text", "idx", "series", "table", "images", NULL};
static const char *const mlp_kinds[] = {"gelu", "gelu_tanh", "swiglu", "relu2", NULL};
static const char *const norm_kinds[] = {"layernorm", "rmsnorm", NULL};
static const char *const position_kinds[] = {"learned", "rope", NULL};
static const char *const scaling_kinds[] = {"none", "linear", "llama3", NULL};
static const char *const flags[] = {"false", "true", NULL};
static const char *const orders[] = {"shuffled", "sequential", NULL};
static const char *const optimizers[] = {"none", "adamw", "adam", "sgd", "lion", "muon", "lbfgs", "exact", NULL};
static const char *const schedules[] = {"constant", "linear", "cosine", "wsd", NULL};
static const char *const splits[] = {"auto", "random", "stratified", "grouped", "time", NULL};
static const char *const bad_ways[] = {"stop", "skip", NULL};
static const char *const crops[] = {"none", "shift", "resized", NULL};
static const char *const nan_ways[] = {"stop", "skip", NULL};

#define AT(field) offsetof(grd_settings, field)
#define WHOLE(key_path, field, low, high)                                                                              \
    {                                                                                                                  \
        .path = key_path, .kind = GRDI_KEY_INT, .offset = AT(field), .least = low, .most = high                        \
    }
#define WHOLE32(key_path, field, low, high)                                                                            \
    {                                                                                                                  \
        .path = key_path, .kind = GRDI_KEY_INT32, .offset = AT(field), .least = low, .most = high                      \
    }
#define NUMBER(key_path, field, low, high)                                                                             \
    {                                                                                                                  \
        .path = key_path, .kind = GRDI_KEY_FLOAT, .offset = AT(field), .least = low, .most = high                      \
    }
#define FLAG(key_path, field)                                                                                          \
    {                                                                                                                  \
        .path = key_path, .kind = GRDI_KEY_FLAG, .offset = AT(field)                                                   \
    }
#define CHOICE(key_path, field, names)                                                                                 \
    {                                                                                                                  \
        .path = key_path, .kind = GRDI_KEY_CHOICE, .offset = AT(field), .choices = names                               \
    }
#define TEXT(key_path, field)                                                                                          \
    {                                                                                                                  \
        .path = key_path, .kind = GRDI_KEY_TEXT, .offset = AT(field)                                                   \
    }

#define LIST(key_path, field, count)                                                                                   \
    {                                                                                                                  \
        .path = key_path, .kind = GRDI_KEY_FILES, .offset = AT(field), .count_offset = AT(count)                       \
    }

enum { LARGE = 1 << 30 };

const grdi_key grdi_keys[] = {
    CHOICE("model.kind", model.kind, model_kinds),
    WHOLE("model.classes", model.classes, 0, 1000000),
    WHOLE("model.patch", model.patch, 0, LARGE),
    CHOICE("model.pool", model.pool, pools),
    WHOLE32("model.layers", model.gpt.layers, 1, 100000),
    WHOLE32("model.heads", model.gpt.heads, 1, 100000),
    WHOLE("model.width", model.gpt.width, 1, LARGE),
    WHOLE("model.context", model.gpt.context, 1, LARGE),
    WHOLE("model.vocab", model.gpt.vocab, 1, LARGE),
    WHOLE32("model.kv_heads", model.gpt.kv_heads, 0, 100000),
    WHOLE("model.head_dim", model.gpt.head_dim, 0, LARGE),
    WHOLE("model.mlp_width", model.gpt.mlp_width, 0, LARGE),
    CHOICE("model.mlp", model.mlp, mlp_kinds),
    CHOICE("model.norm", model.norm, norm_kinds),
    NUMBER("model.norm_eps", model.gpt.norm_eps, 0, 1),
    FLAG("model.no_norm_gain", model.gpt.no_norm_gain),
    CHOICE("model.position", model.position, position_kinds),
    NUMBER("model.rope_theta", model.gpt.rope_theta, 0, 1e12),
    CHOICE("model.rope_scaling", model.gpt.rope_scaling, scaling_kinds),
    NUMBER("model.rope_factor", model.gpt.rope_factor, 0, 1e6),
    NUMBER("model.rope_low", model.gpt.rope_low, 0, 1e6),
    NUMBER("model.rope_high", model.gpt.rope_high, 0, 1e6),
    WHOLE("model.rope_original", model.gpt.rope_original, 0, LARGE),
    CHOICE("model.qk_norm", model.qk_norm, flags),
    CHOICE("model.bias", model.bias, flags),
    FLAG("model.qkv_bias", model.gpt.qkv_bias),
    FLAG("model.out_bias", model.gpt.out_bias),
    FLAG("model.mlp_bias", model.gpt.mlp_bias),
    CHOICE("model.tied", model.tied, flags),
    NUMBER("model.dropout", model.gpt.dropout, 0, 0.999),
    WHOLE32("model.window", model.gpt.window, 0, LARGE),
    NUMBER("model.softcap", model.gpt.softcap, 0, 1e6),
    FLAG("model.muon_init", model.gpt.muon_init),
    FLAG("model.embedding_norm", model.gpt.embedding_norm),
    TEXT("init.from", init.from),
    NUMBER("init.std", init.std, 0, 100),
    TEXT("data.path", data.path),
    CHOICE("data.kind", data.kind, data_kinds),
    LIST("data.tokens", data.tokens, data.token_count),
    LIST("data.validation", data.validation, data.validation_count),
    TEXT("data.tokenizer", data.tokenizer),
    WHOLE("data.vocab", data.vocab, 0, LARGE),
    CHOICE("data.order", data.order, orders),
    NUMBER("data.validation_part", data.validation_part, 0, 0.9),
    TEXT("data.target", data.target),
    TEXT("data.time", data.time),
    TEXT("data.group", data.group),
    CHOICE("data.split", data.split, splits),
    LIST("data.inputs", data.inputs, data.input_count),
    LIST("data.features", data.features, data.feature_count),
    LIST("data.ignore", data.ignore, data.ignore_count),
    LIST("data.categories", data.categories, data.category_count),
    WHOLE("data.horizon", data.horizon, 1, 1000000),
    WHOLE("data.season", data.season, 0, 1000000),
    CHOICE("data.on_bad", data.on_bad, bad_ways),
    WHOLE("data.height", data.height, 0, 65536),
    WHOLE("data.width", data.width, 0, 65536),
    WHOLE("data.channels", data.channels, 0, 3),
    WHOLE32("data.workers", data.workers, 0, 64),
    CHOICE("data.crop", augment.crop, crops),
    WHOLE("data.shift", augment.shift, 0, 10000),
    NUMBER("data.crop_scale", augment.crop_scale, 0.01, 1),
    FLAG("data.hflip", augment.hflip),
    NUMBER("data.brightness", augment.brightness, 0, 10),
    NUMBER("data.contrast", augment.contrast, 0, 10),
    NUMBER("data.saturation", augment.saturation, 0, 10),
    NUMBER("data.hue", augment.hue, 0, 0.5),
    NUMBER("data.erase", augment.erase, 0, 1),
    WHOLE("train.steps", train.steps, 0, 1e15),
    NUMBER("train.minutes", train.minutes, 0, 1e9),
    WHOLE("train.batch", train.batch, 1, LARGE),
    WHOLE("train.accumulate", train.accumulate, 1, LARGE),
    WHOLE("train.seed", train.seed, 0, 9e15),
    CHOICE("train.precision", train.precision, grdi_precisions),
    FLAG("train.deterministic", train.deterministic),
    CHOICE("train.optimizer", train.optimizer, optimizers),
    NUMBER("train.lr", train.lr, 0, 1e6),
    {.path = "train.betas", .kind = GRDI_KEY_FLOAT2, .offset = AT(train.betas), .least = 0, .most = 0.9999999},
    NUMBER("train.eps", train.eps, 0, 1),
    NUMBER("train.momentum", train.momentum, 0, 0.9999999),
    WHOLE32("train.history_size", train.history_size, 1, 10000),
    WHOLE32("train.max_iter", train.max_iter, 1, LARGE),
    WHOLE32("train.max_eval", train.max_eval, 0, LARGE),
    NUMBER("train.tolerance_grad", train.tolerance_grad, 0, 1e6),
    NUMBER("train.tolerance_change", train.tolerance_change, 0, 1e6),
    NUMBER("train.weight_decay", train.weight_decay, 0, 1e6),
    NUMBER("train.l2", train.l2, 0, 1e12),
    NUMBER("train.clip_norm", train.clip_norm, 0, 1e12),
    NUMBER("train.mixup", augment.mixup, 0, 100),
    NUMBER("train.cutmix", augment.cutmix, 0, 100),
    NUMBER("train.label_smoothing", train.label_smoothing, 0, 0.999),
    CHOICE("train.schedule", train.schedule, schedules),
    WHOLE("train.warmup", train.warmup, 0, 1e15),
    NUMBER("train.min_lr", train.min_lr, 0, 1e6),
    NUMBER("train.decay_part", train.decay_part, 0, 1),
    NUMBER("train.ema", train.ema, 0, 0.9999999),
    WHOLE("train.eval_every", train.eval_every, 0, 1e15),
    WHOLE("train.eval_windows", train.eval_windows, 0, 1e15),
    WHOLE("train.statistics_every", train.statistics_every, 0, 1e15),
    WHOLE("train.sample_every", train.sample_every, 0, 1e15),
    WHOLE("train.sample_tokens", train.sample_tokens, 1, 1e6),
    TEXT("train.sample_prompt", train.sample_prompt),
    WHOLE("train.checkpoint_every", train.checkpoint_every, 0, 1e15),
    FLAG("train.recompute", train.recompute),
    CHOICE("train.on_nan", train.on_nan, nan_ways),
    {.path = "train.groups",
     .kind = GRDI_KEY_GROUPS,
     .offset = AT(train.groups),
     .count_offset = AT(train.group_count)},
    TEXT("out", out),
};
const size_t grdi_key_count = sizeof(grdi_keys) / sizeof(grdi_keys[0]);
_Static_assert(sizeof(grdi_keys) / sizeof(grdi_keys[0]) <= 128, "grd_settings.given has a bit for each key");

const grdi_key *grdi_key_find(const char *path)
{
    for (size_t i = 0; i < grdi_key_count; i++)
        if (strcmp(grdi_keys[i].path, path) == 0) return &grdi_keys[i];
    return NULL;
}

bool grdi_key_was_set(const grd_settings *settings, const grdi_key *key)
{
    size_t at = (size_t)(key - grdi_keys);
    return settings->given[at / 64] >> (at % 64) & 1;
}

void grdi_key_mark_set(grd_settings *settings, const grdi_key *key)
{
    size_t at = (size_t)(key - grdi_keys);
    settings->given[at / 64] |= (uint64_t)1 << (at % 64);
}

const char *grdi_key_first(const char *path)
{
    size_t length = strlen(path);
    for (size_t i = 0; i < grdi_key_count; i++)
        if (strncmp(grdi_keys[i].path, path, length) == 0 && grdi_keys[i].path[length] == '.') return grdi_keys[i].path;
    return NULL;
}

const char *grdi_key_nearest(const char *path)
{
    static const char *const sections[] = {"model", "init", "data", "train"};
    const char *best = grdi_keys[0].path, *dot = strrchr(path, '.'), *own = dot ? dot + 1 : path;
    size_t least = SIZE_MAX;
    for (size_t i = 0; !dot && i < sizeof(sections) / sizeof(sections[0]); i++) {
        size_t d = grdi_text_distance(path, sections[i]);
        if (d > 2 || d >= least) continue;
        least = d;
        best = sections[i];
    }
    for (size_t i = 0; i < grdi_key_count; i++) {
        size_t d = grdi_text_distance(path, grdi_keys[i].path);
        const char *last = strrchr(grdi_keys[i].path, '.');
        if (last && strcmp(last + 1, own) == 0 && d > 0) d = dot != NULL; /* the right name in the wrong place */
        if (d < least) {
            least = d;
            best = grdi_keys[i].path;
        }
    }
    return best;
}

grd_settings *grd_settings_new(void)
{
    grd_settings *s = grdi_alloc_zero(1, sizeof(*s));
    if (!s) return NULL;
    s->model.kind = GRD_MODEL_GPT2;
    s->model.mlp = s->model.norm = s->model.position = s->model.bias = s->model.tied = s->model.qk_norm = -1;
    s->model.gpt = (grd_gpt){.layers = 4, .heads = 4, .width = 128, .context = 128};
    s->data.validation_part = 0.1;
    s->data.horizon = 1;
    s->augment.shift = 4;
    s->augment.crop_scale = 0.35;
    s->train.batch = 16;
    s->train.deterministic = true;
    s->train.accumulate = 1;
    s->train.seed = 1;
    s->train.optimizer = GRD_OPTIMIZER_ADAMW;
    s->train.lr = 1e-3;
    s->train.betas[0] = 0.9;
    s->train.betas[1] = 0.95;
    s->train.eps = 1e-8;
    s->train.momentum = 0.95;
    s->train.weight_decay = 0.1;
    s->train.clip_norm = 1.0;
    grd_optimizer lbfgs = grd_lbfgs(1);
    s->train.history_size = lbfgs.history_size;
    s->train.max_iter = lbfgs.max_iter;
    s->train.tolerance_grad = lbfgs.tolerance_grad;
    s->train.tolerance_change = lbfgs.tolerance_change;
    s->train.schedule = GRD_SCHEDULE_COSINE;
    s->train.statistics_every = s->train.sample_every = -1;
    s->train.sample_tokens = 100;
    return s;
}

void grd_settings_free(grd_settings *s)
{
    if (!s) return;
    for (size_t i = 0; i < grdi_key_count; i++) {
        char **text = grdi_key_field(&grdi_keys[i], s);
        if (grdi_keys[i].kind == GRDI_KEY_TEXT) grdi_free(*text);
        if (grdi_keys[i].kind != GRDI_KEY_FILES) continue;
        int count = *(int *)((char *)s + grdi_keys[i].count_offset);
        for (int k = 0; k < count; k++) grdi_free(text[k]);
    }
    grdi_free(s);
}

/* ---- what depends on other keys ---- */

static int by_kind(int set, int otherwise)
{
    return set >= 0 ? set : otherwise;
}

static void resolve_model(grd_settings *s)
{
    grd_gpt *g = &s->model.gpt;
    bool gpt2 = s->model.kind == GRD_MODEL_GPT2, fast = s->model.kind == GRD_MODEL_FAST;
    s->model.mlp = by_kind(s->model.mlp, gpt2 ? GRD_MLP_GELU_TANH : fast ? GRD_MLP_RELU2 : GRD_MLP_SWIGLU);
    s->model.norm = by_kind(s->model.norm, gpt2 ? GRD_NORM_LAYERNORM : GRD_NORM_RMSNORM);
    s->model.position = by_kind(s->model.position, gpt2 ? GRD_POSITION_LEARNED : GRD_POSITION_ROPE);
    s->model.bias = by_kind(s->model.bias, gpt2);
    s->model.tied = by_kind(s->model.tied, gpt2);
    s->model.qk_norm = by_kind(s->model.qk_norm, fast);
    g->mlp = (grd_mlp_kind)s->model.mlp;
    g->norm = (grd_norm_kind)s->model.norm;
    g->position = (grd_position_kind)s->model.position;
    g->no_bias = !s->model.bias;
    g->untied = !s->model.tied;
    g->qk_norm = s->model.qk_norm;
    if (fast) g->no_norm_gain = g->muon_init = g->embedding_norm = true;
    if (s->init.std > 0) g->init_std = s->init.std;
}

int grd_model_kind_from_name(const char *name)
{
    for (int i = 0; model_kinds[i]; i++)
        if (strcmp(name, model_kinds[i]) == 0) return i;
    return -1;
}

const char *grd_model_kind_name(int kind)
{
    return kind >= 0 && kind < GRD_MODEL_KINDS ? model_kinds[kind] : "";
}

bool grd_model_classifies(int kind)
{
    return kind >= GRD_MODEL_LENET && kind <= GRD_MODEL_LOGISTIC;
}

bool grd_settings_of_language(const grd_settings *settings)
{
    bool numbers = settings->data.kind == GRD_DATA_SERIES || settings->data.kind == GRD_DATA_TABLE;
    return !numbers && !grd_model_classifies(settings->model.kind);
}

grd_run_words grd_settings_words(const grd_settings *s)
{
    if (s->data.kind == GRD_DATA_SERIES)
        return (grd_run_words){"windows", "squared error, 1 is the better simple forecast's", "held-out part"};
    if (s->data.kind == GRD_DATA_TABLE)
        return (grd_run_words){"rows", s->model.classes ? "nats per row" : "squared error, 1 is that of the mean",
                               "validation"};
    if (grd_model_classifies(s->model.kind)) return (grd_run_words){"images", "nats per image", "test"};
    return (grd_run_words){"tokens", "nats per token", "validation"};
}

/* The sizes of a vision transformer that were not given; whether they fit the images is seen when these are. */
static void resolve_vit(grd_settings *s)
{
    grd_vit usual = {.classes = 1};
    grd_vit_resolve(&usual, 1, 1, NULL);
    if (!grdi_key_was_set(s, grdi_key_find("model.layers"))) s->model.gpt.layers = usual.layers;
    if (!grdi_key_was_set(s, grdi_key_find("model.heads"))) s->model.gpt.heads = usual.heads;
    if (!grdi_key_was_set(s, grdi_key_find("model.width"))) s->model.gpt.width = usual.width;
}

/* Tables: which model it is to be may be left to the data. */
static grd_status resolve_table(grd_settings *s, grd_error *error)
{
    int kind = s->model.kind, optimizer = s->train.optimizer;
    bool known = kind == GRD_MODEL_LINEAR || kind == GRD_MODEL_LOGISTIC || kind == GRD_MODEL_MLP;
    if (!s->data.path) return grd_fail(error, GRD_E_ARGUMENT, "data.path: is not set (set it to a CSV file)");
    if (!s->data.target)
        return grd_fail(error, GRD_E_ARGUMENT,
                        "data.target: is not set (set it to the column that is to be predicted)");
    if (s->data.split == GRD_SPLIT_GROUPED && !s->data.group)
        return grd_fail(error, GRD_E_ARGUMENT,
                        "data.group: is not set (set it to the column whose values make groups)");
    if (s->data.split == GRD_SPLIT_TIME && !s->data.time)
        return grd_fail(error, GRD_E_ARGUMENT, "data.time: is not set (set it to the column that orders the rows)");
    if (!known && grdi_key_was_set(s, grdi_key_find("model.kind")))
        return grd_fail(error, GRD_E_ARGUMENT, "model.kind: %s is no model of tables (set linear, logistic or mlp)",
                        model_kinds[kind]);
    if (known && optimizer == GRD_OPTIMIZER_EXACT && kind != GRD_MODEL_LINEAR)
        return grd_fail(error, GRD_E_ARGUMENT, "train.optimizer: exact is for linear, and model.kind is %s",
                        model_kinds[kind]);
    return GRD_OK;
}

/* A column of times makes a series. */
static bool is_series(const grd_settings *s)
{
    return s->data.kind == GRD_DATA_SERIES || (s->data.kind == GRD_DATA_AUTO && s->data.time);
}

/* Which kind of model and data belong together; IDX files say for themselves what they are. */
static grd_status resolve_kinds(grd_settings *s, grd_error *error)
{
    bool table = s->data.kind == GRD_DATA_AUTO && s->data.path && s->data.target && !s->data.time;
    if (table) s->data.kind = GRD_DATA_TABLE;
    if (s->data.kind == GRD_DATA_TABLE) return resolve_table(s, error);
    if (s->train.optimizer == GRD_OPTIMIZER_EXACT)
        return grd_fail(error, GRD_E_ARGUMENT, "train.optimizer: exact is for linear regression of tables");
    static const int64_t widths[GRD_MODEL_KINDS] = {[GRD_MODEL_LENET] = 32,
                                                    [GRD_MODEL_RESNET18] = 64,
                                                    [GRD_MODEL_RESNET34] = 64,
                                                    [GRD_MODEL_RESNET50] = 64,
                                                    [GRD_MODEL_MLP] = 256};
    if (is_series(s)) return grdi_settings_resolve_series(s, error);
    if (s->data.kind == GRD_DATA_AUTO && s->data.path && grd_idx_found(s->data.path)) s->data.kind = GRD_DATA_IDX;
    if (s->data.kind == GRD_DATA_AUTO && s->data.path && grd_image_folder_found(s->data.path))
        s->data.kind = GRD_DATA_IMAGES;
    char columns[512];
    if (s->data.kind == GRD_DATA_AUTO && s->data.path && grd_table_found(s->data.path, columns, sizeof(columns)))
        return grd_fail(error, GRD_E_ARGUMENT,
                        "data.target: is not set, and %s is a table with the columns %s (set it to the one that is to "
                        "be predicted, with data.time to forecast it; data.kind: text trains a language model on the "
                        "file)",
                        s->data.path, columns);
    bool images = s->data.kind == GRD_DATA_IDX || s->data.kind == GRD_DATA_IMAGES;
    if (images && !grdi_key_was_set(s, grdi_key_find("model.kind")) && !grd_model_classifies(s->model.kind))
        s->model.kind = GRD_MODEL_LENET;
    bool classifies = grd_model_classifies(s->model.kind);
    if (s->data.time)
        return grd_fail(error, GRD_E_ARGUMENT, "data.time: goes with a series, and data.kind is %s (leave one out)",
                        data_kinds[s->data.kind]);
    if (s->model.kind >= GRD_MODEL_LINEAR)
        return grd_fail(error, GRD_E_ARGUMENT,
                        "model.kind: %s forecasts series (set data.time and data.target to columns of a CSV file)",
                        model_kinds[s->model.kind]);
    if (classifies && !images)
        return grd_fail(error, GRD_E_ARGUMENT,
                        "model.kind: %s classifies images, and data.path is %s%s (set it to a folder of IDX files, or "
                        "to one with a sub-folder of JPEG or PNG files for each class)",
                        model_kinds[s->model.kind], s->data.path ? "not a folder of images: " : "not set",
                        s->data.path ? s->data.path : "");
    if (images && !classifies)
        return grd_fail(error, GRD_E_ARGUMENT,
                        "model.kind: %s is a language model, and data.path holds images (set lenet, resnet18, ...)",
                        model_kinds[s->model.kind]);
    bool chosen = !grdi_key_was_set(s, grdi_key_find("model.width"));
    if (classifies && chosen && widths[s->model.kind]) s->model.gpt.width = widths[s->model.kind];
    if (s->model.kind == GRD_MODEL_MLP && !grdi_key_was_set(s, grdi_key_find("model.layers"))) s->model.gpt.layers = 1;
    if (s->model.kind == GRD_MODEL_VIT) resolve_vit(s);
    return GRD_OK;
}

/* What L-BFGS has instead of other optimizers' usual settings, where it is steps that are taken by it. */
static grd_status resolve_lbfgs(grd_settings *s, grd_error *error)
{
    static const char *const without[] = {"train.clip_norm", "train.weight_decay", "train.ema"};
    if (s->train.optimizer != GRD_OPTIMIZER_LBFGS || grdi_table_solves(s)) return GRD_OK;
    for (int i = 0; i < 3; i++) {
        const grdi_key *key = grdi_key_find(without[i]);
        double *value = grdi_key_field(key, s);
        if (grdi_key_was_set(s, key) && *value != 0)
            return grd_fail(error, GRD_E_ARGUMENT, "%s: there is none with lbfgs (leave it out, or take adamw)",
                            without[i]);
        *value = 0;
    }
    if (!grdi_key_was_set(s, grdi_key_find("train.lr"))) s->train.lr = 1;
    if (!grdi_key_was_set(s, grdi_key_find("train.schedule"))) s->train.schedule = GRD_SCHEDULE_CONSTANT;
    if (!(s->train.lr > 0)) return grd_fail(error, GRD_E_ARGUMENT, "train.lr: lbfgs needs one above 0 (1 is usual)");
    if (s->train.precision == GRD_PRECISION_AUTO) s->train.precision = GRD_PRECISION_F32;
    return GRD_OK;
}

/* What weights that are kept in bf16 alone, or gradients in f16, do not go with. */
static grd_status resolve_precision(const grd_settings *s, grd_error *error)
{
    bool pure = s->train.precision == GRD_PRECISION_BF16_PURE;
    if (!pure && s->train.precision != GRD_PRECISION_F16) return GRD_OK;
    if (pure && s->train.ema > 0)
        return grd_fail(error, GRD_E_ARGUMENT,
                        "train.ema: there is no moving average of weights kept in bf16 alone (leave it out, or set "
                        "train.precision to bf16)");
    if (s->train.optimizer == GRD_OPTIMIZER_LBFGS || grdi_table_solves(s))
        return grd_fail(error, GRD_E_ARGUMENT,
                        "train.precision: %s is not for optimizer %s, which needs exact steps (set f32)",
                        grd_precision_name(s->train.precision), optimizers[s->train.optimizer]);
    return GRD_OK;
}

/* A language model and its vocabulary. */
static grd_status resolve_language(grd_settings *s, grd_error *error)
{
    grd_status status = grdi_settings_take_model(s, error);
    if (status) return status;
    resolve_model(s);
    if (s->data.vocab && !s->model.gpt.vocab) s->model.gpt.vocab = s->data.vocab;
    return GRD_OK;
}

grd_status grd_settings_resolve(grd_settings *s, grd_error *error)
{
    grd_status status = resolve_kinds(s, error);
    if (!status) status = grdi_settings_refuse_idle(s, error);
    bool language = grd_settings_of_language(s), left_open = s->data.kind == GRD_DATA_TABLE;
    if (!status && language) status = resolve_language(s, error);
    if (status) return status;
    if (s->train.steps == 0 && s->train.minutes <= 0 && !left_open)
        return grd_fail(
            error, GRD_E_ARGUMENT,
            "train.steps: neither steps nor minutes is set (set one, or both: the first reached ends the run)");
    status = resolve_lbfgs(s, error);
    if (!status) status = resolve_precision(s, error);
    if (status) return status;
    if (s->train.min_lr > s->train.lr)
        return grd_fail(error, GRD_E_ARGUMENT, "train.min_lr: %g is above train.lr: %g", s->train.min_lr, s->train.lr);
    if (s->data.path && s->data.token_count)
        return grd_fail(error, GRD_E_ARGUMENT, "data.path: data.tokens is set too (set one of them)");
    if (!language || s->model.gpt.vocab < 1) return GRD_OK; /* the tokenizer will say; see grd_train_text */
    return grd_gpt_resolve(&s->model.gpt, error);
}
