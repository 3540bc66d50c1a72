/* series.c - from the rows of a table to steps of a series. */
#include "data/series.h"

#include "base/memory.h"
#include "data/table.h"
#include "data/cell.h"

#include <gradus/table.h>

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Of the rows: how many steps may be added for gaps before these are no gaps any more. */
#define GAPS_MOST 0.1
/* Of a step: by how much times may be off, for what rounding leaves. */
#define TIME_TOLERANCE 1e-3
#define DAY 86400.0

/* A row of the table that has a time. */
typedef struct row {
    double time;
    int64_t row;
} row;

typedef struct reader {
    const grdi_series_options *options;
    grd_table *table;
    int64_t time, columns[GRDI_SERIES_COLUMNS_MAX]; /* in the table */
    row *rows;
    int64_t row_count;
    double *gaps; /* [row_count - 1], in the clock's unit; scratch */
    grdi_series *s;
    grd_error *error;
} reader;

static grd_status out_of_memory(const reader *r)
{
    return grd_fail(r->error, GRD_E_MEMORY, "%s: out of memory for the series", r->options->path);
}

static grd_status note(reader *r, const char *format, ...) GRD_PRINTF(2, 3);

static grd_status note(reader *r, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    char *copy = GRDI_GROW(r->s->notes, r->s->note_capacity, r->s->note_count) ? grdi_strdup(text) : NULL;
    if (!copy) return out_of_memory(r);
    r->s->notes[r->s->note_count++] = copy;
    return GRD_OK;
}

static const char *are(int64_t count)
{
    return count == 1 ? "" : "s";
}

/* ---- times ---- */

static void date_of(double seconds, struct tm *date)
{
    time_t whole = (time_t)floor(seconds);
    gmtime_r(&whole, date);
}

/* With a time of day where steps are not whole days. */
static char *time_text(const grdi_series *s, double time, char *text, size_t text_bytes)
{
    bool of_day = s->clock == GRDI_CLOCK_SECONDS && fmod(s->step, DAY) != 0;
    if (s->dated) grdi_time_text(time, text, text_bytes);
    size_t length = s->dated ? strlen(text) : 0;
    if (s->dated && of_day && fmod(time, DAY) == 0) snprintf(text + length, text_bytes - length, " 00:00:00");
    if (s->dated) return text;
    snprintf(text, text_bytes, "%.15g", time);
    return text;
}

/* 20100131 and such, in all rows. */
static bool looks_like_dates(const reader *r)
{
    for (int64_t i = 0; i < r->row_count; i++) {
        double t = r->rows[i].time;
        if (!(t >= 17000101 && t < 30000101) || t != floor(t)) return false;
        int day = (int)t % 100, month = (int)t / 100 % 100;
        if (day < 1 || day > 31 || month < 1 || month > 12) return false;
    }
    return r->row_count > 0;
}

static void take_as_dates(reader *r)
{
    for (int64_t i = 0; i < r->row_count; i++) {
        int whole = (int)r->rows[i].time;
        struct tm date = {.tm_year = whole / 10000 - 1900, .tm_mon = whole / 100 % 100 - 1, .tm_mday = whole % 100};
        r->rows[i].time = (double)timegm(&date);
    }
    r->s->dated = true;
}

static int by_time(const void *a, const void *b)
{
    const row *x = a, *y = b;
    if (x->time != y->time) return x->time < y->time ? -1 : 1;
    return (x->row > y->row) - (x->row < y->row);
}

static grd_status sort_rows(reader *r)
{
    bool sorted = true;
    char text[64];
    for (int64_t i = 1; i < r->row_count && sorted; i++) sorted = r->rows[i - 1].time <= r->rows[i].time;
    if (!sorted) qsort(r->rows, (size_t)r->row_count, sizeof(row), by_time);
    for (int64_t i = 1; i < r->row_count; i++)
        if (r->rows[i].time == r->rows[i - 1].time)
            return grd_fail(r->error, GRD_E_FORMAT,
                            "%s: rows %lld and %lld have the same %s, %s (keep one row a time; several series in one "
                            "file are trained one by one)",
                            r->options->path, (long long)r->rows[i - 1].row + 1, (long long)r->rows[i].row + 1,
                            r->options->time, time_text(r->s, r->rows[i].time, text, sizeof(text)));
    return sorted ? GRD_OK : note(r, "rows are not in the order of %s: sorted", r->options->time);
}

/* Months since the year 0, where every row has the same day of its month and the same hour. */
static bool in_months(const reader *r)
{
    struct tm first, date;
    if (!r->s->dated) return false;
    date_of(r->rows[0].time, &first);
    for (int64_t i = 0; i < r->row_count; i++) {
        double of_day = fmod(r->rows[i].time - r->rows[0].time, DAY);
        date_of(r->rows[i].time, &date);
        struct tm next_day = date;
        next_day.tm_mday++;
        timegm(&next_day);
        bool last = next_day.tm_mon != date.tm_mon, first_last = first.tm_mday >= 28;
        if (of_day != 0 || (date.tm_mday != first.tm_mday && !(first_last && last))) return false;
    }
    return r->row_count > 1;
}

static double clock_of(const grdi_series *s, double time)
{
    struct tm date;
    if (s->clock != GRDI_CLOCK_MONTHS) return time;
    date_of(time, &date);
    return 12.0 * date.tm_year + date.tm_mon;
}

static int by_value(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

/* Of each row, how many steps it lies behind the one before; whether all are whole. */
static grd_status find_step(reader *r, bool *whole, double *added)
{
    grdi_series *s = r->s;
    int64_t n = r->row_count - 1;
    s->clock = !s->dated ? GRDI_CLOCK_NUMBER : in_months(r) ? GRDI_CLOCK_MONTHS : GRDI_CLOCK_SECONDS;
    r->gaps = grdi_alloc((size_t)n * 2 * sizeof(double));
    if (!r->gaps) return out_of_memory(r);
    double *sorted = r->gaps + n;
    for (int64_t i = 0; i < n; i++)
        sorted[i] = r->gaps[i] = clock_of(s, r->rows[i + 1].time) - clock_of(s, r->rows[i].time);
    qsort(sorted, (size_t)n, sizeof(double), by_value);
    s->step = sorted[(n - 1) / 2];
    *whole = true;
    *added = 0;
    for (int64_t i = 0; i < n; i++) {
        double steps = r->gaps[i] / s->step, nearest = round(steps);
        *whole = *whole && nearest >= 1 && fabs(steps - nearest) <= TIME_TOLERANCE;
        *added += nearest - 1;
        r->gaps[i] = nearest;
    }
    return GRD_OK;
}

/* ---- values ---- */

static grd_status find_columns(reader *r)
{
    const grdi_series_options *o = r->options;
    grdi_series *s = r->s;
    if (strcmp(o->time, o->target) == 0)
        return grd_fail(r->error, GRD_E_ARGUMENT, "data.target: '%s' is the time, too (set it to what is forecast)",
                        o->target);
    if (o->input_count >= GRDI_SERIES_COLUMNS_MAX)
        return grd_fail(r->error, GRD_E_ARGUMENT, "data.inputs: %d columns (at most %d are possible)", o->input_count,
                        GRDI_SERIES_COLUMNS_MAX - 1);
    grd_status status = grd_table_need(r->table, o->time, "data.time", &r->time, r->error);
    s->columns = 1 + o->input_count;
    for (int64_t c = 0; c < s->columns && !status; c++) {
        const char *name = c ? o->inputs[c - 1] : o->target, *key = c ? "data.inputs" : "data.target";
        status = grd_table_need(r->table, name, key, &r->columns[c], r->error);
        if (status) return status;
        for (int64_t k = 0; k < c; k++)
            if (r->columns[k] == r->columns[c] || r->columns[c] == r->time)
                return grd_fail(r->error, GRD_E_ARGUMENT, "data.inputs: '%s' is %s (leave it out)", name,
                                r->columns[c] == r->time ? "the time"
                                : k                      ? "there twice"
                                                         : "the target, whose past is an input anyway");
        grd_column_info info = grd_table_column(r->table, r->columns[c]);
        char beside[GRDI_BESIDE_MAX];
        if (info.kind != GRD_COLUMN_NUMBER)
            return grd_fail(r->error, GRD_E_FORMAT, "%s: %s: column '%s' holds %s, must hold numbers%s", key, o->path,
                            name,
                            info.kind == GRD_COLUMN_EMPTY  ? "nothing"
                            : info.kind == GRD_COLUMN_TIME ? "times"
                                                           : "texts",
                            grdi_column_beside(r->table, r->columns[c], beside));
        s->names[c] = grdi_strdup(name);
        if (!s->names[c]) return out_of_memory(r);
    }
    return status;
}

static grd_status read_times(reader *r)
{
    const char *path = r->options->path, *name = r->options->time;
    grd_column_info info = grd_table_column(r->table, r->time);
    int64_t count = grd_table_about(r->table).rows;
    if (info.kind != GRD_COLUMN_TIME && info.kind != GRD_COLUMN_NUMBER)
        return grd_fail(r->error, GRD_E_FORMAT,
                        "data.time: %s: column '%s' holds %s, must hold dates or numbers (dates such as 2026-11-26 or "
                        "2026-11-26 14:30)",
                        path, name, info.kind == GRD_COLUMN_EMPTY ? "nothing" : "texts");
    r->rows = grdi_alloc((size_t)count * sizeof(row));
    if (!r->rows) return out_of_memory(r);
    for (int64_t i = 0; i < count; i++) {
        double time = grd_table_number(r->table, r->time, i);
        if (!isfinite(time))
            return grd_fail(r->error, GRD_E_FORMAT, "data.time: %s: row %lld has no '%s' (give it one or take it out)",
                            path, (long long)i + 1, name);
        r->rows[r->row_count++] = (row){time, i};
    }
    r->s->dated = info.kind == GRD_COLUMN_TIME;
    if (!r->s->dated && looks_like_dates(r)) take_as_dates(r);
    return sort_rows(r);
}

/* From the first row with a target to the last one. */
static grd_status cut_ends(reader *r)
{
    int64_t first = 0, last = r->row_count - 1;
    while (first <= last && isnan(grd_table_number(r->table, r->columns[0], r->rows[first].row))) first++;
    while (last >= first && isnan(grd_table_number(r->table, r->columns[0], r->rows[last].row))) last--;
    if (last - first < 1)
        return grd_fail(r->error, GRD_E_FORMAT, "%s: has %lld row%s with a '%s' (a series needs many)",
                        r->options->path, (long long)(last - first + 1), are(last - first + 1), r->options->target);
    long long before = (long long)first, after = (long long)(r->row_count - 1 - last);
    memmove(r->rows, r->rows + first, (size_t)(last - first + 1) * sizeof(row));
    r->row_count = last - first + 1;
    if (!before && !after) return GRD_OK;
    return note(r, "left out: %lld row%s before the first %s, %lld after the last", before, are(before),
                r->options->target, after);
}

/* One row's values into step `at`; what is missing is taken from the step before. */
static void fill_step(reader *r, int64_t at, int64_t row_index, int64_t *missing)
{
    grdi_series *s = r->s;
    for (int64_t c = 0; c < s->columns; c++) {
        double value = row_index < 0 ? NAN : grd_table_number(r->table, r->columns[c], r->rows[row_index].row);
        if (c == 0) s->known[at] = isfinite(value);
        if (!isfinite(value)) {
            value = at ? s->values[(at - 1) * s->columns + c] : NAN;
            missing[c != 0] += row_index >= 0;
        }
        s->values[at * s->columns + c] = value;
    }
}

/* An input that begins later than the target: what it begins with. */
static void fill_beginnings(grdi_series *s)
{
    for (int64_t c = 1; c < s->columns; c++) {
        int64_t first = 0;
        while (first < s->count && isnan(s->values[first * s->columns + c])) first++;
        for (int64_t i = 0; i < first; i++)
            s->values[i * s->columns + c] = first < s->count ? s->values[first * s->columns + c] : 0;
    }
}

static grd_status say_what_was_filled(reader *r, bool regular, int64_t added, const int64_t *missing)
{
    char text[64];
    grd_status status = GRD_OK;
    if (!regular)
        status = note(r,
                      "%s does not go on in equal steps (most often by %s): each row is taken as one step, whatever "
                      "time lies between",
                      r->options->time, grdi_series_step_text(r->s, text, sizeof(text)));
    if (!status && added)
        status = note(r, "%lld step%s of %s without a row: given the value before; neither learned nor scored",
                      (long long)added, are(added), grdi_series_step_text(r->s, text, sizeof(text)));
    if (!status && missing[0])
        status = note(r, "%lld row%s without %s: given the value before; neither learned nor scored",
                      (long long)missing[0], are(missing[0]), r->options->target);
    if (!status && missing[1])
        status = note(r, "%lld missing value%s of inputs: the one before", (long long)missing[1], are(missing[1]));
    return status;
}

static grd_status fill(reader *r)
{
    grdi_series *s = r->s;
    bool whole = false;
    double added = 0;
    grd_status status = find_step(r, &whole, &added);
    if (status) return status;
    bool regular = whole && added <= GAPS_MOST * (double)r->row_count;
    s->count = r->row_count + (regular ? (int64_t)added : 0);
    s->values = grdi_alloc((size_t)(s->count * s->columns) * sizeof(double));
    s->times = grdi_alloc((size_t)s->count * sizeof(double));
    s->known = grdi_alloc((size_t)s->count);
    if (!s->values || !s->times || !s->known) return out_of_memory(r);
    int64_t at = 0, missing[2] = {0, 0};
    for (int64_t i = 0; i < r->row_count; i++) {
        int64_t steps = i && regular ? (int64_t)r->gaps[i - 1] : 1;
        for (int64_t k = 1; k < steps; k++, at++) {
            fill_step(r, at, -1, missing);
            s->times[at] = r->rows[i - 1].time + (r->rows[i].time - r->rows[i - 1].time) * (double)k / (double)steps;
        }
        fill_step(r, at, i, missing);
        s->times[at++] = r->rows[i].time;
    }
    fill_beginnings(s);
    return say_what_was_filled(r, regular, s->count - r->row_count, missing);
}

static grd_status read_series(reader *r)
{
    char text[512];
    grd_status status = find_columns(r);
    for (int32_t i = 0; !status && grd_table_note(r->table, i, text, sizeof(text)); i++) status = note(r, "%s", text);
    if (!status) status = read_times(r);
    if (!status) status = cut_ends(r);
    if (!status) status = fill(r);
    grd_table_info about = grd_table_about(r->table);
    r->s->size_bytes = about.size_bytes;
    r->s->checksum = about.checksum;
    return status;
}

grd_status grdi_series_open(const grdi_series_options *options, grdi_series **series, grd_error *error)
{
    reader r = {.options = options, .error = error};
    *series = NULL;
    grd_status status = grd_table_open(options->path, NULL, &r.table, error);
    if (status) return status;
    r.s = grdi_alloc_zero(1, sizeof(*r.s));
    status = r.s ? read_series(&r) : out_of_memory(&r);
    grd_table_free(r.table);
    grdi_free(r.rows);
    grdi_free(r.gaps);
    if (status) grdi_series_free(r.s);
    else *series = r.s;
    return status;
}

void grdi_series_free(grdi_series *s)
{
    if (!s) return;
    for (int64_t c = 0; c < GRDI_SERIES_COLUMNS_MAX; c++) grdi_free(s->names[c]);
    for (size_t i = 0; i < s->note_count; i++) grdi_free(s->notes[i]);
    grdi_free(s->notes);
    grdi_free(s->values);
    grdi_free(s->times);
    grdi_free(s->known);
    grdi_free(s);
}

double grdi_series_time(const grdi_series *s, int64_t step)
{
    struct tm date, first;
    if (step < s->count) return s->times[step];
    double last = s->times[s->count - 1], steps = (double)(step - s->count + 1);
    if (s->clock != GRDI_CLOCK_MONTHS) return last + steps * s->step;
    date_of(last, &date);
    date_of(s->times[0], &first);
    int day = first.tm_mday > date.tm_mday ? first.tm_mday : date.tm_mday; /* which a short month does not have */
    date.tm_mon += (int)(steps * s->step);
    date.tm_mday = 1;
    timegm(&date); /* brings month and year into their ranges */
    int month = date.tm_mon;
    date.tm_mday = day;
    struct tm there = date;
    double time = (double)timegm(&there);
    return there.tm_mon == month ? time : time - DAY * there.tm_mday;
}

char *grdi_series_time_text(const grdi_series *s, int64_t step, char *text, size_t text_bytes)
{
    return time_text(s, grdi_series_time(s, step), text, text_bytes);
}

char *grdi_series_step_text(const grdi_series *s, char *text, size_t text_bytes)
{
    static const struct {
        double seconds;
        const char *name;
    } units[] = {{DAY, "day"}, {3600, "hour"}, {60, "minute"}, {1, "second"}};
    double step = s->step;
    const char *unit = s->clock == GRDI_CLOCK_MONTHS ? "month" : NULL;
    for (size_t i = 0; s->clock == GRDI_CLOCK_SECONDS && !unit && i < 4; i++)
        if (fmod(step, units[i].seconds) == 0 || i == 3) {
            step /= units[i].seconds;
            unit = units[i].name;
        }
    if (unit) snprintf(text, text_bytes, "%.6g %s%s", step, unit, step == 1 ? "" : "s");
    else snprintf(text, text_bytes, "%.6g", step);
    return text;
}
