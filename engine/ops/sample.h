/* sample.h - the samples of the op table made into types, attributes and values. Tests and benchmarks share it. */
#ifndef GRDI_SAMPLE_H
#define GRDI_SAMPLE_H

#include "graph/op.h"

#define GRDI_SAMPLE_INTS_MAX 1024

/* An input as a sample describes it: its type and where its values come from. */
typedef struct grdi_sample_input {
    grdi_type type;
    double low, high;
    const char *values;           /* the text behind '=', or NULL: random values in low..high */
    const grdi_op *from;          /* not NULL: output `from_output` of this op for the sample's inputs from_in[] */
    int32_t from_output, from_count, from_in[GRDI_INPUTS_MAX];
    const char *from_attrs;
} grdi_sample_input;

/* A sample that was read. `attrs` holds all of the op's attributes in the op's order and ends with name NULL; it points
 * into the struct, which must therefore stay where it is. */
typedef struct grdi_sample_case {
    int32_t input_count, attr_count;
    grdi_sample_input in[GRDI_INPUTS_MAX];
    grd_attr attrs[GRDI_ATTRS_MAX + 1];
    int32_t int_count;
    int64_t ints[GRDI_SAMPLE_INTS_MAX];
} grdi_sample_case;

/* Reads inputs and attributes of `sample`. With `in_double`, inputs written f32 become f64. An error (GRD_E_FORMAT)
 * names the op and the piece of text that could not be read. */
grd_status grdi_sample_read(const grdi_op *op, const grdi_sample *sample, bool in_double, grdi_sample_case *out,
                            grd_error *error);

/* One input's text, "f32[4,7] 0.1..3", and one list of attributes, "axis=1 keep=true". */
grd_status grdi_sample_read_input(const char *text, grdi_sample_input *input, grd_error *error);
grd_status grdi_sample_read_attrs(const grdi_op *op, const char *text, grdi_sample_case *out, grd_error *error);

/* The input's values, row-major, one per element: a function of `seed` alone, and such that f32 (or a narrower dtype of
 * the input) holds them exactly. Not for inputs that come from another op. */
void grdi_sample_fill(const grdi_sample_input *input, uint64_t seed, double *values);
/* The values of all inputs, values[i] having room for input i; input i is filled with seed + i. */
grd_status grdi_sample_fill_all(const grdi_sample_case *sample, uint64_t seed, double *const *values, grd_error *error);

/* Runs the op's reference on row-major doubles; outputs that are NULL are not asked for. */
void grdi_sample_reference(const grdi_reference *r);
/* Whether a reference left this element as it found it: outputs hold a NaN of this meaning before it runs. */
bool grdi_sample_unwritten(double value);

/* Samples of an op: how many there are, the bad and the large ones included. */
int32_t grdi_sample_count(const grdi_op *op);

/* Doubles to and from elements of a dtype. Storing rounds floats to nearest and drops the fraction of integers; bool is
 * value != 0. */
void grdi_sample_store(grd_dtype dtype, const double *values, int64_t count, void *data);
void grdi_sample_load(grd_dtype dtype, const void *data, int64_t count, double *values);

#endif
