#include "faults.h"

#include "base/file.h"
#include "base/memory.h"

#include <errno.h>
#include <jansson.h>
#include <unistd.h>

static grdi_memory_table memory;
static grdi_file_table file;
static long calls_to_fault, calls_to_death, transfer_limit, held, allocations;
static bool was_hit;

enum { DEATH_STATUS = 9 };

static bool fault(int error_number)
{
    if (calls_to_fault == 0 || --calls_to_fault > 0)
        return false;
    was_hit = true;
    errno = error_number;
    return true;
}

static bool is_death(void) { return calls_to_death > 0 && --calls_to_death == 0; }

static bool file_fault(int error_number)
{
    if (is_death())
        _exit(DEATH_STATUS);
    return fault(error_number);
}

static void *count_block(void *block)
{
    allocations++;
    held += block != NULL;
    return block;
}

static void *allocate(size_t size_bytes) { return fault(ENOMEM) ? NULL : count_block(memory.allocate(size_bytes)); }

static void *resize(void *old, size_t size_bytes)
{
    if (fault(ENOMEM))
        return NULL;
    void *block = memory.resize(old, size_bytes);
    allocations++;
    held += block && !old;
    return block;
}

static void release(void *block)
{
    held -= block != NULL;
    memory.release(block);
}

static void *map(size_t size_bytes) { return fault(ENOMEM) ? NULL : count_block(memory.map(size_bytes)); }

static void unmap(void *block, size_t size_bytes)
{
    held--;
    memory.unmap(block, size_bytes);
}

static int file_open(const char *path, int flags, mode_t mode)
{
    if (file_fault(EMFILE))
        return -1;
    int fd = file.open(path, flags, mode);
    held += fd >= 0;
    return fd;
}

static int file_status(int fd, struct stat *about) { return file_fault(EIO) ? -1 : file.status(fd, about); }

static size_t limited(size_t size_bytes)
{
    return transfer_limit > 0 && size_bytes > (size_t)transfer_limit ? (size_t)transfer_limit : size_bytes;
}

static ssize_t file_read(int fd, void *buffer, size_t size_bytes)
{
    return file_fault(EIO) ? -1 : file.read(fd, buffer, limited(size_bytes));
}

static ssize_t file_write(int fd, const void *buffer, size_t size_bytes)
{
    if (is_death()) {
        if (file.write(fd, buffer, size_bytes / 2) < 0)
            _exit(DEATH_STATUS + 1);
        _exit(DEATH_STATUS);
    }
    return fault(ENOSPC) ? -1 : file.write(fd, buffer, limited(size_bytes));
}

/* Nothing here can tell whether bytes reached the disk, so tests need not wait for it. */
static int file_sync(int fd)
{
    (void)fd;
    return file_fault(EIO) ? -1 : 0;
}

static int file_lock(int fd, int how) { return file_fault(ENOLCK) ? -1 : file.lock(fd, how); }

/* A close that fails has closed all the same. */
static int file_close(int fd)
{
    bool fails = file_fault(EIO);
    held--;
    int result = file.close(fd);
    if (fails)
        errno = EIO;
    return fails ? -1 : result;
}

static int file_rename(const char *from, const char *to) { return file_fault(EACCES) ? -1 : file.rename(from, to); }

static int file_unlink(const char *path) { return file_fault(EACCES) ? -1 : file.unlink(path); }

static int file_make_directory(const char *path, mode_t mode)
{
    return file_fault(ENOSPC) ? -1 : file.make_directory(path, mode);
}

static void *file_map(int fd, size_t size_bytes)
{
    return file_fault(ENOMEM) ? NULL : count_block(file.map(fd, size_bytes));
}

static void file_unmap(void *block, size_t size_bytes)
{
    held--;
    file.unmap(block, size_bytes);
}

void faults_install(void)
{
    memory = grdi_memory;
    file = grdi_file;
    grdi_memory = (grdi_memory_table){allocate, resize, release, map, unmap};
    grdi_file = (grdi_file_table){.open = file_open,
                                  .status = file_status,
                                  .read = file_read,
                                  .write = file_write,
                                  .sync = file_sync,
                                  .lock = file_lock,
                                  .close = file_close,
                                  .rename = file_rename,
                                  .unlink = file_unlink,
                                  .make_directory = file_make_directory,
                                  .map = file_map,
                                  .unmap = file_unmap,
                                  .release = file.release};
    json_set_alloc_funcs(grdi_alloc, grdi_free);
}

void faults_fail_at(long n)
{
    calls_to_fault = n;
    was_hit = false;
}

void faults_die_at(long n) { calls_to_death = n; }

void faults_limit_transfers(long bytes) { transfer_limit = bytes; }

bool faults_hit(void) { return was_hit; }

long faults_held(void) { return held; }

long faults_allocations(void) { return allocations; }
