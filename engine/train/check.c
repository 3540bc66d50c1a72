/* check.c - the preflight of a config: which sessions are made of it and what is looked at in each. */
#include "train/check.h"
#include "train/settings.h"
#include "train/task.h"
#include "train/train.h"

#include "base/memory.h"

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
    double sample_flops;               /* of a training step, for one sample */
    int64_t batch;                     /* of the run */
    bool solves;                       /* the model is not trained by steps */
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
    if (!p->tokenizer) return GRD_OK;
    grdi_free(z->data.tokenizer);
    z->data.tokenizer = grdi_strdup(p->tokenizer);
    return z->data.tokenizer ? GRD_OK : out_of_memory(p);
}

enum { SMALL_CONTEXT = 32, SMALL_TEXTS = 4, SMALL_SAMPLES = 8 };

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

#define STEP_FLOPS 1e10 /* of the session that takes steps as the run will */
enum { SAMPLES_LEAST = 8 }; /* of fewer, batch norm's statistics are noise, and the loss of a good model rises */

static void make_affordable(grd_settings *z, double sample_flops)
{
    while (z->train.batch >= 2 * SAMPLES_LEAST && (double)z->train.batch * sample_flops > STEP_FLOPS)
        set_batch(z, z->train.batch / 2);
}

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
    grdi_expected expected = {.loss = NAN};
    if (s->task->expect) s->task->expect(s, &expected);
    subject.expected = expected.loss;
    subject.causal = expected.causal;
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

static grd_status look_at_one_batch(preflight *p, grdi_session *s)
{
    grd_group groups[GRD_GROUPS_MAX];
    grdi_subject subject = subject_of(s, groups);
    grd_plan_report report;
    grd_status status = keep_tokenizer(p, s);
    if (!status && !grd_step_report(s->step, &report))
        p->sample_flops = report.flops_per_step / (double)s->settings->train.batch;
    if (!is_known(s)) grdi_check_note(&p->checker, "the model and its steps are not looked at for this kind of data");
    return status || !is_known(s) ? status : grdi_check_one_batch(&p->checker, &subject);
}

/* A gradient of fewer samples is noisier, which a rate lower by the square root makes up for (as for Adam: Malladi et
 * al., "On the SDEs and scaling rules for adaptive gradient algorithms", 2022). */
static void take_fewer(preflight *p, const grdi_session *s, grdi_subject *subject)
{
    int64_t batch = s->settings->train.batch;
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
    grdi_subject subject = subject_of(s, groups);
    take_fewer(p, s, &subject);
    grd_status status = grdi_check_data(&p->checker, s);
    if (!status && is_known(s)) status = grdi_check_pairs(&p->checker, &subject);
    p->solves = subject.solved;
    if (p->solves) return status;
    if (!status && is_known(s)) status = grdi_check_first_steps(&p->checker, &subject);
    return status || !is_known(s) ? status : grdi_check_learning_rate(&p->checker, &subject);
}

static grd_status with_session(preflight *p, grd_settings *settings, grd_status (*look)(preflight *p, grdi_session *s))
{
    const grd_check_options *o = p->checker.options;
    const grd_run_options run = {.size = sizeof(run), .device = o->device, .threads = o->threads, .stop = o->stop};
    grdi_session *s = grdi_session_new(settings, &run, p->checker.error);
    if (!s) return out_of_memory(p);
    grd_status status = grdi_session_prepare(s);
    if (!status) status = s->task->start(s);
    if (!status) status = look(p, s);
    grdi_session_free(s);
    return status;
}

/* The run as it is: what memory does not hold is said at once, as sessions that are looked at have fewer samples. */
static grd_status can_be_had(preflight *p)
{
    const grd_check_options *o = p->checker.options;
    const grd_run_options run = {.size = sizeof(run), .device = o->device, .threads = o->threads, .stop = o->stop};
    grd_settings *run_settings = NULL;
    grd_plan_report report;
    grd_status status = copy_settings(p, &run_settings);
    if (!status) status = grd_plan_settings(run_settings, &run, &report, p->checker.error);
    grd_settings_free(run_settings);
    return status;
}

static grd_status look_at_all(preflight *p)
{
    grd_settings *small = NULL, *real = NULL;
    grd_status status = can_be_had(p);
    if (!status) status = copy_settings(p, &small);
    if (!status) {
        make_small(small);
        status = with_session(p, small, look_at_one_batch);
    }
    double scale = 1;
    if (!status) status = copy_settings(p, &real);
    if (!status) {
        if (small->model.gpt.context > 0) scale = (double)real->model.gpt.context / (double)small->model.gpt.context;
        p->batch = real->train.batch;
        make_affordable(real, scale * p->sample_flops);
        real->train.statistics_every = 1;
        status = with_session(p, real, look_at_steps);
    }
    if (!status && !p->solves) status = grdi_check_runs(&p->checker, real, p->folder);
    grd_settings_free(small);
    grd_settings_free(real);
    return status;
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
    static const grd_check_options none = {.size = sizeof(none)};
    grd_error own = {GRD_OK, ""};
    preflight p = {.settings = settings,
                   .checker = {.options = options ? options : &none, .error = error ? error : &own}};
    *found = 0;
    grd_status status = grd_settings_resolve(settings, p.checker.error);
    if (status) return status;
    int lock_fd = -1;
    status = make_folder(&p, &lock_fd);
    if (!status) status = grd_settings_save(settings, p.config, p.checker.error);
    if (!status) status = look_at_all(&p);
    grd_error ignored = {GRD_OK, ""};
    if (p.folder) grdi_directory_remove(p.folder, &ignored);
    if (lock_fd >= 0) grdi_file.close(lock_fd);
    grdi_free(p.folder);
    grdi_free(p.config);
    grdi_free(p.tokenizer);
    *found = p.checker.found;
    return status;
}
