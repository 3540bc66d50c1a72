/* rope.cu - rotary position embedding of x [B,T,H,D]: a thread turns WIDE pairs where their elements and angles are
 * neighbours, else one. */
#include "device/space.cuh"
#include "device/table.cuh"

namespace
{

enum { THREADS = 256, WIDE_BLOCKS = 4 };

struct rope_task {
    cells x, y, cosine, sine;
    int64_t x_stride[4], y_stride[4];
    int64_t length, heads, half, pairs;
    bool shared, inverse, interleaved; /* shared: one table for all batches */
};

/* Where pair `i` of a head begins, and its angle; `n` counts steps of `each` pairs. */
struct place {
    int64_t i, angle, x, y;
};

template <class N> __device__ __forceinline__ place place_of(const rope_task &t, N n, int each)
{
    N steps = (N)t.half / (N)each, heads = (N)t.heads, length = (N)t.length;
    N rest = n / steps, i = (n - rest * steps) * (N)each, tokens = rest / heads, head = rest - tokens * heads;
    N batch = tokens / length, token = tokens - batch * length;
    return place{(int64_t)i, (int64_t)(t.shared ? token : tokens) * t.half + (int64_t)i,
                 (int64_t)batch * t.x_stride[0] + (int64_t)token * t.x_stride[1] + (int64_t)head * t.x_stride[2],
                 (int64_t)batch * t.y_stride[0] + (int64_t)token * t.y_stride[1] + (int64_t)head * t.y_stride[2]};
}

/* Division of 32 bits is a fifth of the work. */
__device__ __forceinline__ place place_of(const rope_task &t, int64_t n, int each)
{
    return t.pairs <= 0x7FFFFFFF ? place_of<uint32_t>(t, (uint32_t)n, each) : place_of<int64_t>(t, n, each);
}

__global__ void __launch_bounds__(THREADS) rope_kernel(const rope_task t)
{
    int64_t pair = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (pair >= t.pairs) return;
    const place p = place_of(t, pair, 1);
    int64_t first = t.interleaved ? 2 * p.i : p.i, second = first + (t.interleaved ? 1 : t.half);
    float c = get(t.cosine, p.angle), s = get(t.sine, p.angle);
    if (t.inverse) s = -s;
    float x = get(t.x, p.x + first * t.x_stride[3]), y = get(t.x, p.x + second * t.x_stride[3]);
    put(t.y, p.y + first * t.y_stride[3], x * c - y * s);
    put(t.y, p.y + second * t.y_stride[3], y * c + x * s);
}

/* WIDE pairs: of two runs, or of one where they are interleaved. DTYPE: of x and y. */
template <int DTYPE> __global__ void __launch_bounds__(THREADS, WIDE_BLOCKS) rope_wide_kernel(const rope_task t)
{
    int64_t n = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (n >= t.pairs / WIDE) return;
    const place p = place_of(t, n, WIDE);
    const cells from = {t.x.data, DTYPE}, to = {t.y.data, DTYPE};
    int64_t first = t.interleaved ? 2 * p.i : p.i, second = first + (t.interleaved ? WIDE : t.half);
    const wide_bits low = read_wide(from, p.x + first), high = read_wide(from, p.x + second);
    const wide_bits cosine = read_wide(t.cosine, p.angle), sine = read_wide(t.sine, p.angle);
    float x[2 * WIDE], y[2 * WIDE], c[WIDE], s[WIDE];
    spread(from, low, x);
    spread(from, high, x + WIDE);
    spread(t.cosine, cosine, c);
    spread(t.sine, sine, s);
#pragma unroll
    for (int k = 0; k < WIDE; k++) {
        float turn = t.inverse ? -s[k] : s[k];
        if (t.interleaved) {
            y[2 * k] = x[2 * k] * c[k] - x[2 * k + 1] * turn;
            y[2 * k + 1] = x[2 * k + 1] * c[k] + x[2 * k] * turn;
        } else {
            y[k] = x[k] * c[k] - x[WIDE + k] * turn;
            y[WIDE + k] = x[WIDE + k] * c[k] + x[k] * turn;
        }
    }
    write_wide(to, p.y + first, y);
    write_wide(to, p.y + second, y + WIDE);
}

bool lies_wide_in_heads(const cells &c, const int64_t *stride)
{
    return stride[3] == 1 && lies_wide(c, stride[0]) && lies_wide(c, stride[1]) && lies_wide(c, stride[2]);
}

bool is_wide(const rope_task &t)
{
    return t.half % WIDE == 0 && t.x.dtype == t.y.dtype && lies_wide_in_heads(t.x, t.x_stride) &&
           lies_wide_in_heads(t.y, t.y_stride) && lies_wide(t.cosine, 0) && lies_wide(t.sine, 0);
}

grd_status run(grdi_call *call)
{
    const int64_t *dim = call->in[0].dims.dim;
    rope_task t = {.x = cells_of(call->in[0]),
                   .y = cells_of(call->out[0]),
                   .cosine = cells_of(call->in[1]),
                   .sine = cells_of(call->in[2])};
    for (int32_t i = 0; i < 4; i++) {
        t.x_stride[i] = call->in[0].stride[i];
        t.y_stride[i] = call->out[0].stride[i];
    }
    t.length = dim[1], t.heads = dim[2], t.half = dim[3] / 2;
    t.pairs = dim[0] * dim[1] * dim[2] * t.half;
    t.shared = call->in[1].dims.rank == 2;
    t.inverse = grdi_attr_int(call->attrs, "inverse") != 0;
    t.interleaved = grdi_attr_int(call->attrs, "interleaved") != 0;
    if (!t.pairs) return GRD_OK;
    unsigned blocks = blocks_for(t.pairs / WIDE, THREADS);
    if (is_wide(t) && t.x.dtype == GRD_BF16)
        return grdi_launch(call, rope_wide_kernel<GRD_BF16>, blocks, THREADS, 0, t);
    if (is_wide(t) && t.x.dtype == GRD_F32) return grdi_launch(call, rope_wide_kernel<GRD_F32>, blocks, THREADS, 0, t);
    return grdi_launch(call, rope_kernel, blocks_for(t.pairs, THREADS), THREADS, 0, t);
}

bool supports(const grdi_call *call)
{
    return takes_values(call, 0, 3);
}

const grdi_kernel kernel_rope = {
    .op = "rope", .strided_in = 1, .rows_in = 1, .strided_out = 1, .in_place = 1, .supports = supports, .run = run};

} // namespace

GRDI_CUDA_TABLE(rope, &kernel_rope)
