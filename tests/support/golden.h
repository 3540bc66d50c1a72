/* golden.h - what another library has for an op, or for what is made of ops. */
#ifndef TEST_GOLDEN_H
#define TEST_GOLDEN_H

#include <gradus/graph.h>

#include <criterion/parameterized.h>

/* One case NAME of a file in tests/golden: the inputs NAME/in0.., the outputs NAME/out0.., the gradient NAME/g that
 * arrives at out0, NAME/gradI, and NAME/uI and NAME/secondI (see make_nn_goldens.py). Layers, in f32 alone, have
 * parameters NAME/p/PATH with gradients NAME/pg/PATH. */
typedef struct golden {
    const char *name, *op, *attrs;            /* an op of the table with its attributes, or else ... */
    grd_tensor (*call)(const grd_tensor *in); /* ... what makes out0 */
} golden;

/* Asserts that every value is within `tolerance` of the largest in its tensor (at least 1). */
void golden_check(const golden *golden, const char *file, const char *device, grd_dtype dtype, double tolerance);

/* Parameters of a test: pointers to 0 to count - 1, as int. */
struct criterion_test_params golden_indices(size_t count);

#endif
