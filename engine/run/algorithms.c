/* algorithms.c - what a device has chosen by timing, kept in the user's cache folder by kind of device: runs of a
 * machine then choose alike, and at once. Engines read it; only training runs that save checkpoints write there. The
 * folder is GRADUS_CACHE_DIR (empty: none), else gradus in XDG_CACHE_HOME or ~/.cache. Nothing that happens to it is an
 * error: what is not found is timed. */
#include "run/run.h"

#include "base/file.h"
#include "base/memory.h"
#include "base/random.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_BYTES = 16 << 20, PATH_BYTES = 1024 };

static bool cache_folder(const grd_engine *engine, char *folder)
{
    const char *named = getenv("GRADUS_CACHE_DIR"), *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    int length = 0;
    if (!engine->backend || !engine->backend->algorithms) return false;
    if (named) length = snprintf(folder, PATH_BYTES, "%s", named);
    else if (cache && cache[0]) length = snprintf(folder, PATH_BYTES, "%s/gradus", cache);
    else if (home && home[0]) length = snprintf(folder, PATH_BYTES, "%s/.cache/gradus", home);
    return length > 0 && length < PATH_BYTES;
}

/* The folder's file for this kind of device. */
static char *cache_path(const grd_engine *engine, const char *folder)
{
    char name[64];
    snprintf(name, sizeof name, "algorithms-%016llx.lock",
             (unsigned long long)grdi_hash_text(engine->backend->kind(engine->device)));
    return grdi_path_join(folder, name);
}

void grdi_engine_recall_algorithms(grd_engine *engine)
{
    char folder[PATH_BYTES], *text;
    size_t size_bytes;
    grd_error ignored = {GRD_OK, ""};
    char *path = cache_folder(engine, folder) ? cache_path(engine, folder) : NULL;
    if (path && grdi_path_is_file(path) && grdi_file_read(path, MOST_BYTES, &text, &size_bytes, &ignored) == GRD_OK) {
        engine->backend->take_algorithms(engine->device, text, &ignored);
        grdi_free(text);
    }
    grdi_free(path);
}

static void write_text(const char *path, const char *text)
{
    grdi_writer writer;
    grd_error ignored = {GRD_OK, ""};
    if (grdi_writer_open(&writer, path) != GRD_OK || grdi_writer_put(&writer, text, strlen(text)) != GRD_OK)
        grdi_writer_abandon(&writer);
    else grdi_writer_commit(&writer, &ignored);
}

void grdi_engine_keep_algorithms(grd_engine *engine)
{
    char folder[PATH_BYTES], *before = NULL;
    size_t size_bytes;
    grd_error ignored = {GRD_OK, ""};
    char *path = cache_folder(engine, folder) ? cache_path(engine, folder) : NULL;
    char *text = path ? engine->backend->algorithms(engine->device) : NULL;
    if (text && grdi_path_is_file(path)) grdi_file_read(path, MOST_BYTES, &before, &size_bytes, &ignored);
    if (text && !(before && strcmp(before, text) == 0) && grdi_directory_make(folder, &ignored) == GRD_OK)
        write_text(path, text);
    grdi_free(before);
    grdi_free(text);
    grdi_free(path);
}
