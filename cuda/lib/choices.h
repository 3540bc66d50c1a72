/* choices.h - algorithms that are chosen once by timing, and what was chosen, as text that a run keeps (plan.lock) so
 * that it goes on with the same bits. */
#ifndef GRDI_CUDA_CHOICES_H
#define GRDI_CUDA_CHOICES_H

#include "backend/backend.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Room for what a call is known by, and for an algorithm. */
enum { GRDI_CHOICE_TEXT = 640, GRDI_CANDIDATES_MAX = 8 };

typedef struct grdi_choice {
    char call[GRDI_CHOICE_TEXT], algorithm[GRDI_CHOICE_TEXT];
} grdi_choice;

typedef struct grdi_choices {
    grdi_choice **list;
    int32_t count, capacity;
} grdi_choices;

/* What was chosen for the call; NULL: nothing yet. */
const char *grdi_choices_find(const grdi_choices *choices, const char *call);
/* Notes a choice, over an earlier one. Nothing happens without memory. */
void grdi_choices_put(grdi_choices *choices, const char *call, const char *algorithm);
void grdi_choices_free(grdi_choices *choices);

/* All choices as text, for a device of that kind, or NULL where there is none; the caller frees it with grdi_free(). */
char *grdi_choices_write(const grdi_choices *choices, const char *kind);
/* Takes what such a text says, before calls are planned. GRD_E_STATE where it is of another kind of device, and
 * GRD_E_FORMAT where it is no such text: nothing is taken then. */
grd_status grdi_choices_read(grdi_choices *choices, const char *kind, const char *text, grd_error *error);

/* Milliseconds that some runs of what `run` enqueues take; negative where it does not run. Waits for the device; not
 * for a step. timing.c */
float grdi_time_runs(grdi_device *device, bool (*run)(void *context), void *context);

#ifdef __cplusplus
}
#endif
#endif
