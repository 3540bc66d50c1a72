/* check.h - what is asked of every op of the table, as functions that say what is wrong, so that the checks themselves
 * can be tested with ops that are wrong on purpose. Each returns true when all is well; else `message` (CHECK_TEXT
 * bytes) tells what is not. */
#ifndef TEST_CHECK_H
#define TEST_CHECK_H

#include "ops/sample.h"
#include "values.h"

#define CHECK_TEXT 2048

/* `got` against `want`, element by element: |got - want| <= tolerance * max(|want|, typical_size(want), size). NaN on
 * either side is wrong, infinities must be equal. */
bool check_close_sized(const double *got, const double *want, int64_t count, double tolerance, double size,
                       char *message);
/* The same with size 0. */
bool check_close(const double *got, const double *want, int64_t count, double tolerance, char *message);
/* The root mean square of the finite values. */
double typical_size(const double *values, int64_t count);

/* How many comparisons of each kind this process has made. A check passes where it does not apply, so only this tells
 * what was checked. */
typedef struct check_counts {
    long refused, accepted; /* samples that the shape rule should refuse, accept */
    long reference, view, compose;
    uint32_t outputs;       /* a bit for each output that a reference has written */
    long first, second;     /* derivatives against finite differences; of ops without a gradient, against zero */
    long kernel;            /* runs of a kernel, twice each, and of these: */
    long strided, added, in_place, partial; /* other layouts, outputs added to, over inputs, some outputs left out */
} check_counts;

extern check_counts checks_made;

/* The definition itself: names, flags and functions that belong together, enough samples. */
bool check_definition(const grdi_op *op, char *message);

/* For the samples below, `index` counts op->samples. A check that does not apply to a sample (bad, large, ...) passes.
 */

/* A bad sample is refused with its text and the op's name in the error; a good one gets outputs of sound types. */
bool check_sample(const grdi_op *op, int32_t index, char *message);
/* The reference: same bits twice, all of an output or nothing of it written, inputs left alone, the same with the other
 * outputs left out, no NaN; the first output finite but where the sample is marked no_gradient (others, such as the
 * logarithm of an empty sum, may be infinite); integers within their dtype. */
bool check_reference(const grdi_op *op, int32_t index, char *message);
/* The view of the input, row-major and in another layout, shows what the reference computes. */
bool check_view(const grdi_op *op, int32_t index, char *message);
/* compose gives what the reference gives, to 1e-9. */
bool check_compose(const grdi_op *op, int32_t index, char *message);

/* First derivatives (order 1) of a weighted sum of the outputs, or derivatives (order 2) of a weighted sum of those,
 * against central differences of the references in double, along random directions of every float input. Ops without a
 * gradient: all zeros. */
bool check_gradient(const grdi_op *op, int32_t index, int32_t order, char *message);
/* Whether that derivative can be built for all good samples; if not, `message` says why. */
bool has_gradient(const grdi_op *op, int32_t order, char *message);

/* A graph with the op's sample in it, on device "ref". */
typedef struct op_case {
    const grdi_op *op;
    const grdi_sample *sample;
    grd_engine *engine;
    grd_graph *graph;
    grdi_sample_case parsed;
    grd_tensor in[GRDI_INPUTS_MAX], out[GRDI_OUTPUTS_MAX];
    int32_t in_count, out_count;
    double *data[GRDI_INPUTS_MAX]; /* the inputs' values */
} op_case;

/* Reads the sample and builds inputs and node; in double, or in f32 where the op refuses f64. False: message; close it
 * in any case. */
bool op_case_open(op_case *c, const grdi_op *op, int32_t index, bool in_double, char *message);
void op_case_close(op_case *c);
/* Makes the inputs' values: done on opening, but for large samples. */
bool op_case_fill(op_case *c, char *message);
/* An evaluator with the inputs set. */
values *op_case_values(const op_case *c);

#endif
