/* Files: mapping, reading, crash-safe writing under faults, directories. */
#include "base/file.h"
#include "base/memory.h"
#include "faults.h"
#include "scratch.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

TestSuite(files, .fini = scratch_remove);

Test(files, read_and_map_give_the_bytes)
{
    const char *path = scratch_path("file");
    grd_error error = {0};
    scratch_write(path, "some\0bytes", 10);
    char *text;
    size_t size;
    cr_assert(grdi_file_read(path, 10, &text, &size, &error) == GRD_OK, "%s", error.message);
    cr_assert(size == 10 && memcmp(text, "some\0bytes", 11) == 0, "the bytes and a zero");
    grdi_free(text);
    grdi_mapping mapping;
    cr_assert(grdi_file_map(path, &mapping, &error) == GRD_OK, "%s", error.message);
    cr_assert(mapping.size_bytes == 10 && memcmp(mapping.data, "some\0bytes", 10) == 0, "the bytes");
    grdi_file_unmap(&mapping);
    scratch_write(path, "", 0);
    cr_assert(grdi_file_map(path, &mapping, &error) == GRD_OK && mapping.size_bytes == 0 && mapping.data[0] == 0,
              "empty");
    grdi_file_unmap(&mapping);
}

Test(files, reading_in_small_pieces_and_from_a_pipe)
{
    faults_install();
    faults_limit_transfers(3);
    static char many[20000];
    for (size_t i = 0; i < sizeof many; i++)
        many[i] = (char)(i * 7);
    const char *path = scratch_path("file");
    scratch_write(path, many, sizeof many);
    grd_error error = {0};
    char *text;
    size_t size;
    cr_assert(grdi_file_read(path, 1 << 20, &text, &size, &error) == GRD_OK, "%s", error.message);
    cr_assert(size == sizeof many && memcmp(text, many, size) == 0, "small pieces");
    grdi_free(text);
    int ends[2];
    cr_assert(pipe(ends) == 0 && write(ends[1], many, 9000) == 9000 && close(ends[1]) == 0, "pipe");
    char name[64];
    snprintf(name, sizeof name, "/dev/fd/%d", ends[0]);
    cr_assert(grdi_file_read(name, 9000, &text, &size, &error) == GRD_OK, "%s", error.message);
    cr_assert(size == 9000 && memcmp(text, many, size) == 0, "a pipe has no size beforehand");
    grdi_free(text);
}

Test(files, errors_name_the_path_and_the_reason)
{
    grd_error error = {0};
    char *text;
    size_t size;
    cr_assert(grdi_file_read(scratch_path("none"), 10, &text, &size, &error) == GRD_E_IO && text == NULL, "missing");
    cr_assert(strstr(error.message, "/none: ") && strstr(error.message, "No such file"), "%s", error.message);
    error.status = GRD_OK;
    cr_assert(grdi_file_read("/tmp", 10, &text, &size, &error) == GRD_E_IO, "a directory");
    cr_assert(strstr(error.message, "is a directory"), "%s", error.message);
    error.status = GRD_OK;
    scratch_write(scratch_path("big"), "12345678901", 11);
    cr_assert(grdi_file_read(scratch_path("big"), 10, &text, &size, &error) == GRD_E_FORMAT, "too large");
    cr_assert(strstr(error.message, "larger than 10 bytes"), "%s", error.message);
    grdi_mapping mapping;
    cr_assert(grdi_file_map(scratch_path("none"), &mapping, NULL) == GRD_E_IO && mapping.size_bytes == 0, "no mapping");
}

static char block[300000];

/* Writes small and large pieces; the content depends on `mark`. */
static grd_status write_file(const char *path, char mark, grd_error *error)
{
    memset(block, mark, sizeof block);
    grdi_writer writer;
    grdi_writer_open(&writer, path);
    grdi_writer_print(&writer, "%c begins ", mark);
    grdi_writer_put(&writer, block, 1000);
    grdi_writer_put(&writer, block, sizeof block);
    grdi_writer_print(&writer, "%.*s", 2000, block);
    return grdi_writer_commit(&writer, error);
}

static void assert_content(const char *path, char mark)
{
    size_t size;
    char *bytes = scratch_read(path, &size);
    cr_assert(size == 9 + 1000 + sizeof block + 2000, "%zu bytes", size);
    cr_assert(bytes[0] == mark && memcmp(bytes + 1, " begins ", 8) == 0, "begins with %.9s", bytes);
    for (size_t i = 9; i < size; i++)
        cr_assert(bytes[i] == mark, "byte %zu is %c", i, bytes[i]);
    free(bytes);
}

Test(files, a_writer_keeps_the_old_file_whatever_fails)
{
    faults_install();
    const char *path = scratch_path("file");
    cr_assert(write_file(path, 'a', NULL) == GRD_OK, "the first");
    long n = 1;
    for (bool hit = true; hit; n++) {
        grd_error error = {0};
        faults_fail_at(n);
        grd_status status = write_file(path, 'b', &error);
        hit = faults_hit();
        faults_fail_at(0);
        cr_assert(status == error.status, "fault %ld: status %d, error %d", n, status, error.status);
        cr_assert(status == GRD_OK || hit, "fault %ld: %s", n, error.message);
        cr_assert(faults_held() == 0, "fault %ld: %ld things leak", n, faults_held());
        size_t size;
        char *bytes = scratch_read(path, &size);
        /* After the rename only making it durable can fail: the file is then the new one. */
        char mark = bytes[0];
        free(bytes);
        assert_content(path, mark);
        cr_assert(mark == 'b' || status != GRD_OK, "reported written, but it is not");
        cr_assert(write_file(path, 'a', NULL) == GRD_OK, "again");
    }
    cr_assert(n > 10, "only %ld operations", n);
}

Test(files, a_writer_finishes_short_writes)
{
    faults_install();
    faults_limit_transfers(1001);
    cr_assert(write_file(scratch_path("file"), 'c', NULL) == GRD_OK, "short writes");
    assert_content(scratch_path("file"), 'c');
}

Test(files, a_writer_starts_afresh_where_another_died)
{
    const char *path = scratch_path("file");
    char *left = grdi_format("%s.tmp-%ld", path, (long)getpid());
    static char junk[500000];
    scratch_write(left, junk, sizeof junk);
    cr_assert(write_file(path, 'd', NULL) == GRD_OK, "write");
    assert_content(path, 'd');
    grdi_free(left);
}

Test(files, an_abandoned_writer_leaves_nothing)
{
    const char *path = scratch_path("file");
    grdi_writer writer;
    cr_assert(grdi_writer_open(&writer, path) == GRD_OK, "open");
    grdi_writer_put(&writer, "x", 1);
    cr_assert(writer.size_bytes == 1, "counts");
    grdi_writer_abandon(&writer);
    grdi_writer_abandon(&writer);
    char **names;
    size_t count;
    cr_assert(grdi_directory_list(scratch_path(""), &names, &count, NULL) == GRD_OK && count == 0, "%zu files", count);
    grdi_names_free(names, count);
    grd_error error = {0};
    cr_assert(grdi_writer_put(&writer, "x", 1) == GRD_E_STATE, "a closed writer takes nothing");
    cr_assert(grdi_writer_commit(&writer, &error) == GRD_E_STATE && strstr(error.message, "not open"), "%s",
              error.message);
}

/* The new file would take the place of the device: written as root, /dev/null would be gone. */
Test(files, a_writer_leaves_pipes_and_devices_alone)
{
    const char *path = scratch_path("pipe");
    grdi_writer writer;
    grd_error error = {GRD_OK, ""};
    cr_assert(mkfifo(path, 0600) == 0);
    grdi_writer_open(&writer, path);
    grdi_writer_print(&writer, "text");
    cr_assert(grdi_writer_commit(&writer, &error) == GRD_E_ARGUMENT, "%d %s", error.status, error.message);
    cr_assert(strstr(error.message, path) && strstr(error.message, "a pipe or a device"), "%s", error.message);
    cr_assert(grdi_path_is_stream(path), "the pipe is still there");
}

Test(files, directories)
{
    grd_error error = {0};
    const char *deep = scratch_path("a/b//c/");
    cr_assert(grdi_directory_make(deep, &error) == GRD_OK && grdi_path_is_directory(deep), "%s", error.message);
    cr_assert(grdi_directory_make(deep, &error) == GRD_OK, "making it again: %s", error.message);
    cr_assert(!grdi_directory_has_entries(deep) && grdi_directory_has_entries(scratch_path("a")), "has_entries");
    scratch_write(scratch_path("a/b/z"), "1", 1);
    scratch_write(scratch_path("a/b/B"), "1", 1);
    cr_assert(grdi_directory_make(scratch_path("a/b/z/d"), &error) == GRD_E_IO, "below a file");
    static char too_long[300];
    memset(too_long, 'x', sizeof too_long - 1);
    char new[400];
    snprintf(new, sizeof new, "%s/%s", scratch_path("a/new/er"), too_long);
    cr_assert(grdi_directory_make(new, &error) == GRD_E_IO, "a name that is too long");
    cr_expect(!grdi_path_is_directory(scratch_path("a/new")) && grdi_path_is_directory(scratch_path("a")), "leftovers");
    char **names;
    size_t count;
    cr_assert(grdi_directory_list(scratch_path("a/b"), &names, &count, NULL) == GRD_OK && count == 3, "%zu names",
              count);
    cr_assert(strcmp(names[0], "B") == 0 && strcmp(names[1], "c") == 0 && strcmp(names[2], "z") == 0,
              "sorted bytewise");
    grdi_names_free(names, count);
    cr_assert(grdi_directory_rename(scratch_path("a"), scratch_path("e"), NULL) == GRD_OK, "rename");
    cr_assert(!grdi_path_exists(scratch_path("a")) && grdi_path_exists(scratch_path("e/b/z")), "renamed");
    scratch_write(scratch_path("outside"), "1", 1);
    cr_assert(symlink(scratch_path(""), scratch_path("e/link")) == 0, "link");
    cr_assert(grdi_directory_remove(scratch_path("e"), NULL) == GRD_OK && !grdi_path_exists(scratch_path("e")),
              "remove");
    cr_assert(grdi_path_exists(scratch_path("outside")), "what a link points to stays");
    cr_assert(grdi_directory_remove(scratch_path("e"), NULL) == GRD_OK, "a missing one is no error");
    char *joined = grdi_path_join("x/", "y"), *plain = grdi_path_join("x", "y"), *empty = grdi_path_join("", "y");
    cr_assert(strcmp(joined, "x/y") == 0 && strcmp(plain, "x/y") == 0 && strcmp(empty, "y") == 0, "join");
    grdi_free(joined);
    grdi_free(plain);
    grdi_free(empty);
}

Test(files, what_killed_writers_left_is_swept_up)
{
    static const char *const names[] = {"sweep/a.txt.tmp-123", "sweep/b.tmp-", "sweep/c.tmp-12x", "sweep/d.txt"};
    grd_error error = {GRD_OK, ""};
    cr_assert(grdi_directory_make(scratch_path("sweep"), &error) == GRD_OK);
    for (int i = 0; i < 4; i++) scratch_write(scratch_path(names[i]), "x", 1);
    grdi_writer_sweep(scratch_path("sweep"));
    for (int i = 0; i < 4; i++) cr_assert(grdi_path_exists(scratch_path(names[i])) == (i > 0), "%s", names[i]);
    grdi_writer_sweep(scratch_path("nowhere"));
}
