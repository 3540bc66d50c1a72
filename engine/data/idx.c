/* idx.c - labelled images in IDX files: two zero bytes, a type, the number of dimensions, each dimension in four bytes
 * (big-endian), then the elements. Files may be gzipped. */
#include "base/file.h"
#include "base/memory.h"
#include "data/images.h"

#include <string.h>
#include <xxhash.h>
#include <zlib.h>

enum {
    UNSIGNED_BYTES = 8,
    DIMENSIONS_MAX = 4,
    INFLATED_MOST = 1032, /* bytes that deflate makes of one */
};
#define FILE_BYTES_MAX ((size_t)1 << 34)

/* One file as it is read. */
typedef struct reader {
    const char *path;
    z_stream stream;
    bool zipped;
    grd_error *error;
} reader;

static voidpf take(voidpf unused, uInt count, uInt size)
{
    (void)unused;
    return grdi_alloc_zero(count, size);
}

static void give_back(voidpf unused, voidpf memory)
{
    (void)unused;
    grdi_free(memory);
}

/* The next `size` bytes of the file, unzipped where it is zipped. */
static grd_status next_bytes(reader *r, uint8_t *to, size_t size)
{
    z_stream *z = &r->stream;
    while (size > 0) {
        uInt part = size < (1u << 30) ? (uInt)size : 1u << 30;
        if (r->zipped) {
            z->next_out = to, z->avail_out = part;
            int state = inflate(z, Z_SYNC_FLUSH);
            if (state == Z_MEM_ERROR) return grd_fail(r->error, GRD_E_MEMORY, "%s: out of memory", r->path);
            bool ended = state == Z_STREAM_END || state == Z_BUF_ERROR;
            if (state != Z_OK && !ended)
                return grd_fail(r->error, GRD_E_FORMAT, "%s: is damaged (%s)", r->path, z->msg ? z->msg : "gzip");
            part -= z->avail_out;
            if (ended && part < size)
                return grd_fail(r->error, GRD_E_FORMAT, "%s: is cut off (fewer bytes than its header says)", r->path);
        } else {
            if (part > z->avail_in)
                return grd_fail(r->error, GRD_E_FORMAT, "%s: is cut off (fewer bytes than its header says)", r->path);
            memcpy(to, z->next_in, part);
            z->next_in += part, z->avail_in -= part;
        }
        to += part, size -= part;
    }
    return GRD_OK;
}

/* After the last element nothing may come; a zipped file must also be whole (its checksum stands at the end). */
static grd_status expect_end(reader *r)
{
    uint8_t more;
    bool ended = r->stream.avail_in == 0;
    if (r->zipped) {
        r->stream.next_out = &more, r->stream.avail_out = 1;
        int state = inflate(&r->stream, Z_FINISH);
        if (state != Z_STREAM_END && r->stream.avail_out == 1)
            return grd_fail(r->error, GRD_E_FORMAT, "%s: is cut off or damaged at its end", r->path);
        ended = state == Z_STREAM_END && r->stream.avail_out == 1;
    }
    return ended ? GRD_OK : grd_fail(r->error, GRD_E_FORMAT, "%s: holds more bytes than its header says", r->path);
}

/* Dimensions of the file, of which there must be `least` to `most`. */
static grd_status read_header(reader *r, size_t file_bytes, int least, int most, int64_t *dim, int *rank)
{
    uint8_t bytes[4];
    grd_status status = next_bytes(r, bytes, 4);
    if (status) return status;
    if (bytes[0] || bytes[1])
        return grd_fail(r->error, GRD_E_FORMAT, "%s: is no IDX file (it does not begin with two zero bytes)", r->path);
    if (bytes[2] != UNSIGNED_BYTES)
        return grd_fail(r->error, GRD_E_FORMAT, "%s: holds elements of type %#x, not unsigned bytes (0x8)", r->path,
                        bytes[2]);
    *rank = bytes[3];
    if (*rank < least || *rank > most)
        return grd_fail(r->error, GRD_E_FORMAT, "%s: has %d dimensions, not %d%s", r->path, *rank, least,
                        most > least ? " or one more" : "");
    double total = 1;
    for (int i = 0; i < *rank && !status; i++) {
        status = next_bytes(r, bytes, 4);
        dim[i] = (int64_t)((uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3]);
        total *= (double)dim[i];
        if (!status && dim[i] == 0)
            status = grd_fail(r->error, GRD_E_FORMAT, "%s: holds nothing (dimension %d is 0)", r->path, i);
    }
    if (!status && total > (double)file_bytes * (r->zipped ? INFLATED_MOST : 1))
        status = grd_fail(r->error, GRD_E_FORMAT, "%s: is cut off (its header promises %.0f bytes)", r->path, total);
    return status;
}

static grd_status read_elements(reader *r, size_t file_bytes, int least, int most, int64_t *dim, int *rank,
                                uint8_t **data)
{
    grd_status status = read_header(r, file_bytes, least, most, dim, rank);
    size_t count = 1;
    for (int i = 0; !status && i < *rank; i++) count *= (size_t)dim[i];
    if (!status && !(*data = grdi_alloc(count)))
        status = grd_fail(r->error, GRD_E_MEMORY, "%s: out of memory for %zu bytes", r->path, count);
    if (!status) status = next_bytes(r, *data, count);
    return status ? status : expect_end(r);
}

static grd_status read_file(const char *path, int least, int most, int64_t *dim, int *rank, uint8_t **data,
                            grd_error *error)
{
    char *bytes;
    size_t size;
    grd_status status = grdi_file_read(path, FILE_BYTES_MAX, &bytes, &size, error);
    if (status) return status;
    reader r = {.path = path, .error = error, .zipped = size > 1 && !memcmp(bytes, "\x1f\x8b", 2)};
    r.stream = (z_stream){.zalloc = take, .zfree = give_back, .next_in = (Bytef *)bytes};
    if (size > UINT32_MAX) status = grd_fail(error, GRD_E_FORMAT, "%s: is larger than 4 GiB", path);
    r.stream.avail_in = (uInt)size;
    bool begun = !status && r.zipped && inflateInit2(&r.stream, 15 + 16) == Z_OK;
    if (!status && r.zipped && !begun) status = grd_fail(error, GRD_E_MEMORY, "%s: out of memory", path);
    if (!status) status = read_elements(&r, size, least, most, dim, rank, data);
    if (begun) inflateEnd(&r.stream);
    grdi_free(bytes);
    return status;
}

/* ---- the files of a folder ---- */

static const char *const prefixes[2][2] = {{"train-", NULL}, {"t10k-", "test-"}};

/* The file "<prefix><what>..." of the folder, *path NULL where there is none. */
static grd_status find_file(const char *folder, grd_part part, const char *what, char **path, grd_error *error)
{
    char **names, start[32];
    const char *found = NULL;
    size_t count;
    *path = NULL;
    grd_status status = grdi_directory_list(folder, &names, &count, error);
    if (status) return status;
    for (int i = 0; i < 2 && prefixes[part][i]; i++) {
        snprintf(start, sizeof(start), "%s%s", prefixes[part][i], what);
        for (size_t n = 0; n < count && !found; n++)
            if (strncmp(names[n], start, strlen(start)) == 0) found = names[n];
    }
    if (found && !(*path = grdi_path_join(folder, found)))
        status = grd_fail(error, GRD_E_MEMORY, "%s: out of memory", folder);
    grdi_names_free(names, count);
    return status;
}

bool grd_idx_found(const char *folder)
{
    bool found = false;
    for (int part = 0; part < 2 && !found && folder && grdi_path_is_directory(folder); part++) {
        char *path;
        find_file(folder, (grd_part)part, "images", &path, NULL);
        found = path != NULL;
        grdi_free(path);
    }
    return found;
}

static grd_status missing(const char *folder, grd_part part, const char *what, grd_error *error)
{
    return grd_fail(error, GRD_E_ARGUMENT, "%s: has no file %s-%s-idx...-ubyte or %s-%s-idx...-ubyte.gz", folder,
                    part == GRD_TRAIN ? "train" : "t10k", what, part == GRD_TRAIN ? "train" : "t10k", what);
}

static grd_status open_images(grd_images *m, const char *path, grd_error *error)
{
    int64_t dim[DIMENSIONS_MAX] = {0, 0, 0, 1};
    int rank;
    grd_status status = read_file(path, 3, 4, dim, &rank, &m->pixels, error);
    m->info = (grd_images_info){dim[0], dim[1], dim[2], rank == 4 ? dim[3] : 1, 0, 0};
    return status;
}

static grd_status open_labels(grd_images *m, const char *path, grd_error *error)
{
    int64_t count = 0;
    int rank;
    uint8_t *bytes = NULL;
    grd_status status = read_file(path, 1, 1, &count, &rank, &bytes, error);
    if (!status && count != m->info.count)
        status = grd_fail(error, GRD_E_FORMAT, "%s: has %lld labels for %lld images", path, (long long)count,
                          (long long)m->info.count);
    if (!status && !(m->labels = grdi_alloc((size_t)count * sizeof(int32_t))))
        status = grd_fail(error, GRD_E_MEMORY, "%s: out of memory", path);
    for (int64_t i = 0; !status && i < count; i++) {
        m->labels[i] = bytes[i];
        if (bytes[i] >= m->info.classes) m->info.classes = bytes[i] + 1;
    }
    if (!status)
        m->info.checksum =
            XXH3_64bits_withSeed(m->pixels, (size_t)(count * grdi_images_values(m)), XXH3_64bits(bytes, (size_t)count));
    grdi_free(bytes);
    return status;
}

grd_status grd_idx_open(const char *folder, grd_part part, grd_images **images, grd_error *error)
{
    *images = NULL;
    if (!grdi_path_is_directory(folder))
        return grd_fail(error, GRD_E_IO, "%s: is no folder (give the one that holds the IDX files)", folder);
    char *pixels, *labels = NULL;
    grd_images *m = NULL;
    grd_status status = find_file(folder, part, "images", &pixels, error);
    if (!status) status = find_file(folder, part, "labels", &labels, error);
    if (!status && !(m = grdi_alloc_zero(1, sizeof(*m))))
        status = grd_fail(error, GRD_E_MEMORY, "%s: out of memory", folder);
    if (!status && !pixels) status = missing(folder, part, "images", error);
    if (!status && !labels) status = missing(folder, part, "labels", error);
    if (!status) status = open_images(m, pixels, error);
    if (!status) status = open_labels(m, labels, error);
    grdi_free(pixels);
    grdi_free(labels);
    if (!status) *images = m;
    else grd_images_free(m);
    return status;
}

grd_status grd_idx_open_images(const char *path, grd_images **images, grd_error *error)
{
    *images = NULL;
    grd_images *m = grdi_alloc_zero(1, sizeof(*m));
    grd_status status = m ? open_images(m, path, error) : grd_fail(error, GRD_E_MEMORY, "%s: out of memory", path);
    if (!status) *images = m;
    else grd_images_free(m);
    return status;
}
