/* checkpoint_files.h - what writing and reading a checkpoint have in common: the words of checksums.json. */
#ifndef GRDI_FORMATS_CHECKPOINT_FILES_H
#define GRDI_FORMATS_CHECKPOINT_FILES_H

#include "base/json.h"
#include "base/memory.h"

#include <stdint.h>
#include <stdio.h>
#include <xxhash.h>

#define GRDI_CHECKSUMS_NAME "checksums.json"
#define GRDI_CHECKSUM_ALGORITHM "xxh3-64"
#define GRDI_CHECKSUM_TEXT_MAX 17

static inline void grdi_checksum_text(uint64_t checksum, char text[GRDI_CHECKSUM_TEXT_MAX])
{
    snprintf(text, GRDI_CHECKSUM_TEXT_MAX, "%016llx", (unsigned long long)checksum);
}

/* The checksum of the list of files itself, taken over its compact text; false when out of memory. */
static inline bool grdi_checksum_of_list(const json_t *files, uint64_t *checksum)
{
    size_t size_bytes;
    char *text = grdi_json_text(files, JSON_COMPACT, &size_bytes);
    if (!text)
        return false;
    *checksum = XXH3_64bits(text, size_bytes);
    grdi_free(text);
    return true;
}

#endif
