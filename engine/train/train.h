/* train.h - training steps, as the engine sees them. */
#ifndef GRDI_TRAIN_H
#define GRDI_TRAIN_H

#include <gradus/train.h>

#include "run/inbox.h"
#include "run/run.h"
#include "run/storage.h"

/* True if `pattern` ("*": within one name, "**": over any number of names) matches the whole path. */
bool grdi_path_matches(const char *pattern, const char *path);

/* How one set of parameters is trained; parameters with equal settings share a launch where they lie side by side. */
typedef struct grdi_setting {
    grd_optimizer optimizer;
    double lr_scale, weight_decay;
    char hyper[24]; /* name of the update graph's input {lr, 1/(1-beta1^t), 1/(1-beta2^t), (1-decay)/(1-decay^t)} */
} grdi_setting;

enum { GRDI_MOMENTS_MAX = 2 };

/* One trained parameter and what belongs to it. */
typedef struct grdi_trained {
    grdi_variable *parameter, *gradient, *moment[GRDI_MOMENTS_MAX], *average;
    grd_tensor node, derivative; /* in the loss's graph */
    int32_t setting;
} grdi_trained;

/* A state that training changes (statistics of batch norm) and its moving average. */
typedef struct grdi_averaged {
    grdi_variable *state, *average;
} grdi_averaged;

/* What of each trained parameter a measured update adds up the squares of. */
enum { GRDI_MEASURE_WEIGHT, GRDI_MEASURE_GRADIENT, GRDI_MEASURE_CHANGE, GRDI_MEASURES };

/* The input of an update that rounds weights stochastically: {seed, seed >> 32, step, step >> 32}. */
#define GRDI_UPDATE_KEY "rounding_key"

/* One way to change the weights. */
typedef struct grdi_update {
    struct grd_step *step;
    grd_graph *graph;
    grd_program *program;
    grd_tensor norm, scale; /* the gradients' norm; what they are multiplied by */
    grd_tensor key;         /* of stochastic rounding; poison where all weights are in f32 */
    grd_tensor *hyper;   /* while it is built: the input of each setting, once there is one */
    grd_tensor *squares; /* [trained_count][GRDI_MEASURES]; NULL: not measured */
} grdi_update;

/* States side by side that a step changes, and a copy of what they were before it. */
typedef struct grdi_kept_states {
    grdi_variable *states, *before;
} grdi_kept_states;

/* Of steps in f16; NULL in others. */
typedef struct grdi_scaling {
    grdi_variable *scale;      /* what the loss is multiplied by */
    grdi_variable *good_steps; /* since it last changed */
    grdi_variable *loss;       /* the sum over the micro-batches of a step */
} grdi_scaling;

/* What comes of one step. */
typedef struct grdi_result {
    grdi_inbox inbox; /* floats: the loss of each micro-batch, the norm, what gradients were multiplied by, and in f16
                         the loss scale */
    int64_t step;     /* steps done before it */
    grd_metrics metrics;
} grdi_result;

/* A ring: from `first` on results that are known and not yet taken, then those on their way, then the one of the step
 * that is being asked for. */
typedef struct grdi_results {
    grdi_result ring[GRD_STEPS_AHEAD + 1];
    int32_t first, known, asked;
    bool failed; /* the last one known is of a step that was not finite */
} grdi_results;
typedef struct grdi_step_search grdi_step_search; /* step_lbfgs.c */

struct grd_step {
    grd_model *model;
    grd_graph *graph;
    grd_program *micro;
    grdi_step_search *search;     /* L-BFGS: takes the place of both programs below, which are NULL then */
    grdi_update update, measured; /* measured: the same with sums of squares, where options.statistics asks for it */
    grd_graph *begin_graph; /* what a step begins with, where there are states to keep; else NULL */
    grd_program *begin;
    grdi_kept_states *kept;
    int32_t kept_count;
    grd_tensor loss;
    grd_step_options options;
    grdi_trained *trained;
    int32_t trained_count;
    grdi_variable *scale; /* f32: what gradients were multiplied by last, below zero where weights were left alone */
    grdi_scaling scaling;
    grdi_averaged *averaged; /* with ema_decay */
    int32_t averaged_count;
    grdi_setting *settings;
    int32_t setting_count;
    int32_t index; /* of this step among its model's, part of the names of its variables */
    int32_t micro_done;
    int64_t count;
    double lr_factor;
    grdi_results results;
    bool origin_known; /* the error names the op that made the first value that was not finite */
    bool ema_swapped;
    bool measure, was_measured; /* the next update; the last one */
    grd_error error;
};

/* update.c: builds the update graph over the trained parameters' ranges; its values to keep are appended to `roots`. A
 * measured one takes parameter by parameter, so that only one of them is held twice at a time. */
bool grdi_build_update(grdi_update *u, grd_tensor *roots, int32_t *root_count, int32_t roots_max);
/* step.c: a variable of the step's own, perhaps one of an earlier step. NULL, with the step's error, when out of memory
 * or without a name, or where the model has one of another type. */
grdi_variable *grdi_step_variable(grd_step *step, const char *name, grdi_variable_kind kind, grdi_type type);
/* states.c: finds the states that a step changes, once they have their places; compiles what keeps them; adds to an
 * update what brings them back where weights are left alone; brings them back itself. */
bool grdi_states_find(grd_step *step);
bool grdi_states_compile(grd_step *step);
bool grdi_states_restore(const grdi_update *u, grd_tensor *roots, int32_t *count, int32_t max);
void grdi_states_bring_back(grd_step *step);
/* loss_scale.c: makes the variables of a step in f16, and once they lie somewhere gives the scale its first value; what
 * the gradient of the loss begins with; keeps the loss where the update can see it. In the update: one by the scale;
 * NaN where an earlier step has ended the run, else 0; what a step's scale becomes where its gradient is not finite;
 * the next loss scale. All do nothing where there is no loss scale. */
bool grdi_scaling_open(grd_step *step);
void grdi_scaling_begin(grd_step *step);
grd_tensor grdi_scaling_seed(grd_step *step, grd_tensor seed);
bool grdi_scaling_keep_loss(grd_step *step, grd_tensor *roots, int32_t *count);
grd_tensor grdi_scaling_inverse(const grdi_update *u);
grd_tensor grdi_scaling_stopped(const grdi_update *u, grd_tensor last);
grd_tensor grdi_scaling_verdict(const grdi_update *u, grd_tensor last);
bool grdi_scaling_build(const grdi_update *u, grd_tensor *roots, int32_t *count, int32_t max);
/* Whether a step's scale says that a gradient was beyond f16, which is no error. */
bool grdi_scaling_overflowed(const grd_step *step, float scale);
/* results.c: losses, norms and decisions, copied back behind the steps. Closing also takes what was never opened. */
grd_status grdi_results_open(grd_step *step);
void grdi_results_close(grd_step *step);
/* Asks for the loss of the micro-batch that was just run; for what the whole step came to, whose result is then on its
 * way. */
void grdi_results_fetch_loss(grd_step *step);
void grdi_results_fetch_update(grd_step *step, const grdi_update *u);
/* The same for a step whose result is known already. GRD_E_NUMERIC where that makes the run end. */
grd_status grdi_results_put(grd_step *step, grd_metrics metrics);
/* Waits for the oldest result where no more steps may be on their way. */
grd_status grdi_results_make_room(grd_step *step);
/* Looks at results that are there, or, waiting, at all: GRD_E_NUMERIC for the first step that was not finite, which is
 * then the last that is known of, and the step stands before it. */
grd_status grdi_results_look(grd_step *step, bool wait);
/* Waits for the losses of the step that has been begun. */
void grdi_results_of_micro(grd_step *step, grd_metrics *metrics);
/* Looks once more, op by op, at what the step's inputs come to, and names in its error what is not finite first. */
bool grdi_step_find_origin(grd_step *step);
/* step_lbfgs.c: an optimizer that evaluates the loss several times in a step. `check` says what it cannot do; `open`
 * comes behind the micro program. */
bool grdi_search_check(grd_step *step);
bool grdi_search_open(grd_step *step);
void grdi_search_close(grdi_step_search *search);
size_t grdi_search_bytes(const grd_step *step);
/* The most evaluations that a step begins of itself. */
int64_t grdi_search_evaluations(const grd_step *step);
/* Takes the loss of micro-batch `index`, which has run, and keeps its inputs for when it is run again. */
grd_status grdi_search_take_micro(grd_step *step, int32_t index);
/* What an update is for other optimizers, once all micro-batches were taken and their gradient is there. */
grd_status grdi_search_update(grd_step *step, grd_metrics *metrics);
/* Sums of squares of a measured step, of trained parameter `index`. */
double grdi_search_squares(const grd_step *step, int32_t index, int what);
/* The type of moment `moment` of a parameter. */
grdi_type grdi_moment_type(const grd_optimizer *optimizer, grdi_type parameter);
/* report.c: adds what another program of the model needs beside the step's, in memory and nothing else. */
void grdi_report_add_program(grd_plan_report *report, const grd_program *program);
/* GRD_E_STATE, kept by the step, once its graph was freed; GRD_E_ARGUMENT without a step. */
grd_status grdi_step_usable(grd_step *step);
/* update.c: whether `b`, of the same dtype, lies right behind `a`. */
bool grdi_variable_follows(const grdi_variable *a, const grdi_variable *b);
/* How many moments an optimizer keeps of each parameter, and their names ("exp_avg", ...). */
int32_t grdi_moment_count(const grd_optimizer *optimizer);
const char *grdi_moment_name(const grd_optimizer *optimizer, int32_t moment);

#endif
