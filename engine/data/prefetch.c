/* prefetch.c - reading batches ahead: two buffers, one filled by a thread while the other is in use. */
#include "base/memory.h"

#include <gradus/data.h>

#include <pthread.h>
#include <signal.h>

typedef struct slot {
    int32_t *inputs, *targets;
    grd_status status; /* of filling it */
    bool full;
} slot;

struct grd_prefetch {
    const grd_batches *batches;
    int64_t next, stride;   /* the batch to be read next; the thread's own */
    slot slots[2];
    int reading;            /* the slot that the caller takes next */
    bool held;              /* the caller still uses the other one */
    bool stop;
    grd_error error;        /* the thread's first; it ends with it */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    pthread_t thread;
};

static void *fill(void *context)
{
    grd_prefetch *p = context;
    for (int at = 0;; at = !at) {
        slot *s = &p->slots[at];
        pthread_mutex_lock(&p->lock);
        while (s->full && !p->stop)
            pthread_cond_wait(&p->changed, &p->lock);
        bool stop = p->stop;
        pthread_mutex_unlock(&p->lock);
        if (stop)
            return NULL;
        grd_status status = grd_batches_get(p->batches, p->next, s->inputs, s->targets, &p->error);
        p->next += p->stride;
        pthread_mutex_lock(&p->lock);
        s->status = status;
        s->full = true;
        pthread_cond_signal(&p->changed);
        pthread_mutex_unlock(&p->lock);
        if (status != GRD_OK)
            return NULL;
    }
}

/* Starts the thread with all signals blocked: they are for the program's own threads. */
static bool start(grd_prefetch *p)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    bool ok = pthread_create(&p->thread, NULL, fill, p) == 0;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return ok;
}

grd_status grd_prefetch_new(const grd_batches *batches, int64_t first, int64_t stride, grd_prefetch **prefetch,
                            grd_error *error)
{
    *prefetch = NULL;
    if (first < 0 || stride < 1)
        return grd_fail(error, GRD_E_ARGUMENT, "prefetch: first %lld or stride %lld is out of range", (long long)first,
                        (long long)stride);
    size_t size = grd_batches_size(batches);
    grd_prefetch *p = grdi_alloc_zero(1, sizeof(*p));
    int32_t *room = grdi_alloc_zero(size, 4 * sizeof(int32_t));
    if (!p || !room) {
        grdi_free(p);
        grdi_free(room);
        return grd_fail(error, GRD_E_MEMORY, "prefetch: out of memory");
    }
    p->batches = batches;
    p->next = first;
    p->stride = stride;
    for (int i = 0; i < 2; i++)
        p->slots[i] = (slot){.inputs = room + 2 * i * size, .targets = room + (2 * i + 1) * size};
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->changed, NULL);
    if (!start(p)) {
        pthread_cond_destroy(&p->changed);
        pthread_mutex_destroy(&p->lock);
        grdi_free(room);
        grdi_free(p);
        return grd_fail(error, GRD_E_MEMORY, "prefetch: the system gives no more threads");
    }
    *prefetch = p;
    return GRD_OK;
}

grd_status grd_prefetch_next(grd_prefetch *p, const int32_t **inputs, const int32_t **targets, grd_error *error)
{
    pthread_mutex_lock(&p->lock);
    if (p->held) { /* the one given out before may be filled again */
        p->slots[!p->reading].full = false;
        p->held = false;
        pthread_cond_signal(&p->changed);
    }
    slot *s = &p->slots[p->reading];
    while (!s->full)
        pthread_cond_wait(&p->changed, &p->lock);
    grd_status status = s->status;
    if (status == GRD_OK) {
        *inputs = s->inputs;
        *targets = s->targets;
        p->reading = !p->reading;
        p->held = true;
    }
    pthread_mutex_unlock(&p->lock);
    return status == GRD_OK ? GRD_OK : grd_fail(error, status, "%s", p->error.message);
}

void grd_prefetch_free(grd_prefetch *p)
{
    if (!p)
        return;
    pthread_mutex_lock(&p->lock);
    p->stop = true;
    pthread_cond_signal(&p->changed);
    pthread_mutex_unlock(&p->lock);
    pthread_join(p->thread, NULL);
    pthread_cond_destroy(&p->changed);
    pthread_mutex_destroy(&p->lock);
    grdi_free(p->slots[0].inputs);
    grdi_free(p);
}
