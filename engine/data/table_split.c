/* table_split.c - which rows of a table are held out. */
#include "data/features.h"

#include "base/memory.h"
#include "base/random.h"

#include <math.h>
#include <stdlib.h>

/* A row, and what it is sorted by: its group or its time. */
typedef struct keyed {
    double key;
    int64_t row;
} keyed;

typedef struct splitter {
    const grd_table *table;
    const grdi_split_options *options;
    grdi_split *split;
    keyed *rows; /* [count]: those that have a target */
    int64_t count;
    grd_error *error;
} splitter;

static void put(grdi_split *split, bool out, int64_t row)
{
    split->rows[out][split->count[out]++] = row;
}

static uint64_t key_of(const splitter *z, int64_t class)
{
    uint64_t stream = grdi_hash_text("table/split");
    return (uint64_t)grdi_random_u32(z->options->seed, (uint64_t) class, stream, 0) << 32 | (uint64_t) class;
}

/* ---- row by row ---- */

/* Rows of one class in an order of their own; the first of them are held out. Rounding is carried from class to class,
 * so that the parts are as large as they should be; each class keeps a row to be learnt from. */
static void split_class(splitter *z, const keyed *rows, int64_t count, int64_t class, double *wanted)
{
    *wanted += z->options->part * (double)count;
    int64_t held = (int64_t)floor(*wanted + 0.5) - z->split->count[1];
    held = held < 0 ? 0 : held >= count ? count - 1 : held;
    uint64_t key = key_of(z, class);
    for (int64_t i = 0; i < count; i++)
        put(z->split, (int64_t)grdi_permute(key, (uint64_t)count, (uint64_t)i) < held, rows[i].row);
}

/* ---- sorted by a column ---- */

static int by_key(const void *a, const void *b)
{
    const keyed *x = a, *y = b;
    if (x->key != y->key) return x->key < y->key ? -1 : 1;
    return x->row < y->row ? -1 : x->row > y->row;
}

static double value_of(const grd_table *table, int64_t column, int64_t row)
{
    if (grd_table_column(table, column).kind != GRD_COLUMN_CATEGORY) return grd_table_number(table, column, row);
    int32_t category = grd_table_category(table, column, row);
    return category < 0 ? NAN : category;
}

static const char *key_name(const splitter *z)
{
    return z->options->kind == GRDI_SPLIT_TIME ? "data.time" : "data.group";
}

static grd_status sort_rows(splitter *z)
{
    const grd_column_info info = grd_table_column(z->table, z->options->column);
    bool time = z->options->kind == GRDI_SPLIT_TIME;
    if (info.kind == GRD_COLUMN_EMPTY || info.kind == GRD_COLUMN_TEXT || (time && info.kind == GRD_COLUMN_CATEGORY))
        return grd_fail(z->error, GRD_E_ARGUMENT, "%s: column '%.100s' %s (name one of %s)", key_name(z), info.name,
                        info.kind == GRD_COLUMN_EMPTY  ? "is empty"
                        : info.kind == GRD_COLUMN_TEXT ? "holds more than 65,535 different texts"
                                                       : "holds texts",
                        time ? "times or numbers" : "numbers or up to 65,535 names");
    for (int64_t i = 0; i < z->count; i++) {
        z->rows[i].key = value_of(z->table, z->options->column, z->rows[i].row);
        if (isnan(z->rows[i].key))
            return grd_fail(z->error, GRD_E_FORMAT, "%s: row %lld has no '%.100s' (remove it, or fill it in)",
                            key_name(z), (long long)z->rows[i].row + 1, info.name);
    }
    qsort(z->rows, (size_t)z->count, sizeof(*z->rows), by_key);
    if (!z->count || z->rows[0].key != z->rows[z->count - 1].key) return GRD_OK;
    return grd_fail(z->error, GRD_E_ARGUMENT, "%s: column '%.100s' has only one value: nothing can be held out by it",
                    key_name(z), info.name);
}

/* The end of the rows that have the same key as row `from`. */
static int64_t run_end(const splitter *z, int64_t from)
{
    int64_t end = from;
    while (end < z->count && z->rows[end].key == z->rows[from].key) end++;
    return end;
}

/* From the first time on that is nearest to where the cut should be; the earliest is always learnt from. */
static void split_by_time(splitter *z)
{
    double wanted = (1 - z->options->part) * (double)z->count;
    int64_t cut = z->count;
    for (int64_t i = run_end(z, 0); i < z->count && z->options->part > 0; i = run_end(z, i))
        if (fabs((double)i - wanted) < fabs((double)cut - wanted) || cut == z->count) cut = i;
    for (int64_t i = 0; i < z->count; i++) put(z->split, i >= cut, z->rows[i].row);
}

/* Groups in an order of their own: each is held out that brings the part nearer to what it should be. */
static grd_status split_by_group(splitter *z)
{
    int64_t groups = 0, held = 0;
    int64_t *first = grdi_alloc(((size_t)z->count + 1) * sizeof(int64_t));
    if (!first) return grd_fail(z->error, GRD_E_MEMORY, "out of memory for the rows of a table");
    for (int64_t i = 0; i < z->count; i = run_end(z, i)) first[groups++] = i;
    first[groups] = z->count;
    double wanted = z->options->part * (double)z->count;
    uint64_t key = key_of(z, 0);
    for (int64_t i = 0, out = 0; i < groups; i++) {
        int64_t g = (int64_t)grdi_permute(key, (uint64_t)groups, (uint64_t)i), size = first[g + 1] - first[g];
        bool nearer = fabs((double)(held + size) - wanted) < fabs((double)held - wanted);
        nearer = nearer && out + 1 < groups;
        out += nearer;
        held += nearer ? size : 0;
        for (int64_t k = first[g]; k < first[g + 1]; k++) put(z->split, nearer, z->rows[k].row);
    }
    grdi_free(first);
    return GRD_OK;
}

/* ---- all ---- */

static int by_row(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

static void gather(splitter *z, const grdi_target *target)
{
    int64_t rows = grd_table_about(z->table).rows;
    for (int64_t row = 0; row < rows; row++) {
        double is = grdi_target_value(target, z->table, row);
        if (isnan(is)) z->split->without++;
        else z->rows[z->count++] = (keyed){is, row};
    }
}

/* By class, or all as one. */
static void split_rows(splitter *z)
{
    double wanted = 0;
    if (z->options->kind == GRDI_SPLIT_STRATIFIED) qsort(z->rows, (size_t)z->count, sizeof(*z->rows), by_key);
    for (int64_t i = 0, end; i < z->count; i = end) {
        bool classes = z->options->kind == GRDI_SPLIT_STRATIFIED && z->options->class_count > 0;
        end = classes ? run_end(z, i) : z->count;
        split_class(z, z->rows + i, end - i, classes ? (int64_t)z->rows[i].key : 0, &wanted);
    }
}

grd_status grdi_table_split(const grd_table *table, const grdi_target *target, const grdi_split_options *options,
                            grdi_split *split, grd_error *error)
{
    size_t rows = (size_t)grd_table_about(table).rows;
    splitter z = {.table = table, .options = options, .split = split, .error = error};
    z.rows = grdi_alloc(rows * sizeof(*z.rows));
    split->rows[0] = grdi_alloc(rows * sizeof(int64_t));
    split->rows[1] = grdi_alloc(rows * sizeof(int64_t));
    grd_status status = GRD_OK;
    if (!z.rows || !split->rows[0] || !split->rows[1])
        status = grd_fail(error, GRD_E_MEMORY, "out of memory for the rows of a table");
    bool sorted = options->kind == GRDI_SPLIT_GROUPED || options->kind == GRDI_SPLIT_TIME;
    if (!status) gather(&z, target);
    if (!status && sorted && options->part > 0) status = sort_rows(&z);
    if (!status && options->kind == GRDI_SPLIT_GROUPED && options->part > 0) status = split_by_group(&z);
    else if (!status && options->kind == GRDI_SPLIT_TIME && options->part > 0) split_by_time(&z);
    else if (!status) split_rows(&z);
    grdi_free(z.rows);
    for (int i = 0; i < 2 && !status; i++) qsort(split->rows[i], (size_t)split->count[i], sizeof(int64_t), by_row);
    return status;
}

void grdi_split_free(grdi_split *split)
{
    grdi_free(split->rows[0]);
    grdi_free(split->rows[1]);
    *split = (grdi_split){{0}, {0}, 0};
}
