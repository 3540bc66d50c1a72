/* image_folder.c - sets of images that lie in files: looks at all of them, and keeps them decoded where they are few.
 */
#include "base/file.h"
#include "base/memory.h"
#include "data/image_file.h"
#include "data/images.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define KEPT_BYTES ((int64_t)256 << 20)
/* Photographs are made this large unless it is said otherwise; smaller ones keep their size. */
enum { CHOSEN_SIDE = 128, OWN_SIZE_MOST = 96, CHANNELS_COLOUR = 3 };

static grd_status map_file(const char *path, grdi_mapping *file, grdi_image_bytes *bytes, grd_error *error)
{
    if (!grdi_path_is_file(path) && grdi_path_exists(path))
        return grd_fail(error, GRD_E_FORMAT, "%s: is no ordinary file", path);
    grd_status status = grdi_file_map(path, file, error);
    *bytes = (grdi_image_bytes){file->data, file->size_bytes, path};
    return status;
}

static grd_status look_at(grdi_image_file *f, grd_error *error)
{
    grdi_mapping file;
    grdi_image_bytes bytes;
    grdi_image_about about;
    grd_status status = map_file(f->path, &file, &bytes, error);
    if (status) return status;
    status = grdi_image_look(bytes, &about, error);
    grdi_file_unmap(&file);
    if (status) return status;
    f->height = (int32_t)about.height, f->width = (int32_t)about.width, f->channels = (int32_t)about.channels;
    return GRD_OK;
}

/* Decodes the file to be kept. */
static grd_status keep(grdi_image_file *f, int64_t channels, grd_error *error)
{
    grdi_mapping file;
    grdi_image_bytes bytes;
    grdi_image_wish wish = {.channels = channels};
    grdi_room room = {NULL, 0};
    grdi_pixels pixels;
    grd_status status = map_file(f->path, &file, &bytes, error);
    if (status) return status;
    status = grdi_image_decode(bytes, &wish, &room, &pixels, error);
    grdi_file_unmap(&file);
    if (status) grdi_free(room.bytes);
    else f->pixels = room.bytes;
    return status;
}

/* ---- all files ---- */

/* Does something with each file, in parallel. What fails is left out if the set is to skip what is damaged; else the
 * first failure, by the order of files, is that of the call. */
typedef struct sweep {
    grd_images *images;
    bool decode;
    bool *failed;
    grd_error error;
    size_t at; /* of the error */
} sweep;

static void visit(sweep *s, size_t i)
{
    grd_images *m = s->images;
    grd_error problem = {GRD_OK, ""};
    grd_status status =
        s->decode ? keep(&m->list.files[i], m->info.channels, &problem) : look_at(&m->list.files[i], &problem);
    if (!status) return;
#pragma omp critical(grdi_image_sweep)
    {
        s->failed[i] = true;
        if (i < s->at) s->at = i, s->error = problem;
    }
}

static grd_status drop_failed(sweep *s, grd_error *error)
{
    grd_images *m = s->images;
    grdi_image_list *list = &m->list;
    size_t kept = 0;
    if (s->at == SIZE_MAX) return GRD_OK;
    if (!m->skip || s->error.status != GRD_E_FORMAT) return grd_fail(error, s->error.status, "%s", s->error.message);
    if (m->damaged == 0) snprintf(m->first_damaged, sizeof(m->first_damaged), "%s", s->error.message);
    for (size_t i = 0; i < list->count; i++) {
        if (!s->failed[i]) {
            list->files[kept++] = list->files[i];
            continue;
        }
        grdi_free(list->files[i].path);
        grdi_free(list->files[i].pixels);
        m->damaged++;
    }
    list->count = kept;
    return kept ? GRD_OK : grd_fail(error, GRD_E_FORMAT, "%s (and no other image is left)", s->error.message);
}

static grd_status visit_all(grd_images *m, bool decode, int32_t threads, grd_error *error)
{
    sweep s = {.images = m, .decode = decode, .at = SIZE_MAX};
    int64_t count = (int64_t)m->list.count;
    s.failed = grdi_alloc_zero(m->list.count, sizeof(bool));
    if (!s.failed) return grd_fail(error, GRD_E_MEMORY, "out of memory for a list of images");
    int team = threads > 0 ? threads : omp_get_max_threads();
#pragma omp parallel for num_threads(team) schedule(dynamic, 8)
    for (int64_t i = 0; i < count; i++) visit(&s, (size_t)i);
    grd_status status = drop_failed(&s, error);
    grdi_free(s.failed);
    return status;
}

/* ---- what they are like ---- */

static int by_value(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

/* Small images of one size keep it. Others become squares: of the middle one of all shorter sides, but no more than
 * CHOSEN_SIDE, and in steps of 32. */
static grd_status choose_size(grd_images *m, grd_error *error)
{
    const grdi_image_list *list = &m->list;
    int32_t *sides = grdi_alloc(list->count * sizeof(int32_t));
    if (!sides) return grd_fail(error, GRD_E_MEMORY, "out of memory for a list of images");
    bool same = true;
    for (size_t i = 0; i < list->count; i++) {
        const grdi_image_file *f = &list->files[i];
        sides[i] = f->height < f->width ? f->height : f->width;
        same = same && f->height == list->files[0].height && f->width == list->files[0].width;
    }
    qsort(sides, list->count, sizeof(int32_t), by_value);
    int64_t side = sides[list->count / 2];
    grdi_free(sides);
    if (side > CHOSEN_SIDE) side = CHOSEN_SIDE;
    else if (side > 32) side = side / 32 * 32;
    bool own = same && list->files[0].height <= OWN_SIZE_MOST && list->files[0].width <= OWN_SIZE_MOST;
    m->info.height = own ? list->files[0].height : side;
    m->info.width = own ? list->files[0].width : side;
    return GRD_OK;
}

static int64_t channels_of(const grdi_image_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        if (list->files[i].channels != 1) return CHANNELS_COLOUR;
    return 1;
}

/* By names, sizes and labels: reading every byte of millions of files would take longer than training. */
static uint64_t checksum(const grdi_image_list *list, const char *folder)
{
    size_t skip = strlen(folder);
    uint64_t sum = 0;
    for (size_t i = 0; i < list->count; i++) {
        const char *name = list->files[i].path + skip + strspn(list->files[i].path + skip, "/");
        uint64_t about[2] = {grdi_file_size(list->files[i].path), (uint64_t)list->files[i].label};
        sum = XXH3_64bits_withSeed(name, strlen(name), sum);
        sum = XXH3_64bits_withSeed(about, sizeof(about), sum);
    }
    return sum;
}

static bool fit_in_memory(const grd_images *m)
{
    int64_t bytes = 0;
    for (size_t i = 0; i < m->list.count && bytes <= KEPT_BYTES; i++)
        bytes += (int64_t)m->list.files[i].height * m->list.files[i].width * m->info.channels;
    return bytes <= KEPT_BYTES;
}

static grd_status check_size(const grd_images *m, grd_error *error)
{
    bool fits = m->info.height >= 1 && m->info.width >= 1 && m->info.height * m->info.width <= GRDI_IMAGE_PIXELS_MAX;
    if (fits && (m->info.channels == 1 || m->info.channels == CHANNELS_COLOUR)) return GRD_OK;
    return grd_fail(error, GRD_E_ARGUMENT,
                    "images of %lldx%lldx%lld: sides must be at least 1, pixels at most %lld, channels 1 or 3 "
                    "(set data.height, data.width and data.channels)",
                    (long long)m->info.height, (long long)m->info.width, (long long)m->info.channels,
                    (long long)GRDI_IMAGE_PIXELS_MAX);
}

/* The files are known: everything else. */
static grd_status complete(grd_images *m, const char *folder, const grd_image_folder_options *options, grd_error *error)
{
    m->middle = options->middle > 0 ? options->middle : 1;
    m->skip = options->skip_damaged;
    grd_status status = visit_all(m, false, options->threads, error);
    if (status) return status;
    m->info.height = options->height, m->info.width = options->width;
    m->info.channels = options->channels ? options->channels : channels_of(&m->list);
    if (!m->info.height || !m->info.width) status = choose_size(m, error);
    if (options->height) m->info.height = options->height;
    if (options->width) m->info.width = options->width;
    if (!status) status = check_size(m, error);
    if (!status && !options->only_looked_at && fit_in_memory(m)) status = visit_all(m, true, options->threads, error);
    m->info.count = (int64_t)m->list.count;
    m->info.classes = (int64_t)m->list.class_count;
    m->info.checksum = checksum(&m->list, folder);
    return status;
}

static grd_status finish(grd_images *m, grd_status status, grd_images **images)
{
    if (status) grd_images_free(m);
    else *images = m;
    return status;
}

grd_status grd_image_folder_open(const char *folder, grd_part part, const grd_image_folder_options *options,
                                 grd_images **images, grd_error *error)
{
    *images = NULL;
    grd_images *m = grdi_alloc_zero(1, sizeof(*m));
    if (!m) return grd_fail(error, GRD_E_MEMORY, "%s: out of memory", folder);
    m->labelled = true;
    grd_status status = grdi_image_list_open(&m->list, folder, part, options, error);
    if (!status) status = complete(m, folder, options, error);
    return finish(m, status, images);
}

grd_status grd_image_files_open(const char *path, const grd_image_folder_options *options, grd_images **images,
                                grd_error *error)
{
    *images = NULL;
    grd_images *m = grdi_alloc_zero(1, sizeof(*m));
    if (!m) return grd_fail(error, GRD_E_MEMORY, "%s: out of memory", path);
    grd_status status = grdi_image_list_files(&m->list, path, error);
    if (!status) status = complete(m, "", options, error);
    return finish(m, status, images);
}

bool grd_image_folder_found(const char *folder)
{
    return grdi_image_folder_found(folder);
}
