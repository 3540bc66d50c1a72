/* winograd.h - convolutions with 3x3 filters in fewer products. */
#ifndef GRDI_WINOGRAD_H
#define GRDI_WINOGRAD_H

#include "backend/cpu/convolution.h"
#include "backend/cpu/kernels/isa.h"

#include <stddef.h>

/* Plain multiplications for each that is made here; 0 where this convolution cannot be done here: it takes two axes,
 * 3x3, stride 1, channels in whole blocks, and enough of them and of tiles. Tiles of 4x4 results are taken where they,
 * or the sums' operands, are in bf16, of 2x2 elsewhere. */
double GRDI_ISA_NAME(grdi_winograd_gain)(const grdi_convolution *c);

size_t GRDI_ISA_NAME(grdi_winograd_scratch)(const grdi_convolution *c, int32_t threads);

/* `scratch` is 64-byte aligned. Bits of the result do not depend on `threads`. */
void GRDI_ISA_NAME(grdi_winograd)(const grdi_convolution *c, const grdi_convolution_data *data, int32_t threads,
                                  void *scratch);

#endif
