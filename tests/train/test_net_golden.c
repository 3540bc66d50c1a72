/* test_net_golden.c - networks for sequences trained for 30 steps from PyTorch's weights on PyTorch's batches: losses
 * and what they give afterwards, against golden/make_net_goldens.py. */
#include <gradus/gradus.h>

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Losses relative to PyTorch's in double precision: what rounding of 30 steps in f32 leaves. */
#define LOSS_TOLERANCE 1e-4
/* Of outputs relative to the largest of them. */
#define STATE_TOLERANCE 1e-3

typedef grd_tensor (*builder)(grd_tensor x, bool training);

static grd_tensor lstm(grd_tensor x, bool training)
{
    (void)training;
    grd_tensor last;
    grd_lstm(x, "cell", 12, .last_h = &last);
    return grd_linear(last, "head", 5);
}

static grd_tensor gru(grd_tensor x, bool training)
{
    (void)training;
    grd_tensor last;
    grd_gru(x, "cell", 12, .last_h = &last);
    return grd_linear(last, "head", 5);
}

static grd_tensor rnn(grd_tensor x, bool training)
{
    (void)training;
    grd_tensor last;
    grd_rnn(x, "cell", 12, .last_h = &last);
    return grd_linear(last, "head", 5);
}

static grd_tensor bidirectional(grd_tensor x, bool training)
{
    (void)training;
    x = grd_concat((grd_tensor[]){grd_lstm(x, "a_forth", 6), grd_lstm(x, "a_back", 6, .reverse = true)}, 2, -1);
    x = grd_concat((grd_tensor[]){grd_lstm(x, "b_forth", 6), grd_lstm(x, "b_back", 6, .reverse = true)}, 2, -1);
    return grd_linear(grd_mean_axis(x, 1, false), "head", 5);
}

/* Series of different lengths; what x holds behind them is not the series'. */
static grd_tensor ragged(grd_tensor x, bool training)
{
    static const int32_t steps[] = {9, 5, 1, 7, 3, 9};
    (void)training;
    grd_tensor lengths = grd_constant(grd_tensor_graph(x), GRD_I32, grd_shape(6), steps), forth, back;
    grd_tensor y[] = {grd_lstm(x, "forth", 6, .lengths = lengths, .last_h = &forth),
                      grd_gru(x, "back", 6, .lengths = lengths, .last_h = &back, .reverse = true)};
    grd_tensor said[] = {grd_mean_axis(grd_concat(y, 2, -1), 1, false), forth, back};
    return grd_linear(grd_concat(said, 3, -1), "head", 5);
}

static grd_tensor forecast_lstm(grd_tensor x, bool training)
{
    (void)training;
    return grd_forecaster_values(x,
                                 &(grd_forecaster){.kind = GRD_FORECASTER_LSTM, .width = 8, .horizon = 4, .layers = 2});
}

static grd_tensor forecast_gru(grd_tensor x, bool training)
{
    (void)training;
    return grd_forecaster_values(x, &(grd_forecaster){.kind = GRD_FORECASTER_GRU, .width = 8, .horizon = 4});
}

/* Two blocks are what 11 steps take. */
static grd_tensor forecast_tcn(grd_tensor x, bool training)
{
    (void)training;
    return grd_forecaster_values(x, &(grd_forecaster){.kind = GRD_FORECASTER_TCN, .width = 8, .horizon = 4});
}

static grd_tensor forecast_linear(grd_tensor x, bool training)
{
    (void)training;
    return grd_forecaster_values(x, &(grd_forecaster){.kind = GRD_FORECASTER_LINEAR, .horizon = 4});
}

/* Softmax regression, as of images and tables. */
static grd_tensor logistic(grd_tensor x, bool training)
{
    (void)training;
    return grd_linear(grd_flatten(x, 1, -1), "head", 5);
}

/* What the settings of model.kind fast say. */
static grd_tensor fast(grd_tensor ids, bool training)
{
    (void)training;
    grd_error error = {GRD_OK, ""};
    grd_gpt gpt = {.layers = 2, .heads = 3, .width = 12, .context = 8, .vocab = 11};
    gpt.mlp = GRD_MLP_RELU2, gpt.norm = GRD_NORM_RMSNORM, gpt.position = GRD_POSITION_ROPE;
    gpt.no_bias = gpt.untied = gpt.qk_norm = gpt.no_norm_gain = gpt.muon_init = gpt.embedding_norm = true;
    cr_assert(grd_gpt_resolve(&gpt, &error) == GRD_OK, "%s", error.message);
    return grd_gpt_logits(grd_gpt_hidden(ids, &gpt, (grd_tensor){NULL, 0}), &gpt);
}

/* One network while it is trained. */
typedef struct net {
    const char *name;
    grd_safetensors *file;
    grd_model *model;
} net;

static const grd_file_tensor *stored(const net *n, const char *what)
{
    char name[160];
    snprintf(name, sizeof name, "%s/%s", n->name, what);
    const grd_file_tensor *t = grd_safetensors_find(n->file, name);
    cr_assert(t, "nets.safetensors lacks %s", name);
    return t;
}

static void load_weights(const net *n)
{
    grd_error error = {GRD_OK, ""};
    grd_variable v;
    char what[128];
    int64_t loaded = 0;
    for (int64_t i = 0; grd_model_variable_at(n->model, i, &v); i++) {
        if (v.kind != GRD_VARIABLE_PARAMETER) continue;
        snprintf(what, sizeof what, "w/%s", v.path);
        const grd_file_tensor *t = stored(n, what);
        cr_assert(grd_dims_equal(t->dims, v.dims), "%s: another shape", v.path);
        cr_assert(grd_model_write(n->model, v.path, t->data, &error) == GRD_OK, "%s", error.message);
        loaded++;
    }
    cr_assert(loaded >= 2, "only %lld weights", (long long)loaded);
}

static void close_to(const char *what, const float *got, const double *want, int64_t count, double tolerance)
{
    double largest = 0;
    for (int64_t i = 0; i < count; i++) largest = fmax(largest, fabs(want[i]));
    for (int64_t i = 0; i < count; i++)
        cr_expect(fabs(got[i] - want[i]) <= tolerance * largest, "%s[%lld] is %.8g, should be %.8g", what, (long long)i,
                  (double)got[i], want[i]);
}

/* What the trained network says of the first batch, by a graph of its own. */
static void compare_logits(const net *n, builder build, grd_dims dims)
{
    grd_graph *graph = grd_graph_new(n->model);
    grd_tensor x = grd_input(graph, "x", stored(n, "x")->dtype, dims), y = build(x, false);
    grd_program *program = grd_program_new(&y, 1);
    cr_assert(program, "%s", grd_graph_error(graph)->message);
    int64_t count = grd_dims_count(grd_tensor_dims(y));
    float *got = malloc((size_t)count * sizeof(float));
    grd_program_feed(program, x, stored(n, "x")->data);
    cr_assert(grd_program_run(program) == GRD_OK && grd_program_read(program, y, got) == GRD_OK);
    close_to("logits", got, stored(n, "logits")->data, count, STATE_TOLERANCE);
    free(got);
}

static void check(const char *name, builder build, grd_optimizer optimizer, int32_t threads)
{
    net n = {.name = name};
    grd_error error = {GRD_OK, ""};
    const char *path = GRADUS_SOURCE_DIR "/tests/golden/nets.safetensors";
    cr_assert(grd_safetensors_open(path, &n.file, &error) == GRD_OK, "%s", error.message);
    grd_engine *engine = grd_engine_open("cpu", .threads = threads);
    n.model = grd_model_new(engine, 1);
    grd_graph *graph = grd_graph_new(n.model);
    const grd_file_tensor *xs = stored(&n, "x"), *ys = stored(&n, "y"), *losses = stored(&n, "loss");
    grd_dims dims = {.rank = xs->dims.rank - 1};
    memcpy(dims.dim, xs->dims.dim + 1, sizeof(int64_t) * (size_t)dims.rank);
    grd_dims right = {.rank = ys->dims.rank - 1, .dim = {ys->dims.dim[1], ys->dims.dim[2]}}; /* classes or values */
    grd_tensor x = grd_input(graph, "x", xs->dtype, dims), y = grd_input(graph, "y", ys->dtype, right);
    grd_tensor said = build(x, true);
    grd_step *step =
        grd_step_new(ys->dtype == GRD_F32 ? grd_mean(grd_mse(said, y)) : grd_cross_entropy_mean(said, y), optimizer);
    cr_assert(step, "%s", grd_graph_error(graph)->message);
    load_weights(&n);
    for (int64_t i = 0, count = grd_dims_count(losses->dims); i < count; i++) {
        grd_metrics metrics;
        int64_t batch = i % xs->dims.dim[0];
        grd_step_feed(step, x, (const float *)xs->data + batch * grd_dims_count(dims));
        grd_step_feed(step, y, (const int32_t *)ys->data + batch * grd_dims_count(right)); /* both have 4 bytes */
        cr_assert(grd_step_run(step, &metrics) == GRD_OK, "%s", grd_step_error(step)->message);
        double want = ((const double *)losses->data)[i];
        cr_expect(fabs(metrics.loss - want) <= LOSS_TOLERANCE * want, "%s, step %lld: loss %.8g, should be %.8g", name,
                  (long long)i, metrics.loss, want);
    }
    compare_logits(&n, build, dims);
    grd_engine_close(engine);
    grd_safetensors_close(n.file);
}

static grd_optimizer adamw(void)
{
    grd_optimizer o = grd_adamw(3e-3);
    o.beta2 = 0.95;
    o.weight_decay = 0.1;
    return o;
}

Test(net_golden, lstm)
{
    check("lstm", lstm, adamw(), 2);
}

Test(net_golden, gru)
{
    check("gru", gru, adamw(), 1);
}

Test(net_golden, rnn)
{
    check("rnn", rnn, adamw(), 2);
}

Test(net_golden, bidirectional)
{
    check("bidirectional", bidirectional, adamw(), 1);
}

Test(net_golden, forecast_lstm)
{
    check("forecast_lstm", forecast_lstm, adamw(), 2);
}

Test(net_golden, forecast_gru)
{
    check("forecast_gru", forecast_gru, adamw(), 1);
}

Test(net_golden, forecast_tcn)
{
    check("forecast_tcn", forecast_tcn, adamw(), 2);
}

Test(net_golden, ragged)
{
    check("ragged", ragged, adamw(), 2);
}

Test(net_golden, forecast_linear)
{
    check("forecast_linear", forecast_linear, adamw(), 1);
}

Test(net_golden, logistic)
{
    check("logistic", logistic, adamw(), 1);
}

Test(net_golden, fast)
{
    check("fast", fast, adamw(), 2);
}
