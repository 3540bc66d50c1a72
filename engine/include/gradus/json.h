/* json.h - the strict reader behind every JSON file that is read here. Values are jansson's: include <jansson.h> to
 * look into them. */
#ifndef GRADUS_JSON_H
#define GRADUS_JSON_H

#include <gradus/base.h>

#ifdef __cplusplus
extern "C" {
#endif

struct json_t; /* jansson's json_t */

/* The object or array in `text` (which need not end in a zero byte); free with json_decref(). Duplicate keys, nesting
 * beyond 128 levels, bytes that are not UTF-8 and anything after the value are GRD_E_FORMAT, with the line and the
 * column; memory that runs out is GRD_E_MEMORY and loses nothing, which jansson alone does not promise. NULL on
 * failure. `place` names the text in messages: usually the path of its file. */
GRD_API struct json_t *grd_json_parse(const char *text, size_t size_bytes, const char *place, grd_error *error);
/* The same for a whole file of at most max_bytes; GRD_E_IO when it cannot be read. */
GRD_API struct json_t *grd_json_read(const char *path, size_t max_bytes, grd_error *error);

#ifdef __cplusplus
}
#endif
#endif
