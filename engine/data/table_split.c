/* table_split.c - which rows of a table are held out. */
#include "data/features.h"

#include "base/memory.h"
#include "base/random.h"

#include <math.h>
#include <stdlib.h>

/* Rows of one class in an order of their own; the first of them are held out. Rounding is carried from class to class,
 * so that the parts are as large as they should be; each class keeps a row to be learnt from. */
static void split_class(grdi_split *split, const int64_t *rows, int64_t count, uint64_t key, double *wanted,
                        double part)
{
    *wanted += part * (double)count;
    int64_t held = (int64_t)floor(*wanted + 0.5) - split->count[1];
    held = held < 0 ? 0 : held >= count ? count - 1 : held;
    for (int64_t i = 0; i < count; i++) {
        bool out = (int64_t)grdi_permute(key, (uint64_t)count, (uint64_t)i) < held;
        split->rows[out][split->count[out]++] = rows[i];
    }
}

static int by_row(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

grd_status grdi_table_split(const grd_table *table, const grdi_target *target, int64_t class_count, double part,
                            uint64_t seed, grdi_split *split, grd_error *error)
{
    size_t rows = (size_t)grd_table_about(table).rows;
    uint64_t stream = grdi_hash_text("table/split");
    int64_t *one = grdi_alloc(rows * sizeof(int64_t)), classes = class_count ? class_count : 1;
    double wanted = 0;
    split->rows[0] = grdi_alloc(rows * sizeof(int64_t));
    split->rows[1] = grdi_alloc(rows * sizeof(int64_t));
    bool made = one && split->rows[0] && split->rows[1];
    for (int64_t c = 0; made && c < classes; c++) {
        int64_t count = 0;
        for (size_t row = 0; row < rows; row++) {
            double is = grdi_target_value(target, table, (int64_t)row);
            if (isnan(is)) split->without += c == 0;
            else if (class_count == 0 || is == (double)c) one[count++] = (int64_t)row;
        }
        uint64_t key = (uint64_t)grdi_random_u32(seed, (uint64_t)c, stream, 0) << 32 | (uint64_t)c;
        if (count) split_class(split, one, count, key, &wanted, part);
    }
    grdi_free(one);
    if (!made) return grd_fail(error, GRD_E_MEMORY, "out of memory for the rows of a table");
    for (int i = 0; i < 2; i++) qsort(split->rows[i], (size_t)split->count[i], sizeof(int64_t), by_row);
    return GRD_OK;
}

void grdi_split_free(grdi_split *split)
{
    grdi_free(split->rows[0]);
    grdi_free(split->rows[1]);
    *split = (grdi_split){{0}, {0}, 0};
}
