/* check_training.c - what a few steps show: one batch learnt by heart, the first steps, a range of learning rates. */
#include "train/check.h"

#include <gradus/ops.h>

#include "backend/backend.h"
#include "base/memory.h"
#include "graph/graph.h"
#include "ops/table.h"
#include "run/run.h"
#include "train/train.h"

#include <math.h>
#include <string.h>

/* ---- weights to come back to ---- */

static size_t storages_bytes(const grd_model *model)
{
    size_t size = 0;
    for (const grdi_storage *z = model->storages; z; z = z->next) size += z->size_bytes;
    return size;
}

grd_status grdi_snapshot_take(grdi_snapshot *snapshot, const grdi_subject *s, grd_error *error)
{
    const grd_engine *engine = s->model->engine;
    *snapshot = (grdi_snapshot){.size_bytes = storages_bytes(s->model), .count = grd_step_count(s->step)};
    snapshot->bytes = grdi_alloc(snapshot->size_bytes);
    if (!snapshot->bytes) return grd_fail(error, GRD_E_MEMORY, "out of memory for a copy of the weights");
    char *to = snapshot->bytes;
    for (const grdi_storage *z = s->model->storages; z; to += z->size_bytes, z = z->next)
        engine->backend->download(engine->device, to, z->data, z->size_bytes);
    return GRD_OK;
}

void grdi_snapshot_restore(const grdi_snapshot *snapshot, const grdi_subject *s)
{
    const grd_engine *engine = s->model->engine;
    const char *from = snapshot->bytes;
    for (const grdi_storage *z = s->model->storages; z; from += z->size_bytes, z = z->next)
        engine->backend->upload(engine->device, z->data, from, z->size_bytes);
    s->model->weights_version++;
    grd_step_set_count(s->step, snapshot->count);
}

void grdi_snapshot_free(grdi_snapshot *snapshot)
{
    grdi_free(snapshot->bytes);
    snapshot->bytes = NULL;
}

/* ---- steps ---- */

static grd_status step_failed(const grdi_checker *c, const grdi_subject *s, grd_status status)
{
    return grd_fail(c->error, status, "%s", grd_step_error(s->step)->message);
}

grd_status grdi_check_step(grdi_checker *c, grdi_subject *s, double factor, double *loss)
{
    grd_metrics metrics;
    grd_step_set_lr(s->step, s->rate_scale > 0 ? s->rate_scale * factor : factor);
    grd_status status = grd_step_run(s->step, &metrics);
    *loss = status == GRD_E_NUMERIC ? NAN : metrics.loss;
    return status && status != GRD_E_NUMERIC ? step_failed(c, s, status) : GRD_OK;
}

/* Steps on the same batch until the loss is below `goal` or there were `most`; *last is the loss then. */
static grd_status repeat(grdi_checker *c, grdi_subject *s, int most, double goal, double factor, double *last)
{
    grd_status status = GRD_OK;
    for (int i = 0; i < most && !status; i++) {
        if (grdi_check_stopped(c)) return GRD_E_STOPPED;
        status = grdi_check_step(c, s, factor, last);
        if (!(*last > goal)) break;
    }
    return status;
}

/* ---- the same batches before and after ---- */

enum { KEPT_MOST = 10 };

/* What the step was fed last, all its inputs one behind the other. */
typedef struct kept {
    char *batches[KEPT_MOST];
    int count;
} kept;

/* The step's own memory of an input; NULL: this is none, or the loss does not need it. */
static void *fed(const grdi_subject *s, const grdi_node *node, size_t *size_bytes)
{
    return node->op == &grdi_op_input ? grdi_program_input(s->step->micro, node->name, size_bytes) : NULL;
}

static grd_status keep_batch(grdi_checker *c, const grdi_subject *s, kept *k)
{
    const grd_engine *engine = s->model->engine;
    size_t all = 0, used = 0, size;
    for (size_t n = 0; n < s->graph->count; n++)
        if (fed(s, s->graph->nodes[n], &size)) all += size;
    char *to = k->batches[k->count++] = grdi_alloc(all + 1);
    if (!to) return grd_fail(c->error, GRD_E_MEMORY, "out of memory for a batch");
    for (size_t n = 0; n < s->graph->count; n++) {
        const void *from = fed(s, s->graph->nodes[n], &size);
        if (!from) continue;
        engine->backend->download(engine->device, to + used, from, size);
        used += size;
    }
    return GRD_OK;
}

static void feed_kept(const grdi_subject *s, const char *batch)
{
    size_t size;
    for (size_t n = 0; n < s->graph->count; n++) {
        grdi_node *node = s->graph->nodes[n];
        if (!fed(s, node, &size)) continue;
        grd_step_feed(s->step, (grd_tensor){node, 0}, batch);
        batch += size;
    }
}

static void let_go(kept *k)
{
    for (int i = 0; i < k->count; i++) grdi_free(k->batches[i]);
    k->count = 0;
}

/* The mean loss of the batches with the weights as they are. */
static grd_status kept_loss(grdi_checker *c, grdi_subject *s, const kept *k, double *mean)
{
    *mean = 0;
    for (int i = 0; i < k->count; i++) {
        double loss;
        feed_kept(s, k->batches[i]);
        grd_status status = grdi_check_step(c, s, 0, &loss);
        if (status) return status;
        *mean += loss / k->count;
    }
    return GRD_OK;
}

/* ---- one batch ---- */

enum { STEPS_FIRST = 8, STEPS_BY_HEART = 100, STEPS_LEAST = 24 };
#define LEARNT 0.25 /* of the first loss: by heart */
#define ENOUGH 0.5  /* far below the first loss */
#define BLIND_LINEAR 1.001
#define BLIND 1.1 /* without its inputs, the loss is above this many times what it is with them */

/* A budget of arithmetic: what an ordinary processor does in some ten seconds. */
#define FLOPS_BUDGET 4e11

int grdi_check_steps_for(const grdi_subject *s, int least, int most)
{
    grd_plan_report report;
    if (grd_step_report(s->step, &report) || report.flops_per_step <= 0) return most;
    double steps = FLOPS_BUDGET / report.flops_per_step;
    return steps < least ? least : steps > most ? most : (int)steps;
}

/* The rates tried, as multiples of the config's: a batch that none of them learns is not for the rate to explain. */
static const double rates_tried[] = {1, 0.1, 10, 0.01, 100};
enum { RATES_TRIED = 5 };

typedef struct by_heart {
    double first, seeing, blind, factor; /* seeing: the last loss */
    int steps;
} by_heart;

static grd_status learn_by_heart(grdi_checker *c, grdi_subject *s, const grdi_snapshot *start, by_heart *b)
{
    grd_status status = GRD_OK;
    double best = INFINITY;
    for (int r = 0; r <= RATES_TRIED && !status; r++) {
        bool again = r == RATES_TRIED; /* none was good enough: the best */
        double tried = again ? b->factor : rates_tried[r];
        grdi_snapshot_restore(start, s);
        status = repeat(c, s, b->steps, LEARNT * b->first, tried, &b->seeing);
        if (again || !(b->seeing < best)) continue;
        best = b->seeing;
        b->factor = tried;
        if (best <= ENOUGH * b->first) break;
    }
    return status;
}

/* The loss with inputs and with zeros in their place, at the weights as they are. */
static grd_status look_away(grdi_checker *c, grdi_subject *s, by_heart *b)
{
    void *zeros = grdi_alloc_zero(1, grdi_type_bytes(*grdi_type_of(s->input)));
    if (!zeros) return grd_fail(c->error, GRD_E_MEMORY, "out of memory for a batch");
    grd_status status = grdi_check_step(c, s, 0, &b->seeing);
    grd_step_feed(s->step, s->input, zeros);
    if (!status) status = grdi_check_step(c, s, 0, &b->blind);
    grd_step_feed(s->step, s->input, s->inputs);
    grdi_free(zeros);
    return status;
}

static void tell_by_heart(grdi_checker *c, const grdi_subject *s, const by_heart *b)
{
    char rate[64] = "";
    if (b->factor != 1) snprintf(rate, sizeof(rate), ", at a rate of %.3g", b->factor * s->lr);
    if (!s->linear)
        grdi_check_result(c, "one_batch", b->seeing <= ENOUGH * b->first,
                          "look at the model and at how inputs and targets are paired: a network that cannot learn one "
                          "small batch by heart does not learn",
                          "loss %.4f before, %.4f after at most %d steps on one batch%s", b->first, b->seeing, b->steps,
                          rate);
    grdi_check_result(c, "inputs_matter", b->blind > (s->linear ? BLIND_LINEAR : BLIND) * b->seeing,
                      "look at what the model does with its input: it does as well when that is all zeros",
                      "loss on that batch %.4f with its inputs, %.4f with zeros in their place", b->seeing, b->blind);
}

grd_status grdi_check_one_batch(grdi_checker *c, grdi_subject *s)
{
    grdi_snapshot start;
    by_heart b = {.steps = grdi_check_steps_for(s, STEPS_LEAST, STEPS_BY_HEART), .factor = 1};
    double last = NAN;
    s->rewind(s);
    grd_status status = s->next(s, &s->inputs);
    if (!status) status = grdi_snapshot_take(&start, s, c->error);
    if (status) return status;
    status = grdi_check_step(c, s, 1, &b.first);
    /* Some steps in, as many layers start with zeros; unless the rate makes these steps bad ones. */
    if (!status && isfinite(b.first)) status = repeat(c, s, STEPS_FIRST, -INFINITY, 1, &last);
    if (!status && !(last <= b.first)) grdi_snapshot_restore(&start, s);
    if (!status && isfinite(b.first)) status = grdi_check_structure(c, s);
    if (!status && isfinite(b.first)) status = learn_by_heart(c, s, &start, &b);
    if (!status && isfinite(b.first)) status = look_away(c, s, &b);
    if (!status && isfinite(b.first)) tell_by_heart(c, s, &b);
    grdi_snapshot_restore(&start, s);
    grdi_snapshot_free(&start);
    return status;
}

/* ---- the first steps ---- */

enum { FIRST_STEPS = 20, FIRST_STEPS_LEAST = 10, TAIL = 5 }; /* TAIL: at most KEPT_MOST */

/* The mean square of the targets that are fed, where these are numbers; else 0. */
static double target_square(const grdi_subject *s)
{
    if (!s->target.node || grd_tensor_dtype(s->target) != GRD_F32) return 0;
    const grd_engine *engine = s->model->engine;
    int64_t count = grd_dims_count(grd_tensor_dims(s->target));
    const void *fed = grdi_program_input(s->step->micro, s->target.node->name, NULL);
    float *values = fed ? grdi_alloc((size_t)count * sizeof(float)) : NULL;
    double sum = 0;
    if (!values) return 0;
    engine->backend->download(engine->device, values, fed, (size_t)count * sizeof(float));
    for (int64_t i = 0; i < count; i++) sum += (double)values[i] * values[i];
    grdi_free(values);
    return sum / (double)count;
}

static void tell_first_loss(grdi_checker *c, const grdi_subject *s, double loss)
{
    if (!isfinite(loss)) {
        grdi_check_result(c, "initial_loss", false, "look for values in the data or at initialisation that overflow",
                          "the first loss is not a number");
        return;
    }
    if (!isfinite(s->expected)) return;
    /* Above, as a head that is the embedding speaks for the token that it sees; models from files know more. */
    double most = fmax(s->expected, target_square(s));
    bool numbers = s->target.node && grd_tensor_dtype(s->target) == GRD_F32; /* a batch may well have little spread */
    bool low = loss < s->expected - 0.25 * s->expected - 0.3 && !s->pretrained && !numbers;
    bool high = loss > most + 0.5 * most + 0.3;
    grdi_check_result(c, "initial_loss", !low && !high,
                      low ? "look at targets that the model can see, and at how the loss is averaged"
                          : "look at how the loss is averaged, at the scale of the last layer's first weights and at "
                            "the range of the targets",
                      "%.4f before training, %s is %.4f", loss, s->expected_text, s->expected);
}

/* The last steps' losses beside those of the same batches before training: with targets of a long tail, batches differ
 * by more than some steps can change. */
static void tell_first_steps(grdi_checker *c, const double *losses, int count, double before)
{
    double tail = 0;
    for (int i = count - TAIL; i < count; i++) tail += losses[i] / TAIL;
    grdi_check_result(c, "first_steps", tail <= 1.1 * before + 0.1,
                      "look at the learning rate, the warm-up and the clipping of gradients",
                      "loss %.4f on average of steps %d to %d, %.4f of the same batches before training", tail,
                      count - TAIL + 1, count, before);
}

#define RATIO_MOST 1e6 /* between the largest and the smallest layer's gradient */
#define ACTIVATION_MOST 1e4
#define ACTIVATION_LEAST 1e-6

static void tell_layers(grdi_checker *c, const grdi_layers *l, int steps)
{
    const grd_layer_statistics *least = NULL, *most = NULL, *worst = NULL;
    double low = INFINITY, high = 0;
    for (size_t i = 0; i < l->count; i++) {
        const grd_layer_statistics *z = &l->statistics[i];
        double a = z->activation_rms, g = z->gradient_rms;
        if (!isnan(a)) low = fmin(low, a), high = fmax(high, a);
        if (!isnan(a) && (!(a <= ACTIVATION_MOST) || !(a >= ACTIVATION_LEAST)) && !worst) worst = z;
        if (isnan(g)) continue;
        if (!least || g < least->gradient_rms) least = z;
        if (!most || g > most->gradient_rms) most = z;
    }
    if (high > 0 || worst)
        grdi_check_result(
            c, "activations", !worst,
            "look at the first weights and at missing normalisation: signals vanish or explode on the way",
            "root mean square by layer %.3g to %.3g after %d steps%s%s", low, high, steps,
            worst ? ", first out of bounds: " : "", worst ? worst->name : "");
    if (!least) return;
    bool fine = least->gradient_rms > 0 && most->gradient_rms <= RATIO_MOST * least->gradient_rms;
    grdi_check_result(
        c, "gradient_sizes", fine,
        "look at the layer with the smallest: it learns nothing, behind units that are off, a cut or many "
        "layers without a way past",
        "root mean square by layer %.3g (%s) to %.3g (%s) after %d steps", least->gradient_rms, least->name,
        most->gradient_rms, most->name, steps);
}

/* ---- units that never fire ---- */

enum { RECTIFIERS_MAX = 256 };
#define DEAD_MOST 0.6 /* of a layer's units */

static bool rectifies(const grdi_node *node)
{
    const char *op = node->op->name;
    if (strcmp(op, "relu") == 0 || strcmp(op, "relu_squared") == 0) return true;
    if (strcmp(op, "linear") != 0) return false;
    int64_t activation = grdi_attr_int(node->attrs, "activation");
    return activation == GRD_ACTIVATION_RELU || activation == GRD_ACTIVATION_RELU_SQUARED;
}

/* The largest value of each unit (the last axis) over all else. */
static grd_tensor largest_by_unit(grd_tensor x)
{
    static const int64_t axes[GRD_RANK_MAX] = {0, 1, 2, 3, 4, 5, 6, 7};
    int32_t rank = grd_tensor_dims(x).rank;
    return rank > 1 ? grd_max_axes(x, axes, rank - 1, false) : x;
}

/* Units of one layer that are 0 everywhere. */
static int64_t dead_units(grd_program *program, grd_tensor largest, float *room)
{
    int64_t units = grd_dims_count(grd_tensor_dims(largest)), dead = 0;
    grd_program_read(program, largest, room);
    for (int64_t i = 0; i < units; i++) dead += !(room[i] > 0);
    return dead;
}

static grd_status check_rectifiers(grdi_checker *c, grdi_subject *s)
{
    grd_tensor largest[RECTIFIERS_MAX];
    const char *scopes[RECTIFIERS_MAX], *worst = "";
    int32_t count = 0;
    int64_t most = 1, all = 0, dead_all = 0;
    double share = 0;
    for (size_t n = 0, nodes = s->eval_graph->count; n < nodes && count < RECTIFIERS_MAX; n++) {
        grdi_node *node = s->eval_graph->nodes[n];
        if (!rectifies(node) || node->out[0].dtype != GRD_F32) continue;
        scopes[count] = node->scope;
        largest[count++] = largest_by_unit((grd_tensor){node, 0});
        int64_t units = grd_dims_count(grd_tensor_dims(largest[count - 1]));
        if (units > most) most = units;
    }
    if (!count) return GRD_OK;
    grd_program *program = grd_program_new(largest, count);
    float *room = grdi_alloc((size_t)most * sizeof(float));
    grd_status status = program && room ? GRD_OK : grd_fail(c->error, GRD_E_MEMORY, "out of memory for units");
    if (!status) grd_program_feed(program, s->eval_input, s->inputs);
    if (!status && (status = grd_program_run(program)))
        grd_fail(c->error, status, "%s", grd_program_error(program)->message);
    for (int32_t i = 0; i < count && !status; i++) {
        int64_t units = grd_dims_count(grd_tensor_dims(largest[i])), dead = dead_units(program, largest[i], room);
        all += units;
        dead_all += dead;
        if ((double)dead <= share * (double)units) continue;
        share = (double)dead / (double)units;
        worst = scopes[i];
    }
    grd_program_free(program);
    grdi_free(room);
    if (status) return status;
    grdi_check_result(
        c, "dead_units", share <= DEAD_MOST,
        "look at the first weights and biases before the rectifier, at the learning rate and at the scale "
        "of the inputs",
        "%lld of %lld units behind rectifiers are 0 for the whole batch%s%s", (long long)dead_all, (long long)all,
        dead_all ? ", the largest share in " : "", dead_all ? worst : "");
    return GRD_OK;
}

static grd_status take_first_steps(grdi_checker *c, grdi_subject *s, int steps, double *losses, int *done, kept *k)
{
    for (*done = 0; *done < steps; ++*done) {
        if (grdi_check_stopped(c)) return GRD_E_STOPPED;
        grd_status status = s->next(s, &s->inputs);
        if (!status && *done >= steps - TAIL) status = keep_batch(c, s, k);
        if (!status && *done == steps - 1) grd_step_measure(s->step);
        if (!status) status = grdi_check_step(c, s, s->factor ? s->factor(s) : 1, &losses[*done]);
        if (status) return status;
        if (*done == 0) tell_first_loss(c, s, losses[0]);
        if (!isfinite(losses[*done])) return GRD_OK;
    }
    return GRD_OK;
}

grd_status grdi_check_first_steps(grdi_checker *c, grdi_subject *s)
{
    double losses[FIRST_STEPS], before;
    int steps = grdi_check_steps_for(s, FIRST_STEPS_LEAST, FIRST_STEPS), done = 0;
    grdi_snapshot start;
    kept last = {.count = 0};
    grdi_layers layers = {.layers = NULL};
    s->rewind(s);
    grd_status status = grdi_snapshot_take(&start, s, c->error);
    if (!status) status = grdi_layers_open(&layers, s->eval_graph, c->error);
    if (!status) status = take_first_steps(c, s, steps, losses, &done, &last);
    if (!status && done == steps) status = grdi_layers_measure(&layers, s->step, s->eval_input, s->inputs, c->error);
    if (!status && done == steps) {
        tell_layers(c, &layers, steps);
        status = check_rectifiers(c, s);
    }
    if (start.bytes) grdi_snapshot_restore(&start, s);
    if (!status && done == steps) {
        status = kept_loss(c, s, &last, &before);
        if (!status) tell_first_steps(c, losses, steps, before);
        grdi_snapshot_restore(&start, s);
    } else if (!status && done > 0) {
        grdi_check_result(c, "first_steps", false, "look at the learning rate, the warm-up and the data",
                          "loss %.4f at first, not a number at step %d", losses[0], done + 1);
    }
    let_go(&last);
    grdi_snapshot_free(&start);
    grdi_layers_close(&layers);
    return status;
}

/* ---- learning rates ---- */

enum { RANGE_STEPS = 60, RANGE_STEPS_LEAST = 24 };
#define RANGE_LEAST 1e-4
#define RANGE_MOST 1e2
#define SMOOTHING 0.7
#define DIVERGED 3.0

typedef struct range {
    double lr[RANGE_STEPS], loss[RANGE_STEPS]; /* loss: a moving average, corrected for its start */
    int count, best;
    double noise;  /* of that average, from batch to batch */
    double spread; /* deviation of batches' losses before anything is learnt */
} range;

enum { NOISE_BATCHES = 8 };
#define NOISE_MOST 4.0 /* times the noise is more than chance */

/* How far losses of different batches lie apart before anything is learnt. */
static grd_status measure_noise(grdi_checker *c, grdi_subject *s, range *r)
{
    double sum = 0, squares = 0;
    for (int i = 0; i < NOISE_BATCHES; i++) {
        double loss;
        grd_status status = s->next(s, &s->inputs);
        if (!status) status = grdi_check_step(c, s, 0, &loss);
        if (status) return status;
        sum += loss;
        squares += loss * loss;
    }
    double variance = fmax(squares - sum * sum / NOISE_BATCHES, 0) / (NOISE_BATCHES - 1);
    r->spread = sqrt(variance);
    r->noise = sqrt(variance * (1 - SMOOTHING) / (1 + SMOOTHING));
    return GRD_OK;
}

static grd_status run_range(grdi_checker *c, grdi_subject *s, int steps, range *r)
{
    double average = 0, weight = 0, growth = pow(RANGE_MOST / RANGE_LEAST, 1.0 / (steps - 1)), factor = RANGE_LEAST;
    grd_status status = GRD_OK;
    for (r->count = 0; r->count < steps && !status; factor *= growth) {
        double loss;
        if (grdi_check_stopped(c)) return GRD_E_STOPPED;
        status = s->next(s, &s->inputs);
        if (!status) status = grdi_check_step(c, s, factor, &loss);
        if (status) return status;
        average = SMOOTHING * average + (1 - SMOOTHING) * loss;
        weight = SMOOTHING * weight + (1 - SMOOTHING);
        r->lr[r->count] = s->lr * factor;
        r->loss[r->count] = average / weight;
        if (!isfinite(loss)) r->loss[r->count] = INFINITY;
        if (r->loss[r->count] < r->loss[r->best]) r->best = r->count;
        double least = r->loss[r->best];
        if (r->loss[r->count++] > DIVERGED * least + 0.5 + NOISE_MOST * r->noise) break;
    }
    return status;
}

#define LEARNT_LEAST 0.95 /* of the first loss: where it never got lower, nothing can be lost */

static bool has_learnt(const range *r)
{
    return r->loss[r->best] <= LEARNT_LEAST * r->loss[0];
}

/* The first rate after the best one at which half of what was learnt is lost again; infinite where there is none. */
static double where_lost(const range *r)
{
    double lost = fmax(0.5 * (r->loss[0] + r->loss[r->best]), r->loss[r->best] + NOISE_MOST * r->noise);
    if (!has_learnt(r)) return INFINITY;
    for (int i = r->best; i < r->count; i++)
        if (r->loss[i] > lost) return r->lr[i];
    return INFINITY;
}

enum { CONFIRMING = 20, CONFIRMED = KEPT_MOST };

/* Whether at the rate itself the loss rises, on average of the last of some steps beside what the same batches had
 * before: a range can be misled by batches. */
static grd_status confirm(grdi_checker *c, grdi_subject *s, const grdi_snapshot *start, const range *r, bool *rises)
{
    double after = 0, before = 0;
    kept last = {.count = 0};
    grd_status status = GRD_OK;
    for (int i = 0; i < CONFIRMING && !status; i++) {
        double loss = 0;
        if (grdi_check_stopped(c)) status = GRD_E_STOPPED;
        if (!status) status = s->next(s, &s->inputs);
        if (!status && i >= CONFIRMING - CONFIRMED) status = keep_batch(c, s, &last);
        if (!status) status = grdi_check_step(c, s, 1, &loss);
        if (i >= CONFIRMING - CONFIRMED) after += loss / CONFIRMED;
    }
    grdi_snapshot_restore(start, s);
    if (!status) status = kept_loss(c, s, &last, &before);
    *rises = !(after <= before + r->spread);
    let_go(&last);
    return status;
}

static void tell_learning_rate(grdi_checker *c, const grdi_subject *s, const range *r, double lost, bool rises)
{
    char then[64] = "and did not rise again", usual[64] = "which may be chance";
    if (isfinite(lost)) snprintf(then, sizeof(then), "and lost it from %.2g on", lost);
    if (has_learnt(r) && r->loss[0] - r->loss[r->best] > NOISE_MOST * r->noise)
        snprintf(usual, sizeof(usual), "a tenth of the best, %.1g, is a usual choice", r->lr[r->best] / 10);
    grdi_check_result(c, "learning_rate", !rises, "look at train.lr: at such a rate the loss does not fall but rises",
                      "%.2g is set; in a range from %.2g to %.2g the loss fell from %.4f to %.4f at %.2g %s (%s)",
                      s->lr, r->lr[0], r->lr[r->count - 1], r->loss[0], r->loss[r->best], r->lr[r->best], then, usual);
}

#define REACHED_LEAST 0.5 /* of the rate */

grd_status grdi_check_learning_rate(grdi_checker *c, grdi_subject *s)
{
    range r = {.count = 0};
    grdi_snapshot start;
    if (!(s->lr > 0)) {
        grdi_check_result(c, "learning_rate", false, "look at train.lr: with 0 nothing is learnt", "the rate is %g",
                          s->lr);
        return GRD_OK;
    }
    if (s->lr_reached > 0 && s->lr_reached < REACHED_LEAST) {
        grdi_check_result(c, "learning_rate", false, "look at train.warmup: the run ends while the rate still rises",
                          "%.2g is set, and %.2g is the most that the schedule comes to", s->lr, s->lr * s->lr_reached);
        return GRD_OK;
    }
    int steps = grdi_check_steps_for(s, RANGE_STEPS_LEAST, RANGE_STEPS);
    grd_status status = grdi_snapshot_take(&start, s, c->error);
    if (status) return status;
    s->rewind(s);
    status = measure_noise(c, s, &r);
    grdi_snapshot_restore(&start, s);
    if (!status) status = run_range(c, s, steps, &r);
    grdi_snapshot_restore(&start, s);
    double lost = where_lost(&r);
    bool rises = false;
    if (!status && s->lr >= lost) status = confirm(c, s, &start, &r, &rises);
    grdi_snapshot_restore(&start, s);
    grdi_snapshot_free(&start);
    if (status || r.count == 0) return status;
    tell_learning_rate(c, s, &r, lost, rises);
    return GRD_OK;
}
