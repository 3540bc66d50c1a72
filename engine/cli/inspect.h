/* inspect.h - what gradus inspect can look at. Each prints what it found, or an error, and returns an exit code. */
#ifndef GRADUS_CLI_INSPECT_H
#define GRADUS_CLI_INSPECT_H

#include "cli/cli.h"

typedef struct inspection {
    cli common;
    const char *path;
} inspection;

int inspect_tensors(const inspection *a);
int inspect_shard(const inspection *a);
int inspect_tokenizer(const inspection *a);
int inspect_config(const inspection *a);
int inspect_hf(const inspection *a);
int inspect_checkpoint(const inspection *a);
int inspect_run(const inspection *a);

#endif
