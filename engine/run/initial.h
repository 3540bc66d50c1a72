/* initial.h - first values of parameters. */
#ifndef GRDI_INITIAL_H
#define GRDI_INITIAL_H

#include "graph/graph.h"

/* Fills a parameter that has its place on the device as its initialiser says. Element i is a function of (seed, path,
 * i), whatever the number of threads. */
grd_status grdi_initialise(const grd_model *model, const grdi_variable *variable, grd_error *error);

#endif
