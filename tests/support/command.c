/* command.c - the gradus binary in a child process. */
#include "command.h"

#include "scratch.h"

#include <criterion/criterion.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

typedef struct stream {
    int fd;
    char *text;
    size_t size;
} stream;

/* What tests were given: theirs until the process ends, and reachable until then, so that it is no leak. */
typedef struct kept {
    struct kept *next;
    char *text;
    json_t *json;
} kept;
static kept *all_kept;

static void keep(char *text, json_t *json)
{
    kept *entry = malloc(sizeof *entry);
    cr_assert(entry);
    *entry = (kept){all_kept, text, json};
    all_kept = entry;
}

static pid_t start(const char *arguments, int out[2], int err[2])
{
    char line[8192], folder[4096];
    snprintf(folder, sizeof folder, "%s", scratch_path("x"));
    *strrchr(folder, '/') = '\0';
    snprintf(line, sizeof line, "exec '%s/gradus' %s", GRADUS_BINARY_DIR, arguments);
    cr_assert(pipe(out) == 0 && pipe(err) == 0);
    fflush(stdout);
    pid_t child = fork();
    cr_assert(child >= 0, "fork failed");
    if (child) return child;
    dup2(out[1], STDOUT_FILENO);
    dup2(err[1], STDERR_FILENO);
    for (int i = 0; i < 2; i++) {
        close(out[i]);
        close(err[i]);
    }
    if (chdir(folder)) _exit(126);
    execl("/bin/sh", "sh", "-c", line, (char *)NULL);
    _exit(127);
}

static int lines_with(const char *text, const char *piece)
{
    int count = 0;
    for (const char *at = text; (at = strstr(at, piece)); at += strlen(piece)) count++;
    return count;
}

/* Reads what has come; false at the end. */
static bool read_more(stream *s)
{
    char bytes[4096];
    ssize_t got = read(s->fd, bytes, sizeof bytes);
    if (got <= 0) return false;
    s->text = realloc(s->text, s->size + (size_t)got + 1);
    cr_assert(s->text);
    memcpy(s->text + s->size, bytes, (size_t)got);
    s->size += (size_t)got;
    s->text[s->size] = '\0';
    return true;
}

static outcome run(const char *arguments, int stop_count, const char *stop_piece)
{
    int out[2], err[2];
    pid_t child = start(arguments, out, err);
    close(out[1]);
    close(err[1]);
    stream streams[2] = {{out[0], calloc(1, 1), 0}, {err[0], calloc(1, 1), 0}};
    bool open[2] = {true, true}, stopped = !stop_piece;
    const char *limit = getenv("GRADUS_TEST_LIMIT_S"); /* tests/CMakeLists.txt sets it */
    long limit_s = limit ? atol(limit) : 0;
    time_t begin = time(NULL);
    while (open[0] || open[1]) {
        struct pollfd fds[2] = {{open[0] ? out[0] : -1, POLLIN, 0}, {open[1] ? err[0] : -1, POLLIN, 0}};
        poll(fds, 2, 1000);
        for (int i = 0; i < 2; i++)
            if (fds[i].revents) open[i] = read_more(&streams[i]);
        if (!stopped && lines_with(streams[0].text, stop_piece) >= stop_count) {
            kill(child, SIGTERM);
            stopped = true;
        }
        if (limit_s && time(NULL) - begin > limit_s) {
            kill(child, SIGKILL);
            cr_assert(false, "gradus %s: not done after %ld s; so far:\n%s%s", arguments, limit_s, streams[0].text,
                      streams[1].text);
        }
    }
    close(out[0]);
    close(err[0]);
    int status = 0;
    waitpid(child, &status, 0);
    for (int i = 0; i < 2; i++) keep(streams[i].text, NULL);
    return (outcome){WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), streams[0].text,
                     streams[1].text};
}

static void write_arguments(char *to, size_t size, const char *format, va_list args)
{
    vsnprintf(to, size, format, args);
    if (!strstr(to, "--threads") && !strstr(to, "--help"))
        snprintf(to + strlen(to), size - strlen(to), "%s--threads 1", to[0] ? " " : "");
}

outcome gradus(const char *format, ...)
{
    char arguments[4096];
    va_list args;
    va_start(args, format);
    write_arguments(arguments, sizeof arguments, format, args);
    va_end(args);
    return run(arguments, 0, NULL);
}

outcome gradus_stopped_after(int count, const char *piece, const char *format, ...)
{
    char arguments[4096];
    va_list args;
    va_start(args, format);
    write_arguments(arguments, sizeof arguments, format, args);
    va_end(args);
    return run(arguments, count, piece);
}

json_t *events_named(const char *text, const char *name)
{
    json_t *found = json_array();
    keep(NULL, found);
    while (*text) {
        size_t length = strcspn(text, "\n");
        json_error_t error;
        json_t *line = json_loadb(text, length, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
        cr_assert(line, "not JSON (%s): %.*s", error.text, (int)length, text);
        const char *event = json_string_value(json_object_get(line, "event"));
        cr_assert(event, "no event: %.*s", (int)length, text);
        if (strcmp(event, name) == 0) json_array_append(found, line);
        json_decref(line);
        text += length + (text[length] == '\n');
    }
    return found;
}

json_t *only_event(outcome o, const char *name)
{
    cr_assert(o.code == 0, "exit code %d: %s", o.code, o.err);
    json_t *events = events_named(o.out, name);
    cr_assert(json_array_size(events) == 1, "%s", o.out);
    return json_array_get(events, 0);
}

double number_of(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    cr_assert(json_is_number(value), "no number '%s' in %s", key, json_dumps(object, JSON_COMPACT));
    return json_number_value(value);
}
