/* attention.cu - attention, forward, of what neither cuDNN (attention_library.cu) nor the tensor cores
 * (flash_attention.cu) take: a block takes some queries of one head and goes over the keys a tile at a time with a
 * running maximum and sum (Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018; Dao et al.,
 * "FlashAttention", 2022), so that scores never leave shared memory. Arithmetic in f32 on plain cores; sums in the
 * order of the keys, so that runs agree to the bit. */
#include "ops/flash.cuh"

#include "backend/profiles.h"
#include "device/table.cuh"

#include <cmath>
#include <cstring>

namespace
{

__global__ void __launch_bounds__(ATTENTION_THREADS, ATTENTION_BLOCKS) attention_kernel(const attention_task t)
{
    int d_ld = t.d + 1, score_ld = t.keys + 1, queries = t.queries, keys = t.keys, width = t.dv_size;
    shared_memory shared;
    float *q = shared.take<float>(queries * t.d), *k = shared.take<float>(keys * d_ld);
    float *v = shared.take<float>(keys * width), *score = shared.take<float>(queries * score_ld);
    float *most = shared.take<float>(queries), *sum = shared.take<float>(queries),
          *shrink = shared.take<float>(queries);
    int *q_document = shared.take<int>(queries), *k_document = shared.take<int>(keys);
    int64_t batch = blockIdx.y / (unsigned)t.h, head = blockIdx.y % (unsigned)t.h, kv = head / (t.h / t.hkv);
    int64_t first = (int64_t)blockIdx.x * queries, end = first + queries < t.t ? first + queries : t.t;
    int me = (int)threadIdx.x;
    float out[ATTENTION_SUMS];
#pragma unroll
    for (int n = 0; n < ATTENTION_SUMS; n++) out[n] = 0;
    load_rows(q, t.d, t.q, batch, head, first, queries, t.t, t.d);
    for (int i = me; i < queries; i += ATTENTION_THREADS) {
        most[i] = -INFINITY;
        sum[i] = 0;
        q_document[i] = t.offsets ? document_of(t, first + i) : 0;
    }
    for (int64_t key = first_key(t, first), last = end_key(t, end); key < last; key += keys) {
        __syncthreads(); /* the tile before is done with */
        load_rows(k, d_ld, t.k, batch, kv, key, keys, t.s, t.d);
        load_rows(v, width, t.v, batch, kv, key, keys, t.s, width);
        for (int j = me; j < keys; j += ATTENTION_THREADS) k_document[j] = t.offsets ? document_of(t, key + j) : 0;
        __syncthreads();
        for (int e = me; e < queries * keys; e += ATTENTION_THREADS) {
            int i = e / keys, j = e - i * keys;
            float s = -INFINITY;
            if (first + i < t.t && key + j < t.s && sees(t, first + i, key + j, q_document[i], k_document[j])) {
                s = t.scale * dot(q + i * t.d, k + j * d_ld, t.d);
                if (t.mask.data) s += mask_at(t, batch, head, first + i, key + j);
            }
            score[i * score_ld + j] = s;
        }
        __syncthreads();
        for (int i = me; i < queries; i += ATTENTION_THREADS) {
            float high = most[i], total = 0;
            for (int j = 0; j < keys; j++) high = larger(high, score[i * score_ld + j]);
            float base = high == -INFINITY ? 0.0f : high;
            for (int j = 0; j < keys; j++) {
                float p = expf(score[i * score_ld + j] - base);
                score[i * score_ld + j] = p;
                total += p;
            }
            shrink[i] = expf(most[i] - base);
            sum[i] = sum[i] * shrink[i] + total;
            most[i] = high;
        }
        __syncthreads();
#pragma unroll
        for (int n = 0; n < ATTENTION_SUMS; n++) {
            int e = me + n * ATTENTION_THREADS, i = e / width, c = e - i * width;
            if (i >= queries) continue;
            float o = out[n] * shrink[i];
            for (int j = 0; j < keys; j++) o += score[i * score_ld + j] * v[j * width + c];
            out[n] = o;
        }
    }
    __syncthreads();
#pragma unroll
    for (int n = 0; n < ATTENTION_SUMS; n++) {
        int e = me + n * ATTENTION_THREADS, i = e / width, c = e - i * width;
        if (i < queries && first + i < t.t && t.out.at.data)
            put(t.out.at, head_row(t.out, batch, first + i, head) + c * t.out.stride[3],
                sum[i] == 0 ? 0.0f : out[n] / sum[i]);
    }
    for (int i = me; i < queries && t.lse.data; i += ATTENTION_THREADS)
        if (first + i < t.t)
            put(t.lse, (batch * t.h + head) * t.t + first + i,
                most[i] == -INFINITY ? -INFINITY : most[i] + logf(sum[i]));
}

size_t shared_bytes(const attention_task &t)
{
    size_t f = sizeof(float);
    return shared_bytes_of((size_t)(t.queries * t.d), f) + shared_bytes_of((size_t)(t.keys * (t.d + 1)), f) +
           shared_bytes_of((size_t)(t.keys * t.dv_size), f) + shared_bytes_of((size_t)(t.queries * (t.keys + 1)), f) +
           4 * shared_bytes_of((size_t)t.queries, f) + shared_bytes_of((size_t)t.keys, f);
}

/* Tiles that fit; 0 keys where none do. */
void choose_tiles(attention_task *t)
{
    t->queries = ATTENTION_SUMS * ATTENTION_THREADS / t->dv_size;
    t->queries = t->queries > 16 ? 16 : t->queries;
    for (t->keys = ATTENTION_TILE_MAX; t->keys >= 8; t->keys /= 2)
        if (t->queries > 0 && shared_bytes(*t) <= 48 * 1024) return;
    t->keys = 0;
}

grd_status prepare(grdi_call *call, grd_error *error)
{
    return grdi_attention_prepare(call, error, false);
}

grd_status bind(grdi_call *call, grd_error *error)
{
    (void)error;
    return grdi_attention_bind(call, false);
}

grd_status run(grdi_call *call)
{
    if (grdi_attention_by_library(call)) return grdi_attention_run_library(call);
    attention_task t = grdi_attention_task(call, 0, 3);
    t.out = heads_of(call->out[0]);
    t.lse = cells_of(call->out[1]);
    return grdi_attention_own(call, t);
}

bool supports(const grdi_call *call)
{
    for (int32_t i = 0; i < call->input_count; i++)
        if (!is_value(call->in[i].dtype) && !(i > 2 && call->in[i].dtype == GRD_I32)) return false;
    if (!is_value(call->out[0].dtype) || call->out[1].dtype != GRD_F32) return false;
    attention_task t = grdi_attention_task(call, 0, 3);
    choose_tiles(&t);
    return t.keys > 0 && t.b * t.h <= 65535;
}

const grdi_kernel kernel = {.op = "attention",
                            .strided_in = 7,
                            .rows_in = 7,
                            .strided_out = 1,
                            .supports = supports,
                            .prepare = prepare,
                            .bind = bind,
                            .run = run,
                            .release = grdi_attention_release,
                            .rate_part_of = grdi_attention_part};

} // namespace

grd_status grdi_attention_own(const grdi_call *call, attention_task t)
{
    if (grdi_flash_takes(t)) return grdi_flash_forward(call, t);
    choose_tiles(&t);
    return grdi_launch(call, attention_kernel, dim3(blocks_for(t.t, t.queries), (unsigned)(t.b * t.h)),
                       ATTENTION_THREADS, shared_bytes(t), t);
}

double grdi_attention_part(const grdi_call *call)
{
    return grdi_gpu_attention_part(grdi_profile_of_device(call->device->kind), call);
}

attention_task grdi_attention_task(const grdi_call *call, int32_t first, int32_t optional)
{
    const grdi_view *in = call->in;
    const int64_t *q = in[first].dims.dim, *k = in[first + 1].dims.dim;
    attention_task t = {};
    t.q = heads_of(in[first]), t.k = heads_of(in[first + 1]), t.v = heads_of(in[first + 2]);
    t.b = (int32_t)q[0], t.t = q[1], t.h = (int32_t)q[2], t.d = (int32_t)q[3];
    t.s = k[1], t.hkv = (int32_t)k[2], t.dv_size = (int32_t)in[first + 2].dims.dim[3];
    t.causal = grdi_attr_int(call->attrs, "causal") != 0;
    t.window = grdi_attr_int(call->attrs, "window");
    double scale = grdi_attr_float(call->attrs, "scale");
    t.scale = (float)(scale == 0 ? 1 / sqrt((double)t.d) : scale);
    bool mask = grdi_attr_int(call->attrs, "has_mask") != 0, segments = grdi_attr_int(call->attrs, "has_segments") != 0;
    if (mask) {
        const grdi_view *m = &in[optional];
        int64_t full[4] = {t.b, t.h, t.t, t.s};
        t.mask = cells_of(*m);
        for (int i = 0; i < 4; i++) {
            int axis = i - (4 - m->dims.rank);
            t.mask_dim[i] = axis < 0 ? 1 : m->dims.dim[axis];
            t.mask_stride[i] = axis < 0 || (m->dims.dim[axis] == 1 && full[i] != 1) ? 0 : m->stride[axis];
        }
    }
    if (segments) {
        t.offsets = (const int32_t *)in[optional + mask].data;
        t.offset_count = in[optional + mask].dims.dim[0];
    }
    return t;
}

GRDI_CUDA_TABLE(attention, &kernel)
