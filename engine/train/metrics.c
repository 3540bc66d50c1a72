/* metrics.c - metrics.jsonl in the run directory: a line for each event, appended as it comes. A run that is resumed
 * takes out the lines of steps that it makes again, so that each step stands there once. What the report shows is read
 * back from here. */
#include "train/session.h"

#include "base/json.h"
#include "base/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

enum { METRICS_BYTES_MAX = 1 << 30 };

static char *path_of(const grdi_session *s)
{
    return grdi_path_join(s->settings->out, "metrics.jsonl");
}

grd_status grdi_metrics_open(grdi_session *s)
{
    char *path = path_of(s);
    if (!path) return grd_fail(s->error, GRD_E_MEMORY, "metrics.jsonl: out of memory");
    s->metrics_fd = grdi_file.open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    grd_status status = GRD_OK;
    if (s->metrics_fd < 0) status = grd_fail_system(s->error, path, "open");
    grdi_free(path);
    return status;
}

void grdi_metrics_close(grdi_session *s)
{
    if (s->metrics_fd >= 0) grdi_file.close(s->metrics_fd);
    s->metrics_fd = -1;
}

void grdi_metrics_write(grdi_session *s, const grd_event *event)
{
    char few[2048], *line = few;
    if (s->metrics_fd < 0) return;
    size_t length = grd_event_json(event, few, sizeof(few));
    if (length >= sizeof(few)) { /* a long text: its end is needed, too */
        line = grdi_alloc(length + 2);
        if (line) grd_event_json(event, line, length + 1);
    }
    errno = ENOMEM;
    if (line) line[length++] = '\n';
    bool written = line && grdi_file.write(s->metrics_fd, line, length) == (ssize_t)length;
    int problem = errno;
    if (line != few) grdi_free(line);
    if (written) return;
    grdi_metrics_close(s); /* said once; the run itself is worth going on with */
    grdi_session_note(s, "%s/metrics.jsonl: %s (no more lines are written there)", s->settings->out, strerror(problem));
}

/* ---- resuming ---- */

/* Whether the line tells of something that happened up to the step that the run stands at: then it goes into the
 * history. A line that is no JSON was cut off. */
static bool stays(grdi_session *s, const char *line, size_t length)
{
    grd_error error = {GRD_OK, ""};
    json_t *object = grd_json_parse(line, length, "metrics.jsonl", &error);
    const json_t *step = json_object_get(object, "step"), *steps = json_object_get(object, "steps");
    bool keep = object && json_integer_value(step) <= s->done && json_integer_value(steps) <= s->done;
    if (keep) grdi_history_add_json(&s->history, object);
    json_decref(object);
    return keep;
}

static grd_status write_kept(grdi_session *s, const char *path, const char *text, size_t size)
{
    grdi_writer writer;
    grdi_writer_open(&writer, path);
    for (size_t at = 0; at < size;) {
        const char *end = memchr(text + at, '\n', size - at);
        if (!end) break;
        size_t length = (size_t)(end - text) - at + 1;
        if (stays(s, text + at, length - 1)) grdi_writer_put(&writer, text + at, length);
        at += length;
    }
    return grdi_writer_commit(&writer, s->error);
}

grd_status grdi_metrics_resume(grdi_session *s)
{
    char *text, *path = s->settings->out ? path_of(s) : NULL;
    size_t size;
    if (!s->settings->out) return GRD_OK;
    if (!path) return grd_fail(s->error, GRD_E_MEMORY, "metrics.jsonl: out of memory");
    grdi_metrics_close(s);
    grdi_history_free(&s->history);
    grd_status status = grdi_file_read(path, METRICS_BYTES_MAX, &text, &size, s->error);
    if (!status) {
        status = write_kept(s, path, text, size);
        grdi_free(text);
    }
    grdi_free(path);
    return status ? status : grdi_metrics_open(s);
}
