/* Tables: what cells are taken for, quoting, what is refused with which words, and every allocation and file call
 * failing once. */
#include "faults.h"
#include "scratch.h"

#include <gradus/table.h>

#include "data/table.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

TestSuite(table, .fini = scratch_remove);

static const char *written_bytes(const char *text, size_t size)
{
    const char *path = scratch_path("t.csv");
    scratch_write(path, text, size);
    return path;
}

static grd_table *opened(const char *text)
{
    grd_table *table;
    grd_error error = {0};
    cr_assert(grd_table_open(written_bytes(text, strlen(text)), NULL, &table, &error) == GRD_OK, "%s", error.message);
    return table;
}

static grd_column_info column(const grd_table *table, const char *name)
{
    int64_t at = grd_table_find(table, name);
    cr_assert(at >= 0, "no column %s", name);
    return grd_table_column(table, at);
}

/* ---- cells ---- */

static grdi_cell cell(const char *text, bool comma)
{
    return grdi_cell_read(text, strlen(text), (grdi_cell_style){.comma = comma});
}

Test(table, numbers_are_read_to_the_last_bit)
{
    static const char *const texts[] = {"0",
                                        "-0",
                                        "1",
                                        "+7",
                                        ".5",
                                        "5.",
                                        "0.1",
                                        "-123.456",
                                        "1e3",
                                        "1E-3",
                                        "2.5e+10",
                                        "1e22",
                                        "1e23",
                                        "1e-7",
                                        "0e9",
                                        "9007199254740993.0",
                                        "0.30000000000000004",
                                        "9.9999999999999997e99",
                                        "4.9e-324",
                                        "1e-400",
                                        "123456789012345",
                                        "2.2250738585072011e-308",
                                        "6.02214076e23",
                                        "10000000000000000000e81"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        grdi_cell c = cell(texts[i], false);
        cr_assert(c.kind == GRDI_CELL_NUMBER, "%s is not taken for a number", texts[i]);
        cr_assert(c.value == strtod(texts[i], NULL), "%s was read as %.17g", texts[i], c.value);
    }
    for (int i = 0; i < 20000; i++) {
        char text[40];
        double value = ldexp((double)rand() * 4e9 + rand(), rand() % 200 - 150);
        snprintf(text, sizeof(text), "%.*g", 1 + rand() % 17, value);
        grdi_cell c = cell(text, false);
        bool code = c.kind == GRDI_CELL_CODE;
        cr_assert((c.kind == GRDI_CELL_NUMBER || code) && c.value == strtod(text, NULL), "%s: %.17g", text, c.value);
    }
}

Test(table, cells_are_what_they_look_like)
{
    static const struct {
        const char *text;
        grdi_cell_kind kind;
    } cells[] = {{"", GRDI_CELL_MISSING},
                 {"NA", GRDI_CELL_MISSING},
                 {"nan", GRDI_CELL_MISSING},
                 {"null", GRDI_CELL_MISSING},
                 {"?", GRDI_CELL_MISSING},
                 {"#N/A", GRDI_CELL_MISSING},
                 {"00417", GRDI_CELL_CODE},
                 {"1234567890123456", GRDI_CELL_CODE},
                 {"0417.5", GRDI_CELL_NUMBER},
                 {"1e999", GRDI_CELL_TEXT},
                 {"1.1e100", GRDI_CELL_TEXT}, /* no measurement: its square has no room */
                 {"inf", GRDI_CELL_TEXT},
                 {"0x10", GRDI_CELL_TEXT},
                 {"1,5", GRDI_CELL_TEXT},
                 {"12a", GRDI_CELL_TEXT},
                 {"-", GRDI_CELL_TEXT},
                 {"1e", GRDI_CELL_TEXT},
                 {"..1", GRDI_CELL_TEXT},
                 {"1.2.3", GRDI_CELL_TEXT},
                 {"2026-11-26", GRDI_CELL_TIME},
                 {"2026-13-26", GRDI_CELL_TEXT},
                 {"2026-02-29", GRDI_CELL_TEXT},
                 {"2024-02-29", GRDI_CELL_TIME},
                 {"30.2.2024", GRDI_CELL_TEXT},
                 {"5:30", GRDI_CELL_TEXT},
                 {"2026-11-26T24:00", GRDI_CELL_TEXT},
                 {"Nov 26 2026 x", GRDI_CELL_TEXT},
                 {"Mayor 3 2020", GRDI_CELL_TEXT}};
    for (size_t i = 0; i < sizeof(cells) / sizeof(cells[0]); i++)
        cr_assert(cell(cells[i].text, false).kind == cells[i].kind, "'%s' is taken for kind %d", cells[i].text,
                  (int)cell(cells[i].text, false).kind);
    cr_assert(cell("1,5", true).value == 1.5 && cell("-0,25e1", true).value == -2.5);
}

Test(table, times_are_seconds_since_1970)
{
    static const struct {
        const char *text;
        double seconds;
    } times[] = {{"1970-01-01", 0},
                 {"2026-11-26", 1795651200},
                 {"2026/11/26 00:00", 1795651200},
                 {"2026-11-26T14:30:05.25Z", 1795703405.25},
                 {"2026-11-26 14:30:00+01:00", 1795699800},
                 {"2026-11-26T14:30-0530", 1795723200},
                 {"26.11.2026", 1795651200},
                 {"26/11/2026", 1795651200},
                 {"11/26/2026 2:30 PM", 1795703400},
                 {"11/26/2026 12:00 AM", 1795651200},
                 {"26 Nov 2026", 1795651200},
                 {"26-Nov-2026", 1795651200},
                 {"Nov 26, 2026", 1795651200},
                 {"November 26 2026", 1795651200},
                 {"Jan 1970", 0},
                 {"2000-02", 949363200},
                 {"1600-03-01", -11670912000},
                 {"2026-11-26 12:00:00 UTC", 1795694400}};
    for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
        grdi_cell c = cell(times[i].text, false);
        cr_assert(c.kind == GRDI_CELL_TIME && c.value == times[i].seconds, "%s: kind %d, %.17g", times[i].text,
                  (int)c.kind, c.value);
    }
    char text[40];
    for (double day = -200000; day < 200000; day += 17) { /* there and back */
        grdi_time_text(day * 86400 + 3723, text, sizeof(text));
        grdi_cell c = cell(text, false);
        cr_assert(c.kind == GRDI_CELL_TIME && c.value == day * 86400 + 3723, "%s: %.17g", text, c.value);
    }
}

/* ---- files ---- */

Test(table, quotes_line_ends_and_marks_are_those_of_rfc_4180)
{
    grd_table *t = opened("\xEF\xBB\xBF\"a\"\"b\", name ,x\r\n\"1\",\"say \"\"no\"\",\nnow\",2.5\r\n\r\n 2 "
                          ",\"\",-1\n3,plain 5\" pipe,\t4 ");
    cr_assert(grd_table_about(t).rows == 3 && grd_table_about(t).columns == 3);
    cr_assert(column(t, "a\"b").kind == GRD_COLUMN_NUMBER && column(t, "a\"b").most == 3);
    int64_t name = grd_table_find(t, "name"), x = grd_table_find(t, "x");
    cr_assert_str_eq(grd_table_category_name(t, name, grd_table_category(t, name, 0)), "say \"no\",\nnow");
    cr_assert(grd_table_category(t, name, 1) == -1 && column(t, "name").missing == 1);
    cr_assert_str_eq(grd_table_category_name(t, name, grd_table_category(t, name, 2)), "plain 5\" pipe");
    cr_assert(grd_table_number(t, x, 0) == 2.5 && grd_table_number(t, x, 1) == -1 && grd_table_number(t, x, 2) == 4);
    grd_table_free(t);
}

Test(table, delimiters_are_found_and_commas_are_decimal_beside_others)
{
    grd_table *t = opened("a;b;\"c,d,e\"\n1,5;2;x\n-2,25;3;y\n");
    cr_assert(grd_table_about(t).delimiter == ';' && grd_table_number(t, 0, 1) == -2.25);
    grd_table_free(t);
    t = opened("a\tb\n\t1\nx\t\n");
    cr_assert(grd_table_about(t).delimiter == '\t' && grd_table_about(t).rows == 2);
    cr_assert(column(t, "a").missing == 1 && column(t, "b").missing == 1);
    grd_table_free(t);
    t = opened("only\r1\r2\r"); /* line ends of old Macs */
    cr_assert(grd_table_about(t).rows == 2 && grd_table_number(t, 0, 1) == 2);
    grd_table_free(t);
}

Test(table, columns_are_of_the_kind_of_all_their_cells)
{
    grd_table *t = opened("id,zip,small,large,big,real,when,mixed,none,yes\n"
                          "1,01234,-127,32767,70000,0.5,2026-11-26,A5,,true\n"
                          "2,94103,127,-5,70001,0.1,2026-11-27,7,NA,false\n"
                          "3,10001,,NaN,70002,1e100,,A5,?,true\n");
    static const struct {
        const char *name;
        grd_column_kind kind;
        grdi_width width;
    } want[] = {{"id", GRD_COLUMN_NUMBER, GRDI_WIDTH_I8},    {"zip", GRD_COLUMN_CATEGORY, GRDI_WIDTH_CODE},
                {"small", GRD_COLUMN_NUMBER, GRDI_WIDTH_I8}, {"large", GRD_COLUMN_NUMBER, GRDI_WIDTH_I16},
                {"big", GRD_COLUMN_NUMBER, GRDI_WIDTH_F32},  {"real", GRD_COLUMN_NUMBER, GRDI_WIDTH_F64},
                {"when", GRD_COLUMN_TIME, GRDI_WIDTH_F64},   {"mixed", GRD_COLUMN_CATEGORY, GRDI_WIDTH_CODE},
                {"none", GRD_COLUMN_EMPTY, GRDI_WIDTH_I8},   {"yes", GRD_COLUMN_CATEGORY, GRDI_WIDTH_CODE}};
    for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
        int64_t at = grd_table_find(t, want[i].name);
        cr_assert(at == (int64_t)i && t->columns[at].kind == want[i].kind && t->columns[at].width == want[i].width,
                  "%s is a %s of width %d", want[i].name, grd_column_kind_name(t->columns[at].kind),
                  (int)t->columns[at].width);
    }
    cr_assert(grd_table_number(t, 2, 0) == -127 && isnan(grd_table_number(t, 2, 2)) &&
              isnan(grd_table_number(t, 3, 2)));
    cr_assert(grd_table_number(t, 5, 1) == 0.1 && isnan(grd_table_number(t, 6, 2)));
    cr_assert(grd_table_category(t, 7, 0) == 1 && grd_table_category(t, 7, 1) == 0, "categories go by their names");
    char note[256];
    cr_assert(grd_table_note(t, 0, note, sizeof(note)) && strstr(note, "'01234' in line 2"), "%s", note);
    cr_assert(!grd_table_note(t, 1, note, sizeof(note)));
    grd_table_free(t);
}

Test(table, days_and_months_are_told_apart_by_the_column)
{
    grd_table *t = opened("d,m,e\n3/4/2026,3/4/2026,3/4/2026\n13/4/2026,4/13/2026,5/4/2026\n");
    cr_assert(column(t, "d").day_first && !column(t, "m").day_first);
    cr_assert(grd_table_number(t, 0, 0) == cell("2026-04-03", false).value);
    cr_assert(grd_table_number(t, 1, 0) == cell("2026-03-04", false).value);
    cr_assert(grd_table_number(t, 2, 0) == cell("2026-03-04", false).value);
    char note[256];
    cr_assert(grd_table_note(t, 0, note, sizeof(note)) && strstr(note, "'e'"), "an open order is worth a note");
    grd_table_free(t);
    const grd_column_expected day = {.name = "e", .kind = GRD_COLUMN_TIME, .day_first = true};
    const grd_table_options options = {sizeof(options), &day, 1};
    grd_error error = {0};
    cr_assert(grd_table_open(scratch_path("t.csv"), &options, &t, &error) == GRD_OK, "%s", error.message);
    cr_assert(grd_table_number(t, 2, 0) == cell("2026-04-03", false).value, "the order of another file was given");
    grd_table_free(t);
}

Test(table, numbers_become_categories_by_value)
{
    grd_table *t = opened("a,b\n10,0.1\n9,\n10,1e30\n-1,0.1\n");
    cr_assert(grd_table_as_categories(t, 0, NULL) == GRD_OK && grd_table_as_categories(t, 1, NULL) == GRD_OK);
    cr_assert(column(t, "a").categories == 3 && column(t, "b").categories == 2);
    cr_assert(grd_table_category(t, 0, 0) == 2 && grd_table_category(t, 0, 1) == 1 && grd_table_category(t, 0, 3) == 0);
    cr_assert_str_eq(grd_table_category_name(t, 0, 2), "10");
    cr_assert_str_eq(grd_table_category_name(t, 1, 1), "1e+30");
    cr_assert(grd_table_category(t, 1, 1) == -1);
    grd_table_free(t);
}

Test(table, too_many_texts_are_not_kept)
{
    char *text = malloc(2000000), *at = text + sprintf(text, "id,x\n");
    for (int i = 0; i < 70000; i++) at += sprintf(at, "u%d-%d,%d\n", i, i % 7, i % 100);
    grd_table *t = opened(text);
    free(text);
    cr_assert(column(t, "id").kind == GRD_COLUMN_TEXT && grd_table_category(t, 0, 5) == -1);
    cr_assert(grd_table_about(t).rows == 70000 && grd_table_about(t).memory_bytes == 70000);
    cr_assert(grd_table_number(t, 1, 69999) == 99);
    grd_table_free(t);
}

/* ---- what is refused ---- */

Test(table, errors_name_line_and_column)
{
    static const struct {
        const char *text, *words;
    } bad[] = {
        {"", "is empty"},
        {"a,b\n", "has no rows"},
        {"a,b,a\n1,2,3\n", "line 1: two columns have the name 'a'"},
        {"a,b\n1,2\n3\n", "line 3: has 1 cell, the first line names 2 columns (leave cells without a value empty)"},
        {"a,b\n1,2\n\n3,4,5\n", "line 4: has 3 cells, the first line names 2 columns (a cell that holds the delimiter"},
        {"a,b\n1,\"x\ny\"\n2,\"open\n", "line 4, column 'b': opens a quote that is never closed"},
        {"a,b\n1,\"x\"y\n", "line 2, column 'b': has text after a closing quote"},
        {"a,b\n1,caf\xE9\n", "line 2, column 'b': is not UTF-8"},
        {"1,2\n3,4\n", "line 1: holds numbers only (the first line must name the columns)"},
        {"PK\3\4xx", "is a ZIP or Excel file"},
        {"\xFF\xFE"
         "a",
         "is in UTF-16"},
        {"a\n1\n2\n3\n4\n5\n6\n7\n8\n9\nx1\n", "line 11, column 'a': 'x1' is no number, as 9 other cells are"},
        {"a\n1\n2\n3\n4\n5\n6\n7\n8\n9\n2026-01-01\n", "line 11, column 'a': '2026-01-01' is no number"},
        {"a\n13/1/2026\n1/13/2026\n", "dates begin with the day in line 2 ('13/1/2026'), with the month in line 3"},
        {"a;b\n1,5;x\n1.5;y\n", "column 'a': has numbers with a decimal point and with a decimal comma"},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        grd_table *t;
        grd_error error = {0};
        grd_status status = grd_table_open(written_bytes(bad[i].text, strlen(bad[i].text)), NULL, &t, &error);
        cr_assert(status == GRD_E_FORMAT && !t, "accepted: %s", bad[i].text);
        cr_assert(strstr(error.message, bad[i].words) && strstr(error.message, "t.csv: "), "%s", error.message);
    }
    grd_table *t;
    grd_error error = {0};
    cr_assert(grd_table_open(written_bytes("a,b\n1,\0\n", 8), NULL, &t, &error) == GRD_E_FORMAT);
    cr_assert(strstr(error.message, "line 2, column 'b': holds a NUL byte"), "%s", error.message);
}

Test(table, a_wrong_name_gets_the_nearest_one)
{
    grd_table *t = opened("age,height,weight\n1,2,3\n");
    grd_error error = {0};
    int64_t at;
    cr_assert(grd_table_need(t, "wieght", "data.target", &at, &error) == GRD_E_ARGUMENT);
    cr_assert(strstr(error.message, "has no column 'wieght' (the nearest of its 3 is 'weight')"), "%s", error.message);
    cr_assert(grd_table_need(t, "height", "data.target", &at, NULL) == GRD_OK && at == 1);
    grd_table_free(t);
}

Test(table, each_allocation_and_file_call_can_fail)
{
    const char text[] = "a,b,c\n1,\"x\"\"y\",2026-01-01\n2,z,\n", *path = written_bytes(text, strlen(text));
    faults_install();
    for (long n = 1; n < 1000; n++) {
        grd_table *t;
        grd_error error = {0};
        faults_fail_at(n);
        grd_status status = grd_table_open(path, NULL, &t, &error);
        if (!status) status = grd_table_as_categories(t, 0, &error);
        bool hit = faults_hit();
        faults_fail_at(0);
        cr_assert(status != GRD_OK || !hit || n > 1, "fault %ld went unseen", n);
        cr_assert((status == GRD_OK) == (error.status == GRD_OK), "fault %ld: %d without a message", n, (int)status);
        cr_assert(status == GRD_OK || status == GRD_E_MEMORY || status == GRD_E_IO, "fault %ld: %s", n, error.message);
        grd_table_free(t);
        cr_assert(faults_held() == 0, "fault %ld: %ld are held", n, faults_held());
        if (!hit) return;
    }
    cr_assert(false, "no end of faults");
}
