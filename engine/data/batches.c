/* batches.c - batches of windows as a pure function of seed and index. */
#include "base/memory.h"
#include "base/random.h"

#include <gradus/data.h>

#include <string.h>

typedef struct source {
    const grd_ids *ids;       /* or */
    const grd_tokens *shard;
    int64_t count;            /* tokens */
    int64_t before;           /* windows (shuffled) or batches (sequential) of the sources before this one */
} source;

struct grd_batches {
    int64_t batch, context, epoch; /* epoch: windows or batches in all sources */
    grd_order order;
    uint64_t seed;
    int32_t vocab_size;
    size_t count;
    source sources[];
};

/* Keeps the numbers drawn for the order of windows apart from those for their offset. */
enum { DRAW_ORDER = 0, DRAW_OFFSET = 1 };

static uint64_t draw(const grd_batches *b, uint32_t what, uint64_t epoch, uint64_t index)
{
    grdi_philox counter = {{(uint32_t)epoch, (uint32_t)(epoch >> 32), (uint32_t)index, what}};
    grdi_philox out = grdi_philox4x32(counter, (uint32_t)b->seed, (uint32_t)(b->seed >> 32));
    return (uint64_t)out.v[0] << 32 | out.v[1];
}

/* Windows of a source of `count` tokens when shuffled: as many as fit whatever the offset, but at least one. */
static int64_t windows_of(int64_t count, int64_t context)
{
    if (count < context + 1)
        return 0;
    return count >= 2 * context ? (count - context) / context : 1;
}

/* Where the windows of a source begin in an epoch: any place from which all of them fit, so that no token is left out
 * for good. */
static int64_t offset_of(const grd_batches *b, uint64_t epoch, size_t index)
{
    int64_t count = b->sources[index].count;
    int64_t places = count - windows_of(count, b->context) * b->context;
    return (int64_t)(draw(b, DRAW_OFFSET, epoch, index) % (uint64_t)places);
}

static grd_status make(size_t count, const grd_batches_options *given, grd_batches **made, grd_error *error)
{
    grd_batches_options o = {0};
    if (!given)
        return grd_fail(error, GRD_E_ARGUMENT, "batches: no options (set at least context)");
    memcpy(&o, given, given->size > 0 && given->size < sizeof(o) ? given->size : sizeof(o));
    o.batch = o.batch == 0 ? 1 : o.batch;
    const int64_t most = (int64_t)1 << 31;
    if (o.batch < 1 || o.context < 1 || o.batch > most || o.context > most || o.batch * o.context > most)
        return grd_fail(error, GRD_E_ARGUMENT, "batches: batch %lld and context %lld do not fit (give others)",
                        (long long)o.batch, (long long)o.context);
    if ((unsigned)o.order > GRD_ORDER_SEQUENTIAL)
        return grd_fail(error, GRD_E_ARGUMENT, "batches: order %d does not exist", (int)o.order);
    grd_batches *b = grdi_alloc_zero(1, sizeof(*b) + count * sizeof(b->sources[0]));
    if (!b)
        return grd_fail(error, GRD_E_MEMORY, "batches: out of memory");
    b->batch = o.batch;
    b->context = o.context;
    b->order = o.order;
    b->seed = o.seed;
    b->vocab_size = o.vocab_size;
    b->count = count;
    *made = b;
    return GRD_OK;
}

/* Counts windows or batches when all sources are there. */
static grd_status finish(grd_batches *b, grd_batches **made, grd_error *error)
{
    int64_t most = 0, needed = (b->order == GRD_ORDER_SHUFFLED ? b->context : b->batch * b->context) + 1;
    for (size_t i = 0; i < b->count; i++) {
        int64_t count = b->sources[i].count;
        b->sources[i].before = b->epoch;
        b->epoch += b->order == GRD_ORDER_SHUFFLED ? windows_of(count, b->context)
                                                   : (count - (count > 0)) / (b->batch * b->context);
        most = count > most ? count : most;
    }
    if (b->epoch == 0) {
        const char *lower = needed > b->context + 1 ? "context or the batch" : "context";
        grd_batches_free(b);
        return grd_fail(error, GRD_E_ARGUMENT,
                        "batches: the text has %lld tokens, and %lld are needed (give more text, or lower the %s)",
                        (long long)most, (long long)needed, lower);
    }
    *made = b;
    return GRD_OK;
}

grd_status grd_batches_of_ids(const grd_ids *const *sources, size_t count, const grd_batches_options *options,
                              grd_batches **batches, grd_error *error)
{
    *batches = NULL;
    grd_batches *b;
    grd_status status = make(count, options, &b, error);
    if (status != GRD_OK)
        return status;
    for (size_t i = 0; i < count; i++)
        b->sources[i] = (source){.ids = sources[i], .count = sources[i]->count};
    return finish(b, batches, error);
}

grd_status grd_batches_of_shards(const grd_tokens *const *sources, size_t count, const grd_batches_options *options,
                                 grd_batches **batches, grd_error *error)
{
    *batches = NULL;
    grd_batches *b;
    grd_status status = make(count, options, &b, error);
    if (status != GRD_OK)
        return status;
    for (size_t i = 0; i < count; i++)
        b->sources[i] = (source){.shard = sources[i], .count = (int64_t)grd_tokens_count(sources[i])};
    return finish(b, batches, error);
}

void grd_batches_free(grd_batches *batches) { grdi_free(batches); }

int64_t grd_batches_epoch(const grd_batches *batches) { return batches->epoch; }

size_t grd_batches_size(const grd_batches *b) { return (size_t)(b->batch * b->context); }

/* ---- reading ---- */

/* The source that holds window or batch `index` of the epoch: the last one that begins at or before it. */
static size_t source_of(const grd_batches *b, int64_t index)
{
    size_t low = 0, high = b->count;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (b->sources[middle].before <= index)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* Tokens [first, first + count] of a source: inputs without the last, targets without the first. */
static grd_status read_pair(const grd_batches *b, size_t index, int64_t first, int64_t count, int32_t *inputs,
                            int32_t *targets, grd_error *error)
{
    const source *from = &b->sources[index];
    if (from->ids) {
        grd_ids_read(from->ids, first, count, inputs);
        grd_ids_read(from->ids, first + count, 1, targets + count - 1);
    } else {
        grd_status status = grd_tokens_read(from->shard, (size_t)first, (size_t)count, inputs, error);
        if (status == GRD_OK)
            status = grd_tokens_read(from->shard, (size_t)(first + count), 1, targets + count - 1, error);
        if (status != GRD_OK)
            return status;
    }
    memcpy(targets, inputs + 1, (size_t)(count - 1) * sizeof(*targets));
    for (int64_t i = 0; b->vocab_size > 0 && i <= count; i++) {
        int32_t id = i < count ? inputs[i] : targets[count - 1];
        if (id < 0 || id >= b->vocab_size)
            return grd_fail(error, GRD_E_FORMAT,
                            "batches: token %d at position %lld of source %zu is not below the vocabulary's size %d "
                            "(set model.vocab to that of the data)",
                            id, (long long)(first + i), index, b->vocab_size);
    }
    return GRD_OK;
}

static grd_status get_shuffled(const grd_batches *b, int64_t index, int32_t *inputs, int32_t *targets, grd_error *error)
{
    for (int64_t row = 0; row < b->batch; row++) {
        uint64_t sample = (uint64_t)index * (uint64_t)b->batch + (uint64_t)row, windows = (uint64_t)b->epoch;
        uint64_t epoch = sample / windows;
        int64_t window = (int64_t)grdi_permute(draw(b, DRAW_ORDER, epoch, 0), windows, sample % windows);
        size_t from = source_of(b, window);
        int64_t first = offset_of(b, epoch, from) + (window - b->sources[from].before) * b->context;
        grd_status status = read_pair(b, from, first, b->context, inputs + row * b->context, targets + row * b->context,
                                      error);
        if (status != GRD_OK)
            return status;
    }
    return GRD_OK;
}

grd_status grd_batches_get(const grd_batches *b, int64_t index, int32_t *inputs, int32_t *targets, grd_error *error)
{
    if (index < 0)
        return grd_fail(error, GRD_E_ARGUMENT, "batches: there is no batch %lld", (long long)index);
    if (b->order == GRD_ORDER_SHUFFLED)
        return get_shuffled(b, index, inputs, targets, error);
    int64_t batch = index % b->epoch, size = b->batch * b->context;
    size_t from = source_of(b, batch);
    return read_pair(b, from, (batch - b->sources[from].before) * size, size, inputs, targets, error);
}
