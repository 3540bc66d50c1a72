/* json.c - strict reading of JSON, on jansson. */
#include "base/json.h"

#include "base/file.h"
#include "base/memory.h"

#include <pthread.h>
#include <setjmp.h>
#include <string.h>

/* Where its text buffer cannot grow, jansson goes on without the character: it fails its own assertions then, writes
 * past a block, or reads another name or number. So a parse is left at the first allocation that fails, and what it
 * had allocated is given back here. */
typedef struct parse {
    jmp_buf out_of_memory;
    void **blocks; /* that are in use */
    size_t count, capacity;
} parse;

static json_malloc_t host_allocate;
static json_free_t host_release;
static _Thread_local parse *current; /* NULL: jansson is used for something else, and goes its own way */

static void *allocate(size_t size_bytes)
{
    parse *p = current;
    if (!p)
        return host_allocate(size_bytes);
    void *block = GRDI_GROW(p->blocks, p->capacity, p->count) ? host_allocate(size_bytes) : NULL;
    if (!block)
        longjmp(p->out_of_memory, 1);
    return p->blocks[p->count++] = block;
}

static void release(void *block)
{
    parse *p = current;
    for (size_t i = p ? p->count : 0; i-- > 0;) /* nearly always one of the last */
        if (p->blocks[i] == block) {
            p->blocks[i] = p->blocks[--p->count];
            break;
        }
    host_release(block);
}

static void watch_allocations(void)
{
    json_get_alloc_funcs(&host_allocate, &host_release);
    json_set_alloc_funcs(allocate, release);
}

static void give_back(parse *p)
{
    current = NULL;
    while (p->count > 0)
        host_release(p->blocks[--p->count]);
    grdi_free(p->blocks);
}

/* *ran_out tells whether memory was what it failed for. */
static json_t *load(parse *p, const char *text, size_t size_bytes, json_error_t *why, bool *ran_out)
{
    current = p;
    *ran_out = true;
    if (setjmp(p->out_of_memory)) {
        give_back(p);
        return NULL;
    }
    json_t *value = json_loadb(text, size_bytes, JSON_REJECT_DUPLICATES, why);
    *ran_out = false;
    p->count = 0; /* the blocks are the value's */
    give_back(p);
    return value;
}

/* False when brackets nest deeper than allowed; *line is then where. Brackets inside strings do not count. */
static bool nesting_is_allowed(const char *text, size_t size_bytes, size_t *line)
{
    size_t depth = 0;
    bool in_string = false;
    *line = 1;
    for (size_t i = 0; i < size_bytes; i++) {
        char c = text[i];
        *line += c == '\n';
        if (in_string) {
            if (c == '\\')
                i++;
            in_string = c != '"';
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{' || c == '[') {
            if (++depth > GRDI_JSON_DEPTH_MAX)
                return false;
        } else if ((c == '}' || c == ']') && depth > 0) {
            depth--;
        }
    }
    return true;
}

json_t *grd_json_parse(const char *text, size_t size_bytes, const char *place, grd_error *error)
{
    size_t line;
    if (!nesting_is_allowed(text, size_bytes, &line)) {
        grd_fail(error, GRD_E_FORMAT, "%s:%zu: json: more than %d levels of nesting", place, line, GRDI_JSON_DEPTH_MAX);
        return NULL;
    }
    /* jansson passes over a zero byte that follows a number. */
    if (memchr(text, 0, size_bytes)) {
        grd_fail(error, GRD_E_FORMAT, "%s: json: a zero byte in the text", place);
        return NULL;
    }
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, watch_allocations);
    json_error_t why;
    bool ran_out;
    json_t *value = load(&(parse){.count = 0}, text, size_bytes, &why, &ran_out);
    if (value)
        return value;
    /* jansson leaves the text empty where an allocation failed. */
    if (ran_out || why.text[0] == 0 || json_error_code(&why) == json_error_out_of_memory)
        grd_fail(error, GRD_E_MEMORY, "%s: out of memory", place);
    else
        grd_fail(error, GRD_E_FORMAT, "%s:%d:%d: json: %s", place, why.line, why.column, why.text);
    return NULL;
}

json_t *grd_json_read(const char *path, size_t max_bytes, grd_error *error)
{
    char *text;
    size_t size_bytes;
    if (grdi_file_read(path, max_bytes, &text, &size_bytes, error) != GRD_OK)
        return NULL;
    json_t *value = grd_json_parse(text, size_bytes, path, error);
    grdi_free(text);
    return value;
}

char *grdi_json_text(const json_t *value, size_t flags, size_t *size_bytes)
{
    size_t length = json_dumpb(value, NULL, 0, flags);
    char *text = length > 0 ? grdi_alloc(length + 1) : NULL;
    if (!text)
        return NULL;
    if (json_dumpb(value, text, length, flags) != length) {
        grdi_free(text);
        return NULL;
    }
    text[length] = 0;
    *size_bytes = length;
    return text;
}
