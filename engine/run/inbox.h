/* inbox.h - values that come back from a device while it works on: where nothing has arrived yet, nobody waits. */
#ifndef GRDI_INBOX_H
#define GRDI_INBOX_H

#include "run/run.h"

typedef struct grdi_inbox {
    const grd_engine *engine;
    void *memory; /* what was fetched, once it has arrived */
    void *own;    /* the backend's; NULL where reading does not wait */
} grdi_inbox;

/* False when there is no memory. Close with grdi_inbox_close(), which also takes one that was never opened. */
bool grdi_inbox_open(grdi_inbox *inbox, const grd_engine *engine, size_t size_bytes);
/* Asks for a copy of device memory as it is after all that was asked for before. */
void grdi_inbox_fetch(grdi_inbox *inbox, size_t at, const void *from, size_t size_bytes);
/* Whether all that was fetched is there, or has become so by waiting. */
bool grdi_inbox_arrived(grdi_inbox *inbox, bool wait);
void grdi_inbox_close(grdi_inbox *inbox);

#endif
