/* cudnn_graph.h - for the files that describe calls to cuDNN: graphs of operations, and the plans that they become. */
#ifndef GRDI_CUDNN_GRAPH_H
#define GRDI_CUDNN_GRAPH_H

#include "lib/cudnn.h"

enum { GRDI_DNN_RANK_MAX = GRDI_WINDOW_AXES + 2, GRDI_DNN_OPERATIONS_MAX = 40, GRDI_DNN_VALUES_MAX = 4 };
/* Ids of tensors: of memory, by the place of their pointers (grdi_dnn_plan_bind); of numbers; of what is no memory. */
enum { GRDI_DNN_FIRST = 1, GRDI_DNN_FIRST_VALUE = 64, GRDI_DNN_FIRST_VIRTUAL = 128 };

struct grdi_dnn_plan {
    grdi_dnn *dnn;
    grdi_dnn_descriptor owned[320]; /* all that were made, in order */
    int32_t owned_count;
    grdi_dnn_descriptor graph[2], plan[2]; /* overwriting, adding to the result */
    grdi_dnn_descriptor pack[GRDI_DNN_PARTS_MAX];
    int32_t packs;
    int32_t made; /* of `owned`, before the packs */
    bool strict;  /* no tensor cores */
    size_t workspace_bytes, workspace_most;
    size_t bytes[GRDI_DNN_POINTERS]; /* that lie behind each pointer; 0: there is none */
    float value[GRDI_DNN_VALUES_MAX];
    int32_t values;
};

/* Descriptors are made one after the other; the first failure of a chain ends it. */
typedef struct grdi_dnn_builder {
    grdi_dnn *dnn;
    grdi_dnn_plan *plan;
    bool ok;
    int64_t virtuals;
    grdi_dnn_descriptor operations[GRDI_DNN_OPERATIONS_MAX];
    int32_t operation_count;
} grdi_dnn_builder;

grdi_dnn_descriptor grdi_dnn_make(grdi_dnn_builder *b, int type);
void grdi_dnn_set(grdi_dnn_builder *b, grdi_dnn_descriptor d, int name, int type, int64_t count, const void *elements);
void grdi_dnn_set_part(grdi_dnn_builder *b, grdi_dnn_descriptor d, int name, grdi_dnn_descriptor part);
grdi_dnn_descriptor grdi_dnn_finish(grdi_dnn_builder *b, grdi_dnn_descriptor d);

int grdi_dnn_data_type(grd_dtype dtype);
/* Memory behind pointer `place`, or, where that is negative, a value that is none. */
grdi_dnn_descriptor grdi_dnn_tensor(grdi_dnn_builder *b, int32_t place, int type, int32_t rank, const int64_t *dims,
                                    const int64_t *strides);
/* A number that the plan keeps, of `rank` axes. */
grdi_dnn_descriptor grdi_dnn_number(grdi_dnn_builder *b, float value, int32_t rank);
/* Finishes an operation, the graph's next. */
void grdi_dnn_operation(grdi_dnn_builder *b, grdi_dnn_descriptor operation);
/* An operation on elements, y = mode(x, second), or x where `chosen` holds, else `second`; NULL: none. `compute` is the
 * type that it is made in, `axis` that whose places are counted. */
typedef struct grdi_dnn_pointwise {
    int mode, compute;
    int64_t axis;
    grdi_dnn_descriptor x, second, chosen, y;
} grdi_dnn_pointwise;
void grdi_dnn_add_pointwise(grdi_dnn_builder *b, const grdi_dnn_pointwise *operation);
/* The graph of the operations so far, which are taken off. */
grdi_dnn_descriptor grdi_dnn_graph(grdi_dnn_builder *b);

/* An empty plan, where the library is there. */
grdi_dnn_plan *grdi_dnn_plan_begin(grdi_dnn *dnn);
/* Chooses the engine of the plan's graphs: the one that was chosen before, else the fastest that is deterministic (but
 * with any_order), sums in f32 and stays under the cap. Frees the plan and returns NULL where there is none, or the
 * rival (NULL: there is none) is faster. `call` is what the call is known by among the choices; `strict`: no tensor
 * cores, which would round operands. */
grdi_dnn_plan *grdi_dnn_plan_end(grdi_dnn_builder *b, const char *call, bool strict, const grdi_dnn_rival *rival);

#endif
