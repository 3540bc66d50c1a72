/* test_shape_golden.c - matrix products, views, indices and recurrent layers against PyTorch: values, gradients and
 * second derivatives, stored by golden/make_shape_goldens.py. */
#include "golden.h"

#include <gradus/nn.h>
#include <gradus/ops.h>

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <stdio.h>

#define FILE_NAME "shape.safetensors"

static grd_tensor stack(const grd_tensor *in)
{
    return grd_stack(in, 2, 1);
}

static grd_tensor stopped(const grd_tensor *in)
{
    return grd_mul(grd_stop_gradient(in[0]), in[1]);
}

/* All outputs, and the last cell state, through which a gradient comes, too. */
static grd_tensor lstm(const grd_tensor *in)
{
    grd_tensor cells, y = grd_lstm_cells(in[0], in[1], in[2], in[3], &cells);
    return grd_add(y, grd_slice(cells, 1, -1, 1));
}

typedef enum kind { LSTM, GRU, RNN, RELU } kind;

static grd_tensor state(grd_tensor all, int64_t index)
{
    return grd_squeeze(grd_slice(all, 0, index, 1), 0);
}

/* x [B,T,I] by layers in both directions, with lengths in[1] and first states in[2] (and in[3]) [2 layers,B,H]: outputs
 * [B,T,2H], the last states of the last layer added at all steps. */
static grd_tensor layers(const grd_tensor *in, kind kind, int64_t count)
{
    grd_tensor x = in[0], last = {NULL, 0};
    for (int64_t i = 0; i < count; i++) {
        grd_tensor y[2], h[2], c[2];
        for (int back = 0; back < 2; back++) {
            char name[32];
            snprintf(name, sizeof name, "%s%lld", back ? "back" : "forth", (long long)i);
            grd_recurrent_options o = {.size = sizeof o, .reverse = back, .lengths = in[1], .last_h = &h[back]};
            o.h = state(in[2], 2 * i + back);
            o.relu = kind == RELU;
            if (kind == LSTM) o.c = state(in[3], 2 * i + back), o.last_c = &c[back];
            y[back] = kind == LSTM  ? grd_lstm_with(x, name, 3, &o)
                      : kind == GRU ? grd_gru_with(x, name, 3, &o)
                                    : grd_rnn_with(x, name, 3, &o);
            if (kind == LSTM) h[back] = grd_add(h[back], c[back]);
        }
        x = grd_concat(y, 2, -1);
        last = grd_concat(h, 2, -1);
    }
    return grd_add(x, grd_unsqueeze(last, 1));
}

static grd_tensor lstm_layers(const grd_tensor *in)
{
    return layers(in, LSTM, 2);
}

static grd_tensor gru_layers(const grd_tensor *in)
{
    return layers(in, GRU, 2);
}

static grd_tensor rnn_layers(const grd_tensor *in)
{
    return layers(in, RNN, 2);
}

static grd_tensor relu_layer(const grd_tensor *in)
{
    return layers(in, RELU, 1);
}

static const golden goldens[] = {
    {"matmul", "matmul", "", NULL},
    {"matmul_shared", "matmul", "", NULL},
    {"linear_none", "linear", "", NULL},
    {"linear_relu", "linear", "activation=1", NULL},
    {"linear_gelu", "linear", "activation=2", NULL},
    {"linear_gelu_tanh", "linear", "activation=3", NULL},
    {"linear_silu", "linear", "activation=4", NULL},
    {"linear_relu_squared", "linear", "activation=5", NULL},
    {"linear_tanh", "linear", "activation=6", NULL},
    {"linear_sigmoid", "linear", "activation=7", NULL},
    {"reshape", "reshape", "dims=4,-1,2", NULL},
    {"transpose", "transpose", "axes=2,0,1", NULL},
    {"slice", "slice", "axis=2 start=-3 count=2", NULL},
    {"broadcast_to", "broadcast_to", "dims=2,3,4", NULL},
    {"concat", "concat", "axis=1", NULL},
    {"stack", NULL, NULL, stack},
    {"pad", "pad", "before=0,1,0 after=0,0,2 value=-1.5", NULL},
    {"flip", "flip", "axis=1", NULL},
    {"tril", "tril", "diagonal=1", NULL},
    {"triu", "triu", "diagonal=-1", NULL},
    {"cumsum", "cumsum", "axis=1", NULL},
    {"cumsum_from_end", "cumsum", "axis=1 reverse=true exclusive=true", NULL},
    {"stop_gradient", NULL, NULL, stopped},
    {"gather", "gather", "axis=1", NULL},
    {"scatter_add", "scatter_add", "axis=1", NULL},
    {"take", "take", "axis=1", NULL},
    {"topk", "topk", "k=3 axis=1", NULL},
    {"embedding", "embedding", "", NULL},
    {"lstm", NULL, NULL, lstm},
    {"gru", "gru", "", NULL},
    {"rnn", "rnn", "", NULL},
    {"rnn_relu", "rnn", "relu=true", NULL},
    {"lstm_layers", NULL, NULL, lstm_layers}, /* the first of those whose parameters are in f32 */
    {"gru_layers", NULL, NULL, gru_layers},
    {"rnn_layers", NULL, NULL, rnn_layers},
    {"relu_layer", NULL, NULL, relu_layer},
};

enum { COUNT = sizeof(goldens) / sizeof(goldens[0]), LAYERS = 4 };

ParameterizedTestParameters(shape_golden, references_in_double)
{
    return golden_indices(COUNT - LAYERS);
}

/* Both sides compute in double: what differs is the order of sums of at most a hundred terms. */
ParameterizedTest(int *index, shape_golden, references_in_double)
{
    golden_check(&goldens[*index], FILE_NAME, "ref", GRD_F64, 1e-12);
}

ParameterizedTestParameters(shape_golden, kernels_in_f32)
{
    return golden_indices(COUNT);
}

/* f32 has 2^-24 = 6e-8 for each rounding; second derivatives pass through some hundred of them. */
ParameterizedTest(int *index, shape_golden, kernels_in_f32)
{
    golden_check(&goldens[*index], FILE_NAME, "cpu", GRD_F32, 2e-5);
}
