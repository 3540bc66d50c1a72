/* session.h - one training run while it goes on: its data, model, programs and files. */
#ifndef GRDI_SESSION_H
#define GRDI_SESSION_H

#include <gradus/model.h>
#include <gradus/run.h>

#include "base/file.h"
#include "formats/tensorboard.h"
#include "generate/sampler.h"
#include "train/history.h"

/* Something that the run reads its data from, and what a resumed run knows it again by. */
typedef struct grdi_source {
    char *path;
    int64_t size_bytes;
    uint64_t checksum;
} grdi_source;

/* A layer, for statistics. */
typedef struct grdi_layer {
    char name[64];
    grd_tensor output, squares; /* in the evaluation's graph; poison where nothing is known of its activations */
} grdi_layer;

typedef struct grdi_layers {
    grdi_layer *layers;
    size_t count, capacity;
    grd_program *program;             /* forward; NULL: none */
    grd_layer_statistics *statistics; /* [count] */
} grdi_layers;

typedef struct grdi_task grdi_task; /* task.h */
typedef struct grdi_images_run grdi_images_run;
typedef struct grdi_table_run grdi_table_run;
typedef struct grdi_series_run grdi_series_run;

typedef struct grdi_session {
    grd_settings *settings;
    const grdi_task *task;   /* by settings; NULL until these are resolved */
    grdi_images_run *images; /* the images' task's own */
    grdi_table_run *table;   /* the tables' */
    grdi_series_run *series; /* the series' task's own */
    const grd_run_options *options;
    const struct grdi_session *lender; /* has the same data open, and outlives this session; NULL: none */
    grd_error *error;

    grd_corpus *corpus;       /* of data.path, else NULL */
    grd_tokenizer *tokenizer; /* NULL with token shards and none given */
    grd_tokens *shards[2][GRD_FILES_MAX];
    size_t shard_count[2];
    grdi_source *sources; /* in a fixed order */
    size_t source_count, source_capacity;
    grd_batches *batches;
    grd_prefetch *prefetch;

    grd_engine *engine;
    grd_model *model;
    grd_graph *graph, *eval_graph;
    grd_tensor ids, targets, scale, key; /* of the step; ids: what goes in, images too */
    grd_tensor eval_ids, eval_targets, eval_losses;
    grd_tensor eval_output;  /* what the model says of each sample, the first axis: losses of tokens, logits, ... */
    const void *last_inputs; /* of the last micro-batch, valid until the next step */
    grd_step *step;
    grd_program *eval;
    grdi_layers layers;
    grdi_sampler sampler;   /* tokens NULL: the run writes no samples */
    int64_t variable_count; /* of the model when the step was built; later ones are caches of the sampler */
    int32_t *eval_inputs;   /* [2][batch * context] */
    float *eval_values;     /* [batch * context] */

    int64_t samples;                 /* that an epoch has; 0: not known */
    int64_t unchanged;               /* of them, those in the last steps that changed nothing */
    int64_t told_steps, skipped;     /* of this process: steps told of, and those left out as they were not finite */
    int64_t done;                    /* steps */
    bool ended;                      /* a resumed run had its last step already: it is only evaluated */
    int64_t saved;                   /* step of the checkpoint that was read or written last; 0: none */
    int64_t first_step, first_batch; /* where this start of the run began: steps done, micro-batches read */
    double start, elapsed_before;    /* seconds: clock at the start; spent before a resume */
    double told;                     /* clock when the last step was told of, or the first after a pause began */
    double factors[GRD_STEPS_AHEAD]; /* of the learning rate, by step, of those not yet told of */
    int fifths;                      /* of a run that time limits: those that had passed at the last measured step */
    int lock_fd;                     /* of the run directory, which is this process's while it is open; -1: none */
    int metrics_fd;                  /* metrics.jsonl, appended line by line; -1: none */
    grdi_board board;                /* the same for TensorBoard */
    grdi_history history;            /* for report.html */
    bool report_due;                 /* the history has something new that the report shows */
} grdi_session;

/* data.c: opens texts or shards, makes or loads the tokenizer, prepares batches. */
grd_status grdi_session_open_data(grdi_session *s);
grd_status grdi_session_make_batches(grdi_session *s);
grd_status grdi_session_add_source(grdi_session *s, const char *path, int64_t size_bytes, uint64_t checksum);
void grdi_session_free_sources(grdi_session *s);
/* The micro-batch that comes next, counted over the whole run. */
int64_t grdi_session_next_batch(const grdi_session *s);
/* Starts reading ahead, from the step that the run stands at. */
grd_status grdi_session_start_batches(grdi_session *s);
void grdi_session_close_data(grdi_session *s);

/* build.c: engine, model, training step and evaluation program; the last is a language model's. */
grd_status grdi_session_build_evaluation(grdi_session *s);
grd_status grdi_session_build(grdi_session *s);
/* Opens the engine, which settles what `auto` precision is; done by grdi_session_build() where it was not yet. */
grd_status grdi_session_open_engine(grdi_session *s);
/* What the run needs: its step, and the programs beside it. */
grd_status grdi_session_report(grdi_session *s, grd_plan_report *report);
grd_optimizer grdi_settings_optimizer(const grd_settings *settings, int kind, double lr);

/* evaluate.c: loss and bits per byte of the validation part, from at most `most` of its windows (0: all). When the run
 * is asked to stop meanwhile, *event has part 0. */
grd_status grdi_session_evaluate(grdi_session *s, int64_t most, grd_event *event);

/* layers.c: statistics by layer. Emits those of the step that was just measured (see grd_step_measure), with the
 * activations that its last micro-batch has now. */
grd_status grdi_session_build_layers(grdi_session *s);
grd_status grdi_session_emit_layers(grdi_session *s);
/* The layers of any evaluation graph, and their statistics after a measured step: activations are those for `data`, fed
 * to `input`. */
grd_status grdi_layers_open(grdi_layers *l, const grd_graph *graph, grd_error *error);
grd_status grdi_layers_measure(grdi_layers *l, const grd_step *step, grd_tensor input, const void *data,
                               grd_error *error);
void grdi_layers_close(grdi_layers *l);

/* samples.c: compiles what texts need, where the run trains on text; emits a sample. */
grd_status grdi_session_build_sampler(grdi_session *s);
grd_status grdi_session_sample(grdi_session *s, double progress);

/* The key of dropout, see grd_dropout: declared as an input of the step's graph where model.dropout asks for it (else
 * poison), and fed for a micro-batch. */
grd_tensor grdi_session_dropout_key(grdi_session *s);
void grdi_session_feed_key(const grdi_session *s, int64_t micro);

/* loop.c: does something with the moving average of the weights in their place, where the run keeps one (train.ema). */
grd_status grdi_session_with_average(grdi_session *s, grd_status (*act)(grdi_session *s, void *context), void *context);

/* save.c: checkpoints. */
grd_status grdi_session_save(grdi_session *s);
grd_status grdi_session_resume(grdi_session *s, bool *found);

/* algorithms.c: plan.lock, what the device chose by timing: written into a checkpoint and the user's cache folder,
 * and taken from the one that is resumed before anything is compiled. One of another device is told of and left. */
struct grdi_checkpoint_writer;
grd_status grdi_session_add_algorithms(const grdi_session *s, struct grdi_checkpoint_writer *writer);
grd_status grdi_session_take_algorithms(grdi_session *s);

/* metrics.c: metrics.jsonl. Resume, called when s->done is known, takes out the lines of later steps and one that was
 * cut off, and puts the others into the history. */
grd_status grdi_metrics_open(grdi_session *s);
void grdi_metrics_close(grdi_session *s);
void grdi_metrics_write(grdi_session *s, const grd_event *event);
grd_status grdi_metrics_resume(grdi_session *s);

/* board.c: events for TensorBoard, in a file that begins when s->done is known. */
void grdi_session_begin_board(grdi_session *s);
void grdi_session_board_event(grdi_session *s, const grd_event *event);

/* loop.c. Settings, options and error must outlive the session. NULL: out of memory. */
grdi_session *grdi_session_new(grd_settings *settings, const grd_run_options *options, grd_error *error);
void grdi_session_free(grdi_session *s);
/* Opens the data alone, to lend them. Needs no engine. */
grd_status grdi_session_open_only(grdi_session *s);
/* Everything up to the first step, but for what a resumed run brings back and for task->start. Writes nothing. */
grd_status grdi_session_prepare(grdi_session *s);
/* What grd_train_text() and grd_plan_settings() do with a session that is theirs alone. */
grd_status grdi_session_run(grdi_session *s);
grd_status grdi_session_plan(grdi_session *s, grd_plan_report *report);
/* Asks for the micro-batches of one step and the update. The caller counts s->done. */
grd_status grdi_session_step(grdi_session *s);
/* What the learning rate is multiplied by in the next step. */
double grdi_session_schedule_factor(const grdi_session *s);
bool grdi_session_asked_to_stop(const grdi_session *s);
/* Hands an event to the caller and writes its line to metrics.jsonl. */
void grdi_session_emit(grdi_session *s, const grd_event *event);
void grdi_session_note(grdi_session *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Seconds of training so far, those before a resume included. */
double grdi_session_elapsed(const grdi_session *s);

#endif
