/* look.h - memory that AddressSanitizer does not see being used: by the tiles of AMX, and by what is compiled without
 * it since it spends its time in a few loads. */
#ifndef GRDI_LOOK_H
#define GRDI_LOOK_H

#include <stdint.h>

#if defined(GRADUS_SANITIZE)
/* Ends the program, as AddressSanitizer does, where one of `bytes` bytes at `first`, or in one of the rows behind it,
 * `step` bytes apart, may not be touched. */
void grdi_look(const void *first, int64_t rows, int64_t step, int64_t bytes);
#else
static inline void grdi_look(const void *first, int64_t rows, int64_t step, int64_t bytes)
{
    (void)first, (void)rows, (void)step, (void)bytes;
}
#endif

#endif
