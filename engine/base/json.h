/* json.h - reading JSON strictly: duplicate keys, nesting beyond 128 levels, bytes that are not UTF-8 and anything
 * after the value are errors that name the place, the line and the column. */
#ifndef GRDI_JSON_H
#define GRDI_JSON_H

#include <gradus/base.h>
#include <jansson.h>

/* Deeper than any file that is read here; deep nesting is only used to exhaust a parser's stack. */
enum { GRDI_JSON_DEPTH_MAX = 128 };

/* The object or array in `text` (which need not end in a zero byte); free with json_decref(). NULL on failure. `place`
 * names the text in messages: usually the path of its file. */
json_t *grdi_json_parse(const char *text, size_t size_bytes, const char *place, grd_error *error);
/* The same for a whole file of at most max_bytes. */
json_t *grdi_json_read(const char *path, size_t max_bytes, grd_error *error);
/* The value as text in `flags` (JSON_COMPACT, JSON_INDENT(n), ...); free with grdi_free(). NULL when out of memory. */
char *grdi_json_text(const json_t *value, size_t flags, size_t *size_bytes);

#endif
