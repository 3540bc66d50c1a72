/* algorithms.c - plan.lock, in each checkpoint: the algorithms that the device chose by timing. A resumed run takes
 * them before its programs are compiled, and so gives the same bits. */
#include "train/session.h"

#include "base/file.h"
#include "base/memory.h"
#include "formats/checkpoint.h"
#include "run/run.h"

#include <string.h>

static const char name[] = "plan.lock";
enum { MOST_BYTES = 16 << 20 };

grd_status grdi_session_add_algorithms(const grdi_session *s, grdi_checkpoint_writer *writer)
{
    const grdi_backend *backend = s->engine->backend;
    char *text = backend->algorithms ? backend->algorithms(s->engine->device) : NULL;
    if (!text) return GRD_OK;
    grd_status status = grdi_checkpoint_add_file(writer, name, text, strlen(text));
    grdi_free(text);
    if (!status) grdi_engine_keep_algorithms(s->engine);
    return status;
}

static grd_status take(grdi_session *s, const char *path)
{
    const grdi_backend *backend = s->engine->backend;
    grd_error problem = {GRD_OK, ""};
    size_t size_bytes;
    char *text;
    if (!grdi_path_exists(path)) return GRD_OK;
    grd_status status = grdi_file_read(path, MOST_BYTES, &text, &size_bytes, s->error);
    if (status) return status;
    if (backend->take_algorithms(s->engine->device, text, &problem))
        grdi_session_note(s, "%s: %s: algorithms are chosen anew, and results differ in their last bits", path,
                          problem.message);
    grdi_free(text);
    return GRD_OK;
}

grd_status grdi_session_take_algorithms(grdi_session *s)
{
    if (!s->options->resume || !s->settings->out || !s->engine->backend->take_algorithms) return GRD_OK;
    char *root = grdi_path_join(s->settings->out, "checkpoints"), *folder = NULL, *path = NULL;
    uint64_t step;
    grd_status status = root ? grdi_checkpoint_find(root, s->options->previous ? 1 : 0, &step, &folder, s->error)
                             : grd_fail(s->error, GRD_E_MEMORY, "%s: out of memory", s->settings->out);
    if (!status && folder) {
        path = grdi_path_join(folder, name);
        status = path ? take(s, path) : grd_fail(s->error, GRD_E_MEMORY, "%s: out of memory", folder);
    }
    grdi_free(path);
    grdi_free(folder);
    grdi_free(root);
    return status;
}
