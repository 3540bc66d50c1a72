/* checkpoint_files.h - what writing and reading a checkpoint have in common: the words of checksums.json. */
#ifndef GRDI_FORMATS_CHECKPOINT_FILES_H
#define GRDI_FORMATS_CHECKPOINT_FILES_H

#include <stdint.h>
#include <stdio.h>

#define GRDI_CHECKSUMS_NAME "checksums.json"
#define GRDI_CHECKSUM_ALGORITHM "xxh3-64"
#define GRDI_CHECKSUM_TEXT_MAX 17

static inline void grdi_checksum_text(uint64_t checksum, char text[GRDI_CHECKSUM_TEXT_MAX])
{
    snprintf(text, GRDI_CHECKSUM_TEXT_MAX, "%016llx", (unsigned long long)checksum);
}

#endif
