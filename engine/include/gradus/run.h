/* run.h - whole training runs as the command does them: settings from YAML, the loop, checkpoints, samples. */
#ifndef GRADUS_RUN_H
#define GRADUS_RUN_H

#include <gradus/classification.h>
#include <gradus/images.h>
#include <gradus/nn.h>
#include <gradus/train.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- settings: the keys of config.yaml ---- */

#define GRD_GROUPS_MAX 16
#define GRD_FILES_MAX 256

/* Language models first, then classifiers of images, then models of numbers; mlp, logistic and linear are also for
 * tables. */
typedef enum grd_model_kind {
    GRD_MODEL_GPT2 = 0,
    GRD_MODEL_LLAMA,
    GRD_MODEL_FAST,
    GRD_MODEL_LENET,
    GRD_MODEL_RESNET18,
    GRD_MODEL_RESNET34,
    GRD_MODEL_RESNET50,
    GRD_MODEL_VIT,
    GRD_MODEL_MLP,      /* one hidden layer */
    GRD_MODEL_LOGISTIC, /* softmax regression */
    GRD_MODEL_LINEAR,   /* of the columns of a table, or of what comes next in a series: see grd_forecaster */
    GRD_MODEL_LSTM,
    GRD_MODEL_GRU,
    GRD_MODEL_TCN,
    GRD_MODEL_KINDS
} grd_model_kind;
typedef enum grd_data_kind {
    GRD_DATA_AUTO = 0,
    GRD_DATA_TEXT,
    GRD_DATA_IDX,
    GRD_DATA_SERIES,
    GRD_DATA_TABLE,
    GRD_DATA_IMAGES /* JPEG and PNG files in a folder for each class */
} grd_data_kind;
typedef enum grd_on_bad { GRD_BAD_STOP = 0, GRD_BAD_SKIP } grd_on_bad;
/* Which rows of a table are held out: AUTO is GROUPED with data.group, TIME with data.time, STRATIFIED where the target
 * is classes, else RANDOM. */
typedef enum grd_row_split {
    GRD_SPLIT_AUTO = 0,
    GRD_SPLIT_RANDOM,
    GRD_SPLIT_STRATIFIED, /* of each class alike */
    GRD_SPLIT_GROUPED,    /* whole groups */
    GRD_SPLIT_TIME        /* the last rows */
} grd_row_split;
typedef enum grd_on_nan { GRD_NAN_STOP = 0, GRD_NAN_SKIP } grd_on_nan;
typedef enum grd_precision {
    GRD_PRECISION_AUTO = 0,
    GRD_PRECISION_F32,
    GRD_PRECISION_BF16,
    GRD_PRECISION_TF32,      /* f32 whose products a GPU makes in tf32; elsewhere f32 */
    GRD_PRECISION_BF16_PURE, /* bf16, and weights kept in it alone: see grd_model_set_weight_dtype */
    GRD_PRECISION_F16        /* products in f16, weights in f32, the loss scaled: see grd_step_options */
} grd_precision;

/* One entry of train.groups. */
typedef struct grd_group_settings {
    char match[128];
    char optimizer[16];  /* "" : the run's own */
    double lr_scale, lr; /* 0: not given */
    double weight_decay; /* negative: not given */
    bool frozen;
} grd_group_settings;

/* All settings of a run. Made by grd_settings_new() with defaults; strings are owned by the settings. */
typedef struct grd_settings {
    struct {
        int kind; /* grd_model_kind; `fast` is the text default: rope, squared ReLU, QK-norm, trained with Muon */
        int64_t classes;         /* of a classifier; 0: as many as the training data has */
        int64_t patch;           /* of vit, see grd_vit; 0: one that fits the images */
        int pool;                /* of vit: 0 a class token, 1 the mean */
        grd_gpt gpt;             /* what a classifier has of this (width; vit's layers, ...) stands in here, too */
        int mlp, norm, position; /* as in grd_gpt, -1: by kind */
        int bias, tied, qk_norm; /* 0 or 1, -1: by kind */
    } model;
    struct {
        char *path;
        int kind; /* grd_data_kind */
        char *tokens[GRD_FILES_MAX], *validation[GRD_FILES_MAX];
        int token_count, validation_count;
        char *tokenizer; /* "bpe", "byte", "char" or a tokenizer.json */
        int64_t vocab;
        int order; /* grd_order */
        double validation_part;
        int on_bad;                      /* grd_on_bad: what is done about an image that cannot be read */
        int64_t height, width, channels; /* of images; 0: chosen by the images */
        int32_t workers;                 /* threads that draw images ahead; 0: by what they have to do */
        char *target;                    /* of a table or series: the column that is predicted */
        char *time;                      /* of a series: the column that orders its rows; of a table: its split */
        char *group;                     /* of a table: rows with one value in that column are held out together */
        int split;                       /* of a table, grd_row_split */
        char *inputs[GRD_FILES_MAX];     /* of a series: columns beside the target whose past is known */
        int input_count;
        char *features[GRD_FILES_MAX], *ignore[GRD_FILES_MAX], *categories[GRD_FILES_MAX];
        int feature_count, ignore_count, category_count; /* of a table: columns to learn from (0: all that may tell
                                                            something), not to, and numbers that are names */
        int64_t horizon, season;                         /* steps; season 0: found from the data, 1: none */
    } data;
    grd_augment augment; /* of images: keys of data., mixup and cutmix of train. */
    struct {
        char *from; /* a Hugging Face folder: says what the model is and gives its first weights */
        double std;
    } init;
    struct {
        int64_t steps, batch, accumulate, warmup, eval_every, checkpoint_every;
        int64_t statistics_every; /* steps between statistics by layer; 0: none, -1: as evaluations come */
        int64_t sample_every;     /* steps between sample texts; 0: none, -1: one with each evaluation */
        int64_t sample_tokens;
        char *sample_prompt;  /* what samples continue; NULL: nothing */
        int64_t eval_windows; /* scored by an evaluation during the run, spread evenly; 0: all, as the last one does */
        double minutes;
        int64_t seed;
        int precision;      /* grd_precision */
        bool deterministic; /* false: asks for grd_engine_options.nondeterministic */
        int optimizer;      /* grd_optimizer_kind */
        double lr, betas[2], eps, momentum, weight_decay, clip_norm, label_smoothing, min_lr, ema;
        double l2; /* linear and logistic: half of it times the squares of the weights is added to the loss */
        int32_t history_size, max_iter, max_eval; /* of lbfgs, see grd_lbfgs */
        double tolerance_grad, tolerance_change;
        int schedule;      /* grd_schedule_kind */
        double decay_part; /* of schedule wsd: the last part of the run, in which the rate falls to min_lr */
        bool recompute;
        int on_nan; /* grd_on_nan */
        grd_group_settings groups[GRD_GROUPS_MAX];
        int group_count;
    } train;
    char *out;
    uint64_t given[2]; /* which keys grd_settings_load and grd_settings_set have set, by their place in the table */
} grd_settings;

GRD_API grd_settings *grd_settings_new(void);
GRD_API void grd_settings_free(grd_settings *settings);
/* Reads a YAML file over what is set. Errors name file, line and column; an unknown key comes with the nearest known
 * one. */
GRD_API grd_status grd_settings_load(grd_settings *settings, const char *path, grd_error *error);
/* One assignment "train.lr=6e-4", as --set gives it; the value is YAML. */
GRD_API grd_status grd_settings_set(grd_settings *settings, const char *assignment, grd_error *error);
/* Sets model, tokenizer and training for a text of that size, for people who gave no settings (the table stands in
 * train/choose.c). `kind` is a grd_model_kind: GRD_MODEL_FAST unless something speaks for another. An optimizer that
 * was set stays, with a learning rate that goes with it. `why` gets a remark for people. */
GRD_API grd_status grd_settings_for_text(grd_settings *settings, int kind, int64_t text_bytes, char *why,
                                         size_t why_bytes, grd_error *error);
/* Sets model (grd_model_kind; negative: the one that suits), training and random changes for labelled training images,
 * for people who gave no settings. An optimizer that was set stays, with a learning rate that goes with it. `why` gets
 * a remark for people. */
GRD_API grd_status grd_settings_for_images(grd_settings *settings, int kind, const grd_images *images, char *why,
                                           size_t why_bytes, grd_error *error);
/* The model kind of that name ("gpt2", "lenet", ...); negative if there is none. */
GRD_API int grd_model_kind_from_name(const char *name);
GRD_API const char *grd_model_kind_name(int kind);
/* The word that train.precision has for a grd_precision ("bf16-pure"), NULL past the last one; and the precision of
 * that word, negative if there is none. */
GRD_API const char *grd_precision_name(int precision);
GRD_API int grd_precision_from_name(const char *name);
/* What a precision asks of programs (bf16 and f16 of the options) and of a model before it has parameters (what they
 * are kept in). Of a device when it is opened, GRD_PRECISION_TF32 asks for grd_engine_options.tf32. */
GRD_API void grd_precision_ask(int precision, grd_program_options *options);
GRD_API grd_status grd_model_set_precision(grd_model *model, int precision);
/* Whether a model of that kind classifies images. */
GRD_API bool grd_model_classifies(int kind);
/* Whether these are settings of a language model; what others learn from, data.kind says. */
GRD_API bool grd_settings_of_language(const grd_settings *settings);

/* What runs of some settings are told of with. */
typedef struct grd_run_words {
    const char *samples;   /* what they read: "tokens", "images", "windows" */
    const char *loss_unit; /* "nats per token" */
    const char *held_out;  /* what they are evaluated on: "validation", "test" */
} grd_run_words;

GRD_API grd_run_words grd_settings_words(const grd_settings *settings);
/* Sets training for going on with the model of init.from, for people who gave few settings: AdamW with a small learning
 * rate, a batch of some thousand tokens. Keys that grd_settings_load or grd_settings_set have set stay. `why` gets a
 * remark for people. */
GRD_API grd_status grd_settings_for_tuning(grd_settings *settings, char *why, size_t why_bytes, grd_error *error);
/* Checks that the settings fit each other; fills in what depends on other keys (kind's defaults, mlp width, ...). With
 * init.from the model's keys come from that folder's config.json and the tokenizer is the folder's, unless
 * data.tokenizer names one; a model key that was set and says otherwise is an error, but for dropout and for a shorter
 * context of a model with rotary positions. */
GRD_API grd_status grd_settings_resolve(grd_settings *settings, grd_error *error);
/* Writes all settings as YAML. */
GRD_API grd_status grd_settings_save(const grd_settings *settings, const char *path, grd_error *error);

/* ---- events of a run ---- */

typedef enum grd_event_kind {
    GRD_EVENT_NOTE,
    GRD_EVENT_PLAN,
    GRD_EVENT_STEP,
    GRD_EVENT_EVAL,
    GRD_EVENT_LAYERS,
    GRD_EVENT_SAMPLE,
    GRD_EVENT_SAVED,
    GRD_EVENT_DONE,
    GRD_EVENT_ERROR /* only in the run's files: callers have it as the call's error */
} grd_event_kind;

/* Root mean squares of one layer, which is what the first name of paths stands for ("embed", "h0", ...). NaN: unknown.
 */
typedef struct grd_layer_statistics {
    const char *name;
    double activation_rms;           /* of what the layer puts out for a training micro-batch, without dropout */
    double gradient_rms, weight_rms; /* over all its trained parameters; before clipping, before the update */
    double update_rms;               /* of the change of the weights in this step */
} grd_layer_statistics;

/* A further number of an evaluation: r2, auc, ... */
typedef struct grd_figure {
    const char *name; /* static */
    double value;
} grd_figure;

#define GRD_FIGURES_MAX 8

typedef struct grd_event {
    grd_event_kind kind;
    const char *text;     /* NOTE: what was chosen and why; SAMPLE: the text; SAVED: the path; ERROR: the message */
    grd_plan_report plan; /* PLAN */
    int64_t step, steps;  /* steps done; in all, 0 where only time limits the run */
    double progress;      /* STEP, SAMPLE: 0 to 1, by steps or by time */
    double loss, lr, grad_norm, tokens_per_s, time_ms; /* STEP; EVAL has loss */
    int64_t tokens;
    int64_t samples;      /* STEP, EVAL of what has no tokens: images */
    const char *unit;     /* STEP, EVAL: what samples are, "images"; NULL: tokens */
    double samples_per_s; /* STEP */
    double loss_scale;    /* STEP in f16: of the next step; 0 elsewhere */
    int64_t evaluations;  /* STEP of L-BFGS: of loss and gradient; 0 elsewhere */
    double accuracy;      /* EVAL of a classifier: the part of the samples whose likeliest class is the right one */
    bool regression;      /* EVAL: numbers are predicted, which have the errors that follow */
    double rmse, mae;     /* root mean square and mean absolute error, in the target's unit */
    double persistence_rmse, seasonal_rmse; /* of a series: of the two simple forecasts; NaN elsewhere */
    grd_figure figures[GRD_FIGURES_MAX];    /* EVAL: what else there is to say */
    int32_t figure_count;
    double bits_per_byte;               /* EVAL; NaN where the text is not known */
    double part;                        /* EVAL: of the validation windows, those that were scored: 1 is all */
    const grd_layer_statistics *layers; /* LAYERS */
    int32_t layer_count;
    double seconds; /* DONE; STEP: since the start */
} grd_event;

/* Writes the event as one JSON object without a line end, as `--json` prints it and metrics.jsonl holds it. Returns its
 * length; no more than `capacity` bytes are written, a zero byte included. Numbers that are not finite become null. */
GRD_API size_t grd_event_json(const grd_event *event, char *text, size_t capacity);

typedef struct grd_run_options {
    size_t size;
    const char *device; /* NULL: auto */
    int32_t threads;
    void (*on_event)(void *context, const grd_event *event);
    void *context;
    const volatile int *stop; /* becomes non-zero when the run is to save and end (set by a signal handler) */
    bool resume;              /* go on from the newest checkpoint in settings->out */
    bool previous;            /* ... from the one before the newest */
    const char *profile;      /* path of a timeline to write; the table goes to stderr. NULL: none */
} grd_run_options;

/* Trains as the settings say: data, tokenizer, model, plan, loop, evaluation, checkpoints. A model of a kind for images
 * is trained on the training images of data.path and evaluated on its test images, which it never learns from.
 * GRD_E_STOPPED after a stop that saved; GRD_E_NUMERIC after a gradient that was not finite (weights of the last good
 * step saved). */
GRD_API grd_status grd_train_text(grd_settings *settings, const grd_run_options *options, grd_error *error);
/* Compiles the step of these settings without data (vocabulary as set) and reports what it needs; works on "null:..."
 * devices. */
GRD_API grd_status grd_plan_settings(grd_settings *settings, const grd_run_options *options, grd_plan_report *report,
                                     grd_error *error);

/* ---- scoring text ---- */

typedef struct grd_evaluate_options {
    size_t size;
    const char *data; /* a text file or folder, all of which is scored, or a token shard (.bin); NULL: what the run
                         itself keeps for validation */
    int64_t context;  /* tokens in a window; 0: the model's */
    grd_classification *classification; /* begun and filled where classes are predicted; NULL: not wanted. Free it */
} grd_evaluate_options;

/* A classifier is evaluated on the test images of the folder `data`, or of the run's own: the event has loss and
 * accuracy. A forecaster is evaluated on the held-out part of its series, or on all of the CSV file `data`. Else scores
 * a text with the newest checkpoint of a run directory, with one checkpoint, or with a Hugging Face folder: every token
 * once, in windows that overlap by half (see grd_score); *event is a GRD_EVENT_EVAL with the
 * loss in nats a token, bits per byte where the text is known (NaN for shards), and the checkpoint's step. */
GRD_API grd_status grd_evaluate_run(const char *run, const grd_evaluate_options *options,
                                    const grd_run_options *run_options, grd_event *event, grd_error *error);

/* ---- predicting ---- */

/* What a model says of one thing: an image, a row, a moment. Texts live during the callback only. */
typedef struct grd_prediction {
    const char *of;     /* what `item` is, the same in a call: "index", "file", ... */
    const char *item;   /* the thing: its number from 0 on, its path, ... */
    const char *label;  /* the likeliest class by its name; NULL: see `value` */
    double value;       /* the number predicted, or the likeliest class where classes have no names */
    double probability; /* of that class; NaN where no class is predicted */
} grd_prediction;

/* Predicts for `input` with the newest checkpoint of a run directory, or with one checkpoint, and hands on what it says
 * in the input's order. A classifier of images takes a file of images in IDX format, or a folder with such a file of
 * test images; they must have the size that it was trained on. A forecaster takes a CSV file with the columns that it
 * was trained on and says what follows the last step, horizon steps of it. GRD_E_ARGUMENT: a language model (see
 * grd_sample_run()). */
GRD_API grd_status grd_predict_run(const char *run, const char *input, const grd_run_options *options,
                                   void (*on_prediction)(void *context, const grd_prediction *prediction),
                                   void *context, grd_error *error);

/* ---- coefficients ---- */

/* A weight of a linear or logistic model of a table: what one more of the column adds to the number that is predicted,
 * or to the logit of a class (the log-odds of `of_class` against the other, of two). Numbers are in the units of their
 * columns, times in days. */
typedef struct grd_coefficient {
    const char *column;   /* NULL: the intercept */
    const char *category; /* of a column of categories: against its reference; NULL elsewhere */
    bool missing;         /* for rows without a value, which are taken as the column's mean */
    const char *of_class; /* NULL: a number is predicted */
    double value;
} grd_coefficient;

typedef struct grd_coefficients grd_coefficients;

/* Of the newest checkpoint of a run directory, or of one checkpoint; in double, as they were solved. GRD_E_ARGUMENT for
 * models that have none. Free with grd_coefficients_free(); texts live as long. */
GRD_API grd_status grd_coefficients_open(const char *run, grd_coefficients **coefficients, grd_error *error);
GRD_API int64_t grd_coefficients_count(const grd_coefficients *coefficients);
/* For each class (or the number) the intercept, then the others in the order of the columns. */
GRD_API grd_coefficient grd_coefficients_at(const grd_coefficients *coefficients, int64_t index);
GRD_API void grd_coefficients_free(grd_coefficients *coefficients);

/* ---- generating text ---- */

typedef struct grd_sample_options {
    size_t size;
    const char *prompt; /* NULL: from the start of a text */
    int64_t tokens;     /* how many to add; 0: 200 */
    double temperature; /* 0: 1; negative: always the likeliest token */
    int32_t top_k;      /* 0: all */
    double top_p;       /* 0: 1 */
    uint64_t seed;
    bool no_cache; /* run the whole text again for each token; slower, for comparison */
} grd_sample_options;

/* Continues the prompt with the model of a run directory (its newest checkpoint), of one checkpoint, or of a Hugging
 * Face folder. `on_text` gets the prompt's text and then each new piece, always whole UTF-8 characters. Text that
 * outgrows the model's context goes on from the later half of what the model saw, each time that context is full. */
GRD_API grd_status grd_sample_run(const char *run, const grd_sample_options *options,
                                  const grd_run_options *run_options,
                                  void (*on_text)(void *context, const char *bytes, size_t size_bytes), void *context,
                                  grd_error *error);

#ifdef __cplusplus
}
#endif
#endif
