/* task.h - what a run learns: where its data comes from, what is built on it, and how it is judged. The loop, the
 * checkpoints and the events are the same for all. */
#ifndef GRDI_TASK_H
#define GRDI_TASK_H

#include "formats/checkpoint.h"
#include "train/session.h"

/* What the loss of a step is before training, for a model that knows nothing, and what else is known beforehand. */
typedef struct grdi_expected {
    double loss;
    int64_t samples; /* of an epoch; 0: not known */
    char text[64]; /* "ln 10 (classes)" */
    bool causal;   /* the evaluation's output at a step may depend on inputs up to that step alone */
} grdi_expected;

struct grdi_checker; /* check.h */

struct grdi_task {
    grd_status (*open)(grdi_session *s);         /* the data; settings that depend on it are completed */
    grd_status (*make_batches)(grdi_session *s); /* once these are resolved */
    grd_status (*start)(grdi_session *s);        /* batches from the step that the run stands at */
    bool (*solves)(const grdi_session *s);       /* whether `solve` takes the place of steps; NULL: no */
    grd_status (*solve)(grdi_session *s); /* sets the weights, counts iterations in s->done, emits their events */
    grd_tensor (*loss)(grdi_session *s);  /* in s->graph: its part of the mean over a step's micro-batches */
    grd_status (*build_evaluation)(grdi_session *s);
    grd_status (*feed)(grdi_session *s, int64_t micro);     /* the next micro-batch into the step */
    void (*count)(const grdi_session *s, grd_event *event); /* tokens or samples of a step */
    bool (*can_evaluate)(const grdi_session *s);
    grd_status (*evaluate)(grdi_session *s, int64_t most, grd_event *event); /* see grdi_session_evaluate */
    grd_status (*add_weights)(grdi_session *s, grdi_checkpoint_writer *w);   /* and what describes them */
    grd_status (*read_weights)(grdi_session *s, const grd_safetensors *file, grd_error *error);
    void (*report)(const grdi_session *s, grdi_writer *w); /* its own part of report.html; NULL: none */
    void (*close)(grdi_session *s);
    void (*expect)(const grdi_session *s, grdi_expected *expected); /* for the preflight; NULL: nothing is known */
    grd_status (*check_data)(grdi_session *s, struct grdi_checker *c); /* the same, see check_set.h */
};

/* save.c: a `read_weights` for models whose weights stand in files under our own names. */
grd_status grdi_task_read_by_name(grdi_session *s, const grd_safetensors *file, grd_error *error);

extern const grdi_task grdi_task_language, grdi_task_images, grdi_task_table, grdi_task_series;

#endif
