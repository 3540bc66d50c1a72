/* build.h - small helpers for gradient rules and composes. */
#ifndef GRDI_BUILD_H
#define GRDI_BUILD_H

#include "graph/graph.h"

#endif
