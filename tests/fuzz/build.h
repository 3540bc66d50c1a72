/* build.h - one op out of an input's bytes: which one, on which inputs, with which attributes. */
#ifndef TESTS_FUZZ_BUILD_H
#define TESTS_FUZZ_BUILD_H

#include "fuzz.h"

#include "graph/op.h"

typedef struct fuzz_application {
    const grdi_op *op;
    int32_t input_count;
    grd_tensor in[GRDI_INPUTS_MAX + 1], out[GRD_OUTPUTS_MAX];
} fuzz_application;

/* Inputs and the op by name, in a graph of `model`; `sane`: small sizes, dtypes that exist, no wild attributes (what
 * one could run). The graph's error says what was wrong; it is checked to be there when there is no output. */
grd_graph *fuzz_build(fuzz_input *in, grd_model *model, bool sane, fuzz_application *made);

#endif
