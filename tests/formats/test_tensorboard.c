/* Event files: known checksums, and records read back by a reader of the tests' own. */
#include "base/file.h"
#include "formats/tensorboard.h"
#include "scratch.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

TestSuite(tensorboard, .fini = scratch_remove);

/* RFC 3720, B.4, and the usual check value. */
Test(tensorboard, checksums_are_the_published_ones)
{
    uint8_t bytes[32];
    cr_assert(grdi_crc32c("123456789", 9) == 0xE3069283u);
    memset(bytes, 0, 32);
    cr_assert(grdi_crc32c(bytes, 32) == 0x8A9136AAu);
    memset(bytes, 0xFF, 32);
    cr_assert(grdi_crc32c(bytes, 32) == 0x62A8AB43u);
    for (int i = 0; i < 32; i++) bytes[i] = (uint8_t)i;
    cr_assert(grdi_crc32c(bytes, 32) == 0x46DD794Eu);
    uint32_t crc = 0xE3069283u;
    cr_assert(grdi_crc32c_masked("123456789", 9) == (uint32_t)((crc >> 15 | crc << 17) + 0xA282EAD8u));
}

typedef struct reader {
    const uint8_t *at, *end;
} reader;

/* The next field of a message: its number, and its number or bytes. */
typedef struct field {
    uint32_t number, wire;
    uint64_t value; /* varint and fixed */
    reader inside;  /* bytes */
} field;

static uint64_t varint(reader *r)
{
    uint64_t value = 0;
    for (int shift = 0;; shift += 7) {
        cr_assert(r->at < r->end && shift < 64, "a varint that does not end");
        value |= (uint64_t)(*r->at & 0x7F) << shift;
        if (!(*r->at++ & 0x80)) return value;
    }
}

static bool next(reader *r, field *f)
{
    if (r->at == r->end) return false;
    uint64_t key = varint(r);
    *f = (field){.number = (uint32_t)(key >> 3), .wire = key & 7};
    size_t size = f->wire == 1 ? 8 : f->wire == 5 ? 4 : 0;
    if (f->wire == 0) f->value = varint(r);
    if (f->wire == 2) size = varint(r);
    cr_assert((f->wire <= 2 || f->wire == 5) && size <= (size_t)(r->end - r->at), "field %u: wire type %u, %zu bytes",
              f->number, f->wire, size);
    if (f->wire == 2) f->inside = (reader){r->at, r->at + size};
    else if (f->wire) memcpy(&f->value, r->at, size);
    r->at += size;
    return true;
}

/* The first field of that number; the test fails when there is none. */
static field get(reader message, uint32_t number)
{
    field f;
    while (next(&message, &f))
        if (f.number == number) return f;
    cr_assert(false, "no field %u", number);
    return f;
}

static void assert_text(field f, const char *text)
{
    size_t size = (size_t)(f.inside.end - f.inside.at);
    cr_assert(f.wire == 2 && size == strlen(text) && memcmp(f.inside.at, text, size) == 0, "%.*s is not %s", (int)size,
              (const char *)f.inside.at, text);
}

/* The next record's event. */
static reader record(reader *file)
{
    uint64_t size;
    uint32_t checksum;
    cr_assert(file->end - file->at >= 12, "a record that is cut off");
    memcpy(&size, file->at, 8);
    memcpy(&checksum, file->at + 8, 4);
    cr_assert(checksum == grdi_crc32c_masked(file->at, 8), "of the length");
    cr_assert((uint64_t)(file->end - file->at) >= 16 + size, "a record that is cut off");
    reader event = {file->at + 12, file->at + 12 + size};
    memcpy(&checksum, event.end, 4);
    cr_assert(checksum == grdi_crc32c_masked(event.at, size), "of the data");
    file->at = event.end + 4;
    return event;
}

static grdi_board begin(int64_t done)
{
    grd_error error = {GRD_OK, ""};
    grdi_board board;
    grdi_directory_make(scratch_path("run"), &error);
    cr_assert(grdi_board_open(&board, scratch_path("run"), done, 1234567890.5, &error) == GRD_OK, "%s", error.message);
    return board;
}

Test(tensorboard, events_can_be_read_back)
{
    grd_error error = {GRD_OK, ""};
    grdi_board board = begin(300);
    const grdi_scalar scalars[] = {{"a", 0.5}, {"left out", NAN}, {"b/c", -2}};
    cr_assert(grdi_board_scalars(&board, 301, 1234567891.5, scalars, 3, &error) == GRD_OK);
    cr_assert(grdi_board_text(&board, 302, 0, "sample", "caf\xC3\xA9\n", &error) == GRD_OK);
    size_t size;
    char *bytes = scratch_read(board.path, &size);
    cr_assert(strstr(board.path, "/events.out.tfevents.1234567890."), "%s", board.path);
    grdi_board_close(&board);
    reader file = {(const uint8_t *)bytes, (const uint8_t *)bytes + size};
    assert_text(get(record(&file), 3), "brain.Event:2");
    reader start = record(&file);
    cr_assert(get(start, 2).value == 301 && get(get(start, 7).inside, 1).value == 1,
              "earlier steps from 301 on are void");
    reader event = record(&file);
    double seconds;
    float first;
    uint64_t bits = get(event, 1).value;
    memcpy(&seconds, &bits, 8);
    cr_assert(seconds == 1234567891.5 && get(event, 2).value == 301);
    reader summary = get(event, 5).inside;
    field value;
    cr_assert(next(&summary, &value) && value.number == 1);
    assert_text(get(value.inside, 1), "a");
    uint64_t narrow = get(value.inside, 2).value;
    memcpy(&first, &narrow, 4);
    cr_assert(first == 0.5f);
    cr_assert(next(&summary, &value));
    assert_text(get(value.inside, 1), "b/c");
    cr_assert(!next(&summary, &value), "NaN is left out");
    value = get(get(record(&file), 5).inside, 1);
    reader tensor = get(value.inside, 8).inside;
    cr_assert(get(tensor, 1).value == 7, "DT_STRING");
    assert_text(get(tensor, 8), "caf\xC3\xA9\n");
    assert_text(get(get(get(value.inside, 9).inside, 1).inside, 1), "text");
    cr_assert(file.at == file.end, "nothing more");
    free(bytes);
}

static ssize_t no_room(int fd, const void *bytes, size_t size_bytes)
{
    (void)fd, (void)bytes, (void)size_bytes;
    errno = ENOSPC;
    return -1;
}

Test(tensorboard, a_full_disk_ends_the_file_and_nothing_else)
{
    grd_error error = {GRD_OK, ""};
    grdi_board board = begin(0);
    const grdi_scalar scalar = {"a", 1};
    grdi_file.write = no_room;
    cr_assert(grdi_board_scalars(&board, 1, 0, &scalar, 1, &error) == GRD_E_IO &&
                  strstr(error.message, "No space left"),
              "%s", error.message);
    cr_assert(board.fd == -1 && grdi_board_scalars(&board, 2, 0, &scalar, 1, &error) == GRD_OK, "said once");
    grdi_board_close(&board);
}
