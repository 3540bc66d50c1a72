/* check.h - a preflight: silent mistakes of models, training and data are looked for before a run is trusted.
 *
 * Each check gives one result: passed or not, the figures that it went by, and one sentence on what to look at. A check
 * that does not apply gives none. docs/guide/check.md says what each one does and which mistakes it has been seen to
 * find. */
#ifndef GRADUS_CHECK_H
#define GRADUS_CHECK_H

#include <gradus/run.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct grd_check_result {
    const char *name; /* "initial_loss", "causality", ... */
    bool passed;
    const char *evidence; /* figures; valid during the call, as are the others */
    const char *look_at;  /* what to look at; "" where it passed */
} grd_check_result;

typedef struct grd_check_options {
    size_t size;
    const char *device; /* NULL: auto */
    int32_t threads;    /* 0: as many as there are cores */
    void (*on_result)(void *context, const grd_check_result *result);
    void (*on_note)(void *context, const char *text); /* what was left out, and why; may be NULL */
    void *context;
    const volatile int *stop; /* becomes non-zero when the checks are to end early; may be NULL */
} grd_check_options;

/* Checks what a run with these settings would train: its data, its model and its first steps, with smaller batches
 * where these suffice. Nothing is written but to a temporary folder ($TMPDIR or /tmp), which is removed. *found becomes
 * the number of checks that did not pass. Settings are completed as by grd_settings_resolve(). GRD_E_STOPPED after
 * `stop`; what keeps a run from starting is an error here, too. */
GRD_API grd_status grd_check_settings(grd_settings *settings, const grd_check_options *options, int32_t *found,
                                      grd_error *error);

/* ---- a model of your own ---- */

/* The values of a graph that the checks speak of. Poison (zeroed) where there is none. */
typedef struct grd_check_tensors {
    grd_tensor input;  /* what the model looks at: f32 [B,...] or ids i32 [B,...], a grd_input() */
    grd_tensor target; /* what it should say: f32 or i32 [B,...], a grd_input() */
    grd_tensor output; /* what it says, f32 [B,...]; of a causal model [B,T,...]. Needed where not `training` */
    grd_tensor loss;   /* one f32. Needed where `training` */
} grd_check_tensors;

typedef struct grd_check_model {
    size_t size;
    /* Builds the model in `graph`, an empty one of a new model, and says which values are which. It is called several
     * times, for models of their own: same calls, same parameters. `training`: as it is trained, with its loss; else as
     * it is evaluated. Mistakes stay in the graph (see graph.h) and become the call's error. */
    void (*build)(void *context, grd_graph *graph, bool training, grd_check_tensors *tensors);
    /* Writes training batch `index` (0, 1, ...): the input and target of the shapes built, row-major. The same index
     * must give the same values. */
    grd_status (*batch)(void *context, int64_t index, void *input, void *target, grd_error *error);
    void *context;
    grd_optimizer optimizer; /* kind NONE: grd_adamw(1e-3) */
    double clip_norm;        /* 0: no clipping */
    const grd_group *groups;
    int32_t group_count;
    bool causal; /* output [:,t] may depend on input [:,0..t] alone */
    /* What the loss should be before training. 0: found from the shapes where they tell (targets i32 and an output of
     * one more axis: log of its size; targets f32: their mean square, which is 1 where they are standardised);
     * negative: not known. */
    double initial_loss;
    /* Parameters that the loss must give no gradient, as a pattern ("teacher/" and two stars); NULL: none. All others
     * must get one. */
    const char *constant;
    bool
        cuts_are_meant; /* values behind grd_stop_gradient count as constants; else a loss that follows them is found */
    /* Registers ops of your own (see custom.h) with the engine that the models are built on, before the first of them;
     * NULL: there are none. */
    grd_status (*register_ops)(void *context, grd_engine *engine);
} grd_check_model;

/* Checks a model of your own: loss before training, one batch learnt by heart, inputs that matter, gradients against
 * differences in double precision, causality, independence of samples, layers, units that never fire, learning rate,
 * targets that go with their inputs (of models that are not causal, from 1,000 samples on, of at most 256 batches),
 * same bits twice and after a resume. Nothing is written. Models are made on an engine of the call's own. Errors are
 * those of building and running the model. */
GRD_API grd_status grd_check_graph(const grd_check_model *model, const grd_check_options *options, int32_t *found,
                                   grd_error *error);

#ifdef __cplusplus
}
#endif
#endif
