/* registry.c - the backends by name. */
#include "backend/plugin.h"
#include "backend/profiles.h"

#include <string.h>

static const grdi_backend *const backends[] = {&grdi_backend_cpu, &grdi_backend_ref, &grdi_backend_null};

/* The CUDA plugin's planner for a GPU that one plans for, where the plugin is built; the tests' stand-in for it has the
 * same kernels. NULL: neither is there, or it is no GPU. */
static const grdi_backend *planner_of(const char *argument)
{
    static const char *const plugins[] = {"cuda", "cudasim"};
    const grdi_backend *planner = NULL;
    grdi_modes modes;
    for (size_t i = 0; i < sizeof plugins / sizeof *plugins && !planner && grdi_profile_asked(argument, &modes); i++)
        planner = grdi_plugin_find(plugins[i], strlen(plugins[i]))->planner;
    return planner;
}

const grdi_backend *grdi_backend_find(const char *device, const char **argument)
{
    size_t length = strcspn(device, ":");
    for (size_t i = 0; i < sizeof backends / sizeof *backends; i++) {
        const char *name = backends[i]->name;
        if (strlen(name) == length && strncmp(name, device, length) == 0) {
            *argument = device[length] ? device + length + 1 : "";
            const grdi_backend *planner = backends[i] == &grdi_backend_null ? planner_of(*argument) : NULL;
            return planner ? planner : backends[i];
        }
    }
    *argument = device[length] ? device + length + 1 : "";
    return grdi_plugin_find(device, length);
}
