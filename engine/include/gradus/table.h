/* table.h - tables from CSV files: named columns of numbers, categories and times. */
#ifndef GRADUS_TABLE_H
#define GRADUS_TABLE_H

#include <gradus/base.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A table never changes after it was opened (but see grd_table_as_categories), so any number of threads may read it. */
typedef struct grd_table grd_table;

typedef enum grd_column_kind {
    GRD_COLUMN_NUMBER = 0,
    GRD_COLUMN_CATEGORY, /* texts of which there are at most 65,535 different ones, and codes such as 00417 */
    GRD_COLUMN_TIME,     /* dates, with or without a time of day */
    GRD_COLUMN_TEXT,     /* more different texts than that: not kept */
    GRD_COLUMN_EMPTY     /* no value in any row */
} grd_column_kind;

/* "number", "category", "time", "text", "empty". */
GRD_API const char *grd_column_kind_name(grd_column_kind kind);

typedef struct grd_column_info {
    const char *name; /* the table's */
    grd_column_kind kind;
    int64_t missing;    /* rows without a value */
    int64_t categories; /* CATEGORY: different values */
    bool whole;         /* NUMBER: all are whole numbers */
    bool day_first;     /* TIME: written as 31/12/2026 */
    double least, most; /* NUMBER, TIME */
} grd_column_info;

typedef struct grd_table_info {
    int64_t rows, columns;
    int64_t size_bytes;   /* of the file */
    int64_t memory_bytes; /* that the columns take: 1, 2, 4 or 8 bytes a number, 2 a category, 8 a time */
    uint64_t checksum;    /* XXH3 of the file */
    char delimiter;       /* ',', ';', '|' or a tab, whichever the first line has most of */
} grd_table_info;

/* What a column is known to be, where the file alone might look like something else. */
typedef struct grd_column_expected {
    const char *name;
    grd_column_kind kind; /* NUMBER, CATEGORY (one of numbers only stays NUMBER, unless as_written) or TIME */
    bool day_first;
    bool as_written; /* CATEGORY: numbers are texts, too: 1 and 1.0 are two of them */
} grd_column_expected;

typedef struct grd_table_options {
    size_t size;
    const grd_column_expected *expected; /* columns that the file lacks do not matter */
    int32_t expected_count;
} grd_table_options;

/* Reads a CSV file (RFC 4180: cells in quotes may hold delimiters, line ends and doubled quotes; a byte order mark,
 * CRLF, blank lines and spaces around cells are taken). Its first line names the columns.
 *
 * A column is what all its cells say. NUMBER: 12, -0.5, 1e3 (with another delimiter than a comma also 0,5). TIME: ISO
 * 8601 (2026-11-26, 2026-11-26T14:30:00.5+01:00, also with slashes or a space), 26.11.2026, 11/26/2026 (the order of
 * day and month is found from the column; month first where no cell tells), 26 Nov 2026, Nov 26, 2026. CATEGORY: all
 * else, and whole numbers with leading zeros or of more than 15 digits, which are names and not amounts. Without a
 * value are cells that are empty or one of NA N/A #N/A <NA> NaN null None ?
 *
 * The file is read twice as a stream and is not held; see grd_table_info.memory_bytes for what is. Errors name file,
 * line and column: not UTF-8, a NUL byte, cells missing or too many, an open quote, no rows, a name twice, a few texts
 * (up to a tenth) in a column of numbers or times. `options` may be NULL. Free with grd_table_free(). */
GRD_API grd_status grd_table_open(const char *path, const grd_table_options *options, grd_table **table,
                                  grd_error *error);
GRD_API void grd_table_free(grd_table *table);
/* Whether a file looks like a table: its name ends with .csv or .tsv, its first line has two cells or more, and most of
 * the next ones have as many. `columns` (NULL: not wanted) gets the names in that line, for people. */
GRD_API bool grd_table_found(const char *path, char *columns, size_t columns_bytes);

GRD_API grd_table_info grd_table_about(const grd_table *table);
GRD_API grd_column_info grd_table_column(const grd_table *table, int64_t column);
/* The column of that name, or -1. */
GRD_API int64_t grd_table_find(const grd_table *table, const char *name);
/* The same; where there is none, GRD_E_ARGUMENT with the name that is most like it: "<what>: X.csv has no column ...".
 */
GRD_API grd_status grd_table_need(const grd_table *table, const char *name, const char *what, int64_t *column,
                                  grd_error *error);
/* NUMBER: the value; TIME: seconds since 1970-01-01 UTC (cells without a zone are taken as UTC); NaN: missing, or
 * neither kind. */
GRD_API double grd_table_number(const grd_table *table, int64_t column, int64_t row);
/* CATEGORY: 0 to categories - 1 in the order of their names; -1: missing, or another kind. */
GRD_API int32_t grd_table_category(const grd_table *table, int64_t column, int64_t row);
GRD_API const char *grd_table_category_name(const grd_table *table, int64_t column, int32_t category);
/* Makes a column of at most 65,535 different numbers one of categories, in their order, named as they are written
 * shortest. Nothing to do for CATEGORY and EMPTY; GRD_E_ARGUMENT for others. */
GRD_API grd_status grd_table_as_categories(grd_table *table, int64_t column, grd_error *error);
/* Note number `index`, from 0, on how the file was read where that could be read otherwise; false after the last. */
GRD_API bool grd_table_note(const grd_table *table, int32_t index, char *text, size_t text_bytes);

#ifdef __cplusplus
}
#endif
#endif
