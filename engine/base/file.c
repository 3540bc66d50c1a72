/* file.c - file I/O through one table: mapping, reading, crash-safe writing, directories. */
#include "base/file.h"

#include "base/memory.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <stdint.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static int open_file(const char *path, int flags, mode_t mode) { return open(path, flags, mode); }

static void *map_file(int fd, size_t size_bytes)
{
    void *memory = mmap(NULL, size_bytes, PROT_READ, MAP_SHARED, fd, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

static void unmap_file(void *memory, size_t size_bytes) { munmap(memory, size_bytes); }

/* Whole pages only. */
static void release_file(void *memory, size_t size_bytes)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t from = ((uintptr_t)memory + page - 1) / page * page, to = ((uintptr_t)memory + size_bytes) / page * page;
    if (from < to)
        madvise((void *)from, to - from, MADV_DONTNEED);
}

grdi_file_table grdi_file = {
    .open = open_file,
    .status = fstat,
    .read = read,
    .write = write,
    .sync = fsync,
    .lock = flock,
    .close = close,
    .rename = rename,
    .unlink = remove, /* a file, or a directory that is empty */
    .make_directory = mkdir,
    .map = map_file,
    .unmap = unmap_file,
    .release = release_file,
};

grd_status grdi_file_status(int problem)
{
    return problem == ENOSPC || problem == EDQUOT || problem == EFBIG ? GRD_E_SPACE : GRD_E_IO;
}

/* What a person can do about an error of the operating system. */
static const char *remedy(int problem, bool reading)
{
    switch (problem) {
    case ENOENT: return reading ? " (check the path)" : " (make its folder first)";
    case ENOTDIR: return " (a part of the path is a file)";
    case ELOOP: return " (its links lead in a circle: name the file itself)";
    case EACCES:
    case EPERM: return " (check its permissions)";
    case EROFS: return " (write somewhere else)";
    case ENOSPC: return " (free some space, or write to another disk)";
    case EDQUOT: return " (free some of your quota, or write to another disk)";
    case EFBIG: return " (raise the limit on file sizes, as with ulimit -f)";
    case EMFILE: return " (raise the limit on open files, as with ulimit -n)";
    case ENAMETOOLONG: return " (give a shorter one)";
    default: return "";
    }
}

grd_status grd_fail_system(grd_error *error, const char *path, const char *what)
{
    bool reading = strcmp(what, "open") == 0 || strcmp(what, "read") == 0 || strcmp(what, "list") == 0;
    return grd_fail(error, grdi_file_status(errno), "%s: cannot %s: %s%s", path, what, strerror(errno),
                    remedy(errno, reading));
}

static grd_status fail_memory(grd_error *error, const char *path)
{
    return grd_fail(error, GRD_E_MEMORY, "%s: out of memory", path);
}

static grd_status fail_too_large(grd_error *error, const char *path, size_t max_bytes)
{
    return grd_fail(error, GRD_E_FORMAT,
                    "%s: larger than %zu bytes, the most that is read here (is it the right file?)", path, max_bytes);
}

static int open_retrying(const char *path, int flags, mode_t mode)
{
    int fd;
    do
        fd = grdi_file.open(path, flags | O_CLOEXEC, mode);
    while (fd < 0 && errno == EINTR);
    return fd;
}

/* A pipe that was opened without waiting: waits until something comes or its writers are gone. One that nobody has
 * opened for writing is given WRITER_WAIT_MS, then refused; a writer may take its time. From then on reading waits. */
static grd_status wait_for_pipe(int fd, const char *path, grd_error *error)
{
    enum { WRITER_WAIT_MS = 3000 };
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    char none;
    if (poll(&wait, 1, WRITER_WAIT_MS) == 0 && grdi_file.read(fd, &none, 1) >= 0)
        return grd_fail(error, GRD_E_IO, "%s: is a pipe that no program writes to (start the one that does first)",
                        path);
    return fcntl(fd, F_SETFL, 0) == 0 ? GRD_OK : grd_fail_system(error, path, "read");
}

/* Opens for reading, refusing directories, and tells what it is. Never waits for a pipe that nobody writes to. */
static grd_status open_for_reading(const char *path, int *fd, struct stat *about, grd_error *error)
{
    *fd = open_retrying(path, O_RDONLY | O_NONBLOCK, 0);
    if (*fd < 0)
        return grd_fail_system(error, path, "open");
    grd_status status = GRD_OK;
    if (grdi_file.status(*fd, about) != 0)
        status = grd_fail_system(error, path, "read");
    else if (S_ISDIR(about->st_mode))
        status = grd_fail(error, GRD_E_IO, "%s: is a directory, not a file (name a file in it)", path);
    else if (!S_ISREG(about->st_mode))
        status = wait_for_pipe(*fd, path, error);
    if (status != GRD_OK) {
        grdi_file.close(*fd);
        *fd = -1;
    }
    return status;
}

/* ---- reading ---- */

grd_status grdi_file_open_unnamed(const char *directory, int *fd, grd_error *error)
{
    const char *temporary = getenv("TMPDIR"), *places[] = {directory, temporary, "/tmp", "/dev/shm"};
    *fd = -1;
    for (int i = 0; i < 4 && *fd < 0; i++)
        if (places[i])
            *fd = open_retrying(places[i], O_TMPFILE | O_RDWR, 0600);
    return *fd >= 0 ? GRD_OK : grd_fail_system(error, temporary ? temporary : "/tmp", "make a file without a name");
}

/* Puts all that comes from a pipe into a file without a name, which takes its place. */
static grd_status keep_stream(int *fd, const char *path, size_t *size_bytes, grd_error *error)
{
    enum { PIECE_BYTES = 1 << 16 };
    uint8_t *piece = grdi_alloc(PIECE_BYTES);
    int file = -1;
    grd_status status = piece ? grdi_file_open_unnamed(NULL, &file, error) : fail_memory(error, path);
    *size_bytes = 0;
    while (status == GRD_OK) {
        ssize_t count = grdi_file.read(*fd, piece, PIECE_BYTES);
        if (count < 0 && errno == EINTR)
            continue;
        if (count == 0)
            break;
        status = count < 0 ? grd_fail_system(error, path, "read")
                           : grdi_file_put(file, "temporary file of what a pipe gives", piece, (size_t)count, error);
        *size_bytes += (size_t)(count > 0 ? count : 0);
    }
    grdi_free(piece);
    grdi_file.close(*fd);
    *fd = file;
    return status;
}

static grd_status map_whole(int fd, const char *path, size_t size_bytes, grdi_mapping *mapping, grd_error *error)
{
    if (size_bytes == 0)
        return GRD_OK;
    void *memory = grdi_file.map(fd, size_bytes);
    if (!memory)
        return grd_fail_system(error, path, "map");
    *mapping = (grdi_mapping){memory, size_bytes};
    return GRD_OK;
}

grd_status grdi_file_map(const char *path, grdi_mapping *mapping, grd_error *error)
{
    *mapping = (grdi_mapping){(const uint8_t *)"", 0};
    int fd;
    struct stat about;
    grd_status status = open_for_reading(path, &fd, &about, error);
    if (status != GRD_OK)
        return status;
    size_t size_bytes = (size_t)about.st_size;
    if (S_ISBLK(about.st_mode) || (S_ISCHR(about.st_mode) && !isatty(fd)))
        status = grd_fail(error, GRD_E_IO, "%s: is a device, not a file (give a file or a pipe)", path);
    else if (!S_ISREG(about.st_mode))
        status = keep_stream(&fd, path, &size_bytes, error);
    if (status == GRD_OK)
        status = map_whole(fd, path, size_bytes, mapping, error);
    if (fd >= 0)
        grdi_file.close(fd); /* only read from: nothing can be lost here */
    return status;
}

void grdi_file_unmap(grdi_mapping *mapping)
{
    if (mapping->size_bytes > 0)
        grdi_file.unmap((void *)mapping->data, mapping->size_bytes);
    *mapping = (grdi_mapping){(const uint8_t *)"", 0};
}

/* Reads to the end of `fd` into *text, which grows; `room` is a first guess. */
static grd_status read_all(int fd, const char *path, size_t max_bytes, size_t room, char **text, size_t *used,
                           grd_error *error)
{
    *used = 0;
    for (;;) {
        if (!*text || *used + 1 >= room) {
            room = *text ? 2 * room : room;
            char *grown = grdi_realloc(*text, room, 1);
            if (!grown)
                return fail_memory(error, path);
            *text = grown;
        }
        ssize_t count = grdi_file.read(fd, *text + *used, room - 1 - *used);
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            return grd_fail_system(error, path, "read");
        *used += (size_t)count;
        if (*used > max_bytes)
            return fail_too_large(error, path, max_bytes);
        if (count == 0)
            break;
    }
    (*text)[*used] = 0;
    return GRD_OK;
}

grd_status grdi_file_read(const char *path, size_t max_bytes, char **text, size_t *size_bytes, grd_error *error)
{
    *text = NULL;
    *size_bytes = 0;
    int fd;
    struct stat about;
    grd_status status = open_for_reading(path, &fd, &about, error);
    if (status != GRD_OK)
        return status;
    size_t expected = S_ISREG(about.st_mode) ? (size_t)about.st_size : 0; /* pipes have none */
    if (expected > max_bytes)
        status = fail_too_large(error, path, max_bytes);
    else /* one byte for the zero, one so that the end is seen without growing */
        status = read_all(fd, path, max_bytes, expected > 0 ? expected + 2 : 4096, text, size_bytes, error);
    grdi_file.close(fd);
    if (status != GRD_OK) {
        grdi_free(*text);
        *text = NULL;
        *size_bytes = 0;
    }
    return status;
}

/* ---- crash-safe writing ---- */

enum { WRITER_BUFFER_BYTES = 1 << 16 };

grd_status grdi_writer_open(grdi_writer *writer, const char *path)
{
    *writer = (grdi_writer){.fd = -1};
    writer->path = grdi_strdup(path);
    writer->temporary = grdi_format("%s.tmp-%ld", path, (long)getpid());
    writer->buffer = grdi_alloc(WRITER_BUFFER_BYTES);
    if (!writer->path || !writer->temporary || !writer->buffer) {
        fail_memory(&writer->error, path);
    } else if (grdi_path_is_stream(path)) { /* commit would put a file in its place */
        grd_fail(&writer->error, GRD_E_ARGUMENT, "%s: is a pipe or a device (name a file to write)", path);
    } else {
        writer->fd = open_retrying(writer->temporary, O_WRONLY | O_CREAT | O_TRUNC, 0666);
        if (writer->fd < 0)
            grd_fail_system(&writer->error, path, "create");
    }
    if (writer->error.status != GRD_OK) {
        grd_error first = writer->error;
        grdi_writer_abandon(writer);
        writer->error = first;
    }
    return writer->error.status;
}

grd_status grdi_file_put(int fd, const char *name, const void *bytes, size_t size_bytes, grd_error *error)
{
    for (const uint8_t *from = bytes; size_bytes > 0;) {
        ssize_t count = grdi_file.write(fd, from, size_bytes);
        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0) {
            if (count == 0)
                errno = ENOSPC;
            return grd_fail_system(error, name, "write");
        }
        from += count;
        size_bytes -= (size_t)count;
    }
    return GRD_OK;
}

static grd_status write_out(grdi_writer *writer, const void *bytes, size_t size_bytes)
{
    return grdi_file_put(writer->fd, writer->temporary, bytes, size_bytes, &writer->error);
}

static grd_status flush(grdi_writer *writer)
{
    size_t used = writer->used;
    writer->used = 0;
    return write_out(writer, writer->buffer, used);
}

/* True when the writer can take bytes; one that was never opened, or is already closed, gets its error here. */
static bool is_writable(grdi_writer *writer)
{
    if (writer->error.status == GRD_OK && !writer->temporary)
        grd_fail(&writer->error, GRD_E_STATE, "file writer: not open (open it before writing)");
    return writer->error.status == GRD_OK;
}

grd_status grdi_writer_put(grdi_writer *writer, const void *bytes, size_t size_bytes)
{
    if (!is_writable(writer))
        return writer->error.status;
    if (size_bytes > WRITER_BUFFER_BYTES - writer->used && flush(writer) != GRD_OK)
        return writer->error.status;
    if (size_bytes >= WRITER_BUFFER_BYTES) {
        if (write_out(writer, bytes, size_bytes) != GRD_OK)
            return writer->error.status;
    } else if (size_bytes > 0) {
        memcpy(writer->buffer + writer->used, bytes, size_bytes);
        writer->used += size_bytes;
    }
    writer->size_bytes += size_bytes;
    return GRD_OK;
}

grd_status grdi_writer_print(grdi_writer *writer, const char *format, ...)
{
    if (!is_writable(writer))
        return writer->error.status;
    char small[512];
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int length = vsnprintf(small, sizeof small, format, arguments);
    if (length < 0) {
        grd_fail(&writer->error, GRD_E_ARGUMENT, "%s: text that cannot be formatted", writer->path);
    } else if ((size_t)length < sizeof small) {
        grdi_writer_put(writer, small, (size_t)length);
    } else {
        char *large = grdi_alloc((size_t)length + 1);
        if (large) {
            vsnprintf(large, (size_t)length + 1, format, again);
            grdi_writer_put(writer, large, (size_t)length);
            grdi_free(large);
        } else {
            fail_memory(&writer->error, writer->path);
        }
    }
    va_end(again);
    va_end(arguments);
    return writer->error.status;
}

/* The directory that holds `path`, in `directory`; NULL when out of memory. */
static char *directory_of(const char *path)
{
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/')
        length--;
    while (length > 0 && path[length - 1] != '/')
        length--;
    while (length > 1 && path[length - 1] == '/')
        length--;
    return length == 0 ? grdi_strdup(".") : grdi_format("%.*s", (int)length, path);
}

static grd_status sync_directory_of(const char *path, grd_error *error)
{
    char *directory = directory_of(path);
    if (!directory)
        return fail_memory(error, path);
    grd_status status = grdi_directory_sync(directory, error);
    grdi_free(directory);
    return status;
}

grd_status grdi_writer_commit(grdi_writer *writer, grd_error *error)
{
    if (is_writable(writer) && flush(writer) == GRD_OK && grdi_file.sync(writer->fd) != 0)
        grd_fail_system(&writer->error, writer->temporary, "sync");
    if (writer->fd >= 0 && writer->temporary) {
        if (grdi_file.close(writer->fd) != 0)
            grd_fail_system(&writer->error, writer->temporary, "close");
        writer->fd = -1;
    }
    if (writer->error.status == GRD_OK) {
        if (grdi_file.rename(writer->temporary, writer->path) != 0) {
            grd_fail_system(&writer->error, writer->path, "rename the new file to this name");
        } else { /* the temporary name is gone: nothing to remove when the sync fails */
            grdi_free(writer->temporary);
            writer->temporary = NULL;
            sync_directory_of(writer->path, &writer->error);
        }
    }
    grd_status status = writer->error.status;
    if (status != GRD_OK)
        grd_fail(error, status, "%s", writer->error.message);
    grdi_writer_abandon(writer);
    return status;
}

void grdi_writer_abandon(grdi_writer *writer)
{
    if (writer->temporary && writer->fd >= 0)
        grdi_file.close(writer->fd);
    if (writer->temporary)
        grdi_file.unlink(writer->temporary);
    grdi_free(writer->path);
    grdi_free(writer->temporary);
    grdi_free(writer->buffer);
    *writer = (grdi_writer){.fd = -1, .error = writer->error};
}

/* ---- directories ---- */

bool grdi_path_exists(const char *path)
{
    struct stat about;
    return stat(path, &about) == 0;
}

bool grdi_path_is_directory(const char *path)
{
    struct stat about;
    return stat(path, &about) == 0 && S_ISDIR(about.st_mode);
}

bool grdi_path_is_file(const char *path)
{
    struct stat about;
    return stat(path, &about) == 0 && S_ISREG(about.st_mode);
}

bool grdi_path_is_stream(const char *path)
{
    struct stat about;
    return stat(path, &about) == 0 && !S_ISREG(about.st_mode) && !S_ISDIR(about.st_mode);
}

size_t grdi_file_size(const char *path)
{
    struct stat about;
    return stat(path, &about) == 0 && S_ISREG(about.st_mode) ? (size_t)about.st_size : 0;
}

static bool is_dot_name(const char *name) { return strcmp(name, ".") == 0 || strcmp(name, "..") == 0; }

bool grdi_directory_has_entries(const char *path)
{
    DIR *directory = opendir(path);
    if (!directory)
        return false;
    bool found = false;
    for (struct dirent *entry; !found && (entry = readdir(directory));)
        found = !is_dot_name(entry->d_name);
    closedir(directory);
    return found;
}

/* Takes away the last directory of `path` and those above it, while more than `kept` bytes of the path are left. */
static void remove_made(char *path, size_t kept)
{
    for (size_t n = strlen(path); n > kept; path[n] = 0) {
        grdi_file.unlink(path);
        while (n > kept && path[n - 1] != '/')
            n--;
        while (n > kept && path[n - 1] == '/')
            n--;
    }
}

grd_status grdi_directory_make(const char *path, grd_error *error)
{
    char *prefix = grdi_strdup(path);
    if (!prefix)
        return fail_memory(error, path);
    size_t there = SIZE_MAX, last = 0; /* lengths of what was there before, and of what is there now */
    grd_status status = GRD_OK;
    for (char *c = prefix; status == GRD_OK && *c; c++) {
        bool at_end = c[1] == 0;
        if (!at_end && !(c[1] == '/' && *c != '/'))
            continue;
        char kept = c[1];
        c[1] = 0;
        if (grdi_file.make_directory(prefix, 0777) != 0) {
            int why = errno;
            if (!grdi_path_is_directory(prefix)) {
                errno = why; /* not that of the look at it */
                status = grd_fail_system(error, prefix, "create the directory");
                break;
            }
        } else if (there == SIZE_MAX) {
            there = last;
        }
        last = (size_t)(c - prefix) + 1;
        c[1] = kept;
    }
    if (status && there != SIZE_MAX) {
        prefix[last] = 0;
        remove_made(prefix, there);
    }
    grdi_free(prefix);
    return status;
}

grd_status grdi_directory_lock(const char *path, int *fd, grd_error *error)
{
    *fd = open_retrying(path, O_RDONLY | O_DIRECTORY, 0);
    if (*fd < 0)
        return grd_fail_system(error, path, "open");
    if (grdi_file.lock(*fd, LOCK_EX | LOCK_NB) == 0)
        return GRD_OK;
    bool is_taken = errno == EWOULDBLOCK; /* anything else: locks are not to be had here */
    grdi_file.close(*fd);
    *fd = -1;
    if (!is_taken)
        return GRD_OK;
    return grd_fail(error, GRD_E_ARGUMENT, "%s: another process writes to it (let it finish, or stop it)", path);
}

grd_status grdi_directory_sync(const char *path, grd_error *error)
{
    int fd = open_retrying(path, O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0)
        return grd_fail_system(error, path, "open");
    /* Some network file systems cannot sync a directory and say EINVAL; there is nothing more to be had from them. */
    grd_status status = GRD_OK;
    if (grdi_file.sync(fd) != 0 && errno != EINVAL)
        status = grd_fail_system(error, path, "sync");
    grdi_file.close(fd);
    return status;
}

grd_status grdi_directory_rename(const char *from, const char *to, grd_error *error)
{
    if (grdi_file.rename(from, to) != 0)
        return grd_fail(error, grdi_file_status(errno), "%s: cannot rename to '%s': %s%s", from, to,
                        strerror(errno), remedy(errno, false));
    return sync_directory_of(to, error);
}

grd_status grdi_directory_remove(const char *path, grd_error *error)
{
    struct stat about;
    if (lstat(path, &about) != 0)
        return errno == ENOENT ? GRD_OK : grd_fail_system(error, path, "remove");
    grd_status status = GRD_OK;
    if (S_ISDIR(about.st_mode)) { /* a link to a directory is removed, what it points to is not */
        char **names;
        size_t count;
        status = grdi_directory_list(path, &names, &count, error);
        for (size_t i = 0; status == GRD_OK && i < count; i++) {
            char *inner = grdi_path_join(path, names[i]);
            status = inner ? grdi_directory_remove(inner, error) : fail_memory(error, path);
            grdi_free(inner);
        }
        grdi_names_free(names, count);
    }
    if (status == GRD_OK && grdi_file.unlink(path) != 0 && errno != ENOENT)
        status = grd_fail_system(error, path, "remove");
    return status;
}

static int compare_names(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

grd_status grdi_directory_list(const char *path, char ***names, size_t *count, grd_error *error)
{
    *names = NULL;
    *count = 0;
    DIR *directory = opendir(path);
    if (!directory)
        return grd_fail_system(error, path, "list");
    size_t capacity = 0;
    grd_status status = GRD_OK;
    while (status == GRD_OK) {
        errno = 0;
        struct dirent *entry = readdir(directory);
        if (!entry) {
            if (errno != 0)
                status = grd_fail_system(error, path, "list");
            break;
        }
        if (is_dot_name(entry->d_name))
            continue;
        if (!GRDI_GROW(*names, capacity, *count) || !((*names)[*count] = grdi_strdup(entry->d_name)))
            status = fail_memory(error, path);
        else
            (*count)++;
    }
    closedir(directory);
    if (status != GRD_OK) {
        grdi_names_free(*names, *count);
        *names = NULL;
        *count = 0;
        return status;
    }
    if (*count > 1)
        qsort(*names, *count, sizeof **names, compare_names);
    return GRD_OK;
}

void grdi_names_free(char **names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        grdi_free(names[i]);
    grdi_free(names);
}

char *grdi_path_join(const char *a, const char *b)
{
    size_t length = strlen(a);
    return grdi_format("%s%s%s", a, length > 0 && a[length - 1] != '/' ? "/" : "", b);
}

/* ---- what killed writers leave ---- */

/* "<name>.tmp-<pid>" */
static bool is_temporary(const char *name)
{
    const char *suffix = strstr(name, ".tmp-");
    return suffix && suffix[5] && suffix[5 + strspn(suffix + 5, "0123456789")] == 0;
}

void grdi_writer_sweep(const char *directory)
{
    char **names;
    size_t count;
    if (grdi_directory_list(directory, &names, &count, NULL) != GRD_OK)
        return;
    for (size_t i = 0; i < count; i++) {
        char *path = is_temporary(names[i]) ? grdi_path_join(directory, names[i]) : NULL;
        if (path)
            grdi_file.unlink(path);
        grdi_free(path);
    }
    grdi_names_free(names, count);
}
