/* choices.c - see choices.h. The text: a line that says what it is, one with the kind of device, and one a choice,
 * "call: algorithm". */
#include "lib/choices.h"

#include "host.h"

#include <stdio.h>
#include <string.h>

static const char title[] = "# algorithms chosen by timing (gradus plan.lock 1)\n";
static const char of_device[] = "device: ";

static grdi_choice *find(const grdi_choices *c, const char *call)
{
    for (int32_t i = 0; i < c->count; i++)
        if (strcmp(c->list[i]->call, call) == 0) return c->list[i];
    return NULL;
}

const char *grdi_choices_find(const grdi_choices *choices, const char *call)
{
    const grdi_choice *found = find(choices, call);
    return found ? found->algorithm : NULL;
}

static bool grow(grdi_choices *c)
{
    if (c->count < c->capacity) return true;
    int32_t capacity = c->capacity ? 2 * c->capacity : 64;
    grdi_choice **list = grdi_alloc_zero((size_t)capacity, sizeof(*list));
    if (!list) return false;
    if (c->count) memcpy(list, c->list, (size_t)c->count * sizeof(*list));
    grdi_free(c->list);
    c->list = list;
    c->capacity = capacity;
    return true;
}

void grdi_choices_put(grdi_choices *choices, const char *call, const char *algorithm)
{
    grdi_choice *entry = find(choices, call);
    if (!entry) {
        entry = grow(choices) ? grdi_alloc_zero(1, sizeof *entry) : NULL;
        if (!entry) return;
        choices->list[choices->count++] = entry;
    }
    snprintf(entry->call, sizeof entry->call, "%s", call);
    snprintf(entry->algorithm, sizeof entry->algorithm, "%s", algorithm);
}

void grdi_choices_free(grdi_choices *choices)
{
    for (int32_t i = 0; i < choices->count; i++) grdi_free(choices->list[i]);
    grdi_free(choices->list);
    *choices = (grdi_choices){0};
}

char *grdi_choices_write(const grdi_choices *c, const char *kind)
{
    size_t size = sizeof title + sizeof of_device + strlen(kind) + 2, at;
    if (c->count == 0) return NULL;
    for (int32_t i = 0; i < c->count; i++) size += strlen(c->list[i]->call) + strlen(c->list[i]->algorithm) + 3;
    char *text = grdi_alloc_zero(size, 1);
    if (!text) return NULL;
    at = (size_t)snprintf(text, size, "%s%s%s\n", title, of_device, kind);
    for (int32_t i = 0; i < c->count; i++)
        at += (size_t)snprintf(text + at, size - at, "%s: %s\n", c->list[i]->call, c->list[i]->algorithm);
    return text;
}

/* One line "call: algorithm" that ends at `end`. */
static bool take_line(grdi_choices *c, const char *line, const char *end)
{
    char call[GRDI_CHOICE_TEXT], algorithm[GRDI_CHOICE_TEXT];
    const char *colon = strstr(line, ": ");
    if (!colon || colon >= end || colon - line >= GRDI_CHOICE_TEXT || end - colon - 2 >= GRDI_CHOICE_TEXT) return false;
    snprintf(call, sizeof call, "%.*s", (int)(colon - line), line);
    snprintf(algorithm, sizeof algorithm, "%.*s", (int)(end - colon - 2), colon + 2);
    grdi_choices_put(c, call, algorithm);
    return true;
}

grd_status grdi_choices_read(grdi_choices *choices, const char *kind, const char *text, grd_error *error)
{
    if (strncmp(text, title, strlen(title)) != 0 || strncmp(text + strlen(title), of_device, strlen(of_device)) != 0)
        return grd_fail(error, GRD_E_FORMAT, "no list of algorithms that this version knows");
    const char *theirs = text + strlen(title) + strlen(of_device);
    size_t length = strcspn(theirs, "\n");
    if (strlen(kind) != length || strncmp(kind, theirs, length) != 0)
        return grd_fail(error, GRD_E_STATE, "of '%.*s', this is '%s'", (int)(length < 320 ? length : 320), theirs,
                        kind);
    grdi_choices taken = {0};
    bool good = true;
    for (const char *line = theirs + length; good && *line == '\n' && line[1];) {
        const char *from = line + 1;
        line = from + strcspn(from, "\n");
        good = take_line(&taken, from, line);
    }
    for (int32_t i = 0; good && i < taken.count; i++)
        grdi_choices_put(choices, taken.list[i]->call, taken.list[i]->algorithm);
    grdi_choices_free(&taken);
    return good ? GRD_OK : grd_fail(error, GRD_E_FORMAT, "a line is no \"call: algorithm\"");
}
