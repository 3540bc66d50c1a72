/* tensorboard.h - event files as TensorBoard reads them: scalars and texts by step. Framing is TFRecord (length, masked
 * CRC-32C of it, data, masked CRC-32C of that), the data are protobuf messages of tensorflow/core/util/event.proto and
 * framework/summary.proto, of which few fields are needed. */
#ifndef GRDI_FORMATS_TENSORBOARD_H
#define GRDI_FORMATS_TENSORBOARD_H

#include <gradus/base.h>

/* A file that is appended to. fd -1: none. */
typedef struct grdi_board {
    int fd;
    char *path;
} grdi_board;

typedef struct grdi_scalar {
    const char *tag; /* "loss/train" */
    double value;    /* NaN: left out */
} grdi_scalar;

/* Begins a new file in the folder; what earlier files there say of steps after `done` is void from now on. `seconds` is
 * the time of day since 1970; the name holds it, so that files sort by age. */
grd_status grdi_board_open(grdi_board *board, const char *folder, int64_t done, double seconds, grd_error *error);
/* One record with all values. Each call is one write; after an error the file is closed and further calls do nothing
 * and succeed. */
grd_status grdi_board_scalars(grdi_board *board, int64_t step, double seconds, const grdi_scalar *scalars, size_t count,
                              grd_error *error);
grd_status grdi_board_text(grdi_board *board, int64_t step, double seconds, const char *tag, const char *text,
                           grd_error *error);
void grdi_board_close(grdi_board *board);

/* CRC-32C (Castagnoli, reflected polynomial 0x82F63B78) of bytes, and as TFRecord masks it. */
uint32_t grdi_crc32c(const void *bytes, size_t size_bytes);
uint32_t grdi_crc32c_masked(const void *bytes, size_t size_bytes);

#endif
