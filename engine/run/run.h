/* run.h - programs: plans bound to memory, launched. */
#ifndef GRDI_RUN_H
#define GRDI_RUN_H

#include "plan/plan.h"

enum { GRDI_RUN_VARIANTS = 4 };

struct grd_program {
    grd_graph *graph; /* the user's, which owns this program */
    grdi_plan *plan;
    bool *fed;               /* by node of plan->graph: inputs that were written to */
    int32_t unfed;           /* inputs that were not */
    bool has_run;
    void *kept;              /* inputs, constants and outputs */
    const void *bound_arena; /* where the launches point; the arena may move when it grows */
    size_t high_water;       /* end of the highest byte of the arena that a launch was given */
    bool accumulating;       /* assigns of mode 2 add in this run */
    /* By variant of the run (accumulating, weights unchanged): how often it ran, and what a device that can has noted
     * down of it. */
    int32_t variant_runs[GRDI_RUN_VARIANTS];
    void *captured[GRDI_RUN_VARIANTS];
    int64_t weights_version; /* of the model, when this program last made its copies of weights; -1: never */
    grd_tensor *outputs;     /* as the user named them, beside plan->roots */
    int32_t output_count;
    double *launch_seconds; /* by launch, summed over profiled runs; NULL: not profiling */
    int64_t profiled_runs;
    grd_error error;
};

/* Compiles `outputs` and effects; see grd_program_new_with. `error` gets what goes wrong. */
grd_program *grdi_program_compile(grd_graph *graph, const grd_tensor *outputs, int32_t count,
                                  const grd_program_options *options, grd_error *error);
void grdi_program_destroy(void *program);
/* Where an input lies, to be written before a run: the program's input of the same name and type, which counts as fed
 * from then on. NULL if it has none. */
void *grdi_program_input(grd_program *program, const char *name, size_t *size_bytes);
/* Where an output lies on the device once the program has run; NULL if it is none of this program's. */
const void *grdi_program_output(const grd_program *program, grd_tensor tensor, size_t *size_bytes);
/* Starts or stops timing each launch. */
grd_status grdi_program_profile(grd_program *program, bool on);
/* Runs launch by launch and looks at every output: the first that holds NaN or infinity while its inputs were finite is
 * named in `text`. True if one was found. States change as in a run, weights do not. */
bool grdi_program_find_nonfinite(grd_program *program, char *text, size_t text_bytes);

/* algorithms.c: what a device chose by timing, from the user's cache folder and back to it. Failing does no harm. */
void grdi_engine_recall_algorithms(grd_engine *engine);
void grdi_engine_keep_algorithms(grd_engine *engine);

#endif
