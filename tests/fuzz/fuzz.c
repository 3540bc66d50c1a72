/* fuzz.c - see fuzz.h. */
#include "fuzz.h"

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

_Noreturn void fuzz_found(const char *file, int line, const char *what)
{
    fprintf(stderr, "%s:%d: not so: %s\n", file, line, what);
    abort();
}

void fuzz_check_error(grd_status status, const grd_error *error)
{
    FUZZ_CHECK(status == error->status && status != GRD_E_MEMORY);
    FUZZ_CHECK(error->message[0] && !strchr(error->message, '\n'));
}

/* ---- files ---- */

enum { FILES_MAX = 16, PATH_MAX_BYTES = 256 };

/* Descriptors are kept and used again: making one costs more than most inputs do. */
static struct file {
    char path[PATH_MAX_BYTES];
    int fd;
    bool there;
} files[FILES_MAX];

static struct file *find(const char *path)
{
    for (int i = 0; i < FILES_MAX; i++)
        if (files[i].there && strcmp(files[i].path, path) == 0) return &files[i];
    return NULL;
}

static struct file *make(const char *path)
{
    struct file *file = find(path);
    for (int i = 0; i < FILES_MAX && !file; i++)
        if (!files[i].there) file = &files[i];
    FUZZ_CHECK(file && strlen(path) < PATH_MAX_BYTES);
    if (file->fd <= 0) file->fd = memfd_create("fuzz", 0);
    FUZZ_CHECK(file->fd > 0 && ftruncate(file->fd, 0) == 0);
    strcpy(file->path, path);
    file->there = true;
    return file;
}

static int open_file(const char *path, int flags, mode_t mode)
{
    (void)mode;
    if (flags & O_DIRECTORY) return open("/", O_RDONLY | O_DIRECTORY);
    struct file *file = flags & O_TRUNC ? make(path) : find(path);
    if (!file && flags & O_CREAT) file = make(path);
    if (!file) {
        errno = ENOENT;
        return -1;
    }
    char own[64];
    snprintf(own, sizeof own, "/proc/self/fd/%d", file->fd);
    return open(own, flags & ~(O_CREAT | O_TRUNC));
}

static int sync_file(int fd)
{
    (void)fd;
    return 0;
}

static int rename_file(const char *from, const char *to)
{
    struct file *file = find(from), *old = find(to);
    FUZZ_CHECK(file != NULL && strlen(to) < PATH_MAX_BYTES);
    if (old) old->there = false;
    strcpy(file->path, to);
    return 0;
}

static int unlink_file(const char *path)
{
    struct file *file = find(path);
    if (file) file->there = false;
    return file ? 0 : -1;
}

static int make_directory(const char *path, mode_t mode)
{
    (void)path;
    (void)mode;
    return 0;
}

static void *map_file(int fd, size_t size_bytes)
{
    void *bytes = malloc(size_bytes);
    FUZZ_CHECK(bytes && pread(fd, bytes, size_bytes, 0) == (ssize_t)size_bytes);
    return bytes;
}

static void unmap_file(void *bytes, size_t size_bytes)
{
    (void)size_bytes;
    free(bytes);
}

static void release_file(void *bytes, size_t size_bytes)
{
    (void)bytes;
    (void)size_bytes;
}

static void install(void)
{
    grdi_file = (grdi_file_table){.open = open_file,
                                  .read = read,
                                  .write = write,
                                  .sync = sync_file,
                                  .close = close,
                                  .rename = rename_file,
                                  .unlink = unlink_file,
                                  .make_directory = make_directory,
                                  .map = map_file,
                                  .unmap = unmap_file,
                                  .release = release_file};
}

void fuzz_files_clear(void)
{
    if (grdi_file.open != open_file) install();
    for (int i = 0; i < FILES_MAX; i++) files[i].there = false;
}

void fuzz_file_put(const char *path, const void *bytes, size_t size_bytes)
{
    if (grdi_file.open != open_file) install();
    struct file *file = make(path);
    FUZZ_CHECK(size_bytes == 0 || pwrite(file->fd, bytes, size_bytes, 0) == (ssize_t)size_bytes);
}

const void *fuzz_file_bytes(const char *path, size_t *size_bytes)
{
    static void *bytes;
    struct file *file = find(path);
    if (!file) return NULL;
    *size_bytes = (size_t)lseek(file->fd, 0, SEEK_END);
    free(bytes);
    bytes = malloc(*size_bytes + 1);
    FUZZ_CHECK(bytes && pread(file->fd, bytes, *size_bytes, 0) == (ssize_t)*size_bytes);
    return bytes;
}

/* ---- choices ---- */

uint8_t fuzz_byte(fuzz_input *in) { return in->at < in->end ? *in->at++ : 0; }

bool fuzz_part(fuzz_input *in, const uint8_t **part, size_t *size_bytes)
{
    static const char mark[] = "\n----\n";
    if (in->at == in->end) return false;
    const uint8_t *found = memmem(in->at, (size_t)(in->end - in->at), mark, sizeof mark - 1);
    *part = in->at;
    *size_bytes = (size_t)((found ? found : in->end) - in->at);
    in->at = found ? found + sizeof mark - 1 : in->end;
    return true;
}

char *fuzz_text(fuzz_input *in)
{
    static char *text;
    size_t size = (size_t)(in->end - in->at);
    free(text);
    text = malloc(size + 1);
    FUZZ_CHECK(text != NULL);
    if (size) memcpy(text, in->at, size);
    text[size] = '\0';
    in->at = in->end;
    return text;
}
