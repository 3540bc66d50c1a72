/* series.h - a series: numbers at equal steps of time, from a table. */
#ifndef GRDI_SERIES_H
#define GRDI_SERIES_H

#include <gradus/base.h>

#include <stdint.h>

enum { GRDI_SERIES_COLUMNS_MAX = 65 }; /* the target and 64 inputs */

/* How far it is from one step to the next. */
typedef enum grdi_clock_kind {
    GRDI_CLOCK_NUMBER, /* plain numbers: years, counters */
    GRDI_CLOCK_SECONDS,
    GRDI_CLOCK_MONTHS /* of the calendar, always on the same day and at the same hour */
} grdi_clock_kind;

typedef struct grdi_series_options {
    const char *path, *time, *target;
    char *const *inputs; /* more columns that are known up to the present */
    int input_count;
} grdi_series_options;

typedef struct grdi_series {
    int64_t count, columns; /* steps; the target and the inputs */
    char *names[GRDI_SERIES_COLUMNS_MAX];
    double *values;  /* [count][columns]; where there is none, the one before */
    double *times;   /* [count]: numbers, or seconds since 1970-01-01 UTC */
    uint8_t *known;  /* [count]: whether the file has the target */
    grdi_clock_kind clock;
    double step; /* in the clock's unit */
    bool dated;  /* times are dates */
    int64_t size_bytes;
    uint64_t checksum; /* of the file */
    char **notes;      /* what was done to the file's rows, for people */
    size_t note_count, note_capacity;
} grdi_series;

/* Reads a CSV file (see grd_table_open). Rows are sorted by time; two of one time are refused. The step is the median
 * distance in time: where the others are multiples of it, the steps between are added without a value, unless these
 * would be more than a tenth; else all rows count as steps alike. A missing value is that of the step before, which a
 * forecaster could have known; steps before the first and after the last target are left out. Each of these is told by
 * a note. Errors name file and column. */
grd_status grdi_series_open(const grdi_series_options *options, grdi_series **series, grd_error *error);
void grdi_series_free(grdi_series *series);
/* The time of a step, which may lie behind the last one. */
double grdi_series_time(const grdi_series *series, int64_t step);
char *grdi_series_time_text(const grdi_series *series, int64_t step, char *text, size_t text_bytes);
/* "1 hour", "12 months", "0.5" */
char *grdi_series_step_text(const grdi_series *series, char *text, size_t text_bytes);

#endif
