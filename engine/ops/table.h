/* table.h - declares every op of ops.def, so that families can emit each other's nodes. */
#ifndef GRDI_TABLE_H
#define GRDI_TABLE_H

#include "graph/op.h"

#define GRDI_OP(name) extern const grdi_op grdi_op_##name;
#include "ops/ops.def"
#undef GRDI_OP

#endif
