/* look.c - looks at memory for others, under AddressSanitizer. */
#include "backend/cpu/look.h"

#if defined(GRADUS_SANITIZE)
#include <sanitizer/asan_interface.h>

void grdi_look(const void *first, int64_t rows, int64_t step, int64_t bytes)
{
    if (step == bytes) bytes *= rows, rows = 1;
    for (int64_t i = 0; i < rows; i++) {
        const volatile char *wrong = __asan_region_is_poisoned((char *)first + i * step, (size_t)bytes);
        if (wrong) (void)*wrong; /* which is reported */
    }
}
#endif
