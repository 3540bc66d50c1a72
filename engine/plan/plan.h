/* plan.h - a graph lowered to launches over buffers whose places are fixed: everything a run needs, known before it
 * starts. */
#ifndef GRDI_PLAN_H
#define GRDI_PLAN_H

#include "backend/backend.h"
#include "passes/pass.h"

/* Where a buffer lies. The arena is shared by all programs of a model and holds nothing between runs; the kept block
 * belongs to one program and holds its inputs, constants and outputs. */
typedef enum grdi_place { GRDI_IN_ARENA, GRDI_IN_KEPT, GRDI_IN_VARIABLE } grdi_place;

/* What a buffer is for, in reports. */
typedef enum grdi_class {
    GRDI_CLASS_WEIGHTS,
    GRDI_CLASS_GRADIENTS,
    GRDI_CLASS_OPTIMIZER,
    GRDI_CLASS_STATE,
    GRDI_CLASS_ACTIVATIONS,
    GRDI_CLASS_WORKSPACE,
    GRDI_CLASS_INPUTS,
    GRDI_CLASS_COUNT
} grdi_class;

typedef struct grdi_buffer {
    grdi_place place;
    grdi_class class;
    size_t size_bytes, offset_bytes; /* offset: in the arena or the kept block */
    int32_t first, last;             /* the launches between which it holds something (arena) */
    int32_t uses_left;               /* while lowering: edges that will still read it */
    grdi_variable *variable;
    const void *literal; /* of constants: copied in once */
    int32_t narrow_copy; /* of parameters: 1 + the buffer of a rounded copy; 0: none */
    int64_t copy_offset; /* where the copy begins there, in elements */
} grdi_buffer;

/* Where a value of the graph lies: a buffer and strides into it. */
typedef struct grdi_value {
    int32_t buffer;    /* -1: nowhere (yet) */
    grd_dtype dtype;   /* as it lies there: bf16 or f16 where the node says f32 and casts from it */
    grd_dtype rounded; /* bf16 or f16: lies there in f32, but counts as rounded to it; f32: as it lies */
    grdi_strides strides;
} grdi_value;

typedef struct grdi_launch {
    grdi_call call;
    const grdi_kernel *kernel;
    const grdi_node *node;
    grdi_value in[GRDI_INPUTS_MAX], out[GRDI_OUTPUTS_MAX];
    int32_t scratch;                      /* buffer or -1 */
    bool of_weights;                      /* copies a parameter to the kept block: done anew only when some changed */
    uint8_t accumulate[GRDI_OUTPUTS_MAX]; /* assign modes: 0 overwrite, 1 add, 2 add while the program accumulates */
    const grdi_node *sum; /* an add that the launch does as well, adding to operand sum_other; NULL: none */
    int32_t sum_other;
    bool based; /* that operand lies elsewhere, in `base` */
    grdi_value base;
    double flops, bytes;
    int32_t device_calls; /* that a run makes, where the device says so; 0: not known */
} grdi_launch;

typedef struct grdi_plan {
    grd_graph *graph;   /* after all passes; owned */
    grd_dtype narrow;   /* what the program's precision rounds to: bf16 or f16 */
    grdi_value *values; /* [node id * GRDI_OUTPUTS_MAX + output] */
    grdi_buffer *buffers;
    size_t buffer_count, buffer_capacity;
    size_t buffers_bytes; /* the sum of their sizes, at most GRDI_SIZES_MAX */
    grdi_launch *launches;
    size_t launch_count, launch_capacity;
    size_t arena_bytes, kept_bytes;
    size_t arena_floor_bytes; /* the largest sum of buffers alive at once: no order-preserving layout needs less */
    double flops, bytes, matmul_flops;
    bool writes_weights;
    grd_tensor *roots; /* the outputs, in plan->graph; as many as were asked for */
    int32_t root_count;
} grdi_plan;

/* Lowers `graph` (taken over, also on failure) for the engine's device. `narrow`: bf16 or f16, casts to which kernels
 * may make as they read and write. NULL with `error` set on failure. */
grdi_plan *grdi_plan_new(grd_engine *engine, grd_graph *graph, const grd_tensor *roots, int32_t root_count,
                         grd_dtype narrow, grd_error *error);
void grdi_plan_free(grdi_plan *plan);

/* lower.c: values, launches and buffers with their lifetimes. */
bool grdi_lower(grd_engine *engine, grdi_plan *plan, grd_error *error);
/* sums.c: what the launch adds its result to, where it makes an add as well. */
grd_tensor grdi_sum_operand(const grdi_launch *launch);
/* memory.c: offsets for buffers, smallest arena it can find; false when out of memory. */
bool grdi_place_buffers(grdi_plan *plan);
/* verify.c: no two live buffers overlap, nothing is read before it is written or after it is overwritten. */
bool grdi_verify_plan(const grdi_plan *plan, grd_error *error);
/* cost.c: the device's rate for a launch's arithmetic in FLOP/s. */
double grdi_arithmetic_rate(const grdi_launch *launch, const grdi_rates *rates);
double grdi_launch_seconds(const grdi_launch *launch, const grdi_rates *rates); /* that it should take */
/* What `runs` runs on end should take, and move, while the weights stay as they are: the first alone copies them. */
double grdi_plan_seconds(const grdi_plan *plan, const grdi_rates *rates, double runs);
double grdi_plan_bytes(const grdi_plan *plan, double runs);

static inline grdi_value *grdi_value_of(const grdi_plan *plan, grd_tensor t)
{
    return &plan->values[(size_t)t.node->id * GRDI_OUTPUTS_MAX + (size_t)t.output];
}

#endif
