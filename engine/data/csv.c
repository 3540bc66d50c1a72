/* csv.c - the cells of a CSV file: quotes, delimiters, line ends and what is wrong with them. */
#include "data/csv.h"

#include "base/memory.h"
#include "data/utf8.h"

#include <stdarg.h>
#include <string.h>

grd_status grdi_csv_fail(const grdi_csv *csv, const char *format, ...)
{
    char what[512], place[160] = "";
    va_list list;
    va_start(list, format);
    vsnprintf(what, sizeof(what), format, list);
    va_end(list);
    if (csv->names && csv->column < csv->name_count)
        snprintf(place, sizeof(place), ", column '%.100s'", csv->names[csv->column]);
    else if (csv->column > 0) snprintf(place, sizeof(place), ", cell %lld", (long long)csv->column + 1);
    return grd_fail(csv->error, GRD_E_FORMAT, "%s: line %lld%s: %s", csv->path, (long long)csv->row_line, place, what);
}

/* ---- the beginning ---- */

static bool begins(const grdi_csv *csv, const char *bytes, size_t count)
{
    return (size_t)(csv->end - csv->begin) >= count && memcmp(csv->begin, bytes, count) == 0;
}

static const char *what_it_is(const grdi_csv *csv)
{
    if (begins(csv, "PK\3\4", 4)) return "is a ZIP or Excel file (save the sheet as CSV, UTF-8)";
    if (begins(csv, "\xD0\xCF\x11\xE0", 4)) return "is an Excel file (save the sheet as CSV, UTF-8)";
    if (begins(csv, "\x1F\x8B", 2)) return "is gzipped (unpack it first: gunzip)";
    if (begins(csv, "PAR1", 4)) return "is a Parquet file (write it as CSV)";
    if (begins(csv, "\xFF\xFE", 2) || begins(csv, "\xFE\xFF", 2)) return "is in UTF-16 (save it as UTF-8)";
    return NULL;
}

/* The one of the usual delimiters that the first line has most of, outside of quotes. */
static char find_delimiter(const grdi_csv *csv)
{
    static const char usual[] = ",;\t|";
    size_t counts[4] = {0}, best = 0;
    bool quoted = false;
    for (const char *c = csv->at; c < csv->end && (quoted || (*c != '\n' && *c != '\r')); c++) {
        if (*c == '"') quoted = !quoted;
        const char *found = quoted || *c == '\0' ? NULL : strchr(usual, *c);
        if (found) counts[found - usual]++;
    }
    for (size_t i = 1; i < 4; i++)
        if (counts[i] > counts[best]) best = i;
    return usual[best];
}

grd_status grdi_csv_start(grdi_csv *csv)
{
    const char *other = what_it_is(csv);
    if (other) return grd_fail(csv->error, GRD_E_FORMAT, "%s: %s", csv->path, other);
    csv->at = csv->begin;
    if (begins(csv, "\xEF\xBB\xBF", 3)) csv->at += 3;
    csv->line = csv->row_line = 1;
    csv->column = 0;
    while (csv->at < csv->end && (*csv->at == '\n' || *csv->at == '\r')) {
        csv->line += *csv->at == '\n';
        csv->at++;
    }
    csv->row_line = csv->line;
    csv->delimiter = find_delimiter(csv);
    return GRD_OK;
}

void grdi_csv_end(grdi_csv *csv)
{
    grdi_free(csv->scratch);
    csv->scratch = NULL;
    csv->scratch_capacity = 0;
}

/* ---- rows ---- */

static bool is_blank(const grdi_csv *csv, char c)
{
    return c == ' ' || (c == '\t' && csv->delimiter != '\t');
}

/* Passes over a line end, if there is one. */
static bool take_line_end(grdi_csv *csv)
{
    if (csv->at == csv->end || (*csv->at != '\n' && *csv->at != '\r')) return false;
    if (*csv->at == '\r' && csv->at + 1 < csv->end && csv->at[1] == '\n') csv->at++;
    csv->at++;
    csv->line++;
    return true;
}

bool grdi_csv_next_row(grdi_csv *csv)
{
    for (;;) {
        const char *first = csv->at;
        while (csv->at < csv->end && is_blank(csv, *csv->at)) csv->at++;
        if (csv->at == csv->end) return false;
        if (take_line_end(csv)) continue;
        csv->at = first;
        csv->row_line = csv->line;
        csv->column = 0;
        return true;
    }
}

/* ---- cells ---- */

static grd_status check_bytes(const grdi_csv *csv, const char *text, size_t length)
{
    if (memchr(text, '\0', length)) return grdi_csv_fail(csv, "holds a NUL byte (this is no text; save it as UTF-8)");
    if (grdi_utf8_valid((const uint8_t *)text, length) == length) return GRD_OK;
    return grdi_csv_fail(csv, "is not UTF-8 (save the file as UTF-8)");
}

/* What follows the last byte of a cell. */
static grd_status end_cell(grdi_csv *csv, grdi_csv_cell *cell)
{
    cell->last = true;
    if (csv->at < csv->end && *csv->at == csv->delimiter) {
        cell->last = false;
        csv->at++;
    } else {
        take_line_end(csv);
    }
    return GRD_OK;
}

static void trim(grdi_csv_cell *cell)
{
    while (cell->length && (*cell->text == ' ' || *cell->text == '\t')) cell->text++, cell->length--;
    while (cell->length && (cell->text[cell->length - 1] == ' ' || cell->text[cell->length - 1] == '\t'))
        cell->length--;
}

static grd_status plain_cell(grdi_csv *csv, grdi_csv_cell *cell)
{
    const char *c = csv->at, *end = csv->end;
    char delimiter = csv->delimiter;
    unsigned char seen = 0, least = 0xFF;
    for (; c < end && *c != delimiter && *c != '\n' && *c != '\r'; c++) {
        seen |= (unsigned char)*c;
        least = (unsigned char)*c < least ? (unsigned char)*c : least;
    }
    *cell = (grdi_csv_cell){.text = csv->at, .length = (size_t)(c - csv->at)};
    grd_status status = seen >= 0x80 || least == 0 ? check_bytes(csv, cell->text, cell->length) : GRD_OK;
    if (status) return status;
    csv->at = c;
    trim(cell);
    return end_cell(csv, cell);
}

/* The text between `first` and `end` with doubled quotes made single. */
static grd_status unquote(grdi_csv *csv, const char *first, const char *end, grdi_csv_cell *cell)
{
    size_t length = (size_t)(end - first), used = 0;
    if (length > csv->scratch_capacity) {
        char *more = grdi_realloc(csv->scratch, length, 2);
        if (!more) return grd_fail(csv->error, GRD_E_MEMORY, "%s: out of memory", csv->path);
        csv->scratch = more;
        csv->scratch_capacity = 2 * length;
    }
    for (const char *c = first; c < end; c++) {
        csv->scratch[used++] = *c;
        if (*c == '"') c++;
    }
    cell->text = csv->scratch;
    cell->length = used;
    return GRD_OK;
}

static grd_status quoted_cell(grdi_csv *csv, grdi_csv_cell *cell)
{
    const char *first = csv->at + 1, *c = first;
    bool doubled = false;
    int64_t lines = 0;
    for (; c < csv->end; c++) {
        lines += *c == '\n';
        if (*c != '"') continue;
        if (c + 1 == csv->end || c[1] != '"') break;
        doubled = true;
        c++;
    }
    if (c == csv->end)
        return grdi_csv_fail(csv, "opens a quote that is never closed (end the cell with \", or double quotes in it)");
    grd_status status = check_bytes(csv, first, (size_t)(c - first));
    if (status) return status;
    csv->at = c + 1;
    csv->line += lines;
    *cell = (grdi_csv_cell){.text = first, .length = (size_t)(c - first), .quoted = true};
    if (doubled) status = unquote(csv, first, c, cell);
    if (status) return status;
    trim(cell);
    while (csv->at < csv->end && is_blank(csv, *csv->at)) csv->at++;
    if (csv->at < csv->end && *csv->at != csv->delimiter && *csv->at != '\n' && *csv->at != '\r')
        return grdi_csv_fail(csv, "has text after a closing quote (write a quote inside of quotes twice)");
    return end_cell(csv, cell);
}

grd_status grdi_csv_next_cell(grdi_csv *csv, grdi_csv_cell *cell)
{
    const char *c = csv->at;
    while (c < csv->end && is_blank(csv, *c)) c++;
    bool quoted = c < csv->end && *c == '"';
    if (quoted) csv->at = c;
    grd_status status = quoted ? quoted_cell(csv, cell) : plain_cell(csv, cell);
    csv->column++;
    return status;
}
