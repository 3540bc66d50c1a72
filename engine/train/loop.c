/* loop.c - the training loop: batches, steps, evaluations, checkpoints, events. */
#include "train/task.h"

#include "base/log.h"
#include "base/memory.h"
#include "train/train.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

double grdi_session_elapsed(const grdi_session *s)
{
    return s->elapsed_before + (s->start > 0 ? grdi_seconds() - s->start : 0);
}

/* ---- events ---- */

static void put_task_report(const void *context, grdi_writer *w)
{
    const grdi_session *s = context;
    s->task->report(s, w);
}

/* Now and then: the report is a picture of how far the run is. */
static void write_report(grdi_session *s)
{
    grd_error error = {GRD_OK, ""};
    if (!s->report_due || s->metrics_fd < 0) return;
    s->report_due = false;
    const grdi_report_more more = {put_task_report, s};
    bool adds = s->task && s->task->report;
    if (grdi_report_write(&s->history, s->settings, s->settings->out, adds ? &more : NULL, &error))
        grdi_session_note(s, "%s", error.message);
}

/* How the run ended, for its files; the caller has the error itself. */
static void record_error(grdi_session *s)
{
    const grd_event event = {.kind = GRD_EVENT_ERROR, .step = s->done, .text = s->error->message};
    grdi_metrics_write(s, &event);
    grdi_history_add(&s->history, &event);
    s->report_due = true;
}

void grdi_session_emit(grdi_session *s, const grd_event *event)
{
    if (s->options->on_event) s->options->on_event(s->options->context, event);
    grdi_metrics_write(s, event);
    grdi_session_board_event(s, event);
    grdi_history_add(&s->history, event);
    s->report_due |= event->kind == GRD_EVENT_EVAL || event->kind == GRD_EVENT_SAVED || event->kind == GRD_EVENT_DONE ||
                     event->kind == GRD_EVENT_SAMPLE;
}

void grdi_session_note(grdi_session *s, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    for (char *c = text; *c; c++) /* a category may have line ends */
        if ((unsigned char)*c < ' ') *c = ' ';
    grdi_session_emit(s, &(grd_event){.kind = GRD_EVENT_NOTE, .text = text});
}

/* ---- the run directory ---- */

/* A run that was killed before it had a config.yaml leaves half of one; that is no use of the folder. */
static bool is_used(const char *out)
{
    char **names;
    size_t count, used = 0;
    if (!grdi_directory_has_entries(out)) return false;
    if (grdi_directory_list(out, &names, &count, NULL)) return true;
    for (size_t i = 0; i < count; i++) used += strncmp(names[i], "config.yaml.tmp-", 16) != 0;
    grdi_names_free(names, count);
    return used > 0;
}

static grd_status refuse_used_directory(const grdi_session *s)
{
    const char *out = s->settings->out;
    if (!out || s->options->resume || !is_used(out)) return GRD_OK;
    return grd_fail(s->error, GRD_E_ARGUMENT,
                    "out: %s is not empty (choose another folder, or --resume %s to go on with it)", out, out);
}

/* A relative path becomes one that holds from every folder. */
static grd_status make_absolute(grdi_session *s, char **path)
{
    char here[4096];
    if (!*path || (*path)[0] == '/') return GRD_OK;
    if (!getcwd(here, sizeof(here))) return grd_fail(s->error, GRD_E_IO, "current folder: %s", strerror(errno));
    char *absolute = grdi_path_join(here, *path);
    if (!absolute) return grd_fail(s->error, GRD_E_MEMORY, "%s: out of memory", *path);
    grdi_free(*path);
    *path = absolute;
    return GRD_OK;
}

/* A run can be resumed from any folder, so config.yaml must not depend on the one that it was started in. */
static grd_status make_paths_absolute(grdi_session *s)
{
    grd_settings *settings = s->settings;
    grd_status status = make_absolute(s, &settings->data.path);
    if (!status) status = make_absolute(s, &settings->init.from);
    for (int i = 0; i < settings->data.token_count && !status; i++)
        status = make_absolute(s, &settings->data.tokens[i]);
    for (int i = 0; i < settings->data.validation_count && !status; i++)
        status = make_absolute(s, &settings->data.validation[i]);
    bool file = settings->data.tokenizer && grd_tokenizer_kind_from_name(settings->data.tokenizer) < 0;
    if (!status && file) status = make_absolute(s, &settings->data.tokenizer);
    return status;
}

/* A run that goes on is taken before anything of it is read. */
static grd_status lock_directory(grdi_session *s)
{
    const char *out = s->settings->out;
    return out && s->options->resume ? grdi_directory_lock(out, &s->lock_fd, s->error) : GRD_OK;
}

/* A new run takes its folder when it makes it: another may have begun there, or even ended, since it was looked at. */
static grd_status make_directory(grdi_session *s)
{
    const char *out = s->settings->out;
    grd_status status = grdi_directory_make(out, s->error);
    if (!status && !s->options->resume) status = grdi_directory_lock(out, &s->lock_fd, s->error);
    return status ? status : refuse_used_directory(s);
}

static grd_status open_directory(grdi_session *s)
{
    const char *out = s->settings->out;
    if (!out) return GRD_OK;
    grd_status status = make_paths_absolute(s);
    if (!status) status = make_directory(s);
    if (!status) grdi_writer_sweep(out);
    char *config = grdi_path_join(out, "config.yaml");
    if (!status && !config) status = grd_fail(s->error, GRD_E_MEMORY, "%s: out of memory", out);
    if (!status && !s->ended) status = grd_settings_save(s->settings, config, s->error);
    if (!status) status = grdi_metrics_open(s);
    grdi_free(config);
    return status;
}

/* tokenizer.json, and what transformers needs beside it. */
static grd_status save_tokenizer(grdi_session *s)
{
    if (!s->tokenizer || !s->settings->out || s->ended) return GRD_OK;
    char *path = grdi_path_join(s->settings->out, "tokenizer.json");
    char *config = grdi_path_join(s->settings->out, "tokenizer_config.json");
    grd_status status = path && config ? grd_tokenizer_save(s->tokenizer, path, s->error)
                                       : grd_fail(s->error, GRD_E_MEMORY, "%s: out of memory", s->settings->out);
    if (!status) status = grd_tokenizer_save_config(s->tokenizer, config, s->settings->model.gpt.context, s->error);
    grdi_free(path);
    grdi_free(config);
    return status;
}

/* A resumed run uses the tokenizer that it made, not one made again. */
static grd_status reuse_tokenizer(grdi_session *s)
{
    if (!s->options->resume || !s->settings->out) return GRD_OK;
    char *path = grdi_path_join(s->settings->out, "tokenizer.json");
    grd_status status = path ? GRD_OK : grd_fail(s->error, GRD_E_MEMORY, "%s: out of memory", s->settings->out);
    if (path && grdi_path_exists(path)) status = grd_tokenizer_load(path, &s->tokenizer, s->error);
    grdi_free(path);
    return status;
}

/* ---- one step ---- */

/* How much of the run is done after that many steps, 0 to 1: by steps or by time, whichever is further. */
static double progress_at(const grdi_session *s, int64_t done)
{
    const grd_settings *settings = s->settings;
    double by_steps = settings->train.steps ? (double)done / (double)settings->train.steps : 0;
    double by_time = settings->train.minutes > 0 ? grdi_session_elapsed(s) / (60 * settings->train.minutes) : 0;
    return by_steps > by_time ? by_steps : by_time;
}

static double progress(const grdi_session *s)
{
    return progress_at(s, s->done);
}

double grdi_session_schedule_factor(const grdi_session *s)
{
    const grd_settings *settings = s->settings;
    const grd_schedule schedule = {.kind = (grd_schedule_kind)settings->train.schedule,
                                   .warmup = settings->train.warmup,
                                   .min_factor =
                                       settings->train.lr > 0 ? settings->train.min_lr / settings->train.lr : 0,
                                   .decay_part = settings->train.decay_part};
    double after = progress(s); /* of what follows the warm-up */
    if (settings->train.steps > settings->train.warmup && settings->train.minutes <= 0)
        after = (double)(s->done - settings->train.warmup) / (double)(settings->train.steps - settings->train.warmup);
    return grd_schedule_factor(&schedule, s->done, after);
}

grd_tensor grdi_session_dropout_key(grdi_session *s)
{
    if (s->settings->model.gpt.dropout > 0) s->key = grd_input(s->graph, "key", GRD_I32, grd_shape(4));
    return s->key;
}

void grdi_session_feed_key(const grdi_session *s, int64_t micro)
{
    int64_t seed = s->settings->train.seed;
    const int32_t key[4] = {(int32_t)seed, (int32_t)(seed >> 32), (int32_t)s->done, (int32_t)micro};
    if (!grd_is_poison(s->key)) grd_step_feed(s->step, s->key, key);
}

static grd_status step_failed(grdi_session *s, grd_status status)
{
    return grd_fail(s->error, status, "%s", grd_step_error(s->step)->message);
}

grd_status grdi_session_step(grdi_session *s)
{
    const grd_settings *settings = s->settings;
    for (int64_t micro = 0; micro < settings->train.accumulate; micro++) {
        grd_status status = s->task->feed(s, micro);
        if (status) return status;
        status = grd_step_run(s->step, NULL);
        if (status) return status == GRD_E_NUMERIC ? status : step_failed(s, status); /* see tell_steps */
    }
    return GRD_OK;
}

static void emit_step(grdi_session *s, const grd_metrics *metrics)
{
    const grd_settings *settings = s->settings;
    double now = grdi_seconds(), seconds = now - s->told;
    grd_event event = {.kind = GRD_EVENT_STEP,
                       .step = metrics->step,
                       .steps = settings->train.steps,
                       .progress = fmin(progress_at(s, metrics->step), 1),
                       .loss = metrics->loss,
                       .lr = settings->train.lr * s->factors[metrics->step % GRD_STEPS_AHEAD],
                       .grad_norm = metrics->grad_norm,
                       .loss_scale = metrics->loss_scale,
                       .evaluations = metrics->evaluations,
                       .time_ms = 1e3 * seconds,
                       .seconds = grdi_session_elapsed(s)};
    s->task->count(s, &event);
    event.tokens_per_s = (double)event.tokens / seconds;
    event.samples_per_s = (double)event.samples / seconds;
    s->told = now;
    s->told_steps++;
    s->skipped += metrics->skipped && settings->train.on_nan == GRD_NAN_SKIP; /* else an overflow in f16, told below */
    s->unchanged = metrics->converged ? s->unchanged + settings->train.batch * settings->train.accumulate : 0;
    grdi_session_emit(s, &event);
    if (metrics->skipped && metrics->loss_scale > 0)
        grdi_session_note(s, "step %lld: a gradient was beyond f16; weights are as before, the loss scale is now %g",
                          (long long)metrics->step, metrics->loss_scale);
}

/* The device found a step that was not finite, and may have been some steps further when it was seen: its micro-batches
 * are fed once more, to find the op. The run stands before that step. */
static void find_origin(grdi_session *s)
{
    grd_error *first = s->error, later = {GRD_OK, ""};
    s->done = grd_step_count(s->step);
    if (s->step->origin_known) return;
    s->error = &later;
    bool found = false;
    grd_status status = s->task->start(s);
    for (int64_t micro = 0; !status && !found && micro < s->settings->train.accumulate; micro++) {
        status = s->task->feed(s, micro);
        found = !status && grdi_step_find_origin(s->step);
    }
    s->error = first;
}

/* Tells of steps that the device has done; waits until no more than `most` are left. `asked`: how asking for the last
 * one ended. */
static grd_status tell_steps(grdi_session *s, int32_t most, grd_status asked)
{
    grd_metrics metrics = {.updated = true};
    grd_status status = GRD_OK;
    if (asked && asked != GRD_E_NUMERIC) return asked;
    while (!status && metrics.updated) {
        status = grd_step_result(s->step, grd_step_pending(s->step) > most, &metrics);
        if (!status && metrics.updated) emit_step(s, &metrics);
    }
    if (!status) status = asked;
    if (status == GRD_E_NUMERIC) find_origin(s);
    return status ? step_failed(s, status) : GRD_OK;
}

static bool due(int64_t every, int64_t done)
{
    return every > 0 && done % every == 0;
}

/* Every so many steps; and, as nobody knows how many steps a machine makes in some minutes, at each fifth of a run that
 * time limits. `before`: progress before the last step. */
static bool due_now(const grdi_session *s, int64_t every, double before)
{
    bool fifth = s->settings->train.minutes > 0 && (int)(5 * progress(s)) > (int)(5 * before);
    return every > 0 && (fifth || due(every, s->done));
}

/* The next step is measured if it is the first or the last one, or one after which the model is evaluated; of a run
 * that time limits, instead of the last, which nobody knows, the first of each fifth. */
static bool statistics_due(grdi_session *s)
{
    const grd_settings *settings = s->settings;
    int64_t every = settings->train.statistics_every, next = s->done + 1;
    int fifths = settings->train.minutes > 0 ? (int)(5 * progress(s)) : 0;
    bool due_next = next == 1 || next == settings->train.steps || fifths != s->fifths ||
                    due(every < 0 ? settings->train.eval_every : every, next);
    s->fifths = fifths;
    return every != 0 && due_next;
}

static int64_t sample_every(const grd_settings *settings)
{
    return settings->train.sample_every < 0 ? settings->train.eval_every : settings->train.sample_every;
}

grd_status grdi_session_with_average(grdi_session *s, grd_status (*act)(grdi_session *s, void *context), void *context)
{
    bool solves = s->task->solves && s->task->solves(s); /* without a step */
    if (s->settings->train.ema <= 0 || solves) return act(s, context);
    grd_status status = grd_step_swap_ema(s->step), back;
    if (status) return step_failed(s, status);
    status = act(s, context);
    back = grd_step_swap_ema(s->step);
    return status || !back ? status : step_failed(s, back);
}

typedef struct evaluation {
    int64_t most;
    grd_event event;
} evaluation;

static grd_status evaluate(grdi_session *s, void *context)
{
    evaluation *e = context;
    return s->task->evaluate(s, e->most, &e->event);
}

static grd_status sample(grdi_session *s, void *context)
{
    return grdi_session_sample(s, *(double *)context);
}

/* *whole, unless NULL, tells whether the run was not asked to stop meanwhile. */
static grd_status evaluate_and_emit(grdi_session *s, int64_t most, bool *whole)
{
    evaluation e = {most, {.part = 1}};
    grd_status status = GRD_OK;
    if (s->task->can_evaluate(s)) {
        status = grdi_session_with_average(s, evaluate, &e);
        if (!status && e.event.part > 0) grdi_session_emit(s, &e.event);
    }
    if (whole) *whole = e.event.part > 0;
    return status;
}

bool grdi_session_asked_to_stop(const grdi_session *s)
{
    return s->options->stop && *s->options->stop;
}

/* Whether the last steps found nothing to change in any of the samples: L-BFGS can tell. */
static bool settled(grdi_session *s)
{
    if (!s->samples || s->unchanged < s->samples) return false;
    grdi_session_note(s, "step %lld: no step lowers the loss any more, as far as its gradient tells: the run ends here",
                      (long long)s->done);
    return true;
}

/* With on_nan: skip a run goes on whatever comes; that should be known at its end. */
static grd_status tell_skipped(grdi_session *s)
{
    if (s->skipped && s->skipped == s->told_steps)
        return grd_fail(s->error, GRD_E_NUMERIC,
                        "train.on_nan: none of %lld steps was finite, all were skipped and nothing was learnt (set "
                        "train.lr lower; train.on_nan=stop names the op)",
                        (long long)s->skipped);
    if (s->skipped)
        grdi_session_note(s, "%lld of %lld steps were not finite and were skipped (train.on_nan)",
                          (long long)s->skipped, (long long)s->told_steps);
    return GRD_OK;
}

static grd_status train(grdi_session *s)
{
    const grd_settings *settings = s->settings;
    grd_status status = GRD_OK;
    s->start = grdi_seconds();
    bool solves = s->task->solves && s->task->solves(s);
    if (solves && progress(s) < 1) status = s->task->solve(s);
    bool over = solves;
    while (!over && !status && progress(s) < 1 && !grdi_session_asked_to_stop(s)) {
        double factor = grdi_session_schedule_factor(s), begun = progress(s);
        bool measured = statistics_due(s);
        if (!grd_step_pending(s->step)) s->told = grdi_seconds();
        if (measured) grd_step_measure(s->step);
        grd_step_set_lr(s->step, factor);
        status = grdi_session_step(s);
        if (!status) s->factors[++s->done % GRD_STEPS_AHEAD] = factor;
        bool last = progress(s) >= 1, evaluates = !last && due_now(s, settings->train.eval_every, begun);
        bool samples = !last && due_now(s, sample_every(settings), begun);
        bool saves = !last && due(settings->train.checkpoint_every, s->done);
        status = tell_steps(s, last || measured || evaluates || samples || saves ? 0 : GRD_STEPS_AHEAD - 1, status);
        over = !status && settled(s);
        if (!status && measured) status = grdi_session_emit_layers(s);
        if (!status && !over && evaluates) status = evaluate_and_emit(s, settings->train.eval_windows, NULL);
        double part = progress(s);
        if (!status && !over && samples) status = grdi_session_with_average(s, sample, &part);
        if (!status && !over && saves) status = grdi_session_save(s);
        write_report(s);
    }
    grd_status told = solves ? GRD_OK : tell_steps(s, 0, GRD_OK); /* a feed that failed leaves steps to be told of */
    if (told) status = told;
    s->elapsed_before = grdi_session_elapsed(s);
    s->start = 0;
    return status ? status : tell_skipped(s);
}

/* ---- the whole run ---- */

static grd_status emit_plan(grdi_session *s)
{
    grd_event event = {.kind = GRD_EVENT_PLAN, .steps = s->settings->train.steps};
    grd_status status = grdi_session_report(s, &event.plan);
    if (!status) grdi_session_emit(s, &event);
    return status;
}

/* What follows the loop: a last checkpoint first, as nobody knows how long the rest takes; then a last evaluation and
 * sample, and the profile. `status` is how the loop ended. */
static grd_status finish(grdi_session *s, grd_status status)
{
    /* A step that is not finite, a sample that cannot be read: the weights of the last good step are worth saving. */
    bool spoilt = status == GRD_E_NUMERIC || status == GRD_E_FORMAT;
    if (status && !spoilt) return status;
    grd_error later = {GRD_OK, ""}, *first = s->error;
    if (spoilt) s->error = &later;
    bool stopped = grdi_session_asked_to_stop(s) && progress(s) < 1, whole = true;
    grd_status after = s->ended ? GRD_OK : grdi_session_save(s);
    if (!after && !spoilt && !stopped) after = evaluate_and_emit(s, 0, &whole);
    stopped = stopped || !whole;
    if (!after && !spoilt && !stopped) after = grdi_session_with_average(s, sample, &(double){1});
    s->error = first;
    if (after && spoilt) grdi_session_note(s, "the weights are not saved: %s", later.message);
    if (after || spoilt) return spoilt ? status : after;
    if (s->options->profile) grd_step_profile_write(s->step, stderr, s->options->profile);
    grdi_session_emit(s, &(grd_event){.kind = GRD_EVENT_DONE, .step = s->done, .seconds = s->elapsed_before});
    return stopped ? GRD_E_STOPPED : GRD_OK;
}

static void choose_task(grdi_session *s)
{
    const grd_settings *settings = s->settings;
    bool images = grd_model_classifies(settings->model.kind);
    s->task = settings->data.kind == GRD_DATA_SERIES  ? &grdi_task_series
              : settings->data.kind == GRD_DATA_TABLE ? &grdi_task_table
              : images                                ? &grdi_task_images
                                                      : &grdi_task_language;
}

grd_status grdi_session_prepare(grdi_session *s)
{
    grd_status status = grd_settings_resolve(s->settings, s->error);
    choose_task(s);
    if (!status) status = refuse_used_directory(s);
    if (!status) status = lock_directory(s);
    if (!status) status = reuse_tokenizer(s);
    if (!status) status = s->task->open(s);
    if (!status) status = grd_settings_resolve(s->settings, s->error); /* now that the vocabulary is known */
    if (!status) status = s->task->make_batches(s);
    if (!status) status = grdi_session_open_engine(s);
    if (!status) status = grdi_session_build(s);
    if (!status && !s->engine->backend->runs)
        status = grd_fail(s->error, GRD_E_ARGUMENT, "device %s: only plans (gradus plan does; train on cpu)",
                          grd_engine_device(s->engine));
    return status;
}

grd_status grdi_session_open_only(grdi_session *s)
{
    grd_status status = grd_settings_resolve(s->settings, s->error);
    choose_task(s);
    if (!status) status = s->task->open(s);
    return status ? status : s->task->make_batches(s);
}

grd_status grdi_session_run(grdi_session *s)
{
    bool found = false;
    grd_status status = grdi_session_prepare(s);
    if (!status && s->options->resume) status = grdi_session_resume(s, &found);
    s->ended = found && progress(s) >= 1;
    if (!status) status = open_directory(s); /* what could be refused has been: only now is anything written */
    if (!status) status = save_tokenizer(s);
    if (!status && s->options->resume) status = grdi_metrics_resume(s);
    if (status) return status;
    grdi_session_begin_board(s);
    if (s->options->resume && !found)
        grdi_session_note(s, "there is no checkpoint in %s yet: starting from step 0", s->settings->out);
    if (s->ended)
        grdi_session_note(s,
                          "step %lld was the last one: nothing is left to do (set train.steps or train.minutes higher)",
                          (long long)s->done);
    if (s->options->profile) grd_step_profile(s->step, true);
    status = emit_plan(s);
    if (!status) status = s->task->start(s);
    if (!status) status = finish(s, train(s));
    if (status && status != GRD_E_STOPPED) record_error(s);
    write_report(s);
    return status;
}

grdi_session *grdi_session_new(grd_settings *settings, const grd_run_options *options, grd_error *error)
{
    grdi_session *s = grdi_alloc_zero(1, sizeof(*s));
    if (!s) return NULL;
    s->settings = settings;
    s->options = options;
    s->error = error;
    s->lock_fd = s->metrics_fd = s->board.fd = -1;
    return s;
}

void grdi_session_free(grdi_session *s)
{
    grdi_sampler_close(&s->sampler);
    grdi_layers_close(&s->layers);
    if (s->task) s->task->close(s);
    grdi_session_free_sources(s);
    grd_engine_close(s->engine);
    grdi_free(s->eval_inputs);
    grdi_free(s->eval_values);
    grdi_metrics_close(s);
    grdi_board_close(&s->board);
    grdi_history_free(&s->history);
    if (s->lock_fd >= 0) grdi_file.close(s->lock_fd); /* last: it gives the folder away */
    grdi_free(s);
}

grd_status grd_train_text(grd_settings *settings, const grd_run_options *options, grd_error *error)
{
    grd_error own = {GRD_OK, ""};
    grdi_session *s = grdi_session_new(settings, options, error ? error : &own);
    if (!s) return grd_fail(error, GRD_E_MEMORY, "out of memory for a run");
    grd_status status = grdi_session_run(s);
    grdi_session_free(s);
    return status;
}

/* The vocabulary that a tokenizer yet to be made will have; 0 where only the text or a file tells. */
static int64_t expected_vocab(const grd_settings *settings)
{
    const char *name = settings->data.tokenizer ? settings->data.tokenizer : "bpe";
    int kind = settings->data.token_count ? -1 : grd_tokenizer_kind_from_name(name);
    if (kind == GRD_TOKENIZER_BPE) return settings->data.vocab ? settings->data.vocab : 4096;
    return kind == GRD_TOKENIZER_BYTE ? 256 + 1 : 0; /* and the token that ends a text */
}

grd_status grdi_session_plan(grdi_session *s, grd_plan_report *report)
{
    grd_settings *settings = s->settings;
    grd_error *error = s->error;
    if (!settings->train.steps && settings->train.minutes <= 0) settings->train.steps = 1;
    if (settings->model.gpt.vocab < 1) settings->model.gpt.vocab = expected_vocab(settings);
    grd_status status = grd_settings_resolve(settings, error);
    bool language = grd_settings_of_language(settings);
    choose_task(s);
    if (!status && !language) status = s->task->open(s); /* which says how large they are */
    if (!status && language && settings->model.gpt.vocab < 1)
        status =
            grd_fail(error, GRD_E_ARGUMENT, "model.vocab: a plan needs to know it (set model.vocab or data.vocab)");
    if (!status) status = grdi_session_build(s);
    return status ? status : grdi_session_report(s, report);
}

grd_status grd_plan_settings(grd_settings *settings, const grd_run_options *options, grd_plan_report *report,
                             grd_error *error)
{
    grdi_session *s = grdi_session_new(settings, options, error);
    if (!s) return grd_fail(error, GRD_E_MEMORY, "out of memory for a plan");
    grd_status status = grdi_session_plan(s, report);
    grdi_session_free(s);
    return status;
}
