/* file.h - all file I/O goes through one table, so that tests can make any call fail (disk full, short write, kill). */
#ifndef GRDI_FILE_H
#define GRDI_FILE_H

#include <gradus/base.h>
#include <sys/stat.h>
#include <sys/types.h>

typedef struct grdi_file_table {
    int (*open)(const char *path, int flags, mode_t mode);
    int (*status)(int fd, struct stat *about); /* fstat */
    ssize_t (*read)(int fd, void *buffer, size_t size_bytes);
    ssize_t (*write)(int fd, const void *buffer, size_t size_bytes);
    int (*sync)(int fd); /* fsync */
    int (*lock)(int fd, int how); /* flock */
    int (*close)(int fd);
    int (*rename)(const char *from, const char *to);
    int (*unlink)(const char *path);
    int (*make_directory)(const char *path, mode_t mode);
    void *(*map)(int fd, size_t size_bytes); /* read-only, shared; NULL on failure */
    void (*unmap)(void *memory, size_t size_bytes);
    void (*release)(void *memory, size_t size_bytes); /* mapped pages may leave memory until they are read again */
} grdi_file_table;

extern grdi_file_table grdi_file;

/* What an error of the operating system is to the caller: GRD_E_SPACE where the disk or a quota is full or files may
 * not grow further, else GRD_E_IO. */
grd_status grdi_file_status(int problem);

/* A whole file mapped read-only. An empty file has data "" and size 0. */
typedef struct grdi_mapping {
    const uint8_t *data;
    size_t size_bytes;
} grdi_mapping;

/* What a pipe gives is first read to its end, into a file without a name. A pipe that no program opens for writing is
 * GRD_E_IO, and so is a device that is no terminal. */
grd_status grdi_file_map(const char *path, grdi_mapping *mapping, grd_error *error);
void grdi_file_unmap(grdi_mapping *mapping);
/* The whole file with a zero byte after its end; free with grdi_free(). Refuses files above max_bytes. */
grd_status grdi_file_read(const char *path, size_t max_bytes, char **text, size_t *size_bytes, grd_error *error);

/* Opens a file without a name for reading and writing, gone when it is closed: in `directory` (or NULL) if that can
 * have one, else in TMPDIR, /tmp or /dev/shm. */
grd_status grdi_file_open_unnamed(const char *directory, int *fd, grd_error *error);

/* Bytes of an ordinary file; 0 for what is none. */
size_t grdi_file_size(const char *path);
/* Writes all bytes to an open file, which errors call `name`. */
grd_status grdi_file_put(int fd, const char *name, const void *bytes, size_t size_bytes, grd_error *error);

/* Writing that cannot leave half a file behind: the bytes go to "<path>.tmp-<pid>", which commit fsyncs, renames to
 * `path` and makes durable by fsyncing the directory. Pipes and devices are refused: the new
 * file would replace them. After an error every further call fails with that error, and `abandon` (or commit) removes
 * the temporary file. */
typedef struct grdi_writer {
    int fd;
    char *path, *temporary;
    uint8_t *buffer;
    size_t used, size_bytes; /* bytes in the buffer; bytes written so far in all */
    grd_error error;
} grdi_writer;

grd_status grdi_writer_open(grdi_writer *writer, const char *path);
grd_status grdi_writer_put(grdi_writer *writer, const void *bytes, size_t size_bytes);
grd_status grdi_writer_print(grdi_writer *writer, const char *format, ...) __attribute__((format(printf, 2, 3)));
grd_status grdi_writer_commit(grdi_writer *writer, grd_error *error);
void grdi_writer_abandon(grdi_writer *writer);
/* Removes the temporary files that killed writers left in a directory. None may be writing there. */
void grdi_writer_sweep(const char *directory);

bool grdi_path_exists(const char *path);
bool grdi_path_is_directory(const char *path);
/* True for an ordinary file, or a link to one. */
bool grdi_path_is_file(const char *path);
/* True for what can be read only once: pipes, terminals, sockets and other devices. */
bool grdi_path_is_stream(const char *path);
/* True when the directory exists and holds at least one entry. */
bool grdi_directory_has_entries(const char *path);
/* Creates the directory and its missing parents. */
grd_status grdi_directory_make(const char *path, grd_error *error);
/* Takes the directory for this process alone until *fd is closed, or the process ends in whatever way. Refuses one that
 * another process has taken. Where the file system knows no locks, *fd is -1 and nothing is held. */
grd_status grdi_directory_lock(const char *path, int *fd, grd_error *error);
/* fsync of a directory, which makes renames inside it durable. */
grd_status grdi_directory_sync(const char *path, grd_error *error);
/* Renames a directory and makes it durable by fsyncing its parent. */
grd_status grdi_directory_rename(const char *from, const char *to, grd_error *error);
/* Removes a directory with everything in it; a missing directory is no error. */
grd_status grdi_directory_remove(const char *path, grd_error *error);
/* The names in a directory, sorted bytewise, without "." and ".."; free with grdi_names_free(). */
grd_status grdi_directory_list(const char *path, char ***names, size_t *count, grd_error *error);
void grdi_names_free(char **names, size_t count);
/* Joins two path parts with one '/'; allocated; NULL when out of memory. */
char *grdi_path_join(const char *a, const char *b);

#endif
