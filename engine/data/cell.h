/* cell.h - what a cell of a table says: nothing, a number, a time or a text. */
#ifndef GRDI_CELL_H
#define GRDI_CELL_H

#include <stdbool.h>
#include <stddef.h>

typedef enum grdi_cell_kind {
    GRDI_CELL_MISSING,
    GRDI_CELL_NUMBER,
    GRDI_CELL_CODE, /* digits that are a name: 00417, or more than 15 of them */
    GRDI_CELL_TIME,
    GRDI_CELL_TEXT,
    GRDI_CELL_KINDS
} grdi_cell_kind;

enum {
    GRDI_CELL_POINT = 1,       /* a number with a decimal point */
    GRDI_CELL_COMMA = 2,       /* with a decimal comma */
    GRDI_CELL_DAY_FIRST = 4,   /* a date that can only be day/month/year */
    GRDI_CELL_MONTH_FIRST = 8, /* only month/day/year */
    GRDI_CELL_EITHER = 16      /* both are possible */
};

typedef struct grdi_cell {
    grdi_cell_kind kind;
    unsigned marks;
    double value; /* NUMBER, CODE; TIME: seconds since 1970-01-01 UTC */
} grdi_cell;

typedef struct grdi_cell_style {
    bool comma;     /* a comma can be a decimal sign */
    bool day_first; /* where a date could be either */
} grdi_cell_style;

/* Reads a text without spaces around it. */
grdi_cell grdi_cell_read(const char *text, size_t length, grdi_cell_style style);
/* A time in seconds as "2026-11-26" or "2026-11-26 14:30:00"; returns `text`. */
char *grdi_time_text(double seconds, char *text, size_t text_bytes);

#endif
