/* table_found.c - whether a file is a table, by its name and its first lines. */
#include "base/file.h"
#include "base/memory.h"
#include "data/csv.h"

#include <gradus/table.h>

#include <string.h>
#include <strings.h>

enum { LINES_LOOKED_AT = 20, NAMES_SHOWN = 12 };

static bool has_its_name(const char *path)
{
    size_t length = strlen(path);
    return length > 4 && (strcasecmp(path + length - 4, ".csv") == 0 || strcasecmp(path + length - 4, ".tsv") == 0);
}

/* Appends ", 'name'", on one line. */
static void show_name(char *columns, size_t columns_bytes, int64_t at, const grdi_csv_cell *cell)
{
    size_t used = strlen(columns);
    if (at == NAMES_SHOWN) snprintf(columns + used, columns_bytes - used, ", ...");
    if (at >= NAMES_SHOWN) return;
    int length = (int)(cell->length < 60 ? cell->length : 60);
    snprintf(columns + used, columns_bytes - used, "%s'%.*s'", at ? ", " : "", length, cell->text);
    for (char *c = columns + used; *c; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7F) *c = ' ';
}

/* The cells of the next row; 0: there is none. */
static int64_t count_cells(grdi_csv *csv, char *columns, size_t columns_bytes)
{
    grdi_csv_cell cell = {.last = false};
    int64_t count = 0;
    if (!grdi_csv_next_row(csv)) return 0;
    while (!cell.last) {
        if (grdi_csv_next_cell(csv, &cell)) return 0;
        if (columns) show_name(columns, columns_bytes, count, &cell);
        count++;
    }
    return count;
}

bool grd_table_found(const char *path, char *columns, size_t columns_bytes)
{
    grd_error ignored = {GRD_OK, ""};
    grdi_mapping file;
    char room[1024] = "";
    if (!columns) columns = room, columns_bytes = sizeof(room);
    columns[0] = '\0';
    if (!has_its_name(path) || !grdi_path_is_file(path) || grdi_file_map(path, &file, &ignored)) return false;
    grdi_csv csv = {.path = path,
                    .begin = (const char *)file.data,
                    .end = (const char *)file.data + file.size_bytes,
                    .error = &ignored};
    int64_t names = grdi_csv_start(&csv) ? 0 : count_cells(&csv, columns, columns_bytes), rows = 0, alike = 0;
    while (names > 1 && rows < LINES_LOOKED_AT) {
        int64_t cells = count_cells(&csv, NULL, 0);
        if (!cells) break;
        rows++;
        alike += cells == names;
    }
    grdi_csv_end(&csv);
    grdi_file_unmap(&file);
    return rows > 0 && 2 * alike > rows;
}
