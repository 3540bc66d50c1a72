/* test_check.c - the preflight of models made by hand: nothing is found in the good ones, and each planted mistake is
 * found by the check that is there for it. */
#include <criterion/criterion.h>
#include <gradus/gradus.h>
#include <math.h>
#include <string.h>

/* ---- a small transformer, written out ---- */

enum { TEXTS = 4, STEPS = 12, WIDTH = 16, IDS = 24 };

typedef enum mistake {
    NONE,
    NO_MASK,
    MASK_ONE_LATE,
    SOFTMAX_OVER_QUERIES,
    CENTRED_CONVOLUTION,
    NORM_OVER_BATCH,
    BATCH_NORM_IN_TRAINING_MODE,
    MIXED_UP_RESHAPE,
    DROPOUT_IN_EVALUATION,
    OTHER_HEAD_IN_EVALUATION,
    TARGETS_NOT_SHIFTED,
    TARGETS_TWO_AHEAD,
    TARGETS_BEHIND,
    SUMMED_LOSS,
    LARGE_HEAD,
    DETACHED_BRANCH,
    DETACHED_VALUE,
    UNUSED_LAYER,
    TEACHER,
    TRAINED_TEACHER,
    /* of the network for numbers */
    NO_INPUT,
    DEAD_UNITS,
    VANISHING,
    EXPLODING,
    RATE_TOO_HIGH,
    SOFTMAX_TWICE,
    SOFTMAX_OVER_BATCH,
    WRONG_TARGET_SCALE,
    OTHER_DATA_EACH_TIME,
    NOISE_CARRIED_ON,
    NAN_IN_DATA,
    TARGETS_OF_OTHERS,
    LONG_TAIL,
    /* of an op of one's own */
    SLOPE_OF_ANOTHER
} mistake;

typedef struct plant {
    const char *what;
    mistake mistake;
    const char *check; /* NULL: none */
} plant;

static grd_tensor mask(grd_graph *graph, mistake m)
{
    float values[STEPS * STEPS];
    for (int i = 0; i < STEPS; i++)
        for (int j = 0; j < STEPS; j++)
            values[i * STEPS + j] = j > i + (m == MASK_ONE_LATE) && m != NO_MASK ? -1e9f : 0;
    return grd_constant(graph, GRD_F32, grd_shape(STEPS, STEPS), values);
}

/* One head: [B,T,C] to [B,T,C]. */
static grd_tensor attend(grd_tensor x, mistake m)
{
    grd_tensor q = grd_linear(x, "q", WIDTH), k = grd_linear(x, "k", WIDTH), v = grd_linear(x, "v", WIDTH);
    grd_tensor scores = grd_mul_scalar(grd_matmul(q, grd_transpose2(k)), 1 / sqrt((double)WIDTH)); /* [B,T,T] */
    grd_tensor p = grd_softmax(grd_add(scores, mask(grd_tensor_graph(x), m)), m == SOFTMAX_OVER_QUERIES ? 1 : 2);
    if (m == DETACHED_VALUE) v = grd_add(grd_mul_scalar(v, 0.5), grd_stop_gradient(grd_mul_scalar(v, 0.5)));
    return grd_linear(grd_matmul(p, v), "out", WIDTH);
}

static grd_tensor normalise(grd_tensor x, mistake m, bool training)
{
    if (m == NORM_OVER_BATCH) return grd_sub(x, grd_mean_axis(x, 0, true));
    if (m == BATCH_NORM_IN_TRAINING_MODE) return grd_batch_norm(x, "bn", true);
    (void)training;
    return grd_norm(x, "norm", GRD_NORM_LAYERNORM, 0, false, true);
}

static grd_tensor hidden(grd_tensor ids, mistake m, bool training)
{
    grd_graph *graph = grd_tensor_graph(ids);
    grd_tensor x = grd_embed(ids, "embed", IDS, WIDTH, 0.5);
    x = grd_add(x, grd_parameter(graph, "position", grd_shape(STEPS, WIDTH), .init = GRD_INIT_NORMAL, .scale = 0.1));
    grd_tensor a = attend(x, m);
    if (m == DETACHED_BRANCH) a = grd_stop_gradient(a);
    if (m == CENTRED_CONVOLUTION) a = grd_add(a, grd_conv(x, "mix", WIDTH, 3, .padding = 1));
    if (m == MIXED_UP_RESHAPE)
        a = grd_reshape(grd_transpose2(grd_reshape(a, grd_shape(WIDTH, TEXTS * STEPS))),
                        grd_shape(TEXTS, STEPS, WIDTH));
    if (m == UNUSED_LAYER) grd_linear(x, "forgotten", WIDTH);
    if (m == DROPOUT_IN_EVALUATION)
        a = grd_dropout(a, grd_constant(graph, GRD_I32, grd_shape(4), (const int32_t[]){1, 2, 3, 4}), 0.1);
    x = normalise(grd_add(x, a), m, training);
    return grd_add(x, grd_linear(grd_linear(x, "up", 2 * WIDTH, .activation = GRD_ACTIVATION_RELU), "down", WIDTH));
}

static void build_reader(void *context, grd_graph *graph, bool training, grd_check_tensors *t)
{
    mistake m = ((const plant *)context)->mistake;
    t->input = grd_input(graph, "ids", GRD_I32, grd_shape(TEXTS, STEPS));
    t->target = grd_input(graph, "next", GRD_I32, grd_shape(TEXTS, STEPS));
    grd_tensor h = hidden(t->input, m, training);
    bool other = m == OTHER_HEAD_IN_EVALUATION && !training;
    t->output = grd_linear(h, other ? "head2" : "head", IDS, .init_std = m == LARGE_HEAD ? 2 : 0.02);
    grd_tensor losses = grd_cross_entropy(t->output, t->target);
    t->loss = m == SUMMED_LOSS ? grd_sum(losses) : grd_mean(losses);
    if (m == TEACHER || m == TRAINED_TEACHER) {
        grd_scope_push(graph, "teacher");
        grd_tensor taught = grd_linear(grd_stop_gradient(h), "layer", IDS);
        grd_scope_pop(graph);
        if (m == TEACHER) taught = grd_stop_gradient(taught);
        t->loss = grd_add(t->loss, grd_mul_scalar(grd_mean(grd_mse(t->output, taught)), 0.01));
    }
}

static grd_status read_text(void *context, int64_t index, void *input, void *target, grd_error *error)
{
    static const int ahead[] = {[TARGETS_NOT_SHIFTED] = -1, [TARGETS_TWO_AHEAD] = 1, [TARGETS_BEHIND] = -2};
    mistake m = ((const plant *)context)->mistake;
    int shift = m >= TARGETS_NOT_SHIFTED && m <= TARGETS_BEHIND ? ahead[m] : 0;
    int32_t *inputs = input, *targets = target;
    unsigned state = (unsigned)index * 977 + 5;
    (void)error;
    for (int b = 0; b < TEXTS; b++) {
        int32_t text[STEPS + 4], at = 0;
        for (int t = 0; t < STEPS + 4; t++) { /* mostly one further, now and then anywhere */
            state = state * 1664525u + 1013904223u;
            at = state >> 30 ? (at + 1) % IDS : (int32_t)(state >> 16) % IDS;
            text[t] = at;
        }
        for (int t = 0; t < STEPS; t++) {
            inputs[b * STEPS + t] = text[t + 1];
            targets[b * STEPS + t] = text[t + 2 + shift];
        }
    }
    return GRD_OK;
}

/* ---- a network for numbers ---- */

enum { ROWS = 16, FEATURES = 8, CLASSES = 4, DEEP = 8 };

static void build_network(void *context, grd_graph *graph, bool training, grd_check_tensors *t)
{
    mistake m = ((const plant *)context)->mistake;
    (void)training;
    t->input = grd_input(graph, "x", GRD_F32, grd_shape(ROWS, FEATURES));
    t->target = grd_input(graph, "y", GRD_I32, grd_shape(ROWS));
    grd_tensor h = m == NO_INPUT ? grd_mul_scalar(t->input, 0) : t->input;
    if (m == VANISHING || m == EXPLODING) {
        char name[16];
        for (int i = 0; i < DEEP; i++) {
            snprintf(name, sizeof name, "deep%d", i);
            h = grd_linear(h, name, 32, .init_std = m == VANISHING ? 0.002 : 2);
            h = m == VANISHING ? grd_tanh(h) : grd_relu(h);
        }
    }
    h = grd_linear(h, "fc1", 64);
    if (m == DEAD_UNITS) h = grd_add_scalar(h, -10);
    h = grd_relu(h);
    t->output = grd_linear(h, "fc2", CLASSES, .init_std = 0.1);
    if (m == SOFTMAX_TWICE) t->output = grd_softmax(t->output, 1);
    t->loss = grd_mean(grd_cross_entropy(t->output, t->target));
    if (m == SOFTMAX_OVER_BATCH) {
        t->output = grd_log_softmax(t->output, 0);
        grd_tensor picked = grd_mul(t->output, grd_one_hot(t->target, CLASSES, GRD_F32));
        t->loss = grd_mul_scalar(grd_sum(picked), -1.0 / ROWS);
    }
}

static unsigned calls, noise;

static void draw_rows(const plant *p, int64_t index, float *x)
{
    unsigned state = (unsigned)index * 7919 + 3 + (p->mistake == OTHER_DATA_EACH_TIME ? 31 * calls++ : 0);
    for (int i = 0; i < ROWS * FEATURES; i++) {
        state = state * 1664525u + 1013904223u;
        x[i] = (float)(state >> 8) / (1 << 23) - 1;
    }
    if (p->mistake == NOISE_CARRIED_ON) { /* seeded where a run begins, and in no checkpoint */
        noise = index ? noise * 1664525u + 1013904223u : 1;
        x[4] += (float)(noise >> 8) / (1 << 24);
    }
    if (p->mistake == NAN_IN_DATA && index == 3) x[5] = NAN;
}

/* The class is the largest of the first four. */
static grd_status read_rows(void *context, int64_t index, void *input, void *target, grd_error *error)
{
    float *x = input;
    int32_t *y = target;
    const plant *p = context;
    float others[ROWS * FEATURES];
    (void)error;
    draw_rows(p, index, x);
    if (p->mistake == TARGETS_OF_OTHERS) draw_rows(p, index * index + 77777, x = others);
    for (int r = 0; r < ROWS; r++) {
        y[r] = 0;
        for (int k = 1; k < CLASSES; k++)
            if (x[r * FEATURES + k] > x[r * FEATURES + y[r]]) y[r] = k;
    }
    return GRD_OK;
}

/* A regression: the mean of a row. */
static void build_regression(void *context, grd_graph *graph, bool training, grd_check_tensors *t)
{
    (void)context, (void)training;
    t->input = grd_input(graph, "x", GRD_F32, grd_shape(ROWS, FEATURES));
    t->target = grd_input(graph, "y", GRD_F32, grd_shape(ROWS, 1));
    t->output = grd_linear(grd_tanh(grd_linear(t->input, "fc1", 32)), "fc2", 1);
    t->loss = grd_mean(grd_mse(t->output, t->target));
}

static grd_status read_numbers(void *context, int64_t index, void *input, void *target, grd_error *error)
{
    const plant *p = context;
    float *x = input, *y = target, others[ROWS * FEATURES];
    (void)error;
    draw_rows(p, index, x);
    if (p->mistake == TARGETS_OF_OTHERS) draw_rows(p, index * index + 77777, x = others);
    for (int r = 0; r < ROWS; r++) {
        float sum = 0;
        for (int k = 0; k < FEATURES; k++) sum += x[r * FEATURES + k];
        y[r] = sum * (p->mistake == WRONG_TARGET_SCALE ? 1e3f : 0.6f);
        if (p->mistake == LONG_TAIL && index >= 14 && r == 3) y[r] += 5; /* and none in the first batches */
    }
    return GRD_OK;
}

/* ---- what is found ---- */

enum { RESULTS_MAX = 64 };

typedef struct results {
    char names[RESULTS_MAX][32], text[8192];
    bool passed[RESULTS_MAX];
    int count;
} results;

static void note_result(void *context, const grd_check_result *r)
{
    results *z = context;
    cr_assert(z->count < RESULTS_MAX && r->evidence[0] && (r->passed || r->look_at[0]));
    snprintf(z->names[z->count], sizeof z->names[0], "%s", r->name);
    z->passed[z->count++] = r->passed;
    size_t used = strlen(z->text);
    snprintf(z->text + used, sizeof z->text - used, "%s %s: %s\n", r->passed ? "ok" : "FOUND", r->name, r->evidence);
}

static int checked(const plant *p, grd_check_model *model, results *z)
{
    int32_t found = -1;
    grd_error error = {GRD_OK, ""};
    const grd_check_options options = {
        .size = sizeof options, .device = "cpu", .threads = 1, .on_result = note_result, .context = z};
    model->size = sizeof *model;
    model->context = (void *)p;
    z->count = 0;
    z->text[0] = '\0';
    cr_assert(grd_check_graph(model, &options, &found, &error) == GRD_OK, "%s: %s", p->what, error.message);
    return found;
}

static bool found_by(const results *z, const char *name)
{
    for (int i = 0; i < z->count; i++)
        if (strcmp(z->names[i], name) == 0) return !z->passed[i];
    return false;
}

static void look_for(const plant *p, grd_check_model model)
{
    static results z;
    int found = checked(p, &model, &z);
    if (p->check)
        cr_assert(found > 0 && found_by(&z, p->check), "%s: %s did not find it\n%s", p->what, p->check, z.text);
    else cr_assert(found == 0 && z.count >= 10, "%s:\n%s", p->what, z.text);
}

static grd_check_model reader(const plant *p)
{
    return (grd_check_model){.build = build_reader,
                             .batch = read_text,
                             .optimizer = grd_adamw(3e-3),
                             .causal = true,
                             .constant = "teacher/**",
                             .cuts_are_meant = p->mistake == TEACHER};
}

static grd_check_model network(const plant *p)
{
    return (grd_check_model){.build = build_network,
                             .batch = read_rows,
                             .optimizer = p->mistake == RATE_TOO_HIGH ? grd_sgd(300) : grd_adamw(3e-3)};
}

Test(check, transformers)
{
    static const plant plants[] = {
        {"a good transformer", NONE, NULL},
        {"a good transformer with a teacher", TEACHER, NULL},
        {"attention without a mask", NO_MASK, "causality"},
        {"a mask that shows one step too many", MASK_ONE_LATE, "causality"},
        {"a softmax over queries instead of keys", SOFTMAX_OVER_QUERIES, "causality"},
        {"a convolution that sees the next step", CENTRED_CONVOLUTION, "causality"},
        {"a norm over the batch", NORM_OVER_BATCH, "independence"},
        {"batch norm in training mode", BATCH_NORM_IN_TRAINING_MODE, "independence"},
        {"a reshape that mixes samples", MIXED_UP_RESHAPE, "independence"},
        {"dropout in evaluation", DROPOUT_IN_EVALUATION, "evaluation"},
        {"a head of another name in evaluation", OTHER_HEAD_IN_EVALUATION, "evaluation"},
        {"targets that are the inputs", TARGETS_NOT_SHIFTED, "targets"},
        {"targets two steps ahead", TARGETS_TWO_AHEAD, "targets"},
        {"targets one step behind", TARGETS_BEHIND, "targets"},
        {"a loss that is summed", SUMMED_LOSS, "initial_loss"},
        {"a head with large weights", LARGE_HEAD, "initial_loss"},
        {"a branch that is cut off", DETACHED_BRANCH, "gradients_reach"},
        {"a value half of which is cut off", DETACHED_VALUE, "gradients"},
        {"a layer that nobody uses", UNUSED_LAYER, "gradients_reach"},
        {"a teacher that learns", TRAINED_TEACHER, "gradients_reach"},
    };
    for (size_t i = 0; i < sizeof plants / sizeof *plants; i++) look_for(&plants[i], reader(&plants[i]));
}

Test(check, networks)
{
    static const plant plants[] = {
        {"a good network", NONE, NULL},
        {"a network without its input", NO_INPUT, "inputs_matter"},
        {"rectifiers that are off", DEAD_UNITS, "dead_units"},
        {"signals that vanish", VANISHING, "gradient_sizes"},
        {"signals that explode", EXPLODING, "activations"},
        {"a rate far too high", RATE_TOO_HIGH, "learning_rate"},
        {"a softmax before a loss that has its own", SOFTMAX_TWICE, "one_batch"},
        {"a softmax over the batch", SOFTMAX_OVER_BATCH, "independence"},
        {"data that change from call to call", OTHER_DATA_EACH_TIME, "same_bits"},
        {"a value that is no number", NAN_IN_DATA, "first_steps"},
        {"labels of other rows", TARGETS_OF_OTHERS, "pairs"},
    };
    for (size_t i = 0; i < sizeof plants / sizeof *plants; i++) look_for(&plants[i], network(&plants[i]));
}

/* Two runs from their first step are the same then; one that goes on draws other noise. */
Test(check, runs_that_cannot_go_on)
{
    static const plant p = {"noise whose state no checkpoint has", NOISE_CARRIED_ON, "resume"};
    static results z;
    grd_check_model model = network(&p);
    cr_assert(checked(&p, &model, &z) == 1 && found_by(&z, "resume"), "%s", z.text);
}

Test(check, regressions)
{
    static const plant plants[] = {{"a good regression", NONE, NULL},
                                   {"a good regression with a long tail", LONG_TAIL, NULL},
                                   {"targets in other units", WRONG_TARGET_SCALE, "one_batch"},
                                   {"targets of other rows", TARGETS_OF_OTHERS, "pairs"}};
    for (size_t i = 0; i < sizeof plants / sizeof *plants; i++)
        look_for(&plants[i], (grd_check_model){.build = build_regression, .batch = read_numbers});
}

/* ---- an op of one's own: bend(x) = x + sin(a x)^2 / a ---- */

static void bend_shape(grd_op_shape *c)
{
    c->out[0] = c->in[0];
}

/* 1 + sin(2 a x) */
static void bend_gradient(grd_op_gradient *g)
{
    const plant *p = g->context;
    double a = grd_attr_float(g->attrs, "a");
    grd_tensor slope = grd_sin(grd_mul_scalar(g->in[0], (p->mistake == SLOPE_OF_ANOTHER ? 1 : 2) * a));
    g->grad_in[0] = grd_mul(g->grad_out[0], grd_add_scalar(slope, 1));
}

static void bend_reference(const grd_op_reference *r)
{
    double a = grd_attr_float(r->attrs, "a");
    for (int64_t i = 0, count = grd_dims_count(r->out_type[0].dims); i < count; i++)
        r->out[0][i] = r->in[0][i] + pow(sin(a * r->in[0][i]), 2) / a;
}

static grd_status register_bend(void *context, grd_engine *engine)
{
    const grd_attr a[] = {GRD_FLOAT("a", 1)};
    const grd_op_definition definition = {.size = sizeof definition,
                                          .name = "bend",
                                          .inputs = 1,
                                          .attrs = a,
                                          .attr_count = 1,
                                          .context = context,
                                          .shape = bend_shape,
                                          .gradient = bend_gradient,
                                          .reference = bend_reference};
    return grd_op_register(engine, &definition);
}

static void build_bent(void *context, grd_graph *graph, bool training, grd_check_tensors *t)
{
    (void)context, (void)training;
    t->input = grd_input(graph, "x", GRD_F32, grd_shape(ROWS, FEATURES));
    t->target = grd_input(graph, "y", GRD_F32, grd_shape(ROWS, 1));
    grd_tensor h = grd_linear(t->input, "fc1", 32);
    grd_attr a[] = {GRD_FLOAT("a", 0.8)};
    t->output = grd_linear(grd_call(graph, "bend", &h, 1, a, 1, NULL), "fc2", 1);
    t->loss = grd_mean(grd_mse(t->output, t->target));
}

Test(check, ops_of_ones_own)
{
    static const plant plants[] = {{"a good op", NONE, NULL},
                                   {"a gradient that is another's", SLOPE_OF_ANOTHER, "gradients"}};
    for (size_t i = 0; i < sizeof plants / sizeof *plants; i++)
        look_for(&plants[i],
                 (grd_check_model){.build = build_bent, .batch = read_numbers, .register_ops = register_bend});
}

static grd_status register_twice(void *context, grd_engine *engine)
{
    grd_status status = register_bend(context, engine);
    return status ? status : register_bend(context, engine);
}

/* ---- misuse ---- */

static void build_nothing(void *context, grd_graph *graph, bool training, grd_check_tensors *t)
{
    (void)context, (void)graph, (void)training, (void)t;
}

static void build_wrongly(void *context, grd_graph *graph, bool training, grd_check_tensors *t)
{
    build_network(context, graph, training, t);
    t->loss = grd_matmul(t->input, t->input);
}

static grd_status refuse(void *context, int64_t index, void *input, void *target, grd_error *error)
{
    (void)context, (void)index, (void)input, (void)target;
    return grd_fail(error, GRD_E_IO, "the disk is gone");
}

Test(check, refuses_what_is_no_model)
{
    const plant p = {"", NONE, NULL};
    const grd_check_options options = {.size = sizeof options, .device = "cpu", .threads = 1};
    int32_t found;
    grd_error error = {GRD_OK, ""};
    cr_assert(grd_check_graph(NULL, &options, &found, &error) == GRD_E_ARGUMENT);
    grd_check_model m = {.size = sizeof m, .build = build_nothing, .batch = read_rows, .context = (void *)&p};
    error.status = GRD_OK;
    cr_assert(grd_check_graph(&m, &options, &found, &error) == GRD_E_ARGUMENT && strstr(error.message, "input"));
    m.build = build_wrongly;
    error.status = GRD_OK;
    cr_assert(grd_check_graph(&m, &options, &found, &error) == GRD_E_SHAPE, "%s", error.message);
    m.build = build_network;
    m.register_ops = register_twice;
    error.status = GRD_OK;
    cr_assert(grd_check_graph(&m, &options, &found, &error) == GRD_E_ARGUMENT);
    cr_assert(strstr(error.message, "op 'bend': there is one of that name already"), "%s", error.message);
    m.register_ops = NULL;
    m.batch = refuse;
    error.status = GRD_OK;
    cr_assert(grd_check_graph(&m, &options, &found, &error) == GRD_E_IO && strstr(error.message, "disk"));
}
