/* fuzz_csv.c - the reader of tables on any bytes; what it made of them is written again, and must read the same. */
#include "fuzz.h"

#include <gradus/table.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ROOM = 1 << 20, COLUMNS_MOST = 64 };
static char text[ROOM];
static size_t used;

static void put(const char *from, bool quoted)
{
    if (quoted) text[used++] = '"';
    for (; *from && used + 8 < ROOM; from++) {
        if (quoted && *from == '"') text[used++] = '"';
        text[used++] = *from;
    }
    if (quoted) text[used++] = '"';
}

static void write_cell(const grd_table *table, int64_t column, int64_t row)
{
    char number[40];
    grd_column_kind kind = grd_table_column(table, column).kind;
    double value = grd_table_number(table, column, row);
    int32_t category = grd_table_category(table, column, row);
    snprintf(number, sizeof number, "%.17g", value);
    if (kind == GRD_COLUMN_NUMBER && !isnan(value)) put(number, false);
    if (category >= 0) put(grd_table_category_name(table, column, category), true);
}

static void write_table(const grd_table *table)
{
    grd_table_info info = grd_table_about(table);
    used = 0;
    for (int64_t row = -1; row < info.rows; row++)
        for (int64_t c = 0; c < info.columns; c++) {
            if (row < 0) put(grd_table_column(table, c).name, true);
            else if (info.columns > 1) write_cell(table, c, row);
            text[used++] = c + 1 < info.columns ? ',' : '\n';
        }
}

static void compare(const grd_table *a, const grd_table *b)
{
    grd_table_info info = grd_table_about(a);
    FUZZ_CHECK(grd_table_about(b).rows == info.rows && grd_table_about(b).columns == info.columns);
    for (int64_t c = 0; c < info.columns; c++) {
        grd_column_info x = grd_table_column(a, c), y = grd_table_column(b, c);
        FUZZ_CHECK(strcmp(x.name, y.name) == 0);
        if (x.kind > GRD_COLUMN_CATEGORY) continue;
        FUZZ_CHECK(x.kind == y.kind && x.missing == y.missing && x.categories == y.categories);
        for (int64_t row = 0; row < info.rows; row++) {
            double v = grd_table_number(a, c, row), w = grd_table_number(b, c, row);
            FUZZ_CHECK(v == w || (isnan(v) && isnan(w)));
            FUZZ_CHECK(grd_table_category(a, c, row) == grd_table_category(b, c, row));
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    grd_table *table, *again;
    grd_error error = {0};
    fuzz_file_put("t.csv", data, size);
    grd_status status = grd_table_open("t.csv", NULL, &table, &error);
    if (status != GRD_OK) {
        fuzz_check_error(status, &error);
        FUZZ_CHECK(!table);
        return 0;
    }
    grd_table_info info = grd_table_about(table);
    FUZZ_CHECK(info.rows > 0 && info.columns > 0);
    grd_column_expected expected[COLUMNS_MOST];
    grd_table_options options = {sizeof options, expected, 0};
    for (int64_t c = 0; c < info.columns && c < COLUMNS_MOST; c++) {
        grd_column_info column = grd_table_column(table, c);
        FUZZ_CHECK(grd_table_find(table, column.name) == c);
        if (column.kind <= GRD_COLUMN_CATEGORY)
            expected[options.expected_count++] = (grd_column_expected){.name = column.name, .kind = column.kind};
    }
    if (info.columns > 1 && info.columns <= COLUMNS_MOST) {
        write_table(table);
        fuzz_file_put("again.csv", text, used);
        status = grd_table_open("again.csv", &options, &again, &error);
        FUZZ_CHECK(status == GRD_OK);
        compare(table, again);
        grd_table_free(again);
    }
    for (int64_t c = 0; c < info.columns; c++) {
        status = grd_table_as_categories(table, c, NULL);
        FUZZ_CHECK(status == GRD_OK || status == GRD_E_ARGUMENT);
    }
    grd_table_free(table);
    return 0;
}
