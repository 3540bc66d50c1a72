/* train.h - optimizers and training steps. */
#ifndef GRADUS_TRAIN_H
#define GRADUS_TRAIN_H

#include <gradus/graph.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum grd_optimizer_kind {
    GRD_OPTIMIZER_NONE = 0,
    GRD_OPTIMIZER_ADAMW, /* Loshchilov and Hutter 2019, as torch.optim.AdamW: decay decoupled from the gradient */
    GRD_OPTIMIZER_ADAM,  /* Kingma and Ba 2015, as torch.optim.Adam: decay added to the gradient */
    GRD_OPTIMIZER_SGD,   /* as torch.optim.SGD, with momentum and Nesterov */
    GRD_OPTIMIZER_LION,  /* Chen et al. 2023 */
    GRD_OPTIMIZER_MUON,  /* Jordan 2024: momentum, orthogonalised by Newton-Schulz; for hidden matrices, see grd_muon */
    GRD_OPTIMIZER_LBFGS, /* Liu and Nocedal 1989, as torch.optim.LBFGS with line_search_fn="strong_wolfe", see grd_lbfgs
                          */
    GRD_OPTIMIZER_EXACT  /* settings only: linear regression of a table by its normal equations */
} grd_optimizer_kind;

typedef struct grd_optimizer {
    grd_optimizer_kind kind;
    double lr;           /* the base rate; grd_step_set_lr multiplies it */
    double beta1, beta2; /* ADAMW, ADAM: 0.9, 0.999; LION: 0.9, 0.99 */
    double eps;          /* ADAMW, ADAM: 1e-8 */
    double weight_decay; /* applied to parameters of two or more dimensions only; a group can say otherwise */
    double momentum;     /* SGD: 0; MUON: 0.95 */
    double dampening;    /* SGD */
    bool nesterov;       /* SGD: false; MUON: true */
    int32_t history_size, max_iter, max_eval; /* LBFGS: 100, 20, 0 (5/4 max_iter) */
    double tolerance_grad, tolerance_change;  /* LBFGS: 1e-7, 1e-9 */
} grd_optimizer;

/* The usual settings of each kind; change fields of the result at will. */
GRD_API grd_optimizer grd_adamw(double lr); /* betas 0.9, 0.999; eps 1e-8; decay 0.01 */
GRD_API grd_optimizer grd_adam(double lr);
GRD_API grd_optimizer grd_sgd(double lr);
GRD_API grd_optimizer grd_lion(double lr);
/* Momentum 0.95, Nesterov, five Newton-Schulz steps with (3.4445, -4.7750, 2.0315); the update is scaled by sqrt(max(1,
 * rows/columns)). Only parameters of exactly two dimensions can be trained with it: give the others (embedding, head,
 * gains) a group with AdamW. */
GRD_API grd_optimizer grd_muon(double lr);
/* Limited-memory BFGS. A step is up to max_iter iterations on its micro-batches; each iteration moves along -H g, where
 * H is made of the last history_size pairs of steps s and changes of the gradient y (two loops over 2 * history_size
 * times the parameters, in f32), as far as a line search for the strong Wolfe conditions (1e-4, 0.9) says, which first
 * tries lr (of the very first direction lr * min(1, 1/|g|)) and then others: torch's users give lr 1. The step ends
 * when max_eval evaluations were made, when no derivative is above tolerance_grad, or when neither loss nor weights
 * change by more than tolerance_change. Take all the data as one batch, or large ones: noise in the loss misleads a
 * line search. Pairs are only ever made of gradients of the same batch. Micro-batches are kept, as each is run again at
 * every point tried: dropout keys are inputs and stay as they are within a step; running statistics of batch norms take
 * part in each evaluation, and grd_step_read gives what was read by the last one. A point whose loss or gradient is not
 * finite counts as too far. All parameters are trained alike: no groups but frozen ones, no clip_norm, weight_decay or
 * ema_decay. */
GRD_API grd_optimizer grd_lbfgs(double lr);

/* Parameters whose path matches `match`: a single star stands for any part of one name, two stars for any number of
 * names. The first matching group counts; parameters that no group matches are trained by the step's own optimizer. */
typedef struct grd_group {
    const char *match;
    grd_optimizer optimizer; /* kind NONE: the step's own */
    double lr_scale;         /* 0 means 1 */
    double weight_decay;     /* with set_decay: for all parameters of the group, whatever their dimensions */
    bool set_decay;
    bool frozen; /* not trained */
} grd_group;

typedef struct grd_step grd_step;

typedef struct grd_step_options {
    size_t size;
    double clip_norm;   /* scale gradients so that their global norm is at most this; 0: no clipping */
    int32_t accumulate; /* micro-batches a step; 0 means 1. Their losses and gradients are averaged */
    bool sum_micro;     /* the micro-batches' losses are parts of one sum already (normalised by the global batch) */
    const char *train;  /* train only parameters matching this pattern; NULL: all that are not frozen */
    const grd_group *groups;
    int32_t group_count;
    double ema_decay;    /* keep an exponential moving average of the weights after each step, divided by the sum of its
                            weights, 1 - decay^steps; 0: none */
    bool skip_nonfinite; /* a step whose gradient is not finite is left out instead of being an error */
    bool statistics;     /* prepare for grd_step_measure */
    const grd_tensor *outputs; /* further values to be readable after a micro-batch */
    int32_t output_count;
    grd_program_options program; /* recompute, passes to disable, dumps. With .f16 the loss is scaled: by 65536, halved
                                    (down to 1) where a gradient is not finite, and that step left out; doubled after
                                    2000 good steps on end. The scale is a moment, "loss_scale/scale" */
} grd_step_options;

typedef struct grd_metrics {
    double loss;         /* of the micro-batches of this step so far: their mean (or sum, see sum_micro) */
    double grad_norm;    /* global norm before clipping; set when updated */
    int64_t step;        /* steps done */
    bool updated;        /* this call finished a step */
    bool skipped;        /* its update was left out: the gradient was not finite */
    double loss_scale;   /* in f16: of the next step; others 0 */
    int64_t evaluations; /* LBFGS: of loss and gradient in this step; others 0 */
    bool converged;      /* LBFGS: by its tolerances, or by rounding, the step found nothing that is worth changing */
} grd_metrics;

/* Prepares training of `loss` (a scalar): gradients, optimizer state and all memory. NULL on error, which the graph
 * keeps. The step is owned by the model, and needs the loss's graph: once that is freed, calls return GRD_E_STATE. */
GRD_API grd_step *grd_step_new_with(grd_tensor loss, grd_optimizer optimizer, const grd_step_options *options);
#define grd_step_new(...) GRD_STEP_NEW_(__VA_ARGS__, .size = sizeof(grd_step_options))
#define GRD_STEP_NEW_(loss, optimizer, ...) grd_step_new_with(loss, optimizer, &(grd_step_options){__VA_ARGS__})
GRD_API void grd_step_free(grd_step *step);
/* Copies `data` into an input of the loss's graph. */
GRD_API grd_status grd_step_feed(grd_step *step, grd_tensor input, const void *data);
/* Runs one micro-batch; every `accumulate`-th call also updates the weights. A gradient that is not finite leaves
 * weights, moments and states as they were and returns GRD_E_NUMERIC, naming the first op that produced it, unless
 * skip_nonfinite is set. GRD_E_STATE, with its name, while an input that the loss needs was never fed.
 *
 * With `metrics` the call waits until the device has done it. With NULL it only asks a GPU for the work, which may then
 * be GRD_STEPS_AHEAD steps behind, and grd_step_result tells of each. The device itself decides to leave all alone,
 * in the step that was not finite and in all that were asked for after it; a later call returns the error, and the step
 * then stands before that step: grd_step_count tells which. */
GRD_API grd_status grd_step_run(grd_step *step, grd_metrics *metrics);

#define GRD_STEPS_AHEAD 4

/* Steps that were run without metrics and whose results have not been taken; at most GRD_STEPS_AHEAD, as the oldest
 * result is lost where another step begins. */
GRD_API int32_t grd_step_pending(const grd_step *step);
/* Takes the oldest of these: metrics->updated is false where there is none, or, without `wait`, none yet. Returns the
 * error of a step that was not finite with its metrics, as grd_step_run does. */
GRD_API grd_status grd_step_result(grd_step *step, bool wait, grd_metrics *metrics);
/* The next update is measured: the same bits, but slower, as each weight is read once more and one parameter at a time
 * is held twice. Needs .statistics. Allocates nothing. */
GRD_API grd_status grd_step_measure(grd_step *step);

/* Root mean squares over the elements of one trained parameter, in the last step. */
typedef struct grd_parameter_statistics {
    const char *path;    /* the model's */
    int64_t count;       /* elements */
    double weight_rms;   /* before the update */
    double gradient_rms; /* before clipping */
    double update_rms;   /* of what the update changed, weight decay included; 0 when it was skipped */
} grd_parameter_statistics;

/* Statistics of trained parameter `index`, from 0 in the order of storage; false after the last one, or when the last
 * update was not measured. */
GRD_API bool grd_step_statistics_at(const grd_step *step, int32_t index, grd_parameter_statistics *statistics);
/* Multiplies every group's base rate from the next step on (schedules: see grd_schedule). */
GRD_API void grd_step_set_lr(grd_step *step, double factor);
GRD_API grd_status grd_step_read(grd_step *step, grd_tensor output, void *data);
GRD_API const grd_error *grd_step_error(const grd_step *step);
/* Steps done so far, those that a GPU still works on among them: what bias corrections depend on. Set after loading a
 * checkpoint. */
GRD_API int64_t grd_step_count(const grd_step *step);
GRD_API void grd_step_set_count(grd_step *step, int64_t count);
/* Swaps the weights with their moving average (ema_decay), for evaluation, and back; states that training changes
 * (batch norm's) too. Between the two, grd_step_run refuses with GRD_E_STATE. Before the first step there is no average
 * and nothing moves. */
GRD_API grd_status grd_step_swap_ema(grd_step *step);

/* ---- what a plan needs ---- */

typedef struct grd_plan_report {
    int64_t parameters; /* numbers trained or frozen in the model */
    size_t weights_bytes, gradients_bytes, optimizer_bytes, state_bytes;
    size_t activations_bytes; /* arena without workspace at its peak, see peak_bytes */
    size_t workspace_bytes;   /* the largest scratch of one launch */
    size_t inputs_bytes;      /* inputs, constants and outputs */
    size_t arena_bytes;       /* activations and workspace, as laid out */
    size_t peak_bytes;        /* all of the above at once */
    double flops_per_step, bytes_per_step;
    double predicted_step_ms; /* on the engine's device; 0 where its rates are unknown */
    int64_t launches;         /* entries of the launch lists, of one micro-batch and of the update */
    int64_t device_calls;     /* kernels, calls of libraries, fills and copies that these make of a GPU; 0: not known */
    size_t device_bytes;      /* of the device's memory, that a plan may fill (an estimate); 0: not known */
    const char *kernels;      /* whose kernels these are: "cpu", "cuda", "ref" */
} grd_plan_report;

GRD_API grd_status grd_step_report(grd_step *step, grd_plan_report *report);
/* The most bytes of the arena that launches have touched so far; equals arena_bytes after a step. */
GRD_API size_t grd_step_high_water(const grd_step *step);
/* Times each launch from now on (or stops). */
GRD_API grd_status grd_step_profile(grd_step *step, bool on);
/* Writes the profile: one line an op kind to `stream` (time, share, FLOP/s, bytes/s), and a Chrome trace to
 * `trace_path` unless NULL. */
GRD_API grd_status grd_step_profile_write(grd_step *step, FILE *stream, const char *trace_path);

/* ---- schedules: factors for grd_step_set_lr ---- */

typedef enum grd_schedule_kind {
    GRD_SCHEDULE_CONSTANT = 0,
    GRD_SCHEDULE_LINEAR,
    GRD_SCHEDULE_COSINE,
    GRD_SCHEDULE_WSD
} grd_schedule_kind;

typedef struct grd_schedule {
    grd_schedule_kind kind;
    int64_t warmup;    /* steps: (s + 1) / warmup */
    double min_factor; /* where LINEAR and COSINE end, and WSD after its decay */
    double decay_part; /* WSD: the last part of the run in which the rate falls linearly; 0 means 0.2 */
} grd_schedule;

/* The factor at step `step` (from 0) when `progress` (0 to 1) of what follows the warm-up is done. */
GRD_API double grd_schedule_factor(const grd_schedule *schedule, int64_t step, double progress);

#ifdef __cplusplus
}
#endif
#endif
