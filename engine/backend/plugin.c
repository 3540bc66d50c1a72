/* plugin.c - finds and opens plugins; see plugin.h. */
#include "backend/plugin.h"
#include "base/memory.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const grdi_host host = {GRDI_HOST_SIZES,           .alloc_zero = grdi_alloc_zero, .release = grdi_free,
                               .attr_int = grdi_attr_int, .attr_float = grdi_attr_float, .attr_ints = grdi_attr_ints,
                               .op_at = grdi_op_at};

enum { CUDA, CUDASIM, PLUGINS };

static char why[PLUGINS][768]; /* why a plugin cannot be had */

static grd_status refuse_cuda(const char *argument, int32_t threads, grdi_device **device, grd_error *error)
{
    (void)argument, (void)threads, (void)device;
    return grd_fail(error, GRD_E_DEVICE, "%s", why[CUDA]);
}

static grd_status refuse_cudasim(const char *argument, int32_t threads, grdi_device **device, grd_error *error)
{
    (void)argument, (void)threads, (void)device;
    return grd_fail(error, GRD_E_DEVICE, "%s", why[CUDASIM]);
}

typedef struct plugin {
    const grdi_backend missing;  /* what stands in for it where it cannot be had */
    const grdi_backend *backend; /* once opened */
} plugin;

/* cudasim is the CUDA plugin over stand-ins for the GPU and its libraries: a device for tests. */
static plugin plugins[PLUGINS] = {[CUDA] = {.missing = {.name = "cuda", .open = refuse_cuda}},
                                  [CUDASIM] = {.missing = {.name = "cudasim", .open = refuse_cudasim}}};

/* The folder that this code was loaded from, with a slash; "" if the loader cannot say. A program that holds the engine
 * itself is known by the name that it was started with, which need not be a path. */
static void own_folder(char *folder, size_t size)
{
    Dl_info info;
    char path[512] = "";
    folder[0] = '\0';
    if (dladdr(&host, &info) && info.dli_fname && info.dli_fname[0] == '/')
        snprintf(path, sizeof path, "%s", info.dli_fname);
    else if (readlink("/proc/self/exe", path, sizeof path - 1) < 0) return;
    char *slash = strrchr(path, '/');
    if (slash && (size_t)(slash - path) + 2 <= size) snprintf(folder, size, "%.*s", (int)(slash - path) + 1, path);
}

static bool try_folder(int which, const char *folder, const char *below)
{
    char path[1024];
    const char *name = plugins[which].missing.name;
    if (snprintf(path, sizeof path, "%s%slibgradus_%s.so", folder, below, name) >= (int)sizeof path) return false;
    if (access(path, F_OK) != 0) return false;
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        const char *text = dlerror();
        snprintf(why[which], sizeof why[which], "device '%s': %.700s", name, text ? text : path);
        return false;
    }
    grdi_plugin_entry entry;
    *(void **)&entry = dlsym(library, GRDI_PLUGIN_ENTRY);
    plugins[which].backend = entry ? entry(&host) : NULL;
    if (!plugins[which].backend)
        snprintf(why[which], sizeof why[which],
                 "device '%s': %.600s belongs to another version of Gradus (build both again)", name, path);
    return plugins[which].backend != NULL;
}

static void open_plugin(int which)
{
    char folder[512];
    const char *given = getenv("GRADUS_PLUGIN_DIR"), *name = plugins[which].missing.name;
    own_folder(folder, sizeof folder);
    why[which][0] = '\0';
    if ((given && try_folder(which, given, "/")) || try_folder(which, folder, "") ||
        try_folder(which, folder, "gradus/"))
        return;
    if (!why[which][0])
        snprintf(why[which], sizeof why[which],
                 "device '%s': libgradus_%s.so is not in %.500s (it is built where nvcc is found; GRADUS_PLUGIN_DIR "
                 "names another folder)",
                 name, name, given ? given : folder);
}

const grdi_backend *grdi_plugin_find(const char *name, size_t length)
{
    for (int which = 0; which < PLUGINS; which++) {
        plugin *p = &plugins[which];
        if (strlen(p->missing.name) != length || strncmp(p->missing.name, name, length) != 0) continue;
        if (!p->backend) open_plugin(which);
        return p->backend ? p->backend : &p->missing;
    }
    return NULL;
}
