/* tokens.h - writing a token shard piece by piece (reading, and writing at once: see gradus/io.h). */
#ifndef GRDI_FORMATS_TOKENS_H
#define GRDI_FORMATS_TOKENS_H

#include "base/file.h"

#include <gradus/data.h>
#include <gradus/io.h>

/* The tokens of an open shard where they lie in the file: valid until it is closed, not to be freed. */
grd_ids grdi_tokens_view(const grd_tokens *tokens);

/* A shard in the making: opened with the number of tokens that will come, since the header holds it. After an error
 * every further call fails with it; a file at `path` stays as it is until commit succeeds. */
typedef struct grdi_tokens_writer {
    grdi_writer out;
    grd_token_format format;
    size_t count, written;
} grdi_tokens_writer;

grd_status grdi_tokens_writer_open(grdi_tokens_writer *writer, const char *path, grd_token_format format, size_t count);
grd_status grdi_tokens_writer_put(grdi_tokens_writer *writer, const int32_t *tokens, size_t count);
grd_status grdi_tokens_writer_commit(grdi_tokens_writer *writer, grd_error *error);
void grdi_tokens_writer_abandon(grdi_tokens_writer *writer);

#endif
