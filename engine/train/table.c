/* table.c - the task of predicting a column of a table from the others: batches, step and evaluation. Which rows a
 * batch has is a function of seed and position alone: each epoch is a permutation, every row once. */
#include "train/table.h"

#include <gradus/ops.h>

#include "base/memory.h"
#include "base/random.h"
#include "generate/classifier.h"
#include "train/task.h"

#include <math.h>
#include <string.h>

bool grdi_table_solves(const grd_settings *settings)
{
    int optimizer = settings->train.optimizer;
    if (settings->data.kind != GRD_DATA_TABLE) return false;
    return (settings->model.kind == GRD_MODEL_LINEAR && optimizer == GRD_OPTIMIZER_EXACT) ||
           (settings->model.kind == GRD_MODEL_LOGISTIC && optimizer == GRD_OPTIMIZER_LBFGS);
}

static bool solves(const grdi_session *s)
{
    return grdi_table_solves(s->settings);
}

static grd_status make_batches(grdi_session *s)
{
    grdi_table_run *run = s->table;
    size_t batch = (size_t)s->settings->train.batch, width = (size_t)run->features.width;
    s->samples = run->split.count[0];
    run->row = grdi_alloc_zero(width, sizeof(double));
    run->inputs = grdi_alloc_zero(batch * width, sizeof(float));
    run->targets = grdi_alloc_zero(batch, sizeof(float));
    return run->row && run->inputs && run->targets
               ? GRD_OK
               : grd_fail(s->error, GRD_E_MEMORY, "out of memory for a batch of rows");
}

static grd_status start(grdi_session *s)
{
    (void)s;
    return GRD_OK;
}

/* Which row stands at a position of the run. */
static int64_t row_at(const grdi_session *s, int64_t position)
{
    int64_t count = s->table->split.count[0];
    uint64_t epoch = (uint64_t)(position / count), seed = (uint64_t)s->settings->train.seed;
    if (s->settings->data.order == GRD_ORDER_SEQUENTIAL) return s->table->split.rows[0][position % count];
    uint64_t stream = grdi_hash_text("table/order");
    uint64_t key = (uint64_t)grdi_random_u32(seed, epoch, stream, 0) << 32 | grdi_random_u32(seed, epoch, stream, 1);
    return s->table->split.rows[0][grdi_permute(key, (uint64_t)count, (uint64_t)(position % count))];
}

static grd_status feed(grdi_session *s, int64_t micro)
{
    grdi_table_run *run = s->table;
    const grdi_features *f = &run->features;
    int64_t batch = s->settings->train.batch, first = (grdi_session_next_batch(s) + micro) * batch;
    for (int64_t b = 0; b < batch; b++) {
        int64_t row = row_at(s, first + b);
        grdi_features_row(f, &run->binding, run->table, row, run->row);
        for (int64_t i = 0; i < f->width; i++) run->inputs[b * f->width + i] = (float)run->row[i];
        double is = grdi_target_value(&run->target, run->table, row);
        if (f->class_count) ((int32_t *)run->targets)[b] = (int32_t)is;
        else ((float *)run->targets)[b] = (float)((is - f->target_mean) / f->target_deviation);
    }
    s->last_inputs = run->inputs;
    grdi_session_feed_key(s, micro);
    grd_status status = grd_step_feed(s->step, run->x, run->inputs);
    return status ? status : grd_step_feed(s->step, run->y, run->targets);
}

static void count(const grdi_session *s, grd_event *event)
{
    event->samples = s->settings->train.batch * s->settings->train.accumulate;
    event->unit = "rows";
}

/* Of the exact solution: what the weights of the model, which are f32, are rounded from. */
static void declare_solution(grdi_session *s)
{
    int64_t outputs = grdi_tabular_outputs(&s->table->features);
    grd_scope_push(s->graph, "solution");
    grd_state(s->graph, "weight", GRD_F64, grd_shape(outputs, s->table->features.width));
    grd_state(s->graph, "bias", GRD_F64, grd_shape(outputs));
    grd_scope_pop(s->graph);
}

static grd_tensor loss(grdi_session *s)
{
    grdi_table_run *run = s->table;
    const grdi_features *f = &run->features;
    int64_t batch = s->settings->train.batch;
    bool classes = f->class_count > 0;
    if (grdi_table_solves(s->settings)) declare_solution(s);
    run->x = grd_input(s->graph, "x", GRD_F32, grd_shape(batch, f->width));
    run->y = grd_input(s->graph, "y", classes ? GRD_I32 : GRD_F32, grd_shape(batch));
    s->ids = run->x;
    s->targets = run->y;
    grd_tensor out = grdi_tabular_graph(s->settings, f, run->x, grdi_session_dropout_key(s)), mean;
    if (!classes) {
        mean = grd_mean(grd_square(grd_sub(grd_reshape(out, grd_shape(batch)), run->y)));
    } else {
        if (f->class_count == 2) out = grd_concat((grd_tensor[]){grd_zeros_like(out), out}, 2, 1);
        mean = grd_cross_entropy_mean(out, run->y, .label_smoothing = s->settings->train.label_smoothing);
    }
    return grd_mul_scalar(mean, 1.0 / (double)s->settings->train.accumulate);
}

static grd_status build_evaluation(grdi_session *s)
{
    grdi_table_run *run = s->table;
    grd_status status =
        grdi_tabular_open(&run->evaluation, s->model, s->settings, &run->features, run->table, s->error);
    s->eval = run->evaluation.program;
    s->eval_ids = run->evaluation.x;
    s->eval_output = run->evaluation.y;
    s->eval_graph = grd_tensor_graph(s->eval_ids);
    return status;
}

static bool can_evaluate(const grdi_session *s)
{
    return s->table->split.count[1] > 0;
}

static grd_status evaluate(grdi_session *s, int64_t most, grd_event *event)
{
    (void)most;
    *event = (grd_event){.step = s->done};
    return grdi_tabular_score(&s->table->evaluation, &s->table->target, s->table->split.rows[1],
                              s->table->split.count[1], &s->table->seen, s->options->stop, event, s->error);
}

static grd_status add_weights(grdi_session *s, grdi_checkpoint_writer *w)
{
    const grdi_features *f = &s->table->features;
    const grdi_classifier_about about = {.classes = f->class_count, .names = f->classes};
    json_t *json = grdi_features_json(f);
    grd_status status = json ? grdi_checkpoint_add_json(w, "table.json", json)
                             : grd_fail(s->error, GRD_E_MEMORY, "table.json: out of memory");
    json_decref(json);
    return status ? status : grdi_classifier_add_weights(s->model, s->settings, &about, w, s->error);
}

static void report(const grdi_session *s, grdi_writer *w)
{
    if (s->table) grdi_report_table(w, s->table);
}

static void close_table(grdi_session *s)
{
    grdi_table_run *run = s->table;
    if (!run) return;
    grdi_tabular_close(&run->evaluation);
    grd_classification_free(&run->seen.classes);
    grdi_binding_free(&run->binding);
    grdi_target_free(&run->target);
    grdi_features_free(&run->features);
    grd_table_free(run->table);
    grdi_split_free(&run->split);
    grdi_free(run->row);
    grdi_free(run->inputs);
    grdi_free(run->targets);
    grdi_free(run);
}

static void expect(const grdi_session *s, grdi_expected *expected)
{
    long long classes = (long long)s->table->features.class_count;
    expected->loss = classes ? log((double)classes) : 1;
    if (classes) snprintf(expected->text, sizeof(expected->text), "ln %lld (classes)", classes);
    else snprintf(expected->text, sizeof(expected->text), "the variance of the standardised target");
}

const grdi_task grdi_task_table = {.open = grdi_table_open_data,
                                   .make_batches = make_batches,
                                   .start = start,
                                   .solves = solves,
                                   .solve = grdi_table_solve,
                                   .loss = loss,
                                   .build_evaluation = build_evaluation,
                                   .feed = feed,
                                   .count = count,
                                   .can_evaluate = can_evaluate,
                                   .evaluate = evaluate,
                                   .add_weights = add_weights,
                                   .read_weights = grdi_task_read_by_name,
                                   .expect = expect,
                                   .report = report,
                                   .close = close_table};
