/* table.h - a table as it is kept: a column of its own width each. */
#ifndef GRDI_TABLE_H
#define GRDI_TABLE_H

#include <gradus/table.h>

#include "base/memory.h"
#include "data/cell.h"

typedef enum grdi_width { GRDI_WIDTH_I8, GRDI_WIDTH_I16, GRDI_WIDTH_F32, GRDI_WIDTH_F64, GRDI_WIDTH_CODE } grdi_width;

enum { GRDI_CATEGORIES_MAX = 65535, GRDI_NO_CATEGORY = 65535, GRDI_CELL_TEXT_MAX = 40 };

/* Different texts, numbered as they are met; zeroed before use. */
typedef struct grdi_dictionary {
    char **names;
    uint32_t *slots; /* 1 + number, by hash; a power of two of them */
    size_t count, capacity, slot_count, text_bytes;
} grdi_dictionary;

/* The number of a text, or -1 where there are too many. GRD_E_MEMORY keeps no message. */
grd_status grdi_dictionary_add(grdi_dictionary *d, grdi_region *texts, const char *text, size_t length,
                               int64_t *number);
/* Numbers by name instead; order[old] becomes the new number. */
grd_status grdi_dictionary_sort(grdi_dictionary *d, uint16_t *order);
void grdi_dictionary_free(grdi_dictionary *d);

/* Where a column first had a cell of one kind. */
typedef struct grdi_first {
    int64_t line;
    char text[GRDI_CELL_TEXT_MAX];
} grdi_first;

typedef struct grdi_column {
    char *name;
    grd_column_kind kind;
    const grd_column_expected *expected;
    int64_t count[GRDI_CELL_KINDS];
    grdi_first first[GRDI_CELL_KINDS], by_day, by_month;
    unsigned marks; /* of all its cells */
    bool whole, in_f32, day_first;
    double least, most;
    grdi_width width;
    void *data; /* [rows] */
    grdi_dictionary categories;
} grdi_column;

struct grd_table {
    char *path;
    grd_table_info info;
    grdi_column *columns;
    char **names;
    grdi_region texts;
    char **notes;
    size_t note_count, note_capacity;
};

/* table_columns.c: what kind a column is of, once all its cells were seen; memory for its values. */
grd_status grdi_column_decide(grd_table *table, int64_t column, grd_error *error);
grd_status grdi_column_make(grd_table *table, int64_t column, grd_error *error);
/* Keeps a value (NaN: missing). */
void grdi_column_set(grdi_column *column, int64_t row, double value);
/* Once all are kept: categories in the order of their names. */
grd_status grdi_column_finish(grd_table *table, int64_t column, grd_error *error);
/* Of a column of texts that are all numbers with something before or behind them ("50%", "$12", "1,234"): "; '50%' is a
 * number with something beside it (write bare numbers)"; else "". */
enum { GRDI_BESIDE_MAX = 160 };
const char *grdi_column_beside(const grd_table *table, int64_t column, char text[GRDI_BESIDE_MAX]);
grd_status grdi_table_note(grd_table *table, const char *format, ...) GRD_PRINTF(2, 3);

#endif
