/* check_model.c - the preflight of a caller's own model. */
#include "train/check.h"
#include "train/train.h"

#include "backend/backend.h"
#include "base/memory.h"

#include <math.h>
#include <string.h>

/* One model that the caller built, with its step and its evaluation. */
typedef struct built {
    const grd_check_model *about;
    grdi_checker *c;
    grdi_subject subject;
    grd_check_tensors training, evaluation;
    char *input, *target;
    int64_t at; /* the next batch */
} built;

static grd_status graph_failed(const grdi_checker *c, const grd_graph *graph, const char *what)
{
    const grd_error *e = grd_graph_error(graph);
    if (e->status) return grd_fail(c->error, e->status, "%s", e->message);
    return grd_fail(c->error, GRD_E_ARGUMENT, "check: build() gave no %s (set it in the grd_check_tensors)", what);
}

static grd_status next_batch(grdi_subject *s, const void **inputs)
{
    built *b = s->context;
    grd_status status = b->about->batch(b->about->context, b->at++, b->input, b->target, b->c->error);
    if (status) return grd_fail(b->c->error, status, "check: batch() failed at index %lld", (long long)b->at - 1);
    grd_step_feed(s->step, s->input, b->input);
    if (b->target) grd_step_feed(s->step, s->target, b->target);
    *inputs = b->input;
    return GRD_OK;
}

static void back_to_first(grdi_subject *s)
{
    ((built *)s->context)->at = 0;
}

static double mean_square(const float *x, int64_t count)
{
    double sum = 0;
    for (int64_t i = 0; i < count; i++) sum += (double)x[i] * x[i];
    return sum / (double)count;
}

/* What the loss should be before training, from what the caller said or from the shapes and the first batch. */
static void expect(built *b)
{
    grdi_subject *s = &b->subject;
    double said = b->about->initial_loss;
    s->expected = said > 0 ? said : NAN;
    snprintf(s->expected_text, sizeof(s->expected_text), "what it should be");
    if (said != 0 || !b->target) return;
    grd_dims wanted = grd_tensor_dims(s->target), given = grd_tensor_dims(s->eval_output);
    if (grd_tensor_dtype(s->target) == GRD_I32 && given.rank == wanted.rank + 1) {
        s->expected = log((double)given.dim[given.rank - 1]);
        snprintf(s->expected_text, sizeof(s->expected_text), "ln %lld", (long long)given.dim[given.rank - 1]);
    } else if (grd_tensor_dtype(s->target) == GRD_F32) {
        s->expected = mean_square((const float *)b->target, grd_dims_count(wanted));
        snprintf(s->expected_text, sizeof(s->expected_text), "the targets' mean square");
    }
}

static grd_status build_training(built *b, grd_model *model)
{
    const grd_check_model *about = b->about;
    grdi_subject *s = &b->subject;
    s->graph = grd_graph_new(model);
    about->build(about->context, s->graph, true, &b->training);
    if (!b->training.input.node) return graph_failed(b->c, s->graph, "input for training");
    if (!b->training.loss.node) return graph_failed(b->c, s->graph, "loss");
    grd_optimizer optimizer = about->optimizer.kind ? about->optimizer : grd_adamw(1e-3);
    s->step = grd_step_new(b->training.loss, optimizer, .clip_norm = about->clip_norm, .groups = about->groups,
                           .group_count = about->group_count, .statistics = true);
    if (!s->step) return graph_failed(b->c, s->graph, "step");
    s->lr = optimizer.lr;
    s->input = b->training.input;
    s->target = b->training.target;
    s->loss = b->training.loss;
    b->input = grdi_alloc_zero(1, grdi_type_bytes(*grdi_type_of(s->input)));
    if (s->target.node) b->target = grdi_alloc_zero(1, grdi_type_bytes(*grdi_type_of(s->target)));
    bool made = b->input && (b->target || !s->target.node);
    return made ? GRD_OK : grd_fail(b->c->error, GRD_E_MEMORY, "out of memory for a batch");
}

static grd_status build_evaluation(built *b, grd_model *model)
{
    grdi_subject *s = &b->subject;
    s->eval_graph = grd_graph_new(model);
    b->about->build(b->about->context, s->eval_graph, false, &b->evaluation);
    if (!b->evaluation.input.node) return graph_failed(b->c, s->eval_graph, "input for evaluation");
    if (!b->evaluation.output.node) return graph_failed(b->c, s->eval_graph, "output");
    s->eval_input = b->evaluation.input;
    s->eval_output = b->evaluation.output;
    s->eval = grd_program_new(&b->evaluation.output, 1);
    if (!s->eval) return graph_failed(b->c, s->eval_graph, "program");
    if (grd_dims_equal(grd_tensor_dims(s->input), grd_tensor_dims(s->eval_input))) return GRD_OK;
    return grd_fail(b->c->error, GRD_E_SHAPE, "check: the inputs for training and evaluation differ in shape");
}

static grd_status build(built *b, grdi_checker *c, const grd_check_model *about, grd_engine *engine)
{
    grd_model *model = grd_model_new(engine, 1);
    *b = (built){.about = about, .c = c};
    if (!model) return grd_fail(c->error, GRD_E_MEMORY, "out of memory for a model");
    b->subject = (grdi_subject){.model = model,
                                .next = next_batch,
                                .rewind = back_to_first,
                                .causal = about->causal,
                                .labelled = !about->causal,
                                .groups = about->groups,
                                .group_count = about->group_count,
                                .constant = about->constant,
                                .cuts_are_meant = about->cuts_are_meant};
    grd_status status = build_training(b, model);
    return status ? status : build_evaluation(b, model);
}

static void let_go(built *b)
{
    grdi_free(b->input);
    grdi_free(b->target);
    grd_model_free(b->subject.model);
    *b = (built){.about = NULL};
}

/* Batch 0 and what follows are batch() again, from a model as it began: context is set where the struct has its place.
 */
static grd_status check_parts(built *b)
{
    grdi_subject *s = &b->subject;
    s->context = b;
    grd_status status = next_batch(s, &s->inputs);
    if (status) return status;
    expect(b);
    status = grdi_check_one_batch(b->c, s);
    if (!status) status = grdi_check_first_steps(b->c, s);
    if (!status) status = grdi_check_learning_rate(b->c, s);
    return status ? status : grdi_check_pairs(b->c, s);
}

/* ---- same bits ---- */

enum { STEPS = 4, HALF = 2 };

static grd_status take_steps(built *b, int count, double *losses)
{
    for (int i = 0; i < count; i++) {
        grd_metrics metrics;
        grd_status status = next_batch(&b->subject, &b->subject.inputs);
        if (status) return status;
        status = grd_step_run(b->subject.step, &metrics);
        losses[i] = status == GRD_E_NUMERIC ? NAN : metrics.loss;
        if (status && status != GRD_E_NUMERIC)
            return grd_fail(b->c->error, status, "%s", grd_step_error(b->subject.step)->message);
    }
    return GRD_OK;
}

/* The first steps of one model beside those of another, then of a third that goes on from the first one's variables. */
static grd_status check_bits(grdi_checker *c, const grd_check_model *about, grd_engine *engine)
{
    built one, other, later;
    double whole[STEPS] = {0}, again[STEPS] = {0}, rest[STEPS] = {0};
    grdi_snapshot half = {NULL, 0, 0}, end = {NULL, 0, 0}, resumed = {NULL, 0, 0};
    grd_status status = build(&one, c, about, engine), second = build(&other, c, about, engine),
               third = build(&later, c, about, engine);
    one.subject.context = &one, other.subject.context = &other, later.subject.context = &later;
    if (!status) status = second ? second : third;
    if (!status) status = take_steps(&one, HALF, whole);
    if (!status) status = grdi_snapshot_take(&half, &one.subject, c->error);
    if (!status) status = take_steps(&one, STEPS - HALF, whole + HALF);
    if (!status) status = grdi_snapshot_take(&end, &one.subject, c->error);
    if (!status) status = take_steps(&other, STEPS, again);
    if (!status) {
        grdi_snapshot_restore(&half, &later.subject);
        later.at = HALF;
        status = take_steps(&later, STEPS - HALF, rest + HALF);
    }
    if (!status) status = grdi_snapshot_take(&resumed, &later.subject, c->error);
    if (!status) {
        grdi_check_bits(c, whole, again, STEPS);
        bool same = end.size_bytes == resumed.size_bytes && memcmp(end.bytes, resumed.bytes, end.size_bytes) == 0;
        grdi_check_resumed(c, whole[STEPS - 1], rest[STEPS - 1], STEPS, same);
    }
    let_go(&one), let_go(&other), let_go(&later);
    grdi_snapshot_free(&half), grdi_snapshot_free(&end), grdi_snapshot_free(&resumed);
    return status;
}

grd_status grd_check_graph(const grd_check_model *model, const grd_check_options *options, int32_t *found,
                           grd_error *error)
{
    static const grd_check_options none = {.size = sizeof(none)};
    grd_error own = {GRD_OK, ""};
    grdi_checker c = {.options = options ? options : &none, .error = error ? error : &own};
    *found = 0;
    if (!model || !model->size || !model->build || !model->batch)
        return grd_fail(c.error, GRD_E_ARGUMENT, "check: a model needs size, build and batch (set all three)");
    grd_check_model about = {0}; /* an older program's may be shorter */
    memcpy(&about, model, model->size < sizeof(about) ? model->size : sizeof(about));
    grd_engine *engine = grd_engine_open(c.options->device ? c.options->device : "auto", .threads = c.options->threads);
    const grd_error *problem = grd_engine_error(engine);
    grd_status status = !engine           ? grd_fail(c.error, GRD_E_MEMORY, "out of memory for an engine")
                        : problem->status ? grd_fail(c.error, problem->status, "%s", problem->message)
                                          : GRD_OK;
    built b = {.about = NULL};
    if (!status && !engine->backend->runs)
        status = grd_fail(c.error, GRD_E_ARGUMENT, "device %s: only plans (check on cpu)", grd_engine_device(engine));
    if (!status && about.register_ops) {
        status = about.register_ops(about.context, engine);
        if (status) grd_fail(c.error, status, "%s", problem->status ? problem->message : "check: register_ops failed");
    }
    if (!status) status = build(&b, &c, &about, engine);
    if (!status) status = check_parts(&b);
    let_go(&b);
    if (!status) status = check_bits(&c, &about, engine);
    grd_engine_close(engine);
    *found = c.found;
    return status;
}
