/* plugin.h - backends in libraries of their own, opened when their device is asked for: libgradus_<name>.so, found in
 * the folder of the engine's library (or of the program that holds it), in its subfolder gradus/, or in
 * GRADUS_PLUGIN_DIR. */
#ifndef GRDI_PLUGIN_H
#define GRDI_PLUGIN_H

#include "backend/backend.h"

/* What the engine lends to a plugin, which links nothing of it. */
typedef struct grdi_host {
    size_t size_bytes, call_bytes, kernel_bytes,
        backend_bytes; /* of the structs: a plugin of another build is refused */
    void *(*alloc_zero)(size_t count, size_t size_bytes);
    void (*release)(void *memory);
    int64_t (*attr_int)(const grd_attr *attrs, const char *name);
    double (*attr_float)(const grd_attr *attrs, const char *name);
    const grd_attr *(*attr_ints)(const grd_attr *attrs, const char *name);
    const grdi_op *(*op_at)(int32_t index);
} grdi_host;

/* The sizes of this build, for both sides of the comparison. */
#define GRDI_HOST_SIZES                                                                                                \
    .size_bytes = sizeof(grdi_host), .call_bytes = sizeof(grdi_call), .kernel_bytes = sizeof(grdi_kernel),             \
    .backend_bytes = sizeof(grdi_backend)

/* The one symbol of a plugin; NULL if the host is of another build. */
typedef const grdi_backend *(*grdi_plugin_entry)(const grdi_host *host);
#define GRDI_PLUGIN_ENTRY "grdi_plugin"

/* The backend of that name from its library, opened once and never closed. Where there is none: one that refuses to
 * open, saying what was looked for. NULL for a name that no plugin has. */
const grdi_backend *grdi_plugin_find(const char *name, size_t length);

#endif
