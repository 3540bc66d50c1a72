/* resident_cells.cu - all steps of an LSTM, GRU or plain recurrent layer in one launch. Weights are read once and stay
 * in shared memory; what passes between blocks from step to step is the state alone.
 *
 * A block has some units of the cells for some rows of the batch. Blocks with the same rows are a group: each needs the
 * state of all units, whose values it takes from words that say of which turn they are. All blocks must be on the
 * device at once for that, which a cooperative launch sees to. Turns take two sets of words by turns: who posts a value
 * has taken all of the turn before, so each of its group has taken all of the one before that. Sums are made in an
 * order that the shape alone fixes. */
#include "ops/recurrent.cuh"

#include "cuda.h"
#include "device/tensor.cuh"

namespace
{

/* A thread makes sums of TILE gates and TILE rows; TOGETHER of the threads that share them are added up at a time. */
enum { THREADS = 256, TILE = 4, TOGETHER = 16, SPLITS_MAX = 64, COLUMNS_MIN = 32, AT_ONCE = 4 };
enum { HELD = 8192, HELD_SMALL = 128 }; /* elements of the state in shared memory at a time */

/* What the block has, and where. */
struct resident_block {
    float *weight, *held, *parts, *sums, *carry;
    int64_t row, unit; /* the first */
    int n;             /* gates that sums are made of: of all units, or backward, units */
    int width;         /* of a row of the state */
    int weight_row, held_row;
};

template <int KIND> __host__ __device__ constexpr int sums_of(int units)
{
    return is_backward(KIND) ? units : gates_of(KIND) * units;
}

__host__ __device__ constexpr int padded(int width)
{
    return (width + 31) / 32 * 32 + 4; /* rows of a tile then lie in different banks */
}

__host__ __device__ constexpr int lines_of(int splits)
{
    return splits > TOGETHER ? splits / TOGETHER : 1;
}

__device__ __forceinline__ step_rows rows_at(const step_rows &r, int64_t step)
{
    return {r.data + step * r.next, r.row, r.next};
}

/* The words of a turn, of [B,width] values. */
__device__ __forceinline__ unsigned long long *words_of(const resident_task &k, int width, uint32_t turn)
{
    return k.words + turn % 2 * k.first.b * width;
}

__device__ __forceinline__ cell_task cell_at(const resident_task &k, int64_t t)
{
    if (t == 0) return k.first;
    cell_task c = k.rest;
    c.in = rows_at(c.in, t - 1), c.state = rows_at(c.state, t - 1), c.cells_before = rows_at(c.cells_before, t - 1);
    c.cells = rows_at(c.cells, t - 1), c.gates = rows_at(c.gates, t - 1), c.out = rows_at(c.out, t - 1);
    c.gy = rows_at(c.gy, t - 1), c.gcells = rows_at(c.gcells, t - 1), c.dgates = rows_at(c.dgates, t - 1);
    c.dhidden = rows_at(c.dhidden, t - 1);
    return c;
}

/* Row n of the block's weight: forward that of its gate, backward the unit's column of all gates. */
template <int KIND>
__device__ inline void take_weight(const resident_task &k, const resident_shape &s, const resident_block &m)
{
    int64_t h = k.first.h;
    for (int e = (int)threadIdx.x; is_backward(KIND) && e < m.width * s.units; e += THREADS) {
        int column = e / s.units, u = e % s.units;
        bool there = m.unit + u < h;
        m.weight[u * m.weight_row + column] = there ? k.weight[column * h + m.unit + u] : 0.0f;
    }
    for (int e = (int)threadIdx.x; !is_backward(KIND) && e < m.n * (m.width / 4); e += THREADS) {
        int n = e / (m.width / 4), i = e % (m.width / 4) * 4;
        int64_t unit = m.unit + n % s.units;
        const float *from = k.weight + (n / s.units * h + unit) * m.width + i;
        copy_16(m.weight + n * m.weight_row + i, unit < h ? from : k.weight, unit < h);
    }
    copies_commit();
    copies_wait<0>();
}

/* Columns of the state that came in, from `column` on, go to `held`. */
__device__ inline void fetch_first(const resident_task &k, const resident_shape &s, const resident_block &m, int column,
                                   float *held)
{
    int quads = (m.width - column < s.chunk ? m.width - column : s.chunk) / 4;
    for (int e = (int)threadIdx.x; e < s.rows * quads; e += THREADS) {
        int r = e / quads, i = e % quads * 4;
        bool there = m.row + r < k.first.b;
        const float *at = k.from.data + (m.row + r) * k.from.row + column + i;
        copy_16(held + r * m.held_row + i, there ? at : k.from.data, there);
    }
}

/* The same of the state of a turn. A thread waits for the first of its words, and asks for the others, which have come
 * by then as a rule, all at once: threads that ask again and again would keep memory from those that post. */
__device__ inline void fetch_words(const resident_task &k, const resident_shape &s, const resident_block &m,
                                   uint32_t turn, int column, float *held)
{
    int quads = (m.width - column < s.chunk ? m.width - column : s.chunk) / 4;
    const unsigned long long *words = words_of(k, m.width, turn);
    for (int first = (int)threadIdx.x; first < s.rows * quads; first += AT_ONCE * THREADS) {
        const unsigned long long *at[AT_ONCE];
        uint32_t bits[AT_ONCE][4] = {};
#pragma unroll
        for (int n = 0; n < AT_ONCE; n++) {
            int e = first + n * THREADS, r = e / quads, i = e % quads * 4;
            bool there = e < s.rows * quads && m.row + r < k.first.b;
            at[n] = there ? words + (m.row + r) * m.width + column + i : nullptr;
        }
        while (at[0] && !take_four(at[0], turn, bits[0])) {
        }
        for (bool all = false; !all;) {
            all = true;
#pragma unroll
            for (int n = 1; n < AT_ONCE; n++)
                if (at[n]) all = take_four(at[n], turn, bits[n]) && all;
        }
#pragma unroll
        for (int n = 0; n < AT_ONCE; n++) {
            int e = first + n * THREADS, r = e / quads, i = e % quads * 4;
            if (e < s.rows * quads)
                *(float4 *)(held + r * m.held_row + i) = float4{bits_float(bits[n][0]), bits_float(bits[n][1]),
                                                                bits_float(bits[n][2]), bits_float(bits[n][3])};
        }
    }
}

/* Turn 0 is the state that came in. */
__device__ inline void fetch(const resident_task &k, const resident_shape &s, const resident_block &m, uint32_t turn,
                             int column, float *held)
{
    if (turn == 0) fetch_first(k, s, m, column, held);
    else fetch_words(k, s, m, turn, column, held);
}

/* sum[a][b] += weight row a times held row b, of every `splits`-th quad of columns from the thread's own on. */
__device__ __forceinline__ void accumulate(float (&sum)[TILE][TILE], const float *weight, int weight_row,
                                           const float *held, int held_row, int columns, int split, int splits)
{
    for (int i = split * 4; i < columns; i += splits * 4) {
        float4 w[TILE];
#pragma unroll
        for (int a = 0; a < TILE; a++) w[a] = *(const float4 *)(weight + a * weight_row + i);
#pragma unroll
        for (int b = 0; b < TILE; b++) {
            float4 x = *(const float4 *)(held + b * held_row + i);
#pragma unroll
            for (int a = 0; a < TILE; a++) {
                sum[a][b] += w[a].x * x.x;
                sum[a][b] += w[a].y * x.y;
                sum[a][b] += w[a].z * x.z;
                sum[a][b] += w[a].w * x.w;
            }
        }
    }
}

/* sums[line][n][row]: lines are added up by who reads them. */
__device__ inline void product(const resident_task &k, const resident_shape &s, const resident_block &m, uint32_t turn)
{
    int thread = (int)threadIdx.x, across = s.rows / TILE, tile = thread / s.splits, split = thread % s.splits;
    int n = tile / across * TILE, row = tile % across * TILE, all = m.n * s.rows, half = 0;
    bool works = n < m.n;
    float sum[TILE][TILE] = {};
    fetch(k, s, m, turn, 0, m.held);
    copies_commit();
    for (int column = 0; column < m.width; column += s.chunk, half ^= 1) {
        const float *held = m.held + half * s.rows * m.held_row;
        int next = column + s.chunk, columns = m.width - column < s.chunk ? m.width - column : s.chunk;
        if (next < m.width) fetch(k, s, m, turn, next, m.held + (half ^ 1) * s.rows * m.held_row);
        copies_commit();
        copies_wait<1>();
        __syncthreads();
        if (works)
            accumulate(sum, m.weight + n * m.weight_row + column, m.weight_row, held + row * m.held_row, m.held_row,
                       columns, split, s.splits);
        __syncthreads();
    }
#pragma unroll
    for (int a = 0; a < TILE && works; a++)
#pragma unroll
        for (int b = 0; b < TILE; b++) m.parts[split * all + (n + a) * s.rows + row + b] = sum[a][b];
    __syncthreads();
    int each = s.splits < TOGETHER ? s.splits : TOGETHER;
    for (int e = thread; e < all * lines_of(s.splits); e += THREADS) {
        float total = 0;
        for (int i = 0; i < each; i++) total += m.parts[(e / all * each + i) * all + e % all];
        m.sums[e] = total;
    }
    __syncthreads();
}

__device__ __forceinline__ float summed(const resident_shape &s, const resident_block &m, int n, int row)
{
    float total = 0;
    for (int line = 0; line < lines_of(s.splits); line++) total += m.sums[(line * m.n + n) * s.rows + row];
    return total;
}

/* The block's cells of one step, whose product is in sums where there is one (`summed_up`). */
template <int KIND>
__device__ inline void run_cells(const resident_shape &s, const resident_block &m, const cell_task &c, bool summed_up)
{
    for (int e = (int)threadIdx.x; e < s.units * s.rows; e += THREADS) {
        int u = e % s.units, r = e / s.units;
        int64_t b = m.row + r, j = m.unit + u;
        float sum[4] = {0, 0, 0, 0};
        if (b >= c.b || j >= c.h) continue;
#pragma unroll
        for (int g = 0; g < (is_backward(KIND) ? 1 : gates_of(KIND)); g++) {
            if (summed_up) sum[g] = summed(s, m, g * s.units + u, r);
            if (KIND == LSTM || KIND == RNN) sum[g] += at(c.in, b, g * c.h + j);
        }
        if (KIND == GRU_BACKWARD) sum[0] += m.carry[e];
        run_cell<KIND>(c, b, j, sum, &m.carry[e]);
    }
}

__device__ __forceinline__ void ahead(const step_rows &r, int64_t row, int64_t column)
{
    if (r.data) fetch_ahead(r.data + row * r.row + column);
}

/* What the block's cells will read of memory at the next step, while it waits for the others. */
template <int KIND>
__device__ inline void look_ahead(const resident_shape &s, const resident_block &m, const cell_task &c)
{
    for (int e = (int)threadIdx.x; e < s.units * s.rows; e += THREADS) {
        int64_t b = m.row + e / s.units, j = m.unit + e % s.units;
        if (b >= c.b || j >= c.h) continue;
        if (!is_backward(KIND))
            for (int g = 0; g < gates_of(KIND); g++) ahead(c.in, b, g * c.h + j);
        if (is_backward(KIND)) ahead(c.gy, b, j);
        if (KIND == LSTM_BACKWARD || KIND == GRU_BACKWARD)
            for (int g = 0; g < 4; g++) ahead(c.gates, b, g * c.h + j);
        if (KIND == LSTM_BACKWARD) ahead(c.cells_before, b, j), ahead(c.gcells, b, j);
        if (KIND == GRU_BACKWARD) ahead(c.state, b, j);
        if (KIND == RNN_BACKWARD) ahead(c.out, b, j);
    }
}

/* Backward: gradients of the states that came in. */
template <int KIND>
__device__ inline void give_states(const resident_task &k, const resident_shape &s, const resident_block &m)
{
    if (k.dh.data) product(k, s, m, (uint32_t)k.steps);
    for (int e = (int)threadIdx.x; e < s.units * s.rows; e += THREADS) {
        int u = e % s.units, r = e / s.units;
        int64_t b = m.row + r, j = m.unit + u;
        if (b >= k.first.b || j >= k.first.h) continue;
        if (k.dh.data) set(k.dh, b, j, summed(s, m, u, r) + (KIND == GRU_BACKWARD ? m.carry[e] : 0.0f));
        if (KIND == LSTM_BACKWARD && k.dc.data) set(k.dc, b, j, m.carry[e]);
    }
}

template <int KIND>
__global__ void __launch_bounds__(THREADS, 1) resident_kernel(const resident_task k, const resident_shape s)
{
    shared_memory shared;
    resident_block m;
    bool backward = is_backward(KIND);
    int slice = (int)blockIdx.x % s.slices, group = (int)blockIdx.x / s.slices;
    m.n = sums_of<KIND>(s.units), m.width = (int)k.first.h * (backward ? gates_of(KIND) : 1);
    m.row = (int64_t)group * s.rows, m.unit = (int64_t)slice * s.units;
    m.weight_row = padded(m.width), m.held_row = s.chunk + 4;
    m.weight = shared.take<float>(m.n * m.weight_row);
    m.held = shared.take<float>((m.width > s.chunk ? 2 : 1) * s.rows * m.held_row);
    m.parts = shared.take<float>(s.splits * m.n * s.rows);
    m.sums = shared.take<float>(lines_of(s.splits) * m.n * s.rows);
    m.carry = shared.take<float>(s.units * s.rows);
    take_weight<KIND>(k, s, m);
    for (int e = (int)threadIdx.x; e < s.units * s.rows; e += THREADS) m.carry[e] = 0;
    __syncthreads();
    for (int64_t i = 0; i < k.steps; i++) {
        int64_t t = backward ? k.steps - 1 - i : i;
        cell_task c = cell_at(k, t);
        c.words = {words_of(k, m.width, (uint32_t)i + 1), m.width, (uint32_t)i + 1};
        if (!backward || i > 0) product(k, s, m, (uint32_t)i);
        run_cells<KIND>(s, m, c, !backward || i > 0);
        if (i + 1 < k.steps) look_ahead<KIND>(s, m, cell_at(k, backward ? t - 1 : t + 1));
    }
    if (backward) give_states<KIND>(k, s, m);
}

/* ---- on the host ---- */

bool is_aligned(const void *data)
{
    return (uintptr_t)data % 16 == 0;
}

/* Fills the rest of the shape; false where a block cannot be so. */
bool complete(const grdi_device *device, int32_t kind, int64_t h, resident_shape *s)
{
    int n = (is_backward(kind) ? 1 : gates_of(kind)) * s->units, tiles = n / TILE * (s->rows / TILE);
    int width = (int)h * (is_backward(kind) ? gates_of(kind) : 1);
    int held = (device->small ? HELD_SMALL : HELD) / s->rows / COLUMNS_MIN * COLUMNS_MIN;
    if (tiles > THREADS) return false;
    for (s->splits = 1; s->splits < SPLITS_MAX && tiles * s->splits * 2 <= THREADS;) s->splits *= 2;
    s->chunk = held < COLUMNS_MIN ? COLUMNS_MIN : held;
    if (s->chunk > width) s->chunk = padded(width) - 4;
    int32_t all = n * s->rows, buffers = width > s->chunk ? 2 : 1;
    const int32_t counts[] = {n * padded(width), buffers * s->rows * (s->chunk + 4), s->splits * all,
                              lines_of(s->splits) * all, s->units * s->rows};
    s->shared_bytes = 0;
    for (int32_t count : counts) s->shared_bytes += shared_bytes_of((size_t)count, sizeof(float));
    /* Tensor cores make up for launches where a step has much arithmetic. */
    return s->shared_bytes <= device->shared_bytes && !(device->modes.tf32 && (int64_t)all * width > 1 << 19);
}

template <int KIND> grd_status launch(const grdi_call *call, const resident_task &task, const resident_shape &shape)
{
    grd_status status = grdi_allow_shared(call, resident_kernel<KIND>, shape.shared_bytes);
    if (status) return status;
    return grdi_launch_together(call, resident_kernel<KIND>, (unsigned)(shape.slices * shape.groups), THREADS,
                                shape.shared_bytes, task, shape);
}

} // namespace

/* The least work for a block; of equals the one with more units, as fewer blocks then wait for one another. */
bool grdi_resident_plan(const grdi_device *device, int32_t kind, int64_t b, int64_t h, resident_shape *shape)
{
    int64_t least = 0;
    if (h % 4 || h > 1 << 14 || b > 1 << 20) return false;
    for (int32_t units = TILE; units < 2 * h; units *= 2) {
        for (int32_t rows = TILE; rows < 2 * b || rows == TILE; rows *= 2) {
            int64_t slices = (h + units - 1) / units, groups = (b + rows - 1) / rows, work = (int64_t)units * rows;
            resident_shape s = {units, rows, (int32_t)slices, (int32_t)groups, 1, 0, 0};
            if (slices * groups > device->multiprocessors || (least && work > least)) continue;
            if (!complete(device, kind, h, &s)) continue;
            *shape = s;
            least = work;
        }
    }
    return least > 0;
}

size_t grdi_resident_word_bytes(int32_t kind, int64_t b, int64_t h)
{
    return 2 * (size_t)(b * h * (is_backward(kind) ? gates_of(kind) : 1)) * sizeof(unsigned long long);
}

bool grdi_resident_takes(const resident_task *k)
{
    return is_aligned(k->weight) && is_aligned(k->from.data);
}

grd_status grdi_resident_run(const grdi_call *call, int32_t kind, const resident_task *task,
                             const resident_shape *shape)
{
    const cell_task &c = task->first;
    grd_status status = grdi_cuda_clear(call, task->words, grdi_resident_word_bytes(kind, c.b, c.h));
    if (status) return status;
    switch (kind) {
    case LSTM: return launch<LSTM>(call, *task, *shape);
    case LSTM_BACKWARD: return launch<LSTM_BACKWARD>(call, *task, *shape);
    case GRU: return launch<GRU>(call, *task, *shape);
    case GRU_BACKWARD: return launch<GRU_BACKWARD>(call, *task, *shape);
    case RNN: return launch<RNN>(call, *task, *shape);
    default: return launch<RNN_BACKWARD>(call, *task, *shape);
    }
}
