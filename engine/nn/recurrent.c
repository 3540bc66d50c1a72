/* recurrent.c - layers of recurrent cells over a series. */
#include <gradus/nn.h>

#include <math.h>
#include <stdio.h>

typedef enum cell { LSTM, GRU, RNN } cell;
static const int64_t gates_of[] = {[LSTM] = 4, [GRU] = 3, [RNN] = 1};

/* PyTorch's names and first values: weight_ih, weight_hh, bias_ih and bias_hh, all uniform in +-1/sqrt(H). */
static grd_tensor own(grd_graph *graph, const char *name, grd_dims dims, int64_t size)
{
    return grd_parameter(graph, name, dims, .init = GRD_INIT_UNIFORM, .scale = 1 / sqrt((double)size));
}

/* The state before the first step: given, or zeros. */
static grd_tensor first_state(grd_tensor x, grd_tensor given, int64_t size)
{
    if (given.node) return given;
    return grd_full(grd_tensor_graph(x), grd_tensor_dtype(x), grd_shape(grd_dim(x, 0), size), 0);
}

/* Where series of different lengths end in [B,T,..]; rows are those of [B T,..]. Poison: all have T steps. */
typedef struct ends {
    grd_tensor inside; /* bool [B,T,1]: whether the step is one of the series */
    grd_tensor doubt;  /* f32 [B]: 0; NaN for a series whose length cannot be, which is added to all its results */
    grd_tensor last;   /* i32 [B]: the row of its last step */
    grd_tensor turned; /* i32 [B,T]: rows of its steps from last to first, and of those behind it as they are */
} ends;

static ends find_ends(grd_tensor x, grd_tensor lengths)
{
    grd_graph *graph = grd_tensor_graph(x);
    int64_t b = grd_dim(x, 0), t = grd_dim(x, 1);
    if (!lengths.node) return (ends){.last = {NULL, 0}};
    grd_tensor length = grd_reshape(lengths, grd_shape(b, 1)), step = grd_arange(graph, GRD_I32, t, 0, 1);
    grd_tensor first = grd_reshape(grd_arange(graph, GRD_I32, b, 0, (double)t), grd_shape(b, 1));
    grd_scope_push(graph, "lengths");
    grd_tensor zero = grd_full(graph, GRD_I32, grd_scalar(), 0), most = grd_full(graph, GRD_I32, grd_scalar(), t);
    grd_tensor possible = grd_and(grd_gt(length, zero), grd_le(length, most));
    grd_tensor doubt = grd_where(possible, grd_full(graph, GRD_F32, grd_scalar(), 0),
                                 grd_full(graph, GRD_F32, grd_scalar(), NAN));
    grd_scope_pop(graph);
    length = grd_where(possible, length, grd_full(graph, GRD_I32, grd_scalar(), 1));
    grd_tensor inside = grd_lt(step, length), final = grd_add_scalar(length, -1);
    return (ends){.inside = grd_reshape(inside, grd_shape(b, t, 1)),
                  .doubt = grd_reshape(doubt, grd_shape(b)),
                  .last = grd_reshape(grd_add(first, final), grd_shape(b)),
                  .turned = grd_add(first, grd_where(inside, grd_sub(final, step), step))};
}

static grd_tensor rows_of(grd_tensor x, grd_tensor rows)
{
    return grd_embedding(grd_flatten(x, 0, 1), rows);
}

static grd_tensor turned(grd_tensor x, const ends *e)
{
    return e->turned.node ? rows_of(x, e->turned) : grd_flip(x, 1);
}

/* For values like x of `rank` dimensions. */
static grd_tensor doubt_of(grd_tensor x, const ends *e, int32_t rank)
{
    int64_t b = grd_dim(x, 0);
    return grd_cast(grd_reshape(e->doubt, rank == 2 ? grd_shape(b, 1) : grd_shape(b, 1, 1)), grd_tensor_dtype(x));
}

static grd_tensor last_step(grd_tensor y, const ends *e)
{
    if (e->last.node) return grd_add(rows_of(y, e->last), doubt_of(y, e, 2));
    return grd_squeeze(grd_slice(y, 1, grd_dim(y, 1) - 1, 1), 1);
}

/* One layer in one direction: x [B,T,I] to [B,T,size]. The last step's states go to options->last_h and last_c. */
static grd_tensor layer(cell kind, grd_tensor x, const char *name, int64_t size, const grd_recurrent_options *o)
{
    grd_graph *graph = grd_tensor_graph(x);
    if (!graph) return x;
    int64_t gates = gates_of[kind] * size;
    grd_scope_push(graph, name ? "%s" : NULL, name);
    ends e = find_ends(x, o->lengths);
    if (o->reverse) x = turned(x, &e);
    grd_tensor in = own(graph, "weight_ih", grd_shape(gates, grd_dim(x, -1)), size);
    grd_tensor w = own(graph, "weight_hh", grd_shape(gates, size), size), bias = {0}, hidden = {0}, y, cells = {0};
    if (!o->no_bias) {
        bias = own(graph, "bias_ih", grd_shape(gates), size);
        hidden = own(graph, "bias_hh", grd_shape(gates), size);
    }
    if (kind != GRU && !o->no_bias) bias = grd_add(bias, hidden); /* the gates' sums take both */
    grd_tensor sums = grd_affine(x, in, .bias = bias), h = first_state(x, o->h, size);
    if (kind == LSTM) y = grd_lstm_cells(sums, w, h, first_state(x, o->c, size), &cells);
    else if (kind == RNN) y = grd_rnn_cells(sums, w, h, o->relu);
    else y = grd_gru_cells(sums, w, o->no_bias ? grd_full(graph, grd_tensor_dtype(x), grd_shape(gates), 0) : hidden, h);
    if (o->last_h) *o->last_h = last_step(y, &e);
    if (o->last_c && kind == LSTM) *o->last_c = last_step(cells, &e);
    if (o->reverse) y = turned(y, &e);
    if (e.inside.node)
        y = grd_add(grd_where(e.inside, y, grd_full(graph, grd_tensor_dtype(y), grd_scalar(), 0)), doubt_of(y, &e, 3));
    grd_scope_pop(graph);
    return y;
}

grd_tensor grd_lstm_with(grd_tensor x, const char *name, int64_t size, const grd_recurrent_options *options)
{
    options = options ? options : &(const grd_recurrent_options){.size = sizeof(grd_recurrent_options)};
    return layer(LSTM, x, name, size, options);
}

grd_tensor grd_gru_with(grd_tensor x, const char *name, int64_t size, const grd_recurrent_options *options)
{
    options = options ? options : &(const grd_recurrent_options){.size = sizeof(grd_recurrent_options)};
    return layer(GRU, x, name, size, options);
}

grd_tensor grd_rnn_with(grd_tensor x, const char *name, int64_t size, const grd_recurrent_options *options)
{
    options = options ? options : &(const grd_recurrent_options){.size = sizeof(grd_recurrent_options)};
    return layer(RNN, x, name, size, options);
}
