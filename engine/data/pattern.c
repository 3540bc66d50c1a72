/* pattern.c - from Oniguruma's reading of a regular expression, which Hugging Face `tokenizers` uses, to PCRE2's. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "data/pattern.h"

#include "base/memory.h"

#include <pcre2.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { NEWER_UNICODE = 16 }; /* the version that grdi_newer_classes lead to */

typedef struct translation {
    char *text;
    size_t used, capacity;
    bool failed;
    bool in_class; /* between [ and ] */
    bool newer;    /* PCRE2's Unicode is older than NEWER_UNICODE */
} translation;

static void put(translation *t, const char *text, size_t size)
{
    if (t->used + size + 1 > t->capacity) {
        size_t capacity = 2 * (t->used + size) + 256;
        char *grown = grdi_realloc(t->text, capacity, 1);
        t->failed = t->failed || !grown;
        if (!grown)
            return;
        t->text = grown;
        t->capacity = capacity;
    }
    memcpy(t->text + t->used, text, size);
    t->used += size;
    t->text[t->used] = '\0';
}

/* A set of characters: alone, or as a part of the class that is open. */
static void put_set(translation *t, const char *first, size_t first_size, const char *rest)
{
    if (!t->in_class)
        put(t, "[", 1);
    put(t, first, first_size);
    put(t, rest, strlen(rest));
    if (!t->in_class)
        put(t, "]", 1);
}

/* Takes the escape at `from`; returns its length. */
static size_t put_escape(translation *t, const char *from)
{
    if (from[1] == 's') {
        put_set(t, "", 0, "\\t-\\r\\x{85}\\p{Z}");
        return 2;
    }
    if (from[1] == 'S') {
        put_set(t, "\\S", 2, "\\x{180E}");
        return 2;
    }
    const char *close = (from[1] == 'p' || from[1] == 'P') && from[2] == '{' ? strchr(from, '}') : NULL;
    size_t size = close ? (size_t)(close + 1 - from) : from[1] ? 2 : 1;
    for (int i = 0; close && t->newer && i < grdi_newer_count; i++) {
        const grdi_newer *class = &grdi_newer_classes[i];
        if (strlen(class->name) != size - 4 || memcmp(class->name, from + 3, size - 4) != 0 || !*class->ranges)
            continue;
        if (from[1] == 'p') {
            put_set(t, from, size, class->ranges);
            return size;
        }
        if (t->in_class) /* no way to say "not one of these, or ..." */
            break;
        put(t, "[^\\p", 4);
        put(t, from + 2, size - 2);
        put(t, class->ranges, strlen(class->ranges));
        put(t, "]", 1);
        return size;
    }
    put(t, from, size);
    return size;
}

/* Takes what begins a class: [ or [^, and a ] that stands right behind it for itself. */
static size_t put_opening(translation *t, const char *from)
{
    size_t size = from[1] == '^' ? 2 : 1;
    size += from[size] == ']';
    put(t, from, size);
    t->in_class = true;
    return size;
}

char *grdi_pattern_translate(const char *pattern)
{
    char version[32] = "";
    pcre2_config(PCRE2_CONFIG_UNICODE_VERSION, version);
    translation t = {.newer = atoi(version) < NEWER_UNICODE};
    put(&t, "", 0);
    for (size_t at = 0; pattern[at] && !t.failed;) {
        const char *from = pattern + at;
        const char *posix = t.in_class && from[0] == '[' && from[1] == ':' ? strstr(from + 2, ":]") : NULL;
        if (*from == '\\') {
            at += put_escape(&t, from);
        } else if (posix) {
            put(&t, from, (size_t)(posix + 2 - from));
            at += (size_t)(posix + 2 - from);
        } else if (*from == '[' && !t.in_class) {
            at += put_opening(&t, from);
        } else {
            t.in_class = t.in_class && *from != ']';
            put(&t, from, 1);
            at++;
        }
    }
    if (!t.failed)
        return t.text;
    grdi_free(t.text);
    return NULL;
}
