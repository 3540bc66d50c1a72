/* ops.h - every op as a typed call; the families' headers hold the prototypes and their formulas. */
#ifndef GRADUS_OPS_H
#define GRADUS_OPS_H

#include <gradus/graph.h>
#include <gradus/ops_math.h>
#include <gradus/ops_nn.h>
#include <gradus/ops_recurrent.h>
#include <gradus/ops_shape.h>
#include <gradus/ops_spatial.h>

#endif
