/* text.h - how alike two names are, for errors that suggest one. */
#ifndef GRDI_TEXT_H
#define GRDI_TEXT_H

#include <stddef.h>

/* Levenshtein distance; of longer texts that of their beginnings. */
size_t grdi_text_distance(const char *a, const char *b);

#endif
