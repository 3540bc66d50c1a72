/* table_data.c - the table of a run: what its target is, which rows are held out, and the settings that follow. */
#include "train/table.h"

#include "base/memory.h"
#include "data/table.h"

#include <math.h>
#include <string.h>

enum { FEW_VALUES = 10, CLASSES_MAX = 1000 };

static grd_status out_of_memory(const grdi_session *s)
{
    return grd_fail(s->error, GRD_E_MEMORY, "%s: out of memory", s->settings->data.path);
}

static bool given(const grd_settings *settings, const char *path)
{
    return grdi_key_was_set(settings, grdi_key_find(path));
}

/* ---- the target ---- */

/* A few whole numbers that each come often stand for classes. */
static grd_status looks_like_classes(const grdi_session *s, int64_t column, bool *classes)
{
    const grd_table *table = s->table->table;
    grd_column_info info = grd_table_column(table, column);
    int64_t rows = grd_table_about(table).rows, count = 0;
    double values[FEW_VALUES + 1];
    *classes = false;
    if (!info.whole) return GRD_OK;
    for (int64_t row = 0; row < rows && count <= FEW_VALUES; row++) {
        double v = grd_table_number(table, column, row);
        bool known = isnan(v);
        for (int64_t k = 0; k < count && !known; k++) known = values[k] == v;
        if (!known) values[count++] = v;
    }
    *classes = count <= FEW_VALUES && 5 * count <= rows;
    return GRD_OK;
}

static grd_status decide_target(grdi_session *s, bool *classes)
{
    const grd_settings *settings = s->settings;
    grd_column_info info = grd_table_column(s->table->table, s->table->target.column);
    const char *path = settings->data.path, *kind = grd_model_kind_name(settings->model.kind);
    if (info.kind == GRD_COLUMN_EMPTY || info.kind == GRD_COLUMN_TEXT || info.kind == GRD_COLUMN_TIME)
        return grd_fail(s->error, GRD_E_ARGUMENT,
                        "data.target: column '%.100s' of %s %s (numbers or classes can be predicted)", info.name, path,
                        info.kind == GRD_COLUMN_EMPTY  ? "is empty"
                        : info.kind == GRD_COLUMN_TIME ? "holds times"
                                                       : "holds more than 65,535 different texts");
    grd_status status = looks_like_classes(s, s->table->target.column, classes);
    bool number = info.kind == GRD_COLUMN_NUMBER;
    if (settings->model.kind == GRD_MODEL_LINEAR && !number)
        return grd_fail(s->error, GRD_E_ARGUMENT,
                        "model.kind: linear predicts numbers, and column '%.100s' of %s holds texts "
                        "(set logistic or mlp)",
                        info.name, path);
    if (!number || settings->model.kind == GRD_MODEL_LOGISTIC) *classes = true;
    if (settings->model.kind == GRD_MODEL_LINEAR) *classes = false;
    if (!status && number && !given(settings, "model.kind"))
        grdi_session_note(s,
                          *classes
                              ? "target '%s': few different whole numbers: taken as classes (--model linear predicts a "
                                "number)"
                              : "target '%s': a number",
                          info.name);
    else if (!status && !number) grdi_session_note(s, "target '%s': texts: taken as classes", info.name);
    (void)kind;
    return status;
}

/* The classes that the rows have, in the order of their names or numbers. */
static grd_status take_classes(grdi_session *s)
{
    grdi_table_run *run = s->table;
    grdi_features *f = &run->features;
    int64_t column = run->target.column;
    grd_status status = grd_table_as_categories(run->table, column, s->error);
    if (status) return status;
    int64_t count = grd_table_column(run->table, column).categories;
    if (count < 2)
        return grd_fail(s->error, GRD_E_FORMAT,
                        "%s: column '%.100s' has only one value, '%.100s': there is nothing to learn",
                        s->settings->data.path, f->target, grd_table_category_name(run->table, column, 0));
    char beside[GRDI_BESIDE_MAX];
    if (count > CLASSES_MAX || 2 * count > grd_table_about(run->table).rows)
        return grd_fail(s->error, GRD_E_ARGUMENT,
                        "data.target: column '%.100s' of %s has %lld different values in %lld rows, too "
                        "many for classes%s",
                        f->target, s->settings->data.path, (long long)count,
                        (long long)grd_table_about(run->table).rows, grdi_column_beside(run->table, column, beside));
    f->classes = grdi_alloc_zero((size_t)count, sizeof(char *));
    for (int64_t c = 0; f->classes && c < count; c++, f->class_count++)
        if (!(f->classes[c] = grdi_strdup(grd_table_category_name(run->table, column, (int32_t)c))))
            return out_of_memory(s);
    s->settings->model.classes = count;
    return f->classes ? GRD_OK : out_of_memory(s);
}

/* ---- which rows ---- */

static grd_status split_rows(grdi_session *s)
{
    grdi_table_run *run = s->table;
    const grd_settings *settings = s->settings;
    grd_status status = grdi_tabular_split(run->table, &run->target, settings, run->features.class_count,
                                           settings->data.validation_part, &run->split, s->error);
    if (status) return status;
    if (run->split.without)
        grdi_session_note(s, "target '%s': %lld rows have none and are left out", run->features.target,
                          (long long)run->split.without);
    int64_t count = run->split.count[0];
    if (count >= 2) return GRD_OK;
    return grd_fail(s->error, GRD_E_FORMAT, "%s: %lld row%s with a target to learn from (at least 2 are needed)",
                    settings->data.path, (long long)count, count == 1 ? "" : "s");
}

/* What the target is like in the training part. */
static grd_status measure_target(grdi_session *s)
{
    grdi_table_run *run = s->table;
    grdi_features *f = &run->features;
    double sum = 0, squares = 0, count = (double)run->split.count[0];
    f->target_mean = 0, f->target_deviation = 1;
    if (f->class_count) {
        int64_t *counts = grdi_alloc_zero((size_t)f->class_count, sizeof(*counts));
        if (!counts) return out_of_memory(s);
        for (int64_t i = 0; i < run->split.count[0]; i++)
            counts[(int64_t)grdi_target_value(&run->target, run->table, run->split.rows[0][i])]++;
        for (int64_t c = 1; c < f->class_count; c++)
            if (counts[c] > counts[f->majority]) f->majority = c;
        grdi_free(counts);
        return GRD_OK;
    }
    for (int64_t i = 0; i < run->split.count[0]; i++)
        sum += grdi_target_value(&run->target, run->table, run->split.rows[0][i]);
    f->target_mean = sum / count;
    for (int64_t i = 0; i < run->split.count[0]; i++)
        squares += pow(grdi_target_value(&run->target, run->table, run->split.rows[0][i]) - f->target_mean, 2);
    f->target_deviation = sqrt(squares / count);
    if (f->target_deviation > 1e-13 * fabs(f->target_mean)) return GRD_OK;
    return grd_fail(s->error, GRD_E_FORMAT, "%s: column '%.100s' is %g in every row: there is nothing to learn",
                    s->settings->data.path, f->target, f->target_mean);
}

/* ---- settings ---- */

enum {
    MANY_ROWS = 2000,
    SOLVER_ITERATIONS = 1000,
    NETWORK_EPOCHS = 60,
    NETWORK_STEPS_LEAST = 500,
    SOLVER_ROWS = 65536,
    SOLVER_STEPS = 20
};

static void choose_model(grdi_session *s)
{
    grd_settings *settings = s->settings;
    int64_t rows = s->table->split.count[0];
    bool classes = s->table->features.class_count > 0, chosen = !given(settings, "model.kind");
    if (!chosen) return;
    settings->model.kind = rows >= MANY_ROWS ? GRD_MODEL_MLP : classes ? GRD_MODEL_LOGISTIC : GRD_MODEL_LINEAR;
    grdi_key_mark_set(settings, grdi_key_find("model.kind"));
    const char *name = grd_model_kind_name(settings->model.kind);
    if (rows >= MANY_ROWS)
        grdi_session_note(
            s, "model: %s, as %lld rows can tell more than straight lines do (--model %s is exact and can be read)",
            name, (long long)rows, classes ? "logistic" : "linear");
    else
        grdi_session_note(s, "model: %s, as %lld rows are few for a network (--model mlp trains one)", name,
                          (long long)rows);
}

/* How a network is trained that nobody gave settings for. */
static void choose_network(grd_settings *settings, int64_t rows, int64_t width)
{
    int64_t batch = rows / 50 < 16 ? 16 : rows / 50 > 256 ? 256 : rows / 50, epochs = NETWORK_EPOCHS;
    bool all_at_once = settings->train.optimizer == GRD_OPTIMIZER_LBFGS; /* and several iterations a step */
    if (all_at_once) batch = SOLVER_ROWS, epochs = SOLVER_STEPS;
    if (!given(settings, "train.batch")) settings->train.batch = batch < rows ? batch : rows;
    int64_t steps = epochs * rows / settings->train.batch;
    if (settings->train.steps == 0 && settings->train.minutes <= 0) {
        settings->train.steps = steps < NETWORK_STEPS_LEAST && !all_at_once ? NETWORK_STEPS_LEAST : steps;
        settings->train.minutes = 5;
    }
    bool hidden = settings->model.kind == GRD_MODEL_MLP;
    if (!given(settings, "model.width") && hidden) settings->model.gpt.width = width > 64 ? 128 : 64;
    if (!given(settings, "model.layers") && hidden) settings->model.gpt.layers = 2;
    if (!given(settings, "train.lr")) settings->train.lr = all_at_once ? 1 : 3e-3;
    if (!given(settings, "train.eval_every"))
        settings->train.eval_every = settings->train.steps > 10 ? settings->train.steps / 10 : 1;
}

static void choose_solver(grd_settings *settings, int64_t rows)
{
    bool exact = settings->model.kind == GRD_MODEL_LINEAR;
    if (!given(settings, "train.optimizer"))
        settings->train.optimizer = exact ? GRD_OPTIMIZER_EXACT : GRD_OPTIMIZER_LBFGS;
    if (!grdi_table_solves(settings)) return;
    if (exact) settings->train.steps = 1;
    else if (settings->train.steps == 0 && settings->train.minutes <= 0) settings->train.steps = SOLVER_ITERATIONS;
    settings->train.statistics_every = 0;
    if (!given(settings, "train.batch")) settings->train.batch = rows < 256 ? rows : 256;
}

static grd_status choose_settings(grdi_session *s)
{
    grd_settings *settings = s->settings;
    int64_t rows = s->table->split.count[0];
    if (settings->model.kind == GRD_MODEL_MLP) choose_network(settings, rows, s->table->features.width);
    else choose_solver(settings, rows);
    if (!grdi_table_solves(settings) && settings->model.kind != GRD_MODEL_MLP)
        choose_network(settings, rows, s->table->features.width);
    if (settings->train.batch > rows) settings->train.batch = rows;
    if (settings->train.precision == GRD_PRECISION_AUTO) settings->train.precision = GRD_PRECISION_F32;
    if (settings->train.l2 > 0 && !grdi_table_solves(settings))
        return grd_fail(s->error, GRD_E_ARGUMENT,
                        "train.l2: is for linear and logistic with their own solvers (set "
                        "train.weight_decay)");
    if (settings->train.label_smoothing > 0 && s->table->features.class_count == 0)
        return grd_fail(s->error, GRD_E_ARGUMENT,
                        "train.label_smoothing: is for classes, and '%.100s' is a number (leave it out)",
                        s->table->features.target);
    return GRD_OK;
}

/* ---- opening ---- */

static void take_note(void *context, const char *text)
{
    grdi_session_note(context, "%s", text);
}

/* Every name in the config must be one of the table's. */
static grd_status check_names(const grdi_session *s, char *const *names, int count, const char *key)
{
    int64_t column;
    grd_status status = GRD_OK;
    for (int i = 0; i < count && !status; i++) {
        status = grd_table_need(s->table->table, names[i], key, &column, s->error);
        if (!status && strcmp(names[i], s->settings->data.target) == 0)
            status = grd_fail(s->error, GRD_E_ARGUMENT, "%s: '%s' is the target", key, names[i]);
    }
    return status;
}

static grd_status check_columns(grdi_session *s)
{
    const grd_settings *settings = s->settings;
    grd_status status = check_names(s, settings->data.features, settings->data.feature_count, "data.features");
    if (!status) status = check_names(s, settings->data.ignore, settings->data.ignore_count, "data.ignore");
    if (!status) status = check_names(s, settings->data.categories, settings->data.category_count, "data.categories");
    if (!status && settings->data.group) status = check_names(s, &settings->data.group, 1, "data.group");
    if (!status && settings->data.time) status = check_names(s, &settings->data.time, 1, "data.time");
    for (int i = 0; i < settings->data.category_count && !status; i++)
        status = grd_table_as_categories(s->table->table, grd_table_find(s->table->table, settings->data.categories[i]),
                                         s->error);
    return status;
}

static grd_status fit_features(grdi_session *s)
{
    const grd_settings *settings = s->settings;
    grdi_table_run *run = s->table;
    const grdi_features_options options = {.table = run->table,
                                           .target = run->target.column,
                                           .rows = run->split.rows[0],
                                           .row_count = run->split.count[0],
                                           .reference = settings->model.kind != GRD_MODEL_MLP,
                                           .only = settings->data.features,
                                           .only_count = settings->data.feature_count,
                                           .ignored = settings->data.ignore,
                                           .ignored_count = settings->data.ignore_count,
                                           .group = settings->data.group,
                                           .note = take_note,
                                           .context = s};
    grd_status status = grdi_features_fit(&run->features, &options, s->error);
    if (!status) status = grdi_features_bind(&run->features, run->table, &run->binding, s->error);
    for (int64_t i = 0; i < run->features.column_count && !status; i++) {
        const grdi_feature_column *c = &run->features.columns[i];
        if (c->reference)
            grdi_session_note(s, "column '%.100s': coefficients are differences from '%.100s'", c->name,
                              *c->reference ? c->reference : "(missing)");
    }
    return status;
}

static grd_status take_target(grdi_session *s)
{
    grdi_table_run *run = s->table;
    bool classes = false;
    grd_status status =
        grd_table_need(run->table, s->settings->data.target, "data.target", &run->target.column, s->error);
    if (!status && !(run->features.target = grdi_strdup(s->settings->data.target))) status = out_of_memory(s);
    if (!status) status = decide_target(s, &classes);
    if (!status && classes) status = take_classes(s);
    if (!status) status = grdi_features_bind_target(&run->features, run->table, &run->target, s->error);
    if (!status) status = split_rows(s);
    return status ? status : measure_target(s);
}

static const char *how_split(const grdi_session *s, char *text, size_t size)
{
    const grd_settings *settings = s->settings;
    switch (grdi_tabular_split_kind(settings, s->table->features.class_count)) {
    case GRD_SPLIT_STRATIFIED: return ", as many of each class";
    case GRD_SPLIT_GROUPED: snprintf(text, size, ", each '%.100s' wholly here or there", settings->data.group); break;
    case GRD_SPLIT_TIME: snprintf(text, size, ", the last by '%.100s'", settings->data.time); break;
    default: return "";
    }
    return text;
}

grd_status grdi_table_open_data(grdi_session *s)
{
    grdi_table_run *run = s->table = grdi_alloc_zero(1, sizeof(*run));
    if (!run) return out_of_memory(s);
    grd_status status = grd_table_open(s->settings->data.path, NULL, &run->table, s->error);
    if (status) return status;
    grd_table_info info = grd_table_about(run->table);
    grdi_session_note(s, "data: %lld rows of %lld columns", (long long)info.rows, (long long)info.columns);
    char text[GRD_MESSAGE_MAX];
    for (int32_t i = 0; grd_table_note(run->table, i, text, sizeof(text)); i++) grdi_session_note(s, "%s", text);
    status = check_columns(s);
    if (!status) status = take_target(s);
    if (status) return status;
    choose_model(s);
    status = fit_features(s);
    if (!status) status = choose_settings(s);
    if (!status) status = grdi_session_add_source(s, s->settings->data.path, info.size_bytes, info.checksum);
    if (status) return status;
    char how[256];
    grdi_session_note(s, "features: %lld from %lld columns; %lld rows to learn from, %lld held out%s",
                      (long long)run->features.width, (long long)run->features.column_count,
                      (long long)run->split.count[0], (long long)run->split.count[1],
                      run->split.count[1] ? how_split(s, how, sizeof(how)) : "");
    return GRD_OK;
}
