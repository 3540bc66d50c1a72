/* graph.h - engines, models, graphs and the values in them.
 *
 * Ownership: an engine owns its models, a model its parameters and graphs, a graph its programs and steps. Closing or
 * freeing a parent frees its children. Building is sticky: a call that fails returns the poison tensor (node NULL) and
 * leaves the first error, with its scope path and shapes, in the graph; every call given a poison tensor returns
 * poison, so calls nest without checks and `grd_graph_error()` is read once at the end. */
#ifndef GRADUS_GRAPH_H
#define GRADUS_GRAPH_H

#include <gradus/base.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct grd_engine grd_engine;
typedef struct grd_model grd_model;
typedef struct grd_graph grd_graph;

/* One value of a graph: an output of a node. Passed by value; node NULL is the poison tensor. */
typedef struct grd_tensor {
    struct grdi_node *node;
    int32_t output;
} grd_tensor;

/* ---- engine ---- */

typedef struct grd_engine_options {
    size_t size;     /* set by the macro */
    int32_t threads; /* 0: one for each core that this process may run on */
    bool tf32;       /* a GPU makes products of f32 in tf32; as "cuda:tf32" does. No effect elsewhere */
    /* A GPU's libraries may add in an order that differs from run to run, which is faster: gradients of attention and
     * of convolutions; as "cuda:nondeterministic" does. No effect elsewhere. Without it a run has the same bits again.
     */
    bool nondeterministic;
} grd_engine_options;

/* Opens a device: "auto", "cpu", "ref" (double-precision references) or "null:PROFILE" (plans without a device).
 * Returns NULL only when out of memory; a device that cannot be had leaves its error in the engine, and all that is
 * built on it fails. */
GRD_API grd_engine *grd_engine_open_with(const char *device, const grd_engine_options *options);
#define grd_engine_open(...) GRD_ENGINE_OPEN_(__VA_ARGS__, .size = sizeof(grd_engine_options))
#define GRD_ENGINE_OPEN_(device, ...) grd_engine_open_with(device, &(grd_engine_options){__VA_ARGS__})
/* The first error of the engine or of anything it owns; status GRD_OK if there is none. Valid until the engine is
 * closed. */
GRD_API const grd_error *grd_engine_error(const grd_engine *engine);
/* Prints that error to `stream`, one line; prints nothing when there is none. */
GRD_API void grd_engine_report(const grd_engine *engine, FILE *stream);
GRD_API void grd_engine_close(grd_engine *engine);
/* "cpu", "ref", ... and the device kind that bit-identical results are promised for (e.g. "cpu avx2 threads=2
 * onednn-2.6.3"). */
GRD_API const char *grd_engine_device(const grd_engine *engine);
GRD_API const char *grd_engine_device_kind(const grd_engine *engine);

/* ---- model and graph ---- */

/* A model: parameters and states by scope path. Initial values are a pure function of (seed, path). */
GRD_API grd_model *grd_model_new(grd_engine *engine, uint64_t seed);
GRD_API void grd_model_free(grd_model *model);
/* What parameters of two or more dimensions that are made from now on are kept in: f32 (the preset) or bf16, half the
 * memory. Graphs see them as f32 all the same; vectors (biases, gains of norms) stay in f32. An optimizer rounds new
 * weights to bf16 stochastically: up or down at random, so that they are right on average (ops_optimizer.h); initial
 * values are rounded to nearest. GRD_E_ARGUMENT: another dtype, or no model. */
GRD_API grd_status grd_model_set_weight_dtype(grd_model *model, grd_dtype dtype);
GRD_API grd_graph *grd_graph_new(grd_model *model);
/* Frees the graph, its programs and what its steps need; those steps can then only be freed. */
GRD_API void grd_graph_free(grd_graph *graph);
/* The first building error; status GRD_OK if there is none. */
GRD_API const grd_error *grd_graph_error(const grd_graph *graph);

/* Enters or leaves a scope: names and errors inside are prefixed with "name/". The name is a printf format. */
GRD_API void grd_scope_push(grd_graph *graph, const char *format, ...) GRD_PRINTF(2, 3);
GRD_API void grd_scope_pop(grd_graph *graph);
/* Nodes built between begin and end form one recompute segment: where a plan is told to recompute, backward rebuilds
 * the values inside from those that enter it. Segments do not nest. */
GRD_API void grd_segment_begin(grd_graph *graph);
GRD_API void grd_segment_end(grd_graph *graph);

/* ---- sources ---- */

/* A value that is fed before a run. One graph has each name once. Here and in all other calls: at most GRD_RANK_MAX
 * dimensions of at least 1, and at most 2^48 elements. */
GRD_API grd_tensor grd_input(grd_graph *graph, const char *name, grd_dtype dtype, grd_dims dims);
/* A value fixed when the graph is built; `data` (row-major, of that dtype) is copied. */
GRD_API grd_tensor grd_constant(grd_graph *graph, grd_dtype dtype, grd_dims dims, const void *data);

typedef enum grd_init {
    GRD_INIT_DEFAULT =
        0, /* uniform in +-1/sqrt(fan-in), fan-in being all dimensions but the first (PyTorch's nn.Linear) */
    GRD_INIT_ZEROS,
    GRD_INIT_ONES,
    GRD_INIT_NORMAL, /* mean 0, standard deviation .scale */
    GRD_INIT_UNIFORM /* in [-scale, scale) */
} grd_init;

typedef struct grd_parameter_options {
    size_t size;
    grd_init init;
    double scale;   /* for NORMAL and UNIFORM */
    bool tie;       /* the path exists already in this graph and is meant: use that parameter again */
    int32_t blocks; /* the rows are that many matrices side by side (q, k, v): Muon takes each by itself; 0 means 1 */
    bool frozen;    /* not trained by any step */
} grd_parameter_options;

/* A trained value named "scope/name", f32 (master weights). In a second graph of the same model the same path and shape
 * give the same parameter; in one graph a second use is an error unless `.tie`. */
GRD_API grd_tensor grd_parameter_with(grd_graph *graph, const char *name, grd_dims dims,
                                      const grd_parameter_options *options);
#define grd_parameter(...) GRD_PARAMETER_(__VA_ARGS__, .size = sizeof(grd_parameter_options))
#define GRD_PARAMETER_(graph, name, dims, ...)                                                                         \
    grd_parameter_with(graph, name, dims, &(grd_parameter_options){__VA_ARGS__})

/* A value that lives from run to run and is not trained (running statistics, caches, EMA); starts as zeros. */
GRD_API grd_tensor grd_state(grd_graph *graph, const char *name, grd_dtype dtype, grd_dims dims);
/* The same in f32, starting as ones. */
GRD_API grd_tensor grd_state_of_ones(grd_graph *graph, const char *name, grd_dims dims);
/* After each run of a program that contains `state`, it holds `value` (same dtype and shape). Reads of `state` in that
 * run see the value from before. Returns the assigned value. */
GRD_API grd_tensor grd_assign(grd_tensor state, grd_tensor value);

/* ---- looking at values ---- */

GRD_API bool grd_is_poison(grd_tensor tensor);
GRD_API grd_graph *grd_tensor_graph(grd_tensor tensor); /* NULL for poison */
GRD_API grd_dtype grd_tensor_dtype(grd_tensor tensor);  /* GRD_F32 for poison */
GRD_API grd_dims grd_tensor_dims(grd_tensor tensor);    /* rank 0 for poison */
GRD_API int64_t grd_dim(grd_tensor tensor,
                        int32_t axis); /* negative axes count from the end; -1 if there is no such axis */

/* ---- ops by name ---- */

typedef enum grd_attr_kind { GRD_ATTR_INT, GRD_ATTR_FLOAT, GRD_ATTR_BOOL, GRD_ATTR_DTYPE, GRD_ATTR_INTS } grd_attr_kind;

/* One attribute of an op. INT, BOOL and DTYPE use `i`, FLOAT uses `f`, INTS uses `ints[0..count)`, copied by the call.
 */
typedef struct grd_attr {
    const char *name;
    grd_attr_kind kind;
    int32_t count;
    int64_t i;
    double f;
    const int64_t *ints;
} grd_attr;

/* Shorthands for attribute lists: (grd_attr[]){GRD_INT("axis", 1), GRD_FLAG("keep", true)}. */
#define GRD_INT(attr_name, value)                                                                                      \
    {                                                                                                                  \
        .name = (attr_name), .kind = GRD_ATTR_INT, .i = (value)                                                        \
    }
#define GRD_FLOAT(attr_name, value)                                                                                    \
    {                                                                                                                  \
        .name = (attr_name), .kind = GRD_ATTR_FLOAT, .f = (value)                                                      \
    }
#define GRD_FLAG(attr_name, value)                                                                                     \
    {                                                                                                                  \
        .name = (attr_name), .kind = GRD_ATTR_BOOL, .i = (value)                                                       \
    }
#define GRD_TYPE(attr_name, value)                                                                                     \
    {                                                                                                                  \
        .name = (attr_name), .kind = GRD_ATTR_DTYPE, .i = (value)                                                      \
    }
#define GRD_INTS(attr_name, values, n)                                                                                 \
    {                                                                                                                  \
        .name = (attr_name), .kind = GRD_ATTR_INTS, .count = (n), .ints = (values)                                     \
    }

#define GRD_OUTPUTS_MAX 8
/* Any op by its name: in the op table, or registered (custom.h). Sources ("input", "constant", "parameter", "state")
 * have calls of their own instead. Attributes not given take their defaults; an unknown op, attribute or wrong kind
 * is an error of the graph. Writes all outputs to `outputs` (room for GRD_OUTPUTS_MAX; may be NULL) and returns the
 * first one. */
GRD_API grd_tensor grd_call(grd_graph *graph, const char *op, const grd_tensor *inputs, int32_t input_count,
                            const grd_attr *attrs, int32_t attr_count, grd_tensor *outputs);
/* The op table: how many ops there are and their names, for tools and bindings. */
GRD_API int32_t grd_op_count(void);
GRD_API const char *grd_op_name(int32_t index);

/* ---- gradients ---- */

/* The gradient of scalar `loss` by `x`, any tensor it depends on: shape and dtype of x; zeros where loss does not
 * depend on x. It is built from ordinary nodes, so it can be differentiated again. */
GRD_API grd_tensor grd_grad(grd_tensor loss, grd_tensor x);
/* Gradients of the sum of `losses` by each of `wrt`, in one sweep; gradients[i] belongs to wrt[i]. */
GRD_API grd_status grd_gradients(const grd_tensor *losses, int32_t loss_count, const grd_tensor *wrt, int32_t wrt_count,
                                 grd_tensor *gradients);

/* ---- running ---- */

typedef struct grd_program grd_program;

typedef struct grd_program_options {
    size_t size;
    const char *disable; /* comma-separated names of passes to leave out, e.g. "fuse,recompute" */
    const char *dump;    /* folder for graphs after each pass (DOT and JSON); NULL: none */
    bool recompute;      /* recompute the segments in backward instead of keeping their values */
    bool bf16;           /* matmul operands and stored activations in bf16, sums in f32 */
    bool f16;            /* the same in f16 (and not in bf16): a step scales its loss then, see grd_step_options */
} grd_program_options;

/* Compiles what `outputs` need. All memory and all primitives are prepared here; a run allocates nothing. NULL on error
 * (kept by the graph). Outputs stay readable until the next run. */
GRD_API grd_program *grd_program_new_with(const grd_tensor *outputs, int32_t count, const grd_program_options *options);
#define grd_program_new(...) GRD_PROGRAM_NEW_(__VA_ARGS__, .size = sizeof(grd_program_options))
#define GRD_PROGRAM_NEW_(outputs, count, ...) grd_program_new_with(outputs, count, &(grd_program_options){__VA_ARGS__})
GRD_API void grd_program_free(grd_program *program);
/* Copies `data` (row-major, the input's dtype and shape) into the input, where it stays until it is fed again. */
GRD_API grd_status grd_program_feed(grd_program *program, grd_tensor input, const void *data);
/* GRD_E_STATE, with the input's name, while one that the outputs need was never fed. */
GRD_API grd_status grd_program_run(grd_program *program);
/* Copies output `tensor` to `data`, row-major. GRD_E_STATE before the first run. */
GRD_API grd_status grd_program_read(grd_program *program, grd_tensor tensor, void *data);
GRD_API const grd_error *grd_program_error(const grd_program *program);

#ifdef __cplusplus
}
#endif
#endif
