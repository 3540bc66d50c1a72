/* op.h - what an op is. One grdi_op per op stands in its family's file under engine/ops and is listed in
 * engine/ops/ops.def; everything else (typed calls, by-name calls, autodiff, planning, tests, benchmarks) reads it from
 * there. */
#ifndef GRDI_OP_H
#define GRDI_OP_H

#include <gradus/graph.h>

#ifdef __cplusplus
extern "C" {
#endif

#define GRDI_INPUTS_MAX 16
#define GRDI_OUTPUTS_MAX GRD_OUTPUTS_MAX
#define GRDI_ATTRS_MAX 12

/* What is known of a value before anything runs. */
typedef struct grdi_type {
    grd_dtype dtype;
    grd_dims dims;
} grdi_type;

/* ---- attributes: nodes hold all of their op's attributes, in the op's order ---- */

int64_t grdi_attr_int(const grd_attr *attrs, const char *name); /* INT, BOOL and DTYPE */
double grdi_attr_float(const grd_attr *attrs, const char *name);
const grd_attr *grdi_attr_ints(const grd_attr *attrs, const char *name);

/* ---- shape rule ---- */

typedef struct grdi_infer {
    const struct grdi_op *op;
    const grd_attr *attrs; /* ends with name NULL */
    int32_t input_count;
    const grdi_type *in;
    int32_t output_count; /* preset to op->outputs; a rule may change it */
    grdi_type out[GRDI_OUTPUTS_MAX];
    grd_status status;
    char message[GRD_MESSAGE_MAX]; /* without scope and op name, which the caller puts in front */
} grdi_infer;

/* Notes what is wrong and returns false: `return grdi_infer_fail(c, GRD_E_SHAPE, "inner sizes differ: %s x %s", ...)`.
 */
bool grdi_infer_fail(grdi_infer *c, grd_status status, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Turns a possibly negative axis into 0..rank-1; -1 and an error when out of range. */
int32_t grdi_infer_axis(grdi_infer *c, int64_t axis, int32_t rank);
/* NumPy broadcasting of two shapes; false and an error when they do not fit. */
bool grdi_infer_broadcast(grdi_infer *c, grd_dims a, grd_dims b, grd_dims *result);
bool grdi_infer_float(grdi_infer *c, int32_t input); /* error unless input has a float dtype */
bool grdi_infer_same_dtype(grdi_infer *c, int32_t input, int32_t other);

/* ---- gradient rule ---- */

typedef struct grdi_gradient {
    grd_graph *graph;
    const grd_attr *attrs;
    int32_t input_count, output_count;
    const grd_tensor *in;
    const grd_tensor *out;      /* the node's outputs */
    const grd_tensor *grad_out; /* by output; node NULL where no gradient arrives */
    const bool *need;           /* by input: whether its gradient is wanted */
    grd_tensor *grad_in;        /* by input: the rule's answer; node NULL (the preset) means zero */
    bool through_compose;       /* set by a rule instead of answering: differentiate `compose` this time */
} grdi_gradient;

/* The gradient arriving at `output`, or zeros of its shape. */
grd_tensor grdi_grad_out(const grdi_gradient *g, int32_t output);
/* Sums a broadcast gradient back to the shape of `like` (identity where shapes agree). */
grd_tensor grdi_sum_to_like(grd_tensor gradient, grd_tensor like);

/* ---- compose ---- */

typedef struct grdi_compose {
    grd_graph *graph;
    const grd_attr *attrs;
    int32_t input_count;
    const grd_tensor *in;
    uint64_t path_hash; /* of the node composed: random ops inside must use it */
    grd_tensor out[GRDI_OUTPUTS_MAX];
} grdi_compose;

/* ---- reference: everything row-major and in double (integers and bools too: exact up to 2^53) ---- */

typedef struct grdi_reference {
    const struct grdi_op *op;
    const grd_attr *attrs;
    int32_t input_count, output_count;
    const grdi_type *in_type;
    const grdi_type *out_type;
    const double *const *in;
    double *const *out;  /* NULL for an output that nobody uses, but see GRDI_OP_WHOLE */
    uint64_t path_hash;  /* hash of the node's path, the key of random ops */
    const void *literal; /* data of a constant node, else NULL */
} grdi_reference;

/* ---- views: outputs that are their input seen with other strides (in elements) ---- */

typedef struct grdi_strides {
    int64_t stride[GRD_RANK_MAX];
    int64_t offset; /* elements from the start of the buffer */
} grdi_strides;

/* ---- samples: what tests and benchmarks run an op over ---- */

/* Inputs are written "f32[4,7]" (values in -2..2), "f32[4,7] 0.1..3" (in that range), "i32[5] 0..6" (integers, both
 * ends included), "i32[3] =0,4,9" (these values, the last one repeated if too few), "bool[3]". "@attention:1(1,2,3)
 * causal=true" is output 1 of op attention for inputs 1, 2 and 3 of this sample: what a backward op is given of its
 * forward op. A dtype of f32 is replaced by f64 for the double-precision runs. Attributes: "axis=1 keep=true dims=2,3
 * value=0.5 dtype=bf16". */
typedef struct grdi_sample {
    const char *in[GRDI_INPUTS_MAX];
    const char *attrs;
    const char *bad;  /* a piece of the error message expected of the shape rule; NULL: a good sample */
    bool no_gradient; /* do not compare with finite differences here (a kink, ties), say why beside it */
    bool large;       /* for benchmarks; tests skip gradients and double runs */
} grdi_sample;

typedef enum grdi_op_flags {
    GRDI_OP_SOURCE = 1,       /* input, parameter, state, constant: nothing runs */
    GRDI_OP_VIEW = 2,         /* `view` may express output 0 as a view of input 0 */
    GRDI_OP_MAP = 4,          /* element by element with broadcasting: has `scalar`, can join fused chains */
    GRDI_OP_RANDOM = 8,       /* depends on the node's path hash */
    GRDI_OP_EFFECT = 16,      /* kept even when nobody uses its outputs (assign) */
    GRDI_OP_NO_GRADIENT = 32, /* zero gradient by definition (comparison, argmax, stop_gradient, rounding) */
    GRDI_OP_MATMUL = 64,      /* its arithmetic runs at the matmul rate (cost model) */
    GRDI_OP_FOLLOWS = 128,    /* bf16 precision: f32 outputs are stored in bf16 where an f32 input is */
    GRDI_OP_MOVES = 256,      /* it computes nothing, so that it can be done on values rounded to bf16 as they lie */
    GRDI_OP_WHOLE = 512       /* the reference builds outputs on one another: it gets all of them, used or not */
} grdi_op_flags;

typedef struct grdi_op {
    const char *name;
    int32_t inputs, inputs_max; /* least and most; inputs_max 0 means: exactly `inputs` */
    int32_t outputs;            /* 0 means 1 */
    uint32_t flags;
    grd_attr attrs[GRDI_ATTRS_MAX]; /* name, kind, default; ends with name NULL */

    bool (*shape)(grdi_infer *c);               /* required */
    void (*gradient)(grdi_gradient *g);         /* NULL: through compose, else the op has none */
    void (*compose)(grdi_compose *c);           /* the same from simpler ops; NULL for a simple op */
    void (*reference)(const grdi_reference *r); /* required but for sources; MAP ops get theirs from `scalar` */
    double (*scalar)(const double *x, const grd_attr *attrs); /* MAP: one element */
    bool (*view)(const grdi_type *in, const grdi_strides *in_strides, const grd_attr *attrs, const grdi_type *out,
                 grdi_strides *out_strides); /* VIEW: false where a copy is needed */
    double (*flops)(const grdi_type *in, int32_t input_count, const grdi_type *out,
                    const grd_attr *attrs); /* NULL: elements of output 0 */
    double (*bytes)(const grdi_type *in, int32_t input_count, const grdi_type *out,
                    const grd_attr *attrs); /* NULL: inputs + outputs once */

    uint32_t
        inplace[GRDI_OUTPUTS_MAX]; /* by output: bit i set if it may be written over input i (same bytes, same place) */
    uint32_t bf16_in;  /* bf16 precision: bit i: input i is rounded to bf16, since products run faster on it */
    uint32_t bf16_out; /* bit o: output o is an activation or a gradient of one, and stored in bf16. Without any of
                          these and GRDI_OP_FOLLOWS an op's results stay in f32; arithmetic is in f32 always */
    uint32_t f16_not;  /* bit o: not stored in f16, though in bf16: a gradient made before the loss is scaled */
    double tolerance; /* relative, f32 kernels against the reference; 0: 1e-6 per element-wise op rounding. Say why
                         beside it */
    double tolerance_bf16; /* where operands are bf16 and kernels round to it what goes from one product to the next */
    const grdi_sample *samples; /* ends with in[0] NULL and attrs NULL */
} grdi_op;

/* The op of that name or NULL; all ops by index (engine/ops/table.c). */
const grdi_op *grdi_op_find(const char *name);
const grdi_op *grdi_op_at(int32_t index);
int32_t grdi_op_total(void);

/* ---- building nodes (for the typed calls in engine/ops) ---- */

/* Emits a node and returns its first output; `graph` may be NULL when there is an input. Poison in, poison out. */
grd_tensor grdi_emit(grd_graph *graph, const grdi_op *op, const grd_tensor *in, int32_t input_count,
                     const grd_attr *attrs, int32_t attr_count, grd_tensor *outputs);

#define GRDI_LIST(type, ...) (type[]){__VA_ARGS__}, (int32_t)(sizeof((type[]){__VA_ARGS__}) / sizeof(type))
/* grdi_emit1(&op, {x, y}) without attributes; see uses in engine/ops. */
#define GRDI_EMIT(op, ...) grdi_emit(NULL, op, GRDI_LIST(grd_tensor, __VA_ARGS__), NULL, 0, NULL)
/* GRDI_EMIT_ATTRS(&op, GRDI_LIST(grd_attr, GRD_INT("axis", 1)), x, y) */
#define GRDI_EMIT_ATTRS(op, attrs_and_count, ...)                                                                      \
    grdi_emit(NULL, op, GRDI_LIST(grd_tensor, __VA_ARGS__), attrs_and_count, NULL)

#ifdef __cplusplus
}
#endif

#endif
