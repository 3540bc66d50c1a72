/* chosen.h - what a device chose by timing in one run, taken over by the next one: two runs that time for themselves
 * may choose otherwise, and then differ in the order of their sums. */
#ifndef TESTS_CHOSEN_H
#define TESTS_CHOSEN_H

#include "backend/backend.h"
#include "graph/model.h"
#include "sim_library.h"

#include "base/memory.h"

/* What was chosen, to be freed by grdi_free; NULL: nothing was. */
static inline char *chosen_by(const grd_engine *engine)
{
    const grdi_backend *backend = engine->backend;
    return backend->algorithms ? backend->algorithms(engine->device) : NULL;
}

/* Before anything is compiled. */
static inline void choose_as(const grd_engine *engine, const char *chosen)
{
    grd_error error = {GRD_OK, ""};
    if (!chosen) return;
    cr_assert(engine->backend->take_algorithms(engine->device, chosen, &error) == GRD_OK, "%s", error.message);
}

/* The second run of two: the other order of warps, and in the simulator other algorithms that are the fastest. */
static inline void be_another_run(bool another)
{
    if (!on_simulator()) return;
    SIM(grdi_sim_set_order)(another);
    SIM(grdi_sim_set_algorithms)(4, another);
}

#endif
