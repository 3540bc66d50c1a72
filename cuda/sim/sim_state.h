/* sim_state.h - what the simulator's own files share. */
#ifndef GRDI_SIM_STATE_H
#define GRDI_SIM_STATE_H

#include "sim.h"

/* Notes what was done wrong, for grdi_sim_take_error(); the first note stays. */
void grdi_sim_wrong(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The order in which warps run. */
int grdi_sim_order(void);

#endif
