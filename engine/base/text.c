/* text.c - how alike two names are. */
#include "base/text.h"

#include <string.h>

enum { TEXT_MAX = 64 };

size_t grdi_text_distance(const char *a, const char *b)
{
    size_t row[TEXT_MAX], n = strnlen(b, TEXT_MAX - 1);
    for (size_t j = 0; j <= n; j++) row[j] = j;
    for (size_t i = 1; a[i - 1]; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= n; j++) {
            size_t change = diagonal + (a[i - 1] != b[j - 1]),
                   least = row[j] < row[j - 1] ? row[j] + 1 : row[j - 1] + 1;
            diagonal = row[j];
            row[j] = change < least ? change : least;
        }
    }
    return row[n];
}
