/* inbox.c - values that come back from a device while it works on. Backends whose runs end when they are done have no
 * inboxes of their own: what they are asked for is there at once. */
#include "run/inbox.h"

#include "backend/backend.h"

bool grdi_inbox_open(grdi_inbox *inbox, const grd_engine *engine, size_t size_bytes)
{
    const grdi_backend *backend = engine->backend;
    *inbox = (grdi_inbox){.engine = engine};
    if (backend->inbox_open) inbox->own = backend->inbox_open(engine->device, size_bytes, &inbox->memory);
    else inbox->memory = grdi_alloc_zero(size_bytes, 1);
    return inbox->memory != NULL;
}

void grdi_inbox_fetch(grdi_inbox *inbox, size_t at, const void *from, size_t size_bytes)
{
    const grdi_backend *backend = inbox->engine->backend;
    if (inbox->own) backend->inbox_fetch(inbox->engine->device, inbox->own, at, from, size_bytes);
    else backend->download(inbox->engine->device, (char *)inbox->memory + at, from, size_bytes);
}

bool grdi_inbox_arrived(grdi_inbox *inbox, bool wait)
{
    return !inbox->own || inbox->engine->backend->inbox_arrived(inbox->engine->device, inbox->own, wait);
}

void grdi_inbox_close(grdi_inbox *inbox)
{
    if (inbox->own) inbox->engine->backend->inbox_close(inbox->engine->device, inbox->own);
    else grdi_free(inbox->memory);
    *inbox = (grdi_inbox){NULL, NULL, NULL};
}
