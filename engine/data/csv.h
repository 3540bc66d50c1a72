/* csv.h - the cells of a CSV file (RFC 4180), one after the other. */
#ifndef GRDI_CSV_H
#define GRDI_CSV_H

#include <gradus/base.h>

/* Fill path, begin, end and error; then grdi_csv_start(). */
typedef struct grdi_csv {
    const char *path;
    const char *begin, *end; /* the whole file */
    grd_error *error;
    const char *at;
    char delimiter;
    int64_t line, row_line; /* of the next byte; where the row began */
    int64_t column;         /* of the next cell in its row */
    char *const *names;     /* of the columns, for errors; NULL: not known yet */
    int64_t name_count;
    char *scratch; /* a cell whose doubled quotes were made single */
    size_t scratch_capacity;
} grdi_csv;

/* Without the spaces around it; not terminated by a zero; valid until the next cell. */
typedef struct grdi_csv_cell {
    const char *text;
    size_t length;
    bool quoted, last; /* last: of its row */
} grdi_csv_cell;

/* To the first line, and the delimiter that it has. Refuses what is no text in UTF-8 by its first bytes. */
grd_status grdi_csv_start(grdi_csv *csv);
/* Passes over blank lines; false at the end of the file. */
bool grdi_csv_next_row(grdi_csv *csv);
grd_status grdi_csv_next_cell(grdi_csv *csv, grdi_csv_cell *cell);
/* "X.csv: line 7, column 'age': " and so on, in the file that is read. */
grd_status grdi_csv_fail(const grdi_csv *csv, const char *format, ...) GRD_PRINTF(2, 3);
void grdi_csv_end(grdi_csv *csv);

#endif
