/* rope.cu - rotary position embedding of x [B,T,H,D]: a thread turns one pair. */
#include "device/space.cuh"
#include "device/table.cuh"

namespace
{

enum { THREADS = 256 };

struct rope_task {
    cells x, y, cosine, sine;
    int64_t x_stride[4], y_stride[4];
    int64_t length, heads, half, pairs;
    bool shared, inverse, interleaved; /* shared: one table for all batches */
};

__global__ void __launch_bounds__(THREADS) rope_kernel(const rope_task t)
{
    int64_t pair = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (pair >= t.pairs) return;
    int64_t i = pair % t.half, head = pair / t.half % t.heads, token = pair / (t.half * t.heads) % t.length;
    int64_t batch = pair / (t.half * t.heads * t.length);
    int64_t angle = ((t.shared ? 0 : batch) * t.length + token) * t.half + i;
    int64_t first = t.interleaved ? 2 * i : i, second = first + (t.interleaved ? 1 : t.half);
    int64_t x_at = batch * t.x_stride[0] + token * t.x_stride[1] + head * t.x_stride[2];
    int64_t y_at = batch * t.y_stride[0] + token * t.y_stride[1] + head * t.y_stride[2];
    float c = get(t.cosine, angle), s = get(t.sine, angle);
    if (t.inverse) s = -s;
    float x = get(t.x, x_at + first * t.x_stride[3]), y = get(t.x, x_at + second * t.x_stride[3]);
    put(t.y, y_at + first * t.y_stride[3], x * c - y * s);
    put(t.y, y_at + second * t.y_stride[3], y * c + x * s);
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
    return t.pairs ? grdi_launch(call, rope_kernel, blocks_for(t.pairs, THREADS), THREADS, 0, t) : GRD_OK;
}

bool supports(const grdi_call *call)
{
    return takes_values(call, 0, 3);
}

const grdi_kernel kernel_rope = {
    .op = "rope", .strided_in = 1, .rows_in = 1, .strided_out = 1, .in_place = 1, .supports = supports, .run = run};

} // namespace

GRDI_CUDA_TABLE(rope, &kernel_rope)
