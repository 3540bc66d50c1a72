/* table.c - the op table, made from ops.def. */
#include "ops/table.h"

#include <string.h>

static const grdi_op *const ops[] = {
#define GRDI_OP(name) &grdi_op_##name,
#include "ops/ops.def"
#undef GRDI_OP
};

int32_t grdi_op_total(void)
{
    return (int32_t)(sizeof(ops) / sizeof(ops[0]));
}

const grdi_op *grdi_op_at(int32_t index)
{
    return index >= 0 && index < grdi_op_total() ? ops[index] : NULL;
}

const grdi_op *grdi_op_find(const char *name)
{
    for (int32_t i = 0; name && i < grdi_op_total(); i++)
        if (strcmp(ops[i]->name, name) == 0) return ops[i];
    return NULL;
}

int32_t grd_op_count(void)
{
    return grdi_op_total();
}

const char *grd_op_name(int32_t index)
{
    const grdi_op *op = grdi_op_at(index);
    return op ? op->name : NULL;
}
