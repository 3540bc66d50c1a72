/* tensorboard.c - writes TensorBoard's event files. */
#include "formats/tensorboard.h"

#include "base/file.h"
#include "base/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

/* ---- checksums ---- */

uint32_t grdi_crc32c(const void *bytes, size_t size_bytes)
{
    const uint8_t *data = bytes;
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < size_bytes; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0x82F63B78u : 0);
    }
    return ~crc;
}

uint32_t grdi_crc32c_masked(const void *bytes, size_t size_bytes)
{
    uint32_t crc = grdi_crc32c(bytes, size_bytes);
    return (crc >> 15 | crc << 17) + 0xA282EAD8u;
}

/* ---- protobuf: bytes that grow ---- */

typedef struct message {
    uint8_t *bytes;
    size_t size, capacity;
    bool failed; /* out of memory */
} message;

enum { VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5 }; /* wire types */

static void put(message *m, const void *bytes, size_t size)
{
    if (m->failed) return;
    if (m->size + size > m->capacity) {
        size_t capacity = 2 * (m->size + size) + 64;
        uint8_t *more = grdi_realloc(m->bytes, capacity, 1);
        if (!more) {
            m->failed = true;
            return;
        }
        m->bytes = more;
        m->capacity = capacity;
    }
    if (size) memcpy(m->bytes + m->size, bytes, size);
    m->size += size;
}

static void put_varint(message *m, uint64_t value)
{
    uint8_t bytes[10];
    size_t count = 0;
    for (; value >= 0x80; value >>= 7) bytes[count++] = (uint8_t)(value | 0x80);
    bytes[count++] = (uint8_t)value;
    put(m, bytes, count);
}

static void put_key(message *m, uint32_t field, uint32_t wire)
{
    put_varint(m, (uint64_t)field << 3 | wire);
}

static void put_whole(message *m, uint32_t field, int64_t value)
{
    put_key(m, field, VARINT);
    put_varint(m, (uint64_t)value);
}

static void put_double(message *m, uint32_t field, double value)
{
    put_key(m, field, FIXED64);
    put(m, &value, sizeof(value));
}

static void put_float(message *m, uint32_t field, float value)
{
    put_key(m, field, FIXED32);
    put(m, &value, sizeof(value));
}

static void put_bytes(message *m, uint32_t field, const void *bytes, size_t size)
{
    put_key(m, field, BYTES);
    put_varint(m, size);
    put(m, bytes, size);
}

static void put_text(message *m, uint32_t field, const char *text)
{
    put_bytes(m, field, text, strlen(text));
}

/* Puts a message into another one and lets go of it. */
static void put_message(message *m, uint32_t field, message *inner)
{
    put_bytes(m, field, inner->bytes, inner->size);
    m->failed |= inner->failed;
    grdi_free(inner->bytes);
    *inner = (message){0};
}

/* ---- records ---- */

/* Event: wall_time 1, step 2, then one of file_version 3, summary 5, session_log 7. */
static message event_at(int64_t step, double seconds)
{
    message event = {0};
    put_double(&event, 1, seconds);
    if (step) put_whole(&event, 2, step);
    return event;
}

static grd_status fail(grdi_board *board, int problem, grd_error *error)
{
    grd_status status = grd_fail(error, problem ? GRD_E_IO : GRD_E_MEMORY, "%s: %s", board->path,
                                 problem ? strerror(problem) : "out of memory");
    grdi_board_close(board);
    return status;
}

/* Appends the event as one record with a single write, and lets go of it. */
static grd_status write_record(grdi_board *board, message *event, grd_error *error)
{
    message record = {0};
    uint64_t size = event->size;
    uint32_t of_size = grdi_crc32c_masked(&size, sizeof(size)), of_data = grdi_crc32c_masked(event->bytes, event->size);
    put(&record, &size, sizeof(size));
    put(&record, &of_size, sizeof(of_size));
    put(&record, event->bytes, event->size);
    put(&record, &of_data, sizeof(of_data));
    bool failed = record.failed || event->failed;
    ssize_t written = failed ? -1 : grdi_file.write(board->fd, record.bytes, record.size);
    int problem = failed ? 0 : written >= 0 ? ENOSPC : errno;
    bool whole = !failed && written == (ssize_t)record.size;
    grdi_free(event->bytes);
    grdi_free(record.bytes);
    return whole ? GRD_OK : fail(board, problem, error);
}

#define NAME_PREFIX "events.out.tfevents."

static grd_status open_file(grdi_board *board, const char *folder, const char *name, grd_error *error)
{
    board->path = grdi_path_join(folder, name);
    if (!board->path) return grd_fail(error, GRD_E_MEMORY, "%s: out of memory", folder);
    board->fd = grdi_file.open(board->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    return board->fd < 0 ? fail(board, errno, error) : GRD_OK;
}

grd_status grdi_board_open(grdi_board *board, const char *folder, int64_t done, double seconds, grd_error *error)
{
    *board = (grdi_board){.fd = -1};
    char name[128];
    snprintf(name, sizeof(name), NAME_PREFIX "%010lld.gradus.%ld", (long long)seconds, (long)getpid());
    grd_status opened = open_file(board, folder, name, error);
    if (opened) return opened;
    message version = event_at(0, seconds), start = event_at(done + 1, seconds), log = {0};
    put_text(&version, 3, "brain.Event:2");
    put_whole(&log, 1, 1); /* SessionLog.status START: events from this step on in earlier files are void */
    put_message(&start, 7, &log);
    grd_status status = write_record(board, &version, error);
    if (!status && done) return write_record(board, &start, error);
    grdi_free(start.bytes);
    return status;
}

grd_status grdi_board_scalars(grdi_board *board, int64_t step, double seconds, const grdi_scalar *scalars, size_t count,
                              grd_error *error)
{
    if (board->fd < 0) return GRD_OK;
    message event = event_at(step, seconds), summary = {0};
    for (size_t i = 0; i < count; i++) {
        if (isnan(scalars[i].value)) continue;
        message value = {0}; /* Summary.Value: tag 1, simple_value 2 */
        put_text(&value, 1, scalars[i].tag);
        put_float(&value, 2, (float)scalars[i].value);
        put_message(&summary, 1, &value);
    }
    put_message(&event, 5, &summary);
    return write_record(board, &event, error);
}

/* Value: tag 1, tensor 8 (TensorProto: dtype 1 = 7 for strings, shape 2, string_val 8), metadata 9 (SummaryMetadata:
 * plugin_data 1, its plugin_name 1). */
grd_status grdi_board_text(grdi_board *board, int64_t step, double seconds, const char *tag, const char *text,
                           grd_error *error)
{
    if (board->fd < 0) return GRD_OK;
    message event = event_at(step, seconds), summary = {0}, value = {0}, tensor = {0}, shape = {0}, metadata = {0},
            plugin = {0};
    put_whole(&tensor, 1, 7);
    put_message(&tensor, 2, &shape); /* no dimension: one text */
    put_text(&tensor, 8, text);
    put_text(&plugin, 1, "text");
    put_message(&metadata, 1, &plugin);
    put_text(&value, 1, tag);
    put_message(&value, 8, &tensor);
    put_message(&value, 9, &metadata);
    put_message(&summary, 1, &value);
    put_message(&event, 5, &summary);
    return write_record(board, &event, error);
}

void grdi_board_close(grdi_board *board)
{
    if (board->fd >= 0) grdi_file.close(board->fd);
    board->fd = -1;
    grdi_free(board->path);
    board->path = NULL;
}
