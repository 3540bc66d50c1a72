/* fuzz_safetensors.c - the safetensors reader on any bytes: no crash, and what it accepts can be read to the last byte.
 * Built by hand, from the top of the tree:
 *   clang -g -O1 -fsanitize=fuzzer,address,undefined -std=c11 -D_GNU_SOURCE -DGRADUS_VERSION='"fuzz"' \
 *     -Iengine/include -Iengine tests/fuzz/fuzz_safetensors.c engine/base/?*.c engine/formats/?*.c \
 *     -ljansson -lxxhash -lm -o fuzz_safetensors
 * and run as: fuzz_safetensors -max_len=2000 CORPUS_FOLDER */
#include <gradus/io.h>

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int fd = -1;
    static char path[64];
    if (fd < 0) {
        fd = memfd_create("input", 0);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    if (ftruncate(fd, 0) != 0 || pwrite(fd, data, size, 0) != (ssize_t)size)
        abort();
    grd_safetensors *file;
    grd_error error = {0};
    if (grd_safetensors_open(path, &file, &error) != GRD_OK) {
        if (file || error.status == GRD_OK || !error.message[0])
            abort();
        return 0;
    }
    volatile uint8_t sum = 0;
    size_t total = 0;
    for (size_t i = 0; i < grd_safetensors_count(file); i++) {
        const grd_file_tensor *tensor = grd_safetensors_at(file, i);
        for (size_t j = 0; j < tensor->size_bytes; j++)
            sum = (uint8_t)(sum + ((const uint8_t *)tensor->data)[j]);
        total += tensor->size_bytes;
        if (grd_safetensors_find(file, tensor->name) != tensor)
            abort();
        size_t element = grd_dtype_size(tensor->dtype);
        if (element && (uint64_t)grd_dims_count(tensor->dims) * element != tensor->size_bytes)
            abort();
    }
    if (total > size)
        abort();
    grd_safetensors_close(file);
    return 0;
}
