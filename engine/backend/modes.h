/* modes.h - words behind a device's name that say how a GPU is to compute: "cuda:1:tf32", "cuda:nondeterministic". */
#ifndef GRDI_MODES_H
#define GRDI_MODES_H

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct grdi_modes {
    bool tf32;             /* products of f32 are made in it */
    bool nondeterministic; /* libraries may add in an order that differs from run to run */
} grdi_modes;

/* Of words with ':' between them; false where one is not known. "" is none. */
bool grdi_modes_read(const char *words, grdi_modes *modes);
/* The argument of a device with the modes' words behind it, each once. */
const char *grdi_modes_append(const char *argument, grdi_modes modes, char *text, size_t size);
/* For the device's kind: each word with a space before it. */
const char *grdi_modes_text(grdi_modes modes);

#ifdef __cplusplus
}
#endif

#endif
