/* cached_attention.c - attention of a few new tokens over a cache of keys and values: for each query one pass over the
 * keys for the scores and one over the values, so that nothing but the cache is read at length. */
#include "backend/backend.h"
#include "backend/cpu/kernels/math.h"
#include "backend/cpu/kernels/vector.h"
#include "backend/cpu/parallel.h"

#include <string.h>

enum { Q, K, V, K_CACHE, V_CACHE, POSITION };
enum { GRAIN = 32768 };

typedef struct sizes {
    int64_t b, t, s, h, hkv, d, dv, window, position;
    float scale;
    size_t each_bytes; /* one thread's scratch: scores [S], a sum [Dv] */
} sizes;

static int64_t up(int64_t count)
{
    return (count + 15) / 16 * 16;
}

static sizes sizes_of(const grdi_call *call)
{
    const int64_t *q = call->in[Q].dims.dim, *cache = call->in[K_CACHE].dims.dim;
    sizes z = {.b = q[0], .t = q[1], .h = q[2], .d = q[3], .s = cache[1], .hkv = cache[2]};
    z.dv = call->in[V].dims.dim[3];
    z.window = grdi_attr_int(call->attrs, "window");
    double scale = grdi_attr_float(call->attrs, "scale");
    z.scale = (float)(scale != 0 ? scale : 1 / sqrt((double)z.d));
    z.each_bytes = (size_t)(up(z.s + GRDI_LANES) + up(z.dv)) * sizeof(float);
    return z;
}

static float *row_of(const grdi_view *view, int64_t b, int64_t j, int64_t head)
{
    return (float *)view->data + b * view->stride[0] + j * view->stride[1] + head * view->stride[2];
}

/* Row j of the cache with the new rows in it. */
static const float *cached(const grdi_call *call, const sizes *z, int32_t rows, int64_t b, int64_t j, int64_t head)
{
    int64_t i = j - z->position;
    if (i >= 0 && i < z->t) return row_of(&call->in[rows], b, i, head);
    return row_of(&call->in[rows == K ? K_CACHE : V_CACHE], b, j, head);
}

/* ---- the caches ---- */

/* Writes the cache; where it lies over its input only the new rows. */
static void fill(const grdi_call *call, const sizes *z, int32_t rows, int32_t output, int64_t b, int64_t head)
{
    const grdi_view *out = &call->out[output];
    if (!out->data) return;
    bool in_place = out->data == call->in[rows == K ? K_CACHE : V_CACHE].data;
    int64_t first = in_place && z->position > 0 ? z->position : 0;
    int64_t end = in_place && z->position + z->t < z->s ? z->position + z->t : z->s;
    for (int64_t j = first; j < end; j++)
        memcpy(row_of(out, b, j, head), cached(call, z, rows, b, j, head), (size_t)out->dims.dim[3] * sizeof(float));
}

/* ---- the attention ---- */

static float dot(const float *a, const float *b, int64_t count)
{
    grdi_vf sum = {0};
    int64_t i = 0;
    for (; i + GRDI_LANES <= count; i += GRDI_LANES) sum += grdi_load(a + i) * grdi_load(b + i);
    float rest = 0;
    for (; i < count; i++) rest += a[i] * b[i];
    return grdi_sum_lanes(sum) + rest;
}

static void add_scaled(float *sum, const float *x, float factor, int64_t count)
{
    int64_t i = 0;
    for (; i + GRDI_LANES <= count; i += GRDI_LANES)
        grdi_store(sum + i, grdi_load(sum + i) + factor * grdi_load(x + i));
    for (; i < count; i++) sum[i] += factor * x[i];
}

/* Scores become exp(score - most); returns their sum. */
static float exponentials(float *score, int64_t count)
{
    float most = -INFINITY;
    for (int64_t j = 0; j < count; j++) most = score[j] > most || score[j] != score[j] ? score[j] : most;
    for (int64_t j = 0; j < GRDI_LANES; j++) score[count + j] = -INFINITY; /* the last vector's other lanes */
    grdi_vf sum = {0};
    for (int64_t j = 0; j < count; j += GRDI_LANES) {
        grdi_vf e = grdi_exp_negative(grdi_load(score + j) - most);
        grdi_store(score + j, e);
        sum += e;
    }
    return grdi_sum_lanes(sum);
}

static void attend(const grdi_call *call, const sizes *z, int64_t b, int64_t i, int64_t h, float *scratch)
{
    float *score = scratch, *sum = scratch + up(z->s + GRDI_LANES), total = 0;
    int64_t head = h / (z->h / z->hkv), last = z->position + i, end = last + 1 < z->s ? last + 1 : z->s;
    int64_t begin = z->window > 0 && last - z->window + 1 > 0 ? last - z->window + 1 : 0;
    memset(sum, 0, (size_t)z->dv * sizeof(float));
    for (int64_t j = begin; j < end; j++)
        score[j - begin] = z->scale * dot(row_of(&call->in[Q], b, i, h), cached(call, z, K, b, j, head), z->d);
    if (end > begin) total = exponentials(score, end - begin);
    for (int64_t j = begin; j < end; j++) add_scaled(sum, cached(call, z, V, b, j, head), score[j - begin], z->dv);
    float *out = row_of(&call->out[0], b, i, h);
    for (int64_t d = 0; d < z->dv; d++) out[d] = end > begin ? sum[d] / total : 0.0f;
}

typedef struct context {
    const grdi_call *call;
    sizes z;
} context;

static void fill_range(int64_t begin, int64_t end, int32_t thread, void *given)
{
    (void)thread;
    const context *c = given;
    for (int64_t n = begin; n < end; n++) {
        fill(c->call, &c->z, K, 1, n / c->z.hkv, n % c->z.hkv);
        fill(c->call, &c->z, V, 2, n / c->z.hkv, n % c->z.hkv);
    }
}

/* Queries [begin, end) of B times T times H. */
static void attend_range(int64_t begin, int64_t end, int32_t thread, void *given)
{
    const context *c = given;
    float *scratch = (float *)((char *)c->call->scratch + (size_t)thread * c->z.each_bytes);
    for (int64_t n = begin; n < end; n++)
        attend(c->call, &c->z, n / (c->z.t * c->z.h), n / c->z.h % c->z.t, n % c->z.h, scratch);
}

static bool supports(const grdi_call *call)
{
    for (int32_t i = 0; i < POSITION; i++)
        if (call->in[i].dtype != GRD_F32) return false;
    for (int32_t o = 0; o < call->output_count; o++)
        if (call->out[o].dtype != GRD_F32) return false;
    return call->in[POSITION].dtype == GRD_I32;
}

static grd_status prepare(grdi_call *call, grd_error *error)
{
    (void)error;
    call->scratch_bytes = sizes_of(call).each_bytes * (size_t)call->threads;
    return GRD_OK;
}

static grd_status run(grdi_call *call)
{
    context c = {call, sizes_of(call)};
    c.z.position = *(const int32_t *)call->in[POSITION].data;
    int64_t heads = c.z.b * c.z.hkv, work = c.z.s * (c.z.d + c.z.dv);
    grdi_parallel_for(call->threads, heads, GRAIN / work + 1, fill_range, &c);
    if (call->out[0].data) grdi_parallel_for(call->threads, c.z.b * c.z.t * c.z.h, GRAIN / work + 1, attend_range, &c);
    return GRD_OK;
}

static const grdi_kernel kernel_cached_attention = {.op = "cached_attention",
                                                    .strided_in = 1u << POSITION,
                                                    .rows_in = 31,
                                                    .strided_out = 1,
                                                    .in_place = 6,
                                                    .supports = supports,
                                                    .prepare = prepare,
                                                    .run = run};

const grdi_kernel *const GRDI_ISA_TABLE(cached_attention)[] = {&kernel_cached_attention, NULL};
