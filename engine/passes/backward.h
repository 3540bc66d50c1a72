/* backward.h - reverse-mode differentiation by emitting gradient nodes into the same graph. */
#ifndef GRDI_BACKWARD_H
#define GRDI_BACKWARD_H

#include "graph/build.h"

/* Gradients of sum_i <seeds[i], outputs[i]> by each of `wrt`; gradients[k].node is NULL where nothing depends on
 * wrt[k]. Nodes before `first` are taken as constants (but for those in `wrt`). False on an error, which the graph
 * keeps. */
bool grdi_backward(grd_graph *graph, const grd_tensor *outputs, const grd_tensor *seeds, int32_t output_count,
                   const grd_tensor *wrt, int32_t wrt_count, int32_t first, grd_tensor *gradients);

#endif
