/* image_loader.c - batches of images, drawn ahead by threads. What a batch holds depends on its number alone. */
#include "base/memory.h"
#include "base/random.h"
#include "data/images.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>

enum { SLOTS = 4, WORKERS_MAX = 64, CHANNELS_MAX = 256 };

typedef struct slot {
    float *pixels;
    int32_t *labels, *other_labels;
    int64_t batch;       /* that it is for */
    int64_t begun, done; /* images that have been given to a worker; that are there */
} slot;

struct grd_image_loader {
    const grd_images *images;
    grd_image_loader_options options;
    grd_augment augment;
    float erased[CHANNELS_MAX], scale[CHANNELS_MAX], shift[CHANNELS_MAX]; /* a pixel becomes x * scale + shift */
    bool scaled;
    int64_t values; /* floats of an image */
    slot slots[SLOTS];
    float *mixed;          /* a batch is mixed with itself in the order turned around: half of it */
    int64_t next, filling; /* batches: that the caller takes next; that workers begin */
    int32_t running;
    bool stop;
    grd_error error;        /* the first; nothing is drawn after it */
    grdi_image_rooms rooms; /* of a caller that draws itself */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    pthread_t threads[WORKERS_MAX];
};

/* Which image stands at a position of the run. */
static int64_t image_at(const grd_image_loader *l, int64_t position)
{
    int64_t count = l->images->info.count;
    if (l->options.order == GRD_ORDER_SEQUENTIAL) return position % count;
    uint64_t epoch = (uint64_t)(position / count), stream = grdi_hash_text("images/order");
    uint64_t key = (uint64_t)grdi_random_u32(l->options.seed, epoch, stream, 0) << 32 |
                   grdi_random_u32(l->options.seed, epoch, stream, 1);
    return (int64_t)grdi_permute(key, (uint64_t)count, (uint64_t)(position % count));
}

/* Image `b` of the slot's batch; in the place of one that is damaged, where that is to be skipped, the next. */
static grd_status draw(const grd_image_loader *l, const slot *s, int64_t b, grdi_image_rooms *rooms, grd_error *error)
{
    const grd_images_info *info = &l->images->info;
    int64_t position = s->batch * l->options.batch + b, index = image_at(l, position), height, width;
    float *to = s->pixels + b * l->values;
    grd_status status = GRD_E_FORMAT;
    for (int64_t tries = 0; status == GRD_E_FORMAT && tries < info->count; tries++) {
        if (tries > 0) index = (index + 1) % info->count;
        grdi_images_size(l->images, index, &height, &width);
        grdi_view view = l->options.augment ? grdi_view_random(&l->augment, l->options.seed, position, height, width,
                                                               info->height, info->width)
                                            : grdi_images_middle(l->images, index);
        *error = (grd_error){GRD_OK, ""};
        status = grdi_images_draw(l->images, index, &view, l->erased, to, rooms, error);
        if (!l->images->skip) break;
    }
    s->labels[b] = grd_images_label(l->images, index);
    for (int64_t i = 0; l->scaled && i < l->values; i += info->channels)
        for (int64_t c = 0; c < info->channels; c++) to[i + c] = to[i + c] * l->scale[c] + l->shift[c];
    return status;
}

/* ---- workers ---- */

/* The next image to draw, in the order of batches; false: there is none before the caller takes a batch. */
static bool take_work(grd_image_loader *l, slot **s, int64_t *b)
{
    if (l->filling >= l->next + SLOTS - 1) return false; /* the caller may still use the batch before `next` */
    *s = &l->slots[l->filling % SLOTS];
    if ((*s)->batch != l->filling) **s = (slot){(*s)->pixels, (*s)->labels, (*s)->other_labels, l->filling, 0, 0};
    *b = (*s)->begun++;
    if ((*s)->begun == l->options.batch) l->filling++;
    return true;
}

static void *work(void *context)
{
    grd_image_loader *l = context;
    grdi_image_rooms rooms = {.view = {{0}}};
    slot *s;
    int64_t b;
    pthread_mutex_lock(&l->lock);
    while (!l->stop) {
        if (!take_work(l, &s, &b)) {
            pthread_cond_wait(&l->changed, &l->lock);
            continue;
        }
        pthread_mutex_unlock(&l->lock);
        grd_error problem = {GRD_OK, ""};
        grd_status status = draw(l, s, b, &rooms, &problem);
        pthread_mutex_lock(&l->lock);
        if (status && !l->error.status) l->error = problem;
        if (++s->done == l->options.batch || status) pthread_cond_broadcast(&l->changed);
    }
    pthread_mutex_unlock(&l->lock);
    grdi_image_rooms_free(&rooms);
    return NULL;
}

/* Threads with all signals blocked: they are for the program's own. */
static bool start(grd_image_loader *l)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    while (l->running < l->options.workers && pthread_create(&l->threads[l->running], NULL, work, l) == 0) l->running++;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return l->running > 0 || l->options.workers == 0;
}

/* ---- for the caller ---- */

static void set_scale(grd_image_loader *l)
{
    int64_t channels = l->images->info.channels;
    l->scaled = l->options.mean && l->options.deviation;
    for (int64_t c = 0; c < channels; c++) {
        l->erased[c] = l->options.erased ? l->options.erased[c] : 0.5f;
        if (!l->scaled) continue;
        l->scale[c] = 1 / l->options.deviation[c];
        l->shift[c] = -l->options.mean[c] / l->options.deviation[c];
    }
    l->options.mean = l->options.deviation = l->options.erased = NULL;
}

static bool take_memory(grd_image_loader *l)
{
    size_t batch = (size_t)l->options.batch, pixels = batch * (size_t)l->values;
    int slots = l->options.workers ? SLOTS : 1;
    bool ok = (l->mixed = grdi_alloc(pixels * sizeof(float))) != NULL;
    for (int i = 0; i < slots; i++) {
        slot *s = &l->slots[i];
        s->batch = -1;
        s->pixels = grdi_alloc(pixels * sizeof(float));
        s->labels = grdi_alloc(2 * batch * sizeof(int32_t));
        s->other_labels = s->labels + batch;
        ok = ok && s->pixels && s->labels;
    }
    return ok;
}

grd_status grd_image_loader_new(const grd_images *images, const grd_image_loader_options *options,
                                grd_image_loader **loader, grd_error *error)
{
    *loader = NULL;
    if (images->info.channels > CHANNELS_MAX || options->workers < 0 || options->first < 0 || options->batch < 0)
        return grd_fail(error, GRD_E_ARGUMENT, "image loader: workers %d, first %lld, batch %lld or %lld channels",
                        options->workers, (long long)options->first, (long long)options->batch,
                        (long long)images->info.channels);
    grd_image_loader *l = grdi_alloc_zero(1, sizeof(*l));
    if (!l) return grd_fail(error, GRD_E_MEMORY, "out of memory for batches of images");
    l->images = images;
    l->options = *options;
    if (l->options.batch == 0) l->options.batch = 1;
    if (l->options.workers > WORKERS_MAX) l->options.workers = WORKERS_MAX;
    if (options->augment) l->augment = *options->augment;
    l->values = grdi_images_values(images);
    l->next = l->filling = options->first;
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->changed, NULL);
    set_scale(l);
    bool ok = take_memory(l) && start(l);
    if (ok) *loader = l;
    else grd_image_loader_free(l);
    return ok ? GRD_OK : grd_fail(error, GRD_E_MEMORY, "out of memory or threads for batches of images");
}

/* The slot of the batch `next`, drawn by workers. */
static slot *wait_for_batch(grd_image_loader *l)
{
    pthread_mutex_lock(&l->lock);
    slot *s = &l->slots[l->next % SLOTS];
    while (!l->error.status && (s->batch != l->next || s->done < l->options.batch))
        pthread_cond_wait(&l->changed, &l->lock);
    if (!l->error.status) l->next++;
    pthread_cond_broadcast(&l->changed); /* one more may be begun */
    pthread_mutex_unlock(&l->lock);
    return s;
}

static slot *draw_batch(grd_image_loader *l)
{
    slot *s = &l->slots[0];
    s->batch = l->next++;
    for (int64_t b = 0; b < l->options.batch && !l->error.status; b++) draw(l, s, b, &l->rooms, &l->error);
    return s;
}

/* Each image with the one that stands as far from the other end. */
static float mix(grd_image_loader *l, slot *s)
{
    const grd_images_info *info = &l->images->info;
    grdi_mix m = grdi_mix_random(&l->augment, l->options.seed, s->batch, info->height, info->width);
    int64_t batch = l->options.batch, row = info->width * info->channels;
    float part = (float)m.part, rest = 1 - part;
    for (int64_t b = 0; b < batch; b++) s->other_labels[b] = s->labels[m.part < 1 ? batch - 1 - b : b];
    if (m.part >= 1) return 1;
    memcpy(l->mixed, s->pixels, (size_t)(batch * l->values) * sizeof(float));
    for (int64_t b = 0; b < batch; b++) {
        float *to = s->pixels + b * l->values;
        const float *other = l->mixed + (batch - 1 - b) * l->values;
        for (int64_t i = 0; m.height == 0 && i < l->values; i++) to[i] = part * to[i] + rest * other[i];
        for (int64_t y = m.top; y < m.top + m.height; y++)
            memcpy(to + y * row + m.left * info->channels, other + y * row + m.left * info->channels,
                   (size_t)(m.width * info->channels) * sizeof(float));
    }
    return part;
}

grd_status grd_image_loader_next(grd_image_loader *l, grd_image_batch *batch, grd_error *error)
{
    slot *s = l->options.workers ? wait_for_batch(l) : draw_batch(l);
    if (l->error.status) return grd_fail(error, l->error.status, "%s", l->error.message);
    float part = mix(l, s);
    *batch = (grd_image_batch){s->pixels, s->labels, s->other_labels, part};
    return GRD_OK;
}

void grd_image_loader_free(grd_image_loader *l)
{
    if (!l) return;
    pthread_mutex_lock(&l->lock);
    l->stop = true;
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->lock);
    for (int32_t i = 0; i < l->running; i++) pthread_join(l->threads[i], NULL);
    pthread_cond_destroy(&l->changed);
    pthread_mutex_destroy(&l->lock);
    for (int i = 0; i < SLOTS; i++) {
        grdi_free(l->slots[i].pixels);
        grdi_free(l->slots[i].labels);
    }
    grdi_free(l->mixed);
    grdi_image_rooms_free(&l->rooms);
    grdi_free(l);
}
