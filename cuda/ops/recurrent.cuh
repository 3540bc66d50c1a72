/* recurrent.cuh - recurrent cells: their formulas, and where they read and write. What they add to their sums is a
 * product with the state, which is made in two ways: one launch for all steps (resident_cells.cu), or a call of
 * cuBLASLt for each (recurrent.cu). */
#ifndef GRDI_RECURRENT_CUH
#define GRDI_RECURRENT_CUH

#include "device/values.cuh"

enum cell_kind { LSTM, LSTM_BACKWARD, GRU, GRU_BACKWARD, RNN, RNN_BACKWARD, CELL_KINDS };

/* What one row of the product has for each unit. */
__host__ __device__ constexpr int gates_of(int kind)
{
    return kind == LSTM || kind == LSTM_BACKWARD ? 4 : kind == GRU || kind == GRU_BACKWARD ? 3 : 1;
}
__host__ __device__ constexpr bool is_backward(int kind)
{
    return kind == LSTM_BACKWARD || kind == GRU_BACKWARD || kind == RNN_BACKWARD;
}

/* Rows [B,width] of one step, `row` floats apart, and `next` floats from there to those of the next step. */
struct step_rows {
    float *data;
    int64_t row, next;
};

/* Where one launch for all steps has its blocks hand on what the next step's product reads: words [B,row], zeros before
 * turn 1. NULL: nobody waits. */
struct turn_words {
    unsigned long long *words;
    int64_t row;
    uint32_t turn;
};

/* What the cells of one step read and write; data is NULL where the kind has none. */
struct cell_task {
    int64_t b, h;
    bool relu;
    turn_words words;
    step_rows in, state, cells_before, cells, gates, out; /* forward */
    step_rows gy, gcells, dgates, dhidden;                /* backward */
    const float *bias;
};

__device__ __forceinline__ float at(const step_rows &r, int64_t row, int64_t column)
{
    return r.data[row * r.row + column];
}
__device__ __forceinline__ void set(const step_rows &r, int64_t row, int64_t column, float value)
{
    r.data[row * r.row + column] = value;
}
/* The same, of what the next step's product reads. */
__device__ __forceinline__ void hand_on(const cell_task &c, const step_rows &r, int64_t row, int64_t column,
                                        float value)
{
    if (c.words.words) post(c.words.words + row * c.words.row + column, float_bits(value), c.words.turn);
    set(r, row, column, value);
}
__device__ __forceinline__ float sigmoid(float x)
{
    return 1.0f / (1.0f + expf(-x));
}

/* sum: of the input's part and the product. gates: what is behind their sigmoids and tanh. */
__device__ __forceinline__ void lstm_cell(const cell_task &c, int64_t b, int64_t j, const float *sum)
{
    float i = sigmoid(sum[0]), f = sigmoid(sum[1]), g = tanhf(sum[2]), o = sigmoid(sum[3]);
    float cell = f * at(c.cells_before, b, j) + i * g;
    hand_on(c, c.out, b, j, o * tanhf(cell));
    set(c.gates, b, j, i), set(c.gates, b, c.h + j, f), set(c.gates, b, 2 * c.h + j, g);
    set(c.gates, b, 3 * c.h + j, o);
    set(c.cells, b, j, cell);
}

/* dh, dc: what arrives from the step behind; dc becomes what goes to the step before. */
__device__ __forceinline__ void lstm_backward_cell(const cell_task &c, int64_t b, int64_t j, float dh, float *dc)
{
    float i = at(c.gates, b, j), f = at(c.gates, b, c.h + j), g = at(c.gates, b, 2 * c.h + j);
    float o = at(c.gates, b, 3 * c.h + j), y = tanhf(at(c.cells, b, j)), gy = at(c.gy, b, j) + dh;
    float gc = *dc + gy * o * (1 - y * y) + (c.gcells.data ? at(c.gcells, b, j) : 0.0f);
    float before = at(c.cells_before, b, j);
    hand_on(c, c.dgates, b, j, gc * g * i * (1 - i)), hand_on(c, c.dgates, b, c.h + j, gc * before * f * (1 - f));
    hand_on(c, c.dgates, b, 2 * c.h + j, gc * i * (1 - g * g));
    hand_on(c, c.dgates, b, 3 * c.h + j, gy * y * o * (1 - o));
    *dc = gc * f;
}

/* sum: the state's product, without its bias. */
__device__ __forceinline__ void gru_cell(const cell_task &c, int64_t b, int64_t j, const float *sum)
{
    float r = sigmoid(at(c.in, b, j) + sum[0] + c.bias[j]);
    float z = sigmoid(at(c.in, b, c.h + j) + sum[1] + c.bias[c.h + j]);
    float hidden = sum[2] + c.bias[2 * c.h + j];
    float n = tanhf(at(c.in, b, 2 * c.h + j) + r * hidden);
    set(c.gates, b, j, r), set(c.gates, b, c.h + j, z), set(c.gates, b, 2 * c.h + j, n);
    set(c.gates, b, 3 * c.h + j, hidden);
    hand_on(c, c.out, b, j, (1 - z) * n + z * at(c.state, b, j));
}

/* past: what goes to the state past the product, to which that is added. */
__device__ __forceinline__ void gru_backward_cell(const cell_task &c, int64_t b, int64_t j, float dh, float *past)
{
    float r = at(c.gates, b, j), z = at(c.gates, b, c.h + j), n = at(c.gates, b, 2 * c.h + j);
    float hidden = at(c.gates, b, 3 * c.h + j), gy = at(c.gy, b, j) + dh;
    float dn = gy * (1 - z) * (1 - n * n), dr = dn * hidden * r * (1 - r);
    float dz = gy * (at(c.state, b, j) - n) * z * (1 - z);
    hand_on(c, c.dhidden, b, j, dr), hand_on(c, c.dhidden, b, c.h + j, dz);
    hand_on(c, c.dhidden, b, 2 * c.h + j, dn * r);
    set(c.dgates, b, j, dr), set(c.dgates, b, c.h + j, dz), set(c.dgates, b, 2 * c.h + j, dn);
    *past = gy * z;
}

__device__ __forceinline__ void rnn_cell(const cell_task &c, int64_t b, int64_t j, float sum)
{
    hand_on(c, c.out, b, j, c.relu ? larger(sum, 0.0f) : tanhf(sum));
}

__device__ __forceinline__ void rnn_backward_cell(const cell_task &c, int64_t b, int64_t j, float dh)
{
    float y = at(c.out, b, j), gy = at(c.gy, b, j) + dh;
    hand_on(c, c.dgates, b, j, c.relu ? (y > 0 ? gy : 0.0f) : gy * (1 - y * y));
}

/* One cell: sum has what its gates sum up to, or [0] the gradient of its output that comes of the product; carry, of an
 * LSTM or GRU backwards, is a value that the next step finds again. */
template <int KIND>
__device__ __forceinline__ void run_cell(const cell_task &c, int64_t b, int64_t j, const float *sum, float *carry)
{
    if (KIND == LSTM) lstm_cell(c, b, j, sum);
    if (KIND == LSTM_BACKWARD) lstm_backward_cell(c, b, j, sum[0], carry);
    if (KIND == GRU) gru_cell(c, b, j, sum);
    if (KIND == GRU_BACKWARD) gru_backward_cell(c, b, j, sum[0], carry);
    if (KIND == RNN) rnn_cell(c, b, j, sum[0]);
    if (KIND == RNN_BACKWARD) rnn_backward_cell(c, b, j, sum[0]);
}

/* ---- all steps in one launch (resident_cells.cu) ---- */

/* How a launch is cut: a block has `units` of the cells for `rows` rows of the batch. */
struct resident_shape {
    int32_t units, rows, slices, groups; /* slices x groups blocks */
    int32_t splits, chunk;               /* threads that share a sum; columns of the state that are held at a time */
    size_t shared_bytes;
};

/* rest: of step 1; that of step t lies t - 1 times `next` behind. first: of step 0. `from` is the state that came in;
 * each other state's values go from block to block in words, each second one in the same. */
struct resident_task {
    cell_task first, rest;
    step_rows from;
    step_rows dh, dc; /* backward: gradients of the states that came in; data NULL where nobody wants them */
    const float *weight;
    unsigned long long *words; /* [2][B,width of the state] */
    int64_t steps;
};

/* False: no shape fits the device, or the library's products are faster. */
bool grdi_resident_plan(const grdi_device *device, int32_t kind, int64_t b, int64_t h, resident_shape *shape);
/* Of scratch, for task->words. */
size_t grdi_resident_word_bytes(int32_t kind, int64_t b, int64_t h);
/* Whether what the launch reads lies so that it can. */
bool grdi_resident_takes(const resident_task *task);
grd_status grdi_resident_run(const grdi_call *call, int32_t kind, const resident_task *task,
                             const resident_shape *shape);

#endif
