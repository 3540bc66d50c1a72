/* check_table.c - tables and series: columns that say nothing or give the target away, rows that are there twice,
 * values that are missing or stand for something else, times out of order. */
#include "train/check_set.h"

#include <gradus/table.h>

#include "base/memory.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

typedef struct columns {
    grdi_checker *c;
    const grd_settings *settings;
    grd_table *table;
    int64_t rows, count, target; /* target: a column */
    int64_t *used;               /* [count]: columns that a model may learn from */
    double *x, *y;               /* [rows]: a column; the target */
    int64_t *order;              /* [rows] */
} columns;

static bool is_named(char *const *names, int count, const char *name)
{
    for (int i = 0; i < count; i++)
        if (strcmp(names[i], name) == 0) return true;
    return false;
}

static double cell(const grd_table *table, int64_t column, int64_t row)
{
    if (grd_table_column(table, column).kind != GRD_COLUMN_CATEGORY) return grd_table_number(table, column, row);
    int32_t category = grd_table_category(table, column, row);
    return category < 0 ? NAN : category;
}

static void read_column(const columns *z, int64_t column, double *to)
{
    for (int64_t i = 0; i < z->rows; i++) to[i] = cell(z->table, column, i);
}

static const char *name_of(const columns *z, int64_t column)
{
    return grd_table_column(z->table, column).name;
}

static grd_status out_of_memory(const grdi_checker *c)
{
    return grd_fail(c->error, GRD_E_MEMORY, "out of memory for a check of the table");
}

/* ---- columns ---- */

#define MISSING_MOST 0.5        /* of a column's cells */
#define TARGET_MISSING_MOST 0.1 /* of the rows */

static void check_missing(columns *z)
{
    double worst = 0, target = (double)grd_table_column(z->table, z->target).missing / (double)z->rows;
    int64_t column = -1;
    for (int64_t k = 0; k < z->count; k++) {
        double share = (double)grd_table_column(z->table, z->used[k]).missing / (double)z->rows;
        if (share > worst) worst = share, column = z->used[k];
    }
    grdi_check_result(z->c, "missing_values", worst <= MISSING_MOST && target <= TARGET_MISSING_MOST,
                      "look at where these values got lost, and at whether rows without them are worth having",
                      "target %s: %.1f%% of %lld rows without a value; of the other columns %s%s at most %.1f%%",
                      name_of(z, z->target), 100 * target, (long long)z->rows,
                      column >= 0 ? name_of(z, column) : "none", column >= 0 ? "," : ",", 100 * worst);
}

static bool is_constant(columns *z, int64_t column)
{
    double first = NAN;
    if (grd_table_column(z->table, column).kind == GRD_COLUMN_EMPTY) return true;
    if (grd_table_column(z->table, column).kind == GRD_COLUMN_TEXT) return false;
    for (int64_t i = 0; i < z->rows; i++) {
        double x = cell(z->table, column, i);
        if (isnan(x)) continue;
        if (isnan(first)) first = x;
        if (x != first) return false;
    }
    return grd_table_column(z->table, column).missing == 0;
}

static void check_constant(columns *z)
{
    int64_t constant = 0, first = -1;
    for (int64_t k = 0; k < z->count; k++)
        if (is_constant(z, z->used[k]) && !constant++) first = z->used[k];
    bool target = is_constant(z, z->target);
    grdi_check_result(
        z->c, "constant_columns", !constant && !target,
        "look at how the table was made: a column with one value says nothing (data.ignore leaves it out)",
        "%lld of %lld columns have the same value in all rows%s%s", (long long)constant + target,
        (long long)z->count + 1, constant || target ? ": " : "",
        constant ? name_of(z, first)
        : target ? name_of(z, z->target)
                 : "");
}

/* A number that stands for something else, such as -999: several times at an end, far away from all others. */
enum { CODES_LEAST = 3 };
#define FAR 3.0 /* ranges of the others */

static const double *sorting;

static int by_value(const void *a, const void *b)
{
    double x = sorting[*(const int64_t *)a], y = sorting[*(const int64_t *)b];
    return x < y ? -1 : x > y;
}

/* The rows that have a value, by it; how many there are. */
static int64_t sort_rows(columns *z)
{
    int64_t count = 0;
    for (int64_t i = 0; i < z->rows; i++)
        if (!isnan(z->x[i])) z->order[count++] = i;
    sorting = z->x;
    qsort(z->order, (size_t)count, sizeof(*z->order), by_value);
    return count;
}

static bool stands_for_something(const columns *z, int64_t count, double *code, int64_t *times)
{
    for (int end = 0; end < 2; end++) {
        int64_t same = 0, step = end ? -1 : 1, at = end ? count - 1 : 0;
        double value = z->x[z->order[at]];
        while (same < count && z->x[z->order[at + step * same]] == value) same++;
        if (same < CODES_LEAST || same + 10 > count) continue;
        double next = z->x[z->order[at + step * same]], last = z->x[z->order[end ? 0 : count - 1]];
        if (!(fabs(next - value) > FAR * fabs(last - next))) continue;
        if (last == next) continue; /* two values are a flag */
        *code = value;
        *times = same;
        return true;
    }
    return false;
}

static void check_values(columns *z)
{
    int64_t numbers = 0;
    for (int64_t k = -1; k < z->count; k++) {
        int64_t column = k < 0 ? z->target : z->used[k], times;
        double code;
        if (grd_table_column(z->table, column).kind != GRD_COLUMN_NUMBER) continue;
        numbers++;
        read_column(z, column, z->x);
        int64_t count = sort_rows(z);
        if (count < 2 * CODES_LEAST || !stands_for_something(z, count, &code, &times)) continue;
        grdi_check_result(z->c, "values", false,
                          "look at whether this number stands for a missing value: leave the cell empty instead",
                          "%s is %g in %lld rows, far away from all its other values", name_of(z, column), code,
                          (long long)times);
        return;
    }
    if (numbers)
        grdi_check_result(z->c, "values", true, "", "no number of %lld columns looks like a code for something else",
                          (long long)numbers);
}

/* ---- columns that give the target away ---- */

#define LEAK_CORRELATION 0.9999
#define LEAK_EXCEPTIONS 0.005 /* of the rows: what was written wrongly in one of the two columns */
#define LEAK_OF_FEWER 0.05    /* and of those that are not of the most frequent class */
enum { LEAK_ROWS = 20, ORDERED_ROWS = 100 };

static double correlation(const double *x, const double *y, int64_t count, int64_t shift)
{
    double n = 0, sx = 0, sy = 0, xx = 0, yy = 0, xy = 0, ox = NAN, oy = NAN;
    for (int64_t i = 0; i + shift < count; i++) {
        double a = x[i], b = y[i + shift];
        if (isnan(a) || isnan(b)) continue;
        if (isnan(ox)) ox = a, oy = b;
        a -= ox, b -= oy;
        n++, sx += a, sy += b, xx += a * a, yy += b * b, xy += a * b;
    }
    double vx = xx - sx * sx / n, vy = yy - sy * sy / n;
    return n >= LEAK_ROWS && vx > 0 && vy > 0 ? (xy - sx * sy / n) / sqrt(vx * vy) : 0;
}

static bool are_few(int64_t exceptions, int64_t fewer, int64_t rows)
{
    return (double)exceptions <= LEAK_EXCEPTIONS * (double)rows && (double)exceptions <= LEAK_OF_FEWER * (double)fewer;
}

/* Of two classes: whether nearly all rows below some x have one, and those above it the other. */
static bool nearly_separates(const columns *z, int64_t count)
{
    int64_t ones = 0, below = 0, best = count;
    for (int64_t i = 0; i < count; i++) ones += z->y[z->order[i]] > 0;
    for (int64_t i = 0; i < count; i++) {
        below += z->y[z->order[i]] > 0; /* of the first i + 1 */
        if (i + 1 < count && z->x[z->order[i + 1]] == z->x[z->order[i]]) continue;
        int64_t wrong = below + (count - i - 1) - (ones - below); /* the first class below, the second above */
        if (wrong > count - wrong) wrong = count - wrong;
        if (i + 1 < count && wrong < best) best = wrong;
    }
    return are_few(best, ones < count - ones ? ones : count - ones, count);
}

/* Whether rows sorted by x come class by class: then x alone tells the class. */
static bool separates(columns *z, int64_t classes)
{
    int64_t count = sort_rows(z), changes = 0;
    if (count < LEAK_ROWS) return false;
    if (classes == 2 && nearly_separates(z, count)) return true;
    for (int64_t i = 1; i < count; i++) {
        if (z->x[z->order[i]] == z->x[z->order[i - 1]] && z->y[z->order[i]] != z->y[z->order[i - 1]]) return false;
        changes += z->y[z->order[i]] != z->y[z->order[i - 1]];
    }
    return changes < classes;
}

/* Whether rows sorted by x are sorted by y, too, up or down: y is some curve of x, as its logarithm would be. */
static bool orders(columns *z)
{
    int64_t count = sort_rows(z), known = 0, up = 0, down = 0;
    double x = NAN, y = NAN;
    for (int64_t i = 0; i < count; i++) {
        double b = z->y[z->order[i]], a = z->x[z->order[i]];
        if (isnan(b)) continue;
        if (known++ && x == a && y != b) return false;
        up += y<b, down += y> b;
        x = a, y = b;
    }
    return known >= ORDERED_ROWS && (!up || !down) && 2 * (up + down) > known;
}

/* Whether each category has one class only, but for few rows. */
static bool maps(columns *z, int64_t categories, int64_t classes)
{
    if (categories * 2 > z->rows || classes > 64) return false;
    int64_t *counts = grdi_alloc_zero((size_t)(categories * classes), sizeof(int64_t)), all = 0, right = 0, most = 0;
    if (!counts) return false;
    for (int64_t i = 0; i < z->rows; i++) {
        if (isnan(z->x[i]) || isnan(z->y[i])) continue;
        counts[(int64_t)z->x[i] * classes + (int64_t)z->y[i]]++;
        all++;
    }
    for (int64_t k = 0; k < categories; k++) {
        int64_t best = 0;
        for (int64_t y = 0; y < classes; y++)
            if (counts[k * classes + y] > best) best = counts[k * classes + y];
        right += best;
    }
    for (int64_t y = 0; y < classes; y++) {
        int64_t of = 0;
        for (int64_t k = 0; k < categories; k++) of += counts[k * classes + y];
        if (of > most) most = of;
    }
    grdi_free(counts);
    return right == all || (categories * 10 <= all && are_few(all - right, all - most, all));
}

/* Of numbers: whether each category has one value only. */
static bool maps_number(columns *z, int64_t categories)
{
    double *first = categories * 2 <= z->rows ? grdi_alloc((size_t)categories * sizeof(double)) : NULL;
    if (!first) return false;
    for (int64_t k = 0; k < categories; k++) first[k] = NAN;
    bool same = true;
    for (int64_t i = 0; i < z->rows && same; i++) {
        if (isnan(z->x[i]) || isnan(z->y[i])) continue;
        double *is = &first[(int64_t)z->x[i]];
        same = isnan(*is) || *is == z->y[i];
        *is = z->y[i];
    }
    grdi_free(first);
    return same;
}

static bool gives_away(columns *z, int64_t column, double *how)
{
    const grd_column_info about = grd_table_column(z->table, column), target = grd_table_column(z->table, z->target);
    bool classes = target.kind == GRD_COLUMN_CATEGORY;
    *how = 1;
    if (about.kind == GRD_COLUMN_CATEGORY)
        return classes ? maps(z, about.categories, target.categories) : maps_number(z, about.categories);
    if (about.kind != GRD_COLUMN_NUMBER) return false;
    if (classes) return separates(z, target.categories);
    *how = correlation(z->x, z->y, z->rows, 0);
    return fabs(*how) > LEAK_CORRELATION || orders(z);
}

/* A target that is 1, 2, 3 ... in some order counts rows. */
static void check_target(columns *z)
{
    const grd_column_info target = grd_table_column(z->table, z->target);
    if (target.kind != GRD_COLUMN_NUMBER || !target.whole || target.missing || z->rows < LEAK_ROWS) return;
    read_column(z, z->target, z->x);
    int64_t count = sort_rows(z), first = (int64_t)z->x[z->order[0]];
    bool counts = true;
    for (int64_t i = 0; i < count && counts; i++) counts = z->x[z->order[i]] == (double)(first + i);
    grdi_check_result(z->c, "target", !counts,
                      "look at data.target: such a column numbers the rows and says nothing about them",
                      counts ? "%s is %lld, %lld, ... to %lld, each in one row"
                             : "%s has values that repeat or leave "
                               "gaps (from %lld, not %lld to %lld)",
                      name_of(z, z->target), (long long)first, (long long)first + 1, (long long)(first + count - 1));
}

static void check_leaks(columns *z)
{
    if (is_constant(z, z->target) || z->rows < LEAK_ROWS) return;
    read_column(z, z->target, z->y);
    for (int64_t k = 0; k < z->count; k++) {
        double how;
        if (is_constant(z, z->used[k])) continue;
        read_column(z, z->used[k], z->x);
        if (!gives_away(z, z->used[k], &how)) continue;
        grdi_check_result(z->c, "target_leak", false,
                          "look at whether this column is known before the target is: it may have been made from it "
                          "(data.ignore leaves it out)",
                          "%s alone tells %s in nearly all rows (correlation %.6f)", name_of(z, z->used[k]),
                          name_of(z, z->target), how);
        return;
    }
    grdi_check_result(z->c, "target_leak", true, "", "none of %lld columns alone tells %s in all rows",
                      (long long)z->count, name_of(z, z->target));
}

/* ---- rows ---- */

#define IDENTIFIED 0.9 /* of the rows are the only ones of their kind: two that are the same are no chance */
#define REDUNDANT 0.97 /* of the different rows differ without any one of the columns, too: the same holds for them */
#define REPEATED_MOST 0.01 /* of the rows */
enum { ROWS_COMPARED = 20000 };

/* How many of the first rows differ in the inputs, when number `without` of them is left out (-1: none is), and in the
 * target, too, if `by_target`. */
static int64_t different_rows(const columns *z, int64_t rows, int64_t without, bool by_target)
{
    grdi_hashes known = {.keys = NULL};
    for (int64_t i = 0; i < rows; i++) {
        double value = by_target ? cell(z->table, z->target, i) : 0;
        uint64_t hash = XXH3_64bits(&value, sizeof(value));
        for (int64_t k = 0; k < z->count; k++) {
            value = cell(z->table, z->used[k], i);
            if (k != without) hash = XXH3_64bits_withSeed(&value, sizeof(value), hash);
        }
        if (grdi_hashes_note(&known, hash, 0) == -2) break;
    }
    int64_t count = (int64_t)known.count;
    grdi_hashes_free(&known);
    return count;
}

/* Whether hardly any two of the first rows share a target but those that are the same: then it tells rows apart. */
static bool target_identifies(const columns *z, int64_t rows)
{
    if (grd_table_column(z->table, z->target).kind == GRD_COLUMN_CATEGORY) return false;
    grdi_hashes known = {.keys = NULL};
    for (int64_t i = 0; i < rows; i++) {
        double value = cell(z->table, z->target, i);
        if (grdi_hashes_note(&known, XXH3_64bits(&value, sizeof(value)), 0) == -2) break;
    }
    int64_t targets = (int64_t)known.count;
    grdi_hashes_free(&known);
    return targets >= LEAK_ROWS && (double)targets >= REDUNDANT * (double)different_rows(z, rows, -1, true);
}

/* Whether two rows that are the same must be one row twice: nearly all are the only ones of their kind, or would be so
 * with less than they have, or have a target of their own. */
static bool are_identified(const columns *z, int64_t different)
{
    if ((double)different >= IDENTIFIED * (double)z->rows) return true;
    int64_t rows = z->rows < ROWS_COMPARED ? z->rows : ROWS_COMPARED, all = different_rows(z, rows, -1, false);
    if (target_identifies(z, rows)) return true;
    if (z->count < 2 || all < LEAK_ROWS) return false;
    for (int64_t k = 0; k < z->count; k++)
        if ((double)different_rows(z, rows, k, false) < REDUNDANT * (double)all) return false;
    return true;
}

static grd_status check_rows(columns *z)
{
    grdi_hashes known = {.keys = NULL}, whole = {.keys = NULL}; /* by inputs; by these and the target */
    int64_t repeated = 0, same = 0, conflicts = 0;
    bool classes = grd_table_column(z->table, z->target).kind == GRD_COLUMN_CATEGORY, full = false;
    double *row = grdi_alloc(((size_t)z->count + 1) * sizeof(double));
    if (!row) return out_of_memory(z->c);
    for (int64_t i = 0; i < z->rows && !full; i++) {
        for (int64_t k = 0; k < z->count; k++) row[k] = cell(z->table, z->used[k], i);
        double b = row[z->count] = cell(z->table, z->target, i);
        int64_t before = grdi_hashes_note(&known, XXH3_64bits(row, (size_t)z->count * sizeof(double)), i);
        uint64_t both = XXH3_64bits(row, ((size_t)z->count + 1) * sizeof(double));
        int64_t equal = isnan(b) ? -1 : grdi_hashes_note(&whole, both, i);
        full = before == -2 || equal == -2;
        if (full || before < 0) continue;
        double a = cell(z->table, z->target, before);
        repeated++;
        same += equal >= 0;
        conflicts += classes && !isnan(a) && !isnan(b) && a != b;
    }
    grdi_free(row);
    grdi_hashes_free(&whole);
    int64_t different = (int64_t)known.count;
    grdi_hashes_free(&known);
    if (full) return out_of_memory(z->c);
    if (!are_identified(z, different)) return GRD_OK;
    double share = (double)same / (double)z->rows;
    grdi_check_result(z->c, "overlap", share <= REPEATED_MOST,
                      "look at how the table was made: the same rows come to lie in training and in what is held out",
                      "%lld of %lld rows (%.2f%%) are there before, with the same target", (long long)same,
                      (long long)z->rows, 100 * share);
    if (classes) grdi_check_conflicts(z->c, conflicts, repeated, z->rows, "rows");
    return GRD_OK;
}

static const char *category_name(const void *context, int64_t label, char text[32])
{
    const columns *z = context;
    snprintf(text, 32, "%s", grd_table_category_name(z->table, z->target, (int32_t)label));
    return text;
}

static grd_status check_classes(columns *z)
{
    const grd_column_info target = grd_table_column(z->table, z->target);
    if (target.kind != GRD_COLUMN_CATEGORY || target.categories < 2) return GRD_OK;
    int64_t *counts = grdi_alloc_zero((size_t)target.categories, sizeof(int64_t)), changes = 0;
    if (!counts) return out_of_memory(z->c);
    int32_t before = -1;
    for (int64_t i = 0; i < z->rows; i++) {
        int32_t label = grd_table_category(z->table, z->target, i);
        if (label < 0) continue;
        counts[label]++;
        changes += before >= 0 && label != before;
        before = label;
    }
    const int64_t *const both[2] = {counts, NULL};
    grdi_check_balance(z->c, both, target.categories, category_name, z);
    if (z->settings->data.order == GRD_ORDER_SEQUENTIAL) grdi_check_order(z->c, counts, target.categories, changes);
    grdi_free(counts);
    return GRD_OK;
}

/* ---- series ---- */

#define STUCK_MOST 0.2 /* of a series */

static void check_time(columns *z, int64_t time)
{
    int64_t back = 0, first = -1, run = 0, longest = 0;
    read_column(z, time, z->x);
    for (int64_t i = 1; i < z->rows; i++)
        if (z->x[i] < z->x[i - 1] && !back++) first = i;
    char where[64] = "";
    if (back) snprintf(where, sizeof(where), ", first in row %lld", (long long)first + 1);
    grdi_check_result(z->c, "time_order", !back,
                      "look at how the rows got out of order; they are sorted by time before anything is learnt",
                      "%lld of %lld rows are earlier than the one before%s", (long long)back, (long long)z->rows,
                      where);
    read_column(z, z->target, z->y);
    for (int64_t i = 1; i < z->rows; i++) {
        run = z->y[i] == z->y[i - 1] ? run + 1 : 0;
        if (run > longest) longest = run;
    }
    grdi_check_result(z->c, "stuck_values",
                      (double)longest <= STUCK_MOST * (double)z->rows || is_constant(z, z->target),
                      "look at whether the sensor was off: the value does not change for so long",
                      "%s stays the same for at most %lld of %lld rows", name_of(z, z->target), (long long)longest + 1,
                      (long long)z->rows);
}

/* An input whose value is that of the target some steps later knows the future. */
static void check_inputs(columns *z)
{
    for (int64_t k = 0; k < z->count; k++) {
        read_column(z, z->used[k], z->x);
        for (int64_t shift = 1; shift <= z->settings->data.horizon && shift <= 1000; shift++) {
            if (fabs(correlation(z->x, z->y, z->rows, shift)) <= LEAK_CORRELATION) continue;
            grdi_check_result(z->c, "target_leak", false,
                              "look at how this column was made: it holds what is to be forecast",
                              "%s is %s %lld steps later in all rows", name_of(z, z->used[k]), name_of(z, z->target),
                              (long long)shift);
            return;
        }
    }
    if (z->count)
        grdi_check_result(z->c, "target_leak", true, "", "none of %lld inputs is %s of a later step",
                          (long long)z->count, name_of(z, z->target));
}

/* ---- what is looked at ---- */

/* All columns that a model may learn from: of a series its inputs. */
static void choose_columns(columns *z, int64_t time)
{
    const grd_settings *s = z->settings;
    int64_t columns_count = grd_table_about(z->table).columns;
    for (int64_t k = 0; k < columns_count; k++) {
        const char *name = name_of(z, k);
        if (s->data.group && strcmp(s->data.group, name) == 0) continue;
        if (k == z->target || k == time || is_named(s->data.ignore, s->data.ignore_count, name)) continue;
        bool chosen = !s->data.feature_count || is_named(s->data.features, s->data.feature_count, name);
        if (time >= 0) chosen = is_named(s->data.inputs, s->data.input_count, name);
        if (chosen && grd_table_column(z->table, k).kind != GRD_COLUMN_TEXT) z->used[z->count++] = k;
    }
}

static grd_status look(columns *z, int64_t time)
{
    grd_status status = GRD_OK;
    check_missing(z);
    check_constant(z);
    check_values(z);
    if (time >= 0) {
        check_time(z, time);
        check_inputs(z);
        return GRD_OK;
    }
    check_target(z);
    check_leaks(z);
    status = check_rows(z);
    return status ? status : check_classes(z);
}

/* Names of categories, where the target is numbers that are meant as classes. */
static grd_status as_classes(columns *z, bool classifies)
{
    const grd_settings *s = z->settings;
    const char *name = name_of(z, z->target);
    bool named = is_named(s->data.categories, s->data.category_count, name);
    return classifies || named ? grd_table_as_categories(z->table, z->target, z->c->error) : GRD_OK;
}

grd_status grdi_check_table(grdi_checker *c, const grd_settings *settings, bool classifies)
{
    columns z = {.c = c, .settings = settings};
    int64_t time = -1;
    grd_status status = grd_table_open(settings->data.path, NULL, &z.table, c->error);
    if (status) return status;
    status = grd_table_need(z.table, settings->data.target, "data.target", &z.target, c->error);
    if (!status && settings->data.time && settings->data.kind != GRD_DATA_TABLE)
        status = grd_table_need(z.table, settings->data.time, "data.time", &time, c->error);
    if (!status && time < 0) status = as_classes(&z, classifies);
    z.rows = grd_table_about(z.table).rows;
    z.used = grdi_alloc_zero((size_t)grd_table_about(z.table).columns, sizeof(int64_t));
    z.x = grdi_alloc((size_t)z.rows * sizeof(double));
    z.y = grdi_alloc((size_t)z.rows * sizeof(double));
    z.order = grdi_alloc((size_t)z.rows * sizeof(int64_t));
    if (!status && !(z.used && z.x && z.y && z.order)) status = out_of_memory(c);
    if (!status) {
        choose_columns(&z, time);
        status = look(&z, time);
    }
    grdi_free(z.used);
    grdi_free(z.x);
    grdi_free(z.y);
    grdi_free(z.order);
    grd_table_free(z.table);
    return status;
}
