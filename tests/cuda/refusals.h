/* refusals.h - whether tests name every refusal of a stand-in. */
#ifndef TESTS_REFUSALS_H
#define TESTS_REFUSALS_H

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *refusals_text(const char *folder, const char *name)
{
    enum { MOST = 1 << 16 };
    char path[512], *text = calloc(MOST, 1);
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    FILE *file = fopen(path, "r");
    cr_assert(file && text, "%s", path);
    cr_assert(fread(text, 1, MOST - 1, file) < MOST - 1, "%s is longer than is read", path);
    fclose(file);
    return text;
}

/* The next string of the text, written to `into`; where the search goes on, NULL: there is none. */
static char *refusals_next(char *at, char *into, size_t size)
{
    char *begin = strchr(at, '"'), *end = begin ? strchr(begin + 1, '"') : NULL;
    if (!end) return NULL;
    snprintf(into, size, "%.*s", (int)(end - begin - 1), begin + 1);
    return end + 1;
}

/* Whether some string of the text is a part of the refusal, or begins with it and goes on. */
static bool refusals_named(char *text, const char *refusal)
{
    char named[160];
    for (char *at = strstr(text, "static"); (at = refusals_next(at, named, sizeof(named)));)
        if (strlen(named) >= 5 && (strstr(refusal, named) || strstr(named, refusal) == named)) return true;
    return false;
}

/* A refusal is a string of several words in the stand-in's source, which has more than `least` of them. */
static inline void expect_refusals_tested(const char *stand_in, const char *const *tests, int least)
{
    char *text = refusals_text(GRADUS_SOURCE_DIR "/cuda/sim", stand_in), refusal[160];
    int refusals = 0;
    for (char *at = strstr(text, "namespace"); (at = refusals_next(at, refusal, sizeof(refusal)));) {
        bool named = false;
        if (!strchr(refusal, ' ') || strchr(refusal, '%')) continue;
        refusals++;
        for (int i = 0; tests[i] && !named; i++) {
            char *of_test = refusals_text(GRADUS_SOURCE_DIR "/tests/cuda", tests[i]);
            named = refusals_named(of_test, refusal);
            free(of_test);
        }
        cr_expect(named, "no test names '%s'", refusal);
    }
    free(text);
    cr_assert(refusals > least, "only %d refusals found", refusals);
}

#endif
