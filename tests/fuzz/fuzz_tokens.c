/* fuzz_tokens.c - the reader of token shards on any bytes; the first byte chooses the format. Built and run as
 * fuzz_safetensors.c says. */
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
    if (size == 0)
        return 0;
    grd_token_format format = (grd_token_format)(data[0] % 4);
    if (ftruncate(fd, 0) != 0 || pwrite(fd, data + 1, size - 1, 0) != (ssize_t)(size - 1))
        abort();
    grd_tokens *tokens;
    grd_error error = {0};
    if (grd_tokens_open(path, format, &tokens, &error) != GRD_OK) {
        if (tokens || error.status == GRD_OK || !error.message[0])
            abort();
        return 0;
    }
    size_t count = grd_tokens_count(tokens);
    int32_t *all = malloc(count * sizeof *all);
    if (!all || count == 0 || grd_tokens_read(tokens, 0, count, all, &error) != GRD_OK)
        abort();
    bool fits = grd_tokens_check(tokens, 50257, NULL) == GRD_OK, want = true;
    for (size_t i = 0; i < count; i++)
        want &= all[i] >= 0 && all[i] < 50257;
    if (fits != want || grd_tokens_read(tokens, 1, count, all, NULL) == GRD_OK)
        abort();
    free(all);
    grd_tokens_close(tokens);
    return 0;
}
