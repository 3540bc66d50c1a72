/* values.h - the engine's evaluation of graphs by the ops' references (run/interpret.h), for tests: it aborts when out
 * of memory, and errors are texts. What op definitions and gradients are checked with. */
#ifndef TEST_VALUES_H
#define TEST_VALUES_H

#include "run/interpret.h"

typedef grdi_interpreter values;

/* For graphs that may still grow. */
values *values_new(const grd_graph *graph);
void values_free(values *v);
/* The value of an input node; copied. */
void values_set(values *v, grd_tensor input, const double *data);
/* Computes what `wanted` need. False, with a message of at most `size` bytes, when an input has no value or an op no
 * reference. */
bool values_run(values *v, const grd_tensor *wanted, int32_t count, char *message, size_t size);
/* The value computed last; NULL if it was not needed. */
const double *values_get(const values *v, grd_tensor t);

/* malloc that cannot fail. */
void *test_alloc(size_t count, size_t size_bytes);

#endif
