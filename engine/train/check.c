/* check.c - the preflight of a config: which sessions are made of it and what is looked at in each. */
#include "train/check.h"
#include "train/settings.h"
#include "train/task.h"
#include "train/train.h"

#include "base/memory.h"
#include "generate/image_sets.h"
#include "graph/model.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- results ---- */

enum { EVIDENCE_MAX = 1024 };

void grdi_check_result(grdi_checker *c, const char *name, bool passed, const char *look_at, const char *evidence, ...)
{
    char text[EVIDENCE_MAX];
    va_list args;
    va_start(args, evidence);
    vsnprintf(text, sizeof(text), evidence, args);
    va_end(args);
    c->found += !passed;
    const grd_check_result result = {name, passed, text, passed ? "" : look_at};
    if (c->options->on_result) c->options->on_result(c->options->context, &result);
}

void grdi_check_note(grdi_checker *c, const char *format, ...)
{
    char text[EVIDENCE_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (c->options->on_note) c->options->on_note(c->options->context, text);
}

bool grdi_check_stopped(const grdi_checker *c)
{
    return c->options->stop && *c->options->stop;
}

/* ---- sessions ---- */

typedef struct preflight {
    grdi_checker checker;
    const grd_settings *settings;      /* the caller's */
    char *folder, *config, *tokenizer; /* temporary: the settings, and the tokenizer that the first session made */
    grd_run_options run;
    grd_settings *data_settings;
    grdi_session *lender; /* has the data open for all the others; NULL: each opens them */
    double sample_flops;  /* of the run's training step, for one sample */
    int64_t batch;        /* of the run */
    int64_t context;      /* of the run; 0: no texts */
    bool solves;          /* the model is not trained by steps */
} preflight;

static grd_status out_of_memory(const preflight *p)
{
    return grd_fail(p->checker.error, GRD_E_MEMORY, "out of memory for checking");
}

/* A copy of the settings for a session that writes nothing: no evaluations, samples or checkpoints. */
static grd_status copy_settings(preflight *p, grd_settings **copy)
{
    grd_settings *z = *copy = grd_settings_new();
    if (!z) return out_of_memory(p);
    grd_status status = grd_settings_load(z, p->config, p->checker.error);
    if (status) return status;
    memcpy(z->given, p->settings->given, sizeof(z->given)); /* what a task chooses is still to be chosen */
    grdi_free(z->out);
    z->out = NULL;
    z->train.accumulate = 1;
    z->train.eval_every = z->train.checkpoint_every = z->train.sample_every = z->train.statistics_every = 0;
    grdi_key_mark_set(z, grdi_key_find("train.eval_every")); /* nor any that the data would choose */
    if (!p->tokenizer) return GRD_OK;
    grdi_free(z->data.tokenizer);
    z->data.tokenizer = grdi_strdup(p->tokenizer);
    return z->data.tokenizer ? GRD_OK : out_of_memory(p);
}

enum { SMALL_CONTEXT = 32, SMALL_TEXTS = 4, SMALL_SAMPLES = 8, SMALL_SIDE = 72 };

static void set_batch(grd_settings *z, int64_t batch)
{
    z->train.batch = batch;
    grdi_key_mark_set(z, grdi_key_find("train.batch"));
}

/* For what is solved exactly, too: its graph is the same. */
static void use_steps(grd_settings *z)
{
    bool steps = z->train.optimizer > GRD_OPTIMIZER_NONE && z->train.optimizer < GRD_OPTIMIZER_LBFGS;
    if (steps && grdi_key_was_set(z, grdi_key_find("train.optimizer"))) return;
    if (z->train.optimizer == GRD_OPTIMIZER_LBFGS) z->train.lr = 1e-3;
    z->train.optimizer = GRD_OPTIMIZER_ADAMW;
    z->train.l2 = 0;
    grdi_key_mark_set(z, grdi_key_find("train.optimizer"));
}

/* For one batch: few samples and all that keeps a batch from being learnt by heart switched off. */
static void make_small(grd_settings *z)
{
    bool language = grd_settings_of_language(z);
    int64_t most = language ? SMALL_TEXTS : SMALL_SAMPLES;
    set_batch(z, z->train.batch < 2 ? 2 : z->train.batch > most ? most : z->train.batch);
    if (z->data.kind == GRD_DATA_TABLE || z->train.optimizer == GRD_OPTIMIZER_LBFGS) use_steps(z);
    if (language && !z->init.from && z->model.gpt.context > SMALL_CONTEXT) z->model.gpt.context = SMALL_CONTEXT;
    z->model.gpt.dropout = 0;
    z->train.label_smoothing = z->train.weight_decay = 0;
    z->augment = (grd_augment){.crop = GRD_CROP_NONE};
    z->train.precision = GRD_PRECISION_F32;
    z->data.order = GRD_ORDER_SHUFFLED;
}

/* ---- what a step may cost ---- */

#define STEP_FLOPS 1e10
/* Of fewer, batch norm's statistics are noise, and the loss of a good model rises; one batch is learnt by heart, and
 * bits are the same, of fewer, too. */
enum { SAMPLES_LEAST = 8, BY_HEART_LEAST = 4, RUNS_LEAST = 2 };

/* A side that a network for images of side `side` takes as well: of so many whole patches, on the same side of what
 * asks for a residual network's other stem (generate/classifier.c). */
static int64_t smaller_side(const grd_settings *z, int64_t side)
{
    int64_t patch = z->model.kind == GRD_MODEL_VIT && z->model.patch > 0 ? z->model.patch : 1;
    return side <= SMALL_SIDE || patch > SMALL_SIDE ? side : SMALL_SIDE / patch * patch;
}

/* Makes images of files smaller; how much of a step's arithmetic is left. */
static double shrink_images(const preflight *p, grd_settings *z)
{
    if (z->data.kind != GRD_DATA_IMAGES || z->init.from || !p->data_settings) return 1;
    int64_t height = p->data_settings->data.height, width = p->data_settings->data.width;
    z->data.height = smaller_side(z, height);
    z->data.width = smaller_side(z, width);
    return (double)(z->data.height * z->data.width) / (double)(height * width);
}

/* Smaller images first, then fewer samples. */
static void make_affordable(const preflight *p, grd_settings *z, int64_t least)
{
    double flops = p->sample_flops;
    if (p->context > 0) flops *= (double)z->model.gpt.context / (double)p->context;
    if ((double)(z->train.batch < least ? z->train.batch : least) * flops > STEP_FLOPS) flops *= shrink_images(p, z);
    while (z->train.batch >= 2 * least && (double)z->train.batch * flops > STEP_FLOPS) set_batch(z, z->train.batch / 2);
}

/* ---- what is looked at ---- */

static grd_status next(grdi_subject *subject, const void **inputs)
{
    grdi_session *s = subject->context;
    grd_status status = s->task->feed(s, 0);
    *inputs = s->last_inputs;
    s->done++;
    return status;
}

static void back_to_first(grdi_subject *subject)
{
    ((grdi_session *)subject->context)->done = 0;
}

static double factor(const grdi_subject *subject)
{
    const grdi_session *s = subject->context;
    return grdi_session_schedule_factor(s);
}

static grdi_subject subject_of(grdi_session *s, grd_group *groups)
{
    const grd_settings *z = s->settings;
    grdi_subject subject = {.model = s->model,
                            .step = s->step,
                            .graph = s->graph,
                            .eval_graph = s->eval_graph,
                            .input = s->ids,
                            .target = s->targets,
                            .loss = s->step->loss,
                            .eval_input = s->eval_ids,
                            .eval_output = s->eval_output,
                            .eval = s->eval,
                            .next = next,
                            .rewind = back_to_first,
                            .factor = factor,
                            .context = s,
                            .lr = z->train.lr,
                            .linear = z->data.kind == GRD_DATA_TABLE && z->model.kind != GRD_MODEL_MLP,
                            .pretrained = z->init.from != NULL,
                            .labelled = !grd_settings_of_language(z) && z->data.kind != GRD_DATA_SERIES,
                            .solved = s->task->solves && s->task->solves(s),
                            .groups = groups,
                            .group_count = z->train.group_count};
    for (int i = 0; i < z->train.group_count; i++)
        groups[i] = (grd_group){.match = z->train.groups[i].match, .frozen = z->train.groups[i].frozen};
    if (z->train.minutes <= 0 && z->train.steps > 0 && z->train.steps < z->train.warmup)
        subject.lr_reached = (double)z->train.steps / (double)z->train.warmup;
    grdi_expected expected = {.loss = NAN};
    if (s->task->expect) s->task->expect(s, &expected);
    subject.expected = expected.loss;
    subject.causal = expected.causal;
    subject.samples = expected.samples;
    memcpy(subject.expected_text, expected.text, sizeof(subject.expected_text));
    return subject;
}

/* ---- what is looked at in each ---- */

static grd_status keep_tokenizer(preflight *p, const grdi_session *s)
{
    if (!s->tokenizer || p->tokenizer) return GRD_OK;
    p->tokenizer = grdi_path_join(p->folder, "tokenizer.json");
    return p->tokenizer ? grd_tokenizer_save(s->tokenizer, p->tokenizer, p->checker.error) : out_of_memory(p);
}

/* Whether the task has told which values are which. */
static bool is_known(const grdi_session *s)
{
    return s->ids.node && s->eval_ids.node && s->eval_output.node && s->eval;
}

static grd_status prepare(grdi_session *s)
{
    grd_status status = grdi_session_prepare(s);
    return status ? status : s->task->start(s);
}

static grd_status look_at_one_batch(preflight *p, grdi_session *s)
{
    grd_group groups[GRD_GROUPS_MAX];
    grd_status status = prepare(s);
    if (status) return status;
    grdi_subject subject = subject_of(s, groups);
    status = keep_tokenizer(p, s);
    if (!is_known(s)) grdi_check_note(&p->checker, "the model and its steps are not looked at for this kind of data");
    return status || !is_known(s) ? status : grdi_check_one_batch(&p->checker, &subject);
}

/* A gradient of fewer samples is noisier, which a rate lower by the square root makes up for (as for Adam: Malladi et
 * al., "On the SDEs and scaling rules for adaptive gradient algorithms", 2022). */
static void take_fewer(preflight *p, const grdi_session *s, grdi_subject *subject)
{
    int64_t batch = s->settings->train.batch;
    const grd_settings *run = p->data_settings, *z = s->settings;
    if (run && (z->data.height != run->data.height || z->data.width != run->data.width))
        grdi_check_note(&p->checker,
                        "the model and its steps: with images of %lldx%lld instead of %lldx%lld, to save "
                        "time",
                        (long long)z->data.height, (long long)z->data.width, (long long)run->data.height,
                        (long long)run->data.width);
    if (batch >= p->batch) return;
    subject->rate_scale = sqrt((double)batch / (double)p->batch);
    grdi_check_note(&p->checker,
                    "first_steps, learning_rate: with %lld samples a step instead of %lld, to save time, and at rates "
                    "lower by the square root of that",
                    (long long)batch, (long long)p->batch);
}

static grd_status look_at_steps(preflight *p, grdi_session *s)
{
    grd_group groups[GRD_GROUPS_MAX];
    grd_status status = prepare(s);
    if (status) return status;
    grdi_subject subject = subject_of(s, groups);
    take_fewer(p, s, &subject);
    status = grdi_check_data(&p->checker, s);
    if (!status && is_known(s)) status = grdi_check_pairs(&p->checker, &subject);
    p->solves = subject.solved;
    if (p->solves) return status;
    if (!status && is_known(s)) status = grdi_check_first_steps(&p->checker, &subject);
    return status || !is_known(s) ? status : grdi_check_learning_rate(&p->checker, &subject);
}

/* The run as it is: what memory does not hold is said at once, as sessions that are looked at have fewer samples. */
static grd_status can_be_had(preflight *p, grdi_session *s)
{
    grd_plan_report report;
    grd_status status = grdi_session_plan(s, &report);
    p->batch = s->settings->train.batch;
    p->context = grd_settings_of_language(s->settings) ? s->settings->model.gpt.context : 0;
    if (!status) p->sample_flops = report.flops_per_step / (double)p->batch;
    return status;
}

/* Of images, as reading and decoding them takes long. */
static grd_status open_data(preflight *p)
{
    if (!grdi_settings_of_images(p->settings)) return GRD_OK;
    grd_status status = copy_settings(p, &p->data_settings);
    if (status) return status;
    p->lender = grdi_session_new(p->data_settings, &p->run, p->checker.error);
    return p->lender ? grdi_session_open_only(p->lender) : out_of_memory(p);
}

/* Another session with settings of its own, made fit for it by `fit`. */
static grd_status with_session(preflight *p, void (*fit)(preflight *p, grd_settings *settings),
                               grd_status (*look)(preflight *p, grdi_session *s))
{
    grd_settings *settings = NULL;
    grd_status status = copy_settings(p, &settings);
    if (!status && fit) fit(p, settings);
    grdi_session *s = status ? NULL : grdi_session_new(settings, &p->run, p->checker.error);
    if (!status && !s) status = out_of_memory(p);
    if (s) s->lender = p->lender;
    if (!status) status = look(p, s);
    if (s && s->engine) p->checker.flops += s->engine->flops;
    if (s) grdi_session_free(s);
    grd_settings_free(settings);
    return status;
}

static void fit_one_batch(preflight *p, grd_settings *settings)
{
    make_small(settings);
    make_affordable(p, settings, BY_HEART_LEAST);
}

static void fit_steps(preflight *p, grd_settings *settings)
{
    make_affordable(p, settings, SAMPLES_LEAST);
    settings->train.statistics_every = 1;
}

static grd_status look_at_runs(preflight *p)
{
    grd_settings *settings = NULL;
    grd_status status = copy_settings(p, &settings);
    if (!status) {
        make_affordable(p, settings, RUNS_LEAST);
        status = grdi_check_runs(&p->checker, settings, p->lender, p->folder);
    }
    grd_settings_free(settings);
    return status;
}

static grd_status look_at_all(preflight *p)
{
    grd_status status = open_data(p);
    if (!status) status = with_session(p, NULL, can_be_had);
    if (!status) status = with_session(p, fit_one_batch, look_at_one_batch);
    if (!status) status = with_session(p, fit_steps, look_at_steps);
    return status || p->solves ? status : look_at_runs(p);
}

/* ---- the temporary folder ---- */

#define FOLDER_PREFIX "gradus-check-"
enum { TRIES = 5 };

/* Removes the folders of checks that were killed: those of living ones are locked. */
static void sweep(const char *root)
{
    grd_error ignored = {GRD_OK, ""};
    char **names;
    size_t count;
    if (grdi_directory_list(root, &names, &count, &ignored)) return;
    for (size_t i = 0; i < count; i++) {
        int lock_fd = -1;
        char *path = NULL;
        if (strncmp(names[i], FOLDER_PREFIX, strlen(FOLDER_PREFIX)) == 0) path = grdi_path_join(root, names[i]);
        if (path && !grdi_directory_lock(path, &lock_fd, &ignored) && lock_fd >= 0) {
            grdi_directory_remove(path, &ignored);
            grdi_file.close(lock_fd);
        }
        grdi_free(path);
    }
    grdi_names_free(names, count);
}

/* Makes p->folder and takes it, until *lock_fd is closed. */
static grd_status make_folder(preflight *p, int *lock_fd)
{
    const char *variable = getenv("TMPDIR"), *root = variable && variable[0] ? variable : "/tmp";
    sweep(root);
    p->folder = grdi_format("%s/" FOLDER_PREFIX "%ld", root, (long)getpid());
    p->config = p->folder ? grdi_path_join(p->folder, "config.yaml") : NULL;
    if (!p->config) return out_of_memory(p);
    for (int tries = 1;; tries++) { /* another check may sweep the folder away before it is locked */
        grd_error problem = {GRD_OK, ""};
        grd_status status = grdi_directory_make(p->folder, &problem);
        if (!status) status = grdi_directory_lock(p->folder, lock_fd, &problem);
        if (!status && grdi_path_exists(p->folder)) return GRD_OK;
        if (*lock_fd >= 0) grdi_file.close(*lock_fd);
        *lock_fd = -1;
        if (tries < TRIES) continue;
        if (status) return grd_fail(p->checker.error, status, "%s", problem.message);
        return grd_fail(p->checker.error, GRD_E_IO, "%s: is removed each time it is made", p->folder);
    }
}

grd_status grd_check_settings(grd_settings *settings, const grd_check_options *options, int32_t *found,
                              grd_error *error)
{
    double flops;
    return grdi_check_settings(settings, options, found, &flops, error);
}

grd_status grdi_check_settings(grd_settings *settings, const grd_check_options *options, int32_t *found, double *flops,
                               grd_error *error)
{
    static const grd_check_options none = {.size = sizeof(none)};
    grd_error own = {GRD_OK, ""};
    preflight p = {.settings = settings,
                   .checker = {.options = options ? options : &none, .error = error ? error : &own}};
    const grd_check_options *o = p.checker.options;
    p.run = (grd_run_options){.size = sizeof(p.run), .device = o->device, .threads = o->threads, .stop = o->stop};
    *found = 0;
    *flops = 0;
    grd_status status = grd_settings_resolve(settings, p.checker.error);
    if (status) return status;
    int lock_fd = -1;
    status = make_folder(&p, &lock_fd);
    if (!status) status = grd_settings_save(settings, p.config, p.checker.error);
    if (!status) status = look_at_all(&p);
    if (p.lender) grdi_session_free(p.lender);
    grd_settings_free(p.data_settings);
    grd_error ignored = {GRD_OK, ""};
    if (p.folder) grdi_directory_remove(p.folder, &ignored);
    if (lock_fd >= 0) grdi_file.close(lock_fd);
    grdi_free(p.folder);
    grdi_free(p.config);
    grdi_free(p.tokenizer);
    *found = p.checker.found;
    *flops = p.checker.flops;
    return status;
}
