/* cross_entropy.cuh - losses of rows of logits, for the ops that make the logits themselves. */
#ifndef GRDI_CROSS_ENTROPY_CUH
#define GRDI_CROSS_ENTROPY_CUH

#include "device/values.cuh"

struct grdi_loss_recipe {
    int64_t ignore;
    float smoothing, z, softcap; /* softcap 0: none */
};
grdi_loss_recipe grdi_loss_recipe_of(const grdi_call *call, bool capped);

struct grdi_loss_rows_task {
    cells logits; /* [count, classes] */
    cells losses; /* [count] */
    cells scale;  /* scalar */
    const int32_t *targets;
    int64_t count, classes;
    grdi_loss_recipe recipe;
    bool slopes; /* scale times the losses' derivatives are written over the logits */
};
grd_status grdi_loss_rows(const grdi_call *call, const grdi_loss_rows_task &rows);
/* out = scale times the sum of losses. */
grd_status grdi_loss_sum(const grdi_call *call, cells losses, int64_t count, cells scale, cells out);

#endif
