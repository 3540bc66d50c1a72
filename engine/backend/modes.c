/* modes.c - words behind a device's name. */
#include "backend/modes.h"

#include <stdio.h>
#include <string.h>

enum { MODES = 2 };
static const char *const words[MODES] = {"tf32", "nondeterministic"};

static bool *mode_at(grdi_modes *modes, int i)
{
    return i ? &modes->nondeterministic : &modes->tf32;
}

/* Which word the first `length` bytes are; MODES: none. */
static int word_of(const char *text, size_t length)
{
    int i = 0;
    while (i < MODES && (strlen(words[i]) != length || strncmp(words[i], text, length) != 0)) i++;
    return i;
}

bool grdi_modes_read(const char *text, grdi_modes *modes)
{
    *modes = (grdi_modes){.tf32 = false};
    while (*text) {
        size_t length = strcspn(text, ":");
        int i = word_of(text, length);
        if (i == MODES) return false;
        *mode_at(modes, i) = true;
        text += length;
        if (*text && !*++text) return false; /* a colon that nothing follows */
    }
    return true;
}

static bool has_word(const char *argument, int word)
{
    for (const char *text = argument;; text++) {
        size_t length = strcspn(text, ":");
        if (word_of(text, length) == word) return true;
        text += length;
        if (!*text) return false;
    }
}

const char *grdi_modes_append(const char *argument, grdi_modes modes, char *text, size_t size)
{
    size_t used = (size_t)snprintf(text, size, "%s", argument);
    for (int i = 0; i < MODES && used < size; i++)
        if (*mode_at(&modes, i) && !has_word(argument, i))
            used += (size_t)snprintf(text + used, size - used, "%s%s", used ? ":" : "", words[i]);
    return text;
}

const char *grdi_modes_text(grdi_modes modes)
{
    if (modes.tf32) return modes.nondeterministic ? " tf32 nondeterministic" : " tf32";
    return modes.nondeterministic ? " nondeterministic" : "";
}
