/* pass.h - a pass reads a graph and builds a new one; the old one stays as it is. */
#ifndef GRDI_PASS_H
#define GRDI_PASS_H

#include "graph/build.h"

/* The graph being built from an old one, and where each old value went. */
typedef struct grdi_rewrite {
    const grd_graph *old;
    grd_graph *graph;
    grd_tensor *map; /* [old node id * GRDI_OUTPUTS_MAX + output]; node NULL: not (yet) there */
} grdi_rewrite;

/* What a program is compiled for: its roots, kept up to date by every pass, and what the user asked for. */
typedef struct grdi_compile {
    grd_model *model;
    grd_tensor *roots; /* values to be readable after a run, and effects to happen */
    int32_t root_count;
    const grd_program_options *options;
    grd_error *error;
    bool epilogues; /* the device's products do more in one call, see passes/epilogue.c */
} grdi_compile;

bool grdi_rewrite_begin(grdi_rewrite *r, const grd_graph *old, grd_error *error);
/* The new value for an old one (node NULL where it was dropped). */
grd_tensor grdi_mapped(const grdi_rewrite *r, grd_tensor old);
void grdi_map(grdi_rewrite *r, grd_tensor old, grd_tensor fresh);
/* Copies a node with mapped inputs and maps its outputs; NULL when out of memory. */
grdi_node *grdi_rewrite_copy(grdi_rewrite *r, const grdi_node *node);
/* Sets scope, phase and segment of the nodes emitted next to those of `node`. */
void grdi_rewrite_context(grdi_rewrite *r, const grdi_node *node);
/* Maps the roots and returns the new graph, or NULL (and destroys it) when `ok` is false or the graph has an error. */
grd_graph *grdi_rewrite_end(grdi_rewrite *r, grdi_compile *c, bool ok);

/* How often each value is used: [node id * GRDI_OUTPUTS_MAX + output]; a root counts as a use. NULL when out of memory.
 */
int32_t *grdi_use_counts(const grd_graph *graph, const grdi_compile *c);

/* ---- the passes, in the order they run; each returns a new graph or NULL with compile->error set ---- */

typedef grd_graph *(*grdi_pass)(grdi_compile *c, const grd_graph *old);

grd_graph *grdi_pass_extract(grdi_compile *c, const grd_graph *old);   /* only what the roots need */
grd_graph *grdi_pass_simplify(grdi_compile *c, const grd_graph *old);  /* algebra: fewer nodes, same values */
grd_graph *grdi_pass_recompute(grdi_compile *c, const grd_graph *old); /* segments rebuilt for backward */
grd_graph *grdi_pass_epilogue(grdi_compile *c, const grd_graph *old);  /* what calls do besides */
grd_graph *grdi_pass_fuse(grdi_compile *c, const grd_graph *old);      /* element-wise chains into one node */
grd_graph *grdi_pass_precision(grdi_compile *c, const grd_graph *old); /* what is stored in bf16 */
grd_graph *grdi_pass_schedule(grdi_compile *c, const grd_graph *old);  /* order: assigns as early as they may */

/* Runs all passes that are not disabled, dumping graphs where asked. `graph` is the user's and stays. */
grd_graph *grdi_passes_run(grdi_compile *c, const grd_graph *graph);
/* True if `name` stands in the comma-separated list (NULL: empty). */
bool grdi_listed(const char *list, const char *name);
/* Checks that the graph is sound: inputs before users, types as the shape rules say. */
bool grdi_verify_graph(const grd_graph *graph, grd_error *error);

#endif
