/* attention.cuh - what the forward and backward kernels of attention share: the call as numbers, tiles of rows in
 * shared memory, and which keys a query sees. */
#ifndef GRDI_ATTENTION_CUH
#define GRDI_ATTENTION_CUH

#include "device/values.cuh"

enum {
    ATTENTION_THREADS = 128,
    ATTENTION_BLOCKS = 4, /* on a multiprocessor: left to itself the compiler spills to reach eight */
    ATTENTION_SUMS = 16,  /* kept by a thread */
    ATTENTION_TILE_MAX = 32
};

/* x [B,L,heads,D] */
struct heads_view {
    cells at;
    int64_t stride[4];
};

inline heads_view heads_of(const grdi_view &view)
{
    heads_view x = {cells_of(view), {0}};
    for (int i = 0; i < 4; i++) x.stride[i] = view.stride[i];
    return x;
}

struct attention_task {
    heads_view q, k, v, out, g, dq, dk, dv;
    cells lse, mask, dmask; /* lse [B,H,T]; mask data NULL: none */
    float *delta;           /* [B,H,T]: g . out of each row */
    const int32_t *offsets; /* of packed documents; NULL: none */
    int64_t offset_count, window;
    int64_t mask_stride[4], mask_dim[4]; /* of [B,H,T,S]; stride 0 where it repeats */
    int32_t b, h, hkv, d, dv_size;
    int64_t t, s;
    float scale;
    bool causal;
    int32_t queries, keys; /* rows in a tile */
    int32_t query_blocks;  /* of a head, which come before those of its keys (flash_attention_backward.cu) */
};

/* Fills in all but tiles and gradients; `first` is where q stands among the inputs, `optional` where mask and segments
 * begin. */
attention_task grdi_attention_task(const grdi_call *call, int32_t first, int32_t optional);

/* The plugin's own kernels: tensor cores' where they take it (ops/flash.cuh), else the plain ones. */
grd_status grdi_attention_own(const grdi_call *call, attention_task t);
/* Makes delta, too. */
grd_status grdi_attention_backward_own(const grdi_call *call, attention_task t);
grd_status grdi_attention_delta(const grdi_call *call, const attention_task &t);

/* attention_library.cu: attention by cuDNN, where it is there, takes the call (grdi_dnn_attention_new) and is faster.
 * The first scratch of the backward pass is for delta. */
struct attention_state {
    grdi_dnn_plan *library; /* NULL: there is none */
    grdi_attention part;    /* that it makes at a time */
    bool by_library;        /* and its pointers are as it needs them */
};
grd_status grdi_attention_prepare(grdi_call *call, grd_error *error, bool backward);
grd_status grdi_attention_bind(grdi_call *call, bool backward);
bool grdi_attention_by_library(const grdi_call *call);
grd_status grdi_attention_run_library(const grdi_call *call);
void grdi_attention_release(grdi_call *call);

/* For the cost model (grdi_kernel.rate_part_of). */
double grdi_attention_part(const grdi_call *call);

__device__ __forceinline__ int64_t head_row(const heads_view &x, int64_t batch, int64_t row, int64_t head)
{
    return batch * x.stride[0] + row * x.stride[1] + head * x.stride[2];
}

/* Rows [first, first + count) of a head into `tile`, rows `ld` floats apart; rows past `end` become 0. */
__device__ inline void load_rows(float *tile, int ld, const heads_view &x, int64_t batch, int64_t head, int64_t first,
                                 int count, int64_t end, int width)
{
    for (int e = (int)threadIdx.x; e < count * width; e += ATTENTION_THREADS) {
        int row = e / width, column = e - row * width;
        tile[row * ld + column] =
            first + row < end ? get(x.at, head_row(x, batch, first + row, head) + column * x.stride[3]) : 0.0f;
    }
}

/* The document of a token: the number of offsets not above it. */
__device__ inline int document_of(const attention_task &t, int64_t token)
{
    int count = 0;
    for (int64_t n = 0; n < t.offset_count; n++) count += t.offsets[n] <= token;
    return count;
}

/* Query i, key j; their documents, if there are any. */
__device__ __forceinline__ bool sees(const attention_task &t, int64_t i, int64_t j, int i_document, int j_document)
{
    int64_t last = i + (t.s - t.t);
    return !(t.causal && j > last) && !(t.window > 0 && j <= last - t.window) && i_document == j_document;
}

__device__ inline float mask_at(const attention_task &t, int64_t batch, int64_t head, int64_t i, int64_t j)
{
    return get(t.mask,
               batch * t.mask_stride[0] + head * t.mask_stride[1] + i * t.mask_stride[2] + j * t.mask_stride[3]);
}

/* The keys that queries [first, end) can see at most: the others are passed over a tile at a time. */
__device__ inline int64_t first_key(const attention_task &t, int64_t first)
{
    int64_t key = t.window > 0 ? first + (t.s - t.t) - t.window + 1 : 0;
    return key < 0 ? 0 : key / t.keys * t.keys;
}

__device__ inline int64_t end_key(const attention_task &t, int64_t end)
{
    int64_t key = t.causal ? end + (t.s - t.t) : t.s;
    return key < 0 ? 0 : key > t.s ? t.s : key;
}

__device__ inline float dot(const float *a, const float *b, int count)
{
    float sum = 0;
    for (int i = 0; i < count; i++) sum += a[i] * b[i];
    return sum;
}

#endif
