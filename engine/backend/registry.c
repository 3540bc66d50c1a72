/* registry.c - the backends by name. */
#include "backend/plugin.h"

#include <string.h>

static const grdi_backend *const backends[] = {&grdi_backend_cpu, &grdi_backend_ref, &grdi_backend_null};

const grdi_backend *grdi_backend_find(const char *device, const char **argument)
{
    size_t length = strcspn(device, ":");
    for (size_t i = 0; i < sizeof backends / sizeof *backends; i++) {
        const char *name = backends[i]->name;
        if (strlen(name) == length && strncmp(name, device, length) == 0) {
            *argument = device[length] ? device + length + 1 : "";
            return backends[i];
        }
    }
    *argument = device[length] ? device + length + 1 : "";
    return grdi_plugin_find(device, length);
}
