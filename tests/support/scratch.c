#include "scratch.h"

#include "base/file.h"

#include <criterion/criterion.h>
#include <stdlib.h>

static char folder[64];

const char *scratch_path(const char *name)
{
    static char paths[64][256];
    static int next;
    if (!folder[0]) {
        strcpy(folder, "/tmp/gradus-test-XXXXXX");
        cr_assert(mkdtemp(folder) != NULL, "no scratch folder");
    }
    char *path = paths[next++ % 64];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

void scratch_remove(void)
{
    if (folder[0])
        grdi_directory_remove(folder, NULL);
    folder[0] = 0;
}

void scratch_write(const char *path, const void *bytes, size_t size_bytes)
{
    remove(path); /* some file systems write a file that is cut to nothing through to the disk when it is closed */
    FILE *file = fopen(path, "wb");
    cr_assert(file && fwrite(bytes, 1, size_bytes, file) == size_bytes && fclose(file) == 0, "cannot write %s", path);
}

char *scratch_read(const char *path, size_t *size_bytes)
{
    FILE *file = fopen(path, "rb");
    cr_assert(file != NULL, "cannot open %s", path);
    fseek(file, 0, SEEK_END);
    *size_bytes = (size_t)ftell(file);
    rewind(file);
    char *bytes = malloc(*size_bytes + 1);
    cr_assert(bytes && fread(bytes, 1, *size_bytes, file) == *size_bytes, "cannot read %s", path);
    bytes[*size_bytes] = 0;
    fclose(file);
    return bytes;
}

bool scratch_same(const char *name, const char *other)
{
    size_t size_a, size_b;
    char *bytes_a = scratch_read(scratch_path(name), &size_a), *bytes_b = scratch_read(scratch_path(other), &size_b);
    bool same = size_a == size_b && memcmp(bytes_a, bytes_b, size_a) == 0;
    free(bytes_a);
    free(bytes_b);
    return same;
}
