/* command.h - runs the gradus binary as a user does. */
#ifndef TESTS_COMMAND_H
#define TESTS_COMMAND_H

#include <jansson.h>
#include <stddef.h>
#include <sys/types.h>

typedef struct outcome {
    int code;        /* exit code; 128 + the signal that ended it */
    char *out, *err; /* all of stdout and stderr; valid for the life of the test */
} outcome;

/* Runs `gradus <arguments>` through a shell in the scratch folder, with one thread unless the arguments say otherwise.
 * The test fails when it takes longer than two minutes. */
outcome gradus(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The same, sent SIGTERM as soon as `count` lines that contain `piece` have come out. */
outcome gradus_stopped_after(int count, const char *piece, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The JSON lines of a text whose event is `name`, parsed; every line must be an object with an event, else the test
 * fails. Valid for the life of the test. */
json_t *events_named(const char *text, const char *name);
/* The one event of that name of a call that ended well; the test fails when it did not, or when there is another number
 * of them. */
json_t *only_event(outcome o, const char *name);
/* A number of an object; the test fails when it has none of that name. */
double number_of(const json_t *object, const char *key);

#endif
