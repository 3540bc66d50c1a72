/* table_columns.c - the columns of a table: of which kind they are, and how their values are kept. */
#include "data/table.h"

#include "base/text.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <xxhash.h>

/* ---- different texts ---- */

enum { FIRST_SLOTS = 64, DICTIONARY_BYTES_MAX = 16 << 20 };

static grd_status more_slots(grdi_dictionary *d)
{
    size_t count = d->slot_count ? 2 * d->slot_count : FIRST_SLOTS;
    uint32_t *slots = grdi_alloc_zero(count, sizeof(*slots));
    if (!slots) return GRD_E_MEMORY;
    for (size_t i = 0; i < d->count; i++) {
        size_t at = XXH3_64bits(d->names[i], strlen(d->names[i])) & (count - 1);
        while (slots[at]) at = (at + 1) & (count - 1);
        slots[at] = (uint32_t)i + 1;
    }
    grdi_free(d->slots);
    d->slots = slots;
    d->slot_count = count;
    return GRD_OK;
}

grd_status grdi_dictionary_add(grdi_dictionary *d, grdi_region *texts, const char *text, size_t length, int64_t *number)
{
    if (2 * d->count >= d->slot_count && more_slots(d)) return GRD_E_MEMORY;
    size_t at = XXH3_64bits(text, length) & (d->slot_count - 1);
    for (; d->slots[at]; at = (at + 1) & (d->slot_count - 1)) {
        const char *name = d->names[d->slots[at] - 1];
        if (strncmp(name, text, length) != 0 || name[length] != '\0') continue;
        *number = d->slots[at] - 1;
        return GRD_OK;
    }
    *number = -1;
    d->text_bytes += length;
    if (d->count == GRDI_CATEGORIES_MAX || d->text_bytes > DICTIONARY_BYTES_MAX) return GRD_OK;
    char *name = grdi_region_alloc(texts, length + 1);
    if (!name || !GRDI_GROW(d->names, d->capacity, d->count)) return GRD_E_MEMORY;
    memcpy(name, text, length);
    d->names[d->count] = name;
    d->slots[at] = (uint32_t)++d->count;
    *number = (int64_t)d->count - 1;
    return GRD_OK;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(**(char **const *)a, **(char **const *)b);
}

grd_status grdi_dictionary_sort(grdi_dictionary *d, uint16_t *order)
{
    char ***places = grdi_alloc_zero(d->count + 1, sizeof(*places)),
         **sorted = grdi_alloc_zero(d->count + 1, sizeof(*sorted));
    bool made = places && sorted;
    for (size_t i = 0; made && i < d->count; i++) places[i] = &d->names[i];
    if (made) qsort(places, d->count, sizeof(*places), by_name);
    for (size_t i = 0; made && i < d->count; i++) {
        order[places[i] - d->names] = (uint16_t)i;
        sorted[i] = *places[i];
    }
    if (made) memcpy(d->names, sorted, d->count * sizeof(*sorted));
    grdi_free(d->slots); /* by the old numbers */
    d->slots = NULL;
    d->slot_count = 0;
    grdi_free(places);
    grdi_free(sorted);
    return made ? GRD_OK : GRD_E_MEMORY;
}

void grdi_dictionary_free(grdi_dictionary *d)
{
    grdi_free(d->names);
    grdi_free(d->slots);
    *d = (grdi_dictionary){0};
}

/* ---- which kind ---- */

grd_status grdi_table_note(grd_table *table, const char *format, ...)
{
    char text[GRD_MESSAGE_MAX];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof(text), format, list);
    va_end(list);
    char *copy = grdi_region_strdup(&table->texts, text);
    if (!copy || !GRDI_GROW(table->notes, table->note_capacity, table->note_count)) return GRD_E_MEMORY;
    table->notes[table->note_count++] = copy;
    return GRD_OK;
}

/* Of a column that is of another kind but for a few cells. */
static grd_status odd_cell(const grd_table *table, const grdi_column *c, const grdi_first *odd, const char *kind,
                           int64_t others, grd_error *error)
{
    return grd_fail(
        error, GRD_E_FORMAT,
        "%s: line %lld, column '%.100s': '%s' is no %s, as %lld other cells are (mend it, or leave the cell "
        "empty where the value is not known)",
        table->path, (long long)odd->line, c->name, odd->text, kind, (long long)others);
}

static grd_status expected_kind(const grd_table *table, grdi_column *c, grd_error *error)
{
    const int64_t *n = c->count;
    c->kind = c->expected->kind;
    int64_t texts = n[GRDI_CELL_CODE] + n[GRDI_CELL_TIME] + n[GRDI_CELL_TEXT];
    if (c->kind == GRD_COLUMN_CATEGORY) {
        if (texts + n[GRDI_CELL_NUMBER] == 0) c->kind = GRD_COLUMN_EMPTY;
        else if (texts == 0 && !c->expected->as_written) c->kind = GRD_COLUMN_NUMBER;
        return GRD_OK;
    }
    bool number = c->kind == GRD_COLUMN_NUMBER;
    const grdi_first *odd = n[GRDI_CELL_TEXT]                ? &c->first[GRDI_CELL_TEXT]
                            : number && n[GRDI_CELL_TIME]    ? &c->first[GRDI_CELL_TIME]
                            : !number && n[GRDI_CELL_CODE]   ? &c->first[GRDI_CELL_CODE]
                            : !number && n[GRDI_CELL_NUMBER] ? &c->first[GRDI_CELL_NUMBER]
                                                             : NULL;
    if (!odd) return GRD_OK;
    return grd_fail(error, GRD_E_FORMAT, "%s: line %lld, column '%.100s': '%s' is no %s, which this column must hold",
                    table->path, (long long)odd->line, c->name, odd->text, number ? "number" : "date or time");
}

/* Which order days and months have. */
static grd_status decide_order(grd_table *table, grdi_column *c, grd_error *error)
{
    c->day_first = c->by_day.line > 0 || (c->expected && c->expected->day_first && !c->by_month.line);
    if (c->by_day.line && c->by_month.line)
        return grd_fail(
            error, GRD_E_FORMAT,
            "%s: column '%.100s': dates begin with the day in line %lld ('%s'), with the month in line %lld "
            "('%s') (write all of them as 2026-11-26)",
            table->path, c->name, (long long)c->by_day.line, c->by_day.text, (long long)c->by_month.line,
            c->by_month.text);
    bool open = (c->marks & GRDI_CELL_EITHER) && !c->by_day.line && !c->by_month.line && !c->expected;
    if (!open) return GRD_OK;
    return grdi_table_note(table,
                           "column '%.100s': no date tells whether the day or the month comes first: taken as "
                           "month/day/year",
                           c->name);
}

grd_status grdi_column_decide(grd_table *table, int64_t column, grd_error *error)
{
    grdi_column *c = &table->columns[column];
    const int64_t *n = c->count;
    int64_t numbers = n[GRDI_CELL_NUMBER], codes = n[GRDI_CELL_CODE], times = n[GRDI_CELL_TIME];
    int64_t filled = numbers + codes + times + n[GRDI_CELL_TEXT];
    grd_status status = GRD_OK;
    if (c->expected) {
        status = expected_kind(table, c, error);
    } else if (filled == 0) {
        c->kind = GRD_COLUMN_EMPTY;
    } else if (numbers == filled) {
        c->kind = GRD_COLUMN_NUMBER;
    } else if (times == filled) {
        c->kind = GRD_COLUMN_TIME;
    } else {
        c->kind = GRD_COLUMN_CATEGORY;
        bool few = !codes && 10 * numbers >= 9 * filled;
        if (few)
            return odd_cell(table, c, &c->first[n[GRDI_CELL_TEXT] ? GRDI_CELL_TEXT : GRDI_CELL_TIME], "number", numbers,
                            error);
        if (10 * times >= 9 * filled)
            return odd_cell(table, c,
                            &c->first[n[GRDI_CELL_TEXT] ? GRDI_CELL_TEXT
                                      : numbers         ? GRDI_CELL_NUMBER
                                                        : GRDI_CELL_CODE],
                            "date or time", times, error);
        if (codes && numbers + codes == filled)
            status = grdi_table_note(table,
                                     "column '%.100s': numbers with leading zeros or more than 15 digits, as '%s' in "
                                     "line %lld, are names: taken as categories",
                                     c->name, c->first[GRDI_CELL_CODE].text, (long long)c->first[GRDI_CELL_CODE].line);
    }
    if (!status && c->kind == GRD_COLUMN_TIME) status = decide_order(table, c, error);
    unsigned both = GRDI_CELL_POINT | GRDI_CELL_COMMA;
    if (!status && c->kind == GRD_COLUMN_NUMBER && (c->marks & both) == both)
        return grd_fail(
            error, GRD_E_FORMAT,
            "%s: column '%.100s': has numbers with a decimal point and with a decimal comma (write all with a point)",
            table->path, c->name);
    if (status == GRD_E_MEMORY) grd_fail(error, status, "%s: out of memory", table->path);
    return status;
}

/* ---- values ---- */

static const size_t width_bytes[] = {
    [GRDI_WIDTH_I8] = 1, [GRDI_WIDTH_I16] = 2, [GRDI_WIDTH_F32] = 4, [GRDI_WIDTH_F64] = 8, [GRDI_WIDTH_CODE] = 2};

/* The narrowest that holds every value exactly. */
static grdi_width fitting_width(const grdi_column *c)
{
    if (c->kind == GRD_COLUMN_CATEGORY) return GRDI_WIDTH_CODE;
    if (c->kind == GRD_COLUMN_TIME) return GRDI_WIDTH_F64;
    if (c->whole && c->least > INT8_MIN && c->most <= INT8_MAX) return GRDI_WIDTH_I8;
    if (c->whole && c->least > INT16_MIN && c->most <= INT16_MAX) return GRDI_WIDTH_I16;
    return c->in_f32 ? GRDI_WIDTH_F32 : GRDI_WIDTH_F64;
}

grd_status grdi_column_make(grd_table *table, int64_t column, grd_error *error)
{
    grdi_column *c = &table->columns[column];
    if (c->kind == GRD_COLUMN_EMPTY || c->kind == GRD_COLUMN_TEXT) return GRD_OK;
    c->width = fitting_width(c);
    c->data = grdi_alloc_zero((size_t)table->info.rows + 1, width_bytes[c->width]);
    if (!c->data)
        return grd_fail(error, GRD_E_MEMORY, "%s: out of memory for %lld rows of column '%.100s'", table->path,
                        (long long)table->info.rows, c->name);
    table->info.memory_bytes += table->info.rows * (int64_t)width_bytes[c->width];
    return GRD_OK;
}

void grdi_column_set(grdi_column *c, int64_t row, double value)
{
    bool missing = isnan(value);
    switch (c->width) {
    case GRDI_WIDTH_I8: ((int8_t *)c->data)[row] = missing ? INT8_MIN : (int8_t)value; break;
    case GRDI_WIDTH_I16: ((int16_t *)c->data)[row] = missing ? INT16_MIN : (int16_t)value; break;
    case GRDI_WIDTH_F32: ((float *)c->data)[row] = (float)value; break;
    case GRDI_WIDTH_F64: ((double *)c->data)[row] = value; break;
    case GRDI_WIDTH_CODE: ((uint16_t *)c->data)[row] = missing ? GRDI_NO_CATEGORY : (uint16_t)value; break;
    }
}

grd_status grdi_column_finish(grd_table *table, int64_t column, grd_error *error)
{
    grdi_column *c = &table->columns[column];
    if (c->kind != GRD_COLUMN_CATEGORY) return GRD_OK;
    uint16_t *order = grdi_alloc_zero(GRDI_CATEGORIES_MAX + 1, sizeof(*order)), *codes = c->data;
    if (!order || grdi_dictionary_sort(&c->categories, order)) {
        grdi_free(order);
        return grd_fail(error, GRD_E_MEMORY, "%s: out of memory for the categories of '%.100s'", table->path, c->name);
    }
    for (int64_t row = 0; row < table->info.rows; row++)
        if (codes[row] != GRDI_NO_CATEGORY) codes[row] = order[codes[row]];
    grdi_free(order);
    return GRD_OK;
}

/* ---- reading ---- */

double grd_table_number(const grd_table *table, int64_t column, int64_t row)
{
    const grdi_column *c = &table->columns[column];
    if (!c->data) return NAN;
    switch (c->width) {
    case GRDI_WIDTH_I8: {
        int8_t v = ((const int8_t *)c->data)[row];
        return v == INT8_MIN ? NAN : v;
    }
    case GRDI_WIDTH_I16: {
        int16_t v = ((const int16_t *)c->data)[row];
        return v == INT16_MIN ? NAN : v;
    }
    case GRDI_WIDTH_F32: return (double)((const float *)c->data)[row];
    case GRDI_WIDTH_F64: return ((const double *)c->data)[row];
    default: return NAN;
    }
}

int32_t grd_table_category(const grd_table *table, int64_t column, int64_t row)
{
    const grdi_column *c = &table->columns[column];
    if (!c->data || c->width != GRDI_WIDTH_CODE) return -1;
    uint16_t code = ((const uint16_t *)c->data)[row];
    return code == GRDI_NO_CATEGORY ? -1 : code;
}

const char *grd_table_category_name(const grd_table *table, int64_t column, int32_t category)
{
    const grdi_dictionary *d = &table->columns[column].categories;
    return category >= 0 && (size_t)category < d->count ? d->names[category] : "";
}

/* ---- numbers that are written as texts ---- */

enum { SUFFIX_MAX = 8 };

/* What is behind the number in a text, NULL where it is none or a bare one. */
static const char *behind_number(const char *text)
{
    static const char *const signs[] = {"$", "\u20ac", "\u00a3", "\u00a5"}; /* euro, pound, yen */
    const char *number = text + strspn(text, "+- ");
    bool more = false;
    for (size_t i = 0; i < sizeof(signs) / sizeof(signs[0]) && !more; i++) {
        size_t length = strlen(signs[i]);
        more = strncmp(number, signs[i], length) == 0;
        if (more) number += length;
    }
    number += strspn(number, "+- ");
    if (*number < '0' || *number > '9') return NULL;
    const char *end = number + strspn(number, "0123456789.,' ");
    if (strpbrk(end, "0123456789") || strlen(end) > SUFFIX_MAX) return NULL;
    return more || *end || memchr(number, ',', (size_t)(end - number)) ? end : NULL;
}

const char *grdi_column_beside(const grd_table *table, int64_t column, char text[GRDI_BESIDE_MAX])
{
    const grdi_dictionary *d = &table->columns[column].categories;
    const char *first = d->count ? behind_number(d->names[0]) : NULL;
    bool all = first != NULL;
    for (size_t i = 1; i < d->count && all; i++) {
        const char *end = behind_number(d->names[i]);
        all = end && strcmp(end, first) == 0;
    }
    text[0] = '\0';
    if (all)
        snprintf(text, GRDI_BESIDE_MAX, "; '%.60s' is a number with something beside it (write bare numbers)",
                 d->names[0]);
    return text;
}

const char *grd_column_kind_name(grd_column_kind kind)
{
    static const char *const names[] = {"number", "category", "time", "text", "empty"};
    return (unsigned)kind <= GRD_COLUMN_EMPTY ? names[kind] : "";
}

grd_column_info grd_table_column(const grd_table *table, int64_t column)
{
    const grdi_column *c = &table->columns[column];
    return (grd_column_info){.name = c->name,
                             .kind = c->kind,
                             .missing = c->count[GRDI_CELL_MISSING],
                             .categories = (int64_t)c->categories.count,
                             .whole = c->whole,
                             .day_first = c->day_first,
                             .least = c->least,
                             .most = c->most};
}

/* ---- by name ---- */

int64_t grd_table_find(const grd_table *table, const char *name)
{
    for (int64_t i = 0; i < table->info.columns; i++)
        if (strcmp(table->names[i], name) == 0) return i;
    return -1;
}

grd_status grd_table_need(const grd_table *table, const char *name, const char *what, int64_t *column, grd_error *error)
{
    *column = grd_table_find(table, name);
    if (*column >= 0) return GRD_OK;
    const char *nearest = "";
    size_t least = SIZE_MAX;
    for (int64_t i = 0; i < table->info.columns; i++) {
        size_t d = strcasecmp(name, table->names[i]) ? grdi_text_distance(name, table->names[i]) : 0;
        if (d >= least) continue;
        least = d;
        nearest = table->names[i];
    }
    return grd_fail(error, GRD_E_ARGUMENT, "%s: %s has no column '%.100s' (the nearest of its %lld is '%.100s')", what,
                    table->path, name, (long long)table->info.columns, nearest);
}

/* ---- numbers as categories ---- */

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* The different values of a column in ascending order; *count is more than GRDI_CATEGORIES_MAX where there are more. */
static grd_status different_values(const grd_table *table, int64_t column, double **values, size_t *count)
{
    double *v = *values = grdi_alloc(((size_t)table->info.rows + 1) * sizeof(double));
    size_t n = 0, kept = 0;
    if (!v) return GRD_E_MEMORY;
    for (int64_t row = 0; row < table->info.rows; row++) {
        double value = grd_table_number(table, column, row);
        if (!isnan(value)) v[n++] = value;
    }
    qsort(v, n, sizeof(*v), by_value);
    for (size_t i = 0; i < n; i++)
        if (i == 0 || v[i] != v[kept - 1]) v[kept++] = v[i];
    *count = kept;
    return GRD_OK;
}

/* As a number is written shortest: 10, 0.1, 1e+30. */
static void number_text(double value, char text[32])
{
    bool plain = value == floor(value) && fabs(value) < 1e15;
    for (int digits = plain ? 15 : 1; digits <= 17; digits++) {
        snprintf(text, 32, "%.*g", digits, value);
        if (strtod(text, NULL) == value) return;
    }
}

static grd_status name_values(grd_table *table, grdi_column *c, const double *values, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char text[32];
        int64_t number;
        number_text(values[i] == 0 ? 0 : values[i], text);
        if (grdi_dictionary_add(&c->categories, &table->texts, text, strlen(text), &number)) return GRD_E_MEMORY;
    }
    return GRD_OK;
}

static grd_status code_values(grd_table *table, int64_t column, const double *values, size_t count, grd_error *error)
{
    grdi_column *c = &table->columns[column];
    uint16_t *codes = grdi_alloc(((size_t)table->info.rows + 1) * sizeof(*codes));
    if (!codes || name_values(table, c, values, count)) {
        grdi_free(codes);
        return grd_fail(error, GRD_E_MEMORY, "%s: out of memory for the categories of '%.100s'", table->path, c->name);
    }
    for (int64_t row = 0; row < table->info.rows; row++) {
        double value = grd_table_number(table, column, row);
        const double *at = isnan(value) ? NULL : bsearch(&value, values, count, sizeof(*values), by_value);
        codes[row] = at ? (uint16_t)(at - values) : GRDI_NO_CATEGORY;
    }
    table->info.memory_bytes += table->info.rows * (2 - (int64_t)width_bytes[c->width]);
    grdi_free(c->data);
    c->data = codes;
    c->width = GRDI_WIDTH_CODE;
    c->kind = GRD_COLUMN_CATEGORY;
    return GRD_OK;
}

grd_status grd_table_as_categories(grd_table *table, int64_t column, grd_error *error)
{
    grdi_column *c = &table->columns[column];
    double *values;
    size_t count;
    if (c->kind == GRD_COLUMN_CATEGORY || c->kind == GRD_COLUMN_EMPTY) return GRD_OK;
    if (c->kind != GRD_COLUMN_NUMBER)
        return grd_fail(error, GRD_E_ARGUMENT, "%s: column '%.100s' holds %s", table->path, c->name,
                        c->kind == GRD_COLUMN_TIME ? "times, not categories" : "more than 65,535 different texts");
    if (different_values(table, column, &values, &count))
        return grd_fail(error, GRD_E_MEMORY, "%s: out of memory for the values of '%.100s'", table->path, c->name);
    grd_status status = count <= GRDI_CATEGORIES_MAX
                            ? code_values(table, column, values, count, error)
                            : grd_fail(error, GRD_E_ARGUMENT,
                                       "%s: column '%.100s' holds %zu different numbers (at most %d can be categories)",
                                       table->path, c->name, count, GRDI_CATEGORIES_MAX);
    grdi_free(values);
    return status;
}

bool grd_table_note(const grd_table *table, int32_t index, char *text, size_t text_bytes)
{
    if (index < 0 || (size_t)index >= table->note_count) return false;
    snprintf(text, text_bytes, "%s", table->notes[index]);
    return true;
}
