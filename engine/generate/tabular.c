/* tabular.c - models of tables: what they say of rows, and how right that is. */
#include "generate/tabular.h"

#include <gradus/ops.h>

#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "generate/classifier.h"
#include "generate/figures.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { TABLE_JSON_BYTES_MAX = 64 << 20 };

int64_t grdi_tabular_outputs(const grdi_features *features)
{
    return features->class_count > 2 ? features->class_count : 1;
}

grd_tensor grdi_tabular_graph(const grd_settings *settings, const grdi_features *features, grd_tensor x, grd_tensor key)
{
    int64_t outputs = grdi_tabular_outputs(features);
    const grd_drop drop = {settings->model.gpt.dropout, key};
    if (settings->model.kind == GRD_MODEL_MLP) return grdi_mlp_values(settings, x, outputs, &drop);
    return grd_linear(x, "head", outputs, .zero_init = true);
}

grd_row_split grdi_tabular_split_kind(const grd_settings *settings, int64_t class_count)
{
    if (settings->data.split != GRD_SPLIT_AUTO) return (grd_row_split)settings->data.split;
    if (settings->data.group) return GRD_SPLIT_GROUPED;
    if (settings->data.time) return GRD_SPLIT_TIME;
    return class_count ? GRD_SPLIT_STRATIFIED : GRD_SPLIT_RANDOM;
}

grd_status grdi_tabular_split(const grd_table *table, const grdi_target *target, const grd_settings *settings,
                              int64_t class_count, double part, grdi_split *split, grd_error *error)
{
    static const grdi_split_kind kinds[] = {[GRD_SPLIT_STRATIFIED] = GRDI_SPLIT_STRATIFIED,
                                            [GRD_SPLIT_GROUPED] = GRDI_SPLIT_GROUPED,
                                            [GRD_SPLIT_TIME] = GRDI_SPLIT_TIME};
    grdi_split_options options = {.kind = kinds[grdi_tabular_split_kind(settings, class_count)],
                                  .class_count = class_count,
                                  .part = part,
                                  .seed = (uint64_t)settings->train.seed};
    grd_status status = GRD_OK;
    if (options.kind == GRDI_SPLIT_STRATIFIED && !class_count)
        return grd_fail(error, GRD_E_ARGUMENT, "data.split: stratified is for classes, and the target is a number");
    if (options.kind == GRDI_SPLIT_GROUPED && part > 0)
        status = grd_table_need(table, settings->data.group, "data.group", &options.column, error);
    if (options.kind == GRDI_SPLIT_TIME && part > 0)
        status = grd_table_need(table, settings->data.time, "data.time", &options.column, error);
    return status ? status : grdi_table_split(table, target, &options, split, error);
}

static grd_status out_of_memory(grd_error *error)
{
    return grd_fail(error, GRD_E_MEMORY, "out of memory for rows of a table");
}

grd_status grdi_tabular_open(grdi_tabular *t, grd_model *model, const grd_settings *settings,
                             const grdi_features *features, grd_table *table, grd_error *error)
{
    grd_graph *graph = grd_graph_new(model);
    t->features = features;
    t->table = table;
    t->batch = settings->train.batch;
    t->outputs = grdi_tabular_outputs(features);
    t->x = grd_input(graph, "x", GRD_F32, grd_shape(t->batch, features->width));
    t->y = grdi_tabular_graph(settings, features, t->x, (grd_tensor){NULL, 0});
    t->program = grd_program_new(&t->y, 1);
    const grd_error *e = grd_graph_error(graph);
    if (!t->program) return grd_fail(error, e->status ? e->status : GRD_E_MEMORY, "%s", e->message);
    t->inputs = grdi_alloc_zero((size_t)(t->batch * features->width), sizeof(float));
    t->values = grdi_alloc_zero((size_t)(t->batch * t->outputs), sizeof(float));
    t->row = grdi_alloc_zero((size_t)features->width, sizeof(double));
    if (!t->inputs || !t->values || !t->row) return out_of_memory(error);
    return grdi_features_bind(features, table, &t->binding, error);
}

grd_status grdi_tabular_run(grdi_tabular *t, const int64_t *rows, int64_t count, grd_error *error)
{
    int64_t width = t->features->width;
    for (int64_t i = 0; i < count; i++) {
        grdi_features_row(t->features, &t->binding, t->table, rows[i], t->row);
        for (int64_t k = 0; k < width; k++) t->inputs[i * width + k] = (float)t->row[k];
    }
    grd_program_feed(t->program, t->x, t->inputs);
    grd_status status = grd_program_run(t->program);
    if (!status) status = grd_program_read(t->program, t->y, t->values);
    return status ? grd_fail(error, status, "%s", grd_program_error(t->program)->message) : GRD_OK;
}

double grdi_tabular_said(const grdi_tabular *t, int64_t index, double *probability, double *second)
{
    const float *z = t->values + index * t->outputs;
    *probability = NAN;
    if (t->features->class_count == 0) return (double)z[0] * t->features->target_deviation + t->features->target_mean;
    if (t->outputs == 1) {
        double p = 1 / (1 + exp(-(double)z[0]));
        if (second) *second = p;
        *probability = fmax(p, 1 / (1 + exp((double)z[0])));
        return z[0] > 0;
    }
    int64_t best = 0;
    double sum = 0;
    for (int64_t k = 1; k < t->outputs; k++)
        if (z[k] > z[best]) best = k;
    for (int64_t k = 0; k < t->outputs; k++) sum += exp((double)z[k] - (double)z[best]);
    *probability = 1 / sum;
    return (double)best;
}

void grdi_tabular_close(grdi_tabular *t)
{
    grdi_binding_free(&t->binding);
    grdi_free(t->inputs);
    grdi_free(t->values);
    grdi_free(t->row);
}

/* ---- how right it is ---- */

/* Of two classes: what was said of a row, and whether it is of the second. */
typedef struct ranked {
    double probability;
    bool second;
} ranked;

typedef struct sums {
    int64_t rows, right;
    double nats, squares, absolutes, sum, square_sum, from_mean, shift;
    int64_t *said, *are, *both; /* by class */
    ranked *ranked;             /* [rows]; NULL but for two classes */
} sums;

static int by_probability(const void *a, const void *b)
{
    double x = ((const ranked *)a)->probability, y = ((const ranked *)b)->probability;
    return x < y ? -1 : x > y;
}

/* The area under the ROC curve: how often a row of the second class is ranked above one of the first, ties half. */
static double area(ranked *r, int64_t count)
{
    double above = 0, firsts = 0, seconds = 0;
    qsort(r, (size_t)count, sizeof(*r), by_probability);
    for (int64_t i = 0; i < count;) {
        int64_t end = i;
        double first = 0, second = 0;
        for (; end < count && r[end].probability == r[i].probability; end++) r[end].second ? second++ : first++;
        above += second * (firsts + 0.5 * first);
        firsts += first, seconds += second;
        i = end;
    }
    return above / (firsts * seconds);
}

/* Of two classes that of the second; of more the mean over those that were said or are there. */
static double f1(const sums *s, int64_t classes)
{
    double sum = 0;
    int64_t count = 0;
    for (int64_t c = classes == 2; c < classes; c++) {
        if (s->said[c] + s->are[c] == 0) continue;
        sum += 2.0 * (double)s->both[c] / (double)(s->said[c] + s->are[c]);
        count++;
    }
    return count ? sum / (double)count : NAN;
}

static void count_number(const grdi_tabular *t, sums *s, double said, double is)
{
    double error = said - is, from = is - t->features->target_mean;
    s->squares += error * error;
    s->absolutes += fabs(error);
    s->sum += from;
    s->square_sum += from * from;
}

static void count_class(const grdi_tabular *t, sums *s, int64_t index, double said, double second, double is)
{
    const float *z = t->values + index * t->outputs;
    int64_t label = (int64_t)is;
    double own = (double)z[t->outputs == 1 ? 0 : label], sum = 0, most = own;
    s->right += said == is;
    s->said[(int64_t)said]++;
    s->are[label]++;
    s->both[label] += said == is;
    if (t->outputs == 1) {
        double margin = label ? -own : own;
        s->nats += fmax(margin, 0) + log1p(exp(-fabs(margin)));
        s->ranked[s->rows] = (ranked){second, label == 1};
        return;
    }
    for (int64_t k = 0; k < t->outputs; k++) most = fmax(most, (double)z[k]);
    for (int64_t k = 0; k < t->outputs; k++) sum += exp((double)z[k] - most);
    s->nats += most + log(sum) - own;
}

static void fill_event(const grdi_tabular *t, sums *s, grd_event *event)
{
    double rows = (double)s->rows;
    event->samples = s->rows;
    event->unit = "rows";
    event->part = 1;
    event->bits_per_byte = event->persistence_rmse = event->seasonal_rmse = event->accuracy = NAN;
    event->figure_count = 0;
    if (t->features->class_count == 0) {
        double deviation = t->features->target_deviation, spread = s->square_sum - s->sum * s->sum / rows;
        event->regression = true;
        event->rmse = sqrt(s->squares / rows);
        event->mae = s->absolutes / rows;
        event->loss = s->squares / rows / (deviation * deviation);
        grdi_event_figure(event, "r2", 1 - s->squares / spread);
        grdi_event_figure(event, "baseline_rmse", sqrt(s->square_sum / rows));
        return;
    }
    event->loss = s->nats / rows;
    event->accuracy = (double)s->right / rows;
    grdi_event_figure(event, "baseline_accuracy", (double)s->are[t->features->majority] / rows);
    grdi_event_figure(event, "f1", f1(s, t->features->class_count));
    if (s->ranked) grdi_event_figure(event, "auc", area(s->ranked, s->rows));
}

/* ---- for people to look at ---- */

enum { CLASSES_SEEN_MOST = 1000 };

static grd_status begin_seeing(const grdi_tabular *t, grdi_tabular_seen *seen, grd_error *error)
{
    int64_t classes = t->features->class_count;
    seen->worst_count = seen->drawn_count = 0;
    if (classes == 0 || classes > CLASSES_SEEN_MOST) return GRD_OK;
    return grd_classification_begin(&seen->classes, classes, (const char *const *)t->features->classes, error);
}

static double distance(grdi_row_said r)
{
    double d = fabs(r.said - r.is);
    return isfinite(d) ? d : INFINITY;
}

/* The worst stand in their order, so a new one finds its place from the end. */
static void see_number(grdi_tabular_seen *seen, grdi_row_said r, bool drawn)
{
    if (drawn && seen->drawn_count < GRDI_DRAWN_ROWS) seen->drawn[seen->drawn_count++] = r;
    int32_t at = seen->worst_count < GRDI_WORST_ROWS ? seen->worst_count++ : GRDI_WORST_ROWS;
    if (at == GRDI_WORST_ROWS && distance(seen->worst[--at]) >= distance(r)) return;
    for (; at > 0 && distance(seen->worst[at - 1]) < distance(r); at--) seen->worst[at] = seen->worst[at - 1];
    seen->worst[at] = r;
}

static void see(const grdi_tabular *t, grdi_tabular_seen *seen, int64_t index, grdi_row_said r, bool drawn)
{
    const float *z = t->values + index * t->outputs, of_two[] = {0, z[0]};
    if (t->features->class_count == 0) see_number(seen, r, drawn);
    else if (seen->classes.classes)
        grd_classification_add(&seen->classes, r.row, (int32_t)r.is, t->outputs == 1 ? of_two : z);
}

static grd_status score(grdi_tabular *t, const grdi_target *target, const int64_t *rows, int64_t count, sums *s,
                        grdi_tabular_seen *seen, const volatile int *stop, grd_error *error)
{
    int64_t every = (count + GRDI_DRAWN_ROWS - 1) / GRDI_DRAWN_ROWS;
    for (int64_t first = 0; first < count && !(stop && *stop); first += t->batch) {
        int64_t here = count - first < t->batch ? count - first : t->batch;
        grd_status status = grdi_tabular_run(t, rows + first, here, error);
        if (status) return status;
        for (int64_t i = 0; i < here; i++) {
            double is = grdi_target_value(target, t->table, rows[first + i]), probability, second = 0;
            if (isnan(is)) continue;
            double said = grdi_tabular_said(t, i, &probability, &second);
            if (t->features->class_count == 0) count_number(t, s, said, is);
            else count_class(t, s, i, said, second, is);
            if (seen)
                see(t, seen, i, (grdi_row_said){rows[first + i], is, said}, (first + i) % (every ? every : 1) == 0);
            s->rows++;
        }
    }
    return GRD_OK;
}

grd_status grdi_tabular_score(grdi_tabular *t, const grdi_target *target, const int64_t *rows, int64_t count,
                              grdi_tabular_seen *seen, const volatile int *stop, grd_event *event, grd_error *error)
{
    size_t classes = (size_t)t->features->class_count;
    int64_t *counts = grdi_alloc_zero(3 * classes + 1, sizeof(*counts));
    sums s = {.said = counts, .are = counts + classes, .both = counts + 2 * classes};
    if (classes == 2) s.ranked = grdi_alloc((size_t)count * sizeof(*s.ranked) + 1);
    grd_status status = counts && (classes != 2 || s.ranked) ? GRD_OK : out_of_memory(error);
    event->kind = GRD_EVENT_EVAL;
    event->part = 0;
    if (!status && seen) status = begin_seeing(t, seen, error);
    if (!status) status = score(t, target, rows, count, &s, seen, stop, error);
    if (!status && s.rows == 0)
        status = grd_fail(error, GRD_E_FORMAT, "column '%.100s': no row has a target that the model knows",
                          t->features->target);
    if (!status && !(stop && *stop)) fill_event(t, &s, event);
    grdi_free(counts);
    grdi_free(s.ranked);
    return status;
}

/* ---- files ---- */

grd_status grdi_tabular_read_features(const char *folder, grdi_features *features, grd_error *error)
{
    char *path = grdi_path_join(folder, "table.json");
    if (!path) return out_of_memory(error);
    json_t *json = grd_json_read(path, TABLE_JSON_BYTES_MAX, error);
    grd_status status = json ? grdi_features_read(features, json, path, error) : error->status;
    json_decref(json);
    grdi_free(path);
    return status;
}
