/* custom.h - ops of your own: a definition makes an op that grd_call() reaches by name, as it does the built-in ones.
 *
 * A definition says what the shapes are, how to differentiate, and what the values are (in double precision, as plain
 * as the formula). With that the op builds, trains and can be differentiated again on any device that runs on the
 * host. A kernel for f32 is optional and only for speed. See docs/guide/ops.md. */
#ifndef GRADUS_CUSTOM_H
#define GRADUS_CUSTOM_H

#include <gradus/graph.h>

#ifdef __cplusplus
extern "C" {
#endif

#define GRD_INPUTS_MAX 16

/* What is known of a value before anything runs. */
typedef struct grd_type {
    grd_dtype dtype;
    grd_dims dims;
} grd_type;

/* What a shape rule is given and what it fills in. */
typedef struct grd_op_shape {
    void *context;         /* the definition's */
    const grd_attr *attrs; /* all of the op's, defaults filled in; read with grd_attr_int() and its siblings */
    int32_t input_count, output_count;
    const grd_type *in;
    grd_type out[GRD_OUTPUTS_MAX]; /* the rule's answer, output_count of them */
    grd_error error;               /* what does not fit, set with grd_fail(); scope and op name are put in front */
} grd_op_shape;

/* What a gradient rule is given and what it fills in. It builds graph nodes with the public calls, so that gradients
 * are planned like all else and can be differentiated again. */
typedef struct grd_op_gradient {
    void *context;
    const grd_attr *attrs;
    grd_graph *graph;
    int32_t input_count, output_count;
    const grd_tensor *in, *out;
    const grd_tensor *grad_out; /* by output, of its shape: the gradient that arrives; zeros where none does */
    const bool *need;           /* by input: whether its gradient is wanted */
    grd_tensor *grad_in;        /* by input: the rule's answer, dtype and shape of the input; left alone: zero */
} grd_op_gradient;

/* Values of a run, row-major. For reference() they are doubles whatever the dtypes, so integers are exact up to 2^53.
 * `out` of an output that nobody reads is NULL. */
typedef struct grd_op_reference {
    void *context;
    const grd_attr *attrs;
    int32_t input_count, output_count;
    const grd_type *in_type, *out_type;
    const double *const *in;
    double *const *out;
} grd_op_reference;

typedef struct grd_op_kernel {
    void *context;
    const grd_attr *attrs;
    int32_t input_count, output_count;
    const grd_type *in_type, *out_type;
    const float *const *in;
    float *const *out;
    int32_t threads; /* how many threads the engine was opened with; the kernel is called from one */
} grd_op_kernel;

typedef struct grd_op_definition {
    size_t size;                  /* sizeof(grd_op_definition) */
    const char *name;             /* [a-z0-9_]+, neither a built-in op's nor one registered before */
    int32_t inputs, inputs_max;   /* least and most, up to GRD_INPUTS_MAX; inputs_max 0: exactly `inputs` */
    int32_t outputs;              /* 0: 1 */
    const grd_attr *attrs;        /* name, kind and default of each attribute; up to 12 */
    int32_t attr_count;
    void *context;                /* handed to all four functions; must outlive the engine */
    bool no_gradient;             /* its gradient is zero by definition, as that of a comparison */
    void (*shape)(grd_op_shape *c);                   /* required */
    void (*gradient)(grd_op_gradient *g);             /* NULL without no_gradient: differentiating it is an error */
    void (*reference)(const grd_op_reference *r);     /* required */
    void (*kernel_f32)(const grd_op_kernel *k);       /* NULL: reference() runs, which is slow. Used on the CPU where
                                                         all inputs and outputs are f32 */
} grd_op_definition;

/* Adds an op to the engine, for all graphs of its models. `definition`, its name and its attributes are copied. Neither
 * reference() nor kernel_f32() may allocate: they run inside a step. Returns, and leaves in the engine,
 * GRD_E_ARGUMENT for a definition that does not hold together, GRD_E_MEMORY when out of memory. */
GRD_API grd_status grd_op_register(grd_engine *engine, const grd_op_definition *definition);

/* An attribute's value by its name; zero (NULL) where the op has none of that name. grd_attr_int() also reads BOOL and
 * DTYPE; grd_attr_ints() gives the attribute itself, with `ints` and `count`. */
GRD_API int64_t grd_attr_int(const grd_attr *attrs, const char *name);
GRD_API double grd_attr_float(const grd_attr *attrs, const char *name);
GRD_API const grd_attr *grd_attr_ints(const grd_attr *attrs, const char *name);

#ifdef __cplusplus
}
#endif
#endif
