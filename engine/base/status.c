/* status.c - errors and the version. */
#include <gradus/base.h>

#include <stdarg.h>

#ifndef GRADUS_VERSION
#error "GRADUS_VERSION must be defined by the build"
#endif

const char *grd_status_name(grd_status status)
{
    switch (status) {
    case GRD_OK: return "ok";
    case GRD_E_ARGUMENT: return "argument";
    case GRD_E_SHAPE: return "shape";
    case GRD_E_DTYPE: return "dtype";
    case GRD_E_MEMORY: return "memory";
    case GRD_E_IO: return "io";
    case GRD_E_FORMAT: return "format";
    case GRD_E_UNSUPPORTED: return "unsupported";
    case GRD_E_STATE: return "state";
    case GRD_E_NUMERIC: return "numeric";
    case GRD_E_DEVICE: return "device";
    case GRD_E_STOPPED: return "stopped";
    case GRD_E_SPACE: return "space";
    }
    return "unknown";
}

grd_status grd_fail(grd_error *error, grd_status status, const char *format, ...)
{
    if (!error || error->status != GRD_OK)
        return status;
    va_list arguments;
    va_start(arguments, format);
    if (vsnprintf(error->message, sizeof error->message, format, arguments) < 0)
        error->message[0] = 0;
    va_end(arguments);
    /* A message is one line without terminal controls, whatever a path or a name out of a file holds. */
    for (char *c = error->message; *c; c++) {
        if ((unsigned char)*c < ' ' || *c == 0x7F)
            *c = ' ';
    }
    error->status = status;
    return status;
}

const char *grd_version(void) { return GRADUS_VERSION; }
