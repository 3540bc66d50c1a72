/* fuzz.h - what the fuzz targets share: files that exist in memory only, and reading choices out of an input's bytes.
 *
 * A target is a file fuzz_NAME.c with LLVMFuzzerTestOneInput; its seeds lie in corpus/NAME. See docs/HACKING.md. */
#ifndef TESTS_FUZZ_H
#define TESTS_FUZZ_H

#include <gradus/base.h>
#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Ends the process with the place, which is what a fuzzer calls a find. */
#define FUZZ_CHECK(condition)                                                                                          \
    do {                                                                                                               \
        if (!(condition)) fuzz_found(__FILE__, __LINE__, #condition);                                                  \
    } while (0)
_Noreturn void fuzz_found(const char *file, int line, const char *what);
/* A call that failed must say so in one line, and not for want of memory. */
void fuzz_check_error(grd_status status, const grd_error *error);

/* ---- files ----
 * From the first call on, the library's file table sees these files only, under exactly these paths. What it maps is
 * an allocation of the file's exact size, so that AddressSanitizer sees a read beyond its end. */
void fuzz_files_clear(void);
void fuzz_file_put(const char *path, const void *bytes, size_t size_bytes);
/* The bytes of a file, valid until the files change; NULL when there is none. */
const void *fuzz_file_bytes(const char *path, size_t *size_bytes);

/* ---- choices ---- */

typedef struct fuzz_input {
    const uint8_t *at, *end;
} fuzz_input;

/* The next byte, 0 at the end. */
uint8_t fuzz_byte(fuzz_input *in);
/* 0 to count - 1. */
static inline int fuzz_below(fuzz_input *in, int count) { return fuzz_byte(in) % count; }
/* The bytes up to the next line "----" (or the end), which is passed over; false when there is nothing left. */
bool fuzz_part(fuzz_input *in, const uint8_t **part, size_t *size_bytes);
/* The rest, with a zero byte after it; valid until the next call. */
char *fuzz_text(fuzz_input *in);

#endif
