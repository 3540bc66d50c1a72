/* table.c - reads a CSV file into columns: once to see what they hold, once to keep it. */
#include "data/table.h"

#include "base/file.h"
#include "data/csv.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

enum { COLUMNS_MAX = 65536, RELEASE_BYTES = 8 << 20 };
#define ROWS_MAX ((int64_t)1 << 40)

/* A file while it is read; the mapping's pages are given back as they are passed. */
typedef struct reader {
    grd_table *table;
    grdi_csv csv;
    XXH3_state_t *hash; /* of what is passed; NULL the second time */
    const char *passed;
    grdi_cell_style style;
} reader;

static grd_status out_of_memory(const reader *r)
{
    return grd_fail(r->csv.error, GRD_E_MEMORY, "%s: out of memory", r->csv.path);
}

static void pass(reader *r, bool all)
{
    size_t size = (size_t)(r->csv.at - r->passed);
    if (all) size = (size_t)(r->csv.end - r->passed);
    if (!all && size < RELEASE_BYTES) return;
    if (r->hash) XXH3_64bits_update(r->hash, r->passed, size);
    grdi_file.release((void *)(uintptr_t)r->passed, size);
    r->passed += size;
}

/* ---- the first line ---- */

static grd_status read_names(reader *r)
{
    grd_table *t = r->table;
    grdi_csv_cell cell = {.last = false};
    size_t capacity = 0;
    int64_t numbers = 0, count = 0;
    if (!grdi_csv_next_row(&r->csv))
        return grd_fail(r->csv.error, GRD_E_FORMAT, "%s: is empty (its first line must name the columns)", r->csv.path);
    while (!cell.last) {
        grd_status status = grdi_csv_next_cell(&r->csv, &cell);
        if (status) return status;
        if (count == COLUMNS_MAX)
            return grd_fail(r->csv.error, GRD_E_FORMAT, "%s: line 1: names more than %d columns", r->csv.path,
                            COLUMNS_MAX);
        if (!GRDI_GROW(t->names, capacity, (size_t)count)) return out_of_memory(r);
        t->names[count] = cell.length ? grdi_region_alloc(&t->texts, cell.length + 1)
                                      : grdi_region_format(&t->texts, "column%lld", (long long)count + 1);
        if (!t->names[count]) return out_of_memory(r);
        if (cell.length) memcpy(t->names[count], cell.text, cell.length);
        numbers += !cell.quoted && grdi_cell_read(cell.text, cell.length, r->style).kind == GRDI_CELL_NUMBER;
        count++;
    }
    t->info.columns = count;
    if (numbers == count)
        return grd_fail(r->csv.error, GRD_E_FORMAT,
                        "%s: line %lld: holds numbers only (the first line must name the columns)", r->csv.path,
                        (long long)r->csv.row_line);
    t->columns = grdi_alloc_zero((size_t)count, sizeof(*t->columns));
    for (int64_t i = 0; t->columns && i < count; i++)
        t->columns[i] =
            (grdi_column){.name = t->names[i], .whole = true, .in_f32 = true, .least = INFINITY, .most = -INFINITY};
    return t->columns ? GRD_OK : out_of_memory(r);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static grd_status check_names(const reader *r)
{
    const grd_table *t = r->table;
    size_t count = (size_t)t->info.columns;
    char **sorted = grdi_alloc(count * sizeof(*sorted));
    if (!sorted) return out_of_memory(r);
    memcpy(sorted, t->names, count * sizeof(*sorted));
    qsort(sorted, count, sizeof(*sorted), by_text);
    grd_status status = GRD_OK;
    for (size_t i = 1; i < count && !status; i++)
        if (strcmp(sorted[i - 1], sorted[i]) == 0)
            status = grd_fail(r->csv.error, GRD_E_FORMAT, "%s: line 1: two columns have the name '%.100s' (rename one)",
                              r->csv.path, sorted[i]);
    grdi_free(sorted);
    return status;
}

static void take_expected(grd_table *t, const grd_table_options *options)
{
    for (int32_t i = 0; options && i < options->expected_count; i++) {
        int64_t column = grd_table_find(t, options->expected[i].name);
        if (column >= 0) t->columns[column].expected = &options->expected[i];
    }
}

/* ---- the first time through ---- */

static void keep_first(grdi_first *first, const reader *r, const grdi_csv_cell *cell)
{
    if (first->line) return;
    size_t length = cell->length < sizeof(first->text) - 1 ? cell->length : sizeof(first->text) - 1;
    while (length < cell->length && length > 0 && ((unsigned char)cell->text[length] & 0xC0) == 0x80) length--;
    first->line = r->csv.row_line;
    memcpy(first->text, cell->text, length);
    for (size_t i = 0; i < length; i++) /* an error is one line */
        if ((unsigned char)first->text[i] < ' ' || first->text[i] == 0x7F) first->text[i] = ' ';
    first->text[length] = '\0';
}

static void see_cell(reader *r, grdi_column *c, const grdi_csv_cell *text)
{
    grdi_cell cell = grdi_cell_read(text->text, text->length, r->style);
    c->count[cell.kind]++;
    c->marks |= cell.marks;
    if (cell.kind != GRDI_CELL_MISSING) keep_first(&c->first[cell.kind], r, text);
    if (cell.marks & GRDI_CELL_DAY_FIRST) keep_first(&c->by_day, r, text);
    if (cell.marks & GRDI_CELL_MONTH_FIRST) keep_first(&c->by_month, r, text);
    if (cell.kind == GRDI_CELL_MISSING || cell.kind == GRDI_CELL_TEXT) return;
    c->whole = c->whole && cell.value == floor(cell.value);
    c->in_f32 = c->in_f32 && fabs(cell.value) < 1e38 && (double)(float)cell.value == cell.value;
    c->least = fmin(c->least, cell.value);
    c->most = fmax(c->most, cell.value);
}

static grd_status wrong_count(const reader *r, int64_t cells)
{
    int64_t columns = r->table->info.columns;
    return grd_fail(
        r->csv.error, GRD_E_FORMAT, "%s: line %lld: has %lld cell%s, the first line names %lld column%s (%s)",
        r->csv.path, (long long)r->csv.row_line, (long long)cells, cells == 1 ? "" : "s", (long long)columns,
        columns == 1 ? "" : "s",
        cells > columns ? "a cell that holds the delimiter must be in quotes" : "leave cells without a value empty");
}

/* One row; `keep` says what to do with a cell. */
static grd_status read_row(reader *r, int64_t row,
                           grd_status (*keep)(reader *, int64_t, int64_t, const grdi_csv_cell *))
{
    grdi_csv_cell cell = {.last = false};
    int64_t column = 0, columns = r->table->info.columns;
    for (; !cell.last; column++) {
        grd_status status = grdi_csv_next_cell(&r->csv, &cell);
        if (!status && column < columns) status = keep(r, row, column, &cell);
        if (status) return status;
    }
    return column == columns ? GRD_OK : wrong_count(r, column);
}

static grd_status see(reader *r, int64_t row, int64_t column, const grdi_csv_cell *cell)
{
    (void)row;
    see_cell(r, &r->table->columns[column], cell);
    return GRD_OK;
}

static grd_status see_rows(reader *r)
{
    grd_table *t = r->table;
    grd_status status = GRD_OK;
    while (!status && grdi_csv_next_row(&r->csv)) {
        status = t->info.rows < ROWS_MAX ? read_row(r, 0, see) : out_of_memory(r);
        t->info.rows++;
        pass(r, false);
    }
    if (!status && t->info.rows == 0)
        status =
            grd_fail(r->csv.error, GRD_E_FORMAT, "%s: has no rows below the line that names the columns", r->csv.path);
    if (!status) pass(r, true);
    for (int64_t i = 0; !status && i < t->info.columns; i++) status = grdi_column_decide(t, i, r->csv.error);
    return status;
}

/* ---- the second time ---- */

/* A column of too many different texts keeps none. */
static void give_up(grd_table *t, grdi_column *c)
{
    grdi_free(c->data);
    c->data = NULL;
    c->kind = GRD_COLUMN_TEXT;
    t->info.memory_bytes -= 2 * t->info.rows;
    grdi_dictionary_free(&c->categories);
}

static grd_status keep(reader *r, int64_t row, int64_t column, const grdi_csv_cell *text)
{
    grdi_column *c = &r->table->columns[column];
    int64_t number = -1;
    if (!c->data || row >= r->table->info.rows) return GRD_OK;
    r->style.day_first = c->day_first;
    if (c->kind != GRD_COLUMN_CATEGORY) {
        grdi_cell cell = grdi_cell_read(text->text, text->length, r->style);
        bool time = cell.kind == GRDI_CELL_TIME, has = time == (c->kind == GRD_COLUMN_TIME);
        grdi_column_set(c, row, has && cell.kind != GRDI_CELL_MISSING ? cell.value : NAN);
        return GRD_OK;
    }
    bool missing = text->length <= 4 && grdi_cell_read(text->text, text->length, r->style).kind == GRDI_CELL_MISSING;
    if (missing) {
        grdi_column_set(c, row, NAN);
        return GRD_OK;
    }
    if (grdi_dictionary_add(&c->categories, &r->table->texts, text->text, text->length, &number))
        return out_of_memory(r);
    if (number < 0) give_up(r->table, c);
    else grdi_column_set(c, row, (double)number);
    return GRD_OK;
}

static grd_status keep_rows(reader *r)
{
    grd_table *t = r->table;
    grd_status status = GRD_OK;
    for (int64_t i = 0; !status && i < t->info.columns; i++) status = grdi_column_make(t, i, r->csv.error);
    r->hash = NULL;
    r->passed = r->csv.begin;
    if (!status) status = grdi_csv_start(&r->csv);
    grdi_csv_cell name = {.last = false};
    if (!status) grdi_csv_next_row(&r->csv);
    while (!status && !name.last) status = grdi_csv_next_cell(&r->csv, &name);
    for (int64_t row = 0; !status && grdi_csv_next_row(&r->csv); row++) {
        status = read_row(r, row, keep);
        pass(r, false);
    }
    for (int64_t i = 0; !status && i < t->info.columns; i++) status = grdi_column_finish(t, i, r->csv.error);
    return status;
}

/* ---- the table ---- */

static grd_status read_table(reader *r, const grd_table_options *options)
{
    grd_status status = grdi_csv_start(&r->csv);
    r->style.comma = r->csv.delimiter != ',';
    r->table->info.delimiter = r->csv.delimiter;
    if (!status) status = read_names(r);
    if (!status) status = check_names(r);
    if (status) return status;
    take_expected(r->table, options);
    r->csv.names = r->table->names;
    r->csv.name_count = r->table->info.columns;
    status = see_rows(r);
    if (status) return status;
    r->table->info.checksum = XXH3_64bits_digest(r->hash);
    return keep_rows(r);
}

grd_status grd_table_open(const char *path, const grd_table_options *options, grd_table **table, grd_error *error)
{
    *table = NULL;
    grdi_mapping file;
    grd_status status = grdi_file_map(path, &file, error);
    if (status) return status;
    const char *bytes = (const char *)file.data;
    grd_table *t = grdi_alloc_zero(1, sizeof(*t));
    reader r = {.table = t, .passed = bytes, .hash = XXH3_createState()};
    grd_error own = {GRD_OK, ""};
    r.csv = (grdi_csv){.path = path, .begin = bytes, .end = bytes + file.size_bytes, .error = error ? error : &own};
    if (!t || !r.hash || !(t->path = grdi_strdup(path))) {
        status = out_of_memory(&r);
    } else {
        XXH3_64bits_reset(r.hash);
        t->info.size_bytes = (int64_t)file.size_bytes;
        XXH3_state_t *state = r.hash;
        status = read_table(&r, options);
        r.hash = state;
    }
    XXH3_freeState(r.hash);
    grdi_csv_end(&r.csv);
    grdi_file_unmap(&file);
    if (status) grd_table_free(t);
    else *table = t;
    return status;
}

void grd_table_free(grd_table *table)
{
    if (!table) return;
    for (int64_t i = 0; table->columns && i < table->info.columns; i++) {
        grdi_free(table->columns[i].data);
        grdi_dictionary_free(&table->columns[i].categories);
    }
    grdi_free(table->columns);
    grdi_free(table->names);
    grdi_free(table->notes);
    grdi_free(table->path);
    grdi_region_free(&table->texts);
    grdi_free(table);
}

grd_table_info grd_table_about(const grd_table *table)
{
    return table->info;
}
