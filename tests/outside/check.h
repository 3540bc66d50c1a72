/* check.h - what a program says of its own checks: each that fails is a line on stderr, and main() returns whether any
 * did. */
#ifndef OUTSIDE_CHECK_H
#define OUTSIDE_CHECK_H

#include <stdio.h>

static int failures;

#define CHECK(condition, ...)                                                                                          \
    do {                                                                                                               \
        if (condition) break;                                                                                          \
        failures++;                                                                                                    \
        fprintf(stderr, "line %d: ", __LINE__);                                                                        \
        fprintf(stderr, __VA_ARGS__);                                                                                  \
        fputc('\n', stderr);                                                                                           \
    } while (0)

#endif
