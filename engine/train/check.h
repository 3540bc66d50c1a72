/* check.h - a preflight's parts. A subject is what is looked at: a model with its training step and its evaluation, of
 * a config (a session) or of a caller's own graph. */
#ifndef GRDI_CHECK_H
#define GRDI_CHECK_H

#include <gradus/check.h>

#include "train/session.h"

typedef struct grdi_checker {
    const grd_check_options *options;
    grd_error *error;
    int32_t found;
    double flops; /* of the programs that were run */
} grdi_checker;

/* grd_check_settings(), and how much arithmetic it took. */
grd_status grdi_check_settings(grd_settings *settings, const grd_check_options *options, int32_t *found,
                               double *flops, grd_error *error);

/* Hands a result on. `look_at` is dropped where the check passed. */
void grdi_check_result(grdi_checker *c, const char *name, bool passed, const char *look_at, const char *evidence, ...)
    __attribute__((format(printf, 5, 6)));
void grdi_check_note(grdi_checker *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
bool grdi_check_stopped(const grdi_checker *c);

typedef struct grdi_subject {
    grd_model *model;
    grd_step *step;
    grd_graph *graph, *eval_graph;
    grd_tensor input, target, loss;     /* of the step's graph; target may be poison */
    grd_tensor eval_input, eval_output; /* eval_output's first axis is the samples */
    grd_program *eval;                  /* gives eval_output */
    /* Feeds the step with the next batch. *inputs becomes the data of `input`, valid until the next call. */
    grd_status (*next)(struct grdi_subject *s, const void **inputs);
    void (*rewind)(struct grdi_subject *s); /* to the first batch; of texts, which are read ahead, the rate alone */
    double (*factor)(const struct grdi_subject *s); /* what the rate of the next step is multiplied by; NULL: 1 */
    void *context;
    const void *inputs; /* of the batch fed last */
    double lr;          /* the rate that factors multiply */
    double lr_reached;  /* the part of it that the schedule comes to before the run ends; 0: all of it */
    double rate_scale;  /* of all rates, for batches smaller than the run's; 0: 1 */
    double expected;    /* the loss before training; NaN: not known */
    char expected_text[64];
    int64_t samples; /* of an epoch; 0: not known */
    bool causal, pretrained;
    bool labelled;           /* targets come from elsewhere than inputs, so that they may be another's */
    bool linear;             /* of the inputs: a batch need not be learnt by heart, and inputs may say little */
    bool solved;             /* not trained by steps */
    const grd_group *groups; /* which parameters are frozen on purpose */
    int32_t group_count;
    bool cuts_are_meant;
    const char *constant; /* pattern of parameters that must get no gradient; NULL: none */
} grdi_subject;

/* All variables of a model and the step's count, to come back to. */
typedef struct grdi_snapshot {
    char *bytes;
    size_t size_bytes;
    int64_t count;
} grdi_snapshot;

grd_status grdi_snapshot_take(grdi_snapshot *snapshot, const grdi_subject *s, grd_error *error);
void grdi_snapshot_restore(const grdi_snapshot *snapshot, const grdi_subject *s);
void grdi_snapshot_free(grdi_snapshot *snapshot);

/* One step on what is fed, at the rate times `factor`. Numbers that are not finite are no error here: *loss is NaN
 * then. */
grd_status grdi_check_step(grdi_checker *c, grdi_subject *s, double factor, double *loss);
/* How many steps a check can afford, between `least` and `most`. */
int grdi_check_steps_for(const grdi_subject *s, int least, int most);

/* check_training.c: what steps show. Weights are afterwards as they were. */
/* One batch: learnt by heart, better than without its inputs; and, a few steps in, check_graph.c. */
grd_status grdi_check_one_batch(grdi_checker *c, grdi_subject *s);
/* The first loss, the first steps as they will be, and what layers are like after them. */
grd_status grdi_check_first_steps(grdi_checker *c, grdi_subject *s);
/* A range of learning rates (Smith, "Cyclical learning rates for training neural networks", 2017). */
grd_status grdi_check_learning_rate(grdi_checker *c, grdi_subject *s);

/* check_graph.c: what one batch shows of the graph. */
grd_status grdi_check_structure(grdi_checker *c, grdi_subject *s);

/* check_pairs.c: whether targets say anything of the inputs that they stand with. */
grd_status grdi_check_pairs(grdi_checker *c, grdi_subject *s);

/* check_runs.c: two runs of a few steps, one of them in two parts. The settings are changed for them. */
grd_status grdi_check_runs(grdi_checker *c, grd_settings *settings, const grdi_session *lender, const char *folder);
/* What the losses of two runs of `count` steps say; and the last ones of a run and of one in two parts. */
void grdi_check_bits(grdi_checker *c, const double *one, const double *other, int count);
void grdi_check_resumed(grdi_checker *c, double whole, double parts, int count, bool same);

/* check_data.c: what the data are like. */
grd_status grdi_check_data(grdi_checker *c, grdi_session *s);

#endif
