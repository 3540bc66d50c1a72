/* graph.h - nodes and graphs, as the engine sees them. */
#ifndef GRDI_GRAPH_H
#define GRDI_GRAPH_H

#include "graph/model.h"

typedef enum grdi_phase { GRDI_FORWARD, GRDI_BACKWARD, GRDI_UPDATE } grdi_phase;

/* One application of an op. Nodes stand in the graph in the order they were made, inputs before users. */
typedef struct grdi_node {
    grd_graph *graph;
    int32_t id; /* index in graph->nodes */
    const grdi_op *op;
    int32_t input_count, output_count;
    grd_tensor *in;
    grdi_type *out;
    grd_attr *attrs;    /* all of the op's, in its order; ends with name NULL */
    const char *scope;  /* "h3/attn"; "" outside all scopes */
    const char *name;   /* of inputs, parameters, states; else NULL */
    uint64_t path_hash; /* RANDOM ops: the key of their numbers */
    grdi_phase phase;
    int32_t segment;         /* recompute segment; 0: none */
    grdi_variable *variable; /* of parameter and state nodes */
    const void *literal;     /* of constant nodes */
} grdi_node;

struct grd_graph {
    grd_model *model;
    grdi_region region; /* nodes and all that they point to */
    grdi_node **nodes;
    size_t count, capacity;
    const char *scope;
    const char *scopes[64]; /* the scopes to return to */
    int32_t scope_depth, segment, segment_count;
    grdi_phase phase;
    grd_error error;
    grdi_child *children; /* programs */
};

static inline const grdi_type *grdi_type_of(grd_tensor t)
{
    return &t.node->out[t.output];
}

static inline bool grdi_same_tensor(grd_tensor a, grd_tensor b)
{
    return a.node == b.node && a.output == b.output;
}

/* Records the graph's first error (and the engine's) with the current scope in front; returns poison. */
grd_tensor grdi_graph_fail(grd_graph *graph, grd_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* False, and an error of the graph that begins with `what` and the number, unless every tensor is an output of one of
 * the graph's nodes. None of them is poison. */
bool grdi_graph_owns(grd_graph *graph, const char *what, const grd_tensor *tensors, int32_t count);
/* A graph that belongs to nobody, for passes; free with grdi_graph_destroy(). */
grd_graph *grdi_graph_create(grd_model *model);
void grdi_graph_destroy(void *graph);

/* Copies `node` into `graph` with other inputs (everything else as it was); NULL when out of memory. */
grdi_node *grdi_node_copy(grd_graph *graph, const grdi_node *node, const grd_tensor *in);

/* True for a constant 1 of any shape: the seed of backward, with which nothing need be multiplied. */
bool grdi_is_one(grd_tensor tensor);
/* A parameter or state node for an existing variable. */
grd_tensor grdi_variable_node(grd_graph *graph, grdi_variable *variable);

/* Writes the graph as GraphViz text or as JSON (one object a node). */
grd_status grdi_graph_dump_dot(const grd_graph *graph, const char *path, grd_error *error);
grd_status grdi_graph_dump_json(const grd_graph *graph, const char *path, grd_error *error);

#endif
