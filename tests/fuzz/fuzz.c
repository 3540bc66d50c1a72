/* fuzz.c - see fuzz.h. */
#include "fuzz.h"

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* libfyaml 0.7 loses a block of its own for some keys that are no YAML (a long one in quotes, then a line that begins
 * with a colon). */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void) { return "leak:libfyaml.so\n"; }

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

enum { FILES_MAX = 16, PATH_MAX_BYTES = 256, HANDLES_MAX = 16, HANDLE_FIRST = 1 << 20, DIRECTORY = HANDLE_FIRST - 1 };

/* Their blocks are kept and used again; no call of the operating system is made, as most inputs cost less than one. */
static struct file {
    char path[PATH_MAX_BYTES];
    uint8_t *bytes;
    size_t size, room;
    bool there;
} files[FILES_MAX];

static struct handle {
    struct file *file; /* NULL: not open */
    size_t at;
} handles[HANDLES_MAX];

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
    strcpy(file->path, path);
    file->size = 0;
    file->there = true;
    return file;
}

static void put(struct file *file, size_t at, const void *bytes, size_t size_bytes)
{
    if (at + size_bytes > file->room) {
        file->room = 2 * (at + size_bytes);
        file->bytes = realloc(file->bytes, file->room);
        FUZZ_CHECK(file->bytes != NULL);
    }
    if (size_bytes) memcpy(file->bytes + at, bytes, size_bytes);
    file->size = at + size_bytes;
}

static struct handle *handle_of(int fd)
{
    FUZZ_CHECK(fd >= HANDLE_FIRST && fd < HANDLE_FIRST + HANDLES_MAX && handles[fd - HANDLE_FIRST].file);
    return &handles[fd - HANDLE_FIRST];
}

static int open_file(const char *path, int flags, mode_t mode)
{
    (void)mode;
    if (flags & O_DIRECTORY) return DIRECTORY;
    struct file *file = flags & O_TRUNC ? make(path) : find(path);
    if (!file && flags & O_CREAT) file = make(path);
    if (!file) {
        errno = ENOENT;
        return -1;
    }
    int h = 0;
    while (h < HANDLES_MAX && handles[h].file) h++;
    FUZZ_CHECK(h < HANDLES_MAX);
    handles[h] = (struct handle){file, flags & O_APPEND ? file->size : 0};
    return HANDLE_FIRST + h;
}

static int status_of_file(int fd, struct stat *about)
{
    memset(about, 0, sizeof *about);
    about->st_mode = fd == DIRECTORY ? S_IFDIR : S_IFREG;
    if (fd != DIRECTORY) about->st_size = (off_t)handle_of(fd)->file->size;
    return 0;
}

static ssize_t read_file(int fd, void *buffer, size_t size_bytes)
{
    struct handle *h = handle_of(fd);
    size_t left = h->file->size - h->at, count = size_bytes < left ? size_bytes : left;
    if (count) memcpy(buffer, h->file->bytes + h->at, count);
    h->at += count;
    return (ssize_t)count;
}

static ssize_t write_file(int fd, const void *buffer, size_t size_bytes)
{
    struct handle *h = handle_of(fd);
    put(h->file, h->at, buffer, size_bytes);
    h->at += size_bytes;
    return (ssize_t)size_bytes;
}

static int sync_file(int fd)
{
    (void)fd;
    return 0;
}

static int lock_file(int fd, int how)
{
    (void)fd;
    (void)how;
    return 0;
}

static int close_file(int fd)
{
    if (fd != DIRECTORY) handle_of(fd)->file = NULL;
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
    struct file *file = handle_of(fd)->file;
    void *bytes = malloc(size_bytes);
    FUZZ_CHECK(bytes && size_bytes == file->size);
    memcpy(bytes, file->bytes, size_bytes);
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
                                  .status = status_of_file,
                                  .read = read_file,
                                  .write = write_file,
                                  .sync = sync_file,
                                  .lock = lock_file,
                                  .close = close_file,
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
    for (int h = 0; h < HANDLES_MAX; h++) FUZZ_CHECK(!handles[h].file); /* what an input opened is closed */
    for (int i = 0; i < FILES_MAX; i++) files[i].there = false;
}

void fuzz_file_put(const char *path, const void *bytes, size_t size_bytes)
{
    if (grdi_file.open != open_file) install();
    put(make(path), 0, bytes, size_bytes);
}

const void *fuzz_file_bytes(const char *path, size_t *size_bytes)
{
    static void *bytes;
    struct file *file = find(path);
    if (!file) return NULL;
    *size_bytes = file->size;
    free(bytes);
    bytes = malloc(file->size + 1);
    FUZZ_CHECK(bytes != NULL);
    if (file->size) memcpy(bytes, file->bytes, file->size);
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
