/* report_table.c - what the report of a table's model shows beside the rest: classes and which are taken for which,
 * residuals, and the rows that are most wrong, with their values. */
#include "data/cell.h"
#include "train/report_html.h"
#include "train/report_images.h"
#include "train/table.h"

#include <math.h>
#include <stdio.h>

enum { COLUMNS_SHOWN = 12 };

static void put_text(grdi_writer *w, const char *text)
{
    grdi_writer_print(w, "<td>");
    grdi_html_escaped(w, text);
    grdi_writer_print(w, "</td>");
}

static void put_number(grdi_writer *w, double value)
{
    char text[32];
    snprintf(text, sizeof(text), "%.6g", value);
    put_text(w, isnan(value) ? "" : text);
}

static void put_cell(grdi_writer *w, const grd_table *table, int64_t column, int64_t row)
{
    char text[64];
    grd_column_info info = grd_table_column(table, column);
    double value = grd_table_number(table, column, row);
    int32_t category = grd_table_category(table, column, row);
    if (info.kind == GRD_COLUMN_CATEGORY)
        put_text(w, category < 0 ? "" : grd_table_category_name(table, column, category));
    else if (info.kind == GRD_COLUMN_TIME && !isnan(value)) put_text(w, grdi_time_text(value, text, sizeof(text)));
    else put_number(w, value);
}

/* The columns that the model reads, as far as there is room. */
static int64_t shown(const grdi_table_run *run)
{
    return run->binding.column_count < COLUMNS_SHOWN ? run->binding.column_count : COLUMNS_SHOWN;
}

static void begin_rows(grdi_writer *w, const grdi_table_run *run, const char *what, const char *heads)
{
    int64_t columns = run->binding.column_count;
    grdi_writer_print(w, "<h2>Most wrong</h2>\n<section><p class=\"soft\">%s", what);
    if (columns > COLUMNS_SHOWN)
        grdi_writer_print(w, "; the first %d of %lld columns", COLUMNS_SHOWN, (long long)columns);
    grdi_writer_print(w, "</p><div class=\"wide\"><table>\n<tr><th>row</th>%s", heads);
    for (int64_t c = 0; c < shown(run); c++) {
        grdi_writer_print(w, "<th>");
        grdi_html_escaped(w, grd_table_column(run->table, run->binding.columns[c]).name);
        grdi_writer_print(w, "</th>");
    }
    grdi_writer_print(w, "</tr>\n");
}

static void end_row(grdi_writer *w, const grdi_table_run *run, int64_t row)
{
    for (int64_t c = 0; c < shown(run); c++) put_cell(w, run->table, run->binding.columns[c], row);
    grdi_writer_print(w, "</tr>\n");
}

static void end_rows(grdi_writer *w)
{
    grdi_writer_print(w, "</table></div></section>\n");
}

static void put_mistakes(grdi_writer *w, const grdi_table_run *run)
{
    const grd_classification *c = &run->seen.classes;
    char number[24];
    if (!c->mistake_count) return;
    begin_rows(w, run,
               "the rows held out whose own class is least probable to the model: hard ones, or labels to be "
               "looked at; rows are counted from 1",
               "<th>is</th><th>%</th><th>taken for</th><th>%</th>");
    for (int32_t i = 0; i < c->mistake_count; i++) {
        const grd_mistake *m = &c->mistakes[i];
        grdi_writer_print(w, "<tr><td>%lld</td>", (long long)m->index + 1);
        put_text(w, grd_classification_name(c, m->label, number));
        grdi_writer_print(w, "<td>%.2g</td>", 100 * m->probability);
        put_text(w, grd_classification_name(c, m->predicted, number));
        grdi_writer_print(w, "<td>%.3g</td>", 100 * m->predicted_probability);
        end_row(w, run, m->index);
    }
    end_rows(w);
}

static void put_errors(grdi_writer *w, const grdi_table_run *run)
{
    const grdi_tabular_seen *seen = &run->seen;
    if (!seen->worst_count) return;
    grdi_writer_print(w, "<h2>Errors</h2>\n<div class=\"grid\">\n");
    grdi_html_residuals(w, seen->drawn, seen->drawn_count, run->split.count[1]);
    grdi_writer_print(w, "</div>\n");
    begin_rows(w, run,
               "the rows held out that are furthest from what was said of them: hard ones, or cells to be "
               "looked at; rows are counted from 1",
               "<th>is</th><th>said</th><th>difference</th>");
    for (int32_t i = 0; i < seen->worst_count; i++) {
        const grdi_row_said *r = &seen->worst[i];
        grdi_writer_print(w, "<tr><td>%lld</td>", (long long)r->row + 1);
        put_number(w, r->is);
        put_number(w, r->said);
        put_number(w, r->is - r->said);
        end_row(w, run, r->row);
    }
    end_rows(w);
}

void grdi_report_table(grdi_writer *w, const grdi_table_run *run)
{
    grdi_report_classes(w, &run->seen.classes, "rows");
    put_mistakes(w, run);
    put_errors(w, run);
}
