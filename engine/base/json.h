/* json.h - reading JSON strictly (gradus/json.h), and writing it. */
#ifndef GRDI_JSON_H
#define GRDI_JSON_H

#include <gradus/json.h>
#include <jansson.h>

/* Deeper than any file that is read here; deep nesting is only used to exhaust a parser's stack. */
enum { GRDI_JSON_DEPTH_MAX = 128 };

/* The value as text in `flags` (JSON_COMPACT, JSON_INDENT(n), ...); free with grdi_free(). NULL when out of memory. */
char *grdi_json_text(const json_t *value, size_t flags, size_t *size_bytes);

#endif
