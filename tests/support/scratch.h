/* scratch.h - a folder for one test's files. */
#ifndef TESTS_SCRATCH_H
#define TESTS_SCRATCH_H

#include <stdbool.h>
#include <stddef.h>

/* The path of a name inside this process's scratch folder, which is made at first use. Valid for the next 63 calls. */
const char *scratch_path(const char *name);
/* Removes the folder with everything in it; a test's .fini. */
void scratch_remove(void);
/* Writes a file; the test fails when that fails. */
void scratch_write(const char *path, const void *bytes, size_t size_bytes);
/* The file's bytes, with a zero after them, in a buffer of malloc(); the test fails when it cannot be read. */
char *scratch_read(const char *path, size_t *size_bytes);
/* Whether two files of the scratch folder hold the same bytes. */
bool scratch_same(const char *name, const char *other);

#endif
