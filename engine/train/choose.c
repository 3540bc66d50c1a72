/* choose.c - settings for a text that nobody gave settings for. What is chosen for which size stands in one table. */
#include "train/settings.h"

#include <gradus/hf.h>

#include "base/memory.h"

#include <string.h>

/* One line of the table: for texts of at least `from_bytes`. */
typedef struct recipe {
    int64_t from_bytes;
    const char *tokenizer;
    int64_t vocab;
    int32_t layers, heads;
    int64_t width, context, batch;
    int64_t steps; /* 0: only the time limits the run */
    double minutes;
    double lr, momentum; /* Muon's; see train/build.c for the embedding, head and gains */
    bool tied;           /* the kind `fast`: whether the head is the embedding */
    double smoothing;
    int64_t eval_every;
    const char *why;
} recipe;

/* Small texts are learnt by heart within seconds: few steps, bytes as tokens (a vocabulary would hold a large part of
 * the text). Larger ones are limited by time: the largest model that sees enough of its text in it. */
static const recipe recipes[] = {
    {256 << 20, "bpe", 8192, 8, 8, 512, 256, 16, 0, 240, 0.02, 0.95, false, 0, 500,
     "much text: a larger model, for hours"},
    {32 << 20, "bpe", 4096, 6, 6, 384, 256, 16, 0, 30, 0.02, 0.95, false, 0, 500,
     "tens of megabytes: a middle-sized model"},
    {1 << 20, "bpe", 2048, 3, 3, 192, 128, 16, 0, 2, 0.014, 0.9, true, 0.04, 500,
     "a few megabytes: the model that learns most in two minutes"},
    {128 << 10, "bpe", 512, 3, 4, 128, 128, 16, 2000, 1, 0.03, 0.95, false, 0, 250,
     "a small text: a small vocabulary and at most 2,000 steps"},
    {16 << 10, "byte", 0, 2, 4, 128, 64, 16, 600, 0.5, 0.03, 0.95, false, 0, 100,
     "little text: bytes as tokens, at most 600 steps"},
    {0, "byte", 0, 2, 2, 64, 32, 8, 200, 0.5, 0.03, 0.95, false, 0, 50,
     "very little text: bytes as tokens, at most 200 steps"},
};

/* Of a head that is the embedding: logits begin small, and AdamW's first steps do not yet turn the table over. */
#define TIED_STD 0.05

static const recipe *recipe_for(int64_t text_bytes)
{
    const recipe *r = recipes;
    while (text_bytes < r->from_bytes) r++;
    return r;
}

static bool given(const grd_settings *s, const char *path)
{
    return grdi_key_was_set(s, grdi_key_find(path));
}

#define SGD_MOMENTUM 0.9
#define LION_BETA2 0.99

/* The optimizer that was asked for, else `own`, at the rate that it usually has: Muon's depends on what is trained. */
static void choose_optimizer(grd_settings *s, int own, double muon_lr)
{
    if (!given(s, "train.optimizer")) s->train.optimizer = own;
    switch (s->train.optimizer) {
    case GRD_OPTIMIZER_MUON: s->train.lr = muon_lr; break;
    case GRD_OPTIMIZER_LION: s->train.lr = 3e-4, s->train.betas[1] = LION_BETA2; break;
    case GRD_OPTIMIZER_SGD: s->train.lr = 0.02, s->train.momentum = SGD_MOMENTUM; break;
    case GRD_OPTIMIZER_LBFGS: s->train.lr = 1; break;
    default: s->train.lr = 1e-3;
    }
}

/* How all recipes train: the kind `fast` with Muon, others with AdamW as they are usually trained. */
static void choose_training(grd_settings *s, const recipe *r)
{
    bool fast = s->model.kind == GRD_MODEL_FAST;
    s->train.batch = r->batch;
    s->train.accumulate = 1;
    s->train.steps = r->steps;
    s->train.minutes = r->minutes;
    s->train.momentum = r->momentum;
    s->train.betas[1] = 0.95;
    choose_optimizer(s, fast ? GRD_OPTIMIZER_MUON : GRD_OPTIMIZER_ADAMW, r->lr);
    bool muon = s->train.optimizer == GRD_OPTIMIZER_MUON;
    s->train.label_smoothing = fast ? r->smoothing : 0;
    if (fast) s->model.tied = r->tied;
    if (fast && r->tied) s->init.std = TIED_STD;
    s->train.min_lr = 0;
    s->train.betas[0] = muon ? 0.8 : 0.9;
    s->train.eps = muon ? 1e-10 : 1e-8;
    bool decays = s->train.optimizer == GRD_OPTIMIZER_ADAMW || s->train.optimizer == GRD_OPTIMIZER_LION;
    s->train.weight_decay = decays ? 0.1 : 0; /* the others add it to the gradient, where 0.1 is far too much */
    s->train.clip_norm = muon ? 0 : 1;
    s->train.schedule = muon ? GRD_SCHEDULE_WSD : GRD_SCHEDULE_COSINE;
    s->train.decay_part = 0.5;
    s->train.warmup = muon ? 0 : 20;
    s->train.eval_every = r->eval_every;
    s->train.eval_windows = 64;
    s->train.checkpoint_every = r->minutes > 10 ? 2000 : 0;
}

/* A tenth of a large text is more than the last evaluation, which scores all of it, has time for. */
#define VALIDATION_PART 0.1
enum { VALIDATION_BYTES = 1 << 20 };

static double fitting_validation(int64_t text_bytes)
{
    bool large = (double)text_bytes * VALIDATION_PART > 2.0 * VALIDATION_BYTES;
    return large ? (double)VALIDATION_BYTES / (double)text_bytes : VALIDATION_PART;
}

/* A window must fit into the text several times. */
static int64_t fitting_context(int64_t context, int64_t text_bytes)
{
    while (context > 8 && context * 8 > text_bytes) context /= 2;
    return context;
}

grd_status grd_settings_for_text(grd_settings *s, int kind, int64_t text_bytes, char *why, size_t why_bytes,
                                 grd_error *error)
{
    const recipe *r = recipe_for(text_bytes);
    char *tokenizer = grdi_strdup(r->tokenizer);
    if (!tokenizer) return grd_fail(error, GRD_E_MEMORY, "out of memory for settings");
    grdi_free(s->data.tokenizer);
    s->data.tokenizer = tokenizer;
    s->data.vocab = r->vocab;
    s->data.validation_part = fitting_validation(text_bytes);
    s->model.kind = kind;
    s->model.gpt.layers = r->layers;
    s->model.gpt.heads = r->heads;
    s->model.gpt.width = r->width;
    s->model.gpt.context = fitting_context(r->context, text_bytes);
    choose_training(s, r);
    snprintf(why, why_bytes, "%s", r->why);
    return GRD_OK;
}

/* ---- images ---- */

enum { IMAGE_BATCH = 64, SMALL_SIDE = 56, PHOTO_SIDE = 64, TESTS_IN_A_RUN = 8, TESTED = 2000 };
enum { EPOCHS = 16, EPOCHS_MOST = 100, IMAGES_LEAST = 50000, WARMUP_LEAST = 50 };
#define IMAGE_MINUTES 5
#define PHOTO_MINUTES 20
/* Mirror images of at least that part of those that are nearest to their class are so too: they may be mirrored. */
#define MIRRORED_LEAST 0.8

/* Moved and mirrored: what leaves the class as it is. Photographs are cut at random places; small images are moved by a
 * fourteenth of their side, but not for vit: its patches stay where they are, so each place must be learnt anew, which
 * costs more than it brings in the few epochs of such a run. */
static grd_status choose_changes(grd_settings *s, const grd_images *images, bool photos, char *why, size_t why_bytes,
                                 grd_error *error)
{
    grd_images_info info = grd_images_about(images);
    double plain, mirrored;
    if (photos) {
        s->augment.crop = GRD_CROP_RESIZED;
        s->augment.hflip = true;
        s->augment.brightness = s->augment.contrast = s->augment.saturation = 0.2;
        snprintf(why, why_bytes, "cut at random places, mirrored, changed in colour");
        return GRD_OK;
    }
    grd_status status = grd_images_mirrored(images, &plain, &mirrored, error);
    int64_t side = info.height < info.width ? info.height : info.width;
    bool moved = side >= 14 && s->model.kind != GRD_MODEL_VIT;
    char moves[64] = "";
    s->augment.crop = moved ? GRD_CROP_SHIFT : GRD_CROP_NONE;
    s->augment.shift = side / 14;
    s->augment.hflip = mirrored >= MIRRORED_LEAST * plain;
    if (moved)
        snprintf(moves, sizeof(moves), "moved by up to %lld pixels%s", (long long)s->augment.shift,
                 s->augment.hflip ? " and " : "; ");
    snprintf(why, why_bytes,
             "%s%smirrored, as %.0f%% of mirror images are still nearest to their class, of the images themselves "
             "%.0f%%",
             moves, s->augment.hflip ? "" : "not ", 100 * mirrored, 100 * plain);
    return status;
}

/* All are seen EPOCHS times, few of them more often. */
static void choose_length(grd_settings *s, int64_t count)
{
    int64_t epochs = (IMAGES_LEAST + count - 1) / count;
    epochs = epochs < EPOCHS ? EPOCHS : epochs > EPOCHS_MOST ? EPOCHS_MOST : epochs;
    s->train.batch = count < IMAGE_BATCH ? count : IMAGE_BATCH;
    s->train.steps = (epochs * count + s->train.batch - 1) / s->train.batch;
    s->train.warmup = s->train.steps / 50 > WARMUP_LEAST ? s->train.steps / 50 : WARMUP_LEAST;
    if (s->train.warmup > s->train.steps / 10) s->train.warmup = s->train.steps / 10;
    s->train.eval_every = s->train.steps / TESTS_IN_A_RUN > 0 ? s->train.steps / TESTS_IN_A_RUN : 1;
    s->train.eval_windows =
        TESTED; /* of the images, during the run: all of them would take a good part of a short one */
}

static bool is_small(const grd_images_info *info)
{
    return info->height * info->width <= SMALL_SIDE * SMALL_SIDE;
}

enum { VIT_LAYERS = 4, VIT_HEADS = 4, VIT_WIDTH = 128, VIT_PATCHES = 16, VIT_WARMUP = 50 };
#define VIT_LR 0.01 /* Muon's; AdamW's for what is no hidden matrix is a sixth (train/build.c) */

static void set_whole(grd_settings *s, const char *path, int64_t value)
{
    const grdi_key *key = grdi_key_find(path);
    if (key->kind == GRDI_KEY_INT32) *(int32_t *)grdi_key_field(key, s) = (int32_t)value;
    else *(int64_t *)grdi_key_field(key, s) = value;
    grdi_key_mark_set(s, key);
}

/* Of small images: a size that learns within minutes, by few and large patches. A run that time limits does not know
 * its steps, so the warm-up is no part of them. */
static void choose_vit(grd_settings *s, const grd_images_info *info)
{
    if (s->train.warmup > VIT_WARMUP) s->train.warmup = VIT_WARMUP;
    if (!is_small(info)) return;
    int64_t patch = info->height < info->width ? info->height : info->width;
    while (patch > 1 && (info->height % patch || info->width % patch ||
                         (info->height / patch) * (info->width / patch) < VIT_PATCHES))
        patch--;
    set_whole(s, "model.layers", VIT_LAYERS);
    set_whole(s, "model.heads", VIT_HEADS);
    set_whole(s, "model.width", VIT_WIDTH);
    set_whole(s, "model.patch", patch);
}

/* Small grey images: the small network; larger ones or such in colours: a residual one. */
grd_status grd_settings_for_images(grd_settings *s, int kind, const grd_images *images, char *why, size_t why_bytes,
                                   grd_error *error)
{
    char changes[256];
    grd_images_info info = grd_images_about(images);
    bool small = is_small(&info) && info.channels == 1;
    bool photos = info.height >= PHOTO_SIDE && info.width >= PHOTO_SIDE && info.channels == 3;
    if (kind < 0) kind = small ? GRD_MODEL_LENET : GRD_MODEL_RESNET18;
    if (!grd_model_classifies(kind))
        return grd_fail(error, GRD_E_ARGUMENT,
                        "--model: a language model, and the data are images (lenet, resnet18, resnet34, resnet50, mlp "
                        "or logistic)");
    s->model.kind = kind;
    grdi_key_mark_set(s, grdi_key_find("model.kind"));
    s->data.kind = grd_images_path(images, 0) ? GRD_DATA_IMAGES : GRD_DATA_IDX;
    choose_length(s, info.count);
    s->train.minutes = photos ? PHOTO_MINUTES : IMAGE_MINUTES;
    s->train.min_lr = 0;
    s->train.betas[1] = 0.999;
    bool vit = kind == GRD_MODEL_VIT;
    choose_optimizer(s, vit && is_small(&info) ? GRD_OPTIMIZER_MUON : GRD_OPTIMIZER_ADAMW, VIT_LR);
    s->train.weight_decay = 0.05;
    s->train.clip_norm = 1;
    s->train.schedule = GRD_SCHEDULE_COSINE;
    if (vit) choose_vit(s, &info);
    s->train.label_smoothing = kind == GRD_MODEL_LOGISTIC ? 0 : 0.05;
    grd_status status = GRD_OK;
    snprintf(changes, sizeof(changes), "not changed, as a linear model would not gain by it");
    if (kind != GRD_MODEL_LOGISTIC) status = choose_changes(s, images, photos, changes, sizeof(changes), error);
    snprintf(why, why_bytes,
             "chosen for %lld images of %lldx%lldx%lld in %lld classes: %s, at most %lld steps of %lld images, at most "
             "%g minutes; images are %s",
             (long long)info.count, (long long)info.height, (long long)info.width, (long long)info.channels,
             (long long)info.classes, grd_model_kind_name(kind), (long long)s->train.steps, (long long)s->train.batch,
             s->train.minutes, changes);
    return status;
}

/* ---- going on with somebody's model ---- */

enum { TUNING_TOKENS = 4096, TUNING_WARMUP = 20 };
#define TUNING_LR 5e-5

/* A trained model is moved little: AdamW with a rate far below that of training from nothing, and no shock from it at
 * the beginning. */
static void choose_tuning(grd_settings *s)
{
    if (!given(s, "train.optimizer")) s->train.optimizer = GRD_OPTIMIZER_ADAMW;
    bool adam = s->train.optimizer == GRD_OPTIMIZER_ADAMW || s->train.optimizer == GRD_OPTIMIZER_ADAM;
    if (!given(s, "train.lr") && adam) s->train.lr = TUNING_LR;
    if (!given(s, "train.min_lr")) s->train.min_lr = 0;
    if (!given(s, "train.betas")) s->train.betas[0] = 0.9, s->train.betas[1] = 0.999;
    if (!given(s, "train.eps")) s->train.eps = 1e-8;
    if (!given(s, "train.weight_decay")) s->train.weight_decay = 0.01;
    if (!given(s, "train.clip_norm")) s->train.clip_norm = 1;
    if (!given(s, "train.schedule")) s->train.schedule = GRD_SCHEDULE_COSINE;
    if (!given(s, "train.warmup")) s->train.warmup = TUNING_WARMUP;
}

grd_status grd_settings_for_tuning(grd_settings *s, char *why, size_t why_bytes, grd_error *error)
{
    grd_gpt gpt;
    grd_error problem = {GRD_OK, ""};
    if (!s->init.from) return grd_fail(error, GRD_E_ARGUMENT, "init.from: there is no model to go on with (set it)");
    if (grd_hf_read_config(s->init.from, &gpt, &problem))
        return grd_fail(error, problem.status, "init.from: %s", problem.message);
    choose_tuning(s);
    int64_t context = given(s, "model.context") ? s->model.gpt.context : gpt.context;
    int64_t batch = TUNING_TOKENS / context;
    if (!given(s, "train.batch")) s->train.batch = batch < 1 ? 1 : batch > 16 ? 16 : batch;
    snprintf(why, why_bytes, "fine-tuning %s: learning rate %g, %lld windows of %lld tokens a step", s->init.from,
             s->train.lr, (long long)s->train.batch, (long long)context);
    return GRD_OK;
}
