/* checkpoint.h - checkpoints that are whole or not there: a folder "<root>/step-000200" with tensors, texts and
 * checksums.json, which holds the XXH3 checksum (64 bits, in hex) of every file and of every tensor:
 *   {"algorithm": "xxh3-64", "xxh3": "<of the compact text of files>",
 *    "files": {"model.safetensors": {"size_bytes": n, "xxh3": "...", "tensors": {"<name>": "..."}}}}
 * A checkpoint is written under another name ("step-000200.tmp-<pid>") and renamed when all of it is on the disk. */
#ifndef GRDI_FORMATS_CHECKPOINT_H
#define GRDI_FORMATS_CHECKPOINT_H

#include <gradus/io.h>
#include <gradus/model.h>
#include <jansson.h>

/* ---- writing ----
 * begin, add files in any order, commit or abandon. After an error every further call fails with it. */
typedef struct grdi_checkpoint_writer {
    char *root, *temporary;
    uint64_t step;
    uint64_t follows; /* the step of the checkpoint that this one goes on from; `step` after begin: not known */
    json_t *files; /* what checksums.json will say */
    grd_error error;
} grdi_checkpoint_writer;

/* Creates `root` if need be, and clears away what an interrupted writer left there. One writer at a time in a root. */
grd_status grdi_checkpoint_begin(grdi_checkpoint_writer *writer, const char *root, uint64_t step);
/* Puts a tensor's bytes into `data`. */
typedef grd_status (*grdi_tensor_read)(void *context, const grd_file_tensor *tensor, void *data, grd_error *error);
/* Adds a safetensors file of tensors whose data is asked for one at a time, so that only one of them is held. */
grd_status grdi_checkpoint_stream_tensors(grdi_checkpoint_writer *writer, const char *name,
                                          const grd_file_tensor *tensors, size_t count, grdi_tensor_read read,
                                          void *context);
/* Adds a safetensors file. The tensors' data is read during the call only. */
grd_status grdi_checkpoint_add_tensors(grdi_checkpoint_writer *writer, const char *name, const grd_file_tensor *tensors,
                                       size_t count);
/* Adds a safetensors file of those of the model's first `count` variables that are `kept`, under their paths. */
grd_status grdi_checkpoint_add_variables(grdi_checkpoint_writer *writer, const char *name, grd_model *model,
                                         int64_t count, bool (*kept)(const grd_variable *variable));
grd_status grdi_checkpoint_add_file(grdi_checkpoint_writer *writer, const char *name, const void *bytes,
                                    size_t size_bytes);
/* Adds a JSON text, indented. */
grd_status grdi_checkpoint_add_json(grdi_checkpoint_writer *writer, const char *name, const json_t *value);
/* Adds a copy of the file at `from`. */
grd_status grdi_checkpoint_copy_file(grdi_checkpoint_writer *writer, const char *name, const char *from);
/* Makes the checkpoint visible and durable; one of the same step is replaced. Then removes checkpoints of later steps,
 * those between `follows` and this one (both of a continuation that was left by going back to an earlier checkpoint,
 * perhaps because it was damaged) and all but the newest `keep` (0: keeps all);
 * what cannot be removed is a warning. On success *path, unless NULL, is the folder: free it with grdi_free(). Frees
 * the writer in any case. */
grd_status grdi_checkpoint_commit(grdi_checkpoint_writer *writer, size_t keep, char **path, grd_error *error);
/* Removes what was written. Safe after commit and after a failed begin. */
void grdi_checkpoint_abandon(grdi_checkpoint_writer *writer);

/* ---- reading ---- */

/* The steps of the checkpoints in `root`, ascending, not yet verified; none when there is no such folder. Free *steps
 * with grdi_free(). */
grd_status grdi_checkpoint_list(const char *root, uint64_t **steps, size_t *count, grd_error *error);
/* The folder of the newest checkpoint (back 0), the one before (back 1), ... Without one, GRD_OK with *path NULL. Free
 * *path with grdi_free(). */
grd_status grdi_checkpoint_find(const char *root, size_t back, uint64_t *step, char **path, grd_error *error);

typedef struct grdi_checkpoint grdi_checkpoint;

/* Opens the checkpoint in the folder `path` and verifies all of it. GRD_E_FORMAT names the file, and the tensor where
 * it is one, that does not match its checksum. */
grd_status grdi_checkpoint_open(const char *path, grdi_checkpoint **checkpoint, grd_error *error);
void grdi_checkpoint_close(grdi_checkpoint *checkpoint);
/* The tensors of a safetensors file, NULL if the checkpoint has no such file. Owned by the checkpoint. */
const grd_safetensors *grdi_checkpoint_tensors(const grdi_checkpoint *checkpoint, const char *name);
/* The bytes of another file (no zero byte after them), NULL if there is none. Owned by the checkpoint. */
const char *grdi_checkpoint_file(const grdi_checkpoint *checkpoint, const char *name, size_t *size_bytes);

/* What the checkpoint says of itself; grd_checkpoint_about without opening it again. */
grd_status grdi_checkpoint_describe(const grdi_checkpoint *checkpoint, grd_checkpoint_info *info, grd_error *error);

#endif
