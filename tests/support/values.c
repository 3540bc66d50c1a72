/* values.c - see values.h. */
#include "values.h"

#include <stdlib.h>

void *test_alloc(size_t count, size_t size_bytes)
{
    void *memory = calloc(count ? count : 1, size_bytes ? size_bytes : 1);
    if (!memory) abort();
    return memory;
}

values *values_new(const grd_graph *graph)
{
    values *v = grdi_interpreter_new(graph);
    if (!v) abort();
    return v;
}

void values_free(values *v)
{
    grdi_interpreter_free(v);
}

void values_set(values *v, grd_tensor input, const double *data)
{
    if (grdi_interpreter_set(v, input, data)) abort();
}

const double *values_get(const values *v, grd_tensor t)
{
    return grdi_interpreter_get(v, t);
}

bool values_run(values *v, const grd_tensor *wanted, int32_t count, char *message, size_t size)
{
    grd_error error = {GRD_OK, ""};
    grd_status status = grdi_interpreter_run(v, wanted, count, &error);
    if (status) snprintf(message, size, "%s", error.message);
    return !status;
}
