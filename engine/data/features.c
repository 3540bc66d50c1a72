/* features.c - finds out from the training part how columns become features. */
#include "data/features.h"

#include "base/memory.h"
#include "data/cell.h"
#include "data/table.h"

#include <ctype.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define SECONDS_A_DAY 86400.0

typedef struct fitting {
    grdi_features *features;
    const grdi_features_options *options;
    grd_error *error;
} fitting;

static grd_status out_of_memory(grd_error *error)
{
    return grd_fail(error, GRD_E_MEMORY, "out of memory for the features of a table");
}

static void note(const fitting *f, const char *format, ...) GRD_PRINTF(2, 3);

static void note(const fitting *f, const char *format, ...)
{
    char text[GRD_MESSAGE_MAX];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof(text), format, list);
    va_end(list);
    if (f->options->note) f->options->note(f->options->context, text);
}

static bool is_named(char *const *names, int count, const char *name)
{
    for (int i = 0; i < count; i++)
        if (strcmp(names[i], name) == 0) return true;
    return false;
}

static double value_at(const grd_table *table, int64_t column, int64_t row, grd_column_kind kind)
{
    double value = grd_table_number(table, column, row);
    return kind == GRD_COLUMN_TIME ? value / SECONDS_A_DAY : value;
}

/* ---- numbers and times ---- */

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Whether all whole numbers of the training part differ from each other. */
static bool all_differ(const fitting *f, int64_t column, bool *differ)
{
    const grdi_features_options *o = f->options;
    double *values = grdi_alloc((size_t)o->row_count * sizeof(double) + 1);
    if (!values) return false;
    for (int64_t i = 0; i < o->row_count; i++) {
        double v = grd_table_number(o->table, column, o->rows[i]);
        values[i] = isnan(v) ? INFINITY : v;
    }
    qsort(values, (size_t)o->row_count, sizeof(double), by_value);
    *differ = true;
    for (int64_t i = 1; i < o->row_count && *differ; i++) *differ = values[i] != values[i - 1];
    grdi_free(values);
    return true;
}

/* "id", "PassengerId", "customer_id", "index", ... */
static bool sounds_like_id(const char *name)
{
    static const char *const whole[] = {"id", "index", "idx", "key", "uuid", "guid", "row", "rownum", "rownames"};
    char lower[64];
    size_t length = strlen(name);
    if (length == 0 || length >= sizeof(lower)) return false;
    for (size_t i = 0; i <= length; i++) lower[i] = (char)tolower((unsigned char)name[i]);
    for (size_t i = 0; i < sizeof(whole) / sizeof(whole[0]); i++)
        if (strcmp(lower, whole[i]) == 0) return true;
    if (strncmp(name, "column", 6) == 0 && isdigit((unsigned char)name[6])) return true; /* had no name */
    if (length < 3) return false;
    const char *end = name + length - 2;
    bool apart = end[-1] == '_' || end[-1] == ' ' || end[-1] == '-' || end[-1] == '.';
    return strcmp(end, "Id") == 0 || strcmp(end, "ID") == 0 || (apart && strcmp(end, "id") == 0);
}

/* Mean and deviation in two passes, which lose no digits where values lie far from 0. */
static grd_status fit_number(fitting *f, grdi_feature_column *c, int64_t column, bool *taken)
{
    const grdi_features_options *o = f->options;
    int64_t filled = 0;
    double sum = 0, squares = 0, rest = 0;
    for (int64_t i = 0; i < o->row_count; i++) {
        double v = value_at(o->table, column, o->rows[i], c->kind);
        if (!isnan(v)) sum += v, filled++;
    }
    c->mean = filled ? sum / (double)filled : 0;
    for (int64_t i = 0; i < o->row_count; i++) {
        double v = value_at(o->table, column, o->rows[i], c->kind) - c->mean;
        if (!isnan(v)) squares += v * v, rest += v;
    }
    c->deviation = filled ? sqrt(squares / (double)filled) : 0;
    c->mean += filled ? rest / (double)filled : 0;
    c->missing = filled < o->row_count;
    *taken = false;
    if (filled == 0) note(f, "column '%.100s': has no value in the training part: left out", c->name);
    else if (c->deviation <= 1e-13 * fabs(c->mean) || c->deviation == 0) {
        if (c->missing) {
            c->deviation = 1;
            *taken = true;
        } else note(f, "column '%.100s': is %g in every row of the training part: left out", c->name, c->mean);
    } else *taken = true;
    c->count = 1 + c->missing;
    if (*taken && c->missing)
        note(f,
             "column '%.100s': %lld of %lld values are missing: taken as their mean, %g, with a further feature that "
             "is 1 "
             "there",
             c->name, (long long)(o->row_count - filled), (long long)o->row_count, c->mean);
    if (*taken && c->kind == GRD_COLUMN_TIME)
        note(f, "column '%.100s': times are taken as days since 1970-01-01", c->name);
    return GRD_OK;
}

/* ---- categories ---- */

typedef struct tally {
    int64_t count;
    int32_t category; /* -1: no value */
} tally;

static int by_count(const void *a, const void *b)
{
    const tally *x = a, *y = b;
    if (x->count != y->count) return x->count > y->count ? -1 : 1;
    return x->category < y->category ? -1 : x->category > y->category;
}

static int by_category(const void *a, const void *b)
{
    const tally *x = a, *y = b;
    return x->category < y->category ? -1 : x->category > y->category;
}

/* How often each category comes in the training part; those that do, the most frequent first. */
static tally *count_categories(const fitting *f, int64_t column, int64_t categories, int64_t *met)
{
    const grdi_features_options *o = f->options;
    tally *t = grdi_alloc_zero((size_t)categories + 1, sizeof(*t));
    if (!t) return NULL;
    for (int64_t i = 0; i <= categories; i++) t[i].category = (int32_t)i - 1;
    for (int64_t i = 0; i < o->row_count; i++) t[grd_table_category(o->table, column, o->rows[i]) + 1].count++;
    qsort(t, (size_t)categories + 1, sizeof(*t), by_count);
    for (*met = 0; *met <= categories && t[*met].count > 0;) ++*met;
    return t;
}

static grd_status keep_categories(const fitting *f, grdi_feature_column *c, int64_t column, const tally *t,
                                  int64_t count)
{
    c->categories = grdi_alloc_zero((size_t)count, sizeof(char *));
    if (!c->categories) return out_of_memory(f->error);
    for (int64_t i = 0; i < count; i++) {
        char *name =
            grdi_strdup(t[i].category < 0 ? "" : grd_table_category_name(f->options->table, column, t[i].category));
        if (!name) return out_of_memory(f->error);
        if (i == 0 && f->options->reference) c->reference = name;
        else c->categories[c->category_count++] = name;
    }
    c->count = c->category_count + c->other;
    return GRD_OK;
}

enum { FEW_CATEGORIES = 20 };

static grd_status fit_category(fitting *f, grdi_feature_column *c, int64_t column, bool *taken)
{
    const grdi_features_options *o = f->options;
    int64_t met;
    tally *t = count_categories(f, column, grd_table_column(o->table, column).categories, &met);
    if (!t) return out_of_memory(f->error);
    bool forced = is_named(o->only, o->only_count, c->name);
    int64_t kept = met < GRDI_CATEGORY_FEATURES_MAX ? met : GRDI_CATEGORY_FEATURES_MAX;
    grd_status status = GRD_OK;
    *taken = false;
    if (met == 1) {
        note(f, "column '%.100s': is the same in every row of the training part: left out", c->name);
    } else if (!forced && met > FEW_CATEGORIES && 2 * met > o->row_count) {
        char beside[GRDI_BESIDE_MAX];
        note(f,
             "column '%.100s': %lld different texts in %lld rows, names or free text: left out (data.features takes it "
             "all the same)%s",
             c->name, (long long)met, (long long)o->row_count, grdi_column_beside(o->table, column, beside));
    } else {
        *taken = true;
        c->other = kept < met;
        qsort(t, (size_t)kept, sizeof(*t), by_category);
        status = keep_categories(f, c, column, t, kept);
        if (c->other)
            note(f,
                 "column '%.100s': %lld categories: the %lld most frequent have a feature each, the others one in "
                 "common",
                 c->name, (long long)met, (long long)kept);
    }
    grdi_free(t);
    return status;
}

/* ---- all columns ---- */

static void free_column(grdi_feature_column *c)
{
    for (int64_t i = 0; i < c->category_count; i++) grdi_free(c->categories[i]);
    grdi_free(c->categories);
    grdi_free(c->reference);
    grdi_free(c->name);
    *c = (grdi_feature_column){0};
}

static grd_status fit_column(fitting *f, int64_t column, const grd_column_info *info)
{
    grdi_features *features = f->features;
    grdi_feature_column *c = &features->columns[features->column_count];
    *c = (grdi_feature_column){.kind = info->kind, .day_first = info->day_first, .first = features->width};
    if (!(c->name = grdi_strdup(info->name))) return out_of_memory(f->error);
    bool forced = is_named(f->options->only, f->options->only_count, info->name), taken = false, differ = false;
    if (info->kind == GRD_COLUMN_NUMBER && info->whole && !forced && sounds_like_id(info->name) &&
        !all_differ(f, column, &differ)) {
        free_column(c);
        return out_of_memory(f->error);
    }
    grd_status status = GRD_OK;
    if (differ)
        note(f,
             "column '%.100s': a different whole number in each row, and its name is that of an ID: left out "
             "(data.features takes it all the same)",
             info->name);
    else
        status =
            info->kind == GRD_COLUMN_CATEGORY ? fit_category(f, c, column, &taken) : fit_number(f, c, column, &taken);
    if (status || !taken) {
        free_column(c);
        return status;
    }
    features->width += c->count;
    features->column_count++;
    return GRD_OK;
}

grd_status grdi_features_fit(grdi_features *features, const grdi_features_options *options, grd_error *error)
{
    fitting f = {features, options, error};
    int64_t columns = grd_table_about(options->table).columns;
    features->columns = grdi_alloc_zero((size_t)columns, sizeof(*features->columns));
    grd_status status = features->columns ? GRD_OK : out_of_memory(error);
    for (int64_t i = 0; i < columns && !status; i++) {
        grd_column_info info = grd_table_column(options->table, i);
        if (i == options->target || is_named(options->ignored, options->ignored_count, info.name)) continue;
        if (options->group && strcmp(options->group, info.name) == 0) continue;
        if (options->only_count && !is_named(options->only, options->only_count, info.name)) continue;
        if (info.kind == GRD_COLUMN_EMPTY) note(&f, "column '%.100s': is empty: left out", info.name);
        else if (info.kind == GRD_COLUMN_TEXT)
            note(&f, "column '%.100s': holds more than %d different texts: left out", info.name, GRDI_CATEGORIES_MAX);
        else status = fit_column(&f, i, &info);
    }
    if (status || features->width > 0) return status;
    return grd_fail(error, GRD_E_FORMAT, "%s: no column is left to learn from", options->table->path);
}

void grdi_features_free(grdi_features *features)
{
    for (int64_t i = 0; i < features->column_count; i++) free_column(&features->columns[i]);
    for (int64_t i = 0; i < features->class_count && features->classes; i++) grdi_free(features->classes[i]);
    grdi_free(features->columns);
    grdi_free(features->classes);
    grdi_free(features->target);
    *features = (grdi_features){0};
}

const grdi_feature_column *grdi_feature_column_of(const grdi_features *features, int64_t feature)
{
    const grdi_feature_column *c = features->columns;
    while (feature >= c->first + c->count) c++;
    return c;
}

char *grdi_feature_name(const grdi_features *features, int64_t feature, char *text, size_t text_bytes)
{
    const grdi_feature_column *c = grdi_feature_column_of(features, feature);
    int64_t at = feature - c->first;
    if (c->kind != GRD_COLUMN_CATEGORY) snprintf(text, text_bytes, "%s%s", c->name, at ? " (missing)" : "");
    else if (at == c->category_count) snprintf(text, text_bytes, "%s (other)", c->name);
    else snprintf(text, text_bytes, "%s%s%s", c->name, *c->categories[at] ? "=" : " (missing)", c->categories[at]);
    return text;
}

/* ---- rows ---- */

static bool is_number(const char *name)
{
    return grdi_cell_read(name, strlen(name), (grdi_cell_style){.comma = false}).kind == GRDI_CELL_NUMBER;
}

/* Whether names of categories are those of numbers in their shortest form (see grd_table_as_categories): then numbers
 * of another table are taken so as well, else as they are written there. */
static bool all_numbers(char *const *names, int64_t count, const char *one_more)
{
    bool all = !one_more || !*one_more || is_number(one_more);
    for (int64_t i = 0; i < count && all; i++) all = !*names[i] || is_number(names[i]);
    return all;
}

/* Which of the names a category has, or -1: that name, else a number of the same value. */
static int64_t find_name(char *const *names, int64_t count, const char *name)
{
    for (int64_t i = 0; i < count; i++)
        if (names[i] && strcmp(names[i], name) == 0) return i;
    for (int64_t i = 0; i < count && is_number(name); i++)
        if (names[i] && is_number(names[i]) && strtod(names[i], NULL) == strtod(name, NULL)) return i;
    return -1;
}

grd_status grdi_features_open_table(const grdi_features *features, const char *path, bool with_target,
                                    grd_table **table, grd_error *error)
{
    grd_column_expected *expected = grdi_alloc_zero((size_t)features->column_count + 1, sizeof(*expected));
    if (!expected) return out_of_memory(error);
    for (int64_t i = 0; i < features->column_count; i++) {
        const grdi_feature_column *c = &features->columns[i];
        bool numbers = c->kind != GRD_COLUMN_CATEGORY || all_numbers(c->categories, c->category_count, c->reference);
        expected[i] = (grd_column_expected){c->name, c->kind, c->day_first, !numbers};
    }
    grd_table_options options = {sizeof(options), expected, (int32_t)features->column_count};
    if (with_target) {
        bool numbers = all_numbers(features->classes, features->class_count, NULL);
        grd_column_kind kind = features->class_count ? GRD_COLUMN_CATEGORY : GRD_COLUMN_NUMBER;
        expected[options.expected_count++] = (grd_column_expected){features->target, kind, false, !numbers};
    }
    grd_status status = grd_table_open(path, &options, table, error);
    grdi_free(expected);
    for (int64_t i = 0; i < features->column_count && !status; i++) {
        const grdi_feature_column *c = &features->columns[i];
        int64_t column = grd_table_find(*table, c->name);
        if (c->kind == GRD_COLUMN_CATEGORY && column >= 0) status = grd_table_as_categories(*table, column, error);
    }
    return status;
}

/* Which feature a category has. */
static int32_t feature_of(const grdi_feature_column *c, const char *name)
{
    int64_t exact = -1, at = find_name(c->categories, c->category_count, name);
    if (at >= 0) exact = strcmp(c->categories[at], name) == 0 ? at : -1;
    if (exact < 0 && find_name(&c->reference, 1, name) == 0) return -1;
    if (at >= 0) return (int32_t)(c->first + at);
    return c->other ? (int32_t)(c->first + c->category_count) : -2;
}

static grd_status bind_column(const grdi_feature_column *c, const grd_table *table, grdi_binding *b, int64_t i,
                              grd_error *error)
{
    grd_status status = grd_table_need(table, c->name, "the model's columns", &b->columns[i], error);
    if (status || c->kind != GRD_COLUMN_CATEGORY) return status;
    int64_t count = grd_table_column(table, b->columns[i]).categories;
    b->features[i] = grdi_alloc_zero((size_t)count + 1, sizeof(int32_t));
    if (!b->features[i]) return out_of_memory(error);
    for (int64_t k = 0; k < count; k++)
        b->features[i][k] = feature_of(c, grd_table_category_name(table, b->columns[i], (int32_t)k));
    b->missing[i] = feature_of(c, "");
    return GRD_OK;
}

grd_status grdi_features_bind(const grdi_features *features, const grd_table *table, grdi_binding *b, grd_error *error)
{
    size_t count = (size_t)features->column_count;
    b->columns = grdi_alloc_zero(count, sizeof(*b->columns));
    b->features = grdi_alloc_zero(count, sizeof(*b->features));
    b->missing = grdi_alloc_zero(count, sizeof(*b->missing));
    b->unseen = grdi_alloc_zero(count, sizeof(*b->unseen));
    b->column_count = features->column_count;
    if (!b->columns || !b->features || !b->missing || !b->unseen) return out_of_memory(error);
    grd_status status = GRD_OK;
    for (int64_t i = 0; i < features->column_count && !status; i++)
        status = bind_column(&features->columns[i], table, b, i, error);
    return status;
}

grd_status grdi_features_bind_target(const grdi_features *features, grd_table *table, grdi_target *target,
                                     grd_error *error)
{
    grd_status status = grd_table_need(table, features->target, "the target", &target->column, error);
    if (status) return status;
    grd_column_info info = grd_table_column(table, target->column);
    if (features->class_count == 0) {
        if (info.kind == GRD_COLUMN_NUMBER) return GRD_OK;
        return grd_fail(error, GRD_E_FORMAT, "%s: column '%.100s' holds no numbers, which the model predicts",
                        table->path, info.name);
    }
    status = grd_table_as_categories(table, target->column, error);
    if (status) return status;
    int64_t count = grd_table_column(table, target->column).categories;
    target->classes = grdi_alloc_zero((size_t)count + 1, sizeof(int32_t));
    if (!target->classes) return out_of_memory(error);
    for (int64_t k = 0; k < count; k++) {
        const char *name = grd_table_category_name(table, target->column, (int32_t)k);
        target->classes[k] = (int32_t)find_name(features->classes, features->class_count, name);
        if (target->classes[k] < 0)
            return grd_fail(error, GRD_E_FORMAT,
                            "%s: column '%.100s': '%.100s' is a class that the model was not trained on (take these "
                            "rows out)",
                            table->path, info.name, name);
    }
    return GRD_OK;
}

double grdi_target_value(const grdi_target *target, const grd_table *table, int64_t row)
{
    if (!target->classes) return grd_table_number(table, target->column, row);
    int32_t category = grd_table_category(table, target->column, row);
    return category < 0 || target->classes[category] < 0 ? NAN : (double)target->classes[category];
}

void grdi_target_free(grdi_target *target)
{
    grdi_free(target->classes);
    target->classes = NULL;
}

void grdi_binding_free(grdi_binding *b)
{
    for (int64_t i = 0; i < b->column_count && b->features; i++) grdi_free(b->features[i]);
    grdi_free(b->columns);
    grdi_free(b->features);
    grdi_free(b->missing);
    grdi_free(b->unseen);
    *b = (grdi_binding){0};
}

void grdi_features_row(const grdi_features *features, grdi_binding *b, const grd_table *table, int64_t row, double *x)
{
    memset(x, 0, (size_t)features->width * sizeof(*x));
    for (int64_t i = 0; i < features->column_count; i++) {
        const grdi_feature_column *c = &features->columns[i];
        if (c->kind == GRD_COLUMN_CATEGORY) {
            int32_t category = grd_table_category(table, b->columns[i], row);
            int32_t feature = category < 0 ? b->missing[i] : b->features[i][category];
            if (feature >= 0) x[feature] = 1;
            b->unseen[i] += feature == -2;
            continue;
        }
        double value = value_at(table, b->columns[i], row, c->kind);
        if (!isnan(value)) x[c->first] = (value - c->mean) / c->deviation;
        else if (c->missing) x[c->first + 1] = 1;
    }
}
